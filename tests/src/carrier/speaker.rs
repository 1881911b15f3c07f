//! A caller's voice as RTP packets: sequence, timestamp, silence, RFC 4733 digits.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_media::Law;

use crate::audio::{Alphabet, Voice};

/// Sends one stream of RTP at a steady pace.
#[derive(Debug)]
pub struct Speaker {
    voice: Voice,
    law: Law,
    payload_type: u8,
    telephone_event: Option<u8>,
    samples_per_packet: usize,
    ssrc: u32,
    sequence: u16,
    timestamp: u32,
    marker: bool,
    /// When the next packet is due.
    pub next_at: Instant,
    /// Packets sent.
    pub sent: u64,
    /// Muted: the clock runs, nothing is sent.
    pub muted: bool,
    /// Parts per million by which this caller's clock is slow (positive) or fast (negative).
    pub skew_ppm: i32,
    digit: Option<DigitInProgress>,
    digits: VecDeque<char>,
    /// Samples of a pause that are left, and whether its comfort noise was sent.
    hush: (usize, bool),
}

#[derive(Debug)]
struct DigitInProgress {
    event: u8,
    timestamp: u32,
    packets: u16,
}

/// RFC 3389.
const COMFORT_NOISE: u8 = 13;

/// Packets of 20 ms in one digit, the last three of them its end.
const DIGIT_PACKETS: u16 = 8;

impl Speaker {
    /// A voice that starts speaking at `now`.
    pub fn new(
        voice: u16,
        law: Law,
        ptime_ms: u8,
        telephone_event: Option<u8>,
        now: Instant,
        bits: u64,
    ) -> Self {
        Self {
            voice: Voice::new(voice, law),
            law,
            payload_type: super::sdp::payload_type(law),
            telephone_event,
            samples_per_packet: usize::from(ptime_ms) * 8,
            ssrc: bits as u32,
            sequence: (bits >> 32) as u16,
            timestamp: (bits >> 16) as u32,
            marker: true,
            next_at: now,
            sent: 0,
            muted: false,
            skew_ppm: 0,
            digit: None,
            digits: VecDeque::new(),
            hush: (0, false),
        }
    }

    /// Presses a key; it is sent as soon as the one before is done.
    pub fn press(&mut self, digit: char) {
        self.digits.push_back(digit);
    }

    /// Says nothing for a while but one packet of comfort noise.
    pub fn hush(&mut self, millis: u16) {
        self.hush = (usize::from(millis) * 8, false);
    }

    /// Its source and the timestamp of what comes next: what its reports are about.
    pub fn stream(&self) -> (u32, u32) {
        (self.ssrc, self.timestamp)
    }

    /// The law spoken.
    pub fn law(&self) -> Law {
        self.law
    }

    /// Speaks on in another law.
    pub fn set_law(&mut self, law: Law) {
        self.law = law;
        self.payload_type = super::sdp::payload_type(law);
        self.voice.set_law(law);
    }

    /// A new stream, as after a restart of the sender: other SSRC, other numbers.
    pub fn restart(&mut self, bits: u64) {
        self.ssrc = bits as u32;
        self.sequence = (bits >> 32) as u16;
        self.timestamp = (bits >> 16) as u32;
        self.marker = true;
    }

    /// The packet due at `next_at`, and moves on; nothing while muted.
    pub fn packet(&mut self, alphabet: &Alphabet) -> Option<Bytes> {
        let samples = self.samples_per_packet;
        let spacing = Duration::from_micros(samples as u64 * 125);
        let skew =
            Duration::from_nanos(samples as u64 * 125 * u64::from(self.skew_ppm.unsigned_abs()) / 1000);
        self.next_at += if self.skew_ppm < 0 { spacing - skew } else { spacing + skew };
        if self.digit.is_none() {
            self.digit = self.next_digit();
        }
        let timestamp = self.timestamp;
        self.timestamp = self.timestamp.wrapping_add(samples as u32);
        let packet = match (self.digit.take(), self.telephone_event) {
            (Some(digit), Some(number)) => Some(self.digit_packet(digit, number)),
            _ if self.muted => None,
            _ if self.hush.0 > 0 => self.hushed(samples, timestamp),
            _ => {
                let mut packet = self.header(self.payload_type, self.marker, timestamp);
                self.marker = false;
                self.voice.speak(alphabet, samples, &mut packet);
                Some(packet)
            }
        };
        packet.map(|packet| {
            self.sequence = self.sequence.wrapping_add(1);
            self.sent += 1;
            Bytes::from(packet)
        })
    }

    fn hushed(&mut self, samples: usize, timestamp: u32) -> Option<Vec<u8>> {
        self.hush.0 = self.hush.0.saturating_sub(samples);
        let is_first = !std::mem::replace(&mut self.hush.1, true);
        // RFC 3551 4.1: the next audio begins a talk spurt.
        self.marker = true;
        is_first.then(|| {
            let mut packet = self.header(COMFORT_NOISE, false, timestamp);
            packet.push(60);
            packet
        })
    }

    fn next_digit(&mut self) -> Option<DigitInProgress> {
        let digit = self.digits.pop_front()?;
        let event = match digit {
            '0'..='9' => digit as u8 - b'0',
            '*' => 10,
            '#' => 11,
            'A'..='D' => digit as u8 - b'A' + 12,
            _ => return None,
        };
        Some(DigitInProgress { event, timestamp: self.timestamp, packets: 0 })
    }

    fn digit_packet(&mut self, mut digit: DigitInProgress, number: u8) -> Vec<u8> {
        // RFC 4733 2.5.1: the marker stands on the first packet alone, the timestamp is the start of the event.
        let mut packet = self.header(number, digit.packets == 0, digit.timestamp);
        digit.packets += 1;
        let ended = digit.packets > DIGIT_PACKETS - 3;
        let lasted = digit.packets.min(DIGIT_PACKETS - 2) * self.samples_per_packet as u16;
        packet.extend_from_slice(&[digit.event, if ended { 0x8a } else { 0x0a }]);
        packet.extend_from_slice(&lasted.to_be_bytes());
        if digit.packets < DIGIT_PACKETS {
            self.digit = Some(digit);
        } else {
            self.marker = true;
        }
        packet
    }

    fn header(&self, payload_type: u8, marker: bool, timestamp: u32) -> Vec<u8> {
        let mut packet = Vec::with_capacity(12 + self.samples_per_packet);
        packet.extend_from_slice(&[0x80, payload_type | if marker { 0x80 } else { 0 }]);
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&timestamp.to_be_bytes());
        packet.extend_from_slice(&self.ssrc.to_be_bytes());
        packet
    }
}
