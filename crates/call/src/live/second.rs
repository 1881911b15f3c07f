//! The second leg of a call: dialled through a trunk's gateways as a call of ours is, joined to the caller when it is
//! answered, and let go when either side hangs up.
//!
//! Its audio is relayed by the call's bridge; what its peer wants changed is answered here, as `change` does for the
//! caller's leg. RFC 3261 sections 13.2, 14 and 15, RFC 3264.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tandem_media::LatchPolicy;
use tandem_sip::{EndedBy, SessionId, Transport};

use super::ending::Ending;
use super::outbound::{Leg, Outgoing, Step};
use super::transfer::{SecondPort, Stage};
use super::{Awaiting, LiveCall, ending};
use crate::admission::{Permit, Side};
use crate::bridge::{BridgeCommand, BridgeStatistics};
use crate::dtmf_info;
use crate::encryption::MediaSecurity;
use crate::gateways::{self, Way};
use crate::ids::CallId;
use crate::input::BridgeFailure;
use crate::negotiation::Negotiation;
use crate::node::Node;
use crate::output::Output;
use crate::placing;
use crate::reach;
use crate::record::{CallDirection, CallRecord, HangupBy};
use crate::table::Trunk;
use crate::transfer::{SecondPackets, ShownNumber, TransferMethod, TransferOutcome};

/// A second leg.
#[derive(Debug)]
pub(super) struct Second {
    trunk: Arc<Trunk>,
    sip_call_id: Bytes,
    pub(super) session: Option<SessionId>,
    peer: SocketAddr,
    negotiation: Negotiation,
    permit: Option<Permit>,
    outgoing: Outgoing,
}

impl Second {
    /// The walk through the gateways, with what it works on.
    fn on_the_way<'a>(
        &'a mut self,
        call: CallId,
        record: &'a mut CallRecord,
    ) -> Option<(&'a mut Outgoing, Leg<'a>)> {
        let attempts = &mut record.transfers.last_mut()?.gateways;
        let leg = Leg {
            call,
            trunk: &self.trunk,
            sip_call_id: &self.sip_call_id,
            session: &mut self.session,
            peer: &mut self.peer,
            negotiation: &mut self.negotiation,
            attempts,
            verdict: None,
        };
        Some((&mut self.outgoing, leg))
    }

    /// Ends the leg without a word of why.
    pub(super) fn let_go(&mut self, now: Instant, node: &mut Node) {
        self.hang_up_because(None, now, node);
    }

    /// Ends the leg with the call.
    pub(super) fn hang_up(&mut self, ending: &Ending, now: Instant, node: &mut Node) {
        let reason = format!("Q.850;cause={};text=\"{}\"", ending.reason.q850(), ending.reason.as_str());
        self.hang_up_because(Some(Bytes::from(reason)), now, node);
    }

    fn hang_up_because(&mut self, reason: Option<Bytes>, now: Instant, node: &mut Node) {
        if let Some(session) = self.session.take()
            && node.endpoint.hangup(now, session, reason).is_err()
        {
            // It went at the same moment.
            node.counters.late_inputs += 1;
        }
        if let Some(permit) = self.permit.take() {
            node.admission.release(permit, now);
        }
    }

    fn latch(&self) -> LatchPolicy {
        let ranges = self.trunk.sources.iter().map(|range| (range.addr(), range.prefix_len()));
        LatchPolicy {
            symmetric: self.trunk.rtp_symmetric,
            allowed: ranges.chain([reach::host(self.peer.ip())]).collect(),
        }
    }
}

impl LiveCall {
    /// Dials the second leg.
    pub(super) fn dial_second(&mut self, now: Instant, node: &mut Node) {
        match self.make_second(now, node) {
            Ok(second) => {
                if let Some(transfer) = &mut self.transfers.current {
                    transfer.second = Some(Box::new(second));
                }
                self.walk_second(now, node, |outgoing, leg, node| outgoing.next_gateway(leg, now, node));
            }
            Err(why) => self.fail_transfer(None, &why, now, node),
        }
    }

