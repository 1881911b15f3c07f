//! REFER within a dialog, sent and received, its NOTIFYs, and whose place an INVITE may take. RFC 3515, 3891, 4488, 6665.

use std::time::Duration;

use tandem_sip::auth::Answerer;
use tandem_sip::{EndedBy, Event, Misuse, Refusal, SessionId, SessionPolicy};

use crate::outgoing::{call, calling};
use crate::solo::{ANSWER, Ask, Sent, Solo};

const TARGET: &[u8] = b"sip:+4930999@192.0.2.1:5060";

/// A session whose REFER has gone out.
fn referring() -> (Solo, SessionId, String, Sent) {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    solo.endpoint.refer(solo.now, session, TARGET).unwrap();
    solo.drain();
    let refer = solo.take_one();
    (solo, session, tag, refer)
}

fn notify(tag: &str, cseq: u32, state: &str, fragment: &str) -> Ask {
    Ask::new("NOTIFY")
        .within(tag)
        .cseq(cseq)
        .branch(&format!("notify{cseq}"))
        .header("Event: refer")
        .header(&format!("Subscription-State: {state}"))
        .header("Content-Type: message/sipfrag;version=2.0")
        .body(fragment)
}

fn refer(tag: &str, cseq: u32, headers: &[&str]) -> Ask {
    let ask = Ask::new("REFER").within(tag).cseq(cseq).branch(&format!("refer{cseq}"));
    headers.iter().fold(ask, |ask, header| ask.header(header))
}

#[test]
fn a_refer_of_ours_is_taken_and_its_outcome_told() {
    let (mut solo, session, tag, refer) = referring();
    assert_eq!((refer.what(), refer.header("Refer-To")), ("REFER", Some("<sip:+4930999@192.0.2.1:5060>")));
    assert!(refer.header("Referred-By").is_some_and(|by| by.contains("sip:tandem@192.0.2.9")));
    assert_eq!(solo.endpoint.refer(solo.now, session, TARGET), Err(Misuse::WrongState), "one at a time");
    solo.reply(&refer.response(202, ""));
    assert!(matches!(solo.take_event(), Event::ReferAnswered { status: 202, .. }));
    solo.feed(&notify(&tag, 2, "active;expires=60", "SIP/2.0 100 Trying\r\n"));
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.take_event(), Event::ReferProgress { status: Some(100), is_over: false, .. }));
    solo.feed(&notify(&tag, 3, "terminated;reason=noresource", "SIP/2.0 200 OK\r\n"));
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.take_event(), Event::ReferProgress { status: Some(200), is_over: true, .. }));
    solo.feed(&notify(&tag, 4, "terminated", "SIP/2.0 200 OK\r\n"));
    assert_eq!(solo.take_what(), ["481"], "the subscription is over");
    solo.assert_no_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    solo.assert_no_leak();
}

/// RFC 6665 4.1.2.4: a NOTIFY may come before the answer.
#[test]
fn a_notify_may_overtake_the_202() {
    let (mut solo, _, tag, refer) = referring();
    solo.feed(&notify(&tag, 2, "active", "SIP/2.0 100 Trying\r\n"));
    assert_eq!(solo.take_what(), ["200"]);
    solo.reply(&refer.response(202, ""));
    let events = solo.take_events();
    assert!(
        matches!(&events[..], [Event::ReferProgress { .. }, Event::ReferAnswered { status: 202, .. }]),
        "{events:?}"
    );
}

#[test]
fn whatever_refuses_a_refer_the_session_stands() {
    for status in [403, 405, 408, 481, 501, 503, 603] {
        let (mut solo, session, _, refer) = referring();
        solo.reply(&refer.response(status, ""));
        assert!(matches!(solo.take_event(), Event::ReferAnswered { status: told, .. } if told == status));
        assert!(solo.endpoint.refer(solo.now, session, TARGET).is_ok(), "and may be tried again");
    }
    let (mut solo, session, _, _) = referring();
    solo.advance(Duration::from_secs(33));
    solo.take_sent();
    assert!(matches!(solo.take_event(), Event::ReferAnswered { status: 408, .. }));
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["BYE"]);
    solo.take_events();
    solo.assert_no_leak();
}

