//! What an account and an agent's owner allow, held against live INVITEs: the balance, who calls and how often, how long.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use tandem_call::{AgentRules, CallStatus, EngineConfig, HangupReason, Input, RoutingTable, VerdictCode};

use crate::desk::{Caller, Desk, house_with_rules};

fn house_of(rules: &AgentRules) -> RoutingTable {
    house_with_rules(|_| (), rules)
}

fn desk_of(rules: AgentRules) -> Desk {
    Desk::with(EngineConfig::default(), house_of(&rules))
}

/// One call set up and ended by its caller, told apart from others by `name`.
fn whole_call(desk: &mut Desk, name: &str) {
    let mut caller = Caller::new();
    caller.call_id = format!("{name}@carrier");
    caller.set_up(desk);
    caller.send(desk, "BYE", None);
}

fn refused_call(desk: &mut Desk, name: &str) {
    let mut caller = Caller::new();
    caller.call_id = format!("{name}@carrier");
    caller.send_invite(desk);
}

#[test]
fn a_caller_gets_as_many_answered_calls_as_its_agent_allows() {
    let rules = AgentRules { inbound_limit: Some(2), ..AgentRules::default() };
    let mut desk = desk_of(rules.clone());
    whole_call(&mut desk, "one");
    whole_call(&mut desk, "two");
    refused_call(&mut desk, "three");
    assert!(desk.last("403").starts_with("SIP/2.0 403"));
    let verdict = desk.verdicts.last().unwrap();
    assert_eq!((verdict.code, verdict.status), (VerdictCode::CallerLimitReached, 403));
    let step = verdict.trace.last().unwrap();
    assert!(step.detail.contains("inbound_limit is 2, and 2 calls of this caller"), "{}", step.detail);
    assert_eq!(desk.records.len(), 2);
    // The bound is raised; what was counted still counts.
    let raised = AgentRules { inbound_limit: Some(3), ..rules };
    desk.input(Input::Routing(Arc::new(house_of(&raised))));
    whole_call(&mut desk, "four");
    refused_call(&mut desk, "five");
    assert_eq!(desk.verdicts.last().unwrap().code, VerdictCode::CallerLimitReached);
}

#[test]
fn calls_answered_before_this_node_started_count_too() {
    let rules = AgentRules { inbound_limit: Some(2), ..AgentRules::default() };
    let mut table = house_of(&rules);
    table.set_answered("ga".into(), BTreeMap::from([("4930123".to_owned(), 1)]));
    let mut desk = Desk::with(EngineConfig::default(), table);
    whole_call(&mut desk, "one");
    refused_call(&mut desk, "two");
    assert_eq!(desk.verdicts.last().unwrap().code, VerdictCode::CallerLimitReached);
}

#[test]
fn a_call_given_up_before_the_answer_does_not_count() {
    let mut desk = desk_of(AgentRules { inbound_limit: Some(1), ..AgentRules::default() });
    desk.agent = crate::desk::AgentMood::Silent;
    let caller = Caller::new();
    caller.send_invite(&mut desk);
    caller.send_cancel(&mut desk);
    desk.agent = crate::desk::AgentMood::Answers;
    whole_call(&mut desk, "again");
    assert_eq!(desk.records.last().unwrap().status, CallStatus::Completed);
}

#[test]
fn unknown_callers_are_refused_and_those_of_the_whitelist_are_not() {
    let mut rules = AgentRules { disallow_unknown: true, inbound_limit: Some(0), ..AgentRules::default() };
    let mut desk = desk_of(rules.clone());
    refused_call(&mut desk, "one");
    assert_eq!(desk.verdict().code, VerdictCode::CallerNotAllowed);
    assert!(desk.verdict().remedy.contains("whitelist_phone_numbers"));
    rules.whitelist = BTreeSet::from(["4930123".to_owned()]);
    let mut desk = desk_of(rules);
    whole_call(&mut desk, "two");
    assert_eq!(desk.record().status, CallStatus::Completed);
}

#[test]
fn a_call_ends_when_its_agents_longest_duration_is_over() {
    let mut desk =
        desk_of(AgentRules { max_duration: Some(Duration::from_secs(90)), ..AgentRules::default() });
    let mut caller = Caller::new();
    caller.set_up(&mut desk);
    desk.advance(Duration::from_secs(91));
    assert!(desk.lines().iter().any(|line| line.starts_with("BYE ")));
    let record = desk.record();
    assert_eq!(record.hangup_reason, Some(HangupReason::MaximumDuration));
    assert!(record.duration_ms() <= 90_500, "{}", record.duration_ms());
}

#[test]
fn an_account_whose_balance_is_used_up_gets_no_calls_and_a_record_of_each() {
    let mut table = house_of(&AgentRules::default());
    table.set_exhausted("a".into(), true);
    let mut desk = Desk::with(EngineConfig::default(), table.clone());
    refused_call(&mut desk, "one");
    assert!(desk.last("480").starts_with("SIP/2.0 480"));
    let (verdict, record) = (desk.verdict().clone(), desk.record().clone());
    assert_eq!((verdict.code, verdict.call), (VerdictCode::BalanceLow, Some(record.id)));
    assert_eq!((record.status, record.account.as_str()), (CallStatus::BalanceLow, "a"));
    assert_eq!((record.from.as_str(), record.to.as_str()), ("+4930123", "+918047102030"));
    assert_eq!(record.sip_status, Some(480));
    table.set_exhausted("a".into(), false);
    desk.input(Input::Routing(Arc::new(table)));
    whole_call(&mut desk, "two");
    assert_eq!(desk.records.last().unwrap().status, CallStatus::Completed);
}
