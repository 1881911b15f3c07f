//! Numbers on trunks, and the claims that keep a number from standing on two active trunks.
//!
//! A claim is keyed by the number's digits without plus and separators, for that is how an INVITE is matched.
//! The database's own uniqueness decides a race, so two nodes cannot both win.

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::change::Change;
use super::trunks::{agent_exists, words};
use super::{Expected, Result, Store, StoreError, corrupt, is_taken, now_ms};
use crate::ids;

/// A number to be added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewNumber {
    /// As the client wrote it, with or without a plus.
    pub phone_number: String,
    /// The owner's name for it.
    pub name: Option<String>,
    /// Whether strict E.164 was asked for.
    pub e164_check_enabled: bool,
    /// Switched on.
    pub is_active: bool,
    /// Where its calls go, as far as its owner said.
    pub mode: Option<NumberMode>,
    /// How the carrier writes it in a Request-URI, where its owner said so.
    pub destination_key: Option<String>,
}

impl NewNumber {
    /// A number with the documented defaults.
    pub fn new(phone_number: impl Into<String>) -> Self {
        Self {
            phone_number: phone_number.into(),
            name: None,
            e164_check_enabled: false,
            is_active: true,
            mode: None,
            destination_key: None,
        }
    }
}

words!(
    /// Where the calls of a number go.
    NumberMode {
        /// To the trunk's own destinations.
        Pstn = "pstn",
        /// To the agent it is mapped to.
        Flow = "flow",
    }
);

/// A number as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredNumber {
    /// Identifier.
    pub id: String,
    /// Whose it is.
    pub account: String,
    /// The trunk it is on.
    pub trunk: String,
    /// What was added.
    pub number: NewNumber,
    /// The agent that answers.
    pub agent: Option<String>,
    /// When it was added, milliseconds since 1970.
    pub created_at: i64,
    /// When it was last changed.
    pub updated_at: i64,
    /// Raised by every change.
    pub revision: i64,
}

impl StoredNumber {
    pub(super) fn of(row: &AnyRow) -> Result<Self> {
        let id: String = row.try_get("id")?;
        let mode: Option<String> = row.try_get("mode")?;
        let mode = mode.map(|word| {
            NumberMode::from_word(&word)
                .ok_or_else(|| corrupt(format!("numbers/{id}"), "mode holds an unknown word"))
        });
        Ok(Self {
            id,
            account: row.try_get("account_id")?,
            trunk: row.try_get("trunk_id")?,
            number: NewNumber {
                phone_number: row.try_get("phone_number")?,
                name: row.try_get("name")?,
                e164_check_enabled: row.try_get::<i64, _>("e164_check_enabled")? != 0,
                is_active: row.try_get::<i64, _>("is_active")? != 0,
                mode: mode.transpose()?,
                destination_key: row.try_get("destination_key")?,
            },
            agent: row.try_get("agent_id")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
            revision: row.try_get("revision")?,
        })
    }
}

impl Store {
    /// Adds a number to a trunk of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the trunk, [`StoreError::NumberTaken`].
    pub async fn add_number(&self, account: &str, trunk: &str, number: &NewNumber) -> Result<StoredNumber> {
        self.add_number_for(account, trunk, number, None).await
    }

    /// Adds a number to a trunk of the account, mapped to an agent of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the trunk, [`StoreError::AgentNotFound`], [`StoreError::NumberTaken`],
    /// [`StoreError::DestinationTaken`].
    pub async fn add_number_for(
        &self,
        account: &str,
        trunk: &str,
        number: &NewNumber,
        agent: Option<&str>,
    ) -> Result<StoredNumber> {
        let mut change = self.begin().await?;
        let row = sqlx::query("SELECT is_active FROM trunks WHERE account_id = $1 AND id = $2")
            .bind(account)
            .bind(trunk)
            .fetch_optional(&mut *change)
            .await?
            .ok_or(StoreError::NotFound)?;
        let is_active = row.try_get::<i64, _>("is_active")? != 0;
        let mut stored = insert(&mut change, account, trunk, is_active, number).await?;
        if let Some(agent) = agent {
            agent_exists(&mut change, account, Some(agent)).await?;
            sqlx::query("UPDATE numbers SET agent_id = $1 WHERE id = $2")
                .bind(agent)
                .bind(&stored.id)
                .execute(&mut *change)
                .await?;
            stored.agent = Some(agent.to_owned());
        }
        raise_trunk(&mut change, trunk).await?;
        change.commit().await?;
        Ok(stored)
    }

