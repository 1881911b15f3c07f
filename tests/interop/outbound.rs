//! SIPp and baresip as the called side: what a carrier answers to our INVITEs, and what comes of it in the record.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_media::Law;
use tandem_server::tools::{measure, wav};
use tandem_tests::awaited;
use tandem_tests::certificates::Authority;
use tandem_tests::product::{API_KEY, Product, Provisioned, binary, free_port};

use crate::baresip::{assert_the_echo_is_what_was_played, recording_in};
use crate::echo_agent::EchoAgent;

pub(crate) const NUMBER: &str = "+918047111111";
pub(crate) const CALLEE: &str = "+918800001234";

/// Of 16 bits at 8,000 samples a second, as the telephone records.
const BYTES_A_SECOND: f64 = 16_000.0;

/// SIPp waiting to be called once; dropping it ends its process.
pub(crate) struct Called {
    child: Child,
    folder: tempfile::TempDir,
    /// Where it is called.
    pub(crate) port: u16,
    address: IpAddr,
    scenario: &'static str,
}

impl Called {
    pub(crate) fn waits(scenario: &'static str, more: &[&str]) -> Self {
        Self::waits_with(scenario, &[], more)
    }

    /// The same with places of the scenario filled in: SIPp's own keys may not stand in a status line.
    pub(crate) fn waits_with(scenario: &'static str, filled_in: &[(&str, &str)], more: &[&str]) -> Self {
        Self::waits_at(Ipv4Addr::LOCALHOST.into(), scenario, filled_in, more)
    }

    /// The same at another address.
    pub(crate) fn waits_at(
        address: IpAddr,
        scenario: &'static str,
        filled_in: &[(&str, &str)],
        more: &[&str],
    ) -> Self {
        // Built first, if need be: SIPp counts its minute from its start.
        let _built = binary();
        let source =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/sipp").join(format!("{scenario}.xml"));
        let folder = tempfile::tempdir().expect("a folder");
        let mut text = fs::read_to_string(source).expect("the scenario");
        for (place, value) in filled_in {
            text = text.replace(place, value);
        }
        let file = folder.path().join("scenario.xml");
        fs::write(&file, text).expect("written");
        let port = free_port();
        let output = fs::File::create(folder.path().join("output")).expect("a file");
        let child = Command::new("sipp")
            .arg("-sf")
            .arg(&file)
            .args(["-nostdin", "-timeout", "60", "-timeout_error"])
            .args(if more.contains(&"-m") { &[][..] } else { &["-m", "1"][..] })
            .args(["-i", &address.to_string(), "-p", &port.to_string()])
            .args(["-mi", &address.to_string(), "-mp", &free_port().to_string()])
            .args(["-trace_msg", "-message_file"])
            .arg(folder.path().join("messages"))
            .args(["-trace_err", "-error_file"])
            .arg(folder.path().join("errors"))
            .args(more)
            .current_dir(folder.path())
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a handle"))
            .stderr(output)
            .spawn()
            .expect("sipp runs; tests/run installs it");
        let called = Self { child, folder, port, address, scenario };
        called.until_it_listens(more.contains(&"t1"));
        called
    }

    fn until_it_listens(&self, over_tcp: bool) {
        let is_taken = || match over_tcp {
            true => std::net::TcpListener::bind((self.address, self.port)).is_err(),
            false => UdpSocket::bind((self.address, self.port)).is_err(),
        };
        let missing = || format!("sipp does not listen: {}", self.told());
        awaited::until(Duration::from_secs(10), missing, || is_taken().then_some(()));
    }

    pub(crate) fn told(&self) -> String {
        told(self.folder.path())
    }

    /// Sees the scenario through: SIPp ends with 0 only when it went as written. Gives every message.
    pub(crate) fn finish(mut self, product: &Product) -> String {
        let (scenario, folder) = (self.scenario, self.folder.path());
        let missing = || format!("{scenario}: {}\n{}", told(folder), product.log());
        let child = &mut self.child;
        let status = awaited::until(Duration::from_secs(60), missing, || {
            child.try_wait().expect("the process can be asked")
        });
        assert!(
            status.success(),
            "{} ended with {status}: {}\n{}",
            self.scenario,
            self.told(),
            product.log()
        );
        self.told()
    }
}

