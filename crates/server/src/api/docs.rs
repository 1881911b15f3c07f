//! `/docs`: the description of the API as a page to read. One file of HTML, made once at start from the same
//! description that `/openapi.json` serves; it loads nothing from elsewhere, so it works without a network.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value};
use utoipa::openapi::OpenApi;

/// The steps from nothing to a number that an agent answers, as a shell would run them.
pub(super) const FIRST_TRUNK: &str = include_str!("docs/first_trunk.sh");

const STYLE: &str = include_str!("docs/page.css");

/// How deep the fields of a body are written out; deeper ones are named by their type.
const DEPTH: usize = 4;

const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The page.
pub(super) fn page(description: &OpenApi) -> String {
    let description = serde_json::to_value(description).unwrap_or_default();
    let page = Page { schemas: &description["components"]["schemas"] };
    let operations = by_tag(&description);
    let title = text(&description["info"]["title"]);
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <title>{title} API</title><style>{STYLE}</style></head><body><nav><h1>{title}</h1>\
         <a href=\"#first-trunk\">A first trunk</a>",
    );
    for (tag, list) in &operations {
        let _ = write!(html, "<h2>{}</h2>", escaped(tag));
        for operation in list {
            let _ = write!(
                html,
                "<a href=\"#{}\"><b class=\"{method}\">{method}</b> {}</a>",
                operation.anchor(),
                escaped(operation.path),
                method = operation.method,
            );
        }
    }
    let _ = write!(
        html,
        "</nav><main><p>{} Version {}. The same as <a href=\"/openapi.json\">OpenAPI 3.1</a>.</p>\
         <h2 id=\"first-trunk\">A first trunk</h2><pre>{}</pre>",
        text(&description["info"]["description"]),
        text(&description["info"]["version"]),
        escaped(FIRST_TRUNK),
    );
    for (tag, list) in &operations {
        let _ = write!(html, "<h2>{}</h2>", escaped(tag));
        for operation in list {
            page.operation(operation, &mut html);
        }
    }
    html.push_str("</main></body></html>");
    html
}

struct Operation<'a> {
    method: &'static str,
    path: &'a str,
    body: &'a Value,
}

impl Operation<'_> {
    fn anchor(&self) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        format!("{}{}", self.method, self.path.chars().map(plain).collect::<String>())
    }
}

/// Operations by their first tag, in the order of their paths.
fn by_tag(description: &Value) -> BTreeMap<&str, Vec<Operation<'_>>> {
    let mut tags: BTreeMap<&str, Vec<Operation<'_>>> = BTreeMap::new();
    for (path, item) in entries(&description["paths"]) {
        for method in METHODS {
            let Some(body) = item.get(method) else { continue };
            let tag = body["tags"][0].as_str().unwrap_or("other");
            tags.entry(tag).or_default().push(Operation { method, path, body });
        }
    }
    tags
}

/// Writes operations; knows the schemas they refer to.
struct Page<'a> {
    schemas: &'a Value,
}

impl<'a> Page<'a> {
    fn operation(&self, operation: &Operation<'_>, html: &mut String) {
        let body = operation.body;
        let _ = write!(
            html,
            "<section id=\"{}\"><h3><b class=\"{method}\">{method}</b> <code>{}</code></h3><p>{}</p>",
            operation.anchor(),
            escaped(operation.path),
            text(&body["summary"]),
            method = operation.method,
        );
        if let Some(more) = body["description"].as_str() {
            let _ = write!(html, "<p>{}</p>", escaped(more));
        }
        self.parameters(&body["parameters"], html);
        let request = request_schema(&body["requestBody"]);
        if !request.is_null() {
            let kinds: Vec<&str> = entries(&body["requestBody"]["content"]).map(|(kind, _)| kind).collect();
            let _ = write!(html, "<h4>Body: {}</h4>", escaped(&kinds.join(", ")));
            self.fields(request, html);
        }
        html.push_str("<h4>Answers</h4><table>");
        for (status, answer) in entries(&body["responses"]) {
            let _ = write!(
                html,
                "<tr><td><b>{}</b></td><td>{} {}</td></tr>",
                escaped(status),
                text(&answer["description"]),
                escaped(&self.kind(json_schema(answer))),
            );
        }
        html.push_str("</table>");
        for (status, answer) in entries(&body["responses"]) {
            let schema = json_schema(answer);
            if status.starts_with('2') && !schema.is_null() {
                let _ = write!(html, "<details><summary>Fields of {}</summary>", escaped(status));
                self.fields(schema, html);
                html.push_str("</details>");
            }
        }
        html.push_str("</section>");
    }

