//! The checks on a received stream: sequence, duplicates, change of source, loss and jitter figures.
//!
//! It decides whether a packet belongs to the stream and where in it; it keeps no payload and repairs
//! nothing. Two rules go beyond RFC 3550 appendix A.1:
//! * A source is believed from its first packet, not its second: the latch has already vouched for its
//!   address, and its payload type was negotiated.
//! * Another source from the same address takes over at once when the present one has been quiet for
//!   three frames or the packet carries the marker, and otherwise with its second packet in sequence
//!   with none of the present source between. So a stray packet cannot throw the stream over, and a
//!   transfer behind the peer's SBC loses one packet at most.
//!
//! RFC 3550 sections 5.1, 6.4.1, 8.2 and appendices A.1, A.3, A.8.

use super::packet::Header;

/// RFC 3550 appendix A.1: a jump ahead beyond this is not taken for loss.
const MAX_DROPOUT: u16 = 3_000;
/// RFC 3550 appendix A.1: a step back within this is taken for misordering.
const MAX_MISORDER: u16 = 100;
/// A source that has sent nothing for this long gives way to another at once.
const QUIET_US: i64 = 60_000;
/// Sequence numbers of which it is remembered whether they came.
const WINDOW: u64 = 64;
/// What extended numbers begin at: far enough from zero that packets before the first have a number.
const FIRST_CYCLE: u64 = 1 << 16;

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reception {
    /// Belongs to the stream at this place; later than it should be if a higher one came before.
    InStream {
        /// Sequence number that never wraps.
        extended: u64,
    },
    /// The first of a stream: of the first source, of another, or of the same begun anew.
    Begins {
        /// Sequence number that never wraps; says nothing about those before it.
        extended: u64,
    },
    /// Came before.
    Duplicate,
    /// So far off that its next must confirm it; not to be used.
    Unconfirmed,
}

/// The receiving side of one RTP stream.
#[derive(Debug, Clone, Default)]
pub struct Receiver {
    source: Option<Source>,
    /// Another source's number and the sequence number that would confirm it.
    candidate: Option<(u32, u16)>,
    figures: ReceiverFigures,
}

/// Counts over all sources.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceiverFigures {
    /// Packets that belonged to the stream, duplicates not among them.
    pub packets: u64,
    /// Packets that came after a later one.
    pub out_of_order: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets thrown away until their next would confirm a jump.
    pub unconfirmed: u64,
    /// Times another source, or the same anew, took over.
    pub restarts: u32,
    /// Packets lost by sources that were given up; that of the present one comes on top.
    lost_before: i64,
}

/// The figures one reception report block needs (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceptionReport {
    /// The reported source.
    pub ssrc: u32,
    /// Share of packets lost since the last report, in 256ths.
    pub fraction_lost: u8,
    /// Packets lost in all, within 24 bits with sign.
    pub cumulative_lost: i32,
    /// Highest sequence number with its count of cycles.
    pub highest_sequence: u32,
    /// Interarrival jitter in timestamp units.
    pub jitter: u32,
}

#[derive(Debug, Clone)]
struct Source {
    ssrc: u32,
    base: u64,
    highest: u64,
    /// Bit n: the packet n before the highest came.
    seen: u64,
    received: u64,
    /// The number that would confirm a jump.
    confirming: Option<u16>,
    expected_prior: u64,
    received_prior: u64,
    last_arrival_us: i64,
    transit: Option<u32>,
    /// In 16ths of a timestamp unit, as RFC 3550 A.8 keeps it.
    jitter_16: u32,
}

