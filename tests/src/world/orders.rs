//! Calls that Tandem places: the order, the look-up of gateways, and SIP between engine and gateways.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tandem_call::location::Wanted;
use tandem_call::{CallId, Dial, Input, Way};
use tandem_sip::{Target, Transmit, Transport};

use super::{Event, World};
use crate::carrier::order::{GatewayPlan, LookUp, Then};
use crate::carrier::script::CallPlan;
use crate::marks::Mark;
use crate::message::SipText;
use crate::operator;
use crate::swarm::{NOBODY, Plan, TANDEM_SIP};

/// The numbers that are called begin so; the call's index follows.
const CALLEE_PREFIX: &str = "1900";

/// How long it takes the system to find out that a gateway cannot be reached.
const UNREACHABLE_AFTER: Duration = Duration::from_millis(1);

/// The identifier of an ordered call, from its index.
pub(super) fn call_id(caller: usize) -> CallId {
    CallId(uuid::Uuid::from_u128(0x0dde_0000_0000_4000_8000_0000_0000_0000 | caller as u128))
}

/// The number that is called, from the call's index.
fn callee(caller: usize) -> String {
    format!("+{CALLEE_PREFIX}{caller:04}")
}

/// A gateway's name in the trunk of a carrier.
pub(crate) fn gateway_name(carrier: usize, gateway: usize) -> String {
    format!("gateway-{gateway}.carrier-{carrier}.example")
}

impl World {
    /// Orders a call.
    pub(super) fn order(&mut self, caller: usize) {
        let slot = &mut self.callers[caller];
        let plan = slot.caller.plan.clone();
        slot.facts.expected_order = crate::model::expected_order(&self.plan, &plan);
        let number = self.plan.numbers.iter().position(|number| number.number == plan.number).unwrap_or(0);
        let agent = self.plan.numbers[number].agent.unwrap_or(0);
        let ringing = plan.ordered.as_ref().map(|order| order.ringing);
        let dial = Dial {
            call: call_id(caller),
            account: operator::account(plan.carrier).into(),
            trunk: operator::trunk_id(plan.carrier).into(),
            number: operator::number_id(number).into(),
            from: plan.number.clone(),
            to: callee(caller),
            agent: operator::agent_id(agent, plan.carrier).into(),
            parameters: Vec::new(),
            headers: vec![("X-Order".into(), caller.to_string())],
            ringing,
            max_duration: None,
        };
        self.feed(Input::Place(Box::new(dial)));
    }

    /// The index of an ordered call.
    pub(super) fn caller_ordered(&self, call: CallId) -> Option<usize> {
        let is_it = |(index, slot): &(usize, &super::CallerSlot)| {
            slot.caller.plan.ordered.is_some() && call_id(*index) == call
        };
        self.callers.iter().enumerate().find(is_it).map(|(index, _)| index)
    }

    /// The call that an INVITE of Tandem's begins, by the number that is called.
    pub(super) fn caller_placed(&mut self, text: &SipText) -> Option<usize> {
        if text.method() != "INVITE" {
            return None;
        }
        let user = text.uri().strip_prefix("sip:")?.split('@').next()?;
        let caller: usize = user.trim_start_matches('+').strip_prefix(CALLEE_PREFIX)?.parse().ok()?;
        self.callers.get(caller).filter(|slot| slot.caller.plan.ordered.is_some())?;
        self.placed.insert(text.call_id().to_owned(), caller);
        self.callers[caller].caller.call_id = text.call_id().to_owned();
        Some(caller)
    }

    fn gateway_plan(&self, caller: usize, gateway: usize) -> Option<&GatewayPlan> {
        self.callers[caller].caller.plan.ordered.as_ref()?.gateways.get(gateway)
    }

    /// Looks a gateway's name up.
    pub(super) fn look_up(&mut self, call: CallId, wanted: &Wanted) {
        let Wanted { transport, host, port } = wanted;
        let transport = transport.unwrap_or(Transport::Udp);
        let Some(caller) = self.caller_ordered(call) else { return };
        let carrier = self.callers[caller].caller.plan.carrier;
        let gateway = (0..8).find(|gateway| gateway_name(carrier, *gateway) == *host);
        let plan = gateway.and_then(|gateway| Some((gateway, self.gateway_plan(caller, gateway)?.look_up)));
        let Some((gateway, look_up)) = plan else { return };
        let way = |mut remote: SocketAddr| {
            remote.set_port(port.unwrap_or_else(|| transport.default_port()));
            Way { transport, local: TANDEM_SIP, remote }
        };
        let there = way(Plan::gateway_address(carrier, gateway));
        let (after, ways) = match look_up {
            LookUp::Found(after) => (after, Ok(vec![there])),
            LookUp::Nothing(after) => (after, Err(format!("{host} has no address"))),
            LookUp::Lie => (Duration::from_millis(3), Ok(vec![way(NOBODY)])),
            LookUp::LieFirst => (Duration::from_millis(3), Ok(vec![way(NOBODY), there])),
        };
        if ways.is_err() {
            self.marks.hit(Mark::GatewayNotFound);
        }
        self.at(self.now + after, Event::LookedUp { call, ways });
    }

    pub(super) fn looked_up(&mut self, call: CallId, ways: Result<Vec<Way>, String>) {
        self.feed(match ways {
            Ok(ways) => Input::WayFound { call, ways },
            Err(why) => Input::WayFailed { call, why },
        });
    }

