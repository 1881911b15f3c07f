//! One call, from its admission to its record: the carrier's SIP leg and the agent's leg under one roof. A call that comes in:
//!
//! ```text
//!  admitted ─► AwaitingBridge ──port bound──► AwaitingAgent ──connected, 200──► AwaitingAck ──ACK──► AwaitingEnd
//!                   │ 100                          │ 180                            │                    │
//!                   └──────────── CANCEL, failure, hang-up, limit ──────────────────┴────────────────────┘
//!                                                  ▼
//!                      AwaitingBridgeClose ──closed: the record──► AwaitingLastMessage ──► gone
//! ```
//!
//! A call that we place has its own way to the answer (`placed` draws it) and from there on the same life.
//!
//! What it refuses to do: parse SIP or SDP, hold timers of SIP, touch audio. Each state is named for what it awaits, and
//! each has one deadline. Every input is answered in every state: the matches below have no catch-all arm.
//! RFC 3261 sections 13.3 and 15, RFC 3264, RFC 3326, RFC 4028, RFC 5407.

mod caller;
mod change;
mod end;
mod ending;
mod outbound;
mod placed;
mod refused;
mod second;
mod taping;
mod transfer;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::{EndedBy, SessionId};

pub(crate) use self::outbound::Outgoing;
use self::transfer::Transfers;
use crate::admission::Permit;
use crate::bridge::{AgentWish, BridgeCommand, BridgeEvent, BridgeStatistics};
use crate::caller_lookup::CallerAnswer;
use crate::encryption;
use crate::gateways::Way;
use crate::ids::CallId;
use crate::incident::IncidentKind;
use crate::input::{AgentFailure, BridgeFailure, HangUpCommand};
use crate::ladder::{Ladder, Rung};
use crate::negotiation::Negotiation;
use crate::node::Node;
use crate::output::Output;
use crate::record::{CallRecord, CallStatus};
use crate::recording::{RecordingCommand, RecordingRule};
use crate::table::Trunk;
use crate::transfer::{TransferBy, TransferOrder};
use crate::verdict::{Check, StepOutcome, Verdict, VerdictCode};

/// How long a finished call's ladder waits for the last messages once its session is over: the answer to our BYE, mostly.
const LAST_MESSAGES: Duration = Duration::from_secs(4);

/// How long it waits for the session itself to end. The endpoint ends each within 64*T1, 32 s.
const SESSION_END: Duration = Duration::from_secs(40);

/// What a call awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Awaiting {
    /// The address of a gateway.
    Way,
    /// A media port.
    Bridge,
    /// The callee's answer to our INVITE.
    Answer,
    /// The agent's WebSocket; the caller hears ringing.
    Agent,
    /// The caller's ACK to our 200.
    Ack,
    /// The agent's WebSocket; the callee has answered.
    Listener,
    /// The end: the call is up.
    End,
    /// The end of the bridge; signalling is over or on its way out.
    BridgeClose,
    /// The last SIP messages, for the ladder; the record is out.
    LastMessage,
}

impl Awaiting {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Way => "way",
            Self::Bridge => "bridge",
            Self::Answer => "answer",
            Self::Agent => "agent",
            Self::Ack => "ack",
            Self::Listener => "listener",
            Self::End => "end",
            Self::BridgeClose => "bridge close",
            Self::LastMessage => "last message",
        }
    }
}

/// What happens to a call.
#[derive(Debug)]
pub(crate) enum Happening {
    WayFound { ways: Vec<Way> },
    WayFailed { why: String },
    Progress { session: SessionId, status: u16, body: Option<Bytes> },
    Answered { session: SessionId, status: u16, body: Option<Bytes> },
    BridgeOpened { rtp: SocketAddr },
    BridgeFailed { cause: BridgeFailure },
    AgentConnected,
    AgentRefused { cause: AgentFailure },
    CallerLookedUp { must_be_known: bool, answer: CallerAnswer },
    Bridge { event: BridgeEvent },
    BridgeClosed { statistics: Box<BridgeStatistics> },
    Acknowledged { session: SessionId, body: Option<Bytes> },
    Offer { session: SessionId, offer: Option<Bytes> },
    Info { session: SessionId, content_type: Option<Bytes>, body: Bytes },
    ReferAnswered { status: u16 },
    ReferProgress { status: Option<u16>, is_over: bool },
    Referred { session: SessionId, refer_to: Bytes },
    Transfer { order: Box<TransferOrder> },
    SecondOpened { rtp: SocketAddr },
    SecondFailed { cause: BridgeFailure },
    SessionEnded { session: SessionId, by: EndedBy, reason: Option<Bytes> },
    HangUp { as_what: HangUpCommand },
    SendDtmf { digits: String, duration_ms: u16 },
    Record { command: RecordingCommand },
    RecordingFailed { why: String },
    DrainEnded,
    Deadline,
}

