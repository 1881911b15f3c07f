//! DTMF as RTP events: one digit for each key press received, and key presses sent.
//!
//! Tones within the audio are found by [`crate::tones`], and events are never turned into tones.
//!
//! RFC 4733 sections 2.3 (payload), 2.5.1 (sending), 2.5.2 (receiving), 3.2 (DTMF events 0 to 15, flash 16).

use std::collections::VecDeque;

use crate::rtp::packet::Header;
use crate::rtp::send::Sender;
use crate::sdp::TelephoneEvent;

/// Bytes of one event's payload.
const PAYLOAD_BYTES: usize = 4;
/// An event that is not continued for this long has ended, though all its end packets are lost: RFC 4733
/// section 2.5.2.2 leaves the bound to us; senders repeat each 50 ms or more often.
const ENDS_AFTER_US: i64 = 150_000;
/// Times the final packet is sent: once and two retransmissions (RFC 4733 section 2.5.1.4).
const FINAL_PACKETS: u8 = 3;
/// Pause between two digits we send, long enough for any decoder behind a gateway.
const PAUSE_MS: u32 = 60;
/// Volume we send, in -dBm0.
const VOLUME: u8 = 10;
/// Shortest and longest digit we send; the longest stays within 16 bits of duration at 16 kHz.
const DURATION_MS: std::ops::RangeInclusive<u32> = 40..=4_000;
/// Digits that may wait to be sent, or to be polled.
pub const QUEUE_MAX: usize = 64;
/// In the order of their event numbers.
const DIGITS: &[u8; 17] = b"0123456789*#ABCD!";

/// A DTMF digit the caller pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// `0` to `9`, `*`, `#`, `A` to `D`, or `!` for a hook flash.
    pub digit: char,
    /// How long it was held.
    pub duration_ms: u32,
}

/// The receiving side: packets of events in, digits out.
///
/// A digit is reported when its press has ended: at the first packet with the end bit, when another event
/// begins, or when nothing more of it has come for 150 ms.
#[derive(Debug, Clone, Default)]
pub struct DtmfReceiver {
    current: Option<Press>,
    /// The last event that was reported, whose retransmitted ends may still come.
    reported: Option<Press>,
    digits: VecDeque<Digit>,
    dropped: u64,
    has_heard_events: bool,
}

#[derive(Debug, Clone, Copy)]
struct Press {
    event: u8,
    /// Timestamp of the packets of the present segment.
    timestamp: u32,
    /// Duration of the present segment, in units of the event's clock.
    duration: u16,
    /// Duration of segments before it.
    earlier: u32,
    clock_hz: u32,
    last_us: i64,
}

impl DtmfReceiver {
    /// Takes the payload of one event packet. Returns whether it could be read.
    pub fn handle(&mut self, header: &Header, payload: &[u8], clock_hz: u32, arrival_us: i64) -> bool {
        self.expire(arrival_us);
        let Some([event, flags, high, low]) = payload.first_chunk::<PAYLOAD_BYTES>().copied() else {
            return false;
        };
        if usize::from(event) >= DIGITS.len() {
            return false;
        }
        let ended = flags & 0x80 != 0;
        self.has_heard_events = true;
        let duration = u16::from_be_bytes([high, low]);
        let press =
            Press { event, timestamp: header.timestamp, duration, earlier: 0, clock_hz, last_us: arrival_us };
        if self.reported.is_some_and(|reported| reported.covers(&press, ended && !header.marker)) {
            return true;
        }
        match &mut self.current {
            Some(current) if current.timestamp == header.timestamp => current.continue_with(press),
            Some(current) if !is_later(header.timestamp, current.timestamp) => return true,
            Some(current) if current.is_split_at(header.timestamp, event) => current.split(press),
            Some(current) if current.is_restamped(&press, header.marker) => current.restamp(press),
            Some(_) => {
                self.report();
                self.current = Some(press);
            }
            None => self.current = Some(press),
        }
        if ended {
            self.report();
        }
        true
    }

