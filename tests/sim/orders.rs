//! Calls that Tandem places: gateways that fail in every way, credentials, ringing, forks, and who hangs up.

use std::time::Duration;

use tandem_call::CallStatus;
use tandem_tests::carrier::digest::{Credentials, DigestTrick};
use tandem_tests::carrier::order::{Demands, GatewayPlan, LookUp, OrderPlan, Then};
use tandem_tests::carrier::script::{Act, CallPlan, Lose, after_answer};
use tandem_tests::operator::OperatorAct;
use tandem_tests::swarm::{NUMBER, Plan};
use tandem_tests::world::{CallFacts, Report};

use crate::{quiet, run};

/// A telephone that answers after a second of ringing.
const TAKEN_UP: Then = Then::Answers { rings: true, after: Duration::from_secs(1), forks: false };

fn order(gateways: Vec<GatewayPlan>) -> CallPlan {
    let mut call = CallPlan::plain(0, 0x0155, NUMBER);
    call.from = "+19000000".into();
    call.ordered = Some(OrderPlan { gateways, ringing: Duration::from_secs(8) });
    call
}

fn meets(thens: &[Then]) -> CallPlan {
    order(thens.iter().map(|then| GatewayPlan::that(*then)).collect())
}

fn refuses(status: u16) -> Then {
    Then::Refuses { rings: false, after: Duration::from_millis(100), status }
}

fn outcome(report: &Report) -> (CallStatus, Vec<Option<u16>>) {
    let CallFacts { record, .. } = &report.calls[0];
    let record = record.as_ref().expect("a call that is ordered has a record");
    (record.status, record.gateways.iter().map(|attempt| attempt.sip_status).collect())
}

/// The telephone is answered, hears its own voice back, and hangs up.
#[test]
fn a_callee_is_called_and_talks_to_the_agent() {
    let report = run(quiet().call(meets(&[TAKEN_UP])));
    assert_eq!(outcome(&report), (CallStatus::Completed, vec![Some(200)]));
    let ingress = report.calls[0].ingress.as_ref().expect("an agent was there");
    assert!(ingress.blocks > 100, "{ingress:?}");
}

/// What a gateway says of itself, or does not say, sends the call on; the last one takes it.
#[test]
fn a_gateway_that_fails_hands_the_call_on() {
    for (then, status) in [
        (Then::Unreachable, None),
        (Then::Silence, None),
        (refuses(408), Some(408)),
        (refuses(478), Some(478)),
        (refuses(500), Some(500)),
        (refuses(503), Some(503)),
    ] {
        let report = run(quiet().call(meets(&[then, TAKEN_UP])));
        assert_eq!(outcome(&report), (CallStatus::Completed, vec![status, Some(200)]), "{then:?}");
    }
}

/// What it says of the callee or of the request ends the call: nobody is rung twice.
#[test]
fn a_refusal_of_the_callee_ends_the_call() {
    for (status, word) in [
        (486, CallStatus::Busy),
        (480, CallStatus::NoAnswer),
        (603, CallStatus::Failed),
        (404, CallStatus::Failed),
        (302, CallStatus::Failed),
    ] {
        let report = run(quiet().call(meets(&[refuses(status), TAKEN_UP])));
        assert_eq!(outcome(&report), (word, vec![Some(status)]));
    }
}

/// A name that leads nowhere, and one that leads to nobody first.
#[test]
fn name_servers_that_fail_and_lie_cost_time_alone() {
    let there = GatewayPlan::that(TAKEN_UP);
    let nowhere =
        GatewayPlan { look_up: LookUp::Nothing(Duration::from_millis(900)), ..GatewayPlan::that(TAKEN_UP) };
    let liar = GatewayPlan { look_up: LookUp::LieFirst, ..there.clone() };
    let report = run(quiet().call(order(vec![nowhere, liar])));
    assert_eq!(outcome(&report), (CallStatus::Completed, vec![None, None, Some(200)]));
}