impl Drop for Called {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server, an agent that echoes, and a trunk to these ports, the first tried first.
pub(crate) struct Rig {
    pub(crate) product: Product,
    agent: EchoAgent,
    pub(crate) ids: Provisioned,
}

/// What SIPp left in its folder.
fn told(folder: &Path) -> String {
    let read = |name| fs::read_to_string(folder.join(name)).unwrap_or_default();
    format!("--- errors\n{}\n--- messages\n{}", read("errors"), read("messages"))
}

impl Rig {
    fn new(ports: &[u16], more: &Value, agent: &[&str]) -> Self {
        Self::with("", ports, more, agent)
    }

    pub(crate) fn with(configuration: &str, ports: &[u16], more: &Value, agent: &[&str]) -> Self {
        let product = Product::start_with(configuration);
        let gateways: Vec<Value> = ports
            .iter()
            .enumerate()
            .map(|(index, port)| json!({"gateway_address": "127.0.0.1", "port": port, "priority": index + 1}))
            .collect();
        let mut trunk = json!({"gateways": gateways});
        for (name, value) in more.as_object().expect("an object") {
            trunk[name] = value.clone();
        }
        Self::on(product, &trunk, agent)
    }

    /// On a server that runs: a trunk with these fields.
    pub(crate) fn on(product: Product, more: &Value, agent: &[&str]) -> Self {
        let mut trunk = json!({
            "name": "carrier", "provider": "test", "auth_type": "ip-based",
            "ip_identifiers": [{"ip_address": "127.0.0.1"}], "qualify_frequency": 0,
        });
        for (name, value) in more.as_object().expect("an object") {
            trunk[name] = value.clone();
        }
        let agent = EchoAgent::start("asterisk", agent);
        let ids = product.provision(NUMBER, &trunk, &json!({"url": agent.url(), "dialect": "asterisk"}));
        Self { product, agent, ids }
    }

    pub(crate) fn order(&self) -> String {
        self.order_with(json!({}))
    }

    pub(crate) fn order_with(&self, more: Value) -> String {
        let mut body = json!({
            "agent_id": self.ids.agent_id, "recipient_phone_number": CALLEE, "from_phone_number": NUMBER,
        });
        for (name, value) in more.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let (status, answer) = self.product.post("/call", &body);
        assert_eq!(status, 200, "{answer}");
        answer["execution_id"].as_str().expect("an id").to_owned()
    }

    /// The record of the one call, once it is over.
    pub(crate) fn record(&self) -> Value {
        self.product.ended_calls(&self.ids.agent_id, 1).pop().expect("one call")
    }

