//! One call on a media thread: its bridge, its sockets, and the carrying between them.
//!
//! After everything that is handed to the bridge, the bridge is drained. Buffers belong to the thread and
//! are reused; a packet costs no allocation, lock or channel here. Refuses to know what packets mean.

use std::{collections::VecDeque, time::Instant};

use tandem_agent::ConfigError;
use tandem_call::{
    AccountId, CallId,
    bridge::{
        AgentSocketEnd, Bridge, BridgeCommand, BridgeEvent, BridgePlan, BridgeStatistics, BridgeTransmit,
    },
};

use super::{
    agent_socket::{AgentSocket, Received, Sent},
    counters::MediaCounters,
    line::{Datagram, Line, PACKET_BYTES},
    ports::PortPair,
};
use crate::recording::RecordingQueue;

/// Datagrams taken from one socket before other calls get their turn.
const DATAGRAM_BUDGET: usize = 32;
/// Agent messages taken from one socket before other calls get their turn.
const MESSAGE_BUDGET: usize = 32;
/// What a thread lends to the call it works on.
#[derive(Debug)]
pub(super) struct Workspace<'a> {
    /// For a datagram being received.
    pub(super) packet: &'a mut [u8],
    /// For a message being sent.
    pub(super) transmit: &'a mut Vec<u8>,
    /// Where events wait for signalling.
    pub(super) events: &'a mut VecDeque<(CallId, BridgeEvent)>,
    /// The thread's counters.
    pub(super) counters: &'a MediaCounters,
    /// Where what is recorded goes.
    pub(super) recording: &'a mut RecordingQueue,
}

/// The size of [`Workspace::packet`].
pub(super) const WORKSPACE_BYTES: usize = PACKET_BYTES + 1;

/// What a socket was reported ready for, beside reading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Readiness {
    /// Writing.
    pub(super) is_writable: bool,
    /// Reading to the end: the other side has closed.
    pub(super) is_ending: bool,
}

/// Whether a socket may hold more than was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// It was read until it blocked, or may not be read now.
    Nothing,
    /// The budget ended first.
    Something,
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) id: CallId,
    account: AccountId,
    bridge: Bridge,
    line: Line,
    /// The second leg's sockets, once they were asked for.
    second: Option<Line>,
    agent: Option<AgentSocket>,
    /// The agent's socket has not said that it is empty since it was last ready.
    is_agent_readable: bool,
    /// When the bridge wants to be called again.
    pub(super) deadline: Option<Instant>,
    /// The tick this call is entered for in the wheel; `u64::MAX` when it is not.
    pub(super) scheduled: u64,
    /// The slot of the frame clock this call belongs to.
    pub(super) slot: usize,
    /// Which of its sockets are on the thread's list of unfinished work, one bit each.
    pub(super) listed: u8,
}

impl Call {
    /// A call with its bridge.
    ///
    /// # Errors
    /// The ports back, and what is wrong with the agent's dialect.
    pub(super) fn new(
        plan: BridgePlan,
        ports: PortPair,
        seed: u64,
        now: Instant,
    ) -> Result<Self, (PortPair, ConfigError)> {
        let is_multiplexed = plan.media.as_ref().is_some_and(|media| media.rtcp_mux);
        let does_ice = plan.media.as_ref().is_some_and(|media| media.ice.is_some());
        let id = plan.call;
        let account = plan.account.clone();
        let bridge = match Bridge::new(plan, seed, now) {
            Ok(bridge) => bridge,
            Err(error) => return Err((ports, error)),
        };
        let deadline = bridge.poll_timeout();
        Ok(Self {
            id,
            account,
            bridge,
            line: Line::new(ports, is_multiplexed, does_ice),
            second: None,
            agent: None,
            is_agent_readable: false,
            deadline,
            scheduled: u64::MAX,
            slot: 0,
            listed: 0,
        })
    }

    /// Takes the agent's socket. It may hold messages already.
    pub(super) fn attach(&mut self, agent: AgentSocket) {
        self.agent = Some(agent);
        self.is_agent_readable = true;
    }

    /// Takes the second leg's sockets.
    pub(super) fn open_second(&mut self, ports: PortPair) {
        self.second = Some(Line::new(ports, false, false));
    }

