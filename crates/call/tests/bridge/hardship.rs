//! Agents that flood, stall, send rubbish or drop: what they cost, and that it is they who pay.

use std::time::Duration;

use tandem_agent::FrameKind;
use tandem_call::bridge::{AgentHangUpCause, AgentSocketEnd, BridgeEvent, BridgeLimits, OnClose};
use tandem_media::Law;

use crate::agents::twilio_mark;
use crate::world::{MS, World, plan, silent};

const ASTERISK: &str = r#"{"dialect":"asterisk"}"#;
const TWILIO: &str = r#"{"dialect":"twilio"}"#;

fn speech(ms: usize) -> Vec<u8> {
    vec![0x12; ms * 8]
}

fn hang_ups(world: &World) -> Vec<(Duration, AgentHangUpCause)> {
    let ends = world.events.iter().filter_map(|(at, event)| match event {
        BridgeEvent::AgentHangUp { cause } => Some((*at - world.start, *cause)),
        _ => None,
    });
    ends.collect()
}

#[test]
fn a_flood_is_stopped_at_the_socket_and_nothing_of_it_is_lost() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    let mut accepted = 0;
    while world.bridge.wants_agent_input() {
        world.say(FrameKind::Binary, &speech(4000));
        accepted += 4000;
        assert!(accepted < 700_000, "the bound is met");
    }
    assert_eq!(accepted, 600_000);
    world.run(40 * MS);
    assert!(world.bridge.wants_agent_input(), "read on as soon as there is room");
    assert_eq!(world.bridge.statistics().overflow_ms, 0);
    world.run(Duration::from_secs(601));
    assert_eq!(world.bridge.statistics().heard_ms, 600_000, "every millisecond is heard");
}

#[test]
fn what_comes_beyond_the_bound_is_counted_and_reported() {
    let limits = BridgeLimits { queue: Duration::from_secs(1), ..BridgeLimits::default() };
    let mut world = World::new(plan_with(ASTERISK, limits), silent());
    let message = speech(1024 * 1024 / 8);
    world.say(FrameKind::Binary, &message);
    assert!(!world.bridge.wants_agent_input());
    world.say(FrameKind::Binary, &message);
    let dropped = world.events.iter().find_map(|(_, event)| match event {
        BridgeEvent::QueueOverflow { dropped_ms } => Some(*dropped_ms),
        _ => None,
    });
    assert_eq!(dropped, Some(1024 * 1024 / 8 - 1000));
    assert_eq!(world.bridge.statistics().overflow_ms, 1024 * 1024 / 8 - 1000);
}

#[test]
fn a_stalled_agent_leaves_the_caller_with_silence_on_an_exact_clock() {
    let mut world = World::started(ASTERISK, Law::Alaw, silent());
    world.run(Duration::from_secs(60));
    assert_eq!(world.heard.len(), 3001);
    assert!(world.caller_heard().iter().all(|byte| *byte == Law::Alaw.silence()));
    assert!(world.heard.windows(2).all(|pair| pair[1].at - pair[0].at == 20 * MS));
}

#[test]
fn rubbish_is_tolerated_up_to_the_bound_then_the_stream_is_closed() {
    let mut world = World::started(TWILIO, Law::Mulaw, silent());
    for _ in 0..64 {
        world.say_text("{");
    }
    assert_eq!(world.closed, None);
    assert!(hang_ups(&world).is_empty());
    world.say_text("{");
    assert_eq!(world.closed, Some(1008));
    assert_eq!(
        hang_ups(&world).iter().map(|end| end.1).collect::<Vec<_>>(),
        [AgentHangUpCause::ProtocolErrors]
    );
    world.say_text("{");
    assert_eq!(world.bridge.statistics().protocol_errors, 65);

    let mut world = World::started(TWILIO, Law::Mulaw, silent());
    for _ in 0..65 {
        world.say(FrameKind::Binary, &[0; 160]);
    }
    assert_eq!(world.closed, Some(1003), "data the dialect cannot carry");
}

#[test]
fn chan_websocket_is_told_of_each_error() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.say_text("{\"command\":");
    let text = world.texts().pop().unwrap().1;
    assert!(text.ends_with("error_text:Unable to parse JSON command"), "{text}");
}

