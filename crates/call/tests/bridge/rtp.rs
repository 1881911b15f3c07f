//! The caller's side: start, packet times, hold, law changes, silence, keys.

use std::time::Duration;

use tandem_agent::FrameKind;
use tandem_call::bridge::{BridgeCommand, BridgeEvent};
use tandem_media::session::SecurityTrouble;
use tandem_media::srtp::{KeyMaterial, MASTER_OCTETS_MAX, MasterKey, SrtpKeys, Suite};
use tandem_media::{Direction, Law, MediaParameters, g711};

use crate::agents::{asterisk_echo, twilio_mark, twilio_media};
use crate::world::{MS, World, plan, silent};

const ASTERISK: &str = r#"{"dialect":"asterisk"}"#;
const TWILIO: &str = r#"{"dialect":"twilio"}"#;

fn media(law: Law) -> MediaParameters {
    plan(ASTERISK, law).media.unwrap()
}

#[test]
fn nothing_is_sent_before_the_start_and_what_the_agent_said_is_kept() {
    let mut world = World::new(plan(ASTERISK, Law::Mulaw), silent());
    world.say(FrameKind::Binary, &[0x12; 1600]);
    world.run(500 * MS);
    assert!(world.heard.is_empty() && world.agent_got.is_empty());
    world.command(BridgeCommand::Start);
    world.run(300 * MS);
    assert_eq!(world.caller_heard().iter().filter(|byte| **byte == 0x12).count(), 1600);
}

