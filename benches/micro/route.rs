//! Routing over a million numbers, and a whole call's signalling: time and allocations.

use std::sync::{Arc, OnceLock};

use divan::{AllocProfiler, Bencher, black_box};
use tandem_agent::{DialectConfig, DialectKind};
use tandem_benches::cases::call::Calls;
use tandem_call::bridge::OnClose;
use tandem_call::route::{self, Authentication, OfferSummary, Query};
use tandem_call::{Agent, AgentRules, AgentSocket, Number, RoutingTable, Trunk};
use tandem_sip::Transport;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

const NUMBERS: u64 = 1_000_000;
const TRUNKS: u64 = 10_000;

fn main() {
    divan::main();
}

/// Ten thousand accounts with a trunk and a hundred numbers each; every tenth shares one carrier's range.
fn table() -> &'static Arc<RoutingTable> {
    static TABLE: OnceLock<Arc<RoutingTable>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let trunk = |index: u64| {
            let mut trunk = Trunk::new(format!("t{index}"), format!("a{index}"), format!("trunk {index}"));
            trunk.inbound_enabled = true;
            let own = format!("10.{}.{}.0/24", index / 250, index % 250);
            trunk.sources.push(own.parse().expect("a range"));
            if index.is_multiple_of(10) {
                trunk.sources.push("192.0.2.0/24".parse().expect("a range"));
            }
            trunk
        };
        let number = |index: u64| Number {
            id: format!("n{index}").into(),
            account: format!("a{}", index % TRUNKS).into(),
            trunk: format!("t{}", index % TRUNKS).into(),
            number: format!("+91{:010}", index * 9973),
            destination_key: None,
            is_active: true,
            agent: Some(format!("g{}", index % TRUNKS).into()),
            is_for_pstn: false,
        };
        let agent = |index: u64| Agent {
            id: format!("g{index}").into(),
            account: format!("a{index}").into(),
            name: format!("agent {index}").into(),
            socket: Some(
                AgentSocket {
                    url: "ws://agent.example/ws/{execution_id}".to_owned(),
                    dialect: DialectConfig::new(DialectKind::Asterisk),
                    headers: Vec::new(),
                    subprotocol: None,
                    parameters: Vec::new(),
                    on_close: OnClose::Drain,
                    fallback_url: None,
                }
                .into(),
            ),
            rules: AgentRules::default(),
        };
        Arc::new(RoutingTable::build(
            1,
            (0..TRUNKS).map(trunk).collect(),
            (0..NUMBERS).map(number).collect(),
            (0..TRUNKS).map(agent).collect(),
        ))
    })
}

fn query<'a>(source: &str, user: &'a [u8]) -> Query<'a> {
    Query {
        source: source.parse().expect("an address"),
        transport: Transport::Udp,
        request_uri: user,
        request_user: user,
        to: b"",
        to_user: b"",
        from: b"<sip:+4930123@carrier>;tag=1",
        sip_call_id: b"0123456789@carrier",
        user_agent: b"",
        offer: OfferSummary::Absent,
    }
}

/// The table's own work: is the source known, and what was dialled.
#[divan::bench]
fn source_in_a_million(bencher: Bencher) {
    let table = table();
    let source = "192.0.2.7".parse().expect("an address");
    bencher.bench_local(|| table.knows_source(black_box(source)));
}

/// A whole decision with its verdict: one that connects, one whose number is in another form, one of a stranger.
#[divan::bench(args = ["connects", "near miss", "stranger"])]
fn decision_in_a_million(bencher: Bencher, which: &str) {
    let table = table();
    let users: Vec<String> = (0..1000u64).map(|index| format!("91{:010}", index * 1000 * 9973)).collect();
    let national: Vec<String> = users.iter().map(|user| format!("0{}", &user[2..])).collect();
    let (source, users) = match which {
        "connects" => ("192.0.2.7:5060", &users),
        "near miss" => ("192.0.2.7:5060", &national),
        _ => ("203.0.113.7:5060", &users),
    };
    let mut next = users.iter().cycle();
    bencher.bench_local(|| {
        let user = next.next().expect("a cycle has no end");
        route::evaluate(&query(source, user.as_bytes()), table, &Authentication::Absent)
    });
}

/// INVITE, port, agent, 200, ACK, BYE and the record, with a million numbers behind it.
#[divan::bench]
fn whole_call(bencher: Bencher) {
    let mut calls = Calls::new(Arc::clone(table()));
    bencher.bench_local(|| calls.call());
}
