//! One endpoint against a script: messages are written by hand, answers are read as text, time is virtual.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::{
    EndedBy, Endpoint, EndpointConfig, Event, Flow, Incoming, OfferKind, SessionId, SessionPolicy, Target,
    Transport,
};

pub(crate) const OFFER: &str =
    "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub(crate) const ANSWER: &str =
    "v=0\r\no=- 9 9 IN IP4 192.0.2.9\r\ns=-\r\nc=IN IP4 192.0.2.9\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";

pub(crate) fn us() -> SocketAddr {
    "192.0.2.9:5060".parse().unwrap()
}

pub(crate) fn peer() -> SocketAddr {
    "192.0.2.1:5060".parse().unwrap()
}

pub(crate) fn stranger() -> SocketAddr {
    "198.51.100.66:5060".parse().unwrap()
}

pub(crate) fn udp(remote: SocketAddr) -> Flow {
    Flow { transport: Transport::Udp, local: us(), remote, connection: 0 }
}

pub(crate) fn tcp(remote: SocketAddr, connection: u64) -> Flow {
    Flow { transport: Transport::Tcp, local: us(), remote, connection }
}

/// A message the endpoint sent.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) at: Duration,
    pub(crate) target: Target,
    pub(crate) text: String,
}

impl Sent {
    /// The status of a response, or the method of a request.
    pub(crate) fn what(&self) -> &str {
        let mut words = self.text.split(' ');
        match words.next() {
            Some("SIP/2.0") => words.next().unwrap(),
            first => first.unwrap_or_default(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.text.split("\r\n").take_while(|line| !line.is_empty()).find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        })
    }

    pub(crate) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.text.split("\r\n").take_while(|line| !line.is_empty());
        lines
            .filter_map(|line| line.split_once(": "))
            .filter(|(found, _)| found.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    pub(crate) fn to_tag(&self) -> &str {
        tag(self.header("To").unwrap())
    }

    pub(crate) fn body(&self) -> &str {
        self.text.split_once("\r\n\r\n").unwrap().1
    }

    pub(crate) fn request_uri(&self) -> &str {
        self.text.split(' ').nth(1).unwrap()
    }

    /// The response a scripted peer gives to this request of ours.
    pub(crate) fn response(&self, status: u16, to_tag: &str) -> Reply {
        Reply {
            status,
            via: self.header("Via").unwrap().to_owned(),
            from: self.header("From").unwrap().to_owned(),
            to: {
                let to = self.header("To").unwrap();
                if to.contains("tag=") || to_tag.is_empty() {
                    to.to_owned()
                } else {
                    format!("{to};tag={to_tag}")
                }
            },
            call_id: self.header("Call-ID").unwrap().to_owned(),
            cseq: self.header("CSeq").unwrap().to_owned(),
            headers: String::new(),
            body: String::new(),
        }
    }
}

pub(crate) fn tag(value: &str) -> &str {
    value.split("tag=").nth(1).unwrap_or_default().split(';').next().unwrap()
}

/// A response of a scripted peer.
pub(crate) struct Reply {
    status: u16,
    via: String,
    from: String,
    to: String,
    call_id: String,
    cseq: String,
    headers: String,
    body: String,
}

impl Reply {
    pub(crate) fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    pub(crate) fn contact(self) -> Self {
        self.header("Contact: <sip:peer@192.0.2.1:5060>")
    }

    pub(crate) fn sdp(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self.header("Content-Type: application/sdp")
    }

    pub(crate) fn text(&self) -> String {
        format!(
            "SIP/2.0 {} Scripted\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {}\r\n{}\
             Content-Length: {}\r\n\r\n{}",
            self.status,
            self.via,
            self.from,
            self.to,
            self.call_id,
            self.cseq,
            self.headers,
            self.body.len(),
            self.body
        )
    }
}

/// A request of a scripted peer.
#[derive(Clone)]
pub(crate) struct Ask {
    method: String,
    uri: String,
    branch: String,
    via_tail: String,
    transport: &'static str,
    from_tag: String,
    to_tag: String,
    call_id: String,
    cseq: u32,
    contact: &'static str,
    headers: String,
    body: String,
}

impl Ask {
    pub(crate) fn new(method: &str) -> Self {
        Self {
            method: method.to_owned(),
            uri: "sip:tandem@192.0.2.9:5060".to_owned(),
            branch: format!("z9hG4bK-{}-1", method.to_lowercase()),
            via_tail: String::new(),
            transport: "UDP",
            from_tag: "peer".to_owned(),
            to_tag: String::new(),
            call_id: "call-1".to_owned(),
            cseq: 1,
            contact: "Contact: <sip:peer@192.0.2.1:5060>\r\n",
            headers: String::new(),
            body: String::new(),
        }
    }

