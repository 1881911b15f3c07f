//! A second opinion: `rsip` and this crate read the same messages the same way, wherever `rsip` reads them
//! rightly.
//!
//! Messages are made from a seeded generator within what `rsip` 0.4 understands (long header names, no
//! folds, known methods, no IPv6, no dot in a user, no white space around parameters); what it misreads is in
//! `probes.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use bytes::Bytes;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use rsip::prelude::*;
use tandem_sip::{HeaderName, Message, Method, RequestBuilder, Via};

const MESSAGES: u64 = 3000;

/// Draws the parts of a message.
struct Draw(ChaCha8Rng);

impl Draw {
    fn below(&mut self, bound: usize) -> usize {
        (self.0.next_u64() % bound as u64) as usize
    }

    fn one<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.below(choices.len())]
    }

    fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == 0
    }

    fn token(&mut self) -> String {
        const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789-._";
        let length = 1 + self.below(20);
        (0..length).map(|_| char::from(LETTERS[self.below(LETTERS.len())])).collect()
    }

    fn uri(&mut self) -> String {
        let user = self.one(&["alice", "+15551234567", "bob", "1000", "a_b-c"]);
        let host = self.one(&["example.com", "192.0.2.17", "sbc-1.carrier.example"]);
        let scheme = self.one(&["sip", "sip", "sips"]);
        let port = if self.chance(2) { format!(":{}", 1024 + self.below(60000)) } else { String::new() };
        let params = self.one(&["", ";transport=TCP", ";lr", ";user=phone", ";lr;transport=UDP"]);
        format!("{scheme}:{user}@{host}{port}{params}")
    }

    fn address(&mut self, tag: Option<&str>) -> String {
        let display = self.one(&["", "", "Alice ", "\"Alice Smith\" ", "\"Smith\" "]);
        let tag = tag.map(|tag| format!(";tag={tag}")).unwrap_or_default();
        format!("{display}<{}>{tag}", self.uri())
    }

    fn common(&mut self, method: &str, to_tag: bool) -> String {
        let mut lines = Vec::new();
        for _ in 0..1 + self.below(3) {
            let transport = self.one(&["UDP", "TCP", "TLS"]);
            let (branch, port) = (self.token(), 1024 + self.below(60000));
            lines.push(format!("Via: SIP/2.0/{transport} 192.0.2.4:{port};branch=z9hG4bK{branch}"));
        }
        let (from_tag, other_tag) = (self.token(), self.token());
        lines.push(format!("From: {}", self.address(Some(&from_tag))));
        lines.push(format!("To: {}", self.address(to_tag.then_some(other_tag.as_str()))));
        lines.push(format!("Call-ID: {}@{}", self.token(), self.token()));
        lines.push(format!("CSeq: {} {method}", self.below(1 << 31)));
        lines.push(format!("Max-Forwards: {}", self.below(256)));
        if self.chance(2) {
            lines.push(format!("Contact: <{}>", self.uri()));
        }
        for _ in 0..self.below(6) {
            let name = self.one(&["X-Custom", "P-Charge", "Subject", "Allow", "Supported", "User-Agent"]);
            lines.push(format!("{name}: {} {}", self.token(), self.token()));
        }
        let shift = self.below(lines.len());
        lines.rotate_left(shift);
        lines.join("\r\n")
    }

    fn body(&mut self) -> String {
        if self.chance(3) { String::new() } else { format!("v=0\r\ns={}\r\n", self.token()) }
    }

    fn request(&mut self) -> String {
        const METHODS: [&str; 6] = ["INVITE", "BYE", "OPTIONS", "REGISTER", "CANCEL", "ACK"];
        let method = self.one(&METHODS);
        let (uri, to_tag, body) = (self.uri(), self.chance(2), self.body());
        let fields = self.common(method, to_tag);
        format!("{method} {uri} SIP/2.0\r\n{fields}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }

    fn response(&mut self) -> String {
        let line = self.one(&["100 Trying", "180 Ringing", "200 OK", "404 Not Found", "486 Busy Here"]);
        let body = self.body();
        let fields = self.common("INVITE", true);
        format!("SIP/2.0 {line}\r\n{fields}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
    }
}

fn ours(text: &str) -> Message {
    Message::parse_datagram(Bytes::from(text.to_owned())).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// Compares every header line, and the values that matching depends on.
fn assert_fields_agree(text: &str, ours: &Message, theirs: &impl HeadersExt, body: &[u8]) {
    let (our, their) = (ours.fields(), theirs.headers());
    let lines: Vec<_> = our
        .raw_headers()
        .map(|(name, value)| format!("{}: {}", str::from_utf8(name).unwrap(), str::from_utf8(value).unwrap()))
        .collect();
    let their_lines: Vec<_> = their.iter().map(|header| header.to_string()).collect();
    assert_eq!(lines, their_lines, "{text}");
    assert_eq!(our.body_bytes(), body, "{text}");

    let cseq = theirs.cseq_header().unwrap().typed().unwrap();
    let our_cseq = our.cseq_field().unwrap();
    assert_eq!((our_cseq.number, our_cseq.method.to_string()), (cseq.seq, cseq.method.to_string()), "{text}");
    let from = theirs.from_header().unwrap().typed().unwrap();
    let our_from = our.from_field().unwrap();
    assert_eq!(our_from.tag().unwrap(), from.tag().unwrap().value().as_bytes(), "{text}");
    assert_eq!(our_from.uri().as_bytes(), from.uri.to_string().as_bytes(), "{text}");
    let to = theirs.to_header().unwrap().typed().unwrap();
    let our_to = our.to_field().unwrap();
    assert_eq!(our_to.tag(), to.tag().as_ref().map(|tag| tag.value().as_bytes()), "{text}");
    let via = theirs.via_header().unwrap().typed().unwrap();
    let our_via: Via<'_> = our.top_via().unwrap();
    assert_eq!(our_via.branch().unwrap(), via.branch().unwrap().value().as_bytes(), "{text}");
    assert_eq!(our_via.transport(), via.transport.to_string().as_bytes(), "{text}");
    assert_eq!(our_via.port(), via.uri.host_with_port.port.map(|port| *port.value()), "{text}");
    let call_id = theirs.call_id_header().unwrap().value().as_bytes();
    assert_eq!(our.header(HeaderName::CallId), Some(call_id), "{text}");
}

fn assert_agree(text: &str) {
    let ours = ours(text);
    match (&ours, rsip::SipMessage::try_from(text.as_bytes()).unwrap()) {
        (Message::Request(request), rsip::SipMessage::Request(theirs)) => {
            assert_eq!(request.method().to_string(), theirs.method.to_string(), "{text}");
            assert_eq!(request.uri().as_bytes(), theirs.uri.to_string().as_bytes(), "{text}");
            let host = theirs.uri.host_with_port.host.to_string();
            assert_eq!(request.uri().host(), host.as_bytes(), "{text}");
            assert_eq!(
                request.uri().port(),
                theirs.uri.host_with_port.port.map(|port| *port.value()),
                "{text}"
            );
            assert_fields_agree(text, &ours, &theirs, &theirs.body);
        }
        (Message::Response(response), rsip::SipMessage::Response(theirs)) => {
            assert_eq!(response.status(), u16::from(theirs.status_code.clone()), "{text}");
            assert_fields_agree(text, &ours, &theirs, &theirs.body);
        }
        _ => panic!("one reads a request, the other a response: {text}"),
    }
}

#[test]
fn both_read_generated_messages_alike() {
    for seed in 0..MESSAGES {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
        let text = if draw.chance(3) { draw.response() } else { draw.request() };
        assert_agree(&text);
    }
}

/// What our builder writes, `rsip` reads as it was meant.
#[test]
fn rsip_reads_what_is_built_here() {
    for seed in 0..MESSAGES {
        let mut draw = Draw(ChaCha8Rng::seed_from_u64(seed));
        let text = draw.request();
        let Message::Request(request) = ours(&text) else { panic!("{text}") };
        let mut builder = RequestBuilder::new(request.method(), request.uri().as_bytes());
        for (name, value) in request.raw_headers() {
            if HeaderName::from_bytes(name) != HeaderName::ContentLength {
                builder = builder.header_named(name, value);
            }
        }
        let built = builder.finish_with_body("application/sdp", request.body());
        assert_agree(str::from_utf8(&built).unwrap());
    }
}

/// The valid messages of RFC 4475 that `rsip` reads at all and whole.
#[test]
fn both_read_the_torture_messages_that_rsip_takes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/torture/rfc4475/");
    for name in ["lwsdisp", "transports", "noreason", "unkscm", "invut", "bext01", "zeromf", "cparam02"] {
        let text = std::fs::read_to_string(format!("{folder}{name}.dat")).unwrap();
        let Ok(theirs) = rsip::SipMessage::try_from(text.as_bytes()) else { continue };
        let ours = ours(&text);
        assert_eq!(
            matches!(theirs, rsip::SipMessage::Request(_)),
            matches!(ours, Message::Request(_)),
            "{name}"
        );
        let lines: Vec<_> = ours.fields().raw_headers().collect();
        assert_eq!(lines.len(), theirs.headers().iter().count(), "{name}");
    }
}

/// The oracle is not blind: a changed message is seen to differ.
#[test]
fn a_difference_is_noticed() {
    let text = Draw(ChaCha8Rng::seed_from_u64(1)).request();
    let changed = text.replacen("Max-Forwards: ", "Max-Forwards: 0", 1);
    let theirs = rsip::Request::try_from(changed.as_bytes()).unwrap();
    let lines = theirs.headers.iter().map(|header| header.to_string());
    let Message::Request(request) = ours(&text) else { panic!("{text}") };
    assert_eq!(request.method(), Method::from_bytes(theirs.method.to_string().as_bytes()));
    let max_forwards = lines.filter(|line| line.starts_with("Max-Forwards")).last().unwrap();
    assert_ne!(
        max_forwards.as_bytes(),
        [b"Max-Forwards: ", request.header(HeaderName::MaxForwards).unwrap()].concat()
    );
}
