//! Keys: RFC 4733 events and INFO, once each, in order, and digits to the caller.

use std::time::Duration;

use tandem_tests::agent::plan::Speech;
use tandem_tests::carrier::script::{Act, CallPlan, after_answer};
use tandem_tests::operator::OperatorAct;
use tandem_tests::swarm::{NUMBER, Plan};

use crate::run;

fn pressing(act: fn(char) -> Act) -> CallPlan {
    let mut steps: Vec<_> = "159#0"
        .chars()
        .enumerate()
        .map(|(n, digit)| after_answer(500 + 400 * n as u64, act(digit)))
        .collect();
    steps.push(after_answer(3500, Act::Bye));
    CallPlan::plain(0, 0x0f01, NUMBER).with(steps)
}

/// Keys by RFC 4733 reach the agent once each, in order, in every dialect.
#[test]
fn events_reach_the_agent_once() {
    for speech in Speech::ALL {
        let report = run(Plan::quiet(speech).call(pressing(Act::Press)));
        assert_eq!(report.calls[0].ingress.as_ref().expect("an agent").digits, "159#0", "{speech:?}");
    }
}

/// Losses and duplicates of event packets make no key disappear or double (RFC 4733 2.5.1.4).
#[test]
fn events_survive_losses_and_duplicates() {
    for seed in 0..20 {
        let mut plan = Plan::quiet(Speech::Twilio).call(pressing(Act::Press));
        plan.seed = seed;
        plan.carriers[0].rtp.loss = 150;
        plan.carriers[0].rtp.duplicate = 100;
        let report = run(plan);
        assert_eq!(report.calls[0].ingress.as_ref().expect("an agent").digits, "159#0", "seed {seed}");
    }
}

/// Keys by INFO reach the agent too.
#[test]
fn info_reaches_the_agent() {
    let report = run(Plan::quiet(Speech::AsteriskJson).call(pressing(Act::Info)));
    assert_eq!(report.calls[0].ingress.as_ref().expect("an agent").digits, "159#0");
}

/// Digits sent to the caller keep the rules of RTP and RFC 4733.
#[test]
fn digits_are_sent_to_the_caller() {
    let mut plan = Plan::quiet(Speech::AsteriskPlain).call(CallPlan::plain(0, 3, NUMBER));
    plan.operator.push((Duration::from_millis(1000), OperatorAct::SendDigits(0)));
    run(plan);
}
