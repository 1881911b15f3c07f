//! Outbound calls that wait for their turn, and what becomes of them: rows of `executions` that have a time.
//!
//! Taking a call off the queue is one statement that only one node can win, so a call is placed once however many
//! nodes share the database; a call that waits outlives every restart. What it refuses to do: decide whether a
//! call may be placed (`crate::dialling` does).

use sqlx::{AnyConnection, Row as _};
use tandem_call::{
    CallDirection, CallId, CallRecord, CallStatus, HangupBy, HangupReason, Incidents, MediaSummary,
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::executions::{StoredExecution, direction_word, upsert};
use super::numbers::StoredNumber;
use super::order::{Attempt, CallOrder};
use super::{Result, Store, StoreError, batches, corrupt, health, now_ms};

/// What an order's log says when it is taken.
const TAKEN: &str = "taken off the queue";

/// A call to be queued.
#[derive(Clone, Debug, PartialEq)]
pub struct NewCall {
    /// The agent that calls.
    pub agent: String,
    /// The batch it belongs to.
    pub batch: Option<String>,
    /// What is asked of it.
    pub order: CallOrder,
}

/// What stopping a call came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Stopped {
    /// It waited, and is stopped now.
    Now,
    /// It waits no more: this is how it stands.
    TooLate(Box<StoredExecution>),
}

impl Store {
    /// Queues calls of the account, at most `most` of them waiting at once.
    ///
    /// # Errors
    /// [`StoreError::QueueFull`]; then none is queued.
    pub async fn queue_calls(&self, account: &str, calls: Vec<NewCall>, most: u32) -> Result<Vec<String>> {
        let mut change = self.begin().await?;
        let queued = queue(&mut change, account, calls, most).await?;
        change.commit().await?;
        self.due.notify_one();
        Ok(queued)
    }

    /// Resolves when a call was queued on this node since it was last asked.
    pub fn queued(&self) -> &Notify {
        &self.due
    }

