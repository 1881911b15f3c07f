//! DTMF as tones within the audio, for carriers that send no telephone events.
//!
//! Goertzel filters over blocks of 12.75 ms at the eight frequencies of ITU-T Q.23. A block is a key when one tone of
//! each group stands out: against the rest of its group, against all else in the block (speech has more in it), and
//! against the other within the twist that Q.24 allows (8 dB with the high tone weaker, 4 dB with it stronger). Two
//! blocks must agree on a beginning, and two on an end, so that 40 ms of tone are found and a click in it does no harm.
//! The tones stay in the audio: the agent hears what was said.
//!
//! ITU-T Q.23, Q.24.

use crate::codec::Coding;
use crate::convert::Converter;
use crate::dtmf::Digit;

/// Samples of 8 kHz in a block: the filters are 78 Hz wide, the closest two tones 73 Hz apart.
const BLOCK: usize = 102;
const ROWS_HZ: [f32; 4] = [697.0, 770.0, 852.0, 941.0];
const COLUMNS_HZ: [f32; 4] = [1_209.0, 1_336.0, 1_477.0, 1_633.0];
const KEYS: [[char; 4]; 4] =
    [['1', '2', '3', 'A'], ['4', '5', '6', 'B'], ['7', '8', '9', 'C'], ['*', '0', '#', 'D']];
/// Least power of each of the two tones, of a full-scale sine: -36 dB; Q.24 has receivers work down to -25 to -29 dBm.
const POWER_MIN: f32 = 2.5e-4;
/// Power of the low tone to the high one, at most and at least: 8 and 4 dB.
const TWIST: std::ops::RangeInclusive<f32> = 0.398..=6.31;
/// How much more power the tone has than any other of its group: 8 dB.
const PEAK: f32 = 6.31;
/// The share of a block's power that the two tones have.
const SHARE: f32 = 0.82;

/// Finds keys in one stream of audio.
#[derive(Debug)]
pub struct ToneDetector {
    converter: Converter,
    bytes: Vec<u8>,
    goertzel: [Goertzel; 8],
    energy: f32,
    filled: usize,
    /// What the block before was, and the key that is held with the blocks it has lasted.
    last: Option<char>,
    held: Option<char>,
    blocks: u32,
}

#[derive(Debug, Clone, Copy)]
struct Goertzel {
    coefficient: f32,
    last: f32,
    before: f32,
}

impl Goertzel {
    fn new(frequency_hz: f32) -> Self {
        let turn = std::f32::consts::TAU * frequency_hz / crate::SAMPLE_RATE_HZ as f32;
        Self { coefficient: 2.0 * turn.cos(), last: 0.0, before: 0.0 }
    }

    /// The power of the tone as a share of a full-scale sine's, and begins anew.
    fn take(&mut self) -> f32 {
        let (last, before) = (std::mem::take(&mut self.last), std::mem::take(&mut self.before));
        let square = last * last + before * before - self.coefficient * last * before;
        square * 4.0 / (BLOCK * BLOCK) as f32
    }
}

impl ToneDetector {
    /// A detector for audio in the form of `coding`.
    pub fn new(coding: Coding) -> Self {
        let linear = Coding::Linear { rate_hz: crate::SAMPLE_RATE_HZ };
        let frequencies = [ROWS_HZ, COLUMNS_HZ].concat();
        Self {
            converter: Converter::new(coding, linear).expect("codings held have rates that have filters"),
            bytes: Vec::new(),
            goertzel: std::array::from_fn(|at| Goertzel::new(frequencies[at])),
            energy: 0.0,
            filled: 0,
            last: None,
            held: None,
            blocks: 0,
        }
    }

