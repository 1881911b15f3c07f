//! Golden transcripts: what each dialect writes and understands, line by line, held against files.
//!
//! Lines that drive: `config JSON`, `start`, `audio MS HEX*N`, `event NAME ARGS`, `< T TEXT`, `< B HEX*N`.
//! Lines that follow from them: `> T TEXT`, `> B N bytes`, `= COMMAND`, `! ERROR`, `. ignored`, `. no word for it`,
//! `. no audio yet`, `. parted`.
//! Run with `BLESS=1` to write the following lines anew after a wanted change, and read the difference.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

use std::fmt::Write as _;
use std::path::Path;

use tandem_agent::{
    AgentCommand, AgentEvent, Dialect, DialectConfig, FrameKind, HeardCause, QueueStatus, StreamFacts,
};
use uuid::Uuid;

fn facts() -> StreamFacts {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    StreamFacts {
        call: Uuid::from_u128(0x0192_0c5e_7a10_7000_8000_0000_0000_002a),
        account: "default".into(),
        agent: "agent-1".into(),
        trunk: "trunk-1".into(),
        from: "+14155550100".into(),
        to: "+14155550123".into(),
        sip_call_id: "a84b4c76e66710@198.51.100.7".into(),
        parameters: vec![pair("k", "v"), pair("quote", "say \"hi\" \\ ü")],
        headers: vec![pair("X-Tenant", "blue"), pair("k", "shadowed by the parameter")],
    }
}

#[test]
fn asterisk_plain_text_matches_its_transcript() {
    replay("asterisk-plain.txt");
}

#[test]
fn asterisk_json_matches_its_transcript() {
    replay("asterisk-json.txt");
}

#[test]
fn asterisk_auto_matches_its_transcript() {
    replay("asterisk-auto.txt");
}

/// What Tandem itself heard, in the words that dialects share.
#[test]
fn listening_matches_its_transcript() {
    replay("listening.txt");
}

#[test]
fn twilio_matches_its_transcript() {
    replay("twilio.txt");
}

#[test]
fn bolna_matches_its_transcript() {
    replay("bolna.txt");
}

#[test]
fn plivo_matches_its_transcript() {
    replay("plivo.txt");
}

#[test]
fn vobiz_matches_its_transcript() {
    replay("vobiz.txt");
}

#[test]
fn exotel_matches_its_transcript() {
    replay("exotel.txt");
}

#[test]
fn telnyx_matches_its_transcript() {
    replay("telnyx.txt");
}

#[test]
fn vonage_matches_its_transcript() {
    replay("vonage.txt");
}

#[test]
fn genesys_matches_its_transcript() {
    replay("genesys.txt");
}

#[test]
fn jambonz_matches_its_transcript() {
    replay("jambonz.txt");
}

#[test]
fn audiosocket_matches_its_transcript() {
    replay("audiosocket.txt");
}

#[test]
fn openai_realtime_matches_its_transcript() {
    replay("openai-realtime.txt");
}

#[test]
fn elevenlabs_matches_its_transcript() {
    replay("elevenlabs.txt");
}

#[test]
fn deepgram_matches_its_transcript() {
    replay("deepgram.txt");
}

fn replay(name: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let golden = std::fs::read_to_string(&path).unwrap();
    let actual = transcript(&golden);
    if std::env::var_os("BLESS").is_some() {
        std::fs::write(&path, &actual).unwrap();
    }
    for (number, (want, have)) in golden.lines().zip(actual.lines()).enumerate() {
        assert_eq!(want, have, "{name}:{}", number + 1);
    }
    assert_eq!(golden.lines().count(), actual.lines().count(), "{name}: as many lines");
}

/// Runs the driving lines of a transcript and writes it with what follows from them.
fn transcript(golden: &str) -> String {
    let mut text = String::new();
    let mut dialect = None;
    for line in golden.lines().filter(|line| !line.starts_with(['>', '=', '!', '.'])) {
        text.push_str(line);
        text.push('\n');
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        if word == "config" {
            let config: DialectConfig = serde_json::from_str(rest).unwrap();
            dialect = Some(Dialect::new(&config, &facts()).unwrap());
            continue;
        }
        let dialect = dialect.as_mut().expect("a transcript begins with config");
        drive(dialect, word, rest, &mut text);
    }
    text
}

