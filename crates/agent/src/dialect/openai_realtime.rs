//! OpenAI Realtime, and whatever shares its WebSocket API: we are the client of the model.
//!
//! The session is set up before any audio leaves. When the caller begins to speak the queue is dropped, the item in it
//! truncated to what was truly heard, and what still comes of its response let go. Tools other than our own are
//! answered as unknown; the beta's names of audio events are understood.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::put;
use super::tools::{self, Replies, lay_over, put_at};
use crate::json::{Scalar, push_number, push_string};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

/// Items of which audio may be queued at once and whose places are known.
const ITEMS_MAX: usize = 32;

#[derive(Debug)]
pub(super) struct OpenAiRealtime {
    wire: AudioWire,
    settings: Map<String, Value>,
    greeting: Option<String>,
    is_set_up: bool,
    is_ready: bool,
    replies: Replies,
    /// What is queued, oldest first, and its end in bytes of the agent's coding since the stream began.
    items: VecDeque<Item>,
    pushed: u64,
    /// The response that speaks, and the one that was interrupted.
    response: String,
    dropped: Option<String>,
    ignored: u64,
}

#[derive(Debug)]
struct Item {
    id: String,
    start: u64,
    end: u64,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    response_id: Scalar<'a>,
    #[serde(borrow, default)]
    item_id: Scalar<'a>,
    #[serde(borrow, default)]
    delta: Scalar<'a>,
    #[serde(borrow, default)]
    call_id: Scalar<'a>,
    #[serde(borrow, default)]
    name: Scalar<'a>,
    #[serde(borrow, default)]
    arguments: Scalar<'a>,
}

impl OpenAiRealtime {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self {
            wire: AudioWire::new(config),
            settings: config.session.clone().unwrap_or_default(),
            greeting: facts
                .parameter_pairs()
                .find(|(name, _)| *name == "greeting")
                .map(|pair| pair.1.to_owned()),
            is_set_up: false,
            is_ready: false,
            replies: Replies::default(),
            items: VecDeque::new(),
            pushed: 0,
            response: String::new(),
            dropped: None,
            ignored: 0,
        }
    }

    fn set_up(&mut self) {
        if std::mem::replace(&mut self.is_set_up, true) {
            return;
        }
        let tools: Vec<Value> = tools::offered()
            .map(|(name, description, parameters)| {
                json!({"type": "function", "name": name, "description": description, "parameters": parameters})
            })
            .collect();
        let mut session = json!({"type": "realtime", "output_modalities": ["audio"], "tools": tools, "audio": {
            "input": {"turn_detection":
                {"type": "server_vad", "interrupt_response": true, "create_response": true}},
            "output": {}}});
        lay_over(&mut session, &self.settings);
        // What is spoken is the dialect's to know, whatever the settings say.
        put_at(&mut session, &["audio", "input", "format"], format_name(self.wire.format));
        put_at(&mut session, &["audio", "output", "format"], format_name(self.wire.reply));
        self.replies.push(&json!({"type": "session.update", "session": session}));
    }

    fn greet(&mut self) {
        if std::mem::replace(&mut self.is_ready, true) {
            return;
        }
        match self.greeting.take() {
            Some(words) if !words.is_empty() => {
                self.replies.push(&json!({"type": "response.create", "response": {"instructions": words}}))
            }
            Some(_) => self.replies.push(&json!({"type": "response.create"})),
            None => {}
        }
    }

    fn speak(
        &mut self,
        event: &Event<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let response = event.response_id.as_str().unwrap_or_default();
        if self.dropped.as_deref() == Some(response) {
            return Ok(());
        }
        if self.response != response {
            super::bounded_name(response)?.clone_into(&mut self.response);
        }
        let delta = event.delta.as_str().ok_or(DialectError::Field("delta"))?;
        let id = super::bounded_name(event.item_id.as_str().unwrap_or_default())?;
        let format = self.wire.reply;
        let data = self.wire.decode_base64(delta, format)?;
        let start = self.pushed;
        self.pushed += data.len() as u64;
        match self.items.back_mut() {
            Some(item) if item.id == id => item.end = self.pushed,
            _ => {
                self.items.push_back(Item { id: id.to_owned(), start, end: self.pushed });
                if self.items.len() > ITEMS_MAX {
                    self.items.pop_front();
                }
            }
        }
        sink(AgentCommand::Audio { format, data });
        Ok(())
    }

    fn use_tool(
        &mut self,
        event: &Event<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let call_id = event.call_id.as_str().ok_or(DialectError::Field("call_id"))?;
        let name = event.name.as_str().ok_or(DialectError::Field("name"))?;
        let outcome = tools::perform(name, event.arguments.as_str().unwrap_or("{}"), sink);
        self.replies.push(&json!({"type": "conversation.item.create",
            "item": {"type": "function_call_output", "call_id": call_id, "output": outcome.text}}));
        if outcome.goes_on {
            self.replies.push(&json!({"type": "response.create"}));
        }
        Ok(())
    }

    /// The item that the caller was hearing, and how much of it was heard, if not all.
    fn cut(&mut self, played_ms: u64) -> Option<(String, u64)> {
        let bytes_per_ms = self.wire.reply.bytes_per_ms() as u64;
        let played = played_ms * bytes_per_ms;
        let heard = self.items.drain(..).find(|item| item.end > played);
        self.pushed = played;
        heard.map(|item| (item.id, played.saturating_sub(item.start) / bytes_per_ms))
    }
}

impl Speak for OpenAiRealtime {
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
        put(out, r#"{"type":"input_audio_buffer.append","audio":""#);
        self.wire.push_base64(audio, out);
        put(out, r#""}"#);
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Flushed { played_ms } => {
                let (id, heard_ms) = self.cut(played_ms)?;
                put(out, r#"{"type":"conversation.item.truncate","item_id":"#);
                push_string(out, &id);
                put(out, r#","content_index":0,"audio_end_ms":"#);
                push_number(out, heard_ms);
                out.push(b'}');
            }
            _ if self.is_ready => {
                let told = tools::told(&event)?;
                put(
                    out,
                    r#"{"type":"conversation.item.create","item":{"type":"message","role":"user","content":[{"type":"input_text","text":"#,
                );
                push_string(out, &told);
                put(out, "}]}}");
                // Nobody hears an answer while the call is held.
                if event != (AgentEvent::Held { is_held: true }) {
                    self.replies.push(&json!({"type": "response.create"}));
                }
            }
            _ => return None,
        }
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
            FrameKind::Binary => return Err(DialectError::FrameKind),
            FrameKind::Close => return Ok(()),
        }
        let event: Event<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        match event.kind.as_str().unwrap_or_default() {
            "session.created" => self.set_up(),
            "session.updated" => self.greet(),
            "response.output_audio.delta" | "response.audio.delta" => self.speak(&event, sink)?,
            "input_audio_buffer.speech_started" => {
                self.dropped = Some(std::mem::take(&mut self.response)).filter(|id| !id.is_empty());
                self.wire.forget();
                sink(AgentCommand::Flush);
            }
            "response.function_call_arguments.done" => self.use_tool(&event, sink)?,
            // A session that cannot be set up will never speak.
            "error" if !self.is_ready => sink(AgentCommand::HangUp),
            _ => self.ignored += 1,
        }
        Ok(())
    }
}

fn format_name(format: AudioFormat) -> Value {
    match format {
        AudioFormat::Mulaw => json!({"type": "audio/pcmu"}),
        AudioFormat::Alaw => json!({"type": "audio/pcma"}),
        AudioFormat::Linear16 { rate_hz } => json!({"type": "audio/pcm", "rate": rate_hz}),
    }
}
