//! Frames that no agent should send, and the bounds they meet. `fuzz_replay` holds what is true of any bytes.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use tandem_agent::{
    Dialect, DialectConfig, DialectError, FrameKind, MAX_COMMAND_BYTES, MAX_MESSAGE_BYTES, MAX_NAME_BYTES,
    StreamFacts,
};

const CONFIGS: [&str; 14] = [
    r#"{"dialect":"asterisk","control_format":"json"}"#,
    r#"{"dialect":"asterisk"}"#,
    r#"{"dialect":"twilio"}"#,
    r#"{"dialect":"bolna"}"#,
    r#"{"dialect":"plivo"}"#,
    r#"{"dialect":"vobiz"}"#,
    r#"{"dialect":"exotel"}"#,
    r#"{"dialect":"telnyx"}"#,
    r#"{"dialect":"vonage"}"#,
    r#"{"dialect":"genesys"}"#,
    r#"{"dialect":"jambonz"}"#,
    r#"{"dialect":"openai-realtime"}"#,
    r#"{"dialect":"elevenlabs"}"#,
    r#"{"dialect":"deepgram"}"#,
];

fn dialect(config: &str) -> Dialect {
    let config: DialectConfig = serde_json::from_str(config).unwrap();
    Dialect::new(&config, &StreamFacts::default()).unwrap()
}

fn decode(dialect: &mut Dialect, kind: FrameKind, frame: &[u8]) -> Result<(), DialectError> {
    dialect.decode(kind, frame, &mut |_| {})
}

#[test]
fn names_commands_and_messages_are_bounded() {
    let long = "n".repeat(MAX_NAME_BYTES + 1);
    let plain = format!("MARK_MEDIA {long}");
    let json = format!(r#"{{"command":"MARK_MEDIA","correlation_id":"{long}"}}"#);
    let twilio = format!(r#"{{"event":"mark","mark":{{"name":"{long}"}}}}"#);
    let bolna = format!(r#"{{"type":"mark","name":"{long}"}}"#);
    let plivo = format!(r#"{{"event":"checkpoint","name":"{long}"}}"#);
    let vonage = format!(r#"{{"action":"notify","payload":"{long}"}}"#);
    let jambonz = format!(r#"{{"type":"mark","data":{{"name":"{long}"}}}}"#);
    let given = [
        (0, &plain),
        (0, &json),
        (2, &twilio),
        (3, &bolna),
        (4, &plivo),
        (5, &plivo),
        (6, &twilio),
        (7, &twilio),
        (8, &vonage),
        (10, &jambonz),
    ];
    for (config, text) in given {
        let result = decode(&mut dialect(CONFIGS[config]), FrameKind::Text, text.as_bytes());
        assert_eq!(result, Err(DialectError::TooLong), "{}", CONFIGS[config]);
    }
    let command = format!("MARK_MEDIA {}", "n".repeat(MAX_COMMAND_BYTES));
    let result = decode(&mut dialect(CONFIGS[1]), FrameKind::Text, command.as_bytes());
    assert_eq!(result, Err(DialectError::TooLong));
    // 64 KiB of command with a short id is taken; Asterisk itself stops at 128 bytes.
    let padded = format!(r#"{{"command":"MARK_MEDIA","correlation_id":"x","pad":"{}"}}"#, "p".repeat(60_000));
    assert_eq!(decode(&mut dialect(CONFIGS[0]), FrameKind::Text, padded.as_bytes()), Ok(()));
    let message = vec![0; MAX_MESSAGE_BYTES + 1];
    for config in CONFIGS {
        let result = decode(&mut dialect(config), FrameKind::Binary, &message);
        assert_eq!(result, Err(DialectError::TooLong), "{config}");
    }
}

#[test]
fn deeply_nested_json_is_refused_not_recursed_into() {
    let nested = format!(r#"{{"event":"media","media":{}"#, "[".repeat(200_000));
    for config in &CONFIGS[2..] {
        assert_eq!(decode(&mut dialect(config), FrameKind::Text, nested.as_bytes()), Err(DialectError::Json));
    }
    let ignored = format!(r#"{{"event":"clear","x":{}{}}}"#, "[".repeat(50_000), "]".repeat(50_000));
    let _ = decode(&mut dialect(CONFIGS[2]), FrameKind::Text, ignored.as_bytes());
}

#[test]
fn text_that_is_not_utf8_is_an_error() {
    for config in CONFIGS {
        let result = decode(&mut dialect(config), FrameKind::Text, b"MARK_MEDIA \xff\xfe");
        assert!(result.is_err(), "{config}");
    }
}
