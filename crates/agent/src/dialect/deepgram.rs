//! Deepgram Voice Agent: we are the client of the agent; binary audio both ways, JSON messages.
//!
//! Settings answer its welcome, and no audio leaves before they are applied. When the caller begins to speak the queue
//! is dropped. Client-side functions other than our own are answered as unknown.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Speak;
use super::audio_wire::{AudioWire, rate_of};
use super::media_stream::{push_field, put};
use super::tools::{self, Replies, lay_over, put_at};
use crate::json::Scalar;
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Deepgram {
    wire: AudioWire,
    settings: Map<String, Value>,
    is_set_up: bool,
    is_ready: bool,
    replies: Replies,
    ignored: u64,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(default)]
    functions: Vec<Function>,
}

#[derive(Deserialize)]
struct Function {
    #[serde(default)]
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    arguments: String,
    #[serde(default)]
    client_side: bool,
}

impl Deepgram {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self {
            wire: AudioWire::new(config),
            settings: config.session.clone().unwrap_or_default(),
            is_set_up: false,
            is_ready: false,
            replies: Replies::default(),
            ignored: 0,
        }
    }

    fn set_up(&mut self) {
        if std::mem::replace(&mut self.is_set_up, true) {
            return;
        }
        let functions: Vec<Value> = tools::offered()
            .map(|(name, description, parameters)| {
                json!({"name": name, "description": description, "parameters": parameters})
            })
            .collect();
        let mut settings = json!({"type": "Settings", "audio": {"input": {}, "output": {}}, "agent": {
            "language": "en",
            "listen": {"provider": {"type": "deepgram", "model": "nova-3"}},
            "think": {"provider": {"type": "open_ai", "model": "gpt-4o-mini"}, "functions": functions},
            "speak": {"provider": {"type": "deepgram", "model": "aura-2-thalia-en"}}}});
        lay_over(&mut settings, &self.settings);
        // What is spoken is the dialect's to know, whatever the settings say.
        put_at(&mut settings, &["type"], "Settings".into());
        put_at(&mut settings, &["audio", "input"], coding_of(self.wire.format));
        put_at(&mut settings, &["audio", "output"], coding_of(self.wire.reply));
        put_at(&mut settings, &["audio", "output", "container"], "none".into());
        self.replies.push(&settings);
    }
}

impl Speak for Deepgram {
    fn wire(&self) -> &AudioWire {
        &self.wire
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    fn poll_start(&mut self, _facts: &StreamFacts, _out: &mut Vec<u8>) -> Option<FrameKind> {
        None
    }

    fn poll_reply(&mut self, out: &mut Vec<u8>) -> Option<FrameKind> {
        self.replies.pop(out)
    }

    fn encode_audio(&mut self, _timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        if !self.is_ready {
            return None;
        }
        self.wire.push_binary(audio, out);
        Some(FrameKind::Binary)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        let told = tools::told(&event)?;
        if !self.is_ready {
            return None;
        }
        put(out, r#"{"type":"InjectUserMessage""#);
        push_field(out, "content", &told);
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
        let event: Event<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        match event.kind.as_str().unwrap_or_default() {
            "Welcome" => self.set_up(),
            "SettingsApplied" => self.is_ready = true,
            "UserStartedSpeaking" => {
                self.wire.forget();
                sink(AgentCommand::Flush);
            }
            "FunctionCallRequest" => {
                for function in event.functions.iter().filter(|function| function.client_side) {
                    let outcome = tools::perform(&function.name, &function.arguments, sink);
                    self.replies.push(&json!({"type": "FunctionCallResponse", "id": function.id,
                        "name": function.name, "content": outcome.text}));
                }
            }
            // Settings that were refused leave an agent that will never speak.
            "Error" if !self.is_ready => sink(AgentCommand::HangUp),
            _ => self.ignored += 1,
        }
        Ok(())
    }
}

fn coding_of(format: AudioFormat) -> Value {
    let encoding = match format {
        AudioFormat::Mulaw => "mulaw",
        AudioFormat::Alaw => "alaw",
        AudioFormat::Linear16 { .. } => "linear16",
    };
    json!({"encoding": encoding, "sample_rate": rate_of(format)})
}
