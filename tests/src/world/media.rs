//! Bridges and their ports: opened, driven, drained, closed.

use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use tandem_call::bridge::{
    AgentDial, AgentSocketEnd, Bridge, BridgeCommand, BridgeEvent, BridgePlan, BridgeStatistics,
    BridgeTransmit,
};
use tandem_call::{AgentFailure, BridgeFailure, CallId, Input};

use super::agents::stops_reading;
use super::{Event, Piece, Slot, World};
use crate::agent::plan::{Connect, Speech, Turn};
use crate::agent::scripted::ScriptedAgent;
use crate::agent::wire::{Meaning, Said};
use crate::carrier::script::{Act, Change};
use crate::check::agent::{Expected, Ingress};
use crate::check::rtcp::Reports;
use crate::check::rtp::Egress;
use crate::marks::Mark;
use crate::operator::agent_of_url;
use crate::sabotage::Planted;
use crate::swarm::TANDEM_SIP;

/// The identity an agent's own audio carries, from its caller's.
pub(super) fn agent_voice(caller: u16) -> u16 {
    caller | 0x8000
}

impl World {
    pub(super) fn open_bridge(&mut self, call: CallId, plan: Box<BridgePlan>) {
        let call_id = plan.agent.facts.sip_call_id.clone();
        let caller = self.caller_ordered(call).or_else(|| self.caller_of(&call_id)).unwrap_or(0);
        let agent_index = agent_of_url(&plan.agent.url).unwrap_or(0).min(self.plan.agents.len() - 1);
        self.ledger.opened(self.now, call, &call_id, &mut self.findings);
        self.trace.alias(call.to_string(), &call_id);
        self.trace.note(self.now, &call_id, format!("OpenBridge, agent {agent_index}"));
        let voice = self.plan.calls[caller].voice;
        let speech = self.plan.agents[agent_index].speech;
        let slot = Slot {
            caller,
            call_id,
            plan: Some(plan),
            agent_index,
            bridge: None,
            rtp: None,
            agent: None,
            agent_wake: None,
            socket_open: false,
            inbox: std::collections::VecDeque::new(),
            unread: 0,
            reads_from: None,
            wake: None,
            ingress: Ingress::new(speech, voice),
            egress: Egress::new(voice, agent_voice(voice), speech == Speech::Bolna),
            reports: Reports::new(self.start),
            last_packet: None,
            first_rtp_at: None,
            started_at: None,
            renegotiated_at: None,
        };
        self.slots.insert(call, slot);
        self.check_limits();
        self.at(self.now + self.plan.bind, Event::Bind(call));
    }

    fn check_limits(&mut self) {
        let over_node = self.plan.calls_max.is_some_and(|most| self.slots.len() > most);
        let over_trunk = self.plan.carriers.iter().enumerate().find(|(index, carrier)| {
            let held =
                self.slots.values().filter(|slot| self.plan.calls[slot.caller].carrier == *index).count();
            carrier.calls_max.is_some_and(|most| held > most as usize)
        });
        if over_node || over_trunk.is_some() {
            self.findings.note(
                "decision",
                self.now,
                "",
                format!("{} calls are over a limit", self.slots.len()),
            );
        }
    }

    pub(super) fn bind(&mut self, call: CallId) {
        let Some(plan) = self.slots.get_mut(&call).and_then(|slot| slot.plan.take()) else { return };
        let Some(port) = self.ports.take(self.now, call) else {
            self.slots.remove(&call);
            self.marks.hit(Mark::NoPorts);
            self.ledger.commanded(self.now, call, true, &mut self.findings);
            self.feed(Input::BridgeFailed { call, cause: BridgeFailure::NoPorts });
            return;
        };
        if let Some(released) = self.released.remove(&port)
            && self.now < released + self.plan.port_rest
        {
            self.findings.note("stuck", self.now, "", format!("port {port} had no rest"));
        }
        let rtp = SocketAddr::new(TANDEM_SIP.ip(), port);
        let seed = self.dice.bits();
        let now = self.now;
        // The agent of a call that we place is dialled when the callee is there.
        let is_ordered = plan.agent.dial == AgentDial::WhenTold;
        let bridge = catch_unwind(AssertUnwindSafe(|| Bridge::new(*plan, seed, now)));
        let Ok(Ok(bridge)) = bridge else {
            self.findings.note("panic", self.now, "", "no bridge could be made");
            self.broken = true;
            return;
        };
        self.by_port.insert(rtp, call);
        if let Some(slot) = self.slots.get_mut(&call) {
            slot.bridge = Some(bridge);
            slot.rtp = Some(rtp);
        }
        if !is_ordered {
            self.dial_agent(call);
        }
        self.feed(Input::BridgeOpened { call, rtp });
        self.drain(call);
    }

