//! Transfers with strangers' software on every side: SIPp as the carrier that takes or refuses REFER, and as who is called;
//! baresip as the caller, and as the human the caller is transferred to, with what each of them heard.

use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_media::{Law, g711};
use tandem_server::tools::{measure, wav};
use tandem_tests::awaited;
use tandem_tests::product::{Product, free_port};

use crate::baresip::{self, recording_in};
use crate::echo_agent::EchoAgent;
use crate::outbound::{Called, Telephone};
use crate::sipp::run_against;

const HUMAN: &str = "+918800001234";

/// A server, an agent that echoes, and a trunk that is called from this machine and whose gateway is at `port`.
struct Rig {
    product: Product,
    agent: EchoAgent,
    agent_id: String,
}

impl Rig {
    fn new(port: u16, policy: &Value) -> Self {
        let trunk = json!({
            "name": "carrier", "provider": "test", "auth_type": "ip-based", "inbound_enabled": true,
            "gateways": [{"gateway_address": "127.0.0.1", "port": port}],
            "ip_identifiers": [{"ip_address": "127.0.0.0/8"}], "qualify_frequency": 0,
        });
        let agent = EchoAgent::start("asterisk", &[]);
        let product = Product::start();
        let ids =
            product.provision(baresip::DID, &trunk, &json!({"url": agent.url(), "dialect": "asterisk"}));
        let path = format!("/v1/trunks/{}/transfers", ids.trunk_id);
        let (status, answer) = product.request("PATCH", &path, Some(policy));
        assert_eq!(status, 200, "{answer}");
        Self { product, agent, agent_id: ids.agent_id }
    }

    /// Waits for the call to be up and has it transferred.
    fn transfer(&self, more: &Value) -> String {
        let up = || {
            let (_, calls) = self.product.get("/v1/calls?status=in-progress");
            calls["data"][0]["id"].as_str().map(str::to_owned)
        };
        let id =
            awaited::until(Duration::from_secs(20), || format!("no call is up\n{}", self.product.log()), up);
        let mut body = json!({"to": HUMAN});
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let (status, answer) = self.product.post(&format!("/v1/calls/{id}/transfer"), &body);
        assert_eq!(status, 202, "{answer}");
        id
    }

    /// What the call's record says of its last transfer once this holds.
    fn until_transfer(&self, id: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let ask = || self.product.get(&format!("/executions/{id}")).1["transfer_call_data"].clone();
        let missing = || format!("{}\n{}", ask(), self.product.log());
        awaited::until(Duration::from_secs(20), missing, || Some(ask()).filter(&holds))
    }

    /// Runs a scenario of the calling carrier beside `act`, and gives the record.
    fn call(&self, scenario: &str, act: impl FnOnce()) -> Value {
        thread::scope(|scope| {
            let calling =
                scope.spawn(|| run_against(&self.product, self.product.sip, scenario, baresip::DID, &[]));
            act();
            calling.join().expect("the scenario went as written");
        });
        self.product.ended_calls(&self.agent_id, 1).pop().expect("one call")
    }
}

#[test]
fn a_carrier_takes_the_refer_and_the_caller() {
    let rig = Rig::new(free_port(), &json!({"method": "refer"}));
    let record = rig.call("caller_is_referred", || drop(rig.transfer(&json!({}))));
    assert_eq!(record["status"], "completed", "{record}");
    let transfer = &record["telephony_data"]["transfers"][0];
    assert_eq!(
        (&transfer["method"], &transfer["outcome"]),
        (&json!("refer"), &json!("handed_over")),
        "{record}"
    );
    assert_eq!(
        (&record["transfer_call_data"]["status"], &record["transfer_call_data"]["to_number"]),
        (&json!("completed"), &json!(HUMAN))
    );
    rig.product.until_metric("tandem_engine_events_total", "event=\"transfers_connected\"", 1.0);
}

#[test]
fn a_refer_whose_target_is_busy_leaves_the_caller_with_the_agent() {
    let rig = Rig::new(free_port(), &json!({"method": "refer-then-dial"}));
    let record = rig.call("caller_is_referred_in_vain", || drop(rig.transfer(&json!({}))));
    assert_eq!(record["telephony_data"]["hangup_by"], "Caller", "the caller's own BYE ended it: {record}");
    assert_eq!(record["transfer_call_data"]["status"], "failed", "{record}");
    assert!(
        record["transfer_call_data"]["hangup_reason"].as_str().is_some_and(|why| why.contains("486")),
        "{record}"
    );
    assert!(rig.agent.log().contains("TRANSFER_FAILED"), "the agent was told: {}", rig.agent.log());
}

#[test]
fn a_second_leg_is_dialled_where_the_carrier_refuses_refer() {
    let human = Called::waits("called_and_answers", &[]);
    let rig = Rig::new(human.port, &json!({"method": "refer-then-dial"}));
    let record = rig.call("caller_refuses_refer", || drop(rig.transfer(&json!({}))));
    let told = human.finish(&rig.product);
    assert!(told.contains(&format!("INVITE sip:{HUMAN}@127.0.0.1")), "{told}");
    let transfer = &record["telephony_data"]["transfers"][0];
    assert_eq!(
        (&transfer["method"], &transfer["outcome"]),
        (&json!("dial"), &json!("connected")),
        "{record}"
    );
    assert!(
        transfer["cause"].as_str().is_some_and(|cause| cause.is_empty() || cause.contains("405")),
        "{record}"
    );
    assert_eq!(transfer["hangup_by"], "Callee", "{record}");
    assert!(record["transfer_call_data"]["provider_call_id"].as_str().is_some_and(|id| !id.is_empty()));
}

