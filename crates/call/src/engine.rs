//! The engine: the one owner of every call, of the endpoint, of admission and of the routing table.
//!
//! Everything comes in by [`Engine::handle`] and goes out by [`Engine::poll_output`]; [`Engine::poll_timeout`] says when to
//! come again. Drain both after each input, before the next. There is no clock, no lock and no global here, so an engine
//! can be sharded by Call-ID. What it refuses to do: decide within a call (`inbound` does) or on an INVITE (`route` and
//! `invite` do); it carries each thing to the one it belongs to.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use rand_chacha::{ChaCha12Rng, ChaCha20Rng};
use rand_core::{Rng, SeedableRng};
use tandem_sip::auth::Authenticator;
use tandem_sip::{Endpoint, Event, NoResponseCause, SessionId, Target, Transmit};

use crate::admission::Admission;
use crate::config::EngineConfig;
use crate::counters::{Census, Counters};
use crate::doorkeeper::Doorkeeper;
use crate::ids::{CallId, TrunkId};
use crate::input::{Command, Input};
use crate::ladder::{Glimpse, Heading, MAX_LINE_BYTES, Rung, short_text};
use crate::live::{Awaiting, Happening, LiveCall};
use crate::node::Node;
use crate::output::Output;
use crate::qualify::Qualify;
use crate::record::CallRecord;
use crate::register::Register;
use crate::table::RoutingTable;
use crate::waiting_room::WaitingRoom;

/// The brain of a node.
#[derive(Debug)]
pub struct Engine {
    pub(crate) node: Node,
    pub(crate) authenticator: Authenticator,
    pub(crate) doorkeeper: Doorkeeper,
    calls: BTreeMap<CallId, LiveCall>,
    drain_until: Option<Instant>,
    pub(crate) qualify: Qualify,
    pub(crate) register: Register,
    /// There is one while the table is still being read.
    pub(crate) waiting_room: Option<WaitingRoom>,
}

impl Engine {
    /// An engine without calls and with an empty table. Identifiers and secrets follow from `seed`, which must not be
    /// guessable where the world is hostile; `unix_ms` is the wall clock at `now`.
    pub fn new(config: EngineConfig, seed: u64, now: Instant, unix_ms: u64) -> Self {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let mut key = [0; 32];
        random.fill_bytes(&mut key);
        let node = Node {
            endpoint: Endpoint::new(config.endpoint.clone(), random.next_u64()),
            admission: Admission::new(config.admission.clone(), random.next_u64(), now),
            table: Arc::new(RoutingTable::default()),
            counters: Counters::default(),
            outputs: VecDeque::new(),
            sessions: BTreeMap::new(),
            sip_call_ids: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            start: now,
            start_unix_ms: unix_ms,
            config,
            media_keys: ChaCha20Rng::from_rng(&mut random),
            arrived_by: None,
            gateway_news: Vec::new(),
            random,
        };
        let mut engine = Self {
            authenticator: Authenticator::new(node.config.authenticator.clone(), key, now),
            doorkeeper: Doorkeeper::new(0),
            node,
            calls: BTreeMap::new(),
            drain_until: None,
            qualify: Qualify::default(),
            register: Register::default(),
            waiting_room: None,
        };
        engine.doorkeeper = Doorkeeper::new(engine.node.random.next_u64());
        engine
    }

    /// Takes what the media keys of all calls are made of from now on: 256 bits that nobody can guess, which the seed of the
    /// engine is too short for.
    pub fn seed_media_keys(&mut self, seed: [u8; 32]) {
        self.node.media_keys = ChaCha20Rng::from_seed(seed);
    }

