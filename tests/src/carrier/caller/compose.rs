//! The requests of a caller: INVITE, CANCEL, those inside the dialog, and their transactions' beginning
//! (RFC 3261 8.1, 9.1, 12.2.1.1).

use std::time::Instant;

use bytes::Bytes;
use tandem_sip::Transport;

use super::{Caller, Deed, PATIENCE, Pending, Purpose, T1};
use crate::carrier::messages::{self, Line};
use crate::carrier::script::{Refresher, Reliable};
use crate::carrier::sdp::{self, Flowing};

impl Caller {
    pub(super) fn send_invite(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        self.cseq += 1;
        let branch = self.branch();
        let uri = format!("sip:{}@{}", self.plan.number, self.place.tandem);
        let to_user = self.plan.to.clone().unwrap_or_else(|| self.plan.number.clone());
        let mut lines = self.common_lines(&branch, "INVITE", self.cseq);
        lines.push(Line("To", format!("<sip:{to_user}@{}>", self.place.tandem)));
        lines.push(Line("Contact", self.contact()));
        if let Some(proxy) = self.place.proxy {
            lines.push(Line("Record-Route", format!("<sip:{proxy};lr{}>", self.transport_parameter())));
        }
        lines.push(Line("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK".into()));
        match self.plan.reliable {
            Reliable::No => {}
            Reliable::Supported => lines.push(Line("Supported", "100rel".into())),
            Reliable::Required => lines.push(Line("Require", "100rel".into())),
        }
        if let Some((seconds, refresher)) = self.plan.session_timer {
            lines.push(Line("Supported", "timer".into()));
            let suffix = match refresher {
                Refresher::Unsaid => "",
                Refresher::Caller => ";refresher=uac",
                Refresher::Tandem => ";refresher=uas",
            };
            lines.push(Line("Session-Expires", format!("{seconds}{suffix}")));
        }
        if let Some(authorization) = &self.authorization {
            lines.push(Line("Authorization", authorization.clone()));
        }
        lines.extend(self.plan.extra.iter().map(|(name, value)| Line(name, value.clone())));
        let mut body = Vec::new();
        if !self.plan.offer.delayed {
            body = sdp::write(&self.offer, self.place.rtp, self.sdp_version, Flowing::SendReceive);
            lines.push(Line("Content-Type", "application/sdp".into()));
        }
        self.invite = messages::request("INVITE", &uri, lines, &body);
        self.invite_branch.clone_from(&branch);
        self.invite_cseq = self.cseq;
        if self.plan.offer.delayed {
            self.offerless.insert(self.cseq);
        }
        self.send(now, "INVITE", self.invite.clone(), branch, Purpose::Invite, deeds);
    }

    pub(super) fn request(
        &mut self,
        now: Instant,
        method: &'static str,
        lines: Vec<Line>,
        body: Vec<u8>,
        purpose: Purpose,
        deeds: &mut Vec<Deed>,
    ) {
        self.is_leaving |= method == "BYE";
        self.cseq += 1;
        let (bytes, branch) = self.in_dialog(method, self.cseq, lines, body);
        self.send(now, method, bytes, branch, purpose, deeds);
    }

    pub(super) fn in_dialog(
        &mut self,
        method: &'static str,
        cseq: u32,
        extra: Vec<Line>,
        body: Vec<u8>,
    ) -> (Bytes, String) {
        let branch = self.branch();
        let mut lines = self.common_lines(&branch, method, cseq);
        lines.push(Line("To", self.to()));
        if matches!(method, "INVITE" | "UPDATE") {
            lines.push(Line("Contact", self.contact()));
        }
        lines.extend(extra);
        (messages::request(method, &self.remote_target.clone(), lines, &body), branch)
    }

    pub(super) fn send(
        &mut self,
        now: Instant,
        method: &str,
        bytes: Bytes,
        branch: String,
        purpose: Purpose,
        deeds: &mut Vec<Deed>,
    ) {
        let unreliable = self.plan.transport == Transport::Udp;
        let pending = Pending {
            purpose,
            method: method.to_owned(),
            bytes: bytes.clone(),
            interval: T1,
            next: unreliable.then(|| now + T1),
            deadline: now + PATIENCE,
            proceeding: false,
        };
        self.pending.insert(branch, pending);
        deeds.push(Deed::Sip(bytes));
    }

    pub(super) fn cancel(&self) -> Bytes {
        // RFC 3261 9.1: Request-URI, Via, From, To, Call-ID and CSeq number as in the INVITE.
        let uri = format!("sip:{}@{}", self.plan.number, self.place.tandem);
        let to_user = self.plan.to.clone().unwrap_or_else(|| self.plan.number.clone());
        let mut lines = self.common_lines(&self.invite_branch, "CANCEL", self.invite_cseq);
        lines.push(Line("To", format!("<sip:{to_user}@{}>", self.place.tandem)));
        messages::request("CANCEL", &uri, lines, b"")
    }

    fn common_lines(&self, branch: &str, method: &str, cseq: u32) -> Vec<Line> {
        let name = self.plan.transport.via_name();
        let mut lines = Vec::new();
        match self.place.proxy {
            Some(proxy) => {
                lines.push(Line("Via", format!("SIP/2.0/{name} {proxy};branch={branch};rport")));
                lines.push(Line("Via", format!("SIP/2.0/UDP {};branch={branch}u", self.place.local)));
            }
            None => {
                lines.push(Line("Via", format!("SIP/2.0/{name} {};branch={branch};rport", self.place.local)))
            }
        }
        lines.push(Line("Max-Forwards", self.plan.max_forwards.to_string()));
        lines.push(Line(
            "From",
            format!("<sip:{}@{}>;tag={}", self.plan.from, self.place.contact.ip(), self.from_tag),
        ));
        lines.push(Line("Call-ID", self.call_id.clone()));
        lines.push(Line("CSeq", format!("{cseq} {method}")));
        lines
    }

    pub(super) fn to(&self) -> String {
        let to_user = self.plan.to.as_ref().unwrap_or(&self.plan.number);
        format!("<sip:{to_user}@{}>;tag={}", self.place.tandem, self.to_tag)
    }

    pub(super) fn contact(&self) -> String {
        // Behind a proxy the caller itself speaks UDP; the proxy changes over.
        let parameter = if self.place.proxy.is_some() { "" } else { self.transport_parameter() };
        format!("<sip:{}@{}{parameter}>", self.plan.from, self.place.contact)
    }

    fn transport_parameter(&self) -> &'static str {
        if self.plan.transport == Transport::Udp { "" } else { ";transport=tcp" }
    }

    pub(super) fn branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bK{}.{:x}", self.call_id, self.branches)
    }
}
