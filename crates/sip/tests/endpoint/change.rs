//! The peer's re-INVITE and UPDATE: taken, answered, refused, and too many at once. RFC 3261 14.2, RFC 3311.

use tandem_sip::{EndedBy, Event, OfferKind};

use crate::solo::{ANSWER, Ask, OFFER, Solo};

fn reinvite(tag: &str, cseq: u32) -> Ask {
    Ask::new("INVITE").sdp(OFFER).within(tag).cseq(cseq).branch(&format!("re{cseq}"))
}

fn update(tag: &str, cseq: u32) -> Ask {
    Ask::new("UPDATE").within(tag).cseq(cseq).branch(&format!("up{cseq}"))
}

#[test]
fn a_reinvite_is_answered_and_its_200_repeats_until_its_ack() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.feed(&reinvite(&tag, 2));
    assert_eq!(solo.take_what(), ["100"]);
    let (kind, offer) = solo.take_offer();
    assert_eq!((kind, offer.unwrap()), (OfferKind::ReInvite, OFFER.into()));
    solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    let ok = solo.take_one();
    assert_eq!((ok.what(), ok.body(), ok.header("CSeq")), ("200", ANSWER, Some("2 INVITE")));
    solo.advance_ms(500);
    assert_eq!(solo.take_one().text, ok.text);
    solo.feed(&Ask::new("ACK").within(&tag).cseq(2).branch("reack"));
    assert!(matches!(solo.take_event(), Event::Acknowledged { .. }));
    solo.advance_ms(40_000);
    assert!(solo.take_sent().is_empty());
}

/// RFC 3261 14.2: without an ACK the session is ended as after the first INVITE.
#[test]
fn a_reinvite_whose_200_is_never_acknowledged_ends_the_session() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.feed(&reinvite(&tag, 2));
    solo.take_events();
    solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).unwrap();
    solo.advance_ms(32_000);
    assert_eq!(solo.take_sent().last().unwrap().what(), "BYE");
    assert!(matches!(solo.ended_by(), EndedBy::NoAck));
}

#[test]
fn a_reinvite_without_offer_gets_ours_and_its_ack_the_answer() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.feed(&Ask::new("INVITE").within(&tag).cseq(2).branch("re2"));
    assert_eq!(solo.take_offer(), (OfferKind::ReInvite, None));
    solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    solo.feed(&Ask::new("ACK").within(&tag).cseq(2).branch("reack").sdp(OFFER));
    match solo.take_event() {
        Event::Acknowledged { body, .. } => assert_eq!(body.unwrap(), OFFER),
        other => panic!("{other:?}"),
    }
}

/// RFC 3261 14.2: the offer that cannot be met gets 488, and the session stands.
#[test]
fn a_refused_reinvite_leaves_the_session_as_it_was() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.feed(&reinvite(&tag, 2));
    solo.take_events();
    solo.endpoint.refuse_offer(solo.now, session, 488).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["100", "488"]);
    solo.feed(&Ask::new("ACK").within(&tag).cseq(2).branch("re2"));
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["BYE"]);
}

/// RFC 3261 14.2: a second INVITE before the final response to the first gets 500 with Retry-After of 0 to 10 s.
#[test]
fn a_second_reinvite_before_the_first_is_answered_gets_500_with_retry_after() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    solo.feed(&reinvite(&tag, 2));
    solo.take_offer();
    solo.take_sent();
    solo.feed(&reinvite(&tag, 3));
    let refused = solo.take_sent().pop().unwrap();
    assert_eq!(refused.what(), "500");
    assert!(refused.header("Retry-After").unwrap().parse::<u32>().unwrap() <= 10);
    solo.assert_no_events();
}

#[test]
fn a_reinvite_before_the_first_invite_is_answered_gets_500() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.ring(session);
    let tag = solo.take_one().to_tag().to_owned();
    solo.feed(&reinvite(&tag, 2));
    assert_eq!(solo.take_what(), ["100", "500"]);
}

#[test]
fn an_update_changes_the_session_and_is_answered_once() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.feed(&update(&tag, 2).sdp(OFFER));
    assert_eq!(solo.take_offer().0, OfferKind::Update);
    assert!(solo.take_sent().is_empty());
    solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    let ok = solo.take_one();
    assert_eq!((ok.what(), ok.body()), ("200", ANSWER));
    solo.advance_ms(10_000);
    assert!(solo.take_sent().is_empty());
}

#[test]
fn an_update_without_offer_refreshes_and_moves_the_remote_target() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    let moved = update(&tag, 2).header("Contact: <sip:moved@192.0.2.77>");
    let text = moved.text().replacen("Contact: <sip:peer@192.0.2.1:5060>\r\n", "", 1);
    solo.feed_from(crate::solo::udp(crate::solo::peer()), &text);
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.take_event(), Event::Refreshed { .. }));
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    let bye = solo.take_one();
    assert_eq!(bye.request_uri(), "sip:moved@192.0.2.77");
    assert_eq!(bye.target.remote().unwrap().to_string(), "192.0.2.77:5060");
}

/// RFC 6141 3.4: a refused re-INVITE does not move the remote target.
#[test]
fn a_refused_reinvite_does_not_move_the_remote_target() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    let text = reinvite(&tag, 2).text().replace("peer@192.0.2.1:5060", "evil@192.0.2.66");
    solo.feed_from(crate::solo::udp(crate::solo::peer()), &text);
    solo.take_events();
    solo.endpoint.refuse_offer(solo.now, session, 488).unwrap();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_sent().pop().unwrap().request_uri(), "sip:peer@192.0.2.1:5060");
}

/// RFC 3311 5.2, sentence by sentence.
#[test]
fn updates_at_a_bad_time_get_491_or_500() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.ring(session);
    let tag = solo.take_one().to_tag().to_owned();
    // The INVITE's offer is not answered yet.
    solo.feed(&update(&tag, 2).sdp(OFFER));
    let refused = solo.take_one();
    assert_eq!(refused.what(), "500");
    assert!(refused.header("Retry-After").is_some());
    solo.answer(session);
    solo.feed(&Ask::new("ACK").within(&tag));
    solo.take_events();
    // An UPDATE is pending.
    solo.feed(&update(&tag, 3).sdp(OFFER));
    solo.take_offer();
    solo.feed(&update(&tag, 4));
    assert_eq!(solo.take_what(), ["500"]);
    solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    solo.take_sent();
    // Ours is pending.
    solo.endpoint.reinvite(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["INVITE"]);
    solo.feed(&update(&tag, 5).sdp(OFFER));
    assert_eq!(solo.take_what(), ["491"]);
}

#[test]
fn an_update_with_our_offer_unanswered_gets_491() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::new("INVITE"));
    let ok = solo.answer(session);
    solo.feed(&update(ok.to_tag(), 2).sdp(OFFER));
    assert_eq!(solo.take_what(), ["491"]);
}

#[test]
fn a_pending_reinvite_gets_487_when_the_peer_hangs_up() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    solo.feed(&reinvite(&tag, 2));
    solo.take_events();
    solo.take_sent();
    solo.feed(&Ask::new("BYE").within(&tag).cseq(3));
    assert_eq!(solo.take_what(), ["200", "487"]);
    assert!(matches!(solo.ended_by(), EndedBy::ByeReceived));
    solo.assert_no_leak();
}

#[test]
fn options_within_a_dialog_say_what_we_can() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    solo.feed(&Ask::new("OPTIONS").within(&tag).cseq(2));
    let ok = solo.take_one();
    assert_eq!(ok.what(), "200");
    assert!(ok.header("Allow").is_some() && ok.header("Accept").is_some());
}
