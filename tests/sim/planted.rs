//! Planted bugs: each is found by its invariant within a stated number of seeds.

use std::collections::BTreeMap;

use tandem_tests::sabotage::Planted;
use tandem_tests::swarm::Plan;
use tandem_tests::world::World;

/// Seeds within which every planted bug must be found.
const SEEDS: u64 = 60;

/// Every planted bug is found by the invariant that is its own.
#[test]
fn every_planted_bug_is_found() {
    let mut found = BTreeMap::new();
    let mut missed = Vec::new();
    for (planted, invariant) in Planted::ALL {
        let seed = (0..SEEDS).find(|seed| {
            let report = World::new(Plan::from_seed(*seed), Some(planted)).run();
            report.violations.iter().any(|violation| violation.invariant == invariant)
        });
        match seed {
            Some(seed) => {
                println!("{planted:?}: {invariant} after {} seeds", seed + 1);
                found.insert(planted, seed);
            }
            None => missed.push(planted),
        }
    }
    let most = found.values().max().map_or(0, |seed| seed + 1);
    println!("{} of {} planted bugs found, each within {most} seeds", found.len(), Planted::ALL.len());
    assert!(missed.is_empty(), "not found within {SEEDS} seeds: {missed:?}");
}
