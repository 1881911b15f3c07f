//! What another process has used, from /proc.

use std::fs;
use std::time::Duration;

/// CPU time that all threads of the process have run, user and system together.
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn cpu_time(process_id: u32) -> Duration {
    let threads = fs::read_dir(format!("/proc/{process_id}/task")).expect("the process runs");
    let nanoseconds: u64 = threads
        .filter_map(|thread| fs::read_to_string(thread.ok()?.path().join("schedstat")).ok())
        .filter_map(|text| text.split(' ').next()?.parse::<u64>().ok())
        .sum();
    Duration::from_nanos(nanoseconds)
}

/// Resident memory in bytes.
///
/// # Panics
/// When the process is gone.
#[must_use]
pub fn resident_bytes(process_id: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process_id}/status")).expect("the process runs");
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).expect("a VmRSS line");
    let kibibytes: u64 = line.split_whitespace().nth(1).and_then(|word| word.parse().ok()).expect("a number");
    kibibytes * 1_024
}