    /// The numbers of a trunk of the account, oldest first; deleted ones are not shown.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the trunk.
    pub async fn numbers_of_trunk(&self, account: &str, trunk: &str) -> Result<Vec<StoredNumber>> {
        let mut reader = self.begin_read().await?;
        sqlx::query("SELECT id FROM trunks WHERE account_id = $1 AND id = $2")
            .bind(account)
            .bind(trunk)
            .fetch_optional(&mut *reader)
            .await?
            .ok_or(StoreError::NotFound)?;
        let rows = sqlx::query(
            "SELECT * FROM numbers WHERE trunk_id = $1 AND account_id = $2 AND deleted_at IS NULL \
             ORDER BY created_at, id",
        )
        .bind(trunk)
        .bind(account)
        .fetch_all(&mut *reader)
        .await?;
        rows.iter().map(StoredNumber::of).collect()
    }

    /// The account's numbers on all its trunks, oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn numbers(&self, account: &str) -> Result<Vec<StoredNumber>> {
        let rows = sqlx::query(
            "SELECT * FROM numbers WHERE account_id = $1 AND deleted_at IS NULL ORDER BY created_at, id",
        )
        .bind(account)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredNumber::of).collect()
    }

    /// Removes a number from its trunk; the row stays, deleted and without an agent.
    ///
    /// # Errors
    /// [`StoreError::NotFound`], [`StoreError::OtherRevision`].
    pub async fn remove_number(
        &self,
        account: &str,
        trunk: &str,
        id: &str,
        expected: &Expected,
    ) -> Result<()> {
        let mut change = self.begin().await?;
        let row = sqlx::query(
            "SELECT revision FROM numbers \
             WHERE id = $1 AND trunk_id = $2 AND account_id = $3 AND deleted_at IS NULL",
        )
        .bind(id)
        .bind(trunk)
        .bind(account)
        .fetch_optional(&mut *change)
        .await?
        .ok_or(StoreError::NotFound)?;
        expected.check(row.try_get("revision")?)?;
        sqlx::query("DELETE FROM number_claims WHERE number_id = $1 AND trunk_id = $2")
            .bind(id)
            .bind(trunk)
            .execute(&mut *change)
            .await?;
        sqlx::query(
            "UPDATE numbers SET deleted_at = $1, updated_at = $1, revision = revision + 1, agent_id = NULL \
             WHERE id = $2 AND trunk_id = $3 AND account_id = $4 AND deleted_at IS NULL",
        )
        .bind(now_ms())
        .bind(id)
        .bind(trunk)
        .bind(account)
        .execute(&mut *change)
        .await?;
        change.touch_number(id);
        raise_trunk(&mut change, trunk).await?;
        change.commit().await
    }

    /// One number of the account.
    ///
    /// # Errors
    /// [`StoreError::NotFound`].
    pub async fn number(&self, account: &str, id: &str) -> Result<StoredNumber> {
        let row =
            sqlx::query("SELECT * FROM numbers WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL")
                .bind(id)
                .bind(account)
                .fetch_optional(&self.readers)
                .await?
                .ok_or(StoreError::NotFound)?;
        StoredNumber::of(&row)
    }

    /// Numbers of the account, newest first, from this place on.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn numbers_from(&self, account: &str, most: u32, offset: u64) -> Result<Vec<StoredNumber>> {
        let rows = sqlx::query(
            "SELECT * FROM numbers WHERE account_id = $1 AND deleted_at IS NULL \
             ORDER BY created_at DESC, id DESC LIMIT $2 OFFSET $3",
        )
        .bind(account)
        .bind(i64::from(most))
        .bind(i64::try_from(offset).unwrap_or(i64::MAX))
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredNumber::of).collect()
    }

    /// Some numbers of a trunk of the account, newest first.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] for the trunk.
    pub async fn number_page(
        &self,
        account: &str,
        trunk: &str,
        most: u32,
        offset: u32,
    ) -> Result<Vec<StoredNumber>> {
        let mut reader = self.begin_read().await?;
        sqlx::query("SELECT id FROM trunks WHERE account_id = $1 AND id = $2")
            .bind(account)
            .bind(trunk)
            .fetch_optional(&mut *reader)
            .await?
            .ok_or(StoreError::NotFound)?;
        let rows = sqlx::query(
            "SELECT * FROM numbers WHERE trunk_id = $1 AND account_id = $2 AND deleted_at IS NULL \
             ORDER BY created_at DESC, id DESC LIMIT $3 OFFSET $4",
        )
        .bind(trunk)
        .bind(account)
        .bind(i64::from(most))
        .bind(i64::from(offset))
        .fetch_all(&mut *reader)
        .await?;
        rows.iter().map(StoredNumber::of).collect()
    }

    /// The account's numbers that are called like this, with or without a plus, newest first: one on an active
    /// trunk, and those on trunks that are switched off.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn numbers_called(&self, account: &str, phone_number: &str) -> Result<Vec<StoredNumber>> {
        let rows = sqlx::query(
            "SELECT * FROM numbers WHERE digits = $1 AND account_id = $2 AND deleted_at IS NULL \
             ORDER BY created_at DESC, id DESC",
        )
        .bind(digits(phone_number))
        .bind(account)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredNumber::of).collect()
    }

    /// Says where the calls of a number go.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the number is not on this trunk of the account, [`StoreError::OtherRevision`].
    pub async fn set_number_mode(
        &self,
        account: &str,
        trunk: &str,
        id: &str,
        mode: Option<NumberMode>,
        expected: &Expected,
    ) -> Result<StoredNumber> {
        let mut change = self.begin().await?;
        sqlx::query(
            "UPDATE numbers SET mode = $1, updated_at = $2, revision = revision + 1 \
             WHERE id = $3 AND trunk_id = $4 AND account_id = $5 AND deleted_at IS NULL",
        )
        .bind(mode.map(NumberMode::as_str))
        .bind(now_ms())
        .bind(id)
        .bind(trunk)
        .bind(account)
        .execute(&mut *change)
        .await?;
        let row = sqlx::query(
            "SELECT * FROM numbers WHERE id = $1 AND trunk_id = $2 AND account_id = $3 AND deleted_at IS NULL",
        )
        .bind(id)
        .bind(trunk)
        .bind(account)
        .fetch_optional(&mut *change)
        .await?
        .ok_or(StoreError::NotFound)?;
        let number = StoredNumber::of(&row)?;
        // It was raised above; a change that is not committed never was.
        expected.check(number.revision - 1)?;
        raise_trunk(&mut change, trunk).await?;
        change.touch_number(id);
        change.commit().await?;
        Ok(number)
    }

    /// Whether the account once had this number and removed it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn number_was_removed(&self, account: &str, id: &str) -> Result<bool> {
        let row = sqlx::query(
            "SELECT id FROM numbers WHERE id = $1 AND account_id = $2 AND deleted_at IS NOT NULL",
        )
        .bind(id)
        .bind(account)
        .fetch_optional(&self.readers)
        .await?;
        Ok(row.is_some())
    }

    /// Maps a number to an agent, or to none. That both belong to the account is part of the statement.
    ///
    /// # Errors
    /// [`StoreError::NotFound`] when the number, or the agent, is not the account's.
    pub async fn map_number(&self, account: &str, id: &str, agent: Option<&str>) -> Result<StoredNumber> {
        self.map_expected_number(account, id, agent, &Expected::Any).await
    }

    /// As [`Store::map_number`], if the number is as it is expected to be.
    ///
    /// # Errors
    /// As of [`Store::map_number`], and [`StoreError::OtherRevision`].
    pub async fn map_expected_number(
        &self,
        account: &str,
        id: &str,
        agent: Option<&str>,
        expected: &Expected,
    ) -> Result<StoredNumber> {
        let mut change = self.begin().await?;
        if let Some(agent) = agent {
            sqlx::query("SELECT id FROM agents WHERE id = $1 AND account_id = $2")
                .bind(agent)
                .bind(account)
                .fetch_optional(&mut *change)
                .await?
                .ok_or(StoreError::NotFound)?;
        }
        sqlx::query(
            "UPDATE numbers SET agent_id = $1, updated_at = $2, revision = revision + 1 \
             WHERE id = $3 AND account_id = $4 AND deleted_at IS NULL",
        )
        .bind(agent)
        .bind(now_ms())
        .bind(id)
        .bind(account)
        .execute(&mut *change)
        .await?;
        let row =
            sqlx::query("SELECT * FROM numbers WHERE id = $1 AND account_id = $2 AND deleted_at IS NULL")
                .bind(id)
                .bind(account)
                .fetch_optional(&mut *change)
                .await?
                .ok_or(StoreError::NotFound)?;
        let number = StoredNumber::of(&row)?;
        // It was raised above; a change that is not committed never was.
        expected.check(number.revision - 1)?;
        change.touch_number(id);
        raise_trunk(&mut change, &number.trunk).await?;
        change.commit().await?;
        Ok(number)
    }
}

