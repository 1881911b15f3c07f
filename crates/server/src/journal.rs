//! What calls leave behind: records and verdicts, taken from the engine without making it wait, written to the
//! store in batches; and the calls that are up now.
//!
//! A record of a call is written when the call begins and again as it goes on, so that even a killed process
//! leaves a row. No record is dropped for want of time: of each call the last state waits, and when too many wait the node
//! takes no new calls ([`Journal::is_behind`]) until the database has caught up. So what waits is bounded by that
//! mark and the calls that were up when it was reached. A spill to disk was weighed against this: it would keep a
//! node answering whose records nobody can read, and need a replay that an operator must trust; another node, or
//! a carrier's retry, serves the caller better. Verdicts are a window upon the last INVITEs: beyond their bound
//! they are dropped and counted. A row that the database refuses for what it holds, whoever asks and how often, is
//! left out, counted and named in the log. Nothing here decides about calls.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dashmap::DashMap;
use tandem_call::{CallId, CallRecord, Verdict};
use tokio::sync::{Notify, oneshot};

use crate::clock;
use crate::store::{NewVerdict, Store, StoreError};
use crate::webhooks::feed::Feed;

/// Calls whose record waits before no new ones are taken: a minute of the busiest node without a database.
const BEHIND: usize = 16_384;

/// Verdicts that may wait.
const VERDICTS: usize = 65_536;

/// Entries written in one transaction.
const BATCH: usize = 512;

/// How often the node says that it lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(5);

/// Takes records and verdicts. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Journal {
    shared: Arc<Shared>,
    live: Arc<DashMap<CallId, CallRecord>>,
    /// Dropped with the last journal: the writer then writes what is left and ends.
    _open: Arc<Closing>,
}

#[derive(Debug, Default)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Something waits, or the journal is closed.
    news: Notify,
    /// Calls whose record may wait; half as many must be left before new calls are taken again.
    bound: usize,
    is_behind: AtomicBool,
    is_closed: AtomicBool,
}

/// Tells the writer that no journal is left.
#[derive(Debug)]
struct Closing(Arc<Shared>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0.is_closed.store(true, Ordering::Release);
        self.0.news.notify_one();
    }
}

#[derive(Debug, Default)]
struct Waiting {
    /// Of each call its last state.
    records: HashMap<CallId, Box<CallRecord>>,
    /// Those calls, whoever began to wait first.
    order: VecDeque<CallId>,
    verdicts: VecDeque<Verdict>,
    /// Each change of a call, for webhooks: these are told of all of them.
    told: VecDeque<CallRecord>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Waiting {
    fn tell(&mut self, record: CallRecord) {
        if self.told.len() < VERDICTS {
            self.told.push_back(record);
        } else {
            metrics::counter!("tandem_webhooks_left_out_total").increment(1);
        }
    }

    fn is_empty(&self) -> bool {
        self.order.is_empty() && self.verdicts.is_empty() && self.told.is_empty() && self.flushes.is_empty()
    }
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Whoever panicked has left at worst one entry out.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, record: CallRecord) {
        self.waiting().tell(record);
        self.news.notify_one();
    }

    fn put_record(&self, record: CallRecord) {
        let mut waiting = self.waiting();
        waiting.tell(record.clone());
        match waiting.records.get_mut(&record.id) {
            // A late word about a call that is over is no news.
            Some(known) if known.status.is_final() && !record.status.is_final() => {}
            Some(known) => **known = record,
            None => {
                waiting.order.push_back(record.id);
                waiting.records.insert(record.id, Box::new(record));
            }
        }
        let count = waiting.order.len();
        drop(waiting);
        metrics::gauge!("tandem_journal_records_waiting").set(count as f64);
        if count >= self.bound && !self.is_behind.swap(true, Ordering::AcqRel) {
            metrics::counter!("tandem_journal_behind_total").increment(1);
            tracing::error!(count, "the database does not take records: no new calls until it does");
        }
        self.news.notify_one();
    }

