//! Session timers: refreshed by either side, or expired (RFC 4028).

use std::time::Duration;
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, Change, Refresher, after_answer};
use tandem_tests::swarm::NUMBER;

use crate::{quiet, run, statuses_of};

fn timed(refresher: Refresher, steps: Vec<tandem_tests::carrier::script::Step>) -> CallPlan {
    let mut call = CallPlan::plain(0, 0x0c01, NUMBER).with(steps);
    call.session_timer = Some((90, refresher));
    call
}

/// RFC 4028 9: where Tandem is the refresher, it refreshes at half the interval, every time.
#[test]
fn tandem_refreshes_at_half_the_interval() {
    let mut plan = quiet();
    plan.heal_at = Duration::from_secs(20);
    let report = run(plan.call(timed(Refresher::Tandem, vec![after_answer(140_000, Act::Bye)])));
    let requests = &report.calls[0].outcome.requests;
    assert!(requests.len() >= 2, "refreshes: {requests:?}");
    assert!(requests.iter().all(|method| method == "UPDATE" || method == "INVITE"), "{requests:?}");
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
}

/// RFC 4028 10: where the caller promised to refresh and does not, BYE comes before the session expires.
#[test]
fn an_unrefreshed_session_is_ended() {
    let report = run(quiet().call(timed(Refresher::Caller, vec![after_answer(200_000, Act::Bye)])));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Tandem));
    let lasted = report.calls[0].record.as_ref().expect("a record").duration_ms();
    // 90 s less the smaller of 32 s and a third.
    assert!((59_000..91_000).contains(&lasted), "{lasted} ms");
}

/// The caller's refreshes, by re-INVITE and by UPDATE, keep the session.
#[test]
fn the_callers_refreshes_keep_the_session() {
    for act in [Act::Reinvite(Change::Refresh), Act::Update(Change::Refresh)] {
        let steps = vec![
            after_answer(45_000, act.clone()),
            after_answer(90_000, act.clone()),
            after_answer(120_000, Act::Bye),
        ];
        let report = run(quiet().call(timed(Refresher::Caller, steps)));
        assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
        let method = if matches!(act, Act::Update(_)) { "UPDATE" } else { "INVITE" };
        assert!(statuses_of(&report.calls[0], method).iter().all(|status| *status == 200));
    }
}

/// RFC 4028 5 and 8.1: an interval below our minimum is refused with 422 and Min-SE.
#[test]
fn too_short_an_interval_is_refused() {
    let mut call = timed(Refresher::Caller, vec![after_answer(1000, Act::Bye)]);
    call.session_timer = Some((20, Refresher::Caller));
    let report = tandem_tests::world::World::new(quiet().call(call), None).run();
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Refused(422)), "{report}");
}

/// RFC 4028 9: a caller that keeps its promise by itself, by UPDATE and re-INVITE in turn, is never hung up on.
#[test]
fn a_caller_that_refreshes_by_itself_keeps_its_session() {
    let mut call = timed(Refresher::Caller, vec![after_answer(400_000, Act::Bye)]);
    call.refreshes = true;
    let report = run(quiet().call(call));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
    let refreshes =
        statuses_of(&report.calls[0], "UPDATE").len() + statuses_of(&report.calls[0], "INVITE").len() - 1;
    assert!((8..=9).contains(&refreshes), "400 s at 45 s each: {refreshes}");
}
