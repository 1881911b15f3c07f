//! Genesys AudioHook, version 2, as its Audio Connector speaks it to a bot: binary µ-law, JSON control messages.
//!
//! No audio leaves before the bot has answered `open` with `opened`, or while it has paused us. A barge-in of the bot
//! clears the queue. Who ends the call, the end is said: `close`, answered by `closed`. Signed upgrades, stereo and
//! `reconnect` are not spoken here.

use std::collections::VecDeque;

use serde::Deserialize;

use super::Speak;
use super::audio_wire::AudioWire;
use super::media_stream::{push_digit, push_field, put};
use crate::facts::account_uuid;
use crate::json::{Scalar, push_number, push_pairs, push_string};
use crate::{AgentCommand, AgentEvent, DialectConfig, DialectError, FrameKind, StreamFacts};

/// Between two of our pings, in milliseconds of caller audio; within the time after which servers give a client up.
const PING_MS: u64 = 5000;

/// Answers that may wait to be taken; more than that are not owed to a server that asks without listening.
const REPLIES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Genesys {
    wire: AudioWire,
    id: String,
    is_started: bool,
    phase: Phase,
    is_paused: bool,
    /// The server asked for the end.
    is_disconnected: bool,
    /// Number of our last message, and of the server's.
    sequence: u64,
    server_sequence: u64,
    /// When the first audio left, and the end of the last, in milliseconds of the stream.
    origin_ms: Option<u64>,
    position_ms: u64,
    pinged_ms: u64,
    replies: VecDeque<&'static str>,
    ignored: u64,
}

/// Where the session stands, named for what is awaited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Opened,
    End,
    Closed,
    Nothing,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
    #[serde(default)]
    seq: u64,
    #[serde(borrow, default)]
    parameters: Option<Parameters<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct Parameters<'a> {
    #[serde(borrow, default)]
    media: Vec<Media<'a>>,
    #[serde(default)]
    start_paused: bool,
    #[serde(borrow, default)]
    entities: Vec<Entity<'a>>,
}

#[derive(Deserialize)]
struct Media<'a> {
    #[serde(borrow, default)]
    format: Scalar<'a>,
}

#[derive(Deserialize)]
struct Entity<'a> {
    #[serde(borrow, default, rename = "type")]
    kind: Scalar<'a>,
}

impl Genesys {
    pub(super) fn new(config: &DialectConfig, facts: &StreamFacts) -> Self {
        Self {
            wire: AudioWire::new(config),
            id: facts.call.to_string(),
            is_started: false,
            phase: Phase::Opened,
            is_paused: false,
            is_disconnected: false,
            sequence: 0,
            server_sequence: 0,
            origin_ms: None,
            position_ms: 0,
            pinged_ms: 0,
            replies: VecDeque::new(),
            ignored: 0,
        }
    }

