//! A seed becomes a plan: which carriers and agents, which faults, which scripts, which timings.
//!
//! In the style of swarm testing each run turns most features off, so that rare combinations come up often. The plan
//! is plain data: scripted tests write theirs by hand.

mod orders;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use tandem_media::Law;
use tandem_sip::Transport;

use crate::agent::plan::{AgentPlan, Connect, Mode, Speech, Turn};
use crate::carrier::digest::{Credentials, DigestTrick};
use crate::carrier::script::{
    AckPlan, Act, CallPlan, Change, Lose, Refresher, Reliable, Step, Talk, When, after_answer, after_invite,
};
use crate::carrier::sdp::{ExtraSection, Flowing, OfferPlan};
use crate::dice::Dice;
use crate::link::LinkProfile;
use crate::operator::OperatorAct;

/// Tandem's SIP address.
pub const TANDEM_SIP: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), 5060);

/// A stranger's address: in no trunk's ranges.
pub const STRANGER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 66)), 5060);

/// An address that nobody has.
pub const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 99)), GATEWAY_PORT);

/// The port of every gateway.
pub const GATEWAY_PORT: u16 = 5060;

/// A carrier and the trunk by which it is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CarrierPlan {
    /// User name and password of a trunk that proves itself by digest.
    pub userpass: Option<(String, String)>,
    /// Codecs of the trunk.
    pub codecs: Vec<Law>,
    /// The trunk is switched on.
    pub is_active: bool,
    /// The trunk takes inbound calls.
    pub inbound_enabled: bool,
    /// The trunk's limit of concurrent calls.
    pub calls_max: Option<u32>,
    /// The path of its signalling, both ways.
    pub sip: LinkProfile,
    /// The path of its RTP, both ways.
    pub rtp: LinkProfile,
}

impl CarrierPlan {
    /// An ip-based trunk with both laws, over clean paths.
    pub fn clean() -> Self {
        Self {
            userpass: None,
            codecs: vec![Law::Mulaw, Law::Alaw],
            is_active: true,
            inbound_enabled: true,
            calls_max: None,
            sip: LinkProfile::clean(),
            rtp: LinkProfile::clean(),
        }
    }
}

/// A number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumberPlan {
    /// As its owner wrote it.
    pub number: String,
    /// On which carrier's trunk.
    pub carrier: usize,
    /// Who answers.
    pub agent: Option<usize>,
    /// Switched on.
    pub is_active: bool,
}

/// A path that is cut for a while, one way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Whose path.
    pub carrier: usize,
    /// The path of RTP, not of SIP.
    pub is_rtp: bool,
    /// From the carrier to Tandem, not back.
    pub to_tandem: bool,
    /// From the start of the run on.
    pub from: Duration,
    /// How long.
    pub lasts: Duration,
}

/// A whole run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where it came from; also the seed of the engine and of every path.
    pub seed: u64,
    /// The carriers.
    pub carriers: Vec<CarrierPlan>,
    /// The agents.
    pub agents: Vec<AgentPlan>,
    /// The numbers.
    pub numbers: Vec<NumberPlan>,
    /// The calls.
    pub calls: Vec<CallPlan>,
    /// The operator's acts.
    pub operator: Vec<(Duration, OperatorAct)>,
    /// Paths that are cut for a while.
    pub cuts: Vec<Cut>,
    /// RTP ports Tandem has.
    pub ports: u16,
    /// How long a port rests before it is used again.
    pub port_rest: Duration,
    /// How long binding a port takes the shell.
    pub bind: Duration,
    /// When the network is healed; all calls start before.
    pub heal_at: Duration,
    /// The node's limit of concurrent calls.
    pub calls_max: Option<usize>,
}

impl Plan {
    /// One clean carrier, one echo agent of the given speech on `+18005550100`, no calls yet.
    pub fn quiet(speech: Speech) -> Self {
        Self {
            seed: 1,
            carriers: vec![CarrierPlan::clean()],
            agents: vec![AgentPlan::echo(speech)],
            numbers: vec![NumberPlan { number: NUMBER.into(), carrier: 0, agent: Some(0), is_active: true }],
            calls: Vec::new(),
            operator: Vec::new(),
            cuts: Vec::new(),
            ports: 64,
            port_rest: Duration::from_secs(5),
            bind: Duration::from_millis(1),
            heal_at: Duration::from_secs(20),
            calls_max: None,
        }
    }

