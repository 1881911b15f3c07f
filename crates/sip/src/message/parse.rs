//! From bytes to spans: start line, header fields, body; then the checks every message must pass.
//!
//! One pass, no copy. Reading goes on after a fault, so that a refusal finds its Via and Call-ID.
//! Tolerated, each because devices send it: line ends before the message and bare LF line ends (RFC 4475
//! section 3.1.1.2's kin), white space before the colon, a missing Content-Length on datagrams, a missing
//! Max-Forwards. RFC 3261 sections 7, 18.3 and 25; what is refused follows RFC 4475.

use bytes::Bytes;
use smallvec::SmallVec;

use super::fields::{Field, Fields, Span};
use super::lex::{self, CommaList};
use super::method::{CSeq, Method};
use super::name::HeaderName;
use super::name_addr::NameAddr;
use super::uri::Uri;
use super::via::Via;
use super::{MAX_HEADER, MAX_HEADERS, MAX_MESSAGE, Message, Request, Response, Unreadable};
use crate::error::{Fault, ParseError};

pub(super) fn parse(bytes: Bytes) -> Result<Message, ParseError> {
    let Some(start) = bytes.iter().position(|byte| !matches!(byte, b'\r' | b'\n')) else {
        return Err(ParseError::new(Fault::Empty, None));
    };
    let mut faults = FirstFault(None);
    let bytes = if bytes.len() - start > MAX_MESSAGE {
        faults.note(Fault::TooLarge);
        bytes.slice(start..start + MAX_MESSAGE)
    } else if start > 0 {
        bytes.slice(start..)
    } else {
        bytes
    };
    let line = Line::at(&bytes, 0, &mut faults);
    let start_line = StartLine::read(&bytes, line.content(), &mut faults);
    let (list, body_start) = read_fields(&bytes, line.next, &mut faults);
    let mut fields = Fields { body: Span::new(body_start, bytes.len()), bytes, list, source: None };
    if faults.0.is_none() {
        match body_end(&fields, body_start) {
            Ok(end) => fields.body = Span::new(body_start, end),
            Err(fault) => faults.note(fault),
        }
    }
    match start_line {
        StartLine::Request { method, uri } => {
            if faults.0.is_none()
                && let Err(fault) = check_request(&fields, method)
            {
                faults.note(fault);
            }
            match faults.0 {
                None => Ok(Message::Request(Request { method, uri, fields })),
                Some(fault) => Err(ParseError::new(fault, Some(Unreadable { method, fields }))),
            }
        }
        StartLine::Response { status, reason } => {
            if faults.0.is_none()
                && let Err(fault) = check_fields(&fields)
            {
                faults.note(fault);
            }
            match faults.0 {
                None => Ok(Message::Response(Response { status, reason, fields })),
                Some(fault) => Err(ParseError::new(fault, None)),
            }
        }
    }
}

/// Keeps the first fault of a message.
struct FirstFault(Option<Fault>);

impl FirstFault {
    fn note(&mut self, fault: Fault) {
        self.0.get_or_insert(fault);
    }
}

/// One line: its content without the line end, and where the next one starts.
struct Line {
    start: usize,
    end: usize,
    next: usize,
    is_ended: bool,
}

impl Line {
    fn at(bytes: &[u8], start: usize, faults: &mut FirstFault) -> Self {
        let mut from = start;
        loop {
            let Some(found) = memchr::memchr2(b'\r', b'\n', &bytes[from..]) else {
                return Self { start, end: bytes.len(), next: bytes.len(), is_ended: false };
            };
            let end = from + found;
            match bytes[end..] {
                [b'\n', ..] => return Self { start, end, next: end + 1, is_ended: true },
                [b'\r', b'\n', ..] => return Self { start, end, next: end + 2, is_ended: true },
                _ => {
                    faults.note(Fault::BareCarriageReturn);
                    from = end + 1;
                }
            }
        }
    }

    fn content(&self) -> Span {
        Span::new(self.start, self.end)
    }
}

enum StartLine {
    Request { method: Span, uri: Span },
    Response { status: u16, reason: Span },
}

