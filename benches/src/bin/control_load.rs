//! The control plane at size: a store of many accounts, trunks and numbers, the real server over it, and clients.
//!
//! `cargo run --release -p tandem-benches --bin control_load -- [--database sqlite|postgres] [--accounts 1000]
//! [--trunks 100000] [--numbers 1000000] [--clients 8] [--seconds 10]`
//!
//! Prints: time to start, to the first call that is taken, and until everything is read; memory, requests per second and
//! percentiles of get, list and create, and the time from a number's creation to an INVITE that finds it. Look-ups are
//! `routing_load`'s.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use sqlx::{AnyPool, AssertSqlSafe};
use tandem_benches::histogram::Histogram;
use tandem_benches::process::resident_bytes;
use tandem_server::routing::read_whole;
use tandem_server::secrets::{Sealer, hash_api_key};
use tandem_server::store::Store;
use tandem_tests::postgres::{Cluster, Durability};
use tandem_tests::product::{binary, free_port};

const SECRET_KEY: &str = "a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4a1b2c3d4";

struct Plan {
    on_postgres: bool,
    accounts: u64,
    trunks: u64,
    numbers: u64,
    clients: u64,
    seconds: u64,
}

impl Plan {
    fn from_arguments() -> Self {
        let mut plan = Self {
            on_postgres: false,
            accounts: 1_000,
            trunks: 100_000,
            numbers: 1_000_000,
            clients: 8,
            seconds: 10,
        };
        let mut arguments = std::env::args().skip(1);
        while let Some(name) = arguments.next() {
            let value = arguments.next().unwrap_or_else(|| panic!("{name} needs a value"));
            let number = || value.parse().unwrap_or_else(|_| panic!("{name} needs a number"));
            match name.as_str() {
                "--database" => plan.on_postgres = value == "postgres",
                "--accounts" => plan.accounts = number(),
                "--trunks" => plan.trunks = number(),
                "--numbers" => plan.numbers = number(),
                "--clients" => plan.clients = number(),
                "--seconds" => plan.seconds = number(),
                _ => panic!("there is no {name}"),
            }
        }
        assert!(
            plan.numbers >= plan.trunks && plan.trunks >= plan.accounts && plan.accounts >= plan.clients,
            "each account has a trunk, each trunk a number, each client an account"
        );
        plan
    }
}

