//! The load harness as a whole, with a handful of calls: it measures when audio goes through, and it fails, in
//! bounded time and with a reason, when something was taken away.

use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tandem_tests::product;

/// Runs it on one core, which every machine has; one at a time, for all take the same range of ports.
fn call_load(more: &[&str]) -> Output {
    timed_call_load(more).0
}

/// The same with how long it ran, its wait for the others not counted.
fn timed_call_load(more: &[&str]) -> (Output, Duration) {
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env!("CARGO_BIN_EXE_call_load"));
    command.env("TANDEM_BIN", product::binary());
    command.args([
        "--calls",
        "3",
        "--seconds",
        "2",
        "--rounds",
        "1",
        "--server-cpu",
        "0",
        "--generator-cpu",
        "0",
    ]);
    let began = Instant::now();
    let output = command.args(more).output().expect("the harness runs");
    (output, began.elapsed())
}

#[test]
fn a_ratio_comes_out_for_each_dialect() {
    for dialect in ["asterisk", "twilio"] {
        // A busy machine may hold up so few calls for so short a time: the harness then refuses, rightly.
        let mut outputs = (0..4).map(|_| call_load(&["--dialect", dialect]));
        let last = outputs.find(|output| output.status.success());
        let output = last.unwrap_or_else(|| panic!("{dialect}: {:?}", call_load(&["--dialect", dialect])));
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("CPU per call, tandem over floor: "), "{text}");
    }
}

#[test]
fn encrypted_calls_are_measured_beside_plain_ones() {
    let mut outputs = (0..4).map(|_| call_load(&["--srtp", "true"]));
    let last = outputs.find(|output| output.status.success());
    let output = last.unwrap_or_else(|| panic!("{:?}", call_load(&["--srtp", "true"])));
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("CPU per call, SRTP and TLS over plain: "), "{text}");
}

#[test]
fn an_agent_that_does_not_echo_fails_the_run() {
    let output = call_load(&["--sabotage", "echo"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("the agent's audio did not come back"), "{text}");
}

#[test]
fn a_server_that_dies_fails_the_run_in_bounded_time() {
    let (output, took) = timed_call_load(&["--sabotage", "server"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("tandem: "), "{text}");
    assert!(took < Duration::from_secs(120), "{took:?}");
}

#[test]
fn a_word_that_is_not_known_is_named() {
    let output = call_load(&["--call", "7"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains("--call: not known"), "{text}");
}
