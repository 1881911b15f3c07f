//! RTCP: the reports of one session, written and read, and when to send them.
//!
//! Compounds are a sender or receiver report with a CNAME, and a goodbye at the end. They are written and
//! read by hand: five fixed layouts, no allocation, and a reader that keeps what it understands of a
//! compound whose tail is broken. The crate `rtcp` is the judge in the tests. Extended reports, feedback
//! and application packets are passed over.
//!
//! RFC 3550 sections 6.2 (interval), 6.3, 6.4 (reports), 6.5 (SDES), 6.6 (BYE), appendix A.2 (validity).

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use super::receive::ReceptionReport;

const SENDER_REPORT: u8 = 200;
const RECEIVER_REPORT: u8 = 201;
const SOURCE_DESCRIPTION: u8 = 202;
const GOODBYE: u8 = 203;
const CNAME: u8 = 1;
const BLOCK_BYTES: usize = 24;
/// Packets of one compound that are looked at; a compound of ours has three.
const PACKETS_MAX: usize = 32;
/// RFC 3550 section 6.2: "The recommended value for a fixed minimum interval is 5 seconds"; with two
/// members at G.711's bandwidth the computed interval is always less.
const INTERVAL: Duration = Duration::from_secs(5);
/// RFC 3550 section 6.3.1: the interval is divided by e - 3/2 to make up for reconsideration.
const COMPENSATION: f64 = std::f64::consts::E - 1.5;

/// What one report says of the sender that wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderInfo {
    /// The sender's clock as a 64-bit NTP timestamp.
    pub ntp: u64,
    /// The RTP timestamp of the same moment.
    pub rtp_timestamp: u32,
    /// Packets sent.
    pub packets: u32,
    /// Payload octets sent.
    pub octets: u32,
}

/// A report block together with when the reported source last reported itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The reception figures.
    pub report: ReceptionReport,
    /// Middle 32 bits of the NTP timestamp of the last sender report; 0 when there was none.
    pub last_sender_report: u32,
    /// Time since then in 1/65536 seconds.
    pub delay_since: u32,
}

/// What a compound said that we care for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Compound {
    /// Who wrote it.
    pub ssrc: u32,
    /// Its sender report, if there is one.
    pub sender: Option<SenderInfo>,
    /// Its report block on the source asked for.
    pub block: Option<Block>,
    /// Whether the writer says goodbye.
    pub goodbye: bool,
}

/// A datagram that is no RTCP compound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("datagram is no RTCP compound")]
pub struct NotRtcp;

impl Compound {
    /// Reads a compound and picks out the block that reports on `ours`.
    ///
    /// RFC 3550 A.2: the first packet must be a sender or receiver report of version 2 without padding.
    pub fn parse(datagram: &[u8], ours: u32) -> Result<Self, NotRtcp> {
        let first = packet(datagram).ok_or(NotRtcp)?;
        if !matches!(first.kind, SENDER_REPORT | RECEIVER_REPORT) || first.padded || first.body.len() < 4 {
            return Err(NotRtcp);
        }
        let mut compound = Self { ssrc: word(first.body, 0), ..Self::default() };
        let mut rest = datagram;
        for _ in 0..PACKETS_MAX {
            let Some(packet) = packet(rest) else { break };
            compound.take(&packet, ours);
            rest = &rest[4 + packet.body.len()..];
        }
        Ok(compound)
    }

    fn take(&mut self, packet: &RawPacket<'_>, ours: u32) {
        let blocks = match packet.kind {
            SENDER_REPORT if packet.body.len() >= 24 => {
                self.sender = Some(SenderInfo {
                    ntp: u64::from(word(packet.body, 4)) << 32 | u64::from(word(packet.body, 8)),
                    rtp_timestamp: word(packet.body, 12),
                    packets: word(packet.body, 16),
                    octets: word(packet.body, 20),
                });
                &packet.body[24..]
            }
            RECEIVER_REPORT if packet.body.len() >= 4 => &packet.body[4..],
            GOODBYE => {
                let sources = packet.body.chunks_exact(4).take(usize::from(packet.count));
                self.goodbye |= sources.clone().any(|source| word(source, 0) == self.ssrc);
                return;
            }
            _ => return,
        };
        for block in blocks.chunks_exact(BLOCK_BYTES).take(usize::from(packet.count)) {
            if word(block, 0) == ours {
                self.block = Some(Block::read(block));
            }
        }
    }
}

impl Block {
    /// The round trip in 1/65536 seconds, by the report's writer's figures and our clock at its arrival
    /// (RFC 3550 section 6.4.1); `None` without a sender report of ours, or when clocks contradict.
    pub fn round_trip(&self, arrival_ntp: u64) -> Option<u32> {
        if self.last_sender_report == 0 {
            return None;
        }
        let elapsed = middle(arrival_ntp).wrapping_sub(self.last_sender_report);
        let round_trip = elapsed.wrapping_sub(self.delay_since);
        // A peer that rounds its delay up can make the trip negative by a little, which is no time at all;
        // by more than a tenth of a second it is nonsense.
        match i64::from(round_trip as i32) {
            nonsense if nonsense < -6_554 => None,
            trip => Some(trip.max(0) as u32),
        }
    }

