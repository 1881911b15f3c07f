//! A whole call in every dialect, with the test agent that `tandem agent` is.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
    time::Duration,
};

use serde_json::json;
use tandem_server::tools::test_agent::NAMES;
use tandem_tests::product::{Product, binary, free_port, ip_trunk};

use crate::{
    DID,
    phone::{Phone, packet},
    text,
};

/// A `tandem agent`; dropping it ends it.
struct TestAgent(Child);

impl TestAgent {
    /// An echo that hangs up, and the port it listens on.
    fn start(dialect: &str, hang_up_after: u32) -> (Self, u16, mpsc::Receiver<String>) {
        let port = free_port();
        let mut child = Command::new(binary())
            .args(["agent", "--dialect", dialect, "--listen", &format!("127.0.0.1:{port}")])
            .args(["--hang-up-after", &hang_up_after.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the test agent starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, printed) = mpsc::channel();
        std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let first = printed.recv_timeout(Duration::from_secs(20)).expect("it says that it listens");
        assert!(first.contains("Ctrl-C"), "{first}");
        (Self(child), port, printed)
    }
}

impl Drop for TestAgent {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The caller hears its echo and the agent ends the call. Where the audio is not resampled it comes back as it was.
fn call_in(dialect: &str) {
    let (_agent, port, printed) = TestAgent::start(dialect, 2);
    let product = Product::start();
    let websocket = json!({"url": format!("ws://127.0.0.1:{port}/{{execution_id}}"), "dialect": dialect});
    let provisioned = product.provision(DID, &ip_trunk("loopback", "127.0.0.1/32"), &websocket);
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = phone.talk(rtp, Duration::from_millis(1_500));
    phone.await_bye(Duration::from_secs(6));
    // 16 kHz on the way: through two filters.
    let is_resampled = matches!(dialect, "vonage" | "bolna");
    let is_heard = |sequence: &u16| {
        let sent = &packet(*sequence)[12..];
        let is_loud = |code: &u8| *code & 0x7f < 0x60;
        if is_resampled {
            heard.iter().filter(|code| is_loud(code)).count() > 4_000
        } else {
            heard.windows(160).any(|window| window == sent)
        }
    };
    let whole = (10..40).filter(is_heard).count();
    assert!(whole >= 24, "{dialect}: {whole} of 30 packets came back");
    let calls = product.ended_calls(&provisioned.agent_id, 1);
    assert_eq!(text(&calls[0], "status"), "completed", "{dialect}: {}", calls[0]);
    assert_eq!(calls[0]["telephony_data"]["hangup_by"], "Callee", "{dialect}: {}", calls[0]);
    let told: Vec<String> = printed.try_iter().collect();
    assert!(told.iter().any(|line| line.contains("started")), "{dialect}: {told:?}");
    assert!(!told.iter().any(|line| line.contains("failed")), "{dialect}: {told:?}");
}

#[test]
fn every_dialect_carries_a_call_both_ways_until_the_agent_ends_it() {
    // A few at a time: each is a server and an agent of its own.
    for some in NAMES.chunks(4) {
        let calls: Vec<_> = some.iter().map(|name| std::thread::spawn(move || call_in(name))).collect();
        for call in calls {
            call.join().expect("the call went well");
        }
    }
}

#[test]
fn a_test_agent_of_no_known_dialect_names_those_it_knows() {
    let output = Command::new(binary())
        .args(["agent", "--dialect", "morse", "--listen", "127.0.0.1:0"])
        .output()
        .expect("the test agent runs");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("morse") && told.contains("jambonz"), "{told}");
}