    /// The same with one more call.
    pub fn call(mut self, plan: CallPlan) -> Self {
        self.calls.push(plan);
        self
    }

    /// Address of a carrier's signalling.
    pub fn carrier_ip(carrier: usize) -> IpAddr {
        IpAddr::V4(Ipv4Addr::new(198, 51, 100, (16 * carrier + 10) as u8))
    }

    /// The network of a carrier's trunk, a /28.
    pub fn carrier_network(carrier: usize) -> (IpAddr, u8) {
        (IpAddr::V4(Ipv4Addr::new(198, 51, 100, (16 * carrier) as u8)), 28)
    }

    /// Address of one of a carrier's gateways, beside that of its callers.
    pub fn gateway_address(carrier: usize, gateway: usize) -> SocketAddr {
        let ip = IpAddr::V4(Ipv4Addr::new(198, 51, 100, (16 * carrier + 1 + gateway) as u8));
        SocketAddr::new(ip, GATEWAY_PORT)
    }

    /// Which gateway of a carrier has this address.
    pub fn gateway_of(carrier: usize, address: SocketAddr) -> Option<usize> {
        (0..8).find(|gateway| Self::gateway_address(carrier, *gateway) == address)
    }

    /// How many gateways a carrier's trunk has: as many as the orders over it know of.
    pub fn gateways_of(&self, carrier: usize) -> usize {
        let orders =
            self.calls.iter().filter(|call| call.carrier == carrier).filter_map(|call| call.ordered.as_ref());
        orders.map(|order| order.gateways.len()).max().unwrap_or(0)
    }

    /// Whether a caller's audio reaches its agent whole, in order and unchanged but for the law.
    pub fn is_clean(&self, call: &CallPlan) -> bool {
        let disturbing = |act: &Act| {
            matches!(
                act,
                Act::Reinvite(_)
                    | Act::Update(_)
                    | Act::Press(_)
                    | Act::MovePort
                    | Act::RestartRtp
                    | Act::Mute
                    | Act::Speak
                    | Act::RubbishRtp(_)
                    | Act::Hush(_)
                    | Act::Forget
                    | Act::Reset
            )
        };
        let is_cut = self.cuts.iter().any(|cut| cut.carrier == call.carrier && cut.is_rtp);
        self.carriers[call.carrier].rtp.is_clean()
            && !is_cut
            && !(call.session_timer.is_some() && call.refreshes)
            && call.skew_ppm == 0
            && matches!(call.offer.ptime_ms, 10 | 20 | 30 | 40)
            && !call.steps.iter().any(|step| disturbing(&step.act))
    }

    /// The plan of a seed.
    pub fn from_seed(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut plan = Self::quiet(Speech::AsteriskPlain);
        plan.seed = seed;
        let features = Features::draw(&mut dice);
        plan.carriers = (0..dice.between(1, 3)).map(|index| carrier(&mut dice, &features, index)).collect();
        plan.agents = (0..dice.between(1, 4)).map(|_| agent(&mut dice, &features)).collect();
        plan.numbers = numbers(&mut dice, &features, &plan);
        plan.ports = if features.scarcity { dice.between(2, 6) as u16 } else { 64 };
        plan.port_rest = Duration::from_secs(dice.between(1, 5));
        plan.bind = dice.millis(0, 20);
        let calls = dice.between(3, 10);
        for index in 0..calls {
            let call = call(&mut dice, &features, &plan, index);
            plan.calls.push(call);
        }
        plan.heal_at = Duration::from_secs(12);
        plan.calls_max = (features.scarcity && dice.chance(300)).then(|| dice.between(2, 4) as usize);
        if features.operator {
            let count = dice.between(1, 3);
            for _ in 0..count {
                let at = dice.millis(100, 9000);
                let choice = match dice.below(10) {
                    0..=2 => OperatorAct::Reload,
                    3 => OperatorAct::Unplug,
                    4..=6 => OperatorAct::HangUp(dice.below(calls) as usize),
                    7..=8 => OperatorAct::SendDigits(dice.below(calls) as usize),
                    _ => OperatorAct::Drain(dice.millis(1000, 10_000)),
                };
                plan.operator.push((at, choice));
            }
        }
        if features.cuts {
            for _ in 0..dice.between(1, 2) {
                let carrier = dice.below(plan.carriers.len() as u64) as usize;
                let (from, lasts) = (dice.millis(200, 7000), dice.millis(300, 5000));
                let (is_rtp, to_tandem) = (dice.chance(400), dice.chance(500));
                plan.cuts.push(Cut { carrier, is_rtp, to_tandem, from, lasts });
            }
        }
        orders::add(&mut plan);
        plan
    }
}

