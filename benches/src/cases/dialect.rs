//! Encoding and decoding 20 ms of audio in each dialect.

use std::hint::black_box;

use serde_json::json;
use tandem_agent::{AgentCommand, Dialect, DialectConfig, FrameKind, StreamFacts, stream_sid};
use uuid::Uuid;

use super::Step;

pub(super) const CALL: Uuid = Uuid::from_u128(42);

/// The settings of a dialect, as an agent's `websocket` object has them; `asterisk-json` is `asterisk` with its
/// control messages in JSON.
pub(super) fn config(name: &str) -> DialectConfig {
    let settings = match name.strip_suffix("-json") {
        Some(dialect) => json!({"dialect": dialect, "control_format": "json"}),
        None => json!({"dialect": name}),
    };
    serde_json::from_value(settings).expect("a known dialect")
}

/// 20 ms of audio as an agent of this dialect sends it.
pub(super) fn reply(name: &str) -> (FrameKind, Vec<u8>) {
    let message = match name {
        "twilio" => {
            let payload = base64_simd::STANDARD.encode_to_string([0x55; 160]);
            json!({"event": "media", "streamSid": stream_sid(CALL), "media": {"payload": payload}})
        }
        "bolna" => {
            let audio = base64_simd::STANDARD.encode_to_string([0x55; 960]);
            let data = json!({"audioDataType": "raw", "sampleRate": 24_000, "audioData": audio});
            json!({"type": "streamAudio", "data": data})
        }
        _ => return (FrameKind::Binary, vec![0x55; 160]),
    };
    (FrameKind::Text, message.to_string().into_bytes())
}

/// A dialect whose start messages are out.
fn started(name: &str) -> Dialect {
    let facts = StreamFacts { call: CALL, ..StreamFacts::default() };
    let mut dialect = Dialect::new(&config(name), &facts).expect("a valid configuration");
    let mut out = Vec::new();
    while dialect.poll_start(&facts, &mut out).is_some() {
        out.clear();
    }
    dialect
}

pub(super) fn encode(name: &str) -> Step {
    let mut dialect = started(name);
    let audio = vec![0x55; if name == "bolna" { 640 } else { 160 }];
    let mut out = Vec::with_capacity(4_096);
    // Numbers of one length, so that each repeat does the same.
    let mut timestamp_ms = 1_000_000_000;
    Box::new(move || {
        out.clear();
        timestamp_ms += 20;
        black_box(dialect.encode_audio(timestamp_ms, black_box(&audio), &mut out));
        assert!(out.len() >= audio.len(), "the audio is written");
    })
}

pub(super) fn decode(name: &str) -> Step {
    let mut dialect = started(name);
    let (kind, message) = reply(name);
    Box::new(move || {
        let mut bytes = 0;
        let decoded = dialect.decode(kind, black_box(&message), &mut |command| {
            if let AgentCommand::Audio { data, .. } = command {
                bytes += data.len();
            }
        });
        assert!(decoded.is_ok() && bytes >= 160, "the audio is read");
    })
}
