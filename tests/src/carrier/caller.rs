//! One simulated caller: a UAC that follows its script, keeps its own few transactions and answers what it is asked.
//!
//! RFC 3261 sections 9, 12, 13, 15 and 17.1 as a UAC sees them, RFC 3262 for PRACK. Like the product's machines it is
//! fed inputs with a `now` and asked for its next wake; unlike them it may be told to misbehave.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::Transport;

use super::digest::{self, DigestTrick};
use super::messages::{self, Line, Received};
use super::script::{AckPlan, Act, CallPlan, Change, Refresher, Reliable, Talk, When};
use super::sdp::{self, ExtraSection, Flowing, OfferPlan};
use super::speaker::Speaker;
use crate::audio::Alphabet;
use crate::dice::Dice;

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const PATIENCE: Duration = Duration::from_secs(32);
/// A caller that hears it ringing this long gives up.
const RINGING_MAX: Duration = Duration::from_secs(75);

/// The addresses of one caller.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The caller's own SIP address.
    pub local: SocketAddr,
    /// What it names as Contact.
    pub contact: SocketAddr,
    /// The proxy's address, if one record-routes.
    pub proxy: Option<SocketAddr>,
    /// Where RTP is sent from and wanted.
    pub rtp: SocketAddr,
    /// Tandem's SIP address.
    pub tandem: SocketAddr,
}

impl Place {
    /// The address SIP comes from.
    pub fn source(&self) -> SocketAddr {
        self.proxy.unwrap_or(self.local)
    }
}

/// What a caller does to the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// Sends a message over the call's own flow.
    Sip(Bytes),
    /// Sends a datagram from a stranger's address.
    Stranger(Bytes),
    /// Sends RTP.
    Rtp {
        /// From this port of the caller.
        from: SocketAddr,
        /// To Tandem.
        to: SocketAddr,
        /// The packet.
        payload: Bytes,
    },
    /// Sends RTP as a stranger.
    StrangerRtp {
        /// To Tandem.
        to: SocketAddr,
        /// The packet.
        payload: Bytes,
    },
    /// Breaks the TCP connection.
    Reset,
}

/// How a call ended, in its caller's eyes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// A final response other than 2xx.
    Refused(u16),
    /// The caller sent BYE, or CANCEL and saw 487.
    Caller,
    /// Tandem sent BYE.
    Tandem,
    /// No final response came in time.
    Unanswered,
    /// The caller forgot everything.
    Forgot,
}

/// What a caller has seen of its call.
#[derive(Debug, Clone, Default)]
pub struct Outcome {
    /// 180 or 183 came.
    pub rang_at: Option<Instant>,
    /// The first 200 came.
    pub answered_at: Option<Instant>,
    /// When it was over.
    pub ended_at: Option<Instant>,
    /// How.
    pub ending: Option<Ending>,
    /// Final statuses to requests of the script, in order: `("INVITE", 200)`.
    pub finals: Vec<(String, u16)>,
    /// Messages of Tandem that rsip could not read.
    pub unreadable: Vec<String>,
    /// Requests of Tandem, in order.
    pub requests: Vec<String>,
}

#[derive(Debug)]
struct Pending {
    purpose: Purpose,
    method: String,
    bytes: Bytes,
    interval: Duration,
    next: Option<Instant>,
    deadline: Instant,
    proceeding: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    /// The call's own INVITE.
    Invite,
    /// A re-INVITE or UPDATE.
    Change(Change),
    /// Anything else inside the call.
    Request,
    /// Beside the call: a merged request, a replayed digest.
    Aside,
}

