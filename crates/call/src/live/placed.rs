//! The steps of a call that we place: its gateways, ringing, the answer, and the agent that is fetched to it.
//!
//! ```text
//!  placed ─► AwaitingWay ──address known──► AwaitingBridge ──port bound, INVITE──► AwaitingAnswer ──2xx, ACK──┐
//!                 ▲                                                                      │ 18x: ringing        │
//!                 └──────────── next gateway: silence, 408, 430, 478, 5xx ◄──────────────┤                     ▼
//!                                                         busy, declined, no answer ◄────┘              AwaitingListener
//!                                                                                                              │
//!                                                              AwaitingEnd ◄──the agent's WebSocket is up──────┘
//! ```
//!
//! How gateways are gone through is `outbound`'s; here its steps become those of the call. RFC 3261 section 13.2.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use tandem_sip::{EndedBy, HeaderName, SessionId};

use super::ending;
use super::outbound::{Leg, Outgoing, Step};
use super::{Awaiting, BridgeLife, LiveCall};
use crate::bridge::BridgeCommand;
use crate::gateways::Way;
use crate::node::Node;
use crate::output::Output;
use crate::reach;
use crate::record::CallStatus;
use crate::verdict::{VerdictCode, wire_text};

impl LiveCall {
    /// The walk through the gateways, with what it works on; nothing for a call that came to us.
    fn on_the_way(&mut self) -> Option<(&mut Outgoing, Leg<'_>)> {
        let outgoing = self.outgoing.as_deref_mut()?;
        let leg = Leg {
            call: self.id,
            trunk: &self.trunk,
            sip_call_id: &self.sip_call_id,
            session: &mut self.session,
            peer: &mut self.peer,
            negotiation: &mut self.negotiation,
            attempts: &mut self.record.gateways,
            verdict: self.verdict.as_deref_mut(),
        };
        Some((outgoing, leg))
    }

    /// Takes a step on the way, and awaits what follows it.
    fn walk(
        &mut self,
        now: Instant,
        node: &mut Node,
        go: impl FnOnce(&mut Outgoing, &mut Leg<'_>, &mut Node) -> Step,
    ) {
        let Some((outgoing, mut leg)) = self.on_the_way() else {
            node.counters.unexpected_inputs += 1;
            return;
        };
        match go(outgoing, &mut leg, node) {
            Step::Way => self.enter(Awaiting::Way, now, node),
            Step::Port(way) => self.ask_bridge(way, now, node),
            Step::Answer(until) => {
                self.enter(Awaiting::Answer, now, node);
                self.wait_until(Some(until), node);
            }
            Step::Over { ending, told } => {
                self.end(ending, now, node);
                // The cause that came with a refusal stands in the record, whatever word it is told by.
                self.record.q850 = told.or(self.record.q850);
            }
        }
    }

    /// Goes to the next gateway, or ends the call when all have failed.
    pub(super) fn next_gateway(&mut self, now: Instant, node: &mut Node) {
        self.walk(now, node, |outgoing, leg, node| outgoing.next_gateway(leg, now, node));
    }

    /// The gateway has these addresses.
    pub(super) fn way_found(&mut self, ways: Vec<Way>, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Way => {
                self.walk(now, node, |outgoing, leg, node| outgoing.way_found(ways, leg, now, node))
            }
            Awaiting::BridgeClose | Awaiting::LastMessage => node.counters.late_inputs += 1,
            Awaiting::Bridge
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Answer
            | Awaiting::Listener
            | Awaiting::End => node.counters.unexpected_inputs += 1,
        }
    }

