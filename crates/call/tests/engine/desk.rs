//! A desk for the engine's tests: virtual time, a shell that does as it is told, and a caller who writes plain SIP text.
//!
//! The caller is deliberately simple and shares no code with the product.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_agent::{DialectConfig, DialectKind};
use tandem_call::bridge::{AgentDial, BridgeCommand, BridgePlan, BridgeStatistics, OnClose};
use tandem_call::location::Wanted;
use tandem_call::{
    Agent, AgentFailure, AgentRules, AgentSocket, BridgeFailure, CallId, CallRecord, Engine, EngineConfig,
    GatewayHealth, GatewayKey, Input, NoRoom, Number, Output, RegistrationStatus, RoutingTable, Rung, Ticket,
    Trunk, TrunkId, Verdict, Way,
};
use tandem_sip::{Flow, Target, TransmitId, Transport};

/// Where the engine listens.
pub(crate) const LOCAL: &str = "203.0.113.1:5060";

/// Where the bridge's RTP is said to be.
pub(crate) const RTP: &str = "203.0.113.1:20000";

/// Where the second leg's is.
pub(crate) const SECOND_RTP: &str = "203.0.113.1:20100";

/// What the shell does with an `OpenBridge`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ports {
    Bind,
    Refuse(BridgeFailure),
    Silent,
}

/// What becomes of a dialled agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AgentMood {
    Answers,
    Refuses(AgentFailure),
    Silent,
}

