//! Requests that take another way: by TCP for their size, by UDP after all, over a new connection. RFC 3261 18.1.1, 18.4,
//! RFC 5626 4.4.1.

use std::time::Duration;

use tandem_sip::{
    EndedBy, Event, Flow, LargeRequests, OutgoingInvite, SessionId, SessionPolicy, Target, TransmitId,
    Transport,
};

use crate::outgoing::call;
use crate::solo::{ANSWER, Ask, Sent, Solo, peer, tcp, udp};

/// An INVITE that no datagram holds.
fn large() -> OutgoingInvite {
    OutgoingInvite { headers: vec![("X-Large".into(), "x".repeat(1_200).into())], ..call() }
}

fn by_tcp() -> Target {
    Target::Address { transport: Transport::Tcp, local: None, remote: peer(), name: None }
}

/// Sends this INVITE; gives its session, what went out, and its name.
fn send(solo: &mut Solo, call: OutgoingInvite) -> (SessionId, Sent, TransmitId) {
    let session = solo.endpoint.invite(solo.now, call).unwrap();
    let transmit = solo.endpoint.poll_transmit().unwrap();
    let text = String::from_utf8_lossy(&transmit.payload).into_owned();
    (session, Sent { at: Duration::ZERO, target: transmit.target, text }, transmit.id)
}

fn opened(solo: &mut Solo, connection: u64) -> Flow {
    let flow = tcp(peer(), connection);
    solo.endpoint.handle_stream_opened(solo.now, flow);
    solo.drain();
    flow
}

fn fails(solo: &mut Solo, transmit: TransmitId) {
    solo.endpoint.handle_transmit_failed(solo.now, transmit);
    solo.drain();
}

/// drachtio#296: one large request went by TCP, and all that followed stuck there.
#[test]
fn a_large_request_goes_by_tcp_and_the_small_ones_after_it_by_udp() {
    let mut solo = Solo::new();
    let (session, invite, _) = send(&mut solo, large());
    assert_eq!(invite.target, by_tcp());
    assert!(invite.header("Via").unwrap().starts_with("SIP/2.0/TCP 192.0.2.9:5060;rport"), "{invite:?}");
    assert_eq!(
        invite.header("Contact"),
        Some("<sip:tandem@192.0.2.9:5060>"),
        "the peer's own requests come by UDP"
    );
    let flow = opened(&mut solo, 1);
    let ok = invite.response(200, "far").contact().sdp(ANSWER).text();
    solo.read(flow, ok.as_bytes());
    solo.drain();
    let ack = solo.take_one();
    assert_eq!((ack.what(), &ack.target), ("ACK", &Target::Flow(udp(peer()))));
    assert!(ack.header("Via").unwrap().starts_with("SIP/2.0/UDP "), "{ack:?}");
    solo.take_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().target, Target::Flow(udp(peer())));
    assert_eq!(solo.endpoint.counters().large_by_tcp, 1);
    solo.endpoint.handle_flow_closed(solo.now, flow);
    solo.assert_no_leak();
}

#[test]
fn a_peer_that_refuses_tcp_gets_the_request_by_udp_and_is_spared_for_a_while() {
    let mut solo = Solo::new();
    let (_, by_tcp_first, transmit) = send(&mut solo, large());
    fails(&mut solo, transmit);
    let again = solo.take_one();
    assert_eq!(again.target, Target::Flow(udp(peer())));
    assert_eq!(
        again.text,
        by_tcp_first.text.replacen("SIP/2.0/TCP", "SIP/2.0/UDP", 1),
        "the same but for the transport"
    );
    solo.assert_no_events();
    // It is a transaction like others over UDP: repeated, and answered.
    solo.advance_ms(500);
    assert_eq!(solo.take_what(), ["INVITE"]);
    solo.reply(&again.response(486, "far"));
    assert_eq!(solo.take_what(), ["ACK"]);
    assert!(matches!(solo.ended_by(), EndedBy::Refused { status: 486, .. }));
    let (_, second, _) = send(&mut solo, large());
    assert_eq!(second.target, Target::Flow(udp(peer())), "remembered");
    solo.advance(Duration::from_secs(601));
    solo.take_sent();
    solo.take_events();
    let (_, third, _) = send(&mut solo, large());
    assert_eq!(third.target, by_tcp(), "and not for ever");
    let counters = solo.endpoint.counters();
    assert_eq!((counters.large_by_tcp, counters.large_by_udp), (2, 1));
}

/// A firewall that drops the packets of a connection says nothing; the caller does not wait for it.
#[test]
fn a_connection_that_does_not_stand_in_time_is_not_waited_for() {
    let mut solo = Solo::new();
    send(&mut solo, large());
    solo.advance_ms(1_999);
    assert!(solo.take_sent().is_empty());
    solo.advance_ms(1);
    assert_eq!(solo.take_one().target, Target::Flow(udp(peer())));
    // One that stands is given the time that any transaction has.
    let mut solo = Solo::new();
    send(&mut solo, large());
    opened(&mut solo, 1);
    solo.advance(Duration::from_secs(20));
    assert!(solo.take_sent().iter().all(|sent| sent.what() != "INVITE"));
}