    /// Begins to dial the call's agent.
    pub(super) fn dial_agent(&mut self, call: CallId) {
        let Some(slot) = self.slots.get(&call) else { return };
        match self.plan.agents[slot.agent_index].connect {
            Connect::After(after) => self.at(self.now + after, Event::Dialled(call)),
            Connect::Refuse(after) | Connect::Silence(after) => {
                self.at(self.now + after, Event::DialFailed(call))
            }
        }
    }

    pub(super) fn dialled(&mut self, call: CallId) {
        let alphabet = Rc::clone(&self.alphabet);
        let dice = self.dice.fork();
        let Some(slot) = self.slots.get_mut(&call) else { return };
        let plan = self.plan.agents[slot.agent_index].clone();
        if plan.turns.iter().any(|(_, turn)| *turn == Turn::Odd) {
            slot.ingress.paused();
        }
        let voice = agent_voice(self.plan.calls[slot.caller].voice);
        slot.agent = Some(ScriptedAgent::new(plan, voice, alphabet, dice));
        slot.socket_open = true;
        self.feed(Input::AgentConnected { call });
        self.drain(call);
    }

    pub(super) fn dial_failed(&mut self, call: CallId) {
        let Some(slot) = self.slots.get(&call) else { return };
        let cause = match self.plan.agents[slot.agent_index].connect {
            Connect::Silence(_) => AgentFailure::Timeout,
            _ => AgentFailure::Unreachable("198.51.100.9:80: Connection refused".to_owned()),
        };
        self.feed(Input::AgentRefused { call, cause });
    }

    pub(super) fn command_bridge(&mut self, call: CallId, command: BridgeCommand) {
        self.ledger.commanded(self.now, call, false, &mut self.findings);
        if let Some(slot) = self.slots.get_mut(&call) {
            self.trace.note(self.now, &slot.call_id, format!("bridge: {}", name_of(&command)));
            if command == BridgeCommand::Start {
                slot.started_at = Some(self.now);
                if slot.first_rtp_at.is_some() {
                    self.marks.hit(Mark::EarlyWords);
                }
            }
            if let BridgeCommand::Media(media) = &command {
                slot.egress.renegotiated(media.direction.sends());
                slot.renegotiated_at = Some(self.now);
            }
        }
        self.with_bridge(call, |bridge, now| bridge.handle_command(now, command));
    }

    pub(super) fn close_bridge(&mut self, call: CallId) {
        self.ledger.commanded(self.now, call, true, &mut self.findings);
        if self.sabotage.planted() == Some(Planted::LeaksBridge) {
            return;
        }
        self.with_bridge(call, |bridge, now| bridge.handle_command(now, BridgeCommand::HangUp));
        let Some(slot) = self.slots.remove(&call) else { return };
        self.trace.note(self.now, &slot.call_id, "CloseBridge".into());
        let statistics = slot.bridge.as_ref().map(Bridge::statistics).unwrap_or_default();
        if let Some(rtp) = slot.rtp {
            self.by_port.remove(&rtp);
            self.ports.used.remove(&rtp.port());
            self.ports.resting.insert(rtp.port(), self.now + self.ports.rest);
            self.released.insert(rtp.port(), self.now);
        }
        if let (Some(Planted::RtpAfterBye), Some((to, bytes)), Some(port)) =
            (self.sabotage.planted(), &slot.last_packet, slot.rtp)
        {
            let event =
                Event::StrayRtp { call_id: slot.call_id.clone(), to: *to, bytes: bytes.clone(), port };
            self.at(self.now + Duration::from_millis(25), event);
        }
        if slot.socket_open && !self.is_hard_to_hear(&slot) {
            slot.ingress.finish(self.now, &slot.call_id, &mut self.findings);
        }
        self.mark_media(&slot, &statistics);
        if self.is_report_plain(&slot) {
            slot.reports.finish(self.now, &statistics.rtp, &slot.call_id, &mut self.findings);
        }
        let facts = &mut self.callers[slot.caller].facts;
        facts.statistics = Some(statistics.clone());
        facts.ingress = Some(slot.ingress);
        facts.egress = Some(slot.egress);
        self.at(
            self.now + Duration::from_micros(500),
            Event::BridgeClosed { call, statistics: Box::new(statistics) },
        );
    }

