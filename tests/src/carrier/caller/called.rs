//! The called side of a call that Tandem places: gateways that take, refuse, challenge or ignore its INVITE, and the
//! telephone behind one of them (RFC 3261 8.2, 9.2, 13.3 and 17.2.1 as a UAS sees them; RFC 7616 as one that challenges).
//!
//! Once it has answered it is a caller like any other: it speaks, changes the session and hangs up by its script.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Caller, Deed, Ending, PATIENCE, T1, T2};
use crate::carrier::digest;
use crate::carrier::messages::{self, Line, Received};
use crate::carrier::order::{Demands, Then};
use crate::carrier::script::{Act, When};
use crate::carrier::sdp::{self, ExtraSection, Flowing, OfferPlan, payload_type};

/// INVITEs of one order, and what became of each.
#[derive(Debug, Default)]
pub(super) struct Called {
    /// By branch.
    attempts: BTreeMap<String, Attempt>,
    /// The nonces that each gateway gave out.
    nonces: BTreeMap<usize, Vec<String>>,
    /// The second telephone.
    fork: Option<Final>,
}

/// One INVITE at one gateway.
#[derive(Debug)]
struct Attempt {
    gateway: usize,
    /// The gateway's address.
    at: SocketAddr,
    received: Received,
    tag: String,
    /// The last provisional response.
    said: Option<Bytes>,
    /// When its final response is due.
    due: Option<Instant>,
    last: Option<Final>,
}

/// A final response, repeated until its ACK.
#[derive(Debug)]
struct Final {
    gateway: usize,
    status: u16,
    cseq: u32,
    tag: String,
    bytes: Bytes,
    interval: Duration,
    next: Option<Instant>,
    until: Instant,
    /// A 2xx whose dialog was ended; any other, once acknowledged.
    is_done: bool,
}

impl Final {
    fn new(gateway: usize, status: u16, received: &Received, tag: &str, bytes: Bytes, now: Instant) -> Self {
        Self {
            gateway,
            status,
            cseq: received.cseq,
            tag: tag.to_owned(),
            bytes,
            interval: T1,
            next: Some(now + T1),
            until: now + PATIENCE,
            is_done: false,
        }
    }

    fn acknowledged(&mut self) {
        self.next = None;
        self.is_done |= self.status >= 300;
    }

    /// What is to be said again now.
    fn repeat(&mut self, now: Instant) -> Option<Bytes> {
        if now >= self.until {
            (self.next, self.is_done) = (None, true);
            return None;
        }
        self.next.filter(|next| *next <= now)?;
        self.interval = (self.interval * 2).min(T2);
        self.next = Some(now + self.interval);
        Some(self.bytes.clone())
    }

    fn wake(&self) -> Option<Instant> {
        if self.is_done { None } else { [self.next, Some(self.until)].into_iter().flatten().min() }
    }
}

impl Called {
    /// Whether some INVITE waits for its final response, some final response for its ACK, some answer for its BYE.
    pub(super) fn is_busy(&self) -> bool {
        let is_open = |last: &Final| !last.is_done;
        self.attempts
            .values()
            .any(|attempt| attempt.due.is_some() || attempt.last.as_ref().is_some_and(is_open))
            || self.fork.as_ref().is_some_and(is_open)
    }

    /// When something is due.
    pub(super) fn wake(&self) -> Option<Instant> {
        let due = self.attempts.values().filter_map(|attempt| attempt.due);
        let finals = self.attempts.values().filter_map(|attempt| attempt.last.as_ref()).chain(&self.fork);
        due.chain(finals.filter_map(Final::wake)).min()
    }

    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    fn finals(&mut self) -> impl Iterator<Item = &mut Final> {
        self.attempts.values_mut().filter_map(|attempt| attempt.last.as_mut()).chain(&mut self.fork)
    }
}

