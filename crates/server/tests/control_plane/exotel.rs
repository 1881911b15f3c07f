//! The way of Exotel's pages, endpoint by endpoint, in its envelope; every answer is held against the shapes that
//! the vendor prints, and routing is looked at after what changes it.

use axum::http::header;
use base64_simd::STANDARD;
use serde_json::{Value, json};

use super::client::{Answer, Server, ip_trunk};

/// Answers as the vendor prints them: what is there, and of which type.
const ENVELOPE: [(&str, &str); 4] =
    [("request_id", "string"), ("method", "string"), ("http_code", "integer"), ("response", "any")];
const TRUNK: [(&str, &str); 15] = [
    ("trunk_name", "string"),
    ("date_created", "time"),
    ("date_updated", "time"),
    ("trunk_sid", "string"),
    ("status", "string"),
    ("domain_name", "string"),
    ("auth_type", "string"),
    ("registration_enabled", "string"),
    ("edge_preference", "string"),
    ("nso_code", "string"),
    ("secure_trunking", "string"),
    ("destination_uris", "string"),
    ("whitelisted_ips", "string"),
    ("credentials", "string"),
    ("phone_numbers", "string"),
];
const NUMBER: [(&str, &str); 6] = [
    ("id", "digits"),
    ("phone_number", "string"),
    ("trunk_sid", "string"),
    ("date_created", "time"),
    ("date_updated", "time"),
    ("mode", "text or null"),
];
const ADDRESS: [(&str, &str); 7] = [
    ("id", "digits"),
    ("mask", "integer"),
    ("trunk_sid", "string"),
    ("ip", "string"),
    ("friendly_name", "text or null"),
    ("date_created", "time"),
    ("date_updated", "time"),
];
const DESTINATION: [(&str, &str); 8] = [
    ("id", "digits"),
    ("destination", "string"),
    ("date_created", "time"),
    ("date_updated", "time"),
    ("type", "string"),
    ("priority", "integer"),
    ("weight", "integer"),
    ("trunk_sid", "string"),
];
const CREDENTIAL: [(&str, &str); 6] = [
    ("id", "digits"),
    ("trunk_sid", "string"),
    ("user_name", "string"),
    ("friendly_name", "text or null"),
    ("date_created", "time"),
    ("date_updated", "time"),
];
const SETTING: [(&str, &str); 5] = [
    ("name", "string"),
    ("value", "string"),
    ("trunk_sid", "string"),
    ("date_created", "time"),
    ("date_updated", "time"),
];
const MAP: [(&str, &str); 4] = [
    ("exophone", "string"),
    ("trunk_sid", "string"),
    ("phone_number_id", "digits"),
    ("mode", "text or null"),
];

/// Holds an object against a printed shape: every field of it, of its type.
#[track_caller]
fn shaped(value: &Value, shape: &[(&str, &str)]) {
    for (name, kind) in shape {
        let field = value.get(name).unwrap_or_else(|| panic!("{name} is missing in {value}"));
        let text = field.as_str();
        let is_good = match *kind {
            "string" => field.is_string(),
            "integer" => field.is_u64(),
            "text or null" => field.is_string() || field.is_null(),
            "digits" => text.is_some_and(|text| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())),
            "time" => {
                text.is_some_and(|text| text.len() == 20 && text.ends_with('Z') && &text[10..11] == "T")
            }
            _ => true,
        };
        assert!(is_good, "{name} is no {kind} in {value}");
    }
}

impl Answer {
    /// The data of a successful answer about one thing, of a printed shape.
    #[track_caller]
    pub(crate) fn data(&self, shape: &[(&str, &str)]) -> Value {
        assert_eq!(self.status, 200, "{}", self.text);
        shaped(&self.body, &ENVELOPE);
        assert_eq!(self.body["http_code"], 200, "{}", self.text);
        let id = self.body["request_id"].as_str().unwrap();
        assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
        let outcome = &self.body["response"];
        assert_eq!(
            (&outcome["code"], &outcome["status"], &outcome["error_data"]),
            (&json!(200), &json!("success"), &Value::Null),
            "{}",
            self.text
        );
        shaped(&outcome["data"], shape);
        outcome["data"].clone()
    }

