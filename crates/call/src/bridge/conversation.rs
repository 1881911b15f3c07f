//! Who spoke when: the first audio of either side, and how long the agent lets the caller wait at each turn.
//!
//! By loudness alone, looked at in every fourth sample, so that it costs next to nothing and can always run. It refuses to
//! tell words from noise: what acts on turns needs a detector of voice. A turn is measured from the caller's last loud frame
//! to the agent's first that truly left; one in which the agent began while the caller spoke is none.

use std::time::{Duration, Instant};

use tandem_media::{Coding, g711};

use super::histogram::DelayHistogram;

/// Mean of the samples' magnitudes from which a frame is loud: 42 dB below full scale. Speech on a telephone lies 15 to 30
/// dB below, what a quiet line adds 55 and more.
const LOUD: u32 = 256;

/// Every so-manieth sample is looked at.
const STEP: usize = 4;

/// Loud frames, in excess of others, that make it speech: 80 ms.
const SPEECH_FRAMES: u32 = 4;

/// Quiet from either side after which it has stopped to speak.
const STOPPED: Duration = Duration::from_millis(300);

/// What is known of the conversation.
#[derive(Debug, Default)]
pub(super) struct Conversation {
    began: Option<Instant>,
    caller: Speaker,
    agent: Speaker,
    /// The caller has spoken since the agent last began to.
    is_agents_turn: bool,
    pub(super) first_caller: Option<Duration>,
    pub(super) first_agent: Option<Duration>,
    pub(super) gaps: DelayHistogram,
}

/// One side.
#[derive(Debug, Default)]
struct Speaker {
    frames: u32,
    last_loud: Option<Instant>,
}

impl Conversation {
    /// Both sides can hear each other from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.began = Some(now);
    }

    /// 20 ms of the caller that came at `arrived`; made-up ones have come never.
    pub(super) fn caller(&mut self, arrived: Option<Instant>, coding: Coding, audio: &[u8]) {
        let Some(arrived) = arrived else { return };
        let began = self.began;
        self.first_caller.get_or_insert_with(|| since(began, arrived));
        if self.caller.hear(arrived, is_loud(coding, audio)) {
            self.is_agents_turn = true;
        }
    }

    /// A packet of the agent's audio that left towards the caller at `at`.
    pub(super) fn agent(&mut self, at: Instant, coding: Coding, audio: &[u8]) {
        let began = self.began;
        self.first_agent.get_or_insert_with(|| since(began, at));
        let was_quiet = self.agent.has_stopped(at);
        let is_loud = is_loud(coding, audio);
        if is_loud
            && was_quiet
            && std::mem::take(&mut self.is_agents_turn)
            && let Some(last) = self.caller.last_loud
            && !self.caller.is_speaking(at)
        {
            self.gaps.record(at.saturating_duration_since(last));
        }
        self.agent.hear(at, is_loud);
    }
}

impl Speaker {
    /// Whether it speaks, after this frame.
    fn hear(&mut self, at: Instant, is_loud: bool) -> bool {
        if self.has_stopped(at) {
            self.frames = 0;
        }
        if is_loud {
            self.frames = (self.frames + 1).min(SPEECH_FRAMES * 2);
            self.last_loud = Some(at);
        } else {
            self.frames = self.frames.saturating_sub(1);
        }
        is_loud && self.frames >= SPEECH_FRAMES
    }

    fn has_stopped(&self, at: Instant) -> bool {
        self.last_loud.is_none_or(|last| at.saturating_duration_since(last) >= STOPPED)
    }

    /// Within a word: a frame ago at most it was loud.
    fn is_speaking(&self, at: Instant) -> bool {
        const WITHIN: Duration = Duration::from_millis(60);
        self.frames >= SPEECH_FRAMES
            && self.last_loud.is_some_and(|last| at.saturating_duration_since(last) <= WITHIN)
    }
}

fn since(began: Option<Instant>, at: Instant) -> Duration {
    began.map_or(Duration::ZERO, |began| at.saturating_duration_since(began))
}

fn is_loud(coding: Coding, audio: &[u8]) -> bool {
    match coding {
        Coding::G711(law) => is_above(audio.iter().step_by(STEP).map(|code| g711::decode(law, *code))),
        Coding::Linear { .. } => {
            is_above(audio.as_chunks().0.iter().step_by(STEP).map(|sample| i16::from_le_bytes(*sample)))
        }
    }
}

fn is_above(samples: impl ExactSizeIterator<Item = i16>) -> bool {
    let looked_at = samples.len() as u32;
    samples.map(|sample| u32::from(sample.unsigned_abs())).sum::<u32>() > LOUD * looked_at
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use tandem_media::Law;

    use super::*;

    const MULAW: Coding = Coding::G711(Law::Mulaw);
    const MS: Duration = Duration::from_millis(1);

    fn frame(amplitude: i16) -> [u8; 160] {
        std::array::from_fn(|at| g711::encode(Law::Mulaw, if at % 2 == 0 { amplitude } else { -amplitude }))
    }

    /// Plays a script of 20 ms steps: which side is loud.
    fn play(steps: &[(u32, bool, bool)]) -> Conversation {
        let start = Instant::now();
        let mut conversation = Conversation::default();
        conversation.begin(start);
        let mut at = start;
        for (count, caller, agent) in steps {
            for _ in 0..*count {
                at += 20 * MS;
                let audio = frame(if *caller { 4_000 } else { 20 });
                conversation.caller(Some(at), MULAW, &audio);
                if *agent {
                    conversation.agent(at + MS, MULAW, &frame(4_000));
                }
            }
        }
        conversation
    }

    #[test]
    fn a_turn_is_from_the_callers_last_word_to_the_agents_first() {
        let conversation = play(&[(50, true, false), (40, false, false), (50, false, true)]);
        assert_eq!(conversation.gaps.count(), 1);
        assert_eq!(conversation.gaps.max(), 821 * MS);
        assert_eq!(conversation.first_caller, Some(20 * MS));
        assert_eq!(conversation.first_agent, Some(1_821 * MS));
    }

    #[test]
    fn each_turn_is_counted_once_and_pauses_of_the_agent_are_none() {
        let turn =
            [(50, true, false), (30, false, false), (20, false, true), (20, false, false), (20, false, true)];
        let conversation = play(&[&turn[..], &turn[..]].concat());
        assert_eq!(conversation.gaps.count(), 2);
    }

    #[test]
    fn a_cough_a_greeting_and_an_interruption_are_no_turns() {
        assert_eq!(
            play(&[(2, true, false), (30, false, false), (50, false, true)]).gaps.count(),
            0,
            "a cough"
        );
        assert_eq!(play(&[(10, false, false), (50, false, true)]).gaps.count(), 0, "the agent greets");
        assert_eq!(
            play(&[(50, true, false), (20, true, true), (20, false, true)]).gaps.count(),
            0,
            "it interrupts"
        );
    }

    #[test]
    fn loudness_is_the_same_in_every_form() {
        for (amplitude, loud) in [(4_000_i16, true), (300, true), (200, false), (0, false)] {
            let wide: Vec<u8> =
                [amplitude, -amplitude].repeat(160).iter().flat_map(|s| s.to_le_bytes()).collect();
            assert_eq!(is_loud(Coding::Linear { rate_hz: 16_000 }, &wide), loud, "{amplitude}");
            assert_eq!(is_loud(MULAW, &frame(amplitude)), loud, "{amplitude}");
        }
        assert!(!is_loud(MULAW, &[]));
    }
}
