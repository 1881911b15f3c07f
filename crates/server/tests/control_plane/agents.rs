//! Agents beyond making and showing them: the older paths, the guide's path, the rules of their calls, formats.

use serde_json::{Value, json};
use tandem_call::{AgentRules, CallerSource, CallingHours};

use super::client::{Server, agent};

#[tokio::test]
async fn the_older_paths_and_the_guides_do_what_the_newer_ones_do() {
    let server = Server::start().await;
    let made = server.post("/agent", agent()).await;
    assert_eq!((made.status.as_u16(), &made.body["status"]), (200, &json!("created")), "{}", made.text);
    let id = made.body["agent_id"].as_str().unwrap();
    assert_eq!(
        server.get(&format!("/agent/{id}")).await.body,
        server.get(&format!("/v2/agent/{id}")).await.body
    );
    assert_eq!(server.get("/agent/all").await.body, server.get("/v2/agent/all").await.body);
    let done = json!({"message": "success", "state": "updated"});
    let change = json!({"agent_config": {"agent_welcome_message": "Hi"}});
    assert_eq!(server.patch(&format!("/agent/{id}"), change.clone()).await.body, done);
    let guide = json!({"agent_config": {"telephony_provider": "sip-trunk"}});
    assert_eq!(server.patch(&format!("/{id}"), guide.clone()).await.body, done);
    assert_eq!(server.patch(&format!("/agt-{id}"), guide.clone()).await.body, done);
    let shown = server.get(&format!("/v2/agent/{id}")).await.body;
    assert_eq!(
        (&shown["telephony_provider"], &shown["agent_welcome_message"]),
        (&json!("sip-trunk"), &json!("Hi"))
    );
    let format = &shown["tasks"][0]["tools_config"];
    assert_eq!(format["input"], json!({"provider": "sip-trunk", "format": "ulaw"}));
    assert_eq!(format["output"], json!({"provider": "sip-trunk", "format": "ulaw"}));
    assert_eq!(server.put(&format!("/agent/{id}"), agent()).await.body["status"], "updated");
    assert_eq!(server.delete(&format!("/agent/{id}")).await.body["state"], "deleted");
    server.patch(&format!("/{id}"), guide.clone()).await.refuses(404, "Agent not found");
    // Whatever else is sent to a path of one segment finds nothing, as before.
    server.patch("/nothing", guide).await.refuses(404, "There is no PATCH /nothing");
    server.get("/nothing").await.refuses(404, "There is no GET /nothing");
    server.get(&format!("/{id}")).await.refuses(404, &format!("There is no GET /{id}"));
}

#[tokio::test]
async fn the_rules_of_an_agents_calls_reach_the_call_plane() {
    let server = Server::start().await;
    let trunk = server.trunk("first").await;
    let number = server.number(&trunk, "919876543210").await;
    let mut body = agent();
    body["agent_config"]["calling_guardrails"] = json!({"call_start_hour": 9, "call_end_hour": 17});
    body["agent_config"]["tasks"][0]["task_config"] = json!({"inbound_limit": 3, "call_terminate": 90,
        "whitelist_phone_numbers": ["+49 30 100"], "disallow_unknown_numbers": true, "hangup_after_silence": 10,
        "some_other": {"kept": true}});
    body["agent_config"]["ingest_source_config"] = json!({"source_type": "api",
        "source_url": "https://crm.example/customers", "source_auth_token": "abc123"});
    let id = server.post("/v2/agent", body.clone()).await.body["agent_id"].as_str().unwrap().to_owned();
    server.post("/inbound/setup", json!({"agent_id": id, "phone_number_id": number})).await;
    let rules = AgentRules {
        inbound_limit: Some(3),
        whitelist: ["4930100".to_owned()].into(),
        disallow_unknown: true,
        calling_hours: Some(CallingHours { start: 9, end: 17 }),
        max_duration: Some(std::time::Duration::from_secs(90)),
        recording: None,
        silence: Some(std::time::Duration::from_secs(10)),
        caller_source: Some(CallerSource::Api {
            url: "https://crm.example/customers".to_owned(),
            token: "abc123".to_owned(),
        }),
    };
    assert_eq!(server.table().agent(&id.as_str().into()).unwrap().rules, rules);
    let shown = server.get(&format!("/v2/agent/{id}")).await.body;
    assert_eq!(shown["tasks"][0]["task_config"]["some_other"], json!({"kept": true}));
}

