//! A media thread: a plain loop over readiness and time that owns its calls.
//!
//! Sockets are edge-triggered; a call that uses up its budget is put on a list and goes on after the others
//! had their turn. Each wakeup serves what is there at once: to sleep until more has gathered was measured to
//! cost a millisecond of delay and to save nothing (`benches/README.md`). Time is a wheel of one-millisecond
//! slots with absolute deadlines; the calls of a thread are spread over the twenty slots of a frame, so that
//! no millisecond carries them all. A fault within one call ends that call alone.

mod lifecycle;

use std::{
    collections::{BTreeMap, VecDeque},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token};
use tandem_agent::Dialect;
use tandem_call::{
    CallId,
    bridge::{BridgeCommand, BridgeEvent},
};
use tokio::sync::mpsc::{Sender, error::TrySendError};

use super::{
    agent_socket::AgentSocket,
    call::{Call, Left, Readiness, WORKSPACE_BYTES, Workspace},
    counters::MediaCounters,
    messages::{MediaCommand, MediaEvent},
    ports::Ports,
    wheel::Wheel,
};
use crate::clock;
use crate::recording::RecordingQueue;

/// Readiness events taken at once.
const EVENTS: usize = 1_024;
/// Commands taken in one wakeup.
const COMMANDS: usize = 64;
/// Slots of a frame.
const FRAME_SLOTS: usize = 20;
/// Events that may wait for a slow signalling task.
const WAITING_EVENTS: usize = 16_384;
/// Longest sleep while signalling is behind with our events.
const RETRY: Duration = Duration::from_millis(2);
/// Longest sleep without anything due.
const IDLE: Duration = Duration::from_millis(500);

/// Token of the waker.
pub(super) const WAKE: Token = Token(usize::MAX - 1);
const RTP: usize = 0;
const RTCP: usize = 1;
const AGENT: usize = 2;
const SECOND_RTP: usize = 3;
const SECOND_RTCP: usize = 4;
const KINDS: usize = 8;

#[derive(Debug)]
enum Entry {
    Free,
    Call(Box<Call>),
    Lingering(Box<Lingering>),
}

/// An agent's socket after its call: it waits for the other side's close, and before that, in dialects that have one,
/// for the other side's goodbye.
#[derive(Debug)]
struct Lingering {
    agent: AgentSocket,
    until: Instant,
    parting: Option<Dialect>,
}

/// What a thread is given beside its poll.
#[derive(Debug)]
pub(super) struct Parts {
    /// What signalling tells it.
    pub(super) commands: Receiver<MediaCommand>,
    /// Where it tells signalling.
    pub(super) events: Sender<MediaEvent>,
    /// The ports, shared.
    pub(super) ports: Arc<Ports>,
    /// Its counters.
    pub(super) counters: Arc<MediaCounters>,
    /// Where what is recorded goes.
    pub(super) recording: RecordingQueue,
}

/// A media thread's state.
#[derive(Debug)]
pub(super) struct MediaThread {
    poll: Poll,
    commands: Receiver<MediaCommand>,
    events: Sender<MediaEvent>,
    ports: Arc<Ports>,
    counters: Arc<MediaCounters>,
    recording: RecordingQueue,
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
    pub(super) fn new(poll: Poll, parts: Parts) -> Self {
        let Parts { commands, events, ports, counters, recording } = parts;
        Self {
            poll,
            commands,
            events,
            ports,
            counters,
            recording,
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
            let timeout = self.timeout(clock::now());
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
        if let Some(Entry::Lingering(lingering)) = self.entries.get_mut(index as usize) {
            if lingering.is_over(readiness) {
                self.release(index);
            }
            return;
        }
        let left = self.with_call(index, now, |call, now, work| match kind {
            AGENT => call.agent_ready(readiness, now, work),
            _ => call.media_ready(kind >= SECOND_RTP, matches!(kind, RTCP | SECOND_RTCP), now, work),
        });
        if left == Left::Something {
            self.put_back(index, kind);
        }
    }

    /// Goes on with a socket that was left with something in it.
    fn work(&mut self, index: u32, kind: usize, now: Instant) {
        let left = self.with_call(index, now, |call, now, work| match kind {
            AGENT => call.read_agent(now, work),
            _ => call.media_ready(kind >= SECOND_RTP, matches!(kind, RTCP | SECOND_RTCP), now, work),
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
            recording: &mut self.recording,
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
                MediaCommand::OpenSecond { call, bind, advertised } => {
                    self.open_second(call, bind, advertised, now);
                }
                MediaCommand::Attach { call, connected } => self.attach(call, *connected, now),
                MediaCommand::Bridge { call, command } if *command == BridgeCommand::Start => {
                    self.start(call);
                }
                MediaCommand::Bridge { call, command } => {
                    if let Some(index) = self.by_call.get(&call).copied() {
                        self.with_call(index, now, |call, now, work| {
                            call.command(*command, now, work);
                            Left::Nothing
                        });
                    }
                }
                MediaCommand::Report { call, report } => {
                    let entry = self.by_call.get(&call).map(|index| &self.entries[*index as usize]);
                    if let Some(Entry::Call(call)) = entry {
                        report.answer(Box::new(call.statistics()));
                    }
                }
                MediaCommand::Close { call } => self.close(call, now),
                MediaCommand::Stop => self.is_stopped = true,
            }
        }
        // More may wait: come back after the sockets had their turn.
        self.unfinished.push_back((u32::MAX, RTP));
    }

    /// Hands events to signalling, and what waits of recordings to their writers, as far as they take them.
    fn report(&mut self) {
        self.recording.flush();
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
