//! Session descriptions: reading any offer a carrier sends, answering it as RFC 3264 asks, making our own.
//!
//! [`parse`] reads tolerantly and keeps every line; [`answer()`] answers line for line; [`offer()`] and
//! [`accept_answer`] are the other side. Nothing here opens a port or resolves a name.
//!
//! RFC 4566 and 8866 (SDP), RFC 3264 (offer/answer), RFC 3551 (static payload types), RFC 4733
//! section 2.4 (telephone-event), RFC 3605 (`a=rtcp`), RFC 5761 (`a=rtcp-mux`), RFC 4568 (`a=crypto`), RFC 8839 (ICE).

pub mod answer;
pub mod crypto;
mod ice;
pub mod lines;
pub mod offer;
pub mod params;
pub mod parse;

pub use answer::{AnswerPolicy, Encryption, answer};
pub use crypto::{CryptoFault, CryptoLine};
pub use offer::{OfferPolicy, OfferedKeys, RefusedMedia, accept_answer, offer};
pub use params::{Direction, MediaParameters, TelephoneEvent};
pub use parse::{Description, Offer};

/// Why a description could not be used; see [`SdpError::sip_status`] for what to answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SdpError {
    /// The body is larger than [`lines::BYTES_MAX`].
    #[error("description of {0} bytes is too large")]
    TooLarge(usize),
    /// The body has more lines than [`lines::LINES_MAX`].
    #[error("description has more than {limit} lines", limit = lines::LINES_MAX)]
    TooManyLines,
    /// The body has more media sections than [`parse::SECTIONS_MAX`].
    #[error("description has more than {limit} media sections", limit = parse::SECTIONS_MAX)]
    TooManySections,
    /// The body has neither a `v=` nor an `m=` line: it is no session description.
    #[error("body is no session description")]
    NotSdp,
    /// An `m=` line cannot be read, so the sections cannot be answered one for one.
    #[error("media line {section} cannot be read")]
    BadMediaLine {
        /// Index of the section, from 0.
        section: usize,
    },
    /// There is no audio section that is switched on.
    #[error("no audio is offered")]
    NoAudio,
    /// Audio is offered, but in no codec of the trunk.
    #[error("no codec in common")]
    NoCommonCodec,
    /// Audio is offered encrypted only, and encryption is not to be used.
    #[error("only encrypted audio is offered")]
    EncryptionRequired,
    /// Encryption is required, and audio is in the clear.
    #[error("audio is in the clear, and encryption is required")]
    EncryptionMissing,
    /// Audio is encrypted, but no `a=crypto` line brings a key.
    #[error("audio is encrypted without a key in the description (no a=crypto line; DTLS is not supported)")]
    KeysMissing,
    /// Audio is encrypted, but by no `a=crypto` line that can be used.
    #[error("no a=crypto line can be used; of the first, {0}")]
    KeyUnusable(CryptoFault),
    /// An answer has another number of media sections than the offer (RFC 3264 section 6).
    #[error("answer has {answered} media sections for {offered} offered")]
    SectionCount {
        /// Sections in our offer.
        offered: usize,
        /// Sections in the answer.
        answered: usize,
    },
    /// The answer switched our audio off with port 0.
    #[error("audio was refused by the answer")]
    AudioRefused,
}

impl SdpError {
    /// The SIP status to refuse an offer with: 400 for what cannot be read, 413 for what is too large,
    /// 488 for what cannot be met (RFC 3261 section 21.4).
    pub fn sip_status(self) -> u16 {
        match self {
            Self::TooLarge(_) => 413,
            Self::TooManyLines | Self::TooManySections | Self::NotSdp | Self::BadMediaLine { .. } => 400,
            Self::NoAudio
            | Self::NoCommonCodec
            | Self::EncryptionRequired
            | Self::EncryptionMissing
            | Self::KeysMissing
            | Self::KeyUnusable(_)
            | Self::SectionCount { .. }
            | Self::AudioRefused => 488,
        }
    }
}
