//! Kamailio and SIPp as the registrars of carriers: what is registered there, and the calls that come by it.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_tests::awaited;
use tandem_tests::product::{Product, Provisioned, free_port, userpass_trunk};

use crate::echo_agent::EchoAgent;
use crate::outbound::Called;
use crate::sipp;

const DID: &str = "+918047333333";

/// How a carrier keeps registrations.
pub(crate) struct Manner {
    algorithm: &'static str,
    qop: &'static str,
    least: u32,
    most: u32,
    place: &'static str,
}

pub(crate) const MANNER: Manner = Manner { algorithm: "MD5", qop: "1", least: 0, most: 3600, place: "to" };

/// A running Kamailio; dropping it ends it with its children.
pub(crate) struct Carrier {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) address: SocketAddr,
}

impl Carrier {
    /// Kamailio at an address that no trunk has in its ranges.
    pub(crate) fn start(manner: &Manner) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 3], free_port()));
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/kamailio-registrar.cfg");
        let mut text = fs::read_to_string(template).expect("the configuration");
        for (place, value) in [
            ("@LISTEN@", address.to_string()),
            ("@ALGORITHM@", manner.algorithm.to_owned()),
            ("@QOP@", manner.qop.to_owned()),
            ("@LEAST@", manner.least.to_string()),
            ("@MOST@", manner.most.to_string()),
            ("@PLACE@", manner.place.to_owned()),
        ] {
            text = text.replace(place, &value);
        }
        let file = folder.path().join("kamailio.cfg");
        fs::write(&file, text).expect("written");
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let child = Command::new("kamailio")
            .arg("-f")
            .arg(&file)
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-Y"])
            .arg(folder.path())
            .arg("-P")
            .arg(folder.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("kamailio runs; tests/run installs it");
        Self { child, folder, address }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until it was asked with credentials.
    pub(crate) fn until_registered(&self) {
        awaited::until(Duration::from_secs(20), || self.log(), || self.registers().pop().map(drop));
    }

    /// The REGISTERs that came with credentials, as Kamailio logged them.
    fn registers(&self) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().filter(|line| line.contains("RX REGISTER") && line.contains("auth=Digest"));
        lines.map(str::to_owned).collect()
    }
}

impl Drop for Carrier {
    fn drop(&mut self) {
        // The main process takes its children along when it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// The word after `name=` in a line of Kamailio's log.
fn word<'a>(line: &'a str, name: &str) -> &'a str {
    let rest = line.split(&format!(" {name}=")).nth(1).unwrap_or_default();
    rest.split(' ').next().unwrap_or_default()
}

/// A server whose trunk registers at this address, with a number that an agent answers.
struct Rig {
    product: Product,
    ids: Provisioned,
    _agent: EchoAgent,
}

impl Rig {
    fn new(registrar: SocketAddr, more: Value) -> Self {
        let mut trunk = userpass_trunk("carrier", "trunkuser", "s3cret-trunk");
        trunk["registration"] = json!({"registrar": registrar.to_string(), "domain": "carrier.example"});
        for (name, value) in more.as_object().expect("an object") {
            trunk[name] = value.clone();
        }
        let agent = EchoAgent::start("asterisk", &[]);
        let product = Product::start();
        let ids = product.provision(DID, &trunk, &json!({"url": agent.url(), "dialect": "asterisk"}));
        Self { product, ids, _agent: agent }
    }

    fn trunk(&self) -> String {
        format!("/sip-trunks/trunks/{}", self.ids.trunk_id)
    }

    /// How the registration stands, once that is so.
    fn until(&self, carrier: impl Fn() -> String, is_so: impl Fn(&Value) -> bool) -> Value {
        let ask = || self.product.get(&self.trunk()).1["status"]["registration"].clone();
        let missing = || format!("{}\n{}\n{}", ask(), carrier(), self.product.log());
        awaited::until(Duration::from_secs(20), missing, || Some(ask()).filter(&is_so))
    }
}

#[test]
fn kamailio_holds_the_trunk_and_its_calls_are_the_trunks() {
    // 0 is a challenge without qop, as RFC 2069 had them. auth-int is not among them: Kamailio 5.6 refuses answers to it
    // that are right by RFC 7616.
    for (algorithm, qop, place) in
        [("MD5", "1", "to"), ("MD5", "0", "ruri"), ("SHA-256", "1", "ruri"), ("SHA-256", "1", "to")]
    {
        let carrier = Carrier::start(&Manner { algorithm, qop, place, ..MANNER });
        let rig = Rig::new(carrier.address, json!({}));
        let known = rig.until(|| carrier.log(), |known| known["state"] == "registered");
        assert_eq!((&known["last_code"], &known["reason"]), (&json!(200), &Value::Null), "{known}");
        assert_eq!(known["registrar_address"], carrier.address.to_string());
        assert_eq!(known["seen_address"], rig.product.sip.to_string(), "{known}");
        assert_eq!(known["address_of_record"], "sip:trunkuser@carrier.example");
        let told = carrier.registers().pop().expect("one with credentials");
        assert!(told.contains(&format!("algorithm={algorithm}")), "{told}");

        // SIPp calls the number at the carrier, which knows the product by its registration alone.
        sipp::run_against(&rig.product, carrier.address, "answered", DID, &[]);
        let record = rig.product.ended_calls(&rig.ids.agent_id, 1).pop().expect("one call");
        assert_eq!(record["status"], "completed", "{algorithm} {qop} {place}: {record}");
        let (_, page) = rig.product.get("/v1/verdicts?limit=1");
        let text = page.to_string();
        assert!(text.contains("registrar that holds the Contact of trunk carrier"), "{page}");

        // The trunk goes: Kamailio is told, challenges that too, and knows nobody any more.
        let before = carrier.registers().len();
        assert_eq!(rig.product.request("DELETE", &rig.trunk(), None).0, 200);
        let farewell =
            || carrier.registers().into_iter().skip(before).find(|line| line.contains("expires=0"));
        awaited::until(Duration::from_secs(10), || carrier.log(), farewell);
        sipp::run_against(&rig.product, carrier.address, "refused_number", DID, &[]);
    }
}

