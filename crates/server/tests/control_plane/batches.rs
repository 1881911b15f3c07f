//! Batches of calls: a file of contacts, uploaded as clients upload files, scheduled, placed through the queue, stopped.

use axum::body::Body;
use axum::http::header;
use serde_json::{Value, json};
use tandem_call::CallStatus;
use tandem_server::dialling::Dialling;
use tandem_server::store::now_ms;

use super::base::{Base, sealer};
use super::client::{Answer, Server};
use super::outbound::{House, Script};

const CONTACTS: &str = "contact_number,customer_name,plan\n+919876500001,Amitesh,Pro\nnobody,Riya,Starter\n\
                        918765400002,\"Rao, K.\",Starter\n";

/// A form as curl writes it; the file is called `leads.csv`.
fn form(fields: &[(&str, &str)], file: Option<&str>) -> (String, String) {
    form_parted_by("------------------------d74496d66958873e", fields, file)
}

fn form_parted_by(boundary: &str, fields: &[(&str, &str)], file: Option<&str>) -> (String, String) {
    let mut body = String::new();
    for (name, value) in fields {
        body +=
            &format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n");
    }
    if let Some(file) = file {
        body += &format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"leads.csv\"\r\n\
             Content-Type: text/csv\r\n\r\n{file}\r\n"
        );
    }
    body += &format!("--{boundary}--\r\n");
    (format!("multipart/form-data; boundary={boundary}"), body)
}

async fn upload(server: &Server, path: &str, key: &str, (kind, body): (String, String)) -> Answer {
    let request = server.request("POST", path, key).header(header::CONTENT_TYPE, kind);
    server.raw(request.body(Body::from(body)).unwrap()).await
}

async fn create(house: &House, more: &[(&str, &str)]) -> String {
    let fields = [&[("agent_id", house.agent.as_str())][..], more].concat();
    let server = &house.server;
    let answer = upload(server, "/batches", &server.key, form(&fields, Some(CONTACTS))).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.body["state"], "created");
    let id = answer.body["batch_id"].as_str().unwrap().to_owned();
    assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    id
}

async fn schedule(house: &House, batch: &str, at: &str) {
    let path = format!("/batches/{batch}/schedule");
    let asked = form(&[("scheduled_at", at), ("bypass_call_guardrails", "false")], None);
    let answer = upload(&house.server, &path, &house.server.key, asked).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(answer.body, json!({"message": "success", "state": "scheduled"}));
}