/// The caller.
#[derive(Debug)]
pub struct Caller {
    /// Its script.
    pub plan: CallPlan,
    /// Its addresses.
    pub place: Place,
    /// What it saw.
    pub outcome: Outcome,
    /// Its voice, once it speaks.
    pub speaker: Option<Speaker>,
    /// Call-ID.
    pub call_id: String,
    alphabet: Rc<Alphabet>,
    dice: Dice,
    from_tag: String,
    to_tag: String,
    remote_target: String,
    cseq: u32,
    invite: Bytes,
    invite_branch: String,
    invite_cseq: u32,
    offerless: BTreeSet<u32>,
    authorization: Option<String>,
    challenged: u32,
    pending: BTreeMap<String, Pending>,
    acks: BTreeMap<u32, Bytes>,
    first_answer_to: BTreeMap<u32, Instant>,
    served: BTreeMap<String, Bytes>,
    todo: Vec<(Instant, Todo)>,
    rtp_from: SocketAddr,
    rtp_to: Option<SocketAddr>,
    offer: OfferPlan,
    sdp_version: u64,
    cancelled: bool,
    forgot: bool,
    /// BYE is out: no new request follows it.
    is_leaving: bool,
    branches: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Todo {
    Step(Act),
    Ack(u32),
    Authorize,
    GiveUp,
}

impl Caller {
    /// A caller who has not called yet.
    pub fn new(index: usize, plan: CallPlan, place: Place, alphabet: Rc<Alphabet>, mut dice: Dice) -> Self {
        let call_id = format!("c{index}-{:08x}", dice.bits() as u32);
        let from_tag = format!("f{:06x}", dice.below(1 << 24));
        let offer = plan.offer.clone();
        let mut rtp_from = place.rtp;
        if plan.nat {
            rtp_from.set_port(place.rtp.port() + 20_000);
        }
        Self {
            remote_target: format!("sip:{}@{}", plan.number, place.tandem),
            plan,
            place,
            outcome: Outcome::default(),
            speaker: None,
            call_id,
            alphabet,
            dice,
            from_tag,
            to_tag: String::new(),
            cseq: 0,
            invite: Bytes::new(),
            invite_branch: String::new(),
            invite_cseq: 0,
            offerless: BTreeSet::new(),
            authorization: None,
            challenged: 0,
            pending: BTreeMap::new(),
            acks: BTreeMap::new(),
            first_answer_to: BTreeMap::new(),
            served: BTreeMap::new(),
            todo: Vec::new(),
            rtp_from,
            rtp_to: None,
            offer,
            sdp_version: 1,
            cancelled: false,
            forgot: false,
            is_leaving: false,
            branches: 0,
        }
    }

    /// Whether nothing more is expected of this call.
    pub fn is_over(&self) -> bool {
        self.outcome.ending.is_some()
    }

    /// Whether some request of this caller still waits for its final response.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty()
    }

    /// Where Tandem takes this call's RTP, once it said so.
    pub fn rtp_to(&self) -> Option<SocketAddr> {
        self.rtp_to
    }

    /// The law it speaks, once it speaks.
    pub fn law(&self) -> Option<tandem_media::Law> {
        self.speaker.as_ref().map(Speaker::law)
    }

    /// When it wants to be woken.
    pub fn wake(&self) -> Option<Instant> {
        let transactions =
            self.pending.values().flat_map(|pending| [pending.next, Some(pending.deadline)]).flatten();
        let todo = self.todo.iter().map(|(at, _)| *at);
        let speaker = self.speaker.iter().map(|speaker| speaker.next_at);
        transactions.chain(todo).chain(speaker).min()
    }

    /// Calls.
    pub fn begin(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        self.plan_steps(now, |when| match when {
            When::Sent(after) => Some(after),
            _ => None,
        });
        self.send_invite(now, deeds);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let mut due: Vec<(Instant, Todo)> = Vec::new();
        self.todo.retain(|item| {
            let is_due = item.0 <= now;
            if is_due {
                due.push(item.clone());
            }
            !is_due
        });
        for (_, todo) in due {
            self.take_up(now, todo, deeds);
        }
        self.retransmit(now, deeds);
        self.speak(now, deeds);
    }

    /// The TCP connection is gone. RFC 5923 would have us open another; this caller forgets instead.
    pub fn handle_stream_closed(&mut self, now: Instant) {
        if self.plan.transport != Transport::Udp {
            self.forget(now);
        }
    }

    /// Takes a message from Tandem.
    pub fn handle_sip(&mut self, now: Instant, bytes: &[u8], deeds: &mut Vec<Deed>) {
        if self.forgot {
            return;
        }
        match messages::read(bytes) {
            Err(why) => self.outcome.unreadable.push(why),
            Ok(received) if received.status == 0 => self.handle_request(now, received, deeds),
            Ok(received) => self.handle_response(now, received, deeds),
        }
    }