    /// Takes audio of any length and gives each key that was let go in it.
    pub fn push(&mut self, audio: &[u8], mut found: impl FnMut(Digit)) {
        self.bytes.clear();
        self.converter.convert(audio, &mut self.bytes);
        let bytes = std::mem::take(&mut self.bytes);
        let mut samples = bytes.as_slice();
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min((BLOCK - self.filled) * 2));
            samples = later;
            self.filter(now);
            if self.filled == BLOCK
                && let Some(digit) = self.end_block()
            {
                found(digit);
            }
        }
        self.bytes = bytes;
    }

    /// Forgets a key that is held: another source speaks.
    pub fn restart(&mut self) {
        (self.last, self.held, self.blocks) = (None, None, 0);
    }

    fn filter(&mut self, samples: &[u8]) {
        for pair in samples.chunks_exact(2) {
            let sample = f32::from(i16::from_le_bytes([pair[0], pair[1]])) / 32_768.0;
            self.energy += sample * sample;
            for filter in &mut self.goertzel {
                let next = filter.coefficient * filter.last - filter.before + sample;
                filter.before = filter.last;
                filter.last = next;
            }
        }
        self.filled += samples.len() / 2;
    }

    fn end_block(&mut self) -> Option<Digit> {
        self.filled = 0;
        // A full-scale sine has half the power of a constant.
        let total = std::mem::take(&mut self.energy) * 2.0 / BLOCK as f32;
        let powers: [f32; 8] = std::array::from_fn(|at| self.goertzel[at].take());
        let key = key_of(&powers, total);
        // One block that differs is a click or a drop-out; the second makes it so.
        let is_changed = key != self.held && self.last != self.held;
        let agreed = key.filter(|_| key == self.last);
        let last = std::mem::replace(&mut self.last, key);
        if !is_changed {
            self.blocks += 1;
            return None;
        }
        let ended = self.held.map(|digit| {
            // The block before this one was no longer of the key.
            let blocks = self.blocks.saturating_sub(1).max(1);
            Digit { digit, duration_ms: blocks * BLOCK as u32 * 1_000 / crate::SAMPLE_RATE_HZ }
        });
        self.held = agreed;
        self.blocks = if last == agreed { 2 } else { 1 };
        ended
    }
}

fn key_of(powers: &[f32; 8], total: f32) -> Option<char> {
    let (rows, columns) = powers.split_at(4);
    let (row, low) = strongest(rows)?;
    let (column, high) = strongest(columns)?;
    let is_key =
        low >= POWER_MIN && high >= POWER_MIN && TWIST.contains(&(low / high)) && low + high >= SHARE * total;
    is_key.then(|| KEYS[row][column])
}

