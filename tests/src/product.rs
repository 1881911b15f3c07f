//! The real binary under test: started on free ports in a folder of its own, provisioned over
//! its own REST API, ended by its process id. Used by the end-to-end and interop tests.

use std::fs;
use std::io::Read;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// The key that started servers accept for the account `default`.
pub const API_KEY: &str = "bn-test-key-0123456789";

/// How long the server may take to say it is ready.
const START_TIMEOUT: Duration = Duration::from_secs(20);

/// The path of the `tandem` binary: `TANDEM_BIN`, or built once by this test run.
#[must_use]
pub fn binary() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        if let Some(path) = std::env::var_os("TANDEM_BIN") {
            return path.into();
        }
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests/ is in the workspace");
        let output = Command::new(option_env!("CARGO").unwrap_or("cargo"))
            // Of the whole workspace, so that what it is made of has the features, and so the files, of the tests' own build.
            .args(["build", "--workspace", "--bin", "tandem", "--message-format=json", "--quiet"])
            // Optimised for those who measure, in the profile of the tests for the others.
            .args((!cfg!(debug_assertions)).then_some("--release"))
            .current_dir(workspace)
            .stderr(Stdio::inherit())
            .output()
            .expect("cargo runs");
        assert!(output.status.success(), "the binary does not build");
        String::from_utf8_lossy(&output.stdout)
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .find_map(|message| Some(PathBuf::from(message["executable"].as_str()?)))
            .expect("cargo names the binary it built")
    })
}

/// A free port for UDP and TCP on 127.0.0.1, never handed out twice in one test process.
#[must_use]
pub fn free_port() -> u16 {
    loop {
        let port =
            UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        // Below the kernel's ephemeral range nobody else picks ports at random.
        let candidate = 10_000 + port % 10_000;
        let is_free = UdpSocket::bind(("127.0.0.1", candidate)).is_ok()
            && TcpListener::bind(("127.0.0.1", candidate)).is_ok();
        if is_free && !is_taken(candidate) {
            return candidate;
        }
    }
}

fn is_taken(port: u16) -> bool {
    static TAKEN: std::sync::Mutex<std::collections::BTreeSet<u16>> =
        std::sync::Mutex::new(std::collections::BTreeSet::new());
    !TAKEN.lock().expect("no test panics while it holds the set").insert(port)
}

/// A range of 200 RTP ports of its own for each started server, clear of the ephemeral range.
fn rtp_range() -> (u16, u16) {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side start at different places.
    let offset = (std::process::id() % 7) as u16 * 1_600 + NEXT.fetch_add(1, Ordering::Relaxed) % 8 * 200;
    (20_000 + offset, 20_199 + offset)
}

/// A running server. Dropping it ends its process and removes its folder.
#[derive(Debug)]
pub struct Product {
    child: Child,
    folder: tempfile::TempDir,
    /// Where it takes SIP over UDP and TCP.
    pub sip: SocketAddr,
    /// Where its REST API is.
    pub api: SocketAddr,
}

impl Product {
    /// Starts `tandem serve` on free ports of 127.0.0.1 and waits until it is ready.
    #[must_use]
    pub fn start() -> Self {
        Self::start_with("")
    }

    /// The same, with more lines of TOML at the end of its configuration.
    #[must_use]
    pub fn start_with(more_configuration: &str) -> Self {
        let (first, last) = rtp_range();
        Self::launch(&[], "127.0.0.1:0", (first, last), more_configuration, &[])
    }

    /// The same, taking SIP on all addresses, of IPv4 and IPv6, as the defaults do; [`Self::sip`] names
    /// 127.0.0.1.
    #[must_use]
    pub fn start_everywhere() -> Self {
        Self::launch(&[], "0.0.0.0:0 [::]:0", rtp_range(), "", &[])
    }

    /// The same, with more variables in its environment: `TANDEM__STORE__URL` and the like override the
    /// configuration.
    #[must_use]
    pub fn start_in(environment: &[(&str, &str)]) -> Self {
        Self::launch(&[], "127.0.0.1:0", rtp_range(), "", environment)
    }

    /// Starts it behind another command (`taskset -c 0`), with this many RTP ports and more keys of its
    /// configuration in the environment.
    ///
    /// # Panics
    /// When the range does not fit below the kernel's ephemeral ports.
    #[must_use]
    pub fn start_under(
        launcher: &[String],
        rtp_ports: u16,
        more_configuration: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        const FIRST: u16 = 20_000;
        let last = FIRST.checked_add(rtp_ports).filter(|last| *last < 32_768);
        let ports = (FIRST, last.expect("fewer RTP ports"));
        Self::launch(launcher, "127.0.0.1:0", ports, more_configuration, environment)
    }

