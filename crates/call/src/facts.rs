//! The facts of one call that its agent is told, and that its templates are filled with.
//!
//! What it refuses to do: hand on credentials, or unbounded text: callers write every one of these.

use tandem_agent::StreamFacts;
use tandem_sip::Request;

use crate::bridge::{AgentDial, AgentPlan};
use crate::ids::CallId;
use crate::route::Route;
use crate::table::AgentSocket;
use crate::template::{self, Facts};
use crate::verdict::wire_text;

/// `X-` headers of an INVITE told to the agent.
const MAX_HEADERS_TOLD: usize = 32;

/// What an agent is told of its call, and what its templates are filled with.
pub(crate) struct CallFacts {
    call: CallId,
    agent: String,
    trunk: String,
    account: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) sip_call_id: String,
    /// The INVITE itself, for the headers that templates name.
    invite: Request,
}

impl CallFacts {
    pub(crate) fn of(call: CallId, invite: &Request, route: &Route) -> Self {
        let from = invite.from().uri().number().unwrap_or_default();
        Self {
            call,
            agent: route.agent.id.to_string(),
            trunk: route.trunk.id.to_string(),
            account: route.trunk.account.to_string(),
            from: wire_text(&from),
            to: route.number_text.to_string(),
            sip_call_id: wire_text(invite.call_id()),
            invite: invite.clone(),
        }
    }

    /// The facts that the dialect's start messages tell.
    pub(crate) fn stream(&self, parameters: Vec<(String, String)>, route: &Route) -> StreamFacts {
        let headers = self
            .invite
            .raw_headers()
            .filter(|(name, _)| name.get(..2).is_some_and(|start| start.eq_ignore_ascii_case(b"x-")))
            .take(MAX_HEADERS_TOLD)
            .map(|(name, value)| (wire_text(name), wire_text(value)))
            .collect();
        StreamFacts {
            call: self.call.0,
            account: self.account.clone(),
            agent: route.agent.id.to_string(),
            trunk: self.trunk.clone(),
            from: self.from.clone(),
            to: self.to.clone(),
            sip_call_id: self.sip_call_id.clone(),
            parameters,
            headers,
        }
    }
}

/// The agent's own parameters, filled in.
pub(crate) fn parameters(socket: &AgentSocket, facts: &impl Facts) -> Vec<(String, String)> {
    let filled = |(name, value): &(String, String)| (name.clone(), template::expand_text(value, facts));
    socket.parameters.iter().map(filled).collect()
}

/// Where the agent is and how it is spoken to, every template filled in.
pub(crate) fn agent_plan(
    socket: &AgentSocket,
    facts: &impl Facts,
    stream: StreamFacts,
    dial: AgentDial,
) -> AgentPlan {
    let filled = |(name, value): &(String, String)| (name.clone(), template::expand_header(value, facts));
    AgentPlan {
        url: template::expand_url(&socket.url, facts),
        headers: socket.headers.iter().map(filled).collect(),
        subprotocol: socket.subprotocol.clone(),
        fallback_url: socket.fallback_url.as_ref().map(|url| template::expand_url(url, facts)),
        dialect: socket.dialect.clone(),
        facts: stream,
        on_close: socket.on_close,
        dial,
        question: None,
    }
    .with_handshake()
}

impl Facts for CallFacts {
    fn fact(&self, name: &str) -> Option<String> {
        Some(match name {
            "execution_id" | "call_id" => self.call.to_string(),
            "agent_id" => self.agent.clone(),
            "trunk_id" => self.trunk.clone(),
            "from" => self.from.clone(),
            "to" => self.to.clone(),
            "sip_call_id" => self.sip_call_id.clone(),
            _ => return None,
        })
    }

    fn header(&self, name: &str) -> Option<String> {
        self.invite.header_named(name).map(wire_text)
    }
}
