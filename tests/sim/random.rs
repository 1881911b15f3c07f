//! Seeds: those that failed ever, fixed ones, fresh ones for a bounded time; and that a run repeats itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use tandem_tests::marks::Mark;
use tandem_tests::shrink::shrink;
use tandem_tests::swarm::Plan;
use tandem_tests::world::{Report, World};

/// Seeds that failed once, committed.
const FAILED_ONCE: &str = include_str!("../seeds.txt");

/// Fixed seeds, the same in every run.
const FIXED: u64 = 200;

/// Fresh seeds run for so long.
const FRESH_FOR: Duration = Duration::from_secs(8);

fn seeds_that_failed() -> Vec<u64> {
    let lines = FAILED_ONCE.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_whitespace().next()?.parse().ok()).collect()
}

fn run(seed: u64) -> Report {
    World::new(Plan::from_seed(seed), None).run()
}

/// Panics with the least plan that shows what is wrong, if anything is.
fn assert_sound(report: &Report) {
    if report.violations.is_empty() {
        return;
    }
    println!("{report}");
    match shrink(&Plan::from_seed(report.seed), None) {
        Some(least) => panic!("{}\nthe least that shows it: {:#?}", least.report, least.plan),
        None => panic!("seed {} fails, and then does not", report.seed),
    }
}

/// The same seed twice is the same run, to the last byte and nanosecond.
#[test]
fn the_same_seed_gives_the_same_hash() {
    for seed in 0..12 {
        let (first, second) = (run(seed), run(seed));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_eq!(first.messages, second.messages);
    }
    assert_ne!(run(1).hash, run(2).hash);
}

/// Every seed that ever failed holds now.
#[test]
fn seeds_that_failed_once_hold() {
    for seed in seeds_that_failed() {
        assert_sound(&run(seed));
    }
}

/// The fixed seeds hold, and together they do what there is to do.
#[test]
fn fixed_seeds_hold() {
    let (mut calls, mut answered, mut messages, mut packets) = (0, 0, 0, 0);
    let (mut statuses, mut marks) = (BTreeMap::new(), BTreeMap::<Mark, u32>::new());
    for seed in 0..FIXED {
        let report = run(seed);
        assert_sound(&report);
        calls += report.calls.len();
        answered += report.answered;
        messages += report.messages;
        packets += report.packets;
        for (mark, count) in report.marks {
            *marks.entry(mark).or_insert(0) += count;
        }
        for (status, count) in report.statuses {
            *statuses.entry(status).or_insert(0) += count;
        }
    }
    println!(
        "{FIXED} seeds: {calls} calls, {answered} answered, {messages} SIP messages, {packets} RTP packets"
    );
    println!("final statuses to INVITE: {statuses:?}");
    for status in [200, 401, 403, 404, 487, 488] {
        assert!(statuses.contains_key(&status), "no fixed seed brings {status}");
    }
    for (mark, words) in Mark::CATALOGUE {
        println!("{:>6}  {words}", marks.get(&mark).copied().unwrap_or(0));
    }
    let missing: Vec<_> = Mark::CATALOGUE.iter().filter(|(mark, _)| !marks.contains_key(mark)).collect();
    assert!(missing.is_empty(), "no fixed seed brings {missing:?}");
}

/// Fresh seeds, another set each time, for a bounded time.
#[test]
fn fresh_seeds_hold() {
    let first =
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos() as u64;
    let until = Instant::now() + FRESH_FOR;
    let mut count = 0;
    while Instant::now() < until {
        assert_sound(&run(first.wrapping_add(count)));
        count += 1;
    }
    println!("{count} fresh seeds from {first}");
}

/// `SIM_SEED=… cargo test -p tandem-tests --test sim one_seed` repeats one run.
#[test]
fn one_seed() {
    let Some(seed) = std::env::var("SIM_SEED").ok().and_then(|text| text.parse().ok()) else { return };
    let report = run(seed);
    println!("{:?}\nhash {:016x}, left {}", Plan::from_seed(seed), report.hash, report.left);
    assert_sound(&report);
}
