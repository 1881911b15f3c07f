//! From an order to a call that is being placed: are trunk, agent and gateways there, is there room, then a record begun.
//!
//! What it refuses to do: wait for room (the order goes back to whoever gave it, with the bound that is reached), or try
//! gateways (`live` does).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_agent::StreamFacts;
use tandem_media::LatchPolicy;
use tandem_sip::{HeaderName, Transport};
use uuid::Uuid;

use crate::admission::{NoRoom, Side};
use crate::bridge::{AgentDial, BridgePlan};
use crate::encryption::MediaSecurity;
use crate::engine::Engine;
use crate::facts;
use crate::gateways;
use crate::ids::{AccountId, AgentId, CallId, NumberId, TrunkId};
use crate::incident::Incidents;
use crate::live::{LiveCall, Outgoing, PlacedParts};
use crate::media_summary::MediaSummary;
use crate::negotiation::Negotiation;
use crate::output::Output;
use crate::record::{CallDirection, CallRecord, CallStatus, HangupBy, HangupReason};
use crate::table::{Agent, AgentSocket, Trunk};
use crate::template::Facts;
use crate::verdict::{Check, StepOutcome, Verdict, VerdictCode, wire_text};

/// Most headers that one order may add to its INVITE: it must still fit a datagram.
const MAX_HEADERS: usize = 16;

/// A call that is to be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dial {
    /// Its identifier, given by whoever orders it.
    pub call: CallId,
    /// Whose it is; trunk and agent must be the same account's.
    pub account: AccountId,
    /// The trunk it goes out by.
    pub trunk: TrunkId,
    /// The number that calls.
    pub number: NumberId,
    /// The same as its owner wrote it: what the callee sees, unless the trunk shows another.
    pub from: String,
    /// The number to call, in E.164 with or without `+`.
    pub to: String,
    /// The agent that speaks when it is answered.
    pub agent: AgentId,
    /// Facts of the callee that the agent is told, beside its own parameters.
    pub parameters: Vec<(String, String)>,
    /// Headers for the INVITE. Those that the call itself depends on are left out: see [`is_free_header`].
    pub headers: Vec<(String, String)>,
    /// How long it may ring, where it is not the node's default.
    pub ringing: Option<Duration>,
    /// How long it may last, within the agent's and the node's own bounds.
    pub max_duration: Option<Duration>,
}

/// Whether an order may add a header of this name and value to its INVITE: `X-…` and what tells of the caller, but nothing
/// that the call's signalling or its cost hang on, and nothing that ends a line.
pub fn is_free_header(name: &str, value: &str) -> bool {
    let is_token = !name.is_empty()
        && name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte));
    let is_line = value.len() <= 512 && !value.chars().any(char::is_control);
    let is_known = !matches!(HeaderName::from_bytes(name.as_bytes()), HeaderName::Other);
    let lower = name.to_ascii_lowercase();
    let is_allowed =
        ["subject", "user-to-user", "call-info", "alert-info", "priority", "privacy", "diversion"]
            .contains(&lower.as_str());
    is_token && is_line && (lower.starts_with("x-") || is_allowed || (!is_known && lower.starts_with("p-")))
}

/// The headers of an order that it may have, as many as it may.
pub(crate) fn free_headers(headers: &[(String, String)]) -> Vec<(Bytes, Bytes)> {
    let free = headers.iter().filter(|(name, value)| is_free_header(name, value));
    free.take(MAX_HEADERS)
        .map(|(name, value)| (Bytes::from(name.clone()), Bytes::from(value.clone())))
        .collect()
}

/// Whether calls can be placed by a trunk, or why not, in words that say what to do.
pub(crate) fn check_trunk(trunk: &Trunk) -> Result<(), String> {
    if !trunk.is_active {
        return Err(format!("the trunk {} is switched off; PATCH it with is_active true", trunk.name));
    }
    if !trunk.outbound_enabled {
        return Err(format!("the trunk {} places no calls; PATCH it with outbound_enabled true", trunk.name));
    }
    if trunk.gateways.is_empty() {
        return Err(format!("the trunk {} has no gateway; add one", trunk.name));
    }
    if trunk.codecs.is_empty() {
        return Err(format!("the trunk {} allows no codec; set allow to ulaw, alaw or g722", trunk.name));
    }
    Ok(())
}

/// What the agent of a call that we place is told, and what its templates are filled with.
struct DialFacts<'a> {
    dial: &'a Dial,
    sip_call_id: &'a str,
}

