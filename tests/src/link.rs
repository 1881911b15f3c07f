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
    blocked: Option<(Instant, Instant)>,
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
        Self { profile, dice, in_burst: false, blocked: None, stream_free_at: None, lost: 0 }
    }

    /// Drops every datagram sent between `from` and `until`, as a one-way partition does.
    pub fn block(&mut self, from: Instant, until: Instant) {
        self.blocked = Some((from, until));
    }

    /// Makes the path clean from now on.
    pub fn heal(&mut self) {
        self.profile = LinkProfile { delay: self.profile.delay, ..LinkProfile::clean() };
        self.in_burst = false;
        self.blocked = None;
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

    fn is_dropped(&mut self, now: Instant) -> bool {
        if self.blocked.is_some_and(|(from, until)| now >= from && now < until) {
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
    }
}
