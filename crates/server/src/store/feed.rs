//! What routing reads: everything in pages when it starts, and afterwards the rows that changes touched.

use std::collections::BTreeSet;

use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AssertSqlSafe, Row as _};

use super::change::Touched;
use super::trunk_parts::{PartRows, rows_between};
use super::{Result, Store, StoredAgent, StoredNumber, StoredTrunk, corrupt, now_ms};

/// Rows of one page.
const PAGE: i64 = 2_000;

/// Changes read at once: each names at most a thousand rows.
const CHANGES: i64 = 64;

/// Identifiers asked for by one statement.
const IDS: usize = 64;

/// How long changes are kept, in milliseconds. A node that was away for longer reads everything.
const KEPT_MS: i64 = 3_600_000;

/// What changed since a change known by its number.
#[derive(Debug)]
pub enum Changes {
    /// Nothing.
    None,
    /// The list does not reach back so far: everything is to be read.
    Unknown,
    /// These rows.
    Rows(Box<ChangedRows>),
}

/// Rows as they are now; `None` is a row that is gone.
#[derive(Debug, Default)]
pub struct ChangedRows {
    /// The last change that is in these rows.
    pub upto: i64,
    /// Whether there are changes after it.
    pub has_more: bool,
    /// How many of the changes another process made, and when the oldest of them, milliseconds since 1970.
    pub foreign: Option<(u64, i64)>,
    /// Trunks.
    pub trunks: Vec<(String, Option<StoredTrunk>)>,
    /// Numbers.
    pub numbers: Vec<(String, Option<StoredNumber>)>,
    /// Agents.
    pub agents: Vec<(String, Option<StoredAgent>)>,
    /// Accounts, and whether their balance is used up.
    pub accounts: Vec<(String, bool)>,
}

impl Store {
    /// The number of the last change.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn last_change(&self) -> Result<i64> {
        let (last,): (i64,) =
            sqlx::query_as("SELECT COALESCE(MAX(seq), 0) FROM changes").fetch_one(&self.readers).await?;
        Ok(last)
    }

    /// What changed after the change `since`, read in one state of the database.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn changes(&self, since: i64) -> Result<Changes> {
        let last = self.last_change().await?;
        if last == since {
            return Ok(Changes::None);
        }
        let mut reader = self.begin_read().await?;
        let rows =
            sqlx::query("SELECT seq, at, origin, touched FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2")
                .bind(since)
                .bind(CHANGES)
                .fetch_all(&mut *reader)
                .await?;
        let first: Option<i64> = rows.first().map(|row| row.try_get("seq")).transpose()?;
        // Nothing after it, and yet not the last: the database was put back to an earlier state.
        if first != Some(since + 1) {
            return Ok(Changes::Unknown);
        }
        let mut changed = ChangedRows { has_more: rows.len() as i64 == CHANGES, ..ChangedRows::default() };
        let mut touched = Touched::default();
        for row in &rows {
            changed.upto = row.try_get("seq")?;
            let text: String = row.try_get("touched")?;
            let piece: Touched = serde_json::from_str(&text)
                .map_err(|error| corrupt(format!("changes/{}", changed.upto), error))?;
            touched.merge(piece);
            if row.try_get::<String, _>("origin")? != *self.origin {
                let (count, at) = changed.foreign.unwrap_or((0, row.try_get("at")?));
                changed.foreign = Some((count + 1, at));
            }
        }
        changed.trunks = self.trunks_by_id(&mut reader, touched.trunks).await?;
        changed.numbers = numbers_by_id(&mut reader, touched.numbers).await?;
        changed.agents = self.agents_by_id(&mut reader, touched.agents).await?;
        drop(reader);
        for account in touched.accounts {
            let is_exhausted = self.is_exhausted(&account).await?;
            changed.accounts.push((account, is_exhausted));
        }
        Ok(Changes::Rows(Box::new(changed)))
    }

    /// Forgets changes that every node has read long ago. Returns how many.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_changes(&self) -> Result<u64> {
        let mut change = self.begin().await?;
        // The last one stays: it carries the count on.
        let forgotten =
            sqlx::query("DELETE FROM changes WHERE at < $1 AND seq < (SELECT MAX(seq) FROM changes)")
                .bind(now_ms() - KEPT_MS)
                .execute(&mut *change)
                .await?;
        change.commit().await?;
        Ok(forgotten.rows_affected())
    }

    /// A page of every account's trunks after this identifier, ordered by it; an empty page is the end.
    ///
    /// # Errors
    /// When the database fails, or a password cannot be opened.
    pub async fn page_of_trunks(&self, after: &str) -> Result<Vec<StoredTrunk>> {
        let mut reader = self.begin_read().await?;
        let rows = sqlx::query("SELECT * FROM trunks WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(PAGE)
            .fetch_all(&mut *reader)
            .await?;
        let Some(last) = rows.last() else { return Ok(Vec::new()) };
        let last: String = last.try_get("id")?;
        let parts = rows_between(&mut reader, after, &last).await?;
        self.assemble(&rows, &parts)
    }

    /// A page of every account's numbers after this identifier, ordered by it; an empty page is the end.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn page_of_numbers(&self, after: &str) -> Result<Vec<StoredNumber>> {
        let rows =
            sqlx::query("SELECT * FROM numbers WHERE id > $1 AND deleted_at IS NULL ORDER BY id LIMIT $2")
                .bind(after)
                .bind(PAGE)
                .fetch_all(&self.readers)
                .await?;
        rows.iter().map(StoredNumber::of).collect()
    }

    /// A page of every account's agents after this identifier, ordered by it; an empty page is the end.
    ///
    /// # Errors
    /// When the database fails, or a header cannot be opened.
    pub async fn page_of_agents(&self, after: &str) -> Result<Vec<StoredAgent>> {
        let mut reader = self.begin_read().await?;
        let rows = sqlx::query("SELECT * FROM agents WHERE id > $1 ORDER BY id LIMIT $2")
            .bind(after)
            .bind(PAGE)
            .fetch_all(&mut *reader)
            .await?;
        let mut agents = rows.iter().map(|row| self.agent_of(row)).collect::<Result<Vec<_>>>()?;
        self.fill_in_providers(&mut reader, &mut agents).await?;
        Ok(agents)
    }

    pub(super) async fn trunks_by_id(
        &self,
        reader: &mut AnyConnection,
        ids: BTreeSet<String>,
    ) -> Result<Vec<(String, Option<StoredTrunk>)>> {
        let rows = rows_by_id(reader, "SELECT * FROM trunks WHERE id IN", "", &ids).await?;
        let parts = parts_by_id(reader, &ids).await?;
        let trunks = self.assemble(&rows, &parts)?;
        Ok(with_gone(ids, trunks, |trunk| &trunk.id))
    }

    pub(super) async fn agents_by_id(
        &self,
        reader: &mut AnyConnection,
        ids: BTreeSet<String>,
    ) -> Result<Vec<(String, Option<StoredAgent>)>> {
        let rows = rows_by_id(reader, "SELECT * FROM agents WHERE id IN", "", &ids).await?;
        let mut agents = rows.iter().map(|row| self.agent_of(row)).collect::<Result<Vec<_>>>()?;
        self.fill_in_providers(reader, &mut agents).await?;
        Ok(with_gone(ids, agents, |agent| &agent.id))
    }
}

