//! What calls leave behind, read through the API: executions while the call is up and afterwards, live calls,
//! hang-up, verdicts; each account its own.

use serde_json::{Value, json};
use tandem_call::{
    CallDirection, CallId, CallRecord, CallStatus, HangupBy, HangupReason, MediaSummary, Verdict, VerdictCode,
};
use tandem_server::api::CallCommand;
use uuid::Uuid;

use super::client::Server;

pub(super) fn call(account: &str, agent: &str) -> CallRecord {
    CallRecord {
        id: CallId(Uuid::new_v4()),
        account: account.into(),
        trunk: "t".into(),
        number: "n".into(),
        agent: agent.into(),
        node: "n1".to_owned(),
        direction: CallDirection::Inbound,
        from: "+4930100".to_owned(),
        to: "919876543210".to_owned(),
        started_unix_ms: 1_769_606_270_116,
        ringing_unix_ms: Some(1_769_606_271_116),
        answered_unix_ms: Some(1_769_606_273_116),
        ended_unix_ms: None,
        status: CallStatus::InProgress,
        hangup_by: None,
        hangup_reason: None,
        sip_status: None,
        q850: None,
        sip_reason: None,
        gateways: Vec::new(),
        transfers: Vec::new(),
        error_message: None,
        sip_call_id: "abc@carrier".to_owned(),
        caller_facts: Vec::new(),
        media: MediaSummary::default(),
        incidents: Default::default(),
    }
}

fn ended(mut call: CallRecord) -> CallRecord {
    call.status = CallStatus::Completed;
    call.ended_unix_ms = Some(1_769_606_342_516);
    call.hangup_by = Some(HangupBy::Caller);
    call.hangup_reason = Some(HangupReason::EndedNormally);
    call.sip_status = Some(200);
    call.q850 = Some(16);
    call
}

#[tokio::test]
async fn an_execution_has_the_documented_shape() {
    let server = Server::start().await;
    let agent = server.agent().await;
    let up = call("acme", &agent);
    let path = format!("/executions/{}", up.id);
    server.get(&path).await.refuses(404, "Execution not found");
    server.journal.progress(up.clone());
    let live = server.get(&path).await;
    assert_eq!((live.status.as_u16(), &live.body["status"]), (200, &json!("in-progress")));
    assert_eq!(live.body["telephony_data"]["duration"], "0.0");
    server.journal.record(ended(up.clone()));
    server.journal.flush().await;
    let over = server.get(&path).await.body;
    for (name, value) in [
        ("id", json!(up.id)),
        ("agent_id", json!(agent)),
        ("batch_id", Value::Null),
        ("status", json!("completed")),
        ("created_at", json!("2026-01-28T13:17:50.116000")),
        ("conversation_duration", json!(69.4)),
        ("error_message", Value::Null),
        ("provider", json!("sip-trunk")),
        ("user_number", json!("+4930100")),
        ("agent_number", json!("919876543210")),
        ("deleted", json!(false)),
    ] {
        assert_eq!(over[name], value, "{name}");
    }
    for (name, value) in [
        ("duration", json!("69")),
        ("to_number", json!("919876543210")),
        ("from_number", json!("+4930100")),
        ("provider_call_id", json!("abc@carrier")),
        ("call_type", json!("inbound")),
        ("provider", json!("sip-trunk")),
        ("hangup_by", json!("Caller")),
        ("hangup_reason", json!("Call ended normally")),
        ("hangup_provider_code", json!(16)),
        ("ring_duration", json!(3)),
        ("post_dial_delay", json!(1)),
        ("hosted_telephony", json!(false)),
    ] {
        assert_eq!(over["telephony_data"][name], value, "{name}");
    }
    for name in [
        "updated_at",
        "scheduled_at",
        "initiated_at",
        "rescheduled_at",
        "total_cost",
        "smart_status",
        "answered_by_voice_mail",
        "transcript",
        "summary",
        "extracted_data",
        "agent_extraction",
        "custom_extractions",
        "cost_breakdown",
        "usage_breakdown",
        "transfer_call_data",
        "batch_run_details",
        "context_details",
        "campaign_id",
        "workflow_retries",
        "retry_config",
        "retry_count",
        "retry_history",
        "latency_data",
    ] {
        assert!(over.get(name).is_some(), "{name} is missing");
    }
    let bare = up.id.to_string().replace('-', "");
    assert_eq!(server.get(&format!("/executions/{bare}")).await.body, over);
    let other = server.send(server.request("GET", &path, &server.other_key), None).await;
    other.refuses(404, "Execution not found");
}

