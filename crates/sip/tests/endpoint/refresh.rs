//! Session timers, as refresher and as refreshee: RFC 4028.

use std::time::Duration;

use tandem_sip::{EndedBy, EndpointConfig, Event, OfferKind, Refresher, SessionTimerConfig};

use crate::outgoing::{call, calling};
use crate::solo::{ANSWER, Ask, OFFER, Solo};

fn invite(value: &str) -> Ask {
    Ask::invite().header("Supported: timer").header(&format!("Session-Expires: {value}"))
}

fn established(ask: &Ask) -> (Solo, tandem_sip::SessionId, String, crate::solo::Sent) {
    let mut solo = Solo::new();
    let session = solo.accept(ask);
    let ok = solo.answer(session);
    solo.feed(&Ask::new("ACK").within(ok.to_tag()));
    solo.take_events();
    let tag = ok.to_tag().to_owned();
    (solo, session, tag, ok)
}

/// RFC 4028 9, table 2: the peer's choice stands, and Require goes with it.
#[test]
fn the_200_says_who_refreshes() {
    let (_, _, _, ok) = established(&invite("600;refresher=uas"));
    assert_eq!(ok.header("Session-Expires"), Some("600;refresher=uas"));
    assert_eq!(ok.header("Require"), Some("timer"));
    let (_, _, _, ok) = established(&invite("600"));
    assert_eq!(ok.header("Session-Expires"), Some("600;refresher=uac"));
    let (_, _, _, ok) = established(&Ask::invite());
    assert_eq!((ok.header("Session-Expires"), ok.header("Require")), (None, None));
}

/// RFC 4028 9 and 7.4: we refresh at half the interval, by UPDATE where the peer allows it.
#[test]
fn as_refresher_an_update_goes_out_at_half_the_interval() {
    let (mut solo, _, _, _) = established(&invite("600;refresher=uas").header("Allow: INVITE, UPDATE"));
    solo.advance(Duration::from_secs(299));
    assert!(solo.take_sent().is_empty());
    solo.advance(Duration::from_secs(1));
    let update = solo.take_one();
    assert_eq!((update.what(), update.body()), ("UPDATE", ""));
    // In our own request we are the UAC.
    assert_eq!(update.header("Session-Expires"), Some("600;refresher=uac"));
    solo.reply(&update.response(200, "").contact().header("Session-Expires: 600;refresher=uac"));
    assert!(matches!(solo.take_event(), Event::Refreshed { .. }));
    solo.advance(Duration::from_secs(300));
    assert_eq!(solo.take_what(), ["UPDATE"]);
}

#[test]
fn as_refresher_without_update_a_reinvite_repeats_our_description() {
    let (mut solo, _, _, _) = established(&invite("600;refresher=uas"));
    solo.advance(Duration::from_secs(300));
    let reinvite = solo.take_one();
    assert_eq!((reinvite.what(), reinvite.body()), ("INVITE", ANSWER));
    let ok = reinvite.response(200, "").contact().header("Session-Expires: 600;refresher=uac").sdp(OFFER);
    solo.reply(&ok);
    assert_eq!(solo.take_what(), ["ACK"]);
    assert!(matches!(solo.take_event(), Event::Refreshed { .. }));
}

/// A peer that lists UPDATE in Allow, and a proxy that does not know it.
#[test]
fn a_refused_update_is_followed_by_a_reinvite() {
    let (mut solo, _, _, _) = established(&invite("600;refresher=uas").header("Allow: UPDATE"));
    solo.advance(Duration::from_secs(300));
    let update = solo.take_one();
    solo.reply(&update.response(501, ""));
    assert_eq!(solo.take_what(), ["INVITE"]);
    solo.assert_no_events();
}

/// RFC 4028 10: 422 to a refresh raises the interval and it is tried again.
#[test]
fn a_refresh_with_too_small_an_interval_is_tried_with_the_asked_one() {
    let (mut solo, _, _, _) = established(&invite("600;refresher=uas").header("Allow: UPDATE"));
    solo.advance(Duration::from_secs(300));
    let update = solo.take_one();
    solo.reply(&update.response(422, "").header("Min-SE: 900"));
    let again = solo.take_one();
    assert_eq!(again.header("Session-Expires"), Some("900;refresher=uac"));
    assert_eq!(again.header("Min-SE"), Some("900"));
    solo.reply(&again.response(422, "").header("Min-SE: 1200"));
    assert!(solo.take_sent().is_empty(), "the same error twice is not answered by trying on");
}