    pub(crate) fn invite() -> Self {
        Self::new("INVITE").sdp(OFFER)
    }

    pub(crate) fn uri(mut self, uri: &str) -> Self {
        self.uri = uri.to_owned();
        self
    }

    pub(crate) fn branch(mut self, branch: &str) -> Self {
        self.branch = format!("z9hG4bK-{branch}");
        self
    }

    pub(crate) fn via_tail(mut self, tail: &str) -> Self {
        self.via_tail = tail.to_owned();
        self
    }

    pub(crate) fn over_tcp(mut self) -> Self {
        self.transport = "TCP";
        self
    }

    pub(crate) fn within(mut self, tag: &str) -> Self {
        self.to_tag = if tag.is_empty() { String::new() } else { format!(";tag={tag}") };
        self
    }

    pub(crate) fn sender(mut self, tag: &str) -> Self {
        self.from_tag = tag.to_owned();
        self
    }

    pub(crate) fn call(mut self, call_id: &str) -> Self {
        self.call_id = call_id.to_owned();
        self
    }

    pub(crate) fn cseq(mut self, cseq: u32) -> Self {
        self.cseq = cseq;
        self
    }

    pub(crate) fn header(mut self, line: &str) -> Self {
        self.headers.push_str(line);
        self.headers.push_str("\r\n");
        self
    }

    pub(crate) fn sdp(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self.header("Content-Type: application/sdp")
    }

    pub(crate) fn body(mut self, body: &str) -> Self {
        self.body = body.to_owned();
        self
    }

    pub(crate) fn text(&self) -> String {
        let Self { method, uri, branch, via_tail, transport, from_tag, to_tag, call_id, cseq, .. } = self;
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/{transport} 192.0.2.1:5060;branch={branch}{via_tail}\r\n\
             From: \"Peer\" <sip:peer@example.com>;tag={from_tag}\r\nTo: <sip:tandem@example.com>{to_tag}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} {method}\r\nMax-Forwards: 70\r\n{}{}Content-Length: {}\r\n\r\n{}",
            self.contact,
            self.headers,
            self.body.len(),
            self.body
        )
    }
}

/// An endpoint, the time, and what has come out of it.
pub(crate) struct Solo {
    pub(crate) endpoint: Endpoint,
    pub(crate) now: Instant,
    start: Instant,
    sent: Vec<Sent>,
    events: Vec<Event>,
    pub(crate) policy: SessionPolicy,
}

impl Solo {
    pub(crate) fn new() -> Self {
        Self::with(EndpointConfig::default())
    }

    pub(crate) fn with(config: EndpointConfig) -> Self {
        let now = Instant::now();
        Self {
            endpoint: Endpoint::new(config, 1),
            now,
            start: now,
            sent: Vec::new(),
            events: Vec::new(),
            policy: SessionPolicy::default(),
        }
    }

    /// What a connection brought, to its last whole message.
    pub(crate) fn read(&mut self, flow: Flow, mut bytes: &[u8]) {
        while self.endpoint.handle_stream(self.now, flow, bytes).is_some() {
            bytes = &[];
            self.drain();
        }
    }

    pub(crate) fn drain(&mut self) {
        while let Some(transmit) = self.endpoint.poll_transmit() {
            let text = String::from_utf8_lossy(&transmit.payload).into_owned();
            self.sent.push(Sent { at: self.now - self.start, target: transmit.target, text });
        }
        while let Some(event) = self.endpoint.poll_event() {
            self.events.push(event);
        }
        if let Some((at, reason)) = self.endpoint.poll_timeout() {
            assert!(at > self.now, "{reason} lies in the past after a drain");
        }
    }

    pub(crate) fn feed_from(&mut self, flow: Flow, text: &str) {
        self.endpoint.handle_datagram(self.now, flow, Bytes::copy_from_slice(text.as_bytes()));
        self.drain();
    }

