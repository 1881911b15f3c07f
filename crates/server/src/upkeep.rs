//! Keeps what grows within its bounds: the audit log, the log of webhooks, and the answers kept for idempotency
//! keys.
//!
//! Refuses to touch anything that a client can still ask for within those bounds.

use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::config::Limits;
use crate::store::Store;

/// How often.
const PERIOD: Duration = Duration::from_secs(600);

/// Starts the task; abort it to stop.
#[must_use]
pub fn start(store: Store, limits: &Limits) -> JoinHandle<()> {
    let (days, entries, webhook_days) = (limits.audit_days, limits.audit_entries, limits.webhook_days);
    tokio::spawn(async move {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            note("audit_log", store.shorten_audit(days, entries).await);
            note("idempotency_keys", store.drop_old_answers().await);
            note("webhook_deliveries", store.shorten_deliveries(webhook_days).await);
        }
    })
}

fn note(table: &'static str, outcome: crate::store::Result<u64>) {
    match outcome {
        Ok(0) => {}
        Ok(dropped) => {
            tracing::debug!(table, dropped, "old rows dropped");
            metrics::counter!("tandem_store_dropped_rows_total", "table" => table).increment(dropped);
        }
        // The next round tries again.
        Err(error) => tracing::warn!(table, %error, "old rows could not be dropped"),
    }
}
