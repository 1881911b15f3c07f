//! ETag and If-Match: a client that sends what it has seen overwrites nobody; one that does not has the last word.

use axum::http::HeaderMap;
use serde_json::{Value, json};

use super::client::{Answer, Server, agent};
use super::exotel::TRUNKS;

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
async fn what_is_on_a_trunk_of_the_newer_family_is_held_against_its_tag() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let path = format!("/trunk/trunks/{trunk}");
    let before = server.get(&path).await;
    let body = json!({"host": "second.example"});
    assert_eq!(server.post(&format!("{path}/gateways"), body).await.status, 200);
    for (list, place) in [("gateways", "gateways"), ("ip_acls", "ip-acls")] {
        let one = format!("{path}/{place}/{}", before.body[list][0]["id"].as_str().unwrap());
        let stale = change(&server, "DELETE", &one, &tag(&before.headers), None).await;
        stale.refuses(412, "It was changed meanwhile");
        let current = tag(&server.get(&path).await.headers);
        let removed = change(&server, "DELETE", &one, &current, None).await;
        assert_eq!(removed.status, 200, "{}", removed.text);
    }
    let body = json!({"e164": "+14155550100", "destination_key": "14155550100"});
    let number = server.post(&format!("{path}/numbers"), body).await;
    let one = format!("/trunk/numbers/{}", number.body["id"].as_str().unwrap());
    let seen = tag(&number.headers);
    let agent = server.agent().await;
    let mapped = change(&server, "PATCH", &one, &seen, Some(json!({"agent_id": agent}))).await;
    assert_eq!((mapped.status.as_u16(), &mapped.body["agent_id"]), (200, &json!(agent)), "{}", mapped.text);
    assert_ne!(tag(&mapped.headers), seen);
    let stale = change(&server, "PATCH", &one, &seen, Some(json!({"agent_id": null}))).await;
    stale.refuses(412, "It was changed meanwhile");
    assert_eq!(server.get(&path).await.body["numbers"][0]["agent_id"], json!(agent), "nothing was changed");
}

#[tokio::test]
async fn exotels_trunks_numbers_and_what_is_on_them_have_their_tags() {
    let server = Server::start().await;
    let made = server.post(TRUNKS, super::exotel::new_trunk("one")).await;
    let sid = made.body["response"]["data"]["trunk_sid"].as_str().unwrap().to_owned();
    let path = format!("{TRUNKS}/{sid}");
    let mut seen = vec![tag(&made.headers)];
    let address = server.post(&format!("{path}/whitelisted-ips"), json!({"ip": "192.0.2.1"})).await;
    seen.push(tag(&address.headers));
    let id = address.body["response"]["data"]["id"].as_str().unwrap().to_owned();
    let number = server.post(&format!("{path}/phone-numbers"), json!({"phone_number": "+14155550100"})).await;
    let number_id = number.body["response"]["data"]["id"].as_str().unwrap().to_owned();
    let mode = |mode: &str| Some(json!({"phone_number": "+14155550100", "mode": mode}));
    let number_path = format!("{path}/phone-numbers/{number_id}");
    let flows = change(&server, "PUT", &number_path, &tag(&number.headers), mode("flow")).await;
    assert_eq!(flows.status, 200, "{}", flows.text);
    for (method, stale, body) in [
        ("PUT", path.clone(), Some(json!({"trunk_name": "two"}))),
        ("DELETE", format!("{TRUNKS}?trunk_sid={sid}"), None),
        ("PUT", format!("{path}/whitelisted-ips/{id}"), Some(json!({"ip": "192.0.2.2"}))),
        ("DELETE", format!("{path}/whitelisted-ips?id={id}"), None),
        ("PUT", number_path.clone(), mode("pstn")),
        ("DELETE", format!("{path}/phone-numbers?id={number_id}"), None),
    ] {
        let refused = change(&server, method, &stale, &seen[0], body).await;
        assert_eq!(refused.status, 412, "{method} {stale}: {}", refused.text);
        assert_eq!(refused.body["response"]["error_data"]["errors"][0]["loc"], "If-Match");
    }
    // What was read through the other vendor's API serves here too: it is one trunk.
    let list = server.get("/sip-trunks/trunks").await;
    let other = format!("/sip-trunks/trunks/{}", list.body[0]["id"].as_str().unwrap());
    let current = tag(&server.get(&other).await.headers);
    let renamed = change(&server, "PUT", &path, &current, Some(json!({"trunk_name": "two"}))).await;
    assert_eq!(renamed.status, 200, "{}", renamed.text);
    let gone =
        change(&server, "DELETE", &format!("{TRUNKS}?trunk_sid={sid}"), &tag(&renamed.headers), None).await;
    assert_eq!(gone.status, 200, "{}", gone.text);
}

#[tokio::test]
async fn a_sub_account_that_was_changed_meanwhile_is_not_deleted() {
    let server = Server::start().await;
    let made = server.post("/sub-accounts/create", json!({"name": "North"})).await;
    let id = made.body["id"].as_str().unwrap();
    let path = format!("/sub-accounts/{id}");
    let seen = tag(&server.get(&path).await.headers);
    assert_eq!(server.patch(&format!("/v1/accounts/{id}"), json!({"name": "South"})).await.status, 200);
    change(&server, "DELETE", &path, &seen, None).await.refuses(412, "It was changed meanwhile");
    let current = tag(&server.get(&path).await.headers);
    assert_eq!(change(&server, "DELETE", &path, &current, None).await.status, 200);
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
