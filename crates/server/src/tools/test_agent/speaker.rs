//! The agent's half of three dialects, just enough to echo, to play and to hang up.
//! Written apart from `tandem-agent` on purpose: what both halves share they could share wrongly.

use base64_simd::STANDARD;
use serde_json::{Value, json};
use tandem_media::{Law, g711};
use tungstenite::Message;

/// What a message from the server meant.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// The stream has begun; the text describes it.
    Started(String),
    /// Caller's audio.
    Audio,
    /// A key of the caller's telephone.
    Digit(String),
    /// Audio up to the mark of this name has been played to the caller.
    MarkPlayed(String),
    /// The call is over.
    Stopped,
    /// Anything else, as it came.
    Other(String),
}

/// How samples travel on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Encoding {
    G711(Law),
    /// Linear 16-bit little endian at this rate in Hz.
    Linear(u32),
}

impl Encoding {
    fn rate_hz(self) -> u32 {
        match self {
            Self::G711(_) => 8_000,
            Self::Linear(rate_hz) => rate_hz,
        }
    }

    fn encode(self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::G711(law) => samples.iter().map(|sample| g711::encode(law, *sample)).collect(),
            Self::Linear(_) => samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
        }
    }
}

/// One agent's half of a dialect on one connection.
#[derive(Debug)]
pub enum Speaker {
    /// Asterisk chan_websocket, plain text or JSON events; commands go out as plain text.
    Asterisk(AsteriskSpeaker),
    /// Twilio Media Streams.
    Twilio(TwilioSpeaker),
    /// Bolna's patched mod_audio_stream.
    Bolna(BolnaSpeaker),
}

impl Speaker {
    /// The speaker of a dialect by its configured name.
    #[must_use]
    pub fn named(dialect: &str) -> Option<Self> {
        match dialect {
            "asterisk" => Some(Self::Asterisk(AsteriskSpeaker { encoding: Encoding::G711(Law::Mulaw) })),
            "twilio" => Some(Self::Twilio(TwilioSpeaker { stream_sid: String::new() })),
            "bolna" => Some(Self::Bolna(BolnaSpeaker)),
            _ => None,
        }
    }

    /// Reads one message from the server.
    pub fn understand(&mut self, message: &Message) -> Heard {
        match self {
            Self::Asterisk(speaker) => speaker.understand(message),
            Self::Twilio(speaker) => speaker.understand(message),
            Self::Bolna(_) => BolnaSpeaker::understand(message),
        }
    }

    /// The message that plays the audio of `message` back to the caller, unchanged.
    #[must_use]
    pub fn echo(&self, message: &Message) -> Option<Message> {
        match (self, message) {
            (Self::Asterisk(_), Message::Binary(bytes)) => Some(Message::Binary(bytes.clone())),
            (Self::Twilio(speaker), Message::Text(text)) => {
                let value: Value = serde_json::from_str(text).ok()?;
                Some(speaker.media(value["media"]["payload"].as_str()?))
            }
            (Self::Bolna(_), Message::Binary(bytes)) => Some(BolnaSpeaker::stream_audio(16_000, bytes)),
            _ => None,
        }
    }

    /// The rate at which `say` wants its samples, in Hz.
    #[must_use]
    pub fn rate_hz(&self) -> u32 {
        match self {
            Self::Asterisk(speaker) => speaker.encoding.rate_hz(),
            Self::Twilio(_) => 8_000,
            Self::Bolna(_) => 24_000,
        }
    }

    /// Messages that play these samples, cut as the dialect's agents cut them.
    #[must_use]
    pub fn say(&self, samples: &[i16]) -> Vec<Message> {
        match self {
            Self::Asterisk(speaker) => samples
                .chunks(4_000)
                .map(|chunk| Message::Binary(speaker.encoding.encode(chunk).into()))
                .collect(),
            Self::Twilio(speaker) => samples
                .chunks(4_000)
                .map(|chunk| Encoding::G711(Law::Mulaw).encode(chunk))
                .map(|bytes| speaker.media(&STANDARD.encode_to_string(bytes)))
                .collect(),
            Self::Bolna(_) => samples
                .chunks(4_096)
                .map(|chunk| Encoding::Linear(24_000).encode(chunk))
                .map(|bytes| BolnaSpeaker::stream_audio(24_000, &bytes))
                .collect(),
        }
    }

    /// The message after which the server reports that everything before has been played.
    #[must_use]
    pub fn mark(&self, name: &str) -> Message {
        match self {
            Self::Asterisk(_) => Message::text(format!("MARK_MEDIA {name}")),
            Self::Twilio(speaker) => json_message(
                &json!({"event": "mark", "streamSid": speaker.stream_sid, "mark": {"name": name}}),
            ),
            Self::Bolna(_) => json_message(&json!({"type": "mark", "name": name})),
        }
    }

    /// What is sent before the socket is closed to hang up; some dialects just close.
    #[must_use]
    pub fn hang_up(&self) -> Option<Message> {
        match self {
            Self::Asterisk(_) => Some(Message::text("HANGUP")),
            Self::Twilio(_) | Self::Bolna(_) => None,
        }
    }
}

/// State of the chan_websocket half.
#[derive(Debug)]
pub struct AsteriskSpeaker {
    encoding: Encoding,
}

