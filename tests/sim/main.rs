//! The simulation: the production engine and bridges, scripted peers, virtual time.
//!
//! One file per behaviour with its scripted runs; `random.rs` runs seeds; `planted.rs` shows that the checks bite.

mod admission;
mod agents;
mod changes;
mod digest;
mod dtmf;
mod ending;
mod network;
mod orders;
mod planted;
mod random;
mod reports;
mod sessions;
mod setup;
mod starting;
mod strangers;
mod streams;

use tandem_tests::agent::plan::Speech;
use tandem_tests::swarm::Plan;
use tandem_tests::world::{CallFacts, Report, World};

/// A quiet world with an echo agent that speaks chan_websocket.
fn quiet() -> Plan {
    Plan::quiet(Speech::AsteriskPlain)
}

/// Runs a plan and sees that every invariant held.
fn run(plan: Plan) -> Report {
    let report = World::new(plan, None).run();
    report.assert_sound();
    report
}

/// The final status of the request that came first, of those with this method.
fn status_of(call: &CallFacts, method: &str) -> Option<u16> {
    call.outcome.finals.iter().find(|(name, _)| name == method).map(|(_, status)| *status)
}

/// All final statuses to requests of this method.
fn statuses_of(call: &CallFacts, method: &str) -> Vec<u16> {
    call.outcome.finals.iter().filter(|(name, _)| name == method).map(|(_, status)| *status).collect()
}

/// The code of a call's last verdict.
fn verdict_of(call: &CallFacts) -> &'static str {
    call.verdicts.last().map_or("none", |verdict| verdict.code.as_str())
}
