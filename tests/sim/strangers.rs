//! Strangers: requests and RTP from addresses that are not the call's (test-material: what attackers do).

use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, after_answer};
use tandem_tests::swarm::NUMBER;

use crate::{quiet, run};

fn call(act: Act) -> CallPlan {
    CallPlan::plain(0, 0x1301, NUMBER).with(vec![after_answer(700, act), after_answer(3000, Act::Bye)])
}

/// BYE and re-INVITE with the right tags from a foreign address are refused, and the call lives on.
#[test]
fn a_strangers_request_has_no_effect() {
    for act in [Act::StrangerBye, Act::StrangerReinvite] {
        let report = run(quiet().call(call(act.clone())));
        assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller), "{act:?}");
        let blocks = report.calls[0].ingress.as_ref().expect("an agent").blocks;
        assert!(blocks > 1100, "{act:?}: {blocks} blocks");
    }
}

/// RTP from a stranger is neither heard nor answered, from the first packet on and in mid-call.
#[test]
fn a_strangers_rtp_is_neither_heard_nor_answered() {
    for at in [0, 5, 700] {
        let steps = vec![after_answer(at, Act::StrangerRtp(50)), after_answer(3000, Act::Bye)];
        let report = run(quiet().call(CallPlan::plain(0, 0x1302, NUMBER).with(steps)));
        assert!(report.calls[0].ingress.as_ref().expect("an agent").blocks > 1100);
        let record = report.calls[0].record.as_ref().expect("a record");
        assert_eq!(record.media.packets_from_strangers, 50, "at {at} ms");
    }
}

/// Rubbish on the RTP port from the caller's own address is counted and dropped.
#[test]
fn rubbish_on_the_media_port_is_dropped() {
    let report = run(quiet().call(call(Act::RubbishRtp(100))));
    assert!(report.calls[0].ingress.as_ref().expect("an agent").blocks > 1000);
}

/// A carrier without a trunk is told 403 and nothing of what exists.
#[test]
fn a_source_without_a_trunk_is_refused() {
    let mut plan = quiet();
    plan.carriers.push(plan.carriers[0].clone());
    // Carrier 1 dials the number of carrier 0's trunk.
    let report = run(plan.call(CallPlan::plain(1, 0x1303, NUMBER)));
    assert!(matches!(report.calls[0].outcome.ending, Some(Ending::Refused(403 | 404))));
    assert!(report.calls[0].record.is_none());
}
