//! The store: accounts, keys, trunks, numbers, agents, executions, verdicts, in one set of SQL statements for
//! SQLite and PostgreSQL.
//!
//! One path writes: every change is one transaction ([`change::Change`]), begun with the write lock held, so a
//! check and the change it allows cannot be parted. Every statement that serves a tenant names the account. This
//! module validates nothing a client sent and decides nothing about calls.

mod accounts;
mod agents;
mod audit;
mod balance;
mod batches;
pub(crate) mod change;
mod dialled;
mod executions;
mod feed;
mod health;
mod idempotency;
mod lists;
mod numbers;
mod order;
mod providers;
mod queue;
mod recordings;
mod revision;
mod sealed;
mod transfer;
mod trunk_parts;
mod trunks;
mod verdicts;
mod webhooks;

use std::path::{Path, PathBuf};
use std::str::FromStr as _;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sqlx::AnyPool;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::MigrateError;

pub use accounts::{Account, AccountSettings, ApiKey, NewKey, Usage};
pub use agents::{MASK, NewAgent, StoredAgent};
pub use audit::{AuditEntry, AuditFilter};
pub use batches::{BatchPlan, BatchStatus, Contact, NewBatch, StoredBatch};
pub use change::Touched;
pub use dialled::DialledRows;
pub use executions::{ExecutionFilter, StoredExecution};
pub use feed::{ChangedRows, Changes};
pub use health::TrunkHealth;
pub use idempotency::{Claim, KeptAnswer, RequestName};
pub use lists::{Cursor, Page};
pub use numbers::{NewNumber, NumberMode, StoredNumber};
pub use order::{Attempt, CallOrder, OrderEvent, RetryRules};
pub use providers::{PLACE_BEGINS as PROVIDER_PLACE_BEGINS, StoredProvider};
pub use queue::{NewCall, Stopped};
pub(crate) use recordings::recording_place;
pub use recordings::{NewRecording, StoredRecording};
pub use revision::Expected;
pub use sealed::Rotation;
pub use transfer::{Export, Imported, TransferError};
pub use trunk_parts::{StoredCredential, StoredGateway, StoredIdentifier};
pub use trunks::{
    AuthType, ExternalAlias, MediaEncryption, StoredLimits, StoredRegistration, StoredTrunk, TransportKind,
    TrunkFamily, TrunkSettings,
};
pub use verdicts::{NewVerdict, VerdictFilter};
pub use webhooks::{
    Delivery, DeliveryAttempt, DeliveryFilter, NewDelivery, Receiver, StoredWebhook, WebhookSettings,
    place_of,
};

use crate::secrets::{Sealer, SecretError};

/// Connections that read. SQLite readers do not block each other, nor the writer (WAL).
const READERS: u32 = 8;

/// How long a request waits for its turn at the database.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the text sealed when the database was made is bound to.
const SEAL_PLACE: &str = "the database";

/// What kept the store from doing what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No such row in this account.
    #[error("not found")]
    NotFound,
    /// The account has no agent of this identifier.
    #[error("agent not found")]
    AgentNotFound,
    /// A trunk of the account has this name.
    #[error("a trunk of this name exists")]
    TrunkNameTaken,
    /// The number is on this trunk already, or on another active one.
    #[error("the number {number} is on {} already", if *same_trunk { "this trunk" } else { "another active trunk" })]
    NumberTaken {
        /// As the client wrote it.
        number: String,
        /// On this trunk, not another.
        same_trunk: bool,
    },
    /// The account's identifier is taken, or was.
    #[error("the account exists already")]
    AccountTaken,
    /// Other accounts stand under the account.
    #[error("{accounts} accounts stand under it")]
    AccountInUse {
        /// How many.
        accounts: i64,
    },
    /// What the account may spend has no bound.
    #[error("the account has no balance")]
    NoBalance,
    /// The account has as many webhooks as it may.
    #[error("the account has as many webhooks as it may")]
    TooManyWebhooks,
    /// The account has as many keys as it may.
    #[error("the account has as many keys as it may")]
    TooManyKeys,
    /// The account keeps as many secrets of providers as it may.
    #[error("the account keeps as many secrets of providers as it may")]
    TooManyProviders,
    /// The batch was scheduled before.
    #[error("the batch is {status} already")]
    BatchWasScheduled {
        /// Where it stands.
        status: &'static str,
    },
    /// No call of the batch waits or is up.
    #[error("the batch is not queued or running")]
    BatchIsIdle,
    /// The row has another revision than the change presupposes.
    #[error("the row has revision {current} by now")]
    OtherRevision {
        /// The one it has.
        current: i64,
    },
    /// As many calls of the account wait as may.
    #[error("{waiting} calls wait already, of at most {most}")]
    QueueFull {
        /// How many wait.
        waiting: i64,
        /// How many may.
        most: u32,
    },
    /// The trunk has a number with this destination key already.
    #[error("the destination key {key} is on this trunk already")]
    DestinationTaken {
        /// As the client wrote it.
        key: String,
    },
    /// A secret cannot be opened.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// A row holds what no version of this program writes.
    #[error("the row {place} cannot be read: {detail}")]
    Corrupt {
        /// Table and identifier.
        place: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The database cannot be opened.
    #[error("the database {url} cannot be opened: {detail}")]
    Open {
        /// Its address, without a password.
        url: String,
        /// What the driver says.
        detail: String,
    },
    /// The database was made by a newer program.
    #[error(
        "the database {url} has schema {found}, which this program does not know (it knows {known}): run the \
         newer program, or restore a backup made before it"
    )]
    Newer {
        /// Its address, without a password.
        url: String,
        /// The schema that this program does not know.
        found: i64,
        /// The newest it knows.
        known: i64,
    },
    /// The database is in use and did not get free in time; nothing was changed.
    #[error("the database is busy: {0}")]
    Busy(sqlx::Error),
    /// The database failed.
    #[error("the database failed: {0}")]
    Database(sqlx::Error),
}

