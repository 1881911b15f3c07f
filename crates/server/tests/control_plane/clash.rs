//! Many clients change the same trunks and numbers at once: nothing is taken twice, nothing lost, nothing fails,
//! and calls are routed by what the store holds.
//!
//! `TANDEM_CLASH_SECONDS` makes the run longer than the few seconds of every day.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_server::routing::read_whole;

use crate::base::{Base, on_both_databases};
use crate::client::Server;

on_both_databases!(what_many_clients_change_at_once_stays_whole);

const CLIENTS: u64 = 32;

/// Numbers and names fought for.
const NUMBERS: u64 = 40;
const NAMES: u64 = 12;

struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        (!from.is_empty()).then(|| &from[self.roll(from.len())])
    }
}

fn trunk(name: &str) -> Value {
    json!({
        "name": name, "provider": "x", "auth_type": "ip-based", "inbound_enabled": true,
        "gateways": [{"gateway_address": "192.0.2.1"}], "ip_identifiers": [{"ip_address": "198.51.100.0/24"}],
    })
}

/// Raises the number in the counter trunk's description, and says whether it was let.
async fn count_up(server: &Server, counter: &str) -> bool {
    let path = format!("/sip-trunks/trunks/{counter}");
    let read = server.get(&path).await;
    assert_eq!(read.status, 200, "{}", read.body);
    let count: u64 = read.body["description"].as_str().unwrap().parse().unwrap();
    let tag = read.headers.get("etag").expect("a trunk has an ETag").clone();
    let request = server.request("PATCH", &path, &server.key).header("If-Match", tag);
    let answer = server.send(request, Some(json!({"description": (count + 1).to_string()}))).await;
    assert!(matches!(answer.status.as_u16(), 200 | 412), "{} {}", answer.status, answer.body);
    answer.status == 200
}

async fn one_client(
    server: Arc<Server>,
    counter: String,
    seed: u64,
    until: Instant,
    counted: Arc<AtomicU64>,
) {
    let mut dice = Dice(seed);
    let mut round = 0;
    // On a machine that is busy with other things it goes on until somebody counted, within a bound.
    let latest = until + Duration::from_secs(60);
    while Instant::now() < until || (counted.load(Ordering::Relaxed) == 0 && Instant::now() < latest) {
        round += 1;
        let listed = server.get("/sip-trunks/trunks").await;
        assert_eq!(listed.status, 200, "{}", listed.body);
        let trunks: Vec<Value> = listed
            .body
            .as_array()
            .unwrap()
            .iter()
            .filter(|trunk| trunk["id"] != counter.as_str())
            .cloned()
            .collect();
        let picked = dice.pick(&trunks).cloned();
        let path =
            picked.as_ref().map(|trunk| format!("/sip-trunks/trunks/{}", trunk["id"].as_str().unwrap()));
        let number = format!("+{}", 4_900_000 + dice.roll(NUMBERS as usize));
        let answer = match (dice.roll(10), picked, path) {
            (0 | 1, ..) => {
                let name = format!("trunk {}", dice.roll(NAMES as usize));
                server.post("/sip-trunks/trunks", trunk(&name)).await
            }
            (2 | 3, _, Some(path)) => {
                server
                    .patch(
                        &path,
                        json!({"is_active": dice.roll(2) == 0, "description": format!("{seed} {round}")}),
                    )
                    .await
            }
            (4, _, Some(path)) if trunks.len() > 4 => server.delete(&path).await,
            (5, Some(trunk), Some(path)) => {
                let numbers = trunk["phone_numbers"].as_array().unwrap();
                let Some(number) = dice.pick(numbers) else { continue };
                server.delete(&format!("{path}/numbers/{}", number["id"].as_str().unwrap())).await
            }
            (6, ..) => {
                counted.fetch_add(u64::from(count_up(&server, &counter).await), Ordering::Relaxed);
                continue;
            }
            (_, _, Some(path)) => {
                server.post(&format!("{path}/numbers"), json!({"phone_number": number})).await
            }
            (_, _, None) => continue,
        };
        assert!(matches!(answer.status.as_u16(), 200 | 201 | 404 | 409), "{} {}", answer.status, answer.body);
    }
}

async fn what_many_clients_change_at_once_stays_whole(base: Base) {
    let seconds = std::env::var("TANDEM_CLASH_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(3);
    let server = Arc::new(Server::over(&base, |_| ()).await);
    let made = server
        .post("/sip-trunks/trunks", {
            let mut counter = trunk("counter");
            counter["description"] = "0".into();
            counter
        })
        .await;
    assert_eq!(made.status, 201, "{}", made.body);
    let counter = made.body["id"].as_str().unwrap().to_owned();
    let counted = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + Duration::from_secs(seconds);
    let clients: Vec<_> = (1..=CLIENTS)
        .map(|seed| {
            let (server, counter, counted) = (Arc::clone(&server), counter.clone(), Arc::clone(&counted));
            tokio::spawn(one_client(server, counter, seed, until, counted))
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let read = server.get(&format!("/sip-trunks/trunks/{counter}")).await;
    let counted = counted.load(Ordering::Relaxed);
    assert!(counted > 0, "nobody counted");
    assert_eq!(read.body["description"], counted.to_string(), "an update was lost");

    let mut on_active: BTreeMap<String, usize> = BTreeMap::new();
    for trunk in server.store.trunks("acme", Some(true)).await.unwrap() {
        for number in server.store.numbers_of_trunk("acme", &trunk.id).await.unwrap() {
            *on_active.entry(number.number.phone_number).or_default() += 1;
        }
    }
    assert!(on_active.values().all(|count| *count == 1), "on two active trunks: {on_active:?}");
    assert_eq!(server.table().difference(&read_whole(&server.store).await.unwrap()), None);
}
