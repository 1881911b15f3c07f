//! The WebSocket upgrade (RFC 6455 section 4.1): our request, and the judgement of the agent's answer.
//!
//! Written here, not by a library, because agents differ: no extension is offered, no `Origin` is sent (some
//! servers keep a list of allowed ones), and a server that does not select the subprotocol it was offered is
//! accepted all the same (FastAPI and others never select one).

use std::{io, net::SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tungstenite::handshake::derive_accept_key;

use super::{DialError, DialRequest, target::Target};

/// Bytes an answer to the upgrade may have before its body.
const RESPONSE_HEAD_BYTES: usize = 16 * 1024;
/// Header fields an answer may have.
const RESPONSE_HEADERS: usize = 96;
/// Header fields the upgrade itself writes; an agent's own headers may not replace them.
const RESERVED_HEADERS: [&str; 8] = [
    "host",
    "upgrade",
    "connection",
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "content-length",
];

pub(super) fn upgrade_request(
    target: &Target,
    request: &DialRequest,
    key: &str,
) -> Result<String, DialError> {
    let mut head = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n",
        target.path, target.authority
    );
    if let Some(subprotocol) = &request.subprotocol {
        if !is_token_list(subprotocol) {
            return Err(DialError::Header("Sec-WebSocket-Protocol".to_owned()));
        }
        head.push_str(&format!("Sec-WebSocket-Protocol: {subprotocol}\r\n"));
    }
    let mut authorized = false;
    for (name, value) in &request.headers {
        let reserved = RESERVED_HEADERS.iter().any(|reserved| reserved.eq_ignore_ascii_case(name));
        if reserved || !is_token(name) || !is_field_value(value) {
            return Err(DialError::Header(name.clone()));
        }
        authorized |= name.eq_ignore_ascii_case("authorization");
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    // An explicit Authorization header says more than the URL does.
    if let Some((user, password)) = &target.credentials
        && !authorized
    {
        let mut plain = user.clone();
        plain.push(b':');
        plain.extend_from_slice(password);
        let encoded = base64_simd::STANDARD.encode_to_string(&plain);
        head.push_str(&format!("Authorization: Basic {encoded}\r\n"));
    }
    head.push_str("\r\n");
    Ok(head)
}

/// RFC 9110 section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn is_token_list(text: &str) -> bool {
    text.split(',').all(|part| is_token(part.trim()))
}

/// RFC 9110 section 5.5, without the line ends that would smuggle another header.
fn is_field_value(text: &str) -> bool {
    text.bytes().all(|byte| byte == b'\t' || (byte >= b' ' && byte != 0x7F))
}

/// Sends the upgrade, reads the answer, and returns what follows it with the selected subprotocol.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    head: &str,
    key: &str,
    address: SocketAddr,
) -> Result<(Vec<u8>, Option<String>), DialError> {
    let dropped = |source| DialError::Dropped { address, source };
    stream.write_all(head.as_bytes()).await.map_err(dropped)?;
    stream.flush().await.map_err(dropped)?;
    let mut received = Vec::with_capacity(1_024);
    loop {
        if received.len() >= RESPONSE_HEAD_BYTES {
            return Err(DialError::Upgrade("the answer's header is too long"));
        }
        if stream.read_buf(&mut received).await.map_err(dropped)? == 0 {
            return Err(dropped(io::ErrorKind::UnexpectedEof.into()));
        }
        if let Some((length, subprotocol)) = check_response(&received, key)? {
            received.drain(..length);
            return Ok((received, subprotocol));
        }
    }
}

/// Judges an answer: `None` while it is incomplete, else the length of its head and the subprotocol.
fn check_response(received: &[u8], key: &str) -> Result<Option<(usize, Option<String>)>, DialError> {
    let mut fields = [httparse::EMPTY_HEADER; RESPONSE_HEADERS];
    let mut response = httparse::Response::new(&mut fields);
    let length = match response.parse(received) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Ok(None),
        Err(_) => return Err(DialError::Upgrade("it is no HTTP response")),
    };
    let field = |name: &str| {
        let found = response.headers.iter().find(|field| field.name.eq_ignore_ascii_case(name));
        found.map(|field| String::from_utf8_lossy(field.value).trim().to_owned())
    };
    let status = response.code.unwrap_or_default();
    if status != 101 {
        let reason = response.reason.unwrap_or_default();
        let place = field("location").map(|place| format!(", redirecting to {place}")).unwrap_or_default();
        let reason = if reason.is_empty() { String::new() } else { format!(" {reason}") };
        return Err(DialError::Status { status, detail: format!("{reason}{place}") });
    }
    // RFC 6455 section 4.1: "If the response lacks an |Upgrade| header field or the |Upgrade| header field
    // contains a value that is not an ASCII case-insensitive match for the value "websocket", the client
    // MUST _Fail the WebSocket Connection_", and likewise for Connection, Accept and extensions.
    if !field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket")) {
        return Err(DialError::Upgrade("it does not say \"Upgrade: websocket\""));
    }
    let upgrades = field("connection")
        .is_some_and(|value| value.split(',').any(|option| option.trim().eq_ignore_ascii_case("upgrade")));
    if !upgrades {
        return Err(DialError::Upgrade("it does not say \"Connection: Upgrade\""));
    }
    if field("sec-websocket-accept").as_deref() != Some(derive_accept_key(key.as_bytes()).as_str()) {
        return Err(DialError::Upgrade("Sec-WebSocket-Accept does not match the key"));
    }
    if field("sec-websocket-extensions").is_some_and(|value| !value.is_empty()) {
        return Err(DialError::Upgrade("it selects an extension that was not offered"));
    }
    Ok(Some((length, field("sec-websocket-protocol").filter(|value| !value.is_empty()))))
}
