//! What a recording says about the path it took: the delay, level, noise and gaps of a heard
//! signal against the one that was played. Works on the samples alone and knows nothing of
//! packets, so it can contradict the statistics of those who moved them.

use std::f64::consts::TAU;

/// Samples in a second of telephone audio.
pub const SAMPLE_RATE_HZ: usize = 8_000;

/// The longest delay that is searched for, in samples: two seconds.
const DELAY_MAX_SAMPLES: usize = 2 * SAMPLE_RATE_HZ;

/// Samples that are compared in one piece: 200 ms.
const STRETCH_SAMPLES: usize = 1_600;

/// How many frames of 20 ms the delay may change between two stretches.
const DELAY_STEP_FRAMES: usize = 10;

/// One frame of 20 ms, the unit in which gaps are counted.
const FRAME_SAMPLES: usize = 160;

/// Below this root mean square a frame counts as silent (about -60 dBFS).
const SILENCE_RMS: f64 = 33.0;

/// The comparison of a heard signal with the played one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Comparison {
    /// From the first played sample to the same sample heard, in milliseconds.
    pub delay_ms: f64,
    /// The same at the end of the signal; larger where the path ran dry for a moment.
    pub delay_last_ms: f64,
    /// Heard level less played level over the common stretch, in dB.
    pub level_change_db: f64,
    /// Level of what was heard over the common stretch, in dB of full scale.
    pub heard_level_dbfs: f64,
    /// Signal to noise after the best gain is taken out, in dB: the median over stretches of 200 ms; 99
    /// when nothing differs.
    pub signal_to_noise_db: f64,
    /// Frames of 20 ms in which something was played and nothing heard.
    pub silent_frames: usize,
    /// Frames of 20 ms in which something was played, within what could be heard.
    pub played_frames: usize,
}

impl Comparison {
    /// Share of the played 20 ms frames that were not heard, 0 to 1.
    #[must_use]
    pub fn lost_share(&self) -> f64 {
        if self.played_frames == 0 { 1.0 } else { self.silent_frames as f64 / self.played_frames as f64 }
    }
}

/// Finds `played` within `heard` and compares them. Both are mono at 8,000 samples a second.
///
/// A path that ran dry for a moment is later by whole frames from there on; each stretch of 200 ms is
/// therefore compared where it is found, so that one gap does not spoil the judgement of all the rest.
///
/// Returns `None` when either is silent throughout, or when nothing in `heard` resembles
/// `played` within two seconds.
#[must_use]
pub fn compare(played: &[i16], heard: &[i16]) -> Option<Comparison> {
    let first_delay = find_delay(played, heard)?;
    let mut delay = first_delay;
    let mut stretches = Vec::new();
    for start in (0..played.len()).step_by(STRETCH_SAMPLES) {
        let stretch = &played[start..played.len().min(start + STRETCH_SAMPLES)];
        delay = follow_delay(stretch, heard, start, delay);
        let Some(heard) = heard.get(start + delay..start + delay + stretch.len()) else { break };
        stretches.push(Stretch::compare(stretch, heard));
    }
    let mut signal: Vec<&Stretch> = stretches.iter().filter(|stretch| stretch.is_heard()).collect();
    if signal.is_empty() {
        return None;
    }
    let played_energy: f64 = signal.iter().map(|stretch| stretch.played_energy).sum();
    let heard_energy: f64 = signal.iter().map(|stretch| stretch.heard_energy).sum();
    let samples = signal.len() as f64 * STRETCH_SAMPLES as f64;
    signal.sort_by(|a, b| a.signal_to_noise_db.total_cmp(&b.signal_to_noise_db));
    Some(Comparison {
        delay_ms: first_delay as f64 * 1_000.0 / SAMPLE_RATE_HZ as f64,
        delay_last_ms: delay as f64 * 1_000.0 / SAMPLE_RATE_HZ as f64,
        level_change_db: 10.0 * (heard_energy / played_energy).log10(),
        heard_level_dbfs: 10.0 * (heard_energy / samples / 32_768.0_f64.powi(2)).log10(),
        signal_to_noise_db: signal[signal.len() / 2].signal_to_noise_db,
        silent_frames: stretches.iter().map(|stretch| stretch.silent_frames).sum(),
        played_frames: stretches.iter().map(|stretch| stretch.played_frames).sum(),
    })
}

