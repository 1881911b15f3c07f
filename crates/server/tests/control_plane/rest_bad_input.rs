//! Bad input: each documented text, in the documented order, and for everything else an answer that names the
//! field, what was given, and what would do. Nothing that is refused leaves a trace.

use axum::body::Body;
use serde_json::{Value, json};

use super::client::{Answer, Server, agent, ip_trunk};

const TRUNKS: &str = "/sip-trunks/trunks";

async fn refused(server: &Server, change: impl FnOnce(&mut Value)) -> Answer {
    let mut body = ip_trunk("a");
    change(&mut body);
    let answer = server.post(TRUNKS, body).await;
    assert!(answer.status.is_client_error(), "{}", answer.text);
    answer
}

fn remove(body: &mut Value, name: &str) {
    body.as_object_mut().unwrap().remove(name);
}

#[tokio::test]
async fn each_documented_text_of_trunk_creation_is_given_word_for_word() {
    let server = Server::start().await;
    for value in [None, Some(Value::Null), Some(json!("")), Some(json!("  "))] {
        let answer = refused(&server, |body| match value {
            None => remove(body, "name"),
            Some(value) => body["name"] = value,
        })
        .await;
        answer.refuses(400, "Trunk name is required");
    }
    refused(&server, |body| remove(body, "provider")).await.refuses(400, "Provider is required");
    let auth = "auth_type must be 'userpass' or 'ip-based'";
    refused(&server, |body| remove(body, "auth_type")).await.refuses(400, auth);
    let near = refused(&server, |body| body["auth_type"] = json!("user-pass")).await;
    near.refuses(400, auth).at("auth_type", &["user-pass", "nearest is \"userpass\""]);
    refused(&server, |body| body["auth_type"] = json!(7)).await.refuses(400, auth);
    let gateway = "At least one gateway is required";
    refused(&server, |body| remove(body, "gateways")).await.refuses(400, gateway);
    refused(&server, |body| body["gateways"] = json!([])).await.refuses(400, gateway);
    let credentials = "auth_username and auth_password are required for userpass auth";
    for (username, password) in
        [(json!(null), json!("x")), (json!("x"), json!(null)), (json!(""), json!("x"))]
    {
        let answer = refused(&server, |body| {
            body["auth_type"] = json!("userpass");
            body["auth_username"] = username;
            body["auth_password"] = password;
        })
        .await;
        answer.refuses(400, credentials);
    }
    let sources = "ip_identifiers are required for ip-based auth";
    refused(&server, |body| remove(body, "ip_identifiers")).await.refuses(400, sources);
    refused(&server, |body| body["ip_identifiers"] = json!([])).await.refuses(400, sources);
    let sdes = "media_encryption='sdes' requires transport='transport-tls'";
    refused(&server, |body| body["media_encryption"] = json!("sdes")).await.refuses(422, sdes);
    assert_eq!(server.get(TRUNKS).await.body, json!([]));
    assert_eq!(server.table().trunks().count(), 0);
}

#[tokio::test]
async fn of_several_faults_the_first_in_the_documented_order_heads_the_answer() {
    let server = Server::start().await;
    let mut body = json!({"media_encryption": "sdes", "qualify_frequency": -1});
    for (name, value, text) in [
        ("name", json!("a"), "Trunk name is required"),
        ("provider", json!("b"), "Provider is required"),
        ("auth_type", json!("userpass"), "auth_type must be 'userpass' or 'ip-based'"),
        ("gateways", json!([{"gateway_address": "c.example"}]), "At least one gateway is required"),
        ("auth_username", json!("d"), "auth_username and auth_password are required for userpass auth"),
        ("auth_password", json!("e"), "auth_username and auth_password are required for userpass auth"),
    ] {
        server
            .post(TRUNKS, body.clone())
            .await
            .refuses(400, text)
            .at("qualify_frequency", &["-1", "0 to 86400"]);
        body[name] = value;
    }
    server
        .post(TRUNKS, body.clone())
        .await
        .refuses(422, "media_encryption='sdes' requires transport='transport-tls'");
    // A transport that is none is what is wrong; what it was to be is not known.
    body["transport"] = json!("tls");
    let answer = server.post(TRUNKS, body).await;
    assert_eq!((answer.status.as_u16(), answer.body["errors"].as_array().unwrap().len()), (400, 2));
    answer.at("transport", &["nearest is \"transport-tls\""]);
}

