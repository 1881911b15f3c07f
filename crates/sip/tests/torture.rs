//! RFC 4475 and RFC 5118, message by message: what is valid is understood, what is not is refused with
//! the status the RFC asks for.
//!
//! The files are the RFCs' own, as datagrams. Each case names its section and what must be true of it; where
//! the RFC leaves a choice, the case says which was made. What an endpoint answers to well-formed requests
//! it cannot serve (405, 415, 416, 420 …) is in `torture_endpoint.rs`.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::PathBuf;

use bytes::Bytes;
use tandem_sip::message::ResponseRouting;
use tandem_sip::wire::{StreamFramer, StreamItem};
use tandem_sip::{
    Fault, HeaderName, Message, Method, NameAddr, Request, Response, ResponseBuilder, Scheme, Via,
};

enum Expected {
    /// Understood; what must hold of it.
    Request(fn(&Request)),
    /// Understood; what must hold of it.
    Response(fn(&Response)),
    /// Refused with this status.
    Refused(u16, Fault),
    /// Not answered: a response, or nothing to send an answer along.
    Dropped(Fault),
}

use Expected::{Dropped, Refused, Request as Understood, Response as UnderstoodResponse};

/// File, section, expected outcome.
const RFC_4475: &[(&str, &str, Expected)] = &[
    ("wsinv", "3.1.1.1", Understood(wsinv)),
    ("intmeth", "3.1.1.2", Understood(intmeth)),
    ("esc01", "3.1.1.3", Understood(esc01)),
    ("escnull", "3.1.1.4", Understood(escnull)),
    ("esc02", "3.1.1.5", Understood(esc02)),
    ("lwsdisp", "3.1.1.6", Understood(lwsdisp)),
    ("longreq", "3.1.1.7", Understood(longreq)),
    ("dblreq", "3.1.1.8", Understood(dblreq)),
    ("semiuri", "3.1.1.9", Understood(semiuri)),
    ("transports", "3.1.1.10", Understood(transports)),
    ("mpart01", "3.1.1.11", Understood(mpart01)),
    ("unreason", "3.1.1.12", UnderstoodResponse(unreason)),
    ("noreason", "3.1.1.13", UnderstoodResponse(noreason)),
    ("badinv01", "3.1.2.1", Refused(400, Fault::Malformed(HeaderName::Via))),
    ("clerr", "3.1.2.2", Refused(400, Fault::BodyTooShort)),
    ("ncl", "3.1.2.3", Refused(400, Fault::ContentLength)),
    ("scalar02", "3.1.2.4", Refused(400, Fault::Malformed(HeaderName::CSeq))),
    ("scalarlg", "3.1.2.5", Dropped(Fault::Malformed(HeaderName::CSeq))),
    ("quotbal", "3.1.2.6", Refused(400, Fault::Malformed(HeaderName::To))),
    ("ltgtruri", "3.1.2.7", Refused(400, Fault::RequestUri)),
    ("lwsruri", "3.1.2.8", Refused(400, Fault::RequestUri)),
    ("lwsstart", "3.1.2.9", Refused(400, Fault::StartLine)),
    ("trws", "3.1.2.10", Refused(400, Fault::StartLine)),
    ("escruri", "3.1.2.11", Refused(400, Fault::RequestUri)),
    // "an element shouldn't do that unless the contents of the Date header field were actually important
    // to its processing": they are not.
    ("baddate", "3.1.2.12", Understood(baddate)),
    ("regbadct", "3.1.2.13", Refused(400, Fault::Malformed(HeaderName::Contact))),
    ("badaspec", "3.1.2.14", Refused(400, Fault::Malformed(HeaderName::To))),
    ("baddn", "3.1.2.15", Refused(400, Fault::Malformed(HeaderName::From))),
    ("badvers", "3.1.2.16", Refused(505, Fault::Version)),
    ("mismatch01", "3.1.2.17", Refused(400, Fault::MethodMismatch)),
    ("mismatch02", "3.1.2.18", Refused(501, Fault::UnknownMethod)),
    ("bigcode", "3.1.2.19", Dropped(Fault::StatusCode)),
    // "it could fall back to the RFC 2543-style transaction identifier": it does.
    ("badbranch", "3.2.1", Understood(badbranch)),
    ("insuf", "3.3.1", Refused(400, Fault::Missing(HeaderName::From))),
    ("unkscm", "3.3.2", Understood(unkscm)),
    ("novelsc", "3.3.3", Understood(novelsc)),
    ("unksm2", "3.3.4", Understood(unksm2)),
    ("bext01", "3.3.5", Understood(bext01)),
    ("invut", "3.3.6", Understood(invut)),
    ("regaut01", "3.3.7", Understood(regaut01)),
    ("multi01", "3.3.8", Refused(400, Fault::Repeated(HeaderName::CSeq))),
    ("mcl01", "3.3.9", Refused(400, Fault::ContentLength)),
    ("bcast", "3.3.10", UnderstoodResponse(bcast)),
    ("zeromf", "3.3.11", Understood(zeromf)),
    ("cparam01", "3.3.12", Understood(cparam01)),
    ("cparam02", "3.3.13", Understood(cparam02)),
    ("regescrt", "3.3.14", Understood(regescrt)),
    ("sdp01", "3.3.15", Understood(sdp01)),
    ("inv2543", "3.4.1", Understood(inv2543)),
    // Not of the RFC: a request without version, without Via, with a line that is no header.
    ("test", "-", Dropped(Fault::StartLine)),
];

