//! One simulated caller: a UAC that follows its script, keeps its own few transactions and answers what it is asked.
//!
//! RFC 3261 sections 9, 12, 13, 15 and 17.1 as a UAC sees them, RFC 3262 for PRACK. Like the product's machines it is
//! fed inputs with a `now` and asked for its next wake; unlike them it may be told to misbehave.

mod acts;
mod called;
mod compose;
mod requests;
mod responses;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::Transport;

use super::messages;
use super::reporter::Reporter;
use super::script::{Act, CallPlan, Change, When};
use super::sdp::OfferPlan;
use super::speaker::Speaker;
use crate::audio::Alphabet;
use crate::dice::Dice;
use called::Called;

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
    /// Sends a message from the address of a gateway.
    Gateway {
        /// Which, in the order of the trunk's list.
        gateway: usize,
        /// The message.
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
    /// Tandem was to call, and nobody here took the call up.
    NotReached,
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
    /// Its RTCP.
    pub reporter: Reporter,
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
    /// What its own clock is counted from.
    born_at: Instant,
    called: Called,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Todo {
    Step(Act),
    Ack(u32),
    Authorize,
    GiveUp,
    Refresh,
    Report,
}

impl Caller {
    /// A caller who has not called yet.
    pub fn new(
        index: usize,
        plan: CallPlan,
        place: Place,
        alphabet: Rc<Alphabet>,
        mut dice: Dice,
        born_at: Instant,
    ) -> Self {
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
            reporter: Reporter::default(),
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
            born_at,
            called: Called::default(),
        }
    }

    /// Whether nothing more is expected of this call.
    pub fn is_over(&self) -> bool {
        self.outcome.ending.is_some()
    }

    /// Whether some request of this caller still waits for its final response.
    pub fn is_waiting(&self) -> bool {
        !self.pending.is_empty() || self.called.is_busy()
    }

    /// RTP of Tandem reaches the caller at this moment.
    pub fn hear_rtp(&mut self, at: Instant, bytes: &[u8]) {
        self.reporter.heard.packet(at.saturating_duration_since(self.born_at), bytes);
    }

    /// RTCP of Tandem reaches the caller.
    pub fn hear_report(&mut self, at: Instant, bytes: &[u8]) {
        self.reporter.take_report(at.saturating_duration_since(self.born_at), bytes);
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
        transactions.chain(todo).chain(speaker).chain(self.called.wake()).min()
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
        self.serve_gateways(now, deeds);
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
            Todo::Report => self.report(now, deeds),
            Todo::Refresh => {
                let by_update = self.branches.is_multiple_of(2);
                let change = Change::Refresh;
                self.act(now, if by_update { Act::Update(change) } else { Act::Reinvite(change) }, deeds);
            }
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

    /// Sends a report, and plans the next.
    fn report(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let (Some(speaker), Some(mut to)) = (&self.speaker, self.rtp_to) else { return };
        let (ssrc, timestamp) = speaker.stream();
        let payload =
            self.reporter.write(now.saturating_duration_since(self.born_at), ssrc, timestamp, speaker.sent);
        let mut from = self.rtp_from;
        from.set_port(from.port() + 1);
        to.set_port(to.port() + 1);
        deeds.push(Deed::Rtp { from, to, payload: Bytes::from(payload) });
        let pause = self.dice.millis(1000, 4000);
        self.todo.push((now + pause, Todo::Report));
    }

    fn speak(&mut self, now: Instant, deeds: &mut Vec<Deed>) {
        let Some(speaker) = &mut self.speaker else { return };
        // Its clock runs on where a garbled answer did not say where to.
        while speaker.next_at <= now {
            if let (Some(payload), Some(to)) = (speaker.packet(&self.alphabet), self.rtp_to) {
                deeds.push(Deed::Rtp { from: self.rtp_from, to, payload });
            }
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
        self.called.forget();
        self.todo.clear();
        self.end(now, Ending::Forgot);
    }
}
