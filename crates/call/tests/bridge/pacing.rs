//! Agents that speak at the pace of real time, with the jitter of a busy event loop.

use std::time::Duration;

use tandem_agent::FrameKind;
use tandem_media::Law;

use crate::world::{MS, US, World, silent};

const ASTERISK: &str = r#"{"dialect":"asterisk"}"#;

/// One utterance in chunks of `chunk_ms` at their own pace from `after` now on, each late by up to `jitter_ms`.
fn utter(world: &mut World, after: Duration, chunk_ms: u32, length_ms: u32, jitter_ms: u32, noise: &mut u32) {
    for chunk in 0..length_ms / chunk_ms {
        *noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let late = US * ((*noise >> 16) % (jitter_ms * 1000 + 1));
        let at = world.now + after + MS * (chunk * chunk_ms) + late;
        world.post(at, FrameKind::Binary, vec![0x12; chunk_ms as usize * 8]);
    }
}

/// Gaps within speech: runs of silence between two words of what the caller heard.
fn gaps(world: &World, from: usize) -> usize {
    let heard = &world.caller_heard()[from..];
    let last = heard.iter().rposition(|byte| *byte == 0x12).unwrap_or(0);
    let first = heard.iter().position(|byte| *byte == 0x12).unwrap_or(0);
    heard[first..=last].windows(2).filter(|pair| pair[0] == 0x12 && pair[1] != 0x12).count()
}

#[test]
fn a_paced_agent_on_a_quiet_machine_is_heard_without_a_gap_from_its_first_word() {
    for chunk_ms in [20, 40, 100] {
        // Whatever the phase between the agent's timer and the egress clock.
        for phase_us in (0..20_000).step_by(777) {
            let mut world = World::started(ASTERISK, Law::Mulaw, silent());
            world.peer.is_sending = false;
            world.run(Duration::from_secs(1));
            utter(&mut world, US * phase_us, chunk_ms, 2000, 2, &mut 1);
            world.run(Duration::from_secs(4));
            assert_eq!(gaps(&world, 0), 0, "chunks of {chunk_ms} ms at phase {phase_us}");
            assert_eq!(world.bridge.statistics().heard_ms, 2000);
        }
    }
}

#[test]
fn a_jittery_agent_is_given_more_of_a_start_until_its_gaps_cease() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    let mut noise = 7;
    let mut gaps_by_utterance = Vec::new();
    for _ in 0..40 {
        let before = world.caller_heard().len();
        world.run(777 * MS);
        utter(&mut world, MS, 20, 2000, 30, &mut noise);
        world.run(Duration::from_secs(4));
        gaps_by_utterance.push(gaps(&world, before));
    }
    assert!(gaps_by_utterance.iter().sum::<usize>() <= 3, "{gaps_by_utterance:?}");
    assert_eq!(gaps_by_utterance[20..].iter().sum::<usize>(), 0, "{gaps_by_utterance:?}");
    assert_eq!(world.bridge.statistics().heard_ms, 80_000, "nothing is lost meanwhile");
}

#[test]
fn a_burst_is_not_waited_with() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    world.run(1019 * MS);
    world.say(FrameKind::Binary, &[0x12; 8000]);
    world.run(2 * MS);
    assert_eq!(
        world.caller_heard().iter().filter(|byte| **byte == 0x12).count(),
        160,
        "leaves with the next tick"
    );
}

#[test]
fn the_start_never_waits_for_longer_than_the_margin() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    for after in [1001, 1003, 1009, 1016, 1019] {
        world.run(MS * after);
        let before = world.heard.len();
        world.say(FrameKind::Binary, &[0x12; 160]);
        let said = world.now;
        world.run(100 * MS);
        let first = world.heard[before..].iter().find(|packet| packet.payload.contains(&0x12)).unwrap();
        assert!(first.at - said <= 40 * MS, "{:?}", first.at - said);
    }
}

/// What a jittery agent was given must not be taken back by the clock that keeps delay from growing.
#[test]
fn a_long_speech_keeps_the_margin_that_was_learned() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    let mut noise = 7;
    for _ in 0..12 {
        world.run(777 * MS);
        utter(&mut world, MS, 20, 2000, 40, &mut noise);
        world.run(Duration::from_secs(4));
    }
    let before = world.caller_heard().len();
    utter(&mut world, MS, 20, 240_000, 40, &mut noise);
    world.run(Duration::from_secs(245));
    assert_eq!(gaps(&world, before), 0);
}
