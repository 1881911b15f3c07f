//! What can be wrong with bytes that claim to be a SIP message, and the status that answers it.
//!
//! No text from the peer is kept in an error; what could be read stays available as [`Unreadable`], so
//! that a refusal can still be addressed. RFC 3261 section 21.4, RFC 4475.

use crate::message::{HeaderName, Unreadable};

/// One reason why a message is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing but line ends: a keep-alive (RFC 5626 section 3.5.1), not a message.
    #[error("no message, only line ends")]
    Empty,
    /// More bytes than [`crate::message::MAX_MESSAGE`].
    #[error("message longer than the limit")]
    TooLarge,
    /// The start line is neither a Request-Line nor a Status-Line (RFC 3261 section 7.1, 7.2).
    #[error("malformed start line")]
    StartLine,
    /// A version other than SIP/2.0.
    #[error("unsupported SIP version")]
    Version,
    /// The Request-URI does not parse, or holds what a Request-URI may not (RFC 3261 section 19.1.1).
    #[error("malformed request-URI")]
    RequestUri,
    /// The Request-URI is longer than [`crate::message::MAX_HEADER`].
    #[error("request-URI longer than the limit")]
    RequestUriTooLong,
    /// A status outside 100 to 699.
    #[error("status code out of range")]
    StatusCode,
    /// A header line without a name, or without a colon.
    #[error("malformed header line")]
    HeaderLine,
    /// A carriage return that ends no line: other parsers take it for a line end.
    #[error("bare carriage return in the header section")]
    BareCarriageReturn,
    /// More header fields than [`crate::message::MAX_HEADERS`].
    #[error("too many header fields")]
    TooManyHeaders,
    /// One header field longer than [`crate::message::MAX_HEADER`].
    #[error("header field longer than the limit")]
    HeaderTooLong,
    /// The message ends in the middle of a header line.
    #[error("header section cut off")]
    Truncated,
    /// A Content-Length that is no number, or several that differ (RFC 4475 sections 3.1.2.3, 3.3.9).
    #[error("malformed or contradictory Content-Length")]
    ContentLength,
    /// A Content-Length larger than what arrived (RFC 3261 section 18.3).
    #[error("Content-Length beyond the end of the message")]
    BodyTooShort,
    /// A mandatory header is absent (RFC 3261 section 8.1.1).
    #[error("missing {}", .0.as_str())]
    Missing(HeaderName),
    /// A header that stands once stands twice, or holds two values (RFC 4475 section 3.3.8).
    #[error("more than one {}", .0.as_str())]
    Repeated(HeaderName),
    /// A header that must be understood does not parse.
    #[error("malformed {}", .0.as_str())]
    Malformed(HeaderName),
    /// The method is unknown and CSeq names another (RFC 4475 section 3.1.2.18).
    #[error("unknown method that CSeq does not repeat")]
    UnknownMethod,
    /// The method of CSeq differs from the request's (RFC 3261 section 8.1.1.5).
    #[error("CSeq method differs from the request's")]
    MethodMismatch,
}

impl Fault {
    /// The status that refuses a request with this fault.
    pub fn status(self) -> u16 {
        match self {
            Self::TooLarge => 513,
            Self::UnknownMethod => 501,
            Self::Version => 505,
            Self::RequestUriTooLong => 414,
            Self::Empty
            | Self::StartLine
            | Self::RequestUri
            | Self::StatusCode
            | Self::HeaderLine
            | Self::BareCarriageReturn
            | Self::TooManyHeaders
            | Self::HeaderTooLong
            | Self::Truncated
            | Self::ContentLength
            | Self::BodyTooShort
            | Self::Missing(_)
            | Self::Repeated(_)
            | Self::Malformed(_)
            | Self::MethodMismatch => 400,
        }
    }

    /// A reason phrase that says what is wrong, as RFC 3261 section 21.4.1 wishes ("Missing Call-ID
    /// header field").
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "Message Too Large",
            Self::UnknownMethod => "Not Implemented",
            Self::Version => "Version Not Supported",
            Self::RequestUriTooLong => "Request-URI Too Long",
            Self::RequestUri => "Bad Request-URI",
            Self::StartLine => "Bad Request-Line",
            Self::ContentLength | Self::BodyTooShort => "Bad Content-Length",
            Self::Missing(_) => "Missing Header Field",
            Self::Repeated(_) => "Repeated Header Field",
            Self::Malformed(_) => "Malformed Header Field",
            Self::MethodMismatch => "CSeq Method Mismatch",
            Self::Empty
            | Self::StatusCode
            | Self::HeaderLine
            | Self::BareCarriageReturn
            | Self::TooManyHeaders
            | Self::HeaderTooLong
            | Self::Truncated => "Bad Request",
        }
    }
}

/// A message that is not taken: the first fault found, and what could be read around it.
#[derive(Debug, thiserror::Error)]
#[error("{fault}")]
pub struct ParseError {
    fault: Fault,
    unreadable: Option<Box<Unreadable>>,
}

impl ParseError {
    pub(crate) fn new(fault: Fault, unreadable: Option<Unreadable>) -> Self {
        Self { fault, unreadable: unreadable.map(Box::new) }
    }

    /// The first fault found.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The status to refuse with.
    pub fn status(&self) -> u16 {
        self.fault.status()
    }

    /// What could be read, when it was a request that a refusal can be sent to: it has a readable topmost
    /// Via and is no ACK. `None` means: drop it without a word.
    pub fn refusable(&self) -> Option<&Unreadable> {
        self.unreadable.as_deref().filter(|request| request.is_refusable())
    }

    /// As [`Self::refusable`], by value.
    pub fn into_refusable(self) -> Option<Unreadable> {
        self.unreadable.map(|boxed| *boxed).filter(Unreadable::is_refusable)
    }
}
