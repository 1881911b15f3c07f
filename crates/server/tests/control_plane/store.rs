//! The store keeps what it acknowledged, keeps accounts apart, and refuses what must not stand side by side.

use std::path::Path;

use serde_json::{Value, json};
use tandem_call::{CallDirection, CallId, CallRecord, CallStatus, HangupBy, MediaSummary, OutboundPolicy};
use tandem_server::secrets::{Sealer, Secret};
use tandem_server::store::{
    AuthType, ExecutionFilter, Expected, MASK, NewAgent, NewNumber, NewVerdict, Store, StoreError,
    StoredCredential, StoredGateway, StoredIdentifier, TrunkSettings, VerdictFilter,
};

use crate::base::{Base, on_both_databases, sealer};

on_both_databases!(
    a_trunk_is_read_as_it_was_written_gateways_by_priority,
    the_rows_of_one_account_are_not_found_by_another,
    a_number_stands_on_one_active_trunk_whatever_its_plus,
    of_many_who_add_one_number_at_once_one_wins,
    a_trunk_that_cannot_take_its_numbers_is_not_made,
    an_edit_that_is_refused_changes_nothing,
    header_values_are_kept_apart_and_a_masked_one_stays_as_it_was,
    deleting_an_agent_unmaps_its_numbers,
    a_finished_execution_is_not_opened_again_by_a_late_write,
    at_a_restart_the_calls_this_node_left_open_are_closed_with_a_cause,
    what_was_acknowledged_outlives_the_process,
    another_secret_key_is_told_when_the_store_opens,
    keys_open_their_account_until_they_are_revoked,
    of_each_accounts_verdicts_the_newest_are_kept,
    what_stays_on_a_trunk_keeps_its_identifier_and_its_time,
    processes_that_start_at_once_make_one_schema,
    a_schema_newer_than_the_program_is_named,
    of_changes_made_at_once_by_two_processes_none_is_lost,
    of_processes_that_claim_the_same_numbers_one_wins_each,
);

pub(crate) async fn open(folder: &Path) -> Store {
    let database = folder.join("tandem.db");
    let sealer = Sealer::find(None, None, Some(&database)).unwrap();
    Store::open(&format!("sqlite:{}", database.display()), sealer).await.unwrap()
}

pub(crate) fn settings(name: &str) -> TrunkSettings {
    TrunkSettings {
        auth_type: AuthType::UserPass,
        auth_username: Some("alice".to_owned()),
        auth_password: Some(Secret::new("open sesame")),
        gateways: vec![StoredGateway::new("b.example", 5060, 2), StoredGateway::new("a.example", 5060, 1)],
        ip_identifiers: vec![StoredIdentifier::new("203.0.113.0/24")],
        inbound_enabled: true,
        outbound: OutboundPolicy { transport_by_dns: true, ..OutboundPolicy::default() },
        ..TrunkSettings::new(name, "custom")
    }
}

pub(crate) fn number(phone_number: &str) -> NewNumber {
    NewNumber::new(phone_number)
}

fn of_agent(agent: &str) -> ExecutionFilter {
    ExecutionFilter { agent: Some(agent.to_owned()), ..ExecutionFilter::default() }
}

pub(crate) fn record(account: &str, node: &str, status: CallStatus) -> CallRecord {
    CallRecord {
        id: CallId(uuid::Uuid::new_v4()),
        account: account.into(),
        trunk: "t".into(),
        number: "n".into(),
        agent: "a".into(),
        node: node.to_owned(),
        direction: CallDirection::Inbound,
        from: "100".to_owned(),
        to: "200".to_owned(),
        started_unix_ms: 1_000,
        ringing_unix_ms: None,
        answered_unix_ms: Some(2_000),
        ended_unix_ms: None,
        status,
        hangup_by: None,
        hangup_reason: None,
        sip_status: None,
        q850: None,
        sip_reason: None,
        gateways: Vec::new(),
        transfers: Vec::new(),
        error_message: None,
        sip_call_id: "x@y".to_owned(),
        caller_facts: Vec::new(),
        media: MediaSummary::default(),
        incidents: Default::default(),
    }
}

