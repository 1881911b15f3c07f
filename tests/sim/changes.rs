//! Changes in mid-call: hold, resume, codec, address, glare, UPDATE, offers the other way round, fax
//! (RFC 3264 8, RFC 3261 14, RFC 3311, RFC 5407 3.3).

use tandem_call::CallStatus;
use tandem_media::Law;
use tandem_tests::agent::plan::Mode;
use tandem_tests::carrier::caller::Ending;
use tandem_tests::carrier::script::{Act, CallPlan, Change, Lose, Refresher, after_answer};
use tandem_tests::carrier::sdp::{ExtraSection, Flowing};
use tandem_tests::swarm::NUMBER;

use crate::{quiet, run, status_of, statuses_of};

fn plain() -> CallPlan {
    CallPlan::plain(0, 0x0d01, NUMBER)
}

/// Hold in every form, and resume: nothing is sent to a caller that wants nothing, and everything afterwards.
#[test]
fn hold_and_resume() {
    for hold in [Flowing::SendOnly, Flowing::Inactive, Flowing::ZeroAddress] {
        let mut plan = quiet();
        plan.agents[0].mode = Mode::RealTime { piece_ms: 20 };
        let steps = vec![
            after_answer(1000, Act::Reinvite(Change::Direction(hold))),
            after_answer(2500, Act::Reinvite(Change::Direction(Flowing::SendReceive))),
            after_answer(4500, Act::Bye),
        ];
        let report = run(plan.call(plain().with(steps)));
        let call = &report.calls[0];
        assert_eq!(statuses_of(call, "INVITE"), [200, 200, 200], "{hold:?}");
        let packets = call.egress.as_ref().expect("RTP").packets;
        assert!((130..175).contains(&packets), "{hold:?}: {packets} packets in 3 of 4.5 seconds");
        assert_eq!(call.record.as_ref().expect("a record").status, CallStatus::Completed);
    }
}

/// RFC 3311: the same by UPDATE.
#[test]
fn update_changes_the_session() {
    let steps = vec![
        after_answer(800, Act::Update(Change::Direction(Flowing::Inactive))),
        after_answer(1600, Act::Update(Change::Direction(Flowing::SendReceive))),
        after_answer(2200, Act::Update(Change::NewPort)),
        after_answer(3500, Act::Bye),
    ];
    let report = run(quiet().call(plain().with(steps)));
    assert_eq!(statuses_of(&report.calls[0], "UPDATE"), [200, 200, 200]);
}

/// The caller changes its law in mid-call; agent and caller go on hearing each other.
#[test]
fn the_law_changes_in_mid_call() {
    let steps =
        vec![after_answer(1500, Act::Reinvite(Change::SwitchLaw(Law::Alaw))), after_answer(4000, Act::Bye)];
    let report = run(quiet().call(plain().with(steps)));
    let blocks = report.calls[0].ingress.as_ref().expect("an agent").blocks;
    assert!(blocks > 1450, "{blocks} blocks");
}

/// The caller's RTP moves to an address it names in a re-INVITE.
#[test]
fn the_address_changes_in_mid_call() {
    let steps = vec![after_answer(1500, Act::Reinvite(Change::NewPort)), after_answer(4000, Act::Bye)];
    let report = run(quiet().call(plain().with(steps)));
    let blocks = report.calls[0].ingress.as_ref().expect("an agent").blocks;
    assert!(blocks > 1450, "{blocks} blocks");
}

/// RFC 3261 12.2.1.1: a re-INVITE with another Contact moves the remote target, and our BYE goes there.
#[test]
fn the_remote_target_is_refreshed() {
    let mut plan = quiet();
    let hang_up = tandem_tests::agent::plan::Turn::HangUp;
    plan.agents[0].turns.push((std::time::Duration::from_secs(2), hang_up));
    let report = run(plan.call(plain().with(vec![after_answer(1000, Act::Reinvite(Change::NewContact))])));
    assert_eq!(report.calls[0].outcome.ending, Some(Ending::Tandem));
}

/// RFC 3261 13.2.1: an INVITE without an offer gets ours in the 200 and answers in the ACK.
#[test]
fn a_delayed_offer_is_answered_in_the_ack() {
    let mut call = plain();
    call.offer.delayed = true;
    let report = run(quiet().call(call));
    let call = &report.calls[0];
    assert_eq!(status_of(call, "INVITE"), Some(200));
    assert!(call.ingress.as_ref().expect("an agent").blocks > 1100);
}