#[tokio::test]
async fn each_field_of_the_wrong_kind_is_named_with_what_would_do() {
    let server = Server::start().await;
    let cases: &[(&str, Value, &str, &[&str])] = &[
        ("name", json!(5), "name", &["the number 5", "text in quotes"]),
        ("name", json!("x".repeat(256)), "name", &["256 characters", "255"]),
        ("name", json!("a\u{7}b"), "name", &["U+0007", "position 1"]),
        ("provider", json!(["x"]), "provider", &["a list", "text in quotes"]),
        ("description", json!({}), "description", &["an object", "text in quotes"]),
        ("description", json!("x\u{1b}[31m"), "description", &["U+001B"]),
        ("inbound_enabled", json!("true"), "inbound_enabled", &["\"true\"", "true or false"]),
        ("direct_media", json!(1), "direct_media", &["the number 1", "true or false"]),
        ("qualify_frequency", json!("60"), "qualify_frequency", &["\"60\"", "without quotes"]),
        ("qualify_frequency", json!(-5), "qualify_frequency", &["-5", "0 to 86400"]),
        ("qualify_frequency", json!(1.5), "qualify_frequency", &["1.5", "whole number"]),
        ("transport", json!("udp"), "transport", &["\"udp\"", "nearest is \"transport-udp\""]),
        ("transport", json!("TRANSPORT-UDP"), "transport", &["nearest is \"transport-udp\""]),
        ("media_encryption", json!(true), "media_encryption", &["true", "\"no\", \"sdes\""]),
        ("media_encryption", json!("dtls"), "media_encryption", &["\"dtls\"", "\"sdes\""]),
        ("allow", json!(["ulaw"]), "allow", &["a list", "text in quotes"]),
        ("gateways", json!("sip.example.com"), "gateways", &["give a list such as"]),
        (
            "gateways",
            json!(["sip.example.com"]),
            "gateways[0]",
            &["sip.example.com", "give an object such as"],
        ),
        ("gateways", json!([{}]), "gateways[0].gateway_address", &["missing"]),
        ("gateways", json!([{"gateway_address": 7}]), "gateways[0].gateway_address", &["the number 7"]),
        (
            "gateways",
            json!([{"gateway_address": "a b"}]),
            "gateways[0].gateway_address",
            &["a b", "sip.example.com"],
        ),
        (
            "gateways",
            json!([{"gateway_address": "300.1.1.1"}]),
            "gateways[0].gateway_address",
            &["300.1.1.1"],
        ),
        (
            "gateways",
            json!([{"gateway_address": "a", "port": "5060"}]),
            "gateways[0].port",
            &["without quotes"],
        ),
        ("gateways", json!([{"gateway_address": "a", "port": 0}]), "gateways[0].port", &["1 to 65535"]),
        ("gateways", json!([{"gateway_address": "a", "port": 70000}]), "gateways[0].port", &["70000"]),
        (
            "gateways",
            json!([{"gateway_address": "a:1", "port": 2}]),
            "gateways[0].gateway_address",
            &["port 1", "2"],
        ),
        ("ip_identifiers", json!(["1.2.3.4"]), "ip_identifiers[0]", &["give an object such as"]),
        (
            "ip_identifiers",
            json!([{"ip_address": "carrier"}]),
            "ip_identifiers[0].ip_address",
            &["carrier", "203.0.113.0/24"],
        ),
        (
            "ip_identifiers",
            json!([{"ip_address": "1.2.3.4/33"}]),
            "ip_identifiers[0].ip_address",
            &["1.2.3.4/33"],
        ),
        (
            "ip_identifiers",
            json!([{"ip_address": "203.0.113.5/24"}]),
            "ip_identifiers[0].ip_address",
            &["host bits", "203.0.113.0/24", "203.0.113.5"],
        ),
        ("ip_identifiers", json!([{"ip_address": "0.0.0.0/0"}]), "ip_identifiers[0].ip_address", &["/8"]),
        (
            "phone_numbers",
            json!([{"phone_number": 919876543210_i64}]),
            "phone_numbers[0].phone_number",
            &["919876543210", "quotes"],
        ),
        ("phone_numbers", json!(["+1555"]), "phone_numbers[0]", &["give an object such as"]),
    ];
    for (name, value, location, parts) in cases {
        let answer = refused(&server, |body| body[*name] = value.clone()).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at(location, parts);
        assert!(answer.body["detail"].is_string());
    }
    let answer = refused(&server, |body| body["allow"] = json!("g729,opus")).await;
    answer.refuses(422, "allow and disallow leave no codec").at("allow", &["g729,opus", "ulaw, alaw"]);
    assert_eq!(server.get(TRUNKS).await.body, json!([]));
}