    /// The next batch.
    fn take(&self) -> Batch {
        let mut waiting = self.waiting();
        let waiting = &mut *waiting;
        let count = waiting.order.len().min(BATCH);
        let records = waiting
            .order
            .drain(..count)
            .filter_map(|id| waiting.records.remove(&id))
            .map(|record| *record)
            .collect();
        let count = waiting.verdicts.len().min(BATCH);
        let verdicts = waiting.verdicts.drain(..count).collect();
        // Whoever waits for everything waits until this batch is written and none is left.
        let count = waiting.told.len().min(BATCH);
        let told = waiting.told.drain(..count).collect();
        let is_last = waiting.order.is_empty() && waiting.verdicts.is_empty() && waiting.told.is_empty();
        let flushes = if is_last { std::mem::take(&mut waiting.flushes) } else { Vec::new() };
        if waiting.order.len() <= self.bound / 2 && self.is_behind.swap(false, Ordering::AcqRel) {
            tracing::info!("the database takes records again, and the node new calls");
        }
        Batch { records, verdicts, told, flushes }
    }
}

struct Batch {
    records: Vec<CallRecord>,
    verdicts: Vec<Verdict>,
    told: Vec<CallRecord>,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Journal {
    /// Starts the task that writes; it ends when every journal is dropped. `verdicts` are kept per account.
    pub fn start(store: Store, node: String, verdicts: u32) -> Self {
        Self::with_bound(store, node, verdicts, BEHIND)
    }

    /// As [`Journal::start`], with as many calls' records waiting as one chooses before it is behind.
    pub fn with_bound(store: Store, node: String, verdicts: u32, bound: usize) -> Self {
        let shared = Arc::new(Shared { bound, ..Shared::default() });
        let feed = Feed::new(store.clone());
        let writer = Writer { store, node, verdicts, feed, shared: Arc::clone(&shared) };
        tokio::spawn(writer.run());
        Self { _open: Arc::new(Closing(Arc::clone(&shared))), shared, live: Arc::default() }
    }

    /// A call began or went on. Does not wait.
    pub fn progress(&self, record: CallRecord) {
        if record.status.is_final() {
            self.live.remove(&record.id);
        } else {
            self.live.insert(record.id, record.clone());
        }
        metrics::gauge!("tandem_calls").set(self.live.len() as f64);
        self.shared.put_record(record);
    }

    /// A call is over; once per call. Does not wait.
    pub fn record(&self, record: CallRecord) {
        self.live.remove(&record.id);
        metrics::gauge!("tandem_calls").set(self.live.len() as f64);
        metrics::counter!("tandem_calls_ended_total", "status" => record.status.as_str()).increment(1);
        self.shared.put_record(record);
    }

    /// A call is over whose end another writes: whoever placed it, for it may come again.
    pub fn let_go(&self, record: &CallRecord) {
        self.live.remove(&record.id);
        metrics::gauge!("tandem_calls").set(self.live.len() as f64);
        metrics::counter!("tandem_calls_ended_total", "status" => record.status.as_str()).increment(1);
    }

    /// A call changed and another has written it: webhooks are told, and nothing is stored. Does not wait.
    pub fn tell(&self, record: CallRecord) {
        self.shared.tell(record);
    }

    /// An INVITE was decided. Does not wait.
    pub fn verdict(&self, verdict: Verdict) {
        metrics::counter!("tandem_verdicts_total", "code" => verdict.code.as_str()).increment(1);
        let mut waiting = self.shared.waiting();
        if waiting.verdicts.len() >= VERDICTS {
            drop(waiting);
            metrics::counter!("tandem_journal_lost_total").increment(1);
            return;
        }
        waiting.verdicts.push_back(verdict);
        drop(waiting);
        self.shared.news.notify_one();
    }

    /// Whether so many records wait for the database that the node must take no new calls.
    pub fn is_behind(&self) -> bool {
        self.shared.is_behind.load(Ordering::Acquire)
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

    /// How many of the account's calls are up on each of its trunks.
    pub fn live_by_trunk(&self, account: &str) -> std::collections::BTreeMap<String, usize> {
        let mut counts = std::collections::BTreeMap::new();
        for call in self.live.iter().filter(|call| call.account.as_str() == account) {
            *counts.entry(call.trunk.to_string()).or_default() += 1;
        }
        counts
    }

    /// One call of the account, if it is up.
    pub fn live_call(&self, account: &str, id: CallId) -> Option<CallRecord> {
        self.live.get(&id).filter(|call| call.account.as_str() == account).map(|call| call.value().clone())
    }

    /// Returns once everything taken so far is in the store.
    pub async fn flush(&self) {
        let (done, is_done) = oneshot::channel();
        self.shared.waiting().flushes.push(done);
        self.shared.news.notify_one();
        // An error means that the writer is gone, and with it what could be waited for.
        drop(is_done.await);
    }
}

struct Writer {
    store: Store,
    node: String,
    verdicts: u32,
    /// What webhooks are told.
    feed: Feed,
    shared: Arc<Shared>,
}

impl Writer {
    async fn run(mut self) {
        let mut life = tokio::time::interval(SIGN_OF_LIFE);
        life.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.shared.news.notified() => {
                    loop {
                        let batch = self.shared.take();
                        self.write(batch).await;
                        if self.shared.waiting().is_empty() {
                            break;
                        }
                    }
                    if self.shared.is_closed.load(Ordering::Acquire) && self.shared.waiting().is_empty() {
                        return;
                    }
                }
                _ = life.tick() => {
                    if let Err(error) = self.store.touch_node(&self.node).await {
                        tracing::warn!(%error, "the node's sign of life was not written");
                    }
                }
            }
        }
    }

