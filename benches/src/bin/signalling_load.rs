//! Signalling alone: calls placed and ended as fast as the server takes them, INVITE to BYE, on one core.
//!
//!     cargo run --release -p tandem-benches --bin signalling_load -- [--seconds 10] [--window 64]
//!         [--server-cpu 0] [--generator-cpu 1]
//!
//! A call here is all that a call is but its audio: routing, ports, the agent's WebSocket dialled and
//! closed, 100, 180, 200, ACK, BYE, the record. The CPU of the whole server process is divided by the calls.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use tandem_benches::arguments::Arguments;
use tandem_benches::echo::{Carriage, Echo, Manner};
use tandem_benches::process;
use tandem_benches::signalling::Signalling;
use tandem_benches::stamp::Clock;
use tandem_tests::product::{self, Product, ip_trunk};

const DID: &str = "+918047555555";
const USAGE: &str = "usage: signalling_load [--seconds N] [--window N] [--server-cpu N] [--generator-cpu N]";
/// What is below the kernel's ephemeral ports and above those the harness takes for itself.
const PORTS: u16 = 12_600;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("signalling_load: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let mut words = Arguments::read(USAGE)?;
    let seconds: u64 = words.take("--seconds", 10)?;
    let window: usize = words.take("--window", 64)?;
    let server_cpu: usize = words.take("--server-cpu", 0)?;
    let generator_cpu: usize = words.take("--generator-cpu", 1)?;
    words.finish()?;

    println!("building or finding the server");
    println!("server: {}", product::binary().display());
    process::pin_to(generator_cpu)?;
    let echo = Echo::start(Clock::start(), Carriage::Binary, Manner::Echoing);
    let launcher = ["taskset".to_owned(), "-c".to_owned(), server_cpu.to_string()];
    // Ports may not rest: at these rates no range would last for the usual ten seconds.
    let more = "[telemetry]\nlog = \"warn\"\n[limits]\ncalls = 10000\n";
    let environment = [("TANDEM__MEDIA__PORT_REST_SECONDS", "0")];
    let product = Product::start_under(&launcher, PORTS, more, &environment);
    let websocket = json!({"url": format!("ws://{}/", echo.address), "dialect": "asterisk"});
    product.provision(DID, &ip_trunk("load", "127.0.0.0/8"), &websocket);

    let with_log = |error: &dyn std::fmt::Display| {
        format!("{error}; the server's log ends:\n{}", process::last_lines(&product.log()))
    };
    let base = process::resident_bytes(product.process_id())?;
    let mut callers = Signalling::new(product.sip, DID).map_err(|error| error.to_string())?;
    let before = process::used(product.process_id())?;
    let report =
        callers.place_and_end(window, Duration::from_secs(seconds)).map_err(|error| with_log(&error))?;
    let used = process::used(product.process_id())?.cpu.saturating_sub(before.cpu);
    let resident = process::resident_bytes(product.process_id())?;
    println!(
        "{} calls in {:.1} s: {:.0} calls/s with {window} in flight, {:.0} us of CPU per call ({:.0} % of a core), \
         INVITE to 200 p50 {:.1} ms p99 {:.1} ms, {} requests repeated, resident {:.1} MiB (before: {:.1})",
        report.calls,
        report.took.as_secs_f64(),
        report.calls_per_second(),
        used.as_secs_f64() * 1e6 / report.calls as f64,
        used.as_secs_f64() / report.took.as_secs_f64() * 100.0,
        report.set_up.percentile_ms(0.5),
        report.set_up.percentile_ms(0.99),
        report.repeats,
        resident as f64 / 1_048_576.0,
        base as f64 / 1_048_576.0,
    );
    Ok(())
}
