//! Executions: one row per call, written while the call lives and once more when it is over.
//!
//! A finished row is never overwritten by an unfinished one, whatever order the writes come in. A call that was
//! answered is charged once, in the transaction that says it is over. Calls that wait for their turn are rows too
//! ([`super::queue`]).

use std::collections::BTreeMap;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use tandem_call::{
    CallDirection, CallRecord, CallStatus, CallerIdentity, HangupBy, HangupReason, RecordingState,
};

use super::order::CallOrder;
use super::{Result, Store, StoreError, corrupt, health, now_ms, queue};

/// Callers of one agent whose answered calls are read back: as many as routing is willing to count.
const MOST_CALLERS: i64 = 100_000;

/// An execution as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredExecution {
    /// The call.
    pub record: CallRecord,
    /// When the row was last written, milliseconds since 1970.
    pub updated_at: i64,
    /// What was asked of it, when the API asked for it.
    pub order: Option<CallOrder>,
    /// The batch it belongs to.
    pub batch: Option<String>,
    /// What it cost, in thousandths of a cent.
    pub cost_millicents: i64,
}

/// Which executions are wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExecutionFilter {
    /// Of this agent.
    pub agent: Option<String>,
    /// Of this batch.
    pub batch: Option<String>,
    /// In this status.
    pub status: Option<CallStatus>,
    /// In this direction.
    pub direction: Option<CallDirection>,
    /// Made at this time or later, milliseconds since 1970.
    pub from: Option<i64>,
    /// Made at this time or earlier.
    pub to: Option<i64>,
}

impl StoredExecution {
    /// What the call is, with no order and no price: as it stands in memory while it is up.
    pub fn of_record(record: CallRecord) -> Self {
        Self { record, updated_at: now_ms(), order: None, batch: None, cost_millicents: 0 }
    }

    pub(super) fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let broken = |error: serde_json::Error| corrupt(format!("executions/{id}"), error);
        let record: String = row.try_get("record")?;
        let order: Option<String> = row.try_get("call_order")?;
        Ok(Self {
            record: serde_json::from_str(&record).map_err(broken)?,
            updated_at: row.try_get("updated_at")?,
            order: order.map(|order| serde_json::from_str(&order)).transpose().map_err(broken)?,
            batch: row.try_get("batch_id")?,
            cost_millicents: row.try_get::<Option<i64>, _>("cost_millicents")?.unwrap_or_default(),
        })
    }
}

impl Store {
    /// Writes records, in order, in one transaction, and charges those that are over.
    ///
    /// # Errors
    /// When the database fails; then none is written.
    pub async fn write_records<'a>(&self, records: impl IntoIterator<Item = &'a CallRecord>) -> Result<()> {
        let mut change = self.begin_journal().await?;
        let mut exhausted = Vec::new();
        for record in records {
            upsert(&mut change, record).await?;
            health::note(&mut change, record).await?;
            exhausted.extend(self.charge(&mut change, record).await?);
        }
        change.commit().await?;
        self.tell_exhausted(exhausted).await
    }

    /// One execution of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn execution(&self, account: &str, id: &str) -> Result<StoredExecution> {
        let row = sqlx::query("SELECT * FROM executions WHERE id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        StoredExecution::of(&row)
    }

    /// Executions of the account, newest first, and how many there are in all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn executions(
        &self,
        account: &str,
        filter: &ExecutionFilter,
        skip: i64,
        take: i64,
    ) -> Result<(Vec<StoredExecution>, i64)> {
        const WHICH: &str = "FROM executions WHERE account_id = $1 AND ($2 = '' OR agent_id = $2) \
             AND ($3 = '' OR batch_id = $3) AND ($4 = '' OR status = $4) AND ($5 = '' OR direction = $5) \
             AND started_at >= $6 AND started_at <= $7";
        let direction = filter.direction.map_or("", direction_word);
        let status = filter.status.map_or("", CallStatus::as_str);
        let (from, to) = (filter.from.unwrap_or(i64::MIN), filter.to.unwrap_or(i64::MAX));
        let mut reader = self.begin_read().await?;
        let count = statement(WHICH, "SELECT COUNT(*) ", "");
        let (total,): (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(count))
            .bind(account)
            .bind(filter.agent.as_deref().unwrap_or_default())
            .bind(filter.batch.as_deref().unwrap_or_default())
            .bind(status)
            .bind(direction)
            .bind(from)
            .bind(to)
            .fetch_one(&mut *reader)
            .await?;
        let page = statement(WHICH, "SELECT * ", " ORDER BY started_at DESC, id LIMIT $8 OFFSET $9");
        let rows = sqlx::query(sqlx::AssertSqlSafe(page))
            .bind(account)
            .bind(filter.agent.as_deref().unwrap_or_default())
            .bind(filter.batch.as_deref().unwrap_or_default())
            .bind(status)
            .bind(direction)
            .bind(from)
            .bind(to)
            .bind(take)
            .bind(skip)
            .fetch_all(&mut *reader)
            .await?;
        Ok((rows.iter().map(StoredExecution::of).collect::<Result<_>>()?, total))
    }

    /// How many calls of each caller an agent has answered, as far as they are stored.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn answered_calls(&self, account: &str, agent: &str) -> Result<BTreeMap<String, u32>> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT caller, COUNT(*) FROM executions WHERE account_id = $1 AND agent_id = $2 \
             AND direction = 'inbound' AND is_answered = 1 AND caller <> '' \
             GROUP BY caller ORDER BY COUNT(*) DESC LIMIT $3",
        )
        .bind(account)
        .bind(agent)
        .bind(MOST_CALLERS)
        .fetch_all(&self.readers)
        .await?;
        Ok(rows
            .into_iter()
            .map(|(caller, count)| (caller, u32::try_from(count).unwrap_or(u32::MAX)))
            .collect())
    }

    /// Says that the node starts. Calls its name left open are closed as failed by error, at the time the node
    /// was last known to live. Returns how many there were.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn start_node(&self, node: &str) -> Result<usize> {
        let now = now_ms();
        let mut change = self.begin().await?;
        let seen: Option<(i64,)> = sqlx::query_as("SELECT seen_at FROM nodes WHERE name = $1")
            .bind(node)
            .fetch_optional(&mut *change)
            .await?;
        let ended = seen.map_or(now, |(seen,)| seen);
        let rows =
            sqlx::query("SELECT * FROM executions WHERE node = $1 AND is_final = 0 ORDER BY started_at, id")
                .bind(node)
                .fetch_all(&mut *change)
                .await?;
        for row in &rows {
            let mut stored = StoredExecution::of(row)?;
            close(&mut stored.record, node, u64::try_from(ended).unwrap_or(0));
            match stored.order.take() {
                // An outbound call may have a next attempt.
                Some(order) => queue::settle(&mut change, stored.record, order, now).await?,
                None => upsert(&mut change, &stored.record).await?,
            }
            let id: String = row.try_get("id")?;
            let closed = sqlx::query("SELECT * FROM executions WHERE id = $1")
                .bind(id)
                .fetch_one(&mut *change)
                .await?;
            self.tell(&mut change, &StoredExecution::of(&closed)?.record).await?;
        }
        sqlx::query(
            "INSERT INTO nodes (name, started_at, seen_at) VALUES ($1, $2, $2) \
             ON CONFLICT (name) DO UPDATE SET started_at = excluded.started_at, seen_at = excluded.seen_at",
        )
        .bind(node)
        .bind(now)
        .execute(&mut *change)
        .await?;
        change.commit().await?;
        Ok(rows.len())
    }

    /// Says that the node lives.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn touch_node(&self, node: &str) -> Result<()> {
        let mut change = self.begin_journal().await?;
        sqlx::query("UPDATE nodes SET seen_at = $1 WHERE name = $2")
            .bind(now_ms())
            .bind(node)
            .execute(&mut *change)
            .await?;
        Ok(change.commit().await?)
    }
}

