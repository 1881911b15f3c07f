//! Agents. The client's own object is kept whole, unknown fields and all; only the values of `websocket.headers`, where
//! tokens stand, and the token of `ingest_source_config` are taken out, sealed, and shown masked.

use std::collections::BTreeMap;

use serde_json::{Map, Value};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::numbers::StoredNumber;
use super::sealed::place;
use super::{Expected, Result, Store, StoreError, corrupt, now_ms};
use crate::ids;
use crate::secrets::Secret;

/// What stands for a header's value wherever an agent is shown. Sent back, it means "as it was".
pub const MASK: &str = "********";

/// An agent to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct NewAgent {
    /// The owner's name for it.
    pub name: String,
    /// The client's object, with header values in it.
    pub body: Map<String, Value>,
}

/// An agent as stored.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredAgent {
    /// Identifier, a UUID.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// The owner's name for it.
    pub name: String,
    /// The client's object, header values masked.
    pub body: Map<String, Value>,
    /// The header values.
    pub headers: BTreeMap<String, Secret>,
    /// The token of its `ingest_source_config`.
    pub source_token: Option<Secret>,
    /// When it was made, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
    /// Raised by every change.
    pub revision: i64,
}

impl Store {
    /// Makes an agent.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_agent(&self, account: &str, new: NewAgent) -> Result<StoredAgent> {
        let now = now_ms();
        let mut agent = StoredAgent {
            id: ids::uuid(),
            account: account.to_owned(),
            name: new.name,
            body: new.body,
            headers: BTreeMap::new(),
            source_token: None,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        take_secrets(&mut agent);
        let mut change = self.begin().await?;
        sqlx::query(
            "INSERT INTO agents (id, account_id, name, body, headers, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&agent.id)
        .bind(account)
        .bind(&agent.name)
        .bind(Value::Object(agent.body.clone()).to_string())
        .bind(self.seal_headers(&agent))
        .bind(now)
        .bind(now)
        .execute(&mut *change)
        .await?;
        change.touch_agent(&agent.id);
        change.commit().await?;
        Ok(agent)
    }

    /// One agent of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn agent(&self, account: &str, id: &str) -> Result<StoredAgent> {
        let row = sqlx::query("SELECT * FROM agents WHERE id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        self.agent_of(&row)
    }

    /// The account's agents, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn agents(&self, account: &str) -> Result<Vec<StoredAgent>> {
        let rows = sqlx::query("SELECT * FROM agents WHERE account_id = $1 ORDER BY created_at DESC, id")
            .bind(account)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| self.agent_of(row)).collect()
    }

    /// Changes an agent: `edit` gets name and object as they stand, header values masked, and leaves them as
    /// they shall be. A masked value means the value as it was.
    ///
    /// # Errors
    /// `E`, which holds what `edit` refused and [`StoreError::NotFound`].
    pub async fn change_agent<E: From<StoreError>>(
        &self,
        account: &str,
        id: &str,
        expected: &Expected,
        edit: impl FnOnce(&mut NewAgent) -> std::result::Result<(), E>,
    ) -> std::result::Result<StoredAgent, E> {
        let mut change = self.begin().await?;
        let row = sqlx::query("SELECT * FROM agents WHERE id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_optional(&mut *change)
            .await
            .map_err(StoreError::from)?
            .ok_or(StoreError::NotFound)?;
        let mut agent = self.agent_of(&row)?;
        expected.check(agent.revision)?;
        let mut new = NewAgent { name: agent.name, body: agent.body };
        edit(&mut new)?;
        agent.name = new.name;
        agent.body = new.body;
        agent.updated_at = now_ms().max(agent.updated_at + 1);
        agent.revision += 1;
        take_secrets(&mut agent);
        sqlx::query(
            "UPDATE agents SET name = $1, body = $2, headers = $3, updated_at = $4, revision = $6 WHERE id = $5",
        )
            .bind(&agent.name)
            .bind(Value::Object(agent.body.clone()).to_string())
            .bind(self.seal_headers(&agent))
            .bind(agent.updated_at)
            .bind(&agent.id)
            .bind(agent.revision)
            .execute(&mut *change)
            .await
            .map_err(StoreError::from)?;
        change.touch_agent(&agent.id);
        change.commit().await?;
        Ok(agent)
    }

    /// Deletes an agent and its batches; numbers mapped to it are mapped to none.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OtherRevision`].
    pub async fn delete_agent(&self, account: &str, id: &str, expected: &Expected) -> Result<()> {
        let mut change = self.begin().await?;
        let row = sqlx::query("SELECT revision FROM agents WHERE id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_optional(&mut *change)
            .await?
            .ok_or(StoreError::NotFound)?;
        expected.check(row.try_get("revision")?)?;
        for statement in [
            "DELETE FROM agents WHERE id = $1 AND account_id = $2",
            "DELETE FROM batches WHERE agent_id = $1 AND account_id = $2",
        ] {
            sqlx::query(statement).bind(id).bind(account).execute(&mut *change).await?;
        }
        change.touch_agent(id);
        let unmapped = sqlx::query("SELECT id FROM numbers WHERE agent_id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_all(&mut *change)
            .await?;
        for row in &unmapped {
            change.touch_number(row.try_get("id")?);
        }
        let trunks = sqlx::query("SELECT id FROM trunks WHERE default_agent_id = $1 AND account_id = $2")
            .bind(id)
            .bind(account)
            .fetch_all(&mut *change)
            .await?;
        for row in &trunks {
            change.touch_trunk(row.try_get("id")?);
        }
        sqlx::query(
            "UPDATE trunks SET default_agent_id = NULL, updated_at = $1, revision = revision + 1 \
             WHERE default_agent_id = $2 AND account_id = $3",
        )
        .bind(now_ms())
        .bind(id)
        .bind(account)
        .execute(&mut *change)
        .await?;
        sqlx::query(
            "UPDATE trunks SET revision = revision + 1 WHERE id IN \
             (SELECT trunk_id FROM numbers WHERE agent_id = $1 AND account_id = $2)",
        )
        .bind(id)
        .bind(account)
        .execute(&mut *change)
        .await?;
        sqlx::query(
            "UPDATE numbers SET agent_id = NULL, updated_at = $1, revision = revision + 1 \
             WHERE agent_id = $2 AND account_id = $3",
        )
        .bind(now_ms())
        .bind(id)
        .bind(account)
        .execute(&mut *change)
        .await?;
        change.commit().await
    }

    /// Numbers that an agent answers.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn numbers_of_agent(&self, account: &str, agent: &str) -> Result<Vec<StoredNumber>> {
        let rows = sqlx::query(
            "SELECT * FROM numbers WHERE agent_id = $1 AND account_id = $2 AND deleted_at IS NULL \
             ORDER BY created_at, id",
        )
        .bind(agent)
        .bind(account)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredNumber::of).collect()
    }

    fn seal_headers(&self, agent: &StoredAgent) -> Option<String> {
        let token = agent.source_token.as_ref().map(|token| (SOURCE_TOKEN.to_owned(), token));
        let headers = agent.headers.iter().map(|(name, value)| (name.clone(), value));
        let plain: Map<String, Value> =
            headers.chain(token).map(|(name, value)| (name, Value::from(value.reveal()))).collect();
        if plain.is_empty() {
            return None;
        }
        Some(self.sealer.seal(&headers_place(&agent.id), &Value::Object(plain).to_string()))
    }

    pub(super) fn agent_of(&self, row: &AnyRow) -> Result<StoredAgent> {
        let id: String = row.try_get("id")?;
        let row_name = || format!("agents/{id}");
        let body: String = row.try_get("body")?;
        let body = serde_json::from_str(&body).map_err(|error| corrupt(row_name(), error))?;
        let mut headers = match row.try_get::<Option<String>, _>("headers")? {
            None => BTreeMap::new(),
            Some(sealed) => {
                let plain = self.sealer.open(&headers_place(&id), &sealed)?;
                let plain: BTreeMap<String, String> =
                    serde_json::from_str(plain.reveal()).map_err(|error| corrupt(row_name(), error))?;
                plain.into_iter().map(|(name, value)| (name, Secret::new(value))).collect()
            }
        };
        let source_token = headers.remove(SOURCE_TOKEN);
        Ok(StoredAgent {
            source_token,
            account: row.try_get("account_id")?,
            name: row.try_get("name")?,
            body,
            headers,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            revision: row.try_get("revision")?,
            id,
        })
    }
}

