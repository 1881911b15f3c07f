//! The real binary is killed while clients create, change and delete the same trunks and numbers: what was
//! acknowledged is there afterwards, on both databases.
//!
//! `TANDEM_KILL_POINTS` sets how often; every day it is a few times.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::base::Base;

const KEY: &str = "a-key-for-this-test-alone";

/// The real binary, running.
pub(crate) struct Node {
    process: Child,
    pub(crate) api: SocketAddr,
}

impl Node {
    /// Starts the binary on free ports over the folder's store, and waits until its API answers.
    fn start(folder: &Path, url: &str) -> Self {
        Self::start_at(folder, url, "127.0.0.1:0")
    }

    /// The same, with SIP over UDP at this address.
    pub(crate) fn start_at(folder: &Path, url: &str, sip: &str) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .arg("serve")
            .current_dir(folder)
            .env("TANDEM_API_KEY", KEY)
            // The key with which the test itself looks into the store afterwards.
            .env("TANDEM_SECRET_KEY", "a".repeat(64))
            .env("TANDEM__STORE__URL", url)
            .env("TANDEM__NODE__NAME", "n1")
            .env("TANDEM__SIP__UDP", sip)
            .env("TANDEM__SIP__TCP", "")
            .env("TANDEM__API__LISTEN", "127.0.0.1:0")
            .env("TANDEM__TELEMETRY__FORMAT", "json")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let api = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the server ended before its API listened");
            let Ok(entry) = serde_json::from_str::<Value>(&line) else { continue };
            if entry["message"] == "the API listens" {
                break entry["address"].as_str().unwrap().parse().unwrap();
            }
        };
        // The rest of the log is read and dropped, so that the server never waits for its reader.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { process, api }
    }

    pub(crate) fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One request on a connection of its own; `None` when the server was gone before it had answered whole. It waits as
/// long as the server lives: on a machine with other work a disk may take its time.
pub(crate) fn request(api: SocketAddr, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(api).ok()?;
    let body = body.to_string();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {KEY}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body.as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, serde_json::from_str(body).ok()?))
}

fn trunk(name: &str) -> Value {
    json!({
        "name": name, "provider": "x", "auth_type": "userpass", "auth_username": "u", "auth_password": "p",
        "gateways": [{"gateway_address": "carrier.example"}],
    })
}

const CLIENTS: u64 = 32;

/// After how long without a single acknowledgement of 32 clients something hangs.
const STANDSTILL: Duration = Duration::from_secs(120);

/// What the clients know of a number.
#[derive(Clone, Debug, Default)]
struct Number {
    trunk: String,
    /// A removal was sent; and acknowledged.
    is_leaving: bool,
    is_gone: bool,
}

/// What the clients know of a trunk.
#[derive(Clone, Debug, Default)]
struct Trunk {
    /// A deletion was sent; and acknowledged.
    is_leaving: bool,
    is_gone: bool,
    /// Descriptions given to it: when they were sent and when acknowledged.
    descriptions: BTreeMap<String, (Instant, Option<Instant>)>,
}

/// What was acknowledged, by identifier.
#[derive(Debug, Default)]
struct Ledger {
    trunks: BTreeMap<String, Trunk>,
    numbers: BTreeMap<String, Number>,
    acknowledged: u64,
}

impl Ledger {
    fn standing_trunks(&self) -> Vec<String> {
        self.trunks.iter().filter(|(_, trunk)| !trunk.is_leaving).map(|(id, _)| id.clone()).collect()
    }

    fn standing_numbers(&self) -> Vec<(String, String)> {
        let standing = self.numbers.iter().filter(|(_, number)| !number.is_leaving);
        standing.map(|(id, number)| (id.clone(), number.trunk.clone())).collect()
    }
}

/// Whether the server was too busy to carry a request out: what it asked for is neither acknowledged nor excluded.
fn is_put_off(status: u16) -> bool {
    status == 503
}

