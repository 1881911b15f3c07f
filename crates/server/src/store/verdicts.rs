//! The last verdicts of each account, bounded: the oldest make room for the newest.

use serde_json::Value;
use sqlx::Row as _;

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
    /// Only those before this time, milliseconds since 1970: the next page.
    pub before: Option<i64>,
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
                "INSERT INTO verdicts (id, account_id, at, code, verdict) VALUES ($1, $2, $3, $4, $5) \
                 ON CONFLICT (id) DO NOTHING",
            )
            .bind(&verdict.id)
            .bind(verdict.account.as_deref().unwrap_or_default())
            .bind(verdict.at)
            .bind(&verdict.code)
            .bind(verdict.verdict.to_string())
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
        let rows = sqlx::query(
            "SELECT id, verdict FROM verdicts WHERE account_id = $1 AND (code = $2 OR $2 = '') AND at < $3 \
             ORDER BY at DESC, id LIMIT $4",
        )
        .bind(account)
        .bind(filter.code.as_deref().unwrap_or_default())
        .bind(filter.before.unwrap_or(i64::MAX))
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