    pub(crate) fn until(&self, id: &str, status: &str) -> Value {
        let ask = || self.product.get(&format!("/executions/{id}")).1;
        let missing = || format!("not {status}: {}\n{}", ask(), self.product.log());
        awaited::until(Duration::from_secs(30), missing, || {
            Some(ask()).filter(|call| call["status"] == status)
        })
    }
}

#[test]
fn sipp_is_called_answers_and_hangs_up() {
    for transport in ["u1", "t1"] {
        let called = Called::waits("called_and_answers", &["-t", transport]);
        let kind = if transport == "t1" { "transport-tcp" } else { "transport-udp" };
        let rig = Rig::new(&[called.port], &json!({"transport": kind}), &[]);
        let id = rig.order();
        let told = called.finish(&rig.product);
        let record = rig.record();
        assert_eq!((&record["id"], &record["status"]), (&json!(id), &json!("completed")), "{record}");
        let telephony = &record["telephony_data"];
        assert_eq!(telephony["call_type"], "outbound", "{record}");
        assert_eq!(
            (&telephony["hangup_by"], &telephony["hangup_reason"]),
            (&json!("Callee"), &json!("Call ended normally"))
        );
        assert_eq!((&telephony["from_number"], &telephony["to_number"]), (&json!(NUMBER), &json!(CALLEE)));
        assert!(
            record["conversation_duration"].as_f64().is_some_and(|s| (0.8..3.0).contains(&s)),
            "{record}"
        );
        assert!(told.contains(&format!("INVITE sip:{CALLEE}@127.0.0.1:")), "{told}");
        assert!(rig.agent.log().contains("started"), "{}", rig.agent.log());
    }
}

#[test]
fn an_agent_hangs_up_the_call_it_placed() {
    let called = Called::waits("called_and_hung_up_on", &[]);
    let rig = Rig::new(&[called.port], &json!({}), &["--hang-up-after", "1"]);
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(
        (&record["status"], &record["telephony_data"]["hangup_by"]),
        (&json!("completed"), &json!("Caller"))
    );
}

#[test]
fn a_callee_that_is_busy_is_not_rung_by_another_gateway() {
    let busy = Called::waits_with("called_and_refuses", &[("{status}", "486 Busy Here")], &[]);
    let other = Called::waits("called_and_answers", &[]);
    let rig = Rig::new(&[busy.port, other.port], &json!({}), &[]);
    rig.order();
    busy.finish(&rig.product);
    let record = rig.record();
    assert_eq!(
        (&record["status"], &record["telephony_data"]["hangup_reason"]),
        (&json!("busy"), &json!("Call recipient was busy")),
        "{record}"
    );
    assert!(!other.told().contains("INVITE"), "{}", other.told());
}

#[test]
fn a_gateway_that_fails_hands_the_call_to_the_next_and_a_dead_one_too() {
    let failing = Called::waits_with("called_and_refuses", &[("{status}", "503 Service Unavailable")], &[]);
    let answering = Called::waits("called_and_answers", &[]);
    // A port that is bound and never answers: not a word, not even an ICMP message.
    let dead = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let dead_port = dead.local_addr().expect("an address").port();
    let rig =
        Rig::with("[limits]\ngateway_ms = 1500", &[failing.port, dead_port, answering.port], &json!({}), &[]);
    rig.order();
    failing.finish(&rig.product);
    answering.finish(&rig.product);
    let record = rig.record();
    assert_eq!(record["status"], "completed", "{record}");
    let tried = record["telephony_data"]["gateways"].as_array().cloned().unwrap_or_default();
    let statuses: Vec<&Value> = tried.iter().map(|attempt| &attempt["sip_status"]).collect();
    assert_eq!(statuses, [&json!(503), &Value::Null, &json!(200)], "{record}");
    assert!(tried[1]["cause"].as_str().is_some_and(|cause| cause.contains("not a word")), "{record}");
}

/// SIPp knows Authorization and MD5 alone; the rest of digest is held against the RFCs' own examples elsewhere.
#[test]
fn sipp_asks_for_credentials_and_checks_them_by_its_own() {
    let called = Called::waits("called_and_challenges", &[]);
    let by_digest =
        json!({"auth_type": "userpass", "auth_username": "acme", "auth_password": "s3cret-trunk"});
    let rig = Rig::new(&[called.port], &by_digest, &[]);
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(record["status"], "completed", "{record}");
    assert!(!rig.product.log().contains("s3cret-trunk"));
}

#[test]
fn a_gateway_that_is_never_content_gets_no_third_try() {
    let called = Called::waits("called_and_never_content", &[]);
    let by_digest = json!({"auth_type": "userpass", "auth_username": "acme", "auth_password": "wrong"});
    let rig = Rig::new(&[called.port], &by_digest, &[]);
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(record["status"], "failed", "{record}");
    assert!(
        record["error_message"].as_str().is_some_and(|error| error.contains("user name and password")),
        "{record}"
    );
}

#[test]
fn a_call_that_rings_is_stopped_by_the_api() {
    let called = Called::waits("called_and_rings", &[]);
    let rig = Rig::new(&[called.port], &json!({}), &[]);
    let id = rig.order();
    rig.until(&id, "ringing");
    let (status, answer) = rig.product.post(&format!("/call/{id}/stop"), &json!({}));
    assert_eq!(status, 200, "{answer}");
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(
        (&record["status"], &record["telephony_data"]["hangup_by"]),
        (&json!("stopped"), &json!("API Request")),
        "{record}"
    );
    assert!(
        !rig.agent.log().contains("connected"),
        "nobody answered, so no agent was fetched: {}",
        rig.agent.log()
    );
}

#[test]
fn a_call_that_nobody_takes_up_is_cancelled() {
    let called = Called::waits("called_and_rings", &[]);
    let rig = Rig::with("[limits]\nringing_seconds = 2", &[called.port], &json!({}), &[]);
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(
        (&record["status"], &record["telephony_data"]["hangup_reason"]),
        (&json!("no-answer"), &json!("Call unanswered")),
        "{record}"
    );
}

#[test]
fn a_telephone_that_is_called_hears_its_own_voice_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let played = measure::melody(20_000);
    let port = free_port();
    let telephone = Telephone::waits(folder.path(), port, &played);
    let rig = Rig::new(&[port], &json!({}), &[]);
    let id = rig.order();
    rig.until(&id, "in-progress");
    telephone.hears(Duration::from_secs(6));
    let (status, answer) = rig.product.post(&format!("/call/{id}/stop"), &json!({}));
    assert_eq!(status, 200, "{answer}");
    rig.until(&id, "stopped");
    let log = telephone.end();
    let recording = recording_in(folder.path()).unwrap_or_else(|| panic!("nothing was heard:\n{log}"));
    let samples = wav::read(&recording).expect("the recording");
    let common = played.len().min(samples.len()).saturating_sub(16_000);
    assert_the_echo_is_what_was_played(Law::Mulaw, &played[..common], &samples, &log);
}

