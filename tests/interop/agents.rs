//! Agent backends from the public registries, unmodified, each over its own dialect.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_tests::product::{Product, Provisioned, free_port, ip_trunk};

use crate::sipp;

const DID: &str = "+918047444444";

/// An agent backend as a process; dropping it ends it.
struct Backend {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Backend {
    fn start(mut command: Command) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let port = free_port();
        let child = command
            .arg(port.to_string())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("the agent backend starts; tests/run installs it");
        let mut backend = Self { child, folder, port };
        backend.wait_for("listening", Duration::from_secs(60));
        backend
    }

    /// A Python backend of `agents/` in the virtual environment that `tests/run` makes for it.
    fn python(environment: &str, script: &str, arguments: &[&str]) -> Self {
        let mut command = Command::new(peers_folder().join(environment).join("bin/python"));
        command.arg(agents_folder().join(script)).args(arguments);
        Self::start(command)
    }

    fn url(&self) -> String {
        format!("ws://127.0.0.1:{}/ws/{{execution_id}}", self.port)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits until the backend has printed a line that starts like this.
    fn wait_for(&mut self, start: &str, timeout: Duration) {
        let deadline = Instant::now() + timeout;
        while !self.log().lines().any(|line| line.starts_with(start)) {
            let ended = self.child.try_wait().expect("the process can be asked");
            assert!(ended.is_none(), "the backend ended with {ended:?}:\n{}", self.log());
            assert!(Instant::now() < deadline, "no line {start:?} in:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Asserts that lines starting like these were printed in this order.
    fn assert_printed_in_order(&self, starts: &[&str]) {
        let log = self.log();
        let mut lines = log.lines();
        for start in starts {
            assert!(lines.any(|line| line.starts_with(start)), "no {start:?} in its place in:\n{log}");
        }
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Where `tests/run` has installed the backends.
fn peers_folder() -> PathBuf {
    std::env::var_os("TANDEM_PEERS").expect("tests/run sets TANDEM_PEERS").into()
}

fn agents_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/agents")
}

fn provision(product: &Product, websocket: &Value) -> Provisioned {
    product.provision(DID, &ip_trunk("carrier", "127.0.0.1/32"), websocket)
}

fn assert_completed_by_the_agent(product: &Product, ids: &Provisioned) {
    let record = product.ended_calls(&ids.agent_id, 1).pop().expect("one call");
    assert_eq!(record["status"], "completed", "{record}");
    assert_eq!(record["telephony_data"]["hangup_by"], "Callee", "{record}");
}

/// A call to a pipecat agent over this dialect: three keys, an interruption, its end. Returns what it said of the call.
fn pipecats_serializer(dialect: &str) -> String {
    let mut backend = Backend::python("pipecat", "pipecat_agent.py", &[dialect]);
    let product = Product::start();
    let websocket = json!({"url": backend.url(), "dialect": dialect, "parameters": {"campaign": "spring"}});
    let ids = provision(&product, &websocket);
    sipp::run_against(&product, product.sip, "keys_for_the_agent", DID, &[]);
    backend.wait_for("done", Duration::from_secs(10));
    backend.assert_printed_in_order(&["audio", "key 1", "key 2", "interrupted", "key 9", "ending"]);
    assert_completed_by_the_agent(&product, &ids);
    let log = backend.log();
    assert!(!log.contains("ERROR") && !log.contains("Traceback"), "{log}");
    let call = log.lines().find(|line| line.starts_with("call ")).expect("what it knows of the call");
    assert!(call.starts_with(&format!("call {}", detected_as(dialect))), "{call}");
    call.to_owned()
}

/// Vobiz' messages are Plivo's: pipecat tells no difference.
fn detected_as(dialect: &str) -> &str {
    if dialect == "vobiz" { "plivo" } else { dialect }
}

#[test]
fn a_pipecat_agent_for_twilio_hears_keys_is_interrupted_and_hangs_up() {
    let call = pipecats_serializer("twilio");
    assert!(call.contains("stream=MZ") && call.contains("call=CA") && call.contains("spring"), "{call}");
}

#[test]
fn a_pipecat_agent_for_plivo_hears_keys_is_interrupted_and_hangs_up() {
    pipecats_serializer("plivo");
}

#[test]
fn a_pipecat_agent_for_vobiz_hears_keys_is_interrupted_and_hangs_up() {
    pipecats_serializer("vobiz");
}

#[test]
fn a_pipecat_agent_for_exotel_hears_keys_is_interrupted_and_hangs_up() {
    let call = pipecats_serializer("exotel");
    assert!(call.contains("from=+919800000001"), "{call}");
}

#[test]
fn a_pipecat_agent_for_telnyx_hears_keys_is_interrupted_and_hangs_up() {
    let call = pipecats_serializer("telnyx");
    assert!(call.contains("call=v3:") && call.contains("from=+919800000001"), "{call}");
}

#[test]
fn a_pipecat_agent_for_vonage_hears_keys_is_interrupted_and_hangs_up() {
    pipecats_serializer("vonage");
}

#[test]
fn a_pipecat_agent_for_genesys_hears_keys_is_interrupted_and_hangs_up() {
    let call = pipecats_serializer("genesys");
    assert!(call.contains("ani=+919800000001") && call.contains("spring"), "{call}");
}

/// A call to Bolna's own handlers for this provider, over this dialect: greeted, two keys, interrupted, hung up.
fn bolnas_handlers(provider: &str, dialect: &str) -> Backend {
    let mut backend = Backend::python("bolna", "bolna_handlers.py", &[provider]);
    let product = Product::start();
    let ids = provision(&product, &json!({"url": backend.url(), "dialect": dialect}));
    sipp::run_against(&product, product.sip, "keys_after_the_greeting", DID, &[]);
    backend.wait_for("disconnected", Duration::from_secs(10));
    backend.assert_printed_in_order(&[
        "connected",
        "greeting",
        "greeted",
        "keys",
        "interrupted",
        "keys",
        "hung up",
    ]);
    assert_completed_by_the_agent(&product, &ids);
    backend
}

#[test]
fn bolnas_chan_websocket_handlers_greet_hear_keys_drain_and_hang_up() {
    let backend = bolnas_handlers("sip-trunk", "asterisk");
    assert!(!backend.log().contains("duration estimate"), "marks came back in time:\n{}", backend.log());
}

#[test]
fn bolnas_mod_audio_stream_handlers_greet_hear_keys_and_hang_up() {
    bolnas_handlers("freeswitch", "bolna");
}

#[test]
fn a_chan_websocket_client_library_works_in_json_control_format() {
    let program = peers_folder().join("cargo/debug/chan-websocket-json");
    let mut backend = Backend::start(Command::new(program));
    let product = Product::start();
    let websocket = json!({"url": backend.url(), "dialect": "asterisk", "control_format": "json"});
    let ids = provision(&product, &websocket);
    sipp::run_against(&product, product.sip, "keys_for_the_agent", DID, &[]);
    backend.wait_for("disconnected", Duration::from_secs(10));
    backend.assert_printed_in_order(&[
        "event MediaStart",
        "event DtmfEnd",
        "event MediaBufferingCompleted",
        "event MediaMarkProcessed",
        "event DtmfEnd",
        "event DtmfEnd",
        "event QueueDrained",
    ]);
    // The library keeps events and audio in two queues, and which of them it has first is its own affair.
    backend.assert_printed_in_order(&["audio 160"]);
    assert_completed_by_the_agent(&product, &ids);
}
