//! One change of the store: a transaction that holds the write lock and keeps a list of what it touched.
//!
//! The list is committed with the change, numbered in the order of commits. It is what makes routing cheap to
//! keep up ([`crate::routing`]): whoever writes a row that routing reads must say so with one of the `touch_`
//! functions. Changes of all nodes over one database go one after another, so a check and the change it allows
//! cannot be parted, not even by another node.

use std::collections::BTreeSet;
use std::ops::{Deref, DerefMut};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::{Any, AnyPool, Transaction};

use super::audit::Deed;
use super::{Engine, Result, Store, StoreError, now_ms};
use crate::secrets::{Sealer, SecretError};

/// Identifiers in one row of the list.
const TOUCHED_IN_A_ROW: usize = 1_000;

/// How often a transaction is begun before the database is called busy.
const ATTEMPTS: u32 = 5;

/// The lock that PostgreSQL's changes take one after another; the number is ours by chance alone.
const TAKE_TURNS: &str = "SELECT pg_advisory_xact_lock(7822430511)::text";

/// Identifiers of rows that routing must read again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Touched {
    /// Trunks, with their gateways and ranges.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub trunks: BTreeSet<String>,
    /// Numbers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub numbers: BTreeSet<String>,
    /// Agents.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub agents: BTreeSet<String>,
    /// Accounts, for their balance.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub accounts: BTreeSet<String>,
}

impl Touched {
    /// How many.
    pub fn len(&self) -> usize {
        self.trunks.len() + self.numbers.len() + self.agents.len() + self.accounts.len()
    }

    /// Whether nothing that routing reads was touched.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.trunks.extend(other.trunks);
        self.numbers.extend(other.numbers);
        self.agents.extend(other.agents);
        self.accounts.extend(other.accounts);
    }

    /// In pieces that fit a row each.
    fn pieces(self) -> Vec<Self> {
        let mut pieces: Vec<Self> = Vec::new();
        let mut add = |put: &dyn Fn(&mut Self)| {
            if pieces.last().is_none_or(|last| last.len() >= TOUCHED_IN_A_ROW) {
                pieces.push(Self::default());
            }
            if let Some(last) = pieces.last_mut() {
                put(last);
            }
        };
        for id in &self.trunks {
            add(&|piece| {
                piece.trunks.insert(id.clone());
            });
        }
        for id in &self.numbers {
            add(&|piece| {
                piece.numbers.insert(id.clone());
            });
        }
        for id in &self.agents {
            add(&|piece| {
                piece.agents.insert(id.clone());
            });
        }
        for id in &self.accounts {
            add(&|piece| {
                piece.accounts.insert(id.clone());
            });
        }
        pieces
    }
}

/// A change under way. Dropped without [`Change::commit`], it never was.
pub(crate) struct Change {
    pub(super) transaction: Transaction<'static, Any>,
    pub(super) readers: AnyPool,
    pub(super) sealer: Sealer,
    pub(super) deeds: Vec<Deed>,
    touched: Touched,
    origin: std::sync::Arc<str>,
}

impl Deref for Change {
    type Target = AnyConnection;

    fn deref(&self) -> &AnyConnection {
        &self.transaction
    }
}

impl DerefMut for Change {
    fn deref_mut(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}

impl Change {
    /// The trunk, its gateways or its ranges were written.
    pub(crate) fn touch_trunk(&mut self, id: &str) {
        self.touched.trunks.insert(id.to_owned());
    }

    /// The number was written.
    pub(crate) fn touch_number(&mut self, id: &str) {
        self.touched.numbers.insert(id.to_owned());
    }

    /// The agent was written.
    pub(crate) fn touch_agent(&mut self, id: &str) {
        self.touched.agents.insert(id.to_owned());
    }

    /// The account's balance was written.
    pub(crate) fn touch_account(&mut self, id: &str) {
        self.touched.accounts.insert(id.to_owned());
    }

