//! Bodies of agents: Bolna's object is taken as it is, unknown fields and all; what telephony needs of it, the
//! names and the `websocket` object, is checked.

use axum::http::StatusCode;
use serde_json::{Map, Value};
use tandem_agent::{ConfigError, DialectConfig, DialectKind, Encoding};
use tandem_call::{dialled, template};

use crate::api::fields::{Faults, Fields, Text, describe, wrong_word};
use crate::api::recording_rule::recording_rule;
use crate::api::{web_url, whole_number};
use crate::store::{MASK, NewAgent};

const BAD: StatusCode = StatusCode::BAD_REQUEST;

/// Most headers and parameters of a socket.
pub(in crate::api) const MOST_ENTRIES: usize = 64;

/// Most tasks of an agent.
const MOST_TASKS: usize = 64;

/// Most numbers of a whitelist.
const MOST_WHITELISTED: usize = 10_000;

/// Bolna's words for by whom an agent is reached.
const PROVIDERS: &[&str] = &["twilio", "plivo", "exotel", "vobiz", "sip-trunk", "trunk", "default"];

/// Those that mean a SIP trunk: audio is µ-law then.
const TRUNK_PROVIDERS: &[&str] = &["sip-trunk", "trunk"];

/// Headers that belong to the upgrade request itself (RFC 6455 section 4.1).
const RESERVED: &[&str] = &["host", "connection", "upgrade", "content-length", "transfer-encoding"];

/// A new agent, or one that replaces another.
pub(super) fn new_agent(object: &Map<String, Value>, faults: &mut Faults) -> Option<NewAgent> {
    let before = faults.len();
    let fields = Fields::new(object, "");
    let name = match (fields.value("agent_config"), fields.object("agent_config", faults)) {
        (_, Some(config)) => agent_name(&config, faults),
        (Some(_), None) => None,
        (None, None) => {
            faults.constant(
                BAD,
                "agent_config is required",
                "agent_config",
                "is missing; give an object with agent_name",
            );
            None
        }
    };
    let is_trunk = fields.object("agent_config", &mut Faults::default()).is_some_and(|config| {
        call_rules(&config, faults);
        let provider = config.value("telephony_provider").and_then(Value::as_str);
        provider.is_some_and(|provider| TRUNK_PROVIDERS.contains(&provider))
    });
    socket(&fields, faults);
    if let Some(recording) = fields.object("recording", faults) {
        recording.switch("enabled", faults);
        recording_rule(&recording, faults);
    }
    let name = name?;
    let mut body = object.clone();
    if is_trunk {
        speak_mulaw(&mut body);
    }
    (faults.len() == before).then_some(NewAgent { name, body })
}

/// What an agent's owner asks of its calls: read by [`crate::agent_rules`], and of the right types from here on.
fn call_rules(config: &Fields<'_>, faults: &mut Faults) {
    config.word("telephony_provider", PROVIDERS, |word| PROVIDERS.contains(&word).then_some(()), faults);
    let webhook = config.text("webhook_url", Text::Line(2_048), faults);
    if let Some(url) = webhook.filter(|url| !url.is_empty()) {
        web_url::target(url, &config.location("webhook_url"), faults);
    }
    if let Some(guardrails) = config.object("calling_guardrails", faults) {
        guardrail_hours(&guardrails, faults);
    }
    if let Some(source) = config.object("ingest_source_config", faults) {
        caller_source(&source, faults);
    }
    let tasks = config.objects("tasks", "{\"task_config\": {\"call_terminate\": 300}}", MOST_TASKS, faults);
    for task in tasks.into_iter().flatten() {
        // Mapping a number sets the formats within: it has to be an object.
        task.object("tools_config", faults);
        let Some(rules) = task.object("task_config", faults) else { continue };
        rules.integer("inbound_limit", -1..=1_000_000, faults);
        rules.integer("call_terminate", 0..=86_400, faults);
        rules.switch("disallow_unknown_numbers", faults);
        seconds(&rules, "hangup_after_silence", faults);
        whitelist(&rules, faults);
    }
}

fn guardrail_hours(guardrails: &Fields<'_>, faults: &mut Faults) {
    let before = faults.len();
    let mut hour = |name: &str| {
        let hour = guardrails.integer(name, 0..=23, faults);
        if hour.is_none() && faults.len() == before && guardrails.value(name).is_none() {
            faults.push(guardrails.location(name), "is missing; give both hours, from 0 to 23");
        }
        hour
    };
    let (start, end) = (hour("call_start_hour"), hour("call_end_hour"));
    if let (Some(start), Some(end)) = (start, end)
        && end < start
    {
        faults.constant(
            StatusCode::UNPROCESSABLE_ENTITY,
            "call_end_hour must not be before call_start_hour",
            guardrails.location("call_end_hour"),
            format!("the number {end} was given; give an hour that is not before call_start_hour, which is {start}"),
        );
    }
}