#[tokio::test]
async fn an_agents_executions_come_in_pages() {
    let server = Server::start().await;
    let agent = server.agent().await;
    for place in 0..5 {
        let mut one = ended(call("acme", &agent));
        one.started_unix_ms += place;
        server.journal.record(one);
    }
    server.journal.flush().await;
    let path = format!("/v2/agent/{agent}/executions");
    let page = server.get(&format!("{path}?page_number=2&page_size=2")).await.body;
    for (name, value) in [
        ("page_number", json!(2)),
        ("page", json!(2)),
        ("page_size", json!(2)),
        ("total", json!(5)),
        ("has_more", json!(true)),
    ] {
        assert_eq!(page[name], value, "{name}");
    }
    assert_eq!(page["data"].as_array().unwrap().len(), 2);
    assert_eq!(page["data"][0]["created_at"], "2026-01-28T13:17:50.118000");
    let last = server.get(&format!("{path}?page_number=3&page_size=2")).await.body;
    assert_eq!((last["has_more"].clone(), last["data"].as_array().unwrap().len()), (json!(false), 1));
    assert_eq!(server.get(&path).await.body["page_size"], 20);
    server.get(&format!("{path}?page_size=51")).await.at("page_size", &["51", "1 to 50"]);
    server.get(&format!("{path}?page_number=first")).await.at("page_number", &["first"]);
}

#[tokio::test]
async fn calls_that_are_up_are_listed_and_hung_up_by_their_account_alone() {
    let mut server = Server::start().await;
    let (first, mut second) = (call("acme", "a"), call("acme", "a"));
    second.started_unix_ms += 1;
    let theirs = call("other", "a");
    for one in [&second, &first, &theirs] {
        server.journal.progress(one.clone());
    }
    let listed = server.get("/v1/calls").await.body;
    assert_eq!(listed["total"], 2);
    assert_eq!(listed["data"][0]["id"], json!(first.id));
    assert_eq!(listed["data"][1]["id"], json!(second.id));
    let shown = server.get(&format!("/v1/calls/{}", first.id)).await.body;
    assert_eq!(
        (&shown["status"], &shown["media"]),
        (&json!("in-progress"), &json!(null)),
        "nobody answers here"
    );
    assert!(matches!(server.commands.try_recv(), Ok(CallCommand::MediaReport(_))), "its media was asked");
    server.get(&format!("/v1/calls/{}", theirs.id)).await.refuses(404, "Call not found");
    // A plus may be there or not, and clients forget to escape it.
    for (filter, fitting) in [
        ("from=4930100", 2),
        ("from=%2B4930100", 2),
        ("from=+4930100", 2),
        ("from=%2B49%2030%20100", 2),
        ("to=%2B919876543210", 2),
        ("from=4930101", 0),
        ("to=4930100", 0),
    ] {
        assert_eq!(server.get(&format!("/v1/calls?{filter}")).await.body["total"], fitting, "{filter}");
    }

    let hang_up = server.post(&format!("/v1/calls/{}/hangup", first.id), json!({})).await;
    assert_eq!((hang_up.status.as_u16(), &hang_up.body["message"]), (202, &json!("done")));
    assert_eq!(server.commands.try_recv().unwrap(), CallCommand::HangUp(first.id));
    let path = format!("/v1/calls/{}/hangup", theirs.id);
    server.post(&path, json!({})).await.refuses(404, "Call not found");
    server.journal.record(ended(first.clone()));
    let path = format!("/v1/calls/{}/hangup", first.id);
    server.post(&path, json!({})).await.refuses(404, "Call not found").at("call_id", &["/executions"]);
    assert!(server.commands.try_recv().is_err());
}

#[tokio::test]
async fn commands_that_the_engine_does_not_take_are_refused_for_now() {
    let server = Server::start().await;
    let one = call("acme", "a");
    server.journal.progress(one.clone());
    let path = format!("/v1/calls/{}/hangup", one.id);
    let mut statuses = Vec::new();
    for _ in 0..5 {
        let answer = server.post(&path, json!({})).await;
        statuses.push(answer.status.as_u16());
        if answer.status == 503 {
            assert_eq!(answer.headers["retry-after"], "1");
        }
    }
    assert_eq!(statuses, [202, 202, 202, 202, 503]);
}

#[tokio::test]
async fn verdicts_are_shown_to_their_account_newest_first() {
    let server = Server::start().await;
    for (at, account, code) in [
        (1, Some("acme"), VerdictCode::Accepted),
        (2, Some("acme"), VerdictCode::NumberUnknown),
        (3, Some("other"), VerdictCode::Accepted),
        (4, None, VerdictCode::SourceUnknown),
        (5, Some("acme"), VerdictCode::NumberUnknown),
    ] {
        server.journal.verdict(verdict(at, account, code));
    }
    server.journal.flush().await;
    let times = |answer: &Value| -> Vec<u64> {
        answer["data"].as_array().unwrap().iter().map(|one| one["at_unix_ms"].as_u64().unwrap()).collect()
    };
    let all = server.get("/v1/verdicts").await.body;
    assert_eq!(times(&all), [5, 2, 1]);
    assert_eq!(all["next_before"], Value::Null);
    assert_eq!(all["data"][0]["code"], "number_unknown");
    assert!(!all["data"][0]["remedy"].as_str().unwrap().is_empty());
    let page = server.get("/v1/verdicts?limit=2").await.body;
    assert_eq!((times(&page), &page["next_before"]), (vec![5, 2], &json!(2)));
    assert_eq!(times(&server.get("/v1/verdicts?limit=2&before=2").await.body), [1]);
    assert_eq!(times(&server.get("/v1/verdicts?code=accepted").await.body), [1]);
    server.get("/v1/verdicts?code=acepted").await.at("code", &["acepted", "nearest is \"accepted\""]);
    server.get("/v1/verdicts?limit=0").await.at("limit", &["1 to 500"]);
}

