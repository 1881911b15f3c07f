//! Transactions and dialogs as seen from outside (RFC 3261, 3264, 3581, 6026).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Findings;
use super::retransmission::{GIVE_UP, Schedule};
use crate::carrier::sdp::{self, Section};
use crate::message::{SipText, uri_of};

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
struct Served {
    path: Path,
    call_id: String,
    last_arrival: Instant,
    to_tag: String,
    last_final: Option<(u16, Bytes)>,
    schedule: Option<Schedule>,
    acked: bool,
    request: SipText,
}

#[derive(Debug)]
struct Sent {
    bytes: Bytes,
    reliable: bool,
    schedule: Schedule,
    done: bool,
    provisional: bool,
}

/// Call-ID, caller's tag, Tandem's tag.
type DialogKey = (String, String, String);

/// One dialog.
#[derive(Debug)]
pub struct Dialog {
    targets: Vec<String>,
    routes: Vec<String>,
    local_cseq: Option<u32>,
    invites: BTreeMap<u32, Answered>,
    acks_owed: BTreeMap<u32, (Instant, u32)>,
    /// The answer to the first offer was sent (or the ACK brought it).
    pub negotiated_at: Option<Instant>,
    /// The first 200 to the INVITE left.
    pub answered_at: Option<Instant>,
    /// The first ACK to it came.
    pub acked_at: Option<Instant>,
    /// BYE came and was obeyed, or left.
    pub ended_at: Option<Instant>,
    /// The caller's RTP addresses named so far, the current one last.
    pub caller_rtp: Vec<SocketAddr>,
    /// Tandem's RTP address.
    pub tandem_rtp: Option<SocketAddr>,
    /// Formats of the current answer.
    pub formats: Vec<String>,
    /// Tandem may send RTP (the answer's direction).
    pub may_send: bool,
}

#[derive(Debug)]
struct Answered {
    schedule: Schedule,
    acked: bool,
}

/// All signalling of a run.
#[derive(Debug, Default)]
pub struct SipChecks {
    served: BTreeMap<ServerKey, Served>,
    sent: BTreeMap<(String, String), Sent>,
    dialogs: BTreeMap<DialogKey, Dialog>,
    /// Messages seen, both ways.
    pub messages: u64,
}

