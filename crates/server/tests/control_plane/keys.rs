//! Accounts and keys: who may make what, for whom, and from where; and that a revoked key is no key at once.

use axum::http::Request;
use serde_json::{Value, json};
use tandem_server::net::http::Peer;

use super::client::{Answer, ENVIRONMENT_KEY, Server};

async fn ask(server: &Server, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
    server.send(server.request(method, path, key), body).await
}

async fn ask_from(server: &Server, key: &str, address: &str) -> Answer {
    let request = Request::get("/sip-trunks/trunks").header("authorization", format!("Bearer {key}"));
    let peer = Peer(address.parse().unwrap());
    server.raw(request.extension(peer).body(axum::body::Body::empty()).unwrap()).await
}

#[tokio::test]
async fn a_key_is_shown_once_listed_by_its_prefix_and_revoked_at_once() {
    let server = Server::start().await;
    let made = server.post("/v1/keys", json!({"name": "ci", "scopes": ["trunks:write"]})).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let key = made.body["key"].as_str().unwrap().to_owned();
    let id = made.body["id"].as_str().unwrap();
    assert!(key.starts_with("bn-") && made.body["prefix"] == key[..11], "{}", made.text);
    assert_eq!(ask(&server, &key, "GET", "/sip-trunks/trunks", None).await.status, 200);
    let denied = ask(&server, &key, "GET", "/v2/agent/all", None).await;
    denied.refuses(403, "This key lacks the scope agents:read");
    let listed = server.get("/v1/keys").await;
    assert!(!listed.text.contains(&key), "{}", listed.text);
    let named: Vec<&Value> = listed.body["data"].as_array().unwrap().iter().collect();
    assert!(named.iter().any(|one| one["id"] == id && one["name"] == "ci" && one["state"] == "valid"));
    let revoked = server.delete(&format!("/v1/keys/{id}")).await;
    assert_eq!((revoked.status.as_u16(), &revoked.body["state"]), (200, &json!("revoked")));
    let refused = ask(&server, &key, "GET", "/sip-trunks/trunks", None).await;
    refused.refuses(403, "Unrecognized access token").at("Authorization", &["revoked"]);
    server.delete(&format!("/v1/keys/{id}")).await.refuses(404, "Key not found");
    assert_eq!(server.get(&format!("/v1/keys/{id}")).await.body["state"], "revoked");
}

#[tokio::test]
async fn another_accounts_key_is_as_good_as_none() {
    let server = Server::start().await;
    let id = server.post("/v1/keys", json!({})).await.body["id"].as_str().unwrap().to_owned();
    for path in [format!("/v1/keys/{id}"), "/v1/keys/unknown".to_owned()] {
        for method in ["GET", "DELETE"] {
            let answer = ask(&server, &server.other_key, method, &path, None).await;
            answer.refuses(404, "Key not found");
        }
    }
    let theirs = ask(&server, &server.other_key, "POST", "/v1/keys", Some(json!({"account": "acme"}))).await;
    theirs.refuses(404, "Account not found").at("account", &["reaches no account"]);
    let unknown = ask(&server, &server.other_key, "POST", "/v1/keys", Some(json!({"account": "none"}))).await;
    assert_eq!(unknown.text, theirs.text);
}

#[tokio::test]
async fn nobody_grants_more_than_they_have() {
    let server = Server::start().await;
    let body = json!({"scopes": ["keys:write", "trunks:read"]});
    let narrow = server.post("/v1/keys", body).await.body["key"].as_str().unwrap().to_owned();
    let wide = ask(&server, &narrow, "POST", "/v1/keys", Some(json!({"scopes": ["trunks:write"]}))).await;
    wide.refuses(403, "A key cannot grant what it may not do itself").at("scopes[0]", &["trunks:write"]);
    let all = ask(&server, &narrow, "POST", "/v1/keys", Some(json!({}))).await;
    assert_eq!(all.body["scopes"], json!(["keys:write", "trunks:read"]), "{}", all.text);
    let read = ask(&server, &narrow, "POST", "/v1/keys", Some(json!({"scopes": ["trunks:read"]}))).await;
    assert_eq!(read.status, 201, "{}", read.text);
}

