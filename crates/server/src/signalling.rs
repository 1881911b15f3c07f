//! The one task that owns the engine.
//!
//! What arrives from sockets, media threads, dialled agents, resolvers and the API is handed to the engine in
//! order of arrival, a bounded share at a time; after each input everything the engine wants is carried out
//! before the next. There is one timer: the engine's next deadline. Every queue into this task is bounded by
//! those who write to it. A fault while one input is worked on is contained and counted.
//!
//! Refuses to decide anything about a call: no SIP status and no media address is chosen here.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use tandem_call::{
    AgentFailure, BridgeFailure, CallId, Census, Command, Engine, HangUpCommand, Input, Output,
    bridge::{AgentPlan, BridgePlan},
};
use tandem_sip::{Flow, Target, Transmit, TransmitId, Transport};
use tokio::{
    sync::mpsc,
    task::{AbortHandle, JoinHandle},
    time::{MissedTickBehavior, interval, sleep_until},
};

use crate::{
    api::CallCommand,
    clock,
    journal::Journal,
    ladders::Ladders,
    media::{Media, MediaEvent},
    net::{
        local_address::LocalAddresses,
        resolve,
        tcp::{Connection, Connections, Outgoing},
        udp::UdpListeners,
        ws_connect::{Connected, DialError, DialRequest, Dialler},
    },
    routing::TableUpdate,
    telemetry,
};

/// Messages from the network that may wait.
pub const NETWORK_QUEUE: usize = 4_096;
/// Messages from the network worked on before timers and media have their turn.
const NETWORK_BATCH: usize = 64;
/// Requests of the API that may wait.
const CONTROL_QUEUE: usize = 256;
/// Finished dials and look-ups that may wait; each is announced by a task of its own, which waits.
const RESULT_QUEUE: usize = 256;
/// Names looked up at once.
const LOOKUPS: usize = 64;
/// How long a look-up may take.
const LOOKUP_TIME: Duration = Duration::from_secs(3);
/// How long an answer of the resolver is used, and how many are kept.
const LOOKUP_KEPT: (Duration, usize) = (Duration::from_secs(30), 1_024);
/// How often queues and ports are looked after.
const ATTENDANCE: Duration = Duration::from_millis(100);

/// What sockets tell signalling.
#[derive(Debug)]
pub enum NetInput {
    /// A datagram.
    Datagram {
        /// Its way.
        flow: Flow,
        /// Its bytes.
        payload: Bytes,
    },
    /// A connection stands.
    StreamOpened {
        /// Its way.
        flow: Flow,
        /// Our end of it, if the peer opened it.
        connection: Option<Connection>,
    },
    /// Bytes of a connection.
    StreamData {
        /// Its way.
        flow: Flow,
        /// The bytes.
        payload: Bytes,
    },
    /// A connection is gone.
    StreamClosed {
        /// Its way.
        flow: Flow,
    },
    /// A message could not be sent.
    TransmitFailed {
        /// Which.
        id: TransmitId,
    },
}

/// What the rest of the process asks of signalling.
#[derive(Debug)]
enum Control {
    Drain { until: Instant },
    Stop,
}

/// Signalling has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server is shutting down")]
pub struct Ended;

/// Speaks to the signalling task. Cheap to clone.
#[derive(Debug, Clone)]
pub struct SignallingHandle {
    control: mpsc::Sender<Control>,
    gauges: Arc<Gauges>,
}

impl SignallingHandle {
    /// Refuses new calls from now on and ends those that remain at `until`.
    ///
    /// # Errors
    /// [`Ended`].
    pub async fn drain(&self, until: Instant) -> Result<(), Ended> {
        self.control.send(Control::Drain { until }).await.map_err(|_| Ended)
    }

    /// Ends the task.
    pub async fn stop(&self) {
        let _ = self.control.send(Control::Stop).await;
    }

    /// Calls open at this moment.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.gauges.calls.load(Ordering::Relaxed)
    }

    /// Whether new calls are refused.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.gauges.is_draining.load(Ordering::Relaxed)
    }

    /// What signalling counts.
    #[must_use]
    pub fn gauges(&self) -> Arc<Gauges> {
        Arc::clone(&self.gauges)
    }
}

