//! One direction's session keys at work: a packet in, its protected form out, and back.
//!
//! It knows indices only as numbers it is given; [`super::inbound`] and [`super::outbound`] keep them.
//!
//! **Whose cryptography.** AES in counter mode and HMAC-SHA1 are RustCrypto's `aes`, `ctr`, `hmac` and `sha1`: with the
//! instructions of the processor where it has them, found at run time, and the MAC's two key blocks hashed once for the
//! call. AES-GCM is `ring`'s, which rustls brings anyway, at a fifth of the time of RustCrypto's. The crates that speak
//! whole SRTP (`webrtc-srtp`, `rtc-srtp`, `libsrtp`) allocate for every packet and know no master key identifiers; the
//! first is the second opinion in the tests. Figures: `benches/README.md`.
//!
//! RFC 3711 sections 4.1.1 (counter mode), 4.2 (HMAC-SHA1), 4.3 (key derivation); RFC 6188; RFC 7714 sections 8 and 9.

use aes::{Aes128, Aes256};
use ctr::CtrCore;
use ctr::cipher::{BlockCipherEncrypt, InnerIvInit, KeyInit, StreamCipherCore, consts::U16};
use ctr::flavors::Ctr128BE;
use hmac::{Hmac, Mac};
use ring::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use sha1::Sha1;

use super::{MasterKey, Suite};

/// Octets of a session authentication key (RFC 3711 section 5.2).
const AUTH_KEY_OCTETS: usize = 20;
/// Octets of a SRTCP packet that stay readable: its first header and the sender's identifier.
pub(super) const RTCP_CLEAR_OCTETS: usize = 8;
/// Octets of the E flag and the SRTCP index.
pub(super) const RTCP_INDEX_OCTETS: usize = 4;
/// The E flag: this SRTCP packet is encrypted.
const ENCRYPTED: u32 = 1 << 31;

/// Labels of the key derivation (RFC 3711 section 4.3.2).
const RTP_LABELS: [u8; 3] = [0, 1, 2];
const RTCP_LABELS: [u8; 3] = [3, 4, 5];

/// A packet's tag does not match, or it is too short to have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotAuthentic;

/// Session keys of one direction, for RTP or for RTCP.
pub(super) struct Transform {
    cipher: Cipher,
    salt: [u8; 14],
    tag_octets: usize,
}

/// Each much larger than what points to it, and made once for a call.
enum Cipher {
    Cm128(Box<(Aes128, Hmac<Sha1>)>),
    Cm256(Box<(Aes256, Hmac<Sha1>)>),
    Gcm(Box<LessSafeKey>),
}

impl Transform {
    /// The RTP keys of a master key.
    pub(super) fn rtp(master: &MasterKey) -> Self {
        Self::derive(master, RTP_LABELS, master.suite().rtp_tag_octets())
    }

    /// The RTCP keys of a master key.
    pub(super) fn rtcp(master: &MasterKey) -> Self {
        Self::derive(master, RTCP_LABELS, master.suite().rtcp_tag_octets())
    }

    fn derive(master: &MasterKey, labels: [u8; 3], tag_octets: usize) -> Self {
        let suite = master.suite();
        let (mut key, mut auth, mut salt) = ([0; 32], [0; AUTH_KEY_OCTETS], [0; 14]);
        let key = &mut key[..suite.key_octets()];
        for (label, derived) in labels.into_iter().zip([&mut *key, &mut auth, &mut salt]) {
            derive(master.key(), master.salt(), label, derived);
        }
        if suite.is_aead() {
            salt[suite.salt_octets()..].fill(0);
        }
        Self::from_session_keys(suite, key, &auth, salt, tag_octets)
    }

