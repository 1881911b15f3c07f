//! One inbound call, from its admission to its record: the caller's SIP leg and the agent's leg under one roof.
//!
//! ```text
//!  admitted ─► AwaitingBridge ──port bound──► AwaitingAgent ──connected, 200──► AwaitingAck ──ACK──► AwaitingEnd
//!                   │ 100                          │ 180                            │                    │
//!                   └──────────── CANCEL, failure, hang-up, limit ──────────────────┴────────────────────┘
//!                                                  ▼
//!                      AwaitingBridgeClose ──closed: the record──► AwaitingLastMessage ──► gone
//! ```
//!
//! What it refuses to do: parse SIP or SDP, hold timers of SIP, touch audio. Each state is named for what it awaits, and
//! each has one deadline. Every input is answered in every state: the matches below have no catch-all arm.
//! RFC 3261 sections 13.3 and 15, RFC 3264, RFC 3326, RFC 4028, RFC 5407.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::{EndedBy, Refusal, SessionId};

use crate::admission::Permit;
use crate::bridge::{AgentHangUpCause, BridgeCommand, BridgeEvent, BridgeStatistics};
use crate::dtmf_info;
use crate::ids::CallId;
use crate::input::{AgentFailure, BridgeFailure, HangUpCommand};
use crate::ladder::{Ladder, Rung};
use crate::negotiation::Negotiation;
use crate::node::Node;
use crate::output::Output;
use crate::record::{CallRecord, CallStatus, HangupBy, HangupReason, MediaSummary};
use crate::table::Trunk;
use crate::verdict::{Check, StepOutcome, Verdict, VerdictCode};

/// How long a finished call's ladder waits for the last messages once its session is over: the answer to our BYE, mostly.
const LAST_MESSAGES: Duration = Duration::from_secs(4);

/// How long it waits for the session itself to end. The endpoint ends each within 64*T1, 32 s.
const SESSION_END: Duration = Duration::from_secs(40);

/// What a call awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum State {
    /// A media port.
    AwaitingBridge,
    /// The agent's WebSocket; the caller hears ringing.
    AwaitingAgent,
    /// The caller's ACK to our 200.
    AwaitingAck,
    /// The end: the call is up.
    AwaitingEnd,
    /// The end of the bridge; signalling is over or on its way out.
    AwaitingBridgeClose,
    /// The last SIP messages, for the ladder; the record is out.
    AwaitingLastMessage,
}

/// What happens to a call.
#[derive(Debug)]
pub(crate) enum Happening {
    BridgeOpened { rtp: SocketAddr },
    BridgeFailed { cause: BridgeFailure },
    AgentConnected,
    AgentRefused { cause: AgentFailure },
    Bridge { event: BridgeEvent },
    BridgeClosed { statistics: Box<BridgeStatistics> },
    Acknowledged { body: Option<Bytes> },
    Offer { offer: Option<Bytes> },
    Info { content_type: Option<Bytes>, body: Bytes },
    SessionEnded { by: EndedBy, reason: Option<Bytes> },
    HangUp { as_what: HangUpCommand },
    SendDtmf { digits: String, duration_ms: u16 },
    DrainEnded,
    Deadline,
}

/// Whether a bridge exists that must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BridgeLife {
    Asked,
    Open,
    Gone,
}

/// Why a call ends, for its record, its verdict and its caller.
#[derive(Clone, Debug)]
struct Ending {
    status: CallStatus,
    by: HangupBy,
    reason: HangupReason,
    /// What the INVITE is refused with, if it still can be.
    code: VerdictCode,
    refusal: u16,
    /// What went wrong, for the tenant.
    error: Option<String>,
}

/// One call.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) id: CallId,
    pub(crate) sip_call_id: Bytes,
    pub(crate) state: State,
    trunk: Arc<Trunk>,
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
}

