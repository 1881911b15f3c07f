//! SIP over streams: split at every length, pipelined, stalled, broken (RFC 3261 18.3).

use std::time::Duration;

use tandem_sip::Transport;
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, Change, after_answer, after_invite};
use tandem_tests::swarm::NUMBER;

use crate::{quiet, run, statuses_of};

fn call() -> CallPlan {
    let mut call = CallPlan::plain(0, 0x1401, NUMBER);
    call.transport = Transport::Tcp;
    call
}

/// Messages arrive in pieces of every size.
#[test]
fn messages_split_anywhere_are_understood() {
    for chunk in [1, 2, 3, 7, 31, 100, 499, 1400] {
        let mut plan = quiet().call(call());
        plan.carriers[0].sip.chunk = chunk;
        assert_eq!(run(plan).calls[0].outcome.ending, Some(Ending::Caller), "pieces of {chunk}");
    }
}

/// Several messages arrive in one piece: CANCEL right behind INVITE, BYE right behind ACK.
#[test]
fn pipelined_messages_are_understood() {
    let report = run(quiet().call(call().with(vec![after_invite(0, Act::Cancel)])));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [487]);
    let report = run(quiet().call(call().with(vec![after_answer(0, Act::Bye)])));
    assert_eq!(statuses_of(&report.calls[0], "BYE"), [200]);
}

/// A stream that stalls delivers late and in order; nothing is repeated on it but the 200 that RFC 3261 asks for.
#[test]
fn stalls_are_sat_out() {
    for seed in 0..10 {
        let steps = vec![after_answer(800, Act::Reinvite(Change::Refresh)), after_answer(3000, Act::Bye)];
        let mut plan = quiet().call(call().with(steps));
        plan.seed = seed;
        plan.carriers[0].sip.stall = 400;
        plan.carriers[0].sip.stall_for = Duration::from_millis(2500);
        run(plan);
    }
}

/// A connection that breaks in mid-call, while it rings, or right after the INVITE leaves nothing behind.
#[test]
fn a_broken_connection_leaves_nothing_behind() {
    for steps in [
        vec![after_invite(1, Act::Reset)],
        vec![after_invite(15, Act::Reset)],
        vec![after_answer(700, Act::Reset)],
    ] {
        let report = run(quiet().call(call().with(steps)));
        assert_eq!(report.calls[0].outcome.ending, Some(Ending::Forgot));
    }
}
