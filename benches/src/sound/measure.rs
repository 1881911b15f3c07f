//! What is measured of audio: signal to noise over segments, tones against all else, delay.

use std::f64::consts::TAU;

/// Samples of 8 kHz in a segment: 16 ms, as the measure is usually taken.
const SEGMENT: usize = 128;

/// Decibels of a ratio of powers.
#[must_use]
pub fn decibels(ratio: f64) -> f64 {
    10.0 * ratio.max(1e-20).log10()
}

/// Signal to noise in decibels, averaged over the segments in which there is speech, each held to -10 to 35 dB.
#[must_use]
pub fn segmental_snr(original: &[i16], heard: &[i16], rate_hz: u32) -> f64 {
    let segment = SEGMENT * (rate_hz / 8_000) as usize;
    let (mut sum, mut count) = (0.0, 0);
    for (original, heard) in original.chunks_exact(segment).zip(heard.chunks_exact(segment)) {
        let signal: f64 = original.iter().map(|sample| f64::from(*sample).powi(2)).sum();
        // -50 dBov: pauses say nothing of speech.
        if signal / segment as f64 <= 32_768.0_f64.powi(2) * 1e-5 {
            continue;
        }
        let noise: f64 =
            original.iter().zip(heard).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum();
        sum += decibels(signal / noise.max(1.0)).clamp(-10.0, 35.0);
        count += 1;
    }
    sum / f64::from(count.max(1))
}

/// The part of `heard` that lies over `original` best, looked for up to `most` samples late, and how late that is.
#[must_use]
pub fn align(original: &[i16], heard: &[i16], most: usize) -> (usize, Vec<i16>) {
    let length = original.len().min(heard.len()).saturating_sub(most);
    let likeness = |late: usize| -> f64 {
        original[..length].iter().zip(&heard[late..]).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let best = (0..=most).max_by(|a, b| likeness(*a).total_cmp(&likeness(*b))).unwrap_or(0);
    (best, heard[best..].to_vec())
}

/// A tone of a level that leaves the filters room to overshoot.
#[must_use]
pub fn tone(frequency_hz: f64, rate_hz: u32, samples: usize) -> Vec<i16> {
    let step = TAU * frequency_hz / f64::from(rate_hz);
    (0..samples).map(|at| (10_000.0 * (at as f64 * step).sin()).round() as i16).collect()
}

/// A sweep over `band_hz` and its instantaneous frequency at each sample.
#[must_use]
pub fn chirp(band_hz: std::ops::Range<f64>, rate_hz: u32, samples: usize) -> Vec<i16> {
    let (mut phase, width) = (0.0_f64, band_hz.end - band_hz.start);
    (0..samples)
        .map(|at| {
            phase += TAU * (band_hz.start + width * at as f64 / samples as f64) / f64::from(rate_hz);
            (10_000.0 * phase.sin()).round() as i16
        })
        .collect()
}

/// Amplitude and phase of a tone in the settled middle of `samples`, and the power of all that is not the tone.
#[derive(Debug, Clone, Copy)]
pub struct Fit {
    /// Power of the tone.
    pub signal: f64,
    /// Power of the rest.
    pub rest: f64,
    /// Phase of the tone at the first sample, in radians.
    pub phase: f64,
}

/// Fits a tone to the middle half of `samples`.
#[must_use]
pub fn fit(samples: &[i16], frequency_hz: f64, rate_hz: u32) -> Fit {
    let start = samples.len() / 4;
    let middle = &samples[start..start + samples.len() / 2];
    let step = TAU * frequency_hz / f64::from(rate_hz);
    let place = |at: usize| ((start + at) as f64 * step).sin_cos();
    // Least squares, for a window that holds no whole number of periods.
    let (mut ss, mut cc, mut sc, mut ys, mut yc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for (at, sample) in middle.iter().enumerate() {
        let (s, c) = place(at);
        let y = f64::from(*sample);
        ss += s * s;
        cc += c * c;
        sc += s * c;
        ys += y * s;
        yc += y * c;
    }
    let determinant = ss * cc - sc * sc;
    let (sine, cosine) = ((ys * cc - yc * sc) / determinant, (yc * ss - ys * sc) / determinant);
    let rest: f64 = middle
        .iter()
        .enumerate()
        .map(|(at, sample)| {
            let (s, c) = place(at);
            (f64::from(*sample) - sine * s - cosine * c).powi(2)
        })
        .sum();
    Fit {
        signal: (sine * sine + cosine * cosine) / 2.0,
        rest: rest / middle.len() as f64,
        phase: cosine.atan2(sine),
    }
}

/// Mean power of the settled middle.
#[must_use]
pub fn power(samples: &[i16]) -> f64 {
    let middle = &samples[samples.len() / 4..samples.len() * 3 / 4];
    middle.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / middle.len().max(1) as f64
}
