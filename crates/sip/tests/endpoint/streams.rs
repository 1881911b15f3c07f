//! Stream connections: where responses go, keep-alives, bounds, slowness, loss. RFC 3261 18, RFC 5626.

use std::time::Duration;

use tandem_sip::{
    EndedBy, EndpointConfig, EndpointLimits, Event, Flow, OutgoingInvite, SessionPolicy, Target,
};

use crate::outgoing::call;
use crate::solo::{Ask, Solo, peer, tcp};

fn open(solo: &mut Solo, connection: u64) -> Flow {
    let flow = tcp(peer(), connection);
    solo.endpoint.handle_stream_opened(solo.now, flow);
    solo.drain();
    flow
}

fn feed(solo: &mut Solo, flow: Flow, text: &str) {
    solo.read(flow, text.as_bytes());
    solo.drain();
}

fn accepted(solo: &mut Solo, flow: Flow) -> tandem_sip::SessionId {
    feed(solo, flow, &Ask::invite().over_tcp().text());
    let incoming = solo.take_incoming();
    let session = solo.endpoint.accept(solo.now, *incoming, SessionPolicy::default()).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().target, Target::Flow(flow));
    session
}

/// RFC 3261 18.2.2: the response goes back over the same connection; in-dialog requests reuse it.
#[test]
fn a_call_over_tcp_stays_on_its_connection() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let session = accepted(&mut solo, flow);
    let ok = solo.answer(session);
    assert_eq!(ok.target, Target::Flow(flow));
    assert_eq!(ok.header("Contact"), Some("<sip:tandem@192.0.2.9:5060;transport=tcp>"));
    feed(&mut solo, flow, &Ask::new("ACK").over_tcp().within(ok.to_tag()).text());
    solo.take_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    let bye = solo.take_one();
    assert_eq!((bye.what(), &bye.target), ("BYE", &Target::Flow(flow)));
    assert!(bye.header("Via").unwrap().starts_with("SIP/2.0/TCP "));
    feed(&mut solo, flow, &bye.response(200, "").text());
    solo.take_events();
    solo.endpoint.handle_flow_closed(solo.now, flow);
    solo.assert_no_leak();
}

/// RFC 3261 17: nothing but the 2xx is sent again over a reliable transport.
#[test]
fn over_tcp_a_refusal_is_not_repeated_and_a_2xx_is() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let session = accepted(&mut solo, flow);
    solo.endpoint.reject(solo.now, session, tandem_sip::Refusal::new(486)).unwrap();
    solo.advance(Duration::from_secs(32));
    assert_eq!(solo.take_what(), ["486"]);
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let session = accepted(&mut solo, flow);
    solo.answer(session);
    solo.advance_ms(1500);
    assert_eq!(solo.take_what(), ["200", "200"]);
}

#[test]
fn messages_split_and_glued_are_told_apart() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let two = format!("{}{}", Ask::new("OPTIONS").text(), Ask::new("OPTIONS").branch("second").text());
    let (head, tail) = two.split_at(two.len() / 3);
    feed(&mut solo, flow, head);
    solo.assert_no_events();
    feed(&mut solo, flow, tail);
    assert_eq!(solo.take_events().len(), 2);
}

/// RFC 5626 4.4.1.
#[test]
fn a_ping_gets_a_pong() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    feed(&mut solo, flow, "\r\n\r\n");
    let pong = solo.take_one();
    assert_eq!((pong.text.as_str(), pong.target), ("\r\n", Target::Flow(flow)));
    assert_eq!(solo.endpoint.counters().keep_alives, 1);
}

#[test]
fn connections_that_say_nothing_or_dribble_are_closed() {
    let mut solo = Solo::new();
    let silent = open(&mut solo, 1);
    solo.advance(Duration::from_secs(20));
    assert_eq!(solo.take_one().target, Target::Close(silent));
    let slow = open(&mut solo, 2);
    feed(&mut solo, slow, &Ask::new("OPTIONS").text());
    solo.take_events();
    for byte in Ask::new("OPTIONS").text().chars().take(19) {
        feed(&mut solo, slow, &byte.to_string());
        solo.advance(Duration::from_secs(1));
    }
    assert!(solo.take_sent().is_empty());
    feed(&mut solo, slow, "x");
    solo.advance(Duration::from_secs(1));
    assert_eq!(solo.take_one().target, Target::Close(slow));
    assert_eq!(solo.endpoint.census().streams, 0);
}

#[test]
fn a_silent_connection_is_closed_in_the_end() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    feed(&mut solo, flow, &Ask::new("OPTIONS").text());
    solo.take_events();
    solo.advance(Duration::from_secs(899));
    assert!(solo.take_sent().is_empty());
    solo.advance(Duration::from_secs(1));
    assert_eq!(solo.take_one().target, Target::Close(flow));
}