/// The rows of what hangs on these trunks.
pub(super) async fn parts_by_id(reader: &mut AnyConnection, ids: &BTreeSet<String>) -> Result<PartRows> {
    let mut parts = Vec::with_capacity(3);
    for select in [
        "SELECT * FROM gateways WHERE trunk_id IN",
        "SELECT * FROM ip_identifiers WHERE trunk_id IN",
        "SELECT * FROM trunk_credentials WHERE trunk_id IN",
    ] {
        parts.push(rows_by_id(reader, select, "ORDER BY position", ids).await?);
    }
    Ok(PartRows::of(parts))
}

async fn numbers_by_id(
    reader: &mut AnyConnection,
    ids: BTreeSet<String>,
) -> Result<Vec<(String, Option<StoredNumber>)>> {
    let rows =
        rows_by_id(reader, "SELECT * FROM numbers WHERE id IN", "AND deleted_at IS NULL", &ids).await?;
    let numbers = rows.iter().map(StoredNumber::of).collect::<Result<Vec<_>>>()?;
    Ok(with_gone(ids, numbers, |number| &number.id))
}

/// The rows of these identifiers. A statement asks for one, or for a whole handful filled up with repetitions:
/// two texts that the database prepares once.
pub(super) async fn rows_by_id(
    reader: &mut AnyConnection,
    select: &'static str,
    rest: &'static str,
    ids: &BTreeSet<String>,
) -> Result<Vec<AnyRow>> {
    let ids: Vec<&String> = ids.iter().collect();
    let mut rows = Vec::with_capacity(ids.len());
    for handful in ids.chunks(IDS) {
        let places = if handful.len() == 1 { 1 } else { IDS };
        let list: Vec<String> = (1..=places).map(|place| format!("${place}")).collect();
        // Of constants and numbered places alone.
        let statement = AssertSqlSafe(format!("{select} ({}) {rest}", list.join(", ")));
        let mut query = sqlx::query(statement);
        for place in 0..places {
            query = query.bind(handful.get(place).or(handful.last()).map(|id| id.as_str()));
        }
        rows.extend(query.fetch_all(&mut *reader).await?);
    }
    Ok(rows)
}

/// Each identifier with its row, or with the news that it has none.
fn with_gone<T>(
    ids: BTreeSet<String>,
    rows: Vec<T>,
    id_of: impl Fn(&T) -> &String,
) -> Vec<(String, Option<T>)> {
    let mut rows: std::collections::BTreeMap<String, T> =
        rows.into_iter().map(|row| (id_of(&row).clone(), row)).collect();
    ids.into_iter()
        .map(|id| {
            let row = rows.remove(&id);
            (id, row)
        })
        .collect()
}
