//! How often clients may ask, how they are told, and that each request has a name.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;
use tandem_server::net::http::Peer;

use super::client::{Answer, Server, ip_trunk};

#[tokio::test]
async fn beyond_its_limit_an_account_waits_and_others_do_not() {
    let server = Server::with(|config| config.limits.api_requests_per_minute = 3).await;
    for left in [2, 1, 0] {
        let answer = server.get("/v1/calls").await;
        assert_eq!(answer.status, 200);
        for prefix in ["x-ratelimit", "ratelimit"] {
            assert_eq!(answer.headers[&format!("{prefix}-limit")], "3");
            assert_eq!(answer.headers[&format!("{prefix}-remaining")], left.to_string());
            let reset: u64 = answer.headers[&format!("{prefix}-reset")].to_str().unwrap().parse().unwrap();
            assert!((1..=60).contains(&reset));
        }
    }
    let refused = server.get("/v1/calls").await;
    refused.refuses(429, "Too many requests: 3 a minute are allowed per account for this kind of request");
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait));
    assert_eq!(refused.headers["x-ratelimit-remaining"], "0");
    // What the vendor counts apart is counted apart, and so are other accounts.
    assert_eq!(server.get("/v2/agent/unknown").await.status, 404);
    let theirs = server.send(server.request("GET", "/v1/calls", &server.other_key), None).await;
    assert_eq!(theirs.status, 200);
}

#[tokio::test]
async fn each_endpoint_with_a_narrower_limit_has_its_own() {
    let server = Server::with(|config| config.limits.api_narrow_per_minute = 1).await;
    let asked = json!({"agent_id": "unknown", "recipient_phone_number": "+14155550100"});
    // What is read while calls are ordered costs no call, as at the vendor's.
    for status in [404, 429] {
        assert_eq!(server.post("/call", asked.clone()).await.status, status);
        assert_eq!(server.get("/v2/agent/unknown").await.status, status);
        assert_eq!(server.get("/v2/agent/unknown/executions").await.status, status);
    }
    assert_eq!(server.get("/v2/agent/all").await.status, 200);
}

#[tokio::test]
async fn a_request_that_is_repeated_with_its_idempotency_key_counts_each_time() {
    let server = Server::with(|config| config.limits.api_requests_per_minute = 3).await;
    let ask = async || {
        let request = server.request("POST", "/sip-trunks/trunks", &server.key);
        server.send(request.header("idempotency-key", "one"), Some(ip_trunk("one"))).await
    };
    for left in ["2", "1", "0"] {
        let answer = ask().await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        assert_eq!(answer.headers["ratelimit-remaining"], left);
    }
    let refused = ask().await;
    refused.refuses(429, "Too many requests: 3 a minute are allowed per account for this kind of request");
    assert!(refused.headers.contains_key("retry-after"));
}

async fn guess(server: &Server, key: &str, address: &str) -> Answer {
    let request = Request::get("/v1/calls").header("authorization", format!("Bearer {key}"));
    let peer = Peer(address.parse().unwrap());
    server.raw(request.extension(peer).body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn whoever_guesses_keys_is_slowed_down_and_its_neighbours_are_not() {
    let server = Server::with(|config| config.limits.api_failures_per_minute = 2).await;
    assert_eq!(guess(&server, &server.key, "192.0.2.1").await.status, 200);
    for _ in 0..2 {
        guess(&server, "wrong", "192.0.2.1").await.refuses(403, "Unrecognized access token");
    }
    let refused = guess(&server, "wrong", "192.0.2.1").await;
    refused.refuses(429, "Too many requests: 2 a minute are allowed from one address without a valid key");
    assert!(refused.headers.contains_key("retry-after"));
    // Nor does a key that was right all along suffer, or another address.
    assert_eq!(guess(&server, &server.key, "192.0.2.1").await.status, 200);
    guess(&server, "wrong", "192.0.2.2").await.refuses(403, "Unrecognized access token");
}

#[tokio::test]
async fn each_answer_names_its_request() {
    let server = Server::start().await;
    let given = server.request("GET", "/v1/calls", &server.key).header("x-request-id", "mine-7");
    assert_eq!(server.send(given, None).await.headers["x-request-id"], "mine-7");
    let mut seen = std::collections::BTreeSet::new();
    for path in ["/v1/calls", "/health", "/nowhere", "/v2/agent/x"] {
        let answer = server.get(path).await;
        assert!(seen.insert(answer.headers["x-request-id"].to_str().unwrap().to_owned()), "{path}");
    }
}
