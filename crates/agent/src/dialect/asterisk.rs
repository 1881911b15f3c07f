//! Asterisk's chan_websocket: binary audio both ways, control in plain text or JSON.
//!
//! Beyond Asterisk, all compatible: commands are understood in either form whichever is configured, may be
//! 64 KiB long instead of 128 bytes, and JSON has the extensions `SEND_DTMF`, `TRANSFER`, `HOLD`, `UNHOLD`.
//! Passthrough codecs and the server role (`INCOMING`) are not spoken here.

use serde::Deserialize;

use super::audio_wire::AudioWire;
use super::{Speak, Watermarks, bounded_name, is_dial_string};
use crate::json::{self, Scalar, push_number, push_pairs, push_string};
use crate::{
    AgentCommand, AgentEvent, ControlFormat, DialectConfig, DialectError, Encoding, FrameKind,
    MAX_COMMAND_BYTES, MediaDirection, QueueStatus, StreamFacts, TransferMode,
};

/// `QUEUE_LENGTH_XOFF_LEVEL` and `QUEUE_LENGTH_XON_LEVEL`, in frames of 20 ms.
const XOFF_FRAMES: u32 = 900;
const XON_FRAMES: u32 = 800;

/// The same in milliseconds: 18 s and 16 s.
pub(super) const WATERMARKS: Watermarks = Watermarks { xoff_ms: XOFF_FRAMES * 20, xon_ms: XON_FRAMES * 20 };

#[derive(Debug)]
pub(super) struct Asterisk {
    wire: AudioWire,
    encoding: Encoding,
    frame_ms: u16,
    control: ControlFormat,
    channel_id: String,
    is_started: bool,
    ignored: u64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default)]
    command: Scalar<'a>,
    #[serde(borrow, default)]
    correlation_id: Scalar<'a>,
    #[serde(borrow, default)]
    direction: Scalar<'a>,
    #[serde(borrow, default)]
    digits: Scalar<'a>,
    #[serde(borrow, default)]
    target: Scalar<'a>,
    #[serde(borrow, default)]
    mode: Scalar<'a>,
}

/// A command's operands, whichever form they came in.
#[derive(Default)]
struct Operands<'a> {
    id: Option<&'a str>,
    direction: Option<&'a str>,
    digits: Option<&'a str>,
    target: Option<&'a str>,
    mode: Option<&'a str>,
}

