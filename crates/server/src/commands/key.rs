//! `tandem key create|list|revoke`: API keys, straight in the store.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `tandem key`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Configuration file (TOML), for the store's address.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What to do with keys.
    #[command(subcommand)]
    pub action: Action,
}

/// What can be done with keys.
#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Create a key and print it once.
    Create {
        /// Account the key belongs to; created when it does not exist.
        #[arg(long, default_value = "default")]
        account: String,
        /// Scope granted; may be repeated. Without it: everything.
        #[arg(long)]
        scope: Vec<String>,
    },
    /// List keys by prefix; the keys themselves cannot be shown again.
    List {
        /// Only this account's keys.
        #[arg(long)]
        account: Option<String>,
    },
    /// Revoke a key by its prefix or id.
    Revoke {
        /// Prefix or id, as `tandem key list` shows it.
        key: String,
    },
}

/// Runs the action.
///
/// # Errors
/// When the store cannot be opened or the key is not found.
pub async fn run(_arguments: Arguments) -> anyhow::Result<ExitCode> {
    std::future::ready(()).await;
    anyhow::bail!("the store is not wired yet")
}
