//! SIP messages as spans over one `Bytes`: parsed once, viewed on demand, carried through unchanged.
//!
//! A [`Request`] or [`Response`] that exists has been checked: what every SIP message must have (Via, From,
//! To, Call-ID, CSeq) is there and parses, so their accessors cannot fail. Whether a request can be served
//! is not asked here. RFC 3261 section 7.

mod build;
mod fields;
mod lex;
mod method;
mod name;
mod name_addr;
mod parse;
mod uri;
mod via;

use std::fmt;

use bytes::Bytes;

pub use build::{RequestBuilder, ResponseBuilder, default_reason};
pub use fields::{Fields, Values};
pub use lex::{Param, Params};
pub use method::{CSeq, Method, RAck};
pub use name::HeaderName;
pub use name_addr::NameAddr;
pub use uri::{Scheme, Uri, UriParams};
pub use via::{MAGIC_COOKIE, ResponseRouting, Via};

pub(crate) use lex::{take_quoted, take_token, trim, trim_start, unquote};
pub(crate) use parse::framed_length;

use crate::error::ParseError;
use fields::Span;

/// The longest message taken, in bytes: what one UDP datagram can hold. Carriers' largest (STIR passports,
/// multipart bodies) are an eighth of it.
pub const MAX_MESSAGE: usize = 64 * 1024;

/// The most header fields taken. RFC 4475's longest has 24; a hundred Vias of a loop fit.
pub const MAX_HEADERS: usize = 256;

/// The longest header field or start line taken, in bytes, folded lines included. Identity headers reach 2 KiB.
pub const MAX_HEADER: usize = 8 * 1024;

/// A SIP message.
#[derive(Clone, Debug)]
pub enum Message {
    /// A request.
    Request(Request),
    /// A response.
    Response(Response),
}

impl Message {
    /// Reads a message that fills the bytes: a datagram, or what [`crate::wire::StreamFramer`] cut out of a
    /// stream. Line ends before it are skipped, bytes after Content-Length ignored; without a
    /// Content-Length the body runs to the end (RFC 3261 section 18.3). Allocates nothing for up to 32
    /// header fields.
    ///
    /// # Errors
    /// A [`ParseError`] names the first fault, the status that answers it, and holds what could be read.
    pub fn parse_datagram(bytes: Bytes) -> Result<Self, ParseError> {
        parse::parse(bytes)
    }

    /// The header fields and the body.
    pub fn fields(&self) -> &Fields {
        match self {
            Self::Request(request) => &request.fields,
            Self::Response(response) => &response.fields,
        }
    }
}

/// A request whose mandatory parts are there and parse.
#[derive(Clone)]
pub struct Request {
    method: Span,
    uri: Span,
    fields: Fields,
}

/// A response whose mandatory parts are there and parse.
#[derive(Clone)]
pub struct Response {
    status: u16,
    reason: Span,
    fields: Fields,
}

/// What could be read of a request that is not taken.
#[derive(Clone, Debug)]
pub struct Unreadable {
    method: Span,
    fields: Fields,
}

const CHECKED: &str = "checked when the message was parsed";

