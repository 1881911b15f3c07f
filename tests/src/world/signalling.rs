//! SIP between carriers and engine: datagrams, streams, and what the engine asks of the shell.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tandem_call::{Input, Output};
use tandem_sip::{Flow, Target, Transport};

use super::{Connection, Event, World};
use crate::check::sip::Path;
use crate::marks::Mark;
use crate::message::{Cutter, SipText};
use crate::swarm::{Plan, STRANGER, TANDEM_SIP};

/// How long the shell looks for one number.
const LOOK_UP: Duration = Duration::from_millis(30);

impl World {
    /// Does one thing the engine asks for.
    pub(super) fn take(&mut self, output: Output) {
        match output {
            Output::Transmit(transmit) => {
                if let Target::Close(flow) = transmit.target {
                    self.close_by_tandem(flow);
                    return;
                }
                self.fail_if_unreachable(&transmit);
                let reliable = is_reliable(&transmit.target);
                for altered in self.sabotage.transmit(transmit.payload, reliable) {
                    if altered.delay.is_zero() {
                        self.depart(&transmit.target, altered.payload, altered.port_shift);
                    } else {
                        let target = transmit.target.clone();
                        let event =
                            Event::Transmit { payload: altered.payload, target, shift: altered.port_shift };
                        self.at(self.now + altered.delay, event);
                    }
                }
            }
            Output::OpenBridge { call, plan } => self.open_bridge(call, plan),
            Output::Bridge { call, command } => self.command_bridge(call, command),
            Output::CloseBridge { call } => self.close_bridge(call),
            Output::Progress(record) => self.ledger.progressed(self.now, &record, &mut self.findings),
            Output::Record(mut record) => {
                let (times, late_ms) = self.sabotage.record();
                record.ended_unix_ms = record.ended_unix_ms.map(|ended| ended + late_ms);
                self.trace.note(
                    self.now,
                    &record.sip_call_id,
                    format!("record: {:?} {:?}", record.status, record.hangup_by),
                );
                self.mark_record(&record);
                self.settle_order(record.id);
                for _ in 0..times {
                    let dialog = self.sip.dialog_of(&record.sip_call_id);
                    self.ledger.recorded(self.now, record.clone(), dialog, &mut self.findings);
                }
            }
            Output::Verdict(verdict) => {
                self.trace.note(self.now, &verdict.sip_call_id, format!("verdict: {}", verdict.code));
                self.mark_verdict(&verdict);
                self.ledger.judged(verdict);
            }
            // The world's carriers are not watched.
            Output::Gateway { .. } | Output::Registration { .. } => {}
            Output::Ladder { .. } => {}
            Output::FindWay { call, wanted } => self.look_up(call, &wanted),
            Output::DialAgent { call } => self.dial_agent(call),
            Output::NotPlaced { call, .. } => {
                self.marks.hit(Mark::NotPlaced);
                self.settle_order(call);
            }
            // Nobody is called besides: that leg has no port, and is given up.
            Output::OpenSecond { .. } => {}
            Output::FindRoute { ticket, keys } => {
                self.at(self.now + LOOK_UP, Event::FindRoute { ticket, keys });
            }
        }
    }

    fn mark_record(&mut self, record: &tandem_call::CallRecord) {
        let said = |words: &str| record.error_message.as_deref().is_some_and(|error| error.contains(words));
        if said("did not refresh") {
            self.marks.hit(Mark::SessionExpired);
            self.timers.expired(self.now, &record.sip_call_id, &mut self.findings);
        }
        if record.hangup_reason == Some(tandem_call::HangupReason::NodeDrained) {
            self.marks.hit(Mark::EndedByDrain);
        }
    }

    fn mark_verdict(&mut self, verdict: &tandem_call::Verdict) {
        use tandem_call::VerdictCode;
        match verdict.code {
            VerdictCode::Draining => self.marks.hit(Mark::Drain),
            VerdictCode::NodeCallsReached => self.marks.hit(Mark::Overload),
            VerdictCode::AgentUnreachable | VerdictCode::AgentRefused => self.marks.hit(Mark::AgentRefuses),
            VerdictCode::AgentTimeout => self.marks.hit(Mark::AgentTooLate),
            code if code.as_str().contains("digest") || code.as_str().contains("credential") => {
                self.marks.hit(Mark::WrongDigest);
            }
            _ => {}
        }
    }

