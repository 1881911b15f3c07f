//! A request outside of dialogs, from the knock to the call: who knocks, what is asked, whether there is room.
//!
//! Until the INVITE is accepted nothing is kept of it but its verdict. What it refuses to do: answer a stranger with more
//! than one short message, or at all beyond its allowance. RFC 3261 sections 8.2, 11.2, 22; RFC 3581.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tandem_agent::StreamFacts;
use tandem_media::LatchPolicy;
use tandem_media::sdp::{MediaParameters, Offer};
use tandem_sip::auth::{Authenticator, Side as AuthSide, Staleness, Verification};
use tandem_sip::message::ResponseRouting;
use tandem_sip::{
    HeaderName, Incoming, Malformed, Method, Network, NotAccepted, Reach, Refusal, Request, SessionPolicy,
};

use crate::admission::{NoRoom, Side};
use crate::bridge::{AgentPlan, BridgePlan};
use crate::dialled;
use crate::engine::Engine;
use crate::ids::CallId;
use crate::inbound::{Inbound, Parts};
use crate::ladder::Heading;
use crate::negotiation::{Negotiation, read_offer};
use crate::output::Output;
use crate::record::{CallDirection, CallRecord, CallStatus, MediaSummary};
use crate::route::{self, Action, Authentication, Decision, Query, Route};
use crate::table::{RoutingTable, Trunk, TrunkAuth};
use crate::template::{self, Facts};
use crate::verdict::{Check, StepOutcome, Verdict, VerdictCode, wire_text};

/// `X-` headers of an INVITE told to the agent.
const MAX_HEADERS_TOLD: usize = 32;

impl Engine {
    pub(crate) fn incoming(&mut self, incoming: Incoming, now: Instant) {
        let source = incoming.source().ip();
        if !self.may_be_answered(source, now) {
            return;
        }
        match incoming.request().method() {
            Method::Invite => self.invite(incoming, now),
            Method::Options => self.options(incoming),
            _ => {
                self.node.counters.other_requests += 1;
                let refusal = incoming.objection().cloned().unwrap_or_else(|| Refusal::new(405));
                self.node.endpoint.refuse(incoming, &refusal);
            }
        }
    }

    pub(crate) fn malformed(&mut self, malformed: Malformed, now: Instant) {
        self.node.counters.malformed += 1;
        if self.may_be_answered(malformed.source(), now) {
            self.node.endpoint.refuse_malformed(malformed);
        }
    }

    /// Whether a source is known, proved itself lately, or has something left of a stranger's allowance.
    fn may_be_answered(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.node.table.knows_source(source) || self.doorkeeper.has_proven(source, now) {
            return true;
        }
        let may = self.node.admission.answers_stranger(source, now);
        self.node.counters.silenced += u64::from(!may);
        may
    }

    /// RFC 3261 section 11.2: "The response code chosen MUST be the same that would have been chosen had the request been
    /// an INVITE", as far as the node goes: a stranger who asks how we are learns that we are, in few bytes.
    fn options(&mut self, incoming: Incoming) {
        if self.node.admission.is_draining() {
            let refusal = Refusal::new(503).header("Retry-After", "30");
            return self.node.endpoint.refuse(incoming, &refusal);
        }
        if let Some(objection) = incoming.objection().cloned() {
            return self.node.endpoint.refuse(incoming, &objection);
        }
        if self.node.table.knows_source(incoming.source().ip()) {
            self.node.endpoint.answer_options(incoming);
        } else {
            self.node.endpoint.respond(incoming, 200, &[], None);
        }
    }

