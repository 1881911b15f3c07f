//! The peer's INVITE: what is stored when, 100, 180, 200 until ACK, refusals, BYE.

use std::time::Duration;

use bytes::Bytes;
use tandem_sip::{
    EndedBy, EndpointConfig, EndpointLimits, Event, Misuse, Network, NotAccepted, Refusal, ResponseRouting,
    Target,
};

use crate::solo::{ANSWER, Ask, Solo, peer, stranger, udp};

/// RFC 3261 8.2.7 and design 6: before the engine decides, nothing is stored, and nothing is sent.
#[test]
fn an_invite_leaves_no_trace_before_it_is_accepted() {
    let mut solo = Solo::new();
    solo.feed(&Ask::invite());
    assert!(solo.take_sent().is_empty());
    let incoming = solo.take_incoming();
    assert_eq!(incoming.objection(), None);
    assert_eq!(solo.endpoint.census(), Default::default());
    drop(incoming);
    solo.assert_no_leak();
}

/// RFC 3261 8.2.7: the same request gets the same bytes, and the ACK of the refusal is ignored.
#[test]
fn a_stateless_refusal_repeats_byte_for_byte_and_its_ack_is_swallowed() {
    let mut solo = Solo::new();
    let mut texts = Vec::new();
    for _ in 0..2 {
        solo.feed(&Ask::invite());
        let incoming = solo.take_incoming();
        solo.endpoint.refuse(*incoming, &Refusal::new(404).header("Reason", "Q.850;cause=1"));
        solo.drain();
        texts.push(solo.take_one().text);
    }
    assert_eq!(texts[0], texts[1]);
    assert!(texts[0].starts_with("SIP/2.0 404 Not Found\r\n"));
    solo.feed(&Ask::new("ACK").branch("invite-1").within("whatever"));
    assert!(solo.take_sent().is_empty());
    solo.assert_no_events();
    assert_eq!(solo.endpoint.census(), Default::default());
    assert_eq!(solo.endpoint.counters().stray_acks, 1);
}

#[test]
fn another_request_gets_another_tag() {
    let mut solo = Solo::new();
    let mut tags = Vec::new();
    for call in ["one", "two"] {
        solo.feed(&Ask::invite().call(call));
        let incoming = solo.take_incoming();
        solo.endpoint.refuse(*incoming, &Refusal::new(403));
        solo.drain();
        tags.push(solo.take_one().to_tag().to_owned());
    }
    assert_ne!(tags[0], tags[1]);
}

/// The whole thin path: INVITE, 100, 180, 200, ACK, BYE, 200, and nothing left at the end.
#[test]
fn a_call_is_accepted_rings_is_answered_and_ended_by_the_peer() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.ring(session);
    let ringing = solo.take_one();
    assert_eq!(ringing.what(), "180");
    let ok = solo.answer(session);
    assert_eq!((ok.what(), ok.body()), ("200", ANSWER));
    assert_eq!(ok.to_tag(), ringing.to_tag());
    assert_eq!(ok.header("Contact"), Some("<sip:tandem@192.0.2.9:5060>"));
    assert!(ok.header("Allow").unwrap().contains("UPDATE"));
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    assert!(matches!(solo.take_event(), Event::Acknowledged { body: None, .. }));
    solo.feed(&Ask::new("BYE").within(ok.to_tag()).cseq(2).header("Reason: Q.850;cause=16"));
    assert_eq!(solo.take_one().what(), "200");
    match solo.take_event() {
        Event::Ended { by: EndedBy::ByeReceived, reason, .. } => {
            assert_eq!(reason.unwrap(), "Q.850;cause=16")
        }
        other => panic!("{other:?}"),
    }
    solo.assert_no_leak();
}

/// RFC 3261 17.2.1: a repeated INVITE gets the most recent provisional response again.
#[test]
fn a_repeated_invite_gets_the_last_response_again_with_the_same_bytes() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.feed(&Ask::invite());
    assert_eq!(solo.take_one().what(), "100");
    solo.ring(session);
    let ringing = solo.take_one();
    solo.feed(&Ask::invite());
    assert_eq!(solo.take_one().text, ringing.text);
    solo.assert_no_events();
}

