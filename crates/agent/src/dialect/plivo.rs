//! Plivo audio streams, bidirectional.
//!
//! JSON text both ways, with the field types that Plivo's own SDK insists on: numbers are numbers but for timestamps,
//! which are text. There is no `connected` before the start and no `stop` after the end. Checkpoints whose audio a
//! clear drops are forgotten; the clear itself is answered.

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::{Envelope, MediaStream, push_digit, push_field, put};
use crate::facts::account_sid;
use crate::json::{push_number, push_pairs, push_string};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Plivo {
    stream: MediaStream,
    /// The call's UUID, which its one stream shares.
    id: String,
    /// When the call came, in milliseconds of Unix time; timestamps count from here.
    origin_ms: u64,
}

impl Speak for Plivo {
    fn wire(&self) -> &AudioWire {
        &self.stream.wire
    }

    fn ignored(&self) -> u64 {
        self.stream.ignored
    }

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        if self.stream.next_start() > 0 {
            return None;
        }
        put(out, r#"{"sequenceNumber":"#);
        self.stream.push_sequence(out);
        put(out, r#","event":"start","start":{"callId":""#);
        put(out, &self.id);
        put(out, r#"","streamId":""#);
        put(out, &self.id);
        put(out, r#"","accountId":""#);
        // Plivo's account ids are `MA` and 18 characters of its own making; agents only hand them back.
        put(out, "MA");
        put(out, &account_sid(&facts.account)[2..20].to_ascii_uppercase());
        put(out, r#"","tracks":["inbound"],"mediaFormat":{"encoding":""#);
        put(
            out,
            match self.stream.wire.format {
                AudioFormat::Mulaw | AudioFormat::Alaw => "audio/x-mulaw",
                AudioFormat::Linear16 { .. } => "audio/x-l16",
            },
        );
        put(out, r#"","sampleRate":"#);
        push_number(out, u64::from(self.stream.wire.rate_hz()));
        put(out, r#"}},"extra_headers":"#);
        push_string(out, &extra_headers(facts));
        out.push(b'}');
        Some(FrameKind::Text)
    }

    fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        self.stream.position_ms = timestamp_ms;
        self.push_head("media", out);
        put(out, r#","media":{"track":"inbound","timestamp":""#);
        push_number(out, self.origin_ms + timestamp_ms);
        put(out, r#"","chunk":"#);
        self.stream.push_chunk(out);
        put(out, r#","payload":""#);
        self.stream.wire.push_base64(audio, out);
        put(out, r#""},"extra_headers":"{}"}"#);
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Digit { digit, .. } => {
                self.push_head("dtmf", out);
                put(out, r#","dtmf":{"track":"inbound","digit":"#);
                push_digit(out, digit);
                put(out, r#","timestamp":""#);
                push_number(out, self.origin_ms + self.stream.position_ms);
                put(out, r#""},"extra_headers":"{}"}"#);
            }
            AgentEvent::MarkPlayed { name, .. } => {
                self.push_head("playedStream", out);
                push_field(out, "name", name);
                out.push(b'}');
            }
            AgentEvent::Flushed { .. } => {
                self.push_head("clearedAudio", out);
                out.push(b'}');
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
        match MediaStream::read(kind, bytes)? {
            Some(envelope) => self.apply(&envelope, sink),
            None => Ok(()),
        }
    }
}

impl Plivo {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self { stream: MediaStream::new(config, 0), id: facts.call.to_string(), origin_ms: facts.unix_ms() }
    }

    /// Does what a message says.
    pub(super) fn apply(
        &mut self,
        envelope: &Envelope<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        match envelope.event() {
            Some("playAudio") => self.stream.described_audio(envelope, sink)?,
            Some("checkpoint") => envelope.checkpoint(sink)?,
            Some("clearAudio") => self.stream.clear(sink),
            Some("sendDTMF") => envelope.digits(sink)?,
            Some(_) | None => self.stream.ignored += 1,
        }
        Ok(())
    }

    /// `{"sequenceNumber":…,"streamId":"…","event":"…"`, and counts the message.
    fn push_head(&mut self, event: &str, out: &mut Vec<u8>) {
        put(out, r#"{"sequenceNumber":"#);
        self.stream.push_sequence(out);
        put(out, r#","streamId":""#);
        put(out, &self.id);
        put(out, r#"","event":""#);
        put(out, event);
        out.push(b'"');
    }
}

/// The start's own headers as Plivo hands them on: a text that holds an object, each name behind `X-PH-`.
fn extra_headers(facts: &StreamFacts) -> String {
    let own = [("X-PH-caller", facts.from.as_str()), ("X-PH-callee", &facts.to)];
    let named: Vec<(String, &str)> =
        facts.parameter_pairs().map(|(name, value)| (format!("X-PH-{name}"), value)).collect();
    let given = named.iter().map(|(name, value)| (name.as_str(), *value));
    let mut text = Vec::new();
    push_pairs(&mut text, own.into_iter().chain(given));
    String::from_utf8(text).expect("pairs of UTF-8 are written as UTF-8")
}
