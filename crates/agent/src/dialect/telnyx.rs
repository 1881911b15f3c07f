//! Telnyx media streaming, bidirectional in its `rtp` mode: JSON text both ways, base64 audio.
//!
//! An agent's messages name no stream. Marks are echoed, by a clear too; what is not understood is answered with one of
//! Telnyx's errors. The `mp3` mode, G.722, Opus and AMR-WB are not spoken here.

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::{MediaStream, push_digit, push_field, put};
use crate::facts::{account_sid, push_utc};
use crate::json::{push_number, push_pairs, push_string};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Telnyx {
    stream: MediaStream,
    /// The call's UUID, which its one stream shares.
    id: String,
    user_id: String,
    /// When the call came, in milliseconds of Unix time.
    origin_ms: u64,
    /// Whether what was last not understood was audio.
    is_audio_at_fault: bool,
}

impl Speak for Telnyx {
    fn wire(&self) -> &AudioWire {
        &self.stream.wire
    }

    fn ignored(&self) -> u64 {
        self.stream.ignored
    }

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        match self.stream.next_start() {
            0 => put(out, r#"{"event":"connected","version":"1.0.0"}"#),
            1 => {
                self.push_head("start", out);
                put(out, r#","start":{"#);
                self.push_ids(out);
                put(out, r#","call_session_id":""#);
                put(out, &self.id);
                out.push(b'"');
                push_field(out, "from", &facts.from);
                push_field(out, "to", &facts.to);
                put(out, r#","client_state":"","tags":[],"custom_parameters":"#);
                push_pairs(out, facts.parameter_pairs());
                put(out, r#","media_format":{"encoding":""#);
                put(
                    out,
                    match self.stream.wire.format {
                        AudioFormat::Mulaw => "PCMU",
                        AudioFormat::Alaw => "PCMA",
                        AudioFormat::Linear16 { .. } => "L16",
                    },
                );
                put(out, r#"","sample_rate":"#);
                push_number(out, u64::from(self.stream.wire.rate_hz()));
                put(out, r#","channels":1}}}"#);
            }
            _ => return None,
        }
        Some(FrameKind::Text)
    }

    fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        self.stream.position_ms = timestamp_ms;
        self.push_head("media", out);
        put(out, r#","media":{"track":"inbound","chunk":"#);
        self.stream.push_chunk(out);
        put(out, r#","timestamp":"#);
        self.stream.push_count(timestamp_ms, out);
        put(out, r#","payload":""#);
        self.stream.wire.push_base64(audio, out);
        put(out, r#""}}"#);
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Digit { digit, .. } => {
                self.push_head("dtmf", out);
                put(out, r#","occurred_at":""#);
                push_utc(out, self.origin_ms + self.stream.position_ms);
                put(out, r#"","dtmf":{"digit":"#);
                push_digit(out, digit);
                put(out, "}}");
            }
            AgentEvent::MarkPlayed { name, .. } => {
                self.push_head("mark", out);
                put(out, r#","mark":{"name":"#);
                push_string(out, name);
                put(out, "}}");
            }
            AgentEvent::Error { text } => {
                let (code, title) = if self.is_audio_at_fault {
                    (100_004, "invalid_media")
                } else {
                    (100_003, "malformed_frame")
                };
                put(out, r#"{"event":"error","payload":{"code":"#);
                push_number(out, code);
                push_field(out, "title", title);
                push_field(out, "detail", text);
                put(out, r#"},"stream_id":""#);
                put(out, &self.id);
                put(out, r#""}"#);
            }
            AgentEvent::Stop => {
                self.push_head("stop", out);
                put(out, r#","stop":{"#);
                self.push_ids(out);
                put(out, "}}");
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
        self.is_audio_at_fault = false;
        let Some(envelope) = MediaStream::read(kind, bytes)? else { return Ok(()) };
        match envelope.event() {
            Some("media") => {
                self.is_audio_at_fault = true;
                self.stream.audio(&envelope, sink)?;
            }
            Some("mark") => envelope.mark(sink)?,
            Some("clear") => self.stream.clear(sink),
            Some(_) | None => self.stream.ignored += 1,
        }
        Ok(())
    }
}

impl Telnyx {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self {
            stream: MediaStream::new(config, 1),
            id: facts.call.to_string(),
            user_id: account_sid(&facts.account),
            origin_ms: facts.unix_ms(),
            is_audio_at_fault: false,
        }
    }

    /// `{"event":"…","sequence_number":"…","stream_id":"…"`, and counts the message.
    fn push_head(&mut self, event: &str, out: &mut Vec<u8>) {
        put(out, r#"{"event":""#);
        put(out, event);
        put(out, r#"","sequence_number":"#);
        self.stream.push_sequence(out);
        put(out, r#","stream_id":""#);
        put(out, &self.id);
        out.push(b'"');
    }

    fn push_ids(&self, out: &mut Vec<u8>) {
        put(out, r#""user_id":""#);
        put(out, &self.user_id);
        put(out, r#"","call_control_id":"v3:"#);
        put(out, &self.id);
        out.push(b'"');
    }
}
