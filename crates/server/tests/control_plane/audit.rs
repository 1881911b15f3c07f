//! The audit log: each change with who, what and how it was before; never a secret; never another account's.

use serde_json::{Value, json};

use super::client::{Server, agent};

async fn entries(server: &Server, query: &str) -> Vec<Value> {
    let answer = server.get(&format!("/v1/audit{query}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body["data"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_change_is_written_with_its_difference_and_who_made_it() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let path = format!("/sip-trunks/trunks/{trunk}");
    let request = server.request("PATCH", &path, &server.key).header("x-request-id", "req-1");
    let answer = server.send(request, Some(json!({"description": "new"}))).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let all = entries(&server, &format!("?resource_id={trunk}")).await;
    assert_eq!(all.len(), 2, "{all:?}");
    let (changed, created) = (&all[0], &all[1]);
    assert_eq!((&created["action"], &created["before"]), (&json!("created"), &Value::Null));
    assert_eq!(created["after"]["name"], "one");
    assert_eq!(created["after"]["ip_identifiers"][0]["ip_address"], "203.0.113.0/24");
    assert_eq!(changed["action"], "changed");
    assert_eq!(changed["after"], json!({"description": "new"}), "only what differs");
    assert_eq!(changed["actor"]["account"], "acme");
    assert_eq!(changed["actor"]["key"], server.key[..11]);
    assert_eq!(changed["request"]["id"], "req-1");
    assert_eq!(changed["request"]["route"], "/sip-trunks/trunks/{trunk_id}");
    let number = server.number(&trunk, "+14155550100").await;
    assert_eq!(server.delete(&path).await.status, 200);
    let deleted = entries(&server, "?action=deleted").await;
    let kinds: Vec<&Value> = deleted.iter().map(|entry| &entry["resource"]).collect();
    assert!(kinds.contains(&&json!("trunk")) && kinds.contains(&&json!("number")), "{deleted:?}");
    assert!(entries(&server, &format!("?resource_id={number}")).await.len() == 2);
}

#[tokio::test]
async fn a_changed_secret_is_seen_and_not_shown() {
    let server = Server::start().await;
    let mut trunk = super::client::ip_trunk("digest");
    trunk["auth_type"] = json!("userpass");
    trunk["auth_username"] = json!("user");
    trunk["auth_password"] = json!("first-secret");
    let made = server.post("/sip-trunks/trunks", trunk).await;
    let path = format!("/sip-trunks/trunks/{}", made.body["id"].as_str().unwrap());
    server.patch(&path, json!({"auth_password": "second-secret"})).await;
    let made = server.post("/v2/agent", agent()).await.body["agent_id"].as_str().unwrap().to_owned();
    let mut other = agent();
    other["websocket"]["headers"]["Authorization"] = json!("Bearer third-secret");
    server.put(&format!("/v2/agent/{made}"), other).await;
    let key = server.post("/v1/keys", json!({})).await.body["key"].as_str().unwrap().to_owned();
    let log = server.get("/v1/audit?limit=500").await;
    for secret in ["first-secret", "second-secret", "third-secret", "hush-hush", key.as_str()] {
        assert!(!log.text.contains(secret), "{secret}");
    }
    let trunks = entries(&server, "?resource=trunk&action=changed").await;
    let after = trunks[0]["after"].as_object().unwrap();
    assert_eq!((after.len(), &after["auth"][0]["password"]), (1, &json!("********")), "{trunks:?}");
    let agents = entries(&server, "?resource=agent&action=changed").await;
    assert_eq!(agents[0]["after"], json!({"headers_secret": "********"}), "{agents:?}");
    assert_eq!(entries(&server, "?resource=key&action=created").await.len(), 1);
}

#[tokio::test]
async fn what_was_refused_or_only_read_is_not_in_the_log_and_another_account_sees_nothing() {
    let server = Server::start().await;
    server.post("/sip-trunks/trunks", json!({})).await.at("name", &["missing"]);
    server.get("/sip-trunks/trunks").await;
    assert!(entries(&server, "").await.is_empty());
    server.trunk("one").await;
    assert_eq!(entries(&server, "").await.len(), 1);
    let theirs = server.send(server.request("GET", "/v1/audit", &server.other_key), None).await;
    assert_eq!(theirs.body["data"], json!([]));
}

#[tokio::test]
async fn the_log_has_pages_and_a_bound() {
    let server = Server::start().await;
    for name in ["a", "b", "c", "d", "e"] {
        server.trunk(name).await;
        // Entries of one millisecond have no order among themselves.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    let mut names = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = server.get(&format!("/v1/audit?limit=2&cursor={cursor}")).await.body;
        names.extend(page["data"].as_array().unwrap().iter().map(|entry| entry["after"]["name"].clone()));
        let Some(next) = page["next_cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(names, ["e", "d", "c", "b", "a"]);
    assert_eq!(server.store.shorten_audit(365, 3).await.unwrap(), 2);
    assert_eq!(entries(&server, "").await.len(), 3);
    server.get("/v1/audit?since=yesterday").await.at("since", &["yesterday", "2026-01-31T13:00:00Z"]);
    server.get("/v1/audit?limit=0").await.at("limit", &["1 to 500"]);
}
