//! RTP on its way: from callers to bridges, from bridges to callers.

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_call::CallId;

use super::agents::stops_reading;
use super::{Event, FIRST_PORT, World};
use crate::check::rtp::{Agreed, Egress};

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
        if let Some(slot) = self.slots.get(&call) {
            let caller = &mut self.callers[slot.caller];
            if source.ip() == caller.caller.place.rtp.ip() && !caller.sources.contains(&source) {
                caller.sources.push(source);
            }
        }
        self.with_bridge(call, |bridge, now| bridge.handle_rtp(now, source, payload));
    }

    pub(super) fn leave_as_rtp(&mut self, call: CallId, to: SocketAddr, bytes: &[u8]) {
        self.rtp_out += 1;
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
