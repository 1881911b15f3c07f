//! What calls tell of a trunk's carrier: whether one was ever answered, and how many outbound ones failed since.
//!
//! It is written with the calls' records, by whichever node had the call, and decides nothing.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use tandem_call::{CallDirection, CallRecord};

use super::feed::rows_by_id;
use super::{Result, Store, now_ms};

/// What calls have told of a trunk's carrier.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TrunkHealth {
    /// The first call that was answered, milliseconds since 1970.
    pub answered_at: Option<i64>,
    /// Outbound calls that failed since the last one that was answered.
    pub outbound_failures: u32,
}

impl TrunkHealth {
    fn of(row: &AnyRow) -> Result<Self> {
        Ok(Self {
            answered_at: row.try_get("answered_at")?,
            outbound_failures: u32::try_from(row.try_get::<i64, _>("outbound_failures")?).unwrap_or(u32::MAX),
        })
    }
}

impl Store {
    /// What calls have told of one trunk of the account.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn health_of_trunk(&self, account: &str, trunk: &str) -> Result<TrunkHealth> {
        let row = sqlx::query("SELECT * FROM trunk_health WHERE account_id = $1 AND trunk_id = $2")
            .bind(account)
            .bind(trunk)
            .fetch_optional(&self.readers)
            .await?;
        row.as_ref().map_or_else(|| Ok(TrunkHealth::default()), TrunkHealth::of)
    }

    /// What calls have told of these trunks of the account, by trunk. Those without a call are not among them.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn health_of_trunks(
        &self,
        account: &str,
        trunks: impl IntoIterator<Item = &str>,
    ) -> Result<BTreeMap<String, TrunkHealth>> {
        let ids: BTreeSet<String> = trunks.into_iter().map(str::to_owned).collect();
        let mut reader = self.begin_read().await?;
        let rows = rows_by_id(&mut reader, "SELECT * FROM trunk_health WHERE trunk_id IN", "", &ids).await?;
        let mut health = BTreeMap::new();
        for row in &rows {
            if row.try_get::<String, _>("account_id")? == account {
                health.insert(row.try_get("trunk_id")?, TrunkHealth::of(row)?);
            }
        }
        Ok(health)
    }
}

/// Notes what a call tells. Only answered calls and failed outbound ones tell anything: an inbound call that is
/// refused says more of its caller than of the carrier.
pub(super) async fn note(change: &mut AnyConnection, record: &CallRecord) -> Result<()> {
    let is_answered = record.answered_unix_ms.is_some();
    let has_failed = match record.direction {
        CallDirection::Outbound => !is_answered && record.status.is_final(),
        CallDirection::Inbound => false,
    };
    if !is_answered && !has_failed {
        return Ok(());
    }
    let now = now_ms();
    // A row of a trunk that is gone would stay for ever: it is made only where the trunk is.
    sqlx::query(
        "INSERT INTO trunk_health (trunk_id, account_id, answered_at, outbound_failures, updated_at) \
         SELECT id, account_id, CAST($1 AS BIGINT), CAST($2 AS BIGINT), CAST($3 AS BIGINT) \
         FROM trunks WHERE id = $4 AND account_id = $5 \
         ON CONFLICT (trunk_id) DO UPDATE SET \
         answered_at = COALESCE(trunk_health.answered_at, excluded.answered_at), \
         outbound_failures = CASE WHEN excluded.outbound_failures = 0 THEN 0 \
         ELSE trunk_health.outbound_failures + 1 END, \
         updated_at = excluded.updated_at",
    )
    .bind(is_answered.then_some(now))
    .bind(i64::from(has_failed))
    .bind(now)
    .bind(record.trunk.as_str())
    .bind(record.account.as_str())
    .execute(&mut *change)
    .await?;
    Ok(())
}
