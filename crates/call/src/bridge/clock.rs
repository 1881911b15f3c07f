//! The egress clock: absolute deadlines one packet time apart, and the trim that keeps a real-time paced agent's
//! clock and ours from drifting apart.
//!
//! The clock is exact as long as the agent's audio lies comfortably ahead of it, which is always so for agents that
//! burst, and for paced ones whose clock is ours. When a paced agent's audio comes closer and closer to its deadline
//! (its clock is slower), or ever earlier (faster), the packet time is trimmed by at most 0.05 %, which no receiver
//! can tell from an ordinary crystal: no gap, no repeated sample, no growing delay. It reads no audio.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Ticks that are made up for at once when the driver comes late; what is missed beyond is skipped. 100 ms: what a
/// receiver's jitter buffer still takes.
const CATCH_UP_TICKS: u32 = 5;

/// Ahead of its deadline by less than this, audio is about to be late.
const SLACK_MIN: Duration = Duration::from_millis(4);

/// Ahead of its deadline by more than this beyond the margin it was given at its start, all the time, audio of a
/// paced agent is only delayed. More than a packet, for that much is a matter of phase.
const SLACK_SPARE: Duration = Duration::from_millis(25);

/// Trim for each millisecond beyond those, and at most, in millionths.
const TRIM_PER_MS: i64 = 100;
const TRIM_MAX: i64 = 500;

/// Ticks over which the least slack is taken before the trim is set anew: two seconds.
const WINDOW_TICKS: u32 = 100;

/// Agents with more audio queued than this are not paced by real time; their clock does not matter.
const PACED_QUEUE_MS: u64 = 300;

/// Pushes remembered; paced agents have few outstanding.
const PUSHES: usize = 32;

/// When the next packet leaves.
#[derive(Debug)]
pub(super) struct EgressClock {
    next: Instant,
    period: Duration,
    trim: i64,
}

impl EgressClock {
    /// A clock whose first tick is at `start`.
    pub(super) const fn new(start: Instant, period: Duration) -> Self {
        Self { next: start, period, trim: 0 }
    }

    pub(super) const fn next(&self) -> Instant {
        self.next
    }

    pub(super) const fn set_period(&mut self, period: Duration) {
        self.period = period;
    }

    pub(super) const fn set_trim(&mut self, trim: i64) {
        self.trim = trim;
    }

    /// The deadline of a tick that is due, and moves on to the next one.
    pub(super) fn tick(&mut self, now: Instant) -> Option<Instant> {
        if self.next > now {
            return None;
        }
        let due = self.next;
        let nominal = i64::try_from(self.period.as_nanos()).expect("a packet time fits");
        let trimmed = nominal + nominal * self.trim / 1_000_000;
        self.next = due + Duration::from_nanos(trimmed.unsigned_abs());
        Some(due)
    }

    /// Skips ticks that are too late to be made up for; returns how many.
    pub(super) fn skip_missed(&mut self, now: Instant) -> u32 {
        let late = now.saturating_duration_since(self.next);
        if late < self.period * CATCH_UP_TICKS {
            return 0;
        }
        let missed = u32::try_from(late.as_nanos() / self.period.as_nanos()).unwrap_or(u32::MAX);
        let skipped = missed.saturating_sub(CATCH_UP_TICKS - 1);
        self.next += self.period * skipped;
        skipped
    }
}

/// How far ahead of its deadline a paced agent's audio comes.
#[derive(Debug, Default)]
pub(super) struct Pacing {
    pushes: VecDeque<Push>,
    least: Option<Duration>,
    ticks: u32,
}

/// Audio of one message that has not all been played, in ticks of 8 kHz since the stream's start.
#[derive(Debug, Clone, Copy)]
struct Push {
    start: u64,
    end: u64,
    arrived: Instant,
}

/// What a tick told of the agent's pace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// How long its audio lay ready, beyond what was queued before it in the same message; nothing for bursts.
    pub(super) slack: Option<Duration>,
    /// The trim to set, when it is to be set anew.
    pub(super) trim: Option<i64>,
}

impl Pacing {
    /// Audio from `start` to `end` was queued.
    pub(super) fn pushed(&mut self, arrived: Instant, start: u64, end: u64) {
        if self.pushes.len() == PUSHES {
            self.reset();
        }
        if self.pushes.capacity() == 0 {
            self.pushes.reserve_exact(PUSHES);
        }
        self.pushes.push_back(Push { start, end, arrived });
    }

