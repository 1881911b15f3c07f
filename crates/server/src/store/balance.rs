//! What an account may still spend. Calls are charged by their answered time, once each; an account whose balance
//! is used up gets no new calls. An account without a balance has no bound.
//!
//! Amounts are thousandths of a cent, so that a second of a call at a tenth of a cent a minute is still counted.

use serde_json::json;
use sqlx::AnyConnection;
use tandem_call::CallRecord;

use super::change::Change;
use super::{Result, Store, StoreError};

impl Store {
    /// The store, charging answered calls so many thousandths of a cent a minute. Without it nothing is charged.
    #[must_use]
    pub fn charging(mut self, millicents_per_minute: u32) -> Self {
        self.millicents_per_minute = millicents_per_minute;
        self
    }

    /// What the account may still spend; `None` is no bound.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the account.
    pub async fn balance(&self, account: &str) -> Result<Option<i64>> {
        let row: Option<(Option<i64>,)> =
            sqlx::query_as("SELECT balance_millicents FROM accounts WHERE id = $1")
                .bind(account)
                .fetch_optional(&self.readers)
                .await?;
        row.map(|(balance,)| balance).ok_or(StoreError::NotFound)
    }

    /// Sets what the account may spend; `None` takes the bound away. Routing must be refreshed afterwards.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the account.
    pub async fn set_balance(&self, account: &str, millicents: Option<i64>) -> Result<()> {
        let mut change = self.begin().await?;
        let before = stands(&mut change, account).await?;
        sqlx::query("UPDATE accounts SET balance_millicents = $1 WHERE id = $2")
            .bind(millicents)
            .bind(account)
            .execute(&mut *change)
            .await?;
        note(&mut change, account, before, millicents);
        change.commit().await
    }

    /// Adds to what the account may spend, whatever calls take from it meanwhile; what it may spend then. Routing must
    /// be refreshed afterwards.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the account, [`StoreError::NoBalance`] when it has no bound to be raised.
    pub async fn add_to_balance(&self, account: &str, millicents: i64) -> Result<i64> {
        let mut change = self.begin().await?;
        sqlx::query(
            "UPDATE accounts SET balance_millicents = balance_millicents + $1 \
             WHERE id = $2 AND balance_millicents IS NOT NULL",
        )
        .bind(millicents)
        .bind(account)
        .execute(&mut *change)
        .await?;
        let after = stands(&mut change, account).await?.ok_or(StoreError::NoBalance)?;
        note(&mut change, account, Some(after - millicents), Some(after));
        change.commit().await?;
        Ok(after)
    }

    /// Whether the account may not spend anything more.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn is_exhausted(&self, account: &str) -> Result<bool> {
        match self.balance(account).await {
            Ok(balance) => Ok(balance.is_some_and(|balance| balance <= 0)),
            // An account that has no row yet has no bound either.
            Err(StoreError::NotFound) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Every account that may not spend anything more: what routing refuses.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn exhausted_accounts(&self) -> Result<Vec<String>> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT id FROM accounts WHERE balance_millicents IS NOT NULL AND balance_millicents <= 0",
        )
        .fetch_all(&self.readers)
        .await?;
        Ok(rows.into_iter().map(|(id,)| id).collect())
    }

    /// Charges a call that is over, unless it is charged already. Returns its account if that used up the balance.
    pub(super) async fn charge(
        &self,
        change: &mut AnyConnection,
        record: &CallRecord,
    ) -> Result<Option<String>> {
        let cost = cost(record, self.millicents_per_minute);
        if cost == 0 {
            return Ok(None);
        }
        let charged = sqlx::query(
            "UPDATE executions SET cost_millicents = $1 \
             WHERE id = $2 AND account_id = $3 AND is_final = 1 AND cost_millicents IS NULL",
        )
        .bind(cost)
        .bind(record.id.to_string())
        .bind(record.account.as_str())
        .execute(&mut *change)
        .await?;
        if charged.rows_affected() == 0 {
            return Ok(None);
        }
        sqlx::query(
            "UPDATE accounts SET balance_millicents = balance_millicents - $1 \
             WHERE id = $2 AND balance_millicents IS NOT NULL",
        )
        .bind(cost)
        .bind(record.account.as_str())
        .execute(&mut *change)
        .await?;
        let left: Option<(Option<i64>,)> =
            sqlx::query_as("SELECT balance_millicents FROM accounts WHERE id = $1")
                .bind(record.account.as_str())
                .fetch_optional(&mut *change)
                .await?;
        // Only the call that crosses the line is news.
        let crossed =
            left.and_then(|(left,)| left).is_some_and(|left| left <= 0 && left.saturating_add(cost) > 0);
        Ok(crossed.then(|| record.account.as_str().to_owned()))
    }

    /// Has routing, on every node, learn of balances that were used up.
    pub(super) async fn tell_exhausted(&self, accounts: Vec<String>) -> Result<()> {
        if accounts.is_empty() {
            return Ok(());
        }
        let mut change = self.begin().await?;
        for account in &accounts {
            tracing::info!(account, "the balance is used up");
            change.touch_account(account);
        }
        change.commit().await
    }
}

/// What the account may spend, within a change.
async fn stands(change: &mut AnyConnection, account: &str) -> Result<Option<i64>> {
    let row: Option<(Option<i64>,)> = sqlx::query_as("SELECT balance_millicents FROM accounts WHERE id = $1")
        .bind(account)
        .fetch_optional(change)
        .await?;
    row.map(|(balance,)| balance).ok_or(StoreError::NotFound)
}

/// Has routing read the account again, and the audit log know.
fn note(change: &mut Change, account: &str, before: Option<i64>, after: Option<i64>) {
    let state = |millicents: Option<i64>| Some(json!({"balance_millicents": millicents}));
    change.note_deed(account, "balance", account, state(before), state(after));
    change.touch_account(account);
}

/// What an ended call costs: its answered time by the millisecond, rounded up.
fn cost(record: &CallRecord, millicents_per_minute: u32) -> i64 {
    if !record.status.is_final() {
        return 0;
    }
    let exact = u128::from(record.duration_ms()) * u128::from(millicents_per_minute);
    i64::try_from(exact.div_ceil(60_000)).unwrap_or(i64::MAX)
}