#[test]
fn who_is_busy_gets_no_caller_and_the_agent_goes_on() {
    let human = Called::waits_with("called_and_refuses", &[("{status}", "486 Busy Here")], &[]);
    let rig = Rig::new(human.port, &json!({"method": "dial"}));
    let record = rig.call("answered", || {
        let id = rig.transfer(&json!({"agent": "keep"}));
        let data = rig.until_transfer(&id, |data| data["status"] == "failed");
        assert!(data["hangup_reason"].as_str().is_some_and(|why| why.contains("486")), "{data}");
    });
    human.finish(&rig.product);
    assert_eq!(record["telephony_data"]["hangup_by"], "Caller", "{record}");
}

/// Toll fraud: a carrier's REFER makes no leg, within a call or outside of any.
#[test]
fn a_carrier_refers_us_nowhere() {
    let rig = Rig::new(free_port(), &json!({"method": "refer-then-dial"}));
    let record = rig.call("carrier_refers", || {});
    assert_eq!(record["status"], "completed", "{record}");
    let incidents = record["telephony_data"]["incidents"].to_string();
    assert!(incidents.contains("refer_refused") && incidents.contains("+1900555"), "{incidents}");
    assert!(record["transfer_call_data"].is_null(), "{record}");
    run_against(&rig.product, rig.product.sip, "carrier_refers_outside", baresip::DID, &[]);
    rig.product.until_metric("tandem_engine_events_total", "event=\"refers_refused\"", 1.0);
}

/// A policy that names numbers permits no others, and says so to whoever asks.
#[test]
fn numbers_that_the_policy_does_not_name_are_not_called() {
    let rig = Rig::new(free_port(), &json!({"method": "dial", "allowed_prefixes": ["+49"]}));
    let record = rig.call("answered", || drop(rig.transfer(&json!({"to": "+1900555"}))));
    assert!(record["transfer_call_data"].is_null(), "it was not even tried: {record}");
    let incidents = record["telephony_data"]["incidents"].to_string();
    assert!(incidents.contains("permits no transfer to this number"), "{incidents}");
}

/// Two telephones that nobody here wrote: what each heard is what the other played, but for the steps of G.711.
#[test]
fn a_human_and_the_caller_hear_each_other() {
    for (law, codec) in [(Law::Mulaw, "PCMU"), (Law::Alaw, "PCMA")] {
        let folder = tempfile::tempdir().expect("a folder");
        let melody = measure::melody(20_000);
        let humans: Vec<i16> = melody.iter().rev().copied().collect();
        let port = free_port();
        // The human speaks µ-law alone, so that one of the two calls is converted.
        let human = Telephone::waits(folder.path(), port, &humans);
        let rig = Rig::new(port, &json!({"method": "dial"}));
        let account = format!("audio_codecs={codec}/8000/1");
        let caller = thread::scope(|scope| {
            let calling = scope.spawn(|| baresip::call(&rig.product, 14, &melody, &account, ""));
            let id = rig.transfer(&json!({"mode": "dial"}));
            rig.until_transfer(&id, |data| data["status"] == "in-progress");
            human.hears(Duration::from_secs(6));
            calling.join().expect("the call went through")
        });
        let log = human.end();
        let recording = recording_in(folder.path()).unwrap_or_else(|| panic!("nothing was heard:\n{log}"));
        let heard = wav::read(&recording).expect("the recording");
        assert_it_heard(&through(&[law, Law::Mulaw], &melody), &heard, 2, &log);
        assert_it_heard(&through(&[Law::Mulaw, law], &humans), &caller.samples, 8, &caller.log);
        let record = rig.product.ended_calls(&rig.agent_id, 1).pop().expect("one call");
        let transfer = &record["telephony_data"]["transfers"][0];
        assert_eq!(transfer["outcome"], "connected", "{record}");
        assert!(transfer["packets"]["received"].as_u64().is_some_and(|count| count > 200), "{record}");
    }
}

/// What G.711 alone costs, on a path that speaks these laws one after the other.
fn through(laws: &[Law], samples: &[i16]) -> Vec<i16> {
    let once = |sample: i16, law: &Law| g711::decode(*law, g711::encode(*law, sample));
    samples.iter().map(|sample| laws.iter().fold(*sample, once)).collect()
}

/// Two seconds of what was heard, from `second` on, stand in what the other side played, frame by frame and in its order.
/// A busy machine may let a telephone's own clock slip by a frame or two.
fn assert_it_heard(played: &[i16], heard: &[i16], second: usize, log: &str) {
    let piece = heard.get(second * 8_000..(second + 2) * 8_000).unwrap_or_else(|| {
        panic!("only {} samples were heard\n{log}", heard.len());
    });
    let is_there =
        |window: &[i16], frame: &[i16]| window.iter().zip(frame).all(|(p, h)| is_one_step_off(*p, *h));
    let (mut from, mut found) = (0, 0);
    for frame in piece.chunks_exact(160) {
        // Where the frame before it ends, within the seconds that set-up and jitter buffers may take.
        let ahead = &played[from..played.len().min(from + 10 * 8_000)];
        if let Some(at) = ahead.windows(frame.len()).position(|window| is_there(window, frame)) {
            from += at + frame.len();
            found += 1;
        }
    }
    assert!(found >= 95, "{found} of 100 frames that were heard are what was played\n{log}");
}

/// The telephone rounds between two codes of G.711 where we do otherwise: each law may be one step off, a step being at
/// most a sixteenth of the sample.
fn is_one_step_off(played: i16, heard: i16) -> bool {
    let (played, heard) = (i32::from(played), i32::from(heard));
    (played - heard).abs() <= 2 * (16 + played.abs().max(heard.abs()) / 16)
}
