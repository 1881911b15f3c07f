//! The keeper: takes over what writers have finished, repairs what nobody finished, brings recordings to the object store,
//! and lets go what is older than recordings are kept.
//!
//! In this order, so that a crash at any point loses nothing: the file is whole, the store has its row, the file has its
//! place, the object store has it, the file is gone. It refuses to touch audio.

use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::file::{RecordingFile, RepairError};
use super::sealing::PieceSealer;
use super::writer::Notice;
use super::{Inner, RecordingId, Recordings, file::Finished};
use crate::api::CallCommand;
use crate::store::{NewRecording, StoredRecording, now_ms};

/// How often uploads that failed are looked at.
const UPLOAD_PERIOD: Duration = Duration::from_secs(5);
/// How often old recordings are looked for.
const RETENTION_PERIOD: Duration = Duration::from_secs(600);
/// Rows taken at once.
const BATCH: i64 = 100;
/// Pause before the store is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a failed upload: doubled each time, up to the longest.
const UPLOAD_PAUSE_MS: i64 = 5_000;
const UPLOAD_PAUSE_MAX_MS: i64 = 3_600_000;

/// The files among the unfinished, at the start.
///
/// # Errors
/// What the system says.
pub(super) fn left_unfinished(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut left = entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<Vec<_>>>()?;
    left.sort();
    Ok(left)
}

/// See the module.
#[derive(Debug)]
pub(super) struct Keeper {
    recordings: Recordings,
    commands: mpsc::Sender<CallCommand>,
}

impl Keeper {
    pub(super) fn new(recordings: Recordings, commands: mpsc::Sender<CallCommand>) -> Self {
        Self { recordings, commands }
    }

    /// Keeps until every writer has ended.
    pub(super) async fn run(self, mut told: mpsc::Receiver<Notice>, left: Vec<PathBuf>) {
        self.repair(left).await;
        let mut uploads = interval(UPLOAD_PERIOD);
        uploads.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut retention = interval(RETENTION_PERIOD);
        retention.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (wake, mut woken) = mpsc::channel::<()>(1);
        // An upload may take minutes; notices are taken meanwhile.
        let uploader = Uploader(self.recordings.clone());
        let uploading = tokio::spawn(async move {
            loop {
                tokio::select! {
                    _ = uploads.tick() => {}
                    woken = woken.recv() => if woken.is_none() { return },
                }
                uploader.upload_due().await;
            }
        });
        loop {
            tokio::select! {
                notice = told.recv() => match notice {
                    Some(notice) => {
                        self.notice(notice).await;
                        // Full means that it is awake already.
                        let _ = wake.try_send(());
                    }
                    None => break,
                },
                _ = retention.tick() => self.let_go_old().await,
            }
        }
        uploading.abort();
    }

    fn inner(&self) -> &Inner {
        &self.recordings.0
    }

    async fn notice(&self, notice: Notice) {
        match notice {
            Notice::Begun { id, key } => {
                let row = self.row(&id, key.as_deref(), None);
                // Only a convenience for whoever looks meanwhile: the row is written when it is finished.
                if let Err(error) = self.inner().store.begin_recording(&row).await {
                    tracing::warn!(execution_id = %id.call, %error, "the beginning of a recording is not stored");
                }
            }
            Notice::Finished { id, path, key, finished } => {
                self.take_over(&id, &path, key.as_deref(), &finished).await
            }
            Notice::Failed { call, why } => {
                // Signalling has gone only when the process ends.
                let _ = self.commands.send(CallCommand::RecordingFailed { call, why }).await;
            }
        }
    }