    /// The data of a successful list, each of a printed shape.
    #[track_caller]
    pub(crate) fn list(&self, shape: &[(&str, &str)]) -> Vec<Value> {
        assert_eq!(self.status, 200, "{}", self.text);
        shaped(&self.body, &ENVELOPE);
        shaped(
            &self.body["metadata"],
            &[
                ("page_size", "integer"),
                ("first_page_uri", "string"),
                ("prev_page_uri", "text or null"),
                ("next_page_uri", "text or null"),
            ],
        );
        let items = self.body["response"].as_array().unwrap_or_else(|| panic!("no list: {}", self.text));
        items
            .iter()
            .map(|item| {
                assert_eq!(
                    (&item["code"], &item["status"]),
                    (&json!(200), &json!("success")),
                    "{}",
                    self.text
                );
                shaped(&item["data"], shape);
                item["data"].clone()
            })
            .collect()
    }
}

impl Server {
    /// A request of an Exotel client: HTTP Basic with the key's name and the token.
    pub(crate) async fn exotel(&self, method: &str, path: &str, body: Option<Value>) -> Answer {
        self.exotel_as(&self.key, method, path, body).await
    }

    pub(crate) async fn exotel_as(&self, key: &str, method: &str, path: &str, body: Option<Value>) -> Answer {
        let basic = format!("Basic {}", STANDARD.encode_to_string(format!("api_key:{key}")));
        let request = self.request(method, path, "").header(header::AUTHORIZATION, basic);
        let answer = self.send(request, body).await;
        assert_eq!(answer.body["method"], method, "{}", answer.text);
        answer
    }

    /// A trunk of `acme` made by Exotel's API; its sid.
    pub(crate) async fn exotel_trunk(&self, name: &str) -> String {
        let answer = self.exotel("POST", TRUNKS, Some(new_trunk(name))).await;
        answer.data(&TRUNK)["trunk_sid"].as_str().unwrap().to_owned()
    }
}

pub(crate) const TRUNKS: &str = "/v2/accounts/acme/trunks";

pub(crate) fn new_trunk(name: &str) -> Value {
    json!({"trunk_name": name, "nso_code": "ANY-ANY", "domain_name": "acme.pstn.exotel.com"})
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a text, not {value}"))
}

#[tokio::test]
async fn a_trunk_is_made_listed_changed_and_deleted_as_printed() {
    let server = Server::start().await;
    let made = server.exotel("POST", TRUNKS, Some(new_trunk("my_trunk1234"))).await.data(&TRUNK);
    let sid = text(&made["trunk_sid"]).to_owned();
    assert!(sid.starts_with("trmum1") && sid.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase()));
    for (name, value) in [
        ("trunk_name", "my_trunk1234"),
        ("status", "active"),
        ("domain_name", "acme.pstn.exotel.com"),
        ("auth_type", "IP-WHITELIST"),
        ("registration_enabled", "disabled"),
        ("edge_preference", "auto"),
        ("nso_code", "ANY-ANY"),
        ("secure_trunking", "disabled"),
    ] {
        assert_eq!(made[name], value, "{name}");
    }
    for (name, kind) in [
        ("destination_uris", "destination-uris"),
        ("whitelisted_ips", "whitelisted-ips"),
        ("credentials", "credentials"),
        ("phone_numbers", "phone-numbers"),
    ] {
        assert_eq!(made[name], format!("{TRUNKS}/{sid}/{kind}"));
        // What it names is there.
        assert_eq!(server.exotel("GET", text(&made[name]), None).await.body["response"], json!([]));
    }
    let list = server.exotel("GET", TRUNKS, None).await;
    assert_eq!(list.list(&TRUNK), std::slice::from_ref(&made));
    assert_eq!(list.body["metadata"]["page_size"], 50);
    assert_eq!(list.body["metadata"]["first_page_uri"], format!("{TRUNKS}?offset=0&page_size=50"));
    let filtered = server.exotel("GET", &format!("{TRUNKS}?trunk_sid={sid}"), None).await;
    assert_eq!(filtered.list(&TRUNK).len(), 1);

    let path = format!("{TRUNKS}/{sid}");
    let body = json!({"trunk_name": "renamed", "auth_type": "IP-WHITELIST", "nso_code": "ANY-ANY"});
    let changed = server.exotel("PUT", &path, Some(body)).await.data(&TRUNK);
    assert_eq!((&changed["trunk_name"], &changed["trunk_sid"]), (&json!("renamed"), &json!(sid)));
    assert_eq!(server.exotel("PUT", &path, Some(json!({}))).await.data(&TRUNK)["trunk_name"], "renamed");

    let gone = server.exotel("DELETE", &format!("{TRUNKS}?trunk_sid={sid}"), None).await.data(&TRUNK);
    assert_eq!(gone["trunk_name"], "renamed");
    assert_eq!(server.exotel("GET", TRUNKS, None).await.body["response"], json!([]));
}

