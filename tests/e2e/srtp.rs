//! SRTP by SDES over TLS, both ways and with each policy of a trunk: what is encrypted, what is refused, and what is said of it.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};
use tandem_server::tools::{measure, wav};
use tandem_tests::{
    certificates::Authority,
    product::{Product, Provisioned, binary, free_port, ip_trunk},
};

use crate::{DID, agent::Agent, text};

const CALLEE: &str = "+918800001234";

/// A server that takes calls over TLS and plain, with one trunk.
struct House {
    folder: tempfile::TempDir,
    trusted: PathBuf,
    tls_port: u16,
    product: Product,
    ids: Provisioned,
}

impl House {
    fn new(agent: &Agent, encryption: &Value) -> Self {
        let (folder, tls_port) = (tempfile::tempdir().expect("a folder"), free_port());
        let authority = Authority::new("Carriers' authority");
        let trusted = authority.write(folder.path(), "ca");
        let files = authority.issue(folder.path(), "sip", &["127.0.0.1", "localhost"]);
        let product = Product::start_with(&files.table(tls_port, ""));
        let mut trunk = ip_trunk("carrier", "127.0.0.1/32");
        for (name, value) in encryption.as_object().expect("an object") {
            trunk[name] = value.clone();
        }
        let ids = product.provision(DID, &trunk, &agent.websocket());
        Self { folder, trusted, tls_port, product, ids }
    }

    fn call(&self, over_tls: bool, more: &[&str]) -> Output {
        let mut command = Command::new(binary());
        if over_tls {
            let place = format!("sip:{DID}@127.0.0.1:{}", self.tls_port);
            command.args(["call", &place, "--transport", "tls", "--ca"]).arg(&self.trusted);
        } else {
            command.args(["call", &format!("sip:{DID}@{}", self.product.sip)]);
        }
        command.args(more).output().expect("the test caller runs")
    }

    /// The code of the newest verdict and its remedy.
    fn verdict(&self) -> (String, String) {
        let (status, verdicts) = self.product.get("/v1/verdicts?page_size=1");
        assert_eq!(status, 200, "{verdicts}");
        let newest = &verdicts["data"][0];
        (text(newest, "code").to_owned(), text(newest, "remedy").to_owned())
    }
}