/// Whether a bridge exists that must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BridgeLife {
    /// Not yet asked for.
    Unasked,
    Asked,
    Open,
    Gone,
}

/// One call.
#[derive(Debug)]
pub(crate) struct LiveCall {
    pub(crate) id: CallId,
    pub(crate) sip_call_id: Bytes,
    pub(crate) awaits: Awaiting,
    trunk: Arc<Trunk>,
    /// The agent's own bound, within the node's.
    max_duration: Option<Duration>,
    /// The agent's rule.
    recording: Option<RecordingRule>,
    peer: SocketAddr,
    /// The caller's leg, until its end was reported.
    session: Option<SessionId>,
    permit: Option<Permit>,
    negotiation: Negotiation,
    bridge: BridgeLife,
    record: CallRecord,
    /// Held until the INVITE has its final response.
    verdict: Option<Box<Verdict>>,
    ladder: Ladder,
    deadline: Option<Instant>,
    /// What a call has that we place; none that came to us has it.
    outgoing: Option<Box<Outgoing>>,
    transfers: Transfers,
}

/// What a call is made of.
pub(crate) struct Parts {
    pub(crate) id: CallId,
    pub(crate) sip_call_id: Bytes,
    pub(crate) trunk: Arc<Trunk>,
    pub(crate) max_duration: Option<Duration>,
    pub(crate) recording: Option<RecordingRule>,
    pub(crate) peer: SocketAddr,
    pub(crate) session: SessionId,
    pub(crate) permit: Permit,
    pub(crate) negotiation: Negotiation,
    pub(crate) record: CallRecord,
    pub(crate) verdict: Box<Verdict>,
}

/// What a call that we place is made of.
pub(crate) struct PlacedParts {
    pub(crate) sip_call_id: Bytes,
    pub(crate) trunk: Arc<Trunk>,
    pub(crate) max_duration: Option<Duration>,
    pub(crate) recording: Option<RecordingRule>,
    pub(crate) permit: Permit,
    pub(crate) negotiation: Negotiation,
    pub(crate) record: CallRecord,
    pub(crate) verdict: Box<Verdict>,
    pub(crate) outgoing: Outgoing,
}

impl LiveCall {
    /// A call whose bridge is being asked for.
    pub(crate) fn new(parts: Parts, now: Instant, node: &mut Node) -> Self {
        let mut call = Self {
            id: parts.id,
            sip_call_id: parts.sip_call_id,
            awaits: Awaiting::Bridge,
            trunk: parts.trunk,
            max_duration: parts.max_duration,
            recording: parts.recording,
            peer: parts.peer,
            session: Some(parts.session),
            permit: Some(parts.permit),
            negotiation: parts.negotiation,
            bridge: BridgeLife::Asked,
            record: parts.record,
            verdict: Some(parts.verdict),
            ladder: Ladder::default(),
            deadline: None,
            outgoing: None,
            transfers: Transfers::default(),
        };
        call.enter(Awaiting::Bridge, now, node);
        call.progress(node);
        call
    }

