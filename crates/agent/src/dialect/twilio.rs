//! Twilio Media Streams, bidirectional: JSON text both ways, base64 G.711.
//!
//! Marks are echoed, by a clear too. A wrong or missing `streamSid` and unknown fields are taken (Twilio warns
//! 31951 and ignores the message; agents that got that wrong are in use); unknown events are ignored.
//! `ConversationRelay` and unidirectional `<Start><Stream>` are not spoken here.

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::{MediaStream, push_digit, put};
use crate::facts::{account_sid, call_sid, stream_sid};
use crate::json::{push_pairs, push_string};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Twilio {
    stream: MediaStream,
    stream_sid: String,
    account_sid: String,
    call_sid: String,
}

impl Speak for Twilio {
    fn wire(&self) -> &AudioWire {
        &self.stream.wire
    }

    fn ignored(&self) -> u64 {
        self.stream.ignored
    }

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        match self.stream.next_start() {
            0 => put(out, r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#),
            1 => {
                self.push_head("start", out);
                put(out, r#","start":{"streamSid":""#);
                put(out, &self.stream_sid);
                put(out, r#"","#);
                self.push_sids(out);
                put(out, r#","tracks":["inbound"],"customParameters":"#);
                push_pairs(out, facts.parameter_pairs());
                put(out, r#","mediaFormat":{"encoding":""#);
                put(
                    out,
                    match self.stream.wire.format {
                        AudioFormat::Alaw => "audio/x-alaw",
                        AudioFormat::Mulaw | AudioFormat::Linear16 { .. } => "audio/x-mulaw",
                    },
                );
                put(out, r#"","sampleRate":8000,"channels":1}}}"#);
            }
            _ => return None,
        }
        Some(FrameKind::Text)
    }

    fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
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
                put(out, r#","dtmf":{"track":"inbound_track","digit":"#);
                push_digit(out, digit);
                put(out, "}}");
            }
            AgentEvent::MarkPlayed { name, .. } => {
                self.push_head("mark", out);
                put(out, r#","mark":{"name":"#);
                push_string(out, name);
                put(out, "}}");
            }
            AgentEvent::Stop => {
                self.push_head("stop", out);
                put(out, r#","stop":{"#);
                self.push_sids(out);
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
        let Some(envelope) = MediaStream::read(kind, bytes)? else { return Ok(()) };
        match envelope.event() {
            Some("media") => self.stream.audio(&envelope, sink)?,
            Some("mark") => envelope.mark(sink)?,
            Some("clear") => self.stream.clear(sink),
            // Pipecat's RTVI messages, among others, come without one.
            Some(_) | None => self.stream.ignored += 1,
        }
        Ok(())
    }
}

impl Twilio {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self {
            // `start` is number 1, `connected` has none.
            stream: MediaStream::new(config, 1),
            stream_sid: stream_sid(facts.call),
            account_sid: account_sid(&facts.account),
            call_sid: call_sid(facts.call),
        }
    }

    /// `{"event":"…","sequenceNumber":"…","streamSid":"…"`, and counts the message.
    fn push_head(&mut self, event: &str, out: &mut Vec<u8>) {
        put(out, r#"{"event":""#);
        put(out, event);
        put(out, r#"","sequenceNumber":"#);
        self.stream.push_sequence(out);
        put(out, r#","streamSid":""#);
        put(out, &self.stream_sid);
        out.push(b'"');
    }

    fn push_sids(&self, out: &mut Vec<u8>) {
        put(out, r#""accountSid":""#);
        put(out, &self.account_sid);
        put(out, r#"","callSid":""#);
        put(out, &self.call_sid);
        out.push(b'"');
    }
}
