//! The `/trunk` family over the trunks of both: what one family writes the other shows, and calls are routed by it.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tandem_call::route::{Action, Authentication, Decision, KeyedAudio, OfferSummary, Query, evaluate};
use tandem_media::Codec;
use tandem_sip::Transport;

use super::client::{Server, agent, ip_trunk};

fn new_trunk(name: &str) -> Value {
    json!({
        "name": name,
        "description": "by the newer family",
        "preset": "telnyx",
        "gateways": [{"host": "b.example", "priority": 2}, {"host": "a.example", "port": 5080}],
        "ip_acls": ["203.0.113.7", {"cidr": "198.51.100.0/24"}],
    })
}

async fn trunk(server: &Server, body: Value) -> Value {
    let answer = server.post("/trunk/trunks", body).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.body
}

fn id(body: &Value) -> String {
    body["id"].as_str().unwrap().to_owned()
}

/// What an INVITE for a user, from an address, would get.
fn call(server: &Server, source: &str, user: &str) -> Decision {
    let source: SocketAddr = format!("{source}:5060").parse().unwrap();
    let uri = format!("sip:{user}@node.example");
    let query = Query {
        source,
        transport: Transport::Udp,
        request_uri: uri.as_bytes(),
        request_user: user.as_bytes(),
        to: b"<sip:x@node.example>",
        to_user: b"x",
        from: b"<sip:caller@carrier.example>",
        sip_call_id: b"1",
        user_agent: b"",
        offer: OfferSummary::Audio {
            codecs: [Codec::PCMU].into_iter().collect(),
            is_plain: true,
            keyed: KeyedAudio::Absent,
        },
    };
    evaluate(&query, &server.table(), &Authentication::Absent)
}

fn answered_by(decision: &Decision) -> Option<String> {
    match &decision.action {
        Action::Connect(route) => Some(route.agent.id.to_string()),
        Action::Challenge(_) | Action::Refuse => None,
    }
}

#[tokio::test]
async fn a_trunk_of_the_newer_family_has_its_defaults_and_is_seen_in_the_legacy_one() {
    let server = Server::start().await;
    let body = trunk(&server, new_trunk("new")).await;
    let expected = json!({
        "user_id": "acme", "telephony_provider": "trunk", "name": "new", "preset": "telnyx",
        "inbound_enabled": true, "outbound_enabled": true, "channels": 10, "channels_in": null,
        "default_inbound_agent_id": null, "auth_username": null, "transport": "udp",
        "outbound_leading_plus_enabled": true, "codecs": ["PCMU", "PCMA"], "numbers": [], "is_active": true,
        "health": "waiting_for_carrier", "active_calls": 0, "conflicts": [],
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&body[name], value, "{name}");
    }
    let hosts: Vec<_> = body["gateways"].as_array().unwrap().iter().map(|one| one["host"].clone()).collect();
    assert_eq!(hosts, ["a.example", "b.example"], "ascending priority");
    assert_eq!(body["ip_acls"][0]["cidr"], "203.0.113.7/32");

    let legacy = server.get(&format!("/sip-trunks/trunks/{}", id(&body))).await.body;
    assert_eq!((&legacy["auth_type"], &legacy["provider"]), (&json!("ip-based"), &json!("telnyx")));
    assert_eq!((&legacy["channels"], &legacy["transport"]), (&json!(10), &json!("transport-udp")));
    assert_eq!(legacy["ip_identifiers"][1], json!({"ip_address": "198.51.100.0/24"}));
    assert_eq!(legacy["gateways"][0]["gateway_address"], "a.example");

    let old = server.trunk("old").await;
    let listed = server.get("/trunk/trunks").await.body;
    let names: Vec<_> = listed.as_array().unwrap().iter().map(|one| one["name"].clone()).collect();
    assert_eq!(names, ["old", "new"], "newest first, both families");
    let seen = server.get(&format!("/trunk/trunks/{old}")).await.body;
    assert_eq!((&seen["preset"], &seen["channels"]), (&json!("plivo"), &Value::Null));
}

