//! `tandem check` finds what is wrong, names the remedy, and leaves the machine as it was.

use tandem_server::checks::{Finding, Given, Level, run};
use tandem_server::config::Config;
use tandem_server::secrets::Secret;

fn config(folder: &std::path::Path) -> Config {
    let mut config = Config::default();
    config.store.url = format!("sqlite:{}", folder.join("tandem.db").display());
    config
}

fn of<'a>(findings: &'a [Finding], subject: &str) -> &'a Finding {
    findings.iter().find(|finding| finding.subject == subject).unwrap_or_else(|| panic!("no {subject}"))
}

#[tokio::test]
async fn before_the_first_start_nothing_is_missing_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let findings = run(None, Ok(config(folder.path())), &Given::default()).await;
    for subject in ["database", "secret key", "API key", "configuration"] {
        assert_eq!(of(&findings, subject).level, Level::Good, "{}", of(&findings, subject));
    }
    assert!(of(&findings, "database").text.contains("will be made"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn a_store_is_opened_and_counted_and_its_key_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    super::store::open(folder.path()).await.close().await;
    let config = config(folder.path());
    let findings = run(None, Ok(config.clone()), &Given::default()).await;
    assert!(of(&findings, "database").text.contains("0 trunks, 0 numbers"), "{}", of(&findings, "database"));

    let wrong = Given { secret_key: Some(Secret::new("ab".repeat(32))), api_key_length: Some(5) };
    let findings = run(None, Ok(config.clone()), &wrong).await;
    let database = of(&findings, "database");
    assert!(database.level == Level::Fault && database.text.contains("another key"), "{database}");
    assert!(of(&findings, "API key").text.contains("5 characters"));

    std::fs::remove_file(folder.path().join("tandem.db.key")).unwrap();
    let findings = run(None, Ok(config), &Given::default()).await;
    let key = of(&findings, "secret key");
    assert!(key.level == Level::Fault && key.remedy.contains("put the key file back"), "{key}");
    assert!(!folder.path().join("tandem.db.key").exists());
}

#[tokio::test]
async fn a_folder_that_cannot_be_written_is_a_fault() {
    let mut config = Config::default();
    config.store.url = "sqlite:/proc/tandem.db".to_owned();
    let findings = run(None, Ok(config), &Given::default()).await;
    let database = of(&findings, "database");
    assert!(database.level == Level::Fault && database.text.contains("/proc"), "{database}");
}

#[tokio::test]
async fn a_configuration_that_cannot_be_used_is_told_key_by_key() {
    let variables = [("TANDEM__SIP__UPD", "x"), ("TANDEM__MEDIA__PORTS", "x")];
    let loaded = Config::load_with(None, variables.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let findings = run(None, loaded, &Given::default()).await;
    assert_eq!(findings.len(), 2);
    assert!(findings.iter().all(|finding| finding.level == Level::Fault));
    assert!(findings[0].text.contains("TANDEM__SIP__UDP"), "{}", findings[0]);
}