/// Two statements that ask for the same rows, written once.
fn statement(which: &str, before: &str, after: &str) -> String {
    format!("{before}{which}{after}")
}

pub(super) const fn direction_word(direction: CallDirection) -> &'static str {
    match direction {
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound",
    }
}

fn close(record: &mut CallRecord, node: &str, ended_unix_ms: u64) {
    record.status = CallStatus::Error;
    record.ended_unix_ms = Some(ended_unix_ms.max(record.answered_unix_ms.unwrap_or(record.started_unix_ms)));
    record.hangup_by = Some(HangupBy::Error);
    record.hangup_reason = Some(HangupReason::TemporaryFailure);
    record.q850 = Some(HangupReason::TemporaryFailure.q850());
    if let Some(recording) = record.media.recording.as_mut().filter(|recording| recording.state.is_open()) {
        // What was written of it is repaired, and is all there will be.
        recording.state = RecordingState::Completed;
        recording.ended_unix_ms = record.ended_unix_ms;
    }
    record.error_message =
        Some(format!("the node {node} stopped while the call was up; closed at its next start"));
}

/// Writes a record over what was there; the order, the batch and the price stay as they are.
pub(super) async fn upsert(change: &mut AnyConnection, record: &CallRecord) -> Result<()> {
    let text =
        serde_json::to_string(record).map_err(|error| corrupt(format!("executions/{}", record.id), error))?;
    let caller = match (record.direction, CallerIdentity::of(record.from.as_bytes())) {
        (CallDirection::Inbound, CallerIdentity::Known(key)) => key,
        (CallDirection::Inbound, CallerIdentity::Anonymous) | (CallDirection::Outbound, _) => String::new(),
    };
    sqlx::query(
        "INSERT INTO executions \
         (id, account_id, agent_id, node, status, is_final, started_at, updated_at, record, direction, caller, \
         is_answered) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, is_final = excluded.is_final, \
         node = excluded.node, updated_at = excluded.updated_at, record = excluded.record, \
         is_answered = excluded.is_answered \
         WHERE executions.is_final = 0 OR excluded.is_final = 1",
    )
    .bind(record.id.to_string())
    .bind(record.account.as_str())
    .bind(record.agent.as_str())
    .bind(&record.node)
    .bind(record.status.as_str())
    .bind(i64::from(record.status.is_final()))
    .bind(i64::try_from(record.started_unix_ms).unwrap_or(i64::MAX))
    .bind(now_ms())
    .bind(text)
    .bind(direction_word(record.direction))
    .bind(caller)
    .bind(i64::from(record.answered_unix_ms.is_some()))
    .execute(&mut *change)
    .await?;
    Ok(())
}
