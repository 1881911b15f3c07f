//! The audit log: who changed what, written in the same transaction as the change itself.
//!
//! What a change touched is read twice at its end, as it was (by a reader, which does not see the change yet) and
//! as it will be, and the difference is written down. So no endpoint can forget to. Secrets are masked here,
//! before anything is written; that one of them changed can still be seen. Changes that nobody asked for (the
//! node's own) are not written down.

use std::pin::Pin;

use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Column as _, Row as _};

use super::change::{Change, Touched};
use super::{Result, Store, corrupt, now_ms};
use crate::secrets::{Sealer, hex};
use crate::{actor, ids};

/// Most entries of one change; what is beyond is counted in the last.
const MOST_ENTRIES: usize = 200;

/// Longest text of one state, before and after each; what is longer is said to be so.
const MOST_BYTES: usize = 16 * 1024;

/// Rows dropped in one statement when the log is shortened.
const SHORTEN_BY: i64 = 10_000;

/// What stands for a secret.
const MASKED: &str = "********";

/// Names whose values are never shown, wherever they stand.
const SECRET_NAMES: &[&str] =
    &["password", "secret", "token", "api_key", "apikey", "authorization", "private_key", "credential"];

/// Columns that say nothing about a change.
const NOISE: &[&str] = &["revision", "updated_at", "account_id", "trunk_id", "position"];

/// One line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct AuditEntry {
    /// Its identifier; later ones sort behind earlier ones.
    pub id: String,
    /// The account whose resource it is.
    pub account: String,
    /// When, milliseconds since 1970.
    pub at: i64,
    /// The account of the key that asked; empty for the command line.
    pub actor_account: String,
    /// Prefix of that key, or `cli`.
    pub actor_key: String,
    /// Where the request came from.
    pub address: Option<String>,
    /// Identifier of the request.
    pub request_id: String,
    /// Its method.
    pub method: String,
    /// Its route.
    pub route: String,
    /// `created`, `changed`, `deleted`, `requested`.
    pub action: String,
    /// Kind of resource: `trunk`, `number`, `agent`, `key`, …
    pub resource: String,
    /// Its identifier.
    pub resource_id: String,
    /// What differed, as it was.
    pub before: Option<Value>,
    /// What differs, as it is.
    pub after: Option<Value>,
}

/// Which entries to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only this kind of resource.
    pub resource: Option<String>,
    /// Only this resource.
    pub resource_id: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only what the key with this prefix did.
    pub key: Option<String>,
    /// Only since then, milliseconds since 1970.
    pub since: Option<i64>,
    /// Only before then.
    pub before: Option<i64>,
    /// Only entries older than this one: the next page.
    pub cursor: Option<String>,
    /// At most so many.
    pub limit: u32,
}

/// What a change did to one resource, in words of its own.
#[derive(Debug)]
pub(crate) struct Deed {
    account: String,
    resource: &'static str,
    id: String,
    before: Option<Value>,
    after: Option<Value>,
}

impl Change {
    /// Notes what was done to a resource that routing does not read. `None` before means created, `None` after
    /// deleted. No secret belongs into either.
    pub(crate) fn note_deed(
        &mut self,
        account: &str,
        resource: &'static str,
        id: &str,
        before: Option<Value>,
        after: Option<Value>,
    ) {
        let (account, id) = (account.to_owned(), id.to_owned());
        self.deeds.push(Deed { account, resource, id, before, after });
    }

    /// Writes down what this change did, if somebody asked for it.
    pub(super) fn write_deeds<'a>(
        &'a mut self,
        touched: &'a Touched,
    ) -> Pin<Box<dyn Future<Output = Result<()>> + Send + 'a>> {
        Box::pin(self.write_deeds_of(touched))
    }

    async fn write_deeds_of(&mut self, touched: &Touched) -> Result<()> {
        let Some(actor) = actor::current() else { return Ok(()) };
        let mut deeds = std::mem::take(&mut self.deeds);
        let named = [("trunk", &touched.trunks), ("number", &touched.numbers), ("agent", &touched.agents)];
        let named: Vec<(&'static str, String)> = named
            .iter()
            .flat_map(|(kind, ids)| ids.iter().map(|id| (*kind, id.clone())))
            .take(MOST_ENTRIES.saturating_sub(deeds.len()))
            .collect();
        let left_out = (touched.len() + deeds.len()).saturating_sub(MOST_ENTRIES);
        for (kind, id) in named {
            let mut reader = self.readers.acquire().await?;
            let before = state(&mut reader, &self.sealer, kind, &id).await?;
            drop(reader);
            let after = state(&mut self.transaction, &self.sealer, kind, &id).await?;
            let account = before.as_ref().or(after.as_ref()).and_then(|row| row.get("account_id"));
            let Some(Value::String(account)) = account.cloned() else { continue };
            deeds.push(Deed {
                account,
                resource: kind,
                id,
                before: before.map(Value::Object),
                after: after.map(Value::Object),
            });
        }
        deeds.truncate(MOST_ENTRIES);
        let last = deeds.len().saturating_sub(1);
        for (at, deed) in deeds.into_iter().enumerate() {
            let Some(mut entry) = entry(&actor, deed) else { continue };
            if at == last && left_out > 0 {
                entry.action = format!("{} and {left_out} more", entry.action);
            }
            insert(&mut self.transaction, &entry).await?;
            actor.note_audited();
        }
        Ok(())
    }
}

