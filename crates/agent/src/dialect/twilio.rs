//! Twilio Media Streams, bidirectional: JSON text both ways, base64 G.711.
//!
//! Marks are echoed, by a clear too. A wrong or missing `streamSid` and unknown fields are taken (Twilio warns
//! 31951 and ignores the message; agents that got that wrong are in use); unknown events are ignored.
//! `ConversationRelay` and unidirectional `<Start><Stream>` are not spoken here.

use serde::Deserialize;

use super::bounded_name;
use crate::facts::{account_sid, call_sid, stream_sid};
use crate::json::{Scalar, push_number, push_pairs, push_string};
use crate::payload::{decode_base64, push_base64};
use crate::{AgentCommand, AgentEvent, AudioFormat, DialectConfig, DialectError, FrameKind, StreamFacts};

#[derive(Debug)]
pub(super) struct Twilio {
    format: AudioFormat,
    stream_sid: String,
    account_sid: String,
    call_sid: String,
    pending: Pending,
    /// Number of the next message; `start` is 1, `connected` has none.
    sequence: u64,
    /// Number of the next media message.
    chunk: u64,
    scratch: Vec<u8>,
    ignored: u64,
}

#[derive(Debug, Clone, Copy)]
enum Pending {
    Connected,
    Start,
    Nothing,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    event: Scalar<'a>,
    #[serde(borrow, default)]
    media: Option<Media<'a>>,
    #[serde(borrow, default)]
    mark: Option<Mark<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    #[serde(borrow, default)]
    payload: Scalar<'a>,
}

#[derive(Deserialize)]
struct Mark<'a> {
    #[serde(borrow, default)]
    name: Scalar<'a>,
}

impl Twilio {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self {
            format: config.encoding().format(),
            stream_sid: stream_sid(facts.call),
            account_sid: account_sid(&facts.account),
            call_sid: call_sid(facts.call),
            pending: Pending::Connected,
            sequence: 1,
            chunk: 1,
            scratch: Vec::new(),
            ignored: 0,
        }
    }

    pub(super) fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        match self.pending {
            Pending::Connected => {
                self.pending = Pending::Start;
                out.extend_from_slice(br#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#);
            }
            Pending::Start => {
                self.pending = Pending::Nothing;
                self.push_head("start", out);
                out.extend_from_slice(br#","start":{"streamSid":""#);
                out.extend_from_slice(self.stream_sid.as_bytes());
                out.extend_from_slice(br#"","#);
                self.push_sids(out);
                out.extend_from_slice(br#","tracks":["inbound"],"customParameters":"#);
                push_pairs(out, facts.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str())));
                out.extend_from_slice(br#","mediaFormat":{"encoding":""#);
                out.extend_from_slice(match self.format {
                    AudioFormat::Alaw => b"audio/x-alaw",
                    AudioFormat::Mulaw | AudioFormat::Linear16 { .. } => b"audio/x-mulaw",
                });
                out.extend_from_slice(br#"","sampleRate":8000,"channels":1}}}"#);
            }
            Pending::Nothing => return None,
        }
        Some(FrameKind::Text)
    }

    pub(super) fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> FrameKind {
        self.push_head("media", out);
        out.extend_from_slice(br#","media":{"track":"inbound","chunk":""#);
        push_number(out, self.chunk);
        self.chunk += 1;
        out.extend_from_slice(br#"","timestamp":""#);
        push_number(out, timestamp_ms);
        out.extend_from_slice(br#"","payload":""#);
        push_base64(out, audio);
        out.extend_from_slice(br#""}}"#);
        FrameKind::Text
    }

    pub(super) fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Digit { digit, .. } => {
                self.push_head("dtmf", out);
                out.extend_from_slice(br#","dtmf":{"track":"inbound_track","digit":"#);
                push_string(out, digit.encode_utf8(&mut [0; 4]));
                out.extend_from_slice(b"}}");
            }
            AgentEvent::MarkPlayed { name, .. } => {
                self.push_head("mark", out);
                out.extend_from_slice(br#","mark":{"name":"#);
                push_string(out, name);
                out.extend_from_slice(b"}}");
            }
            AgentEvent::Stop => {
                self.push_head("stop", out);
                out.extend_from_slice(br#","stop":{"#);
                self.push_sids(out);
                out.extend_from_slice(b"}}");
            }
            AgentEvent::Completed { .. }
            | AgentEvent::QueueDrained
            | AgentEvent::PlayoutDone
            | AgentEvent::Xoff
            | AgentEvent::Xon
            | AgentEvent::Status(_)
            | AgentEvent::Error { .. } => return None,
        }
        Some(FrameKind::Text)
    }

    pub(super) fn decode(
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
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        match envelope.event.as_str() {
            Some("media") => {
                let media = envelope.media.as_ref().ok_or(DialectError::Field("media"))?;
                let payload = media.payload.as_str().ok_or(DialectError::Field("media.payload"))?;
                let data = decode_base64(payload, &mut self.scratch)?;
                sink(AgentCommand::Audio { format: self.format, data });
            }
            Some("mark") => {
                let mark = envelope.mark.as_ref().ok_or(DialectError::Field("mark"))?;
                let name = mark.name.as_str().ok_or(DialectError::Field("mark.name"))?;
                sink(AgentCommand::Mark { name: bounded_name(name)? });
            }
            Some("clear") => sink(AgentCommand::Flush),
            // Pipecat's RTVI messages, among others, come without one.
            Some(_) | None => self.ignored += 1,
        }
        Ok(())
    }

    pub(super) const fn format(&self) -> AudioFormat {
        self.format
    }

    pub(super) const fn ignored(&self) -> u64 {
        self.ignored
    }

    /// `{"event":"…","sequenceNumber":"…","streamSid":"…"`, and counts the message.
    fn push_head(&mut self, event: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(br#"{"event":""#);
        out.extend_from_slice(event.as_bytes());
        out.extend_from_slice(br#"","sequenceNumber":""#);
        push_number(out, self.sequence);
        self.sequence += 1;
        out.extend_from_slice(br#"","streamSid":""#);
        out.extend_from_slice(self.stream_sid.as_bytes());
        out.push(b'"');
    }

    fn push_sids(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(br#""accountSid":""#);
        out.extend_from_slice(self.account_sid.as_bytes());
        out.extend_from_slice(br#"","callSid":""#);
        out.extend_from_slice(self.call_sid.as_bytes());
        out.push(b'"');
    }
}
