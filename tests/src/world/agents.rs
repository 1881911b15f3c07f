//! The agents' sockets: what is told to agents, what they do, what waits for the bridge.

use std::time::{Duration, Instant};

use tandem_agent::FrameKind;
use tandem_call::CallId;

use super::{Event, Piece, World};
use crate::agent::plan::{AgentPlan, Mode, Turn};
use crate::agent::scripted::{AgentDeed, ScriptedAgent};
use crate::agent::wire::{self, Said};
use crate::carrier::script::CallPlan;
use crate::check::agent::Expected;
use crate::check::sip::Dialog;

/// One way between Tandem and an agent.
const AGENT_DELAY: Duration = Duration::from_millis(2);

/// Bytes a socket holds for an agent that does not read, before droppable frames are dropped.
const SOCKET_BYTES: usize = 64 * 1024;

impl World {
    pub(super) fn leave_to_agent(&mut self, call: CallId, kind: FrameKind, bytes: Vec<u8>, droppable: bool) {
        self.trace.mix(self.now, 6, &bytes);
        let Some(slot) = self.slots.get_mut(&call) else { return };
        // Last words to an agent whose socket is not up yet go nowhere.
        let Some(agent) = &slot.agent else { return };
        let speech = agent.plan.speech;
        let said = wire::hear(speech, kind, &bytes);
        if !matches!(said, Said::Coded { .. } | Said::Linear(_)) {
            self.trace.note(self.now, &slot.call_id, format!("to agent: {}", brief(&said)));
        }
        if said == Said::Xoff && agent.plan.mode == Mode::Echo {
            slot.egress.echo_paused();
        }
        let call_plan = &self.plan.calls[slot.caller];
        let law = self.callers[slot.caller].caller.law();
        let call_id = slot.call_id.clone();
        let speaks_early = speaks_early(call_plan, slot.first_rtp_at, self.sip.dialog_of(&call_id));
        let expected = Expected {
            call_id: &call_id,
            clean: self.plan.is_clean(call_plan) && !self.callers[slot.caller].caller.is_over(),
            corrupt: self.plan.carriers[call_plan.carrier].rtp.corrupt > 0,
            law,
            // Two seconds are kept for a stream that has not begun.
            from_the_first: slot.first_rtp_at.zip(slot.started_at).is_none_or(|(first, start)| {
                start.saturating_duration_since(first) < Duration::from_millis(1900)
            }) && !call_plan.offer.delayed
                && !speaks_early,
        };
        slot.ingress.said(self.now, &said, &self.alphabet, expected, &slot.egress, &mut self.findings);
        let resumes = slot.reads_from.filter(|until| *until > self.now);
        if resumes.is_some() {
            if droppable && slot.unread > SOCKET_BYTES {
                return;
            }
            slot.unread += bytes.len();
        } else {
            slot.unread = 0;
        }
        let at = resumes.unwrap_or(self.now) + AGENT_DELAY;
        self.at(at, Event::ToAgent { call, said });
    }

    pub(super) fn tell_agent(&mut self, call: CallId, said: &Said) {
        let now = self.now;
        let Some(agent) = self.slots.get_mut(&call).and_then(|slot| slot.agent.as_mut()) else { return };
        let mut deeds = Vec::new();
        agent.handle(now, said, &mut deeds);
        self.perform_for_agent(call, deeds);
    }

    pub(super) fn wake_agent(&mut self, call: CallId) {
        let now = self.now;
        let Some(slot) = self.slots.get_mut(&call) else { return };
        if slot.agent_wake.is_none_or(|wake| wake > now) {
            return;
        }
        slot.agent_wake = None;
        let Some(agent) = slot.agent.as_mut() else { return };
        let mut deeds = Vec::new();
        agent.handle_timeout(now, &mut deeds);
        self.perform_for_agent(call, deeds);
    }

    fn perform_for_agent(&mut self, call: CallId, deeds: Vec<AgentDeed>) {
        let arrival = self.now + AGENT_DELAY;
        for deed in deeds {
            let Some(slot) = self.slots.get_mut(&call) else { return };
            let piece = match deed {
                AgentDeed::Send(frame) => {
                    Piece::Frame { kind: frame.kind, bytes: frame.bytes, meaning: frame.meaning }
                }
                AgentDeed::Close(code) => Piece::Closed(Some(code)),
                AgentDeed::Drop => Piece::Lost,
                AgentDeed::StopReading(until) => {
                    slot.reads_from = Some(until);
                    continue;
                }
            };
            if !matches!(piece, Piece::Frame { .. }) {
                self.trace.note(self.now, &slot.call_id, format!("agent: {piece:?}"));
                if let Some(agent) = &mut slot.agent {
                    agent.handle_closed();
                }
            }
            self.at(arrival, Event::ToBridge { call, piece });
        }
        let Some(slot) = self.slots.get_mut(&call) else { return };
        if let Some(at) = slot.agent.as_ref().and_then(ScriptedAgent::wake)
            && slot.agent_wake.is_none_or(|wake| at < wake || wake <= self.now)
        {
            slot.agent_wake = Some(at);
            self.at(at, Event::AgentWake(call));
        }
    }

    pub(super) fn tell_bridge(&mut self, call: CallId, piece: Piece) {
        let Some(slot) = self.slots.get_mut(&call) else { return };
        if !slot.socket_open {
            return;
        }
        if !matches!(piece, Piece::Frame { .. }) {
            slot.socket_open = false;
        }
        slot.inbox.push_back(piece);
        self.drain(call);
    }
}

/// What a callee says before its 200 is here is nobody's yet.
pub(super) fn speaks_early(call: &CallPlan, first_rtp: Option<Instant>, dialog: Option<&Dialog>) -> bool {
    let answered_at = dialog.and_then(|dialog| dialog.answered_at);
    call.ordered.is_some() && first_rtp.zip(answered_at).is_some_and(|(first, answered)| first < answered)
}

pub(super) fn stops_reading(plan: &AgentPlan) -> bool {
    plan.turns.iter().any(|(_, turn)| matches!(turn, Turn::StopReading(_)))
}

fn brief(said: &Said) -> String {
    let mut text = format!("{said:?}");
    text.truncate(160);
    text
}
