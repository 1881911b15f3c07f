//! SIPp as the carrier: each scenario file is one behaviour that a carrier shows or expects.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::json;
use tandem_tests::product::{Product, Provisioned, free_port, ip_trunk, userpass_trunk};

use crate::echo_agent::EchoAgent;

const DID: &str = "+918047111111";

/// Runs a scenario once against the product; panics with SIPp's own messages when it fails.
fn run(product: &Product, scenario: &str, did: &str, more: &[&str]) {
    run_against(product, product.sip, scenario, did, more);
}

/// The same, towards another address than the product's own: a proxy before it.
pub(crate) fn run_against(product: &Product, target: SocketAddr, scenario: &str, did: &str, more: &[&str]) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/sipp").join(format!("{scenario}.xml"));
    let folder = tempfile::tempdir().expect("a folder");
    let messages = folder.path().join("messages");
    let errors = folder.path().join("errors");
    let output = Command::new("sipp")
        .arg(target.to_string())
        .arg("-sf")
        .arg(&file)
        .args(["-m", "1", "-r", "1", "-nostdin", "-timeout", "75", "-timeout_error"])
        .args(["-i", "127.0.0.1", "-p", &free_port().to_string()])
        .args(["-mi", "127.0.0.1", "-mp", &free_port().to_string()])
        .args(["-s", did, "-trace_msg", "-message_file"])
        .arg(&messages)
        .args(["-trace_err", "-error_file"])
        .arg(&errors)
        .args(more)
        .current_dir(folder.path())
        .env("TERM", "dumb")
        .stdin(Stdio::null())
        .output()
        .expect("sipp runs; tests/run installs it");
    // SIPp ends with 0 only when each call of the scenario succeeded; 255 is its own time-out.
    assert!(
        output.status.code() == Some(0),
        "{scenario}: sipp ended with {:?}\n--- errors\n{}\n--- messages\n{}\n--- server log\n{}",
        output.status.code(),
        fs::read_to_string(&errors).unwrap_or_default(),
        fs::read_to_string(&messages).unwrap_or_default(),
        product.log()
    );
}

/// A server with one IP trunk for 127.0.0.1 whose number leads to an echoing agent.
struct Rig {
    product: Product,
    agent: EchoAgent,
    ids: Provisioned,
}

impl Rig {
    fn new() -> Self {
        Self::with_trunk(&ip_trunk("carrier", "127.0.0.1/32"))
    }

    fn with_trunk(trunk: &serde_json::Value) -> Self {
        let agent = EchoAgent::start("asterisk", &[]);
        let product = Product::start();
        let ids = product.provision(DID, trunk, &json!({"url": agent.url(), "dialect": "asterisk"}));
        Self { product, agent, ids }
    }

    /// Runs the scenario and gives the record of its call.
    fn call(&self, scenario: &str, more: &[&str]) -> serde_json::Value {
        run(&self.product, scenario, DID, more);
        self.product.ended_calls(&self.ids.agent_id, 1).pop().expect("one call")
    }
}

#[test]
fn a_call_is_answered_and_recorded_over_udp() {
    let rig = Rig::new();
    let record = rig.call("answered", &[]);
    assert_eq!(record["status"], "completed", "{record}");
    assert_eq!(record["telephony_data"]["call_type"], "inbound", "{record}");
    assert!(record["conversation_duration"].as_f64().is_some_and(|s| (1.5..4.0).contains(&s)), "{record}");
    assert!(rig.agent.log().contains("started"), "{}", rig.agent.log());
}

#[test]
fn a_call_is_answered_over_tcp() {
    let record = Rig::new().call("answered", &["-t", "t1"]);
    assert_eq!(record["status"], "completed", "{record}");
}

#[test]
fn a_userpass_trunk_proves_itself_by_digest() {
    let trunk = userpass_trunk("carrier", "trunkuser", "s3cret-trunk");
    let record = Rig::with_trunk(&trunk).call("challenged", &[]);
    assert_eq!(record["status"], "completed", "{record}");
}

#[test]
fn a_wrong_password_is_never_answered() {
    let rig = Rig::with_trunk(&userpass_trunk("carrier", "trunkuser", "s3cret-trunk"));
    run(&rig.product, "wrong_password", DID, &[]);
    assert!(!rig.agent.log().contains("connected"), "{}", rig.agent.log());
}

