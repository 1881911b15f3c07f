//! One binding: one address of record at one registrar, from the first REGISTER to the last.
//!
//! ```text
//!              ┌────────── refresh at half to three quarters of the time granted ───────────┐
//!  AwaitingTurn ─► AwaitingWay ─► AwaitingAnswer ──2xx: held until the time granted is over ─┤
//!       ▲                           │  ▲ │ 423: the same again, for longer                   │
//!       │                           │  └─┘ silence, 5xx: the registrar's next address        │
//!       └── after a pause ◄─────────┘ none is left, or it was refused                        │
//!       └────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! Pure: what happened goes in, the next errand comes out. A binding that leaves says so to the registrar that holds it,
//! once, and is gone with any answer. What it refuses to do: hold itself registered beyond what was granted, follow a
//! redirect, or show a password to a realm that it is not for. RFC 3261 section 10.2; RFC 5626 section 4.5 for the pauses.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use tandem_sip::auth::Answerer;
use tandem_sip::{ContactUse, OutgoingRequest, RequestId, Response, Target};

use super::answer::{self, Kind, Refusal};
use super::status::{RegistrationState, RegistrationStatus};
use crate::gateways::{Way, name_of, transport_parameter, uri_host};
use crate::identity::escaped;
use crate::ids::{AccountId, CallId, TrunkId};
use crate::table::{Credential, Registration};

/// The first pause after a failure that may pass; it doubles up to [`PASSING_MAX`].
const PASSING: Duration = Duration::from_secs(10);
const PASSING_MAX: Duration = Duration::from_secs(300);
/// The same after one that somebody has to do something about.
const STANDING: Duration = Duration::from_secs(60);
const STANDING_MAX: Duration = Duration::from_secs(1800);
/// 423s in a row that are obeyed.
const MOST_RAISES: u32 = 3;
/// How far the sequence number goes on after a request whose answers, and so whose repeats, are not known.
const CSEQ_SKIPPED: u32 = 8;

/// What a binding awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its next turn.
    Turn,
    /// The registrar's addresses.
    Way(CallId),
    /// The registrar's answer, since when.
    Answer(RequestId, Instant),
}

/// What is to be done for it next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    /// Nothing until [`Binding::at`].
    Wait,
    /// Find the registrar's addresses.
    Look,
    /// Send a REGISTER by this way.
    Ask(Way),
    /// Forget it.
    Gone,
}

/// What the registrar holds of us.
#[derive(Clone, Debug)]
struct Held {
    until: Instant,
    /// The Contact as we wrote it.
    contact: Bytes,
    /// The same as the registrar repeats it.
    told: String,
    way: Way,
}

/// What came of an attempt.
#[derive(Clone, Debug)]
struct Outcome {
    code: Option<u16>,
    refusal: Option<Refusal>,
    at: Instant,
    round_trip: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Binding {
    pub(super) trunk: TrunkId,
    pub(super) account: AccountId,
    pub(super) wish: Registration,
    pub(super) phase: Phase,
    /// When something is to be done: the next turn or the end of a look-up, or before that the end of what was granted.
    pub(super) at: Instant,
    /// When it tries next, or gives a look-up up.
    next: Instant,
    /// Whether its turn is one that was kept for it, so that not all go at once.
    pub(super) has_slot: bool,
    pub(super) call_id: Bytes,
    cseq: u32,
    asks: Duration,
    raises: u32,
    answerer: Option<Answerer>,
    ways: VecDeque<Way>,
    /// All that its name stood for last.
    addresses: Vec<IpAddr>,
    /// Where it is filed as held.
    pub(super) filed: Vec<IpAddr>,
    /// The way of the request under way, its Contact, and whether it is one that unregisters.
    asked: Option<(Way, Bytes, bool)>,
    held: Option<Held>,
    seen: Option<SocketAddr>,
    last: Option<Outcome>,
    failures: u32,
    pub(super) is_leaving: bool,
    /// Changed while a request was under way: again with what it is now.
    is_changed: bool,
}

impl Binding {
    pub(super) fn new(
        (trunk, account): (TrunkId, AccountId),
        wish: Registration,
        call_id: String,
        at: Instant,
    ) -> Self {
        Self {
            asks: Duration::from_secs(u64::from(wish.expires_s)),
            trunk,
            account,
            wish,
            phase: Phase::Turn,
            at,
            next: at,
            has_slot: false,
            call_id: call_id.into(),
            cseq: 0,
            raises: 0,
            answerer: None,
            ways: VecDeque::new(),
            addresses: Vec::new(),
            filed: Vec::new(),
            asked: None,
            held: None,
            seen: None,
            last: None,
            failures: 0,
            is_leaving: false,
            is_changed: false,
        }
    }

