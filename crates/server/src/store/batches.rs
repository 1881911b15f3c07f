//! Batches: lists of contacts that one agent calls. A batch is a row that keeps the contacts; once it is scheduled, each
//! contact is a call in the queue like any other ([`super::queue`]), and where the batch stands follows from those.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use tandem_call::CallStatus;

use super::feed::rows_by_id;
use super::lists::{Cursor, NEWEST, Page, cut};
use super::order::{CallOrder, RetryRules};
use super::queue::{self, NewCall};
use super::{Result, Store, StoreError, corrupt, now_ms};
use crate::ids;

/// What lists read: all but the contacts.
const SHOWN: &str = "id, account_id, agent_id, state, file_name, plan, total_contacts, valid_contacts, \
                     scheduled_at, created_at, updated_at";

/// A batch to be made.
#[derive(Clone, Debug, PartialEq)]
pub struct NewBatch {
    /// The agent that calls.
    pub agent: String,
    /// What the client called the file.
    pub file_name: String,
    /// How its calls are made.
    pub plan: BatchPlan,
    /// Lines of the file, those that cannot be called included.
    pub total: usize,
    /// Whom to call.
    pub contacts: Vec<Contact>,
}

/// How the calls of a batch are made.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BatchPlan {
    /// The numbers to call from, in turn; with none, each call finds its own.
    pub from: Vec<String>,
    /// When a call is tried again.
    pub retry: RetryRules,
}

/// One to be called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contact {
    /// The number, as the client wrote it.
    pub number: String,
    /// What else its line says, for the agent.
    pub facts: Map<String, Value>,
}

/// A batch as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredBatch {
    /// Identifier, 32 hex digits.
    pub id: String,
    /// The agent that calls.
    pub agent: String,
    /// What the client called the file.
    pub file_name: String,
    /// How its calls are made.
    pub plan: BatchPlan,
    /// Lines of the file.
    pub total: i64,
    /// Lines that can be called.
    pub valid: i64,
    /// When its calls begin, milliseconds since 1970.
    pub scheduled_at: Option<i64>,
    /// When it was made.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
    /// Its calls by their status.
    pub calls: BTreeMap<String, i64>,
    state: String,
}

/// Where a batch stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchStatus {
    /// It waits to be scheduled.
    Created,
    /// Its time is to come.
    Scheduled,
    /// Its time has come, and calls of it are not over.
    Queued,
    /// All its calls are over.
    Executed,
    /// It was stopped.
    Stopped,
}

impl BatchStatus {
    /// The vendor's word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Scheduled => "scheduled",
            Self::Queued => "queued",
            Self::Executed => "executed",
            Self::Stopped => "stopped",
        }
    }
}

impl StoredBatch {
    /// Where it stands at `now`, milliseconds since 1970.
    pub fn status(&self, now: i64) -> BatchStatus {
        let is_open =
            |word: &str| CallStatus::from_word(word).is_none_or(|status: CallStatus| !status.is_final());
        match (self.state.as_str(), self.scheduled_at) {
            ("created", _) | ("scheduled", None) => BatchStatus::Created,
            ("stopped", _) => BatchStatus::Stopped,
            (_, Some(at)) if at > now => BatchStatus::Scheduled,
            _ if self.calls.keys().any(|status| is_open(status)) => BatchStatus::Queued,
            _ => BatchStatus::Executed,
        }
    }

    fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let plan: String = row.try_get("plan")?;
        Ok(Self {
            agent: row.try_get("agent_id")?,
            file_name: row.try_get("file_name")?,
            plan: serde_json::from_str(&plan).map_err(|error| corrupt(format!("batches/{id}"), error))?,
            total: row.try_get("total_contacts")?,
            valid: row.try_get("valid_contacts")?,
            scheduled_at: row.try_get("scheduled_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            calls: BTreeMap::new(),
            state: row.try_get("state")?,
            id,
        })
    }

    /// What the audit log says of it.
    fn deed(&self) -> Value {
        json!({"agent_id": self.agent, "file_name": self.file_name, "contacts": self.valid,
            "state": self.state, "scheduled_at": self.scheduled_at})
    }
}

