//! Many trunks, each registered and each with a gateway under watch: what that costs, and how it is spread.
//!
//!     cargo run --release -p tandem-benches --bin registration_load -- [--trunks 1000] [--granted 60]
//!         [--seconds 120] [--outage 180]
//!
//! One registrar, a socket of this process, challenges with SHA-256, grants `--granted` seconds and answers OPTIONS, which
//! comes every 60 seconds. The server is started over its trunks; then its CPU is measured; then the registrar is silent
//! for a while and answers again. Histograms are of first attempts at the registrar by second, repeats of lost ones and
//! answers to challenges not counted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tandem_benches::arguments::Arguments;
use tandem_benches::process;
use tandem_tests::product::{self, Product, userpass_trunk};

const USAGE: &str =
    "usage: registration_load [--trunks N] [--granted SECONDS] [--seconds N] [--outage SECONDS]";
const MORE: &str = "[telemetry]\nlog = \"error\"\n[limits]\napi_requests_per_minute = 100000000\n\
                    api_narrow_per_minute = 100000000\n";

/// What came to the registrar.
#[derive(Debug, Default)]
struct Seen {
    /// First attempts: when, and by which method.
    attempts: Vec<(Instant, &'static str)>,
    /// Call-ID and CSeq of those.
    known: HashSet<String>,
    /// When each Call-ID was granted time last.
    granted: HashMap<String, Instant>,
}

/// A registrar that may be silenced.
#[derive(Debug)]
struct Registrar {
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    is_silent: Arc<AtomicBool>,
}

impl Registrar {
    fn start(granted: u64) -> std::io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        let address = socket.local_addr()?;
        let (seen, is_silent) = (Arc::<Mutex<Seen>>::default(), Arc::new(AtomicBool::new(false)));
        let (to, silence) = (Arc::clone(&seen), Arc::clone(&is_silent));
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                let request = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let is_silent = silence.load(Ordering::Relaxed);
                if let Some(answer) = answer(&request, granted, is_silent, &to) {
                    // A datagram that is lost is asked for again.
                    let _ = socket.send_to(answer.as_bytes(), from);
                }
            }
        });
        Ok(Self { address, seen, is_silent })
    }

    /// Attempts by second since `start`, and how many in all.
    fn by_second(&self, start: Instant, method: &str) -> (BTreeMap<u64, u64>, u64) {
        let seen = self.seen.lock().expect("no thread panics while it holds it");
        let mut seconds = BTreeMap::new();
        for (at, _) in seen.attempts.iter().filter(|(at, known)| *at >= start && *known == method) {
            *seconds.entry(at.duration_since(start).as_secs()).or_default() += 1;
        }
        let all = seconds.values().sum();
        (seconds, all)
    }

    /// How many were granted time since then.
    fn granted_since(&self, since: Instant) -> u64 {
        let seen = self.seen.lock().expect("no thread panics while it holds it");
        seen.granted.values().filter(|at| **at >= since).count() as u64
    }
}

fn header<'a>(request: &'a str, name: &str) -> &'a str {
    let found = request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    found.unwrap_or_default()
}

