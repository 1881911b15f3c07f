//! Trunks that prove themselves by digest (RFC 3261 22, RFC 7616, RFC 8760).

use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::digest::{Credentials, DigestTrick};
use tandem_tests::carrier::script::{Act, CallPlan, Lose, after_answer};
use tandem_tests::swarm::{NUMBER, Plan};

use crate::{quiet, run, statuses_of};

fn trunk() -> Plan {
    let mut plan = quiet();
    plan.carriers[0].userpass = Some(("trunk0".into(), "secret0".into()));
    plan
}

fn call(trick: DigestTrick) -> CallPlan {
    let mut call = CallPlan::plain(0, 0x0e01, NUMBER);
    call.credentials = Some(Credentials { username: "trunk0".into(), password: "secret0".into(), trick });
    call
}

/// The challenge is answered and the call goes through.
#[test]
fn an_honest_answer_opens_the_call() {
    let report = run(trunk().call(call(DigestTrick::Honest)));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [401, 200]);
}

/// Wrong password, realm, Request-URI or nonce: refused, and never answered.
#[test]
fn a_wrong_answer_is_refused() {
    let tricks = [
        DigestTrick::WrongPassword,
        DigestTrick::WrongRealm,
        DigestTrick::WrongUri,
        DigestTrick::ForgedNonce,
    ];
    for trick in tricks {
        let report = run(trunk().call(call(trick)));
        let ending = report.calls[0].outcome.ending;
        assert!(matches!(ending, Some(Ending::Refused(401 | 403))), "{trick:?}: {ending:?}");
        assert!(report.calls[0].outcome.answered_at.is_none());
    }
}

/// A nonce that grew old is challenged again as stale, and the second answer opens the call.
#[test]
fn a_stale_nonce_is_challenged_again() {
    let mut plan = trunk();
    plan.heal_at = std::time::Duration::from_secs(700);
    let report = run(plan.call(call(DigestTrick::StaleNonce(400))));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [401, 401, 200]);
}

/// A captured answer used again in another call is refused.
#[test]
fn a_replayed_answer_is_refused() {
    let mut replay = call(DigestTrick::Honest);
    replay.steps = vec![after_answer(500, Act::ReplayDigest), after_answer(2000, Act::Bye)];
    let report = run(trunk().call(replay));
    let statuses = statuses_of(&report.calls[0], "INVITE");
    assert_eq!(statuses[..2], [401, 200]);
    assert!(matches!(statuses.get(2), Some(401 | 403)), "{statuses:?}\n{}", report.ladder_of(0));
}

/// Without an answer there is no call, and nothing is kept.
#[test]
fn no_credentials_no_call() {
    let report = run(trunk().call(CallPlan::plain(0, 2, NUMBER)));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Refused(401)));
    assert!(report.calls[0].record.is_none());
}

/// Challenge and answer survive losses of each message.
#[test]
fn losses_do_not_disturb_the_challenge() {
    for (to_tandem, what) in [(false, "401 INVITE"), (true, "INVITE"), (true, "ACK")] {
        let mut lossy = call(DigestTrick::Honest);
        lossy.lose.push(Lose { to_tandem, what, count: 2 });
        let report = run(trunk().call(lossy));
        assert!(report.calls[0].outcome.answered_at.is_some(), "{what}");
    }
}