/// RFC 6026 8.1: the 2xx leaves at T1, doubling to T2, until 64*T1; then RFC 3261 13.3.1.4: BYE.
#[test]
fn a_2xx_repeats_from_t1_to_t2_and_without_ack_a_bye_follows_at_64_t1() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    let ok = solo.answer(session);
    let start = ok.at;
    solo.advance(Duration::from_millis(31_999));
    let repeats = solo.take_sent();
    assert!(repeats.iter().all(|repeat| repeat.text == ok.text));
    let at: Vec<u128> = repeats.iter().map(|repeat| (repeat.at - start).as_millis()).collect();
    assert_eq!(at, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    solo.advance_ms(1);
    let bye = solo.take_one();
    assert_eq!((bye.what(), bye.request_uri()), ("BYE", "sip:peer@192.0.2.1:5060"));
    assert!(matches!(solo.ended_by(), EndedBy::NoAck));
    solo.reply(&bye.response(200, ""));
    solo.assert_no_leak();
}

/// RFC 6026 8.7: repeats of an accepted INVITE are absorbed without an answer.
#[test]
fn a_repeat_of_an_accepted_invite_is_absorbed() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.answer(session);
    solo.feed(&Ask::invite());
    assert!(solo.take_sent().is_empty());
    solo.assert_no_events();
}

#[test]
fn an_ack_stops_the_2xx_and_its_repeats_say_nothing_new() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    solo.feed(&Ask::new("ACK").within(&tag).branch("ack"));
    solo.assert_no_events();
    solo.advance(Duration::from_secs(60));
    assert!(solo.take_sent().is_empty());
}

/// An ACK must carry the number of the INVITE it acknowledges (RFC 3261 13.2.2.4).
#[test]
fn an_ack_with_another_number_does_not_stop_the_2xx() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    let ok = solo.answer(session);
    solo.feed(&Ask::new("ACK").within(ok.to_tag()).cseq(2));
    solo.assert_no_events();
    solo.advance_ms(500);
    assert_eq!(solo.take_what(), ["200"]);
}

/// Some peers use the INVITE's branch for the ACK to a 2xx too.
#[test]
fn an_ack_to_a_2xx_with_the_invites_branch_is_understood() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    let ok = solo.answer(session);
    solo.feed(&Ask::new("ACK").within(ok.to_tag()).branch("invite-1"));
    assert!(matches!(solo.take_event(), Event::Acknowledged { .. }));
}

/// RFC 3261 17.2.1: a failure repeats by timer G until its ACK; timer I absorbs further ACKs.
#[test]
fn a_refusal_repeats_until_its_ack() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.endpoint.reject(solo.now, session, Refusal::new(486)).unwrap();
    solo.drain();
    let busy = solo.take_one();
    assert_eq!(busy.what(), "486");
    assert!(matches!(solo.ended_by(), EndedBy::Rejected { status: 486 }));
    solo.advance_ms(1500);
    let repeats = solo.take_sent();
    assert_eq!(repeats.len(), 2);
    assert!(repeats.iter().all(|repeat| repeat.text == busy.text));
    solo.feed(&Ask::new("ACK").branch("invite-1").within(busy.to_tag()));
    solo.advance_ms(4000);
    assert!(solo.take_sent().is_empty());
    assert_eq!(solo.endpoint.reject(solo.now, session, Refusal::new(486)), Err(Misuse::WrongState));
    solo.assert_no_leak();
}

/// RFC 3261 8.2.2.2.
#[test]
fn the_same_request_over_another_path_is_a_loop() {
    let mut solo = Solo::new();
    solo.accept(&Ask::invite());
    solo.feed(&Ask::invite().branch("other-path"));
    let incoming = solo.take_incoming();
    assert_eq!(incoming.objection().unwrap().status, 482);
    assert_eq!(
        solo.endpoint.accept(solo.now, *incoming, solo.policy.clone()),
        Err(NotAccepted::Objection(482))
    );
    solo.drain();
    assert_eq!(solo.take_what(), ["482"]);
}

