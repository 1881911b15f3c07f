//! An account as one JSON text: its name, notes and balance, its trunks, numbers, mappings, agents, webhooks, batches and providers' secrets, column by
//! column as they are stored, and what can be shown of its API keys.
//!
//! Secrets are sealed with a key given for the purpose, or left out; never in clear. An import is one change: all of it
//! or nothing, and what stands in its way is named whole, not one obstacle at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sqlx::any::AnyRow;
use sqlx::{AssertSqlSafe, Column as _, Row as _, TypeInfo as _, ValueRef as _};

use super::change::Change;
use super::numbers;
use super::sealed::{SEALED, Sealed, place};
use super::{Result, Store, StoreError, corrupt, now_ms};
use crate::secrets::{Sealer, SecretError};

/// The form of the text.
const VERSION: u32 = 1;

/// The tables of an account that go along, those referred to first, and which rows of them.
const TABLES: &[(&str, &str)] = &[
    ("agents", ""),
    ("trunks", ""),
    ("gateways", ""),
    ("ip_identifiers", ""),
    ("trunk_credentials", ""),
    ("numbers", "AND deleted_at IS NULL"),
    ("webhooks", ""),
    ("providers", ""),
    ("batches", ""),
];

/// Obstacles that are named; of more, their count is told.
const NAMED: usize = 50;

type Columns = Map<String, Value>;

/// An exported account.
#[derive(Debug, Serialize, Deserialize)]
pub struct Export {
    /// The form of this text.
    tandem_export: u32,
    /// Whose it was.
    pub account: String,
    /// When, milliseconds since 1970.
    pub exported_at: i64,
    /// What is said of the account itself; absent in files of earlier programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    profile: Option<Profile>,
    /// A text sealed with the key of the secrets; absent when they were left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    seal_check: Option<String>,
    /// Rows by table.
    tables: BTreeMap<String, Vec<Columns>>,
    /// Of each API key its prefix, scopes and times. Keys themselves do not move: new ones are made.
    pub api_keys: Vec<Columns>,
}

/// What is said of an account itself. An account that is there already keeps its own.
#[derive(Debug, Serialize, Deserialize)]
struct Profile {
    name: String,
    email: Option<String>,
    metadata: Option<Value>,
    /// What it may still spend; null is no bound.
    balance_millicents: Option<i64>,
}

/// What an import brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Rows by table.
    pub rows: BTreeMap<String, usize>,
    /// Secrets that were not in the file: `table/id/column`.
    pub without_secret: Vec<String>,
}

/// Why an account was not exported or imported.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    /// Not a text of ours.
    #[error("this is no export of an account that this program can read: {0}")]
    Unreadable(String),
    /// There is no such account.
    #[error("there is no account {0:?}; `tandem key list` shows those that have keys")]
    NoAccount(String),
    /// The secrets of the file are sealed, and with another key or none was given.
    #[error(
        "the secrets of this file are sealed with another key; give the one it was exported with (--key-file)"
    )]
    WrongKey,
    /// What is there already.
    #[error("nothing was imported, because of what is there already:\n  {}", .0.join("\n  "))]
    Collisions(Vec<String>),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for TransferError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

fn export_place(table: &str, id: &str, column: &str) -> String {
    format!("export/{}", place(table, id, column))
}

/// The columns of the table that hold secrets.
fn sealed_of(table: &str) -> impl Iterator<Item = &'static Sealed> {
    SEALED.iter().filter(move |sealed| sealed.table == table)
}

/// What the row's secret is bound to in the store.
fn place_of(sealed: &Sealed, row: &Columns) -> String {
    let key = |key: &&str| row.get(*key).and_then(Value::as_str).unwrap_or_default().to_owned();
    (sealed.place)(&sealed.keys.iter().map(key).collect::<Vec<_>>())
}

