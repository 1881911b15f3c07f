//! Answers held against the vendor's own published schemas, typed anew as JSON Schema (`tests/data/bolna_schemas.json`):
//! types, enums, required fields, formats.

use jsonschema::Validator;
use serde_json::{Value, json};

use super::client::{Server, ip_trunk};

/// The schema of a name, with its relatives.
fn schema(name: &str) -> Validator {
    let all: Value = serde_json::from_str(include_str!("../data/bolna_schemas.json")).unwrap();
    assert!(all["$defs"][name].is_object(), "{name} is not among the schemas");
    let root = json!({"$ref": format!("#/$defs/{name}"), "$defs": all["$defs"]});
    jsonschema::options().should_validate_formats(true).build(&root).unwrap()
}

#[track_caller]
fn holds(validator: &Validator, value: &Value) {
    let faults: Vec<String> =
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect();
    assert!(faults.is_empty(), "{}\nin {value}", faults.join("\n"));
}

#[tokio::test]
async fn trunks_and_numbers_are_of_the_published_schemas() {
    let server = Server::start().await;
    let (trunk, trunks, number) =
        (schema("SIPTrunkResponse"), schema("SIPTrunkList"), schema("SIPTrunkPhoneNumberResponse"));
    let mut body = ip_trunk("by address");
    body["phone_numbers"] = json!([{"phone_number": "+14155550100"}]);
    let made = server.post("/sip-trunks/trunks", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    // The one field where two documents of the vendor differ: a text only where there is a user name.
    let mut shown = made.body.clone();
    assert_eq!(shown["auth_username"], Value::Null);
    for name in ["auth_username", "description"] {
        shown.as_object_mut().unwrap().remove(name);
    }
    shown["phone_numbers"][0].as_object_mut().unwrap().remove("name");
    holds(&trunk, &shown);
    let digest = json!({
        "name": "by digest", "provider": "zadarma", "description": "x", "auth_type": "userpass",
        "auth_username": "alice", "auth_password": "secret", "transport": "transport-tls",
        "media_encryption": "sdes", "media_encryption_optimistic": true,
        "gateways": [{"gateway_address": "sip.zadarma.com"}],
        "phone_numbers": [{"phone_number": "919876543210", "name": "Mumbai"}],
    });
    let made = server.post("/sip-trunks/trunks", digest).await;
    holds(&trunk, &made.body);
    let id = made.body["id"].as_str().unwrap();
    holds(&trunk, &server.get(&format!("/sip-trunks/trunks/{id}")).await.body);
    let changed = server.patch(&format!("/sip-trunks/trunks/{id}"), json!({"allow": "alaw"})).await;
    holds(&trunk, &changed.body);
    let numbers = server.get(&format!("/sip-trunks/trunks/{id}/numbers")).await;
    holds(&number, &numbers.body[0]);
    let mut named = server.trunk("another").await;
    named = format!("/sip-trunks/trunks/{named}");
    server.delete(&named).await;
    // Every trunk of the list, the fields that are null by the vendor's guide left out as its schema has them.
    let mut list = server.get("/sip-trunks/trunks").await.body;
    for trunk in list.as_array_mut().unwrap() {
        drop_nulls(trunk);
    }
    holds(&trunks, &list);
}

#[tokio::test]
async fn errors_are_of_the_published_schema() {
    let server = Server::start().await;
    let error = schema("Error");
    let trunk = server.trunk("a").await;
    for answer in [
        server.get("/sip-trunks/trunks/x").await,
        server.delete("/sip-trunks/trunks/x").await,
        server.post("/sip-trunks/trunks", json!({})).await,
        server.post("/sip-trunks/trunks", ip_trunk("a")).await,
        server.patch(&format!("/sip-trunks/trunks/{trunk}"), json!({"gateways": []})).await,
        server.get("/sip-trunks/trunks?is_active=perhaps").await,
        server.get("/trunk/trunks/x").await,
        server.post("/inbound/setup", json!({})).await,
        server.get("/phone-numbers/search").await,
        server.send(server.request("GET", "/sip-trunks/trunks", "wrong"), None).await,
    ] {
        assert!(answer.status.is_client_error() || answer.status.is_server_error(), "{}", answer.text);
        holds(&error, &answer.body);
    }
}

#[test]
fn the_schemas_refuse_what_is_not_of_them() {
    let trunk = schema("SIPTrunkResponse");
    for wrong in [
        json!({"auth_type": "register"}),
        json!({"transport": "udp"}),
        json!({"media_encryption": false}),
        json!({"gateways": [{"port": 5060}]}),
        json!({"created_at": "yesterday"}),
        json!({"qualify_frequency": "60"}),
    ] {
        assert!(!trunk.is_valid(&wrong), "{wrong}");
    }
    assert!(!schema("Error").is_valid(&json!({"error": "400", "message": "x"})));
    assert!(!schema("Error").is_valid(&json!({"error": 400})));
}

fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.retain(|_, value| !value.is_null());
            object.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