const RFC_5118: &[(&str, &str, Expected)] = &[
    ("ipv6-good", "4.1", Understood(ipv6_good)),
    ("ipv6-bad", "4.2", Refused(400, Fault::RequestUri)),
    ("port-ambiguous", "4.3", Understood(port_ambiguous)),
    ("port-unambiguous", "4.4", Understood(port_unambiguous)),
    ("via-received-param-with-delim", "4.5", Understood(via_received)),
    ("via-received-param-no-delim", "4.5", Understood(via_received)),
    ("ipv6-in-sdp", "4.6", Understood(ipv6_in_sdp)),
    ("mult-ip-in-header", "4.7", Understood(mult_ip_in_header)),
    ("mult-ip-in-sdp", "4.8", Understood(mult_ip_in_sdp)),
    ("ipv4-mapped-ipv6", "4.9", Understood(ipv4_mapped_ipv6)),
    ("ipv6-bug-abnf-3-colons", "4.10", Understood(embedded_ipv4)),
    ("ipv6-correct-abnf-2-colons", "4.10", Understood(embedded_ipv4)),
];

#[test]
fn rfc_4475_message_by_message() {
    check_all("rfc4475", ".dat", RFC_4475);
}

#[test]
fn rfc_5118_message_by_message() {
    check_all("rfc5118", "", RFC_5118);
}

fn check_all(folder: &str, suffix: &str, cases: &[(&str, &str, Expected)]) {
    let named: BTreeSet<_> = cases.iter().map(|(name, ..)| format!("{name}{suffix}")).collect();
    let messages: BTreeMap<_, _> = messages(folder).into_iter().collect();
    assert_eq!(named, messages.keys().cloned().collect(), "every file has its case");
    for (name, section, expected) in cases {
        println!("{name} (section {section})");
        check(name, Bytes::from(messages[&format!("{name}{suffix}")].clone()), expected);
    }
}

fn check(name: &str, datagram: Bytes, expected: &Expected) {
    match (Message::parse_datagram(datagram), expected) {
        (Ok(Message::Request(request)), Understood(check)) => {
            check(&request);
            check_response(&request);
        }
        (Ok(Message::Response(response)), UnderstoodResponse(check)) => check(&response),
        (Err(error), Refused(status, fault)) => {
            assert_eq!((error.status(), error.fault()), (*status, *fault), "{name}");
            let refusable = error.into_refusable().unwrap_or_else(|| panic!("{name} can be answered"));
            check_refusal(name, &refusable);
        }
        (Err(error), Dropped(fault)) => {
            assert_eq!(error.fault(), *fault, "{name}");
            assert!(error.refusable().is_none(), "{name} is not answered");
        }
        (outcome, _) => panic!("{name}: {outcome:?}"),
    }
}