#[tokio::test]
async fn a_bounded_key_makes_no_key_that_is_good_longer_or_from_elsewhere() {
    let server = Server::start().await;
    let bounds = json!({"scopes": ["keys:write"], "allowed_addresses": ["192.0.2.0/24"],
        "expires_at": "2099-01-01T00:00:00Z"});
    let bounded = server.post("/v1/keys", bounds).await.body["key"].as_str().unwrap().to_owned();
    let make = async |body: Value| {
        let request = server.request("POST", "/v1/keys", &bounded);
        let request = request.header("content-type", "application/json");
        let request = request.extension(Peer("192.0.2.9".parse().unwrap()));
        server.raw(request.body(axum::body::Body::from(body.to_string())).unwrap()).await
    };
    let text = "A key cannot grant what it may not do itself";
    for wide in ["192.0.2.0/23", "198.51.100.1"] {
        let refused = make(json!({"allowed_addresses": ["192.0.2.7", wide]})).await;
        refused.refuses(403, text).at("allowed_addresses[1]", &[wide, "192.0.2.0/24"]);
    }
    let later = make(json!({"expires_at": "2099-01-01T00:00:01Z"})).await;
    later.refuses(403, text).at("expires_at", &["2099-01-01T00:00:01Z", "expires at 2099-01-01T00:00:00Z"]);
    let silent = make(json!({})).await;
    assert_eq!(silent.body["allowed_addresses"], json!(["192.0.2.0/24"]), "{}", silent.text);
    assert_eq!(silent.body["expires_at"], "2099-01-01T00:00:00Z");
    let narrower =
        make(json!({"allowed_addresses": ["192.0.2.7"], "expires_at": "2098-01-01T00:00:00Z"})).await;
    assert_eq!(narrower.body["allowed_addresses"], json!(["192.0.2.7/32"]), "{}", narrower.text);
    assert_eq!(narrower.body["expires_at"], "2098-01-01T00:00:00Z");
}

#[tokio::test]
async fn keys_of_an_account_within_reach_are_shown_and_revoked_from_above() {
    let server = Server::start().await;
    let child = server.post("/sub-accounts/create", json!({"name": "North"})).await;
    let (child_id, child_key) = (&child.body["id"], child.body["api_key"].as_str().unwrap());
    let child_id = child_id.as_str().unwrap();
    let listed = server.get(&format!("/v1/keys?account={child_id}")).await;
    let path = format!("/v1/keys/{}", listed.body["data"][0]["id"].as_str().unwrap());
    for method in ["GET", "DELETE"] {
        ask(&server, &server.other_key, method, &path, None).await.refuses(404, "Key not found");
    }
    let shown = server.get(&path).await;
    assert_eq!((&shown.body["account"], &shown.body["state"]), (&json!(child_id), &json!("valid")));
    assert_eq!(server.delete(&path).await.body["state"], "revoked");
    let refused = ask(&server, child_key, "GET", "/sip-trunks/trunks", None).await;
    refused.refuses(403, "Unrecognized access token");
    server.delete(&path).await.refuses(404, "Key not found");
    // The operator reaches every account.
    let leaked = server.post("/v1/keys", json!({})).await;
    let path = format!("/v1/keys/{}", leaked.body["id"].as_str().unwrap());
    let revoked = ask(&server, ENVIRONMENT_KEY, "DELETE", &path, None).await;
    assert_eq!((&revoked.body["account"], &revoked.body["state"]), (&json!("acme"), &json!("revoked")));
    // A child reaches nothing above it.
    let child = server.post("/v1/keys", json!({"account": child_id})).await;
    let child = child.body["key"].as_str().unwrap();
    let own = server.post("/v1/keys", json!({})).await;
    let path = format!("/v1/keys/{}", own.body["id"].as_str().unwrap());
    ask(&server, child, "DELETE", &path, None).await.refuses(404, "Key not found");
}

#[tokio::test]
async fn a_key_bound_to_addresses_opens_nothing_from_elsewhere() {
    let server = Server::start().await;
    let body = json!({"allowed_addresses": ["192.0.2.0/24", "2001:db8::7"]});
    let key = server.post("/v1/keys", body).await.body["key"].as_str().unwrap().to_owned();
    for address in ["192.0.2.200", "2001:db8::7", "::ffff:192.0.2.1"] {
        assert_eq!(ask_from(&server, &key, address).await.status, 200, "{address}");
    }
    for address in ["192.0.3.1", "2001:db8::8", "127.0.0.1"] {
        let refused = ask_from(&server, &key, address).await;
        refused.refuses(403, "This key may not be used from here").at("Authorization", &[address]);
    }
}

