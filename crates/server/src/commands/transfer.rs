//! `tandem export` and `tandem import`: an account as one file. A running server routes by an imported account at
//! once.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use super::key::open_store;
use crate::actor::{self, Actor};
use crate::secrets::Sealer;
use crate::store::{Export, Store};

/// Arguments of `tandem export`.
#[derive(Debug, clap::Args)]
pub struct ExportArguments {
    /// Configuration file (TOML), for the store's address.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The account.
    #[arg(long)]
    pub account: String,
    /// Key that seals the secrets in the file: 64 hex digits; made when the file does not exist.
    #[arg(long, value_name = "FILE", required_unless_present = "without_secrets")]
    pub key_file: Option<PathBuf>,
    /// Leave passwords and header values out.
    #[arg(long, conflicts_with = "key_file")]
    pub without_secrets: bool,
    /// Where to; must not exist.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `tandem import`.
#[derive(Debug, clap::Args)]
pub struct ImportArguments {
    /// Configuration file (TOML), for the store's address.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Take it in as this account; without it: as the one it was.
    #[arg(long)]
    pub account: Option<String>,
    /// The key the secrets in the file are sealed with.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// What `tandem export` wrote.
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
}

/// Writes the file.
///
/// # Errors
/// When the store cannot be read or the file not be made.
pub async fn export(arguments: ExportArguments) -> anyhow::Result<ExitCode> {
    let key = arguments.key_file.as_deref().map(Sealer::at).transpose()?;
    let store = open_store(arguments.config.as_deref()).await?;
    let export = store.export_account(&arguments.account, key.as_ref()).await;
    store.close().await;
    let text = serde_json::to_string_pretty(&export?)?;
    let path = arguments.file.display();
    // Numbers and agents are the customer's own: for nobody else's eyes.
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&arguments.file)
        .with_context(|| format!("{path} cannot be made"))?;
    file.write_all(text.as_bytes())
        .and_then(|()| file.sync_all())
        .with_context(|| format!("writing {path}"))?;
    println!("Exported account {} to {path}.", arguments.account);
    Ok(ExitCode::SUCCESS)
}

/// Reads the file.
///
/// # Errors
/// When anything stands in its way; then nothing was imported.
pub async fn import(arguments: ImportArguments) -> anyhow::Result<ExitCode> {
    let path = arguments.file.display();
    let text = std::fs::read_to_string(&arguments.file).with_context(|| format!("{path} cannot be read"))?;
    let export: Export =
        serde_json::from_str(&text).with_context(|| format!("{path} is no export of an account"))?;
    let key = match &arguments.key_file {
        Some(path) if !path.exists() => bail!("the key file {} does not exist", path.display()),
        Some(path) => Some(Sealer::at(path)?),
        None => None,
    };
    let store = open_store(arguments.config.as_deref()).await?;
    let actor = Some(std::sync::Arc::new(Actor::command_line("tandem import")));
    let outcome = actor::on_behalf(actor, carry_in(&store, arguments.account, export, key.as_ref())).await;
    store.close().await;
    print!("{}", outcome?);
    Ok(ExitCode::SUCCESS)
}

async fn carry_in(
    store: &Store,
    account: Option<String>,
    export: Export,
    key: Option<&Sealer>,
) -> anyhow::Result<String> {
    let account = account.unwrap_or_else(|| export.account.clone());
    let keys = export.api_keys.len();
    let imported = store.import_account(&account, export, key).await?;
    let rows: Vec<String> = imported.rows.iter().map(|(table, count)| format!("{count} {table}")).collect();
    let mut text = format!("Imported into account {account}: {}.\n", rows.join(", "));
    for place in &imported.without_secret {
        text += &format!("Its secret was not in the file, give it anew: {place}\n");
    }
    if keys > 0 {
        text += &format!("{keys} API keys stayed behind; make new ones with `tandem key create`.\n");
    }
    Ok(text)
}
