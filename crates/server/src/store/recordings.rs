//! Recordings: one row for each, from its beginning until it is deleted. The audio is elsewhere
//! ([`crate::recording`]).

use sqlx::Row as _;
use sqlx::any::AnyRow;
use tandem_call::RecordingState;

use super::{Result, Store, StoredExecution, executions, now_ms, sealed};

/// A recording as stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredRecording {
    /// The call.
    pub call: String,
    /// `call` or `transfer`.
    pub kind: String,
    /// Whose it is.
    pub account: String,
    /// The node that wrote it.
    pub node: String,
    /// [`Self::RECORDING`], [`Self::WAITING`], [`Self::KEPT`] or [`Self::STORED`].
    pub state: String,
    /// How it is written.
    pub format: String,
    /// Where it is, below the folder or the prefix.
    pub place: String,
    /// Its key, sealed with the node's, if it is encrypted.
    pub key: Option<String>,
    /// Length of its plain text.
    pub bytes: u64,
    /// How long it plays.
    pub duration_ms: u64,
    /// When it began, milliseconds since 1970.
    pub created_at: i64,
    /// Uploads that failed.
    pub attempts: i64,
}

/// What a row is made from.
#[derive(Clone, Debug)]
pub struct NewRecording<'a> {
    /// Whose it is.
    pub account: &'a str,
    /// The call.
    pub call: String,
    /// `call` or `transfer`.
    pub kind: &'a str,
    /// How it is written.
    pub format: &'a str,
    /// The node that writes it.
    pub node: String,
    /// Where it will be.
    pub place: String,
    /// Its key, sealed.
    pub key: Option<&'a str>,
    /// Length of its plain text.
    pub bytes: u64,
    /// How long it plays.
    pub duration_ms: u64,
    /// Whether it goes on to an object store once it is finished.
    pub is_to_be_uploaded: bool,
}

/// What the key of a recording is sealed for.
pub(crate) fn recording_place(call: &str, kind: &str) -> String {
    sealed::place("recordings", &format!("{call}/{kind}"), "data_key")
}

impl StoredRecording {
    /// It is being written.
    pub const RECORDING: &'static str = "recording";
    /// It is whole, on its node's disk, and waits for its upload.
    pub const WAITING: &'static str = "waiting";
    /// It is whole, on its node's disk, to stay.
    pub const KEPT: &'static str = "kept";
    /// It is in the object store.
    pub const STORED: &'static str = "stored";

    /// What it is to HTTP.
    #[must_use]
    pub fn content_type(&self) -> &'static str {
        "audio/wav"
    }

    fn of(row: &AnyRow) -> Result<Self> {
        let unsigned = |name: &str| Ok::<_, sqlx::Error>(row.try_get::<i64, _>(name)?.unsigned_abs());
        Ok(Self {
            call: row.try_get("execution_id")?,
            kind: row.try_get("kind")?,
            account: row.try_get("account_id")?,
            node: row.try_get("node")?,
            state: row.try_get("state")?,
            format: row.try_get("format")?,
            place: row.try_get("place")?,
            key: row.try_get("data_key")?,
            bytes: unsigned("bytes")?,
            duration_ms: unsigned("duration_ms")?,
            created_at: row.try_get("created_at")?,
            attempts: row.try_get("attempts")?,
        })
    }
}