/// What is written of a deed; `None` when nothing differs.
fn entry(actor: &actor::Actor, deed: Deed) -> Option<AuditEntry> {
    let action = match (&deed.before, &deed.after) {
        (None, None) => return None,
        (None, Some(_)) => "created",
        (Some(_), None) => "deleted",
        (Some(_), Some(_)) => "changed",
    };
    let (mut before, mut after) = (deed.before, deed.after);
    if let (Some(was), Some(is)) = (&mut before, &mut after) {
        keep_difference(was, is);
        if is_empty(was) && is_empty(is) {
            return None;
        }
    }
    for state in [&mut before, &mut after].into_iter().flatten() {
        mask(state);
        let length = state.to_string().len();
        if length > MOST_BYTES {
            *state = serde_json::json!({"left_out": format!("{length} bytes")});
        }
    }
    let now = now_ms();
    let who = actor.who();
    Some(AuditEntry {
        id: ids::ulid(now),
        account: deed.account,
        at: now,
        actor_account: who.map(|who| who.account.clone()).unwrap_or_default(),
        actor_key: who.map(|who| who.key.clone()).unwrap_or_default(),
        address: actor.address.map(|address| address.to_string()),
        request_id: actor.request_id.clone(),
        method: actor.method.clone(),
        route: actor.route.clone(),
        action: action.to_owned(),
        resource: deed.resource.to_owned(),
        resource_id: deed.id,
        before,
        after,
    })
}

fn is_empty(state: &Value) -> bool {
    state.as_object().is_none_or(Map::is_empty)
}

/// Leaves in both objects what differs, at any depth.
fn keep_difference(was: &mut Value, is: &mut Value) {
    let (Value::Object(was), Value::Object(is)) = (was, is) else { return };
    let names: Vec<String> = was.keys().chain(is.keys()).cloned().collect();
    for name in names {
        let is_equal = match (was.get_mut(&name), is.get_mut(&name)) {
            (Some(Value::Null), None) | (None, Some(Value::Null)) => true,
            (Some(one), Some(other)) if one == other => true,
            (Some(one @ Value::Object(_)), Some(other @ Value::Object(_))) => {
                keep_difference(one, other);
                false
            }
            _ => false,
        };
        if is_equal || NOISE.contains(&name.as_str()) {
            was.remove(&name);
            is.remove(&name);
        }
    }
}