#[tokio::test]
async fn lists_that_are_too_long_are_refused() {
    let server = Server::start().await;
    let gateways: Vec<Value> =
        (0..33).map(|at| json!({"gateway_address": format!("g{at}.example")})).collect();
    refused(&server, |body| body["gateways"] = json!(gateways)).await.at("gateways", &["33", "32"]);
}

#[tokio::test]
async fn a_trunk_name_is_unique_in_its_account() {
    let server = Server::start().await;
    server.trunk("a").await;
    let taken = server.post(TRUNKS, ip_trunk("a")).await;
    taken.refuses(409, "A trunk with this name already exists").at("name", &["unique per account"]);
    let other = server.send(server.request("POST", TRUNKS, &server.other_key), Some(ip_trunk("a"))).await;
    assert_eq!(other.status, 201, "{}", other.text);
}

#[tokio::test]
async fn a_number_on_another_active_trunk_is_refused_whatever_its_plus() {
    const TEXT: &str = "Phone number already exists on another active trunk";
    let server = Server::start().await;
    let (first, second) = (server.trunk("a").await, server.trunk("b").await);
    server.number(&first, "+919876543210").await;
    for spelling in ["919876543210", "+919876543210"] {
        let path = format!("{TRUNKS}/{second}/numbers");
        let answer = server.post(&path, json!({"phone_number": spelling})).await;
        answer.refuses(409, TEXT).at("phone_number", &["another active trunk"]);
        let path = format!("{TRUNKS}/{first}/numbers");
        let answer = server.post(&path, json!({"phone_number": spelling})).await;
        answer.refuses(409, TEXT).at("phone_number", &["on this trunk already"]);
    }
    let mut body = ip_trunk("c");
    body["phone_numbers"] = json!([{"phone_number": "555"}, {"phone_number": "919876543210"}]);
    server
        .post(TRUNKS, body.clone())
        .await
        .refuses(409, TEXT)
        .at("phone_numbers[1].phone_number", &["919876543210", "another active trunk"]);
    body["phone_numbers"] =
        json!([{"phone_number": "555"}, {"phone_number": "556"}, {"phone_number": "+555"}]);
    server
        .post(TRUNKS, body)
        .await
        .refuses(409, TEXT)
        .at("phone_numbers[2].phone_number", &["+555", "on this trunk already"]);
    assert_eq!(server.get(TRUNKS).await.body.as_array().unwrap().len(), 2);
    assert_eq!(server.table().number_count(), 1);
    // Switched off, the first trunk gives it free; it cannot be switched on again while another has it.
    let path = format!("{TRUNKS}/{first}");
    server.patch(&path, json!({"is_active": false})).await;
    server.number(&second, "919876543210").await;
    server.patch(&path, json!({"is_active": true})).await.refuses(409, TEXT);
}

#[tokio::test]
async fn numbers_are_checked_as_strictly_as_was_asked() {
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let path = format!("{TRUNKS}/{trunk}/numbers");
    for value in [json!({}), json!({"phone_number": null}), json!({"phone_number": ""})] {
        server.post(&path, value).await.refuses(400, "phone_number is required");
    }
    for bad in ["919876543210", "+0123456", "+1", "+1234567890123456", "+12a4"] {
        let answer = server.post(&path, json!({"phone_number": bad, "e164_check_enabled": true})).await;
        answer.refuses(400, "Invalid phone number format").at("phone_number", &[bad, "E.164"]);
    }
    let strict =
        server.post(&path, json!({"phone_number": "+919876543210", "e164_check_enabled": true})).await;
    assert_eq!((strict.status.as_u16(), &strict.body["e164_check_enabled"]), (201, &json!(true)));
    let blank = server.post(&path, json!({"phone_number": "+91 98765"})).await;
    blank.refuses(400, "Invalid phone number format");
    let number = server.post(&path, json!({"phone_number": 919876543211_i64})).await;
    number.at("phone_number", &["the number 919876543211", "text in quotes"]);
    let word = server.post(&path, json!({"phone_number": "100", "is_active": "yes"})).await;
    word.at("is_active", &["\"yes\"", "true or false"]);
    server
        .post(&format!("{TRUNKS}/x/numbers"), json!({"phone_number": "7"}))
        .await
        .refuses(404, "Trunk not found");
}