/// The number of [`Plan::quiet`].
pub const NUMBER: &str = "+18005550100";

/// Which features a run has on.
#[derive(Debug)]
struct Features {
    sip_loss: bool,
    rtp_loss: bool,
    jitter: bool,
    streams: bool,
    bad_agents: bool,
    bad_callers: bool,
    races: bool,
    changes: bool,
    strangers: bool,
    digest: bool,
    misrouting: bool,
    scarcity: bool,
    operator: bool,
    forgetful: bool,
    garble: bool,
    cuts: bool,
    long: bool,
}

impl Features {
    fn draw(dice: &mut Dice) -> Self {
        let mut on = |per_mille| dice.chance(per_mille);
        Self {
            sip_loss: on(400),
            rtp_loss: on(300),
            jitter: on(300),
            streams: on(350),
            bad_agents: on(350),
            bad_callers: on(250),
            races: on(500),
            changes: on(450),
            strangers: on(250),
            digest: on(250),
            misrouting: on(200),
            scarcity: on(100),
            operator: on(250),
            forgetful: on(60),
            garble: on(200),
            cuts: on(200),
            long: on(150),
        }
    }
}

fn carrier(dice: &mut Dice, features: &Features, index: u64) -> CarrierPlan {
    let mut plan = CarrierPlan::clean();
    plan.sip.delay = dice.millis(1, 60);
    plan.rtp.delay = dice.millis(1, 60);
    if features.sip_loss {
        plan.sip.loss = dice.between(10, 250) as u32;
        plan.sip.duplicate = dice.below(80) as u32;
        plan.sip.reorder = dice.below(50) as u32;
        plan.sip.reorder_by = dice.millis(20, 1200);
        plan.sip.jitter = dice.millis(0, 80);
        if dice.chance(200) {
            plan.sip.burst_start = 20;
            plan.sip.burst_continue = 700;
        }
    }
    if features.garble {
        plan.sip.garble = dice.between(5, 60) as u32;
    }
    if features.rtp_loss {
        plan.rtp.loss = dice.between(1, 150) as u32;
        plan.rtp.duplicate = dice.below(30) as u32;
        if dice.chance(400) {
            plan.rtp.burst_start = dice.between(2, 15) as u32;
            plan.rtp.burst_continue = 800;
        }
        plan.rtp.corrupt = if dice.chance(200) { 5 } else { 0 };
    }
    if features.jitter {
        plan.rtp.jitter = dice.millis(1, 60);
        plan.rtp.reorder = dice.below(20) as u32;
        plan.rtp.reorder_by = dice.millis(10, 40);
    }
    if features.streams {
        plan.sip.chunk = if dice.chance(500) { dice.between(1, 90) as usize } else { 0 };
        plan.sip.stall = dice.below(60) as u32;
        plan.sip.stall_for = dice.millis(50, 2000);
    }
    if features.digest && dice.chance(600) {
        plan.userpass = Some((format!("trunk{index}"), format!("secret{index}")));
    }
    plan.codecs = match dice.below(4) {
        0 => vec![Law::Alaw, Law::Mulaw],
        1 => vec![Law::Mulaw],
        _ => vec![Law::Mulaw, Law::Alaw],
    };
    if features.misrouting && dice.chance(150) {
        plan.is_active = false;
    } else if features.misrouting && dice.chance(150) {
        plan.inbound_enabled = false;
    }
    plan.calls_max = (features.scarcity && dice.chance(300)).then(|| dice.between(1, 3) as u32);
    plan
}