#[test]
fn a_challenge_to_a_refer_is_answered_once() {
    let credentials = Some(Answerer::new("u", "p"));
    let (mut solo, session, invite) = calling(tandem_sip::OutgoingInvite { credentials, ..call() });
    solo.reply(&invite.response(200, "far").contact().sdp(ANSWER));
    solo.take_sent();
    solo.take_events();
    solo.endpoint.refer(solo.now, session, TARGET).unwrap();
    solo.drain();
    let refer = solo.take_one();
    solo.reply(
        &refer.response(407, "").header("Proxy-Authenticate: Digest realm=\"r\",nonce=\"n\",qop=\"auth\""),
    );
    let again = solo.take_one();
    assert!(again.header("Proxy-Authorization").is_some());
    assert_eq!(again.header("Refer-To"), refer.header("Refer-To"));
    solo.assert_no_events();
    solo.reply(
        &again.response(407, "").header("Proxy-Authenticate: Digest realm=\"r\",nonce=\"n\",qop=\"auth\""),
    );
    assert!(matches!(solo.take_event(), Event::ReferAnswered { status: 407, .. }));
}

/// A carrier that hangs up first and tells the outcome then is thanked, and nobody is told.
#[test]
fn a_notify_after_the_bye_is_answered() {
    let (mut solo, _, tag, refer) = referring();
    solo.reply(&refer.response(202, ""));
    solo.take_events();
    solo.feed(&Ask::new("BYE").within(&tag).cseq(2));
    assert_eq!(solo.take_what(), ["200"]);
    assert!(matches!(solo.ended_by(), EndedBy::ByeReceived));
    solo.feed(&notify(&tag, 3, "terminated", "SIP/2.0 200 OK\r\n"));
    assert_eq!(solo.take_what(), ["200"]);
    solo.assert_no_events();
    solo.assert_no_leak();
}

#[test]
fn a_notify_of_nothing_we_know_gets_481() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    solo.feed(&notify(&tag, 2, "active", "SIP/2.0 100 Trying\r\n"));
    assert_eq!(solo.take_what(), ["405"], "nobody was ever asked");
    let (mut solo, session, tag, refer) = referring();
    solo.reply(&refer.response(202, ""));
    solo.take_events();
    solo.feed(&Ask::new("NOTIFY").within(&tag).cseq(2).header("Event: presence"));
    assert_eq!(solo.take_what(), ["481"]);
    solo.endpoint.forget_refer(session);
    solo.feed(&notify(&tag, 3, "active", "SIP/2.0 100 Trying\r\n"));
    assert_eq!(solo.take_what(), ["481"], "nobody waits for it any more");
    solo.assert_no_events();
}

/// An endpoint whose peer may refer it elsewhere.
fn open() -> Solo {
    let mut solo = Solo::new();
    solo.policy = SessionPolicy { takes_refer: true, ..SessionPolicy::default() };
    solo
}