impl Speak for Asterisk {
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
        let frame_bytes = (self.wire.format.bytes_per_ms() * usize::from(self.frame_ms)) as u64;
        let id = self.channel_id.as_str();
        let is_json = self.is_json();
        let mut put = |json: &str, plain: &str, value: &str| {
            out.extend_from_slice(if is_json { json } else { plain }.as_bytes());
            out.extend_from_slice(value.as_bytes());
        };
        put(r#"{"event":"MEDIA_START","connection_id":""#, "MEDIA_START connection_id:", id);
        put(r#"","channel":"WebSocket/"#, " channel:WebSocket/", id);
        put(r#"/0x1","channel_id":""#, "/0x1 channel_id:", id);
        put(r#"","format":""#, " format:", self.encoding.name());
        put(r#"","optimal_frame_size":"#, " optimal_frame_size:", "");
        push_number(out, frame_bytes);
        out.extend_from_slice(if is_json { br#","ptime":"# } else { b" ptime:" });
        push_number(out, u64::from(self.frame_ms));
        if is_json {
            out.extend_from_slice(br#","channel_variables":"#);
            push_pairs(out, channel_variables(facts));
            out.push(b'}');
        }
        Some(FrameKind::Text)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        let is_encoded =
            if self.is_json() { self.encode_json(event, out) } else { self.encode_plain(event, out) };
        is_encoded.then_some(FrameKind::Text)
    }

    fn decode(
        &mut self,
        kind: FrameKind,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        match kind {
            FrameKind::Binary => {
                self.wire.decode_binary(bytes, sink);
                return Ok(());
            }
            FrameKind::Close => return Ok(()),
            FrameKind::Text => {}
        }
        if bytes.len() > MAX_COMMAND_BYTES {
            return Err(DialectError::TooLong);
        }
        let is_object = json::is_object(bytes);
        if self.control == ControlFormat::Auto {
            self.control = if is_object { ControlFormat::Json } else { ControlFormat::PlainText };
        }
        if is_object { self.decode_json(bytes, sink) } else { self.decode_plain(bytes, sink) }
    }
}

impl Asterisk {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self {
            wire: AudioWire::new(config),
            encoding: config.encoding(),
            frame_ms: config.frame_ms(),
            control: config.control_format,
            channel_id: facts.call.to_string(),
            is_started: false,
            ignored: 0,
        }
    }

    /// Until its first command has settled `auto`, plain text is spoken.
    pub(super) const fn is_json(&self) -> bool {
        matches!(self.control, ControlFormat::Json)
    }

    fn encode_plain(&self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> bool {
        let id = self.channel_id.as_bytes();
        match event {
            AgentEvent::Digit { digit, .. } => {
                out.extend_from_slice(b"DTMF_END digit:");
                out.extend_from_slice(digit.encode_utf8(&mut [0; 4]).as_bytes());
                out.extend_from_slice(b" channel_id:");
                out.extend_from_slice(id);
            }
            AgentEvent::MarkPlayed { name, .. } => push_word(out, "MEDIA_MARK_PROCESSED", name),
            AgentEvent::Completed { id } => {
                push_word(out, "MEDIA_BUFFERING_COMPLETED", id.unwrap_or_default())
            }
            AgentEvent::QueueDrained => push_word(out, "QUEUE_DRAINED", ""),
            AgentEvent::Xoff => push_word(out, "MEDIA_XOFF", ""),
            AgentEvent::Xon => push_word(out, "MEDIA_XON", ""),
            AgentEvent::Status(status) => {
                out.extend_from_slice(b"STATUS channel_id:");
                out.extend_from_slice(id);
                push_status(out, &status, |out, name| {
                    out.push(b' ');
                    out.extend_from_slice(name.as_bytes());
                    out.push(b':');
                });
            }
            AgentEvent::Error { text } => {
                out.extend_from_slice(b"ERROR channel_id:");
                out.extend_from_slice(id);
                out.extend_from_slice(b" error_text:");
                out.extend_from_slice(text.as_bytes());
            }
            AgentEvent::Held { is_held } => push_word(out, held_word(is_held), ""),
            AgentEvent::TransferFailed { text } => {
                out.extend_from_slice(b"TRANSFER_FAILED channel_id:");
                out.extend_from_slice(id);
                out.extend_from_slice(b" error_text:");
                out.extend_from_slice(text.as_bytes());
            }
            // The rest chan_websocket has no word for.
            _ => return false,
        }
        true
    }

    fn encode_json(&self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> bool {
        let name = match event {
            AgentEvent::Digit { .. } => "DTMF_END",
            AgentEvent::MarkPlayed { .. } => "MEDIA_MARK_PROCESSED",
            AgentEvent::Completed { .. } => "MEDIA_BUFFERING_COMPLETED",
            AgentEvent::QueueDrained => "QUEUE_DRAINED",
            AgentEvent::Xoff => "MEDIA_XOFF",
            AgentEvent::Xon => "MEDIA_XON",
            AgentEvent::Status(_) => "STATUS",
            AgentEvent::Error { .. } => "ERROR",
            AgentEvent::Held { is_held } => held_word(is_held),
            AgentEvent::TransferFailed { .. } => "TRANSFER_FAILED",
            // The rest chan_websocket has no word for.
            _ => return false,
        };
        out.extend_from_slice(br#"{"event":""#);
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(br#"","channel_id":""#);
        out.extend_from_slice(self.channel_id.as_bytes());
        out.push(b'"');
        match event {
            AgentEvent::Digit { digit, .. } => {
                out.extend_from_slice(br#","digit":"#);
                push_string(out, digit.encode_utf8(&mut [0; 4]));
            }
            AgentEvent::MarkPlayed { name, .. } => {
                out.extend_from_slice(br#","correlation_id":"#);
                push_string(out, name);
            }
            // Always there, if empty: strict clients drop an event that lacks a field.
            AgentEvent::Completed { id } => {
                out.extend_from_slice(br#","correlation_id":"#);
                push_string(out, id.unwrap_or_default());
            }
            AgentEvent::Status(status) => push_status(out, &status, |out, name| {
                out.extend_from_slice(b",\"");
                out.extend_from_slice(name.as_bytes());
                out.extend_from_slice(b"\":");
            }),
            AgentEvent::Error { text } | AgentEvent::TransferFailed { text } => {
                out.extend_from_slice(br#","error_text":"#);
                push_string(out, text);
            }
            _ => {}
        }
        out.push(b'}');
        true
    }

    fn decode_json(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        let command = envelope.command.as_str().ok_or(DialectError::Field("command"))?;
        let operands = Operands {
            id: envelope.correlation_id.as_str(),
            direction: envelope.direction.as_str(),
            digits: envelope.digits.as_str(),
            target: envelope.target.as_str(),
            mode: envelope.mode.as_str(),
        };
        self.apply(command, &operands, sink)
    }

    /// `COMMAND[ rest-of-line]`: the first blank splits, the rest is the operand whatever it holds.
    fn decode_plain(
        &mut self,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DialectError::Utf8)?;
        let line = text.trim_end_matches(['\r', '\n', '\0']);
        let (command, rest) = match line.split_once(' ') {
            Some((command, rest)) => (command, Some(rest)),
            None => (line, None),
        };
        let (target, mode) = match rest.and_then(|rest| rest.rsplit_once(' ')) {
            Some((target, mode)) => (Some(target), Some(mode)),
            None => (rest, None),
        };
        self.apply(command, &Operands { id: rest, direction: rest, digits: rest, target, mode }, sink)
    }

    fn apply(
        &mut self,
        command: &str,
        operands: &Operands<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        let command = match command {
            "ANSWER" => AgentCommand::Answer,
            "HANGUP" => AgentCommand::HangUp,
            "START_MEDIA_BUFFERING" => AgentCommand::StartBuffering,
            "STOP_MEDIA_BUFFERING" => {
                AgentCommand::StopBuffering { id: operands.id.map(bounded_name).transpose()? }
            }
            "MARK_MEDIA" => AgentCommand::Mark { name: bounded_name(operands.id.unwrap_or_default())? },
            "FLUSH_MEDIA" => {
                self.wire.forget();
                AgentCommand::Flush
            }
            "PAUSE_MEDIA" => AgentCommand::Pause,
            "CONTINUE_MEDIA" => AgentCommand::Continue,
            "REPORT_QUEUE_DRAINED" => AgentCommand::ReportDrained,
            "GET_STATUS" => AgentCommand::GetStatus,
            "SET_MEDIA_DIRECTION" => AgentCommand::SetDirection(match operands.direction {
                Some("both") => MediaDirection::Both,
                Some("in") => MediaDirection::In,
                Some("out") => MediaDirection::Out,
                Some(_) | None => return Err(DialectError::Field("direction")),
            }),
            "SEND_DTMF" => match operands.digits {
                Some(digits) if is_dial_string(digits) => {
                    AgentCommand::SendDtmf { digits: bounded_name(digits)? }
                }
                Some(_) | None => return Err(DialectError::Field("digits")),
            },
            "TRANSFER" => AgentCommand::Transfer {
                target: match operands.target {
                    Some(target) if !target.is_empty() => bounded_name(target)?,
                    Some(_) | None => return Err(DialectError::Field("target")),
                },
                mode: match operands.mode {
                    None => TransferMode::Auto,
                    Some("refer") => TransferMode::Refer,
                    Some("dial") => TransferMode::Dial,
                    Some(_) => return Err(DialectError::Field("mode")),
                },
            },
            "HOLD" => AgentCommand::Hold,
            "UNHOLD" => AgentCommand::Unhold,
            _ => {
                self.ignored += 1;
                return Ok(());
            }
        };
        sink(command);
        Ok(())
    }
}

/// Tandem's own words, for chan_websocket has none.
const fn held_word(is_held: bool) -> &'static str {
    if is_held { "CALL_HELD" } else { "CALL_RESUMED" }
}

/// The agent's parameters, then the facts of the SIP call under names no parameter has taken, then `X-` headers.
fn channel_variables(facts: &StreamFacts) -> impl Iterator<Item = (&str, &str)> {
    let own = [
        ("From", facts.from.as_str()),
        ("To", &facts.to),
        ("Call-ID", &facts.sip_call_id),
        ("Agent", &facts.agent),
        ("Trunk", &facts.trunk),
    ];
    let is_parameter = |name: &str| facts.parameters.iter().any(|(taken, _)| taken == name);
    let headers = facts.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let parameters = facts.parameters.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    parameters.chain(own.into_iter().chain(headers).filter(move |(name, _)| !is_parameter(name)))
}

fn push_word(out: &mut Vec<u8>, word: &str, operand: &str) {
    out.extend_from_slice(word.as_bytes());
    if !operand.is_empty() {
        out.push(b' ');
        out.extend_from_slice(operand.as_bytes());
    }
}

/// The fields of STATUS in Asterisk's order, each name written by `push_name`.
fn push_status(out: &mut Vec<u8>, status: &QueueStatus, push_name: impl Fn(&mut Vec<u8>, &str)) {
    let numbers =
        [("queue_length", status.length_frames), ("xon_level", XON_FRAMES), ("xoff_level", XOFF_FRAMES)];
    for (name, value) in numbers {
        push_name(out, name);
        push_number(out, u64::from(value));
    }
    let flags = [
        ("queue_full", status.is_full),
        ("bulk_media", status.is_buffering),
        ("media_paused", status.is_paused),
    ];
    for (name, value) in flags {
        push_name(out, name);
        out.extend_from_slice(if value { b"true" } else { b"false" });
    }
}
