//! What the endpoint answers to each message of RFC 4475, as a user agent that takes every call and is no
//! registrar.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]
#![allow(clippy::disallowed_methods, reason = "an Instant can be had only from the clock")]

use std::time::Instant;

use bytes::Bytes;
use tandem_sip::{Endpoint, EndpointConfig, Event, Flow, HeaderName, Method, SessionPolicy, Transport};

/// File, the status answered and a header that must be with it. 100 stands for an INVITE that is taken;
/// `None` for what is not answered.
type Expected = (&'static str, Option<(u16, Option<HeaderName>)>);

const EXPECTED: &[Expected] = &[
    // It has a To tag, so it is of a dialog that does not exist (RFC 3261 section 12.2.2).
    ("wsinv", Some((481, None))),
    // "Endpoints will generate a 501 listing the methods they understand in an Allow header field."
    ("intmeth", Some((501, Some(HeaderName::Allow)))),
    ("esc01", Some((100, None))),
    ("escnull", Some((405, Some(HeaderName::Allow)))),
    ("esc02", Some((501, Some(HeaderName::Allow)))),
    ("lwsdisp", Some((200, Some(HeaderName::Accept)))),
    ("longreq", Some((100, None))),
    ("dblreq", Some((405, Some(HeaderName::Allow)))),
    ("semiuri", Some((200, None))),
    ("transports", Some((200, None))),
    ("mpart01", Some((405, Some(HeaderName::Allow)))),
    ("unreason", None),
    ("noreason", None),
    ("badinv01", Some((400, None))),
    ("clerr", Some((400, None))),
    ("ncl", Some((400, None))),
    ("scalar02", Some((400, None))),
    ("scalarlg", None),
    ("quotbal", Some((400, None))),
    ("ltgtruri", Some((400, None))),
    ("lwsruri", Some((400, None))),
    ("lwsstart", Some((400, None))),
    ("trws", Some((400, None))),
    ("escruri", Some((400, None))),
    ("baddate", Some((100, None))),
    ("regbadct", Some((400, None))),
    ("badaspec", Some((400, None))),
    ("baddn", Some((400, None))),
    ("badvers", Some((505, None))),
    ("mismatch01", Some((400, None))),
    ("mismatch02", Some((501, None))),
    ("bigcode", None),
    ("badbranch", Some((200, None))),
    ("insuf", Some((400, None))),
    ("unkscm", Some((416, None))),
    ("novelsc", Some((416, None))),
    // A registrar would answer 400; "endpoints choosing not to act as registrars will simply reject the
    // request. A 405 Method Not Allowed is appropriate" (section 3.3.7).
    ("unksm2", Some((405, None))),
    ("bext01", Some((420, Some(HeaderName::Unsupported)))),
    ("invut", Some((415, Some(HeaderName::Accept)))),
    ("regaut01", Some((405, Some(HeaderName::Allow)))),
    ("multi01", Some((400, None))),
    ("mcl01", Some((400, None))),
    ("bcast", None),
    // "An endpoint should process the request as if the Max-Forwards field value were still positive."
    ("zeromf", Some((200, None))),
    ("cparam01", Some((405, None))),
    ("cparam02", Some((405, None))),
    ("regescrt", Some((405, None))),
    ("sdp01", Some((406, Some(HeaderName::Warning)))),
    ("inv2543", Some((100, None))),
    ("test", None),
];

#[test]
fn each_message_gets_the_answer_the_rfc_asks_for() {
    let mut wrong = Vec::new();
    for (name, expected) in EXPECTED {
        let answer = answer(name);
        let is_expected = match (&answer, expected) {
            (None, None) => true,
            (Some(answer), Some((status, header))) => {
                answer.starts_with(&format!("SIP/2.0 {status} "))
                    && header.is_none_or(|header| answer.contains(&format!("\r\n{header}: ")))
            }
            (Some(_), None) | (None, Some(_)) => false,
        };
        if !is_expected {
            wrong.push((name, expected, answer));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// "listing these features from either the Require or Proxy-Require header field, depending on the role":
/// a user agent's is Require (RFC 4475 section 3.3.5).
#[test]
fn unsupported_lists_what_was_required_of_a_user_agent() {
    let answer = answer("bext01").unwrap();
    assert!(
        answer.contains("\r\nUnsupported: nothingSupportsThis, nothingSupportsThisEither\r\n"),
        "{answer}"
    );
}

/// The first response that goes out, if one does.
fn answer(name: &str) -> Option<String> {
    let path = format!("{}/../../tests/torture/rfc4475/{name}.dat", env!("CARGO_MANIFEST_DIR"));
    let flow = Flow {
        transport: Transport::Udp,
        local: "203.0.113.1:5060".parse().unwrap(),
        remote: "192.0.2.1:5060".parse().unwrap(),
        connection: 0,
    };
    let now = Instant::now();
    let mut endpoint = Endpoint::new(EndpointConfig::default(), 1);
    endpoint.handle_datagram(now, flow, Bytes::from(std::fs::read(path).unwrap()));
    while let Some(event) = endpoint.poll_event() {
        match event {
            Event::Malformed(malformed) => endpoint.refuse_malformed(*malformed),
            Event::Incoming(incoming) => match (incoming.objection().cloned(), incoming.request().method()) {
                (Some(objection), _) => endpoint.refuse(*incoming, &objection),
                (None, Method::Invite) => {
                    endpoint.accept(now, *incoming, SessionPolicy::default()).unwrap();
                }
                (None, _) => endpoint.answer_options(*incoming),
            },
            _ => {}
        }
    }
    let payload = endpoint.poll_transmit()?.payload;
    // A refusal repeats the Via it came with, however broken: as text, then.
    Some(String::from_utf8_lossy(&payload).into_owned())
}