async fn shown(house: &House, batch: &str) -> Value {
    let answer = house.server.get(&format!("/batches/{batch}")).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

#[tokio::test]
async fn a_batch_is_made_scheduled_placed_and_counted() {
    let house = House::new().await;
    let (first, second) = ("+919876543210", "+919876543211");
    house.server.number(&house.trunk, second).await;
    let from = [("from_phone_numbers", first), ("from_phone_numbers", second)];
    let batch = create(&house, &from).await;
    let made = shown(&house, &batch).await;
    for (name, value) in [
        ("batch_id", json!(batch)),
        ("status", json!("created")),
        ("humanized_created_at", json!("just now")),
        ("scheduled_at", Value::Null),
        ("from_phone_number", json!(first)),
        ("from_phone_numbers", json!([first, second])),
        ("file_name", json!("leads.csv")),
        ("valid_contacts", json!(2)),
        ("total_contacts", json!(3)),
        ("execution_status", json!({})),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    schedule(&house, &batch, "2099-01-01T10:00:00+05:30").await;
    let waiting = shown(&house, &batch).await;
    assert_eq!(waiting["status"], "scheduled");
    assert_eq!(waiting["scheduled_at"], "2099-01-01T04:30:00Z");
    assert_eq!(waiting["execution_status"], json!({"scheduled": 2}));
    assert_eq!(house.work_off().await, 0, "its time has not come");

    let script = Script::of(&[CallStatus::Completed, CallStatus::Busy]);
    let then = 4_070_908_800_000 + 4_500_000 * 4;
    assert_eq!(house.work_off_with(&script, then).await, 2);
    let placed = script.placed();
    let dialled: Vec<(&str, &str, Value)> = placed
        .iter()
        .map(|call| {
            let facts = Value::Object(call.order.user_data.clone());
            (call.order.recipient.as_str(), call.record.from.as_str(), facts)
        })
        .collect();
    assert_eq!(
        dialled,
        [
            ("+919876500001", "919876543210", json!({"customer_name": "Amitesh", "plan": "Pro"})),
            ("918765400002", second, json!({"customer_name": "Rao, K.", "plan": "Starter"})),
        ]
    );
    let over = shown(&house, &batch).await;
    assert_eq!(over["execution_status"], json!({"completed": 1, "busy": 1}));
    let executions = house.server.get(&format!("/batches/{batch}/executions")).await.body;
    let executions = executions.as_array().unwrap();
    assert_eq!(executions.len(), 2);
    for execution in executions {
        assert_eq!(execution["batch_id"], batch);
        assert_eq!(execution["batch_run_details"]["status"], execution["status"]);
        assert_eq!(execution["batch_run_details"]["retried"], 0);
    }
    let page = format!("/v2/agent/{}/executions?batch_id={batch}", house.agent);
    assert_eq!(house.server.get(&page).await.body["total"], 2);
}

#[tokio::test]
async fn a_time_that_has_passed_means_at_once_and_the_batch_ends_as_executed() {
    let house = House::new().await;
    let batch = create(&house, &[]).await;
    schedule(&house, &batch, "2024-06-05T04:10:00+05:30").await;
    let waiting = shown(&house, &batch).await;
    assert_eq!((&waiting["status"], &waiting["execution_status"]), (&json!("queued"), &json!({"queued": 2})));
    assert_eq!(house.work_off().await, 2);
    assert_eq!(shown(&house, &batch).await["status"], "executed");
    let again = format!("/batches/{batch}/schedule");
    let again = house.server.post(&again, json!({"scheduled_at": "2099-01-01T10:00:00Z"})).await;
    again.refuses(409, "Batch is executed already");
    let stop = house.server.post(&format!("/batches/{batch}/stop"), json!({})).await;
    stop.refuses(404, "Batch is not queued or running");
}

#[tokio::test]
async fn a_stopped_batch_calls_nobody_any_more_and_tries_nobody_again() {
    let house = House::new().await;
    let retry = "{\"enabled\": true, \"max_retries\": 2, \"retry_intervals_minutes\": [15]}";
    let batch = create(&house, &[("retry_config", retry)]).await;
    schedule(&house, &batch, "2024-06-05T04:10:00Z").await;
    // One call is out when the batch is stopped, and ends busy afterwards.
    let taken = house.server.store.take_due("n1", now_ms(), 1).await.unwrap().remove(0);
    let stop = house.server.post(&format!("/batches/{batch}/stop"), json!({})).await;
    assert_eq!(stop.body, json!({"message": "success", "state": "stopped"}));
    let mut record = taken.record;
    record.status = CallStatus::Busy;
    house.server.store.settle_call(record, taken.order.unwrap()).await.unwrap();
    let over = shown(&house, &batch).await;
    assert_eq!(over["status"], "stopped");
    assert_eq!(over["execution_status"], json!({"busy": 1, "stopped": 1}));
    assert_eq!(house.work_off().await, 0);
    // Without the stop it would have been tried again.
    let other = create(&house, &[("retry_config", retry)]).await;
    schedule(&house, &other, "2024-06-05T04:10:00Z").await;
    house.work_off_with(&Script::of(&[CallStatus::Busy, CallStatus::Completed]), now_ms()).await;
    let status = shown(&house, &other).await;
    assert_eq!(status["execution_status"], json!({"completed": 1, "rescheduled": 1}));
    assert_eq!(status["status"], "queued");
    assert_eq!(house.server.delete(&format!("/batches/{other}")).await.body["state"], "deleted");
    assert_eq!(house.work_off_with(&Script::of(&[]), now_ms() + 3_600_000).await, 0);
    house.server.get(&format!("/batches/{other}")).await.refuses(404, "Batch not found");
}

#[tokio::test]
async fn an_agents_batches_are_listed_newest_first_and_go_with_it() {
    let house = House::new().await;
    let first = create(&house, &[]).await;
    tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    let second = create(&house, &[]).await;
    let path = format!("/batches/{}/all", house.agent);
    let list = house.server.get(&path).await;
    let ids: Vec<&Value> = list.body.as_array().unwrap().iter().map(|batch| &batch["batch_id"]).collect();
    assert_eq!(ids, [&second, &first]);
    let page = house.server.get(&format!("{path}?limit=1")).await;
    let next = page.headers["x-next-cursor"].to_str().unwrap().to_owned();
    let rest = house.server.get(&format!("{path}?limit=1&cursor={next}")).await;
    assert_eq!(rest.body[0]["batch_id"], first);
    let dashed =
        format!("{}-{}-{}-{}-{}", &first[..8], &first[8..12], &first[12..16], &first[16..20], &first[20..]);
    assert_eq!(shown(&house, &dashed).await["batch_id"], first, "with dashes too");
    house.server.delete(&format!("/v2/agent/{}", house.agent)).await;
    house.server.get(&format!("/batches/{first}")).await.refuses(404, "Batch not found");
}

#[tokio::test]
async fn bad_forms_are_told_by_field_and_foreign_agents_are_nobodys() {
    let house = House::new().await;
    let (server, agent) = (&house.server, house.agent.as_str());
    let key = server.key.clone();
    let send = |form| upload(server, "/batches", &key, form);
    send(form(&[], Some(CONTACTS))).await.refuses(400, "agent_id is required");
    send(form(&[("agent_id", agent)], None)).await.refuses(400, "file is required");
    send(form(&[("agent_id", agent)], Some("number\n1")))
        .await
        .refuses(400, "contact_number column is required")
        .at("file", &["[\"number\"]", "contact_number"]);
    send(form(&[("agent_id", agent)], Some("contact_number\nx\n")))
        .await
        .refuses(400, "No valid contacts found");
    send(form(&[("agent_id", "nobody")], Some(CONTACTS))).await.refuses(404, "Agent not found");
    let foreign =
        upload(server, "/batches", &server.other_key, form(&[("agent_id", agent)], Some(CONTACTS))).await;
    foreign.refuses(404, "Agent not found");
    let broken = ("multipart/form-data; boundary=X".to_owned(), "--Y\r\n".to_owned());
    assert_eq!(send(broken).await.status, 400);
    let unbounded = ("multipart/form-data".to_owned(), String::new());
    send(unbounded).await.refuses(400, "The form has no boundary");
    server.post("/batches", json!({"agent_id": agent})).await.refuses(415, "The body must be a form");
    let batch = create(&house, &[]).await;
    let path = format!("/batches/{batch}/schedule");
    server.post(&path, json!({})).await.refuses(400, "scheduled_at is required");
    server.post(&path, json!({"scheduled_at": "2099-01-01T10:00:00"})).await.at("scheduled_at", &["offset"]);
    let wrong = json!({"scheduled_at": "2099-01-01T10:00:00Z", "bypass_call_guardrails": "maybe"});
    server.post(&path, wrong).await.at("bypass_call_guardrails", &["true or false"]);
}

#[tokio::test]
async fn a_file_that_is_too_long_is_refused_and_a_full_queue_takes_no_batch() {
    let server = Server::with(|config| {
        config.limits.api_upload_bytes = 4_096;
        config.limits.queued_calls = 1;
    })
    .await;
    let house = House::of(server).await;
    let long = "x".repeat(5_000);
    let too_long = form(&[("agent_id", house.agent.as_str())], Some(&long));
    let answer = upload(&house.server, "/batches", &house.server.key, too_long).await;
    answer.refuses(413, "The body is larger than 4096 bytes");
    let batch = create(&house, &[]).await;
    let path = format!("/batches/{batch}/schedule");
    let answer = house.server.post(&path, json!({"scheduled_at": "2099-01-01T10:00:00Z"})).await;
    answer.refuses(429, "Too many calls are waiting");
    assert_eq!(shown(&house, &batch).await["status"], "created", "all of a batch waits, or none");
}

#[tokio::test]
async fn a_repeated_upload_with_its_key_makes_one_batch() {
    let house = House::new().await;
    let send = async |boundary: &str, file: &str| {
        let (kind, body) = form_parted_by(boundary, &[("agent_id", house.agent.as_str())], Some(file));
        let request = house.server.request("POST", "/batches", &house.server.key);
        let request = request.header("idempotency-key", "one").header(header::CONTENT_TYPE, kind);
        house.server.raw(request.body(Body::from(body)).unwrap()).await
    };
    let first = send("one", CONTACTS).await;
    assert_eq!(first.status, 201, "{}", first.text);
    // Clients part a form by another boundary each time: what it says is the same.
    for boundary in ["one", "two"] {
        assert_eq!(send(boundary, CONTACTS).await.text, first.text, "{boundary}");
    }
    let other = send("one", &CONTACTS.replace("Amitesh", "Amit")).await;
    other.refuses(422, "This Idempotency-Key was used for another request");
    let list = house.server.get(&format!("/batches/{}/all", house.agent)).await;
    assert_eq!(list.body.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_batch_moves_with_its_account_and_waits_to_be_scheduled_again() {
    let house = House::new().await;
    let batch = create(&house, &[]).await;
    schedule(&house, &batch, "2099-01-01T10:00:00Z").await;
    let done = create(&house, &[]).await;
    schedule(&house, &done, "2024-01-01T10:00:00Z").await;
    house.work_off().await;
    let export = house.server.store.export_account("acme", Some(&sealer('e'))).await.unwrap();
    let elsewhere = Base::sqlite();
    let there = elsewhere.open().await;
    there.import_account("acme", export, Some(&sealer('e'))).await.unwrap();
    let now = now_ms();
    assert_eq!(there.batch("acme", &batch).await.unwrap().status(now).as_str(), "created");
    assert_eq!(there.batch("acme", &done).await.unwrap().status(now).as_str(), "executed");
    there.schedule_batch("acme", &batch, now, false, 10).await.unwrap();
    let queued = Dialling::new(there.clone(), "n1", Script::of(&[])).work_off(now_ms()).await.unwrap();
    assert_eq!(queued, 2);
}
