//! Kamailio in front, as the proxy of a carrier that stays in the path by Record-Route.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use tandem_tests::product::{Product, free_port, ip_trunk};

use crate::echo_agent::EchoAgent;
use crate::sipp;

const DID: &str = "+918047222222";

/// A running proxy; dropping it ends it with its children.
struct Proxy {
    child: Child,
    folder: tempfile::TempDir,
    address: SocketAddr,
}

impl Proxy {
    fn start(product: SocketAddr) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let address = SocketAddr::from(([127, 0, 0, 2], free_port()));
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("interop/kamailio.cfg");
        let text = fs::read_to_string(template).expect("the configuration");
        let text = text.replace("@LISTEN@", &address.to_string()).replace("@PRODUCT@", &product.to_string());
        let file = folder.path().join("kamailio.cfg");
        fs::write(&file, text).expect("written");
        let log = fs::File::create(folder.path().join("log")).expect("a log file");
        let child = Command::new("kamailio")
            .arg("-f")
            .arg(&file)
            .args(["-DD", "-E", "-m", "32", "-M", "4", "-Y"])
            .arg(folder.path())
            .arg("-P")
            .arg(folder.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a handle"))
            .stderr(log)
            .spawn()
            .expect("kamailio runs; tests/run installs it");
        let proxy = Self { child, folder, address };
        let deadline = Instant::now() + Duration::from_secs(10);
        while !proxy.answers() {
            assert!(Instant::now() < deadline, "kamailio does not answer:\n{}", proxy.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        proxy
    }

    /// True once a request with too few hops is refused by it.
    fn answers(&self) -> bool {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let local = socket.local_addr().expect("an address");
        let request = format!(
            "OPTIONS sip:probe@{0} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKprobe\r\nMax-Forwards: 0\r\n\
             From: <sip:probe@{local}>;tag=1\r\nTo: <sip:probe@{0}>\r\nCall-ID: probe\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n",
            self.address
        );
        let wait = socket.set_read_timeout(Some(Duration::from_millis(200)));
        wait.expect("a time-out");
        let mut answer = [0; 2_048];
        // Nobody listens yet: the loop of the caller tries again.
        let _ = socket.send_to(request.as_bytes(), self.address);
        socket.recv(&mut answer).is_ok_and(|length| answer[..length].starts_with(b"SIP/2.0 483"))
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // The main process takes its children along when it is asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

#[test]
fn a_call_through_a_record_routing_proxy_is_answered_and_ended_through_it() {
    let agent = EchoAgent::start("asterisk", &[]);
    let product = Product::start();
    let websocket = json!({"url": agent.url(), "dialect": "asterisk"});
    let ids = product.provision(DID, &ip_trunk("carrier", "127.0.0.2/32"), &websocket);
    let proxy = Proxy::start(product.sip);

    sipp::run_against(&product, proxy.address, "answered", DID, &[]);
    let record = product.ended_calls(&ids.agent_id, 1).pop().expect("one call");
    assert_eq!(record["status"], "completed", "{record}");
    for method in ["ACK", "BYE"] {
        assert!(proxy.log().contains(&format!("RX {method}")), "{method} passed by:\n{}", proxy.log());
    }
}

#[test]
fn a_bye_of_ours_goes_back_along_the_recorded_route() {
    let agent = EchoAgent::start("asterisk", &["--hang-up-after", "1"]);
    let product = Product::start();
    let websocket = json!({"url": agent.url(), "dialect": "asterisk"});
    product.provision(DID, &ip_trunk("carrier", "127.0.0.2/32"), &websocket);
    let proxy = Proxy::start(product.sip);

    sipp::run_against(&product, proxy.address, "agent_hangs_up", DID, &[]);
    assert!(proxy.log().contains("RX BYE"), "the BYE passed by the proxy:\n{}", proxy.log());
}