/// What a call is made of.
pub(crate) struct Parts {
    pub(crate) id: CallId,
    pub(crate) sip_call_id: Bytes,
    pub(crate) trunk: Arc<Trunk>,
    pub(crate) peer: SocketAddr,
    pub(crate) session: SessionId,
    pub(crate) permit: Permit,
    pub(crate) negotiation: Negotiation,
    pub(crate) record: CallRecord,
    pub(crate) verdict: Box<Verdict>,
}

impl Inbound {
    /// A call whose bridge is being asked for.
    pub(crate) fn new(parts: Parts, now: Instant, node: &mut Node) -> Self {
        let mut call = Self {
            id: parts.id,
            sip_call_id: parts.sip_call_id,
            state: State::AwaitingBridge,
            trunk: parts.trunk,
            peer: parts.peer,
            session: Some(parts.session),
            permit: Some(parts.permit),
            negotiation: parts.negotiation,
            bridge: BridgeLife::Asked,
            record: parts.record,
            verdict: Some(parts.verdict),
            ladder: Ladder::default(),
            deadline: None,
        };
        call.enter(State::AwaitingBridge, now, node);
        call.progress(node);
        call
    }

    /// Whether nothing more can come of the call.
    pub(crate) fn is_over(&self) -> bool {
        self.state == State::AwaitingLastMessage && self.deadline.is_none()
    }

    /// Whether an address is one that this call's signalling may come from: only those are drawn in its ladder.
    pub(crate) fn is_peer(&self, address: SocketAddr) -> bool {
        address.ip() == self.peer.ip() || self.trunk.range_of(address.ip().to_canonical()).is_some()
    }

    pub(crate) fn draw(&mut self, rung: Rung) {
        self.ladder.push(rung);
    }

