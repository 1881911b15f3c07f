//! The watch over a call in which nobody speaks: neither the caller nor the agent, for as long as the agent's owner
//! allows (Bolna's `hangup_after_silence`).
//!
//! What counts as sound: from the agent, audio that is louder than a line at rest; from the caller, audio that stands out
//! of its own background too, so that a humming line is not taken for a person; keys pressed, either way. It listens for
//! loudness and knows no words.

use std::time::{Duration, Instant};

use tandem_media::{Coding, g711};

/// Mean amplitude of a frame below which it is silence: some 50 dB under full scale.
const AUDIBLE: u32 = 100;
/// Mean amplitude from which a frame is sound whatever the background is: some 30 dB under full scale.
const LOUD: u32 = 1_000;
/// How far above its background a frame has to be, in tenths: 8 dB.
const ABOVE_BACKGROUND: u32 = 25;
/// Frames in a row that make a sound: shorter ones are clicks.
const FRAMES_OF_SOUND: u8 = 3;
/// Fixed point of the background: it rises by a part in so many with each frame, to the double in some four seconds.
const FRACTION: u32 = 256;

/// The watch of one call.
#[derive(Debug)]
pub(super) struct Quiet {
    limit: Option<Duration>,
    since: Instant,
    is_reported: bool,
    caller_frames: u8,
    agent_frames: u8,
    /// Mean amplitude of the caller's background, times [`FRACTION`].
    background: u32,
}

impl Quiet {
    /// A watch that reports once nobody has spoken for `limit`; with none it watches nothing.
    pub(super) const fn new(limit: Option<Duration>, now: Instant) -> Self {
        let background = AUDIBLE * FRACTION;
        Self { limit, since: now, is_reported: false, caller_frames: 0, agent_frames: 0, background }
    }

    /// Somebody was heard, or is not to be expected to speak.
    pub(super) const fn reset(&mut self, now: Instant) {
        self.since = now;
        self.is_reported = false;
    }

    /// A frame of the caller's audio as it came, not made up.
    pub(super) fn hear_caller(&mut self, now: Instant, coding: Coding, audio: &[u8]) {
        if self.limit.is_none() {
            return;
        }
        let level = level(coding, audio);
        let background = self.background / FRACTION;
        let stands_out = level >= LOUD || level * 10 >= background * ABOVE_BACKGROUND;
        self.background = (self.background + self.background / FRACTION + 1).min(LOUD * FRACTION);
        self.background = self.background.min(level * FRACTION).max(FRACTION);
        if is_sound(&mut self.caller_frames, level >= AUDIBLE && stands_out) {
            self.reset(now);
        }
    }

    /// A frame of the agent's audio as it leaves.
    pub(super) fn hear_agent(&mut self, now: Instant, coding: Coding, audio: &[u8]) {
        if self.limit.is_some() && is_sound(&mut self.agent_frames, level(coding, audio) >= AUDIBLE) {
            self.reset(now);
        }
    }

    /// For how long nobody has spoken, once that is too long; told once a silence.
    pub(super) fn poll(&mut self, now: Instant) -> Option<Duration> {
        let is_over = self.deadline().is_some_and(|deadline| now >= deadline);
        self.is_reported |= is_over;
        self.limit.filter(|_| is_over)
    }

    /// When the silence will have been too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.limit.filter(|_| !self.is_reported).map(|limit| self.since + limit)
    }
}

fn is_sound(frames: &mut u8, is_loud: bool) -> bool {
    *frames = if is_loud { frames.saturating_add(1) } else { 0 };
    *frames >= FRAMES_OF_SOUND
}

/// Mean amplitude of a frame.
fn level(coding: Coding, audio: &[u8]) -> u32 {
    match coding {
        Coding::G711(law) => mean(audio.iter().map(|code| g711::decode(law, *code))),
        Coding::Linear { .. } => mean(audio.as_chunks().0.iter().map(|sample| i16::from_le_bytes(*sample))),
    }
}

fn mean(samples: impl ExactSizeIterator<Item = i16>) -> u32 {
    let count = u32::try_from(samples.len()).unwrap_or(u32::MAX).max(1);
    samples.map(|sample| u32::from(sample.unsigned_abs())).sum::<u32>() / count
}

