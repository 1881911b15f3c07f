//! Bodies of trunks and numbers (Bolna's `/sip-trunks` family): read, checked in the documented order, and laid
//! over what stands. The same rules hold for a new trunk and for a changed one, on the merged whole.

use axum::http::StatusCode;
use ipnet::IpNet;
use serde_json::{Map, Value};

use super::registration;
use crate::api::fields::{Faults, Fields, Text, describe, wrong_word};
use crate::routing;
use crate::secrets::Secret;
use crate::store::{
    AuthType, MediaEncryption, NewNumber, StoredGateway, StoredIdentifier, StoredLimits, TransportKind,
    TrunkSettings,
};

const GATEWAY: &str = r#"{"gateway_address": "sip.example.com", "port": 5060, "priority": 1}"#;
const IDENTIFIER: &str = r#"{"ip_address": "203.0.113.0/24"}"#;
const NUMBER: &str = r#"{"phone_number": "+919876543210"}"#;

/// Most gateways of a trunk.
pub(super) const MOST_GATEWAYS: usize = 32;
/// Most address ranges of a trunk.
pub(super) const MOST_IDENTIFIERS: usize = 256;
/// Most numbers that a trunk may be made with.
pub(super) const MOST_NUMBERS: usize = 1_000;

const BAD: StatusCode = StatusCode::BAD_REQUEST;

/// A new trunk and its first numbers. Faults are in the order of the documented checks.
pub(super) fn new_trunk(
    object: &Map<String, Value>,
    faults: &mut Faults,
) -> Option<(TrunkSettings, Vec<NewNumber>)> {
    let fields = Fields::new(object, "");
    let mut settings = TrunkSettings::new("", "");
    required(&fields, "name", "Trunk name is required", 255, faults, &mut settings.name);
    required(&fields, "provider", "Provider is required", 255, faults, &mut settings.provider);
    let auth_type = fields.value("auth_type");
    let known = auth_type.and_then(Value::as_str).and_then(AuthType::from_word);
    match known {
        Some(auth_type) => settings.auth_type = auth_type,
        None => faults.constant(
            BAD,
            "auth_type must be 'userpass' or 'ip-based'",
            "auth_type",
            auth_type.map_or_else(|| "is missing".to_owned(), |given| wrong_word(given, AuthType::WORDS)),
        ),
    }
    lists(&fields, &mut settings, faults);
    credentials(&fields, &mut settings, faults);
    rest(&fields, &mut settings, faults);
    registration::read(&fields, &mut settings, faults);
    rules(&settings, known, None, faults);
    let numbers = fields.objects("phone_numbers", NUMBER, MOST_NUMBERS, faults).unwrap_or_default();
    let numbers: Vec<NewNumber> = numbers.iter().filter_map(|fields| number_of(fields, faults)).collect();
    faults.is_empty().then_some((settings, numbers))
}

/// Lays a PATCH over a trunk as it stands.
pub(super) fn change_trunk(object: &Map<String, Value>, settings: &mut TrunkSettings, faults: &mut Faults) {
    let fields = Fields::new(object, "");
    let before = (settings.gateways.is_empty(), settings.ip_identifiers.is_empty());
    if fields.was_sent("name") {
        required(&fields, "name", "Trunk name is required", 255, faults, &mut settings.name);
    }
    for (name, stands) in
        [("provider", settings.provider.as_str()), ("auth_type", settings.auth_type.as_str())]
    {
        if let Some(given) = fields.value(name)
            && given.as_str() != Some(stands)
        {
            faults.push(
                name,
                format!(
                    "{} was given; it is {stands:?} and cannot be changed after creation",
                    describe(given)
                ),
            );
        }
    }
    lists(&fields, settings, faults);
    credentials(&fields, settings, faults);
    rest(&fields, settings, faults);
    registration::read(&fields, settings, faults);
    if let Some(is_active) = fields.switch("is_active", faults) {
        settings.is_active = is_active;
    }
    // Other families make trunks without gateways or ranges: a list that was empty and is not sent stays so.
    let may_lack = MayLack {
        gateways: before.0 && fields.value("gateways").is_none(),
        identifiers: before.1 && fields.value("ip_identifiers").is_none(),
    };
    rules(settings, Some(settings.auth_type), Some(may_lack), faults);
}