    /// Whether it is the same address of record and Contact at the same registrar.
    pub(super) fn is_of(&self, wish: &Registration) -> bool {
        let own = &self.wish;
        let place = |one: &Registration| (one.registrar.clone(), one.port, one.transport, one.domain.clone());
        place(own) == place(wish)
            && (&own.user, &own.contact_user) == (&wish.user, &wish.contact_user)
            && own.credential.username == wish.credential.username
    }

    /// Its trunk was changed and it is the same binding: a new password, realm or expiry is put to use soon, anything else
    /// touches nothing. Whether something of it changed.
    pub(super) fn amend(&mut self, wish: Registration, now: Instant) -> bool {
        if self.wish == wish {
            return false;
        }
        self.asks = Duration::from_secs(u64::from(wish.expires_s));
        self.wish = wish;
        (self.answerer, self.failures) = (None, 0);
        match self.phase {
            Phase::Turn => self.wait_until(now),
            Phase::Way(_) | Phase::Answer(..) => self.is_changed = true,
        }
        true
    }

    /// It is to go: at once if the registrar does not hold it, after a word to it if it does.
    pub(super) fn leave(&mut self, now: Instant) -> Errand {
        self.is_leaving = true;
        match self.phase {
            Phase::Answer(..) => Errand::Wait,
            Phase::Turn | Phase::Way(_) if self.holds(now) => {
                self.phase = Phase::Turn;
                self.wait_until(now);
                Errand::Wait
            }
            Phase::Turn | Phase::Way(_) => Errand::Gone,
        }
    }

    /// Its instant has come.
    pub(super) fn due(&mut self, now: Instant, random: &mut ChaCha12Rng) -> Errand {
        if self.held.as_ref().is_some_and(|held| held.until <= now) {
            self.held = None;
        }
        match self.phase {
            Phase::Turn | Phase::Way(_) if now < self.next => {
                self.wait_until(self.next);
                Errand::Wait
            }
            Phase::Turn if self.is_leaving => match self.held.as_ref().map(|held| held.way) {
                Some(way) => Errand::Ask(way),
                None => Errand::Gone,
            },
            Phase::Turn => {
                self.ways.clear();
                Errand::Look
            }
            Phase::Way(_) => self.unreachable("its address was not found in time", now, random),
            // The endpoint ends what it asked.
            Phase::Answer(..) => Errand::Wait,
        }
    }

    /// The registrar has these addresses.
    pub(super) fn ways_found(&mut self, ways: Vec<Way>, now: Instant, random: &mut ChaCha12Rng) -> Errand {
        self.addresses = ways.iter().map(|way| way.remote.ip().to_canonical()).collect();
        self.ways = ways.into();
        match self.ways.pop_front() {
            Some(way) => Errand::Ask(way),
            None => self.unreachable("its name has no address", now, random),
        }
    }

    /// The registrar has no address.
    pub(super) fn unreachable(&mut self, why: &str, now: Instant, random: &mut ChaCha12Rng) -> Errand {
        let refusal = Refusal::passing(
            format!("the registrar cannot be found: {why}"),
            "Check registration.registrar, and that this node can resolve and reach it.",
        );
        self.failed(refusal, None, None, now, random)
    }

