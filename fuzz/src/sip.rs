//! What must hold of any bytes taken for SIP: no panic, and what is understood once is understood the same
//! after it was answered, copied, or cut out of a stream.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::auth::{
    Answerer, Authenticator, AuthenticatorConfig, Credentials, Side, Staleness, challenges,
};
use tandem_sip::message::{Fields, MAX_MESSAGE, ResponseRouting};
use tandem_sip::wire::{StreamFramer, StreamItem};
use tandem_sip::{
    Fault, HeaderName, Message, Method, NameAddr, Request, RequestBuilder, Response, ResponseBuilder, Uri,
    Via,
};

/// One datagram.
pub fn sip_datagram(data: &[u8]) {
    match Message::parse_datagram(Bytes::copy_from_slice(data)) {
        Ok(Message::Request(mut request)) => {
            look_at(request.fields());
            let _ = (request.method(), request.uri().number(), request.uri().is_equivalent(&request.uri()));
            check_answer(&request, data.len());
            check_copy(&request, data.len());
            request.set_source("192.0.2.1:5060".parse().expect("an address"), ResponseRouting::Symmetric);
            assert_eq!(request.response_address().expect("a source was set").port(), 5060);
            check_answer(&request, data.len());
        }
        Ok(Message::Response(response)) => {
            look_at(response.fields());
            assert!((100..700).contains(&response.status()));
            let _ = (response.reason(), response.via(), response.from(), response.to(), response.cseq());
            let _ = Answerer::new("user", "password").take_challenge(&response);
        }
        Err(error) => {
            assert!((400..600).contains(&error.status()));
            if let Some(mut refused) = error.into_refusable() {
                look_at(refused.fields());
                refused.set_source("[2001:db8::1]:9".parse().expect("an address"), ResponseRouting::AsAsked);
                let bytes = ResponseBuilder::new(&refused, 400, Some(b"tag")).finish();
                check_lines(&bytes);
            }
        }
    }
}

/// Views every value in every way.
fn look_at(fields: &Fields) {
    for (name, value) in fields.typed_headers() {
        let _ = (NameAddr::parse(value).map(|address| address.display_name().is_some()), Uri::parse(value));
        let _ = (Via::parse(value).map(|via| (via.branch(), via.received())), Credentials::parse(value));
        assert!(challenges(value).count() <= value.len());
        if name != HeaderName::Other {
            assert!(fields.header(name).is_some());
            assert!(fields.headers(name).all(|one| one.len() <= value.len().max(MAX_MESSAGE)));
            let _ = (fields.seconds(name), fields.header_text(name));
        }
    }
    let _ =
        (fields.contact(), fields.max_forwards(), fields.expires(), fields.content_type(), fields.top_via());
    assert!(fields.body().len() <= fields.as_bytes().len());
    let _ = format!("{fields:?}");
}

/// Our answer is well-formed, says what was asked, and is hardly longer than what it answers.
fn check_answer(request: &Request, received: usize) {
    let bytes = ResponseBuilder::new(request, 486, Some(b"tag")).finish();
    check_lines(&bytes);
    assert!(bytes.len() <= received + 512, "{} bytes answered by {}", received, bytes.len());
    // Past these sizes the few bytes added may cross a limit of the parser.
    if received > 4096 || request.to().params().count() > 32 || request.via().params().count() > 32 {
        return;
    }
    let Ok(Message::Response(response)) = Message::parse_datagram(bytes.clone()) else {
        panic!("{}", bytes.escape_ascii());
    };
    assert_same(request, &response);
}

fn assert_same(request: &Request, response: &Response) {
    assert_eq!(request.call_id(), response.call_id());
    assert_eq!(request.cseq(), response.cseq());
    assert_eq!(request.from().tag(), response.from().tag());
    assert_eq!(response.to().tag(), Some(request.to().tag().unwrap_or(b"tag")));
    assert_eq!(request.via().branch(), response.via().branch());
    let count = |values: tandem_sip::message::Values<'_>| values.count();
    assert_eq!(count(request.headers(HeaderName::Via)), count(response.headers(HeaderName::Via)));
}

/// No line of ours but the expected ones: nothing in a value became a line.
fn check_lines(bytes: &[u8]) {
    let head = bytes.strip_suffix(b"\r\n\r\n").expect("an answer without body ends with its empty line");
    for (index, line) in head.split(|&byte| byte == b'\n').enumerate() {
        let known: [&[u8]; 7] =
            [b"SIP/2.0 ", b"Via: ", b"From: ", b"To: ", b"Call-ID: ", b"CSeq: ", b"Content-Length: "];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        assert!(!line.contains(&b'\r'));
        assert!(known.iter().any(|start| line.starts_with(start)), "line {index}: {}", line.escape_ascii());
    }
}

