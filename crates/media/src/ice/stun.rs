//! STUN binding requests and the responses to them, as far as connectivity checks have them.
//!
//! The MAC is RustCrypto's HMAC-SHA1, the checksum is `crc32fast`'s. RFC 8489 sections 5 (header), 14 (attributes); RFC 8445
//! section 7.1 (attributes of checks).

use std::net::{IpAddr, SocketAddr};

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

const COOKIE: u32 = 0x2112_A442;
const HEADER: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const UNKNOWN_ATTRIBUTES: u16 = 0x000A;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
/// Attributes below this must be understood (RFC 8489 section 14).
const OPTIONAL: u16 = 0x8000;

const MAC_OCTETS: usize = 20;
const FINGERPRINT_XOR: u32 = 0x5354_554E;
/// Attributes that are read of one message.
const ATTRIBUTES_MAX: usize = 32;

/// Whether a datagram is STUN and neither RTP nor RTCP (RFC 7983 section 7).
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| *first < 4)
        && datagram.get(4..8).is_some_and(|cookie| cookie == COOKIE.to_be_bytes())
}

/// A binding request.
#[derive(Debug)]
pub(super) struct Request<'a> {
    message: &'a [u8],
    username: &'a [u8],
    /// Where MESSAGE-INTEGRITY begins, and its value.
    integrity: (usize, &'a [u8]),
    unknown: Option<u16>,
    pub(super) uses_candidate: bool,
    pub(super) claims_controlled: bool,
}

/// What an error response says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Error {
    /// 420.
    UnknownAttribute(u16),
    /// 487.
    RoleConflict,
}

impl<'a> Request<'a> {
    /// Reads a message; `None` for all but binding requests with user name, integrity and, where there is a fingerprint, a
    /// right one.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        if !is_stun(message) || half(message, 0)? != BINDING_REQUEST {
            return None;
        }
        if usize::from(half(message, 2)?) != message.len().checked_sub(HEADER)? {
            return None;
        }
        let mut request = Self {
            message,
            username: b"",
            integrity: (0, b""),
            unknown: None,
            uses_candidate: false,
            claims_controlled: false,
        };
        let mut at = HEADER;
        for _ in 0..ATTRIBUTES_MAX {
            if at == message.len() {
                break;
            }
            let (kind, length) = (half(message, at)?, usize::from(half(message, at + 2)?));
            let value = message.get(at + 4..at + 4 + length)?;
            // RFC 8489 section 14.5: what follows the integrity is ignored, the fingerprint excepted.
            match kind {
                FINGERPRINT => request.check_fingerprint(at, value)?,
                _ if !request.integrity.1.is_empty() => {}
                MESSAGE_INTEGRITY if length == MAC_OCTETS => request.integrity = (at, value),
                USERNAME => request.username = value,
                USE_CANDIDATE => request.uses_candidate = true,
                ICE_CONTROLLED => request.claims_controlled = true,
                PRIORITY => {}
                _ if kind < OPTIONAL => request.unknown = request.unknown.or(Some(kind)),
                _ => {}
            }
            at += 4 + length.next_multiple_of(4);
        }
        (at == message.len() && !request.integrity.1.is_empty()).then_some(request)
    }

    /// Whether the user name begins with our fragment (RFC 8445 section 7.3: "LFRAG:RFRAG").
    pub(super) fn is_for(&self, fragment: &[u8]) -> bool {
        self.username.strip_prefix(fragment).is_some_and(|rest| rest.first() == Some(&b':'))
    }

    /// Whether the request was made by someone who knows the password.
    pub(super) fn is_authentic(&self, password: &[u8]) -> bool {
        let (at, value) = self.integrity;
        mac(&self.message[..at], password).verify_slice(value).is_ok()
    }

    /// An attribute that must be understood and is not.
    pub(super) fn unknown(&self) -> Option<u16> {
        self.unknown
    }

    fn transaction(&self) -> &'a [u8] {
        &self.message[8..HEADER]
    }

    fn check_fingerprint(&self, at: usize, value: &[u8]) -> Option<()> {
        let told = u32::from_be_bytes(value.try_into().ok()?);
        (told == crc32fast::hash(&self.message[..at]) ^ FINGERPRINT_XOR).then_some(())
    }
}

