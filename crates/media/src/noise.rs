//! Comfort noise: the background that a peer describes when it stops sending (RFC 3389), made again here.
//!
//! White noise through the all-pole filter of the description's reflection coefficients, at the level it names. It does
//! not describe noise of our own: we never stop sending.

use crate::codec::Coding;
use crate::convert::Converter;

/// Reflection coefficients that are taken; RFC 3389 section 3.1 leaves the order open, more are not heard.
const ORDER_MAX: usize = 12;
/// Samples made at once: 20 ms of 8 kHz, the clock of payload type 13.
const PIECE: usize = 160;

/// A peer's background noise.
#[derive(Debug)]
pub struct ComfortNoise {
    /// Amplitude of the white noise before the filter.
    excitation: f32,
    reflections: [f32; ORDER_MAX],
    order: usize,
    /// The lattice's delayed backward errors.
    backward: [f32; ORDER_MAX + 1],
    random: u32,
    converter: Converter,
    width: usize,
    bytes: Vec<u8>,
    made: Vec<u8>,
}

impl ComfortNoise {
    /// Silence in the form of `coding`, until a description comes.
    pub fn new(coding: Coding) -> Self {
        let linear = Coding::Linear { rate_hz: crate::SAMPLE_RATE_HZ };
        Self {
            excitation: 0.0,
            reflections: [0.0; ORDER_MAX],
            order: 0,
            backward: [0.0; ORDER_MAX + 1],
            random: 0x2545_F491,
            converter: Converter::new(linear, coding).expect("codings held have rates that have filters"),
            width: coding.bytes_per_ms() / 8,
            bytes: Vec::new(),
            made: Vec::new(),
        }
    }

    /// Takes a description: a level, then reflection coefficients. One that is empty changes nothing.
    pub fn describe(&mut self, payload: &[u8]) {
        let [level, coefficients @ ..] = payload else { return };
        self.order = coefficients.len().min(ORDER_MAX);
        let mut passed = 1.0_f32;
        for (reflection, code) in self.reflections.iter_mut().zip(coefficients) {
            // RFC 3389 section 3.2: k = 258 * (N - 127) / 32768. The unused code 255 would make it unstable.
            *reflection = 258.0 * (f32::from(*code) - 127.0).min(127.0) / 32_768.0;
            passed *= 1.0 - *reflection * *reflection;
        }
        // The level is that of a full-scale square wave less as many decibels. Uniform noise between -a and a has an
        // effective value of a/sqrt(3).
        let effective = 32_768.0 * 10.0_f32.powf(-f32::from(level & 0x7F) / 20.0);
        self.excitation = effective * 3.0_f32.sqrt() * passed.max(1e-6).sqrt();
    }

    /// Fills `audio`, whole ticks of 8 kHz, with more of the noise.
    pub fn fill(&mut self, audio: &mut [u8]) {
        let mut rest = audio;
        while !rest.is_empty() {
            let samples = (rest.len() / self.width).clamp(1, PIECE);
            self.bytes.clear();
            for _ in 0..samples {
                let sample = self.next_sample();
                self.bytes.extend_from_slice(&sample.to_le_bytes());
            }
            self.made.clear();
            self.converter.convert(&self.bytes, &mut self.made);
            let length = self.made.len().min(rest.len());
            let (filled, after) = rest.split_at_mut(length);
            filled.copy_from_slice(&self.made[..length]);
            rest = after;
        }
    }

    fn next_sample(&mut self) -> i16 {
        self.random = self.random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let white = f32::from((self.random >> 16) as u16) / 32_768.0 - 1.0;
        let mut forward = white * self.excitation;
        for stage in (0..self.order).rev() {
            forward -= self.reflections[stage] * self.backward[stage];
            self.backward[stage + 1] = self.backward[stage] + self.reflections[stage] * forward;
        }
        self.backward[0] = forward;
        forward.round() as i16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Law, g711};

    fn made(coding: Coding, payload: &[u8]) -> Vec<f64> {
        let mut noise = ComfortNoise::new(coding);
        noise.describe(payload);
        let mut audio = vec![0; coding.bytes_per_ms() * 2_000];
        audio.chunks_mut(coding.bytes_per_ms() * 20).for_each(|frame| noise.fill(frame));
        match coding {
            Coding::G711(law) => audio.iter().map(|code| f64::from(g711::decode(law, *code))).collect(),
            Coding::Linear { .. } => {
                audio.chunks_exact(2).map(|pair| f64::from(i16::from_le_bytes([pair[0], pair[1]]))).collect()
            }
        }
    }

    fn level_dbov(samples: &[f64]) -> f64 {
        let power = samples.iter().map(|sample| sample * sample).sum::<f64>() / samples.len() as f64;
        20.0 * (power.sqrt() / 32_768.0).log10()
    }

    #[test]
    fn the_level_is_the_one_described_in_every_form_and_with_any_spectrum() {
        for coding in [Coding::G711(Law::Mulaw), Coding::G711(Law::Alaw), Coding::Linear { rate_hz: 16_000 }]
        {
            for level in [30_u8, 45, 60] {
                for spectrum in [&[][..], &[60], &[200, 100, 140, 127]] {
                    let payload = [&[level], spectrum].concat();
                    let found = level_dbov(&made(coding, &payload));
                    // Coarse steps near silence cost A-law some accuracy, the resampler's edge a bright noise its top.
                    let bound = if coding.rate_hz() > 8_000 { 3.0 } else { 1.5 };
                    assert!(
                        (found + f64::from(level)).abs() < bound,
                        "{coding:?} {payload:?}: {found:.1} dBov"
                    );
                }
            }
        }
    }

    /// A first coefficient below zero is a low-pass: neighbours are alike.
    #[test]
    fn the_spectrum_is_the_one_described() {
        let likeness = |payload: &[u8]| {
            let samples = made(Coding::Linear { rate_hz: 8_000 }, payload);
            let energy: f64 = samples.iter().map(|sample| sample * sample).sum();
            samples.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / energy
        };
        assert!(likeness(&[40]).abs() < 0.1);
        assert!((likeness(&[40, 50]) - 0.6).abs() < 0.1, "{}", likeness(&[40, 50]));
        assert!((likeness(&[40, 204]) + 0.6).abs() < 0.1, "{}", likeness(&[40, 204]));
    }

    #[test]
    fn no_description_is_silence_and_any_bytes_are_bounded() {
        assert!(made(Coding::Linear { rate_hz: 8_000 }, &[]).iter().all(|sample| *sample == 0.0));
        for payload in [&[0_u8; 40][..], &[0xFF; 40], &[0, 255, 0, 255, 0, 255]] {
            assert!(made(Coding::G711(Law::Mulaw), payload).iter().all(|sample| sample.is_finite()));
        }
    }
}