/// RFC 3261 12.1.1: Record-Route goes into the 2xx unchanged and in order, and is the route set of our BYE.
#[test]
fn record_route_is_copied_to_the_2xx_and_routes_our_bye() {
    let mut solo = Solo::new();
    let invite = Ask::invite()
        .header("Record-Route: <sip:192.0.2.20;lr;foo=bar>")
        .header("Record-Route: <sip:192.0.2.21;lr>, <sip:192.0.2.22;lr>");
    let session = solo.accept(&invite);
    let ok = solo.answer(session);
    assert_eq!(
        ok.headers("Record-Route"),
        ["<sip:192.0.2.20;lr;foo=bar>", "<sip:192.0.2.21;lr>, <sip:192.0.2.22;lr>"]
    );
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    solo.take_events();
    solo.endpoint.hangup(solo.now, session, Some(Bytes::from_static(b"Q.850;cause=16"))).unwrap();
    solo.drain();
    let bye = solo.take_one();
    assert_eq!(bye.request_uri(), "sip:peer@192.0.2.1:5060");
    assert_eq!(
        bye.headers("Route"),
        ["<sip:192.0.2.20;lr;foo=bar>", "<sip:192.0.2.21;lr>", "<sip:192.0.2.22;lr>"]
    );
    assert_eq!(bye.header("Reason"), Some("Q.850;cause=16"));
    assert!(matches!(bye.target, Target::Address { remote, .. } if remote.to_string() == "192.0.2.20:5060"));
    assert!(matches!(solo.ended_by(), EndedBy::HungUp));
}

/// RFC 3581 4: with rport the response goes to the source port and says so; without, to the port of Via.
#[test]
fn responses_go_where_the_via_asks() {
    let natted = "203.0.113.5:31000".parse().unwrap();
    let answer = |tail: &str, routing| {
        let mut solo = Solo::new();
        solo.policy.routing = routing;
        solo.feed_from(udp(natted), &Ask::invite().via_tail(tail).text());
        let incoming = solo.take_incoming();
        solo.endpoint.accept(solo.now, *incoming, solo.policy.clone()).unwrap();
        solo.drain();
        let trying = solo.take_one();
        (trying.target.remote().unwrap().to_string(), trying.header("Via").unwrap().to_owned())
    };
    let (to, via) = answer(";rport", ResponseRouting::AsAsked);
    assert_eq!(to, "203.0.113.5:31000");
    assert!(via.ends_with(";received=203.0.113.5;rport=31000"), "{via}");
    let (to, via) = answer("", ResponseRouting::AsAsked);
    assert_eq!(to, "203.0.113.5:5060");
    assert!(via.ends_with(";received=203.0.113.5"), "{via}");
    let (to, _) = answer("", ResponseRouting::Symmetric);
    assert_eq!(to, "203.0.113.5:31000");
}

/// test-material: a BYE or re-INVITE from a foreign address that knows Call-ID and tags is refused.
#[test]
fn requests_within_a_dialog_from_a_foreign_address_are_refused() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    for method in ["BYE", "INVITE", "UPDATE", "INFO"] {
        solo.feed_from(udp(stranger()), &Ask::new(method).within(&tag).cseq(2).branch("foreign").text());
        assert_eq!(solo.take_what(), ["403"], "{method}");
        solo.assert_no_events();
    }
    assert_eq!(solo.endpoint.counters().foreign_requests, 4);
    solo.feed(&Ask::new("BYE").within(&tag).cseq(2));
    assert_eq!(solo.take_what(), ["200"]);
}

#[test]
fn an_ack_or_cancel_from_a_foreign_address_changes_nothing() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.feed_from(udp(stranger()), &Ask::new("CANCEL").branch("invite-1").text());
    assert_eq!(solo.take_what(), ["403"]);
    let ok = solo.answer(session);
    solo.feed_from(udp(stranger()), &Ask::new("ACK").within(ok.to_tag()).text());
    solo.assert_no_events();
    solo.advance_ms(500);
    assert_eq!(solo.take_what(), ["200"]);
}

#[test]
fn requests_within_a_dialog_from_a_trusted_network_are_taken() {
    let mut solo = Solo::new();
    solo.policy.trusted = vec![Network { address: stranger().ip(), prefix: 24 }];
    let (_, tag) = solo.established();
    solo.feed_from(udp(stranger()), &Ask::new("BYE").within(&tag).cseq(2).text());
    assert_eq!(solo.take_what(), ["200"]);
}