    /// A packet due at `due` has played `ticks` up to `position` and left `queued_ms`. The speech was held back by
    /// `margin` at its start.
    pub(super) fn played(
        &mut self,
        due: Instant,
        position: u64,
        ticks: u64,
        queued_ms: u64,
        margin: Duration,
    ) -> Pace {
        while self.pushes.front().is_some_and(|push| push.end < position) {
            self.pushes.pop_front();
        }
        if queued_ms > PACED_QUEUE_MS {
            self.reset();
            return Pace { slack: None, trim: Some(0) };
        }
        let Some(Push { start, end, arrived }) = self.pushes.front().copied() else {
            return Pace { slack: None, trim: None };
        };
        if end == position {
            self.pushes.pop_front();
        }
        let behind = position.saturating_sub(ticks).saturating_sub(start);
        let slack =
            due.saturating_duration_since(arrived).saturating_sub(Duration::from_micros(behind * 125));
        self.least = Some(self.least.map_or(slack, |least| least.min(slack)));
        self.ticks += 1;
        let trim = (self.ticks == WINDOW_TICKS).then(|| {
            self.ticks = 0;
            trim_for(self.least.take().unwrap_or_default(), margin)
        });
        Pace { slack: Some(slack), trim }
    }

    /// The queue ran dry or was flushed: what was learned holds no longer.
    pub(super) fn reset(&mut self) {
        self.pushes.clear();
        self.least = None;
        self.ticks = 0;
    }
}

/// Longer packets when audio is about to be late, shorter ones when it only waits.
fn trim_for(least: Duration, margin: Duration) -> i64 {
    let micros = |duration: Duration| i64::try_from(duration.as_micros()).unwrap_or(i64::MAX / TRIM_PER_MS);
    let short = micros(SLACK_MIN.saturating_sub(least));
    let long = micros(least.saturating_sub(margin + SLACK_SPARE));
    ((short - long) * TRIM_PER_MS / 1000).clamp(-TRIM_MAX, TRIM_MAX)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
mod tests {
    use super::*;

    const PERIOD: Duration = Duration::from_millis(20);

    #[test]
    fn deadlines_are_absolute_however_late_the_driver_is() {
        let start = Instant::now();
        let mut clock = EgressClock::new(start, PERIOD);
        for tick in 0..100_u32 {
            let late = Duration::from_micros(u64::from(tick % 7) * 900);
            assert_eq!(clock.tick(start + PERIOD * tick + late), Some(start + PERIOD * tick));
            assert_eq!(clock.tick(start + PERIOD * tick + late), None);
        }
    }

    #[test]
    fn at_most_the_bound_is_made_up_for_and_the_rest_is_skipped() {
        let start = Instant::now();
        let mut clock = EgressClock::new(start, PERIOD);
        assert_eq!(clock.skip_missed(start + PERIOD * 4), 0);
        let now = start + PERIOD * 50;
        assert_eq!(clock.skip_missed(now), 46);
        let mut sent = 0;
        while clock.tick(now).is_some() {
            sent += 1;
        }
        assert_eq!(sent, CATCH_UP_TICKS);
        assert_eq!(clock.next(), start + PERIOD * 51);
    }

    #[test]
    fn slack_is_counted_from_the_message_whatever_its_length() {
        let start = Instant::now();
        let mut pacing = Pacing::default();
        pacing.pushed(start, 0, 480);
        pacing.pushed(start + PERIOD * 3, 480, 960);
        for tick in 0..6 {
            let due = start + PERIOD * tick + Duration::from_millis(7);
            let pace = pacing.played(due, u64::from(tick + 1) * 160, 160, 0, PERIOD);
            assert_eq!(pace.slack, Some(Duration::from_millis(7)), "tick {tick}");
        }
        let pace = pacing.played(start, 1120, 160, 0, PERIOD);
        assert_eq!(pace, Pace { slack: None, trim: None });
    }

    #[test]
    fn trim_is_nothing_in_the_comfortable_band_and_bounded_outside() {
        for ms in [4, 10, 20, 45] {
            assert_eq!(trim_for(Duration::from_millis(ms), PERIOD), 0);
        }
        assert_eq!(trim_for(Duration::from_millis(2), PERIOD), 200);
        assert_eq!(trim_for(Duration::from_millis(47), PERIOD), -200);
        assert_eq!(trim_for(Duration::ZERO, PERIOD), 400);
        assert_eq!(trim_for(Duration::from_secs(9), PERIOD), -TRIM_MAX);
    }
}
