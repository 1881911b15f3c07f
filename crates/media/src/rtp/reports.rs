//! The reports of one session: when they are due, what ours say, what the peer's said.
//!
//! It decides nothing about addresses: where reports come from and go to is the session's.
//!
//! RFC 3550 sections 6.2 to 6.4 and 6.6; RFC 7022 (CNAME).

use std::time::{Duration, Instant};

use super::receive::{Receiver, ReceptionReport};
use super::rtcp::{self, Block, Compound, Intervals, SenderInfo};
use super::send::Sender;

/// Where our NTP clock begins, in seconds: RFC 3550 section 4 allows a clock of the sender's own, and a
/// zero would read as "no report yet".
const NTP_BEGIN: u64 = 0x8000_0000;

/// What the peer's reports told of the path to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RemoteView {
    /// Round trip in 1/65536 seconds.
    pub round_trip: Option<u32>,
    /// The last report on what we send.
    pub report: Option<ReceptionReport>,
    /// Whether the peer said goodbye.
    pub goodbye: bool,
    /// Compounds received.
    pub compounds: u64,
}

/// The reports of one session.
#[derive(Debug)]
pub struct Reports {
    epoch: Instant,
    intervals: Intervals,
    cname: [u8; 16],
    due: Option<Instant>,
    /// Who last sent a sender report, the middle bits of its NTP time, and when it came.
    last_sender_report: Option<(u32, u32, Instant)>,
    packets_at_last: u32,
    remote: RemoteView,
    sent: u64,
}

impl Reports {
    /// Reports of a session that begins now; none is due before [`Reports::schedule`].
    pub fn new(seed: u64, now: Instant) -> Self {
        let mut cname = [0; 16];
        // RFC 7022 section 4.2: a short-term name of random bits, so that it links no two calls.
        for (at, digit) in cname.iter_mut().enumerate() {
            let nibble = (seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> (at * 4) & 0xF) as u8;
            *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
        }
        Self {
            epoch: now,
            intervals: Intervals::new(seed),
            cname,
            due: None,
            last_sender_report: None,
            packets_at_last: 0,
            remote: RemoteView::default(),
            sent: 0,
        }
    }

    /// Sets the time of the next report.
    pub fn schedule(&mut self, now: Instant) {
        self.due = Some(now + self.intervals.next_interval());
    }

    /// When the next report is due.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Ends the reports; whether they had begun.
    pub fn end(&mut self) -> bool {
        self.due.take().is_some()
    }

    /// Takes a compound of the peer.
    pub fn handle(&mut self, compound: &Compound, now: Instant) {
        self.remote.compounds += 1;
        self.remote.goodbye |= compound.goodbye;
        if let Some(sender) = compound.sender {
            self.last_sender_report = Some((compound.ssrc, rtcp::middle(sender.ntp), now));
        }
        if let Some(block) = compound.block {
            self.remote.round_trip = block.round_trip(self.ntp(now)).or(self.remote.round_trip);
            self.remote.report = Some(block.report);
        }
    }

    /// Appends a report on `receiver` to `out`: of a sender if anything was sent since the last (RFC 3550
    /// section 6.4), with a goodbye if asked.
    pub fn write(
        &mut self,
        now: Instant,
        sender: &Sender,
        receiver: &mut Receiver,
        goodbye: bool,
        out: &mut Vec<u8>,
    ) {
        let block = receiver.take_report().map(|report| self.block(report, now));
        let has_sent = std::mem::replace(&mut self.packets_at_last, sender.packets()) != sender.packets();
        let info = has_sent.then(|| SenderInfo {
            ntp: self.ntp(now),
            rtp_timestamp: sender.timestamp(),
            packets: sender.packets(),
            octets: sender.octets(),
        });
        rtcp::write(sender.ssrc(), info, block, &self.cname, goodbye, out);
        self.sent += 1;
    }

    /// A new random source identifier, for after a collision.
    pub fn next_ssrc(&mut self) -> u32 {
        self.packets_at_last = 0;
        self.intervals.next_ssrc()
    }

    /// What the peer's reports told.
    pub fn remote(&self) -> &RemoteView {
        &self.remote
    }

    /// Compounds sent.
    pub fn sent(&self) -> u64 {
        self.sent
    }

    fn block(&self, report: ReceptionReport, now: Instant) -> Block {
        let heard = self.last_sender_report.filter(|(ssrc, ..)| *ssrc == report.ssrc);
        let (last_sender_report, delay_since) = heard.map_or((0, 0), |(_, ntp, at)| {
            let delay = now.saturating_duration_since(at).as_micros() << 16;
            (ntp, u32::try_from(delay / 1_000_000).unwrap_or(u32::MAX))
        });
        Block { report, last_sender_report, delay_since }
    }

    fn ntp(&self, now: Instant) -> u64 {
        let elapsed: Duration = now.saturating_duration_since(self.epoch);
        let fraction = (u64::from(elapsed.subsec_nanos()) << 32) / 1_000_000_000;
        (NTP_BEGIN + elapsed.as_secs()) << 32 | fraction
    }
}
