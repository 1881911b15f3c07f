//! The exact times at which a message may be sent again.
//!
//! RFC 3261 17.1.1.2 (Timer A), 17.1.2.2 (Timer E), 17.2.1 (Timer G), 13.3.1.4 (2xx): T1, doubling up to T2.

use std::time::{Duration, Instant};

/// RFC 3261 17.1.1.1.
pub const T1: Duration = Duration::from_millis(500);
/// RFC 3261 17.1.2.2.
pub const T2: Duration = Duration::from_secs(4);
/// 64*T1.
pub const GIVE_UP: Duration = Duration::from_secs(32);

/// When the next repeat of a message is due.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// When it was first sent.
    pub first_at: Instant,
    next_at: Instant,
    interval: Duration,
    /// What the interval doubles up to.
    most: Duration,
    /// When repeats stop of themselves.
    pub until: Instant,
}

impl Schedule {
    /// A message first sent at `now`.
    pub fn new(now: Instant) -> Self {
        Self { first_at: now, next_at: now + T1, interval: T1, most: T2, until: now + GIVE_UP }
    }

    /// An INVITE first sent at `now`: its interval doubles without end (RFC 3261 17.1.1.2, Timer A).
    pub fn of_invite(now: Instant) -> Self {
        Self { most: GIVE_UP, ..Self::new(now) }
    }

    /// The message was sent again; whether this is when it was due.
    pub fn repeated(&mut self, now: Instant) -> bool {
        let was_due = now == self.next_at && now < self.until;
        if was_due {
            self.interval = (self.interval * 2).min(self.most);
            self.next_at += self.interval;
        }
        was_due
    }

    /// A provisional response makes further repeats come every T2 (RFC 3261 17.1.2.2).
    pub fn slow_down(&mut self) {
        self.interval = T2;
    }

    /// A repeat that was due before `now` and did not come.
    pub fn overdue(&self, now: Instant) -> Option<Duration> {
        let is_overdue = self.next_at < now.min(self.until);
        is_overdue.then(|| self.next_at.saturating_duration_since(self.first_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_come_at_t1_doubling_to_t2_and_stop_after_64_t1() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut count = 0;
        for at in [500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500_u64] {
            assert!(schedule.overdue(start + Duration::from_millis(at)).is_none());
            assert!(schedule.repeated(start + Duration::from_millis(at)), "{at} ms");
            assert!(!schedule.repeated(start + Duration::from_millis(at + 20)));
            count += 1;
        }
        assert_eq!(count, 10);
        assert!(schedule.overdue(start + Duration::from_secs(60)).is_none());
    }

    #[test]
    fn a_missing_repeat_is_seen() {
        let start = Instant::now();
        let schedule = Schedule::new(start);
        assert_eq!(schedule.overdue(start + Duration::from_millis(501)), Some(T1));
    }
}
