//! The world: one queue of events in virtual time around the production engine and its bridges.
//!
//! Each step takes the earliest event, sets the clock to it, feeds one input to one machine and drains it before the
//! next. Only the shell is replaced: what the engine asks of it (a port, a WebSocket, a record to be stored) is done
//! here by stand-ins that take virtual time. Same seed, same order, same hash.

mod agents;
mod media;
mod orders;
mod report;
mod rtp;
mod signalling;

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_agent::FrameKind;
use tandem_call::bridge::{Bridge, BridgeEvent, BridgePlan, BridgeStatistics};
use tandem_call::{CallId, Engine, EngineConfig, Input, Way};
use tandem_sip::{Flow, TransmitId, Transport};

pub(crate) use orders::gateway_name;
pub use report::{CallFacts, Report};

use crate::agent::scripted::ScriptedAgent;
use crate::agent::wire::{Meaning, Said};
use crate::audio::Alphabet;
use crate::carrier::caller::{Caller, Deed, Place};
use crate::check::Findings;
use crate::check::agent::Ingress;
use crate::check::ledger::Ledger;
use crate::check::rtcp::Reports;
use crate::check::rtp::Egress;
use crate::check::sip::SipChecks;
use crate::check::timer::Timers;
use crate::dice::Dice;
use crate::link::Link;
use crate::log_watch;
use crate::marks::{Mark, Marks};
use crate::message::Cutter;
use crate::operator::{self, OperatorAct};
use crate::sabotage::{Planted, Sabotage};
use crate::swarm::{Plan, TANDEM_SIP};
use crate::trace::Trace;

/// Wall time at the start of every run.
pub const UNIX_MS: u64 = 1_800_000_000_000;

/// First RTP port of Tandem.
const FIRST_PORT: u16 = 20_000;

/// A run is given up this long after its network was healed: 64*T1 for each of the longest chain of transactions, the
/// media timeout, an agent's drain, and the longest call.
const PATIENCE: Duration = Duration::from_secs(500);

/// Steps at one moment, after which time is said not to move.
const STANDING_MAX: u32 = 100_000;

/// Something that happens.
#[derive(Debug)]
enum Event {
    Call(usize),
    CallerWake(usize),
    Operator(usize),
    Heal,
    EngineWake,
    Datagram { flow: Flow, payload: Bytes },
    StreamOpened(u64),
    Chunk { connection: u64, payload: Bytes },
    StreamClosed(Flow),
    Transmit { payload: Bytes, target: tandem_sip::Target, shift: u16 },
    SipToCarrier { caller: usize, payload: Bytes },
    SipToGateway { caller: usize, gateway: usize, payload: Bytes },
    TransmitFailed(TransmitId),
    LookedUp { call: CallId, ways: Result<Vec<Way>, String> },
    ChunkToCarrier { connection: u64, payload: Bytes },
    Rtp { to: SocketAddr, source: SocketAddr, payload: Bytes },
    ReportToCaller { caller: usize, payload: Bytes },
    FindRoute { ticket: tandem_call::Ticket, keys: Vec<String> },
    Bind(CallId),
    Dialled(CallId),
    DialFailed(CallId),
    FromBridge { call: CallId, event: BridgeEvent },
    BridgeClosed { call: CallId, statistics: Box<BridgeStatistics> },
    BridgeWake(CallId),
    AgentWake(CallId),
    ToAgent { call: CallId, said: Said },
    ToBridge { call: CallId, piece: Piece },
    Leave { call: CallId, kind: FrameKind, bytes: Vec<u8>, droppable: bool },
    StrayRtp { call_id: String, to: SocketAddr, bytes: Vec<u8>, port: SocketAddr },
}

/// What an agent's socket holds for the bridge.
#[derive(Debug, Clone)]
enum Piece {
    Frame { kind: FrameKind, bytes: Vec<u8>, meaning: Meaning },
    Closed(Option<u16>),
    Lost,
}

#[derive(Debug)]
struct CallerSlot {
    caller: Caller,
    to_tandem: Link,
    to_carrier: Link,
    rtp: Link,
    rtp_back: Link,
    connection: Option<u64>,
    wake: Option<Instant>,
    lost: BTreeMap<usize, u32>,
    sources: Vec<SocketAddr>,
    facts: CallFacts,
}