/// What a number is matched and claimed by.
fn digits(phone_number: &str) -> String {
    tandem_call::dialled::stored_key(phone_number).unwrap_or_else(|| phone_number.to_owned())
}

/// A trunk is shown with its numbers: a change of one of them is a change of the trunk.
pub(super) async fn raise_trunk(change: &mut Change, trunk: &str) -> Result<()> {
    sqlx::query("UPDATE trunks SET revision = revision + 1 WHERE id = $1")
        .bind(trunk)
        .execute(&mut **change)
        .await?;
    Ok(())
}

/// Inserts a number inside a change, with its claim when the trunk is active.
pub(super) async fn insert(
    change: &mut Change,
    account: &str,
    trunk: &str,
    trunk_is_active: bool,
    number: &NewNumber,
) -> Result<StoredNumber> {
    let taken = |same_trunk| StoreError::NumberTaken { number: number.phone_number.clone(), same_trunk };
    // An inactive trunk holds no claims, so its own numbers are looked through.
    let mine =
        sqlx::query("SELECT id FROM numbers WHERE trunk_id = $1 AND digits = $2 AND deleted_at IS NULL")
            .bind(trunk)
            .bind(digits(&number.phone_number))
            .fetch_optional(&mut **change)
            .await?;
    if mine.is_some() {
        return Err(taken(true));
    }
    if let Some(key) = &number.destination_key {
        let taken = sqlx::query(
            "SELECT id FROM numbers WHERE trunk_id = $1 AND destination_key = $2 AND deleted_at IS NULL",
        )
        .bind(trunk)
        .bind(key)
        .fetch_optional(&mut **change)
        .await?;
        if taken.is_some() {
            return Err(StoreError::DestinationTaken { key: key.clone() });
        }
    }
    let now = now_ms();
    let stored = StoredNumber {
        id: ids::ulid(now),
        account: account.to_owned(),
        trunk: trunk.to_owned(),
        number: number.clone(),
        agent: None,
        created_at: now,
        updated_at: now,
        revision: 1,
    };
    sqlx::query(
        "INSERT INTO numbers (id, account_id, trunk_id, phone_number, digits, name, e164_check_enabled, \
         is_active, mode, created_at, updated_at, destination_key) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10, $11)",
    )
    .bind(&stored.id)
    .bind(account)
    .bind(trunk)
    .bind(&number.phone_number)
    .bind(digits(&number.phone_number))
    .bind(&number.name)
    .bind(i64::from(number.e164_check_enabled))
    .bind(i64::from(number.is_active))
    .bind(number.mode.map(NumberMode::as_str))
    .bind(now)
    .bind(&number.destination_key)
    .execute(&mut **change)
    .await?;
    change.touch_number(&stored.id);
    if trunk_is_active {
        claim(change, &stored.id, trunk, &number.phone_number).await?;
    }
    Ok(stored)
}

