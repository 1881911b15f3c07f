//! What the API asks of an outbound call, kept with its execution until it is over, and what became of it so far.
//!
//! Plain data. [`super::queue`] keeps it; `crate::dialling` decides by it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tandem_call::{CallRecord, CallStatus, HangupReason};

/// Most entries kept of what happened to one order; of more the last stay.
const MOST_EVENTS: usize = 64;

/// An outbound call as it was asked for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallOrder {
    /// Whom to call, as the client wrote it.
    pub recipient: String,
    /// The number to call from, as the client wrote it.
    pub from: Option<String>,
    /// The client's own facts of the recipient, for the agent.
    pub user_data: Map<String, Value>,
    /// What the client wants of the agent for this call.
    pub agent_data: Option<Map<String, Value>>,
    /// Headers for its INVITE.
    pub sip_headers: BTreeMap<String, String>,
    /// How long it may ring, where it is not the node's default.
    pub ringing_seconds: Option<u32>,
    /// When to try again.
    pub retry: RetryRules,
    /// Call outside the agent's hours too.
    pub bypass_call_guardrails: bool,
    /// When it was asked for, if for later, milliseconds since 1970.
    pub scheduled_at: Option<i64>,
    /// When it is to be placed instead.
    pub rescheduled_at: Option<i64>,
    /// When it was first placed.
    pub initiated_at: Option<i64>,
    /// Since when it has waited for room on its trunk, if it has found none.
    pub waiting_since: Option<i64>,
    /// Attempts that are over and were followed by another.
    pub attempts: Vec<Attempt>,
    /// What happened to it, in order.
    pub events: Vec<OrderEvent>,
}

/// When a call that failed is tried again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RetryRules {
    /// At all.
    pub enabled: bool,
    /// How often at most.
    pub max_retries: u32,
    /// After which ends.
    pub retry_on_statuses: Vec<CallStatus>,
    /// After an answering machine too.
    pub retry_on_voicemail: bool,
    /// How long after each attempt; the last serves for all that follow.
    pub retry_intervals_minutes: Vec<u32>,
}

impl Default for RetryRules {
    fn default() -> Self {
        Self {
            enabled: false,
            max_retries: 3,
            retry_on_statuses: vec![CallStatus::NoAnswer, CallStatus::Busy, CallStatus::Failed],
            retry_on_voicemail: false,
            retry_intervals_minutes: vec![30, 60, 120],
        }
    }
}

/// One attempt that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When it began, milliseconds since 1970.
    pub started_at: i64,
    /// When it was over.
    pub ended_at: i64,
    /// How it ended.
    pub status: CallStatus,
    /// Why.
    pub hangup_reason: Option<HangupReason>,
    /// In words.
    pub error_message: Option<String>,
}

/// Something that happened to an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderEvent {
    /// When, milliseconds since 1970.
    pub at: i64,
    /// What, in words meant for the tenant.
    pub text: String,
}

impl CallOrder {
    /// Remembers what happened.
    pub fn note(&mut self, at: i64, text: impl Into<String>) {
        if self.events.len() >= MOST_EVENTS {
            self.events.remove(0);
        }
        self.events.push(OrderEvent { at, text: text.into() });
    }

    /// When the call that just ended so is to be tried again; `None` when it is over for good.
    pub fn retry_at(&self, ended: &CallRecord, now: i64) -> Option<i64> {
        let rules = &self.retry;
        let done = u32::try_from(self.attempts.len()).unwrap_or(u32::MAX);
        if !rules.enabled || done >= rules.max_retries || !rules.retry_on_statuses.contains(&ended.status) {
            return None;
        }
        let intervals = &rules.retry_intervals_minutes;
        let minutes = intervals.get(self.attempts.len()).or(intervals.last())?;
        Some(now + i64::from(*minutes) * 60_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_bounded_and_the_last_ones_stay() {
        let mut order = CallOrder::default();
        for at in 0..100 {
            order.note(at, "x");
        }
        assert_eq!((order.events.len(), order.events[0].at), (MOST_EVENTS, 36));
    }
}
