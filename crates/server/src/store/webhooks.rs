//! Webhooks: where accounts want to be told of their calls, and the queue of what is still to be told.
//!
//! A delivery is written when the call's record is, and leaves the queue when its receiver has taken it or its
//! attempts are used up; so neither a restart nor a dead receiver loses one. Within one call and one receiver
//! they keep their order: a later one is not due while an earlier one is pending. Nothing is sent here.

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use tandem_call::CallRecord;

use super::{Expected, Result, Store, StoreError, StoredExecution, corrupt, now_ms};
use crate::ids;
use crate::secrets::{Secret, hex, random};

/// Webhooks of one account.
const MOST_WEBHOOKS: i64 = 50;

/// Rows dropped in one statement when the log is shortened.
const SHORTEN_BY: i64 = 10_000;

/// What a client sets on a webhook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WebhookSettings {
    /// Where to POST.
    pub url: String,
    /// The owner's words.
    pub description: String,
    /// Statuses to be told of; empty means each.
    pub events: Vec<String>,
    /// Switched on.
    pub is_active: bool,
}

/// A webhook.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredWebhook {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// What its owner set.
    pub settings: WebhookSettings,
    /// When it was made, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
    /// Raised by every change.
    pub revision: i64,
}

/// What is to be told, or was.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// The webhook; empty for an agent's own `webhook_url`.
    pub webhook: String,
    /// The agent of the call.
    pub agent: String,
    /// Where to.
    pub url: String,
    /// The call.
    pub call: String,
    /// The call's status that is told.
    pub event: String,
    /// The call as it was then.
    pub record: CallRecord,
    /// `pending`, `delivered` or `failed`.
    pub state: String,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next.
    pub next_at: i64,
    /// The receiver's last answer.
    pub last_status: Option<u16>,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// When it came to be.
    pub created_at: i64,
    /// When it was delivered or given up.
    pub finished_at: Option<i64>,
}

/// Where a call's changes are to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Receiver {
    /// The webhook; empty for an agent's own `webhook_url`.
    pub webhook: String,
    /// Where to.
    pub url: String,
    /// Statuses to be told of; empty means each.
    pub events: Vec<String>,
}

/// A change of a call that is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDelivery {
    /// To whom.
    pub receiver: Receiver,
    /// Order within the call.
    pub place: i64,
    /// The call as it is.
    pub record: CallRecord,
}

/// Which deliveries to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    /// Only this webhook's.
    pub webhook: Option<String>,
    /// Only this call's.
    pub call: Option<String>,
    /// Only those in this state.
    pub state: Option<String>,
    /// Only those older than this one: the next page.
    pub cursor: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeliveryAttempt {
    /// The receiver took it.
    Delivered {
        /// Its answer.
        status: u16,
    },
    /// It did not, and is asked again.
    Again {
        /// Its answer, if there was one.
        status: Option<u16>,
        /// What went wrong.
        error: String,
        /// When, milliseconds since 1970.
        at: i64,
    },
    /// It did not, and is asked no more.
    GivenUp {
        /// Its answer, if there was one.
        status: Option<u16>,
        /// What went wrong.
        error: String,
    },
}

impl StoredWebhook {
    fn of(row: &AnyRow) -> Result<Self> {
        let events: String = row.try_get("events")?;
        Ok(Self {
            id: row.try_get("id")?,
            account: row.try_get("account_id")?,
            settings: WebhookSettings {
                url: row.try_get("url")?,
                description: row.try_get("description")?,
                events: events.split_whitespace().map(str::to_owned).collect(),
                is_active: row.try_get::<i64, _>("is_active")? != 0,
            },
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            revision: row.try_get("revision")?,
        })
    }

    fn state(&self) -> Value {
        let settings = &self.settings;
        json!({
            "url": settings.url,
            "description": settings.description,
            "events": settings.events,
            "is_active": settings.is_active,
        })
    }
}

