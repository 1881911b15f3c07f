//! The order of what we send: one source, sequence numbers that rise by one, timestamps that follow the
//! media clock whether or not a packet goes out, the marker on the first packet of a talk spurt.
//!
//! It has no clock: it is told of each frame, and of each frame that is left out.
//!
//! RFC 3550 section 5.1; RFC 3551 section 4.1 (marker); RFC 4733 section 2.5.1.2 (events share the
//! audio's sequence numbers, and take the timestamp of their start).

use super::packet::Header;

/// The sending side of one RTP stream.
#[derive(Debug, Clone)]
pub struct Sender {
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    spurt_begins: bool,
    packets: u32,
    octets: u32,
}

impl Sender {
    /// A stream that begins with the given numbers, which should be random (RFC 3550 section 5.1).
    pub fn new(ssrc: u32, first_sequence: u16, first_timestamp: u32) -> Self {
        Self {
            ssrc,
            sequence: first_sequence,
            timestamp: first_timestamp,
            spurt_begins: true,
            packets: 0,
            octets: 0,
        }
    }

    /// Appends the header of an audio packet to `out`, whose payload follows: of any codec, each byte is a tick of the
    /// clock.
    pub fn audio(&mut self, payload_type: u8, ticks: u32, out: &mut Vec<u8>) {
        let marker = std::mem::take(&mut self.spurt_begins);
        self.packet(marker, payload_type, self.timestamp, &[], out);
        self.octets = self.octets.wrapping_add(ticks);
        self.advance(ticks);
    }

    /// Appends a packet with a timestamp of its own, such as an event's; the media clock stays.
    pub fn event(
        &mut self,
        marker: bool,
        payload_type: u8,
        timestamp: u32,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) {
        self.packet(marker, payload_type, timestamp, payload, out);
    }

    /// Lets the media clock run over samples that are not sent as audio.
    pub fn advance(&mut self, samples: u32) {
        self.timestamp = self.timestamp.wrapping_add(samples);
    }

    /// Tells that audio was left out, so that the next audio packet begins a talk spurt.
    pub fn pause(&mut self) {
        self.spurt_begins = true;
    }

    /// The timestamp of the next sample.
    pub fn timestamp(&self) -> u32 {
        self.timestamp
    }

    /// Our synchronization source.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Takes a new source identifier after a collision (RFC 3550 section 8.2); counts begin anew.
    pub fn change_ssrc(&mut self, ssrc: u32) {
        self.ssrc = ssrc;
        self.spurt_begins = true;
        self.packets = 0;
        self.octets = 0;
    }

    /// Packets sent, as sender reports count them.
    pub fn packets(&self) -> u32 {
        self.packets
    }

    /// Payload octets sent, as sender reports count them.
    pub fn octets(&self) -> u32 {
        self.octets
    }

    fn packet(&mut self, marker: bool, payload_type: u8, timestamp: u32, payload: &[u8], out: &mut Vec<u8>) {
        let header = Header { marker, payload_type, sequence: self.sequence, timestamp, ssrc: self.ssrc };
        header.write(payload, out);
        self.sequence = self.sequence.wrapping_add(1);
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(payload.len() as u32);
    }
}