/// A number to be added.
pub(super) fn new_number(object: &Map<String, Value>, faults: &mut Faults) -> Option<NewNumber> {
    number_of(&Fields::new(object, ""), faults)
}

/// A text that must be there, its absence told in the API's own words.
pub(super) fn required(
    fields: &Fields<'_>,
    name: &str,
    headline: &str,
    most: usize,
    faults: &mut Faults,
    into: &mut String,
) {
    let before = faults.len();
    match fields.text(name, Text::Line(most), faults) {
        Some(text) if !text.trim().is_empty() => *into = text.to_owned(),
        Some(_) => faults.constant(BAD, headline, name, "is empty"),
        // A text at fault has told so itself.
        None if faults.len() > before => {}
        None => faults.constant(BAD, headline, name, "is missing"),
    }
}

/// Gateways and address ranges: what is sent replaces the whole list.
fn lists(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    if let Some(gateways) = fields.objects("gateways", GATEWAY, MOST_GATEWAYS, faults) {
        settings.gateways =
            gateways.iter().filter_map(|fields| gateway(fields, "gateway_address", faults)).collect();
    }
    if let Some(identifiers) = fields.objects("ip_identifiers", IDENTIFIER, MOST_IDENTIFIERS, faults) {
        settings.ip_identifiers =
            identifiers.iter().filter_map(|fields| identifier(fields, faults)).collect();
    }
}

fn credentials(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    let username = fields.text("auth_username", Text::Line(255), faults);
    let password = fields.text("auth_password", Text::Line(255), faults);
    if settings.auth_type == AuthType::IpBased {
        // Used only by userpass trunks, says the documentation; clients send them along all the same.
        return;
    }
    // An empty text is no user name and no password; the rules refuse what is then missing.
    if let Some(username) = username {
        settings.auth_username = Some(username.to_owned()).filter(|text| !text.is_empty());
    }
    if let Some(password) = password {
        settings.auth_password = Some(Secret::new(password)).filter(|secret| !secret.reveal().is_empty());
    }
}

fn rest(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    if fields.was_sent("description") {
        settings.description = fields.text("description", Text::Lines(4_096), faults).map(str::to_owned);
    }
    if let Some(allow) = fields.text("allow", Text::Line(255), faults) {
        settings.allow = allow.to_owned();
    }
    if let Some(disallow) = fields.text("disallow", Text::Line(255), faults) {
        settings.disallow = disallow.to_owned();
    }
    if let Some(transport) = fields.word("transport", TransportKind::WORDS, TransportKind::from_word, faults)
    {
        settings.transport = transport;
    }
    for (name, switch) in [
        ("direct_media", &mut settings.direct_media),
        ("rtp_symmetric", &mut settings.rtp_symmetric),
        ("force_rport", &mut settings.force_rport),
        ("ice_support", &mut settings.ice_support),
        ("media_encryption_optimistic", &mut settings.media_encryption_optimistic),
        ("inbound_enabled", &mut settings.inbound_enabled),
        ("outbound_enabled", &mut settings.outbound_enabled),
        ("outbound_leading_plus_enabled", &mut settings.outbound_leading_plus),
    ] {
        if let Some(given) = fields.switch(name, faults) {
            *switch = given;
        }
    }
    // Clients generated from the vendor's YAML send its bare `no` as false.
    if fields.value("media_encryption") == Some(&Value::Bool(false)) {
        settings.media_encryption = MediaEncryption::No;
    } else if let Some(encryption) =
        fields.word("media_encryption", MediaEncryption::WORDS, MediaEncryption::from_word, faults)
    {
        settings.media_encryption = encryption;
    }
    if let Some(seconds) = fields.integer("qualify_frequency", 0..=86_400, faults) {
        settings.qualify_frequency = u32::try_from(seconds).unwrap_or(0);
    }
    limits(fields, &mut settings.limits, faults);
}