/// Changes at random what all clients share, until the server is gone.
fn client(api: SocketAddr, seed: u64, ledger: &Mutex<Ledger>) {
    let mut state = seed;
    let mut dice = move |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % sides
    };
    for round in 0.. {
        let (trunks, numbers) = {
            let ledger = ledger.lock().unwrap();
            (ledger.standing_trunks(), ledger.standing_numbers())
        };
        let act = dice(10);
        let done = if trunks.len() < 4 || (act == 0 && trunks.len() < 12) {
            create_trunk(api, &format!("{seed} {round}"), ledger)
        } else {
            let trunk = &trunks[dice(trunks.len())];
            match act {
                1 if trunks.len() > 4 => delete_trunk(api, trunk, ledger),
                2..=4 => describe(api, trunk, &format!("{seed} {round}"), ledger),
                5 | 6 if !numbers.is_empty() => {
                    let (number, trunk) = &numbers[dice(numbers.len())];
                    remove_number(api, trunk, number, ledger)
                }
                _ => add_number(api, trunk, &format!("+{seed}{round:06}"), ledger),
            }
        };
        if done.is_none() {
            return;
        }
    }
}

fn create_trunk(api: SocketAddr, name: &str, ledger: &Mutex<Ledger>) -> Option<()> {
    let (status, made) = request(api, "POST", "/sip-trunks/trunks", &trunk(name))?;
    if is_put_off(status) {
        return Some(());
    }
    assert_eq!(status, 201, "{made}");
    let mut ledger = ledger.lock().unwrap();
    ledger.trunks.insert(made["id"].as_str().unwrap().to_owned(), Trunk::default());
    ledger.acknowledged += 1;
    Some(())
}

fn delete_trunk(api: SocketAddr, id: &str, ledger: &Mutex<Ledger>) -> Option<()> {
    ledger.lock().unwrap().trunks.get_mut(id).unwrap().is_leaving = true;
    let (status, answer) = request(api, "DELETE", &format!("/sip-trunks/trunks/{id}"), &json!({}))?;
    if is_put_off(status) {
        return Some(());
    }
    assert!(matches!(status, 200 | 404), "{answer}");
    let mut ledger = ledger.lock().unwrap();
    ledger.trunks.get_mut(id).unwrap().is_gone = true;
    ledger.acknowledged += 1;
    Some(())
}

fn describe(api: SocketAddr, id: &str, text: &str, ledger: &Mutex<Ledger>) -> Option<()> {
    let sent = Instant::now();
    let note = |acknowledged| {
        let mut ledger = ledger.lock().unwrap();
        ledger.trunks.get_mut(id).unwrap().descriptions.insert(text.to_owned(), (sent, acknowledged));
        ledger.acknowledged += u64::from(acknowledged.is_some());
    };
    note(None);
    let body = json!({"description": text});
    let (status, answer) = request(api, "PATCH", &format!("/sip-trunks/trunks/{id}"), &body)?;
    assert!(matches!(status, 200 | 404) || is_put_off(status), "{answer}");
    if status == 200 {
        note(Some(Instant::now()));
    }
    Some(())
}

fn add_number(api: SocketAddr, trunk: &str, digits: &str, ledger: &Mutex<Ledger>) -> Option<()> {
    let path = format!("/sip-trunks/trunks/{trunk}/numbers");
    let (status, added) = request(api, "POST", &path, &json!({"phone_number": digits}))?;
    assert!(matches!(status, 201 | 404) || is_put_off(status), "{added}");
    if status == 201 {
        let mut ledger = ledger.lock().unwrap();
        let number = Number { trunk: trunk.to_owned(), ..Number::default() };
        ledger.numbers.insert(added["id"].as_str().unwrap().to_owned(), number);
        ledger.acknowledged += 1;
    }
    Some(())
}