#[test]
fn the_start_messages_come_first_and_audio_follows_without_waiting_for_rtp() {
    let mut world = World::new(plan(TWILIO, Law::Mulaw), silent());
    world.peer.is_sending = false;
    world.command(BridgeCommand::Start);
    world.run(100 * MS);
    let texts = world.texts();
    assert!(texts[0].1.contains(r#""event":"connected""#));
    assert!(texts[1].1.contains(r#""event":"start""#));
    for (index, (_, text)) in texts[2..].iter().enumerate() {
        assert!(text.contains(&format!(r#""chunk":"{}","timestamp":"{}""#, index + 1, index * 20)), "{text}");
    }
    assert!(texts.len() >= 2 + 4, "{}", texts.len());
}

/// What the agent has been told of the caller, in order.
fn told_audio(world: &World) -> Vec<u8> {
    let frames = world.agent_got.iter().filter(|frame| frame.1 == FrameKind::Binary);
    frames.flat_map(|frame| frame.2.iter().copied()).collect()
}

/// A caller speaks from the 200 on; the ACK comes when it comes. Nothing is told before, and the first word is whole.
#[test]
fn what_the_caller_says_before_the_start_is_told_whole_and_at_once() {
    for late_ms in [10, 30, 200, 1500] {
        let mut world = World::new(plan(ASTERISK, Law::Mulaw), silent());
        world.run(MS * late_ms);
        assert!(world.agent_got.is_empty());
        world.command(BridgeCommand::Start);
        let at_once = told_audio(&world).len() / 160;
        assert_eq!(at_once, (late_ms as usize + 13) / 20, "{late_ms} ms: all that had come");
        world.run(Duration::from_secs(2));
        let told = told_audio(&world);
        assert!(told[..] == world.peer.spoken[..told.len()], "{late_ms} ms: from the first sample on");
        assert!(world.peer.spoken.len() - told.len() <= 160);
        let statistics = world.bridge.statistics();
        assert!(statistics.inbound_delay.max() <= MS, "the wait for the ACK is no delay of ours");
    }
}

/// A key pressed before the ACK, whose end is lost: nothing is to be done until the start, and then it is told.
#[test]
fn a_key_pressed_before_the_start_waits_for_it() {
    let mut world = World::new(plan(ASTERISK, Law::Mulaw), silent());
    world.run(100 * MS);
    world.peer.press(5, 100);
    world.run(100 * MS);
    world.peer.is_sending = false;
    assert!(world.bridge.poll_timeout().is_none_or(|at| at > world.now + Duration::from_secs(5)));
    world.run(2000 * MS);
    world.command(BridgeCommand::Start);
    world.run(20 * MS);
    assert!(
        world.texts().iter().any(|(_, text)| text.starts_with("DTMF_END digit:5")),
        "{:?}",
        world.texts()
    );
}

/// Two seconds are kept: in that time an ACK that was lost twice is there.
#[test]
fn of_a_long_wait_the_last_two_seconds_are_told() {
    let mut world = World::new(plan(ASTERISK, Law::Mulaw), silent());
    world.run(Duration::from_secs(7));
    let spoken = world.peer.spoken.len();
    world.command(BridgeCommand::Start);
    assert!(told_audio(&world)[..] == world.peer.spoken[spoken - 16_000..]);
    assert_eq!(world.bridge.statistics().rtp.early_dropped, 250);
    world.run(Duration::from_secs(1));
    assert!(told_audio(&world)[..] == world.peer.spoken[spoken - 16_000..]);
}

#[test]
fn caller_audio_is_continuous_whatever_the_peers_packet_time() {
    for packet_ms in [10, 20, 30, 40, 60] {
        let mut world = World::new(plan(ASTERISK, Law::Mulaw), silent());
        world.peer.packet_ms = packet_ms;
        world.peer.period = MS * packet_ms;
        world.command(BridgeCommand::Start);
        world.run(Duration::from_secs(3));
        let frames: Vec<_> = world.agent_got.iter().filter(|frame| frame.1 == FrameKind::Binary).collect();
        assert!(frames.iter().all(|frame| frame.2.len() == 160));
        assert!(frames.len() >= 143, "{packet_ms} ms: {}", frames.len());
        let got: Vec<u8> = frames.iter().flat_map(|frame| frame.2.iter().copied()).collect();
        let spoken = &world.peer.spoken;
        let start = got.windows(80).position(|window| *window == spoken[..80]).unwrap();
        let length = (got.len() - start).min(spoken.len());
        assert!(got[start..start + length] == spoken[..length], "{packet_ms} ms");
        assert!(spoken.len() - length <= 8 * 120, "{packet_ms} ms");
    }
}

#[test]
fn packets_are_as_long_as_negotiated() {
    for ptime_ms in [10, 30, 40, 60] {
        let mut wanted = plan(ASTERISK, Law::Mulaw);
        wanted.media = Some(MediaParameters { ptime_ms, ..media(Law::Mulaw) });
        let mut world = World::new(wanted, silent());
        world.command(BridgeCommand::Start);
        world.say(FrameKind::Binary, &[0x12; 8000]);
        world.run(Duration::from_secs(2));
        assert!(world.heard.iter().all(|packet| packet.payload.len() == usize::from(ptime_ms) * 8));
        assert!(world.heard.windows(2).all(|pair| pair[1].at - pair[0].at == MS * u32::from(ptime_ms)));
        assert_eq!(world.caller_heard().iter().filter(|byte| **byte == 0x12).count(), 8000);
    }
}

#[test]
fn messages_to_the_agent_are_as_long_as_configured() {
    for (frame_ms, count) in [(10, 198), (40, 48), (100, 18)] {
        let config = format!(r#"{{"dialect":"asterisk","frame_ms":{frame_ms}}}"#);
        let mut world = World::started(&config, Law::Mulaw, silent());
        world.run(Duration::from_secs(2));
        let frames: Vec<_> = world.agent_got.iter().filter(|frame| frame.1 == FrameKind::Binary).collect();
        assert!(frames.iter().all(|frame| frame.2.len() == frame_ms * 8));
        assert!(frames.len() >= count, "{frame_ms} ms: {}", frames.len());
    }
}

#[test]
fn the_laws_are_transcoded_when_they_differ() {
    let mut world = World::started(ASTERISK, Law::Alaw, asterisk_echo());
    world.run(Duration::from_secs(2));
    let frames: Vec<u8> = world
        .agent_got
        .iter()
        .filter(|frame| frame.1 == FrameKind::Binary)
        .flat_map(|frame| frame.2.clone())
        .collect();
    let expected: Vec<u8> =
        world.peer.spoken[..8000].iter().map(|code| g711::transcode(Law::Alaw, Law::Mulaw, *code)).collect();
    let start = frames.windows(80).position(|window| *window == expected[..80]).unwrap();
    assert!(frames[start..start + 8000] == expected);
    let heard = world.caller_heard();
    let back: Vec<u8> = expected.iter().map(|code| g711::transcode(Law::Mulaw, Law::Alaw, *code)).collect();
    assert!(heard.windows(8000).any(|window| window == back));
}

#[test]
fn a_renegotiated_law_changes_what_is_queued_too() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    world.say(FrameKind::Binary, &[0x12; 1600]);
    world.run(100 * MS);
    world.command(BridgeCommand::Media(media(Law::Alaw)));
    world.run(200 * MS);
    let alaw = g711::transcode(Law::Mulaw, Law::Alaw, 0x12);
    let after: Vec<_> = world.heard.iter().filter(|packet| packet.payload_type == 8).collect();
    assert_eq!(
        after.iter().flat_map(|packet| &packet.payload).filter(|byte| **byte == alaw).count(),
        1600 - 5 * 160
    );
    assert!(after.last().unwrap().payload.iter().all(|byte| *byte == Law::Alaw.silence()));
}

/// RFC 3264, 8.4: a held party sends nothing to one that is not receiving. The agent is not told; it hears silence.
#[test]
fn a_caller_who_holds_is_sent_nothing_and_the_agent_hears_silence() {
    for direction in [Direction::RecvOnly, Direction::Inactive] {
        let mut world = World::started(ASTERISK, Law::Mulaw, silent());
        world.run(Duration::from_secs(1));
        world.peer.is_sending = false;
        world.command(BridgeCommand::Media(MediaParameters { direction, ..media(Law::Mulaw) }));
        let (sent, got) = (world.heard.len(), world.agent_got.len());
        let timestamp = world.heard.last().unwrap().timestamp;
        world.run(Duration::from_secs(2));
        assert_eq!(world.heard.len(), sent);
        assert!((97..=102).contains(&(world.agent_got.len() - got)), "{}", world.agent_got.len() - got);
        assert!(world.agent_got.last().unwrap().2.iter().all(|byte| *byte == 0xff));
        world.command(BridgeCommand::Media(media(Law::Mulaw)));
        world.run(Duration::from_secs(1));
        let resumed = &world.heard[sent];
        assert_eq!(resumed.timestamp.wrapping_sub(timestamp), 101 * 160, "the media clock ran on");
        assert_eq!(world.heard.len(), sent + 50);
    }
}

#[test]
fn an_offerless_call_starts_when_its_media_is_known() {
    let mut wanted = plan(ASTERISK, Law::Mulaw);
    wanted.media = None;
    let mut world = World::new(wanted, asterisk_echo());
    world.run(200 * MS);
    world.command(BridgeCommand::Media(media(Law::Mulaw)));
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(1));
    assert!(world.heard.len() >= 50);
    assert!(world.caller_heard().windows(160).any(|window| *window == world.peer.spoken[1600..1760]));
}

#[test]
fn the_peers_silence_is_reported_once_and_again_after_it_came_back() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.run(Duration::from_secs(5));
    world.peer.is_sending = false;
    world.run(Duration::from_secs(100));
    let silences = |world: &World| {
        world
            .events
            .iter()
            .filter(|event| event.1 == BridgeEvent::MediaTimeout)
            .map(|event| event.0)
            .collect::<Vec<_>>()
    };
    assert_eq!(silences(&world).len(), 1);
    let after = silences(&world)[0] - world.start;
    assert!(after > Duration::from_secs(34) && after <= Duration::from_secs(35), "{after:?}");
}

#[test]
fn a_caller_on_hold_owes_no_audio() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    world.command(BridgeCommand::Media(MediaParameters {
        direction: Direction::Inactive,
        ..media(Law::Mulaw)
    }));
    world.run(Duration::from_secs(100));
    assert!(world.events.iter().all(|event| event.1 != BridgeEvent::MediaTimeout));
    world.command(BridgeCommand::Media(media(Law::Mulaw)));
    world.run(Duration::from_secs(29));
    assert!(world.events.iter().all(|event| event.1 != BridgeEvent::MediaTimeout));
    world.run(Duration::from_secs(2));
    assert!(world.events.iter().any(|event| event.1 == BridgeEvent::MediaTimeout));
}

#[test]
fn the_first_packet_latches_and_is_reported() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.address = "198.51.100.9:6000".parse().unwrap();
    world.run(500 * MS);
    let latched: Vec<_> = world
        .events
        .iter()
        .filter(|event| matches!(event.1, BridgeEvent::Latched { .. }))
        .map(|event| event.1.clone())
        .collect();
    assert_eq!(latched, [BridgeEvent::Latched { source: world.peer.address }]);
    assert_eq!(world.heard.last().unwrap().to, world.peer.address);
}

#[test]
fn a_key_told_by_sip_reaches_the_agent_as_one_heard_in_rtp() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.command(BridgeCommand::Digit { digit: '7', duration_ms: 100 });
    assert!(world.texts().pop().unwrap().1.starts_with("DTMF_END digit:7 "));
    assert_eq!(world.events.pop().unwrap().1, BridgeEvent::Digit { digit: '7', duration_ms: 100 });
}

/// RFC 4733, 2.5.1.3 and 2.5.1.4: one digit for all packets of an event, told when it ends.
#[test]
fn a_key_heard_in_rtp_is_told_once_and_its_audio_stays_continuous() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.run(1000 * MS);
    let got = world.agent_got.len();
    world.peer.press(5, 10);
    world.run(1000 * MS);
    let told: Vec<_> = world.texts().into_iter().filter(|(_, text)| text.starts_with("DTMF_END")).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].1.starts_with("DTMF_END digit:5 "));
    let keys =
        world.events.iter().filter(|event| matches!(event.1, BridgeEvent::Digit { digit: '5', .. })).count();
    assert_eq!(keys, 1);
    let audio = world.agent_got[got..].iter().filter(|frame| frame.1 == FrameKind::Binary).count();
    assert!((48..=52).contains(&audio), "{audio} frames of audio in a second with a key in it");
}