/// Hides what is secret by its name, at any depth. Depth is bounded by what the API lets in.
fn mask(state: &mut Value) {
    match state {
        Value::Object(object) => {
            for (name, value) in object.iter_mut() {
                let name = name.to_ascii_lowercase();
                let is_secret = SECRET_NAMES.iter().any(|secret| name.contains(secret));
                match value {
                    Value::Null | Value::Bool(_) => {}
                    Value::Object(_) | Value::Array(_) if !is_secret => mask(value),
                    value if is_secret => *value = MASKED.into(),
                    Value::String(text) if name.ends_with("url") => *value = without_userinfo(text).into(),
                    _ => {}
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(mask),
        _ => {}
    }
}

/// A URL without what stands before the `@` of its authority.
fn without_userinfo(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    match authority.rfind('@') {
        Some(at) => format!("{scheme}://{MASKED}{}", &rest[at..]),
        None => url.to_owned(),
    }
}

/// A row that routing reads, with what hangs on it; `None` when there is none.
async fn state(
    connection: &mut AnyConnection,
    sealer: &Sealer,
    kind: &str,
    id: &str,
) -> Result<Option<Map<String, Value>>> {
    let statement = match kind {
        "trunk" => "SELECT * FROM trunks WHERE id = $1",
        "number" => "SELECT * FROM numbers WHERE id = $1 AND deleted_at IS NULL",
        _ => "SELECT * FROM agents WHERE id = $1",
    };
    let Some(row) = sqlx::query(statement).bind(id).fetch_optional(&mut *connection).await? else {
        return Ok(None);
    };
    let mut state = object_of(&row)?;
    match kind {
        "trunk" => {
            for (name, statement) in [
                ("gateways", "SELECT * FROM gateways WHERE trunk_id = $1 ORDER BY position"),
                ("ip_identifiers", "SELECT * FROM ip_identifiers WHERE trunk_id = $1 ORDER BY position"),
                ("auth", "SELECT * FROM trunk_credentials WHERE trunk_id = $1 ORDER BY position"),
            ] {
                let rows = sqlx::query(statement).bind(id).fetch_all(&mut *connection).await?;
                let mut items = Vec::with_capacity(rows.len());
                for row in &rows {
                    let mut item = object_of(row)?;
                    fingerprint(&mut item, sealer, "password", &format!("trunks/{id}/auth_password"));
                    item.retain(|name, _| name != "created_at" && !NOISE.contains(&name.as_str()));
                    items.push(Value::Object(item));
                }
                state.insert(name.to_owned(), Value::Array(items));
            }
        }
        "agent" => {
            fingerprint(&mut state, sealer, "headers", &format!("agents/{id}/headers"));
            // Shown as a secret from here on.
            if let Some(headers) = state.remove("headers") {
                state.insert("headers_secret".to_owned(), headers);
            }
            if let Some(Value::String(body)) = state.get("body") {
                let body =
                    serde_json::from_str(body).map_err(|error| corrupt(format!("agents/{id}"), error))?;
                state.insert("body".to_owned(), body);
            }
        }
        _ => {}
    }
    Ok(Some(state))
}

/// Puts a hash of what is sealed in the column's place: a seal is new each time, so seals cannot be compared.
fn fingerprint(state: &mut Map<String, Value>, sealer: &Sealer, column: &str, place: &str) {
    let Some(Value::String(sealed)) = state.get(column) else { return };
    let hash = match sealer.open(place, sealed) {
        Ok(plain) => hex(&Sha256::digest(plain.reveal().as_bytes())),
        // It cannot be read; whoever needs it will say so.
        Err(_) => String::new(),
    };
    state.insert(column.to_owned(), hash.into());
}

fn object_of(row: &AnyRow) -> Result<Map<String, Value>> {
    let mut object = Map::new();
    for column in row.columns() {
        let at = column.ordinal();
        let value: Value = match row.try_get::<Option<i64>, _>(at) {
            Ok(number) => number.into(),
            Err(_) => row.try_get::<Option<String>, _>(at)?.into(),
        };
        object.insert(column.name().to_owned(), value);
    }
    Ok(object)
}

async fn insert(connection: &mut AnyConnection, entry: &AuditEntry) -> Result<()> {
    sqlx::query(
        "INSERT INTO audit_log (id, account_id, at, actor_account, actor_key, address, request_id, method, route, \
         action, resource, resource_id, state_before, state_after) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(&entry.id)
    .bind(&entry.account)
    .bind(entry.at)
    .bind(&entry.actor_account)
    .bind(&entry.actor_key)
    .bind(entry.address.clone())
    .bind(&entry.request_id)
    .bind(&entry.method)
    .bind(&entry.route)
    .bind(&entry.action)
    .bind(&entry.resource)
    .bind(&entry.resource_id)
    .bind(entry.before.as_ref().map(Value::to_string))
    .bind(entry.after.as_ref().map(Value::to_string))
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Writes down a request that changed something the store does not hold, such as a call.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn note_request(&self, account: &str, resource: &'static str, id: &str) -> Result<()> {
        let Some(actor) = actor::current() else { return Ok(()) };
        let deed = Deed {
            account: account.to_owned(),
            resource,
            id: id.to_owned(),
            before: None,
            after: Some(Value::Object(Map::new())),
        };
        let Some(mut entry) = entry(&actor, deed) else { return Ok(()) };
        "requested".clone_into(&mut entry.action);
        entry.after = None;
        let mut journal = self.begin_journal().await?;
        insert(&mut journal, &entry).await?;
        journal.commit().await?;
        actor.note_audited();
        Ok(())
    }

    /// The account's entries, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn audit(&self, account: &str, filter: &AuditFilter) -> Result<Vec<AuditEntry>> {
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let rows = sqlx::query(
            "SELECT * FROM audit_log WHERE account_id = $1 AND (resource = $2 OR $2 = '') \
             AND (resource_id = $3 OR $3 = '') AND (action = $4 OR $4 = '') AND (actor_key = $5 OR $5 = '') \
             AND at >= $6 AND at < $7 AND (id < $8 OR $8 = '') ORDER BY id DESC LIMIT $9",
        )
        .bind(account)
        .bind(text(&filter.resource))
        .bind(text(&filter.resource_id))
        .bind(text(&filter.action))
        .bind(text(&filter.key))
        .bind(filter.since.unwrap_or(i64::MIN))
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(text(&filter.cursor))
        .bind(i64::from(filter.limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(entry_of).collect()
    }

    /// Drops entries older than `days`, and of each account what is beyond `most`. Returns how many went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shorten_audit(&self, days: u32, most: u32) -> Result<u64> {
        let oldest = now_ms() - i64::from(days) * 86_400_000;
        let mut journal = self.begin_journal().await?;
        let mut dropped = sqlx::query(
            "DELETE FROM audit_log WHERE id IN (SELECT id FROM audit_log WHERE at < $1 ORDER BY at LIMIT $2)",
        )
        .bind(oldest)
        .bind(SHORTEN_BY)
        .execute(&mut *journal)
        .await?
        .rows_affected();
        let full = sqlx::query("SELECT account_id FROM audit_log GROUP BY account_id HAVING COUNT(*) > $1")
            .bind(i64::from(most))
            .fetch_all(&mut *journal)
            .await?;
        for row in &full {
            dropped += sqlx::query(
                "DELETE FROM audit_log WHERE account_id = $1 AND id < (SELECT MIN(id) FROM \
                 (SELECT id FROM audit_log WHERE account_id = $1 ORDER BY id DESC LIMIT $2) AS kept)",
            )
            .bind(row.try_get::<String, _>("account_id")?)
            .bind(i64::from(most))
            .execute(&mut *journal)
            .await?
            .rows_affected();
        }
        journal.commit().await?;
        Ok(dropped)
    }
}

fn entry_of(row: &AnyRow) -> Result<AuditEntry> {
    let id: String = row.try_get("id")?;
    let state = |column: &str| -> Result<Option<Value>> {
        let text: Option<String> = row.try_get(column)?;
        let read = text.map(|text| serde_json::from_str(&text)).transpose();
        read.map_err(|error| corrupt(format!("audit_log/{id}"), error))
    };
    Ok(AuditEntry {
        account: row.try_get("account_id")?,
        at: row.try_get("at")?,
        actor_account: row.try_get("actor_account")?,
        actor_key: row.try_get("actor_key")?,
        address: row.try_get("address")?,
        request_id: row.try_get("request_id")?,
        method: row.try_get("method")?,
        route: row.try_get("route")?,
        action: row.try_get("action")?,
        resource: row.try_get("resource")?,
        resource_id: row.try_get("resource_id")?,
        before: state("state_before")?,
        after: state("state_after")?,
        id,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_differs_is_kept_at_any_depth() {
        let mut was = json!({"a": 1, "b": {"c": 1, "d": [1]}, "revision": 1, "gone": "x", "null": null});
        let mut is = json!({"a": 1, "b": {"c": 2, "d": [1]}, "revision": 2, "new": true});
        keep_difference(&mut was, &mut is);
        assert_eq!(was, json!({"b": {"c": 1}, "gone": "x"}));
        assert_eq!(is, json!({"b": {"c": 2}, "new": true}));
    }

    #[test]
    fn secrets_are_masked_by_name_wherever_they_stand() {
        let mut state = json!({
            "auth_password": "p", "nested": [{"source_auth_token": "t", "Authorization": {"x": 1}}],
            "webhook_url": "https://user:pass@host/x?y", "url": "wss://host/@x", "password": null, "name": "n",
        });
        mask(&mut state);
        assert_eq!(
            state,
            json!({
                "auth_password": MASKED, "nested": [{"source_auth_token": MASKED, "Authorization": MASKED}],
                "webhook_url": format!("https://{MASKED}@host/x?y"), "url": "wss://host/@x", "password": null,
                "name": "n",
            })
        );
    }
}
