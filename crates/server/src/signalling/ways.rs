//! Where gateways are: names looked up once for all calls that wait for them, answers kept for a while, and our own address
//! on the way to each.
//!
//! An answer that has aged is used on when the resolver fails: a carrier's address outlives most outages of DNS. Bounded:
//! look-ups at once, answers kept, addresses of one answer. Refuses to choose among gateways; the engine does.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_call::{CallId, Input, Way};
use tandem_sip::Transport;

use super::Signalling;
use crate::{clock, net::resolve};

/// Names looked up at once; more wait for their calls' next gateway.
const LOOKUPS: usize = 256;
/// How long a look-up may take.
const LOOKUP_TIME: Duration = Duration::from_secs(5);
/// How long an answer is used without asking again. The system's resolver tells no time to live; carriers' are a minute
/// and more.
const FRESH: Duration = Duration::from_secs(30);
/// How long an answer is used while the resolver is down.
const STALE: Duration = Duration::from_secs(24 * 3600);
/// Answers kept.
const KEPT: usize = 4_096;

/// A gateway's name and port.
type Name = (String, u16);

/// A look-up that is over.
pub(super) struct LookedUp {
    name: Name,
    outcome: Result<Vec<SocketAddr>, String>,
}

/// What is known of gateways, and who waits to know.
#[derive(Default)]
pub(super) struct Gateways {
    answers: std::collections::BTreeMap<Name, (Instant, Vec<SocketAddr>)>,
    waiting: std::collections::BTreeMap<Name, Vec<(CallId, Transport)>>,
}

impl Signalling {
    pub(super) fn find_way(&mut self, call: CallId, transport: Transport, host: &str, port: u16) {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        if let Ok(address) = bare.parse::<IpAddr>() {
            return self.tell_ways(call, transport, host, &[SocketAddr::new(address, port)]);
        }
        let name = (bare.to_ascii_lowercase(), port);
        let now = clock::now();
        if let Some((asked, addresses)) = self.gateways.answers.get(&name)
            && now.saturating_duration_since(*asked) < FRESH
        {
            let addresses = addresses.clone();
            return self.tell_ways(call, transport, host, &addresses);
        }
        if let Some(waiting) = self.gateways.waiting.get_mut(&name) {
            waiting.push((call, transport));
            return;
        }
        if self.gateways.waiting.len() >= LOOKUPS {
            let why = format!("too many names are being looked up for {host} to be");
            return self.engine(Input::WayFailed { call, why });
        }
        self.gateways.waiting.insert(name.clone(), vec![(call, transport)]);
        let results = self.looked_up.0.clone();
        tokio::spawn(async move {
            let found = resolve::lookup(&name.0, name.1, LOOKUP_TIME).await;
            let outcome = found.map_err(|error| error.to_string());
            // The receiver goes only with signalling itself.
            let _ = results.send(LookedUp { name, outcome }).await;
        });
    }

    pub(super) fn name_looked_up(&mut self, looked_up: LookedUp) {
        let LookedUp { name, outcome } = looked_up;
        let now = clock::now();
        let waiting = self.gateways.waiting.remove(&name).unwrap_or_default();
        let outcome = match outcome {
            Ok(addresses) => {
                metrics::counter!("tandem_gateway_lookups_total", "outcome" => "found").increment(1);
                if self.gateways.answers.len() >= KEPT {
                    self.gateways.answers.clear();
                }
                self.gateways.answers.insert(name.clone(), (now, addresses.clone()));
                Ok(addresses)
            }
            Err(why) => match self.gateways.answers.get(&name) {
                Some((asked, addresses)) if now.saturating_duration_since(*asked) < STALE => {
                    metrics::counter!("tandem_gateway_lookups_total", "outcome" => "stale").increment(1);
                    tracing::warn!(
                        host = name.0,
                        why,
                        "a gateway's name was not resolved: its last address is used"
                    );
                    Ok(addresses.clone())
                }
                Some(_) | None => {
                    metrics::counter!("tandem_gateway_lookups_total", "outcome" => "failed").increment(1);
                    Err(format!("its name {} does not resolve ({why}); check gateway_address", name.0))
                }
            },
        };
        for (call, transport) in waiting {
            match &outcome {
                Ok(addresses) => self.tell_ways(call, transport, &name.0, addresses),
                Err(why) => self.engine(Input::WayFailed { call, why: why.clone() }),
            }
        }
    }

    /// Tells the engine those addresses that we have a listener and a route for.
    fn tell_ways(&mut self, call: CallId, transport: Transport, host: &str, addresses: &[SocketAddr]) {
        let mut ways = Vec::with_capacity(addresses.len());
        let mut why = String::new();
        for remote in addresses {
            let Some(bound) = self.listener_for(transport, *remote) else {
                why = format!("no listener of this node speaks {} to {remote}", transport.via_name());
                continue;
            };
            match self.locals.towards(bound, remote.ip(), clock::now()) {
                Ok(local) => ways.push(Way { transport, local, remote: *remote }),
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
