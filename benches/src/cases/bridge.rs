//! One tick of a call through the bridge: a packet in and a frame out to the agent, the agent's frame
//! in and a packet out.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_agent::{FrameKind, StreamFacts};
use tandem_call::bridge::{
    AgentDial, AgentPlan, Bridge, BridgeCommand, BridgeLimits, BridgePlan, BridgeTransmit, OnClose,
};
use tandem_call::{AccountId, CallId};
use tandem_media::{LatchPolicy, Law, MediaParameters, TelephoneEvent};

use super::{Step, dialect};

/// Ticks before the steady state: past the prebuffer and the growth of every reused buffer.
const WARM_UP: u32 = 500;

struct Talk {
    bridge: Bridge,
    now: Instant,
    tick: u32,
    packet: [u8; 172],
    buffer: Vec<u8>,
    reply: (FrameKind, Vec<u8>),
    rtp_sent: u64,
    source: SocketAddr,
}

impl Talk {
    fn start(name: &str) -> Self {
        let now = Instant::now();
        let plan = BridgePlan {
            call: CallId(dialect::CALL),
            account: AccountId::from("default"),
            media: Some(MediaParameters {
                telephone_event: Some(TelephoneEvent { payload_type: 101, clock_hz: 8_000 }),
                ..MediaParameters::plain("192.0.2.1:4000".parse().expect("an address"), Law::Mulaw)
            }),
            peer: [192, 0, 2, 1].into(),
            latch: LatchPolicy { symmetric: true, allowed: Vec::new() },
            media_timeout: None,
            silence: None,
            agent: AgentPlan {
                url: "ws://agent.example/".into(),
                headers: Vec::new(),
                subprotocol: None,
                fallback_url: None,
                dialect: dialect::config(name),
                facts: StreamFacts { call: dialect::CALL, ..StreamFacts::default() },
                on_close: OnClose::Drain,
                dial: AgentDial::WithThePort,
                question: None,
            },
            limits: BridgeLimits::default(),
        };
        let mut bridge = Bridge::new(plan, 7, now).expect("a valid configuration");
        bridge.handle_command(now, BridgeCommand::Start);
        let buffer = Vec::with_capacity(4_096);
        let reply = dialect::reply(name);
        let source = "192.0.2.1:4000".parse().expect("an address");
        let mut talk = Self { bridge, now, tick: 0, packet: [0x55; 172], buffer, reply, rtp_sent: 0, source };
        (0..WARM_UP).for_each(|_| talk.tick());
        talk
    }

    fn tick(&mut self) {
        self.tick += 1;
        self.now += Duration::from_millis(20);
        self.packet[..2].copy_from_slice(&[0x80, 0]);
        self.packet[2..4].copy_from_slice(&(self.tick as u16).to_be_bytes());
        self.packet[4..8].copy_from_slice(&(self.tick * 160).to_be_bytes());
        self.packet[8..12].copy_from_slice(&[1, 2, 3, 4]);
        self.bridge.handle_rtp(self.now, self.source, &self.packet);
        self.drain();
        self.bridge.handle_agent_frame(self.now, self.reply.0, &self.reply.1);
        self.drain();
        self.bridge.handle_timeout(self.now);
        self.drain();
    }

    /// As a media thread does after everything it hands in.
    fn drain(&mut self) {
        while let Some(transmit) = self.bridge.poll_transmit(self.now, &mut self.buffer) {
            self.rtp_sent += u64::from(matches!(transmit, BridgeTransmit::Rtp { .. }));
        }
        while self.bridge.poll_event().is_some() {}
        std::hint::black_box(self.bridge.poll_timeout());
    }
}

pub(super) fn tick(name: &str) -> Step {
    let mut talk = Talk::start(name);
    Box::new(move || {
        talk.tick();
        assert!(talk.rtp_sent >= u64::from(talk.tick) - 10, "the bridge sends a packet each tick");
    })
}
