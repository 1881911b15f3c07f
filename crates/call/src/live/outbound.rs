//! An INVITE's way through a trunk's gateways, one after the other, up to the answer: of a call that we place, and of the
//! second leg of one that is transferred.
//!
//! It changes what its leg lends to it ([`Leg`]) and says what is awaited next ([`Step`]); whose leg it is, and what follows
//! from the answer, it does not know. What it refuses to do: follow a redirect to where the trunk's owner did not allow it
//! (`redirect` judges), or ring a callee twice (`failover` has the table). Each gateway is challenged by itself: the trunk's credentials are handed to the INVITE anew,
//! so no nonce and no realm of one gateway reaches another. RFC 3261 sections 8.1, 9.1, 13.2, 22; RFC 3263 section 4.3.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::auth::Answerer;
use tandem_sip::{EndedBy, Misuse, Network, OutgoingInvite, SessionId, SessionPolicy, Target, Transport};

use super::ending::{self, Ending};
use crate::addressing::Call;
use crate::bridge::BridgePlan;
use crate::failover::{FailoverCase, Next};
use crate::gateways::{GatewayAttempt, Hop, MAX_ATTEMPTS, Way, name_of, transport_word, wanted};
use crate::ids::CallId;
use crate::negotiation::Negotiation;
use crate::node::Node;
use crate::output::Output;
use crate::qualify::{GatewayKey, GatewayNews};
use crate::reach;
use crate::table::{Credential, Gateway, Registration, Trunk};
use crate::verdict::{Check, StepOutcome, Verdict};

/// What a leg lends to the walk through its gateways.
pub(super) struct Leg<'a> {
    pub(super) call: CallId,
    pub(super) trunk: &'a Trunk,
    pub(super) sip_call_id: &'a Bytes,
    pub(super) session: &'a mut Option<SessionId>,
    pub(super) peer: &'a mut SocketAddr,
    pub(super) negotiation: &'a mut Negotiation,
    /// What came of each gateway so far.
    pub(super) attempts: &'a mut Vec<GatewayAttempt>,
    pub(super) verdict: Option<&'a mut Verdict>,
}

/// What is awaited after a step.
#[derive(Debug)]
pub(super) enum Step {
    /// The address of a gateway, which was asked for.
    Way,
    /// A media port from which this way can be reached; then [`Outgoing::next_way`] goes on.
    Port(Way),
    /// A response to the INVITE that was sent, until then.
    Answer(Instant),
    /// Nothing more: no gateway took the call.
    Over {
        ending: Ending,
        /// The Q.850 cause that came with the refusal, if one did.
        told: Option<u8>,
    },
}

/// A call on its way to be answered.
#[derive(Debug)]
pub(crate) struct Outgoing {
    /// The number to call, its digits.
    pub(super) dialled: String,
    /// The number that calls, as its owner wrote it.
    from: String,
    /// Headers that its order asks for.
    headers: Vec<(Bytes, Bytes)>,
    /// How long it may ring.
    ringing: Duration,
    /// The bridge's plan, until it is known which family of addresses it needs; none where another made the bridge.
    plan: Option<Box<BridgePlan>>,
    /// Whether the media port is still to be bound.
    needs_port: bool,
    /// Those not tried yet, in order.
    pub(super) hops: VecDeque<Hop>,
    /// The one being tried.
    pub(super) hop: Option<Hop>,
    /// Where redirects led it, tried or about to be.
    pub(super) redirected: Vec<Bytes>,
    /// Addresses of it not tried yet.
    pub(super) ways: VecDeque<Way>,
    /// The one that the INVITE under way went.
    way: Option<Way>,
    /// The answer that came before the answer (RFC 3261 section 13.2.1: in a reliable provisional response).
    early: Option<Bytes>,
    /// Whether the INVITE under way has been heard ringing, and until when it may.
    is_ringing: bool,
    until: Option<Instant>,
    /// The last refusal: what the call ends as if nothing better comes.
    pub(super) refused: Option<Ending>,
}

impl Outgoing {
    /// A call to `dialled`, shown to come `from`, by these gateways in this order.
    pub(crate) fn new(
        dialled: String,
        from: String,
        gateways: Vec<Gateway>,
        plan: Option<BridgePlan>,
    ) -> Self {
        Self {
            dialled,
            from,
            headers: Vec::new(),
            ringing: Duration::ZERO,
            plan: plan.map(Box::new),
            needs_port: true,
            hops: gateways.into_iter().map(|gateway| Hop { gateway, redirected_to: None }).collect(),
            hop: None,
            redirected: Vec::new(),
            ways: VecDeque::new(),
            way: None,
            early: None,
            is_ringing: false,
            until: None,
            refused: None,
        }
    }

