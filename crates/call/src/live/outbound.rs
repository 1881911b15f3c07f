//! The steps of a call that we place: its gateways one after the other, ringing, the answer, and the agent that is fetched
//! to it.
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
//! What it refuses to do: follow redirects (a 3xx makes no call that the trunk's owner did not order), or ring a callee twice
//! (`failover` has the table). Each gateway is challenged by itself: the trunk's credentials are handed to the INVITE anew,
//! so no nonce and no realm of one gateway reaches another. RFC 3261 sections 8.1, 9.1, 13.2, 22; RFC 3263 section 4.3.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::auth::Answerer;
use tandem_sip::{
    EndedBy, HeaderName, Misuse, Network, OutgoingInvite, Response, SessionId, SessionPolicy, Target,
    Transport,
};

use super::ending::{self, Ending};
use super::{Awaiting, BridgeLife, LiveCall};
use crate::addressing;
use crate::bridge::{BridgeCommand, BridgePlan};
use crate::cause::outcome_of_refusal;
use crate::failover::{self, Next};
use crate::gateways::{GatewayAttempt, MAX_ATTEMPTS, Way, name_of, transport_of, transport_word};
use crate::node::Node;
use crate::output::Output;
use crate::reach;
use crate::record::{CallStatus, HangupBy, HangupReason};
use crate::table::Gateway;
use crate::verdict::{Check, StepOutcome, VerdictCode, wire_text};

/// What only a call that we place has.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The number to call, its digits.
    dialled: String,
    /// The number that calls, as its owner wrote it.
    from: String,
    /// Headers that its order asks for.
    headers: Vec<(Bytes, Bytes)>,
    /// How long it may ring.
    ringing: Duration,
    /// The bridge's plan, until it is known which family of addresses it needs.
    plan: Option<Box<BridgePlan>>,
    /// Those not tried yet, in order.
    gateways: VecDeque<Gateway>,
    /// The one being tried.
    gateway: Option<Gateway>,
    /// Addresses of it not tried yet.
    ways: VecDeque<Way>,
    /// The answer that came before the answer (RFC 3261 section 13.2.1: in a reliable provisional response).
    early: Option<Bytes>,
    /// Whether the INVITE under way has been heard ringing, and until when it may.
    is_ringing: bool,
    until: Option<Instant>,
    /// The last refusal: what the call ends as if nothing better comes.
    refused: Option<Ending>,
}

impl Outgoing {
    /// A call to `dialled`, shown to come `from`, by these gateways in this order.
    pub(crate) fn new(dialled: String, from: String, gateways: Vec<Gateway>, plan: BridgePlan) -> Self {
        Self {
            dialled,
            from,
            headers: Vec::new(),
            ringing: Duration::ZERO,
            plan: Some(Box::new(plan)),
            gateways: gateways.into(),
            gateway: None,
            ways: VecDeque::new(),
            early: None,
            is_ringing: false,
            until: None,
            refused: None,
        }
    }

    /// The gateway being tried, or tried last.
    pub(super) fn gateway(&self) -> Option<&Gateway> {
        self.gateway.as_ref()
    }

    /// The same with headers of its order and a bound on ringing.
    pub(crate) fn ordered(mut self, headers: Vec<(Bytes, Bytes)>, ringing: Duration) -> Self {
        (self.headers, self.ringing) = (headers, ringing);
        self
    }
}

impl LiveCall {
    /// Goes to the next gateway, or ends the call when all have failed.
    pub(super) fn next_gateway(&mut self, now: Instant, node: &mut Node) {
        let Some(outgoing) = self.outgoing.as_mut() else { return };
        let gateway = outgoing.gateways.pop_front().filter(|_| self.record.gateways.len() < MAX_ATTEMPTS);
        let Some(gateway) = gateway else { return self.all_failed(now, node) };
        outgoing.ways.clear();
        outgoing.gateway = Some(gateway.clone());
        let transport = transport_of(&self.trunk, &gateway);
        self.begin_attempt(&gateway, transport, now, node);
        let Gateway { address: host, port, .. } = gateway;
        node.emit(Output::FindWay { call: self.id, transport, host, port });
        self.enter(Awaiting::Way, now, node);
    }