#[tokio::test]
async fn each_documented_text_of_mapping_is_given_word_for_word() {
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let number = server.number(&trunk, "100").await;
    let agent = server.agent().await;
    let setup = |agent: Value, number: Value| {
        server.post("/inbound/setup", json!({"agent_id": agent, "phone_number_id": number}))
    };
    setup(Value::Null, json!(number)).await.refuses(400, "agent_id is required");
    setup(json!(agent), json!("")).await.refuses(400, "phone_number_id is required");
    setup(json!(agent), json!("01HQ")).await.refuses(404, "Phone number doesn't exist.");
    setup(json!("01HQ"), json!(number))
        .await
        .refuses(404, "Agent not found")
        .at("agent_id", &["POST /v2/agent"]);
    setup(json!(5), json!(number)).await.at("agent_id", &["the number 5"]);
    server.post("/inbound/unlink", json!({})).await.refuses(400, "phone_number_id is required");
    // The guide's clients name the agent here too: it is not looked at.
    for agent in [json!("nobody"), json!(5), Value::Null] {
        let body = json!({"agent_id": agent, "phone_number_id": number});
        assert_eq!(server.post("/inbound/unlink", body).await.status, 200);
    }
    server.delete(&format!("{TRUNKS}/{trunk}/numbers/{number}")).await;
    let removed = "SIP trunk phone number not found in database";
    setup(json!(agent), json!(number)).await.refuses(404, removed);
    server.post("/inbound/unlink", json!({"phone_number_id": number})).await.refuses(404, removed);
}