#[tokio::test]
async fn rules_of_the_wrong_kind_are_told_field_by_field() {
    let server = Server::start().await;
    let task = |rules: Value| json!({"tasks": [{"task_config": rules}]});
    for (config, location, parts) in [
        (
            json!({"telephony_provider": "sip"}),
            "agent_config.telephony_provider",
            vec!["\"sip\"", "\"sip-trunk\""],
        ),
        (json!({"telephony_provider": 1}), "agent_config.telephony_provider", vec!["the number 1"]),
        (json!({"calling_guardrails": 9}), "agent_config.calling_guardrails", vec!["an object"]),
        (
            json!({"calling_guardrails": {"call_start_hour": 9}}),
            "agent_config.calling_guardrails.call_end_hour",
            vec!["give both hours"],
        ),
        (
            json!({"calling_guardrails": {"call_start_hour": 9, "call_end_hour": 24}}),
            "agent_config.calling_guardrails.call_end_hour",
            vec!["0 to 23"],
        ),
        (json!({"tasks": {}}), "agent_config.tasks", vec!["a list"]),
        (json!({"tasks": ["x"]}), "agent_config.tasks[0]", vec!["an object"]),
        (task(json!([])), "agent_config.tasks[0].task_config", vec!["an object"]),
        (
            task(json!({"inbound_limit": "3"})),
            "agent_config.tasks[0].task_config.inbound_limit",
            vec!["without quotes"],
        ),
        (
            task(json!({"inbound_limit": -2})),
            "agent_config.tasks[0].task_config.inbound_limit",
            vec!["from -1"],
        ),
        (
            task(json!({"call_terminate": 1.5})),
            "agent_config.tasks[0].task_config.call_terminate",
            vec!["whole number"],
        ),
        (
            task(json!({"disallow_unknown_numbers": "no"})),
            "agent_config.tasks[0].task_config.disallow_unknown_numbers",
            vec!["true or false"],
        ),
        (
            task(json!({"whitelist_phone_numbers": "+1"})),
            "agent_config.tasks[0].task_config.whitelist_phone_numbers",
            vec!["a list"],
        ),
        (
            task(json!({"whitelist_phone_numbers": ["+1", ""]})),
            "agent_config.tasks[0].task_config.whitelist_phone_numbers[1]",
            vec!["give a number"],
        ),
        (
            task(json!({"hangup_after_silence": -1})),
            "agent_config.tasks[0].task_config.hangup_after_silence",
            vec!["from 0"],
        ),
    ] {
        let mut body = agent();
        body["agent_config"].as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
        let answer = server.post("/v2/agent", body).await;
        assert_eq!(answer.status, 400, "{config}: {}", answer.text);
        answer.at(location, &parts);
    }
    let mut body = agent();
    body["agent_config"]["calling_guardrails"] = json!({"call_start_hour": 17, "call_end_hour": 9});
    let answer = server.post("/v2/agent", body).await;
    let answer = answer.refuses(422, "call_end_hour must not be before call_start_hour");
    answer.at("agent_config.calling_guardrails.call_end_hour", &["not before call_start_hour", "17"]);
}

#[tokio::test]
async fn a_source_of_callers_is_checked_and_its_token_kept_apart() {
    let server = Server::start().await;
    let with = |source: Value| {
        let mut body = agent();
        body["agent_config"]["ingest_source_config"] = source;
        body
    };
    for (source, field, part) in [
        (json!({}), "source_type", "is missing"),
        (json!({"source_type": "sql"}), "source_type", "\"api\""),
        (json!({"source_type": "api", "source_auth_token": "t"}), "source_url", "needs source_url"),
        (
            json!({"source_type": "api", "source_url": "https://a/"}),
            "source_auth_token",
            "needs source_auth_token",
        ),
        (
            json!({"source_type": "api", "source_url": "a/", "source_auth_token": "t"}),
            "source_url",
            "will not do",
        ),
        (json!({"source_type": "csv"}), "source_name", "needs source_name"),
        (json!({"source_type": "google_sheet", "source_name": "x"}), "source_url", "needs source_url"),
        (
            json!({"source_type": "api", "source_url": "https://a/", "source_auth_token": "********"}),
            "source_auth_token",
            "none is stored",
        ),
    ] {
        let answer = server.post("/v2/agent", with(source)).await;
        assert!(answer.status.is_client_error(), "{}", answer.text);
        answer.at(&format!("agent_config.ingest_source_config.{field}"), &[part]);
    }
    let source =
        json!({"source_type": "api", "source_url": "https://a/", "source_auth_token": "hush-hush-token"});
    let made = server.post("/v2/agent", with(source)).await;
    let id = made.body["agent_id"].as_str().unwrap().to_owned();
    let path = format!("/v2/agent/{id}");
    let masked = json!({"source_type": "api", "source_url": "https://b/", "source_auth_token": "********"});
    let patch = json!({"agent_config": {"ingest_source_config": masked}});
    assert_eq!(server.patch(&path, patch).await.status, 200);
    let shown = server.get(&path).await;
    assert_eq!(shown.body["ingest_source_config"], masked, "shown as it was sent");
    let kept = server.store.agent("acme", &id).await.unwrap().source_token.unwrap();
    assert_eq!(kept.reveal(), "hush-hush-token");
    let audit = server.get("/v1/audit").await;
    assert!(!audit.text.contains("hush-hush"), "{}", audit.text);
    let csv =
        json!({"agent_config": {"ingest_source_config": {"source_type": "csv", "source_name": "a.csv"}}});
    assert_eq!(server.patch(&path, csv).await.status, 200);
    assert_eq!(server.store.agent("acme", &id).await.unwrap().source_token, None);
}
