//! Routing at size: a decision over a million numbers beside the same decision over a hundred, turn by turn in one run.
//!
//! `cargo run --release -p tandem-benches --bin routing_load -- [--accounts 1000] [--trunks 100000] [--numbers 1000000]
//! [--rounds 15]`
//!
//! Prints nanoseconds of a whole decision that connects (verdict and route included), of the question whether a source is
//! known, their ratios, what the table takes in memory, and what a change of one number costs. Each question is about
//! another number, spread over the table, so that nothing of the last one is in the caches.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Instant;

use tandem_agent::{DialectConfig, DialectKind};
use tandem_benches::process::resident_bytes;
use tandem_call::bridge::OnClose;
use tandem_call::route::{self, Action, Authentication, KeyedAudio, OfferSummary, Query};
use tandem_call::{Agent, AgentRules, AgentSocket, Number, RoutingTable, Trunk};

/// Questions of one table in one round: more than any cache holds the answers of.
const QUESTIONS: u64 = 1 << 17;

#[derive(Clone, Copy)]
struct Size {
    accounts: u64,
    trunks: u64,
    numbers: u64,
}

fn main() {
    let mut size = Size { accounts: 1_000, trunks: 100_000, numbers: 1_000_000 };
    let mut rounds = 15;
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().and_then(|value| value.parse().ok());
        let value = value.unwrap_or_else(|| panic!("{name} needs a number"));
        match name.as_str() {
            "--accounts" => size.accounts = value,
            "--trunks" => size.trunks = value,
            "--numbers" => size.numbers = value,
            "--rounds" => rounds = value,
            _ => panic!("there is no {name}"),
        }
    }
    assert!(
        size.accounts > 0 && size.trunks >= size.accounts && size.numbers >= size.trunks,
        "each account has a trunk, each trunk a number"
    );
    let small = table(Size { accounts: 1, trunks: 10, numbers: 100 });
    let before = resident_bytes(std::process::id()).expect("this process runs");
    let began = Instant::now();
    let large = table(size);
    let took = began.elapsed().as_secs_f64();
    let bytes = resident_bytes(std::process::id()).expect("this process runs").saturating_sub(before);
    println!(
        "{} accounts, {} trunks, {} numbers: made in {took:.1} s, {} MiB",
        size.accounts,
        size.trunks,
        size.numbers,
        bytes >> 20
    );
    let (asked_small, asked_large) = (questions(100), questions(size.numbers));
    compare(rounds, "decision", || decide(&small, &asked_small), || decide(&large, &asked_large));
    compare(rounds, "source known", || know(&small, &asked_small), || know(&large, &asked_large));
    change(large, size);
}

/// Medians of as many rounds, the two tables in turn.
fn compare(rounds: u64, what: &str, small: impl Fn() -> f64, large: impl Fn() -> f64) {
    let (mut smalls, mut larges): (Vec<f64>, Vec<f64>) =
        (0..rounds.max(1)).map(|_| (small(), large())).unzip();
    smalls.sort_by(f64::total_cmp);
    larges.sort_by(f64::total_cmp);
    let middle = smalls.len() / 2;
    let (small, large) = (smalls[middle], larges[middle]);
    println!(
        "{what}: {small:.0} ns of 100 numbers (best {:.0}), {large:.0} ns of all (best {:.0}), ratio {:.2}",
        smalls[0],
        larges[0],
        large / small
    );
}

fn account(index: u64) -> String {
    format!("01JD0ACC{index:018}")
}

fn trunk_id(index: u64) -> String {
    format!("01JD0TRK{index:018}")
}

fn agent_id(index: u64) -> String {
    format!("01JD0AGT{index:018}")
}

