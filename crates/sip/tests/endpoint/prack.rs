//! Reliable provisional responses, as callee and as caller: RFC 3262.

use tandem_sip::{EndedBy, Event, OfferKind, ReliableProvisionals};

use crate::outgoing::{call, calling};
use crate::solo::{ANSWER, Ask, OFFER, Sent, Solo};

fn required() -> Ask {
    Ask::invite().header("Require: 100rel")
}

fn prack(ringing: &Sent, cseq: u32) -> Ask {
    Ask::new("PRACK")
        .within(ringing.to_tag())
        .cseq(cseq)
        .branch(&format!("prack{cseq}"))
        .header(&format!("RAck: {} 1 INVITE", ringing.header("RSeq").unwrap()))
}

/// RFC 3262 3: Require, RSeq, repeated from T1 doubling until the PRACK, and the PRACK gets 200.
#[test]
fn a_required_reliable_180_repeats_until_its_prack() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.ring(session);
    let ringing = solo.take_one();
    assert_eq!((ringing.what(), ringing.header("Require")), ("180", Some("100rel")));
    let rseq: u32 = ringing.header("RSeq").unwrap().parse().unwrap();
    assert!((1..1 << 31).contains(&rseq));
    solo.advance_ms(7600);
    let repeats = solo.take_sent();
    let at: Vec<u128> = repeats.iter().map(|repeat| (repeat.at - ringing.at).as_millis()).collect();
    assert_eq!(at, [500, 1500, 3500, 7500]);
    assert!(repeats.iter().all(|repeat| repeat.text == ringing.text));
    solo.feed(&prack(&ringing, 2));
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.take_event(), Event::ProvisionalAcknowledged { body: None, .. }));
    solo.advance_ms(20_000);
    assert!(solo.take_sent().is_empty());
}

/// RFC 3262 3: a PRACK that matches nothing gets 481.
#[test]
fn a_prack_for_another_number_gets_481() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.ring(session);
    let ringing = solo.take_one();
    let wrong = Ask::new("PRACK").within(ringing.to_tag()).cseq(2).header("RAck: 1 1 INVITE");
    solo.feed(&wrong);
    assert_eq!(solo.take_what(), ["481"]);
    let wrong = Ask::new("PRACK").within(ringing.to_tag()).cseq(3).branch("p3");
    solo.feed(&wrong);
    assert_eq!(solo.take_what(), ["400"]);
    solo.feed(&prack(&ringing, 4));
    assert_eq!(solo.take_what(), ["200"]);
    // Once acknowledged it is acknowledged.
    solo.feed(&prack(&ringing, 5));
    assert_eq!(solo.take_what(), ["481"]);
}

/// RFC 3262 3: after 64*T1 the INVITE is refused with a 5xx.
#[test]
fn without_a_prack_the_invite_fails_with_504() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.ring(session);
    solo.advance_ms(32_000);
    assert_eq!(solo.take_sent().last().unwrap().what(), "504");
    assert!(matches!(solo.ended_by(), EndedBy::NoPrack));
    solo.assert_no_leak();
}

/// RFC 3262 3: the second waits for the PRACK of the first, its RSeq one higher.
#[test]
fn the_second_provisional_waits_for_the_first_ones_prack() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.ring(session);
    let first = solo.take_one();
    solo.endpoint.provisional(solo.now, session, 183, Some(ANSWER.into())).unwrap();
    solo.drain();
    assert!(solo.take_sent().is_empty());
    solo.feed(&prack(&first, 2));
    let sent = solo.take_sent();
    assert_eq!((sent[0].what(), sent[1].what()), ("200", "183"));
    let number = |sent: &Sent| sent.header("RSeq").unwrap().parse::<u32>().unwrap();
    assert_eq!(number(&sent[1]), number(&first) + 1);
}

/// RFC 3262 3: the 200 waits while a reliable response with a description is unacknowledged; RFC 6337: the
/// answer is not sent twice.
#[test]
fn the_200_waits_for_the_prack_of_a_183_with_description_and_leaves_it_out() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.endpoint.provisional(solo.now, session, 183, Some(ANSWER.into())).unwrap();
    solo.drain();
    let progress = solo.take_one();
    solo.endpoint.answer(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    assert!(solo.take_sent().is_empty());
    solo.feed(&prack(&progress, 2));
    let sent = solo.take_sent();
    assert_eq!((sent[0].what(), sent[1].what()), ("200", "200"));
    assert_eq!((sent[1].header("CSeq"), sent[1].body()), (Some("1 INVITE"), ""));
}

