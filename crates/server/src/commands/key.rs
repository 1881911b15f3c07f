//! `tandem key create|list|revoke`: API keys, straight in the store, by the same rules as `/v1/keys`. A running
//! server knows of it at once, and the audit log names the command line.
//! `tandem key rotate-secret`: another key for what is sealed; a running server is refused every change from then
//! on, so it is stopped first and started after.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

use ipnet::IpNet;

use crate::actor::{self, Actor};
use crate::api::{account_id, allowed_range, expiry, scope};
use crate::config::Config;
use crate::secrets::Sealer;
use crate::store::{ApiKey, NewKey, Place, Rotation, Store, StoreError, now_ms};

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
        #[arg(long, default_value = "default", value_parser = account_id)]
        account: String,
        /// Scope granted, such as `trunks:read`; may be repeated. Without it: everything.
        #[arg(long, value_parser = scope)]
        scope: Vec<String>,
        /// What you call the key.
        #[arg(long, default_value = "")]
        name: String,
        /// Address or range it may be used from, such as `192.0.2.0/24`; may be repeated. Without it: anywhere.
        #[arg(long, value_parser = allowed_range)]
        address: Vec<IpNet>,
        /// Until when it is good, such as `2027-01-31T00:00:00Z`. Without it: until it is revoked.
        #[arg(long, value_parser = expiry)]
        expires: Option<i64>,
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
    /// Seal passwords and header values with another key. Stop the servers first: with the old key they can
    /// change nothing afterwards. Cut short, it is simply run again.
    RotateSecret {
        /// The new key, 64 hex digits; made when the file does not exist. Not needed when the key lies beside the
        /// database: then the new one takes its place.
        #[arg(long, value_name = "FILE")]
        new_key_file: Option<PathBuf>,
    },
}

/// Runs the action.
///
/// # Errors
/// When the store cannot be opened or the key is not found.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    if let Action::RotateSecret { new_key_file } = &arguments.action {
        let (config, secret_key) = settings(arguments.config.as_deref())?;
        print!("{}", rotate(&config, secret_key.as_deref(), new_key_file.as_deref()).await?);
        return Ok(ExitCode::SUCCESS);
    }
    let store = open_store(arguments.config.as_deref()).await?;
    let actor = Some(std::sync::Arc::new(Actor::command_line("tandem key")));
    let outcome = actor::on_behalf(actor, act(&store, arguments.action)).await;
    store.close().await;
    print!("{}", outcome?);
    Ok(ExitCode::SUCCESS)
}

fn settings(config: Option<&Path>) -> anyhow::Result<(Config, Option<String>)> {
    let secret_key = std::env::var("TANDEM_SECRET_KEY").ok().filter(|text| !text.is_empty());
    Ok((Config::load(config)?, secret_key))
}

/// Opens the configured store with the configured key.
pub(super) async fn open_store(config: Option<&Path>) -> anyhow::Result<Store> {
    let (config, secret_key) = settings(config)?;
    let place = Place::of(&config.store.url);
    let sealer =
        Sealer::find(secret_key.as_deref(), config.security.secret_key_file.as_deref(), place.file())?;
    Ok(Store::open(&config.store.url, sealer).await?)
}

/// Seals everything with the new key, and puts that where the old one was if that is ours to do.
async fn rotate(
    config: &Config,
    secret_key: Option<&str>,
    new_key_file: Option<&Path>,
) -> anyhow::Result<String> {
    let (url, place) = (&config.store.url, Place::of(&config.store.url));
    let configured = config.security.secret_key_file.as_deref();
    let is_given = secret_key.is_some() || configured.is_some();
    let beside = match (new_key_file, place.file()) {
        (Some(_), _) => None,
        (None, Some(database)) if !is_given => Some(Sealer::file_beside(database)),
        (None, _) => bail!(
            "the key in use is configured, so the new one needs a file of its own: give --new-key-file FILE \
             (made if there is none), and configure that afterwards"
        ),
    };
    let new_file = match (new_key_file, &beside) {
        (Some(file), _) => file.to_owned(),
        (None, Some(beside)) => beside.with_extension("key.new"),
        (None, None) => unreachable!("one of both is there"),
    };
    // The new key is on disk before anything is sealed with it, and takes the old one's place only afterwards.
    let new = Sealer::at(&new_file)?;
    let old = Sealer::find(secret_key, configured, place.file())?;
    let done = match Store::rotate_at(url, old, &new).await? {
        Rotation::Done(secrets) => format!("{secrets} secrets are sealed with the new key.\n"),
        Rotation::AlreadyDone => "All secrets were sealed with the new key already.\n".to_owned(),
    };
    match beside {
        Some(beside) => {
            std::fs::rename(&new_file, &beside)
                .with_context(|| format!("putting the new key in the place of {}", beside.display()))?;
            Ok(format!("{done}The new key is {}; the old one is gone. Start the server.\n", beside.display()))
        }
        None => Ok(format!(
            "{done}Give {} to the server ([security] secret_key_file, or its text in TANDEM_SECRET_KEY) and \
             start it. The old key opens nothing any more.\n",
            new_file.display()
        )),
    }
}