impl SipChecks {
    /// The dialog of a Call-ID that was answered last, if any.
    pub fn dialog_of(&self, call_id: &str) -> Option<&Dialog> {
        let start = (call_id.to_owned(), String::new(), String::new());
        self.dialogs.range(start..).take_while(|(key, _)| key.0 == call_id).map(|(_, dialog)| dialog).last()
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
                if !answered.acked && !was_closed_in_time && now > deadline + Duration::from_millis(100) {
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
            answered.acked = true;
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
                sent.done = true;
            } else if !std::mem::replace(&mut sent.provisional, true) {
                sent.schedule.slow_down();
            }
        }
        if method == "INVITE" && (200..300).contains(&text.status) {
            let dialog_key =
                (text.call_id().to_owned(), text.to_tag().to_owned(), text.from_tag().to_owned());
            if let Some(dialog) = self.dialogs.get_mut(&dialog_key) {
                let owed = dialog.acks_owed.entry(cseq).or_insert((now, 0));
                owed.1 += 1;
                if let Some(contact) = text.contact() {
                    dialog.targets.push(contact.to_owned());
                }
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
        served.check_final(now, text, bytes, findings);
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
        let sent = Sent {
            bytes: bytes.clone(),
            reliable,
            schedule: Schedule::new(now),
            done: false,
            provisional: false,
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
        } else if sent.done {
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

impl Served {
    fn check_tag(&mut self, now: Instant, text: &SipText, findings: &mut Findings) {
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

    fn check_final(&mut self, now: Instant, text: &SipText, bytes: &Bytes, findings: &mut Findings) {
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

impl Dialog {
    fn new(invite: &SipText) -> Self {
        Self {
            targets: invite.contact().map(str::to_owned).into_iter().collect(),
            routes: invite.values("record-route").into_iter().map(|route| uri_of(route).to_owned()).collect(),
            local_cseq: None,
            invites: BTreeMap::new(),
            acks_owed: BTreeMap::new(),
            negotiated_at: None,
            answered_at: None,
            acked_at: None,
            ended_at: None,
            caller_rtp: Vec::new(),
            tandem_rtp: None,
            formats: Vec::new(),
            may_send: true,
        }
    }

    fn learn_caller(&mut self, now: Instant, sections: &[Section]) {
        let Some(section) = sections.iter().find(|section| section.media == "audio" && section.port != 0)
        else {
            return;
        };
        if self.negotiated_at.is_none() && self.tandem_rtp.is_some() {
            self.negotiated_at = Some(now);
        }
        self.caller_rtp.extend(section.rtp().filter(|rtp| !rtp.ip().is_unspecified()));
    }

    fn learn_tandem(&mut self, now: Instant, sections: &[Section]) {
        let Some(section) = sections.iter().find(|section| section.media == "audio" && section.port != 0)
        else {
            return;
        };
        self.tandem_rtp = section.rtp();
        self.formats.extend(section.formats.iter().cloned());
        self.may_send = matches!(section.direction.as_str(), "sendrecv" | "sendonly");
        if self.negotiated_at.is_none() && !self.caller_rtp.is_empty() {
            self.negotiated_at = Some(now);
        }
    }

    fn track_2xx(
        &mut self,
        now: Instant,
        cseq: u32,
        is_first: bool,
        served: Option<&Served>,
        call_id: &str,
        findings: &mut Findings,
    ) {
        let answered = self
            .invites
            .entry(cseq)
            .or_insert_with(|| Answered { schedule: Schedule::new(now), acked: false });
        if is_first {
            return;
        }
        let was_asked = served.is_some_and(|served| served.last_arrival == now);
        let after = now.saturating_duration_since(answered.schedule.first_at);
        if answered.acked {
            if !was_asked {
                findings.note(
                    "retransmission-timing",
                    now,
                    call_id,
                    format!("200 again after its ACK, {after:?}"),
                );
            }
        } else if !answered.schedule.repeated(now) && !was_asked {
            findings.note("retransmission-timing", now, call_id, format!("200 again after {after:?}"));
        }
    }

    fn check_request(
        &self,
        now: Instant,
        text: &SipText,
        remote: Option<SocketAddr>,
        findings: &mut Findings,
    ) {
        let (_, method) = text.cseq();
        let call_id = text.call_id();
        let routes: Vec<&str> = text.values("route").into_iter().map(uri_of).collect();
        if routes != self.routes {
            findings.note(
                "route-set",
                now,
                call_id,
                format!("{method} with Route {routes:?}, not {:?}", self.routes),
            );
        }
        // A target refresh may be under way: the newest or the one before.
        let recent = self.targets.iter().rev().take(3);
        if !recent.clone().any(|target| target == text.uri()) {
            findings.note(
                "remote-target",
                now,
                call_id,
                format!("{method} to {}, not {:?}", text.uri(), self.targets),
            );
        }
        let next = self.routes.first().map_or(text.uri(), String::as_str);
        if let (Some(remote), Some(ip)) = (remote, host_of(next))
            && remote.ip() != ip
        {
            findings.note("remote-target", now, call_id, format!("{method} for {next} was sent to {remote}"));
        }
        if !text.transaction().0.starts_with("z9hG4bK") || text.header("max-forwards").is_none() {
            findings.note("malformed", now, call_id, format!("{method} without a branch or Max-Forwards"));
        }
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
                if answered.acked {
                    continue;
                }
                if let Some(due) = answered.schedule.overdue(now) {
                    let detail = format!("200 to INVITE {cseq} was due again after {due:?}");
                    findings.note("retransmission-missing", now, call_id, detail);
                    answered.acked = true;
                } else if now > answered.schedule.first_at + GIVE_UP + Duration::from_millis(100) {
                    let detail = format!("INVITE {cseq} was not acknowledged and no BYE followed");
                    findings.note("unacked-without-bye", now, call_id, detail);
                    answered.acked = true;
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

fn host_of(uri: &str) -> Option<IpAddr> {
    let rest = uri.split_once(':')?.1;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split(';').next()?;
    host.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| host.parse()).ok()
}

fn check_answer(now: Instant, request: &SipText, response: &SipText, findings: &mut Findings) {
    if request.body.is_empty() {
        return;
    }
    let call_id = request.call_id();
    let (offered, answered) = (sdp::sections(&request.body), sdp::sections(&response.body));
    if offered.len() != answered.len() {
        let detail = format!("{} m= lines answer {}", answered.len(), offered.len());
        findings.note("sdp-sections", now, call_id, detail);
    }
    for (offer, answer) in offered.iter().zip(&answered) {
        if offer.media != answer.media {
            findings.note(
                "sdp-sections",
                now,
                call_id,
                format!("m={} answers m={}", answer.media, offer.media),
            );
        }
        if answer.port == 0 {
            continue;
        }
        if !answer.formats.iter().all(|format| offer.formats.contains(format)) || answer.formats.is_empty() {
            let detail = format!("{:?} answers {:?}", answer.formats, offer.formats);
            findings.note("sdp-formats", now, call_id, detail);
        }
        let allowed: &[&str] = match offer.direction.as_str() {
            "sendonly" => &["recvonly", "inactive"],
            "recvonly" => &["sendonly", "inactive"],
            "inactive" => &["inactive"],
            _ => &["sendrecv", "sendonly", "recvonly", "inactive"],
        };
        if !allowed.contains(&answer.direction.as_str()) {
            findings.note(
                "sdp-direction",
                now,
                call_id,
                format!("{} answers {}", answer.direction, offer.direction),
            );
        }
    }
}