impl Delivery {
    /// The execution as it was then, of its record alone.
    fn execution(&self) -> StoredExecution {
        StoredExecution { updated_at: self.created_at, ..StoredExecution::of_record(self.record.clone()) }
    }

    fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let record: String = row.try_get("record")?;
        let record = serde_json::from_str(&record)
            .map_err(|error| corrupt(format!("webhook_deliveries/{id}"), error))?;
        Ok(Self {
            account: row.try_get("account_id")?,
            webhook: row.try_get("webhook_id")?,
            agent: row.try_get("agent_id")?,
            url: row.try_get("url")?,
            call: row.try_get("call_id")?,
            event: row.try_get("event")?,
            record,
            state: row.try_get("state")?,
            attempts: u32::try_from(row.try_get::<i64, _>("attempts")?).unwrap_or(0),
            next_at: row.try_get("next_at")?,
            last_status: row
                .try_get::<Option<i64>, _>("last_status")?
                .and_then(|status| u16::try_from(status).ok()),
            last_error: row.try_get("last_error")?,
            created_at: row.try_get("created_at")?,
            finished_at: row.try_get("finished_at")?,
            id,
        })
    }
}

impl Store {
    /// Makes a webhook; its secret is returned this once.
    ///
    /// # Errors
    /// [`StoreError::TooManyWebhooks`].
    pub async fn create_webhook(
        &self,
        account: &str,
        settings: WebhookSettings,
    ) -> Result<(StoredWebhook, Secret)> {
        let now = now_ms();
        let secret = Secret::new(format!("whsec_{}", hex(&random::<32>())));
        let webhook = StoredWebhook {
            id: ids::ulid(now),
            account: account.to_owned(),
            settings,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        let mut change = self.begin().await?;
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM webhooks WHERE account_id = $1")
            .bind(account)
            .fetch_one(&mut *change)
            .await?;
        if count >= MOST_WEBHOOKS {
            return Err(StoreError::TooManyWebhooks);
        }
        sqlx::query(
            "INSERT INTO webhooks (id, account_id, url, description, events, secret, is_active, created_at, \
             updated_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $8)",
        )
        .bind(&webhook.id)
        .bind(account)
        .bind(&webhook.settings.url)
        .bind(&webhook.settings.description)
        .bind(webhook.settings.events.join(" "))
        .bind(self.sealer.seal(&secret_place(&webhook.id), secret.reveal()))
        .bind(i64::from(webhook.settings.is_active))
        .bind(now)
        .execute(&mut *change)
        .await?;
        change.note_deed(account, "webhook", &webhook.id, None, Some(webhook.state()));
        change.commit().await?;
        Ok((webhook, secret))
    }

    /// One webhook of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn webhook(&self, account: &str, id: &str) -> Result<StoredWebhook> {
        let mut reader = self.begin_read().await?;
        find(&mut reader, account, id).await
    }

