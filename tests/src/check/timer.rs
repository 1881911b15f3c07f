//! Session timers as seen from outside: who is to refresh, whether it happens in time, and what follows if it does not
//! (RFC 4028 7.2, 9, 10).

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::Findings;
use crate::message::SipText;

/// RFC 4028 10: who is not refreshed says BYE this long before the end of the session, or a third of it if that is less.
const BEFORE_END: Duration = Duration::from_secs(32);

/// A refresh may wait for another change to be done with: its transaction, its ACK, glare.
const REFRESH_LATE: Duration = Duration::from_secs(12);

/// For the time a message takes through the engine.
const TOLERANCE: Duration = Duration::from_millis(100);

#[derive(Debug, Clone, Copy)]
struct Timer {
    since: Instant,
    interval: Duration,
    is_ours: bool,
    is_refreshing: bool,
}

/// The session timers of a run, by Call-ID.
#[derive(Debug, Default)]
pub struct Timers {
    sessions: BTreeMap<String, Timer>,
    ended: BTreeMap<String, Timer>,
    /// Requests that were answered: Call-ID, CSeq, and whether it was Tandem's.
    answered: BTreeSet<(String, u32, bool)>,
}

impl Timers {
    /// A SIP message reaches Tandem.
    pub fn arrive(&mut self, now: Instant, text: &SipText) {
        let (_, method) = text.cseq();
        match (text.method(), text.status) {
            // An answer to our refresh: its UAC is Tandem.
            ("", 200..300) if matches!(method, "INVITE" | "UPDATE") => self.set(now, text, "uac"),
            ("BYE", _) => drop(self.sessions.remove(text.call_id())),
            _ => {}
        }
    }

    /// A SIP message leaves Tandem.
    pub fn depart(&mut self, now: Instant, text: &SipText, findings: &mut Findings) {
        let (_, method) = text.cseq();
        match (text.method(), text.status) {
            ("", 200..300) if matches!(method, "INVITE" | "UPDATE") => {
                self.check_answer(now, text, findings);
                self.set(now, text, "uas");
            }
            ("INVITE" | "UPDATE", _) => {
                if let Some(timer) = self.sessions.get_mut(text.call_id()) {
                    timer.is_refreshing = true;
                }
            }
            ("BYE", _) => {
                if let Some(timer) = self.sessions.remove(text.call_id()) {
                    self.ended.insert(text.call_id().to_owned(), timer);
                }
            }
            _ => {}
        }
    }

    /// The engine says that the session was not refreshed, and has said BYE.
    pub fn expired(&self, now: Instant, call_id: &str, findings: &mut Findings) {
        let Some(Timer { since, interval, .. }) = self.ended.get(call_id).copied() else {
            findings.note("session-timer", now, call_id, "expired without a session timer");
            return;
        };
        if now + TOLERANCE < since + interval - BEFORE_END.min(interval / 3) {
            let detail = format!("expired {:?} into {interval:?}", now.saturating_duration_since(since));
            findings.note("session-timer", now, call_id, detail);
        }
    }

    /// Looks for sessions that outlived their time, or whose refresh is due and does not come.
    pub fn sweep(&mut self, now: Instant, findings: &mut Findings) {
        for (call_id, timer) in &mut self.sessions {
            let age = now.saturating_duration_since(timer.since);
            let is_late = timer.is_ours && !timer.is_refreshing && age > timer.interval / 2 + REFRESH_LATE;
            if is_late || age > timer.interval + TOLERANCE {
                let who = if timer.is_ours { "Tandem" } else { "the caller" };
                let detail = format!("{age:?} of {:?} without a refresh by {who}", timer.interval);
                findings.note("session-timer", now, call_id, detail);
                timer.since = now;
            }
        }
    }

    fn set(&mut self, now: Instant, text: &SipText, ours: &str) {
        let by = (text.cseq().0, ours == "uac");
        // An answer that is said again begins no new interval, nor takes back what a later one agreed.
        if !self.answered.insert((text.call_id().to_owned(), by.0, by.1)) {
            return;
        }
        let Some((interval, refresher)) = session_expires(text) else {
            self.sessions.remove(text.call_id());
            return;
        };
        let timer = Timer { since: now, interval, is_ours: refresher == ours, is_refreshing: false };
        self.sessions.insert(text.call_id().to_owned(), timer);
    }

    fn check_answer(&self, now: Instant, text: &SipText, findings: &mut Findings) {
        let Some((_, refresher)) = session_expires(text) else { return };
        // RFC 4028 9: "If the refresher parameter is set to 'uac', the UAS MUST place a Require header field".
        let requires = text.values("require").contains(&"timer");
        if refresher == "uac" && !requires {
            findings.note("session-timer", now, text.call_id(), "refresher=uac without Require: timer");
        }
        if refresher.is_empty() {
            findings.note("session-timer", now, text.call_id(), "an answer that names no refresher");
        }
    }
}

fn session_expires(text: &SipText) -> Option<(Duration, &str)> {
    let value = text.header("session-expires")?;
    let mut parts = value.split(';');
    let seconds = parts.next()?.trim().parse().ok()?;
    let refresher = parts.find_map(|part| part.trim().strip_prefix("refresher=")).unwrap_or("");
    Some((Duration::from_secs(seconds), refresher.trim()))
}
