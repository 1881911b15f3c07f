//! The agent's half of the dialects, just enough to echo, to play and to hang up.
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
    /// The same, big endian.
    LinearBig(u32),
}

impl Encoding {
    fn rate_hz(self) -> u32 {
        match self {
            Self::G711(_) => 8_000,
            Self::Linear(rate_hz) | Self::LinearBig(rate_hz) => rate_hz,
        }
    }

    fn encode(self, samples: &[i16]) -> Vec<u8> {
        match self {
            Self::G711(law) => samples.iter().map(|sample| g711::encode(law, *sample)).collect(),
            Self::Linear(_) => samples.iter().flat_map(|sample| sample.to_le_bytes()).collect(),
            Self::LinearBig(_) => samples.iter().flat_map(|sample| sample.to_be_bytes()).collect(),
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
    /// The carriers that changed Media Streams' names: Plivo, Vobiz, Exotel, Telnyx.
    Carrier(CarrierSpeaker),
    /// Vonage, Genesys and jambonz: binary audio beside JSON.
    Binary(BinarySpeaker),
}

/// The dialects the test agent speaks.
pub const NAMES: [&str; 10] =
    ["asterisk", "bolna", "twilio", "plivo", "vobiz", "exotel", "telnyx", "vonage", "genesys", "jambonz"];

impl Speaker {
    /// The speaker of a dialect by its configured name.
    #[must_use]
    pub fn named(dialect: &str) -> Option<Self> {
        match dialect {
            "asterisk" => Some(Self::Asterisk(AsteriskSpeaker { encoding: Encoding::G711(Law::Mulaw) })),
            "twilio" => Some(Self::Twilio(TwilioSpeaker { stream_sid: String::new() })),
            "bolna" => Some(Self::Bolna(BolnaSpeaker)),
            "plivo" | "vobiz" | "exotel" | "telnyx" => CarrierSpeaker::named(dialect).map(Self::Carrier),
            "vonage" | "genesys" | "jambonz" => BinarySpeaker::named(dialect).map(Self::Binary),
            _ => None,
        }
    }

    /// Reads one message from the server.
    pub fn understand(&mut self, message: &Message) -> Heard {
        match self {
            Self::Asterisk(speaker) => speaker.understand(message),
            Self::Twilio(speaker) => speaker.understand(message),
            Self::Bolna(_) => BolnaSpeaker::understand(message),
            Self::Carrier(speaker) => speaker.understand(message),
            Self::Binary(speaker) => speaker.understand(message),
        }
    }

    /// What the agent owes to the message just read.
    pub fn answer(&mut self) -> Option<Message> {
        match self {
            Self::Binary(speaker) => speaker.answer.take(),
            Self::Asterisk(_) | Self::Twilio(_) | Self::Bolna(_) | Self::Carrier(_) => None,
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
            (Self::Carrier(speaker), Message::Text(text)) => {
                let value: Value = serde_json::from_str(text).ok()?;
                Some(speaker.media(value["media"]["payload"].as_str()?))
            }
            (Self::Binary(_), Message::Binary(bytes)) => Some(Message::Binary(bytes.clone())),
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
            Self::Carrier(speaker) => speaker.encoding.rate_hz(),
            Self::Binary(speaker) => speaker.encoding.rate_hz(),
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
            Self::Carrier(speaker) => samples
                .chunks(4_000)
                .map(|chunk| speaker.media(&STANDARD.encode_to_string(speaker.encoding.encode(chunk))))
                .collect(),
            Self::Binary(speaker) => samples
                .chunks(1_600)
                .map(|chunk| Message::Binary(speaker.encoding.encode(chunk).into()))
                .collect(),
        }
    }

    /// The message after which the server reports that everything before has been played; some dialects have none.
    #[must_use]
    pub fn mark(&self, name: &str) -> Option<Message> {
        Some(match self {
            Self::Asterisk(_) => Message::text(format!("MARK_MEDIA {name}")),
            Self::Twilio(speaker) => json_message(
                &json!({"event": "mark", "streamSid": speaker.stream_sid, "mark": {"name": name}}),
            ),
            Self::Bolna(_) => json_message(&json!({"type": "mark", "name": name})),
            Self::Carrier(speaker) => speaker.mark(name),
            Self::Binary(speaker) => return speaker.mark(name),
        })
    }

    /// What is sent before the socket is closed to hang up; some dialects just close.
    #[must_use]
    pub fn hang_up(&mut self) -> Option<Message> {
        match self {
            Self::Asterisk(_) => Some(Message::text("HANGUP")),
            Self::Carrier(speaker) => speaker.hang_up(),
            Self::Binary(speaker) => speaker.hang_up(),
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

/// State of a carrier's half: where its words differ from Media Streams'.
#[derive(Debug)]
pub struct CarrierSpeaker {
    name: &'static str,
    encoding: Encoding,
    stream: String,
}

impl CarrierSpeaker {
    fn named(dialect: &str) -> Option<Self> {
        let (name, encoding) = match dialect {
            "plivo" => ("plivo", Encoding::G711(Law::Mulaw)),
            "vobiz" => ("vobiz", Encoding::G711(Law::Mulaw)),
            "exotel" => ("exotel", Encoding::Linear(8_000)),
            "telnyx" => ("telnyx", Encoding::G711(Law::Mulaw)),
            _ => return None,
        };
        Some(Self { name, encoding, stream: String::new() })
    }

    fn is_plivo(&self) -> bool {
        matches!(self.name, "plivo" | "vobiz")
    }

    fn understand(&mut self, message: &Message) -> Heard {
        let Message::Text(text) = message else { return Heard::Other(format!("{message:?}")) };
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        match value["event"].as_str() {
            Some("start") => {
                let start = &value["start"];
                let places = [&start["streamId"], &start["stream_sid"], &value["stream_id"]];
                self.stream = places.into_iter().find_map(Value::as_str).unwrap_or_default().to_owned();
                let format = if self.is_plivo() { &start["mediaFormat"] } else { &start["media_format"] };
                self.encoding = self.encoding_of(format);
                Heard::Started(text.to_string())
            }
            Some("media") => Heard::Audio,
            Some("dtmf") => Heard::Digit(word(&value["dtmf"]["digit"])),
            Some("mark") => Heard::MarkPlayed(word(&value["mark"]["name"])),
            Some("playedStream") => Heard::MarkPlayed(word(&value["name"])),
            Some("stop") => Heard::Stopped,
            _ => Heard::Other(text.to_string()),
        }
    }

    fn encoding_of(&self, format: &Value) -> Encoding {
        let rate = if self.is_plivo() { &format["sampleRate"] } else { &format["sample_rate"] };
        let parsed = rate.as_str().and_then(|text| text.parse().ok());
        let rate_hz = rate.as_u64().and_then(|rate| u32::try_from(rate).ok()).or(parsed).unwrap_or(8_000);
        match format["encoding"].as_str() {
            Some("PCMA") => Encoding::G711(Law::Alaw),
            Some("audio/x-l16") if self.name == "vobiz" => Encoding::LinearBig(rate_hz),
            Some("audio/x-l16" | "audio/x-raw" | "L16") => Encoding::Linear(rate_hz),
            _ => Encoding::G711(Law::Mulaw),
        }
    }

    fn media(&self, payload: &str) -> Message {
        if !self.is_plivo() {
            let mut media = json!({"event": "media", "media": {"payload": payload}});
            if self.name == "exotel" {
                media["stream_sid"] = self.stream.as_str().into();
            }
            return json_message(&media);
        }
        let content_type = match self.encoding {
            Encoding::G711(_) => "audio/x-mulaw",
            Encoding::Linear(_) | Encoding::LinearBig(_) => "audio/x-l16",
        };
        json_message(&json!({"event": "playAudio", "streamId": self.stream, "media": {
            "contentType": content_type, "sampleRate": self.encoding.rate_hz(), "payload": payload}}))
    }

    fn mark(&self, name: &str) -> Message {
        json_message(&match self.name {
            "exotel" => json!({"event": "mark", "stream_sid": self.stream, "mark": {"name": name}}),
            "telnyx" => json!({"event": "mark", "mark": {"name": name}}),
            _ => json!({"event": "checkpoint", "streamId": self.stream, "name": name}),
        })
    }

    fn hang_up(&self) -> Option<Message> {
        (self.name == "vobiz").then(|| json_message(&json!({"event": "stop", "streamId": self.stream})))
    }
}

/// State of a half whose audio is binary.
#[derive(Debug)]
pub struct BinarySpeaker {
    name: &'static str,
    encoding: Encoding,
    /// Genesys: the number of our last message, and the session.
    sequence: u64,
    session: String,
    answer: Option<Message>,
}

impl BinarySpeaker {
    fn named(dialect: &str) -> Option<Self> {
        let (name, encoding) = match dialect {
            "vonage" => ("vonage", Encoding::Linear(16_000)),
            "genesys" => ("genesys", Encoding::G711(Law::Mulaw)),
            "jambonz" => ("jambonz", Encoding::Linear(8_000)),
            _ => return None,
        };
        Some(Self { name, encoding, sequence: 0, session: String::new(), answer: None })
    }

    fn understand(&mut self, message: &Message) -> Heard {
        let text = match message {
            Message::Binary(_) => return Heard::Audio,
            Message::Text(text) => text,
            _ => return Heard::Other(format!("{message:?}")),
        };
        let value: Value = serde_json::from_str(text).unwrap_or_default();
        if self.name == "genesys" {
            return self.attend(&value, text);
        }
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(rate) = value["sampleRate"].as_u64().and_then(|rate| u32::try_from(rate).ok()) {
            self.encoding = Encoding::Linear(rate);
            return Heard::Started(text.to_string());
        }
        match value["event"].as_str().or(value["type"].as_str()) {
            Some("websocket:connected") => {
                let rate = value["content-type"].as_str().and_then(|kind| kind.split("rate=").nth(1));
                self.encoding = Encoding::Linear(rate.and_then(|rate| rate.parse().ok()).unwrap_or(16_000));
                Heard::Started(text.to_string())
            }
            Some("websocket:dtmf") => Heard::Digit(word(&value["digit"])),
            Some("dtmf") => Heard::Digit(word(&value["dtmf"])),
            Some("websocket:notify") => Heard::MarkPlayed(word(&value["payload"]["name"])),
            Some("mark") => Heard::MarkPlayed(word(&value["data"]["name"])),
            _ => Heard::Other(text.to_string()),
        }
    }

    /// A message of an AudioHook session, and what it is to be answered with.
    fn attend(&mut self, value: &Value, text: &str) -> Heard {
        let answer = match value["type"].as_str() {
            Some("open") => {
                self.session = value["id"].as_str().unwrap_or_default().to_owned();
                Some(("opened", json!({"startPaused": false, "media": value["parameters"]["media"]})))
            }
            Some("ping") => Some(("pong", json!({}))),
            Some("close") => Some(("closed", json!({}))),
            _ => None,
        };
        self.answer = answer.map(|(kind, parameters)| self.message(kind, &parameters, &value["seq"]));
        match value["type"].as_str() {
            Some("open") => Heard::Started(text.to_owned()),
            Some("dtmf") => {
                Heard::Digit(value["parameters"]["digit"].as_str().unwrap_or_default().to_owned())
            }
            Some("close") => Heard::Stopped,
            _ => Heard::Other(text.to_owned()),
        }
    }

    fn message(&mut self, kind: &str, parameters: &Value, clientseq: &Value) -> Message {
        self.sequence += 1;
        json_message(&json!({"version": "2", "type": kind, "seq": self.sequence, "clientseq": clientseq,
            "id": self.session, "parameters": parameters}))
    }

    fn mark(&self, name: &str) -> Option<Message> {
        match self.name {
            "vonage" => Some(json_message(&json!({"action": "notify", "payload": {"name": name}}))),
            "jambonz" => Some(json_message(&json!({"type": "mark", "data": {"name": name}}))),
            _ => None,
        }
    }

    fn hang_up(&mut self) -> Option<Message> {
        match self.name {
            "genesys" => Some(self.message("disconnect", &json!({"reason": "completed"}), &json!(0))),
            "jambonz" => Some(json_message(&json!({"type": "disconnect"}))),
            _ => None,
        }
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
