//! Audio truth: what the caller says comes back through an echo agent sample by sample.

use std::time::Duration;

use tandem_call::bridge::BridgeCommand;
use tandem_media::{Law, g711};

use crate::agents::{asterisk_echo, bolna_echo, twilio_echo};
use crate::world::{MS, Script, US, World, plan};

/// The caller's words as heard back: all but the silence before and after. Checks that nothing is missing,
/// repeated or altered in between, and gives the delay of the first and of the last word.
fn assert_echoed(world: &World) {
    let heard = world.caller_heard();
    let silence = world.peer.law.silence();
    let first = heard.iter().position(|byte| *byte != silence).expect("something was heard");
    let words = &heard[first..];
    let spoken = &world.peer.spoken[..];
    let length = words.iter().rposition(|byte| *byte != silence).unwrap() + 1;
    let differs = words[..length].iter().zip(spoken).position(|(heard, spoken)| heard != spoken);
    assert_eq!(differs, None, "first differing sample of {length}");
    assert!(spoken.len() - length < 8 * 150, "{} of {} came back", length, spoken.len());
}

fn assert_rtp_is_regular(world: &World, tolerance: Duration) {
    for pair in world.heard.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
        assert_eq!(pair[1].timestamp, pair[0].timestamp.wrapping_add(pair[0].payload.len() as u32));
        let gap = pair[1].at - pair[0].at;
        let nominal = MS * pair[0].payload.len() as u32 / 8;
        assert!(gap.abs_diff(nominal) <= tolerance, "{gap:?}");
    }
}

fn echo(config: &str, law: Law, agent: Script) -> World {
    let mut world = World::started(config, law, agent);
    world.run(Duration::from_secs(10));
    assert_echoed(&world);
    assert_rtp_is_regular(&world, Duration::ZERO);
    world
}