#[tokio::test]
async fn a_number_is_found_by_itself_then_by_how_its_carrier_writes_it() {
    let server = Server::start().await;
    let trunk = id(&trunk(&server, new_trunk("a")).await);
    let (first, second) = (server.agent().await, server.agent().await);
    let path = format!("/trunk/trunks/{trunk}/numbers");
    let number =
        |e164: &str, key: &str, agent: &str| json!({"e164": e164, "destination_key": key, "agent_id": agent});
    let one = server.post(&path, number("+919876543210", "mumbai", &first)).await;
    assert_eq!(one.status, 200, "{}", one.text);
    assert_eq!((&one.body["agent_id"], &one.body["trunk_id"]), (&json!(first), &json!(trunk)));
    // What stands for this number is the other number: the number itself goes first.
    let two = server.post(&path, number("+14155550100", "919876543210", &second)).await;
    assert_eq!(two.status, 200, "{}", two.text);
    for (user, agent) in
        [("mumbai", &first), ("+919876543210", &first), ("919876543210", &first), ("+14155550100", &second)]
    {
        assert_eq!(answered_by(&call(&server, "198.51.100.9", user)).as_ref(), Some(agent), "{user}");
    }
    let stranger = call(&server, "192.0.2.1", "mumbai");
    assert_eq!((stranger.verdict.status, answered_by(&stranger)), (403, None), "the source is in no list");
    let unknown = call(&server, "198.51.100.9", "delhi");
    assert_eq!(unknown.verdict.status, 404);

    // The legacy family shows the number, and takes it away.
    let listed = server.get(&format!("/sip-trunks/trunks/{trunk}/numbers")).await.body;
    assert_eq!(listed[0]["phone_number"], "+919876543210");
    let taken = server.post(&path, number("+442071838750", "mumbai", &first)).await;
    taken.refuses(409, "Destination key already exists on this trunk").at("destination_key", &["mumbai"]);
    server.delete(&format!("{path}/{}", id(&one.body))).await;
    assert_eq!(call(&server, "198.51.100.9", "mumbai").verdict.status, 404);
}

#[tokio::test]
async fn a_number_without_an_agent_is_answered_by_the_trunks_default_agent() {
    let server = Server::start().await;
    let (default, own) = (server.agent().await, server.agent().await);
    let mut body = new_trunk("a");
    body["default_inbound_agent_id"] = json!(format!("agt-{default}"));
    let trunk = trunk(&server, body).await;
    assert_eq!(trunk["default_inbound_agent_id"], json!(default));
    let path = format!("/trunk/trunks/{}/numbers", id(&trunk));
    let number = server.post(&path, json!({"e164": "+14155550100", "destination_key": "x1"})).await.body;
    assert_eq!(answered_by(&call(&server, "203.0.113.7", "+14155550100")), Some(default.clone()));
    let path = format!("/trunk/numbers/{}", id(&number));
    let mapped = server.patch(&path, json!({"agent_id": own})).await;
    assert_eq!(mapped.body["agent_id"], json!(own), "{}", mapped.text);
    assert_eq!(answered_by(&call(&server, "203.0.113.7", "x1")), Some(own));
    for body in [Some(json!({"agent_id": null})), Some(json!({})), None] {
        let answer = server.send(server.request("PATCH", &path, &server.key), body).await;
        assert_eq!(
            (answer.status.as_u16(), &answer.body["agent_id"]),
            (200, &Value::Null),
            "{}",
            answer.text
        );
    }
    server.patch(&path, json!({"agent_id": "nobody"})).await.refuses(404, "Agent not found");
    // Deleted, the agent answers nothing, and the trunk says so.
    server.delete(&format!("/v2/agent/{default}")).await;
    assert_eq!(
        server.get(&format!("/trunk/trunks/{}", id(&trunk))).await.body["default_inbound_agent_id"],
        Value::Null
    );
    assert_eq!(call(&server, "203.0.113.7", "x1").verdict.status, 404);
}

