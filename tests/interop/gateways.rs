//! Where calls go, with real peers: dnsmasq tells the gateways' places, SIPp is the gateways, over UDP, TCP and IPv6, and
//! redirects.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tandem_tests::awaited;
use tandem_tests::product::{Product, free_port};

use crate::outbound::{CALLEE, Called, Rig};

/// dnsmasq, answering from these records alone; dropping it ends its process.
struct Dns {
    child: Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Dns {
    /// Every record lives for a second, so that what is remembered beyond it is seen.
    fn serves(records: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let port = free_port();
        let output = fs::File::create(folder.path().join("output")).expect("a file");
        let child = Command::new("dnsmasq")
            .args(["--no-daemon", "--conf-file=/dev/null", "--no-resolv", "--no-hosts", "--bind-interfaces"])
            .args(["--listen-address=127.0.0.1", "--local=/test/", "--local-ttl=1", "--log-queries"])
            .arg(format!("--port={port}"))
            // It gives up root for a user that may not be there.
            .args(["--user=root", "--pid-file"])
            .args(records)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a handle"))
            .stderr(output)
            .spawn()
            .expect("dnsmasq runs; tests/run installs it");
        let dns = Self { child, folder, port };
        let missing = || format!("dnsmasq does not listen: {}", dns.told());
        let is_taken = || TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_err().then_some(());
        awaited::until(Duration::from_secs(10), missing, is_taken);
        dns
    }

    fn told(&self) -> String {
        fs::read_to_string(self.folder.path().join("output")).unwrap_or_default()
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A server that looks names up at this place and leaves silent gateways soon.
fn product(resolver: &str) -> Product {
    Product::start_in(&[("TANDEM__SIP__RESOLVER", resolver), ("TANDEM__LIMITS__GATEWAY_MS", "1500")])
}

fn by_name(name: &str) -> Value {
    json!({"gateways": [{"gateway_address": name}]})
}

fn srv(transport: &str, port: u16, priority: u16) -> String {
    format!("--srv-host=_sip._{transport}.carrier.test,sbc.carrier.test,{port},{priority},10")
}

fn host(name: &str, address: &str) -> String {
    format!("--host-record={name},{address}")
}

fn tried(record: &Value) -> Vec<Value> {
    record["telephony_data"]["gateways"].as_array().cloned().unwrap_or_default()
}

/// Changes how the trunk's calls leave.
fn decide(rig: &Rig, policy: &Value) {
    let path = format!("/v1/trunks/{}/outbound", rig.ids.trunk_id);
    let (status, answer) = rig.product.request("PATCH", &path, Some(policy));
    assert_eq!(status, 200, "{answer}");
}

/// The first is dead, the second answers: the SRV records' priorities, whatever the order in which they come.
#[test]
fn calls_go_by_srv_records_and_on_to_the_next_host_when_one_is_dead() {
    let called = Called::waits("called_and_answers", &[]);
    let dead = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let dead_port = dead.local_addr().expect("an address").port();
    let dns = Dns::serves(&[
        srv("udp", called.port, 20),
        srv("udp", dead_port, 10),
        host("sbc.carrier.test", "127.0.0.1"),
    ]);
    let rig = Rig::on(product(&dns.address()), &by_name("carrier.test"), &[]);
    rig.order();
    let told = called.finish(&rig.product);
    assert!(
        told.contains(&format!("INVITE sip:{CALLEE}@carrier.test SIP/2.0")),
        "the name, and no port: {told}"
    );
    let record = rig.record();
    assert_eq!(record["status"], "completed", "{record}\n{}", dns.told());
    let tried = tried(&record);
    let places: Vec<&Value> = tried.iter().map(|attempt| &attempt["address"]).collect();
    assert_eq!(
        places,
        [&json!(format!("127.0.0.1:{dead_port}")), &json!(format!("127.0.0.1:{}", rig_port(&tried[1])))],
        "{record}"
    );
    assert!(tried[0]["cause"].as_str().is_some_and(|cause| cause.contains("not a word")), "{record}");
}

fn rig_port(attempt: &Value) -> u64 {
    attempt["port"].as_u64().unwrap_or_default()
}

/// NAPTR: the carrier prefers TCP, and that is spoken though the trunk's own word is UDP.
#[test]
fn the_carriers_naptr_records_choose_the_transport() {
    let called = Called::waits("called_and_answers", &["-t", "t1"]);
    let dns = Dns::serves(&[
        "--naptr-record=carrier.test,20,10,s,SIP+D2U,,_sip._udp.carrier.test".to_owned(),
        "--naptr-record=carrier.test,10,10,s,SIP+D2T,,_sip._tcp.carrier.test".to_owned(),
        srv("tcp", called.port, 10),
        srv("udp", free_port(), 10),
        host("sbc.carrier.test", "127.0.0.1"),
    ]);
    let rig = Rig::on(product(&dns.address()), &by_name("carrier.test"), &[]);
    decide(&rig, &json!({"transport_by_dns": true}));
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(record["status"], "completed", "{record}\n{}", dns.told());
    assert_eq!(tried(&record)[0]["transport"], "tcp", "{record}");
}

/// What does not resolve is told by the record, the verdict and the gateway's health, each with what to do.
#[test]
fn a_name_that_is_not_there_is_told_wherever_one_looks() {
    let dns = Dns::serves(&[host("sbc.carrier.test", "127.0.0.1")]);
    let mut trunk = by_name("nowhere.test");
    trunk["qualify_frequency"] = json!(1);
    let rig = Rig::on(product(&dns.address()), &trunk, &[]);
    let id = rig.order();
    let record = rig.record();
    let words =
        "its name nowhere.test does not resolve: it has no SRV, A or AAAA record; check gateway_address";
    assert_eq!(record["status"], "failed", "{record}");
    assert!(record["error_message"].as_str().is_some_and(|error| error.contains(words)), "{record}");
    assert_eq!(tried(&record)[0]["cause"], words, "{record}");
    let verdict = || {
        let (_, verdicts) = rig.product.get("/v1/verdicts?code=gateways_unreachable");
        verdicts["data"].as_array().and_then(|list| list.first().cloned())
    };
    let missing = || format!("no verdict on {id}: {}", rig.product.get("/v1/verdicts").1);
    let verdict = awaited::until(Duration::from_secs(10), missing, verdict);
    assert!(verdict.to_string().contains(words), "{verdict}");
    let health = || rig.product.get(&format!("/sip-trunks/trunks/{}", rig.ids.trunk_id)).1["status"].clone();
    let down = || Some(health()).filter(|status| status["gateways"][0]["state"] == "down");
    let status = awaited::until(Duration::from_secs(30), || format!("not down: {}", health()), down);
    assert_eq!(status["gateways"][0]["cause"], words, "{status}");
}

/// A resolver that is silent is another matter than a name that is not there.
#[test]
fn a_resolver_that_is_silent_is_told_as_such() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let resolver = silent.local_addr().expect("an address").to_string();
    let rig = Rig::on(product(&resolver), &by_name("carrier.test"), &[]);
    rig.order();
    let record = rig.record();
    let error = record["error_message"].as_str().unwrap_or_default();
    assert!(error.contains("could not be looked up") && error.contains("sip.resolver"), "{record}");
}

/// The resolver goes down between two calls: the last answer serves on, long after its time.
#[test]
fn the_last_answer_serves_while_the_resolver_is_down() {
    let called = Called::waits("called_and_answers", &["-m", "3"]);
    let dns = Dns::serves(&[srv("udp", called.port, 10), host("sbc.carrier.test", "127.0.0.1")]);
    let mut trunk = by_name("carrier.test");
    trunk["qualify_frequency"] = json!(0);
    let rig = Rig::on(product(&dns.address()), &trunk, &[]);
    rig.order();
    assert_eq!(rig.record()["status"], "completed");
    drop(dns);
    rig.order();
    rig.order();
    let told = called.finish(&rig.product);
    assert_eq!(told.matches("INVITE sip:").count(), 3, "{told}");
    let calls = rig.product.ended_calls(&rig.ids.agent_id, 3);
    assert!(calls.iter().all(|call| call["status"] == "completed"), "{calls:?}");
    rig.product.until_metric("tandem_gateway_lookups_total", "outcome=\"stale\"", 1.0);
}

/// A server that takes SIP on both loopbacks.
fn on_both_loopbacks(resolver: &str) -> Product {
    let port = free_port();
    let listeners = format!("127.0.0.1:{port},[::1]:{port}");
    Product::start_in(&[
        ("TANDEM__SIP__UDP", &listeners),
        ("TANDEM__SIP__TCP", &listeners),
        ("TANDEM__SIP__RESOLVER", resolver),
    ])
}

/// Signalling and audio over IPv6, to an address and to a name that has no other.
#[test]
fn calls_go_over_ipv6() {
    let address = IpAddr::V6(Ipv6Addr::LOCALHOST);
    let called = Called::waits_at(address, "called_and_answers", &[], &[]);
    let product = on_both_loopbacks("127.0.0.1:9");
    let trunk = json!({"gateways": [{"gateway_address": "::1", "port": called.port}]});
    let rig = Rig::on(product, &trunk, &[]);
    rig.order();
    let told = called.finish(&rig.product);
    assert!(told.contains(&format!("INVITE sip:{CALLEE}@[::1]:")) && told.contains("c=IN IP6 ::1"), "{told}");
    assert_eq!(rig.record()["status"], "completed");

    let called = Called::waits_at(address, "called_and_answers", &[], &["-t", "t1"]);
    let dns = Dns::serves(&[srv("tcp", called.port, 10), host("sbc.carrier.test", "::1")]);
    let mut trunk = by_name("carrier.test");
    trunk["transport"] = json!("transport-tcp");
    let rig = Rig::on(on_both_loopbacks(&dns.address()), &trunk, &[]);
    rig.order();
    called.finish(&rig.product);
    let record = rig.record();
    assert_eq!(record["status"], "completed", "{record}\n{}", dns.told());
    assert!(
        tried(&record)[0]["address"].as_str().is_some_and(|place| place.starts_with("[::1]:")),
        "{record}"
    );
}

/// Headers that make an INVITE too large for a datagram.
fn large() -> Value {
    let value = "x".repeat(500);
    json!({"sip_headers": {"X-One": value, "X-Two": value}})
}

/// RFC 3261 18.1.1, at a gateway that takes TCP alone, and at one that takes UDP alone.
#[test]
fn a_large_invite_goes_by_tcp_and_by_udp_where_the_gateway_takes_no_other() {
    for transport in ["t1", "u1"] {
        let called = Called::waits("called_and_answers", &["-t", transport]);
        let trunk = json!({"gateways": [{"gateway_address": "127.0.0.1", "port": called.port}]});
        let rig = Rig::on(product("127.0.0.1:9"), &trunk, &[]);
        rig.order_with(large());
        let told = called.finish(&rig.product);
        let via =
            if transport == "t1" { "Via: SIP/2.0/TCP 127.0.0.1:" } else { "Via: SIP/2.0/UDP 127.0.0.1:" };
        assert!(told.contains(via) && told.contains("X-Two: xxx"), "{told}");
        assert_eq!(rig.record()["status"], "completed");
        rig.product.until_metric("tandem_sip_events_total", "event=\"large_by_tcp\"", 1.0);
        let events =
            |event: &str| rig.product.metric("tandem_sip_events_total", &format!("event=\"{event}\""));
        let fell_back = f64::from(u8::from(transport == "u1"));
        assert_eq!((events("large_by_tcp"), events("large_by_udp")), (1.0, fell_back));
    }
}

/// A redirect of a carrier is followed to where the trunk's owner allows, and nowhere else.
#[test]
fn a_redirect_is_followed_within_policy_alone() {
    for (is_allowed, policy) in [
        (true, json!({"redirects": {"follow": true, "hosts": ["localhost"]}})),
        (false, json!({"redirects": {"follow": true, "hosts": ["carrier.test"]}})),
        (false, json!({"redirects": {"follow": false, "hosts": ["localhost"]}})),
    ] {
        let called = Called::waits("called_and_answers", &[]);
        let place = format!("sip:{CALLEE}@localhost:{}", called.port);
        let redirecting = Called::waits_with("called_and_redirects", &[("{place}", &place)], &[]);
        let trunk = json!({"gateways": [{"gateway_address": "127.0.0.1", "port": redirecting.port}]});
        let rig = Rig::on(Product::start_with(""), &trunk, &[]);
        decide(&rig, &policy);
        rig.order();
        redirecting.finish(&rig.product);
        let record = if is_allowed {
            let told = called.finish(&rig.product);
            assert!(told.contains(&format!("INVITE {place} SIP/2.0")), "{told}");
            rig.record()
        } else {
            let record = rig.record();
            assert!(!called.told().contains("INVITE"), "{}", called.told());
            record
        };
        let wanted = if is_allowed { "completed" } else { "failed" };
        assert_eq!(record["status"], wanted, "{record}");
        assert_eq!(tried(&record)[0]["sip_status"], 302, "{record}");
        let cause = tried(&record)[0]["cause"].as_str().unwrap_or_default().to_owned();
        assert_eq!(cause.contains("outbound policy"), !is_allowed, "{cause}");
    }
}

/// From, the identities and the diversion as a carrier wants them, read by SIPp.
#[test]
fn a_call_shows_who_calls_as_the_trunk_decides() {
    let called = Called::waits("called_and_answers", &[]);
    let trunk = json!({"gateways": [{"gateway_address": "127.0.0.1", "port": called.port}]});
    let rig = Rig::on(Product::start_with(""), &trunk, &[]);
    decide(
        &rig,
        &json!({"identity": {"from_host": "carrier.test", "diversion": "+918047999999", "privacy": "anonymous"}}),
    );
    rig.order();
    let told = called.finish(&rig.product);
    for line in [
        "From: \"Anonymous\" <sip:anonymous@anonymous.invalid>;tag=",
        "P-Asserted-Identity: <sip:+918047111111@carrier.test>",
        "Privacy: id",
        "Diversion: <sip:+918047999999@carrier.test>;reason=unconditional",
    ] {
        assert!(told.contains(line), "{line}: {told}");
    }
    assert_eq!(rig.record()["status"], "completed");
}