    /// Makes the change last, and known to every node.
    ///
    /// # Errors
    /// When the database fails; whether the change lasts is then unknown if the connection broke in the act.
    pub(crate) async fn commit(mut self) -> Result<()> {
        let touched = std::mem::take(&mut self.touched);
        self.write_deeds(&touched).await?;
        for piece in touched.pieces() {
            let touched = serde_json::to_string(&piece).expect("texts in sets are JSON");
            sqlx::query(
                "INSERT INTO changes (seq, at, origin, touched) \
                 SELECT COALESCE(MAX(seq), 0) + 1, $1, $2, $3 FROM changes",
            )
            .bind(now_ms())
            .bind(&*self.origin)
            .bind(touched)
            .execute(&mut *self.transaction)
            .await?;
        }
        Ok(self.transaction.commit().await?)
    }
}

impl Store {
    /// Begins a change, with the write lock held.
    pub(crate) async fn begin(&self) -> Result<Change> {
        let mut transaction = begin(&self.writer, self.engine.begin_change()).await?;
        match self.engine {
            Engine::Sqlite => {}
            Engine::Postgres => {
                sqlx::query(TAKE_TURNS).execute(&mut *transaction).await?;
            }
        }
        // Whoever changed the key meant every process: one with the old key must not seal anything any more.
        let seal: Option<(String,)> = sqlx::query_as("SELECT value FROM settings WHERE name = 'seal_check'")
            .fetch_optional(&mut *transaction)
            .await?;
        let known = self.seal.get();
        if known.is_some() && seal.as_ref().map(|(seal,)| seal) != known {
            return Err(SecretError::WrongKey { what: "the database".to_owned() }.into());
        }
        Ok(Change {
            transaction,
            readers: self.readers.clone(),
            sealer: self.sealer.clone(),
            deeds: Vec::new(),
            touched: Touched::default(),
            origin: std::sync::Arc::clone(&self.origin),
        })
    }

    /// Begins to write what calls leave behind. Such rows depend on no others and are their node's own, so on
    /// PostgreSQL they wait for no change.
    pub(super) async fn begin_journal(&self) -> Result<Transaction<'static, Any>> {
        begin(&self.journal, self.engine.begin_change()).await
    }

    /// Begins to read: every statement sees the same state of the database.
    pub(super) async fn begin_read(&self) -> Result<Transaction<'static, Any>> {
        begin(&self.readers, self.engine.begin_read()).await
    }
}

/// Begins a transaction, again if the connection turns out to be broken or the database refuses it for a reason
/// that passes. Nothing was written yet, so trying again is safe.
async fn begin(pool: &AnyPool, statement: &'static str) -> Result<Transaction<'static, Any>> {
    let mut pause = Duration::from_millis(20);
    for _ in 1..ATTEMPTS {
        match pool.begin_with(statement).await {
            Err(error) if passes(&error) => {
                metrics::counter!("tandem_store_retries_total").increment(1);
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
            begun => return Ok(begun?),
        }
    }
    Ok(pool.begin_with(statement).await?)
}

/// Whether the same may succeed if tried again at once: a broken connection, a deadlock, a serialization failure.
/// A pool or a lock that was waited for long enough is not among them.
fn passes(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Io(_) => true,
        sqlx::Error::Database(database) => {
            // 57P01 to 57P03: the server stops or starts.
            matches!(database.code().as_deref(), Some("40001" | "40P01" | "57P01" | "57P02" | "57P03"))
        }
        _ => false,
    }
}

impl StoreError {
    /// Whether the database refuses what was to be written, and will whenever it is asked: a value that it cannot hold, a
    /// rule of the schema. No such is an answer that does not come, or a fault of the statement.
    pub fn is_refusal(&self) -> bool {
        match self {
            Self::Database(sqlx::Error::Encode(_)) => true,
            Self::Database(sqlx::Error::Database(database)) => {
                database.code().is_some_and(|code| match code.parse::<u32>() {
                    // SQLite, where the lower byte tells the kind: too big, a constraint, a mismatch of types.
                    Ok(number) if code.len() < 5 => matches!(number & 0xff, 18..=20),
                    // PostgreSQL: 22 is a value that cannot be, 23 a constraint.
                    _ => code.starts_with("22") || code.starts_with("23"),
                })
            }
            _ => false,
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let is_busy = match &error {
            sqlx::Error::PoolTimedOut => true,
            // SQLite: busy, locked, busy in recovery, busy snapshot. PostgreSQL: lock not available.
            sqlx::Error::Database(database) => {
                matches!(database.code().as_deref(), Some("5" | "6" | "261" | "517" | "55P03"))
            }
            _ => false,
        };
        if is_busy { Self::Busy(error) } else { Self::Database(error) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_list_is_cut_into_rows_and_nothing_is_lost() {
        let ids = |count: usize| (0..count).map(|id| id.to_string()).collect::<BTreeSet<_>>();
        let touched = Touched { trunks: ids(1_500), numbers: ids(2_600), agents: ids(3), accounts: ids(2) };
        let pieces = touched.clone().pieces();
        assert!(pieces.iter().all(|piece| piece.len() <= TOUCHED_IN_A_ROW));
        assert_eq!(pieces.len(), 5);
        let mut whole = Touched::default();
        pieces.into_iter().for_each(|piece| whole.merge(piece));
        assert_eq!(whole, touched);
        assert!(Touched::default().pieces().is_empty());
    }
}
