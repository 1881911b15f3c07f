//! What no agent's frame may do to its dialect: whatever the bytes, there come commands within their bounds or an
//! error, and what the dialect writes back is well formed.
//!
//! An input is a stream: its first byte chooses among the dialect's settings, the rest is messages parted by 0x1E
//! (RS), binary ones marked by a leading `B`.

use tandem_agent::{
    AgentCommand, AgentEvent, ByteOrder, ControlFormat, Dialect, DialectConfig, DialectKind, Encoding,
    FrameKind, MAX_MESSAGE_BYTES, MAX_NAME_BYTES, StreamFacts,
};

/// The settings that the first byte chooses among.
const ENCODINGS: [Option<Encoding>; 3] = [None, Some(Encoding::Alaw), Some(Encoding::Slin)];
const ORDERS: [Option<ByteOrder>; 2] = [None, Some(ByteOrder::Big)];
const CONTROLS: [ControlFormat; 3] = [ControlFormat::PlainText, ControlFormat::Json, ControlFormat::Auto];

/// A stream of chan_websocket.
pub fn agent_asterisk(data: &[u8]) {
    stream(DialectKind::Asterisk, data);
}

/// A stream of Twilio Media Streams.
pub fn agent_twilio(data: &[u8]) {
    stream(DialectKind::Twilio, data);
}

/// A stream of Bolna's fork of mod_audio_stream.
pub fn agent_bolna(data: &[u8]) {
    stream(DialectKind::Bolna, data);
}

/// A stream of Plivo audio streams.
pub fn agent_plivo(data: &[u8]) {
    stream(DialectKind::Plivo, data);
}

/// A stream of Vobiz audio streams.
pub fn agent_vobiz(data: &[u8]) {
    stream(DialectKind::Vobiz, data);
}

/// A stream of Exotel AgentStream.
pub fn agent_exotel(data: &[u8]) {
    stream(DialectKind::Exotel, data);
}

/// A stream of Telnyx media streaming.
pub fn agent_telnyx(data: &[u8]) {
    stream(DialectKind::Telnyx, data);
}

/// A stream of Vonage Voice WebSockets.
pub fn agent_vonage(data: &[u8]) {
    stream(DialectKind::Vonage, data);
}

/// A stream of Genesys AudioHook.
pub fn agent_genesys(data: &[u8]) {
    stream(DialectKind::Genesys, data);
}

/// A stream of jambonz `listen`.
pub fn agent_jambonz(data: &[u8]) {
    stream(DialectKind::Jambonz, data);
}

/// A stream of AudioSocket.
pub fn agent_audiosocket(data: &[u8]) {
    stream(DialectKind::Audiosocket, data);
}

/// A stream of OpenAI Realtime.
pub fn agent_openai_realtime(data: &[u8]) {
    stream(DialectKind::OpenaiRealtime, data);
}

/// A stream of ElevenLabs Agents.
pub fn agent_elevenlabs(data: &[u8]) {
    stream(DialectKind::Elevenlabs, data);
}

/// A stream of Deepgram Voice Agent.
pub fn agent_deepgram(data: &[u8]) {
    stream(DialectKind::Deepgram, data);
}

fn stream(kind: DialectKind, data: &[u8]) {
    let Some((choice, messages)) = data.split_first() else { return };
    let choice = usize::from(*choice);
    let config = DialectConfig {
        encoding: ENCODINGS[choice % 3],
        control_format: CONTROLS[choice / 3 % 3],
        byte_order: ORDERS[choice / 9 % 2],
        ..DialectConfig::new(kind)
    };
    let facts = StreamFacts::default();
    let Ok(mut dialect) = Dialect::new(&config, &facts) else {
        assert!(config.validate().is_err());
        return;
    };
    let mut out = Vec::new();
    while dialect.poll_start(&facts, &mut out).is_some() {}
    for message in messages.split(|byte| *byte == 0x1e) {
        match message.split_first() {
            Some((b'B', binary)) => frame(&mut dialect, kind, FrameKind::Binary, binary),
            _ => frame(&mut dialect, kind, FrameKind::Text, message),
        }
        reply(&mut dialect);
    }
}

