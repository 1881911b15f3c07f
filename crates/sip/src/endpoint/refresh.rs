//! Session timers run: refreshing in time, and giving up in time. RFC 4028 10.

use std::time::Instant;

use super::config::Refresher;
use super::event::{EndedBy, OfferKind};
use super::{Endpoint, Reason, TimerKey};
use crate::dialog::invite::{Farewell, Purpose, Stage};
use crate::ids::SessionId;

impl Endpoint {
    /// Starts the session timer anew from what is agreed; stops it if nothing is.
    pub(super) fn arm_session_timer(&mut self, now: Instant, id: SessionId) {
        let key = TimerKey::Session(id);
        self.timers.disarm(key, Reason::Refresh);
        self.timers.disarm(key, Reason::Expire);
        let Some(session) = self.sessions.get(&id) else { return };
        let (Some(agreed), Stage::Confirmed | Stage::Acknowledging(_)) = (session.timer, &session.stage)
        else {
            return;
        };
        if agreed.refresher == Refresher::Us {
            self.timers.arm(key, Reason::Refresh, now + agreed.refresh_after());
        }
        self.timers.arm(key, Reason::Expire, now + agreed.expires_after());
    }

    /// Half the interval has passed. RFC 4028 7.4: "If a UAC knows that its peer supports the
    /// UPDATE method, it is RECOMMENDED that UPDATE be used instead of a re-INVITE." Else a re-INVITE with the session description as it was.
    pub(super) fn refresh_due(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let (kind, sdp) = if session.peer_updates {
            (OfferKind::Update, None)
        } else {
            (OfferKind::ReInvite, session.local_sdp.clone())
        };
        if self.start_change(now, id, kind, sdp, Purpose::Refresh).is_err() {
            // Another change is under way, and refreshes the session as well if it succeeds.
            let again = now + self.config.timing.t2;
            self.timers.arm(TimerKey::Session(id), Reason::Refresh, again);
        }
    }

    /// Nobody refreshed the session in time.
    pub(super) fn session_expired(&mut self, now: Instant, id: SessionId) {
        self.end(now, id, EndedBy::SessionExpired, None, Farewell::Bye(None));
    }
}