/// Engine, clock and shell.
pub(crate) struct Desk {
    pub(crate) engine: Engine,
    pub(crate) now: Instant,
    pub(crate) ports: Ports,
    pub(crate) agent: AgentMood,
    pub(crate) closes_bridges: bool,
    /// Whether gateways' addresses are told.
    pub(crate) finds_ways: bool,
    /// What a look-up of a name tells.
    pub(crate) names: BTreeMap<String, Vec<SocketAddr>>,
    pub(crate) not_placed: Vec<(CallId, NoRoom)>,
    /// Numbers that INVITEs wait for.
    pub(crate) sought: Vec<(Ticket, Vec<String>)>,
    /// What is known of each gateway.
    pub(crate) gateways: BTreeMap<GatewayKey, Option<GatewayHealth>>,
    /// How the registration of each trunk stands.
    pub(crate) registrations: BTreeMap<TrunkId, Option<RegistrationStatus>>,
    pub(crate) sent: Vec<String>,
    /// Names of what was sent, in the same order.
    pub(crate) transmits: Vec<TransmitId>,
    pub(crate) plans: Vec<BridgePlan>,
    pub(crate) commands: Vec<BridgeCommand>,
    pub(crate) closed: Vec<CallId>,
    pub(crate) progress: Vec<CallRecord>,
    pub(crate) records: Vec<CallRecord>,
    pub(crate) verdicts: Vec<Verdict>,
    pub(crate) ladders: Vec<Arc<[Rung]>>,
    /// Everything that came out, in short and in order.
    pub(crate) log: Vec<String>,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::with(EngineConfig::default(), house())
    }

    pub(crate) fn with(config: EngineConfig, table: RoutingTable) -> Self {
        #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
        let now = Instant::now();
        let mut desk = Self {
            engine: Engine::new(config, 7, now, 1_700_000_000_000),
            now,
            ports: Ports::Bind,
            agent: AgentMood::Answers,
            closes_bridges: true,
            finds_ways: true,
            names: BTreeMap::new(),
            not_placed: Vec::new(),
            sought: Vec::new(),
            gateways: BTreeMap::new(),
            registrations: BTreeMap::new(),
            sent: Vec::new(),
            transmits: Vec::new(),
            plans: Vec::new(),
            commands: Vec::new(),
            closed: Vec::new(),
            progress: Vec::new(),
            records: Vec::new(),
            verdicts: Vec::new(),
            ladders: Vec::new(),
            log: Vec::new(),
        };
        desk.input(Input::Routing(Arc::new(table)));
        desk
    }

    pub(crate) fn input(&mut self, input: Input) {
        self.engine.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.engine.poll_output() {
            self.log.extend(short(&output));
            match output {
                Output::Transmit(transmit) => {
                    if !matches!(transmit.target, Target::Close(_)) {
                        self.transmits.push(transmit.id);
                        self.sent.push(String::from_utf8_lossy(&transmit.payload).into_owned());
                    }
                }
                Output::OpenBridge { call, plan } => {
                    assert_eq!(plan.call, call);
                    self.plans.push(*plan);
                    match self.ports {
                        Ports::Bind => self.bridge_opened(call),
                        Ports::Refuse(cause) => {
                            self.engine.handle(self.now, Input::BridgeFailed { call, cause });
                        }
                        Ports::Silent => {}
                    }
                }
                Output::FindWay { call, wanted } => self.find_way(call, &wanted),
                Output::Gateway { key, health } => {
                    drop(self.gateways.insert(key, health.map(|health| *health)))
                }
                Output::OpenSecond { call, .. } => self.open_second(call),
                Output::Registration { trunk, status, .. } => {
                    drop(self.registrations.insert(trunk, status.map(|status| *status)))
                }
                Output::DialAgent { call } => self.dial_agent(call),
                Output::NotPlaced { call, no_room } => self.not_placed.push((call, no_room)),
                Output::FindRoute { ticket, keys } => self.sought.push((ticket, keys)),
                Output::Bridge { command, .. } => self.commands.push(command),
                Output::CloseBridge { call } => {
                    assert!(!self.closed.contains(&call), "a bridge is closed once");
                    self.closed.push(call);
                    if self.closes_bridges {
                        self.bridge_closed(call);
                    }
                }
                Output::Progress(record) => {
                    assert!(
                        !self.records.iter().any(|known| known.id == record.id),
                        "progress after the end"
                    );
                    self.progress.push(*record);
                }
                Output::Record(record) => {
                    assert!(!self.records.iter().any(|known| known.id == record.id), "one record a call");
                    assert!(record.status.is_final() && record.ended_unix_ms.is_some());
                    self.records.push(*record);
                }
                Output::Verdict(verdict) => self.verdicts.push(*verdict),
                Output::Ladder { rungs, .. } => self.ladders.push(rungs),
            }
        }
        if let Some((at, reason)) = self.engine.poll_timeout() {
            assert!(at > self.now, "{reason} lies in the past");
        }
    }

    pub(crate) fn bridge_opened(&mut self, call: CallId) {
        let rtp = RTP.parse().expect("an address");
        self.engine.handle(self.now, Input::BridgeOpened { call, rtp });
        let plan = self.plans.iter().rev().find(|plan| plan.call == call).expect("its bridge was asked for");
        if plan.agent.dial == AgentDial::WithThePort {
            self.dial_agent(call);
        }
    }

    fn open_second(&mut self, call: CallId) {
        match self.ports {
            Ports::Bind => {
                let rtp = SECOND_RTP.parse().expect("an address");
                self.engine.handle(self.now, Input::SecondOpened { call, rtp });
            }
            Ports::Refuse(cause) => self.engine.handle(self.now, Input::SecondFailed { call, cause }),
            Ports::Silent => {}
        }
    }

    fn dial_agent(&mut self, call: CallId) {
        match self.agent.clone() {
            AgentMood::Answers => self.engine.handle(self.now, Input::AgentConnected { call }),
            AgentMood::Refuses(cause) => self.engine.handle(self.now, Input::AgentRefused { call, cause }),
            AgentMood::Silent => {}
        }
    }

    pub(crate) fn bridge_closed(&mut self, call: CallId) {
        let mut statistics = BridgeStatistics::default();
        statistics.rtp.packets_received = 100;
        self.engine.handle(self.now, Input::BridgeClosed { call, statistics: Box::new(statistics) });
    }

    /// Addresses stand for themselves; of names the desk knows those it was told.
    fn find_way(&mut self, call: CallId, wanted: &Wanted) {
        if !self.finds_ways {
            return;
        }
        let (host, port) = (wanted.host.as_str(), wanted.port.unwrap_or(5060));
        let transport = wanted.transport.unwrap_or(Transport::Udp);
        let addresses: Vec<SocketAddr> = match host.parse::<IpAddr>() {
            Ok(address) => vec![SocketAddr::new(address, port)],
            Err(_) => self.names.get(host).cloned().unwrap_or_default(),
        };
        let local: SocketAddr = LOCAL.parse().expect("an address");
        let way = |remote| Way { transport, local, remote };
        let input = match addresses.is_empty() {
            false => Input::WayFound { call, ways: addresses.into_iter().map(way).collect() },
            true => Input::WayFailed { call, why: format!("its name {host} does not resolve") },
        };
        self.engine.handle(self.now, input);
    }

    /// Lets time pass, deadline by deadline.
    pub(crate) fn advance(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some((at, _)) = self.engine.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = at;
            self.input(Input::Timeout);
        }
        self.now = end;
    }

    pub(crate) fn receive(&mut self, source: &str, message: &str) {
        self.receive_bytes(source, message.as_bytes().to_vec());
    }

    pub(crate) fn receive_bytes(&mut self, source: &str, message: Vec<u8>) {
        let flow = Flow {
            transport: Transport::Udp,
            local: LOCAL.parse().expect("an address"),
            remote: source.parse::<SocketAddr>().expect("an address"),
            connection: 0,
        };
        self.input(Input::Datagram { flow, payload: Bytes::from(message) });
    }

    /// What was sent since the last look, as start lines.
    pub(crate) fn lines(&mut self) -> Vec<String> {
        let lines = self.sent.iter().map(|text| text.lines().next().unwrap_or_default().to_owned()).collect();
        self.sent.clear();
        lines
    }

    /// The latest message sent whose start line holds this.
    pub(crate) fn last(&self, part: &str) -> String {
        let found =
            self.sent.iter().rev().find(|text| text.lines().next().unwrap_or_default().contains(part));
        found.unwrap_or_else(|| panic!("no {part} among {:#?}", self.sent)).clone()
    }

    /// The only call there was.
    pub(crate) fn call(&self) -> CallId {
        assert_eq!(self.plans.len(), 1);
        self.plans[0].call
    }

    /// The only record there is.
    pub(crate) fn record(&self) -> &CallRecord {
        assert_eq!(self.records.len(), 1, "one call, one record");
        &self.records[0]
    }

    /// The only verdict there is.
    pub(crate) fn verdict(&self) -> &Verdict {
        assert_eq!(self.verdicts.len(), 1, "one INVITE, one verdict: {:#?}", self.verdicts);
        &self.verdicts[0]
    }

    /// Lets everything run out and sees that nothing is left.
    pub(crate) fn assert_empty(&mut self) {
        self.advance(Duration::from_secs(120));
        let census = self.engine.census();
        assert_eq!(census, tandem_call::Census::default(), "something is left");
        assert_eq!(self.ladders.len(), self.records.len(), "one ladder a call");
        assert_eq!(self.engine.counters().unexpected_inputs, 0);
    }
}

