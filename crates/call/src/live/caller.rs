//! What a look-up of the caller does to a call: its facts go to the agent and into the record, or it is not let in.

use std::time::Instant;

use super::{Awaiting, LiveCall, ending};
use crate::bridge::BridgeCommand;
use crate::caller_lookup::CallerAnswer;
use crate::incident::IncidentKind;
use crate::node::Node;
use crate::output::Output;
use crate::verdict::{Check, StepOutcome};

impl LiveCall {
    /// Comes while the agent is being dialled, once.
    pub(super) fn caller_looked_up(
        &mut self,
        must_be_known: bool,
        answer: CallerAnswer,
        now: Instant,
        node: &mut Node,
    ) {
        match self.awaits {
            Awaiting::Agent => {}
            Awaiting::BridgeClose | Awaiting::LastMessage => {
                node.counters.late_inputs += 1;
                return;
            }
            Awaiting::Way
            | Awaiting::Bridge
            | Awaiting::Answer
            | Awaiting::Ack
            | Awaiting::Listener
            | Awaiting::End => {
                node.counters.unexpected_inputs += 1;
                return;
            }
        }
        let from = self.record.from.clone();
        match answer {
            CallerAnswer::Known(facts) => {
                let detail = format!("looked up: {} facts", facts.len());
                self.note(Check::CallerRules, StepOutcome::Passed, from, detail);
                self.record.caller_facts.clone_from(&facts);
                node.emit(Output::Bridge { call: self.id, command: BridgeCommand::Parameters(facts) });
            }
            CallerAnswer::Unknown(why) | CallerAnswer::Failed(why) if must_be_known => {
                let detail = format!("disallow_unknown_numbers is true, and {why}");
                self.note(Check::CallerRules, StepOutcome::Failed, from, detail.as_str());
                self.end(ending::caller_not_known(detail), now, node);
            }
            CallerAnswer::Unknown(why) => self.note(Check::CallerRules, StepOutcome::Noted, from, why),
            CallerAnswer::Failed(why) => {
                let detail = format!("ingest_source_config: the caller was not looked up: {why}");
                self.note(Check::CallerRules, StepOutcome::Noted, from, detail.as_str());
                self.incident(IncidentKind::CallerLookupFailed, detail, now, node);
            }
        }
    }
}
