//! A whole call's signalling through the engine: INVITE, port, agent, 200, ACK, BYE and the record.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_agent::{DialectConfig, DialectKind};
use tandem_call::bridge::{BridgeStatistics, OnClose};
use tandem_call::{
    Agent, AgentRules, AgentSocket, Engine, EngineConfig, Input, Number, Output, RoutingTable, Trunk,
};
use tandem_sip::{Flow, Target, Transport};

use super::Step;

/// Between two calls: transactions live for 32 s (RFC 3261, timer J), so some hundred are held at a time.
const PAUSE: Duration = Duration::from_millis(100);
const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.7\r\ns=-\r\nc=IN IP4 192.0.2.7\r\nt=0 0\r\n\
                     m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";

/// A routing table with one trunk, number and agent.
fn table() -> RoutingTable {
    let mut trunk = Trunk::new("t", "a", "trunk");
    trunk.inbound_enabled = true;
    trunk.sources.push("192.0.2.0/24".parse().expect("a range"));
    let number = Number {
        id: "n".into(),
        account: "a".into(),
        trunk: "t".into(),
        number: "+910000000000".to_owned(),
        destination_key: None,
        is_active: true,
        agent: Some("g".into()),
        is_for_pstn: false,
    };
    let socket = AgentSocket {
        url: "ws://agent.example/ws/{execution_id}".to_owned(),
        dialect: DialectConfig::new(DialectKind::Asterisk),
        headers: Vec::new(),
        subprotocol: None,
        parameters: Vec::new(),
        on_close: OnClose::Drain,
        fallback_url: None,
    };
    let agent = Agent {
        id: "g".into(),
        account: "a".into(),
        name: "agent".into(),
        socket: Some(socket.into()),
        rules: AgentRules::default(),
    };
    RoutingTable::build(1, vec![trunk], vec![number], vec![agent])
}

/// Calls one after the other through one engine.
#[derive(Debug)]
pub struct Calls {
    engine: Engine,
    now: Instant,
    number: u64,
    records: u64,
}

impl Calls {
    /// With this routing table, which must lead +910000000000 from 192.0.2.7 to an agent.
    #[must_use]
    pub fn new(table: Arc<RoutingTable>) -> Self {
        let now = Instant::now();
        let mut engine = Engine::new(EngineConfig::default(), 7, now, 0);
        engine.handle(now, Input::Routing(table));
        Self { engine, now, number: 0, records: 0 }
    }

    /// One whole call.
    ///
    /// # Panics
    /// When it is not connected or leaves no record.
    pub fn call(&mut self) {
        self.number += 1;
        self.now += PAUSE;
        self.engine.handle(self.now, Input::Timeout);
        self.drain();
        let tag = self.send("INVITE", 1, "", OFFER).expect("a 200 with its tag");
        self.send("ACK", 1, &tag, "");
        self.send("BYE", 2, &tag, "");
        assert_eq!(self.records, self.number, "each call leaves one record");
    }

    fn send(&mut self, method: &str, sequence: u32, tag: &str, body: &str) -> Option<String> {
        let number = self.number;
        let text = format!(
            "{method} sip:+910000000000@203.0.113.1 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.7:5060;branch=z9hG4bK{number}{method};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:+4930123@carrier>;tag=f{number}\r\nTo: <sip:+910000000000@203.0.113.1>{tag}\r\n\
             Call-ID: {number}@carrier\r\nCSeq: {sequence} {method}\r\nContact: <sip:c@192.0.2.7:5060>\r\n\
             Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        let flow = Flow {
            transport: Transport::Udp,
            local: "203.0.113.1:5060".parse().expect("an address"),
            remote: "192.0.2.7:5060".parse::<SocketAddr>().expect("an address"),
            connection: 0,
        };
        self.engine.handle(self.now, Input::Datagram { flow, payload: Bytes::from(text) });
        self.drain()
    }

    /// Plays the shell; returns the To tag of a 200 to an INVITE.
    fn drain(&mut self) -> Option<String> {
        let (engine, now) = (&mut self.engine, self.now);
        let mut tag = None;
        while let Some(output) = engine.poll_output() {
            match output {
                Output::OpenBridge { call, .. } => {
                    let rtp = "203.0.113.1:20000".parse().expect("an address");
                    engine.handle(now, Input::BridgeOpened { call, rtp });
                    engine.handle(now, Input::AgentConnected { call });
                }
                Output::CloseBridge { call } => {
                    let statistics = Box::new(BridgeStatistics::default());
                    engine.handle(now, Input::BridgeClosed { call, statistics });
                }
                Output::Record(_) => self.records += 1,
                Output::Transmit(transmit) if !matches!(transmit.target, Target::Close(_)) => {
                    let text = String::from_utf8_lossy(&transmit.payload);
                    if text.starts_with("SIP/2.0 200") && text.contains("INVITE") {
                        let to = text.lines().find(|line| line.starts_with("To:"));
                        tag = to.and_then(|to| to.find(";tag=").map(|at| to[at..].to_owned()));
                    }
                }
                _ => {}
            }
        }
        tag
    }
}

pub(super) fn invite_to_bye() -> Step {
    let mut calls = Calls::new(Arc::new(table()));
    Box::new(move || calls.call())
}
