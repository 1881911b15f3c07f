//! What Tandem itself heard and measured, told to agents that ask for it: the caller's turns, barge-in, and how much of
//! what was said was heard. No vendor has words for these, so they are Tandem's own, the same in every dialect that
//! can carry them, written once; who knows them not passes over them, as over any event.
//!
//! In the JSON dialects an object under the dialect's own key (`event` or `type`), in plain chan_websocket a word with
//! `name:value` pairs. Times are milliseconds of the caller's stream, positions milliseconds of the utterance.

use super::media_stream::put;
use crate::json::{push_number, push_string};
use crate::{AgentEvent, FrameKind};

/// How a dialect says what is not its vendor's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OwnWords {
    /// A JSON object with the event's name under this key.
    Json(&'static str),
    /// An upper-case word and its fields.
    Plain,
    /// Not at all: there is no text on the wire, or every message is the protocol's.
    None,
}

/// Writes `event` if it is one of ours; `None` for all others, and where there are no words.
pub(super) fn encode(words: OwnWords, event: &AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
    let mut message = Message { words, out };
    match event {
        AgentEvent::SpeechStarted { at_ms } => {
            message.begin("speech_started")?;
            message.number("at_ms", *at_ms);
        }
        AgentEvent::SpeechStopped { at_ms } => {
            message.begin("speech_stopped")?;
            message.number("at_ms", *at_ms);
        }
        AgentEvent::BargeIn { utterance, heard_ms, is_cleared } => {
            message.begin("barge_in")?;
            message.number("utterance", *utterance);
            message.number("heard_ms", *heard_ms);
            message.word("cleared", if *is_cleared { "true" } else { "false" });
        }
        AgentEvent::Heard { cause, name, utterance, heard_ms } => {
            message.begin("heard")?;
            message.quoted("cause", cause.name());
            message.number("utterance", *utterance);
            message.number("heard_ms", *heard_ms);
            if let Some(name) = name {
                // Last, for in plain text it goes to the end of the line.
                message.quoted("name", name);
            }
        }
        _ => return None,
    }
    message.end();
    Some(FrameKind::Text)
}

/// Whether `event` is written here and nowhere else.
pub(super) const fn is_own(event: &AgentEvent<'_>) -> bool {
    matches!(
        event,
        AgentEvent::SpeechStarted { .. }
            | AgentEvent::SpeechStopped { .. }
            | AgentEvent::BargeIn { .. }
            | AgentEvent::Heard { .. }
    )
}

struct Message<'a> {
    words: OwnWords,
    out: &'a mut Vec<u8>,
}

impl Message<'_> {
    fn begin(&mut self, name: &str) -> Option<()> {
        match self.words {
            OwnWords::Json(key) => {
                self.out.push(b'{');
                push_string(self.out, key);
                self.out.push(b':');
                push_string(self.out, name);
            }
            OwnWords::Plain => self.out.extend(name.bytes().map(|byte| byte.to_ascii_uppercase())),
            OwnWords::None => return None,
        }
        Some(())
    }

    fn field(&mut self, name: &str) {
        if let OwnWords::Json(_) = self.words {
            self.out.push(b',');
            push_string(self.out, name);
        } else {
            self.out.push(b' ');
            put(self.out, name);
        }
        self.out.push(b':');
    }

    fn number(&mut self, name: &str, value: u64) {
        self.field(name);
        push_number(self.out, value);
    }

    fn word(&mut self, name: &str, value: &str) {
        self.field(name);
        put(self.out, value);
    }

    fn quoted(&mut self, name: &str, value: &str) {
        self.field(name);
        if let OwnWords::Json(_) = self.words { push_string(self.out, value) } else { put(self.out, value) }
    }

    fn end(&mut self) {
        if let OwnWords::Json(_) = self.words {
            self.out.push(b'}');
        }
    }
}
