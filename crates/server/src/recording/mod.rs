//! Recordings: written off the audio path, repaired after a crash, kept on disk or in an object store, read back to their
//! tenant, and let go when they are old.
//!
//! ```text
//! media thread ─ blocks, bounded queue ─▶ writer thread ─▶ unfinished/… ─ finished ─▶ keeper ─▶ store row, its place,
//!                                                                                              object store
//! ```
//! A media thread never waits: what the queue does not take is dropped, counted and told the call. It refuses to know what
//! is in the audio, and to hand a recording to another account.

mod file;
mod keeper;
mod objects;
mod playback;
mod queue;
mod sealing;
mod wav;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use tandem_call::{AccountId, CallId, RecordingFormat};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

pub use self::objects::ObjectFault;
use self::objects::Objects;
pub use self::playback::{Playback, PlaybackError};
pub use self::queue::RecordingQueue;
use crate::api::CallCommand;
use crate::config::{RecordingKeep, RecordingSettings};
use crate::net::post::Poster;
use crate::secrets::Sealer;
use crate::store::{Store, StoredRecording};

/// Notices of the writers that may wait for the keeper; then the writers wait, and blocks are dropped.
const NOTICES: usize = 1_024;

/// What a recording is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RecordingKind {
    /// A call with its agent.
    Call,
    /// What followed when the agent handed the caller on.
    Transfer,
}

impl RecordingKind {
    /// The word in paths and in the store.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Transfer => "transfer",
        }
    }
}

/// Which recording.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordingId {
    pub(crate) account: AccountId,
    pub(crate) call: CallId,
    pub(crate) kind: RecordingKind,
    pub(crate) format: RecordingFormat,
}

impl RecordingId {
    /// What its key is sealed for.
    fn seal_place(&self) -> String {
        crate::store::recording_place(&self.call.to_string(), self.kind.as_str())
    }

    /// Its name while it is not finished. It tells all that the identifier holds.
    fn unfinished_name(&self) -> String {
        let account = utf8_percent_encode(self.account.as_str(), NON_ALPHANUMERIC);
        format!("{account}.{}.{}.{}", self.call, self.kind.as_str(), self.format.as_str())
    }

    /// Reads such a name.
    fn of_unfinished(name: &str) -> Option<Self> {
        let mut parts = name.split('.');
        let (account, call, kind, format) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let account = percent_encoding::percent_decode_str(account).decode_utf8().ok()?;
        let kind = [RecordingKind::Call, RecordingKind::Transfer]
            .into_iter()
            .find(|known| known.as_str() == kind)?;
        Some(Self {
            account: AccountId::from(account.as_ref()),
            call: CallId(call.parse().ok()?),
            kind,
            format: RecordingFormat::from_word(format)?,
        })
    }

    /// Where it is kept, below the folder or in the bucket.
    fn place(&self) -> String {
        let account = utf8_percent_encode(self.account.as_str(), NON_ALPHANUMERIC);
        let suffix = match self.kind {
            RecordingKind::Call => "",
            RecordingKind::Transfer => ".transfer",
        };
        format!("{account}/{}{suffix}.{}", self.call, self.format.as_str())
    }
}

/// Why recording cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum RecordingFault {
    /// The folder cannot be used.
    #[error("recordings cannot be kept in {}: {source}; give recording.folder one that can be written", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The object store's settings do not go together.
    #[error("recording.s3: {0}")]
    Objects(#[from] ObjectFault),
    /// A writer thread cannot be started.
    #[error("a writer of recordings cannot be started: {0}")]
    Thread(std::io::Error),
}

/// The recordings of a node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recordings(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    folder: PathBuf,
    retention: Option<Duration>,
    store: Store,
    sealer: Sealer,
    /// Where finished recordings go, if not on disk.
    objects: Option<Objects>,
    node: String,
}

/// What [`Recordings::start`] is given beside the settings.
#[derive(Debug)]
pub struct Surroundings {
    /// Where rows are kept.
    pub store: Store,
    /// Seals the keys of recordings.
    pub sealer: Sealer,
    /// Speaks to the object store.
    pub poster: Poster,
    /// Tells signalling of recordings that fail.
    pub commands: mpsc::Sender<CallCommand>,
    /// This node.
    pub node: String,
}