async fn a_trunk_is_read_as_it_was_written_gateways_by_priority(base: Base) {
    let store = base.open().await;
    let (made, numbers) = store.create_trunk("acme", settings("one"), &[number("+4930")]).await.unwrap();
    let read = store.trunk("acme", &made.id).await.unwrap();
    assert_eq!(read, made);
    assert_eq!(read.settings.gateways[0].address, "a.example");
    assert_eq!(read.settings.auth_password.as_ref().unwrap().reveal(), "open sesame");
    assert_eq!(store.trunks("acme", None).await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(store.trunks("acme", Some(false)).await.unwrap(), []);
    assert_eq!(store.page_of_trunks("").await.unwrap(), std::slice::from_ref(&made));
    assert_eq!(store.numbers_of_trunk("acme", &made.id).await.unwrap(), numbers);
}

#[tokio::test]
async fn passwords_and_header_values_do_not_lie_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(folder.path()).await;
    store.create_trunk("acme", settings("one"), &[]).await.unwrap();
    let body = json!({"websocket": {"url": "wss://a/", "headers": {"Authorization": "Bearer hush-hush"}}});
    let Value::Object(body) = body else { unreachable!() };
    store.create_agent("acme", NewAgent { name: "a".to_owned(), body }).await.unwrap();
    let (_, key) = store.create_key("acme", &[]).await.unwrap();
    store.close().await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        for secret in ["open sesame", "hush-hush", key.reveal()] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
        }
    }
}

async fn the_rows_of_one_account_are_not_found_by_another(base: Base) {
    let store = base.open().await;
    let (trunk, numbers) = store.create_trunk("acme", settings("one"), &[number("100")]).await.unwrap();
    let agent = store
        .create_agent("acme", NewAgent { name: "a".to_owned(), body: Default::default() })
        .await
        .unwrap();
    let call = record("acme", "n1", CallStatus::Completed);
    store.write_records([&call]).await.unwrap();
    let number_id = &numbers[0].id;

    let not_found = |outcome: Result<(), StoreError>| matches!(outcome, Err(StoreError::NotFound));
    assert!(not_found(store.trunk("other", &trunk.id).await.map(drop)));
    assert!(not_found(store.delete_trunk("other", &trunk.id, &Expected::Any).await.map(drop)));
    assert!(not_found(store.add_number("other", &trunk.id, &number("300")).await.map(drop)));
    assert!(not_found(store.numbers_of_trunk("other", &trunk.id).await.map(drop)));
    assert!(not_found(store.remove_number("other", &trunk.id, number_id, &Expected::Any).await));
    assert!(not_found(store.number("other", number_id).await.map(drop)));
    assert!(not_found(store.map_number("other", number_id, None).await.map(drop)));
    assert!(not_found(store.agent("other", &agent.id).await.map(drop)));
    assert!(not_found(store.delete_agent("other", &agent.id, &Expected::Any).await));
    assert!(not_found(store.execution("other", &call.id.to_string()).await.map(drop)));
    let edit = |_: &mut TrunkSettings| -> Result<(), StoreError> { panic!("another's trunk") };
    assert!(not_found(store.change_trunk("other", &trunk.id, &Expected::Any, edit).await.map(drop)));
    assert_eq!(store.trunks("other", None).await.unwrap(), []);
    assert_eq!(store.numbers("other").await.unwrap(), []);
    assert_eq!(store.agents("other").await.unwrap(), []);

    // An agent of one account cannot be put on a number of another, nor the other way round.
    let theirs = store
        .create_agent("other", NewAgent { name: "b".to_owned(), body: Default::default() })
        .await
        .unwrap();
    assert!(not_found(store.map_number("acme", number_id, Some(&theirs.id)).await.map(drop)));
    // The failed removal above has not given up the claim.
    let again = store.create_trunk("other", settings("one"), &[number("+100")]).await;
    assert!(matches!(again, Err(StoreError::NumberTaken { same_trunk: false, .. })));
}