    /// Takes one input at its instant. Deadlines that have passed are run first.
    pub fn handle(&mut self, now: Instant, input: Input) {
        self.run_deadlines(now);
        self.node.arrived_by = None;
        match input {
            Input::Datagram { flow, payload } => {
                self.node.arrived_by = Some(flow.transport);
                self.draw(&payload, Heading::In, Some(flow.remote), now);
                self.node.endpoint.handle_datagram(now, flow, payload);
            }
            Input::StreamOpened { flow } => self.node.endpoint.handle_stream_opened(now, flow),
            Input::StreamData { flow, payload } => {
                self.node.arrived_by = Some(flow.transport);
                // A message is drawn when it is whole, in however many pieces it came, and done with before the next.
                let mut read = &payload[..];
                while let Some(message) = self.node.endpoint.handle_stream(now, flow, read) {
                    read = &[];
                    self.draw(&message, Heading::In, Some(flow.remote), now);
                    self.settle(now);
                }
            }
            Input::StreamClosed { flow } => {
                self.node.endpoint.handle_flow_closed(now, flow);
                self.register.flow_closed(flow, now, &mut self.node);
            }
            Input::TransmitFailed { transmit } => self.node.endpoint.handle_transmit_failed(now, transmit),
            Input::Timeout => {}
            Input::Routing(table) => {
                self.node.table = table;
                self.node.admission.prune(now);
                let table = &self.node.table;
                self.node.admission.forget_callers(|agent| table.bounds_callers(agent));
                self.close_waiting_room(now);
            }
            Input::TrunksChanged(trunks) => {
                self.qualify.trunks_changed(&trunks, now, &mut self.node);
                self.register.trunks_changed(&trunks, now, &mut self.node);
            }
            Input::RoutingFollows => self.open_waiting_room(),
            Input::RouteFound { ticket, found } => self.route_found(ticket, found, now),
            Input::Place(dial) => self.place(*dial, now),
            Input::WayFound { call, ways } => {
                if !self.qualify.way_found(call, &ways, now, &mut self.node)
                    && !self.register.way_found(call, &ways, now, &mut self.node)
                {
                    self.step(call, Happening::WayFound { ways }, now);
                }
            }
            Input::WayFailed { call, why } => {
                if !self.qualify.way_failed(call, &why, now, &mut self.node)
                    && !self.register.way_failed(call, &why, now, &mut self.node)
                {
                    self.step(call, Happening::WayFailed { why }, now);
                }
            }
            Input::BridgeOpened { call, rtp } => self.step(call, Happening::BridgeOpened { rtp }, now),
            Input::BridgeFailed { call, cause } => self.step(call, Happening::BridgeFailed { cause }, now),
            Input::SecondOpened { call, rtp } => self.step(call, Happening::SecondOpened { rtp }, now),
            Input::SecondFailed { call, cause } => self.step(call, Happening::SecondFailed { cause }, now),
            Input::AgentConnected { call } => self.step(call, Happening::AgentConnected, now),
            Input::AgentRefused { call, cause } => self.step(call, Happening::AgentRefused { cause }, now),
            Input::CallerLookedUp { call, must_be_known, answer } => {
                self.step(call, Happening::CallerLookedUp { must_be_known, answer }, now);
            }
            Input::Bridge { call, event } => self.step(call, Happening::Bridge { event }, now),
            Input::BridgeClosed { call, statistics } => {
                self.step(call, Happening::BridgeClosed { statistics }, now);
            }
            Input::Command(Command::HangUp { call, as_what }) => {
                self.step(call, Happening::HangUp { as_what }, now);
            }
            Input::Command(Command::SendDtmf { call, digits, duration_ms }) => {
                self.step(call, Happening::SendDtmf { digits, duration_ms }, now);
            }
            Input::Command(Command::Transfer { call, order }) => {
                self.step(call, Happening::Transfer { order }, now);
            }
            Input::Command(Command::Record { call, command }) => {
                self.step(call, Happening::Record { command }, now);
            }
            Input::Command(Command::RecordingFailed { call, why }) => {
                self.step(call, Happening::RecordingFailed { why }, now);
            }
            Input::RecordsBehind(is_behind) => self.node.admission.hold_back(is_behind),
            Input::Drain { until } => {
                self.node.admission.drain();
                self.register.take_back_all(now, &mut self.node);
                self.empty_waiting_room();
                self.drain_until = Some(until);
                self.end_drain(now);
            }
        }
        self.settle(now);
        // What was just begun or ended may be due at once.
        self.register.run(now, &mut self.node);
        self.settle(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.node.outputs.pop_front()
    }

    /// When to hand in [`Input::Timeout`] next, and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let call = self.node.deadlines.first().map(|(at, call)| (*at, self.reason_of(*call)));
        let drain = self.drain_until.map(|at| (at, "end the calls that outlast the drain"));
        let watch = self.qualify.next().map(|at| (at, "ask a gateway whether it is there"));
        let register = self.register.next().map(|at| (at, "register a trunk"));
        let all = [self.node.endpoint.poll_timeout(), call, drain, watch, register];
        all.into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.node.counters
    }

    /// What the endpoint counted since the start.
    pub fn sip_counters(&self) -> &tandem_sip::Counters {
        self.node.endpoint.counters()
    }

