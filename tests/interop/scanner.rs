//! The scanner that knocks at every public SIP port: what it finds here is that something answers.

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use serde_json::json;
use tandem_tests::product::{Product, ip_trunk, userpass_trunk};

use crate::echo_agent::EchoAgent;

const DID: &str = "918047555555";

/// Runs one of the scanner's programs, bounded in time; what it printed.
fn run(program: &str, arguments: &[&str], target: SocketAddr) -> String {
    let output = Command::new("timeout")
        .args(["60", program, "-p", &target.port().to_string()])
        .args(arguments)
        .arg(target.ip().to_string())
        .stdin(Stdio::null())
        .output()
        .expect("sipvicious runs; tests/run installs it");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn a_scanner_finds_neither_a_name_nor_a_number() {
    // A trunk by address, then one by digest: strangers are refused, or all of them challenged.
    for trunk in [ip_trunk("carrier", "192.0.2.0/24"), userpass_trunk("carrier", "trunkuser", "s3cret-trunk")]
    {
        let agent = EchoAgent::start("asterisk", &[]);
        let product = Product::start();
        let websocket = json!({"url": agent.url(), "dialect": "asterisk"});
        product.provision(&format!("+{DID}"), &trunk, &websocket);
        let found = run("svmap", &[], product.sip);
        assert!(!found.to_lowercase().contains("tandem"), "no name and no version: {found}");
        // The number that is there lies among the guessed ones.
        let guesses = format!("-e{DID},100-104");
        for method in ["INVITE", "REGISTER", "OPTIONS"] {
            let found = run("svwar", &[&guesses, "-m", method], product.sip);
            assert!(!found.contains(&format!("| {DID}")), "{method}: {found}");
        }
        assert!(!agent.log().contains("connected"), "nobody's agent was called: {}", agent.log());
    }
}
