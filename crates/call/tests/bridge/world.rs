//! A bridge between a scripted RTP peer and a scripted agent, in virtual time.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_agent::{DialectConfig, FrameKind, StreamFacts};
use tandem_call::bridge::{
    AgentDial, AgentPlan, Bridge, BridgeCommand, BridgeEvent, BridgeLimits, BridgePlan, BridgeTransmit,
    OnClose,
};
use tandem_call::{AccountId, CallId, Recorded};
use tandem_media::{Codec, LatchPolicy, Law, MediaParameters, TelephoneEvent, g711};
use uuid::Uuid;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const US: Duration = Duration::from_micros(1);

/// A message of the agent and how long after its cause it arrives.
pub(crate) type Reply = (Duration, FrameKind, Vec<u8>);

/// What an agent answers to each message it gets.
pub(crate) type Script = Box<dyn FnMut(FrameKind, &[u8]) -> Vec<Reply>>;

pub(crate) fn silent() -> Script {
    Box::new(|_, _| Vec::new())
}

/// The caller: sends a stream of bytes that never repeats soon, at its own clock.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    pub(crate) law: Law,
    pub(crate) payload_type: u8,
    pub(crate) packet_ms: u32,
    pub(crate) period: Duration,
    pub(crate) is_sending: bool,
    /// Lose, double and swap some packets.
    pub(crate) trouble: bool,
    /// A key being pressed: its event, and packets it still lasts.
    key: Option<(u8, u32, u32)>,
    /// Speak a tone of 1 kHz instead of noise.
    pub(crate) is_tone: bool,
    /// Speak these payloads instead, 20 ms each.
    pub(crate) payloads: Option<Box<dyn FnMut() -> Vec<u8>>>,
    /// Every sample ever sent.
    pub(crate) spoken: Vec<u8>,
    swapped: Option<Vec<u8>>,
    sequence: u16,
    sent: u32,
    noise: u32,
    start: Instant,
}

impl Peer {
    pub(crate) fn new(address: SocketAddr, law: Law, start: Instant) -> Self {
        Self {
            address,
            law,
            payload_type: law.payload_type(),
            packet_ms: 20,
            period: 20 * MS,
            is_sending: true,
            trouble: false,
            key: None,
            is_tone: false,
            payloads: None,
            spoken: Vec::new(),
            swapped: None,
            sequence: 65_500,
            sent: 0,
            noise: 1,
            start,
        }
    }

    fn next(&self) -> Instant {
        self.start + self.period * self.sent
    }

    /// Presses key `event` for as long as `packets` packets take, plus two repeated ends (RFC 4733, 2.5.1.4).
    pub(crate) fn press(&mut self, event: u8, packets: u32) {
        self.key = Some((event, packets, self.sent));
    }

    /// The packets that arrive at this tick.
    fn packets(&mut self) -> Vec<Vec<u8>> {
        let packet = if self.key.is_some() { self.key_packet() } else { self.packet() };
        if !self.trouble {
            return vec![packet];
        }
        match self.sent % 23 {
            3 => Vec::new(),
            7 => vec![packet.clone(), packet],
            11 => {
                self.swapped = Some(packet);
                Vec::new()
            }
            12 => [Some(packet), self.swapped.take()].into_iter().flatten().collect(),
            _ => vec![packet],
        }
    }

    fn key_packet(&mut self) -> Vec<u8> {
        let (event, packets, since) = self.key.expect("a key is pressed");
        let samples = self.packet_ms * 8;
        let held = self.sent - since;
        let is_end = held >= packets;
        let duration = samples * (held + 1).min(packets);
        let mut packet = vec![0x80, 101 | if held == 0 { 0x80 } else { 0 }];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&(since * samples).to_be_bytes());
        packet.extend_from_slice(&0x5eed_u32.to_be_bytes());
        packet.extend_from_slice(&[event, if is_end { 0x8a } else { 0x0a }]);
        packet.extend_from_slice(&(duration as u16).to_be_bytes());
        if held == packets + 2 {
            self.key = None;
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.sent += 1;
        packet
    }