    /// Takes a digit that was heard as tones.
    pub fn heard_in_audio(&mut self, digit: Digit) {
        if self.digits.len() == QUEUE_MAX {
            self.dropped += 1;
        } else {
            self.digits.push_back(digit);
        }
    }

    /// Whether any event has come: who sends them means them.
    pub fn has_heard_events(&self) -> bool {
        self.has_heard_events
    }

    /// Ends an event that has not been continued.
    pub fn expire(&mut self, now_us: i64) {
        if self.expires_at_us().is_some_and(|at| at <= now_us) {
            self.report();
        }
    }

    /// When [`DtmfReceiver::expire`] will have something to do.
    pub fn expires_at_us(&self) -> Option<i64> {
        self.current.map(|press| press.last_us + ENDS_AFTER_US)
    }

    /// The next digit.
    pub fn poll(&mut self) -> Option<Digit> {
        self.digits.pop_front()
    }

    /// Forgets a press in progress: the source has changed, and with it the meaning of timestamps.
    pub fn restart(&mut self) {
        self.report();
        self.reported = None;
    }

    /// Digits lost because nobody polled them.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    fn report(&mut self) {
        let Some(press) = self.current.take() else { return };
        self.reported = Some(press);
        if self.digits.len() == QUEUE_MAX {
            self.dropped += 1;
            return;
        }
        let units = u64::from(press.earlier) + u64::from(press.duration);
        let duration_ms = (units * 1_000 / u64::from(press.clock_hz.max(1))) as u32;
        self.digits.push_back(Digit { digit: char::from(DIGITS[usize::from(press.event)]), duration_ms });
    }
}

impl Press {
    fn continue_with(&mut self, press: Self) {
        self.duration = self.duration.max(press.duration);
        self.last_us = press.last_us;
    }

    /// Whether a packet belongs to this press, which is over: a retransmitted end or a straggler. The end
    /// of a gateway that stamps each packet anew (see below) lies within the press, and is as long.
    fn covers(&self, packet: &Self, ended: bool) -> bool {
        let gap = packet.timestamp.wrapping_sub(self.timestamp);
        let again = ended && packet.event == self.event && packet.duration == self.duration;
        !is_later(packet.timestamp, self.timestamp) || (again && gap < u32::from(self.duration))
    }

    /// RFC 4733 section 2.5.1.3: an event longer than 16 bits of duration goes on in a new segment, whose
    /// timestamp is the old one plus the maximum duration. It still is one press.
    fn is_split_at(&self, timestamp: u32, event: u8) -> bool {
        let gap = timestamp.wrapping_sub(self.timestamp);
        event == self.event && self.duration > 0xF000 && (u32::from(self.duration)..=0xFFFF).contains(&gap)
    }

    fn split(&mut self, press: Self) {
        let earlier = self.earlier + press.timestamp.wrapping_sub(self.timestamp);
        *self = Self { earlier, ..press };
    }

    /// Some gateways stamp each packet of an event anew. Its duration goes on rising all the same, and
    /// only its first packet has the marker, which tells it from a second press of the same key.
    fn is_restamped(&self, press: &Self, marker: bool) -> bool {
        let gap = press.timestamp.wrapping_sub(self.timestamp);
        !marker
            && press.event == self.event
            && press.duration > self.duration
            && gap <= u32::from(press.duration - self.duration) + self.clock_hz / 50
    }

    fn restamp(&mut self, press: Self) {
        *self = Self { earlier: self.earlier, ..press };
    }
}

/// Whether timestamp `a` lies after `b` on the wrapping clock.
fn is_later(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) > 0
}

/// The sending side: digits in, event packets out in place of audio, one for each tick of the egress clock.
#[derive(Debug, Clone, Default)]
pub struct DtmfSender {
    waiting: VecDeque<(u8, u32)>,
    sending: Option<Sending>,
    pause_samples: u32,
}