/// RFC 3261 12.2.2: lower numbers are out of order.
#[test]
fn a_request_with_an_old_number_is_refused_500() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established_by(&Ask::invite());
    solo.feed(&Ask::new("INFO").within(&tag).cseq(5));
    assert_eq!(solo.take_what(), ["200"]);
    solo.feed(&Ask::new("INFO").within(&tag).cseq(4).branch("late"));
    assert_eq!(solo.take_what(), ["500"]);
}

#[test]
fn a_request_for_a_dialog_that_is_not_there_gets_481_and_an_ack_nothing() {
    let mut solo = Solo::new();
    for method in ["BYE", "INVITE", "INFO", "OPTIONS", "UPDATE", "PRACK"] {
        solo.feed(&Ask::new(method).within("unknown"));
        assert_eq!(solo.take_what(), ["481"], "{method}");
    }
    solo.feed(&Ask::new("ACK").within("unknown"));
    assert!(solo.take_sent().is_empty());
    assert_eq!(solo.endpoint.census(), Default::default());
}

#[test]
fn a_repeated_bye_gets_the_same_bytes() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    let bye = Ask::new("BYE").within(&tag).cseq(2);
    solo.feed(&bye);
    let first = solo.take_one();
    solo.take_events();
    solo.feed(&bye);
    assert_eq!(solo.take_one().text, first.text);
    solo.assert_no_events();
    solo.feed(&bye.cseq(3).branch("another"));
    assert_eq!(solo.take_what(), ["200"]);
    solo.assert_no_leak();
}

/// RFC 3261 13.2.1 and 14.2: an INVITE without an offer gets ours in the 200, and the ACK answers it.
#[test]
fn an_invite_without_offer_gets_ours_and_the_ack_brings_the_answer() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::new("INVITE"));
    let ok = solo.answer(session);
    assert_eq!(ok.body(), ANSWER);
    solo.feed(&Ask::new("ACK").within(ok.to_tag()).sdp(ANSWER));
    match solo.take_event() {
        Event::Acknowledged { body, .. } => assert_eq!(body.unwrap(), ANSWER),
        other => panic!("{other:?}"),
    }
}

/// RFC 3261 15: no BYE before the ACK or the end of patience for it.
#[test]
fn hanging_up_before_the_ack_waits_for_it() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    let ok = solo.answer(session);
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert!(matches!(solo.ended_by(), EndedBy::HungUp));
    assert!(solo.take_sent().is_empty());
    solo.advance_ms(500);
    assert_eq!(solo.take_what(), ["200"]);
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    let bye = solo.take_one();
    assert_eq!(bye.what(), "BYE");
    solo.reply(&bye.response(200, ""));
    solo.assert_no_events();
    solo.assert_no_leak();
}

#[test]
fn hanging_up_before_the_answer_refuses_the_invite() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["480"]);
    assert!(matches!(solo.ended_by(), EndedBy::HungUp));
}

/// RFC 3261 13.3.1.1: a provisional response each minute keeps proxies patient.
#[test]
fn ringing_is_repeated_each_minute() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    solo.ring(session);
    solo.take_sent();
    solo.advance(Duration::from_secs(125));
    assert_eq!(solo.take_what(), ["180", "180"]);
}

/// RFC 3261 21.5.4: over the bound, 503 with Retry-After and no state.
#[test]
fn over_the_bound_of_sessions_an_invite_gets_503_without_state() {
    let limits = EndpointLimits { sessions: 1, ..Default::default() };
    let mut solo = Solo::with(EndpointConfig { limits, ..Default::default() });
    solo.accept(&Ask::invite());
    solo.feed(&Ask::invite().call("second").branch("second"));
    let incoming = solo.take_incoming();
    assert_eq!(solo.endpoint.accept(solo.now, *incoming, solo.policy.clone()), Err(NotAccepted::Overloaded));
    solo.drain();
    let refused = solo.take_one();
    assert_eq!((refused.what(), refused.header("Retry-After")), ("503", Some("10")));
    assert_eq!(solo.endpoint.census().sessions, 1);
    assert_eq!(solo.endpoint.counters().overloaded, 1);
}