/// A response to a message that was understood is itself understood, and says the same.
fn check_response(request: &Request) {
    let bytes = ResponseBuilder::new(request, 200, Some(b"ours")).finish();
    let Ok(Message::Response(response)) = Message::parse_datagram(bytes) else { panic!("{request:?}") };
    let vias = |values: tandem_sip::message::Values<'_>| values.map(<[u8]>::to_vec).collect::<Vec<_>>();
    let (asked, answered) = (request.headers(HeaderName::Via), response.headers(HeaderName::Via));
    assert_eq!(asked.clone().count(), answered.clone().count());
    let unfold = |text: Vec<u8>| text.into_iter().map(|byte| if byte < b' ' { b' ' } else { byte }).collect();
    let unfolded: Vec<Vec<u8>> = vias(asked).into_iter().map(unfold).collect();
    assert_eq!(unfolded, vias(answered));
    assert_eq!(request.call_id(), response.call_id());
    assert_eq!(request.cseq(), response.cseq());
    assert_eq!(request.from().tag(), response.from().tag());
    assert_eq!(request.to().uri(), response.to().uri());
    assert_eq!(response.to().tag(), Some(request.to().tag().unwrap_or(b"ours")));
}

/// What is refused is answered with the Via, and no header of the refusal is one the peer smuggled in.
fn check_refusal(name: &str, refusable: &tandem_sip::Unreadable) {
    let mut refusable = refusable.clone();
    refusable.set_source("198.51.100.7:4444".parse().unwrap(), ResponseRouting::AsAsked);
    assert!(refusable.fields().response_address().is_some());
    let bytes = ResponseBuilder::new(&refusable, 400, Some(b"ours")).finish();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.starts_with("SIP/2.0 400 Bad Request\r\nVia: ") && text.ends_with("\r\n\r\n"), "{text}");
    let mut once = BTreeSet::new();
    for line in text.trim_end().lines().skip(1) {
        let header = line.split(':').next().unwrap();
        assert!(header == "Via" || once.insert(header), "{name}: {line} stands twice");
        let known = ["Via", "From", "To", "Call-ID", "CSeq", "Content-Length"];
        assert!(known.contains(&header), "{name}: {line}");
    }
    if refusable.fields().top_via().is_some() {
        assert!(text.contains(";received=198.51.100.7"), "{text}");
    }
}

/// RFC 3261 section 18.3: however the network splits a stream, the messages in it are the same.
#[test]
fn every_message_is_framed_the_same_at_every_split_point() {
    for (name, bytes) in [messages("rfc4475"), messages("rfc5118")].concat() {
        let whole = framed(&[&bytes]);
        for split in 0..=bytes.len() {
            assert_eq!(framed(&[&bytes[..split], &bytes[split..]]), whole, "{name} split at {split}");
        }
        let single: Vec<_> = bytes.chunks(1).collect();
        assert_eq!(framed(&single), whole, "{name} byte by byte");
    }
}

/// On a stream the valid messages arrive whole, and those whose length is in doubt cost the connection.
#[test]
fn on_a_stream_doubtful_lengths_cost_the_connection() {
    for (name, bytes) in messages("rfc4475") {
        let (items, fault) = framed(&[&bytes]);
        let expected = match name.as_str() {
            "ncl.dat" | "mcl01.dat" => Some(Fault::ContentLength),
            "inv2543.dat" => Some(Fault::Missing(HeaderName::ContentLength)),
            // What is noise behind a datagram is the next message of a stream, and this one lies about its
            // length (3.1.1.8).
            "test.dat" | "dblreq.dat" => Some(Fault::StartLine),
            _ => None,
        };
        assert_eq!(fault, expected, "{name}");
        // clerr: "there's not much the receiving party could do but wait for more data" (3.1.2.2). The
        // line endings RFC 4475's archive lost leave some bodies short in the same way.
        if let Some(StreamItem::Message(message)) = items.first() {
            assert!(bytes.starts_with(message), "{name}");
        }
    }
}

