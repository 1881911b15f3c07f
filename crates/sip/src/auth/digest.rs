//! The arithmetic of digest authentication: which hash, over what, in which order.
//!
//! The hashes themselves are RustCrypto's. RFC 7616 section 3.4, RFC 8760 section 2.

use std::fmt;

use md5::Md5;
use sha2::{Sha256, Sha512_256};

/// A hash function of the registry, RFC 7616 section 6.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hash {
    /// MD5, which RFC 8760 keeps for backward compatibility alone.
    Md5,
    /// SHA-256.
    Sha256,
    /// SHA-512 with the initial value and length of SHA-512/256.
    Sha512_256,
}

/// An `algorithm`: a hash and whether A1 is made once a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Algorithm {
    /// The hash.
    pub hash: Hash,
    /// Whether this is the `-sess` variant.
    pub is_session: bool,
}

impl Algorithm {
    /// MD5: what is meant where none is named (RFC 7616 section 3.3).
    pub const MD5: Self = Self { hash: Hash::Md5, is_session: false };
    /// SHA-256.
    pub const SHA_256: Self = Self { hash: Hash::Sha256, is_session: false };
    /// SHA-512-256.
    pub const SHA_512_256: Self = Self { hash: Hash::Sha512_256, is_session: false };

    /// Reads a token in any case.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        [Hash::Md5, Hash::Sha256, Hash::Sha512_256]
            .into_iter()
            .flat_map(|hash| [false, true].map(|is_session| Self { hash, is_session }))
            .find(|known| known.as_str().as_bytes().eq_ignore_ascii_case(token))
    }

    /// The token as it is written.
    pub fn as_str(self) -> &'static str {
        match (self.hash, self.is_session) {
            (Hash::Md5, false) => "MD5",
            (Hash::Md5, true) => "MD5-sess",
            (Hash::Sha256, false) => "SHA-256",
            (Hash::Sha256, true) => "SHA-256-sess",
            (Hash::Sha512_256, false) => "SHA-512-256",
            (Hash::Sha512_256, true) => "SHA-512-256-sess",
        }
    }
}

/// The quality of protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Qop {
    /// The request's method and URI are protected.
    Auth,
    /// Its body too.
    AuthInt,
}

impl Qop {
    /// Reads a token in any case.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        [Self::Auth, Self::AuthInt]
            .into_iter()
            .find(|qop| qop.as_str().as_bytes().eq_ignore_ascii_case(token))
    }

    /// The token as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::AuthInt => "auth-int",
        }
    }
}

/// A hash in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HexDigest {
    digits: [u8; 64],
    length: usize,
}

impl HexDigest {
    /// The digits.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_ref()).expect("hexadecimal digits are ASCII")
    }
}

impl AsRef<[u8]> for HexDigest {
    fn as_ref(&self) -> &[u8] {
        &self.digits[..self.length]
    }
}

impl fmt::Debug for HexDigest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("HexDigest(…)")
    }
}

/// Bytes as lower-case hexadecimal digits, at most 32 of them.
pub(super) fn hex(bytes: &[u8]) -> HexDigest {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut digits = [0; 64];
    for (pair, byte) in digits.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
    HexDigest { digits, length: bytes.len() * 2 }
}

impl Hash {
    /// The hash of the parts with a colon between each two.
    pub(super) fn joined(self, parts: &[&[u8]]) -> HexDigest {
        match self {
            Self::Md5 => joined::<Md5>(parts),
            Self::Sha256 => joined::<Sha256>(parts),
            Self::Sha512_256 => joined::<Sha512_256>(parts),
        }
    }
}

fn joined<D: sha2::Digest>(parts: &[&[u8]]) -> HexDigest {
    let mut digest = D::new();
    for (index, part) in parts.iter().enumerate() {
        if index > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    hex(&digest.finalize())
}

/// Everything a response is computed over. "unq(X) means the value of the quoted-string X without the
/// surrounding quotes and with quoting slashes removed" (RFC 7616 section 3.3).
#[derive(Clone, Copy)]
pub struct DigestInput<'a> {
    /// The algorithm.
    pub algorithm: Algorithm,
    /// `username`
    pub username: &'a [u8],
    /// `realm`
    pub realm: &'a [u8],
    /// The secret both sides know.
    pub password: &'a [u8],
    /// The request's method.
    pub method: &'a [u8],
    /// `uri`
    pub uri: &'a [u8],
    /// `nonce`
    pub nonce: &'a [u8],
    /// `qop`, with `nc` and `cnonce`; `None` for what RFC 2069 began with.
    pub qop: Option<Qop>,
    /// `nc`, eight hexadecimal digits as written.
    pub nonce_count: &'a [u8],
    /// `cnonce`
    pub cnonce: &'a [u8],
    /// The request's body, for auth-int.
    pub body: &'a [u8],
}