    /// When the next call of any account is due, milliseconds since 1970.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn next_due(&self) -> Result<Option<i64>> {
        let (next,): (Option<i64>,) =
            sqlx::query_as("SELECT MIN(due_at) FROM executions WHERE due_at IS NOT NULL")
                .fetch_one(&self.readers)
                .await?;
        Ok(next)
    }

    /// Takes calls that are due off the queue, the longest due first, for this node to place. No other node gets
    /// them.
    ///
    /// # Errors
    /// When the database fails; then none is taken.
    pub async fn take_due(&self, node: &str, now: i64, most: u32) -> Result<Vec<StoredExecution>> {
        let mut change = self.begin().await?;
        let rows = sqlx::query("SELECT * FROM executions WHERE due_at <= $1 ORDER BY due_at, id LIMIT $2")
            .bind(now)
            .bind(i64::from(most))
            .fetch_all(&mut *change)
            .await?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            let mut call = StoredExecution::of(row)?;
            call.record.node = node.to_owned();
            call.record.status = CallStatus::Initiated;
            call.record.started_unix_ms = now.unsigned_abs();
            let mut order = call.order.take().unwrap_or_default();
            order.initiated_at = order.initiated_at.or(Some(now));
            order.note(now, format!("{TAKEN} by the node {node}"));
            let won = sqlx::query(
                "UPDATE executions SET due_at = NULL, node = $1, status = $2, record = $3, call_order = $4, \
                 updated_at = $5 WHERE id = $6 AND due_at <= $7",
            )
            .bind(node)
            .bind(call.record.status.as_str())
            .bind(json(&call.record)?)
            .bind(json(&order)?)
            .bind(now_ms())
            .bind(call.record.id.to_string())
            .bind(now)
            .execute(&mut *change)
            .await?;
            if won.rows_affected() == 1 {
                call.order = Some(order);
                taken.push(call);
            }
        }
        change.commit().await?;
        Ok(taken)
    }

    /// Puts a call back on the queue for a later time, without an attempt having been made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn put_off(
        &self,
        mut record: CallRecord,
        mut order: CallOrder,
        until: i64,
        why: &str,
    ) -> Result<()> {
        let now = now_ms();
        order.note(now, format!("put off: {why}"));
        order.rescheduled_at = Some(until);
        record.status = CallStatus::Rescheduled;
        record.node.clear();
        let mut change = self.begin().await?;
        write(&mut change, &record, &order, Some(until)).await?;
        change.commit().await?;
        self.due.notify_one();
        Ok(())
    }

    /// Puts a call back that there is no room for: it waits as `queued` until its next turn.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn wait_for_room(
        &self,
        mut record: CallRecord,
        mut order: CallOrder,
        until: i64,
        why: &str,
    ) -> Result<()> {
        let now = now_ms();
        // Said once, however often it is tried.
        if order.waiting_since.is_none() {
            order.waiting_since = Some(now);
            order.note(now, format!("waits for room: {why}"));
        } else {
            order.events.pop_if(|event| event.text.starts_with(TAKEN));
        }
        record.status = CallStatus::Queued;
        record.node.clear();
        let mut change = self.begin().await?;
        write(&mut change, &record, &order, Some(until)).await?;
        change.commit().await?;
        Ok(())
    }

    /// Says how an attempt ended: the call is over, or comes back when its rules say so.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn settle_call(&self, record: CallRecord, order: CallOrder) -> Result<()> {
        let mut change = self.begin().await?;
        let ended = record.clone();
        settle(&mut change, record, order, now_ms()).await?;
        health::note(&mut change, &ended).await?;
        let exhausted = self.charge(&mut change, &ended).await?;
        change.commit().await?;
        self.due.notify_one();
        self.tell_exhausted(exhausted.into_iter().collect()).await
    }

    /// Stops a call of the account that waits.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn stop_call(&self, account: &str, id: &str) -> Result<Stopped> {
        let mut change = self.begin().await?;
        let row = sqlx::query("SELECT * FROM executions WHERE id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_optional(&mut *change)
            .await?
            .ok_or(StoreError::NotFound)?;
        let call = StoredExecution::of(&row)?;
        if row.try_get::<Option<i64>, _>("due_at")?.is_none() {
            return Ok(Stopped::TooLate(Box::new(call)));
        }
        stop(&mut change, call).await?;
        change.commit().await?;
        Ok(Stopped::Now)
    }

    /// Stops every call of the account that waits for this agent, or in this batch. Returns their identifiers.
    ///
    /// # Errors
    /// When the database fails; then none is stopped.
    pub async fn stop_waiting(
        &self,
        account: &str,
        agent: Option<&str>,
        batch: Option<&str>,
    ) -> Result<Vec<String>> {
        let mut change = self.begin().await?;
        let stopped = stop_waiting(&mut change, account, agent, batch).await?;
        change.commit().await?;
        Ok(stopped)
    }

    /// The number of the account that an outbound call goes out by: the one asked for, or the first that the agent
    /// answers, or the first of all. Its trunk and itself are switched on; a trunk that places no calls is left out
    /// unless its number is asked for, so that whoever asks is told so.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn number_to_call_from(
        &self,
        account: &str,
        agent: &str,
        digits: Option<&str>,
    ) -> Result<Option<StoredNumber>> {
        let row = sqlx::query(
            "SELECT numbers.* FROM numbers JOIN trunks ON trunks.id = numbers.trunk_id \
             WHERE numbers.account_id = $1 AND trunks.account_id = $1 AND numbers.deleted_at IS NULL \
             AND numbers.is_active = 1 AND trunks.is_active = 1 \
             AND (numbers.digits = $2 OR ($2 = '' AND trunks.outbound_enabled = 1)) \
             ORDER BY CASE WHEN numbers.agent_id = $3 THEN 0 ELSE 1 END, numbers.created_at, numbers.id LIMIT 1",
        )
        .bind(account)
        .bind(digits.unwrap_or_default())
        .bind(agent)
        .fetch_optional(&self.readers)
        .await?;
        row.as_ref().map(StoredNumber::of).transpose()
    }
}