impl Store {
    /// Notes that a recording has begun.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn begin_recording(&self, new: &NewRecording<'_>) -> Result<()> {
        self.put_recording(new, StoredRecording::RECORDING).await
    }

    /// Notes that a recording is whole and on this node's disk.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn finish_recording(&self, new: &NewRecording<'_>) -> Result<()> {
        let state = if new.is_to_be_uploaded { StoredRecording::WAITING } else { StoredRecording::KEPT };
        self.put_recording(new, state).await
    }

    async fn put_recording(&self, new: &NewRecording<'_>, state: &str) -> Result<()> {
        let signed = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
        let mut change = self.begin_journal().await?;
        sqlx::query(
            "INSERT INTO recordings (execution_id, kind, account_id, node, state, format, place, data_key, bytes, \
             duration_ms, created_at, updated_at, attempts, next_at) \
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, 0, 0) \
             ON CONFLICT (execution_id, kind) DO UPDATE SET state = excluded.state, bytes = excluded.bytes, \
             duration_ms = excluded.duration_ms, updated_at = excluded.updated_at \
             WHERE recordings.state = 'recording'",
        )
        .bind(&new.call)
        .bind(new.kind)
        .bind(new.account)
        .bind(&new.node)
        .bind(state)
        .bind(new.format)
        .bind(&new.place)
        .bind(new.key)
        .bind(signed(new.bytes))
        .bind(signed(new.duration_ms))
        .bind(now_ms())
        .execute(&mut *change)
        .await?;
        Ok(change.commit().await?)
    }

    /// A recording of the account, if there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recording(&self, account: &str, call: &str, kind: &str) -> Result<Option<StoredRecording>> {
        let row =
            sqlx::query("SELECT * FROM recordings WHERE execution_id = $1 AND kind = $2 AND account_id = $3")
                .bind(call)
                .bind(kind)
                .bind(account)
                .fetch_optional(&self.readers)
                .await?;
        row.as_ref().map(StoredRecording::of).transpose()
    }

    /// Recordings of all accounts on this node's disk whose upload is due, those due first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recordings_to_upload(&self, node: &str, most: i64) -> Result<Vec<StoredRecording>> {
        let rows = sqlx::query(
            "SELECT * FROM recordings WHERE node = $1 AND state = 'waiting' AND next_at <= $2 \
             ORDER BY next_at, created_at LIMIT $3",
        )
        .bind(node)
        .bind(now_ms())
        .bind(most)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredRecording::of).collect()
    }

    /// Notes that a recording is in the object store.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recording_uploaded(&self, recording: &StoredRecording) -> Result<()> {
        let mut change = self.begin_journal().await?;
        sqlx::query(
            "UPDATE recordings SET state = 'stored', updated_at = $1, last_error = NULL \
             WHERE execution_id = $2 AND kind = $3 AND state = 'waiting'",
        )
        .bind(now_ms())
        .bind(&recording.call)
        .bind(&recording.kind)
        .execute(&mut *change)
        .await?;
        Ok(change.commit().await?)
    }

    /// Notes that an upload failed and is tried again at `next_at`.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recording_not_uploaded(
        &self,
        recording: &StoredRecording,
        error: &str,
        next_at: i64,
    ) -> Result<()> {
        let mut change = self.begin_journal().await?;
        sqlx::query(
            "UPDATE recordings SET attempts = attempts + 1, next_at = $1, updated_at = $2, last_error = $3 \
             WHERE execution_id = $4 AND kind = $5",
        )
        .bind(next_at)
        .bind(now_ms())
        .bind(error)
        .bind(&recording.call)
        .bind(&recording.kind)
        .execute(&mut *change)
        .await?;
        Ok(change.commit().await?)
    }

    /// Recordings of all accounts that began before a time and that this node can delete, the oldest first.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn recordings_before(
        &self,
        node: &str,
        before: i64,
        most: i64,
    ) -> Result<Vec<StoredRecording>> {
        let rows = sqlx::query(
            "SELECT * FROM recordings WHERE created_at < $1 AND state <> 'recording' \
             AND (node = $2 OR state = 'stored') ORDER BY created_at LIMIT $3",
        )
        .bind(before)
        .bind(node)
        .bind(most)
        .fetch_all(&self.readers)
        .await?;
        rows.iter().map(StoredRecording::of).collect()
    }

    /// Forgets a recording, and says so in its call's record.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn delete_recording(&self, account: &str, call: &str, kind: &str) -> Result<()> {
        let mut change = self.begin().await?;
        sqlx::query("DELETE FROM recordings WHERE execution_id = $1 AND kind = $2 AND account_id = $3")
            .bind(call)
            .bind(kind)
            .bind(account)
            .execute(&mut *change)
            .await?;
        let row = sqlx::query("SELECT * FROM executions WHERE id = $1 AND account_id = $2")
            .bind(call)
            .bind(account)
            .fetch_optional(&mut *change)
            .await?;
        if let Some(row) = row {
            let mut record = StoredExecution::of(&row)?.record;
            if let Some(recording) = record.media.recording.as_mut().filter(|_| kind == "call") {
                recording.state = RecordingState::Deleted;
                executions::upsert(&mut change, &record).await?;
            }
        }
        change.commit().await
    }
}
