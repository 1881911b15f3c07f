//! Where a SIP server is: the procedures of RFC 3263 section 4, as questions to ask of DNS and what follows from the answers.
//!
//! ```text
//!  address ──────────────────────────────────────────────► itself
//!  name and port ───────────────────────► A, AAAA ───────► addresses at that port
//!  name, transport given ──► SRV ──none─► A, AAAA ───────► addresses at the transport's port
//!  name alone ──► NAPTR ──► SRV ──none──► SRV of UDP, TCP ► A, AAAA
//! ```
//!
//! Pure: whoever drives a [`Search`] asks its questions of a resolver and hands the answers back. What was found is in no order
//! yet: [`Found::draw`] makes one by priority and weight (RFC 2782), anew for each call, so that calls spread as the carrier
//! wishes. Bounded: records and addresses taken of one answer, for these come from strangers.
//!
//! Of a host with addresses of both families those of IPv4 come first: carriers admit a trunk by the address it calls from,
//! and that is an IPv4 address where they have both.

mod draw;
mod memory;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tandem_sip::Transport;

pub use self::memory::{Learned, Memory, Recall};

/// Service records taken in one search.
const SERVICES_MAX: usize = 16;
/// Addresses taken of one host.
const ADDRESSES_MAX: usize = 8;
/// How long an answer without a time of its own is used, and one that was not whole: a record may be there next time.
const SHORT: Duration = Duration::from_secs(30);

/// A server that is looked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    /// The transport to speak; none leaves it to the server's NAPTR records.
    pub transport: Option<Transport>,
    /// A host name or an address, IPv6 with or without brackets.
    pub host: String,
    /// The port; none leaves it to the server's SRV records.
    pub port: Option<u16>,
}

/// Which records are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordKind {
    /// Which transports a domain takes, and where each is looked for (RFC 3403).
    Naptr,
    /// The hosts and ports of a service (RFC 2782).
    Srv,
    /// IPv4 addresses.
    A,
    /// IPv6 addresses (RFC 3596).
    Aaaa,
}

impl RecordKind {
    /// The word for it in DNS.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Naptr => "NAPTR",
            Self::Srv => "SRV",
            Self::A => "A",
            Self::Aaaa => "AAAA",
        }
    }
}

/// A question to a resolver.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Question {
    /// The name, without a dot at its end.
    pub name: String,
    /// The records.
    pub kind: RecordKind,
}

/// A NAPTR record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Naptr {
    /// Lower comes first, and excludes what is higher.
    pub order: u16,
    /// Lower is preferred.
    pub preference: u16,
    /// `s` where the replacement has SRV records.
    pub flags: String,
    /// Such as `SIP+D2U`.
    pub services: String,
    /// The name to go on with.
    pub replacement: String,
}

/// An SRV record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Srv {
    /// Lower comes first.
    pub priority: u16,
    /// Among equals, the larger is drawn more often.
    pub weight: u16,
    /// The port.
    pub port: u16,
    /// The host; `.` or nothing where the service is not given.
    pub target: String,
}

/// The records of one answer, none of them where the name has none of the kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Records {
    /// Of [`RecordKind::Naptr`].
    Naptr(Vec<Naptr>),
    /// Of [`RecordKind::Srv`].
    Srv(Vec<Srv>),
    /// Of [`RecordKind::A`] and [`RecordKind::Aaaa`].
    Addresses(Vec<IpAddr>),
    /// The name is not there, or has no such record.
    None,
}

/// What a resolver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The records.
    pub records: Records,
    /// How long they, or their absence (RFC 2308), may be remembered; none where the answer does not say.
    pub ttl: Option<Duration>,
}

/// A host of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    priority: u16,
    weight: u16,
    port: u16,
    name: String,
    addresses: Vec<IpAddr>,
}

/// The hosts that serve one transport.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Service {
    transport: Transport,
    hosts: Vec<Host>,
}