    fn invite(&mut self, incoming: Incoming, now: Instant) {
        let table = Arc::clone(&self.node.table);
        let (summary, offer) = read_offer(incoming.request().fields().body_bytes());
        let request = incoming.request();
        let request_user = dialled::user_of(&request.uri());
        let to_user = dialled::user_of(&request.to().uri());
        let query = Query {
            source: incoming.source(),
            transport: incoming.flow().transport,
            request_uri: request.uri().as_bytes(),
            request_user: &request_user,
            to: request.header(HeaderName::To).unwrap_or_default(),
            to_user: &to_user,
            from: request.header(HeaderName::From).unwrap_or_default(),
            sip_call_id: request.call_id(),
            user_agent: request.header(HeaderName::UserAgent).unwrap_or_default(),
            offer: summary,
        };
        let mut decision = route::evaluate(&query, &table, &Authentication::Absent);
        if let Action::Challenge { .. } = decision.action {
            let authentication = self.authenticate(request, &query, &table, now);
            if authentication != Authentication::Absent {
                decision = route::evaluate(&query, &table, &authentication);
            }
        }
        drop(query);
        let Decision { verdict, action, .. } = decision;
        let verdict = Box::new(verdict);
        match action {
            Action::Connect(route) => self.connect(incoming, offer, route, verdict, now),
            Action::Challenge { is_stale } => {
                let staleness = if is_stale { Staleness::Stale } else { Staleness::Fresh };
                let refusal = self.challenge(&incoming, staleness, now);
                self.turn_away(incoming, &refusal, verdict, now);
            }
            Action::Refuse => {
                let refusal = Refusal::new(verdict.status);
                self.turn_away(incoming, &refusal, verdict, now);
            }
        }
    }

    /// What the request's credentials are worth.
    fn authenticate(
        &mut self,
        request: &Request,
        query: &Query<'_>,
        table: &RoutingTable,
        now: Instant,
    ) -> Authentication {
        let realm = self.node.config.realm.clone();
        let Some(username) = Authenticator::claimed_username(request, AuthSide::User, &realm) else {
            return Authentication::Absent;
        };
        let trunks = route::credential_trunks(query, table, &username);
        let passwords = trunks.iter().map(|trunk| match &trunk.auth {
            TrunkAuth::UserPass { password, .. } => (Some(&trunk.id), Some(password.as_str())),
            TrunkAuth::IpBased => (None, None),
        });
        // A user name nobody has costs as much time as a wrong password.
        let nobody = trunks.is_empty().then_some((None, None));
        for (trunk, password) in passwords.chain(nobody) {
            let verification =
                self.authenticator.verify(now, query.source, &realm, AuthSide::User, request, password);
            return match (verification, trunk) {
                (Verification::Wrong, _) => continue,
                (Verification::Accepted, Some(trunk)) => {
                    self.doorkeeper.remember_proof(query.source.ip(), now);
                    Authentication::Verified(trunk.clone())
                }
                (Verification::Accepted | Verification::Absent, _) => Authentication::Absent,
                (Verification::Stale, _) => Authentication::Stale,
                (Verification::Replayed, _) => Authentication::Replayed,
                (Verification::OtherUri, _) => {
                    Authentication::Wrong("the digest is over another Request-URI".to_owned())
                }
            };
        }
        let username = wire_text(username.as_bytes());
        Authentication::Wrong(match trunks.is_empty() {
            true => format!("no trunk has the user name {username}"),
            false => format!("the password of {username} does not match"),
        })
    }

    /// A 401 that holds as many challenges as the request leaves room for, so that a forged INVITE brings its victim no
    /// more bytes than it cost. The last algorithm, which every client speaks, always has its place.
    fn challenge(&self, incoming: &Incoming, staleness: Staleness, now: Instant) -> Refusal {
        let request = incoming.request();
        let realm = &self.node.config.realm;
        let mut challenges = self.authenticator.challenge(now, incoming.source(), realm, staleness);
        let cost = |challenge: &String| challenge.len() + "WWW-Authenticate: \r\n".len();
        let mut room = request.as_bytes().len().saturating_sub(bare_response(request));
        let mut kept = 0;
        for challenge in challenges.iter().rev() {
            if cost(challenge) > room && kept > 0 {
                break;
            }
            room = room.saturating_sub(cost(challenge));
            kept += 1;
        }
        challenges.drain(..challenges.len() - kept);
        let name = AuthSide::User.challenge().as_str();
        challenges
            .into_iter()
            .fold(Refusal::new(AuthSide::User.status()), |refusal, challenge| refusal.header(name, challenge))
    }