fn headers_place(agent: &str) -> String {
    place("agents", agent, "headers")
}

/// What the token of `ingest_source_config` is sealed under, among the headers: no header has such a name.
const SOURCE_TOKEN: &str = "ingest source token";

/// Takes the secrets out of the object; a masked one keeps the value it had.
fn take_secrets(agent: &mut StoredAgent) {
    take_headers(agent);
    let before = agent.source_token.take();
    let source = agent.body.get_mut("agent_config").and_then(|config| config.get_mut("ingest_source_config"));
    let token = source.and_then(|source| source.get_mut("source_auth_token"));
    if let Some(value) = token
        && let Value::String(text) = value
    {
        agent.source_token = before.filter(|_| text == MASK).or_else(|| Some(Secret::new(text.clone())));
        *value = Value::from(MASK);
    }
}

fn take_headers(agent: &mut StoredAgent) {
    let before = std::mem::take(&mut agent.headers);
    let headers = agent.body.get_mut("websocket").and_then(|socket| socket.get_mut("headers"));
    let Some(Value::Object(headers)) = headers else { return };
    for (name, value) in headers.iter_mut() {
        let Value::String(text) = value else { continue };
        let kept = before.get(name).filter(|_| text == MASK).cloned();
        agent.headers.insert(name.clone(), kept.unwrap_or_else(|| Secret::new(text.clone())));
        *value = Value::from(MASK);
    }
}
