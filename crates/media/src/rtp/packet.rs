//! Reads and writes one RTP packet. The one file that names the crate `rtp`.
//!
//! The hot path reads and writes the twelve fixed bytes by hand: `rtp::packet::Packet` owns its payload
//! as `Bytes`, its CSRC list and its extensions as vectors, so that each packet would cost an allocation
//! and a copy (50 ns instead of 2), and the steady state of a call must not allocate. What is taken from
//! the crate is its layout of the header (shifts, masks, offsets), and its reader as judge: the tests
//! hold every packet this file accepts against it.
//!
//! RFC 3550 section 5.1 (header), 5.3.1 (extension), and the validity checks of appendix A.1 that need
//! nothing but the packet.

use rtp::header::{
    CC_MASK, CSRC_LENGTH, CSRC_OFFSET, EXTENSION_MASK, EXTENSION_SHIFT, MARKER_MASK, MARKER_SHIFT,
    PADDING_MASK, PADDING_SHIFT, PT_MASK, SEQ_NUM_OFFSET, SSRC_OFFSET, TIMESTAMP_OFFSET, VERSION_MASK,
    VERSION_SHIFT,
};

/// Bytes of the fixed header.
pub const HEADER_BYTES: usize = CSRC_OFFSET;
/// The only version there is.
const VERSION: u8 = 2;

/// The fields of the fixed header that vary from packet to packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// The marker bit: first packet of a talk spurt, or of an event.
    pub marker: bool,
    /// Payload type, 0 to 127.
    pub payload_type: u8,
    /// Sequence number.
    pub sequence: u16,
    /// Timestamp in units of the payload's clock.
    pub timestamp: u32,
    /// Synchronization source.
    pub ssrc: u32,
}

/// A received packet: its header and its payload without CSRC list, extension and padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// The fixed header.
    pub header: Header,
    /// The payload, which may be empty.
    pub payload: &'a [u8],
}

/// Why a datagram is no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PacketError {
    /// Shorter than its own header says it is.
    #[error("datagram is shorter than its header")]
    Truncated,
    /// Version other than 2: not RTP, or STUN, or noise.
    #[error("version is not 2")]
    Version,
    /// The padding count is zero or larger than the payload.
    #[error("padding does not fit")]
    Padding,
}

impl<'a> Packet<'a> {
    /// Reads a datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, PacketError> {
        let fixed: &[u8; HEADER_BYTES] = datagram.first_chunk().ok_or(PacketError::Truncated)?;
        if fixed[0] >> VERSION_SHIFT & VERSION_MASK != VERSION {
            return Err(PacketError::Version);
        }
        let start = header_octets(datagram).ok_or(PacketError::Truncated)?;
        let mut payload = &datagram[start..];
        if fixed[0] >> PADDING_SHIFT & PADDING_MASK != 0 {
            // RFC 3550 section 5.1: "The last octet of the padding contains a count of how many padding
            // octets should be ignored, including itself."
            let padding = usize::from(*payload.last().ok_or(PacketError::Padding)?);
            if padding == 0 || padding > payload.len() {
                return Err(PacketError::Padding);
            }
            payload = &payload[..payload.len() - padding];
        }
        let header = Header {
            marker: fixed[1] >> MARKER_SHIFT & MARKER_MASK != 0,
            payload_type: fixed[1] & PT_MASK,
            sequence: u16::from_be_bytes([fixed[SEQ_NUM_OFFSET], fixed[SEQ_NUM_OFFSET + 1]]),
            timestamp: word(fixed, TIMESTAMP_OFFSET),
            ssrc: word(fixed, SSRC_OFFSET),
        };
        Ok(Self { header, payload })
    }
}

impl Header {
    /// The twelve bytes of the header, without CSRC, extension or padding.
    pub fn to_bytes(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[0] = VERSION << VERSION_SHIFT;
        bytes[1] = u8::from(self.marker) << MARKER_SHIFT | self.payload_type & PT_MASK;
        bytes[SEQ_NUM_OFFSET..TIMESTAMP_OFFSET].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[TIMESTAMP_OFFSET..SSRC_OFFSET].copy_from_slice(&self.timestamp.to_be_bytes());
        bytes[SSRC_OFFSET..].copy_from_slice(&self.ssrc.to_be_bytes());
        bytes
    }

    /// Appends a whole packet to `out`.
    pub fn write(self, payload: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(&self.to_bytes());
        out.extend_from_slice(payload);
    }
}

/// Length of the header with CSRC list and extension, which SRTP leaves readable; `None` for what is no RTP packet or shorter
/// than its header.
pub fn header_octets(datagram: &[u8]) -> Option<usize> {
    let first = *datagram.get(..HEADER_BYTES)?.first()?;
    if first >> VERSION_SHIFT & VERSION_MASK != VERSION {
        return None;
    }
    let mut end = HEADER_BYTES + usize::from(first & CC_MASK) * CSRC_LENGTH;
    if first >> EXTENSION_SHIFT & EXTENSION_MASK != 0 {
        let words = datagram.get(end + 2..end + 4)?;
        end += 4 + usize::from(u16::from_be_bytes([words[0], words[1]])) * 4;
    }
    (end <= datagram.len()).then_some(end)
}

