//! Watching gateways: who is asked when, what makes one down, and that one that is down is tried last.

use std::time::Duration;

use tandem_call::{EngineConfig, Gateway, GatewayHealth, GatewayState, Input, Trunk};

use crate::desk::{Desk, house_with};

const INTERVAL: Duration = Duration::from_secs(60);
/// 64*T1: when a question is given up (RFC 3261 17.1.2.2).
const GIVEN_UP: Duration = Duration::from_secs(32);

fn gateway(address: &str, priority: u32) -> Gateway {
    Gateway { address: address.to_owned(), port: Some(5060), priority, weight: 1, transport: None }
}

/// A desk whose trunk `ta` has these gateways and is watched.
fn desk(gateways: &[&str]) -> Desk {
    desk_with(gateways, |_| {})
}

fn desk_with(gateways: &[&str], change: impl FnOnce(&mut Trunk)) -> Desk {
    let mut desk = Desk::with(EngineConfig::default(), house(gateways, change));
    desk.input(Input::TrunksChanged(vec!["ta".into()]));
    desk
}

fn house(gateways: &[&str], change: impl FnOnce(&mut Trunk)) -> tandem_call::RoutingTable {
    house_with(|trunks| {
        trunks[0].gateways =
            gateways.iter().enumerate().map(|(at, address)| gateway(address, at as u32)).collect();
        trunks[0].qualify_frequency_s = 60;
        change(&mut trunks[0]);
    })
}

/// What is known of the gateway of this address.
fn health(desk: &Desk, address: &str) -> Option<GatewayHealth> {
    let found = desk.gateways.iter().find(|(key, _)| key.host == address);
    found.and_then(|(_, health)| health.clone())
}

fn state(desk: &Desk, address: &str) -> GatewayState {
    health(desk, address).map_or(GatewayState::Unknown, |health| health.state)
}

/// How many OPTIONS left for this address since the last look.
fn asked(desk: &mut Desk, address: &str) -> usize {
    desk.lines().iter().filter(|line| line.starts_with(&format!("OPTIONS sip:{address}:5060"))).count()
}

/// Answers the latest question.
fn answer(desk: &mut Desk, address: &str, status: &str) {
    let question = desk.last("OPTIONS sip:");
    let line = |name: &str| {
        question.lines().find(|line| line.starts_with(name)).expect("a whole request").to_owned()
    };
    let response = format!(
        "SIP/2.0 {status}\r\n{}\r\n{}\r\n{};tag=far\r\n{}\r\n{}\r\nContent-Length: 0\r\n\r\n",
        line("Via:"),
        line("From:"),
        line("To:"),
        line("Call-ID:"),
        line("CSeq:")
    );
    desk.receive(&format!("{address}:5060"), &response);
}

/// RFC 3261 11.1: a whole OPTIONS; any final answer is a sign of life, and its time is kept.
#[test]
fn a_gateway_that_answers_anything_is_up() {
    for status in
        ["200 OK", "404 Not Found", "405 Method Not Allowed", "503 Service Unavailable", "401 Unauthorized"]
    {
        let mut desk = desk(&["192.0.2.101"]);
        desk.advance(Duration::from_secs(1));
        let question = desk.last("OPTIONS sip:192.0.2.101:5060");
        for header in
            ["Max-Forwards: 70", "To: <sip:192.0.2.101>", "Contact: <sip:", "Accept: application/sdp"]
        {
            assert!(question.contains(header), "{header}: {question}");
        }
        assert_eq!(state(&desk, "192.0.2.101"), GatewayState::Unknown);
        let before = desk.now;
        desk.advance(Duration::from_millis(30));
        answer(&mut desk, "192.0.2.101", status);
        let health = health(&desk, "192.0.2.101").expect("it is known");
        assert_eq!(
            (health.state, health.sip_status),
            (GatewayState::Up, status[..3].parse().ok()),
            "{status}"
        );
        let waited = health.round_trip.expect("it was measured");
        assert!(waited >= desk.now - before && waited < Duration::from_secs(2), "{waited:?}");
        assert_eq!(desk.engine.census().questions, 0);
    }
}

/// Questions come at the interval, a tenth sooner or later.
#[test]
fn a_gateway_is_asked_at_its_interval() {
    const GLANCE: Duration = Duration::from_millis(50);
    let mut desk = desk(&["192.0.2.101"]);
    let (mut last, mut pauses) = (None, Vec::new());
    while pauses.len() < 20 {
        desk.sent.clear();
        desk.advance(GLANCE);
        if desk.sent.is_empty() {
            continue;
        }
        pauses.extend(last.replace(desk.now).map(|last| desk.now - last));
        answer(&mut desk, "192.0.2.101", "200 OK");
    }
    let bounds = INTERVAL * 9 / 10 - GLANCE..=INTERVAL * 11 / 10 + GLANCE;
    assert!(pauses.iter().all(|pause| bounds.contains(pause)), "{pauses:?}");
    let spread = *pauses.iter().max().unwrap() - *pauses.iter().min().unwrap();
    assert!(spread > Duration::from_secs(2), "what began together does not stay together: {pauses:?}");
}