#[test]
fn echo_is_bit_exact_in_every_dialect_when_the_law_is_the_agents() {
    echo(r#"{"dialect":"asterisk"}"#, Law::Mulaw, asterisk_echo());
    echo(r#"{"dialect":"asterisk","encoding":"alaw"}"#, Law::Alaw, asterisk_echo());
    echo(r#"{"dialect":"twilio"}"#, Law::Mulaw, twilio_echo());
    echo(r#"{"dialect":"twilio","encoding":"alaw"}"#, Law::Alaw, twilio_echo());
}

/// G.711 decodes to linear samples that encode to itself, so 8 kHz linear is as exact.
#[test]
fn echo_is_bit_exact_over_linear_audio_at_the_trunks_rate() {
    for law in [Law::Mulaw, Law::Alaw] {
        echo(r#"{"dialect":"asterisk","encoding":"slin"}"#, law, asterisk_echo());
        echo(r#"{"dialect":"bolna","encoding":"slin"}"#, law, bolna_echo(8000));
    }
}

/// Through 16 kHz (and 24 kHz back) a tone keeps its level, and what is added to it is G.711's own noise.
#[test]
fn resampled_echo_keeps_level_and_purity() {
    for (config, agent) in [
        (r#"{"dialect":"asterisk","encoding":"slin16"}"#, asterisk_echo()),
        (r#"{"dialect":"bolna"}"#, bolna_echo(16_000)),
    ] {
        let mut world = World::new(plan(config, Law::Mulaw), agent);
        world.peer.is_tone = true;
        world.command(BridgeCommand::Start);
        world.run(Duration::from_secs(5));
        let mut heard = Vec::new();
        g711::decode_into(Law::Mulaw, &world.caller_heard()[16_000..], &mut heard);
        // Fit the tone: what the fit leaves over is noise.
        let (mut sine, mut cosine, mut power) = (0.0, 0.0, 0.0);
        for (index, sample) in heard.iter().enumerate() {
            let phase = index as f64 * std::f64::consts::TAU / 8.0;
            sine += f64::from(*sample) * phase.sin();
            cosine += f64::from(*sample) * phase.cos();
            power += f64::from(*sample).powi(2);
        }
        let count = heard.len() as f64;
        let tone = 2.0 * (sine.powi(2) + cosine.powi(2)) / count;
        let ratio_db = 10.0 * (tone / (power - tone)).log10();
        let level_db = 20.0 * ((2.0 * tone / count).sqrt() / 8000.0).log10();
        assert!(ratio_db > 34.0, "{config}: signal to noise {ratio_db:.1} dB");
        assert!(level_db.abs() < 0.2, "{config}: level {level_db:.2} dB");
    }
}

#[test]
fn added_delay_is_counted_both_ways() {
    let world = echo(r#"{"dialect":"asterisk"}"#, Law::Mulaw, asterisk_echo());
    let statistics = world.bridge.statistics();
    assert!(statistics.inbound_delay.count() > 490, "{}", statistics.inbound_delay.count());
    assert!(statistics.inbound_delay.percentile(99.0) <= MS);
    assert!(statistics.outbound_delay.count() > 490);
    assert!(statistics.outbound_delay.max() <= 20 * MS);
}

/// Two clocks 200 ppm apart are 720 ms apart after an hour. Nothing may be lost or repeated for it, not a sample, so
/// nothing can click; and the delay at the end may not be another than at the start by more than the band in which the
/// egress clock leaves it alone.
#[test]
fn an_hour_of_skewed_callers_loses_repeats_and_delays_nothing() {
    for (period_ns, name) in [(19_996_000, "fast caller"), (20_004_000, "slow caller")] {
        let mut world = World::new(plan(r#"{"dialect":"asterisk"}"#, Law::Mulaw), asterisk_echo());
        world.peer.period = Duration::from_nanos(period_ns);
        world.command(BridgeCommand::Start);
        world.run(Duration::from_secs(3_600));
        assert_echoed(&world);
        assert_rtp_is_regular(&world, 10 * US);
        let heard = world.caller_heard();
        let queued =
            world.peer.spoken.len() - (heard.len() - heard.iter().position(|byte| *byte != 0xff).unwrap());
        assert!(queued < 8 * 80, "{name}: {} ms behind", queued / 8);
        let statistics = world.bridge.statistics();
        assert_eq!(statistics.underruns, 0, "{name}");
        assert_eq!(statistics.ticks_skipped, 0, "{name}");
    }
}

/// An agent whose own clock is off, speaking without a pause for an hour to a caller whose clock is off the other way.
#[test]
fn an_hour_of_skewed_agents_loses_repeats_and_delays_nothing() {
    for (agent_ns, caller_ns) in [(19_996_000_u64, 20_004_000), (20_004_000, 19_996_000)] {
        let mut world = World::new(plan(r#"{"dialect":"asterisk"}"#, Law::Mulaw), crate::world::silent());
        world.peer.period = Duration::from_nanos(caller_ns);
        world.command(BridgeCommand::Start);
        let (mut said, mut noise) = (Vec::new(), 5_u32);
        let (begin, mut chunk) = (world.now + 3 * MS, 0_u64);
        for _ in 0..3_600 {
            // By the agent's clock, not by ours: none may come later than it was said.
            loop {
                let at = begin + Duration::from_nanos(agent_ns * chunk);
                if at >= world.now + Duration::from_secs(1) {
                    break;
                }
                let audio: Vec<u8> = std::iter::repeat_with(|| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    // Never silence, so that a gap shows.
                    0x80 | (noise >> 24) as u8 & 0x3F
                })
                .take(160)
                .collect();
                said.extend_from_slice(&audio);
                world.post(at, tandem_agent::FrameKind::Binary, audio);
                chunk += 1;
            }
            world.run(Duration::from_secs(1));
        }
        let heard = world.caller_heard();
        let first = heard.iter().position(|byte| *byte != 0xff).expect("something was heard");
        let words = &heard[first..];
        let differs = words.iter().zip(&said).position(|(heard, said)| heard != said);
        assert_eq!(differs, None, "first differing sample of an agent with {agent_ns} ns");
        assert_rtp_is_regular(&world, 11 * US);
        // What the agent has said and the caller not heard: as much at the end as at the start.
        let behind = said.len().saturating_sub(words.len());
        assert!(behind < 8 * 100, "{} ms behind", behind / 8);
        assert_eq!(world.bridge.statistics().underruns, 0);
    }
}
