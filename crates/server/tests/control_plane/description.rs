//! The API's own description as a judge: every answer of every test in this folder is held against it.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex};

use axum::http::{HeaderMap, header};
use jsonschema::Validator;
use serde_json::{Value, json};

/// The description of a router, its operations ready to be found.
#[derive(Debug)]
pub(crate) struct Description {
    components: Arc<Value>,
    pub(crate) operations: Vec<Operation>,
}

/// One endpoint.
#[derive(Debug)]
pub(crate) struct Operation {
    /// In capitals.
    pub(crate) method: String,
    /// With its parameters in braces.
    pub(crate) path: String,
    /// As the description has it.
    pub(crate) body: Value,
    components: Arc<Value>,
}

impl Operation {
    /// A value that the schema allows: its example if it has one, and of an object the fields that are required.
    pub(crate) fn sample(&self, schema: &Value) -> Value {
        if let Some(name) = schema["$ref"].as_str() {
            let name = name.rsplit('/').next().unwrap();
            return self.sample(&self.components["schemas"][name]);
        }
        for given in [&schema["example"], &schema["examples"][0], &schema["default"], &schema["enum"][0]] {
            if !given.is_null() {
                return given.clone();
            }
        }
        for part in ["oneOf", "anyOf", "allOf"] {
            if let Some(first) = schema[part].as_array().and_then(|list| list.first()) {
                return self.sample(first);
            }
        }
        let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default();
        match kind {
            "object" => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                let fields = required
                    .map(|name| (name.to_owned(), self.sample(&schema["properties"][name])))
                    .collect();
                Value::Object(fields)
            }
            "array" => json!([self.sample(&schema["items"])]),
            "string" => json!("text"),
            "integer" | "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
            "boolean" => json!(true),
            _ => Value::Null,
        }
    }
}

/// Schemas compiled once for all tests of the process, by their text.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

impl Description {
    /// Reads `/openapi.json`.
    pub(crate) fn read(document: &Value) -> Self {
        let mut operations = Vec::new();
        let components = Arc::new(document["components"].clone());
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, body) in item.as_object().unwrap() {
                let (method, path) = (method.to_uppercase(), path.clone());
                let components = Arc::clone(&components);
                operations.push(Operation { method, path, body: body.clone(), components });
            }
        }
        Self { components, operations }
    }

    /// The operation that serves a request; literal segments go before parameters.
    fn operation(&self, method: &str, path: &str) -> Option<&Operation> {
        let fits = |operation: &&Operation| {
            operation.method == method && parameters(&operation.path, path).is_some()
        };
        self.operations.iter().filter(fits).min_by_key(|operation| operation.path.matches('{').count())
    }

    /// Holds an answer against the description: its status is among the documented ones, its body of the schema.
    #[track_caller]
    pub(crate) fn hold(&self, method: &str, path: &str, status: u16, headers: &HeaderMap, text: &str) {
        let Some(operation) = self.operation(method, path) else { return };
        let place = format!("{method} {} answered {status}", operation.path);
        let answer = &operation.body["responses"][status.to_string()];
        assert!(!answer.is_null(), "{place}, which is not documented: {text}");
        let Some(content) = answer["content"].as_object() else {
            assert!(text.is_empty(), "{place} with a body that is not documented: {text}");
            return;
        };
        let kind = headers.get(header::CONTENT_TYPE).map_or("", |value| value.to_str().unwrap());
        let kind = kind.split(';').next().unwrap_or_default();
        let media =
            content.get(kind).unwrap_or_else(|| panic!("{place} with {kind:?}, which is not documented"));
        if kind != "application/json" {
            return;
        }
        let body: Value =
            serde_json::from_str(text).unwrap_or_else(|error| panic!("{place}: {error}: {text}"));
        let faults = self.faults(&media["schema"], &body);
        assert!(faults.is_empty(), "{place} against its schema:\n{}\nin {text}", faults.join("\n"));
    }

    /// What a value has against a schema.
    fn faults(&self, schema: &Value, value: &Value) -> Vec<String> {
        let root = json!({"components": *self.components, "allOf": [schema]});
        let key = schema.to_string() + &self.components.to_string();
        let validator = {
            let mut known = VALIDATORS.lock().unwrap();
            let compiled =
                known.entry(key).or_insert_with(|| Arc::new(jsonschema::validator_for(&root).unwrap()));
            Arc::clone(compiled)
        };
        validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
    }
}