#[test]
fn over_the_bound_of_transactions_requests_get_503_without_state() {
    let limits = EndpointLimits { server_transactions: 1, ..Default::default() };
    let mut solo = Solo::with(EndpointConfig { limits, ..Default::default() });
    let (_, tag) = solo.established();
    solo.feed(&Ask::new("INFO").within(&tag).cseq(2));
    assert_eq!(solo.take_what(), ["503"]);
    assert_eq!(solo.endpoint.census().server_transactions, 1);
    // A BYE is never refused for want of room: it makes room.
    solo.feed(&Ask::new("BYE").within(&tag).cseq(3));
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.ended_by(), EndedBy::ByeReceived));
    solo.assert_no_leak();
}

#[test]
fn an_accepted_invite_cannot_be_accepted_twice() {
    let mut solo = Solo::new();
    solo.feed(&Ask::invite());
    let first = solo.take_incoming();
    solo.feed(&Ask::invite());
    let second = solo.take_incoming();
    solo.endpoint.accept(solo.now, *first, solo.policy.clone()).unwrap();
    assert_eq!(solo.endpoint.accept(solo.now, *second, solo.policy.clone()), Err(NotAccepted::Repeated));
    assert_eq!(solo.endpoint.census().sessions, 1);
}

#[test]
fn an_info_is_answered_and_handed_on() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    let mut info = Ask::new("INFO").within(&tag).cseq(2).sdp("Signal=5\r\n");
    info = info.header("X: y");
    solo.feed(&info);
    assert_eq!(solo.take_what(), ["200"]);
    match solo.take_event() {
        Event::Info { body, .. } => assert_eq!(body, "Signal=5\r\n"),
        other => panic!("{other:?}"),
    }
}

/// RFC 3261 17: no response to an ACK, whatever it looks like.
#[test]
fn acks_are_never_answered() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    for ack in [
        Ask::new("ACK").branch("x1"),
        Ask::new("ACK").branch("x2").within(&tag).cseq(9),
        Ask::new("ACK").branch("x3").header("Require: unknown"),
        Ask::new("ACK").branch("x4").uri("http:nowhere"),
    ] {
        solo.feed(&ack);
    }
    solo.feed_from(udp(peer()), "ACK sip:x@y SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKq\r\n\r\n");
    assert!(solo.take_sent().is_empty());
}

/// RFC 3261 13.3.1: "If the invitation expires before the UAS has generated a final response, a 487 (Request
/// Terminated) response SHOULD be generated."
#[test]
fn an_invitation_that_expires_is_ended_with_487() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite().header("Expires: 20"));
    solo.ring(session);
    solo.advance(Duration::from_secs(19));
    assert_eq!(solo.take_what(), ["180"]);
    solo.advance(Duration::from_secs(1));
    assert_eq!(solo.take_what(), ["487"]);
    assert!(matches!(solo.ended_by(), EndedBy::Cancelled));
    solo.assert_no_leak();
}

#[test]
fn an_invite_that_nobody_decides_is_refused_in_the_end() {
    let mut solo = Solo::new();
    solo.accept(&Ask::invite());
    solo.advance(Duration::from_secs(180));
    assert_eq!(solo.take_what(), ["480"]);
    assert!(matches!(solo.ended_by(), EndedBy::NoResponse));
    solo.assert_no_leak();
}

#[test]
fn an_answered_call_outlives_the_expires_of_its_invite() {
    let mut solo = Solo::new();
    solo.established_by(&Ask::invite().header("Expires: 20"));
    solo.advance(Duration::from_secs(600));
    assert!(solo.take_sent().is_empty());
    solo.assert_no_events();
}

/// A request turned away for want of room keeps its number: its repeat is not out of order.
#[test]
fn a_request_turned_away_for_want_of_room_may_come_again() {
    let limits = EndpointLimits { server_transactions: 1, ..Default::default() };
    let mut solo = Solo::with(EndpointConfig { limits, ..Default::default() });
    let (_, tag) = solo.established();
    let info = Ask::new("INFO").within(&tag).cseq(2);
    solo.feed(&info);
    assert_eq!(solo.take_what(), ["503"]);
    solo.advance(Duration::from_secs(32));
    solo.feed(&info);
    assert_eq!(solo.take_what(), ["200"]);
}
