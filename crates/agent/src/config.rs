//! How an agent's stream is spoken: the dialect's part of the agent's `websocket` object.
//!
//! URL, headers, subprotocol and what a close means are the call's and the shell's; here is only what changes
//! the frames.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::dialect::OwnWords;
use crate::{AudioFormat, FlushRule};

/// A dialect's name as configuration has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DialectKind {
    /// Asterisk's chan_websocket.
    #[default]
    Asterisk,
    /// Bolna's patched mod_audio_stream.
    Bolna,
    /// Twilio Media Streams, bidirectional.
    Twilio,
    /// Plivo audio streams, bidirectional.
    Plivo,
    /// Vobiz audio streams, bidirectional.
    Vobiz,
    /// Exotel AgentStream (Voicebot).
    Exotel,
    /// Telnyx media streaming, bidirectional.
    Telnyx,
    /// Vonage Voice WebSockets.
    Vonage,
    /// Genesys AudioHook as the Audio Connector speaks it.
    Genesys,
    /// jambonz `listen`.
    Jambonz,
    /// AudioSocket, over TCP.
    Audiosocket,
    /// OpenAI Realtime, direct.
    OpenaiRealtime,
    /// ElevenLabs Agents, direct.
    Elevenlabs,
    /// Deepgram Voice Agent, direct.
    Deepgram,
}

impl DialectKind {
    /// Every dialect, in the order messages list them.
    pub const ALL: [Self; 14] = [
        Self::Asterisk,
        Self::Bolna,
        Self::Twilio,
        Self::Plivo,
        Self::Vobiz,
        Self::Exotel,
        Self::Telnyx,
        Self::Vonage,
        Self::Genesys,
        Self::Jambonz,
        Self::Audiosocket,
        Self::OpenaiRealtime,
        Self::Elevenlabs,
        Self::Deepgram,
    ];

    /// The name configuration uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.traits().name
    }

    /// The dialect of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// Whether it is spoken over bare TCP (`tcp://`) rather than a WebSocket.
    #[must_use]
    pub const fn is_over_tcp(self) -> bool {
        matches!(self, Self::Audiosocket)
    }

    /// Whether we are the client of an agent service, whose session has settings.
    #[must_use]
    pub const fn is_direct(self) -> bool {
        matches!(self, Self::OpenaiRealtime | Self::Elevenlabs | Self::Deepgram)
    }

    /// What the dialect itself asks of the upgrade request, before the agent's own settings are laid over it.
    ///
    /// A subprotocol is offered by default only where the vendor's own servers ask for one: common agent servers
    /// select none. None sends an `Origin` or offers permessage-deflate.
    #[must_use]
    pub const fn handshake(self) -> Handshake {
        self.traits().handshake
    }

    /// What sets the dialect apart before a word is said. A new dialect is a row here.
    pub(crate) const fn traits(self) -> Traits {
        use Encoding::{Alaw, Slin, Slin16, Slin24, Slin48, Ulaw};
        const PLAIN: Handshake = Handshake { subprotocol: None, headers: &[] };
        const TELEPHONE: &[Encoding] = &[Ulaw, Alaw];
        const ANY: &[Encoding] = &[Ulaw, Alaw, Slin, Slin16, Slin24, Slin48];
        const LINEAR: &[Encoding] = &[Slin, Slin16, Slin24];
        const BASE: Traits = Traits {
            name: "",
            encodings: ANY,
            frame_ms: 20,
            byte_order: ByteOrder::Little,
            numbers: Numbers::Text,
            marks_on_clear: FlushRule::Echo,
            handshake: PLAIN,
            own_words: OwnWords::Json("event"),
        };
        match self {
            Self::Asterisk => Traits { name: "asterisk", marks_on_clear: FlushRule::Drop, ..BASE },
            Self::Bolna => Traits {
                name: "bolna",
                encodings: &[Slin16, Slin],
                marks_on_clear: FlushRule::ReportCleared,
                own_words: OwnWords::Json("type"),
                ..BASE
            },
            Self::Twilio => Traits { name: "twilio", encodings: TELEPHONE, ..BASE },
            Self::Plivo => Traits {
                name: "plivo",
                encodings: &[Ulaw, Slin, Slin16],
                numbers: Numbers::Number,
                marks_on_clear: FlushRule::Drop,
                ..BASE
            },
            Self::Vobiz => Traits {
                name: "vobiz",
                encodings: &[Ulaw, Slin, Slin16, Slin24],
                byte_order: ByteOrder::Big,
                numbers: Numbers::Number,
                marks_on_clear: FlushRule::Drop,
                ..BASE
            },
            Self::Exotel => {
                Traits { name: "exotel", encodings: &[Slin, Slin16, Slin24, Ulaw], frame_ms: 100, ..BASE }
            }
            Self::Telnyx => Traits { name: "telnyx", encodings: &[Ulaw, Alaw, Slin, Slin16, Slin24], ..BASE },
            Self::Vonage => Traits {
                name: "vonage",
                encodings: &[Slin16, Slin, Slin24],
                marks_on_clear: FlushRule::Drop,
                ..BASE
            },
            Self::Genesys => Traits {
                name: "genesys",
                encodings: &[Ulaw],
                frame_ms: 200,
                marks_on_clear: FlushRule::Drop,
                own_words: OwnWords::None,
                handshake: Handshake {
                    subprotocol: None,
                    headers: &[
                        ("Audiohook-Organization-Id", Fact::Organization),
                        ("Audiohook-Session-Id", Fact::Call),
                        ("Audiohook-Correlation-Id", Fact::Call),
                    ],
                },
                ..BASE
            },
            Self::Jambonz => Traits {
                name: "jambonz",
                encodings: LINEAR,
                marks_on_clear: FlushRule::ReportCleared,
                own_words: OwnWords::Json("type"),
                handshake: Handshake { subprotocol: Some("audio.jambonz.org"), headers: &[] },
                ..BASE
            },
            Self::Audiosocket => Traits {
                name: "audiosocket",
                encodings: &[Slin, Slin16, Slin24, Slin48],
                marks_on_clear: FlushRule::Drop,
                own_words: OwnWords::None,
                ..BASE
            },
            Self::OpenaiRealtime => Traits {
                name: "openai-realtime",
                encodings: &[Ulaw, Alaw, Slin24],
                marks_on_clear: FlushRule::Drop,
                own_words: OwnWords::None,
                ..BASE
            },
            Self::Elevenlabs => Traits {
                name: "elevenlabs",
                encodings: &[Ulaw, Slin, Slin16, Slin24, Slin48],
                marks_on_clear: FlushRule::Drop,
                own_words: OwnWords::None,
                ..BASE
            },
            Self::Deepgram => Traits {
                name: "deepgram",
                marks_on_clear: FlushRule::Drop,
                own_words: OwnWords::None,
                ..BASE
            },
        }
    }
}

