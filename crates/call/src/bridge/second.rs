//! A second leg: somebody else on the telephone, to whom the caller was transferred, and the audio between the two.
//!
//! Each leg's own timeline sets the pace of what the other hears: a frame that has come from one leaves for the other at
//! once, and what never came is made up where it is missed, so that neither clock drifts against the other. Equal laws
//! pass bit for bit, keys pass as keys. It knows no agent and decides nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_media::session::Received;
use tandem_media::{LatchPolicy, Law, MediaParameters, RtpStatistics};

use super::caller::Caller;

/// Audio that may wait to fill the other leg's next packet: more than the longest packet, so it is never met.
const WAITING_MAX: usize = 4_096;

/// The second leg of a bridge.
#[derive(Debug)]
pub(super) struct Second {
    pub(super) leg: Caller,
    to_second: Relay,
    to_caller: Relay,
    /// The leg is over; its goodbye is still to be said.
    pub(super) is_parting: bool,
}

/// A packet for one of the legs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Relayed {
    ToCaller(SocketAddr),
    ToSecond(SocketAddr),
}

/// Audio on its way from one leg to the other, cut into the other's packets. All of it is of the first leg's law.
#[derive(Debug, Default)]
struct Relay {
    waiting: Vec<u8>,
    taken: usize,
    law: Option<Law>,
}

impl Relay {
    fn push(&mut self, law: Law, audio: &[u8]) {
        if self.law != Some(law) || self.waiting.len() - self.taken > WAITING_MAX {
            self.waiting.clear();
            self.taken = 0;
            self.law = Some(law);
        }
        self.waiting.drain(..self.taken);
        self.taken = 0;
        self.waiting.extend_from_slice(audio);
    }

    /// The audio of the next packet, if there is enough of it.
    fn pop(&mut self, bytes: usize) -> Option<(Law, &mut [u8])> {
        let law = self.law?;
        let end = self.taken + bytes;
        if bytes == 0 || end > self.waiting.len() {
            return None;
        }
        let start = std::mem::replace(&mut self.taken, end);
        self.waiting.get_mut(start..end).map(|audio| (law, audio))
    }
}

impl Second {
    pub(super) fn new(
        latch: LatchPolicy,
        media: MediaParameters,
        timeout: Option<Duration>,
        seed: u64,
        now: Instant,
    ) -> Self {
        let mut leg = Caller::new(latch, timeout, seed, now);
        leg.set_media(now, media);
        leg.set_relayed(true, now);
        Self { leg, to_second: Relay::default(), to_caller: Relay::default(), is_parting: false }
    }

    /// Both legs hear each other from now on.
    pub(super) fn join(&mut self, now: Instant) {
        self.leg.start(now);
        (self.to_second, self.to_caller) = (Relay::default(), Relay::default());
    }

    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
        is_rtcp: bool,
    ) -> Received {
        self.leg.handle_datagram(now, source, datagram, is_rtcp)
    }

    /// Takes 20 ms of what the caller said.
    pub(super) fn hear_caller(&mut self, law: Law, audio: &[u8]) {
        self.to_second.push(law, audio);
    }

    /// The next packet of either leg for the other. Call until nothing comes.
    pub(super) fn poll_relay(
        &mut self,
        now: Instant,
        caller: &mut Caller,
        buffer: &mut Vec<u8>,
    ) -> Option<Relayed> {
        while let Some((frame, law)) = self.leg.poll_ingress(now) {
            self.to_caller.push(law, &frame.audio);
        }
        while let Some(digit) = self.leg.poll_digit() {
            caller.send_digit(digit.digit, digit.duration_ms);
        }
        while let Some((law, audio)) = self.to_second.pop(self.leg.frame_bytes()) {
            if let Some(to) = self.leg.send(now, law, audio, buffer) {
                return Some(Relayed::ToSecond(to));
            }
        }
        while let Some((law, audio)) = self.to_caller.pop(caller.frame_bytes()) {
            if let Some(to) = caller.send(now, law, audio, buffer) {
                return Some(Relayed::ToCaller(to));
            }
        }
        None
    }

    pub(super) fn statistics(&self) -> RtpStatistics {
        self.leg.statistics()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_one_length_become_packets_of_another() {
        let mut relay = Relay::default();
        relay.push(Law::Alaw, &[1; 160]);
        assert!(relay.pop(240).is_none());
        relay.push(Law::Alaw, &[2; 160]);
        let (law, audio) = relay.pop(240).expect("320 bytes are there");
        assert_eq!((law, audio[159], audio[160]), (Law::Alaw, 1, 2));
        assert!(relay.pop(240).is_none());
        relay.push(Law::Alaw, &[3; 160]);
        let (_, audio) = relay.pop(240).expect("the rest and another");
        assert_eq!((audio[79], audio[80]), (2, 3));
        assert!(relay.pop(0).is_none());
    }

    #[test]
    fn what_waits_of_one_law_is_let_go_when_another_comes() {
        let mut relay = Relay::default();
        relay.push(Law::Alaw, &[1; 100]);
        relay.push(Law::Mulaw, &[2; 160]);
        let (law, audio) = relay.pop(160).expect("one packet");
        assert_eq!((law, audio[0]), (Law::Mulaw, 2));
    }
}
