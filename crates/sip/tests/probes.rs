//! What carriers, SBCs, PBXs and phones really send, one message each: the cases on which public parsers
//! were found to fail, and what must come of them here.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use bytes::Bytes;
use tandem_sip::message::ResponseRouting;
use tandem_sip::{
    Fault, HeaderName, Message, Method, NameAddr, Request, RequestBuilder, ResponseBuilder, Scheme, Via,
};

/// A request that holds these lines beside what every request must have and they do not name.
fn text(request_line: &str, lines: &str) -> Vec<u8> {
    let method = request_line.split(' ').next().unwrap();
    let mut text = format!("{request_line}\r\n{lines}");
    for (names, line) in [
        (&["via", "v"][..], "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKp"),
        (&["from", "f"], "From: <sip:a@b>;tag=1"),
        (&["to", "t"], "To: <sip:c@d>"),
        (&["call-id", "i"], "Call-ID: probe"),
        (&["cseq"], &format!("CSeq: 1 {method}")),
    ] {
        let is_there = |header: &str| {
            let name = header.split(':').next().unwrap().trim_end();
            names.iter().any(|known| name.eq_ignore_ascii_case(known))
        };
        if !lines.split("\r\n").any(is_there) {
            text.push_str(line);
            text.push_str("\r\n");
        }
    }
    text.push_str("\r\n");
    text.into_bytes()
}

fn parse(bytes: impl Into<Vec<u8>>) -> Request {
    let bytes = bytes.into();
    match Message::parse_datagram(Bytes::from(bytes.clone())) {
        Ok(Message::Request(request)) => request,
        other => panic!("{other:?}: {}", String::from_utf8_lossy(&bytes)),
    }
}

fn request(request_line: &str, lines: &str) -> Request {
    parse(text(request_line, lines))
}

fn invite(lines: &str) -> Request {
    request("INVITE sip:+15551234@192.0.2.2 SIP/2.0", lines)
}

fn fault(bytes: impl Into<Vec<u8>>) -> Fault {
    Message::parse_datagram(Bytes::from(bytes.into())).unwrap_err().fault()
}

fn from(value: &str) -> Request {
    invite(&format!("From: {value}\r\n"))
}

#[test]
fn compact_names_are_names() {
    let lines = "v: SIP/2.0/UDP h;branch=z9hG4bK1\r\nf: <sip:a@b>;tag=9\r\nt: <sip:c@d>\r\ni: x\r\n\
                 m: <sip:e@f>\r\nc: application/sdp\r\nk: timer, 100rel\r\nx: 1800;refresher=uac\r\nl: 0\r\n";
    let request = invite(lines);
    assert_eq!((request.call_id(), request.from().tag()), (&b"x"[..], Some(&b"9"[..])));
    assert_eq!(request.contact().unwrap().uri().as_bytes(), b"sip:e@f");
    assert!(request.lists(HeaderName::Supported, "100REL"));
    assert_eq!(request.fields().seconds(HeaderName::SessionExpires), Some(1800));
    assert_eq!(request.content_type(), Some(&b"application/sdp"[..]));
}

#[test]
fn folded_lines_are_one_value() {
    let request = invite("Subject: one\r\n  two\r\n\tthree\r\nFrom:\r\n <sip:a@b>\r\n ;tag=1\r\n");
    assert_eq!(request.header_text(HeaderName::Subject).unwrap(), "one two three");
    assert_eq!(request.from().tag(), Some(&b"1"[..]));
}

#[test]
fn several_vias_in_a_line_are_several() {
    let request = invite("Via: SIP/2.0/UDP a;branch=z9hG4bK1 , SIP/2.0/TCP b;branch=z9hG4bK2\r\n");
    let hosts: Vec<_> = request.headers(HeaderName::Via).map(|via| Via::parse(via).unwrap().host()).collect();
    assert_eq!(hosts, [b"a", b"b"]);
}