    fn take_up(&mut self, now: Instant, todo: Todo, deeds: &mut Vec<Deed>) {
        match todo {
            Todo::Step(act) => self.act(now, act, deeds),
            Todo::Ack(cseq) => {
                if let Some(ack) = self.acks.get(&cseq) {
                    deeds.push(Deed::Sip(ack.clone()));
                }
            }
            Todo::Authorize => self.send_invite(now, deeds),
            Todo::GiveUp if self.outcome.ending.is_none() && self.outcome.answered_at.is_none() => {
                if self.cancelled {
                    self.end(now, Ending::Unanswered);
                } else {
                    self.act(now, Act::Cancel, deeds);
                }
            }
            Todo::GiveUp => {}
        }
    }

    fn plan_steps(&mut self, now: Instant, offset: impl Fn(When) -> Option<Duration>) {
        for step in &self.plan.steps {
            if let Some(after) = offset(step.when) {
                self.todo.push((now + after, Todo::Step(step.act.clone())));
            }
        }
    }

    fn retransmit(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let mut expired = Vec::new();
        for (branch, pending) in &mut self.pending {
            if pending.deadline <= now {
                expired.push(branch.clone());
            } else if pending.next.is_some_and(|next| next <= now) {
                pending.interval *= 2;
                if pending.method != "INVITE" {
                    pending.interval = if pending.proceeding { T2 } else { pending.interval.min(T2) };
                }
                pending.next = Some(now + pending.interval);
                deeds.push(Deed::Sip(pending.bytes.clone()));
            }
        }
        for branch in expired {
            let Some(pending) = self.pending.remove(&branch) else { continue };
            match (pending.purpose, pending.method.as_str()) {
                (Purpose::Invite, _) => self.end(now, Ending::Unanswered),
                (_, "BYE") => self.end(now, Ending::Caller),
                _ => {}
            }
        }
    }

    fn speak(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let (Some(speaker), Some(to)) = (&mut self.speaker, self.rtp_to) else { return };
        while speaker.next_at <= now {
            if let Some(payload) = speaker.packet(&self.alphabet) {
                deeds.push(Deed::Rtp { from: self.rtp_from, to, payload });
            }
        }
    }

    // Requests of the script.

