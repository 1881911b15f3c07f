//! Accounts, the accounts under them, and their API keys. A key is stored as its hash; only its prefix can be
//! shown again.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::{Value, json};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};

use super::{Expected, Result, Store, StoreError, corrupt, is_taken, now_ms, numbers};
use crate::ids;
use crate::secrets::{Secret, hash_api_key, new_api_key};

/// Characters of a key that may be shown.
const PREFIX_CHARACTERS: usize = 11;

/// Keys of an account that are not revoked; more is a mistake somewhere.
const MOST_KEYS: i64 = 1_000;

/// An account.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    /// Its identifier.
    pub id: String,
    /// The account it stands under; `None` for one of the operator's own customers.
    pub parent: Option<String>,
    /// What its owner calls it.
    pub name: String,
    /// Whom to write to.
    pub email: Option<String>,
    /// The owner's own notes.
    pub metadata: Option<Value>,
    /// When it was made, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
    /// Raised by every change.
    pub revision: i64,
}

/// An account to be made, or what it shall be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AccountSettings {
    /// What its owner calls it.
    pub name: String,
    /// Whom to write to.
    pub email: Option<String>,
    /// The owner's own notes.
    pub metadata: Option<Value>,
}

/// What an account used in a span of time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    /// Calls by final status.
    pub calls: std::collections::BTreeMap<String, i64>,
    /// Milliseconds from answer to end, of all calls together.
    pub conversation_ms: i64,
}

/// An API key to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKey {
    /// The account it opens.
    pub account: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may do; empty means everything.
    pub scopes: Vec<String>,
    /// Where it may be used from; empty means anywhere.
    pub allowed_addresses: Vec<IpNet>,
    /// Until when it is good, milliseconds since 1970.
    pub expires_at: Option<i64>,
}

/// An API key as it can be shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Identifier of the row.
    pub id: String,
    /// The account it opens.
    pub account: String,
    /// The key's first characters.
    pub prefix: String,
    /// What its owner calls it.
    pub name: String,
    /// What it may do; empty means everything.
    pub scopes: Vec<String>,
    /// Where it may be used from; empty means anywhere.
    pub allowed_addresses: Vec<IpNet>,
    /// When it was made, milliseconds since 1970.
    pub created_at: i64,
    /// Until when it is good.
    pub expires_at: Option<i64>,
    /// When it was revoked.
    pub revoked_at: Option<i64>,
}

impl ApiKey {
    fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let scopes: String = row.try_get("scopes")?;
        let addresses: String = row.try_get("allowed_addresses")?;
        Ok(Self {
            account: row.try_get("account_id")?,
            prefix: row.try_get("prefix")?,
            name: row.try_get("name")?,
            scopes: scopes.split_whitespace().map(str::to_owned).collect(),
            allowed_addresses: addresses
                .split_whitespace()
                .map(|range| range.parse().map_err(|error| corrupt(format!("api_keys/{id}"), error)))
                .collect::<Result<_>>()?,
            created_at: row.try_get("created_at")?,
            expires_at: row.try_get("expires_at")?,
            revoked_at: row.try_get("revoked_at")?,
            id,
        })
    }

    /// Whether the key may be used from there. An address that is not known is within no range.
    pub fn admits(&self, address: Option<IpAddr>) -> bool {
        self.allowed_addresses.is_empty()
            || address.is_some_and(|address| {
                let address = address.to_canonical();
                self.allowed_addresses.iter().any(|range| range.contains(&address))
            })
    }

    /// Whether the key's time is over at this moment, milliseconds since 1970.
    pub fn has_expired(&self, now: i64) -> bool {
        self.expires_at.is_some_and(|until| until <= now)
    }

    /// As the audit log shows it.
    fn state(&self) -> Value {
        json!({
            "prefix": self.prefix,
            "name": self.name,
            "scopes": self.scopes,
            "allowed_addresses": self.allowed_addresses,
            "expires_at": self.expires_at,
            "revoked_at": self.revoked_at,
        })
    }
}