    pub(crate) fn ladder(&self) -> &Ladder {
        &self.ladder
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
            Happening::Bridge { event } => self.bridge_event(event, now, node),
            Happening::BridgeClosed { statistics } => self.bridge_closed(&statistics, now, node),
            Happening::Acknowledged { body } => self.acknowledged(body, now, node),
            Happening::Offer { offer } => self.change_offered(offer, now, node),
            Happening::Info { content_type, body } => self.info(content_type.as_ref(), &body, node),
            Happening::SessionEnded { by, reason } => self.session_ended(by, reason, now, node),
            Happening::HangUp { as_what } => self.end_if_live(commanded(as_what), now, node),
            Happening::SendDtmf { digits, duration_ms } => self.send_dtmf(digits, duration_ms, node),
            Happening::DrainEnded => self.end_if_live(drained(), now, node),
            Happening::Deadline => self.deadline_passed(now, node),
        }
    }

    /// The port is bound: the caller hears ringing while the shell dials the agent.
    fn bridge_opened(&mut self, rtp: SocketAddr, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingBridge => {
                self.bridge = BridgeLife::Open;
                self.negotiation.bind(rtp);
                self.record.media.local = Some(rtp);
                self.note(Check::Media, StepOutcome::Passed, rtp.to_string(), "media port bound");
                self.enter(State::AwaitingAgent, now, node);
                let ringing = self.session.map(|session| node.endpoint.provisional(now, session, 180, None));
                if ringing.is_some_and(|sent| sent.is_ok()) {
                    self.record.status = CallStatus::Ringing;
                    self.record.ringing_unix_ms = Some(node.unix_ms(now));
                    self.progress(node);
                }
            }
            // It was asked to close before it opened, and will report that.
            State::AwaitingBridgeClose => node.counters.late_inputs += 1,
            State::AwaitingAgent | State::AwaitingAck | State::AwaitingEnd | State::AwaitingLastMessage => {
                node.counters.unexpected_inputs += 1;
            }
        }
    }

    fn bridge_failed(&mut self, cause: BridgeFailure, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingBridge => {
                self.bridge = BridgeLife::Gone;
                self.note(Check::Media, StepOutcome::Failed, "", cause.to_string());
                self.end(
                    Ending {
                        status: CallStatus::Failed,
                        by: HangupBy::Error,
                        reason: HangupReason::TemporaryFailure,
                        code: VerdictCode::MediaUnavailable,
                        refusal: VerdictCode::MediaUnavailable.status(),
                        error: Some(cause.to_string()),
                    },
                    now,
                    node,
                );
            }
            State::AwaitingBridgeClose => self.finish(now, node),
            State::AwaitingAgent | State::AwaitingAck | State::AwaitingEnd | State::AwaitingLastMessage => {
                node.counters.unexpected_inputs += 1;
            }
        }
    }

    /// The agent listens: answer the caller.
    fn agent_connected(&mut self, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingAgent => {
                self.note(Check::AgentConnection, StepOutcome::Passed, "", "the agent's WebSocket is up");
                self.answer(now, node);
            }
            State::AwaitingBridgeClose => node.counters.late_inputs += 1,
            State::AwaitingBridge | State::AwaitingAck | State::AwaitingEnd | State::AwaitingLastMessage => {
                node.counters.unexpected_inputs += 1
            }
        }
    }

    fn answer(&mut self, now: Instant, node: &mut Node) {
        let Some(session) = self.session else { return };
        let description = match self.negotiation.describe_answer() {
            Ok(description) => description,
            Err(error) => {
                // Routing tried the same offer with the same codecs; only a bug comes here, and it ends one call.
                self.note(Check::Codec, StepOutcome::Failed, "", error.to_string());
                return self.end(unacceptable(error.sip_status(), error.to_string()), now, node);
            }
        };
        if node.endpoint.answer(now, session, description).is_err() {
            // The CANCEL that came first is reported as the session's end.
            node.counters.late_inputs += 1;
            return;
        }
        node.counters.answered += 1;
        self.record.answered_unix_ms = Some(node.unix_ms(now));
        self.record.sip_status = Some(200);
        self.enter(State::AwaitingAck, now, node);
        self.settle_verdict(VerdictCode::Accepted, 200, now, node);
    }

    fn agent_refused(&mut self, cause: &AgentFailure, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingAgent => {
                let code = match cause {
                    AgentFailure::BadUrl
                    | AgentFailure::Forbidden
                    | AgentFailure::NameUnknown
                    | AgentFailure::Unreachable
                    | AgentFailure::Tls => VerdictCode::AgentUnreachable,
                    AgentFailure::Status(_) | AgentFailure::NotWebSocket => VerdictCode::AgentRefused,
                    AgentFailure::Timeout => VerdictCode::AgentTimeout,
                };
                self.agent_failed(code, cause.to_string(), now, node);
            }
            State::AwaitingBridgeClose => node.counters.late_inputs += 1,
            State::AwaitingBridge | State::AwaitingAck | State::AwaitingEnd | State::AwaitingLastMessage => {
                node.counters.unexpected_inputs += 1
            }
        }
    }

    fn agent_failed(&mut self, code: VerdictCode, cause: String, now: Instant, node: &mut Node) {
        self.note(Check::AgentConnection, StepOutcome::Failed, "", cause.as_str());
        let refusal = node.config.agent_failure_status.status();
        self.end(
            Ending {
                status: CallStatus::Failed,
                by: HangupBy::Error,
                reason: HangupReason::TemporaryFailure,
                code,
                refusal,
                error: Some(cause),
            },
            now,
            node,
        );
    }

    fn bridge_event(&mut self, event: BridgeEvent, now: Instant, node: &mut Node) {
        match event {
            BridgeEvent::Latched { source } => self.record.media.remote = Some(source),
            BridgeEvent::Digit { .. } => self.record.media.digits += 1,
            BridgeEvent::AgentHangUp { cause } => self.end_if_live(agent_ended(cause), now, node),
            BridgeEvent::MediaTimeout => self.media_timed_out(now, node),
            BridgeEvent::ProtocolError { .. } => node.counters.agent_protocol_errors += 1,
            BridgeEvent::QueueOverflow { .. } => node.counters.agent_overflows += 1,
            // News only: what the agent does with its own queue and socket changes nothing for the caller's leg.
            BridgeEvent::AgentClosed { .. }
            | BridgeEvent::DigitRefused { .. }
            | BridgeEvent::MarkPlayed { .. }
            | BridgeEvent::Flushed { .. } => {}
            BridgeEvent::Transfer { .. } | BridgeEvent::Hold { .. } => node.counters.unsupported_wishes += 1,
        }
    }

    fn media_timed_out(&mut self, now: Instant, node: &mut Node) {
        match self.state {
            // A caller on hold sends nothing, and is not to be hung up on for it.
            State::AwaitingEnd if !self.negotiation.is_on_hold() => {
                let waited = node.config.media_timeout.unwrap_or_default().as_secs();
                let ending = Ending {
                    status: CallStatus::Completed,
                    by: HangupBy::Carrier,
                    reason: HangupReason::InactivityTimeout,
                    code: VerdictCode::CallerLost,
                    refusal: VerdictCode::CallerLost.status(),
                    error: Some(format!("no RTP and no RTCP came for {waited} s")),
                };
                self.end(ending, now, node);
            }
            State::AwaitingEnd
            | State::AwaitingBridge
            | State::AwaitingAgent
            | State::AwaitingAck
            | State::AwaitingBridgeClose
            | State::AwaitingLastMessage => node.counters.late_inputs += 1,
        }
    }

    fn bridge_closed(&mut self, statistics: &BridgeStatistics, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingBridgeClose => {
                self.count_media(statistics);
                self.finish(now, node);
            }
            // It went by itself: a fault of the media path, which ends this call alone.
            State::AwaitingBridge | State::AwaitingAgent | State::AwaitingAck | State::AwaitingEnd => {
                self.bridge = BridgeLife::Gone;
                self.count_media(statistics);
                let error = "the media path failed".to_owned();
                self.note(Check::Media, StepOutcome::Failed, "", error.as_str());
                let ending = Ending {
                    status: CallStatus::Error,
                    by: HangupBy::Error,
                    reason: HangupReason::TemporaryFailure,
                    code: VerdictCode::MediaUnavailable,
                    refusal: VerdictCode::MediaUnavailable.status(),
                    error: Some(error),
                };
                self.end(ending, now, node);
            }
            State::AwaitingLastMessage => node.counters.unexpected_inputs += 1,
        }
    }

    /// The ACK: caller and agent may hear each other.
    fn acknowledged(&mut self, body: Option<Bytes>, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingAck => {
                if self.negotiation.awaits_answer() && !self.take_answer(body, node) {
                    return self.end(no_answer_in_ack(), now, node);
                }
                self.enter(State::AwaitingEnd, now, node);
                node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Start });
                self.record.status = CallStatus::InProgress;
                self.progress(node);
            }
            // The ACK to a re-INVITE that asked for our offer.
            State::AwaitingEnd if self.negotiation.awaits_answer() => {
                if !self.take_answer(body, node) {
                    self.end(no_answer_in_ack(), now, node);
                }
            }
            State::AwaitingEnd => {}
            State::AwaitingBridgeClose | State::AwaitingLastMessage => node.counters.late_inputs += 1,
            State::AwaitingBridge | State::AwaitingAgent => node.counters.unexpected_inputs += 1,
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

    /// Re-INVITE or UPDATE: hold, resume, another address, another codec; an offer of ours if none came.
    fn change_offered(&mut self, offer: Option<Bytes>, now: Instant, node: &mut Node) {
        let Some(session) = self.session else {
            node.counters.late_inputs += 1;
            return;
        };
        match self.state {
            State::AwaitingAck | State::AwaitingEnd => {
                let answer = match offer {
                    None => Ok(self.negotiation.offer()),
                    Some(offer) => self.negotiation.answer_change(&offer),
                };
                match answer {
                    Ok(description) => self.change_accepted(session, description, now, node),
                    Err(error) => {
                        // RFC 3261 section 14.2: refused, "the session remains unchanged".
                        node.counters.refused_changes += 1;
                        let _ = node.endpoint.refuse_offer(now, session, error.sip_status());
                    }
                }
            }
            // RFC 3311 section 5.2: an offer while the INVITE's own stands unanswered is refused with 500. The endpoint does
            // that by itself, so this is a second fence.
            State::AwaitingBridge | State::AwaitingAgent => {
                node.counters.refused_changes += 1;
                let _ = node.endpoint.refuse_offer(now, session, 500);
            }
            State::AwaitingBridgeClose | State::AwaitingLastMessage => node.counters.late_inputs += 1,
        }
    }

    fn change_accepted(&mut self, session: SessionId, description: Bytes, now: Instant, node: &mut Node) {
        if node.endpoint.answer_offer(now, session, description).is_err() {
            node.counters.late_inputs += 1;
            return;
        }
        if self.negotiation.awaits_answer() {
            return;
        }
        if let Some(media) = self.negotiation.agreed().copied() {
            node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Media(media) });
        }
    }

    /// A key pressed, told by INFO.
    fn info(&mut self, content_type: Option<&Bytes>, body: &Bytes, node: &mut Node) {
        match self.state {
            State::AwaitingEnd => {
                let Some((digit, duration_ms)) = dtmf_info::read(content_type.map(|value| &value[..]), body)
                else {
                    return;
                };
                node.emit(Output::Bridge {
                    call: self.id,
                    command: BridgeCommand::Digit { digit, duration_ms },
                });
            }
            State::AwaitingBridge
            | State::AwaitingAgent
            | State::AwaitingAck
            | State::AwaitingBridgeClose
            | State::AwaitingLastMessage => node.counters.late_inputs += 1,
        }
    }

    fn send_dtmf(&mut self, digits: String, duration_ms: u16, node: &mut Node) {
        match self.state {
            State::AwaitingEnd => {
                let command = BridgeCommand::SendDtmf { digits, duration_ms };
                node.emit(Output::Bridge { call: self.id, command });
            }
            State::AwaitingBridge
            | State::AwaitingAgent
            | State::AwaitingAck
            | State::AwaitingBridgeClose
            | State::AwaitingLastMessage => node.counters.late_inputs += 1,
        }
    }

    fn session_ended(&mut self, by: EndedBy, reason: Option<Bytes>, now: Instant, node: &mut Node) {
        self.session = None;
        match self.state {
            State::AwaitingBridge | State::AwaitingAgent | State::AwaitingAck | State::AwaitingEnd => {
                let told = reason.as_deref().and_then(q850_of);
                let ending = caller_ended(&by, self.record.answered_unix_ms.is_some());
                self.end(ending, now, node);
                if told.is_some() {
                    self.record.q850 = told;
                }
                if self.state == State::AwaitingLastMessage {
                    debug_assert!(self.bridge == BridgeLife::Gone, "a record waits for its bridge");
                }
            }
            State::AwaitingBridgeClose => {}
            State::AwaitingLastMessage => self.wait_until(Some(now + LAST_MESSAGES), node),
        }
    }

    fn deadline_passed(&mut self, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingBridge => {
                let error = "no media port in time".to_owned();
                self.note(Check::Media, StepOutcome::Failed, "", error.as_str());
                let ending = Ending {
                    status: CallStatus::Failed,
                    by: HangupBy::Error,
                    reason: HangupReason::TemporaryFailure,
                    code: VerdictCode::MediaUnavailable,
                    refusal: VerdictCode::MediaUnavailable.status(),
                    error: Some(error),
                };
                self.end(ending, now, node);
            }
            State::AwaitingAgent => {
                let cause = AgentFailure::Timeout.to_string();
                self.agent_failed(VerdictCode::AgentTimeout, cause, now, node);
            }
            State::AwaitingEnd => {
                let ending = Ending {
                    status: CallStatus::Completed,
                    by: HangupBy::Callee,
                    reason: HangupReason::MaximumDuration,
                    code: VerdictCode::EndedBeforeAnswer,
                    refusal: VerdictCode::EndedBeforeAnswer.status(),
                    error: Some("the longest allowed duration was reached".to_owned()),
                };
                self.end(ending, now, node);
            }
            State::AwaitingBridgeClose => {
                node.counters.lost_bridges += 1;
                self.finish(now, node);
            }
            State::AwaitingLastMessage => {
                self.wait_until(None, node);
                let rungs: Arc<[Rung]> = self.ladder.rungs().cloned().collect();
                node.emit(Output::Ladder { call: self.id, account: self.record.account.clone(), rungs });
            }
            // The endpoint gives up waiting for the ACK and reports it.
            State::AwaitingAck => node.counters.unexpected_inputs += 1,
        }
    }

    fn end_if_live(&mut self, ending: Ending, now: Instant, node: &mut Node) {
        match self.state {
            State::AwaitingBridge | State::AwaitingAgent | State::AwaitingAck | State::AwaitingEnd => {
                self.end(ending, now, node);
            }
            State::AwaitingBridgeClose | State::AwaitingLastMessage => node.counters.late_inputs += 1,
        }
    }

    /// Ends the call from a live state: the caller is told if it does not know, the bridge is closed, the place is free.
    fn end(&mut self, ending: Ending, now: Instant, node: &mut Node) {
        debug_assert!(self.record.ended_unix_ms.is_none(), "a call ends once");
        let was_answered = self.record.answered_unix_ms.is_some();
        self.say_goodbye(&ending, was_answered, now, node);
        self.record.ended_unix_ms = Some(node.unix_ms(now));
        self.record.hangup_by = Some(ending.by);
        self.record.hangup_reason = Some(ending.reason);
        self.record.q850 = Some(ending.reason.q850());
        if self.record.error_message.is_none() {
            self.record.error_message = ending.error;
        }
        if !was_answered {
            self.record.sip_status = Some(ending.refusal);
            self.settle_verdict(ending.code, ending.refusal, now, node);
        }
        if let Some(permit) = self.permit.take() {
            node.admission.release(permit, now);
        }
        let is_bridged = self.close_bridge(node);
        self.record.status = CallStatus::CallDisconnected;
        if is_bridged && was_answered {
            self.progress(node);
        }
        self.record.status = ending.status;
        if is_bridged {
            self.enter(State::AwaitingBridgeClose, now, node);
        } else {
            self.finish(now, node);
        }
    }

    /// BYE to an answered call, a refusal to one that is not; nothing to a caller who has gone.
    fn say_goodbye(&mut self, ending: &Ending, was_answered: bool, now: Instant, node: &mut Node) {
        let Some(session) = self.session else { return };
        let told = if was_answered {
            let reason = format!("Q.850;cause={};text=\"{}\"", ending.reason.q850(), ending.reason.as_str());
            node.endpoint.hangup(now, session, Some(Bytes::from(reason)))
        } else {
            let mut refusal = Refusal::new(ending.refusal);
            if ending.refusal == 503 {
                refusal = refusal.header("Retry-After", "5");
            }
            node.endpoint.reject(now, session, refusal)
        };
        if told.is_err() {
            // The caller went at the same moment; the end of its session is on its way here.
            node.counters.late_inputs += 1;
        }
    }

    /// Asks for the bridge's end. Returns whether its close is still to be reported.
    fn close_bridge(&mut self, node: &mut Node) -> bool {
        match self.bridge {
            BridgeLife::Gone => return false,
            BridgeLife::Open => {
                node.emit(Output::Bridge { call: self.id, command: BridgeCommand::HangUp });
            }
            BridgeLife::Asked => {}
        }
        node.emit(Output::CloseBridge { call: self.id });
        true
    }

    /// The record goes out, once.
    fn finish(&mut self, now: Instant, node: &mut Node) {
        debug_assert!(self.record.status.is_final(), "the end is known");
        self.bridge = BridgeLife::Gone;
        node.emit(Output::Record(Box::new(self.record.clone())));
        self.enter(State::AwaitingLastMessage, now, node);
    }

    fn enter(&mut self, state: State, now: Instant, node: &mut Node) {
        self.state = state;
        let config = &node.config;
        let wait = match state {
            State::AwaitingBridge => Some(config.bridge_timeout),
            State::AwaitingAgent => Some(config.agent_timeout),
            // The endpoint bounds it: 64*T1 without ACK end the session (RFC 3261 section 13.3.1.4).
            State::AwaitingAck => None,
            State::AwaitingEnd => config.max_duration,
            State::AwaitingBridgeClose => Some(config.close_timeout),
            State::AwaitingLastMessage if self.session.is_some() => Some(SESSION_END),
            State::AwaitingLastMessage => Some(LAST_MESSAGES),
        };
        self.wait_until(wait.map(|wait| now + wait), node);
    }

    fn wait_until(&mut self, deadline: Option<Instant>, node: &mut Node) {
        if let Some(old) = self.deadline.take() {
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
        subject: impl Into<String>,
        detail: impl Into<String>,
    ) {
        if let Some(verdict) = &mut self.verdict {
            verdict.step(check, outcome, subject, detail);
        }
    }

    fn settle_verdict(&mut self, code: VerdictCode, status: u16, now: Instant, node: &mut Node) {
        if let Some(mut verdict) = self.verdict.take() {
            verdict.conclude(code);
            verdict.status = status;
            node.emit_verdict(verdict, now);
        }
    }

    fn count_media(&mut self, statistics: &BridgeStatistics) {
        let rtp = &statistics.rtp;
        let law = self.negotiation.agreed().map(|media| media.law.encoding_name().to_owned());
        self.record.media = MediaSummary {
            remote: rtp.latched.or(self.record.media.remote),
            local: self.negotiation.local(),
            codec: law,
            packets_received: rtp.packets_received,
            packets_sent: rtp.packets_sent,
            packets_lost: u64::try_from(rtp.packets_lost).unwrap_or(0),
            packets_from_strangers: rtp.strangers,
            jitter_us: rtp.jitter_us.into(),
            round_trip_us: rtp.round_trip_us.map(u64::from),
            agent_frames_received: statistics.agent_frames_received,
            agent_frames_sent: statistics.agent_frames_sent,
            heard_ms: statistics.heard_ms,
            digits: self.record.media.digits,
        };
    }
}