impl Store {
    /// Makes a batch; nobody is called yet.
    ///
    /// # Errors
    /// [`StoreError::AgentNotFound`].
    pub async fn create_batch(&self, account: &str, new: NewBatch) -> Result<StoredBatch> {
        let now = now_ms();
        let id = ids::uuid().replace('-', "");
        let mut change = self.begin().await?;
        sqlx::query("SELECT id FROM agents WHERE id = $1 AND account_id = $2")
            .bind(&new.agent)
            .bind(account)
            .fetch_optional(&mut *change)
            .await?
            .ok_or(StoreError::AgentNotFound)?;
        sqlx::query(
            "INSERT INTO batches (id, account_id, agent_id, state, file_name, plan, contacts, total_contacts, \
             valid_contacts, created_at, updated_at) VALUES ($1, $2, $3, 'created', $4, $5, $6, $7, $8, $9, $9)",
        )
        .bind(&id)
        .bind(account)
        .bind(&new.agent)
        .bind(&new.file_name)
        .bind(text(&id, &new.plan)?)
        .bind(text(&id, &new.contacts)?)
        .bind(i64::try_from(new.total).unwrap_or(i64::MAX))
        .bind(i64::try_from(new.contacts.len()).unwrap_or(i64::MAX))
        .bind(now)
        .execute(&mut *change)
        .await?;
        let batch = find(&mut change, account, &id).await?;
        change.note_deed(account, "batch", &id, None, Some(batch.deed()));
        change.commit().await?;
        Ok(batch)
    }

    /// One batch of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn batch(&self, account: &str, id: &str) -> Result<StoredBatch> {
        let mut reader = self.begin_read().await?;
        find(&mut reader, account, id).await
    }

    /// A page of an agent's batches, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_batches(
        &self,
        account: &str,
        agent: &str,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<StoredBatch>> {
        let after = after.unwrap_or(&NEWEST);
        let mut reader = self.begin_read().await?;
        let select = format!(
            "SELECT {SHOWN} FROM batches WHERE agent_id = $1 AND (created_at, id) < ($2, $3) \
             AND account_id = $4 ORDER BY created_at DESC, id DESC LIMIT $5"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(select))
            .bind(agent)
            .bind(after.at)
            .bind(&after.id)
            .bind(account)
            .bind(i64::from(limit) + 1)
            .fetch_all(&mut *reader)
            .await?;
        let (rows, next) = cut(rows, limit)?;
        let mut batches = rows.iter().map(StoredBatch::of).collect::<Result<Vec<_>>>()?;
        let mut counted = count(&mut reader, batches.iter().map(|batch| batch.id.clone()).collect()).await?;
        for batch in &mut batches {
            batch.calls = counted.remove(&batch.id).unwrap_or_default();
        }
        Ok(Page { rows: batches, next })
    }

    /// Queues the calls of a batch for `at`, milliseconds since 1970; for now, if that has passed. At most `most` calls
    /// of the account may wait at once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::BatchWasScheduled`], [`StoreError::QueueFull`].
    pub async fn schedule_batch(
        &self,
        account: &str,
        id: &str,
        at: i64,
        bypass_call_guardrails: bool,
        most: u32,
    ) -> Result<StoredBatch> {
        let now = now_ms();
        let mut change = self.begin().await?;
        let batch = find(&mut change, account, id).await?;
        if batch.state != "created" {
            return Err(StoreError::BatchWasScheduled { status: batch.status(now).as_str() });
        }
        let (contacts,): (String,) = sqlx::query_as("SELECT contacts FROM batches WHERE id = $1")
            .bind(id)
            .fetch_one(&mut *change)
            .await?;
        let contacts: Vec<Contact> =
            serde_json::from_str(&contacts).map_err(|error| corrupt(format!("batches/{id}"), error))?;
        let from = &batch.plan.from;
        let calls = contacts.into_iter().enumerate().map(|(place, contact)| NewCall {
            agent: batch.agent.clone(),
            batch: Some(id.to_owned()),
            order: CallOrder {
                recipient: contact.number,
                from: (!from.is_empty()).then(|| from[place % from.len()].clone()),
                user_data: contact.facts,
                retry: batch.plan.retry.clone(),
                bypass_call_guardrails,
                scheduled_at: (at > now).then_some(at),
                ..CallOrder::default()
            },
        });
        queue::queue(&mut change, account, calls.collect(), most).await?;
        set_state(&mut change, id, "scheduled", Some(at.max(now))).await?;
        let after = find(&mut change, account, id).await?;
        change.note_deed(account, "batch", id, Some(batch.deed()), Some(after.deed()));
        change.commit().await?;
        self.queued().notify_one();
        Ok(after)
    }

    /// Stops a batch: calls of it that wait are never placed, those that are up go on and are not tried again. Returns
    /// the calls that were stopped.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::BatchIsIdle`] when none of it waits or is up.
    pub async fn stop_batch(&self, account: &str, id: &str) -> Result<Vec<String>> {
        let mut change = self.begin().await?;
        let batch = find(&mut change, account, id).await?;
        if !matches!(batch.status(now_ms()), BatchStatus::Scheduled | BatchStatus::Queued) {
            return Err(StoreError::BatchIsIdle);
        }
        let stopped = queue::stop_waiting(&mut change, account, None, Some(id)).await?;
        set_state(&mut change, id, "stopped", batch.scheduled_at).await?;
        let after = find(&mut change, account, id).await?;
        change.note_deed(account, "batch", id, Some(batch.deed()), Some(after.deed()));
        change.commit().await?;
        Ok(stopped)
    }

    /// Deletes a batch as [`Self::stop_batch`] stops one; the executions of its calls stay.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delete_batch(&self, account: &str, id: &str) -> Result<Vec<String>> {
        let mut change = self.begin().await?;
        let batch = find(&mut change, account, id).await?;
        let stopped = queue::stop_waiting(&mut change, account, None, Some(id)).await?;
        sqlx::query("DELETE FROM batches WHERE id = $1").bind(id).execute(&mut *change).await?;
        change.note_deed(account, "batch", id, Some(batch.deed()), None);
        change.commit().await?;
        Ok(stopped)
    }
}