    // From carriers.

    pub(super) fn connect(&mut self, caller: usize) {
        let id = self.next_connection;
        self.next_connection += 1;
        let slot = &mut self.callers[caller];
        let mut remote = slot.caller.place.source();
        // A client's port is its own choice.
        remote.set_port(50_000 + id as u16);
        let flow = Flow { transport: Transport::Tcp, local: TANDEM_SIP, remote, connection: id };
        slot.connection = Some(id);
        let delay = slot.to_tandem.profile().delay;
        let (to_tandem, to_carrier) = (Cutter::default(), Cutter::default());
        self.connections.insert(id, Connection { caller, flow, is_open: true, to_tandem, to_carrier });
        self.at(self.now + delay, Event::StreamOpened(id));
    }

    pub(super) fn send_from_carrier(&mut self, caller: usize, payload: Bytes) {
        let remote = self.callers[caller].caller.place.source();
        self.send_from(caller, remote, payload);
    }

    /// Sends what the carrier of a call has to say, from one of its addresses.
    pub(super) fn send_from(&mut self, caller: usize, remote: SocketAddr, payload: Bytes) {
        if self.is_lost_on_purpose(caller, true, &payload) {
            return;
        }
        let now = self.now;
        let is_stream = self.callers[caller].caller.plan.transport != Transport::Udp;
        if is_stream && self.callers[caller].connection.is_none() {
            self.connect(caller);
        }
        let slot = &mut self.callers[caller];
        let mut arrivals = Vec::new();
        match slot.connection {
            Some(connection) => {
                slot.to_tandem.stream(now, &payload, |arrival| arrivals.push(arrival));
                for arrival in arrivals {
                    self.at(arrival.at, Event::Chunk { connection, payload: arrival.payload });
                }
            }
            None => {
                slot.to_tandem.send(now, &payload, |arrival| arrivals.push(arrival));
                if arrivals.is_empty() {
                    self.note_loss(&payload);
                }
                let flow = Flow { transport: Transport::Udp, local: TANDEM_SIP, remote, connection: 0 };
                for arrival in arrivals {
                    let garbled = self.callers[caller].to_tandem.garble(&arrival.payload);
                    if garbled.is_some() {
                        self.doubt(caller);
                    }
                    let payload = garbled.unwrap_or(arrival.payload);
                    self.at(arrival.at, Event::Datagram { flow, payload });
                }
            }
        }
    }

    pub(super) fn note_loss(&mut self, payload: &Bytes) {
        if let Some(text) = SipText::parse(payload) {
            self.marks.lost(&text);
        }
        let now = self.now;
        if self.callers.iter().any(|slot| slot.to_tandem.is_cut(now) || slot.to_carrier.is_cut(now)) {
            self.marks.hit(Mark::Cut);
        }
    }

    pub(super) fn doubt(&mut self, caller: usize) {
        self.marks.hit(Mark::Garbled);
        let call_id = self.callers[caller].caller.call_id.clone();
        self.findings.doubt(&call_id);
        self.trace.note(self.now, &call_id, "a message is garbled on its way".into());
    }

    pub(super) fn send_from_stranger(&mut self, payload: Bytes) {
        let flow = Flow { transport: Transport::Udp, local: TANDEM_SIP, remote: STRANGER, connection: 0 };
        self.at(self.now + Duration::from_millis(3), Event::Datagram { flow, payload });
    }

    pub(super) fn reset(&mut self, caller: usize) {
        let Some(id) = self.callers[caller].connection.take() else { return };
        if let Some(connection) = self.connections.get_mut(&id) {
            self.marks.hit(Mark::StreamReset);
            connection.is_open = false;
            let flow = connection.flow;
            self.at(self.now, Event::StreamClosed(flow));
        }
        let now = self.now;
        self.callers[caller].caller.handle_stream_closed(now);
    }

    pub(super) fn arrive_datagram(&mut self, flow: Flow, payload: Bytes) {
        self.see_arrival(&payload, flow);
        self.feed(Input::Datagram { flow, payload });
    }

