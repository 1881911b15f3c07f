//! Where sealed texts lie, and the change of the key that seals them.
//!
//! Every sealed column is named here, for the rotation re-seals what is named and an export takes no other secret
//! along. A sealed text is bound to its place, `table/id/column`.

use sqlx::{AssertSqlSafe, Row as _};

use super::change::Change;
use super::recordings::recording_place;
use super::{Result, SEAL_PLACE, Store, StoreError};
use crate::secrets::{Sealer, SecretError};

/// A column that holds sealed texts.
pub(super) struct Sealed {
    pub(super) table: &'static str,
    pub(super) column: &'static str,
    /// Columns that together name the row.
    pub(super) keys: &'static [&'static str],
    /// What the row's text is bound to, of the values of `keys`.
    pub(super) place: fn(&[String]) -> String,
}

pub(super) const SEALED: &[Sealed] = &[
    Sealed {
        table: "trunk_credentials",
        column: "password",
        keys: &["trunk_id", "id"],
        place: |keys| place("trunks", &keys[0], "auth_password"),
    },
    Sealed {
        table: "agents",
        column: "headers",
        keys: &["id"],
        place: |keys| place("agents", &keys[0], "headers"),
    },
    Sealed {
        table: "webhooks",
        column: "secret",
        keys: &["id"],
        place: |keys| place("webhooks", &keys[0], "secret"),
    },
    Sealed {
        table: "recordings",
        column: "data_key",
        keys: &["execution_id", "kind"],
        place: |keys| recording_place(&keys[0], &keys[1]),
    },
    Sealed {
        table: "providers",
        column: "value",
        keys: &["id"],
        place: |keys| place("providers", &keys[0], "value"),
    },
    Sealed {
        table: "idempotency_keys",
        column: "answer",
        keys: &["account_id", "route", "name"],
        place: |keys| format!("idempotency_keys/{}", keys.join("/")),
    },
];

/// Rows re-sealed at a time.
const PAGE: i64 = 500;

/// What a rotation found and did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// So many texts are sealed with the new key now.
    Done(u64),
    /// They were already: an earlier rotation got so far.
    AlreadyDone,
}

/// What the text in this place is bound to.
pub(super) fn place(table: &str, id: &str, column: &str) -> String {
    format!("{table}/{id}/{column}")
}

impl Store {
    /// Seals every secret with another key, all or nothing. Stores that are open with the old key can change
    /// nothing afterwards, and open no secret.
    ///
    /// # Errors
    /// When the database fails or a secret cannot be opened; then nothing was changed.
    pub async fn rotate(&self, new: &Sealer) -> Result<Rotation> {
        let mut change = self.begin().await?;
        let mut resealed = 0;
        for sealed in SEALED {
            resealed += self.reseal(&mut change, sealed, new).await?;
        }
        sqlx::query("UPDATE settings SET value = $1 WHERE name = 'seal_check'")
            .bind(new.seal(SEAL_PLACE, "tandem"))
            .execute(&mut *change)
            .await?;
        change.commit().await?;
        Ok(Rotation::Done(resealed))
    }

    async fn reseal(&self, change: &mut Change, sealed: &Sealed, new: &Sealer) -> Result<u64> {
        let Sealed { table, column, keys, place } = sealed;
        let (names, count) = (keys.join(", "), keys.len());
        let places = |from: usize| (from..from + count).map(|place| format!("${place}")).collect::<Vec<_>>();
        let select = format!(
            "SELECT {names}, {column} FROM {table} WHERE ({names}) > ({}) AND {column} IS NOT NULL \
             ORDER BY {names} LIMIT {PAGE}",
            places(1).join(", ")
        );
        let update = format!("UPDATE {table} SET {column} = $1 WHERE ({names}) = ({})", places(2).join(", "));
        let mut resealed = 0;
        let mut last = vec![String::new(); count];
        loop {
            let mut query = sqlx::query(AssertSqlSafe(select.clone()));
            for key in &last {
                query = query.bind(key.clone());
            }
            let rows = query.fetch_all(&mut **change).await?;
            if rows.is_empty() {
                return Ok(resealed);
            }
            for row in &rows {
                last = keys.iter().map(|key| row.try_get(*key)).collect::<std::result::Result<_, _>>()?;
                let place = place(&last);
                let secret = self.sealer.open(&place, &row.try_get::<String, _>(*column)?)?;
                let mut query =
                    sqlx::query(AssertSqlSafe(update.clone())).bind(new.seal(&place, secret.reveal()));
                for key in &last {
                    query = query.bind(key.clone());
                }
                query.execute(&mut **change).await?;
                resealed += 1;
            }
        }
    }

    /// Opens the store with the key it has and seals its secrets with another. A rotation that was killed is
    /// simply made again: it has happened wholly or not at all.
    ///
    /// # Errors
    /// When the store cannot be opened with either key, or the database fails.
    pub async fn rotate_at(url: &str, old: Sealer, new: &Sealer) -> Result<Rotation> {
        match Self::open(url, old).await {
            Ok(store) => {
                let outcome = store.rotate(new).await;
                store.close().await;
                outcome
            }
            Err(StoreError::Secret(SecretError::WrongKey { .. })) => {
                Self::open(url, new.clone()).await?.close().await;
                Ok(Rotation::AlreadyDone)
            }
            Err(error) => Err(error),
        }
    }
}