/// The default: a REFER moves nobody.
#[test]
fn a_refer_is_refused_where_the_policy_takes_none() {
    let mut solo = Solo::new();
    let (_, tag) = solo.established();
    solo.feed(&refer(&tag, 2, &["Refer-To: <sip:+1900@evil.example>"]));
    let refused = solo.take_one();
    assert_eq!(refused.what(), "405");
    assert!(refused.header("Allow").is_some_and(|allow| !allow.contains("REFER")));
    match solo.take_event() {
        Event::ReferRefused { refer_to, .. } => assert_eq!(refer_to, "<sip:+1900@evil.example>"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_refer_received_is_the_engines_to_take_or_refuse() {
    let mut solo = open();
    let (session, tag) = solo.established();
    solo.feed(&refer(&tag, 2, &["Refer-To: <sip:+4930999@carrier>"]));
    match solo.take_event() {
        Event::Referred { refer_to, .. } => assert_eq!(refer_to, "<sip:+4930999@carrier>"),
        other => panic!("{other:?}"),
    }
    assert!(solo.take_sent().is_empty(), "nothing is answered before the engine decides");
    solo.endpoint.refuse_refer(solo.now, session, &Refusal::new(603)).unwrap();
    solo.drain();
    assert_eq!(solo.take_what(), ["603"]);
    solo.feed(&refer(&tag, 3, &["Refer-To: <sip:+4930999@carrier>"]));
    solo.take_events();
    solo.endpoint.accept_refer(solo.now, session).unwrap();
    solo.drain();
    let sent = solo.take_sent();
    assert_eq!(sent.iter().map(Sent::what).collect::<Vec<_>>(), ["202", "NOTIFY"]);
    assert_eq!(sent[1].header("Event"), Some("refer;id=3"), "the second REFER of its dialog");
    assert_eq!(sent[1].body(), "SIP/2.0 100 Trying\r\n");
    assert_eq!(sent[1].header("Content-Type"), Some("message/sipfrag;version=2.0"));
    solo.feed(&refer(&tag, 4, &["Refer-To: <sip:+4930999@carrier>"]));
    assert_eq!(solo.take_what(), ["491"], "one at a time");
    solo.endpoint.notify_refer(solo.now, session, 486).unwrap();
    solo.drain();
    let last = solo.take_one();
    assert_eq!(last.header("Subscription-State"), Some("terminated;reason=noresource"));
    assert_eq!(last.body(), "SIP/2.0 486 Busy Here\r\n");
    assert_eq!(solo.endpoint.notify_refer(solo.now, session, 200), Err(Misuse::WrongState));
    solo.assert_no_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    solo.take_events();
    solo.assert_no_leak();
}

/// RFC 3515 2.4.2: zero or several targets are a bad request.
#[test]
fn a_refer_has_exactly_one_target() {
    let mut solo = open();
    let (_, tag) = solo.established();
    let two = ["Refer-To: <sip:a@b>", "Refer-To: <sip:c@d>"];
    for (cseq, headers) in [(2, &[][..]), (3, &two[..]), (4, &["Refer-To: <nonsense"][..])] {
        solo.feed(&refer(&tag, cseq, headers));
        assert_eq!(solo.take_what(), ["400"], "{headers:?}");
    }
    solo.assert_no_events();
}

#[test]
fn a_refer_outside_of_a_dialog_is_refused_by_protocol() {
    let mut solo = Solo::new();
    solo.feed(&Ask::new("REFER").header("Refer-To: <sip:a@b>"));
    let incoming = solo.take_incoming();
    assert_eq!(incoming.objection().map(|refusal| refusal.status), Some(405));
}

/// RFC 4488: who wants no NOTIFY gets none.
#[test]
fn a_refer_without_subscription_is_not_told_of() {
    let mut solo = open();
    let (session, tag) = solo.established();
    solo.feed(&refer(&tag, 2, &["Refer-To: <sip:a@b>", "Refer-Sub: false"]));
    solo.take_events();
    solo.endpoint.accept_refer(solo.now, session).unwrap();
    solo.drain();
    let accepted = solo.take_one();
    assert_eq!((accepted.what(), accepted.header("Refer-Sub")), ("202", Some("false")));
    solo.endpoint.notify_refer(solo.now, session, 200).unwrap();
    solo.drain();
    assert!(solo.take_sent().is_empty());
}

#[test]
fn a_refer_that_waits_when_the_session_ends_is_answered() {
    let mut solo = open();
    let (_, tag) = solo.established();
    solo.feed(&refer(&tag, 2, &["Refer-To: <sip:a@b>"]));
    solo.take_events();
    solo.feed(&Ask::new("BYE").within(&tag).cseq(3));
    assert_eq!(solo.take_what(), ["200", "487"]);
    solo.take_events();
    solo.assert_no_leak();
}

#[test]
fn refer_is_allowed_where_the_policy_says_so_and_nowhere_else() {
    let mut solo = Solo::new();
    let session = solo.accept(&Ask::invite());
    assert!(solo.endpoint.replaceable(session).is_none(), "not before it is answered");
    assert!(solo.answer(session).header("Allow").is_some_and(|allow| !allow.contains("REFER")));
    let mut solo = Solo::new();
    solo.policy = SessionPolicy { takes_refer: true, ..SessionPolicy::default() };
    let session = solo.accept(&Ask::invite());
    assert!(solo.answer(session).header("Allow").is_some_and(|allow| allow.ends_with("REFER, NOTIFY")));
}

/// RFC 3891 3: tags are told the recipient's way round.
#[test]
fn an_invite_may_name_the_dialog_whose_place_it_takes() {
    let mut solo = Solo::new();
    let (session, tag) = solo.established();
    let (target, replaces) = solo.endpoint.replaceable(session).expect("it stands");
    assert_eq!(target, "sip:peer@192.0.2.1:5060");
    assert_eq!(replaces, format!("call-1;to-tag=peer;from-tag={tag}"));
    let of = |text: &str| solo.endpoint.replaced_by(text.as_bytes());
    assert_eq!(of(&format!("call-1;to-tag={tag};from-tag=peer")), Ok(session));
    assert_eq!(of(&format!("call-1;to-tag={tag};from-tag=peer;early-only")), Err(486));
    assert_eq!(of(&format!("call-2;to-tag={tag};from-tag=peer")), Err(481));
    assert_eq!(
        of(&format!("call-1;to-tag=peer;from-tag={tag}")),
        Err(481),
        "the other way round is no dialog"
    );
    assert_eq!(of("call-1"), Err(400));
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.endpoint.replaced_by(format!("call-1;to-tag={tag};from-tag=peer").as_bytes()), Err(603));
}
