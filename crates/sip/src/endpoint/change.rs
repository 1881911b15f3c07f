//! Changes of a session: re-INVITE and UPDATE, the peer's and ours, and what happens when they meet.
//!
//! What an offer means is the engine's; this file keeps RFC 3264's rule of one at a time.
//! RFC 3261 14, RFC 3311, RFC 6141.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::session_description;
use super::compose;
use super::config::Refresher;
use super::event::{EndedBy, Event, Misuse, OfferKind, Refusal};
use super::incoming::{NewSuccess, finish, with_timer};
use super::transactions::{Errand, Sent};
use super::{Endpoint, Reason, TimerKey};
use crate::dialog::invite::{Farewell, IncomingOffer, OutgoingOffer, Purpose, Retries, Session, Side, Stage};
use crate::dialog::refresh::Wishes;
use crate::ids::{SessionId, TransactionId};
use crate::message::{HeaderName, Method, Request, Response};

/// Most 2xx of one session that await their ACK at once.
const MAX_SUCCESSES: usize = 2;

/// How often a change that met the peer's is tried again.
const MAX_GLARES: u8 = 3;

impl Endpoint {
    /// Answers the peer's offer, or makes ours where it asked for one.
    ///
    /// # Errors
    /// [`Misuse`], when none is due: it may have been withdrawn.
    pub fn answer_offer(&mut self, now: Instant, session: SessionId, sdp: Bytes) -> Result<(), Misuse> {
        let known = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        let id = known.id;
        let offer = known.incoming.take().ok_or(Misuse::WrongState)?;
        known.dialog.refresh_target(offer.contact.as_deref());
        known.local_sdp = Some(sdp.clone());
        if offer.kind != OfferKind::Prack {
            known.timer = offer.timer;
        }
        let wishes = self.servers.get(&offer.transaction).map(|entry| Wishes::of(entry.request.fields()));
        let builder = self.within(id, offer.transaction, 200).ok_or(Misuse::WrongState)?;
        let builder = match &wishes {
            Some(wishes) => with_timer(builder, offer.timer.as_ref(), wishes),
            None => builder,
        };
        let response = finish(builder, Some(&sdp));
        match offer.kind {
            OfferKind::ReInvite => {
                let transaction = offer.transaction;
                let holds_offer = !offer.offered;
                let new = NewSuccess { transaction, response, holds_offer, is_initial: false };
                self.send_success(now, id, new);
            }
            OfferKind::Update | OfferKind::Prack => self.reply(now, offer.transaction, 200, response),
        }
        if offer.kind != OfferKind::Prack {
            self.arm_session_timer(now, id);
        }
        Ok(())
    }

    /// Refuses the peer's offer: 488 where the offer cannot be met, 491 or 500 where it comes at a bad
    /// time. The session stands as it was (RFC 3261 14.2).
    ///
    /// # Errors
    /// [`Misuse`], when no answer is due.
    pub fn refuse_offer(&mut self, now: Instant, session: SessionId, status: u16) -> Result<(), Misuse> {
        let known = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        let offer = known.incoming.take().ok_or(Misuse::WrongState)?;
        self.refuse_within(now, session, offer.transaction, &Refusal::new(status));
        Ok(())
    }

    /// Offers a change of the session by re-INVITE. The outcome is [`Event::OfferAnswered`] or
    /// [`Event::OfferRefused`].
    ///
    /// # Errors
    /// [`Misuse::WrongState`], while another change is under way, or before the session stands.
    pub fn reinvite(&mut self, now: Instant, session: SessionId, sdp: Bytes) -> Result<(), Misuse> {
        self.start_change(now, session, OfferKind::ReInvite, Some(sdp), Purpose::Change)
    }

    /// Offers a change of the session by UPDATE; without a session description it only refreshes. The
    /// outcome is as with [`Self::reinvite`].
    ///
    /// # Errors
    /// As [`Self::reinvite`].
    pub fn update(&mut self, now: Instant, session: SessionId, sdp: Option<Bytes>) -> Result<(), Misuse> {
        self.start_change(now, session, OfferKind::Update, sdp, Purpose::Change)
    }

    /// Sends an INFO. No event tells its outcome but the end of the session, should the peer not know it.
    ///
    /// # Errors
    /// [`Misuse`], unless the session stands.
    pub fn info(
        &mut self,
        now: Instant,
        session: SessionId,
        content_type: &str,
        body: &Bytes,
    ) -> Result<(), Misuse> {
        let known = self.sessions.get(&session).ok_or(Misuse::NoSession)?;
        if !matches!(known.stage, Stage::Confirmed) {
            return Err(Misuse::WrongState);
        }
        self.send_within(now, session, Method::Info, Errand::Info, Some((content_type, body)), |it| it)?;
        Ok(())
    }

