//! A call whose caller is sent elsewhere: by REFER towards its carrier, or to a second leg that is dialled.
//!
//! ```text
//!   asked ─► Refer ──202──► Outcome ──NOTIFY 2xx, BYE──► the call is over here: handed over
//!              │ refused          └──NOTIFY failure, silence──┐
//!              ▼ (if the policy says so)                      ▼
//!            Way, Port, Answer ── no gateway took it ──► the agent has the caller
//!              │ 2xx                                          ▲ its socket was kept
//!              ▼                                              │
//!            Joined ──BYE of the second leg───────────────────┴──else──► the call is over
//! ```
//!
//! All of it happens while the caller's own leg is up and the call awaits its end; that end, whoever brings it, ends this
//! too; an agent that only closes its socket does not end it. What it refuses to do: go where the trunk's policy does not permit. RFC 3515, RFC 3891, RFC 5589.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_agent::TransferMode;
use tandem_sip::{Refusal, SessionId};

use super::ending::{self, Ending};
use super::second::Second;
use super::{Awaiting, LiveCall};
use crate::addressing;
use crate::bridge::{AgentHangUpCause, BridgeCommand};
use crate::incident::IncidentKind;
use crate::node::Node;
use crate::output::Output;
use crate::transfer::{
    Destination, MAX_TRANSFERS, TransferBy, TransferMethod, TransferOrder, TransferOutcome, TransferRecord,
    TransferWay,
};
use crate::verdict::wire_text;

/// What a carrier that has taken a REFER is waited for beyond the time its target may ring.
const BEYOND_RINGING: Duration = Duration::from_secs(20);

/// What a call has of transfers.
#[derive(Debug, Default)]
pub(super) struct Transfers {
    /// The one under way.
    pub(super) current: Option<Box<Transfer>>,
    /// The second media port, which is bound once and serves every second leg.
    pub(super) port: SecondPort,
    /// Call-IDs of second legs, for the ladder.
    pub(super) call_ids: Vec<Bytes>,
    /// Where second legs went, for the ladder too.
    pub(super) peers: Vec<IpAddr>,
    /// The deadline of what is awaited.
    pub(super) until: Option<Instant>,
    /// The agent closed its socket while the caller talked to somebody else.
    pub(super) is_agent_gone: bool,
}

/// The media port of second legs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum SecondPort {
    #[default]
    Unasked,
    Asked,
    Bound(SocketAddr),
}

/// A transfer under way.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) order: TransferOrder,
    pub(super) destination: Destination,
    pub(super) stage: Stage,
    /// Whether a second leg is dialled when the carrier refuses REFER.
    falls_back: bool,
    pub(super) second: Option<Box<Second>>,
}

/// What a transfer awaits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The carrier's answer to our REFER.
    Refer,
    /// What the carrier tells of the REFER it took.
    Outcome,
    /// The address of a gateway for the second leg.
    Way,
    /// The second media port.
    Port,
    /// The answer of the second leg.
    Answer,
    /// The end of either leg.
    Joined,
    /// As `Joined`, and what becomes of the REFER that lets the carrier join both legs past us.
    HandingOver,
}

impl LiveCall {
    /// The agent's wish.
    pub(super) fn agent_transfers(
        &mut self,
        target: String,
        mode: TransferMode,
        now: Instant,
        node: &mut Node,
    ) {
        let way = match mode {
            TransferMode::Auto => TransferWay::Auto,
            TransferMode::Refer => TransferWay::Refer,
            TransferMode::Dial => TransferWay::Dial,
        };
        let order = TransferOrder { way, ..TransferOrder::to(target) };
        self.transfer_asked(order, TransferBy::Agent, now, node);
    }

    /// Somebody wishes that the caller be sent elsewhere.
    pub(super) fn transfer_asked(
        &mut self,
        order: TransferOrder,
        by: TransferBy,
        now: Instant,
        node: &mut Node,
    ) {
        node.counters.transfers += 1;
        match self.awaits {
            Awaiting::End => {
                if let Err(why) = self.begin_transfer(order, by, now, node) {
                    self.transfer_refused(why, now, node);
                }
            }
            Awaiting::Agent | Awaiting::Ack | Awaiting::Listener => {
                self.transfer_refused("the call is not answered yet", now, node);
            }
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::BridgeClose
            | Awaiting::LastMessage => node.counters.late_inputs += 1,
        }
    }

