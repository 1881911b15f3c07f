//! The call-load harness: N concurrent calls with stamped audio against the real binary pinned to
//! one core, generator and echo agent on the other, and beside it, in the same run, the floor.
//!
//!     cargo run --release -p tandem-benches --bin call_load -- [--calls 200] [--seconds 20]
//!         [--dialect asterisk|twilio] [--rounds 2] [--window 32] [--server-cpu 0] [--generator-cpu 1]
//!         [--sabotage nothing|echo|server] [--srtp true]
//!
//! `TANDEM_BIN` names another binary than the build of this workspace. Figures are for comparison with the
//! floor of the same run, not with those of another machine. A run whose audio did not go through measures
//! nothing and fails; `--srtp true` measures each round once more with SRTP and TLS, beside the plain one; `--sabotage` takes the echo or the server away, to see that it does.

use std::net::SocketAddr;
use std::process::{Command, ExitCode};
use std::time::Duration;

use serde_json::json;
use tandem_benches::arguments::Arguments;
use tandem_benches::echo::{Carriage, Echo, EchoReport, Manner};
use tandem_benches::generator::{CallerReport, Generator};
use tandem_benches::process::{self, LineChild};
use tandem_benches::signalling::{Signalling, SignallingReport};
use tandem_benches::stamp::Clock;
use tandem_tests::certificates::Authority;
use tandem_tests::product::{self, Product, ip_trunk};

const DID: &str = "+918047555555";
const USAGE: &str = "usage: call_load [--calls N] [--seconds N] [--dialect asterisk|twilio] [--rounds N] [--window N] \
                     [--server-cpu N] [--generator-cpu N] [--sabotage nothing|echo|server] [--srtp true]";
/// Longest silence of the floor while it connects.
const FLOOR_PATIENCE: Duration = Duration::from_secs(10);
/// Before anything is measured: connections settle, queues of the set-up drain.
const SETTLING: Duration = Duration::from_secs(3);
/// Of the packets that are due, those that must have come for figures to mean anything.
const LEAST_SHARE: f64 = 0.9;

struct Options {
    calls: usize,
    seconds: u64,
    dialect: String,
    carriage: Carriage,
    rounds: usize,
    window: usize,
    server_cpu: usize,
    generator_cpu: usize,
    sabotage: Sabotage,
    srtp: bool,
}

/// What is taken away on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sabotage {
    Nothing,
    Echo,
    Server,
}

impl Options {
    fn read() -> Result<Self, String> {
        let mut words = Arguments::read(USAGE)?;
        let dialect: String = words.take("--dialect", "asterisk".to_owned())?;
        let carriage = Carriage::of(&dialect).ok_or(format!("--dialect {dialect}: not known\n{USAGE}"))?;
        let sabotage: String = words.take("--sabotage", "nothing".to_owned())?;
        let sabotage = match sabotage.as_str() {
            "nothing" => Sabotage::Nothing,
            "echo" => Sabotage::Echo,
            "server" => Sabotage::Server,
            other => return Err(format!("--sabotage {other}: not known\n{USAGE}")),
        };
        let options = Self {
            calls: words.take("--calls", 200)?,
            seconds: words.take("--seconds", 20)?,
            dialect,
            carriage,
            rounds: words.take("--rounds", 2)?,
            window: words.take("--window", 32)?,
            server_cpu: words.take("--server-cpu", 0)?,
            generator_cpu: words.take("--generator-cpu", 1)?,
            sabotage,
            srtp: words.take("--srtp", false)?,
        };
        words.finish()?;
        let is_whole = options.calls > 0 && options.seconds > 0 && options.rounds > 0 && options.window > 0;
        is_whole
            .then_some(options)
            .ok_or(format!("calls, seconds, rounds and window are one at least\n{USAGE}"))
    }

    fn manner(&self) -> Manner {
        if self.sabotage == Sabotage::Echo { Manner::Mute } else { Manner::Echoing }
    }
}