    /// The peer's re-INVITE. RFC 3261 14.2: "A UAS that receives a second INVITE before it sends the final
    /// response to a first INVITE with a lower CSeq sequence number on the same dialog MUST return a 500
    /// (Server Internal Error) response to the second INVITE and MUST include a Retry-After header field
    /// with a randomly chosen value of between 0 and 10 seconds." And: "A UAS that receives an INVITE on a
    /// dialog while an INVITE it had sent on that dialog is in progress MUST return a 491 (Request Pending)
    /// response to the received INVITE."
    pub(super) fn reinvite_received(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
    ) {
        let Some(session) = self.sessions.get(&id) else { return };
        let clash = match session.clash() {
            _ if matches!(session.stage, Stage::Inviting(_)) => Some(Clash::Overlap),
            _ if session.successes.len() >= MAX_SUCCESSES => Some(Clash::Overlap),
            clash => clash,
        };
        if let Some(clash) = clash {
            return self.refuse_clash(now, id, transaction, clash);
        }
        self.take_offer(id, transaction, OfferKind::ReInvite, request);
    }

    /// The peer's UPDATE. RFC 3311 5.2: "If an UPDATE is received that contains an offer, and the UAS has
    /// generated an offer (in an UPDATE, PRACK or INVITE) to which it has not yet received an answer, the UAS
    /// MUST reject the UPDATE with a 491 response. Similarly, if an UPDATE is received that contains an offer,
    /// and the UAS has received an offer (in an UPDATE, PRACK, or INVITE) to which it has not yet generated an
    /// answer, the UAS MUST reject the UPDATE with a 500 response, and MUST include a Retry-After header field
    /// with a randomly chosen value between 0 and 10 seconds."
    pub(super) fn update_received(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session_description(request.fields()).is_some() {
            let clash = match &session.stage {
                Stage::Inviting(inviting) if !inviting.described && inviting.offered => Some(Clash::Overlap),
                Stage::Inviting(inviting) if !inviting.described => Some(Clash::Glare),
                _ => session.clash(),
            };
            return match clash {
                Some(clash) => self.refuse_clash(now, id, transaction, clash),
                None => self.take_offer(id, transaction, OfferKind::Update, request),
            };
        }
        // "A UAS that receives an UPDATE before it has generated a final response to a previous UPDATE
        // on the same dialog MUST return a 500 response to the new UPDATE".
        if session.incoming.as_ref().is_some_and(|offer| offer.kind == OfferKind::Update) {
            return self.refuse_clash(now, id, transaction, Clash::Overlap);
        }
        let config = session.policy.session_timer.unwrap_or(self.config.session_timer);
        let wishes = Wishes::of(request.fields());
        let agreed = wishes.agree(&config).ok().flatten();
        session.dialog.refresh_target(request.contact().map(|contact| contact.uri().as_bytes()));
        session.timer = agreed;
        let Some(builder) = self.within(id, transaction, 200) else { return };
        let response = with_timer(builder, agreed.as_ref(), &wishes).finish();
        self.reply(now, transaction, 200, response);
        self.arm_session_timer(now, id);
        self.events.push_back(Event::Refreshed { session: id });
    }