#[tokio::test]
async fn gateways_and_ranges_come_and_go_one_by_one_and_keep_their_identifiers() {
    let server = Server::start().await;
    let made = trunk(&server, new_trunk("a")).await;
    let path = format!("/trunk/trunks/{}", id(&made));
    let gateway =
        server.post(&format!("{path}/gateways"), json!({"host": "sip:c.example:5090", "priority": 0})).await;
    assert_eq!(gateway.status, 200, "{}", gateway.text);
    assert_eq!((&gateway.body["host"], &gateway.body["port"]), (&json!("c.example"), &json!(5090)));
    let shown = server.get(&path).await.body;
    assert_eq!(shown["gateways"][0], gateway.body, "the lowest priority goes first");
    assert_eq!(shown["gateways"][1]["id"], made["gateways"][0]["id"]);
    let twice = server.post(&format!("{path}/gateways"), json!({"host": "c.example", "port": 5090})).await;
    twice.refuses(409, "This gateway is on the trunk already");
    let removed = server.delete(&format!("{path}/gateways/{}", id(&gateway.body))).await;
    assert_eq!(removed.status, 200, "{}", removed.text);
    server.delete(&format!("{path}/gateways/{}", id(&gateway.body))).await.refuses(404, "Gateway not found");
    for at in 0..6 {
        server.post(&format!("{path}/gateways"), json!({"host": format!("g{at}.example")})).await;
    }
    let ninth = server.post(&format!("{path}/gateways"), json!({"host": "ninth.example"})).await;
    assert_eq!(ninth.status, 409, "{}", ninth.text);
    ninth.at("gateways", &["8", "take one away first"]);

    let range = server.post(&format!("{path}/ip-acls"), json!({"cidr": "192.0.2.9"})).await;
    assert_eq!((range.status.as_u16(), &range.body["cidr"]), (200, &json!("192.0.2.9/32")), "{}", range.text);
    assert!(server.table().knows_source("192.0.2.9".parse().unwrap()));
    server
        .post(&format!("{path}/ip-acls"), json!({"cidr": "192.0.2.9/32"}))
        .await
        .refuses(409, "This range is on the trunk already");
    server.delete(&format!("{path}/ip-acls/{}", id(&range.body))).await;
    assert!(!server.table().knows_source("192.0.2.9".parse().unwrap()));
    server.delete(&format!("{path}/ip-acls/x")).await.refuses(404, "IP range not found");
}

#[tokio::test]
async fn a_pair_of_credentials_is_set_and_cleared_together_and_proves_a_trunk_without_ranges() {
    let server = Server::start().await;
    let mut body = new_trunk("a");
    body["ip_acls"] = json!([]);
    body["auth_username"] = json!("carol");
    server.post("/trunk/trunks", body.clone()).await.at("auth_password", &["set together"]);
    body["auth_password"] = json!("very secret");
    let made = trunk(&server, body).await;
    assert_eq!(made["auth_username"], "carol");
    assert!(!made.to_string().contains("very secret"));
    let legacy = format!("/sip-trunks/trunks/{}", id(&made));
    assert_eq!(server.get(&legacy).await.body["auth_type"], "userpass");
    let path = format!("/trunk/trunks/{}", id(&made));
    // With ranges, these prove it; the pair stays for outbound calls.
    server.post(&format!("{path}/ip-acls"), json!({"cidr": "192.0.2.0/24"})).await;
    let seen = server.get(&legacy).await.body;
    assert_eq!((&seen["auth_type"], &seen["auth_username"]), (&json!("ip-based"), &Value::Null));
    assert_eq!(server.get(&path).await.body["auth_username"], "carol");
    let cleared = server.patch(&path, json!({"auth_username": null, "auth_password": null})).await;
    assert_eq!((cleared.status.as_u16(), &cleared.body["auth_username"]), (200, &Value::Null));
    server.patch(&path, json!({"auth_password": "x"})).await.at("auth_username", &["set together"]);
}

