//! Ends: BYE in every race, lost ACK, lost 200 (RFC 3261 13.3.1.4, 15; RFC 5407 3).

use std::time::Duration;

use tandem_call::{CallStatus, HangupBy};
use tandem_tests::agent::plan::Turn;
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{AckPlan, Act, CallPlan, Lose, after_answer, after_ringing};
use tandem_tests::operator::OperatorAct;
use tandem_tests::swarm::NUMBER;

use crate::{quiet, run, status_of, statuses_of};

fn plain() -> CallPlan {
    CallPlan::plain(0, 0x0b2e, NUMBER)
}

/// RFC 5407 3.1.1: a BYE that overtakes the ACK ends the call, and the late ACK is absorbed.
#[test]
fn bye_before_ack_ends_the_call() {
    let mut call = plain().with(vec![after_answer(100, Act::Bye)]);
    call.ack = AckPlan::Late(Duration::from_millis(400));
    let report = run(quiet().call(call));
    assert_eq!(statuses_of(&report.calls[0], "BYE"), [200]);
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
}

/// RFC 3261 15: BYE in the early dialog is the caller's right; the INVITE ends with 487.
#[test]
fn bye_in_the_early_dialog_ends_the_call() {
    let mut plan = quiet();
    plan.agents[0].connect = tandem_tests::agent::plan::Connect::After(Duration::from_secs(2));
    let report = run(plan.call(plain().with(vec![after_ringing(100, Act::ByeNow)])));
    let call = &report.calls[0];
    assert_eq!((status_of(call, "BYE"), status_of(call, "INVITE")), (Some(200), Some(487)));
}

/// RFC 5407 3.2: both sides say BYE at once; both get 200 and one record is written.
#[test]
fn both_sides_bye_at_once() {
    for offset in 0..14 {
        let mut plan = quiet();
        plan.operator.push((Duration::from_millis(1050), OperatorAct::HangUp(0)));
        let report = run(plan.call(plain().with(vec![after_answer(985 + offset, Act::Bye)])));
        let call = &report.calls[0];
        assert!(call.record.is_some(), "offset {offset}");
        assert_eq!(statuses_of(call, "BYE").iter().filter(|status| **status == 200).count().max(1), 1);
    }
}

/// The agent hangs up; the caller gets BYE and the record names the callee.
#[test]
fn the_agents_hang_up_becomes_bye() {
    let mut plan = quiet();
    plan.agents[0].turns.push((Duration::from_millis(1500), Turn::HangUp));
    let report = run(plan.call(plain()));
    let call = &report.calls[0];
    assert_eq!(call.outcome.ending, Some(Ending::Tandem));
    assert_eq!(call.outcome.requests, ["BYE"]);
    let record = call.record.as_ref().expect("a record");
    assert_eq!((record.status, record.hangup_by), (CallStatus::Completed, Some(HangupBy::Callee)));
}

/// Our BYE and its answers may be lost; the call ends all the same.
#[test]
fn a_lost_bye_is_repeated() {
    for (to_tandem, what) in [(false, "BYE"), (true, "200 BYE")] {
        let mut plan = quiet();
        plan.agents[0].turns.push((Duration::from_millis(1000), Turn::HangUp));
        let mut call = plain().with(vec![after_answer(20_000, Act::Bye)]);
        call.lose.push(Lose { to_tandem, what, count: 4 });
        let report = run(plan.call(call));
        assert_eq!(report.calls[0].outcome.ending, Some(Ending::Tandem), "{what}");
    }
}

/// RFC 3261 13.3.1.4: a lost ACK makes the 200 come again until one gets through; the call is none the worse.
#[test]
fn a_lost_ack_makes_the_200_come_again() {
    let mut call = plain().with(vec![after_answer(9000, Act::Bye)]);
    call.lose.push(Lose { to_tandem: true, what: "ACK", count: 4 });
    let report = run(quiet().call(call));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
}

/// A lost 200 comes again and is acknowledged.
#[test]
fn a_lost_200_comes_again() {
    let mut call = plain();
    call.lose.push(Lose { to_tandem: false, what: "200 INVITE", count: 3 });
    let report = run(quiet().call(call));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [200]);
}

/// RFC 3261 13.3.1.4: without any ACK the 200 repeats for 64*T1 and BYE follows.
#[test]
fn without_any_ack_the_call_is_ended_by_bye() {
    let mut call = plain().with(vec![after_answer(60_000, Act::Bye)]);
    call.ack = AckPlan::Never;
    let report = run(quiet().call(call));
    let call = &report.calls[0];
    assert_eq!(call.outcome.ending, Some(Ending::Tandem));
    assert_ne!(call.record.as_ref().expect("a record").status, CallStatus::Completed);
}

/// ACKs may come twice and again at any time.
#[test]
fn repeated_acks_are_absorbed() {
    let steps = vec![
        after_answer(100, Act::RepeatAck),
        after_answer(1500, Act::RepeatAck),
        after_answer(2000, Act::Bye),
    ];
    let mut call = plain().with(steps);
    call.ack = AckPlan::Twice;
    run(quiet().call(call));
}

/// A caller that forgets its call is missed by the silence of its RTP, and BYE is given up after 64*T1.
#[test]
fn a_caller_that_forgets_is_ended_by_the_media_timeout() {
    let report = run(quiet().call(plain().with(vec![after_answer(1000, Act::Forget)])));
    let record = report.calls[0].record.as_ref().expect("a record");
    assert!(record.duration_ms() > 25_000, "{} ms", record.duration_ms());
}
