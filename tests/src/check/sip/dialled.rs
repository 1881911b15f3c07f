//! The INVITEs with which Tandem places calls, as seen from outside: numbers, repeats, CANCELs, and the ACKs of refusals
//! (RFC 3261 8.1.1, 9.1, 17.1.1).

use std::collections::BTreeMap;
use std::time::Instant;

use crate::carrier::sdp::{self, Section};
use crate::check::Findings;
use crate::message::SipText;

/// The INVITEs under one Call-ID and tag of Tandem's.
#[derive(Debug, Default)]
pub(super) struct Dialled {
    /// By branch.
    invites: BTreeMap<String, Invite>,
    last_cseq: Option<u32>,
}

#[derive(Debug)]
struct Invite {
    cseq: u32,
    uri: String,
    offer: Vec<Section>,
    heard_at: Option<Instant>,
    /// Refusals that came and wait for their ACK.
    owed: u32,
}

impl Dialled {
    /// An INVITE leaves for the first time.
    pub(super) fn depart(&mut self, now: Instant, text: &SipText, findings: &mut Findings) {
        let (cseq, _) = text.cseq();
        let call_id = text.call_id();
        if self.last_cseq.is_some_and(|last| cseq != last + 1) {
            findings.note("cseq", now, call_id, format!("INVITE {cseq} follows {:?}", self.last_cseq));
        }
        self.last_cseq = Some(cseq);
        let branch = text.transaction().0;
        if !branch.starts_with("z9hG4bK") || text.header("max-forwards").is_none() || text.contact().is_none()
        {
            findings.note("malformed", now, call_id, "INVITE without branch, Max-Forwards or Contact");
        }
        let invite = Invite {
            cseq,
            uri: text.uri().to_owned(),
            offer: sdp::sections(&text.body),
            heard_at: None,
            owed: 0,
        };
        self.invites.insert(branch.to_owned(), invite);
    }

    /// A CANCEL leaves.
    pub(super) fn cancel(&self, now: Instant, text: &SipText, findings: &mut Findings) {
        let call_id = text.call_id();
        let Some(invite) = self.invites.get(text.transaction().0) else {
            findings.note("cancel", now, call_id, "a CANCEL of no INVITE");
            return;
        };
        if invite.cseq != text.cseq().0 || invite.uri != text.uri() {
            findings.note("cancel", now, call_id, format!("CANCEL {} {}", text.cseq().0, text.uri()));
        }
        if invite.heard_at.is_none() {
            findings.note("cancel", now, call_id, "a CANCEL before any provisional response");
        }
    }

    /// An ACK leaves; whether it belongs to one of these INVITEs' refusals.
    pub(super) fn acknowledge(&mut self, now: Instant, text: &SipText, findings: &mut Findings) -> bool {
        let Some(invite) = self.invites.get_mut(text.transaction().0) else { return false };
        if invite.owed == 0 || invite.cseq != text.cseq().0 || invite.uri != text.uri() {
            let detail = format!("ACK {} to {} acknowledges nothing", text.cseq().0, text.uri());
            findings.note("cseq", now, text.call_id(), detail);
        }
        invite.owed = invite.owed.saturating_sub(1);
        true
    }

    /// A response arrives; the offer that a 2xx answers.
    pub(super) fn arrive(&mut self, now: Instant, text: &SipText) -> Option<(u32, &[Section])> {
        let invite = self.invites.get_mut(text.transaction().0)?;
        match text.status {
            100..200 => drop(invite.heard_at.get_or_insert(now)),
            200..300 => return Some((invite.cseq, &invite.offer)),
            _ => invite.owed += 1,
        }
        None
    }

    /// Refusals that were never acknowledged.
    pub(super) fn owed(&self) -> u32 {
        self.invites.values().map(|invite| invite.owed).sum()
    }
}
