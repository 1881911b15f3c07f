//! Where servers are: each is looked for once for all that wait to know, and our own address on the way to it.
//!
//! The same memory serves the gateways of calls, those that are watched, and names within dialogs. What is asked, in which
//! order the answers are tried, and how long they serve is decided in [`tandem_call::location`]. Bounded: look-ups at once,
//! and who waits for one. Refuses to choose among gateways; the engine does.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use rand_chacha::ChaCha12Rng;
use rand_core::SeedableRng;
use tandem_call::location::{Found, Memory, NotFound, Recall, Search, Wanted};
use tandem_call::{CallId, Input, Way};
use tandem_sip::Transport;

use super::Signalling;
use crate::{clock, net::tcp::Outgoing};

/// Servers looked for at once.
const LOOKUPS: usize = 256;
/// Who may wait for one look-up.
const WAITING: usize = 4_096;
/// How long a look-up may take.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// How long it may take where the last answer will do (RFC 8767 section 5: nobody waits longer than 1.8 s).
const SHORT_LOOKUP_TIME: Duration = Duration::from_millis(1_800);

/// A look-up that is over.
pub(super) struct LookedUp {
    wanted: Wanted,
    outcome: Result<Found, NotFound>,
}

/// Who waits to know where a server is.
pub(super) enum Asker {
    /// A call, or the watch over a gateway.
    Call(CallId),
    /// A message to a name.
    Message(Outgoing),
}

/// What is known of servers, and who waits to know.
pub(super) struct Locations {
    memory: Memory,
    waiting: BTreeMap<Wanted, Vec<Asker>>,
    /// Draws among hosts of the same priority, anew for each call.
    random: ChaCha12Rng,
    /// Draws for messages: the same each time, for a repeated message goes where the first one went.
    seed: u64,
}

impl Locations {
    pub(super) fn new(seed: u64) -> Self {
        let random = ChaCha12Rng::seed_from_u64(seed);
        Self { memory: Memory::default(), waiting: BTreeMap::new(), random, seed }
    }

    /// The places of a server in the order in which `asker` is to try them.
    fn draw(&mut self, found: &Found, asker: &Asker) -> Vec<(Transport, SocketAddr)> {
        match asker {
            Asker::Call(_) => found.draw(&mut self.random),
            Asker::Message(_) => found.draw(&mut ChaCha12Rng::seed_from_u64(self.seed)),
        }
    }
}

impl Signalling {
    /// Tells who asks where a server is, now or once it is known.
    pub(super) fn locate(&mut self, mut wanted: Wanted, asker: Asker) {
        wanted.host = wanted.host.trim_end_matches('.').to_ascii_lowercase();
        if let Some(outcome) = Search::new(wanted.clone()).outcome() {
            let outcome = outcome.clone().map_err(|not_found| not_found.why().to_owned());
            return self.tell(&wanted, asker, outcome);
        }
        let has_stale = match self.locations.memory.recall(&wanted, clock::now()) {
            Recall::Found(found) => {
                let found = found.clone();
                return self.tell(&wanted, asker, Ok(found));
            }
            Recall::NotFound(why) => {
                let why = why.to_owned();
                return self.tell(&wanted, asker, Err(why));
            }
            Recall::Unknown { has_stale } => has_stale,
        };
        let others = self.locations.waiting.len();
        let waiting = self.locations.waiting.get_mut(&wanted);
        if waiting.as_ref().map_or(others >= LOOKUPS, |waiting| waiting.len() >= WAITING) {
            metrics::counter!("tandem_gateway_lookups_total", "outcome" => "refused").increment(1);
            let why = format!("{} is not looked up, for too many names are", wanted.host);
            return self.tell(&wanted, asker, Err(why));
        }
        if let Some(waiting) = waiting {
            return waiting.push(asker);
        }
        self.locations.waiting.insert(wanted.clone(), vec![asker]);
        let within = if has_stale { SHORT_LOOKUP_TIME } else { LOOKUP_TIME };
        let (resolver, results) = (Arc::clone(&self.parts.resolver), self.looked_up.0.clone());
        tokio::spawn(async move {
            let outcome = resolver.find(wanted.clone(), within).await;
            // The receiver goes only with signalling itself.
            let _ = results.send(LookedUp { wanted, outcome }).await;
        });
    }

