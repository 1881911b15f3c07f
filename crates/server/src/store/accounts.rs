//! Accounts and their API keys. A key is stored as its hash; only its prefix can be shown again.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::{Result, Store, StoreError, now_ms};
use crate::ids;
use crate::secrets::{Secret, hash_api_key, new_api_key};

/// Characters of a key that may be shown.
const PREFIX_CHARACTERS: usize = 11;

/// An API key as it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Identifier of the row.
    pub id: String,
    /// The account it opens.
    pub account: String,
    /// The key's first characters.
    pub prefix: String,
    /// What it may do; empty means everything.
    pub scopes: Vec<String>,
    /// When it was made, milliseconds since 1970.
    pub created_at: i64,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

impl ApiKey {
    fn of(row: &AnyRow) -> Result<Self> {
        let scopes: String = row.try_get("scopes")?;
        Ok(Self {
            id: row.try_get("id")?,
            account: row.try_get("account_id")?,
            prefix: row.try_get("prefix")?,
            scopes: scopes.split_whitespace().map(str::to_owned).collect(),
            created_at: row.try_get("created_at")?,
            revoked_at: row.try_get("revoked_at")?,
        })
    }
}

impl Store {
    /// Makes the account if there is none of this name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn ensure_account(&self, account: &str) -> Result<()> {
        let mut change = self.begin().await?;
        sqlx::query("INSERT INTO accounts (id, created_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
            .bind(account)
            .bind(now_ms())
            .execute(&mut *change)
            .await?;
        change.commit().await
    }

    /// Makes a key of the account, which is made too if there is none. The key is returned this once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_key(&self, account: &str, scopes: &[String]) -> Result<(ApiKey, Secret)> {
        self.ensure_account(account).await?;
        let key = new_api_key();
        let now = now_ms();
        let row = ApiKey {
            id: ids::ulid(now),
            account: account.to_owned(),
            prefix: key.reveal().chars().take(PREFIX_CHARACTERS).collect(),
            scopes: scopes.to_vec(),
            created_at: now,
            revoked_at: None,
        };
        let mut change = self.begin().await?;
        sqlx::query(
            "INSERT INTO api_keys (id, account_id, prefix, hash, scopes, created_at) \
             VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(&row.id)
        .bind(account)
        .bind(&row.prefix)
        .bind(hash_api_key(key.reveal()))
        .bind(scopes.join(" "))
        .bind(now)
        .execute(&mut *change)
        .await?;
        change.commit().await?;
        Ok((row, key))
    }

    /// The key that has this hash and is not revoked.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn key_by_hash(&self, hash: &str) -> Result<Option<ApiKey>> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE hash = $1 AND revoked_at IS NULL")
            .bind(hash)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map(ApiKey::of).transpose()
    }

    /// All keys, or one account's, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keys(&self, account: Option<&str>) -> Result<Vec<ApiKey>> {
        let rows = sqlx::query(
            "SELECT * FROM api_keys WHERE account_id = $1 OR $2 = 1 ORDER BY account_id, created_at, id",
        )
        .bind(account.unwrap_or_default())
        .bind(i64::from(account.is_none()))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(ApiKey::of).collect()
    }

    /// Revokes the key of this identifier or prefix.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no key, or more than one, answers to it.
    pub async fn revoke_key(&self, key: &str) -> Result<ApiKey> {
        let mut change = self.begin().await?;
        let rows =
            sqlx::query("SELECT * FROM api_keys WHERE (id = $1 OR prefix = $1) AND revoked_at IS NULL")
                .bind(key)
                .fetch_all(&mut *change)
                .await?;
        let [row] = rows.as_slice() else { return Err(StoreError::NotFound) };
        let mut row = ApiKey::of(row)?;
        row.revoked_at = Some(now_ms());
        sqlx::query("UPDATE api_keys SET revoked_at = $1 WHERE id = $2")
            .bind(row.revoked_at)
            .bind(&row.id)
            .execute(&mut *change)
            .await?;
        change.commit().await?;
        Ok(row)
    }
}