#[test]
fn digits_asked_for_by_the_agent_or_the_engine_leave_as_events() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.say_text(r#"{"command":"SEND_DTMF","digits":"1#"}"#);
    world.command(BridgeCommand::SendDtmf { digits: "9".into(), duration_ms: 100 });
    world.run(2000 * MS);
    let mut ended = Vec::new();
    for packet in world.heard.iter().filter(|packet| packet.payload_type == 101) {
        assert_eq!(packet.payload.len(), 4);
        let is_end = packet.payload[1] & 0x80 != 0;
        if is_end && ended.last() != Some(&(packet.timestamp, packet.payload[0])) {
            ended.push((packet.timestamp, packet.payload[0]));
        }
    }
    assert_eq!(ended.iter().map(|(_, event)| *event).collect::<Vec<_>>(), [1, 11, 9]);
    assert!(world.heard.windows(2).all(|pair| pair[1].sequence == pair[0].sequence.wrapping_add(1)));
}

/// The audio that was due while digits were sent comes after them, sample by sample; marks are told when theirs has left.
#[test]
fn agent_audio_waits_for_digits_and_loses_nothing() {
    let mut world = World::started(TWILIO, Law::Mulaw, silent());
    world.peer.is_sending = false;
    world.run(1010 * MS);
    let speech: Vec<u8> = (0..8000_u32).map(|at| (at * 37 % 120) as u8 + 1).collect();
    world.say_text(&twilio_media(&speech));
    world.say_text(&twilio_mark("end"));
    world.run(300 * MS);
    world.command(BridgeCommand::SendDtmf { digits: "15".into(), duration_ms: 100 });
    world.run(3000 * MS);
    let digits = world.heard.iter().filter(|packet| packet.payload_type == 101).count();
    // Each digit lasts five packets, of which the last comes three times.
    assert_eq!(digits, 14);
    let audio: Vec<u8> = world
        .heard
        .iter()
        .filter(|packet| packet.payload_type == 0)
        .flat_map(|packet| packet.payload.iter().copied())
        .filter(|byte| *byte != Law::Mulaw.silence())
        .collect();
    assert!(audio == speech, "{} of {} samples", audio.len(), speech.len());
    let last = world.heard.iter().rposition(|packet| packet.payload.contains(&speech[7999])).unwrap();
    let mark =
        world.texts().into_iter().find(|(_, text)| text.contains("\"end\"")).expect("the mark is told").0;
    assert_eq!(mark, world.heard[last].at - world.start + 20 * MS);
    assert_eq!(world.bridge.statistics().heard_ms, 1000);
}