/// Where a server is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    services: Vec<Service>,
    /// How long this may be used without asking again.
    pub ttl: Duration,
    /// Whether each question was answered. What was found beside a failure is less than what there is.
    pub is_whole: bool,
}

/// Why a server was not found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// DNS says that it is not there.
    Absent {
        /// In words meant for the tenant.
        why: String,
        /// How long that may be remembered.
        ttl: Duration,
    },
    /// The resolver failed.
    Unanswered {
        /// In words meant for the tenant.
        why: String,
    },
}

impl NotFound {
    /// In words meant for the tenant.
    pub fn why(&self) -> &str {
        match self {
            Self::Absent { why, .. } | Self::Unanswered { why } => why,
        }
    }
}

/// What a search is at.
#[derive(Debug)]
enum Stage {
    /// Its NAPTR records are asked for.
    Naptr,
    /// SRV records are asked for: each transport with the name that has them, and what came.
    Srv(Vec<(Transport, String, Option<Vec<Srv>>)>),
    /// Addresses of the hosts are asked for.
    Addresses,
    /// The outcome is known.
    Over(Result<Found, NotFound>),
}

/// A search under way.
#[derive(Debug)]
pub struct Search {
    wanted: Wanted,
    stage: Stage,
    services: Vec<Service>,
    /// Asked and not answered yet.
    open: Vec<Question>,
    ttl: Option<Duration>,
    /// What the resolver failed at.
    failures: Vec<String>,
    /// An SRV record that says there is no such service (RFC 2782: a target of ".").
    is_refused: bool,
}

impl Search {
    /// Begins to look for a server.
    pub fn new(wanted: Wanted) -> Self {
        let bare = wanted.host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.');
        let wanted = Wanted { host: bare.to_ascii_lowercase(), ..wanted };
        let mut search = Self {
            stage: Stage::Naptr,
            services: Vec::new(),
            open: Vec::new(),
            ttl: None,
            failures: Vec::new(),
            is_refused: false,
            wanted,
        };
        search.begin();
        search
    }

    /// What is to be asked of the resolver now. Once each of these is answered, there may be more.
    pub fn questions(&self) -> &[Question] {
        &self.open
    }

    /// What came of it, once there is nothing more to ask.
    pub fn outcome(&self) -> Option<&Result<Found, NotFound>> {
        match &self.stage {
            Stage::Over(outcome) => Some(outcome),
            Stage::Naptr | Stage::Srv(_) | Stage::Addresses => None,
        }
    }

    /// Takes the answer to a question, or why there was none.
    pub fn answered(&mut self, question: &Question, answer: Result<Answer, String>) {
        let Some(place) = self.open.iter().position(|open| open == question) else { return };
        self.open.remove(place);
        let records = match answer {
            Ok(answer) => {
                self.ttl = [self.ttl, answer.ttl].into_iter().flatten().min();
                answer.records
            }
            Err(why) => {
                self.failures.push(format!("{} of {}: {why}", question.kind.as_str(), question.name));
                Records::None
            }
        };
        self.take(question, records);
        if self.open.is_empty() {
            self.go_on();
        }
    }

    /// An address needs no look-up, a port no service records (RFC 3263 section 4.2).
    fn begin(&mut self) {
        let Wanted { transport, host, port } = self.wanted.clone();
        let spoken = transport.unwrap_or(Transport::Udp);
        if let Ok(address) = host.parse::<IpAddr>() {
            self.only_host(spoken, port, vec![address]);
            return self.conclude();
        }
        match (port, transport) {
            (Some(_), _) => {
                self.only_host(spoken, port, Vec::new());
                self.ask_addresses();
            }
            (None, Some(transport)) => self.ask_services(vec![(transport, service_name(transport, &host))]),
            (None, None) => self.open = vec![Question { name: host, kind: RecordKind::Naptr }],
        }
    }

    fn only_host(&mut self, transport: Transport, port: Option<u16>, addresses: Vec<IpAddr>) {
        let port = port.unwrap_or_else(|| transport.default_port());
        let host = Host { priority: 0, weight: 0, port, name: self.wanted.host.clone(), addresses };
        self.services = vec![Service { transport, hosts: vec![host] }];
    }