fn sdes(optimistic: bool) -> Value {
    json!({
        "transport": "transport-tls", "media_encryption": "sdes", "media_encryption_optimistic": optimistic,
    })
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// How many samples of the melody come back as G.711 leaves them.
fn assert_echo(played: &[i16], heard: &Path, log: &str) {
    let heard = wav::read(heard).expect("the recording");
    let comparison = measure::compare(played, &heard).unwrap_or_else(|| panic!("no echo came back:\n{log}"));
    assert!(comparison.lost_share() < 0.05 && comparison.signal_to_noise_db > 25.0, "{comparison:?}\n{log}");
}

#[test]
fn a_call_is_encrypted_both_ways_and_its_record_says_by_what() {
    let house = House::new(&Agent::echo(), &sdes(false));
    let (played, heard) = (house.folder.path().join("played.wav"), house.folder.path().join("heard.wav"));
    let melody = measure::melody(24_000);
    wav::write(&played, &melody).expect("written");
    let files = [played.to_str().expect("a path"), heard.to_str().expect("a path")];
    let output = house.call(true, &["--srtp", "--play", files[0], "--record", files[1], "--dtmf", "5"]);
    let log = said(&output);
    assert!(output.status.success() && log.contains("AES_CM_128_HMAC_SHA1_80"), "{log}");
    assert!(!log.contains("SRTP       "), "packets were refused: {log}");
    assert_echo(&melody, &heard, &log);
    let record = house.product.ended_calls(&house.ids.agent_id, 1).pop().expect("one call");
    let media = &record["telephony_data"]["media"];
    assert_eq!(text(media, "encryption"), "AES_CM_128_HMAC_SHA1_80", "{record}");
    assert_eq!((&media["digits"], &media["packets_refused_unauthentic"]), (&json!(1), &json!(0)), "{record}");
    assert!(media["packets_received"].as_u64().is_some_and(|count| count > 100), "{record}");
    assert!(house.product.metric("tandem_engine_events_total", "encrypted") >= 1.0);
    // Neither the log nor the call's ladder holds a key.
    let id = text(&record, "id").to_owned();
    let (_, ladder) = house.product.get(&format!("/v1/calls/{id}/ladder"));
    let (_, executions) = house.product.get(&format!("/executions/{id}/log"));
    for told in [house.product.log(), ladder.to_string(), executions.to_string(), record.to_string()] {
        assert!(!told.contains("inline:"), "{told}");
    }
}

#[test]
fn a_trunk_that_requires_encryption_takes_no_call_in_the_clear() {
    let house = House::new(&Agent::echo(), &sdes(false));
    let output = house.call(true, &["--duration", "1"]);
    assert!(!output.status.success() && said(&output).contains("refused with 488"), "{}", said(&output));
    let (code, remedy) = house.verdict();
    assert_eq!(code, "encryption_missing");
    assert!(remedy.contains("SRTP") && remedy.contains("media_encryption_optimistic"), "{remedy}");
    let output = house.call(false, &["--duration", "1"]);
    assert!(!output.status.success() && said(&output).contains("refused with 488"), "{}", said(&output));
    let (code, remedy) = house.verdict();
    assert_eq!(code, "encryption_exposed");
    assert!(remedy.contains("TLS"), "{remedy}");
}

#[test]
fn an_optimistic_trunk_encrypts_where_the_carrier_does_and_takes_the_rest_in_the_clear() {
    let house = House::new(&Agent::echo(), &sdes(true));
    for (over_tls, arguments) in [(true, &["--srtp"][..]), (true, &[]), (false, &[])] {
        let output = house.call(over_tls, &[arguments, &["--duration", "1"]].concat());
        assert!(output.status.success(), "{}", said(&output));
    }
    let mut calls = house.product.ended_calls(&house.ids.agent_id, 3);
    calls.sort_by_key(|call| text(call, "created_at").to_owned());
    let suites: Vec<&Value> =
        calls.iter().map(|call| &call["telephony_data"]["media"]["encryption"]).collect();
    assert_eq!(suites, [&json!("AES_CM_128_HMAC_SHA1_80"), &Value::Null, &Value::Null], "{calls:?}");
}

#[test]
fn a_trunk_without_encryption_says_what_to_set_when_a_carrier_encrypts() {
    let house = House::new(&Agent::echo(), &json!({"transport": "transport-tls"}));
    let output = house.call(true, &["--srtp", "--duration", "1"]);
    assert!(!output.status.success() && said(&output).contains("refused with 488"), "{}", said(&output));
    let (code, remedy) = house.verdict();
    assert_eq!(code, "encryption_offered");
    assert!(remedy.contains("media_encryption to sdes"), "{remedy}");
}

/// One server calls another: the offer is ours, the answer is ours, and what is between them is TLS.
#[test]
fn calls_that_are_placed_are_encrypted_as_their_trunk_asks() {
    for (theirs, ours, expected) in [
        (sdes(false), sdes(false), json!("AES_CM_128_HMAC_SHA1_80")),
        (sdes(true), sdes(true), json!("AES_CM_128_HMAC_SHA1_80")),
        (json!({"transport": "transport-tls"}), sdes(true), Value::Null),
    ] {
        let called = House::new(&Agent::echo(), &theirs);
        let authority = format!("[sip.tls]\ngateway_ca = {:?}", called.trusted);
        let calling = Product::start_with(&authority);
        let mut trunk = ip_trunk("carrier", "127.0.0.1/32");
        for (name, value) in ours.as_object().expect("an object") {
            trunk[name] = value.clone();
        }
        trunk["gateways"] = json!([{"gateway_address": "127.0.0.1", "port": called.tls_port}]);
        trunk["qualify_frequency"] = json!(0);
        let agent = Agent::echo();
        let ids = calling.provision(CALLEE, &trunk, &agent.websocket());
        let order = json!({
            "agent_id": ids.agent_id, "recipient_phone_number": DID, "from_phone_number": CALLEE,
            "user_data": {},
        });
        let (status, answer) = calling.post("/call", &order);
        assert_eq!(status, 200, "{answer}");
        let id = text(&answer, "execution_id").to_owned();
        let ask = || calling.get(&format!("/executions/{id}")).1;
        let missing = || format!("{}\n{}\n{}", ask(), calling.log(), called.product.log());
        tandem_tests::awaited::until(std::time::Duration::from_secs(20), missing, || {
            Some(ask()).filter(|call| call["status"] == "in-progress")
        });
        // Both agents echo, so packets go round; what counts is that they open.
        std::thread::sleep(std::time::Duration::from_secs(1));
        let (status, answer) = calling.post(&format!("/call/{id}/stop"), &json!({}));
        assert_eq!(status, 200, "{answer}");
        let placed = calling.ended_calls(&ids.agent_id, 1).pop().expect("one call");
        let taken = called.product.ended_calls(&called.ids.agent_id, 1).pop().expect("one call");
        for record in [placed, taken] {
            let media = &record["telephony_data"]["media"];
            assert_eq!(media["encryption"], expected, "{record}");
            assert_eq!(media["packets_refused_unauthentic"], 0, "{record}");
            assert!(media["packets_received"].as_u64().is_some_and(|count| count > 20), "{record}");
        }
    }
}
