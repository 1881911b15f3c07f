//! Our INVITE: provisional responses, ACK, CANCEL, forks, challenges. RFC 3261 9.1, 13.2, 17.1.1, 22.

use std::time::Duration;

use tandem_sip::auth::Answerer;
use tandem_sip::{EndedBy, Event, OutgoingInvite, SessionId, SessionPolicy, Target, Transport};

use crate::solo::{ANSWER, Ask, OFFER, Sent, Solo, peer, udp, us};

pub(crate) fn call() -> OutgoingInvite {
    OutgoingInvite {
        uri: "sip:far@192.0.2.1:5060".into(),
        from: "\"Tandem\" <sip:tandem@example.com>".into(),
        to: "<sip:far@example.com>".into(),
        call_id: None,
        routes: Vec::new(),
        target: Target::Flow(udp(peer())),
        local: us(),
        sdp: Some(OFFER.into()),
        credentials: None,
        headers: vec![("X-Call".into(), "7".into())],
        policy: SessionPolicy::default(),
    }
}

pub(crate) fn calling(call: OutgoingInvite) -> (Solo, SessionId, Sent) {
    let mut solo = Solo::new();
    let session = solo.endpoint.invite(solo.now, call).unwrap();
    solo.drain();
    let invite = solo.take_one();
    assert_eq!(invite.what(), "INVITE");
    (solo, session, invite)
}

#[test]
fn a_call_rings_is_answered_acknowledged_and_hung_up() {
    let (mut solo, session, invite) = calling(call());
    assert_eq!((invite.header("X-Call"), invite.body()), (Some("7"), OFFER));
    assert!(invite.header("Via").unwrap().contains(";rport;"));
    solo.reply(&invite.response(100, ""));
    solo.assert_no_events();
    solo.reply(&invite.response(180, "far"));
    assert!(matches!(solo.take_event(), Event::Progress { status: 180, body: None, .. }));
    assert!(solo.take_sent().is_empty());
    let ok = invite.response(200, "far").contact().sdp(ANSWER);
    solo.reply(&ok);
    let ack = solo.take_one();
    assert_eq!((ack.what(), ack.request_uri()), ("ACK", "sip:peer@192.0.2.1:5060"));
    assert_eq!((ack.header("CSeq"), ack.to_tag()), (Some("1 ACK"), "far"));
    assert_ne!(ack.header("Via"), invite.header("Via"));
    match solo.take_event() {
        Event::Answered { body, status: 200, .. } => assert_eq!(body.unwrap(), ANSWER),
        other => panic!("{other:?}"),
    }
    // RFC 3261 13.2.2.4: each 2xx is acknowledged.
    solo.reply(&ok);
    assert_eq!(solo.take_one().text, ack.text);
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    let bye = solo.take_one();
    assert_eq!((bye.what(), bye.header("CSeq")), ("BYE", Some("2 BYE")));
    assert!(matches!(solo.ended_by(), EndedBy::HungUp));
    // Even after the BYE.
    solo.reply(&ok);
    assert_eq!(solo.take_one().text, ack.text);
    solo.reply(&bye.response(200, ""));
    solo.assert_no_leak();
}

/// RFC 3261 17.1.1.3: the ACK to a failure has the INVITE's branch and the response's To, and goes each time.
#[test]
fn a_refused_call_is_acknowledged_within_its_transaction() {
    let (mut solo, _, invite) = calling(call());
    let busy = invite.response(486, "far").header("Reason: Q.850;cause=17").header("Retry-After: 5");
    for _ in 0..2 {
        solo.reply(&busy);
        let ack = solo.take_one();
        assert_eq!((ack.what(), ack.header("Via")), ("ACK", invite.header("Via")));
        assert_eq!((ack.to_tag(), ack.request_uri()), ("far", invite.request_uri()));
    }
    match solo.take_event() {
        Event::Ended { by: EndedBy::Refused { status: 486, response }, reason, .. } => {
            assert_eq!(reason.unwrap(), "Q.850;cause=17");
            assert_eq!(response.fields().seconds(tandem_sip::HeaderName::RetryAfter), Some(5));
        }
        other => panic!("{other:?}"),
    }
    solo.assert_no_leak();
}

