//! The walls between accounts, tried for every endpoint that takes an identifier: one of another account's is
//! answered as one that nobody has. The endpoints come from the API's description, so a new one is tried by
//! itself; a parameter whose name is not known here fails the test until somebody says what it names.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::client::{Answer, Server};
use super::description::Operation;
use super::exotel::TRUNKS;

/// What `acme` owns, by the name that parameters and fields give its identifier.
struct Owned(BTreeMap<&'static str, String>);

/// Names of parameters that name nothing of an account's.
const NO_IDENTIFIERS: [&str; 1] = ["account_sid"];

/// An identifier nobody has, of the same form as `id`.
fn unknown(id: &str) -> String {
    let next = |c: char| match c {
        '0'..='8' | 'a'..='e' | 'A'..='E' => char::from_u32(c as u32 + 1).unwrap(),
        '9' => '0',
        'f' => 'a',
        'F' => 'A',
        other => other,
    };
    // The last characters: prefixes and versions stay what they are.
    let keep = id.len().saturating_sub(4);
    id[..keep].chars().chain(id[keep..].chars().map(next)).collect()
}

/// What stands in place of each identifier.
enum Whose<'a> {
    /// Acme's own.
    Acme(&'a Owned),
    /// Nobody's.
    Nobodys(&'a Owned),
}

impl Whose<'_> {
    fn id(&self, name: &str) -> Option<String> {
        match self {
            Self::Acme(owned) => owned.0.get(name).cloned(),
            Self::Nobodys(owned) => owned.0.get(name).map(|id| unknown(id)),
        }
    }
}

#[tokio::test]
async fn an_identifier_of_another_account_is_answered_as_one_nobody_has() {
    let server = Server::start().await;
    let owned = Owned::by_acme(&server).await;
    let before = owned.as_it_stands(&server).await;
    let mut tried = 0;
    for operation in &server.description.operations {
        if !names_something(operation, &owned) {
            continue;
        }
        let foreign = ask(&server, operation, &Whose::Acme(&owned)).await;
        let nobodys = ask(&server, operation, &Whose::Nobodys(&owned)).await;
        let place = format!("{} {}", operation.method, operation.path);
        assert_eq!(foreign.status, nobodys.status, "{place}: {} against {}", foreign.text, nobodys.text);
        assert!(
            matches!(foreign.status.as_u16(), 403 | 404),
            "{place} came to no identifier: give the schema of its body an example that is taken: {}",
            foreign.text
        );
        assert_eq!(
            masked(&foreign, &owned),
            masked(&nobodys, &owned),
            "{place} tells that the identifier exists"
        );
        tried += 1;
    }
    // Counted another way, so that the choice above cannot shrink unseen.
    let with_identifiers =
        server.description.operations.iter().filter(|operation| has_identifier(&operation.path));
    let expected = with_identifiers.count();
    assert!(expected > 60, "the description has {expected} endpoints with an identifier in their path");
    assert!(
        tried >= expected,
        "{tried} endpoints were tried, and {expected} have an identifier in their path"
    );
    assert_eq!(owned.as_it_stands(&server).await, before, "another account changed what is acme's");
}

impl Owned {
    async fn by_acme(server: &Server) -> Self {
        let trunk = server.trunk("walls").await;
        let number = server.number(&trunk, "+918047110001").await;
        let agent = server.agent().await;
        let mapping = json!({"agent_id": agent, "phone_number_id": number});
        assert_eq!(server.post("/inbound/setup", mapping).await.status, 200);
        let trunk_sid = server.exotel_trunk("walls_too").await;
        let path = format!("{TRUNKS}/{trunk_sid}/phone-numbers");
        let body = json!({"phone_number": "+918047110002"});
        let id = server.exotel("POST", &path, Some(body)).await.body["response"]["data"]["id"].clone();
        let queued = json!({"agent_id": agent, "recipient_phone_number": "+14155550100",
            "scheduled_at": "2099-01-01T00:00:00Z"});
        let queued = server.post("/call", queued).await;
        let queued = queued.body["execution_id"].as_str().unwrap().to_owned();
        let key = server.post("/v1/keys", json!({})).await.body["id"].as_str().unwrap().to_owned();
        let child = server.post("/sub-accounts/create", json!({"name": "child"})).await;
        let child = child.body["id"].as_str().unwrap().to_owned();
        let webhook = server.post("/v1/webhooks", json!({"url": "https://hooks.example/"})).await;
        let webhook = webhook.body["id"].as_str().unwrap().to_owned();
        let batch = tandem_server::store::NewBatch {
            agent: agent.clone(),
            file_name: String::new(),
            plan: Default::default(),
            total: 0,
            contacts: Vec::new(),
        };
        let batch = server.store.create_batch("acme", batch).await.unwrap().id;
        let provider = json!({"provider_name": "OPENAI_API_KEY", "provider_value": "sk-0123456789az"});
        assert_eq!(server.post("/providers", provider).await.status, 200);
        let call = super::rest_calls::call("acme", &agent);
        server.journal.progress(call.clone());
        server.journal.flush().await;
        let told = server.get("/v1/webhook-deliveries").await;
        let told = told.body["data"][0]["id"].as_str().unwrap().to_owned();
        let shown = server.get(&format!("/trunk/trunks/{trunk}")).await.body;
        let part = |list: &str| shown[list][0]["id"].as_str().unwrap().to_owned();
        Self(BTreeMap::from([
            ("gateway_id", part("gateways")),
            ("acl_id", part("ip_acls")),
            ("number_id", number.clone()),
            ("trunk_id", trunk),
            ("phone_number_id", number),
            ("agent_id", agent),
            ("trunk_sid", trunk_sid),
            ("id", id.as_str().unwrap().to_owned()),
            ("execution_id", queued),
            ("account_id", "acme".to_owned()),
            ("sub_account_id", child),
            ("key_id", key),
            ("webhook_id", webhook),
            ("delivery_id", told),
            ("provider_key_name", "OPENAI_API_KEY".to_owned()),
            ("batch_id", batch),
            ("call_id", call.id.to_string()),
            ("call_sid", tandem_agent::call_sid(call.id.0)),
            ("number", "+918047110001".to_owned()),
        ]))
    }

    /// What acme sees of it.
    async fn as_it_stands(&self, server: &Server) -> Vec<Value> {
        let mut seen = Vec::new();
        let executions = format!("/agent/{}/executions", self.0["agent_id"]);
        for path in [
            "/sip-trunks/trunks",
            "/v2/agent/all",
            &executions,
            "/v1/keys",
            "/sub-accounts/all",
            "/v1/webhooks",
            "/providers",
            &format!("/batches/{}/all", self.0["agent_id"]),
        ] {
            seen.push(without_ages(server.get(path).await.body));
        }
        seen
    }
}

/// An answer without how long ago things were: that changes by itself.
fn without_ages(mut body: Value) -> Value {
    for one in body.as_array_mut().into_iter().flatten().filter_map(Value::as_object_mut) {
        one.retain(|name, _| !name.starts_with("humanized_"));
    }
    body
}

/// Whether a path's template holds a parameter that names something of an account's.
fn has_identifier(template: &str) -> bool {
    let names = template.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    names.into_iter().any(|name| !NO_IDENTIFIERS.contains(&name))
}

/// Whether path, query or body of an operation holds an identifier.
fn names_something(operation: &Operation, owned: &Owned) -> bool {
    let mut found = false;
    for parameter in operation.body["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        let is_known = owned.0.contains_key(name);
        let is_in_path = parameter["in"] == "path";
        assert!(
            is_known || !is_in_path || NO_IDENTIFIERS.contains(&name),
            "{} {}: say in Owned::by_acme what {name} names",
            operation.method,
            operation.path
        );
        found |= is_known && is_in_path;
    }
    found
        || request_body(operation)
            .is_some_and(|body| body.keys().any(|name| owned.0.contains_key(name.as_str())))
}

async fn ask(server: &Server, operation: &Operation, whose: &Whose<'_>) -> Answer {
    let mut path = operation.path.clone();
    for parameter in operation.body["parameters"].as_array().into_iter().flatten() {
        let name = parameter["name"].as_str().unwrap();
        // The asker's own account: what is behind it is another's.
        let id = if name == "account_sid" { Some("other".to_owned()) } else { whose.id(name) };
        if parameter["in"] == "query" {
            if parameter["required"] == true {
                let sample = || operation.sample(&parameter["schema"]).as_str().unwrap_or("x").to_owned();
                let mark = if path.contains('?') { '&' } else { '?' };
                path = format!("{path}{mark}{name}={}", id.unwrap_or_else(sample));
            }
        } else if let Some(id) = id {
            path = path.replace(&format!("{{{name}}}"), &id);
        }
    }
    let body = request_body(operation).map(|mut body| {
        for (name, value) in &mut body {
            if let Some(id) = whose.id(name) {
                *value = id.into();
            }
        }
        Value::Object(body)
    });
    server.send(server.request(&operation.method, &path, &server.other_key), body).await
}

/// An answer without what is particular to it.
fn masked(answer: &Answer, owned: &Owned) -> String {
    let mut text = answer.text.clone();
    if let Some(particular) = answer.body["request_id"].as_str() {
        text = text.replace(particular, "REQUEST");
    }
    for id in owned.0.values() {
        text = text.replace(id, "ID").replace(&unknown(id), "ID");
    }
    text
}

/// A body that the operation takes, made from the schema of its fields and their examples.
fn request_body(operation: &Operation) -> Option<Map<String, Value>> {
    let schema = &operation.body["requestBody"]["content"]["application/json"]["schema"];
    match operation.sample(schema) {
        Value::Object(body) => Some(body),
        _ => None,
    }
}
