//! The `registration` of a trunk: what may be written, what follows from the rest of the trunk, and what is refused.

use serde_json::{Value, json};

use super::client::{Server, ip_trunk};

const TRUNKS: &str = "/sip-trunks/trunks";

fn by_digest(registration: Value) -> Value {
    json!({
        "name": "carrier", "provider": "plivo", "auth_type": "userpass", "auth_username": "alice",
        "auth_password": "s3cret-pass",
        "gateways": [{"gateway_address": "b.example", "priority": 2}, {"gateway_address": "a.example", "port": 5080}],
        "registration": registration,
    })
}

/// What the trunk registers, by the table that the engine reads.
fn wish(server: &Server, id: &str) -> Option<tandem_call::Registration> {
    server.table().trunk(&id.into()).unwrap().registration.clone()
}

#[tokio::test]
async fn what_is_left_out_follows_from_the_trunk() {
    let server = Server::start().await;
    let made = server.post(TRUNKS, by_digest(json!({}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(
        made.body["registration"],
        json!({"enabled": true, "registrar": null, "domain": null, "realm": null, "from_user": null,
               "contact_user": null, "expires": 3600})
    );
    let id = made.body["id"].as_str().unwrap();
    let own = wish(&server, id).unwrap();
    assert_eq!(
        (own.registrar.as_str(), own.port, own.domain.as_str()),
        ("a.example", Some(5080), "a.example")
    );
    assert_eq!((own.user.as_str(), own.contact_user.as_str(), own.expires_s), ("alice", "alice", 3600));
    assert_eq!(own.credential.username, "alice");
    assert!(!made.text.contains("s3cret-pass"));

    // The newer family shows the same, and changes it as a whole.
    let newer = format!("/trunk/trunks/{id}");
    let whole = json!({"enabled": true, "registrar": "[2001:db8::5]:5070", "domain": "carrier.example",
        "realm": "home", "from_user": "+4930", "contact_user": "+493012", "expires": 600});
    let changed = server.patch(&newer, json!({"registration": whole})).await;
    assert_eq!(changed.status, 200, "{}", changed.text);
    assert_eq!(changed.body["registration"], whole);
    assert_eq!(server.get(&format!("{TRUNKS}/{id}")).await.body["registration"], whole);
    let own = wish(&server, id).unwrap();
    assert_eq!(
        (own.registrar.as_str(), own.port, own.domain.as_str()),
        ("2001:db8::5", Some(5070), "carrier.example")
    );
    assert_eq!((own.user.as_str(), own.contact_user.as_str()), ("+4930", "+493012"));
    assert_eq!((own.realm.as_deref(), own.expires_s), (Some("home"), 600));

    // Other changes leave it alone; switched off or taken away, nothing is registered.
    let renamed = server.patch(&newer, json!({"name": "other"})).await;
    assert_eq!(renamed.body["registration"], whole);
    server.patch(&newer, json!({"registration": {"enabled": false}})).await;
    assert_eq!(wish(&server, id), None);
    let taken = server.patch(&newer, json!({"registration": null})).await;
    assert_eq!(taken.status, 200, "{}", taken.text);
    assert_eq!(taken.body["registration"], Value::Null);
    assert_eq!(wish(&server, id), None);
    assert_eq!(taken.body["status"]["registration"], Value::Null);
}

#[tokio::test]
async fn what_cannot_be_registered_is_refused_with_what_to_do() {
    let server = Server::start().await;
    let cases: &[(Value, &str, &[&str])] = &[
        (json!(true), "registration", &["an object"]),
        (json!({"enabled": "yes"}), "registration.enabled", &["true or false"]),
        (json!({"registrar": "not a host"}), "registration.registrar", &["not a host", "sip.example.com"]),
        (json!({"registrar": "a.example:0"}), "registration.registrar", &["a.example:0"]),
        (json!({"domain": "a.example:5060"}), "registration.domain", &["port 5060", "registrar"]),
        (json!({"expires": 59}), "registration.expires", &["59", "60 to 86400"]),
        (json!({"expires": 86_401}), "registration.expires", &["86401"]),
        (json!({"from_user": 7}), "registration.from_user", &["the number 7", "text in quotes"]),
        (json!({"contact_user": "a\u{7}"}), "registration.contact_user", &["U+0007"]),
    ];
    for (registration, at, parts) in cases {
        let refused = server.post(TRUNKS, by_digest(registration.clone())).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        refused.at(at, parts);
    }
    // By address there is no user to register.
    let mut body = ip_trunk("by-address");
    body["registration"] = json!({});
    let refused = server.post(TRUNKS, body).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    refused.at("registration.enabled", &["auth_username", "userpass", "null"]);
    // Without a gateway the registrar has to be named.
    let bare = json!({"name": "bare", "auth_username": "u", "auth_password": "p", "registration": {}});
    let refused = server.post("/trunk/trunks", bare.clone()).await;
    assert_eq!(refused.status, 422, "{}", refused.text);
    refused.at("registration.registrar", &["no gateway", "sip.example.com"]);
    let mut named = bare;
    named["registration"] = json!({"registrar": "sip.carrier.example"});
    let made = server.post("/trunk/trunks", named).await;
    assert_eq!(made.status, 200, "{}", made.text);
    let own = wish(&server, made.body["id"].as_str().unwrap()).unwrap();
    assert_eq!((own.registrar.as_str(), own.port), ("sip.carrier.example", None));
}