    /// Refuses without state, and says why once however often the INVITE is repeated.
    fn turn_away(&mut self, incoming: Incoming, refusal: &Refusal, verdict: Box<Verdict>, now: Instant) {
        debug_assert_eq!(refusal.status, verdict.status, "the verdict tells the status sent");
        if self.doorkeeper.is_repeat(incoming.request(), incoming.source(), now) {
            self.node.counters.repeated_refusals += 1;
        } else {
            self.node.emit_verdict(verdict.clone(), now);
        }
        let trunk = verdict.trunk.as_ref().and_then(|trunk| self.node.table.trunk(trunk));
        if trunk.is_some_and(|trunk| trunk.force_rport) {
            self.node.endpoint.refuse_to_source(incoming, refusal);
        } else {
            self.node.endpoint.refuse(incoming, refusal);
        }
    }

    fn connect(
        &mut self,
        incoming: Incoming,
        offer: Option<Offer>,
        route: Route,
        mut verdict: Box<Verdict>,
        now: Instant,
    ) {
        if let Some(objection) = incoming.objection().cloned() {
            let detail = objection.phrase.clone().unwrap_or_default();
            verdict.step(Check::Protocol, StepOutcome::Failed, objection.status.to_string(), detail);
            verdict.conclude(VerdictCode::ProtocolRefused);
            verdict.status = objection.status;
            return self.turn_away(incoming, &objection, verdict, now);
        }
        let permit = match self.node.admission.admit(&route.trunk, Side::Inbound, now) {
            Ok(permit) => permit,
            Err(no_room) => {
                let refusal = note_no_room(&mut verdict, &route.trunk, no_room);
                return self.turn_away(incoming, &refusal, verdict, now);
            }
        };
        verdict.step(Check::TrunkLimits, StepOutcome::Passed, route.trunk.name.as_str(), "there is room");
        let id = CallId(self.node.new_id(now));
        verdict.call = Some(id);
        let first = incoming.request().as_bytes().clone();
        let source = incoming.source();
        let sip_call_id = Bytes::copy_from_slice(incoming.request().call_id());
        let facts = CallFacts::of(id, incoming.request(), &route);
        let sdp_session = self.node.new_sdp_session();
        let negotiation = Negotiation::new(route.trunk.codecs.clone(), sdp_session, offer);
        let policy = session_policy(incoming.request(), source, &route.trunk);
        let session = match self.node.endpoint.accept(now, incoming, policy) {
            Ok(session) => session,
            Err(not_accepted) => {
                self.node.admission.release(permit, now);
                return self.not_accepted(not_accepted, verdict, now);
            }
        };
        self.node.counters.calls += 1;
        let media = negotiation.preview().and_then(Result::ok);
        let plan = self.plan(id, &route, media, source.ip(), &facts);
        let record = self.record(id, &route, &facts, now);
        self.node.emit(Output::OpenBridge { call: id, plan: Box::new(plan) });
        let parts = Parts {
            id,
            sip_call_id: sip_call_id.clone(),
            trunk: route.trunk,
            peer: source,
            session,
            permit,
            negotiation,
            record,
            verdict,
        };
        let call = Inbound::new(parts, now, &mut self.node);
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
        let mut allowed: Vec<(IpAddr, u8)> = vec![host(source)];
        allowed.extend(told.map(host));
        allowed.extend(route.trunk.sources.iter().map(|range| (range.addr(), range.prefix_len())));
        let parameters = socket
            .parameters
            .iter()
            .map(|(name, value)| (name.clone(), template::expand_text(value, facts)))
            .collect();
        BridgePlan {
            call,
            account: route.trunk.account.clone(),
            media,
            peer: told.unwrap_or(source),
            latch: LatchPolicy { symmetric: route.trunk.rtp_symmetric, allowed },
            media_timeout: config.media_timeout,
            agent: AgentPlan {
                url: template::expand_url(&socket.url, facts),
                headers: socket
                    .headers
                    .iter()
                    .map(|(name, value)| (name.clone(), template::expand_header(value, facts)))
                    .collect(),
                subprotocol: socket.subprotocol.clone(),
                fallback_url: socket.fallback_url.as_ref().map(|url| template::expand_url(url, facts)),
                dialect: socket.dialect.clone(),
                facts: facts.stream(parameters, route),
                on_close: socket.on_close,
            },
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
            error_message: None,
            sip_call_id: facts.sip_call_id.clone(),
            media: MediaSummary::default(),
        }
    }
}

