//! Tandem's reports held against what truly went over the edge: counts, loss, jitter, times, round trip (RFC 3550 6.4).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_media::RtpStatistics;

use super::Findings;
use super::rtp::Egress;
use crate::carrier::reporter::{Compound, Figures, Heard, middle, read, since, units};

/// RFC 3550 6.3.1: half of five seconds, divided by e - 3/2, is the least interval.
const INTERVAL_MIN: Duration = Duration::from_millis(2050);

/// The reports of one call.
#[derive(Debug)]
pub struct Reports {
    start: Instant,
    /// The caller's RTP as it reaches Tandem.
    heard: Heard,
    last_from_caller: Option<(u32, Instant)>,
    last_at: Option<Instant>,
    first_said: Option<(u64, u32)>,
    /// When each sender report left, by the middle of its time.
    left: BTreeMap<u32, Instant>,
    round_trip: Option<Duration>,
    told: Option<Figures>,
    /// Where the caller's reports came from.
    pub sources: Vec<SocketAddr>,
    /// Compounds that left.
    pub count: u32,
}

impl Reports {
    /// Of a call in a run that began at `start`.
    pub fn new(start: Instant) -> Self {
        Self {
            start,
            heard: Heard::default(),
            last_from_caller: None,
            last_at: None,
            first_said: None,
            left: BTreeMap::new(),
            round_trip: None,
            told: None,
            sources: Vec::new(),
            count: 0,
        }
    }

    /// RTP of the caller reaches Tandem.
    pub fn rtp_arrives(&mut self, now: Instant, bytes: &[u8]) {
        self.heard.packet(since(self.start, now), bytes);
    }

    /// A report of the caller reaches Tandem.
    pub fn report_arrives(&mut self, now: Instant, source: SocketAddr, bytes: &[u8]) {
        if !self.sources.contains(&source) {
            self.sources.push(source);
        }
        let Some(compound) = read(bytes) else { return };
        if let Some(sender) = compound.sender {
            self.last_from_caller = Some((middle(sender.ntp), now));
        }
        let Some(block) = compound.block else { return };
        self.told = Some(block);
        if let Some(left_at) = self.left.get(&block.last_report) {
            let delay = Duration::from_micros((u64::from(block.delay) * 1_000_000) >> 16);
            self.round_trip = Some(since(*left_at, now).saturating_sub(delay));
        }
    }

    /// A report leaves Tandem. `is_plain`: nothing on the way makes the model's counts differ from what is right.
    pub fn report_leaves(
        &mut self,
        now: Instant,
        bytes: &[u8],
        is_plain: bool,
        egress: &Egress,
        call: &str,
        findings: &mut Findings,
    ) {
        self.count += 1;
        let Some(compound) = read(bytes) else {
            findings.note("rtcp", now, call, format!("{} bytes are no compound", bytes.len()));
            return;
        };
        if !compound.has_name {
            findings.note("rtcp", now, call, "a compound without CNAME");
        }
        if self.last_at.is_some_and(|last| since(last, now) < INTERVAL_MIN) && !compound.goodbye {
            findings.note("rtcp", now, call, "two reports within two seconds");
        }
        self.last_at = Some(now);
        self.check_sender(now, &compound, egress, call, findings);
        // The model's interval begins with each report, whether it is looked at or not.
        let expected = self.heard.take();
        if is_plain {
            self.check_block(now, compound.block, expected, call, findings);
        }
    }

    /// What the bridge counted in the end.
    pub fn finish(&self, now: Instant, counted: &RtpStatistics, call: &str, findings: &mut Findings) {
        if let Some(told) = self.told
            && (counted.remote_lost, counted.remote_fraction_lost)
                != (Some(told.lost), Some(told.fraction_lost))
        {
            let detail = format!(
                "told {told:?}, counted {:?} of {:?}",
                counted.remote_lost, counted.remote_fraction_lost
            );
            findings.note("rtcp", now, call, detail);
        }
        if let Some(told) = self.told
            && counted.remote_jitter_us != Some(told.jitter * 125)
        {
            findings.note(
                "rtcp",
                now,
                call,
                format!("told {told:?}, counted {:?}", counted.remote_jitter_us),
            );
        }
        let Some(round_trip) = self.round_trip else { return };
        let truth = round_trip.as_micros() as i64;
        if counted.round_trip_us.is_none_or(|us| (i64::from(us) - truth).abs() > 100) {
            let detail = format!("round trip of {truth} us, counted {:?}", counted.round_trip_us);
            findings.note("rtcp", now, call, detail);
        }
    }

    fn check_sender(
        &mut self,
        now: Instant,
        compound: &Compound,
        egress: &Egress,
        call: &str,
        findings: &mut Findings,
    ) {
        if egress.ssrc().is_some_and(|ssrc| ssrc != compound.ssrc) {
            findings.note("rtcp", now, call, "a report under another SSRC than the RTP");
        }
        let Some(sender) = compound.sender else {
            return;
        };
        self.left.insert(middle(sender.ntp), now);
        if (u64::from(sender.packets), u64::from(sender.octets)) != (egress.packets, egress.octets) {
            let detail = format!("{sender:?}, sent were {} of {} octets", egress.packets, egress.octets);
            findings.note("rtcp", now, call, detail);
        }
        let (first_ntp, first_timestamp) = *self.first_said.get_or_insert((sender.ntp, sender.timestamp));
        let elapsed = (u128::from(sender.ntp - first_ntp) * 8000) >> 32;
        let progress = i64::from(sender.timestamp.wrapping_sub(first_timestamp));
        // A frame of either report's phase, and the trim of the clock.
        if (progress - elapsed as i64).abs() > 1000 + elapsed as i64 / 1000 {
            findings.note("rtcp", now, call, format!("+{progress} in RTP, +{elapsed} in NTP"));
        }
    }

    fn check_block(
        &self,
        now: Instant,
        block: Option<Figures>,
        expected: Option<Figures>,
        call: &str,
        findings: &mut Findings,
    ) {
        let (Some(block), Some(expected)) = (block, expected) else {
            if block.is_some() != expected.is_some() {
                findings.note("rtcp", now, call, format!("{block:?} where {expected:?} is right"));
            }
            return;
        };
        let (last_report, delay) =
            self.last_from_caller.map_or((0, 0), |(ntp, at)| (ntp, units(since(at, now))));
        let jitter_is_right = block.jitter.abs_diff(expected.jitter) <= 4 + expected.jitter / 8;
        let same = Figures { jitter: block.jitter, last_report, delay: block.delay, ..expected };
        if block != same || !jitter_is_right || block.delay.abs_diff(delay) > 2 {
            let detail = format!("{block:?} where {:?} is right", Figures { last_report, delay, ..expected });
            findings.note("rtcp", now, call, detail);
        }
    }
}
