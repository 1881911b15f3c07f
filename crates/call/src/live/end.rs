//! The end of a call, whoever brings it: the caller is told if it does not know, the bridge is closed, the place is free,
//! and the record goes out once.
//!
//! What it refuses to do: wait. A bridge that does not report its end and a session that does not end are given up after
//! their bounds. RFC 3261 section 15, RFC 3326.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tandem_sip::{EndedBy, Refusal, SessionId};

use super::ending::{self, Ending};
use super::{Awaiting, BridgeLife, LAST_MESSAGES, LiveCall};
use crate::bridge::{BridgeCommand, BridgeStatistics};
use crate::input::AgentFailure;
use crate::ladder::Rung;
use crate::media_summary::MediaSummary;
use crate::node::Node;
use crate::output::Output;
use crate::record::CallStatus;
use crate::recording::RecordingState;
use crate::verdict::{Check, StepOutcome, VerdictCode, wire_text};

impl LiveCall {
    pub(super) fn session_ended(
        &mut self,
        session: SessionId,
        by: EndedBy,
        reason: Option<Bytes>,
        now: Instant,
        node: &mut Node,
    ) {
        // An INVITE that was given up for the next gateway ends when it pleases.
        if self.session != Some(session) {
            return;
        }
        self.session = None;
        match self.awaits {
            Awaiting::Answer => self.attempt_ended(&by, now, node),
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::End => {
                let told = reason.as_deref().and_then(ending::q850_of);
                let mut ending = ending::caller_ended(&by, self.record.answered_unix_ms.is_some());
                // A carrier that says why it ended a call knows more than that it did.
                if let (EndedBy::ByeReceived, Some(cause)) = (&by, told) {
                    ending.because_of(cause);
                }
                self.end(ending, now, node);
                if told.is_some() {
                    self.record.q850 = told;
                    self.record.sip_reason = reason.as_deref().map(wire_text);
                }
                if self.awaits == Awaiting::LastMessage {
                    debug_assert!(self.bridge == BridgeLife::Gone, "a record waits for its bridge");
                }
            }
            Awaiting::BridgeClose => {}
            Awaiting::LastMessage => self.wait_until(Some(now + LAST_MESSAGES), node),
        }
    }

    pub(super) fn deadline_passed(&mut self, now: Instant, node: &mut Node) {
        if self.transfers.until.is_some_and(|until| until <= now) {
            self.transfers.until = None;
            self.transfer_overdue(now, node);
        }
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        match self.awaits {
            Awaiting::Bridge => {
                let error = "no media port in time".to_owned();
                self.note(Check::Media, StepOutcome::Failed, "", error.as_str());
                self.end(ending::media_failed(CallStatus::Failed, error), now, node);
            }
            Awaiting::Way => self.way_failed("its name was not resolved in time", now, node),
            Awaiting::Answer => self.answer_overdue(now, node),
            Awaiting::Agent | Awaiting::Listener => {
                let cause = AgentFailure::Timeout.to_string();
                self.agent_failed(VerdictCode::AgentTimeout, cause, now, node);
            }
            Awaiting::End => {
                self.end(ending::too_long(), now, node);
            }
            Awaiting::BridgeClose => {
                node.counters.lost_bridges += 1;
                self.finish(now, node);
            }
            Awaiting::LastMessage => {
                self.wait_until(None, node);
                let rungs: Arc<[Rung]> = self.ladder.rungs().cloned().collect();
                node.emit(Output::Ladder { call: self.id, account: self.record.account.clone(), rungs });
            }
            // The endpoint gives up waiting for the ACK and reports it.
            Awaiting::Ack => node.counters.unexpected_inputs += 1,
        }
    }

    pub(super) fn end_if_live(&mut self, ending: Ending, now: Instant, node: &mut Node) {
        match self.awaits {
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Agent
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::End => {
                self.end(ending, now, node);
            }
            Awaiting::BridgeClose | Awaiting::LastMessage => node.counters.late_inputs += 1,
        }
    }

