//! Providers' secrets: kept sealed, shown masked, filled into the headers of agents' sockets.

use serde_json::json;
use tandem_server::store::TransferError;

use super::base::{Base, sealer};
use super::client::{Server, agent};

async fn add(server: &Server, name: &str, value: &str) {
    let answer = server.post("/providers", json!({"provider_name": name, "provider_value": value})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body, json!({"message": "successful", "status": "added"}));
}

#[tokio::test]
async fn a_secret_is_kept_masked_replaced_and_removed() {
    let server = Server::start().await;
    add(&server, "OPENAI_API_KEY", "sk-0123456789az").await;
    let list = server.get("/providers").await;
    let first = &list.body[0];
    assert_eq!(first["provider_name"], "OPENAI_API_KEY");
    assert_eq!(first["provider_value"], "xxxxxxxaz");
    assert_eq!(first["humanized_created_at"], "just now");
    assert!(!list.text.contains("0123456789"));
    add(&server, "OPENAI_API_KEY", "sk-another-one-by").await;
    let list = server.get("/providers").await;
    assert_eq!(list.body.as_array().unwrap().len(), 1);
    assert_eq!(list.body[0]["provider_value"], "xxxxxxxby");
    assert_eq!(list.body[0]["provider_id"], first["provider_id"]);
    let others = server.send(server.request("GET", "/providers", &server.other_key), None).await;
    assert_eq!(others.body, json!([]));
    let audit = server.get("/v1/audit").await;
    assert!(audit.text.contains("OPENAI_API_KEY") && !audit.text.contains("sk-"), "{}", audit.text);
    let removed = server.delete("/providers/OPENAI_API_KEY").await;
    assert_eq!(removed.body, json!({"message": "successful", "status": "removed"}));
    server.delete("/providers/OPENAI_API_KEY").await.refuses(404, "Provider not found");
}

#[tokio::test]
async fn bad_names_and_values_are_told_without_the_secret() {
    let server = Server::start().await;
    for (body, message, location) in [
        (json!({"provider_value": "x"}), "provider_name is required", "provider_name"),
        (json!({"provider_name": "A"}), "provider_value is required", "provider_value"),
        (
            json!({"provider_name": "A", "provider_value": " "}),
            "provider_value is required",
            "provider_value",
        ),
    ] {
        server.post("/providers", body).await.refuses(400, message).at(location, &["missing"]);
    }
    let answer = server.post("/providers", json!({"provider_name": "a b", "provider_value": "hush"})).await;
    answer.at("provider_name", &["a b", "OPENAI_API_KEY"]);
    let answer =
        server.post("/providers", json!({"provider_name": "A", "provider_value": "hu\u{0}sh"})).await;
    answer.at("provider_value", &["U+0000"]);
    assert!(!answer.text.contains("hu\\u"), "{}", answer.text);
}

#[tokio::test]
async fn an_agents_header_gets_the_secret_that_it_names_at_once() {
    let server = Server::start().await;
    let mut body = agent();
    body["websocket"]["headers"] = json!({"Authorization": "Bearer {provider:OPENAI_API_KEY}"});
    let made = server.post("/v2/agent", body).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let id = made.body["agent_id"].as_str().unwrap();
    let header = || {
        let table = server.table();
        let socket = table.agent(&id.into()).unwrap().socket.clone().unwrap();
        socket.headers[0].1.clone()
    };
    assert_eq!(header(), "Bearer {provider:OPENAI_API_KEY}", "nothing is kept by that name yet");
    add(&server, "OPENAI_API_KEY", "sk-1").await;
    assert_eq!(header(), "Bearer sk-1");
    add(&server, "OPENAI_API_KEY", "sk-2").await;
    assert_eq!(header(), "Bearer sk-2");
    server.delete("/providers/OPENAI_API_KEY").await;
    assert_eq!(header(), "Bearer {provider:OPENAI_API_KEY}");
    let shown = server.get(&format!("/v2/agent/{id}")).await;
    assert_eq!(shown.body["websocket"]["headers"]["Authorization"], "********");
}

#[tokio::test]
async fn providers_move_with_their_account_and_change_their_key_with_the_others() {
    let server = Server::start().await;
    add(&server, "A", "secret-of-a").await;
    let key = sealer('e');
    let export = server.store.export_account("acme", Some(&key)).await.unwrap();
    assert!(!serde_json::to_string(&export).unwrap().contains("secret-of-a"));
    let base = Base::sqlite();
    let there = base.open().await;
    there.import_account("acme", export, Some(&key)).await.unwrap();
    assert_eq!(there.providers("acme").await.unwrap()[0].value.reveal(), "secret-of-a");
    let again = server.store.export_account("acme", Some(&key)).await.unwrap();
    let refused = there.import_account("acme", again, Some(&key)).await.unwrap_err();
    assert!(matches!(refused, TransferError::Collisions(_)), "{refused}");
    there.rotate(&sealer('b')).await.unwrap();
    there.close().await;
    let reopened = tandem_server::store::Store::open(&base.url, sealer('b')).await.unwrap();
    assert_eq!(reopened.providers("acme").await.unwrap()[0].value.reveal(), "secret-of-a");
}