/// Where callers are looked up: what the vendor asks of each kind of source.
fn caller_source(source: &Fields<'_>, faults: &mut Faults) {
    const KINDS: [&str; 3] = ["api", "csv", "google_sheet"];
    let known = |word: &str| KINDS.into_iter().find(|kind| *kind == word);
    let kind = source.word("source_type", &KINDS, known, faults);
    if source.value("source_type").is_none() {
        faults.push(source.location("source_type"), "is missing; give \"api\", \"csv\" or \"google_sheet\"");
    }
    let url = source.text("source_url", Text::Line(2_048), faults).filter(|url| !url.is_empty());
    if let Some(url) = url {
        web_url::target(url, &source.location("source_url"), faults);
    }
    let wanted: &[&str] = match kind {
        Some("api") => &["source_url", "source_auth_token"],
        Some("csv") => &["source_name"],
        Some(_) => &["source_name", "source_url"],
        None => &[],
    };
    for name in ["source_auth_token", "source_name"] {
        source.text(name, Text::Line(4_096), faults);
    }
    for name in wanted {
        let is_filled =
            source.value(name).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty());
        let location = source.location(name);
        if !is_filled && !faults.touches(&location) {
            faults.push(location, format!("is missing or empty; a source of this source_type needs {name}"));
        }
    }
}

fn seconds(rules: &Fields<'_>, name: &str, faults: &mut Faults) {
    let Some(value) = rules.value(name) else { return };
    if !value.as_f64().is_some_and(|seconds| (0.0..=86_400.0).contains(&seconds)) {
        let message = format!("{} was given; give seconds, a number from 0 to 86400", describe(value));
        faults.push(rules.location(name), message);
    }
}

fn whitelist(rules: &Fields<'_>, faults: &mut Faults) {
    let name = "whitelist_phone_numbers";
    let location = rules.location(name);
    match rules.value(name) {
        None => {}
        Some(Value::Array(items)) if items.len() > MOST_WHITELISTED => faults
            .push(location, format!("{} numbers were given; {MOST_WHITELISTED} are the most", items.len())),
        Some(Value::Array(items)) => {
            for (at, item) in items.iter().enumerate() {
                let is_number = item.as_str().is_some_and(|text| {
                    text.len() <= 64
                        && !text.contains(char::is_control)
                        && dialled::stored_key(text).is_some()
                });
                if !is_number {
                    faults.push(
                        format!("{location}[{at}]"),
                        format!("{} was given; give a number such as \"+14155550100\"", describe(item)),
                    );
                }
            }
        }
        Some(other) => faults.push(
            location,
            format!("{} was given; give a list of numbers such as [\"+14155550100\"]", describe(other)),
        ),
    }
}

/// Refuses a masked header value where there is no value that it could stand for: the mask itself would be sent
/// to the agent.
pub(super) fn check_masks(new: &NewAgent, stands: Option<&NewAgent>, faults: &mut Faults) {
    fn headers(agent: &NewAgent) -> Option<&Map<String, Value>> {
        agent.body.get("websocket")?.get("headers")?.as_object()
    }
    let known = stands.and_then(headers);
    for (name, value) in headers(new).into_iter().flatten() {
        if value == MASK && !known.is_some_and(|known| known.contains_key(name)) {
            faults.push(
                format!("websocket.headers.{name}"),
                "holds the mask that stands for a stored value, and none is stored; give the value itself",
            );
        }
    }
    fn token(agent: &NewAgent) -> Option<&Value> {
        agent.body.get("agent_config")?.get("ingest_source_config")?.get("source_auth_token")
    }
    if token(new).is_some_and(|token| token == MASK) && stands.and_then(token).is_none() {
        faults.push(
            "agent_config.ingest_source_config.source_auth_token",
            "holds the mask that stands for a stored value, and none is stored; give the value itself",
        );
    }
}

/// Lays a PATCH over an agent: objects are merged, everything else is replaced.
pub(super) fn change_agent(object: &Map<String, Value>, agent: &mut NewAgent, faults: &mut Faults) {
    let before = agent.clone();
    for (name, value) in object {
        match (agent.body.get_mut(name), value) {
            (Some(Value::Object(stands)), Value::Object(given)) => {
                stands.extend(given.iter().map(|(name, value)| (name.clone(), value.clone())));
            }
            _ => {
                agent.body.insert(name.clone(), value.clone());
            }
        }
    }
    if let Some(changed) = new_agent(&agent.body.clone(), faults) {
        check_masks(&changed, Some(&before), faults);
        *agent = changed;
    }
}