/// An output in a few words.
fn short(output: &Output) -> Option<String> {
    Some(match output {
        Output::Transmit(transmit) => {
            let text = String::from_utf8_lossy(&transmit.payload);
            let line = text.lines().next()?;
            match line.strip_prefix("SIP/2.0 ") {
                Some(status) => format!("sends {}", status.split(' ').next()?),
                None => format!("sends {}", line.split(' ').next()?),
            }
        }
        Output::OpenBridge { .. } => "opens bridge".to_owned(),
        Output::Gateway { key, health } => {
            let state = health.as_ref().map_or("unwatched", |health| health.state.as_str());
            format!("gateway {} {state}", key.host)
        }
        Output::OpenSecond { .. } => "opens second port".to_owned(),
        Output::Registration { trunk, status, .. } => {
            let state = status.as_ref().map_or("none", |status| status.state.as_str());
            format!("registration {trunk} {state}")
        }
        Output::DialAgent { .. } => "dials agent".to_owned(),
        Output::FindWay { wanted, .. } => format!("finds {}", wanted.host),
        Output::NotPlaced { no_room, .. } => format!("NOT PLACED {}", no_room.code),
        Output::FindRoute { keys, .. } => format!("find {}", keys.join(", ")),
        Output::Bridge { command: BridgeCommand::Media(_), .. } => "bridge: Media".to_owned(),
        Output::Bridge { command: BridgeCommand::SecondMedia { .. }, .. } => "bridge: SecondMedia".to_owned(),
        Output::Bridge { command, .. } => format!("bridge: {command:?}"),
        Output::CloseBridge { .. } => "closes bridge".to_owned(),
        Output::Progress(record) => format!("progress {}", record.status.as_str()),
        Output::Record(record) => {
            let by = record.hangup_by.map_or("nobody", |by| by.as_str());
            let reason = record.hangup_reason.map_or("no reason", |reason| reason.as_str());
            format!("RECORD {} by {by} ({reason})", record.status.as_str())
        }
        Output::Verdict(verdict) => format!("verdict {} {}", verdict.code, verdict.status),
        Output::Ladder { .. } => "ladder".to_owned(),
    })
}

/// A caller at a carrier.
pub(crate) struct Caller {
    pub(crate) address: &'static str,
    pub(crate) call_id: String,
    pub(crate) uri: String,
    pub(crate) cseq: u32,
    pub(crate) extra: String,
    pub(crate) offer: Option<String>,
    pub(crate) to_tag: String,
}

pub(crate) const OFFER: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\n";

impl Caller {
    pub(crate) fn new() -> Self {
        Self {
            address: "192.0.2.1:5060",
            call_id: "call-1@carrier".to_owned(),
            uri: "sip:+918047102030@203.0.113.1".to_owned(),
            cseq: 1,
            extra: String::new(),
            offer: Some(OFFER.to_owned()),
            to_tag: String::new(),
        }
    }