    pub(super) fn open_stream(&mut self, connection: u64) {
        if let Some(flow) = self.connections.get(&connection).filter(|one| one.is_open).map(|one| one.flow) {
            self.feed(Input::StreamOpened { flow });
        }
    }

    pub(super) fn arrive_chunk(&mut self, connection: u64, payload: Bytes) {
        let payload = self.join_chunks(connection, payload);
        let Some(open) = self.connections.get_mut(&connection).filter(|one| one.is_open) else { return };
        let flow = open.flow;
        let mut messages = Vec::new();
        open.to_tandem.push(&payload, |message| messages.push(message));
        if messages.len() > 1 {
            self.marks.hit(Mark::PipelinedMessages);
        } else if messages.is_empty() {
            self.marks.hit(Mark::SplitMessage);
        }
        for message in messages {
            self.see_arrival(&message, flow);
        }
        self.feed(Input::StreamData { flow, payload });
    }

    /// What arrives at the same moment on the same connection is read at once, as from a socket.
    fn join_chunks(&mut self, connection: u64, payload: Bytes) -> Bytes {
        let mut joined: Option<Vec<u8>> = None;
        while let Some(entry) = self.queue.first_entry() {
            let Event::Chunk { connection: other, payload: more } = entry.get() else { break };
            if entry.key().0 != self.now || *other != connection {
                break;
            }
            joined.get_or_insert_with(|| payload.to_vec()).extend_from_slice(more);
            entry.remove();
        }
        joined.map_or(payload, Bytes::from)
    }

    fn see_arrival(&mut self, payload: &Bytes, flow: Flow) {
        let Some(text) = SipText::parse(payload) else { return };
        let trusted = self.caller_of(text.call_id()).is_some_and(|caller| {
            let carrier = self.callers[caller].caller.plan.carrier;
            flow.remote.ip() == Plan::carrier_ip(carrier) || Plan::gateway_of(carrier, flow.remote).is_some()
        });
        let path = Path { reliable: flow.transport.is_reliable(), remote: flow.remote, trusted };
        self.trace.sip(self.now, text.call_id(), true, payload);
        self.marks.arrive(&text, trusted);
        if trusted {
            self.timers.arrive(self.now, &text);
        }
        self.sip.arrive(self.now, path, &text);
        if let Some(answer) = self.sabotage.arrive(&text, trusted) {
            self.at(self.now, Event::Transmit { payload: answer, target: Target::Flow(flow), shift: 0 });
        }
    }

    // To carriers.

    /// A message leaves Tandem.
    pub(super) fn depart(&mut self, target: &Target, payload: Bytes, shift: u16) {
        let (reliable, mut remote, connection) = match target {
            Target::Flow(flow) => {
                let connection = flow.transport.is_reliable().then_some(flow.connection);
                (flow.transport.is_reliable(), Some(flow.remote), connection)
            }
            Target::Address { transport, remote, .. } => (transport.is_reliable(), Some(*remote), None),
            Target::Name { transport, .. } => (transport.is_reliable(), None, None),
            Target::Close(_) => return,
        };
        if let Some(remote) = &mut remote {
            remote.set_port(remote.port() + shift);
        }
        self.sip.depart(self.now, reliable, remote, &payload, &mut self.findings);
        let Some(text) = SipText::parse(&payload) else { return };
        self.trace.sip(self.now, text.call_id(), false, &payload);
        self.marks.depart(&text);
        self.timers.depart(self.now, &text, &mut self.findings);
        let Some(caller) = self.caller_of(text.call_id()).or_else(|| self.caller_placed(&text)) else {
            return;
        };
        if self.callers[caller].caller.plan.ordered.is_some() {
            return self.depart_to_gateway(caller, remote, &payload);
        }
        let place = self.callers[caller].caller.place;
        let reaches = remote.is_some_and(|remote| remote.ip() == place.source().ip());
        if !reaches || self.is_lost_on_purpose(caller, false, &payload) {
            return;
        }
        let now = self.now;
        let mut arrivals = Vec::new();
        if !reliable {
            let is_here = remote.is_some_and(|remote| remote == place.source() || remote == place.contact);
            if is_here {
                self.callers[caller].to_carrier.send(now, &payload, |arrival| arrivals.push(arrival));
            }
            if arrivals.is_empty() {
                self.note_loss(&payload);
            }
            for arrival in arrivals {
                let garbled = self.callers[caller].to_carrier.garble(&arrival.payload);
                if garbled.is_some() {
                    self.doubt(caller);
                }
                let payload = garbled.unwrap_or(arrival.payload);
                self.at(arrival.at, Event::SipToCarrier { caller, payload });
            }
            return;
        }
        let Some(connection) = self.open_connection(caller, connection) else { return };
        self.callers[caller].to_carrier.stream(now, &payload, |arrival| arrivals.push(arrival));
        for arrival in arrivals {
            self.at(arrival.at, Event::ChunkToCarrier { connection, payload: arrival.payload });
        }
    }

