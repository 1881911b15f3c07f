//! Webhooks: told once, in order, signed, again after failures and restarts; and a dead receiver delays nobody.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::{Value, json};
use tandem_call::{CallRecord, CallStatus};
use tandem_server::actor::{self, Actor};
use tandem_server::net::fence::Fence;
use tandem_server::net::post::Poster;
use tandem_server::net::ws_connect::verifying_tls;
use tandem_server::secrets::Secret;
use tandem_server::store::Store;
use tandem_server::webhooks::{self, SendLimits, sign};

use super::client::{Server, agent};
use super::rest_calls::call as record;

/// What a receiver was told.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<(HeaderMap, String)>>>);

impl Told {
    fn events(&self) -> Vec<String> {
        let told = self.0.lock().unwrap();
        told.iter().map(|(headers, _)| headers["tandem-event"].to_str().unwrap().to_owned()).collect()
    }

    async fn until(&self, count: usize) {
        let waiting = async {
            while self.0.lock().unwrap().len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let heard = tokio::time::timeout(Duration::from_secs(30), waiting).await;
        assert!(heard.is_ok(), "{count} were awaited: {:?}", self.events());
    }
}

/// A receiver that answers with what `answer` makes of the number of requests before.
async fn receiver(answer: fn(usize) -> StatusCode) -> (String, Told) {
    let told = Told::default();
    let noted = told.clone();
    let router = Router::new().route(
        "/hook",
        post(move |headers: HeaderMap, body: Bytes| async move {
            let mut told = noted.0.lock().unwrap();
            told.push((headers, String::from_utf8(body.to_vec()).unwrap()));
            answer(told.len() - 1)
        }),
    );
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, told)
}

fn send(store: &Store, attempts: u32) -> tokio::task::JoinHandle<()> {
    let poster = Poster::new(verifying_tls(&[]).unwrap().0, Fence::default(), Duration::from_secs(2));
    webhooks::start(
        store.clone(),
        poster,
        SendLimits { attempts, first_pause_ms: 50 },
        "http://tandem.example".to_owned(),
    )
}

fn in_status(record: &CallRecord, status: CallStatus) -> CallRecord {
    CallRecord { status, ..record.clone() }
}

/// A call of acme's agent, from its beginning to its end.
async fn call(server: &Server, agent: &str) -> CallRecord {
    let record = record("acme", agent);
    for status in [CallStatus::Initiated, CallStatus::Ringing, CallStatus::InProgress] {
        server.journal.progress(in_status(&record, status));
        server.journal.progress(in_status(&record, status));
    }
    let ended = CallRecord {
        ended_unix_ms: Some(record.started_unix_ms + 9_000),
        ..in_status(&record, CallStatus::Completed)
    };
    server.journal.record(ended.clone());
    server.journal.flush().await;
    ended
}

#[tokio::test]
async fn each_change_is_told_once_in_order_and_signed() {
    let server = Server::start().await;
    let (url, told) = receiver(|_| StatusCode::OK).await;
    let made = server.post("/v1/webhooks", json!({"url": url})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let secret = Secret::new(made.body["secret"].as_str().unwrap());
    let sender = send(&server.store, 3);
    let agent = server.agent().await;
    let ended = call(&server, &agent).await;
    told.until(4).await;
    assert_eq!(told.events(), ["initiated", "ringing", "in-progress", "completed"]);
    for (headers, body) in told.0.lock().unwrap().iter() {
        let timestamp = headers["tandem-timestamp"].to_str().unwrap();
        let expected =
            format!("t={timestamp},v1={}", sign(&secret, timestamp.parse().unwrap(), body.as_bytes()));
        assert_eq!(headers["tandem-signature"], expected);
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["id"], ended.id.to_string());
        assert_eq!(body["status"], headers["tandem-event"].to_str().unwrap());
    }
    let list = server.get("/v1/webhooks").await;
    assert!(!list.text.contains(secret.reveal()), "{}", list.text);
    sender.abort();
}

#[tokio::test]
async fn an_agents_own_url_is_told_unsigned_and_others_calls_are_not() {
    let server = Server::start().await;
    let (url, told) = receiver(|_| StatusCode::OK).await;
    let mut body = agent();
    body["agent_config"]["webhook_url"] = json!(url);
    let made = server.post("/v2/agent", body).await;
    let id = made.body["agent_id"].as_str().unwrap_or_else(|| panic!("{}", made.text)).to_owned();
    let sender = send(&server.store, 3);
    let theirs = record("other", &id);
    server.journal.record(in_status(&theirs, CallStatus::Completed));
    call(&server, &id).await;
    told.until(4).await;
    assert!(told.0.lock().unwrap().iter().all(|(headers, _)| !headers.contains_key("tandem-signature")));
    assert_eq!(told.events().len(), 4);
    sender.abort();
}