    pub(super) fn name_looked_up(&mut self, looked_up: LookedUp) {
        let LookedUp { wanted, outcome } = looked_up;
        let why = outcome.as_ref().err().map(|not_found| not_found.why().to_owned()).unwrap_or_default();
        let (now, memory) = (clock::now(), &mut self.locations.memory);
        let before = memory.dropped;
        let learned = memory.learn(&wanted, outcome, now);
        metrics::counter!("tandem_gateway_lookups_total", "outcome" => "dropped")
            .increment(memory.dropped - before);
        metrics::counter!("tandem_gateway_lookups_total", "outcome" => learned.as_str()).increment(1);
        if learned == tandem_call::location::Learned::Stale {
            tracing::warn!(host = wanted.host, why, "a name was not resolved: its last addresses are used");
        }
        let outcome = match memory.recall(&wanted, now) {
            Recall::Found(found) => Ok(found.clone()),
            Recall::NotFound(why) => Err(why.to_owned()),
            Recall::Unknown { .. } => Err(why),
        };
        for asker in self.locations.waiting.remove(&wanted).unwrap_or_default() {
            self.tell(&wanted, asker, outcome.clone());
        }
    }

    fn tell(&mut self, wanted: &Wanted, asker: Asker, outcome: Result<Found, String>) {
        let outcome = outcome.map(|found| self.locations.draw(&found, &asker));
        match (asker, outcome) {
            (Asker::Call(call), Ok(places)) => self.tell_ways(call, &wanted.host, &places),
            (Asker::Call(call), Err(why)) => self.engine(Input::WayFailed { call, why }),
            (Asker::Message(outgoing), Ok(places)) => match places.first() {
                Some((transport, remote)) => {
                    self.send_to(*transport, None, (*remote, Some(&wanted.host)), outgoing);
                }
                None => self.transmit_failed(outgoing.id),
            },
            (Asker::Message(outgoing), Err(why)) => {
                tracing::debug!(host = wanted.host, why, "a message is not sent, for its host is not found");
                self.transmit_failed(outgoing.id);
            }
        }
    }

    /// Tells the engine those places that we have a listener and a route for.
    fn tell_ways(&mut self, call: CallId, host: &str, places: &[(Transport, SocketAddr)]) {
        let mut ways = Vec::with_capacity(places.len());
        let mut why = String::new();
        for &(transport, remote) in places {
            let Some(bound) = self.listener_for(transport, remote) else {
                why = format!("no listener of this node speaks {} to {remote}", transport.via_name());
                continue;
            };
            match self.locals.towards(bound, remote.ip(), clock::now()) {
                Ok(local) => ways.push(Way { transport, local, remote }),
                Err(error) => why = format!("there is no route to {remote}: {error}"),
            }
        }
        if ways.is_empty() {
            if why.is_empty() {
                why = format!("{host} has no address");
            }
            return self.engine(Input::WayFailed { call, why });
        }
        self.engine(Input::WayFound { call, ways });
    }

    /// The listener that a gateway's requests come back to. Over TCP we dial from any port, and are called at a listener's.
    fn listener_for(&self, transport: Transport, remote: SocketAddr) -> Option<SocketAddr> {
        let listeners = match transport {
            Transport::Udp => self.parts.udp.addresses(),
            Transport::Tcp => self.parts.tcp_addresses.clone(),
            Transport::Tls => self.parts.tls_addresses.clone(),
        };
        let is_local = remote.ip().is_loopback();
        let fits = |listener: &&SocketAddr| listener.is_ipv4() == remote.is_ipv4();
        // A socket bound to loopback reaches nothing else, and one bound elsewhere is not seen from there.
        let suits = |listener: &&SocketAddr| {
            fits(listener) && (listener.ip().is_unspecified() || listener.ip().is_loopback() == is_local)
        };
        let listener = listeners.iter().find(suits).or_else(|| listeners.iter().find(fits)).copied();
        // A connection that we open carries the gateway's requests too, so a listener is not needed for it.
        let dialled = transport.is_reliable().then(|| {
            let wildcard: IpAddr =
                if remote.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
            SocketAddr::new(wildcard, transport.default_port())
        });
        listener.or(dialled)
    }
}
