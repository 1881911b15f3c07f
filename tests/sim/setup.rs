//! Set-up: the answer, cancellation and its races, refusals and their ACKs (RFC 3261 8, 9, 13; RFC 5407 2 and 3.1).

use std::time::Duration;

use tandem_call::{CallStatus, HangupBy};
use tandem_tests::agent::plan::{Connect, Speech};
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{
    AckPlan, Act, CallPlan, Lose, Reliable, Step, When, after_answer, after_invite, after_ringing,
};
use tandem_tests::marks::Mark;
use tandem_tests::swarm::{NUMBER, Plan};

use crate::{quiet, run, status_of, statuses_of, verdict_of};

fn plain() -> CallPlan {
    CallPlan::plain(0, 0x0a11, NUMBER)
}

/// A plain call is answered, echoed bit-exact and recorded, in every dialect.
#[test]
fn a_call_is_answered_and_recorded_in_each_dialect() {
    for speech in Speech::ALL {
        let report = run(Plan::quiet(speech).call(plain()));
        let call = &report.calls[0];
        assert_eq!(status_of(call, "INVITE"), Some(200), "{speech:?}");
        assert_eq!(call.outcome.ending, Some(Ending::Caller));
        assert_eq!(verdict_of(call), "accepted");
        let record = call.record.as_ref().expect("a record");
        assert_eq!((record.status, record.hangup_by), (CallStatus::Completed, Some(HangupBy::Caller)));
        let (ingress, egress) =
            (call.ingress.as_ref().expect("an agent"), call.egress.as_ref().expect("RTP"));
        assert!(ingress.audio_ms > 2900, "{speech:?}: {} ms reached the agent", ingress.audio_ms);
        assert!(egress.packets > 140, "{speech:?}: {} packets left", egress.packets);
        if speech != Speech::Bolna {
            // Three seconds are 1,200 blocks of 20 samples; the buffers at both ends hold some back.
            assert!(ingress.blocks > 1100, "{speech:?}: {} blocks reached the agent", ingress.blocks);
        }
    }
}

/// The number stands in To where the Request-URI names the trunk's user.
#[test]
fn the_number_may_stand_in_to() {
    let mut call = plain();
    call.to = Some(NUMBER.into());
    call.number = "trunk-user".into();
    assert_eq!(status_of(&run(quiet().call(call)).calls[0], "INVITE"), Some(200));
}

/// A number that nobody has is refused, and a lost ACK makes the refusal come again, the same bytes (RFC 3261 17.2.1).
#[test]
fn a_refusal_survives_the_loss_of_its_ack() {
    let mut call = CallPlan::plain(0, 1, "+19990000000");
    call.lose.push(Lose { to_tandem: true, what: "ACK", count: 3 });
    let report = run(quiet().call(call));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Refused(404)));
    assert_eq!(verdict_of(&report.calls[0]), "number_unknown");
}

/// RFC 3261 9.2: CANCEL while it rings ends the INVITE with 487 and the record says who gave up.
#[test]
fn cancel_while_ringing_ends_the_call() {
    for speech in Speech::ALL {
        let mut plan = Plan::quiet(speech);
        plan.agents[0].connect = Connect::After(Duration::from_secs(3));
        let report = run(plan.call(plain().with(vec![after_ringing(500, Act::Cancel)])));
        let call = &report.calls[0];
        assert_eq!((status_of(call, "CANCEL"), status_of(call, "INVITE")), (Some(200), Some(487)));
        let record = call.record.as_ref().expect("a record");
        assert_eq!((record.status, record.hangup_by), (CallStatus::Canceled, Some(HangupBy::Caller)));
        assert_eq!(verdict_of(call), "cancelled_by_caller");
    }
}

/// RFC 5407 3.1.2: wherever CANCEL and 200 cross, one of them wins and the call ends either way.
#[test]
fn cancel_crossing_200_ends_the_call_at_every_offset() {
    let mut seen = (false, false);
    for offset in 0..60 {
        let mut plan = quiet();
        plan.agents[0].connect = Connect::After(Duration::from_millis(30));
        let report = run(plan.call(plain().with(vec![after_invite(offset, Act::Cancel)])));
        let call = &report.calls[0];
        assert_eq!(call.outcome.ending, Some(Ending::Caller), "{offset} ms");
        match status_of(call, "INVITE") {
            Some(200) => seen.0 = true,
            Some(487) => seen.1 = true,
            other => panic!("{other:?} at {offset} ms"),
        }
    }
    assert_eq!(seen, (true, true), "both may win");
}