/// How much the trunk carries, in both families; null takes a bound away.
pub(in crate::api) fn limits(fields: &Fields<'_>, limits: &mut StoredLimits, faults: &mut Faults) {
    for (name, bound) in [
        ("channels", &mut limits.total),
        ("channels_in", &mut limits.inbound),
        ("channels_out", &mut limits.outbound),
    ] {
        if fields.was_sent(name) {
            *bound =
                fields.integer(name, 1..=1_000, faults).and_then(|channels| u32::try_from(channels).ok());
        }
    }
    if fields.was_sent("calls_per_second") {
        let rate = fields.number("calls_per_second", 0.001..=1_000.0, faults);
        limits.set_per_second(rate);
    }
}

/// Lists that a trunk need not have, for it never had them.
#[derive(Clone, Copy, Default)]
struct MayLack {
    gateways: bool,
    identifiers: bool,
}

/// What must hold of the whole, in the documented order.
fn rules(
    settings: &TrunkSettings,
    auth_type: Option<AuthType>,
    may_lack: Option<MayLack>,
    faults: &mut Faults,
) {
    let may_lack = may_lack.unwrap_or_default();
    if settings.gateways.is_empty() && !may_lack.gateways && !faults.touches("gateways") {
        faults.constant(
            BAD,
            "At least one gateway is required",
            "gateways",
            format!("is missing or empty; give a list such as [{GATEWAY}]"),
        );
    }
    if auth_type == Some(AuthType::UserPass) {
        let missing = [
            ("auth_username", settings.auth_username.is_none()),
            ("auth_password", settings.auth_password.is_none()),
        ];
        for (name, is_missing) in missing {
            if is_missing && !faults.touches(name) {
                faults.constant(
                    BAD,
                    "auth_username and auth_password are required for userpass auth",
                    name,
                    "is missing or empty",
                );
            }
        }
    }
    if auth_type == Some(AuthType::IpBased)
        && settings.ip_identifiers.is_empty()
        && !may_lack.identifiers
        && !faults.touches("ip_identifiers")
    {
        faults.constant(
            BAD,
            "ip_identifiers are required for ip-based auth",
            "ip_identifiers",
            format!("is missing or empty; give a list such as [{IDENTIFIER}]"),
        );
    }
    encryption(settings, "media_encryption", faults);
    registration::rules(settings, faults);
    if routing::codecs(&settings.allow, &settings.disallow).is_empty() && !faults.touches("allow") {
        faults.constant(
            StatusCode::UNPROCESSABLE_ENTITY,
            "allow and disallow leave no codec",
            "allow",
            format!(
                "{:?} with disallow {:?} leaves no codec that is carried here; name one or more of ulaw, alaw, g722",
                settings.allow, settings.disallow
            ),
        );
    }
}

/// Keys stand in the SDP, so they go over TLS alone: what must hold of the whole trunk, whichever family or endpoint
/// changes it. The fault is at `location`, the field that the client knows.
pub(super) fn encryption(settings: &TrunkSettings, location: &str, faults: &mut Faults) {
    // A field at fault has told so itself, and what it was to be is not known.
    let is_known = !faults.touches("transport") && !faults.touches("media_encryption");
    if settings.media_encryption != MediaEncryption::Sdes || !is_known {
        return;
    }
    if settings.transport != TransportKind::Tls {
        faults.constant(
            StatusCode::UNPROCESSABLE_ENTITY,
            "media_encryption='sdes' requires transport='transport-tls'",
            location,
            format!(
                "\"sdes\" with transport {:?}: the keys would cross the network in the clear; set transport to \
                 \"transport-tls\", or media_encryption to \"no\"",
                settings.transport.as_str()
            ),
        );
    }
    if settings.outbound.transport_by_dns {
        faults.contradiction(
            location,
            "\"sdes\" with transport_by_dns: the carrier's DNS may name another transport than TLS, and the keys would \
             cross the network in the clear; PATCH /v1/trunks/{trunk_id}/outbound with {\"transport_by_dns\": false} first",
        );
    }
}