impl Receiver {
    /// Judges one packet that arrived at `arrival_us` on the session's clock.
    pub fn handle(&mut self, header: &Header, arrival_us: i64) -> Reception {
        let reception = match &mut self.source {
            None => self.begin(header, arrival_us),
            Some(source) if source.ssrc == header.ssrc => {
                self.candidate = None;
                source.handle(header, arrival_us)
            }
            Some(source) => {
                let confirmed = self.candidate == Some((header.ssrc, header.sequence));
                let quiet = arrival_us - source.last_arrival_us >= QUIET_US;
                if confirmed || quiet || header.marker {
                    self.begin(header, arrival_us)
                } else {
                    self.candidate = Some((header.ssrc, header.sequence.wrapping_add(1)));
                    Reception::Unconfirmed
                }
            }
        };
        self.count(reception);
        reception
    }

    /// Takes one audio packet into the jitter estimate (RFC 3550 A.8). Packets whose timestamp does not
    /// tell when they were sampled, such as events, are to be left out.
    pub fn note_transit(&mut self, header: &Header, arrival_us: i64) {
        if let Some(source) = self.source.as_mut().filter(|source| source.ssrc == header.ssrc) {
            source.note_transit(header.timestamp, arrival_us);
        }
    }

    /// The present source's identifier.
    pub fn ssrc(&self) -> Option<u32> {
        self.source.as_ref().map(|source| source.ssrc)
    }

    /// Interarrival jitter in timestamp units.
    pub fn jitter(&self) -> u32 {
        self.source.as_ref().map_or(0, |source| source.jitter_16 >> 4)
    }

    /// Packets expected but not received, over all sources; negative when duplicates outnumber losses.
    pub fn lost(&self) -> i64 {
        self.figures.lost_before + self.source.as_ref().map_or(0, Source::lost)
    }

    /// Counts so far.
    pub fn figures(&self) -> ReceiverFigures {
        self.figures
    }

    /// The report block on the present source; begins a new interval for the fraction lost (RFC 3550 A.3).
    pub fn take_report(&mut self) -> Option<ReceptionReport> {
        self.source.as_mut().map(Source::take_report)
    }

    fn begin(&mut self, header: &Header, arrival_us: i64) -> Reception {
        if let Some(previous) = &self.source {
            self.figures.lost_before += previous.lost();
        }
        let source = Source::new(header, arrival_us);
        let extended = source.highest;
        self.source = Some(source);
        self.candidate = None;
        Reception::Begins { extended }
    }

    fn count(&mut self, reception: Reception) {
        match reception {
            Reception::InStream { extended } => {
                self.figures.packets += 1;
                let highest = self.source.as_ref().map_or(0, |source| source.highest);
                self.figures.out_of_order += u64::from(extended < highest);
            }
            Reception::Begins { .. } => {
                self.figures.restarts += u32::from(self.figures.packets > 0);
                self.figures.packets += 1;
            }
            Reception::Duplicate => self.figures.duplicates += 1,
            Reception::Unconfirmed => self.figures.unconfirmed += 1,
        }
    }
}

impl Source {
    fn new(header: &Header, arrival_us: i64) -> Self {
        let first = FIRST_CYCLE + u64::from(header.sequence);
        Self {
            ssrc: header.ssrc,
            base: first,
            highest: first,
            seen: 1,
            received: 1,
            confirming: None,
            expected_prior: 0,
            received_prior: 0,
            last_arrival_us: arrival_us,
            transit: None,
            jitter_16: 0,
        }
    }

    fn handle(&mut self, header: &Header, arrival_us: i64) -> Reception {
        self.last_arrival_us = arrival_us;
        let ahead = header.sequence.wrapping_sub(self.highest as u16);
        if ahead != 0 && ahead < MAX_DROPOUT {
            let ahead = u64::from(ahead);
            self.highest += ahead;
            self.seen = if ahead < WINDOW { self.seen << ahead | 1 } else { 1 };
            self.received += 1;
            self.confirming = None;
            return Reception::InStream { extended: self.highest };
        }
        let behind = ahead.wrapping_neg();
        if behind <= MAX_MISORDER {
            return self.handle_behind(u64::from(behind));
        }
        // A.1: "the sequence number made a very large jump": only two in a row are believed, "the other
        // side restarted without telling us".
        if self.confirming == Some(header.sequence) {
            let lost = self.lost();
            *self = Self {
                ssrc: self.ssrc,
                transit: self.transit,
                jitter_16: self.jitter_16,
                ..Self::new(header, arrival_us)
            };
            // What was lost before the restart stays lost: the base moves down by as much.
            self.base = self.base.saturating_sub(u64::try_from(lost).unwrap_or(0));
            return Reception::Begins { extended: self.highest };
        }
        self.confirming = Some(header.sequence.wrapping_add(1));
        Reception::Unconfirmed
    }

