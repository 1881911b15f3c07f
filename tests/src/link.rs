//! A seeded network path: delay, jitter, loss, bursts, duplicates, reordering, corruption, partitions; for streams
//! chunking, stalls and resets.
//!
//! It holds no packets: `send` answers with the moments at which copies arrive, and the world schedules them. A link
//! is one direction. Streams never lose or reorder bytes; they are cut and delayed.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::dice::Dice;

/// What a path does to what is put on it. Rates are per mille.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkProfile {
    /// Least one-way delay.
    pub delay: Duration,
    /// Largest addition to the delay, drawn for each packet.
    pub jitter: Duration,
    /// Uniform loss.
    pub loss: u32,
    /// Chance that a packet starts a burst of loss.
    pub burst_start: u32,
    /// Chance that a burst goes on with the next packet.
    pub burst_continue: u32,
    /// Chance of a second copy.
    pub duplicate: u32,
    /// Chance that a packet is held back by `reorder_by`.
    pub reorder: u32,
    /// How long a reordered packet is held back.
    pub reorder_by: Duration,
    /// Chance that one byte is changed.
    pub corrupt: u32,
    /// SIP datagrams: chance that the message is garbled or cut short.
    pub garble: u32,
    /// Streams: the largest piece in which bytes arrive; 0 for whole writes.
    pub chunk: usize,
    /// Streams: chance that a write waits for `stall_for`.
    pub stall: u32,
    /// Streams: how long a stalled write waits.
    pub stall_for: Duration,
}

impl LinkProfile {
    /// A short clean path: constant delay, nothing lost.
    pub fn clean() -> Self {
        Self {
            delay: Duration::from_millis(5),
            jitter: Duration::ZERO,
            loss: 0,
            burst_start: 0,
            burst_continue: 0,
            duplicate: 0,
            reorder: 0,
            reorder_by: Duration::ZERO,
            corrupt: 0,
            garble: 0,
            chunk: 0,
            stall: 0,
            stall_for: Duration::ZERO,
        }
    }

    /// Whether every packet put on the path arrives once, in order and unchanged, after a constant delay.
    pub fn is_clean(&self) -> bool {
        let quiet = Self { delay: self.delay, chunk: self.chunk, ..Self::clean() };
        *self == quiet
    }
}

/// One direction of a path, with the state that bursts, partitions and streams need.
#[derive(Debug, Clone)]
pub struct Link {
    profile: LinkProfile,
    dice: Dice,
    in_burst: bool,
    blocked: Vec<(Instant, Instant)>,
    stream_free_at: Option<Instant>,
    /// Packets lost so far.
    pub lost: u64,
}

/// One copy of a packet and the moment it arrives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Arrival {
    /// When it arrives.
    pub at: Instant,
    /// What arrives.
    pub payload: Bytes,
}

impl Link {
    /// A path with `profile`, deciding by `dice`.
    pub fn new(profile: LinkProfile, dice: Dice) -> Self {
        Self { profile, dice, in_burst: false, blocked: Vec::new(), stream_free_at: None, lost: 0 }
    }

    /// Cuts the path between `from` and `until`: datagrams are lost, streams wait. A one-way partition.
    pub fn block(&mut self, from: Instant, until: Instant) {
        self.blocked.push((from, until));
    }

    /// Whether the path is cut now.
    pub fn is_cut(&self, now: Instant) -> bool {
        self.blocked.iter().any(|(from, until)| now >= *from && now < *until)
    }

    /// Makes the path clean from now on.
    pub fn heal(&mut self) {
        self.profile = LinkProfile { delay: self.profile.delay, ..LinkProfile::clean() };
        self.in_burst = false;
        self.blocked.clear();
    }

    /// What the path is like now.
    pub fn profile(&self) -> &LinkProfile {
        &self.profile
    }

