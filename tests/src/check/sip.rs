//! Transactions and dialogs as seen from outside (RFC 3261, 3264, 3581, 6026).

mod answer;
mod dialled;
mod dialog;
mod served;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

pub use dialog::Dialog;

use super::Findings;
use super::retransmission::{GIVE_UP, Schedule};
use crate::carrier::sdp;
use crate::message::SipText;
use answer::check_answer;
use dialled::Dialled;
use served::Served;

/// The way a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Path {
    /// A stream.
    pub reliable: bool,
    /// The other end.
    pub remote: SocketAddr,
    /// Whether the other end's signalling is to be obeyed in this call.
    pub trusted: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct ServerKey {
    branch: String,
    sent_by: String,
    method: String,
}

#[derive(Debug)]
struct Sent {
    bytes: Bytes,
    reliable: bool,
    schedule: Schedule,
    /// Its final response came.
    done_at: Option<Instant>,
    /// The first provisional response came.
    heard_at: Option<Instant>,
}

/// Call-ID, caller's tag, Tandem's tag.
type DialogKey = (String, String, String);

/// All signalling of a run.
#[derive(Debug, Default)]
pub struct SipChecks {
    served: BTreeMap<ServerKey, Served>,
    sent: BTreeMap<(String, String), Sent>,
    dialogs: BTreeMap<DialogKey, Dialog>,
    /// By Call-ID and Tandem's tag.
    dialled: BTreeMap<(String, String), Dialled>,
    /// Numbers went in the course of the run.
    pub is_table_swapped: bool,
    /// Messages seen, both ways.
    pub messages: u64,
}

impl SipChecks {
    /// The dialog of a Call-ID, if any: of a call that came the one answered last, of one that Tandem placed the first.
    pub fn dialog_of(&self, call_id: &str) -> Option<&Dialog> {
        let start = (call_id.to_owned(), String::new(), String::new());
        let all =
            self.dialogs.range(start..).take_while(|(key, _)| key.0 == call_id).map(|(_, dialog)| dialog);
        let placed = all.clone().filter(|dialog| dialog.is_placed).min_by_key(|dialog| dialog.answered_at);
        placed.or_else(|| all.last())
    }

    /// A whole message reached the engine.
    pub fn arrive(&mut self, now: Instant, path: Path, text: &SipText) {
        self.messages += 1;
        match text.method() {
            "" => self.arrive_response(now, text),
            "ACK" => self.arrive_ack(now, text),
            _ => self.arrive_request(now, path, text),
        }
    }