impl StartLine {
    fn read(bytes: &[u8], line: Span, faults: &mut FirstFault) -> Self {
        let content = line.of(bytes);
        if content.len() > MAX_HEADER {
            faults.note(Fault::RequestUriTooLong);
        }
        if content.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"SIP/")) {
            return Self::read_status_line(bytes, line, faults);
        }
        Self::read_request_line(bytes, line, faults)
    }

    /// "Request-Line = Method SP Request-URI SP SIP-Version CRLF", and no other white space (RFC 3261
    /// section 7.1; RFC 4475 sections 3.1.2.7 to 3.1.2.11, 3.1.2.16).
    fn read_request_line(bytes: &[u8], line: Span, faults: &mut FirstFault) -> Self {
        let content = line.of(bytes);
        let offset = line.start as usize;
        let (method, rest) = lex::take_token(content);
        let method = Span::new(offset, offset + method.len());
        let nothing = Self::Request { method, uri: Span::new(offset, offset) };
        if method.start == method.end || rest.first() != Some(&b' ') {
            faults.note(Fault::StartLine);
            return Self::Request { method: Span::new(offset, offset), uri: Span::new(offset, offset) };
        }
        let rest = &rest[1..];
        let Some(space) = memchr::memrchr(b' ', rest) else {
            faults.note(Fault::StartLine);
            return nothing;
        };
        let (uri, version) = (&rest[..space], &rest[space + 1..]);
        if !is_version(version) {
            faults.note(Fault::StartLine);
        } else if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            faults.note(Fault::Version);
        }
        let uri_start = method.end as usize + 1;
        // "The Request-URI MUST NOT contain unescaped spaces or control characters and MUST NOT be enclosed
        // in <>" (section 7.1), nor hold headers (section 19.1.1, table 1), nor one parameter twice.
        let is_taken =
            Uri::parse(uri).is_some_and(|uri| uri.headers().is_none() && uri.params_are_distinct());
        if !is_taken {
            let is_spaced = uri.first().is_none_or(|byte| *byte == b' ') || uri.last() == Some(&b' ');
            faults.note(if is_spaced { Fault::StartLine } else { Fault::RequestUri });
        }
        Self::Request { method, uri: Span::new(uri_start, uri_start + uri.len()) }
    }

    /// "Status-Line = SIP-Version SP Status-Code SP Reason-Phrase CRLF" (RFC 3261 section 7.2). The phrase
    /// may be empty, and then some leave out the space before it too (RFC 4475 section 3.1.1.11).
    fn read_status_line(bytes: &[u8], line: Span, faults: &mut FirstFault) -> Self {
        let content = line.of(bytes);
        let mut parts = content.splitn(3, |&byte| byte == b' ');
        let version = parts.next().unwrap_or_default();
        let code = parts.next().unwrap_or_default();
        let reason = parts.next().unwrap_or_default();
        if !version.eq_ignore_ascii_case(b"SIP/2.0") {
            faults.note(if is_version(version) { Fault::Version } else { Fault::StartLine });
        }
        // RFC 4475 section 3.1.2.19: a longer code must not be cut down to one that exists.
        let status = (code.len() == 3).then(|| lex::number::<u16>(code)).flatten();
        let status = status.filter(|status| (100..700).contains(status)).unwrap_or_else(|| {
            faults.note(Fault::StatusCode);
            0
        });
        let end = line.end as usize;
        Self::Response { status, reason: Span::new(end - reason.len(), end) }
    }
}

/// "SIP" "/" 1*DIGIT "." 1*DIGIT
fn is_version(bytes: &[u8]) -> bool {
    let Some((name, number)) = bytes.split_at_checked(4) else { return false };
    let mut parts = number.split(|&byte| byte == b'.');
    let mut is_digits =
        || parts.next().is_some_and(|part| !part.is_empty() && part.iter().all(u8::is_ascii_digit));
    name.eq_ignore_ascii_case(b"SIP/") && is_digits() && is_digits() && parts.next().is_none()
}

/// Reads header fields up to the empty line; returns them and where the body starts.
fn read_fields(bytes: &[u8], mut position: usize, faults: &mut FirstFault) -> (SmallVec<[Field; 32]>, usize) {
    let mut list = SmallVec::new();
    loop {
        let mut line = Line::at(bytes, position, faults);
        if line.end == line.start {
            // A datagram that stops after a whole line lacks only its empty line; RFC 5118's own examples
            // do. What lost more than that has a Content-Length to show it.
            return (list, line.next);
        }
        // "Header fields can be extended over multiple lines by preceding each extra line with at least
        // one SP or horizontal tab" (RFC 3261 section 7.3.1).
        while matches!(bytes.get(line.next), Some(b' ' | b'\t')) {
            let folded = Line::at(bytes, line.next, faults);
            line = Line { start: line.start, ..folded };
        }
        if !line.is_ended {
            faults.note(Fault::Truncated);
        }
        position = line.next;
        if line.end - line.start > MAX_HEADER {
            faults.note(Fault::HeaderTooLong);
            continue;
        }
        if list.len() == MAX_HEADERS {
            faults.note(Fault::TooManyHeaders);
            return (list, bytes.len());
        }
        match read_field(bytes, &line) {
            Some(field) => list.push(field),
            None => faults.note(Fault::HeaderLine),
        }
    }
}

/// `field-name: field-value`; "any amount of whitespace" may stand around the colon (RFC 3261 section 7.3.1).
fn read_field(bytes: &[u8], line: &Line) -> Option<Field> {
    let content = &bytes[line.start..line.end];
    let (name, rest) = lex::take_token(content);
    let [b':', value @ ..] = lex::trim_start(rest) else { return None };
    if name.is_empty() {
        return None;
    }
    let value_end = line.start + lex::trim_end(content).len();
    let value_start = (line.end - lex::trim_start(value).len()).min(value_end);
    Some(Field {
        name: HeaderName::from_bytes(name),
        name_span: Span::new(line.start, line.start + name.len()),
        value: Span::new(value_start, value_end),
    })
}