impl Store {
    /// The account as one value; its secrets sealed with `key`, or left out.
    ///
    /// # Errors
    /// When there is no such account, the database fails or a secret cannot be opened.
    pub async fn export_account(
        &self,
        account: &str,
        key: Option<&Sealer>,
    ) -> std::result::Result<Export, TransferError> {
        let mut reader = self.begin_read().await?;
        let row = sqlx::query("SELECT name, email, metadata, balance_millicents FROM accounts WHERE id = $1")
            .bind(account)
            .fetch_optional(&mut *reader)
            .await?
            .ok_or_else(|| TransferError::NoAccount(account.to_owned()))?;
        let metadata: Option<String> = row.try_get("metadata")?;
        let metadata = metadata.map(|text| serde_json::from_str(&text)).transpose();
        let profile = Profile {
            name: row.try_get("name")?,
            email: row.try_get("email")?,
            metadata: metadata.map_err(|error| corrupt(format!("accounts/{account}"), error))?,
            balance_millicents: row.try_get("balance_millicents")?,
        };
        let mut tables = BTreeMap::new();
        for (table, rest) in TABLES {
            let select = format!("SELECT * FROM {table} WHERE account_id = $1 {rest} ORDER BY id");
            let rows = sqlx::query(AssertSqlSafe(select)).bind(account).fetch_all(&mut *reader).await?;
            let mut list = Vec::with_capacity(rows.len());
            for row in &rows {
                list.push(self.columns_for_export(table, row, key)?);
            }
            tables.insert((*table).to_owned(), list);
        }
        let keys = sqlx::query(
            "SELECT id, prefix, scopes, created_at, revoked_at FROM api_keys WHERE account_id = $1 ORDER BY id",
        )
        .bind(account)
        .fetch_all(&mut *reader)
        .await?;
        Ok(Export {
            tandem_export: VERSION,
            account: account.to_owned(),
            exported_at: now_ms(),
            profile: Some(profile),
            seal_check: key.map(|key| key.seal("export", "tandem")),
            tables,
            api_keys: keys.iter().map(columns).collect::<Result<_>>()?,
        })
    }

    fn columns_for_export(&self, table: &str, row: &AnyRow, key: Option<&Sealer>) -> Result<Columns> {
        let mut columns = columns(row)?;
        columns.remove("account_id");
        let id = id_of(table, &columns)?;
        for sealed in sealed_of(table) {
            let place = place_of(sealed, &columns);
            let Some(Value::String(text)) = columns.get(sealed.column) else { continue };
            let secret = self.sealer.open(&place, text)?;
            let value = match key {
                Some(key) => key.seal(&export_place(table, &id, sealed.column), secret.reveal()).into(),
                None => Value::Null,
            };
            columns.insert(sealed.column.to_owned(), value);
        }
        Ok(columns)
    }

    /// Takes an exported account in, as `account`, which is made if there is none: all of it or nothing.
    ///
    /// # Errors
    /// [`TransferError::Collisions`] names what is there already; then, as with any error, nothing was imported.
    pub async fn import_account(
        &self,
        account: &str,
        export: Export,
        key: Option<&Sealer>,
    ) -> std::result::Result<Imported, TransferError> {
        if export.tandem_export != VERSION {
            let why = format!("it is of form {}, and form {VERSION} is known", export.tandem_export);
            return Err(TransferError::Unreadable(why));
        }
        if let Some(sealed) = &export.seal_check {
            let key = key.ok_or(TransferError::WrongKey)?;
            key.open("export", sealed).map_err(|_| TransferError::WrongKey)?;
        }
        check_tables(&export.tables)?;
        let mut change = self.begin().await?;
        let collisions = collisions(&mut change, account, &export.tables).await?;
        if !collisions.is_empty() {
            return Err(TransferError::Collisions(collisions));
        }
        let made =
            sqlx::query("INSERT INTO accounts (id, created_at) VALUES ($1, $2) ON CONFLICT (id) DO NOTHING")
                .bind(account)
                .bind(now_ms())
                .execute(&mut *change)
                .await?;
        if let Some(profile) = export.profile.as_ref().filter(|_| made.rows_affected() == 1) {
            write_profile(&mut change, account, profile).await?;
        }
        let mut imported = Imported::default();
        for (table, _) in TABLES {
            let rows = export.tables.get(*table).map_or(&[][..], Vec::as_slice);
            for row in rows {
                let mut row = self.columns_for_import(table, row, key, &mut imported)?;
                let secret = match *table {
                    "trunk_credentials" => Some("password"),
                    "webhooks" => Some("secret"),
                    "providers" => Some("value"),
                    _ => None,
                };
                if *table == "batches" {
                    wait_again(&mut row, export.exported_at);
                }
                // It would prove nobody, and sign nothing.
                if secret.is_some_and(|column| row.get(column).is_none_or(Value::is_null)) {
                    continue;
                }
                insert(&mut change, table, account, &row).await?;
                let id = id_of(table, &row)?;
                match *table {
                    "trunks" => change.touch_trunk(&id),
                    "numbers" => change.touch_number(&id),
                    "agents" => change.touch_agent(&id),
                    "webhooks" => change.note_deed(account, "webhook", &id, None, Some(shown(&row, WEBHOOK))),
                    "batches" => change.note_deed(account, "batch", &id, None, Some(shown(&row, BATCH))),
                    "providers" => {
                        change.note_deed(account, "provider", &id, None, Some(shown(&row, &["name"])))
                    }
                    _ => {}
                }
            }
            imported.rows.insert((*table).to_owned(), rows.len());
        }
        for trunk in active_trunks(&export.tables) {
            numbers::claim_all(&mut change, trunk).await?;
        }
        change.commit().await?;
        Ok(imported)
    }

