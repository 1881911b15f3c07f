//! ETag and If-Match: a client that sends what it has seen overwrites nobody; one that does not has the last word.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::client::{Answer, Server, agent};

fn tag(headers: &HeaderMap) -> String {
    headers.get("etag").expect("the answer has a tag").to_str().unwrap().to_owned()
}

async fn change(server: &Server, method: &str, path: &str, tag: &str, body: Option<Value>) -> Answer {
    let request = server.request(method, path, &server.key).header("if-match", tag);
    server.send(request, body).await
}

#[tokio::test]
async fn a_trunk_that_was_changed_meanwhile_is_neither_changed_nor_deleted() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let path = format!("/sip-trunks/trunks/{trunk}");
    let seen = tag(&server.get(&path).await.headers);
    let changed = change(&server, "PATCH", &path, &seen, Some(json!({"description": "first"}))).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_ne!(tag(&changed.headers), seen);
    let refused = change(&server, "PATCH", &path, &seen, Some(json!({"description": "second"}))).await;
    refused.refuses(412, "It was changed meanwhile").at("If-Match", &["\"2\"", "ETag"]);
    change(&server, "DELETE", &path, &seen, None).await.refuses(412, "It was changed meanwhile");
    let current = server.get(&path).await;
    assert_eq!(current.body["description"], "first");
    assert_eq!(tag(&current.headers), tag(&changed.headers));
    assert_eq!(change(&server, "DELETE", &path, "*", None).await.status, 200);
}

#[tokio::test]
async fn a_change_of_its_numbers_is_a_change_of_the_trunk() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let path = format!("/sip-trunks/trunks/{trunk}");
    let mut seen = vec![tag(&server.get(&path).await.headers)];
    let number = server.number(&trunk, "+14155550100").await;
    seen.push(tag(&server.get(&path).await.headers));
    let agent = server.agent().await;
    let mapping = json!({"agent_id": agent, "phone_number_id": number});
    assert_eq!(server.post("/inbound/setup", mapping).await.status, 200);
    seen.push(tag(&server.get(&path).await.headers));
    assert_eq!(server.delete(&format!("/v2/agent/{agent}")).await.status, 200);
    seen.push(tag(&server.get(&path).await.headers));
    let refused = change(&server, "DELETE", &format!("{path}/numbers/{number}"), "\"1\"", None).await;
    assert_eq!(refused.status, 412, "{}", refused.text);
    assert_eq!(server.delete(&format!("{path}/numbers/{number}")).await.status, 200);
    seen.push(tag(&server.get(&path).await.headers));
    let mut distinct = seen.clone();
    distinct.dedup();
    assert_eq!(distinct, seen, "each change has a tag of its own");
}

#[tokio::test]
async fn an_agent_has_its_tag_too_and_without_the_header_the_last_write_wins() {
    let server = Server::start().await;
    let path = format!("/v2/agent/{}", server.agent().await);
    let seen = tag(&server.get(&path).await.headers);
    let rename = |name: &str| Some(json!({"agent_config": {"agent_name": name}}));
    assert_eq!(change(&server, "PATCH", &path, &seen, rename("A")).await.status, 200);
    assert_eq!(change(&server, "PATCH", &path, &seen, rename("B")).await.status, 412);
    assert_eq!(change(&server, "PUT", &path, &seen, Some(agent())).await.status, 412);
    assert_eq!(change(&server, "DELETE", &path, &seen, None).await.status, 412);
    assert_eq!(server.patch(&path, json!({"agent_config": {"agent_name": "C"}})).await.status, 200);
    let either = change(&server, "PATCH", &path, "\"1\", \"3\"", rename("D")).await;
    assert_eq!(either.status, 200, "{}", either.text);
}

#[tokio::test]
async fn a_header_that_is_no_tag_is_told_so() {
    let server = Server::start().await;
    let path = format!("/sip-trunks/trunks/{}", server.trunk("one").await);
    for malformed in ["x", "\"1", "", "\"1\" \"2\""] {
        let refused = change(&server, "PATCH", &path, malformed, Some(json!({"description": "x"}))).await;
        assert_eq!(refused.status, 400, "{malformed}: {}", refused.text);
        refused.at("If-Match", &["ETag of the last answer"]);
    }
    // Quotes get lost in shells: the digits mean one thing all the same.
    let changed = change(&server, "PATCH", &path, "1", Some(json!({"description": "x"}))).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(change(&server, "DELETE", &path, "1", None).await.status, 412);
    // Tags that another server made, and weak ones, are tags, but not of this state.
    for foreign in ["\"abc\"", "W/\"1\""] {
        assert_eq!(change(&server, "DELETE", &path, foreign, None).await.status, 412, "{foreign}");
    }
}