    /// The account's webhooks, oldest first; there are few.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn webhooks(&self, account: &str) -> Result<Vec<StoredWebhook>> {
        let rows = sqlx::query("SELECT * FROM webhooks WHERE account_id = $1 ORDER BY id")
            .bind(account)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(StoredWebhook::of).collect()
    }

    /// Changes a webhook.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OtherRevision`].
    pub async fn change_webhook(
        &self,
        account: &str,
        id: &str,
        expected: &Expected,
        edit: impl FnOnce(&mut WebhookSettings) + Send,
    ) -> Result<StoredWebhook> {
        let mut change = self.begin().await?;
        let before = find(&mut change, account, id).await?;
        expected.check(before.revision)?;
        let mut webhook = before.clone();
        edit(&mut webhook.settings);
        webhook.updated_at = now_ms().max(before.updated_at + 1);
        webhook.revision += 1;
        sqlx::query(
            "UPDATE webhooks SET url = $1, description = $2, events = $3, is_active = $4, updated_at = $5, \
             revision = $6 WHERE id = $7",
        )
        .bind(&webhook.settings.url)
        .bind(&webhook.settings.description)
        .bind(webhook.settings.events.join(" "))
        .bind(i64::from(webhook.settings.is_active))
        .bind(webhook.updated_at)
        .bind(webhook.revision)
        .bind(id)
        .execute(&mut *change)
        .await?;
        change.note_deed(account, "webhook", id, Some(before.state()), Some(webhook.state()));
        change.commit().await?;
        Ok(webhook)
    }

    /// Deletes a webhook; what it was still to be told is dropped.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OtherRevision`].
    pub async fn delete_webhook(&self, account: &str, id: &str, expected: &Expected) -> Result<()> {
        let mut change = self.begin().await?;
        let webhook = find(&mut change, account, id).await?;
        expected.check(webhook.revision)?;
        for statement in [
            "DELETE FROM webhooks WHERE id = $1",
            "DELETE FROM webhook_deliveries WHERE webhook_id = $1 AND state = 'pending'",
        ] {
            sqlx::query(statement).bind(id).execute(&mut *change).await?;
        }
        change.note_deed(account, "webhook", id, Some(webhook.state()), None);
        change.commit().await
    }

    /// The secret that a webhook's deliveries are signed with.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn webhook_secret(&self, id: &str) -> Result<Secret> {
        let row = sqlx::query("SELECT secret FROM webhooks WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        Ok(self.sealer.open(&secret_place(id), &row.try_get::<String, _>("secret")?)?)
    }

    /// Who is to be told of the calls of this agent of this account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn receivers(&self, account: &str, agent: &str) -> Result<Vec<Receiver>> {
        let webhooks = self.webhooks(account).await?;
        let mut receivers: Vec<Receiver> = webhooks
            .into_iter()
            .filter(|webhook| webhook.settings.is_active)
            .map(|webhook| Receiver {
                webhook: webhook.id,
                url: webhook.settings.url,
                events: webhook.settings.events,
            })
            .collect();
        let row = sqlx::query("SELECT body FROM agents WHERE id = $1 AND account_id = $2")
            .bind(agent)
            .bind(account)
            .fetch_optional(&self.readers)
            .await?;
        if let Some(row) = row {
            let body: String = row.try_get("body")?;
            let body: Value =
                serde_json::from_str(&body).map_err(|error| corrupt(format!("agents/{agent}"), error))?;
            let config = body.get("agent_config");
            let url = config.and_then(|config| config.get("webhook_url")).and_then(Value::as_str);
            if let Some(url) = url.filter(|url| !url.trim().is_empty()) {
                let url = url.trim().to_owned();
                receivers.push(Receiver { webhook: String::new(), url, events: Vec::new() });
            }
        }
        Ok(receivers)
    }

    /// Queues the news of a call within a change that closes it, for whoever wants to be told. There are no more of
    /// these than calls that were up, so the accounts' bound is not asked.
    pub(super) async fn tell(&self, change: &mut AnyConnection, record: &CallRecord) -> Result<()> {
        let status = record.status.as_str();
        for receiver in self.receivers(record.account.as_str(), record.agent.as_str()).await? {
            if receiver.events.is_empty() || receiver.events.iter().any(|event| event == status) {
                let new = NewDelivery { receiver, place: place_of(0), record: record.clone() };
                insert(change, &new, now_ms()).await?;
            }
        }
        Ok(())
    }

    /// The call of a delivery as it was then, with what was asked of it if it was asked for.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn execution_told(&self, delivery: &Delivery) -> Result<StoredExecution> {
        match self.execution(&delivery.account, &delivery.call).await {
            Ok(stored) => Ok(StoredExecution {
                record: delivery.record.clone(),
                updated_at: delivery.created_at,
                ..stored
            }),
            // The record may not be written yet.
            Err(StoreError::NotFound) => Ok(delivery.execution()),
            Err(error) => Err(error),
        }
    }

    /// Puts deliveries into the queue, as far as each account's bound goes; returns how many had no room.
    ///
    /// # Errors
    /// When the database fails; then none is queued.
    pub async fn queue_deliveries(&self, deliveries: &[NewDelivery], bound: u32) -> Result<u64> {
        let mut journal = self.begin_journal().await?;
        let mut pending: std::collections::BTreeMap<&str, i64> = std::collections::BTreeMap::new();
        let mut left_out = 0;
        let now = now_ms();
        for delivery in deliveries {
            let account = delivery.record.account.as_str();
            if !pending.contains_key(account) {
                let (count,): (i64,) = sqlx::query_as(
                    "SELECT COUNT(*) FROM webhook_deliveries WHERE account_id = $1 AND state = 'pending'",
                )
                .bind(account)
                .fetch_one(&mut *journal)
                .await?;
                pending.insert(account, count);
            }
            let waiting = pending.entry(account).or_default();
            if *waiting >= i64::from(bound) {
                left_out += 1;
                continue;
            }
            *waiting += 1;
            insert(&mut journal, delivery, now).await?;
        }
        journal.commit().await?;
        Ok(left_out)
    }

    /// Receivers with something due, the longest overdue first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn due_receivers(&self, now: i64, limit: u32) -> Result<Vec<String>> {
        let rows = sqlx::query(
            "SELECT url, MIN(next_at) AS due FROM webhook_deliveries WHERE state = 'pending' AND next_at <= $1 \
             GROUP BY url ORDER BY due LIMIT $2",
        )
        .bind(now)
        .bind(i64::from(limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(|row| Ok(row.try_get("url")?)).collect()
    }

    /// Takes due deliveries of one receiver, at most one of each call, for `lease_ms`: if this process is gone by
    /// then, they are due again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn take_deliveries(
        &self,
        url: &str,
        now: i64,
        lease_ms: i64,
        limit: u32,
    ) -> Result<Vec<Delivery>> {
        let mut journal = self.begin_journal().await?;
        let rows = sqlx::query(
            "SELECT * FROM webhook_deliveries WHERE state = 'pending' AND next_at <= $1 AND url = $2 \
             AND NOT EXISTS (SELECT 1 FROM webhook_deliveries AS earlier \
              WHERE earlier.call_id = webhook_deliveries.call_id AND earlier.state = 'pending' \
              AND earlier.webhook_id = webhook_deliveries.webhook_id AND earlier.place < webhook_deliveries.place) \
             ORDER BY next_at, place LIMIT $3",
        )
        .bind(now)
        .bind(url)
        .bind(i64::from(limit))
        .fetch_all(&mut *journal)
        .await?;
        let mut taken = Vec::with_capacity(rows.len());
        for row in &rows {
            let delivery = Delivery::of(row)?;
            let leased = sqlx::query(
                "UPDATE webhook_deliveries SET next_at = $1 WHERE id = $2 AND state = 'pending' AND next_at = $3",
            )
            .bind(now + lease_ms)
            .bind(&delivery.id)
            .bind(delivery.next_at)
            .execute(&mut *journal)
            .await?;
            // Another node may have been faster.
            if leased.rows_affected() == 1 {
                taken.push(delivery);
            }
        }
        journal.commit().await?;
        Ok(taken)
    }

    /// Writes down what came of an attempt.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_attempt(&self, delivery: &str, attempt: &DeliveryAttempt) -> Result<()> {
        let now = now_ms();
        let (state, status, error, next_at, finished_at) = match attempt {
            DeliveryAttempt::Delivered { status } => ("delivered", Some(*status), None, now, Some(now)),
            DeliveryAttempt::Again { status, error, at } => {
                ("pending", *status, Some(error.clone()), *at, None)
            }
            DeliveryAttempt::GivenUp { status, error } => {
                ("failed", *status, Some(error.clone()), now, Some(now))
            }
        };
        let mut journal = self.begin_journal().await?;
        sqlx::query(
            "UPDATE webhook_deliveries SET state = $1, attempts = attempts + 1, last_status = $2, last_error = $3, \
             next_at = $4, finished_at = $5 WHERE id = $6",
        )
        .bind(state)
        .bind(status.map(i64::from))
        .bind(error)
        .bind(next_at)
        .bind(finished_at)
        .bind(delivery)
        .execute(&mut *journal)
        .await?;
        Ok(journal.commit().await?)
    }

    /// The account's deliveries, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn deliveries(&self, account: &str, filter: &DeliveryFilter) -> Result<Vec<Delivery>> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let rows = sqlx::query(
            "SELECT * FROM webhook_deliveries WHERE account_id = $1 AND (webhook_id = $2 OR $2 = '') \
             AND (call_id = $3 OR $3 = '') AND (state = $4 OR $4 = '') AND (id < $5 OR $5 = '') \
             ORDER BY id DESC LIMIT $6",
        )
        .bind(account)
        .bind(text(&filter.webhook))
        .bind(text(&filter.call))
        .bind(text(&filter.state))
        .bind(text(&filter.cursor))
        .bind(i64::from(filter.limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(Delivery::of).collect()
    }

    /// One delivery of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn delivery(&self, account: &str, id: &str) -> Result<Delivery> {
        let row = sqlx::query("SELECT * FROM webhook_deliveries WHERE id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        Delivery::of(&row)
    }

    /// Puts a delivery into the queue again, as a new one. Returns it.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn replay_delivery(&self, account: &str, id: &str) -> Result<Delivery> {
        let delivery = self.delivery(account, id).await?;
        let receiver =
            Receiver { webhook: delivery.webhook.clone(), url: delivery.url.clone(), events: Vec::new() };
        let new = NewDelivery { receiver, place: place_of(0), record: delivery.record };
        let mut journal = self.begin_journal().await?;
        let id = insert(&mut journal, &new, now_ms()).await?;
        journal.commit().await?;
        self.delivery(account, &id).await
    }

    /// Drops deliveries that ended more than `days` ago. Returns how many went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shorten_deliveries(&self, days: u32) -> Result<u64> {
        let mut journal = self.begin_journal().await?;
        let dropped = sqlx::query(
            "DELETE FROM webhook_deliveries WHERE id IN (SELECT id FROM webhook_deliveries \
             WHERE state <> 'pending' AND finished_at < $1 ORDER BY id LIMIT $2)",
        )
        .bind(now_ms() - i64::from(days) * 86_400_000)
        .bind(SHORTEN_BY)
        .execute(&mut *journal)
        .await?
        .rows_affected();
        journal.commit().await?;
        Ok(dropped)
    }
}

