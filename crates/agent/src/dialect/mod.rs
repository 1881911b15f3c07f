//! One dialect of a stream, whichever it is.
//!
//! An enum rather than a trait object: the set is closed, the calls are on the audio path. A new dialect is a
//! file here, a [`crate::DialectKind`], an arm in each match below, a golden transcript and a fuzz target.

mod asterisk;
mod bolna;
mod twilio;

use crate::{
    AgentCommand, AgentEvent, AudioFormat, ConfigError, DialectConfig, DialectError, DialectKind, FrameKind,
    MAX_MESSAGE_BYTES, MAX_NAME_BYTES, StreamFacts,
};
use asterisk::Asterisk;
use bolna::Bolna;
use twilio::Twilio;

/// What a flush does with marks whose audio it drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FlushRule {
    /// They are reported as played, in their order (Twilio).
    Echo,
    /// They are forgotten (chan_websocket).
    Drop,
    /// They are reported as cleared, in their order (Bolna).
    ReportCleared,
}

/// Lengths of the egress queue at which an agent is asked to stop and to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermarks {
    /// XOFF at this many milliseconds or more.
    pub xoff_ms: u32,
    /// XON below this many milliseconds.
    pub xon_ms: u32,
}

/// The encoder and decoder of one agent's stream.
#[derive(Debug)]
pub struct Dialect(Kind);

#[derive(Debug)]
enum Kind {
    Asterisk(Asterisk),
    Bolna(Bolna),
    Twilio(Twilio),
}

impl Dialect {
    /// The dialect `config` names, for the call of `facts`.
    ///
    /// # Errors
    /// When the settings do not go together ([`DialectConfig::validate`]).
    pub fn new(config: &DialectConfig, facts: &StreamFacts) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self(match config.dialect {
            DialectKind::Asterisk => Kind::Asterisk(Asterisk::new(config, facts)),
            DialectKind::Bolna => Kind::Bolna(Bolna::new(config)),
            DialectKind::Twilio => Kind::Twilio(Twilio::new(config, facts)),
        }))
    }

    /// Writes the next start message into `out`; nothing once all have been written. Comes before all else.
    pub fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        match &mut self.0 {
            Kind::Asterisk(dialect) => dialect.poll_start(facts, out),
            Kind::Bolna(dialect) => dialect.poll_start(facts, out),
            Kind::Twilio(dialect) => dialect.poll_start(facts, out),
        }
    }

    /// Writes one message of caller audio, coded in [`Self::format`]; `timestamp_ms` is the time of its first
    /// sample since the stream's start.
    pub fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> FrameKind {
        match &mut self.0 {
            Kind::Asterisk(_) | Kind::Bolna(_) => {
                out.extend_from_slice(audio);
                FrameKind::Binary
            }
            Kind::Twilio(dialect) => dialect.encode_audio(timestamp_ms, audio, out),
        }
    }

    /// Writes one event; nothing if the dialect has no word for it.
    pub fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        match &mut self.0 {
            Kind::Asterisk(dialect) => dialect.encode_event(event, out),
            Kind::Bolna(dialect) => dialect.encode_event(event, out),
            Kind::Twilio(dialect) => dialect.encode_event(event, out),
        }
    }

    /// Reads one message of the agent and gives each command in it to `sink`. What the dialect does not know
    /// is left out and counted ([`Self::ignored`]).
    ///
    /// # Errors
    /// When the message cannot be understood; commands before the fault have been given.
    pub fn decode(
        &mut self,
        kind: FrameKind,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(DialectError::TooLong);
        }
        match &mut self.0 {
            Kind::Asterisk(dialect) => dialect.decode(kind, bytes, sink),
            Kind::Bolna(dialect) => dialect.decode(kind, bytes, sink),
            Kind::Twilio(dialect) => dialect.decode(kind, bytes, sink),
        }
    }

    /// The coding of caller audio towards the agent.
    #[must_use]
    pub const fn format(&self) -> AudioFormat {
        match &self.0 {
            Kind::Asterisk(dialect) => dialect.format(),
            Kind::Bolna(dialect) => dialect.format(),
            Kind::Twilio(dialect) => dialect.format(),
        }
    }

    /// What a flush does with pending marks.
    #[must_use]
    pub const fn flush_rule(&self) -> FlushRule {
        match &self.0 {
            Kind::Asterisk(_) => FlushRule::Drop,
            Kind::Bolna(_) => FlushRule::ReportCleared,
            Kind::Twilio(_) => FlushRule::Echo,
        }
    }

    /// Where the dialect signals back-pressure; nothing where it cannot.
    #[must_use]
    pub const fn watermarks(&self) -> Option<Watermarks> {
        match &self.0 {
            Kind::Asterisk(_) => Some(asterisk::WATERMARKS),
            Kind::Bolna(_) | Kind::Twilio(_) => None,
        }
    }

    /// Messages that were well formed but not known to the dialect.
    #[must_use]
    pub const fn ignored(&self) -> u64 {
        match &self.0 {
            Kind::Asterisk(dialect) => dialect.ignored(),
            Kind::Bolna(dialect) => dialect.ignored(),
            Kind::Twilio(dialect) => dialect.ignored(),
        }
    }
}

/// A mark's name or a correlation id, within its bound.
fn bounded_name(name: &str) -> Result<&str, DialectError> {
    if name.len() > MAX_NAME_BYTES { Err(DialectError::TooLong) } else { Ok(name) }
}
