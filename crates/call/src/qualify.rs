//! Watching gateways: OPTIONS to each at its trunk's `qualify_frequency`, and what is known of it from the answers.
//!
//! ```text
//!                 ┌────────────────────── any final answer: up ───────────────────────┐
//!  AwaitingTurn ──┤ looks for its address ─► AwaitingWay ─► OPTIONS ─► AwaitingAnswer ─┤
//!       ▲         └───────────── no address, silence: a failure ───────────────────────┘
//!       └── after the interval, a tenth of it more or less; after a first failure soon
//! ```
//!
//! Any final response is a sign of life, 404 and 405 too: what is asked is whether somebody is there (RFC 3261 section 11).
//! Of a name with several addresses, one that answers is enough: a call goes on to it too.
//! One lost answer tells nothing, so a gateway is down after two failures in a row, and up again with the first answer:
//! the cost of trying one that is down is a call's time, that of leaving one out that is up is a call's price.
//!
//! Bounded: questions under way at once. What it refuses to do: leave a gateway out (one that is down is tried last), or
//! walk all trunks when one changes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand_core::Rng;
use tandem_sip::{ContactUse, OutgoingRequest, RequestId, Target, Transport};

use crate::gateways::{Way, name_of, transport_parameter, uri_host, wanted};
use crate::ids::{CallId, TrunkId};
use crate::location::Wanted;
use crate::node::Node;
use crate::output::Output;
use crate::table::{Gateway, Trunk};

/// Questions under way at once: an outage of everything must not fill the endpoint. Those due later wait their turn.
const ASKED_MAX: usize = 512;
/// How long one waits that found no room.
const NO_ROOM: Duration = Duration::from_secs(1);
/// When a gateway is asked again that failed for the first time.
const SECOND_LOOK: Duration = Duration::from_secs(5);
/// When a gateway is asked that said nothing to a call.
const AFTER_A_CALL: Duration = Duration::from_millis(100);
/// Failures in a row that make a gateway down.
const DOWN_AFTER: u32 = 2;
/// Addresses of one gateway that are asked in one turn.
const ADDRESSES_MAX: usize = 4;
/// How long an address may be looked for.
const LOOK_UP: Duration = Duration::from_secs(30);
/// Trunks that change together from which on their first questions are spread over the interval, as at a start.
const MANY: usize = 16;

/// Whether a gateway answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum GatewayState {
    /// It was not asked yet, or is not asked.
    Unknown,
    /// It answered last.
    Up,
    /// It did not, twice at least.
    Down,
}

impl GatewayState {
    /// The word for it in the API and in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// A gateway as it is watched.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GatewayKey {
    /// Its trunk.
    pub trunk: TrunkId,
    /// Host name or address, as the trunk has it.
    pub host: String,
    /// Port; none where SRV records tell it.
    pub port: Option<u16>,
    /// The transport it is spoken to by; none where NAPTR records tell it.
    pub transport: Option<Transport>,
}

impl GatewayKey {
    pub(crate) fn of(trunk: &Trunk, gateway: &Gateway) -> Self {
        let Wanted { transport, host, port } = wanted(trunk, gateway);
        Self { trunk: trunk.id.clone(), host, port, transport }
    }

    /// The first of a trunk, in the order of keys.
    pub fn first_of(trunk: TrunkId) -> Self {
        Self { trunk, host: String::new(), port: None, transport: None }
    }
}

/// What a call found of a gateway.
#[derive(Debug)]
pub(crate) struct GatewayNews {
    pub(crate) key: GatewayKey,
    /// The final status, or why there was none.
    pub(crate) answer: Result<u16, String>,
    /// Where it was called.
    pub(crate) way: Option<Way>,
}

/// What is known of a gateway.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayHealth {
    /// Whether it answers.
    pub state: GatewayState,
    /// When that was first so, in milliseconds since 1970 UTC.
    pub since_unix_ms: u64,
    /// When it was last asked with an outcome.
    pub checked_unix_ms: u64,
    /// From the question to its answer, when there was one.
    pub round_trip: Option<Duration>,
    /// The status of that answer.
    pub sip_status: Option<u16>,
    /// Where it was asked last, and how; none where no address was found.
    pub place: Option<(Transport, SocketAddr)>,
    /// Why there was none, in words meant for the tenant; empty when there was.
    pub cause: String,
}

