//! Names to addresses, off the path of calls, with a bound on time: for URLs by the system's own resolver, for SIP servers by
//! the records of RFC 3263.
//!
//! What to ask for and what follows from the answers is decided in [`tandem_call::location`]; here it is asked. The system's
//! resolver is the one of `/etc/resolv.conf` (looked at again when it changes), with `/etc/hosts` before it, unless
//! `sip.resolver` names others.

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use futures_util::future::join_all;
use hickory_resolver::{
    TokioResolver,
    config::{
        ConnectionConfig, NameServerConfig, ProtocolConfig, ResolveHosts, ResolverConfig, ResolverOpts,
    },
    net::{DnsError, NetError, runtime::TokioRuntimeProvider},
    proto::rr::{Name, RData, Record, RecordType},
    system_conf::read_system_conf,
};
use tandem_call::location::{
    Answer, Found, Naptr, NotFound, Question, RecordKind, Records, Search, Srv, Wanted,
};
use tokio::time::{Instant, timeout_at};

/// Addresses taken from one answer of the system's resolver.
const ADDRESSES: usize = 8;
/// How long one server is waited for, and how often each is asked again.
const PATIENCE: (Duration, usize) = (Duration::from_secs(2), 1);
/// The port of DNS.
const DNS_PORT: u16 = 53;
/// What the system's resolver is made of.
const SYSTEM_FILES: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];

/// Looks up the addresses of `host`, IPv4 and IPv6, in the order the system prefers. An address as text
/// needs no look-up.
///
/// # Errors
/// When the name has no address, the resolver fails, or `within` runs out.
pub async fn lookup(host: &str, port: u16, within: Duration) -> io::Result<Vec<SocketAddr>> {
    let found = tokio::time::timeout(within, tokio::net::lookup_host((host, port)))
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {within:?}")))??;
    let addresses: Vec<SocketAddr> = found.take(ADDRESSES).collect();
    if addresses.is_empty() {
        return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
    }
    Ok(addresses)
}

/// When the system's files were last changed.
type Stamp = [Option<SystemTime>; 2];

/// Looks for SIP servers. Remembers nothing: who asks does.
pub struct SipResolver {
    /// Those of the configuration; none means the system's.
    servers: Vec<SocketAddr>,
    made: Mutex<Option<(Stamp, Arc<TokioResolver>)>>,
}

impl std::fmt::Debug for SipResolver {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("SipResolver").field("servers", &self.servers).finish_non_exhaustive()
    }
}

impl SipResolver {
    /// One that asks these, or where there are none, the system's.
    #[must_use]
    pub fn new(servers: Vec<SocketAddr>) -> Self {
        Self { servers, made: Mutex::default() }
    }

    /// Looks for a server until `within` runs out.
    ///
    /// # Errors
    /// [`NotFound`], when it is not there or the resolver does not say.
    pub async fn find(&self, wanted: Wanted, within: Duration) -> Result<Found, NotFound> {
        let deadline = Instant::now() + within;
        let mut search = Search::new(wanted);
        loop {
            if let Some(outcome) = search.outcome() {
                return outcome.clone();
            }
            let questions = search.questions().to_vec();
            let answers = join_all(questions.iter().map(|question| self.ask(question, deadline))).await;
            for (question, answer) in questions.iter().zip(answers) {
                search.answered(question, answer);
            }
        }
    }

    async fn ask(&self, question: &Question, deadline: Instant) -> Result<Answer, String> {
        let resolver = self.resolver()?;
        let name = name_of(question)?;
        let kind = match question.kind {
            RecordKind::Naptr => RecordType::NAPTR,
            RecordKind::Srv => RecordType::SRV,
            RecordKind::A => RecordType::A,
            RecordKind::Aaaa => RecordType::AAAA,
        };
        match timeout_at(deadline, resolver.lookup(name, kind)).await {
            Err(_) => Err("no answer in time".to_owned()),
            Ok(Ok(found)) => Ok(read(question.kind, found.answers())),
            Ok(Err(NetError::Dns(DnsError::NoRecordsFound(none)))) => {
                let ttl = none.negative_ttl.map(|seconds| Duration::from_secs(seconds.into()));
                Ok(Answer { records: Records::None, ttl })
            }
            Ok(Err(error)) => Err(error.to_string()),
        }
    }