#[tokio::test]
async fn numbers_are_mapped_moved_between_modes_looked_up_and_removed() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("numbers").await;
    let path = format!("{TRUNKS}/{sid}/phone-numbers");
    let add = |body: Value| server.exotel("POST", &path, Some(body));
    let plain = add(json!({"phone_number": "+919876543210"})).await.data(&NUMBER);
    assert_eq!((&plain["mode"], &plain["phone_number"]), (&Value::Null, &json!("+919876543210")));
    assert_eq!(plain["trunk_sid"], sid.as_str());
    let pstn = add(json!({"phone_number": "+918040264208", "mode": "pstn"})).await.data(&NUMBER);
    assert_eq!(pstn["mode"], "pstn");
    let names: Vec<Value> = server.exotel("GET", &path, None).await.list(&NUMBER);
    assert_eq!(names.len(), 2);

    let one = format!("{path}/{}", text(&pstn["id"]));
    let body = json!({"phone_number": "+918040264208", "mode": "flow"});
    let flow = server.exotel("PUT", &one, Some(body)).await.data(&NUMBER);
    assert_eq!(
        (&flow["mode"], &flow["id"], &flow["date_created"]),
        (&json!("flow"), &pstn["id"], &pstn["date_created"])
    );

    // A plus that the client did not escape is a blank by the time it arrives.
    for exophone in ["%2B918040264208", "+918040264208", "918040264208"] {
        let maps =
            server.exotel("GET", &format!("/v2/accounts/acme/trunk-maps?exophone={exophone}"), None).await;
        let maps = maps.list(&MAP);
        assert_eq!(
            maps,
            [
                json!({"exophone": "+918040264208", "trunk_sid": sid, "phone_number_id": pstn["id"], "mode": "flow"})
            ]
        );
    }
    let elsewhere = server.exotel_trunk("elsewhere").await;
    let none = format!("/v2/accounts/acme/trunk-maps?exophone=918040264208&trunk_sid={elsewhere}");
    assert_eq!(server.exotel("GET", &none, None).await.body["response"], json!([]));

    let delete = format!("{path}?id={}", text(&pstn["id"]));
    assert_eq!(server.exotel("DELETE", &delete, None).await.data(&NUMBER)["id"], pstn["id"]);
    assert_eq!(server.exotel("GET", &path, None).await.list(&NUMBER), [plain]);
    assert_eq!(server.table().number_count(), 1);
}

#[tokio::test]
async fn a_number_is_mapped_to_an_agent_by_the_id_that_exotels_api_shows() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("mapped").await;
    let path = format!("{TRUNKS}/{sid}/phone-numbers");
    let number =
        server.exotel("POST", &path, Some(json!({"phone_number": "+919876543210", "mode": "flow"}))).await;
    let id = number.data(&NUMBER)["id"].clone();
    let agent = server.agent().await;
    let mapped = server.post("/inbound/setup", json!({"agent_id": agent, "phone_number_id": id})).await;
    assert_eq!(
        (mapped.status.as_u16(), &mapped.body["phone_number"]),
        (200, &json!("+919876543210")),
        "{}",
        mapped.text
    );
    let unlinked = server.post("/inbound/unlink", json!({"phone_number_id": id})).await;
    assert_eq!(unlinked.status, 200, "{}", unlinked.text);
    assert_eq!(unlinked.body["id"], mapped.body["id"], "both name the number by its own id");
}

