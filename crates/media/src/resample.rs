//! Sample-rate conversion between 8, 16, 24 and 48 kHz, for agents that speak linear audio.
//!
//! A polyphase FIR with 24 taps a phase and 1.5 ms of delay (at 8 kHz): the rates stand in whole ratios,
//! so no fractional delay line is needed, and a transform's 10 ms of delay would be heard in a
//! conversation. State is carried from chunk to chunk of any size, and the number of samples out follows
//! exactly from the number in. It does no G.711 and no mixing.

use std::f64::consts::PI;

/// Taps of the filter that meet the samples of the slower of the two rates.
const TAPS_PER_PHASE: usize = 24;
/// Shape of the Kaiser window: about 90 dB of stop band.
const KAISER_BETA: f64 = 8.9;
/// Where the filter falls to half, as a share of the lower Nyquist frequency. Below 1, so that the
/// transition band ends soon after it: telephone speech ends at 3.4 kHz.
const CUTOFF: f64 = 0.93;

/// A rate pair that is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no conversion from {from_hz} Hz to {to_hz} Hz; rates are 8000, 16000, 24000 and 48000 Hz")]
pub struct UnsupportedRate {
    /// Rate of the input.
    pub from_hz: u32,
    /// Rate of the output.
    pub to_hz: u32,
}

/// Converts one stream of 16-bit samples from one rate to another.
#[derive(Debug, Clone)]
pub struct Resampler {
    /// Output samples for every `down` input samples.
    up: usize,
    down: usize,
    taps: usize,
    /// `up` phases of `taps` coefficients, each in the order of the samples they meet, oldest first.
    coefficients: Vec<f32>,
    /// The last `taps - 1` samples of the past, then the chunk at work.
    samples: Vec<f32>,
    /// Where the next output lies after the first sample of the next chunk, in units of input/`up`.
    offset: usize,
}

impl Resampler {
    /// A converter between two of the served rates; equal rates pass samples through.
    pub fn new(from_hz: u32, to_hz: u32) -> Result<Self, UnsupportedRate> {
        let served = |rate| matches!(rate, 8_000 | 16_000 | 24_000 | 48_000);
        if !served(from_hz) || !served(to_hz) {
            return Err(UnsupportedRate { from_hz, to_hz });
        }
        let common = greatest_common_divisor(from_hz, to_hz);
        let (up, down) = ((to_hz / common) as usize, (from_hz / common) as usize);
        // An upsampler's phases meet input samples; a downsampler's filter is as much longer as it is lower.
        let taps = TAPS_PER_PHASE * down.div_ceil(up);
        let mut resampler = Self {
            up,
            down,
            taps,
            coefficients: coefficients(up, down, taps),
            samples: Vec::new(),
            offset: 0,
        };
        resampler.reset();
        Ok(resampler)
    }

    /// Converts `input`, whatever its length, appending to `output`.
    pub fn process(&mut self, input: &[i16], output: &mut Vec<i16>) {
        if self.up == self.down {
            output.extend_from_slice(input);
            return;
        }
        self.samples.extend(input.iter().map(|sample| f32::from(*sample)));
        let end = input.len() * self.up;
        while self.offset < end {
            let (start, phase) = (self.offset / self.up, self.offset % self.up);
            let window = &self.samples[start..start + self.taps];
            let coefficients = &self.coefficients[phase * self.taps..][..self.taps];
            output.push(dot(window, coefficients).round() as i16);
            self.offset += self.down;
        }
        self.offset -= end;
        self.samples.drain(..input.len());
    }

    /// Forgets the past, so that nothing of what was flushed is heard in what follows.
    pub fn reset(&mut self) {
        self.samples.clear();
        self.samples.resize(self.taps - 1, 0.0);
        self.offset = 0;
    }

    /// Input samples by which the output lags behind: half the filter.
    pub fn delay_samples(&self) -> usize {
        if self.up == self.down { 0 } else { self.taps / 2 }
    }
}

