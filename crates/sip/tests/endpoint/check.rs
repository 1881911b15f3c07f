//! What the protocol has against requests: one status each, with the header that must go with it.

use bytes::Bytes;
use tandem_sip::{EndpointConfig, EndpointLimits, Event, Refusal};

use crate::solo::{Ask, OFFER, Solo, peer, udp};

fn objection(ask: &Ask) -> Refusal {
    let mut solo = Solo::new();
    solo.feed(ask);
    let incoming = solo.take_incoming();
    let refusal = incoming.objection().cloned().expect("an objection");
    // The engine refuses with it, and the wire carries its headers.
    solo.endpoint.refuse(*incoming, &refusal);
    solo.drain();
    let sent = solo.take_one();
    assert_eq!(sent.what(), refusal.status.to_string());
    for (name, value) in &refusal.headers {
        let name = std::str::from_utf8(name).unwrap();
        assert_eq!(sent.header(name).unwrap().as_bytes(), value);
    }
    assert_eq!(solo.endpoint.census(), Default::default());
    refusal
}

fn header<'a>(refusal: &'a Refusal, name: &str) -> &'a str {
    let found = refusal.headers.iter().find(|(found, _)| found == name.as_bytes());
    std::str::from_utf8(&found.expect("the header").1).unwrap()
}

/// RFC 3261 8.2.1.
#[test]
fn a_method_we_know_but_do_not_take_gets_405_with_allow() {
    for method in ["REGISTER", "REFER", "NOTIFY", "SUBSCRIBE", "MESSAGE", "PUBLISH"] {
        let refusal = objection(&Ask::new(method));
        assert_eq!(refusal.status, 405, "{method}");
        assert!(header(&refusal, "Allow").contains("INVITE"));
    }
}

/// RFC 3261 21.5.2.
#[test]
fn a_method_nobody_knows_gets_501() {
    assert_eq!(objection(&Ask::new("DANCE")).status, 501);
}

/// RFC 3261 8.2.2.1.
#[test]
fn a_request_uri_of_an_unknown_scheme_gets_416() {
    assert_eq!(objection(&Ask::invite().uri("http://example.com/")).status, 416);
}

/// RFC 3261 8.2.2.3.
#[test]
fn a_required_extension_we_lack_gets_420_naming_it() {
    let refusal = objection(&Ask::invite().header("Require: 100rel, precondition").header("Require: foo"));
    assert_eq!((refusal.status, header(&refusal, "Unsupported")), (420, "precondition, foo"));
}

/// RFC 3261 8.2.3.
#[test]
fn a_body_we_do_not_understand_gets_415_with_accept() {
    let text = Ask::new("INVITE").sdp("hello").header("X-Y: z");
    let mut solo = Solo::new();
    let text = text.text().replace("application/sdp", "text/plain");
    solo.feed_from(udp(peer()), &text);
    let refusal = solo.take_incoming().objection().cloned().unwrap();
    assert_eq!((refusal.status, header(&refusal, "Accept")), (415, "application/sdp"));
    let optional = text.replace("X-Y: z", "Content-Disposition: session; handling=optional");
    solo.feed_from(udp(peer()), &optional);
    assert_eq!(solo.take_incoming().objection(), None);
}

#[test]
fn an_encoded_body_gets_415_with_accept_encoding() {
    let refusal = objection(&Ask::invite().header("Content-Encoding: gzip"));
    assert_eq!((refusal.status, header(&refusal, "Accept-Encoding")), (415, "identity"));
}

/// RFC 4028 9.
#[test]
fn a_session_interval_below_the_minimum_gets_422_with_min_se() {
    let refusal = objection(&Ask::invite().header("Supported: timer").header("Session-Expires: 60"));
    assert_eq!((refusal.status, header(&refusal, "Min-SE")), (422, "90"));
}

/// RFC 7332 5.1.
#[test]
fn an_invite_with_no_hops_left_gets_483_and_an_options_an_answer() {
    let none_left = |ask: Ask| ask.text().replace("Max-Forwards: 70", "Max-Forwards: 0");
    let mut solo = Solo::new();
    solo.feed_from(udp(peer()), &none_left(Ask::invite()));
    assert_eq!(solo.take_incoming().objection().unwrap().status, 483);
    solo.feed_from(udp(peer()), &none_left(Ask::new("OPTIONS")));
    assert_eq!(solo.take_incoming().objection(), None);
}

#[test]
fn requests_that_only_live_within_dialogs_get_481() {
    for method in ["BYE", "PRACK", "UPDATE", "INFO"] {
        assert_eq!(objection(&Ask::new(method)).status, 481, "{method}");
    }
}

#[test]
fn a_giant_body_gets_413() {
    let limits = EndpointLimits { body: 100, ..Default::default() };
    let mut solo = Solo::with(EndpointConfig { limits, ..Default::default() });
    solo.feed(&Ask::new("INVITE").sdp(&"a=x\r\n".repeat(50)));
    assert_eq!(solo.take_incoming().objection().unwrap().status, 413);
}

/// RFC 3261 11.2.
#[test]
fn options_are_answered_without_state_with_what_we_can() {
    let mut solo = Solo::new();
    let mut texts = Vec::new();
    for _ in 0..2 {
        solo.feed(&Ask::new("OPTIONS"));
        let incoming = solo.take_incoming();
        assert_eq!(incoming.objection(), None);
        solo.endpoint.answer_options(*incoming);
        solo.drain();
        let ok = solo.take_one();
        assert_eq!(ok.what(), "200");
        for name in ["Allow", "Accept", "Accept-Encoding", "Accept-Language", "Supported"] {
            assert!(ok.header(name).is_some(), "{name}");
        }
        assert_eq!(ok.header("Server"), None);
        texts.push(ok.text);
    }
    assert_eq!(texts[0], texts[1]);
    assert_eq!(solo.endpoint.census(), Default::default());
}