#[test]
fn a_call_nobody_answers_ends_after_64_t1() {
    let (mut solo, _, invite) = calling(call());
    solo.advance(Duration::from_secs(32));
    let at: Vec<u128> = solo.take_sent().iter().map(|sent| (sent.at - invite.at).as_millis()).collect();
    assert_eq!(at, [500, 1500, 3500, 7500, 15500, 31500]);
    assert!(matches!(solo.ended_by(), EndedBy::NoResponse));
    solo.assert_no_leak();
}

#[test]
fn a_call_that_cannot_be_sent_ends_at_once() {
    let mut solo = Solo::new();
    solo.endpoint.invite(solo.now, call()).unwrap();
    let transmit = solo.endpoint.poll_transmit().unwrap();
    solo.endpoint.handle_transmit_failed(solo.now, transmit.id);
    solo.drain();
    assert!(matches!(solo.ended_by(), EndedBy::TransportLost));
    solo.assert_no_leak();
}

/// RFC 3261 9.1: CANCEL only after a provisional response.
#[test]
fn a_cancel_waits_for_the_first_provisional_response() {
    let (mut solo, session, invite) = calling(call());
    solo.endpoint.hangup(solo.now, session, Some("SIP;cause=480".into())).unwrap();
    solo.drain();
    assert!(solo.take_sent().is_empty());
    solo.reply(&invite.response(100, ""));
    let cancel = solo.take_one();
    assert_eq!((cancel.what(), cancel.header("Via")), ("CANCEL", invite.header("Via")));
    assert_eq!((cancel.header("CSeq"), cancel.to_tag()), (Some("1 CANCEL"), ""));
    assert_eq!(cancel.header("Reason"), Some("SIP;cause=480"));
    solo.reply(&cancel.response(200, "far"));
    solo.reply(&invite.response(487, "far"));
    assert_eq!(solo.take_what(), ["ACK"]);
    assert!(matches!(solo.ended_by(), EndedBy::HungUp));
    solo.assert_no_leak();
}

/// RFC 5407 3.1.2: the 200 that overtakes our CANCEL gets ACK and BYE.
#[test]
fn a_200_that_crosses_our_cancel_is_acknowledged_and_ended() {
    let (mut solo, session, invite) = calling(call());
    solo.reply(&invite.response(180, "far"));
    solo.take_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["CANCEL"]);
    solo.reply(&invite.response(200, "far").contact().sdp(ANSWER));
    assert_eq!(solo.take_what(), ["ACK", "BYE"]);
    assert!(matches!(solo.ended_by(), EndedBy::HungUp));
    solo.assert_no_leak();
}

/// RFC 3261 9.1: 64*T1 after the CANCEL the INVITE is given up.
#[test]
fn a_cancelled_call_without_final_response_is_given_up() {
    let (mut solo, session, invite) = calling(call());
    solo.reply(&invite.response(180, "far"));
    solo.take_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.advance(Duration::from_secs(32));
    assert!(matches!(solo.ended_by(), EndedBy::HungUp));
    solo.assert_no_leak();
}

/// The bound on ringing: nothing lives for ever after a 100.
#[test]
fn a_call_that_rings_for_ever_is_cancelled() {
    let (mut solo, _, invite) = calling(call());
    solo.reply(&invite.response(180, "far"));
    solo.take_events();
    solo.advance(Duration::from_secs(180));
    assert_eq!(solo.take_what()[0], "CANCEL");
    solo.reply(&invite.response(487, "far"));
    assert!(matches!(solo.ended_by(), EndedBy::NoResponse));
}

/// RFC 3261 13.2.2.4: the 2xx of another fork is acknowledged and ended by BYE.
#[test]
fn a_second_fork_is_acknowledged_and_ended() {
    let (mut solo, _, invite) = calling(call());
    solo.reply(&invite.response(200, "one").contact().sdp(ANSWER));
    assert_eq!(solo.take_what(), ["ACK"]);
    solo.take_events();
    let other = invite.response(200, "two").header("Contact: <sip:other@192.0.2.3>").sdp(ANSWER);
    solo.reply(&other);
    let sent = solo.take_sent();
    assert_eq!((sent[0].what(), sent[0].to_tag()), ("ACK", "two"));
    assert_eq!((sent[1].what(), sent[1].to_tag()), ("BYE", "two"));
    assert_eq!(sent[1].request_uri(), "sip:other@192.0.2.3");
    solo.reply(&other);
    assert_eq!(solo.take_one().text, sent[0].text);
    solo.assert_no_events();
    assert_eq!(solo.endpoint.counters().forks_ended, 1);
}