impl AsteriskSpeaker {
    fn understand(&mut self, message: &Message) -> Heard {
        let text = match message {
            Message::Binary(_) => return Heard::Audio,
            Message::Text(text) => text.as_str(),
            _ => return Heard::Other(format!("{message:?}")),
        };
        let event = ControlEvent::read(text);
        match event.name.as_str() {
            "MEDIA_START" => {
                self.encoding = match event.field("format").as_deref() {
                    Some("alaw") => Encoding::G711(Law::Alaw),
                    Some("slin") => Encoding::Linear(8_000),
                    Some("slin16") => Encoding::Linear(16_000),
                    _ => Encoding::G711(Law::Mulaw),
                };
                Heard::Started(text.to_owned())
            }
            "DTMF_END" => Heard::Digit(event.field("digit").unwrap_or_default()),
            "MEDIA_MARK_PROCESSED" => {
                let plain = text.split_once(' ').map(|(_, id)| id.to_owned());
                Heard::MarkPlayed(event.field("correlation_id").or(plain).unwrap_or_default())
            }
            _ => Heard::Other(text.to_owned()),
        }
    }
}

/// An event of chan_websocket in either of its formats.
struct ControlEvent<'a> {
    name: String,
    json: Option<Value>,
    text: &'a str,
}

impl<'a> ControlEvent<'a> {
    fn read(text: &'a str) -> Self {
        let json = serde_json::from_str::<Value>(text).ok();
        let name = match &json {
            Some(value) => value["event"].as_str().unwrap_or_default().to_owned(),
            None => text.split(' ').next().unwrap_or_default().to_owned(),
        };
        Self { name, json, text }
    }

    fn field(&self, name: &str) -> Option<String> {
        if let Some(value) = &self.json {
            return Some(value[name].as_str()?.to_owned());
        }
        let mut pairs = self.text.split(' ').filter_map(|pair| pair.split_once(':'));
        Some(pairs.find(|(key, _)| *key == name)?.1.to_owned())
    }
}

/// State of the Media Streams half.
#[derive(Debug)]
pub struct TwilioSpeaker {
    stream_sid: String,
}

impl TwilioSpeaker {
    fn understand(&mut self, message: &Message) -> Heard {
        let Message::Text(text) = message else { return Heard::Other(format!("{message:?}")) };
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let inner = |object: &str, name: &str| value[object][name].as_str().unwrap_or_default().to_owned();
        match value["event"].as_str() {
            Some("start") => {
                self.stream_sid = value["streamSid"].as_str().unwrap_or_default().to_owned();
                Heard::Started(text.to_string())
            }
            Some("media") => Heard::Audio,
            Some("dtmf") => Heard::Digit(inner("dtmf", "digit")),
            Some("mark") => Heard::MarkPlayed(inner("mark", "name")),
            Some("stop") => Heard::Stopped,
            _ => Heard::Other(text.to_string()),
        }
    }

    fn media(&self, payload: &str) -> Message {
        json_message(&json!({"event": "media", "streamSid": self.stream_sid, "media": {"payload": payload}}))
    }
}

/// The mod_audio_stream half holds no state.
#[derive(Debug)]
pub struct BolnaSpeaker;

impl BolnaSpeaker {
    fn understand(message: &Message) -> Heard {
        let text = match message {
            Message::Binary(_) => return Heard::Audio,
            Message::Text(text) => text,
            _ => return Heard::Other(format!("{message:?}")),
        };
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        match value["type"].as_str() {
            Some("dtmf") => Heard::Digit(value["digit"].as_str().unwrap_or_default().to_owned()),
            Some("markPlayed") => Heard::MarkPlayed(value["name"].as_str().unwrap_or_default().to_owned()),
            Some("playoutDone") => Heard::Other(text.to_string()),
            _ => Heard::Started(text.to_string()),
        }
    }

    fn stream_audio(rate_hz: u32, bytes: &[u8]) -> Message {
        let audio = STANDARD.encode_to_string(bytes);
        let data = json!({"audioDataType": "raw", "sampleRate": rate_hz, "audioData": audio});
        json_message(&json!({"type": "streamAudio", "data": data}))
    }
}

fn json_message(value: &Value) -> Message {
    Message::text(value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chan_websocket_events_are_read_in_both_formats() {
        let mut speaker = Speaker::named("asterisk").expect("known");
        for text in [
            "MEDIA_START connection_id:m channel:WebSocket/m/0x1 channel_id:1.1 format:alaw optimal_frame_size:160 ptime:20",
            r#"{"event":"MEDIA_START","format":"alaw"}"#,
        ] {
            assert!(matches!(speaker.understand(&Message::text(text)), Heard::Started(_)));
            assert_eq!(speaker.say(&[0; 160]), [Message::binary(vec![0xd5; 160])]);
        }
        for text in ["DTMF_END digit:5 channel_id:1.1", r#"{"event":"DTMF_END","digit":"5"}"#] {
            assert_eq!(speaker.understand(&Message::text(text)), Heard::Digit("5".to_owned()));
        }
        for text in ["MEDIA_MARK_PROCESSED end", r#"{"event":"MEDIA_MARK_PROCESSED","correlation_id":"end"}"#]
        {
            assert_eq!(speaker.understand(&Message::text(text)), Heard::MarkPlayed("end".to_owned()));
        }
    }

    #[test]
    fn media_streams_audio_is_sent_back_under_the_stream_it_came_from() {
        let mut speaker = Speaker::named("twilio").expect("known");
        speaker.understand(&Message::text(r#"{"event":"start","streamSid":"MZ1","start":{}}"#));
        let media = Message::text(r#"{"event":"media","media":{"payload":"AAEC"}}"#);
        assert_eq!(speaker.understand(&media), Heard::Audio);
        let echoed = speaker.echo(&media).expect("an echo").into_text().expect("text");
        let echoed: Value = serde_json::from_str(&echoed).expect("JSON");
        assert_eq!(echoed, json!({"event": "media", "streamSid": "MZ1", "media": {"payload": "AAEC"}}));
    }
}