/// A response to a line of several Vias carries them all, and only the topmost is changed.
#[test]
fn only_the_topmost_via_of_a_line_is_stamped() {
    let mut request =
        invite("Via: SIP/2.0/UDP a;rport;branch=z9hG4bK1 ,  SIP/2.0/TCP b;rport\r\nVia: SIP/2.0/UDP c\r\n");
    request.set_source("192.0.2.9:5099".parse().unwrap(), ResponseRouting::AsAsked);
    let response = ResponseBuilder::new(&request, 200, Some(b"t")).finish();
    let expected = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1;received=192.0.2.9;rport=5099 ,  \
                    SIP/2.0/TCP b;rport\r\nVia: SIP/2.0/UDP c\r\nFrom: ";
    assert!(response.starts_with(expected.as_bytes()), "{response:?}");
}

#[test]
fn white_space_around_via_parameters_loses_nothing() {
    for via in
        ["h ;branch=z9hG4bK7", "h; branch=z9hG4bK7", "h ; branch = z9hG4bK7 ", "h:5060 ;branch=z9hG4bK7"]
    {
        let request = invite(&format!("Via: SIP/2.0/UDP {via}\r\n"));
        assert_eq!(request.via().branch(), Some(&b"z9hG4bK7"[..]), "{via}");
    }
}

#[test]
fn blanks_at_the_end_belong_to_no_value() {
    let request = invite("Call-ID: abc@def  \t\r\nFrom: <sip:a@b>;tag=1 \r\n");
    assert_eq!((request.call_id(), request.from().tag()), (&b"abc@def"[..], Some(&b"1"[..])));
}

#[test]
fn white_space_before_the_colon_is_taken() {
    assert_eq!(invite("Call-ID \t: abc\r\n").call_id(), b"abc");
}

#[test]
fn ipv6_stands_everywhere_a_host_does() {
    let request = request(
        "INVITE sip:1@[2001:db8::1]:5062;transport=tcp SIP/2.0",
        "Via: SIP/2.0/TCP [2001:db8::2]:5064;branch=z9hG4bK1\r\nContact: <sip:[2001:db8::3]>\r\n",
    );
    assert_eq!(request.uri().ip(), Some("2001:db8::1".parse().unwrap()));
    assert_eq!(request.uri().param("transport").unwrap().value, Some(&b"tcp"[..]));
    assert_eq!(request.via().port(), Some(5064));
    assert_eq!(request.contact().unwrap().uri().ip(), Some("2001:db8::3".parse().unwrap()));
}

#[test]
fn tel_uris_keep_their_plus_wherever_they_stand() {
    let request = request(
        "INVITE tel:+15551234567 SIP/2.0",
        "From: <tel:+9122>;tag=1\r\nTo: tel:+15551234567;phone-context=x\r\n",
    );
    assert_eq!(request.uri().scheme(), Scheme::Tel);
    assert_eq!(request.uri().as_bytes(), b"tel:+15551234567");
    assert_eq!(request.from().uri().number().as_deref(), Some(&b"+9122"[..]));
    assert_eq!(request.to().uri().number().as_deref(), Some(&b"+15551234567"[..]));
}

#[test]
fn number_portability_parameters_are_of_the_user() {
    let request = request("INVITE sip:+1555;npdi;rn=+1@host SIP/2.0", "");
    assert_eq!(request.uri().host(), b"host");
    assert_eq!(request.uri().user(), Some(&b"+1555;npdi;rn=+1"[..]));
    assert_eq!(request.uri().number().as_deref(), Some(&b"+1555"[..]));
}

#[test]
fn escapes_survive_a_copy() {
    let request = request("INVITE sip:%2B1555%23@h SIP/2.0", "");
    assert_eq!(request.uri().number().as_deref(), Some(&b"+1555#"[..]));
    let copy = RequestBuilder::new(request.method(), request.uri().as_bytes()).finish();
    assert!(copy.starts_with(b"INVITE sip:%2B1555%23@h SIP/2.0\r\n"));
}

