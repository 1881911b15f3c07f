//! Reliable provisional responses, as callee and as caller. RFC 3262.

use std::time::Instant;

use bytes::Bytes;

use super::body::session_description;
use super::event::{EndedBy, Event, Misuse, OfferKind, Refusal};
use super::transactions::{Errand, Owner};
use super::{Endpoint, Reason, TimerKey};
use crate::dialog::Dialog;
use crate::dialog::invite::{Farewell, IncomingOffer, Inviting, Session, Stage};
use crate::dialog::reliable::{Outstanding, Provisional, Turn};
use crate::ids::{SessionId, TransactionId};
use crate::message::{HeaderName, Method, RAck, Request, Response};

impl Endpoint {
    /// Sends a provisional response reliably, now or when its turn comes.
    pub(super) fn provisional_reliably(
        &mut self,
        now: Instant,
        id: SessionId,
        status: u16,
        sdp: Option<Bytes>,
    ) -> Result<(), Misuse> {
        let Some(session) = self.sessions.get_mut(&id) else { return Err(Misuse::NoSession) };
        let Stage::Inviting(inviting) = &mut session.stage else { return Err(Misuse::WrongState) };
        let Some(reliable) = &mut inviting.reliable else { return Err(Misuse::WrongState) };
        // RFC 3262 5: where "the INVITE did not contain an offer, one MUST appear in that reliable provisional
        // response": one without is of no use to the peer, and is left out.
        if !inviting.offered && !inviting.described && sdp.is_none() {
            self.counters.provisionals_withheld += 1;
            return Ok(());
        }
        let provisional = Provisional { status, sdp };
        match reliable.turn(&provisional) {
            Turn::Send(rseq) => self.send_reliable(now, id, provisional, rseq),
            Turn::Wait => {}
            Turn::Full => {
                self.counters.provisionals_withheld += 1;
                return Err(Misuse::Full);
            }
        }
        Ok(())
    }

    fn send_reliable(&mut self, now: Instant, id: SessionId, provisional: Provisional, rseq: u32) {
        let t1 = self.config.timing.t1;
        let Some(Session { stage: Stage::Inviting(Inviting { transaction, .. }), .. }) =
            self.sessions.get(&id)
        else {
            return;
        };
        let transaction = *transaction;
        let Some(builder) = self.within(id, transaction, provisional.status) else { return };
        // RFC 3262 3: "The provisional response to be sent reliably is constructed by the UAS core
        // according to the procedures of Section 8.2.6 of RFC 3261. In addition, it MUST contain a
        // Require header field containing the option tag 100rel, and MUST include an RSeq header field."
        let builder =
            builder.header(HeaderName::Require, "100rel").header(HeaderName::RSeq, rseq.to_string());
        let response = super::incoming::finish(builder, provisional.sdp.as_ref());
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if provisional.sdp.is_some() {
            session.local_sdp.clone_from(&provisional.sdp);
        }
        if let Stage::Inviting(Inviting { reliable: Some(reliable), .. }) = &mut session.stage {
            let holds_sdp = provisional.sdp.is_some();
            reliable.sent(Outstanding { response: response.clone(), interval: t1, holds_sdp });
        }
        self.timers.arm(TimerKey::Session(id), Reason::RepeatProvisional, now + t1);
        self.timers.arm(TimerKey::Session(id), Reason::PrackWait, now + t1 * 64);
        self.reply(now, transaction, provisional.status, response);
    }

    /// RFC 3262 3: "If a reliable provisional response is retransmitted for 64*T1 seconds without reception of
    /// a corresponding PRACK, the UAS SHOULD reject the original request with a 5xx response."
    pub(super) fn prack_missing(&mut self, now: Instant, id: SessionId) {
        self.end(now, id, EndedBy::NoPrack, None, Farewell::Refuse(Refusal::new(504)));
    }

    pub(super) fn repeat_reliable(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Stage::Inviting(inviting) = &mut session.stage else { return };
        let Some((response, interval)) = inviting.reliable.as_mut().and_then(|reliable| reliable.repeat())
        else {
            return;
        };
        let transaction = inviting.transaction;
        self.counters.retransmissions += 1;
        self.timers.arm(TimerKey::Session(id), Reason::RepeatProvisional, now + interval);
        self.reply(now, transaction, 183, response);
    }