impl Caller {
    /// Takes a message that Tandem sent to a gateway, whose address is `at`.
    pub fn handle_at_gateway(
        &mut self,
        now: Instant,
        (gateway, at): (usize, SocketAddr),
        bytes: &[u8],
        deeds: &mut Vec<Deed>,
    ) {
        if self.forgot {
            return;
        }
        let received = match messages::read(bytes) {
            Ok(received) => received,
            Err(why) => return self.outcome.unreadable.push(why),
        };
        let forked = self.called.fork.as_mut().filter(|fork| fork.tag == received.to_tag);
        match (received.status, received.method.as_str()) {
            (0, "INVITE") if received.to_tag.is_empty() => self.invited(now, gateway, at, received, deeds),
            (0, "CANCEL") => self.cancelled_by_tandem(now, gateway, &received, deeds),
            (0, "ACK") => self.acknowledged(&received),
            (0, "BYE") if forked.is_some() => {
                forked.into_iter().for_each(|fork| (fork.is_done, fork.next) = (true, None));
                let payload = messages::response(&received, 200, "", vec![], b"");
                deeds.push(Deed::Gateway { gateway, payload });
            }
            (0, method) => {
                if method == "BYE" {
                    self.called.finals().filter(|last| last.tag == received.to_tag).for_each(|last| {
                        (last.is_done, last.next) = (true, None);
                    });
                }
                self.handle_request(now, received, deeds);
            }
            _ => self.handle_response(now, received, deeds),
        }
    }

    /// Nothing more comes of the order: who was not reached is reached no more, if no answer is under way.
    pub fn settle(&mut self, now: Instant) {
        if self.outcome.answered_at.is_none() {
            self.end(now, Ending::NotReached);
        }
    }

    /// Does what is due at the gateways.
    pub(super) fn serve_gateways(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let due = |attempt: &&mut Attempt| attempt.due.is_some_and(|due| due <= now);
        let mut branches = Vec::new();
        for attempt in self.called.attempts.values_mut().filter(due) {
            attempt.due = None;
            branches.push(attempt.received.branch.clone());
        }
        for branch in branches {
            self.conclude(now, &branch, deeds);
        }
        let mut is_unheard = false;
        for last in self.called.finals() {
            let gateway = last.gateway;
            is_unheard |= last.status < 300 && last.next.is_some() && now >= last.until;
            deeds.extend(last.repeat(now).map(|payload| Deed::Gateway { gateway, payload }));
        }
        if is_unheard {
            // RFC 3261 13.3.1.4: a 2xx without its ACK ends the session.
            self.act(now, Act::Bye, deeds);
        }
    }

    fn invited(
        &mut self,
        now: Instant,
        gateway: usize,
        at: SocketAddr,
        received: Received,
        deeds: &mut Vec<Deed>,
    ) {
        if let Some(attempt) = self.called.attempts.get(&received.branch) {
            let again = attempt.last.as_ref().map(|last| last.bytes.clone()).or_else(|| attempt.said.clone());
            deeds.extend(again.map(|payload| Deed::Gateway { gateway, payload }));
            return;
        }
        let plan = self.plan.ordered.as_ref().and_then(|order| order.gateways.get(gateway)).cloned();
        let Some(plan) = plan else { return };
        self.outcome.requests.push(received.method.clone());
        let branch = received.branch.clone();
        let tag = format!("g{gateway}{:06x}", self.dice.below(1 << 24));
        let attempt = Attempt { gateway, at, received, tag, said: None, due: None, last: None };
        self.called.attempts.insert(branch.clone(), attempt);
        if let Some((status, demands)) = plan.challenge
            && let Some(challenge) = self.challenge(gateway, &branch, status, demands)
        {
            return self.refuse(now, &branch, status, vec![challenge], deeds);
        }
        let (rings, after) = match plan.then {
            Then::Unreachable | Then::Silence => return,
            Then::Trying => (false, None),
            Then::RingsForEver => (true, None),
            Then::Refuses { rings, after, .. } | Then::Answers { rings, after, .. } => (rings, Some(after)),
        };
        self.provisional(&branch, rings, deeds);
        match after {
            Some(Duration::ZERO) => self.conclude(now, &branch, deeds),
            Some(after) => {
                self.called.attempts.get_mut(&branch).into_iter().for_each(|one| one.due = Some(now + after));
            }
            None => {}
        }
    }