    /// What cannot be sent is told to the engine.
    pub(super) fn fail_if_unreachable(&mut self, transmit: &Transmit) {
        let Target::Address { remote, .. } = &transmit.target else { return };
        let Some(text) = SipText::parse(&transmit.payload) else { return };
        let Some(caller) = self.caller_of(text.call_id()).or_else(|| self.caller_placed(&text)) else {
            return;
        };
        let carrier = self.callers[caller].caller.plan.carrier;
        let plan = Plan::gateway_of(carrier, *remote).and_then(|gateway| self.gateway_plan(caller, gateway));
        if plan.is_some_and(|plan| plan.then == Then::Unreachable) {
            self.at(self.now + UNREACHABLE_AFTER, Event::TransmitFailed(transmit.id));
        }
    }

    /// A message of Tandem's in a call that it places goes on its way to one of the gateways.
    pub(super) fn depart_to_gateway(&mut self, caller: usize, remote: Option<SocketAddr>, payload: &Bytes) {
        let carrier = self.callers[caller].caller.plan.carrier;
        let gateway = remote.and_then(|remote| Plan::gateway_of(carrier, remote));
        // Who is told a lie by the name server talks to nobody.
        let Some(gateway) = gateway else { return };
        let is_reached =
            self.gateway_plan(caller, gateway).is_some_and(|plan| plan.then != Then::Unreachable);
        if !is_reached || self.is_lost_on_purpose(caller, false, payload) {
            return;
        }
        let now = self.now;
        let mut arrivals = Vec::new();
        self.callers[caller].to_carrier.send(now, payload, |arrival| arrivals.push(arrival));
        if arrivals.is_empty() {
            self.note_loss(payload);
        }
        for arrival in arrivals {
            let garbled = self.callers[caller].to_carrier.garble(&arrival.payload);
            if garbled.is_some() {
                self.doubt(caller);
            }
            let payload = garbled.unwrap_or(arrival.payload);
            self.at(arrival.at, Event::SipToGateway { caller, gateway, payload });
        }
    }

    pub(super) fn deliver_to_gateway(&mut self, caller: usize, gateway: usize, payload: &Bytes) {
        let (mut deeds, now) = (Vec::new(), self.now);
        let at = Plan::gateway_address(self.callers[caller].caller.plan.carrier, gateway);
        let called = &mut self.callers[caller].caller;
        called.handle_at_gateway(now, (gateway, at), payload, &mut deeds);
        if self.findings.is_doubtful(&called.call_id) {
            called.outcome.unreadable.clear();
        }
        self.perform(caller, deeds);
    }

    pub(super) fn send_from_gateway(&mut self, caller: usize, gateway: usize, payload: Bytes) {
        let at = Plan::gateway_address(self.callers[caller].caller.plan.carrier, gateway);
        self.send_from(caller, at, payload);
    }

    /// Nothing more comes of this order.
    pub(super) fn settle_order(&mut self, call: CallId) {
        let Some(caller) = self.caller_ordered(call) else { return };
        let now = self.now;
        self.callers[caller].caller.settle(now);
    }

    /// What became of the calls that Tandem placed, beside what the model has to say of them.
    pub(super) fn check_orders(&mut self) {
        let now = self.now;
        for (index, slot) in self.callers.iter().enumerate() {
            let Some(record) = self.ledger.record_of(call_id(index)) else { continue };
            let Some(order) = &slot.caller.plan.ordered else { continue };
            let call = &slot.caller.call_id;
            let (carrier, tried) = (slot.caller.plan.carrier, &record.gateways);
            let place =
                |name: &str| (0..order.gateways.len()).find(|one| gateway_name(carrier, *one) == name);
            let places: Vec<Option<usize>> = tried.iter().map(|attempt| place(&attempt.gateway)).collect();
            if !places.is_sorted() || places.contains(&None) {
                let detail = format!("the gateways were tried in the order {places:?}");
                self.findings.note("order", now, call, detail);
            }
            let is_answered = record.answered_unix_ms.is_some();
            if is_answered && slot.caller.outcome.answered_at.is_none() {
                self.findings.note("order", now, call, "the record says answered, and nobody did");
            }
            if tried.len() > 1 {
                self.marks.hit(Mark::NextGateway);
            }
            let Some(expected) =
                slot.facts.expected_order.as_ref().filter(|_| self.is_foreseeable(&slot.caller.plan))
            else {
                continue;
            };
            let statuses: Vec<Option<u16>> = tried.iter().map(|attempt| attempt.sip_status).collect();
            if places != expected.gateways || statuses != expected.statuses {
                let detail = format!(
                    "tried {places:?} with {statuses:?}, the model has {:?} with {:?}",
                    expected.gateways, expected.statuses
                );
                self.findings.note("order", now, call, detail);
            }
            if !expected.outcomes.contains(&record.status) {
                let detail = format!("{:?}, the model has {:?}", record.status, expected.outcomes);
                self.findings.note("order", now, call, detail);
            }
        }
    }

    /// Whether nothing but the plan decides what comes of an order: a clean path, nobody who intervenes, room enough.
    fn is_foreseeable(&self, call: &CallPlan) -> bool {
        let carrier = &self.plan.carriers[call.carrier];
        carrier.sip.is_clean()
            && call.lose.is_empty()
            && self.plan.operator.is_empty()
            && self.plan.calls_max.is_none()
            && carrier.calls_max.is_none()
            && self.plan.ports >= 32
            && !self.plan.cuts.iter().any(|cut| cut.carrier == call.carrier)
            && self.sabotage.planted().is_none()
    }
}
