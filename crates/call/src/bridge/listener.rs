//! What is heard in the caller's voice for an agent that asks: his turns, and his barging in.
//!
//! It tells the agent through [`Speech`], and drops
//! what the agent says if its settings ask for that. Agents that hear for themselves cost nothing here.

use tandem_agent::VoiceActivity;
use tandem_media::voice::{Turn, VoiceDetector};
use tandem_media::{Coding, IngressFrame};

use super::speech::{Notice, Speech};

/// An ear for the caller's voice.
#[derive(Debug)]
pub(super) struct Listener {
    wish: VoiceActivity,
    detector: Option<(Coding, VoiceDetector)>,
}

impl Listener {
    pub(super) const fn new(wish: VoiceActivity) -> Self {
        Self { wish, detector: None }
    }

    /// Takes 20 ms of the caller's audio, which is of `coding`.
    pub(super) fn listen(&mut self, coding: Coding, audio: &[u8], frame: &IngressFrame, speech: &mut Speech) {
        let clears = match self.wish {
            VoiceActivity::Off => return,
            VoiceActivity::Events => false,
            VoiceActivity::Clear => true,
        };
        let detector = match &mut self.detector {
            Some((known, detector)) if *known == coding => detector,
            other => &mut other.insert((coding, VoiceDetector::new(coding))).1,
        };
        let end_ms = frame.timestamp_ms + 20;
        match detector.push(audio) {
            Some(Turn::Began { ago_ms }) => {
                speech.barge_in(end_ms.saturating_sub(u64::from(ago_ms)), clears);
            }
            Some(Turn::Ended { ago_ms }) => {
                speech.notify(Notice::SpeechStopped { at_ms: end_ms.saturating_sub(u64::from(ago_ms)) });
            }
            None => {}
        }
    }
}
