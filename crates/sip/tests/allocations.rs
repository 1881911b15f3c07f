//! What reading and writing messages costs in allocations: none to read, one to write.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::disallowed_methods, reason = "an Instant can be had only from the clock")]

use allocation_counter::measure;
use bytes::Bytes;
use tandem_sip::message::ResponseRouting;
use tandem_sip::{
    Census, Endpoint, EndpointConfig, Event, Flow, HeaderName, Message, Method, NameAddr, Request,
    RequestBuilder, ResponseBuilder, Transport, Via,
};

/// An INVITE as a carrier's SBC sends it, 31 header fields long.
fn invite() -> Bytes {
    let mut text = String::from("INVITE sip:+15551234567@203.0.113.1:5060;user=phone SIP/2.0\r\n");
    for hop in 0..3 {
        text += &format!("Via: SIP/2.0/UDP 192.0.2.{hop}:5060;branch=z9hG4bK{hop}abcdef;rport\r\n");
        text += &format!("Record-Route: <sip:192.0.2.{hop};lr;ftag=as5d4f>\r\n");
    }
    text += "From: \"Alice Smith\" <sip:+15557654321@192.0.2.9;user=phone>;tag=as5d4f\r\n\
             To: <sip:+15551234567@203.0.113.1>\r\nCall-ID: 7a1b2c3d4e5f@192.0.2.9\r\nCSeq: 102 INVITE\r\n\
             Max-Forwards: 67\r\nContact: <sip:+15557654321@192.0.2.9:5060>\r\n\
             Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, UPDATE, PRACK, INFO\r\nSupported: timer, 100rel\r\n\
             P-Asserted-Identity: <sip:+15557654321@192.0.2.9>, <tel:+15557654321>\r\n\
             Session-Expires: 1800;refresher=uac\r\nMin-SE: 90\r\nUser-Agent: SBC/7.2\r\n\
             Content-Type: application/sdp\r\n";
    for extra in 0..11 {
        text += &format!("X-Carrier-{extra}: value {extra}\r\n");
    }
    text += "Content-Length: 5\r\n\r\nv=0\r\n";
    Bytes::from(text)
}

fn request(bytes: &Bytes) -> Request {
    let Ok(Message::Request(request)) = Message::parse_datagram(bytes.clone()) else { panic!() };
    request
}

#[test]
fn reading_allocates_nothing() {
    let bytes = invite();
    let parsed = measure(|| drop(request(&bytes)));
    assert_eq!(parsed.count_total, 0);

    let request = request(&bytes);
    assert_eq!(request.fields().count(), 31);
    let viewed = measure(|| {
        assert_eq!(request.method(), Method::Invite);
        assert_eq!(request.uri().number().as_deref(), Some(&b"+15551234567"[..]));
        assert_eq!(request.via().branch(), Some(&b"z9hG4bK0abcdef"[..]));
        assert_eq!(request.from().tag(), Some(&b"as5d4f"[..]));
        assert_eq!(request.from().display_name().as_deref(), Some("Alice Smith"));
        assert_eq!((request.to().tag(), request.cseq().number), (None, 102));
        assert_eq!(request.contact().unwrap().uri().port(), Some(5060));
        assert_eq!(request.headers(HeaderName::Via).filter_map(Via::parse).count(), 3);
        assert_eq!(request.headers(HeaderName::PAssertedIdentity).filter_map(NameAddr::parse).count(), 2);
        assert!(request.lists(HeaderName::Allow, "PRACK"));
        assert_eq!(request.header_named("X-Carrier-7"), Some(&b"value 7"[..]));
        assert_eq!((request.body().len(), request.share(request.call_id()).len()), (5, 22));
    });
    assert_eq!(viewed.count_total, 0);
}

