//! The reference: what may come of a call, worked out from the plan alone in the plainest way.

use std::net::IpAddr;

use crate::agent::plan::Connect;
use crate::carrier::digest::DigestTrick;
use crate::carrier::script::CallPlan;
use crate::operator::OperatorAct;
use crate::swarm::{NumberPlan, Plan};

/// Statuses that may be the final response to a call's INVITE, and whether it may be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Final responses that are right, if nothing is lost on the way and nobody intervenes.
    pub statuses: Vec<u16>,
}

/// Works it out.
pub fn expected(plan: &Plan, call: &CallPlan) -> Expected {
    let mut statuses = decision(plan, call);
    if statuses.contains(&200) {
        let agent = number(plan, call).and_then(|number| number.agent).map(|agent| &plan.agents[agent]);
        match agent.map(|agent| agent.connect) {
            Some(Connect::Refuse(_) | Connect::Silence(_)) => statuses = vec![480],
            _ => statuses = vec![200],
        }
        if plan.ports < 32 {
            statuses.push(503);
        }
        if plan.calls_max.is_some() {
            statuses.push(503);
        }
        if plan.carriers[call.carrier].calls_max.is_some() {
            statuses.push(486);
        }
    }
    for (_, act) in &plan.operator {
        match act {
            OperatorAct::Drain(_) => statuses.push(503),
            OperatorAct::HangUp(_) => statuses.push(480),
            OperatorAct::Unplug => statuses.push(404),
            OperatorAct::Reload | OperatorAct::SendDigits(_) => {}
        }
    }
    Expected { statuses }
}

/// The number that is dialled: Request-URI first, then To; a leading plus does not matter.
fn number<'a>(plan: &'a Plan, call: &CallPlan) -> Option<&'a NumberPlan> {
    let plain = |text: &str| text.trim_start_matches('+').to_owned();
    let dialled = [Some(&call.number), call.to.as_ref()];
    dialled
        .into_iter()
        .flatten()
        .find_map(|user| plan.numbers.iter().find(|number| plain(&number.number) == plain(user)))
}

fn decision(plan: &Plan, call: &CallPlan) -> Vec<u16> {
    if call.max_forwards == 0 {
        // RFC 7332 3.1: a B2BUA passes it on, and so refuses at zero like a proxy.
        return vec![483];
    }
    let source = Plan::carrier_ip(call.carrier);
    let carrier = &plan.carriers[call.carrier];
    let by_digest = |carrier: usize| plan.carriers[carrier].userpass.is_some();
    let Some(number) = number(plan, call) else {
        // A trunk by digest has to prove itself before it learns what exists.
        return if by_digest(call.carrier) { vec![401, 403, 404] } else { vec![404] };
    };
    if !is_in_network(source, number.carrier) {
        return if by_digest(number.carrier) { vec![401, 403, 404] } else { vec![403, 404] };
    }
    if let Some(credentials) = &call.credentials
        && credentials.trick != DigestTrick::Honest
        && !matches!(credentials.trick, DigestTrick::StaleNonce(_))
    {
        return vec![401, 403];
    }
    if by_digest(call.carrier) && call.credentials.is_none() {
        return vec![401];
    }
    // What comes first of several faults is the product's to choose.
    let mut faults = Vec::new();
    if !carrier.is_active || !carrier.inbound_enabled {
        faults.push(403);
    }
    if !number.is_active || number.agent.is_none() {
        faults.push(404);
    }
    let common = call.offer.laws.iter().any(|law| carrier.codecs.contains(law));
    if !common && !call.offer.delayed {
        faults.push(488);
    }
    if faults.is_empty() { vec![200] } else { faults }
}

fn is_in_network(source: IpAddr, carrier: usize) -> bool {
    let (network, length) = Plan::carrier_network(carrier);
    match (source, network) {
        (IpAddr::V4(source), IpAddr::V4(network)) => {
            let mask = u32::MAX << (32 - length);
            u32::from(source) & mask == u32::from(network) & mask
        }
        _ => false,
    }
}