async fn a_number_stands_on_one_active_trunk_whatever_its_plus(base: Base) {
    let store = base.open().await;
    let (first, _) = store.create_trunk("acme", settings("one"), &[number("+919876543210")]).await.unwrap();
    let (second, _) = store.create_trunk("acme", settings("two"), &[]).await.unwrap();
    let taken = store.add_number("acme", &second.id, &number("919876543210")).await;
    assert!(matches!(taken, Err(StoreError::NumberTaken { same_trunk: false, .. })), "{taken:?}");
    let taken = store.add_number("acme", &first.id, &number("919876543210")).await;
    assert!(matches!(taken, Err(StoreError::NumberTaken { same_trunk: true, .. })), "{taken:?}");

    // A trunk switched off gives its numbers free, and cannot be switched on once another has taken them.
    let switch = |on: bool| {
        move |settings: &mut TrunkSettings| -> Result<(), StoreError> {
            settings.is_active = on;
            Ok(())
        }
    };
    store.change_trunk("acme", &first.id, &Expected::Any, switch(false)).await.unwrap();
    let theirs = store.add_number("acme", &second.id, &number("919876543210")).await.unwrap();
    let refused = store.change_trunk("acme", &first.id, &Expected::Any, switch(true)).await;
    assert!(matches!(refused, Err(StoreError::NumberTaken { .. })), "{refused:?}");
    assert!(!store.trunk("acme", &first.id).await.unwrap().settings.is_active);
    store.remove_number("acme", &second.id, &theirs.id, &Expected::Any).await.unwrap();
    store.change_trunk("acme", &first.id, &Expected::Any, switch(true)).await.unwrap();

    // A deleted trunk gives them free too, and says how many it had.
    assert_eq!(store.delete_trunk("acme", &first.id, &Expected::Any).await.unwrap(), 1);
    store.add_number("acme", &second.id, &number("919876543210")).await.unwrap();
}

async fn of_many_who_add_one_number_at_once_one_wins(base: Base) {
    let store = base.open().await;
    let mut tasks = Vec::new();
    for place in 0..16 {
        let store = store.clone();
        tasks.push(tokio::spawn(async move {
            let (trunk, _) = store.create_trunk("acme", settings(&place.to_string()), &[]).await.unwrap();
            store.add_number("acme", &trunk.id, &number("100")).await.is_ok()
        }));
    }
    let mut winners = 0;
    for task in tasks {
        winners += usize::from(task.await.unwrap());
    }
    assert_eq!(winners, 1);
}

async fn a_trunk_that_cannot_take_its_numbers_is_not_made(base: Base) {
    let store = base.open().await;
    store.create_trunk("acme", settings("one"), &[number("100")]).await.unwrap();
    let refused = store.create_trunk("acme", settings("two"), &[number("200"), number("+100")]).await;
    assert!(matches!(refused, Err(StoreError::NumberTaken { .. })));
    assert_eq!(store.trunks("acme", None).await.unwrap().len(), 1);
    assert_eq!(store.numbers("acme").await.unwrap().len(), 1);
    let refused = store.create_trunk("acme", settings("one"), &[]).await;
    assert!(matches!(refused, Err(StoreError::TrunkNameTaken)));
    store.create_trunk("other", settings("one"), &[]).await.unwrap();
}