fn agent(dice: &mut Dice, features: &Features) -> AgentPlan {
    let mut plan = AgentPlan::echo(*dice.pick(&Speech::ALL));
    plan.connect = Connect::After(dice.millis(1, 400));
    plan.mode = match dice.below(9) {
        0..=2 => Mode::Echo,
        3 => Mode::Silent,
        4..=5 => Mode::RealTime { piece_ms: *dice.pick(&[20, 40, 60, 100]) },
        6 => Mode::Burst { length_ms: dice.between(3, 40) as u32 * 20 },
        _ => Mode::BargeIn {
            length_ms: dice.between(20, 100) as u32 * 20,
            flush_after_ms: dice.between(50, 1200) as u32,
        },
    };
    if dice.chance(200) {
        plan.turns.push((dice.millis(100, 3000), Turn::IdleMark));
        plan.turns.push((dice.millis(100, 3000), Turn::IdleFlush));
    }
    if dice.chance(150) {
        plan.turns.push((dice.millis(200, 2500), Turn::Odd));
    }
    if dice.chance(100) {
        plan.turns.push((dice.millis(200, 2500), Turn::Wishes));
    }
    if dice.chance(100) {
        plan.turns.push((dice.millis(200, 2500), Turn::SendDigits));
    }
    if features.bad_agents {
        match dice.below(9) {
            0 => plan.connect = Connect::Refuse(dice.millis(1, 1500)),
            1 => plan.connect = Connect::Silence(Duration::from_secs(5)),
            2 => plan.turns.push((dice.millis(100, 3000), Turn::Drop)),
            3 => plan.turns.push((dice.millis(100, 3000), Turn::Close)),
            4 => plan.turns.push((dice.millis(100, 3000), Turn::HangUp)),
            5 => plan.turns.push((dice.millis(100, 3000), Turn::Rubbish(dice.between(1, 90) as u16))),
            6 => plan.turns.push((dice.millis(100, 2000), Turn::Flood(dice.between(5, 40) as u16))),
            7 => plan.turns.push((dice.millis(100, 2000), Turn::StopReading(dice.between(100, 5000) as u32))),
            _ => plan.connect = Connect::After(dice.millis(2000, 9000)),
        }
    }
    plan
}

fn numbers(dice: &mut Dice, features: &Features, plan: &Plan) -> Vec<NumberPlan> {
    let mut numbers = Vec::new();
    for carrier in 0..plan.carriers.len() {
        for line in 0..dice.between(1, 3) {
            let mut number = NumberPlan {
                number: format!("{}1800555{carrier}{line:02}0", if dice.chance(700) { "+" } else { "" }),
                carrier,
                agent: Some(dice.below(plan.agents.len() as u64) as usize),
                is_active: true,
            };
            if features.misrouting && dice.chance(150) {
                number.agent = None;
            } else if features.misrouting && dice.chance(150) {
                number.is_active = false;
            }
            numbers.push(number);
        }
    }
    numbers
}