#[cfg(test)]
mod tests {
    use tandem_media::Law;

    use super::*;

    const MULAW: Coding = Coding::G711(Law::Mulaw);

    const LIMIT: Duration = Duration::from_secs(10);
    const FRAME: Duration = Duration::from_millis(20);

    struct Scene {
        now: Instant,
        quiet: Quiet,
        noise: u32,
    }

    impl Scene {
        fn new() -> Self {
            #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
            let now = Instant::now();
            Self { now, quiet: Quiet::new(Some(LIMIT), now), noise: 1 }
        }

        /// Noise of this mean amplitude for so many frames; when the silence was reported, in frames.
        fn hear(&mut self, amplitude: u32, frames: u32, by_agent: bool) -> Option<u32> {
            let mut reported = None;
            for frame in 0..frames {
                let audio: Vec<u8> = (0..160)
                    .map(|_| {
                        self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                        let part = i64::from(self.noise >> 16) * 4 * i64::from(amplitude) / 65_536;
                        g711::encode(Law::Mulaw, (part - 2 * i64::from(amplitude)) as i16)
                    })
                    .collect();
                self.now += FRAME;
                if by_agent {
                    self.quiet.hear_agent(self.now, MULAW, &audio);
                } else {
                    self.quiet.hear_caller(self.now, MULAW, &audio);
                }
                if self.quiet.poll(self.now).is_some() {
                    reported.get_or_insert(frame);
                }
            }
            reported
        }
    }

    #[test]
    fn a_call_in_which_nobody_speaks_is_reported_once_when_its_time_is_over() {
        let mut scene = Scene::new();
        assert_eq!(scene.hear(0, 1_200, false), Some(499));
        assert_eq!(scene.hear(0, 1_200, false), None, "it is told once");
        scene.hear(3_000, 5, false);
        assert_eq!(scene.hear(0, 600, false), Some(499), "a new silence is told again");
    }

    #[test]
    fn either_side_that_speaks_keeps_the_call() {
        for by_agent in [false, true] {
            let mut scene = Scene::new();
            for _ in 0..10 {
                assert_eq!(scene.hear(0, 450, by_agent), None);
                assert_eq!(scene.hear(800, 10, by_agent), None);
            }
        }
    }

    #[test]
    fn a_click_and_a_steady_hum_are_nobody() {
        let mut scene = Scene::new();
        scene.hear(300, 400, false);
        let mut reported = scene.hear(300, 600, false);
        assert!(reported.is_some(), "a background of its own is no speech");
        scene = Scene::new();
        scene.hear(0, 250, false);
        scene.hear(5_000, 2, false);
        reported = scene.hear(0, 260, false);
        assert!(reported.is_some(), "two frames are a click");
    }

    #[test]
    fn speech_over_a_noisy_line_is_heard() {
        let mut scene = Scene::new();
        scene.hear(300, 400, false);
        scene.hear(1_500, 20, false);
        for _ in 0..10 {
            assert_eq!(scene.hear(300, 400, false), None);
            assert_eq!(scene.hear(1_500, 20, false), None);
        }
    }

    #[test]
    fn an_amplitude_is_the_same_in_every_form() {
        let wide = Coding::Linear { rate_hz: 16_000 };
        let samples = [1_000_i16, -1_000, 3_000, -3_000];
        let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
        assert_eq!(level(wide, &bytes), 2_000);
        let codes: Vec<u8> = samples.iter().map(|sample| g711::encode(Law::Mulaw, *sample)).collect();
        assert!(level(MULAW, &codes).abs_diff(2_000) < 60, "{}", level(MULAW, &codes));
        assert_eq!((level(wide, &[]), level(MULAW, &[])), (0, 0));
    }

    #[test]
    fn without_a_limit_nothing_is_watched() {
        let mut scene = Scene::new();
        scene.quiet = Quiet::new(None, scene.now);
        assert_eq!(scene.hear(0, 2_000, false), None);
        assert_eq!(scene.quiet.deadline(), None);
    }
}