/// What the caller's own end of the call means.
fn caller_ended(by: &EndedBy, was_answered: bool) -> Ending {
    let completed = |by, reason, error: Option<&str>| Ending {
        status: if was_answered { CallStatus::Completed } else { CallStatus::Failed },
        by,
        reason,
        code: VerdictCode::CallerLost,
        refusal: VerdictCode::CallerLost.status(),
        error: error.map(str::to_owned),
    };
    match by {
        EndedBy::ByeReceived if was_answered => {
            completed(HangupBy::Caller, HangupReason::EndedNormally, None)
        }
        // RFC 3261 section 15: a caller may send BYE on an early dialog; it means the same as CANCEL.
        EndedBy::ByeReceived | EndedBy::Cancelled => Ending {
            status: CallStatus::Canceled,
            by: HangupBy::Caller,
            reason: HangupReason::CanceledByOriginator,
            code: VerdictCode::CancelledByCaller,
            refusal: VerdictCode::CancelledByCaller.status(),
            error: None,
        },
        EndedBy::NoAck => Ending {
            status: CallStatus::Failed,
            ..completed(
                HangupBy::Carrier,
                HangupReason::NetworkError,
                Some("the caller never acknowledged the answer"),
            )
        },
        EndedBy::NoPrack => completed(
            HangupBy::Carrier,
            HangupReason::NetworkError,
            Some("the caller never acknowledged a reliable provisional response"),
        ),
        EndedBy::SessionExpired => completed(
            HangupBy::Carrier,
            HangupReason::NetworkError,
            Some("the caller did not refresh the session in time"),
        ),
        EndedBy::DialogLost => {
            completed(HangupBy::Carrier, HangupReason::NetworkError, Some("the caller forgot the dialog"))
        }
        EndedBy::TransportLost => {
            completed(HangupBy::Carrier, HangupReason::NetworkError, Some("the caller cannot be reached"))
        }
        // Ends of our own doing, reported while the call is live: only a bound of the endpoint can be behind it.
        EndedBy::Rejected { .. } | EndedBy::HungUp | EndedBy::Refused { .. } | EndedBy::NoResponse => {
            Ending {
                status: CallStatus::Error,
                ..completed(
                    HangupBy::Error,
                    HangupReason::TemporaryFailure,
                    Some("the signalling ended by itself"),
                )
            }
        }
    }
}

