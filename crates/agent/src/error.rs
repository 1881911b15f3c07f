//! What can be wrong with an agent's frame. Each error costs the stream one of its tolerated protocol errors
//! and never more than its own frame.

use thiserror::Error;

/// An agent's frame that could not be understood.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum DialectError {
    /// The dialect has no frames of this kind (binary on Twilio: its error 31950).
    #[error("frame kind not part of this dialect")]
    FrameKind,
    /// Text that should be JSON is not.
    #[error("Unable to parse JSON command")]
    Json,
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// A command or name is longer than its bound.
    #[error("command or name too long")]
    TooLong,
    /// More marks, or digits, are pending than the call may have.
    #[error("too many pending")]
    TooMany,
    /// A field the message needs is missing or has the wrong type.
    #[error("field {0} missing or malformed")]
    Field(&'static str),
    /// A payload is not base64.
    #[error("payload is not base64")]
    Base64,
    /// Audio in a container, coding or rate that is not supported.
    #[error("audio type or rate not supported")]
    Audio,
}

impl DialectError {
    /// The WebSocket close code (RFC 6455, 7.4.1) for a stream that ran out of tolerated errors on this one:
    /// 1003 for data this dialect cannot accept, 1008 for all else.
    #[must_use]
    pub const fn close_code(self) -> u16 {
        match self {
            Self::FrameKind | Self::Audio => 1003,
            Self::Json | Self::Utf8 | Self::TooLong | Self::TooMany | Self::Field(_) | Self::Base64 => 1008,
        }
    }
}
