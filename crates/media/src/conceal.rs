//! Makes up audio for packets that did not come, from the pitch of what came before.
//!
//! The last pitch period is repeated, fading from the tenth millisecond and silent after sixty; where audio
//! comes back, its first four milliseconds are faded in. The method is that of G.711 Appendix I without its
//! 3.75 ms of delay: instead of holding audio back to smooth the seam, the seam's step is taken out of the
//! made-up samples. Nor are two and three periods repeated from the second and third ten milliseconds on:
//! measured by ITU-T P.862 that costs speech more than the buzz that it avoids (the command `sound_quality`
//! has both). Audio with no loss before it is not touched: it passes bit for bit.

use crate::codec::Coding;
use crate::g711;

/// Longest pitch period looked for: 15 ms, 66 Hz. All lengths here are in samples of 8 kHz; of a faster rate there are
/// as many times more.
const PERIOD_MAX: usize = 120;
/// Shortest pitch period looked for: 5 ms, 200 Hz. Higher voices repeat in multiples of theirs.
const PERIOD_MIN: usize = 40;
/// Samples compared to find the period: 20 ms.
const COMPARED: usize = 160;
/// What is remembered of the past.
const HISTORY: usize = COMPARED + PERIOD_MAX;
/// Where the fade begins and where it ends in silence: 10 and 60 ms.
const FADE: std::ops::Range<usize> = 80..480;
/// Samples over which the step at the seam is taken out: 2 ms.
const SEAM: usize = 16;
/// Samples over which returning audio is faded in: 4 ms.
const RETURN: usize = 32;

/// Conceals the losses of one stream.
#[derive(Debug, Clone)]
pub struct Concealer {
    coding: Coding,
    /// Samples for each of 8 kHz, and bytes of a sample.
    scale: usize,
    width: usize,
    /// The last audio heard, as it is coded; decoded only when something is missing, which is cheaper than always.
    heard: Box<[u8]>,
    /// The same decoded, from the beginning of a gap to its end.
    past: Vec<i16>,
    /// Samples made up since the last that were heard; saturates when silent.
    gap: usize,
    /// The period that is repeated, and the place in it.
    period: usize,
    place: usize,
    /// The step between the last sample heard and the first made up.
    step: f32,
}

impl Concealer {
    /// A concealer that has heard nothing yet.
    pub fn new(coding: impl Into<Coding>) -> Self {
        let coding = coding.into();
        let scale = (coding.rate_hz() / crate::SAMPLE_RATE_HZ) as usize;
        let width = coding.bytes_per_ms() / (8 * scale);
        Self {
            coding,
            scale,
            width,
            heard: vec![coding.silence(); HISTORY * scale * width].into(),
            past: Vec::new(),
            gap: FADE.end * scale,
            period: PERIOD_MIN * scale,
            place: 0,
            step: 0.0,
        }
    }

    /// Takes audio that came. After a gap its beginning is blended with what would have been made up next.
    pub fn heard(&mut self, audio: &mut [u8]) {
        if self.gap > 0 {
            if self.gap < FADE.end * self.scale {
                self.blend(audio);
            }
            self.gap = 0;
        }
        self.remember(audio);
    }

    /// Makes up audio where none came. Returns whether any of it is more than silence.
    pub fn make_up(&mut self, audio: &mut [u8]) -> bool {
        if self.gap >= FADE.end * self.scale {
            audio.fill(self.coding.silence());
            return false;
        }
        if self.gap == 0 {
            self.begin();
        }
        for place in audio.chunks_exact_mut(self.width) {
            let sample = self.next_sample();
            write(self.coding, sample, place);
        }
        true
    }

    /// Forgets the past: another source speaks.
    pub fn reset(&mut self) {
        *self = Self::new(self.coding);
    }

    fn begin(&mut self) {
        self.past.clear();
        match self.coding {
            Coding::G711(law) => g711::decode_into(law, &self.heard, &mut self.past),
            Coding::Linear { .. } => g711::l16_le_into(&self.heard, &mut self.past),
        }
        self.period = self.find_period();
        self.place = 0;
        let last = self.past[self.past.len() - 1];
        let before_loop = self.past[self.past.len() - 1 - self.period];
        self.step = f32::from(last) - f32::from(before_loop);
    }

