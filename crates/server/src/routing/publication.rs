//! The task that keeps the engine's table level with the store: everything once, then change by change.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tandem_call::{RoutingTable, TrunkId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;

use super::reading::{bounded, count_answered, everything};
use super::{PublishError, Reading, TableUpdate, WAITING, agent, number, trunk};
use crate::store::{ChangedRows, Changes, Store, StoreError, now_ms};

/// How often changes of other processes are looked for: with the reading and the swap, another node's change is
/// routed by here within half a second.
const GLANCE: Duration = Duration::from_millis(250);

/// How often old changes are forgotten.
const TIDY: Duration = Duration::from_secs(600);

/// How long after a failure everything is read again.
const READ_AGAIN: Duration = Duration::from_secs(2);

/// One who waits for a refresh.
type Asked = oneshot::Sender<Result<(), PublishError>>;

pub(super) struct Publication {
    store: Store,
    engine: mpsc::Sender<TableUpdate>,
    current: Arc<ArcSwap<RoutingTable>>,
    reading: watch::Sender<Reading>,
    /// The last change that is in the current table.
    read: i64,
}

/// A table to come.
struct Next {
    /// `None` when nothing changed.
    table: Option<RoutingTable>,
    /// The last change in it.
    read: i64,
    /// Trunks that changed.
    trunks: Vec<TrunkId>,
}

impl Publication {
    pub(super) fn new(
        store: Store,
        engine: mpsc::Sender<TableUpdate>,
        current: Arc<ArcSwap<RoutingTable>>,
        reading: watch::Sender<Reading>,
    ) -> Self {
        Self { store, engine, current, reading, read: 0 }
    }