    /// `listeners` are addresses with port 0, which stands for one free port of all of them.
    fn launch(
        launcher: &[String],
        listeners: &str,
        (first, last): (u16, u16),
        more_configuration: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let sip = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let listeners: Vec<String> =
            listeners.split(' ').map(|address| address.replace(":0", &format!(":{}", sip.port()))).collect();
        let api = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let configuration = format!(
            "[node]\nname = \"test\"\n[sip]\nudp = {listeners:?}\ntcp = {listeners:?}\n\
             [media]\nports = \"{first}-{last}\"\n[api]\nlisten = \"{api}\"\n\
             [store]\nurl = \"sqlite:{}\"\n{more_configuration}\n",
            folder.path().join("tandem.db").display()
        );
        let file = folder.path().join("tandem.toml");
        fs::write(&file, configuration).expect("written");
        let child = spawn(launcher, folder.path(), environment);
        let mut product = Self { child, folder, sip, api };
        product.wait_until_ready();
        product
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            if self.get("/ready").0 == 200 {
                return;
            }
            let ended = self.child.try_wait().expect("the process can be asked");
            assert!(ended.is_none(), "the server ended with {ended:?}:\n{}", self.log());
            assert!(Instant::now() < deadline, "the server is not ready:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// The process id.
    #[must_use]
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process at once, as a fault or the kernel would.
    ///
    /// # Panics
    /// When the system has no `kill`.
    pub fn kill(&self) {
        let status = Command::new("kill").args(["-KILL", &self.process_id().to_string()]).status();
        assert!(status.expect("`kill` runs").success(), "the server had ended before");
    }

    /// Kills the process and starts another over the same folder: the same configuration, ports and store, and nothing
    /// of what was in memory.
    pub fn kill_and_start_again(&mut self) {
        self.kill();
        self.child.wait().expect("a killed process ends");
        self.child = spawn(&[], self.folder.path(), &[]);
        self.wait_until_ready();
    }

    /// The memory it holds, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
        line.split_ascii_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).unwrap_or(0) * 1_024
    }

    /// The sum of a metric's samples whose line holds `label`.
    #[must_use]
    pub fn metric(&self, name: &str, label: &str) -> f64 {
        self.metrics()
            .lines()
            .filter(|line| line.starts_with(name) && line.contains(label))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    }

    /// Waits until a metric has come to `least`: some are counted elsewhere and handed on to the page once a second.
    ///
    /// # Panics
    /// After ten seconds.
    pub fn until_metric(&self, name: &str, label: &str, least: f64) {
        let missing = || format!("{name}{{{label}}} is {}, not {least}", self.metric(name, label));
        let is_there = || (self.metric(name, label) >= least).then_some(());
        crate::awaited::until(Duration::from_secs(10), missing, is_there);
    }

    /// The page of metrics; empty when it is not served.
    #[must_use]
    pub fn metrics(&self) -> String {
        let page = ureq::get(format!("http://{}/metrics", self.api)).call();
        page.ok().and_then(|mut page| page.body_mut().read_to_string().ok()).unwrap_or_default()
    }

    /// Everything the server has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Waits for the process to end by itself; `None` when it is still there after `timeout`.
    pub fn wait(&mut self, timeout: Duration) -> Option<std::process::ExitStatus> {
        let deadline = Instant::now() + timeout;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("the process can be asked") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        None
    }

    /// GET with the test key: status and JSON body (`Null` when the body is no JSON; 0 when
    /// nobody listens).
    #[must_use]
    pub fn get(&self, path: &str) -> (u16, Value) {
        self.request("GET", path, None)
    }

