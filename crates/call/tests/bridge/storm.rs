//! Any order of everything: random agents, callers, commands and drivers, and what must hold whatever they do.
//!
//! Each utterance of the agent is one byte value, told by a number that rises with each flush, so that audio from
//! before a flush can be known in what the caller hears. The world itself checks that timeouts lie ahead.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem_agent::FrameKind;
use tandem_call::bridge::{AgentSocketEnd, BridgeCommand, BridgeEvent};
use tandem_media::{Direction, Law, MediaParameters};

use crate::agents::{stream_audio, twilio_mark, twilio_media};
use crate::world::{MS, World, plan, silent};

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as u32) % bound
    }
}

struct Storm {
    world: World,
    random: Random,
    dialect: usize,
    /// Flushes so far; speech since the last one is of this generation.
    generation: u8,
    /// How many packets had been heard at each flush.
    flushed: Vec<usize>,
    marks: u32,
    is_over: bool,
}

const CONFIGS: [&str; 3] =
    [r#"{"dialect":"asterisk"}"#, r#"{"dialect":"twilio"}"#, r#"{"dialect":"bolna","encoding":"slin"}"#];

impl Storm {
    fn new(seed: u64) -> Self {
        let dialect = (seed % 3) as usize;
        let mut world = World::new(plan(CONFIGS[dialect], Law::Mulaw), silent());
        world.command(BridgeCommand::Start);
        let random = Random(seed);
        Self { world, random, dialect, generation: 0, flushed: Vec::new(), marks: 0, is_over: false }
    }

    fn step(&mut self) {
        match self.random.below(20) {
            0..=6 => self.speak(),
            7..=9 => self.mark(),
            10 => self.flush(),
            11 if self.dialect == 0 => self.world.say_text("PAUSE_MEDIA"),
            12 if self.dialect == 0 => self.world.say_text("CONTINUE_MEDIA"),
            13 => self.world.say(FrameKind::Text, b"\xff{"),
            14 => self.world.peer.trouble = !self.world.peer.trouble,
            15 => self.hold(),
            16 => self.world.command(BridgeCommand::SendDtmf { digits: "5".into(), duration_ms: 60 }),
            17 if self.random.below(8) == 0 => self.end(),
            18 => {
                // The driver was away.
                self.world.now += MS * self.random.below(300);
                self.world.bridge.handle_timeout(self.world.now);
                self.world.drain();
            }
            _ => {}
        }
        let time = MS * self.random.below(400);
        self.world.run(time);
    }

    fn speak(&mut self) {
        let length = self.random.below(12_000) as usize;
        let code = 0x10 + self.generation;
        let audio = vec![code; length];
        match self.dialect {
            0 => self.world.say(FrameKind::Binary, &audio),
            1 => self.world.say_text(&twilio_media(&audio)),
            _ => {
                let mut linear = Vec::new();
                for byte in audio {
                    linear.extend_from_slice(&tandem_media::g711::decode(Law::Mulaw, byte).to_le_bytes());
                }
                self.world.say(FrameKind::Text, &stream_audio(8000, &linear));
            }
        }
    }

    fn mark(&mut self) {
        let name = format!("mark-{}", self.marks);
        self.marks += 1;
        match self.dialect {
            0 => self.world.say_text(&format!("MARK_MEDIA {name}")),
            1 => self.world.say_text(&twilio_mark(&name)),
            _ => self.world.say_text(&format!(r#"{{"type":"mark","name":"{name}"}}"#)),
        }
    }

    fn flush(&mut self) {
        let words = ["FLUSH_MEDIA", r#"{"event":"clear"}"#, r#"{"type":"killAudio"}"#];
        self.world.say_text(words[self.dialect]);
        self.flushed.push(self.world.heard.len());
        self.generation = (self.generation + 1).min(0x5f);
    }

    fn hold(&mut self) {
        let direction =
            [Direction::SendRecv, Direction::RecvOnly, Direction::Inactive][self.random.below(3) as usize];
        let ptime_ms = [20, 20, 30, 10][self.random.below(4) as usize];
        let media = plan(CONFIGS[self.dialect], Law::Mulaw).media.unwrap();
        self.world.command(BridgeCommand::Media(MediaParameters { direction, ptime_ms, ..media }));
    }

    fn end(&mut self) {
        self.is_over = true;
        if self.random.below(2) == 0 {
            self.world.command(BridgeCommand::HangUp);
        } else {
            self.world.bridge.handle_agent_closed(self.world.now, AgentSocketEnd::Lost);
            self.world.drain();
        }
    }

    fn check(&self) {
        for pair in self.world.heard.windows(2) {
            assert_eq!(pair[1].sequence, pair[0].sequence.wrapping_add(1));
            let advance = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            let is_event = pair[1].payload_type == 101 || pair[0].payload_type == 101;
            assert!(is_event || advance >= pair[0].payload.len() as u32, "timestamps never overlap");
        }
        for (generation, from) in self.flushed.iter().enumerate() {
            let old = 0x10..=0x10 + generation as u8;
            let packets = self.world.heard[*from..].iter().filter(|packet| packet.payload_type == 0);
            let leaked = packets.flat_map(|packet| &packet.payload).any(|byte| old.contains(byte));
            assert!(!leaked, "audio from before flush {generation} was heard after it");
        }
        let mut told: BTreeMap<&str, u32> = BTreeMap::new();
        for (_, event) in &self.world.events {
            if let BridgeEvent::MarkPlayed { name, .. } = event {
                *told.entry(name).or_default() += 1;
            }
        }
        assert!(told.values().all(|count| *count == 1), "no mark is told twice: {told:?}");
        let ends = self
            .world
            .events
            .iter()
            .filter(|event| matches!(event.1, BridgeEvent::AgentHangUp { .. }))
            .count();
        assert!(ends <= 1);
        let statistics = self.world.bridge.statistics();
        assert_eq!(statistics.overflow_ms, 0);
        assert_eq!(statistics.notices_lost, 0);
    }

    /// With the agent let speak out, every mark that no chan_websocket flush dropped has been told.
    fn check_all_told(&mut self) {
        if self.dialect == 0 {
            self.world.say_text("CONTINUE_MEDIA");
        }
        self.world.run(Duration::from_secs(60));
        let told = self
            .world
            .events
            .iter()
            .filter(|event| matches!(event.1, BridgeEvent::MarkPlayed { .. }))
            .count();
        if self.dialect == 0 && !self.flushed.is_empty() {
            assert!(told as u32 <= self.marks);
        } else {
            assert_eq!(told as u32, self.marks);
        }
    }
}

#[test]
fn whatever_happens_the_rules_of_the_bridge_hold() {
    for seed in 0..90 {
        let mut storm = Storm::new(seed);
        for _ in 0..60 {
            storm.step();
            if storm.is_over {
                break;
            }
        }
        storm.check();
        if !storm.is_over {
            storm.world.peer.is_sending = false;
            storm.check_all_told();
            storm.check();
        }
    }
}
