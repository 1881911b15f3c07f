//! One dialog as seen from outside: its targets, routes, numbers, what was negotiated in it, and the 2xx that wait for
//! their ACK (RFC 3261 12, 13.3.1.4).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use super::served::Served;
use crate::carrier::sdp::{self, Section};
use crate::check::Findings;
use crate::check::retransmission::Schedule;
use crate::message::{SipText, uri_of};

/// One dialog.
#[derive(Debug)]
pub struct Dialog {
    pub(super) targets: Vec<String>,
    pub(super) routes: Vec<String>,
    pub(super) local_cseq: Option<u32>,
    pub(super) invites: BTreeMap<u32, Answered>,
    pub(super) acks_owed: BTreeMap<u32, (Instant, u32)>,
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
    /// Tandem placed the call.
    pub(super) is_placed: bool,
}

#[derive(Debug)]
pub(super) struct Answered {
    pub(super) schedule: Schedule,
    pub(super) acked_at: Option<Instant>,
}

impl Dialog {
    pub(super) fn new(invite: &SipText) -> Self {
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
            is_placed: false,
        }
    }

    /// A dialog that the answer to an INVITE of Tandem's begins, with what was offered.
    pub(super) fn answered(now: Instant, response: &SipText, cseq: u32, offer: &[Section]) -> Self {
        let mut dialog = Self::new(response);
        // RFC 3261 12.1.2: the route set of a UAC is that of the response in reverse order.
        dialog.routes.reverse();
        dialog.local_cseq = Some(cseq);
        dialog.is_placed = true;
        dialog.answered_at = Some(now);
        dialog.acked_at = Some(now);
        dialog.learn_tandem(now, offer);
        let answer = sdp::sections(&response.body);
        dialog.learn_caller(now, &answer);
        let audio = answer.iter().find(|section| section.media == "audio" && section.port != 0);
        dialog.formats = audio.map(|section| section.formats.clone()).unwrap_or_default();
        dialog.may_send =
            audio.is_some_and(|section| matches!(section.direction.as_str(), "sendrecv" | "recvonly"));
        dialog
    }

    pub(super) fn learn_caller(&mut self, now: Instant, sections: &[Section]) {
        let Some(section) = sections.iter().find(|section| section.media == "audio" && section.port != 0)
        else {
            return;
        };
        if self.negotiated_at.is_none() && self.tandem_rtp.is_some() {
            self.negotiated_at = Some(now);
        }
        self.caller_rtp.extend(section.rtp().filter(|rtp| !rtp.ip().is_unspecified()));
    }

    pub(super) fn learn_tandem(&mut self, now: Instant, sections: &[Section]) {
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

    pub(super) fn track_2xx(
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
            .or_insert_with(|| Answered { schedule: Schedule::new(now), acked_at: None });
        if is_first {
            return;
        }
        let was_asked = served.is_some_and(|served| served.last_arrival == now);
        let after = now.saturating_duration_since(answered.schedule.first_at);
        // A repeat that was due at the very moment of the ACK may have gone before it was read.
        if answered.acked_at.is_some_and(|acked_at| acked_at < now) {
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

    pub(super) fn check_request(
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

fn host_of(uri: &str) -> Option<IpAddr> {
    let rest = uri.split_once(':')?.1;
    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
    let host = host.split(';').next()?;
    host.parse::<SocketAddr>().map(|address| address.ip()).or_else(|_| host.parse()).ok()
}