    fn packet(&mut self) -> Vec<u8> {
        let samples = self.packet_ms * 8;
        let mut packet = vec![0x80, self.payload_type | if self.sent == 0 { 0x80 } else { 0 }];
        packet.extend_from_slice(&self.sequence.to_be_bytes());
        packet.extend_from_slice(&(self.sent * samples).to_be_bytes());
        packet.extend_from_slice(&0x5eed_u32.to_be_bytes());
        if let Some(payloads) = &mut self.payloads {
            packet.extend(payloads());
            self.sequence = self.sequence.wrapping_add(1);
            self.sent += 1;
            return packet;
        }
        for _ in 0..samples {
            let sample = if self.is_tone { self.tone() } else { self.sample() };
            packet.push(sample);
            self.spoken.push(sample);
        }
        self.sequence = self.sequence.wrapping_add(1);
        self.sent += 1;
        packet
    }

    fn tone(&self) -> u8 {
        let phase = self.spoken.len() as f64 * std::f64::consts::TAU / 8.0;
        g711::encode(self.law, ((phase + 0.3).sin() * 8000.0) as i16)
    }

    /// Noise that is never the law's silence, nor µ-law's negative zero, which linear audio cannot carry.
    fn sample(&mut self) -> u8 {
        loop {
            self.noise = self.noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let sample = (self.noise >> 24) as u8;
            if sample != self.law.silence() && sample != 0x7f {
                return sample;
            }
        }
    }
}

/// A RTP packet the bridge sent.
pub(crate) struct Packet {
    pub(crate) at: Instant,
    pub(crate) to: SocketAddr,
    pub(crate) payload_type: u8,
    pub(crate) sequence: u16,
    pub(crate) timestamp: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) bridge: Bridge,
    pub(crate) peer: Peer,
    /// Who the caller was transferred to.
    pub(crate) second: Option<Peer>,
    /// What they heard, and how many reports they got.
    pub(crate) second_heard: Vec<Packet>,
    pub(crate) second_reports: usize,
    pub(crate) agent: Script,
    /// Messages on their way to the bridge.
    pub(crate) inbox: BTreeMap<(Instant, u64), (FrameKind, Vec<u8>)>,
    order: u64,
    pub(crate) heard: Vec<Packet>,
    pub(crate) agent_got: Vec<(Instant, FrameKind, Vec<u8>)>,
    pub(crate) closed: Option<u16>,
    pub(crate) events: Vec<(Instant, BridgeEvent)>,
    pub(crate) recorded: Vec<Recorded>,
    buffer: Vec<u8>,
}

pub(crate) fn plan(config: &str, law: Law) -> BridgePlan {
    let dialect: DialectConfig = serde_json::from_str(config).unwrap();
    let mut media = MediaParameters::plain("192.0.2.1:4000".parse().unwrap(), law);
    media.telephone_event = Some(TelephoneEvent { payload_type: 101, clock_hz: 8000 });
    BridgePlan {
        call: CallId(Uuid::from_u128(42)),
        account: AccountId::from("default"),
        media: Some(media),
        peer: [192, 0, 2, 1].into(),
        latch: LatchPolicy { symmetric: true, allowed: Vec::new() },
        media_timeout: Some(Duration::from_secs(30)),
        silence: None,
        agent: AgentPlan {
            url: "ws://agent.example/ws".into(),
            headers: Vec::new(),
            subprotocol: None,
            fallback_url: None,
            dialect,
            facts: StreamFacts {
                call: Uuid::from_u128(42),
                account: "default".into(),
                ..StreamFacts::default()
            },
            on_close: OnClose::Drain,
            dial: AgentDial::WithThePort,
            question: None,
        },
        limits: BridgeLimits::default(),
    }
}