/// The values of a template's parameters in a path; `None` when it does not fit.
fn parameters<'a>(template: &'a str, path: &'a str) -> Option<Vec<(&'a str, &'a str)>> {
    let path = path.split('?').next().unwrap_or_default();
    let (mut wanted, mut given) = (template.split('/'), path.split('/'));
    let mut found = Vec::new();
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return Some(found),
            (Some(wanted), Some(given)) => {
                match wanted.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                    Some(name) if !given.is_empty() => found.push((name, given)),
                    None if wanted == given => {}
                    Some(_) | None => return None,
                }
            }
            (Some(_), None) | (None, Some(_)) => return None,
        }
    }
}

#[tokio::test]
async fn every_post_says_what_its_idempotency_key_may_bring() {
    let server = super::client::Server::start().await;
    for operation in server.description.operations.iter().filter(|operation| operation.method == "POST") {
        for status in ["408", "409", "413", "422"] {
            assert!(
                !operation.body["responses"][status].is_null(),
                "POST {} without {status}",
                operation.path
            );
        }
    }
    // The judge holds what is answered against what is said.
    let path = format!("/v2/agent/{}/stop", server.agent().await);
    for (query, status) in [("?a=1", 200), ("?a=2", 422)] {
        let request = server.request("POST", &format!("{path}{query}"), &server.key);
        assert_eq!(server.send(request.header("idempotency-key", "one"), None).await.status, status);
    }
}

/// What `/docs` shows of one endpoint.
fn section<'a>(page: &'a str, operation: &Operation) -> Option<&'a str> {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
    let path: String = operation.path.chars().map(plain).collect();
    let begin = format!("<section id=\"{}{path}\">", operation.method.to_lowercase());
    page.split(&begin).nth(1)?.split("</section>").next()
}

#[tokio::test]
async fn the_page_to_read_needs_no_network_and_shows_the_fields_of_every_body() {
    let server = super::client::Server::start().await;
    let page = server.get("/docs").await.text;
    for outside in ["<script", "<link", "<img", "@import", "url(", "href=\"http"] {
        assert!(!page.contains(outside), "{outside}");
    }
    for operation in &server.description.operations {
        let place = format!("{} {}", operation.method, operation.path);
        let section = section(&page, operation).unwrap_or_else(|| panic!("{place} is not shown"));
        let content = operation.body["requestBody"]["content"].as_object();
        for (kind, _) in content.into_iter().flatten() {
            let body =
                section.split("<h4>Body: ").nth(1).unwrap_or_else(|| panic!("{place} without its body"));
            assert!(body.split("</h4>").next().unwrap().contains(kind), "{place} without {kind}");
            let table = body.split("</table>").next().unwrap();
            assert!(table.contains("<code>"), "{place}: its body has no fields");
        }
    }
    // Files are sent as forms, and what an agent is asked about its recordings is no secret.
    for field in ["from_phone_numbers", "retry_config", "recording.pause", "recording.enabled"] {
        assert!(page.contains(&format!("<code>{field}</code>")), "{field}");
    }
}

#[test]
fn a_judge_finds_what_is_wrong_with_an_answer() {
    let description = Description::read(&json!({
        "paths": {"/things/{id}": {"get": {"responses": {"200": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/Thing"}}}}}}}},
        "components": {"schemas": {"Thing": {"type": "object", "required": ["id"],
            "properties": {"id": {"type": "string"}, "size": {"type": ["integer", "null"]}}}}},
    }));
    let mut headers = HeaderMap::new();
    headers.insert(header::CONTENT_TYPE, "application/json".parse().unwrap());
    let hold = |path: &str, status, text: &str| {
        std::panic::catch_unwind(|| description.hold("GET", path, status, &headers, text)).is_ok()
    };
    assert!(hold("/things/1?x=y", 200, r#"{"id": "1", "size": null}"#));
    assert!(hold("/nothing", 404, ""));
    assert!(!hold("/things/1", 404, "{}"), "a status that is not documented");
    assert!(!hold("/things/1", 200, r#"{"size": 1}"#), "a field is missing");
    assert!(!hold("/things/1", 200, r#"{"id": "1", "size": "big"}"#), "a field of the wrong type");
    assert!(!hold("/things/1", 200, "no JSON"));
}