#[tokio::test]
async fn addresses_open_the_trunk_as_soon_as_they_are_answered() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("addresses").await;
    let path = format!("{TRUNKS}/{sid}/whitelisted-ips");
    let one = server.exotel("POST", &path, Some(json!({"ip": "203.0.113.50"}))).await.data(&ADDRESS);
    assert_eq!(
        (&one["mask"], &one["ip"], &one["friendly_name"]),
        (&json!(32), &json!("203.0.113.50"), &Value::Null)
    );
    assert!(server.table().knows_source("203.0.113.50".parse().unwrap()));
    assert!(!server.table().knows_source("203.0.113.51".parse().unwrap()));
    // Host bits name the range they lie in; the address stays as it was written.
    let wide =
        server.exotel("POST", &path, Some(json!({"ip": "198.51.100.77", "mask": 24}))).await.data(&ADDRESS);
    assert_eq!((&wide["ip"], &wide["mask"]), (&json!("198.51.100.77"), &json!(24)));
    assert!(server.table().knows_source("198.51.100.1".parse().unwrap()));

    let changed = format!("{path}/{}", text(&one["id"]));
    let changed =
        server.exotel("PUT", &changed, Some(json!({"ip": "192.0.2.0", "mask": 28}))).await.data(&ADDRESS);
    assert_eq!((&changed["id"], &changed["ip"]), (&one["id"], &json!("192.0.2.0")));
    assert!(!server.table().knows_source("203.0.113.50".parse().unwrap()));
    assert!(server.table().knows_source("192.0.2.15".parse().unwrap()));
    assert_eq!(server.exotel("GET", &path, None).await.list(&ADDRESS).len(), 2);

    let gone = server.exotel("DELETE", &format!("{path}?id={}", text(&one["id"])), None).await.data(&ADDRESS);
    assert_eq!(gone["ip"], "192.0.2.0");
    assert!(!server.table().knows_source("192.0.2.15".parse().unwrap()));
    assert_eq!(server.exotel("GET", &path, None).await.list(&ADDRESS), [wide]);
}

#[tokio::test]
async fn destinations_are_added_each_by_itself() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("destinations").await;
    let path = format!("{TRUNKS}/{sid}/destination-uris");
    let add = |list: &[&str]| {
        let list: Vec<Value> = list.iter().map(|one| json!({"destination": one})).collect();
        server.exotel("POST", &path, Some(json!({"destinations": list})))
    };
    let named =
        add(&["sip.mycompany.com:5061;transport=tls", "sip:sip.mycompany.com:5060;transport=tcp"]).await;
    assert_eq!(named.status, 200, "{}", named.text);
    assert_eq!(named.body["metadata"], json!({"total": 2, "success": 2, "failed": 0}));
    let first = &named.body["response"][0]["data"];
    shaped(first, &DESTINATION);
    assert_eq!(first["destination"], "sip:sip.mycompany.com:5061;transport=tls");
    assert_eq!(
        (&first["type"], &first["priority"], &first["weight"]),
        (&json!("public"), &json!(0), &json!(1))
    );

    // An address must be whitelisted first; the parts of a batch fail and succeed by themselves, in their order.
    let mixed = add(&["44.248.146.11:5061;transport=tls", "sip.mycompany.com:5070", "300.1.2.3:5060"]).await;
    assert_eq!((mixed.status.as_u16(), &mixed.body["http_code"]), (207, &json!(207)), "{}", mixed.text);
    assert_eq!(mixed.body["metadata"], json!({"total": 3, "success": 1, "failed": 2}));
    let codes: Vec<&Value> = (0..3).map(|at| &mixed.body["response"][at]["code"]).collect();
    assert_eq!(codes, [&json!(400), &json!(200), &json!(400)]);
    let why = |at: usize| mixed.body["response"][at]["error_data"].clone();
    assert_eq!(
        (&why(0)["code"], &why(0)["description"]),
        (&json!(1002), &json!("Destination not whitelisted"))
    );
    assert_eq!(why(2)["description"], "Destination is not a valid Ip or Fqdn");
    assert_eq!(mixed.body["response"][0]["data"], Value::Null);

    server
        .exotel("POST", &format!("{TRUNKS}/{sid}/whitelisted-ips"), Some(json!({"ip": "44.248.146.11"})))
        .await;
    // UDP, by no transport at all and by name, is taken.
    let udp = add(&["44.248.146.11:5060", "44.248.146.11:5062;transport=udp"]).await;
    assert_eq!(udp.status, 200, "{}", udp.text);
    assert_eq!(udp.body["response"][0]["data"]["destination"], "sip:44.248.146.11:5060");
    assert_eq!(udp.body["response"][1]["data"]["destination"], "sip:44.248.146.11:5062;transport=udp");

    let again = add(&["44.248.146.11:5060"]).await;
    assert_eq!(again.status, 207, "{}", again.text);
    assert_eq!(again.body["response"][0]["code"], 409);
    assert_eq!(again.body["response"][0]["error_data"]["code"], 1008);

    let id = text(&first["id"]);
    let changed =
        server.exotel("PUT", &format!("{path}/{id}"), Some(json!({"priority": 3, "weight": 20}))).await;
    let changed = changed.data(&DESTINATION);
    assert_eq!((&changed["priority"], &changed["weight"]), (&json!(3), &json!(20)));
    let list = server.exotel("GET", &path, None).await.list(&DESTINATION);
    assert_eq!(list.len(), 5);
    assert_eq!(list[0]["destination"], "sip:44.248.146.11:5062;transport=udp", "the newest first");
    let table = server.table();
    let routed = table.trunks().next().unwrap();
    let gateway = routed.gateways.iter().find(|gateway| gateway.weight == 20).unwrap();
    assert_eq!((gateway.priority, gateway.transport), (3, Some(tandem_sip::Transport::Tls)));

    let gone = server.exotel("DELETE", &format!("{path}?id={id}"), None).await.data(&DESTINATION);
    assert_eq!(gone["id"], id);
    assert_eq!(server.exotel("GET", &path, None).await.list(&DESTINATION).len(), 4);
}