/// A gateway, its host under the name that the family gives it.
pub(super) fn gateway(fields: &Fields<'_>, host: &str, faults: &mut Faults) -> Option<StoredGateway> {
    let given = fields.text(host, Text::Line(512), faults);
    let port = fields.integer("port", 1..=65_535, faults);
    let by_service = fields.switch("service_records", faults);
    let priority = fields.integer("priority", 0..=65_535, faults).unwrap_or(1);
    let location = fields.location(host);
    let Some(given) = given.map(str::trim).filter(|text| !text.is_empty()) else {
        if fields.value(host).is_none_or(Value::is_string) {
            faults.push(location, "is missing or empty; give a host name or an IP address");
        }
        return None;
    };
    let Some((address, written_port)) = host_and_port(given) else {
        faults.push(
            location,
            format!("{given:?} was given; give a host name or an IP address, such as \"sip.example.com\""),
        );
        return None;
    };
    let is_portless = port.is_none() && written_port.is_none();
    let port = match (port, written_port) {
        (Some(port), Some(written)) if port != i64::from(written) => {
            faults.push(
                location,
                format!("{given:?} names port {written}, and port is {port}; name one of them"),
            );
            return None;
        }
        (Some(port), _) => u16::try_from(port).ok()?,
        (None, written) => written.unwrap_or(5060),
    };
    let priority = u32::try_from(priority).unwrap_or(1);
    let is_name = address.parse::<std::net::IpAddr>().is_err();
    if by_service == Some(true) && !is_name {
        faults.push(
            fields.location("service_records"),
            format!("true was given, and {address} is an address; only names have service records"),
        );
        return None;
    }
    // RFC 3263 section 4.2: a port that somebody wrote stands, one that nobody wrote is for SRV records to tell.
    let by_service = by_service.or((is_portless && is_name).then_some(true));
    Some(StoredGateway { by_service, ..StoredGateway::new(address, port, priority) })
}

/// Host and port of a gateway as people write it: `sip.example.com`, `192.0.2.1:5080`, `[2001:db8::1]:5060`, or
/// a whole `sip:` URI.
pub(super) fn host_and_port(text: &str) -> Option<(String, Option<u16>)> {
    let bare = ["sip:", "sips:"]
        .iter()
        .find_map(|scheme| {
            text.get(..scheme.len())
                .filter(|head| head.eq_ignore_ascii_case(scheme))
                .map(|_| &text[scheme.len()..])
        })
        .unwrap_or(text);
    let bare = bare.split([';', '?']).next().unwrap_or(bare);
    let bare = bare.rsplit('@').next().unwrap_or(bare);
    if bare.parse::<std::net::Ipv6Addr>().is_ok() {
        return Some((bare.to_owned(), None));
    }
    if let Some(rest) = bare.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<std::net::Ipv6Addr>().ok()?;
        let port = match rest.strip_prefix(':') {
            Some(port) => Some(port.parse().ok().filter(|port| *port != 0)?),
            None if rest.is_empty() => None,
            None => return None,
        };
        return Some((address.to_owned(), port));
    }
    let (host, port) = match bare.split_once(':') {
        Some((host, port)) => (host, Some(port.parse().ok().filter(|port| *port != 0)?)),
        None => (bare, None),
    };
    is_host(host).then(|| (host.to_owned(), port))
}

/// A host name (RFC 1123 section 2.1; underscores are tolerated, for carriers use them) or an IPv4 address.
fn is_host(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    // Digits and dots alone must be an address: 300.1.2.3 is a slip, not a name.
    if host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return host.parse::<std::net::Ipv4Addr>().is_ok();
    }
    host.len() <= 253 && host.strip_suffix('.').unwrap_or(host).split('.').all(is_label)
}

fn identifier(fields: &Fields<'_>, faults: &mut Faults) -> Option<StoredIdentifier> {
    let location = fields.location("ip_address");
    let Some(given) = fields.text("ip_address", Text::Line(64), faults) else {
        if fields.value("ip_address").is_none() {
            faults.push(location, "is missing; give an address or a range, such as \"203.0.113.0/24\"");
        }
        return None;
    };
    range(given, location, faults).map(|_| StoredIdentifier::new(given.trim()))
}

