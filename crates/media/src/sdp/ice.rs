//! The ICE attributes of a description: what an offer said, and the lines that answer it as an ICE-lite agent.
//!
//! We gather nothing and check nothing: one host candidate for each port, and whoever checks may reach it. An offer whose
//! default address is none of its candidates went through something that rewrote addresses and knows no ICE; it is answered
//! with `a=ice-mismatch` and without ICE (RFC 8839 section 4.2.5).
//!
//! RFC 8839 section 4.4 (attributes), RFC 8445 section 2.5 (lite).

use std::fmt::Write as _;
use std::net::SocketAddr;

use super::lines::{number, words};
use crate::ice::IceCredentials;

/// Candidates that are read.
const CANDIDATES_MAX: usize = 64;

/// What a description says of ICE, at one level or in all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct OfferedIce {
    has_fragment: bool,
    has_password: bool,
    /// Addresses of the candidates for RTP.
    candidates: Vec<SocketAddr>,
}

/// How an offer's ICE is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IceAnswer {
    /// There is none, or none is wanted.
    Absent,
    /// Something rewrote the offer's addresses.
    Mismatch,
    /// We take part under these credentials.
    Lite(IceCredentials),
}

impl OfferedIce {
    /// Reads an attribute if it is one of ICE's.
    pub(super) fn attribute(&mut self, name: &[u8], value: &[u8]) {
        // RFC 8839 section 5.4: four to 256 characters, and 22 to 256.
        if name.eq_ignore_ascii_case(b"ice-ufrag") {
            self.has_fragment = (4..=256).contains(&value.len());
        } else if name.eq_ignore_ascii_case(b"ice-pwd") {
            self.has_password = (22..=256).contains(&value.len());
        } else if name.eq_ignore_ascii_case(b"candidate") && self.candidates.len() < CANDIDATES_MAX {
            self.candidates.extend(rtp_candidate(value));
        }
    }

    /// These attributes, and the session's where there is none. Candidates are a section's own.
    pub(super) fn or(&self, session: &Self) -> Self {
        Self {
            has_fragment: self.has_fragment || session.has_fragment,
            has_password: self.has_password || session.has_password,
            candidates: self.candidates.clone(),
        }
    }

    /// How to answer, when `ours` may be used and RTP is wanted at `default` unless ICE finds better.
    pub(super) fn answer(&self, ours: Option<IceCredentials>, default: SocketAddr) -> IceAnswer {
        let (Some(ours), true, true) = (ours, self.has_fragment, self.has_password) else {
            return IceAnswer::Absent;
        };
        // Candidates that are still to come (RFC 8840) have a default of nowhere, or are none yet.
        let is_to_come = self.candidates.is_empty() || default.ip().is_unspecified();
        match is_to_come || self.candidates.contains(&default) {
            true => IceAnswer::Lite(ours),
            false => IceAnswer::Mismatch,
        }
    }
}

impl IceAnswer {
    /// The credentials, if we take part.
    pub(super) fn credentials(self) -> Option<IceCredentials> {
        match self {
            Self::Lite(ours) => Some(ours),
            Self::Absent | Self::Mismatch => None,
        }
    }

    /// Appends what stands before the first section.
    pub(super) fn write_session(self, text: &mut String) {
        if let Self::Lite(_) = self {
            text.push_str("a=ice-lite\r\n");
        }
    }

    /// Appends what stands in the section whose RTP comes to `address`.
    pub(super) fn write_section(self, text: &mut String, address: SocketAddr, rtcp_mux: bool) {
        match self {
            Self::Absent => {}
            Self::Mismatch => text.push_str("a=ice-mismatch\r\n"),
            Self::Lite(ours) => {
                let _ = write!(text, "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n", ours.fragment(), ours.password());
                // Priorities of a host candidate that is the only one (RFC 8445 section 5.1.2).
                let ip = address.ip();
                let _ = write!(text, "a=candidate:1 1 UDP 2130706431 {ip} {} typ host\r\n", address.port());
                if !rtcp_mux {
                    let port = address.port().wrapping_add(1);
                    let _ = write!(text, "a=candidate:1 2 UDP 2130706430 {ip} {port} typ host\r\n");
                }
            }
        }
    }
}

/// `foundation component transport priority address port typ …`: the address of an UDP candidate for RTP.
fn rtp_candidate(value: &[u8]) -> Option<SocketAddr> {
    let mut words = words(value);
    let component = number(words.nth(1)?)?;
    let transport = words.next()?;
    let address = std::str::from_utf8(words.nth(1)?).ok()?.parse().ok()?;
    let port = u16::try_from(number(words.next()?)?).ok()?;
    (component == 1 && transport.eq_ignore_ascii_case(b"udp")).then_some(SocketAddr::new(address, port))
}