fn answer(request: &str, granted: u64, is_silent: bool, seen: &Mutex<Seen>) -> Option<String> {
    let method = if request.starts_with("REGISTER ") { "REGISTER" } else { "OPTIONS" };
    let is_proven = request.contains("\r\nAuthorization: ");
    {
        let mut seen = seen.lock().expect("no thread panics while it holds it");
        let name = format!("{} {}", header(request, "Call-ID"), header(request, "CSeq"));
        // An answer to a challenge belongs to the attempt before it; a refresh brings its credentials along.
        let is_answer = is_proven && request.contains("nc=00000001");
        if seen.known.insert(name) && !is_answer {
            seen.attempts.push((Instant::now(), method));
        }
        if is_silent {
            return None;
        }
        if method == "REGISTER" && is_proven {
            seen.granted.insert(header(request, "Call-ID").to_owned(), Instant::now());
        }
    }
    let copied: String = ["Via", "From", "Call-ID", "CSeq"]
        .map(|name| format!("{name}: {}\r\n", header(request, name)))
        .concat();
    let to = header(request, "To");
    let (status, more) = match (method, is_proven) {
        ("REGISTER", false) => (
            "401 Unauthorized",
            "WWW-Authenticate: Digest realm=\"load\", nonce=\"n\", qop=\"auth\", algorithm=SHA-256\r\n"
                .to_owned(),
        ),
        ("REGISTER", true) => {
            let contact = header(request, "Contact").split(";expires=").next().unwrap_or_default();
            ("200 OK", format!("Contact: {contact};expires={granted}\r\n"))
        }
        _ => ("200 OK", String::new()),
    };
    Some(format!("SIP/2.0 {status}\r\n{copied}To: {to};tag=r\r\n{more}Content-Length: 0\r\n\r\n"))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("registration_load: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut words = Arguments::read(USAGE)?;
    let trunks: u64 = words.take("--trunks", 1_000)?;
    let granted: u64 = words.take("--granted", 60)?;
    let seconds: u64 = words.take("--seconds", 120)?;
    let outage: u64 = words.take("--outage", 180)?;
    words.finish()?;

    let registrar = Registrar::start(granted).map_err(|error| error.to_string())?;
    println!("server: {}", product::binary().display());
    let mut product = Product::start_with(MORE);
    for number in 0..trunks {
        let mut trunk = userpass_trunk(&format!("t{number}"), &format!("u{number}"), "load-password");
        trunk["gateways"] = json!([{"gateway_address": "127.0.0.1", "port": registrar.address.port()}]);
        trunk["qualify_frequency"] = json!(60);
        trunk["registration"] = json!({"expires": 3600});
        let (status, made) = product.post("/sip-trunks/trunks", &trunk);
        if status != 201 {
            return Err(format!("trunk {number} was not made: {made}"));
        }
    }
    product.kill_and_start_again();
    let start = Instant::now();
    await_grants(&registrar, trunks, start)?;
    println!("{trunks} trunks registered {:.1} s after the start", start.elapsed().as_secs_f64());
    print_histogram("at the start", &registrar.by_second(start, "REGISTER"));
    print_histogram("OPTIONS at the start", &registrar.by_second(start, "OPTIONS"));

    let steady = Instant::now();
    let used = process::used(product.process_id())?;
    std::thread::sleep(Duration::from_secs(seconds));
    let took = steady.elapsed();
    let cpu = process::used(product.process_id())?.cpu.saturating_sub(used.cpu);
    let (_, refreshes) = registrar.by_second(steady, "REGISTER");
    let (_, questions) = registrar.by_second(steady, "OPTIONS");
    println!(
        "{:.2} % of a core over {:.0} s: {refreshes} refreshes, {questions} OPTIONS",
        cpu.as_secs_f64() / took.as_secs_f64() * 100.0,
        took.as_secs_f64()
    );

    registrar.is_silent.store(true, Ordering::Relaxed);
    std::thread::sleep(Duration::from_secs(outage));
    registrar.is_silent.store(false, Ordering::Relaxed);
    let back = Instant::now();
    await_grants(&registrar, trunks, back)?;
    println!("registered again {:.1} s after an outage of {outage} s", back.elapsed().as_secs_f64());
    print_histogram("after the outage", &registrar.by_second(back, "REGISTER"));
    let (_, page) = product.get("/sip-trunks/trunks?limit=1000");
    let registered = page.as_array().map_or(0, |page| {
        page.iter().filter(|trunk| trunk["status"]["registration"]["state"] == json!("registered")).count()
    });
    println!("{registered} trunks are shown as registered");
    if let Some(odd) = page.as_array().filter(|_| registered == 0) {
        return Err(format!("none is: {}", odd.first().unwrap_or(&Value::Null)));
    }
    Ok(())
}

fn await_grants(registrar: &Registrar, wanted: u64, since: Instant) -> Result<(), String> {
    while registrar.granted_since(since) < wanted {
        if since.elapsed() > Duration::from_secs(900) {
            return Err(format!(
                "only {} of {wanted} grants after fifteen minutes",
                registrar.granted_since(since)
            ));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

fn print_histogram(what: &str, (seconds, all): &(BTreeMap<u64, u64>, u64)) {
    const WIDTH: u64 = 10;
    let most = seconds.values().max().copied().unwrap_or(0);
    println!("attempts {what}: {all}, at most {most} in one second; by {WIDTH} seconds:");
    let mut sums = BTreeMap::<u64, u64>::new();
    for (second, number) in seconds {
        *sums.entry(second / WIDTH * WIDTH).or_default() += number;
    }
    for (second, number) in sums {
        println!("  {second:>4} s {number:>5} {}", "#".repeat((number / 10) as usize));
    }
}
