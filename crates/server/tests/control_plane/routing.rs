//! What calls are routed by is what the store holds, whoever changed it, in whatever order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Map, json};
use tandem_call::RoutingTable;
use tandem_server::routing::{RoutingPublisher, TableUpdate, read_whole};
use tandem_server::store::{Expected, NewAgent, Store, StoreError};
use tokio::sync::mpsc;

use crate::base::{Base, on_both_databases};
use crate::store::{number, settings};

on_both_databases!(
    after_any_changes_the_snapshot_is_what_reading_everything_anew_would_give,
    what_another_process_changes_is_routed_by_without_being_asked,
    a_change_reads_the_rows_it_touched_and_a_list_too_short_reads_everything,
    a_snapshot_in_use_is_not_changed_under_its_reader,
);

/// A publisher whose engine takes every table at once.
fn publisher(store: &Store) -> RoutingPublisher {
    let (tables_in, mut tables) = mpsc::channel::<TableUpdate>(1);
    tokio::spawn(async move {
        let mut version = 0;
        while let Some(update) = tables.recv().await {
            assert!(update.table.version() > version, "versions go up");
            version = update.table.version();
            update.taken.send(()).ok();
        }
    });
    RoutingPublisher::start(store.clone(), tables_in)
}

/// One client of an account: random changes, each followed by a refresh, as the API does it.
async fn change_at_random(store: Store, routing: RoutingPublisher, account: String, seed: u64, steps: u32) {
    let mut state = seed;
    let mut dice = move |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    for step in 0..steps {
        let trunks = store.trunks(&account, None).await.unwrap();
        let agents = store.agents(&account).await.unwrap();
        let trunk = (!trunks.is_empty()).then(|| trunks[dice(trunks.len())].clone());
        let agent = (!agents.is_empty()).then(|| agents[dice(agents.len())].id.clone());
        let numbers = match &trunk {
            Some(trunk) => store.numbers_of_trunk(&account, &trunk.id).await.unwrap_or_default(),
            None => Vec::new(),
        };
        let picked = (!numbers.is_empty()).then(|| numbers[dice(numbers.len())].id.clone());
        let any_number = || number(&format!("+49{step}"));
        // What another client of the same account took away in between is no fault.
        let outcome: Result<(), StoreError> = match (dice(9), trunk, agent, picked) {
            (0, ..) => store
                .create_trunk(
                    &account,
                    settings(&format!("{seed}-{step}")),
                    &[number(&format!("+{}", dice(99)))],
                )
                .await
                .map(drop),
            (1, Some(trunk), ..) => store
                .change_trunk(&account, &trunk.id, &Expected::Any, |settings| {
                    settings.is_active = !settings.is_active;
                    settings.inbound_enabled = settings.is_active;
                    Ok(())
                })
                .await
                .map(drop),
            (2, Some(trunk), ..) if trunks.len() > 3 => {
                store.delete_trunk(&account, &trunk.id, &Expected::Any).await.map(drop)
            }
            (3, Some(trunk), _, Some(number)) => {
                store.remove_number(&account, &trunk.id, &number, &Expected::Any).await
            }
            (4, ..) => store
                .create_agent(&account, NewAgent { name: "a".to_owned(), body: Map::new() })
                .await
                .map(drop),
            (5, _, Some(agent), _) => store.delete_agent(&account, &agent, &Expected::Any).await,
            (6, _, Some(agent), _) => store
                .change_agent(&account, &agent, &Expected::Any, |new| -> Result<(), StoreError> {
                    new.body.insert("step".to_owned(), json!(step));
                    Ok(())
                })
                .await
                .map(drop),
            (7, _, agent, Some(number)) => {
                store.map_number(&account, &number, agent.as_deref()).await.map(drop)
            }
            (_, Some(trunk), ..) => store.add_number(&account, &trunk.id, &any_number()).await.map(drop),
            (_, None, ..) => Ok(()),
        };
        match outcome {
            Ok(())
            | Err(StoreError::NotFound | StoreError::NumberTaken { .. } | StoreError::TrunkNameTaken) => {}
            Err(error) => panic!("{error}"),
        }
        routing.refresh().await.unwrap();
    }
}

