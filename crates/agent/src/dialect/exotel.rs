//! Exotel AgentStream (Voicebot): JSON text both ways, base64 linear audio, every number as text.
//!
//! Marks are echoed, by a clear too. Exotel leaves gaps after audio that is no multiple of 320 bytes; here any length
//! is taken. Its `http` URLs that answer with the WebSocket's are not fetched.

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::{MediaStream, push_digit, push_field, put};
use crate::facts::account_sid;
use crate::json::{push_pairs, push_string};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Exotel {
    stream: MediaStream,
    /// The call's UUID as 32 hex digits, which its one stream shares.
    sid: String,
    account_sid: String,
}

impl Speak for Exotel {
    fn wire(&self) -> &AudioWire {
        &self.stream.wire
    }

    fn ignored(&self) -> u64 {
        self.stream.ignored
    }

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        match self.stream.next_start() {
            0 => put(out, r#"{"event":"connected"}"#),
            1 => {
                self.push_head("start", out);
                put(out, r#","start":{"stream_sid":""#);
                put(out, &self.sid);
                put(out, r#"","#);
                self.push_sids(out);
                push_field(out, "from", &facts.from);
                push_field(out, "to", &facts.to);
                put(out, r#","custom_parameters":"#);
                push_pairs(out, facts.parameter_pairs());
                put(out, r#","media_format":{"encoding":""#);
                let (encoding, bits) = match self.stream.wire.format {
                    AudioFormat::Linear16 { .. } => ("audio/x-raw", 16),
                    AudioFormat::Mulaw | AudioFormat::Alaw => ("audio/x-mulaw", 8),
                };
                put(out, encoding);
                put(out, r#"","sample_rate":"#);
                self.stream.push_count(u64::from(self.stream.wire.rate_hz()), out);
                put(out, r#","bit_rate":"#);
                self.stream.push_count(bits, out);
                put(out, "}}}");
            }
            _ => return None,
        }
        Some(FrameKind::Text)
    }

    fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        self.push_head("media", out);
        put(out, r#","media":{"chunk":"#);
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
            AgentEvent::Digit { digit, duration_ms } => {
                self.push_head("dtmf", out);
                put(out, r#","dtmf":{"digit":"#);
                push_digit(out, digit);
                put(out, r#","duration":"#);
                self.stream.push_count(u64::from(duration_ms), out);
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
                put(out, r#","reason":"callended"}}"#);
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
            Some(_) | None => self.stream.ignored += 1,
        }
        Ok(())
    }
}

impl Exotel {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self {
            stream: MediaStream::new(config, 1),
            sid: facts.call.as_simple().to_string(),
            account_sid: account_sid(&facts.account),
        }
    }

    /// `{"event":"…","sequence_number":"…","stream_sid":"…"`, and counts the message.
    fn push_head(&mut self, event: &str, out: &mut Vec<u8>) {
        put(out, r#"{"event":""#);
        put(out, event);
        put(out, r#"","sequence_number":"#);
        self.stream.push_sequence(out);
        put(out, r#","stream_sid":""#);
        put(out, &self.sid);
        out.push(b'"');
    }

    fn push_sids(&self, out: &mut Vec<u8>) {
        put(out, r#""call_sid":""#);
        put(out, &self.sid);
        put(out, r#"","account_sid":""#);
        put(out, &self.account_sid);
        out.push(b'"');
    }
}