    /// The transport of the INVITE under way, or of the last one.
    pub(super) fn transport(&self) -> Option<Transport> {
        self.way.map(|way| way.transport)
    }

    /// The same with headers of its order and a bound on ringing.
    pub(crate) fn ordered(mut self, headers: Vec<(Bytes, Bytes)>, ringing: Duration) -> Self {
        (self.headers, self.ringing) = (headers, ringing);
        self
    }

    /// The bridge's plan, once.
    pub(super) fn take_plan(&mut self) -> Option<Box<BridgePlan>> {
        self.plan.take()
    }

    /// The description that came before the answer.
    pub(super) fn take_early(&mut self) -> Option<Bytes> {
        self.early.take()
    }

    /// Goes to the next gateway, or tells that all have failed.
    pub(super) fn next_gateway(&mut self, leg: &mut Leg<'_>, now: Instant, node: &mut Node) -> Step {
        let hop = self.hops.pop_front().filter(|_| leg.attempts.len() < MAX_ATTEMPTS);
        let Some(hop) = hop else { return self.all_failed(leg) };
        self.ways.clear();
        let wanted = wanted(leg.trunk, &hop.gateway);
        leg.begin_attempt(&hop.gateway, wanted.transport.unwrap_or(Transport::Udp), now, node);
        self.hop = Some(hop);
        node.emit(Output::FindWay { call: leg.call, wanted });
        Step::Way
    }

