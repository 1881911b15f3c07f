//! Transfers through the API: what is asked of a call, in Tandem's words and in Twilio's, and what a trunk permits.

use std::time::Duration;

use serde_json::{Value, json};
use tandem_call::{CallRecord, CallStatus, ShownNumber, TransferOrder, TransferRule, TransferWay};
use tandem_server::api::CallCommand;

use super::client::{Server, ip_trunk};
use super::rest_calls::call;

fn up(mut record: CallRecord) -> CallRecord {
    record.status = CallStatus::InProgress;
    record
}

fn commanded(server: &mut Server) -> TransferOrder {
    match server.commands.try_recv() {
        Ok(CallCommand::Transfer { order, .. }) => *order,
        other => panic!("no transfer was commanded: {other:?}"),
    }
}

#[tokio::test]
async fn a_call_that_is_up_is_transferred_as_it_is_asked() {
    let mut server = Server::start().await;
    let one = up(call("acme", "a"));
    server.journal.progress(one.clone());
    let path = format!("/v1/calls/{}/transfer", one.id);
    let asked = server.post(&path, json!({"to": "+4930999"})).await;
    assert_eq!(
        (asked.status.as_u16(), &asked.body["id"]),
        (202, &json!(one.id.to_string())),
        "{}",
        asked.text
    );
    assert_eq!(commanded(&mut server), TransferOrder::to("+4930999"));
    let full = json!({
        "to": "sip:+4930999@gw.example", "mode": "dial", "caller_id": "caller", "ringing_timeout_seconds": 20,
        "agent": "keep", "sip_headers": {"X-Ticket": "7"},
    });
    assert_eq!(server.post(&path, full).await.status, 202);
    let order = commanded(&mut server);
    assert_eq!((order.way, order.shows, order.keeps_agent), (TransferWay::Dial, ShownNumber::Caller, true));
    assert_eq!(order.ringing, Some(Duration::from_secs(20)));
    assert_eq!(order.headers, [("X-Ticket".to_owned(), "7".to_owned())]);
    for (body, location) in [
        (json!({}), "to"),
        (json!({"to": "sales"}), "to"),
        (json!({"to": 5}), "to"),
        (json!({"to": "+49301", "mode": "blind"}), "mode"),
        (json!({"to": "+49301", "caller_id": "+1900"}), "caller_id"),
        (json!({"to": "+49301", "agent": "maybe"}), "agent"),
        (json!({"to": "+49301", "ringing_timeout_seconds": 1}), "ringing_timeout_seconds"),
        (json!({"to": "+49301", "sip_headers": {"Route": "<sip:evil>"}}), "sip_headers.Route"),
    ] {
        let refused = server.post(&path, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["errors"][0]["loc"]),
            (400, &json!(location)),
            "{body}: {}",
            refused.text
        );
    }
    let foreign = server.post(&path, json!({"to": "+49301", "trunk_id": "no-such-trunk"})).await;
    assert_eq!(foreign.status, 404, "{}", foreign.text);
    let ringing = call("acme", "a");
    server.journal.progress(CallRecord { status: CallStatus::Ringing, ..ringing.clone() });
    let early = server.post(&format!("/v1/calls/{}/transfer", ringing.id), json!({"to": "+49301"})).await;
    assert_eq!(early.status, 409, "{}", early.text);
    let theirs = up(call("other", "a"));
    server.journal.progress(theirs.clone());
    let hidden = server.post(&format!("/v1/calls/{}/transfer", theirs.id), json!({"to": "+49301"})).await;
    assert_eq!(hidden.status, 404, "{}", hidden.text);
    assert!(server.commands.try_recv().is_err());
}

