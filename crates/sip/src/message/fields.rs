//! The header fields and the body of one message: spans over its bytes, looked at on demand.
//!
//! Nothing is copied, sorted or rewritten here: what came is what can be carried on, byte for byte.
//! RFC 3261 sections 7.3 and 7.4.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;

use super::lex::{self, CommaList};
use super::method::CSeq;
use super::name::HeaderName;
use super::name_addr::NameAddr;
use super::via::{ResponseRouting, Source, Via};

/// A range of the message's bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) start: u32,
    pub(super) end: u32,
}

impl Span {
    /// Messages are at most [`super::MAX_MESSAGE`] long, so that offsets fit 32 bits.
    pub(super) fn new(start: usize, end: usize) -> Self {
        debug_assert!(start <= end && end <= super::MAX_MESSAGE);
        Self { start: start as u32, end: end as u32 }
    }

    pub(super) fn of(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.start as usize..self.end as usize]
    }
}

/// One header field: its name and its value, folded lines included, white space at the ends left out.
#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub(super) name: HeaderName,
    pub(super) name_span: Span,
    pub(super) value: Span,
}

/// The header fields and the body of a message.
#[derive(Clone)]
pub struct Fields {
    pub(super) bytes: Bytes,
    pub(super) list: SmallVec<[Field; 32]>,
    pub(super) body: Span,
    pub(super) source: Option<Source>,
}

impl Fields {
    /// The value of the first field of this name, as written: folds are still in it.
    pub fn header(&self, name: HeaderName) -> Option<&[u8]> {
        debug_assert!(name != HeaderName::Other, "unknown names are looked up by header_named");
        self.list.iter().find(|field| field.name == name).map(|field| field.value.of(&self.bytes))
    }

    /// The value of the first field of this name, given in long form, in any case.
    pub fn header_named(&self, name: &str) -> Option<&[u8]> {
        self.headers_named(name).next()
    }