/// RFC 3262 3: a 2xx may overtake an unacknowledged 180 without description; its PRACK is still taken.
#[test]
fn the_200_overtakes_a_180_without_description_whose_prack_is_still_taken() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.ring(session);
    let ringing = solo.take_one();
    let ok = solo.answer(session);
    assert_eq!(ok.body(), ANSWER);
    solo.feed(&prack(&ringing, 2));
    assert_eq!(solo.take_what(), ["200"]);
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    assert!(matches!(solo.take_event(), Event::Acknowledged { .. }));
    solo.advance_ms(40_000);
    assert!(solo.take_sent().is_empty());
}

/// RFC 3262 5: an offerless INVITE gets the offer in the first reliable response; the PRACK answers it.
#[test]
fn without_an_offer_the_183_offers_and_the_prack_answers() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::new("INVITE").header("Require: 100rel"));
    solo.ring(session);
    assert!(solo.take_sent().is_empty(), "a 180 without offer is left out");
    assert_eq!(solo.endpoint.counters().provisionals_withheld, 1);
    solo.endpoint.provisional(solo.now, session, 183, Some(OFFER.into())).unwrap();
    solo.drain();
    let progress = solo.take_one();
    solo.feed(&prack(&progress, 2).sdp(ANSWER));
    assert_eq!(solo.take_what(), ["200"]);
    match solo.take_event() {
        Event::ProvisionalAcknowledged { body, .. } => assert_eq!(body.unwrap(), ANSWER),
        other => panic!("{other:?}"),
    }
    let ok = solo.answer(session);
    assert_eq!(ok.body(), "");
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    assert!(matches!(solo.take_event(), Event::Acknowledged { body: None, .. }));
}

/// RFC 3262 5: once answered, a PRACK may carry a new offer, answered in its 200.
#[test]
fn a_prack_may_bring_a_new_offer() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.endpoint.provisional(solo.now, session, 183, Some(ANSWER.into())).unwrap();
    solo.drain();
    let progress = solo.take_one();
    solo.feed(&prack(&progress, 2).sdp(OFFER));
    let events = solo.take_events();
    assert!(matches!(events[1], Event::Offer { kind: OfferKind::Prack, .. }));
    solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    let ok = solo.take_one();
    assert_eq!((ok.what(), ok.header("CSeq"), ok.body()), ("200", Some("2 PRACK"), ANSWER));
}

#[test]
fn a_cancel_ends_the_repetition() {
    let mut solo = Solo::new();
    let session = solo.accept(&required());
    solo.ring(session);
    let ringing = solo.take_one();
    solo.feed(&Ask::new("CANCEL").branch("invite-1"));
    solo.take_sent();
    solo.feed(&Ask::new("ACK").branch("invite-1").within(ringing.to_tag()));
    solo.advance_ms(20_000);
    assert!(solo.take_sent().is_empty());
    solo.assert_no_leak();
}

#[test]
fn what_is_only_supported_is_used_by_policy_alone() {
    let supported = Ask::invite().header("Supported: 100rel");
    let mut solo = Solo::new();
    let session = solo.accept(&supported);
    solo.ring(session);
    assert_eq!(solo.take_one().header("RSeq"), None);
    let mut solo = Solo::new();
    solo.policy.reliable = ReliableProvisionals::WhenSupported;
    let session = solo.accept(&supported);
    solo.ring(session);
    assert!(solo.take_one().header("RSeq").is_some());
}

/// RFC 3262 4: each reliable response gets a PRACK, a repeat none, and one out of order is passed over.
#[test]
fn as_caller_each_reliable_response_is_acknowledged_once_and_in_order() {
    let (mut solo, _, invite) = calling(call());
    let reliable = |rseq: u32| {
        invite.response(183, "far").contact().header("Require: 100rel").header(&format!("RSeq: {rseq}"))
    };
    solo.reply(&reliable(10));
    let prack = solo.take_one();
    assert_eq!((prack.what(), prack.header("RAck")), ("PRACK", Some("10 1 INVITE")));
    assert_eq!((prack.header("CSeq"), prack.request_uri()), (Some("2 PRACK"), "sip:peer@192.0.2.1:5060"));
    assert!(matches!(solo.take_event(), Event::Progress { status: 183, .. }));
    solo.reply(&prack.response(200, ""));
    solo.reply(&reliable(10));
    solo.reply(&reliable(12));
    assert!(solo.take_sent().is_empty());
    solo.assert_no_events();
    solo.reply(&reliable(11));
    assert_eq!(solo.take_one().header("RAck"), Some("11 1 INVITE"));
    solo.take_events();
    // The numbers go on in the confirmed dialog.
    solo.reply(&invite.response(200, "far").contact().sdp(ANSWER));
    assert_eq!(solo.take_one().header("CSeq"), Some("1 ACK"));
    let session = match solo.take_event() {
        Event::Answered { session, .. } => session,
        other => panic!("{other:?}"),
    };
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().header("CSeq"), Some("4 BYE"));
}