    /// The REGISTER for this way. `told` is our address as the registrar is to see it.
    pub(super) fn request(&mut self, way: Way, told: SocketAddr) -> OutgoingRequest {
        let contact = self.contact(told, way);
        let seconds = if self.is_leaving { 0 } else { self.asks.as_secs() };
        let held = self.held.as_ref().map(|held| held.contact.clone());
        let mut contacts = Vec::new();
        match held {
            // What the registrar holds is what has to go.
            Some(held) if self.is_leaving => contacts.push((held, 0)),
            // Our address has changed: the old contact would ring into the void.
            Some(held) if held != contact => contacts.extend([(contact.clone(), seconds), (held, 0)]),
            Some(_) | None => contacts.push((contact.clone(), seconds)),
        }
        let mut headers: Vec<(Bytes, Bytes)> = contacts
            .into_iter()
            .map(|(contact, seconds)| {
                let expires = format!(";expires={seconds}");
                (Bytes::from_static(b"Contact"), [&contact[..], expires.as_bytes()].concat().into())
            })
            .collect();
        headers.push((Bytes::from_static(b"Expires"), seconds.to_string().into()));
        let address = self.address_of_record();
        let credentials = self.answerer.take().unwrap_or_else(|| self.fresh_answerer());
        self.cseq += 1;
        self.asked = Some((way, contact, self.is_leaving));
        OutgoingRequest {
            method: "REGISTER".to_owned(),
            uri: format!("sip:{}", uri_host(&self.wish.domain)).into(),
            from: format!("<{address}>").into(),
            to: format!("<{address}>").into(),
            call_id: Some(self.call_id.clone()),
            cseq: self.cseq,
            routes: Vec::new(),
            target: Target::Address {
                transport: way.transport,
                local: Some(way.local),
                remote: way.remote,
                name: name_of(&self.wish.registrar),
            },
            local: way.local,
            contact: ContactUse::Without,
            headers,
            credentials: Some(credentials),
        }
    }

    /// The final response to the request under way.
    pub(super) fn answered(
        &mut self,
        response: &Response,
        answerer: Option<Answerer>,
        now: Instant,
        random: &mut ChaCha12Rng,
    ) -> Errand {
        self.cseq = self.cseq.max(response.cseq().number);
        self.seen = answer::seen(response).or(self.seen);
        self.answerer = answerer.filter(|_| !self.is_changed);
        let (status, round_trip) = (response.status(), self.round_trip(now));
        let Some((way, contact, was_leaving)) = self.asked.take() else { return Errand::Wait };
        match status {
            200..=299 if was_leaving => Errand::Gone,
            200..=299 => {
                match answer::granted(response, &String::from_utf8_lossy(&contact), self.line(), self.asks) {
                    Ok(granted) => {
                        let until = now + granted.lasts;
                        self.held = Some(Held { until, contact, told: granted.contact, way });
                        (self.failures, self.raises) = (0, 0);
                        self.last = Some(Outcome { code: Some(status), refusal: None, at: now, round_trip });
                        if self.is_leaving {
                            self.phase = Phase::Turn;
                            return Errand::Ask(way);
                        }
                        let rest = granted.lasts / 2 + part(granted.lasts / 4, random);
                        self.settle(now + rest, now);
                        Errand::Wait
                    }
                    Err(refusal) => {
                        // It has just said that it holds nothing of ours.
                        self.held = None;
                        self.failed(refusal, Some(status), round_trip, now, random)
                    }
                }
            }
            423 if !self.is_leaving => match answer::least(response).filter(|least| *least > self.asks) {
                Some(least) if self.raises < MOST_RAISES => {
                    (self.asks, self.raises) = (least, self.raises + 1);
                    self.phase = Phase::Turn;
                    Errand::Ask(way)
                }
                Some(_) | None => {
                    let mut refusal = Refusal::of(response);
                    refusal.remedy =
                        "Set registration.expires to what the carrier asks for at least.".to_owned();
                    self.failed(refusal, Some(status), round_trip, now, random)
                }
            },
            401 | 407 => {
                let tried = self.answerer.as_mut().map(|answerer| answerer.take_challenge(response));
                self.answerer = None;
                let refusal = match tried {
                    Some(Err(refused)) => Refusal::unauthorized(refused),
                    // It could have been answered, were it not for the endpoint's bounds or a new password.
                    Some(Ok(())) | None => {
                        Refusal::passing("the challenge could not be answered just now", "")
                    }
                };
                self.failed(refusal, Some(status), round_trip, now, random)
            }
            _ => {
                let pause = answer::retry_after(response);
                let errand = self.failed(Refusal::of(response), Some(status), round_trip, now, random);
                if let (Errand::Wait, Some(pause)) = (errand, pause) {
                    self.settle(now + pause + part(pause / 4, random), now);
                }
                errand
            }
        }
    }