#[test]
fn what_does_not_parse_is_answered_if_the_engine_wants_it() {
    let mut solo = Solo::new();
    let text = Ask::invite().text().replace("CSeq: 1 INVITE", "CSeq: one INVITE");
    solo.feed_from(udp(peer()), &text);
    assert!(solo.take_sent().is_empty());
    match solo.take_event() {
        Event::Malformed(malformed) => {
            assert_eq!((malformed.status(), malformed.source()), (Some(400), peer().ip()));
            solo.endpoint.refuse_malformed(*malformed);
        }
        other => panic!("{other:?}"),
    }
    solo.drain();
    let refused = solo.take_one();
    assert_eq!(refused.what(), "400");
    assert!(refused.to_tag().len() >= 8);
    assert_eq!(solo.endpoint.counters().malformed, 1);
}

#[test]
fn another_version_gets_505() {
    let mut solo = Solo::new();
    solo.feed_from(udp(peer()), &Ask::invite().text().replacen("SIP/2.0\r\n", "SIP/7.0\r\n", 1));
    match solo.take_event() {
        Event::Malformed(malformed) => assert_eq!(malformed.status(), Some(505)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rubbish_and_empty_datagrams_are_dropped() {
    let mut solo = Solo::new();
    for rubbish in ["", "\r\n\r\n", "\0\0\0\0", "hello", "SIP/2.0", "INVITE"] {
        solo.feed_from(udp(peer()), rubbish);
        while let Some(event) = solo.take_events().pop() {
            let Event::Malformed(malformed) = event else { panic!("{event:?}") };
            solo.endpoint.refuse_malformed(*malformed);
            solo.drain();
        }
    }
    assert!(solo.take_sent().is_empty());
    assert_eq!(solo.endpoint.census(), Default::default());
}

#[test]
fn stray_responses_are_dropped() {
    let mut solo = Solo::new();
    let stray = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.9:5060;branch=z9hG4bKnone\r\n\
        From: <sip:a@e>;tag=1\r\nTo: <sip:b@e>;tag=2\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n";
    solo.feed_from(udp(peer()), stray);
    assert!(solo.take_sent().is_empty());
    assert_eq!(solo.endpoint.counters().stray_responses, 1);
}

/// RFC 3261 8.2.2.3 within a dialog: refused through a transaction, so that the repeat gets the same bytes.
#[test]
fn checks_hold_within_dialogs_too() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    let asks = [
        (Ask::new("INFO").header("Require: foo"), "420"),
        (Ask::new("REFER"), "405"),
        (Ask::new("NOTIFY"), "405"),
        (Ask::new("DANCE"), "501"),
        (Ask::new("UPDATE").header("Supported: timer").header("Session-Expires: 30"), "422"),
    ];
    for (number, (ask, status)) in asks.into_iter().enumerate() {
        let ask = ask.within(&tag).cseq(2 + number as u32);
        solo.feed(&ask);
        let first = solo.take_one();
        assert_eq!(first.what(), status);
        solo.feed(&ask);
        assert_eq!(solo.take_one().text, first.text);
    }
    solo.assert_no_events();
}

/// RFC 3261 20.5: Allow lists the methods that are supported, so each of them is taken within a dialog, and what is
/// not on the list is refused with the list.
#[test]
fn allow_tells_the_truth() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    solo.feed(&Ask::new("OPTIONS").within(&tag).cseq(2));
    let allow = solo.take_one().header("Allow").unwrap().to_owned();
    let listed: Vec<&str> = allow.split(", ").collect();
    // BYE last: the dialog ends with it. ACK and CANCEL stand with an INVITE alone and are never refused by name.
    let methods = [
        "OPTIONS",
        "PRACK",
        "UPDATE",
        "INFO",
        "INVITE",
        "REFER",
        "NOTIFY",
        "SUBSCRIBE",
        "MESSAGE",
        "PUBLISH",
        "BYE",
    ];
    for (number, method) in methods.into_iter().enumerate() {
        solo.feed(&Ask::new(method).within(&tag).cseq(3 + number as u32).branch(&format!("allow-{method}")));
        let sent = solo.take_sent();
        let refusal = sent.iter().find(|sent| sent.what() == "405");
        assert_eq!(refusal.is_none(), listed.contains(&method), "{method}");
        assert!(refusal.is_none_or(|refusal| refusal.header("Allow") == Some(&allow)), "{method}");
    }
}

#[test]
fn the_offer_within_a_multipart_body_is_found() {
    let mut solo = Solo::new();
    let body = format!(
        "--b\r\nContent-Type: application/isup\r\n\r\nxx\r\n--b\r\nContent-Type: application/sdp\r\n\r\n{OFFER}\r\n--b--\r\n"
    );
    let text = Ask::new("INVITE").sdp(&body).text().replace(
        "Content-Type: application/sdp\r\nContent-Length",
        "Content-Type: multipart/mixed;boundary=b\r\nContent-Length",
    );
    solo.feed_from(udp(peer()), &text);
    let incoming = solo.take_incoming();
    assert_eq!(incoming.objection(), None);
    assert_eq!(incoming.offer(), Some(Bytes::from_static(OFFER.as_bytes())));
}