/// The result of asking the store.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The open store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    readers: AnyPool,
    writer: AnyPool,
    /// Writes what calls leave behind. SQLite has one writer, and this is the same one.
    journal: AnyPool,
    engine: Engine,
    /// Tells this store's changes from others'.
    origin: Arc<str>,
    sealer: Sealer,
    /// The text sealed when the database was made, as it was when this store was opened.
    seal: Arc<OnceLock<String>>,
    /// Told when a call was queued here.
    due: Arc<tokio::sync::Notify>,
    /// What a minute of an answered call costs.
    millicents_per_minute: u32,
}

/// Which database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Sqlite,
    Postgres,
}

impl Engine {
    fn begin_change(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    fn begin_read(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN",
            Self::Postgres => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
        }
    }

    /// What each connection is told first.
    fn preamble(self) -> &'static [&'static str] {
        match self {
            // WAL, so that readers do not wait for the writer; FULL, so that what was acknowledged outlives a
            // power cut.
            Self::Sqlite => &[
                // Milliseconds one process waits for another's write to end.
                "PRAGMA busy_timeout = 10000",
                "PRAGMA journal_mode = WAL",
                "PRAGMA synchronous = FULL",
                "PRAGMA foreign_keys = ON",
            ],
            // A node that stops in the middle of a change must not hold up the others.
            Self::Postgres => {
                &["SET lock_timeout = '10s'", "SET idle_in_transaction_session_timeout = '30s'"]
            }
        }
    }
}

/// Where a store lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A file of SQLite.
    File(PathBuf),
    /// A server of PostgreSQL.
    Server,
}

impl Place {
    /// What a store URL names.
    pub fn of(url: &str) -> Self {
        match url.strip_prefix("sqlite:") {
            Some(rest) => {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                Self::File(PathBuf::from(path.split('?').next().unwrap_or(path)))
            }
            None => Self::Server,
        }
    }

    /// The file, when it is one.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(path) => Some(path),
            Self::Server => None,
        }
    }
}