#[tokio::test]
async fn credentials_come_and_go_and_their_passwords_are_never_shown() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("credentials").await;
    let path = format!("{TRUNKS}/{sid}/credentials");
    let add = |name: &str, friendly: Value| {
        let body = json!({"user_name": name, "password": "Secret_sesame_1", "friendly_name": friendly});
        server.exotel("POST", &path, Some(body))
    };
    let made = add("voice_ai_user", json!("voice_ai_platform")).await;
    let first = made.data(&CREDENTIAL);
    assert_eq!(
        (&first["user_name"], &first["friendly_name"]),
        (&json!("voice_ai_user"), &json!("voice_ai_platform"))
    );
    let second = add("other_user", Value::Null).await.data(&CREDENTIAL);
    assert_eq!(second["friendly_name"], Value::Null);
    let list = server.exotel("GET", &path, None).await;
    assert_eq!(list.list(&CREDENTIAL).len(), 2);
    assert_eq!((&list.body["metadata"]["total"], &list.body["metadata"]["page"]), (&json!(2), &json!(1)));
    let one = server.exotel("GET", &format!("{path}?id={}", text(&first["id"])), None).await;
    assert_eq!(one.list(&CREDENTIAL), std::slice::from_ref(&first));
    for answer in [&made, &list, &one] {
        assert!(!answer.text.contains("sesame") && !answer.text.contains("password"), "{}", answer.text);
    }
    let routed = format!("{:?}", server.table().trunks().next().unwrap().auth);
    assert!(routed.contains("voice_ai_user") && routed.contains("other_user"), "{routed}");
    let trunk = server.exotel("GET", TRUNKS, None).await.list(&TRUNK);
    assert_eq!(trunk[0]["auth_type"], "CREDENTIALS");

    let change = format!("{path}/{}", text(&first["id"]));
    let changed = server.exotel("PUT", &change, Some(json!({"friendly_name": "prod_voice_ai"}))).await;
    let changed = changed.data(&CREDENTIAL);
    assert_eq!(
        (&changed["friendly_name"], &changed["user_name"]),
        (&json!("prod_voice_ai"), &json!("voice_ai_user"))
    );
    let gone = server.exotel("DELETE", &format!("{path}?id={}", text(&first["id"])), None).await;
    assert_eq!(gone.data(&CREDENTIAL)["id"], first["id"]);
    let routed = format!("{:?}", server.table().trunks().next().unwrap().auth);
    assert!(!routed.contains("voice_ai_user") && routed.contains("other_user"), "{routed}");
    server.exotel("DELETE", &format!("{path}?id={}", text(&second["id"])), None).await.data(&CREDENTIAL);
    let trunk = server.exotel("GET", TRUNKS, None).await.list(&TRUNK);
    assert_eq!(trunk[0]["auth_type"], "IP-WHITELIST");
}