    /// Whether the second leg has its sockets.
    pub(super) fn has_second(&self) -> bool {
        self.second.is_some()
    }

    /// What was counted so far.
    pub(super) fn statistics(&self) -> BridgeStatistics {
        self.bridge.statistics()
    }

    /// The RTP port.
    pub(super) fn port(&self) -> u16 {
        self.line.port()
    }

    /// Ends the call here; what must go on for a moment is handed back.
    pub(super) fn end(
        mut self,
        recording: &mut RecordingQueue,
        counters: &MediaCounters,
    ) -> (Bridge, impl Iterator<Item = PortPair> + use<>, Option<AgentSocket>) {
        self.bridge.end_recording();
        self.record(recording, counters);
        let lines = [Some(self.line), self.second].into_iter().flatten();
        (self.bridge, lines.map(|line| line.ports), self.agent)
    }

    /// Hands on what was recorded; what nobody takes is lost, and told.
    fn record(&mut self, recording: &mut RecordingQueue, counters: &MediaCounters) {
        while let Some(recorded) = self.bridge.poll_recorded() {
            let lost = recording.send(self.id, &self.account, recorded);
            if lost > 0 {
                counters.recording_dropped.add(1);
                self.bridge.handle_recording_dropped(lost);
            }
        }
    }

    pub(super) fn command(&mut self, command: BridgeCommand, now: Instant, work: &mut Workspace<'_>) {
        match (&command, &mut self.second) {
            (BridgeCommand::Media(media), _) => {
                self.line.renegotiated(media.rtcp_mux, media.ice.is_some());
            }
            (BridgeCommand::SecondMedia { media, .. }, Some(second)) => {
                second.renegotiated(media.rtcp_mux, media.ice.is_some());
            }
            _ => {}
        }
        self.bridge.handle_command(now, command);
        self.drain(now, work);
    }

    /// Serves the deadline if it has come.
    pub(super) fn timeout(&mut self, now: Instant, work: &mut Workspace<'_>) {
        if let Some(deadline) = self.deadline
            && deadline <= now
        {
            let late = u64::try_from((now - deadline).as_micros()).unwrap_or(u64::MAX);
            work.counters.ticks.add(1);
            work.counters.latest_us.raise_to(late);
            if late > 5_000 {
                work.counters.late_ticks.add(1);
            }
            self.bridge.handle_timeout(now);
            self.drain(now, work);
        }
    }

    /// Whether the agent's socket holds messages and the bridge wants them.
    pub(super) fn wants_to_read_agent(&self) -> bool {
        self.is_agent_readable && self.agent.is_some() && self.bridge.wants_agent_input()
    }

    /// The RTP or RTCP socket of either leg became ready.
    pub(super) fn media_ready(
        &mut self,
        is_second: bool,
        is_rtcp: bool,
        now: Instant,
        work: &mut Workspace<'_>,
    ) -> Left {
        for _ in 0..DATAGRAM_BUDGET {
            let line = if is_second { self.second.as_ref() } else { Some(&self.line) };
            let Some(line) = line else { return Left::Nothing };
            match line.receive(is_rtcp, work.packet, work.counters) {
                Datagram::Blocked => return Left::Nothing,
                Datagram::Nothing => continue,
                Datagram::Rtp(length, source) if is_second => {
                    self.bridge.handle_second_rtp(now, source, &work.packet[..length]);
                }
                Datagram::Rtp(length, source) => {
                    self.bridge.handle_rtp(now, source, &work.packet[..length]);
                }
                Datagram::Rtcp(length, source) if is_second => {
                    self.bridge.handle_second_rtcp(now, source, &work.packet[..length]);
                }
                Datagram::Rtcp(length, source) => {
                    self.bridge.handle_rtcp(now, source, &work.packet[..length]);
                }
            }
            self.drain(now, work);
        }
        Left::Something
    }

