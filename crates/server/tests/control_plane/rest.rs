//! The way of the vendor's guide, step by step: trunk, numbers, agent, mapping, and back; with the documented
//! statuses, bodies and texts. Routing is looked at after each change: what was answered is what the next INVITE
//! sees.

use serde_json::{Value, json};

use super::client::{ENVIRONMENT_KEY, Server, agent, ip_trunk};

#[tokio::test]
async fn the_guides_userpass_trunk_is_made_as_documented() {
    let server = Server::start().await;
    let answer = server
        .post(
            "/sip-trunks/trunks",
            json!({
                "name": "Zadarma Production",
                "provider": "zadarma",
                "description": "Main Zadarma trunk for outbound sales",
                "auth_type": "userpass",
                "auth_username": "bolnaTesting",
                "auth_password": "SuperSecurePassword123",
                "gateways": [{"gateway_address": "sip.zadarma.com", "port": 5060, "priority": 1}],
                "allow": "ulaw,alaw",
                "disallow": "all",
                "inbound_enabled": true,
                "outbound_leading_plus_enabled": true,
            }),
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert!(!answer.text.contains("SuperSecurePassword123") && !answer.text.contains("auth_password"));
    let body = &answer.body;
    assert_eq!(body["id"].as_str().unwrap().len(), 26);
    let expected = json!({
        "user_id": "acme",
        "name": "Zadarma Production",
        "provider": "zadarma",
        "description": "Main Zadarma trunk for outbound sales",
        "auth_type": "userpass",
        "auth_username": "bolnaTesting",
        "ip_identifiers": [],
        "phone_numbers": [],
        "phone_numbers_count": 0,
        "allow": "ulaw,alaw",
        "disallow": "all",
        "transport": "transport-udp",
        "direct_media": false,
        "rtp_symmetric": true,
        "force_rport": true,
        "ice_support": true,
        "media_encryption": "no",
        "media_encryption_optimistic": false,
        "qualify_frequency": 60,
        "inbound_enabled": true,
        "outbound_leading_plus_enabled": true,
        "is_active": true,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&body[name], value, "{name}");
    }
    let gateway = &body["gateways"][0];
    assert_eq!(gateway["gateway_address"], "sip.zadarma.com");
    assert_eq!((&gateway["port"], &gateway["priority"]), (&json!(5060), &json!(1)));
    assert!(gateway["id"].is_string() && is_zulu(&gateway["created_at"]));
    assert!(is_zulu(&body["created_at"]) && is_zulu(&body["updated_at"]));

    let id = body["id"].as_str().unwrap();
    assert_eq!(server.get(&format!("/sip-trunks/trunks/{id}")).await.body, *body);
    let table = server.table();
    let routed = table.trunks().find(|trunk| trunk.id.as_str() == id).unwrap();
    assert!(routed.inbound_enabled);
    assert!(format!("{:?}", routed.auth).contains("bolnaTesting"));
}

#[tokio::test]
async fn the_guides_ip_based_trunk_is_made_with_null_for_its_user_name() {
    let server = Server::start().await;
    let answer = server
        .post(
            "/sip-trunks/trunks",
            json!({
                "name": "Plivo Elastic Trunk",
                "provider": "plivo",
                "auth_type": "ip-based",
                "gateways": [{"gateway_address": "21467306465797919.zt.plivo.com", "port": 5060, "priority": 1}],
                "ip_identifiers": [
                    {"ip_address": "15.207.90.192/31"},
                    {"ip_address": "204.89.151.128/27"},
                    {"ip_address": "13.52.9.0/25"},
                ],
                "inbound_enabled": true,
                "phone_numbers": [{"phone_number": "+15550100", "name": "Sales"}],
                "an_unknown_field": {"is": "ignored"},
            }),
        )
        .await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.body["auth_username"], Value::Null);
    assert_eq!(answer.body["ip_identifiers"][1], json!({"ip_address": "204.89.151.128/27"}));
    assert_eq!(answer.body["phone_numbers"][0]["phone_number"], "+15550100");
    assert_eq!(answer.body["phone_numbers_count"], 1);
    assert!(server.table().knows_source("15.207.90.193".parse().unwrap()));
    assert!(!server.table().knows_source("15.207.90.194".parse().unwrap()));
    assert_eq!(server.table().number_count(), 1);
}