/// An agent that never stops sending is late by what its audio waited, and catches up where it is silent.
#[test]
fn the_wait_for_digits_is_made_up_in_silence_and_bounded() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    for frame in 0..1500_u32 {
        let is_pause = frame % 50 >= 25;
        let audio = [if is_pause { 0xff } else { 0x12 }; 160];
        world.post(world.start + MS * (20 * frame + 3), FrameKind::Binary, audio.to_vec());
    }
    world.run(Duration::from_secs(1));
    world.command(BridgeCommand::SendDtmf { digits: "12345".into(), duration_ms: 160 });
    world.run(Duration::from_secs(3));
    let queued = |world: &World| world.bridge.statistics().queue_peak_ms;
    assert!((1000..1150).contains(&queued(&world)), "five times 200 ms: {}", queued(&world));
    world.run(Duration::from_secs(27));
    let words = played_words(&world);
    assert_eq!(words, 30 * 25 * 160, "no word is lost");
    let last = world.heard.iter().rposition(|packet| packet.payload.contains(&0x12)).unwrap();
    let ended = world.heard[last].at - world.start;
    assert!(ended < Duration::from_millis(29_500 + 120), "in time again: {ended:?}");

    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    world.say(FrameKind::Binary, &[0x12; 160_000]);
    world.run(Duration::from_secs(1));
    world.command(BridgeCommand::SendDtmf { digits: "9".repeat(3), duration_ms: 4000 });
    world.run(Duration::from_secs(30));
    let statistics = world.bridge.statistics();
    assert!((7_000..7_200).contains(&statistics.overflow_ms), "{}", statistics.overflow_ms);
    assert_eq!(played_words(&world) as u64 / 8 + statistics.overflow_ms, 20_000);
    let overflows = world.events.iter().filter(|event| matches!(event.1, BridgeEvent::QueueOverflow { .. }));
    assert!(overflows.count() >= 1, "and it is said");
}