    fn parameters(&self, parameters: &Value, html: &mut String) {
        let Some(list) = parameters.as_array().filter(|list| !list.is_empty()) else { return };
        html.push_str("<h4>Parameters</h4><table>");
        for parameter in list {
            let name = text(&parameter["name"]);
            self.row(
                &name,
                &parameter["schema"],
                parameter["required"] == true,
                &parameter["description"],
                html,
            );
        }
        html.push_str("</table>");
    }

    fn fields(&self, schema: &Value, html: &mut String) {
        html.push_str("<table>");
        self.rows(schema, "", 0, html);
        html.push_str("</table>");
    }

    fn rows(&self, schema: &Value, above: &str, depth: usize, html: &mut String) {
        let schema = self.resolved(schema);
        if schema.get("items").is_some() {
            return self.rows(&schema["items"], &format!("{above}[]"), depth, html);
        }
        for part in ["allOf", "oneOf", "anyOf"] {
            for one in schema[part].as_array().into_iter().flatten() {
                self.rows(one, above, depth, html);
            }
        }
        let required: Vec<&str> =
            schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        for (name, field) in entries(&schema["properties"]) {
            let place = if above.is_empty() { name.to_owned() } else { format!("{above}.{name}") };
            self.row(&escaped(&place), field, required.contains(&name), &field["description"], html);
            if depth < DEPTH {
                self.rows(field, &place, depth + 1, html);
            }
        }
    }

    fn row(&self, name: &str, schema: &Value, required: bool, description: &Value, html: &mut String) {
        let bounds = bounds(self.resolved(schema));
        let _ = write!(
            html,
            "<tr><td><code>{name}</code>{}</td><td>{}{}</td><td>{}</td></tr>",
            if required { "<sup title=\"required\">*</sup>" } else { "" },
            escaped(&self.kind(schema)),
            if bounds.is_empty() {
                String::new()
            } else {
                format!("<br><small>{}</small>", escaped(&bounds))
            },
            text(description),
        );
    }

    /// The schema, or the one it refers to.
    fn resolved(&self, schema: &'a Value) -> &'a Value
    where
        Self: 'a,
    {
        schema["$ref"].as_str().and_then(|name| self.schemas.get(name.rsplit('/').next()?)).unwrap_or(schema)
    }

    /// A schema's type in few words.
    fn kind(&self, schema: &Value) -> String {
        if let Some(name) = schema["$ref"].as_str() {
            return name.rsplit('/').next().unwrap_or_default().to_owned();
        }
        for part in ["oneOf", "anyOf", "allOf"] {
            if let Some(list) = schema[part].as_array() {
                return list.iter().map(|one| self.kind(one)).collect::<Vec<_>>().join(" or ");
            }
        }
        if schema.get("items").is_some() {
            return format!("list of {}", self.kind(&schema["items"]));
        }
        match &schema["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" or "),
            _ => String::new(),
        }
    }
}

/// What a value is held to, in few words.
fn bounds(schema: &Value) -> String {
    let mut words = Vec::new();
    for (name, word) in [
        ("minimum", "from"),
        ("maximum", "to"),
        ("minLength", "at least, in characters:"),
        ("maxLength", "at most, in characters:"),
        ("minItems", "at least, in items:"),
        ("maxItems", "at most, in items:"),
        ("pattern", "matches"),
        ("format", "format"),
        ("default", "default"),
        ("example", "such as"),
    ] {
        if let Some(value) = schema.get(name) {
            words.push(format!("{word} {}", plain(value)));
        }
    }
    if let Some(list) = schema["enum"].as_array() {
        words.push(format!("one of {}", list.iter().map(plain).collect::<Vec<_>>().join(", ")));
    }
    words.join("; ")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The schema of the JSON form of a body or an answer; null when there is none.
fn json_schema(holder: &Value) -> &Value {
    &holder["content"]["application/json"]["schema"]
}

/// The schema of a request's body: of its JSON form, or where it has none, of the first it has.
fn request_schema(holder: &Value) -> &Value {
    let json = json_schema(holder);
    if !json.is_null() {
        return json;
    }
    entries(&holder["content"]).next().map_or(&Value::Null, |(_, form)| &form["schema"])
}

fn entries(value: &Value) -> impl Iterator<Item = (&str, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter).map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    escaped(value.as_str().unwrap_or_default())
}

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            _ => out.push(c),
        }
    }
    out
}