    fn columns_for_import(
        &self,
        table: &str,
        row: &Columns,
        key: Option<&Sealer>,
        imported: &mut Imported,
    ) -> std::result::Result<Columns, TransferError> {
        let mut row = row.clone();
        let id = id_of(table, &row)?;
        for sealed in sealed_of(table) {
            let column = sealed.column;
            let Some(Value::String(text)) = row.get(column) else {
                if needs_secret(table, &row, column) {
                    imported.without_secret.push(place(table, &id, column));
                }
                continue;
            };
            let opened = key.map(|key| key.open(&export_place(table, &id, column), text));
            let secret = match opened {
                Some(Ok(secret)) => secret,
                Some(Err(SecretError::WrongKey { .. })) | None => return Err(TransferError::WrongKey),
                Some(Err(error)) => return Err(StoreError::from(error).into()),
            };
            let place = place_of(sealed, &row);
            row.insert(column.to_owned(), self.sealer.seal(&place, secret.reveal()).into());
        }
        Ok(row)
    }
}

/// What the audit log says of a webhook that came to be, and of a batch.
const WEBHOOK: &[&str] = &["url", "description", "events", "is_active"];
const BATCH: &[&str] = &["agent_id", "file_name", "state", "scheduled_at"];

fn shown(row: &Columns, names: &[&str]) -> Value {
    Value::Object(
        names.iter().filter_map(|name| Some(((*name).to_owned(), row.get(*name)?.clone()))).collect(),
    )
}

/// Calls do not move: a batch whose time had not come when it was exported waits to be scheduled again.
fn wait_again(batch: &mut Columns, exported_at: i64) {
    let is_to_come = batch.get("scheduled_at").and_then(Value::as_i64).is_some_and(|at| at > exported_at);
    if is_to_come && batch.get("state").and_then(Value::as_str) == Some("scheduled") {
        batch.insert("state".to_owned(), "created".into());
        batch.insert("scheduled_at".to_owned(), Value::Null);
    }
}

/// Whether a row without this secret was one with it before the export.
fn needs_secret(table: &str, row: &Columns, column: &str) -> bool {
    match (table, column) {
        // Without it a credential is none, nor a webhook that signs nothing, nor a provider; the row stays behind.
        ("trunk_credentials", "password") | ("webhooks", "secret") | ("providers", "value") => true,
        ("agents", "headers") => {
            row.get("body").and_then(Value::as_str).is_some_and(|body| body.contains(super::MASK))
        }
        _ => false,
    }
}

/// A row as JSON: texts and integers, which is all the schema knows.
fn columns(row: &AnyRow) -> Result<Columns> {
    let mut columns = Columns::new();
    for column in row.columns() {
        let raw = row.try_get_raw(column.ordinal())?;
        let value = if raw.is_null() {
            Value::Null
        } else if raw.type_info().name() == "TEXT" {
            row.try_get::<String, _>(column.ordinal())?.into()
        } else {
            row.try_get::<i64, _>(column.ordinal())?.into()
        };
        columns.insert(column.name().to_owned(), value);
    }
    Ok(columns)
}

fn id_of(table: &str, row: &Columns) -> Result<String> {
    let id = row.get("id").and_then(Value::as_str);
    id.map(str::to_owned).ok_or_else(|| corrupt(format!("a row of {table}"), "it has no id"))
}

/// Looks at what came from a file before any of it comes near a statement.
fn check_tables(tables: &BTreeMap<String, Vec<Columns>>) -> std::result::Result<(), TransferError> {
    let unreadable = |why: String| Err(TransferError::Unreadable(why));
    for (table, rows) in tables {
        if !TABLES.iter().any(|(known, _)| known == table) {
            return unreadable(format!("it holds {table:?}, which this program does not know"));
        }
        for row in rows {
            if row.get("id").and_then(Value::as_str).is_none_or(str::is_empty) {
                return unreadable(format!("a row of {table} has no id"));
            }
            for (column, value) in row {
                let is_name = column
                    .bytes()
                    .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit());
                if !is_name || column.is_empty() || column == "account_id" {
                    return unreadable(format!("a row of {table} has a column {column:?}"));
                }
                if !(value.is_null() || value.is_string() || value.is_i64()) {
                    return unreadable(format!("{table}.{column} is neither a text nor a whole number"));
                }
            }
        }
    }
    // What a row refers to is in the file: nothing of another account can be reached through it.
    for (table, column, target) in [
        ("gateways", "trunk_id", "trunks"),
        ("ip_identifiers", "trunk_id", "trunks"),
        ("trunk_credentials", "trunk_id", "trunks"),
        ("numbers", "trunk_id", "trunks"),
        ("numbers", "agent_id", "agents"),
        ("trunks", "default_agent_id", "agents"),
        ("batches", "agent_id", "agents"),
    ] {
        let there: BTreeSet<&str> =
            rows_of(tables, target).filter_map(|row| row.get("id")?.as_str()).collect();
        for row in rows_of(tables, table) {
            if let Some(id) = row.get(column).and_then(Value::as_str).filter(|id| !there.contains(id)) {
                return unreadable(format!(
                    "a row of {table} refers to {id:?}, which is not among its {target}"
                ));
            }
        }
    }
    Ok(())
}

