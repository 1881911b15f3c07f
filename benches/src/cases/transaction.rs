//! The endpoint's part of a call: transactions, the dialog, its timers. No routing, no record.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::{Endpoint, EndpointConfig, Event, Flow, SessionId, SessionPolicy, Transport};

use super::Step;

/// Between two calls: transactions live for 32 s (RFC 3261, timer J), so some hundred are held at a time.
const PAUSE: Duration = Duration::from_millis(100);
const SDP: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

struct Peer {
    endpoint: Endpoint,
    now: Instant,
    number: u64,
    /// Final answers of ours that were seen.
    finals: u64,
}

impl Peer {
    fn new() -> Self {
        let endpoint = Endpoint::new(EndpointConfig::default(), 7);
        Self { endpoint, now: Instant::now(), number: 0, finals: 0 }
    }

    fn text(&self, method: &str, sequence: u32, tag: &str, body: &str) -> Bytes {
        let number = self.number;
        Bytes::from(format!(
            "{method} sip:+910000000000@203.0.113.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{number}{method};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:+4930123@carrier>;tag=f{number}\r\nTo: <sip:+910000000000@203.0.113.1>{tag}\r\n\
             Call-ID: {number}@carrier\r\nCSeq: {sequence} {method}\r\nContact: <sip:c@192.0.2.7:5060>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    }

    fn receive(&mut self, payload: Bytes) -> Option<Event> {
        let flow = Flow {
            transport: Transport::Udp,
            local: "203.0.113.1:5060".parse().expect("an address"),
            remote: "192.0.2.7:5060".parse().expect("an address"),
            connection: 0,
        };
        self.endpoint.handle_datagram(self.now, flow, payload);
        self.endpoint.poll_event()
    }

    /// The To tag of the last answer, as it is written in a request.
    fn drain(&mut self) -> String {
        let mut tag = String::new();
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let text = String::from_utf8_lossy(&transmit.payload);
            self.finals += u64::from(text.starts_with("SIP/2.0 200"));
            let to = text.lines().find(|line| line.starts_with("To:")).unwrap_or_default();
            tag = to.find(";tag=").map(|at| to[at..].to_owned()).unwrap_or_default();
        }
        tag
    }

    fn pass_time(&mut self) {
        self.number += 1;
        self.now += PAUSE;
        self.endpoint.handle_timeout(self.now);
        while self.endpoint.poll_event().is_some() {}
        self.drain();
    }

    fn take_invite(&mut self) -> SessionId {
        let Some(Event::Incoming(incoming)) = self.receive(self.text("INVITE", 1, "", "v=0\r\n")) else {
            panic!("an INVITE comes in");
        };
        let accepted = self.endpoint.accept(self.now, *incoming, SessionPolicy::default());
        let session = accepted.expect("it can be accepted");
        self.endpoint.provisional(self.now, session, 180, None).expect("it rings");
        session
    }
}

pub(super) fn options() -> Step {
    let mut peer = Peer::new();
    Box::new(move || {
        peer.pass_time();
        let Some(Event::Incoming(incoming)) = peer.receive(peer.text("OPTIONS", 1, "", "")) else {
            panic!("an OPTIONS comes in");
        };
        peer.endpoint.answer_options(*incoming);
        peer.drain();
        assert_eq!(peer.finals, peer.number, "each is answered");
    })
}

pub(super) fn repeated_invite() -> Step {
    let mut peer = Peer::new();
    peer.pass_time();
    let _ = peer.take_invite();
    peer.drain();
    let invite = peer.text("INVITE", 1, "", "v=0\r\n");
    Box::new(move || {
        assert!(peer.receive(invite.clone()).is_none(), "it is absorbed");
        assert!(peer.endpoint.poll_transmit().is_some(), "the 180 is sent again");
    })
}

pub(super) fn invite_to_bye() -> Step {
    let mut peer = Peer::new();
    Box::new(move || {
        peer.pass_time();
        let session = peer.take_invite();
        peer.endpoint.answer(peer.now, session, Bytes::from_static(SDP)).expect("it can be answered");
        let tag = peer.drain();
        let acknowledged = peer.receive(peer.text("ACK", 1, &tag, ""));
        assert!(matches!(acknowledged, Some(Event::Acknowledged { .. })), "{acknowledged:?}");
        let ended = peer.receive(peer.text("BYE", 2, &tag, ""));
        assert!(matches!(ended, Some(Event::Ended { .. })), "{ended:?}");
        peer.drain();
        assert_eq!(peer.finals, 2 * peer.number, "INVITE and BYE are answered");
    })
}
