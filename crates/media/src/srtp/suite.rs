//! The crypto suites, their names in SDP and their lengths.
//!
//! RFC 4568 section 6.2, RFC 6188 section 5, RFC 7714 sections 12 and 14.2.

/// A crypto suite: cipher, MAC and their lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-128 in counter mode, HMAC-SHA1 cut to 80 bits.
    AesCm128HmacSha1_80,
    /// AES-128 in counter mode, HMAC-SHA1 cut to 32 bits; 80 bits for SRTCP (RFC 4568 section 6.2.2).
    AesCm128HmacSha1_32,
    /// AES-256 in counter mode, HMAC-SHA1 cut to 80 bits.
    Aes256CmHmacSha1_80,
    /// AES-256 in counter mode, HMAC-SHA1 cut to 32 bits; 80 bits for SRTCP.
    Aes256CmHmacSha1_32,
    /// AES-128 in Galois counter mode, a tag of 16 octets.
    AeadAes128Gcm,
    /// AES-256 in Galois counter mode, a tag of 16 octets.
    AeadAes256Gcm,
}

impl Suite {
    /// Every suite, in the order in which we offer them: first the one that every peer has, so that also those that
    /// look at nothing but the first line find it; then by strength; a tag of 32 bits is a last resort.
    pub const ALL: [Self; 6] = [
        Self::AesCm128HmacSha1_80,
        Self::AeadAes256Gcm,
        Self::AeadAes128Gcm,
        Self::Aes256CmHmacSha1_80,
        Self::AesCm128HmacSha1_32,
        Self::Aes256CmHmacSha1_32,
    ];

    /// Its registered name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Self::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Self::Aes256CmHmacSha1_80 => "AES_256_CM_HMAC_SHA1_80",
            Self::Aes256CmHmacSha1_32 => "AES_256_CM_HMAC_SHA1_32",
            Self::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The other name under which some devices write it: as the drafts of RFC 6188 had it.
    const fn draft_name(self) -> Option<&'static str> {
        match self {
            Self::Aes256CmHmacSha1_80 => Some("AES_CM_256_HMAC_SHA1_80"),
            Self::Aes256CmHmacSha1_32 => Some("AES_CM_256_HMAC_SHA1_32"),
            Self::AesCm128HmacSha1_80
            | Self::AesCm128HmacSha1_32
            | Self::AeadAes128Gcm
            | Self::AeadAes256Gcm => None,
        }
    }

    /// The suite of a name, in any case, and the name to answer with: the one of its two that was written.
    pub fn from_name(name: &[u8]) -> Option<(Self, &'static str)> {
        Self::ALL.into_iter().find_map(|suite| {
            [Some(suite.name()), suite.draft_name()]
                .into_iter()
                .flatten()
                .find(|known| known.as_bytes().eq_ignore_ascii_case(name))
                .map(|known| (suite, known))
        })
    }

    /// Octets of the master key, and of the session key for the cipher.
    pub const fn key_octets(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::AesCm128HmacSha1_32 | Self::AeadAes128Gcm => 16,
            Self::Aes256CmHmacSha1_80 | Self::Aes256CmHmacSha1_32 | Self::AeadAes256Gcm => 32,
        }
    }

    /// Octets of the master salt.
    pub const fn salt_octets(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Octets of master key and salt together: what `inline:` carries.
    pub const fn master_octets(self) -> usize {
        self.key_octets() + self.salt_octets()
    }

    /// Octets that SRTP adds to a packet.
    pub const fn rtp_tag_octets(self) -> usize {
        match self {
            Self::AesCm128HmacSha1_80 | Self::Aes256CmHmacSha1_80 => 10,
            Self::AesCm128HmacSha1_32 | Self::Aes256CmHmacSha1_32 => 4,
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
        }
    }

    /// Octets of a SRTCP packet's tag.
    pub const fn rtcp_tag_octets(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }

    /// Whether the cipher authenticates by itself.
    pub const fn is_aead(self) -> bool {
        matches!(self, Self::AeadAes128Gcm | Self::AeadAes256Gcm)
    }

    /// Most SRTP packets under one master key: 2^48 (RFC 3711 section 9.2, RFC 7714 section 12).
    pub const fn lifetime(self) -> u64 {
        1 << 48
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_both_spellings_and_answered_as_written() {
        for suite in Suite::ALL {
            let lower = suite.name().to_ascii_lowercase();
            assert_eq!(Suite::from_name(lower.as_bytes()), Some((suite, suite.name())));
        }
        let draft = "AES_CM_256_HMAC_SHA1_80";
        assert_eq!(Suite::from_name(draft.as_bytes()), Some((Suite::Aes256CmHmacSha1_80, draft)));
        for unknown in ["F8_128_HMAC_SHA1_80", "AES_192_CM_HMAC_SHA1_80", "", "AES_CM_128_HMAC_SHA1_80 "] {
            assert_eq!(Suite::from_name(unknown.as_bytes()), None, "{unknown}");
        }
    }
}