#[test]
fn a_call_is_cancelled_right_behind_the_100() {
    assert_cancelled("cancelled_at_once");
}

#[test]
fn a_call_is_cancelled_while_it_rings() {
    assert_cancelled("cancelled_while_ringing");
}

/// An agent that accepts the connection and never answers keeps the call ringing: no 200 overtakes the CANCEL.
fn assert_cancelled(scenario: &str) {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let product = Product::start();
    let url = format!("ws://{}/", silent.local_addr().expect("an address"));
    let ids = product.provision(
        DID,
        &ip_trunk("carrier", "127.0.0.1/32"),
        &json!({"url": url, "dialect": "asterisk"}),
    );
    run(&product, scenario, DID, &[]);
    let record = product.ended_calls(&ids.agent_id, 1).pop().expect("one call");
    assert_eq!(record["status"], "canceled", "{record}");
}

#[test]
fn a_call_is_held_and_resumed() {
    let record = Rig::new().call("held_and_resumed", &[]);
    assert_eq!(record["status"], "completed", "{record}");
}

#[test]
fn a_late_ack_is_waited_for() {
    let record = Rig::new().call("late_ack", &[]);
    assert_eq!(record["status"], "completed", "{record}");
}

#[test]
fn a_call_without_an_ack_is_ended() {
    let record = Rig::new().call("lost_ack", &[]);
    assert_eq!(record["status"], "failed", "{record}");
}

#[test]
fn an_offerless_invite_gets_its_offer_in_the_200() {
    let record = Rig::new().call("offerless", &[]);
    assert_eq!(record["status"], "completed", "{record}");
}

#[test]
fn provisional_responses_are_reliable_when_required() {
    let record = Rig::new().call("reliable_provisional", &[]);
    assert_eq!(record["status"], "completed", "{record}");
}

#[test]
fn the_session_is_refreshed_before_it_expires() {
    let record = Rig::new().call("session_timer", &[]);
    assert_eq!(record["status"], "completed", "{record}");
}

#[test]
fn a_session_interval_that_is_too_small_is_refused() {
    run(&Rig::new().product, "session_timer_too_small", DID, &[]);
}

#[test]
fn a_number_nobody_has_is_not_found() {
    run(&Rig::new().product, "refused_number", "+918047999999", &[]);
}

#[test]
fn a_source_outside_the_trunk_is_forbidden() {
    let rig = Rig::with_trunk(&ip_trunk("carrier", "192.0.2.0/24"));
    run(&rig.product, "refused_source", DID, &[]);
}

#[test]
fn an_offer_without_g711_is_not_acceptable() {
    run(&Rig::new().product, "refused_codec", DID, &[]);
}

#[test]
fn an_unknown_required_extension_is_refused() {
    run(&Rig::new().product, "refused_extension", DID, &[]);
}

#[test]
fn options_is_answered() {
    run(&Rig::new().product, "options", DID, &[]);
}

#[test]
fn an_unreachable_agent_is_a_clean_failure_with_a_cause() {
    let product = Product::start();
    let place = format!("127.0.0.1:{}", free_port());
    let url = format!("ws://{place}/");
    let ids = product.provision(
        DID,
        &ip_trunk("carrier", "127.0.0.1/32"),
        &json!({"url": url, "dialect": "asterisk"}),
    );
    run(&product, "agent_unreachable", DID, &[]);
    let record = product.ended_calls(&ids.agent_id, 1).pop().expect("one call");
    assert_eq!(record["status"], "failed", "{record}");
    let cause = record["error_message"].as_str().unwrap_or_default();
    assert!(cause.contains("cannot be reached"), "the cause names what happened: {record}");
    assert!(cause.contains(&place), "and where: {record}");
}

#[test]
fn an_agent_hangs_up_the_call() {
    let agent = EchoAgent::start("asterisk", &["--hang-up-after", "1"]);
    let product = Product::start();
    let websocket = json!({"url": agent.url(), "dialect": "asterisk"});
    let ids = product.provision(DID, &ip_trunk("carrier", "127.0.0.1/32"), &websocket);
    run(&product, "agent_hangs_up", DID, &[]);
    let record = product.ended_calls(&ids.agent_id, 1).pop().expect("one call");
    assert_eq!(record["status"], "completed", "{record}");
    assert_eq!(record["telephony_data"]["hangup_by"], "Callee", "{record}");
}
