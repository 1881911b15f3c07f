//! The words of the three dialects, as an agent hears and says them.
//!
//! Built from agent-side knowledge of the protocols with serde_json and text; nothing of the product's dialects is
//! used.

use serde_json::{Value, json};
use tandem_agent::FrameKind;
use tandem_media::Law;

use super::plan::Speech;

/// What Tandem said to an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// `connected`: the word before the start.
    Connected,
    /// The stream starts.
    Start {
        /// Stream or connection id.
        stream: String,
        /// `ulaw`, `alaw`, ….
        format: String,
    },
    /// Caller audio, G.711.
    Coded {
        /// Bytes.
        audio: Vec<u8>,
        /// Twilio: sequenceNumber, chunk, timestamp.
        numbers: Option<(u64, u64, u64)>,
    },
    /// Caller audio, 16-bit linear.
    Linear(Vec<i16>),
    /// A key.
    Digit(char),
    /// A mark was played, or cleared by a flush.
    Mark {
        /// Its name.
        name: String,
        /// Dropped by a flush.
        cleared: bool,
    },
    /// In-band end of a bulk transfer.
    BufferingCompleted(String),
    /// chan_websocket's back-pressure.
    Xoff,
    /// chan_websocket's back-pressure.
    Xon,
    /// The queue ran dry.
    Drained,
    /// Another event of the dialect.
    Other(String),
    /// `stop`: the call is over.
    Stop,
    /// Not a word of the dialect.
    Unknown(String),
}

/// Takes Tandem's frames apart.
pub fn hear(speech: Speech, kind: FrameKind, bytes: &[u8]) -> Said {
    match (speech, kind) {
        (Speech::AsteriskPlain | Speech::AsteriskJson, FrameKind::Binary) => {
            Said::Coded { audio: bytes.to_vec(), numbers: None }
        }
        (Speech::Bolna, FrameKind::Binary) => {
            let pairs = bytes.chunks_exact(2);
            Said::Linear(pairs.map(|pair| i16::from_le_bytes([pair[0], pair[1]])).collect())
        }
        (Speech::AsteriskPlain, FrameKind::Text) => hear_plain(bytes),
        (Speech::AsteriskJson, FrameKind::Text) => with_json(bytes, hear_asterisk_json),
        (Speech::Twilio, FrameKind::Text) => with_json(bytes, hear_twilio),
        (Speech::Bolna, FrameKind::Text) => with_json(bytes, hear_bolna),
        (_, kind) => Said::Unknown(format!("{kind:?} of {} bytes", bytes.len())),
    }
}

fn with_json(bytes: &[u8], read: impl Fn(&Value) -> Option<Said>) -> Said {
    let unknown = || Said::Unknown(String::from_utf8_lossy(&bytes[..bytes.len().min(120)]).into_owned());
    serde_json::from_slice(bytes).ok().and_then(|value| read(&value)).unwrap_or_else(unknown)
}

fn hear_plain(bytes: &[u8]) -> Said {
    let text = String::from_utf8_lossy(bytes);
    let (word, rest) = text.split_once(' ').unwrap_or((&text, ""));
    let find = |name: &str| {
        let mut pairs = rest.split(' ').filter_map(|pair| pair.split_once(':'));
        pairs.find(|(key, _)| *key == name).map(|(_, value)| value.to_owned())
    };
    match word {
        "MEDIA_START" => match (find("connection_id"), find("format")) {
            (Some(stream), Some(format)) => Said::Start { stream, format },
            _ => Said::Unknown(text.into_owned()),
        },
        "DTMF_END" => match find("digit").and_then(|digit| digit.chars().next()) {
            Some(digit) => Said::Digit(digit),
            None => Said::Unknown(text.into_owned()),
        },
        "MEDIA_MARK_PROCESSED" => Said::Mark { name: rest.to_owned(), cleared: false },
        "MEDIA_BUFFERING_COMPLETED" => Said::BufferingCompleted(rest.to_owned()),
        "MEDIA_XOFF" => Said::Xoff,
        "MEDIA_XON" => Said::Xon,
        "QUEUE_DRAINED" => Said::Drained,
        "STATUS" | "ERROR" | "TRANSFER_FAILED" | "CALL_HELD" | "CALL_RESUMED" => {
            Said::Other(text.into_owned())
        }
        _ => Said::Unknown(text.into_owned()),
    }
}

fn hear_asterisk_json(value: &Value) -> Option<Said> {
    let text = |name: &str| value[name].as_str().map(str::to_owned);
    Some(match value["event"].as_str()? {
        "MEDIA_START" => Said::Start { stream: text("connection_id")?, format: text("format")? },
        "DTMF_END" => Said::Digit(text("digit")?.chars().next()?),
        "MEDIA_MARK_PROCESSED" => Said::Mark { name: text("correlation_id")?, cleared: false },
        "MEDIA_BUFFERING_COMPLETED" => Said::BufferingCompleted(text("correlation_id")?),
        "MEDIA_XOFF" => Said::Xoff,
        "MEDIA_XON" => Said::Xon,
        "QUEUE_DRAINED" => Said::Drained,
        "STATUS" | "ERROR" | "TRANSFER_FAILED" | "CALL_HELD" | "CALL_RESUMED" => {
            Said::Other(value.to_string())
        }
        _ => return None,
    })
}

