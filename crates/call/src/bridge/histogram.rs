//! A histogram of delays that costs no allocation and a handful of instructions per sample.
//!
//! Log-linear: four buckets an octave from 16 µs up, so a percentile is read within 19 % over the whole range.

use std::time::Duration;

/// Octaves of four buckets each; the last bucket holds all beyond `16 µs << 17`, about two seconds.
const OCTAVES: usize = 17;
const SUB: usize = 4;
const FLOOR_US: u64 = 16;
const BUCKETS: usize = OCTAVES * SUB + 1;

/// Delays of one kind, counted by length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DelayHistogram {
    buckets: [u32; BUCKETS],
    count: u64,
    sum_us: u64,
    max_us: u64,
}

impl Default for DelayHistogram {
    fn default() -> Self {
        Self { buckets: [0; BUCKETS], count: 0, sum_us: 0, max_us: 0 }
    }
}

impl DelayHistogram {
    /// Counts one delay.
    pub fn record(&mut self, delay: Duration) {
        let us = u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let slot = &mut self.buckets[bucket_of(us)];
        *slot = slot.saturating_add(1);
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.buckets.iter_mut().zip(other.buckets) {
            *mine = mine.saturating_add(theirs);
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// How many delays were counted.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// The longest delay counted.
    #[must_use]
    pub const fn max(&self) -> Duration {
        Duration::from_micros(self.max_us)
    }

    /// The mean of all delays counted; zero when there are none.
    #[must_use]
    pub const fn mean(&self) -> Duration {
        match self.sum_us.checked_div(self.count) {
            Some(us) => Duration::from_micros(us),
            None => Duration::ZERO,
        }
    }

    /// The delay that `percent` of all counted ones do not exceed (upper edge of its bucket, never above
    /// [`Self::max`]); zero when there are none.
    #[must_use]
    pub fn percentile(&self, percent: f64) -> Duration {
        let wanted = (percent / 100.0 * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (upper, count) in self.buckets() {
            seen += u64::from(count);
            if seen >= wanted {
                return upper.min(self.max());
            }
        }
        self.max()
    }

    /// Each bucket's upper edge and how many delays fell into it, in rising order.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, u32)> + '_ {
        self.buckets
            .iter()
            .enumerate()
            .map(|(index, count)| (Duration::from_micros(upper_edge(index)), *count))
    }
}

fn bucket_of(us: u64) -> usize {
    if us < FLOOR_US {
        return 0;
    }
    let octave = (us / FLOOR_US).ilog2() as usize;
    if octave >= OCTAVES {
        return BUCKETS - 1;
    }
    let base = FLOOR_US << octave;
    let sub = ((us - base) * SUB as u64 / base) as usize;
    octave * SUB + sub + 1
}

fn upper_edge(index: usize) -> u64 {
    match index.checked_sub(1) {
        None => FLOOR_US,
        Some(rest) => {
            let base = FLOOR_US << (rest / SUB);
            base + base * (rest % SUB + 1) as u64 / SUB as u64
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_delay_lies_below_its_buckets_upper_edge_and_above_the_one_before() {
        for us in (0..5_000).chain([20_000, 65_535, 1_000_000, 1_900_000]) {
            let index = bucket_of(us);
            assert!(us < upper_edge(index), "{us} in {index}");
            if index > 0 {
                assert!(us >= upper_edge(index - 1), "{us} in {index}");
            }
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn percentiles_are_within_a_bucket_of_the_truth() {
        let mut histogram = DelayHistogram::default();
        assert_eq!(histogram.percentile(99.0), Duration::ZERO);
        for us in 1..=1000 {
            histogram.record(Duration::from_micros(us));
        }
        assert_eq!(histogram.count(), 1000);
        assert_eq!(histogram.max(), Duration::from_micros(1000));
        let p50 = histogram.percentile(50.0).as_micros();
        assert!((500..=600).contains(&p50), "{p50}");
        assert_eq!(histogram.percentile(100.0), Duration::from_micros(1000));
    }
}