    /// Ends the call from a live state: the caller is told if it does not know, the bridge is closed, the place is free.
    pub(super) fn end(&mut self, ending: Ending, now: Instant, node: &mut Node) {
        debug_assert!(self.record.ended_unix_ms.is_none(), "a call ends once");
        self.end_transfer(&ending, now, node);
        let ending = if self.outgoing.is_some() { ending.of_outbound() } else { ending };
        let was_answered = self.record.answered_unix_ms.is_some();
        self.say_goodbye(&ending, was_answered, now, node);
        self.record.ended_unix_ms = Some(node.unix_ms(now));
        self.record.hangup_by = Some(ending.by);
        self.record.hangup_reason = Some(ending.reason);
        self.record.q850 = Some(ending.reason.q850());
        if self.record.error_message.is_none() {
            self.record.error_message = ending.error;
        }
        self.cut_attempt(now, node);
        self.recording_over(RecordingState::Completed, now, node);
        if !was_answered && self.outgoing.is_some() {
            // The status of a call that we placed is the carrier's own, if it came to that.
            let status = self.record.sip_status.unwrap_or(ending.refusal);
            self.settle_verdict(ending.code, status, now, node);
        } else if !was_answered {
            self.record.sip_status = Some(ending.refusal);
            self.settle_verdict(ending.code, ending.refusal, now, node);
        }
        if let Some(permit) = self.permit.take() {
            if was_answered {
                node.admission.release(permit, now);
            } else {
                node.admission.release_unanswered(permit, now);
            }
        }
        let is_bridged = self.close_bridge(node);
        self.record.status = CallStatus::CallDisconnected;
        if is_bridged && was_answered {
            self.progress(node);
        }
        self.record.status = ending.status;
        if is_bridged {
            self.enter(Awaiting::BridgeClose, now, node);
        } else {
            self.finish(now, node);
        }
    }

    /// BYE to an answered call, CANCEL or a refusal to one that is not; nothing to a peer who has gone.
    fn say_goodbye(&mut self, ending: &Ending, was_answered: bool, now: Instant, node: &mut Node) {
        let Some(session) = self.session else { return };
        let told = if was_answered || self.outgoing.is_some() {
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
            BridgeLife::Unasked | BridgeLife::Gone => return false,
            BridgeLife::Open => {
                node.emit(Output::Bridge { call: self.id, command: BridgeCommand::HangUp });
            }
            BridgeLife::Asked => {}
        }
        node.emit(Output::CloseBridge { call: self.id });
        true
    }

    /// The record goes out, once.
    pub(super) fn finish(&mut self, now: Instant, node: &mut Node) {
        debug_assert!(self.record.status.is_final(), "the end is known");
        self.bridge = BridgeLife::Gone;
        node.emit(Output::Record(Box::new(self.record.clone())));
        self.enter(Awaiting::LastMessage, now, node);
    }

    pub(super) fn settle_verdict(&mut self, code: VerdictCode, status: u16, now: Instant, node: &mut Node) {
        if let Some(mut verdict) = self.verdict.take() {
            verdict.conclude(code);
            verdict.status = status;
            if let Some(outgoing) = &self.outgoing {
                verdict.source = self.peer;
                verdict.transport = outgoing.transport().unwrap_or(self.trunk.transport);
            }
            node.emit_verdict(verdict, now);
        }
    }

    pub(super) fn count_media(&mut self, statistics: &BridgeStatistics) {
        let codec = self.negotiation.agreed().map(|media| media.codec);
        self.count_second(statistics);
        let counted = MediaSummary::of(statistics).spoken_in(codec).encrypted_by(self.negotiation.suite());
        let known = &mut self.record.media;
        let mut recording = known.recording.take();
        if let Some(recording) = &mut recording {
            recording.lost_ms = statistics.recording_lost_ms;
        }
        self.record.media = MediaSummary {
            remote: counted.remote.or(known.remote),
            local: self.negotiation.local(),
            digits: known.digits,
            recording,
            ..counted
        };
    }
}