    /// The gateway has these addresses.
    pub(super) fn way_found(
        &mut self,
        ways: Vec<Way>,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Step {
        self.ways = ways.into();
        self.next_way(leg, now, node)
    }

    /// The gateway has no address.
    pub(super) fn way_failed(&mut self, why: &str, leg: &mut Leg<'_>, now: Instant, node: &mut Node) -> Step {
        self.failed(FailoverCase::Unreachable, why, leg, now, node)
    }

    /// Goes to the gateway's next address, or to the next gateway.
    pub(super) fn next_way(&mut self, leg: &mut Leg<'_>, now: Instant, node: &mut Node) -> Step {
        loop {
            let Some(way) = self.ways.front().copied() else {
                if leg.is_trying() {
                    leg.close_attempt(None, "its name has no address", now, node);
                }
                return self.next_gateway(leg, now, node);
            };
            if std::mem::take(&mut self.needs_port) {
                return Step::Port(way);
            }
            self.ways.pop_front();
            if !leg.is_trying()
                && let Some(Hop { gateway, .. }) = &self.hop
            {
                if leg.attempts.len() >= MAX_ATTEMPTS {
                    return self.all_failed(leg);
                }
                leg.begin_attempt(gateway, way.transport, now, node);
            }
            if let Some(attempt) = leg.attempts.last_mut() {
                attempt.address = Some(way.remote);
                attempt.port = way.remote.port();
                transport_word(way.transport).clone_into(&mut attempt.transport);
            }
            let is_of_family = leg
                .negotiation
                .local()
                .is_none_or(|local| local.is_ipv4() == way.remote.ip().to_canonical().is_ipv4());
            if !is_of_family {
                let why = "the call's media port is of the other family of addresses";
                leg.close_attempt(None, why, now, node);
                continue;
            }
            if leg.negotiation.begin_attempt(way.transport).is_err() {
                let why = "media_encryption is sdes, and this gateway is not spoken to by TLS: its key could be read by anybody";
                leg.close_attempt(None, why, now, node);
                continue;
            }
            match self.invite(way, leg, now, node) {
                Ok(until) => return Step::Answer(until),
                Err(misuse) => leg.close_attempt(None, &misuse.to_string(), now, node),
            }
        }
    }

    /// Sends the INVITE; says until when to wait for a first sign of life.
    fn invite(
        &mut self,
        way: Way,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Result<Instant, Misuse> {
        let Some(Hop { gateway, redirected_to }) = &self.hop else { return Err(Misuse::WrongState) };
        let call = Call {
            trunk: leg.trunk,
            gateway,
            transport: way.transport,
            local: node.endpoint.advertised(way.local, way.remote.ip()),
            from: &self.from,
            dialled: &self.dialled,
            redirected_to: redirected_to.as_ref(),
            ordered: &self.headers,
        };
        let addresses = call.addresses();
        let mut headers = self.headers.clone();
        headers.extend(addresses.headers);
        let mut trusted: Vec<Network> = leg
            .trunk
            .sources
            .iter()
            .map(|range| Network { address: range.addr(), prefix: range.prefix_len() })
            .collect();
        let (address, prefix) = reach::host(way.remote.ip());
        trusted.push(Network { address, prefix });
        let credential = leg.trunk.auth.credentials().first();
        let invite = OutgoingInvite {
            uri: addresses.uri,
            from: addresses.from,
            to: addresses.to,
            call_id: Some(leg.sip_call_id.clone()),
            routes: Vec::new(),
            target: Target::Address {
                transport: way.transport,
                local: Some(way.local),
                remote: way.remote,
                name: name_of(&gateway.address),
            },
            local: way.local,
            sdp: Some(leg.negotiation.offer()),
            credentials: credential.map(|one| answerer(one, leg.trunk.registration.as_ref())),
            headers,
            policy: SessionPolicy {
                trusted,
                large: leg.trunk.outbound.large_requests.into(),
                ..SessionPolicy::default()
            },
        };
        let session = node.endpoint.invite(now, invite)?;
        node.sessions.insert(session, leg.call);
        node.counters.invites += 1;
        *leg.session = Some(session);
        *leg.peer = way.remote;
        self.way = Some(way);
        self.early = None;
        self.is_ringing = false;
        let until = now + self.ringing;
        self.until = Some(until);
        Ok(until.min(now + node.config.gateway_timeout))
    }

    /// A provisional response above 100: says until when it may ring, and whether it rings.
    pub(super) fn progressed(&mut self, status: u16, body: Option<Bytes>) -> (Option<Instant>, bool) {
        // What is sung before the answer is not played to anybody: the agent is fetched when the callee is there.
        self.early = body.or(self.early.take());
        self.is_ringing |= matches!(status, 180 | 183);
        (self.until, self.is_ringing)
    }

    /// The INVITE under way came to nothing.
    pub(super) fn attempt_ended(
        &mut self,
        by: &EndedBy,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Step {
        match by {
            EndedBy::Refused { status, response } => self.refused(*status, response, leg, now, node),
            EndedBy::NoResponse if self.is_ringing => self.unanswered(leg, now, node),
            EndedBy::NoResponse => self.failed(FailoverCase::Timeout, "no response came", leg, now, node),
            EndedBy::TransportLost => {
                self.failed(FailoverCase::Unreachable, "it cannot be reached", leg, now, node)
            }
            EndedBy::ByeReceived
            | EndedBy::Cancelled
            | EndedBy::Rejected { .. }
            | EndedBy::HungUp
            | EndedBy::NoAck
            | EndedBy::NoPrack
            | EndedBy::SessionExpired
            | EndedBy::DialogLost => {
                self.failed(FailoverCase::Unreachable, "the signalling ended by itself", leg, now, node)
            }
        }
    }

    /// The deadline of the INVITE under way: it rang too long, or nobody seems to be there.
    pub(super) fn overdue(&mut self, leg: &mut Leg<'_>, now: Instant, node: &mut Node) -> Step {
        let is_heard = leg.session.is_some_and(|session| node.endpoint.is_heard(session));
        match self.until {
            Some(until) if now < until && is_heard => Step::Answer(until),
            Some(until) if now < until => {
                let waited = node.config.gateway_timeout.as_secs();
                let cause = format!("not a word came within {waited} s");
                self.failed(FailoverCase::Timeout, &cause, leg, now, node)
            }
            Some(_) if !is_heard => self.failed(FailoverCase::Timeout, "no response came", leg, now, node),
            Some(_) | None => self.unanswered(leg, now, node),
        }
    }

    fn unanswered(&mut self, leg: &mut Leg<'_>, now: Instant, node: &Node) -> Step {
        leg.close_attempt(None, "it rang, and nobody answered", now, node);
        Step::Over { ending: ending::unanswered(self.ringing.as_secs()), told: None }
    }

    /// The attempt came to nothing without an answer: what follows is the trunk's to decide.
    fn failed(
        &mut self,
        case: FailoverCase,
        cause: &str,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Step {
        self.tell_watch(leg, Err(cause.to_owned()), node);
        match leg.trunk.outbound.failover.after(case) {
            Next::Gateway => self.try_next(None, cause, leg, now, node),
            Next::End => {
                leg.close_attempt(None, cause, now, node);
                let ending = ending::unreachable(format!("{}: {cause}", leg.gateway_name()));
                Step::Over { ending, told: None }
            }
        }
    }

    /// Lets the watch over gateways know what this call found.
    pub(super) fn tell_watch(&self, leg: &Leg<'_>, answer: Result<u16, String>, node: &mut Node) {
        let Some(Hop { gateway, redirected_to: None }) = &self.hop else { return };
        // One that was not called for want of an address has no way.
        let way = self.way.filter(|_| leg.session.is_some());
        node.gateway_news.push(GatewayNews { key: GatewayKey::of(leg.trunk, gateway), answer, way });
    }

    /// Leaves the INVITE under way to itself and goes on. Should it be answered after all, the endpoint ends it with a BYE.
    pub(super) fn try_next(
        &mut self,
        status: Option<u16>,
        cause: &str,
        leg: &mut Leg<'_>,
        now: Instant,
        node: &mut Node,
    ) -> Step {
        leg.close_attempt(status, cause, now, node);
        if let Some(session) = leg.session.take()
            && node.endpoint.hangup(now, session, None).is_err()
        {
            // It ended by itself, which is what brought us here.
            node.counters.late_inputs += u64::from(status.is_none());
        }
        node.counters.failovers += 1;
        self.next_way(leg, now, node)
    }

    fn all_failed(&mut self, leg: &Leg<'_>) -> Step {
        let last = leg.attempts.last();
        let was_refused = last.is_some_and(|attempt| attempt.sip_status.is_some());
        let refused = self.refused.take();
        let causes: Vec<String> = leg
            .attempts
            .iter()
            .map(|attempt| format!("{}:{} ({})", attempt.gateway, attempt.port, attempt.cause))
            .collect();
        let error = format!("no gateway of the trunk took the call: {}", causes.join(", "));
        let ending = match refused.filter(|_| was_refused) {
            Some(ending) => Ending { error: Some(error), ..ending },
            None => ending::unreachable(error),
        };
        Step::Over { ending, told: None }
    }
}

impl Leg<'_> {
    pub(super) fn gateway_name(&self) -> String {
        let last = self.attempts.last();
        last.map_or_else(String::new, |attempt| format!("{}:{}", attempt.gateway, attempt.port))
    }

    fn is_trying(&self) -> bool {
        self.attempts.last().is_some_and(|attempt| attempt.ended_unix_ms.is_none())
    }

    fn begin_attempt(&mut self, gateway: &Gateway, transport: Transport, now: Instant, node: &Node) {
        self.attempts.push(GatewayAttempt {
            gateway: gateway.address.clone(),
            port: gateway.port.unwrap_or_else(|| transport.default_port()),
            transport: transport_word(transport).to_owned(),
            address: None,
            started_unix_ms: node.unix_ms(now),
            ended_unix_ms: None,
            sip_status: None,
            cause: String::new(),
        });
    }

    /// Says what came of the attempt that goes on, if one does.
    pub(super) fn close_attempt(&mut self, status: Option<u16>, cause: &str, now: Instant, node: &Node) {
        let at = node.unix_ms(now);
        if let Some(attempt) = self.attempts.last_mut()
            && attempt.ended_unix_ms.is_none()
        {
            attempt.ended_unix_ms = Some(at);
            attempt.sip_status = status.or(attempt.sip_status);
            attempt.cause = cause.to_owned();
            let went = attempt.address.map(|address| format!(" at {address}")).unwrap_or_default();
            let subject = format!("{}:{}/{}{went}", attempt.gateway, attempt.port, attempt.transport);
            let outcome = match status {
                Some(200..300) => StepOutcome::Passed,
                Some(_) | None => StepOutcome::Failed,
            };
            if let Some(verdict) = self.verdict.as_deref_mut() {
                verdict.step(Check::Gateway, outcome, subject, cause.to_owned());
            }
        }
    }
}

/// The trunk's credentials; for one realm alone where its registration names it.
fn answerer(credential: &Credential, registration: Option<&Registration>) -> Answerer {
    let answerer = Answerer::new(credential.username.clone(), credential.password.clone());
    match registration.and_then(|registration| registration.realm.clone()) {
        Some(realm) => answerer.only_for(realm),
        None => answerer,
    }
}