#[tokio::test]
async fn settings_are_patched_and_lists_are_sent_to_their_own_endpoints() {
    let server = Server::start().await;
    let made = trunk(&server, new_trunk("a")).await;
    let path = format!("/trunk/trunks/{}", id(&made));
    let changed = server
        .patch(
            &path,
            json!({
                "name": "b", "description": null, "preset": "vonage", "inbound_enabled": false,
                "outbound_enabled": false, "channels": 3, "channels_in": 2, "channels_out": 1,
                "calls_per_second": 0.5, "transport": "tcp", "outbound_leading_plus_enabled": false,
                "codecs": ["PCMA"], "is_active": false,
            }),
        )
        .await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let expected = json!({
        "name": "b", "description": null, "preset": "vonage", "inbound_enabled": false, "outbound_enabled": false,
        "channels": 3, "channels_in": 2, "channels_out": 1, "calls_per_second": 0.5, "transport": "tcp",
        "outbound_leading_plus_enabled": false, "codecs": ["PCMA"], "is_active": false, "health": "disabled",
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&changed.body[name], value, "{name}");
    }
    let table = server.table();
    let routed = table.trunk(&id(&made).into()).unwrap();
    assert_eq!(
        (
            routed.limits.calls_total,
            routed.limits.calls_in,
            routed.limits.calls_out,
            routed.limits.calls_per_second
        ),
        (Some(3), Some(2), Some(1), Some(0.5))
    );
    assert!(!routed.outbound_enabled);
    let unbound = server.patch(&path, json!({"channels": null, "calls_per_second": null})).await;
    assert_eq!((&unbound.body["channels"], &unbound.body["calls_per_second"]), (&Value::Null, &Value::Null));
    for (name, place) in [("gateways", "gateways"), ("ip_acls", "ip-acls"), ("numbers", "numbers")] {
        server.patch(&path, json!({name: []})).await.at(name, &[&format!("/{place}"), "DELETE"]);
    }
    // The legacy family changes such a trunk too, though it has no identifiers and no gateways to speak of.
    let bare = trunk(&server, json!({"name": "bare"})).await;
    let legacy =
        server.patch(&format!("/sip-trunks/trunks/{}", id(&bare)), json!({"description": "x"})).await;
    assert_eq!(legacy.status, 200, "{}", legacy.text);
    let emptied = server.patch(&format!("/sip-trunks/trunks/{}", id(&bare)), json!({"gateways": []})).await;
    emptied.refuses(400, "At least one gateway is required");
}

#[tokio::test]
async fn what_is_wrong_with_a_body_of_the_newer_family_is_named() {
    let server = Server::start().await;
    let cases: &[(&str, Value, &str, &[&str])] = &[
        ("name", json!("x".repeat(101)), "name", &["101", "100"]),
        ("preset", json!("zadarma"), "preset", &["zadarma", "\"custom\""]),
        ("channels", json!(0), "channels", &["0", "1 to 1000"]),
        ("channels", json!("10"), "channels", &["without quotes"]),
        ("calls_per_second", json!(0), "calls_per_second", &["0.001"]),
        ("transport", json!("tls"), "transport", &["\"tls\"", "\"udp\", \"tcp\""]),
        ("codecs", json!([]), "codecs", &["PCMU, PCMA"]),
        ("codecs", json!(["PCMU", "PCMU"]), "codecs[1]", &["twice"]),
        ("codecs", json!(["ulaw"]), "codecs[0]", &["ulaw", "\"PCMU\""]),
        ("codecs", json!("PCMU"), "codecs", &["a list of texts"]),
        ("gateways", json!([{"host": "a b"}]), "gateways[0].host", &["a b"]),
        ("gateways", json!([{"port": 5060}]), "gateways[0].host", &["missing"]),
        ("ip_acls", json!(["203.0.113.5/24"]), "ip_acls[0]", &["host bits", "203.0.113.0/24"]),
        ("ip_acls", json!([{"cidr": "0.0.0.0/0"}]), "ip_acls[0].cidr", &["/8"]),
        ("ip_acls", json!([7]), "ip_acls[0]", &["the number 7"]),
        ("ip_acls", json!("203.0.113.5"), "ip_acls", &["give a list"]),
        ("inbound_enabled", json!("yes"), "inbound_enabled", &["true or false"]),
        ("description", json!("x".repeat(501)), "description", &["501", "500"]),
    ];
    for (name, value, location, parts) in cases {
        let mut body = new_trunk("a");
        body[*name] = value.clone();
        let answer = server.post("/trunk/trunks", body).await;
        assert_eq!(answer.status, 400, "{name}: {}", answer.text);
        answer.at(location, parts);
    }
    let mut body = new_trunk("a");
    body["gateways"] = (0..9).map(|at| json!({"host": format!("g{at}.example")})).collect();
    server.post("/trunk/trunks", body).await.at("gateways", &["9", "8"]);
    let mut body = new_trunk("a");
    body["default_inbound_agent_id"] = json!("nobody");
    server
        .post("/trunk/trunks", body)
        .await
        .refuses(404, "Agent not found")
        .at("default_inbound_agent_id", &["POST /v2/agent"]);
    server.post("/trunk/trunks", json!({})).await.refuses(400, "Trunk name is required");
    assert_eq!(server.get("/trunk/trunks").await.body, json!([]), "nothing that was refused is there");

    let trunk = id(&trunk(&server, new_trunk("a")).await);
    server
        .patch(&format!("/trunk/trunks/{trunk}"), json!({"default_inbound_agent_id": "nobody"}))
        .await
        .refuses(404, "Agent not found")
        .at("default_inbound_agent_id", &["POST /v2/agent"]);
    let path = format!("/trunk/trunks/{trunk}/numbers");
    for (body, location, parts) in [
        (json!({"destination_key": "1"}), "e164", "missing"),
        (json!({"e164": "+14155550100"}), "destination_key", "missing"),
        (json!({"e164": "14155550100", "destination_key": "1"}), "e164", "+ and 7 to 15 digits"),
        (json!({"e164": "+123456", "destination_key": "1"}), "e164", "7 to 15"),
        (json!({"e164": 14155550100_i64, "destination_key": "1"}), "e164", "text in quotes"),
        (json!({"e164": "+14155550100", "destination_key": "+1"}), "destination_key", "begins with +"),
        (json!({"e164": "+14155550100", "destination_key": "a b"}), "destination_key", "Request-URI"),
    ] {
        let answer = server.post(&path, body).await;
        assert_eq!(answer.status, 400, "{}", answer.text);
        answer.at(location, &[parts]);
    }
}

