//! The clocks of the process, read in this one place.
//!
//! Cores are handed the time; nothing else in the shell reads a clock of its own. The monotonic clock
//! drives behaviour, the wall clock only dates records.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// The monotonic clock.
#[must_use]
pub fn now() -> Instant {
    Instant::now()
}

/// The wall clock, in milliseconds since 1970; zero if the clock of the machine stands before that.
#[must_use]
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