    pub(crate) fn feed(&mut self, ask: &Ask) {
        self.feed_from(udp(peer()), &ask.text());
    }

    pub(crate) fn reply(&mut self, reply: &Reply) {
        self.feed_from(udp(peer()), &reply.text());
    }

    /// Lets time pass, doing everything at its moment.
    pub(crate) fn advance(&mut self, by: Duration) {
        let end = self.now + by;
        while let Some((at, _)) = self.endpoint.poll_timeout()
            && at <= end
        {
            self.now = at;
            self.endpoint.handle_timeout(at);
            self.drain();
        }
        self.now = end;
        self.endpoint.handle_timeout(end);
        self.drain();
    }

    pub(crate) fn advance_ms(&mut self, ms: u64) {
        self.advance(Duration::from_millis(ms));
    }

    /// Everything sent since the last look.
    pub(crate) fn take_sent(&mut self) -> Vec<Sent> {
        std::mem::take(&mut self.sent)
    }

    /// The one message sent since the last look.
    pub(crate) fn take_one(&mut self) -> Sent {
        let mut sent = self.take_sent();
        assert_eq!(sent.len(), 1, "one message was expected: {sent:#?}");
        sent.remove(0)
    }

    /// What was sent since the last look, as methods and statuses.
    pub(crate) fn take_what(&mut self) -> Vec<String> {
        self.take_sent().iter().map(|sent| sent.what().to_owned()).collect()
    }

    pub(crate) fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    pub(crate) fn take_event(&mut self) -> Event {
        let mut events = self.take_events();
        assert_eq!(events.len(), 1, "one event was expected: {events:#?}");
        events.remove(0)
    }

    pub(crate) fn assert_no_events(&mut self) {
        let events = self.take_events();
        assert!(events.is_empty(), "no event was expected: {events:#?}");
    }

    pub(crate) fn take_incoming(&mut self) -> Box<Incoming> {
        match self.take_event() {
            Event::Incoming(incoming) => incoming,
            other => panic!("an incoming request was expected: {other:?}"),
        }
    }

    /// Feeds an INVITE and accepts it; the 100 is taken off.
    pub(crate) fn accept(&mut self, ask: &Ask) -> SessionId {
        self.feed(ask);
        let incoming = self.take_incoming();
        let session = self.endpoint.accept(self.now, *incoming, self.policy.clone()).unwrap();
        self.drain();
        assert_eq!(self.take_one().what(), "100");
        session
    }

    pub(crate) fn ring(&mut self, session: SessionId) {
        self.endpoint.provisional(self.now, session, 180, None).unwrap();
        self.drain();
    }

    pub(crate) fn answer(&mut self, session: SessionId) -> Sent {
        self.endpoint.answer(self.now, session, Bytes::from_static(ANSWER.as_bytes())).unwrap();
        self.drain();
        self.take_one()
    }

    /// A session that is accepted, answered and acknowledged; the tag is ours.
    pub(crate) fn established(&mut self) -> (SessionId, String) {
        self.established_by(&Ask::invite())
    }

    pub(crate) fn established_by(&mut self, ask: &Ask) -> (SessionId, String) {
        let session = self.accept(ask);
        let ok = self.answer(session);
        let tag = ok.to_tag().to_owned();
        self.feed(&Ask::new("ACK").within(&tag).branch("ack"));
        assert!(matches!(self.take_event(), Event::Acknowledged { .. }));
        assert!(self.take_sent().is_empty());
        (session, tag)
    }

    pub(crate) fn ended_by(&mut self) -> EndedBy {
        match self.take_event() {
            Event::Ended { by, .. } => by,
            other => panic!("the end was expected: {other:?}"),
        }
    }

    pub(crate) fn take_offer(&mut self) -> (OfferKind, Option<Bytes>) {
        match self.take_event() {
            Event::Offer { kind, offer, .. } => (kind, offer),
            other => panic!("an offer was expected: {other:?}"),
        }
    }

    /// Lets everything run out and asserts that nothing is left.
    pub(crate) fn assert_no_leak(&mut self) {
        self.advance(Duration::from_secs(200));
        self.take_sent();
        self.take_events();
        let census = self.endpoint.census();
        assert_eq!(census, Default::default(), "something is left");
    }
}
