//! How a trunk's calls leave, as its owner decides: what is taken, what is refused with the remedy, and that it reaches calls.

use serde_json::json;
use tandem_call::failover::{FailoverCase, Next};
use tandem_call::identity::{Asserted, FromUser, PrivacyPolicy};
use tandem_call::{LargeRequestPolicy, OutboundPolicy};

use super::client::{Server, ip_trunk};

fn policy(server: &Server, trunk: &str) -> OutboundPolicy {
    server.table().trunk(&trunk.into()).unwrap().outbound.clone()
}

#[tokio::test]
async fn a_policy_is_shown_as_it_was_set_and_reaches_calls_part_by_part() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let path = format!("/v1/trunks/{trunk}/outbound");
    let first = server.get(&path).await;
    assert_eq!(first.status, 200, "{}", first.text);
    assert_eq!((&first.body["failover"], &first.body["redirects"]["follow"]), (&json!({}), &json!(false)));
    assert_eq!(policy(&server, &trunk), OutboundPolicy::default());
    let whole = json!({
        "transport_by_dns": true, "large_requests": "udp",
        "failover": {"403": "next", "5xx": "end", "timeout": "end"},
        "redirects": {"follow": true, "most": 2, "hosts": ["*.Carrier.example", "203.0.113.0/24"], "numbers": ["+91"]},
        "identity": {"from_user": "username", "from_host": "sip.carrier.example", "display_name": "Ada & Co",
            "asserted": "always", "diversion": "number", "privacy": "id"},
    });
    let changed = server.patch(&path, whole.clone()).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.body["failover"], whole["failover"]);
    assert_eq!(changed.body["redirects"]["hosts"], json!(["*.carrier.example", "203.0.113.0/24"]));
    assert_eq!(changed.body["identity"], whole["identity"]);
    assert_eq!(server.get(&path).await.body, changed.body);
    let routed = policy(&server, &trunk);
    assert!(routed.transport_by_dns && routed.redirects.follow);
    assert_eq!(routed.large_requests, LargeRequestPolicy::Udp);
    assert_eq!(routed.failover.after(FailoverCase::Status(403)), Next::Gateway);
    assert_eq!(routed.failover.after(FailoverCase::Status(503)), Next::End);
    let identity = &routed.identity;
    assert_eq!((identity.from_user, identity.asserted), (FromUser::Username, Asserted::Always));
    assert_eq!(identity.privacy, PrivacyPolicy::Id);
    // A part that is not sent stays; null goes back to the default.
    let part = json!({"redirects": {"follow": false}, "failover": null, "identity": {"display_name": null}});
    let changed = server.patch(&path, part).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!((&changed.body["redirects"]["most"], &changed.body["failover"]), (&json!(2), &json!({})));
    assert_eq!(changed.body["identity"]["display_name"], json!(null));
    assert_eq!(changed.body["identity"]["diversion"], "number");
    // The trunk's other settings leave it alone.
    server.patch(&format!("/sip-trunks/trunks/{trunk}"), json!({"name": "another"})).await;
    assert_eq!(policy(&server, &trunk).identity.diversion.as_deref(), Some("number"));
}

#[tokio::test]
async fn what_will_not_do_is_named_with_what_would() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    let path = format!("/v1/trunks/{trunk}/outbound");
    let bad = json!({
        "transport_by_dns": "yes", "large_requests": "sctp",
        "failover": {"200": "next", "busy": "next", "503": "retry"},
        "redirects": {"follow": 1, "most": 11, "hosts": ["*.example", "a b", "*"], "numbers": ["+", "abc", "+91"]},
        "identity": {"from_user": "me", "from_host": "a\u{0}b", "asserted": "yes", "diversion": "+", "privacy": "full",
            "display_name": "a\r\nX: 1"},
    });
    let answer = server.patch(&path, bad).await;
    assert_eq!(answer.status, 400, "{}", answer.text);
    answer
        .at("transport_by_dns", &["give true or false"])
        .at("large_requests", &["tcp", "udp"])
        .at("failover.200", &["no case", "timeout or unreachable"])
        .at("failover.busy", &["no case"])
        .at("failover.503", &["\"next\" or \"end\""])
        .at("redirects.follow", &["give true or false"])
        .at("redirects.most", &["from 1 to 10"])
        .at("redirects.hosts[0]", &["*.carrier.example"])
        .at("redirects.hosts[1]", &["give a name"])
        .at("redirects.hosts[2]", &["give a name"])
        .at("redirects.numbers[0]", &["+91"])
        .at("identity.from_host", &["control character"])
        .at("identity.display_name", &["control character"])
        .at("identity.diversion", &["give \"number\""])
        .at("identity.privacy", &["anonymous"]);
    assert_eq!(policy(&server, &trunk), OutboundPolicy::default(), "nothing of it was taken");
    let lists = json!({"redirects": {"numbers": "+91"}, "failover": ["403"], "identity": 7});
    let answer = server.patch(&path, lists).await;
    answer
        .at("redirects.numbers", &["a list"])
        .at("failover", &["give an object"])
        .at("identity", &["give an object"]);
    assert_eq!(server.get("/v1/trunks/nothing/outbound").await.status, 404);
}

#[tokio::test]
async fn a_gateway_without_a_port_is_found_by_its_service_records() {
    let server = Server::start().await;
    let mut body = ip_trunk("a");
    body["gateways"] = json!([
        {"gateway_address": "by-service.example"},
        {"gateway_address": "by-port.example", "port": 5060},
        {"gateway_address": "by-port.example:5080"},
        {"gateway_address": "192.0.2.1"},
        {"gateway_address": "forced.example", "port": 5060, "service_records": true},
        {"gateway_address": "plain.example", "service_records": false},
    ]);
    let made = server.post("/sip-trunks/trunks", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let id = made.body["id"].as_str().unwrap().to_owned();
    let told = |list: &serde_json::Value| -> Vec<(u64, bool)> {
        let one = |gateway: &serde_json::Value| {
            (gateway["port"].as_u64().unwrap(), gateway["service_records"].as_bool().unwrap())
        };
        list.as_array().unwrap().iter().map(one).collect()
    };
    let wanted = [(5060, true), (5060, false), (5080, false), (5060, false), (5060, true), (5060, false)];
    assert_eq!(told(&made.body["gateways"]), wanted);
    let ports = || -> Vec<Option<u16>> {
        server
            .table()
            .trunk(&id.as_str().into())
            .unwrap()
            .gateways
            .iter()
            .map(|gateway| gateway.port)
            .collect()
    };
    assert_eq!(ports(), [None, Some(5060), Some(5080), Some(5060), None, Some(5060)]);
    // A client that sends the list back as it got it, and knows nothing of service records, changes nothing.
    let mut list = made.body["gateways"].clone();
    for gateway in list.as_array_mut().unwrap() {
        gateway.as_object_mut().unwrap().remove("service_records");
    }
    let changed = server.patch(&format!("/sip-trunks/trunks/{id}"), json!({"gateways": list})).await;
    assert_eq!(told(&changed.body["gateways"]), wanted);
    let off = json!({"gateways": [{"gateway_address": "by-service.example", "service_records": false}]});
    server.patch(&format!("/sip-trunks/trunks/{id}"), off).await;
    assert_eq!(ports(), [Some(5060)]);
    let address = json!({"gateways": [{"gateway_address": "192.0.2.1", "service_records": true}]});
    let refused = server.patch(&format!("/sip-trunks/trunks/{id}"), address).await;
    refused.at("gateways[0].service_records", &["only names"]);
}
