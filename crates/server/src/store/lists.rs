//! Lists a page at a time. A page is found by the place where the last one ended, never by counting rows, so the
//! thousandth page costs what the first one does, and rows added meanwhile move nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::feed::{parts_by_id, rows_by_id};
use super::{Result, Store, StoredAgent, StoredNumber, StoredTrunk};

pub(super) static NEWEST: Cursor = Cursor { at: i64::MAX, id: String::new() };
static OLDEST: Cursor = Cursor { at: i64::MIN, id: String::new() };

const TRUNKS: &str = "SELECT * FROM trunks WHERE account_id = $1 AND (created_at, id) < ($2, $3) \
                      ORDER BY created_at DESC, id DESC LIMIT $4";
const TRUNKS_SWITCHED: &str = "SELECT * FROM trunks WHERE account_id = $1 AND (created_at, id) < ($2, $3) \
                               AND is_active = $5 ORDER BY created_at DESC, id DESC LIMIT $4";
const NUMBERS: &str = "SELECT * FROM numbers WHERE account_id = $1 AND deleted_at IS NULL \
                       AND (created_at, id) > ($2, $3) ORDER BY created_at, id LIMIT $4";
const NUMBERS_OF_TRUNK: &str = "SELECT * FROM numbers WHERE trunk_id = $5 AND deleted_at IS NULL \
                                AND (created_at, id) > ($2, $3) AND account_id = $1 \
                                ORDER BY created_at, id LIMIT $4";
const AGENTS: &str = "SELECT * FROM agents WHERE account_id = $1 AND (created_at, id) < ($2, $3) \
                      ORDER BY created_at DESC, id DESC LIMIT $4";

/// Where a page ended. Opaque to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) at: i64,
    pub(super) id: String,
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.at, self.id)
    }
}

impl Cursor {
    /// Reads what `Display` wrote; `None` is no cursor of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once('.')?;
        Some(Self { at: at.parse().ok()?, id: id.to_owned() })
    }
}

/// A page, and where the next one begins when there is one.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The rows.
    pub rows: Vec<T>,
    /// To be given for the next page.
    pub next: Option<Cursor>,
}

impl Store {
    /// A page of the account's trunks, newest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_trunks(
        &self,
        account: &str,
        is_active: Option<bool>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<StoredTrunk>> {
        let after = after.unwrap_or(&NEWEST);
        let mut reader = self.begin_read().await?;
        let query = sqlx::query(if is_active.is_some() { TRUNKS_SWITCHED } else { TRUNKS })
            .bind(account)
            .bind(after.at)
            .bind(&after.id)
            .bind(i64::from(limit) + 1);
        let query = match is_active {
            Some(is_active) => query.bind(i64::from(is_active)),
            None => query,
        };
        let (rows, next) = cut(query.fetch_all(&mut *reader).await?, limit)?;
        let ids =
            rows.iter().map(|row| row.try_get("id")).collect::<std::result::Result<BTreeSet<_>, _>>()?;
        let parts = parts_by_id(&mut reader, &ids).await?;
        Ok(Page { rows: self.assemble(&rows, &parts)?, next })
    }

    /// A page of the account's numbers, or of one trunk's, oldest first; deleted ones are not shown.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn list_numbers(
        &self,
        account: &str,
        trunk: Option<&str>,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<StoredNumber>> {
        let after = after.unwrap_or(&OLDEST);
        let query = sqlx::query(if trunk.is_some() { NUMBERS_OF_TRUNK } else { NUMBERS })
            .bind(account)
            .bind(after.at)
            .bind(&after.id)
            .bind(i64::from(limit) + 1);
        let query = match trunk {
            Some(trunk) => query.bind(trunk),
            None => query,
        };
        let (rows, next) = cut(query.fetch_all(&self.readers).await?, limit)?;
        Ok(Page { rows: rows.iter().map(StoredNumber::of).collect::<Result<_>>()?, next })
    }