/// RFC 3261 12.1.2: our route set is the reversed Record-Route, on ACK and BYE alike.
#[test]
fn the_route_set_is_on_the_ack_and_on_the_bye() {
    let (mut solo, session, invite) = calling(call());
    let ok = invite.response(200, "far").contact().sdp(ANSWER);
    solo.reply(&ok.header("Record-Route: <sip:192.0.2.31;lr>, <sip:192.0.2.30;lr>"));
    let ack = solo.take_one();
    assert_eq!(ack.headers("Route"), ["<sip:192.0.2.30;lr>", "<sip:192.0.2.31;lr>"]);
    assert_eq!(ack.target.remote().unwrap().to_string(), "192.0.2.30:5060");
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    let bye = solo.take_one();
    assert_eq!(bye.headers("Route"), ack.headers("Route"));
}

/// RFC 3261 22.2: the same Call-ID and From tag, the next CSeq, and the ACK carries the credentials too.
#[test]
fn a_challenge_is_answered_once() {
    let credentials = Some(Answerer::new("user", "secret"));
    let (mut solo, _, invite) = calling(OutgoingInvite { credentials, ..call() });
    let challenge = "Proxy-Authenticate: Digest realm=\"example.com\", nonce=\"abc\", qop=\"auth\"";
    solo.reply(&invite.response(407, "p1").header(challenge));
    let sent = solo.take_sent();
    assert_eq!((sent[0].what(), sent[1].what()), ("ACK", "INVITE"));
    let again = &sent[1];
    assert_eq!(again.header("CSeq"), Some("2 INVITE"));
    assert_eq!(again.header("Call-ID"), invite.header("Call-ID"));
    assert_eq!(again.header("From"), invite.header("From"));
    assert_eq!((again.to_tag(), again.body()), ("", OFFER));
    assert!(again.header("Proxy-Authorization").unwrap().contains("response="));
    assert_eq!(again.headers("X-Call"), ["7"]);
    solo.assert_no_events();
    solo.reply(&again.response(407, "p2").header(challenge));
    assert!(matches!(solo.ended_by(), EndedBy::Refused { status: 407, .. }));
    solo.assert_no_leak();
}

/// RFC 3261 22.3: a proxy asks first, the server behind it next; all that follows answers both, the ACK included.
#[test]
fn a_proxy_and_the_server_behind_it_are_answered_in_one_dialog() {
    let credentials = Some(Answerer::new("user", "secret"));
    let (mut solo, session, invite) = calling(OutgoingInvite { credentials, ..call() });
    solo.reply(&invite.response(407, "p1").header("Proxy-Authenticate: Digest realm=\"proxy\", nonce=\"1\""));
    let second = solo.take_sent().pop().unwrap();
    solo.reply(&second.response(401, "p2").header("WWW-Authenticate: Digest realm=\"server\", nonce=\"2\""));
    let third = solo.take_sent().pop().unwrap();
    assert_eq!(third.header("CSeq"), Some("3 INVITE"));
    assert!(third.header("Proxy-Authorization").unwrap().contains("realm=\"proxy\""));
    assert!(third.header("Authorization").unwrap().contains("realm=\"server\""));
    solo.reply(&third.response(200, "far").contact().sdp(ANSWER));
    let ack = solo.take_one();
    assert_eq!(ack.header("Proxy-Authorization"), third.header("Proxy-Authorization"));
    assert_eq!(ack.header("Authorization"), third.header("Authorization"));
    solo.take_events();
    // Each may ask again for the BYE; a third, that never asked before, learns nothing.
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    let bye = solo.take_one();
    solo.reply(&bye.response(407, "far").header("Proxy-Authenticate: Digest realm=\"evil\", nonce=\"3\""));
    assert!(solo.take_sent().is_empty(), "credentials go only where they belong");
}