#[tokio::test]
async fn every_status_that_a_call_is_told_in_can_be_asked_for_by_name() {
    let server = Server::start().await;
    let (url, told) = receiver(|_| StatusCode::OK).await;
    let body = json!({"url": url, "events": ["balance-low", "queued", "balance-low", "rescheduled"]});
    let made = server.post("/v1/webhooks", body).await;
    assert_eq!(made.body["events"], json!(["balance-low", "queued", "rescheduled"]), "{}", made.text);
    let sender = send(&server.store, 3);
    let record = record("acme", &server.agent().await);
    for status in [CallStatus::Queued, CallStatus::Initiated, CallStatus::Rescheduled, CallStatus::BalanceLow]
    {
        server.journal.tell(in_status(&record, status));
    }
    server.journal.flush().await;
    told.until(3).await;
    assert_eq!(told.events(), ["queued", "rescheduled", "balance-low"]);
    sender.abort();
}

#[tokio::test]
async fn what_fails_is_told_again_in_order_and_given_up_in_the_end() {
    let server = Server::start().await;
    let (url, told) =
        receiver(|before| if before < 2 { StatusCode::BAD_GATEWAY } else { StatusCode::OK }).await;
    server.post("/v1/webhooks", json!({"url": url, "events": ["ringing", "completed"]})).await;
    let (dead, _) = receiver(|_| StatusCode::IM_A_TEAPOT).await;
    let dead = server.post("/v1/webhooks", json!({"url": dead, "events": ["completed"]})).await;
    let dead = dead.body["id"].as_str().unwrap().to_owned();
    let sender = send(&server.store, 3);
    let agent = server.agent().await;
    let ended = call(&server, &agent).await;
    told.until(4).await;
    assert_eq!(told.events(), ["ringing", "ringing", "ringing", "completed"]);
    let path = format!("/v1/webhook-deliveries?webhook={dead}&call={}", ended.id);
    let failed = async {
        loop {
            let list = server.get(&path).await.body;
            if list["data"][0]["state"] == "failed" {
                return list["data"][0].clone();
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let failed = tokio::time::timeout(Duration::from_secs(30), failed).await.expect("it is given up");
    assert_eq!((&failed["attempts"], &failed["last_status"]), (&json!(3), &json!(418)));
    assert_eq!(failed["last_error"], "answered 418");
    // It can be told once more.
    let id = failed["id"].as_str().unwrap();
    let whole = server.get(&format!("/v1/webhook-deliveries/{id}")).await;
    assert_eq!(whole.body["body"]["status"], "completed", "{}", whole.text);
    let again = server.post(&format!("/v1/webhook-deliveries/{id}/replay"), json!({})).await;
    assert_eq!((again.status.as_u16(), &again.body["state"]), (202, &json!("pending")), "{}", again.text);
    let theirs = server.request("GET", &format!("/v1/webhook-deliveries/{id}"), &server.other_key);
    server.send(theirs, None).await.refuses(404, "Delivery not found");
    sender.abort();
}

#[tokio::test]
async fn a_receiver_that_never_answers_delays_nobody_and_a_restart_loses_nothing() {
    let server = Server::start().await;
    // It accepts and says nothing.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    server.post("/v1/webhooks", json!({"url": url})).await;
    let (url, told) = receiver(|_| StatusCode::NO_CONTENT).await;
    server.post("/v1/webhooks", json!({"url": url, "events": ["completed"]})).await;
    let agent = server.agent().await;
    // Queued while nobody sends, as before a restart.
    for _ in 0..20 {
        call(&server, &agent).await;
    }
    assert!(told.events().is_empty());
    let sender = send(&server.store, 3);
    told.until(20).await;
    sender.abort();
}

#[tokio::test]
async fn what_is_wrong_with_a_webhook_is_named() {
    let server =
        Server::with(|config| config.security.agent_networks = tandem_server::config::AgentNetworks::Public)
            .await;
    for (body, location, part) in [
        (json!({}), "url", "is missing"),
        (json!({"url": "ftp://host/"}), "url", "https or http"),
        (json!({"url": "https://host/\u{e9}"}), "url", "https://hooks.example/calls"),
        (json!({"url": "https://user:pass@host/"}), "url", "leave them out"),
        (
            json!({"url": "https://host.example/", "events": ["complete"]}),
            "events[0]",
            "nearest is \"completed\"",
        ),
        (json!({"url": "https://host.example/", "is_active": "yes"}), "is_active", "true or false"),
    ] {
        let answer = server.post("/v1/webhooks", body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at(location, &[part]);
    }
    for url in ["http://127.0.0.1/", "http://[::1]/"] {
        let answer = server.post("/v1/webhooks", json!({"url": url})).await;
        answer.refuses(422, "This address is forbidden").at("url", &["policy forbids"]);
    }
    let made = server.post("/v1/webhooks", json!({"url": "https://host.example/a"})).await;
    let path = format!("/v1/webhooks/{}", made.body["id"].as_str().unwrap());
    let theirs = server.request("PATCH", &path, &server.other_key);
    server.send(theirs, Some(json!({"is_active": false}))).await.refuses(404, "Webhook not found");
    let changed = server.patch(&path, json!({"is_active": false})).await;
    assert_eq!(changed.body["is_active"], false, "{}", changed.text);
    let late = server.request("DELETE", &path, &server.key).header("if-match", "\"1\"");
    assert_eq!(server.send(late, None).await.status, 412);
    assert_eq!(server.delete(&path).await.status, 200);
    server.get(&path).await.refuses(404, "Webhook not found");
}

#[tokio::test]
async fn a_call_that_a_killed_node_left_open_is_told_when_the_node_starts_again() {
    let server = Server::start().await;
    let agent = server.agent().await;
    for events in [json!([]), json!(["error"]), json!(["completed"])] {
        let body = json!({"url": "https://hooks.example/", "events": events});
        assert_eq!(server.post("/v1/webhooks", body).await.status, 201);
    }
    let mut record = record("acme", &agent);
    record.node = "killed".to_owned();
    record.status = CallStatus::InProgress;
    server.journal.progress(record.clone());
    server.journal.flush().await;
    assert_eq!(server.store.start_node("killed").await.unwrap(), 1);
    let path = format!("/v1/webhook-deliveries?call={}", record.id);
    let told = server.get(&path).await;
    let told = told.body["data"].as_array().unwrap().iter();
    let errors: Vec<_> = told.filter(|one| one["event"] == "error").collect();
    assert_eq!(errors.len(), 2, "{errors:#?}");
    let body = server.get(&format!("/v1/webhook-deliveries/{}", errors[0]["id"].as_str().unwrap())).await;
    assert_eq!(body.body["body"]["status"], "error", "{}", body.text);
    assert!(body.body["body"]["error_message"].as_str().unwrap().contains("killed"), "{}", body.text);
}

#[tokio::test]
async fn what_is_told_of_a_call_that_was_asked_for_says_what_was_asked() {
    let server = Server::start().await;
    let agent = server.agent().await;
    assert_eq!(server.post("/v1/webhooks", json!({"url": "https://hooks.example/"})).await.status, 201);
    let order = json!({"agent_id": agent, "recipient_phone_number": "+14155550100", "user_data": {"name": "Ada"},
        "scheduled_at": "2099-01-01T00:00:00Z"});
    let queued = server.post("/call", order).await.body["execution_id"].as_str().unwrap().to_owned();
    let stored = server.store.execution("acme", &queued).await.unwrap();
    let mut record = stored.record;
    record.status = CallStatus::Ringing;
    server.journal.progress(record);
    server.journal.flush().await;
    let told = server.get(&format!("/v1/webhook-deliveries?call={queued}")).await;
    let id = told.body["data"][0]["id"].as_str().unwrap().to_owned();
    let told = server.get(&format!("/v1/webhook-deliveries/{id}")).await.body["body"].clone();
    assert_eq!(told["status"], "ringing", "{told}");
    assert_eq!(told["context_details"]["recipient_data"]["name"], "Ada", "{told}");
}

#[tokio::test]
async fn webhooks_go_along_with_their_account_and_their_secrets_with_the_key() {
    use tandem_server::secrets::Sealer;
    let server = Server::start().await;
    let made =
        server.post("/v1/webhooks", json!({"url": "https://hooks.example/a", "description": "mine"})).await;
    let (id, secret) = (made.body["id"].as_str().unwrap(), made.body["secret"].as_str().unwrap());
    let key = Sealer::find(Some(&"e".repeat(64)), None, None).unwrap();
    let sealed = server.store.export_account("acme", Some(&key)).await.unwrap();
    assert!(!serde_json::to_string(&sealed).unwrap().contains(secret));
    let bare = server.store.export_account("acme", None).await.unwrap();

    let there = Server::start().await;
    let actor = Some(Arc::new(Actor::command_line("tandem import")));
    let imported =
        actor::on_behalf(actor, there.store.import_account("acme", sealed, Some(&key))).await.unwrap();
    assert_eq!(imported.rows["webhooks"], 1);
    assert_eq!(there.store.webhook_secret(id).await.unwrap().reveal(), secret);
    assert_eq!(there.get(&format!("/v1/webhooks/{id}")).await.body["description"], "mine");
    let audit = there.get(&format!("/v1/audit?resource=webhook&resource_id={id}")).await;
    assert_eq!(audit.body["data"][0]["action"], "created", "{}", audit.text);
    assert!(!audit.text.contains(secret));

    let elsewhere = Server::start().await;
    let imported = elsewhere.store.import_account("acme", bare, None).await.unwrap();
    assert_eq!(imported.without_secret, [format!("webhooks/{id}/secret")]);
    assert_eq!(elsewhere.get("/v1/webhooks").await.body["data"], json!([]), "it could sign nothing");

    // A new key of the secrets opens those of webhooks too.
    let new = Sealer::find(Some(&"f".repeat(64)), None, None).unwrap();
    there.store.rotate(&new).await.unwrap();
}