    fn next_sample(&mut self) -> i16 {
        let (seam, fade) = (SEAM * self.scale, FADE.start * self.scale..FADE.end * self.scale);
        if self.gap >= fade.end {
            return 0;
        }
        let mut sample = self.looped(self.place);
        if self.gap < seam {
            sample += self.step * (1.0 - self.gap as f32 / seam as f32);
        }
        if self.gap >= fade.start {
            sample *= (fade.end - self.gap) as f32 / fade.len() as f32;
        }
        self.place = (self.place + 1) % self.period;
        self.gap += 1;
        sample.round() as i16
    }

    /// A sample of the loop of the last period, its end blended into what precedes its start,
    /// so that it closes without a click.
    fn looped(&self, place: usize) -> f32 {
        let start = self.past.len() - self.period;
        let sample = f32::from(self.past[start + place]);
        let overlap = self.period / 4;
        let to_end = self.period - place;
        if to_end > overlap {
            return sample;
        }
        let weight = to_end as f32 / (overlap + 1) as f32;
        let before = f32::from(self.past[start - to_end]);
        sample * weight + before * (1.0 - weight)
    }

    fn blend(&mut self, audio: &mut [u8]) {
        let length = (RETURN * self.scale).min(audio.len() / self.width);
        for (at, place) in audio.chunks_exact_mut(self.width).take(length).enumerate() {
            let weight = (at + 1) as f32 / (length + 1) as f32;
            let real = f32::from(read(self.coding, place));
            let made_up = f32::from(self.next_sample());
            write(self.coding, (real * weight + made_up * (1.0 - weight)).round() as i16, place);
        }
    }

    fn remember(&mut self, audio: &[u8]) {
        let length = self.heard.len();
        let audio = &audio[audio.len().saturating_sub(length)..];
        self.heard.copy_within(audio.len().., 0);
        self.heard[length - audio.len()..].copy_from_slice(audio);
    }

    /// The lag at which the last 20 ms are most like what came before them.
    fn find_period(&self) -> usize {
        let end = self.past.len();
        let compared = COMPARED * self.scale;
        let recent = &self.past[end - compared..];
        let mut best = (f32::MIN, PERIOD_MAX * self.scale);
        for lag in PERIOD_MIN * self.scale..=PERIOD_MAX * self.scale {
            let earlier = &self.past[end - compared - lag..end - lag];
            let (mut product, mut energy) = (0.0_f32, 1.0_f32);
            for (a, b) in recent.iter().zip(earlier) {
                let (a, b) = (f32::from(*a), f32::from(*b));
                product += a * b;
                energy += b * b;
            }
            let likeness = product / energy.sqrt();
            // A multiple of the period is as like as the period; a little less is enough for the shorter.
            if likeness > best.0 * 1.02 || best.0 == f32::MIN {
                best = (likeness, lag);
            }
        }
        best.1
    }
}