/// A CANCEL of which every copy and answer may be lost still ends the call.
#[test]
fn a_lost_cancel_is_repeated() {
    let mut plan = quiet();
    plan.agents[0].connect = Connect::After(Duration::from_secs(6));
    let mut call = plain().with(vec![after_ringing(100, Act::Cancel)]);
    call.lose.push(Lose { to_tandem: true, what: "CANCEL", count: 2 });
    call.lose.push(Lose { to_tandem: false, what: "200 CANCEL", count: 1 });
    call.lose.push(Lose { to_tandem: false, what: "487 INVITE", count: 2 });
    let report = run(plan.call(call));
    assert_eq!(status_of(&report.calls[0], "INVITE"), Some(487));
}

/// A repeated INVITE, before and after the answer, changes nothing (RFC 3261 17.2.1, RFC 6026 7.1).
#[test]
fn a_repeated_invite_is_absorbed() {
    let steps = vec![
        after_invite(1, Act::RepeatInvite),
        after_ringing(3, Act::RepeatInvite),
        after_answer(20, Act::RepeatInvite),
        after_answer(1000, Act::RepeatInvite),
        after_answer(2000, Act::Bye),
    ];
    let report = run(quiet().call(plain().with(steps)));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [200]);
    assert_eq!(report.calls[0].verdicts.len(), 1);
}

/// RFC 3261 8.2.2.2: the same request by two paths is served once, the other is told 482.
#[test]
fn a_merged_request_is_told_482() {
    let mut plan = quiet();
    plan.agents[0].connect = Connect::After(Duration::from_millis(500));
    let report =
        run(plan.call(plain().with(vec![after_invite(50, Act::Merge), after_answer(1000, Act::Bye)])));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [482, 200]);
}

/// RFC 7332 3.1: a B2BUA counts as a hop, so Max-Forwards of 0 is told 483 and 1 is enough.
#[test]
fn max_forwards_of_zero_is_told_483() {
    for (max_forwards, expected) in [(0, 483), (1, 200)] {
        let mut call = plain();
        call.max_forwards = max_forwards;
        assert_eq!(status_of(&run(quiet().call(call)).calls[0], "INVITE"), Some(expected));
    }
}

/// RFC 3262: a caller that requires 100rel gets reliable ringing and acknowledges it; the answer follows.
#[test]
fn reliable_ringing_is_acknowledged() {
    for reliable in [Reliable::Supported, Reliable::Required] {
        let mut plan = quiet();
        plan.agents[0].connect = Connect::After(Duration::from_millis(800));
        let mut call = plain();
        call.reliable = reliable;
        call.lose.push(Lose { to_tandem: false, what: "180 INVITE", count: 1 });
        let report = run(plan.call(call));
        let call = &report.calls[0];
        assert_eq!(status_of(call, "INVITE"), Some(200));
        if reliable == Reliable::Required {
            assert_eq!(statuses_of(call, "PRACK"), [200]);
        }
    }
}

/// A caller that never hears anything again, for its own messages are lost, leaves nothing behind.
#[test]
fn a_caller_that_vanishes_while_it_rings_is_forgotten() {
    let mut plan = quiet();
    plan.agents[0].connect = Connect::After(Duration::from_secs(2));
    let steps = vec![Step { when: When::Ringing(Duration::from_millis(100)), act: Act::Forget }];
    let report = run(plan.call(plain().with(steps)));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Forgot));
    assert!(report.calls[0].record.is_some());
}

/// The caller speaks when it hears the 200; however late its ACK is there, its first word is whole.
#[test]
fn the_first_word_is_whole_however_late_the_ack() {
    for late_ms in [0, 300, 1200] {
        let mut call = plain();
        call.ack = AckPlan::Late(Duration::from_millis(late_ms));
        let report = run(quiet().call(call));
        let ingress = report.calls[0].ingress.as_ref().expect("an agent");
        // All three seconds: 1,200 blocks of 20 samples, but for those under way at the end.
        assert!(ingress.blocks >= 1184, "{late_ms} ms: {} blocks", ingress.blocks);
        assert!(report.marks.contains_key(&Mark::EarlyWords) || late_ms == 0);
    }
}
