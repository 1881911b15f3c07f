//! An account moves as one file, secrets change their key, lists come a page at a time, and no record is dropped.

use serde_json::{Map, Value, json};
use tandem_call::CallStatus;
use tandem_server::journal::Journal;
use tandem_server::routing::read_whole;
use tandem_server::secrets::SecretError;
use tandem_server::store::{
    AccountSettings, Cursor, Expected, Export, NewAgent, Rotation, Store, StoreError, TransferError,
};

use crate::base::{Base, on_both_databases, sealer};
use crate::store::{number, record, settings};

on_both_databases!(
    an_account_moves_as_one_file,
    an_account_keeps_its_name_its_notes_and_what_it_may_spend,
    an_import_names_everything_in_its_way_and_changes_nothing,
    secrets_leave_sealed_or_not_at_all,
    a_file_that_reaches_into_another_account_is_refused,
    after_a_rotation_the_new_key_alone_opens_secrets,
    lists_come_page_by_page_in_order,
    no_record_is_dropped_while_the_database_does_not_answer,
    a_record_that_the_database_refuses_is_left_out_and_the_others_get_in,
);

/// An account with a trunk, two numbers and an agent with a header, one of the numbers mapped.
async fn furnish(store: &Store, account: &str, digits: &str) -> (String, String) {
    store.ensure_account(account).await.unwrap();
    let numbers = [number(&format!("+{digits}1")), number(&format!("+{digits}2"))];
    let (trunk, numbers) = store.create_trunk(account, settings("one"), &numbers).await.unwrap();
    let Value::Object(body) =
        json!({"websocket": {"url": "wss://a/", "headers": {"Authorization": "Bearer t"}}})
    else {
        unreachable!()
    };
    let agent = store.create_agent(account, NewAgent { name: "a".to_owned(), body }).await.unwrap();
    store.map_number(account, &numbers[0].id, Some(&agent.id)).await.unwrap();
    (trunk.id, agent.id)
}

/// As it is after a way through a file.
fn written(export: &Export) -> Export {
    serde_json::from_str(&serde_json::to_string(export).unwrap()).unwrap()
}

async fn an_account_moves_as_one_file(base: Base) {
    let here = base.open().await;
    let (trunk, agent) = furnish(&here, "acme", "49").await;
    here.create_key("acme", &["trunks:read".to_owned()]).await.unwrap();
    let key = sealer('e');
    let export = here.export_account("acme", Some(&key)).await.unwrap();
    assert_eq!(export.api_keys.len(), 1);
    assert!(!export.api_keys[0].contains_key("hash"));

    // To another database, under another name.
    let elsewhere = Base::sqlite();
    let there = elsewhere.open().await;
    let imported = there.import_account("new", written(&export), Some(&key)).await.unwrap();
    assert_eq!(imported.rows["numbers"], 2);
    assert_eq!(imported.without_secret, Vec::<String>::new());
    let (before, after) =
        (here.trunk("acme", &trunk).await.unwrap(), there.trunk("new", &trunk).await.unwrap());
    assert_eq!(before.settings, after.settings);
    assert_eq!(
        there.agent("new", &agent).await.unwrap().headers,
        here.agent("acme", &agent).await.unwrap().headers
    );
    let mapped = there.numbers_of_agent("new", &agent).await.unwrap();
    assert_eq!(mapped.len(), 1);
    assert_eq!(read_whole(&there).await.unwrap().number_count(), 2);
    // Its numbers are claimed there as they were here.
    let taken = there.create_trunk("other", settings("x"), &[number("491")]).await;
    assert!(matches!(taken, Err(StoreError::NumberTaken { .. })));
}