fn call(dice: &mut Dice, features: &Features, plan: &Plan, index: u64) -> CallPlan {
    let number = dice.pick(&plan.numbers).clone();
    let mut call = CallPlan::plain(number.carrier, 0x0100 + index as u16, &number.number);
    call.start = dice.millis(0, 4000);
    if dice.chance(200) {
        // The carrier writes the number its own way.
        call.number = number.number.trim_start_matches('+').to_owned();
    }
    if features.misrouting && dice.chance(250) {
        match dice.below(3) {
            0 => call.number = "+19995550000".into(),
            1 => call.carrier = dice.below(plan.carriers.len() as u64) as usize,
            _ => {
                call.to = Some(call.number.clone());
                call.number = "trunk-user".into();
            }
        }
    }
    if features.streams && dice.chance(600) {
        call.transport = Transport::Tcp;
    }
    call.proxied = dice.chance(250);
    call.nat = dice.chance(150);
    call.offer = offer(dice, features);
    credentials(dice, &mut call, plan);
    call.reliable =
        *dice.pick(&[Reliable::No, Reliable::No, Reliable::No, Reliable::Supported, Reliable::Required]);
    if dice.chance(150) {
        let refresher = *dice.pick(&[Refresher::Unsaid, Refresher::Caller, Refresher::Tandem]);
        call.session_timer = Some((90 + dice.below(200) as u32, refresher));
    }
    if features.jitter && dice.chance(300) {
        call.skew_ppm = dice.between(0, 400) as i32 - 200;
    }
    call.reports = dice.chance(800);
    call.talk = if dice.chance(80) { Talk::Silent } else { Talk::Voice };
    call.steps = steps(dice, features);
    if features.races && dice.chance(200) {
        call.ack = *dice.pick(&[AckPlan::Late(Duration::from_millis(700)), AckPlan::Twice]);
    }
    if features.bad_callers && dice.chance(150) {
        call.ack = AckPlan::Never;
        if dice.chance(500) {
            call.steps = vec![after_answer(45_000, Act::Bye)];
        }
    }
    if features.long && index == 0 {
        make_long(dice, &mut call);
    }
    if features.races && dice.chance(250) {
        let (to_tandem, what) = *dice.pick(&[
            (true, "ACK"),
            (false, "200 INVITE"),
            (true, "BYE"),
            (false, "200 BYE"),
            (true, "INVITE"),
        ]);
        call.lose.push(Lose { to_tandem, what, count: dice.between(1, 4) as u32 });
    }
    call
}

/// A call that outlives its session timer, whoever is to refresh it and whether it does.
fn make_long(dice: &mut Dice, call: &mut CallPlan) {
    let refresher = *dice.pick(&[Refresher::Unsaid, Refresher::Caller, Refresher::Tandem]);
    call.session_timer = Some((90 + dice.below(60) as u32, refresher));
    call.refreshes = dice.chance(400);
    call.steps
        .retain(|step| !matches!(step.act, Act::Bye | Act::ByeNow | Act::Cancel | Act::Mute | Act::Forget));
    call.steps.push(after_answer(dice.between(100_000, 250_000), Act::Bye));
    call.ack = AckPlan::Prompt;
    call.talk = Talk::Voice;
}

fn offer(dice: &mut Dice, features: &Features) -> OfferPlan {
    let mut offer = OfferPlan::usual();
    offer.laws = match dice.below(6) {
        0 => vec![Law::Alaw, Law::Mulaw],
        1 => vec![Law::Alaw],
        2 => vec![Law::Mulaw],
        _ => vec![Law::Mulaw, Law::Alaw],
    };
    if features.misrouting && dice.chance(120) {
        offer.laws.clear();
    }
    offer.ptime_ms = *dice.pick(&[20, 20, 20, 20, 10, 30, 40, 60]);
    offer.telephone_event = *dice.pick(&[Some(101), Some(101), Some(96), None]);
    offer.extra =
        *dice.pick(&[ExtraSection::None, ExtraSection::None, ExtraSection::Video, ExtraSection::T38Behind]);
    offer.delayed = features.changes && dice.chance(150);
    offer
}

fn credentials(dice: &mut Dice, call: &mut CallPlan, plan: &Plan) {
    let Some((username, password)) = plan.carriers[call.carrier].userpass.clone() else { return };
    let trick = match dice.below(12) {
        0 => DigestTrick::WrongPassword,
        1 => DigestTrick::WrongRealm,
        2 => DigestTrick::WrongUri,
        3 => DigestTrick::ForgedNonce,
        _ => DigestTrick::Honest,
    };
    call.credentials = Some(Credentials { username, password, trick });
}