#[tokio::test]
async fn a_trunk_that_is_not_there_is_said_to_be_no_live_trunk() {
    let server = Server::start().await;
    let gone = id(&trunk(&server, new_trunk("a")).await);
    assert_eq!(server.delete(&format!("/trunk/trunks/{gone}")).await.status, 200);
    let foreign = id(&server
        .send(server.request("POST", "/trunk/trunks", &server.other_key), Some(new_trunk("a")))
        .await
        .body);
    for id in [gone.as_str(), foreign.as_str(), "x"] {
        let path = format!("/trunk/trunks/{id}");
        let text = format!("No live trunk has the id {id:?}");
        server.get(&path).await.refuses(404, &text);
        server.patch(&path, json!({"name": "b"})).await.refuses(404, &text);
        server.delete(&path).await.refuses(404, &text);
        server.post(&format!("{path}/gateways"), json!({"host": "a.example"})).await.refuses(404, &text);
        server.delete(&format!("{path}/gateways/x")).await.refuses(404, &text);
        server.post(&format!("{path}/ip-acls"), json!({"cidr": "192.0.2.1"})).await.refuses(404, &text);
        server.delete(&format!("{path}/ip-acls/x")).await.refuses(404, &text);
        let number = json!({"e164": "+14155550100", "destination_key": "1"});
        server.post(&format!("{path}/numbers"), number).await.refuses(404, &text);
        server.delete(&format!("{path}/numbers/x")).await.refuses(404, &text);
    }
    server.patch("/trunk/numbers/x", json!({})).await.refuses(404, "Phone number not found");
}

