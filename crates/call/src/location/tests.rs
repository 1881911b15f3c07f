//! Searches against records that stand in the test, honest and lying ones.

use std::collections::BTreeMap;

use rand_chacha::ChaCha12Rng;
use rand_core::{Rng, SeedableRng};

use super::*;

/// A zone: what is answered to each question; what is not there is answered by "no such record".
#[derive(Default)]
struct Zone {
    answers: BTreeMap<Question, Result<Answer, String>>,
    asked: Vec<String>,
}

impl Zone {
    fn with(mut self, name: &str, kind: RecordKind, records: Records) -> Self {
        let answer = Ok(Answer { records, ttl: Some(Duration::from_secs(300)) });
        self.answers.insert(Question { name: name.to_owned(), kind }, answer);
        self
    }

    fn naptr(self, name: &str, records: &[(u16, u16, &str, &str)]) -> Self {
        let record = |(order, preference, services, replacement): &(u16, u16, &str, &str)| Naptr {
            order: *order,
            preference: *preference,
            flags: "s".to_owned(),
            services: (*services).to_owned(),
            replacement: (*replacement).to_owned(),
        };
        self.with(name, RecordKind::Naptr, Records::Naptr(records.iter().map(record).collect()))
    }

    fn srv(self, name: &str, records: &[(u16, u16, u16, &str)]) -> Self {
        let record = |(priority, weight, port, target): &(u16, u16, u16, &str)| Srv {
            priority: *priority,
            weight: *weight,
            port: *port,
            target: (*target).to_owned(),
        };
        self.with(name, RecordKind::Srv, Records::Srv(records.iter().map(record).collect()))
    }

    fn host(self, name: &str, address: &str) -> Self {
        let address: IpAddr = address.parse().expect("an address");
        let kind = if address.is_ipv4() { RecordKind::A } else { RecordKind::Aaaa };
        self.with(name, kind, Records::Addresses(vec![address]))
    }

    fn fails(mut self, name: &str, kind: RecordKind) -> Self {
        self.answers.insert(Question { name: name.to_owned(), kind }, Err("SERVFAIL".to_owned()));
        self
    }

    fn search(
        &mut self,
        transport: Option<Transport>,
        host: &str,
        port: Option<u16>,
    ) -> Result<Found, NotFound> {
        let mut search = Search::new(Wanted { transport, host: host.to_owned(), port });
        for _ in 0..200 {
            if let Some(outcome) = search.outcome() {
                return outcome.clone();
            }
            let question = search.questions().first().expect("a search asks or is over").clone();
            self.asked.push(format!("{} {}", question.kind.as_str(), question.name));
            let none = Ok(Answer { records: Records::None, ttl: Some(Duration::from_secs(60)) });
            search.answered(&question, self.answers.get(&question).cloned().unwrap_or(none));
        }
        panic!("a search comes to an end");
    }

    fn order(&mut self, transport: Option<Transport>, host: &str, port: Option<u16>) -> Vec<String> {
        let found = self.search(transport, host, port).expect("it is found");
        words(&found, 1)
    }
}

fn words(found: &Found, seed: u64) -> Vec<String> {
    let places = found.draw(&mut ChaCha12Rng::seed_from_u64(seed));
    places.iter().map(|(transport, place)| format!("{transport:?} {place}").to_lowercase()).collect()
}

const UDP: Option<Transport> = Some(Transport::Udp);
const TLS: Option<Transport> = Some(Transport::Tls);

#[test]
fn addresses_and_ports_stand_as_they_are_and_ask_nothing() {
    let mut zone = Zone::default();
    assert_eq!(zone.order(UDP, "192.0.2.1", None), ["udp 192.0.2.1:5060"]);
    assert_eq!(zone.order(TLS, "192.0.2.1", None), ["tls 192.0.2.1:5061"]);
    assert_eq!(zone.order(None, "[2001:db8::1]", Some(5080)), ["udp [2001:db8::1]:5080"]);
    assert!(zone.asked.is_empty());
}

