//! Route test, number look-up and connection details, as far as they go without an engine: the question is made into
//! an INVITE, the answer shown, and another account's numbers are nobody's.

use std::sync::Arc;

use serde_json::json;
use tandem_call::{Engine, EngineConfig, Input};
use tandem_server::api::CallCommand;

use super::client::{Answer, Server};

/// Answers one route test by an engine that routes by the server's table.
async fn asked(server: &mut Server, key: &str, body: serde_json::Value) -> Answer {
    let request = server.request("POST", "/v1/route-test", key);
    let table = server.table();
    let now = tandem_server::clock::now();
    let mut engine = Engine::new(EngineConfig::default(), 7, now, 0);
    engine.handle(now, Input::Routing(table));
    let commands = Arc::new(tokio::sync::Mutex::new(std::mem::replace(
        &mut server.commands,
        tokio::sync::mpsc::channel(1).1,
    )));
    let taking = Arc::clone(&commands);
    let answering = tokio::spawn(async move {
        while let Some(command) = taking.lock().await.recv().await {
            if let CallCommand::RouteTest(test) = command {
                test.answer(engine.dry_run(&test.asked, now));
                return;
            }
        }
    });
    let answer = server.send(request, Some(body)).await;
    answering.abort();
    // The task lets go of the channel when it has ended.
    drop(answering.await);
    server.commands = Arc::into_inner(commands).unwrap().into_inner();
    answer
}

#[tokio::test]
async fn the_answer_is_the_verdict_and_follows_each_change_at_once() {
    let mut server = Server::start().await;
    let trunk = server.trunk("one").await;
    let number = server.number(&trunk, "+14155550100").await;
    let key = server.key.clone();
    let question = json!({"source": "203.0.113.9", "request_uri": "sip:14155550100@voice.example"});
    let answer = asked(&mut server, &key, question.clone()).await;
    assert_eq!(
        (answer.status.as_u16(), &answer.body["code"]),
        (200, &json!("number_without_agent")),
        "{}",
        answer.text
    );
    assert_eq!((&answer.body["trunk"], &answer.body["number"]), (&json!(trunk), &json!(number)));
    assert!(answer.body["remedy"].as_str().unwrap().contains("/inbound/setup"));
    let agent = server.agent().await;
    server.post("/inbound/setup", json!({"agent_id": agent, "phone_number_id": number})).await;
    let answer = asked(&mut server, &key, question.clone()).await;
    assert_eq!((&answer.body["code"], &answer.body["status"]), (&json!("accepted"), &json!(200)));
    let mut refused = question.clone();
    refused["sdp"] =
        json!("v=0\no=- 1 1 IN IP4 192.0.2.1\ns=-\nc=IN IP4 192.0.2.1\nt=0 0\nm=audio 4000 RTP/AVP 9\n");
    assert_eq!(asked(&mut server, &key, refused).await.body["code"], "no_common_codec");
    let mut required = question.clone();
    required["headers"] = json!({"Require": "path"});
    assert_eq!(asked(&mut server, &key, required).await.body["code"], "protocol_refused");
    let mut outside = question;
    outside["source"] = json!("198.51.100.1");
    assert_eq!(asked(&mut server, &key, outside).await.body["code"], "source_outside_ranges");
}

#[tokio::test]
async fn anothers_number_is_answered_as_one_that_nobody_has() {
    let mut server = Server::start().await;
    let trunk = server.trunk("one").await;
    server.number(&trunk, "+14155550100").await;
    let other = server.other_key.clone();
    let body = json!({"source": "203.0.113.9", "request_uri": "sip:+14155550100@x"});
    let theirs = asked(&mut server, &other, body).await;
    assert_eq!(theirs.body["code"], "number_unknown", "{}", theirs.text);
    assert!(!theirs.text.contains(&trunk) && theirs.body["trace"] == json!([]));
    let body = json!({"source": "203.0.113.9", "request_uri": "sip:x@y", "authenticated_as": trunk});
    let refused = asked(&mut server, &other, body).await;
    refused.refuses(404, "Trunk not found").at("authenticated_as", &["no trunk of this account"]);
    let looked = server.send(server.request("GET", "/v1/numbers/+14155550100", &other), None).await;
    looked.refuses(404, "Number not found");
}

#[tokio::test]
async fn what_is_wrong_with_a_question_is_named() {
    let mut server = Server::start().await;
    let key = server.key.clone();
    let good = json!({"source": "192.0.2.9", "request_uri": "sip:1@x"});
    for (field, value, part) in [
        ("source", json!("carrier.example"), "192.0.2.9:5060"),
        ("source", json!(null), "is missing"),
        ("request_uri", json!("1 2"), "sip:+14155550100@voice.example"),
        ("request_uri", json!("a\r\nVia: x"), "U+000D"),
        ("transport", json!("sctp"), "\"udp\""),
        ("headers", json!(["a"]), "give an object"),
        ("headers.a b", json!({"a b": "x"}), "X-Customer"),
        ("headers.X", json!({"X": "a\nb"}), "U+000A"),
        ("headers.X", json!({"X": null}), "leave the header out"),
        ("sdp", json!(7), "text in quotes"),
    ] {
        let mut body = good.clone();
        body[field.split('.').next().unwrap()] = value;
        let answer = asked(&mut server, &key, body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at(field, &[part]);
    }
    let mut own = good.clone();
    own["headers"] = json!({"Via": "x"});
    let answer = asked(&mut server, &key, own).await;
    answer.refuses(422, "A header is the test's own").at("headers.Via", &["leave it out"]);
}

#[tokio::test]
async fn a_number_is_found_with_and_without_its_plus() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let number = server.number(&trunk, "+14155550100").await;
    for written in ["+14155550100", "14155550100", "%2B1-415-555-0100"] {
        let answer = server.get(&format!("/v1/numbers/{written}")).await;
        assert_eq!(answer.status, 200, "{written}: {}", answer.text);
        let place = &answer.body["data"][0];
        assert_eq!((&place["trunk_id"], &place["phone_number_id"]), (&json!(trunk), &json!(number)));
    }
    server.get("/v1/numbers/999").await.refuses(404, "Number not found");
}

#[tokio::test]
async fn connection_details_say_where_to_send_and_what_to_let_in() {
    let server = Server::with(|config| {
        config.sip.public_address = Some("198.51.100.5".parse().unwrap());
        config.node.name = "n1".to_owned();
    })
    .await;
    let answer = server.get("/v1/connection").await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let udp = json!({"transport": "udp", "address": "198.51.100.5", "port": 5060});
    assert!(answer.body["signalling"].as_array().unwrap().contains(&udp), "{}", answer.text);
    let media = json!({"address": "198.51.100.5", "first_port": 20000, "last_port": 29999});
    assert_eq!(answer.body["media"], media);
}
