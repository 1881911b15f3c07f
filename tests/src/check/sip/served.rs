//! One server transaction as seen from outside: its To tag, its final response and the repeats of it
//! (RFC 3261 17.2, RFC 6026).

use std::time::Instant;

use bytes::Bytes;

use super::Path;
use crate::check::Findings;
use crate::check::retransmission::Schedule;
use crate::message::SipText;

#[derive(Debug)]
pub(super) struct Served {
    pub(super) path: Path,
    pub(super) call_id: String,
    pub(super) last_arrival: Instant,
    pub(super) to_tag: String,
    pub(super) last_final: Option<(u16, Bytes)>,
    pub(super) schedule: Option<Schedule>,
    pub(super) acked: bool,
    pub(super) request: SipText,
}

impl Served {
    pub(super) fn check_tag(&mut self, now: Instant, text: &SipText, findings: &mut Findings) {
        if text.status == 100 {
            return;
        }
        let tag = text.to_tag();
        if text.status == 481 && text.cseq().1 != "INVITE" {
            return;
        }
        if tag.is_empty() {
            findings.note("to-tag", now, &self.call_id, format!("{} without a To tag", text.status));
        } else if self.to_tag.is_empty() {
            self.to_tag = tag.to_owned();
        } else if self.to_tag != tag {
            findings.note("to-tag", now, &self.call_id, format!("{tag} after {}", self.to_tag));
        }
    }

    pub(super) fn check_final(
        &mut self,
        now: Instant,
        text: &SipText,
        bytes: &Bytes,
        is_swapped: bool,
        findings: &mut Findings,
    ) {
        let (_, method) = text.cseq();
        let Some((status, before)) = &self.last_final else {
            if text.status >= 300 && method == "INVITE" {
                self.schedule = Some(Schedule::new(now));
            }
            return;
        };
        // Where INVITE and CANCEL overtake each other, the CANCEL is unknown first and known when it comes again.
        if method == "CANCEL" && *status == 481 {
            return;
        }
        // A refusal within a dialog is kept nowhere; once the dialog is gone there is none to refuse in.
        if !self.request.to_tag().is_empty() && *status >= 400 && text.status == 481 {
            return;
        }
        // A challenge is kept nowhere; if the number is gone when the request comes again, that is what is said.
        if is_swapped && matches!(status, 401 | 407) {
            return;
        }
        if text.status != *status {
            findings.note("two-finals", now, &self.call_id, format!("{} after {status}", text.status));
            return;
        }
        // A stateless challenge may carry a new nonce; everything else comes byte for byte.
        if bytes != before && !matches!(status, 401 | 407) {
            findings.note(
                "repeat-differs",
                now,
                &self.call_id,
                format!("{status} {method} again with other bytes"),
            );
        }
        if self.last_arrival == now || (200..300).contains(status) {
            // Timer G may fire in the very moment in which the request comes again.
            self.schedule.as_mut().map(|schedule| schedule.repeated(now));
            return;
        }
        // RFC 3261 17.2.1: Timer G, on unreliable transports, until the ACK.
        let is_due = self.schedule.as_mut().is_some_and(|schedule| schedule.repeated(now));
        if method != "INVITE" || self.path.reliable || self.acked || !is_due {
            findings.note(
                "retransmission-timing",
                now,
                &self.call_id,
                format!("{status} {method} again unasked"),
            );
        }
    }
}
