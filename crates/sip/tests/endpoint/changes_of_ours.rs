//! Our re-INVITE, UPDATE and INFO: outcomes, glare, challenges. RFC 3261 14.1, RFC 3311.

use tandem_sip::{EndedBy, Event, Misuse};

use crate::solo::{ANSWER, Ask, OFFER, Sent, Solo};

fn reinvited() -> (Solo, tandem_sip::SessionId, String, Sent) {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.endpoint.reinvite(solo.now, session, OFFER.into()).unwrap();
    solo.drain();
    let reinvite = solo.take_one();
    assert_eq!(reinvite.what(), "INVITE");
    (solo, session, tag, reinvite)
}

#[test]
fn our_reinvite_is_acknowledged_each_time_its_200_comes() {
    let (mut solo, _, _, reinvite) = reinvited();
    let ok = reinvite.response(200, "").contact().sdp(ANSWER);
    solo.reply(&ok);
    let ack = solo.take_one();
    assert_eq!(ack.what(), "ACK");
    assert_eq!(ack.header("CSeq"), Some("1 ACK"));
    assert_eq!(reinvite.header("CSeq"), Some("1 INVITE"));
    match solo.take_event() {
        Event::OfferAnswered { body, .. } => assert_eq!(body.unwrap(), ANSWER),
        other => panic!("{other:?}"),
    }
    solo.reply(&ok);
    assert_eq!(solo.take_one().text, ack.text);
    solo.assert_no_events();
}

/// RFC 3261 14.1: one who does not own the Call-ID waits 0 to 2 s after a 491, in units of 10 ms.
#[test]
fn glare_is_tried_again_within_two_seconds_by_the_callee() {
    let (mut solo, _, _, reinvite) = reinvited();
    solo.reply(&reinvite.response(491, ""));
    assert_eq!(solo.take_what(), ["ACK"]);
    solo.assert_no_events();
    solo.advance_ms(2000);
    let again = solo.take_sent();
    assert_eq!(again[0].what(), "INVITE");
    assert_eq!(again[0].header("CSeq"), Some("2 INVITE"));
    assert_eq!((again[0].at - reinvite.at).as_millis() % 10, 0);
}

#[test]
fn glare_without_end_is_given_up() {
    let (mut solo, _, _, mut reinvite) = reinvited();
    for _ in 0..3 {
        solo.reply(&reinvite.response(491, ""));
        solo.advance_ms(2000);
        reinvite = solo.take_sent().into_iter().find(|sent| sent.what() == "INVITE").unwrap();
        solo.assert_no_events();
    }
    solo.reply(&reinvite.response(491, ""));
    assert!(matches!(solo.take_event(), Event::OfferRefused { status: 491, .. }));
}

/// RFC 3261 14.2: while ours is in progress the peer's gets 491.
#[test]
fn the_peers_reinvite_meets_ours_and_gets_491() {
    let (mut solo, _, tag, _) = reinvited();
    solo.feed(&Ask::new("INVITE").sdp(OFFER).within(&tag).cseq(2).branch("re2"));
    assert_eq!(solo.take_what(), ["100", "491"]);
    solo.assert_no_events();
    assert_eq!(solo.endpoint.counters().glare, 1);
}

#[test]
fn a_refused_reinvite_of_ours_leaves_the_session() {
    let (mut solo, session, _, reinvite) = reinvited();
    solo.reply(&reinvite.response(488, ""));
    assert_eq!(solo.take_what(), ["ACK"]);
    assert!(matches!(solo.take_event(), Event::OfferRefused { status: 488, .. }));
    solo.endpoint.update(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["UPDATE"]);
}

/// RFC 3261 12.2.1.2: 481 and silence end the dialog.
#[test]
fn a_reinvite_to_a_peer_that_forgot_the_dialog_ends_the_session() {
    let (mut solo, _, _, reinvite) = reinvited();
    solo.reply(&reinvite.response(481, ""));
    assert!(matches!(solo.ended_by(), EndedBy::DialogLost));
    assert_eq!(solo.take_what(), ["ACK", "BYE"]);
    let (mut solo, _, _, _) = reinvited();
    solo.advance_ms(32_000);
    assert!(matches!(solo.ended_by(), EndedBy::DialogLost));
    solo.assert_no_leak();
}

#[test]
fn one_change_at_a_time() {
    let (mut solo, session, _, _) = reinvited();
    assert_eq!(solo.endpoint.reinvite(solo.now, session, OFFER.into()), Err(Misuse::WrongState));
    assert_eq!(solo.endpoint.update(solo.now, session, None), Err(Misuse::WrongState));
}

#[test]
fn no_change_before_the_session_stands() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    assert_eq!(solo.endpoint.reinvite(solo.now, session, OFFER.into()), Err(Misuse::WrongState));
    solo.answer(session);
    // RFC 3261 14.1: the first INVITE is in progress until its ACK.
    assert_eq!(solo.endpoint.reinvite(solo.now, session, OFFER.into()), Err(Misuse::WrongState));
}

#[test]
fn our_update_is_answered() {
    let mut solo = Solo::new();
    let (session, _) = solo.established();
    solo.endpoint.update(solo.now, session, Some(OFFER.into())).unwrap();
    solo.drain();
    let update = solo.take_one();
    solo.reply(&update.response(200, "").contact().sdp(ANSWER));
    assert!(matches!(solo.take_event(), Event::OfferAnswered { body: Some(_), .. }));
    assert!(solo.take_sent().is_empty());
}

#[test]
fn our_requests_count_up_by_one() {
    let mut solo = Solo::new();
    let (session, _) = solo.established();
    for cseq in 1..4 {
        solo.endpoint.info(solo.now, session, "application/dtmf-relay", &"Signal=1".into()).unwrap();
        solo.drain();
        let info = solo.take_one();
        assert_eq!(info.header("CSeq"), Some(format!("{cseq} INFO").as_str()));
        solo.reply(&info.response(200, ""));
    }
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().header("CSeq"), Some("4 BYE"));
}

/// "A peer that challenges our in-dialog request: credentials go only where they belong": without credentials
/// for it the challenge is a refusal.
#[test]
fn a_challenge_without_credentials_is_a_refusal() {
    let (mut solo, _, _, reinvite) = reinvited();
    let challenge =
        reinvite.response(401, "").header("WWW-Authenticate: Digest realm=\"x\", nonce=\"n\", algorithm=MD5");
    solo.reply(&challenge);
    assert!(matches!(solo.take_event(), Event::OfferRefused { status: 401, .. }));
}

/// gosip#80: after a 100 nothing in the transaction bounds an INVITE any more; the endpoint does.
#[test]
fn a_reinvite_with_nothing_but_a_100_is_given_up() {
    let (mut solo, session, _, reinvite) = reinvited();
    solo.reply(&reinvite.response(100, ""));
    solo.advance_ms(180_000);
    assert!(matches!(solo.take_event(), Event::OfferRefused { status: 408, .. }));
    solo.endpoint.update(solo.now, session, None).unwrap();
}

#[test]
fn a_session_that_ends_over_an_unfinished_reinvite_leaves_nothing() {
    let (mut solo, session, _, reinvite) = reinvited();
    solo.reply(&reinvite.response(100, ""));
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    solo.assert_no_leak();
}