#[derive(Debug)]
struct Connection {
    caller: usize,
    flow: Flow,
    is_open: bool,
    to_tandem: Cutter,
    to_carrier: Cutter,
}

#[derive(Debug)]
struct Slot {
    caller: usize,
    call_id: String,
    plan: Option<Box<BridgePlan>>,
    agent_index: usize,
    bridge: Option<Bridge>,
    rtp: Option<SocketAddr>,
    agent: Option<ScriptedAgent>,
    agent_wake: Option<Instant>,
    socket_open: bool,
    inbox: VecDeque<Piece>,
    unread: usize,
    reads_from: Option<Instant>,
    wake: Option<Instant>,
    ingress: Ingress,
    egress: Egress,
    reports: Reports,
    last_packet: Option<(SocketAddr, Vec<u8>)>,
    /// First RTP of the caller, and the start of the agent's stream.
    first_rtp_at: Option<Instant>,
    started_at: Option<Instant>,
    renegotiated_at: Option<Instant>,
}

/// The ports of the stand-in shell.
#[derive(Debug)]
struct Ports {
    count: u16,
    rest: Duration,
    resting: BTreeMap<u16, Instant>,
    used: BTreeMap<u16, CallId>,
}

impl Ports {
    fn take(&mut self, now: Instant, call: CallId) -> Option<u16> {
        let free = (0..self.count).map(|index| FIRST_PORT + 2 * index).find(|port| {
            !self.used.contains_key(port) && self.resting.get(port).is_none_or(|until| *until <= now)
        })?;
        self.used.insert(free, call);
        Some(free)
    }
}

/// The world.
pub struct World {
    plan: Plan,
    start: Instant,
    now: Instant,
    queue: BTreeMap<(Instant, u64), Event>,
    sequence: u64,
    dice: Dice,
    alphabet: Rc<Alphabet>,
    engine: Engine,
    engine_wake: Option<Instant>,
    callers: Vec<CallerSlot>,
    slots: BTreeMap<CallId, Slot>,
    by_port: BTreeMap<SocketAddr, CallId>,
    released: BTreeMap<u16, Instant>,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
    /// Calls that Tandem places, by the Call-ID that it chose.
    placed: BTreeMap<String, usize>,
    ports: Ports,
    sip: SipChecks,
    timers: Timers,
    ledger: Ledger,
    findings: Findings,
    trace: Trace,
    marks: Marks,
    sabotage: Sabotage,
    rtp_in: u64,
    rtp_out: u64,
    routing_version: u64,
    drained: bool,
    broken: bool,
    buffer: Vec<u8>,
}

impl World {
    /// A world in which nothing has happened yet.
    pub fn new(plan: Plan, planted: Option<Planted>) -> Self {
        let start = Instant::now();
        let mut dice = Dice::new(plan.seed ^ 0x5eed_0f7a_2de5);
        let mut config = EngineConfig::default();
        if let Some(most) = plan.calls_max {
            config.admission.max_calls = most as u32;
        }
        let engine = Engine::new(config, plan.seed, start, UNIX_MS);
        let alphabet = Rc::new(Alphabet::new());
        let mut world = Self {
            start,
            now: start,
            queue: BTreeMap::new(),
            sequence: 0,
            alphabet,
            engine,
            engine_wake: None,
            callers: Vec::new(),
            slots: BTreeMap::new(),
            by_port: BTreeMap::new(),
            released: BTreeMap::new(),
            connections: BTreeMap::new(),
            next_connection: 1,
            placed: BTreeMap::new(),
            ports: Ports {
                count: plan.ports,
                rest: if planted == Some(Planted::ReusesPort) { Duration::ZERO } else { plan.port_rest },
                resting: BTreeMap::new(),
                used: BTreeMap::new(),
            },
            sip: SipChecks::default(),
            timers: Timers::default(),
            ledger: Ledger::new(start, UNIX_MS),
            findings: Findings::new(start),
            trace: Trace::new(start),
            marks: Marks::default(),
            sabotage: Sabotage::new(planted),
            rtp_in: 0,
            rtp_out: 0,
            routing_version: 1,
            drained: false,
            broken: false,
            buffer: Vec::new(),
            dice: dice.fork(),
            plan,
        };
        world.populate(&mut dice);
        world
    }

