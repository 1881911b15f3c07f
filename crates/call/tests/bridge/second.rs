//! The caller and a second leg: who hears whom, how exactly, and how the agent gets the caller back.

use tandem_call::bridge::{BridgeCommand, BridgeEvent};
use tandem_media::{LatchPolicy, Law, MediaParameters, TelephoneEvent, g711};

use crate::world::{MS, Peer, World, silent};

const ASTERISK: &str = r#"{"dialect":"asterisk","encoding":"ulaw"}"#;
const SECOND: &str = "192.0.2.50:6000";

/// A call whose caller talks to a second leg of this law.
fn joined(law: Law, second_law: Law, packet_ms: u32, keeps_agent: bool) -> World {
    let mut world = World::started(ASTERISK, law, silent());
    world.run(100 * MS);
    let media = second_media(second_law, packet_ms);
    let latch = LatchPolicy { symmetric: true, allowed: Vec::new() };
    world.command(BridgeCommand::SecondMedia { media, latch });
    world.command(BridgeCommand::Join { keeps_agent });
    let mut second = Peer::new(SECOND.parse().unwrap(), second_law, world.now + 3 * MS);
    second.packet_ms = packet_ms;
    second.period = packet_ms * MS;
    world.second = Some(second);
    world.heard.clear();
    world.agent_got.clear();
    world
}

fn second_media(law: Law, packet_ms: u32) -> MediaParameters {
    let mut media = MediaParameters::plain(SECOND.parse().unwrap(), law);
    media.telephone_event = Some(TelephoneEvent { payload_type: 96, clock_hz: 8000 });
    media.ptime_ms = packet_ms as u8;
    media
}

fn audio(packets: &[crate::world::Packet]) -> Vec<u8> {
    packets.iter().flat_map(|packet| packet.payload.iter().copied()).collect()
}

/// Whether `heard` lies within `spoken` as one piece.
fn is_piece(heard: &[u8], spoken: &[u8]) -> bool {
    spoken.windows(heard.len()).any(|piece| piece == heard)
}

#[test]
fn both_legs_hear_each_other_bit_for_bit() {
    for law in [Law::Mulaw, Law::Alaw] {
        let mut world = joined(law, law, 20, false);
        world.run(2000 * MS);
        let second = world.second.as_ref().unwrap();
        let (to_second, to_caller) = (audio(&world.second_heard), audio(&world.heard));
        assert!(to_second.len() >= 1900 * 8 && to_caller.len() >= 1900 * 8);
        assert!(is_piece(&to_second[160..], &world.peer.spoken), "the second leg hears the caller");
        assert!(is_piece(&to_caller, &second.spoken), "the caller hears the second leg");
        assert!(world.heard.iter().all(|packet| packet.to == "192.0.2.1:4000".parse().unwrap()));
        assert!(world.second_heard.iter().all(|packet| packet.to == SECOND.parse().unwrap()));
    }
}

#[test]
fn sequence_numbers_and_times_go_on_where_the_agent_left_off() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.run(200 * MS);
    let last = world.heard.last().map(|packet| packet.sequence).unwrap();
    let latch = LatchPolicy { symmetric: true, allowed: Vec::new() };
    world.command(BridgeCommand::SecondMedia { media: second_media(Law::Mulaw, 20), latch });
    world.command(BridgeCommand::Join { keeps_agent: false });
    world.second = Some(Peer::new(SECOND.parse().unwrap(), Law::Mulaw, world.now + 3 * MS));
    world.heard.clear();
    world.run(500 * MS);
    assert_eq!(world.heard[0].sequence, last.wrapping_add(1));
    for pair in world.heard.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(160));
    }
}

#[test]
fn laws_and_packet_lengths_are_converted_where_they_differ() {
    let mut world = joined(Law::Mulaw, Law::Alaw, 30, false);
    world.run(2000 * MS);
    let second = world.second.as_ref().unwrap();
    assert!(world.second_heard.iter().all(|packet| packet.payload_type == 8 && packet.payload.len() == 240));
    assert!(world.heard.iter().all(|packet| packet.payload_type == 0 && packet.payload.len() == 160));
    let converted = |from, to, spoken: &[u8]| {
        let mut bytes = spoken.to_vec();
        g711::transcode_in_place(from, to, &mut bytes);
        bytes
    };
    let to_second = audio(&world.second_heard);
    assert!(is_piece(&to_second[240..], &converted(Law::Mulaw, Law::Alaw, &world.peer.spoken)));
    assert!(is_piece(&audio(&world.heard), &converted(Law::Alaw, Law::Mulaw, &second.spoken)));
}

#[test]
fn keys_pass_both_ways_as_keys() {
    let mut world = joined(Law::Mulaw, Law::Mulaw, 20, false);
    world.run(200 * MS);
    world.peer.press(5, 5);
    world.run(400 * MS);
    let events: Vec<u8> = world
        .second_heard
        .iter()
        .filter(|packet| packet.payload_type == 96)
        .map(|packet| packet.payload[0])
        .collect();
    assert!(!events.is_empty() && events.iter().all(|event| *event == 5), "{events:?}");
    assert!(world.events.iter().any(|(_, event)| matches!(event, BridgeEvent::Digit { digit: '5', .. })));
    world.command(BridgeCommand::SecondDigit { digit: '#', duration_ms: 100 });
    world.run(400 * MS);
    let events: Vec<u8> = world
        .heard
        .iter()
        .filter(|packet| packet.payload_type == 101)
        .map(|packet| packet.payload[0])
        .collect();
    assert!(events.contains(&11), "{events:?}");
}

