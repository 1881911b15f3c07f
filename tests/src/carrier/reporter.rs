//! A caller's RTCP: sender reports with a block on what Tandem sends, and what it takes from Tandem's.
//!
//! Written after RFC 3550 6.4 and appendices A.3 and A.8 in the plainest way, and shared with nothing of the product.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// The caller's own NTP clock begins here, in seconds.
const NTP_BEGIN: u64 = 0x8300_0000;

/// One stream as its receiver counts it.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    /// Its source; `None` until something came.
    pub ssrc: Option<u32>,
    base: u64,
    highest: u64,
    seen: BTreeSet<u64>,
    prior: (u64, u64),
    transit: Option<i64>,
    jitter: f64,
}

/// One report block's figures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// The reported source.
    pub ssrc: u32,
    /// In 256ths, since the block before.
    pub fraction_lost: u8,
    /// In all.
    pub lost: i32,
    /// Highest sequence number.
    pub highest: u16,
    /// In timestamp units.
    pub jitter: u32,
    /// Middle of the last sender report's NTP time.
    pub last_report: u32,
    /// Time since that came, in 1/65536 s.
    pub delay: u32,
}

impl Heard {
    /// A packet that came `at` after some fixed moment. Digits and comfort noise tell nothing of the jitter.
    pub fn packet(&mut self, at: Duration, bytes: &[u8]) {
        let [_, kind, a, b, c, d, e, f, g, h, i, j, ..] = *bytes else { return };
        let sequence = u16::from_be_bytes([a, b]);
        let (timestamp, ssrc) = (u32::from_be_bytes([c, d, e, f]), u32::from_be_bytes([g, h, i, j]));
        let extended = match self.ssrc {
            None => {
                (self.ssrc, self.base) = (Some(ssrc), 1 << 16 | u64::from(sequence));
                self.highest = self.base;
                self.base
            }
            Some(_) => {
                let step = i64::from(sequence.wrapping_sub(self.highest as u16) as i16);
                self.highest.saturating_add_signed(step)
            }
        };
        self.highest = self.highest.max(extended);
        // A copy tells nothing.
        if !self.seen.insert(extended) || !matches!(kind & 0x7f, 0 | 8) {
            return;
        }
        let arrival = (at.as_secs_f64() * 8000.0) as i64;
        let transit = arrival.wrapping_sub(i64::from(timestamp));
        if let Some(before) = self.transit.replace(transit) {
            let deviation = f64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            if deviation < 8000.0 {
                self.jitter += (deviation - self.jitter) / 16.0;
            }
        }
    }

    /// The figures of a block that is written now; a new interval begins.
    pub fn take(&mut self) -> Option<Figures> {
        let ssrc = self.ssrc?;
        let (expected, received) = (self.highest - self.base + 1, self.received());
        let (expected_now, received_now) = (expected - self.prior.0, received - self.prior.1);
        self.prior = (expected, received);
        let lost_now = expected_now.saturating_sub(received_now);
        Some(Figures {
            ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            lost: expected as i32 - received as i32,
            highest: self.highest as u16,
            jitter: self.jitter as u32,
            last_report: 0,
            delay: 0,
        })
    }

    fn received(&self) -> u64 {
        // What came late but was sent before the first that came counts as received all the same.
        self.seen.len() as u64
    }
}

/// What a sender report says of its sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderSays {
    /// 64-bit NTP time.
    pub ntp: u64,
    /// RTP timestamp of the same moment.
    pub timestamp: u32,
    /// Packets.
    pub packets: u32,
    /// Payload octets.
    pub octets: u32,
}

/// A compound, taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Compound {
    /// Who wrote it.
    pub ssrc: u32,
    /// Of a sender report.
    pub sender: Option<SenderSays>,
    /// The one block.
    pub block: Option<Figures>,
    /// A CNAME came with it (RFC 3550 6.1: it must).
    pub has_name: bool,
    /// It says goodbye.
    pub goodbye: bool,
}