    /// A second leg that has gone nowhere yet, or why there can be none.
    fn make_second(&mut self, now: Instant, node: &mut Node) -> Result<Second, String> {
        let transfer = self.transfers.current.as_ref().ok_or("no transfer is under way")?;
        let order = transfer.order.clone();
        let wanted = order.trunk.as_ref().unwrap_or(&self.trunk.id);
        let found = node.table.trunk(wanted).filter(|trunk| trunk.account == self.record.account);
        let trunk = Arc::clone(found.ok_or("the trunk is not there (any more)")?);
        placing::check_trunk(&trunk)?;
        let host = transfer.destination.host();
        let is_ours =
            |host: &String| trunk.gateways.iter().any(|gateway| gateway.address.eq_ignore_ascii_case(host));
        if host.as_ref().is_some_and(|host| !is_ours(host)) {
            return Err("a second leg goes to the trunk's own gateways; give a number".to_owned());
        }
        let dialled = transfer.destination.number.clone();
        let permit = node
            .admission
            .admit(&trunk, Side::Outbound, now)
            .map_err(|no_room| format!("the trunk {} has no room: {}", trunk.name, no_room.detail))?;
        let (own, other) = match self.record.direction {
            CallDirection::Inbound => (&self.record.to, &self.record.from),
            CallDirection::Outbound => (&self.record.from, &self.record.to),
        };
        let from = match order.shows {
            ShownNumber::Own => own.clone(),
            ShownNumber::Caller => other.clone(),
        };
        let mut codecs = trunk.codecs.clone();
        // Equal codecs pass bit for bit.
        let agreed = self.negotiation.agreed().map(|media| media.codec);
        codecs.sort_by_key(|codec| Some(*codec) != agreed);
        let sip_call_id = node.new_sip_call_id();
        self.transfers.call_ids.push(Bytes::from(sip_call_id.clone()));
        node.sip_call_ids.insert(Bytes::from(sip_call_id.clone()), self.id);
        self.note_transfer(|record| {
            record.from.clone_from(&from);
            record.trunk = Some(trunk.id.clone());
            record.sip_call_id.clone_from(&sip_call_id);
        });
        let gateways = gateways::in_order(&trunk, &mut node.random);
        let ringing = order.ringing.unwrap_or(node.config.ringing_timeout);
        let outgoing = Outgoing::new(dialled, from, gateways, None)
            .ordered(placing::free_headers(&order.headers), ringing);
        let security = MediaSecurity::new(&trunk, trunk.transport, node.new_media_random());
        Ok(Second {
            negotiation: Negotiation::new(codecs, node.new_sdp_session(), None, security),
            sip_call_id: Bytes::from(sip_call_id),
            session: None,
            peer: self.peer,
            permit: Some(permit),
            outgoing,
            trunk,
        })
    }