#[tokio::test]
async fn the_outbound_caller_id_is_a_setting_of_the_trunk() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("settings").await;
    let path = format!("{TRUNKS}/{sid}/settings");
    let set = |list: Value| server.exotel("POST", &path, Some(json!({"settings": list})));
    let made = set(json!([{"name": "trunk_external_alias", "value": "+919876543210"}])).await;
    assert_eq!(made.status, 200, "{}", made.text);
    assert_eq!(made.body["metadata"], json!({"total": 1, "success": 1}));
    shaped(&made.body["response"][0]["data"], &SETTING);
    assert_eq!(server.table().trunks().next().unwrap().caller_id.as_deref(), Some("+919876543210"));
    let mixed = set(json!([
        {"name": "trunk_external_alias", "value": "+918040264208"},
        {"name": "trunk_colour", "value": "+918040264208"},
        {"name": "trunk_external_alias", "value": "support"},
    ]))
    .await;
    assert_eq!((mixed.status.as_u16(), &mixed.body["metadata"]), (207, &json!({"total": 3, "success": 1})));
    let list = server.exotel("GET", &path, None).await.list(&SETTING);
    assert_eq!((list.len(), &list[0]["value"]), (1, &json!("+918040264208")));
    let gone = server.exotel("DELETE", &format!("{path}?name=trunk_external_alias"), None).await;
    assert_eq!(gone.data(&SETTING)["value"], "+918040264208");
    assert_eq!(server.exotel("GET", &path, None).await.body["response"], json!([]));
    assert_eq!(server.table().trunks().next().unwrap().caller_id, None);
}

#[tokio::test]
async fn lists_are_read_in_pages() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("paged").await;
    let path = format!("{TRUNKS}/{sid}/phone-numbers");
    for number in 0..5 {
        let body = json!({"phone_number": format!("+9198765432{number:02}")});
        server.exotel("POST", &path, Some(body)).await.data(&NUMBER);
    }
    let (mut next, mut seen) = (format!("{path}?page_size=2"), Vec::new());
    let mut pages = 0;
    loop {
        let page = server.exotel("GET", &next, None).await;
        let items = page.list(&NUMBER);
        assert!(items.len() <= 2);
        assert_eq!(page.body["metadata"]["prev_page_uri"].is_null(), pages == 0, "{}", page.text);
        seen.extend(items.into_iter().map(|item| text(&item["id"]).to_owned()));
        pages += 1;
        match page.body["metadata"]["next_page_uri"].as_str() {
            Some(uri) => next = uri.to_owned(),
            None => break,
        }
    }
    assert_eq!((pages, seen.len()), (3, 5));
    seen.dedup();
    assert_eq!(seen.len(), 5, "each once");
    let beyond = server.exotel("GET", &format!("{path}?offset=50"), None).await;
    assert_eq!(beyond.body["response"], json!([]));
    for number in 0..3 {
        server.exotel_trunk(&format!("more_{number}")).await;
    }
    let page = server.exotel("GET", &format!("{TRUNKS}?page_size=3&offset=0"), None).await;
    assert_eq!(page.list(&TRUNK)[0]["trunk_name"], "more_2", "the newest first");
    assert_eq!(page.body["metadata"]["next_page_uri"], format!("{TRUNKS}?offset=3&page_size=3"));
    let cut = server.exotel("GET", &format!("{TRUNKS}?page_size=100000"), None).await;
    assert_eq!(cut.body["metadata"]["page_size"], 500);
}

