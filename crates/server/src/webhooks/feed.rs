//! From the calls' records to the queue of webhooks: which change is to be told to whom.
//!
//! A change is told once: when a call's status differs from the one told last. Who is to be told is asked of the
//! store and remembered for a moment, so that a busy node does not ask at each ring.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use tandem_call::{CallId, CallRecord, CallStatus};

use crate::store::{NewDelivery, Receiver, Store, StoreError, place_of};

/// How long it is remembered who is to be told: so long after a webhook was made, its first call may be missed.
const REMEMBERED: Duration = Duration::from_secs(1);

/// Agents, and calls, remembered at once.
const MOST: usize = 65_536;

/// Deliveries that may wait per account.
pub const WAITING_PER_ACCOUNT: u32 = 10_000;

/// Turns records into deliveries.
#[derive(Debug)]
pub struct Feed {
    store: Store,
    told: HashMap<CallId, CallStatus>,
    receivers: HashMap<(String, String), (Instant, Vec<Receiver>)>,
    /// The place of the last one.
    last: i64,
}

impl Feed {
    /// A feed into this store's queue.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { store, told: HashMap::new(), receivers: HashMap::new(), last: 0 }
    }

    /// Takes records in the order in which they came to be, and keeps those that tell of a change.
    pub fn changes(&mut self, records: Vec<CallRecord>) -> Vec<CallRecord> {
        let mut changes = Vec::new();
        for record in records {
            let is_new = self.told.get(&record.id) != Some(&record.status);
            if record.status.is_final() {
                self.told.remove(&record.id);
            } else if is_new {
                if self.told.len() >= MOST {
                    // Whoever is told twice knows it by call and status.
                    self.told.clear();
                }
                self.told.insert(record.id, record.status);
            }
            if is_new {
                changes.push(record);
            }
        }
        changes
    }

    /// Queues what is to be told of these changes.
    ///
    /// # Errors
    /// When the database fails; the same changes may then be handed in again.
    pub async fn queue(&mut self, changes: &[CallRecord], now: Instant) -> Result<(), StoreError> {
        let mut deliveries = Vec::new();
        for record in changes {
            let event = record.status.as_str();
            for receiver in self.receivers_of(record, now).await? {
                if receiver.events.is_empty() || receiver.events.iter().any(|one| one == event) {
                    self.last = place_of(self.last);
                    deliveries.push(NewDelivery { receiver, place: self.last, record: record.clone() });
                }
            }
        }
        if deliveries.is_empty() {
            return Ok(());
        }
        let left_out = self.store.queue_deliveries(&deliveries, WAITING_PER_ACCOUNT).await?;
        if left_out > 0 {
            metrics::counter!("tandem_webhooks_left_out_total").increment(left_out);
            tracing::warn!(left_out, "an account's queue of webhooks is full: its receivers do not keep up");
        }
        Ok(())
    }

    async fn receivers_of(&mut self, record: &CallRecord, now: Instant) -> Result<Vec<Receiver>, StoreError> {
        let name = (record.account.to_string(), record.agent.to_string());
        if let Some((asked, receivers)) = self.receivers.get(&name)
            && now.saturating_duration_since(*asked) < REMEMBERED
        {
            return Ok(receivers.clone());
        }
        let receivers = self.store.receivers(&name.0, &name.1).await?;
        if self.receivers.len() >= MOST {
            self.receivers.clear();
        }
        self.receivers.insert(name, (now, receivers.clone()));
        Ok(receivers)
    }
}