    /// The gateway has no address.
    pub(super) fn way_failed(&mut self, why: &str, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Way => {
                self.walk(now, node, |outgoing, leg, node| outgoing.way_failed(why, leg, now, node))
            }
            Awaiting::BridgeClose | Awaiting::LastMessage => node.counters.late_inputs += 1,
            Awaiting::Bridge
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Answer
            | Awaiting::Listener
            | Awaiting::End => node.counters.unexpected_inputs += 1,
        }
    }

    /// The family of the first gateway is that of the media.
    fn ask_bridge(&mut self, way: Way, now: Instant, node: &mut Node) {
        let Some(mut plan) = self.outgoing.as_mut().and_then(|outgoing| outgoing.take_plan()) else { return };
        plan.peer = way.remote.ip().to_canonical();
        plan.latch.allowed.push(reach::host(way.remote.ip()));
        self.bridge = BridgeLife::Asked;
        node.emit(Output::OpenBridge { call: self.id, plan });
        self.enter(Awaiting::Bridge, now, node);
    }

    /// The media port is bound: the first gateway is called.
    pub(super) fn port_bound(&mut self, rtp: SocketAddr, now: Instant, node: &mut Node) {
        self.bridge = BridgeLife::Open;
        self.negotiation.bind(rtp);
        self.record.media.local = Some(rtp);
        self.walk(now, node, |outgoing, leg, node| outgoing.next_way(leg, now, node));
    }

    /// A provisional response above 100.
    pub(super) fn progressed(
        &mut self,
        session: SessionId,
        status: u16,
        body: Option<Bytes>,
        now: Instant,
        node: &mut Node,
    ) {
        let is_current = self.session == Some(session) && self.awaits == Awaiting::Answer;
        let Some(outgoing) = self.outgoing.as_mut().filter(|_| is_current) else {
            node.counters.late_inputs += 1;
            return;
        };
        let (until, is_ringing) = outgoing.progressed(status, body);
        self.wait_until(until, node);
        if is_ringing && self.record.ringing_unix_ms.is_none() {
            self.record.status = CallStatus::Ringing;
            self.record.ringing_unix_ms = Some(node.unix_ms(now));
            self.progress(node);
        }
    }

    /// The callee is there: the agent is fetched.
    pub(super) fn callee_answered(
        &mut self,
        session: SessionId,
        status: u16,
        body: Option<Bytes>,
        now: Instant,
        node: &mut Node,
    ) {
        if self.session != Some(session) || self.awaits != Awaiting::Answer {
            node.counters.late_inputs += 1;
            return;
        }
        if let Some((outgoing, leg)) = self.on_the_way() {
            outgoing.tell_watch(&leg, Ok(status), node);
        }
        let early = self.outgoing.as_mut().and_then(|outgoing| outgoing.take_early());
        node.counters.answered += 1;
        self.record.answered_unix_ms = Some(node.unix_ms(now));
        self.record.sip_status = Some(status);
        self.record.status = CallStatus::InProgress;
        let answer = body.or(early);
        let media = match answer.map(|answer| self.negotiation.take_answer(&answer)) {
            Some(Ok(media)) => media,
            Some(Err(error)) => {
                let why = format!("the callee's answer cannot be used: {error}");
                return self.answer_unusable(status, why, now, node);
            }
            None => {
                let why = "the callee answered without describing its audio".to_owned();
                return self.answer_unusable(status, why, now, node);
            }
        };
        node.counters.encrypted += u64::from(self.negotiation.suite().is_some());
        self.close_attempt(Some(status), "answered", now, node);
        self.settle_verdict(VerdictCode::Accepted, status, now, node);
        node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Media(media) });
        node.emit(Output::DialAgent { call: self.id });
        self.enter(Awaiting::Listener, now, node);
        self.progress(node);
    }

    fn answer_unusable(&mut self, status: u16, why: String, now: Instant, node: &mut Node) {
        if let Some(attempt) = self.record.gateways.last_mut() {
            attempt.sip_status = Some(status);
        }
        self.close_attempt(None, &why, now, node);
        self.settle_verdict(VerdictCode::OfferUnacceptable, status, now, node);
        self.end(ending::unusable_answer(why), now, node);
    }

    /// The INVITE under way came to nothing.
    pub(super) fn attempt_ended(&mut self, by: &EndedBy, now: Instant, node: &mut Node) {
        if let EndedBy::Refused { status, response } = by {
            self.record.sip_status = Some(*status);
            self.record.sip_reason = response.header(HeaderName::Reason).map(wire_text);
        }
        self.walk(now, node, |outgoing, leg, node| outgoing.attempt_ended(by, leg, now, node));
    }

    /// The deadline of the INVITE under way.
    pub(super) fn answer_overdue(&mut self, now: Instant, node: &mut Node) {
        self.walk(now, node, |outgoing, leg, node| outgoing.overdue(leg, now, node));
    }

    fn close_attempt(&mut self, status: Option<u16>, cause: &str, now: Instant, node: &Node) {
        if let Some((_, mut leg)) = self.on_the_way() {
            leg.close_attempt(status, cause, now, node);
        }
    }

    /// Says of the attempt that goes on that the call's own end cut it off.
    pub(super) fn cut_attempt(&mut self, now: Instant, node: &Node) {
        self.close_attempt(None, "given up, for the call was ended", now, node);
    }
}