#[tokio::test]
async fn the_older_paths_with_underscores_lead_to_the_same() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("older").await;
    let path = format!("{TRUNKS}/{sid}");
    let number = server
        .exotel("POST", &format!("{path}/phone_numbers"), Some(json!({"phone_number": "+919876543210"})))
        .await;
    number.data(&NUMBER);
    server
        .exotel("POST", &format!("{path}/whitelisted_ips"), Some(json!({"ip": "192.0.2.1"})))
        .await
        .data(&ADDRESS);
    let body = json!({"destinations": [{"destination": "192.0.2.1:5060"}]});
    assert_eq!(server.exotel("POST", &format!("{path}/destination_uris"), Some(body)).await.status, 200);
    for (older, newer) in [
        ("phone_numbers", "phone-numbers"),
        ("whitelisted_ips", "whitelisted-ips"),
        ("destination_uris", "destination-uris"),
    ] {
        let older = server.exotel("GET", &format!("{path}/{older}"), None).await;
        let newer = server.exotel("GET", &format!("{path}/{newer}"), None).await;
        assert_eq!(older.body["response"], newer.body["response"]);
        assert_eq!(older.body["response"].as_array().map(Vec::len), Some(1));
    }
    let maps = server.exotel("GET", "/v2/accounts/acme/trunk_maps?exophone=919876543210", None).await;
    assert_eq!(maps.list(&MAP).len(), 1);
}

#[tokio::test]
async fn one_trunk_is_seen_and_changed_through_both_vendors_apis() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("both").await;
    server.exotel("POST", &format!("{TRUNKS}/{sid}/whitelisted-ips"), Some(json!({"ip": "192.0.2.1"}))).await;
    let body = json!({"destinations": [{"destination": "sip.example.com:5070;transport=tcp"}]});
    server.exotel("POST", &format!("{TRUNKS}/{sid}/destination-uris"), Some(body)).await;
    let body = json!({"user_name": "one", "password": "first_password"});
    server.exotel("POST", &format!("{TRUNKS}/{sid}/credentials"), Some(body)).await.data(&CREDENTIAL);
    server
        .exotel(
            "POST",
            &format!("{TRUNKS}/{sid}/phone-numbers"),
            Some(json!({"phone_number": "+919876543210"})),
        )
        .await;

    let list = server.get("/sip-trunks/trunks").await;
    let trunk = &list.body[0];
    assert_eq!((&trunk["name"], &trunk["provider"]), (&json!("both"), &json!("exotel")), "{}", list.text);
    assert_eq!((&trunk["auth_type"], &trunk["auth_username"]), (&json!("userpass"), &json!("one")));
    assert_eq!(trunk["inbound_enabled"], true);
    assert_eq!(trunk["gateways"][0]["gateway_address"], "sip.example.com");
    assert_eq!(trunk["ip_identifiers"][0]["ip_address"], "192.0.2.1");
    assert_eq!(trunk["phone_numbers"][0]["phone_number"], "+919876543210");
    let path = format!("/sip-trunks/trunks/{}", text(&trunk["id"]));
    let changed = server.patch(&path, json!({"description": "seen", "auth_password": "another"})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    let credentials =
        server.exotel("GET", &format!("{TRUNKS}/{sid}/credentials"), None).await.list(&CREDENTIAL);
    assert_eq!(credentials.len(), 1);
    let whole = json!({"gateways": [{"gateway_address": "sip.example.com", "port": 5070, "priority": 0}]});
    assert_eq!(server.patch(&path, whole).await.status, 200);
    let kept =
        server.exotel("GET", &format!("{TRUNKS}/{sid}/destination-uris"), None).await.list(&DESTINATION);
    assert_eq!(
        kept[0]["destination"], "sip:sip.example.com:5070;transport=tcp",
        "a list sent whole keeps what is in both"
    );

    // And the other way round.
    let answer = server.post("/sip-trunks/trunks", ip_trunk("bolna trunk")).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    let trunks = server.exotel("GET", TRUNKS, None).await.list(&TRUNK);
    let seen = trunks.iter().find(|trunk| trunk["trunk_name"] == "bolna trunk").unwrap();
    assert_eq!(
        (&seen["domain_name"], &seen["nso_code"]),
        (&json!("acme.pstn.exotel.com"), &json!("ANY-ANY"))
    );
    let sid = text(&seen["trunk_sid"]);
    let addresses =
        server.exotel("GET", &format!("{TRUNKS}/{sid}/whitelisted-ips"), None).await.list(&ADDRESS);
    assert_eq!((&addresses[0]["ip"], &addresses[0]["mask"]), (&json!("203.0.113.0"), &json!(24)));
    let body = json!({"phone_number": "+14155552671", "mode": "flow"});
    server.exotel("POST", &format!("{TRUNKS}/{sid}/phone-numbers"), Some(body)).await.data(&NUMBER);
    let id = text(&answer.body["id"]);
    let numbers = server.get(&format!("/sip-trunks/trunks/{id}/numbers")).await;
    assert_eq!(numbers.body[0]["phone_number"], "+14155552671", "{}", numbers.text);
    server.exotel("DELETE", &format!("{TRUNKS}?trunk_sid={sid}"), None).await.data(&TRUNK);
    assert_eq!(server.get(&format!("/sip-trunks/trunks/{id}")).await.status, 404);
}

