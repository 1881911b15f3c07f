//! Outbound calls as the API takes them: the queue, what becomes of a call whose time has come, stopping, retries,
//! the balance.

use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tandem_call::{CallStatus, HangupBy, HangupReason};
use tandem_server::api::CallCommand;
use tandem_server::dialling::{Dialling, DueCall, PlaceCall, Placed};
use tandem_server::store::{Store, now_ms};

use super::client::{Server, agent};

/// A dialler that ends each call as it is told, and remembers what it was given.
#[derive(Clone)]
pub(super) struct Script {
    ends: Arc<Mutex<Vec<CallStatus>>>,
    placed: Arc<Mutex<Vec<DueCall>>>,
}

impl Script {
    pub(super) fn of(ends: &[CallStatus]) -> Self {
        let mut ends = ends.to_vec();
        ends.reverse();
        Self { ends: Arc::new(Mutex::new(ends)), placed: Arc::default() }
    }

    /// What it was given, in order.
    pub(super) fn placed(&self) -> Vec<DueCall> {
        self.placed.lock().unwrap().clone()
    }
}

impl PlaceCall for Script {
    async fn place(&self, call: DueCall) -> Placed {
        let status = self.ends.lock().unwrap().pop().unwrap_or(CallStatus::Completed);
        let mut record = call.record.clone();
        self.placed.lock().unwrap().push(call);
        record.status = status;
        record.ended_unix_ms = Some(record.started_unix_ms + 61_000);
        if status == CallStatus::Completed {
            record.answered_unix_ms = Some(record.started_unix_ms + 1_000);
        }
        record.hangup_by = Some(HangupBy::Callee);
        record.hangup_reason = Some(HangupReason::EndedNormally);
        Placed::Over(Box::new(record))
    }
}

/// A carrier that takes no call.
#[derive(Clone, Copy)]
struct Unreachable;

impl PlaceCall for Unreachable {
    async fn place(&self, call: DueCall) -> Placed {
        let mut record = call.record;
        record.status = CallStatus::Failed;
        record.ended_unix_ms = Some(record.started_unix_ms + 1_000);
        record.hangup_by = Some(HangupBy::Error);
        record.hangup_reason = Some(HangupReason::NetworkError);
        record.error_message = Some("no gateway of the trunk took the call".to_owned());
        Placed::Over(Box::new(record))
    }
}

/// A carrier whose channels are all in use.
#[derive(Clone, Copy)]
struct Full;

impl PlaceCall for Full {
    async fn place(&self, _: DueCall) -> Placed {
        Placed::NoRoom { why: "10 of 10 concurrent calls in use".to_owned(), retry_after: None }
    }
}

/// A server with a number on a trunk, and an agent.
pub(super) struct House {
    pub(super) server: Server,
    pub(super) agent: String,
    pub(super) trunk: String,
}

const NUMBER: &str = "919876543210";

impl House {
    pub(super) async fn new() -> Self {
        Self::of(Server::start().await).await
    }

    pub(super) async fn of(server: Server) -> Self {
        let trunk = server.trunk("first").await;
        server.number(&trunk, NUMBER).await;
        let agent = server.agent().await;
        Self { server, agent, trunk }
    }

