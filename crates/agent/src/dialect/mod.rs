//! One dialect of a stream, whichever it is.
//!
//! An enum rather than a trait object: the set is closed, the calls are on the audio path. A new dialect is a
//! file here that implements [`Speak`], a [`crate::DialectKind`] with its row of traits, an arm below, a golden
//! transcript and a fuzz target.

mod asterisk;
mod audio_wire;
mod audiosocket;
mod bolna;
mod deepgram;
mod elevenlabs;
mod exotel;
mod genesys;
mod jambonz;
mod listening;
mod media_stream;
mod openai_realtime;
mod plivo;
mod telnyx;
mod tools;
mod twilio;
mod vobiz;
mod vonage;

use serde::{Deserialize, Serialize};

use crate::{
    AgentCommand, AgentEvent, AudioFormat, ConfigError, DialectConfig, DialectError, DialectKind, FrameKind,
    MAX_MESSAGE_BYTES, MAX_NAME_BYTES, StreamFacts,
};
use audio_wire::AudioWire;
pub use audiosocket::audiosocket_frame_bytes;
pub(crate) use listening::OwnWords;

/// What a flush does with marks whose audio it drops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum FlushRule {
    /// They are reported as played, in their order (Twilio).
    #[serde(rename = "echo")]
    Echo,
    /// They are forgotten (chan_websocket).
    #[serde(rename = "drop")]
    Drop,
    /// They are reported as cleared, in their order, where the dialect has a word for it (Bolna).
    #[serde(rename = "cleared")]
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

/// One dialect's half of a conversation. What [`Dialect`] says of its methods holds for these.
trait Speak {
    fn wire(&self) -> &AudioWire;

    fn ignored(&self) -> u64;

    fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind>;

    fn poll_reply(&mut self, _out: &mut Vec<u8>) -> Option<FrameKind> {
        None
    }

    fn encode_audio(&mut self, _timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        self.wire().push_binary(audio, out);
        Some(FrameKind::Binary)
    }

    fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind>;

    fn decode(
        &mut self,
        kind: FrameKind,
        bytes: &[u8],
        sink: &mut impl FnMut(AgentCommand<'_>),
    ) -> Result<(), DialectError>;

    fn has_parted(&self) -> bool {
        true
    }
}

/// The encoder and decoder of one agent's stream.
#[derive(Debug)]
pub struct Dialect {
    kind: Kind,
    flush_rule: FlushRule,
    own_words: OwnWords,
}

#[derive(Debug)]
enum Kind {
    Asterisk(asterisk::Asterisk),
    Bolna(bolna::Bolna),
    Twilio(twilio::Twilio),
    Plivo(plivo::Plivo),
    Vobiz(vobiz::Vobiz),
    Exotel(exotel::Exotel),
    Telnyx(telnyx::Telnyx),
    Vonage(vonage::Vonage),
    Genesys(genesys::Genesys),
    Jambonz(jambonz::Jambonz),
    AudioSocket(audiosocket::AudioSocket),
    OpenAiRealtime(openai_realtime::OpenAiRealtime),
    ElevenLabs(elevenlabs::ElevenLabs),
    Deepgram(deepgram::Deepgram),
}

/// Does the same with whichever dialect it is.
macro_rules! each {
    ($kind:expr, $dialect:ident => $work:expr) => {
        match $kind {
            Kind::Asterisk($dialect) => $work,
            Kind::Bolna($dialect) => $work,
            Kind::Twilio($dialect) => $work,
            Kind::Plivo($dialect) => $work,
            Kind::Vobiz($dialect) => $work,
            Kind::Exotel($dialect) => $work,
            Kind::Telnyx($dialect) => $work,
            Kind::Vonage($dialect) => $work,
            Kind::Genesys($dialect) => $work,
            Kind::Jambonz($dialect) => $work,
            Kind::AudioSocket($dialect) => $work,
            Kind::OpenAiRealtime($dialect) => $work,
            Kind::ElevenLabs($dialect) => $work,
            Kind::Deepgram($dialect) => $work,
        }
    };
}

impl Dialect {
    /// The dialect `config` names, for the call of `facts`.
    ///
    /// # Errors
    /// When the settings do not go together ([`DialectConfig::validate`]).
    pub fn new(config: &DialectConfig, facts: &StreamFacts) -> Result<Self, ConfigError> {
        config.validate()?;
        let kind = match config.dialect {
            DialectKind::Asterisk => Kind::Asterisk(asterisk::Asterisk::new(config, facts)),
            DialectKind::Bolna => Kind::Bolna(bolna::Bolna::new(config)),
            DialectKind::Twilio => Kind::Twilio(twilio::Twilio::new(config, facts)),
            DialectKind::Plivo => Kind::Plivo(plivo::Plivo::new(config, facts)),
            DialectKind::Vobiz => Kind::Vobiz(vobiz::Vobiz::new(config, facts)),
            DialectKind::Exotel => Kind::Exotel(exotel::Exotel::new(config, facts)),
            DialectKind::Telnyx => Kind::Telnyx(telnyx::Telnyx::new(config, facts)),
            DialectKind::Vonage => Kind::Vonage(vonage::Vonage::new(config)),
            DialectKind::Genesys => Kind::Genesys(genesys::Genesys::new(config, facts)),
            DialectKind::Jambonz => Kind::Jambonz(jambonz::Jambonz::new(config)),
            DialectKind::Audiosocket => Kind::AudioSocket(audiosocket::AudioSocket::new(config)),
            DialectKind::OpenaiRealtime => {
                Kind::OpenAiRealtime(openai_realtime::OpenAiRealtime::new(config, facts))
            }
            DialectKind::Elevenlabs => Kind::ElevenLabs(elevenlabs::ElevenLabs::new(config)),
            DialectKind::Deepgram => Kind::Deepgram(deepgram::Deepgram::new(config)),
        };
        Ok(Self { kind, flush_rule: config.marks_on_clear(), own_words: config.own_words() })
    }