#[tokio::test]
async fn a_trunk_takes_everything_on_it_along() {
    let server = Server::start().await;
    let sid = server.exotel_trunk("whole").await;
    let path = format!("{TRUNKS}/{sid}");
    server
        .exotel("POST", &format!("{path}/phone-numbers"), Some(json!({"phone_number": "+919876543210"})))
        .await;
    server.exotel("POST", &format!("{path}/whitelisted-ips"), Some(json!({"ip": "192.0.2.1"}))).await;
    server
        .exotel("POST", &format!("{path}/credentials"), Some(json!({"user_name": "u", "password": "p"})))
        .await;
    let body = json!({"destinations": [{"destination": "192.0.2.1:5060"}]});
    server.exotel("POST", &format!("{path}/destination-uris"), Some(body)).await;
    server.exotel("DELETE", &format!("{TRUNKS}?trunk_sid={sid}"), None).await.data(&TRUNK);
    let table = server.table();
    assert_eq!((table.number_count(), table.trunks().count()), (0, 0));
    assert!(!table.has_digest_trunks() && !table.knows_source("192.0.2.1".parse().unwrap()));
    // The number is free at once.
    let other = server.exotel_trunk("another").await;
    let again = server
        .exotel(
            "POST",
            &format!("{TRUNKS}/{other}/phone-numbers"),
            Some(json!({"phone_number": "+919876543210"})),
        )
        .await;
    again.data(&NUMBER);
}

#[tokio::test]
async fn the_accounts_numbers_are_listed_as_the_older_api_lists_them() {
    let server = Server::start().await;
    let trunk = server.trunk("one").await;
    for last in 1..=3 {
        server.number(&trunk, &format!("+91804711000{last}")).await;
    }
    let path = "/v2_beta/Accounts/acme/IncomingPhoneNumbers";
    let page = server.get(&format!("{path}?PageSize=2")).await.body;
    assert_eq!((&page["page"], &page["page_size"]), (&json!(0), &json!(2)));
    assert_eq!(page["next_page_uri"], format!("{path}?Page=1&PageSize=2"));
    assert_eq!(page["previous_page_uri"], Value::Null);
    let numbers = page["incoming_phone_numbers"].as_array().unwrap();
    assert_eq!(numbers.len(), 2);
    assert!(text(&numbers[0]["sid"]).bytes().all(|byte| byte.is_ascii_digit()));
    let rest = server.get(text(&page["next_page_uri"])).await.body;
    assert_eq!(rest["previous_page_uri"], format!("{path}?Page=0&PageSize=2"));
    assert_eq!(rest["next_page_uri"], Value::Null);
    let rest = rest["incoming_phone_numbers"].as_array().unwrap();
    let mut all: Vec<&str> = numbers.iter().chain(rest).map(|one| text(&one["phone_number"])).collect();
    all.sort_unstable();
    assert_eq!(all, ["+918047110001", "+918047110002", "+918047110003"]);
    let bad = server.exotel("GET", &format!("{path}?Page=x"), None).await;
    assert_eq!((bad.status.as_u16(), &bad.body["http_code"]), (400, &json!(400)), "{}", bad.text);
    let foreign = server.exotel("GET", "/v2_beta/Accounts/other/IncomingPhoneNumbers", None).await;
    assert_eq!(foreign.status, 403, "{}", foreign.text);
}