fn hear_twilio(value: &Value) -> Option<Said> {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<u64>().ok());
    Some(match value["event"].as_str()? {
        "connected" => Said::Connected,
        "start" => {
            let start = &value["start"];
            if start["streamSid"] != value["streamSid"] || number(&value["sequenceNumber"]) != Some(1) {
                return None;
            }
            let format = match start["mediaFormat"]["encoding"].as_str()? {
                "audio/x-mulaw" => "ulaw",
                "audio/x-alaw" => "alaw",
                _ => return None,
            };
            start["callSid"].as_str()?;
            Said::Start { stream: value["streamSid"].as_str()?.to_owned(), format: format.into() }
        }
        "media" => {
            let media = &value["media"];
            let numbers =
                (number(&value["sequenceNumber"])?, number(&media["chunk"])?, number(&media["timestamp"])?);
            Said::Coded { audio: unbase64(media["payload"].as_str()?)?, numbers: Some(numbers) }
        }
        "dtmf" => Said::Digit(value["dtmf"]["digit"].as_str()?.chars().next()?),
        "mark" => Said::Mark { name: value["mark"]["name"].as_str()?.to_owned(), cleared: false },
        "stop" => Said::Stop,
        _ => return None,
    })
}

fn hear_bolna(value: &Value) -> Option<Said> {
    Some(match value["type"].as_str() {
        None => Said::Start { stream: String::new(), format: "slin16".into() },
        Some("dtmf") => Said::Digit(value["digit"].as_str()?.chars().next()?),
        Some("markPlayed") => Said::Mark {
            name: value["name"].as_str()?.to_owned(),
            cleared: value["cleared"] == Value::Bool(true),
        },
        Some("playoutDone") => Said::Drained,
        Some(_) => return None,
    })
}

/// What an agent means by a frame; it travels beside the frame so that the checks need not guess.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// Audio, with its length in milliseconds and the place of its last whole block.
    Audio {
        /// Milliseconds.
        millis: u32,
        /// Last whole block of the agent's coded voice; `None` for echoes and tones.
        last_place: Option<u32>,
        /// It is what the agent heard.
        is_echo: bool,
    },
    /// A mark.
    Mark(String),
    /// A flush.
    Flush,
    /// Hang up.
    HangUp,
    /// Anything else.
    Other,
}

/// A frame towards Tandem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Kind.
    pub kind: FrameKind,
    /// Bytes.
    pub bytes: Vec<u8>,
    /// Meaning.
    pub meaning: Meaning,
}

impl Frame {
    fn text(text: String, meaning: Meaning) -> Self {
        Self { kind: FrameKind::Text, bytes: text.into_bytes(), meaning }
    }

    fn json(value: &Value, meaning: Meaning) -> Self {
        Self::text(value.to_string(), meaning)
    }
}

/// G.711 audio as a frame of the dialect.
pub fn say_coded(speech: Speech, stream: &str, audio: &[u8], meaning: Meaning) -> Frame {
    match speech {
        Speech::Twilio => Frame::json(
            &json!({"event": "media", "streamSid": stream, "media": {"payload": base64(audio)}}),
            meaning,
        ),
        _ => Frame { kind: FrameKind::Binary, bytes: audio.to_vec(), meaning },
    }
}

/// Linear audio of `rate_hz` as Bolna's `streamAudio`.
pub fn say_linear(samples: &[i16], rate_hz: u32, meaning: Meaning) -> Frame {
    let bytes: Vec<u8> = samples.iter().flat_map(|sample| sample.to_le_bytes()).collect();
    let data = json!({"audioDataType": "raw", "sampleRate": rate_hz, "audioData": base64(&bytes)});
    Frame::json(&json!({"type": "streamAudio", "data": data}), meaning)
}

/// A mark in the dialect.
pub fn say_mark(speech: Speech, stream: &str, name: &str) -> Frame {
    let meaning = Meaning::Mark(name.to_owned());
    match speech {
        Speech::AsteriskPlain => Frame::text(format!("MARK_MEDIA {name}"), meaning),
        Speech::AsteriskJson => {
            Frame::json(&json!({"command": "MARK_MEDIA", "correlation_id": name}), meaning)
        }
        Speech::Twilio => {
            Frame::json(&json!({"event": "mark", "streamSid": stream, "mark": {"name": name}}), meaning)
        }
        Speech::Bolna => Frame::json(&json!({"type": "mark", "name": name}), meaning),
    }
}

/// A flush in the dialect.
pub fn say_flush(speech: Speech, stream: &str) -> Frame {
    match speech {
        Speech::AsteriskPlain => Frame::text("FLUSH_MEDIA".into(), Meaning::Flush),
        Speech::AsteriskJson => Frame::json(&json!({"command": "FLUSH_MEDIA"}), Meaning::Flush),
        Speech::Twilio => Frame::json(&json!({"event": "clear", "streamSid": stream}), Meaning::Flush),
        Speech::Bolna => Frame::json(&json!({"type": "killAudio"}), Meaning::Flush),
    }
}

