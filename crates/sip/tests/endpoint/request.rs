//! Requests outside of dialogs: OPTIONS to keep watch, REGISTER. RFC 3261 8.1, 10.2, 11.1, 22.

use std::time::Duration;

use tandem_sip::auth::Answerer;
use tandem_sip::{ContactUse, Event, HeaderName, Misuse, NoResponseCause, OutgoingRequest, Target};

use crate::solo::{Sent, Solo, peer, udp, us};

fn request(method: &str) -> OutgoingRequest {
    OutgoingRequest {
        method: method.to_owned(),
        uri: "sip:192.0.2.1".into(),
        from: "<sip:tandem@example.com>".into(),
        to: "<sip:carrier@example.com>".into(),
        call_id: None,
        cseq: 1,
        routes: Vec::new(),
        target: Target::Flow(udp(peer())),
        local: us(),
        contact: ContactUse::Ours,
        headers: Vec::new(),
        credentials: None,
    }
}

fn sent(request: OutgoingRequest) -> (Solo, tandem_sip::RequestId, Sent) {
    let mut solo = Solo::new();
    let id = solo.endpoint.request(solo.now, request).unwrap();
    solo.drain();
    let sent = solo.take_one();
    (solo, id, sent)
}

#[test]
fn an_options_brings_its_final_response_once() {
    let (mut solo, id, options) = sent(request("OPTIONS"));
    assert_eq!((options.what(), options.header("Max-Forwards")), ("OPTIONS", Some("70")));
    solo.reply(&options.response(100, ""));
    solo.assert_no_events();
    let ok = options.response(200, "far").header("Allow: INVITE");
    solo.reply(&ok);
    match solo.take_event() {
        Event::Response { request, response, credentials: None } => {
            assert_eq!((request, response.status()), (id, 200));
            assert!(response.lists(HeaderName::Allow, "INVITE"));
        }
        other => panic!("{other:?}"),
    }
    solo.reply(&ok);
    solo.assert_no_events();
    solo.assert_no_leak();
}

#[test]
fn an_options_nobody_answers_is_given_up_after_64_t1() {
    let (mut solo, _, _) = sent(request("OPTIONS"));
    solo.advance(Duration::from_secs(32));
    assert_eq!(solo.take_sent().len(), 10);
    assert!(matches!(solo.take_event(), Event::NoResponse { cause: NoResponseCause::TimedOut, .. }));
    solo.assert_no_leak();
}

#[test]
fn an_options_that_cannot_be_sent_fails_at_once() {
    let mut solo = Solo::new();
    solo.endpoint.request(solo.now, request("OPTIONS")).unwrap();
    let transmit = solo.endpoint.poll_transmit().unwrap();
    solo.endpoint.handle_transmit_failed(solo.now, transmit.id);
    solo.drain();
    assert!(matches!(solo.take_event(), Event::NoResponse { cause: NoResponseCause::TransportFailed, .. }));
    solo.assert_no_leak();
}

/// RFC 3261 10.2.4: the same Call-ID with rising CSeq; a challenge is answered once, stale ones again.
#[test]
fn a_register_answers_its_challenge_within_its_call_id() {
    let credentials = Some(Answerer::new("user", "secret"));
    let register =
        OutgoingRequest { call_id: Some("reg-1".into()), cseq: 7, credentials, ..request("REGISTER") };
    let (mut solo, _, first) = sent(register);
    let challenge = |nonce: &str, stale: &str| {
        format!("WWW-Authenticate: Digest realm=\"r\", nonce=\"{nonce}\", qop=\"auth\"{stale}")
    };
    solo.reply(&first.response(401, "t").header(&challenge("one", "")));
    let second = solo.take_one();
    assert_eq!((second.header("Call-ID"), second.header("CSeq")), (Some("reg-1"), Some("8 REGISTER")));
    assert!(second.header("Authorization").unwrap().contains("nonce=\"one\""));
    assert_eq!(second.header("Contact"), first.header("Contact"));
    solo.reply(&second.response(401, "t").header(&challenge("two", ", stale=true")));
    let third = solo.take_one();
    assert!(third.header("Authorization").unwrap().contains("nonce=\"two\""));
    assert_eq!(third.headers("Authorization").len(), 1);
    solo.reply(&third.response(401, "t").header(&challenge("three", "")));
    assert!(solo.take_sent().is_empty());
    match solo.take_event() {
        Event::Response { response, .. } => assert_eq!(response.cseq().number, 9),
        other => panic!("{other:?}"),
    }
    solo.assert_no_leak();
}

/// RFC 7616 3.4: "The nc value is the hexadecimal count of the number of requests (including the current request) that the
/// client has sent with the nonce value in this request." The next request of one registration answers at once.
#[test]
fn credentials_go_from_request_to_request_and_count_on() {
    let register = |call_id: &'static str, cseq, credentials| OutgoingRequest {
        call_id: Some(call_id.into()),
        cseq,
        credentials,
        ..request("REGISTER")
    };
    let (mut solo, _, first) = sent(register("reg-1", 1, Some(Answerer::new("user", "secret"))));
    let challenge = "WWW-Authenticate: Digest realm=\"r\", nonce=\"one\", qop=\"auth\"";
    solo.reply(&first.response(401, "t").header(challenge));
    let second = solo.take_one();
    assert!(second.header("Authorization").unwrap().contains("nc=00000001"));
    solo.reply(&second.response(200, "t"));
    let Event::Response { credentials: Some(credentials), .. } = solo.take_event() else { panic!() };
    solo.endpoint.request(solo.now, register("reg-1", 3, Some(*credentials))).unwrap();
    solo.drain();
    let third = solo.take_one();
    let told = third.header("Authorization").unwrap();
    assert!(told.contains("nonce=\"one\"") && told.contains("nc=00000002"), "{told}");
    // After success a fresh nonce is taken, whether the old one is called stale or not.
    solo.reply(&third.response(401, "t").header(&challenge.replace("one", "two")));
    let fourth = solo.take_one();
    let told = fourth.header("Authorization").unwrap();
    assert!(told.contains("nonce=\"two\"") && told.contains("nc=00000001"), "{told}");
    assert_eq!(fourth.headers("Authorization").len(), 1);
    solo.reply(&fourth.response(200, "t"));
    assert!(matches!(solo.take_event(), Event::Response { credentials: Some(_), .. }));
    solo.assert_no_leak();
}

#[test]
fn what_belongs_to_sessions_is_not_sent_as_a_request() {
    let mut solo = Solo::new();
    for method in ["INVITE", "ACK", "CANCEL"] {
        assert_eq!(solo.endpoint.request(solo.now, request(method)), Err(Misuse::BadInput));
    }
    let bad = OutgoingRequest { uri: "not a uri".into(), ..request("OPTIONS") };
    assert_eq!(solo.endpoint.request(solo.now, bad), Err(Misuse::BadInput));
    assert_eq!(solo.endpoint.census(), Default::default());
}