impl DigestInput<'_> {
    /// The `response`, RFC 7616 sections 3.4.1 to 3.4.3.
    pub fn response(&self) -> HexDigest {
        let hash = self.algorithm.hash;
        let mut a1 = hash.joined(&[self.username, self.realm, self.password]);
        if self.algorithm.is_session {
            a1 = hash.joined(&[a1.as_ref(), self.nonce, self.cnonce]);
        }
        let a2 = match self.qop {
            None | Some(Qop::Auth) => hash.joined(&[self.method, self.uri]),
            Some(Qop::AuthInt) => hash.joined(&[self.method, self.uri, hash.joined(&[self.body]).as_ref()]),
        };
        match self.qop {
            None => hash.joined(&[a1.as_ref(), self.nonce, a2.as_ref()]),
            Some(qop) => {
                let qop = qop.as_str().as_bytes();
                hash.joined(&[a1.as_ref(), self.nonce, self.nonce_count, self.cnonce, qop, a2.as_ref()])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MUFASA: DigestInput<'_> = DigestInput {
        algorithm: Algorithm::MD5,
        username: b"Mufasa",
        realm: b"testrealm@host.com",
        password: b"Circle Of Life",
        method: b"GET",
        uri: b"/dir/index.html",
        nonce: b"dcd98b7102dd2f0e8b11d0f600bfb0c093",
        qop: Some(Qop::Auth),
        nonce_count: b"00000001",
        cnonce: b"0a4f113b",
        body: b"",
    };

    /// RFC 2617 section 3.5.
    #[test]
    fn rfc_2617_example() {
        assert_eq!(MUFASA.response().as_str(), "6629fae49393a05397450978507c4ef1");
    }

    /// RFC 7616 section 3.9.1.
    #[test]
    fn rfc_7616_examples_for_md5_and_sha_256() {
        let input = DigestInput {
            realm: b"http-auth@example.org",
            password: b"Circle of Life",
            nonce: b"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
            cnonce: b"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
            ..MUFASA
        };
        assert_eq!(input.response().as_str(), "8ca523f5e9506fed4657c9700eebdbec");
        let input = DigestInput { algorithm: Algorithm::SHA_256, ..input };
        let expected = "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1";
        assert_eq!(input.response().as_str(), expected);
    }

    /// RFC 7616 section 3.9.2 with its erratum 4897: the response printed there is SHA-512 cut short.
    #[test]
    fn rfc_7616_example_for_sha_512_256_as_it_should_be() {
        let input = DigestInput {
            algorithm: Algorithm::SHA_512_256,
            username: "J\u{e4}s\u{f8}n Doe".as_bytes(),
            realm: b"api@example.org",
            password: b"Secret, or not?",
            uri: b"/doe.json",
            nonce: b"5TsQWLVdgBdmrQ0XsxbDODV+57QdFR34I9HAbC/RVvkK",
            cnonce: b"NTg6RKcb9boFIAS3KrFK9BGeh+iDa/sm6jUMp2wds69v",
            ..MUFASA
        };
        let expected = "3798d4131c277846293534c3edc11bd8a5e4cdcbff78b05db9d95eeb1cec68a5";
        assert_eq!(input.response().as_str(), expected);
    }

    #[test]
    fn body_session_and_absence_of_qop_change_what_is_hashed() {
        let algorithm = Algorithm { is_session: true, ..Algorithm::MD5 };
        let variants = [
            MUFASA,
            DigestInput { qop: None, ..MUFASA },
            DigestInput { qop: Some(Qop::AuthInt), ..MUFASA },
            DigestInput { qop: Some(Qop::AuthInt), body: b"v=0", ..MUFASA },
            DigestInput { algorithm, ..MUFASA },
        ];
        for (index, one) in variants.iter().enumerate() {
            for other in &variants[index + 1..] {
                assert_ne!(one.response(), other.response());
            }
        }
        // RFC 2069's form, computed by hand: MD5(A1 ":" nonce ":" A2).
        let a1 = Hash::Md5.joined(&[b"Mufasa:testrealm@host.com:Circle Of Life"]);
        let a2 = Hash::Md5.joined(&[b"GET:/dir/index.html"]);
        let expected = Hash::Md5.joined(&[a1.as_ref(), MUFASA.nonce, a2.as_ref()]);
        assert_eq!(variants[1].response(), expected);
    }

    #[test]
    fn tokens_are_read_in_any_case() {
        assert_eq!(Algorithm::from_token(b"md5"), Some(Algorithm::MD5));
        assert_eq!(Algorithm::from_token(b"sha-512-256"), Some(Algorithm::SHA_512_256));
        assert!(Algorithm::from_token(b"MD5-SESS").unwrap().is_session);
        assert_eq!(Algorithm::from_token(b"SHA-1"), None);
        assert_eq!(Qop::from_token(b"AUTH-int"), Some(Qop::AuthInt));
        assert_eq!(Qop::from_token(b"auth-conf"), None);
    }
}