#[tokio::test]
async fn behind_a_trusted_proxy_the_client_counts_and_nobody_else_may_say_who_it_is() {
    let proxy = "10.0.0.0/8".parse().unwrap();
    let server = Server::with(|config| config.api.trusted_proxies = vec![proxy]).await;
    let body = json!({"allowed_addresses": ["192.0.2.0/24"]});
    let key = server.post("/v1/keys", body).await.body["key"].as_str().unwrap().to_owned();
    let ask = async |peer: &str, forwarded: &str| {
        let request = Request::get("/sip-trunks/trunks")
            .header("authorization", format!("Bearer {key}"))
            .header("x-forwarded-for", forwarded)
            .extension(Peer(peer.parse().unwrap()));
        server.raw(request.body(axum::body::Body::empty()).unwrap()).await.status.as_u16()
    };
    assert_eq!(ask("10.1.1.1", "198.51.100.1, 192.0.2.9, 10.2.2.2").await, 200);
    assert_eq!(ask("10.1.1.1", "192.0.2.9, 198.51.100.1").await, 403, "the last stranger counts");
    assert_eq!(ask("198.51.100.1", "192.0.2.9").await, 403, "no proxy of ours");
}

#[tokio::test]
async fn what_is_wrong_with_a_key_is_named() {
    let server = Server::start().await;
    for (body, location, parts) in [
        (json!({"scopes": ["trunk:read"]}), "scopes[0]", vec!["trunk:read", "nearest is \"trunks:read\""]),
        (json!({"scopes": "trunks:read"}), "scopes", vec!["a list of texts"]),
        (json!({"scopes": [7]}), "scopes[0]", vec!["the number 7", "text in quotes"]),
        (json!({"allowed_addresses": ["192.0.2.5/24"]}), "allowed_addresses[0]", vec!["give 192.0.2.0/24"]),
        (json!({"allowed_addresses": ["host"]}), "allowed_addresses[0]", vec!["host", "192.0.2.5"]),
        (json!({"expires_at": "tomorrow"}), "expires_at", vec!["tomorrow", "2026-01-31T13:00:00Z"]),
        (json!({"name": "x".repeat(101)}), "name", vec!["101", "100"]),
    ] {
        let answer = server.post("/v1/keys", body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at(location, &parts);
    }
    let late = server.post("/v1/keys", json!({"expires_at": "2001-01-01T00:00:00Z"})).await;
    late.refuses(422, "expires_at must be still to come").at("expires_at", &["2001", "still to come"]);
}

#[tokio::test]
async fn the_operator_makes_accounts_and_others_make_accounts_under_their_own() {
    let server = Server::start().await;
    let body = json!({"id": "globex", "name": "Globex"});
    let refused = server.post("/v1/accounts", body.clone()).await;
    refused.refuses(403, "Only the operator may choose an account's id").at("id", &["leave it out"]);
    let made = ask(&server, ENVIRONMENT_KEY, "POST", "/v1/accounts", Some(body.clone())).await;
    assert_eq!((made.status.as_u16(), &made.body["parent"]), (201, &Value::Null), "{}", made.text);
    let again = ask(&server, ENVIRONMENT_KEY, "POST", "/v1/accounts", Some(body)).await;
    again.refuses(409, "An account with this id already exists").at("id", &["choose another"]);
    let key = ask(&server, ENVIRONMENT_KEY, "POST", "/v1/keys", Some(json!({"account": "globex"}))).await;
    let key = key.body["key"].as_str().unwrap().to_owned();
    let child = ask(&server, &key, "POST", "/v1/accounts", Some(json!({"name": "North"}))).await;
    assert_eq!(child.body["parent"], "globex", "{}", child.text);
    let child_id = child.body["id"].as_str().unwrap();
    let path = format!("/v1/accounts/{child_id}");
    assert_eq!(ask(&server, &key, "GET", &path, None).await.status, 200);
    assert_eq!(ask(&server, ENVIRONMENT_KEY, "GET", &path, None).await.status, 200);
    server.get(&path).await.refuses(404, "Account not found");
    server.patch(&path, json!({"name": "Mine"})).await.refuses(404, "Account not found");
    server.delete(&path).await.refuses(404, "Account not found");
    let listed = server.get("/v1/accounts").await;
    assert_eq!(listed.body["data"], json!([]), "{}", listed.text);
    let renamed =
        ask(&server, &key, "PATCH", &path, Some(json!({"name": "South", "metadata": {"k": 1}}))).await;
    assert_eq!((&renamed.body["name"], &renamed.body["metadata"]), (&json!("South"), &json!({"k": 1})));
    let own = ask(&server, &key, "DELETE", "/v1/accounts/globex", None).await;
    own.refuses(409, "An account cannot delete itself");
    let busy = ask(&server, ENVIRONMENT_KEY, "DELETE", "/v1/accounts/globex", None).await;
    busy.refuses(409, "The account has accounts under it");
    assert_eq!(ask(&server, &key, "DELETE", &path, None).await.status, 200);
    ask(&server, &key, "GET", &path, None).await.refuses(404, "Account not found");
}

#[tokio::test]
async fn a_sub_account_has_a_key_of_its_own_and_is_gone_with_it() {
    let server = Server::start().await;
    let made = server.post("/sub-accounts/create", json!({"name": "North"})).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let key = made.body["api_key"].as_str().unwrap().to_owned();
    let id = made.body["id"].as_str().unwrap();
    assert!(key.starts_with("sa-"), "{}", made.text);
    // It has a world of its own.
    server.trunk("mine").await;
    let seen = ask(&server, &key, "GET", "/sip-trunks/trunks", None).await;
    assert_eq!(seen.body, json!([]));
    let trunk =
        ask(&server, &key, "POST", "/sip-trunks/trunks", Some(super::client::ip_trunk("theirs"))).await;
    assert_eq!(trunk.status, 201, "{}", trunk.text);
    let trunk = trunk.body["id"].as_str().unwrap().to_owned();
    let listed = server.get("/sub-accounts/all").await;
    assert_eq!(listed.body[0]["id"], id, "{}", listed.text);
    assert!(!listed.text.contains(&key));
    let usage = server.get(&format!("/sub-accounts/{id}/usage")).await;
    assert_eq!((usage.status.as_u16(), &usage.body["total_calls"]), (200, &json!(0)), "{}", usage.text);
    assert_eq!(server.get("/sub-accounts/all/usage").await.body[0]["sub_account_id"], id);
    for path in [format!("/sub-accounts/{id}"), format!("/sub-accounts/{id}/usage")] {
        ask(&server, &server.other_key, "GET", &path, None).await.refuses(404, "Sub-account not found");
    }
    assert!(server.table().trunk(&trunk.as_str().into()).unwrap().is_active);
    assert_eq!(server.delete(&format!("/sub-accounts/{id}")).await.status, 200);
    let refused = ask(&server, &key, "GET", "/sip-trunks/trunks", None).await;
    refused.refuses(403, "Unrecognized access token");
    assert!(!server.table().trunk(&trunk.as_str().into()).unwrap().is_active, "no call comes in any more");
    server.get(&format!("/sub-accounts/{id}")).await.refuses(404, "Sub-account not found");
}

#[tokio::test]
async fn what_an_account_may_spend_is_set_and_raised_from_above() {
    let server = Server::start().await;
    let path = "/v1/accounts/acme/balance";
    let operator =
        async |method: &str, body: Option<Value>| ask(&server, ENVIRONMENT_KEY, method, path, body).await;
    assert_eq!(server.get(path).await.body, json!({"account": "acme", "balance_cents": null}));
    let unbounded = operator("POST", Some(json!({"add_cents": 5}))).await;
    unbounded.refuses(409, "The account has no balance").at("account_id", &["PUT"]);
    assert!(!server.table().is_exhausted(&"acme".into()));
    assert_eq!(operator("PUT", Some(json!({"balance_cents": 0}))).await.body["balance_cents"], 0.0);
    assert!(server.table().is_exhausted(&"acme".into()), "the next call is refused");
    let raised = operator("POST", Some(json!({"add_cents": 12.5}))).await;
    assert_eq!(raised.body, json!({"account": "acme", "balance_cents": 12.5}), "{}", raised.text);
    assert!(!server.table().is_exhausted(&"acme".into()));
    assert_eq!(server.get("/user/me").await.body["wallet"], 0.125);
    // The account itself sees it and leaves it alone.
    for (method, body) in [("PUT", json!({"balance_cents": 1})), ("POST", json!({"add_cents": 1}))] {
        let own = ask(&server, &server.key, method, path, Some(body.clone())).await;
        own.refuses(403, "An account cannot set its own balance");
        let theirs = ask(&server, &server.other_key, method, path, Some(body)).await;
        theirs.refuses(404, "Account not found");
    }
    for (method, body, location, part) in [
        ("PUT", json!({}), "balance_cents", "null for no bound"),
        ("PUT", json!({"balance_cents": -1}), "balance_cents", "-1"),
        ("PUT", json!({"balance_cents": "5"}), "balance_cents", "without quotes"),
        ("POST", json!({}), "add_cents", "is missing"),
        ("POST", json!({"add_cents": 0}), "add_cents", "from 0.001"),
    ] {
        let refused = operator(method, Some(body)).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        refused.at(location, &[part]);
    }
    let log = server.get("/v1/audit?resource=balance&limit=1").await;
    let last = &log.body["data"][0];
    assert_eq!(
        (&last["before"], &last["after"], &last["actor"]["account"]),
        (&json!({"balance_millicents": 0}), &json!({"balance_millicents": 12_500}), &json!("default")),
        "{}",
        log.text
    );
    assert_eq!(
        operator("PUT", Some(json!({"balance_cents": null}))).await.body["balance_cents"],
        Value::Null
    );
    // An account sets those of the accounts under it.
    let child = server.post("/sub-accounts/create", json!({"name": "North"})).await;
    let path = format!("/v1/accounts/{}/balance", child.body["id"].as_str().unwrap());
    assert_eq!(server.put(&path, json!({"balance_cents": 300})).await.body["balance_cents"], 300.0);
    let me = ask(&server, child.body["api_key"].as_str().unwrap(), "GET", "/user/me", None).await;
    assert_eq!(me.body["wallet"], 3.0, "{}", me.text);
}

#[tokio::test]
async fn whose_key_it_is_is_told_with_the_accounts_name_and_address() {
    let server = Server::start().await;
    let body = json!({"name": "North", "email": "ops@north.example"});
    let made = server.post("/sub-accounts/create", body).await;
    let key = made.body["api_key"].as_str().unwrap();
    let me = ask(&server, key, "GET", "/user/me", None).await;
    assert_eq!((&me.body["name"], &me.body["email"]), (&json!("North"), &json!("ops@north.example")));
    assert_eq!(me.body["id"], made.body["id"], "{}", me.text);
    // An account that nobody named goes by its identifier.
    let me = server.get("/user/me").await;
    assert_eq!((&me.body["name"], &me.body["email"]), (&json!("acme"), &Value::Null), "{}", me.text);
    let me = ask(&server, ENVIRONMENT_KEY, "GET", "/user/me", None).await;
    assert_eq!((&me.body["id"], &me.body["name"]), (&json!("default"), &json!("default")), "{}", me.text);
}

#[tokio::test]
async fn what_is_wrong_with_an_account_is_named() {
    let server = Server::start().await;
    for (body, location, part) in [
        (json!({}), "name", "is missing"),
        (json!({"name": "  "}), "name", "is missing or empty"),
        (json!({"name": 7}), "name", "text in quotes"),
        (json!({"name": "a", "email": "nobody"}), "email", "ops@example.com"),
        (json!({"name": "a", "metadata": [1]}), "metadata", "give an object"),
        (json!({"name": "a", "metadata": {"k": "x".repeat(20_000)}}), "metadata", "are the most"),
        (json!({"name": "a", "id": "a b"}), "id", "letters, digits"),
    ] {
        let answer = ask(&server, ENVIRONMENT_KEY, "POST", "/v1/accounts", Some(body)).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at(location, &[part]);
    }
    let answer = server.get("/v1/accounts/acme/usage?from=yesterday").await;
    answer.at("from", &["yesterday", "2026-01-31T13:00:00Z"]);
}