    /// Takes a step on the second leg's way, and awaits what follows it.
    fn walk_second(
        &mut self,
        now: Instant,
        node: &mut Node,
        go: impl FnOnce(&mut Outgoing, &mut Leg<'_>, &mut Node) -> Step,
    ) {
        let second = self.transfers.current.as_mut().and_then(|transfer| transfer.second.as_mut());
        let walk = second.and_then(|second| second.on_the_way(self.id, &mut self.record));
        let Some((outgoing, mut leg)) = walk else {
            node.counters.unexpected_inputs += 1;
            return;
        };
        match go(outgoing, &mut leg, node) {
            Step::Way => {
                let until = now + node.config.way_timeout;
                self.transfer_awaits(Stage::Way, Some(until), node);
            }
            Step::Port(way) => self.second_needs_port(way, now, node),
            Step::Answer(until) => {
                let peer = leg.peer.ip();
                self.transfers.peers.push(peer);
                self.transfer_awaits(Stage::Answer, Some(until), node);
            }
            Step::Over { ending, .. } => {
                let status = leg.attempts.last().and_then(|attempt| attempt.sip_status);
                let why = ending.error.unwrap_or_else(|| ending.reason.as_str().to_owned());
                self.fail_transfer(status, &why, now, node);
            }
        }
    }

    /// The second media port is bound once; later legs use it again.
    fn second_needs_port(&mut self, way: Way, now: Instant, node: &mut Node) {
        match self.transfers.port {
            SecondPort::Bound(rtp) => self.call_second_from(rtp, now, node),
            SecondPort::Asked => {
                self.transfer_awaits(Stage::Port, Some(now + node.config.bridge_timeout), node);
            }
            SecondPort::Unasked => {
                self.transfers.port = SecondPort::Asked;
                let peer = way.remote.ip().to_canonical();
                node.emit(Output::OpenSecond { call: self.id, peer });
                self.transfer_awaits(Stage::Port, Some(now + node.config.bridge_timeout), node);
            }
        }
    }

    fn call_second_from(&mut self, rtp: SocketAddr, now: Instant, node: &mut Node) {
        if let Some(second) = self.transfers.current.as_mut().and_then(|transfer| transfer.second.as_mut()) {
            second.negotiation.bind(rtp);
        }
        self.walk_second(now, node, |outgoing, leg, node| outgoing.next_way(leg, now, node));
    }

    /// The second media port is bound.
    pub(super) fn second_opened(&mut self, rtp: SocketAddr, now: Instant, node: &mut Node) {
        if self.transfers.port != SecondPort::Asked {
            node.counters.unexpected_inputs += 1;
            return;
        }
        self.transfers.port = SecondPort::Bound(rtp);
        match self.transfers.current.as_ref().map(|transfer| transfer.stage) {
            Some(Stage::Port) => self.call_second_from(rtp, now, node),
            Some(_) | None => node.counters.late_inputs += 1,
        }
    }

    /// There is no second media port.
    pub(super) fn second_failed(&mut self, cause: BridgeFailure, now: Instant, node: &mut Node) {
        self.transfers.port = SecondPort::Unasked;
        match self.transfers.current.as_ref().map(|transfer| transfer.stage) {
            Some(Stage::Port) => self.fail_transfer(None, &cause.to_string(), now, node),
            Some(_) | None => node.counters.late_inputs += 1,
        }
    }

    /// Whether the addresses of a gateway are awaited for the second leg.
    pub(super) fn seeks_second(&self) -> bool {
        self.transfers.current.as_ref().is_some_and(|transfer| transfer.stage == Stage::Way)
    }

    /// The second leg's gateway has these addresses.
    pub(super) fn second_way_found(&mut self, ways: Vec<Way>, now: Instant, node: &mut Node) {
        self.walk_second(now, node, |outgoing, leg, node| outgoing.way_found(ways, leg, now, node));
    }

    /// The second leg's gateway has none.
    pub(super) fn second_way_failed(&mut self, why: &str, now: Instant, node: &mut Node) {
        self.walk_second(now, node, |outgoing, leg, node| outgoing.way_failed(why, leg, now, node));
    }

    /// The second leg's gateway is silent, or it rang too long.
    pub(super) fn second_overdue(&mut self, now: Instant, node: &mut Node) {
        if self.seeks_second() {
            return self.second_way_failed("its name was not resolved in time", now, node);
        }
        self.walk_second(now, node, |outgoing, leg, node| outgoing.overdue(leg, now, node));
    }

    /// A provisional response above 100 to the second leg's INVITE.
    pub(super) fn second_progressed(
        &mut self,
        status: u16,
        body: Option<Bytes>,
        now: Instant,
        node: &mut Node,
    ) {
        let transfer = self.transfers.current.as_mut().filter(|transfer| transfer.stage == Stage::Answer);
        let Some(second) = transfer.and_then(|transfer| transfer.second.as_mut()) else {
            node.counters.late_inputs += 1;
            return;
        };
        let (until, is_ringing) = second.outgoing.progressed(status, body);
        self.transfer_awaits(Stage::Answer, until, node);
        if is_ringing {
            let at = node.unix_ms(now);
            self.note_transfer(|record| record.ringing_unix_ms = record.ringing_unix_ms.or(Some(at)));
        }
    }

    /// Somebody is there: the caller is theirs.
    pub(super) fn second_answered(
        &mut self,
        status: u16,
        body: Option<Bytes>,
        now: Instant,
        node: &mut Node,
    ) {
        let id = self.id;
        let transfer = self.transfers.current.as_mut().filter(|transfer| transfer.stage == Stage::Answer);
        let Some(transfer) = transfer else {
            node.counters.late_inputs += 1;
            return;
        };
        let keeps_agent = transfer.order.keeps_agent;
        let Some(second) = &mut transfer.second else { return };
        let description = body.or(second.outgoing.take_early());
        let answer = description.map(|answer| second.negotiation.take_answer(&answer));
        let media = match answer {
            Some(Ok(media)) => media,
            Some(Err(error)) => {
                let why = format!("the answer of the second leg cannot be used: {error}");
                return self.fail_transfer(Some(status), &why, now, node);
            }
            None => {
                let why = "the second leg answered without describing its audio";
                return self.fail_transfer(Some(status), why, now, node);
            }
        };
        let latch = second.latch();
        if let Some((_, mut leg)) = second.on_the_way(id, &mut self.record) {
            leg.close_attempt(Some(status), "answered", now, node);
        }
        node.emit(Output::Bridge { call: id, command: BridgeCommand::SecondMedia { media, latch } });
        node.emit(Output::Bridge { call: id, command: BridgeCommand::Join { keeps_agent } });
        node.counters.transfers_connected += 1;
        let at = node.unix_ms(now);
        let mut is_attended = false;
        self.note_transfer(|record| {
            record.outcome = TransferOutcome::Connected;
            record.answered_unix_ms = Some(at);
            record.sip_status = Some(status);
            is_attended = record.method == TransferMethod::Attended;
        });
        self.transfer_awaits(Stage::Joined, None, node);
        if is_attended {
            self.hand_over(now, node);
        }
        self.progress(node);
    }

    /// The second leg's session is over, by whatever cause.
    pub(super) fn second_ended(&mut self, by: &EndedBy, now: Instant, node: &mut Node) {
        let Some(transfer) = &mut self.transfers.current else { return };
        let Some(second) = &mut transfer.second else { return };
        match transfer.stage {
            Stage::Answer => {
                // The walk goes on from an INVITE that is over.
                second.session = None;
                self.walk_second(now, node, |outgoing, leg, node| outgoing.attempt_ended(by, leg, now, node));
            }
            Stage::Joined | Stage::HandingOver => {
                second.session = None;
                let cause = match by {
                    EndedBy::ByeReceived => String::new(),
                    EndedBy::SessionExpired => {
                        "the second leg did not refresh its session in time".to_owned()
                    }
                    EndedBy::DialogLost => "the second leg forgot its dialog".to_owned(),
                    _ => "the second leg was lost".to_owned(),
                };
                self.second_left(cause, now, node);
            }
            Stage::Refer | Stage::Outcome | Stage::Way | Stage::Port => node.counters.late_inputs += 1,
        }
    }

    /// No audio comes from the second leg any more.
    pub(super) fn second_silent(&mut self, now: Instant, node: &mut Node) {
        let is_held = |second: &Second| second.negotiation.is_on_hold();
        let transfer = self.transfers.current.as_ref();
        let joined = transfer.filter(|transfer| matches!(transfer.stage, Stage::Joined | Stage::HandingOver));
        match joined.and_then(|transfer| transfer.second.as_ref()) {
            Some(second) if !is_held(second) => {
                let waited = node.config.media_timeout.unwrap_or_default().as_secs();
                let cause = format!("no RTP and no RTCP came from the second leg for {waited} s");
                self.second_left(cause, now, node);
            }
            Some(_) | None => node.counters.late_inputs += 1,
        }
    }

    /// Who the caller was transferred to has gone: the caller comes back to an agent that was kept, or the call is over.
    fn second_left(&mut self, cause: String, now: Instant, node: &mut Node) {
        let at = node.unix_ms(now);
        self.note_transfer(|record| {
            record.hangup_by = Some(if cause.is_empty() { HangupBy::Callee } else { HangupBy::Carrier });
            record.ended_unix_ms = Some(at);
            record.cause.clone_from(&cause);
        });
        let keeps_agent = self.transfers.current.as_ref().is_some_and(|transfer| transfer.order.keeps_agent);
        if !keeps_agent || self.transfers.is_agent_gone {
            return self.end(ending::second_ended(&cause), now, node);
        }
        if let Some(session) = self.session {
            node.endpoint.forget_refer(session);
        }
        if let Some(mut transfer) = self.transfers.current.take()
            && let Some(second) = &mut transfer.second
        {
            second.let_go(now, node);
        }
        self.transfer_awaits(Stage::Joined, None, node);
        node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Part });
        self.progress(node);
    }

    /// Re-INVITE or UPDATE of the second leg.
    pub(super) fn second_offers(&mut self, offer: Option<Bytes>, now: Instant, node: &mut Node) {
        let second = self.transfers.current.as_mut().and_then(|transfer| transfer.second.as_mut());
        let session = second.as_ref().and_then(|second| second.session);
        let (Some(second), Some(session)) = (second, session) else {
            node.counters.late_inputs += 1;
            return;
        };
        if second.negotiation.suite().is_some() && node.arrived_by.is_some_and(|by| by != Transport::Tls) {
            // Whatever is answered would hold a key.
            node.counters.refused_changes += 1;
            let _ = node.endpoint.refuse_offer(now, session, 488);
            return;
        }
        let answer = match offer {
            None => Ok(second.negotiation.offer()),
            Some(offer) => second.negotiation.answer_change(&offer),
        };
        match answer {
            Ok(description) if node.endpoint.answer_offer(now, session, description.clone()).is_err() => {
                node.counters.late_inputs += 1;
            }
            Ok(_) if second.negotiation.awaits_answer() => {}
            Ok(_) => self.second_agreed(node),
            Err(error) => {
                node.counters.refused_changes += 1;
                let _ = node.endpoint.refuse_offer(now, session, error.sip_status());
            }
        }
    }

    /// The ACK to a re-INVITE of the second leg that asked for our offer.
    pub(super) fn second_acknowledged(&mut self, body: Option<Bytes>, now: Instant, node: &mut Node) {
        let second = self.transfers.current.as_mut().and_then(|transfer| transfer.second.as_mut());
        let Some(second) = second.filter(|second| second.negotiation.awaits_answer()) else { return };
        match body.map(|body| second.negotiation.take_answer(&body)) {
            Some(Ok(_)) => self.second_agreed(node),
            Some(Err(_)) | None => {
                self.second_left(
                    "the second leg answered our offer with nothing usable".to_owned(),
                    now,
                    node,
                );
            }
        }
    }

    /// What was agreed with the second leg is the bridge's.
    fn second_agreed(&mut self, node: &mut Node) {
        let second = self.transfers.current.as_ref().and_then(|transfer| transfer.second.as_ref());
        let agreed = second.and_then(|second| Some((*second.negotiation.agreed()?, second.latch())));
        if let Some((media, latch)) = agreed {
            node.emit(Output::Bridge { call: self.id, command: BridgeCommand::SecondMedia { media, latch } });
        }
    }

    /// A key that the second leg pressed, told by INFO: the caller hears it.
    pub(super) fn second_info(&mut self, content_type: Option<&Bytes>, body: &Bytes, node: &mut Node) {
        if let Some((digit, duration_ms)) = dtmf_info::read(content_type.map(|value| &value[..]), body) {
            let command = BridgeCommand::SecondDigit { digit, duration_ms };
            node.emit(Output::Bridge { call: self.id, command });
        }
    }

    /// What the bridge counted of the second leg.
    pub(super) fn count_second(&mut self, statistics: &BridgeStatistics) {
        let Some(rtp) = &statistics.second else { return };
        let packets =
            SecondPackets { received: rtp.packets_received, sent: rtp.packets_sent, lost: rtp.packets_lost };
        let mut latest = self.record.transfers.iter_mut().rev();
        if let Some(record) = latest.find(|record| record.answered_unix_ms.is_some()) {
            record.packets = Some(packets);
        }
    }

    /// The agent closed its socket while the caller talks to somebody else.
    pub(super) fn agent_closed(&mut self) {
        if self.awaits == Awaiting::End && self.transfers.current.is_some() {
            self.transfers.is_agent_gone = true;
        }
    }
}