    /// The challenge for an INVITE that the gateway is not content with.
    fn challenge(&mut self, gateway: usize, branch: &str, status: u16, demands: Demands) -> Option<Line> {
        let received = &self.called.attempts.get(branch)?.received;
        let nonces = self.called.nonces.entry(gateway).or_default();
        let given = received.authorization.as_deref().zip(self.plan.credentials.as_ref()).zip(nonces.last());
        let is_right = given.is_some_and(|((value, credentials), nonce)| {
            digest::is_right(value, credentials, nonce, "INVITE")
        });
        let is_content = match demands {
            Demands::Once => is_right,
            Demands::Stale => is_right && nonces.len() > 1,
            Demands::Forever => false,
        };
        if is_content {
            return None;
        }
        let stale = if is_right && demands == Demands::Stale { ", stale=true" } else { "" };
        let nonce = format!("{gateway}.{}.{:x}", nonces.len(), self.dice.bits());
        let value = format!("Digest realm=\"gateway {gateway}\", nonce=\"{nonce}\", qop=\"auth\"{stale}");
        nonces.push(nonce);
        Some(Line(if status == 401 { "WWW-Authenticate" } else { "Proxy-Authenticate" }, value))
    }

    fn provisional(&mut self, branch: &str, rings: bool, deeds: &mut Vec<Deed>) {
        let Some(attempt) = self.called.attempts.get_mut(branch) else { return };
        let contact = Line("Contact", format!("<sip:{}@{}>", self.plan.from, attempt.at));
        let gateway = attempt.gateway;
        let trying = messages::response(&attempt.received, 100, "", vec![], b"");
        deeds.push(Deed::Gateway { gateway, payload: trying.clone() });
        attempt.said = Some(trying);
        if rings {
            let ringing = messages::response(&attempt.received, 180, &attempt.tag, vec![contact], b"");
            deeds.push(Deed::Gateway { gateway, payload: ringing.clone() });
            attempt.said = Some(ringing);
        }
    }

    /// The final response that the plan has, unless there is one already.
    fn conclude(&mut self, now: Instant, branch: &str, deeds: &mut Vec<Deed>) {
        let Some(attempt) = self.called.attempts.get(branch).filter(|attempt| attempt.last.is_none()) else {
            return;
        };
        let order = self.plan.ordered.as_ref();
        match order.and_then(|order| order.gateways.get(attempt.gateway)).map(|plan| plan.then) {
            Some(Then::Refuses { status, .. }) => self.refuse(now, branch, status, vec![], deeds),
            Some(Then::Answers { forks, .. }) => self.answer(now, branch, forks, deeds),
            _ => {}
        }
    }

    fn refuse(&mut self, now: Instant, branch: &str, status: u16, extra: Vec<Line>, deeds: &mut Vec<Deed>) {
        let Some(attempt) = self.called.attempts.get_mut(branch) else { return };
        let (gateway, tag) = (attempt.gateway, attempt.tag.clone());
        let payload = messages::response(&attempt.received, status, &tag, extra, b"");
        attempt.due = None;
        attempt.last = Some(Final::new(gateway, status, &attempt.received, &tag, payload.clone(), now));
        deeds.push(Deed::Gateway { gateway, payload });
    }

