//! What is spoken on a trunk ([`Codec`]), and the forms in which audio lies in memory ([`Coding`]).
//!
//! Every codec here has 8 bytes for a millisecond and an RTP clock of 8000 Hz, G.722 too: a byte of payload is a tick
//! of the clock. RFC 3551 sections 4.5.2, 4.5.14 and 6.

use crate::g711::Law;
use crate::g722;

/// Bytes of payload, and ticks of the RTP clock, in a millisecond of every codec.
pub const TICKS_PER_MS: usize = 8;

/// A codec of a trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Codec {
    /// G.711: payload type 0 or 8.
    G711(Law),
    /// G.722 at 64 kbit/s: payload type 9, 16 kHz audio.
    G722,
}

impl From<Law> for Codec {
    fn from(law: Law) -> Self {
        Self::G711(law)
    }
}

impl Codec {
    /// G.711 in µ-law.
    pub const PCMU: Self = Self::G711(Law::Mulaw);
    /// G.711 in A-law.
    pub const PCMA: Self = Self::G711(Law::Alaw);
    /// Every codec.
    pub const ALL: [Self; 3] = [Self::PCMU, Self::PCMA, Self::G722];

    /// The static payload type of RFC 3551 table 4.
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::G711(law) => law.payload_type(),
            Self::G722 => 9,
        }
    }

    /// The encoding name SDP knows it by.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::G711(law) => law.encoding_name(),
            Self::G722 => "G722",
        }
    }

    /// Whether an SDP encoding is this one. Some peers give G.722 the clock of its audio, which RFC 3551 section 4.5.2
    /// does not.
    pub fn is_named(self, name: &[u8], clock_hz: u32) -> bool {
        let is_clock = match self {
            Self::G711(_) => clock_hz == crate::SAMPLE_RATE_HZ,
            Self::G722 => clock_hz == crate::SAMPLE_RATE_HZ || clock_hz == g722::RATE_HZ,
        };
        is_clock && name.eq_ignore_ascii_case(self.encoding_name().as_bytes())
    }

    /// The form in which its audio is held: as it is for G.711, decoded for G.722, whose bytes mean nothing out of
    /// their order.
    pub const fn coding(self) -> Coding {
        match self {
            Self::G711(law) => Coding::G711(law),
            Self::G722 => Coding::Linear { rate_hz: g722::RATE_HZ },
        }
    }
}

/// A form of audio in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Coding {
    /// One byte a sample, 8 kHz.
    G711(Law),
    /// Signed 16-bit little-endian samples.
    Linear {
        /// 8000, 16000, 24000 or 48000.
        rate_hz: u32,
    },
}

impl From<Law> for Coding {
    fn from(law: Law) -> Self {
        Self::G711(law)
    }
}

impl Coding {
    /// Bytes of a millisecond.
    pub const fn bytes_per_ms(self) -> usize {
        match self {
            Self::G711(_) => TICKS_PER_MS,
            Self::Linear { rate_hz } => rate_hz as usize / 500,
        }
    }

    /// Samples a second.
    pub const fn rate_hz(self) -> u32 {
        match self {
            Self::G711(_) => crate::SAMPLE_RATE_HZ,
            Self::Linear { rate_hz } => rate_hz,
        }
    }

    /// The byte that silence is made of.
    pub const fn silence(self) -> u8 {
        match self {
            Self::G711(law) => law.silence(),
            Self::Linear { .. } => 0,
        }
    }

    /// Whether a byte may stand in silence: either of a law's two codes nearest to zero, or zero itself.
    pub const fn is_silence(self, byte: u8) -> bool {
        match self {
            Self::G711(law) => law.is_silence(byte),
            Self::Linear { .. } => byte == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_codec_is_known_by_its_name_and_number() {
        for (codec, name, number) in
            [(Codec::PCMU, "pcmu", 0), (Codec::PCMA, "PCMA", 8), (Codec::G722, "g722", 9)]
        {
            assert!(codec.is_named(name.as_bytes(), 8_000));
            assert_eq!(codec.payload_type(), number);
            assert_eq!(Codec::ALL.iter().filter(|other| other.is_named(name.as_bytes(), 8_000)).count(), 1);
        }
        assert!(Codec::G722.is_named(b"G722", 16_000) && !Codec::PCMU.is_named(b"PCMU", 16_000));
    }

    #[test]
    fn a_millisecond_has_as_many_bytes_as_its_rate_asks_for() {
        assert_eq!(Codec::PCMA.coding().bytes_per_ms(), 8);
        assert_eq!(Codec::G722.coding().bytes_per_ms(), 32);
        assert_eq!(Coding::Linear { rate_hz: 48_000 }.bytes_per_ms(), 96);
    }
}