impl Store {
    /// Opens the store, making the database if it is a file that does not exist, and brings its schema up to
    /// date.
    ///
    /// # Errors
    /// When it cannot be opened, its schema is newer than this program, or it was sealed with another key.
    pub async fn open(url: &str, sealer: Sealer) -> Result<Self> {
        sqlx::any::install_default_drivers();
        let place = Place::of(url);
        let fail = |detail: String| StoreError::Open { url: without_password(url), detail };
        let (address, engine) = match &place {
            Place::File(path) => {
                if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    std::fs::create_dir_all(folder)
                        .map_err(|error| fail(format!("its folder cannot be made: {error}")))?;
                }
                make_private(path).map_err(|error| fail(error.to_string()))?;
                (format!("sqlite://{}?mode=rwc", path.display()), Engine::Sqlite)
            }
            Place::Server => (url.to_owned(), Engine::Postgres),
        };
        let options = AnyConnectOptions::from_str(&address).map_err(|error| fail(error.to_string()))?;
        let pool = |connections: u32| {
            AnyPoolOptions::new().max_connections(connections).acquire_timeout(PATIENCE).after_connect(
                move |connection, _| {
                    Box::pin(async move {
                        for statement in engine.preamble() {
                            sqlx::query(*statement).execute(&mut *connection).await?;
                        }
                        Ok(())
                    })
                },
            )
        };
        let lock = match place.file() {
            Some(path) => Some(lock_beside(path).await.map_err(|error| fail(error.to_string()))?),
            // PostgreSQL's own lock is taken by the migrator.
            None => None,
        };
        // The writer first: it makes the file and turns WAL on before a reader looks.
        let writer = pool(1).connect_with(options.clone()).await.map_err(|error| fail(error.to_string()))?;
        migrate(&writer, url).await?;
        drop(lock);
        let journal = match engine {
            Engine::Sqlite => writer.clone(),
            Engine::Postgres => {
                pool(1).connect_with(options.clone()).await.map_err(|error| fail(error.to_string()))?
            }
        };
        let readers = pool(READERS).connect_with(options).await.map_err(|error| fail(error.to_string()))?;
        let origin = crate::ids::uuid().into();
        let store = Self {
            readers,
            writer,
            journal,
            engine,
            origin,
            sealer,
            seal: Arc::default(),
            due: Arc::default(),
            millicents_per_minute: 0,
        };
        store.check_seal().await?;
        Ok(store)
    }

    /// Looks at a database that exists, without making or migrating anything, and says what it holds.
    ///
    /// # Errors
    /// When it cannot be opened, is not ours, or was sealed with another key.
    pub async fn look(url: &str, sealer: &Sealer) -> Result<String> {
        sqlx::any::install_default_drivers();
        let fail = |detail: String| StoreError::Open { url: without_password(url), detail };
        let address = match Place::of(url) {
            Place::File(path) => format!("sqlite://{}?mode=ro", path.display()),
            Place::Server => url.to_owned(),
        };
        let options = AnyConnectOptions::from_str(&address).map_err(|error| fail(error.to_string()))?;
        let pool = AnyPoolOptions::new()
            .max_connections(1)
            .acquire_timeout(Duration::from_secs(5))
            .connect_with(options)
            .await
            .map_err(|error| fail(error.to_string()))?;
        let sealed: Option<(String,)> =
            sqlx::query_as("SELECT value FROM settings WHERE name = 'seal_check'")
                .fetch_optional(&pool)
                .await
                .map_err(|error| fail(format!("it holds no tables of this program: {error}")))?;
        if let Some((sealed,)) = sealed {
            sealer.open(SEAL_PLACE, &sealed)?;
        }
        let (trunks,): (i64,) = sqlx::query_as("SELECT COUNT(*) FROM trunks").fetch_one(&pool).await?;
        let (numbers,): (i64,) =
            sqlx::query_as("SELECT COUNT(*) FROM numbers WHERE deleted_at IS NULL").fetch_one(&pool).await?;
        pool.close().await;
        Ok(format!("{trunks} trunks, {numbers} numbers"))
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// When it gives none.
    pub async fn ping(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }

    /// Closes every connection; what was acknowledged is on disk.
    pub async fn close(&self) {
        self.readers.close().await;
        self.journal.close().await;
        self.writer.close().await;
    }

    /// Holds the key against a text sealed when the database was made, so that a wrong key is told at the start
    /// and not when the first trunk is asked for its password.
    async fn check_seal(&self) -> Result<()> {
        let mut change = self.begin().await?;
        let sealed: Option<(String,)> =
            sqlx::query_as("SELECT value FROM settings WHERE name = 'seal_check'")
                .fetch_optional(&mut *change)
                .await?;
        let sealed = match sealed {
            Some((sealed,)) => {
                self.sealer.open(SEAL_PLACE, &sealed)?;
                sealed
            }
            None => {
                let sealed = self.sealer.seal(SEAL_PLACE, "tandem");
                sqlx::query("INSERT INTO settings (name, value) VALUES ('seal_check', $1)")
                    .bind(&sealed)
                    .execute(&mut *change)
                    .await?;
                change.commit().await?;
                sealed
            }
        };
        self.seal.get_or_init(|| sealed);
        Ok(())
    }
}

/// Makes the file, readable by its owner alone, when there is none; the files SQLite puts beside it follow it.
fn make_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => Err(error),
        Ok(_) | Err(_) => Ok(()),
    }
}

/// Waits for the lock file beside the database: two processes that start at once bring the schema up to date one
/// after the other. The system takes the lock back when a process ends, however it ends.
async fn lock_beside(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut beside = path.as_os_str().to_owned();
    beside.push(".lock");
    let file =
        std::fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(beside)?;
    tokio::task::spawn_blocking(move || file.lock().map(|()| file)).await?
}

/// Brings the schema up to date, under the migrator's lock on PostgreSQL and the caller's on SQLite.
async fn migrate(writer: &AnyPool, url: &str) -> Result<()> {
    let known = sqlx::migrate!("./migrations");
    known.run(writer).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => StoreError::Newer {
            url: without_password(url),
            found,
            known: known.iter().map(|migration| migration.version).max().unwrap_or(0),
        },
        error => StoreError::Open { url: without_password(url), detail: error.to_string() },
    })
}

/// The address of a database as it may be shown.
pub fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.rsplit_once('@') {
        Some((user, host)) => {
            let user = user.split(':').next().unwrap_or_default();
            format!("{scheme}://{user}:…@{host}")
        }
        None => url.to_owned(),
    }
}

/// Milliseconds since 1970 UTC.
pub fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Whether the database refused a row because its key exists.
fn is_taken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(database) if database.is_unique_violation())
}

fn corrupt(place: String, detail: impl ToString) -> StoreError {
    StoreError::Corrupt { place, detail: detail.to_string() }
}