/// Nobody answers: the INVITE is cancelled, and the record says so.
#[test]
fn a_telephone_that_nobody_takes_up_is_left_alone() {
    for then in [Then::RingsForEver, Then::Trying] {
        let report = run(quiet().call(meets(&[then, TAKEN_UP])));
        assert_eq!(outcome(&report), (CallStatus::NoAnswer, vec![None]), "{then:?}");
    }
}

/// Credentials are given once, once more for a stale nonce, and then no more.
#[test]
fn credentials_are_given_to_who_asks_for_them() {
    let asks = |demands, status| {
        let mut gateway = GatewayPlan::that(TAKEN_UP);
        gateway.challenge = Some((status, demands));
        let mut call = order(vec![gateway]);
        let (username, password) = ("trunk".to_owned(), "secret".to_owned());
        call.credentials = Some(Credentials { username, password, trick: DigestTrick::Honest });
        call
    };
    let with_password = |call| {
        let mut plan: Plan = quiet().call(call);
        plan.carriers[0].userpass = Some(("trunk".into(), "secret".into()));
        run(plan)
    };
    for status in [401, 407] {
        for demands in [Demands::Once, Demands::Stale] {
            let report = with_password(asks(demands, status));
            assert_eq!(outcome(&report), (CallStatus::Completed, vec![Some(200)]), "{demands:?}");
        }
        let report = with_password(asks(Demands::Forever, status));
        assert_eq!(outcome(&report), (CallStatus::Failed, vec![Some(status)]));
        let invites = report.calls[0].outcome.requests.iter().filter(|method| *method == "INVITE").count();
        assert_eq!(invites, 2, "one fresh nonce, and no more");
    }
    let report = run(quiet().call(asks(Demands::Once, 401)));
    assert_eq!(outcome(&report), (CallStatus::Failed, vec![Some(401)]), "a trunk without credentials");
}

/// Two telephones answer: one has the call, the other is told BYE.
#[test]
fn of_two_telephones_that_answer_one_has_the_call() {
    let forks = Then::Answers { rings: true, after: Duration::from_secs(1), forks: true };
    let report = run(quiet().call(meets(&[forks])));
    assert_eq!(outcome(&report), (CallStatus::Completed, vec![Some(200)]));
}

/// The API ends a call that rings, and one that is looked up.
#[test]
fn a_call_that_is_stopped_rings_no_longer() {
    for at in [1, 700] {
        let mut plan = quiet().call(meets(&[Then::RingsForEver, TAKEN_UP]));
        plan.operator = vec![(Duration::from_millis(10 + at), OperatorAct::HangUp(0))];
        let report = run(plan);
        assert_eq!(outcome(&report).0, CallStatus::Stopped, "{at} ms after the order");
    }
}

/// Whatever is lost on the way is said again; an answer that crosses the CANCEL is ended by BYE.
#[test]
fn what_is_lost_is_said_again() {
    for (to_tandem, what) in [
        (false, "INVITE"),
        (true, "100 INVITE"),
        (true, "200 INVITE"),
        (false, "ACK"),
        (true, "BYE"),
        (false, "200 BYE"),
    ] {
        let mut call = meets(&[TAKEN_UP]);
        call.lose = vec![Lose { to_tandem, what, count: 2 }];
        let report = run(quiet().call(call));
        assert_eq!(outcome(&report).0, CallStatus::Completed, "{what} was lost twice");
    }
    let late = Then::Answers { rings: true, after: Duration::from_millis(8004), forks: false };
    let report = run(quiet().call(meets(&[late])));
    assert_eq!(outcome(&report).0, CallStatus::NoAnswer);
}

/// Who was called may hang up at once.
#[test]
fn a_callee_hangs_up_as_it_answers() {
    let call = meets(&[TAKEN_UP]).with(vec![after_answer(0, Act::Bye)]);
    let report = run(quiet().call(call));
    assert!(report.calls[0].record.as_ref().is_some_and(|record| record.answered_unix_ms.is_some()));
}