/// Takes a compound apart; nothing if it is not one whose lengths add up.
pub fn read(bytes: &[u8]) -> Option<Compound> {
    let word = |at: usize| Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
    let kind = *bytes.get(1)?;
    if !matches!(kind, 200 | 201) {
        return None;
    }
    let mut compound =
        Compound { ssrc: word(4)?, sender: None, block: None, has_name: false, goodbye: false };
    let mut at = 0;
    while at < bytes.len() {
        let (first, kind) = (*bytes.get(at)?, *bytes.get(at + 1)?);
        let length = 4 * (usize::from(u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?])) + 1);
        if first >> 6 != 2 || at + length > bytes.len() {
            return None;
        }
        let mut body = at + 8;
        if kind == 200 {
            let ntp = u64::from(word(body)?) << 32 | u64::from(word(body + 4)?);
            compound.sender = Some(SenderSays {
                ntp,
                timestamp: word(body + 8)?,
                packets: word(body + 12)?,
                octets: word(body + 16)?,
            });
            body += 20;
        }
        if matches!(kind, 200 | 201) && first & 0x1f > 0 {
            let loss = word(body + 4)?;
            compound.block = Some(Figures {
                ssrc: word(body)?,
                fraction_lost: (loss >> 24) as u8,
                lost: ((loss << 8) as i32) >> 8,
                highest: word(body + 8)? as u16,
                jitter: word(body + 12)?,
                last_report: word(body + 16)?,
                delay: word(body + 20)?,
            });
        }
        compound.has_name |= kind == 202 && bytes.get(at + 8) == Some(&1);
        compound.goodbye |= kind == 203;
        at += length;
    }
    Some(compound)
}

/// What a caller reports, and when.
#[derive(Debug, Default)]
pub struct Reporter {
    /// Tandem's RTP as it reaches the caller.
    pub heard: Heard,
    last_report: Option<(u32, Duration)>,
}

impl Reporter {
    /// A report of Tandem came.
    pub fn take_report(&mut self, at: Duration, bytes: &[u8]) {
        if let Some(sender) = read(bytes).and_then(|compound| compound.sender) {
            self.last_report = Some((middle(sender.ntp), at));
        }
    }

    /// The compound to send now, `at` after the fixed moment, for a stream of `ssrc`.
    pub fn write(&mut self, at: Duration, ssrc: u32, timestamp: u32, packets: u64) -> Vec<u8> {
        let block = self.heard.take();
        let mut bytes = vec![0x80 | u8::from(block.is_some()), 200, 0, if block.is_some() { 12 } else { 6 }];
        let fraction = (u64::from(at.subsec_nanos()) << 32) / 1_000_000_000;
        let ntp = (NTP_BEGIN + at.as_secs()) << 32 | fraction;
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        bytes.extend_from_slice(&ntp.to_be_bytes());
        for word in [timestamp, packets as u32, packets as u32 * 160] {
            bytes.extend_from_slice(&word.to_be_bytes());
        }
        if let Some(figures) = block {
            let (last_report, delay) =
                self.last_report.map_or((0, 0), |(ntp, heard_at)| (ntp, units(at - heard_at)));
            let loss = u32::from(figures.fraction_lost) << 24 | figures.lost as u32 & 0x00ff_ffff;
            for word in
                [figures.ssrc, loss, 1 << 16 | u32::from(figures.highest), figures.jitter, last_report, delay]
            {
                bytes.extend_from_slice(&word.to_be_bytes());
            }
        }
        // SDES: CNAME "c", padded to whole words.
        bytes.extend_from_slice(&[0x81, 202, 0, 2]);
        bytes.extend_from_slice(&ssrc.to_be_bytes());
        bytes.extend_from_slice(&[1, 1, b'c', 0]);
        bytes
    }
}

/// The middle 32 bits of an NTP time.
pub fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// A time in 1/65536 s.
pub fn units(time: Duration) -> u32 {
    ((time.as_micros() << 16) / 1_000_000) as u32
}

/// When the moment of `now` is counted from `start`.
pub fn since(start: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let mut reporter = Reporter::default();
        for sequence in [10_u16, 11, 13, 14] {
            let mut packet = vec![0x80, 0];
            packet.extend_from_slice(&sequence.to_be_bytes());
            packet.extend_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
            packet.extend_from_slice(&77_u32.to_be_bytes());
            reporter.heard.packet(Duration::from_millis(u64::from(sequence) * 20), &packet);
        }
        let bytes = reporter.write(Duration::from_millis(1500), 5, 9, 3);
        let compound = read(&bytes).expect("a compound");
        assert_eq!((compound.ssrc, compound.has_name, compound.goodbye), (5, true, false));
        let block = compound.block.expect("a block");
        assert_eq!(
            (block.ssrc, block.lost, block.fraction_lost, block.highest, block.jitter),
            (77, 1, 51, 14, 0)
        );
        assert_eq!(middle(compound.sender.expect("a sender").ntp) & 0xffff, 0x8000);
        assert_eq!(read(&bytes[..bytes.len() - 1]), None);
    }
}