    fn read(block: &[u8]) -> Self {
        let loss = word(block, 4);
        let report = ReceptionReport {
            ssrc: word(block, 0),
            fraction_lost: (loss >> 24) as u8,
            cumulative_lost: (loss << 8) as i32 >> 8,
            highest_sequence: word(block, 8),
            jitter: word(block, 12),
        };
        Self { report, last_sender_report: word(block, 16), delay_since: word(block, 20) }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let ReceptionReport { ssrc, fraction_lost, cumulative_lost, highest_sequence, jitter } = self.report;
        let loss = u32::from(fraction_lost) << 24 | cumulative_lost as u32 & 0x00FF_FFFF;
        for word in [ssrc, loss, highest_sequence, jitter, self.last_sender_report, self.delay_since] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// Appends a report of `ssrc`: a sender report when it has sent since its last, else a receiver report,
/// then its CNAME (RFC 3550 section 6.1: every compound must carry both), then a goodbye if asked.
pub fn write(
    ssrc: u32,
    sender: Option<SenderInfo>,
    block: Option<Block>,
    cname: &[u8],
    goodbye: bool,
    out: &mut Vec<u8>,
) {
    let blocks = u8::from(block.is_some());
    let words = 1 + if sender.is_some() { 5 } else { 0 } + u16::from(blocks) * 6;
    let kind = if sender.is_some() { SENDER_REPORT } else { RECEIVER_REPORT };
    header(blocks, kind, words, out);
    out.extend_from_slice(&ssrc.to_be_bytes());
    if let Some(SenderInfo { ntp, rtp_timestamp, packets, octets }) = sender {
        out.extend_from_slice(&ntp.to_be_bytes());
        for word in [rtp_timestamp, packets, octets] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
    if let Some(block) = block {
        block.write(out);
    }
    let cname = &cname[..cname.len().min(255)];
    // Source, item type and length, text, and one to four zero octets up to the word's end.
    let chunk_words = (4 + 2 + cname.len() + 1).div_ceil(4);
    header(1, SOURCE_DESCRIPTION, chunk_words as u16, out);
    let end = out.len() + chunk_words * 4;
    out.extend_from_slice(&ssrc.to_be_bytes());
    out.extend_from_slice(&[CNAME, cname.len() as u8]);
    out.extend_from_slice(cname);
    out.resize(end, 0);
    if goodbye {
        header(1, GOODBYE, 1, out);
        out.extend_from_slice(&ssrc.to_be_bytes());
    }
}

/// The middle 32 bits of an NTP timestamp: 1/65536 seconds.
pub fn middle(ntp: u64) -> u32 {
    (ntp >> 16) as u32
}

/// The intervals between reports, random so that many calls do not report at once.
#[derive(Debug, Clone)]
pub struct Intervals {
    random: ChaCha8Rng,
    first: bool,
}

impl Intervals {
    /// Intervals drawn from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { random: ChaCha8Rng::seed_from_u64(seed), first: true }
    }

    /// The next interval: 0.5 to 1.5 times five seconds, the first one half of that (RFC 3550 sections
    /// 6.2 and 6.3.1).
    pub fn next_interval(&mut self) -> Duration {
        let half = if std::mem::take(&mut self.first) { 0.5 } else { 1.0 };
        let factor = 0.5 + f64::from(self.random.next_u32()) / f64::from(u32::MAX);
        INTERVAL.mul_f64(half * factor / COMPENSATION)
    }

    /// A new random source identifier, for after a collision.
    pub fn next_ssrc(&mut self) -> u32 {
        self.random.next_u32()
    }
}

struct RawPacket<'a> {
    padded: bool,
    count: u8,
    kind: u8,
    body: &'a [u8],
}

fn packet(datagram: &[u8]) -> Option<RawPacket<'_>> {
    let [first, kind, high, low, rest @ ..] = datagram else { return None };
    if first >> 6 != 2 {
        return None;
    }
    let body = rest.get(..usize::from(u16::from_be_bytes([*high, *low])) * 4)?;
    Some(RawPacket { padded: first >> 5 & 1 == 1, count: first & 0x1F, kind: *kind, body })
}

