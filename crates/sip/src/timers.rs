//! One ordered set of deadlines for everything the endpoint waits for.
//!
//! A deadline belongs to a key and a reason; arming again moves it, disarming removes it, and
//! expiry is in instant order, then key order, so that equal instants replay equally. This file
//! knows no clock and no protocol: durations come from `transaction::timing` and the usages.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

/// Deadlines of `K`, each with its reason `R`. At most one deadline stands for a key and reason,
/// so the set is bounded by the number of keys, which its owner bounds.
#[derive(Debug)]
pub(crate) struct Timers<K, R> {
    queue: BTreeSet<(Instant, K, R)>,
    armed: BTreeMap<(K, R), Instant>,
}

impl<K: Ord + Copy, R: Ord + Copy> Timers<K, R> {
    pub(crate) fn new() -> Self {
        Self { queue: BTreeSet::new(), armed: BTreeMap::new() }
    }

    /// Sets the deadline of `key` for `reason`, replacing an earlier one.
    pub(crate) fn arm(&mut self, key: K, reason: R, at: Instant) {
        if let Some(before) = self.armed.insert((key, reason), at) {
            self.queue.remove(&(before, key, reason));
        }
        self.queue.insert((at, key, reason));
    }

    /// Removes the deadline of `key` for `reason`, if there is one.
    pub(crate) fn disarm(&mut self, key: K, reason: R) {
        if let Some(at) = self.armed.remove(&(key, reason)) {
            self.queue.remove(&(at, key, reason));
        }
    }

    /// Takes the earliest deadline that is not after `now`.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(K, R)> {
        let &(at, key, reason) = self.queue.first()?;
        if at > now {
            return None;
        }
        self.queue.pop_first();
        self.armed.remove(&(key, reason));
        Some((key, reason))
    }

    /// The earliest deadline and what it is for.
    pub(crate) fn next(&self) -> Option<(Instant, R)> {
        self.queue.first().map(|&(at, _, reason)| (at, reason))
    }

    /// How many deadlines stand.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }
}

impl<K: Ord + Copy, R: Ord + Copy> Timers<K, R> {
    /// Removes every deadline of `key`; `reasons` names all that it can have.
    pub(crate) fn disarm_all(&mut self, key: K, reasons: impl IntoIterator<Item = R>) {
        for reason in reasons {
            self.disarm(key, reason);
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn arming_again_moves_the_deadline_and_leaves_no_trace_of_the_first() {
        let start = Instant::now();
        let mut timers = Timers::new();
        timers.arm(1u8, 'a', start + Duration::from_secs(1));
        timers.arm(1u8, 'a', start + Duration::from_secs(3));
        assert_eq!(timers.len(), 1);
        assert_eq!(timers.expire(start + Duration::from_secs(2)), None);
        assert_eq!(timers.expire(start + Duration::from_secs(3)), Some((1, 'a')));
        assert_eq!(timers.len(), 0);
        assert_eq!(timers.next(), None);
    }

    #[test]
    fn equal_instants_expire_in_key_order_whatever_order_they_were_armed_in() {
        let at = Instant::now();
        let mut timers = Timers::new();
        for key in [3u8, 1, 2] {
            timers.arm(key, 'x', at);
        }
        let order: Vec<u8> = std::iter::from_fn(|| timers.expire(at)).map(|(key, _)| key).collect();
        assert_eq!(order, [1, 2, 3]);
    }

    #[test]
    fn disarmed_deadlines_do_not_expire() {
        let at = Instant::now();
        let mut timers = Timers::new();
        timers.arm(1u8, 'a', at);
        timers.arm(1u8, 'b', at);
        timers.arm(2u8, 'a', at);
        timers.disarm_all(1, ['a', 'b']);
        assert_eq!(timers.expire(at), Some((2, 'a')));
        assert_eq!(timers.expire(at), None);
    }
}