pub(crate) async fn assert_routed(routing: &RoutingPublisher, store: &Store) {
    assert_eq!(routing.current().difference(&read_whole(store).await.unwrap()), None);
}

async fn after_any_changes_the_snapshot_is_what_reading_everything_anew_would_give(base: Base) {
    let store = base.open().await;
    let routing = publisher(&store);
    routing.whole().await.unwrap();
    let clients: Vec<_> = (0..6_u64)
        .map(|client| {
            let account = format!("account{}", client % 3);
            tokio::spawn(change_at_random(store.clone(), routing.clone(), account, client + 1, 60))
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    assert_routed(&routing, &store).await;
    assert!(routing.current().number_count() > 0);
}

/// Until the publisher routes by what the store holds; fails when that takes long.
async fn until_routed(routing: &RoutingPublisher, store: &Store) -> Duration {
    let began = Instant::now();
    loop {
        let whole = read_whole(store).await.unwrap();
        match routing.current().difference(&whole) {
            None => return began.elapsed(),
            Some(difference) => {
                assert!(began.elapsed() < Duration::from_secs(10), "still apart: {difference}")
            }
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

async fn what_another_process_changes_is_routed_by_without_being_asked(base: Base) {
    let (here, there) = (base.open().await, base.open().await);
    let (routing_here, routing_there) = (publisher(&here), publisher(&there));
    routing_here.whole().await.unwrap();
    routing_there.whole().await.unwrap();
    let both = [(here.clone(), routing_here.clone(), 1), (there.clone(), routing_there.clone(), 2)];
    let clients = both.map(|(store, routing, seed)| {
        tokio::spawn(change_at_random(store, routing, "acme".to_owned(), seed, 40))
    });
    for client in clients {
        client.await.unwrap();
    }
    until_routed(&routing_here, &here).await;
    until_routed(&routing_there, &here).await;
}

async fn a_change_reads_the_rows_it_touched_and_a_list_too_short_reads_everything(base: Base) {
    let store = base.open().await;
    let (trunk, _) =
        store.create_trunk("acme", settings("one"), &[number("100"), number("200")]).await.unwrap();
    let since = store.last_change().await.unwrap();
    let added = store.add_number("acme", &trunk.id, &number("300")).await.unwrap();
    let rows = match store.changes(since).await.unwrap() {
        tandem_server::store::Changes::Rows(rows) => rows,
        other => panic!("{other:?}"),
    };
    assert_eq!((rows.trunks.len(), rows.agents.len()), (0, 0));
    assert_eq!(rows.numbers, [(added.id.clone(), Some(added))]);
    assert_eq!((rows.upto, rows.has_more, rows.foreign), (since + 1, false, None));
    assert!(matches!(store.changes(since + 1).await.unwrap(), tandem_server::store::Changes::None));
    // A database put back to an earlier state has fewer changes than are known.
    assert!(matches!(store.changes(since + 7).await.unwrap(), tandem_server::store::Changes::Unknown));
    let seen_there = match base.open().await.changes(since).await.unwrap() {
        tandem_server::store::Changes::Rows(rows) => rows.foreign,
        other => panic!("{other:?}"),
    };
    assert_eq!(seen_there.map(|(count, _)| count), Some(1));
}

async fn a_snapshot_in_use_is_not_changed_under_its_reader(base: Base) {
    let store = base.open().await;
    let routing = publisher(&store);
    routing.whole().await.unwrap();
    let before: Arc<RoutingTable> = routing.current();
    let (trunk, _) = store.create_trunk("acme", settings("one"), &[number("100")]).await.unwrap();
    routing.refresh().await.unwrap();
    assert_eq!((before.number_count(), before.trunks().count()), (0, 0));
    assert_eq!(routing.current().number_count(), 1);
    store.delete_trunk("acme", &trunk.id, &Expected::Any).await.unwrap();
    routing.refresh().await.unwrap();
    assert_eq!((routing.current().number_count(), routing.current().trunks().count()), (0, 0));
}
