//! Master keys: what the SDP carries, and what nothing else may show.
//!
//! RFC 3711 section 3.2.1 (parameters of a master key), RFC 4568 section 6.1.

use std::fmt;

use super::Suite;

/// Octets of the longest master key with its salt: AES-256 in counter mode.
pub const MASTER_OCTETS_MAX: usize = 46;

/// Random octets that a key of our own is made of, whichever suite it turns out to be for.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyMaterial(pub [u8; MASTER_OCTETS_MAX]);

impl KeyMaterial {
    /// What makes a key of ours again, for its own suite.
    pub fn of(key: &MasterKey) -> Self {
        Self(key.octets)
    }
}

/// Shows nothing of it.
impl fmt::Debug for KeyMaterial {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("KeyMaterial")
    }
}

/// A master key identifier: a number that every packet under the key carries in so many octets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mki {
    /// The number; larger ones than this holds are met nowhere.
    pub value: u64,
    /// Octets of it in a packet, 1 to 128.
    pub octets: u8,
}

impl Mki {
    /// Whether the field of a packet holds this number.
    pub(super) fn is(self, field: &[u8]) -> bool {
        let (high, low) = field.split_at(field.len().saturating_sub(8));
        let mut number = [0; 8];
        number[8 - low.len()..].copy_from_slice(low);
        high.iter().all(|octet| *octet == 0) && u64::from_be_bytes(number) == self.value
    }
}

/// A master key with its salt, and what its owner said of its use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    /// Key and salt, and zeros behind.
    octets: [u8; MASTER_OCTETS_MAX],
    /// Most packets under it.
    pub lifetime: u64,
    /// The identifier its packets carry.
    pub mki: Option<Mki>,
}

impl MasterKey {
    /// A key of our own.
    pub fn ours(suite: Suite, material: &KeyMaterial) -> Self {
        let mut octets = [0; MASTER_OCTETS_MAX];
        octets[..suite.master_octets()].copy_from_slice(&material.0[..suite.master_octets()]);
        Self { suite, octets, lifetime: suite.lifetime(), mki: None }
    }

    /// Key and salt as they stand in `inline:`; `None` when their length is not the suite's (RFC 4568 section 6.1: then
    /// the attribute "MUST be considered invalid").
    pub fn from_octets(suite: Suite, inline: &[u8]) -> Option<Self> {
        if inline.len() != suite.master_octets() {
            return None;
        }
        let mut octets = [0; MASTER_OCTETS_MAX];
        octets[..inline.len()].copy_from_slice(inline);
        Some(Self { suite, octets, lifetime: suite.lifetime(), mki: None })
    }

    /// The suite it is for.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt, for the SDP.
    pub fn octets(&self) -> &[u8] {
        &self.octets[..self.suite.master_octets()]
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.octets[..self.suite.key_octets()]
    }

    pub(super) fn salt(&self) -> &[u8] {
        &self.octets[self.suite.key_octets()..self.suite.master_octets()]
    }
}

/// Shows no key.
impl fmt::Debug for MasterKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("MasterKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// What both sides agreed on: one key for each direction, of one suite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SrtpKeys {
    /// Protects what we send.
    pub local: MasterKey,
    /// Protects what the peer sends.
    pub remote: MasterKey,
}

impl SrtpKeys {
    /// The suite of both.
    pub fn suite(&self) -> Suite {
        self.local.suite
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_not_shown() {
        let key = MasterKey::ours(Suite::AesCm128HmacSha1_80, &KeyMaterial([0xAB; MASTER_OCTETS_MAX]));
        let shown = format!("{:?} {:?}", key, SrtpKeys { local: key, remote: key });
        assert!(shown.contains("AesCm128HmacSha1_80"), "{shown}");
        assert!(!shown.contains("171") && !shown.to_lowercase().contains("ab, "), "{shown}");
    }

    #[test]
    fn a_key_has_exactly_the_length_of_its_suite() {
        for suite in Suite::ALL {
            let all = [7; 64];
            for length in 0..all.len() {
                let key = MasterKey::from_octets(suite, &all[..length]);
                assert_eq!(key.is_some(), length == suite.master_octets(), "{suite:?} {length}");
            }
        }
    }

    #[test]
    fn an_identifier_is_compared_as_a_number() {
        let mki = Mki { value: 1, octets: 32 };
        let mut field = [0; 32];
        assert!(!mki.is(&field));
        field[31] = 1;
        assert!(mki.is(&field));
        field[0] = 1;
        assert!(!mki.is(&field));
        assert!(Mki { value: 0x0102, octets: 2 }.is(&[1, 2]));
    }
}
