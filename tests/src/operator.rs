//! What the people who run Tandem do at odd moments.

use std::sync::Arc;
use std::time::Duration;

use tandem_agent::{ControlFormat, DialectConfig, DialectKind};
use tandem_call::{Agent, AgentSocket, Gateway, Number, RoutingTable, Trunk, TrunkAuth};

use crate::agent::plan::Speech;
use crate::swarm::{GATEWAY_PORT, Plan};
use crate::world::gateway_name;

/// One act.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OperatorAct {
    /// The routing table is built anew, the same in content.
    Reload,
    /// The routing table is swapped for one without any number.
    Unplug,
    /// The node has just started: its table is read anew, whole at the next [`OperatorAct::Reload`].
    Restart,
    /// The call of this index is to be hung up through the API.
    HangUp(usize),
    /// Digits are to be sent to the caller of this index.
    SendDigits(usize),
    /// No new calls; those that are left end after this long.
    Drain(Duration),
}

/// What is found of a plan's numbers under these keys alone.
pub fn route_of(plan: &Plan, keys: &[String]) -> Arc<RoutingTable> {
    let mut plan = plan.clone();
    plan.numbers.retain(|number| {
        tandem_call::dialled::stored_key(&number.number).is_some_and(|key| keys.contains(&key))
    });
    routing(&plan, 0, true)
}

/// The routing table of a plan.
pub fn routing(plan: &Plan, version: u64, with_numbers: bool) -> Arc<RoutingTable> {
    let trunks = plan.carriers.iter().enumerate().map(|(index, carrier)| {
        let mut trunk = Trunk::new(trunk_id(index), account(index), format!("carrier {index}"));
        let (network, length) = Plan::carrier_network(index);
        trunk.is_active = carrier.is_active;
        trunk.inbound_enabled = carrier.inbound_enabled;
        trunk.codecs = carrier.codecs.iter().copied().map(Into::into).collect();
        trunk.limits.calls_total = carrier.calls_max;
        trunk.sources = ipnet::IpNet::new(network, length).into_iter().collect();
        trunk.qualify_frequency_s = 0;
        trunk.gateways = (0..plan.gateways_of(index))
            .map(|gateway| Gateway {
                address: gateway_name(index, gateway),
                port: Some(GATEWAY_PORT),
                priority: 1 + gateway as u32,
                weight: 1,
                transport: None,
            })
            .collect();
        if let Some((username, password)) = &carrier.userpass {
            trunk.auth = TrunkAuth::user_pass(username.clone(), password.clone());
        }
        trunk
    });
    let numbers = plan.numbers.iter().enumerate().filter(|_| with_numbers).map(|(index, number)| Number {
        id: number_id(index).into(),
        account: account(number.carrier).into(),
        trunk: trunk_id(number.carrier).into(),
        number: number.number.clone(),
        destination_key: None,
        is_active: number.is_active,
        agent: number.agent.map(|agent| agent_id(agent, number.carrier).into()),
        is_for_pstn: false,
    });
    // An agent belongs to one account; each account has its own copy of each.
    let agents = (0..plan.carriers.len()).flat_map(|carrier| {
        plan.agents.iter().enumerate().map(move |(index, agent)| Agent {
            id: agent_id(index, carrier).into(),
            account: account(carrier).into(),
            name: format!("agent {index}").into(),
            socket: Some(
                AgentSocket {
                    url: format!("ws://agent-{index}.example/{{execution_id}}"),
                    dialect: dialect(agent.speech),
                    headers: Vec::new(),
                    subprotocol: None,
                    parameters: vec![("caller".into(), "{from}".into())],
                    on_close: tandem_call::bridge::OnClose::Drain,
                    fallback_url: None,
                }
                .into(),
            ),
            rules: tandem_call::AgentRules::default(),
        })
    });
    Arc::new(RoutingTable::build(version, trunks.collect(), numbers.collect(), agents.collect()))
}

/// The account of a carrier's trunk.
pub(crate) fn account(carrier: usize) -> String {
    format!("account-{carrier}")
}

pub(crate) fn trunk_id(carrier: usize) -> String {
    format!("trunk-{carrier}")
}

pub(crate) fn number_id(number: usize) -> String {
    format!("number-{number}")
}

pub(crate) fn agent_id(agent: usize, carrier: usize) -> String {
    format!("agent-{agent}-{carrier}")
}

fn dialect(speech: Speech) -> DialectConfig {
    match speech {
        Speech::AsteriskPlain => DialectConfig::new(DialectKind::Asterisk),
        Speech::AsteriskJson => {
            let mut config = DialectConfig::new(DialectKind::Asterisk);
            config.control_format = ControlFormat::Json;
            config
        }
        Speech::Twilio => DialectConfig::new(DialectKind::Twilio),
        Speech::Bolna => DialectConfig::new(DialectKind::Bolna),
    }
}

/// The agent's index in a plan, from the URL it is dialled at.
pub fn agent_of_url(url: &str) -> Option<usize> {
    url.strip_prefix("ws://agent-")?.split('.').next()?.parse().ok()
}