/// What mapping a number does to an agent: it is reached through a SIP trunk, in µ-law.
pub(super) fn set_telephony(body: &mut Map<String, Value>) {
    let Some(Value::Object(config)) = body.get_mut("agent_config") else { return };
    config.insert("telephony_provider".to_owned(), "sip-trunk".into());
    speak_mulaw(body);
}

/// Sets the formats of an agent's tasks to what a SIP trunk speaks.
fn speak_mulaw(body: &mut Map<String, Value>) {
    let Some(Value::Object(config)) = body.get_mut("agent_config") else { return };
    let provider = config.get("telephony_provider").cloned().unwrap_or_else(|| "sip-trunk".into());
    let Some(Value::Array(tasks)) = config.get_mut("tasks") else { return };
    for task in tasks {
        let Some(Value::Object(tools)) = task.get_mut("tools_config") else { continue };
        for side in ["input", "output"] {
            if let Some(Value::Object(format)) = tools.get_mut(side) {
                format.insert("format".to_owned(), "ulaw".into());
                format.insert("provider".to_owned(), provider.clone());
            }
        }
    }
}

fn agent_name(config: &Fields<'_>, faults: &mut Faults) -> Option<String> {
    let before = faults.len();
    let name = config.text("agent_name", Text::Line(255), faults).filter(|name| !name.trim().is_empty());
    if name.is_none() && faults.len() == before {
        faults.constant(
            BAD,
            "agent_config.agent_name is required",
            config.location("agent_name"),
            "is missing or empty",
        );
    }
    name.map(str::to_owned)
}

fn socket(fields: &Fields<'_>, faults: &mut Faults) {
    let Some(socket) = fields.object("websocket", faults) else { return };
    let kind = socket.value("dialect").and_then(Value::as_str).and_then(DialectKind::from_name);
    match socket.text("url", Text::Line(2_048), faults) {
        Some(url) => check_url(url, kind, socket.location("url"), faults),
        None if socket.value("url").is_none() => {
            faults.push(socket.location("url"), "is missing; give one such as \"wss://agent.example/ws\"");
        }
        None => {}
    }
    if let Some(url) = socket.text("fallback_url", Text::Line(2_048), faults) {
        check_url(url, kind, socket.location("fallback_url"), faults);
    }
    if let Some(subprotocol) = socket.text("subprotocol", Text::Line(255), faults)
        && !is_token(subprotocol)
    {
        faults.push(
            socket.location("subprotocol"),
            format!("{subprotocol:?} was given; give one name without blanks (RFC 6455 section 4.1)"),
        );
    }
    dialect(&socket, faults);
    socket.word(
        "on_close",
        &["drain", "hangup"],
        |word| ["drain", "hangup"].contains(&word).then_some(()),
        faults,
    );
    entries(&socket, "headers", faults, |name, value, location, faults| {
        let lower = name.to_ascii_lowercase();
        if !is_token(name) || RESERVED.contains(&lower.as_str()) || lower.starts_with("sec-websocket-") {
            faults.push(location, "is no header an agent may be given; the upgrade request sets its own");
        } else if let Value::String(text) = value {
            if text.chars().any(|c| c.is_control() || !c.is_ascii()) {
                faults.push(location, "holds characters that a header cannot carry; give plain ASCII text");
            } else if text != MASK {
                check_text(text, location, faults);
            }
        } else {
            faults.push(location, format!("{} was given; give text in quotes", describe(value)));
        }
    });
    entries(&socket, "parameters", faults, |_, value, location, faults| match value {
        Value::String(text) => check_text(text, location, faults),
        Value::Number(_) | Value::Bool(_) => {}
        other => {
            faults.push(location, format!("{} was given; give text, a number, or a switch", describe(other)))
        }
    });
}

