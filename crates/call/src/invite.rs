//! A request outside of dialogs, from the knock to the call: who knocks, what is asked, whether there is room.
//!
//! Until the INVITE is accepted nothing is kept of it but its verdict. What it refuses to do: answer a stranger with more
//! than one short message, or at all beyond its allowance. RFC 3261 sections 8.2, 11.2, 22; RFC 3581.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use tandem_sip::auth::{Algorithm, Authenticator, Side, Staleness, Verification};
use tandem_sip::{HeaderName, Incoming, Malformed, Method, Refusal, Request, Transport, Uri};

use crate::engine::Engine;
use crate::ids::TrunkId;
use crate::negotiation::read_offer;
use crate::route::{self, Action, Authentication, Decision, OfferSummary, Query};
use crate::table::RoutingTable;
use crate::verdict::{Check, Verdict, VerdictCode, wire_text};

impl Engine {
    pub(crate) fn incoming(&mut self, incoming: Incoming, now: Instant) {
        if self.waiting_room.is_some() {
            return self.keep_waiting(incoming, now);
        }
        let source = incoming.source().ip();
        if !self.may_be_answered(source, now) {
            return;
        }
        match incoming.request().method() {
            Method::Invite => self.invite(incoming, now),
            Method::Options => self.options(incoming),
            _ => self.other(incoming),
        }
    }

    pub(crate) fn malformed(&mut self, malformed: Malformed, now: Instant) {
        self.node.counters.malformed += 1;
        if self.may_be_answered(malformed.source(), now) {
            self.node.endpoint.refuse_malformed(malformed);
        }
    }

    /// Whether a source is in the ranges of a trunk, or a registrar that holds one.
    fn is_known(&self, source: IpAddr) -> bool {
        self.node.table.knows_source(source) || self.register.knows(source)
    }