#[test]
fn pending_marks_are_bounded() {
    let mut world = World::started(TWILIO, Law::Mulaw, silent());
    world.say(FrameKind::Text, crate::agents::twilio_media(&speech(1000)).as_bytes());
    for number in 0..4096 {
        world.say_text(&twilio_mark(&number.to_string()));
    }
    assert_eq!(world.bridge.statistics().protocol_errors, 0);
    world.say_text(&twilio_mark("one too many"));
    assert_eq!(world.bridge.statistics().protocol_errors, 1);
}

#[test]
fn a_close_in_mid_word_plays_what_was_said_then_ends_the_call() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.say(FrameKind::Binary, &speech(3000));
    world.run(500 * MS);
    world.bridge.handle_agent_closed(world.now, AgentSocketEnd::Closed { code: Some(1000) });
    world.drain();
    let queued = world.events.iter().find_map(|(_, event)| match event {
        BridgeEvent::AgentClosed { code: Some(1000), queued_ms } => Some(*queued_ms),
        _ => None,
    });
    assert_eq!(queued, Some(2500), "packets at 20, 40, … 500 ms have left");
    assert!(hang_ups(&world).is_empty());
    world.run(5000 * MS);
    assert_eq!(world.bridge.statistics().heard_ms, 3000);
    let ends = hang_ups(&world);
    assert_eq!(ends.len(), 1);
    assert_eq!(ends[0], (3020 * MS, AgentHangUpCause::Closed { code: Some(1000) }));
}

#[test]
fn draining_is_bounded_and_ends_a_pause() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    for _ in 0..3 {
        world.say(FrameKind::Binary, &speech(100_000));
    }
    world.say_text("PAUSE_MEDIA");
    world.bridge.handle_agent_closed(world.now, AgentSocketEnd::Lost);
    world.run(Duration::from_secs(100));
    assert_eq!(hang_ups(&world), [(Duration::from_secs(60), AgentHangUpCause::Lost)]);
    assert!(world.bridge.statistics().heard_ms >= 60_000);
}

#[test]
fn a_close_ends_the_call_at_once_when_the_agent_wants_it_so_or_nothing_is_queued() {
    let mut wanted = plan(ASTERISK, Law::Mulaw);
    wanted.agent.on_close = OnClose::Hangup;
    let mut world = World::new(wanted, silent());
    world.command(tandem_call::bridge::BridgeCommand::Start);
    world.say(FrameKind::Binary, &speech(3000));
    world.run(100 * MS);
    world.bridge.handle_agent_frame(world.now, FrameKind::Close, &[0x03, 0xe9, b'b', b'y', b'e']);
    world.drain();
    assert_eq!(hang_ups(&world), [(100 * MS, AgentHangUpCause::Closed { code: Some(1001) })]);

    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.run(100 * MS);
    world.bridge.handle_agent_frame(world.now, FrameKind::Close, &[]);
    world.drain();
    assert_eq!(hang_ups(&world).len(), 1);
}

#[test]
fn an_agent_that_closes_before_the_start_ends_the_call() {
    let mut world = World::new(plan(ASTERISK, Law::Mulaw), silent());
    world.say(FrameKind::Binary, &speech(100));
    world.bridge.handle_agent_closed(world.now, AgentSocketEnd::Lost);
    world.drain();
    assert_eq!(hang_ups(&world).len(), 1);
}

#[test]
fn a_driver_that_was_away_sends_at_most_the_bound_and_drifts_not() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    world.say(FrameKind::Binary, &speech(5000));
    world.run(1000 * MS);
    let before = world.heard.len();
    world.now += 1003 * MS;
    world.bridge.handle_timeout(world.now);
    world.drain();
    assert_eq!(world.heard.len() - before, 5);
    assert_eq!(world.bridge.statistics().ticks_skipped, 45);
    let (last, first) = (&world.heard[before - 1], &world.heard[before]);
    assert_eq!(first.timestamp.wrapping_sub(last.timestamp), 160 * 46, "the media clock ran on");
    assert_eq!(first.sequence, last.sequence.wrapping_add(1));
    world.run(100 * MS);
    assert_eq!(
        (world.heard.last().unwrap().at - world.start).as_millis() % 20,
        0,
        "back on the old deadlines"
    );
}

fn plan_with(config: &str, limits: BridgeLimits) -> tandem_call::bridge::BridgePlan {
    let mut plan = plan(config, Law::Mulaw);
    plan.limits = limits;
    plan
}