fn main() {
    let plan = Plan::from_arguments();
    let folder = tempfile::tempdir().expect("a folder");
    let cluster = plan.on_postgres.then(|| Cluster::start(Durability::Disk));
    let url = match &cluster {
        Some(cluster) => cluster.database(),
        None => format!("sqlite:{}", folder.path().join("tandem.db").display()),
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let began = Instant::now();
    runtime.block_on(fill(&url, &plan));
    println!(
        "{}: {} accounts, {} trunks, {} numbers, filled in {:.1} s",
        if plan.on_postgres { "PostgreSQL" } else { "SQLite" },
        plan.accounts,
        plan.trunks,
        plan.numbers,
        began.elapsed().as_secs_f64()
    );
    reading(&runtime, &url);
    let node = Node::start(folder.path(), &url);
    println!(
        "start to ready: {:.2} s; resident: {} MiB",
        node.took.as_secs_f64(),
        resident_bytes(node.process.id()).expect("the server runs") >> 20
    );
    starting(&node, &plan);
    requests(&node, &plan);
    first_invite(&node);
    println!(
        "resident at the end: {} MiB",
        resident_bytes(node.process.id()).expect("the server runs") >> 20
    );
}

async fn open(url: &str) -> Store {
    let sealer = Sealer::find(Some(SECRET_KEY), None, None).expect("a key");
    Store::open(url, sealer).await.expect("the store opens")
}

/// Fills the tables by statements of the database's own: the API would need hours.
async fn fill(url: &str, plan: &Plan) {
    open(url).await.close().await;
    let pool = AnyPool::connect(url).await.expect("the database");
    let run = async |statement: String| {
        sqlx::query(AssertSqlSafe(statement)).execute(&pool).await.expect("a filling statement");
    };
    let count = |rows: u64| {
        format!("WITH RECURSIVE seq(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM seq WHERE n < {})", rows - 1)
    };
    let id = |letter: char, of: &str| format!("'{letter}' || CAST(100000000 + {of} AS TEXT)");
    let account = |of: &str, each: u64| format!("'account' || CAST({of} / {each} AS TEXT)");
    let (per_trunk, per_account) = (plan.numbers / plan.trunks, plan.trunks / plan.accounts);
    run(format!(
        "INSERT INTO accounts (id, created_at) {} SELECT {}, n FROM seq",
        count(plan.accounts),
        account("n", 1)
    ))
    .await;
    run(format!(
        "INSERT INTO agents (id, account_id, name, body, created_at, updated_at) {} SELECT {}, {}, 'agent', \
         '{{\"websocket\": {{\"url\": \"ws://127.0.0.1:9/\", \"dialect\": \"asterisk\"}}}}', n, n FROM seq",
        count(plan.accounts),
        id('g', "n"),
        account("n", 1)
    ))
    .await;
    run(format!(
        "INSERT INTO trunks (id, account_id, name, provider, auth_type, codecs_allow, codecs_disallow, transport, \
         direct_media, rtp_symmetric, force_rport, ice_support, media_encryption, media_encryption_optimistic, \
         qualify_frequency, inbound_enabled, outbound_leading_plus, is_active, created_at, updated_at) {} \
         SELECT {}, {}, 'trunk ' || CAST(n AS TEXT), 'x', 'ip-based', 'ulaw,alaw', 'all', 'transport-udp', \
         0, 1, 1, 1, 'no', 0, 0, 1, 1, 1, n, n FROM seq",
        count(plan.trunks),
        id('t', "n"),
        account("n", per_account)
    ))
    .await;
    run(format!(
        "INSERT INTO gateways (id, account_id, trunk_id, position, address, port, priority, created_at) {} \
         SELECT {}, {}, {}, 0, 'carrier.example', 5060, 1, n FROM seq",
        count(plan.trunks),
        id('w', "n"),
        account("n", per_account),
        id('t', "n")
    ))
    .await;
    // A network of each trunk's own, and every tenth also in one that a carrier's customers share.
    run(format!(
        "INSERT INTO ip_identifiers (id, account_id, trunk_id, position, ip_address) {} SELECT {}, {}, {}, 0, \
         CASE WHEN n % 10 = 0 THEN '192.0.2.0/24' ELSE '10.' || CAST(n / 4096 AS TEXT) || '.' || \
         CAST(n / 16 % 256 AS TEXT) || '.' || CAST(n % 16 * 16 AS TEXT) || '/28' END FROM seq",
        count(plan.trunks),
        id('i', "n"),
        account("n", per_account),
        id('t', "n")
    ))
    .await;
    run(format!(
        "INSERT INTO numbers (id, account_id, trunk_id, phone_number, digits, e164_check_enabled, is_active, \
         agent_id, created_at, updated_at) {} SELECT {}, {}, {}, '+91' || CAST(1000000000 + n AS TEXT), \
         '91' || CAST(1000000000 + n AS TEXT), 0, 1, {}, n, n FROM seq",
        count(plan.numbers),
        id('n', "n"),
        account("n", per_account * per_trunk),
        id('t', &format!("n / {per_trunk}")),
        id('g', &format!("n / {}", per_account * per_trunk))
    ))
    .await;
    // The first trunk's calls come from here too.
    run("INSERT INTO ip_identifiers (id, account_id, trunk_id, position, ip_address) \
         VALUES ('here', 'account0', 't100000000', 1, '127.0.0.0/8')"
        .to_owned())
    .await;
    run("INSERT INTO number_claims (digits, number_id, trunk_id) SELECT digits, id, trunk_id FROM numbers"
        .to_owned())
    .await;
    for account in 0..plan.clients {
        let statement = "INSERT INTO api_keys (id, account_id, prefix, hash, scopes, created_at) \
                         VALUES ($1, $2, 'k', $3, '', 0)";
        sqlx::query(statement)
            .bind(format!("k{account}"))
            .bind(format!("account{account}"))
            .bind(hash_api_key(&key(account)))
            .execute(&pool)
            .await
            .expect("a key");
    }
    run("ANALYZE".to_owned()).await;
    pool.close().await;
}

fn key(account: u64) -> String {
    format!("the-key-of-account-{account}")
}

/// What a start reads of the store, in this process: time and memory of the routing table alone.
fn reading(runtime: &tokio::runtime::Runtime, url: &str) {
    let before = resident_bytes(std::process::id()).expect("this process runs");
    let began = Instant::now();
    let whole = runtime.block_on(async {
        let store = open(url).await;
        let table = read_whole(&store).await.expect("the store is read");
        store.close().await;
        table
    });
    let took = began.elapsed();
    let bytes = resident_bytes(std::process::id()).expect("this process runs").saturating_sub(before);
    println!(
        "routing table of {} numbers: read in {:.1} s, {} MiB",
        whole.number_count(),
        took.as_secs_f64(),
        bytes >> 20
    );
}

/// The real server, over the filled store.
struct Node {
    process: Child,
    api: SocketAddr,
    sip: SocketAddr,
    took: Duration,
}

impl Drop for Node {
    fn drop(&mut self) {
        // It may have ended by itself; there is nothing to be done about either.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Node {
    fn start(folder: &Path, url: &str) -> Self {
        let sip = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let began = Instant::now();
        let mut process = Command::new(binary())
            .arg("serve")
            .current_dir(folder)
            .env("TANDEM_API_KEY", "a-key-for-this-bench")
            .env("TANDEM_SECRET_KEY", SECRET_KEY)
            .env("TANDEM__STORE__URL", url)
            .env("TANDEM__SIP__UDP", sip.to_string())
            .env("TANDEM__SIP__TCP", "")
            .env("TANDEM__API__LISTEN", "127.0.0.1:0")
            .env("TANDEM__TELEMETRY__FORMAT", "json")
            // What is measured is the store and the API, not what an account may ask of them.
            .env("TANDEM__LIMITS__API_REQUESTS_PER_MINUTE", "100000000")
            .env("TANDEM__LIMITS__API_NARROW_PER_MINUTE", "100000000")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut log = BufReader::new(process.stderr.take().expect("its log"));
        let mut line = String::new();
        let api = loop {
            line.clear();
            assert!(
                log.read_line(&mut line).expect("its log") > 0,
                "the server ended before its API listened"
            );
            let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
            if entry["message"] == "the API listens" {
                break entry["address"].as_str().and_then(|text| text.parse().ok()).expect("an address");
            }
        };
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        let took = began.elapsed();
        Self { process, api, sip, took }
    }
}

/// One client's connection, kept alive.
struct Client {
    stream: BufReader<TcpStream>,
    key: String,
}

impl Client {
    fn of(node: &Node, account: u64) -> Self {
        let stream = TcpStream::connect(node.api).expect("the API");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream: BufReader::new(stream), key: key(account) }
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let body = body.map(Value::to_string).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            self.key,
            body.len()
        );
        self.stream.get_mut().write_all(request.as_bytes()).expect("the request is sent");
        let (mut status, mut length) = (0, 0);
        loop {
            let mut line = String::new();
            assert!(self.stream.read_line(&mut line).expect("an answer") > 0, "the server hung up");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            if let Some(rest) = line.strip_prefix("HTTP/1.1 ") {
                status = rest[..3].parse().expect("a status");
            } else if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).expect("a body");
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }
}