#[test]
fn a_port_asks_for_addresses_alone() {
    let mut zone = Zone::default()
        .srv("_sip._udp.a.example", &[(0, 0, 9, "wrong.example")])
        .host("a.example", "2001:db8::1")
        .host("a.example", "192.0.2.1");
    assert_eq!(zone.order(UDP, "A.example.", Some(5060)), ["udp 192.0.2.1:5060", "udp [2001:db8::1]:5060"]);
    assert_eq!(zone.asked, ["A a.example", "AAAA a.example"]);
}

#[test]
fn a_transport_asks_for_its_service_and_falls_back_to_addresses() {
    let mut zone = Zone::default()
        .srv("_sips._tcp.a.example", &[(10, 0, 5071, "b.example"), (5, 0, 5061, "c.example")])
        .host("b.example", "192.0.2.2")
        .host("c.example", "2001:db8::3")
        .host("a.example", "192.0.2.1");
    assert_eq!(zone.order(TLS, "a.example", None), ["tls [2001:db8::3]:5061", "tls 192.0.2.2:5071"]);
    assert_eq!(zone.order(UDP, "a.example", None), ["udp 192.0.2.1:5060"]);
}

#[test]
fn a_name_alone_goes_by_naptr_whatever_the_order_of_its_records() {
    let mut zone = Zone::default()
        .naptr(
            "a.example",
            &[
                (20, 10, "SIP+D2U", "_sip._udp.late.example"),
                (10, 20, "SIP+D2U", "_sip._udp.a.example"),
                (10, 10, "SIPS+D2T", "_sips._tcp.a.example."),
                (5, 10, "SIP+D2S", "_sip._sctp.a.example"),
            ],
        )
        .srv("_sips._tcp.a.example", &[(1, 0, 5061, "b.example")])
        .srv("_sip._udp.a.example", &[(1, 0, 5066, "b.example.")])
        .srv("_sip._udp.late.example", &[(1, 0, 5099, "b.example")])
        .host("b.example", "192.0.2.2");
    assert_eq!(zone.order(None, "a.example", None), ["tls 192.0.2.2:5061", "udp 192.0.2.2:5066"]);
}

#[test]
fn without_naptr_the_services_are_asked_and_then_the_addresses() {
    let mut zone = Zone::default()
        .srv("_sip._tcp.a.example", &[(1, 0, 5070, "b.example")])
        .host("b.example", "192.0.2.2")
        .host("c.example", "192.0.2.3");
    assert_eq!(zone.order(None, "a.example", None), ["tcp 192.0.2.2:5070"]);
    assert_eq!(zone.order(None, "c.example", None), ["udp 192.0.2.3:5060"]);
    let asked = [
        "NAPTR c.example",
        "SRV _sip._udp.c.example",
        "SRV _sip._tcp.c.example",
        "A c.example",
        "AAAA c.example",
    ];
    assert_eq!(zone.asked[zone.asked.len() - 5..], asked);
}

#[test]
fn weights_spread_calls_and_every_host_is_tried() {
    let mut zone = Zone::default()
        .srv(
            "_sip._udp.a.example",
            &[
                (1, 90, 5060, "b.example"),
                (1, 10, 5060, "c.example"),
                (1, 0, 5060, "d.example"),
                (2, 0, 5060, "e.example"),
            ],
        )
        .host("b.example", "192.0.2.2")
        .host("c.example", "192.0.2.3")
        .host("d.example", "192.0.2.4")
        .host("e.example", "192.0.2.5");
    let found = zone.search(UDP, "a.example", None).expect("it is found");
    let mut first = BTreeMap::<String, usize>::new();
    for seed in 0..2_000 {
        let order = words(&found, seed);
        assert_eq!((order.len(), order[3].as_str()), (4, "udp 192.0.2.5:5060"));
        *first.entry(order[0].clone()).or_default() += 1;
    }
    assert!((1_680..1_880).contains(&first["udp 192.0.2.2:5060"]), "{first:?}");
    assert!((130..270).contains(&first["udp 192.0.2.3:5060"]), "{first:?}");
    // RFC 2782: one of weight 0 has "a very small chance of being selected".
    assert!((1..70).contains(&first["udp 192.0.2.4:5060"]), "{first:?}");
}