    pub(super) async fn run(mut self, mut waiting: mpsc::Receiver<Asked>) {
        if !self.begin(&mut waiting).await {
            return;
        }
        let mut served = Vec::new();
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_behind = false;
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut served, WAITING) => if count == 0 { return },
                _ = glance.tick() => {}
                _ = tidy.tick() => {
                    if let Err(error) = self.store.forget_changes().await {
                        tracing::warn!(%error, "old changes were not forgotten");
                    }
                    continue;
                }
            }
            let outcome = self.publish().await;
            if let Err(error) = &outcome {
                metrics::counter!("tandem_routing_failures_total").increment(1);
                if !is_behind || !served.is_empty() {
                    tracing::error!(%error, "routing is behind the store");
                }
            }
            is_behind = outcome.is_err();
            answer(&mut served, &outcome);
        }
    }

    /// Reads everything and hands it over, as often as it takes. Whoever asks for a refresh meanwhile is answered at once:
    /// an INVITE that comes now is routed by the store as it stands then, and what was changed since the reading began is
    /// read again at its end. Returns whether there is anything to go on for.
    async fn begin(&mut self, waiting: &mut mpsc::Receiver<Asked>) -> bool {
        let mut served = Vec::new();
        let mut pause = Duration::ZERO;
        loop {
            let began = Instant::now() + pause;
            let mut reading = Box::pin(everything(self.store.clone(), pause));
            let read = loop {
                tokio::select! {
                    read = &mut reading => break read,
                    count = waiting.recv_many(&mut served, WAITING) => {
                        if count == 0 {
                            return false;
                        }
                        answer(&mut served, &Ok(()));
                    }
                }
            };
            let outcome = match read {
                Ok((table, read)) => self.begin_with(table, read).await,
                Err(error) => Err(PublishError::Store(Arc::new(error))),
            };
            match outcome {
                Ok(()) => {
                    let numbers = self.current.load().number_count();
                    tracing::info!(numbers, seconds = began.elapsed().as_secs_f64(), "routing is read");
                    self.reading.send_replace(Reading::Done);
                    return true;
                }
                Err(PublishError::Stopped) => return false,
                Err(PublishError::Store(error)) => {
                    metrics::counter!("tandem_routing_failures_total").increment(1);
                    tracing::error!(%error, "routing cannot be read");
                    self.reading.send_replace(Reading::Failing(error));
                }
            }
            pause = READ_AGAIN;
        }
    }

    /// Takes up the first table, and what changed while it was read.
    async fn begin_with(&mut self, read: RoutingTable, upto: i64) -> Result<(), PublishError> {
        let next = self.next_table(&read, upto).await?;
        let table = next.table.unwrap_or(read);
        let trunks = table.trunks().map(|trunk| trunk.id.clone()).collect();
        self.hand_over(table, next.read, trunks).await
    }

    /// Brings the engine up to what the store holds.
    async fn publish(&mut self) -> Result<(), PublishError> {
        let began = Instant::now();
        let before = self.current.load_full();
        let next = self.next_table(&before, self.read).await?;
        let Some(table) = next.table else { return Ok(()) };
        self.hand_over(table, next.read, next.trunks).await?;
        metrics::histogram!("tandem_routing_publish_delay_seconds").record(began.elapsed().as_secs_f64());
        Ok(())
    }

    /// Gives the engine a table and returns when it routes by it.
    async fn hand_over(
        &mut self,
        mut table: RoutingTable,
        read: i64,
        trunks: Vec<TrunkId>,
    ) -> Result<(), PublishError> {
        table.set_version(self.current.load().version() + 1);
        let table = Arc::new(table);
        let (taken, is_taken) = oneshot::channel();
        let update = TableUpdate { table: Arc::clone(&table), trunks, taken };
        self.engine.send(update).await.map_err(|_| PublishError::Stopped)?;
        is_taken.await.map_err(|_| PublishError::Stopped)?;
        metrics::gauge!("tandem_routing_numbers").set(table.number_count() as f64);
        tracing::debug!(version = table.version(), numbers = table.number_count(), "routing published");
        self.current.store(table);
        self.read = read;
        Ok(())
    }

    /// The table after the one given, which holds the changes up to `read`.
    async fn next_table(&self, before: &RoutingTable, mut read: i64) -> Result<Next, PublishError> {
        let failed = |error| PublishError::Store(Arc::new(error));
        let (mut table, mut trunks) = (None, Vec::new());
        loop {
            match self.store.changes(read).await.map_err(failed)? {
                Changes::None => break,
                Changes::Unknown => return self.whole_table(before).await.map_err(failed),
                Changes::Rows(rows) => {
                    read = rows.upto;
                    let has_more = rows.has_more;
                    note_foreign(&rows);
                    let limited = bounded(rows.agents.iter().filter_map(|(_, agent)| agent.as_ref()));
                    let next = table.get_or_insert_with(|| before.clone());
                    trunks.extend(rows.trunks.iter().map(|(id, _)| TrunkId::from(id.as_str())));
                    apply(next, *rows);
                    count_answered(&self.store, next, limited).await.map_err(failed)?;
                    if !has_more {
                        break;
                    }
                }
            }
        }
        Ok(Next { table, read, trunks })
    }

    async fn whole_table(&self, before: &RoutingTable) -> Result<Next, StoreError> {
        let (table, read) = everything(self.store.clone(), Duration::ZERO).await?;
        // Those that are gone too: of them nothing is to be watched any more.
        let trunks = before.trunks().chain(table.trunks()).map(|trunk| trunk.id.clone()).collect();
        Ok(Next { table: Some(table), read, trunks })
    }
}

fn answer(served: &mut Vec<Asked>, outcome: &Result<(), PublishError>) {
    for request in served.drain(..) {
        // A client that went away needs no answer; its change is published all the same.
        request.send(outcome.clone()).ok();
    }
}

/// Another process's changes, and how old the oldest was when it came to be known, by the clocks of both.
fn note_foreign(rows: &ChangedRows) {
    let Some((count, at)) = rows.foreign else { return };
    metrics::counter!("tandem_routing_foreign_changes_total").increment(count);
    let age = Duration::from_millis(now_ms().saturating_sub(at).max(0).unsigned_abs());
    metrics::histogram!("tandem_routing_foreign_delay_seconds").record(age.as_secs_f64());
}

fn apply(table: &mut RoutingTable, rows: ChangedRows) {
    for (account, is_exhausted) in rows.accounts {
        table.set_exhausted(account.into(), is_exhausted);
    }
    for (id, stored) in rows.trunks {
        match stored {
            Some(stored) => table.put_trunk(trunk(stored)),
            None => table.remove_trunk(&id.into()),
        }
    }
    for (id, stored) in rows.agents {
        match stored {
            Some(stored) => table.put_agent(agent(stored)),
            None => table.remove_agent(&id.into()),
        }
    }
    for (id, stored) in rows.numbers {
        match stored {
            Some(stored) => table.put_number(number(stored)),
            None => table.remove_number(&id.into()),
        }
    }
}
