//! ICE-lite: answers the checks of a peer that does ICE, and believes the one it nominates.
//!
//! A lite agent never checks by itself, so all there is to do is to answer authentic binding requests and to tell which
//! source the peer's `USE-CANDIDATE` chose; whether media goes there is for [`crate::latch`]. What is not authentic is
//! neither answered nor heard: a port that answers strangers tells them that it is there.
//!
//! RFC 8445 sections 2.5, 7.3 (server side), 8.2 (lite); RFC 8489 (STUN); RFC 7675 (consent, which is the same request).

mod stun;

use std::fmt;
use std::net::SocketAddr;

pub use stun::is_stun;

/// Characters of our user name fragment; RFC 8839 section 5.4 wants 24 bits, this has 48.
const FRAGMENT_CHARACTERS: usize = 8;
/// Characters of our password; RFC 8839 section 5.4 wants 128 bits, this has 144.
const PASSWORD_CHARACTERS: usize = 24;
/// Random octets that credentials are made of: six bits each.
pub const CREDENTIAL_OCTETS: usize = FRAGMENT_CHARACTERS + PASSWORD_CHARACTERS;
/// The characters of RFC 8839's `ice-char`: 64, as it happens.
const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Our user name fragment and password for one call.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct IceCredentials {
    characters: [u8; CREDENTIAL_OCTETS],
}

impl IceCredentials {
    /// Credentials made of random octets.
    pub fn from_random(random: &[u8; CREDENTIAL_OCTETS]) -> Self {
        Self { characters: random.map(|octet| ALPHABET[usize::from(octet) % ALPHABET.len()]) }
    }

    /// The user name fragment.
    pub fn fragment(&self) -> &str {
        text(&self.characters[..FRAGMENT_CHARACTERS])
    }

    /// The password. A secret: it goes into the SDP and nowhere else.
    pub fn password(&self) -> &str {
        text(&self.characters[FRAGMENT_CHARACTERS..])
    }
}

/// Shows no password.
impl fmt::Debug for IceCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("IceCredentials").field("fragment", &self.fragment()).finish_non_exhaustive()
    }
}

fn text(characters: &[u8]) -> &str {
    std::str::from_utf8(characters).unwrap_or_default()
}

/// What a check came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Checked {
    /// Not authentic, or nothing that is answered.
    Ignored,
    /// Answered: the response is in the buffer.
    Answered {
        /// The peer nominates the source: media is to go there.
        nominates: bool,
    },
}

/// Answers a STUN message from `source`, appending the response to `out`.
pub fn answer(
    credentials: &IceCredentials,
    source: SocketAddr,
    message: &[u8],
    out: &mut Vec<u8>,
) -> Checked {
    let Some(request) = stun::Request::read(message) else { return Checked::Ignored };
    let is_ours = request.is_for(credentials.fragment().as_bytes())
        && request.is_authentic(credentials.password().as_bytes());
    if !is_ours {
        return Checked::Ignored;
    }
    let key = credentials.password().as_bytes();
    if let Some(unknown) = request.unknown() {
        stun::write_error(&request, stun::Error::UnknownAttribute(unknown), key, out);
        return Checked::Answered { nominates: false };
    }
    if request.claims_controlled {
        // RFC 8445 section 7.3.1.1: a lite agent is the controlled one, always.
        stun::write_error(&request, stun::Error::RoleConflict, key, out);
        return Checked::Answered { nominates: false };
    }
    stun::write_success(&request, source, key, out);
    Checked::Answered { nominates: request.uses_candidate }
}

#[cfg(test)]
mod tests;