    /// Everything of a message up to the value of `parameters`, which the caller writes, with the brace after it.
    fn push_head(&mut self, kind: &str, out: &mut Vec<u8>) {
        self.sequence += 1;
        put(out, r#"{"version":"2","id":""#);
        put(out, &self.id);
        put(out, r#"","type":""#);
        put(out, kind);
        put(out, r#"","seq":"#);
        push_number(out, self.sequence);
        put(out, r#","serverseq":"#);
        push_number(out, self.server_sequence);
        let position = self.position_ms - self.origin_ms.unwrap_or(self.position_ms);
        put(out, &format!(r#","position":"PT{}.{:03}S","parameters":"#, position / 1000, position % 1000));
    }

    fn push_bare(&mut self, kind: &str, out: &mut Vec<u8>) -> Option<FrameKind> {
        self.push_head(kind, out);
        put(out, "{}}");
        Some(FrameKind::Text)
    }

    fn reply(&mut self, kind: &'static str) {
        if self.replies.len() < REPLIES_MAX {
            self.replies.push_back(kind);
        }
    }

    fn open(&mut self, parameters: &Parameters<'_>) -> Result<(), DialectError> {
        let is_ours = parameters.media.first().is_none_or(|media| media.format.as_str() == Some("PCMU"));
        if !is_ours {
            return Err(DialectError::Audio);
        }
        if self.phase == Phase::Opened {
            self.phase = Phase::End;
            self.is_paused = parameters.start_paused;
        }
        Ok(())
    }

    fn apply(
        &mut self,
        kind: Option<&str>,
        parameters: &Parameters<'_>,
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        match kind {
            Some("opened") => self.open(parameters)?,
            Some("event") => {
                let mut entities = parameters.entities.iter();
                if entities.any(|entity| entity.kind.as_str() == Some("barge_in")) {
                    sink(AgentCommand::Flush);
                }
            }
            Some("disconnect") => {
                self.is_disconnected = true;
                sink(AgentCommand::Finish);
            }
            Some("closed") if self.phase == Phase::Closed => self.phase = Phase::Nothing,
            Some("ping") => self.reply("pong"),
            Some("pong") => {}
            Some("pause") => {
                self.is_paused = true;
                self.reply("paused");
            }
            Some("resume") => {
                self.is_paused = false;
                self.reply("resumed");
            }
            Some(_) | None => self.ignored += 1,
        }
        Ok(())
    }
}

impl Speak for Genesys {
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
        self.push_head("open", out);
        put(out, r#"{"organizationId":""#);
        put(out, &account_uuid(&facts.account).to_string());
        put(out, r#"","conversationId":""#);
        put(out, &self.id);
        put(out, r#"","participant":{"id":""#);
        put(out, &self.id);
        out.push(b'"');
        push_field(out, "ani", &facts.from);
        push_field(out, "aniName", "");
        push_field(out, "dnis", &facts.to);
        put(
            out,
            r#"},"media":[{"type":"audio","format":"PCMU","channels":["external"],"rate":8000}],"language":"#,
        );
        let language = facts.parameter_pairs().find(|(name, _)| *name == "language");
        push_string(out, language.map_or("en-US", |(_, value)| value));
        put(out, r#","inputVariables":"#);
        push_pairs(out, facts.parameter_pairs());
        put(out, "}}");
        Some(FrameKind::Text)
    }

    fn poll_reply(&mut self, out: &mut Vec<u8>) -> Option<FrameKind> {
        let kind = self.replies.pop_front()?;
        self.push_bare(kind, out)
    }

    fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        if self.phase != Phase::End || self.is_paused {
            return None;
        }
        self.origin_ms = self.origin_ms.or(Some(timestamp_ms));
        self.position_ms = timestamp_ms + (audio.len() / self.wire.format.bytes_per_ms()) as u64;
        if self.position_ms - self.pinged_ms.max(self.origin_ms.unwrap_or_default()) >= PING_MS {
            self.pinged_ms = self.position_ms;
            self.reply("ping");
        }
        self.wire.push_binary(audio, out);
        Some(FrameKind::Binary)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match event {
            AgentEvent::Stop => {
                self.phase = Phase::Closed;
                self.push_head("close", out);
                put(out, r#"{"reason":""#);
                put(out, if self.is_disconnected { "disconnect" } else { "end" });
                put(out, r#""}}"#);
                return Some(FrameKind::Text);
            }
            // Before the session is open, and after its end, a server is told nothing else.
            _ if self.phase != Phase::End => return None,
            AgentEvent::Digit { digit, .. } => {
                self.push_head("dtmf", out);
                put(out, r#"{"digit":"#);
                push_digit(out, digit);
                put(out, "}}");
            }
            AgentEvent::PlayoutStarted => return self.push_bare("playback_started", out),
            AgentEvent::PlayoutDone => return self.push_bare("playback_completed", out),
            AgentEvent::Error { text } => {
                self.push_head("error", out);
                put(out, r#"{"code":400,"message":"#);
                push_string(out, text);
                put(out, r#","retryable":false}}"#);
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
            FrameKind::Binary => {
                self.wire.decode_binary(bytes, sink);
                return Ok(());
            }
            FrameKind::Close => return Ok(()),
        }
        let envelope: Envelope<'_> = serde_json::from_slice(bytes).map_err(|_| DialectError::Json)?;
        self.server_sequence = self.server_sequence.max(envelope.seq);
        self.apply(envelope.kind.as_str(), &envelope.parameters.unwrap_or_default(), sink)
    }

    fn has_parted(&self) -> bool {
        self.phase != Phase::Closed
    }
}