fn verdict(at_unix_ms: u64, account: Option<&str>, code: VerdictCode) -> Verdict {
    let mut verdict = Verdict {
        direction: CallDirection::Inbound,
        id: Uuid::new_v4(),
        at_unix_ms,
        account: account.map(Into::into),
        code,
        status: 0,
        source: "192.0.2.9:5060".parse().unwrap(),
        transport: tandem_sip::Transport::Udp,
        request_uri: "sip:100@192.0.2.1".to_owned(),
        from: String::new(),
        to: String::new(),
        sip_call_id: String::new(),
        user_agent: String::new(),
        call: None,
        trunk: None,
        number: None,
        agent: None,
        trace: Vec::new(),
        near_misses: Vec::new(),
        remedy: Default::default(),
    };
    verdict.conclude(code);
    verdict
}

#[tokio::test]
async fn an_agent_written_for_twilio_hangs_up_its_way() {
    let mut server = Server::start().await;
    let (ours, theirs) = (call("acme", "a"), call("other", "a"));
    server.journal.progress(ours.clone());
    server.journal.progress(theirs.clone());
    let path = |account: &str, call: &CallRecord| {
        let (account, call) = (tandem_agent::account_sid(account), tandem_agent::call_sid(call.id.0));
        format!("/2010-04-01/Accounts/{account}/Calls/{call}.json")
    };
    let send = |path: String, key: &str, form: &'static str| {
        let pair = base64_simd::STANDARD.encode_to_string(format!("AC00:{key}"));
        let request = server
            .request("POST", &path, "")
            .header("Authorization", format!("Basic {pair}"))
            .header("Content-Type", "application/x-www-form-urlencoded");
        server.raw(request.body(axum::body::Body::from(form)).unwrap())
    };
    let refused = send(path("acme", &ours), "wrong", "Status=completed").await;
    assert_eq!((refused.status.as_u16(), &refused.body["code"]), (401, &json!(20003)));
    for (path, form, status, code) in [
        (path("other", &theirs), "Status=completed", 404, 20404),
        (path("acme", &theirs), "Status=completed", 404, 20404),
        (path("acme", &ours), "Status=ringing", 400, 20001),
        (path("acme", &ours), "Twiml=%3CResponse%2F%3E", 400, 20001),
    ] {
        let answer = send(path, &server.key, form).await;
        assert_eq!((answer.status.as_u16(), &answer.body["code"]), (status, &json!(code)), "{}", answer.text);
        assert_eq!(answer.body["status"], status);
    }
    let done = send(path("acme", &ours), &server.key, "Status=completed").await;
    assert_eq!((done.status.as_u16(), &done.body["status"]), (200, &json!("completed")), "{}", done.text);
    assert_eq!(done.body["sid"], json!(tandem_agent::call_sid(ours.id.0)));
    assert_eq!(server.commands.try_recv().unwrap(), CallCommand::Complete(ours.id));
    assert!(server.commands.try_recv().is_err());
}

#[tokio::test]
async fn a_ladder_is_read_by_its_account_alone() {
    use tandem_call::ladder::{Heading, Rung};
    let server = Server::start().await;
    let one = call("acme", "a");
    let path = format!("/v1/calls/{}/ladder", one.id);
    server.get(&path).await.refuses(404, "Ladder not found");
    let rung = Rung {
        at_unix_ms: 5,
        heading: Heading::In,
        peer: Some("192.0.2.9:5060".parse().unwrap()),
        start_line: "INVITE sip:100@192.0.2.1 SIP/2.0".to_owned(),
        cseq: "1 INVITE".to_owned(),
        bytes: 900,
    };
    server.ladders.keep(one.id, one.account.clone(), vec![rung].into());
    let shown = server.get(&path).await;
    assert_eq!(shown.status, 200, "{}", shown.text);
    assert_eq!(shown.body["data"][0]["start_line"], "INVITE sip:100@192.0.2.1 SIP/2.0");
    let other = server.send(server.request("GET", &path, &server.other_key), None).await;
    other.refuses(404, "Ladder not found");
}
