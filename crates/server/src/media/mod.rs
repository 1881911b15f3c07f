//! Media: threads of their own, apart from signalling, that carry audio between RTP and agents.
//!
//! One thread per core owns its calls whole: their sockets, their bridges, their clock. Signalling speaks to
//! a thread by a bounded queue of rare commands and hears of it by a bounded queue of rare events; a packet
//! touches neither. All of it stands behind [`Media`], so that a batched backend can stand beside this one.

mod agent_socket;
mod call;
mod counters;
mod line;
mod messages;
mod ports;
#[cfg(test)]
mod tests;
mod thread;
mod wheel;

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::IpAddr,
    sync::{
        Arc,
        mpsc::{SyncSender, TrySendError, sync_channel},
    },
    thread::JoinHandle,
};

use mio::{Poll, Waker};
use tandem_call::{
    CallId,
    bridge::{BridgeCommand, BridgePlan},
};
use tokio::sync::mpsc;

pub use counters::{Count, MediaCounters};
use messages::MediaCommand;
pub use messages::MediaEvent;
pub use ports::{PortCounts, PortError, Ports};
use thread::{MediaThread, Parts, WAKE};

use crate::api::MediaReport;
use crate::net::ws_connect::Connected;
use crate::recording::RecordingQueue;

/// Commands that may wait in a thread's queue.
const COMMAND_QUEUE: usize = 1_024;
/// Events that may wait for signalling.
const EVENT_QUEUE: usize = 4_096;

/// The media threads, as signalling holds them.
#[derive(Debug)]
pub struct Media {
    threads: Vec<Worker>,
    placed: BTreeMap<CallId, usize>,
    ports: Arc<Ports>,
}

#[derive(Debug)]
struct Worker {
    queue: SyncSender<MediaCommand>,
    waker: Waker,
    /// Commands that the full queue did not take; bounded by the number of calls.
    backlog: VecDeque<MediaCommand>,
    counters: Arc<MediaCounters>,
    calls: usize,
    join: Option<JoinHandle<()>>,
}

impl Media {
    /// Starts `threads` threads (one per core if 0) that share `ports` and hand what is recorded to `recording`.
    ///
    /// # Errors
    /// What the system says when it refuses a thread or its poll.
    pub fn start(
        threads: usize,
        ports: Ports,
        recording: &RecordingQueue,
    ) -> io::Result<(Self, mpsc::Receiver<MediaEvent>)> {
        let count = match threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            some => some,
        };
        let ports = Arc::new(ports);
        let (sender, receiver) = mpsc::channel(EVENT_QUEUE);
        let mut workers = Vec::with_capacity(count);
        for number in 0..count {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            let (queue, commands) = sync_channel(COMMAND_QUEUE);
            let counters = Arc::new(MediaCounters::default());
            let parts = Parts {
                commands,
                events: sender.clone(),
                ports: Arc::clone(&ports),
                counters: Arc::clone(&counters),
                recording: recording.clone(),
            };
            let thread = MediaThread::new(poll, parts);
            let join =
                std::thread::Builder::new().name(format!("media-{number}")).spawn(move || thread.run())?;
            let backlog = VecDeque::new();
            workers.push(Worker { queue, waker, backlog, counters, calls: 0, join: Some(join) });
        }
        Ok((Self { threads: workers, placed: BTreeMap::new(), ports }, receiver))
    }

    /// Opens a call on the thread with the fewest.
    pub fn open(&mut self, plan: BridgePlan, bind: IpAddr, advertised: IpAddr, seed: u64) {
        let by_calls = |index: &usize| self.threads[*index].calls;
        let index = (0..self.threads.len()).min_by_key(by_calls).unwrap_or_default();
        self.placed.insert(plan.call, index);
        self.threads[index].calls += 1;
        self.threads[index].send(MediaCommand::Open { plan: Box::new(plan), bind, advertised, seed });
    }

    /// Binds a second pair of ports for a call. [`MediaEvent::SecondOpened`] or [`MediaEvent::SecondFailed`] answers.
    pub fn open_second(&mut self, call: CallId, bind: IpAddr, advertised: IpAddr) {
        self.send(call, MediaCommand::OpenSecond { call, bind, advertised });
    }

    /// Hands a call its agent's connection.
    pub fn attach(&mut self, call: CallId, connected: Connected) {
        self.send(call, MediaCommand::Attach { call, connected: Box::new(connected) });
    }

    /// Hands a call's bridge a command.
    pub fn command(&mut self, call: CallId, command: BridgeCommand) {
        self.send(call, MediaCommand::Bridge { call, command: Box::new(command) });
    }

    /// Has a call tell what it has counted so far; nothing is answered for one that is not here.
    pub fn report(&mut self, report: MediaReport) {
        let call = report.call;
        self.send(call, MediaCommand::Report { call, report });
    }

    /// Closes a call. [`MediaEvent::Closed`] answers.
    pub fn close(&mut self, call: CallId) {
        self.send(call, MediaCommand::Close { call });
        if let Some(index) = self.placed.remove(&call) {
            self.threads[index].calls -= 1;
        }
    }

    /// Whether a call is open here.
    #[must_use]
    pub fn holds(&self, call: CallId) -> bool {
        self.placed.contains_key(&call)
    }

    /// Calls open on all threads.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.placed.len()
    }

    /// Tries again what full queues did not take, and frees ports whose rest is over. To be called now and
    /// then.
    pub fn attend(&mut self, now: std::time::Instant) {
        for worker in &mut self.threads {
            worker.pass_on();
        }
        self.ports.expire(now);
    }

    /// The ports.
    #[must_use]
    pub fn ports(&self) -> Arc<Ports> {
        Arc::clone(&self.ports)
    }

    /// The counters of each thread.
    #[must_use]
    pub fn counters(&self) -> Vec<Arc<MediaCounters>> {
        self.threads.iter().map(|worker| Arc::clone(&worker.counters)).collect()
    }

    fn send(&mut self, call: CallId, command: MediaCommand) {
        if let Some(index) = self.placed.get(&call) {
            self.threads[*index].send(command);
        }
    }
}

impl Drop for Media {
    fn drop(&mut self) {
        for worker in &mut self.threads {
            worker.send(MediaCommand::Stop);
            let _ = worker.waker.wake();
        }
        for worker in &mut self.threads {
            if let Some(join) = worker.join.take()
                && worker.backlog.is_empty()
            {
                let _ = join.join();
            }
        }
    }
}

impl Worker {
    fn send(&mut self, command: MediaCommand) {
        self.backlog.push_back(command);
        self.pass_on();
    }

    fn pass_on(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        while let Some(command) = self.backlog.pop_front() {
            match self.queue.try_send(command) {
                Ok(()) => {}
                Err(TrySendError::Full(command)) => {
                    self.backlog.push_front(command);
                    break;
                }
                // The thread has ended; so does everything it held.
                Err(TrySendError::Disconnected(_)) => {}
            }
        }
        let _ = self.waker.wake();
    }
}