/// Every header, copied, is read again as it was.
fn check_copy(request: &Request, received: usize) {
    if received > 4096 {
        return;
    }
    let mut builder = RequestBuilder::new(request.method(), request.uri().as_bytes());
    let is_kept = |name: &[u8]| HeaderName::from_bytes(name) != HeaderName::ContentLength;
    for (name, value) in request.raw_headers().filter(|(name, _)| is_kept(name)) {
        builder = builder.header_named(name, value);
    }
    let copy = match request.fields().header(HeaderName::ContentType) {
        None if !request.body().is_empty() => builder.finish_with_body("a/b", request.body()),
        Some(_) if !request.body().is_empty() => return,
        _ => builder.finish(),
    };
    let Ok(Message::Request(copied)) = Message::parse_datagram(copy.clone()) else {
        panic!("{}", copy.escape_ascii());
    };
    assert_eq!(copied.body(), request.body());
    let unfolded = |value: &[u8]| -> Vec<u8> {
        value.iter().map(|&byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }).collect()
    };
    let original = request.raw_headers().filter(|(name, _)| is_kept(name));
    for ((name, value), (copied_name, copied_value)) in original.zip(copied.raw_headers()) {
        assert_eq!((name, unfolded(value)), (copied_name, copied_value.to_vec()));
    }
}

/// One stream, at every split point if it is short, at some if it is long.
pub fn sip_stream(data: &[u8]) {
    let whole = frame(&[data]);
    for item in &whole.0 {
        if let StreamItem::Message(message) = item {
            assert!(message.len() <= MAX_MESSAGE);
            if let Ok(parsed) = Message::parse_datagram(message.clone()) {
                // Both readings of the length agree, or messages could be smuggled.
                let body = parsed.fields().body();
                assert!(message.ends_with(&body));
            }
        }
    }
    let step = if data.len() <= 512 { 1 } else { data.len() / 64 };
    for split in (0..=data.len()).step_by(step) {
        assert_eq!(frame(&[&data[..split], &data[split..]]), whole, "split at {split}");
    }
    if data.len() <= 2048 {
        let single: Vec<_> = data.chunks(1).collect();
        assert_eq!(frame(&single), whole, "byte by byte");
    }
}

fn frame(pieces: &[&[u8]]) -> (Vec<StreamItem>, Option<Fault>) {
    let mut framer = StreamFramer::new();
    let mut items = Vec::new();
    for piece in pieces {
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(item)) => items.push(item),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.held(), 0);
                    return (items, Some(error.fault()));
                }
            }
        }
        assert!(framer.held() <= MAX_MESSAGE);
    }
    (items, None)
}

/// One value of an authentication header: as credentials for a server, as challenge for a client.
pub fn digest(data: &[u8]) {
    if data.len() > 4096 || data.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
        return;
    }
    if let Some(credentials) = Credentials::parse(data) {
        let _ = (credentials.username_plain(), credentials.count());
    }
    let now = now();
    let source = "192.0.2.1:5060".parse().expect("an address");
    let mut server = Authenticator::new(AuthenticatorConfig::default(), [1; 32], now);
    let request = request(HeaderName::Authorization, data);
    let verdict = server.verify(now, source, "realm", Side::User, &request, Some("password"));
    assert_ne!(verdict, tandem_sip::auth::Verification::Accepted, "nobody guesses a nonce");

    let mut client = Answerer::new("us\"er", "password");
    let refusal = ResponseBuilder::new(&request, 401, Some(b"t")).header(HeaderName::WwwAuthenticate, data);
    let Ok(Message::Response(response)) = Message::parse_datagram(refusal.finish()) else { return };
    if client.take_challenge(&response).is_ok() {
        let mut answers = client.authorizations(Method::Register, b"sip:a@b", b"", 1);
        let (_, value) = answers.pop().expect("a challenge was taken");
        let answer = Credentials::parse(&value).unwrap_or_else(|| panic!("{}", value.escape_ascii()));
        assert_eq!(&*answer.username_plain(), b"us\"er");
    }
    check_honest_exchange(&mut server, now, source);
}

/// Whatever came before, an honest client still gets in.
fn check_honest_exchange(server: &mut Authenticator, now: Instant, source: std::net::SocketAddr) {
    let now = now + Duration::from_millis(1);
    let mut client = Answerer::new("user", "password");
    let challenge = server.challenge(now, source, "realm", Staleness::Fresh).remove(0);
    let asked = request(HeaderName::Subject, b"x");
    let refusal =
        ResponseBuilder::new(&asked, 401, Some(b"t")).header(HeaderName::WwwAuthenticate, challenge);
    let Ok(Message::Response(response)) = Message::parse_datagram(refusal.finish()) else {
        panic!("our own challenge is not understood");
    };
    client.take_challenge(&response).expect("our own challenge is supported");
    let answer = client.authorizations(Method::Register, b"sip:a@b", b"", 7).remove(0);
    let verdict =
        server.verify(now, source, "realm", Side::User, &request(answer.0, &answer.1), Some("password"));
    assert_eq!(verdict, tandem_sip::auth::Verification::Accepted);
}

fn request(name: HeaderName, value: &[u8]) -> Request {
    let bytes = RequestBuilder::new(Method::Register, "sip:a@b")
        .header(HeaderName::Via, "SIP/2.0/UDP h;branch=z9hG4bK1")
        .header(HeaderName::From, "<sip:a@b>;tag=1")
        .header(HeaderName::To, "<sip:a@b>")
        .header(HeaderName::CallId, "c")
        .header(HeaderName::CSeq, "1 REGISTER")
        .header(name, value)
        .finish();
    let Ok(Message::Request(request)) = Message::parse_datagram(bytes) else { panic!("a request we wrote") };
    request
}

#[allow(clippy::disallowed_methods, reason = "an Instant can be had only from the clock")]
fn now() -> Instant {
    Instant::now()
}