/// The sum of products, in eight lanes so that the compiler may use vector registers.
fn dot(samples: &[f32], coefficients: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 8];
    for (samples, coefficients) in samples.chunks_exact(8).zip(coefficients.chunks_exact(8)) {
        for (lane, (sample, coefficient)) in lanes.iter_mut().zip(samples.iter().zip(coefficients)) {
            *lane += sample * coefficient;
        }
    }
    lanes.iter().sum()
}

/// A windowed sinc at the common rate, cut into phases, each scaled to pass constants unchanged.
fn coefficients(up: usize, down: usize, taps: usize) -> Vec<f32> {
    let length = taps * up;
    // On a tap, not between two: the delay is a whole number of samples, there and back again, too.
    let centre = (length / 2) as f64;
    let cutoff = CUTOFF / up.max(down) as f64;
    let prototype: Vec<f64> = (0..length)
        .map(|at| {
            let distance = at as f64 - centre;
            let angle = PI * cutoff * distance;
            let sinc = if distance == 0.0 { 1.0 } else { angle.sin() / angle };
            let edge = 1.0 - (distance / centre).powi(2);
            sinc * bessel(KAISER_BETA * edge.max(0.0).sqrt())
        })
        .collect();
    let mut phases = Vec::with_capacity(length);
    for phase in 0..up {
        // The newest sample of a window meets the prototype's tap `phase`, the one before it tap
        // `phase + up`, and so on: the window's order is the prototype's reversed.
        let taps = (0..taps).rev().map(|tap| prototype[phase + tap * up]);
        let sum: f64 = taps.clone().sum();
        phases.extend(taps.map(|tap| (tap / sum) as f32));
    }
    phases
}

/// The modified Bessel function of order zero, by its series.
fn bessel(x: f64) -> f64 {
    let (mut sum, mut term) = (1.0, 1.0);
    for k in 1..64 {
        term *= (x / 2.0 / f64::from(k)).powi(2);
        sum += term;
    }
    sum
}