    fn row<'a>(
        &self,
        id: &'a RecordingId,
        key: Option<&'a str>,
        finished: Option<&Finished>,
    ) -> NewRecording<'a> {
        NewRecording {
            account: id.account.as_str(),
            call: id.call.to_string(),
            kind: id.kind.as_str(),
            format: id.format.as_str(),
            node: self.inner().node.clone(),
            place: id.place(),
            key,
            bytes: finished.map_or(0, |finished| finished.bytes),
            duration_ms: finished.map_or(0, |finished| finished.duration_ms),
            is_to_be_uploaded: self.inner().objects.is_some(),
        }
    }

    /// The row, then the place. The store is asked until it takes it: the file waits.
    async fn take_over(&self, id: &RecordingId, path: &Path, key: Option<&str>, finished: &Finished) {
        let row = self.row(id, key, Some(finished));
        while let Err(error) = self.inner().store.finish_recording(&row).await {
            tracing::warn!(execution_id = %id.call, %error, "a recording waits for the store");
            tokio::time::sleep(STORE_PAUSE).await;
        }
        if let Err(error) = move_to(path, &self.inner().folder.join(&row.place)).await {
            tracing::error!(execution_id = %id.call, %error, "a recording cannot be moved to its place");
            metrics::counter!("tandem_recording_failures_total").increment(1);
            return;
        }
        metrics::counter!("tandem_recordings_finished_total").increment(1);
    }

    /// Finishes what a killed process left.
    async fn repair(&self, left: Vec<PathBuf>) {
        for path in left {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let Some(id) = RecordingId::of_unfinished(name) else {
                tracing::warn!(path = %path.display(), "no recording of ours; left alone");
                continue;
            };
            match self.repair_one(&id, path.clone()).await {
                Ok(Some((key, finished))) => {
                    tracing::info!(execution_id = %id.call, duration_ms = finished.duration_ms,
                        "a recording that a killed process left was repaired");
                    self.take_over(&id, &path, key.as_deref(), &finished).await;
                }
                Ok(None) => {
                    // Killed before anything was said.
                    let _ = tokio::fs::remove_file(&path).await;
                }
                Err(error) => {
                    tracing::error!(execution_id = %id.call, path = %path.display(), %error,
                        "a recording that a killed process left cannot be repaired; it stays where it is");
                    metrics::counter!("tandem_recording_failures_total").increment(1);
                }
            }
        }
    }

    async fn repair_one(
        &self,
        id: &RecordingId,
        path: PathBuf,
    ) -> Result<Option<(Option<String>, Finished)>, RepairError> {
        let (sealer, place) = (self.inner().sealer.clone(), id.seal_place());
        // The node's key may have been changed since: the store's text was sealed again then, the file's was not.
        let stored =
            self.inner().store.recording(id.account.as_str(), &id.call.to_string(), id.kind.as_str()).await;
        let stored = stored.ok().flatten().and_then(|row| row.key);
        let work = move || {
            let mut key = None;
            let file = RecordingFile::reopen(&path, |text| {
                let text = stored.as_deref().unwrap_or(text);
                key = Some(text.to_owned());
                PieceSealer::open(&sealer, &place, text)
            })?;
            Ok(match file {
                Some(file) => Some((key, file.finish()?)),
                None => None,
            })
        };
        tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error).into()))
    }

    async fn let_go_old(&self) {
        let Some(retention) = self.inner().retention else { return };
        let before = now_ms() - i64::try_from(retention.as_millis()).unwrap_or(i64::MAX / 2);
        let mut refused = HashSet::new();
        loop {
            let rows = match self.inner().store.recordings_before(&self.inner().node, before, BATCH).await {
                Ok(rows) => rows,
                Err(error) => return tracing::warn!(%error, "old recordings cannot be looked for"),
            };
            let fresh: Vec<&StoredRecording> =
                rows.iter().filter(|row| !refused.contains(&(row.call.clone(), row.kind.clone()))).collect();
            if fresh.is_empty() {
                return;
            }
            for row in fresh {
                match self.inner().delete(row).await {
                    Ok(()) => metrics::counter!("tandem_recordings_expired_total").increment(1),
                    Err(error) => {
                        tracing::warn!(execution_id = row.call, %error, "an old recording cannot be deleted");
                        refused.insert((row.call.clone(), row.kind.clone()));
                    }
                }
            }
        }
    }
}

/// Brings finished recordings to the object store.
struct Uploader(Recordings);

impl Uploader {
    async fn upload_due(&self) {
        let inner = &self.0.0;
        if inner.objects.is_none() {
            return;
        }
        loop {
            let rows = match inner.store.recordings_to_upload(&inner.node, BATCH).await {
                Ok(rows) => rows,
                Err(error) => return tracing::warn!(%error, "recordings to be uploaded cannot be looked for"),
            };
            if rows.is_empty() {
                return;
            }
            for row in rows {
                self.upload(&row).await;
            }
        }
    }

    async fn upload(&self, row: &StoredRecording) {
        let inner = &self.0.0;
        let Some(objects) = &inner.objects else { return };
        let path = inner.folder.join(&row.place);
        let outcome = objects.put(&row.place, &path, content_type(row)).await;
        let stored = match &outcome {
            Ok(()) => inner.store.recording_uploaded(row).await,
            Err(error) => {
                tracing::warn!(execution_id = row.call, %error, "a recording is not uploaded yet");
                let pause =
                    UPLOAD_PAUSE_MS.saturating_mul(1 << row.attempts.clamp(0, 16)).min(UPLOAD_PAUSE_MAX_MS);
                inner.store.recording_not_uploaded(row, &error.to_string(), now_ms() + pause).await
            }
        };
        let word = if outcome.is_ok() { "done" } else { "failed" };
        metrics::counter!("tandem_recording_uploads_total", "outcome" => word).increment(1);
        match stored {
            Ok(()) if outcome.is_ok() => {
                // What stays behind here only takes room: the store names the object from now on.
                let _ = tokio::fs::remove_file(&path).await;
            }
            Ok(()) => {}
            Err(error) => {
                tracing::warn!(execution_id = row.call, %error, "what came of an upload is not stored");
                tokio::time::sleep(STORE_PAUSE).await;
            }
        }
    }
}

/// What the object is told to be; sealed it is nothing that anybody could play.
fn content_type(row: &StoredRecording) -> &'static str {
    if row.key.is_some() { "application/octet-stream" } else { row.content_type() }
}

async fn move_to(path: &Path, place: &Path) -> io::Result<()> {
    if let Some(folder) = place.parent() {
        super::make_private(folder)?;
    }
    tokio::fs::rename(path, place).await
}