    /// The peer's PRACK. RFC 3262 3: "If the PRACK does match an unacknowledged reliable provisional response,
    /// it MUST be responded to with a 2xx response." and 481 if it does not.
    pub(super) fn prack_received(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
    ) {
        let Some(rack) = request.header(HeaderName::RAck).and_then(RAck::parse) else {
            return self.refuse_within(now, id, transaction, &Refusal::new(400).phrase("Bad RAck"));
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let named = (rack.rseq, rack.cseq.number);
        let mut acknowledged = None;
        let mut offered = true;
        if let Stage::Inviting(inviting) = &mut session.stage {
            let cseq = self.servers.get(&inviting.transaction).map(|entry| entry.request.cseq().number);
            if cseq == Some(rack.cseq.number) && rack.cseq.method == Method::Invite {
                acknowledged =
                    inviting.reliable.as_mut().and_then(|reliable| reliable.acknowledge(rack.rseq));
            }
            offered = inviting.offered || inviting.described;
        }
        let body = session_description(request.fields());
        let Some(outstanding) = acknowledged else {
            let is_overtaken = session.overtaken == Some(named);
            let status = if is_overtaken { 200 } else { 481 };
            session.overtaken = session.overtaken.filter(|_| !is_overtaken);
            let Some(builder) = self.within(id, transaction, status) else { return };
            return self.reply(now, transaction, status, builder.finish());
        };
        for reason in [Reason::RepeatProvisional, Reason::PrackWait] {
            self.timers.disarm(TimerKey::Session(id), reason);
        }
        self.acknowledge_provisional(now, id, transaction, Acknowledged { outstanding, offered, body });
        self.after_prack(now, id);
    }

    /// Answers a PRACK that matched. RFC 3262 5: it may carry the answer to the offer in the response, or,
    /// once an answer went out in it, a new offer.
    fn acknowledge_provisional(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        acknowledged: Acknowledged,
    ) {
        let Acknowledged { outstanding, offered, body } = acknowledged;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Stage::Inviting(inviting) = &mut session.stage {
            inviting.described |= outstanding.holds_sdp;
        }
        let (answer, offer) = match (outstanding.holds_sdp, offered, body) {
            (true, false, body) => (body, None),
            (_, true, Some(offer)) => (None, Some(offer)),
            (_, true, None) | (false, false, _) => (None, None),
        };
        match offer {
            Some(_) if !outstanding.holds_sdp || session.incoming.is_some() => {
                // The INVITE's own offer is not answered yet (RFC 3264 4).
                self.refuse_within(now, id, transaction, &Refusal::new(488));
            }
            Some(offer) => {
                let kind = OfferKind::Prack;
                let pending = IncomingOffer { transaction, kind, offered: true, contact: None, timer: None };
                session.incoming = Some(pending);
                self.events.push_back(Event::ProvisionalAcknowledged { session: id, body: None });
                self.events.push_back(Event::Offer { session: id, kind, offer: Some(offer) });
            }
            None => {
                let Some(builder) = self.within(id, transaction, 200) else { return };
                self.reply(now, transaction, 200, builder.finish());
                self.events.push_back(Event::ProvisionalAcknowledged { session: id, body: answer });
            }
        }
    }

    /// Sends what waited for the PRACK: the next provisional response, else the answer.
    fn after_prack(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Stage::Inviting(inviting) = &mut session.stage else { return };
        if let Some(answer) = inviting.answer.take() {
            // The answer says all that a waiting provisional response could.
            return self.answer_now(now, id, answer);
        }
        let Some(reliable) = &mut inviting.reliable else { return };
        let Some(next) = reliable.next() else { return };
        if let Turn::Send(rseq) = reliable.turn(&next) {
            self.send_reliable(now, id, next, rseq);
        }
    }

    /// As caller: whether a provisional response is to be taken, and its PRACK if it is reliable. RFC 3262 4:
    /// "if the UAC receives another reliable provisional response to the same request, and its RSeq value is
    /// not one higher than the value of the sequence number, that response MUST NOT be acknowledged with a
    /// PRACK, and MUST NOT be processed further by the UAC."
    pub(super) fn take_provisional(
        &mut self,
        now: Instant,
        id: SessionId,
        early: usize,
        sent: &Request,
        response: &Response,
    ) -> Taken {
        if !response.lists(HeaderName::Require, "100rel") {
            return Taken::Process;
        }
        let rseq = response.header(HeaderName::RSeq).and_then(|value| {
            std::str::from_utf8(value).ok()?.trim().parse::<u32>().ok().filter(|&rseq| rseq > 0)
        });
        let Some(rseq) = rseq else { return Taken::Discard };
        let Some(session) = self.sessions.get_mut(&id) else { return Taken::Discard };
        let Stage::Calling(calling) = &mut session.stage else { return Taken::Discard };
        let Some(early) = calling.early.get_mut(early) else { return Taken::Discard };
        if early.rseq.is_some_and(|last| rseq != last.wrapping_add(1)) {
            return Taken::Discard;
        }
        early.rseq = Some(rseq);
        let cseq = early.dialog.next_cseq();
        let dialog: Dialog = early.dialog.clone();
        let rack = format!("{rseq} {} INVITE", sent.cseq().number);
        if let Some((builder, target)) = self.draft(id, &dialog, Method::Prack, cseq) {
            let prack = builder.header(HeaderName::RAck, rack).finish();
            // A bound reached leaves the response to be repeated and counted.
            self.open_client(now, prack, target, Owner::Session(id, Errand::Prack));
        }
        Taken::Process
    }
}

/// A PRACK that matched: what it acknowledges and brings.
struct Acknowledged {
    outstanding: Outstanding,
    /// Whether an offer had been made before the response it acknowledges.
    offered: bool,
    body: Option<Bytes>,
}

/// What becomes of a provisional response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Taken {
    Process,
    Discard,
}