/// A copy of what the engine counted and holds.
#[derive(Debug, Clone, Default)]
pub struct EngineCounts {
    /// The engine.
    pub calls: tandem_call::Counters,
    /// Its SIP endpoint.
    pub sip: tandem_sip::Counters,
    /// What both hold.
    pub held: Census,
}

/// What signalling counts for others to read.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Calls open now, those included whose record is not written yet.
    pub calls: AtomicUsize,
    /// Calls whose agent is being dialled.
    pub dialling: AtomicUsize,
    /// Inputs handed to the engine.
    pub inputs: AtomicU64,
    /// Inputs whose working ended in a fault of ours.
    pub panics: AtomicU64,
    /// Messages that could not be sent.
    pub transmit_failures: AtomicU64,
    /// Calls that ended, each with its record.
    pub records: AtomicU64,
    /// Verdicts given.
    pub verdicts: AtomicU64,
    /// Longest time one turn of the task took, in microseconds.
    pub longest_turn_us: AtomicU64,
    /// What the engine counted and holds; copied now and then.
    pub engine: Mutex<EngineCounts>,
    /// New calls are refused.
    pub is_draining: AtomicBool,
}

/// What signalling is made of.
#[derive(Debug)]
pub struct Parts {
    /// The engine.
    pub engine: Engine,
    /// The media threads.
    pub media: Media,
    /// Their reports.
    pub media_events: mpsc::Receiver<MediaEvent>,
    /// UDP listeners.
    pub udp: UdpListeners,
    /// Stream connections.
    pub connections: Connections,
    /// What sockets report.
    pub network: mpsc::Receiver<NetInput>,
    /// Dials agents.
    pub dialler: Dialler,
    /// Takes records and verdicts.
    pub journal: Journal,
    /// Keeps the ladders of calls that ended.
    pub ladders: Arc<Ladders>,
    /// New routing tables.
    pub tables: mpsc::Receiver<TableUpdate>,
    /// What the API wants done.
    pub commands: mpsc::Receiver<CallCommand>,
    /// The address written into SDP, if it is not the local one.
    pub media_address: Option<IpAddr>,
    /// For the bridges' random numbers.
    pub seed: u64,
}

struct Dialled {
    call: CallId,
    outcome: Result<Connected, DialError>,
}

struct Resolved {
    transport: Transport,
    name: (String, u16),
    addresses: Vec<SocketAddr>,
    waiting: Outgoing,
}

/// What signalling keeps of a call.
struct Call {
    /// Dialled when the ports are bound.
    agent: Option<AgentPlan>,
    dial: Option<AbortHandle>,
    span: tracing::Span,
}

struct Signalling {
    parts: Parts,
    control: mpsc::Receiver<Control>,
    dialled: (mpsc::Sender<Dialled>, mpsc::Receiver<Dialled>),
    resolved: (mpsc::Sender<Resolved>, mpsc::Receiver<Resolved>),
    calls: BTreeMap<CallId, Call>,
    names: BTreeMap<(String, u16), (Instant, Vec<SocketAddr>)>,
    lookups: usize,
    locals: LocalAddresses,
    gauges: Arc<Gauges>,
    seeds: u64,
    /// Inputs that arose while the engine's outputs were being carried out; as many as those at most.
    pending: VecDeque<Input>,
    is_working: bool,
    is_stopped: bool,
}

/// Starts the signalling task.
#[must_use]
pub fn start(parts: Parts) -> (SignallingHandle, JoinHandle<()>) {
    let (sender, control) = mpsc::channel(CONTROL_QUEUE);
    let gauges = Arc::new(Gauges::default());
    let signalling = Signalling {
        seeds: parts.seed,
        parts,
        control,
        dialled: mpsc::channel(RESULT_QUEUE),
        resolved: mpsc::channel(RESULT_QUEUE),
        calls: BTreeMap::new(),
        names: BTreeMap::new(),
        lookups: 0,
        locals: LocalAddresses::new(),
        gauges: Arc::clone(&gauges),
        pending: VecDeque::new(),
        is_working: false,
        is_stopped: false,
    };
    let task = tokio::spawn(signalling.run());
    (SignallingHandle { control: sender, gauges }, task)
}