/// The tone that stands out of its group, and its power.
fn strongest(powers: &[f32]) -> Option<(usize, f32)> {
    let (at, power) = powers.iter().copied().enumerate().max_by(|a, b| a.1.total_cmp(&b.1))?;
    let stands_out = powers.iter().enumerate().all(|(other, less)| other == at || less * PEAK <= power);
    stands_out.then_some((at, power))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Law, g711};
    use rand_core::{Rng, SeedableRng};

    /// Two tones with their amplitudes, for some milliseconds.
    fn tones(key: char, low: f64, high: f64, ms: usize, detune: f64) -> Vec<i16> {
        let row = KEYS.iter().position(|row| row.contains(&key)).unwrap();
        let column = KEYS[row].iter().position(|other| *other == key).unwrap();
        let turn = |frequency: f32| std::f64::consts::TAU * f64::from(frequency) * detune / 8_000.0;
        (0..ms * 8)
            .map(|at| {
                let at = at as f64;
                let sum =
                    low * (at * turn(ROWS_HZ[row])).sin() + high * (at * turn(COLUMNS_HZ[column])).sin();
                sum.round() as i16
            })
            .collect()
    }

    fn found(coding: Coding, samples: &[i16]) -> Vec<Digit> {
        let mut linear = Vec::new();
        g711::to_l16_le_into(samples, &mut linear);
        let mut audio = Vec::new();
        let from = Coding::Linear { rate_hz: 8_000 };
        Converter::new(from, coding).unwrap().convert(&linear, &mut audio);
        let mut detector = ToneDetector::new(coding);
        let mut digits = Vec::new();
        audio
            .chunks(coding.bytes_per_ms() * 20)
            .for_each(|frame| detector.push(frame, |digit| digits.push(digit)));
        digits
    }

    fn keys(samples: &[i16]) -> String {
        found(Coding::G711(Law::Mulaw), samples).iter().map(|digit| digit.digit).collect()
    }

    fn pause(ms: usize) -> Vec<i16> {
        vec![0; ms * 8]
    }

    #[test]
    fn every_key_is_found_once_with_its_length_in_every_form() {
        for coding in [Coding::G711(Law::Mulaw), Coding::G711(Law::Alaw), Coding::Linear { rate_hz: 16_000 }]
        {
            for key in KEYS.concat() {
                for ms in [50, 100, 500] {
                    let samples = [pause(33), tones(key, 6_000.0, 6_000.0, ms, 1.0), pause(80)].concat();
                    let digits = found(coding, &samples);
                    assert_eq!(digits.len(), 1, "{key} for {ms} ms in {coding:?}: {digits:?}");
                    assert_eq!(digits[0].digit, key);
                    assert!(digits[0].duration_ms.abs_diff(ms as u32) <= 26, "{key} for {ms} ms: {digits:?}");
                }
            }
        }
    }

    /// Q.24: 40 ms of tone and 40 ms of pause must do, at any place in the blocks; 20 ms must not.
    #[test]
    fn the_shortest_presses_are_told_apart_and_shorter_ones_are_none() {
        for phase in 0..13 {
            let mut samples = pause(20 + phase);
            for key in "15*0#D99".chars() {
                samples.extend(tones(key, 5_000.0, 5_000.0, 40, 1.0));
                samples.extend(pause(40));
            }
            assert_eq!(keys(&samples), "15*0#D99", "at {phase} ms");
            let short = [pause(20 + phase), tones('5', 5_000.0, 5_000.0, 20, 1.0), pause(60)].concat();
            assert_eq!(keys(&short), "", "at {phase} ms");
        }
    }

    #[test]
    fn twist_detuning_and_level_are_borne_within_their_bounds_and_no_further() {
        let press = |low: f64, high: f64, detune: f64| {
            keys(&[pause(30), tones('7', low, high, 100, detune), pause(60)].concat())
        };
        let db = |db: f64| 10.0_f64.powf(db / 20.0);
        for twist in [0.0, 3.0, 6.0, 7.5] {
            assert_eq!(press(4_000.0 * db(twist), 4_000.0, 1.0), "7", "low tone {twist} dB above");
        }
        for twist in [2.0, 3.5] {
            assert_eq!(press(4_000.0, 4_000.0 * db(twist), 1.0), "7", "high tone {twist} dB above");
        }
        assert_eq!(press(4_000.0 * db(10.0), 4_000.0, 1.0), "", "10 dB of twist");
        assert_eq!(press(4_000.0, 4_000.0 * db(6.0), 1.0), "", "6 dB of reverse twist");
        for detune in [0.985, 1.0, 1.015] {
            assert_eq!(press(4_000.0, 4_000.0, detune), "7", "detuned {detune}");
        }
        for detune in [0.96, 1.04] {
            assert_eq!(press(4_000.0, 4_000.0, detune), "", "detuned {detune}");
        }
        assert_eq!(press(1_000.0, 1_000.0, 1.0), "7");
        assert_eq!(press(150.0, 150.0, 1.0), "", "too faint");
    }

    #[test]
    fn keys_are_found_through_noise_and_a_drop_out_does_not_double_them() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(3);
        let mut samples = [pause(30), tones('3', 6_000.0, 6_000.0, 120, 1.0), pause(60)].concat();
        for sample in &mut samples {
            // 20 dB below the tones.
            *sample += ((random.next_u32() % 1_400) as i16) - 700;
        }
        assert_eq!(keys(&samples), "3");
        let mut broken = [pause(30), tones('3', 6_000.0, 6_000.0, 200, 1.0), pause(60)].concat();
        broken[1_000..1_040].fill(0);
        assert_eq!(keys(&broken), "3");
    }

    #[test]
    fn noise_single_tones_and_harmonic_voices_are_no_keys() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(4);
        let noise: Vec<i16> = (0..800_000).map(|_| (random.next_u32() as i16) / 4).collect();
        assert_eq!(keys(&noise), "");
        for frequency in (300..3_400).step_by(7) {
            let turn = std::f64::consts::TAU * f64::from(frequency) / 8_000.0;
            let tone: Vec<i16> =
                (0..2_400).map(|at| (9_000.0 * (f64::from(at) * turn).sin()) as i16).collect();
            assert_eq!(keys(&tone), "", "{frequency} Hz");
        }
        // A pitch that glides through every harmonic relation, with harmonics as a voice has them.
        let (mut phase, mut voice) = (0.0_f64, Vec::new());
        for at in 0..480_000 {
            phase += std::f64::consts::TAU * (90.0 + 160.0 * (f64::from(at) / 480_000.0)) / 8_000.0;
            let sum: f64 = (1..20).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum();
            voice.push((sum * 6_000.0) as i16);
        }
        assert_eq!(keys(&voice), "");
    }
}