fn remove_number(api: SocketAddr, trunk: &str, id: &str, ledger: &Mutex<Ledger>) -> Option<()> {
    ledger.lock().unwrap().numbers.get_mut(id).unwrap().is_leaving = true;
    let path = format!("/sip-trunks/trunks/{trunk}/numbers/{id}");
    let (status, answer) = request(api, "DELETE", &path, &json!({}))?;
    if is_put_off(status) {
        return Some(());
    }
    assert!(matches!(status, 200 | 404), "{answer}");
    let mut ledger = ledger.lock().unwrap();
    ledger.numbers.get_mut(id).unwrap().is_gone = true;
    ledger.acknowledged += 1;
    Some(())
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_over_sqlite() {
    kill_again_and_again(&Base::sqlite());
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed_over_postgres() {
    if let Some(base) = Base::postgres() {
        kill_again_and_again(&base);
    }
}

fn kill_again_and_again(base: &Base) {
    let points = std::env::var("TANDEM_KILL_POINTS").ok().and_then(|text| text.parse().ok()).unwrap_or(5_u64);
    let folder = tempfile::tempdir().unwrap();
    let ledger = Mutex::<Ledger>::default();
    for point in 0..points {
        // That it starts says that the database opens.
        let node = Node::start(folder.path(), &base.url);
        let api = node.api;
        let before = ledger.lock().unwrap().acknowledged;
        std::thread::scope(|scope| {
            let clients: Vec<_> = (1..=CLIENTS)
                .map(|client_of_point| {
                    let ledger = &ledger;
                    scope.spawn(move || client(api, point * CLIENTS + client_of_point, ledger))
                })
                .collect();
            // Until something is under way, and a little more, different each time.
            let under_way = until_acknowledged(&ledger, before + 40, || {
                clients.iter().any(std::thread::ScopedJoinHandle::is_finished)
            });
            std::thread::sleep(Duration::from_millis(point * 7_919 % 223));
            node.kill();
            // What a client found wrong says more than that it stopped.
            clients.into_iter().for_each(|client| client.join().unwrap());
            under_way.unwrap();
        });
    }
    let ledger = ledger.into_inner().unwrap();
    assert!(ledger.acknowledged >= points * 40);
    tokio::runtime::Runtime::new().unwrap().block_on(check(base, &ledger));
}

/// Waits until so many changes were acknowledged, as long as there is any progress and no client has stopped: each stops
/// when its server is gone, or by what it found wrong.
fn until_acknowledged(
    ledger: &Mutex<Ledger>,
    wanted: u64,
    has_one_stopped: impl Fn() -> bool,
) -> Result<(), &'static str> {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let acknowledged = ledger.lock().map_or(last, |ledger| ledger.acknowledged);
        if acknowledged >= wanted {
            return Ok(());
        }
        if acknowledged != last {
            (last, since) = (acknowledged, Instant::now());
        }
        if has_one_stopped() {
            return Err("a client stopped before its server was killed");
        }
        if since.elapsed() > STANDSTILL {
            return Err("nothing is acknowledged any more");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

async fn check(base: &Base, ledger: &Ledger) {
    let store = base.open().await;
    let trunks: BTreeMap<String, Option<String>> = store
        .trunks("default", None)
        .await
        .unwrap()
        .into_iter()
        .map(|trunk| (trunk.id, trunk.settings.description))
        .collect();
    let numbers: Vec<String> =
        store.numbers("default").await.unwrap().into_iter().map(|number| number.id).collect();
    for (id, known) in &ledger.trunks {
        assert!(!known.is_gone || !trunks.contains_key(id), "trunk {id} was deleted and is back");
        assert!(known.is_leaving || trunks.contains_key(id), "trunk {id} was acknowledged and is gone");
        let Some(there) = trunks.get(id) else { continue };
        // Whoever was told yes, and began after what stands there was told yes, has been lost.
        let stands_since = match there {
            None => None,
            Some(text) => match known.descriptions[text] {
                (_, Some(acknowledged)) => Some(acknowledged),
                // It was sent and the process killed before the answer: it may be the last of all.
                (_, None) => continue,
            },
        };
        for (text, (sent, acknowledged)) in &known.descriptions {
            let is_later = stands_since.is_none_or(|since| *sent > since);
            assert!(acknowledged.is_none() || !is_later, "{text:?} was acknowledged after {there:?} on {id}");
        }
    }
    for (id, known) in &ledger.numbers {
        let trunk = &ledger.trunks[&known.trunk];
        let is_there = numbers.contains(id);
        assert!(!(known.is_gone || trunk.is_gone) || !is_there, "number {id} was removed and is back");
        let may_be_gone = known.is_leaving || trunk.is_leaving;
        assert!(may_be_gone || is_there, "number {id} was acknowledged and is gone");
    }
}
