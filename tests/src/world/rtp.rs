//! RTP on its way: from callers to bridges, from bridges to callers.

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_call::CallId;

use super::agents::{speaks_early, stops_reading};
use super::{CallerSlot, Event, FIRST_PORT, Slot, World};
use crate::carrier::script::Act;
use crate::check::rtp::{Agreed, Egress};
use crate::marks::Mark;
use crate::swarm::STRANGER;

impl World {
    pub(super) fn send_rtp(&mut self, caller: usize, from: SocketAddr, to: SocketAddr, payload: &Bytes) {
        let now = self.now;
        let mut arrivals = Vec::new();
        self.callers[caller].rtp.send(now, payload, |arrival| arrivals.push(arrival));
        for arrival in arrivals {
            self.at(arrival.at, Event::Rtp { to, source: from, payload: arrival.payload });
        }
    }

    pub(super) fn arrive_rtp(&mut self, to: SocketAddr, source: SocketAddr, payload: &Bytes) {
        if to.port() % 2 == 1 {
            self.arrive_rtcp(to, source, payload);
            return;
        }
        let Some(call) = self.by_port.get(&to).copied() else {
            // A port rests until nobody talks to it any more: a caller who missed the end is not to be heard next.
            if let Some(until) = self.ports.resting.get_mut(&to.port()) {
                *until = self.now + self.ports.rest;
            }
            return;
        };
        self.rtp_in += 1;
        self.trace.mix(self.now, 2, payload);
        self.sabotage.rtp_arrives(source);
        if payload.get(1).is_some_and(|byte| byte & 0x7f == 13) {
            self.marks.hit(Mark::ComfortNoise);
        }
        if source.ip() == STRANGER.ip() {
            self.marks.hit(Mark::StrangerRtp);
        }
        if let Some(slot) = self.slots.get_mut(&call) {
            if source.ip() != STRANGER.ip() {
                slot.first_rtp_at.get_or_insert(self.now);
                slot.reports.rtp_arrives(self.now, payload);
            }
            let caller = &mut self.callers[slot.caller];
            if source.ip() == caller.caller.place.rtp.ip() && !caller.sources.contains(&source) {
                caller.sources.push(source);
            }
        }
        self.with_bridge(call, |bridge, now| bridge.handle_rtp(now, source, payload));
    }

    fn arrive_rtcp(&mut self, to: SocketAddr, source: SocketAddr, payload: &Bytes) {
        let rtp = SocketAddr::new(to.ip(), to.port() - 1);
        let Some(call) = self.by_port.get(&rtp).copied() else { return };
        self.trace.mix(self.now, 7, payload);
        if let Some(slot) = self.slots.get_mut(&call)
            && source.ip() == self.callers[slot.caller].caller.place.rtp.ip()
        {
            slot.reports.report_arrives(self.now, source, payload);
        }
        self.with_bridge(call, |bridge, now| bridge.handle_rtcp(now, source, payload));
    }

    /// Whether nothing about the call makes the model's counts of its RTP differ from what is right: no source that
    /// begins anew or moves, no packet of which the kind or the numbers lie, no media before anything was agreed.
    pub(super) fn is_report_plain(&self, slot: &Slot) -> bool {
        let call = &self.plan.calls[slot.caller];
        let steady = |act: &Act| {
            matches!(
                act,
                Act::Bye
                    | Act::ByeNow
                    | Act::Press(_)
                    | Act::Mute
                    | Act::Speak
                    | Act::Hush(_)
                    | Act::Info(_)
                    | Act::Options
                    | Act::RepeatAck
                    | Act::RepeatInvite
                    | Act::OldCseq
                    | Act::Cancel
            )
        };
        self.plan.carriers[call.carrier].rtp.corrupt == 0
            && !speaks_early(call, slot.first_rtp_at, self.sip.dialog_of(&slot.call_id))
            && !call.offer.delayed
            && !call.refreshes
            && call.steps.iter().all(|step| steady(&step.act))
    }