    /// Writes the next start message into `out`; nothing once all have been written. Comes before all else.
    pub fn poll_start(&mut self, facts: &StreamFacts, out: &mut Vec<u8>) -> Option<FrameKind> {
        each!(&mut self.kind, dialect => dialect.poll_start(facts, out))
    }

    /// Writes the next message that the dialect itself owes the agent: its answer to what was decoded, a ping.
    pub fn poll_reply(&mut self, out: &mut Vec<u8>) -> Option<FrameKind> {
        each!(&mut self.kind, dialect => dialect.poll_reply(out))
    }

    /// Writes one message of caller audio, coded in [`Self::format`]; `timestamp_ms` is the time of its first
    /// sample since the stream's start. Nothing while the agent is not to be sent audio.
    pub fn encode_audio(&mut self, timestamp_ms: u64, audio: &[u8], out: &mut Vec<u8>) -> Option<FrameKind> {
        each!(&mut self.kind, dialect => dialect.encode_audio(timestamp_ms, audio, out))
    }

    /// Writes one event; nothing if the dialect has no word for it.
    pub fn encode_event(&mut self, event: AgentEvent<'_>, out: &mut Vec<u8>) -> Option<FrameKind> {
        if listening::is_own(&event) {
            return listening::encode(self.own_words(), &event, out);
        }
        each!(&mut self.kind, dialect => dialect.encode_event(event, out))
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
        each!(&mut self.kind, dialect => dialect.decode(kind, bytes, sink))
    }

    /// The coding of caller audio towards the agent. Some agents choose it: it may change in decoding.
    #[must_use]
    pub fn format(&self) -> AudioFormat {
        each!(&self.kind, dialect => dialect.wire().format)
    }

    /// What a flush does with pending marks.
    #[must_use]
    pub const fn flush_rule(&self) -> FlushRule {
        self.flush_rule
    }

    /// chan_websocket has two forms, and may be told by the agent which.
    const fn own_words(&self) -> OwnWords {
        match &self.kind {
            Kind::Asterisk(dialect) if !dialect.is_json() => OwnWords::Plain,
            _ => self.own_words,
        }
    }

    /// Where the dialect signals back-pressure; nothing where it cannot.
    #[must_use]
    pub const fn watermarks(&self) -> Option<Watermarks> {
        match &self.kind {
            Kind::Asterisk(_) => Some(asterisk::WATERMARKS),
            _ => None,
        }
    }

    /// False from [`AgentEvent::Stop`] until the agent has answered it, in dialects whose agents do: until then the
    /// socket is better left open.
    #[must_use]
    pub fn has_parted(&self) -> bool {
        each!(&self.kind, dialect => dialect.has_parted())
    }

    /// Messages that were well formed but not known to the dialect.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        each!(&self.kind, dialect => dialect.ignored())
    }
}

/// A mark's name or a correlation id, within its bound.
fn bounded_name(name: &str) -> Result<&str, DialectError> {
    if name.len() > MAX_NAME_BYTES { Err(DialectError::TooLong) } else { Ok(name) }
}

fn is_dial_string(digits: &str) -> bool {
    !digits.is_empty()
        && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'*' | b'#' | b'A'..=b'D' | b'a'..=b'd'))
}