#[tokio::test]
async fn a_minimal_trunk_has_the_documented_defaults() {
    let server = Server::start().await;
    let mut body = ip_trunk("a");
    body.as_object_mut().unwrap().remove("inbound_enabled");
    body["description"] = Value::Null;
    body["port"] = Value::Null;
    let answer = server.post("/sip-trunks/trunks", body).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.body["inbound_enabled"], false);
    assert_eq!(answer.body["gateways"][0]["port"], 5060);
    assert_eq!(answer.body["gateways"][0]["priority"], 1);
}

#[tokio::test]
async fn media_encryption_false_means_no() {
    // The vendor's YAML says `no` without quotes; clients generated from it send false.
    let server = Server::start().await;
    let mut body = ip_trunk("a");
    body["media_encryption"] = json!(false);
    let answer = server.post("/sip-trunks/trunks", body).await;
    assert_eq!(answer.body["media_encryption"], "no", "{}", answer.text);
}

#[tokio::test]
async fn trunks_are_listed_newest_first_and_by_is_active() {
    let server = Server::start().await;
    let first = server.trunk("first").await;
    let second = server.trunk("second").await;
    server.number(&first, "100").await;
    server.patch(&format!("/sip-trunks/trunks/{first}"), json!({"is_active": false})).await;
    let ids = |answer: &super::client::Answer| -> Vec<String> {
        answer.body.as_array().unwrap().iter().map(|trunk| trunk["id"].as_str().unwrap().to_owned()).collect()
    };
    let all = server.get("/sip-trunks/trunks").await;
    assert_eq!(ids(&all), [second.clone(), first.clone()]);
    assert_eq!(all.body[1]["phone_numbers_count"], 1);
    assert_eq!(all.body[1]["phone_numbers"][0]["phone_number"], "100");
    for (query, expected) in [("true", &second), ("1", &second), ("False", &first), ("0", &first)] {
        let some = server.get(&format!("/sip-trunks/trunks?is_active={query}")).await;
        assert_eq!(ids(&some), std::slice::from_ref(expected), "{query}");
    }
    server.get("/sip-trunks/trunks?is_active=perhaps").await.at("is_active", &["perhaps", "true or false"]);
}

#[tokio::test]
async fn a_number_is_added_listed_and_removed_as_documented() {
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let path = format!("/sip-trunks/trunks/{trunk}/numbers");
    let answer =
        server.post(&path, json!({"phone_number": "919876543210", "name": "Mumbai Support Line"})).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let id = answer.body["id"].as_str().unwrap().to_owned();
    let expected = json!({
        "id": id, "phone_number": "919876543210", "name": "Mumbai Support Line", "user_id": "acme",
        "byot_trunk_id": trunk, "telephony_provider": "sip-trunk", "agent_id": null, "is_active": true,
        "e164_check_enabled": false, "deleted": false,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&answer.body[name], value, "{name}");
    }
    assert_eq!(server.table().number_count(), 1);
    assert_eq!(server.get(&path).await.body, json!([answer.body]));

    let removed = server.delete(&format!("{path}/{id}")).await;
    assert_eq!(removed.status, 200);
    assert_eq!(removed.body, json!({"message": "Phone number removed successfully"}));
    assert_eq!(server.get(&path).await.body, json!([]));
    assert_eq!(server.table().number_count(), 0);
    server.delete(&format!("{path}/{id}")).await.refuses(404, "Phone number not found");
}