    fn mark_media(&mut self, slot: &Slot, statistics: &BridgeStatistics) {
        let rtp = &statistics.rtp;
        let is_jittery = !self.callers[slot.caller].rtp.profile().jitter.is_zero() && rtp.jitter_us > 500;
        let is_moved =
            self.plan.calls[slot.caller].steps.iter().any(|step| {
                matches!(step.act, Act::Reinvite(Change::NewPort) | Act::Update(Change::NewPort))
            }) && slot.renegotiated_at.is_some();
        let happened = [
            (rtp.packets_lost > 0, Mark::BurstLoss),
            (is_jittery, Mark::Jitter),
            (rtp.out_of_order > 0, Mark::Reordered),
            (is_moved, Mark::PortMoved),
            (rtp.malformed > 0, Mark::RubbishRtp),
            (slot.ingress.xoffs > 0, Mark::AgentFlood),
            (slot.reads_from.is_some(), Mark::AgentStopsReading),
            (rtp.rtcp_received > 0 && rtp.round_trip_us.is_some(), Mark::ReportsBothWays),
        ];
        happened.into_iter().filter(|(it, _)| *it).for_each(|(_, mark)| self.marks.hit(mark));
    }

    /// An agent that does not read is told less than was said.
    fn is_hard_to_hear(&self, slot: &Slot) -> bool {
        stops_reading(&self.plan.agents[slot.agent_index])
            || matches!(self.sabotage.planted(), Some(Planted::LosesAgentAudio | Planted::RepeatsAgentAudio))
    }

    pub(super) fn bridge_closed(&mut self, call: CallId, statistics: Box<BridgeStatistics>) {
        self.feed(Input::BridgeClosed { call, statistics });
    }

    // The bridge.

    pub(super) fn wake_bridge(&mut self, call: CallId) {
        let Some(slot) = self.slots.get_mut(&call) else { return };
        if slot.wake.is_none_or(|wake| wake > self.now) {
            return;
        }
        slot.wake = None;
        self.with_bridge(call, |bridge, now| bridge.handle_timeout(now));
        let Some(slot) = self.slots.get(&call) else { return };
        let deadline = slot.bridge.as_ref().and_then(Bridge::poll_timeout);
        if deadline.is_some_and(|at| at <= self.now) {
            self.findings.note("panic", self.now, &slot.call_id, "a bridge's deadline does not move");
            self.broken = true;
        }
    }

    pub(super) fn with_bridge(&mut self, call: CallId, act: impl FnOnce(&mut Bridge, std::time::Instant)) {
        let now = self.now;
        let Some(bridge) = self.slots.get_mut(&call).and_then(|slot| slot.bridge.as_mut()) else { return };
        if catch_unwind(AssertUnwindSafe(|| act(bridge, now))).is_err() {
            self.findings.note("panic", now, "", "a bridge panicked");
            self.broken = true;
            return;
        }
        self.drain(call);
    }

