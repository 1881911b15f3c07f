//! Turns of calls that wait for room on their trunk: each is tried again at a time of its own, so that a long queue costs
//! the database some writes a second and no more, and calls that come later queue behind those that wait.
//!
//! In memory alone: the calls themselves wait in the store, and a node that starts anew tries them once each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The soonest that a call is tried again, in milliseconds.
const SOONEST: i64 = 500;

/// Between the turns of one trunk's calls, in milliseconds: 20 tries a second.
const APART: i64 = 50;

/// The latest turn given, from now, in milliseconds: however long the queue, each call asks once in so long.
const LATEST: i64 = 60_000;

/// Trunks remembered.
const TRUNKS: usize = 10_000;

/// The next free turn of each trunk that calls wait for, milliseconds since 1970.
#[derive(Debug, Default)]
pub(super) struct Slots {
    next: Mutex<BTreeMap<String, i64>>,
}

impl Slots {
    /// The turn of a call that found no room.
    pub(super) fn next_turn(&self, trunk: &str, now: i64, retry_after: Option<Duration>) -> i64 {
        let wanted = retry_after.and_then(|wait| i64::try_from(wait.as_millis()).ok()).unwrap_or(SOONEST);
        let soonest = now.saturating_add(wanted.clamp(SOONEST, LATEST));
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        if next.len() >= TRUNKS {
            next.retain(|_, turn| *turn > now);
        }
        let last = next.get(trunk).copied().unwrap_or(0);
        let turn = soonest.max(last.saturating_add(APART)).min(now.saturating_add(LATEST).max(soonest));
        if next.len() < TRUNKS || next.contains_key(trunk) {
            next.insert(trunk.to_owned(), turn);
        }
        turn
    }

    /// The turn of a call that comes while others wait for its trunk; `None` when nobody does.
    pub(super) fn turn_behind_others(&self, trunk: &str, now: i64) -> Option<i64> {
        let last = self.next.lock().unwrap_or_else(PoisonError::into_inner).get(trunk).copied()?;
        (last > now).then(|| self.next_turn(trunk, now, None))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_find_no_room_get_turns_one_after_the_other() {
        let slots = Slots::default();
        let turns: Vec<i64> = (0..4).map(|_| slots.next_turn("t", 1_000, None)).collect();
        assert_eq!(turns, [1_500, 1_550, 1_600, 1_650]);
        assert_eq!(slots.next_turn("t", 1_000, Some(Duration::from_secs(5))), 6_000);
        assert_eq!(slots.next_turn("other", 1_000, None), 1_500, "trunks do not wait for each other");
    }

    #[test]
    fn a_call_that_comes_later_queues_behind_those_that_wait_and_only_then() {
        let slots = Slots::default();
        assert_eq!(slots.turn_behind_others("t", 1_000), None);
        slots.next_turn("t", 1_000, None);
        assert_eq!(slots.turn_behind_others("t", 1_200), Some(1_700));
        assert_eq!(slots.turn_behind_others("t", 1_700), None, "nobody waits any more");
    }

    #[test]
    fn however_long_the_queue_each_call_asks_once_a_minute() {
        let slots = Slots::default();
        let last = (0..10_000).map(|_| slots.next_turn("t", 0, None)).last();
        assert_eq!(last, Some(LATEST));
    }
}