#[tokio::test]
async fn mapping_a_number_makes_the_agent_answer_it_and_unlinking_takes_it_back() {
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let number = server.number(&trunk, "+919876543210").await;
    let agent = server.agent().await;
    let answer = server
        .post(
            "/inbound/setup",
            json!({"agent_id": agent, "phone_number_id": number, "allow_multiple": false, "ivr_config": {}}),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(
        answer.body,
        json!({
            "message": "SIP trunk number successfully mapped to agent",
            "url": format!("http://127.0.0.1:8080/inbound_call?agent_id={agent}&user_id=acme"),
            "phone_number": "+919876543210",
            "id": number,
        })
    );
    let listed = server.get(&format!("/sip-trunks/trunks/{trunk}/numbers")).await;
    assert_eq!(listed.body[0]["agent_id"], json!(agent));
    // "The agent's audio format is automatically updated to ulaw."
    let shown = server.get(&format!("/v2/agent/{agent}")).await.body;
    assert_eq!(shown["agent_config"]["telephony_provider"], "sip-trunk");
    let tools = &shown["agent_config"]["tasks"][0]["tools_config"];
    assert_eq!((&tools["input"]["format"], &tools["output"]["format"]), (&json!("ulaw"), &json!("ulaw")));

    // One number, one agent: mapping it anew is silent. The guide shows agent ids with a prefix.
    let second = server.agent().await;
    let body = json!({"agent_id": format!("agt-{second}"), "phone_number_id": number});
    assert_eq!(server.post("/inbound/setup", body).await.status, 200);
    let listed = server.get(&format!("/sip-trunks/trunks/{trunk}/numbers")).await;
    assert_eq!(listed.body[0]["agent_id"], json!(second));

    let body = json!({"agent_id": "whatever", "phone_number_id": number});
    let unlinked = server.post("/inbound/unlink", body).await;
    assert_eq!(unlinked.status, 200, "{}", unlinked.text);
    assert_eq!(unlinked.body, json!({"url": null, "phone_number": "+919876543210", "id": number}));
    let listed = server.get(&format!("/sip-trunks/trunks/{trunk}/numbers")).await;
    assert_eq!(listed.body[0]["agent_id"], Value::Null);
}

#[tokio::test]
async fn deleting_a_trunk_says_how_many_numbers_went_with_it() {
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let agent = server.agent().await;
    for number in ["100", "200", "300"] {
        let id = server.number(&trunk, number).await;
        server.post("/inbound/setup", json!({"agent_id": agent, "phone_number_id": id})).await;
    }
    let answer = server.delete(&format!("/sip-trunks/trunks/{trunk}")).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body, json!({"message": "Trunk deleted successfully. 3 phone number(s) removed."}));
    assert_eq!((server.table().trunks().count(), server.table().number_count()), (0, 0));
    server.get(&format!("/sip-trunks/trunks/{trunk}")).await.refuses(404, "Trunk not found");
    server.get(&format!("/sip-trunks/trunks/{trunk}/numbers")).await.refuses(404, "Trunk not found");
    server.delete(&format!("/sip-trunks/trunks/{trunk}")).await.refuses(404, "Trunk not found");
    // Its numbers are free at once.
    let again = server.trunk("a").await;
    server.number(&again, "+100").await;
}

#[tokio::test]
async fn a_patch_changes_what_it_names_and_replaces_lists_whole() {
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let path = format!("/sip-trunks/trunks/{trunk}");
    let answer = server
        .patch(
            &path,
            json!({
                "outbound_leading_plus_enabled": false,
                "gateways": [
                    {"gateway_address": "second.example", "priority": 2},
                    {"gateway_address": "sip:first.example:5080", "priority": 1},
                ],
                "ip_identifiers": [{"ip_address": "198.51.100.7"}],
                "qualify_frequency": 30, "allow": "ulaw", "direct_media": false, "rtp_symmetric": false,
                "force_rport": false, "ice_support": false, "description": "changed",
                "provider": "plivo", "auth_type": "ip-based",
            }),
        )
        .await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body["name"], "a");
    assert_eq!(answer.body["gateways"][0]["gateway_address"], "first.example");
    assert_eq!(answer.body["gateways"][0]["port"], 5080);
    assert_eq!(answer.body["ip_identifiers"], json!([{"ip_address": "198.51.100.7"}]));
    for (name, value) in [
        ("outbound_leading_plus_enabled", json!(false)),
        ("qualify_frequency", json!(30)),
        ("allow", json!("ulaw")),
        ("rtp_symmetric", json!(false)),
        ("force_rport", json!(false)),
        ("ice_support", json!(false)),
        ("description", json!("changed")),
        ("inbound_enabled", json!(true)),
    ] {
        assert_eq!(answer.body[name], value, "{name}");
    }
    assert_eq!(server.get(&path).await.body, answer.body);
    assert!(!server.table().knows_source("203.0.113.1".parse().unwrap()));
    assert!(server.table().knows_source("198.51.100.7".parse().unwrap()));

    server.patch(&path, json!({"gateways": []})).await.refuses(400, "At least one gateway is required");
    let empty = server.patch(&path, json!({"ip_identifiers": []})).await;
    empty.refuses(400, "ip_identifiers are required for ip-based auth");
    server.patch(&path, json!({"provider": "other"})).await.at("provider", &["cannot be changed"]);
    server.patch(&path, json!({"auth_type": "userpass"})).await.at("auth_type", &["cannot be changed"]);
    server.patch(&path, json!({"name": ""})).await.refuses(400, "Trunk name is required");
    assert_eq!(server.get(&path).await.body, answer.body);
    server.patch("/sip-trunks/trunks/unknown", json!({})).await.refuses(404, "Trunk not found");
}