#[test]
fn loss_on_one_leg_is_made_up_for_the_other() {
    let mut world = joined(Law::Mulaw, Law::Mulaw, 20, false);
    world.peer.trouble = true;
    world.run(3000 * MS);
    for pair in world.second_heard.windows(2) {
        assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(160), "without a gap");
    }
    assert!(world.second_heard.len() >= 145, "{}", world.second_heard.len());
}

#[test]
fn the_agent_of_a_transferred_caller_is_told_the_end_and_hears_nothing() {
    let mut world = joined(Law::Mulaw, Law::Mulaw, 20, false);
    assert_eq!(world.closed, Some(1000));
    world.run(500 * MS);
    world.say_text("HANGUP");
    world
        .bridge
        .handle_agent_closed(world.now, tandem_call::bridge::AgentSocketEnd::Closed { code: Some(1000) });
    world.drain();
    let ends = world.events.iter().any(|(_, event)| matches!(event, BridgeEvent::AgentHangUp { .. }));
    assert!(!ends, "the call is not the agent's to end");
    assert!(world.agent_got.is_empty());
    world.run(500 * MS);
    assert!(world.second_heard.len() > 40, "and the two talk on");
}

#[test]
fn an_agent_that_is_kept_waits_in_silence_and_has_the_caller_again() {
    let mut world = joined(Law::Mulaw, Law::Mulaw, 20, true);
    assert_eq!(world.closed, None);
    world.say(tandem_agent::FrameKind::Binary, &[0x11; 1600]);
    world.run(1000 * MS);
    let heard: Vec<u8> = world
        .agent_got
        .iter()
        .filter(|message| message.1 == tandem_agent::FrameKind::Binary)
        .flat_map(|message| message.2.iter().copied())
        .collect();
    assert!(heard.len() >= 900 * 8 && heard.iter().all(|byte| *byte == 0xFF), "silence keeps flowing");
    assert!(!is_piece(&[0x11; 160], &audio(&world.heard)), "nobody hears the agent");
    let reports = world.second_reports;
    world.command(BridgeCommand::Part);
    assert_eq!(world.second_reports, reports + 1, "a goodbye in RTCP");
    (world.second, world.second_heard) = (None, Vec::new());
    world.agent_got.clear();
    world.heard.clear();
    world.say(tandem_agent::FrameKind::Binary, &[0x11; 1600]);
    world.run(1000 * MS);
    assert!(is_piece(&[0x11; 160], &audio(&world.heard)), "the caller hears the agent again");
    let heard: Vec<u8> = world.agent_got.iter().flat_map(|message| message.2.iter().copied()).collect();
    assert!(is_piece(&heard[160..800], &world.peer.spoken), "and the agent the caller");
    assert!(world.second_heard.is_empty());
    assert!(world.bridge.statistics().second.is_some_and(|rtp| rtp.packets_received > 40));
}

#[test]
fn a_second_leg_that_falls_silent_is_reported_once() {
    let mut world = joined(Law::Mulaw, Law::Mulaw, 20, false);
    world.run(500 * MS);
    world.second.as_mut().unwrap().is_sending = false;
    world.run(61_000 * MS);
    let told = world.events.iter().filter(|(_, event)| *event == BridgeEvent::SecondSilent).count();
    assert_eq!(told, 1);
    assert!(world.second_heard.len() > 3000, "it hears the caller all the same");
}

#[test]
fn strangers_are_heard_by_neither_leg() {
    let mut world = joined(Law::Mulaw, Law::Mulaw, 20, false);
    world.run(500 * MS);
    let mut packet = vec![0x80, 0, 0, 9, 0, 0, 0, 9, 0, 0, 0, 9];
    packet.extend([0x22; 160]);
    world.bridge.handle_second_rtp(world.now, "198.51.100.66:9".parse().unwrap(), &packet);
    world.drain();
    world.run(100 * MS);
    assert!(!audio(&world.heard).windows(160).any(|piece| piece == [0x22; 160]));
    assert_eq!(world.bridge.statistics().second.map(|rtp| rtp.strangers), Some(1));
}

#[test]
fn the_agent_is_told_of_a_hold_once_each_way() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.run(100 * MS);
    let mut media = MediaParameters::plain("192.0.2.1:4000".parse().unwrap(), Law::Mulaw);
    for (direction, word) in [
        (tandem_media::Direction::RecvOnly, Some("CALL_HELD")),
        (tandem_media::Direction::Inactive, None),
        (tandem_media::Direction::SendRecv, Some("CALL_RESUMED")),
    ] {
        let before = world.texts().len();
        media.direction = direction;
        world.command(BridgeCommand::Media(media));
        world.run(100 * MS);
        let told: Vec<String> = world.texts().drain(before..).map(|(_, text)| text).collect();
        assert_eq!(told.first().map(String::as_str), word, "{told:?}");
    }
}