    /// The request under way will have no response.
    pub(super) fn unanswered(
        &mut self,
        why: &str,
        answerer: Option<Answerer>,
        now: Instant,
        random: &mut ChaCha12Rng,
    ) -> Errand {
        self.cseq += CSEQ_SKIPPED;
        self.answerer = answerer.filter(|_| !self.is_changed);
        self.asked = None;
        let refusal = Refusal::passing(
            why,
            "Check that the registrar's address, port and transport are right and that no firewall is between.",
        );
        self.failed(refusal, None, None, now, random)
    }

    /// Nothing could be sent for now, for a bound of ours is reached.
    pub(super) fn put_off(&mut self, pause: Duration, now: Instant) -> Errand {
        self.asked = None;
        self.settle(now + pause, now);
        Errand::Wait
    }

    /// An attempt failed: the registrar's next address, or a pause.
    fn failed(
        &mut self,
        refusal: Refusal,
        code: Option<u16>,
        round_trip: Option<Duration>,
        now: Instant,
        random: &mut ChaCha12Rng,
    ) -> Errand {
        let kind = refusal.kind;
        self.asked = None;
        self.last = Some(Outcome { code, refusal: Some(refusal), at: now, round_trip });
        if kind == Kind::Passing
            && let Some(way) = self.ways.pop_front()
        {
            self.phase = Phase::Turn;
            return Errand::Ask(way);
        }
        if self.is_leaving {
            return Errand::Gone;
        }
        self.failures = self.failures.saturating_add(1);
        self.raises = 0;
        let (first, most) = match kind {
            Kind::Passing => (PASSING, PASSING_MAX),
            Kind::Standing => (STANDING, STANDING_MAX),
        };
        let doublings = (self.failures - 1).min(10);
        let pause = first.saturating_mul(1 << doublings).min(most);
        self.settle(now + pause / 2 + part(pause / 2, random), now);
        Errand::Wait
    }

    /// The registrar's addresses are looked for, until then at most.
    pub(super) fn looks(&mut self, look_up: CallId, until: Instant) {
        self.phase = Phase::Way(look_up);
        self.wait_until(until);
    }

    /// A REGISTER is under way; when what was granted is over meanwhile, if anything was.
    pub(super) fn asks(&mut self, request: RequestId, now: Instant) -> Option<Instant> {
        self.phase = Phase::Answer(request, now);
        self.at = self.held.as_ref().map(|held| held.until)?;
        Some(self.at)
    }

    /// The next turn; at once if it was changed meanwhile.
    fn settle(&mut self, next: Instant, now: Instant) {
        self.phase = Phase::Turn;
        let next = if std::mem::take(&mut self.is_changed) { now } else { next };
        self.wait_until(next);
    }

    /// Waits for its turn, and looks up when what it holds is over before that.
    pub(super) fn wait_until(&mut self, next: Instant) {
        self.next = next;
        self.at = self.held.as_ref().map_or(next, |held| held.until.min(next));
    }

    /// A way back to the registrar was lost: the connection that its calls come by is closed. Whether it cares.
    pub(super) fn way_lost(
        &mut self,
        remote: SocketAddr,
        least: Duration,
        pause: Duration,
        now: Instant,
    ) -> bool {
        let is_it = self
            .held
            .as_ref()
            .is_some_and(|held| held.way.transport.is_reliable() && held.way.remote == remote);
        let is_recent = self.last.as_ref().is_some_and(|last| now.saturating_duration_since(last.at) < least);
        if !is_it || is_recent || self.phase != Phase::Turn || self.is_leaving || now + pause >= self.next {
            return false;
        }
        self.wait_until(now + pause);
        true
    }

    /// Whether nothing was tried yet.
    pub(super) fn is_new(&self) -> bool {
        self.phase == Phase::Turn && self.last.is_none() && self.cseq == 0
    }

