//! What the carriers' JSON media streams share: numbered messages out, events with base64 audio in.
//!
//! Twilio made the form; Telnyx, Exotel, Plivo and Vobiz changed names and types in it. Reading is lenient (any field
//! type, any order, fields unknown or missing where nothing needs them); writing is each dialect's own.

use serde::Deserialize;

use super::audio_wire::{AudioWire, rate_of};
use super::bounded_name;
use crate::json::{Scalar, push_number, push_string};
use crate::{AgentCommand, AudioFormat, DialectConfig, DialectError, FrameKind, Numbers};

/// The state of one stream.
#[derive(Debug)]
pub(super) struct MediaStream {
    pub(super) wire: AudioWire,
    numbers: Numbers,
    /// Number of the next message.
    sequence: u64,
    /// Number of the next media message.
    chunk: u64,
    /// Messages sent before any other, so far.
    pub(super) started: u8,
    /// When the last caller audio began, in milliseconds of the stream.
    pub(super) position_ms: u64,
    pub(super) ignored: u64,
}

/// A message of an agent, in any of these dialects.
#[derive(Deserialize)]
pub(super) struct Envelope<'a> {
    #[serde(borrow, default)]
    event: Scalar<'a>,
    #[serde(borrow, default)]
    media: Option<Media<'a>>,
    #[serde(borrow, default)]
    mark: Option<Mark<'a>>,
    /// Plivo's name of a checkpoint.
    #[serde(borrow, default)]
    name: Scalar<'a>,
    /// Plivo's digits.
    #[serde(borrow, default)]
    dtmf: Scalar<'a>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Media<'a> {
    #[serde(borrow, default)]
    payload: Scalar<'a>,
    #[serde(borrow, default)]
    content_type: Scalar<'a>,
    #[serde(borrow, default)]
    sample_rate: Scalar<'a>,
}

#[derive(Deserialize)]
struct Mark<'a> {
    #[serde(borrow, default)]
    name: Scalar<'a>,
}

impl MediaStream {
    /// A stream whose first numbered message has the number `first`.
    pub(super) fn new(config: &DialectConfig, first: u64) -> Self {
        Self {
            wire: AudioWire::new(config),
            numbers: config.numbers(),
            sequence: first,
            chunk: 1,
            started: 0,
            position_ms: 0,
            ignored: 0,
        }
    }

    /// Which start message is next, counted from 0.
    pub(super) const fn next_start(&mut self) -> u8 {
        let next = self.started;
        self.started = next.saturating_add(1);
        next
    }

    /// Appends the number of this message.
    pub(super) fn push_sequence(&mut self, out: &mut Vec<u8>) {
        push_count(out, self.numbers, self.sequence);
        self.sequence += 1;
    }

    /// Appends the number of this media message.
    pub(super) fn push_chunk(&mut self, out: &mut Vec<u8>) {
        push_count(out, self.numbers, self.chunk);
        self.chunk += 1;
    }

    /// Appends a number as this agent is given numbers.
    pub(super) fn push_count(&self, value: u64, out: &mut Vec<u8>) {
        push_count(out, self.numbers, value);
    }