/// What a dialect is before its agent's settings are laid over it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Traits {
    pub(crate) name: &'static str,
    /// Codings it speaks, its own first.
    pub(crate) encodings: &'static [Encoding],
    pub(crate) frame_ms: u16,
    pub(crate) byte_order: ByteOrder,
    pub(crate) numbers: Numbers,
    pub(crate) marks_on_clear: FlushRule,
    pub(crate) handshake: Handshake,
    pub(crate) own_words: OwnWords,
}

/// What a dialect asks of the upgrade request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Protocol` to offer, if any.
    pub subprotocol: Option<&'static str>,
    /// Headers to add, name and what they tell.
    pub headers: &'static [(&'static str, Fact)],
}

/// What a header of the upgrade request tells of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fact {
    /// The call's identifier.
    Call,
    /// A UUID that stands for the account.
    Organization,
}

/// The audio coding spoken to an agent, where the dialect leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// G.711 µ-law.
    #[serde(alias = "pcmu", alias = "mulaw")]
    Ulaw,
    /// G.711 A-law.
    #[serde(alias = "pcma")]
    Alaw,
    /// Signed 16-bit linear, 8 kHz.
    #[serde(alias = "l16-8k", alias = "slin8")]
    Slin,
    /// Signed 16-bit linear, 16 kHz.
    #[serde(alias = "l16", alias = "l16-16k")]
    Slin16,
    /// Signed 16-bit linear, 24 kHz.
    #[serde(alias = "l16-24k")]
    Slin24,
    /// Signed 16-bit linear, 48 kHz.
    #[serde(alias = "l16-48k")]
    Slin48,
}

impl Encoding {
    /// Every coding.
    pub const ALL: [Self; 6] = [Self::Ulaw, Self::Alaw, Self::Slin, Self::Slin16, Self::Slin24, Self::Slin48];

    /// The audio it names.
    #[must_use]
    pub const fn format(self) -> AudioFormat {
        match self {
            Self::Ulaw => AudioFormat::Mulaw,
            Self::Alaw => AudioFormat::Alaw,
            Self::Slin => AudioFormat::Linear16 { rate_hz: 8000 },
            Self::Slin16 => AudioFormat::Linear16 { rate_hz: 16_000 },
            Self::Slin24 => AudioFormat::Linear16 { rate_hz: 24_000 },
            Self::Slin48 => AudioFormat::Linear16 { rate_hz: 48_000 },
        }
    }