fn requests(node: &Node, plan: &Plan) {
    let per_account = plan.trunks / plan.accounts;
    let trunk =
        |account: u64, place: u64| format!("t{}", 100_000_000 + account * per_account + place % per_account);
    measure(node, plan, "get one trunk", |client, account, place| {
        let path = format!("/sip-trunks/trunks/{}", trunk(account, place));
        assert_eq!(client.ask("GET", &path, None).0, 200, "{path}");
    });
    measure(node, plan, "list the account's trunks, 20 a page", |client, _, _| {
        assert_eq!(client.ask("GET", "/sip-trunks/trunks?limit=20", None).0, 200);
    });
    measure(node, plan, "list all of the account's trunks", |client, _, _| {
        assert_eq!(client.ask("GET", "/sip-trunks/trunks", None).0, 200);
    });
    measure(node, plan, "create a number", |client, account, place| {
        let path = format!("/sip-trunks/trunks/{}/numbers", trunk(account, place));
        let body = json!({"phone_number": format!("+49{account:03}{place:08}")});
        let (status, answer) = client.ask("POST", &path, Some(&body));
        assert_eq!(status, 201, "{answer}");
    });
    measure(node, plan, "create a trunk", |client, account, place| {
        let body = json!({
            "name": format!("new {account} {place}"), "provider": "x", "auth_type": "ip-based",
            "gateways": [{"gateway_address": "192.0.2.1"}], "ip_identifiers": [{"ip_address": "198.51.100.0/24"}],
            "inbound_enabled": true,
        });
        let (status, answer) = client.ask("POST", "/sip-trunks/trunks", Some(&body));
        assert_eq!(status, 201, "{answer}");
    });
}

/// A call to one of the last numbers right after the start, and when the whole table is there.
fn starting(node: &Node, plan: &Plan) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a socket option");
    let number = format!("+91{}", 1_000_000_000 + plan.numbers / plan.trunks - 1);
    let began = Instant::now();
    let (first, last) = answers_to_invite(node, &socket, &number, 1_000_000);
    let answered = began.elapsed();
    let mut client = Client::of(node, 0);
    let read_before = client.ask("GET", "/ready", None).1["checks"]["routing"] == "ok";
    while client.ask("GET", "/ready", None).1["checks"]["routing"] != "ok" {
        std::thread::sleep(Duration::from_millis(20));
    }
    println!(
        "a call right after the start: {first} ... {last} after {:.1} ms{}; everything read {:.1} s after ready, \
         resident: {} MiB",
        answered.as_secs_f64() * 1e3,
        if read_before { " (everything was read by then)" } else { "" },
        began.elapsed().as_secs_f64(),
        resident_bytes(node.process.id()).expect("the server runs") >> 20
    );
}