fn rows_of<'a>(tables: &'a BTreeMap<String, Vec<Columns>>, table: &str) -> impl Iterator<Item = &'a Columns> {
    tables.get(table).into_iter().flatten()
}

fn active_trunks(tables: &BTreeMap<String, Vec<Columns>>) -> impl Iterator<Item = &str> {
    rows_of(tables, "trunks")
        .filter(|row| row.get("is_active").and_then(Value::as_i64) == Some(1))
        .filter_map(|row| row.get("id")?.as_str())
}

/// What stands in the way: identifiers in use, names of the account's trunks, numbers on active trunks.
async fn collisions(
    change: &mut Change,
    account: &str,
    tables: &BTreeMap<String, Vec<Columns>>,
) -> std::result::Result<Vec<String>, TransferError> {
    let mut found = Vec::new();
    let text =
        |row: &Columns, column: &str| row.get(column).and_then(Value::as_str).unwrap_or_default().to_owned();
    for (table, _) in TABLES {
        let select = format!("SELECT id FROM {table} WHERE id = $1");
        for row in rows_of(tables, table) {
            let id = text(row, "id");
            let there =
                sqlx::query(AssertSqlSafe(select.clone())).bind(&id).fetch_optional(&mut **change).await?;
            if there.is_some() {
                found.push(format!("{table} {id}: this id is in use"));
            }
        }
    }
    for (kind, table) in [("trunk", "trunks"), ("provider", "providers")] {
        let select = format!("SELECT id FROM {table} WHERE account_id = $1 AND name = $2");
        for row in rows_of(tables, table) {
            let name = text(row, "name");
            let query = sqlx::query(AssertSqlSafe(select.clone())).bind(account).bind(&name);
            if let Some(there) = query.fetch_optional(&mut **change).await? {
                let id: String = there.try_get("id")?;
                found.push(format!("{kind} {name:?}: {kind} {id} of account {account} has this name"));
            }
        }
    }
    let active: BTreeSet<&str> = active_trunks(tables).collect();
    for row in rows_of(tables, "numbers").filter(|row| active.contains(text(row, "trunk_id").as_str())) {
        let there = sqlx::query("SELECT trunk_id FROM number_claims WHERE digits = $1")
            .bind(text(row, "digits"))
            .fetch_optional(&mut **change)
            .await?;
        if there.is_some() {
            found.push(format!("number {}: it is on another active trunk", text(row, "phone_number")));
        }
    }
    if found.len() > NAMED {
        let more = found.len() - NAMED;
        found.truncate(NAMED);
        found.push(format!("and {more} more"));
    }
    Ok(found)
}

async fn write_profile(change: &mut Change, account: &str, profile: &Profile) -> Result<()> {
    sqlx::query(
        "UPDATE accounts SET name = $1, email = $2, metadata = $3, balance_millicents = $4 WHERE id = $5",
    )
    .bind(&profile.name)
    .bind(profile.email.clone())
    .bind(profile.metadata.as_ref().map(Value::to_string))
    .bind(profile.balance_millicents)
    .bind(account)
    .execute(&mut **change)
    .await?;
    change.touch_account(account);
    Ok(())
}

async fn insert(change: &mut Change, table: &str, account: &str, row: &Columns) -> Result<()> {
    // A column without a value is left to be null: a null has no type that both databases would take.
    let given: Vec<(&String, &Value)> = row.iter().filter(|(_, value)| !value.is_null()).collect();
    let names: Vec<&str> = given.iter().map(|(name, _)| name.as_str()).collect();
    let places: Vec<String> = (2..given.len() + 2).map(|place| format!("${place}")).collect();
    // Table and columns were checked to be plain names.
    let statement =
        format!("INSERT INTO {table} (account_id, {}) VALUES ($1, {})", names.join(", "), places.join(", "));
    let mut query = sqlx::query(AssertSqlSafe(statement)).bind(account);
    for (_, value) in given {
        query = match value {
            Value::String(text) => query.bind(text.as_str()),
            other => query.bind(other.as_i64()),
        };
    }
    query.execute(&mut **change).await?;
    Ok(())
}
