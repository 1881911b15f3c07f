//! Routing over a million numbers, and a whole call's signalling: time and allocations.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use bytes::Bytes;
use divan::{AllocProfiler, Bencher, black_box};
use tandem_agent::{DialectConfig, DialectKind};
use tandem_call::bridge::{BridgeStatistics, OnClose};
use tandem_call::route::{self, Authentication, OfferSummary, Query};
use tandem_call::{Agent, AgentSocket, Engine, EngineConfig, Input, Number, Output, RoutingTable, Trunk};
use tandem_sip::{Flow, Target, Transport};

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
            trunk.sources = vec![own.parse().expect("a range")];
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
            is_active: true,
            agent: Some(format!("g{}", index % TRUNKS).into()),
        };
        let agent = |index: u64| Agent {
            id: format!("g{index}").into(),
            account: format!("a{index}").into(),
            name: format!("agent {index}"),
            socket: Some(AgentSocket {
                url: "ws://agent.example/ws/{execution_id}".to_owned(),
                dialect: DialectConfig::new(DialectKind::Asterisk),
                headers: Vec::new(),
                subprotocol: None,
                parameters: Vec::new(),
                on_close: OnClose::Drain,
                fallback_url: None,
            }),
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
    let mut now = begin();
    let mut engine = Engine::new(EngineConfig::default(), 7, now, 0);
    engine.handle(now, Input::Routing(Arc::clone(table())));
    let mut number = 0u64;
    bencher.bench_local(|| {
        number += 1;
        now += std::time::Duration::from_millis(1);
        call(&mut engine, now, number)
    });
}

fn call(engine: &mut Engine, now: Instant, number: u64) {
    let send = |engine: &mut Engine, text: String| {
        let flow = Flow {
            transport: Transport::Udp,
            local: "203.0.113.1:5060".parse().expect("an address"),
            remote: "192.0.2.7:5060".parse::<SocketAddr>().expect("an address"),
            connection: 0,
        };
        engine.handle(now, Input::Datagram { flow, payload: Bytes::from(text) });
        drain(engine, now)
    };
    let request = |method: &str, cseq: u32, tag: &str, body: &str| {
        format!(
            "{method} sip:+910000000000@203.0.113.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{number}{method};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:+4930123@carrier>;tag=f{number}\r\nTo: <sip:+910000000000@203.0.113.1>{tag}\r\n\
             Call-ID: {number}@carrier\r\nCSeq: {cseq} {method}\r\nContact: <sip:c@192.0.2.7:5060>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let offer = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n\
                 m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";
    let tag = send(engine, request("INVITE", 1, "", offer)).expect("a 200 with its tag");
    send(engine, request("ACK", 1, &tag, ""));
    send(engine, request("BYE", 2, &tag, ""));
}

/// Plays the shell; returns the To tag of a 200 to an INVITE.
fn drain(engine: &mut Engine, now: Instant) -> Option<String> {
    let mut tag = None;
    while let Some(output) = engine.poll_output() {
        match output {
            Output::OpenBridge { call, .. } => {
                let rtp = "203.0.113.1:20000".parse().expect("an address");
                engine.handle(now, Input::BridgeOpened { call, rtp });
                engine.handle(now, Input::AgentConnected { call });
            }
            Output::CloseBridge { call } => {
                engine.handle(
                    now,
                    Input::BridgeClosed { call, statistics: Box::new(BridgeStatistics::default()) },
                );
            }
            Output::Transmit(transmit) if !matches!(transmit.target, Target::Close(_)) => {
                let text = String::from_utf8_lossy(&transmit.payload);
                if text.starts_with("SIP/2.0 200") && text.contains("INVITE") {
                    let to = text.lines().find(|line| line.starts_with("To:"));
                    tag = to.and_then(|to| to.find(";tag=").map(|at| to[at..].to_owned()));
                }
            }
            _ => {}
        }
    }
    tag
}

fn begin() -> Instant {
    Instant::now()
}
