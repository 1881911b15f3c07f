//! Reliable provisional responses at the callee: numbers, repetition, what waits behind them. RFC 3262 3.
//!
//! Pure data; the endpoint sends and holds the timers.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;

/// Most provisional responses that wait for the PRACK of the one before.
const MAX_QUEUED: usize = 4;

/// A provisional response, its body a session description if it has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Provisional {
    pub(crate) status: u16,
    pub(crate) sdp: Option<Bytes>,
}

/// The reliable provisional responses of one INVITE.
#[derive(Debug)]
pub(crate) struct Reliable {
    /// The RSeq of the last one sent.
    rseq: u32,
    outstanding: Option<Outstanding>,
    queued: VecDeque<Provisional>,
}

/// The one that awaits its PRACK.
#[derive(Debug)]
pub(crate) struct Outstanding {
    /// What is sent again.
    pub(crate) response: Bytes,
    /// The next interval.
    pub(crate) interval: Duration,
    /// Whether it held a session description.
    pub(crate) holds_sdp: bool,
}

/// What to do with a provisional response.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Send it with this RSeq.
    Send(u32),
    /// It waits; RFC 3262 3: "The UAS MUST NOT send a second reliable provisional response until the
    /// first is acknowledged."
    Wait,
    /// Too many wait.
    Full,
}

impl Reliable {
    /// RFC 3262 3: the first RSeq "MUST be between 1 and 2**31 - 1. It is RECOMMENDED that it be chosen
    /// uniformly in this range."; `first` is that number.
    pub(crate) fn new(first: u32) -> Self {
        Self { rseq: first.clamp(1, (1 << 31) - 1) - 1, outstanding: None, queued: VecDeque::new() }
    }

    /// Asks for a turn. "The value of the RSeq in each subsequent reliable provisional response for the same
    /// request MUST be greater by exactly one."
    pub(crate) fn turn(&mut self, provisional: &Provisional) -> Turn {
        if self.outstanding.is_none() {
            self.rseq += 1;
            return Turn::Send(self.rseq);
        }
        if self.queued.len() == MAX_QUEUED {
            return Turn::Full;
        }
        self.queued.push_back(provisional.clone());
        Turn::Wait
    }

    /// Remembers what was sent.
    pub(crate) fn sent(&mut self, outstanding: Outstanding) {
        self.outstanding = Some(outstanding);
    }

    /// Takes the acknowledgement, if `rseq` is the one awaited. RFC 3262 3: "If a PRACK request is received
    /// by the UA core that does not match any unacknowledged reliable provisional response, the UAS MUST
    /// respond to the PRACK with a 481 response."
    pub(crate) fn acknowledge(&mut self, rseq: u32) -> Option<Outstanding> {
        if rseq == self.rseq { self.outstanding.take() } else { None }
    }

    /// The next one that waited.
    pub(crate) fn next(&mut self) -> Option<Provisional> {
        self.queued.pop_front()
    }

    /// The response to send again now, and when the next time comes. RFC 3262 3: the interval "starts at T1
    /// seconds and doubles for each retransmission".
    pub(crate) fn repeat(&mut self) -> Option<(Bytes, Duration)> {
        let outstanding = self.outstanding.as_mut()?;
        outstanding.interval *= 2;
        Some((outstanding.response.clone(), outstanding.interval))
    }

    /// What awaits its PRACK.
    pub(crate) fn outstanding(&self) -> Option<&Outstanding> {
        self.outstanding.as_ref()
    }

    /// The RSeq of the last one sent.
    pub(crate) fn rseq(&self) -> u32 {
        self.rseq
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ringing() -> Provisional {
        Provisional { status: 180, sdp: None }
    }

    fn outstanding() -> Outstanding {
        Outstanding { response: Bytes::new(), interval: Duration::from_millis(500), holds_sdp: false }
    }

    #[test]
    fn the_second_waits_for_the_first_and_its_number_is_one_higher() {
        let mut reliable = Reliable::new(100);
        assert_eq!(reliable.turn(&ringing()), Turn::Send(100));
        reliable.sent(outstanding());
        assert_eq!(reliable.turn(&ringing()), Turn::Wait);
        assert!(reliable.acknowledge(99).is_none());
        assert!(reliable.acknowledge(100).is_some());
        assert!(reliable.acknowledge(100).is_none());
        let next = reliable.next().unwrap();
        assert_eq!(reliable.turn(&next), Turn::Send(101));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut reliable = Reliable::new(1);
        assert_eq!(reliable.turn(&ringing()), Turn::Send(1));
        reliable.sent(outstanding());
        for _ in 0..MAX_QUEUED {
            assert_eq!(reliable.turn(&ringing()), Turn::Wait);
        }
        assert_eq!(reliable.turn(&ringing()), Turn::Full);
    }

    #[test]
    fn repetition_doubles_without_a_cap() {
        let mut reliable = Reliable::new(1);
        reliable.turn(&ringing());
        reliable.sent(outstanding());
        let intervals: Vec<u128> =
            std::iter::from_fn(|| reliable.repeat()).take(4).map(|(_, next)| next.as_millis()).collect();
        assert_eq!(intervals, [1000, 2000, 4000, 8000]);
    }
}
