//! The real binary is killed while clients add and remove numbers: what was acknowledged is there afterwards.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_server::store::Store;

const KEY: &str = "a-key-for-this-test-alone";

struct Node {
    process: Child,
    api: SocketAddr,
}

impl Node {
    /// Starts the binary on free ports over the folder's store, and waits until its API answers.
    fn start(folder: &Path) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .arg("serve")
            .current_dir(folder)
            .env("TANDEM_API_KEY", KEY)
            .env("TANDEM__NODE__NAME", "n1")
            .env("TANDEM__SIP__UDP", "127.0.0.1:0")
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

    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}

/// One request on a connection of its own; `None` when the server was gone before it had answered whole.
fn request(api: SocketAddr, method: &str, path: &str, body: &Value) -> Option<(u16, Value)> {
    let mut stream = TcpStream::connect(api).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
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

/// What a client knows of a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    /// Its addition was acknowledged.
    Added,
    /// Its removal was sent, and nothing heard of it.
    Removing,
    /// Its removal was acknowledged.
    Removed,
}

type Ledger = Arc<Mutex<BTreeMap<String, Known>>>;

fn client(api: SocketAddr, trunk: &str, first: u64, ledger: &Ledger) {
    let numbers = format!("/sip-trunks/trunks/{trunk}/numbers");
    for place in first.. {
        let Some((201, added)) = request(api, "POST", &numbers, &json!({"phone_number": place.to_string()}))
        else {
            return;
        };
        let id = added["id"].as_str().unwrap().to_owned();
        ledger.lock().unwrap().insert(id.clone(), Known::Added);
        if place % 3 == 0 {
            ledger.lock().unwrap().insert(id.clone(), Known::Removing);
            let Some((200, _)) = request(api, "DELETE", &format!("{numbers}/{id}"), &json!({})) else {
                return;
            };
            ledger.lock().unwrap().insert(id, Known::Removed);
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let ledger = Ledger::default();
    let mut first = 1_000_000;
    let mut trunks = Vec::new();
    for round in 0..4_u64 {
        let node = Node::start(folder.path());
        let (status, made) =
            request(node.api, "POST", "/sip-trunks/trunks", &trunk(&format!("t{round}"))).unwrap();
        assert_eq!(status, 201, "{made}");
        let id = made["id"].as_str().unwrap().to_owned();
        trunks.push(id.clone());
        let clients: Vec<_> = (0..4)
            .map(|_| {
                first += 1_000_000;
                let (api, id, ledger) = (node.api, id.clone(), Arc::clone(&ledger));
                std::thread::spawn(move || client(api, &id, first, &ledger))
            })
            .collect();
        // Until something is under way, and a little more, different in each round.
        let began = Instant::now();
        while ledger.lock().unwrap().len() < (round as usize + 1) * 10 {
            assert!(began.elapsed() < Duration::from_secs(20), "the clients get nowhere");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(37 * round));
        node.kill();
        for client in clients {
            client.join().unwrap();
        }
    }
    let there = numbers_of(folder.path(), &trunks);
    let ledger = ledger.lock().unwrap();
    let count = |state: Known| ledger.values().filter(|known| **known == state).count();
    assert!(count(Known::Added) >= 20 && count(Known::Removed) >= 4, "too little happened: {ledger:?}");
    for (id, known) in ledger.iter() {
        match known {
            Known::Added => assert!(there.contains(id), "{id} was acknowledged and is gone"),
            Known::Removed => assert!(!there.contains(id), "{id} was removed and is back"),
            Known::Removing => {}
        }
    }
}

fn numbers_of(folder: &Path, trunks: &[String]) -> Vec<String> {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let store: Store = super::store::open(folder).await;
        let mut numbers = Vec::new();
        for trunk in trunks {
            for number in store.numbers_of_trunk("default", trunk).await.unwrap() {
                numbers.push(number.id);
            }
        }
        numbers
    })
}
