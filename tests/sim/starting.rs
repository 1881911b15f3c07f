//! A node that has just started: calls come while its table is still being read.

use std::time::Duration;

use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, Lose, after_answer};
use tandem_tests::operator::OperatorAct;
use tandem_tests::swarm::{NUMBER, Plan};

use crate::{quiet, run, status_of, verdict_of};

/// When everything is read.
const WHOLE: Duration = Duration::from_secs(9);

fn starting() -> Plan {
    let mut plan = quiet();
    plan.operator.push((Duration::ZERO, OperatorAct::Restart));
    plan.operator.push((WHOLE, OperatorAct::Reload));
    plan
}

fn call(place: u16, number: &str) -> CallPlan {
    let mut call = CallPlan::plain(0, place, number).with(vec![after_answer(2_000, Act::Bye)]);
    call.start = Duration::from_secs(1);
    call
}

/// A number that is there is called at once, with its audio both ways, though most of the table is not read yet; a
/// number that nobody has is refused when that is sure, and not before.
#[test]
fn calls_are_connected_before_the_table_is_whole_and_refused_by_the_whole_one() {
    let report = run(starting().call(call(0, NUMBER)).call(call(1, "+19990000000")));
    let (connected, refused) = (&report.calls[0], &report.calls[1]);
    assert_eq!((status_of(connected, "INVITE"), verdict_of(connected)), (Some(200), "accepted"));
    assert_eq!(connected.outcome.ending, Some(Ending::Caller));
    assert!(connected.egress.as_ref().expect("RTP").packets > 70);
    assert_eq!(refused.outcome.ending, Some(Ending::Refused(404)));
    assert_eq!(verdict_of(refused), "number_unknown");
    let answered = connected.outcome.answered_at.expect("an answer");
    let ended = refused.outcome.ended_at.expect("a refusal");
    assert!(ended > answered + Duration::from_secs(6), "the refusal waited for the table");
}

/// Repeats and losses of the INVITE make one call of one INVITE.
#[test]
fn an_invite_repeated_while_it_waits_is_one_call() {
    let mut lossy = call(0, NUMBER);
    lossy.lose.push(Lose { to_tandem: false, what: "100 INVITE", count: 1 });
    lossy.lose.push(Lose { to_tandem: true, what: "INVITE", count: 2 });
    let report = run(starting().call(lossy));
    assert_eq!(report.calls[0].verdicts.len(), 1);
    assert_eq!(status_of(&report.calls[0], "INVITE"), Some(200));
}
