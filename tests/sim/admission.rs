//! Admission: limits, drain, and configuration that changes in mid-call.

use std::time::Duration;

use tandem_call::HangupReason;
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, after_answer};
use tandem_tests::operator::OperatorAct;
use tandem_tests::swarm::{NUMBER, Plan};

use crate::{quiet, run, status_of, verdict_of};

fn calls(count: u16) -> Plan {
    let mut plan = quiet();
    for index in 0..count {
        let mut call = CallPlan::plain(0, 0x1200 + index, NUMBER);
        call.start = Duration::from_millis(10 + 100 * u64::from(index));
        plan.calls.push(call);
    }
    plan
}

/// The node's limit: the call too many is told 503, and the next is taken again when there is room.
#[test]
fn a_full_node_says_503() {
    let mut plan = calls(3);
    plan.calls_max = Some(2);
    let mut late = CallPlan::plain(0, 0x12f0, NUMBER);
    late.start = Duration::from_secs(6);
    let report = run(plan.call(late));
    let statuses: Vec<_> = report.calls.iter().map(|call| status_of(call, "INVITE")).collect();
    assert_eq!(statuses, [Some(200), Some(200), Some(503), Some(200)]);
    assert_eq!(verdict_of(&report.calls[2]), "node_calls_reached");
}

/// A trunk's limit is told 486: one tenant's full trunk must not turn a carrier away from the node.
#[test]
fn a_full_trunk_says_486() {
    let mut plan = calls(3);
    plan.carriers[0].calls_max = Some(1);
    let report = run(plan);
    let statuses: Vec<_> = report.calls.iter().map(|call| status_of(call, "INVITE")).collect();
    assert_eq!(statuses, [Some(200), Some(486), Some(486)]);
}

/// No port, no call: 503, and the ports that rest come back.
#[test]
fn without_ports_there_is_503() {
    let mut plan = calls(3);
    plan.ports = 2;
    let report = run(plan);
    assert_eq!(status_of(&report.calls[2], "INVITE"), Some(503));
    assert_eq!(verdict_of(&report.calls[2]), "media_unavailable");
}

/// Drain: new calls are told 503, those under way finish.
#[test]
fn drain_lets_calls_finish_and_takes_no_new_ones() {
    let mut plan = calls(2);
    plan.calls[1].start = Duration::from_secs(2);
    plan.operator.push((Duration::from_secs(1), OperatorAct::Drain(Duration::from_secs(30))));
    let report = run(plan);
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
    assert_eq!(report.calls[1].outcome.ending, Some(Ending::Refused(503)));
    assert_eq!(verdict_of(&report.calls[1]), "draining");
}

/// The bound of a drain ends what is left, by BYE.
#[test]
fn the_bound_of_a_drain_ends_calls() {
    let mut plan = calls(1);
    plan.calls[0].steps = vec![after_answer(20_000, Act::Bye)];
    plan.operator.push((Duration::from_secs(1), OperatorAct::Drain(Duration::from_secs(2))));
    let report = run(plan);
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Tandem));
    let record = report.calls[0].record.as_ref().expect("a record");
    assert_eq!(record.hangup_reason, Some(HangupReason::NodeDrained));
}

/// A new routing table touches no call under way; the next INVITE sees it.
#[test]
fn a_new_routing_table_is_for_new_calls_only() {
    let mut plan = calls(2);
    plan.calls[1].start = Duration::from_secs(2);
    plan.operator.push((Duration::from_millis(1500), OperatorAct::Unplug));
    let report = run(plan);
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
    assert!(matches!(report.calls[1].outcome.ending, Some(Ending::Refused(403 | 404))));
}

/// A hang-up through the API ends the call by BYE, or its INVITE if it was not answered yet.
#[test]
fn a_commanded_hang_up_ends_the_call_in_every_phase() {
    for at in [5, 12, 20, 33, 35, 40, 500] {
        let mut plan = calls(1);
        plan.operator.push((Duration::from_millis(at), OperatorAct::HangUp(0)));
        let report = run(plan);
        assert!(report.calls[0].record.is_some(), "{at} ms");
    }
}