fn steps(dice: &mut Dice, features: &Features) -> Vec<Step> {
    let mut steps = Vec::new();
    let length = dice.between(500, 5000);
    if features.forgetful && dice.chance(200) {
        steps.push(after_answer(length, Act::Forget));
    } else if dice.chance(850) {
        steps.push(after_answer(length, Act::Bye));
    } else {
        // Somebody else ends the call first, or this does.
        steps.push(after_answer(length + 6000, Act::Bye));
    }
    if features.races {
        match dice.below(10) {
            0 => steps.push(after_invite(dice.between(0, 500), Act::Cancel)),
            1 => steps.push(after_invite(dice.between(0, 60), Act::Cancel)),
            2 => steps.push(Step { when: When::Ringing(dice.millis(0, 500)), act: Act::Cancel }),
            3 => steps.push(after_answer(0, Act::ByeNow)),
            4 => steps.push(after_answer(dice.between(0, 40), Act::Bye)),
            5 => steps.push(after_invite(dice.between(0, 300), Act::RepeatInvite)),
            6 => steps.push(after_answer(dice.between(0, 900), Act::RepeatInvite)),
            7 => steps.push(after_answer(dice.between(0, 900), Act::RepeatAck)),
            8 => steps.push(after_invite(dice.between(1, 400), Act::Merge)),
            9 => steps.push(Step { when: When::Ringing(dice.millis(0, 200)), act: Act::ByeNow }),
            _ => {}
        }
    }
    if features.changes {
        for _ in 0..dice.below(3) {
            let change = *dice.pick(&[
                Change::Refresh,
                Change::Direction(Flowing::SendOnly),
                Change::Direction(Flowing::Inactive),
                Change::Direction(Flowing::ZeroAddress),
                Change::Direction(Flowing::SendReceive),
                Change::NewPort,
                Change::NewContact,
                Change::SwitchLaw(Law::Alaw),
                Change::SwitchLaw(Law::Mulaw),
                Change::Fax,
                Change::NoCodec,
                Change::NoOffer,
            ]);
            let is_update = change != Change::NoOffer && dice.chance(300);
            let act = if is_update { Act::Update(change) } else { Act::Reinvite(change) };
            steps.push(after_answer(dice.between(100, 3500), act));
        }
        for _ in 0..dice.below(3) {
            let digit = *dice.pick(&['1', '5', '0', '#', '*']);
            let act = if dice.chance(250) { Act::Info(digit) } else { Act::Press(digit) };
            steps.push(after_answer(dice.between(200, 3500), act));
        }
    }
    if features.strangers {
        match dice.below(6) {
            0 => steps.push(after_answer(dice.between(0, 1500), Act::StrangerBye)),
            1 => steps.push(after_answer(dice.between(0, 1500), Act::StrangerReinvite)),
            2 => steps.push(after_answer(dice.between(0, 1500), Act::RubbishRtp(20))),
            _ => steps.push(after_answer(dice.between(0, 1500), Act::StrangerRtp(30))),
        }
    }
    if features.bad_callers {
        match dice.below(9) {
            0 => steps.push(after_answer(dice.between(100, 2500), Act::OldCseq)),
            1 => steps.push(after_answer(dice.between(100, 2500), Act::Nonsense)),
            2 => steps.push(after_answer(dice.between(100, 2500), Act::MovePort)),
            3 => steps.push(after_answer(dice.between(100, 2500), Act::RestartRtp)),
            4 => steps.push(after_answer(dice.between(100, 2500), Act::Mute)),
            5 => steps.push(after_answer(dice.between(100, 2500), Act::Reset)),
            6 => steps.push(after_answer(dice.between(100, 2500), Act::Options)),
            7 => steps.push(after_answer(dice.between(100, 2500), Act::Hush(dice.between(100, 1500) as u16))),
            _ => {}
        }
    }
    // A caller that vanishes while it is on hold is missed by nobody but its session timer.
    let vanishes = steps.iter().any(|step| matches!(step.act, Act::Forget | Act::Reset));
    if vanishes {
        steps.retain(|step| !matches!(step.act, Act::Reinvite(_) | Act::Update(_)));
    }
    steps
}