    fn answer(&mut self, now: Instant, branch: &str, forks: bool, deeds: &mut Vec<Deed>) {
        let Some(attempt) = self.called.attempts.get(branch) else { return };
        let (gateway, tag, received) = (attempt.gateway, attempt.tag.clone(), attempt.received.clone());
        let Some(answer) = answer_to(&received.body, &self.offer) else {
            return self.refuse(now, branch, 488, vec![], deeds);
        };
        (self.place.local, self.place.contact) = (attempt.at, attempt.at);
        self.offer = answer;
        let body = sdp::write(&self.offer, self.place.rtp, self.sdp_version, Flowing::SendReceive);
        let contact = format!("<sip:{}@{}>", self.plan.from, self.place.contact);
        let lines = |timer: Option<u32>| {
            let mut lines =
                vec![Line("Contact", contact.clone()), Line("Content-Type", "application/sdp".into())];
            if let Some(seconds) = timer {
                lines.push(Line("Require", "timer".into()));
                lines.push(Line("Session-Expires", format!("{seconds};refresher=uac")));
            }
            lines
        };
        // RFC 4028 9: only where the INVITE knows of session timers.
        let timer = self.plan.session_timer.map(|(seconds, _)| seconds);
        let timer = timer.filter(|_| received.session_expires.is_some());
        let payload = messages::response(&received, 200, &tag, lines(timer), &body);
        deeds.push(Deed::Gateway { gateway, payload: payload.clone() });
        if forks {
            let other = format!("{tag}b");
            let second = messages::response(&received, 200, &other, lines(None), &body);
            deeds.push(Deed::Gateway { gateway, payload: second.clone() });
            self.called.fork = Some(Final::new(gateway, 200, &received, &other, second, now));
        }
        if let Some(attempt) = self.called.attempts.get_mut(branch) {
            attempt.last = Some(Final::new(gateway, 200, &received, &tag, payload, now));
        }
        self.from_tag = tag;
        self.to_tag.clone_from(&received.from_tag);
        if let Some(contact) = &received.contact {
            self.remote_target.clone_from(contact);
        }
        self.outcome.answered_at = Some(now);
        if self.is_over() {
            return;
        }
        let theirs = sdp::audio(&received.body);
        self.begin_to_speak(now, theirs.and_then(|section| section.rtp()), self.offer.laws.first().copied());
        self.plan_steps(now, |when| match when {
            When::Answered(after) => Some(after),
            _ => None,
        });
        self.speak(now, deeds);
    }

    fn cancelled_by_tandem(
        &mut self,
        now: Instant,
        gateway: usize,
        received: &Received,
        deeds: &mut Vec<Deed>,
    ) {
        let attempt = self.called.attempts.get(&received.branch);
        let tag = attempt.map_or_else(|| "none".to_owned(), |attempt| attempt.tag.clone());
        let status = if attempt.is_some() { 200 } else { 481 };
        let payload = messages::response(received, status, &tag, vec![], b"");
        deeds.push(Deed::Gateway { gateway, payload });
        if attempt.is_some_and(|attempt| attempt.last.is_none()) {
            self.refuse(now, &received.branch, 487, vec![], deeds);
        }
    }

    fn acknowledged(&mut self, received: &Received) {
        let refused =
            self.called.attempts.get_mut(&received.branch).and_then(|attempt| attempt.last.as_mut());
        if let Some(last) = refused.filter(|last| last.status >= 300) {
            return last.acknowledged();
        }
        let answers = self.called.finals().filter(|last| last.status < 300 && last.cseq == received.cseq);
        answers.filter(|last| last.tag == received.to_tag).for_each(Final::acknowledged);
    }
}

/// What answers an offer, of what this telephone has; nothing if there is no common codec (RFC 3264 6.1).
fn answer_to(offer: &[u8], own: &OfferPlan) -> Option<OfferPlan> {
    let offered = sdp::audio(offer)?.formats;
    let is_offered = |number: u8| offered.contains(&number.to_string());
    let mut answer = own.clone();
    answer.laws.retain(|law| is_offered(payload_type(*law)));
    answer.extra = ExtraSection::None;
    let events = offered.iter().filter_map(|format| format.parse::<u8>().ok()).find(|number| *number >= 96);
    answer.telephone_event = events.filter(|_| own.telephone_event.is_some());
    (!answer.laws.is_empty()).then_some(answer)
}
