//! What we send: one source under one master key, its rollover counter and its SRTCP index.
//!
//! No packet index is used twice under a key: indices follow the sequence numbers, which rise, and a new source identifier
//! makes other keystreams. RFC 3711 sections 3.3 and 3.4; RFC 4568 section 6.4: the counter begins at zero.

use super::index::guess;
use super::transform::Transform;
use super::{MasterKey, Suite};
use crate::rtp::packet::header_octets;

/// Protects our RTP and RTCP.
#[derive(Debug)]
pub struct Outbound {
    master: MasterKey,
    rtp: Transform,
    rtcp: Transform,
    /// The source and the highest index of its packets.
    sent: Option<(u32, u64)>,
    rtcp_index: u32,
}

impl Outbound {
    /// A context under a key that nothing was sent with yet.
    pub fn new(master: MasterKey) -> Self {
        Self {
            rtp: Transform::rtp(&master),
            rtcp: Transform::rtcp(&master),
            master,
            sent: None,
            rtcp_index: 0,
        }
    }

    /// The key.
    pub fn master(&self) -> &MasterKey {
        &self.master
    }

    /// The suite.
    pub fn suite(&self) -> Suite {
        self.master.suite()
    }

    /// Protects the RTP packet that `out` holds from `start` on, in place. `false`, and nothing left of the packet, when it
    /// is none, or when its index would be beyond the last: then only a new key helps.
    #[must_use]
    pub fn protect_rtp(&mut self, start: usize, out: &mut Vec<u8>) -> bool {
        let Some((sequence, ssrc, header)) = rtp_facts(&out[start..]) else {
            out.truncate(start);
            return false;
        };
        let index = match self.sent {
            Some((source, highest)) if source == ssrc => guess(highest, sequence),
            _ => Some(u64::from(sequence)),
        };
        let Some(index) = index else {
            out.truncate(start);
            return false;
        };
        self.sent = Some((ssrc, index));
        self.rtp.protect_rtp(ssrc, index, header, start, out);
        true
    }

    /// Protects the RTCP compound that `out` holds from `start` on, in place. `false`, and nothing left of it, when it is
    /// none, or when 2^31 went before it.
    #[must_use]
    pub fn protect_rtcp(&mut self, start: usize, out: &mut Vec<u8>) -> bool {
        let ssrc = out[start..].get(4..8).and_then(|bytes| bytes.first_chunk());
        let (Some(ssrc), true) = (ssrc, self.rtcp_index < 1 << 31) else {
            out.truncate(start);
            return false;
        };
        let ssrc = u32::from_be_bytes(*ssrc);
        self.rtcp.protect_rtcp(ssrc, self.rtcp_index, start, out);
        self.rtcp_index += 1;
        true
    }
}

/// Sequence number, source and length of the header of a RTP packet.
pub(super) fn rtp_facts(packet: &[u8]) -> Option<(u16, u32, usize)> {
    let header = header_octets(packet)?;
    let sequence = u16::from_be_bytes([packet[2], packet[3]]);
    let ssrc = u32::from_be_bytes([packet[8], packet[9], packet[10], packet[11]]);
    Some((sequence, ssrc, header))
}
