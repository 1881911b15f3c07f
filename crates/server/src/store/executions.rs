//! Executions: one row per call, written while the call lives and once more when it is over.
//!
//! A finished row is never overwritten by an unfinished one, whatever order the writes come in.

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use tandem_call::{CallRecord, CallStatus, HangupBy, HangupReason};

use super::{Result, Store, StoreError, corrupt, now_ms};

/// An execution as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredExecution {
    /// The call.
    pub record: CallRecord,
    /// When the row was last written, milliseconds since 1970.
    pub updated_at: i64,
}

impl StoredExecution {
    fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let record: String = row.try_get("record")?;
        let record =
            serde_json::from_str(&record).map_err(|error| corrupt(format!("executions/{id}"), error))?;
        Ok(Self { record, updated_at: row.try_get("updated_at")? })
    }
}

impl Store {
    /// Writes records, in order, in one transaction.
    ///
    /// # Errors
    /// When the database fails; then none is written.
    pub async fn write_records<'a>(&self, records: impl IntoIterator<Item = &'a CallRecord>) -> Result<()> {
        let mut change = self.begin_journal().await?;
        for record in records {
            upsert(&mut change, record).await?;
        }
        Ok(change.commit().await?)
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

    /// Executions of one agent of the account, newest first, and how many there are in all.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn executions_of_agent(
        &self,
        account: &str,
        agent: &str,
        skip: i64,
        take: i64,
    ) -> Result<(Vec<StoredExecution>, i64)> {
        let mut reader = self.begin_read().await?;
        let (total,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM executions WHERE account_id = $1 AND agent_id = $2")
                .bind(account)
                .bind(agent)
                .fetch_one(&mut *reader)
                .await?;
        let rows = sqlx::query(
            "SELECT * FROM executions WHERE account_id = $1 AND agent_id = $2 \
             ORDER BY started_at DESC, id LIMIT $3 OFFSET $4",
        )
        .bind(account)
        .bind(agent)
        .bind(take)
        .bind(skip)
        .fetch_all(&mut *reader)
        .await?;
        Ok((rows.iter().map(StoredExecution::of).collect::<Result<_>>()?, total))
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
            let mut record = StoredExecution::of(row)?.record;
            close(&mut record, node, u64::try_from(ended).unwrap_or(0));
            upsert(&mut change, &record).await?;
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

fn close(record: &mut CallRecord, node: &str, ended_unix_ms: u64) {
    record.status = CallStatus::Error;
    record.ended_unix_ms = Some(ended_unix_ms.max(record.answered_unix_ms.unwrap_or(record.started_unix_ms)));
    record.hangup_by = Some(HangupBy::Error);
    record.hangup_reason = Some(HangupReason::TemporaryFailure);
    record.q850 = Some(HangupReason::TemporaryFailure.q850());
    record.error_message =
        Some(format!("the node {node} stopped while the call was up; closed at its next start"));
}

async fn upsert(change: &mut AnyConnection, record: &CallRecord) -> Result<()> {
    let text =
        serde_json::to_string(record).map_err(|error| corrupt(format!("executions/{}", record.id), error))?;
    sqlx::query(
        "INSERT INTO executions (id, account_id, agent_id, node, status, is_final, started_at, updated_at, record) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
         ON CONFLICT (id) DO UPDATE SET status = excluded.status, is_final = excluded.is_final, \
         updated_at = excluded.updated_at, record = excluded.record \
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
    .execute(&mut *change)
    .await?;
    Ok(())
}