#[tokio::test]
async fn an_agent_written_for_twilio_hands_its_caller_on() {
    let mut server = Server::start().await;
    let one = up(call("acme", "a"));
    server.journal.progress(one.clone());
    let path = format!(
        "/2010-04-01/Accounts/{}/Calls/{}.json",
        tandem_agent::account_sid("acme"),
        tandem_agent::call_sid(one.id.0)
    );
    let pair = base64_simd::STANDARD.encode_to_string(format!("AC00:{}", server.key));
    let send = |form: &'static str| {
        let request = server
            .request("POST", &path, "")
            .header("Authorization", format!("Basic {pair}"))
            .header("Content-Type", "application/x-www-form-urlencoded");
        server.raw(request.body(axum::body::Body::from(form)).unwrap())
    };
    let dial = send("Twiml=%3CResponse%3E%3CDial%3E%2B4930999%3C%2FDial%3E%3C%2FResponse%3E").await;
    assert_eq!((dial.status.as_u16(), &dial.body["status"]), (200, &json!("in-progress")), "{}", dial.text);
    let say = send("Twiml=%3CResponse%3E%3CSay%3Ehi%3C%2FSay%3E%3C%2FResponse%3E").await;
    assert_eq!(say.status, 400);
    assert!(say.body["message"].as_str().is_some_and(|why| why.contains("<Say>")), "{}", say.text);
    let url = send("Url=https%3A%2F%2Fagent.example%2Ftwiml").await;
    assert!(url.body["message"].as_str().is_some_and(|why| why.contains("Url")), "{}", url.text);
    let hang_up = send("Twiml=%3CResponse%3E%3CHangup%2F%3E%3C%2FResponse%3E").await;
    assert_eq!((hang_up.status.as_u16(), &hang_up.body["status"]), (200, &json!("completed")));
    let order = commanded(&mut server);
    assert_eq!((order.target.as_str(), order.way), ("+4930999", TransferWay::Dial));
    assert_eq!(server.commands.try_recv().unwrap(), CallCommand::Complete(one.id));
}

#[tokio::test]
async fn a_trunk_permits_what_its_owner_says() {
    let server = Server::start().await;
    let made = server.post("/sip-trunks/trunks", ip_trunk("a")).await;
    let id = made.body["id"].as_str().unwrap().to_owned();
    let path = format!("/v1/trunks/{id}/transfers");
    let shown = server.get(&path).await;
    assert_eq!(
        (&shown.body["method"], &shown.body["allowed_prefixes"]),
        (&json!("refer-then-dial"), &Value::Null),
        "{}",
        shown.text
    );
    let policy = || server.table().trunk(&id.as_str().into()).unwrap().transfers.clone();
    for (body, rule, prefixes) in [
        (json!({"method": "dial"}), TransferRule::Dial, None),
        (
            json!({"allowed_prefixes": ["+4930", "1"]}),
            TransferRule::Dial,
            Some(vec!["+4930".to_owned(), "1".to_owned()]),
        ),
        (json!({"method": "refuse"}), TransferRule::Refuse, Some(vec!["+4930".to_owned(), "1".to_owned()])),
        (json!({"method": "refer-then-dial", "allowed_prefixes": null}), TransferRule::ReferThenDial, None),
    ] {
        let changed = server.patch(&path, body).await;
        assert_eq!(changed.status, 200, "{}", changed.text);
        assert_eq!((policy().rule, policy().prefixes), (rule, prefixes.clone()));
        assert_eq!(server.get(&path).await.body["allowed_prefixes"], json!(prefixes));
    }
    for (body, location) in [
        (json!({"method": "magic"}), "method"),
        (json!({"allowed_prefixes": "+49"}), "allowed_prefixes"),
        (json!({"allowed_prefixes": ["abc"]}), "allowed_prefixes[0]"),
        (json!({"allowed_prefixes": [""]}), "allowed_prefixes[0]"),
    ] {
        let refused = server.patch(&path, body.clone()).await;
        assert_eq!(
            (refused.status.as_u16(), &refused.body["errors"][0]["loc"]),
            (400, &json!(location)),
            "{body}: {}",
            refused.text
        );
    }
    assert_eq!(server.get("/v1/trunks/nobodys/transfers").await.status, 404);
}