/// The comparison of 200 ms.
struct Stretch {
    played_energy: f64,
    heard_energy: f64,
    signal_to_noise_db: f64,
    silent_frames: usize,
    played_frames: usize,
}

impl Stretch {
    fn compare(played: &[i16], heard: &[i16]) -> Self {
        let cross = cross(played, heard);
        let (played_energy, heard_energy) = (energy(played), energy(heard));
        let gain = if played_energy > 0.0 { (cross / played_energy).max(0.0) } else { 0.0 };
        let difference = |(p, h): (&i16, &i16)| (f64::from(*h) - gain * f64::from(*p)).powi(2);
        let noise: f64 = played.iter().zip(heard).map(difference).sum();
        let signal = gain * gain * played_energy;
        let signal_to_noise_db = match () {
            () if noise < 1.0 => 99.0,
            () if signal == 0.0 => -99.0,
            () => (10.0 * (signal / noise).log10()).clamp(-99.0, 99.0),
        };
        let (mut silent_frames, mut played_frames) = (0, 0);
        for (p, h) in played.chunks_exact(FRAME_SAMPLES).zip(heard.chunks_exact(FRAME_SAMPLES)) {
            if root_mean_square(p) > 4.0 * SILENCE_RMS {
                played_frames += 1;
                silent_frames += usize::from(root_mean_square(h) < SILENCE_RMS);
            }
        }
        Self { played_energy, heard_energy, signal_to_noise_db, silent_frames, played_frames }
    }

    /// Whether there was something to hear, and something was heard.
    fn is_heard(&self) -> bool {
        self.played_frames > 0 && self.heard_energy > 0.0
    }
}