#[tokio::test]
async fn the_rule_on_encryption_looks_at_the_merged_trunk() {
    const TEXT: &str = "media_encryption='sdes' requires transport='transport-tls'";
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let path = format!("/sip-trunks/trunks/{trunk}");
    server.patch(&path, json!({"media_encryption": "sdes"})).await.refuses(422, TEXT);
    let both = json!({"media_encryption": "sdes", "transport": "transport-tls"});
    assert_eq!(server.patch(&path, both).await.status, 200);
    server.patch(&path, json!({"transport": "transport-udp"})).await.refuses(422, TEXT);
    assert_eq!(server.patch(&path, json!({"media_encryption_optimistic": true})).await.status, 200);
}

#[tokio::test]
async fn keys_stay_within_tls_whichever_endpoint_changes_the_trunk() {
    const TEXT: &str = "media_encryption='sdes' requires transport='transport-tls'";
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let legacy = format!("/sip-trunks/trunks/{trunk}");
    let newer = format!("/trunk/trunks/{trunk}");
    let outbound = format!("/v1/trunks/{trunk}/outbound");
    let both = json!({"media_encryption": "sdes", "transport": "transport-tls"});
    assert_eq!(server.patch(&legacy, both).await.status, 200);
    for word in ["udp", "tcp"] {
        let refused = server.patch(&newer, json!({"transport": word})).await;
        refused.refuses(422, TEXT).at("transport", &["in the clear", "media_encryption to \"no\""]);
    }
    assert_eq!(server.patch(&newer, json!({"description": "the rest may change"})).await.status, 200);
    let refused = server.patch(&outbound, json!({"transport_by_dns": true})).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    // And the other way round: DNS first, keys afterwards.
    assert_eq!(server.patch(&legacy, json!({"media_encryption": "no"})).await.status, 200);
    assert_eq!(server.patch(&outbound, json!({"transport_by_dns": true})).await.status, 200);
    let refused = server.patch(&legacy, json!({"media_encryption": "sdes"})).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    refused.at("media_encryption", &["transport_by_dns", "/outbound"]);
    assert_eq!(server.patch(&outbound, json!({"transport_by_dns": false})).await.status, 200);
    assert_eq!(server.patch(&legacy, json!({"media_encryption": "sdes"})).await.status, 200);
}

