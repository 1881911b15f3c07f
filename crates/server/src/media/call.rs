//! One call on a media thread: its bridge, its sockets, and the carrying between them.
//!
//! After everything that is handed to the bridge, the bridge is drained. Buffers belong to the thread and
//! are reused; a packet costs no allocation, lock or channel here. Refuses to know what packets mean.

use std::{collections::VecDeque, io, net::SocketAddr, time::Instant};

use tandem_agent::ConfigError;
use tandem_call::{
    CallId,
    bridge::{AgentSocketEnd, Bridge, BridgeCommand, BridgeEvent, BridgePlan, BridgeTransmit},
};

use super::{
    agent_socket::{AgentSocket, Received, Sent},
    counters::MediaCounters,
    ports::PortPair,
};

/// Datagrams taken from one socket before other calls get their turn.
const DATAGRAM_BUDGET: usize = 32;
/// Agent messages taken from one socket before other calls get their turn.
const MESSAGE_BUDGET: usize = 32;
/// Largest media packet: a 60 ms packet of 16-bit audio at 8 kHz is a third of it. One byte more is kept to
/// tell a larger one.
const PACKET_BYTES: usize = 2_048;

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
    bridge: Bridge,
    ports: PortPair,
    agent: Option<AgentSocket>,
    /// The agent's socket has not said that it is empty since it was last ready.
    is_agent_readable: bool,
    /// RTCP comes and goes on the RTP port (RFC 5761).
    is_multiplexed: bool,
    /// Where the bridge says the caller's RTP comes from.
    latched: Option<SocketAddr>,
    /// The peer the RTP socket is connected to.
    connected: Option<SocketAddr>,
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
        let id = plan.call;
        let bridge = match Bridge::new(plan, seed, now) {
            Ok(bridge) => bridge,
            Err(error) => return Err((ports, error)),
        };
        let deadline = bridge.poll_timeout();
        Ok(Self {
            id,
            bridge,
            ports,
            agent: None,
            is_agent_readable: false,
            is_multiplexed,
            latched: None,
            connected: None,
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

    /// The RTP port.
    pub(super) fn port(&self) -> u16 {
        self.ports.address.port()
    }

    /// Ends the call here; what must go on for a moment is handed back.
    pub(super) fn end(self) -> (Bridge, PortPair, Option<AgentSocket>) {
        (self.bridge, self.ports, self.agent)
    }

    pub(super) fn command(&mut self, command: BridgeCommand, now: Instant, work: &mut Workspace<'_>) {
        if let BridgeCommand::Media(media) = &command {
            self.is_multiplexed = media.rtcp_mux;
            self.disconnect();
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

    pub(super) fn rtp_ready(&mut self, now: Instant, work: &mut Workspace<'_>) -> Left {
        for _ in 0..DATAGRAM_BUDGET {
            match self.ports.rtp.recv_from(work.packet) {
                Ok((length, _)) if length > PACKET_BYTES => work.counters.oversized.add(1),
                Ok((length, source)) => {
                    let packet = &work.packet[..length];
                    if self.is_multiplexed && is_rtcp(packet) {
                        work.counters.rtcp_received.add(1);
                        self.bridge.handle_rtcp(now, source, packet);
                    } else {
                        work.counters.rtp_received.add(1);
                        self.bridge.handle_rtp(now, source, packet);
                    }
                    self.drain(now, work);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Left::Nothing,
                // An ICMP error of a packet we sent.
                Err(_) => work.counters.send_errors.add(1),
            }
        }
        Left::Something
    }

    pub(super) fn rtcp_ready(&mut self, now: Instant, work: &mut Workspace<'_>) -> Left {
        for _ in 0..DATAGRAM_BUDGET {
            match self.ports.rtcp.recv_from(work.packet) {
                Ok((length, _)) if length > PACKET_BYTES => work.counters.oversized.add(1),
                Ok((length, source)) => {
                    work.counters.rtcp_received.add(1);
                    self.bridge.handle_rtcp(now, source, &work.packet[..length]);
                    self.drain(now, work);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Left::Nothing,
                Err(_) => work.counters.send_errors.add(1),
            }
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
                BridgeTransmit::Rtp { to } => self.send_rtp(to, work),
                BridgeTransmit::Rtcp { to } => {
                    let socket = if self.is_multiplexed { &self.ports.rtp } else { &self.ports.rtcp };
                    match socket.send_to(work.transmit, to) {
                        Ok(_) => work.counters.rtcp_sent.add(1),
                        Err(_) => work.counters.send_errors.add(1),
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
        while let Some(event) = self.bridge.poll_event() {
            if let BridgeEvent::Latched { source } = event {
                self.latched = Some(source);
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

    fn send_rtp(&mut self, to: SocketAddr, work: &mut Workspace<'_>) {
        // A connected socket costs a fifth less per packet, and the kernel keeps strangers out. Only a peer
        // that sends from where it receives can be connected to.
        if self.connected.is_none() && self.latched == Some(to) && self.ports.rtp.connect(to).is_ok() {
            self.connected = Some(to);
        }
        let sent = if self.connected == Some(to) {
            self.ports.rtp.send(work.transmit)
        } else {
            self.ports.rtp.send_to(work.transmit, to)
        };
        match sent {
            Ok(_) => work.counters.rtp_sent.add(1),
            Err(_) => work.counters.send_errors.add(1),
        }
    }

    /// New media may come from elsewhere: opens the socket to all again, for the bridge to judge.
    fn disconnect(&mut self) {
        if self.connected.take().is_some() {
            // Fails only for a socket that cannot be used at all.
            let _ = rustix::net::connect_unspec(&self.ports.rtp);
        }
    }
}

/// RFC 5761 section 4: RTCP packet types lie where a RTP packet would have its marker and payload types 64
/// to 95.
fn is_rtcp(packet: &[u8]) -> bool {
    packet.get(1).is_some_and(|kind| (192..=223).contains(kind))
}