impl Signalling {
    async fn run(mut self) {
        let mut attendance = interval(ATTENDANCE);
        attendance.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(NETWORK_BATCH);
        while !self.is_stopped {
            let deadline = self.parts.engine.poll_timeout().map(|(at, _)| at);
            let due = deadline.unwrap_or_else(|| clock::now() + Duration::from_secs(3_600));
            // Rare and small queues first; the network, where a flood may come from, is read in batches, so
            // that nothing else starves.
            tokio::select! {
                biased;
                () = sleep_until(due.into()) => self.engine(Input::Timeout),
                Some(control) = self.control.recv() => self.control(control),
                Some(update) = self.parts.tables.recv() => {
                    self.engine(Input::Routing(update.table));
                    // Whoever waited may have given up; the table is in force all the same.
                    let _ = update.taken.send(());
                }
                Some(command) = self.parts.commands.recv() => self.engine(Input::Command(command_of(command))),
                Some(event) = self.parts.media_events.recv() => self.media(event),
                Some(dialled) = self.dialled.1.recv() => self.dialled(dialled),
                Some(resolved) = self.resolved.1.recv() => self.resolved(resolved),
                taken = self.parts.network.recv_many(&mut batch, NETWORK_BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    let began = clock::now();
                    for input in batch.drain(..) {
                        self.network(input);
                    }
                    let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    self.gauges.longest_turn_us.fetch_max(took, Ordering::Relaxed);
                }
                _ = attendance.tick() => self.attend(),
            }
        }
        self.parts.connections.abort_all();
    }

    fn network(&mut self, input: NetInput) {
        match input {
            NetInput::Datagram { flow, payload } => self.engine(Input::Datagram { flow, payload }),
            NetInput::StreamOpened { flow, connection } => {
                if let Some(connection) = connection {
                    self.parts.connections.opened(flow, connection);
                }
                self.engine(Input::StreamOpened { flow });
            }
            NetInput::StreamData { flow, payload } => self.engine(Input::StreamData { flow, payload }),
            NetInput::StreamClosed { flow } => {
                self.parts.connections.closed(flow);
                self.engine(Input::StreamClosed { flow });
            }
            NetInput::TransmitFailed { id } => self.transmit_failed(id),
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Drain { until } => {
                self.gauges.is_draining.store(true, Ordering::Relaxed);
                self.engine(Input::Drain { until });
            }
            Control::Stop => self.is_stopped = true,
        }
    }

    fn media(&mut self, event: MediaEvent) {
        match event {
            MediaEvent::Opened { call, rtp } => {
                self.engine(Input::BridgeOpened { call, rtp });
                self.dial(call);
            }
            MediaEvent::Failed { call, cause } => self.engine(Input::BridgeFailed { call, cause }),
            MediaEvent::Bridge { call, event } => self.engine(Input::Bridge { call, event }),
            MediaEvent::Closed { call, statistics } => {
                telemetry::measure_bridge(&statistics);
                self.engine(Input::BridgeClosed { call, statistics });
            }
        }
    }

    fn dialled(&mut self, dialled: Dialled) {
        let Dialled { call, outcome } = dialled;
        self.gauges.dialling.fetch_sub(1, Ordering::Relaxed);
        let Some(known) = self.calls.get_mut(&call) else {
            return;
        };
        known.dial = None;
        match outcome {
            Ok(connected) => {
                tracing::debug!(parent: &known.span, peer = %connected.peer, "the agent is connected");
                // The media thread takes commands in order, so it holds the socket before it is told to start.
                self.parts.media.attach(call, connected);
                self.engine(Input::AgentConnected { call });
            }
            Err(error) => {
                tracing::info!(parent: &known.span, %error, "the agent was not reached");
                self.engine(Input::AgentRefused { call, cause: failure_of(&error) });
            }
        }
    }

    fn resolved(&mut self, resolved: Resolved) {
        let Resolved { transport, name, addresses, waiting } = resolved;
        self.lookups -= 1;
        let first = addresses.first().copied();
        if !addresses.is_empty() {
            if self.names.len() >= LOOKUP_KEPT.1 {
                self.names.clear();
            }
            self.names.insert(name, (clock::now() + LOOKUP_KEPT.0, addresses));
        }
        match first {
            Some(remote) => self.send_to(transport, None, remote, waiting),
            None => self.transmit_failed(waiting.id),
        }
    }