/// The count is not blind: the 33rd header field takes the list to the heap.
#[test]
fn more_header_fields_than_fit_are_counted() {
    let mut text = str::from_utf8(&invite()).unwrap().to_owned();
    text = text.replacen("Max-Forwards", "X-A: b\r\nX-C: d\r\nMax-Forwards", 1);
    let bytes = Bytes::from(text);
    assert!(measure(|| drop(request(&bytes))).count_total >= 1);
}

#[test]
fn a_message_that_is_refused_costs_one_box() {
    let bytes = Bytes::from_static(b"INVITE sip:a@b SIP/7.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\n\r\n");
    let refused = measure(|| assert!(Message::parse_datagram(bytes.clone()).is_err()));
    assert!(refused.count_total <= 1, "{refused:?}");
}

#[test]
fn writing_allocates_the_message_alone() {
    let mut request = request(&invite());
    request.set_source("192.0.2.9:5060".parse().unwrap(), ResponseRouting::AsAsked);
    let answered = measure(|| {
        let response = ResponseBuilder::new(&request, 180, Some(b"tag"))
            .header(HeaderName::Contact, "<sip:203.0.113.1>")
            .header_fmt(HeaderName::RSeq, format_args!("{}", 1))
            .finish();
        assert!(response.len() < 1024);
    });
    // The bytes, and once they are shared the counter beside them.
    assert!(answered.count_total <= 2, "{answered:?}");
    let asked = measure(|| {
        let request = RequestBuilder::new(Method::Bye, request.uri().as_bytes())
            .copy(&request, HeaderName::CallId)
            .copy(&request, HeaderName::From)
            .header_fmt(HeaderName::CSeq, format_args!("{} BYE", 103))
            .finish();
        assert!(request.len() < 1024);
    });
    assert!(asked.count_total <= 2, "{asked:?}");
}

/// A malformed packet never costs more than its own bytes, some times over, and leaves nothing behind.
#[test]
fn what_is_malformed_costs_its_own_bytes_and_is_forgotten() {
    let flow = Flow {
        transport: Transport::Udp,
        local: "192.0.2.9:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        connection: 0,
    };
    let honest = str::from_utf8(&invite()).unwrap().to_owned();
    let malformed = [
        "\u{1}".repeat(60_000),
        honest.replacen("CSeq: 102 INVITE", "CSeq: 102 BYE", 1),
        honest.replacen("Content-Length: 5", "Content-Length: 1000000000000", 1),
        honest.replacen("Content-Length: 5", "Content-Length: -1", 1),
        honest.replacen("Content-Length: 5", "Content-Length: 4\r\nContent-Length: 5", 1),
        honest.replacen("X-Carrier-0", &"X: y\r\n".repeat(9_000), 1),
        honest.replacen("X-Carrier-0: value", &format!("X: {}", "y".repeat(60_000)), 1),
        honest.replacen("Via: ", &format!("Via: {}", "SIP/2.0/UDP h;branch=z9hG4bK, ".repeat(1_500)), 1),
        honest.replacen("From: ", &"\"".repeat(40_000), 1),
        honest.replacen("sip:+1555", &";a=b".repeat(10_000), 1),
    ];
    let now = std::time::Instant::now();
    let mut endpoint = Endpoint::new(EndpointConfig::default(), 1);
    for text in malformed {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        let cost = measure(|| {
            endpoint.handle_datagram(now, flow, bytes.clone());
            while let Some(event) = endpoint.poll_event() {
                if let Event::Malformed(malformed) = event {
                    endpoint.refuse_malformed(*malformed);
                }
            }
            while endpoint.poll_transmit().is_some() {}
        });
        let start = &text[..text.len().min(60)];
        assert!(
            cost.bytes_max <= 3 * bytes.len() as u64 + 8_192,
            "{} for {}: {start}",
            cost.bytes_max,
            bytes.len()
        );
        assert!(cost.bytes_current <= 4_096, "{} are kept: {start}", cost.bytes_current);
    }
    assert_eq!(endpoint.counters().malformed, 10);
    assert_eq!(endpoint.census(), Census::default());
}