impl Facts for DialFacts<'_> {
    fn fact(&self, name: &str) -> Option<String> {
        Some(match name {
            "execution_id" | "call_id" => self.dial.call.to_string(),
            "agent_id" => self.dial.agent.to_string(),
            "trunk_id" => self.dial.trunk.to_string(),
            "from" => self.dial.from.clone(),
            "to" => self.dial.to.clone(),
            "sip_call_id" => self.sip_call_id.to_owned(),
            _ => return None,
        })
    }

    fn header(&self, name: &str) -> Option<String> {
        let found = self.dial.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.clone())
    }
}

/// What is needed of the table for a call.
struct Found {
    trunk: Arc<Trunk>,
    agent: Arc<Agent>,
    socket: Arc<AgentSocket>,
}

impl Engine {
    /// Places a call. What comes of it is an [`Output::Record`], or [`Output::NotPlaced`] when there is no room now.
    pub(crate) fn place(&mut self, dial: Dial, now: Instant) {
        if self.knows(dial.call) {
            self.node.counters.unexpected_inputs += 1;
            return;
        }
        let found = match self.find(&dial) {
            Ok(found) => found,
            Err(why) => return self.unplaced(dial, why, now),
        };
        let permit = match self.node.admission.admit(&found.trunk, Side::Outbound, now) {
            Ok(permit) => permit,
            Err(no_room) => return self.put_back(dial.call, no_room),
        };
        self.node.counters.calls += 1;
        self.node.counters.placed += 1;
        let Found { trunk, agent, socket } = found;
        let sip_call_id = self.node.new_sip_call_id();
        let plan = self.plan_of(&dial, &trunk, (&agent, &socket), &sip_call_id);
        let record = self.record_of(&dial, &sip_call_id, now);
        let sdp_session = self.node.new_sdp_session();
        let security = MediaSecurity::new(&trunk, trunk.transport, self.node.new_media_random());
        let mut gateways = gateways::in_order(&trunk, &mut self.node.random);
        // Last, not never: the watch may be wrong, and the carrier may take calls though it answers no OPTIONS.
        gateways.sort_by_key(|gateway| self.qualify.is_down(&trunk, gateway));
        let headers = free_headers(&dial.headers);
        let ringing = dial.ringing.unwrap_or(self.node.config.ringing_timeout);
        let outgoing = Outgoing::new(dial.to, dial.from, gateways, Some(plan)).ordered(headers, ringing);
        let parts = PlacedParts {
            verdict: Box::new(verdict_on(&record)),
            sip_call_id: Bytes::from(sip_call_id),
            max_duration: [dial.max_duration, agent.rules.max_duration].into_iter().flatten().min(),
            recording: agent.rules.recording,
            negotiation: Negotiation::new(trunk.codecs.clone(), sdp_session, None, security),
            trunk,
            permit,
            record,
            outgoing,
        };
        let call = LiveCall::placed(parts, now, &mut self.node);
        self.hold(call);
    }

    /// Trunk and agent, or why the call cannot be placed, in words that say what to do.
    fn find(&self, dial: &Dial) -> Result<Found, String> {
        let table = &self.node.table;
        let trunk = table.trunk(&dial.trunk).filter(|trunk| trunk.account == dial.account);
        let trunk = trunk.ok_or("the trunk was deleted before the call was placed")?;
        check_trunk(trunk)?;
        let agent = table.agent(&dial.agent).filter(|agent| agent.account == dial.account);
        let agent = agent.ok_or("the agent was deleted before the call was placed")?;
        let socket = agent
            .socket
            .clone()
            .ok_or_else(|| format!("the agent {} has no websocket; give it one with a url", agent.name))?;
        Ok(Found { trunk: Arc::clone(trunk), agent: Arc::clone(agent), socket })
    }

    fn put_back(&mut self, call: CallId, no_room: NoRoom) {
        self.node.counters.not_placed += 1;
        self.node.emit(Output::NotPlaced { call, no_room });
    }

    /// A call that never came to be leaves a record that says why.
    fn unplaced(&mut self, dial: Dial, why: String, now: Instant) {
        let mut record = self.record_of(&dial, "", now);
        let reason = HangupReason::TemporaryFailure;
        record.status = CallStatus::Failed;
        record.ended_unix_ms = Some(record.started_unix_ms);
        record.hangup_by = Some(HangupBy::Error);
        record.hangup_reason = Some(reason);
        record.q850 = Some(reason.q850());
        let mut verdict = Box::new(verdict_on(&record));
        verdict.step(Check::Trunk, StepOutcome::Failed, record.trunk.to_string(), why.clone());
        verdict.conclude(VerdictCode::CallNotPlaced);
        self.node.emit_verdict(verdict, now);
        record.error_message = Some(why);
        self.node.emit(Output::Record(Box::new(record)));
    }

