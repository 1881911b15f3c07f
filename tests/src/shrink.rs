//! A failing plan made small: the least of it that still violates the same invariant, for a person to read.
//!
//! It re-runs the plan with one thing less at a time (a call, a step, an act, a fault of a path, a cut) and keeps what still
//! fails. Everything in a run hangs together by its random numbers, so less is tried, never proven least.

use std::time::Duration;

use crate::agent::plan::{AgentPlan, Connect, Mode};
use crate::carrier::script::{AckPlan, CallPlan, Reliable};
use crate::carrier::sdp::ExtraSection;
use crate::link::LinkProfile;
use crate::sabotage::Planted;
use crate::swarm::{CarrierPlan, Plan};
use crate::world::{Report, World};

/// Runs spent on one plan.
const RUNS_MAX: u32 = 600;

/// RTP packets simulated for one plan: what bounds the time where calls are long.
const PACKETS_MAX: u64 = 3_000_000;

/// What is left of a plan.
#[derive(Debug)]
pub struct Shrunk {
    /// The plan.
    pub plan: Plan,
    /// Its run.
    pub report: Report,
    /// Runs it took.
    pub runs: u32,
}

/// Makes a plan smaller that violates something, with the bug that is planted, if one is; nothing if it does not.
pub fn shrink(plan: &Plan, planted: Option<Planted>) -> Option<Shrunk> {
    let report = World::new(plan.clone(), planted).run();
    let invariant = report.violations.first()?.invariant;
    let mut packets = report.packets;
    let mut best = Shrunk { plan: plan.clone(), report, runs: 1 };
    loop {
        let mut is_smaller = false;
        let mut left = candidates(&best.plan);
        let mut index = 0;
        while index < left.len() {
            if best.runs >= RUNS_MAX || packets >= PACKETS_MAX {
                return Some(best);
            }
            best.runs += 1;
            let report = World::new(left[index].clone(), planted).run();
            packets += report.packets;
            if report.violations.iter().any(|violation| violation.invariant == invariant) {
                (best.plan, best.report) = (left.swap_remove(index), report);
                is_smaller = true;
                // Those of a smaller plan are others.
                left = candidates(&best.plan);
            } else {
                index += 1;
            }
        }
        if !is_smaller {
            return Some(best);
        }
    }
}

/// The plan with one thing less, the largest things first.
fn candidates(plan: &Plan) -> Vec<Plan> {
    let mut all = Vec::new();
    let mut offer = |edit: &dyn Fn(&mut Plan)| all.extend(edited(plan, edit));
    for call in 0..if plan.calls.len() > 1 { plan.calls.len() } else { 0 } {
        offer(&|less| {
            less.calls.remove(call);
        });
    }
    for index in 0..plan.operator.len() {
        offer(&|less| {
            less.operator.remove(index);
        });
    }
    for index in 0..plan.cuts.len() {
        offer(&|less| {
            less.cuts.remove(index);
        });
    }
    for (carrier, edit) in (0..plan.carriers.len()).flat_map(|index| CARRIER_EDITS.map(|edit| (index, edit)))
    {
        offer(&|less| edit(&mut less.carriers[carrier]));
    }
    for (call, one) in plan.calls.iter().enumerate() {
        for step in 0..one.steps.len() {
            offer(&|less| {
                less.calls[call].steps.remove(step);
            });
        }
        for lose in 0..one.lose.len() {
            offer(&|less| {
                less.calls[call].lose.remove(lose);
            });
        }
        for edit in CALL_EDITS {
            offer(&|less| edit(&mut less.calls[call]));
        }
    }
    for (agent, one) in plan.agents.iter().enumerate() {
        for turn in 0..one.turns.len() {
            offer(&|less| {
                less.agents[agent].turns.remove(turn);
            });
        }
        for edit in AGENT_EDITS {
            offer(&|less| edit(&mut less.agents[agent]));
        }
    }
    for edit in PLAN_EDITS {
        offer(&edit);
    }
    all
}

