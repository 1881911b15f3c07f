//! Gateways as they are watched: who answers, who does not, and what the trunk tells of it.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tandem_tests::{
    awaited,
    certificates::{Authority, Files},
    product::{Product, free_port, ip_trunk},
};

use crate::{DID, agent::Agent, product_with};

/// Makes a trunk with these gateways and returns its id.
fn trunk(product: &Product, gateways: &Value, transport: &str) -> String {
    let mut body = ip_trunk("watched", "192.0.2.0/24");
    body["gateways"] = gateways.clone();
    body["transport"] = json!(transport);
    body["qualify_frequency"] = json!(60);
    let (status, created) = product.post("/sip-trunks/trunks", &body);
    assert_eq!(status, 201, "{created}");
    created["id"].as_str().expect("an id").to_owned()
}

/// What the trunk tells of the gateway at this place in its list, once it is so.
fn told(product: &Product, trunk: &str, is_so: impl Fn(&[Value]) -> bool) -> Vec<Value> {
    let shown = || {
        let (status, shown) = product.get(&format!("/sip-trunks/trunks/{trunk}"));
        assert_eq!(status, 200, "{shown}");
        shown["status"]["gateways"].as_array().cloned().unwrap_or_default()
    };
    let missing = || format!("{:?}\n{}", shown(), product.log());
    awaited::until(Duration::from_secs(60), missing, || Some(shown()).filter(|gateways| is_so(gateways)))
}

/// The response to a request, with this status.
fn response(request: &str, status: &str) -> String {
    let line =
        |name: &str| request.lines().find(|line| line.starts_with(name)).expect("a whole request").to_owned();
    format!(
        "SIP/2.0 {status}\r\n{}\r\n{}\r\n{};tag=g\r\n{}\r\n{}\r\nContent-Length: 0\r\n\r\n",
        line("Via:"),
        line("From:"),
        line("To:"),
        line("Call-ID:"),
        line("CSeq:")
    )
}

/// 404 is an answer too; a name without an address is down; a trunk that is deleted is not asked any more.
#[test]
fn a_trunk_tells_which_of_its_gateways_answer() {
    let product = Product::start();
    let gateway = UdpSocket::bind("127.0.0.1:0").expect("a port");
    gateway.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    let port = gateway.local_addr().expect("bound").port();
    let list = json!([{"gateway_address": "127.0.0.1", "port": port, "priority": 1},
                      {"gateway_address": "carrier.invalid", "port": 5060, "priority": 2}]);
    let id = trunk(&product, &list, "transport-udp");
    let mut buffer = [0; 4096];
    let (length, from) = gateway.recv_from(&mut buffer).expect("it is asked");
    let question = String::from_utf8_lossy(&buffer[..length]).into_owned();
    assert!(question.starts_with(&format!("OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\n")), "{question}");
    assert_eq!(from, product.sip, "from where its answers and its calls come to");
    gateway.send_to(response(&question, "404 Not Found").as_bytes(), from).expect("sent");
    let gateways =
        told(&product, &id, |all| all.len() == 2 && all[0]["state"] == "up" && all[1]["state"] == "down");
    assert_eq!(
        (gateways[0]["port"].as_u64(), gateways[0]["sip_status"].as_u64()),
        (Some(u64::from(port)), Some(404))
    );
    assert!(gateways[0]["round_trip_ms"].as_f64().is_some_and(|time| time > 0.0), "{gateways:?}");
    let cause = gateways[1]["cause"].as_str().unwrap_or_default();
    assert!(cause.contains("carrier.invalid") && cause.contains("gateway_address"), "{cause}");
    assert!(product.metric("tandem_gateway_checks_total", "up") >= 1.0);
    let (_, other_family) = product.get(&format!("/trunk/trunks/{id}"));
    assert_eq!(other_family["status"]["gateways"].as_array().map(Vec::len), Some(2), "{other_family}");
    // Switched off: what was known is gone.
    let (status, answer) =
        product.request("PATCH", &format!("/sip-trunks/trunks/{id}"), Some(&json!({"is_active": false})));
    assert_eq!(status, 200, "{answer}");
    told(&product, &id, <[Value]>::is_empty);
}

/// A TLS server that prints what it is told. The second opinion is OpenSSL's.
struct Server(Child);