/// RFC 3261 14.2: a re-INVITE without an offer gets ours.
#[test]
fn an_offerless_reinvite_gets_an_offer() {
    let steps = vec![after_answer(1000, Act::Reinvite(Change::NoOffer)), after_answer(3000, Act::Bye)];
    let report = run(quiet().call(plain().with(steps)));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [200, 200]);
}

/// RFC 3261 14.1: both sides re-INVITE at once, one of them is told 491 and both calls live on.
#[test]
fn glare_is_told_491() {
    let mut seen_491 = false;
    for offset in 0..20_u64 {
        let mut call = plain();
        call.session_timer = Some((90, Refresher::Tandem));
        // Tandem refreshes 45 s after the answer; the caller changes around that time.
        let steps = vec![
            after_answer(44_980 + 2 * offset, Act::Reinvite(Change::Refresh)),
            after_answer(50_000, Act::Bye),
        ];
        let report = run(quiet().call(call.with(steps)));
        let call = &report.calls[0];
        assert_eq!(call.outcome.ending, Some(Ending::Caller));
        seen_491 |= statuses_of(call, "INVITE").contains(&491) || call.outcome.requests.len() > 1;
    }
    assert!(seen_491, "some offset collides");
}

/// A fax machine's re-INVITE is refused with 488 and the call stays as it was (RFC 3261 14.2).
#[test]
fn a_fax_reinvite_is_refused() {
    let steps = vec![
        after_answer(1000, Act::Reinvite(Change::Fax)),
        after_answer(1500, Act::Reinvite(Change::NoCodec)),
        after_answer(3000, Act::Bye),
    ];
    let report = run(quiet().call(plain().with(steps)));
    assert_eq!(statuses_of(&report.calls[0], "INVITE"), [200, 488, 488]);
    assert!(report.calls[0].ingress.as_ref().expect("an agent").blocks > 1100);
}

/// RFC 3264 6: sections beside the audio are refused one by one, with port 0, never left out.
#[test]
fn other_sections_are_refused_in_place() {
    for extra in [ExtraSection::Video, ExtraSection::T38Behind] {
        let mut call = plain();
        call.offer.extra = extra;
        assert_eq!(status_of(&run(quiet().call(call)).calls[0], "INVITE"), Some(200), "{extra:?}");
    }
}

/// An offer of nothing we have is refused with 488.
#[test]
fn no_common_codec_is_488() {
    let mut call = plain();
    call.offer.laws.clear();
    assert_eq!(status_of(&run(quiet().call(call)).calls[0], "INVITE"), Some(488));
}

/// Packet times from 10 to 60 ms, both laws: the agent always gets 20 ms frames.
#[test]
fn every_packet_time_reaches_the_agent_in_20_ms_frames() {
    for ptime_ms in [10, 20, 30, 40, 60] {
        for law in [Law::Mulaw, Law::Alaw] {
            let mut call = plain();
            call.offer.ptime_ms = ptime_ms;
            call.offer.laws = vec![law];
            let report = run(quiet().call(call));
            let blocks = report.calls[0].ingress.as_ref().expect("an agent").blocks;
            assert!(blocks > 1080, "{ptime_ms} ms {law:?}: {blocks} blocks");
        }
    }
}

/// The 200 to a re-INVITE is lost, and so is the next: it repeats until the ACK.
#[test]
fn a_lost_200_to_a_reinvite_comes_again() {
    let mut call =
        plain().with(vec![after_answer(500, Act::Reinvite(Change::Refresh)), after_answer(6000, Act::Bye)]);
    call.lose.push(Lose { to_tandem: true, what: "ACK", count: 0 });
    call.lose.push(Lose { to_tandem: false, what: "200 INVITE", count: 2 });
    run(quiet().call(call));
}

/// RFC 3261 12.2.2: a CSeq below the last is answered 500; a method without a place in a call 501 or 405; the call lives on.
#[test]
fn odd_requests_in_the_dialog_are_refused() {
    let steps = vec![
        after_answer(500, Act::OldCseq),
        after_answer(900, Act::Nonsense),
        after_answer(1300, Act::Options),
        after_answer(2500, Act::Bye),
    ];
    let report = run(quiet().call(plain().with(steps)));
    let call = &report.calls[0];
    assert!(statuses_of(call, "INFO").contains(&500), "{:?}", call.outcome.finals);
    assert!(statuses_of(call, "PUBLISH").iter().all(|status| matches!(status, 405 | 489 | 501)));
    assert!(statuses_of(call, "OPTIONS").contains(&200));
    assert_eq!(call.outcome.ending, Some(Ending::Caller));
}