    /// A transfer that is not even tried: the agent goes on, and is told why.
    fn transfer_refused(&mut self, why: &str, now: Instant, node: &mut Node) {
        node.counters.transfers_refused += 1;
        self.incident(IncidentKind::TransferRefused, why, now, node);
        let command = BridgeCommand::TransferFailed { why: why.to_owned() };
        node.emit(Output::Bridge { call: self.id, command });
        self.progress(node);
    }

    fn begin_transfer(
        &mut self,
        order: TransferOrder,
        by: TransferBy,
        now: Instant,
        node: &mut Node,
    ) -> Result<(), &'static str> {
        if self.transfers.current.is_some() {
            return Err("another transfer is under way");
        }
        if self.record.transfers.len() >= MAX_TRANSFERS {
            return Err("this call was transferred as often as one may be");
        }
        let destination = Destination::parse(&order.target)?;
        self.trunk.transfers.permits(&destination)?;
        let (method, falls_back) = self.trunk.transfers.method(order.way)?;
        self.record.transfers.push(TransferRecord {
            by,
            method,
            target: order.target.clone(),
            from: String::new(),
            trunk: None,
            started_unix_ms: node.unix_ms(now),
            ringing_unix_ms: None,
            answered_unix_ms: None,
            ended_unix_ms: None,
            outcome: TransferOutcome::Pending,
            sip_status: None,
            cause: String::new(),
            hangup_by: None,
            sip_call_id: String::new(),
            gateways: Vec::new(),
            packets: None,
        });
        let transfer = Transfer { order, destination, stage: Stage::Refer, falls_back, second: None };
        self.transfers.current = Some(Box::new(transfer));
        match method {
            TransferMethod::Refer => self.send_refer(now, node),
            TransferMethod::Dial | TransferMethod::Attended => self.dial_second(now, node),
        }
        self.progress_if_up(node);
        Ok(())
    }

    fn send_refer(&mut self, now: Instant, node: &mut Node) {
        let (Some(session), Some(transfer)) = (self.session, &self.transfers.current) else { return };
        let target = addressing::refer_target(&self.trunk, self.peer, &transfer.destination);
        match node.endpoint.refer(now, session, target.as_bytes()) {
            // The endpoint tells when no answer comes.
            Ok(()) => self.transfer_awaits(Stage::Refer, None, node),
            Err(misuse) => self.refer_refused(None, &format!("no REFER could be sent: {misuse}"), now, node),
        }
    }

    /// The carrier's answer to our REFER.
    pub(super) fn refer_answered(&mut self, status: u16, now: Instant, node: &mut Node) {
        let Some(transfer) = &self.transfers.current else {
            node.counters.late_inputs += 1;
            return;
        };
        let ringing = transfer.order.ringing.unwrap_or(node.config.ringing_timeout);
        let until = Some(now + ringing + BEYOND_RINGING);
        match (transfer.stage, status) {
            (Stage::Refer, 200..300) => {
                self.note_transfer(|record| record.sip_status = Some(status));
                self.transfer_awaits(Stage::Outcome, until, node);
                self.progress(node);
            }
            (Stage::Refer, 408) => {
                self.refer_refused(Some(408), "the carrier did not answer REFER", now, node)
            }
            (Stage::Refer, _) => {
                let why = format!("the carrier refused REFER with {status}");
                self.refer_refused(Some(status), &why, now, node);
            }
            (Stage::HandingOver, 200..300) => self.transfer_awaits(Stage::HandingOver, until, node),
            (Stage::HandingOver, _) => {
                let why = format!("the carrier refused REFER with {status}; both legs stay here");
                self.stay_joined(&why, node);
            }
            (Stage::Outcome | Stage::Way | Stage::Port | Stage::Answer | Stage::Joined, _) => {
                node.counters.late_inputs += 1;
            }
        }
    }

    fn refer_refused(&mut self, status: Option<u16>, why: &str, now: Instant, node: &mut Node) {
        let falls_back = self.transfers.current.as_ref().is_some_and(|transfer| transfer.falls_back);
        if !falls_back {
            return self.fail_transfer(status, why, now, node);
        }
        self.note_transfer(|record| {
            record.method = TransferMethod::Dial;
            record.sip_status = status;
            record.cause = why.to_owned();
        });
        self.dial_second(now, node);
        self.progress_if_up(node);
    }

    /// Tells how the call stands, unless what was just done has ended it.
    fn progress_if_up(&self, node: &mut Node) {
        if self.awaits == Awaiting::End {
            self.progress(node);
        }
    }

    /// What the carrier tells of the REFER it took.
    pub(super) fn refer_progressed(
        &mut self,
        status: Option<u16>,
        is_over: bool,
        now: Instant,
        node: &mut Node,
    ) {
        let stage = self.transfers.current.as_ref().map(|transfer| transfer.stage);
        match (stage, status) {
            (Some(Stage::Refer | Stage::Outcome | Stage::HandingOver), Some(200..300)) => {
                self.note_transfer(|record| record.sip_status = status);
                self.handed_over(now, node);
            }
            (Some(Stage::Refer | Stage::Outcome), Some(300..)) => {
                let why = format!("who the carrier was referred to answered {}", status.unwrap_or_default());
                self.fail_transfer(status, &why, now, node);
            }
            (Some(Stage::Outcome), _) if is_over => {
                let why = "the carrier told no outcome of the REFER it took";
                self.fail_transfer(status, why, now, node);
            }
            (Some(Stage::HandingOver), Some(300..)) => {
                self.stay_joined("the carrier could not join both legs; they stay here", node);
            }
            (Some(Stage::HandingOver), _) if is_over => {
                self.stay_joined("the carrier told no outcome of the REFER it took", node);
            }
            (Some(Stage::Refer | Stage::Outcome | Stage::HandingOver), _) => {
                if status == Some(180) {
                    let at = node.unix_ms(now);
                    self.note_transfer(|record| record.ringing_unix_ms = record.ringing_unix_ms.or(Some(at)));
                }
            }
            (Some(Stage::Way | Stage::Port | Stage::Answer | Stage::Joined) | None, _) => {
                node.counters.late_inputs += 1;
            }
        }
    }

    /// The carrier has the caller: the call is over here.
    fn handed_over(&mut self, now: Instant, node: &mut Node) {
        node.counters.transfers_connected += 1;
        let at = node.unix_ms(now);
        self.note_transfer(|record| {
            record.outcome = TransferOutcome::HandedOver;
            record.cause.clear();
            record.ended_unix_ms = Some(at);
        });
        self.end(ending::transferred(), now, node);
    }

    /// Asks the carrier to join the caller and the second leg without us.
    pub(super) fn hand_over(&mut self, now: Instant, node: &mut Node) {
        let second = self.second_session();
        let replaceable = second.and_then(|second| node.endpoint.replaceable(second));
        let (Some(session), Some((uri, replaces))) = (self.session, replaceable) else { return };
        let target = addressing::with_replaces(&uri, &replaces);
        match node.endpoint.refer(now, session, &target) {
            Ok(()) => self.transfer_awaits(Stage::HandingOver, None, node),
            Err(misuse) => self.stay_joined(&format!("no REFER could be sent: {misuse}"), node),
        }
    }

    /// Both legs stay here, whatever else was wished.
    fn stay_joined(&mut self, why: &str, node: &mut Node) {
        if let Some(session) = self.session {
            node.endpoint.forget_refer(session);
        }
        self.note_transfer(|record| record.cause = why.to_owned());
        self.transfer_awaits(Stage::Joined, None, node);
        self.progress(node);
    }

    /// Nothing came of it: the agent has the caller, and is told.
    pub(super) fn fail_transfer(&mut self, status: Option<u16>, why: &str, now: Instant, node: &mut Node) {
        let Some(mut transfer) = self.transfers.current.take() else { return };
        self.set_transfer_deadline(None, node);
        if let Some(session) = self.session {
            node.endpoint.forget_refer(session);
        }
        if let Some(second) = &mut transfer.second {
            second.let_go(now, node);
        }
        node.counters.transfers_failed += 1;
        let at = node.unix_ms(now);
        self.note_transfer(|record| {
            record.outcome = TransferOutcome::Failed;
            record.sip_status = status.or(record.sip_status);
            record.cause = match record.cause.is_empty() {
                true => why.to_owned(),
                false => format!("{}; then {why}", record.cause),
            };
            record.ended_unix_ms = Some(at);
        });
        if self.transfers.is_agent_gone {
            return self.end(ending::agent_ended(AgentHangUpCause::Closed { code: None }), now, node);
        }
        let command = BridgeCommand::TransferFailed { why: why.to_owned() };
        node.emit(Output::Bridge { call: self.id, command });
        self.progress(node);
    }

    /// The agent's side is done. One that has asked for a transfer may leave at once: the caller is not hung up on.
    pub(super) fn agent_hung_up(&mut self, cause: AgentHangUpCause, now: Instant, node: &mut Node) {
        let has_left = matches!(cause, AgentHangUpCause::Closed { .. } | AgentHangUpCause::Lost);
        if has_left && self.awaits == Awaiting::End && self.transfers.current.is_some() {
            self.transfers.is_agent_gone = true;
            return;
        }
        self.end_if_live(ending::agent_ended(cause), now, node);
    }

    /// The time of what the transfer awaits is over.
    pub(super) fn transfer_overdue(&mut self, now: Instant, node: &mut Node) {
        match self.transfers.current.as_ref().map(|transfer| transfer.stage) {
            Some(Stage::Outcome) => {
                self.fail_transfer(None, "the carrier told no outcome of the REFER it took", now, node);
            }
            Some(Stage::HandingOver) => {
                self.stay_joined("the carrier told no outcome of the REFER it took", node);
            }
            Some(Stage::Port) => self.fail_transfer(None, "no second media port in time", now, node),
            Some(Stage::Way | Stage::Answer) => self.second_overdue(now, node),
            Some(Stage::Refer | Stage::Joined) | None => node.counters.unexpected_inputs += 1,
        }
    }

    /// The call's end is the transfer's, too.
    pub(super) fn end_transfer(&mut self, ending: &Ending, now: Instant, node: &mut Node) {
        self.set_transfer_deadline(None, node);
        let Some(mut transfer) = self.transfers.current.take() else { return };
        if let Some(second) = &mut transfer.second {
            second.hang_up(ending, now, node);
        }
        let at = node.unix_ms(now);
        let (stage, by) = (transfer.stage, ending.by);
        self.note_transfer(|record| {
            record.outcome = match (record.outcome, stage) {
                // A carrier that hangs up on a REFER it took has done what it was asked, whatever else it tells.
                (TransferOutcome::Pending, Stage::Outcome) => TransferOutcome::HandedOver,
                (TransferOutcome::Pending, _) => TransferOutcome::Cancelled,
                (outcome, _) => outcome,
            };
            if record.outcome == TransferOutcome::Cancelled && record.cause.is_empty() {
                "the call ended before".clone_into(&mut record.cause);
            }
            if record.outcome == TransferOutcome::Connected {
                record.hangup_by = record.hangup_by.or(Some(by));
            }
            record.ended_unix_ms = record.ended_unix_ms.or(Some(at));
        });
    }

    /// The carrier refers us elsewhere: no policy of a trunk follows it, so nobody is called for it.
    pub(super) fn referred(&mut self, session: SessionId, refer_to: &[u8], now: Instant, node: &mut Node) {
        node.counters.refers_refused += 1;
        let why = format!("the carrier's REFER to {} is not followed", wire_text(refer_to));
        self.incident(IncidentKind::ReferRefused, why, now, node);
        // The endpoint has refused it by itself, unless its policy left it to us.
        let _refused = node.endpoint.refuse_refer(now, session, &Refusal::new(603));
        self.progress(node);
    }

    /// The second leg's session.
    pub(super) fn second_session(&self) -> Option<SessionId> {
        self.transfers.current.as_ref()?.second.as_ref()?.session
    }

    pub(super) fn note_transfer(&mut self, change: impl FnOnce(&mut TransferRecord)) {
        if let Some(record) = self.record.transfers.last_mut() {
            change(record);
        }
    }

    pub(super) fn transfer_awaits(&mut self, stage: Stage, until: Option<Instant>, node: &mut Node) {
        if let Some(transfer) = &mut self.transfers.current {
            transfer.stage = stage;
        }
        self.set_transfer_deadline(until, node);
    }

    /// Beside the call's own deadline, under the same name: whichever comes first wakes the call.
    fn set_transfer_deadline(&mut self, until: Option<Instant>, node: &mut Node) {
        if let Some(old) = self.transfers.until.take()
            && self.deadline != Some(old)
        {
            node.deadlines.remove(&(old, self.id));
        }
        if let Some(until) = until {
            node.deadlines.insert((until, self.id));
        }
        self.transfers.until = until;
    }
}