/// What a gateway's watch awaits.
#[derive(Debug, PartialEq, Eq)]
enum Awaiting {
    Turn,
    Way(CallId),
    Answer(RequestId, Instant),
}

#[derive(Debug)]
struct Watch {
    awaits: Awaiting,
    interval: Duration,
    /// When something is next to be done: the turn, or the end of a look-up.
    at: Instant,
    failures: u32,
    /// Addresses that are not asked yet in this turn, and the one that is.
    ways: VecDeque<Way>,
    asked: Option<Way>,
    health: Option<GatewayHealth>,
}

impl Watch {
    fn new(interval: Duration, at: Instant) -> Self {
        Self {
            awaits: Awaiting::Turn,
            interval,
            at,
            failures: 0,
            ways: VecDeque::new(),
            asked: None,
            health: None,
        }
    }
}

/// All gateways that are watched.
#[derive(Debug, Default)]
pub(crate) struct Qualify {
    watches: BTreeMap<GatewayKey, Watch>,
    due: BTreeSet<(Instant, GatewayKey)>,
    looked_for: BTreeMap<CallId, GatewayKey>,
    asked: BTreeMap<RequestId, GatewayKey>,
}

impl Qualify {
    /// These trunks are new, changed or gone.
    pub(crate) fn trunks_changed(&mut self, trunks: &[TrunkId], now: Instant, node: &mut Node) {
        for id in trunks {
            let table = node.table.clone();
            let trunk = table.trunk(id).filter(|trunk| trunk.is_active && trunk.qualify_frequency_s > 0);
            let wanted: BTreeMap<GatewayKey, Duration> = trunk.map_or_else(BTreeMap::new, |trunk| {
                let interval = Duration::from_secs(u64::from(trunk.qualify_frequency_s));
                trunk.gateways.iter().map(|gateway| (GatewayKey::of(trunk, gateway), interval)).collect()
            });
            let first = GatewayKey::first_of(id.clone());
            let known: Vec<GatewayKey> = self
                .watches
                .range(first..)
                .map(|(key, _)| key)
                .take_while(|key| key.trunk == *id)
                .cloned()
                .collect();
            for key in known {
                match wanted.get(&key) {
                    // One that is asked as before keeps its turn and what is known of it.
                    Some(interval) if self.watches[&key].interval == *interval => {}
                    Some(_) | None => self.forget(&key, node),
                }
            }
            for (key, interval) in wanted {
                if !self.watches.contains_key(&key) {
                    let spread = if trunks.len() < MANY { NO_ROOM.min(interval) } else { interval };
                    let at = now + random_part(node, spread);
                    self.due.insert((at, key.clone()));
                    self.watches.insert(key, Watch::new(interval, at));
                }
            }
        }
    }