/// A place in the order of a call's deliveries, behind `last`: by time, and within a millisecond one by one.
pub fn place_of(last: i64) -> i64 {
    (now_ms() << 16).max(last.saturating_add(1))
}

async fn insert(connection: &mut AnyConnection, new: &NewDelivery, now: i64) -> Result<String> {
    let id = ids::ulid(now);
    let record = serde_json::to_string(&new.record)
        .map_err(|error| corrupt(format!("webhook_deliveries/{id}"), error))?;
    sqlx::query(
        "INSERT INTO webhook_deliveries (id, account_id, webhook_id, agent_id, url, call_id, place, event, record, \
         state, attempts, next_at, created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'pending', 0, $10, $10)",
    )
    .bind(&id)
    .bind(new.record.account.as_str())
    .bind(&new.receiver.webhook)
    .bind(new.record.agent.as_str())
    .bind(&new.receiver.url)
    .bind(new.record.id.to_string())
    .bind(new.place)
    .bind(new.record.status.as_str())
    .bind(record)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(id)
}

async fn find(connection: &mut AnyConnection, account: &str, id: &str) -> Result<StoredWebhook> {
    let row = sqlx::query("SELECT * FROM webhooks WHERE id = $1 AND account_id = $2")
        .bind(id)
        .bind(account)
        .fetch_optional(connection)
        .await?
        .ok_or(StoreError::NotFound)?;
    StoredWebhook::of(&row)
}

fn secret_place(webhook: &str) -> String {
    format!("webhooks/{webhook}/secret")
}