/// What requests and responses share.
macro_rules! shared_accessors {
    ($type:ty) => {
        impl $type {
            /// The header fields and the body.
            pub fn fields(&self) -> &Fields {
                &self.fields
            }

            /// See [`Fields::header`].
            pub fn header(&self, name: HeaderName) -> Option<&[u8]> {
                self.fields.header(name)
            }

            /// See [`Fields::header_named`].
            pub fn header_named(&self, name: &str) -> Option<&[u8]> {
                self.fields.header_named(name)
            }

            /// See [`Fields::header_text`].
            pub fn header_text(&self, name: HeaderName) -> Option<std::borrow::Cow<'_, str>> {
                self.fields.header_text(name)
            }

            /// See [`Fields::headers`].
            pub fn headers(&self, name: HeaderName) -> Values<'_> {
                self.fields.headers(name)
            }

            /// See [`Fields::raw_headers`].
            pub fn raw_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
                self.fields.raw_headers()
            }

            /// See [`Fields::lists`].
            pub fn lists(&self, name: HeaderName, token: &str) -> bool {
                self.fields.lists(name, token)
            }

            /// The topmost Via.
            pub fn via(&self) -> Via<'_> {
                self.fields.top_via().expect(CHECKED)
            }

            /// From.
            pub fn from(&self) -> NameAddr<'_> {
                self.fields.from_field().expect(CHECKED)
            }

            /// To.
            pub fn to(&self) -> NameAddr<'_> {
                self.fields.to_field().expect(CHECKED)
            }

            /// Call-ID, compared with case (RFC 3261 section 20.8).
            pub fn call_id(&self) -> &[u8] {
                self.fields.header(HeaderName::CallId).expect(CHECKED)
            }

            /// CSeq.
            pub fn cseq(&self) -> CSeq<'_> {
                self.fields.cseq_field().expect(CHECKED)
            }

            /// See [`Fields::contact`].
            pub fn contact(&self) -> Option<NameAddr<'_>> {
                self.fields.contact()
            }

            /// See [`Fields::content_type`].
            pub fn content_type(&self) -> Option<&[u8]> {
                self.fields.content_type()
            }

            /// See [`Fields::body`].
            pub fn body(&self) -> Bytes {
                self.fields.body()
            }

            /// See [`Fields::as_bytes`].
            pub fn as_bytes(&self) -> &Bytes {
                self.fields.as_bytes()
            }

            /// See [`Fields::share`].
            pub fn share(&self, part: &[u8]) -> Bytes {
                self.fields.share(part)
            }
        }

        impl AsRef<Fields> for $type {
            fn as_ref(&self) -> &Fields {
                &self.fields
            }
        }
    };
}

shared_accessors!(Request);
shared_accessors!(Response);

impl Request {
    /// The method.
    pub fn method(&self) -> Method<'_> {
        Method::from_bytes(self.method.of(&self.fields.bytes))
    }

    /// The Request-URI.
    pub fn uri(&self) -> Uri<'_> {
        Uri::parse(self.uri.of(&self.fields.bytes)).expect(CHECKED)
    }

    /// Max-Forwards; absent in requests of RFC 2543 (RFC 4475 section 3.4.1).
    pub fn max_forwards(&self) -> Option<u8> {
        self.fields.max_forwards()
    }

    /// See [`Fields::set_source`].
    pub fn set_source(&mut self, address: std::net::SocketAddr, routing: ResponseRouting) {
        self.fields.set_source(address, routing);
    }

    /// See [`Fields::response_address`].
    pub fn response_address(&self) -> Option<std::net::SocketAddr> {
        self.fields.response_address()
    }
}

impl Response {
    /// The status, 100 to 699.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase as written; it may be empty.
    pub fn reason(&self) -> &[u8] {
        self.reason.of(&self.fields.bytes)
    }
}

impl Unreadable {
    /// Reads what can be read of a header section that is known to be at fault; `None` for a response.
    pub(crate) fn read(head: Bytes) -> Option<Self> {
        match parse::parse(head) {
            Ok(Message::Request(Request { method, fields, .. })) => Some(Self { method, fields }),
            Ok(Message::Response(_)) => None,
            Err(error) => error.into_refusable(),
        }
    }

    /// The method as far as it could be read; empty if it could not.
    pub fn method(&self) -> Method<'_> {
        Method::from_bytes(self.method.of(&self.fields.bytes))
    }

    /// The header fields that could be read.
    pub fn fields(&self) -> &Fields {
        &self.fields
    }

    /// See [`Fields::set_source`].
    pub fn set_source(&mut self, address: std::net::SocketAddr, routing: ResponseRouting) {
        self.fields.set_source(address, routing);
    }

    /// Whether a refusal can be sent: a method was read, it is not ACK, which nothing answers (RFC 3261
    /// section 17), and there is a Via to send it along.
    pub(crate) fn is_refusable(&self) -> bool {
        let method = self.method();
        !method.as_bytes().is_empty()
            && method != Method::Ack
            && self.fields.header(HeaderName::Via).is_some()
    }
}

impl AsRef<Fields> for Unreadable {
    fn as_ref(&self) -> &Fields {
        &self.fields
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Request")
            .field("method", &self.method())
            .field("uri", &lex::text(self.uri.of(&self.fields.bytes)))
            .field("call_id", &lex::text(self.call_id()))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Response")
            .field("status", &self.status)
            .field("cseq", &self.cseq())
            .field("call_id", &lex::text(self.call_id()))
            .finish_non_exhaustive()
    }
}
