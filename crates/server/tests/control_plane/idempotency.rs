//! Idempotency keys: a request that is repeated is carried out once, whatever happens in between.

use serde_json::{Value, json};
use tandem_server::store::{Claim, RequestName};

use super::client::{Answer, Server, ip_trunk};
use super::exotel::TRUNKS;

async fn post(server: &Server, api_key: &str, path: &str, key: &str, body: Value) -> Answer {
    let request = server.request("POST", path, api_key).header("idempotency-key", key);
    server.send(request, Some(body)).await
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.get("idempotency-replayed").is_some_and(|value| value == "true")
}

#[tokio::test]
async fn the_same_request_again_gets_the_same_answer_and_makes_nothing() {
    let server = Server::start().await;
    let first = post(&server, &server.key, "/sip-trunks/trunks", "k-1", ip_trunk("one")).await;
    assert_eq!(first.status, 201, "{}", first.text);
    assert!(!is_replayed(&first));
    let again = post(&server, &server.key, "/sip-trunks/trunks", "k-1", ip_trunk("one")).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert!(is_replayed(&again));
    assert_eq!(again.headers["etag"], first.headers["etag"]);
    assert_eq!(again.headers["content-type"], first.headers["content-type"]);
    assert_eq!(server.get("/sip-trunks/trunks").await.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn another_body_is_refused_and_another_route_or_account_is_another_request() {
    let server = Server::start().await;
    post(&server, &server.key, "/sip-trunks/trunks", "k", ip_trunk("one")).await;
    let other = post(&server, &server.key, "/sip-trunks/trunks", "k", ip_trunk("two")).await;
    other
        .refuses(422, "This Idempotency-Key was used for another request")
        .at("Idempotency-Key", &["new one"]);
    let agent = post(&server, &server.key, "/v2/agent", "k", super::client::agent()).await;
    assert_eq!(agent.status, 200, "{}", agent.text);
    let theirs = post(&server, &server.other_key, "/sip-trunks/trunks", "k", ip_trunk("one")).await;
    assert_eq!(theirs.status, 201, "{}", theirs.text);
    assert!(!is_replayed(&theirs));
}

#[tokio::test]
async fn what_was_refused_leaves_the_key_free() {
    let server = Server::start().await;
    let refused = post(&server, &server.key, "/sip-trunks/trunks", "k", json!({"name": ""})).await;
    assert_eq!(refused.status, 400, "{}", refused.text);
    let made = post(&server, &server.key, "/sip-trunks/trunks", "k", ip_trunk("one")).await;
    assert_eq!(made.status, 201, "{}", made.text);
}

#[tokio::test]
async fn a_duplicate_that_exotel_answers_with_200_leaves_the_key_free_too() {
    let server = Server::start().await;
    let ask = async || {
        let body = super::exotel::new_trunk("one");
        let answer = post(&server, &server.key, TRUNKS, "k", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer
    };
    let sid = server.exotel_trunk("one").await;
    assert_eq!(ask().await.body["response"]["code"], 409);
    // What stood in the way is gone: the request is made anew, and its answer kept.
    assert_eq!(server.delete(&format!("{TRUNKS}?trunk_sid={sid}")).await.status, 200);
    let made = ask().await;
    assert_eq!((&made.body["response"]["code"], is_replayed(&made)), (&json!(200), false), "{}", made.text);
    let again = ask().await;
    assert_eq!((&again.text, is_replayed(&again)), (&made.text, true));
    // Nor does a batch of which nothing came to be keep its key; one of which some did keeps it.
    let sid = made.body["response"]["data"]["trunk_sid"].as_str().unwrap();
    let path = format!("{TRUNKS}/{sid}/destination-uris");
    let send = async |first: &str| {
        let body = json!({"destinations": [{"destination": first}, {"destination": "nowhere"}]});
        let answer = post(&server, &server.key, &path, "batch", body).await;
        assert_eq!(answer.status, 207, "{}", answer.text);
        is_replayed(&answer)
    };
    assert!(!send("192.0.2.1:5060").await, "it is not whitelisted");
    assert!(!send("sip.example.com").await);
    assert!(send("sip.example.com").await);
}

#[tokio::test]
async fn of_many_at_once_one_is_carried_out() {
    let server = std::sync::Arc::new(Server::start().await);
    let posts = (0..16).map(|_| {
        let server = std::sync::Arc::clone(&server);
        tokio::spawn(
            async move { post(&server, &server.key, "/sip-trunks/trunks", "k", ip_trunk("one")).await },
        )
    });
    let mut made = 0;
    for answer in posts.collect::<Vec<_>>() {
        let answer = answer.await.unwrap();
        match answer.status.as_u16() {
            201 => made += u32::from(!is_replayed(&answer)),
            409 => {
                answer.refuses(409, "A request with this Idempotency-Key is under way");
                assert_eq!(answer.headers["retry-after"], "1");
            }
            _ => panic!("{}", answer.text),
        }
    }
    assert_eq!(made, 1);
    assert_eq!(server.get("/sip-trunks/trunks").await.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_new_keys_answer_is_repeated_and_does_not_lie_open_in_the_store() {
    let folder = tempfile::tempdir().unwrap();
    let store = super::store::open(folder.path()).await;
    let name = RequestName {
        account: "acme".to_owned(),
        route: "POST /v1/keys".to_owned(),
        name: "k".to_owned(),
        api_key: "h".to_owned(),
        fingerprint: "f".to_owned(),
    };
    assert_eq!(store.claim_request(&name).await.unwrap(), Claim::Ours);
    let answer = tandem_server::store::KeptAnswer {
        status: 201,
        headers: Vec::new(),
        body: "a-secret-that-is-shown-once".to_owned(),
    };
    store.keep_answer(&name, &answer).await.unwrap();
    store.close().await;
    // A restart.
    let store = super::store::open(folder.path()).await;
    assert_eq!(store.claim_request(&name).await.unwrap(), Claim::Answered(answer));
    let other_key = RequestName { api_key: "i".to_owned(), ..name.clone() };
    assert_eq!(store.claim_request(&other_key).await.unwrap(), Claim::OtherKey);
    store.close().await;
    for entry in std::fs::read_dir(folder.path()).unwrap() {
        let bytes = std::fs::read(entry.unwrap().path()).unwrap();
        assert!(!bytes.windows(8).any(|window| window == b"a-secret"));
    }
}

#[tokio::test]
async fn a_key_that_is_none_is_told_so() {
    let server = Server::start().await;
    for key in ["", "a b", &"x".repeat(256)] {
        let answer = post(&server, &server.key, "/sip-trunks/trunks", key, ip_trunk("one")).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at("Idempotency-Key", &["visible ASCII"]);
    }
    // Without a valid API key it is no matter.
    let answer = post(&server, "nobody", "/sip-trunks/trunks", "", ip_trunk("one")).await;
    answer.refuses(403, "Unrecognized access token");
}