/// Each account has one agent and its share of trunks, each trunk its share of numbers and a network of its own; every
/// tenth calls from one that a carrier's customers share.
fn table(size: Size) -> RoutingTable {
    let (per_trunk, per_account) = (size.numbers / size.trunks, size.trunks / size.accounts);
    let agent = |index: u64| Agent {
        id: agent_id(index).into(),
        account: account(index).into(),
        name: "agent".into(),
        socket: Some(
            AgentSocket {
                url: "wss://agent.example/ws/{execution_id}".to_owned(),
                dialect: DialectConfig::new(DialectKind::Asterisk),
                headers: vec![("Authorization".to_owned(), "Bearer 0123456789".to_owned())],
                subprotocol: None,
                parameters: Vec::new(),
                on_close: OnClose::Drain,
                fallback_url: None,
            }
            .into(),
        ),
        rules: AgentRules::default(),
    };
    let trunk = |index: u64| {
        let owner = account((index / per_account).min(size.accounts - 1));
        let mut trunk = Trunk::new(trunk_id(index), owner, format!("trunk {index}"));
        trunk.inbound_enabled = true;
        trunk.sources.push(network(index).parse().expect("a range"));
        trunk
    };
    let number = |index: u64| {
        let trunk = (index / per_trunk).min(size.trunks - 1);
        let owner = (trunk / per_account).min(size.accounts - 1);
        Number {
            id: format!("01JD0NUM{index:018}").into(),
            account: account(owner).into(),
            trunk: trunk_id(trunk).into(),
            number: dialled(index),
            destination_key: None,
            is_active: true,
            agent: Some(agent_id(owner).into()),
            is_for_pstn: false,
        }
    };
    // One after another, so that what is measured is the table and not what it was made of.
    let mut table = RoutingTable::default();
    (0..size.trunks).for_each(|index| table.put_trunk(trunk(index)));
    (0..size.accounts).for_each(|index| table.put_agent(agent(index)));
    (0..size.numbers).for_each(|index| table.put_number(number(index)));
    table
}

fn dialled(index: u64) -> String {
    format!("+91{}", 1_000_000_000 + index)
}

fn network(trunk: u64) -> String {
    if trunk.is_multiple_of(10) {
        return "192.0.2.0/24".to_owned();
    }
    format!("10.{}.{}.{}/28", trunk / 4_096, trunk / 16 % 256, trunk % 16 * 16)
}

/// In one piece, as an INVITE that has just been read is in the caches.
struct Question {
    source: SocketAddr,
    uri: [u8; 29],
    user: [u8; 12],
}

/// What is asked of a table that has ten numbers a trunk.
fn questions(numbers: u64) -> Vec<Question> {
    (0..QUESTIONS)
        .map(|place| {
            let number = place.wrapping_mul(2_654_435_761) % numbers;
            let range = network(number / 10);
            let address: Ipv4Addr =
                range.split('/').next().and_then(|text| text.parse().ok()).expect("an address");
            let user = dialled(number);
            let uri = format!("sip:{}@198.51.100.1", &user[1..]);
            Question {
                source: SocketAddr::from((address, 5060)),
                uri: uri.into_bytes().try_into().expect("twelve digits"),
                user: user.into_bytes()[1..].try_into().expect("twelve digits"),
            }
        })
        .collect()
}

/// Nanoseconds of one decision.
fn decide(table: &RoutingTable, questions: &[Question]) -> f64 {
    let began = Instant::now();
    for question in questions {
        let query = Query {
            source: question.source,
            transport: tandem_sip::Transport::Udp,
            request_uri: &question.uri,
            request_user: &question.user,
            to: &question.uri,
            to_user: &question.user,
            from: b"<sip:+4930123@carrier.example>;tag=1",
            sip_call_id: b"0123456789@carrier.example",
            user_agent: b"carrier 1.0",
            offer: OfferSummary::Audio {
                codecs: [tandem_media::Codec::PCMU].into_iter().collect(),
                is_plain: true,
                keyed: KeyedAudio::Absent,
            },
        };
        let decision = black_box(route::evaluate(&query, table, &Authentication::Absent));
        assert!(matches!(decision.action, Action::Connect(_)), "{:?} is connected", question.user);
    }
    began.elapsed().as_nanos() as f64 / questions.len() as f64
}

/// Nanoseconds of the question that every datagram's source is asked.
fn know(table: &RoutingTable, questions: &[Question]) -> f64 {
    let began = Instant::now();
    for question in questions {
        assert!(black_box(table.knows_source(question.source.ip())), "{} is known", question.source);
    }
    began.elapsed().as_nanos() as f64 / questions.len() as f64
}

/// What a number more costs: the next snapshot beside one that is still held.
fn change(mut table: RoutingTable, size: Size) {
    const CHANGES: u64 = 2_000;
    let began = Instant::now();
    for change in 0..CHANGES {
        let mut next = table.clone();
        let trunk = change.wrapping_mul(2_654_435_761) % size.trunks;
        next.put_number(Number {
            id: format!("01JD0NEW{change:018}").into(),
            account: account(trunk / (size.trunks / size.accounts)).into(),
            trunk: trunk_id(trunk).into(),
            number: format!("+49{}", 1_000_000_000 + change),
            destination_key: None,
            is_active: true,
            agent: None,
            is_for_pstn: false,
        });
        table = next;
    }
    println!(
        "a number into the next snapshot: {:.1} µs",
        began.elapsed().as_secs_f64() * 1e6 / CHANGES as f64
    );
    black_box(table);
}
