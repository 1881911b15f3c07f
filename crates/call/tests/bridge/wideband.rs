//! G.722 on the trunk: what passes of its second octave to each kind of agent and back.

use std::time::Duration;

use tandem_call::bridge::{BridgeCommand, BridgeEvent, BridgePlan};
use tandem_media::{Codec, Law, g711, g722};

use crate::agents::{asterisk_echo, twilio_echo};
use crate::world::{MS, Script, World, plan, silent};

fn wideband(config: &str) -> BridgePlan {
    let mut plan = plan(config, Law::Mulaw);
    if let Some(media) = &mut plan.media {
        (media.codec, media.payload_type) = (Codec::G722, 9);
    }
    plan
}

/// A caller who whistles.
fn whistle(frequency_hz: f64) -> Box<dyn FnMut() -> Vec<u8>> {
    let (mut encoder, mut at) = (g722::Encoder::default(), 0_u32);
    Box::new(move || {
        let samples: Vec<i16> = (0..320)
            .map(|_| {
                at += 1;
                (6_000.0 * (std::f64::consts::TAU * frequency_hz * f64::from(at) / 16_000.0).sin()) as i16
            })
            .collect();
        let mut payload = Vec::new();
        encoder.encode(&samples, &mut payload);
        payload
    })
}

fn call(plan: BridgePlan, agent: Script, frequency_hz: f64) -> World {
    let mut world = World::new(plan, agent);
    world.peer.payload_type = 9;
    world.peer.payloads = Some(whistle(frequency_hz));
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(5));
    world
}

/// Level of the tone against the one whistled, and of the rest against the tone, in decibels.
fn judge(samples: &[i16], frequency_hz: f64, rate_hz: f64) -> (f64, f64) {
    let (mut sine, mut cosine, mut power) = (0.0, 0.0, 0.0);
    for (at, sample) in samples.iter().enumerate() {
        let phase = std::f64::consts::TAU * frequency_hz * at as f64 / rate_hz;
        sine += f64::from(*sample) * phase.sin();
        cosine += f64::from(*sample) * phase.cos();
        power += f64::from(*sample).powi(2);
    }
    let count = samples.len() as f64;
    let tone = 2.0 * (sine.powi(2) + cosine.powi(2)) / count;
    (10.0 * (tone / count / 18e6).log10(), 10.0 * (tone / (power - tone)).log10())
}

fn caller_heard(world: &World) -> Vec<i16> {
    let mut decoder = g722::Decoder::default();
    let mut samples = Vec::new();
    for packet in &world.heard {
        assert_eq!((packet.payload_type, packet.payload.len()), (9, 160));
        decoder.decode(&packet.payload, |sample| samples.push(sample));
    }
    assert!(world.heard.windows(2).all(|pair| pair[1].timestamp == pair[0].timestamp.wrapping_add(160)));
    samples[16_000..48_000].to_vec()
}

#[test]
fn an_agent_at_16_khz_or_more_hears_and_is_heard_in_wideband() {
    for encoding in ["slin16", "slin24", "slin48"] {
        let config = format!(r#"{{"dialect":"asterisk","encoding":"{encoding}"}}"#);
        let world = call(wideband(&config), asterisk_echo(), 5_000.0);
        let (level, purity) = judge(&caller_heard(&world), 5_000.0, 16_000.0);
        assert!(level.abs() < 1.0, "{encoding}: {level:.2} dB");
        assert!(purity > 8.0, "{encoding}: {purity:.1} dB");
        assert_eq!(world.bridge.statistics().underruns, 0);
    }
}

#[test]
fn an_agent_of_g711_gets_the_telephone_band_of_it() {
    let world = call(wideband(r#"{"dialect":"twilio"}"#), twilio_echo(), 1_000.0);
    let (level, purity) = judge(&caller_heard(&world), 1_000.0, 16_000.0);
    assert!(level.abs() < 0.5, "{level:.2} dB");
    assert!(purity > 22.0, "{purity:.1} dB");
    // What is above the band does not come down into it.
    let world = call(wideband(r#"{"dialect":"asterisk"}"#), silent(), 6_000.0);
    let mut samples = Vec::new();
    for (_, kind, bytes) in world.agent_got.iter().skip(50) {
        if *kind == tandem_agent::FrameKind::Binary {
            g711::decode_into(Law::Mulaw, bytes, &mut samples);
        }
    }
    let power = samples.iter().map(|sample| f64::from(*sample).powi(2)).sum::<f64>() / samples.len() as f64;
    assert!(10.0 * (power / 18e6).log10() < -25.0, "{power}");
}

/// An INVITE without an offer, and a call that we place: the codec is known when the agent is there already.
#[test]
fn media_that_is_known_late_is_wideband_all_the_same() {
    let mut plan = wideband(r#"{"dialect":"asterisk","encoding":"slin16"}"#);
    let media = plan.media.take().unwrap();
    let mut world = World::new(plan, asterisk_echo());
    world.command(BridgeCommand::Media(media));
    world.peer.payload_type = 9;
    world.peer.payloads = Some(whistle(5_000.0));
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(5));
    let (level, _) = judge(&caller_heard(&world), 5_000.0, 16_000.0);
    assert!(level.abs() < 1.0, "{level:.2} dB");
}

/// Marks, flushes and heard positions are counted in time, whatever the form of the queue.
#[test]
fn what_was_heard_is_counted_in_milliseconds() {
    let mut world = World::new(wideband(r#"{"dialect":"asterisk","encoding":"slin16"}"#), silent());
    world.peer.is_sending = false;
    world.command(BridgeCommand::Start);
    world.run(100 * MS);
    world.say(tandem_agent::FrameKind::Binary, &[7; 32 * 3_000]);
    world.run(1_000 * MS);
    world.say_text("FLUSH_MEDIA");
    let (dropped, heard) = world
        .events
        .iter()
        .find_map(|(_, event)| match event {
            BridgeEvent::Flushed { dropped_ms, heard } => Some((*dropped_ms, heard.ms)),
            _ => None,
        })
        .unwrap();
    assert_eq!(u64::from(dropped) + heard, 3_000);
    assert!((980..=1_020).contains(&heard), "{heard} ms");
    let statistics = world.bridge.statistics();
    assert_eq!((statistics.heard_ms, statistics.queue_peak_ms), (heard, 3_000));
}

#[test]
fn a_renegotiation_to_g711_and_back_keeps_the_agent_s_audio() {
    let mut world = call(wideband(r#"{"dialect":"asterisk","encoding":"slin16"}"#), asterisk_echo(), 1_000.0);
    world.command(BridgeCommand::Media(plan("{\"dialect\":\"asterisk\"}", Law::Alaw).media.unwrap()));
    world.peer.payload_type = 8;
    world.peer.payloads = None;
    (world.peer.law, world.peer.is_tone) = (Law::Alaw, true);
    let before = world.heard.len();
    world.run(Duration::from_secs(3));
    let mut samples = Vec::new();
    for packet in &world.heard[before + 50..] {
        assert_eq!(packet.payload_type, 8);
        g711::decode_into(Law::Alaw, &packet.payload, &mut samples);
    }
    let (_, purity) = judge(&samples[..16_000], 1_000.0, 8_000.0);
    assert!(purity > 30.0, "{purity:.1} dB");
    assert_eq!(world.bridge.statistics().ticks_skipped, 0);
}
