//! Messages written: each header once, straight into the bytes that go out.
//!
//! Values from a received message are copied as they are. A value can never end its line: line ends in
//! it are written as spaces, so nothing a peer or a user supplies becomes a header of ours.
//! RFC 3261 sections 7, 8.1.1 and 8.2.6.

use std::fmt;
use std::io::Write as _;

use bytes::Bytes;

use super::fields::Fields;
use super::lex::CommaList;
use super::method::Method;
use super::name::HeaderName;
use super::name_addr::NameAddr;
use super::via::{Via, write_with_source};

/// Room made for a message before its body: an INVITE through a few proxies fits.
const HEAD_ROOM: usize = 1024;

const INFALLIBLE: &str = "writing to a vector cannot fail";

/// What both builders do: header lines and the end of the message.
#[derive(Clone, Debug)]
struct Writer {
    out: Vec<u8>,
}

impl Writer {
    fn line(&mut self, name: &[u8], value: &[u8]) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        self.value(value);
        self.out.extend_from_slice(b"\r\n");
    }

    fn value(&mut self, value: &[u8]) {
        let start = self.out.len();
        self.out.extend_from_slice(value);
        self.defuse(start);
    }

    fn line_fmt(&mut self, name: &[u8], value: fmt::Arguments<'_>) {
        self.out.extend_from_slice(name);
        self.out.extend_from_slice(b": ");
        let start = self.out.len();
        self.out.write_fmt(value).expect(INFALLIBLE);
        self.defuse(start);
        self.out.extend_from_slice(b"\r\n");
    }

    /// Makes spaces of the line ends written since `start`.
    fn defuse(&mut self, start: usize) {
        if memchr::memchr2(b'\r', b'\n', &self.out[start..]).is_some() {
            for byte in &mut self.out[start..] {
                if matches!(byte, b'\r' | b'\n') {
                    *byte = b' ';
                }
            }
        }
    }

    fn copy(&mut self, from: &Fields, name: HeaderName) {
        for field in from.list.iter().filter(|field| field.name == name) {
            self.line(name.as_str().as_bytes(), field.value.of(&from.bytes));
        }
    }

    /// Copies the first field of this name: where only one may stand, a refused message may hold more.
    fn copy_first(&mut self, from: &Fields, name: HeaderName) {
        if let Some(value) = from.header(name) {
            self.line(name.as_str().as_bytes(), value);
        }
    }

    fn finish(mut self, body: Option<(&[u8], &[u8])>) -> Bytes {
        let content = body.map_or(&b""[..], |(_, content)| content);
        if let Some((content_type, _)) = body {
            self.line(b"Content-Type", content_type);
        }
        write!(self.out, "Content-Length: {}\r\n\r\n", content.len()).expect(INFALLIBLE);
        self.out.extend_from_slice(content);
        Bytes::from(self.out)
    }
}

macro_rules! header_methods {
    ($type:ty) => {
        impl $type {
            /// Writes a header field.
            pub fn header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
                debug_assert!(name != HeaderName::Other && name != HeaderName::ContentLength);
                self.writer.line(name.as_str().as_bytes(), value.as_ref());
                self
            }

            /// Writes a header field from parts, without a string between: `.header_fmt(name,
            /// format_args!("<{uri}>"))`.
            pub fn header_fmt(mut self, name: HeaderName, value: fmt::Arguments<'_>) -> Self {
                debug_assert!(name != HeaderName::Other && name != HeaderName::ContentLength);
                self.writer.line_fmt(name.as_str().as_bytes(), value);
                self
            }

            /// Writes a header field whose name this crate does not know.
            pub fn header_named(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
                debug_assert!(super::lex::is_token(name.as_ref()), "a header's name is a token");
                self.writer.line(name.as_ref(), value.as_ref());
                self
            }

            /// Copies every field of this name from a received message, values as they are.
            pub fn copy(mut self, from: impl AsRef<Fields>, name: HeaderName) -> Self {
                self.writer.copy(from.as_ref(), name);
                self
            }

            /// Ends the message without a body.
            pub fn finish(self) -> Bytes {
                self.writer.finish(None)
            }

            /// Ends the message with a body of this media type.
            pub fn finish_with_body(self, content_type: impl AsRef<[u8]>, body: impl AsRef<[u8]>) -> Bytes {
                self.writer.finish(Some((content_type.as_ref(), body.as_ref())))
            }
        }
    };
}