#[test]
fn hosts_without_an_address_are_left_out_and_the_others_serve() {
    let mut zone = Zone::default()
        .srv("_sip._udp.a.example", &[(1, 0, 5060, "gone.example"), (2, 0, 5060, "b.example")])
        .host("b.example", "192.0.2.2");
    assert_eq!(zone.order(UDP, "a.example", None), ["udp 192.0.2.2:5060"]);
}

#[test]
fn a_service_that_is_denied_is_not_looked_for_elsewhere() {
    let mut zone =
        Zone::default().srv("_sip._udp.a.example", &[(0, 0, 0, ".")]).host("a.example", "192.0.2.1");
    let Err(NotFound::Absent { why, .. }) = zone.search(UDP, "a.example", None) else {
        panic!("it was found")
    };
    assert!(why.contains("gives no SIP"), "{why}");
}

#[test]
fn a_name_that_is_not_there_is_told_from_a_resolver_that_fails() {
    let mut zone = Zone::default().fails("b.example", RecordKind::A);
    let absent = zone.search(UDP, "a.example", Some(5060));
    let Err(NotFound::Absent { why, ttl }) = absent else { panic!("{absent:?}") };
    assert!(why.contains("does not resolve") && why.contains("check gateway_address"), "{why}");
    assert_eq!(ttl, Duration::from_secs(60));
    let failed = zone.search(UDP, "b.example", Some(5060));
    let Err(NotFound::Unanswered { why }) = failed else { panic!("{failed:?}") };
    assert!(why.contains("A of b.example: SERVFAIL"), "{why}");
}

/// Servers that fail on SRV and answer on A are common; what is found then is used, and not for long.
#[test]
fn what_is_found_beside_a_failure_serves_for_a_short_while() {
    let mut zone =
        Zone::default().fails("_sip._udp.a.example", RecordKind::Srv).host("a.example", "192.0.2.1");
    let found = zone.search(UDP, "a.example", None).expect("it is found");
    assert_eq!(
        (words(&found, 1), found.is_whole, found.ttl),
        (vec!["udp 192.0.2.1:5060".to_owned()], false, SHORT)
    );
}

#[test]
fn the_shortest_time_of_all_answers_counts() {
    let mut zone = Zone::default()
        .srv("_sip._udp.a.example", &[(1, 0, 5060, "b.example")])
        .host("b.example", "192.0.2.2")
        .host("b.example", "2001:db8::2");
    let question = Question { name: "b.example".to_owned(), kind: RecordKind::A };
    if let Some(Ok(answer)) = zone.answers.get_mut(&question) {
        answer.ttl = Some(Duration::from_secs(7));
    }
    assert_eq!(zone.search(UDP, "a.example", None).expect("it is found").ttl, Duration::from_secs(7));
}

#[test]
fn a_server_that_answers_with_thousands_of_records_is_cut_short() {
    let hosts: Vec<(u16, u16, u16, String)> =
        (0..5_000).map(|n| (1, 0, 5060, format!("h{n}.example"))).collect();
    let records: Vec<_> = hosts.iter().map(|(p, w, port, name)| (*p, *w, *port, name.as_str())).collect();
    let addresses = (0..5_000_u32).map(|n| IpAddr::from((0x0a00_0000 + n).to_be_bytes())).collect();
    let mut zone = Zone::default().srv("_sip._udp.a.example", &records).with(
        "h3.example",
        RecordKind::A,
        Records::Addresses(addresses),
    );
    let found = zone.search(UDP, "a.example", None).expect("it is found");
    assert_eq!(found.targets().len(), ADDRESSES_MAX);
    assert_eq!(zone.asked.len(), 1 + 2 * SERVICES_MAX);
}