/// The gateway proves its name, which is looked up; one that proves another name gets no call.
#[test]
fn a_telephone_is_called_over_tls_by_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("Carriers' authority");
    let trusted = authority.write(folder.path(), "ca");
    let files = authority.issue(folder.path(), "carrier", &["localhost"]);
    // baresip reads its certificate and its key from one file, and takes TLS at the port above the plain one.
    let read = |path: &Path| fs::read_to_string(path).expect("a file");
    let both = folder.path().join("both.pem");
    fs::write(&both, read(&files.private_key) + &read(&files.certificate)).expect("written");
    let played = measure::melody(20_000);
    let port = free_port();
    let more = format!("sip_certificate {}\n", both.display());
    let telephone = Telephone::waits_with(folder.path(), port, &played, &more, ";transport=tls", "");
    let tls = json!({
        "transport": "transport-tls",
        "gateways": [{"gateway_address": "127.0.0.1", "port": port + 1}, {"gateway_address": "localhost", "port": port + 1, "priority": 2}],
    });
    let rig = Rig::with(&format!("[sip.tls]\ngateway_ca = {trusted:?}"), &[], &tls, &[]);
    let id = rig.order();
    rig.until(&id, "in-progress");
    telephone.hears(Duration::from_secs(6));
    let (status, answer) = rig.product.post(&format!("/call/{id}/stop"), &json!({}));
    assert_eq!(status, 200, "{answer}");
    let record = rig.until(&id, "stopped");
    let tried = &record["telephony_data"]["gateways"];
    assert_eq!((&tried[0]["sip_status"], &tried[1]["sip_status"]), (&Value::Null, &json!(200)), "{record}");
    let log = telephone.end();
    let recording = recording_in(folder.path()).unwrap_or_else(|| panic!("nothing was heard:\n{log}"));
    let samples = wav::read(&recording).expect("the recording");
    // Sample by sample is the other test's business: audio does not go over TLS.
    let loud = samples.iter().filter(|sample| sample.unsigned_abs() > 1_000).count();
    assert!(loud > 8_000, "{loud} loud samples of {}\n{log}", samples.len());
}

/// What the trunk has no room for waits its turn, and each call is placed once.
#[test]
fn calls_beyond_the_trunks_channels_wait_their_turn() {
    let called = Called::waits("called_and_answers", &["-m", "3"]);
    let rig = Rig::new(&[called.port], &json!({}), &[]);
    let (status, trunk) = rig.product.post("/trunk/trunks", &json!({"name": "one channel", "channels": 1}));
    assert_eq!(status, 200, "{trunk}");
    let id = trunk["id"].as_str().expect("an id");
    // SIPp takes no OPTIONS for an INVITE: no watching, and only then the gateway.
    let patch = json!({"qualify_frequency": 0});
    let (status, patched) = rig.product.request("PATCH", &format!("/sip-trunks/trunks/{id}"), Some(&patch));
    assert_eq!(status, 200, "{patched}");
    let gateway = json!({"host": "127.0.0.1", "port": called.port});
    let (status, added) = rig.product.post(&format!("/trunk/trunks/{id}/gateways"), &gateway);
    assert_eq!(status, 200, "{added}");
    let numbers = format!("/trunk/trunks/{}/numbers", trunk["id"].as_str().expect("an id"));
    let number = json!({"e164": "+918047222222", "destination_key": "918047222222"});
    let (status, number) = rig.product.post(&numbers, &number);
    assert_eq!(status, 200, "{number}");
    for _ in 0..3 {
        rig.order_with(json!({"from_phone_number": "+918047222222"}));
    }
    let told = called.finish(&rig.product);
    let calls = rig.product.ended_calls(&rig.ids.agent_id, 3);
    assert!(calls.iter().all(|call| call["status"] == "completed"), "{calls:?}");
    assert_eq!(told.matches("INVITE sip:").count(), 3, "{told}");
    rig.product.until_metric("tandem_calls_without_room_total", "", 2.0);
}