    fn plan_of(
        &self,
        dial: &Dial,
        trunk: &Trunk,
        (agent, socket): (&Agent, &AgentSocket),
        sip_call_id: &str,
    ) -> BridgePlan {
        let config = &self.node.config;
        let told = DialFacts { dial, sip_call_id };
        let stream = StreamFacts {
            call: dial.call.0,
            account: dial.account.to_string(),
            agent: dial.agent.to_string(),
            trunk: dial.trunk.to_string(),
            from: dial.from.clone(),
            to: dial.to.clone(),
            sip_call_id: sip_call_id.to_owned(),
            parameters: parameters(socket, &told, dial),
            headers: Vec::new(),
        };
        BridgePlan {
            call: dial.call,
            account: dial.account.clone(),
            media: None,
            peer: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            latch: LatchPolicy {
                symmetric: trunk.rtp_symmetric,
                allowed: trunk.sources.iter().map(|range| (range.addr(), range.prefix_len())).collect(),
            },
            media_timeout: config.media_timeout,
            silence: agent.rules.silence,
            agent: facts::agent_plan(socket, &told, stream, AgentDial::WhenTold),
            limits: config.bridge,
        }
    }

    fn record_of(&self, dial: &Dial, sip_call_id: &str, now: Instant) -> CallRecord {
        CallRecord {
            id: dial.call,
            account: dial.account.clone(),
            trunk: dial.trunk.clone(),
            number: dial.number.clone(),
            agent: dial.agent.clone(),
            node: self.node.config.node.clone(),
            direction: CallDirection::Outbound,
            from: dial.from.clone(),
            to: dial.to.clone(),
            started_unix_ms: self.node.unix_ms(now),
            ringing_unix_ms: None,
            answered_unix_ms: None,
            ended_unix_ms: None,
            status: CallStatus::Initiated,
            hangup_by: None,
            hangup_reason: None,
            sip_status: None,
            q850: None,
            sip_reason: None,
            gateways: Vec::new(),
            transfers: Vec::new(),
            error_message: None,
            sip_call_id: sip_call_id.to_owned(),
            caller_facts: Vec::new(),
            media: MediaSummary::default(),
            incidents: Incidents::default(),
        }
    }
}

/// The verdict on a call of ours, to be filled in as it goes.
fn verdict_on(record: &CallRecord) -> Verdict {
    let code = VerdictCode::Accepted;
    Verdict {
        id: Uuid::nil(),
        at_unix_ms: 0,
        account: Some(record.account.clone()),
        direction: CallDirection::Outbound,
        code,
        status: code.status(),
        source: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
        transport: Transport::Udp,
        request_uri: wire_text(format!("sip:{}", record.to).as_bytes()),
        from: wire_text(record.from.as_bytes()),
        to: wire_text(record.to.as_bytes()),
        sip_call_id: record.sip_call_id.clone(),
        user_agent: String::new(),
        call: Some(record.id),
        trunk: Some(record.trunk.clone()),
        number: Some(record.number.clone()),
        agent: Some(record.agent.clone()),
        trace: Vec::new(),
        near_misses: Vec::new(),
        remedy: code.remedy().into(),
    }
}

/// The agent's own parameters, and the order's facts where the agent has none of that name.
fn parameters(socket: &AgentSocket, told: &DialFacts<'_>, dial: &Dial) -> Vec<(String, String)> {
    let own = facts::parameters(socket, told);
    let names: BTreeMap<&str, ()> = own.iter().map(|(name, _)| (name.as_str(), ())).collect();
    let more: Vec<(String, String)> =
        dial.parameters.iter().filter(|(name, _)| !names.contains_key(name.as_str())).cloned().collect();
    own.into_iter().chain(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_adds_headers_that_nothing_hangs_on_and_no_others() {
        for (name, value) in [
            ("X-Campaign", "7"),
            ("x-a", ""),
            ("User-to-User", "56a390;encoding=hex"),
            ("Diversion", "<sip:+1@a>"),
            ("P-Custom", "1"),
        ] {
            assert!(is_free_header(name, value), "{name}");
        }
        for (name, value) in [
            ("Route", "<sip:evil.example;lr>"),
            ("Via", "x"),
            ("v", "x"),
            ("Content-Length", "0"),
            ("Authorization", "Digest"),
            ("P-Asserted-Identity", "<sip:+1@a>"),
            ("X-A", "1\r\nRoute: <sip:evil>"),
            ("X A", "1"),
            ("X-A:", "1"),
            ("", "1"),
        ] {
            assert!(!is_free_header(name, value), "{name}");
        }
    }
}