    fn from_session_keys(suite: Suite, key: &[u8], auth: &[u8], salt: [u8; 14], tag_octets: usize) -> Self {
        const LENGTH: &str = "the suite gives the length";
        let mac = || <Hmac<Sha1> as KeyInit>::new_from_slice(auth).expect("HMAC takes keys of any length");
        let gcm = |algorithm| LessSafeKey::new(UnboundKey::new(algorithm, key).expect(LENGTH));
        let cipher = match suite {
            Suite::AesCm128HmacSha1_80 | Suite::AesCm128HmacSha1_32 => {
                Cipher::Cm128(Box::new((Aes128::new_from_slice(key).expect(LENGTH), mac())))
            }
            Suite::Aes256CmHmacSha1_80 | Suite::Aes256CmHmacSha1_32 => {
                Cipher::Cm256(Box::new((Aes256::new_from_slice(key).expect(LENGTH), mac())))
            }
            Suite::AeadAes128Gcm => Cipher::Gcm(Box::new(gcm(&AES_128_GCM))),
            Suite::AeadAes256Gcm => Cipher::Gcm(Box::new(gcm(&AES_256_GCM))),
        };
        Self { cipher, salt, tag_octets }
    }

    /// Octets of the tag.
    pub(super) fn tag_octets(&self) -> usize {
        self.tag_octets
    }