/// The delay of a stretch: the one before it, or that one changed by whole frames where the stretch is
/// clearly found there.
fn follow_delay(stretch: &[i16], heard: &[i16], start: usize, delay: usize) -> usize {
    let likeness = |delay: usize| {
        let Some(heard) = heard.get(start + delay..start + delay + stretch.len()) else { return -1.0 };
        let norm = (energy(stretch) * energy(heard)).sqrt();
        if norm == 0.0 { -1.0 } else { cross(stretch, heard) / norm }
    };
    let stays = likeness(delay);
    let moves = (1..=DELAY_STEP_FRAMES)
        .flat_map(|frames| {
            [delay.checked_add(frames * FRAME_SAMPLES), delay.checked_sub(frames * FRAME_SAMPLES)]
        })
        .flatten()
        .map(|delay| (delay, likeness(delay)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    match moves {
        Some((moved, score)) if stays < 0.8 && score > 0.9 => moved,
        _ => delay,
    }
}

/// Level of a signal in dB of full scale; -99 for silence.
#[must_use]
pub fn level_dbfs(samples: &[i16]) -> f64 {
    let level = root_mean_square(samples);
    if level < 0.4 { -99.0 } else { 20.0 * (level / 32_768.0).log10() }
}

/// The signal that the demonstration plays: notes of a scale with soft edges, each gliding a
/// little so that no two stretches are alike and a delay can be read off without doubt.
#[must_use]
pub fn melody(duration_ms: usize) -> Vec<i16> {
    const NOTES_HZ: [f64; 8] = [392.0, 440.0, 523.3, 587.3, 659.3, 784.0, 880.0, 1_046.5];
    const NOTE_SAMPLES: usize = SAMPLE_RATE_HZ / 4;
    const EDGE_SAMPLES: f64 = 160.0;
    let mut phase = 0.0_f64;
    (0..duration_ms * SAMPLE_RATE_HZ / 1_000)
        .map(|index| {
            let note = index / NOTE_SAMPLES;
            let within = (index % NOTE_SAMPLES) as f64;
            // A fixed scramble of the scale, so that the tune does not repeat within a minute.
            let base = NOTES_HZ[(note * 5 + note / 8 * 3 + note * note / 3) % NOTES_HZ.len()];
            let glide = 1.0 + 0.04 * (within / NOTE_SAMPLES as f64) * ((note % 5) as f64 - 2.0);
            phase += base * glide / SAMPLE_RATE_HZ as f64;
            let edge = (within.min(NOTE_SAMPLES as f64 - within) / EDGE_SAMPLES).min(1.0);
            let tone = (TAU * phase).sin() + 0.25 * (TAU * 2.0 * phase).sin();
            (tone * edge * 6_500.0) as i16
        })
        .collect()
}

/// The lag, in samples, at which `heard` resembles `played` best: a coarse search on every
/// fourth sample, then a fine one around it.
fn find_delay(played: &[i16], heard: &[i16]) -> Option<usize> {
    let onset = played.iter().position(|sample| sample.unsigned_abs() > 200)?;
    let probe = &played[onset..played.len().min(onset + SAMPLE_RATE_HZ)];
    let last = heard.len().checked_sub(onset + probe.len() / 2)?.min(DELAY_MAX_SAMPLES);
    let likeness = |lag: usize, step: usize| {
        let heard = &heard[onset + lag..];
        let pairs = || probe.iter().zip(heard).step_by(step);
        let cross: f64 = pairs().map(|(p, h)| f64::from(*p) * f64::from(*h)).sum();
        let norm: f64 = pairs().map(|(p, h)| f64::from(*p).powi(2) + f64::from(*h).powi(2)).sum();
        if norm == 0.0 { 0.0 } else { 2.0 * cross / norm }
    };
    let best = |lags: &mut dyn Iterator<Item = usize>, step| {
        lags.map(|lag| (lag, likeness(lag, step))).max_by(|a, b| a.1.total_cmp(&b.1))
    };
    let (coarse, _) = best(&mut (0..=last), 4)?;
    let (fine, score) = best(&mut (coarse.saturating_sub(8)..=(coarse + 8).min(last)), 1)?;
    (score > 0.2).then_some(fine)
}

fn cross(played: &[i16], heard: &[i16]) -> f64 {
    played.iter().zip(heard).map(|(p, h)| f64::from(*p) * f64::from(*h)).sum()
}

fn energy(samples: &[i16]) -> f64 {
    samples.iter().map(|sample| f64::from(*sample).powi(2)).sum()
}

fn root_mean_square(samples: &[i16]) -> f64 {
    if samples.is_empty() { 0.0 } else { (energy(samples) / samples.len() as f64).sqrt() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delayed(samples: &[i16], delay: usize) -> Vec<i16> {
        let mut heard = vec![0; delay];
        heard.extend_from_slice(samples);
        heard
    }

    #[test]
    fn an_undisturbed_signal_shows_its_delay_and_nothing_else() {
        let played = melody(3_000);
        let comparison = compare(&played, &delayed(&played, 333)).expect("comparable");
        assert!((comparison.delay_ms - 333.0 / 8.0).abs() < 0.2, "{comparison:?}");
        assert!(comparison.level_change_db.abs() < 0.01, "{comparison:?}");
        assert_eq!(comparison.signal_to_noise_db, 99.0);
        assert_eq!(comparison.silent_frames, 0);
        assert!(comparison.played_frames > 100);
    }

    #[test]
    fn a_lost_frame_and_a_lower_level_are_seen() {
        let played = melody(3_000);
        let mut heard: Vec<i16> = delayed(&played, 800).iter().map(|sample| sample / 2).collect();
        heard[800 + 8_160..800 + 8_320].fill(0);
        let comparison = compare(&played, &heard).expect("comparable");
        assert!((comparison.level_change_db + 6.0).abs() < 0.3, "{comparison:?}");
        assert_eq!(comparison.silent_frames, 1);
    }

    #[test]
    fn a_path_that_ran_dry_is_later_from_there_on_and_judged_all_the_same() {
        let played = melody(3_000);
        let mut heard = delayed(&played[..12_000], 160);
        heard.extend([0; 320]);
        heard.extend_from_slice(&played[12_000..]);
        let comparison = compare(&played, &heard).expect("comparable");
        assert!((comparison.delay_ms - 20.0).abs() < 0.2, "{comparison:?}");
        assert!((comparison.delay_last_ms - 60.0).abs() < 0.2, "{comparison:?}");
        assert!(comparison.signal_to_noise_db > 90.0, "{comparison:?}");
        assert!((1..=2).contains(&comparison.silent_frames), "{comparison:?}");
    }

    #[test]
    fn silence_and_a_stranger_are_not_taken_for_the_signal() {
        let played = melody(2_000);
        assert_eq!(compare(&played, &vec![0; 16_000]), None);
        let noise: Vec<i16> = (0..16_000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 16) as i16).collect();
        assert_eq!(compare(&played, &noise), None);
        assert_eq!(compare(&played, &[]), None);
    }
}
