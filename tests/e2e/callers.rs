//! What an agent's owner says of callers: who they are is looked up at a service of the owner's before the agent is told of
//! the call; and a caller who says nothing is not waited for.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpListener},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use serde_json::{Value, json};
use tandem_tests::product::{Product, Provisioned, ip_trunk};
use tungstenite::Message;

use crate::{
    DID,
    agent::{Agent, accept},
    phone::Phone,
    product_with, text,
};

/// A service that answers each request with the same status and body, and tells what it was asked.
fn service(status: &'static str, body: &'static str) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("bound");
    let (tell, asked) = channel();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let (mut request, mut byte) = (Vec::new(), [0]);
            while !request.ends_with(b"\r\n\r\n") && stream.read_exact(&mut byte).is_ok() {
                request.push(byte[0]);
            }
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let _ = stream.write_all(answer.as_bytes());
            let _ = tell.send(String::from_utf8_lossy(&request).into_owned());
        }
    });
    (address, asked)
}

/// An agent of the `twilio` dialect that tells what its start message holds.
fn listener() -> (Agent, Receiver<Value>) {
    let (tell, told) = channel();
    let agent = Agent::start(move |stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if let Message::Text(text) = &message
                && let Ok(event) = serde_json::from_str::<Value>(text)
                && event["event"] == "start"
            {
                let _ = tell.send(event["start"]["customParameters"].clone());
            }
        }
    });
    (agent, told)
}

fn house(agent: &Agent) -> (Product, Provisioned) {
    let product = Product::start();
    let websocket = json!({"url": format!("ws://{}/", agent.address()), "dialect": "twilio",
        "parameters": {"tenant": "acme"}});
    let provisioned = product.provision(DID, &ip_trunk("loopback", "127.0.0.1/32"), &websocket);
    (product, provisioned)
}

fn set(product: &Product, agent: &str, config: &Value) {
    let (status, answer) =
        product.request("PATCH", &format!("/v2/agent/{agent}"), Some(&json!({"agent_config": config})));
    assert_eq!(status, 200, "{answer}");
}

fn source(address: SocketAddr) -> Value {
    json!({"source_type": "api", "source_url": format!("http://{address}/customers?shop=7"),
        "source_auth_token": "abc123"})
}

#[test]
fn what_a_service_knows_of_the_caller_is_among_the_parameters_of_the_call() {
    let (agent, told) = listener();
    let (product, provisioned) = house(&agent);
    let (crm, asked) = service("200 OK", r#"{"first_name": "Ada", "visits": 3, "tenant": "evil"}"#);
    set(&product, &provisioned.agent_id, &json!({"ingest_source_config": source(crm)}));
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    let parameters = told.recv_timeout(Duration::from_secs(10)).expect("a start message");
    assert_eq!(parameters["first_name"], "Ada");
    assert_eq!(parameters["visits"], "3");
    assert_eq!(parameters["tenant"], "acme", "the agent's own parameters stand first");
    phone.hang_up();
    let record = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    assert_eq!(record["context_details"]["recipient_data"]["first_name"], "Ada");
    let request = asked.recv_timeout(Duration::from_secs(1)).expect("a request");
    let line = request.lines().next().unwrap_or_default();
    let id = text(&record, "id");
    let caller = text(&record, "user_number").replace('+', "%2B");
    let wanted = format!(
        "GET /customers?shop=7&contact_number={caller}&agent_id={}&execution_id={id} HTTP/1.1",
        provisioned.agent_id
    );
    assert_eq!(line, wanted);
    assert!(request.to_ascii_lowercase().contains("authorization: bearer abc123\r\n"), "{request}");
    let (_, shown) = product.get(&format!("/v2/agent/{}", provisioned.agent_id));
    assert_eq!(shown["ingest_source_config"]["source_auth_token"], "********");
    assert!(!product.log().contains("abc123"));
}

#[test]
fn a_caller_of_whom_nothing_is_known_is_refused_where_its_owner_wants_that() {
    let (agent, _told) = listener();
    let (product, provisioned) = house(&agent);
    let (crm, _asked) = service("404 Not Found", "{}");
    let strict = json!({"ingest_source_config": source(crm),
        "tasks": [{"task_config": {"disallow_unknown_numbers": true}}]});
    set(&product, &provisioned.agent_id, &strict);
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.invite();
    let answer = phone.final_response(Duration::from_secs(10));
    phone.acknowledge();
    assert!(answer.starts_with("SIP/2.0 403"), "{answer}");
    let record = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    assert!(text(&record, "error_message").contains("the source answered 404"), "{record}");
    let (_, verdicts) = product.get("/v1/verdicts?code=caller_not_allowed");
    assert_eq!(verdicts["data"].as_array().map(Vec::len), Some(1), "{verdicts}");
    // Whoever is in the whitelist needs not be known.
    let caller = text(&record, "user_number");
    let lenient = json!({"tasks": [{"task_config": {"disallow_unknown_numbers": true,
        "whitelist_phone_numbers": [caller]}}]});
    set(&product, &provisioned.agent_id, &lenient);
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    phone.hang_up();
}

#[test]
fn a_service_that_fails_costs_the_call_nothing_but_its_facts() {
    let (agent, told) = listener();
    let (product, provisioned) = house(&agent);
    let (crm, _asked) = service("500 Internal Server Error", "");
    set(&product, &provisioned.agent_id, &json!({"ingest_source_config": source(crm)}));
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    let parameters = told.recv_timeout(Duration::from_secs(10)).expect("a start message");
    assert_eq!(parameters["tenant"], "acme");
    phone.hang_up();
    let record = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    let incidents = record["telephony_data"]["incidents"].to_string();
    assert!(incidents.contains("the source answered 500"), "{incidents}");
}

#[test]
fn a_header_that_names_no_provider_of_the_account_says_so_in_the_record() {
    let (agent, _told) = listener();
    let (product, provisioned) = house(&agent);
    let path = format!("/v2/agent/{}", provisioned.agent_id);
    let headers = json!({"websocket": {"headers": {"Authorization": "Bearer {provider:CRM_KEY}"}}});
    assert_eq!(product.request("PATCH", &path, Some(&headers)).0, 200);
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.invite();
    let answer = phone.final_response(Duration::from_secs(10));
    phone.acknowledge();
    assert!(answer.starts_with("SIP/2.0 480"), "{answer}");
    let record = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    assert!(text(&record, "error_message").contains("names the provider CRM_KEY"), "{record}");
}

#[test]
fn a_call_in_which_nobody_speaks_ends_when_its_agent_says_so() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    set(&product, &provisioned.agent_id, &json!({"tasks": [{"task_config": {"hangup_after_silence": 1.5}}]}));
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    // Longer than the silence that is allowed.
    let heard = phone.talk(rtp, Duration::from_secs(3));
    assert!(!heard.is_empty());
    phone.await_bye(Duration::from_secs(10));
    let record = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    assert_eq!(text(&record, "status"), "completed");
    assert_eq!(record["telephony_data"]["hangup_reason"], "inactivity_timeout", "{record}");
    assert_eq!(record["telephony_data"]["hangup_by"], "Callee");
    let lasted = record["conversation_duration"].as_f64().unwrap_or_default();
    assert!(lasted >= 4.0, "the talk kept it for {lasted} s");
}