    /// A call that is being placed: its first gateway is looked for.
    pub(crate) fn placed(parts: PlacedParts, now: Instant, node: &mut Node) -> Self {
        let mut call = Self {
            id: parts.record.id,
            sip_call_id: parts.sip_call_id,
            awaits: Awaiting::Way,
            trunk: parts.trunk,
            max_duration: parts.max_duration,
            recording: parts.recording,
            peer: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 0),
            session: None,
            permit: Some(parts.permit),
            negotiation: parts.negotiation,
            bridge: BridgeLife::Unasked,
            record: parts.record,
            verdict: Some(parts.verdict),
            ladder: Ladder::default(),
            deadline: None,
            outgoing: Some(Box::new(parts.outgoing)),
            transfers: Transfers::default(),
        };
        call.progress(node);
        call.next_gateway(now, node);
        call
    }

    /// Whether nothing more can come of the call.
    pub(crate) fn is_over(&self) -> bool {
        self.awaits == Awaiting::LastMessage && self.deadline.is_none()
    }

    /// Whether an address is one that this call's signalling may come from: only those are drawn in its ladder.
    pub(crate) fn is_peer(&self, address: SocketAddr) -> bool {
        address.ip() == self.peer.ip()
            || self.trunk.range_of(address.ip().to_canonical()).is_some()
            || self.transfers.peers.contains(&address.ip())
    }

    pub(crate) fn draw(&mut self, rung: Rung) {
        self.ladder.push(rung);
    }

    pub(crate) fn ladder(&self) -> &Ladder {
        &self.ladder
    }

    /// The Call-IDs of its second legs.
    pub(crate) fn second_call_ids(&self) -> &[Bytes] {
        &self.transfers.call_ids
    }

    pub(crate) fn record(&self) -> &CallRecord {
        &self.record
    }

    /// One step. Afterwards the engine forgets the call if [`Self::is_over`].
    pub(crate) fn handle(&mut self, happening: Happening, now: Instant, node: &mut Node) {
        match happening {
            Happening::BridgeOpened { rtp } => self.bridge_opened(rtp, now, node),
            Happening::BridgeFailed { cause } => self.bridge_failed(cause, now, node),
            Happening::AgentConnected => self.agent_connected(now, node),
            Happening::AgentRefused { cause } => self.agent_refused(&cause, now, node),
            Happening::CallerLookedUp { must_be_known, answer } => {
                self.caller_looked_up(must_be_known, answer, now, node);
            }
            Happening::Bridge { event } => self.bridge_event(event, now, node),
            Happening::BridgeClosed { statistics } => self.bridge_closed(&statistics, now, node),
            Happening::Acknowledged { session, body } if self.is_second(session) => {
                self.second_acknowledged(body, now, node);
            }
            Happening::Acknowledged { session: _, body } => self.acknowledged(body, now, node),
            Happening::Offer { session, offer } if self.is_second(session) => {
                self.second_offers(offer, now, node);
            }
            Happening::Offer { session: _, offer } => self.change_offered(offer, now, node),
            Happening::Info { session, content_type, body } if self.is_second(session) => {
                self.second_info(content_type.as_ref(), &body, node);
            }
            Happening::Info { session: _, content_type, body } => {
                self.info(content_type.as_ref(), &body, node);
            }
            Happening::SessionEnded { session, by, .. } if self.is_second(session) => {
                self.second_ended(&by, now, node);
            }
            Happening::SessionEnded { session, by, reason } => {
                self.session_ended(session, by, reason, now, node);
            }
            Happening::WayFound { ways } if self.seeks_second() => self.second_way_found(ways, now, node),
            Happening::WayFound { ways } => self.way_found(ways, now, node),
            Happening::WayFailed { why } if self.seeks_second() => self.second_way_failed(&why, now, node),
            Happening::WayFailed { why } => self.way_failed(&why, now, node),
            Happening::Progress { session, status, body } if self.is_second(session) => {
                self.second_progressed(status, body, now, node);
            }
            Happening::Progress { session, status, body } => {
                self.progressed(session, status, body, now, node);
            }
            Happening::Answered { session, status, body } if self.is_second(session) => {
                self.second_answered(status, body, now, node);
            }
            Happening::Answered { session, status, body } => {
                self.callee_answered(session, status, body, now, node);
            }
            Happening::ReferAnswered { status } => self.refer_answered(status, now, node),
            Happening::ReferProgress { status, is_over } => self.refer_progressed(status, is_over, now, node),
            Happening::Referred { session, refer_to } => self.referred(session, &refer_to, now, node),
            Happening::Transfer { order } => self.transfer_asked(*order, TransferBy::Api, now, node),
            Happening::SecondOpened { rtp } => self.second_opened(rtp, now, node),
            Happening::SecondFailed { cause } => self.second_failed(cause, now, node),
            Happening::HangUp { as_what } => self.end_if_live(ending::commanded(as_what), now, node),
            Happening::SendDtmf { digits, duration_ms } => self.send_dtmf(digits, duration_ms, node),
            Happening::Record { command } => self.recording_asked(command, now, node),
            Happening::RecordingFailed { why } => self.recording_failed(why, now, node),
            Happening::DrainEnded => self.end_if_live(ending::drained(), now, node),
            Happening::Deadline => self.deadline_passed(now, node),
        }
    }

    fn is_second(&self, session: SessionId) -> bool {
        self.second_session() == Some(session)
    }

    /// The port is bound: the caller hears ringing while the shell dials the agent.
    fn bridge_opened(&mut self, rtp: SocketAddr, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Bridge if self.outgoing.is_some() => self.port_bound(rtp, now, node),
            Awaiting::Bridge => {
                self.bridge = BridgeLife::Open;
                self.negotiation.bind(rtp);
                self.record.media.local = Some(rtp);
                self.note(Check::Media, StepOutcome::Passed, rtp.to_string(), "media port bound");
                self.enter(Awaiting::Agent, now, node);
                let ringing = self.session.map(|session| node.endpoint.provisional(now, session, 180, None));
                if ringing.is_some_and(|sent| sent.is_ok()) {
                    self.record.status = CallStatus::Ringing;
                    self.record.ringing_unix_ms = Some(node.unix_ms(now));
                    self.progress(node);
                }
            }
            // It was asked to close before it opened, and will report that.
            Awaiting::BridgeClose => node.counters.late_inputs += 1,
            Awaiting::Way
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::End
            | Awaiting::LastMessage => {
                node.counters.unexpected_inputs += 1;
            }
        }
    }

    fn bridge_failed(&mut self, cause: BridgeFailure, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Bridge => {
                self.bridge = BridgeLife::Gone;
                self.note(Check::Media, StepOutcome::Failed, "", cause.to_string());
                self.end(ending::media_failed(CallStatus::Failed, cause.to_string()), now, node);
            }
            Awaiting::BridgeClose => self.finish(now, node),
            Awaiting::Way
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::End
            | Awaiting::LastMessage => {
                node.counters.unexpected_inputs += 1;
            }
        }
    }

    /// The agent listens: answer the caller.
    fn agent_connected(&mut self, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Agent => {
                self.note(Check::AgentConnection, StepOutcome::Passed, "", "the agent's WebSocket is up");
                self.answer(now, node);
            }
            Awaiting::Listener => {
                self.enter(Awaiting::End, now, node);
                self.begin_audio(now, node);
                if self.recording.is_some() {
                    self.progress(node);
                }
            }
            Awaiting::BridgeClose => node.counters.late_inputs += 1,
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Ack
            | Awaiting::End
            | Awaiting::LastMessage => node.counters.unexpected_inputs += 1,
        }
    }

    fn answer(&mut self, now: Instant, node: &mut Node) {
        let Some(session) = self.session else { return };
        let description = match self.negotiation.describe_answer() {
            Ok(description) => description,
            Err(error) => {
                // Routing tried the same offer with the same codecs; only a bug comes here, and it ends one call.
                self.note(Check::Codec, StepOutcome::Failed, "", error.to_string());
                return self.end(ending::unacceptable(error.sip_status(), error.to_string()), now, node);
            }
        };
        if node.endpoint.answer(now, session, description).is_err() {
            // The CANCEL that came first is reported as the session's end.
            node.counters.late_inputs += 1;
            return;
        }
        node.counters.answered += 1;
        node.counters.encrypted += u64::from(self.negotiation.suite().is_some());
        self.record.answered_unix_ms = Some(node.unix_ms(now));
        self.record.sip_status = Some(200);
        self.enter(Awaiting::Ack, now, node);
        self.settle_verdict(VerdictCode::Accepted, 200, now, node);
    }

    fn agent_refused(&mut self, cause: &AgentFailure, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Agent | Awaiting::Listener => {
                let code = match cause {
                    AgentFailure::BadUrl(_)
                    | AgentFailure::Forbidden(_)
                    | AgentFailure::NameUnknown(_)
                    | AgentFailure::Unreachable(_)
                    | AgentFailure::Tls(_) => VerdictCode::AgentUnreachable,
                    AgentFailure::Status(_) | AgentFailure::NotWebSocket(_) => VerdictCode::AgentRefused,
                    AgentFailure::Timeout => VerdictCode::AgentTimeout,
                };
                self.agent_failed(code, cause.to_string(), now, node);
            }
            Awaiting::BridgeClose => node.counters.late_inputs += 1,
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Ack
            | Awaiting::End
            | Awaiting::LastMessage => node.counters.unexpected_inputs += 1,
        }
    }

    fn agent_failed(&mut self, code: VerdictCode, cause: String, now: Instant, node: &mut Node) {
        self.note(Check::AgentConnection, StepOutcome::Failed, "", cause.as_str());
        let told = node.config.agent_failure_status;
        self.end(ending::agent_failed(code, told, cause), now, node);
    }

    fn bridge_event(&mut self, event: BridgeEvent, now: Instant, node: &mut Node) {
        match event {
            BridgeEvent::Latched { source } => self.record.media.remote = Some(source),
            BridgeEvent::Digit { .. } => self.record.media.digits += 1,
            BridgeEvent::AgentHangUp { cause } => self.agent_hung_up(cause, now, node),
            BridgeEvent::MediaTimeout => self.media_timed_out(now, node),
            BridgeEvent::NobodySpeaks { silence } => {
                self.end_if_live(ending::nobody_speaks(silence), now, node);
            }
            BridgeEvent::ProtocolError { error, .. } => {
                node.counters.agent_protocol_errors += 1;
                self.incident(IncidentKind::AgentProtocolError, error.to_string(), now, node);
            }
            BridgeEvent::QueueOverflow { dropped_ms } => {
                node.counters.agent_overflows += 1;
                let detail = format!("{dropped_ms} ms of the agent's audio were lost");
                self.incident(IncidentKind::AgentOverflow, detail, now, node);
            }
            BridgeEvent::MediaTroubled { trouble } => {
                node.counters.encryption_broken += 1;
                let words = encryption::words_for(trouble);
                self.incident(IncidentKind::EncryptionBroken, words, now, node);
                self.record.error_message.get_or_insert_with(|| words.to_owned());
            }
            BridgeEvent::DigitRefused { digit } => {
                let detail =
                    format!("{digit} cannot be sent: no telephone-event was agreed on, or too many wait");
                self.incident(IncidentKind::DigitRefused, detail, now, node);
            }
            BridgeEvent::OneWayAudio { cause } => {
                node.counters.one_way_calls += 1;
                self.incident(IncidentKind::OneWayAudio, cause.to_string(), now, node);
                if self.awaits == Awaiting::End {
                    self.progress(node);
                }
            }
            BridgeEvent::RecordingLost { dropped_ms } => {
                let detail = format!("{dropped_ms} ms and maybe more: the writer did not keep up");
                self.incident(IncidentKind::RecordingLost, detail, now, node);
            }
            BridgeEvent::AgentClosed { .. } => self.agent_closed(),
            // News only: what the agent does with its own queue changes nothing for the caller's leg.
            BridgeEvent::SecondLatched { .. }
            | BridgeEvent::MarkPlayed { .. }
            | BridgeEvent::Flushed { .. } => {}
            BridgeEvent::Transfer { target, mode } => self.agent_transfers(target, mode, now, node),
            BridgeEvent::SecondSilent => self.second_silent(now, node),
            BridgeEvent::Hold { is_held: true } => self.refuse_wish(AgentWish::Hold, now, node),
            BridgeEvent::Hold { is_held: false } => self.refuse_wish(AgentWish::Unhold, now, node),
        }
    }

    /// What the agent wishes of the call is not done, and it is told so.
    fn refuse_wish(&mut self, wish: AgentWish, now: Instant, node: &mut Node) {
        node.counters.unsupported_wishes += 1;
        match self.awaits {
            // Before the ACK the bridge keeps the word for the agent's stream.
            Awaiting::Agent | Awaiting::Ack | Awaiting::Listener | Awaiting::End => {
                self.incident(IncidentKind::HoldRefused, wish.refusal(), now, node);
                node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Refuse { wish } });
            }
            Awaiting::BridgeClose | Awaiting::LastMessage => node.counters.late_inputs += 1,
            Awaiting::Way | Awaiting::Bridge | Awaiting::Answer => node.counters.unexpected_inputs += 1,
        }
    }

    fn incident(&mut self, kind: IncidentKind, detail: impl Into<String>, now: Instant, node: &Node) {
        self.record.incidents.note(node.unix_ms(now), kind, detail);
    }

    fn media_timed_out(&mut self, now: Instant, node: &mut Node) {
        match self.awaits {
            // A caller on hold sends nothing, and is not to be hung up on for it.
            Awaiting::End if !self.negotiation.is_on_hold() => {
                let waited = node.config.media_timeout.unwrap_or_default().as_secs();
                self.end(ending::media_silent(waited), now, node);
            }
            Awaiting::End
            | Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::BridgeClose
            | Awaiting::LastMessage => node.counters.late_inputs += 1,
        }
    }

    fn bridge_closed(&mut self, statistics: &BridgeStatistics, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::BridgeClose => {
                self.count_media(statistics);
                self.finish(now, node);
            }
            // It went by itself: a fault of the media path, which ends this call alone.
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::End => {
                self.bridge = BridgeLife::Gone;
                self.count_media(statistics);
                let error = "the media path failed".to_owned();
                self.note(Check::Media, StepOutcome::Failed, "", error.as_str());
                self.end(ending::media_failed(CallStatus::Error, error), now, node);
            }
            Awaiting::LastMessage => node.counters.unexpected_inputs += 1,
        }
    }

    /// The ACK: caller and agent may hear each other.
    fn acknowledged(&mut self, body: Option<Bytes>, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Ack => {
                if self.negotiation.awaits_answer() && !self.take_answer(body, node) {
                    return self.end(ending::no_answer_in_ack(), now, node);
                }
                self.enter(Awaiting::End, now, node);
                self.begin_audio(now, node);
                self.record.status = CallStatus::InProgress;
                self.progress(node);
            }
            // The ACK to a re-INVITE that asked for our offer.
            Awaiting::Listener | Awaiting::End if self.negotiation.awaits_answer() => {
                if !self.take_answer(body, node) {
                    self.end(ending::no_answer_in_ack(), now, node);
                }
            }
            Awaiting::Listener | Awaiting::End => {}
            Awaiting::BridgeClose | Awaiting::LastMessage => node.counters.late_inputs += 1,
            Awaiting::Way | Awaiting::Bridge | Awaiting::Answer | Awaiting::Agent => {
                node.counters.unexpected_inputs += 1
            }
        }
    }

    fn take_answer(&mut self, body: Option<Bytes>, node: &mut Node) -> bool {
        let Some(body) = body else { return false };
        match self.negotiation.take_answer(&body) {
            Ok(media) => {
                node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Media(media) });
                true
            }
            Err(error) => {
                self.record.error_message = Some(error.to_string());
                false
            }
        }
    }

    fn enter(&mut self, awaits: Awaiting, now: Instant, node: &mut Node) {
        self.awaits = awaits;
        let config = &node.config;
        let wait = match awaits {
            Awaiting::Way => Some(config.way_timeout),
            Awaiting::Bridge => Some(config.bridge_timeout),
            // Set by who sends the INVITE: it depends on what is heard.
            Awaiting::Answer => None,
            Awaiting::Agent | Awaiting::Listener => Some(config.agent_timeout),
            // The endpoint bounds it: 64*T1 without ACK end the session (RFC 3261 section 13.3.1.4).
            Awaiting::Ack => None,
            Awaiting::End => [self.max_duration, config.max_duration].into_iter().flatten().min(),
            Awaiting::BridgeClose => Some(config.close_timeout),
            Awaiting::LastMessage if self.session.is_some() => Some(SESSION_END),
            Awaiting::LastMessage => Some(LAST_MESSAGES),
        };
        self.wait_until(wait.map(|wait| now + wait), node);
    }

    fn wait_until(&mut self, deadline: Option<Instant>, node: &mut Node) {
        if let Some(old) = self.deadline.take()
            && self.transfers.until != Some(old)
        {
            node.deadlines.remove(&(old, self.id));
        }
        if let Some(new) = deadline {
            node.deadlines.insert((new, self.id));
        }
        self.deadline = deadline;
    }

    fn progress(&self, node: &mut Node) {
        node.emit(Output::Progress(Box::new(self.record.clone())));
    }

    fn note(
        &mut self,
        check: Check,
        outcome: StepOutcome,
        subject: impl Into<crate::ShortText>,
        detail: impl Into<String>,
    ) {
        if let Some(verdict) = &mut self.verdict {
            verdict.step(check, outcome, subject, detail.into());
        }
    }
}