impl World {
    pub(crate) fn new(plan: BridgePlan, agent: Script) -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
        let start = Instant::now();
        let law = match plan.media.map(|media| media.codec) {
            Some(Codec::G711(law)) => law,
            Some(Codec::G722) | None => Law::Mulaw,
        };
        let bridge = Bridge::new(plan, 7, start).unwrap();
        let peer = Peer::new("192.0.2.1:4000".parse().unwrap(), law, start + 7 * MS);
        Self {
            now: start,
            start,
            bridge,
            peer,
            second: None,
            second_heard: Vec::new(),
            second_reports: 0,
            agent,
            inbox: BTreeMap::new(),
            order: 0,
            heard: Vec::new(),
            agent_got: Vec::new(),
            closed: None,
            events: Vec::new(),
            recorded: Vec::new(),
            buffer: Vec::new(),
        }
    }

    /// A world whose call has been answered.
    pub(crate) fn started(config: &str, law: Law, agent: Script) -> Self {
        let mut world = Self::new(plan(config, law), agent);
        world.command(BridgeCommand::Start);
        world
    }

    pub(crate) fn command(&mut self, command: BridgeCommand) {
        self.bridge.handle_command(self.now, command);
        self.drain();
    }

    /// A message of the agent will arrive at `at`.
    pub(crate) fn post(&mut self, at: Instant, kind: FrameKind, bytes: Vec<u8>) {
        self.order += 1;
        self.inbox.insert((at, self.order), (kind, bytes));
    }

    /// A message of the agent arrives now.
    pub(crate) fn say(&mut self, kind: FrameKind, bytes: &[u8]) {
        self.bridge.handle_agent_frame(self.now, kind, bytes);
        self.drain();
    }

    pub(crate) fn say_text(&mut self, text: &str) {
        self.say(FrameKind::Text, text.as_bytes());
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let timeout = self.bridge.poll_timeout();
            let peers = [Some(&self.peer), self.second.as_ref()];
            let peer = peers.into_iter().flatten().filter(|peer| peer.is_sending).map(Peer::next).min();
            let message = self.inbox.keys().next().map(|key| key.0);
            let next = [timeout, peer, message].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            assert!(timeout.is_none_or(|timeout| timeout >= self.now), "no timeout lies in the past");
            // What came while the driver was away is found when it is back.
            self.now = next.max(self.now);
            self.step(self.now);
        }
        self.now = end;
    }

    /// Messages to the agent of this kind of frame, as text.
    pub(crate) fn texts(&self) -> Vec<(Duration, String)> {
        let texts = self.agent_got.iter().filter(|message| message.1 == FrameKind::Text);
        texts.map(|(at, _, bytes)| (*at - self.start, String::from_utf8(bytes.clone()).unwrap())).collect()
    }

    /// All audio the caller heard.
    pub(crate) fn caller_heard(&self) -> Vec<u8> {
        self.heard.iter().flat_map(|packet| packet.payload.iter().copied()).collect()
    }

    fn step(&mut self, next: Instant) {
        while self.peer.is_sending && self.peer.next() <= next {
            for packet in self.peer.packets() {
                self.bridge.handle_rtp(next, self.peer.address, &packet);
            }
        }
        while let Some(second) = self.second.as_mut().filter(|peer| peer.is_sending && peer.next() <= next) {
            let source = second.address;
            for packet in second.packets() {
                self.bridge.handle_second_rtp(next, source, &packet);
            }
        }
        while let Some(entry) = self.inbox.first_entry().filter(|entry| entry.key().0 <= next) {
            let (kind, bytes) = entry.remove();
            self.bridge.handle_agent_frame(next, kind, &bytes);
        }
        self.bridge.handle_timeout(next);
        self.drain();
        if let Some(timeout) = self.bridge.poll_timeout() {
            assert!(timeout > next, "after a drain the timeout lies ahead");
        }
    }

    pub(crate) fn drain(&mut self) {
        while let Some(transmit) = self.bridge.poll_transmit(self.now, &mut self.buffer) {
            match transmit {
                BridgeTransmit::Rtp { to } => {
                    let packet = parse(self.now, to, &self.buffer);
                    self.heard.push(packet);
                }
                BridgeTransmit::Rtcp { .. } => {}
                BridgeTransmit::SecondRtp { to } => {
                    let packet = parse(self.now, to, &self.buffer);
                    self.second_heard.push(packet);
                }
                BridgeTransmit::SecondRtcp { .. } => self.second_reports += 1,
                BridgeTransmit::Agent { kind, .. } => {
                    assert_eq!(self.closed, None, "nothing is sent after the close");
                    for (delay, kind, bytes) in (self.agent)(kind, &self.buffer) {
                        self.post(self.now + delay, kind, bytes);
                    }
                    self.agent_got.push((self.now, kind, self.buffer.clone()));
                }
                BridgeTransmit::AgentClose { code } => self.closed = Some(code),
            }
        }
        while let Some(event) = self.bridge.poll_event() {
            self.events.push((self.now, event));
        }
        while let Some(recorded) = self.bridge.poll_recorded() {
            self.recorded.push(recorded);
        }
    }
}

fn parse(at: Instant, to: SocketAddr, bytes: &[u8]) -> Packet {
    Packet {
        at,
        to,
        payload_type: bytes[1] & 0x7f,
        sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
        timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        payload: bytes[12..].to_vec(),
    }
}
