//! Delays in buckets of a twentieth of their size: small, exact enough for a percentile.

use std::time::Duration;

const BUCKETS: usize = 400;

/// A histogram of durations from a microsecond to minutes.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS], total: 0, max: Duration::ZERO }
    }
}

impl Histogram {
    /// Adds one duration.
    pub fn record(&mut self, duration: Duration) {
        let microseconds = duration.as_micros().max(1) as f64;
        let bucket = ((microseconds.ln() / 1.05_f64.ln()) as usize).min(BUCKETS - 1);
        self.counts[bucket] += 1;
        self.total += 1;
        self.max = self.max.max(duration);
    }

    /// Counts another's in.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(&other.counts).for_each(|(count, more)| *count += more);
        self.total += other.total;
        self.max = self.max.max(other.max);
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.total
    }

    /// The duration below which this share (0 to 1) of all lies, in milliseconds.
    #[must_use]
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let wanted = (self.total as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return 1.05_f64.powi(bucket as i32 + 1) / 1_000.0;
            }
        }
        self.max.as_secs_f64() * 1_000.0
    }

    /// How many lasted longer than this.
    #[must_use]
    pub fn count_over(&self, limit: Duration) -> u64 {
        let first = (limit.as_micros().max(1) as f64).ln() / 1.05_f64.ln();
        self.counts.iter().skip(first as usize + 1).sum()
    }
}