/// An address or a range, as a network.
pub(super) fn range(given: &str, location: String, faults: &mut Faults) -> Option<IpNet> {
    let given = given.trim();
    let fault = match routing::network(given) {
        Some(network) if network.addr() != network.network() => format!(
            "{given:?} has host bits set; give {} for the range, or {} for the one address",
            network.trunc(),
            network.addr()
        ),
        Some(network) => match too_wide(network) {
            None => return Some(network),
            Some(fault) => fault,
        },
        None => format!(
            "{given:?} is no address and no range; give one such as \"203.0.113.5\" or \"203.0.113.0/24\""
        ),
    };
    faults.push(location, fault);
    None
}

/// A trunk open to the whole Internet is a slip or an attack, never a carrier.
fn too_wide(network: IpNet) -> Option<String> {
    let least = if network.addr().is_ipv4() { 8 } else { 16 };
    (network.prefix_len() < least).then(|| {
        format!("{network} takes in a large part of the Internet; give ranges of /{least} or longer")
    })
}

fn number_of(fields: &Fields<'_>, faults: &mut Faults) -> Option<NewNumber> {
    let before = faults.len();
    let location = fields.location("phone_number");
    let phone_number = fields.text("phone_number", Text::Line(64), faults);
    let name = fields.text("name", Text::Line(255), faults).map(str::to_owned);
    let e164_check_enabled = fields.switch("e164_check_enabled", faults).unwrap_or(false);
    let is_active = fields.switch("is_active", faults).unwrap_or(true);
    let Some(phone_number) = phone_number.filter(|text| !text.trim().is_empty()) else {
        if fields.value("phone_number").is_none_or(Value::is_string) {
            faults.constant(BAD, "phone_number is required", location, "is missing or empty");
        }
        return None;
    };
    if e164_check_enabled && !is_e164(phone_number) {
        faults.constant(
            BAD,
            "Invalid phone number format",
            location,
            format!("{phone_number:?} is not E.164: + and 2 to 15 digits, the first not 0; or set e164_check_enabled to false"),
        );
    } else if !phone_number.bytes().all(|byte| byte.is_ascii_graphic())
        || !phone_number.contains(|c: char| c.is_ascii_alphanumeric() || c == '*' || c == '#')
        || tandem_call::dialled::stored_key(phone_number).is_none()
    {
        faults.constant(
            BAD,
            "Invalid phone number format",
            location,
            format!(
                "{phone_number:?} cannot be dialled; give digits with or without +, such as \"+919876543210\""
            ),
        );
    }
    (faults.len() == before).then(|| NewNumber {
        name,
        e164_check_enabled,
        is_active,
        ..NewNumber::new(phone_number)
    })
}

/// `^\+[1-9]\d{1,14}$`
fn is_e164(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('+') else { return false };
    (2..=15).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_digit())
        && !digits.starts_with('0')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gateways_are_read_as_people_write_them() {
        let cases = [
            ("sip.example.com", Some(("sip.example.com", None))),
            ("sip.example.com.", Some(("sip.example.com.", None))),
            ("192.0.2.1:5080", Some(("192.0.2.1", Some(5080)))),
            ("sip:carrier.example:5080;transport=udp", Some(("carrier.example", Some(5080)))),
            ("SIPS:user@carrier.example", Some(("carrier.example", None))),
            ("2001:db8::1", Some(("2001:db8::1", None))),
            ("[2001:db8::1]", Some(("2001:db8::1", None))),
            ("sip:[2001:db8::1]:5061", Some(("2001:db8::1", Some(5061)))),
            ("_sip_.example.com", Some(("_sip_.example.com", None))),
            ("300.1.2.3", None),
            ("sip.example.com:0", None),
            ("sip.example.com:70000", None),
            ("http://example.com", None),
            ("a b", None),
            ("-a.example", None),
            ("[::1", None),
            ("", None),
        ];
        for (text, expected) in cases {
            let expected = expected.map(|(host, port)| (host.to_owned(), port));
            assert_eq!(host_and_port(text), expected, "{text}");
        }
    }

    #[test]
    fn e164_is_a_plus_and_at_most_fifteen_digits() {
        for good in ["+12", "+919876543210", "+123456789012345"] {
            assert!(is_e164(good), "{good}");
        }
        for bad in ["12", "+0123", "+1", "+1234567890123456", "+12a", "++12", ""] {
            assert!(!is_e164(bad), "{bad}");
        }
    }
}