async fn act(store: &Store, action: Action) -> anyhow::Result<String> {
    match action {
        Action::Create { account, scope, name, address, expires } => {
            store.ensure_account(&account).await?;
            let new = NewKey {
                account: account.clone(),
                name,
                scopes: scope,
                allowed_addresses: address,
                expires_at: expires,
            };
            let (row, key) = store.add_key(new).await?;
            Ok(format!(
                "{}\n\nKey {} of account {account}. It is shown this once: only its hash is kept.\n",
                key.reveal(),
                row.id
            ))
        }
        Action::RotateSecret { .. } => unreachable!("it opens the store by itself"),
        Action::List { account } => Ok(table(&store.keys(account.as_deref()).await?)),
        Action::Revoke { key } => match store.revoke_key(None, &key).await {
            Ok(row) => Ok(format!("Revoked {} ({}) of account {}.\n", row.prefix, row.id, row.account)),
            Err(StoreError::NotFound) => {
                bail!("no valid key has the prefix or id {key:?}; `tandem key list` shows them")
            }
            Err(error) => Err(error.into()),
        },
    }
}

fn table(keys: &[ApiKey]) -> String {
    let mut text = format!("{:<26}  {:<11}  {:<16}  {:<7}  SCOPES\n", "ID", "PREFIX", "ACCOUNT", "STATE");
    for key in keys {
        let state = match (key.revoked_at, key.has_expired(now_ms())) {
            (Some(_), _) => "revoked",
            (None, true) => "expired",
            (None, false) => "valid",
        };
        let scopes = if key.scopes.is_empty() { "everything".to_owned() } else { key.scopes.join(" ") };
        text += &format!("{:<26}  {:<11}  {:<16}  {state:<7}  {scopes}\n", key.id, key.prefix, key.account);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn store(folder: &Path) -> Store {
        let database = folder.join("tandem.db");
        let sealer = Sealer::find(None, None, Some(&database)).unwrap();
        Store::open(&format!("sqlite:{}", database.display()), sealer).await.unwrap()
    }

    #[tokio::test]
    async fn a_key_is_shown_when_it_is_made_and_never_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = store(folder.path()).await;
        let create = |scope: &[&str]| Action::Create {
            account: "acme".to_owned(),
            scope: scope.iter().map(|scope| (*scope).to_owned()).collect(),
            name: String::new(),
            address: Vec::new(),
            expires: None,
        };
        let printed = act(&store, create(&["trunks:read"])).await.unwrap();
        let key = printed.lines().next().unwrap().to_owned();
        assert!(key.starts_with("bn-"));
        let listed = act(&store, Action::List { account: None }).await.unwrap();
        assert!(listed.contains(&key[..11]) && !listed.contains(&key), "{listed}");
        assert!(listed.contains("trunks:read") && listed.contains("valid"), "{listed}");
        act(&store, Action::Revoke { key: key[..11].to_owned() }).await.unwrap();
        let listed = act(&store, Action::List { account: Some("acme".to_owned()) }).await.unwrap();
        assert!(listed.contains("revoked"), "{listed}");
        let again = act(&store, Action::Revoke { key: key[..11].to_owned() }).await.unwrap_err();
        assert!(again.to_string().contains("tandem key list"), "{again}");
    }

    #[test]
    fn what_is_wrong_with_an_argument_is_said_before_anything_is_made() {
        #[derive(Debug, clap::Parser)]
        struct Line {
            #[command(flatten)]
            key: Arguments,
        }
        let refused = |arguments: &[&str]| {
            let line = ["tandem", "create"].iter().chain(arguments).copied();
            <Line as clap::Parser>::try_parse_from(line).unwrap_err().to_string()
        };
        assert!(refused(&["--scope", "trunk:read"]).contains("trunks:read"));
        assert!(refused(&["--account", "a/b"]).contains("letters"));
        assert!(refused(&["--address", "192.0.2.5/24"]).contains("192.0.2.0/24"));
        assert!(refused(&["--expires", "tomorrow"]).contains("2026-01-31T13:00:00Z"));
    }
}