/// The figures of one run against one server.
struct Figures {
    /// CPU per call and 20 ms.
    cpu: Duration,
    /// The kernel's part of it.
    system_share: f64,
    callers: CallerReport,
    agent: EchoReport,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("call_load: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = Options::read()?;
    // It may have to be built first, which takes minutes: not in the middle of a run, and not in silence.
    println!("building or finding the server");
    println!("server: {}", product::binary().display());
    process::pin_to(options.generator_cpu)?;
    println!(
        "{} calls, {} s a run, dialect {}, server on core {}, generator and agents on core {}",
        options.calls, options.seconds, options.dialect, options.server_cpu, options.generator_cpu
    );
    let (mut ratios, mut encrypted) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        let floor = run_floor(&options).map_err(|error| format!("round {round}, floor: {error}"))?;
        let tandem =
            run_tandem(&options, round, false).map_err(|error| format!("round {round}, tandem: {error}"))?;
        let ratio = tandem.cpu.as_secs_f64() / floor.cpu.as_secs_f64();
        println!("round {round}: ratio {ratio:.2}");
        ratios.push(ratio);
        if options.srtp {
            let secured =
                run_tandem(&options, round, true).map_err(|error| format!("round {round}, srtp: {error}"))?;
            let ratio = secured.cpu.as_secs_f64() / tandem.cpu.as_secs_f64();
            println!("round {round}: SRTP and TLS over plain {ratio:.2}");
            encrypted.push(ratio);
        }
    }
    println!("CPU per call, tandem over floor: {:.2} (median of {})", median(&mut ratios), ratios.len());
    if options.srtp {
        let count = encrypted.len();
        println!("CPU per call, SRTP and TLS over plain: {:.2} (median of {count})", median(&mut encrypted));
    }
    Ok(())
}

fn median(ratios: &mut [f64]) -> f64 {
    ratios.sort_by(f64::total_cmp);
    ratios[(ratios.len() - 1) / 2]
}

fn print_figures(name: &str, figures: &Figures) {
    let Figures { cpu, system_share, callers, agent } = figures;
    println!(
        "{name}  cpu/call/tick {:>6.2} us ({:.0} % of it system)  sent {} received {} stamped {} lost {} \
         repeated {} damaged {} breaks {} late {}  own lateness {}",
        cpu.as_secs_f64() * 1e6,
        system_share * 100.0,
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
        agent.way_in.percentile_ms(0.5),
        agent.way_in.percentile_ms(0.99),
        callers.way_out.percentile_ms(0.5),
        callers.way_out.percentile_ms(0.99),
        agent.unstamped,
    );
}

fn print_set_up(name: &str, report: &SignallingReport) {
    println!(
        "{name}  {} calls at {:.0} calls/s, INVITE to 200 p50 {:.1} ms p99 {:.1} ms, {} requests repeated",
        report.calls,
        report.calls_per_second(),
        report.set_up.percentile_ms(0.5),
        report.set_up.percentile_ms(0.99),
        report.repeats,
    );
}

/// Lets the calls settle, then measures CPU and audio over the same stretch. `midway` is called in its middle.
fn measure(
    options: &Options,
    generator: &mut Generator,
    echo: &Echo,
    process_id: u32,
    midway: impl FnOnce(),
) -> Result<Figures, String> {
    let _ = generator.run(SETTLING.min(Duration::from_secs(options.seconds)));
    let _ = echo.take_report();
    let before = process::used(process_id)?;
    let half = Duration::from_secs(options.seconds) / 2;
    let mut callers = generator.run(half);
    midway();
    callers.add(&generator.run(half));
    let after = process::used(process_id)?;
    let used = after.cpu.saturating_sub(before.cpu);
    let ticks = options.calls as f64 * options.seconds as f64 * 50.0;
    let figures = Figures {
        cpu: used.div_f64(ticks),
        system_share: (after.system.saturating_sub(before.system)).as_secs_f64() / used.as_secs_f64(),
        callers,
        agent: echo.take_report(),
    };
    judge(&figures, ticks)?;
    Ok(figures)
}

/// A figure of CPU is worth nothing if the audio was not carried.
fn judge(figures: &Figures, ticks: f64) -> Result<(), String> {
    let Figures { callers, agent, .. } = figures;
    let least = (ticks * LEAST_SHARE) as u64;
    let checks = [
        (callers.sent >= least, "the generator did not keep its own pace"),
        (agent.stamped >= least, "the callers' audio did not reach the agent"),
        (callers.received >= least, "the callers were not sent their packets"),
        (callers.stamped >= least, "the agent's audio did not come back"),
        (callers.damaged == 0, "audio was altered on its way"),
    ];
    let failed: Vec<&str> = checks.iter().filter(|(is_met, _)| !is_met).map(|(_, what)| *what).collect();
    if failed.is_empty() {
        return Ok(());
    }
    print_figures("no result:", figures);
    Err(format!("{} (of {ticks} packets each way)", failed.join("; ")))
}

