//! The one task that owns the engine.
//!
//! What arrives from sockets, media threads, dialled agents, resolvers and the API is handed to the engine in
//! order of arrival, a bounded share at a time; after each input everything the engine wants is carried out
//! before the next. There is one timer: the engine's next deadline. Every queue into this task is bounded by
//! those who write to it. A fault while one input is worked on is contained and counted.
//!
//! Refuses to decide anything about a call: no SIP status and no media address is chosen here.

mod handle;
mod media_path;
mod routes;
mod sending;
mod ways;

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tandem_call::{CallId, CallRecord, Command, Engine, HangUpCommand, Input, NoRoom, Output};
use tandem_sip::{Flow, TransmitId};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, sleep_until},
};

use crate::{
    api::CallCommand,
    clock,
    dialling::Placed,
    gateway_health::GatewayHealths,
    journal::Journal,
    ladders::Ladders,
    media::{Media, MediaEvent},
    net::{
        local_address::LocalAddresses,
        post::Poster,
        resolve::SipResolver,
        tcp::{Connection, Connections},
        udp::UdpListeners,
        ws_connect::Dialler,
    },
    registrations::Registrations,
    routing::TableUpdate,
    store::Store,
    telemetry,
};

pub use self::handle::{Ended, EngineCounts, Gauges, SignallingHandle};
use self::{
    handle::Control,
    media_path::{Call, Dialled},
    routes::Routes,
    ways::{Asker, Locations, LookedUp},
};

/// Messages from the network that may wait.
pub const NETWORK_QUEUE: usize = 4_096;
/// Messages from the network worked on before timers and media have their turn.
const NETWORK_BATCH: usize = 64;
/// Requests of the API that may wait.
const CONTROL_QUEUE: usize = 256;
/// Finished dials and look-ups that may wait; each is announced by a task of its own, which waits.
const RESULT_QUEUE: usize = 256;
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
    /// Looks for SIP servers by name.
    pub resolver: Arc<SipResolver>,
    /// Dials agents.
    pub dialler: Dialler,
    /// Asks agents' owners who a caller is.
    pub callers: Poster,
    /// Takes records and verdicts.
    pub journal: Journal,
    /// Keeps the ladders of calls that ended.
    pub ladders: Arc<Ladders>,
    /// Where numbers are looked up until there is a routing table.
    pub store: Store,
    /// New routing tables.
    pub tables: mpsc::Receiver<TableUpdate>,
    /// Where SIP over TCP is taken: what gateways that we dial are told to call back.
    pub tcp_addresses: Vec<SocketAddr>,
    /// The same over TLS.
    pub tls_addresses: Vec<SocketAddr>,
    /// What is known of gateways, for the API.
    pub gateways_known: Arc<GatewayHealths>,
    /// How registrations stand, for the API.
    pub registrations_known: Arc<Registrations>,
    /// What the API wants done.
    pub commands: mpsc::Receiver<CallCommand>,
    /// The address written into SDP, if it is not the local one.
    pub media_address: Option<IpAddr>,
    /// For the bridges' random numbers.
    pub seed: u64,
}

struct Signalling {
    parts: Parts,
    control: mpsc::Receiver<Control>,
    dialled: (mpsc::Sender<Dialled>, mpsc::Receiver<Dialled>),
    looked_up: (mpsc::Sender<LookedUp>, mpsc::Receiver<LookedUp>),
    locations: Locations,
    routes: Routes,
    /// Calls that another placed, who waits for their end.
    placing: BTreeMap<CallId, oneshot::Sender<Placed>>,
    calls: BTreeMap<CallId, Call>,
    locals: LocalAddresses,
    gauges: Arc<Gauges>,
    seeds: u64,
    /// Inputs that arose while the engine's outputs were being carried out; as many as those at most.
    pending: VecDeque<Input>,
    is_working: bool,
    /// What the engine was last told of the journal.
    is_held_back: bool,
    is_stopped: bool,
}

