//! The call-load harness: N concurrent calls with stamped audio against the real binary pinned to
//! one core, generator and echo agent on the other, and beside it, in the same run, the floor.
//!
//!     cargo run --release -p tandem-benches --bin call_load -- [--calls 200] [--seconds 20]
//!         [--dialect asterisk|twilio] [--rounds 2] [--server-cpu 0] [--generator-cpu 1]
//!
//! `TANDEM_BIN` names another binary than the release build of this workspace. Figures are for
//! comparison with the floor of the same run, not with those of another machine.

use std::io::{BufRead, BufReader};
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tandem_benches::echo::{Carriage, Echo, EchoReport};
use tandem_benches::generator::{CallerReport, Generator};
use tandem_benches::process;
use tandem_benches::stamp::Clock;
use tandem_tests::product::{Product, ip_trunk};

const DID: &str = "+918047555555";
const USAGE: &str = "usage: call_load [--calls N] [--seconds N] [--dialect asterisk|twilio] [--rounds N] \
                     [--server-cpu N] [--generator-cpu N]";

struct Options {
    calls: usize,
    seconds: u64,
    dialect: String,
    rounds: usize,
    server_cpu: usize,
    generator_cpu: usize,
}

impl Options {
    fn read() -> Self {
        let mut options = Self {
            calls: 200,
            seconds: 20,
            dialect: "asterisk".to_owned(),
            rounds: 2,
            server_cpu: 0,
            generator_cpu: 1,
        };
        let mut words = std::env::args().skip(1);
        while let Some(word) = words.next() {
            let value = words.next().unwrap_or_else(|| panic!("{word}: a value is missing; {USAGE}"));
            let number =
                || value.parse().unwrap_or_else(|_| panic!("{word} {value}: a number is needed; {USAGE}"));
            match word.as_str() {
                "--calls" => options.calls = number(),
                "--seconds" => options.seconds = number() as u64,
                "--rounds" => options.rounds = number(),
                "--server-cpu" => options.server_cpu = number(),
                "--generator-cpu" => options.generator_cpu = number(),
                "--dialect" => options.dialect = value,
                other => panic!("{other}: not known; {USAGE}"),
            }
        }
        options
    }

    fn carriage(&self) -> Carriage {
        match self.dialect.as_str() {
            "asterisk" => Carriage::Binary,
            "twilio" => Carriage::MediaStreams,
            other => panic!("--dialect {other}: asterisk or twilio; {USAGE}"),
        }
    }
}

/// The figures of one run against one server.
struct Figures {
    cpu_per_call_tick: Duration,
    resident_per_call: Option<u64>,
    callers: CallerReport,
    agent: EchoReport,
    calls_per_second: Option<f64>,
}