    async fn call(&self, more: Value) -> String {
        let mut body = json!({"agent_id": self.agent, "recipient_phone_number": "+918800001234"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = self.server.post("/call", body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.body["message"], "done");
        answer.body["execution_id"].as_str().unwrap().to_owned()
    }

    async fn execution(&self, id: &str) -> Value {
        let answer = self.server.get(&format!("/executions/{id}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body
    }

    /// Everything that is due now is placed, and nobody takes it.
    pub(super) async fn work_off(&self) -> usize {
        Dialling::new(self.server.store.clone(), "n1", Unreachable).work_off(now_ms()).await.unwrap()
    }

    pub(super) async fn work_off_with(&self, script: &Script, at: i64) -> usize {
        Dialling::new(self.server.store.clone(), "n1", script.clone()).work_off(at).await.unwrap()
    }
}

#[tokio::test]
async fn a_call_is_queued_and_fails_with_a_text_that_says_why() {
    let house = House::new().await;
    let id =
        house.call(json!({"from_phone_number": "+919876543210", "user_data": {"name": "Ada", "n": 1}})).await;
    let waiting = house.execution(&id).await;
    assert_eq!((&waiting["status"], &waiting["initiated_at"]), (&json!("queued"), &Value::Null));
    assert_eq!(waiting["telephony_data"]["call_type"], "outbound");
    assert_eq!(waiting["context_details"]["recipient_data"], json!({"name": "Ada", "n": 1}));
    assert_eq!(house.work_off().await, 1);
    let over = house.execution(&id).await;
    assert_eq!(over["status"], "failed");
    assert!(over["error_message"].as_str().unwrap().contains("no gateway of the trunk"), "{over}");
    assert_eq!(over["telephony_data"]["trunk_id"], house.trunk);
    assert_eq!(over["telephony_data"]["from_number"], NUMBER);
    assert_eq!((&over["user_number"], &over["agent_number"]), (&json!("+918800001234"), &json!(NUMBER)));
    assert_eq!(over["telephony_data"]["hangup_by"], "Error");
    assert_eq!(house.work_off().await, 0, "a call is placed once");
    let log = house.server.get(&format!("/executions/{id}/log")).await.body;
    assert_eq!(log["status"], "success");
    let texts: Vec<&str> =
        log["data"].as_array().unwrap().iter().map(|e| e["data"].as_str().unwrap()).collect();
    assert_eq!(texts[0], "queued by the API");
    assert!(texts.iter().any(|text| text.contains("taken off the queue by the node n1")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains(&format!("by the trunk {}", house.trunk))), "{texts:?}");
    assert!(texts.iter().any(|text| text.starts_with("ended as failed")), "{texts:?}");
}

#[tokio::test]
async fn the_guides_own_request_is_taken() {
    let house = House::new().await;
    let answer = house.server.post(
        "/call",
        json!({
            "agent_id": format!("agt-{}", house.agent),
            "recipient": {"phone_number": "+918800001234", "name": "Rahul Sharma"},
            "from_number": "+919876543210",
        }),
    );
    let answer = answer.await;
    assert_eq!((answer.status.as_u16(), &answer.body["status"]), (200, &json!("queued")), "{}", answer.text);
    house.work_off().await;
    let over = house.execution(answer.body["execution_id"].as_str().unwrap()).await;
    assert_eq!(over["context_details"]["recipient_data"]["name"], "Rahul Sharma");
    assert_eq!(over["telephony_data"]["trunk_id"], house.trunk);
}

#[tokio::test]
async fn what_keeps_a_call_from_being_placed_is_told_by_its_execution() {
    let house = House::new().await;
    for (more, reason, part) in [
        (
            json!({"from_phone_number": "+1555"}),
            "Call recipient number invalid",
            "\"+1555\" is no active number",
        ),
        (
            json!({"recipient_phone_number": "0800 1"}),
            "Invalid phone number format",
            "Invalid phone number format",
        ),
        (json!({"recipient_phone_number": "alice"}), "Invalid phone number format", "give it in E.164"),
    ] {
        let id = house.call(more.clone()).await;
        house.work_off().await;
        let over = house.execution(&id).await;
        assert_eq!(
            (&over["status"], &over["telephony_data"]["hangup_reason"]),
            (&json!("failed"), &json!(reason))
        );
        assert!(over["error_message"].as_str().unwrap().contains(part), "{more}: {over}");
    }
    // The trunk is switched off: its number is none to call from.
    let path = format!("/sip-trunks/trunks/{}", house.trunk);
    assert_eq!(house.server.patch(&path, json!({"is_active": false})).await.status, 200);
    let id = house.call(json!({})).await;
    house.work_off().await;
    let over = house.execution(&id).await;
    assert!(
        over["error_message"].as_str().unwrap().contains("no active number on an active trunk"),
        "{over}"
    );
}

#[tokio::test]
async fn a_call_without_a_number_to_call_from_goes_out_by_a_trunk_that_places_calls() {
    let house = House::new().await;
    let server = &house.server;
    // The agent's own number is on a trunk for calls from the carrier alone.
    let numbers = server.get(&format!("/sip-trunks/trunks/{}/numbers", house.trunk)).await;
    let mapping = json!({"agent_id": house.agent, "phone_number_id": numbers.body[0]["id"]});
    assert_eq!(server.post("/inbound/setup", mapping).await.status, 200);
    let path = format!("/sip-trunks/trunks/{}", house.trunk);
    assert_eq!(server.patch(&path, json!({"outbound_enabled": false})).await.status, 200);
    let id = house.call(json!({})).await;
    house.work_off().await;
    let over = house.execution(&id).await;
    let why = over["error_message"].as_str().unwrap();
    assert!(why.contains("no active number on an active trunk that places calls"), "{over}");
    let second = server.trunk("second").await;
    server.number(&second, "+918047119999").await;
    for (more, trunk) in [
        (json!({}), &second),
        // Asked for by name, it is tried, and the trunk says why not.
        (json!({"from_phone_number": NUMBER}), &house.trunk),
    ] {
        let id = house.call(more.clone()).await;
        house.work_off().await;
        assert_eq!(house.execution(&id).await["telephony_data"]["trunk_id"], json!(trunk), "{more}");
    }
}

#[tokio::test]
async fn the_number_of_another_account_is_as_good_as_none() {
    let house = House::new().await;
    let other =
        house.server.send(house.server.request("POST", "/v2/agent", &house.server.other_key), Some(agent()));
    let other = other.await.body["agent_id"].as_str().unwrap().to_owned();
    let body =
        json!({"agent_id": other, "recipient_phone_number": "+918800001234", "from_phone_number": NUMBER});
    let request = house.server.request("POST", "/call", &house.server.other_key);
    let queued = house.server.send(request, Some(body.clone())).await;
    assert_eq!(queued.status, 200, "{}", queued.text);
    house.work_off().await;
    let path = format!("/executions/{}", queued.body["execution_id"].as_str().unwrap());
    let request = house.server.request("GET", &path, &house.server.other_key);
    let over = house.server.send(request, None).await.body;
    assert!(over["error_message"].as_str().unwrap().contains("is no active number"), "{over}");
    // And its agent, and its execution, are unknown to us.
    house.server.post("/call", body).await.refuses(404, "Agent not found");
    house.server.get(&path).await.refuses(404, "Execution not found");
    house.server.get(&format!("{path}/log")).await.refuses(404, "Execution not found");
    let stop = format!("/call/{}/stop", queued.body["execution_id"].as_str().unwrap());
    house.server.post(&stop, json!({})).await.refuses(404, "Execution not found");
}

#[tokio::test]
async fn a_scheduled_call_waits_for_its_time_and_can_be_stopped() {
    let house = House::new().await;
    let at = "2099-01-01T10:00:00+05:30";
    let answer = house.server.post(
        "/call",
        json!({
        "agent_id": house.agent, "recipient_phone_number": "+918800001234", "scheduled_at": at}),
    );
    let answer = answer.await;
    assert_eq!(answer.body["status"], "scheduled");
    let id = answer.body["execution_id"].as_str().unwrap();
    assert_eq!(house.work_off().await, 0);
    // A restart of the node leaves it as it is.
    assert_eq!(house.server.store.start_node("n1").await.unwrap(), 0);
    let waiting = house.execution(id).await;
    assert_eq!(
        (&waiting["status"], &waiting["scheduled_at"]),
        (&json!("scheduled"), &json!("2099-01-01T04:30:00.000000"))
    );
    let stop = format!("/call/{id}/stop");
    let stopped = house.server.post(&stop, json!({})).await;
    assert_eq!(stopped.body, json!({"message": "done", "status": "stopped", "execution_id": id}));
    assert_eq!(house.execution(id).await["status"], "stopped");
    let again = house.server.post(&stop, json!({})).await;
    again.refuses(400, "Call cannot be stopped").at("execution_id", &["it is stopped already"]);
    let far = now_ms() + 100 * 365 * 86_400_000;
    assert_eq!(house.work_off_with(&Script::of(&[]), far).await, 0, "a stopped call is never placed");
    let body = json!({"agent_id": house.agent, "recipient_phone_number": "+1", "scheduled_at": "2020-01-01T00:00:00Z"});
    let late = house.server.post("/call", body).await;
    late.refuses(400, "Scheduled time should be atleast 2 minutes in the future")
        .at("scheduled_at", &["2020-01-01"]);
}

#[tokio::test]
async fn a_due_call_is_taken_by_one_node_alone() {
    let house = House::new().await;
    for _ in 0..20 {
        house.call(json!({})).await;
    }
    let scripts = [Script::of(&[]), Script::of(&[])];
    let work = |name: &'static str, script: &Script| {
        let dialling = Dialling::new(house.server.store.clone(), name, script.clone());
        async move { dialling.work_off(now_ms()).await.unwrap() }
    };
    let (one, two) = tokio::join!(work("n1", &scripts[0]), work("n2", &scripts[1]));
    assert_eq!(one + two, 20);
    let mut placed: Vec<String> = scripts
        .iter()
        .flat_map(|script| {
            script.placed.lock().unwrap().iter().map(|call| call.record.id.to_string()).collect::<Vec<_>>()
        })
        .collect();
    placed.sort();
    placed.dedup();
    assert_eq!(placed.len(), 20);
}

#[tokio::test]
async fn a_call_is_tried_again_as_its_rules_say_and_each_attempt_is_remembered() {
    let house = House::new().await;
    let id = house
        .call(json!({"retry_config": {"enabled": true, "max_retries": 2, "retry_on_statuses": ["busy", "no-answer"],
            "retry_intervals_minutes": [10, 20]}}))
        .await;
    let script = Script::of(&[CallStatus::Busy, CallStatus::NoAnswer, CallStatus::Busy]);
    let start = now_ms();
    assert_eq!(house.work_off_with(&script, start).await, 1);
    let waiting = house.execution(&id).await;
    assert_eq!((&waiting["status"], &waiting["retry_count"]), (&json!("rescheduled"), &json!(1)));
    assert_eq!(waiting["retry_history"][0]["status"], "busy");
    assert!(waiting["rescheduled_at"].is_string());
    assert_eq!(house.work_off_with(&script, start + 9 * 60_000).await, 0, "not before its time");
    assert_eq!(house.work_off_with(&script, now_ms() + 10 * 60_000).await, 1);
    assert_eq!(house.work_off_with(&script, now_ms() + 20 * 60_000).await, 1);
    let over = house.execution(&id).await;
    assert_eq!(
        (&over["status"], &over["retry_count"]),
        (&json!("busy"), &json!(2)),
        "two retries are the most"
    );
    let statuses: Vec<&Value> =
        over["retry_history"].as_array().unwrap().iter().map(|e| &e["status"]).collect();
    assert_eq!(statuses, [&json!("busy"), &json!("no-answer")]);
    assert_eq!(house.work_off_with(&script, now_ms() + 100 * 60_000).await, 0);
}

#[tokio::test]
async fn a_call_that_was_being_placed_when_the_node_was_killed_says_so_or_is_tried_again() {
    let house = House::new().await;
    let plain = house.call(json!({})).await;
    let retried =
        house.call(json!({"retry_config": {"enabled": true, "retry_on_statuses": ["error"]}})).await;
    assert_eq!(house.server.store.take_due("n1", now_ms(), 10).await.unwrap().len(), 2);
    assert_eq!(house.execution(&plain).await["status"], "initiated");
    assert_eq!(house.server.store.start_node("n1").await.unwrap(), 2);
    let over = house.execution(&plain).await;
    assert_eq!(over["status"], "error");
    assert!(over["error_message"].as_str().unwrap().contains("the node n1 stopped"));
    assert_eq!(house.execution(&retried).await["status"], "rescheduled");
}

#[tokio::test]
async fn an_agents_waiting_calls_are_stopped_together() {
    let house = House::new().await;
    let mut ids =
        vec![house.call(json!({})).await, house.call(json!({"scheduled_at": "2099-01-01T00:00:00Z"})).await];
    let over = house.call(json!({})).await;
    house.server.post(&format!("/call/{over}/stop"), json!({})).await;
    let path = format!("/v2/agent/{}/stop", house.agent);
    let stopped = house.server.post(&path, json!({})).await;
    assert_eq!(stopped.status, 200, "{}", stopped.text);
    let mut told: Vec<String> = serde_json::from_value(stopped.body["stopped_executions"].clone()).unwrap();
    told.sort();
    ids.sort();
    assert_eq!(told, ids);
    let none = house.server.post(&path, json!({})).await;
    assert_eq!(none.body, json!({"stopped_executions": []}));
    let other = house
        .server
        .send(house.server.request("POST", &path, &house.server.other_key), Some(json!({})))
        .await;
    other.refuses(404, "Agent not found");
}

#[tokio::test]
async fn a_live_call_is_hung_up_by_the_same_request() {
    let mut house = House::new().await;
    let id = house.call(json!({})).await;
    let mut up = house.server.store.take_due("n1", now_ms(), 1).await.unwrap().remove(0).record;
    up.status = CallStatus::InProgress;
    house.server.journal.progress(up.clone());
    let stopped = house.server.post(&format!("/call/{id}/stop"), json!({})).await;
    assert_eq!(stopped.body["status"], "stopped", "{}", stopped.text);
    assert_eq!(house.server.commands.recv().await, Some(CallCommand::HangUp(up.id)));
}

#[tokio::test]
async fn calls_outside_the_agents_hours_are_put_off_unless_told_otherwise() {
    let house = House::new().await;
    let path = format!("/v2/agent/{}", house.agent);
    // India's clocks stand at 15:30 when UTC's stand at 10:00.
    let at = time_ms("2030-06-03T10:00:00Z");
    let hours = json!({"agent_config": {"calling_guardrails": {"call_start_hour": 9, "call_end_hour": 12}}});
    assert_eq!(house.server.patch(&path, hours).await.status, 200);
    let id = house.call(json!({})).await;
    let urgent = house.call(json!({"bypass_call_guardrails": true})).await;
    let script = Script::of(&[]);
    house.work_off_with(&script, at).await;
    assert_eq!(house.execution(&urgent).await["status"], "completed");
    let waiting = house.execution(&id).await;
    assert_eq!((&waiting["status"], &waiting["retry_count"]), (&json!("rescheduled"), &json!(0)));
    assert_eq!(waiting["rescheduled_at"], "2030-06-04T03:30:00.000000", "9:00 in India");
    let log = house.server.get(&format!("/executions/{id}/log")).await.text;
    assert!(log.contains("calling_guardrails allow calls from 9:00 to 12:00"), "{log}");
    assert_eq!(house.work_off_with(&script, time_ms("2030-06-04T03:30:00Z")).await, 1);
    assert_eq!(house.execution(&id).await["status"], "completed");
}

fn time_ms(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_millisecond()
}

#[tokio::test]
async fn a_balance_is_charged_by_the_time_and_used_up_it_keeps_calls_from_being_placed() {
    let house = House::new().await;
    let store: Store = house.server.store.clone().charging(600);
    assert_eq!(store.balance("acme").await.unwrap(), None, "no balance is no bound");
    store.set_balance("acme", Some(900)).await.unwrap();
    let work = |script: Script| {
        let dialling = Dialling::new(store.clone(), "n1", script);
        async move { dialling.work_off(now_ms()).await.unwrap() }
    };
    let first = house.call(json!({})).await;
    work(Script::of(&[])).await;
    // One minute of 600 thousandths of a cent.
    let over = house.execution(&first).await;
    assert_eq!((&over["total_cost"], &over["cost_breakdown"]["network"]), (&json!(0.6), &json!(0.6)));
    assert_eq!(over["conversation_duration"], 60.0);
    assert_eq!(store.balance("acme").await.unwrap(), Some(300));
    let second = house.call(json!({})).await;
    work(Script::of(&[])).await;
    assert_eq!(house.execution(&second).await["status"], "completed", "a call that has begun is not cut off");
    assert_eq!(store.balance("acme").await.unwrap(), Some(-300));
    // Routing has heard of it, and inbound calls are refused too.
    let changed = house.server.patch(&format!("/v2/agent/{}", house.agent), json!({})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert!(house.server.table().is_exhausted(&"acme".into()));
    assert!(!house.server.table().is_exhausted(&"other".into()));
    let third = house.call(json!({})).await;
    work(Script::of(&[])).await;
    let over = house.execution(&third).await;
    assert_eq!(over["status"], "balance-low");
    assert!(over["error_message"].as_str().unwrap().contains("balance is used up"));
    // Writing the record of a call again charges it no second time.
    let stored = store.execution("acme", &first).await.unwrap();
    store.write_records([&stored.record]).await.unwrap();
    assert_eq!(store.balance("acme").await.unwrap(), Some(-300));
    store.set_balance("acme", None).await.unwrap();
    assert!(!store.is_exhausted("acme").await.unwrap());
}

#[tokio::test]
async fn the_queue_of_an_account_is_bounded() {
    let server = Server::with(|config| config.limits.queued_calls = 2).await;
    let agent = server.agent().await;
    let body = json!({"agent_id": agent, "recipient_phone_number": "+918800001234"});
    for _ in 0..2 {
        assert_eq!(server.post("/call", body.clone()).await.status, 200);
    }
    let full = server.post("/call", body).await;
    full.refuses(429, "Too many calls are waiting").at("limits.queued_calls", &["2 calls", "at most 2"]);
    assert!(full.headers.contains_key("retry-after"));
}

#[tokio::test]
async fn a_bad_body_is_told_field_by_field() {
    let house = House::new().await;
    let server = &house.server;
    server
        .post("/call", json!({}))
        .await
        .refuses(400, "agent_id is required")
        .at("recipient_phone_number", &["missing"]);
    server
        .post("/call", json!({"agent_id": house.agent}))
        .await
        .refuses(400, "recipient_phone_number is required");
    for (more, location, parts) in [
        (json!({"agent_id": 5}), "agent_id", vec!["the number 5", "text in quotes"]),
        (
            json!({"recipient_phone_number": 918800001234_i64}),
            "recipient_phone_number",
            vec!["text in quotes"],
        ),
        (json!({"recipient_phone_number": "+1\u{7}"}), "recipient_phone_number", vec!["U+0007"]),
        (json!({"recipient": "+1"}), "recipient", vec!["give an object"]),
        (json!({"from_phone_number": ["+1"]}), "from_phone_number", vec!["a list"]),
        (json!({"scheduled_at": "soon"}), "scheduled_at", vec!["\"soon\"", "ISO 8601"]),
        (json!({"scheduled_at": 5}), "scheduled_at", vec!["text in quotes"]),
        (json!({"user_data": []}), "user_data", vec!["a list", "an object"]),
        (json!({"agent_data": {"voice_id": 3}}), "agent_data.voice_id", vec!["text in quotes"]),
        (json!({"retry_config": {"enabled": "yes"}}), "retry_config.enabled", vec!["true or false"]),
        (
            json!({"retry_config": {"retry_on_statuses": ["buzy"]}}),
            "retry_config.retry_on_statuses[0]",
            vec!["\"busy\""],
        ),
        (json!({"bypass_call_guardrails": 1}), "bypass_call_guardrails", vec!["true or false"]),
    ] {
        let mut body = json!({"agent_id": house.agent, "recipient_phone_number": "+918800001234"});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let answer = server.post("/call", body).await;
        assert_eq!(answer.status, 400, "{more}: {}", answer.text);
        answer.at(location, &parts);
    }
}

#[tokio::test]
async fn executions_are_filtered_by_everything_the_vendor_filters_by() {
    let house = House::new().await;
    let failed = house.call(json!({})).await;
    house.work_off().await;
    let waiting = house.call(json!({"scheduled_at": "2099-01-01T00:00:00Z"})).await;
    let path = format!("/v2/agent/{}/executions", house.agent);
    for (query, ids) in [
        ("", vec![&waiting, &failed]),
        ("status=failed", vec![&failed]),
        ("status=scheduled", vec![&waiting]),
        ("status=completed", vec![]),
        ("call_type=outbound", vec![&waiting, &failed]),
        ("call_type=inbound", vec![]),
        ("provider=sip-trunk", vec![&waiting, &failed]),
        ("provider=twilio", vec![]),
        ("answered_by_voice_mail=true", vec![]),
        ("answered_by_voice_mail=false", vec![&waiting, &failed]),
        ("batch_id=0123456789abcdef0123456789abcdef", vec![]),
        ("from=2020-01-01T00:00:00Z&to=2098-01-01T00:00:00%2B05:30", vec![&waiting, &failed]),
        ("from=2098-01-01T00:00:00Z", vec![]),
        ("to=2020-01-01T00:00:00.000Z", vec![]),
        ("page_size=1", vec![&waiting]),
        ("page_size=1&page_number=2", vec![&failed]),
    ] {
        let page = house.server.get(&format!("{path}?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.text);
        let found: Vec<&str> =
            page.body["data"].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids, "{query}");
    }
    for (query, location, parts) in [
        ("status=done", "status", ["\"done\"", "\"completed\""]),
        ("call_type=up", "call_type", ["\"up\"", "\"inbound\""]),
        ("from=yesterday", "from", ["\"yesterday\"", "ISO 8601"]),
        ("page_size=51", "page_size", ["\"51\"", "1 to 50"]),
        ("answered_by_voice_mail=maybe", "answered_by_voice_mail", ["\"maybe\"", "true or false"]),
    ] {
        let answer = house.server.get(&format!("{path}?{query}")).await;
        assert_eq!(answer.status, 400, "{query}: {}", answer.text);
        answer.at(location, &parts);
    }
    let list = house.server.get(&format!("/agent/{}/executions", house.agent)).await.body;
    assert_eq!(list.as_array().unwrap().len(), 2);
    let one = house.server.get(&format!("/agent/{}/execution/{failed}", house.agent)).await.body;
    assert_eq!(one["id"], *failed);
    let elsewhere = house.server.agent().await;
    house
        .server
        .get(&format!("/agent/{elsewhere}/execution/{failed}"))
        .await
        .refuses(404, "Execution not found");
    let recording = house.server.get(&format!("/recordings/call/{failed}")).await;
    recording
        .refuses(404, "Recording not found")
        .at("execution_id", &["was not recorded", "POST /v1/calls/{call_id}/recording"]);
    house.server.get(&format!("/recordings/transfer/{failed}")).await.refuses(404, "Recording not found");
    house.server.get("/recordings/call/nothing").await.refuses(404, "Execution not found");
}

#[tokio::test]
async fn a_call_that_there_is_no_room_for_waits_as_queued_says_why_once_and_can_be_stopped() {
    let house = House::new().await;
    let id = house.call(json!({})).await;
    let dialling = Dialling::new(house.server.store.clone(), "n1", Full);
    let start = now_ms();
    for round in 0..5 {
        assert_eq!(dialling.work_off(start + round * 60_000).await.unwrap(), 1, "round {round}");
        let waiting = house.execution(&id).await;
        assert_eq!(
            (&waiting["status"], &waiting["rescheduled_at"]),
            (&json!("queued"), &Value::Null),
            "{waiting}"
        );
    }
    let log = house.server.get(&format!("/executions/{id}/log")).await.body;
    let texts: Vec<&str> =
        log["data"].as_array().unwrap().iter().map(|entry| entry["data"].as_str().unwrap()).collect();
    let waits: Vec<&&str> = texts.iter().filter(|text| text.starts_with("waits for room")).collect();
    assert_eq!(waits, [&"waits for room: 10 of 10 concurrent calls in use"], "{texts:?}");
    assert!(texts.len() < 6, "{texts:?}");
    let stopped = house.server.post(&format!("/call/{id}/stop"), json!({})).await;
    assert_eq!(
        (stopped.status.as_u16(), &stopped.body["status"]),
        (200, &json!("stopped")),
        "{}",
        stopped.text
    );
    assert_eq!(dialling.work_off(start + 600_000).await.unwrap(), 0, "a stopped call is not tried again");
}

#[tokio::test]
async fn calls_that_come_later_queue_behind_those_that_wait() {
    let house = House::new().await;
    let full = Dialling::new(house.server.store.clone(), "n1", Full);
    let first = house.call(json!({})).await;
    let start = now_ms();
    assert_eq!(full.work_off(start).await.unwrap(), 1);
    let second = house.call(json!({})).await;
    full.work_off(now_ms()).await.unwrap();
    let script = Script::of(&[]);
    house.work_off_with(&script, start + 60_000).await;
    let order: Vec<String> =
        script.placed.lock().unwrap().iter().map(|call| call.record.id.to_string()).collect();
    assert_eq!(order, [first, second]);
}
