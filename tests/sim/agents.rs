//! Agents: those that refuse, drop, stall, flood or babble; marks and barge-in (design 4, agent-protocols 7).

use std::time::Duration;

use tandem_call::{CallStatus, HangupBy};
use tandem_tests::agent::plan::{Connect, Mode, Speech, Turn};
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, after_answer};
use tandem_tests::swarm::{NUMBER, Plan};

use crate::{run, verdict_of};

fn plain() -> CallPlan {
    CallPlan::plain(0, 0x1001, NUMBER)
}

/// An agent that refuses, or never answers, gives the caller a clean failure and the record a cause.
#[test]
fn an_agent_that_cannot_be_had_is_a_clean_failure() {
    for connect in [Connect::Refuse(Duration::from_millis(50)), Connect::Silence(Duration::from_secs(5))] {
        let mut plan = Plan::quiet(Speech::Twilio);
        plan.agents[0].connect = connect;
        let report = run(plan.call(plain()));
        let call = &report.calls[0];
        assert!(matches!(call.outcome.ending, Some(Ending::Refused(480 | 503))), "{:?}", call.outcome.ending);
        let record = call.record.as_ref().expect("a record");
        assert_eq!(record.status, CallStatus::Failed);
        assert!(record.error_message.is_some());
        assert!(verdict_of(call).starts_with("agent_"), "{}", verdict_of(call));
    }
}

/// The shell never says anything of the dial: the engine's own bound ends the call.
#[test]
fn an_agent_that_never_answers_is_given_up() {
    let mut plan = Plan::quiet(Speech::Twilio);
    plan.agents[0].connect = Connect::Silence(Duration::from_secs(600));
    let report = run(plan.call(plain()));
    assert!(matches!(report.calls[0].outcome.ending, Some(Ending::Refused(480 | 503))));
}

/// A broken connection, a close, a hang-up: each ends the call by BYE and names the agent.
#[test]
fn an_agent_that_leaves_ends_the_call() {
    for speech in Speech::ALL {
        for turn in [Turn::Drop, Turn::Close, Turn::HangUp] {
            let mut plan = Plan::quiet(speech);
            plan.agents[0].turns.push((Duration::from_millis(1200), turn));
            let report = run(plan.call(plain()));
            let call = &report.calls[0];
            assert_eq!(call.outcome.ending, Some(Ending::Tandem), "{speech:?} {turn:?}");
            let record = call.record.as_ref().expect("a record");
            assert_ne!(record.hangup_by, Some(HangupBy::Caller), "{speech:?} {turn:?}");
        }
    }
}

/// What an agent said before it closed is still heard (on_close = drain).
#[test]
fn what_was_said_before_the_close_is_played() {
    let mut plan = Plan::quiet(Speech::AsteriskPlain);
    plan.agents[0].mode = Mode::Burst { length_ms: 2000 };
    plan.agents[0].turns.push((Duration::from_millis(300), Turn::Close));
    let report = run(plan.call(plain().with(vec![after_answer(8000, Act::Bye)])));
    let call = &report.calls[0];
    assert_eq!(call.outcome.ending, Some(Ending::Tandem));
    // 2 s are 800 blocks.
    assert_eq!(call.egress.as_ref().expect("RTP").agent_blocks, 800);
}

/// Bursts with marks: each mark comes once, a frame after its audio; the checks see to the times.
#[test]
fn marks_follow_their_audio() {
    for speech in Speech::ALL {
        for length_ms in [20, 60, 500, 1990] {
            let mut plan = Plan::quiet(speech);
            plan.agents[0].mode = Mode::Burst { length_ms };
            plan.agents[0].turns.push((Duration::from_millis(50), Turn::IdleMark));
            let report = run(plan.call(plain()));
            let marks = report.calls[0].ingress.as_ref().expect("an agent").marks_reported.len();
            assert!(marks >= 2, "{speech:?} {length_ms} ms: {marks} marks");
        }
    }
}

/// Barge-in: nothing said before a flush is heard after it, marks follow the dialect's rule, again and again.
#[test]
fn barge_in_flushes_at_once() {
    for speech in Speech::ALL {
        for flush_after_ms in [5, 37, 200, 640] {
            let mut plan = Plan::quiet(speech);
            plan.agents[0].mode = Mode::BargeIn { length_ms: 4000, flush_after_ms };
            plan.agents[0].turns.push((Duration::from_millis(900), Turn::IdleFlush));
            run(plan.call(plain()));
        }
    }
}

/// An agent that speaks at the pace of the clock is heard without a gap.
#[test]
fn real_time_speech_has_no_gap() {
    for speech in Speech::ALL {
        for piece_ms in [20, 40, 100] {
            let mut plan = Plan::quiet(speech);
            plan.agents[0].mode = Mode::RealTime { piece_ms };
            let report = run(plan.call(plain()));
            let egress = report.calls[0].egress.as_ref().expect("RTP");
            assert!(egress.sounding_ms > 2600, "{speech:?} {piece_ms}: {} ms", egress.sounding_ms);
        }
    }
}

/// A flood, rubbish, silence, a stalled reader and odd commands: no other call is the worse for it.
#[test]
fn a_bad_agent_harms_no_other_call() {
    for turn in [Turn::Flood(30), Turn::Rubbish(200), Turn::StopReading(2500), Turn::Odd, Turn::Drop] {
        for speech in Speech::ALL {
            let mut plan = Plan::quiet(speech);
            plan.agents.push(plan.agents[0].clone());
            plan.agents[1].turns.push((Duration::from_millis(400), turn));
            let mut number = plan.numbers[0].clone();
            number.number = "+18005550199".into();
            number.agent = Some(1);
            plan.numbers.push(number);
            let plan = plan.call(plain()).call(CallPlan::plain(0, 0x1002, "+18005550199"));
            let report = run(plan);
            let good = report.calls[0].ingress.as_ref().expect("an agent");
            assert!(good.audio_ms > 2900, "{turn:?} {speech:?}");
            assert_eq!(report.calls[0].outcome.ending, Some(Ending::Caller));
        }
    }
}

/// chan_websocket's back-pressure: a flood is told XOFF and loses nothing.
#[test]
fn a_flood_is_told_xoff() {
    let mut plan = Plan::quiet(Speech::AsteriskPlain);
    plan.agents[0].mode = Mode::Silent;
    plan.agents[0].turns.push((Duration::from_millis(100), Turn::Flood(40)));
    let report = run(plan.call(plain()));
    assert_eq!(report.calls[0].ingress.as_ref().expect("an agent").xoffs, 1);
}