async fn an_edit_that_is_refused_changes_nothing(base: Base) {
    let store = base.open().await;
    let (trunk, _) = store.create_trunk("acme", settings("one"), &[]).await.unwrap();
    let refused = store
        .change_trunk("acme", &trunk.id, &Expected::Any, |settings| {
            settings.name = "changed".to_owned();
            Err(StoreError::NotFound)
        })
        .await;
    assert!(refused.is_err());
    assert_eq!(store.trunk("acme", &trunk.id).await.unwrap(), trunk);
    let changed = store
        .change_trunk("acme", &trunk.id, &Expected::Any, |settings| -> Result<(), StoreError> {
            settings.gateways = vec![StoredGateway::new("c.example", 5060, 9)];
            settings.auth_password = Some(Secret::new("new"));
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(store.trunk("acme", &trunk.id).await.unwrap(), changed);
    assert!(changed.updated_at > trunk.updated_at);
}

async fn header_values_are_kept_apart_and_a_masked_one_stays_as_it_was(base: Base) {
    let store = base.open().await;
    let body =
        json!({"x": [1, {"y": null}], "websocket": {"headers": {"Authorization": "Bearer t", "X-A": "1"}}});
    let Value::Object(body) = body else { unreachable!() };
    let agent = store.create_agent("acme", NewAgent { name: "a".to_owned(), body }).await.unwrap();
    assert_eq!(agent.body["websocket"]["headers"], json!({"Authorization": MASK, "X-A": MASK}));
    assert_eq!(agent.body["x"], json!([1, {"y": null}]));
    let changed = store
        .change_agent("acme", &agent.id, &Expected::Any, |new| -> Result<(), StoreError> {
            new.body["websocket"]["headers"] = json!({"Authorization": MASK, "X-B": "2"});
            Ok(())
        })
        .await
        .unwrap();
    let read = store.agent("acme", &agent.id).await.unwrap();
    assert_eq!(read, changed);
    let values: Vec<_> = read.headers.iter().map(|(name, value)| (name.as_str(), value.reveal())).collect();
    assert_eq!(values, [("Authorization", "Bearer t"), ("X-B", "2")]);
}

async fn deleting_an_agent_unmaps_its_numbers(base: Base) {
    let store = base.open().await;
    let (_, numbers) = store.create_trunk("acme", settings("one"), &[number("100")]).await.unwrap();
    let agent = store
        .create_agent("acme", NewAgent { name: "a".to_owned(), body: Default::default() })
        .await
        .unwrap();
    store.map_number("acme", &numbers[0].id, Some(&agent.id)).await.unwrap();
    assert_eq!(store.numbers_of_agent("acme", &agent.id).await.unwrap().len(), 1);
    store.delete_agent("acme", &agent.id, &Expected::Any).await.unwrap();
    assert_eq!(store.number("acme", &numbers[0].id).await.unwrap().agent, None);
}

async fn a_finished_execution_is_not_opened_again_by_a_late_write(base: Base) {
    let store = base.open().await;
    let mut call = record("acme", "n1", CallStatus::InProgress);
    store.write_records([&call]).await.unwrap();
    let late = call.clone();
    call.status = CallStatus::Completed;
    call.ended_unix_ms = Some(9_000);
    store.write_records([&call, &late]).await.unwrap();
    assert_eq!(store.execution("acme", &call.id.to_string()).await.unwrap().record, call);
    let (page, total) = store.executions("acme", &of_agent("a"), 0, 10).await.unwrap();
    assert_eq!((page.len(), total), (1, 1));
}

async fn at_a_restart_the_calls_this_node_left_open_are_closed_with_a_cause(base: Base) {
    let store = base.open().await;
    assert_eq!(store.start_node("n1").await.unwrap(), 0);
    let (up, done) =
        (record("acme", "n1", CallStatus::InProgress), record("acme", "n1", CallStatus::Completed));
    let elsewhere = record("acme", "n2", CallStatus::InProgress);
    store.write_records([&up, &done, &elsewhere]).await.unwrap();
    store.touch_node("n1").await.unwrap();
    // No close: the process is gone from one instant to the next, and its files are opened anew.
    let store = base.open().await;
    assert_eq!(store.start_node("n1").await.unwrap(), 1);
    let closed = store.execution("acme", &up.id.to_string()).await.unwrap().record;
    assert_eq!(closed.status, CallStatus::Error);
    assert_eq!(closed.hangup_by, Some(HangupBy::Error));
    assert!(closed.ended_unix_ms.is_some());
    assert!(closed.error_message.unwrap().contains("n1 stopped while the call was up"));
    assert_eq!(store.execution("acme", &done.id.to_string()).await.unwrap().record, done);
    assert_eq!(store.execution("acme", &elsewhere.id.to_string()).await.unwrap().record, elsewhere);
    assert_eq!(store.start_node("n1").await.unwrap(), 0);
}

async fn what_was_acknowledged_outlives_the_process(base: Base) {
    let store = base.open().await;
    let (trunk, _) = store.create_trunk("acme", settings("one"), &[number("100")]).await.unwrap();
    // The first store is still open and was never told to close, as after a kill.
    let reopened = base.open().await;
    assert_eq!(reopened.trunk("acme", &trunk.id).await.unwrap(), trunk);
    reopened.create_trunk("acme", settings("two"), &[]).await.unwrap();
    assert_eq!(store.trunks("acme", None).await.unwrap().len(), 2);
}

async fn another_secret_key_is_told_when_the_store_opens(base: Base) {
    base.open().await.close().await;
    let error = Store::open(&base.url, sealer('b')).await.unwrap_err().to_string();
    assert!(error.contains("sealed with another key"), "{error}");
}

#[tokio::test]
async fn a_file_that_is_no_database_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tandem.db");
    std::fs::write(&file, "this is a letter to a friend, not a database at all".repeat(20)).unwrap();
    let sealer = Sealer::find(Some(&"ab".repeat(32)), None, None).unwrap();
    let error = Store::open(&format!("sqlite:{}", file.display()), sealer).await.unwrap_err().to_string();
    assert!(error.contains("tandem.db") && error.contains("cannot be opened"), "{error}");
}

#[tokio::test]
async fn a_password_in_the_address_of_a_database_is_not_shown() {
    let sealer = Sealer::find(Some(&"ab".repeat(32)), None, None).unwrap();
    let error =
        Store::open("postgres://tandem:hush@127.0.0.1:1/tandem", sealer).await.unwrap_err().to_string();
    assert!(error.contains("postgres://tandem:…@127.0.0.1:1/tandem") && !error.contains("hush"), "{error}");
}

async fn keys_open_their_account_until_they_are_revoked(base: Base) {
    let store = base.open().await;
    let (row, key) = store.create_key("acme", &["trunks:read".to_owned()]).await.unwrap();
    let hash = tandem_server::secrets::hash_api_key(key.reveal());
    assert_eq!(store.key_by_hash(&hash).await.unwrap(), Some(row.clone()));
    assert!(key.reveal().starts_with(&row.prefix) && key.reveal().len() > row.prefix.len() + 20);
    assert_eq!(store.keys(Some("acme")).await.unwrap(), std::slice::from_ref(&row));
    assert_eq!(store.keys(Some("other")).await.unwrap(), []);
    assert_eq!(store.keys(None).await.unwrap().len(), 1);
    store.revoke_key(None, &row.prefix).await.unwrap();
    assert_eq!(store.key_by_hash(&hash).await.unwrap(), None);
    assert!(matches!(store.revoke_key(None, &row.id).await, Err(StoreError::NotFound)));
}

async fn of_each_accounts_verdicts_the_newest_are_kept(base: Base) {
    let store = base.open().await;
    let verdict = |account: Option<&str>, at: i64| NewVerdict {
        id: format!("{account:?}{at}"),
        account: account.map(str::to_owned),
        at,
        code: if at % 2 == 0 { "accepted" } else { "number_unknown" }.to_owned(),
        verdict: json!({"at": at}),
    };
    let many: Vec<_> = (0..20).map(|at| verdict(Some("acme"), at)).collect();
    store.write_verdicts(&many, 5).await.unwrap();
    store.write_verdicts(&[verdict(Some("other"), 1), verdict(None, 2)], 5).await.unwrap();
    let filter = |limit| VerdictFilter { limit, ..VerdictFilter::default() };
    let kept = store.verdicts("acme", &filter(100)).await.unwrap();
    assert_eq!(kept, [19, 18, 17, 16, 15].map(|at| json!({"at": at})));
    let page = VerdictFilter {
        before: Some(18),
        limit: 2,
        code: Some("number_unknown".to_owned()),
        ..VerdictFilter::default()
    };
    assert_eq!(store.verdicts("acme", &page).await.unwrap(), [17, 15].map(|at| json!({"at": at})));
    assert_eq!(store.verdicts("other", &filter(100)).await.unwrap().len(), 1);
}

async fn what_stays_on_a_trunk_keeps_its_identifier_and_its_time(base: Base) {
    let store = base.open().await;
    let (trunk, _) = store.create_trunk("acme", settings("parts"), &[]).await.unwrap();
    let before = trunk.settings.clone();
    assert!(before.gateways.iter().all(|gateway| gateway.id.len() == 26 && gateway.created_at > 0));
    let changed = store
        .change_trunk("acme", &trunk.id, &Expected::Any, |settings| -> Result<(), StoreError> {
            settings.gateways.remove(0);
            settings.gateways[0].weight = 7;
            settings.gateways.push(StoredGateway::new("c.example", 5061, 1));
            settings.ip_identifiers.push(StoredIdentifier::new("192.0.2.7"));
            settings.credentials.push(StoredCredential::new("bob", Secret::new("sesame"), None));
            Ok(())
        })
        .await
        .unwrap();
    let after = &changed.settings;
    assert_eq!(store.trunk("acme", &trunk.id).await.unwrap(), changed);
    let kept = after.gateways.iter().find(|gateway| gateway.address == "b.example").unwrap();
    assert_eq!((&kept.id, kept.weight), (&before.gateways[1].id, 7));
    assert!(kept.updated_at > kept.created_at && kept.created_at == before.gateways[1].created_at);
    assert_eq!(after.gateways.len(), 2);
    assert_eq!(after.ip_identifiers[0], before.ip_identifiers[0]);
    // The first credential is the one that Bolna's fields show; the second stands beside it.
    let names = |settings: &TrunkSettings| -> Vec<String> {
        settings.credentials.iter().map(|credential| credential.user_name.clone()).collect()
    };
    assert_eq!(names(after), ["alice", "bob"]);
    assert_eq!(after.auth_username.as_deref(), Some("alice"));
    let cleared = store
        .change_trunk("acme", &trunk.id, &Expected::Any, |settings| -> Result<(), StoreError> {
            settings.credentials.remove(0);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!(
        (names(&cleared.settings), cleared.settings.auth_username),
        (vec!["bob".to_owned()], Some("bob".to_owned()))
    );
    let none = store
        .change_trunk("acme", &trunk.id, &Expected::Any, |settings| -> Result<(), StoreError> {
            (settings.auth_username, settings.auth_password) = (None, None);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!((none.settings.credentials.len(), none.settings.auth_type), (0, AuthType::IpBased));
}

async fn processes_that_start_at_once_make_one_schema(base: Base) {
    let base = std::sync::Arc::new(base);
    let starts: Vec<_> = (0..6)
        .map(|_| {
            let base = std::sync::Arc::clone(&base);
            tokio::spawn(async move { base.open().await.start_node("n1").await })
        })
        .collect();
    for start in starts {
        assert_eq!(start.await.unwrap().unwrap(), 0);
    }
}

async fn a_schema_newer_than_the_program_is_named(base: Base) {
    base.open().await.close().await;
    let pool = sqlx::AnyPool::connect(&base.url).await.unwrap();
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         SELECT 9999, description, success, checksum, execution_time FROM _sqlx_migrations WHERE version = 1",
    )
    .execute(&pool)
    .await
    .unwrap();
    pool.close().await;
    let error = Store::open(&base.url, sealer('a')).await.unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 9999, .. }), "{error:?}");
    assert!(error.to_string().contains("run the newer program"), "{error}");
}

async fn of_changes_made_at_once_by_two_processes_none_is_lost(base: Base) {
    let first = base.open().await;
    let (trunk, _) = first.create_trunk("acme", settings("one"), &[]).await.unwrap();
    let stores = [first.clone(), base.open().await];
    let clients: Vec<_> = (0..8)
        .map(|client| {
            let (store, id) = (stores[client % 2].clone(), trunk.id.clone());
            tokio::spawn(async move {
                for _ in 0..10 {
                    let edit = |settings: &mut TrunkSettings| -> Result<(), StoreError> {
                        settings.qualify_frequency += 1;
                        Ok(())
                    };
                    store.change_trunk("acme", &id, &Expected::Any, edit).await.unwrap();
                }
            })
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_eq!(first.trunk("acme", &trunk.id).await.unwrap().settings.qualify_frequency, 60 + 80);
}

async fn of_processes_that_claim_the_same_numbers_one_wins_each(base: Base) {
    let stores = [base.open().await, base.open().await];
    let clients: Vec<_> = (0..8_usize)
        .map(|client| {
            let store = stores[client % 2].clone();
            tokio::spawn(async move {
                let (trunk, _) =
                    store.create_trunk("acme", settings(&client.to_string()), &[]).await.unwrap();
                let mut won = 0;
                for place in 0..12 {
                    // Half of them the other way round, so that they meet in the middle.
                    let digits = if client < 4 { place } else { 11 - place };
                    match store.add_number("acme", &trunk.id, &number(&format!("+{digits}"))).await {
                        Ok(_) => won += 1,
                        Err(StoreError::NumberTaken { same_trunk: false, .. }) => {}
                        Err(error) => panic!("{error}"),
                    }
                }
                won
            })
        })
        .collect();
    let mut won = 0;
    for client in clients {
        won += client.await.unwrap();
    }
    assert_eq!(won, 12);
    assert_eq!(stores[0].numbers("acme").await.unwrap().len(), 12);
}