    /// Drains a bridge: transmits, events, the frames it is ready to read, its next deadline.
    pub(super) fn drain(&mut self, call: CallId) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            let now = self.now;
            let Some(bridge) = self.slots.get_mut(&call).and_then(|slot| slot.bridge.as_mut()) else { break };
            match catch_unwind(AssertUnwindSafe(|| bridge.poll_transmit(now, &mut buffer))) {
                Ok(Some(transmit)) => self.take_from_bridge(call, transmit, &mut buffer),
                Ok(None) => {
                    if !self.take_bridge_event(call) && !self.read_inbox(call) {
                        break;
                    }
                }
                Err(_) => {
                    self.findings.note("panic", now, "", "a bridge panicked");
                    self.broken = true;
                    break;
                }
            }
        }
        self.buffer = buffer;
        let Some(slot) = self.slots.get_mut(&call) else { return };
        let Some(at) = slot.bridge.as_ref().and_then(Bridge::poll_timeout) else { return };
        if slot.wake.is_none_or(|wake| at < wake || wake <= self.now) {
            slot.wake = Some(at);
            self.at(at, Event::BridgeWake(call));
        }
    }

    fn take_bridge_event(&mut self, call: CallId) -> bool {
        let Some(slot) = self.slots.get_mut(&call) else { return false };
        let Some(event) = slot.bridge.as_mut().and_then(Bridge::poll_event) else { return false };
        if let BridgeEvent::QueueOverflow { .. } = event {
            slot.egress.overflowed();
        }
        if !matches!(event, BridgeEvent::MarkPlayed { .. }) {
            self.trace.note(self.now, &slot.call_id, format!("bridge says {event:?}"));
        }
        self.marks.bridge(&event);
        if let BridgeEvent::Latched { source } = event
            && source != self.callers[slot.caller].caller.place.rtp
        {
            self.marks.hit(Mark::Latched);
        }
        self.callers[slot.caller].facts.events.push(event.clone());
        self.at(self.now, Event::FromBridge { call, event });
        true
    }

    fn read_inbox(&mut self, call: CallId) -> bool {
        let Some(slot) = self.slots.get_mut(&call) else { return false };
        let Some(bridge) = slot.bridge.as_mut() else { return false };
        if !bridge.wants_agent_input() {
            return false;
        }
        let Some(piece) = slot.inbox.pop_front() else { return false };
        let now = self.now;
        let outcome = catch_unwind(AssertUnwindSafe(|| match &piece {
            Piece::Frame { kind, bytes, .. } => bridge.handle_agent_frame(now, *kind, bytes),
            Piece::Closed(code) => bridge.handle_agent_closed(now, AgentSocketEnd::Closed { code: *code }),
            Piece::Lost => bridge.handle_agent_closed(now, AgentSocketEnd::Lost),
        }));
        if outcome.is_err() {
            self.findings.note("panic", now, &slot.call_id, "a bridge panicked over an agent's frame");
            self.broken = true;
            return false;
        }
        if let Piece::Frame { meaning, bytes, .. } = &piece {
            self.trace.mix(now, 3, bytes);
            slot.ingress.meant(now, meaning, &mut slot.egress);
            match meaning {
                Meaning::Flush => self.sabotage.flushed(call),
                Meaning::Mark(name) if self.sabotage.is_early() => {
                    let said = Said::Mark { name: name.clone(), cleared: false };
                    let name = slot.call_id.clone();
                    let expected = Expected {
                        call_id: &name,
                        clean: false,
                        corrupt: false,
                        law: None,
                        from_the_first: false,
                    };
                    slot.ingress.said(now, &said, &self.alphabet, expected, &slot.egress, &mut self.findings);
                }
                _ => {}
            }
        }
        true
    }

    fn take_from_bridge(&mut self, call: CallId, transmit: BridgeTransmit, buffer: &mut [u8]) {
        match transmit {
            BridgeTransmit::Rtp { to } => {
                let mut target = to;
                for _ in 0..self.sabotage.rtp(call, &mut target, buffer) {
                    self.leave_as_rtp(call, target, buffer);
                }
            }
            BridgeTransmit::Rtcp { to } => self.leave_as_rtcp(call, to, buffer),
            // There are no second legs in this world.
            BridgeTransmit::SecondRtp { .. } | BridgeTransmit::SecondRtcp { .. } => {}
            BridgeTransmit::Agent { kind, droppable } => {
                for altered in self.sabotage.frame(call, kind, buffer.to_vec(), droppable) {
                    if altered.delay.is_zero() {
                        self.leave_to_agent(call, altered.kind, altered.bytes, droppable);
                    } else {
                        let event =
                            Event::Leave { call, kind: altered.kind, bytes: altered.bytes, droppable };
                        self.at(self.now + altered.delay, event);
                    }
                }
            }
            BridgeTransmit::AgentClose { code } => {
                let Some(slot) = self.slots.get_mut(&call) else { return };
                self.trace.note(self.now, &slot.call_id, format!("agent's socket closed with {code}"));
                slot.socket_open = false;
                slot.inbox.clear();
                if let Some(agent) = &mut slot.agent {
                    agent.handle_closed();
                }
            }
        }
    }
}

fn name_of(command: &BridgeCommand) -> String {
    match command {
        BridgeCommand::Media(media) => {
            format!("Media to {} {:?} {:?}", media.remote, media.codec, media.direction)
        }
        other => format!("{other:?}"),
    }
}
