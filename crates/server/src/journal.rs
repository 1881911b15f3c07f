//! What calls leave behind: records and verdicts, taken from the engine without making it wait, written to the
//! store in batches; and the calls that are up now.
//!
//! A record of a call is written when the call begins and again as it goes on, so that even a killed process
//! leaves a row. Nothing here decides about calls.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use tandem_call::{CallId, CallRecord, Verdict};
use tokio::sync::{mpsc, oneshot};

use crate::store::{NewVerdict, Store, StoreError};

/// Entries that may wait for the database: some ten thousand calls' worth of beginnings and ends.
const WAITING: usize = 65_536;

/// Entries written in one transaction.
const BATCH: usize = 512;

/// How often the node says that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

enum Entry {
    Record(Box<CallRecord>),
    Verdict(Box<Verdict>),
    Flush(oneshot::Sender<()>),
}

/// Takes records and verdicts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    entries: mpsc::Sender<Entry>,
    live: Arc<DashMap<CallId, CallRecord>>,
}

impl Journal {
    /// Starts the task that writes; it ends when every journal is dropped. `verdicts` are kept per account.
    pub fn start(store: Store, node: String, verdicts: u32) -> Self {
        let (entries, waiting) = mpsc::channel(WAITING);
        let writer = Writer { store, node, verdicts };
        tokio::spawn(writer.run(waiting));
        Self { entries, live: Arc::default() }
    }

    /// A call began or went on. Does not wait.
    pub fn progress(&self, record: CallRecord) {
        if record.status.is_final() {
            self.live.remove(&record.id);
        } else {
            self.live.insert(record.id, record.clone());
        }
        metrics::gauge!("tandem_calls").set(self.live.len() as f64);
        self.take(Entry::Record(Box::new(record)));
    }

    /// A call is over; once per call. Does not wait.
    pub fn record(&self, record: CallRecord) {
        self.live.remove(&record.id);
        metrics::gauge!("tandem_calls").set(self.live.len() as f64);
        metrics::counter!("tandem_calls_ended_total", "status" => record.status.as_str()).increment(1);
        self.take(Entry::Record(Box::new(record)));
    }

    /// An INVITE was decided. Does not wait.
    pub fn verdict(&self, verdict: Verdict) {
        metrics::counter!("tandem_verdicts_total", "code" => verdict.code.as_str()).increment(1);
        self.take(Entry::Verdict(Box::new(verdict)));
    }

    /// The account's calls that are up, oldest first.
    pub fn live(&self, account: &str) -> Vec<CallRecord> {
        let mut calls: Vec<CallRecord> = self
            .live
            .iter()
            .filter(|call| call.account.as_str() == account)
            .map(|call| call.value().clone())
            .collect();
        calls.sort_by_key(|call| (call.started_unix_ms, call.id));
        calls
    }

    /// One call of the account, if it is up.
    pub fn live_call(&self, account: &str, id: CallId) -> Option<CallRecord> {
        self.live.get(&id).filter(|call| call.account.as_str() == account).map(|call| call.value().clone())
    }

    /// Returns once everything taken so far is in the store.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        if self.entries.send(Entry::Flush(done)).await.is_ok() {
            // An error means that the writer is gone, and with it what could be waited for.
            drop(is_done.await);
        }
    }

    fn take(&self, entry: Entry) {
        if self.entries.try_send(entry).is_err() {
            // The engine never waits for a database. A record lost here is closed at the next start.
            metrics::counter!("tandem_journal_lost_total").increment(1);
            tracing::error!("the journal is full: the database does not keep up");
        }
    }
}

struct Writer {
    store: Store,
    node: String,
    verdicts: u32,
}

impl Writer {
    async fn run(self, mut waiting: mpsc::Receiver<Entry>) {
        let mut batch = Vec::with_capacity(BATCH);
        let mut life = tokio::time::interval(SIGN_OF_LIFE);
        life.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        return;
                    }
                    self.write(batch.drain(..)).await;
                }
                _ = life.tick() => {
                    if let Err(error) = self.store.touch_node(&self.node).await {
                        tracing::warn!(%error, "the node's sign of life was not written");
                    }
                }
            }
        }
    }

    async fn write(&self, entries: impl Iterator<Item = Entry>) {
        // Only the last state of a call within a batch is worth a write.
        let mut records: BTreeMap<CallId, CallRecord> = BTreeMap::new();
        let mut verdicts = Vec::new();
        let mut flushes = Vec::new();
        for entry in entries {
            match entry {
                Entry::Record(record) => {
                    let is_over = records.get(&record.id).is_some_and(|known| known.status.is_final());
                    if !is_over || record.status.is_final() {
                        records.insert(record.id, *record);
                    }
                }
                Entry::Verdict(verdict) => verdicts.extend(stored(&verdict)),
                Entry::Flush(done) => flushes.push(done),
            }
        }
        self.until_written("records", || self.store.write_records(records.values()), records.is_empty())
            .await;
        self.until_written(
            "verdicts",
            || self.store.write_verdicts(&verdicts, self.verdicts),
            verdicts.is_empty(),
        )
        .await;
        for done in flushes {
            // Whoever waited may have gone.
            done.send(()).ok();
        }
    }

    /// Repeats a write until the database takes it: meanwhile the queue fills, and only then is anything lost.
    async fn until_written<F: Future<Output = Result<(), StoreError>>>(
        &self,
        what: &str,
        write: impl Fn() -> F,
        is_empty: bool,
    ) {
        if is_empty {
            return;
        }
        let mut pause = Duration::from_millis(100);
        while let Err(error) = write().await {
            metrics::counter!("tandem_journal_failures_total").increment(1);
            tracing::error!(%error, what, "the journal could not be written; trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(5));
        }
    }
}

fn stored(verdict: &Verdict) -> Option<NewVerdict> {
    let value = serde_json::to_value(verdict)
        .inspect_err(|error| tracing::error!(%error, "a verdict that is no JSON"))
        .ok()?;
    Some(NewVerdict {
        id: verdict.id.to_string(),
        account: verdict.account.as_ref().map(|account| account.as_str().to_owned()),
        at: i64::try_from(verdict.at_unix_ms).unwrap_or(i64::MAX),
        code: verdict.code.as_str().to_owned(),
        verdict: value,
    })
}