/// Where the body ends. "If there are additional bytes in the transport packet beyond the end of the body,
/// they MUST be discarded. If the transport packet ends before the end of the message body, this is
/// considered an error" (RFC 3261 section 18.3). Several equal lengths are taken as one; different ones are
/// refused (RFC 4475 section 3.3.9), and so is what is no number (section 3.1.2.3).
fn body_end(fields: &Fields, body_start: usize) -> Result<usize, Fault> {
    let available = fields.bytes.len() - body_start;
    match content_length(fields.headers(HeaderName::ContentLength))? {
        None => Ok(fields.bytes.len()),
        Some(length) if length <= available => Ok(body_start + length),
        Some(_) => Err(Fault::BodyTooShort),
    }
}

/// The Content-Length of a complete header section, read as [`parse`] will read it: two readings of one
/// length are how messages are smuggled.
pub(crate) fn framed_length(head: &[u8]) -> Result<Option<usize>, Fault> {
    let mut faults = FirstFault(None);
    let start_line = Line::at(head, 0, &mut faults);
    let (list, _) = read_fields(head, start_line.next, &mut faults);
    match faults.0 {
        // The lines around a malformed one are still lines: its 400 need not cost the connection.
        None | Some(Fault::HeaderLine) => {}
        Some(fault) => return Err(fault),
    }
    let is_length = |field: &&Field| field.name == HeaderName::ContentLength;
    content_length(list.iter().filter(is_length).map(|field| field.value.of(head)))
}

/// The one Content-Length of all the values given.
fn content_length<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Option<usize>, Fault> {
    let mut length = None;
    for value in values {
        let read = lex::number::<usize>(value).ok_or(Fault::ContentLength)?;
        if length.is_some_and(|length| length != read) {
            return Err(Fault::ContentLength);
        }
        length = Some(read);
    }
    Ok(length)
}

fn check_request(fields: &Fields, method: Span) -> Result<(), Fault> {
    check_fields(fields)?;
    let method = Method::from_bytes(method.of(&fields.bytes));
    let cseq = fields.cseq_field().ok_or(Fault::Malformed(HeaderName::CSeq))?;
    // "The method MUST match that of the request" (RFC 3261 section 8.1.1.5). For a method nobody knows,
    // "choosing a 501 … has better future-proof characteristics" (RFC 4475 section 3.1.2.18).
    match method {
        _ if cseq.method == method => Ok(()),
        Method::Other(_) => Err(Fault::UnknownMethod),
        _ => Err(Fault::MethodMismatch),
    }
}

/// What every message must have and hold: "a valid SIP request … MUST, at a minimum, contain … To, From,
/// CSeq, Call-ID, Max-Forwards, and Via" (RFC 3261 section 8.1.1).
fn check_fields(fields: &Fields) -> Result<(), Fault> {
    const ONCE: [HeaderName; 6] = [
        HeaderName::From,
        HeaderName::To,
        HeaderName::CallId,
        HeaderName::CSeq,
        HeaderName::MaxForwards,
        HeaderName::ContentType,
    ];
    let mut seen = [false; ONCE.len()];
    let mut has_via = false;
    for field in &fields.list {
        let value = field.value.of(&fields.bytes);
        if let Some(index) = ONCE.iter().position(|&name| name == field.name) {
            if seen[index] {
                return Err(Fault::Repeated(field.name));
            }
            seen[index] = true;
        }
        let is_well_formed = match field.name {
            HeaderName::From | HeaderName::To => NameAddr::parse(value).is_some(),
            HeaderName::CallId => is_call_id(value),
            HeaderName::CSeq => CSeq::parse(value).is_some(),
            HeaderName::MaxForwards => lex::number::<u8>(value).is_some(),
            HeaderName::Via => {
                has_via = true;
                CommaList::new(value).all(|value| Via::parse(value).is_some())
            }
            // Requests of ours will go to this URI, so it must say one thing.
            HeaderName::Contact => {
                let is_target =
                    |value| NameAddr::parse(value).is_some_and(|contact| contact.uri().params_are_distinct());
                value == b"*" || CommaList::new(value).all(is_target)
            }
            HeaderName::Route | HeaderName::RecordRoute => {
                CommaList::new(value).all(|value| NameAddr::parse(value).is_some())
            }
            _ => true,
        };
        if !is_well_formed {
            return Err(Fault::Malformed(field.name));
        }
    }
    if !has_via {
        return Err(Fault::Missing(HeaderName::Via));
    }
    match ONCE[..4].iter().zip(seen).find(|(_, seen)| !seen) {
        Some((&name, _)) => Err(Fault::Missing(name)),
        None => Ok(()),
    }
}

/// "callid = word [ "@" word ]" (RFC 3261 section 25.1), read as: visible bytes without white space.
fn is_call_id(value: &[u8]) -> bool {
    !value.is_empty() && value.iter().all(|&byte| byte > b' ' && byte != 0x7f)
}