    /// Puts a datagram on the path; its copies arrive as told through `arrive`.
    pub fn send(&mut self, now: Instant, payload: &Bytes, mut arrive: impl FnMut(Arrival)) {
        if self.is_dropped(now) {
            self.lost += 1;
            return;
        }
        let payload = self.perhaps_corrupt(payload);
        let at = now + self.transit();
        arrive(Arrival { at, payload: payload.clone() });
        if self.dice.chance(self.profile.duplicate) {
            let at = now + self.transit();
            arrive(Arrival { at, payload });
        }
    }

    /// Puts a piece of a stream on the path: in order, cut into chunks, perhaps stalled.
    pub fn stream(&mut self, now: Instant, payload: &Bytes, mut arrive: impl FnMut(Arrival)) {
        let mut at = now + self.profile.delay;
        if self.dice.chance(self.profile.stall) {
            at += self.profile.stall_for;
        }
        for (from, until) in &self.blocked {
            if at >= *from && at < *until {
                at = *until;
            }
        }
        if let Some(free_at) = self.stream_free_at {
            at = at.max(free_at);
        }
        let mut rest = payload.clone();
        while !rest.is_empty() {
            let most = if self.profile.chunk == 0 { rest.len() } else { self.profile.chunk };
            let cut = if self.profile.chunk == 0 {
                rest.len()
            } else {
                (self.dice.between(1, most as u64) as usize).min(rest.len())
            };
            arrive(Arrival { at, payload: rest.split_to(cut) });
            // A later chunk never arrives before an earlier one.
            at += Duration::from_micros(if rest.is_empty() { 0 } else { 300 });
        }
        self.stream_free_at = Some(at);
    }

    /// A SIP message as it arrives garbled, if this one does: bits changed, or its end cut off. The Call-ID stays, for the
    /// world tells calls apart by it.
    pub fn garble(&mut self, payload: &Bytes) -> Option<Bytes> {
        if self.profile.garble == 0 || !self.dice.chance(self.profile.garble) {
            return None;
        }
        let lower = payload.to_ascii_lowercase();
        let kept = lower.windows(9).position(|window| window == b"\ncall-id:").map_or(0..0, |start| {
            let line = lower[start + 1..].iter().position(|byte| *byte == b'\n').unwrap_or(0);
            start..start + line + 2
        });
        let mut bytes = payload.to_vec();
        if self.dice.chance(300) && bytes.len() > kept.end {
            let length = self.dice.between(kept.end as u64, bytes.len() as u64 - 1) as usize;
            bytes.truncate(length);
            return Some(Bytes::from(bytes));
        }
        for _ in 0..self.dice.between(1, 4) {
            let position = self.dice.below(bytes.len() as u64) as usize;
            if !kept.contains(&position) {
                bytes[position] ^= 1 << self.dice.below(7);
            }
        }
        Some(Bytes::from(bytes))
    }

    fn is_dropped(&mut self, now: Instant) -> bool {
        if self.is_cut(now) {
            return true;
        }
        let stays = if self.in_burst { self.profile.burst_continue } else { self.profile.burst_start };
        self.in_burst = self.dice.chance(stays);
        self.in_burst || self.dice.chance(self.profile.loss)
    }

    fn transit(&mut self) -> Duration {
        let mut transit = self.profile.delay;
        if !self.profile.jitter.is_zero() {
            transit += Duration::from_micros(self.dice.below(self.profile.jitter.as_micros() as u64 + 1));
        }
        if self.dice.chance(self.profile.reorder) {
            transit += self.profile.reorder_by;
        }
        transit
    }