    fn handle_behind(&mut self, behind: u64) -> Reception {
        let extended = self.highest - behind;
        if behind < WINDOW {
            if self.seen >> behind & 1 == 1 {
                return Reception::Duplicate;
            }
            self.seen |= 1 << behind;
        }
        self.received += 1;
        Reception::InStream { extended }
    }

    fn note_transit(&mut self, timestamp: u32, arrival_us: i64) {
        let arrival = (arrival_us * i64::from(crate::SAMPLE_RATE_HZ) / 1_000_000) as u32;
        let transit = arrival.wrapping_sub(timestamp);
        if let Some(previous) = self.transit.replace(transit) {
            let deviation = (transit.wrapping_sub(previous) as i32).unsigned_abs();
            // A pause in which the sender's clock stood still says nothing about the network.
            if deviation < crate::SAMPLE_RATE_HZ {
                self.jitter_16 = self.jitter_16 + deviation - ((self.jitter_16 + 8) >> 4);
            }
        }
    }

    fn expected(&self) -> u64 {
        self.highest - self.base + 1
    }

    fn lost(&self) -> i64 {
        self.expected() as i64 - self.received as i64
    }

    fn take_report(&mut self) -> ReceptionReport {
        let expected = self.expected() - self.expected_prior;
        let received = self.received - self.received_prior;
        self.expected_prior = self.expected();
        self.received_prior = self.received;
        let lost = expected.saturating_sub(received);
        let fraction_lost = (lost * 256).checked_div(expected).map_or(0, |share| share.min(255) as u8);
        ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost,
            // A.3: "Since this signed number is carried in 24 bits, it should be clamped".
            cumulative_lost: self.lost().clamp(-0x80_0000, 0x7F_FFFF) as i32,
            highest_sequence: (self.highest - FIRST_CYCLE) as u32,
            jitter: self.jitter_16 >> 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(ssrc: u32, sequence: u16) -> Header {
        Header { marker: false, payload_type: 0, sequence, timestamp: u32::from(sequence) * 160, ssrc }
    }

    fn run(receiver: &mut Receiver, ssrc: u32, sequences: impl IntoIterator<Item = u16>) -> Vec<Reception> {
        sequences.into_iter().map(|sequence| receiver.handle(&header(ssrc, sequence), 0)).collect()
    }

    #[test]
    fn numbers_extend_over_the_wrap_and_losses_are_counted() {
        let mut receiver = Receiver::default();
        let got = run(&mut receiver, 7, [65_533, 65_534, 0, 1]);
        let numbers: Vec<u64> = got
            .iter()
            .map(|reception| match reception {
                Reception::InStream { extended } | Reception::Begins { extended } => *extended,
                Reception::Duplicate | Reception::Unconfirmed => panic!("{reception:?}"),
            })
            .collect();
        assert_eq!(numbers, [0x1_FFFD, 0x1_FFFE, 0x2_0000, 0x2_0001]);
        assert_eq!(receiver.lost(), 1);
        assert_eq!(receiver.take_report().unwrap().highest_sequence, 0x1_0001);
    }

    #[test]
    fn misordered_packets_belong_and_duplicates_do_not() {
        let mut receiver = Receiver::default();
        let got = run(&mut receiver, 7, [10, 12, 11, 12, 11, 13]);
        assert_eq!(got[2], Reception::InStream { extended: FIRST_CYCLE + 11 });
        assert_eq!(&got[3..5], [Reception::Duplicate, Reception::Duplicate]);
        let figures = receiver.figures();
        assert_eq!((figures.packets, figures.out_of_order, figures.duplicates), (4, 1, 2));
        assert_eq!(receiver.lost(), 0);
    }

    /// RFC 3550 A.1: a very large jump is believed only when the next packet confirms it.
    #[test]
    fn a_large_jump_must_be_confirmed() {
        let mut receiver = Receiver::default();
        let got = run(&mut receiver, 7, [10, 11, 40_000, 12, 50_000, 50_001, 50_002]);
        assert_eq!(got[2], Reception::Unconfirmed);
        assert_eq!(got[3], Reception::InStream { extended: FIRST_CYCLE + 12 });
        assert_eq!(got[4], Reception::Unconfirmed);
        assert_eq!(got[5], Reception::Begins { extended: FIRST_CYCLE + 50_001 });
        assert_eq!(got[6], Reception::InStream { extended: FIRST_CYCLE + 50_002 });
        assert_eq!(receiver.lost(), 0);
    }

    #[test]
    fn a_stray_source_changes_nothing_and_a_steady_one_takes_over() {
        let mut receiver = Receiver::default();
        run(&mut receiver, 1, [10, 11]);
        assert_eq!(run(&mut receiver, 2, [500]), [Reception::Unconfirmed]);
        run(&mut receiver, 1, [12]);
        assert_eq!(
            run(&mut receiver, 2, [501]),
            [Reception::Unconfirmed],
            "the present source spoke between"
        );
        assert_eq!(run(&mut receiver, 2, [502])[0], Reception::Begins { extended: FIRST_CYCLE + 502 });
        assert_eq!(receiver.figures().restarts, 1);
    }

    #[test]
    fn another_source_takes_over_at_once_after_quiet_or_with_the_marker() {
        let mut receiver = Receiver::default();
        run(&mut receiver, 1, [10]);
        assert!(matches!(receiver.handle(&header(2, 9), QUIET_US), Reception::Begins { .. }));
        let marked = Header { marker: true, ..header(3, 1) };
        assert!(matches!(receiver.handle(&marked, QUIET_US), Reception::Begins { .. }));
    }

    /// RFC 3550 A.3: the fraction counts from report to report, duplicates make it zero, not negative.
    #[test]
    fn fraction_lost_is_of_the_interval() {
        let mut receiver = Receiver::default();
        run(&mut receiver, 1, [0, 1, 2, 3]);
        assert_eq!(receiver.take_report().unwrap().fraction_lost, 0);
        run(&mut receiver, 1, [4, 6, 8, 10]);
        let report = receiver.take_report().unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (109, 3));
        run(&mut receiver, 1, [9, 11]);
        let report = receiver.take_report().unwrap();
        assert_eq!((report.fraction_lost, report.cumulative_lost), (0, 2));
    }

    /// RFC 3550 A.8: constant transit has no jitter; alternating by d settles near d.
    #[test]
    fn jitter_follows_the_variation_of_transit() {
        let mut receiver = Receiver::default();
        for sequence in 0..1_000_u16 {
            let packet = header(1, sequence);
            let arrival_us = i64::from(sequence) * 20_000;
            receiver.handle(&packet, arrival_us);
            receiver.note_transit(&packet, arrival_us);
        }
        assert_eq!(receiver.jitter(), 0);
        for sequence in 1_000..3_000_u16 {
            let packet = header(1, sequence);
            let arrival_us = i64::from(sequence) * 20_000 + i64::from(sequence % 2) * 10_000;
            receiver.handle(&packet, arrival_us);
            receiver.note_transit(&packet, arrival_us);
        }
        assert!((75..=80).contains(&receiver.jitter()), "{} of 80 expected", receiver.jitter());
    }
}