#[tokio::test]
async fn a_password_alone_may_be_changed_and_is_never_shown() {
    let server = Server::start().await;
    let mut body = ip_trunk("a");
    body["auth_type"] = json!("userpass");
    body["auth_username"] = json!("alice");
    body["auth_password"] = json!("open sesame");
    let trunk = server.post("/sip-trunks/trunks", body).await.body["id"].as_str().unwrap().to_owned();
    let path = format!("/sip-trunks/trunks/{trunk}");
    let answer = server.patch(&path, json!({"auth_password": "close sesame"})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert!(!answer.text.contains("sesame"));
    let stored = server.store.trunk("acme", &trunk).await.unwrap();
    assert_eq!(stored.settings.auth_password.unwrap().reveal(), "close sesame");
    assert_eq!(stored.settings.auth_username.as_deref(), Some("alice"));
}

#[tokio::test]
async fn an_agent_is_kept_as_it_was_sent_its_header_values_masked() {
    let server = Server::start().await;
    let mut body = agent();
    body["something_new"] = json!({"nested": [1, 2.5, "x", null]});
    let answer = server.post("/v2/agent", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    let id = answer.body["agent_id"].as_str().unwrap().to_owned();
    assert_eq!(answer.body, json!({"agent_id": id, "status": "created", "state": "created"}));
    let shown = server.get(&format!("/v2/agent/{id}")).await;
    assert!(!shown.text.contains("hush-hush"), "{}", shown.text);
    assert_eq!(shown.body["id"], json!(id));
    assert_eq!(shown.body["agent_name"], "Support");
    assert_eq!(shown.body["something_new"], json!({"nested": [1, 2.5, "x", null]}));
    assert_eq!(shown.body["agent_prompts"]["task_1"]["system_prompt"], "Be kind.");
    assert_eq!(shown.body["websocket"]["url"], "wss://agent.example/ws/{execution_id}");
    assert_eq!(shown.body["websocket"]["headers"]["Authorization"], "********");
    let bare = id.replace('-', "");
    assert_eq!(server.get(&format!("/v2/agent/{bare}")).await.body, shown.body);
    let all = server.get("/v2/agent/all").await;
    assert_eq!(all.body, json!([shown.body]));
    server.get("/v2/agent/unknown").await.refuses(404, "Agent not found");

    // What was shown may be sent back: the masked value stays what it was.
    let mut back = shown.body.clone();
    back["agent_config"]["agent_name"] = json!("Sales");
    let put = server.put(&format!("/v2/agent/{id}"), back).await;
    assert_eq!(put.body, json!({"agent_id": id, "status": "updated", "state": "updated"}), "{}", put.text);
    let stored = server.store.agent("acme", &id).await.unwrap();
    assert_eq!(stored.name, "Sales");
    assert_eq!(stored.headers["Authorization"].reveal(), "Bearer hush-hush");

    let patch = json!({"agent_config": {"agent_name": "Third"}, "websocket": {"dialect": "twilio"}});
    let patched = server.patch(&format!("/v2/agent/{id}"), patch).await;
    assert_eq!(patched.body, json!({"message": "success", "state": "updated"}), "{}", patched.text);
    let shown = server.get(&format!("/v2/agent/{id}")).await.body;
    assert_eq!((&shown["agent_name"], &shown["websocket"]["dialect"]), (&json!("Third"), &json!("twilio")));
    assert_eq!(shown["agent_config"]["telephony_provider"], "plivo");

    let deleted = server.delete(&format!("/v2/agent/{id}")).await;
    assert_eq!(deleted.body, json!({"message": "success", "state": "deleted"}));
    server.delete(&format!("/v2/agent/{id}")).await.refuses(404, "Agent not found");
}

#[tokio::test]
async fn what_the_api_took_for_an_agents_socket_is_what_calls_use() {
    let server = Server::start().await;
    server.agent().await;
    let stored = server.store.page_of_agents("").await.unwrap().remove(0);
    let socket = tandem_server::routing::agent(stored).socket.unwrap();
    assert_eq!(socket.url, "wss://agent.example/ws/{execution_id}");
    assert_eq!(socket.headers, [("Authorization".to_owned(), "Bearer hush-hush".to_owned())]);
    assert_eq!(socket.parameters, [("k".to_owned(), "v".to_owned())]);
    let mut dialect = tandem_agent::DialectConfig::new(tandem_agent::DialectKind::Asterisk);
    dialect.frame_ms = Some(20);
    assert_eq!(socket.dialect, dialect);
    assert_eq!((&socket.subprotocol, &socket.fallback_url), (&None, &None));
}

#[tokio::test]
async fn without_a_valid_key_every_endpoint_answers_403_and_asks_for_one() {
    let server = Server::start().await;
    let endpoints = [
        ("POST", "/sip-trunks/trunks"),
        ("GET", "/sip-trunks/trunks"),
        ("GET", "/sip-trunks/trunks/x"),
        ("PATCH", "/sip-trunks/trunks/x"),
        ("DELETE", "/sip-trunks/trunks/x"),
        ("POST", "/sip-trunks/trunks/x/numbers"),
        ("GET", "/sip-trunks/trunks/x/numbers"),
        ("DELETE", "/sip-trunks/trunks/x/numbers/y"),
        ("POST", "/inbound/setup"),
        ("POST", "/inbound/unlink"),
        ("POST", "/v2/agent"),
        ("GET", "/v2/agent/all"),
        ("GET", "/v2/agent/x"),
        ("PUT", "/v2/agent/x"),
        ("PATCH", "/v2/agent/x"),
        ("DELETE", "/v2/agent/x"),
        ("GET", "/v2/agent/x/executions"),
        ("GET", "/executions/x"),
        ("GET", "/v1/calls"),
        ("GET", "/v1/calls/x"),
        ("POST", "/v1/calls/x/hangup"),
        ("GET", "/v1/calls/x/ladder"),
        ("GET", "/v1/verdicts"),
    ];
    for (method, path) in endpoints {
        for key in ["", "bn-unknown", &"x".repeat(5_000)] {
            let answer = server.send(server.request(method, path, key), Some(json!({}))).await;
            answer.refuses(403, "Unrecognized access token");
            assert_eq!(answer.headers["www-authenticate"], "Bearer", "{method} {path}");
        }
    }
    let basic = server.request("GET", "/v1/calls", "").header("Authorization", "Basic dGFuZGVt");
    server.send(basic, None).await.refuses(403, "Unrecognized access token").at("Authorization", &["Bearer"]);
}

#[tokio::test]
async fn the_status_for_a_missing_key_and_for_a_duplicate_number_can_be_the_documents_other_one() {
    let server = Server::with(|config| {
        config.api.auth_failure_status = 401;
        config.api.duplicate_number_status = 422;
    })
    .await;
    let answer = server.send(server.request("GET", "/v1/calls", "nope"), None).await;
    answer.refuses(401, "Unrecognized access token");
    let (first, second) = (server.trunk("a").await, server.trunk("b").await);
    server.number(&first, "100").await;
    let path = format!("/sip-trunks/trunks/{second}/numbers");
    let answer = server.post(&path, json!({"phone_number": "+100"})).await;
    answer.refuses(422, "Phone number already exists on another active trunk");
}

#[tokio::test]
async fn the_environments_key_opens_the_account_default() {
    let server = Server::start().await;
    let request = server.request("POST", "/sip-trunks/trunks", ENVIRONMENT_KEY);
    let answer = server.send(request, Some(ip_trunk("a"))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.body["user_id"], "default");
    assert_eq!(server.get("/sip-trunks/trunks").await.body, json!([]));
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/calls").await.status, 200);
    server.store.revoke_key(None, &server.key[..11]).await.unwrap();
    server.get("/v1/calls").await.refuses(403, "Unrecognized access token");
}

#[tokio::test]
async fn a_key_does_what_its_scopes_allow() {
    let server = Server::start().await;
    let (_, key) = server.store.create_key("acme", &["trunks:read".to_owned()]).await.unwrap();
    let read = server.send(server.request("GET", "/sip-trunks/trunks", key.reveal()), None).await;
    assert_eq!(read.status, 200);
    let write =
        server.send(server.request("POST", "/sip-trunks/trunks", key.reveal()), Some(ip_trunk("a"))).await;
    write.refuses(403, "This key lacks the scope trunks:write").at("Authorization", &["trunks:read"]);
    let (_, key) = server.store.create_key("acme", &["trunks:write".to_owned()]).await.unwrap();
    let read = server.send(server.request("GET", "/sip-trunks/trunks", key.reveal()), None).await;
    assert_eq!(read.status, 200);
}

#[tokio::test]
async fn what_belongs_to_another_account_looks_like_what_does_not_exist() {
    let server = Server::start().await;
    let trunk = server.trunk("a").await;
    let number = server.number(&trunk, "100").await;
    let agent = server.agent().await;
    let agent_body = agent_with_name();
    let pairs: &[(&str, String, String, Option<Value>)] = &[
        ("GET", format!("/sip-trunks/trunks/{trunk}"), "/sip-trunks/trunks/x".to_owned(), None),
        ("PATCH", format!("/sip-trunks/trunks/{trunk}"), "/sip-trunks/trunks/x".to_owned(), Some(json!({}))),
        ("DELETE", format!("/sip-trunks/trunks/{trunk}"), "/sip-trunks/trunks/x".to_owned(), None),
        (
            "GET",
            format!("/sip-trunks/trunks/{trunk}/numbers"),
            "/sip-trunks/trunks/x/numbers".to_owned(),
            None,
        ),
        (
            "POST",
            format!("/sip-trunks/trunks/{trunk}/numbers"),
            "/sip-trunks/trunks/x/numbers".to_owned(),
            Some(json!({"phone_number": "5"})),
        ),
        (
            "DELETE",
            format!("/sip-trunks/trunks/{trunk}/numbers/{number}"),
            "/sip-trunks/trunks/x/numbers/y".to_owned(),
            None,
        ),
        ("GET", format!("/v2/agent/{agent}"), "/v2/agent/x".to_owned(), None),
        ("PUT", format!("/v2/agent/{agent}"), "/v2/agent/x".to_owned(), Some(agent_body.clone())),
        ("PATCH", format!("/v2/agent/{agent}"), "/v2/agent/x".to_owned(), Some(json!({}))),
        ("DELETE", format!("/v2/agent/{agent}"), "/v2/agent/x".to_owned(), None),
        ("GET", format!("/v2/agent/{agent}/executions"), "/v2/agent/x/executions".to_owned(), None),
    ];
    for (method, theirs, unknown, body) in pairs {
        let theirs = server.send(server.request(method, theirs, &server.other_key), body.clone()).await;
        let unknown = server.send(server.request(method, unknown, &server.other_key), body.clone()).await;
        assert_eq!(theirs.status, 404, "{method} {}", theirs.text);
        assert_eq!(theirs.text, unknown.text);
    }
    let body = |agent: &str, number: &str| Some(json!({"agent_id": agent, "phone_number_id": number}));
    for path in ["/inbound/setup", "/inbound/unlink"] {
        let theirs =
            server.send(server.request("POST", path, &server.other_key), body(&agent, &number)).await;
        theirs.refuses(404, "Phone number doesn't exist.");
    }
    assert_eq!(server.table().number_count(), 1);
}

#[tokio::test]
async fn many_clients_at_once_leave_routing_equal_to_the_store() {
    let server = Server::start().await;
    let trunk = server.trunk("shared").await;
    let client = |place: usize| {
        let (server, trunk) = (&server, trunk.clone());
        async move {
            for round in 0..4 {
                let number = server.number(&trunk, &format!("{place}{round}00")).await;
                assert!(server.table().number_count() > 0);
                if round % 2 == 0 {
                    let path = format!("/sip-trunks/trunks/{trunk}/numbers/{number}");
                    assert_eq!(server.delete(&path).await.status, 200);
                }
            }
        }
    };
    let clients: Vec<_> = (1..=8).map(client).collect();
    join_all(clients).await;
    assert_eq!(server.store.numbers("acme").await.unwrap().len(), 16);
    assert_eq!(server.table().number_count(), 16);
}

#[tokio::test]
async fn health_is_open_and_ready_follows_the_node() {
    use tandem_server::api::Phase;
    let server = Server::start().await;
    let open = |path: &str| server.send(server.request("GET", path, ""), None);
    assert_eq!(open("/health").await.body["status"], "ok");
    assert_eq!(open("/ready").await.status, 200);
    server.readiness.set(Phase::Draining);
    let draining = open("/ready").await;
    assert_eq!((draining.status.as_u16(), &draining.body["checks"]["calls"]), (503, &json!("draining")));
    server.readiness.set(Phase::Starting);
    assert_eq!(open("/ready").await.body["checks"]["calls"], "starting");
    let metrics = open("/metrics").await;
    assert!(metrics.headers["content-type"].to_str().unwrap().starts_with("text/plain"));
    assert_eq!(metrics.text, "tandem_calls 0\n");
}

#[tokio::test]
async fn metrics_ask_for_their_token_when_there_is_one() {
    let server = Server::with(|config| config.telemetry.metrics_token = Some("scrape".to_owned())).await;
    let without = server.send(server.request("GET", "/metrics", ""), None).await;
    without.refuses(401, "The metrics ask for a token");
    let wrong = server.send(server.request("GET", "/metrics", "scrap"), None).await;
    assert_eq!(wrong.status, 401);
    let right = server.send(server.request("GET", "/metrics", "scrape"), None).await;
    assert_eq!(right.status, 200);
}

fn is_zulu(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    text.len() == 20 && text.ends_with('Z') && text.as_bytes()[10] == b'T'
}

fn agent_with_name() -> Value {
    json!({"agent_config": {"agent_name": "x"}})
}

async fn join_all<F: Future<Output = ()>>(futures: Vec<F>) {
    let mut futures: Vec<_> = futures.into_iter().map(Box::pin).collect();
    std::future::poll_fn(move |context| {
        futures.retain_mut(|future| future.as_mut().poll(context).is_pending());
        if futures.is_empty() { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}
