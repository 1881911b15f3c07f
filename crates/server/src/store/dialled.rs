//! What it takes to route calls to one number, by a handful of look-ups in indexes: for the time in which the table of
//! everything is still being read.

use std::collections::BTreeSet;

use super::{Result, Store, StoredAgent, StoredNumber, StoredTrunk};

/// Most numbers of one key: one stands on an active trunk at most, the others on trunks that are switched off.
const MOST: i64 = 64;

const DIALLED: &str = "SELECT * FROM numbers WHERE digits = $1 AND deleted_at IS NULL ORDER BY id LIMIT $2";

/// Numbers and what they depend on.
#[derive(Debug, Default)]
pub struct DialledRows {
    /// The numbers.
    pub numbers: Vec<StoredNumber>,
    /// Their trunks.
    pub trunks: Vec<StoredTrunk>,
    /// Their agents, and those that their trunks fall back to.
    pub agents: Vec<StoredAgent>,
    /// Those of their accounts whose balance is used up.
    pub exhausted: Vec<String>,
}

impl Store {
    /// The numbers of every account that have these keys ([`tandem_call::dialled::key`]), with what they depend on, in one
    /// state of the database.
    ///
    /// # Errors
    /// When the database fails, or a secret cannot be opened.
    pub async fn rows_of_dialled(&self, keys: &[String]) -> Result<DialledRows> {
        let mut found = DialledRows::default();
        let mut reader = self.begin_read().await?;
        for key in keys {
            let rows = sqlx::query(DIALLED).bind(key).bind(MOST).fetch_all(&mut *reader).await?;
            for row in &rows {
                found.numbers.push(StoredNumber::of(row)?);
            }
        }
        let trunks: BTreeSet<String> = found.numbers.iter().map(|number| number.trunk.clone()).collect();
        let trunks = self.trunks_by_id(&mut reader, trunks).await?;
        found.trunks = trunks.into_iter().filter_map(|(_, trunk)| trunk).collect();
        let own = found.numbers.iter().filter_map(|number| number.agent.clone());
        let usual = found.trunks.iter().filter_map(|trunk| trunk.settings.default_agent.clone());
        let agents: BTreeSet<String> = own.chain(usual).collect();
        let agents = self.agents_by_id(&mut reader, agents).await?;
        found.agents = agents.into_iter().filter_map(|(_, agent)| agent).collect();
        let accounts: BTreeSet<&String> = found.trunks.iter().map(|trunk| &trunk.account).collect();
        for account in accounts {
            let row: Option<(Option<i64>,)> =
                sqlx::query_as("SELECT balance_millicents FROM accounts WHERE id = $1")
                    .bind(account)
                    .fetch_optional(&mut *reader)
                    .await?;
            if row.and_then(|(balance,)| balance).is_some_and(|balance| balance <= 0) {
                found.exhausted.push(account.clone());
            }
        }
        Ok(found)
    }
}