fn read(coding: Coding, place: &[u8]) -> i16 {
    match (coding, place) {
        (Coding::G711(law), [code, ..]) => g711::decode(law, *code),
        (Coding::Linear { .. }, [low, high, ..]) => i16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

fn write(coding: Coding, sample: i16, place: &mut [u8]) {
    match coding {
        Coding::G711(law) => place.fill(g711::encode(law, sample)),
        Coding::Linear { .. } => place.copy_from_slice(&sample.to_le_bytes()),
    }
}

const _: () = assert!(HISTORY >= PERIOD_MAX + PERIOD_MAX / 4);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Law;
    use std::f64::consts::PI;

    /// A voice-like signal: a fundamental with harmonics that fall off.
    fn voice(pitch_hz: f64, samples: std::ops::Range<usize>) -> Vec<i16> {
        samples
            .map(|at| {
                let phase = 2.0 * PI * pitch_hz * at as f64 / 8_000.0;
                let sum: f64 = (1..8).map(|n| (phase * f64::from(n)).sin() / f64::from(n)).sum();
                (sum * 6_000.0) as i16
            })
            .collect()
    }

    fn encoded(law: Law, samples: &[i16]) -> Vec<u8> {
        samples.iter().map(|sample| g711::encode(law, *sample)).collect()
    }

    fn snr_db(truth: &[i16], heard: &[u8], law: Law) -> f64 {
        let (mut signal, mut noise) = (0.0_f64, 1.0_f64);
        for (truth, heard) in truth.iter().zip(heard) {
            let difference = f64::from(*truth) - f64::from(g711::decode(law, *heard));
            signal += f64::from(*truth).powi(2);
            noise += difference.powi(2);
        }
        10.0 * (signal / noise).log10()
    }

    #[test]
    fn audio_without_loss_is_not_touched() {
        for law in [Law::Mulaw, Law::Alaw] {
            let mut concealer = Concealer::new(law);
            for round in 0..20_u8 {
                let mut frame: Vec<u8> =
                    (0..160_u8).map(|at| at.wrapping_mul(31).wrapping_add(round)).collect();
                let before = frame.clone();
                concealer.heard(&mut frame);
                assert_eq!(frame, before);
            }
        }
    }

    /// The first 10 ms of a lost frame of a steady voice must be close to what was lost.
    #[test]
    fn a_steady_voice_goes_on_through_a_lost_frame() {
        for law in [Law::Mulaw, Law::Alaw] {
            for pitch_hz in [80.0, 110.0, 160.0, 210.0] {
                let mut concealer = Concealer::new(law);
                concealer.heard(&mut encoded(law, &voice(pitch_hz, 0..800)));
                let mut made_up = [0; 160];
                assert!(concealer.make_up(&mut made_up));
                let truth = voice(pitch_hz, 800..960);
                let snr = snr_db(&truth[..80], &made_up[..80], law);
                assert!(snr > 8.0, "{pitch_hz} Hz: {snr:.1} dB");
            }
        }
    }

    #[test]
    fn a_long_gap_fades_and_is_silent_after_60_ms() {
        let mut concealer = Concealer::new(Law::Mulaw);
        concealer.heard(&mut encoded(Law::Mulaw, &voice(120.0, 0..800)));
        let mut made_up = [0; 640];
        concealer.make_up(&mut made_up);
        let level = |range: std::ops::Range<usize>| {
            made_up[range].iter().map(|code| f64::from(g711::decode(Law::Mulaw, *code)).powi(2)).sum::<f64>()
        };
        assert!(level(0..80) > level(160..240) && level(160..240) > level(320..400));
        assert!(made_up[480..].iter().all(|code| *code == 0xFF));
        let mut more = [0; 160];
        assert!(!concealer.make_up(&mut more));
        let mut frame = encoded(Law::Mulaw, &voice(120.0, 1_000..1_160));
        let before = frame.clone();
        concealer.heard(&mut frame);
        assert_eq!(frame, before, "after silence nothing is blended");
    }

    /// No step at either seam may be larger than the steps of the voice itself, by much.
    #[test]
    fn seams_do_not_click() {
        for pitch_hz in [75.0, 93.0, 140.0, 190.0] {
            let mut concealer = Concealer::new(Law::Alaw);
            let mut all = encoded(Law::Alaw, &voice(pitch_hz, 0..800));
            concealer.heard(&mut all);
            let mut made_up = [0; 160];
            concealer.make_up(&mut made_up);
            all.extend(made_up);
            let mut back = encoded(Law::Alaw, &voice(pitch_hz, 960..1_120));
            concealer.heard(&mut back);
            all.extend(back);
            let samples: Vec<i32> =
                all.iter().map(|code| i32::from(g711::decode(Law::Alaw, *code))).collect();
            let steps = |range: std::ops::Range<usize>| {
                samples[range].windows(2).map(|pair| (pair[1] - pair[0]).abs()).max().unwrap()
            };
            let natural = steps(0..800);
            assert!(steps(795..1_000) < natural * 3 / 2, "{pitch_hz} Hz: {} to {natural}", steps(795..1_000));
        }
    }

    #[test]
    fn silence_and_a_first_loss_are_concealed_by_silence() {
        let mut concealer = Concealer::new(Law::Mulaw);
        let mut frame = [0; 160];
        assert!(!concealer.make_up(&mut frame));
        assert_eq!(frame, [0xFF; 160]);
        concealer.heard(&mut [0xFF; 800]);
        concealer.make_up(&mut frame);
        assert_eq!(frame, [0xFF; 160]);
    }
}