#[test]
fn answers_that_were_not_asked_for_change_nothing() {
    let mut search = Search::new(Wanted { transport: UDP, host: "a.example".to_owned(), port: Some(5060) });
    let foreign = Question { name: "b.example".to_owned(), kind: RecordKind::A };
    let lie = || Ok(Answer { records: Records::Addresses(vec!["203.0.113.9".parse().unwrap()]), ttl: None });
    search.answered(&foreign, lie());
    assert!(search.outcome().is_none());
    // An answer of the wrong kind holds nothing that is wanted.
    let asked = search.questions()[0].clone();
    search.answered(&asked, Ok(Answer { records: Records::Srv(Vec::new()), ttl: None }));
    let asked = search.questions()[0].clone();
    search.answered(&asked, lie());
    assert!(
        matches!(search.outcome(), Some(Err(NotFound::Absent { .. }))),
        "an IPv4 address is no AAAA record"
    );
}

/// One answer of a server that lies: of the wrong kind, of itself, of nobody, of thousands, or none at all.
fn lie(random: &mut ChaCha12Rng, told: &mut Vec<IpAddr>) -> Result<Answer, String> {
    const NAMES: [&str; 7] = ["a.example", "b.example", "_sip._udp.a.example", ".", "", "192.0.2.77", "a..b"];
    let mut below = |bound: u64| random.next_u64() % bound;
    let count = [0, 1, 3, 40][below(4) as usize];
    let ttl = [None, Some(0), Some(60), Some(u64::MAX / 2)][below(4) as usize].map(Duration::from_secs);
    let records = match below(6) {
        0 => return Err("SERVFAIL".to_owned()),
        1 => Records::None,
        2 => {
            let services = ["SIP+D2U", "SIPS+D2T", "sip+d2t", "E2U+sip", ""];
            let record = |_| Naptr {
                order: below(3) as u16,
                preference: below(3) as u16,
                flags: ["s", "S", "u", ""][below(4) as usize].to_owned(),
                services: services[below(5) as usize].to_owned(),
                replacement: NAMES[below(7) as usize].to_owned(),
            };
            Records::Naptr((0..count).map(record).collect())
        }
        3 => {
            let record = |_| Srv {
                priority: below(3) as u16,
                weight: below(70_000) as u16,
                port: below(70_000) as u16,
                target: NAMES[below(7) as usize].to_owned(),
            };
            Records::Srv((0..count).map(record).collect())
        }
        _ => {
            let address = |_| match below(2) {
                0 => IpAddr::from([192, 0, 2, below(250) as u8]),
                _ => IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, below(250) as u16]),
            };
            let addresses: Vec<IpAddr> = (0..count).map(address).collect();
            told.extend(&addresses);
            Records::Addresses(addresses)
        }
    };
    Ok(Answer { records, ttl })
}

/// Whatever a server says: a search ends, asks a bounded number of questions, and leads to addresses that were told.
#[test]
fn a_server_that_lies_leads_nobody_on_for_ever_or_to_what_it_did_not_say() {
    let mut found = 0;
    for seed in 0..5_000 {
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        let transport = [None, UDP, TLS][(random.next_u64() % 3) as usize];
        let port = (random.next_u64().is_multiple_of(4)).then_some(5060);
        let mut search = Search::new(Wanted { transport, host: "a.example".to_owned(), port });
        let mut told: Vec<IpAddr> = vec!["192.0.2.77".parse().expect("an address")];
        let mut asked = 0;
        while search.outcome().is_none() {
            let place = random.next_u64() as usize % search.questions().len();
            let question = search.questions()[place].clone();
            let answer = lie(&mut random, &mut told);
            search.answered(&question, answer);
            search.answered(&question, lie(&mut random, &mut Vec::new()));
            asked += 1;
            assert!(asked <= 1 + SERVICES_MAX + 2 * SERVICES_MAX, "seed {seed}");
        }
        let Some(Ok(outcome)) = search.outcome() else { continue };
        found += 1;
        let places = outcome.draw(&mut random);
        assert!((1..=SERVICES_MAX * ADDRESSES_MAX).contains(&places.len()), "seed {seed}");
        assert!(
            places.iter().all(|(_, place)| told.contains(&place.ip()) && place.port() != 0),
            "seed {seed}"
        );
        let distinct: std::collections::BTreeSet<_> = places.iter().collect();
        assert_eq!(distinct.len(), places.len(), "seed {seed}");
    }
    assert!(found > 1_000, "{found}");
}
