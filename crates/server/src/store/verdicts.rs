//! The last verdicts of each account, bounded: the oldest make room for the newest.

use serde_json::Value;
use sqlx::Row as _;
use tandem_call::dialled::{key, stored_key};

use super::{Result, Store, corrupt};

/// One verdict to be kept.
#[derive(Clone, Debug, PartialEq)]
pub struct NewVerdict {
    /// Its own identifier.
    pub id: String,
    /// Whose it is; `None` is the operator's alone.
    pub account: Option<String>,
    /// When, milliseconds since 1970.
    pub at: i64,
    /// Its code.
    pub code: String,
    /// All of it.
    pub verdict: Value,
}

/// Which verdicts to show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerdictFilter {
    /// Only this code.
    pub code: Option<String>,
    /// Only those that concern this trunk.
    pub trunk: Option<String>,
    /// Only those to this number: its identifier, or what was dialled.
    pub number: Option<String>,
    /// Only those from this address.
    pub source: Option<String>,
    /// Only those since this time, milliseconds since 1970.
    pub since: Option<i64>,
    /// Only those before this time, milliseconds since 1970: the next page.
    pub before: Option<i64>,
    /// Only those behind this one, as `time.identifier`: the next page, also among verdicts of one millisecond.
    pub cursor: Option<String>,
    /// At most so many.
    pub limit: u32,
}

impl Store {
    /// Keeps verdicts, in one transaction, and drops what is beyond `bound` of each account they touch.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn write_verdicts(&self, verdicts: &[NewVerdict], bound: u32) -> Result<()> {
        let mut change = self.begin_journal().await?;
        for verdict in verdicts {
            sqlx::query(
                "INSERT INTO verdicts (id, account_id, at, code, verdict, trunk_id, number_id, dialled, source) \
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (id) DO NOTHING",
            )
            .bind(&verdict.id)
            .bind(verdict.account.as_deref().unwrap_or_default())
            .bind(verdict.at)
            .bind(&verdict.code)
            .bind(verdict.verdict.to_string())
            .bind(text_of(&verdict.verdict, "trunk"))
            .bind(text_of(&verdict.verdict, "number"))
            .bind(dialled(text_of(&verdict.verdict, "request_uri")))
            .bind(address_of(text_of(&verdict.verdict, "source")))
            .execute(&mut *change)
            .await?;
        }
        let mut accounts: Vec<&str> =
            verdicts.iter().map(|verdict| verdict.account.as_deref().unwrap_or_default()).collect();
        accounts.sort_unstable();
        accounts.dedup();
        for account in accounts {
            sqlx::query(
                "DELETE FROM verdicts WHERE account_id = $1 AND at < \
                 (SELECT MIN(at) FROM (SELECT at FROM verdicts WHERE account_id = $1 \
                  ORDER BY at DESC LIMIT $2) AS kept)",
            )
            .bind(account)
            .bind(i64::from(bound))
            .execute(&mut *change)
            .await?;
        }
        Ok(change.commit().await?)
    }

    /// The account's verdicts, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn verdicts(&self, account: &str, filter: &VerdictFilter) -> Result<Vec<Value>> {
        let cursor = filter.cursor.as_deref().and_then(|cursor| cursor.split_once('.'));
        let (cursor_at, cursor_id) = match cursor.map(|(at, id)| (at.parse::<i64>(), id)) {
            Some((Ok(at), id)) => (at, id.to_owned()),
            // No cursor, or none of ours: from the newest.
            _ => (i64::MAX, String::new()),
        };
        let rows = sqlx::query(
            "SELECT id, verdict FROM verdicts WHERE account_id = $1 AND (code = $2 OR $2 = '') AND at < $3 \
             AND at >= $4 AND (trunk_id = $5 OR $5 = '') AND (number_id = $6 OR dialled = $7 OR $6 = '') \
             AND (source = $8 OR $8 = '') AND (at < $9 OR (at = $9 AND id > $10)) \
             ORDER BY at DESC, id LIMIT $11",
        )
        .bind(account)
        .bind(filter.code.as_deref().unwrap_or_default())
        .bind(filter.before.unwrap_or(i64::MAX))
        .bind(filter.since.unwrap_or(0))
        .bind(filter.trunk.as_deref().unwrap_or_default())
        .bind(filter.number.as_deref().unwrap_or_default())
        .bind(filter.number.as_deref().and_then(stored_key).unwrap_or_else(|| "-".to_owned()))
        .bind(address_of(filter.source.as_deref().unwrap_or_default()))
        .bind(cursor_at)
        .bind(cursor_id)
        .bind(i64::from(filter.limit))
        .fetch_all(&self.readers)
        .await?;
        rows.iter()
            .map(|row| {
                let text: String = row.try_get("verdict")?;
                serde_json::from_str(&text).map_err(|error| {
                    corrupt(format!("verdicts/{}", row.try_get::<String, _>("id").unwrap_or_default()), error)
                })
            })
            .collect()
    }
}

fn text_of<'a>(verdict: &'a Value, name: &str) -> &'a str {
    verdict.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The number that a Request-URI dials, as numbers are matched by; empty when it dials none.
fn dialled(request_uri: &str) -> String {
    let rest = request_uri.split_once(':').map_or(request_uri, |(_, rest)| rest);
    let user = rest.split('@').next().unwrap_or_default();
    key(user.as_bytes()).unwrap_or_default()
}

/// An address without its port, written in one way.
fn address_of(text: &str) -> String {
    let bare = text.parse::<std::net::SocketAddr>().map(|address| address.ip());
    let address = bare.or_else(|_| text.parse::<std::net::IpAddr>());
    address.map_or_else(|_| text.to_owned(), |address| address.to_canonical().to_string())
}