    /// The name configuration and chan_websocket's `MEDIA_START` use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ulaw => "ulaw",
            Self::Alaw => "alaw",
            Self::Slin => "slin",
            Self::Slin16 => "slin16",
            Self::Slin24 => "slin24",
            Self::Slin48 => "slin48",
        }
    }
}

/// The order of the two bytes of a linear sample on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ByteOrder {
    /// Least significant first.
    Little,
    /// Most significant first (RFC 3551, 4.5.11).
    Big,
}

/// How sequence numbers, chunks and timestamps are written in the JSON dialects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Numbers {
    /// In quotes.
    Text,
    /// As JSON numbers.
    Number,
}

/// The form of chan_websocket's events. Commands are understood in both forms whichever is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ControlFormat {
    /// `EVENT key:value …`
    #[default]
    PlainText,
    /// `{"event":…}`
    Json,
    /// Plain text until the first command; JSON from then on if that was JSON.
    Auto,
}

/// What is made of the caller's voice for an agent that does not listen for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VoiceActivity {
    /// Nothing: the agent hears for itself.
    #[default]
    Off,
    /// The agent is told when the caller begins and stops to speak, and when he barges in.
    Events,
    /// The same, where the dialect has words; and what is queued is dropped when he barges in.
    Clear,
}

/// Whether keys are looked for in the caller's audio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InbandDtmf {
    /// In calls that negotiated no telephone events.
    #[default]
    Auto,
    /// In every call until an event comes, for carriers that agree on events and send tones.
    Always,
    /// In none.
    Never,
}

/// The dialect's part of an agent's `websocket` object: whatever is not set is the dialect's own. Keys that are not
/// its own are left to others.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DialectConfig {
    /// Which dialect.
    pub dialect: DialectKind,
    /// Audio in each message towards the agent, in milliseconds: 10 to 200, in tens.
    #[serde(default)]
    pub frame_ms: Option<u16>,
    /// The audio coding towards the agent, and from it.
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// The audio coding from the agent, where it is another one and messages do not name it.
    #[serde(default)]
    pub reply_encoding: Option<Encoding>,
    /// The form of events, `asterisk` only.
    #[serde(default)]
    pub control_format: ControlFormat,
    /// The byte order of linear audio.
    #[serde(default)]
    pub byte_order: Option<ByteOrder>,
    /// How numbers are written, where the dialect writes JSON with numbers in it.
    #[serde(default)]
    pub numbers: Option<Numbers>,
    /// What a clear does with marks whose audio it drops.
    #[serde(default)]
    pub marks_on_clear: Option<FlushRule>,
    /// What is made of the caller's voice.
    #[serde(default)]
    pub voice_activity: VoiceActivity,
    /// Whether the agent is told with each mark, clear and end how much of which utterance was heard.
    #[serde(default)]
    pub heard_position: bool,
    /// Whether keys are looked for in the caller's audio.
    #[serde(default)]
    pub inband_dtmf: InbandDtmf,
    /// Settings of the session with a direct agent, laid over our own: `session` of OpenAI's `session.update`,
    /// Deepgram's `Settings`, ElevenLabs' initiation data.
    #[serde(default)]
    pub session: Option<Map<String, Value>>,
}

impl DialectConfig {
    /// The dialect as it is spoken without further settings.
    #[must_use]
    pub fn new(dialect: DialectKind) -> Self {
        Self { dialect, ..Self::default() }
    }

    /// Checks that the settings go together.
    ///
    /// # Errors
    /// Names the setting that does not fit, and what does.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let given = self.frame_ms();
        if !(10..=200).contains(&given) || !given.is_multiple_of(10) {
            return Err(ConfigError::FrameMs { given });
        }
        if self.session.is_some() && !self.dialect.is_direct() {
            return Err(ConfigError::Session { dialect: self.dialect });
        }
        if self.own_words() == OwnWords::None {
            if self.voice_activity == VoiceActivity::Events {
                return Err(ConfigError::NoWords { setting: "voice_activity", dialect: self.dialect });
            }
            if self.heard_position {
                return Err(ConfigError::NoWords { setting: "heard_position", dialect: self.dialect });
            }
        }
        let spoken = self.dialect.traits().encodings;
        for (setting, given) in [("encoding", self.encoding), ("reply_encoding", self.reply_encoding)] {
            if given.is_some_and(|encoding| !spoken.contains(&encoding)) {
                return Err(ConfigError::Encoding { setting, dialect: self.dialect });
            }
        }
        Ok(())
    }

    /// The coding in force: the one set, or the dialect's own.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(self.dialect.traits().encodings[0])
    }

    /// The coding of the agent's audio where its messages do not name one.
    #[must_use]
    pub fn reply_encoding(&self) -> Encoding {
        self.reply_encoding.unwrap_or_else(|| self.encoding())
    }

    /// Milliseconds of audio in each message towards the agent.
    #[must_use]
    pub fn frame_ms(&self) -> u16 {
        self.frame_ms.unwrap_or(self.dialect.traits().frame_ms)
    }

    /// The byte order of linear audio.
    #[must_use]
    pub fn byte_order(&self) -> ByteOrder {
        self.byte_order.unwrap_or(self.dialect.traits().byte_order)
    }

    /// How numbers are written.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.numbers.unwrap_or(self.dialect.traits().numbers)
    }

    /// How events are told that are no vendor's.
    pub(crate) const fn own_words(&self) -> OwnWords {
        self.dialect.traits().own_words
    }

    /// What a clear does with pending marks.
    #[must_use]
    pub fn marks_on_clear(&self) -> FlushRule {
        self.marks_on_clear.unwrap_or(self.dialect.traits().marks_on_clear)
    }
}