async fn an_account_keeps_its_name_its_notes_and_what_it_may_spend(base: Base) {
    let here = base.open().await;
    furnish(&here, "acme", "49").await;
    let own = |settings: &mut AccountSettings| {
        settings.name = "Acme".to_owned();
        settings.email = Some("ops@acme.example".to_owned());
        settings.metadata = Some(json!({"plan": ["a", 1]}));
    };
    let before = here.change_account("acme", &Expected::Any, own).await.unwrap();
    here.set_balance("acme", Some(-5)).await.unwrap();
    let export = written(&here.export_account("acme", None).await.unwrap());
    let elsewhere = Base::sqlite();
    let there = elsewhere.open().await;
    there.import_account("new", export, None).await.unwrap();
    let after = there.account("new").await.unwrap();
    assert_eq!((after.name, after.email, after.metadata), (before.name, before.email, before.metadata));
    assert_eq!(there.exhausted_accounts().await.unwrap(), ["new"], "a prepaid account stays one");
    // An account that is there already keeps what it has.
    let elsewhere = Base::sqlite();
    let there = elsewhere.open().await;
    let settings = AccountSettings { name: "Theirs".to_owned(), ..AccountSettings::default() };
    there.create_account(Some("new".to_owned()), None, settings).await.unwrap();
    let export = written(&here.export_account("acme", None).await.unwrap());
    there.import_account("new", export, None).await.unwrap();
    assert_eq!(there.account("new").await.unwrap().name, "Theirs");
    assert_eq!(there.balance("new").await.unwrap(), None);
}

async fn an_import_names_everything_in_its_way_and_changes_nothing(base: Base) {
    let here = base.open().await;
    furnish(&here, "acme", "49").await;
    let export = written(&here.export_account("acme", None).await.unwrap());
    let elsewhere = Base::sqlite();
    let there = elsewhere.open().await;
    there.create_trunk("acme", settings("one"), &[]).await.unwrap();
    there.create_trunk("other", settings("one"), &[number("492")]).await.unwrap();
    let since = there.last_change().await.unwrap();
    let refused = there.import_account("acme", export, None).await.unwrap_err();
    let text = refused.to_string();
    assert!(matches!(refused, TransferError::Collisions(ref found) if found.len() == 2), "{text}");
    assert!(text.contains("trunk \"one\"") && text.contains("number +492"), "{text}");
    assert_eq!(there.numbers("acme").await.unwrap(), []);
    assert_eq!(there.last_change().await.unwrap(), since);
    // And into the database it came from, each row is in its own way.
    let export = written(&here.export_account("acme", None).await.unwrap());
    let refused = here.import_account("copy", export, None).await.unwrap_err().to_string();
    assert!(refused.contains("this id is in use"), "{refused}");
    assert_eq!(here.trunks("copy", None).await.unwrap(), []);
}

async fn secrets_leave_sealed_or_not_at_all(base: Base) {
    let here = base.open().await;
    let (trunk, agent) = furnish(&here, "acme", "49").await;
    let sealed = here.export_account("acme", Some(&sealer('e'))).await.unwrap();
    let bare = here.export_account("acme", None).await.unwrap();
    for export in [&sealed, &bare] {
        let text = serde_json::to_string(export).unwrap();
        assert!(!text.contains("open sesame") && !text.contains("Bearer t"), "{text}");
    }
    let there = Base::sqlite();
    let there = there.open().await;
    for key in [None, Some(sealer('f'))] {
        let refused = there.import_account("acme", written(&sealed), key.as_ref()).await;
        assert!(matches!(refused, Err(TransferError::WrongKey)), "{refused:?}");
    }
    let imported = there.import_account("acme", written(&bare), None).await.unwrap();
    assert_eq!(imported.without_secret.len(), 2);
    assert_eq!(imported.without_secret[0], format!("agents/{agent}/headers"));
    assert!(imported.without_secret[1].starts_with("trunk_credentials/"), "{:?}", imported.without_secret);
    assert_eq!(there.trunk("acme", &trunk).await.unwrap().settings.auth_password, None);
    let unknown = here.export_account("nobody", None).await;
    assert!(matches!(unknown, Err(TransferError::NoAccount(_))));
}