/// RFC 3261 10.2.4 and ETSI TS 102 027-2 RG_RT: refreshed before the granted expiry, one Call-ID, rising CSeq, and one nonce
/// for all of it.
#[test]
fn kamailio_grants_little_time_and_is_refreshed_in_it() {
    let carrier = Carrier::start(&Manner { most: 2, ..MANNER });
    let rig = Rig::new(carrier.address, json!({}));
    let missing = || format!("{}\n{}", carrier.log(), rig.product.log());
    let lines = awaited::until(Duration::from_secs(20), missing, || {
        Some(carrier.registers()).filter(|lines| lines.len() >= 4)
    });
    let ids: std::collections::BTreeSet<&str> = lines.iter().map(|line| word(line, "id")).collect();
    assert_eq!(ids.len(), 1, "{lines:?}");
    let cseqs: Vec<u32> = lines.iter().map(|line| word(line, "cseq").parse().expect("a number")).collect();
    assert!(cseqs.windows(2).all(|pair| pair[1] > pair[0]), "{cseqs:?}");
    let counts = ["nc=00000001", "nc=00000002", "nc=00000003"];
    assert!(counts.iter().zip(&lines).all(|(count, line)| line.contains(count)), "{lines:?}");
    assert_eq!(rig.until(|| carrier.log(), |known| known["state"] == "registered")["failures"], 0);
}

#[test]
fn kamailio_that_wants_longer_is_asked_for_longer() {
    let carrier = Carrier::start(&Manner { least: 900, ..MANNER });
    let registration =
        json!({"registrar": carrier.address.to_string(), "domain": "carrier.example", "expires": 60});
    let rig = Rig::new(carrier.address, json!({"registration": registration}));
    rig.until(|| carrier.log(), |known| known["state"] == "registered");
    let told = carrier.registers().pop().expect("one with credentials");
    assert!(told.contains("expires=900"), "{told}");
}

#[test]
fn a_password_that_kamailio_refuses_is_told_in_words_that_say_what_to_do() {
    let carrier = Carrier::start(&MANNER);
    let rig = Rig::new(carrier.address, json!({"auth_password": "wr0ng-password"}));
    let known = rig.until(|| carrier.log(), |known| known["state"] == "failed");
    assert_eq!(known["last_code"], 401, "{known}");
    assert!(known["remedy"].as_str().is_some_and(|text| text.contains("auth_password")), "{known}");
    assert!(!known.to_string().contains("wr0ng") && !rig.product.log().contains("wr0ng"), "{known}");
    assert_eq!(carrier.registers().len(), 1, "sent once: {}", carrier.log());
    // The right one is tried as soon as it is there.
    let right = json!({"auth_password": "s3cret-trunk"});
    assert_eq!(rig.product.request("PATCH", &rig.trunk(), Some(&right)).0, 200);
    rig.until(|| carrier.log(), |known| known["state"] == "registered");
}

#[test]
fn a_server_that_drains_takes_its_registration_back() {
    let carrier = Carrier::start(&MANNER);
    let mut rig = Rig::new(carrier.address, json!({}));
    rig.until(|| carrier.log(), |known| known["state"] == "registered");
    let asked = Command::new("kill").args(["-TERM", &rig.product.process_id().to_string()]).status();
    assert!(asked.expect("`kill` runs").success());
    assert!(rig.product.wait(Duration::from_secs(20)).is_some(), "{}", rig.product.log());
    assert!(carrier.registers().iter().any(|line| line.contains("expires=0")), "{}", carrier.log());
}

fn at_sipp(scenario: &'static str, is_so: impl Fn(&Value) -> bool) -> Value {
    let called = Called::waits(scenario, &[]);
    let rig = Rig::new(SocketAddr::from(([127, 0, 0, 1], called.port)), json!({}));
    let known = rig.until(|| scenario.to_owned(), is_so);
    called.finish(&rig.product);
    known
}

#[test]
fn sipp_forbids_and_that_is_told() {
    let known = at_sipp("registrar_forbids", |known| known["state"] == "failed");
    assert_eq!(known["last_code"], 403, "{known}");
    assert!(known["reason"].as_str().is_some_and(|text| text.contains("403 Account suspended")), "{known}");
    assert!(known["next_attempt_at"].is_string(), "{known}");
}

#[test]
fn sipp_that_calls_every_nonce_stale_is_left_alone() {
    let known = at_sipp("registrar_challenges_for_ever", |known| known["state"] == "failed");
    assert!(known["reason"].as_str().is_some_and(|text| text.contains("circle")), "{known}");
}

#[test]
fn sipp_that_is_silent_at_first_is_repeated_to() {
    let known = at_sipp("registrar_answers_late", |known| known["state"] == "registered");
    assert!(known["round_trip_ms"].as_f64().is_some_and(|time| time >= 1_500.0), "{known}");
}

#[test]
fn sipp_that_wants_longer_gets_it() {
    at_sipp("registrar_wants_longer", |known| known["state"] == "registered");
}
