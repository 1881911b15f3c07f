//! The beginning and the end of a call on its thread: ports, bridge and agent come in, statistics and resting
//! ports go out, and a closed agent's socket lingers for its answer to our close. Each call gets a slot of the
//! frame, so that the clocks of a thread's calls spread over its twenty milliseconds.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use mio::{Interest, Token};
use tandem_agent::FrameKind;
use tandem_call::{
    BridgeFailure, CallId,
    bridge::{AgentHangUpCause, AgentSocketEnd, BridgeCommand, BridgeEvent, BridgePlan},
};

use super::{
    AGENT, Entry, FRAME_SLOTS, KINDS, Lingering, MediaThread, RTCP, RTP, SECOND_RTCP, SECOND_RTP, tick_before,
};
use crate::{
    clock,
    media::{
        agent_socket::{AgentSocket, Received},
        call::{Call, Left, Readiness},
        messages::MediaEvent,
        ports::{PortError, PortPair},
    },
    net::ws_connect::Connected,
};

/// How long a closed agent's socket is kept for its answer to our close frame (RFC 6455 section 7.1.1).
const LINGER: Duration = Duration::from_secs(2);

impl MediaThread {
    pub(super) fn open(
        &mut self,
        plan: BridgePlan,
        bind: IpAddr,
        advertised: IpAddr,
        seed: u64,
        now: Instant,
    ) {
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
        let mut ports = self.lease(call, bind, now)?;
        let index = self.vacancy();
        if let Err(error) = self.register(index, [RTP, RTCP], &mut ports) {
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

    fn lease(&self, call: CallId, bind: IpAddr, now: Instant) -> Result<PortPair, BridgeFailure> {
        self.ports.lease(bind, now).map_err(|error| {
            tracing::warn!(execution_id = %call, %error, "no media port");
            match error {
                PortError::Exhausted { .. } | PortError::Occupied { .. } => BridgeFailure::NoPorts,
                PortError::Socket { .. } => BridgeFailure::System,
            }
        })
    }

    fn register(&self, index: u32, kinds: [usize; 2], ports: &mut PortPair) -> std::io::Result<()> {
        let registry = self.poll.registry();
        registry.register(&mut ports.rtp, token(index, kinds[0]), Interest::READABLE)?;
        registry.register(&mut ports.rtcp, token(index, kinds[1]), Interest::READABLE)
    }

    /// Binds the second leg's ports.
    pub(super) fn open_second(&mut self, call: CallId, bind: IpAddr, advertised: IpAddr, now: Instant) {
        let event = match self.bind_second(call, bind, now) {
            Ok(port) => MediaEvent::SecondOpened { call, rtp: SocketAddr::new(advertised, port) },
            Err(cause) => MediaEvent::SecondFailed { call, cause },
        };
        self.waiting.push_back(event);
    }

    fn bind_second(&mut self, call: CallId, bind: IpAddr, now: Instant) -> Result<u16, BridgeFailure> {
        let index = self.by_call.get(&call).copied().ok_or(BridgeFailure::System)?;
        let mut ports = self.lease(call, bind, now)?;
        let port = ports.address.port();
        if let Err(error) = self.register(index, [SECOND_RTP, SECOND_RTCP], &mut ports) {
            tracing::warn!(execution_id = %call, %error, "the second leg's media sockets cannot be polled");
            self.rest(ports, now);
            return Err(BridgeFailure::System);
        }
        match self.entries.get_mut(index as usize) {
            Some(Entry::Call(opened)) if !opened.has_second() => {
                opened.open_second(ports);
                Ok(port)
            }
            _ => {
                self.rest(ports, now);
                Err(BridgeFailure::System)
            }
        }
    }

    pub(super) fn attach(&mut self, call: CallId, connected: Connected, now: Instant) {
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
    pub(super) fn start(&mut self, call: CallId) {
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

    pub(super) fn start_due(&mut self, tick: u64, now: Instant) {
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

    pub(super) fn close(&mut self, call: CallId, now: Instant) {
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
        let (bridge, ports, agent) = ended.end(&mut self.recording, &self.counters);
        let statistics = Box::new(bridge.statistics());
        self.waiting.push_back(MediaEvent::Closed { call, statistics });
        for pair in ports {
            self.rest(pair, now);
        }
        match agent {
            Some(mut agent) => {
                let parting = bridge.into_parting();
                if parting.is_none() {
                    let _ = agent.close(1000);
                }
                let until = now + LINGER;
                self.entries[index as usize] =
                    Entry::Lingering(Box::new(Lingering { agent, until, parting }));
                self.lingering.push_back((until, index));
            }
            None => self.free.push(index),
        }
    }

    /// Ends a call by our own fault.
    pub(super) fn fail(&mut self, index: u32, call: CallId, now: Instant) {
        tracing::error!(execution_id = %call, "a call ended by a fault of the media thread");
        self.by_call.remove(&call);
        self.counters.calls.set(self.by_call.len() as u64);
        if let Entry::Call(failed) = std::mem::replace(&mut self.entries[index as usize], Entry::Free) {
            self.slots[failed.slot] -= 1;
            let (_, ports, _) = failed.end(&mut self.recording, &self.counters);
            for pair in ports {
                self.rest(pair, now);
            }
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

    pub(super) fn end_lingering(&mut self, now: Instant) {
        while let Some((until, index)) = self.lingering.front().copied()
            && until <= now
        {
            self.lingering.pop_front();
            // The entry may have ended already and been taken by another call.
            let is_still_there =
                matches!(&self.entries[index as usize], Entry::Lingering(there) if there.until == until);
            if is_still_there {
                self.release(index);
            }
        }
    }

    pub(super) fn release(&mut self, index: u32) {
        if let Entry::Lingering(mut lingering) =
            std::mem::replace(&mut self.entries[index as usize], Entry::Free)
        {
            if lingering.parting.is_some() {
                let _ = lingering.agent.close(1000);
            }
            lingering.agent.shutdown();
            self.free.push(index);
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

impl Lingering {
    /// Reads on; whether the socket has come to its end.
    pub(super) fn is_over(&mut self, readiness: Readiness) -> bool {
        self.agent.ready(readiness.is_ending);
        if readiness.is_writable {
            let _ = self.agent.flush();
        }
        // What an agent still says after the close is read and dropped, within a bound: the linger time.
        for _ in 0..64 {
            match self.agent.receive() {
                Received::Message(kind, bytes) => self.hear(kind, &bytes),
                Received::Control => {}
                Received::Blocked => return false,
                Received::Closed(_) | Received::Broken(_) => return true,
            }
        }
        false
    }

    /// Closes once the agent has said goodbye.
    fn hear(&mut self, kind: FrameKind, bytes: &[u8]) {
        let Some(dialect) = &mut self.parting else { return };
        // The call is over: rubbish harms nothing any more.
        let _ = dialect.decode(kind, bytes, &mut |_| {});
        if dialect.has_parted() {
            self.parting = None;
            let _ = self.agent.close(1000);
        }
    }
}