#[test]
fn what_fits_and_what_the_policy_keeps_there_goes_by_udp() {
    let mut solo = Solo::new();
    let (_, small, _) = send(&mut solo, call());
    assert_eq!(small.target, Target::Flow(udp(peer())));
    let policy = SessionPolicy { large: LargeRequests::ByUdp, ..SessionPolicy::default() };
    let (_, kept, _) = send(&mut solo, OutgoingInvite { policy, ..large() });
    assert_eq!(kept.target, Target::Flow(udp(peer())));
    assert_eq!(solo.endpoint.counters().large_by_tcp, 0);
}

/// A call over TCP that is up, on this connection.
fn call_over_tcp(solo: &mut Solo) -> (SessionId, Flow) {
    let flow = opened(solo, 1);
    solo.read(flow, Ask::invite().over_tcp().text().as_bytes());
    solo.drain();
    let incoming = solo.take_incoming();
    let session = solo.endpoint.accept(solo.now, *incoming, SessionPolicy::default()).unwrap();
    solo.drain();
    solo.take_sent();
    let ok = solo.answer(session);
    solo.read(flow, Ask::new("ACK").over_tcp().within(ok.to_tag()).text().as_bytes());
    solo.drain();
    solo.take_events();
    (session, flow)
}

/// siphon-rs#74: the carrier closes its idle connection while our BYE is on its way, and the BYE is not the worse for it.
#[test]
fn a_request_whose_connection_is_closed_under_it_goes_over_a_new_one() {
    let mut solo = Solo::new();
    let (session, flow) = call_over_tcp(&mut solo);
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    let first = solo.endpoint.poll_transmit().unwrap();
    assert_eq!(first.target, Target::Flow(flow));
    solo.endpoint.handle_flow_closed(solo.now, flow);
    solo.drain();
    let again = solo.take_one();
    assert_eq!((again.what(), &again.target), ("BYE", &by_tcp()));
    assert_eq!(again.text.as_bytes(), &first.payload[..], "a repeat, to whoever had it already");
    assert_eq!(solo.endpoint.counters().moved_requests, 1);
    let second = opened(&mut solo, 2);
    solo.read(second, again.response(200, "").text().as_bytes());
    solo.drain();
    solo.endpoint.handle_flow_closed(solo.now, second);
    solo.take_events();
    solo.assert_no_leak();
}

/// The shell may say of a message that it cannot be sent before it says that the connection is gone.
#[test]
fn the_news_of_a_connections_end_may_come_in_either_order() {
    let mut solo = Solo::new();
    let (session, flow) = call_over_tcp(&mut solo);
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    let first = solo.endpoint.poll_transmit().unwrap();
    fails(&mut solo, first.id);
    assert_eq!(solo.take_one().target, by_tcp());
    solo.endpoint.handle_flow_closed(solo.now, flow);
    solo.drain();
    assert!(solo.take_sent().is_empty(), "it left that connection already");
    let second = opened(&mut solo, 2);
    solo.endpoint.handle_flow_closed(solo.now, second);
    solo.drain();
    assert!(solo.take_sent().is_empty(), "once, not for ever");
    solo.take_events();
    solo.assert_no_leak();
}

#[test]
fn a_call_that_rings_outlives_the_connection_it_was_placed_over() {
    let mut solo = Solo::new();
    let (_, invite, _) = send(&mut solo, large());
    let flow = opened(&mut solo, 1);
    solo.read(flow, invite.response(180, "far").text().as_bytes());
    solo.drain();
    solo.take_events();
    solo.endpoint.handle_flow_closed(solo.now, flow);
    solo.drain();
    assert_eq!((solo.take_one().text, solo.take_events().len()), (invite.text.clone(), 0));
    let second = opened(&mut solo, 2);
    solo.read(second, invite.response(200, "far").contact().sdp(ANSWER).text().as_bytes());
    solo.drain();
    assert!(matches!(solo.take_events()[..], [Event::Answered { .. }]));
}

/// RFC 5626 4.4.1: who has answered a ping is held to it; who never does is not closed for that.
#[test]
fn a_connection_whose_peer_answers_pings_no_more_is_closed_and_the_call_goes_on() {
    let mut solo = Solo::new();
    let (session, flow) = call_over_tcp(&mut solo);
    solo.advance(Duration::from_secs(75));
    assert_eq!(solo.take_sent().len(), 1, "one ping, and nobody minds that it is not answered");
    solo.read(flow, b"\r\n");
    solo.drain();
    solo.advance(Duration::from_secs(60));
    let sent = solo.take_sent();
    assert_eq!(sent.first().map(|sent| sent.text.as_str()), Some("\r\n\r\n"));
    assert_eq!(sent.last().map(|sent| sent.target.clone()), Some(Target::Close(flow)), "no pong within 10 s");
    assert_eq!(solo.endpoint.counters().pongs_missed, 1);
    solo.assert_no_events();
    solo.endpoint.hangup(solo.now, session, None).unwrap();
    solo.drain();
    assert_eq!(solo.take_one().target, by_tcp());
}

/// A peer's own ping begins like a pong and is none.
#[test]
fn a_ping_of_the_peer_is_no_pong() {
    let mut solo = Solo::new();
    let (_, flow) = call_over_tcp(&mut solo);
    solo.advance(Duration::from_secs(61));
    solo.read(flow, b"\r\n\r\n");
    solo.drain();
    solo.advance(Duration::from_secs(120));
    assert!(solo.take_sent().iter().all(|sent| sent.target == Target::Flow(flow)));
    assert_eq!(solo.endpoint.counters().pongs_missed, 0);
}
