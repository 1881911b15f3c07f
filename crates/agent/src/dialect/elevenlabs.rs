//! ElevenLabs Agents: we are the client of the conversation.
//!
//! The codings of both ways are the agent's to say, in its metadata; no audio leaves before. An interruption drops the
//! queue and what still comes of it. Client tools other than our own are answered as errors. Signed URLs are not
//! fetched.

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::{push_field, put};
use super::tools::{self, Replies, lay_over};
use crate::json::Scalar;
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct ElevenLabs {
    wire: AudioWire,
    settings: Map<String, Value>,
    is_started: bool,
    is_ready: bool,
    replies: Replies,
    /// Audio of events up to this one was interrupted.
    interrupted: Option<u64>,
    ignored: u64,
}

#[derive(Deserialize)]
struct Event<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(borrow, default)]
    conversation_initiation_metadata_event: Option<Metadata<'a>>,
    #[serde(borrow, default)]
    audio_event: Option<Audio<'a>>,
    #[serde(default)]
    interruption_event: Option<Numbered>,
    #[serde(default)]
    ping_event: Option<Numbered>,
    #[serde(default)]
    client_tool_call: Option<ToolCall>,
}

#[derive(Deserialize)]
struct Metadata<'a> {
    #[serde(borrow, default)]
    agent_output_audio_format: Scalar<'a>,
    #[serde(borrow, default)]
    user_input_audio_format: Scalar<'a>,
}

#[derive(Deserialize)]
struct Audio<'a> {
    #[serde(default)]
    event_id: u64,
    #[serde(borrow, default)]
    audio_base_64: Scalar<'a>,
}

#[derive(Deserialize)]
struct Numbered {
    #[serde(default)]
    event_id: u64,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    tool_name: String,
    #[serde(default)]
    tool_call_id: String,
    #[serde(default)]
    parameters: Value,
}

impl ElevenLabs {
    pub(super) fn new(config: &DialectConfig) -> Self {
        Self {
            wire: AudioWire::new(config),
            settings: config.session.clone().unwrap_or_default(),
            is_started: false,
            is_ready: false,
            replies: Replies::default(),
            interrupted: None,
            ignored: 0,
        }
    }

    fn obey(&mut self, metadata: Option<Metadata<'_>>) -> Result<(), DialectError> {
        let metadata = metadata.ok_or(DialectError::Field("conversation_initiation_metadata_event"))?;
        let places = [
            (&metadata.user_input_audio_format, &mut self.wire.format),
            (&metadata.agent_output_audio_format, &mut self.wire.reply),
        ];
        for (given, format) in places {
            match given.as_str() {
                None => {}
                Some(name) => *format = format_of(name).ok_or(DialectError::Audio)?,
            }
        }
        self.is_ready = true;
        Ok(())
    }

    fn speak(
        &mut self,
        audio: Option<Audio<'_>>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let audio = audio.ok_or(DialectError::Field("audio_event"))?;
        if self.interrupted.is_some_and(|last| audio.event_id <= last) {
            return Ok(());
        }
        let text = audio.audio_base_64.as_str().ok_or(DialectError::Field("audio_event.audio_base_64"))?;
        let format = self.wire.reply;
        let data = self.wire.decode_base64(text, format)?;
        sink(AgentCommand::Audio { format, data });
        Ok(())
    }
}

impl Speak for ElevenLabs {
    fn wire(&self) -> &AudioWire {
        &self.wire
    }

    fn ignored(&self) -> u64 {
        self.ignored
    }

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        if std::mem::replace(&mut self.is_started, true) {
            return None;
        }
        let mut variables: Map<String, Value> = Map::new();
        let call = facts.call.to_string();
        let own = [("from", facts.from.as_str()), ("to", &facts.to), ("execution_id", &call)];
        for (name, value) in own.into_iter().chain(facts.parameter_pairs()) {
            variables.insert(name.to_owned(), value.into());
        }
        let mut start = json!({"type": "conversation_initiation_client_data", "conversation_config_override": {},
            "dynamic_variables": variables, "custom_llm_extra_body": {}});
        lay_over(&mut start, &self.settings);
        put(out, &start.to_string());
        Some(FrameKind::Text)
    }

    fn poll_reply(&mut self, out: &mut Vec<u8>) -> Option<FrameKind> {
        self.replies.pop(out)
    }

    fn encode_audio(&mut self, _timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        if !self.is_ready {
            return None;
        }
        put(out, r#"{"user_audio_chunk":""#);
        self.wire.push_base64(audio, out);
        put(out, r#""}"#);
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        let told = tools::told(&event)?;
        put(out, r#"{"type":"contextual_update""#);
        push_field(out, "text", &told);
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
            FrameKind::Binary => return Err(DialectError::FrameKind),
            FrameKind::Close => return Ok(()),
        }
        let event: Event<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        match event.kind.as_str().unwrap_or_default() {
            "conversation_initiation_metadata" => self.obey(event.conversation_initiation_metadata_event)?,
            "audio" => self.speak(event.audio_event, sink)?,
            "interruption" => {
                let last = event.interruption_event.ok_or(DialectError::Field("interruption_event"))?;
                self.interrupted = Some(last.event_id);
                self.wire.forget();
                sink(AgentCommand::Flush);
            }
            "ping" => {
                let ping = event.ping_event.ok_or(DialectError::Field("ping_event"))?;
                self.replies.push(&json!({"type": "pong", "event_id": ping.event_id}));
            }
            "client_tool_call" => {
                let call = event.client_tool_call.ok_or(DialectError::Field("client_tool_call"))?;
                let outcome = tools::perform(&call.tool_name, &call.parameters.to_string(), sink);
                self.replies.push(&json!({"type": "client_tool_result", "tool_call_id": call.tool_call_id,
                    "result": outcome.text, "is_error": outcome.is_error}));
            }
            _ => self.ignored += 1,
        }
        Ok(())
    }
}

/// `ulaw_8000`, `pcm_16000`; nothing for a coding or rate that cannot be carried.
fn format_of(name: &str) -> Option<AudioFormat> {
    match name {
        "ulaw_8000" => Some(AudioFormat::Mulaw),
        "alaw_8000" => Some(AudioFormat::Alaw),
        "pcm_8000" => Some(AudioFormat::Linear16 { rate_hz: 8000 }),
        "pcm_16000" => Some(AudioFormat::Linear16 { rate_hz: 16_000 }),
        "pcm_24000" => Some(AudioFormat::Linear16 { rate_hz: 24_000 }),
        "pcm_48000" => Some(AudioFormat::Linear16 { rate_hz: 48_000 }),
        _ => None,
    }
}