fn header(count: u8, kind: u8, words: u16, out: &mut Vec<u8>) {
    let [high, low] = words.to_be_bytes();
    out.extend_from_slice(&[2 << 6 | count, kind, high, low]);
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtcp::packet::unmarshal;

    const SENDER: SenderInfo =
        SenderInfo { ntp: 0x1234_5678_9ABC_DEF0, rtp_timestamp: 99, packets: 5, octets: 800 };
    const BLOCK: Block = Block {
        report: ReceptionReport {
            ssrc: 77,
            fraction_lost: 12,
            cumulative_lost: -3,
            highest_sequence: 0x1_0002,
            jitter: 40,
        },
        last_sender_report: 0x1111_2222,
        delay_since: 0x3333,
    };

    #[test]
    fn what_is_written_is_read_back() {
        for (sender, block) in
            [(Some(SENDER), Some(BLOCK)), (None, Some(BLOCK)), (Some(SENDER), None), (None, None)]
        {
            let mut bytes = Vec::new();
            write(5, sender, block, b"tandem", true, &mut bytes);
            assert_eq!(Compound::parse(&bytes, 77), Ok(Compound { ssrc: 5, sender, block, goodbye: true }));
            assert_eq!(Compound::parse(&bytes, 78).unwrap().block, None);
        }
    }

    #[test]
    fn the_crate_reads_our_compounds() {
        for cname in [&b""[..], b"a", b"ab", b"abc", b"abcd", &[b'x'; 300]] {
            let mut bytes = Vec::new();
            write(5, Some(SENDER), Some(BLOCK), cname, true, &mut bytes);
            let packets = unmarshal(&mut bytes.as_slice()).unwrap();
            assert_eq!(packets.len(), 3);
            let report = packets[0].as_any().downcast_ref::<rtcp::sender_report::SenderReport>().unwrap();
            assert_eq!((report.ssrc, report.ntp_time, report.rtp_time), (5, SENDER.ntp, 99));
            assert_eq!((report.packet_count, report.octet_count), (5, 800));
            let block = &report.reports[0];
            assert_eq!((block.ssrc, block.fraction_lost, block.jitter), (77, 12, 40));
            assert_eq!((block.last_sequence_number, block.delay), (0x1_0002, 0x3333));
            let names =
                packets[1].as_any().downcast_ref::<rtcp::source_description::SourceDescription>().unwrap();
            assert_eq!(names.chunks[0].source, 5);
            assert_eq!(names.chunks[0].items[0].text, &cname[..cname.len().min(255)]);
            let bye = packets[2].as_any().downcast_ref::<rtcp::goodbye::Goodbye>().unwrap();
            assert_eq!(bye.sources, [5]);
        }
    }

    /// RFC 3550 section 6.4.1, figure 2: A 0xb710:8000, LSR 0xb705:2000, DLSR 0x0005:4000 make 6.125 s.
    #[test]
    fn round_trip_is_the_example_of_the_rfc() {
        let block = Block { last_sender_report: 0xB705_2000, delay_since: 0x0005_4000, ..BLOCK };
        assert_eq!(block.round_trip(0xB710_8000 << 16), Some(0x0006_2000));
        let unheard = Block { last_sender_report: 0, ..block };
        assert_eq!(unheard.round_trip(0xB710_8000 << 16), None);
        let rounded = Block { delay_since: 0x000B_6010, ..block };
        assert_eq!(rounded.round_trip(0xB710_8000 << 16), Some(0));
        let contradicting = Block { delay_since: 0x00FF_0000, ..block };
        assert_eq!(contradicting.round_trip(0xB710_8000 << 16), None);
    }

    #[test]
    fn broken_tails_do_not_spoil_the_head_and_noise_is_refused() {
        let mut bytes = Vec::new();
        write(5, Some(SENDER), Some(BLOCK), b"tandem", false, &mut bytes);
        bytes.extend([0x81, GOODBYE, 0, 200]);
        assert_eq!(Compound::parse(&bytes, 77).unwrap().block, Some(BLOCK));
        for end in 0..bytes.len() {
            let _ = Compound::parse(&bytes[..end], 77);
        }
        assert_eq!(Compound::parse(&[0x81, GOODBYE, 0, 1, 0, 0, 0, 5], 77), Err(NotRtcp));
        assert_eq!(Compound::parse(&[0xA0, RECEIVER_REPORT, 0, 1, 0, 0, 0, 5], 77), Err(NotRtcp));
        assert_eq!(Compound::parse(b"\x80", 77), Err(NotRtcp));
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut random = ChaCha8Rng::seed_from_u64(3);
        for _ in 0..100_000 {
            let mut bytes = [0; 64];
            random.fill_bytes(&mut bytes);
            bytes[0] = bytes[0] & 0x3F | 0x80;
            bytes[1] = 200 + bytes[1] % 8;
            bytes[2] = 0;
            bytes[3] %= 16;
            let _ = Compound::parse(&bytes, 77);
        }
    }

    #[test]
    fn intervals_are_random_within_their_bounds() {
        let mut intervals = Intervals::new(9);
        let first = intervals.next_interval().as_secs_f64();
        assert!((1.02..3.08).contains(&first), "{first}");
        let later: Vec<f64> = (0..1_000).map(|_| intervals.next_interval().as_secs_f64()).collect();
        assert!(later.iter().all(|interval| (2.05..6.16).contains(interval)));
        let mean = later.iter().sum::<f64>() / 1_000.0;
        assert!((3.9..4.3).contains(&mean), "{mean}");
    }
}