    /// Protects the RTP packet that `out` holds from `start` on, whose header is `header` octets long.
    pub(super) fn protect_rtp(&self, ssrc: u32, index: u64, header: usize, start: usize, out: &mut Vec<u8>) {
        match &self.cipher {
            Cipher::Cm128(keys) => self.protect_cm(&keys.0, &keys.1, ssrc, index, (start, header), out),
            Cipher::Cm256(keys) => self.protect_cm(&keys.0, &keys.1, ssrc, index, (start, header), out),
            Cipher::Gcm(key) => {
                let (aad, body) = out[start..].split_at_mut(header);
                let nonce = self.nonce(ssrc, index);
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), body);
                out.extend_from_slice(tag.expect("a datagram is no longer than GCM can take").as_ref());
            }
        }
    }

    fn protect_cm<C: BlockCipherEncrypt<BlockSize = U16>>(
        &self,
        aes: &C,
        mac: &Hmac<Sha1>,
        ssrc: u32,
        index: u64,
        (start, header): (usize, usize),
        out: &mut Vec<u8>,
    ) {
        self.keystream(aes, ssrc, index, &mut out[start + header..]);
        let tag = mac_over(mac, &out[start..], &rollovers(index)).finalize().into_bytes();
        out.extend_from_slice(&tag[..self.tag_octets]);
    }

    /// Opens in place a RTP packet from which the key identifier was taken; what is left is `packet` less its tag.
    pub(super) fn unprotect_rtp(
        &self,
        ssrc: u32,
        index: u64,
        header: usize,
        packet: &mut Vec<u8>,
    ) -> Result<(), NotAuthentic> {
        let end =
            packet.len().checked_sub(self.tag_octets).filter(|end| *end >= header).ok_or(NotAuthentic)?;
        match &self.cipher {
            Cipher::Cm128(keys) => {
                verify(mac_over(&keys.1, &packet[..end], &rollovers(index)), &packet[end..])?;
                self.keystream(&keys.0, ssrc, index, &mut packet[header..end]);
            }
            Cipher::Cm256(keys) => {
                verify(mac_over(&keys.1, &packet[..end], &rollovers(index)), &packet[end..])?;
                self.keystream(&keys.0, ssrc, index, &mut packet[header..end]);
            }
            Cipher::Gcm(key) => {
                let (aad, body) = packet.split_at_mut(header);
                let nonce = self.nonce(ssrc, index);
                key.open_in_place(nonce, Aad::from(aad), body).map_err(|_| NotAuthentic)?;
            }
        }
        packet.truncate(end);
        Ok(())
    }

    /// Protects the RTCP compound that `out` holds from `start` on: encrypted behind its first eight octets, then index
    /// and tag in the suite's order (RFC 3711 section 3.4, RFC 7714 section 9.2).
    pub(super) fn protect_rtcp(&self, ssrc: u32, index: u32, start: usize, out: &mut Vec<u8>) {
        let body = start + RTCP_CLEAR_OCTETS;
        let word = (index | ENCRYPTED).to_be_bytes();
        match &self.cipher {
            Cipher::Cm128(keys) => {
                self.keystream(&keys.0, ssrc, index.into(), &mut out[body..]);
                self.seal_rtcp(&keys.1, word, start, out);
            }
            Cipher::Cm256(keys) => {
                self.keystream(&keys.0, ssrc, index.into(), &mut out[body..]);
                self.seal_rtcp(&keys.1, word, start, out);
            }
            Cipher::Gcm(key) => {
                let mut aad = [0; RTCP_CLEAR_OCTETS + RTCP_INDEX_OCTETS];
                aad[..RTCP_CLEAR_OCTETS].copy_from_slice(&out[start..body]);
                aad[RTCP_CLEAR_OCTETS..].copy_from_slice(&word);
                let nonce = self.nonce(ssrc, index.into());
                let tag = key.seal_in_place_separate_tag(nonce, Aad::from(aad), &mut out[body..]);
                out.extend_from_slice(tag.expect("a datagram is no longer than GCM can take").as_ref());
                out.extend_from_slice(&word);
            }
        }
    }

    fn seal_rtcp(&self, mac: &Hmac<Sha1>, word: [u8; 4], start: usize, out: &mut Vec<u8>) {
        out.extend_from_slice(&word);
        let tag = mac_over(mac, &out[start..], &[]).finalize().into_bytes();
        out.extend_from_slice(&tag[..self.tag_octets]);
    }

    /// Opens in place a SRTCP packet from which the key identifier was taken, and the index behind it too where the suite
    /// has it last: `word` is E flag and index as they came, and the last `tag_octets` are the tag. A peer may leave its
    /// RTCP unencrypted by that flag; it is authenticated all the same.
    pub(super) fn unprotect_rtcp(
        &self,
        ssrc: u32,
        word: u32,
        tag_octets: usize,
        packet: &mut Vec<u8>,
    ) -> Result<(), NotAuthentic> {
        let end = packet.len().checked_sub(tag_octets).ok_or(NotAuthentic)?;
        if end < RTCP_CLEAR_OCTETS {
            return Err(NotAuthentic);
        }
        let index = u64::from(word & !ENCRYPTED);
        let is_encrypted = word & ENCRYPTED != 0;
        let body = if is_encrypted { RTCP_CLEAR_OCTETS } else { end };
        match &self.cipher {
            Cipher::Cm128(keys) => {
                verify(mac_over(&keys.1, &packet[..end], &word.to_be_bytes()), &packet[end..])?;
                self.keystream(&keys.0, ssrc, index, &mut packet[body..end]);
            }
            Cipher::Cm256(keys) => {
                verify(mac_over(&keys.1, &packet[..end], &word.to_be_bytes()), &packet[end..])?;
                self.keystream(&keys.0, ssrc, index, &mut packet[body..end]);
            }
            Cipher::Gcm(key) => {
                let nonce = self.nonce(ssrc, index);
                let (clear, sealed) = packet.split_at_mut(body);
                open_rtcp(key, nonce, clear, word, sealed)?;
            }
        }
        packet.truncate(end);
        Ok(())
    }

    /// Encrypts or decrypts by counter mode: the initial counter is `salt * 2^16 xor ssrc * 2^64 xor index * 2^16`.
    fn keystream<C: BlockCipherEncrypt<BlockSize = U16>>(
        &self,
        aes: &C,
        ssrc: u32,
        index: u64,
        data: &mut [u8],
    ) {
        let mut counter = [0; 16];
        counter[..14].copy_from_slice(&self.salt);
        xor(&mut counter[4..8], &ssrc.to_be_bytes());
        xor(&mut counter[8..14], &index.to_be_bytes()[2..]);
        counter_mode(aes, counter, data);
    }

    /// Twelve octets for GCM: two zero octets, SSRC, rollover counter, sequence number (RFC 7714 section 8.1). For RTCP two
    /// zero octets and the index of 31 bits stand where RTP has its index of 48 bits (section 9.1), which is the same number
    /// in the same place.
    fn nonce(&self, ssrc: u32, index: u64) -> Nonce {
        let mut nonce = [0; 12];
        nonce.copy_from_slice(&self.salt[..12]);
        xor(&mut nonce[2..6], &ssrc.to_be_bytes());
        xor(&mut nonce[6..], &index.to_be_bytes()[2..]);
        Nonce::assume_unique_for_key(nonce)
    }
}

