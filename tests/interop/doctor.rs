//! The trunk doctor at carriers that nobody here wrote: Kamailio registers and routes, baresip or SIPp answers.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tandem_tests::awaited;
use tandem_tests::product::{Product, free_port, userpass_trunk};

use crate::outbound::Called;
use crate::registrar::{Carrier, MANNER};

/// A server with one trunk.
struct Rig {
    product: Product,
    path: String,
}

impl Rig {
    fn new(trunk: &Value) -> Self {
        let product = Product::start();
        let (status, made) = product.post("/sip-trunks/trunks", trunk);
        assert_eq!(status, 201, "{made}");
        let id = made["id"].as_str().expect("an id").to_owned();
        Self { product, path: format!("/v1/trunks/{id}/doctor") }
    }

    /// An examination, once it is over.
    fn examined(&self, body: &Value) -> Value {
        let (status, begun) = self.product.post(&self.path, body);
        assert_eq!((status, &begun["verdict"]), (202, &json!("running")), "{begun}");
        let last = || self.product.get(&self.path).1["data"][0].clone();
        let missing = || format!("{}\n{}", last(), self.product.log());
        let found = awaited::until(Duration::from_secs(60), missing, || {
            Some(last()).filter(|one| one["ended_at"].is_string())
        });
        assert_eq!(found["id"], begun["id"]);
        found
    }
}

/// The steps as `check verdict`.
fn steps(examination: &Value) -> Vec<String> {
    let steps = examination["steps"].as_array().expect("steps").iter();
    steps.map(|step| format!("{} {}", step["check"], step["verdict"]).replace('"', "")).collect()
}

fn step<'a>(examination: &'a Value, check: &str) -> &'a Value {
    let steps = examination["steps"].as_array().expect("steps");
    steps.iter().find(|step| step["check"] == check).unwrap_or_else(|| panic!("no {check}: {examination}"))
}

fn trunk(gateway: SocketAddr) -> Value {
    let mut trunk = userpass_trunk("carrier", "trunkuser", "s3cret-trunk");
    trunk["gateways"] = json!([{"gateway_address": gateway.ip().to_string(), "port": gateway.port()}]);
    trunk
}

#[test]
fn kamailio_is_found_healthy_over_udp_and_tcp() {
    let carrier = Carrier::start(&MANNER);
    for (transport, connects) in [("transport-udp", &[][..]), ("transport-tcp", &["connect passed"][..])] {
        let mut body = trunk(carrier.address);
        body["transport"] = json!(transport);
        body["registration"] = json!({"domain": "carrier.example"});
        let rig = Rig::new(&body);
        carrier.until_registered();
        let found = rig.examined(&json!({}));
        let mut expected = vec!["dns passed"];
        expected.extend(connects);
        expected.extend(["options passed", "dns passed"]);
        expected.extend(connects);
        expected.extend(["register passed", "registration passed"]);
        assert_eq!(steps(&found), expected, "{found}");
        assert_eq!(found["verdict"], "passed");
        assert!(found["steps"].as_array().expect("steps").iter().all(|step| step["took_ms"].is_number()));
    }
}

#[test]
fn what_ails_a_trunk_is_told_with_its_remedy() {
    let carrier = Carrier::start(&MANNER);
    let mut body = trunk(carrier.address);
    body["auth_password"] = json!("wr0ng-password");
    body["registration"] = json!({"domain": "carrier.example"});
    let rig = Rig::new(&body);
    let found = rig.examined(&json!({}));
    assert_eq!(found["verdict"], "failed", "{found}");
    let register = step(&found, "register");
    assert!(register["remedy"].as_str().is_some_and(|text| text.contains("auth_password")), "{register}");
    assert!(!found.to_string().contains("wr0ng"));

    // Nobody is there, by TCP and by name; the steps behind are left out.
    let nobody = SocketAddr::from(([127, 0, 0, 1], free_port()));
    let mut body = trunk(nobody);
    body["transport"] = json!("transport-tcp");
    let rig = Rig::new(&body);
    let found = rig.examined(&json!({"number": "+918800001234"}));
    assert_eq!(
        steps(&found),
        ["dns passed", "connect failed", "register skipped", "call skipped"],
        "{found}"
    );
    assert!(step(&found, "connect")["remedy"].is_string(), "{found}");
    let mut body = trunk(nobody);
    body["gateways"] = json!([{"gateway_address": "no-such-host.invalid"}]);
    let found = Rig::new(&body).examined(&json!({}));
    assert_eq!(steps(&found), ["dns failed", "register skipped"], "{found}");
}

/// SIPp answers OPTIONS and the call, and sends back what it hears.
#[test]
fn an_echo_call_is_placed_when_a_number_is_given() {
    let called = Called::waits("called_by_the_doctor", &["-m", "2", "-aa", "-rtp_echo"]);
    let rig = Rig::new(&trunk(SocketAddr::from(([127, 0, 0, 1], called.port))));
    let found = rig.examined(&json!({"number": "+918800001234", "from": "+918047111111"}));
    assert_eq!(
        steps(&found),
        ["dns passed", "options passed", "register skipped", "call passed", "audio passed"],
        "{found}"
    );
    assert!(
        step(&found, "audio")["detail"].as_str().is_some_and(|text| text.contains("both ways")),
        "{found}"
    );
    let (_, kept) = rig.product.get(&rig.path);
    assert_eq!(kept["data"].as_array().map(Vec::len), Some(1));
}