    /// When something is to be done.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(crate) fn run(&mut self, now: Instant, node: &mut Node) {
        while let Some((at, key)) = self.due.first().cloned().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, key.clone()));
            let Some(watch) = self.watches.get(&key) else { continue };
            match watch.awaits {
                Awaiting::Turn if self.questions() >= ASKED_MAX => {
                    node.counters.qualify_delayed += 1;
                    self.plan(&key, now + NO_ROOM, Awaiting::Turn);
                }
                Awaiting::Turn => {
                    let look_up = CallId(node.new_id(now));
                    self.looked_for.insert(look_up, key.clone());
                    self.plan(&key, now + LOOK_UP, Awaiting::Way(look_up));
                    let GatewayKey { host, port, transport, .. } = key;
                    node.emit(Output::FindWay { call: look_up, wanted: Wanted { transport, host, port } });
                }
                Awaiting::Way(_) => {
                    self.failed(&key, "its address was not found in time".to_owned(), now, node)
                }
                // The endpoint ends what it asked.
                Awaiting::Answer(..) => {}
            }
        }
    }

    /// An address was found for a look-up of ours; whether it was one.
    pub(crate) fn way_found(&mut self, look_up: CallId, ways: &[Way], now: Instant, node: &mut Node) -> bool {
        let Some(key) = self.looked_for.remove(&look_up) else { return false };
        if let Some(watch) = self.watches.get_mut(&key) {
            watch.ways = ways.iter().take(ADDRESSES_MAX).copied().collect();
        }
        self.ask(&key, "it has no address", now, node);
        true
    }

    /// Asks the next address of a gateway; where there is none left, the gateway has failed, and this is why.
    fn ask(&mut self, key: &GatewayKey, why: &str, now: Instant, node: &mut Node) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        let Some(way) = watch.ways.pop_front() else { return self.failed(key, why.to_owned(), now, node) };
        match node.endpoint.request(now, question(key, &way)) {
            Ok(request) => {
                node.counters.qualify_asked += 1;
                self.due.remove(&(watch.at, key.clone()));
                watch.awaits = Awaiting::Answer(request, now);
                watch.asked = Some(way);
                self.asked.insert(request, key.clone());
            }
            Err(_) => {
                node.counters.qualify_delayed += 1;
                self.plan(key, now + NO_ROOM, Awaiting::Turn);
            }
        }
    }

    /// No address was found for a look-up of ours; whether it was one.
    pub(crate) fn way_failed(&mut self, look_up: CallId, why: &str, now: Instant, node: &mut Node) -> bool {
        let Some(key) = self.looked_for.remove(&look_up) else { return false };
        if let Some(watch) = self.watches.get_mut(&key) {
            watch.asked = None;
        }
        self.failed(&key, why.to_owned(), now, node);
        true
    }

    /// A question was answered, or never will be; whether it was one of ours.
    pub(crate) fn outcome(
        &mut self,
        request: RequestId,
        answer: Result<u16, &str>,
        now: Instant,
        node: &mut Node,
    ) -> bool {
        let Some(key) = self.asked.remove(&request) else { return false };
        match answer {
            Ok(status) => self.answered(&key, status, now, node),
            Err(why) => self.ask(&key, why, now, node),
        }
        true
    }

    /// Takes what calls found: one that got not a word is as good as a question without an answer, and the gateway is asked
    /// at once; any answer to a call is a sign of life.
    pub(crate) fn heed_calls(&mut self, now: Instant, node: &mut Node) {
        for GatewayNews { key, answer, way } in std::mem::take(&mut node.gateway_news) {
            let Some(watch) = self.watches.get_mut(&key) else { continue };
            let is_down = watch.health.as_ref().is_some_and(|health| health.state == GatewayState::Down);
            let is_at_rest = watch.awaits == Awaiting::Turn;
            match answer {
                Ok(status) => {
                    watch.failures = 0;
                    if is_down {
                        watch.asked = way.or(watch.asked);
                        self.tell(&key, GatewayState::Up, (None, Some(status), String::new()), now, node);
                    }
                }
                Err(why) if is_at_rest && !is_down => {
                    watch.asked = way;
                    self.failed(&key, format!("a call: {why}"), now, node);
                    self.plan(&key, now + AFTER_A_CALL, Awaiting::Turn);
                }
                Err(_) => {}
            }
        }
    }

    /// Whether a gateway is known not to answer.
    pub(crate) fn is_down(&self, trunk: &Trunk, gateway: &Gateway) -> bool {
        let watch = self.watches.get(&GatewayKey::of(trunk, gateway));
        watch.and_then(|watch| watch.health.as_ref()).is_some_and(|health| health.state == GatewayState::Down)
    }

    /// Questions under way.
    pub(crate) fn questions(&self) -> usize {
        self.looked_for.len() + self.asked.len()
    }

    fn answered(&mut self, key: &GatewayKey, status: u16, now: Instant, node: &mut Node) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        let round_trip = match watch.awaits {
            Awaiting::Answer(_, asked) => Some(now.saturating_duration_since(asked)),
            Awaiting::Turn | Awaiting::Way(_) => None,
        };
        watch.failures = 0;
        let interval = watch.interval;
        self.tell(key, GatewayState::Up, (round_trip, Some(status), String::new()), now, node);
        self.plan_after(key, interval, now, node);
    }

    fn failed(&mut self, key: &GatewayKey, why: String, now: Instant, node: &mut Node) {
        if let Some(Watch { awaits: Awaiting::Way(look_up), .. }) = self.watches.get(key) {
            self.looked_for.remove(look_up);
        }
        let Some(watch) = self.watches.get_mut(key) else { return };
        watch.failures = watch.failures.saturating_add(1);
        let before = watch.health.as_ref().map_or(GatewayState::Unknown, |health| health.state);
        let is_down = watch.failures >= DOWN_AFTER;
        let pause = if is_down { watch.interval } else { SECOND_LOOK.min(watch.interval) };
        node.counters.qualify_failed += 1;
        self.tell(key, if is_down { GatewayState::Down } else { before }, (None, None, why), now, node);
        self.plan_after(key, pause, now, node);
    }

    fn tell(
        &mut self,
        key: &GatewayKey,
        state: GatewayState,
        (round_trip, sip_status, cause): (Option<Duration>, Option<u16>, String),
        now: Instant,
        node: &mut Node,
    ) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        let now_ms = node.unix_ms(now);
        let since = watch.health.as_ref().filter(|before| before.state == state);
        let since_unix_ms = since.map_or(now_ms, |before| before.since_unix_ms);
        let place = watch.asked.map(|way| (way.transport, way.remote));
        let checked_unix_ms = now_ms;
        let health =
            GatewayHealth { state, since_unix_ms, checked_unix_ms, round_trip, sip_status, place, cause };
        watch.health = Some(health.clone());
        node.emit(Output::Gateway { key: key.clone(), health: Some(Box::new(health)) });
    }

    /// The next turn, a tenth sooner or later: what began together does not stay together.
    fn plan_after(&mut self, key: &GatewayKey, pause: Duration, now: Instant, node: &mut Node) {
        let at = now + pause * 9 / 10 + random_part(node, pause / 5);
        self.plan(key, at, Awaiting::Turn);
    }

    fn plan(&mut self, key: &GatewayKey, at: Instant, awaits: Awaiting) {
        let Some(watch) = self.watches.get_mut(key) else { return };
        self.due.remove(&(watch.at, key.clone()));
        (watch.at, watch.awaits) = (at, awaits);
        self.due.insert((at, key.clone()));
    }

    /// A gateway is not watched any more; an answer that is still to come tells nothing.
    fn forget(&mut self, key: &GatewayKey, node: &mut Node) {
        let Some(watch) = self.watches.remove(key) else { return };
        node.emit(Output::Gateway { key: key.clone(), health: None });
        self.due.remove(&(watch.at, key.clone()));
        match watch.awaits {
            Awaiting::Turn => {}
            Awaiting::Way(look_up) => drop(self.looked_for.remove(&look_up)),
            Awaiting::Answer(request, _) => drop(self.asked.remove(&request)),
        }
    }
}

/// The OPTIONS to a gateway.
fn question(key: &GatewayKey, way: &Way) -> OutgoingRequest {
    let host = uri_host(&key.host);
    let own = uri_host(&way.local.ip().to_canonical().to_string());
    let port = key.port.map(|port| format!(":{port}")).unwrap_or_default();
    let parameter = transport_parameter(way.transport);
    OutgoingRequest {
        method: "OPTIONS".to_owned(),
        uri: format!("sip:{host}{port}{parameter}").into(),
        from: format!("<sip:{own}>").into(),
        to: format!("<sip:{host}>").into(),
        call_id: None,
        cseq: 1,
        routes: Vec::new(),
        target: Target::Address {
            transport: way.transport,
            local: Some(way.local),
            remote: way.remote,
            name: name_of(&key.host),
        },
        local: way.local,
        contact: ContactUse::Ours,
        headers: vec![(Bytes::from_static(b"Accept"), Bytes::from_static(b"application/sdp"))],
        credentials: None,
    }
}

fn random_part(node: &mut Node, whole: Duration) -> Duration {
    let micros = u64::try_from(whole.as_micros()).unwrap_or(u64::MAX).max(1);
    Duration::from_micros(node.random.next_u64() % micros)
}