/// Starts the signalling task.
#[must_use]
pub fn start(parts: Parts) -> (SignallingHandle, JoinHandle<()>) {
    let (sender, control) = mpsc::channel(CONTROL_QUEUE);
    let gauges = Arc::new(Gauges::default());
    let routes = Routes::new(parts.store.clone());
    let signalling = Signalling {
        seeds: parts.seed,
        locations: Locations::new(parts.seed),
        parts,
        control,
        dialled: mpsc::channel(RESULT_QUEUE),
        looked_up: mpsc::channel(RESULT_QUEUE),
        routes,
        placing: BTreeMap::new(),
        calls: BTreeMap::new(),
        locals: LocalAddresses::new(),
        gauges: Arc::clone(&gauges),
        pending: VecDeque::new(),
        is_working: false,
        is_held_back: false,
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
        self.engine(Input::RoutingFollows);
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
                    if !update.trunks.is_empty() {
                        self.engine(Input::TrunksChanged(update.trunks));
                    }
                    // Whoever waited may have given up; the table is in force all the same.
                    let _ = update.taken.send(());
                }
                Some(command) = self.parts.commands.recv() => self.command(command),
                Some(event) = self.parts.media_events.recv() => self.media(event),
                Some(dialled) = self.dialled.1.recv() => self.dialled(dialled),
                Some(looked_up) = self.looked_up.1.recv() => self.name_looked_up(looked_up),
                Some(found) = self.routes.next() => self.route_found(found),
                taken = self.parts.network.recv_many(&mut batch, NETWORK_BATCH) => {
                    if taken == 0 {
                        break;
                    }
                    let began = clock::now();
                    self.heed_journal();
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

    /// Has the engine hold new calls back while the records of others wait for the database.
    fn heed_journal(&mut self) {
        let is_behind = self.parts.journal.is_behind();
        if is_behind != self.is_held_back {
            self.is_held_back = is_behind;
            self.engine(Input::RecordsBehind(is_behind));
        }
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

    fn command(&mut self, command: CallCommand) {
        let command = match command {
            CallCommand::HangUp(call) => Command::HangUp { call, as_what: HangUpCommand::Stop },
            CallCommand::Complete(call) => Command::HangUp { call, as_what: HangUpCommand::Complete },
            CallCommand::SendDtmf { call, digits, duration_ms } => {
                Command::SendDtmf { call, digits, duration_ms }
            }
            CallCommand::Transfer { call, order } => Command::Transfer { call, order },
            CallCommand::Record { call, command } => Command::Record { call, command },
            CallCommand::RecordingFailed { call, why } => Command::RecordingFailed { call, why },
            CallCommand::MediaReport(report) => return self.parts.media.report(report),
            CallCommand::RouteTest(test) => {
                return test.answer(self.parts.engine.dry_run(&test.asked, clock::now()));
            }
        };
        self.engine(Input::Command(command));
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Drain { until, begun } => {
                self.gauges.is_draining.store(true, Ordering::Relaxed);
                self.engine(Input::Drain { until });
                // Whoever asked may have given up.
                let _ = begun.send(());
            }
            Control::Place { dial, done } => {
                self.heed_journal();
                self.placing.insert(dial.call, done);
                self.engine(Input::Place(dial));
            }
            Control::Stop => self.is_stopped = true,
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
        self.gauges.unregistering.store(self.parts.engine.unregistering(), Ordering::Relaxed);
        self.is_working = false;
    }

    /// A call is over. Its record goes to who placed it, for it may come again, or into the journal.
    fn ended(&mut self, record: CallRecord) {
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
        let Some(placer) = self.placing.remove(&record.id) else {
            return self.parts.journal.record(record);
        };
        self.parts.journal.let_go(&record);
        if let Err(Placed::Over(record)) = placer.send(Placed::Over(Box::new(record))) {
            // Nobody waits for it any more: the process is about to stop.
            self.parts.journal.record(*record);
        }
    }

    fn not_placed(&mut self, call: CallId, no_room: NoRoom) {
        if let Some(placer) = self.placing.remove(&call) {
            let NoRoom { detail: why, retry_after, .. } = no_room;
            // Who has gone will find the call in the store.
            let _ = placer.send(Placed::NoRoom { why, retry_after });
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Transmit(transmit) => self.transmit(transmit),
            Output::OpenBridge { call, plan } => self.open(call, *plan),
            Output::OpenSecond { call, peer } => self.open_second(call, peer),
            Output::Bridge { call, command } => self.parts.media.command(call, command),
            Output::CloseBridge { call } => self.close(call),
            Output::Progress(record) => self.parts.journal.progress(*record),
            Output::DialAgent { call } => self.dial(call),
            Output::FindWay { call, wanted } => self.locate(wanted, Asker::Call(call)),
            Output::Gateway { key, health } => {
                self.parts.gateways_known.set(key, health.map(|health| *health))
            }
            Output::Registration { account, trunk, status } => {
                self.parts.registrations_known.set(&account, trunk, status.map(|status| *status));
            }
            Output::NotPlaced { call, no_room } => self.not_placed(call, no_room),
            Output::FindRoute { ticket, keys } => self.find_route(ticket, keys),
            Output::Record(record) => self.ended(*record),
            Output::Verdict(verdict) => {
                self.gauges.verdicts.fetch_add(1, Ordering::Relaxed);
                self.parts.journal.verdict(*verdict);
            }
            Output::Ladder { call, account, rungs } => self.parts.ladders.keep(call, account, rungs),
        }
    }
}