#[tokio::test]
async fn an_agents_faults_are_named() {
    let server = Server::start().await;
    server.post("/v2/agent", json!({})).await.refuses(400, "agent_config is required");
    let empty = json!({"agent_config": {}});
    server.post("/v2/agent", empty).await.refuses(400, "agent_config.agent_name is required");
    server.post("/v2/agent", json!({"agent_config": "x"})).await.at("agent_config", &["give an object"]);
    let cases: &[(&str, Value, &str, &[&str])] = &[
        ("url", json!(null), "websocket.url", &["missing"]),
        ("url", json!("https://agent.example"), "websocket.url", &["https://agent.example", "wss://"]),
        ("url", json!("wss:///x"), "websocket.url", &["WebSocket URL"]),
        ("url", json!("wss://a/{exec_id}"), "websocket.url", &["{exec_id}", "{execution_id}"]),
        ("url", json!("wss://{to}.example/"), "websocket.url", &["not its host"]),
        ("fallback_url", json!(5), "websocket.fallback_url", &["the number 5"]),
        ("dialect", json!(null), "websocket.dialect", &["asterisk, bolna, twilio"]),
        ("dialect", json!("twillio"), "websocket.dialect", &["twillio", "nearest is \"twilio\""]),
        ("frame_ms", json!(25), "websocket.frame_ms", &["25", "multiple of 10"]),
        ("frame_ms", json!("20"), "websocket.frame_ms", &["\"20\"", "multiple of 10"]),
        ("encoding", json!("opus"), "websocket.encoding", &["opus", "slin16"]),
        ("reply_encoding", json!(8), "websocket.reply_encoding", &["slin24"]),
        ("byte_order", json!("middle"), "websocket.byte_order", &["middle", "little", "big"]),
        ("numbers", json!(true), "websocket.numbers", &["text", "number"]),
        ("marks_on_clear", json!("lose"), "websocket.marks_on_clear", &["lose", "echo", "drop", "cleared"]),
        ("voice_activity", json!("loud"), "websocket.voice_activity", &["loud", "off", "events", "clear"]),
        ("heard_position", json!("yes"), "websocket.heard_position", &["yes", "true or false"]),
        ("inband_dtmf", json!(true), "websocket.inband_dtmf", &["auto", "always", "never"]),
        ("on_close", json!("stay"), "websocket.on_close", &["stay", "\"drain\", \"hangup\""]),
        ("subprotocol", json!("a b"), "websocket.subprotocol", &["a b"]),
        ("headers", json!({"Host": "x"}), "websocket.headers.Host", &["upgrade request"]),
        ("headers", json!({"Sec-WebSocket-Key": "x"}), "websocket.headers.Sec-WebSocket-Key", &["upgrade"]),
        ("headers", json!({"a b": "x"}), "websocket.headers.a b", &["no header"]),
        ("headers", json!({"X": "a\r\nY: b"}), "websocket.headers.X", &["cannot carry"]),
        ("headers", json!({"X": 5}), "websocket.headers.X", &["text in quotes"]),
        ("headers", json!({"X": "{header:Authorization}"}), "websocket.headers.X", &["not handed to agents"]),
        ("parameters", json!({"k": {}}), "websocket.parameters.k", &["an object"]),
        ("parameters", json!([]), "websocket.parameters", &["a list", "give an object"]),
    ];
    for (name, value, location, parts) in cases {
        let mut body = agent();
        body["websocket"][*name] = value.clone();
        let answer = server.post("/v2/agent", body).await;
        assert_eq!(answer.status, 400, "{name} {value}: {}", answer.text);
        answer.at(location, parts);
    }
    let mut body = agent();
    body["websocket"]["dialect"] = json!("twilio");
    body["websocket"]["encoding"] = json!("slin16");
    server.post("/v2/agent", body.clone()).await.at("websocket.encoding", &["twilio", "ulaw, alaw"]);
    body["websocket"]["encoding"] = json!("alaw");
    body["websocket"]["reply_encoding"] = json!("slin");
    server.post("/v2/agent", body).await.at("websocket.reply_encoding", &["twilio", "ulaw, alaw"]);
    let mut body = agent();
    body["websocket"]["session"] = json!({"instructions": "Be brief."});
    server.post("/v2/agent", body.clone()).await.at("websocket.session", &["asterisk", "openai-realtime"]);
    body["websocket"]["session"] = json!("Be brief.");
    server.post("/v2/agent", body).await.at("websocket.session", &["give an object"]);
    let mut body = agent();
    body["websocket"]["dialect"] = json!("deepgram");
    body["websocket"]["voice_activity"] = json!("events");
    server.post("/v2/agent", body).await.at("websocket.voice_activity", &["deepgram", "clear"]);
    let mut body = agent();
    body["websocket"]["dialect"] = json!("audiosocket");
    let answer = server.post("/v2/agent", body.clone()).await;
    assert_eq!(answer.status, 422, "{}", answer.text);
    answer.at("websocket.url", &["wss://agent.example", "tcp://agent.example:9092"]);
    body["websocket"]["url"] = json!("tcp://agent.example");
    server.post("/v2/agent", body).await.at("websocket.url", &["tcp://agent.example:9092"]);
    let mut body = agent();
    body["websocket"]["headers"] = json!({"Authorization": "********"});
    server
        .post("/v2/agent", body)
        .await
        .at("websocket.headers.Authorization", &["the mask", "the value itself"]);
    assert_eq!(server.get("/v2/agent/all").await.body, json!([]));
    let agent = server.agent().await;
    let body = json!({"websocket": {"headers": {"X-New": "********"}}});
    server.patch(&format!("/v2/agent/{agent}"), body).await.at("websocket.headers.X-New", &["the mask"]);
}

async fn send_bytes(server: &Server, content_type: Option<&str>, bytes: Vec<u8>) -> Answer {
    let mut request = server.request("POST", TRUNKS, &server.key);
    if let Some(kind) = content_type {
        request = request.header("Content-Type", kind);
    }
    server.raw(request.body(Body::from(bytes)).unwrap()).await
}

