//! Secrets that an account keeps for its agents' services, by name (`OPENAI_API_KEY`): sealed, and never shown whole.
//!
//! Headers of agents' sockets may say `{provider:NAME}`; whoever reads agents for routing gets the secret in its place. A
//! name that is not kept stays as it is written, and the call that needs it says so.

use std::collections::BTreeMap;

use serde_json::json;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::change::Change;
use super::sealed::place;
use super::{Result, Store, StoreError, StoredAgent, now_ms};
use crate::ids;
use crate::secrets::Secret;

/// Secrets of one account.
const MOST_PROVIDERS: i64 = 200;

/// How a place for a secret begins; it ends with a brace.
pub const PLACE_BEGINS: &str = "{provider:";

/// A secret as stored.
#[derive(Debug)]
pub struct StoredProvider {
    /// Its identifier, a UUID.
    pub id: String,
    /// What it is called; one of a name per account.
    pub name: String,
    /// The secret itself.
    pub value: Secret,
    /// When the name was first given a secret, milliseconds since 1970.
    pub created_at: i64,
}

impl Store {
    /// Keeps a secret by a name; one of the same name is replaced.
    ///
    /// # Errors
    /// [`StoreError::TooManyProviders`].
    pub async fn set_provider(&self, account: &str, name: &str, value: &Secret) -> Result<()> {
        let now = now_ms();
        let mut change = self.begin().await?;
        let known: Option<(String,)> =
            sqlx::query_as("SELECT id FROM providers WHERE account_id = $1 AND name = $2")
                .bind(account)
                .bind(name)
                .fetch_optional(&mut *change)
                .await?;
        let (count,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM providers WHERE account_id = $1")
            .bind(account)
            .fetch_one(&mut *change)
            .await?;
        if known.is_none() && count >= MOST_PROVIDERS {
            return Err(StoreError::TooManyProviders);
        }
        let before = known.as_ref().map(|_| json!({"name": name, "set_at": null}));
        let id = known.map_or_else(ids::uuid, |(id,)| id);
        sqlx::query(
            "INSERT INTO providers (id, account_id, name, value, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $5) \
             ON CONFLICT (id) DO UPDATE SET value = excluded.value, updated_at = excluded.updated_at",
        )
        .bind(&id)
        .bind(account)
        .bind(name)
        .bind(self.sealer.seal(&value_place(&id), value.reveal()))
        .bind(now)
        .execute(&mut *change)
        .await?;
        change.note_deed(account, "provider", &id, before, Some(json!({"name": name, "set_at": now})));
        touch_agents(&mut change, account).await?;
        change.commit().await
    }

    /// The account's secrets by name; there are few.
    ///
    /// # Errors
    /// When the database fails, or a secret cannot be opened.
    pub async fn providers(&self, account: &str) -> Result<Vec<StoredProvider>> {
        let rows = sqlx::query("SELECT * FROM providers WHERE account_id = $1 ORDER BY name")
            .bind(account)
            .fetch_all(&self.readers)
            .await?;
        rows.iter().map(|row| self.provider_of(row)).collect()
    }

    /// Forgets the secret of a name.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn remove_provider(&self, account: &str, name: &str) -> Result<()> {
        let mut change = self.begin().await?;
        let (id,): (String,) = sqlx::query_as("SELECT id FROM providers WHERE account_id = $1 AND name = $2")
            .bind(account)
            .bind(name)
            .fetch_optional(&mut *change)
            .await?
            .ok_or(StoreError::NotFound)?;
        sqlx::query("DELETE FROM providers WHERE id = $1").bind(&id).execute(&mut *change).await?;
        change.note_deed(account, "provider", &id, Some(json!({"name": name})), None);
        touch_agents(&mut change, account).await?;
        change.commit().await
    }

    /// Puts secrets in their places in the headers of these agents.
    pub(super) async fn fill_in_providers(
        &self,
        reader: &mut AnyConnection,
        agents: &mut [StoredAgent],
    ) -> Result<()> {
        let has_place =
            |agent: &StoredAgent| agent.headers.values().any(|value| value.reveal().contains(PLACE_BEGINS));
        let mut known: BTreeMap<String, Vec<StoredProvider>> = BTreeMap::new();
        for agent in agents.iter_mut().filter(|agent| has_place(agent)) {
            if !known.contains_key(&agent.account) {
                let rows = sqlx::query("SELECT * FROM providers WHERE account_id = $1")
                    .bind(&agent.account)
                    .fetch_all(&mut *reader)
                    .await?;
                let kept = rows.iter().map(|row| self.provider_of(row)).collect::<Result<_>>()?;
                known.insert(agent.account.clone(), kept);
            }
            let kept = known.get(&agent.account).map_or(&[][..], Vec::as_slice);
            for value in agent.headers.values_mut() {
                *value = filled(value.reveal(), kept);
            }
        }
        Ok(())
    }

    fn provider_of(&self, row: &AnyRow) -> Result<StoredProvider> {
        let id: String = row.try_get("id")?;
        let value = self.sealer.open(&value_place(&id), &row.try_get::<String, _>("value")?)?;
        Ok(StoredProvider { value, name: row.try_get("name")?, created_at: row.try_get("created_at")?, id })
    }
}

/// Agents whose headers may hold a secret of the account are to be read again.
async fn touch_agents(change: &mut Change, account: &str) -> Result<()> {
    let rows: Vec<(String,)> =
        sqlx::query_as("SELECT id FROM agents WHERE account_id = $1 AND headers IS NOT NULL")
            .bind(account)
            .fetch_all(&mut **change)
            .await?;
    rows.iter().for_each(|(id,)| change.touch_agent(id));
    Ok(())
}

/// The text with secrets in their places. What stands in a secret is not looked at again.
fn filled(text: &str, kept: &[StoredProvider]) -> Secret {
    let mut pieces = text.split(PLACE_BEGINS);
    let mut whole = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let named = piece.split_once('}');
        let secret = named.and_then(|(name, rest)| {
            let provider = kept.iter().find(|provider| provider.name == name)?;
            Some((&provider.value, rest))
        });
        match secret {
            Some((value, rest)) => {
                whole.push_str(value.reveal());
                whole.push_str(rest);
            }
            None => {
                whole.push_str(PLACE_BEGINS);
                whole.push_str(piece);
            }
        }
    }
    Secret::new(whole)
}

fn value_place(id: &str) -> String {
    place("providers", id, "value")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_put_in_their_places_once() {
        let provider = |name: &str, value: &str| StoredProvider {
            id: String::new(),
            name: name.to_owned(),
            value: Secret::new(value),
            created_at: 0,
        };
        let kept = [provider("A", "s3cret"), provider("B", "{provider:A}")];
        for (text, whole) in [
            ("Bearer {provider:A}", "Bearer s3cret"),
            ("{provider:A}{provider:B}.", "s3cret{provider:A}."),
            ("{provider:C} {provider:A}", "{provider:C} s3cret"),
            ("{provider:A", "{provider:A"),
            ("no place", "no place"),
        ] {
            assert_eq!(filled(text, &kept).reveal(), whole);
        }
    }
}