    fn perhaps_corrupt(&mut self, payload: &Bytes) -> Bytes {
        if payload.is_empty() || !self.dice.chance(self.profile.corrupt) {
            return payload.clone();
        }
        let mut bytes = payload.to_vec();
        let position = self.dice.below(bytes.len() as u64) as usize;
        bytes[position] ^= 1 << self.dice.below(8);
        Bytes::from(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrivals(link: &mut Link, now: Instant, count: usize) -> Vec<Arrival> {
        let mut all = Vec::new();
        for index in 0..count {
            let payload = Bytes::from(vec![index as u8; 20]);
            link.send(now + Duration::from_millis(20 * index as u64), &payload, |arrival| all.push(arrival));
        }
        all
    }

    #[test]
    fn a_clean_path_delivers_each_packet_once_after_its_delay() {
        let start = Instant::now();
        let mut link = Link::new(LinkProfile::clean(), Dice::new(1));
        let all = arrivals(&mut link, start, 50);
        assert_eq!(all.len(), 50);
        for (index, arrival) in all.iter().enumerate() {
            assert_eq!(arrival.at, start + Duration::from_millis(20 * index as u64 + 5));
        }
    }

    #[test]
    fn the_same_seed_loses_the_same_packets_and_loss_is_near_its_rate() {
        let start = Instant::now();
        let profile = LinkProfile { loss: 100, duplicate: 20, corrupt: 5, ..LinkProfile::clean() };
        let first = arrivals(&mut Link::new(profile.clone(), Dice::new(9)), start, 2000);
        let second = arrivals(&mut Link::new(profile, Dice::new(9)), start, 2000);
        assert_eq!(first, second);
        assert!((1700..1960).contains(&first.len()), "{} arrivals", first.len());
    }

    #[test]
    fn bursts_lose_neighbouring_packets() {
        let start = Instant::now();
        let profile = LinkProfile { burst_start: 20, burst_continue: 800, ..LinkProfile::clean() };
        let mut link = Link::new(profile, Dice::new(3));
        let all = arrivals(&mut link, start, 3000);
        let lost = 3000 - all.len();
        // One burst in 50 packets, 5 long on average: about 9 %.
        assert!((120..500).contains(&lost), "{lost} lost");
    }

    #[test]
    fn a_stream_keeps_every_byte_in_order_at_every_cut() {
        let start = Instant::now();
        let profile = LinkProfile {
            chunk: 7,
            stall: 300,
            stall_for: Duration::from_millis(900),
            ..LinkProfile::clean()
        };
        let mut link = Link::new(profile, Dice::new(4));
        let mut received = Vec::new();
        let mut last = start;
        for index in 0..40_u8 {
            let piece = Bytes::from(vec![index; 33]);
            link.stream(start + Duration::from_millis(u64::from(index)), &piece, |arrival| {
                assert!(arrival.at >= last);
                last = arrival.at;
                received.extend_from_slice(&arrival.payload);
            });
        }
        let sent: Vec<u8> = (0..40_u8).flat_map(|index| vec![index; 33]).collect();
        assert_eq!(received, sent);
    }

    #[test]
    fn a_partition_drops_what_is_sent_while_it_lasts() {
        let start = Instant::now();
        let mut link = Link::new(LinkProfile::clean(), Dice::new(5));
        link.block(start + Duration::from_millis(100), start + Duration::from_millis(200));
        assert_eq!(arrivals(&mut link, start, 20).len(), 15);
        let mut arrived = Vec::new();
        let piece = Bytes::from_static(b"waits");
        link.stream(start + Duration::from_millis(150), &piece, |arrival| arrived.push(arrival.at));
        assert_eq!(arrived, [start + Duration::from_millis(200)], "a stream waits for its end");
    }

    #[test]
    fn what_is_garbled_keeps_its_call_id() {
        let message =
            Bytes::from_static(b"BYE sip:a SIP/2.0\r\nVia: x\r\nCall-ID: c1-77\r\nCSeq: 2 BYE\r\n\r\nbody");
        let mut link = Link::new(LinkProfile { garble: 500, ..LinkProfile::clean() }, Dice::new(6));
        let garbled: Vec<Bytes> = (0..400).filter_map(|_| link.garble(&message)).collect();
        assert!((120..280).contains(&garbled.len()), "{}", garbled.len());
        for bytes in &garbled {
            assert!(bytes.windows(15).any(|window| window == b"\nCall-ID: c1-77"), "{bytes:?}");
        }
        assert!(garbled.iter().any(|bytes| bytes.len() < message.len()), "some are cut short");
    }
}