/// The description comes in a reliable 183, which we acknowledge by PRACK; the 200 brings none.
#[test]
fn a_callee_answers_in_a_reliable_provisional_response() {
    let called = Called::waits("called_and_reliable", &[]);
    let rig = Rig::new(&[called.port], &json!({}), &[]);
    rig.order();
    let told = called.finish(&rig.product);
    assert!(told.contains("PRACK sip:"), "{told}");
    let record = rig.record();
    assert_eq!(record["status"], "completed", "{record}");
    assert!(rig.agent.log().contains("started"), "{}", rig.agent.log());
}

#[test]
fn of_two_telephones_that_are_taken_up_the_first_has_the_call() {
    let called = Called::waits("called_and_forks", &[]);
    let rig = Rig::new(&[called.port], &json!({}), &[]);
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(
        (&record["status"], &record["telephony_data"]["hangup_by"]),
        (&json!("completed"), &json!("Callee"))
    );
    rig.product.until_metric("tandem_sip_events_total", "event=\"forks_ended\"", 1.0);
}

/// Moved audio, a fax that is not spoken here, a hold, an UPDATE: the call outlives them all, and the agent is told.
#[test]
fn a_callee_changes_the_call_in_every_way() {
    let called = Called::waits("called_and_changes", &[]);
    let rig = Rig::new(&[called.port], &json!({}), &[]);
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(record["status"], "completed", "{record}");
    let log = rig.agent.log();
    assert!(log.contains("CALL_HELD") && log.contains("CALL_RESUMED"), "{log}");
}

/// baresip, taking the first call it gets.
pub(crate) struct Telephone {
    child: Child,
    output: std::path::PathBuf,
}

impl Telephone {
    pub(crate) fn waits(folder: &Path, port: u16, played: &[i16]) -> Self {
        Self::waits_with(folder, port, played, "", "", "")
    }

    /// The same with more lines in its configuration, and parameters of its address and of its account.
    pub(crate) fn waits_with(
        folder: &Path,
        port: u16,
        played: &[i16],
        more: &str,
        transport: &str,
        account: &str,
    ) -> Self {
        crate::baresip::configure(folder, port, played, more);
        let line = format!(
            "<sip:{CALLEE}@127.0.0.1:{port}{transport}>;regint=0;answermode=auto;audio_codecs=PCMU/8000/1{account}\n"
        );
        fs::write(folder.join("accounts"), line).expect("written");
        let output = folder.join("output");
        let file = fs::File::create(&output).expect("a file");
        let child = Command::new("baresip")
            .arg("-f")
            .arg(folder)
            .args(["-t", "40"])
            .stdin(Stdio::null())
            .stdout(file.try_clone().expect("a handle"))
            .stderr(file)
            .spawn()
            .expect("baresip runs; tests/run installs it");
        let is_taken = || UdpSocket::bind(("127.0.0.1", port)).is_err().then_some(());
        awaited::until(Duration::from_secs(10), || "baresip does not listen".to_owned(), is_taken);
        Self { child, output }
    }

    /// Waits until the telephone has recorded this much of what it hears.
    pub(crate) fn hears(&self, length: Duration) {
        let wanted = length.as_secs_f64() * BYTES_A_SECOND;
        let recorded = || recording_in(self.folder()).and_then(|path| fs::metadata(path).ok());
        let missing =
            || format!("only {:?} was recorded\n{}", recorded().map(|file| file.len()), self.printed());
        let is_enough = || recorded().filter(|file| file.len() as f64 >= wanted).map(drop);
        awaited::until(Duration::from_secs(30), missing, is_enough);
    }