#[tokio::test]
async fn ranges_that_others_have_too_are_taken_with_a_note_that_names_nobody_elses_trunk() {
    let server = Server::start().await;
    let theirs = server
        .send(server.request("POST", "/sip-trunks/trunks", &server.other_key), Some(ip_trunk("hush")))
        .await;
    assert_eq!((theirs.status.as_u16(), &theirs.body["conflicts"]), (201, &json!([])));
    // The same range, one inside it, and one around it: each is told.
    for (at, range) in ["203.0.113.0/24", "203.0.113.7", "203.0.0.0/16"].iter().enumerate() {
        let mut body = ip_trunk(&format!("mine {at}"));
        body["ip_identifiers"] = json!([{"ip_address": range}, {"ip_address": format!("192.0.2.{at}")}]);
        let mine = server.post("/sip-trunks/trunks", body).await;
        assert_eq!(mine.status, 201, "{}", mine.text);
        let conflicts = mine.body["conflicts"].as_array().unwrap();
        assert_eq!(conflicts.len(), 1, "{}", mine.text);
        assert_eq!(conflicts[0]["ip_address"], *range);
        let message = conflicts[0]["message"].as_str().unwrap();
        assert!(
            message.contains("a trunk of another account") && message.contains("number dialled"),
            "{message}"
        );
        assert!(!mine.text.contains("hush") && !mine.text.contains("\"other\""), "{}", mine.text);
        assert_eq!(message.contains("your trunk"), at > 0, "{message}");
        let id = mine.body["id"].as_str().unwrap();
        assert_eq!(
            server.get(&format!("/trunk/trunks/{id}")).await.body["conflicts"],
            mine.body["conflicts"]
        );
    }
    // The number tells the trunks apart.
    let (first, second) = (server.agent().await, {
        let made = server.send(server.request("POST", "/v2/agent", &server.other_key), Some(agent())).await;
        made.body["agent_id"].as_str().unwrap().to_owned()
    });
    let mine = server.get("/sip-trunks/trunks").await.body[2]["id"].as_str().unwrap().to_owned();
    let number = server.number(&mine, "+14155550100").await;
    server.post("/inbound/setup", json!({"agent_id": first, "phone_number_id": number})).await;
    let path = format!("/sip-trunks/trunks/{}/numbers", theirs.body["id"].as_str().unwrap());
    let number = server
        .send(server.request("POST", &path, &server.other_key), Some(json!({"phone_number": "+14155550101"})))
        .await;
    let mapping = json!({"agent_id": second, "phone_number_id": number.body["id"]});
    server.send(server.request("POST", "/inbound/setup", &server.other_key), Some(mapping)).await;
    assert_eq!(answered_by(&call(&server, "203.0.113.200", "+14155550100")), Some(first));
    assert_eq!(answered_by(&call(&server, "203.0.113.200", "+14155550101")), Some(second));
}

#[tokio::test]
async fn the_point_of_presence_is_read_from_the_configuration() {
    let server = Server::with(|config| {
        config.sip.public_address = Some("198.51.100.20".parse().unwrap());
        config.media.public_address = Some("198.51.100.21".parse().unwrap());
        config.sip.udp = vec!["0.0.0.0:5070".parse().unwrap()];
        config.sip.tcp = Vec::new();
    })
    .await;
    let answer = server.get("/trunk/pop").await;
    assert_eq!(
        answer.body,
        json!({
            "sip_domain": "198.51.100.20", "port": 5070, "transports": ["udp"],
            "ips": ["198.51.100.20", "198.51.100.21"], "rtp_ports": "20000-29999",
        })
    );
}

#[tokio::test]
async fn numbers_are_listed_over_all_trunks_and_are_not_for_sale() {
    let server = Server::start().await;
    let old = server.trunk("old").await;
    server.number(&old, "919876543210").await;
    let new = id(&trunk(&server, new_trunk("new")).await);
    server
        .post(
            &format!("/trunk/trunks/{new}/numbers"),
            json!({"e164": "+14155550100", "destination_key": "1"}),
        )
        .await;
    let answer = server.get("/phone-numbers/all").await;
    let numbers: Vec<_> =
        answer.body.as_array().unwrap().iter().map(|one| one["phone_number"].clone()).collect();
    assert_eq!(numbers, ["919876543210", "+14155550100"]);
    let first = &answer.body[0];
    for (name, value) in [
        ("telephony_provider", json!("sip-trunk")),
        ("rented", json!(false)),
        ("price", json!("$0.0")),
        ("renewal_at", Value::Null),
        ("agent_id", Value::Null),
        ("humanized_created_at", json!("just now")),
    ] {
        assert_eq!(first[name], value, "{name}");
    }
    for answer in [
        server.get("/phone-numbers/search?country=IN").await,
        server.post("/phone-numbers/buy", json!({"phone_number": "+1"})).await,
        server.delete(&format!("/phone-numbers/{}", first["id"].as_str().unwrap())).await,
    ] {
        assert_eq!((answer.status.as_u16(), &answer.body["error"]), (501, &json!(501)), "{}", answer.text);
        assert!(
            answer.body["message"].as_str().unwrap().contains("POST /sip-trunks/trunks/{trunk_id}/numbers")
        );
    }
    let me = server.get("/user/me").await;
    assert_eq!(
        (&me.body["id"], &me.body["concurrency"]["current"]),
        (&json!("acme"), &json!(0)),
        "{}",
        me.text
    );
}