/// Appends a success response that tells the source how we see it.
pub(super) fn write_success(request: &Request<'_>, source: SocketAddr, password: &[u8], out: &mut Vec<u8>) {
    let start = begin(request, BINDING_SUCCESS, out);
    let mut pad = COOKIE.to_be_bytes().to_vec();
    pad.extend_from_slice(request.transaction());
    let port = source.port() ^ (COOKIE >> 16) as u16;
    let (family, mut address) = match source.ip().to_canonical() {
        IpAddr::V4(ip) => (1, ip.octets().to_vec()),
        IpAddr::V6(ip) => (2, ip.octets().to_vec()),
    };
    for (octet, pad) in address.iter_mut().zip(pad) {
        *octet ^= pad;
    }
    let mut value = vec![0, family];
    value.extend_from_slice(&port.to_be_bytes());
    value.extend_from_slice(&address);
    attribute(XOR_MAPPED_ADDRESS, &value, out);
    finish(start, password, out);
}

/// Appends an error response.
pub(super) fn write_error(request: &Request<'_>, error: Error, password: &[u8], out: &mut Vec<u8>) {
    let start = begin(request, BINDING_ERROR, out);
    match error {
        Error::UnknownAttribute(kind) => {
            attribute(ERROR_CODE, b"\0\0\x04\x14Unknown Attribute", out);
            attribute(UNKNOWN_ATTRIBUTES, &kind.to_be_bytes(), out);
        }
        Error::RoleConflict => attribute(ERROR_CODE, b"\0\0\x04\x57Role Conflict", out),
    }
    finish(start, password, out);
}

fn begin(request: &Request<'_>, kind: u16, out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&COOKIE.to_be_bytes());
    out.extend_from_slice(request.transaction());
    start
}

fn attribute(kind: u16, value: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&(value.len() as u16).to_be_bytes());
    out.extend_from_slice(value);
    out.resize(out.len() + value.len().next_multiple_of(4) - value.len(), 0);
}

/// Integrity and fingerprint, each over a length that counts it already (RFC 8489 sections 14.5 and 14.7).
fn finish(start: usize, password: &[u8], out: &mut Vec<u8>) {
    let tag = mac(&out[start..], password).finalize().into_bytes();
    attribute(MESSAGE_INTEGRITY, &tag, out);
    set_length(start, 8, out);
    let checksum = crc32fast::hash(&out[start..]) ^ FINGERPRINT_XOR;
    attribute(FINGERPRINT, &checksum.to_be_bytes(), out);
}

fn set_length(start: usize, more: usize, out: &mut [u8]) {
    let length = (out.len() - start - HEADER + more) as u16;
    out[start + 2..start + 4].copy_from_slice(&length.to_be_bytes());
}

/// The MAC over what stands before it, with a header whose length ends behind it.
fn mac(before: &[u8], password: &[u8]) -> Hmac<Sha1> {
    let mut mac = <Hmac<Sha1> as KeyInit>::new_from_slice(password).expect("HMAC takes keys of any length");
    let length = (before.len() - HEADER + 4 + MAC_OCTETS) as u16;
    mac.update(&before[..2]);
    mac.update(&length.to_be_bytes());
    mac.update(&before[4..]);
    mac
}

fn half(message: &[u8], at: usize) -> Option<u16> {
    message.get(at..at + 2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
}

/// A request as a peer writes it.
#[cfg(test)]
pub(super) fn request_for_tests(attributes: &[(u16, &[u8])], password: &[u8]) -> Vec<u8> {
    let mut out = BINDING_REQUEST.to_be_bytes().to_vec();
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&COOKIE.to_be_bytes());
    out.extend_from_slice(b"transactions");
    for (kind, value) in attributes {
        attribute(*kind, value, &mut out);
    }
    finish(0, password, &mut out);
    out
}

/// Whether a response's length, integrity and fingerprint are right.
#[cfg(test)]
pub(super) fn is_whole_response(response: &[u8], password: &[u8]) -> bool {
    let integrity = response.len() - 8 - 4 - MAC_OCTETS;
    let tag = &response[integrity + 4..response.len() - 8];
    let checksum = crc32fast::hash(&response[..response.len() - 8]) ^ FINGERPRINT_XOR;
    usize::from(half(response, 2).unwrap_or(0)) == response.len() - HEADER
        && mac(&response[..integrity], password).verify_slice(tag).is_ok()
        && response.ends_with(&checksum.to_be_bytes())
}
