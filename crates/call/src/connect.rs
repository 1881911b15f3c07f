//! From a routed INVITE to a call: is there room, then a session, a bridge asked for, a record begun.
//!
//! What it refuses to do: decide who may call (`route` has) or hold the call (`inbound` does).

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;
use tandem_media::LatchPolicy;
use tandem_media::sdp::{MediaParameters, Offer};
use tandem_sip::{Incoming, NotAccepted, Refusal};

use crate::admission::{NoRoom, Side};
use crate::agent_rules::CallerIdentity;
use crate::bridge::{AgentDial, AgentPlan, BridgePlan};
use crate::caller_lookup::{CallerQuestion, CallerSource};
use crate::encryption::MediaSecurity;
use crate::engine::Engine;
use crate::facts::{self, CallFacts};
use crate::ids::CallId;
use crate::incident::{IncidentKind, Incidents};
use crate::ladder::Heading;
use crate::live::{LiveCall, Parts};
use crate::media_summary::MediaSummary;
use crate::negotiation::Negotiation;
use crate::output::Output;
use crate::reach;
use crate::record::{CallDirection, CallRecord, CallStatus, HangupBy, HangupReason};
use crate::route::Route;
use crate::table::Trunk;
use crate::verdict::{Check, StepOutcome, Verdict, VerdictCode, wire_text};

impl Engine {
    pub(crate) fn connect(
        &mut self,
        incoming: Incoming,
        offer: Option<Offer>,
        route: Route,
        mut verdict: Box<Verdict>,
        now: Instant,
    ) {
        if let Some(objection) = incoming.objection().cloned() {
            note_objection(&mut verdict, &objection);
            return self.turn_away(incoming, &objection, verdict, now);
        }
        let mut permit = match self.node.admission.admit(&route.trunk, Side::Inbound, now) {
            Ok(permit) => permit,
            Err(no_room) => {
                let refusal = note_no_room(&mut verdict, &route.trunk, no_room);
                return self.turn_away(incoming, &refusal, verdict, now);
            }
        };
        verdict.step(Check::TrunkLimits, StepOutcome::Passed, route.trunk.name.clone(), "there is room");
        let (user, caller) = caller_of(&incoming);
        let before = self.node.answered(&route.agent.id, &caller);
        if let Err(no_room) = self.node.admission.admit_caller(&mut permit, &route.agent, &caller, before) {
            self.node.admission.release(permit, now);
            verdict.step(Check::CallerRules, StepOutcome::Failed, user, no_room.detail);
            verdict.conclude(no_room.code);
            let refusal = Refusal::new(verdict.status);
            return self.turn_away(incoming, &refusal, verdict, now);
        }
        let id = CallId(self.node.new_id(now));
        verdict.call = Some(id);
        let first = incoming.request().as_bytes().clone();
        let source = incoming.source();
        let sip_call_id = Bytes::copy_from_slice(incoming.request().call_id());
        let facts = CallFacts::of(id, incoming.request(), &route);
        let sdp_session = self.node.new_sdp_session();
        let security =
            MediaSecurity::new(&route.trunk, incoming.flow().transport, self.node.new_media_random());
        let negotiation = Negotiation::new(route.trunk.codecs.clone(), sdp_session, offer, security);
        let policy = reach::session_policy(incoming.request(), source, &route.trunk);
        let session = match self.node.endpoint.accept(now, incoming, policy) {
            Ok(session) => session,
            Err(not_accepted) => {
                self.node.admission.release_unanswered(permit, now);
                return self.not_accepted(not_accepted, verdict, now);
            }
        };
        self.node.counters.calls += 1;
        let media = negotiation.preview().and_then(Result::ok);
        let plan = self.plan(id, &route, media, source.ip(), &facts);
        let mut record = self.record(id, &route, &facts, now);
        if let Some(CallerSource::Unread(kind)) = &route.agent.rules.caller_source {
            let detail = format!(
                "ingest_source_config: the caller was not looked up: source_type {kind} is not read here; use api"
            );
            record.incidents.note(record.started_unix_ms, IncidentKind::CallerLookupFailed, detail);
        }
        self.node.emit(Output::OpenBridge { call: id, plan: Box::new(plan) });
        let parts = Parts {
            id,
            sip_call_id: sip_call_id.clone(),
            trunk: route.trunk,
            max_duration: route.agent.rules.max_duration,
            recording: route.agent.rules.recording,
            peer: source,
            session,
            permit,
            negotiation,
            record,
            verdict,
        };
        let call = LiveCall::new(parts, now, &mut self.node);
        self.register(call, session, sip_call_id);
        self.draw(&first, Heading::In, Some(source), now);
    }

    fn not_accepted(&mut self, why: NotAccepted, mut verdict: Box<Verdict>, now: Instant) {
        let (code, status) = match why {
            NotAccepted::Objection(status) => (VerdictCode::ProtocolRefused, status),
            NotAccepted::Overloaded => (VerdictCode::NodeCallsReached, 503),
            // The call stands and has its verdict coming; this is its INVITE once more.
            NotAccepted::Repeated => return,
            NotAccepted::NotInvite => return,
        };
        verdict.step(Check::NodeLimits, StepOutcome::Failed, "", why.to_string());
        verdict.call = None;
        verdict.conclude(code);
        verdict.status = status;
        self.node.emit_verdict(verdict, now);
    }