/// One lost answer tells nothing; two do. The first answer makes it up again.
#[test]
fn silence_twice_is_down_and_one_answer_is_up() {
    let mut desk = desk(&["192.0.2.101"]);
    desk.advance(Duration::from_secs(1));
    answer(&mut desk, "192.0.2.101", "200 OK");
    desk.advance(INTERVAL * 11 / 10 + GIVEN_UP + Duration::from_millis(10));
    let once = health(&desk, "192.0.2.101").expect("known");
    assert_eq!(once.state, GatewayState::Up, "{once:?}");
    assert_eq!(once.cause, "it does not answer OPTIONS");
    // It is asked again soon, not only after the interval.
    desk.advance(Duration::from_secs(6) + GIVEN_UP);
    let twice = health(&desk, "192.0.2.101").expect("known");
    assert_eq!((twice.state, twice.round_trip, twice.sip_status), (GatewayState::Down, None, None));
    desk.sent.clear();
    desk.advance(INTERVAL * 11 / 10);
    answer(&mut desk, "192.0.2.101", "200 OK");
    assert_eq!(state(&desk, "192.0.2.101"), GatewayState::Up);
    assert!(health(&desk, "192.0.2.101").is_some_and(|health| health.since_unix_ms > twice.since_unix_ms));
}

/// A name that does not resolve is a failure with words that say so.
#[test]
fn a_name_without_an_address_is_a_failure() {
    let mut desk = desk(&["sip.carrier.example"]);
    desk.advance(Duration::from_secs(10));
    let told = health(&desk, "sip.carrier.example").expect("known");
    assert_eq!(told.state, GatewayState::Down);
    assert!(told.cause.contains("does not resolve"), "{told:?}");
    desk.names.insert("sip.carrier.example".to_owned(), vec!["192.0.2.101:5060".parse().unwrap()]);
    desk.advance(INTERVAL * 11 / 10);
    answer(&mut desk, "192.0.2.101", "200 OK");
    assert_eq!(state(&desk, "sip.carrier.example"), GatewayState::Up);
}

/// Of a name with several addresses each is asked before it is called silent, and the one that answered is told.
#[test]
fn one_address_of_a_name_that_answers_is_enough() {
    let mut desk = desk(&["sip.carrier.example"]);
    let places = ["192.0.2.101:5060", "192.0.2.102:5060"].map(|text| text.parse().unwrap());
    desk.names.insert("sip.carrier.example".to_owned(), places.to_vec());
    desk.advance(Duration::from_secs(1));
    desk.advance(GIVEN_UP);
    answer(&mut desk, "192.0.2.102", "200 OK");
    let told = health(&desk, "sip.carrier.example").expect("known");
    assert_eq!((told.state, told.place.map(|(_, place)| place)), (GatewayState::Up, Some(places[1])));
    assert!(told.round_trip.is_some_and(|time| time < Duration::from_secs(2)), "{told:?}");
    assert_eq!(desk.engine.census().questions, 0);
}

/// 0 turns it off; so do the trunk's switch and its deletion. What is under way then tells nothing.
#[test]
fn who_is_not_to_be_watched_is_not_asked() {
    let mut off = desk_with(&["192.0.2.101"], |trunk| trunk.qualify_frequency_s = 0);
    off.advance(Duration::from_secs(300));
    assert_eq!(asked(&mut off, "192.0.2.101"), 0);
    for change in [|trunk: &mut Trunk| trunk.is_active = false, |trunk: &mut Trunk| trunk.gateways.clear()] {
        let mut desk = desk(&["192.0.2.101"]);
        desk.advance(Duration::from_secs(1));
        assert_eq!(desk.engine.census().questions, 1);
        let table = house(&["192.0.2.101"], change);
        desk.input(Input::Routing(std::sync::Arc::new(table)));
        desk.input(Input::TrunksChanged(vec!["ta".into()]));
        assert_eq!((desk.engine.census().questions, health(&desk, "192.0.2.101")), (0, None));
        answer(&mut desk, "192.0.2.101", "200 OK");
        desk.sent.clear();
        desk.advance(Duration::from_secs(300));
        assert_eq!(asked(&mut desk, "192.0.2.101"), 0);
        desk.assert_empty();
    }
}