    /// The gateway has these addresses.
    pub(super) fn way_found(&mut self, ways: Vec<Way>, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Way => {
                if let Some(outgoing) = self.outgoing.as_mut() {
                    outgoing.ways = ways.into();
                }
                self.next_way(now, node);
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
                self.close_attempt(None, why, now, node);
                self.next_gateway(now, node);
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

    /// Goes to the gateway's next address, or to the next gateway.
    fn next_way(&mut self, now: Instant, node: &mut Node) {
        loop {
            let Some(outgoing) = self.outgoing.as_mut() else { return };
            let Some(way) = outgoing.ways.front().copied() else {
                if self.is_trying() {
                    self.close_attempt(None, "its name has no address", now, node);
                }
                return self.next_gateway(now, node);
            };
            if let Some(plan) = outgoing.plan.take() {
                return self.ask_bridge(plan, way, now, node);
            }
            outgoing.ways.pop_front();
            if !self.is_trying() {
                let Some(gateway) = self.outgoing.as_ref().and_then(|outgoing| outgoing.gateway.clone())
                else {
                    return;
                };
                if self.record.gateways.len() >= MAX_ATTEMPTS {
                    return self.all_failed(now, node);
                }
                self.begin_attempt(&gateway, way.transport, now, node);
            }
            if let Some(attempt) = self.record.gateways.last_mut() {
                attempt.address = Some(way.remote);
            }
            let is_of_family = self
                .negotiation
                .local()
                .is_none_or(|local| local.is_ipv4() == way.remote.ip().to_canonical().is_ipv4());
            if !is_of_family {
                let why = "the call's media port is of the other family of addresses";
                self.close_attempt(None, why, now, node);
                continue;
            }
            match self.invite(way, now, node) {
                Ok(()) => return,
                Err(misuse) => self.close_attempt(None, &misuse.to_string(), now, node),
            }
        }
    }

    /// The family of the first gateway is that of the media.
    fn ask_bridge(&mut self, mut plan: Box<BridgePlan>, way: Way, now: Instant, node: &mut Node) {
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
        self.next_way(now, node);
    }

    fn invite(&mut self, way: Way, now: Instant, node: &mut Node) -> Result<(), Misuse> {
        let Some(outgoing) = self.outgoing.as_mut() else { return Err(Misuse::WrongState) };
        let Some(gateway) = &outgoing.gateway else { return Err(Misuse::WrongState) };
        let told = node.endpoint.advertised(way.local, way.remote.ip());
        let addresses = addressing::addresses(
            &self.trunk,
            gateway,
            way.transport,
            told,
            &outgoing.from,
            &outgoing.dialled,
        );
        let mut headers = outgoing.headers.clone();
        headers.extend(addresses.asserted.map(|value| (Bytes::from_static(b"P-Asserted-Identity"), value)));
        let mut trusted: Vec<Network> = self
            .trunk
            .sources
            .iter()
            .map(|range| Network { address: range.addr(), prefix: range.prefix_len() })
            .collect();
        let (address, prefix) = reach::host(way.remote.ip());
        trusted.push(Network { address, prefix });
        let credential = self.trunk.auth.credentials().first();
        let invite = OutgoingInvite {
            uri: addresses.uri,
            from: addresses.from,
            to: addresses.to,
            call_id: Some(self.sip_call_id.clone()),
            routes: Vec::new(),
            target: Target::Address {
                transport: way.transport,
                local: Some(way.local),
                remote: way.remote,
                name: name_of(&gateway.address),
            },
            local: way.local,
            sdp: Some(self.negotiation.offer()),
            credentials: credential.map(|one| Answerer::new(one.username.clone(), one.password.clone())),
            headers,
            policy: SessionPolicy { trusted, ..SessionPolicy::default() },
        };
        let session = node.endpoint.invite(now, invite)?;
        node.sessions.insert(session, self.id);
        node.counters.invites += 1;
        self.session = Some(session);
        self.peer = way.remote;
        outgoing.early = None;
        outgoing.is_ringing = false;
        outgoing.until = Some(now + outgoing.ringing);
        let silent = now + node.config.gateway_timeout;
        let first = outgoing.until.map_or(silent, |until| until.min(silent));
        self.enter(Awaiting::Answer, now, node);
        self.wait_until(Some(first), node);
        Ok(())
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
        // What is sung before the answer is not played to anybody: the agent is fetched when the callee is there.
        outgoing.early = body.or(outgoing.early.take());
        let (was_ringing, until) = (outgoing.is_ringing, outgoing.until);
        let is_ringing = was_ringing || matches!(status, 180 | 183);
        outgoing.is_ringing = is_ringing;
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
        let early = self.outgoing.as_mut().and_then(|outgoing| outgoing.early.take());
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
        match by {
            EndedBy::Refused { status, response } => self.refused(*status, response, now, node),
            EndedBy::NoResponse if self.has_rung() => self.unanswered(now, node),
            EndedBy::NoResponse => self.try_next(None, "no response came", now, node),
            EndedBy::TransportLost => self.try_next(None, "it cannot be reached", now, node),
            EndedBy::ByeReceived
            | EndedBy::Cancelled
            | EndedBy::Rejected { .. }
            | EndedBy::HungUp
            | EndedBy::NoAck
            | EndedBy::NoPrack
            | EndedBy::SessionExpired
            | EndedBy::DialogLost => self.try_next(None, "the signalling ended by itself", now, node),
        }
    }

    fn refused(&mut self, status: u16, response: &Response, now: Instant, node: &mut Node) {
        let reason = response.header(HeaderName::Reason);
        let q850 = reason.and_then(ending::q850_of);
        let cause = self.words_of_refusal(status, response);
        self.record.sip_status = Some(status);
        self.record.sip_reason = reason.map(wire_text);
        let ending = refusal_ending(status, q850, format!("{}: {cause}", self.gateway_name()));
        if let Some(outgoing) = self.outgoing.as_mut() {
            outgoing.refused = Some(ending.clone());
        }
        match failover::after_status(status) {
            Next::Gateway => self.try_next(Some(status), &cause, now, node),
            Next::End => {
                self.close_attempt(Some(status), &cause, now, node);
                self.end(ending, now, node);
                self.keep_told_cause(q850);
            }
        }
    }

    /// What a refusal means, in words that say what to do.
    fn words_of_refusal(&self, status: u16, response: &Response) -> String {
        let phrase = wire_text(response.reason());
        let refused = format!("refused with {status} {phrase}");
        match status {
            401 | 407 if self.trunk.auth.credentials().is_empty() => {
                format!("{refused}: it asks for credentials, and the trunk has none")
            }
            401 | 407 => {
                format!("{refused}: it does not take the trunk's user name and password")
            }
            403 => format!("{refused}: ask the carrier about the caller id, the destination and our address"),
            300..=399 => format!("{refused}: redirects are not followed"),
            _ => refused,
        }
    }

    /// The deadline of the INVITE under way: it rang too long, or nobody seems to be there.
    pub(super) fn answer_overdue(&mut self, now: Instant, node: &mut Node) {
        let until = self.outgoing.as_ref().and_then(|outgoing| outgoing.until);
        let is_heard = self.session.is_some_and(|session| node.endpoint.is_heard(session));
        match until {
            Some(until) if now < until && is_heard => self.wait_until(Some(until), node),
            Some(until) if now < until => {
                let waited = node.config.gateway_timeout.as_secs();
                self.try_next(None, &format!("not a word came within {waited} s"), now, node);
            }
            Some(_) if !is_heard => self.try_next(None, "no response came", now, node),
            Some(_) | None => self.unanswered(now, node),
        }
    }

    fn unanswered(&mut self, now: Instant, node: &mut Node) {
        self.close_attempt(None, "it rang, and nobody answered", now, node);
        let waited = self.outgoing.as_ref().map_or(0, |outgoing| outgoing.ringing.as_secs());
        self.end(ending::unanswered(waited), now, node);
    }

    fn has_rung(&self) -> bool {
        self.outgoing.as_ref().is_some_and(|outgoing| outgoing.is_ringing)
    }

    /// Leaves the INVITE under way to itself and goes on. Should it be answered after all, the endpoint ends it with a BYE.
    fn try_next(&mut self, status: Option<u16>, cause: &str, now: Instant, node: &mut Node) {
        self.close_attempt(status, cause, now, node);
        if let Some(session) = self.session.take()
            && node.endpoint.hangup(now, session, None).is_err()
        {
            // It ended by itself, which is what brought us here.
            node.counters.late_inputs += u64::from(status.is_none());
        }
        node.counters.failovers += 1;
        self.next_way(now, node);
    }

    fn all_failed(&mut self, now: Instant, node: &mut Node) {
        let last = self.record.gateways.last();
        let was_refused = last.is_some_and(|attempt| attempt.sip_status.is_some());
        let refused = self.outgoing.as_mut().and_then(|outgoing| outgoing.refused.take());
        let causes: Vec<String> = self
            .record
            .gateways
            .iter()
            .map(|attempt| format!("{}:{} ({})", attempt.gateway, attempt.port, attempt.cause))
            .collect();
        let error = format!("no gateway of the trunk took the call: {}", causes.join(", "));
        let ending = match refused.filter(|_| was_refused) {
            Some(ending) => Ending { error: Some(error), ..ending },
            None => ending::unreachable(error),
        };
        self.end(ending, now, node);
    }

    /// The cause that came with a refusal stands in the record, whatever word it is told by.
    fn keep_told_cause(&mut self, told: Option<u8>) {
        if told.is_some() {
            self.record.q850 = told;
        }
    }

    fn gateway_name(&self) -> String {
        let last = self.record.gateways.last();
        last.map_or_else(String::new, |attempt| format!("{}:{}", attempt.gateway, attempt.port))
    }

    fn is_trying(&self) -> bool {
        self.record.gateways.last().is_some_and(|attempt| attempt.ended_unix_ms.is_none())
    }

    fn begin_attempt(&mut self, gateway: &Gateway, transport: Transport, now: Instant, node: &Node) {
        self.record.gateways.push(GatewayAttempt {
            gateway: gateway.address.clone(),
            port: gateway.port,
            transport: transport_word(transport).to_owned(),
            address: None,
            started_unix_ms: node.unix_ms(now),
            ended_unix_ms: None,
            sip_status: None,
            cause: String::new(),
        });
    }

    fn close_attempt(&mut self, status: Option<u16>, cause: &str, now: Instant, node: &Node) {
        let at = node.unix_ms(now);
        if let Some(attempt) = self.record.gateways.last_mut()
            && attempt.ended_unix_ms.is_none()
        {
            attempt.ended_unix_ms = Some(at);
            attempt.sip_status = status.or(attempt.sip_status);
            attempt.cause = cause.to_owned();
            let went = attempt.address.map(|address| format!(" at {address}")).unwrap_or_default();
            let subject = format!("{}:{}/{}{went}", attempt.gateway, attempt.port, attempt.transport);
            let outcome = match status {
                Some(200..300) => StepOutcome::Passed,
                Some(_) | None => StepOutcome::Failed,
            };
            self.note(Check::Gateway, outcome, subject, cause);
        }
    }

    /// Says of the attempt that goes on that the call's own end cut it off.
    pub(super) fn cut_attempt(&mut self, now: Instant, node: &Node) {
        self.close_attempt(None, "given up, for the call was ended", now, node);
    }
}

/// How a call ends that a gateway refused for good.
fn refusal_ending(status: u16, q850: Option<u8>, error: String) -> Ending {
    let (outcome, reason) = outcome_of_refusal(status, q850);
    let (by, code) = match reason {
        HangupReason::RecipientBusy | HangupReason::RecipientRejected | HangupReason::Unanswered => {
            (HangupBy::Caller, VerdictCode::CalleeRefused)
        }
        _ => (HangupBy::Carrier, VerdictCode::GatewayRefused),
    };
    // These are the carrier's own words for "not by me", whatever the record's word for them is.
    let code = if matches!(status, 401..=403 | 407) { VerdictCode::GatewayRefused } else { code };
    ending::by_refusal(outcome, by, reason, code, error)
}