    /// A call that its account cannot pay for leaves a record all the same: whoever looks for it finds out why it never
    /// came.
    pub(crate) fn record_unpaid(&mut self, incoming: &Incoming, verdict: &mut Verdict, now: Instant) {
        let (Some(account), Some(trunk), Some(number), Some(agent)) =
            (&verdict.account, &verdict.trunk, &verdict.number, &verdict.agent)
        else {
            return;
        };
        let id = CallId(self.node.new_id(now));
        let at = self.node.unix_ms(now);
        let to = incoming.request().uri().number().unwrap_or_default();
        let reason = HangupReason::BalanceLow;
        let record = CallRecord {
            id,
            account: account.clone(),
            trunk: trunk.clone(),
            number: number.clone(),
            agent: agent.clone(),
            node: self.node.config.node.clone(),
            direction: CallDirection::Inbound,
            from: caller_of(incoming).0,
            to: wire_text(&to),
            started_unix_ms: at,
            ringing_unix_ms: None,
            answered_unix_ms: None,
            ended_unix_ms: Some(at),
            status: CallStatus::BalanceLow,
            hangup_by: Some(HangupBy::Error),
            hangup_reason: Some(reason),
            sip_status: Some(verdict.status),
            q850: Some(reason.q850()),
            sip_reason: None,
            gateways: Vec::new(),
            transfers: Vec::new(),
            error_message: Some("the account's balance is used up; the call was refused".to_owned()),
            sip_call_id: wire_text(incoming.request().call_id()),
            caller_facts: Vec::new(),
            media: MediaSummary::default(),
            incidents: Incidents::default(),
        };
        verdict.call = Some(id);
        self.node.emit(Output::Record(Box::new(record)));
    }

    fn plan(
        &self,
        call: CallId,
        route: &Route,
        media: Option<MediaParameters>,
        source: IpAddr,
        facts: &CallFacts,
    ) -> BridgePlan {
        let config = &self.node.config;
        let socket = &route.socket;
        let told = media.as_ref().map(|media| media.remote.ip()).filter(|address| !address.is_unspecified());
        let mut allowed: Vec<(IpAddr, u8)> = vec![reach::host(source)];
        allowed.extend(told.map(reach::host));
        allowed.extend(route.trunk.sources.iter().map(|range| (range.addr(), range.prefix_len())));
        let stream = facts.stream(facts::parameters(socket, facts), route);
        let (rules, agent) = (&route.agent.rules, &route.agent.id);
        let caller = CallerIdentity::of(facts.from.as_bytes());
        let question = CallerQuestion::about(rules, &caller, agent, call, &facts.from);
        BridgePlan {
            call,
            account: route.trunk.account.clone(),
            media,
            peer: told.unwrap_or(source),
            latch: LatchPolicy { symmetric: route.trunk.rtp_symmetric, allowed },
            media_timeout: config.media_timeout,
            silence: route.agent.rules.silence,
            agent: AgentPlan { question, ..facts::agent_plan(socket, facts, stream, AgentDial::WithThePort) },
            limits: config.bridge,
        }
    }

    fn record(&self, id: CallId, route: &Route, facts: &CallFacts, now: Instant) -> CallRecord {
        CallRecord {
            id,
            account: route.trunk.account.clone(),
            trunk: route.trunk.id.clone(),
            number: route.number.clone(),
            agent: route.agent.id.clone(),
            node: self.node.config.node.clone(),
            direction: CallDirection::Inbound,
            from: facts.from.clone(),
            to: facts.to.clone(),
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
            sip_call_id: facts.sip_call_id.clone(),
            caller_facts: Vec::new(),
            media: MediaSummary::default(),
            incidents: Incidents::default(),
        }
    }
}

/// Who calls, in words and as rules compare it.
fn caller_of(incoming: &Incoming) -> (String, CallerIdentity) {
    let number = incoming.request().from().uri().number().unwrap_or_default();
    (wire_text(&number), CallerIdentity::of(&number))
}

/// What SIP itself has against a request that routing would connect.
pub(crate) fn note_objection(verdict: &mut Verdict, objection: &Refusal) {
    let detail = objection.phrase.clone().unwrap_or_default();
    verdict.step(Check::Protocol, StepOutcome::Failed, objection.status.to_string(), detail);
    verdict.conclude(VerdictCode::ProtocolRefused);
    verdict.status = objection.status;
}

pub(crate) fn note_no_room(verdict: &mut Verdict, trunk: &Trunk, no_room: NoRoom) -> Refusal {
    let check = match no_room.code {
        VerdictCode::Draining | VerdictCode::RecordsBehind | VerdictCode::NodeCallsReached => {
            Check::NodeLimits
        }
        _ => Check::TrunkLimits,
    };
    verdict.step(check, StepOutcome::Failed, trunk.name.clone(), no_room.detail);
    verdict.conclude(no_room.code);
    let refusal = Refusal::new(verdict.status);
    match no_room.retry_after {
        Some(wait) => refusal.header("Retry-After", wait.as_secs().to_string()),
        None => refusal,
    }
}
