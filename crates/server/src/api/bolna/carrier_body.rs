//! Bodies of the `/trunk` family: read, checked, and laid over the trunk that both families share.
//!
//! This family has no `auth_type`: the store lets ranges prove a trunk if it has any, else its digest pair. Its lists
//! have endpoints of their own, so a PATCH that names one is told where to go.

use axum::http::StatusCode;
use serde_json::{Map, Value};

use super::registration;
use super::trunk_body::{self, limits, required};
use crate::api::fields::{Faults, Fields, Text, describe, wrong_word};
use crate::ids::canonical_uuid;
use crate::secrets::Secret;
use crate::store::{NewNumber, StoredGateway, StoredIdentifier, TransportKind, TrunkFamily, TrunkSettings};

/// Labels of carriers.
pub(super) const PRESETS: &[&str] = &["plivo", "telnyx", "twilio", "exotel", "vobiz", "vonage", "custom"];

/// Most gateways of a trunk.
pub(super) const MOST_GATEWAYS: usize = 8;

const GATEWAY: &str = r#"{"host": "sip.example.com", "port": 5060, "priority": 1}"#;
const RANGE: &str = r#"{"cidr": "203.0.113.0/24"}"#;
const CODECS: &[&str] = &["PCMU", "PCMA", "G722"];

/// A number to be added, and who answers it.
pub(super) struct CarrierNumber {
    pub(super) number: NewNumber,
    pub(super) agent: Option<String>,
}

/// A new trunk.
pub(super) fn new_trunk(object: &Map<String, Value>, faults: &mut Faults) -> Option<TrunkSettings> {
    let fields = Fields::new(object, "");
    let mut settings = TrunkSettings::new("", "custom");
    settings.family = TrunkFamily::Trunk;
    settings.inbound_enabled = true;
    required(&fields, "name", "Trunk name is required", 100, faults, &mut settings.name);
    if let Some(gateways) = fields.objects("gateways", GATEWAY, MOST_GATEWAYS, faults) {
        settings.gateways =
            gateways.iter().filter_map(|fields| trunk_body::gateway(fields, "host", faults)).collect();
    }
    ranges(&fields, &mut settings, faults);
    scalars(&fields, &mut settings, faults);
    if fields.value("channels").is_none() {
        settings.limits.total = Some(10);
    }
    registration::rules(&settings, faults);
    faults.is_empty().then_some(settings)
}

/// Lays a PATCH over a trunk as it stands.
pub(super) fn change_trunk(object: &Map<String, Value>, settings: &mut TrunkSettings, faults: &mut Faults) {
    let fields = Fields::new(object, "");
    if fields.value("name").is_some() {
        required(&fields, "name", "Trunk name is required", 100, faults, &mut settings.name);
    }
    for (name, place) in [("gateways", "gateways"), ("ip_acls", "ip-acls"), ("numbers", "numbers")] {
        if fields.was_sent(name) {
            faults.push(
                name,
                format!("cannot be changed here; add with POST /trunk/trunks/{{id}}/{place}, take away with DELETE"),
            );
        }
    }
    scalars(&fields, settings, faults);
    if let Some(is_active) = fields.switch("is_active", faults) {
        settings.is_active = is_active;
    }
    trunk_body::encryption(settings, "transport", faults);
    registration::rules(settings, faults);
}

/// A gateway to be added.
pub(super) fn new_gateway(object: &Map<String, Value>, faults: &mut Faults) -> Option<StoredGateway> {
    trunk_body::gateway(&Fields::new(object, ""), "host", faults).filter(|_| faults.is_empty())
}

/// A range to be added.
pub(super) fn new_range(object: &Map<String, Value>, faults: &mut Faults) -> Option<StoredIdentifier> {
    range(&Fields::new(object, ""), faults).filter(|_| faults.is_empty())
}

/// A number to be added.
pub(super) fn new_number(object: &Map<String, Value>, faults: &mut Faults) -> Option<CarrierNumber> {
    let fields = Fields::new(object, "");
    let e164 = missing_or(&fields, "e164", fields.text("e164", Text::Line(64), faults), faults);
    if let Some(e164) = e164
        && !is_e164(e164)
    {
        faults.push(
            "e164",
            format!(
                "{e164:?} was given; give + and 7 to 15 digits, the first not 0, such as \"+919876543210\""
            ),
        );
    }
    let key = fields.text("destination_key", Text::Line(64), faults);
    let key = missing_or(&fields, "destination_key", key, faults);
    if let Some(key) = key
        && let Some(fault) = key_fault(key)
    {
        faults.push("destination_key", fault);
    }
    let agent = agent(&fields, "agent_id", faults);
    let (Some(e164), Some(key)) = (e164, key) else { return None };
    faults.is_empty().then(|| CarrierNumber {
        number: NewNumber { destination_key: Some(key.to_owned()), ..NewNumber::new(e164) },
        agent,
    })
}

/// Who is to answer a number: the body's `agent_id`, or nobody.
pub(super) fn new_agent(object: &Map<String, Value>, faults: &mut Faults) -> Option<String> {
    agent(&Fields::new(object, ""), "agent_id", faults)
}