fn agent_ended(cause: AgentHangUpCause) -> Ending {
    let (status, by, reason, error) = match cause {
        AgentHangUpCause::Command | AgentHangUpCause::Closed { code: None | Some(1000 | 1001 | 1005) } => {
            (CallStatus::Completed, HangupBy::Callee, HangupReason::EndedNormally, None)
        }
        AgentHangUpCause::Closed { code: Some(code) } => {
            let error = format!("the agent closed its socket with {code}");
            (CallStatus::Completed, HangupBy::Callee, HangupReason::EndedNormally, Some(error))
        }
        AgentHangUpCause::Lost => {
            let error = "the agent's connection broke".to_owned();
            (CallStatus::Completed, HangupBy::Error, HangupReason::NetworkError, Some(error))
        }
        AgentHangUpCause::ProtocolErrors => {
            let error = "the agent sent too much that could not be understood".to_owned();
            (CallStatus::Failed, HangupBy::Error, HangupReason::TemporaryFailure, Some(error))
        }
    };
    let code = VerdictCode::EndedBeforeAnswer;
    Ending { status, by, reason, code, refusal: code.status(), error }
}

fn commanded(as_what: HangUpCommand) -> Ending {
    let status = match as_what {
        HangUpCommand::Stop => CallStatus::Stopped,
        HangUpCommand::Complete => CallStatus::Completed,
    };
    let code = VerdictCode::EndedBeforeAnswer;
    Ending {
        status,
        by: HangupBy::ApiRequest,
        reason: HangupReason::EndedNormally,
        code,
        refusal: code.status(),
        error: None,
    }
}