fn played_words(world: &World) -> usize {
    let audio = world.heard.iter().filter(|packet| packet.payload_type == 0);
    audio.flat_map(|packet| &packet.payload).filter(|byte| **byte == 0x12).count()
}

#[test]
fn digits_that_cannot_be_sent_are_refused_aloud() {
    let mut wanted = plan(ASTERISK, Law::Mulaw);
    wanted.media = Some(MediaParameters { telephone_event: None, ..media(Law::Mulaw) });
    let mut world = World::new(wanted, silent());
    world.command(BridgeCommand::Start);
    world.say_text(r#"{"command":"SEND_DTMF","digits":"1"}"#);
    assert!(world.texts().pop().unwrap().1.contains("ERROR"));
    assert!(world.events.iter().any(|event| event.1 == BridgeEvent::DigitRefused { digit: '1' }));
    assert_eq!(world.bridge.statistics().protocol_errors, 0);
}

/// Lost, swapped and doubled packets cost the agent no time: a frame for each 20 ms, nothing twice.
#[test]
fn a_bad_network_leaves_the_agents_stream_continuous() {
    let mut world = World::started(TWILIO, Law::Mulaw, silent());
    world.peer.trouble = true;
    world.run(Duration::from_secs(20));
    let frames: Vec<_> =
        world.texts().into_iter().filter(|(_, text)| text.contains(r#""event":"media""#)).collect();
    assert!((985..=1005).contains(&frames.len()), "{}", frames.len());
    for (index, (_, text)) in frames.iter().enumerate() {
        assert!(text.contains(&format!(r#""timestamp":"{}""#, index * 20)), "{text}");
    }
    let statistics = world.bridge.statistics();
    assert!(statistics.rtp.packets_lost > 10 && statistics.rtp.concealed_frames > 10);
    assert!(statistics.inbound_delay.max() < 250 * MS, "{:?}", statistics.inbound_delay.max());
}

/// A carrier that agreed on SRTP and sends in the clear is not heard, and it is told once.
#[test]
fn media_in_the_clear_where_encryption_was_agreed_is_told() {
    let key = |octet| MasterKey::ours(Suite::AesCm128HmacSha1_80, &KeyMaterial([octet; MASTER_OCTETS_MAX]));
    let mut plan = plan(ASTERISK, Law::Mulaw);
    let media = plan.media.as_mut().unwrap();
    media.srtp = Some(SrtpKeys { local: key(1), remote: key(2) });
    let mut world = World::new(plan, silent());
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(3));
    let events = world.events.iter().map(|(_, event)| event);
    let told: Vec<_> = events.filter(|event| matches!(event, BridgeEvent::MediaTroubled { .. })).collect();
    assert_eq!(told, [&BridgeEvent::MediaTroubled { trouble: SecurityTrouble::InTheClear }]);
    let statistics = world.bridge.statistics().rtp;
    assert!(statistics.refused_in_the_clear > 100, "{statistics:?}");
    assert_eq!((statistics.packets_received, statistics.latched), (0, None));
    assert!(told_audio(&world).iter().all(|code| *code == 0xFF), "silence is all that the agent hears");
}

#[test]
fn a_call_in_which_nobody_speaks_is_reported_once_its_agents_patience_is_over() {
    let plan = tandem_call::bridge::BridgePlan {
        silence: Some(Duration::from_secs(10)),
        ..plan(ASTERISK, Law::Mulaw)
    };
    let mut world = World::new(plan, silent());
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(20));
    let reports = |world: &World| {
        let is_report = |event: &BridgeEvent| matches!(event, BridgeEvent::NobodySpeaks { .. });
        world
            .events
            .iter()
            .filter(|event| is_report(&event.1))
            .map(|event| event.0 - world.start)
            .collect::<Vec<_>>()
    };
    assert_eq!(reports(&world), [], "the caller speaks");
    world.peer.is_sending = false;
    world.run(Duration::from_secs(9));
    world.command(BridgeCommand::Digit { digit: '5', duration_ms: 100 });
    world.run(Duration::from_secs(9));
    assert_eq!(reports(&world), [], "a key is a sign of life");
    world.command(BridgeCommand::Media(MediaParameters {
        direction: Direction::Inactive,
        ..media(Law::Mulaw)
    }));
    world.run(Duration::from_secs(60));
    assert_eq!(reports(&world), [], "who is held is not waited for");
    world.command(BridgeCommand::Media(media(Law::Mulaw)));
    world.run(Duration::from_secs(60));
    let told = reports(&world);
    assert_eq!(told.len(), 1, "{told:?}");
    assert!((98..=109).contains(&told[0].as_secs()), "{told:?}");
}