    fn take(&mut self, question: &Question, records: Records) {
        match (&mut self.stage, records) {
            (Stage::Naptr, Records::Naptr(records)) => {
                let services = usable(records);
                if !services.is_empty() {
                    self.ask_services(services);
                }
            }
            (Stage::Srv(asked), Records::Srv(records)) => {
                for (_, _, found) in asked.iter_mut().filter(|(_, name, _)| *name == question.name) {
                    *found = Some(records.clone());
                }
            }
            (Stage::Addresses, Records::Addresses(addresses)) => {
                let of_kind = addresses
                    .into_iter()
                    .filter(|address| address.is_ipv4() == (question.kind == RecordKind::A));
                let addresses: Vec<IpAddr> = of_kind.collect();
                for host in self.services.iter_mut().flat_map(|service| &mut service.hosts) {
                    if host.name == question.name {
                        host.addresses.extend(&addresses);
                    }
                }
            }
            (Stage::Naptr | Stage::Srv(_) | Stage::Addresses | Stage::Over(_), _) => {}
        }
    }

    /// Every question of the stage is answered.
    fn go_on(&mut self) {
        match std::mem::replace(&mut self.stage, Stage::Addresses) {
            // RFC 3263 section 4.1: without NAPTR records, an SRV query for each transport, under `_sip`.
            Stage::Naptr => {
                let host = self.wanted.host.clone();
                let names = [Transport::Udp, Transport::Tcp].map(|one| (one, service_name(one, &host)));
                self.ask_services(names.into());
            }
            Stage::Srv(asked) => self.services_known(asked),
            Stage::Addresses => self.conclude(),
            over @ Stage::Over(_) => self.stage = over,
        }
    }

    fn ask_services(&mut self, names: Vec<(Transport, String)>) {
        let question =
            |(_, name): &(Transport, String)| Question { name: name.clone(), kind: RecordKind::Srv };
        self.open = names.iter().map(question).collect();
        self.open.dedup();
        self.stage = Stage::Srv(names.into_iter().map(|(transport, name)| (transport, name, None)).collect());
    }

    fn services_known(&mut self, asked: Vec<(Transport, String, Option<Vec<Srv>>)>) {
        for (transport, _, records) in asked {
            let Some(records) = records.filter(|records| !records.is_empty()) else { continue };
            let known: usize = self.services.iter().map(|service| service.hosts.len()).sum();
            let hosts = records.into_iter().filter_map(host_of).take(SERVICES_MAX.saturating_sub(known));
            let hosts: Vec<Host> = hosts.collect();
            self.is_refused |= hosts.is_empty() && known < SERVICES_MAX;
            if !hosts.is_empty() {
                self.services.push(Service { transport, hosts });
            }
        }
        if self.services.is_empty() && !self.is_refused {
            // RFC 3263 section 4.2: "If no SRV records were found, the client performs an A or AAAA record lookup of
            // the domain name."
            self.only_host(self.wanted.transport.unwrap_or(Transport::Udp), None, Vec::new());
        }
        self.ask_addresses();
    }

    fn ask_addresses(&mut self) {
        self.stage = Stage::Addresses;
        let mut names: Vec<String> = Vec::new();
        for host in self.services.iter_mut().flat_map(|service| &mut service.hosts) {
            match host.name.parse::<IpAddr>() {
                // Against RFC 2782, and seen all the same: the target is an address.
                Ok(address) => host.addresses = vec![address],
                Err(_) if !names.contains(&host.name) => names.push(host.name.clone()),
                Err(_) => {}
            }
        }
        let both = |name: String| {
            [RecordKind::A, RecordKind::Aaaa].map(|kind| Question { name: name.clone(), kind })
        };
        self.open = names.into_iter().flat_map(both).collect();
        if self.open.is_empty() {
            self.conclude();
        }
    }