    fn holds(&self, now: Instant) -> bool {
        self.held.as_ref().is_some_and(|held| held.until > now)
    }

    /// The addresses of the registrar that holds it, or held it until lately: its calls come from there. Nothing before
    /// the first success: a name that somebody wrote is not trusted for that alone.
    pub(super) fn holders(&self) -> Vec<IpAddr> {
        let Some(held) = &self.held else { return self.filed.clone() };
        let mut holders = self.addresses.clone();
        holders.push(held.way.remote.ip().to_canonical());
        holders.sort_unstable();
        holders.dedup();
        holders
    }

    fn round_trip(&self, now: Instant) -> Option<Duration> {
        match self.phase {
            Phase::Answer(_, asked) => Some(now.saturating_duration_since(asked)),
            Phase::Turn | Phase::Way(_) => None,
        }
    }

    fn fresh_answerer(&self) -> Answerer {
        let Credential { username, password } = &self.wish.credential;
        let answerer = Answerer::new(username.clone(), password.clone());
        match &self.wish.realm {
            Some(realm) => answerer.only_for(realm.clone()),
            None => answerer,
        }
    }

    fn line(&self) -> &str {
        self.trunk.as_str()
    }

    fn address_of_record(&self) -> String {
        format!("sip:{}@{}", escaped(&self.wish.user), uri_host(&self.wish.domain))
    }

    /// Our Contact, in angle brackets. Its `line` says which binding a call is for that comes to it.
    fn contact(&self, told: SocketAddr, way: Way) -> Bytes {
        let user = escaped(&self.wish.contact_user);
        let transport = transport_parameter(way.transport);
        format!("<sip:{user}@{told}{transport};line={}>", self.line()).into()
    }

    /// How it stands, its instants told by `unix_ms`.
    pub(super) fn status(&self, now: Instant, unix_ms: impl Fn(Instant) -> u64) -> RegistrationStatus {
        let held = self.held.as_ref().filter(|held| held.until > now);
        let state = match (held, &self.last) {
            (Some(_), _) => RegistrationState::Registered,
            (None, None) => RegistrationState::Pending,
            (None, Some(_)) => RegistrationState::Failed,
        };
        let refusal = self.last.as_ref().and_then(|last| last.refusal.as_ref());
        let port = self.wish.port.map_or_else(String::new, |port| format!(":{port}"));
        RegistrationStatus {
            state,
            since_unix_ms: unix_ms(now),
            registrar: format!("{}{port}", uri_host(&self.wish.registrar)),
            address_of_record: self.address_of_record(),
            contact: held.map(|held| held.told.clone()),
            expires_unix_ms: held.map(|held| unix_ms(held.until)),
            next_unix_ms: (self.phase == Phase::Turn).then(|| unix_ms(self.next)),
            attempted_unix_ms: self.last.as_ref().map(|last| unix_ms(last.at)),
            last_code: self.last.as_ref().and_then(|last| last.code),
            round_trip: self.last.as_ref().and_then(|last| last.round_trip),
            registrar_address: held.map(|held| held.way.remote),
            seen: self.seen,
            failures: self.failures,
            reason: refusal.map_or_else(String::new, |refusal| refusal.reason.clone()),
            remedy: refusal.map_or_else(|| self.remark(), |refusal| refusal.remedy.clone()),
        }
    }

    /// What may be wrong though all went well: calls come to the Contact, and from outside it is seen elsewhere.
    fn remark(&self) -> String {
        let (Some(held), Some(seen)) = (&self.held, self.seen) else { return String::new() };
        let told = std::str::from_utf8(&held.contact).unwrap_or_default();
        let is_stream = held.way.transport.is_reliable();
        if is_stream || told.contains(&format!("@{seen}")) {
            return String::new();
        }
        format!(
            "The registrar sees this node at {seen}, and calls are asked for at {}: if they do not arrive, set \
             sip.public_address and open that port.",
            told.trim_start_matches('<').split(';').next().unwrap_or_default()
        )
    }
}

/// A random part of a span.
pub(super) fn part(whole: Duration, random: &mut ChaCha12Rng) -> Duration {
    let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(random.next_u64() % micros)
}
