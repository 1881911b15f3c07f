//! Voice activity: when the caller begins to speak and when he has stopped.
//!
//! Each 16 ms are judged by `earshot`'s network; here is what makes turns of its scores. A turn begins after some
//! frames of voice in excess of frames without, and ends after half a second without, so that neither a cough nor the
//! pause before a plosive is one. What is fainter than speech on a telephone, or hardly louder than the noise of the
//! line, is not voice whatever it sounds like: a hiss may look like a consonant. It changes no audio and acts on nothing.

use crate::codec::Coding;
use crate::convert::Converter;
use crate::g711;

/// Samples of 16 kHz that are judged at once.
const FRAME: usize = 256;
const RATE_HZ: u32 = 16_000;
/// Scores from which a frame counts as voice before a turn, and within one.
const BEGINS_AT: f32 = 0.6;
const GOES_ON_AT: f32 = 0.35;
/// Excess of frames with voice that begins a turn: 112 ms.
const BEGIN_FRAMES: u32 = 7;
/// Frames without voice that end it: 512 ms.
const END_FRAMES: u32 = 32;
/// Least power of a frame that may hold voice, of full scale: -50 dBov.
const POWER_MIN: f32 = 1e-5;
/// How much louder than the line's noise voice is where a turn begins, and within one: 6 and 3 dB of power.
const BEGINS_ABOVE: f32 = 4.0;
const GOES_ON_ABOVE: f32 = 2.0;
/// The noise is the faintest frame lately; what is known of it rises by 3 dB a second until a fainter one comes.
const NOISE_RISE: f32 = 1.011;

/// The caller's turn has begun or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// He began to speak, `ago_ms` before this.
    Began {
        /// Milliseconds that it took to be sure.
        ago_ms: u32,
    },
    /// He stopped, `ago_ms` before this.
    Ended {
        /// Milliseconds that it took to be sure.
        ago_ms: u32,
    },
}

/// Finds the turns in one stream of audio.
pub struct VoiceDetector {
    network: Box<earshot::Detector>,
    converter: Converter,
    bytes: Vec<u8>,
    samples: Vec<i16>,
    /// Power of the line's noise, once anything was heard.
    noise: Option<f32>,
    is_voice: bool,
    /// Towards the change that is awaited.
    frames: u32,
}

impl std::fmt::Debug for VoiceDetector {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("VoiceDetector").field("is_voice", &self.is_voice).finish_non_exhaustive()
    }
}

impl VoiceDetector {
    /// A detector for audio in the form of `coding`; nobody speaks yet.
    pub fn new(coding: Coding) -> Self {
        let linear = Coding::Linear { rate_hz: RATE_HZ };
        Self {
            network: earshot::Detector::default_boxed(),
            converter: Converter::new(coding, linear).expect("codings held have rates that have filters"),
            bytes: Vec::new(),
            samples: Vec::new(),
            noise: None,
            is_voice: false,
            frames: 0,
        }
    }

    /// Takes audio of any length; says if a turn began or ended in it, the last of both if both did.
    pub fn push(&mut self, audio: &[u8]) -> Option<Turn> {
        self.bytes.clear();
        self.converter.convert(audio, &mut self.bytes);
        g711::l16_le_into(&self.bytes, &mut self.samples);
        let mut turn = None;
        let mut judged = 0;
        while let Some(frame) = self.samples.get(judged..judged + FRAME) {
            let energy = frame.iter().map(|sample| (f32::from(*sample) / 32_768.0).powi(2)).sum::<f32>();
            let power = energy / FRAME as f32;
            let score = self.network.predict_i16(frame);
            judged += FRAME;
            let noise = self.noise.map_or(power, |noise| power.min(noise * NOISE_RISE)).max(1e-9);
            self.noise = Some(noise);
            let above = if self.is_voice { GOES_ON_ABOVE } else { BEGINS_ABOVE };
            let is_audible = power >= POWER_MIN && power >= noise * above;
            turn = self.judge(if is_audible { score } else { 0.0 }).or(turn);
        }
        self.samples.drain(..judged);
        turn
    }

