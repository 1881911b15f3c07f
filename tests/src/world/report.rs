//! What a run tells when it is over.

use std::collections::BTreeMap;
use std::time::Duration;

use tandem_call::bridge::{BridgeEvent, BridgeStatistics};
use tandem_call::{CallRecord, Verdict};

use super::World;
use crate::carrier::caller::{Ending, Outcome};
use crate::carrier::digest::DigestTrick;
use crate::carrier::script::{Act, CallPlan};
use crate::check::Violation;
use crate::check::agent::Ingress;
use crate::check::rtp::Egress;
use crate::marks::Mark;
use crate::model::{Expected, ExpectedOrder};
use crate::trace::Trace;

/// What was seen of one call.
#[derive(Debug, Default)]
pub struct CallFacts {
    /// In its caller's eyes.
    pub outcome: Outcome,
    /// RTP packets the caller sent.
    pub spoken: u64,
    /// What its agent was told.
    pub ingress: Option<Ingress>,
    /// What left as RTP.
    pub egress: Option<Egress>,
    /// What its bridge reported.
    pub events: Vec<BridgeEvent>,
    /// What its bridge counted.
    pub statistics: Option<BridgeStatistics>,
    /// Its record.
    pub record: Option<CallRecord>,
    /// Its verdicts.
    pub verdicts: Vec<Verdict>,
    /// What the model has to say of it.
    pub expected_decision: Option<Expected>,
    /// The same, of a call that Tandem places.
    pub expected_order: Option<ExpectedOrder>,
}

/// What a run tells.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash over everything that happened.
    pub hash: u64,
    /// The invariants that did not hold.
    pub violations: Vec<Violation>,
    /// The ladder of the first call concerned.
    pub ladder: String,
    /// Calls, in the plan's order.
    pub calls: Vec<CallFacts>,
    /// SIP messages both ways.
    pub messages: u64,
    /// RTP packets to and from Tandem.
    pub packets: u64,
    /// Virtual time that passed.
    pub lasted: Duration,
    /// Calls that were answered.
    pub answered: usize,
    /// What was left in the engine, if anything.
    pub left: String,
    /// Everything that happened, by call.
    pub trace: Trace,
    /// Final statuses with how often they came.
    pub statuses: BTreeMap<u16, u32>,
    /// Races, refusals and faults with how often they came about.
    pub marks: BTreeMap<Mark, u32>,
}

impl Report {
    /// The ladder of the call with this index, violated or not.
    pub fn ladder_of(&self, index: usize) -> String {
        let calls = self.trace.calls();
        let prefix = format!("c{index}-");
        let placed = self.calls[index].record.as_ref().map_or("", |record| record.sip_call_id.as_str());
        calls
            .filter(|call| call.starts_with(&prefix) || *call == placed)
            .map(|call| self.trace.ladder(call, false))
            .collect()
    }

    /// Panics with all there is to know if an invariant did not hold.
    pub fn assert_sound(&self) {
        assert!(self.violations.is_empty(), "{self}");
    }
}

impl std::fmt::Display for Report {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(formatter, "seed {}: {} violations", self.seed, self.violations.len())?;
        for violation in &self.violations {
            let Violation { invariant, at, call, detail } = violation;
            writeln!(formatter, "  {:>9.4}  {invariant}  {call}  {detail}", at.as_secs_f64())?;
        }
        writeln!(formatter, "{}", self.ladder)?;
        writeln!(
            formatter,
            "to repeat: SIM_SEED={} cargo test -p tandem-tests --test sim one_seed",
            self.seed
        )
    }
}

impl World {
    pub(super) fn finish(mut self) -> Report {
        let now = self.now;
        if !self.broken {
            self.hang_up_streams();
            self.sip.sweep(now, &mut self.findings);
            self.sip.finish(now, &mut self.findings);
            self.ledger.finish(now, &mut self.findings);
            self.check_liveness();
            self.check_decisions();
            self.check_orders();
        }
        for slot in &self.callers {
            for why in &slot.caller.outcome.unreadable {
                self.findings.note(
                    "malformed",
                    now,
                    &slot.caller.call_id,
                    format!("rsip cannot read it: {why}"),
                );
            }
        }
        let first = self.findings.all.iter().find(|violation| !violation.call.is_empty());
        let ladder = first.map(|violation| self.trace.ladder(&violation.call, true)).unwrap_or_default();
        let left = format!("{:?}", self.engine.census());
        let mut statuses = BTreeMap::new();
        let calls: Vec<CallFacts> = std::mem::take(&mut self.callers)
            .into_iter()
            .enumerate()
            .map(|(index, slot)| {
                let call_id = slot.caller.call_id.clone();
                let mut facts = slot.facts;
                facts.outcome = slot.caller.outcome;
                for (method, status) in &facts.outcome.finals {
                    if method == "INVITE" {
                        *statuses.entry(*status).or_insert(0) += 1;
                    }
                }
                let placed = self.ledger.record_of(super::orders::call_id(index));
                let came = || self.ledger.entry_of(&call_id).and_then(|entry| entry.record.as_deref());
                facts.record = placed.or_else(came).cloned();
                let verdicts = self.ledger.verdicts.get(&call_id);
                facts.verdicts = verdicts.into_iter().flatten().map(|verdict| (**verdict).clone()).collect();
                facts
            })
            .collect();
        Report {
            seed: self.plan.seed,
            hash: self.trace.hash(),
            violations: self.findings.all,
            ladder,
            answered: calls.iter().filter(|call| call.outcome.answered_at.is_some()).count(),
            calls,
            messages: self.sip.messages,
            packets: self.rtp_in + self.rtp_out,
            lasted: now.saturating_duration_since(self.start),
            left,
            statuses,
            marks: self.marks.counts().clone(),
            trace: self.trace,
        }
    }

    fn check_liveness(&mut self) {
        let now = self.now;
        for slot in &self.callers {
            if !slot.caller.is_over() {
                self.findings.note("stuck", now, &slot.caller.call_id, "the caller's call never ended");
            }
        }
        for slot in self.slots.values() {
            self.findings.note("stuck", now, &slot.call_id, "a bridge is left");
        }
        if let Some(left) = self.leftovers(false) {
            self.findings.note("stuck", now, "", left);
        }
    }

    fn check_decisions(&mut self) {
        let now = self.now;
        for slot in &self.callers {
            let plan = &slot.caller.plan;
            let Some(expected) = &slot.facts.expected_decision else { continue };
            let final_status = match slot.caller.outcome.ending {
                Some(Ending::Refused(status)) => status,
                _ if slot.caller.outcome.answered_at.is_some() => 200,
                _ => continue,
            };
            if !expected.statuses.contains(&final_status) && !disturbances(plan).contains(&final_status) {
                let detail = format!("{final_status}, the model has {:?}", expected.statuses);
                self.findings.note("decision", now, &slot.caller.call_id, detail);
            }
        }
    }
}

/// Statuses that a caller brings upon itself.
fn disturbances(plan: &CallPlan) -> Vec<u16> {
    let mut statuses = Vec::new();
    for step in &plan.steps {
        match step.act {
            Act::Cancel | Act::ByeNow | Act::Bye => statuses.push(487),
            Act::Merge => statuses.push(482),
            Act::Reset => statuses.push(480),
            _ => {}
        }
    }
    if let Some(credentials) = &plan.credentials
        && matches!(credentials.trick, DigestTrick::StaleNonce(_))
    {
        statuses.push(401);
    }
    statuses
}