/// Whoever is called chooses where the BYE goes, and may challenge it with a nonce of its own, in the carrier's own realm or
/// on a call that was never challenged: it does not get the digest of the trunk's password.
#[test]
fn a_challenge_from_elsewhere_than_the_gateway_is_not_answered() {
    for is_known in [false, true] {
        let credentials = Some(Answerer::new("user", "secret"));
        let (mut solo, session, mut invite) = calling(OutgoingInvite { credentials, ..call() });
        let challenge = "Proxy-Authenticate: Digest realm=\"home\", nonce=\"1\"";
        if is_known {
            solo.reply(&invite.response(407, "p1").header(challenge));
            invite = solo.take_sent().pop().unwrap();
        }
        let ok = invite.response(200, "far").header("Contact: <sip:thief@198.51.100.66>").sdp(ANSWER);
        solo.reply(&ok);
        solo.take_sent();
        solo.take_events();
        solo.endpoint.hangup(solo.now, session, None).unwrap();
        solo.drain();
        let bye = solo.take_one();
        assert_eq!(bye.target.remote(), Some(crate::solo::stranger()));
        let reply = bye.response(407, "far").header(challenge);
        solo.feed_from(udp(crate::solo::stranger()), &reply.text());
        assert!(solo.take_sent().is_empty(), "answered a stranger, known realm: {is_known}");
        assert!(matches!(solo.ended_by(), EndedBy::HungUp));
    }
}

#[test]
fn the_ack_of_a_challenged_call_carries_its_credentials() {
    let credentials = Some(Answerer::new("user", "secret"));
    let (mut solo, _, invite) = calling(OutgoingInvite { credentials, ..call() });
    let challenge = "WWW-Authenticate: Digest realm=\"example.com\", nonce=\"abc\", qop=\"auth\"";
    solo.reply(&invite.response(401, "p1").header(challenge));
    let again = solo.take_sent().pop().unwrap();
    solo.reply(&again.response(200, "far").contact().sdp(ANSWER));
    let ack = solo.take_one();
    assert_eq!(ack.header("Authorization"), again.header("Authorization"));
    assert_eq!(ack.header("CSeq"), Some("2 ACK"));
}

/// RFC 3261 13.2.1: without an offer of ours, the 2xx brings one, and our ACK answers it.
#[test]
fn an_invite_without_offer_answers_in_its_ack() {
    let (mut solo, session, invite) = calling(OutgoingInvite { sdp: None, ..call() });
    let ok = invite.response(200, "far").contact().sdp(OFFER);
    solo.reply(&ok);
    assert!(solo.take_sent().is_empty());
    assert!(matches!(solo.take_event(), Event::Answered { body: Some(_), .. }));
    solo.endpoint.acknowledge(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    let ack = solo.take_one();
    assert_eq!((ack.what(), ack.body()), ("ACK", ANSWER));
    solo.reply(&ok);
    assert_eq!(solo.take_one().text, ack.text);
}

#[test]
fn the_callee_hangs_up() {
    let (mut solo, _, invite) = calling(call());
    solo.reply(&invite.response(200, "far").contact().sdp(ANSWER));
    solo.take_sent();
    solo.take_events();
    let from = invite.header("From").unwrap();
    let bye =
        Ask::new("BYE").call(invite.header("Call-ID").unwrap()).sender("far").within(crate::solo::tag(from));
    solo.feed(&bye);
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.ended_by(), EndedBy::ByeReceived));
    solo.assert_no_leak();
}

/// RFC 3263: a name is handed to the resolver, and responses find their transaction all the same.
#[test]
fn a_call_to_a_name_is_resolved_by_the_shell() {
    let target = Target::Name { transport: Transport::Udp, host: "example.com".to_owned(), port: None };
    let (mut solo, _, invite) = calling(OutgoingInvite { target: target.clone(), ..call() });
    assert_eq!(invite.target, target);
    solo.reply(&invite.response(404, "far"));
    assert!(matches!(solo.ended_by(), EndedBy::Refused { status: 404, .. }));
}

#[test]
fn headers_and_uris_given_by_others_cannot_end_their_line() {
    let mut evil = call();
    evil.headers.push(("X-Evil".into(), "a\r\nContact: <sip:evil@192.0.2.66>".into()));
    let (_, _, invite) = calling(evil);
    assert_eq!(invite.headers("Contact").len(), 1);
}
