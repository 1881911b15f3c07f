//! Vonage Voice WebSockets: linear binary audio both ways, JSON events and actions.
//!
//! A mark is `notify`, whose payload, whatever JSON it is, comes back when the audio before it has been played. A
//! clear is answered by `websocket:cleared`; notifications it overtakes are forgotten.

use serde::Deserialize;
use serde_json::Value;

use super::audio_wire::AudioWire;
use super::media_stream::{push_digit, push_field, put};
use super::{Speak, bounded_name};
use crate::json::{Scalar, push_number};
use crate::{AgentCommand, AgentEvent, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Vonage {
    wire: AudioWire,
    is_started: bool,
    ignored: u64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    action: Scalar<'a>,
    #[serde(default)]
    payload: Value,
}

impl Vonage {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self { wire: AudioWire::new(config), is_started: false, ignored: 0 }
    }
}

impl Speak for Vonage {
    fn wire(&self) -> &AudioWire {
        &self.wire
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    /// The agent's parameters stand beside the content type, as the `headers` of Vonage's endpoint do.
    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        if std::mem::replace(&mut self.is_started, true) {
            return None;
        }
        put(out, r#"{"event":"websocket:connected","content-type":"audio/l16;rate="#);
        push_number(out, u64::from(self.wire.rate_hz()));
        out.push(b'"');
        let is_free = |name: &str| name != "event" && name != "content-type";
        for (name, value) in facts.parameter_pairs().filter(|(name, _)| is_free(name)) {
            push_field(out, name, value);
        }
        out.push(b'}');
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Digit { digit, duration_ms } => {
                put(out, r#"{"event":"websocket:dtmf","digit":"#);
                push_digit(out, digit);
                put(out, r#","duration":"#);
                push_number(out, u64::from(duration_ms));
            }
            AgentEvent::MarkPlayed { name, .. } => {
                put(out, r#"{"event":"websocket:notify","payload":"#);
                // The name is the JSON that came.
                put(out, name);
            }
            AgentEvent::Flushed { .. } => put(out, r#"{"event":"websocket:cleared""#),
            _ => return None,
        }
        out.push(b'}');
        Some(FrameKind::Text)
    }

    fn decode(
        &mut self,
        kind: FrameKind,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        match kind {
            FrameKind::Text => {}
            FrameKind::Binary => {
                self.wire.decode_binary(bytes, sink);
                return Ok(());
            }
            FrameKind::Close => return Ok(()),
        }
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        match envelope.action.as_str() {
            Some("clear") => {
                self.wire.forget();
                sink(AgentCommand::Flush);
            }
            Some("notify") => {
                sink(AgentCommand::Mark { name: bounded_name(&envelope.payload.to_string())? });
            }
            Some(_) | None => self.ignored += 1,
        }
        Ok(())
    }
}
