//! CANCEL of the peer's INVITE and its races: RFC 3261 9.2.

use tandem_sip::{EndedBy, Event};

use crate::solo::{ANSWER, Ask, OFFER, Solo};

#[test]
fn a_cancel_while_ringing_ends_the_invite_with_487() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.ring(session);
    let ringing = solo.take_one();
    solo.feed(&Ask::new("CANCEL").branch("invite-1").header("Reason: SIP;cause=200"));
    let sent = solo.take_sent();
    assert_eq!((sent[0].what(), sent[0].header("CSeq")), ("200", Some("1 CANCEL")));
    assert_eq!((sent[1].what(), sent[1].header("CSeq")), ("487", Some("1 INVITE")));
    // RFC 3261 9.2: the same To tag in both.
    assert_eq!((sent[0].to_tag(), sent[1].to_tag()), (ringing.to_tag(), ringing.to_tag()));
    match solo.take_event() {
        Event::Ended { by: EndedBy::Cancelled, reason, .. } => {
            assert_eq!(reason.unwrap(), "SIP;cause=200");
        }
        other => panic!("{other:?}"),
    }
    solo.feed(&Ask::new("ACK").branch("invite-1").within(ringing.to_tag()));
    solo.assert_no_leak();
}

#[test]
fn a_repeated_cancel_gets_the_same_200_and_ends_nothing_twice() {
    let mut solo = Solo::new();
    solo.accept(&Ask::invite());
    let cancel = Ask::new("CANCEL").branch("invite-1");
    solo.feed(&cancel);
    let first = solo.take_sent();
    solo.take_events();
    solo.feed(&cancel);
    assert_eq!(solo.take_one().text, first[0].text);
    solo.assert_no_events();
}

/// RFC 3261 9.2: "the CANCEL request has no effect on the processing of the original request": 200 to it, and
/// the 2xx stands.
#[test]
fn a_cancel_after_the_200_is_answered_and_changes_nothing() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    let ok = solo.answer(session);
    solo.feed(&Ask::new("CANCEL").branch("invite-1"));
    let answered = solo.take_one();
    assert_eq!((answered.what(), answered.header("CSeq")), ("200", Some("1 CANCEL")));
    solo.assert_no_events();
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    assert!(matches!(solo.take_event(), Event::Acknowledged { .. }));
}

#[test]
fn a_cancel_after_a_refusal_is_answered_and_changes_nothing() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.endpoint.reject(solo.now, session, tandem_sip::Refusal::new(486)).unwrap();
    solo.drain();
    solo.take_sent();
    solo.take_events();
    solo.feed(&Ask::new("CANCEL").branch("invite-1"));
    assert_eq!(solo.take_what(), ["200"]);
    solo.assert_no_events();
}

#[test]
fn a_cancel_for_nothing_gets_481() {
    let mut solo = Solo::new();
    solo.feed(&Ask::new("CANCEL").branch("invite-1"));
    assert_eq!(solo.take_what(), ["481"]);
    assert_eq!(solo.endpoint.census(), Default::default());
}

#[test]
fn the_engine_answering_after_a_cancel_is_told_that_it_is_too_late() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.feed(&Ask::new("CANCEL").branch("invite-1"));
    solo.take_sent();
    assert!(solo.endpoint.answer(solo.now, session, ANSWER.into()).is_err());
    assert!(solo.endpoint.provisional(solo.now, session, 180, None).is_err());
    assert!(solo.endpoint.hangup(solo.now, session, None).is_err());
    solo.drain();
    assert!(solo.take_sent().is_empty());
}

#[test]
fn a_cancelled_reinvite_gets_487_and_the_session_goes_on() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.feed(&Ask::new("INVITE").sdp(OFFER).within(&tag).cseq(2).branch("re"));
    solo.take_offer();
    assert_eq!(solo.take_what(), ["100"]);
    solo.feed(&Ask::new("CANCEL").within(&tag).cseq(2).branch("re"));
    assert_eq!(solo.take_what(), ["200", "487"]);
    assert!(matches!(solo.take_event(), Event::OfferWithdrawn { .. }));
    assert!(solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).is_err());
    solo.feed(&Ask::new("ACK").within(&tag).cseq(2).branch("re"));
    solo.feed(&Ask::new("BYE").within(&tag).cseq(3));
    assert_eq!(solo.take_what(), ["200"]);
    solo.assert_no_leak();
}