fn greatest_common_divisor(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATES_HZ: [u32; 4] = [8_000, 16_000, 24_000, 48_000];

    fn tone(frequency_hz: f64, rate_hz: u32, samples: usize) -> Vec<i16> {
        let step = 2.0 * PI * frequency_hz / f64::from(rate_hz);
        (0..samples).map(|at| (10_000.0 * (at as f64 * step).sin()).round() as i16).collect()
    }

    fn convert(from_hz: u32, to_hz: u32, input: &[i16]) -> Vec<i16> {
        let mut output = Vec::new();
        Resampler::new(from_hz, to_hz).unwrap().process(input, &mut output);
        output
    }

    /// Power of `frequency_hz` and of all the rest, by fitting a sine to the settled part.
    fn fit(samples: &[i16], frequency_hz: f64, rate_hz: u32) -> (f64, f64) {
        let samples = &samples[samples.len() / 4..samples.len() / 4 + rate_hz as usize / 10];
        let step = 2.0 * PI * frequency_hz / f64::from(rate_hz);
        let (mut sine, mut cosine) = (0.0, 0.0);
        for (at, sample) in samples.iter().enumerate() {
            sine += f64::from(*sample) * (at as f64 * step).sin();
            cosine += f64::from(*sample) * (at as f64 * step).cos();
        }
        let scale = 2.0 / samples.len() as f64;
        let (sine, cosine) = (sine * scale, cosine * scale);
        let rest = samples.iter().enumerate().map(|(at, sample)| {
            let (s, c) = (at as f64 * step).sin_cos();
            (f64::from(*sample) - sine * s - cosine * c).powi(2)
        });
        ((sine * sine + cosine * cosine) / 2.0, rest.sum::<f64>() / samples.len() as f64)
    }

    fn decibels(ratio: f64) -> f64 {
        10.0 * ratio.max(1e-20).log10()
    }

    /// The rounding to 16 bits alone puts the floor of a tone of this level at 88 dB.
    #[test]
    fn tones_of_the_telephone_band_pass_clean_and_at_their_level() {
        for from_hz in RATES_HZ {
            for to_hz in RATES_HZ {
                for (frequency_hz, snr_db, level_db) in
                    [(300.0, 80.0, 0.1), (1_000.0, 80.0, 0.1), (3_000.0, 75.0, 0.3), (3_400.0, 45.0, 2.0)]
                {
                    let output = convert(from_hz, to_hz, &tone(frequency_hz, from_hz, from_hz as usize / 2));
                    let (signal, rest) = fit(&output, frequency_hz, to_hz);
                    let snr = decibels(signal / rest);
                    assert!(snr > snr_db, "{from_hz} to {to_hz} Hz, {frequency_hz} Hz: SNR {snr:.1} dB");
                    let level = decibels(signal / 5e7);
                    assert!(
                        level.abs() < level_db,
                        "{from_hz} to {to_hz} Hz, {frequency_hz} Hz: {level:.2} dB"
                    );
                }
            }
        }
    }

    #[test]
    fn what_would_alias_is_gone() {
        for from_hz in [16_000, 24_000, 48_000] {
            for frequency_hz in [5_500.0, 6_300.0, 7_700.0] {
                let output = convert(from_hz, 8_000, &tone(frequency_hz, from_hz, from_hz as usize / 2));
                let settled = &output[output.len() / 4..output.len() / 2];
                let power = settled.iter().map(|s| f64::from(*s).powi(2)).sum::<f64>() / settled.len() as f64;
                let alias = decibels(power / 5e7);
                assert!(alias < -75.0, "{frequency_hz} Hz at {from_hz} Hz: alias at {alias:.1} dB");
            }
        }
    }

    #[test]
    fn chunks_of_any_size_give_what_one_piece_gives() {
        for (from_hz, to_hz) in
            [(8_000, 16_000), (24_000, 8_000), (48_000, 8_000), (16_000, 24_000), (24_000, 16_000)]
        {
            let input = tone(700.0, from_hz, 4_800);
            let whole = convert(from_hz, to_hz, &input);
            for size in [1, 7, 160, 1_365] {
                let mut resampler = Resampler::new(from_hz, to_hz).unwrap();
                let mut pieces = Vec::new();
                input.chunks(size).for_each(|chunk| resampler.process(chunk, &mut pieces));
                assert_eq!(pieces, whole, "{from_hz} to {to_hz} in chunks of {size}");
            }
            assert_eq!(whole.len(), 4_800 * to_hz as usize / from_hz as usize);
        }
    }

    #[test]
    fn up_and_down_again_gives_the_signal_back() {
        let input = tone(1_000.0, 8_000, 4_000);
        for rate_hz in [16_000, 24_000, 48_000] {
            let up = Resampler::new(8_000, rate_hz).unwrap();
            let down = Resampler::new(rate_hz, 8_000).unwrap();
            let output = convert(rate_hz, 8_000, &convert(8_000, rate_hz, &input));
            let (signal, rest) = fit(&output, 1_000.0, 8_000);
            assert!(decibels(signal / rest) > 75.0);
            assert!(up.delay_samples() == 12 && down.delay_samples() == 12 * rate_hz as usize / 8_000);
        }
    }

    #[test]
    fn after_a_reset_nothing_of_the_past_is_heard() {
        let mut resampler = Resampler::new(24_000, 8_000).unwrap();
        let mut output = Vec::new();
        resampler.process(&[i16::MAX; 1_000], &mut output);
        resampler.reset();
        output.clear();
        resampler.process(&[0; 300], &mut output);
        assert_eq!(output, [0; 100]);
    }

    #[test]
    fn full_scale_does_not_wrap() {
        let square: Vec<i16> =
            (0..960).map(|at| if at / 24 % 2 == 0 { i16::MAX } else { i16::MIN }).collect();
        let output = convert(24_000, 8_000, &square);
        // The filter overshoots at the edges; the middle of each plateau, 12 samples late, keeps its sign.
        for (half, plateau) in output[12..].chunks_exact(8).enumerate() {
            assert_eq!(plateau[4] > 0, half % 2 == 0, "half-wave {half}");
        }
        assert!(output.contains(&i16::MAX));
    }

    #[test]
    fn other_rates_are_refused() {
        assert_eq!(
            Resampler::new(8_000, 44_100).unwrap_err(),
            UnsupportedRate { from_hz: 8_000, to_hz: 44_100 }
        );
    }
}