/// RFC 4028 10: without refresh, BYE at the interval less the smaller of 32 s and a third.
#[test]
fn as_refreshee_an_unrefreshed_session_ends_before_it_expires() {
    let (mut solo, _, _, _) = established(&invite("600;refresher=uac"));
    solo.advance(Duration::from_secs(567));
    assert!(solo.take_sent().is_empty());
    solo.advance(Duration::from_secs(1));
    let bye = solo.take_one();
    assert_eq!(bye.what(), "BYE");
    assert!(matches!(solo.ended_by(), EndedBy::SessionExpired));
    solo.reply(&bye.response(200, ""));
    solo.assert_no_leak();
}

#[test]
fn as_refreshee_an_update_or_reinvite_starts_the_timer_anew() {
    let (mut solo, session, tag, _) = established(&invite("600;refresher=uac"));
    solo.advance(Duration::from_secs(500));
    let update = Ask::new("UPDATE").within(&tag).cseq(2).header("Supported: timer");
    solo.feed(&update.header("Session-Expires: 600;refresher=uac"));
    assert_eq!(solo.take_one().header("Session-Expires"), Some("600;refresher=uac"));
    assert!(matches!(solo.take_event(), Event::Refreshed { .. }));
    solo.advance(Duration::from_secs(500));
    assert!(solo.take_sent().is_empty());
    let reinvite = Ask::invite().within(&tag).cseq(3).branch("re").header("Supported: timer");
    solo.feed(&reinvite.header("Session-Expires: 600;refresher=uac"));
    assert_eq!(solo.take_offer().0, OfferKind::ReInvite);
    solo.endpoint.answer_offer(solo.now, session, ANSWER.into()).unwrap();
    solo.drain();
    assert_eq!(solo.take_sent()[1].header("Session-Expires"), Some("600;refresher=uac"));
    solo.feed(&Ask::new("ACK").within(&tag).cseq(3).branch("reack"));
    solo.advance(Duration::from_secs(500));
    assert!(solo.take_sent().is_empty());
}

/// RFC 4028 10: 408 and 481 to a refresh end the session; other failures leave it to its expiry.
#[test]
fn a_failed_refresh_ends_the_session_at_once_or_at_its_expiry() {
    let (mut solo, _, _, _) = established(&invite("600;refresher=uas").header("Allow: UPDATE"));
    solo.advance(Duration::from_secs(300));
    let update = solo.take_one();
    solo.reply(&update.response(481, ""));
    assert!(matches!(solo.ended_by(), EndedBy::DialogLost));
    let (mut solo, _, _, _) = established(&invite("600;refresher=uas").header("Allow: UPDATE"));
    solo.advance(Duration::from_secs(300));
    let update = solo.take_one();
    solo.reply(&update.response(500, ""));
    solo.assert_no_events();
    solo.advance(Duration::from_secs(268));
    assert!(matches!(solo.ended_by(), EndedBy::SessionExpired));
}

/// RFC 4028 7.2 as caller: the 2xx decides; 422 before it is obeyed once (7.3).
#[test]
fn as_caller_the_2xx_says_who_refreshes() {
    let (mut solo, _, invite) = calling(call());
    assert_eq!(invite.header("Session-Expires"), Some("1800"));
    solo.reply(&invite.response(422, "far").header("Min-SE: 3600"));
    let sent = solo.take_sent();
    assert_eq!((sent[0].what(), sent[1].what()), ("ACK", "INVITE"));
    let again = &sent[1];
    assert_eq!(again.header("Session-Expires"), Some("3600"));
    assert_eq!(again.header("Min-SE"), Some("3600"));
    assert_eq!(again.header("CSeq"), Some("2 INVITE"));
    let ok = again.response(200, "far").contact().header("Session-Expires: 3600;refresher=uac");
    solo.reply(&ok.header("Allow: UPDATE").sdp(ANSWER));
    solo.take_sent();
    solo.take_events();
    solo.advance(Duration::from_secs(1800));
    let update = solo.take_one();
    assert_eq!((update.what(), update.header("Session-Expires")), ("UPDATE", Some("3600;refresher=uac")));
}

#[test]
fn who_refreshes_by_our_choice_is_configured() {
    let session_timer = SessionTimerConfig { preferred: Refresher::Us, ..Default::default() };
    let mut solo = Solo::with(EndpointConfig { session_timer, ..Default::default() });
    let session = solo.accept(&invite("600"));
    assert_eq!(solo.answer(session).header("Session-Expires"), Some("600;refresher=uas"));
}