/// What an agent is told of its call, and what its templates are filled with.
struct CallFacts {
    call: CallId,
    agent: String,
    trunk: String,
    account: String,
    from: String,
    to: String,
    sip_call_id: String,
    /// The INVITE itself, for the headers that templates name.
    invite: Request,
}

impl CallFacts {
    fn of(call: CallId, invite: &Request, route: &Route) -> Self {
        let from = invite.from().uri().number().unwrap_or_default();
        Self {
            call,
            agent: route.agent.id.to_string(),
            trunk: route.trunk.id.to_string(),
            account: route.trunk.account.to_string(),
            from: wire_text(&from),
            to: route.number_text.clone(),
            sip_call_id: wire_text(invite.call_id()),
            invite: invite.clone(),
        }
    }

    fn stream(&self, parameters: Vec<(String, String)>, route: &Route) -> StreamFacts {
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

fn note_no_room(verdict: &mut Verdict, trunk: &Trunk, no_room: NoRoom) -> Refusal {
    let check = match no_room.code {
        VerdictCode::Draining | VerdictCode::NodeCallsReached => Check::NodeLimits,
        _ => Check::TrunkLimits,
    };
    verdict.step(check, StepOutcome::Failed, trunk.name.as_str(), no_room.detail);
    verdict.conclude(no_room.code);
    let refusal = Refusal::new(verdict.status);
    match no_room.retry_after {
        Some(wait) => refusal.header("Retry-After", wait.as_secs().to_string()),
        None => refusal,
    }
}

fn session_policy(invite: &Request, source: SocketAddr, trunk: &Trunk) -> SessionPolicy {
    SessionPolicy {
        trusted: trunk
            .sources
            .iter()
            .map(|range| Network { address: range.addr(), prefix: range.prefix_len() })
            .collect(),
        routing: if trunk.force_rport { ResponseRouting::Symmetric } else { ResponseRouting::AsAsked },
        reach: reach(invite, source, trunk),
        ..SessionPolicy::default()
    }
}

/// Where requests of ours go: a Contact that names a private address while the INVITE came from a public one cannot be
/// reached, unless a proxy on the way recorded itself.
fn reach(invite: &Request, source: SocketAddr, trunk: &Trunk) -> Reach {
    let is_recorded = invite.header(HeaderName::RecordRoute).is_some();
    let contact = invite.contact().and_then(|contact| contact.uri().ip());
    match contact {
        Some(contact)
            if trunk.force_rport && !is_recorded && is_private(contact) && !is_private(source.ip()) =>
        {
            Reach::Source
        }
        Some(_) | None => Reach::Signalled,
    }
}

/// RFC 1918, RFC 6598 section 7 (100.64.0.0/10), RFC 4193, loopback, link-local and the unspecified address.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || (first == 100 && second & 0xC0 == 64)
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

fn host(address: IpAddr) -> (IpAddr, u8) {
    match address.to_canonical() {
        IpAddr::V4(address) => (IpAddr::V4(address), 32),
        IpAddr::V6(address) => (IpAddr::V6(address), 128),
    }
}

/// Bytes of a response that holds nothing but what RFC 3261 section 8.2.6.2 has copied from the request.
fn bare_response(request: &Request) -> usize {
    let copied: usize = request
        .fields()
        .typed_headers()
        .filter(|(name, _)| {
            matches!(
                name,
                HeaderName::Via | HeaderName::From | HeaderName::To | HeaderName::CallId | HeaderName::CSeq
            )
        })
        .map(|(name, value)| name.as_str().len() + value.len() + 4)
        .sum();
    // Status line, To tag, received and rport, Content-Length, the empty line.
    copied + 140
}