#[test]
fn one_source_has_a_bounded_number_of_connections() {
    let limits = EndpointLimits { streams_per_source: 2, ..Default::default() };
    let mut solo = Solo::with(EndpointConfig { limits, ..Default::default() });
    for connection in 1..=2 {
        open(&mut solo, connection);
    }
    assert!(solo.take_sent().is_empty());
    let third = open(&mut solo, 3);
    assert_eq!(solo.take_one().target, Target::Close(third));
    let elsewhere = tcp("198.51.100.1:5060".parse().unwrap(), 4);
    solo.endpoint.handle_stream_opened(solo.now, elsewhere);
    solo.drain();
    assert!(solo.take_sent().is_empty());
    solo.endpoint.handle_flow_closed(solo.now, tcp(peer(), 1));
    open(&mut solo, 5);
    assert!(solo.take_sent().is_empty());
    assert_eq!(solo.endpoint.census().streams, 3);
}

/// test-material: a Content-Length of 10^12, negative or twice closes the connection at once.
#[test]
fn a_connection_that_cannot_be_framed_is_answered_and_closed() {
    for length in ["1000000000000", "-1", "5\r\nContent-Length: 6"] {
        let mut solo = Solo::new();
        let flow = open(&mut solo, 1);
        let text = Ask::new("OPTIONS").over_tcp().text();
        feed(&mut solo, flow, &text.replace("Content-Length: 0", &format!("Content-Length: {length}")));
        let sent = solo.take_sent();
        assert_eq!(sent.last().unwrap().target, Target::Close(flow), "{length}");
        assert!(matches!(solo.take_event(), Event::Malformed(_)));
        assert_eq!(solo.endpoint.census(), Default::default());
    }
}

/// RFC 3261 18.2.2: when the connection is gone, a new one goes to the address it came from and sent-by's port.
#[test]
fn a_response_after_the_connection_is_gone_goes_to_the_via() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let session = accepted(&mut solo, flow);
    solo.endpoint.handle_flow_closed(solo.now, flow);
    let ok = solo.answer(session);
    match ok.target {
        Target::Address { remote, .. } => assert_eq!(remote, peer()),
        other => panic!("{other:?}"),
    }
}

/// RFC 3261 18.4: the INVITE goes once more, over a new connection; when there is none to be had, the call has failed.
#[test]
fn a_connection_lost_under_our_invite_and_no_other_to_be_had_ends_the_call() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let invite = OutgoingInvite { target: Target::Flow(flow), ..call() };
    solo.endpoint.invite(solo.now, invite).unwrap();
    solo.drain();
    let sent = solo.take_one();
    assert!(sent.header("Via").unwrap().starts_with("SIP/2.0/TCP "));
    solo.endpoint.handle_flow_closed(solo.now, flow);
    let again = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(again.payload, sent.text);
    assert!(matches!(again.target, Target::Address { remote, .. } if remote == peer()));
    solo.endpoint.handle_transmit_failed(solo.now, again.id);
    solo.drain();
    assert!(matches!(solo.ended_by(), EndedBy::TransportLost));
    solo.assert_no_leak();
}

/// siphon-rs#74: after the connection of an answered call was closed, its BYE takes a new one.
#[test]
fn a_dialog_outlives_its_connection() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let session = accepted(&mut solo, flow);
    let ok = solo.answer(session);
    feed(&mut solo, flow, &Ask::new("ACK").over_tcp().within(ok.to_tag()).text());
    solo.take_events();
    solo.endpoint.handle_flow_closed(solo.now, flow);
    solo.assert_no_events();
    let second = open(&mut solo, 2);
    feed(&mut solo, second, &Ask::new("INFO").over_tcp().within(ok.to_tag()).cseq(2).text());
    assert_eq!(solo.take_one().target, Target::Flow(second));
    solo.take_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().target, Target::Flow(second));
    solo.take_events();
}

/// Carriers close connections after two silent minutes; a call over one is kept alive, and is never idle.
#[test]
fn a_connection_that_a_session_lives_on_is_pinged_and_never_idle() {
    let mut solo = Solo::new();
    let flow = open(&mut solo, 1);
    let session = accepted(&mut solo, flow);
    let ok = solo.answer(session);
    feed(&mut solo, flow, &Ask::new("ACK").over_tcp().within(ok.to_tag()).text());
    solo.advance(Duration::from_secs(1800));
    let sent = solo.take_sent();
    assert!(sent.iter().all(|sent| sent.text == "\r\n\r\n" && sent.target == Target::Flow(flow)));
    assert_eq!(sent.len(), 30);
}
