//! Echo agents, one for each dialect.

use base64_simd::STANDARD;
use serde_json::{Value, json};
use tandem_agent::FrameKind;

use crate::world::{MS, Script};

pub(crate) fn asterisk_echo() -> Script {
    Box::new(|kind, bytes| match kind {
        FrameKind::Binary => vec![(MS, FrameKind::Binary, bytes.to_vec())],
        FrameKind::Text | FrameKind::Close => Vec::new(),
    })
}

pub(crate) fn twilio_echo() -> Script {
    Box::new(|_, bytes| {
        let message: Value = serde_json::from_slice(bytes).unwrap();
        if message["event"] != "media" {
            return Vec::new();
        }
        let reply = json!({"event": "media", "streamSid": message["streamSid"],
            "media": {"payload": message["media"]["payload"]}});
        vec![(MS, FrameKind::Text, reply.to_string().into_bytes())]
    })
}

pub(crate) fn bolna_echo(rate_hz: u32) -> Script {
    Box::new(move |kind, bytes| match kind {
        FrameKind::Binary => vec![(MS, FrameKind::Text, stream_audio(rate_hz, bytes))],
        FrameKind::Text | FrameKind::Close => Vec::new(),
    })
}

pub(crate) fn stream_audio(rate_hz: u32, bytes: &[u8]) -> Vec<u8> {
    let data =
        json!({"audioDataType": "raw", "sampleRate": rate_hz, "audioData": STANDARD.encode_to_string(bytes)});
    json!({"type": "streamAudio", "data": data}).to_string().into_bytes()
}

pub(crate) fn twilio_media(bytes: &[u8]) -> String {
    json!({"event": "media", "streamSid": "MZ", "media": {"payload": STANDARD.encode_to_string(bytes)}})
        .to_string()
}

pub(crate) fn twilio_mark(name: &str) -> String {
    json!({"event": "mark", "streamSid": "MZ", "mark": {"name": name}}).to_string()
}