    /// Ends the process once its recording is whole, and gives what it printed.
    pub(crate) fn end(mut self) -> String {
        // The header tells the length only once the call's player is closed, which the BYE brings about.
        let is_whole = || {
            let bytes = fs::read(recording_in(self.folder())?).ok()?;
            let told = u32::from_le_bytes(bytes.get(4..8)?.try_into().ok()?);
            (u64::from(told) + 8 == bytes.len() as u64).then_some(())
        };
        awaited::until(
            Duration::from_secs(10),
            || format!("no whole recording\n{}", self.printed()),
            is_whole,
        );
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.printed()
    }

    fn folder(&self) -> &Path {
        self.output.parent().expect("it lies in a folder")
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }
}

/// curl uploads a file as the vendor's documentation shows it, and SIPp is called for each of its contacts.
#[test]
fn a_batch_that_curl_uploads_is_called_contact_by_contact() {
    let called = Called::waits("called_and_answers", &["-m", "2"]);
    let rig = Rig::new(&[called.port], &json!({}), &[]);
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("recipients.csv");
    let contacts = "contact_number,customer_name,plan\n+919876543210,Amitesh,Pro\nnobody,Riya,Starter\n\
                    +918765432109,Rao,Starter\n";
    fs::write(&file, contacts).expect("written");
    let upload = Command::new("curl")
        .args(["--silent", "--location", &format!("http://{}/batches", rig.product.api)])
        .args(["--header", &format!("Authorization: Bearer {API_KEY}")])
        .args(["--form", &format!("agent_id=\"{}\"", rig.ids.agent_id)])
        .args(["--form", &format!("file=@\"{}\"", file.display())])
        .args(["--form", &format!("from_phone_numbers=\"{NUMBER}\"")])
        .args([
            "--form",
            "retry_config={\"enabled\":true,\"max_retries\":2,\"retry_intervals_minutes\":[15,30]}",
        ])
        .output()
        .expect("curl runs; tests/run installs it");
    let made: Value = serde_json::from_slice(&upload.stdout).unwrap_or_default();
    assert_eq!(made["state"], "created", "{}", String::from_utf8_lossy(&upload.stdout));
    let batch = made["batch_id"].as_str().expect("an id");
    let schedule = Command::new("curl")
        .args(["--silent", "--location", &format!("http://{}/batches/{batch}/schedule", rig.product.api)])
        .args(["--header", &format!("Authorization: Bearer {API_KEY}")])
        .args([
            "--form",
            "scheduled_at=\"2026-05-19T18:30:00+05:30\"",
            "--form",
            "bypass_call_guardrails=false",
        ])
        .output()
        .expect("curl runs");
    let scheduled: Value = serde_json::from_slice(&schedule.stdout).unwrap_or_default();
    assert_eq!(scheduled, json!({"message": "success", "state": "scheduled"}));
    let told = called.finish(&rig.product);
    let mut records = rig.product.ended_calls(&rig.ids.agent_id, 2);
    records.sort_by_key(|record| record["user_number"].to_string());
    let seen: Vec<(&Value, &Value)> = records
        .iter()
        .map(|record| (&record["user_number"], &record["context_details"]["recipient_data"]["customer_name"]))
        .collect();
    assert_eq!(
        seen,
        [(&json!("+918765432109"), &json!("Rao")), (&json!("+919876543210"), &json!("Amitesh"))]
    );
    for record in &records {
        assert_eq!(
            (&record["status"], &record["batch_id"]),
            (&json!("completed"), &json!(batch)),
            "{record}"
        );
        let callee = record["user_number"].as_str().expect("a number");
        assert!(told.contains(&format!("INVITE sip:{callee}@127.0.0.1:")), "{told}");
    }
    let (_, shown) = rig.product.get(&format!("/batches/{batch}"));
    assert_eq!(shown["status"], "executed", "{shown}");
    assert_eq!(shown["execution_status"], json!({"completed": 2}));
    assert_eq!((&shown["valid_contacts"], &shown["total_contacts"]), (&json!(2), &json!(3)));
}
