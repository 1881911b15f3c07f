//! What media threads count. Each thread alone writes its own; anybody may read.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that one thread raises and others read.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Raises the number by `more`. Only the owning thread calls this, so no locked instruction is needed.
    pub fn add(&self, more: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(more), Ordering::Relaxed);
    }

    /// Sets the number.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// Raises the number to `value` if it is lower.
    pub fn raise_to(&self, value: u64) {
        if value > self.read() {
            self.set(value);
        }
    }

    /// The number.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters of one media thread.
#[derive(Debug, Default)]
pub struct MediaCounters {
    /// Calls on the thread now.
    pub calls: Count,
    /// Calls opened.
    pub opened: Count,
    /// Calls that could not be opened.
    pub failed: Count,
    /// RTP packets received.
    pub rtp_received: Count,
    /// RTP packets sent.
    pub rtp_sent: Count,
    /// RTCP packets received.
    pub rtcp_received: Count,
    /// RTCP packets sent.
    pub rtcp_sent: Count,
    /// Datagrams larger than any media packet, dropped.
    pub oversized: Count,
    /// Datagrams that could not be sent.
    pub send_errors: Count,
    /// Messages received from agents.
    pub agent_received: Count,
    /// Messages sent to agents.
    pub agent_sent: Count,
    /// Caller audio messages dropped because the agent did not read.
    pub agent_dropped: Count,
    /// Blocks of recordings lost because their writer did not keep up.
    pub recording_dropped: Count,
    /// Agent connections given up because they broke or did not read.
    pub agent_broken: Count,
    /// Timeouts served.
    pub ticks: Count,
    /// Timeouts served more than five milliseconds late.
    pub late_ticks: Count,
    /// The greatest lateness of a timeout, in microseconds.
    pub latest_us: Count,
    /// Times the thread woke.
    pub wakeups: Count,
    /// Times a call used up its share of a wakeup and was put behind the others.
    pub budget_exceeded: Count,
    /// Events for signalling that were dropped because it did not keep up.
    pub events_dropped: Count,
    /// Calls that ended by a fault of our own.
    pub panics: Count,
}
