//! Lists a page at a time: whole by default, as the vendor's clients expect, and by `limit` and `cursor` otherwise.

use serde_json::{Value, json};

use super::client::Server;

fn ids(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn pages_of_every_list_make_the_whole_of_it() {
    let server = Server::start().await;
    let mut trunk = String::new();
    for at in 0..5 {
        trunk = server.trunk(&format!("trunk {at}")).await;
        server.agent().await;
    }
    for at in 0..5 {
        server.number(&trunk, &format!("+91804711000{at}")).await;
    }
    let numbers = format!("/sip-trunks/trunks/{trunk}/numbers");
    for path in
        ["/sip-trunks/trunks", "/trunk/trunks", "/v2/agent/all", "/agent/all", "/phone-numbers/all", &numbers]
    {
        let whole = server.get(path).await;
        assert_eq!(ids(&whole.body).len(), 5, "{path}: {}", whole.text);
        assert!(!whole.headers.contains_key("x-next-cursor"), "{path}");
        let mut paged = Vec::new();
        let mut next = format!("{path}?limit=2");
        loop {
            let page = server.get(&next).await;
            assert_eq!(page.status, 200, "{next}: {}", page.text);
            assert!(ids(&page.body).len() <= 2, "{next}: {}", page.text);
            paged.extend(page.body.as_array().unwrap().clone());
            let Some(cursor) = page.headers.get("x-next-cursor") else { break };
            next = format!("{path}?limit=2&cursor={}", cursor.to_str().unwrap());
        }
        assert_eq!(Value::Array(paged), whole.body, "{path}");
    }
}

#[tokio::test]
async fn a_page_shows_no_other_accounts_rows_whoever_made_the_cursor() {
    let server = Server::start().await;
    for at in 0..3 {
        server.trunk(&format!("trunk {at}")).await;
    }
    let page = server.get("/sip-trunks/trunks?limit=1").await;
    let cursor = page.headers["x-next-cursor"].to_str().unwrap();
    let path = format!("/sip-trunks/trunks?cursor={cursor}");
    let theirs = server.send(server.request("GET", &path, &server.other_key), None).await;
    assert_eq!((theirs.status.as_u16(), &theirs.body), (200, &json!([])));
    let bad = server.get("/sip-trunks/trunks?cursor=nonsense").await;
    assert_eq!(bad.status, 400);
    bad.at("cursor", &["nonsense", "X-Next-Cursor"]);
}

#[tokio::test]
async fn limits_of_a_trunk_are_one_whichever_way_they_are_set() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let path = format!("/v1/trunks/{trunk}/limits");
    let none = server.get(&path).await;
    assert_eq!((&none.body["channels"], &none.body["calls_per_second"]), (&json!(null), &json!(null)));
    let set = json!({"channels": 30, "channels_in": 20, "channels_out": 10, "calls_per_second": 2.5});
    let changed = server.patch(&path, set).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let shown = server.get(&format!("/sip-trunks/trunks/{trunk}")).await.body;
    for name in ["channels", "channels_in", "channels_out", "calls_per_second"] {
        assert_eq!(shown[name], changed.body[name], "{name}");
    }
    let stale = server.request("PATCH", &path, &server.key).header("if-match", "\"1\"");
    assert_eq!(server.send(stale, Some(json!({"channels": 1}))).await.status, 412);
    let bad = server.patch(&path, json!({"channels_in": 0, "calls_per_second": "2"})).await;
    assert_eq!(bad.status, 400, "{}", bad.text);
    bad.at("channels_in", &["from 1 to 1000"]).at("calls_per_second", &["without quotes"]);
    let lifted = server.patch(&path, json!({"channels": null})).await;
    assert_eq!((&lifted.body["channels"], &lifted.body["channels_in"]), (&json!(null), &json!(20)));
}

#[tokio::test]
async fn the_wallet_is_what_may_still_be_spent() {
    let server = Server::start().await;
    assert_eq!(server.get("/user/me").await.body["wallet"], 0.0);
    server.store.set_balance("acme", Some(1_250_000)).await.unwrap();
    assert_eq!(server.get("/user/me").await.body["wallet"], 12.5);
}

#[tokio::test]
async fn the_webhook_of_an_agent_is_looked_at_when_it_is_written() {
    let server = Server::start().await;
    let agent = |url: &str| json!({"agent_config": {"agent_name": "a", "webhook_url": url}});
    for (url, part) in
        [("ftp://host/", "https or http"), ("calls", "https://"), ("https://a:b@host/", "leave them out")]
    {
        let answer = server.post("/v2/agent", agent(url)).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at("agent_config.webhook_url", &[part]);
    }
    let made = server.post("/v2/agent", agent("https://hooks.example/calls?x=1")).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(server.post("/v2/agent", agent("")).await.status, 200, "empty is as good as none");
    let path = format!("/v2/agent/{}", made.body["agent_id"].as_str().unwrap());
    let patched = server.patch(&path, json!({"agent_config": {"webhook_url": "hooks.example"}})).await;
    assert_eq!(patched.status, 400, "{}", patched.text);
}
