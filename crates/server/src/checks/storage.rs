//! Keys and the database, looked at without being changed.

use std::path::Path;

use super::{Finding, Given};
use crate::api::EASILY_GUESSED_KEY;
use crate::config::Config;
use crate::secrets::{Sealer, Secret};
use crate::store::{Place, Store, without_password};

/// The API key and the secret key.
pub(super) fn keys(config: &Config, given: &Given, findings: &mut Vec<Finding>) {
    match given.api_key_length {
        Some(length) if length < EASILY_GUESSED_KEY => findings.push(Finding::warning(
            "API key",
            format!("TANDEM_API_KEY has {length} characters and is easily guessed"),
            "give at least 16, as `openssl rand -hex 24` prints them",
        )),
        Some(_) => findings.push(Finding::good("API key", "TANDEM_API_KEY opens the account default")),
        None => findings
            .push(Finding::good("API key", "keys of the store; the first start makes one and prints it")),
    }
    let place = Place::of(&config.store.url);
    if let (None, None, Some(database)) = (&given.secret_key, &config.security.secret_key_file, place.file())
        && !key_file(database).exists()
    {
        if database.exists() {
            findings.push(Finding::fault(
                "secret key",
                format!(
                    "{} is there, and its key file {} is not",
                    database.display(),
                    key_file(database).display()
                ),
                "put the key file back, or set TANDEM_SECRET_KEY: without it stored passwords cannot be read",
            ));
        } else {
            findings.push(Finding::good(
                "secret key",
                format!("{} will be made at the first start; keep a copy", key_file(database).display()),
            ));
        }
        return;
    }
    match sealer(config, given) {
        Ok(_) => findings.push(Finding::good("secret key", "found")),
        Err(error) => findings.push(Finding::fault(
            "secret key",
            error.to_string(),
            "`openssl rand -hex 32` prints a key; keep it, for stored passwords need it",
        )),
    }
}

fn key_file(database: &Path) -> std::path::PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(".key");
    name.into()
}

fn sealer(config: &Config, given: &Given) -> Result<Sealer, crate::secrets::SecretError> {
    let place = Place::of(&config.store.url);
    Sealer::find(
        given.secret_key.as_ref().map(Secret::reveal),
        config.security.secret_key_file.as_deref(),
        place.file(),
    )
}

/// The database: there, readable, sealed with this key; or a place where it can be made.
pub(super) async fn database(config: &Config, given: &Given, findings: &mut Vec<Finding>) {
    const SUBJECT: &str = "database";
    let url = &config.store.url;
    let place = Place::of(url);
    if let Some(file) = place.file().filter(|file| !file.exists()) {
        findings.push(new_file(file));
        return;
    }
    if place.file().is_some_and(|file| {
        given.secret_key.is_none() && config.security.secret_key_file.is_none() && !key_file(file).exists()
    }) {
        // Told above; looking further would make a key file.
        return;
    }
    let Ok(sealer) = sealer(config, given) else { return };
    match Store::look(url, &sealer).await {
        Ok(text) => findings.push(Finding::good(SUBJECT, format!("{}: {text}", without_password(url)))),
        Err(error) => findings.push(Finding::fault(
            SUBJECT,
            error.to_string(),
            "see that store.url names the right database, that this user may read and write it, and that the key is its own",
        )),
    }
}

fn new_file(file: &Path) -> Finding {
    const SUBJECT: &str = "database";
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The nearest folder that exists decides whether the missing ones can be made.
    let there = folder.ancestors().find(|folder| folder.is_dir()).unwrap_or(Path::new("."));
    let probe = there.join(format!(".tandem-check-{}", std::process::id()));
    let made = std::fs::OpenOptions::new().write(true).create_new(true).open(&probe);
    match made {
        Ok(_) => {
            // Nothing is left behind; should the removal fail, an empty file is.
            std::fs::remove_file(&probe).ok();
            Finding::good(SUBJECT, format!("{} will be made at the first start", file.display()))
        }
        Err(error) => Finding::fault(
            SUBJECT,
            format!("{} is not there and cannot be made: {} gives {error}", file.display(), there.display()),
            "give store.url a file in a folder that this user may write",
        ),
    }
}
