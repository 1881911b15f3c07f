//! Simulates calls by the hundred thousand: `cargo run -p tandem-tests --release --bin campaign -- --calls 100000`.
//!
//! `--seed N` is the first seed (0 by default), `--threads N` how many run at once,
//! `--plan` prints what the first seed means, `--marks` how often each race of the catalogue came about. Prints calls, rate, violations and
//! one hash over all runs, the same for the same seeds however many threads there are. The exit code is 1 if any
//! invariant was violated; each failing seed is printed with its ladder.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use tandem_tests::marks::Mark;
use tandem_tests::shrink::shrink;
use tandem_tests::swarm::Plan;
use tandem_tests::world::{Report, World};

/// Failing seeds printed whole; of the others, the first violation.
const PRINTED_MAX: u64 = 3;

/// From so many calls on a campaign fails if something of the catalogue never came about.
const FULL_CAMPAIGN: u64 = 50_000;

#[derive(Default)]
struct Totals {
    runs: u64,
    calls: u64,
    answered: u64,
    messages: u64,
    packets: u64,
    virtual_s: f64,
    violations: u64,
    hash: u64,
    failing: Vec<u64>,
    marks: BTreeMap<Mark, u64>,
    invariants: BTreeMap<&'static str, u64>,
}

impl Totals {
    fn add(&mut self, report: &Report) {
        self.runs += 1;
        self.calls += report.calls.len() as u64;
        self.answered += report.answered as u64;
        self.messages += report.messages;
        self.packets += report.packets;
        self.virtual_s += report.lasted.as_secs_f64();
        // A sum does not depend on the order in which threads finish.
        self.hash = self.hash.wrapping_add(report.hash.wrapping_mul(report.seed | 1));
        for (mark, count) in &report.marks {
            *self.marks.entry(*mark).or_default() += u64::from(*count);
        }
        if report.violations.is_empty() {
            return;
        }
        self.violations += report.violations.len() as u64;
        for violation in &report.violations {
            *self.invariants.entry(violation.invariant).or_default() += 1;
        }
        self.failing.push(report.seed);
        if self.failing.len() as u64 <= PRINTED_MAX {
            println!("{report}");
        } else if let Some(first) = report.violations.first() {
            println!("seed {}: {} {}", report.seed, first.invariant, first.detail);
        }
    }
}

fn option(name: &str, default: u64) -> u64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    match arguments.nth(1) {
        None => default,
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{name} wants a number, not {text:?}")),
    }
}

/// How many seeds from `first` on make up so many calls.
fn seeds_for(calls: u64, first: u64) -> u64 {
    let (mut planned, mut seeds) = (0, 0);
    while planned < calls {
        planned += Plan::from_seed(first + seeds).calls.len() as u64;
        seeds += 1;
    }
    seeds
}

fn main() -> ExitCode {
    let calls = option("--calls", 100_000);
    let first = option("--seed", 0);
    let threads =
        option("--threads", std::thread::available_parallelism().map_or(1, |count| count.get() as u64));
    if std::env::args().any(|argument| argument == "--plan") {
        println!("{:#?}", Plan::from_seed(first));
    }
    let seeds = seeds_for(calls, first);
    let totals = Mutex::new(Totals::default());
    let next = AtomicU64::new(first);
    let started = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + seeds {
                        break;
                    }
                    let report = World::new(Plan::from_seed(seed), None).run();
                    totals.lock().unwrap_or_else(std::sync::PoisonError::into_inner).add(&report);
                }
            });
        }
    });
    let totals = totals.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let elapsed = started.elapsed().as_secs_f64();
    println!("runs        {}  (seeds {first} to {})", totals.runs, first + totals.runs - 1);
    println!("calls       {}  ({} answered)", totals.calls, totals.answered);
    println!("messages    {} SIP, {} RTP", totals.messages, totals.packets);
    println!("time        {elapsed:.1} s for {:.0} s of virtual time", totals.virtual_s);
    println!("rate        {:.0} calls/s", totals.calls as f64 / elapsed);
    println!("violations  {}  {:?}", totals.violations, totals.invariants);
    println!("hash        {:016x}", totals.hash);
    let seen = |mark: &Mark| totals.marks.get(mark).copied().unwrap_or(0);
    let missing: Vec<&str> =
        Mark::CATALOGUE.iter().filter(|(mark, _)| seen(mark) == 0).map(|(_, words)| *words).collect();
    println!("marks       {} of {} came about", Mark::CATALOGUE.len() - missing.len(), Mark::CATALOGUE.len());
    if std::env::args().any(|argument| argument == "--marks") {
        for (mark, words) in Mark::CATALOGUE {
            println!("  {:>9}  {words}", seen(&mark));
        }
    }
    if !totals.failing.is_empty() {
        println!("failing     {:?}", &totals.failing[..totals.failing.len().min(40)]);
    }
    if let Some(least) = totals.failing.iter().min().and_then(|seed| shrink(&Plan::from_seed(*seed), None)) {
        println!("the least that shows the first of them, after {} runs:\n{}", least.runs, least.report);
        println!("{:#?}", least.plan);
        return ExitCode::FAILURE;
    }
    // A few calls need not meet everything; the 100,000 of a campaign do.
    if !missing.is_empty() && totals.calls >= FULL_CAMPAIGN {
        println!("missing     {missing:?}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