#[derive(Debug, Clone, Copy)]
struct Sending {
    event: u8,
    timestamp: u32,
    /// Samples of the audio clock the digit shall last, and has lasted.
    length: u32,
    elapsed: u32,
    finals_sent: u8,
}

impl DtmfSender {
    /// Queues a digit; `false` when it is none or too many wait. Durations are held to 40 to 4000 ms.
    pub fn push(&mut self, digit: char, duration_ms: u32) -> bool {
        let digit = digit.to_ascii_uppercase();
        let Some(event) = DIGITS.iter().position(|known| char::from(*known) == digit) else { return false };
        if self.waiting.len() == QUEUE_MAX {
            return false;
        }
        let duration_ms = duration_ms.clamp(*DURATION_MS.start(), *DURATION_MS.end());
        self.waiting.push_back((event as u8, duration_ms));
        true
    }

    /// Whether a digit is being sent or waits to be.
    pub fn is_active(&self) -> bool {
        self.sending.is_some() || !self.waiting.is_empty()
    }

    /// Whether the next tick is a digit's: [`DtmfSender::tick`] will send an event and no audio.
    pub fn takes_next_tick(&self) -> bool {
        self.sending.is_some() || (self.pause_samples == 0 && !self.waiting.is_empty())
    }

    /// At a tick of `samples`: appends the event packet that takes the audio's place, if any, and lets the
    /// media clock run. Returns whether it did.
    ///
    /// RFC 4733 section 2.5.1.2: all packets of an event carry the timestamp of its start, the first alone
    /// the marker, the duration grows, and the last is sent three times.
    pub fn tick(
        &mut self,
        samples: u32,
        format: TelephoneEvent,
        sender: &mut Sender,
        out: &mut Vec<u8>,
    ) -> bool {
        let Some(mut sending) = self.next(samples, sender.timestamp()) else { return false };
        let first = sending.elapsed == 0;
        sending.elapsed = (sending.elapsed + samples).min(sending.length);
        let ended = sending.elapsed == sending.length;
        let duration =
            u64::from(sending.elapsed) * u64::from(format.clock_hz) / u64::from(crate::SAMPLE_RATE_HZ);
        let [high, low] = u16::try_from(duration).unwrap_or(u16::MAX).to_be_bytes();
        let payload = [sending.event, u8::from(ended) << 7 | VOLUME, high, low];
        sender.event(first, format.payload_type, sending.timestamp, &payload, out);
        sender.advance(samples);
        sending.finals_sent += u8::from(ended);
        if sending.finals_sent < FINAL_PACKETS {
            self.sending = Some(sending);
        } else {
            self.pause_samples = PAUSE_MS * crate::SAMPLE_RATE_HZ / 1_000;
        }
        true
    }