    fn populate(&mut self, dice: &mut Dice) {
        for (index, call) in self.plan.calls.clone().into_iter().enumerate() {
            let carrier = &self.plan.carriers[call.carrier];
            let ip = Plan::carrier_ip(call.carrier);
            let contact = SocketAddr::new(ip, 5062 + 2 * index as u16);
            let proxied = call.proxied.then(|| SocketAddr::new(ip, 5060));
            let rtp = SocketAddr::new(ip, 12_000 + 2 * index as u16);
            let place = Place { local: contact, contact, proxy: proxied, rtp, tandem: TANDEM_SIP };
            let (sip_profile, rtp_profile) = (carrier.sip.clone(), carrier.rtp.clone());
            let start = self.start + call.start;
            let caller = Caller::new(index, call, place, Rc::clone(&self.alphabet), dice.fork(), self.start);
            self.callers.push(CallerSlot {
                caller,
                to_tandem: Link::new(sip_profile.clone(), dice.fork()),
                to_carrier: Link::new(sip_profile, dice.fork()),
                rtp: Link::new(rtp_profile.clone(), dice.fork()),
                rtp_back: Link::new(rtp_profile, dice.fork()),
                connection: None,
                wake: None,
                lost: BTreeMap::new(),
                sources: Vec::new(),
                facts: CallFacts::default(),
            });
            self.at(start, Event::Call(index));
        }
        for cut in self.plan.cuts.clone() {
            let (from, until) = (self.start + cut.from, self.start + cut.from + cut.lasts);
            for slot in self.callers.iter_mut().filter(|slot| slot.caller.plan.carrier == cut.carrier) {
                let link = match (cut.is_rtp, cut.to_tandem) {
                    (true, true) => &mut slot.rtp,
                    (true, false) => &mut slot.rtp_back,
                    (false, true) => &mut slot.to_tandem,
                    (false, false) => &mut slot.to_carrier,
                };
                link.block(from, until);
            }
        }
        for (index, (after, _)) in self.plan.operator.clone().into_iter().enumerate() {
            self.at(self.start + after, Event::Operator(index));
        }
        self.at(self.start + self.plan.heal_at, Event::Heal);
    }

    /// Lets everything happen, and tells what was seen.
    pub fn run(mut self) -> Report {
        let watch = log_watch::begin();
        let table = operator::routing(&self.plan, self.routing_version, true);
        self.feed(Input::Routing(table));
        let limit = self.start + self.plan.heal_at + PATIENCE;
        let mut steps = 0_u64;
        let mut standing = 0_u32;
        while let Some(((at, _), event)) = self.queue.pop_first() {
            if at > limit || self.broken {
                break;
            }
            standing = if at > self.now { 0 } else { standing + 1 };
            if standing > STANDING_MAX {
                let detail = format!("{standing} steps and time does not move: {event:?}");
                self.findings.note("panic", at, "", detail);
                break;
            }
            self.now = at;
            self.step(event);
            for error in log_watch::take() {
                self.findings.note("error-log", self.now, "", error);
            }
            steps += 1;
            if steps.is_multiple_of(256) {
                self.sip.sweep(self.now, &mut self.findings);
                self.timers.sweep(self.now, &mut self.findings);
                if self.is_quiet() {
                    break;
                }
            }
        }
        drop(watch);
        self.finish()
    }

    fn at(&mut self, at: Instant, event: Event) {
        self.sequence += 1;
        self.queue.insert((at.max(self.now), self.sequence), event);
    }

