//! A start: the table is still being read, calls come already, and none is refused for what was not read yet.

use std::sync::Arc;
use std::time::Duration;

use tandem_call::{Input, RoutingTable, Ticket, Trunk, TrunkAuth, VerdictCode};

use crate::desk::{Caller, Desk, house, house_with};

/// A node whose table is being read.
fn starting() -> Desk {
    let mut desk = Desk::with(tandem_call::EngineConfig::default(), RoutingTable::default());
    desk.input(Input::RoutingFollows);
    desk
}

fn caller(place: usize, user: &str) -> Caller {
    Caller {
        call_id: format!("call-{place}@carrier"),
        uri: format!("sip:{user}@203.0.113.1"),
        ..Caller::new()
    }
}

fn found(desk: &mut Desk, ticket: Ticket, table: RoutingTable) {
    desk.input(Input::RouteFound { ticket, found: Arc::new(table) });
}

fn whole(desk: &mut Desk, table: RoutingTable) {
    desk.input(Input::Routing(Arc::new(table)));
}

#[test]
fn a_number_found_alone_connects_its_call_before_the_table_is_there() {
    let mut desk = starting();
    let caller = Caller::new();
    caller.send_invite(&mut desk);
    assert!(desk.sent.is_empty() && desk.plans.is_empty());
    let (ticket, keys) = desk.sought.pop().unwrap();
    assert_eq!(keys, ["918047102030"]);
    found(&mut desk, ticket, house());
    assert_eq!(desk.lines(), ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]);
    assert_eq!(desk.verdict().code, VerdictCode::Accepted);
    // The next call of the same number is found anew: what was found once is not kept.
    let mut next = Caller { call_id: "call-2@carrier".to_owned(), ..Caller::new() };
    next.send_invite(&mut desk);
    assert!(desk.sent.is_empty());
    assert_eq!(desk.sought.len(), 1);
    whole(&mut desk, house());
    next.take_tag(&desk, "200");
    assert_eq!(desk.plans.len(), 2);
    let counters = desk.engine.counters();
    assert_eq!((counters.waited, counters.found_alone), (2, 1));
}

#[test]
fn nobody_is_refused_or_challenged_before_the_table_is_there() {
    let mut desk = starting();
    let digest = |trunks: &mut Vec<Trunk>| {
        let mut trunk = Trunk::new("td", "d", "digest");
        trunk.inbound_enabled = true;
        trunk.auth = TrunkAuth::user_pass("u", "secret");
        trunks.push(trunk);
    };
    for (place, user) in ["+918047102030", "+14155550100", "+19995550100", "nobody"].iter().enumerate() {
        let mut caller = caller(place, user);
        caller.address = "198.51.100.66:5060";
        caller.send_invite(&mut desk);
    }
    let mut options = caller(9, "any");
    options.send(&mut desk, "OPTIONS", None);
    assert_eq!(desk.sought.len(), 4);
    for (ticket, _) in std::mem::take(&mut desk.sought) {
        found(&mut desk, ticket, house_with(digest));
    }
    assert!(desk.sent.is_empty() && desk.verdicts.is_empty(), "{:?}", desk.sent);
    assert_eq!(desk.engine.census().waiting, 5);
    whole(&mut desk, house_with(digest));
    let mut lines = desk.lines();
    lines.sort();
    assert_eq!(lines[0], "SIP/2.0 200 OK");
    assert_eq!(lines[1..], vec!["SIP/2.0 401 Unauthorized"; 4]);
    desk.assert_empty();
}

#[test]
fn a_repeat_waits_with_the_first_and_a_number_that_is_not_found_waits_for_the_table() {
    let mut desk = starting();
    let caller = caller(0, "+918047102030");
    for _ in 0..4 {
        caller.send_invite(&mut desk);
        desk.advance(Duration::from_millis(500));
    }
    assert_eq!((desk.sought.len(), desk.engine.census().waiting), (1, 1));
    let (ticket, _) = desk.sought.pop().unwrap();
    found(&mut desk, ticket, RoutingTable::default());
    assert_eq!(desk.engine.census().waiting, 1);
    whole(&mut desk, house());
    assert_eq!(desk.lines(), ["SIP/2.0 100 Trying", "SIP/2.0 180 Ringing", "SIP/2.0 200 OK"]);
    assert_eq!(desk.plans.len(), 1);
    // An answer that comes after the table finds nobody waiting.
    found(&mut desk, ticket, house());
    assert_eq!((desk.plans.len(), desk.engine.counters().late_inputs), (1, 1));
}

#[test]
fn who_has_waited_for_32_seconds_has_given_up() {
    let mut desk = starting();
    caller(0, "+918047102030").send_invite(&mut desk);
    caller(1, "+918047102030").send_invite(&mut desk);
    let (second, _) = desk.sought.pop().unwrap();
    desk.advance(Duration::from_secs(33));
    found(&mut desk, second, house());
    caller(2, "+918047102030").send_invite(&mut desk);
    assert_eq!(desk.engine.census().waiting, 1, "those who gave up made room");
    whole(&mut desk, house());
    assert_eq!(desk.plans.len(), 1);
}

#[test]
fn the_room_is_bounded_and_who_finds_none_may_come_again() {
    let mut desk = starting();
    for place in 0..5_000 {
        caller(place, "+918047102030").send_invite(&mut desk);
    }
    assert_eq!(desk.engine.census().waiting, 4_096);
    assert_eq!(desk.engine.counters().turned_from_waiting, 904);
    assert!(desk.sent.is_empty());
    whole(&mut desk, RoutingTable::default());
    assert_eq!(desk.engine.census().waiting, 0);
    assert_eq!(desk.verdicts.len(), 10, "strangers they are by this table, and answered as such");
}

#[test]
fn a_drain_sends_those_who_wait_elsewhere() {
    let mut desk = starting();
    caller(0, "+918047102030").send_invite(&mut desk);
    let until = desk.now + Duration::from_secs(5);
    desk.input(Input::Drain { until });
    caller(1, "+918047102030").send_invite(&mut desk);
    assert_eq!(desk.lines(), vec!["SIP/2.0 503 Service Unavailable"; 2]);
    assert_eq!(desk.engine.census().waiting, 0);
}