async fn a_file_that_reaches_into_another_account_is_refused(base: Base) {
    let store = base.open().await;
    let (_, theirs) = furnish(&store, "victim", "44").await;
    furnish(&store, "acme", "49").await;
    let export = serde_json::to_value(store.export_account("acme", None).await.unwrap()).unwrap();
    let there = Base::sqlite();
    let there = there.open().await;
    let change = |path: &str, value: Value| {
        let mut changed = export.clone();
        *changed.pointer_mut(path).unwrap() = value;
        serde_json::from_value::<Export>(changed).unwrap()
    };
    let mut strange = export["tables"]["trunks"][0].clone();
    strange["name\") VALUES (1); --"] = "x".into();
    let mut owned = export["tables"]["trunks"][0].clone();
    owned["account_id"] = "victim".into();
    for (path, value) in [
        ("/tables/numbers/0/agent_id", json!(theirs)),
        ("/tables/trunks/0/default_agent_id", json!(theirs)),
        ("/tables/gateways/0/trunk_id", json!("elsewhere")),
        ("/tables/trunks/0", strange),
        ("/tables/trunks/0", owned),
        ("/tables/trunks/0/name", json!({"a": 1})),
        ("/tandem_export", json!(2)),
    ] {
        let refused = there.import_account("acme", change(path, value), None).await;
        assert!(matches!(refused, Err(TransferError::Unreadable(_))), "{path}: {refused:?}");
    }
    assert_eq!(there.trunks("acme", None).await.unwrap(), []);
}

async fn after_a_rotation_the_new_key_alone_opens_secrets(base: Base) {
    let running = base.open().await;
    let (trunk, agent) = furnish(&running, "acme", "49").await;
    let done = Store::rotate_at(&base.url, sealer('a'), &sealer('b')).await.unwrap();
    assert_eq!(done, Rotation::Done(2));
    let refused = Store::open(&base.url, sealer('a')).await;
    assert!(matches!(refused, Err(StoreError::Secret(SecretError::WrongKey { .. }))));
    // A process that still has the old key can seal nothing with it any more.
    let refused = running.create_trunk("acme", settings("two"), &[]).await;
    assert!(matches!(refused, Err(StoreError::Secret(SecretError::WrongKey { .. }))), "{refused:?}");
    let store = Store::open(&base.url, sealer('b')).await.unwrap();
    let password = store.trunk("acme", &trunk).await.unwrap().settings.auth_password.unwrap();
    assert_eq!(password.reveal(), "open sesame");
    assert_eq!(store.agent("acme", &agent).await.unwrap().headers["Authorization"].reveal(), "Bearer t");
    // Cut short after it had happened, it is run again.
    let again = Store::rotate_at(&base.url, sealer('a'), &sealer('b')).await.unwrap();
    assert_eq!(again, Rotation::AlreadyDone);
    // With neither key there is no way in.
    assert!(Store::rotate_at(&base.url, sealer('c'), &sealer('d')).await.is_err());
}

async fn lists_come_page_by_page_in_order(base: Base) {
    let store = base.open().await;
    let mut made = Vec::new();
    for place in 0..7 {
        let numbers = [number(&format!("+{place}00")), number(&format!("+{place}01"))];
        let (trunk, _) = store.create_trunk("acme", settings(&place.to_string()), &numbers).await.unwrap();
        store.create_agent("acme", NewAgent { name: "a".to_owned(), body: Map::new() }).await.unwrap();
        made.push(trunk.id);
    }
    store.create_trunk("other", settings("x"), &[number("+999")]).await.unwrap();
    store
        .change_trunk("acme", &made[2], &Expected::Any, |settings| -> Result<(), StoreError> {
            settings.is_active = false;
            Ok(())
        })
        .await
        .unwrap();
    let mut listed = Vec::new();
    let mut after: Option<Cursor> = None;
    loop {
        let page = store.list_trunks("acme", None, after.as_ref(), 3).await.unwrap();
        assert!(page.rows.len() <= 3);
        let numbers =
            store.numbers_of_trunks("acme", page.rows.iter().map(|trunk| trunk.id.as_str())).await.unwrap();
        assert!(page.rows.iter().all(|trunk| numbers[&trunk.id].len() == 2));
        listed.extend(page.rows);
        // Through the client's hands.
        after = page.next.map(|next| Cursor::parse(&next.to_string()).unwrap());
        if after.is_none() {
            break;
        }
    }
    assert_eq!(listed, store.trunks("acme", None).await.unwrap());
    let active = store.list_trunks("acme", Some(true), None, 100).await.unwrap();
    assert_eq!((active.rows.len(), active.next), (6, None));

    let first = store.list_numbers("acme", None, None, 10).await.unwrap();
    let second = store.list_numbers("acme", None, first.next.as_ref(), 10).await.unwrap();
    assert_eq!((first.rows.len(), second.rows.len(), second.next), (10, 4, None));
    assert_eq!([first.rows, second.rows].concat(), store.numbers("acme").await.unwrap());
    let of_trunk = store.list_numbers("acme", Some(&made[1]), None, 10).await.unwrap();
    assert_eq!(of_trunk.rows, store.numbers_of_trunk("acme", &made[1]).await.unwrap());
    assert_eq!(store.list_numbers("other", Some(&made[1]), None, 10).await.unwrap().rows, []);
    assert!(store.numbers_of_trunks("other", [made[1].as_str()]).await.unwrap().is_empty());
    let agents = store.list_agents("acme", None, 4).await.unwrap();
    let rest = store.list_agents("acme", agents.next.as_ref(), 4).await.unwrap();
    assert_eq!((agents.rows.len(), rest.rows.len()), (4, 3));
}