fn dialect(socket: &Fields<'_>, faults: &mut Faults) {
    let before = faults.len();
    let words: Vec<&str> = DialectKind::ALL.iter().map(|kind| kind.name()).collect();
    if socket.value("dialect").is_none() {
        faults.push(socket.location("dialect"), format!("is missing; give one of {}", words.join(", ")));
    }
    socket.word("dialect", &words, DialectKind::from_name, faults);
    if faults.len() > before {
        return;
    }
    const SETTINGS: [&str; 11] = [
        "frame_ms",
        "encoding",
        "reply_encoding",
        "control_format",
        "byte_order",
        "numbers",
        "marks_on_clear",
        "voice_activity",
        "heard_position",
        "inband_dtmf",
        "session",
    ];
    let given: Map<String, Value> = SETTINGS
        .iter()
        .chain(&["dialect"])
        .filter_map(|name| {
            let value = socket.value(name)?;
            // Whole numbers may be written with a fraction of zero.
            let value = whole_number(value).map_or_else(|| value.clone(), Value::from);
            Some(((*name).to_owned(), value))
        })
        .collect();
    // Field by field, so that the fault is told where it is.
    for name in SETTINGS {
        let Some(value) = given.get(name) else { continue };
        let alone: Map<String, Value> = given
            .iter()
            .filter(|(key, _)| *key == "dialect" || *key == name)
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect();
        if serde_json::from_value::<DialectConfig>(Value::Object(alone)).is_err() {
            let message = match name {
                "encoding" | "reply_encoding" => wrong_word(value, &Encoding::ALL.map(Encoding::name)),
                "session" => format!("{} was given; give an object", describe(value)),
                "byte_order" => wrong_word(value, &["little", "big"]),
                "numbers" => wrong_word(value, &["text", "number"]),
                "marks_on_clear" => wrong_word(value, &["echo", "drop", "cleared"]),
                "voice_activity" => wrong_word(value, &["off", "events", "clear"]),
                "inband_dtmf" => wrong_word(value, &["auto", "always", "never"]),
                "heard_position" => format!("{} was given; give true or false", describe(value)),
                "control_format" => wrong_word(value, &["plain-text", "json", "auto"]),
                _ => format!("{} was given; give a multiple of 10 from 10 to 200", describe(value)),
            };
            faults.push(socket.location(name), message);
        }
    }
    if faults.len() > before {
        return;
    }
    let read = serde_json::from_value::<DialectConfig>(Value::Object(given));
    if let Ok(config) = read
        && let Err(error) = config.validate()
    {
        let name = match error {
            ConfigError::FrameMs { .. } => {
                return faults.push(socket.location("frame_ms"), error.to_string());
            }
            ConfigError::Encoding { setting, .. } | ConfigError::NoWords { setting, .. } => setting,
            ConfigError::Session { .. } => "session",
        };
        // Each is right by itself.
        let headline = format!("{name} does not fit the dialect");
        let location = socket.location(name);
        faults.constant(StatusCode::UNPROCESSABLE_ENTITY, &headline, location, error.to_string());
    }
}

fn entries(
    socket: &Fields<'_>,
    name: &str,
    faults: &mut Faults,
    check: impl Fn(&str, &Value, String, &mut Faults),
) {
    let Some(object) = socket.object(name, faults) else { return };
    let count = object.entries().count();
    if count > MOST_ENTRIES {
        faults
            .push(socket.location(name), format!("{count} entries were given; {MOST_ENTRIES} are the most"));
        return;
    }
    for (key, value) in object.entries() {
        if key.chars().any(char::is_control) || key.chars().count() > 255 {
            faults.push(socket.location(name), "a name of it holds control characters or is too long");
        } else {
            check(key, value, object.location(key), faults);
        }
    }
}

fn check_url(url: &str, kind: Option<DialectKind>, location: String, faults: &mut Faults) {
    let is_over_tcp = kind.is_some_and(DialectKind::is_over_tcp);
    let (schemes, example): (&[&str], _) = if is_over_tcp {
        (&["tcp://"], "give an address such as \"tcp://agent.example:9092\"")
    } else {
        (&["ws://", "wss://"], "give a WebSocket URL such as \"wss://agent.example/ws/{execution_id}\"")
    };
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    let host = rest.map(|rest| rest.split(['/', '?', '#']).next().unwrap_or_default());
    let host = host.map(|authority| authority.rsplit('@').next().unwrap_or_default());
    match host {
        Some(host)
            if !host.is_empty()
                && !host.starts_with(':')
                && !url.contains(char::is_whitespace)
                && (!is_over_tcp
                    || host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok())) =>
        {
            if let Err(error) = template::check_url(url) {
                faults.push(location, error.to_string());
            }
        }
        _ if ["ws://", "wss://", "tcp://"].iter().any(|scheme| url.starts_with(scheme)) && host.is_none() => {
            faults.contradiction(location, format!("{url:?} was given with this dialect; {example}"));
        }
        _ => faults.push(location, format!("{url:?} was given; {example}")),
    }
}

fn check_text(text: &str, location: String, faults: &mut Faults) {
    if let Err(error) = template::check_text(text) {
        faults.push(location, error.to_string());
    }
}

/// A token of HTTP (RFC 9110 section 5.6.2).
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}
