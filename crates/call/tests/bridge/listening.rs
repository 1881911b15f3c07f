//! What the bridge hears for an agent that asks: turns, barge-in, keys in the audio; and what it tells was heard.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_agent::FrameKind;
use tandem_call::bridge::{BridgeCommand, BridgeEvent};
use tandem_media::{Law, g711};

use crate::agents::{twilio_mark, twilio_media};
use crate::world::{MS, World, plan, silent};

/// Five seconds of one speaker in µ-law.
const SPEECH: &[u8] = include_bytes!("../../../media/tests/speech.ulaw");

/// A caller who is quiet but for `audio`, which begins after `quiet`.
fn speaker(quiet: Duration, audio: Vec<u8>) -> Box<dyn FnMut() -> Vec<u8>> {
    let mut line = vec![0xFF; quiet.as_millis() as usize * 8];
    line.extend(audio);
    let mut at = 0;
    Box::new(move || {
        let mut payload: Vec<u8> = line.iter().skip(at).take(160).copied().collect();
        payload.resize(160, 0xFF);
        at += 160;
        payload
    })
}

fn world(config: &str, quiet: Duration, audio: Vec<u8>) -> World {
    let mut world = World::new(plan(config, Law::Mulaw), silent());
    world.peer.payloads = Some(speaker(quiet, audio));
    world.command(BridgeCommand::Start);
    world
}

fn named(world: &World, name: &str) -> Vec<Value> {
    let messages = world.texts().into_iter().filter_map(|(_, text)| serde_json::from_str(&text).ok());
    messages.filter(|message: &Value| message["event"] == name).collect()
}

/// The names of the events told, but for the stream's own.
fn order(world: &World) -> Vec<String> {
    let messages =
        world.texts().into_iter().filter_map(|(_, text)| serde_json::from_str::<Value>(&text).ok());
    messages
        .map(|message| message["event"].as_str().unwrap_or_default().to_owned())
        .filter(|name| !matches!(name.as_str(), "media" | "connected" | "start"))
        .collect()
}

#[test]
fn turns_are_told_with_their_time_and_nothing_else_happens_to_a_silent_agent() {
    let config = r#"{"dialect":"twilio","voice_activity":"events"}"#;
    let mut world = world(config, Duration::from_secs(2), SPEECH.to_vec());
    world.run(Duration::from_secs(9));
    let (started, stopped) = (named(&world, "speech_started"), named(&world, "speech_stopped"));
    assert!(!started.is_empty() && started.len() == stopped.len(), "{started:?} {stopped:?}");
    let begin = started[0]["at_ms"].as_u64().unwrap();
    assert!((1_950..2_350).contains(&begin), "{begin}");
    let end = stopped.last().unwrap()["at_ms"].as_u64().unwrap();
    let truth = 2_000 + SPEECH.len() as u64 / 8;
    assert!(end.abs_diff(truth) < 500, "{end} of {truth}");
    assert!(named(&world, "barge_in").is_empty());
    assert_eq!(world.bridge.statistics().barge_ins, 0);
}