    pub(super) fn leave_as_rtcp(&mut self, call: CallId, to: SocketAddr, bytes: &[u8]) {
        self.trace.mix(self.now, 4, bytes);
        let Some(slot) = self.slots.get(&call) else { return };
        let is_plain = self.is_report_plain(slot);
        let Some(slot) = self.slots.get_mut(&call) else { return };
        let (now, index) = (self.now, slot.caller);
        let bytes = self.sabotage.rtcp(bytes);
        slot.reports.report_leaves(now, &bytes, is_plain, &slot.egress, &slot.call_id, &mut self.findings);
        let dialog = self.sip.dialog_of(&slot.call_id);
        let named = dialog.iter().flat_map(|dialog| dialog.caller_rtp.iter());
        let mut hosts = self.callers[index].sources.iter().chain(named);
        // RFC 3550 11: the port above that of the RTP, or the one that the caller's own reports come from.
        if !slot.reports.sources.contains(&to)
            && !hosts.any(|rtp| rtp.ip() == to.ip() && rtp.port() + 1 == to.port())
        {
            self.findings.note("rtcp", now, &slot.call_id, format!("a report to {to}"));
        }
        let payload = Bytes::from(bytes);
        let mut arrivals = Vec::new();
        self.callers[index].rtp_back.send(now, &payload, |arrival| arrivals.push(arrival));
        for arrival in arrivals {
            self.at(arrival.at, Event::ReportToCaller { caller: index, payload: arrival.payload });
        }
    }

    pub(super) fn leave_as_rtp(&mut self, call: CallId, to: SocketAddr, bytes: &[u8]) {
        self.rtp_out += 1;
        if bytes.len() == 16 {
            self.marks.hit(Mark::DigitsToCaller);
        }
        self.trace.mix(self.now, 5, bytes);
        let Some(slot) = self.slots.get_mut(&call) else { return };
        let caller = &self.callers[slot.caller];
        let call_plan = &self.plan.calls[slot.caller];
        let dialog = self.sip.dialog_of(&slot.call_id);
        let mut targets = caller.sources.clone();
        targets.extend(dialog.iter().flat_map(|dialog| dialog.caller_rtp.iter().copied()));
        let agreed = Agreed {
            call_id: &slot.call_id,
            negotiated: dialog.is_some_and(|dialog| dialog.negotiated_at.is_some()),
            ended_at: dialog.and_then(|dialog| dialog.ended_at),
            renegotiating: slot.renegotiated_at == Some(self.now),
            may_send: dialog.is_some_and(|dialog| dialog.may_send),
            formats: dialog.map_or(&[], |dialog| &dialog.formats),
            targets: &targets,
            clean: self.plan.is_clean(call_plan)
                && !caller.caller.is_over()
                && !stops_reading(&self.plan.agents[slot.agent_index]),
            corrupt: self.plan.carriers[call_plan.carrier].rtp.corrupt > 0,
        };
        slot.egress.packet(self.now, &self.alphabet, to, bytes, &agreed, &mut self.findings);
        slot.last_packet = Some((to, bytes.to_vec()));
        let index = slot.caller;
        if self.callers[index].caller.plan.reports {
            let CallerSlot { caller, rtp_back, .. } = &mut self.callers[index];
            let payload = Bytes::copy_from_slice(&bytes[..bytes.len().min(12)]);
            rtp_back.send(self.now, &payload, |arrival| caller.hear_rtp(arrival.at, &arrival.payload));
        }
    }

    pub(super) fn stray_rtp(&mut self, call_id: &str, to: SocketAddr, bytes: &[u8], port: SocketAddr) {
        let mut egress = Egress::new(0, 0, true);
        let formats = ["0".to_owned(), "8".to_owned()];
        let ended_at = self.sip.dialog_of(call_id).and_then(|dialog| dialog.ended_at);
        let targets = [to];
        let agreed = Agreed {
            call_id,
            negotiated: true,
            renegotiating: false,
            ended_at,
            may_send: true,
            formats: &formats,
            targets: &targets,
            clean: false,
            corrupt: false,
        };
        egress.packet(self.now, &self.alphabet, to, bytes, &agreed, &mut self.findings);
        debug_assert!(port.port() >= FIRST_PORT, "a media port");
    }
}