impl Recordings {
    /// Starts the writers and the keeper, who first repairs what a killed process left. The folder is made when the first
    /// recording begins.
    ///
    /// # Errors
    /// [`RecordingFault`].
    pub fn start(
        settings: &RecordingSettings,
        around: Surroundings,
    ) -> Result<(Self, RecordingQueue, JoinHandle<()>), RecordingFault> {
        let folder = settings.folder.clone();
        let unfinished = unfinished_in(&folder);
        let objects = match settings.keep {
            RecordingKeep::Disk => None,
            RecordingKeep::S3 => Some(Objects::new(&settings.s3, around.poster)?),
        };
        let recordings = Self(Arc::new(Inner {
            folder,
            retention: (settings.retention_days > 0)
                .then(|| Duration::from_secs(u64::from(settings.retention_days) * 86_400)),
            store: around.store,
            sealer: around.sealer.clone(),
            objects,
            node: around.node,
        }));
        let (notices, told) = mpsc::channel(NOTICES);
        // Before a writer can add to them.
        let left = keeper::left_unfinished(&unfinished)
            .map_err(|source| RecordingFault::Folder { path: unfinished.clone(), source })?;
        let desk = writer::Desk {
            unfinished,
            sealer: settings.encrypt.then_some(around.sealer),
            keep_free: u64::from(settings.keep_free_mb) * 1024 * 1024,
            notices,
        };
        let queue = RecordingQueue::start(desk).map_err(RecordingFault::Thread)?;
        let keeping = keeper::Keeper::new(recordings.clone(), around.commands).run(told, left);
        Ok((recordings, queue, tokio::spawn(keeping)))
    }

    /// The recording of a call, ready to be read; `None` if there is none.
    ///
    /// # Errors
    /// [`PlaybackError`].
    pub async fn open(
        &self,
        account: &str,
        call: &str,
        kind: RecordingKind,
    ) -> Result<Option<Playback>, PlaybackError> {
        let Some(row) = self.0.store.recording(account, call, kind.as_str()).await? else { return Ok(None) };
        Playback::open(&self.0, &row).await.map(Some)
    }

    /// Deletes the recording of a call. False if there is none that is whole.
    ///
    /// # Errors
    /// [`PlaybackError`], when it cannot be deleted; then it is still there.
    pub async fn delete(
        &self,
        account: &str,
        call: &str,
        kind: RecordingKind,
    ) -> Result<bool, PlaybackError> {
        let Some(row) = self.0.store.recording(account, call, kind.as_str()).await? else { return Ok(false) };
        self.0.delete(&row).await?;
        Ok(true)
    }
}

impl Inner {
    /// First what is recorded, then the row that names it: what fails can be tried again.
    async fn delete(&self, row: &StoredRecording) -> Result<(), PlaybackError> {
        if row.state == StoredRecording::STORED {
            self.objects.as_ref().ok_or(PlaybackError::NoObjectStore)?.delete(&row.place).await?;
        } else {
            if row.node != self.node {
                return Err(PlaybackError::OtherNode(row.node.clone()));
            }
            match tokio::fs::remove_file(self.folder.join(&row.place)).await {
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(PlaybackError::File(error)),
            }
        }
        self.store.delete_recording(&row.account, &row.call, &row.kind).await?;
        Ok(())
    }
}

/// Where recordings are that are still written.
fn unfinished_in(folder: &Path) -> PathBuf {
    folder.join("unfinished")
}

/// Makes a folder that its owner alone may look into.
fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_an_unfinished_recording_tells_whose_it_is() {
        let id = RecordingId {
            account: AccountId::from("a/b.c é"),
            call: CallId(uuid::Uuid::from_u128(7)),
            kind: RecordingKind::Transfer,
            format: RecordingFormat::Wav,
        };
        let name = id.unfinished_name();
        assert!(!name.contains('/'));
        assert_eq!(RecordingId::of_unfinished(&name), Some(id));
        for name in ["", "a.b.c.d", "a.00000000-0000-0000-0000-000000000007.call", "x"] {
            assert_eq!(RecordingId::of_unfinished(name), None, "{name}");
        }
    }
}