/// Settings that do not go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// `frame_ms` is out of range.
    #[error("frame_ms is {given}; it must be a multiple of 10 from 10 to 200")]
    FrameMs {
        /// What was set.
        given: u16,
    },
    /// The dialect has no session to be set up.
    #[error(
        "session is not for dialect {}; openai-realtime, elevenlabs and deepgram have one, parameters serve the others",
        .dialect.name()
    )]
    Session {
        /// The dialect.
        dialect: DialectKind,
    },
    /// The dialect has no words for what is to be told.
    #[error(
        "{setting} cannot be told in dialect {}; of voice_activity, \"clear\" works without being told",
        .dialect.name()
    )]
    NoWords {
        /// Which setting.
        setting: &'static str,
        /// The dialect.
        dialect: DialectKind,
    },
    /// The dialect does not speak this coding.
    #[error("{setting} is not spoken by dialect {}; it speaks {}", .dialect.name(), spoken(*.dialect))]
    Encoding {
        /// Which of the two settings.
        setting: &'static str,
        /// The dialect.
        dialect: DialectKind,
    },
}

fn spoken(dialect: DialectKind) -> String {
    dialect.traits().encodings.iter().map(|encoding| encoding.name()).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_agents_websocket_object_and_leaves_other_keys() {
        let text = r#"{"url":"wss://x/ws","dialect":"asterisk","headers":{},"subprotocol":null,
            "parameters":{"k":"v"},"frame_ms":40,"encoding":"slin16","on_close":"drain"}"#;
        let config: DialectConfig = serde_json::from_str(text).unwrap();
        assert_eq!(config.dialect, DialectKind::Asterisk);
        assert_eq!(config.frame_ms(), 40);
        assert_eq!(config.encoding(), Encoding::Slin16);
        assert_eq!(config.validate(), Ok(()));
        let config: DialectConfig = serde_json::from_str(r#"{"dialect":"twilio","encoding":null}"#).unwrap();
        assert_eq!(config, DialectConfig::new(DialectKind::Twilio));
        assert_eq!(config.encoding(), Encoding::Ulaw);
    }

    #[test]
    fn settings_that_do_not_fit_are_named() {
        let mut config = DialectConfig::new(DialectKind::Twilio);
        config.encoding = Some(Encoding::Slin16);
        let message = config.validate().unwrap_err().to_string();
        assert_eq!(message, "encoding is not spoken by dialect twilio; it speaks ulaw, alaw");
        config.encoding = None;
        for frame_ms in [0, 5, 25, 210] {
            config.frame_ms = Some(frame_ms);
            assert_eq!(config.validate(), Err(ConfigError::FrameMs { given: frame_ms }));
        }
    }

    #[test]
    fn what_no_dialect_could_say_is_refused() {
        for kind in DialectKind::ALL {
            let has_words = kind.traits().own_words != OwnWords::None;
            let mut config = DialectConfig::new(kind);
            config.voice_activity = VoiceActivity::Clear;
            assert_eq!(config.validate(), Ok(()), "{kind:?}");
            config.voice_activity = VoiceActivity::Events;
            assert_eq!(config.validate().is_ok(), has_words, "{kind:?}");
            config.voice_activity = VoiceActivity::Off;
            config.heard_position = true;
            assert_eq!(config.validate().is_ok(), has_words, "{kind:?}");
        }
    }

    #[test]
    fn names_round_trip() {
        for kind in DialectKind::ALL {
            assert_eq!(DialectKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{}\"", kind.name()));
        }
        assert_eq!(DialectKind::from_name("skype"), None);
    }
}
