//! The steady state allocates nothing: no packet and no message of audio costs more than its bytes.

use tandem_agent::FrameKind;
use tandem_call::bridge::{Bridge, BridgeCommand, BridgeTransmit};
use tandem_call::{RecordingCommand, RecordingRule};
use tandem_media::Law;

use crate::agents::{stream_audio, twilio_media};
use crate::world::{MS, plan};

/// One call at 50 packets a second each way, driven without the test's own logs.
struct Load {
    bridge: Bridge,
    now: std::time::Instant,
    packet: Vec<u8>,
    kind: FrameKind,
    message: Vec<u8>,
    buffer: Vec<u8>,
    sent: u64,
}

impl Load {
    fn new(config: &str, law: Law, kind: FrameKind, message: Vec<u8>) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        let now = std::time::Instant::now();
        let mut bridge = Bridge::new(plan(config, law), 7, now).unwrap();
        bridge.handle_command(now, BridgeCommand::Start);
        let mut packet = vec![0x80, law.payload_type()];
        packet.extend_from_slice(&[0; 10]);
        packet.extend_from_slice(&[0x33; 160]);
        Self { bridge, now, packet, kind, message, buffer: Vec::with_capacity(4096), sent: 0 }
    }

    fn second(&mut self) {
        for _ in 0..50 {
            self.now += 20 * MS;
            let sequence = u16::from_be_bytes([self.packet[2], self.packet[3]]).wrapping_add(1);
            self.packet[2..4].copy_from_slice(&sequence.to_be_bytes());
            self.packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
            self.bridge.handle_rtp(self.now, "192.0.2.1:4000".parse().unwrap(), &self.packet);
            self.bridge.handle_agent_frame(self.now, self.kind, &self.message);
            self.bridge.handle_timeout(self.now);
            while let Some(transmit) = self.bridge.poll_transmit(self.now, &mut self.buffer) {
                self.sent += u64::from(!matches!(transmit, BridgeTransmit::Rtcp { .. }));
            }
            while self.bridge.poll_event().is_some() {}
            assert!(self.bridge.poll_timeout().is_some());
        }
    }
}

fn assert_steady(name: &str, mut load: Load) {
    for _ in 0..10 {
        load.second();
    }
    let before = load.sent;
    let info = allocation_counter::measure(|| {
        for _ in 0..20 {
            load.second();
        }
    });
    assert_eq!(load.sent - before, 2 * 20 * 50, "{name}: one packet and one message each 20 ms");
    assert_eq!(info.count_total, 0, "{name}");
}

#[test]
fn no_dialect_allocates_per_packet() {
    let ulaw = vec![0x21; 160];
    let asterisk = r#"{"dialect":"asterisk"}"#;
    assert_steady("asterisk", Load::new(asterisk, Law::Mulaw, FrameKind::Binary, ulaw.clone()));
    assert_steady("asterisk, other law", Load::new(asterisk, Law::Alaw, FrameKind::Binary, ulaw.clone()));
    let slin16 = r#"{"dialect":"asterisk","encoding":"slin16"}"#;
    assert_steady("asterisk, 16 kHz", Load::new(slin16, Law::Alaw, FrameKind::Binary, vec![3; 640]));
    let media = twilio_media(&ulaw).into_bytes();
    assert_steady("twilio", Load::new(r#"{"dialect":"twilio"}"#, Law::Mulaw, FrameKind::Text, media));
    let audio = stream_audio(24_000, &[2; 960]);
    assert_steady("bolna", Load::new(r#"{"dialect":"bolna"}"#, Law::Mulaw, FrameKind::Text, audio));
}

/// A recorded call allocates its blocks, two a second, and nothing else.
#[test]
fn a_recording_allocates_a_block_each_half_second() {
    let ulaw = vec![0x21; 160];
    let mut load = Load::new(r#"{"dialect":"asterisk"}"#, Law::Mulaw, FrameKind::Binary, ulaw);
    let start = RecordingCommand::Start(RecordingRule::default());
    load.bridge.handle_command(load.now, BridgeCommand::Record(start));
    for _ in 0..10 {
        load.second();
        while load.bridge.poll_recorded().is_some() {}
    }
    let info = allocation_counter::measure(|| {
        for _ in 0..20 {
            load.second();
            while load.bridge.poll_recorded().is_some() {}
        }
    });
    assert!(info.count_total <= 2 * 20 + 1, "{} allocations in 20 s", info.count_total);
}

/// All that a call holds for its audio, with its buffers grown to what the steady state needs.
#[test]
fn a_bridge_is_small() {
    let ulaw = vec![0x21; 160];
    let audio = stream_audio(24_000, &[2; 960]);
    let media = twilio_media(&ulaw).into_bytes();
    for (config, kind, message) in [
        (r#"{"dialect":"asterisk"}"#, FrameKind::Binary, ulaw),
        (r#"{"dialect":"twilio"}"#, FrameKind::Text, media),
        (r#"{"dialect":"bolna"}"#, FrameKind::Text, audio),
    ] {
        let info = allocation_counter::measure(|| {
            let mut load = Load::new(config, Law::Mulaw, kind, message);
            for _ in 0..10 {
                load.second();
            }
        });
        let bytes = info.bytes_max as usize + size_of::<Bridge>();
        println!("{config}: {bytes} bytes, {} of them the bridge itself", size_of::<Bridge>());
        assert!(bytes < 32 * 1024, "{config}: {bytes} bytes");
    }
}
