//! What agents ask for, and when they are told: marks, flushes, pauses, reports, hang-up, in each dialect's words.

use std::time::Duration;

use tandem_agent::FrameKind;
use tandem_call::bridge::{AgentHangUpCause, AgentWish, BridgeCommand, BridgeEvent};
use tandem_media::Law;

use crate::agents::{stream_audio, twilio_mark, twilio_media};
use crate::world::{MS, World, silent};

const ASTERISK: &str = r#"{"dialect":"asterisk"}"#;
const TWILIO: &str = r#"{"dialect":"twilio"}"#;
const BOLNA: &str = r#"{"dialect":"bolna"}"#;

/// A started call whose caller is silent, ten milliseconds before the next tick of the egress clock.
fn quiet(config: &str) -> World {
    let mut world = World::started(config, Law::Mulaw, silent());
    world.peer.is_sending = false;
    world.run(1010 * MS);
    world
}

/// When (since now) and what the agent is told in the time to come, caller audio aside.
fn told(world: &mut World, time: Duration) -> Vec<(u64, String)> {
    let (before, from) = (world.texts().len(), world.now - world.start);
    world.run(time);
    let texts = world.texts().split_off(before);
    let texts = texts.into_iter().filter(|(_, text)| !text.contains(r#""event":"media""#));
    texts.map(|(at, text)| (at.saturating_sub(from).as_millis() as u64, text)).collect()
}

fn played(world: &World) -> usize {
    world.caller_heard().iter().filter(|byte| **byte != Law::Mulaw.silence()).count()
}

fn speech(ms: usize) -> Vec<u8> {
    vec![0x12; ms * 8]
}

#[test]
fn a_mark_is_told_one_tick_after_the_last_audio_before_it_left() {
    let mut world = quiet(TWILIO);
    world.say_text(&twilio_media(&speech(100)));
    world.say_text(&twilio_mark("end"));
    // Ticks at 10, 30, 50, 70, 90 ms carry the audio; at 110 ms the last has been heard.
    let told = told(&mut world, 300 * MS);
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].0, 110);
    assert!(told[0].1.contains(r#""mark":{"name":"end"}"#), "{}", told[0].1);
    assert_eq!(played(&world), 800);
}

#[test]
fn a_mark_with_nothing_before_it_is_told_at_the_next_tick() {
    let mut world = quiet(TWILIO);
    world.say_text(&twilio_mark("before"));
    world.say_text(&twilio_media(&speech(40)));
    world.say_text(&twilio_mark("after"));
    let told = told(&mut world, 200 * MS);
    // The speech itself is held back by one tick, for it may be a paced agent's.
    assert_eq!(told.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [10, 70]);
    assert!(told[0].1.contains("before") && told[1].1.contains("after"));
}

#[test]
fn clear_stops_within_the_packet_and_echoes_every_pending_mark_in_order() {
    let mut world = quiet(TWILIO);
    for name in ["one", "two", "three"] {
        world.say_text(&twilio_media(&speech(1000)));
        world.say_text(&twilio_mark(name));
    }
    world.run(1500 * MS);
    let before = played(&world);
    assert_eq!(before, 75 * 160);
    world.say_text(r#"{"event":"clear"}"#);
    world.say_text(&twilio_mark("four"));
    // An agent with a jumpy voice detector clears again and again.
    world.say_text(r#"{"event":"clear"}"#);
    world.say_text(r#"{"event":"clear"}"#);
    world.run(500 * MS);
    assert_eq!(played(&world), before, "no older audio leaves after a clear");
    let marks: Vec<_> =
        world.texts().into_iter().filter(|(_, text)| text.contains(r#""event":"mark""#)).collect();
    let names: Vec<_> = marks.iter().map(|(_, text)| text.rsplit('"').nth(1).unwrap()).collect();
    assert_eq!(names, ["one", "two", "three", "four"], "each once, in order");
    let flushed = world.events.iter().find_map(|(_, event)| match event {
        BridgeEvent::Flushed { dropped_ms, heard } => Some((*dropped_ms, heard.ms)),
        _ => None,
    });
    assert_eq!(flushed, Some((1500, 1500)), "heard position of the utterance");
    assert_eq!(world.bridge.statistics().flushes, 3);
}

#[test]
fn flush_media_forgets_pending_marks_and_completions() {
    let mut world = quiet(ASTERISK);
    world.say_text("START_MEDIA_BUFFERING");
    world.say(FrameKind::Binary, &speech(500));
    world.say_text("MARK_MEDIA one");
    world.say_text("STOP_MEDIA_BUFFERING c");
    world.say_text("FLUSH_MEDIA");
    world.say_text("GET_STATUS");
    world.say_text("MARK_MEDIA two");
    let told = told(&mut world, 1000 * MS);
    let texts: Vec<_> = told.iter().map(|(_, text)| text.as_str()).collect();
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert_eq!(texts[0], "MEDIA_MARK_PROCESSED two");
    let status = world.texts().into_iter().find(|(_, text)| text.starts_with("STATUS")).unwrap().1;
    assert!(status.contains("queue_length:0") && status.contains("bulk_media:false"), "{status}");
}

#[test]
fn kill_audio_reports_pending_marks_as_cleared() {
    let mut world = quiet(BOLNA);
    world.say(FrameKind::Text, &stream_audio(24_000, &[0x11; 24_000]));
    world.say_text(r#"{"type":"mark","name":"a"}"#);
    world.run(100 * MS);
    world.say_text(r#"{"type":"killAudio"}"#);
    let last = world.texts().pop().unwrap().1;
    assert_eq!(last, r#"{"type":"markPlayed","name":"a","cleared":true}"#);
    let cleared = world.events.iter().any(|(_, event)| {
        matches!(event, BridgeEvent::MarkPlayed { name, is_cleared: true, heard } if name == "a" && heard.ms > 0)
    });
    assert!(cleared);
}

#[test]
fn linear_bursts_play_whole_and_report_their_end() {
    let mut world = quiet(BOLNA);
    // A second of 24 kHz audio cut at odd bytes of the stream.
    let burst: Vec<u8> = (0..24_000_u32).flat_map(|i| ((i % 2000) as i16 * 10).to_le_bytes()).collect();
    for piece in burst.chunks(4097) {
        world.say(FrameKind::Text, &stream_audio(24_000, piece));
    }
    world.say_text(r#"{"type":"mark","name":"end"}"#);
    let told = told(&mut world, 1500 * MS);
    assert_eq!(told[0], (1010, r#"{"type":"markPlayed","name":"end"}"#.into()));
    assert_eq!(told[1].1, r#"{"type":"playoutDone"}"#);
    assert_eq!(world.bridge.statistics().heard_ms, 1000);
}

#[test]
fn a_buffered_utterance_is_joined_across_messages_and_completed_in_band() {
    let mut world = quiet(ASTERISK);
    world.say_text("START_MEDIA_BUFFERING");
    for piece in speech(100).chunks(33) {
        world.say(FrameKind::Binary, piece);
    }
    world.say_text("STOP_MEDIA_BUFFERING done");
    world.say_text("REPORT_QUEUE_DRAINED");
    let told = told(&mut world, 300 * MS);
    assert_eq!(told, [(110, "MEDIA_BUFFERING_COMPLETED done".into()), (110, "QUEUE_DRAINED".into())]);
    assert_eq!(played(&world), 800);
}

#[test]
fn remainders_are_kept_across_messages_without_buffering_too() {
    let mut world = quiet(ASTERISK);
    for piece in speech(200).chunks(77) {
        world.say(FrameKind::Binary, piece);
    }
    world.run(300 * MS);
    let heard = world.caller_heard();
    let first = heard.iter().position(|byte| *byte == 0x12).unwrap();
    assert!(heard[first..first + 1600].iter().all(|byte| *byte == 0x12), "without a hole");
}

#[test]
fn drained_is_reported_at_the_next_tick_when_the_queue_is_empty_already() {
    let mut world = quiet(ASTERISK);
    world.say_text("REPORT_QUEUE_DRAINED");
    assert_eq!(told(&mut world, 200 * MS), [(10, "QUEUE_DRAINED".into())], "once");
}

#[test]
fn xoff_comes_at_900_frames_and_xon_below_800() {
    let mut world = quiet(ASTERISK);
    world.say(FrameKind::Binary, &speech(17_999));
    assert!(world.texts().iter().all(|(_, text)| text != "MEDIA_XOFF"));
    world.say(FrameKind::Binary, &speech(1));
    assert_eq!(world.texts().pop().unwrap().1, "MEDIA_XOFF");
    world.say_text("GET_STATUS");
    let status = world.texts().pop().unwrap().1;
    assert!(status.contains("queue_length:900") && status.contains("queue_full:true"), "{status}");
    // Below 800 after the 101st frame has been taken.
    assert_eq!(told(&mut world, 5000 * MS), [(10 + 100 * 20, "MEDIA_XON".into())]);
}

#[test]
fn pause_holds_audio_and_marks_until_continue() {
    let mut world = quiet(ASTERISK);
    world.say(FrameKind::Binary, &speech(100));
    world.say_text("MARK_MEDIA m");
    world.run(50 * MS);
    world.say_text("PAUSE_MEDIA");
    let before = played(&world);
    assert!(told(&mut world, 1000 * MS).is_empty());
    assert_eq!(played(&world), before);
    world.say_text("CONTINUE_MEDIA");
    assert_eq!(told(&mut world, 1000 * MS).len(), 1);
    assert_eq!(played(&world), 800);
}

#[test]
fn direction_in_silences_the_agent_and_out_spares_it_the_caller() {
    let mut world = quiet(r#"{"dialect":"asterisk","control_format":"json"}"#);
    world.say_text(r#"{"command":"SET_MEDIA_DIRECTION","direction":"in"}"#);
    world.say(FrameKind::Binary, &speech(100));
    world.run(200 * MS);
    assert_eq!(played(&world), 0);
    world.say_text(r#"{"command":"SET_MEDIA_DIRECTION","direction":"out"}"#);
    world.say(FrameKind::Binary, &speech(100));
    let before = world.agent_got.len();
    world.run(500 * MS);
    assert_eq!(played(&world), 800);
    assert_eq!(world.agent_got.len(), before);
    world.say_text(r#"{"command":"SET_MEDIA_DIRECTION","direction":"both"}"#);
    world.run(500 * MS);
    assert!(
        world.agent_got.len() >= before + 24,
        "the stream goes on where the caller is, not where it was left"
    );
    assert!(world.agent_got.len() <= before + 27);
}

#[test]
fn the_agents_hangup_is_reported_once_and_the_engines_closes_the_socket() {
    let mut world = quiet(ASTERISK);
    world.say_text("HANGUP");
    world.say_text("HANGUP");
    let ends = || AgentHangUpCause::Command;
    let count = |world: &World| {
        world.events.iter().filter(|(_, event)| *event == BridgeEvent::AgentHangUp { cause: ends() }).count()
    };
    assert_eq!(count(&world), 1);
    assert_eq!(world.closed, None);
    world.command(BridgeCommand::HangUp);
    assert_eq!(world.closed, Some(1000));
    let (heard, got) = (world.heard.len(), world.agent_got.len());
    world.say(FrameKind::Binary, &speech(20));
    world.run(1000 * MS);
    assert_eq!((world.heard.len(), world.agent_got.len()), (heard, got), "nothing more either way");
    assert_eq!(count(&world), 1);
}

#[test]
fn the_callers_hangup_says_stop_where_the_dialect_has_it_then_closes() {
    let mut world = quiet(TWILIO);
    world.command(BridgeCommand::HangUp);
    assert!(world.texts().pop().unwrap().1.contains(r#""event":"stop""#));
    assert_eq!(world.closed, Some(1000));
    let mut world = quiet(BOLNA);
    let before = world.texts().len();
    world.command(BridgeCommand::HangUp);
    assert_eq!(world.texts().len(), before);
    assert_eq!(world.closed, Some(1000));
}

#[test]
fn transfer_and_hold_leave_as_events() {
    let mut world = quiet(ASTERISK);
    world.say_text(r#"{"command":"TRANSFER","target":"sip:bob@example.com"}"#);
    world.say_text(r#"{"command":"HOLD"}"#);
    world.say_text(r#"{"command":"UNHOLD"}"#);
    let events: Vec<_> = world.events.iter().map(|(_, event)| event.clone()).collect();
    assert!(matches!(&events[..], [
        BridgeEvent::Transfer { target, .. },
        BridgeEvent::Hold { is_held: true },
        BridgeEvent::Hold { is_held: false },
    ] if target == "sip:bob@example.com"));
}

/// A refusal is told in the dialect's words, and where it has none the agent hears nothing.
#[test]
fn a_refused_wish_is_told_where_the_dialect_has_the_word() {
    let json = r#"{"dialect":"asterisk","control_format":"json"}"#;
    for (config, form) in [(ASTERISK, "ERROR channel_id:"), (json, r#"{"event":"ERROR""#)] {
        let mut world = quiet(config);
        for (wish, word) in [(AgentWish::Hold, "HOLD"), (AgentWish::Unhold, "UNHOLD")] {
            world.command(BridgeCommand::Refuse { wish });
            let last = world.texts().pop().unwrap().1;
            assert!(last.starts_with(form) && last.contains(&format!("{word} refused")), "{last}");
        }
        assert_eq!(world.bridge.statistics().protocol_errors, 0, "a wish is no error");
    }
    for config in [TWILIO, BOLNA] {
        let mut world = quiet(config);
        let before = world.texts().len();
        world.command(BridgeCommand::Refuse { wish: AgentWish::Hold });
        assert_eq!(world.texts().len(), before);
    }
}