async fn claim(change: &mut Change, id: &str, trunk: &str, phone_number: &str) -> Result<()> {
    let claimed = sqlx::query("INSERT INTO number_claims (digits, number_id, trunk_id) VALUES ($1, $2, $3)")
        .bind(digits(phone_number))
        .bind(id)
        .bind(trunk)
        .execute(&mut **change)
        .await;
    match claimed {
        Ok(_) => Ok(()),
        Err(error) if is_taken(&error) => {
            Err(StoreError::NumberTaken { number: phone_number.to_owned(), same_trunk: false })
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives up the claims of a trunk that is switched off or deleted.
pub(super) async fn release(change: &mut Change, trunk: &str) -> Result<()> {
    sqlx::query("DELETE FROM number_claims WHERE trunk_id = $1").bind(trunk).execute(&mut **change).await?;
    Ok(())
}

/// Claims every number of a trunk that is switched on again; fails when another trunk has one of them by now.
pub(super) async fn claim_all(change: &mut Change, trunk: &str) -> Result<()> {
    let rows = sqlx::query(
        "SELECT id, phone_number FROM numbers WHERE trunk_id = $1 AND deleted_at IS NULL ORDER BY created_at, id",
    )
    .bind(trunk)
    .fetch_all(&mut **change)
    .await?;
    for row in rows {
        let (id, phone_number): (String, String) = (row.try_get("id")?, row.try_get("phone_number")?);
        claim(change, &id, trunk, &phone_number).await?;
    }
    Ok(())
}