#[test]
fn an_agent_that_does_not_ask_is_told_nothing_and_keeps_its_queue() {
    let mut world = world(r#"{"dialect":"twilio"}"#, Duration::from_secs(2), SPEECH.to_vec());
    world.run(Duration::from_secs(1));
    world.say_text(&twilio_media(&[0x12; 96_000]));
    world.run(Duration::from_secs(9));
    assert_eq!(order(&world), Vec::<String>::new());
    assert_eq!(world.bridge.statistics().flushes, 0);
}

#[test]
fn barge_in_is_told_with_what_was_heard_and_the_queue_left_to_the_agent() {
    let config = r#"{"dialect":"twilio","voice_activity":"events"}"#;
    let mut world = world(config, Duration::from_secs(2), SPEECH.to_vec());
    world.run(Duration::from_secs(1));
    world.say_text(&twilio_media(&[0x12; 96_000]));
    world.run(Duration::from_secs(9));
    let told = named(&world, "barge_in");
    assert_eq!((&told[0]["cleared"], &told[0]["utterance"]), (&json!(false), &json!(1)));
    let heard = told[0]["heard_ms"].as_u64().unwrap();
    assert!((1_000..1_450).contains(&heard), "{heard}");
    assert_eq!(world.bridge.statistics().flushes, 0);
}

/// Twelve seconds in one burst, as agents do: within a third of a second of the caller's voice it is quiet, its marks
/// have been dealt with by the dialect's rule, and it knows how much was heard.
#[test]
fn barge_in_clears_where_that_is_wished_with_the_heard_position() {
    let config = r#"{"dialect":"twilio","voice_activity":"clear","heard_position":true}"#;
    let mut world = world(config, Duration::from_secs(2), SPEECH.to_vec());
    world.run(Duration::from_secs(1));
    world.say_text(&twilio_media(&[0x12; 96_000]));
    world.say_text(&twilio_mark("end of it"));
    world.run(Duration::from_secs(9));
    let heard_ms = world.bridge.statistics().heard_ms;
    assert!((1_000..1_450).contains(&heard_ms), "{heard_ms}");
    let told = named(&world, "barge_in");
    assert_eq!(told, [json!({"event": "barge_in", "utterance": 1, "heard_ms": heard_ms, "cleared": true})]);
    let order = order(&world);
    assert_eq!(order[..5], ["speech_started", "heard", "mark", "heard", "barge_in"], "{order:?}");
    let heard = named(&world, "heard");
    assert_eq!((&heard[0]["cause"], &heard[0]["name"]), (&json!("mark"), &json!("end of it")));
    assert_eq!((&heard[1]["cause"], &heard[1]["heard_ms"]), (&json!("clear"), &json!(heard_ms)));
    assert!(world.events.iter().any(|(_, event)| matches!(event, BridgeEvent::Flushed { .. })));
    assert_eq!(world.bridge.statistics().barge_ins, 1);
    // What the agent says next is heard.
    world.say_text(&twilio_media(&[0x34; 8_000]));
    world.run(Duration::from_secs(2));
    assert_eq!(world.bridge.statistics().heard_ms, heard_ms + 1_000);
}

/// A dialect without words for it is cleared all the same.
#[test]
fn barge_in_clears_an_audiosocket() {
    let mut world = world(
        r#"{"dialect":"audiosocket","voice_activity":"clear"}"#,
        Duration::from_secs(2),
        SPEECH.to_vec(),
    );
    world.run(Duration::from_secs(1));
    let mut frame = vec![0x10, 0x7D, 0x00];
    frame.extend(vec![9; 32_000]);
    (0..6).for_each(|_| world.say(FrameKind::Binary, &frame));
    world.run(Duration::from_secs(9));
    let statistics = world.bridge.statistics();
    assert_eq!((statistics.flushes, statistics.barge_ins), (1, 1));
    assert!((1_000..1_450).contains(&statistics.heard_ms), "{}", statistics.heard_ms);
}

#[test]
fn marks_clears_and_the_end_tell_what_was_heard_to_those_who_ask() {
    let mut world =
        world(r#"{"dialect":"twilio","heard_position":true}"#, Duration::from_secs(1), Vec::new());
    world.run(100 * MS);
    world.say_text(&twilio_media(&[0x12; 4_000]));
    world.say_text(&twilio_mark("half"));
    world.say_text(&twilio_media(&[0x12; 16_000]));
    world.run(1_000 * MS);
    world.say_text(r#"{"event":"clear","streamSid":"MZ"}"#);
    world.run(100 * MS);
    world.command(BridgeCommand::HangUp);
    assert_eq!(order(&world), ["heard", "mark", "heard", "heard", "stop"]);
    let heard = named(&world, "heard");
    assert_eq!(
        heard[0],
        json!({"event": "heard", "cause": "mark", "utterance": 1, "heard_ms": 500, "name": "half"})
    );
    let at_clear = heard[1]["heard_ms"].as_u64().unwrap();
    assert!((980..=1_020).contains(&at_clear), "{at_clear}");
    assert_eq!(heard[2], json!({"event": "heard", "cause": "end", "utterance": 1, "heard_ms": at_clear}));
}

/// Two tones in µ-law.
fn key(low_hz: f64, high_hz: f64, ms: usize) -> Vec<u8> {
    let turn = |hz: f64, at: usize| (std::f64::consts::TAU * hz * at as f64 / 8_000.0).sin();
    let samples: Vec<i16> =
        (0..ms * 8).map(|at| (6_000.0 * (turn(low_hz, at) + turn(high_hz, at))) as i16).collect();
    let mut codes = Vec::new();
    g711::encode_into(Law::Mulaw, &samples, &mut codes);
    codes
}

/// `5`, then `#`, as tones.
fn keys() -> Vec<u8> {
    [key(770.0, 1_336.0, 100), vec![0xFF; 800], key(941.0, 1_477.0, 60)].concat()
}

#[test]
fn keys_in_the_audio_are_found_where_no_events_are_agreed_on_or_the_agent_asks() {
    for (setting, has_events, expected) in
        [("auto", false, "5#"), ("auto", true, ""), ("always", true, "5#"), ("never", false, "")]
    {
        let config = format!(r#"{{"dialect":"twilio","inband_dtmf":"{setting}"}}"#);
        let mut plan = plan(&config, Law::Mulaw);
        if let Some(media) = plan.media.as_mut().filter(|_| !has_events) {
            media.telephone_event = None;
        }
        let mut world = World::new(plan, silent());
        world.peer.payloads = Some(speaker(Duration::from_secs(1), keys()));
        world.command(BridgeCommand::Start);
        world.run(Duration::from_secs(3));
        let told: String = named(&world, "dtmf")
            .iter()
            .map(|message| message["dtmf"]["digit"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(told, expected, "{setting} with events {has_events}");
        let events =
            world.events.iter().filter(|(_, event)| matches!(event, BridgeEvent::Digit { .. })).count();
        assert_eq!(events, expected.len());
        assert_eq!(world.bridge.statistics().rtp.inband_digits, expected.len() as u64);
    }
}

/// A carrier that sends both the tone and its event means one key.
#[test]
fn an_event_makes_an_end_of_looking_for_tones() {
    let mut world = World::new(plan(r#"{"dialect":"twilio","inband_dtmf":"always"}"#, Law::Mulaw), silent());
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(1));
    world.peer.press(5, 5);
    world.run(Duration::from_secs(1));
    world.peer.payloads = Some(speaker(Duration::ZERO, keys()));
    world.run(Duration::from_secs(2));
    assert_eq!(named(&world, "dtmf").len(), 1);
}