impl Account {
    fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let metadata: Option<String> = row.try_get("metadata")?;
        let metadata = metadata.map(|text| serde_json::from_str(&text)).transpose();
        let created_at: i64 = row.try_get("created_at")?;
        Ok(Self {
            parent: row.try_get("parent_id")?,
            name: row.try_get("name")?,
            email: row.try_get("email")?,
            metadata: metadata.map_err(|error| corrupt(format!("accounts/{id}"), error))?,
            created_at,
            updated_at: row.try_get::<i64, _>("updated_at")?.max(created_at),
            revision: row.try_get("revision")?,
            id,
        })
    }

    fn state(&self) -> Value {
        json!({"parent": self.parent, "name": self.name, "email": self.email, "metadata": self.metadata})
    }
}

impl Store {
    /// Makes the account if there is none of this name.
    ///
    /// # Errors
    /// When the database fails, or the account was deleted ([`StoreError::AccountTaken`]).
    pub async fn ensure_account(&self, account: &str) -> Result<()> {
        let mut change = self.begin().await?;
        let made =
            sqlx::query("INSERT INTO accounts (id, created_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
                .bind(account)
                .bind(now_ms())
                .execute(&mut *change)
                .await?;
        if made.rows_affected() == 0 && find(&mut change, account).await?.is_none() {
            return Err(StoreError::AccountTaken);
        }
        change.commit().await
    }

    /// Makes an account, under another or on its own; without an identifier it gets one.
    ///
    /// # Errors
    /// [`StoreError::AccountTaken`].
    pub async fn create_account(
        &self,
        id: Option<String>,
        parent: Option<&str>,
        settings: AccountSettings,
    ) -> Result<Account> {
        let now = now_ms();
        let account = Account {
            id: id.unwrap_or_else(ids::uuid),
            parent: parent.map(str::to_owned),
            name: settings.name,
            email: settings.email,
            metadata: settings.metadata,
            created_at: now,
            updated_at: now,
            revision: 1,
        };
        let mut change = self.begin().await?;
        let inserted = sqlx::query(
            "INSERT INTO accounts (id, parent_id, name, email, metadata, created_at, updated_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $6)",
        )
        .bind(&account.id)
        .bind(account.parent.clone())
        .bind(&account.name)
        .bind(account.email.clone())
        .bind(account.metadata.as_ref().map(Value::to_string))
        .bind(now)
        .execute(&mut *change)
        .await;
        match inserted {
            Ok(_) => {}
            Err(error) if is_taken(&error) => return Err(StoreError::AccountTaken),
            Err(error) => return Err(error.into()),
        }
        change.note_deed(&account.id, "account", &account.id, None, Some(account.state()));
        change.commit().await?;
        Ok(account)
    }

    /// One account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn account(&self, id: &str) -> Result<Account> {
        let mut reader = self.begin_read().await?;
        find(&mut reader, id).await?.ok_or(StoreError::NotFound)
    }