    fn conclude(&mut self) {
        let mut services = std::mem::take(&mut self.services);
        for service in &mut services {
            for host in &mut service.hosts {
                host.addresses.sort_by_key(IpAddr::is_ipv6);
                host.addresses.dedup();
                host.addresses.truncate(ADDRESSES_MAX);
            }
            service.hosts.retain(|host| !host.addresses.is_empty());
        }
        services.retain(|service| !service.hosts.is_empty());
        let is_whole = self.failures.is_empty();
        let ttl = self.ttl.unwrap_or(SHORT);
        let outcome = match (services.is_empty(), is_whole) {
            (false, true) => Ok(Found { services, ttl, is_whole }),
            (false, false) => Ok(Found { services, ttl: ttl.min(SHORT), is_whole }),
            (true, false) => Err(NotFound::Unanswered { why: self.words_of_failure() }),
            (true, true) => Err(NotFound::Absent { why: self.words_of_absence(), ttl }),
        };
        self.stage = Stage::Over(outcome);
    }

    fn words_of_failure(&self) -> String {
        format!(
            "its name {} could not be looked up ({}); check the resolver of this machine, or set sip.resolver",
            self.wanted.host,
            self.failures.join(", ")
        )
    }

    fn words_of_absence(&self) -> String {
        let host = &self.wanted.host;
        if self.is_refused {
            return format!(
                "the SRV records of {host} say that it gives no SIP there; ask the carrier for its address"
            );
        }
        let which = match self.wanted.port {
            Some(_) => "A or AAAA record",
            None => "SRV, A or AAAA record",
        };
        format!("its name {host} does not resolve: it has no {which}; check gateway_address")
    }
}

/// Where a transport's SRV records are (RFC 3263 section 4.1).
fn service_name(transport: Transport, host: &str) -> String {
    match transport {
        Transport::Udp => format!("_sip._udp.{host}"),
        Transport::Tcp => format!("_sip._tcp.{host}"),
        Transport::Tls => format!("_sips._tcp.{host}"),
    }
}

/// The transports that NAPTR records offer and we speak, the preferred first, each with the name of its SRV records.
/// RFC 3403 section 4.1: once one of an order fits, "records with a higher ORDER value MUST NOT be considered".
fn usable(mut records: Vec<Naptr>) -> Vec<(Transport, String)> {
    records.sort_by_key(|record| (record.order, record.preference));
    let transport = |record: &Naptr| match record.services.to_ascii_uppercase().as_str() {
        "SIP+D2U" => Some(Transport::Udp),
        "SIP+D2T" => Some(Transport::Tcp),
        "SIPS+D2T" => Some(Transport::Tls),
        _ => None,
    };
    let fits = |record: &Naptr| record.flags.eq_ignore_ascii_case("s").then(|| transport(record)).flatten();
    let order = records.iter().find(|record| fits(record).is_some()).map(|record| record.order);
    let of_order = records.iter().filter(|record| Some(record.order) == order);
    let named = of_order.filter_map(|record| {
        let name = record.replacement.trim_end_matches('.').to_ascii_lowercase();
        fits(record).filter(|_| !name.is_empty()).map(|transport| (transport, name))
    });
    named.take(SERVICES_MAX).collect()
}

/// The host of an SRV record; none where its target is ".", which says that the service is not there.
fn host_of(record: Srv) -> Option<Host> {
    let name = record.target.trim_end_matches('.').to_ascii_lowercase();
    let Srv { priority, weight, port, .. } = record;
    (!name.is_empty() && port != 0).then_some(Host { priority, weight, port, name, addresses: Vec::new() })
}

impl Found {
    /// Every transport and address, in no order: to see whether two findings are the same.
    pub fn targets(&self) -> Vec<(Transport, SocketAddr)> {
        let mut targets = Vec::new();
        for service in &self.services {
            for host in &service.hosts {
                let at = |address: &IpAddr| (service.transport, SocketAddr::new(*address, host.port));
                targets.extend(host.addresses.iter().map(at));
            }
        }
        targets
    }
}