/// Whether the call belongs to a batch that was stopped or deleted: then it is not tried again.
pub(super) async fn is_given_up(change: &mut AnyConnection, call: &str) -> Result<bool> {
    let state: Option<(Option<String>, Option<String>)> = sqlx::query_as(
        "SELECT executions.batch_id, batches.state FROM executions \
         LEFT JOIN batches ON batches.id = executions.batch_id WHERE executions.id = $1",
    )
    .bind(call)
    .fetch_optional(&mut *change)
    .await?;
    Ok(matches!(state, Some((Some(_), state)) if state.as_deref() != Some("scheduled")))
}

async fn find(connection: &mut AnyConnection, account: &str, id: &str) -> Result<StoredBatch> {
    let select = format!("SELECT {SHOWN} FROM batches WHERE id = $1 AND account_id = $2");
    let row = sqlx::query(sqlx::AssertSqlSafe(select))
        .bind(id)
        .bind(account)
        .fetch_optional(&mut *connection)
        .await?
        .ok_or(StoreError::NotFound)?;
    let mut batch = StoredBatch::of(&row)?;
    batch.calls = count(connection, BTreeSet::from([id.to_owned()])).await?.remove(id).unwrap_or_default();
    Ok(batch)
}

/// The calls of these batches by their status.
async fn count(
    connection: &mut AnyConnection,
    batches: BTreeSet<String>,
) -> Result<BTreeMap<String, BTreeMap<String, i64>>> {
    let select = "SELECT batch_id, status, COUNT(*) AS calls FROM executions WHERE batch_id IN";
    let mut counted: BTreeMap<String, BTreeMap<String, i64>> = BTreeMap::new();
    for row in rows_by_id(connection, select, "GROUP BY batch_id, status", &batches).await? {
        let calls = counted.entry(row.try_get("batch_id")?).or_default();
        calls.insert(row.try_get("status")?, row.try_get("calls")?);
    }
    Ok(counted)
}

async fn set_state(
    change: &mut AnyConnection,
    id: &str,
    state: &str,
    scheduled_at: Option<i64>,
) -> Result<()> {
    sqlx::query("UPDATE batches SET state = $1, scheduled_at = $2, updated_at = $3 WHERE id = $4")
        .bind(state)
        .bind(scheduled_at)
        .bind(now_ms())
        .bind(id)
        .execute(&mut *change)
        .await?;
    Ok(())
}

fn text<T: Serialize>(id: &str, value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt(format!("batches/{id}"), error))
}
