//! What a call's media path tells of itself: who was first heard and when, and why one side is not.

use std::time::Duration;

use tandem_agent::FrameKind;
use tandem_call::MediaSummary;
use tandem_call::bridge::{BridgeCommand, BridgeEvent, OneWay};
use tandem_media::srtp::{KeyMaterial, MASTER_OCTETS_MAX, MasterKey, SrtpKeys, Suite};
use tandem_media::{Codec, Law, MediaParameters};

use crate::agents::asterisk_echo;
use crate::world::{MS, World, plan, silent};

const ASTERISK: &str = r#"{"dialect":"asterisk"}"#;

fn one_way(world: &World) -> Vec<OneWay> {
    let cause = |event: &(std::time::Instant, BridgeEvent)| match event.1 {
        BridgeEvent::OneWayAudio { cause } => Some(cause),
        _ => None,
    };
    world.events.iter().filter_map(cause).collect()
}

#[test]
fn a_call_that_is_heard_both_ways_has_no_fault_and_the_best_score() {
    let mut world = World::started(ASTERISK, Law::Mulaw, asterisk_echo());
    world.run(Duration::from_secs(20));
    assert_eq!(one_way(&world), []);
    let media = MediaSummary::of(&world.bridge.statistics());
    let quality = media.to_agent_quality.expect("packets came");
    assert_eq!(quality.loss_percent, 0.0);
    assert!(quality.mos > 4.3, "{quality:?}");
    assert!(media.first_caller_audio_ms.is_some_and(|ms| ms <= 40), "{media:?}");
    assert!(media.first_agent_audio_ms.is_some_and(|ms| ms <= 120), "{media:?}");
}

#[test]
fn loss_lowers_the_score() {
    let mut world = World::started(ASTERISK, Law::Mulaw, asterisk_echo());
    world.peer.trouble = true;
    world.run(Duration::from_secs(20));
    let quality = MediaSummary::of(&world.bridge.statistics()).to_agent_quality.expect("packets came");
    assert!((1.0..15.0).contains(&quality.loss_percent), "{quality:?}");
    assert!(quality.mos < 4.3, "{quality:?}");
}

#[test]
fn an_agent_that_says_nothing_is_told_once() {
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.run(Duration::from_secs(29));
    assert_eq!(one_way(&world), [OneWay::AgentSilent { messages: 0, seconds: 15 }]);
}

#[test]
fn a_caller_that_is_not_heard_is_explained_by_what_came_instead() {
    let said = |world: &mut World| {
        world.say(FrameKind::Binary, &[0x21; 160]);
        world.run(Duration::from_secs(20));
        one_way(world)
    };
    let told = "192.0.2.1:4000".parse().unwrap();
    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    assert_eq!(said(&mut world), [OneWay::Nothing { told }]);

    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.payload_type = 18;
    let [OneWay::PayloadType { seen: 18, agreed: 0, packets }] = said(&mut world)[..] else {
        panic!("{:?}", one_way(&world))
    };
    assert!((200..=260).contains(&packets), "{packets} in five seconds");

    let mut strict = plan(ASTERISK, Law::Mulaw);
    strict.latch.symmetric = false;
    let mut world = World::new(strict, silent());
    world.command(BridgeCommand::Start);
    world.peer.address = "198.51.100.9:7000".parse().unwrap();
    let seen = world.peer.address;
    let found = said(&mut world);
    assert!(
        matches!(found[..], [OneWay::Stranger { seen: by, told: at, .. }] if by == seen && at == told),
        "{found:?}"
    );
    assert!(found[0].to_string().contains("198.51.100.9:7000"));

    let mut world = World::started(ASTERISK, Law::Mulaw, silent());
    world.peer.is_sending = false;
    for _ in 0..50 {
        world.bridge.handle_rtp(world.now, "192.0.2.1:4000".parse().unwrap(), &[0x16, 3, 1, 0, 9]);
        world.run(20 * MS);
    }
    assert_eq!(said(&mut world), [OneWay::NotRtp { packets: 50 }]);
}

#[test]
fn a_caller_in_the_clear_where_srtp_was_agreed_on_is_told_as_that() {
    let key = |octet| MasterKey::ours(Suite::AeadAes128Gcm, &KeyMaterial([octet; MASTER_OCTETS_MAX]));
    let mut plan = plan(ASTERISK, Law::Mulaw);
    plan.media.as_mut().unwrap().srtp = Some(SrtpKeys { local: key(1), remote: key(2) });
    let mut world = World::new(plan, silent());
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(10));
    let [OneWay::Insecure { in_the_clear, unauthentic: 0 }] = one_way(&world)[..] else {
        panic!("{:?}", one_way(&world))
    };
    assert!((200..=260).contains(&in_the_clear), "{in_the_clear} in five seconds");
    let media = MediaSummary::of(&world.bridge.statistics());
    assert_eq!(media.encryption.as_deref(), Some("AEAD_AES_128_GCM"));
    assert_eq!(media.to_agent_quality, None, "nothing was heard that could be judged");
}

#[test]
fn turns_and_scores_are_told_of_wideband_calls_too() {
    let mut plan = plan(r#"{"dialect":"asterisk","encoding":"slin16"}"#, Law::Mulaw);
    let remote = plan.media.unwrap().remote;
    plan.media = Some(MediaParameters::plain(remote, Codec::G722));
    let mut world = World::new(plan, asterisk_echo());
    world.peer.payload_type = 9;
    world.command(BridgeCommand::Start);
    world.run(Duration::from_secs(20));
    assert_eq!(one_way(&world), []);
    let media = MediaSummary::of(&world.bridge.statistics());
    assert_eq!((media.codec.as_deref(), media.encryption.as_deref()), (Some("G722"), None));
    assert!(media.to_agent_quality.is_some_and(|quality| quality.mos > 4.3), "{media:?}");
    assert!(media.first_caller_audio_ms.is_some_and(|ms| ms <= 40), "{media:?}");
    assert!(media.first_agent_audio_ms.is_some_and(|ms| ms <= 140), "{media:?}");
}