    fn take_offer(&mut self, id: SessionId, transaction: TransactionId, kind: OfferKind, request: &Request) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let config = session.policy.session_timer.unwrap_or(self.config.session_timer);
        let offer = session_description(request.fields());
        session.incoming = Some(IncomingOffer {
            transaction,
            kind,
            offered: offer.is_some(),
            contact: request.contact().map(|contact| Bytes::copy_from_slice(contact.uri().as_bytes())),
            timer: Wishes::of(request.fields()).agree(&config).ok().flatten(),
        });
        if request.header(HeaderName::Allow).is_some() {
            session.peer_updates = request.lists(HeaderName::Allow, "UPDATE");
        }
        self.events.push_back(Event::Offer { session: id, kind, offer });
    }

    fn refuse_clash(&mut self, now: Instant, id: SessionId, transaction: TransactionId, clash: Clash) {
        self.counters.glare += 1;
        let refusal = match clash {
            Clash::Glare => Refusal::new(491),
            Clash::Overlap => Refusal::new(500).header("Retry-After", self.ids.below(11).to_string()),
        };
        self.refuse_within(now, id, transaction, &refusal);
    }

    /// Starts a change or a refresh of ours.
    pub(super) fn start_change(
        &mut self,
        now: Instant,
        id: SessionId,
        kind: OfferKind,
        sdp: Option<Bytes>,
        purpose: Purpose,
    ) -> Result<(), Misuse> {
        let session = self.sessions.get_mut(&id).ok_or(Misuse::NoSession)?;
        // RFC 3261 14.1: "a UAC MUST NOT initiate a new INVITE transaction within a dialog while another
        // INVITE transaction is in progress in either direction."
        let is_free = matches!(session.stage, Stage::Confirmed)
            && session.incoming.is_none()
            && session.outgoing.is_none()
            && session.successes.is_empty();
        if !is_free {
            return Err(Misuse::WrongState);
        }
        session.outgoing = Some(OutgoingOffer {
            transaction: None,
            kind,
            sdp,
            purpose,
            retries: Retries::default(),
            minimum: None,
        });
        self.send_change(now, id)
    }

    fn send_change(&mut self, now: Instant, id: SessionId) -> Result<(), Misuse> {
        let Some(session) = self.sessions.get(&id) else { return Err(Misuse::NoSession) };
        let Some(outgoing) = &session.outgoing else { return Err(Misuse::WrongState) };
        let (kind, sdp, minimum) = (outgoing.kind, outgoing.sdp.clone(), outgoing.minimum);
        let config = session.policy.session_timer.unwrap_or(self.config.session_timer);
        // RFC 4028 7.4: a refresh names the interval and the refresher as they are.
        let interval = session.timer.map_or(config.interval, |agreed| agreed.interval);
        let interval = interval.max(minimum.unwrap_or_default());
        let refresher = session.timer.map(|agreed| agreed.refresher);
        let (method, errand) = match kind {
            OfferKind::ReInvite => (Method::Invite, Errand::ReInvite),
            OfferKind::Update | OfferKind::Prack => (Method::Update, Errand::Update),
        };
        let body = sdp.as_ref().map(|sdp| (compose::SDP, sdp));
        let sent = self.send_within(now, id, method, errand, body, |builder| {
            let role = match refresher {
                Some(Refresher::Us) => ";refresher=uac",
                Some(Refresher::Peer) => ";refresher=uas",
                None => "",
            };
            let builder = builder.header(HeaderName::SessionExpires, format!("{}{role}", interval.as_secs()));
            match minimum {
                Some(minimum) => builder.header(HeaderName::MinSe, minimum.as_secs().to_string()),
                None => builder,
            }
        });
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Misuse::NoSession) };
        match sent {
            Ok(transaction) => {
                if let Some(outgoing) = &mut session.outgoing {
                    outgoing.transaction = Some(transaction);
                }
                if kind == OfferKind::ReInvite {
                    // After a 100 no timer of the transaction bounds it any more.
                    let patience = self.config.limits.ringing;
                    self.timers.arm(TimerKey::Session(id), Reason::ChangeWait, now + patience);
                }
                Ok(())
            }
            Err(misuse) => {
                session.outgoing = None;
                Err(misuse)
            }
        }
    }

    /// A response to our re-INVITE or UPDATE.
    pub(super) fn change_response(
        &mut self,
        now: Instant,
        id: SessionId,
        errand: Errand,
        sent: &Sent,
        response: &Response,
    ) {
        let status = response.status();
        if status < 200 {
            return;
        }
        let is_invite = errand == Errand::ReInvite;
        if is_invite && status < 300 && !self.repeat_ack(id, response) {
            // RFC 3261 13.2.2.4: each 2xx is acknowledged, also after the session has ended.
            self.reinvite_accepted(id, &sent.request, response);
        }
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if session.outgoing.is_none() || matches!(session.stage, Stage::Over) {
            return;
        }
        self.timers.disarm(TimerKey::Session(id), Reason::ChangeWait);
        match status {
            200..300 => self.change_accepted(now, id, response),
            401 | 407 | 422 | 405 | 491 | 501 => self.change_again(now, id, errand, sent, response),
            // RFC 3261 12.2.1.2, RFC 4028 10.
            408 | 481 => self.end(now, id, EndedBy::DialogLost, None, Farewell::Bye(None)),
            _ => self.change_refused(id, status),
        }
    }

    fn reinvite_accepted(&mut self, id: SessionId, sent: &Request, response: &Response) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        session.dialog.refresh_target(response.contact().map(|contact| contact.uri().as_bytes()));
        let dialog = session.dialog.clone();
        self.send_ack(id, &dialog, sent, None);
    }

    fn change_accepted(&mut self, now: Instant, id: SessionId, response: &Response) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(outgoing) = session.outgoing.take() else { return };
        if outgoing.kind == OfferKind::Update {
            session.dialog.refresh_target(response.contact().map(|contact| contact.uri().as_bytes()));
        }
        if outgoing.sdp.is_some() {
            session.local_sdp = outgoing.sdp;
        }
        session.timer = Wishes::of(response.fields()).accepted();
        if let Some(answerer) = &mut session.answerer {
            answerer.accepted();
        }
        self.arm_session_timer(now, id);
        self.events.push_back(match outgoing.purpose {
            Purpose::Change => {
                Event::OfferAnswered { session: id, body: session_description(response.fields()) }
            }
            Purpose::Refresh => Event::Refreshed { session: id },
        });
    }

    /// What can be tried again is, a bounded number of times.
    fn change_again(
        &mut self,
        now: Instant,
        id: SessionId,
        errand: Errand,
        sent: &Sent,
        response: &Response,
    ) {
        let status = response.status();
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let side = session.side;
        let Some(outgoing) = &mut session.outgoing else { return };
        let retries = &mut outgoing.retries;
        match status {
            401 | 407 => match self.retry_within(now, id, errand, sent, response) {
                Some(transaction) => self.set_change(id, transaction),
                None => self.change_refused(id, status),
            },
            422 if retries.intervals == 0 => {
                retries.intervals = 1;
                outgoing.minimum = Some(Wishes::of(response.fields()).minimum());
                self.send_or_refuse(now, id, status);
            }
            491 if retries.glares < MAX_GLARES => {
                // RFC 3261 14.1: "If the UAC is the owner of the Call-ID of the dialog ID (meaning it
                // generated the value), T has a randomly chosen value between 2.1 and 4 seconds in units of 10
                // ms. [...] If the UAC is not the owner of the Call-ID of the dialog ID, T has a randomly chosen
                // value of between 0 and 2 seconds in units of 10 ms."
                retries.glares += 1;
                outgoing.transaction = None;
                let tens = match side {
                    Side::Caller => 210 + self.ids.below(191),
                    Side::Callee => 1 + self.ids.below(200),
                };
                let after = Duration::from_millis(u64::from(tens) * 10);
                self.timers.arm(TimerKey::Session(id), Reason::Retry, now + after);
            }
            405 | 501 if outgoing.purpose == Purpose::Refresh && outgoing.kind == OfferKind::Update => {
                // The peer listed UPDATE, and something between does not know it.
                outgoing.kind = OfferKind::ReInvite;
                outgoing.sdp.clone_from(&session.local_sdp);
                session.peer_updates = false;
                self.send_or_refuse(now, id, status);
            }
            _ => self.change_refused(id, status),
        }
    }

    fn set_change(&mut self, id: SessionId, transaction: TransactionId) {
        if let Some(outgoing) = self.sessions.get_mut(&id).and_then(|session| session.outgoing.as_mut()) {
            outgoing.transaction = Some(transaction);
        }
    }

    fn send_or_refuse(&mut self, now: Instant, id: SessionId, status: u16) {
        if self.send_change(now, id).is_err() {
            self.change_refused(id, status);
        }
    }

    /// RFC 3261 14.1: "If a UA receives a non-2xx final response to a re-INVITE, the session parameters MUST
    /// remain unchanged, as if no re-INVITE had been issued."
    fn change_refused(&mut self, id: SessionId, status: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let purpose = session.outgoing.take().map(|outgoing| outgoing.purpose);
        if purpose == Some(Purpose::Change) {
            self.events.push_back(Event::OfferRefused { session: id, status });
        }
    }

    /// Our re-INVITE rang too long, or its session has ended over it.
    pub(super) fn abandon_change(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let pending = session.outgoing.as_ref().and_then(|outgoing| outgoing.transaction);
        let abandoned = session.abandoned.take().or(pending);
        self.change_refused(id, 408);
        if let Some(transaction) = abandoned {
            self.abandon_client(now, transaction);
        }
    }

    /// The time after a 491 is over.
    pub(super) fn retry_change(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let is_free = session.incoming.is_none() && session.successes.is_empty();
        if !is_free {
            let again = now + self.config.timing.t1;
            self.timers.arm(TimerKey::Session(id), Reason::Retry, again);
        } else if session.outgoing.is_some() {
            self.send_or_refuse(now, id, 491);
        }
    }
}

/// Why the peer's offer cannot be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Clash {
    /// Ours is under way: 491.
    Glare,
    /// Another of the peer's is: 500 with Retry-After.
    Overlap,
}

impl Session {
    /// What stands against taking an offer of the peer's.
    fn clash(&self) -> Option<Clash> {
        let is_ours_under_way = self.outgoing.as_ref().is_some_and(|outgoing| outgoing.transaction.is_some());
        let awaits_answer = self.successes.iter().any(|success| success.holds_offer);
        let awaits_ours = matches!(self.stage, Stage::Calling(_) | Stage::Acknowledging(_));
        if self.incoming.is_some() {
            Some(Clash::Overlap)
        } else if is_ours_under_way || awaits_answer || awaits_ours {
            Some(Clash::Glare)
        } else {
            None
        }
    }
}