    /// The resolver, made again when the system's files have changed.
    fn resolver(&self) -> Result<Arc<TokioResolver>, String> {
        let stamp: Stamp = match self.servers.is_empty() {
            true => SYSTEM_FILES.map(|file| fs::metadata(file).and_then(|file| file.modified()).ok()),
            false => [None; 2],
        };
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, resolver)) = made.as_ref()
            && *known == stamp
        {
            return Ok(Arc::clone(resolver));
        }
        let (config, options) = self.settings();
        let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
        *builder.options_mut() = options;
        let resolver = builder.build().map_err(|error| format!("the resolver cannot be set up: {error}"))?;
        let resolver = Arc::new(resolver);
        *made = Some((stamp, Arc::clone(&resolver)));
        Ok(resolver)
    }

    fn settings(&self) -> (ResolverConfig, ResolverOpts) {
        let system = match self.servers.is_empty() {
            true => read_system_conf().ok(),
            false => None,
        };
        let (config, mut options) = system.unwrap_or_else(|| {
            // As the C library has it: without a file, the resolver of this machine.
            let own = [SocketAddr::from((Ipv4Addr::LOCALHOST, DNS_PORT))];
            let servers = if self.servers.is_empty() { &own[..] } else { &self.servers };
            let config = ResolverConfig::from_name_servers(servers.iter().copied().map(server).collect());
            (config, ResolverOpts::default())
        });
        (options.timeout, options.attempts) = PATIENCE;
        // One memory is enough, and the engine's knows of resolvers that are down.
        options.cache_size = 0;
        options.use_hosts_file =
            if self.servers.is_empty() { ResolveHosts::Always } else { ResolveHosts::Never };
        (config, options)
    }
}

fn server(address: SocketAddr) -> NameServerConfig {
    let connections = [ProtocolConfig::Udp, ProtocolConfig::Tcp].map(|protocol| {
        let mut connection = ConnectionConfig::new(protocol);
        connection.port = address.port();
        connection
    });
    NameServerConfig::new(address.ip(), true, connections.into())
}

/// The name to ask for. One of a single label is looked for in the domains of this machine; others are whole.
fn name_of(question: &Question) -> Result<Name, String> {
    let text = &question.name;
    let mut name = Name::from_ascii(text).map_err(|error| format!("{text:?} is no name: {error}"))?;
    let host = text.trim_start_matches("_sips._tcp.").trim_start_matches("_sip._udp.");
    name.set_fqdn(host.trim_start_matches("_sip._tcp.").contains('.'));
    Ok(name)
}

/// What an answer holds of the kind that was asked for; aliases on the way to it count for its time alone.
fn read(kind: RecordKind, records: &[Record]) -> Answer {
    let ttl = records.iter().map(|record| Duration::from_secs(record.ttl.into())).min();
    let data = || records.iter().map(|record| &record.data);
    let records = match kind {
        RecordKind::Naptr => Records::Naptr(data().filter_map(naptr).collect()),
        RecordKind::Srv => Records::Srv(data().filter_map(srv).collect()),
        RecordKind::A | RecordKind::Aaaa => Records::Addresses(data().filter_map(address).collect()),
    };
    Answer { records, ttl }
}

fn naptr(data: &RData) -> Option<Naptr> {
    let RData::NAPTR(naptr) = data else { return None };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Some(Naptr {
        order: naptr.order,
        preference: naptr.preference,
        flags: text(&naptr.flags),
        services: text(&naptr.services),
        replacement: naptr.replacement.to_ascii(),
    })
}

fn srv(data: &RData) -> Option<Srv> {
    let RData::SRV(srv) = data else { return None };
    let (priority, weight, port) = (srv.priority, srv.weight, srv.port);
    Some(Srv { priority, weight, port, target: srv.target.to_ascii() })
}

fn address(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tandem_sip::Transport;

    use super::*;

    #[tokio::test]
    async fn an_address_as_text_is_itself() {
        let found = lookup("127.0.0.1", 5060, Duration::from_secs(1)).await.unwrap();
        assert_eq!(found, vec![SocketAddr::from(([127, 0, 0, 1], 5060))]);
    }

    #[tokio::test]
    async fn the_hosts_file_of_this_machine_is_heeded() {
        let wanted =
            Wanted { transport: Some(Transport::Udp), host: "localhost".to_owned(), port: Some(5060) };
        let found = SipResolver::new(Vec::new()).find(wanted, Duration::from_secs(5)).await.unwrap();
        assert!(found.targets().iter().all(|(_, place)| place.ip().is_loopback()), "{found:?}");
    }

    /// A server that does not answer is a failure of the resolver, and no word on the name.
    #[tokio::test]
    async fn a_resolver_that_is_silent_is_told_from_a_name_that_is_not_there() {
        let silent = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let resolver = SipResolver::new(vec![silent.local_addr().unwrap()]);
        let wanted = Wanted { transport: None, host: "sip.carrier.example".to_owned(), port: None };
        let outcome = resolver.find(wanted, Duration::from_millis(200)).await;
        let Err(NotFound::Unanswered { why }) = outcome else { panic!("{outcome:?}") };
        assert!(why.contains("NAPTR of sip.carrier.example") && why.contains("sip.resolver"), "{why}");
    }
}
