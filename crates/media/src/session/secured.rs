//! The encrypted side of a session: keys at work, and an eye on a peer whose packets do not open.
//!
//! A carrier that agrees on SRTP and sends in the clear makes a silent call; so does one that uses another key than it told.
//! Both look alike to who only counts packets. Here they are told apart, by what a packet in the clear would look like, so
//! that the record can say it in words. RFC 3711 section 3.3; RFC 4568 section 7.1.4 (change of keys).

use crate::rtp::packet::Packet;
use crate::sdp::MediaParameters;
use crate::srtp::{Inbound, Outbound, Rejected, SrtpKeys};

/// Packets in a row that do not open before it is told: half a second of audio, more than a change of keys leaves behind.
const TROUBLE_PACKETS: u32 = 25;
/// Octets of 10 ms of every codec, of which every plain payload has a whole number; no suite's tag is one.
const STEP_OCTETS: usize = 80;
/// Octets of a telephone event's payload (RFC 4733 section 2.3).
const EVENT_OCTETS: usize = 4;

/// What is wrong with a peer's packets where SRTP was agreed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityTrouble {
    /// They are plain RTP.
    InTheClear,
    /// They are encrypted under another key than the peer told, or no SRTP at all.
    Unauthentic,
    /// The key was used for as many packets as the peer itself allowed (RFC 4568 section 6.1).
    KeyExpired,
}

/// Packets that were not taken for the sake of security.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Refused {
    pub(super) in_the_clear: u64,
    pub(super) rtcp_in_the_clear: u64,
    pub(super) unauthentic: u64,
    pub(super) replayed: u64,
}

/// Keys of both directions at work.
#[derive(Debug)]
pub(super) struct Secured {
    inbound: Inbound,
    pub(super) outbound: Outbound,
    /// The trouble of the last packets, and how many in a row had it.
    run: Option<(SecurityTrouble, u32)>,
}

impl Secured {
    pub(super) fn new(keys: &SrtpKeys) -> Self {
        Self { inbound: Inbound::new(keys.remote), outbound: Outbound::new(keys.local), run: None }
    }

    /// Takes the keys of a renegotiation. A key that stays the same keeps its counters (RFC 3711 section 3.3.1), a new one
    /// begins with counters of zero (RFC 4568 section 7.1.4).
    pub(super) fn change(&mut self, keys: &SrtpKeys) {
        self.inbound.change(keys.remote);
        if *self.outbound.master() != keys.local {
            self.outbound = Outbound::new(keys.local);
        }
        self.run = None;
    }

    /// Opens a RTP packet. Where it fails, the trouble is told when it has lasted, once.
    pub(super) fn open_rtp(
        &mut self,
        packet: &[u8],
        clear: &mut Vec<u8>,
        parameters: &MediaParameters,
        refused: &mut Refused,
    ) -> Result<(), Option<SecurityTrouble>> {
        let trouble = match self.inbound.open_rtp(packet, clear) {
            Ok(()) => {
                self.run = None;
                return Ok(());
            }
            Err(Rejected::Replayed) => {
                refused.replayed += 1;
                return Err(None);
            }
            Err(Rejected::Expired) => SecurityTrouble::KeyExpired,
            Err(Rejected::NotAuthentic) if is_plain(packet, parameters) => {
                refused.in_the_clear += 1;
                SecurityTrouble::InTheClear
            }
            Err(Rejected::NotAuthentic) => {
                refused.unauthentic += 1;
                SecurityTrouble::Unauthentic
            }
        };
        let length = match self.run {
            Some((known, length)) if known == trouble => length.saturating_add(1),
            _ => 1,
        };
        self.run = Some((trouble, length));
        Err((length == TROUBLE_PACKETS).then_some(trouble))
    }

    /// Opens a SRTCP packet.
    pub(super) fn open_rtcp(&mut self, packet: &[u8], clear: &mut Vec<u8>, refused: &mut Refused) -> bool {
        match self.inbound.open_rtcp(packet, clear) {
            Ok(()) => return true,
            Err(Rejected::Replayed) => refused.replayed += 1,
            Err(Rejected::NotAuthentic) if is_plain_rtcp(packet) => refused.rtcp_in_the_clear += 1,
            Err(Rejected::Expired | Rejected::NotAuthentic) => refused.unauthentic += 1,
        }
        false
    }
}

/// Whether a datagram is RTCP in the clear: packets whose lengths add up to it (RFC 3550 section 6.1). Of SRTCP the first
/// header can be read too, but index and tag stand behind what it says.
fn is_plain_rtcp(datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while let [first, kind, high, low, ..] = *rest {
        let octets = (usize::from(u16::from_be_bytes([high, low])) + 1) * 4;
        if first >> 6 != 2 || !(192..=223).contains(&kind) || octets > rest.len() {
            return false;
        }
        rest = &rest[octets..];
    }
    rest.is_empty() && !datagram.is_empty()
}

/// Whether a packet looks as one of this session would in the clear.
fn is_plain(datagram: &[u8], parameters: &MediaParameters) -> bool {
    let Ok(packet) = Packet::parse(datagram) else { return false };
    let payload_type = packet.header.payload_type;
    if parameters.codec_of(payload_type).is_some() {
        return !packet.payload.is_empty() && packet.payload.len() % STEP_OCTETS == 0;
    }
    let event = parameters.telephone_event.map(|event| event.payload_type);
    event == Some(payload_type) && packet.payload.len() == EVENT_OCTETS
}
