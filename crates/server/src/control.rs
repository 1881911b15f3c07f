//! Opens the control plane: secret key, store, first API key, calls a killed process left open, journal,
//! routing. What `tandem serve` and `tandem demo` begin with; it listens nowhere.

use std::path::Path;
use std::sync::Arc;

use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::mpsc;

use crate::api::{App, CallCommand, DEFAULT_ACCOUNT, Parts, Readiness};
use crate::config::Config;
use crate::journal::Journal;
use crate::routing::{PublishError, RoutingPublisher, TableUpdate};
use crate::secrets::{Sealer, Secret, SecretError};
use crate::store::{Place, Store, StoreError};

/// Shortest key taken from the environment: whoever guesses it has the account.
const LEAST_KEY: usize = 16;

/// Tables on their way to the engine: each is waited for, so one is enough.
const TABLES: usize = 1;

/// Commands on their way to the engine; beyond it a client is told to come again.
const COMMANDS: usize = 256;

/// Why the control plane cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// The secret key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key in the environment is too easily guessed.
    #[error("TANDEM_API_KEY has {0} characters; give at least 16, as `openssl rand -hex 24` prints them")]
    ShortKey(usize),
}

/// What comes from the environment and never from a file.
#[derive(Clone, Debug, Default)]
pub struct Environment {
    /// `TANDEM_API_KEY`.
    pub api_key: Option<Secret>,
    /// `TANDEM_SECRET_KEY`.
    pub secret_key: Option<Secret>,
}

impl Environment {
    /// Reads this process's environment; an empty variable counts as none.
    pub fn read() -> Self {
        let variable =
            |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(Secret::new);
        Self { api_key: variable("TANDEM_API_KEY"), secret_key: variable("TANDEM_SECRET_KEY") }
    }
}

/// Opens the store that a configuration names.
///
/// # Errors
/// When the key or the database cannot be had.
pub async fn open_store(config: &Config, environment: &Environment) -> Result<Store, ControlError> {
    let place = Place::of(&config.store.url);
    if let Some(folder) = place.file().and_then(Path::parent).filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| StoreError::Open {
            url: config.store.url.clone(),
            detail: format!("its folder cannot be made: {error}"),
        })?;
    }
    let sealer = Sealer::find(
        environment.secret_key.as_ref().map(Secret::reveal),
        config.security.secret_key_file.as_deref(),
        place.file(),
    )?;
    Ok(Store::open(&config.store.url, sealer).await?)
}

/// The open control plane.
pub struct Control {
    /// The API, ready to be served.
    pub app: App,
    /// The store.
    pub store: Store,
    /// Takes records and verdicts from the engine.
    pub journal: Journal,
    /// Publishes routing; [`RoutingPublisher::refresh`] once the engine listens to `tables`.
    pub routing: RoutingPublisher,
    /// Tables for the engine: take each, route by it, then answer its `taken`.
    pub tables: mpsc::Receiver<TableUpdate>,
    /// Commands for the engine.
    pub commands: mpsc::Receiver<CallCommand>,
    /// To be told what the node is doing.
    pub readiness: Readiness,
    /// The key made at this, the first, start; to be shown once.
    pub first_key: Option<Secret>,
    /// Calls that a killed process left open, closed now.
    pub closed_calls: usize,
}

impl Control {
    /// Opens everything.
    ///
    /// # Errors
    /// When the key, the database, or the environment's API key will not do.
    pub async fn open(
        config: Arc<Config>,
        environment: &Environment,
        metrics: PrometheusHandle,
    ) -> Result<Self, ControlError> {
        let api_key = environment.api_key.as_ref().map(Secret::reveal);
        if let Some(length) = api_key.map(str::len).filter(|length| *length < LEAST_KEY) {
            return Err(ControlError::ShortKey(length));
        }
        let store = open_store(&config, environment).await?;
        let node = config.node_name();
        let first_key = first_key(&store, api_key.is_some()).await?;
        let closed_calls = store.start_node(&node).await?;
        if closed_calls > 0 {
            tracing::warn!(closed_calls, node, "closed the calls that a stopped process left open");
        }
        let journal = Journal::start(store.clone(), node, config.limits.verdicts);
        let (engine, tables) = mpsc::channel(TABLES);
        let routing = RoutingPublisher::start(store.clone(), engine);
        let (commander, commands) = mpsc::channel(COMMANDS);
        let readiness = Readiness::default();
        let app = App::new(Parts {
            config,
            store: store.clone(),
            routing: routing.clone(),
            journal: journal.clone(),
            commands: commander,
            readiness: readiness.clone(),
            metrics,
            environment_key: api_key.map(App::key_hash),
        });
        Ok(Self { app, store, journal, routing, tables, commands, readiness, first_key, closed_calls })
    }

    /// Publishes routing for the first time; the engine must be listening.
    ///
    /// # Errors
    /// When the store cannot be read or the engine does not take the table.
    pub async fn publish(&self) -> Result<(), PublishError> {
        self.routing.refresh().await
    }
}

/// Makes the account `default` and, when nothing else opens any account, its first key.
async fn first_key(store: &Store, has_environment_key: bool) -> Result<Option<Secret>, StoreError> {
    store.ensure_account(DEFAULT_ACCOUNT).await?;
    if has_environment_key || !store.keys(None).await?.is_empty() {
        return Ok(None);
    }
    let (_, key) = store.create_key(DEFAULT_ACCOUNT, &[]).await?;
    Ok(Some(key))
}
