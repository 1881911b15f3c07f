//! The races of RFC 5407 and those of carriers' daily life, between two endpoints.

use tandem_sip::{EndedBy, Event, OfferKind, SessionId};

use crate::pair::{A, B, Link, Pair};
use crate::solo::{ANSWER, OFFER};

fn ended(event: &Event) -> bool {
    matches!(event, Event::Ended { .. })
}

fn end_of(pair: &mut Pair, side: usize) -> EndedBy {
    match pair.take(side, ended) {
        Event::Ended { by, .. } => by,
        other => panic!("{other:?}"),
    }
}

fn ringing() -> (Pair, SessionId, SessionId) {
    let mut pair = Pair::new(1, Link::default());
    let a = pair.call();
    pair.run_ms(50);
    let b = pair.accept();
    pair.act(B, |end, now| end.provisional(now, b, 180, None)).unwrap();
    pair.run_ms(50);
    (pair, a, b)
}

fn established() -> (Pair, SessionId, SessionId) {
    let (mut pair, a, b) = ringing();
    pair.act(B, |end, now| end.answer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(100);
    pair.take(B, |event| matches!(event, Event::Acknowledged { .. }));
    pair.take(A, |event| matches!(event, Event::Answered { .. }));
    pair.events = [Vec::new(), Vec::new()];
    (pair, a, b)
}

#[test]
fn a_call_between_two_endpoints_leaves_nothing_behind() {
    let (mut pair, a, _) = established();
    pair.act(A, |end, now| end.hangup(now, a, None)).unwrap();
    pair.run_ms(100);
    assert!(matches!(end_of(&mut pair, A), EndedBy::HungUp));
    assert!(matches!(end_of(&mut pair, B), EndedBy::ByeReceived));
    pair.assert_no_leak();
}

/// RFC 5407 3.1.2: CANCEL and 200 cross on the wire.
#[test]
fn cancel_crosses_200() {
    let (mut pair, a, b) = ringing();
    pair.act(A, |end, now| end.hangup(now, a, None)).unwrap();
    pair.act(B, |end, now| end.answer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(500);
    assert!(matches!(end_of(&mut pair, A), EndedBy::HungUp));
    assert!(matches!(end_of(&mut pair, B), EndedBy::ByeReceived));
    assert_eq!(pair.count(A, "ACK"), 1);
    assert_eq!(pair.count(A, "BYE"), 1);
    pair.assert_no_leak();
}

/// RFC 5407 3.1.1: CANCEL and a refusal cross.
#[test]
fn cancel_crosses_486() {
    let (mut pair, a, b) = ringing();
    pair.act(A, |end, now| end.hangup(now, a, None)).unwrap();
    pair.act(B, |end, now| end.reject(now, b, tandem_sip::Refusal::new(486))).unwrap();
    pair.run_ms(500);
    assert!(matches!(end_of(&mut pair, A), EndedBy::HungUp));
    assert!(matches!(end_of(&mut pair, B), EndedBy::Rejected { status: 486 }));
    pair.assert_no_leak();
}

/// RFC 5407 3.2.3: both hang up at once; each BYE is answered 200.
#[test]
fn both_sides_hang_up_at_once() {
    let (mut pair, a, b) = established();
    pair.act(A, |end, now| end.hangup(now, a, None)).unwrap();
    pair.act(B, |end, now| end.hangup(now, b, None)).unwrap();
    pair.run_ms(200);
    assert!(matches!(end_of(&mut pair, A), EndedBy::HungUp));
    assert!(matches!(end_of(&mut pair, B), EndedBy::HungUp));
    assert!(!pair.has(A, ended) && !pair.has(B, ended));
    let answered =
        pair.log.iter().filter(|(_, _, text)| text.starts_with("SIP/2.0 200") && text.contains("BYE\r\n"));
    assert_eq!(answered.count(), 2);
    pair.assert_no_leak();
}

/// RFC 5407 3.1.3: the caller's BYE arrives before its ACK.
#[test]
fn bye_overtakes_ack() {
    let (mut pair, a, b) = ringing();
    pair.censor = Box::new(|side, text| side == A && text.starts_with("ACK"));
    pair.act(B, |end, now| end.answer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(100);
    pair.act(A, |end, now| end.hangup(now, a, None)).unwrap();
    pair.run_ms(100);
    assert!(matches!(end_of(&mut pair, B), EndedBy::ByeReceived));
    let before = pair.count(B, "SIP/2.0 200");
    pair.run_ms(5000);
    assert_eq!(pair.count(B, "SIP/2.0 200"), before, "the 200 is not repeated after the BYE");
    pair.assert_no_leak();
}

/// A lost ACK: the 200 comes again and is acknowledged again.
#[test]
fn lost_ack() {
    let (mut pair, _, b) = ringing();
    let mut lost = 0;
    pair.censor = Box::new(move |_, text| {
        lost += usize::from(text.starts_with("ACK"));
        text.starts_with("ACK") && lost < 3
    });
    pair.act(B, |end, now| end.answer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(3000);
    pair.take(B, |event| matches!(event, Event::Acknowledged { .. }));
    assert_eq!(pair.count(A, "ACK"), 3);
    let answered = pair.events[A].iter().filter(|event| matches!(event, Event::Answered { .. }));
    assert_eq!(answered.count(), 1);
}

/// A lost 200: it is repeated by the usage, for the transaction only absorbs.
#[test]
fn lost_200() {
    let (mut pair, _, b) = ringing();
    let mut first = true;
    pair.censor = Box::new(move |_, text| text.starts_with("SIP/2.0 200") && std::mem::take(&mut first));
    pair.act(B, |end, now| end.answer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(1000);
    assert!(pair.has(A, |event| matches!(event, Event::Answered { .. })));
    assert!(pair.has(B, |event| matches!(event, Event::Acknowledged { .. })));
}

/// RFC 5407 3.3.1 and RFC 3261 14.1: re-INVITEs cross; both get 491, and both changes come through in the end.
#[test]
fn reinvites_cross() {
    let (mut pair, a, b) = established();
    pair.act(A, |end, now| end.reinvite(now, a, OFFER.into())).unwrap();
    pair.act(B, |end, now| end.reinvite(now, b, OFFER.into())).unwrap();
    pair.run_ms(30);
    assert_eq!((pair.count(A, "SIP/2.0 491"), pair.count(B, "SIP/2.0 491")), (1, 1));
    for _ in 0..800 {
        pair.run_ms(10);
        for (side, session) in [(A, a), (B, b)] {
            if pair.has(side, |event| matches!(event, Event::Offer { .. })) {
                pair.take(side, |event| matches!(event, Event::Offer { .. }));
                pair.act(side, |end, now| end.answer_offer(now, session, ANSWER.into())).unwrap();
            }
        }
    }
    pair.take(A, |event| matches!(event, Event::OfferAnswered { .. }));
    pair.take(B, |event| matches!(event, Event::OfferAnswered { .. }));
}

/// RFC 5407 3.3.2: UPDATE and re-INVITE cross.
#[test]
fn update_crosses_reinvite() {
    let (mut pair, a, b) = established();
    pair.act(A, |end, now| end.update(now, a, Some(OFFER.into()))).unwrap();
    pair.act(B, |end, now| end.reinvite(now, b, OFFER.into())).unwrap();
    pair.run_ms(60);
    assert_eq!((pair.count(A, "SIP/2.0 491"), pair.count(B, "SIP/2.0 491")), (1, 1));
}

/// RFC 5407 3.2.1: a BYE crosses a re-INVITE, which gets 481 or 487 and ends nothing twice.
#[test]
fn bye_crosses_reinvite() {
    let (mut pair, a, b) = established();
    pair.act(A, |end, now| end.reinvite(now, a, OFFER.into())).unwrap();
    pair.act(B, |end, now| end.hangup(now, b, None)).unwrap();
    pair.run_ms(500);
    assert!(matches!(end_of(&mut pair, A), EndedBy::ByeReceived));
    assert!(matches!(end_of(&mut pair, B), EndedBy::HungUp));
    assert!(!pair.has(A, ended) && !pair.has(B, ended));
    pair.assert_no_leak();
}

/// RFC 5407 3.1.4: a re-INVITE comes before the ACK of the first INVITE. The first offer is answered by our
/// 200, so the new one is taken, and both 200s live until their own ACKs.
#[test]
fn reinvite_overtakes_ack() {
    let (mut pair, a, b) = ringing();
    let mut lost = false;
    pair.censor = Box::new(move |_, text| text.starts_with("ACK") && !std::mem::replace(&mut lost, true));
    pair.act(B, |end, now| end.answer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(100);
    pair.act(A, |end, now| end.reinvite(now, a, OFFER.into())).unwrap();
    pair.run_ms(50);
    match pair.take(B, |event| matches!(event, Event::Offer { .. })) {
        Event::Offer { kind: OfferKind::ReInvite, .. } => {}
        other => panic!("{other:?}"),
    }
    pair.act(B, |end, now| end.answer_offer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(5000);
    let acknowledged = pair.events[B].iter().filter(|event| matches!(event, Event::Acknowledged { .. }));
    assert_eq!(acknowledged.count(), 2, "{}", pair.ladder());
}

/// The last provisional response arrives after the 200.
#[test]
fn a_late_180_says_nothing_after_the_200() {
    let (mut pair, _, b) = ringing();
    pair.act(B, |end, now| end.answer(now, b, ANSWER.into())).unwrap();
    pair.run_ms(100);
    let late = pair.log.iter().find(|(_, _, text)| text.starts_with("SIP/2.0 180")).unwrap().2.clone();
    let flow = tandem_sip::Flow {
        transport: tandem_sip::Transport::Udp,
        local: crate::pair::address(A),
        remote: crate::pair::address(B),
        connection: 0,
    };
    pair.events[A].clear();
    pair.act(A, |end, now| end.handle_datagram(now, flow, late.into()));
    assert!(pair.events[A].is_empty());
}

/// The peer restarts and forgets: our BYE gets 481, and that is the end of it.
#[test]
fn a_peer_that_forgot_everything() {
    let (mut pair, a, _) = established();
    pair.ends[B] = tandem_sip::Endpoint::new(Default::default(), 99);
    pair.act(A, |end, now| end.hangup(now, a, None)).unwrap();
    pair.run_ms(100);
    assert_eq!(pair.count(B, "SIP/2.0 481"), 1);
    assert!(matches!(end_of(&mut pair, A), EndedBy::HungUp));
    pair.assert_no_leak();
}
