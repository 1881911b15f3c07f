//! How an agent's stream is spoken: the dialect's part of the agent's `websocket` object.
//!
//! URL, headers, subprotocol and what a close means are the call's and the shell's; here is only what changes
//! the frames.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::AudioFormat;

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
}

impl DialectKind {
    /// Every dialect, in the order messages list them.
    pub const ALL: [Self; 3] = [Self::Asterisk, Self::Bolna, Self::Twilio];

    /// The name configuration uses.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Asterisk => "asterisk",
            Self::Bolna => "bolna",
            Self::Twilio => "twilio",
        }
    }

    /// The dialect of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What the dialect itself asks of the upgrade request, before the agent's own settings are laid over it.
    ///
    /// No dialect offers a subprotocol by default: common agent servers select none, and strict clients take
    /// that for a failure. None sends an `Origin` or offers permessage-deflate.
    #[must_use]
    pub const fn handshake(self) -> Handshake {
        match self {
            Self::Asterisk | Self::Bolna | Self::Twilio => Handshake { subprotocol: None, headers: &[] },
        }
    }
}

/// What a dialect asks of the upgrade request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshake {
    /// `Sec-WebSocket-Protocol` to offer, if any.
    pub subprotocol: Option<&'static str>,
    /// Headers to add, name and value.
    pub headers: &'static [(&'static str, &'static str)],
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
    /// Signed 16-bit linear, little-endian, 8 kHz.
    #[serde(alias = "l16-8k", alias = "slin8")]
    Slin,
    /// Signed 16-bit linear, little-endian, 16 kHz.
    #[serde(alias = "l16", alias = "l16-16k")]
    Slin16,
}

impl Encoding {
    /// The audio it names.
    #[must_use]
    pub const fn format(self) -> AudioFormat {
        match self {
            Self::Ulaw => AudioFormat::Mulaw,
            Self::Alaw => AudioFormat::Alaw,
            Self::Slin => AudioFormat::Linear16 { rate_hz: 8000 },
            Self::Slin16 => AudioFormat::Linear16 { rate_hz: 16_000 },
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
        }
    }
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

const fn default_frame_ms() -> u16 {
    20
}

/// The dialect's part of an agent's `websocket` object. Keys that are not its own are left to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DialectConfig {
    /// Which dialect.
    pub dialect: DialectKind,
    /// Audio in each message towards the agent, in milliseconds: 10 to 200, in tens.
    #[serde(default = "default_frame_ms")]
    pub frame_ms: u16,
    /// The audio coding; `None` is the dialect's own (µ-law; 16 kHz linear for `bolna`).
    #[serde(default)]
    pub encoding: Option<Encoding>,
    /// The form of events, `asterisk` only.
    #[serde(default)]
    pub control_format: ControlFormat,
}

impl Default for DialectConfig {
    fn default() -> Self {
        Self::new(DialectKind::default())
    }
}

impl DialectConfig {
    /// The dialect as it is spoken without further settings.
    #[must_use]
    pub const fn new(dialect: DialectKind) -> Self {
        Self { dialect, frame_ms: 20, encoding: None, control_format: ControlFormat::PlainText }
    }

    /// Checks that the settings go together.
    ///
    /// # Errors
    /// Names the setting that does not fit, and what does.
    pub const fn validate(&self) -> Result<(), ConfigError> {
        if self.frame_ms < 10 || self.frame_ms > 200 || !self.frame_ms.is_multiple_of(10) {
            return Err(ConfigError::FrameMs { given: self.frame_ms });
        }
        let (fits, allowed) = match self.dialect {
            DialectKind::Asterisk => (true, "ulaw, alaw, slin, slin16"),
            DialectKind::Twilio => {
                (matches!(self.encoding, None | Some(Encoding::Ulaw | Encoding::Alaw)), "ulaw, alaw")
            }
            DialectKind::Bolna => {
                (matches!(self.encoding, None | Some(Encoding::Slin | Encoding::Slin16)), "slin, slin16")
            }
        };
        if !fits {
            return Err(ConfigError::Encoding { dialect: self.dialect.name(), allowed });
        }
        Ok(())
    }

    /// The coding in force: the one set, or the dialect's own.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding.unwrap_or(match self.dialect {
            DialectKind::Asterisk | DialectKind::Twilio => Encoding::Ulaw,
            DialectKind::Bolna => Encoding::Slin16,
        })
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
    /// The dialect does not speak this coding.
    #[error("encoding is not spoken by dialect {dialect}; it speaks {allowed}")]
    Encoding {
        /// The dialect's name.
        dialect: &'static str,
        /// Codings it speaks.
        allowed: &'static str,
    },
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
        assert_eq!(config.frame_ms, 40);
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
            config.frame_ms = frame_ms;
            assert_eq!(config.validate(), Err(ConfigError::FrameMs { given: frame_ms }));
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