    async fn write(&mut self, batch: Batch) {
        self.until_written(Rows::Records(batch.records)).await;
        self.until_written(Rows::Verdicts(batch.verdicts.iter().filter_map(stored).collect())).await;
        let changes = self.feed.changes(batch.told);
        self.until_written(Rows::Webhooks(changes)).await;
        for done in batch.flushes {
            // Whoever waited may have gone.
            done.send(()).ok();
        }
    }

    /// Repeats a write until the database takes it: meanwhile others wait, and in the end new calls are refused. Rows that
    /// the database itself will never take are told from a database that is not there: they are halved until the one
    /// is found, which is left out, counted and named, and the others get in.
    async fn until_written(&mut self, rows: Rows) {
        let mut waiting = vec![rows];
        let mut pause = Duration::from_millis(100);
        while let Some(rows) = waiting.pop() {
            let what = rows.what();
            match self.write_rows(&rows).await {
                Ok(()) => {}
                Err(error) if error.is_refusal() => match rows.halves() {
                    Ok((first, second)) => waiting.extend([second, first]),
                    Err(id) => {
                        metrics::counter!("tandem_journal_refused_total", "what" => what).increment(1);
                        tracing::error!(%error, what, id, "the database refuses a row, which is left out");
                    }
                },
                Err(error) => {
                    metrics::counter!("tandem_journal_failures_total").increment(1);
                    tracing::error!(%error, what, "the journal could not be written; trying again");
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(Duration::from_secs(5));
                    waiting.push(rows);
                }
            }
        }
    }

    async fn write_rows(&mut self, rows: &Rows) -> Result<(), StoreError> {
        match rows {
            Rows::Records(records) if !records.is_empty() => self.store.write_records(records).await,
            Rows::Verdicts(verdicts) if !verdicts.is_empty() => {
                self.store.write_verdicts(verdicts, self.verdicts).await
            }
            Rows::Webhooks(changes) if !changes.is_empty() => self.feed.queue(changes, clock::now()).await,
            Rows::Records(_) | Rows::Verdicts(_) | Rows::Webhooks(_) => Ok(()),
        }
    }
}

/// What is written in one transaction.
enum Rows {
    Records(Vec<CallRecord>),
    Verdicts(Vec<NewVerdict>),
    Webhooks(Vec<CallRecord>),
}

impl Rows {
    fn what(&self) -> &'static str {
        match self {
            Self::Records(_) => "record",
            Self::Verdicts(_) => "verdict",
            Self::Webhooks(_) => "webhook",
        }
    }

    /// The first half and the rest, or the identifier of the only one.
    fn halves(self) -> Result<(Self, Self), String> {
        fn cut<T>(mut rows: Vec<T>, id: impl Fn(&T) -> String) -> Result<(Vec<T>, Vec<T>), String> {
            if let [only] = rows.as_slice() {
                return Err(id(only));
            }
            let rest = rows.split_off(rows.len() / 2);
            Ok((rows, rest))
        }
        Ok(match self {
            Self::Records(rows) => {
                let (first, rest) = cut(rows, |record| record.id.to_string())?;
                (Self::Records(first), Self::Records(rest))
            }
            Self::Verdicts(rows) => {
                let (first, rest) = cut(rows, |verdict| verdict.id.clone())?;
                (Self::Verdicts(first), Self::Verdicts(rest))
            }
            Self::Webhooks(rows) => {
                let (first, rest) = cut(rows, |record| record.id.to_string())?;
                (Self::Webhooks(first), Self::Webhooks(rest))
            }
        })
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
