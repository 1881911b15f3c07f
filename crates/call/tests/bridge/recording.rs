//! Recording: the left side is what the caller said as its agent got it, the right side what truly left towards the caller.

use std::time::Duration;

use tandem_agent::FrameKind;
use tandem_call::bridge::{BridgeCommand, BridgeEvent};
use tandem_call::{Recorded, RecordingCommand, RecordingRule};
use tandem_media::recording::PauseMode;
use tandem_media::{Law, g711};

use crate::agents::asterisk_echo;
use crate::world::{MS, World, plan, silent};

const ASTERISK: &str = r#"{"dialect":"asterisk"}"#;

fn record(world: &mut World, pause: PauseMode) {
    let rule = RecordingRule { pause, ..RecordingRule::default() };
    world.command(BridgeCommand::Record(RecordingCommand::Start(rule)));
}

/// Left and right, once the recording is whole; blocks must follow each other without a hole.
fn sides(world: &World) -> (Vec<i16>, Vec<i16>) {
    assert!(matches!(world.recorded.first(), Some(Recorded::Begin(_))), "a recording begins once");
    assert_eq!(world.recorded.last(), Some(&Recorded::End));
    let (mut left, mut right) = (Vec::new(), Vec::new());
    for recorded in &world.recorded[1..world.recorded.len() - 1] {
        let Recorded::Block(block) = recorded else { panic!("{recorded:?} in the middle") };
        assert_eq!(block.position, left.len() as u64);
        left.extend(block.samples.iter().step_by(2));
        right.extend(block.samples.iter().skip(1).step_by(2));
    }
    (left, right)
}

fn decoded(law: Law, codes: &[u8]) -> Vec<i16> {
    codes.iter().map(|code| g711::decode(law, *code)).collect()
}

#[test]
fn both_sides_are_recorded_as_they_were_heard_sample_by_sample() {
    for law in [Law::Mulaw, Law::Alaw] {
        let mut world = World::new(plan(ASTERISK, law), asterisk_echo());
        record(&mut world, PauseMode::Silence);
        world.command(BridgeCommand::Start);
        world.run(Duration::from_secs(10));
        world.command(BridgeCommand::HangUp);
        let (left, right) = sides(&world);
        let heard = decoded(law, &world.caller_heard());
        let recorded = &right[right.len() - heard.len()..];
        assert!(recorded == heard, "the right side is what left in RTP");
        let spoken = decoded(law, &world.peer.spoken);
        // Silence may stand before the first frame.
        let begin = left.windows(160).position(|window| window == &spoken[..160]).expect("it begins");
        assert!(begin <= 320, "{begin} samples before the first");
        let said = left[begin..].iter().zip(&spoken).take_while(|(left, said)| left == said).count();
        assert!(said + 400 > spoken.len(), "{said} of {} samples are on the left side", spoken.len());
    }
}

/// A barge-in: what was queued and never left is not in the recording.
#[test]
fn what_was_flushed_is_not_on_the_right_side() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    record(&mut world, PauseMode::Silence);
    world.say(FrameKind::Binary, &[0x21; 8_000]);
    world.run(300 * MS);
    world.say_text("FLUSH_MEDIA");
    world.run(Duration::from_secs(2));
    world.command(BridgeCommand::HangUp);
    let (_, right) = sides(&world);
    let word = g711::decode(Law::Mulaw, 0x21);
    let heard = right.iter().filter(|sample| **sample == word).count();
    let left = world.caller_heard().iter().filter(|code| **code == 0x21).count();
    assert_eq!(heard, left);
    assert!((1_600..=3_200).contains(&heard), "{heard} samples of 300 ms");
}

#[test]
fn loss_is_recorded_as_the_agent_heard_it() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.trouble = true;
    record(&mut world, PauseMode::Silence);
    world.run(Duration::from_secs(5));
    world.command(BridgeCommand::HangUp);
    let (left, _) = sides(&world);
    let got: Vec<u8> = world
        .agent_got
        .iter()
        .filter(|message| message.1 == FrameKind::Binary)
        .flat_map(|message| message.2.iter().copied())
        .collect();
    assert!(left[..got.len()] == decoded(Law::Mulaw, &got), "what was made up is in it, too");
}

#[test]
fn a_paused_recording_leaves_out_what_was_said_meanwhile() {
    for pause in [PauseMode::Silence, PauseMode::Skip] {
        let mut world = World::started(ASTERISK, Law::Mulaw, silent());
        record(&mut world, pause);
        world.run(Duration::from_secs(2));
        world.command(BridgeCommand::Record(RecordingCommand::Pause));
        world.say(FrameKind::Binary, &[0x21; 4_000]);
        world.run(Duration::from_secs(2));
        world.command(BridgeCommand::Record(RecordingCommand::Resume));
        world.run(Duration::from_secs(2));
        world.command(BridgeCommand::Record(RecordingCommand::Stop));
        world.run(Duration::from_secs(1));
        let (left, right) = sides(&world);
        let seconds = if pause == PauseMode::Silence { 6 } else { 4 };
        assert!(left.len().abs_diff(seconds * 8_000) <= 480, "{} samples", left.len());
        assert!(!right.contains(&g711::decode(Law::Mulaw, 0x21)));
        if pause == PauseMode::Silence {
            assert!(left[17_000..31_000].iter().all(|sample| *sample == 0));
        }
    }
}

#[test]
fn it_ends_for_good_and_what_could_not_be_written_is_counted_and_told_once() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    for command in [RecordingCommand::Pause, RecordingCommand::Resume, RecordingCommand::Stop] {
        world.command(BridgeCommand::Record(command));
    }
    assert!(world.recorded.is_empty(), "there is nothing to change yet");
    record(&mut world, PauseMode::Silence);
    record(&mut world, PauseMode::Silence);
    world.run(Duration::from_secs(1));
    world.command(BridgeCommand::Record(RecordingCommand::Stop));
    record(&mut world, PauseMode::Silence);
    world.run(Duration::from_secs(1));
    sides(&world);
    for _ in 0..3 {
        world.bridge.handle_recording_dropped(4_000);
    }
    world.run(Duration::from_secs(1));
    assert_eq!(world.bridge.statistics().recording_lost_ms, 1_500);
    let told = world.events.iter().filter(|(_, event)| matches!(event, BridgeEvent::RecordingLost { .. }));
    assert_eq!(told.count(), 1);
}