fn drained() -> Ending {
    Ending {
        status: CallStatus::Stopped,
        by: HangupBy::Error,
        reason: HangupReason::NodeDrained,
        code: VerdictCode::Draining,
        refusal: VerdictCode::Draining.status(),
        error: Some("the node stopped before the call was over".to_owned()),
    }
}

fn unacceptable(refusal: u16, error: String) -> Ending {
    Ending {
        status: CallStatus::Failed,
        by: HangupBy::Carrier,
        reason: HangupReason::NetworkError,
        code: VerdictCode::OfferUnacceptable,
        refusal,
        error: Some(error),
    }
}

fn no_answer_in_ack() -> Ending {
    unacceptable(488, "the ACK brought no usable answer to our offer".to_owned())
}

/// The cause in a Reason header (RFC 3326): `Q.850;cause=16;text="…"`, possibly among others.
fn q850_of(reason: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(reason).ok()?;
    let value = text.split(',').find(|value| {
        value.split(';').next().is_some_and(|protocol| protocol.trim().eq_ignore_ascii_case("Q.850"))
    })?;
    let cause = value.split(';').skip(1).find_map(|parameter| {
        let (name, cause) = parameter.split_once('=')?;
        name.trim().eq_ignore_ascii_case("cause").then(|| cause.trim())
    })?;
    cause.parse().ok().filter(|cause| *cause < 128)
}