    pub(crate) fn invite(&self) -> String {
        self.request("INVITE", self.cseq, &self.branch("INVITE"), self.offer.as_deref())
    }

    pub(crate) fn send_invite(&self, desk: &mut Desk) {
        desk.receive(self.address, &self.invite());
    }

    /// Takes the To tag of a response.
    pub(crate) fn take_tag(&mut self, desk: &Desk, status: &str) {
        let answer = desk.last(status);
        let to = answer.lines().find(|line| line.starts_with("To:")).expect("the response has a To");
        self.to_tag = to.split(";tag=").nth(1).expect("the response has a To tag").to_owned();
    }

    pub(crate) fn send_ack(&self, desk: &mut Desk, body: Option<&str>) {
        let ack = self.request("ACK", self.cseq, &self.branch("ACK"), body);
        desk.receive(self.address, &ack);
    }

    /// The ACK to a refusal, which belongs to the INVITE's transaction.
    pub(crate) fn send_cancel(&self, desk: &mut Desk) {
        let cancel = self.request("CANCEL", self.cseq, &self.branch("INVITE"), None);
        desk.receive(self.address, &cancel);
    }

    pub(crate) fn send(&mut self, desk: &mut Desk, method: &str, body: Option<&str>) {
        self.cseq += 1;
        let request = self.request(method, self.cseq, &self.branch(method), body);
        desk.receive(self.address, &request);
    }

    /// INVITE, 200, ACK.
    pub(crate) fn set_up(&mut self, desk: &mut Desk) {
        self.send_invite(desk);
        self.take_tag(desk, "200");
        self.send_ack(desk, None);
    }

    fn branch(&self, method: &str) -> String {
        format!("z9hG4bK{}{method}{}", self.call_id, self.cseq)
    }

    pub(crate) fn request(&self, method: &str, cseq: u32, branch: &str, body: Option<&str>) -> String {
        let tag = if self.to_tag.is_empty() { String::new() } else { format!(";tag={}", self.to_tag) };
        let body = body.unwrap_or_default();
        let content_type = if body.is_empty() || self.extra.contains("Content-Type") {
            String::new()
        } else {
            "Content-Type: application/sdp\r\n".to_owned()
        };
        format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {address};branch={branch};rport\r\nMax-Forwards: 70\r\n\
             From: <sip:+4930123@carrier>;tag=from1\r\nTo: <{uri}>{tag}\r\nCall-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\nContact: <sip:caller@{address}>\r\n{extra}{content_type}\
             Content-Length: {length}\r\n\r\n{body}",
            uri = self.uri,
            address = self.address,
            call_id = self.call_id,
            extra = self.extra,
            length = body.len(),
        )
    }
}

/// A trunk by address, one by digest, and an agent each.
pub(crate) fn house() -> RoutingTable {
    house_with(|_| {})
}

pub(crate) fn house_with(change: impl FnOnce(&mut Vec<Trunk>)) -> RoutingTable {
    house_with_rules(change, &AgentRules::default())
}

/// As [`house_with`], every agent with these rules.
pub(crate) fn house_with_rules(change: impl FnOnce(&mut Vec<Trunk>), rules: &AgentRules) -> RoutingTable {
    let mut by_address = Trunk::new("ta", "a", "first");
    by_address.inbound_enabled = true;
    by_address.sources.push("192.0.2.0/29".parse().expect("a range"));
    let mut trunks = vec![by_address];
    change(&mut trunks);
    let agent = |id: &str, account: &str| Agent {
        id: id.into(),
        account: account.into(),
        name: id.into(),
        socket: Some(
            AgentSocket {
                url: "ws://agent.example/ws/{execution_id}?from={from}".to_owned(),
                dialect: DialectConfig::new(DialectKind::Asterisk),
                headers: vec![("X-Name".to_owned(), "{header:X-Name}".to_owned())],
                subprotocol: None,
                parameters: vec![("trunk".to_owned(), "{trunk_id}".to_owned())],
                on_close: OnClose::Drain,
                fallback_url: None,
            }
            .into(),
        ),
        rules: rules.clone(),
    };
    let number = |id: &str, account: &str, trunk: &str, number: &str, agent: &str| Number {
        id: id.into(),
        account: account.into(),
        trunk: trunk.into(),
        number: number.to_owned(),
        destination_key: None,
        is_active: true,
        agent: Some(agent.into()),
        is_for_pstn: false,
    };
    RoutingTable::build(
        1,
        trunks,
        vec![number("na", "a", "ta", "+918047102030", "ga"), number("nd", "d", "td", "14155550100", "gd")],
        vec![agent("ga", "a"), agent("gd", "d")],
    )
}
