//! Waiting for a condition of another process: asked often, given up after a bound, with words that tell what was missing.
//! What can be awaited in virtual time, or is told by an event, is not for here.

use std::time::{Duration, Instant};

/// How long between two questions.
const PAUSE: Duration = Duration::from_millis(20);

/// Asks until there is an answer, and gives it.
///
/// # Panics
/// When there is none `within` this time; `missing` then says what was there instead.
#[track_caller]
pub fn until<T>(within: Duration, missing: impl Fn() -> String, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "not so within {within:?}: {}", missing());
        std::thread::sleep(PAUSE);
    }
}
