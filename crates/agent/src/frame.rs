//! What travels over the agent's socket, and what its audio is.
//!
//! Ping, pong, masking, fragments and limits of size are the shell's (RFC 6455).

/// The kind of one complete WebSocket message (RFC 6455, 5.6), or the close of the stream (5.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// A text message: UTF-8.
    Text,
    /// A binary message.
    Binary,
    /// A close frame; its bytes are the two-byte code and the reason, or nothing.
    Close,
}

/// How audio bytes are to be read. All audio is mono.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AudioFormat {
    /// G.711 µ-law, 8000 Hz, one byte a sample.
    Mulaw,
    /// G.711 A-law, 8000 Hz, one byte a sample.
    Alaw,
    /// Signed 16-bit linear, little-endian, at `rate_hz` samples a second.
    Linear16 {
        /// Samples a second.
        rate_hz: u32,
    },
}

impl AudioFormat {
    /// Bytes that one millisecond of this audio takes.
    #[must_use]
    pub const fn bytes_per_ms(self) -> usize {
        match self {
            Self::Mulaw | Self::Alaw => 8,
            Self::Linear16 { rate_hz } => rate_hz as usize / 500,
        }
    }

    /// Bytes that one sample takes.
    #[must_use]
    pub const fn bytes_per_sample(self) -> usize {
        match self {
            Self::Mulaw | Self::Alaw => 1,
            Self::Linear16 { .. } => 2,
        }
    }
}