    /// The open connection asked for, or one to the same caller, or a new one.
    fn open_connection(&mut self, caller: usize, asked: Option<u64>) -> Option<u64> {
        let is_open = |id: &u64| self.connections.get(id).is_some_and(|connection| connection.is_open);
        if let Some(id) = asked {
            return Some(id).filter(is_open);
        }
        if let Some(id) = self.callers[caller].connection.filter(is_open) {
            return Some(id);
        }
        self.connect(caller);
        self.callers[caller].connection
    }

    fn close_by_tandem(&mut self, flow: Flow) {
        if let Some(connection) = self.connections.get_mut(&flow.connection)
            && std::mem::replace(&mut connection.is_open, false)
        {
            let caller = connection.caller;
            self.callers[caller].connection = None;
            let call_id = self.callers[caller].caller.call_id.clone();
            self.trace.note(self.now, &call_id, "Tandem closes the connection".into());
            self.at(self.now, Event::StreamClosed(flow));
        }
    }

    pub(super) fn deliver(&mut self, caller: usize, payload: &Bytes) {
        let mut deeds = Vec::new();
        let now = self.now;
        self.callers[caller].caller.handle_sip(now, payload, &mut deeds);
        let seen = &mut self.callers[caller].caller;
        if self.findings.is_doubtful(&seen.call_id) {
            seen.outcome.unreadable.clear();
        }
        self.perform(caller, deeds);
    }

    pub(super) fn deliver_chunk(&mut self, connection: u64, payload: &Bytes) {
        let Some(open) = self.connections.get_mut(&connection).filter(|one| one.is_open) else { return };
        let caller = open.caller;
        let mut messages = Vec::new();
        open.to_carrier.push(payload, |message| messages.push(message));
        for message in messages {
            self.deliver(caller, &message);
        }
    }

    pub(super) fn caller_of(&self, call_id: &str) -> Option<usize> {
        if let Some(caller) = self.placed.get(call_id) {
            return Some(*caller);
        }
        let index = call_id.strip_prefix('c')?.split('-').next()?.parse().ok()?;
        self.callers.get(index).map(|_| index)
    }

    pub(super) fn is_lost_on_purpose(&mut self, caller: usize, to_tandem: bool, payload: &Bytes) -> bool {
        let slot = &mut self.callers[caller];
        // Streams lose nothing.
        if slot.caller.plan.lose.is_empty() || slot.caller.plan.transport != Transport::Udp {
            return false;
        }
        let Some(text) = SipText::parse(payload) else { return false };
        let name = match text.method() {
            "" => format!("{} {}", text.status, text.cseq().1),
            method => method.to_owned(),
        };
        for (index, lose) in slot.caller.plan.lose.iter().enumerate() {
            let lost = slot.lost.entry(index).or_insert(0);
            if lose.to_tandem == to_tandem && lose.what == name && *lost < lose.count {
                *lost += 1;
                self.marks.lost(&text);
                return true;
            }
        }
        false
    }
}

fn is_reliable(target: &Target) -> bool {
    match target {
        Target::Flow(flow) | Target::Close(flow) => flow.transport.is_reliable(),
        Target::Address { transport, .. } | Target::Name { transport, .. } => transport.is_reliable(),
    }
}