/// The hang-up of the dialects that have one.
pub fn say_hang_up(speech: Speech) -> Option<Frame> {
    match speech {
        Speech::AsteriskPlain => Some(Frame::text("HANGUP".into(), Meaning::HangUp)),
        Speech::AsteriskJson => Some(Frame::json(&json!({"command": "HANGUP"}), Meaning::HangUp)),
        Speech::Twilio | Speech::Bolna => None,
    }
}

/// Rare commands, harmless to the audio.
pub fn say_odd(speech: Speech, stream: &str) -> Vec<Frame> {
    let words = ["GET_STATUS", "REPORT_QUEUE_DRAINED", "PAUSE_MEDIA", "CONTINUE_MEDIA", "NO_SUCH_COMMAND x"];
    match speech {
        Speech::AsteriskPlain => {
            words.iter().map(|word| Frame::text((*word).into(), Meaning::Other)).collect()
        }
        Speech::AsteriskJson => {
            words.iter().map(|word| Frame::json(&json!({"command": word}), Meaning::Other)).collect()
        }
        Speech::Twilio => vec![
            Frame::json(&json!({"event": "unheard-of", "streamSid": stream}), Meaning::Other),
            Frame::json(
                &json!({"event": "media", "streamSid": "MZwrong", "media": {"payload": ""}}),
                Meaning::Other,
            ),
        ],
        Speech::Bolna => vec![Frame::json(&json!({"type": "unheard-of", "data": {}}), Meaning::Other)],
    }
}

/// Wishes that concern the call, in the dialects that have them.
pub fn say_wishes(speech: Speech) -> Vec<Frame> {
    let plain = ["TRANSFER sip:human@example.com refer", "HOLD", "UNHOLD"];
    let json = [
        json!({"command": "TRANSFER", "target": "sip:human@example.com"}),
        json!({"command": "HOLD"}),
        json!({"command": "UNHOLD"}),
    ];
    match speech {
        Speech::AsteriskPlain => plain.map(|text| Frame::text(text.into(), Meaning::Other)).to_vec(),
        Speech::AsteriskJson => json.iter().map(|value| Frame::json(value, Meaning::Other)).collect(),
        Speech::Twilio | Speech::Bolna => Vec::new(),
    }
}

/// Digits for the caller, in the dialects that have them.
pub fn say_digits(speech: Speech) -> Option<Frame> {
    match speech {
        Speech::AsteriskPlain => Some(Frame::text("SEND_DTMF 42#".into(), Meaning::Other)),
        Speech::AsteriskJson => {
            Some(Frame::json(&json!({"command": "SEND_DTMF", "digits": "42#"}), Meaning::Other))
        }
        Speech::Twilio | Speech::Bolna => None,
    }
}

/// Which law a format's name stands for.
pub fn law_of(format: &str) -> Option<Law> {
    match format {
        "ulaw" => Some(Law::Mulaw),
        "alaw" => Some(Law::Alaw),
        _ => None,
    }
}

const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// RFC 4648 base64, padded.
pub fn base64(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let word =
            group.iter().fold(0_u32, |sum, byte| sum << 8 | u32::from(*byte)) << (8 * (3 - group.len()));
        for position in 0..4 {
            if position > group.len() {
                text.push('=');
            } else {
                text.push(char::from(DIGITS[(word >> (18 - 6 * position) & 63) as usize]));
            }
        }
    }
    text
}

/// The inverse; nothing for text that is not padded base64.
pub fn unbase64(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in text.as_bytes().chunks(4) {
        let padding = group.iter().rev().take_while(|byte| **byte == b'=').count();
        let mut word = 0_u32;
        for byte in group {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                b'=' => 0,
                _ => return None,
            };
            word = word << 6 | u32::from(value);
        }
        let all = word.to_be_bytes();
        bytes.extend_from_slice(&all[1..4 - padding.min(2)]);
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_rfc_4648_section_10() {
        for (plain, coded) in
            [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")]
        {
            assert_eq!(base64(plain.as_bytes()), coded);
            assert_eq!(unbase64(coded).unwrap(), plain.as_bytes());
        }
        assert_eq!(unbase64("Zg="), None);
    }

    #[test]
    fn start_messages_as_the_protocols_have_them_are_understood() {
        let plain = b"MEDIA_START connection_id:media1 channel:WebSocket/media1/0x1 channel_id:1.1 format:ulaw optimal_frame_size:160 ptime:20";
        let started = Said::Start { stream: "media1".into(), format: "ulaw".into() };
        assert_eq!(hear(Speech::AsteriskPlain, FrameKind::Text, plain), started);
        let twilio = br#"{"event":"start","sequenceNumber":"1","streamSid":"MZ1","start":{"streamSid":"MZ1","accountSid":"AC1","callSid":"CA1","tracks":["inbound"],"customParameters":{},"mediaFormat":{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}"#;
        let started = Said::Start { stream: "MZ1".into(), format: "ulaw".into() };
        assert_eq!(hear(Speech::Twilio, FrameKind::Text, twilio), started);
    }
}