/// Queues calls within a change.
pub(super) async fn queue(
    change: &mut AnyConnection,
    account: &str,
    calls: Vec<NewCall>,
    most: u32,
) -> Result<Vec<String>> {
    let (waiting,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM executions WHERE account_id = $1 AND due_at IS NOT NULL")
            .bind(account)
            .fetch_one(&mut *change)
            .await?;
    let asked = i64::try_from(calls.len()).unwrap_or(i64::MAX);
    if waiting.saturating_add(asked) > i64::from(most) {
        metrics::counter!("tandem_call_queue_full_total").increment(1);
        return Err(StoreError::QueueFull { waiting, most });
    }
    let now = now_ms();
    let mut queued = Vec::with_capacity(calls.len());
    for NewCall { agent, batch, mut order } in calls {
        let due = order.scheduled_at.unwrap_or(now);
        let status = if order.scheduled_at.is_some() { CallStatus::Scheduled } else { CallStatus::Queued };
        order.note(now, format!("{} by the API", status.as_str()));
        let record = waiting_record(account, &agent, &order, status, now);
        sqlx::query(
            "INSERT INTO executions (id, account_id, agent_id, node, status, is_final, started_at, updated_at, \
             record, direction, call_order, due_at, batch_id) \
             VALUES ($1, $2, $3, '', $4, 0, $5, $6, $7, $8, $9, $10, $11)",
        )
        .bind(record.id.to_string())
        .bind(account)
        .bind(&agent)
        .bind(status.as_str())
        .bind(now)
        .bind(now)
        .bind(json(&record)?)
        .bind(direction_word(record.direction))
        .bind(json(&order)?)
        .bind(due)
        .bind(batch)
        .execute(&mut *change)
        .await?;
        queued.push(record.id.to_string());
    }
    metrics::counter!("tandem_calls_queued_total").increment(queued.len() as u64);
    Ok(queued)
}

/// Stops waiting calls within a change.
pub(super) async fn stop_waiting(
    change: &mut AnyConnection,
    account: &str,
    agent: Option<&str>,
    batch: Option<&str>,
) -> Result<Vec<String>> {
    let rows = sqlx::query(
        "SELECT * FROM executions WHERE account_id = $1 AND due_at IS NOT NULL \
         AND ($2 = '' OR agent_id = $2) AND ($3 = '' OR batch_id = $3) ORDER BY started_at, id",
    )
    .bind(account)
    .bind(agent.unwrap_or_default())
    .bind(batch.unwrap_or_default())
    .fetch_all(&mut *change)
    .await?;
    let mut stopped = Vec::with_capacity(rows.len());
    for row in &rows {
        let call = StoredExecution::of(row)?;
        stopped.push(call.record.id.to_string());
        stop(change, call).await?;
    }
    Ok(stopped)
}

/// Writes the end of an attempt: final, or rescheduled by the order's rules.
pub(super) async fn settle(
    change: &mut AnyConnection,
    mut record: CallRecord,
    mut order: CallOrder,
    now: i64,
) -> Result<()> {
    let ended = record.ended_unix_ms.unwrap_or(now.unsigned_abs());
    record.ended_unix_ms = Some(ended);
    let why = record.error_message.clone().unwrap_or_else(|| reason_text(record.hangup_reason).to_owned());
    order.note(now, format!("ended as {}: {why}", record.status.as_str()));
    let Some(again) = order.retry_at(&record, now) else {
        return write(change, &record, &order, None).await;
    };
    if batches::is_given_up(change, &record.id.to_string()).await? {
        order.note(now, "not tried again: its batch was stopped");
        return write(change, &record, &order, None).await;
    }
    order.attempts.push(Attempt {
        started_at: i64::try_from(record.started_unix_ms).unwrap_or(i64::MAX),
        ended_at: i64::try_from(ended).unwrap_or(i64::MAX),
        status: record.status,
        hangup_reason: record.hangup_reason,
        error_message: record.error_message.take(),
    });
    order.note(now, format!("to be tried again, {} of {}", order.attempts.len(), order.retry.max_retries));
    order.rescheduled_at = Some(again);
    order.waiting_since = None;
    record.status = CallStatus::Rescheduled;
    record.node.clear();
    record.ringing_unix_ms = None;
    record.answered_unix_ms = None;
    record.ended_unix_ms = None;
    record.hangup_by = None;
    record.hangup_reason = None;
    record.sip_status = None;
    record.q850 = None;
    record.sip_reason = None;
    record.gateways.clear();
    write(change, &record, &order, Some(again)).await
}

async fn stop(change: &mut AnyConnection, call: StoredExecution) -> Result<()> {
    let now = now_ms();
    let mut record = call.record;
    let mut order = call.order.unwrap_or_default();
    record.status = CallStatus::Stopped;
    record.hangup_by = Some(HangupBy::ApiRequest);
    record.ended_unix_ms = Some(now.unsigned_abs());
    order.note(now, "stopped by the API before it was placed");
    write(change, &record, &order, None).await
}

async fn write(
    change: &mut AnyConnection,
    record: &CallRecord,
    order: &CallOrder,
    due: Option<i64>,
) -> Result<()> {
    upsert(change, record).await?;
    sqlx::query("UPDATE executions SET call_order = $1, due_at = $2 WHERE id = $3 AND account_id = $4")
        .bind(json(order)?)
        .bind(due)
        .bind(record.id.to_string())
        .bind(record.account.as_str())
        .execute(&mut *change)
        .await?;
    Ok(())
}

fn reason_text(reason: Option<HangupReason>) -> &'static str {
    reason.map_or("no reason was given", HangupReason::as_str)
}

fn json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| corrupt("executions".to_owned(), error))
}

fn waiting_record(account: &str, agent: &str, order: &CallOrder, status: CallStatus, now: i64) -> CallRecord {
    CallRecord {
        // In the order of their making: calls that are due together are placed as they were ordered.
        id: CallId(Uuid::now_v7()),
        account: account.into(),
        trunk: "".into(),
        number: "".into(),
        agent: agent.into(),
        node: String::new(),
        direction: CallDirection::Outbound,
        from: order.from.clone().unwrap_or_default(),
        to: order.recipient.clone(),
        started_unix_ms: now.unsigned_abs(),
        ringing_unix_ms: None,
        answered_unix_ms: None,
        ended_unix_ms: None,
        status,
        hangup_by: None,
        hangup_reason: None,
        sip_status: None,
        q850: None,
        sip_reason: None,
        gateways: Vec::new(),
        transfers: Vec::new(),
        error_message: None,
        sip_call_id: String::new(),
        caller_facts: Vec::new(),
        media: MediaSummary::default(),
        incidents: Incidents::default(),
    }
}