#[test]
fn star_codes_and_odd_hosts_are_dialled() {
    let request = request("INVITE sip:*72#@pbx_1.local SIP/2.0", "");
    assert_eq!((request.uri().user(), request.uri().host()), (Some(&b"*72#"[..]), &b"pbx_1.local"[..]));
}

/// A caller who writes a URI into his display name is still the one in the brackets.
#[test]
fn a_quoted_display_name_hides_no_uri() {
    let request = from(r#""Doe, J <sip:x@y>; z" <sip:a@b>;tag=9"#);
    assert_eq!(request.from().uri().as_bytes(), b"sip:a@b");
    assert_eq!(request.from().display_name().unwrap(), "Doe, J <sip:x@y>; z");
}

#[test]
fn display_names_come_in_every_spelling() {
    let spelled = [
        ("<sip:a@b>;tag=1", None),
        ("\"\" <sip:a@b>;tag=1", Some("")),
        ("Alice Smith <sip:a@b>;tag=1", Some("Alice Smith")),
        ("\"Alice\"<sip:a@b> ;tag=1", Some("Alice")),
        ("\"Al\\\"ice\\\\\" <sip:a@b>;tag=1", Some("Al\"ice\\")),
        ("J. O'Neil (Sales) <sip:a@b>;tag=1", Some("J. O'Neil (Sales)")),
        ("José <sip:a@b>;tag=1", Some("José")),
        ("\"日本\" <sip:a@b>;tag=1", Some("日本")),
        ("1234@pbx <sip:a@b>;tag=1", Some("1234@pbx")),
    ];
    for (value, expected) in spelled {
        let request = from(value);
        assert_eq!(request.from().display_name().as_deref(), expected, "{value}");
        assert_eq!(request.from().uri().as_bytes(), b"sip:a@b", "{value}");
        assert_eq!(request.from().tag(), Some(&b"1"[..]), "{value}");
    }
}

#[test]
fn latin_1_costs_neither_the_header_nor_those_after_it() {
    let mut bytes =
        text("INVITE sip:a@b SIP/2.0", "From: \"M\u{1}ller\" <sip:a@b>;tag=1\r\nX-After: yes\r\n");
    let at = bytes.iter().position(|&byte| byte == 1).unwrap();
    bytes[at] = 0xfc;
    let request = parse(bytes);
    assert_eq!(request.from().display_name().unwrap(), "Müller");
    assert_eq!(request.header_named("x-after"), Some(&b"yes"[..]));
    let copy = RequestBuilder::new(Method::Options, "sip:x@y").copy(&request, HeaderName::From).finish();
    assert!(copy.windows(8).any(|window| window == b"\"M\xfcller\""));
}

#[test]
fn a_datagram_without_content_length_has_a_body_to_its_end() {
    let mut bytes = text("INVITE sip:a@b SIP/2.0", "Content-Type: application/sdp\r\n");
    bytes.extend_from_slice(b"v=0\r\n");
    assert_eq!(parse(bytes).fields().body_bytes(), b"v=0\r\n");
}

#[test]
fn a_short_content_length_cuts_the_body() {
    let mut bytes = text("INVITE sip:a@b SIP/2.0", "Content-Length: 3\r\n");
    bytes.extend_from_slice(b"v=0\r\nrubbish");
    assert_eq!(parse(bytes).fields().body_bytes(), b"v=0");
}

#[test]
fn bodies_are_bytes() {
    let body: Vec<u8> = (0..=255).collect();
    let mut bytes = text("INVITE sip:a@b SIP/2.0", "");
    bytes.extend_from_slice(&body);
    let request = parse(bytes);
    let copy = RequestBuilder::new(Method::Invite, "sip:a@b").finish_with_body("x/y", request.body());
    assert!(copy.ends_with(&body));
}

#[test]
fn reason_phrases_are_kept() {
    let text = "SIP/2.0 486 Besetzt, ruf später an\r\nVia: SIP/2.0/UDP h\r\nFrom: <sip:a@b>;tag=1\r\n\
                To: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 INVITE\r\n\r\n";
    let Ok(Message::Response(response)) = Message::parse_datagram(Bytes::from(text)) else { panic!() };
    assert_eq!(response.reason(), "Besetzt, ruf später an".as_bytes());
    let without_space = text.replacen("486 Besetzt, ruf später an", "486", 1);
    let Ok(Message::Response(response)) = Message::parse_datagram(Bytes::from(without_space)) else {
        panic!()
    };
    assert_eq!((response.status(), response.reason()), (486, &b""[..]));
}

#[test]
fn unknown_methods_can_be_answered() {
    let request = request("FOO sip:a@b SIP/2.0", "");
    assert_eq!(request.method(), Method::Other(b"FOO"));
    let response = ResponseBuilder::new(&request, 501, Some(b"t")).finish();
    assert!(response.starts_with(b"SIP/2.0 501 Not Implemented\r\n"));
    assert_eq!(self::request("invite sip:a@b SIP/2.0", "").method(), Method::Other(b"invite"));
}

#[test]
fn line_ends_may_stand_before_and_be_bare() {
    let bytes = text("INVITE sip:a@b SIP/2.0", "Call-ID: abc\r\n");
    assert_eq!(parse([b"\r\n\r\n", &bytes[..]].concat()).call_id(), b"abc");
    let bare: Vec<u8> = bytes.iter().copied().filter(|&byte| byte != b'\r').collect();
    assert_eq!(parse(bare).call_id(), b"abc");
}

#[test]
fn keep_alives_are_no_messages() {
    for bytes in ["", "\r\n", "\r\n\r\n", "\n"] {
        let error = Message::parse_datagram(Bytes::from(bytes)).unwrap_err();
        assert_eq!(error.fault(), Fault::Empty);
        assert!(error.refusable().is_none());
    }
}

#[test]
fn a_message_may_lack_only_its_empty_line() {
    let bytes = text("INVITE sip:a@b SIP/2.0", "");
    assert_eq!(parse(&bytes[..bytes.len() - 2]).call_id(), b"probe");
    assert_eq!(fault(&bytes[..bytes.len() - 4]), Fault::Truncated);
}

#[test]
fn unknown_headers_keep_order_case_and_value() {
    let request = invite("x-B: 1\r\nX-a:2  3\r\nx-b: \"q;,\"\r\nX-Empty:\r\n");
    let own: Vec<_> = request.raw_headers().filter(|(name, _)| name[0].eq_ignore_ascii_case(&b'x')).collect();
    let expected: [(&[u8], &[u8]); 4] =
        [(b"x-B", b"1"), (b"X-a", b"2  3"), (b"x-b", b"\"q;,\""), (b"X-Empty", b"")];
    assert_eq!(own, expected);
    assert_eq!(request.fields().headers_named("X-B").count(), 2);
}

#[test]
fn lists_part_at_commas_that_part_and_no_others() {
    let request = invite(
        "Contact: \"a,b\" <sip:c,d@e>;q=0.1, <sip:f@g>\r\nDiversion: <sip:x@y>;reason=\"a,b\" ,, <sip:z@y>\r\n\
         Allow: INVITE,ACK , BYE\r\nAllow: INFO\r\nDate: Sat, 13 Nov 2010 23:29:00 GMT\r\n",
    );
    let contacts: Vec<_> = request.headers(HeaderName::Contact).collect();
    assert_eq!(contacts, [&b"\"a,b\" <sip:c,d@e>;q=0.1"[..], b"<sip:f@g>"]);
    assert_eq!(NameAddr::parse(contacts[0]).unwrap().uri().user(), Some(&b"c,d"[..]));
    assert_eq!(request.headers(HeaderName::Diversion).count(), 2);
    assert_eq!(request.headers(HeaderName::Allow).count(), 4);
    assert_eq!(request.headers(HeaderName::Date).count(), 1);
}

#[test]
fn contradictory_content_lengths_are_refused() {
    let bytes = |lengths: &str| text("INVITE sip:a@b SIP/2.0", lengths);
    assert_eq!(fault(bytes("Content-Length: 0\r\nl: 5\r\n")), Fault::ContentLength);
    assert_eq!(fault(bytes("Content-Length: 1000000000000\r\n")), Fault::BodyTooShort);
    assert_eq!(fault(bytes("Content-Length: 1\r\n")), Fault::BodyTooShort);
    for odd in ["", "+1", "-1", "0x5", "5 5", "5,5", "18446744073709551616"] {
        assert_eq!(fault(bytes(&format!("Content-Length: {odd}\r\n"))), Fault::ContentLength, "{odd}");
    }
    assert_eq!(parse(bytes("Content-Length: 0\r\nl: 0\r\n")).body().len(), 0, "twice the same is one");
}

/// Parsers that take a lone CR for a line end would see a header that we did not.
#[test]
fn lone_carriage_returns_are_refused() {
    let lines = "X-A: a\rRoute: <sip:evil>\r\n";
    assert_eq!(fault(text("INVITE sip:a@b SIP/2.0", lines)), Fault::BareCarriageReturn);
}

#[test]
fn nothing_written_into_a_value_becomes_a_header() {
    let built = RequestBuilder::new(Method::Invite, "sip:a@b\r\nX: y")
        .header(HeaderName::Subject, "a\r\nRoute: <sip:evil>\n\rB: c")
        .header_fmt(HeaderName::Reason, format_args!("x{}y", "\r\n"))
        .finish();
    let lines: Vec<_> = str::from_utf8(&built).unwrap().split("\r\n").collect();
    let expected = [
        "INVITE sip:a@b  X: y SIP/2.0",
        "Subject: a  Route: <sip:evil>  B: c",
        "Reason: x  y",
        "Content-Length: 0",
        "",
        "",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn transport_names_keep_their_case() {
    let request = request("INVITE sip:a@b;transport=udp SIP/2.0", "");
    assert_eq!(request.uri().param("transport").unwrap().value, Some(&b"udp"[..]));
}

#[test]
fn parameters_that_stand_twice_are_refused() {
    let via = "Via: SIP/2.0/UDP h;branch=z9hG4bK1;branch=z9hG4bK2\r\n";
    assert_eq!(fault(text("INVITE sip:a@b SIP/2.0", via)), Fault::Malformed(HeaderName::Via));
    let from = "From: <sip:a@b>;tag=1;TAG=2\r\n";
    assert_eq!(fault(text("INVITE sip:a@b SIP/2.0", from)), Fault::Malformed(HeaderName::From));
    // RFC 3261 section 19.1.1 of URIs, where two values could send us two ways.
    for uri in ["sip:a@b;transport=tcp;Transport=udp", "sip:a@b;maddr=c;lr;maddr=d", "tel:+1;ext=1;ext=1"] {
        assert_eq!(fault(text(&format!("INVITE {uri} SIP/2.0"), "")), Fault::RequestUri, "{uri}");
        let contact = format!("Contact: <{uri}>\r\n");
        let found = fault(text("INVITE sip:a@b SIP/2.0", &contact));
        assert_eq!(found, Fault::Malformed(HeaderName::Contact), "{uri}");
    }
    let user = "sip:+1;npdi;npdi@b;transport=udp";
    assert!(
        invite(&format!("Contact: <{user}>\r\n")).contact().is_some(),
        "a user's own semicolons are its own"
    );
}

#[test]
fn headers_that_stand_once_are_refused_twice() {
    for header in
        ["From: <sip:a@b>;tag=1", "To: <sip:c@d>", "Call-ID: x", "CSeq: 1 INVITE", "Max-Forwards: 7"]
    {
        let lines = format!("{header}\r\n{header}\r\n");
        let fault = fault(text("INVITE sip:a@b SIP/2.0", &lines));
        assert!(matches!(fault, Fault::Repeated(_)), "{header}: {fault}");
    }
}

#[test]
fn limits_hold() {
    let line = |length: usize| format!("X-Long: {}\r\n", "y".repeat(length));
    assert!(invite(&line(8000)).header_named("X-Long").is_some());
    assert_eq!(fault(text("INVITE sip:a@b SIP/2.0", &line(9000))), Fault::HeaderTooLong);
    let folded = format!("X-Long: {}\r\n", "y\r\n ".repeat(4000));
    assert_eq!(fault(text("INVITE sip:a@b SIP/2.0", &folded)), Fault::HeaderTooLong);
    assert!(invite(&"X: y\r\n".repeat(250)).header_named("X").is_some());
    assert_eq!(fault(text("INVITE sip:a@b SIP/2.0", &"X: y\r\n".repeat(252))), Fault::TooManyHeaders);
    let uri = format!("INVITE sip:{}@b SIP/2.0", "a".repeat(9000));
    let error = Message::parse_datagram(Bytes::from(text(&uri, ""))).unwrap_err();
    assert_eq!((error.status(), error.refusable().is_some()), (414, true));
    let mut bytes = text("INVITE sip:a@b SIP/2.0", "");
    bytes.resize(65 * 1024, b'x');
    let error = Message::parse_datagram(Bytes::from(bytes)).unwrap_err();
    assert_eq!((error.status(), error.refusable().is_some()), (513, true));
}

/// A hundred thousand parameters cost no more than the bytes they came in.
#[test]
fn parameters_are_bounded() {
    let many = format!("From: <sip:a@b>;tag=1{}\r\n", ";p".repeat(3000));
    assert_eq!(fault(text("INVITE sip:a@b SIP/2.0", &many)), Fault::Malformed(HeaderName::From));
}

#[test]
fn stray_acks_and_responses_are_not_answered() {
    let ack = String::from_utf8(text("ACK sip:a@b SIP/2.0", "From: broken <\r\n")).unwrap();
    for bytes in [ack, "SIP/2.0 200 OK\r\nVia: broken\r\n\r\n".to_owned(), "rubbish\r\n\r\n".to_owned()] {
        let error = Message::parse_datagram(Bytes::from(bytes)).unwrap_err();
        assert!(error.refusable().is_none());
    }
}

#[test]
fn a_response_goes_where_rport_and_received_say() {
    let source = "198.51.100.7:40000".parse().unwrap();
    let target = |via: &str, routing| {
        let mut request = invite(&format!("Via: SIP/2.0/UDP {via}\r\n"));
        request.set_source(source, routing);
        request.response_address().unwrap().to_string()
    };
    assert_eq!(target("10.0.0.1:5070;rport;branch=z9hG4bK1", ResponseRouting::AsAsked), "198.51.100.7:40000");
    assert_eq!(target("10.0.0.1:5070;branch=z9hG4bK1", ResponseRouting::AsAsked), "198.51.100.7:5070");
    assert_eq!(target("10.0.0.1;branch=z9hG4bK1", ResponseRouting::AsAsked), "198.51.100.7:5060");
    assert_eq!(target("10.0.0.1;branch=z9hG4bK1", ResponseRouting::Symmetric), "198.51.100.7:40000");
    let aimed = "10.0.0.1;maddr=203.0.113.9;received=203.0.113.9;branch=z9hG4bK1";
    assert_eq!(target(aimed, ResponseRouting::AsAsked), "198.51.100.7:5060", "nobody aims our answers");
}

#[test]
fn responses_carry_what_makes_a_dialog_and_no_more() {
    let request =
        invite("Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>, <sip:p3;lr>\r\nTimestamp: 54\r\n");
    let text = |status| {
        let bytes = ResponseBuilder::new(&request, status, Some(b"ours")).finish();
        String::from_utf8(bytes.to_vec()).unwrap()
    };
    assert!(text(180).contains("Record-Route: <sip:p1;lr>\r\nRecord-Route: <sip:p2;lr>, <sip:p3;lr>\r\n"));
    assert!(text(180).contains("To: <sip:c@d>;tag=ours\r\n") && !text(180).contains("Timestamp"));
    assert!(text(100).contains("Timestamp: 54\r\n") && !text(100).contains("Record-Route"));
    assert!(!text(404).contains("Record-Route"));
}