    fn step(&mut self, event: Event) {
        match event {
            Event::Call(caller) => self.begin(caller),
            Event::CallerWake(caller) => self.wake_caller(caller),
            Event::Operator(index) => self.operate(index),
            Event::Heal => self.heal(),
            Event::EngineWake => self.wake_engine(),
            Event::Datagram { flow, payload } => self.arrive_datagram(flow, payload),
            Event::StreamOpened(connection) => self.open_stream(connection),
            Event::Chunk { connection, payload } => self.arrive_chunk(connection, payload),
            Event::StreamClosed(flow) => self.feed(Input::StreamClosed { flow }),
            Event::Transmit { payload, target, shift } => self.depart(&target, payload, shift),
            Event::SipToCarrier { caller, payload } => self.deliver(caller, &payload),
            Event::SipToGateway { caller, gateway, payload } => {
                self.deliver_to_gateway(caller, gateway, &payload);
            }
            Event::TransmitFailed(transmit) => self.feed(Input::TransmitFailed { transmit }),
            Event::LookedUp { call, ways } => self.looked_up(call, ways),
            Event::ChunkToCarrier { connection, payload } => self.deliver_chunk(connection, &payload),
            Event::Rtp { to, source, payload } => self.arrive_rtp(to, source, &payload),
            Event::ReportToCaller { caller, payload } => {
                self.callers[caller].caller.hear_report(self.now, &payload);
            }
            Event::FindRoute { ticket, keys } => {
                let found = operator::route_of(&self.plan, &keys);
                self.feed(Input::RouteFound { ticket, found });
            }
            Event::Bind(call) => self.bind(call),
            Event::Dialled(call) => self.dialled(call),
            Event::DialFailed(call) => self.dial_failed(call),
            Event::FromBridge { call, event } => self.feed(Input::Bridge { call, event }),
            Event::BridgeClosed { call, statistics } => self.bridge_closed(call, statistics),
            Event::BridgeWake(call) => self.wake_bridge(call),
            Event::AgentWake(call) => self.wake_agent(call),
            Event::ToAgent { call, said } => self.tell_agent(call, &said),
            Event::ToBridge { call, piece } => self.tell_bridge(call, piece),
            Event::Leave { call, kind, bytes, droppable } => {
                self.leave_to_agent(call, kind, bytes, droppable)
            }
            Event::StrayRtp { call_id, to, bytes, port } => self.stray_rtp(&call_id, to, &bytes, port),
        }
    }

    /// Feeds the engine one input and does all it asks for.
    fn feed(&mut self, input: Input) {
        if self.broken {
            return;
        }
        let (engine, now) = (&mut self.engine, self.now);
        let outcome = catch_unwind(AssertUnwindSafe(|| {
            engine.handle(now, input);
            let mut outputs = Vec::new();
            while let Some(output) = engine.poll_output() {
                outputs.push(output);
            }
            (outputs, engine.poll_timeout())
        }));
        let Ok((outputs, timeout)) = outcome else {
            self.findings.note("panic", self.now, "", "the engine panicked");
            self.broken = true;
            return;
        };
        for output in outputs {
            self.take(output);
        }
        let Some((at, reason)) = timeout else { return };
        if at <= self.now {
            self.findings.note(
                "panic",
                self.now,
                "",
                format!("the engine's deadline does not move: {reason}"),
            );
            self.broken = true;
        }
        if self.engine_wake.is_none_or(|wake| at < wake || wake <= self.now) {
            self.engine_wake = Some(at);
            self.at(at, Event::EngineWake);
        }
    }

    fn wake_engine(&mut self) {
        if self.engine_wake.is_none_or(|wake| wake > self.now) {
            return;
        }
        self.engine_wake = None;
        if self.sabotage.planted() == Some(Planted::LosesTimers)
            && self.now > self.start + Duration::from_secs(2)
        {
            return;
        }
        if self.engine.poll_timeout().is_some_and(|(at, _)| at <= self.now) {
            self.feed(Input::Timeout);
        } else if let Some((at, _)) = self.engine.poll_timeout() {
            self.engine_wake = Some(at);
            self.at(at, Event::EngineWake);
        }
    }

    fn begin(&mut self, caller: usize) {
        if self.callers[caller].caller.plan.ordered.is_some() {
            return self.order(caller);
        }
        if self.callers[caller].caller.plan.transport != Transport::Udp {
            self.connect(caller);
        }
        let mut deeds = Vec::new();
        let now = self.now;
        self.callers[caller].caller.begin(now, &mut deeds);
        self.callers[caller].facts.expected_decision =
            Some(crate::model::expected(&self.plan, &self.plan.calls[caller]));
        self.perform(caller, deeds);
    }

    fn wake_caller(&mut self, caller: usize) {
        let slot = &mut self.callers[caller];
        if slot.wake.is_none_or(|wake| wake > self.now) {
            return;
        }
        slot.wake = None;
        let mut deeds = Vec::new();
        slot.caller.handle_timeout(self.now, &mut deeds);
        self.perform(caller, deeds);
    }