fn main() {
    let options = Options::read();
    pin_to(options.generator_cpu);
    println!(
        "{} calls, {} s a run, dialect {}, server on core {}, generator and agents on core {}",
        options.calls, options.seconds, options.dialect, options.server_cpu, options.generator_cpu
    );
    let mut ratios = Vec::new();
    for round in 1..=options.rounds {
        let floor = run_floor(&options);
        print_figures(&format!("round {round}: floor "), &floor);
        let tandem = run_tandem(&options);
        print_figures(&format!("round {round}: tandem"), &tandem);
        let ratio = tandem.cpu_per_call_tick.as_secs_f64() / floor.cpu_per_call_tick.as_secs_f64();
        println!("round {round}: ratio {ratio:.2}");
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("CPU per call, tandem over floor: {:.2} (median of {})", ratios[ratios.len() / 2], ratios.len());
}

/// Pins this process, with the threads it is to start, to one core.
fn pin_to(cpu: usize) {
    let status = Command::new("taskset")
        .args(["-a", "-c", "-p", &cpu.to_string(), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .expect("taskset runs (package util-linux)");
    assert!(status.success(), "this process cannot be pinned to core {cpu}");
}

fn print_figures(name: &str, figures: &Figures) {
    let callers = &figures.callers;
    println!(
        "{name}  cpu/call/tick {:>6.2} us  sent {} received {} stamped {} lost {} repeated {} damaged {} \
         breaks {} late {}  own lateness {}",
        figures.cpu_per_call_tick.as_secs_f64() * 1e6,
        callers.sent,
        callers.received,
        callers.stamped,
        callers.lost,
        callers.repeated,
        callers.damaged,
        callers.sequence_breaks,
        callers.late,
        callers.own_lateness,
    );
    println!(
        "{name}  RTP in to WebSocket out p50 {:.2} ms p99 {:.2} ms; WebSocket in to RTP out (with the \
         clock's wait) p50 {:.2} ms p99 {:.2} ms; unstamped {}",
        figures.agent.way_in.percentile_ms(0.5),
        figures.agent.way_in.percentile_ms(0.99),
        callers.way_out.percentile_ms(0.5),
        callers.way_out.percentile_ms(0.99),
        figures.agent.unstamped,
    );
    if let (Some(bytes), Some(rate)) = (figures.resident_per_call, figures.calls_per_second) {
        println!("{name}  resident per call {:.1} KiB; set up at {rate:.0} calls/s", bytes as f64 / 1_024.0);
    }
}

/// Lets the calls settle, then measures CPU and audio over the same stretch.
fn measure(
    options: &Options,
    generator: &mut Generator,
    echo: &Echo,
    process_id: u32,
) -> (Duration, CallerReport, EchoReport) {
    let _ = generator.run(Duration::from_secs(3));
    let _ = echo.take_report();
    let before = process::cpu_time(process_id);
    let callers = generator.run(Duration::from_secs(options.seconds));
    let used = process::cpu_time(process_id) - before;
    let ticks = options.calls as f64 * options.seconds as f64 * 50.0;
    (used.div_f64(ticks), callers, echo.take_report())
}

fn run_floor(options: &Options) -> Figures {
    let clock = Clock::start();
    // The floor does not know JSON; its frames are the same number of messages without it.
    let echo = Echo::start(clock, Carriage::Binary);
    let mut generator = Generator::new(options.calls, clock);
    let floor = std::env::current_exe().expect("a path").with_file_name("floor");
    let mut child = Command::new("taskset")
        .args(["-c", &options.server_cpu.to_string()])
        .arg(floor)
        .arg(echo.address.to_string())
        .args((0..options.calls).map(|call| generator.address(call).to_string()))
        .stdout(Stdio::piped())
        .spawn()
        .expect("the floor starts; build it with --bins");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    for (call, line) in output.lines().enumerate() {
        let line = line.expect("text");
        if line == "ready" {
            break;
        }
        generator.connect(call, line.parse().expect("an address"));
    }
    let (cpu_per_call_tick, callers, agent) = measure(options, &mut generator, &echo, child.id());
    end(&mut child);
    Figures { cpu_per_call_tick, resident_per_call: None, callers, agent, calls_per_second: None }
}

fn end(child: &mut Child) {
    // It may have ended by itself when the sockets went.
    let _ = child.kill();
    let _ = child.wait();
}

fn run_tandem(options: &Options) -> Figures {
    let clock = Clock::start();
    let echo = Echo::start(clock, options.carriage());
    let mut generator = Generator::new(options.calls, clock);
    let launcher = ["taskset".to_owned(), "-c".to_owned(), options.server_cpu.to_string()];
    let ports = 2 * options.calls + 200;
    let product = Product::start_under(&launcher, ports as u16, "[telemetry]\nlog = \"warn\"\n");
    let websocket = json!({"url": format!("ws://{}/", echo.address), "dialect": options.dialect});
    product.provision(DID, &ip_trunk("load", "127.0.0.0/8"), &websocket);
    let base = process::resident_bytes(product.process_id());

    let started = Instant::now();
    let callers = Signalling::new(product.sip);
    for call in 0..options.calls {
        let target = callers.set_up(call, generator.address(call));
        generator.connect(call, target);
    }
    let calls_per_second = options.calls as f64 / started.elapsed().as_secs_f64();
    let (cpu_per_call_tick, report, agent) = measure(options, &mut generator, &echo, product.process_id());
    let resident = process::resident_bytes(product.process_id());
    Figures {
        cpu_per_call_tick,
        resident_per_call: Some((resident - base) / options.calls as u64),
        callers: report,
        agent,
        calls_per_second: Some(calls_per_second),
    }
}

/// Sets calls up, one after the other, as the plainest of user agents.
struct Signalling {
    socket: UdpSocket,
    server: SocketAddr,
}

impl Signalling {
    fn new(server: SocketAddr) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        socket.set_read_timeout(Some(Duration::from_millis(500))).expect("a time-out");
        Self { socket, server }
    }

    /// Places one call and gives the address its audio goes to.
    fn set_up(&self, call: usize, media: SocketAddr) -> SocketAddr {
        let local = self.socket.local_addr().expect("an address");
        let sdp = format!(
            "v=0\r\no=load 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {} RTP/AVP 0\r\na=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n",
            media.port()
        );
        let head = |method: &str, to_tag: &str, branch: &str| {
            format!(
                "{method} sip:{DID}@{server} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bK{branch}{call}\r\n\
                 Max-Forwards: 70\r\nFrom: <sip:load@{local}>;tag=l{call}\r\nTo: <sip:{DID}@{server}>{to_tag}\r\n\
                 Call-ID: load-{call}\r\nCSeq: 1 {method}\r\nContact: <sip:load@{local}>\r\n",
                server = self.server
            )
        };
        let invite = format!(
            "{}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
            head("INVITE", "", "i"),
            sdp.len()
        );
        let answer = self.answered(&invite, call);
        let to_tag = answer
            .lines()
            .find(|line| line.starts_with("To:"))
            .and_then(|line| line.split_once(";tag="))
            .map(|(_, tag)| format!(";tag={tag}"))
            .expect("a To tag");
        let ack = format!("{}Content-Length: 0\r\n\r\n", head("ACK", &to_tag, "a"));
        self.socket.send_to(ack.as_bytes(), self.server).expect("sent");
        let port = answer.split_once("m=audio ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        SocketAddr::new(self.server.ip(), port.expect("a port in the answer"))
    }

    fn answered(&self, invite: &str, call: usize) -> String {
        let mut buffer = [0; 4_096];
        let wanted = format!("load-{call}\r");
        for _ in 0..20 {
            self.socket.send_to(invite.as_bytes(), self.server).expect("sent");
            while let Ok(length) = self.socket.recv(&mut buffer) {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                if !text.contains(&wanted) || text.starts_with("SIP/2.0 1") {
                    continue;
                }
                assert!(text.starts_with("SIP/2.0 200"), "call {call} was refused: {text}");
                return text;
            }
        }
        panic!("call {call} got no answer")
    }
}