fn drive(dialect: &mut Dialect, word: &str, rest: &str, text: &mut String) {
    let mut out = Vec::new();
    match word {
        "start" => {
            while let Some(kind) = dialect.poll_start(&facts(), &mut out) {
                show(kind, &out, text);
                out.clear();
            }
        }
        "audio" => {
            let (timestamp, audio) = rest.split_once(' ').unwrap();
            match dialect.encode_audio(timestamp.parse().unwrap(), &bytes(audio), &mut out) {
                Some(kind) => show(kind, &out, text),
                None => text.push_str(". no audio yet\n"),
            }
        }
        "event" => match dialect.encode_event(event(rest), &mut out) {
            Some(kind) => show(kind, &out, text),
            None => text.push_str(". no word for it\n"),
        },
        "<" => {
            let had_parted = dialect.has_parted();
            let (kind, frame) = match rest.split_once(' ').unwrap() {
                ("T", frame) => (FrameKind::Text, frame.as_bytes().to_vec()),
                (_, frame) => (FrameKind::Binary, bytes(frame)),
            };
            let ignored = dialect.ignored();
            let result =
                dialect.decode(kind, &frame, &mut |command| writeln!(text, "= {}", name(command)).unwrap());
            if let Err(error) = result {
                writeln!(text, "! {error}").unwrap();
            }
            if dialect.ignored() > ignored {
                text.push_str(". ignored\n");
            }
            if dialect.has_parted() && !had_parted {
                text.push_str(". parted\n");
            }
        }
        _ => panic!("unknown line: {word} {rest}"),
    }
    out.clear();
    while let Some(kind) = dialect.poll_reply(&mut out) {
        show(kind, &out, text);
        out.clear();
    }
}

fn name(command: AgentCommand<'_>) -> String {
    match command {
        AgentCommand::Audio { format, data } => format!("Audio {format:?} {data:02x?}"),
        _ => format!("{command:?}"),
    }
}

fn show(kind: FrameKind, bytes: &[u8], text: &mut String) {
    match kind {
        FrameKind::Text => writeln!(text, "> T {}", std::str::from_utf8(bytes).unwrap()).unwrap(),
        FrameKind::Binary | FrameKind::Close => writeln!(text, "> B {} bytes", bytes.len()).unwrap(),
    }
}

fn event(text: &str) -> AgentEvent<'_> {
    let (name, rest) = text.split_once(' ').unwrap_or((text, ""));
    match name {
        "digit" => AgentEvent::Digit { digit: rest.chars().next().unwrap(), duration_ms: 100 },
        "played" => AgentEvent::MarkPlayed { name: rest, cleared: false },
        "cleared" => AgentEvent::MarkPlayed { name: rest, cleared: true },
        "completed" => AgentEvent::Completed { id: (!rest.is_empty()).then_some(rest) },
        "drained" => AgentEvent::QueueDrained,
        "started" => AgentEvent::PlayoutStarted,
        "done" => AgentEvent::PlayoutDone,
        "flushed" => AgentEvent::Flushed { played_ms: rest.parse().unwrap() },
        "xoff" => AgentEvent::Xoff,
        "xon" => AgentEvent::Xon,
        "status" => AgentEvent::Status(QueueStatus {
            length_frames: rest.parse().unwrap(),
            is_full: false,
            is_buffering: true,
            is_paused: false,
        }),
        "speech-started" => AgentEvent::SpeechStarted { at_ms: rest.parse().unwrap() },
        "speech-stopped" => AgentEvent::SpeechStopped { at_ms: rest.parse().unwrap() },
        "barge-in" => AgentEvent::BargeIn { utterance: 3, heard_ms: 1240, is_cleared: rest == "cleared" },
        "heard-mark" => heard(HeardCause::Mark, Some(rest)),
        "heard-clear" => heard(HeardCause::Clear, None),
        "heard-end" => heard(HeardCause::End, None),
        "error" => AgentEvent::Error { text: rest },
        "held" => AgentEvent::Held { is_held: rest == "true" },
        "transfer-failed" => AgentEvent::TransferFailed { text: rest },
        "stop" => AgentEvent::Stop,
        _ => panic!("unknown event {name}"),
    }
}

fn heard(cause: HeardCause, name: Option<&str>) -> AgentEvent<'_> {
    AgentEvent::Heard { cause, name, utterance: 3, heard_ms: 1240 }
}

/// `7f*160` or `0102`.
fn bytes(text: &str) -> Vec<u8> {
    let (hex, count) = text.split_once('*').unwrap_or((text, "1"));
    let unit: Vec<u8> =
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    unit.repeat(count.parse().unwrap())
}