/// Header lines survive a copy byte for byte, known and unknown, whatever case and spacing they came in.
#[test]
fn every_header_value_is_carried_through_unchanged() {
    for (name, bytes) in messages("rfc4475") {
        let Ok(message) = Message::parse_datagram(Bytes::from(bytes)) else { continue };
        let fields = message.fields();
        let mut builder = tandem_sip::RequestBuilder::new(Method::Options, "sip:a@b");
        for (header, value) in fields.raw_headers() {
            if HeaderName::from_bytes(header) != HeaderName::ContentLength {
                builder = builder.header_named(header, value);
            }
        }
        let copied = builder.finish_with_body("x/y", fields.body());
        let text = String::from_utf8_lossy(&copied).into_owned();
        let Some(at) = copied.windows(4).position(|window| window == b"\r\n\r\n") else { panic!("{text}") };
        assert_eq!(&copied[at + 4..], fields.body_bytes(), "{name}");
        for (header, value) in fields.raw_headers() {
            if HeaderName::from_bytes(header) == HeaderName::ContentLength {
                continue;
            }
            // A fold is written as the white space it is; nothing else may differ.
            let value = value.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte });
            let line: Vec<u8> = header.iter().copied().chain(*b": ").chain(value).chain(*b"\r\n").collect();
            assert!(copied.windows(line.len()).any(|window| window == line), "{name}: {header:?}");
        }
    }
}

fn directory(folder: &str) -> PathBuf {
    [env!("CARGO_MANIFEST_DIR"), "../../tests/torture", folder].iter().collect()
}

fn messages(folder: &str) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(directory(folder)).unwrap();
    let paths: BTreeSet<_> = entries.map(|entry| entry.unwrap().path()).collect();
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        (name, if bytes.contains(&b'\r') { bytes } else { as_sent(&bytes) })
    };
    paths.into_iter().map(read).collect()
}

/// RFC 5118's files have no CRs, and the lengths printed there count bodies that were not printed.
fn as_sent(printed: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(printed).unwrap().replace('\n', "\r\n");
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return text.into_bytes() };
    let (before, _) = head.split_once("Content-Length:").unwrap();
    format!("{before}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn framed(pieces: &[&[u8]]) -> (Vec<StreamItem>, Option<Fault>) {
    let mut framer = StreamFramer::new();
    let mut items = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => return (items, Some(error.fault())),
            }
        }
    }
    (items, None)
}

fn ip(text: &str) -> Option<IpAddr> {
    Some(text.parse().unwrap())
}

fn contacts(request: &Request) -> Vec<NameAddr<'_>> {
    request.headers(HeaderName::Contact).map(|value| NameAddr::parse(value).unwrap()).collect()
}

fn wsinv(request: &Request) {
    assert_eq!(request.method(), Method::Invite);
    assert_eq!(request.uri().as_bytes(), b"sip:vivekg@chair-dnrc.example.com;unknownparam");
    assert_eq!(request.uri().param("unknownparam").unwrap().value, None);
    assert_eq!(request.to().uri().as_bytes(), b"sip:vivekg@chair-dnrc.example.com");
    assert_eq!(request.to().tag(), Some(&b"1918181833n"[..]));
    assert_eq!(request.from().display_name().unwrap(), "J Rosenberg \\\"");
    assert_eq!(request.from().tag(), Some(&b"98asjd8"[..]));
    assert_eq!(request.max_forwards(), Some(68));
    assert_eq!((request.cseq().number, request.cseq().method), (9, Method::Invite));
    assert_eq!(request.header(HeaderName::Subject), Some(&b""[..]));
    assert_eq!(
        request.header_named("newfangledheader"),
        Some(&b"newfangled value\r\n continued newfangled value"[..])
    );
    assert_eq!(request.header_named("UnknownHeaderWithUnusualValue"), Some(&b";;,,;;,;"[..]));
    let vias: Vec<_> = request.headers(HeaderName::Via).map(|value| Via::parse(value).unwrap()).collect();
    assert_eq!(vias.len(), 3);
    assert_eq!(vias[0].branch(), Some(&b"390skdjuw"[..]));
    assert_eq!((vias[1].transport(), vias[1].host()), (&b"TCP"[..], &b"spindle.example.com"[..]));
    assert_eq!(vias[1].branch(), Some(&b"z9hG4bK9ikj8"[..]));
    assert_eq!((vias[2].ip(), vias[2].branch()), (ip("192.168.255.111"), Some(&b"z9hG4bK30239"[..])));
    let route = NameAddr::parse(request.header(HeaderName::Route).unwrap()).unwrap();
    assert!(route.uri().param("lr").is_some());
    assert_eq!(route.uri().param("unknownwith").unwrap().value, Some(&b"value"[..]));
    let contact = request.contact().unwrap();
    assert_eq!(contact.display_name().unwrap(), "Quoted string \"\"");
    assert_eq!(contact.param("newparam").unwrap().value, Some(&b"newvalue"[..]));
    assert_eq!(contact.param("q").unwrap().value, Some(&b"0.33"[..]));
    assert_eq!(request.body().len(), 150);
}