fn scalars(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    if fields.was_sent("description") {
        settings.description = fields.text("description", Text::Lines(500), faults).map(str::to_owned);
    }
    if let Some(preset) = fields
        .word("preset", PRESETS, |word| PRESETS.contains(&word).then_some(()), faults)
        .and_then(|()| fields.value("preset").and_then(Value::as_str))
    {
        settings.provider = preset.to_owned();
    }
    for (name, switch) in [
        ("inbound_enabled", &mut settings.inbound_enabled),
        ("outbound_enabled", &mut settings.outbound_enabled),
        ("outbound_leading_plus_enabled", &mut settings.outbound_leading_plus),
    ] {
        if let Some(given) = fields.switch(name, faults) {
            *switch = given;
        }
    }
    let transport = |word: &str| match word {
        "udp" => Some(TransportKind::Udp),
        "tcp" => Some(TransportKind::Tcp),
        _ => None,
    };
    if let Some(transport) = fields.word("transport", &["udp", "tcp"], transport, faults) {
        settings.transport = transport;
    }
    if fields.was_sent("default_inbound_agent_id") {
        settings.default_agent = agent(fields, "default_inbound_agent_id", faults);
    }
    limits(fields, &mut settings.limits, faults);
    pair(fields, settings, faults);
    registration::read(fields, settings, faults);
    codec_list(fields, settings, faults);
}

/// User name and password come and go together.
fn pair(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    let names = ["auth_username", "auth_password"];
    if !names.iter().any(|name| fields.was_sent(name)) {
        return;
    }
    let [username, password] =
        names.map(|name| fields.text(name, Text::Line(255), faults).filter(|text| !text.is_empty()));
    let is_read = names.iter().all(|name| !faults.touches(name));
    match (username, password) {
        _ if !is_read => {}
        (Some(username), Some(password)) => {
            settings.auth_username = Some(username.to_owned());
            settings.auth_password = Some(Secret::new(password));
        }
        (None, None) => {
            settings.auth_username = None;
            settings.auth_password = None;
        }
        (Some(_), None) => faults.push("auth_password", ONE_OF_A_PAIR),
        (None, Some(_)) => faults.push("auth_username", ONE_OF_A_PAIR),
    }
}

const ONE_OF_A_PAIR: &str =
    "is missing; auth_username and auth_password are set together, and cleared together with null";

fn codec_list(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    let Some(words) = fields.texts("codecs", CODECS.len(), faults) else { return };
    let mut names = Vec::with_capacity(CODECS.len());
    for (at, word) in words.iter().enumerate() {
        let name = match *word {
            "PCMU" => "ulaw",
            "PCMA" => "alaw",
            "G722" => "g722",
            _ => {
                faults.push(format!("codecs[{at}]"), wrong_word(&Value::from(*word), CODECS));
                continue;
            }
        };
        if names.contains(&name) {
            faults.push(format!("codecs[{at}]"), format!("{word:?} is named twice; name each codec once"));
            continue;
        }
        names.push(name);
    }
    if words.is_empty() {
        faults.push("codecs", "is empty; name one or more of PCMU, PCMA, G722, the preferred first");
    }
    if !faults.touches("codecs") && !names.is_empty() {
        settings.allow = names.join(",");
        settings.disallow = "all".to_owned();
    }
}

fn ranges(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    let Some(value) = fields.value("ip_acls") else { return };
    let Value::Array(items) = value else {
        faults.push("ip_acls", format!("{} was given; give a list such as [{RANGE}]", describe(value)));
        return;
    };
    if items.len() > trunk_body::MOST_IDENTIFIERS {
        let most = trunk_body::MOST_IDENTIFIERS;
        faults.push("ip_acls", format!("{} items were given; {most} are the most", items.len()));
        return;
    }
    for (at, item) in items.iter().enumerate() {
        let location = format!("ip_acls[{at}]");
        let range = match item {
            Value::Object(object) => range(&Fields::new(object, location), faults),
            Value::String(text) => one_range(text, location, faults),
            other => {
                faults.push(
                    location,
                    format!("{} was given; give a range such as \"203.0.113.0/24\"", describe(other)),
                );
                None
            }
        };
        settings.ip_identifiers.extend(range);
    }
}

fn range(fields: &Fields<'_>, faults: &mut Faults) -> Option<StoredIdentifier> {
    let given = missing_or(fields, "cidr", fields.text("cidr", Text::Line(64), faults), faults)?;
    one_range(given, fields.location("cidr"), faults)
}

/// A bare address is stored as the range of one that it is.
fn one_range(given: &str, location: String, faults: &mut Faults) -> Option<StoredIdentifier> {
    trunk_body::range(given, location, faults).map(|network| StoredIdentifier::new(network.to_string()))
}

/// A text that must be there, and not be empty.
fn missing_or<'a>(
    fields: &Fields<'_>,
    name: &str,
    text: Option<&'a str>,
    faults: &mut Faults,
) -> Option<&'a str> {
    let text = text.filter(|text| !text.is_empty());
    if text.is_none() && fields.value(name).is_none_or(|value| value == "") {
        let location = fields.location(name);
        faults.constant(
            StatusCode::BAD_REQUEST,
            &format!("{name} is required"),
            location,
            "is missing or empty",
        );
    }
    text
}

fn agent(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<String> {
    fields.text(name, Text::Line(128), faults).filter(|id| !id.is_empty()).map(canonical_uuid)
}

/// `^\+[1-9]\d{6,14}$`
fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (7..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
}

fn key_fault(key: &str) -> Option<String> {
    let bad = if key.starts_with('+') {
        "begins with +"
    } else if !key.bytes().all(|byte| byte.is_ascii_graphic())
        || tandem_call::dialled::stored_key(key).is_none()
    {
        "cannot stand in a Request-URI"
    } else {
        return None;
    };
    Some(format!("{key:?} {bad}; give it as the carrier writes it, such as \"919876543210\""))
}