    /// POST of a JSON body with the test key.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.request("POST", path, Some(body))
    }

    /// Any request with the test key.
    #[must_use]
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.api))
            .header("Authorization", format!("Bearer {API_KEY}"))
            .header("Content-Type", "application/json");
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = request.body(body).expect("a request");
        match agent.run(request) {
            Ok(mut response) => {
                let mut text = String::new();
                let read = response.body_mut().as_reader().read_to_string(&mut text);
                read.expect("a body that ends");
                let value = serde_json::from_str(&text).unwrap_or(Value::Null);
                (response.status().as_u16(), value)
            }
            Err(_) => (0, Value::Null),
        }
    }

    /// GET with the test key: status and body as it comes.
    #[must_use]
    pub fn bytes(&self, path: &str) -> (u16, Vec<u8>) {
        self.bytes_as(path, API_KEY)
    }

    /// The same with another key.
    ///
    /// # Panics
    /// When the server hangs up in the middle of the body.
    #[must_use]
    pub fn bytes_as(&self, path: &str, key: &str) -> (u16, Vec<u8>) {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(Duration::from_secs(10)))
            .build()
            .into();
        let asked = agent
            .get(format!("http://{}{path}", self.api))
            .header("Authorization", format!("Bearer {key}"))
            .call();
        let Ok(mut response) = asked else { return (0, Vec::new()) };
        let mut bytes = Vec::new();
        response.body_mut().as_reader().read_to_end(&mut bytes).expect("a body that ends");
        (response.status().as_u16(), bytes)
    }

    /// The folder it runs in.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Creates an agent at `url`, a trunk as `trunk` says, the number `did` on it, and maps one
    /// to the other. Returns the agent's id.
    ///
    /// # Panics
    /// When the server refuses any of it.
    pub fn provision(&self, did: &str, trunk: &Value, websocket: &Value) -> Provisioned {
        let (status, agent) = self.post(
            "/v2/agent",
            &json!({"agent_config": {"agent_name": format!("agent of {did}"), "telephony_provider": "sip-trunk"},
                    "websocket": websocket}),
        );
        assert_eq!(status, 200, "agent: {agent}");
        let (status, created) = self.post("/sip-trunks/trunks", trunk);
        assert_eq!(status, 201, "trunk: {created}");
        let trunk_id = text(&created["id"]);
        let numbers = format!("/sip-trunks/trunks/{trunk_id}/numbers");
        let (status, number) = self.post(&numbers, &json!({"phone_number": did}));
        assert_eq!(status, 201, "number: {number}");
        let agent_id = text(&agent["agent_id"]);
        let mapping = json!({"agent_id": agent_id, "phone_number_id": number["id"]});
        let (status, mapped) = self.post("/inbound/setup", &mapping);
        assert_eq!(status, 200, "mapping: {mapped}");
        Provisioned { agent_id, trunk_id, number_id: text(&number["id"]) }
    }

    /// The records of an agent's calls, oldest first, once there are `count` of them that have
    /// ended; panics when that takes more than ten seconds.
    #[must_use]
    pub fn ended_calls(&self, agent_id: &str, count: usize) -> Vec<Value> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let (_, page) = self.get(&format!("/v2/agent/{agent_id}/executions?page_size=50"));
            let mut calls: Vec<Value> = page["data"].as_array().cloned().unwrap_or_default();
            calls.retain(|call| is_terminal(call["status"].as_str().unwrap_or_default()));
            if calls.len() >= count {
                calls.reverse();
                return calls;
            }
            assert!(
                Instant::now() < deadline,
                "{} of {count} calls ended: {page}\n{}",
                calls.len(),
                self.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The server over a folder that holds its configuration; its log goes to the end of the one that is there.
fn spawn(launcher: &[String], folder: &Path, environment: &[(&str, &str)]) -> Child {
    let log = fs::OpenOptions::new().create(true).append(true).open(folder.join("log")).expect("a log file");
    let mut words = launcher.iter().map(AsRef::as_ref).chain([binary().as_os_str()]);
    Command::new(words.next().expect("the binary at least"))
        .args(words)
        .args(["serve", "--config"])
        .arg(folder.join("tandem.toml"))
        .current_dir(folder)
        .env("TANDEM_API_KEY", API_KEY)
        .envs(environment.iter().copied())
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a handle"))
        .stderr(log)
        .spawn()
        .expect("the binary starts")
}

impl Drop for Product {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `Product::provision` created.
#[derive(Debug, Clone)]
pub struct Provisioned {
    /// Id of the agent.
    pub agent_id: String,
    /// Id of the trunk.
    pub trunk_id: String,
    /// Id of the phone number.
    pub number_id: String,
}

/// The body of a trunk whose callers are known by their address.
#[must_use]
pub fn ip_trunk(name: &str, cidr: &str) -> Value {
    json!({
        "name": name, "provider": "test", "auth_type": "ip-based", "inbound_enabled": true,
        "gateways": [{"gateway_address": "127.0.0.1", "port": 5060}],
        "ip_identifiers": [{"ip_address": cidr}],
        "qualify_frequency": 0,
    })
}

/// The body of a trunk whose callers prove a user name and password.
#[must_use]
pub fn userpass_trunk(name: &str, user: &str, password: &str) -> Value {
    json!({
        "name": name, "provider": "test", "auth_type": "userpass", "inbound_enabled": true,
        "auth_username": user, "auth_password": password,
        "gateways": [{"gateway_address": "127.0.0.1", "port": 5060}],
        "qualify_frequency": 0,
    })
}

fn is_terminal(status: &str) -> bool {
    const TERMINAL: [&str; 8] =
        ["completed", "balance-low", "busy", "no-answer", "canceled", "failed", "stopped", "error"];
    TERMINAL.contains(&status)
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("a string, not {value}")).to_owned()
}