    /// Takes a message apart; `None` for a close.
    pub(super) fn read(kind: FrameKind, bytes: &[u8]) -> Result<Option<Envelope<'_>>, DialectError> {
        match kind {
            FrameKind::Text => serde_json::from_slice(bytes).map(Some).map_err(|_| DialectError::Json),
            FrameKind::Binary => Err(DialectError::FrameKind),
            FrameKind::Close => Ok(None),
        }
    }

    /// Audio in the stream's own coding.
    pub(super) fn audio(
        &mut self,
        envelope: &Envelope<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let format = self.wire.reply;
        let data = self.wire.decode_base64(envelope.payload()?.1, format)?;
        sink(AgentCommand::Audio { format, data });
        Ok(())
    }

    /// Audio that says of what coding it is.
    pub(super) fn described_audio(
        &mut self,
        envelope: &Envelope<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let (media, payload) = envelope.payload()?;
        let named = media.content_type.as_str().unwrap_or_default();
        let (kind, parameters) = named.split_once(';').unwrap_or((named, ""));
        let rate = media.sample_rate.as_str().or_else(|| parameters.trim().strip_prefix("rate="));
        let rate_hz = match rate {
            Some(rate) => Some(rate.trim().parse().map_err(|_| DialectError::Field("media.sampleRate"))?),
            None => None,
        };
        let format = match kind.trim() {
            "" => self.wire.reply,
            "audio/x-mulaw" => AudioFormat::Mulaw,
            "audio/x-alaw" => AudioFormat::Alaw,
            "audio/x-l16" => AudioFormat::Linear16 { rate_hz: rate_hz.unwrap_or(rate_of(self.wire.reply)) },
            "wav" | "audio/wav" | "audio/x-wav" => {
                let (format, data) = self.wire.decode_wav(payload, Some(rate_hz.unwrap_or(8000)))?;
                sink(AgentCommand::Audio { format, data });
                return Ok(());
            }
            _ => return Err(DialectError::Audio),
        };
        // G.711 is 8 kHz whatever the message says of it, unless that is a coding we do not have.
        if rate_hz.is_some_and(|rate_hz| rate_hz != rate_of(format)) {
            return Err(DialectError::Audio);
        }
        let data = self.wire.decode_base64(payload, format)?;
        sink(AgentCommand::Audio { format, data });
        Ok(())
    }

    /// Drop what is queued.
    pub(super) fn clear(&mut self, sink: &mut impl FnMut(AgentCommand<'_>)) {
        self.wire.forget();
        sink(AgentCommand::Flush);
    }
}

impl<'a> Envelope<'a> {
    pub(super) fn event(&self) -> Option<&str> {
        self.event.as_str()
    }

    /// A mark named within `mark`.
    pub(super) fn mark(&self, sink: &mut impl FnMut(AgentCommand<'_>)) -> Result<(), DialectError> {
        let mark = self.mark.as_ref().ok_or(DialectError::Field("mark"))?;
        let name = mark.name.as_str().ok_or(DialectError::Field("mark.name"))?;
        sink(AgentCommand::Mark { name: bounded_name(name)? });
        Ok(())
    }

    /// A mark named at the top.
    pub(super) fn checkpoint(&self, sink: &mut impl FnMut(AgentCommand<'_>)) -> Result<(), DialectError> {
        let name = self.name.as_str().ok_or(DialectError::Field("name"))?;
        sink(AgentCommand::Mark { name: bounded_name(name)? });
        Ok(())
    }

    /// Digits for the caller.
    pub(super) fn digits(&self, sink: &mut impl FnMut(AgentCommand<'_>)) -> Result<(), DialectError> {
        match self.dtmf.as_str() {
            Some(digits) if super::is_dial_string(digits) => {
                sink(AgentCommand::SendDtmf { digits: bounded_name(digits)? });
                Ok(())
            }
            Some(_) | None => Err(DialectError::Field("dtmf")),
        }
    }

    fn payload(&self) -> Result<(&Media<'a>, &str), DialectError> {
        let media = self.media.as_ref().ok_or(DialectError::Field("media"))?;
        Ok((media, media.payload.as_str().ok_or(DialectError::Field("media.payload"))?))
    }
}

/// Appends text as it is.
pub(super) fn put(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(text.as_bytes());
}

/// Appends `,"name":"value"`, escaped.
pub(super) fn push_field(out: &mut Vec<u8>, name: &str, value: &str) {
    out.push(b',');
    push_string(out, name);
    out.push(b':');
    push_string(out, value);
}

/// Appends a key of the caller's as a JSON string.
pub(super) fn push_digit(out: &mut Vec<u8>, digit: char) {
    push_string(out, digit.encode_utf8(&mut [0; 4]));
}

fn push_count(out: &mut Vec<u8>, numbers: Numbers, value: u64) {
    match numbers {
        Numbers::Text => {
            out.push(b'"');
            push_number(out, value);
            out.push(b'"');
        }
        Numbers::Number => push_number(out, value),
    }
}
