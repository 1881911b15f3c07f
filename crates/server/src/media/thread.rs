//! A media thread: a plain loop over readiness and time that owns its calls.
//!
//! Sockets are edge-triggered; a call that uses up its budget is put on a list and goes on after the others
//! had their turn. Time is a wheel of one-millisecond slots with absolute deadlines; the calls of a thread
//! are spread over the twenty slots of a frame, so that no millisecond carries them all. A fault within one
//! call ends that call alone.

use std::{
    collections::{BTreeMap, VecDeque},
    net::{IpAddr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use tandem_call::{
    BridgeFailure, CallId,
    bridge::{AgentHangUpCause, AgentSocketEnd, BridgeCommand, BridgeEvent, BridgePlan, BridgeStatistics},
};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{
    agent_socket::{AgentSocket, Received},
    call::{Call, Left, Readiness, WORKSPACE_BYTES, Workspace},
    counters::MediaCounters,
    ports::{PortError, PortPair, Ports},
    wheel::Wheel,
};
use crate::{clock, net::ws_connect::Connected};

/// Readiness events taken at once.
const EVENTS: usize = 1_024;
/// Commands taken in one wakeup.
const COMMANDS: usize = 64;
/// Slots of a frame.
const FRAME_SLOTS: usize = 20;
/// Events that may wait for a slow signalling task.
const WAITING_EVENTS: usize = 16_384;
/// How long a closed agent's socket is kept for its answer to our close frame (RFC 6455 section 7.1.1).
const LINGER: Duration = Duration::from_secs(2);
/// Calls from which on packets are gathered for up to a millisecond: at this number a packet comes more often
/// than that on average, and the delay buys a fraction of the wakeups. Below it each packet is served at once.
const GATHER_FROM: usize = 20;
/// Longest sleep while signalling is behind with our events.
const RETRY: Duration = Duration::from_millis(2);
/// Longest sleep without anything due.
const IDLE: Duration = Duration::from_millis(500);

/// Token of the waker.
pub(super) const WAKE: Token = Token(usize::MAX - 1);
const RTP: usize = 0;
const RTCP: usize = 1;
const AGENT: usize = 2;
const KINDS: usize = 4;

/// What signalling tells a media thread.
#[derive(Debug)]
pub(super) enum MediaCommand {
    /// Bind ports and make the bridge.
    Open {
        /// The plan.
        plan: Box<BridgePlan>,
        /// Where to bind.
        bind: IpAddr,
        /// The address written into SDP.
        advertised: IpAddr,
        /// For the bridge's random numbers.
        seed: u64,
    },
    /// The agent has been reached.
    Attach {
        /// The call.
        call: CallId,
        /// The agent's connection.
        connected: Box<Connected>,
    },
    /// For the bridge.
    Bridge {
        /// The call.
        call: CallId,
        /// What to do.
        command: BridgeCommand,
    },
    /// End the call.
    Close {
        /// The call.
        call: CallId,
    },
    /// End the thread.
    Stop,
}

/// What a media thread tells signalling.
#[derive(Debug)]
pub enum MediaEvent {
    /// Ports are bound.
    Opened {
        /// The call.
        call: CallId,
        /// The RTP address to advertise.
        rtp: SocketAddr,
    },
    /// The call cannot be carried.
    Failed {
        /// The call.
        call: CallId,
        /// Why.
        cause: BridgeFailure,
    },
    /// The bridge reports something.
    Bridge {
        /// The call.
        call: CallId,
        /// What.
        event: BridgeEvent,
    },
    /// The call is closed; nothing more comes of it.
    Closed {
        /// The call.
        call: CallId,
        /// What it counted.
        statistics: Box<BridgeStatistics>,
    },
}

#[derive(Debug)]
enum Entry {
    Free,
    Call(Box<Call>),
    /// A closed agent socket that waits for the other side's close.
    Lingering(Box<AgentSocket>, Instant),
}

/// A media thread's state.
#[derive(Debug)]
pub(super) struct MediaThread {
    poll: Poll,
    commands: Receiver<MediaCommand>,
    events: Sender<MediaEvent>,
    ports: Arc<Ports>,
    counters: Arc<MediaCounters>,
    epoch: Instant,
    entries: Vec<Entry>,
    free: Vec<u32>,
    by_call: BTreeMap<CallId, u32>,
    wheel: Wheel,
    /// Calls per slot of the frame.
    slots: [u32; FRAME_SLOTS],
    /// Calls whose sockets may hold more than was taken.
    unfinished: VecDeque<(u32, usize)>,
    lingering: VecDeque<(Instant, u32)>,
    /// Starts that wait for their slot.
    starting: Vec<(u64, CallId)>,
    waiting: VecDeque<MediaEvent>,
    buffers: Buffers,
    is_stopped: bool,
}

#[derive(Debug)]
struct Buffers {
    packet: Vec<u8>,
    transmit: Vec<u8>,
    due: Vec<u32>,
    events: VecDeque<(CallId, BridgeEvent)>,
}

impl MediaThread {
    pub(super) fn new(
        poll: Poll,
        commands: Receiver<MediaCommand>,
        events: Sender<MediaEvent>,
        ports: Arc<Ports>,
        counters: Arc<MediaCounters>,
    ) -> Self {
        Self {
            poll,
            commands,
            events,
            ports,
            counters,
            epoch: clock::now(),
            entries: Vec::new(),
            free: Vec::new(),
            by_call: BTreeMap::new(),
            wheel: Wheel::new(),
            slots: [0; FRAME_SLOTS],
            unfinished: VecDeque::new(),
            lingering: VecDeque::new(),
            starting: Vec::new(),
            waiting: VecDeque::new(),
            buffers: Buffers {
                packet: vec![0; WORKSPACE_BYTES],
                transmit: Vec::with_capacity(WORKSPACE_BYTES),
                due: Vec::new(),
                events: VecDeque::new(),
            },
            is_stopped: false,
        }
    }

    /// Runs until told to stop.
    pub(super) fn run(mut self) {
        let mut readiness = Events::with_capacity(EVENTS);
        while !self.is_stopped {
            let timeout = self.sleep_until_the_tick(clock::now());
            if let Err(error) = self.poll.poll(&mut readiness, Some(timeout))
                && error.kind() != std::io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a media thread cannot poll its sockets");
                return;
            }
            self.counters.wakeups.add(1);
            let now = clock::now();
            self.expire(now);
            for event in &readiness {
                let token = event.token();
                if token == WAKE {
                    continue;
                }
                let index = (token.0 / KINDS) as u32;
                let readiness =
                    Readiness { is_writable: event.is_writable(), is_ending: event.is_read_closed() };
                self.ready(index, token.0 % KINDS, readiness, now);
            }
            self.resume(now);
            self.take_commands(now);
            self.end_lingering(now);
            self.report();
        }
    }

    /// With many calls, sleeps here until the next millisecond and has the sockets polled without waiting:
    /// a thousand wakeups a second then serve them all, instead of one for each packet. Returns how long the
    /// poll may wait.
    fn sleep_until_the_tick(&self, now: Instant) -> Duration {
        let timeout = self.timeout(now);
        if self.by_call.len() < GATHER_FROM || timeout.is_zero() {
            return timeout;
        }
        let tick = self.epoch + Duration::from_millis(tick_before(self.epoch, now) + 1);
        std::thread::sleep(tick.saturating_duration_since(now));
        Duration::ZERO
    }

    /// How long nothing is due.
    fn timeout(&self, now: Instant) -> Duration {
        if !self.unfinished.is_empty() {
            return Duration::ZERO;
        }
        let longest = if self.waiting.is_empty() { IDLE } else { RETRY };
        let Some(tick) = self.wheel.next() else {
            return longest;
        };
        (self.epoch + Duration::from_millis(tick)).saturating_duration_since(now).min(longest)
    }

    /// Serves every call whose time has come.
    fn expire(&mut self, now: Instant) {
        let tick = tick_before(self.epoch, now);
        let mut due = std::mem::take(&mut self.buffers.due);
        self.wheel.expire(tick, &mut due);
        for index in due.drain(..) {
            let left = self.with_call(index, now, |call, now, work| {
                if call.scheduled <= tick {
                    call.scheduled = u64::MAX;
                    call.timeout(now, work);
                    if call.wants_to_read_agent() {
                        return call.read_agent(now, work);
                    }
                }
                Left::Nothing
            });
            if left == Left::Something {
                self.put_back(index, AGENT);
            }
        }
        self.buffers.due = due;
        self.start_due(tick, now);
    }

    fn ready(&mut self, index: u32, kind: usize, readiness: Readiness, now: Instant) {
        if let Some(Entry::Lingering(agent, _)) = self.entries.get_mut(index as usize) {
            if is_over(agent, readiness) {
                self.release(index);
            }
            return;
        }
        let left = self.with_call(index, now, |call, now, work| match kind {
            RTP => call.rtp_ready(now, work),
            RTCP => call.rtcp_ready(now, work),
            _ => call.agent_ready(readiness, now, work),
        });
        if left == Left::Something {
            self.put_back(index, kind);
        }
    }

    /// Goes on with a socket that was left with something in it.
    fn work(&mut self, index: u32, kind: usize, now: Instant) {
        let left = self.with_call(index, now, |call, now, work| match kind {
            RTP => call.rtp_ready(now, work),
            RTCP => call.rtcp_ready(now, work),
            _ => call.read_agent(now, work),
        });
        if left == Left::Something {
            self.put_back(index, kind);
        }
    }

    /// Enters a socket in the list of unfinished work, once.
    fn put_back(&mut self, index: u32, kind: usize) {
        if let Some(Entry::Call(call)) = self.entries.get_mut(index as usize)
            && call.listed & (1 << kind) == 0
        {
            call.listed |= 1 << kind;
            self.counters.budget_exceeded.add(1);
            self.unfinished.push_back((index, kind));
        }
    }

    /// Goes on with calls that were put back, once each.
    fn resume(&mut self, now: Instant) {
        for _ in 0..self.unfinished.len() {
            if let Some((index, kind)) = self.unfinished.pop_front() {
                if let Some(Entry::Call(call)) = self.entries.get_mut(index as usize) {
                    call.listed &= !(1 << kind);
                }
                self.work(index, kind, now);
            }
        }
    }

    /// Works on a call, contains its faults, and enters it in the wheel again.
    fn with_call(
        &mut self,
        index: u32,
        now: Instant,
        work: impl FnOnce(&mut Call, Instant, &mut Workspace<'_>) -> Left,
    ) -> Left {
        let Some(Entry::Call(call)) = self.entries.get_mut(index as usize) else {
            return Left::Nothing;
        };
        let mut workspace = Workspace {
            packet: &mut self.buffers.packet,
            transmit: &mut self.buffers.transmit,
            events: &mut self.buffers.events,
            counters: &self.counters,
        };
        // A call that has panicked is dropped whole, so what it left half done is seen by nobody.
        let outcome = catch_unwind(AssertUnwindSafe(|| work(call, now, &mut workspace)));
        let Ok(left) = outcome else {
            let call = call.id;
            self.counters.panics.add(1);
            self.fail(index, call, now);
            return Left::Nothing;
        };
        if let Some(deadline) = call.deadline {
            let tick = tick_after(self.epoch, deadline);
            if tick < call.scheduled {
                call.scheduled = self.wheel.schedule(tick, index);
            }
        }
        if !self.buffers.events.is_empty() {
            self.collect_events();
        }
        left
    }

    fn collect_events(&mut self) {
        while let Some((call, event)) = self.buffers.events.pop_front() {
            if self.waiting.len() >= WAITING_EVENTS {
                self.counters.events_dropped.add(1);
            } else {
                self.waiting.push_back(MediaEvent::Bridge { call, event });
            }
        }
    }

    fn take_commands(&mut self, now: Instant) {
        for _ in 0..COMMANDS {
            let Ok(command) = self.commands.try_recv() else {
                return;
            };
            match command {
                MediaCommand::Open { plan, bind, advertised, seed } => {
                    self.open(*plan, bind, advertised, seed, now);
                }
                MediaCommand::Attach { call, connected } => self.attach(call, *connected, now),
                MediaCommand::Bridge { call, command: BridgeCommand::Start } => self.start(call),
                MediaCommand::Bridge { call, command } => {
                    if let Some(index) = self.by_call.get(&call).copied() {
                        self.with_call(index, now, |call, now, work| {
                            call.command(command, now, work);
                            Left::Nothing
                        });
                    }
                }
                MediaCommand::Close { call } => self.close(call, now),
                MediaCommand::Stop => self.is_stopped = true,
            }
        }
        // More may wait: come back after the sockets had their turn.
        self.unfinished.push_back((u32::MAX, RTP));
    }

    fn open(&mut self, plan: BridgePlan, bind: IpAddr, advertised: IpAddr, seed: u64, now: Instant) {
        let call = plan.call;
        let opened = self.bind(plan, bind, seed, now);
        let (mut opened, index) = match opened {
            Ok(opened) => opened,
            Err(cause) => {
                self.counters.failed.add(1);
                self.waiting.push_back(MediaEvent::Failed { call, cause });
                return;
            }
        };
        let rtp = SocketAddr::new(advertised, opened.port());
        opened.slot = self.emptiest_slot();
        self.slots[opened.slot] += 1;
        self.entries[index as usize] = Entry::Call(Box::new(opened));
        self.by_call.insert(call, index);
        self.counters.opened.add(1);
        self.counters.calls.set(self.by_call.len() as u64);
        self.waiting.push_back(MediaEvent::Opened { call, rtp });
        self.with_call(index, now, |call, now, work| {
            call.drain(now, work);
            Left::Nothing
        });
    }

    /// Leases ports, makes the bridge, and has the sockets polled.
    fn bind(
        &mut self,
        plan: BridgePlan,
        bind: IpAddr,
        seed: u64,
        now: Instant,
    ) -> Result<(Call, u32), BridgeFailure> {
        let call = plan.call;
        let mut ports = self.ports.lease(bind, now).map_err(|error| {
            tracing::warn!(execution_id = %call, %error, "no media port");
            match error {
                PortError::Exhausted { .. } | PortError::Occupied { .. } => BridgeFailure::NoPorts,
                PortError::Socket { .. } => BridgeFailure::System,
            }
        })?;
        let index = self.vacancy();
        if let Err(error) = self.register(index, &mut ports) {
            tracing::warn!(execution_id = %call, %error, "the media sockets cannot be polled");
            self.free.push(index);
            self.ports.rest(ports, now);
            return Err(BridgeFailure::System);
        }
        Call::new(plan, ports, seed, now).map(|opened| (opened, index)).map_err(|(ports, error)| {
            tracing::warn!(execution_id = %call, %error, "the agent's settings do not go together");
            self.free.push(index);
            self.rest(ports, now);
            BridgeFailure::System
        })
    }

    fn register(&self, index: u32, ports: &mut PortPair) -> std::io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut ports.rtp, token(index, RTP), Interest::READABLE)?;
        registry.register(&mut ports.rtcp, token(index, RTCP), Interest::READABLE)
    }

    fn attach(&mut self, call: CallId, connected: Connected, now: Instant) {
        let Some(index) = self.by_call.get(&call).copied() else {
            return;
        };
        let mut agent = AgentSocket::new(connected);
        let registered = agent.register(self.poll.registry(), token(index, AGENT));
        let left = self.with_call(index, now, |call, now, work| {
            call.attach(agent);
            if let Err(error) = registered {
                tracing::warn!(execution_id = %call.id, %error, "the agent's socket cannot be polled");
                call.lose_agent(now, AgentSocketEnd::Lost, work);
                return Left::Nothing;
            }
            // Bytes that came with the upgrade raise no event.
            call.read_agent(now, work)
        });
        if left == Left::Something {
            self.put_back(index, AGENT);
        }
    }

    /// Holds the start back until the call's slot, at most a frame, so that its clock falls there.
    fn start(&mut self, call: CallId) {
        let Some(Entry::Call(found)) = self.by_call.get(&call).map(|index| &self.entries[*index as usize])
        else {
            return;
        };
        let next = tick_before(self.epoch, clock::now()) + 1;
        let ahead = (found.slot as u64 + FRAME_SLOTS as u64 - next % FRAME_SLOTS as u64) % FRAME_SLOTS as u64;
        let tick = next + ahead;
        self.starting.push((tick, call));
        // Entry u32::MAX is nobody's: it only wakes the thread.
        self.wheel.schedule(tick, u32::MAX);
    }

    fn start_due(&mut self, tick: u64, now: Instant) {
        while let Some(position) = self.starting.iter().position(|(due, _)| *due <= tick) {
            let (_, call) = self.starting.swap_remove(position);
            if let Some(index) = self.by_call.get(&call).copied() {
                self.with_call(index, now, |call, now, work| {
                    call.command(BridgeCommand::Start, now, work);
                    Left::Nothing
                });
            }
        }
    }

    fn close(&mut self, call: CallId, now: Instant) {
        let Some(index) = self.by_call.remove(&call) else {
            // It failed before: signalling still gets its answer.
            let statistics = Box::default();
            self.waiting.push_back(MediaEvent::Closed { call, statistics });
            return;
        };
        self.starting.retain(|(_, starting)| *starting != call);
        let entry = std::mem::replace(&mut self.entries[index as usize], Entry::Free);
        let Entry::Call(ended) = entry else {
            unreachable!("by_call names entries that hold calls");
        };
        self.slots[ended.slot] -= 1;
        self.counters.calls.set(self.by_call.len() as u64);
        let (bridge, ports, agent) = ended.end();
        let statistics = Box::new(bridge.statistics());
        self.waiting.push_back(MediaEvent::Closed { call, statistics });
        self.rest(ports, now);
        match agent {
            Some(mut agent) => {
                let _ = agent.close(1000);
                let until = now + LINGER;
                self.entries[index as usize] = Entry::Lingering(Box::new(agent), until);
                self.lingering.push_back((until, index));
            }
            None => self.free.push(index),
        }
    }

    /// Ends a call by our own fault.
    fn fail(&mut self, index: u32, call: CallId, now: Instant) {
        tracing::error!(execution_id = %call, "a call ended by a fault of the media thread");
        self.by_call.remove(&call);
        self.counters.calls.set(self.by_call.len() as u64);
        if let Entry::Call(failed) = std::mem::replace(&mut self.entries[index as usize], Entry::Free) {
            self.slots[failed.slot] -= 1;
            let (_, ports, _) = failed.end();
            self.rest(ports, now);
        }
        self.free.push(index);
        self.buffers.events.clear();
        // To the engine it is as if the agent were lost: it ends the call and closes the bridge.
        let event = BridgeEvent::AgentHangUp { cause: AgentHangUpCause::Lost };
        self.waiting.push_back(MediaEvent::Bridge { call, event });
    }

    fn rest(&self, mut ports: PortPair, now: Instant) {
        // A resting socket is deaf: nobody reads it, so nobody needs to hear of it.
        let _ = self.poll.registry().deregister(&mut ports.rtp);
        let _ = self.poll.registry().deregister(&mut ports.rtcp);
        self.ports.rest(ports, now);
    }

    fn end_lingering(&mut self, now: Instant) {
        while let Some((until, index)) = self.lingering.front().copied()
            && until <= now
        {
            self.lingering.pop_front();
            // The entry may have ended already and been taken by another call.
            let is_still_there =
                matches!(&self.entries[index as usize], Entry::Lingering(_, at) if *at == until);
            if is_still_there {
                self.release(index);
            }
        }
    }

    fn release(&mut self, index: u32) {
        if let Entry::Lingering(mut agent, _) =
            std::mem::replace(&mut self.entries[index as usize], Entry::Free)
        {
            agent.shutdown();
            self.free.push(index);
        }
    }

    /// Hands events to signalling as far as it takes them.
    fn report(&mut self) {
        while let Some(event) = self.waiting.pop_front() {
            match self.events.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.waiting.push_front(event);
                    return;
                }
                Err(TrySendError::Closed(_)) => {
                    self.is_stopped = true;
                    return;
                }
            }
        }
    }

    fn vacancy(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            self.entries.push(Entry::Free);
            u32::try_from(self.entries.len() - 1).expect("ports bound the number of calls")
        })
    }

    fn emptiest_slot(&self) -> usize {
        let by_calls = |slot: &usize| self.slots[*slot];
        (0..FRAME_SLOTS).min_by_key(by_calls).unwrap_or_default()
    }
}

fn token(index: u32, kind: usize) -> Token {
    Token(index as usize * KINDS + kind)
}

/// Whether a closing socket has come to its end.
fn is_over(agent: &mut AgentSocket, readiness: Readiness) -> bool {
    agent.ready(readiness.is_ending);
    if readiness.is_writable {
        let _ = agent.flush();
    }
    // What an agent still says after the close is read and dropped, within a bound: the linger time.
    for _ in 0..64 {
        match agent.receive() {
            Received::Message(..) | Received::Control => {}
            Received::Blocked => return false,
            Received::Closed(_) | Received::Broken(_) => return true,
        }
    }
    false
}

/// The last tick that has passed at `now`.
fn tick_before(epoch: Instant, now: Instant) -> u64 {
    u64::try_from(now.saturating_duration_since(epoch).as_millis()).unwrap_or(u64::MAX)
}

/// The first tick that is not before `deadline`.
fn tick_after(epoch: Instant, deadline: Instant) -> u64 {
    let nanoseconds = deadline.saturating_duration_since(epoch).as_nanos();
    u64::try_from(nanoseconds.div_ceil(1_000_000)).unwrap_or(u64::MAX)
}