    /// What is held now. All zero when nothing is left.
    pub fn census(&self) -> Census {
        Census {
            calls: self.calls.len(),
            admitted: self.node.admission.calls() as usize,
            sessions: self.node.sessions.len(),
            sip_call_ids: self.node.sip_call_ids.len(),
            deadlines: self.node.deadlines.len(),
            questions: self.qualify.questions(),
            registrations: self.register.attempts() + self.register.leaving(),
            waiting: self.waiting_room.as_ref().map_or(0, WaitingRoom::len),
            outputs: self.node.outputs.len(),
            endpoint: self.node.endpoint.census(),
        }
    }

    /// Registrations that registrars are still to be told to forget.
    pub fn unregistering(&self) -> usize {
        self.register.leaving()
    }

    /// What a call awaits, in a word or two, for listings; `None` when it is not known (any more).
    pub fn awaits(&self, call: CallId) -> Option<&'static str> {
        self.calls.get(&call).map(|call| call.awaits.as_str())
    }

    /// The SIP messages so far of a call that is not over yet.
    pub fn ladder(&self, call: CallId) -> Option<Vec<Rung>> {
        self.calls.get(&call).map(|call| call.ladder().rungs().cloned().collect())
    }

    /// The records of all calls that are not over yet, by their identifiers' order.
    pub fn live_calls(&self) -> impl Iterator<Item = &CallRecord> {
        self.calls.values().filter(|call| call.awaits != Awaiting::LastMessage).map(LiveCall::record)
    }

    /// Concurrent calls of a trunk, inbound and outbound.
    pub fn trunk_calls(&self, trunk: &TrunkId) -> (u32, u32) {
        self.node.admission.trunk_calls(trunk)
    }

    /// Files a call under all its names.
    pub(crate) fn register(&mut self, call: LiveCall, session: SessionId, sip_call_id: Bytes) {
        self.node.sessions.insert(session, call.id);
        self.node.sip_call_ids.insert(sip_call_id, call.id);
        self.calls.insert(call.id, call);
    }

    /// Files a call that has no session yet.
    pub(crate) fn hold(&mut self, call: LiveCall) {
        let (id, sip_call_id) = (call.id, call.sip_call_id.clone());
        self.node.sip_call_ids.insert(sip_call_id, id);
        self.calls.insert(id, call);
        self.forget_if_over(id);
    }

    pub(crate) fn knows(&self, call: CallId) -> bool {
        self.calls.contains_key(&call)
    }

    /// Draws a message into the ladder of the call it belongs to. Only its own peers are drawn: whoever else knows its
    /// Call-ID cannot fill its ladder.
    pub(crate) fn draw(&mut self, message: &[u8], heading: Heading, peer: Option<SocketAddr>, now: Instant) {
        if self.node.sip_call_ids.is_empty() {
            return;
        }
        let glimpse = Glimpse::of(message);
        let Some(call) =
            self.node.sip_call_ids.get(glimpse.call_id).and_then(|call| self.calls.get_mut(call))
        else {
            return;
        };
        if peer.is_some_and(|peer| !call.is_peer(peer)) && heading == Heading::In {
            return;
        }
        call.draw(Rung {
            at_unix_ms: self.node.unix_ms(now),
            heading,
            peer,
            start_line: short_text(glimpse.start_line, MAX_LINE_BYTES),
            cseq: short_text(glimpse.cseq, MAX_LINE_BYTES),
            bytes: u32::try_from(message.len()).unwrap_or(u32::MAX),
        });
    }

    fn run_deadlines(&mut self, now: Instant) {
        self.node.endpoint.handle_timeout(now);
        self.settle(now);
        while let Some((at, call)) = self.node.deadlines.first().copied().filter(|(at, _)| *at <= now) {
            self.node.deadlines.remove(&(at, call));
            self.step(call, Happening::Deadline, now);
            self.settle(now);
        }
        self.end_drain(now);
        self.settle(now);
        self.qualify.run(now, &mut self.node);
        self.register.run(now, &mut self.node);
        self.settle(now);
    }

    fn end_drain(&mut self, now: Instant) {
        if self.drain_until.is_none_or(|until| until > now) {
            return;
        }
        self.drain_until = None;
        let calls: Vec<CallId> = self.calls.keys().copied().collect();
        for call in calls {
            self.step(call, Happening::DrainEnded, now);
        }
    }

    /// Carries events to their calls and messages to the output until the endpoint is quiet.
    fn settle(&mut self, now: Instant) {
        loop {
            while let Some(transmit) = self.node.endpoint.poll_transmit() {
                self.draw_transmit(&transmit, now);
                self.node.emit(Output::Transmit(transmit));
            }
            let Some(event) = self.node.endpoint.poll_event() else { break };
            self.endpoint_event(event, now);
        }
        self.qualify.heed_calls(now, &mut self.node);
    }

    fn endpoint_event(&mut self, event: Event, now: Instant) {
        let (session, happening) = match event {
            Event::Incoming(incoming) => return self.incoming(*incoming, now),
            Event::Malformed(malformed) => return self.malformed(*malformed, now),
            Event::Acknowledged { session, body } => (session, Happening::Acknowledged { session, body }),
            Event::Offer { session, kind: _, offer } => (session, Happening::Offer { session, offer }),
            Event::Info { session, content_type, body } => {
                (session, Happening::Info { session, content_type, body })
            }
            Event::ReferAnswered { session, status } => (session, Happening::ReferAnswered { status }),
            Event::ReferProgress { session, status, is_over } => {
                (session, Happening::ReferProgress { status, is_over })
            }
            Event::ReferRefused { session, refer_to } | Event::Referred { session, refer_to } => {
                (session, Happening::Referred { session, refer_to })
            }
            Event::Ended { session, by, reason } => {
                let call = self.node.sessions.remove(&session);
                let happening = Happening::SessionEnded { session, by, reason };
                return call.map_or((), |call| self.step(call, happening, now));
            }
            // Changes are answered at once, provisional responses carry no description, and sessions are refreshed by
            // the endpoint itself: these are news without consequence.
            Event::OfferWithdrawn { .. }
            | Event::ProvisionalAcknowledged { .. }
            | Event::Refreshed { .. } => return,
            Event::Progress { session, status, body } => {
                (session, Happening::Progress { session, status, body })
            }
            Event::Answered { session, status, body, response: _ } => {
                (session, Happening::Answered { session, status, body })
            }
            Event::Response { request, response, credentials } => {
                if !self.register.answered(request, &response, credentials.as_deref(), now, &mut self.node) {
                    let _known = self.qualify.outcome(request, Ok(response.status()), now, &mut self.node);
                }
                return;
            }
            Event::NoResponse { request, cause, credentials } => {
                if self.register.unanswered(request, cause, credentials.as_deref(), now, &mut self.node) {
                    return;
                }
                let why = match cause {
                    NoResponseCause::TimedOut => "it does not answer OPTIONS",
                    NoResponseCause::TransportFailed => "nothing could be sent to it",
                };
                let _known = self.qualify.outcome(request, Err(why), now, &mut self.node);
                return;
            }
            // This engine changes no session by itself.
            Event::OfferAnswered { .. } | Event::OfferRefused { .. } => {
                self.node.counters.unexpected_inputs += 1;
                return;
            }
        };
        match self.node.sessions.get(&session).copied() {
            Some(call) => self.step(call, happening, now),
            None => self.node.counters.late_inputs += 1,
        }
    }

    fn step(&mut self, id: CallId, happening: Happening, now: Instant) {
        let Some(call) = self.calls.get_mut(&id) else {
            self.node.counters.late_inputs += 1;
            return;
        };
        call.handle(happening, now, &mut self.node);
        self.forget_if_over(id);
    }

    fn forget_if_over(&mut self, id: CallId) {
        if let Some(call) = self.calls.get(&id).filter(|call| call.is_over()) {
            let names: Vec<Bytes> =
                [&call.sip_call_id].into_iter().chain(call.second_call_ids()).cloned().collect();
            self.calls.remove(&id);
            for name in names {
                // A Call-ID may have been used again by a later call.
                if self.node.sip_call_ids.get(&name) == Some(&id) {
                    self.node.sip_call_ids.remove(&name);
                }
            }
        }
    }

    fn draw_transmit(&mut self, transmit: &Transmit, now: Instant) {
        let peer = match &transmit.target {
            Target::Flow(flow) => Some(flow.remote),
            Target::Address { remote, .. } => Some(*remote),
            Target::Name { .. } => None,
            Target::Close(_) => return,
        };
        self.draw(&transmit.payload, Heading::Out, peer, now);
    }

    fn reason_of(&self, call: CallId) -> &'static str {
        match self.calls.get(&call).map(|call| call.awaits) {
            Some(Awaiting::Way) => "give up waiting for a gateway's address",
            Some(Awaiting::Answer) => "give up waiting for a gateway, or for the callee",
            Some(Awaiting::Bridge) => "give up waiting for a media port",
            Some(Awaiting::Agent | Awaiting::Listener) => "give up waiting for the agent",
            Some(Awaiting::Ack) => "give up waiting for the ACK",
            Some(Awaiting::End) => "end the call that lasts too long",
            Some(Awaiting::BridgeClose) => "give up waiting for the bridge's end",
            Some(Awaiting::LastMessage) | None => "let go of the finished call",
        }
    }
}