async fn no_record_is_dropped_while_the_database_does_not_answer(base: Base) {
    // More than the bound and a batch that is on its way already.
    const CALLS: usize = 1_400;
    let store = base.open().await;
    let journal = Journal::with_bound(store.clone(), "n1".to_owned(), 100, 800);
    // Somebody else holds what the journal needs.
    let pool = sqlx::AnyPool::connect(&base.url).await.unwrap();
    let mut holder = if base.url.starts_with("sqlite") {
        pool.begin_with("BEGIN IMMEDIATE").await.unwrap()
    } else {
        let mut holder = pool.begin().await.unwrap();
        sqlx::query("LOCK TABLE executions IN EXCLUSIVE MODE").execute(&mut *holder).await.unwrap();
        holder
    };
    for _ in 0..CALLS {
        let mut call = record("acme", "n1", CallStatus::InProgress);
        journal.progress(call.clone());
        call.status = CallStatus::Completed;
        journal.record(call.clone());
        // Late, and to no effect.
        call.status = CallStatus::InProgress;
        journal.progress(call);
    }
    assert!(journal.is_behind(), "the node must take no new calls");
    sqlx::query("SELECT 1").execute(&mut *holder).await.unwrap();
    holder.rollback().await.unwrap();
    journal.flush().await;
    assert!(!journal.is_behind());
    let (written,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM executions WHERE is_final = 1").fetch_one(&pool).await.unwrap();
    assert_eq!(written, CALLS as i64);
}

async fn a_record_that_the_database_refuses_is_left_out_and_the_others_get_in(base: Base) {
    let store = base.open().await;
    let pool = sqlx::AnyPool::connect(&base.url).await.unwrap();
    let rule = if base.url.starts_with("sqlite") {
        "CREATE TRIGGER no_poison BEFORE INSERT ON executions WHEN NEW.agent_id = 'poison' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END"
    } else {
        "ALTER TABLE executions ADD CONSTRAINT no_poison CHECK (agent_id <> 'poison')"
    };
    sqlx::query(rule).execute(&pool).await.unwrap();
    let journal = Journal::with_bound(store.clone(), "n1".to_owned(), 100, 800);
    for place in 0..30 {
        let mut call = record("acme", "n1", CallStatus::Completed);
        if place % 10 == 3 {
            call.agent = "poison".into();
        }
        journal.record(call);
    }
    tokio::time::timeout(std::time::Duration::from_secs(60), journal.flush()).await.unwrap();
    let (written,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM executions").fetch_one(&pool).await.unwrap();
    assert_eq!(written, 27);
    // And what comes after them.
    journal.record(record("acme", "n1", CallStatus::Completed));
    journal.flush().await;
    let (written,): (i64,) =
        sqlx::query_as("SELECT COUNT(*) FROM executions").fetch_one(&pool).await.unwrap();
    assert_eq!(written, 28);
}