    /// A page of the account's agents, newest first.
    ///
    /// # Errors
    /// When the database fails, or a header cannot be opened.
    pub async fn list_agents(
        &self,
        account: &str,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Page<StoredAgent>> {
        let after = after.unwrap_or(&NEWEST);
        let query =
            sqlx::query(AGENTS).bind(account).bind(after.at).bind(&after.id).bind(i64::from(limit) + 1);
        let (rows, next) = cut(query.fetch_all(&self.readers).await?, limit)?;
        Ok(Page { rows: rows.iter().map(|row| self.agent_of(row)).collect::<Result<_>>()?, next })
    }

    /// The numbers of these trunks of the account, each trunk's oldest first: what a page of trunks shows.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn numbers_of_trunks(
        &self,
        account: &str,
        trunks: impl IntoIterator<Item = &str>,
    ) -> Result<BTreeMap<String, Vec<StoredNumber>>> {
        let ids: BTreeSet<String> = trunks.into_iter().map(str::to_owned).collect();
        let mut reader = self.begin_read().await?;
        let select = "SELECT * FROM numbers WHERE trunk_id IN";
        let rows =
            rows_by_id(&mut reader, select, "AND deleted_at IS NULL ORDER BY created_at, id", &ids).await?;
        let mut numbers: BTreeMap<String, Vec<StoredNumber>> = BTreeMap::new();
        for row in &rows {
            let number = StoredNumber::of(row)?;
            if number.account == account {
                numbers.entry(number.trunk.clone()).or_default().push(number);
            }
        }
        Ok(numbers)
    }
}

/// Takes the row beyond the limit away, which says that there is another page.
pub(super) fn cut(mut rows: Vec<AnyRow>, limit: u32) -> Result<(Vec<AnyRow>, Option<Cursor>)> {
    let has_more = rows.len() > limit as usize;
    rows.truncate(limit as usize);
    let next = match rows.last().filter(|_| has_more) {
        Some(last) => Some(Cursor { at: last.try_get("created_at")?, id: last.try_get("id")? }),
        None => None,
    };
    Ok((rows, next))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secrets::Sealer;

    #[tokio::test]
    async fn no_list_reads_a_whole_table() {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Sealer::find(Some(&"a".repeat(64)), None, None).unwrap();
        let url = format!("sqlite:{}", folder.path().join("tandem.db").display());
        let store = Store::open(&url, sealer).await.unwrap();
        let statements = [
            TRUNKS,
            TRUNKS_SWITCHED,
            NUMBERS,
            NUMBERS_OF_TRUNK,
            AGENTS,
            "SELECT * FROM numbers WHERE trunk_id IN ($1, $2) AND deleted_at IS NULL ORDER BY created_at, id",
            "SELECT * FROM gateways WHERE trunk_id IN ($1, $2) ORDER BY position",
            "SELECT * FROM trunk_credentials WHERE account_id = $1 ORDER BY trunk_id, position",
            "SELECT * FROM ip_identifiers WHERE account_id = $1 ORDER BY trunk_id, position",
            "SELECT * FROM gateways WHERE account_id = $1 ORDER BY trunk_id, position",
            "SELECT COUNT(*) FROM executions WHERE account_id = $1 AND agent_id = $2",
            "SELECT id FROM numbers WHERE trunk_id = $1 AND digits = $2 AND deleted_at IS NULL",
            "SELECT * FROM numbers WHERE agent_id = $1 AND account_id = $2 AND deleted_at IS NULL",
            "SELECT seq FROM changes WHERE seq > $1 ORDER BY seq LIMIT $2",
            "SELECT id, created_at FROM batches WHERE agent_id = $1 AND (created_at, id) < ($2, $3) AND account_id = $4 \
             ORDER BY created_at DESC, id DESC LIMIT $5",
            "SELECT batch_id, status, COUNT(*) FROM executions WHERE batch_id IN ($1, $2) GROUP BY batch_id, status",
        ];
        for statement in statements {
            let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
            let rows = sqlx::query(explain).fetch_all(&store.readers).await.unwrap();
            let plan: Vec<String> = rows.iter().map(|row| row.try_get("detail").unwrap()).collect();
            assert!(plan.iter().all(|step| !step.starts_with("SCAN")), "{statement}: {plan:?}");
            if !statement.contains(" IN ") {
                assert!(plan.iter().all(|step| !step.contains("TEMP B-TREE")), "{statement}: {plan:?}");
            }
        }
    }

    #[test]
    fn a_cursor_is_read_as_it_was_written() {
        let cursor = Cursor { at: 17, id: "01J.X".to_owned() };
        assert_eq!(Cursor::parse(&cursor.to_string()), Some(cursor));
        assert_eq!(Cursor::parse("x.y"), None);
        assert_eq!(Cursor::parse(""), None);
    }
}