    /// A message left the engine.
    pub fn depart(
        &mut self,
        now: Instant,
        reliable: bool,
        remote: Option<SocketAddr>,
        bytes: &Bytes,
        findings: &mut Findings,
    ) {
        if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) {
            // A keep-alive (RFC 5626 3.5.1).
            return;
        }
        self.messages += 1;
        let Some(text) = SipText::parse(bytes) else {
            findings.note("malformed", now, "", String::from_utf8_lossy(bytes));
            return;
        };
        if text.method().is_empty() {
            self.depart_response(now, reliable, remote, bytes, &text, findings);
        } else {
            self.depart_request(now, reliable, remote, bytes, &text, findings);
        }
    }

    /// The run is over and everything had its time.
    pub fn finish(&self, now: Instant, findings: &mut Findings) {
        for ((call_id, ..), dialog) in &self.dialogs {
            for (cseq, answered) in &dialog.invites {
                let deadline = answered.schedule.until;
                let was_closed_in_time =
                    dialog.ended_at.is_some_and(|at| at <= deadline + Duration::from_millis(100));
                if answered.acked_at.is_none()
                    && !was_closed_in_time
                    && now > deadline + Duration::from_millis(100)
                {
                    findings.note(
                        "unacked-without-bye",
                        now,
                        call_id,
                        format!("INVITE {cseq} was never acknowledged"),
                    );
                }
            }
            for (cseq, (_, owed)) in &dialog.acks_owed {
                if *owed > 0 {
                    findings.note(
                        "ack-missing",
                        now,
                        call_id,
                        format!("INVITE {cseq}: {owed} of the 2xx have no ACK"),
                    );
                }
            }
            if dialog.is_placed && dialog.ended_at.is_none() {
                findings.note("stuck", now, call_id, "a dialog that a callee began was never ended");
            }
        }
        for ((call_id, _), dialled) in self.dialled.iter().filter(|(_, dialled)| dialled.owed() > 0) {
            let detail = format!("{} refusals have no ACK", dialled.owed());
            findings.note("ack-missing", now, call_id, detail);
        }
    }

    // What arrives.

    fn arrive_request(&mut self, now: Instant, path: Path, text: &SipText) {
        let key = server_key(text);
        let served = self.served.entry(key).or_insert_with(|| Served {
            path,
            call_id: text.call_id().to_owned(),
            last_arrival: now,
            to_tag: text.to_tag().to_owned(),
            last_final: None,
            schedule: None,
            acked: false,
            request: text.clone(),
        });
        served.last_arrival = now;
        let dialog_key = (text.call_id().to_owned(), text.from_tag().to_owned(), text.to_tag().to_owned());
        if let (true, Some(dialog)) = (path.trusted, self.dialogs.get_mut(&dialog_key)) {
            // The product may turn to the address a moment before its answer is out.
            dialog.learn_caller(now, &sdp::sections(&text.body));
        }
    }

    fn arrive_ack(&mut self, now: Instant, text: &SipText) {
        let (cseq, _) = text.cseq();
        let mut key = server_key(text);
        key.method = "INVITE".into();
        if let Some(served) = self.served.get_mut(&key) {
            served.acked = true;
        }
        let dialog_key = (text.call_id().to_owned(), text.from_tag().to_owned(), text.to_tag().to_owned());
        if let Some(dialog) = self.dialogs.get_mut(&dialog_key)
            && let Some(answered) = dialog.invites.get_mut(&cseq)
        {
            answered.acked_at.get_or_insert(now);
            dialog.acked_at.get_or_insert(now);
            let answer = sdp::sections(&text.body);
            // RFC 3264 6.1: an answer may number its formats its own way, and is to be sent them so.
            dialog.formats.extend(answer.iter().flat_map(|section| section.formats.iter().cloned()));
            dialog.learn_caller(now, &answer);
        }
    }

    fn arrive_response(&mut self, now: Instant, text: &SipText) {
        let (cseq, method) = text.cseq();
        let key = (text.transaction().0.to_owned(), method.to_owned());
        if let Some(sent) = self.sent.get_mut(&key) {
            if text.status >= 200 {
                sent.done_at.get_or_insert(now);
            } else if sent.heard_at.is_none() {
                sent.heard_at = Some(now);
                sent.schedule.slow_down();
            }
        }
        let dialog_key = (text.call_id().to_owned(), text.to_tag().to_owned(), text.from_tag().to_owned());
        if method == "INVITE"
            && let Some(dialled) = self.dialled.get_mut(&(dialog_key.0.clone(), dialog_key.2.clone()))
            && let Some((cseq, offer)) = dialled.arrive(now, text)
        {
            self.dialogs
                .entry(dialog_key.clone())
                .or_insert_with(|| Dialog::answered(now, text, cseq, offer));
        }
        if method == "INVITE"
            && (200..300).contains(&text.status)
            && let Some(dialog) = self.dialogs.get_mut(&dialog_key)
        {
            let owed = dialog.acks_owed.entry(cseq).or_insert((now, 0));
            owed.1 += 1;
            if let Some(contact) =
                text.contact().filter(|contact| !dialog.targets.iter().any(|one| one == contact))
            {
                dialog.targets.push(contact.to_owned());
            }
        }
    }

    // What leaves: responses.

    fn depart_response(
        &mut self,
        now: Instant,
        reliable: bool,
        remote: Option<SocketAddr>,
        bytes: &Bytes,
        text: &SipText,
        findings: &mut Findings,
    ) {
        let (_, method) = text.cseq();
        let call_id = text.call_id().to_owned();
        if method == "ACK" {
            findings.note("ack-answered", now, &call_id, format!("{} to an ACK", text.status));
            return;
        }
        let Some(served) = self.served.get_mut(&server_key(text)) else {
            findings.note("no-such-request", now, &call_id, format!("{} {method}", text.status));
            return;
        };
        // RFC 3261 18.2.2: once its connection is gone a response goes to the sent-by port of the same host.
        let is_elsewhere = |remote: SocketAddr| {
            if reliable { remote.ip() != served.path.remote.ip() } else { remote != served.path.remote }
        };
        if reliable != served.path.reliable || remote.is_some_and(is_elsewhere) {
            let detail = format!(
                "{} {method} to {remote:?}, the request came from {}",
                text.status, served.path.remote
            );
            findings.note("response-route", now, &call_id, detail);
        }
        served.check_tag(now, text, findings);
        served.check_final(now, text, bytes, self.is_table_swapped, findings);
        let is_first = served.last_final.is_none() && text.status >= 200;
        if text.status >= 200 {
            served.last_final.get_or_insert_with(|| (text.status, bytes.clone()));
        }
        if (200..300).contains(&text.status) && !served.path.trusted && !served.request.to_tag().is_empty() {
            findings.note(
                "stranger-obeyed",
                now,
                &call_id,
                format!("{} to {method} from {}", text.status, served.path.remote),
            );
        }
        let request = served.request.clone();
        if text.status > 100
            && text.status < 300
            && matches!(method, "INVITE" | "UPDATE")
            && !text.body.is_empty()
        {
            check_answer(now, &request, text, findings);
        }
        self.track_dialog(now, &request, text, is_first, findings);
    }

    fn track_dialog(
        &mut self,
        now: Instant,
        request: &SipText,
        text: &SipText,
        is_first: bool,
        findings: &mut Findings,
    ) {
        let (cseq, method) = text.cseq();
        let key = (text.call_id().to_owned(), text.from_tag().to_owned(), text.to_tag().to_owned());
        if method == "INVITE"
            && (101..300).contains(&text.status)
            && !key.2.is_empty()
            && request.to_tag().is_empty()
        {
            self.dialogs.entry(key.clone()).or_insert_with(|| Dialog::new(request));
        }
        let Some(dialog) = self.dialogs.get_mut(&key) else { return };
        if !(200..300).contains(&text.status) {
            return;
        }
        match method {
            "BYE" => {
                dialog.ended_at.get_or_insert(now);
            }
            "INVITE" | "UPDATE" => {
                dialog.answered_at.get_or_insert(now);
                if let (Some(contact), true) = (request.contact(), is_first) {
                    dialog.targets.push(contact.to_owned());
                }
                if is_first {
                    dialog.learn_caller(now, &sdp::sections(&request.body));
                    dialog.learn_tandem(now, &sdp::sections(&text.body));
                }
                if method == "INVITE" {
                    dialog.track_2xx(
                        now,
                        cseq,
                        is_first,
                        self.served.get(&server_key(text)),
                        &key.0,
                        findings,
                    );
                }
            }
            _ => {}
        }
    }

    // What leaves: requests.

    fn depart_request(
        &mut self,
        now: Instant,
        reliable: bool,
        remote: Option<SocketAddr>,
        bytes: &Bytes,
        text: &SipText,
        findings: &mut Findings,
    ) {
        let (cseq, method) = text.cseq();
        let call_id = text.call_id();
        let dialog_key = (call_id.to_owned(), text.to_tag().to_owned(), text.from_tag().to_owned());
        if method != "ACK" && self.is_repeat(now, reliable, bytes, text, findings) {
            return;
        }
        if self.is_of_dialling(now, text, findings) {
            if method != "ACK" {
                self.note_sent(now, reliable, bytes, text);
            }
            return;
        }
        let Some(dialog) = self.dialogs.get_mut(&dialog_key) else {
            findings.note("no-such-dialog", now, call_id, format!("{method} {cseq} to {}", text.uri()));
            return;
        };
        dialog.check_request(now, text, remote, findings);
        match method {
            "ACK" => {
                let owed = dialog.acks_owed.get_mut(&cseq);
                match owed {
                    Some((_, owed)) if *owed > 0 => *owed -= 1,
                    _ => findings.note("cseq", now, call_id, format!("ACK {cseq} acknowledges nothing")),
                }
                return;
            }
            _ if dialog.ended_at.is_some() => {
                findings.note(
                    "no-such-dialog",
                    now,
                    call_id,
                    format!("{method} {cseq} after the end of the dialog"),
                );
            }
            _ => {}
        }
        if let Some(last) = dialog.local_cseq
            && cseq != last + 1
        {
            findings.note("cseq", now, call_id, format!("{method} {cseq} follows {last}"));
        }
        dialog.local_cseq = Some(cseq);
        if method == "BYE" {
            dialog.ended_at = Some(now);
        }
        self.note_sent(now, reliable, bytes, text);
    }

    /// Whether a request is one of those with which a call is placed, or given up before its answer.
    fn is_of_dialling(&mut self, now: Instant, text: &SipText, findings: &mut Findings) -> bool {
        let key = (text.call_id().to_owned(), text.from_tag().to_owned());
        match text.method() {
            "INVITE" if text.to_tag().is_empty() => {
                self.dialled.entry(key).or_default().depart(now, text, findings);
                true
            }
            "CANCEL" => match self.dialled.get(&key) {
                Some(dialled) => {
                    dialled.cancel(now, text, findings);
                    true
                }
                None => false,
            },
            "ACK" => {
                self.dialled.get_mut(&key).is_some_and(|dialled| dialled.acknowledge(now, text, findings))
            }
            _ => false,
        }
    }

    fn note_sent(&mut self, now: Instant, reliable: bool, bytes: &Bytes, text: &SipText) {
        let (_, method) = text.cseq();
        let is_invite = method == "INVITE";
        let sent = Sent {
            bytes: bytes.clone(),
            reliable,
            schedule: if is_invite { Schedule::of_invite(now) } else { Schedule::new(now) },
            done_at: None,
            heard_at: None,
        };
        self.sent.insert((text.transaction().0.to_owned(), method.to_owned()), sent);
    }

    fn is_repeat(
        &mut self,
        now: Instant,
        reliable: bool,
        bytes: &Bytes,
        text: &SipText,
        findings: &mut Findings,
    ) -> bool {
        let (_, method) = text.cseq();
        let key = (text.transaction().0.to_owned(), method.to_owned());
        let Some(sent) = self.sent.get_mut(&key) else { return false };
        let call_id = text.call_id();
        if sent.bytes != *bytes {
            findings.note(
                "repeat-differs",
                now,
                call_id,
                format!("{method} with the same branch and other bytes"),
            );
        }
        if reliable || sent.reliable {
            findings.note("reliable-retransmission", now, call_id, format!("{method} again on a stream"));
        } else if method == "INVITE" && sent.heard_at.is_some_and(|heard_at| heard_at < now) {
            // RFC 3261 17.1.1.2: no repeats in the Proceeding state; one that was due as the response came may have gone.
            findings.note("retransmission-timing", now, call_id, "INVITE again after a provisional response");
        } else if sent.done_at.is_some_and(|done_at| done_at < now) {
            findings.note(
                "retransmission-timing",
                now,
                call_id,
                format!("{method} again after its final response"),
            );
        } else if !sent.schedule.repeated(now) {
            let after = now.saturating_duration_since(sent.schedule.first_at);
            findings.note("retransmission-timing", now, call_id, format!("{method} again after {after:?}"));
        }
        true
    }
}

impl SipChecks {
    /// Looks for repeats of 2xx that did not come in time; called now and then.
    pub fn sweep(&mut self, now: Instant, findings: &mut Findings) {
        for ((call_id, ..), dialog) in &mut self.dialogs {
            if dialog.ended_at.is_some() {
                continue;
            }
            for (cseq, answered) in &mut dialog.invites {
                if answered.acked_at.is_some() {
                    continue;
                }
                if let Some(due) = answered.schedule.overdue(now) {
                    let detail = format!("200 to INVITE {cseq} was due again after {due:?}");
                    findings.note("retransmission-missing", now, call_id, detail);
                    answered.acked_at = Some(now);
                } else if now > answered.schedule.first_at + GIVE_UP + Duration::from_millis(100) {
                    let detail = format!("INVITE {cseq} was not acknowledged and no BYE followed");
                    findings.note("unacked-without-bye", now, call_id, detail);
                    answered.acked_at = Some(now);
                }
            }
        }
    }
}

fn server_key(text: &SipText) -> ServerKey {
    let (branch, sent_by) = text.transaction();
    let (_, method) = text.cseq();
    ServerKey { branch: branch.to_owned(), sent_by: sent_by.to_owned(), method: method.to_owned() }
}