    /// The value of each field of this name, given in long form, in any case; one item a field.
    pub fn headers_named<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let known = HeaderName::from_bytes(name.as_bytes());
        self.list.iter().filter_map(move |field| {
            let matches = field.name == known
                && (known != HeaderName::Other
                    || field.name_span.of(&self.bytes).eq_ignore_ascii_case(name.as_bytes()));
            matches.then(|| field.value.of(&self.bytes))
        })
    }

    /// The first value of this name for people and records: folds undone, UTF-8 or else read as Latin-1.
    pub fn header_text(&self, name: HeaderName) -> Option<Cow<'_, str>> {
        self.header(name).map(lex::text)
    }

    /// The individual values of this name, over all its fields and, where the header is a comma list,
    /// within each of them. Empty elements are passed over.
    pub fn headers(&self, name: HeaderName) -> Values<'_> {
        Values { fields: self, name, next: 0, list: None }
    }

    /// Every field in order: its name as written and its value as written.
    pub fn raw_headers(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.list.iter().map(|field| (field.name_span.of(&self.bytes), field.value.of(&self.bytes)))
    }

    /// Every field in order, its name recognised.
    pub fn typed_headers(&self) -> impl Iterator<Item = (HeaderName, &[u8])> {
        self.list.iter().map(|field| (field.name, field.value.of(&self.bytes)))
    }

    /// The number of header fields.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether a comma list of option tags or tokens (Supported, Require, Allow, …) holds this one.
    pub fn lists(&self, name: HeaderName, token: &str) -> bool {
        self.headers(name).any(|value| value.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The body, cut to Content-Length.
    pub fn body(&self) -> Bytes {
        self.bytes.slice(self.body.start as usize..self.body.end as usize)
    }

    /// The body as a slice.
    pub fn body_bytes(&self) -> &[u8] {
        self.body.of(&self.bytes)
    }

    /// The message as it was received; a datagram's bytes after the body included.
    pub fn as_bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// A part of this message as bytes of its own: without copying when it is a slice that one of the
    /// accessors returned, copied when it is not (the name of a known method is a constant of ours).
    pub fn share(&self, part: &[u8]) -> Bytes {
        let (whole, part_range) = (self.bytes.as_ptr_range(), part.as_ptr_range());
        if whole.start <= part_range.start && part_range.end <= whole.end {
            self.bytes.slice_ref(part)
        } else {
            Bytes::copy_from_slice(part)
        }
    }

    /// The topmost Via, if it parses.
    pub fn top_via(&self) -> Option<Via<'_>> {
        Via::parse(self.headers(HeaderName::Via).next()?)
    }

    /// From, if it parses.
    pub fn from_field(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(HeaderName::From)?)
    }

    /// To, if it parses.
    pub fn to_field(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.header(HeaderName::To)?)
    }

    /// CSeq, if it parses.
    pub fn cseq_field(&self) -> Option<CSeq<'_>> {
        CSeq::parse(self.header(HeaderName::CSeq)?)
    }

    /// The first Contact, if it parses; `None` for `*`.
    pub fn contact(&self) -> Option<NameAddr<'_>> {
        NameAddr::parse(self.headers(HeaderName::Contact).next()?)
    }

    /// Max-Forwards (RFC 3261 section 20.22).
    pub fn max_forwards(&self) -> Option<u8> {
        lex::number(self.header(HeaderName::MaxForwards)?)
    }

    /// Expires in seconds. What is too large to count is read as the largest (RFC 4475 section 3.1.2.4);
    /// what is no number as absent.
    pub fn expires(&self) -> Option<u32> {
        self.seconds(HeaderName::Expires)
    }

    /// The number of seconds at the front of a header's value, parameters and comments after it passed
    /// over (Expires, Min-Expires, Retry-After, Session-Expires, Min-SE).
    pub fn seconds(&self, name: HeaderName) -> Option<u32> {
        let (digits, rest) = lex::take_token(self.header(name)?);
        let ends = rest.first().is_none_or(|&byte| lex::is_space(byte) || matches!(byte, b';' | b'('));
        let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
        (ends && is_number).then(|| lex::number(digits).unwrap_or(u32::MAX))
    }

    /// The media type of the body without its parameters, as written.
    pub fn content_type(&self) -> Option<&[u8]> {
        let value = self.header(HeaderName::ContentType)?;
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        Some(lex::trim(&value[..end]))
    }

    /// Remembers where the message came from, so that each response to it carries `received` and `rport`
    /// as RFC 3261 section 18.2.1 and RFC 3581 section 4 ask.
    pub fn set_source(&mut self, address: SocketAddr, routing: ResponseRouting) {
        self.source = Some(Source { address, routing });
    }

    /// Where a response over an unreliable transport goes (RFC 3261 section 18.2.2, RFC 3581 section 4): to
    /// the source address, and to its port if `rport` was asked for, else to the port of sent-by. `maddr`
    /// is not followed: it would let anyone aim our answers at a third party. `None` before
    /// [`Self::set_source`].
    pub fn response_address(&self) -> Option<SocketAddr> {
        let source = self.source?;
        let Some(via) = self.top_via() else { return Some(source.address) };
        if via.asks_rport() || source.routing == ResponseRouting::Symmetric {
            return Some(source.address);
        }
        Some(SocketAddr::new(source.address.ip(), via.port().unwrap_or(5060)))
    }
}

impl fmt::Debug for Fields {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Fields")
            .field("call_id", &self.header_text(HeaderName::CallId))
            .field("count", &self.list.len())
            .field("body_length", &self.body_bytes().len())
            .finish_non_exhaustive()
    }
}

/// The individual values of one header name; see [`Fields::headers`].
#[derive(Clone, Debug)]
pub struct Values<'a> {
    fields: &'a Fields,
    name: HeaderName,
    next: usize,
    list: Option<CommaList<'a>>,
}

impl<'a> Iterator for Values<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        loop {
            if let Some(value) = self.list.as_mut().and_then(|list| list.find(|value| !value.is_empty())) {
                return Some(value);
            }
            self.list = None;
            let offset = self.fields.list[self.next..].iter().position(|field| field.name == self.name)?;
            let value = self.fields.list[self.next + offset].value.of(&self.fields.bytes);
            self.next += offset + 1;
            if !self.name.is_list() {
                return Some(value);
            }
            self.list = Some(CommaList::new(value));
        }
    }
}