/// Names the cipher and no key.
impl std::fmt::Debug for Transform {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self.cipher {
            Cipher::Cm128(_) => "AES-CM-128",
            Cipher::Cm256(_) => "AES-CM-256",
            Cipher::Gcm(_) => "AES-GCM",
        })
    }
}

/// Opens SRTCP under GCM. What is authenticated beside the cipher is the clear part and the index word, which lie apart in
/// the packet: bounded, for an unencrypted compound is all clear.
fn open_rtcp(
    key: &LessSafeKey,
    nonce: Nonce,
    clear: &[u8],
    word: u32,
    sealed: &mut [u8],
) -> Result<(), NotAuthentic> {
    const CLEAR_MAX: usize = 1_500;
    let mut aad = [0; CLEAR_MAX + RTCP_INDEX_OCTETS];
    let length = clear.len() + RTCP_INDEX_OCTETS;
    let aad = aad.get_mut(..length).ok_or(NotAuthentic)?;
    aad[..clear.len()].copy_from_slice(clear);
    aad[clear.len()..].copy_from_slice(&word.to_be_bytes());
    key.open_in_place(nonce, Aad::from(aad), sealed).map(|_| ()).map_err(|_| NotAuthentic)
}

/// The rollover counter, as it goes into the MAC (RFC 3711 section 4.2).
fn rollovers(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

fn mac_over(keyed: &Hmac<Sha1>, packet: &[u8], behind: &[u8]) -> Hmac<Sha1> {
    let mut mac = keyed.clone();
    mac.update(packet);
    mac.update(behind);
    mac
}

/// Compares in constant time.
fn verify(mac: Hmac<Sha1>, tag: &[u8]) -> Result<(), NotAuthentic> {
    mac.verify_truncated_left(tag).map_err(|_| NotAuthentic)
}

fn xor(bytes: &mut [u8], with: &[u8]) {
    for (byte, with) in bytes.iter_mut().zip(with) {
        *byte ^= with;
    }
}

fn counter_mode<C: BlockCipherEncrypt<BlockSize = U16>>(aes: &C, counter: [u8; 16], data: &mut [u8]) {
    let core = CtrCore::<&C, Ctr128BE>::inner_iv_init(aes, &counter.into());
    core.apply_keystream_partial(data.into());
}

/// The key derivation function: counter mode over `label * 2^48 xor salt`, a derivation rate of zero (RFC 3711 section
/// 4.3.3; RFC 6188 section 3 for AES-256; RFC 7714 section 11: a salt of 12 octets has two zero octets behind it).
fn derive(key: &[u8], salt: &[u8], label: u8, derived: &mut [u8]) {
    const LENGTH: &str = "the suite gives the length";
    let mut counter = [0; 16];
    counter[..salt.len()].copy_from_slice(salt);
    counter[7] ^= label;
    derived.fill(0);
    match key.len() {
        16 => counter_mode(&Aes128::new_from_slice(key).expect(LENGTH), counter, derived),
        _ => counter_mode(&Aes256::new_from_slice(key).expect(LENGTH), counter, derived),
    }
}

#[cfg(test)]
#[path = "vectors.rs"]
mod vectors;
