//! `tandem key create|list|revoke`: API keys, straight in the store, by the same rules as `/v1/keys`. A running
//! server knows of it at once, and the audit log names the command line.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use ipnet::IpNet;

use crate::actor::{self, Actor};
use crate::api::{account_id, allowed_range, expiry, scope};
use crate::config::Config;
use crate::secrets::Sealer;
use crate::store::{ApiKey, NewKey, Place, Store, StoreError, now_ms};

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
}

/// Runs the action.
///
/// # Errors
/// When the store cannot be opened or the key is not found.
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(arguments.config.as_deref())?;
    let secret_key = std::env::var("TANDEM_SECRET_KEY").ok().filter(|text| !text.is_empty());
    let place = Place::of(&config.store.url);
    let sealer =
        Sealer::find(secret_key.as_deref(), config.security.secret_key_file.as_deref(), place.file())?;
    let store = Store::open(&config.store.url, sealer).await?;
    let actor = Some(std::sync::Arc::new(Actor::command_line("tandem key")));
    let outcome = actor::on_behalf(actor, act(&store, arguments.action)).await;
    store.close().await;
    print!("{}", outcome?);
    Ok(ExitCode::SUCCESS)
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

    async fn store(folder: &std::path::Path) -> Store {
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
