//! Frames that no agent should send: whatever the bytes, a dialect answers with commands or an error, holds its
//! bounds, and what it writes back is well formed.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use serde_json::Value;
use tandem_agent::{
    AgentCommand, AgentEvent, Dialect, DialectConfig, DialectError, FrameKind, MAX_COMMAND_BYTES,
    MAX_MESSAGE_BYTES, MAX_NAME_BYTES, StreamFacts,
};

const CONFIGS: [&str; 4] = [
    r#"{"dialect":"asterisk","control_format":"json"}"#,
    r#"{"dialect":"asterisk"}"#,
    r#"{"dialect":"twilio"}"#,
    r#"{"dialect":"bolna"}"#,
];

fn dialect(config: &str) -> Dialect {
    let config: DialectConfig = serde_json::from_str(config).unwrap();
    Dialect::new(&config, &StreamFacts::default()).unwrap()
}

/// Decodes one frame and checks what comes of it.
fn exercise(dialect: &mut Dialect, is_json: bool, kind: FrameKind, frame: &[u8]) -> Result<(), DialectError> {
    let mut names = Vec::new();
    let result = dialect.decode(kind, frame, &mut |command| match command {
        AgentCommand::Audio { format, data } => {
            assert!(data.len() <= frame.len());
            assert!(format.bytes_per_ms() >= 8);
        }
        AgentCommand::Mark { name } => {
            assert!(name.len() <= MAX_NAME_BYTES);
            names.push(name.to_owned());
        }
        _ => {}
    });
    for name in names {
        let mut out = Vec::new();
        dialect.encode_event(AgentEvent::MarkPlayed { name: &name, cleared: false }, &mut out);
        let text = std::str::from_utf8(&out).unwrap();
        if is_json {
            let event: Value = serde_json::from_str(text).unwrap();
            let found = [&event["name"], &event["mark"]["name"], &event["correlation_id"]];
            assert!(found.iter().any(|value| value.as_str() == Some(&name)), "{text}");
        } else {
            assert!(text.ends_with(&name), "{text}");
        }
    }
    result
}

#[test]
fn no_mutation_of_a_golden_transcript_breaks_a_dialect() {
    let goldens = [
        include_str!("golden/asterisk-json.txt"),
        include_str!("golden/asterisk-plain.txt"),
        include_str!("golden/twilio.txt"),
        include_str!("golden/bolna.txt"),
    ];
    let frames: Vec<&str> = goldens
        .iter()
        .flat_map(|golden| golden.lines())
        .filter_map(|line| line.strip_prefix("< T "))
        .collect();
    let mut noise = 1_u32;
    let mut random = |below: usize| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (noise >> 8) as usize % below.max(1)
    };
    for config in CONFIGS {
        let is_json = !config.contains("asterisk") || config.contains("json");
        let mut dialect = dialect(config);
        for frame in &frames {
            for _ in 0..50 {
                let mut bytes = frame.as_bytes().to_vec();
                for _ in 0..=random(3) {
                    let at = random(bytes.len());
                    match random(4) {
                        0 if !bytes.is_empty() => bytes[at] = random(256) as u8,
                        1 => bytes.truncate(at),
                        2 => bytes.insert(at.min(bytes.len()), b"\"{}[]\\:,0 \xff"[random(11)]),
                        _ => {
                            let piece = bytes[at..].to_vec();
                            bytes.extend_from_slice(&piece);
                        }
                    }
                }
                let _ = exercise(&mut dialect, is_json, FrameKind::Text, &bytes);
                let _ = exercise(&mut dialect, is_json, FrameKind::Binary, &bytes);
            }
        }
    }
}

#[test]
fn names_commands_and_messages_are_bounded() {
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    let plain = format!("MARK_MEDIA {long}");
    let json = format!(r#"{{"command":"MARK_MEDIA","correlation_id":"{long}"}}"#);
    let twilio = format!(r#"{{"event":"mark","mark":{{"name":"{long}"}}}}"#);
    let bolna = format!(r#"{{"type":"mark","name":"{long}"}}"#);
    for (config, text) in [(0, &plain), (0, &json), (2, &twilio), (3, &bolna)] {
        let result = exercise(&mut dialect(CONFIGS[config]), true, FrameKind::Text, text.as_bytes());
        assert_eq!(result, Err(DialectError::TooLong), "{}", CONFIGS[config]);
    }
    let command = format!("MARK_MEDIA {}", "n".repeat(MAX_COMMAND_BYTES));
    let result = exercise(&mut dialect(CONFIGS[1]), false, FrameKind::Text, command.as_bytes());
    assert_eq!(result, Err(DialectError::TooLong));
    // 64 KiB of command with a short id is taken; Asterisk itself stops at 128 bytes.
    let padded = format!(r#"{{"command":"MARK_MEDIA","correlation_id":"x","pad":"{}"}}"#, "p".repeat(60_000));
    assert_eq!(exercise(&mut dialect(CONFIGS[0]), true, FrameKind::Text, padded.as_bytes()), Ok(()));
    let message = vec![0; MAX_MESSAGE_BYTES + 1];
    for config in CONFIGS {
        let result = exercise(&mut dialect(config), true, FrameKind::Binary, &message);
        assert_eq!(result, Err(DialectError::TooLong), "{config}");
    }
}

#[test]
fn deeply_nested_json_is_refused_not_recursed_into() {
    let nested = format!(r#"{{"event":"media","media":{}"#, "[".repeat(200_000));
    for config in &CONFIGS[2..] {
        assert_eq!(
            exercise(&mut dialect(config), true, FrameKind::Text, nested.as_bytes()),
            Err(DialectError::Json)
        );
    }
    let ignored = format!(r#"{{"event":"clear","x":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let _ = exercise(&mut dialect(CONFIGS[2]), true, FrameKind::Text, ignored.as_bytes());
}

#[test]
fn text_that_is_not_utf8_is_an_error() {
    for config in CONFIGS {
        let result = exercise(&mut dialect(config), true, FrameKind::Text, b"MARK_MEDIA \xff\xfe");
        assert!(result.is_err(), "{config}");
    }
}
