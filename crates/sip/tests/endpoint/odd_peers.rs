//! Peers as they are: of RFC 2543, behind address translation, with odd Contacts; and strangers.

use tandem_sip::{EndedBy, Event, Reach, Refusal, Target};

use crate::solo::{Ask, Solo, peer, stranger, udp};

const OLD_INVITE: &str = "INVITE sip:b@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060\r\n\
    From: sip:a@192.0.2.1\r\nTo: sip:b@192.0.2.9\r\nCall-ID: old@192.0.2.1\r\nCSeq: 1 INVITE\r\n\
    Content-Type: application/sdp\r\nContent-Length: 5\r\n\r\nv=0\r\n";

/// RFC 3261 12.1.1 and 17.2.3: no tag, no branch, no Contact, no Max-Forwards, and still a call.
#[test]
fn a_peer_of_rfc_2543_is_understood() {
    let mut solo = Solo::new();
    solo.feed_from(udp(peer()), OLD_INVITE);
    let incoming = solo.take_incoming();
    let session = solo.endpoint.accept(solo.now, *incoming, Default::default()).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().what(), "100");
    solo.feed_from(udp(peer()), OLD_INVITE);
    assert_eq!(solo.take_one().what(), "100");
    solo.assert_no_events();
    let ok = solo.answer(session);
    let to = format!("To: {}", ok.header("To").unwrap());
    let within = |method: &str, cseq: u32| {
        let head = OLD_INVITE.split("Content-Type").next().unwrap();
        head.replacen("INVITE", method, 1)
            .replace("CSeq: 1 INVITE", &format!("CSeq: {cseq} {method}"))
            .replace("To: sip:b@192.0.2.9", &to)
            + "Content-Length: 0\r\n\r\n"
    };
    solo.feed_from(udp(peer()), &within("ACK", 1));
    assert!(matches!(solo.take_event(), Event::Acknowledged { .. }));
    solo.feed_from(udp(peer()), &within("BYE", 2));
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.ended_by(), EndedBy::ByeReceived));
    solo.assert_no_leak();
}

#[test]
fn a_cancel_of_rfc_2543_finds_its_invite() {
    let mut solo = Solo::new();
    solo.feed_from(udp(peer()), OLD_INVITE);
    let incoming = solo.take_incoming();
    solo.endpoint.accept(solo.now, *incoming, Default::default()).unwrap();
    solo.drain();
    solo.take_sent();
    let cancel = OLD_INVITE.split("Content-Type").next().unwrap().replacen("INVITE", "CANCEL", 1);
    let cancel = cancel.replace("CSeq: 1 INVITE", "CSeq: 1 CANCEL") + "Content-Length: 0\r\n\r\n";
    solo.feed_from(udp(peer()), &cancel);
    assert_eq!(solo.take_what(), ["200", "487"]);
}

/// A Contact behind address translation cannot be reached: by policy our requests go where the peer's came from.
#[test]
fn requests_of_ours_go_to_the_source_by_policy() {
    let natted = udp("203.0.113.5:31000".parse().unwrap());
    for (reach, expected) in [(Reach::Source, "203.0.113.5:31000"), (Reach::Signalled, "192.0.2.1:5060")] {
        let mut solo = Solo::new();
        solo.policy.reach = reach;
        solo.feed_from(natted, &Ask::invite().via_tail(";rport").text());
        let incoming = solo.take_incoming();
        let session = solo.endpoint.accept(solo.now, *incoming, solo.policy.clone()).unwrap();
        solo.drain();
        solo.take_sent();
        let ok = solo.answer(session);
        solo.feed_from(natted, &Ask::new("ACK").within(ok.to_tag()).text());
        solo.take_events();
        solo.endpoint.hangup(solo.now, session, None).unwrap();
        solo.drain();
        let bye = solo.take_one();
        assert_eq!(bye.target.remote().unwrap().to_string(), expected);
        // The Request-URI stays the Contact either way.
        assert_eq!(bye.request_uri(), "sip:peer@192.0.2.1:5060");
    }
}

/// RFC 3263: a Contact that is a name is resolved by the shell.
#[test]
fn a_contact_that_is_a_name_is_handed_to_the_resolver() {
    let mut solo = Solo::new();
    let text = Ask::invite().text().replace("<sip:peer@192.0.2.1:5060>", "<sip:peer@sbc.example.net>");
    solo.feed_from(udp(peer()), &text);
    let incoming = solo.take_incoming();
    let session = solo.endpoint.accept(solo.now, *incoming, Default::default()).unwrap();
    solo.drain();
    solo.take_sent();
    let ok = solo.answer(session);
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    solo.take_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    match solo.take_one().target {
        Target::Name { host, port, .. } => assert_eq!((host.as_str(), port), ("sbc.example.net", None)),
        other => panic!("{other:?}"),
    }
}

/// test-material: "no more bytes out than came in", and none again.
#[test]
fn a_strangers_refusal_is_smaller_than_its_request_and_is_sent_once() {
    let mut solo = Solo::new();
    for ask in [Ask::invite(), Ask::new("OPTIONS"), Ask::new("REGISTER")] {
        let text = ask.text();
        solo.feed_from(udp(peer()), &text);
        let incoming = solo.take_incoming();
        solo.endpoint.refuse(*incoming, &Refusal::new(403));
        solo.drain();
        assert!(solo.take_one().text.len() <= text.len());
    }
    solo.advance_ms(60_000);
    assert!(solo.take_sent().is_empty());
    assert_eq!(solo.endpoint.census(), Default::default());
}

#[test]
fn headers_of_the_policy_go_on_responses_and_requests() {
    let mut solo = Solo::new();
    solo.policy.headers = vec![("X-Account".into(), "a1".into())];
    let session = solo.accept(&Ask::invite());
    let ok = solo.answer(session);
    assert_eq!(ok.header("X-Account"), Some("a1"));
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().header("X-Account"), Some("a1"));
}

/// A flood of accepted calls' repeats and rubbish costs only its own bytes: nothing is kept.
#[test]
fn a_flood_of_strangers_leaves_nothing() {
    let mut solo = Solo::new();
    for number in 0..3000 {
        let ask = Ask::invite().call(&format!("flood-{number}")).branch(&number.to_string());
        solo.feed(&ask);
        let incoming = solo.take_incoming();
        if number % 2 == 0 {
            solo.endpoint.refuse(*incoming, &Refusal::new(403));
        }
        solo.drain();
        solo.take_sent();
    }
    assert_eq!(solo.endpoint.census(), Default::default());
}

/// Scanners that guess at dialogs are answered up to a bound a second, then not at all; sessions are not touched.
#[test]
fn a_flood_of_strays_gets_silence_above_a_bound() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    for number in 0..1000 {
        let method = ["BYE", "CANCEL", "INVITE", "OPTIONS"][number % 4];
        let ask = Ask::new(method).branch(&format!("s{number}")).within("guessed");
        solo.feed_from(udp(stranger()), &ask.text());
    }
    assert_eq!(solo.take_sent().len(), 200);
    assert_eq!(solo.endpoint.counters().strays_unanswered, 800);
    // The peer of a session is not counted among them.
    solo.feed(&Ask::new("BYE").within(&tag).cseq(2));
    assert_eq!(solo.take_what(), ["200"]);
    solo.advance_ms(1000);
    solo.feed_from(udp(stranger()), &Ask::new("BYE").branch("later").within("guessed").text());
    assert_eq!(solo.take_what(), ["481"]);
}
