//! From one form of audio to another, whatever the two: equal forms are copied, the two laws meet by G.711's own
//! tables, all else is made linear, brought to the other rate and coded again.
//!
//! State (the resampler's filter, half a sample that a piece cut through) is carried from piece to piece; buffers are
//! kept, so that the steady state allocates nothing. No queue and no timing here.

use crate::codec::Coding;
use crate::g711;
use crate::resample::{Resampler, UnsupportedRate};

/// Most that is converted at once, in bytes; bounds the buffers whatever a burst's size.
const PIECE_BYTES: usize = 4_096;

/// Converts one stream of audio.
#[derive(Debug, Clone)]
pub struct Converter {
    from: Coding,
    to: Coding,
    resampler: Option<Resampler>,
    samples: Vec<i16>,
    resampled: Vec<i16>,
    /// First half of a sample.
    carry: Option<u8>,
}

impl Converter {
    /// A converter between two forms.
    ///
    /// # Errors
    /// When one of the rates is not served.
    pub fn new(from: Coding, to: Coding) -> Result<Self, UnsupportedRate> {
        let resampler = Resampler::new(from.rate_hz(), to.rate_hz())?;
        let is_used = from.rate_hz() != to.rate_hz();
        Ok(Self {
            from,
            to,
            resampler: is_used.then_some(resampler),
            samples: Vec::new(),
            resampled: Vec::new(),
            carry: None,
        })
    }

    /// What it reads.
    pub const fn from(&self) -> Coding {
        self.from
    }

    /// What it writes.
    pub const fn to(&self) -> Coding {
        self.to
    }

    /// Whether bytes pass as they are.
    pub fn is_copy(&self) -> bool {
        self.from == self.to
    }

    /// Samples of the input by which the output lags behind: half the resampler's filter.
    pub fn delay_samples(&self) -> usize {
        self.resampler.as_ref().map_or(0, Resampler::delay_samples)
    }

    /// Forgets the past, so that nothing of what was flushed is heard in what follows.
    pub fn reset(&mut self) {
        self.carry = None;
        if let Some(resampler) = &mut self.resampler {
            resampler.reset();
        }
    }

    /// Appends what `audio` becomes. It may end within a sample, whose other half then begins the next piece.
    pub fn convert(&mut self, audio: &[u8], out: &mut Vec<u8>) {
        match (self.from, self.to) {
            (Coding::G711(from), Coding::G711(to)) => {
                let start = out.len();
                out.extend_from_slice(audio);
                g711::transcode_in_place(from, to, &mut out[start..]);
            }
            _ => audio.chunks(PIECE_BYTES).for_each(|piece| self.convert_linear(piece, out)),
        }
    }

    fn convert_linear(&mut self, piece: &[u8], out: &mut Vec<u8>) {
        if self.from == self.to && self.carry.is_none() && piece.len().is_multiple_of(2) {
            out.extend_from_slice(piece);
            return;
        }
        self.samples.clear();
        match self.from {
            Coding::G711(law) => g711::decode_into(law, piece, &mut self.samples),
            Coding::Linear { .. } => self.read_linear(piece),
        }
        let samples = match &mut self.resampler {
            None => &self.samples,
            Some(resampler) => {
                self.resampled.clear();
                resampler.process(&self.samples, &mut self.resampled);
                &self.resampled
            }
        };
        match self.to {
            Coding::G711(law) => g711::encode_into(law, samples, out),
            Coding::Linear { .. } => g711::to_l16_le_into(samples, out),
        }
    }

    fn read_linear(&mut self, piece: &[u8]) {
        let mut rest = piece;
        if let (Some(low), [high, tail @ ..]) = (self.carry, rest) {
            self.samples.push(i16::from_le_bytes([low, *high]));
            self.carry = None;
            rest = tail;
        }
        g711::l16_le_into(rest, &mut self.samples);
        if rest.len() % 2 == 1 {
            self.carry = rest.last().copied();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Law;

    const CODINGS: [Coding; 6] = [
        Coding::G711(Law::Mulaw),
        Coding::G711(Law::Alaw),
        Coding::Linear { rate_hz: 8_000 },
        Coding::Linear { rate_hz: 16_000 },
        Coding::Linear { rate_hz: 24_000 },
        Coding::Linear { rate_hz: 48_000 },
    ];

    /// 100 ms of each form; any bytes will do.
    fn audio(coding: Coding) -> Vec<u8> {
        (0..coding.bytes_per_ms() * 100).map(|at| (at * 31 / 7) as u8).collect()
    }

    fn convert(from: Coding, to: Coding, audio: &[u8], piece: usize) -> Vec<u8> {
        let mut converter = Converter::new(from, to).unwrap();
        let mut out = Vec::new();
        audio.chunks(piece).for_each(|piece| converter.convert(piece, &mut out));
        out
    }

    #[test]
    fn equal_forms_pass_bit_for_bit() {
        for coding in CODINGS {
            let audio = audio(coding);
            assert_eq!(convert(coding, coding, &audio, 160), audio);
            assert!(Converter::new(coding, coding).unwrap().is_copy());
        }
    }

    #[test]
    fn any_form_becomes_any_other_at_the_same_length_of_time_however_it_is_cut() {
        for from in CODINGS {
            for to in CODINGS {
                let audio = audio(from);
                let whole = convert(from, to, &audio, audio.len());
                assert_eq!(whole.len(), to.bytes_per_ms() * 100, "{from:?} to {to:?}");
                for piece in [1, 7, 333] {
                    assert_eq!(convert(from, to, &audio, piece), whole, "{from:?} to {to:?} by {piece}");
                }
            }
        }
    }

    #[test]
    fn the_laws_meet_by_their_own_tables() {
        let codes: Vec<u8> = (0..=u8::MAX).collect();
        let crossed = convert(CODINGS[0], CODINGS[1], &codes, 256);
        assert!(codes.iter().zip(&crossed).all(|(a, b)| g711::transcode(Law::Mulaw, Law::Alaw, *a) == *b));
    }

    #[test]
    fn after_a_reset_nothing_of_the_past_is_heard() {
        let mut converter = Converter::new(CODINGS[4], CODINGS[0]).unwrap();
        let mut out = Vec::new();
        converter.convert(&[0x7F; 4_801], &mut out);
        converter.reset();
        out.clear();
        converter.convert(&[0; 4_800], &mut out);
        assert!(out.iter().all(|code| *code == 0xFF));
    }

    #[test]
    fn other_rates_are_refused() {
        assert!(Converter::new(Coding::Linear { rate_hz: 44_100 }, CODINGS[0]).is_err());
    }
}