/// As many clients as asked for, each an account of its own, one request after another.
fn measure(node: &Node, plan: &Plan, name: &str, act: impl Fn(&mut Client, u64, u64) + Sync) {
    let until = Instant::now() + Duration::from_secs(plan.seconds);
    let began = Instant::now();
    let delays: Vec<Histogram> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..plan.clients)
            .map(|account| {
                let act = &act;
                scope.spawn(move || {
                    let mut client = Client::of(node, account);
                    let mut delays = Histogram::default();
                    let mut place = 0;
                    while Instant::now() < until {
                        let began = Instant::now();
                        act(&mut client, account, place);
                        delays.record(began.elapsed());
                        place += 1;
                    }
                    delays
                })
            })
            .collect();
        clients.into_iter().map(|client| client.join().expect("a client")).collect()
    });
    let took = began.elapsed().as_secs_f64();
    let mut all = Histogram::default();
    delays.iter().for_each(|one| all.add(one));
    println!(
        "{name}: {:.0} requests/s, p50 {:.2} ms, p99 {:.2} ms",
        all.count() as f64 / took,
        all.percentile_ms(0.5),
        all.percentile_ms(0.99)
    );
}

/// From the request that creates a number to the first answer that shows it was found: the agent is nowhere, so a
/// number that is found gets another answer than one that is not.
fn first_invite(node: &Node) {
    let mut client = Client::of(node, 0);
    let body = json!({
        "name": "loopback", "provider": "x", "auth_type": "ip-based", "inbound_enabled": true,
        "gateways": [{"gateway_address": "192.0.2.1"}], "ip_identifiers": [{"ip_address": "127.0.0.0/8"}],
    });
    let (status, trunk) = client.ask("POST", "/sip-trunks/trunks", Some(&body));
    assert_eq!(status, 201, "{trunk}");
    let path = format!("/sip-trunks/trunks/{}/numbers", trunk["id"].as_str().expect("an id"));
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a socket option");
    let (mut delays, mut create, mut invites) = (Histogram::default(), Histogram::default(), 0);
    for call in 0..50 {
        let number = format!("+4477{call:08}");
        let began = Instant::now();
        let (status, made) = client.ask("POST", &path, Some(&json!({"phone_number": number})));
        assert_eq!(status, 201, "{made}");
        create.record(began.elapsed());
        loop {
            invites += 1;
            assert!(invites < 1_000, "the number is never found");
            let answer = answer_to_invite(node, &socket, &number, invites);
            let took = began.elapsed();
            // Found, it is refused with the same status for want of an agent: the verdict tells which it was.
            if !answer.contains("404") || knows(&mut client, &made["id"]) {
                delays.record(took);
                break;
            }
        }
    }
    println!(
        "a number's creation to the first INVITE that finds it: p50 {:.2} ms, p99 {:.2} ms, of which the creation \
         p50 {:.2} ms; {} INVITEs for {} numbers",
        delays.percentile_ms(0.5),
        delays.percentile_ms(0.99),
        create.percentile_ms(0.5),
        invites,
        delays.count()
    );
}

/// Whether the last verdict of the account names the number.
fn knows(client: &mut Client, number: &Value) -> bool {
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(1) {
        let (_, verdicts) = client.ask("GET", "/v1/verdicts?limit=1", None);
        let text = verdicts.to_string();
        if text.contains(number.as_str().expect("an id")) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

fn answer_to_invite(node: &Node, socket: &UdpSocket, number: &str, place: u32) -> String {
    answers_to_invite(node, socket, number, place).1
}

/// The first answer to an INVITE, and the first that is not 100.
fn answers_to_invite(node: &Node, socket: &UdpSocket, number: &str, place: u32) -> (String, String) {
    let local = socket.local_addr().expect("an address");
    let invite = format!(
        "INVITE sip:{number}@{} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{place};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:bench@{local}>;tag={place}\r\nTo: <sip:{number}@{}>\r\n\
         Call-ID: {place}@bench\r\nCSeq: 1 INVITE\r\nContact: <sip:bench@{local}>\r\nContent-Length: 0\r\n\r\n",
        node.sip, node.sip
    );
    socket.send_to(invite.as_bytes(), node.sip).expect("the INVITE is sent");
    let mut buffer = [0; 4_096];
    let mut first = None;
    loop {
        let length = socket.recv(&mut buffer).expect("an answer");
        let answer = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if !answer.contains(&format!("{place}@bench")) {
            continue;
        }
        let line = answer.lines().next().unwrap_or_default().to_owned();
        let first = first.get_or_insert_with(|| line.clone());
        if !line.starts_with("SIP/2.0 100") {
            return (first.clone(), line);
        }
    }
}