/// Audio goes out or not, and what the dialect owes of itself comes to an end and is JSON.
fn reply(dialect: &mut Dialect) {
    let mut out = Vec::new();
    let frame = vec![0; dialect.format().bytes_per_ms() * 20];
    dialect.encode_audio(20, &frame, &mut out);
    for _ in 0..64 {
        out.clear();
        match dialect.poll_reply(&mut out) {
            Some(FrameKind::Text) => drop(serde_json::from_slice::<serde_json::Value>(&out).expect("JSON")),
            Some(FrameKind::Binary | FrameKind::Close) => {}
            None => return,
        }
    }
    panic!("no end of replies");
}

/// Decodes one frame and checks what comes of it.
fn frame(dialect: &mut Dialect, dialect_kind: DialectKind, kind: FrameKind, bytes: &[u8]) {
    let ignored = dialect.ignored();
    let mut names = Vec::new();
    let mut commands = 0;
    let is_session = dialect_kind == DialectKind::Genesys || dialect_kind.is_direct();
    let result = dialect.decode(kind, bytes, &mut |command| {
        commands += 1;
        match command {
            AgentCommand::Audio { format, data } => {
                assert!(
                    data.len() <= bytes.len() + 1,
                    "audio does not grow in decoding, but for half a sample"
                );
                assert!(format.bytes_per_ms() >= 8);
            }
            AgentCommand::Mark { name } => names.push(name.to_owned()),
            AgentCommand::StopBuffering { id } => assert!(id.unwrap_or_default().len() <= MAX_NAME_BYTES),
            AgentCommand::SendDtmf { digits } => assert!(digits.is_ascii() && !digits.is_empty()),
            AgentCommand::Transfer { target, .. } => assert!(!target.is_empty()),
            _ => {}
        }
    });
    // Deepgram's one request may hold many functions.
    assert!(commands <= 4 || dialect_kind == DialectKind::Deepgram, "a message holds few commands");
    let is_known = dialect.ignored() == ignored;
    let is_done = result.is_ok() && is_known;
    // A session's own words ask nothing of the call.
    assert!(commands > 0 || !is_done || is_session, "a command, an error, or an unknown word");
    assert!(commands == 0 || is_done);
    assert!(result.is_err() || bytes.len() <= MAX_MESSAGE_BYTES);
    for name in names {
        assert!(name.len() <= MAX_NAME_BYTES);
        let mut out = Vec::new();
        let event = AgentEvent::MarkPlayed { name: &name, cleared: false };
        assert_eq!(dialect.encode_event(event, &mut out), Some(FrameKind::Text));
        assert_carries(dialect_kind, &out, &name);
    }
    if let Err(error) = result {
        let mut out = Vec::new();
        dialect.encode_event(AgentEvent::Error { text: &error.to_string() }, &mut out);
        assert!(std::str::from_utf8(&out).is_ok());
    }
}

/// The name of a mark comes back as it came, in JSON or at the end of a plain line.
fn assert_carries(kind: DialectKind, text: &[u8], name: &str) {
    let text = std::str::from_utf8(text).expect("what we write is UTF-8");
    if kind == DialectKind::Asterisk && !text.starts_with('{') {
        assert!(text.ends_with(name), "{text}");
        return;
    }
    let event: serde_json::Value = serde_json::from_str(text).expect("what we write is JSON");
    if kind == DialectKind::Vonage {
        assert_eq!(event["payload"], serde_json::from_str::<serde_json::Value>(name).expect("JSON"));
        return;
    }
    let found = [&event["name"], &event["mark"]["name"], &event["data"]["name"], &event["correlation_id"]];
    assert!(found.iter().any(|value| value.as_str() == Some(name)), "{text}");
}
