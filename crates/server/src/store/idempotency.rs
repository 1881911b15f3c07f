//! Answers to requests that carried an `Idempotency-Key`, kept for a day: whoever repeats the request gets the
//! answer it missed, and nothing is done twice. Answers are sealed, for one of them may hold a new key.
//!
//! A key is claimed before the request is worked on, and the database's own uniqueness decides who was first.

use serde::{Deserialize, Serialize};
use sqlx::Row as _;

use super::{Result, Store, corrupt, is_taken, now_ms};

/// How long an answer is kept, in milliseconds.
const KEPT_MS: i64 = 24 * 3_600_000;

/// How long a request of another process is held to be under way, in milliseconds.
const PATIENCE_MS: i64 = 120_000;

/// Answers kept per account; the oldest make room.
const MOST_PER_ACCOUNT: i64 = 100_000;

/// Rows dropped in one statement when old answers are dropped.
const DROP_BY: i64 = 10_000;

/// What names a request that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestName {
    /// The account of the key that asks.
    pub account: String,
    /// Method and path.
    pub route: String,
    /// The client's `Idempotency-Key`.
    pub name: String,
    /// The hash of the API key that asks.
    pub api_key: String,
    /// A hash of what is asked.
    pub fingerprint: String,
}

/// An answer that can be given again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptAnswer {
    /// HTTP status.
    pub status: u16,
    /// Headers worth repeating.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

/// What comes of claiming a request's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The name is ours: do what is asked, then [`Store::keep_answer`] or [`Store::give_up_claim`].
    Ours,
    /// It was asked before, and this was the answer.
    Answered(KeptAnswer),
    /// It was asked before and is being worked on.
    UnderWay,
    /// It was asked before by a process that is gone: nobody knows what came of it.
    Unknown,
    /// The name was used for something else.
    OtherRequest,
    /// The name was used with another API key.
    OtherKey,
}

impl Store {
    /// Claims a request's name.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn claim_request(&self, request: &RequestName) -> Result<Claim> {
        let now = now_ms();
        let mut journal = self.begin_journal().await?;
        let found = sqlx::query(
            "SELECT * FROM idempotency_keys WHERE account_id = $1 AND route = $2 AND name = $3 AND created_at > $4",
        )
        .bind(&request.account)
        .bind(&request.route)
        .bind(&request.name)
        .bind(now - KEPT_MS)
        .fetch_optional(&mut *journal)
        .await?;
        if let Some(row) = found {
            if row.try_get::<String, _>("fingerprint")? != request.fingerprint {
                return Ok(Claim::OtherRequest);
            }
            if row.try_get::<String, _>("api_key")? != request.api_key {
                return Ok(Claim::OtherKey);
            }
            return match row.try_get::<Option<String>, _>("answer")? {
                Some(sealed) => {
                    let opened = self.sealer.open(&place(request), &sealed)?;
                    let answer = serde_json::from_str(opened.reveal());
                    Ok(Claim::Answered(answer.map_err(|error| corrupt(place(request), error))?))
                }
                // Another node may still be at it; a request that takes longer than this is cut off there.
                None if now - row.try_get::<i64, _>("created_at")? < PATIENCE_MS => Ok(Claim::UnderWay),
                None if row.try_get::<String, _>("origin")? == *self.origin => Ok(Claim::UnderWay),
                None => Ok(Claim::Unknown),
            };
        }
        sqlx::query(
            "DELETE FROM idempotency_keys WHERE account_id = $1 AND route = $2 AND name = $3 AND created_at <= $4",
        )
        .bind(&request.account)
        .bind(&request.route)
        .bind(&request.name)
        .bind(now - KEPT_MS)
        .execute(&mut *journal)
        .await?;
        let claimed = sqlx::query(
            "INSERT INTO idempotency_keys (account_id, route, name, api_key, fingerprint, created_at, origin) \
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .bind(&request.account)
        .bind(&request.route)
        .bind(&request.name)
        .bind(&request.api_key)
        .bind(&request.fingerprint)
        .bind(now)
        .bind(&*self.origin)
        .execute(&mut *journal)
        .await;
        match claimed {
            Ok(_) => {
                journal.commit().await?;
                Ok(Claim::Ours)
            }
            // Another node was first by a moment.
            Err(error) if is_taken(&error) => Ok(Claim::UnderWay),
            Err(error) => Err(error.into()),
        }
    }

    /// Keeps the answer to a request whose name is ours.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn keep_answer(&self, request: &RequestName, answer: &KeptAnswer) -> Result<()> {
        let text = serde_json::to_string(answer).map_err(|error| corrupt(place(request), error))?;
        let mut journal = self.begin_journal().await?;
        sqlx::query(
            "UPDATE idempotency_keys SET answer = $1 WHERE account_id = $2 AND route = $3 AND name = $4 \
             AND answer IS NULL",
        )
        .bind(self.sealer.seal(&place(request), &text))
        .bind(&request.account)
        .bind(&request.route)
        .bind(&request.name)
        .execute(&mut *journal)
        .await?;
        Ok(journal.commit().await?)
    }

    /// Gives a name back: nothing was done, so the same name may be used again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn give_up_claim(&self, request: &RequestName) -> Result<()> {
        let mut journal = self.begin_journal().await?;
        sqlx::query(
            "DELETE FROM idempotency_keys WHERE account_id = $1 AND route = $2 AND name = $3 AND answer IS NULL",
        )
        .bind(&request.account)
        .bind(&request.route)
        .bind(&request.name)
        .execute(&mut *journal)
        .await?;
        Ok(journal.commit().await?)
    }

    /// Drops answers older than a day, and of each account what is beyond the bound. Returns how many went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_old_answers(&self) -> Result<u64> {
        let mut journal = self.begin_journal().await?;
        let mut dropped = sqlx::query(
            "DELETE FROM idempotency_keys WHERE created_at <= (SELECT COALESCE(MAX(created_at), 0) FROM \
             (SELECT created_at FROM idempotency_keys WHERE created_at <= $1 ORDER BY created_at LIMIT $2) AS old)",
        )
        .bind(now_ms() - KEPT_MS)
        .bind(DROP_BY)
        .execute(&mut *journal)
        .await?
        .rows_affected();
        let full =
            sqlx::query("SELECT account_id FROM idempotency_keys GROUP BY account_id HAVING COUNT(*) > $1")
                .bind(MOST_PER_ACCOUNT)
                .fetch_all(&mut *journal)
                .await?;
        for row in &full {
            dropped += sqlx::query(
                "DELETE FROM idempotency_keys WHERE account_id = $1 AND created_at < (SELECT MIN(created_at) FROM \
                 (SELECT created_at FROM idempotency_keys WHERE account_id = $1 ORDER BY created_at DESC \
                  LIMIT $2) AS kept)",
            )
            .bind(row.try_get::<String, _>("account_id")?)
            .bind(MOST_PER_ACCOUNT)
            .execute(&mut *journal)
            .await?
            .rows_affected();
        }
        journal.commit().await?;
        Ok(dropped)
    }
}

fn place(request: &RequestName) -> String {
    format!("idempotency_keys/{}/{}/{}", request.account, request.route, request.name)
}