impl Server {
    fn start(files: &Files, port: u16) -> Self {
        let child = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &format!("127.0.0.1:{port}"), "-cert"])
            .arg(&files.certificate)
            .arg("-key")
            .arg(&files.private_key)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("openssl runs; tests/run installs it");
        let server = Self(child);
        let is_taken = || TcpListener::bind(("127.0.0.1", port)).is_err().then_some(());
        awaited::until(Duration::from_secs(10), || "openssl does not listen".to_owned(), is_taken);
        server
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// RFC 5922 7.3: the gateway proves the name that stands in the trunk, to an authority that we trust; without that
/// nothing is said to it.
#[test]
fn a_gateway_over_tls_proves_its_name_before_it_is_told_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let authority = Authority::new("Carriers' authority");
    let trusted = authority.write(folder.path(), "ca");
    let own = authority.issue(folder.path(), "own", &["127.0.0.1"]);
    let product = Product::start_with(&own.table(free_port(), &format!("gateway_ca = {trusted:?}")));
    let (port, wrong) = (free_port(), free_port());
    let mut right_one = Server::start(&authority.issue(folder.path(), "carrier", &["localhost"]), port);
    let mut wrong_one = Server::start(&authority.issue(folder.path(), "other", &["other.example"]), wrong);
    let list = json!([{"gateway_address": "localhost", "port": port, "priority": 1},
                      {"gateway_address": "localhost", "port": wrong, "priority": 2}]);
    let id = trunk(&product, &list, "transport-tls");
    let mut said = [0; 8];
    right_one.0.stdout.take().expect("piped").read_exact(&mut said).expect("it is asked");
    assert_eq!(&said, b"OPTIONS ");
    told(&product, &id, |all| {
        all.iter().any(|one| one["port"] == wrong && one["cause"] == "nothing could be sent to it")
    });
    wrong_one.0.kill().expect("it runs");
    let mut heard = Vec::new();
    wrong_one.0.stdout.take().expect("piped").read_to_end(&mut heard).expect("read");
    assert!(heard.is_empty(), "{}", String::from_utf8_lossy(&heard));
    assert!(product.log().contains("not valid for name"), "{}", product.log());
}

/// The next connection to a gateway.
fn accepted(gateway: &TcpListener) -> TcpStream {
    gateway.set_nonblocking(true).expect("set");
    let missing = || "nobody connects".to_owned();
    let (stream, _) = awaited::until(Duration::from_secs(20), missing, || gateway.accept().ok());
    stream.set_nonblocking(false).expect("set");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    stream
}

/// The next message on a connection; keep-alives are passed over.
fn message(stream: &mut TcpStream) -> String {
    let mut text = String::new();
    let mut byte = [0];
    while !text.ends_with("\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap_or_else(|error| panic!("{error} after {text:?}"));
        text.push(char::from(byte[0]));
        text = text.trim_start().to_owned();
    }
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a length");
    let mut body = vec![0; length.parse().expect("a number")];
    stream.read_exact(&mut body).expect("the body");
    text + &String::from_utf8_lossy(&body)
}

/// Carriers close idle connections after two minutes. One that does so between the answer and our BYE is called again for it.
#[test]
fn a_call_outlives_the_connection_that_its_carrier_closes() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let gateway = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = gateway.local_addr().expect("bound").port();
    let list = json!({"gateways": [{"gateway_address": "127.0.0.1", "port": port}], "transport": "transport-tcp",
        "qualify_frequency": 0});
    let path = format!("/sip-trunks/trunks/{}", provisioned.trunk_id);
    let (status, answer) = product.request("PATCH", &path, Some(&list));
    assert_eq!(status, 200, "{answer}");
    let order = json!({"agent_id": provisioned.agent_id, "recipient_phone_number": "+918800001234",
        "from_phone_number": DID});
    let (status, answer) = product.post("/call", &order);
    assert_eq!(status, 200, "{answer}");
    let id = answer["execution_id"].as_str().expect("an id").to_owned();

    let mut first = accepted(&gateway);
    let invite = message(&mut first);
    assert!(invite.starts_with("INVITE sip:"), "{invite}");
    let sdp =
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 6000 RTP/AVP 0\r\n";
    let more = format!(
        "Contact: <sip:g@127.0.0.1:{port};transport=tcp>\r\nContent-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}",
        sdp.len()
    );
    let ok = response(&invite, "200 OK").replace("Content-Length: 0\r\n\r\n", &more);
    first.write_all(ok.as_bytes()).expect("sent");
    assert!(message(&mut first).starts_with("ACK sip:g@127.0.0.1:"));
    drop(first);

    let (status, answer) = product.post(&format!("/call/{id}/stop"), &json!({}));
    assert_eq!(status, 200, "{answer}");
    let mut second = accepted(&gateway);
    let bye = message(&mut second);
    assert!(bye.starts_with("BYE sip:g@127.0.0.1:"), "{bye}");
    second.write_all(response(&bye, "200 OK").as_bytes()).expect("sent");
    let calls = product.ended_calls(&provisioned.agent_id, 1);
    assert_eq!(calls[0]["status"], "stopped", "{calls:?}");
}