/// The plan after an edit, if that changes it.
fn edited(plan: &Plan, edit: impl FnOnce(&mut Plan)) -> Option<Plan> {
    let mut less = plan.clone();
    edit(&mut less);
    (less != *plan).then_some(less)
}

const CALL_EDITS: [fn(&mut CallPlan); 12] = [
    |call| call.proxied = false,
    |call| call.nat = false,
    |call| call.ack = AckPlan::Prompt,
    |call| call.reliable = Reliable::No,
    |call| call.session_timer = None,
    |call| call.skew_ppm = 0,
    |call| call.offer.extra = ExtraSection::None,
    |call| call.offer.delayed = false,
    |call| call.offer.ptime_ms = 20,
    |call| call.transport = tandem_sip::Transport::Udp,
    |call| call.to = None,
    |call| call.start = Duration::from_millis(10),
];

const CARRIER_EDITS: [fn(&mut CarrierPlan); 14] = [
    |carrier| carrier.sip = LinkProfile::clean(),
    |carrier| carrier.rtp = LinkProfile::clean(),
    |carrier| carrier.sip.loss = 0,
    |carrier| (carrier.sip.burst_start, carrier.sip.burst_continue) = (0, 0),
    |carrier| carrier.sip.duplicate = 0,
    |carrier| (carrier.sip.reorder, carrier.sip.reorder_by) = (0, Duration::ZERO),
    |carrier| carrier.sip.jitter = Duration::ZERO,
    |carrier| carrier.sip.garble = 0,
    |carrier| (carrier.sip.chunk, carrier.sip.stall) = (0, 0),
    |carrier| carrier.rtp.loss = 0,
    |carrier| (carrier.rtp.burst_start, carrier.rtp.burst_continue) = (0, 0),
    |carrier| carrier.rtp.jitter = Duration::ZERO,
    |carrier| (carrier.rtp.duplicate, carrier.rtp.reorder, carrier.rtp.corrupt) = (0, 0, 0),
    |carrier| carrier.calls_max = None,
];

const AGENT_EDITS: [fn(&mut AgentPlan); 3] = [
    |agent| agent.connect = Connect::After(Duration::from_millis(20)),
    |agent| agent.mode = Mode::Silent,
    |agent| agent.mode = Mode::Echo,
];

const PLAN_EDITS: [fn(&mut Plan); 3] =
    [|plan| plan.ports = 64, |plan| plan.calls_max = None, |plan| plan.bind = Duration::from_millis(1)];

#[cfg(test)]
mod tests {
    use super::*;

    /// A bug that shows with any answered call shrinks to one, with nothing wrong around it.
    #[test]
    fn a_failing_seed_shrinks_to_what_matters() {
        let fails = |seed: &u64| {
            !World::new(Plan::from_seed(*seed), Some(Planted::LosesRecord)).run().violations.is_empty()
        };
        // Among small plans: each step of shrinking runs the world again.
        let mut seeds: Vec<u64> = (0..400).collect();
        seeds.sort_by_key(|seed| Plan::from_seed(*seed).calls.len());
        let seed = seeds.into_iter().filter(|seed| Plan::from_seed(*seed).calls.len() > 1).find(fails);
        let plan = Plan::from_seed(seed.expect("some seed shows it"));
        let shrunk = shrink(&plan, Some(Planted::LosesRecord)).expect("it fails");
        assert_eq!(shrunk.report.violations[0].invariant, "record");
        assert_eq!(shrunk.plan.calls.len(), 1, "{:?}", shrunk.plan);
        assert!(shrunk.plan.calls[0].steps.len() <= 1 && shrunk.plan.operator.is_empty());
        assert!(shrunk.plan.carriers.iter().all(|carrier| carrier.rtp.is_clean()));
        assert!(shrunk.runs <= RUNS_MAX);
        assert!(shrink(&plan, None).is_none(), "a sound plan has nothing to shrink");
    }
}