/// Writes a request. The caller supplies Via, From, To, Call-ID, CSeq and Max-Forwards in the order wanted;
/// Content-Length is written at the end.
#[derive(Clone, Debug)]
pub struct RequestBuilder {
    writer: Writer,
}

header_methods!(RequestBuilder);

impl RequestBuilder {
    /// Starts a request with its Request-Line.
    pub fn new(method: Method<'_>, uri: impl AsRef<[u8]>) -> Self {
        let mut writer = Writer { out: Vec::with_capacity(HEAD_ROOM) };
        writer.out.extend_from_slice(method.as_bytes());
        writer.out.push(b' ');
        writer.value(uri.as_ref());
        writer.out.extend_from_slice(b" SIP/2.0\r\n");
        Self { writer }
    }
}

/// Writes a response to a request, or to what could be read of one.
#[derive(Clone, Debug)]
pub struct ResponseBuilder {
    writer: Writer,
}

header_methods!(ResponseBuilder);

impl ResponseBuilder {
    /// Starts a response with the phrase that RFCs give its status; see [`Self::with_reason`].
    pub fn new(request: impl AsRef<Fields>, status: u16, to_tag: Option<&[u8]>) -> Self {
        Self::with_reason(request, status, default_reason(status), to_tag)
    }

    /// Starts a response: Status-Line, then what RFC 3261 section 8.2.6.2 asks to be equal to the request's:
    /// every Via in order (the topmost with `received` and `rport` once [`Fields::set_source`] was called),
    /// From, To, Call-ID and CSeq. "If the To header field in the request did not contain a tag, … the UAS
    /// MUST add a tag", except to a 100: `to_tag` is added where To has none. Responses that make a
    /// dialog, 101 to 299, also carry every Record-Route (section 12.1.1). A 100 carries the Timestamp
    /// (section 8.2.6.1).
    pub fn with_reason(
        request: impl AsRef<Fields>,
        status: u16,
        reason: impl AsRef<[u8]>,
        to_tag: Option<&[u8]>,
    ) -> Self {
        debug_assert!((100..700).contains(&status));
        let request = request.as_ref();
        let mut writer = Writer { out: Vec::with_capacity(HEAD_ROOM) };
        write!(writer.out, "SIP/2.0 {status} ").expect(INFALLIBLE);
        writer.value(reason.as_ref());
        writer.out.extend_from_slice(b"\r\n");
        write_vias(&mut writer, request);
        writer.copy_first(request, HeaderName::From);
        write_to(&mut writer, request, to_tag);
        writer.copy_first(request, HeaderName::CallId);
        writer.copy_first(request, HeaderName::CSeq);
        if status == 100 {
            writer.copy(request, HeaderName::Timestamp);
        } else if status < 300 {
            writer.copy(request, HeaderName::RecordRoute);
        }
        Self { writer }
    }
}

fn write_vias(writer: &mut Writer, request: &Fields) {
    let mut is_top = true;
    for field in request.list.iter().filter(|field| field.name == HeaderName::Via) {
        let value = field.value.of(&request.bytes);
        let top = if is_top { request.source.as_ref().zip(CommaList::new(value).next()) } else { None };
        is_top = false;
        let Some((source, (first, via))) =
            top.and_then(|(source, first)| Some((source, (first, Via::parse(first)?))))
        else {
            writer.line(b"Via", value);
            continue;
        };
        writer.out.extend_from_slice(b"Via: ");
        let start = writer.out.len();
        write_with_source(&via, source, &mut writer.out);
        // The value has no white space at its front, so its first element is the start of it.
        writer.out.extend_from_slice(&value[first.len()..]);
        writer.defuse(start);
        writer.out.extend_from_slice(b"\r\n");
    }
}

fn write_to(writer: &mut Writer, request: &Fields, to_tag: Option<&[u8]>) {
    let Some(value) = request.header(HeaderName::To) else { return };
    let has_tag = NameAddr::parse(value).is_some_and(|to| to.tag().is_some());
    writer.out.extend_from_slice(b"To: ");
    writer.value(value);
    if let Some(tag) = to_tag.filter(|_| !has_tag) {
        writer.out.extend_from_slice(b";tag=");
        writer.value(tag);
    }
    writer.out.extend_from_slice(b"\r\n");
}

/// The phrase RFCs give a status: RFC 3261 section 21 and the extensions' own.
pub fn default_reason(status: u16) -> &'static str {
    match status {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match status / 100 {
            1 => "Progress",
            2 => "Success",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}