/// A change of something else leaves what is known, and the turn, as they were.
#[test]
fn a_change_elsewhere_leaves_the_watch_alone() {
    let mut desk = desk(&["192.0.2.101"]);
    desk.advance(Duration::from_secs(1));
    answer(&mut desk, "192.0.2.101", "200 OK");
    let known = health(&desk, "192.0.2.101");
    desk.sent.clear();
    let table = house(&["192.0.2.101", "192.0.2.102"], |trunk| trunk.name = "another".into());
    desk.input(Input::Routing(std::sync::Arc::new(table)));
    desk.input(Input::TrunksChanged(vec!["ta".into()]));
    desk.advance(Duration::from_secs(2));
    let lines = desk.lines();
    assert!(lines.iter().all(|line| line.starts_with("OPTIONS sip:192.0.2.102")), "{lines:?}");
    assert_eq!(health(&desk, "192.0.2.101"), known);
}

/// Many trunks that come at once, as at a start, are asked over the whole interval, and never too many at once.
#[test]
fn a_thousand_gateways_are_asked_evenly() {
    let table = house_with(|trunks| {
        let model = trunks[0].clone();
        trunks.extend((0..1000_u32).map(|number| {
            let mut trunk = model.clone();
            trunk.id = format!("t{number}").into();
            trunk.gateways = vec![gateway(&format!("192.0.{}.{}", 2 + number / 250, number % 250 + 1), 1)];
            trunk.qualify_frequency_s = 60;
            trunk
        }));
    });
    let mut desk = Desk::with(EngineConfig::default(), table);
    desk.input(Input::TrunksChanged((0..1000_u32).map(|number| format!("t{number}").into()).collect()));
    let mut histogram = Vec::new();
    for _ in 0..6 {
        desk.sent.clear();
        // Nobody answers: each question is said several times, so distinct ones are counted.
        desk.advance(Duration::from_secs(10));
        let distinct: std::collections::BTreeSet<String> = desk.lines().into_iter().collect();
        histogram.push(distinct.len());
        assert!(desk.engine.census().questions <= 512);
    }
    assert!(histogram[0] > 100 && histogram[0] < 260, "{histogram:?}");
    assert!(desk.gateways.len() > 400, "{histogram:?}");
}

/// Tried last, not never.
#[test]
fn a_call_tries_a_gateway_that_is_down_last() {
    let mut desk = desk(&["192.0.2.101", "192.0.2.102"]);
    for _ in 0..80 {
        desk.advance(Duration::from_secs(1));
        if desk.sent.iter().any(|text| text.starts_with("OPTIONS sip:192.0.2.102")) {
            let position = desk.sent.iter().rposition(|text| text.starts_with("OPTIONS sip:192.0.2.102"));
            let question = desk.sent.remove(position.expect("it is there"));
            desk.sent.push(question);
            answer(&mut desk, "192.0.2.102", "200 OK");
            desk.sent.clear();
        }
    }
    assert_eq!(
        (state(&desk, "192.0.2.101"), state(&desk, "192.0.2.102")),
        (GatewayState::Down, GatewayState::Up)
    );
    desk.sent.clear();
    crate::outbound::place(&mut desk);
    let invites: Vec<String> = desk.lines().into_iter().filter(|line| line.starts_with("INVITE")).collect();
    assert!(invites[0].contains("@192.0.2.102:5060"), "{invites:?}");
}

/// A call that got not a word is as good as a question without an answer; one that was answered is a sign of life.
#[test]
fn calls_tell_the_watch_what_they_found() {
    let mut desk = desk(&["192.0.2.101"]);
    desk.advance(Duration::from_secs(1));
    answer(&mut desk, "192.0.2.101", "200 OK");
    desk.sent.clear();
    crate::outbound::place(&mut desk);
    desk.advance(Duration::from_secs(7));
    let once = health(&desk, "192.0.2.101").expect("known");
    assert_eq!((once.state, once.cause.as_str()), (GatewayState::Up, "a call: not a word came within 6 s"));
    assert!(asked(&mut desk, "192.0.2.101") > 0, "it is asked at once");
    desk.advance(GIVEN_UP);
    assert_eq!(state(&desk, "192.0.2.101"), GatewayState::Down);
    crate::outbound::place_another(&mut desk, 1);
    crate::outbound::respond(&mut desk, "192.0.2.101:5060", "INVITE", "486 Busy Here", "", "");
    let told = health(&desk, "192.0.2.101").expect("known");
    assert_eq!((told.state, told.sip_status), (GatewayState::Up, Some(486)));
}
