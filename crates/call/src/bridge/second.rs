//! A second leg: somebody else on the telephone, to whom the caller was transferred, and the audio between the two.
//!
//! Each leg's own timeline sets the pace of what the other hears: a frame that has come from one leaves for the other at
//! once, and what never came is made up where it is missed, so that neither clock drifts against the other. Equal laws
//! pass bit for bit, other forms of audio are converted where they leave, keys pass as keys. It knows no agent and decides nothing.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_media::session::{Received, Tones};
use tandem_media::{Coding, LatchPolicy, MediaParameters, RtpStatistics};

use super::caller::Caller;

/// Audio that may wait to fill the other leg's next packet: more than the longest packet, so it is never met.
const WAITING_MAX_MS: usize = 500;

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

/// Audio on its way from one leg to the other, cut into the other's packets. All of it is in the first leg's form.
#[derive(Debug, Default)]
struct Relay {
    waiting: Vec<u8>,
    taken: usize,
    coding: Option<Coding>,
}

impl Relay {
    fn push(&mut self, coding: Coding, audio: &[u8]) {
        let most = WAITING_MAX_MS * coding.bytes_per_ms();
        if self.coding != Some(coding) || self.waiting.len() - self.taken > most {
            self.waiting.clear();
            self.taken = 0;
            self.coding = Some(coding);
        }
        self.waiting.drain(..self.taken);
        self.taken = 0;
        self.waiting.extend_from_slice(audio);
    }

    /// The audio of the next packet, if there is enough of it.
    fn pop(&mut self, packet_ms: usize) -> Option<(Coding, &[u8])> {
        let coding = self.coding?;
        let end = self.taken + packet_ms * coding.bytes_per_ms();
        if packet_ms == 0 || end > self.waiting.len() {
            return None;
        }
        let start = std::mem::replace(&mut self.taken, end);
        self.waiting.get(start..end).map(|audio| (coding, audio))
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
        let mut leg = Caller::new(latch, timeout, Tones::WithoutEvents, seed, now);
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
    pub(super) fn hear_caller(&mut self, coding: Coding, audio: &[u8]) {
        self.to_second.push(coding, audio);
    }

    /// The next packet of either leg for the other. Call until nothing comes.
    pub(super) fn poll_relay(
        &mut self,
        now: Instant,
        caller: &mut Caller,
        buffer: &mut Vec<u8>,
    ) -> Option<Relayed> {
        while self.leg.poll_ingress(now).is_some() {
            if let Some((coding, audio)) = self.leg.ingress_audio() {
                self.to_caller.push(coding, audio);
            }
        }
        while let Some(digit) = self.leg.poll_digit() {
            caller.send_digit(digit.digit, digit.duration_ms);
        }
        while let Some((coding, audio)) = self.to_second.pop(self.leg.packet_ms()) {
            if let Some(to) = self.leg.send(now, coding, audio, buffer) {
                return Some(Relayed::ToSecond(to));
            }
        }
        while let Some((coding, audio)) = self.to_caller.pop(caller.packet_ms()) {
            if let Some(to) = caller.send(now, coding, audio, buffer) {
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
    use tandem_media::Law;

    const ALAW: Coding = Coding::G711(Law::Alaw);
    const MULAW: Coding = Coding::G711(Law::Mulaw);

    #[test]
    fn frames_of_one_length_become_packets_of_another() {
        let mut relay = Relay::default();
        relay.push(ALAW, &[1; 160]);
        assert!(relay.pop(30).is_none());
        relay.push(ALAW, &[2; 160]);
        let (coding, audio) = relay.pop(30).expect("40 ms are there");
        assert_eq!((coding, audio[159], audio[160]), (ALAW, 1, 2));
        assert!(relay.pop(30).is_none());
        relay.push(ALAW, &[3; 160]);
        let (_, audio) = relay.pop(30).expect("the rest and another");
        assert_eq!((audio[79], audio[80]), (2, 3));
        assert!(relay.pop(0).is_none());
    }

    #[test]
    fn what_waits_of_one_form_is_let_go_when_another_comes() {
        let mut relay = Relay::default();
        relay.push(ALAW, &[1; 100]);
        relay.push(MULAW, &[2; 160]);
        let (coding, audio) = relay.pop(20).expect("one packet");
        assert_eq!((coding, audio[0]), (MULAW, 2));
        relay.push(Coding::Linear { rate_hz: 16_000 }, &[3; 640]);
        assert_eq!(relay.pop(20).expect("one packet").1.len(), 640);
    }
}