fn intmeth(request: &Request) {
    let method = b"!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(request.method(), Method::Other(method));
    assert_eq!(request.cseq().method, Method::Other(method));
    assert_eq!(request.uri().user(), Some(&b"1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"[..]));
    assert_eq!(request.uri().password(), Some(&b"&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"[..]));
    assert_eq!(request.uri().host(), b"example.com");
    assert_eq!(request.via().branch(), Some(&b"z9hG4bK-.!%66*_+`'~"[..]));
    assert_eq!(request.to().display_name().unwrap(), "BEL:\u{7} NUL:\0 DEL:\u{7f}");
    assert_eq!(request.from().display_name().unwrap(), "token1~` token2'+_ token3*%!.-");
    assert_eq!(request.from().tag(), Some(&b"_token~1'+`*%!-."[..]));
    let param = request.from().param("fromParam''~+*_!.-%").unwrap();
    assert_eq!(&*param.unquoted(), "работающий".as_bytes());
    assert_eq!(request.call_id(), &br#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#[..]);
    assert_eq!(request.max_forwards(), Some(255));
    assert_eq!(request.header_named("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電".as_bytes()));
}

fn esc01(request: &Request) {
    assert_eq!(request.uri().as_bytes(), b"sip:sips%3Auser%40example.com@example.net");
    assert_eq!(request.uri().user_decoded().as_deref(), Some(&b"sips:user@example.com"[..]));
    assert_eq!(request.to().uri().user_decoded().as_deref(), Some(&b"user"[..]));
    assert_eq!(request.from().uri().user_decoded().as_deref(), Some(&b"I have spaces"[..]));
    assert_eq!(request.call_id(), b"esc01.239409asdfakjkn23onasd0-3234");
    let contact = request.contact().unwrap().uri();
    assert_eq!(contact.as_bytes(), b"sip:cal%6Cer@host5.example.net;%6C%72;n%61me=v%61lue%25%34%31");
    let params: Vec<_> = contact.params().collect();
    assert_eq!(params[1].value, Some(&b"v%61lue%25%34%31"[..]));
    assert_eq!(request.content_type(), Some(&b"application/sdp"[..]));
}

fn escnull(request: &Request) {
    assert_eq!(request.to().uri().user_decoded().as_deref(), Some(&b"null-\0-null"[..]));
    let contacts = contacts(request);
    assert_eq!(contacts[0].uri().user_decoded().as_deref(), Some(&b"\0"[..]));
    assert_eq!(contacts[1].uri().user_decoded().as_deref(), Some(&b"\0\0"[..]));
    assert!(!contacts[0].uri().is_equivalent(&contacts[1].uri()), "two distinct contacts");
}

fn esc02(request: &Request) {
    assert_eq!(request.method(), Method::Other(b"RE%47IST%45R"));
    assert_eq!(request.to().display_name().unwrap(), "%Z%45");
    assert_eq!(request.via().branch(), Some(&b"z9hG4bK209%fzsnel234"[..]));
    let users: Vec<_> = contacts(request).iter().map(|contact| contact.uri().user().unwrap()).collect();
    assert_eq!(users, [b"alias1", b"alias3"], "two contacts, not three");
    assert_eq!(request.header_named("C%6Fntact"), Some(&b"<sip:alias2@host2.example.com>"[..]));
}

fn lwsdisp(request: &Request) {
    assert_eq!(request.from().display_name().unwrap(), "caller");
    assert_eq!(request.from().uri().as_bytes(), b"sip:caller@example.com");
    assert_eq!(request.from().tag(), Some(&b"323"[..]));
}

fn longreq(request: &Request) {
    assert_eq!(request.headers(HeaderName::Via).count(), 34);
    let last = Via::parse(request.headers(HeaderName::Via).last().unwrap()).unwrap();
    assert_eq!(last.received(), ip("192.0.2.5"));
    assert_eq!(last.branch().unwrap().len(), "very".len() + 50 * "long".len() + "branchvalue".len());
    assert_eq!(request.from().tag().unwrap(), ["12", &"982".repeat(50), "424"].concat().as_bytes());
    assert_eq!(request.to().uri().port(), Some(6000));
    assert_eq!(request.to().uri().params().count(), 3);
    let name = format!("Unknown-{}-Name", "Long".repeat(20));
    assert!(request.header_named(&name).unwrap().starts_with(b"unknown-longlong"));
    assert_eq!(
        request.contact().unwrap().uri().user().unwrap(),
        "amazinglylongcallername".repeat(5).as_bytes()
    );
}

fn dblreq(request: &Request) {
    assert_eq!(request.method(), Method::Register);
    assert_eq!(request.call_id(), b"dblreq.0ha0isndaksdj99sdfafnl3lk233412");
    assert_eq!(request.headers(HeaderName::Via).count(), 1);
    assert_eq!(request.body().len(), 0, "the INVITE behind it is noise");
}

fn semiuri(request: &Request) {
    assert_eq!(request.uri().user_decoded().as_deref(), Some(&b"user;par=u@example.net"[..]));
    assert_eq!(request.uri().host(), b"example.com");
    assert_eq!(request.headers(HeaderName::Accept).count(), 6);
    assert!(request.lists(HeaderName::Accept, "multipart/signed"));
}

fn transports(request: &Request) {
    let vias = request.headers(HeaderName::Via).map(|value| Via::parse(value).unwrap());
    let transports: Vec<_> = vias.map(|via| via.transport()).collect();
    assert_eq!(transports, [&b"UDP"[..], b"SCTP", b"TLS", b"UNKNOWN", b"TCP"]);
}

fn mpart01(request: &Request) {
    assert_eq!(request.method(), Method::Message);
    assert!(request.via().asks_rport() && request.via().rport().is_none());
    assert_eq!(request.body().len(), 553);
    assert!(request.fields().body_bytes().ends_with(b"--7a9cbec02ceef655--\r\n"));
    assert_eq!(request.content_type(), Some(&b"multipart/mixed"[..]));
}

fn unreason(response: &Response) {
    assert_eq!(response.status(), 200);
    assert_eq!(response.reason(), "= 2**3 * 5**2 но сто девяносто девять - простое".as_bytes());
    assert_eq!(response.cseq().method, Method::Invite);
}

fn noreason(response: &Response) {
    assert_eq!((response.status(), response.reason()), (100, &b""[..]));
}

fn baddate(request: &Request) {
    assert_eq!(request.header(HeaderName::Date), Some(&b"Fri, 01 Jan 2010 16:00:00 EST"[..]));
}

fn badbranch(request: &Request) {
    assert_eq!(request.via().branch(), Some(&b"z9hG4bK"[..]));
    assert!(!request.via().has_unique_branch());
}

fn unkscm(request: &Request) {
    assert_eq!(request.uri().scheme(), Scheme::Other(b"nobodyKnowsThisScheme"));
    assert_eq!(request.uri().as_bytes(), b"nobodyKnowsThisScheme:totallyopaquecontent");
}

fn novelsc(request: &Request) {
    assert_eq!(request.uri().scheme(), Scheme::Other(b"soap.beep"));
}

fn unksm2(request: &Request) {
    assert_eq!(request.to().uri().scheme(), Scheme::Other(b"isbn"));
    assert_eq!(request.from().uri().scheme(), Scheme::Other(b"http"));
    assert_eq!(request.contact().unwrap().uri().as_bytes(), b"name:John_Smith");
}

fn bext01(request: &Request) {
    let required: Vec<_> = request.headers(HeaderName::Require).collect();
    assert_eq!(required, [&b"nothingSupportsThis"[..], b"nothingSupportsThisEither"]);
    assert_eq!(request.headers(HeaderName::ProxyRequire).count(), 2);
}

fn invut(request: &Request) {
    assert_eq!(request.content_type(), Some(&b"application/unknownformat"[..]));
}

fn regaut01(request: &Request) {
    let value = request.header(HeaderName::Authorization).unwrap();
    assert_eq!(value, b"NoOneKnowsThisScheme opaque-data=here");
    assert_eq!(tandem_sip::auth::Credentials::parse(value), None, "as if there were none");
}

/// RFC 3261 section 8.1.3.3: a UAC discards a response with more than one Via.
fn bcast(response: &Response) {
    assert_eq!(response.headers(HeaderName::Via).count(), 2);
}

fn zeromf(request: &Request) {
    assert_eq!(request.max_forwards(), Some(0));
}

fn cparam01(request: &Request) {
    let contact = request.contact().unwrap();
    assert!(contact.param("unknownparam").is_some());
    assert!(contact.uri().param("unknownparam").is_none());
    assert_eq!(contact.uri().number().as_deref(), Some(&b"+19725552222"[..]));
}

fn cparam02(request: &Request) {
    let contact = request.contact().unwrap();
    assert!(contact.param("unknownparam").is_none());
    assert!(contact.uri().param("unknownparam").is_some());
}

fn regescrt(request: &Request) {
    let uri = request.contact().unwrap().uri();
    assert_eq!(uri.headers(), Some(&b"Route=%3Csip:sip.example.com%3E"[..]));
}

fn sdp01(request: &Request) {
    let accepted: Vec<_> = request.headers(HeaderName::Accept).collect();
    assert_eq!(accepted, [b"text/nobodyKnowsThis"]);
}

fn inv2543(request: &Request) {
    assert_eq!(request.via().branch(), None);
    assert_eq!(request.from().tag(), None);
    assert_eq!(request.max_forwards(), None);
    assert!(
        request.fields().body_bytes().starts_with(b"v=0\r\n"),
        "the body runs to the end of the datagram"
    );
    assert_eq!(request.to().param("user").unwrap().value, Some(&b"phone"[..]));
}

fn ipv6_good(request: &Request) {
    assert_eq!(request.uri().ip(), ip("2001:db8::10"));
    assert_eq!(request.via().ip(), ip("2001:db8::9:1"));
    assert_eq!(request.contact().unwrap().uri().ip(), ip("2001:db8::1"));
}

fn port_ambiguous(request: &Request) {
    assert_eq!((request.uri().ip(), request.uri().port()), (ip("2001:db8::10:5070"), None));
}

fn port_unambiguous(request: &Request) {
    assert_eq!((request.uri().ip(), request.uri().port()), (ip("2001:db8::10"), Some(5070)));
}

fn via_received(request: &Request) {
    assert_eq!(request.via().received(), ip("2001:db8::9:255"));
}

fn ipv6_in_sdp(request: &Request) {
    assert_eq!(request.uri().ip(), ip("2001:db8::10"));
    assert!(request.fields().body_bytes().ends_with(b"H263-1998/90000\r\n"));
}

fn mult_ip_in_header(request: &Request) {
    let vias: Vec<_> = request.headers(HeaderName::Via).map(|value| Via::parse(value).unwrap()).collect();
    let hosts: Vec<_> = vias.iter().map(|via| (via.ip(), via.port())).collect();
    let expected =
        [(ip("2001:db8::9:1"), Some(6050)), (ip("192.0.2.1"), None), (ip("2001:db8::9:255"), None)];
    assert_eq!(hosts, expected);
    assert_eq!(vias[2].received(), ip("192.0.2.200"));
}

fn mult_ip_in_sdp(request: &Request) {
    assert!(request.fields().body_bytes().starts_with(b"v=0\r\no=bob"));
}

fn ipv4_mapped_ipv6(request: &Request) {
    assert_eq!((request.via().ip(), request.via().port()), (ip("::ffff:192.0.2.10"), Some(19823)));
    assert_eq!(request.contact().unwrap().uri().ip(), ip("::ffff:192.0.2.2"));
}

fn embedded_ipv4(request: &Request) {
    assert_eq!(request.uri().ip(), ip("2001:db8::192.0.2.1"));
    assert_eq!(request.to().uri().ip(), ip("2001:db8::192.0.2.1"));
}