    /// Whether a source is known, proved itself lately, or has something left of a stranger's allowance.
    fn may_be_answered(&mut self, source: IpAddr, now: Instant) -> bool {
        if self.is_known(source) || self.doorkeeper.has_proven(source, now) {
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
        if self.is_known(incoming.source().ip()) {
            self.node.endpoint.answer_options(incoming);
        } else {
            self.node.endpoint.respond(incoming, 200, &[], None);
        }
    }

    /// What is neither a call nor a question. A stranger does not learn which methods there are: that takes more bytes than
    /// it sent, and helps nobody.
    fn other(&mut self, incoming: Incoming) {
        self.node.counters.other_requests += 1;
        let refusal = match incoming.objection() {
            _ if !self.is_known(incoming.source().ip()) => Refusal::new(403),
            Some(objection) => objection.clone(),
            None => Refusal::new(405),
        };
        self.node.endpoint.refuse(incoming, &refusal);
    }

    pub(crate) fn invite(&mut self, incoming: Incoming, now: Instant) {
        if let Some((refusal, to_source)) =
            self.doorkeeper.refusal_of(incoming.request(), incoming.source(), now)
        {
            self.node.counters.repeated_refusals += 1;
            return self.send_refusal(incoming, &refusal, to_source);
        }
        let table = Arc::clone(&self.node.table);
        let (summary, offer) = read_offer(incoming.request().fields().body_bytes());
        let request = incoming.request();
        let query = query_of(request, incoming.source(), incoming.flow().transport, summary);
        let mut decision = self.decide(&query, &request.uri());
        if let Action::Challenge(_) = decision.action {
            let authentication = self.authenticate(request, &query, &table, now);
            if authentication != Authentication::Absent {
                decision = route::evaluate(&query, &table, &authentication);
            }
        }
        drop(query);
        let Decision { verdict, action, .. } = decision;
        let is_registered = verdict.trace.iter().any(|step| step.check == Check::Registration);
        self.node.counters.registered_calls += u64::from(is_registered);
        let verdict = Box::new(verdict);
        match action {
            Action::Connect(route) => self.connect(incoming, offer, *route, verdict, now),
            Action::Challenge(staleness) => {
                let refusal = self.challenge(&incoming, staleness, now);
                self.turn_away(incoming, &refusal, verdict, now);
            }
            Action::Refuse => {
                let refusal = Refusal::new(verdict.status);
                self.turn_away(incoming, &refusal, verdict, now);
            }
        }
    }

    /// What follows from where an INVITE comes from and what it calls, its credentials left aside. What the registrar of
    /// a trunk sends to the Contact that it holds is that trunk's, and nobody else's; so is what it sends to a number of
    /// the trunk, if no other trunk has the number and the registrar's address.
    pub(crate) fn decide(&self, query: &Query<'_>, uri: &Uri<'_>) -> Decision {
        let (table, source) = (&self.node.table, query.source.ip());
        let of = |trunk: TrunkId| route::evaluate(query, table, &Authentication::Registered(trunk));
        if let Some(trunk) = self.register.trunk_of_contact(uri, source) {
            return of(trunk.clone());
        }
        let decision = route::evaluate(query, table, &Authentication::Absent);
        if matches!(decision.action, Action::Connect(_)) || !self.register.knows(source) {
            return decision;
        }
        let dialled = route::dialled_trunk(query, table, |trunk| self.register.holds(trunk, source));
        dialled.map_or(decision, of)
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
        let Some(username) = Authenticator::claimed_username(request, Side::User, &realm) else {
            return Authentication::Absent;
        };
        let trunks = route::credential_trunks(query, table, &username);
        let passwords = trunks.iter().flat_map(|trunk| {
            let claimed =
                trunk.auth.credentials().iter().filter(|credential| credential.username == username);
            claimed.map(|credential| (Some(&trunk.id), Some(credential.password.as_str())))
        });
        // User names repeat across accounts, and each trial costs a hash.
        let passwords = passwords.take(route::MAX_CREDENTIAL_TRUNKS);
        // A user name nobody has costs as much time as a wrong password.
        let nobody = trunks.is_empty().then_some((None, None));
        for (trunk, password) in passwords.chain(nobody) {
            let verification =
                self.authenticator.verify(now, query.source, &realm, Side::User, request, password);
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
    /// more bytes than it cost. One always has its place: MD5's if it is offered, for every client speaks it.
    fn challenge(&mut self, incoming: &Incoming, staleness: Staleness, now: Instant) -> Refusal {
        let request = incoming.request();
        let realm = self.node.config.realm.as_str();
        let challenges = self.authenticator.challenge(now, incoming.source(), realm, staleness);
        let algorithms = &self.node.config.authenticator.algorithms;
        let common = algorithms.iter().position(|algorithm| *algorithm == Algorithm::MD5).unwrap_or(0);
        let cost = |challenge: &String| challenge.len() + "WWW-Authenticate: \r\n".len();
        let room = request.as_bytes().len().saturating_sub(bare_response(request));
        let mut room = room.saturating_sub(challenges.get(common).map_or(0, cost));
        let name = Side::User.challenge().as_str();
        let mut refusal = Refusal::new(Side::User.status());
        for (index, challenge) in challenges.into_iter().enumerate() {
            if index != common {
                let Some(left) = room.checked_sub(cost(&challenge)) else { continue };
                room = left;
            }
            refusal = refusal.header(name, challenge);
        }
        refusal
    }

    /// Refuses without state, and says why once however often the INVITE is repeated.
    pub(crate) fn turn_away(
        &mut self,
        incoming: Incoming,
        refusal: &Refusal,
        mut verdict: Box<Verdict>,
        now: Instant,
    ) {
        debug_assert_eq!(refusal.status, verdict.status, "the verdict tells the status sent");
        let trunk = verdict.trunk.as_ref().and_then(|trunk| self.node.table.trunk(trunk));
        let to_source = trunk.is_some_and(|trunk| trunk.force_rport);
        if self.doorkeeper.is_repeat(incoming.request(), incoming.source(), refusal, to_source, now) {
            self.node.counters.repeated_refusals += 1;
        } else {
            if verdict.code == VerdictCode::BalanceLow {
                self.record_unpaid(&incoming, &mut verdict, now);
            }
            self.node.emit_verdict(verdict, now);
        }
        self.send_refusal(incoming, refusal, to_source);
    }

    fn send_refusal(&mut self, incoming: Incoming, refusal: &Refusal, to_source: bool) {
        if to_source {
            self.node.endpoint.refuse_to_source(incoming, refusal);
        } else {
            self.node.endpoint.refuse(incoming, refusal);
        }
    }
}

/// What an INVITE asks for.
pub(crate) fn query_of(
    request: &Request,
    source: SocketAddr,
    transport: Transport,
    offer: OfferSummary,
) -> Query<'_> {
    Query {
        source,
        transport,
        request_uri: request.uri().as_bytes(),
        request_user: request.uri().user().unwrap_or_default(),
        to: request.header(HeaderName::To).unwrap_or_default(),
        to_user: request.to().uri().user().unwrap_or_default(),
        from: request.header(HeaderName::From).unwrap_or_default(),
        sip_call_id: request.call_id(),
        user_agent: request.header(HeaderName::UserAgent).unwrap_or_default(),
        offer,
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