    /// Does what a caller does, and sees that it wakes again.
    fn perform(&mut self, caller: usize, deeds: Vec<Deed>) {
        for deed in deeds {
            match deed {
                Deed::Sip(payload) => self.send_from_carrier(caller, payload),
                Deed::Stranger(payload) => self.send_from_stranger(payload),
                Deed::Rtp { from, to, payload } => self.send_rtp(caller, from, to, &payload),
                Deed::StrangerRtp { to, payload } => {
                    let source = SocketAddr::new(crate::swarm::STRANGER.ip(), 40_000);
                    self.at(self.now, Event::Rtp { to, source, payload });
                }
                Deed::Gateway { gateway, payload } => self.send_from_gateway(caller, gateway, payload),
                Deed::Reset => self.reset(caller),
            }
        }
        let slot = &mut self.callers[caller];
        if let Some(at) = slot.caller.wake()
            && slot.wake.is_none_or(|wake| at < wake || wake <= self.now)
        {
            slot.wake = Some(at.max(self.now));
            self.at(at, Event::CallerWake(caller));
        }
    }

    fn operate(&mut self, index: usize) {
        let Some((_, act)) = self.plan.operator.get(index).cloned() else { return };
        self.trace.note(self.now, "", format!("operator: {act:?}"));
        match act {
            OperatorAct::Reload | OperatorAct::Unplug => {
                self.routing_version += 1;
                let table = operator::routing(&self.plan, self.routing_version, act == OperatorAct::Reload);
                if !self.slots.is_empty() {
                    self.marks.hit(Mark::SwapInCall);
                }
                if act == OperatorAct::Unplug {
                    self.marks.hit(Mark::Unplugged);
                    self.sip.is_table_swapped = true;
                }
                self.feed(Input::Routing(table));
            }
            OperatorAct::Restart => self.feed(Input::RoutingFollows),
            OperatorAct::HangUp(caller) => {
                if let Some(call) = self.call_of(caller) {
                    let as_what = tandem_call::HangUpCommand::Stop;
                    self.feed(Input::Command(tandem_call::Command::HangUp { call, as_what }));
                }
            }
            OperatorAct::SendDigits(caller) => {
                if let Some(call) = self.call_of(caller) {
                    let digits = "42#".to_owned();
                    self.feed(Input::Command(tandem_call::Command::SendDtmf {
                        call,
                        digits,
                        duration_ms: 160,
                    }));
                }
            }
            OperatorAct::Drain(after) => {
                self.drained = true;
                self.feed(Input::Drain { until: self.now + after });
            }
        }
    }

    fn call_of(&self, caller: usize) -> Option<CallId> {
        if self.callers.get(caller).is_some_and(|slot| slot.caller.plan.ordered.is_some()) {
            return Some(orders::call_id(caller));
        }
        self.slots.iter().find(|(_, slot)| slot.caller == caller).map(|(call, _)| *call)
    }

    fn heal(&mut self) {
        self.trace.note(self.now, "", "the network is healed".into());
        for slot in &mut self.callers {
            slot.to_tandem.heal();
            slot.to_carrier.heal();
            slot.rtp.heal();
            slot.rtp_back.heal();
        }
    }

    /// Whether nothing is left but idle timers.
    fn is_quiet(&self) -> bool {
        self.now > self.start + self.plan.heal_at
            && self.slots.is_empty()
            && self.callers.iter().all(|slot| slot.caller.is_over() && !slot.caller.is_waiting())
            && self.leftovers(true).is_none()
    }

    /// What the engine still holds, connections left aside that only wait for their peers where `besides_streams`.
    fn leftovers(&self, besides_streams: bool) -> Option<String> {
        let mut census = self.engine.census();
        if besides_streams && census.endpoint.streams > 0 {
            (census.endpoint.streams, census.endpoint.timers) = (0, 0);
        }
        (census != tandem_call::Census::default()).then(|| format!("{census:?}"))
    }

    /// The peers close their connections.
    fn hang_up_streams(&mut self) {
        let open: Vec<Flow> =
            self.connections.values().filter(|one| one.is_open).map(|one| one.flow).collect();
        for flow in open {
            self.feed(Input::StreamClosed { flow });
        }
    }
}