/// Whether a datagram on a port shared by both is RTCP: RFC 5761 section 4 tells them apart by the
/// second byte, which in RTCP is a packet type of 192 to 223.
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [_, 192..=223, ..])
}

fn word(fixed: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_be_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{Rng, SeedableRng};
    use webrtc_util::marshal::{Marshal, Unmarshal};

    const HEADER: Header = Header {
        marker: true,
        payload_type: 101,
        sequence: 0xFFFE,
        timestamp: 0xDEAD_BEEF,
        ssrc: 0x0102_0304,
    };

    #[test]
    fn what_is_written_is_read_back() {
        let mut bytes = Vec::new();
        HEADER.write(b"abc", &mut bytes);
        assert_eq!(Packet::parse(&bytes), Ok(Packet { header: HEADER, payload: b"abc" }));
    }

    #[test]
    fn the_crate_writes_the_same_bytes() {
        let theirs = rtp::packet::Packet {
            header: rtp::header::Header {
                version: 2,
                marker: true,
                payload_type: 101,
                sequence_number: 0xFFFE,
                timestamp: 0xDEAD_BEEF,
                ssrc: 0x0102_0304,
                ..Default::default()
            },
            payload: bytes::Bytes::from_static(b"abc"),
        };
        let mut ours = Vec::new();
        HEADER.write(b"abc", &mut ours);
        assert_eq!(theirs.marshal().unwrap(), ours);
    }

    #[test]
    fn contributing_sources_extension_and_padding_are_no_payload() {
        let mut bytes = HEADER.to_bytes().to_vec();
        bytes[0] |= 0x20 | 0x10 | 2;
        bytes.extend([0; 8]);
        bytes.extend([0xBE, 0xDE, 0, 1, 0x10, 7, 0, 0]);
        bytes.extend(b"voice");
        bytes.extend([0, 0, 3]);
        assert_eq!(Packet::parse(&bytes).unwrap().payload, b"voice");
    }

    #[test]
    fn every_truncation_and_bad_padding_is_refused() {
        let mut bytes = HEADER.to_bytes().to_vec();
        bytes[0] |= 0x10 | 1;
        bytes.extend([0; 4]);
        bytes.extend([0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert!(Packet::parse(&bytes).unwrap().payload.is_empty());
        for end in 0..bytes.len() {
            assert_eq!(Packet::parse(&bytes[..end]), Err(PacketError::Truncated), "{end} bytes");
        }
        let mut padded = HEADER.to_bytes().to_vec();
        padded[0] |= 0x20;
        assert_eq!(Packet::parse(&padded), Err(PacketError::Padding));
        padded.extend([1, 2, 4]);
        assert_eq!(Packet::parse(&padded), Err(PacketError::Padding));
        padded[14] = 0;
        assert_eq!(Packet::parse(&padded), Err(PacketError::Padding));
        padded[14] = 3;
        assert!(Packet::parse(&padded).unwrap().payload.is_empty());
        assert_eq!(Packet::parse(&[0x40; 40]), Err(PacketError::Version));
    }

    /// Differential: a random datagram we accept must read the same in the crate. The crate also accepts
    /// a padding count of zero, and refuses malformed header extensions that we skip unread.
    #[test]
    fn accepted_datagrams_read_the_same_in_the_crate() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let (mut accepted, mut compared) = (0, 0);
        for _ in 0..200_000 {
            let mut datagram = vec![0; random.next_u32() as usize % 80];
            random.fill_bytes(&mut datagram);
            if let Some(first) = datagram.first_mut() {
                *first = *first & 0x3F | 0x80;
            }
            let Ok(ours) = Packet::parse(&datagram) else { continue };
            accepted += 1;
            let Ok(theirs) = rtp::packet::Packet::unmarshal(&mut datagram.as_slice()) else { continue };
            compared += 1;
            assert_eq!(ours.payload, theirs.payload);
            assert_eq!(ours.header.sequence, theirs.header.sequence_number);
            assert_eq!(ours.header.timestamp, theirs.header.timestamp);
            assert_eq!(ours.header.ssrc, theirs.header.ssrc);
            assert_eq!(ours.header.payload_type, theirs.header.payload_type);
            assert_eq!(ours.header.marker, theirs.header.marker);
        }
        assert!(accepted > 10_000 && compared > 10_000, "{accepted} accepted, {compared} compared");
    }

    #[test]
    fn rtcp_is_told_by_its_second_byte() {
        assert!(is_rtcp(&[0x80, 200, 0, 1]) && is_rtcp(&[0x81, 201, 0, 1]));
        assert!(!is_rtcp(&HEADER.to_bytes()) && !is_rtcp(&[0x80]));
    }
}