    /// The accounts under `parent`, or all of them, by identifier; those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn accounts(&self, parent: Option<&str>, after: &str, limit: u32) -> Result<Vec<Account>> {
        let query = match parent {
            Some(parent) => sqlx::query(
                "SELECT * FROM accounts WHERE parent_id = $3 AND id > $1 AND deleted_at IS NULL \
                 ORDER BY id LIMIT $2",
            )
            .bind(after)
            .bind(i64::from(limit))
            .bind(parent),
            None => sqlx::query(
                "SELECT * FROM accounts WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2",
            )
            .bind(after)
            .bind(i64::from(limit)),
        };
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(Account::of).collect()
    }

    /// Changes an account: `edit` gets its settings as they stand and leaves them as they shall be.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OtherRevision`].
    pub async fn change_account(
        &self,
        id: &str,
        expected: &Expected,
        edit: impl FnOnce(&mut AccountSettings) + Send,
    ) -> Result<Account> {
        let mut change = self.begin().await?;
        let before = find(&mut change, id).await?.ok_or(StoreError::NotFound)?;
        expected.check(before.revision)?;
        let Account { name, email, metadata, .. } = before.clone();
        let mut settings = AccountSettings { name, email, metadata };
        edit(&mut settings);
        let AccountSettings { name, email, metadata } = settings;
        let updated_at = now_ms().max(before.updated_at + 1);
        let revision = before.revision + 1;
        let account = Account { name, email, metadata, updated_at, revision, ..before.clone() };
        sqlx::query(
            "UPDATE accounts SET name = $1, email = $2, metadata = $3, updated_at = $4, revision = $5 WHERE id = $6",
        )
        .bind(&account.name)
        .bind(account.email.clone())
        .bind(account.metadata.as_ref().map(Value::to_string))
        .bind(account.updated_at)
        .bind(account.revision)
        .bind(id)
        .execute(&mut *change)
        .await?;
        change.note_deed(id, "account", id, Some(before.state()), Some(account.state()));
        change.commit().await?;
        Ok(account)
    }

    /// Deletes an account: its keys are revoked and its trunks switched off in the same change. Its rows stay, so
    /// that its records can still be accounted for; its identifier is never given again.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OtherRevision`], [`StoreError::AccountInUse`] while other accounts
    /// stand under it.
    pub async fn delete_account(&self, id: &str, expected: &Expected) -> Result<Account> {
        let mut change = self.begin().await?;
        let account = find(&mut change, id).await?.ok_or(StoreError::NotFound)?;
        expected.check(account.revision)?;
        let (children,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM accounts WHERE parent_id = $1 AND deleted_at IS NULL")
                .bind(id)
                .fetch_one(&mut *change)
                .await?;
        if children > 0 {
            return Err(StoreError::AccountInUse { accounts: children });
        }
        let now = now_ms();
        for statement in [
            "UPDATE accounts SET deleted_at = $1, revision = revision + 1 WHERE id = $2",
            "UPDATE api_keys SET revoked_at = $1 WHERE account_id = $2 AND revoked_at IS NULL",
        ] {
            sqlx::query(statement).bind(now).bind(id).execute(&mut *change).await?;
        }
        let trunks = sqlx::query("SELECT id FROM trunks WHERE account_id = $1 AND is_active = 1")
            .bind(id)
            .fetch_all(&mut *change)
            .await?;
        for row in &trunks {
            let trunk: String = row.try_get("id")?;
            sqlx::query(
                "UPDATE trunks SET is_active = 0, revision = revision + 1, updated_at = $1 WHERE id = $2",
            )
            .bind(now)
            .bind(&trunk)
            .execute(&mut *change)
            .await?;
            numbers::release(&mut change, &trunk).await?;
            change.touch_trunk(&trunk);
        }
        change.note_deed(id, "account", id, Some(account.state()), None);
        change.commit().await?;
        Ok(account)
    }

    /// What an account used between two times, milliseconds since 1970.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn usage(&self, account: &str, since: i64, before: i64) -> Result<Usage> {
        let mut usage = Usage::default();
        let mut cursor = (since, String::new());
        // In pages, so that a busy month is not held at once.
        loop {
            let rows = sqlx::query(
                "SELECT id, started_at, status, record FROM executions WHERE account_id = $1 AND is_final = 1 \
                 AND started_at < $2 AND (started_at > $3 OR (started_at = $3 AND id > $4)) \
                 ORDER BY started_at, id LIMIT 1000",
            )
            .bind(account)
            .bind(before)
            .bind(cursor.0)
            .bind(&cursor.1)
            .fetch_all(&self.readers)
            .await?;
            let Some(last) = rows.last() else { return Ok(usage) };
            cursor = (last.try_get("started_at")?, last.try_get("id")?);
            for row in &rows {
                *usage.calls.entry(row.try_get("status")?).or_default() += 1;
                let text: String = row.try_get("record")?;
                let record: tandem_call::CallRecord =
                    serde_json::from_str(&text).map_err(|error| corrupt("executions".to_owned(), error))?;
                usage.conversation_ms += i64::try_from(record.duration_ms()).unwrap_or(0);
            }
        }
    }

    /// Makes a key of the account, which is made too if there is none. The key is returned this once.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create_key(&self, account: &str, scopes: &[String]) -> Result<(ApiKey, Secret)> {
        self.ensure_account(account).await?;
        let (account, scopes) = (account.to_owned(), scopes.to_vec());
        self.add_key(NewKey { account, scopes, ..NewKey::default() }).await
    }

    /// Makes a key of an account that is there. The key is returned this once.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the account, [`StoreError::TooManyKeys`].
    pub async fn add_key(&self, new: NewKey) -> Result<(ApiKey, Secret)> {
        let mut change = self.begin().await?;
        let account = find(&mut change, &new.account).await?.ok_or(StoreError::NotFound)?;
        let (keys,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM api_keys WHERE account_id = $1 AND revoked_at IS NULL")
                .bind(&new.account)
                .fetch_one(&mut *change)
                .await?;
        if keys >= MOST_KEYS {
            return Err(StoreError::TooManyKeys);
        }
        let key = new_api_key(account.parent.is_some());
        let now = now_ms();
        let row = ApiKey {
            id: ids::ulid(now),
            account: new.account,
            prefix: key.reveal().chars().take(PREFIX_CHARACTERS).collect(),
            name: new.name,
            scopes: new.scopes,
            allowed_addresses: new.allowed_addresses,
            created_at: now,
            expires_at: new.expires_at,
            revoked_at: None,
        };
        let ranges: Vec<String> = row.allowed_addresses.iter().map(ToString::to_string).collect();
        sqlx::query(
            "INSERT INTO api_keys (id, account_id, prefix, hash, name, scopes, allowed_addresses, created_at, \
             expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
        )
        .bind(&row.id)
        .bind(&row.account)
        .bind(&row.prefix)
        .bind(hash_api_key(key.reveal()))
        .bind(&row.name)
        .bind(row.scopes.join(" "))
        .bind(ranges.join(" "))
        .bind(now)
        .bind(row.expires_at)
        .execute(&mut *change)
        .await?;
        change.note_deed(&row.account, "key", &row.id, None, Some(row.state()));
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

    /// One key, revoked or not, whosever it is: who asks has to be held against its account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn key(&self, id: &str) -> Result<ApiKey> {
        let row = sqlx::query("SELECT * FROM api_keys WHERE id = $1")
            .bind(id)
            .fetch_optional(&self.readers)
            .await?
            .ok_or(StoreError::NotFound)?;
        ApiKey::of(&row)
    }

    /// All keys, or one account's, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keys(&self, account: Option<&str>) -> Result<Vec<ApiKey>> {
        let query = match account {
            Some(account) => {
                sqlx::query("SELECT * FROM api_keys WHERE account_id = $1 ORDER BY created_at, id")
                    .bind(account)
            }
            None => sqlx::query("SELECT * FROM api_keys ORDER BY account_id, created_at, id"),
        };
        let rows = query.fetch_all(&self.readers).await?;
        rows.iter().map(ApiKey::of).collect()
    }

    /// Whether anybody has, or had, a key.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn has_keys(&self) -> Result<bool> {
        let row = sqlx::query("SELECT id FROM api_keys LIMIT 1").fetch_optional(&self.readers).await?;
        Ok(row.is_some())
    }

    /// Revokes the key of this identifier or prefix: at once, for every request is held against the store.
    /// `account` narrows it to one account's keys.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when no key, or more than one, answers to it.
    pub async fn revoke_key(&self, account: Option<&str>, key: &str) -> Result<ApiKey> {
        let mut change = self.begin().await?;
        let rows =
            sqlx::query("SELECT * FROM api_keys WHERE (id = $1 OR prefix = $1) AND revoked_at IS NULL")
                .bind(key)
                .fetch_all(&mut *change)
                .await?;
        let mut keys = rows.iter().map(ApiKey::of).collect::<Result<Vec<_>>>()?;
        keys.retain(|key| account.is_none_or(|account| key.account == account));
        let [before] = keys.as_slice() else { return Err(StoreError::NotFound) };
        let row = ApiKey { revoked_at: Some(now_ms()), ..before.clone() };
        sqlx::query("UPDATE api_keys SET revoked_at = $1 WHERE id = $2")
            .bind(row.revoked_at)
            .bind(&row.id)
            .execute(&mut *change)
            .await?;
        change.note_deed(&row.account, "key", &row.id, Some(before.state()), Some(row.state()));
        change.commit().await?;
        Ok(row)
    }
}

/// An account that is not deleted.
async fn find(connection: &mut AnyConnection, id: &str) -> Result<Option<Account>> {
    let row = sqlx::query("SELECT * FROM accounts WHERE id = $1 AND deleted_at IS NULL")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(Account::of).transpose()
}