    /// Whether the caller speaks.
    pub const fn is_voice(&self) -> bool {
        self.is_voice
    }

    fn judge(&mut self, score: f32) -> Option<Turn> {
        const FRAME_MS: u32 = FRAME as u32 * 1_000 / RATE_HZ;
        if self.is_voice {
            self.frames = if score < GOES_ON_AT { self.frames + 1 } else { 0 };
            if self.frames < END_FRAMES {
                return None;
            }
            (self.is_voice, self.frames) = (false, 0);
            return Some(Turn::Ended { ago_ms: END_FRAMES * FRAME_MS });
        }
        self.frames = if score >= BEGINS_AT { self.frames + 1 } else { self.frames.saturating_sub(2) };
        if self.frames < BEGIN_FRAMES {
            return None;
        }
        (self.is_voice, self.frames) = (true, 0);
        Some(Turn::Began { ago_ms: BEGIN_FRAMES * FRAME_MS })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Law;
    use rand_core::{Rng, SeedableRng};

    fn detector() -> VoiceDetector {
        VoiceDetector::new(Coding::G711(Law::Mulaw))
    }

    fn turns(scores: impl IntoIterator<Item = f32>) -> Vec<(usize, Turn)> {
        let mut detector = detector();
        scores.into_iter().enumerate().filter_map(|(at, score)| Some((at, detector.judge(score)?))).collect()
    }

    fn scores(parts: &[(f32, usize)]) -> Vec<f32> {
        parts.iter().flat_map(|(score, frames)| vec![*score; *frames]).collect()
    }

    #[test]
    fn a_turn_begins_after_seven_frames_and_ends_after_half_a_second() {
        let found = turns(scores(&[(0.1, 20), (0.9, 60), (0.1, 60)]));
        assert_eq!(found, [(26, Turn::Began { ago_ms: 112 }), (111, Turn::Ended { ago_ms: 512 })]);
    }

    #[test]
    fn a_cough_is_no_turn_and_a_pause_within_a_word_is_no_end() {
        assert_eq!(turns(scores(&[(0.1, 20), (0.9, 5), (0.1, 60), (0.9, 6), (0.2, 40)])), []);
        let found = turns(scores(&[(0.9, 20), (0.1, 20), (0.5, 1), (0.1, 20), (0.9, 20), (0.1, 40)]));
        assert_eq!(found.len(), 2, "{found:?}");
        // Scores that waver between the two thresholds keep a turn and begin none.
        assert_eq!(turns(scores(&[(0.5, 100)])), []);
        assert_eq!(turns(scores(&[(0.9, 20), (0.5, 200)])).len(), 1);
    }

    /// Five seconds of one speaker, from a telephone.
    fn voice() -> Vec<i16> {
        let mut samples = Vec::new();
        g711::decode_into(Law::Mulaw, include_bytes!("../tests/speech.ulaw"), &mut samples);
        samples
    }

    fn heard(samples: &[i16]) -> Vec<Turn> {
        let mut detector = detector();
        let mut found = Vec::new();
        for frame in samples.chunks(160) {
            let mut codes = Vec::new();
            g711::encode_into(Law::Mulaw, frame, &mut codes);
            found.extend(detector.push(&codes));
        }
        found
    }

    #[test]
    fn a_voice_is_one_turn_and_silence_noise_and_tones_are_none() {
        let samples = [vec![0; 8_000], voice(), vec![0; 16_000]].concat();
        let found = heard(&samples);
        assert!(matches!(found[..], [Turn::Began { .. }, Turn::Ended { .. }]), "{found:?}");
        assert_eq!(heard(&vec![0; 80_000]), []);
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(5);
        let noise: Vec<i16> = (0..80_000).map(|_| (random.next_u32() as i16) / 64).collect();
        assert_eq!(heard(&noise), []);
        let tone: Vec<i16> = (0..80_000).map(|at| (4_000.0 * (f64::from(at) * 0.345).sin()) as i16).collect();
        assert_eq!(heard(&tone), [], "a dial tone");
        let faint: Vec<i16> = voice().iter().map(|sample| sample / 200).collect();
        assert_eq!(heard(&faint), [], "a voice in the next room");
    }
}
