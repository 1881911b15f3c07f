//! `tandem key create|list|revoke`: API keys, straight in the store. A running server knows of it at once.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;

use crate::api::SCOPES;
use crate::config::Config;
use crate::secrets::Sealer;
use crate::store::{ApiKey, Place, Store, StoreError};

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
        /// Scope granted, such as `trunks:read`; may be repeated. Without it: everything.
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
pub async fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let config = Config::load(arguments.config.as_deref())?;
    let secret_key = std::env::var("TANDEM_SECRET_KEY").ok().filter(|text| !text.is_empty());
    let place = Place::of(&config.store.url);
    let sealer =
        Sealer::find(secret_key.as_deref(), config.security.secret_key_file.as_deref(), place.file())?;
    let store = Store::open(&config.store.url, sealer).await?;
    let outcome = act(&store, arguments.action).await;
    store.close().await;
    print!("{}", outcome?);
    Ok(ExitCode::SUCCESS)
}

async fn act(store: &Store, action: Action) -> anyhow::Result<String> {
    match action {
        Action::Create { account, scope } => {
            if account.is_empty() || account.len() > 64 || account.chars().any(|c| c.is_control() || c == '/')
            {
                bail!(
                    "{account:?} is no account name; give 1 to 64 characters without / and control characters"
                );
            }
            if let Some(unknown) = scope.iter().find(|scope| !SCOPES.contains(&scope.as_str())) {
                bail!("there is no scope {unknown:?}; there are {}", SCOPES.join(", "));
            }
            let (row, key) = store.create_key(&account, &scope).await?;
            Ok(format!(
                "{}\n\nKey {} of account {account}. It is shown this once: only its hash is kept.\n",
                key.reveal(),
                row.id
            ))
        }
        Action::List { account } => Ok(table(&store.keys(account.as_deref()).await?)),
        Action::Revoke { key } => match store.revoke_key(&key).await {
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
        let state = if key.revoked_at.is_some() { "revoked" } else { "valid" };
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
        };
        let printed = act(&store, create(&["trunks:read"])).await.unwrap();
        let key = printed.lines().next().unwrap().to_owned();
        assert!(key.starts_with("td-"));
        let listed = act(&store, Action::List { account: None }).await.unwrap();
        assert!(listed.contains(&key[..11]) && !listed.contains(&key), "{listed}");
        assert!(listed.contains("trunks:read") && listed.contains("valid"), "{listed}");
        act(&store, Action::Revoke { key: key[..11].to_owned() }).await.unwrap();
        let listed = act(&store, Action::List { account: Some("acme".to_owned()) }).await.unwrap();
        assert!(listed.contains("revoked"), "{listed}");
        let again = act(&store, Action::Revoke { key: key[..11].to_owned() }).await.unwrap_err();
        assert!(again.to_string().contains("tandem key list"), "{again}");
        let unknown = act(&store, create(&["trunk:read"])).await.unwrap_err();
        assert!(unknown.to_string().contains("trunks:read"), "{unknown}");
    }
}