    fn act(&mut self, now: Instant, act: Act, deeds: &mut Vec<Deed>) {
        let answered = self.outcome.answered_at.is_some();
        let over = self.is_over() || self.is_leaving;
        match act {
            Act::Cancel if !answered && !over => {
                self.cancelled = true;
                self.todo.push((now + PATIENCE, Todo::GiveUp));
                let bytes = self.cancel();
                self.send(
                    now,
                    "CANCEL",
                    bytes,
                    self.invite_branch.clone() + "/CANCEL",
                    Purpose::Request,
                    deeds,
                );
            }
            Act::Cancel | Act::Bye if answered && !over => {
                self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds)
            }
            Act::Bye if !over => self.act(now, Act::Cancel, deeds),
            Act::ByeNow if !over && !self.to_tag.is_empty() => {
                self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds);
            }
            Act::Reinvite(change) if answered && !over => self.change(now, "INVITE", change, deeds),
            Act::Update(change) if answered && !over => self.change(now, "UPDATE", change, deeds),
            Act::Info(digit) if answered && !over => {
                let body = format!("Signal={digit}\r\nDuration=160\r\n").into_bytes();
                let line = Line("Content-Type", "application/dtmf-relay".into());
                self.request(now, "INFO", vec![line], body, Purpose::Request, deeds);
            }
            Act::Options if answered && !over => {
                self.request(now, "OPTIONS", vec![], vec![], Purpose::Request, deeds)
            }
            Act::Nonsense if answered && !over => {
                self.request(now, "PUBLISH", vec![], vec![], Purpose::Request, deeds)
            }
            Act::OldCseq if answered && !over => self.old_request(now, deeds),
            Act::Press(digit) => self.speaker.iter_mut().for_each(|speaker| speaker.press(digit)),
            Act::MovePort => self.rtp_from.set_port(self.rtp_from.port() + 20_000),
            Act::RestartRtp => {
                let bits = self.dice.bits();
                self.speaker.iter_mut().for_each(|speaker| speaker.restart(bits));
            }
            Act::Mute => self.speaker.iter_mut().for_each(|speaker| speaker.muted = true),
            Act::Speak => self.speaker.iter_mut().for_each(|speaker| speaker.muted = false),
            Act::Forget => self.forget(now),
            // Nobody repeats a request on a stream.
            Act::RepeatInvite if self.plan.transport == Transport::Udp => {
                deeds.push(Deed::Sip(self.invite.clone()))
            }
            Act::RepeatAck => deeds.extend(self.acks.values().next().cloned().map(Deed::Sip)),
            Act::Merge => self.merge(now, deeds),
            Act::ReplayDigest => self.replay_digest(now, deeds),
            Act::StrangerRtp(count) | Act::RubbishRtp(count) => self.intrude(now, &act, count, deeds),
            Act::StrangerBye | Act::StrangerReinvite if answered => {
                let method = if act == Act::StrangerBye { "BYE" } else { "INVITE" };
                let (bytes, _) = self.in_dialog(method, self.cseq + 1, vec![], vec![]);
                deeds.push(Deed::Stranger(bytes));
            }
            Act::Reset => deeds.push(Deed::Reset),
            _ => {}
        }
    }

    fn intrude(&mut self, now: Instant, act: &Act, count: u16, deeds: &mut Vec<Deed>) {
        let Some(to) = self.rtp_to else { return };
        let bits = self.dice.bits();
        if let Act::RubbishRtp(_) = act {
            for _ in 0..count {
                let length = self.dice.below(60) as usize;
                let payload: Vec<u8> = (0..length).map(|_| self.dice.bits() as u8).collect();
                deeds.push(Deed::Rtp { from: self.rtp_from, to, payload: Bytes::from(payload) });
            }
            return;
        }
        // A stranger's voice is 0xdead: if it is ever heard, the checks know whose it was.
        let law = self.offer.laws.first().copied().unwrap_or(tandem_media::Law::Mulaw);
        let mut stranger = Speaker::new(0xdead, law, 20, None, now, bits);
        for _ in 0..count {
            deeds.extend(stranger.packet(&self.alphabet).map(|payload| Deed::StrangerRtp { to, payload }));
        }
    }

    fn change(&mut self, now: Instant, method: &'static str, change: Change, deeds: &mut Vec<Deed>) {
        // RFC 3261 14.1: no new INVITE while one is in progress.
        if self.pending.values().any(|pending| matches!(pending.purpose, Purpose::Change(_))) {
            return;
        }
        if change == Change::NewPort {
            self.place.rtp.set_port(self.place.rtp.port() + 2000);
        }
        if change == Change::NewContact {
            self.place.contact.set_port(self.place.contact.port() + 100);
        }
        self.sdp_version += 1;
        let mut offer = self.offer.clone();
        let mut flowing = Flowing::SendReceive;
        match change {
            Change::Direction(direction) => flowing = direction,
            Change::SwitchLaw(law) => offer.laws = vec![law],
            Change::Fax => offer.extra = ExtraSection::T38Alone,
            Change::NoCodec => offer.laws.clear(),
            _ => {}
        }
        let body = match change {
            Change::NoOffer => Vec::new(),
            _ => sdp::write(&offer, self.place.rtp, self.sdp_version, flowing),
        };
        let lines =
            if body.is_empty() { vec![] } else { vec![Line("Content-Type", "application/sdp".into())] };
        self.request(now, method, lines, body, Purpose::Change(change), deeds);
        if change == Change::NoOffer {
            self.offerless.insert(self.cseq);
        }
    }

    fn old_request(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        if self.cseq < 2 {
            self.cseq += 5;
            self.request(now, "OPTIONS", vec![], vec![], Purpose::Request, deeds);
        }
        let (bytes, branch) = self.in_dialog("INFO", self.cseq - 1, vec![], vec![]);
        self.send(now, "INFO", bytes, branch, Purpose::Request, deeds);
    }

    fn merge(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let branch = self.branch();
        let text = String::from_utf8_lossy(&self.invite).replace(&self.invite_branch, &branch);
        self.send(now, "INVITE", Bytes::from(text), branch, Purpose::Aside, deeds);
    }

    fn replay_digest(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        // The branch holds the Call-ID, so it is put in last.
        let again = format!("{}-again", self.call_id);
        let old_branch = self.invite_branch.replace(&self.call_id, &again);
        let branch = self.branch();
        let text = String::from_utf8_lossy(&self.invite)
            .replace(&self.from_tag, "replayed")
            .replace(&self.call_id, &again)
            .replace(&old_branch, &branch);
        self.send(now, "INVITE", Bytes::from(text), branch, Purpose::Aside, deeds);
    }

    fn send_invite(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        self.cseq += 1;
        let branch = self.branch();
        let uri = format!("sip:{}@{}", self.plan.number, self.place.tandem);
        let to_user = self.plan.to.clone().unwrap_or_else(|| self.plan.number.clone());
        let mut lines = self.common_lines(&branch, "INVITE", self.cseq);
        lines.push(Line("To", format!("<sip:{to_user}@{}>", self.place.tandem)));
        lines.push(Line("Contact", self.contact()));
        if let Some(proxy) = self.place.proxy {
            lines.push(Line("Record-Route", format!("<sip:{proxy};lr{}>", self.transport_parameter())));
        }
        lines.push(Line("Allow", "INVITE, ACK, CANCEL, BYE, OPTIONS, INFO, UPDATE, PRACK".into()));
        match self.plan.reliable {
            Reliable::No => {}
            Reliable::Supported => lines.push(Line("Supported", "100rel".into())),
            Reliable::Required => lines.push(Line("Require", "100rel".into())),
        }
        if let Some((seconds, refresher)) = self.plan.session_timer {
            lines.push(Line("Supported", "timer".into()));
            let suffix = match refresher {
                Refresher::Unsaid => "",
                Refresher::Caller => ";refresher=uac",
                Refresher::Tandem => ";refresher=uas",
            };
            lines.push(Line("Session-Expires", format!("{seconds}{suffix}")));
        }
        if let Some(authorization) = &self.authorization {
            lines.push(Line("Authorization", authorization.clone()));
        }
        lines.extend(self.plan.extra.iter().map(|(name, value)| Line(name, value.clone())));
        let mut body = Vec::new();
        if !self.plan.offer.delayed {
            body = sdp::write(&self.offer, self.place.rtp, self.sdp_version, Flowing::SendReceive);
            lines.push(Line("Content-Type", "application/sdp".into()));
        }
        self.invite = messages::request("INVITE", &uri, lines, &body);
        self.invite_branch.clone_from(&branch);
        self.invite_cseq = self.cseq;
        if self.plan.offer.delayed {
            self.offerless.insert(self.cseq);
        }
        self.send(now, "INVITE", self.invite.clone(), branch, Purpose::Invite, deeds);
    }

    fn request(
        &mut self,
        now: Instant,
        method: &'static str,
        lines: Vec<Line>,
        body: Vec<u8>,
        purpose: Purpose,
        deeds: &mut Vec<Deed>,
    ) {
        self.is_leaving |= method == "BYE";
        self.cseq += 1;
        let (bytes, branch) = self.in_dialog(method, self.cseq, lines, body);
        self.send(now, method, bytes, branch, purpose, deeds);
    }

    fn in_dialog(
        &mut self,
        method: &'static str,
        cseq: u32,
        extra: Vec<Line>,
        body: Vec<u8>,
    ) -> (Bytes, String) {
        let branch = self.branch();
        let mut lines = self.common_lines(&branch, method, cseq);
        lines.push(Line("To", self.to()));
        if matches!(method, "INVITE" | "UPDATE") {
            lines.push(Line("Contact", self.contact()));
        }
        lines.extend(extra);
        (messages::request(method, &self.remote_target.clone(), lines, &body), branch)
    }

    fn send(
        &mut self,
        now: Instant,
        method: &str,
        bytes: Bytes,
        branch: String,
        purpose: Purpose,
        deeds: &mut Vec<Deed>,
    ) {
        let unreliable = self.plan.transport == Transport::Udp;
        let pending = Pending {
            purpose,
            method: method.to_owned(),
            bytes: bytes.clone(),
            interval: T1,
            next: unreliable.then(|| now + T1),
            deadline: now + PATIENCE,
            proceeding: false,
        };
        self.pending.insert(branch, pending);
        deeds.push(Deed::Sip(bytes));
    }

    fn cancel(&self) -> Bytes {
        // RFC 3261 9.1: Request-URI, Via, From, To, Call-ID and CSeq number as in the INVITE.
        let uri = format!("sip:{}@{}", self.plan.number, self.place.tandem);
        let to_user = self.plan.to.clone().unwrap_or_else(|| self.plan.number.clone());
        let mut lines = self.common_lines(&self.invite_branch, "CANCEL", self.invite_cseq);
        lines.push(Line("To", format!("<sip:{to_user}@{}>", self.place.tandem)));
        messages::request("CANCEL", &uri, lines, b"")
    }

    fn common_lines(&self, branch: &str, method: &str, cseq: u32) -> Vec<Line> {
        let name = self.plan.transport.via_name();
        let mut lines = Vec::new();
        match self.place.proxy {
            Some(proxy) => {
                lines.push(Line("Via", format!("SIP/2.0/{name} {proxy};branch={branch};rport")));
                lines.push(Line("Via", format!("SIP/2.0/UDP {};branch={branch}u", self.place.local)));
            }
            None => {
                lines.push(Line("Via", format!("SIP/2.0/{name} {};branch={branch};rport", self.place.local)))
            }
        }
        lines.push(Line("Max-Forwards", self.plan.max_forwards.to_string()));
        lines.push(Line(
            "From",
            format!("<sip:{}@{}>;tag={}", self.plan.from, self.place.contact.ip(), self.from_tag),
        ));
        lines.push(Line("Call-ID", self.call_id.clone()));
        lines.push(Line("CSeq", format!("{cseq} {method}")));
        lines
    }

    fn to(&self) -> String {
        let to_user = self.plan.to.as_ref().unwrap_or(&self.plan.number);
        format!("<sip:{to_user}@{}>;tag={}", self.place.tandem, self.to_tag)
    }

    fn contact(&self) -> String {
        // Behind a proxy the caller itself speaks UDP; the proxy changes over.
        let parameter = if self.place.proxy.is_some() { "" } else { self.transport_parameter() };
        format!("<sip:{}@{}{parameter}>", self.plan.from, self.place.contact)
    }

    fn transport_parameter(&self) -> &'static str {
        if self.plan.transport == Transport::Udp { "" } else { ";transport=tcp" }
    }

    fn branch(&mut self) -> String {
        self.branches += 1;
        format!("z9hG4bK{}.{:x}", self.call_id, self.branches)
    }

    // Responses to them.

    fn handle_response(&mut self, now: Instant, received: Received, deeds: &mut Vec<Deed>) {
        let key = if received.method == "CANCEL" {
            received.branch.clone() + "/CANCEL"
        } else {
            received.branch.clone()
        };
        let is_invite = received.method == "INVITE";
        if received.status < 200 {
            self.handle_provisional(now, &key, &received, deeds);
            return;
        }
        if is_invite && received.status >= 300 {
            // RFC 3261 17.1.1.3: every repeat of the final response is acknowledged again, in the same transaction.
            let ack = self.ack_failure(&received);
            deeds.push(Deed::Sip(ack));
        }
        let Some(pending) = self.pending.remove(&key) else {
            if is_invite && received.status < 300 {
                self.acknowledge(now, &received, deeds);
            }
            return;
        };
        self.outcome.finals.push((pending.method.clone(), received.status));
        match pending.purpose {
            Purpose::Invite => self.handle_final(now, received, deeds),
            Purpose::Change(change) => self.handle_changed(now, change, &pending, &received, deeds),
            Purpose::Request if pending.method == "BYE" => self.end(now, Ending::Caller),
            Purpose::Request | Purpose::Aside => {}
        }
    }

    fn handle_provisional(&mut self, now: Instant, key: &str, received: &Received, deeds: &mut Vec<Deed>) {
        if let Some(pending) = self.pending.get_mut(key) {
            if pending.method == "INVITE" {
                pending.next = None;
                pending.deadline = now + RINGING_MAX + PATIENCE * 2;
            } else {
                pending.proceeding = true;
            }
        }
        if received.status == 100 || received.method != "INVITE" {
            return;
        }
        if !received.to_tag.is_empty() && self.to_tag.is_empty() {
            self.to_tag.clone_from(&received.to_tag);
        }
        if let Some(contact) = &received.contact {
            self.remote_target.clone_from(contact);
        }
        if let Some(rseq) = received.rseq {
            let rack = Line("RAck", format!("{rseq} {} INVITE", received.cseq));
            self.request(now, "PRACK", vec![rack], vec![], Purpose::Request, deeds);
        }
        if self.outcome.rang_at.is_none() {
            self.outcome.rang_at = Some(now);
            self.todo.push((now + RINGING_MAX, Todo::GiveUp));
            self.plan_steps(now, |when| match when {
                When::Ringing(after) => Some(after),
                _ => None,
            });
        }
    }

    fn handle_final(&mut self, now: Instant, received: Received, deeds: &mut Vec<Deed>) {
        if matches!(received.status, 401 | 407) && self.plan.credentials.is_some() && self.challenged < 2 {
            self.challenged += 1;
            self.answer_challenge(now, &received, deeds);
        } else if received.status >= 300 {
            self.end(now, if self.cancelled { Ending::Caller } else { Ending::Refused(received.status) });
        } else {
            self.handle_answer(now, &received, deeds);
        }
    }

    fn answer_challenge(&mut self, now: Instant, received: &Received, deeds: &mut Vec<Deed>) {
        let Some(mut credentials) = self.plan.credentials.clone() else { return };
        let mut after = Duration::ZERO;
        if let DigestTrick::StaleNonce(seconds) = credentials.trick {
            if self.challenged == 1 {
                after = Duration::from_secs(u64::from(seconds));
            }
            credentials.trick = DigestTrick::Honest;
        }
        let uri = format!("sip:{}@{}", self.plan.number, self.place.tandem);
        self.authorization = digest::answer(&received.challenges, &credentials, "INVITE", &uri);
        match self.authorization {
            None => self.end(now, Ending::Refused(received.status)),
            Some(_) if after.is_zero() => self.send_invite(now, deeds),
            Some(_) => self.todo.push((now + after, Todo::Authorize)),
        }
    }

    fn handle_answer(&mut self, now: Instant, received: &Received, deeds: &mut Vec<Deed>) {
        self.to_tag.clone_from(&received.to_tag);
        if let Some(contact) = &received.contact {
            self.remote_target.clone_from(contact);
        }
        self.outcome.answered_at = Some(now);
        if let Some(section) = sdp::audio(&received.body) {
            self.rtp_to = section.rtp();
            let law = section.law().unwrap_or(tandem_media::Law::Mulaw);
            if self.plan.talk == Talk::Voice {
                let bits = self.dice.bits();
                let events = self.offer.telephone_event;
                let mut speaker = Speaker::new(self.plan.voice, law, self.offer.ptime_ms, events, now, bits);
                speaker.skew_ppm = self.plan.skew_ppm;
                self.speaker = Some(speaker);
            }
        }
        self.acknowledge(now, received, deeds);
        if self.cancelled {
            // RFC 3261 9.1 and RFC 5407 3.1.2: the 200 won the race, so the call is ended by BYE.
            self.request(now, "BYE", vec![], vec![], Purpose::Request, deeds);
            return;
        }
        self.plan_steps(now, |when| match when {
            When::Answered(after) => Some(after),
            _ => None,
        });
        self.speak(now, deeds);
    }

    fn acknowledge(&mut self, now: Instant, received: &Received, deeds: &mut Vec<Deed>) {
        if !self.acks.contains_key(&received.cseq) {
            // RFC 3261 13.2.2.4: the CSeq number of the INVITE, a branch of its own.
            let body = if self.offerless.contains(&received.cseq) && !received.body.is_empty() {
                sdp::write(&self.offer, self.place.rtp, self.sdp_version, Flowing::SendReceive)
            } else {
                Vec::new()
            };
            let lines =
                if body.is_empty() { vec![] } else { vec![Line("Content-Type", "application/sdp".into())] };
            let (ack, _) = self.in_dialog("ACK", received.cseq, lines, body);
            self.acks.insert(received.cseq, ack);
        }
        let first = *self.first_answer_to.entry(received.cseq).or_insert(now);
        let Some(ack) = self.acks.get(&received.cseq).cloned() else { return };
        match self.plan.ack {
            AckPlan::Never => {}
            AckPlan::Late(after) if now == first => self.todo.push((now + after, Todo::Ack(received.cseq))),
            AckPlan::Late(after) if now < first + after => {}
            AckPlan::Twice => deeds.extend([Deed::Sip(ack.clone()), Deed::Sip(ack)]),
            AckPlan::Prompt | AckPlan::Late(_) => deeds.push(Deed::Sip(ack)),
        }
    }

    fn ack_failure(&self, received: &Received) -> Bytes {
        // RFC 3261 17.1.1.3: the same Via and Request-URI as the INVITE, To as in the response.
        let uri = if received.branch == self.invite_branch || received.call_id != self.call_id {
            format!("sip:{}@{}", self.plan.number, self.place.tandem)
        } else {
            self.remote_target.clone()
        };
        let mut lines = vec![];
        lines.extend(received.vias.iter().take(1).map(|via| Line("Via", strip_received(via))));
        lines.push(Line("Max-Forwards", "70".into()));
        lines.push(Line("From", received.from.clone()));
        lines.push(Line("To", received.to.clone()));
        lines.push(Line("Call-ID", received.call_id.clone()));
        lines.push(Line("CSeq", format!("{} ACK", received.cseq)));
        messages::request("ACK", &uri, lines, b"")
    }

    fn handle_changed(
        &mut self,
        now: Instant,
        change: Change,
        pending: &Pending,
        received: &Received,
        deeds: &mut Vec<Deed>,
    ) {
        if received.status == 491 && !self.is_over() {
            // RFC 3261 14.1: the owner of the Call-ID waits 2.1 to 4 s.
            let act = if pending.method == "INVITE" { Act::Reinvite(change) } else { Act::Update(change) };
            self.todo.push((now + Duration::from_millis(2100), Todo::Step(act)));
        }
        if received.status >= 300 {
            if matches!(received.status, 408 | 481) {
                // RFC 3261 12.2.1.2: the dialog is gone.
                self.end(now, Ending::Tandem);
            }
            return;
        }
        if pending.method == "INVITE" {
            self.acknowledge(now, received, deeds);
        }
        let silent = matches!(
            change,
            Change::Direction(Flowing::ReceiveOnly | Flowing::Inactive | Flowing::ZeroAddress)
        );
        if change == Change::NewPort {
            self.rtp_from = self.place.rtp;
        }
        if let Some(section) = sdp::audio(&received.body) {
            self.rtp_to = section.rtp();
            if let (Some(speaker), Some(law)) = (&mut self.speaker, section.law()) {
                speaker.set_law(law);
            }
        }
        self.speaker.iter_mut().for_each(|speaker| speaker.muted = silent);
    }

    // Requests from Tandem.

    fn handle_request(&mut self, now: Instant, received: Received, deeds: &mut Vec<Deed>) {
        if received.method == "ACK" {
            return;
        }
        let key = format!("{}/{}", received.branch, received.method);
        if let Some(bytes) = self.served.get(&key) {
            deeds.push(Deed::Sip(bytes.clone()));
            return;
        }
        self.outcome.requests.push(received.method.clone());
        let busy = self.pending.values().any(|pending| matches!(pending.purpose, Purpose::Change(_)));
        let contact = || Line("Contact", self.contact());
        let (status, extra, body) = match received.method.as_str() {
            "BYE" => (200, vec![], vec![]),
            "INVITE" | "UPDATE" if busy => (491, vec![], vec![]),
            "INVITE" | "UPDATE" => {
                let mut lines = vec![contact()];
                if let Some(expires) = &received.session_expires {
                    lines.push(Line("Session-Expires", expires.clone()));
                    lines.push(Line("Require", "timer".into()));
                }
                let wants_offer = received.method == "INVITE" && received.body.is_empty();
                if received.body.is_empty() && !wants_offer {
                    (200, lines, vec![])
                } else {
                    lines.push(Line("Content-Type", "application/sdp".into()));
                    let body =
                        sdp::write(&self.offer, self.place.rtp, self.sdp_version, Flowing::SendReceive);
                    (200, lines, body)
                }
            }
            "OPTIONS" | "INFO" => (200, vec![], vec![]),
            _ => (501, vec![], vec![]),
        };
        let bytes = messages::response(&received, status, &self.from_tag, extra, &body);
        if self.served.len() > 16 {
            self.served.pop_first();
        }
        self.served.insert(key, bytes.clone());
        deeds.push(Deed::Sip(bytes));
        if received.method == "BYE" {
            self.end(now, Ending::Tandem);
        }
    }

    fn end(&mut self, now: Instant, ending: Ending) {
        if self.outcome.ending.is_none() {
            self.outcome.ending = Some(ending);
            self.outcome.ended_at = Some(now);
        }
        self.speaker = None;
        self.todo.retain(|(_, todo)| {
            matches!(todo, Todo::Ack(_) | Todo::Step(Act::RepeatInvite | Act::RepeatAck | Act::ReplayDigest))
        });
    }

    fn forget(&mut self, now: Instant) {
        self.forgot = true;
        self.pending.clear();
        self.todo.clear();
        self.end(now, Ending::Forgot);
    }
}

fn strip_received(via: &str) -> String {
    let kept = via.split(';').filter(|part| !part.starts_with("received=") && !part.starts_with("rport"));
    let mut text = kept.collect::<Vec<_>>().join(";");
    text.push_str(";rport");
    text
}