    fn attend(&mut self) {
        self.parts.media.attend(clock::now());
        let engine = &self.parts.engine;
        *self.gauges.engine.lock().unwrap_or_else(PoisonError::into_inner) = EngineCounts {
            calls: engine.counters().clone(),
            sip: *engine.sip_counters(),
            held: engine.census(),
        };
    }

    /// Hands the engine one input and carries out what it wants, before the next input that may arise from
    /// that.
    fn engine(&mut self, input: Input) {
        self.pending.push_back(input);
        if self.is_working {
            return;
        }
        self.is_working = true;
        while let Some(input) = self.pending.pop_front() {
            self.gauges.inputs.fetch_add(1, Ordering::Relaxed);
            let engine = &mut self.parts.engine;
            // The engine is one `&mut` owner without global state; an input that fails half-way leaves at
            // worst its own call behind, which the timers of the others do not depend on.
            if catch_unwind(AssertUnwindSafe(|| engine.handle(clock::now(), input))).is_err() {
                self.gauges.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!("an input ended in a fault of the engine");
            }
            while let Some(output) = self.parts.engine.poll_output() {
                self.carry_out(output);
            }
        }
        self.is_working = false;
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(transmit) => self.transmit(transmit),
            Output::OpenBridge { call, plan } => self.open(call, *plan),
            Output::Bridge { call, command } => self.parts.media.command(call, command),
            Output::CloseBridge { call } => self.close(call),
            Output::Progress(record) => self.parts.journal.progress(*record),
            Output::Record(record) => {
                if let Some(ended) = self.calls.remove(&record.id) {
                    let _entered = ended.span.enter();
                    tracing::info!(
                        status = record.status.as_str(),
                        duration_ms = record.duration_ms(),
                        sip_status = record.sip_status,
                        "call ended"
                    );
                }
                telemetry::measure_call(&record);
                self.gauges.records.fetch_add(1, Ordering::Relaxed);
                self.gauges.calls.store(self.calls.len(), Ordering::Relaxed);
                self.parts.journal.record(*record);
            }
            Output::Verdict(verdict) => {
                self.gauges.verdicts.fetch_add(1, Ordering::Relaxed);
                self.parts.journal.verdict(*verdict);
            }
            Output::Ladder { call, account, rungs } => self.parts.ladders.keep(call, account, rungs),
        }
    }

    fn open(&mut self, call: CallId, plan: BridgePlan) {
        let span = tracing::info_span!("call", execution_id = %call, account = %plan.account);
        tracing::info!(parent: &span, "call begins");
        let agent = Some(plan.agent.clone());
        self.calls.insert(call, Call { agent, dial: None, span });
        self.gauges.calls.store(self.calls.len(), Ordering::Relaxed);
        let peer = plan.media.as_ref().map_or(plan.peer, |media| media.remote.ip());
        // On hold the peer may name 0.0.0.0 (RFC 3264 section 8.4); its signalling address tells the way.
        let peer = if peer.is_unspecified() { plan.peer } else { peer };
        let wildcard: IpAddr =
            if peer.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let public = self.parts.media_address.filter(|public| public.is_ipv4() == peer.is_ipv4());
        let advertised = match public {
            Some(public) => Ok(public),
            None => self
                .locals
                .towards(SocketAddr::new(wildcard, 0), peer, clock::now())
                .map(|address| address.ip()),
        };
        match advertised {
            Ok(advertised) => {
                self.seeds = self.seeds.wrapping_add(0x9E37_79B9_7F4A_7C15);
                let seed = self.seeds;
                self.parts.media.open(plan, wildcard, advertised, seed);
            }
            Err(error) => {
                tracing::warn!(execution_id = %call, %peer, %error, "there is no route to the caller's media");
                self.engine(Input::BridgeFailed { call, cause: BridgeFailure::System });
            }
        }
    }

    fn close(&mut self, call: CallId) {
        if let Some(known) = self.calls.get_mut(&call) {
            known.agent = None;
            if let Some(dial) = known.dial.take() {
                dial.abort();
                self.gauges.dialling.fetch_sub(1, Ordering::Relaxed);
            }
        }
        if self.parts.media.holds(call) {
            self.parts.media.close(call);
        } else {
            self.engine(Input::BridgeClosed { call, statistics: Box::default() });
        }
    }

    /// Dials the call's agent, and its fallback if the first cannot be reached.
    fn dial(&mut self, call: CallId) {
        let Some(known) = self.calls.get_mut(&call) else {
            return;
        };
        let Some(agent) = known.agent.take() else {
            return;
        };
        let dialler = self.parts.dialler.clone();
        let results = self.dialled.0.clone();
        self.gauges.dialling.fetch_add(1, Ordering::Relaxed);
        let task = tokio::spawn(async move {
            let mut request =
                DialRequest { url: agent.url, headers: agent.headers, subprotocol: agent.subprotocol };
            let mut outcome = dialler.dial(&request).await;
            if let (Err(error), Some(fallback)) = (&outcome, agent.fallback_url) {
                tracing::debug!(execution_id = %call, %error, "the agent's fallback is tried");
                request.url = fallback;
                outcome = dialler.dial(&request).await;
            }
            let _ = results.send(Dialled { call, outcome }).await;
        });
        known.dial = Some(task.abort_handle());
    }

    fn transmit(&mut self, transmit: Transmit) {
        let Transmit { id, target, payload } = transmit;
        let outgoing = Outgoing { id, payload };
        match target {
            Target::Flow(flow) if flow.connection != 0 => {
                if self.parts.connections.send(flow, outgoing).is_err() {
                    self.transmit_failed(id);
                }
            }
            Target::Flow(flow) => self.send_to(flow.transport, Some(flow.local), flow.remote, outgoing),
            Target::Address { transport, local, remote } => self.send_to(transport, local, remote, outgoing),
            Target::Name { transport, host, port } => {
                let port = port.unwrap_or_else(|| transport.default_port());
                self.send_to_name(transport, (host, port), outgoing);
            }
            Target::Close(flow) => self.parts.connections.close(flow),
        }
    }

    fn send_to(
        &mut self,
        transport: Transport,
        local: Option<SocketAddr>,
        remote: SocketAddr,
        outgoing: Outgoing,
    ) {
        let id = outgoing.id;
        let sent = match transport {
            Transport::Udp => self.parts.udp.send(local, remote, &outgoing.payload).is_ok(),
            Transport::Tcp => self.parts.connections.send_to(remote, outgoing).is_ok(),
            // No TLS connection is ever opened; one that a peer opened is addressed by its flow.
            Transport::Tls => false,
        };
        if !sent {
            self.transmit_failed(id);
        }
    }

    fn send_to_name(&mut self, transport: Transport, name: (String, u16), outgoing: Outgoing) {
        if let Some((until, addresses)) = self.names.get(&name)
            && *until > clock::now()
            && let Some(remote) = addresses.first().copied()
        {
            self.send_to(transport, None, remote, outgoing);
            return;
        }
        if self.lookups >= LOOKUPS {
            self.transmit_failed(outgoing.id);
            return;
        }
        self.lookups += 1;
        let results = self.resolved.0.clone();
        tokio::spawn(async move {
            let addresses = resolve::lookup(&name.0, name.1, LOOKUP_TIME).await.unwrap_or_default();
            let _ = results.send(Resolved { transport, name, addresses, waiting: outgoing }).await;
        });
    }

    fn transmit_failed(&mut self, id: TransmitId) {
        self.gauges.transmit_failures.fetch_add(1, Ordering::Relaxed);
        self.engine(Input::TransmitFailed { transmit: id });
    }
}

/// The engine's word for what the API wants.
fn command_of(command: CallCommand) -> Command {
    match command {
        CallCommand::HangUp(call) => Command::HangUp { call, as_what: HangUpCommand::Stop },
        CallCommand::Complete(call) => Command::HangUp { call, as_what: HangUpCommand::Complete },
    }
}

/// The engine's word for a failed dial.
fn failure_of(error: &DialError) -> AgentFailure {
    match error {
        DialError::Url(_) | DialError::Header(_) => AgentFailure::BadUrl,
        DialError::Resolve { .. } => AgentFailure::NameUnknown,
        DialError::Fenced { .. } => AgentFailure::Forbidden,
        DialError::Connect { .. } | DialError::Dropped { .. } => AgentFailure::Unreachable,
        DialError::Tls { .. } => AgentFailure::Tls,
        DialError::Status { status, .. } => AgentFailure::Status(*status),
        DialError::Upgrade(_) => AgentFailure::NotWebSocket,
        DialError::Timeout(_) => AgentFailure::Timeout,
    }
}