fn run_floor(options: &Options) -> Result<Figures, String> {
    let clock = Clock::start();
    let echo = Echo::start(clock, options.carriage, Manner::Echoing);
    let mut generator = Generator::new(options.calls, clock);
    let floor = std::env::current_exe().map_err(|error| error.to_string())?.with_file_name("floor");
    let mut command = Command::new("taskset");
    command
        .args(["-c", &options.server_cpu.to_string()])
        .arg(floor)
        .arg(&options.dialect)
        .arg(echo.address.to_string())
        .args(generator.addresses().iter().map(SocketAddr::to_string));
    let mut child = LineChild::start(command)?;
    let mut connected = 0;
    loop {
        let line = child.line(FLOOR_PATIENCE).map_err(|error| format!("{error} (is it built? --bins)"))?;
        if line == "ready" {
            break;
        }
        generator.connect(connected, line.parse().map_err(|_| format!("{line}: not an address"))?, None);
        connected += 1;
    }
    if connected != options.calls {
        return Err(format!("{connected} of {} calls connected", options.calls));
    }
    let figures = measure(options, &mut generator, &echo, child.id(), || {})?;
    print_figures("floor: ", &figures);
    Ok(figures)
}

fn run_tandem(options: &Options, round: usize, srtp: bool) -> Result<Figures, String> {
    let clock = Clock::start();
    let echo = Echo::start(clock, options.carriage, options.manner());
    let mut generator = Generator::new(options.calls, clock);
    let launcher = ["taskset".to_owned(), "-c".to_owned(), options.server_cpu.to_string()];
    let ports =
        u16::try_from(2 * options.calls + 200).map_err(|_| "--calls: too many for one range of ports")?;
    let mut more = format!("[telemetry]\nlog = \"warn\"\n[limits]\ncalls = {}\n", options.calls + 100);
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (authority, tls_port) = (Authority::new("load"), product::free_port());
    let mut trunk = ip_trunk("load", "127.0.0.0/8");
    if srtp {
        more += &authority.issue(folder.path(), "sip", &["127.0.0.1"]).table(tls_port, "");
        trunk["transport"] = json!("transport-tls");
        trunk["media_encryption"] = json!("sdes");
    }
    let product = Product::start_under(&launcher, ports, &more, &[]);
    let websocket = json!({"url": format!("ws://{}/", echo.address), "dialect": options.dialect});
    product.provision(DID, &trunk, &websocket);
    let base = process::resident_bytes(product.process_id())?;

    let with_log = |error: &dyn std::fmt::Display| {
        format!("{error}; the server's log ends:\n{}", process::last_lines(&product.log()))
    };
    let trusted = authority.write(folder.path(), "ca");
    let mut callers = match srtp {
        false => Signalling::new(product.sip, DID),
        true => Signalling::encrypted(SocketAddr::new(product.sip.ip(), tls_port), &trusted, DID),
    }
    .map_err(|error| error.to_string())?;
    let media = generator.addresses();
    let set_up = callers
        .set_up(&media, options.window, |call, target, keys| generator.connect(call, target, keys))
        .map_err(|error| with_log(&error))?;
    let sabotage = || {
        if options.sabotage == Sabotage::Server {
            product.kill();
        }
    };
    let figures = measure(options, &mut generator, &echo, product.process_id(), sabotage)
        .map_err(|error| with_log(&error))?;
    let resident = process::resident_bytes(product.process_id())?;
    let hung_up = callers.hang_up(options.window).map_err(|error| with_log(&error))?;
    print_figures(if srtp { "srtp:  " } else { "tandem:" }, &figures);
    print_set_up(&format!("tandem:  round {round}: set up"), &set_up);
    println!(
        "tandem:  resident {:.1} MiB before the calls, {:.1} KiB per call; {} hung up at {:.0} calls/s",
        base as f64 / 1_048_576.0,
        resident.saturating_sub(base) as f64 / 1_024.0 / options.calls as f64,
        hung_up.calls,
        hung_up.calls_per_second(),
    );
    Ok(figures)
}
