//! Counts the instructions of each small piece of work in `tandem_benches::cases` and compares them with the
//! committed baseline. Unlike time, they are the same on a busy machine as on a quiet one.
//!
//!     cargo run --release -p tandem-benches --bin instructions             compares; fails on a case that grew
//!     cargo run --release -p tandem-benches --bin instructions -- accept   writes the baseline anew
//!
//! Each case is run under callgrind (package valgrind) twice, for few and for many repetitions, and the
//! difference divided: what it takes to make it ready does not count. Another compiler or C library gives other
//! numbers: accept a baseline before a change, compare after it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use tandem_benches::cases;

/// Repetitions of the two runs. Hash tables grow in steps and transactions end by the clock: enough that such
/// things even out.
const FEW: u64 = 500;
const MANY: u64 = 1_500;
/// What a case may grow by, in per cent, before it counts as a regression.
const TOLERANCE: f64 = 3.0;
/// And in instructions, for the smallest.
const TOLERANCE_COUNT: u64 = 10;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["repeat", name, count] => repeat(name, count),
        ["accept"] => count_all().and_then(|counts| write_baseline(&counts)),
        [] => count_all().and_then(|counts| compare(&counts)),
        _ => Err("usage: instructions [accept]".to_owned()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("instructions: {message}");
            ExitCode::FAILURE
        }
    }
}

/// What is run under callgrind.
fn repeat(name: &str, count: &str) -> Result<(), String> {
    let count: u64 = count.parse().map_err(|_| format!("{count}: a number is needed"))?;
    let mut step = cases::prepare(name);
    (0..count).for_each(|_| step());
    Ok(())
}

fn count_all() -> Result<BTreeMap<String, u64>, String> {
    let mut counts = BTreeMap::new();
    for name in cases::NAMES {
        let (few, many) = (collected(name, FEW)?, collected(name, MANY)?);
        let each = many.saturating_sub(few) / (MANY - FEW);
        println!("{each:>8}  {name}");
        counts.insert(name.to_owned(), each);
    }
    Ok(counts)
}

/// The instructions of a whole run, which callgrind prints at its end.
fn collected(name: &str, count: u64) -> Result<u64, String> {
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(std::env::current_exe().map_err(|error| error.to_string())?)
        .args(["repeat", name, &count.to_string()])
        .output()
        .map_err(|error| format!("valgrind does not run: {error}"))?;
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().find(|line| line.contains("Collected :"));
    let number = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    number
        .filter(|_| output.status.success())
        .ok_or_else(|| format!("{name}: no count from callgrind:\n{text}"))
}

fn baseline() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("instructions.txt")
}

fn write_baseline(counts: &BTreeMap<String, u64>) -> Result<(), String> {
    let lines: String = counts.iter().map(|(name, count)| format!("{count:>8}  {name}\n")).collect();
    std::fs::write(baseline(), lines).map_err(|error| format!("{}: {error}", baseline().display()))
}

fn compare(counts: &BTreeMap<String, u64>) -> Result<(), String> {
    let text = std::fs::read_to_string(baseline()).map_err(|error| format!("the baseline: {error}"))?;
    let known: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| line.trim().split_once("  "))
        .filter_map(|(count, name)| Some((name, count.parse().ok()?)))
        .collect();
    let mut grown = Vec::new();
    println!("\n    was       is");
    for (name, &count) in counts {
        let Some(&was) = known.get(name.as_str()) else {
            println!("      -  {count:>7}           {name}");
            continue;
        };
        let change = (count as f64 / was.max(1) as f64 - 1.0) * 100.0;
        println!("{was:>7}  {count:>7}  {change:>+6.1} %  {name}");
        if change > TOLERANCE && count > was + TOLERANCE_COUNT {
            grown.push(name.as_str());
        }
    }
    if grown.is_empty() {
        Ok(())
    } else {
        Err(format!("grown by more than {TOLERANCE} %: {}", grown.join(", ")))
    }
}