    /// The agent's socket became ready for something.
    pub(super) fn agent_ready(
        &mut self,
        readiness: Readiness,
        now: Instant,
        work: &mut Workspace<'_>,
    ) -> Left {
        self.is_agent_readable = true;
        if let Some(agent) = &mut self.agent {
            agent.ready(readiness.is_ending);
        }
        if readiness.is_writable
            && let Some(agent) = &mut self.agent
            && agent.is_blocked()
            && agent.flush() == Sent::Broken
        {
            self.lose_agent(now, AgentSocketEnd::Lost, work);
            return Left::Nothing;
        }
        self.read_agent(now, work)
    }

    pub(super) fn read_agent(&mut self, now: Instant, work: &mut Workspace<'_>) -> Left {
        for _ in 0..MESSAGE_BUDGET {
            if !self.bridge.wants_agent_input() {
                // The bridge is full: what is not read fills the agent's window, and it slows down.
                return Left::Nothing;
            }
            let Some(agent) = &mut self.agent else {
                return Left::Nothing;
            };
            match agent.receive() {
                Received::Message(kind, payload) => {
                    work.counters.agent_received.add(1);
                    self.bridge.handle_agent_frame(now, kind, &payload);
                    self.drain(now, work);
                }
                Received::Control => {}
                Received::Blocked => {
                    self.is_agent_readable = false;
                    return Left::Nothing;
                }
                Received::Closed(code) => {
                    self.lose_agent(now, AgentSocketEnd::Closed { code }, work);
                    return Left::Nothing;
                }
                Received::Broken(cause) => {
                    tracing::debug!(execution_id = %self.id, cause, "the agent's connection broke");
                    work.counters.agent_broken.add(1);
                    self.lose_agent(now, AgentSocketEnd::Lost, work);
                    return Left::Nothing;
                }
            }
        }
        Left::Something
    }

    pub(super) fn lose_agent(&mut self, now: Instant, end: AgentSocketEnd, work: &mut Workspace<'_>) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.flush();
            if end == AgentSocketEnd::Lost {
                agent.shutdown();
            }
        }
        self.is_agent_readable = false;
        self.bridge.handle_agent_closed(now, end);
        self.drain(now, work);
    }

    /// Carries out what the bridge wants, until it waits.
    pub(super) fn drain(&mut self, now: Instant, work: &mut Workspace<'_>) {
        let mut is_agent_lost = false;
        while let Some(transmit) = self.bridge.poll_transmit(now, work.transmit) {
            match transmit {
                BridgeTransmit::Rtp { to } => self.line.send_rtp(to, work.transmit, work.counters),
                BridgeTransmit::Rtcp { to } => self.line.send_rtcp(to, work.transmit, work.counters),
                BridgeTransmit::SecondRtp { to } => {
                    if let Some(second) = &mut self.second {
                        second.send_rtp(to, work.transmit, work.counters);
                    }
                }
                BridgeTransmit::SecondRtcp { to } => {
                    if let Some(second) = &self.second {
                        second.send_rtcp(to, work.transmit, work.counters);
                    }
                }
                BridgeTransmit::Agent { kind, droppable } => {
                    let Some(agent) = &mut self.agent else { continue };
                    match agent.send(kind, work.transmit, droppable) {
                        Sent::Accepted => work.counters.agent_sent.add(1),
                        Sent::Dropped => {
                            work.counters.agent_dropped.add(1);
                            self.bridge.handle_agent_frame_dropped();
                        }
                        Sent::Broken => is_agent_lost = true,
                    }
                }
                BridgeTransmit::AgentClose { code } => {
                    if let Some(agent) = &mut self.agent {
                        let _ = agent.close(code);
                    }
                }
            }
        }
        self.record(work.recording, work.counters);
        while let Some(event) = self.bridge.poll_event() {
            match (&event, &mut self.second) {
                (BridgeEvent::Latched { source }, _) => self.line.latched(*source),
                (BridgeEvent::SecondLatched { source }, Some(second)) => second.latched(*source),
                _ => {}
            }
            work.events.push_back((self.id, event));
        }
        self.deadline = self.bridge.poll_timeout();
        if is_agent_lost {
            work.counters.agent_broken.add(1);
            // Its own drain follows; the agent is gone then, so this ends after one round.
            self.lose_agent(now, AgentSocketEnd::Lost, work);
        }
    }
}
