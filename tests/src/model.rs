//! The reference: what may come of a call, worked out from the plan alone in the plainest way.

use std::net::IpAddr;
use std::time::Duration;

use tandem_call::CallStatus;

use crate::agent::plan::Connect;
use crate::carrier::digest::DigestTrick;
use crate::carrier::order::{Demands, GatewayPlan, LookUp, Then};
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
            OperatorAct::Reload | OperatorAct::Restart | OperatorAct::SendDigits(_) => {}
        }
    }
    Expected { statuses }
}

/// What is to come of a call that Tandem places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpectedOrder {
    /// The gateways that are tried, an address that is nobody's counted as a try of its own.
    pub gateways: Vec<Option<usize>>,
    /// The final status of each try; none where none came.
    pub statuses: Vec<Option<u16>>,
    /// How the call may end.
    pub outcomes: Vec<CallStatus>,
}

/// What comes of one try.
enum Try {
    /// The call is taken to the next gateway, for there came this status or none.
    On(Option<u16>),
    /// The call is over.
    Over(Option<u16>, Vec<CallStatus>),
}

/// Works it out; nothing where it hangs on which of two things comes first.
pub fn expected_order(plan: &Plan, call: &CallPlan) -> Option<ExpectedOrder> {
    let order = call.ordered.as_ref()?;
    let carrier = &plan.carriers[call.carrier];
    let mut expected =
        ExpectedOrder { gateways: vec![], statuses: vec![], outcomes: vec![CallStatus::Failed] };
    if !carrier.is_active {
        return Some(expected);
    }
    for (index, gateway) in order.gateways.iter().enumerate() {
        let mut tries = Vec::new();
        match gateway.look_up {
            LookUp::Nothing(_) => tries.push(Try::On(None)),
            LookUp::Lie => tries.push(Try::On(None)),
            LookUp::LieFirst => tries.extend([Try::On(None), one_try(plan, call, gateway, order.ringing)?]),
            LookUp::Found(_) => tries.push(one_try(plan, call, gateway, order.ringing)?),
        }
        for one in tries {
            expected.gateways.push(Some(index));
            match one {
                Try::On(status) => {
                    expected.statuses.push(status);
                    expected.outcomes = vec![status.map_or(CallStatus::Failed, outcome_of)];
                }
                Try::Over(status, outcomes) => {
                    expected.statuses.push(status);
                    expected.outcomes = outcomes;
                    return Some(expected);
                }
            }
        }
    }
    Some(expected)
}

fn one_try(plan: &Plan, call: &CallPlan, gateway: &GatewayPlan, ringing: Duration) -> Option<Try> {
    if matches!(gateway.then, Then::Unreachable | Then::Silence) && gateway.challenge.is_none() {
        return Some(Try::On(None));
    }
    if gateway.then == Then::Unreachable {
        return Some(Try::On(None));
    }
    if let Some((status, demands)) = gateway.challenge {
        let has_credentials = plan.carriers[call.carrier].userpass.is_some();
        if !has_credentials || demands == Demands::Forever {
            return Some(Try::Over(Some(status), vec![CallStatus::Failed]));
        }
        if gateway.then == Then::Silence {
            return Some(Try::On(None));
        }
    }
    // A reply in the moment in which the bound is reached may come on either side of it.
    let close = |after: Duration, bound: Duration| after.abs_diff(bound) < Duration::from_millis(500);
    Some(match gateway.then {
        Then::Unreachable | Then::Silence => Try::On(None),
        Then::Trying | Then::RingsForEver => Try::Over(None, vec![CallStatus::NoAnswer]),
        Then::Refuses { after, .. } | Then::Answers { after, .. } if close(after, ringing) => return None,
        Then::Refuses { after, .. } | Then::Answers { after, .. } if after > ringing => {
            Try::Over(None, vec![CallStatus::NoAnswer])
        }
        Then::Refuses { status, .. } if matches!(status, 408 | 430 | 478 | 500..=599) => {
            Try::On(Some(status))
        }
        Then::Refuses { status, .. } => Try::Over(Some(status), vec![outcome_of(status)]),
        Then::Answers { .. } => {
            let common = call.offer.laws.iter().any(|law| plan.carriers[call.carrier].codecs.contains(law));
            if common {
                Try::Over(Some(200), ANSWERED.to_vec())
            } else {
                Try::Over(Some(488), vec![CallStatus::Failed])
            }
        }
    })
}

/// How an answered call may end: well, or by a fault of its agent.
const ANSWERED: [CallStatus; 3] = [CallStatus::Completed, CallStatus::Failed, CallStatus::Error];

fn outcome_of(status: u16) -> CallStatus {
    match status {
        486 | 600 => CallStatus::Busy,
        408 | 480 => CallStatus::NoAnswer,
        487 => CallStatus::Canceled,
        _ => CallStatus::Failed,
    }
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