#[tokio::test]
async fn bodies_that_are_no_json_objects_are_refused_with_the_place_of_the_fault() {
    let server = Server::start().await;
    let json = Some("application/json; charset=utf-8");
    let cases: &[(&[u8], &str)] = &[
        (b"", "The body is empty"),
        (b"  \n", "The body is empty"),
        (b"{\"name\": \"a\",}", "column 14"),
        (b"{\"name\": \"a\"", "EOF"),
        (b"[1, 2]", "The body is a list; send a JSON object"),
        (b"\"text\"", "The body is the text"),
        (b"null", "The body is null"),
        (b"{\"name\": \"\xff\xfe\"}", "The body is not JSON"),
        (b"{\"name\": 1e999}", "The body is not JSON"),
        (b"{} trailing", "The body is not JSON"),
    ];
    for (bytes, part) in cases {
        let answer = send_bytes(&server, json, bytes.to_vec()).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        assert!(answer.body["message"].as_str().unwrap().contains(part), "{part}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_nul_is_refused_in_whatever_is_read_here() {
    let server = Server::start().await;
    let cases = [
        (json!({"name": "a\0b"}), "name"),
        (json!({"gateways": [{"gateway_address": "\0"}]}), "gateways[0].gateway_address"),
        (json!({"phone_numbers": [{"phone_number": "\0"}]}), "phone_numbers[0].phone_number"),
    ];
    for (body, location) in cases {
        server.post(TRUNKS, body).await.at(location, &["U+0000"]);
    }
    // What is read by nobody here is left alone: ignored in a trunk, kept and shown in an agent.
    let mut body = ip_trunk("a");
    body["unknown"] = json!({"deep\0": ["x", "\0"]});
    assert_eq!(server.post(TRUNKS, body).await.status, 201);
    let mut body = agent();
    body["agent_prompts"]["task_1"]["system_prompt"] = json!("a\0");
    let made = server.post("/v2/agent", body).await;
    let shown = server.get(&format!("/v2/agent/{}", made.body["agent_id"].as_str().unwrap())).await;
    assert_eq!(shown.body["agent_prompts"]["task_1"]["system_prompt"], "a\0", "{}", shown.text);
}

#[tokio::test]
async fn deep_json_is_refused_before_it_is_parsed() {
    let server = Server::start().await;
    for depth in [33, 200, 100_000] {
        let body = format!("{{\"a\": {}1{}}}", "[".repeat(depth), "]".repeat(depth));
        let answer = send_bytes(&server, Some("application/json"), body.into_bytes()).await;
        assert_eq!(answer.status, 400);
        assert!(answer.text.contains("deeper than 32 levels"), "{}", answer.text);
    }
    // Braces in a text are no depth.
    let mut body = ip_trunk("a");
    body["description"] = json!("[{\\\"".repeat(100));
    assert_eq!(server.post(TRUNKS, body).await.status, 201);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_at_the_limit() {
    let server = Server::with(|config| config.limits.api_body_bytes = 1_000).await;
    let body = format!("{{\"name\": \"{}\"}}", "x".repeat(1_000));
    let answer = send_bytes(&server, Some("application/json"), body.into_bytes()).await;
    answer.refuses(413, "The body is larger than 1000 bytes");
}

#[tokio::test]
async fn a_body_of_another_type_is_refused() {
    let server = Server::start().await;
    let body = || ip_trunk("a").to_string().into_bytes();
    for kind in
        ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json", ""]
    {
        let answer = send_bytes(&server, Some(kind), body()).await;
        answer.refuses(415, "The body must be JSON").at("Content-Type", &["application/json"]);
    }
    assert_eq!(send_bytes(&server, None, body()).await.status, 201);
}

#[tokio::test]
async fn paths_and_methods_that_are_not_there_are_named() {
    let server = Server::start().await;
    server.get("/sip-trunk/trunks").await.refuses(404, "There is no GET /sip-trunk/trunks");
    server.delete(TRUNKS).await.refuses(405, "/sip-trunks/trunks does not take DELETE");
}

#[tokio::test]
async fn strange_identifiers_are_not_found() {
    let server = Server::start().await;
    for id in ["%00", "..%2F..%2Fetc", "'%20OR%201=1--", "%F0%9F%98%80", &"x".repeat(5_000)] {
        server.get(&format!("{TRUNKS}/{id}")).await.refuses(404, "Trunk not found");
        server.get(&format!("/v2/agent/{id}")).await.refuses(404, "Agent not found");
        server.get(&format!("/executions/{id}")).await.refuses(404, "Execution not found");
    }
    // Not UTF-8 once unescaped.
    let answer = server.get(&format!("{TRUNKS}/%ff")).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    assert_eq!(answer.body["error"], 400, "{}", answer.text);
}

#[test]
fn no_body_makes_the_reader_panic() {
    // The fuzz target's door, with a few bodies it is easy to trip over.
    for body in [
        &b"{\"gateways\": [{\"gateway_address\": \"sip:\"}]}"[..],
        b"{\"gateways\": [{\"gateway_address\": \"s\xc3\xafp:x\"}]}",
        b"{\"name\": \"a\", \"provider\": \"b\", \"auth_type\": \"ip-based\", \"gateways\": [{\"gateway_address\": \"c\"}], \"ip_identifiers\": [{\"ip_address\": \"1.2.3.4\"}]}",
        b"{\"agent_config\": {\"agent_name\": \"x\"}, \"websocket\": {\"url\": \"ws://{\", \"headers\": {\"\": \"\"}}}",
        b"\xff",
    ] {
        tandem_server::api::read_any_body(body);
    }
}