    fn next(&mut self, samples: u32, timestamp: u32) -> Option<Sending> {
        if let Some(sending) = self.sending.take() {
            return Some(sending);
        }
        if self.pause_samples > 0 {
            self.pause_samples = self.pause_samples.saturating_sub(samples);
            return None;
        }
        let (event, duration_ms) = self.waiting.pop_front()?;
        let length = duration_ms * crate::SAMPLE_RATE_HZ / 1_000;
        Some(Sending { event, timestamp, length, elapsed: 0, finals_sent: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtp::packet::Packet;

    const CLOCK_HZ: u32 = 8_000;

    fn header(timestamp: u32, marker: bool) -> Header {
        Header { marker, payload_type: 101, sequence: 0, timestamp, ssrc: 1 }
    }

    fn payload(event: u8, ended: bool, duration: u16) -> [u8; 4] {
        let [high, low] = duration.to_be_bytes();
        [event, u8::from(ended) << 7 | 10, high, low]
    }

    struct Line {
        receiver: DtmfReceiver,
        now_us: i64,
    }

    impl Line {
        fn new() -> Self {
            Self { receiver: DtmfReceiver::default(), now_us: 0 }
        }

        fn packet(&mut self, timestamp: u32, event: u8, ended: bool, duration: u16) {
            let marker = duration <= 160;
            assert!(self.receiver.handle(
                &header(timestamp, marker),
                &payload(event, ended, duration),
                CLOCK_HZ,
                self.now_us
            ));
            self.now_us += 20_000;
        }

        fn digits(&mut self) -> Vec<(char, u32)> {
            self.receiver.expire(self.now_us);
            std::iter::from_fn(|| self.receiver.poll())
                .map(|digit| (digit.digit, digit.duration_ms))
                .collect()
        }
    }

    #[test]
    fn a_press_with_retransmitted_ends_is_one_digit() {
        let mut line = Line::new();
        for duration in [160, 320, 480] {
            line.packet(1_000, 5, false, duration);
        }
        assert_eq!(line.digits(), []);
        for _ in 0..3 {
            line.packet(1_000, 5, true, 640);
        }
        assert_eq!(line.digits(), [('5', 80)]);
    }

    #[test]
    fn every_packet_twice_and_out_of_order_still_is_one_digit() {
        let mut line = Line::new();
        for duration in [320, 160, 320, 160, 640, 480] {
            line.packet(1_000, 11, duration == 640, duration);
        }
        line.packet(1_000, 11, true, 640);
        assert_eq!(line.digits(), [('#', 80)]);
    }

    #[test]
    fn a_press_whose_ends_are_lost_ends_by_time() {
        let mut line = Line::new();
        line.packet(1_000, 1, false, 160);
        line.packet(1_000, 1, false, 320);
        assert_eq!(line.digits(), []);
        assert_eq!(line.receiver.expires_at_us(), Some(20_000 + ENDS_AFTER_US));
        line.now_us += 130_000;
        assert_eq!(line.digits(), [('1', 40)]);
        line.packet(1_000, 1, true, 480);
        assert_eq!(line.digits(), [], "a late end of the same press");
    }

    #[test]
    fn a_press_whose_ends_are_lost_ends_at_the_next_press() {
        let mut line = Line::new();
        line.packet(1_000, 1, false, 800);
        line.packet(3_000, 2, false, 160);
        assert_eq!(line.digits(), [('1', 100)]);
        line.packet(3_000, 2, true, 320);
        line.packet(1_000, 1, true, 960);
        assert_eq!(line.digits(), [('2', 40)]);
    }

    #[test]
    fn only_an_end_packet_arrives() {
        let mut line = Line::new();
        line.packet(1_000, 9, true, 800);
        line.packet(1_000, 9, true, 800);
        assert_eq!(line.digits(), [('9', 100)]);
    }

    #[test]
    fn the_same_key_twice_is_two_digits() {
        let mut line = Line::new();
        for timestamp in [1_000, 2_600] {
            line.packet(timestamp, 7, false, 160);
            line.packet(timestamp, 7, true, 320);
        }
        assert_eq!(line.digits(), [('7', 40), ('7', 40)]);
        line.packet(9_000, 7, false, 160);
        line.packet(10_600, 7, false, 160);
        line.now_us += 200_000;
        assert_eq!(line.digits(), [('7', 20), ('7', 20)], "though both ends are lost");
    }

    /// RFC 4733 section 2.5.1.3.
    #[test]
    fn a_long_press_in_segments_is_one_digit() {
        let mut line = Line::new();
        line.packet(1_000, 3, false, 160);
        line.packet(1_000, 3, false, 0xFFFF);
        line.packet(1_000 + 0xFFFF, 3, false, 320);
        line.packet(1_000 + 0xFFFF, 3, true, 800);
        assert_eq!(line.digits(), [('3', (0xFFFF + 800) / 8)]);
    }

    #[test]
    fn a_gateway_that_stamps_each_packet_anew_gives_one_digit() {
        let mut line = Line::new();
        for (step, duration) in [160_u16, 320, 480, 640].into_iter().enumerate() {
            line.packet(1_000 + step as u32 * 160, 4, duration == 640, duration);
        }
        line.packet(1_640, 4, true, 640);
        line.now_us += 200_000;
        assert_eq!(line.digits().iter().map(|digit| digit.0).collect::<String>(), "4");
    }

    #[test]
    fn a_clock_of_16_khz_halves_the_duration() {
        let mut receiver = DtmfReceiver::default();
        receiver.handle(&header(5, true), &payload(10, true, 1_600), 16_000, 0);
        assert_eq!(receiver.poll(), Some(Digit { digit: '*', duration_ms: 100 }));
    }

    #[test]
    fn what_is_no_digit_is_refused() {
        let mut receiver = DtmfReceiver::default();
        assert!(!receiver.handle(&header(5, true), &payload(32, true, 800), CLOCK_HZ, 0));
        assert!(!receiver.handle(&header(5, true), &[1, 2, 3], CLOCK_HZ, 0));
        assert_eq!(receiver.poll(), None);
        let mut sender = DtmfSender::default();
        assert!(!sender.push('x', 100) && !sender.is_active());
    }

    #[test]
    fn unpolled_digits_are_bounded_and_counted() {
        let mut line = Line::new();
        for press in 0..100 {
            line.packet(1_000 + press * 1_000, 1, true, 160);
        }
        assert_eq!(line.digits().len(), QUEUE_MAX);
        assert_eq!(line.receiver.dropped(), 100 - QUEUE_MAX as u64);
    }

    /// RFC 4733 section 2.5.1: one timestamp, one marker, rising durations, three ends, then a pause.
    #[test]
    fn a_sent_digit_has_the_shape_the_rfc_asks_for_and_is_understood() {
        let mut dtmf = DtmfSender::default();
        let mut sender = Sender::new(9, 100, 5_000);
        let format = TelephoneEvent { payload_type: 101, clock_hz: CLOCK_HZ };
        assert!(dtmf.push('d', 100) && dtmf.push('1', 1));
        let mut receiver = DtmfReceiver::default();
        let (mut events, mut audio) = (Vec::new(), Vec::new());
        for tick in 0..20 {
            let mut out = Vec::new();
            if !dtmf.tick(160, format, &mut sender, &mut out) {
                audio.push(tick);
                sender.audio(0, 160, &mut out);
                continue;
            }
            let packet = Packet::parse(&out).unwrap();
            receiver.handle(&packet.header, packet.payload, CLOCK_HZ, tick * 20_000);
            let duration = u16::from_be_bytes([packet.payload[2], packet.payload[3]]);
            events.push((
                packet.header.sequence,
                packet.header.timestamp,
                packet.header.marker,
                packet.payload[1] >> 7,
                duration,
            ));
        }
        let first: Vec<_> = events.iter().take(7).copied().collect();
        assert_eq!(
            first.iter().map(|event| event.0).collect::<Vec<_>>(),
            [100, 101, 102, 103, 104, 105, 106]
        );
        assert!(first.iter().all(|event| event.1 == 5_000));
        assert_eq!(first.iter().map(|event| event.2).filter(|marker| *marker).count(), 1);
        assert!(first[0].2);
        assert_eq!(
            first.iter().map(|event| event.4).collect::<Vec<_>>(),
            [160, 320, 480, 640, 800, 800, 800]
        );
        assert_eq!(first.iter().map(|event| event.3).collect::<Vec<_>>(), [0, 0, 0, 0, 1, 1, 1]);
        assert_eq!(audio, [7, 8, 9, 14, 15, 16, 17, 18, 19]);
        assert_eq!(events[7].1, 5_000 + 10 * 160, "the media clock ran on");
        assert_eq!(sender.timestamp(), 5_000 + 20 * 160);
        let digits: Vec<char> = std::iter::from_fn(|| receiver.poll()).map(|digit| digit.digit).collect();
        assert_eq!(digits, ['D', '1']);
    }
}
