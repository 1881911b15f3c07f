//! `…/trunks/{trunk_sid}/destination-uris`: where a trunk's calls go that are for no agent; its gateways.

use std::net::IpAddr;

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::asked::{Asked, ChildPath, ChildQuery, JsonBody, PageQuery, TrunkPath, change};
use super::checks::{Checks, date};
use super::envelope::{
    BadBody, BatchMetadata, Constant, Failure, Many, OutOfDate, PageMetadata, Refusals, Single,
};
use super::{children, names, newest_first, whitelisted_ips};
use crate::api::App;
use crate::api::preconditions::IfMatchHeader;
use crate::store::{Expected, Store, StoredGateway, TransportKind, TrunkSettings};

/// Most destinations of a trunk, and of one request.
const MOST: usize = 32;

/// Longest destination.
const LONGEST: usize = 300;

/// Largest priority and weight, as in SRV records (RFC 2782).
const LARGEST: u32 = 65_535;

/// A destination.
#[derive(Serialize, ToSchema)]
pub(super) struct DestinationData {
    /// Its identifier, digits.
    #[schema(example = "2101456270814357296451860453687152640")]
    id: String,
    /// Where calls go.
    #[schema(example = "sip:sip.example.com:5061;transport=tls")]
    destination: String,
    /// When it was added.
    #[schema(format = DateTime)]
    date_created: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    date_updated: String,
    /// Always `public`.
    #[serde(rename = "type")]
    #[schema(example = "public")]
    kind: &'static str,
    /// Lower goes first.
    #[schema(minimum = 0, example = 0)]
    priority: u32,
    /// Among equals, the larger gets more of the calls.
    #[schema(minimum = 0, example = 1)]
    weight: u32,
    /// The trunk.
    trunk_sid: String,
}

impl DestinationData {
    fn of(trunk: &str, trunk_transport: TransportKind, stored: &StoredGateway) -> Self {
        Self {
            id: names::child_name(&stored.id),
            destination: written(stored, trunk_transport),
            date_created: date(stored.created_at),
            date_updated: date(stored.updated_at),
            kind: "public",
            priority: stored.priority,
            weight: stored.weight,
            trunk_sid: names::trunk_sid(trunk),
        }
    }
}

/// A gateway as this family writes it. UDP is what no transport means.
fn written(gateway: &StoredGateway, trunk_transport: TransportKind) -> String {
    let host = match gateway.address.contains(':') {
        true => format!("[{}]", gateway.address),
        false => gateway.address.clone(),
    };
    let transport = match (gateway.transport, trunk_transport) {
        (None, TransportKind::Udp) => "",
        (Some(TransportKind::Udp), _) => ";transport=udp",
        (Some(TransportKind::Tcp), _) | (None, TransportKind::Tcp) => ";transport=tcp",
        (Some(TransportKind::Tls), _) | (None, TransportKind::Tls) => ";transport=tls",
    };
    let port = match gateway.by_service {
        Some(true) => String::new(),
        Some(false) | None => format!(":{}", gateway.port),
    };
    format!("sip:{host}{port}{transport}")
}

/// Destinations to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct DestinationsBody {
    /// Each is added by itself, or fails by itself.
    #[schema(min_items = 1, max_items = 32)]
    destinations: Vec<DestinationItem>,
}

/// A destination to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct DestinationItem {
    /// `host:port;transport=tls`, `tcp` or `udp`; an address must be in the trunk's whitelist.
    #[schema(min_length = 1, max_length = 300, example = "sip.example.com:5061;transport=tls")]
    destination: String,
}

/// What is to be changed of a destination.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct DestinationChangeBody {
    /// Lower goes first.
    #[schema(minimum = 0, maximum = 65535, example = 0)]
    priority: Option<u32>,
    /// Among equals, the larger gets more of the calls.
    #[schema(minimum = 0, maximum = 65535, example = 1)]
    weight: Option<u32>,
}

/// The destinations of a body, as they were written.
pub(super) fn read(object: &Map<String, Value>) -> Result<Vec<String>, Failure> {
    let mut checks = Checks::default();
    let items = checks.objects(object, "destinations", "Destinations", MOST);
    let mut destinations = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let location = format!("destinations[{at}].destination");
        let text = checks.text(item, "destination", &location).map(str::to_owned);
        match text {
            Some(text) if text.chars().count() > LONGEST => {
                let message =
                    format!("{} characters were given; {LONGEST} are the most", text.chars().count());
                checks.fail(Constant::Invalid, "Destination is not a valid Ip or Fqdn", &location, message);
            }
            Some(text) if !text.is_empty() => destinations.push(text),
            Some(_) | None => {
                if item.get("destination").is_none_or(|value| value.is_null() || value.is_string()) {
                    let message = "is missing or empty";
                    checks.fail(Constant::Missing, "Destination is mandatory", &location, message);
                }
            }
        }
    }
    checks.finish()?;
    Ok(destinations)
}

/// Reads `host[:port][;transport=…]`, with or without `sip:` before it.
fn gateway(text: &str) -> Result<StoredGateway, String> {
    let bare = match text.get(..4) {
        Some(scheme) if scheme.eq_ignore_ascii_case("sip:") => &text[4..],
        _ => text,
    };
    let (place, parameters) = bare.split_once(';').unwrap_or((bare, ""));
    let mut transport = None;
    for parameter in parameters.split(';').filter(|parameter| !parameter.is_empty()) {
        transport = match parameter.to_ascii_lowercase().as_str() {
            "transport=udp" => Some(TransportKind::Udp),
            "transport=tcp" => Some(TransportKind::Tcp),
            "transport=tls" => Some(TransportKind::Tls),
            _ => return Err(format!("{parameter:?} will not do; give transport=tls, tcp or udp")),
        };
    }
    let (host, port) = match place.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, rest)) => (host, rest.strip_prefix(':').or((!rest.is_empty()).then_some("?"))),
        None => match place.rsplit_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (place, None),
        },
    };
    let usual = if transport == Some(TransportKind::Tls) { 5061 } else { 5060 };
    let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_portless = port.is_none();
    let port = match port {
        None => usual,
        Some(port) => match port.parse::<u16>().ok().filter(|number| *number > 0 && is_digits(port)) {
            Some(port) => port,
            None => return Err(format!("{port:?} is no port; give one from 1 to 65535")),
        },
    };
    let is_bracketed = place.starts_with('[');
    let is_host = match host.parse::<IpAddr>() {
        Ok(address) => address.is_ipv6() == is_bracketed,
        Err(_) => !is_bracketed && is_name(host),
    };
    if !is_host {
        return Err(format!("{host:?} is no address and no name such as \"sip.example.com\""));
    }
    let mut gateway = StoredGateway::new(host.to_ascii_lowercase(), port, 0);
    gateway.transport = transport;
    // RFC 3263 section 4.2: a name without a port is looked for by its SRV records.
    gateway.by_service = Some(is_portless && host.parse::<IpAddr>().is_err());
    Ok(gateway)
}

/// A name with a dot in it (RFC 1123 section 2.1); digits and dots alone would be an address at fault.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let host = host.strip_suffix('.').unwrap_or(host);
    host.len() <= 253
        && host.contains('.')
        && host.split('.').all(is_label)
        && !host.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
}

/// Adds one destination to a trunk, if it may be there.
fn add(settings: &mut TrunkSettings, text: &str, location: &str) -> Result<StoredGateway, Failure> {
    let invalid = |description: &str, message: String| {
        Failure::new(Constant::Invalid, description).at(location, message)
    };
    let mut new = gateway(text).map_err(|why| invalid("Destination is not a valid Ip or Fqdn", why))?;
    if new.transport.is_none() && settings.transport != TransportKind::Udp {
        new.transport = Some(TransportKind::Udp);
    }
    if let Ok(address) = new.address.parse::<IpAddr>()
        && !whitelisted_ips::holds(settings, address)
    {
        let message = format!("{address} is in none of the trunk's whitelisted ips; whitelist it first");
        return Err(invalid("Destination not whitelisted", message));
    }
    let effective = |one: &StoredGateway| one.transport.unwrap_or(settings.transport);
    let is_same = |one: &&StoredGateway| {
        (one.address.to_ascii_lowercase(), one.port, effective(one))
            == (new.address.clone(), new.port, effective(&new))
    };
    if settings.gateways.iter().any(|one| is_same(&one)) {
        let description = format!("Unable to create destination uri with destination {text}");
        return Err(Failure::new(Constant::Duplicate, description)
            .at(location, "this destination is on the trunk already"));
    }
    if settings.gateways.len() >= MOST {
        let message = format!("the trunk has {MOST} destinations; delete one first");
        return Err(invalid(&format!("Maximum allowed number of Destinations is {MOST}"), message));
    }
    settings.gateways.push(new.clone());
    Ok(new)
}

/// Adds destinations to a trunk, each by itself: 207 when one of them fails.
#[utoipa::path(post, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/destination-uris",
    tag = "exotel trunks", params(TrunkPath), security(("basic" = []), ("bearer" = [])),
    request_body = DestinationsBody,
    responses((status = 200, body = Many<BatchMetadata, DestinationData>),
        (status = 207, description = "Some came to be and some did not", body = Many<BatchMetadata, DestinationData>),
        Refusals, BadBody))]
pub(super) async fn add_exotel_destinations(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let account = asked.account.clone();
    let added = async {
        asked.may("trunks:write")?;
        let id = asked.trunk()?;
        let destinations = read(&object)?;
        let (trunk, results) = change(&app, move |store: Store| async move {
            let mut results = Vec::with_capacity(destinations.len());
            let add_all = |settings: &mut TrunkSettings| -> Result<(), Failure> {
                for (at, text) in destinations.iter().enumerate() {
                    results.push(add(settings, text, &format!("destinations[{at}].destination")));
                }
                Ok(())
            };
            let trunk = store.change_trunk(&account, &id, &Expected::Any, add_all).await?;
            Ok((trunk, results))
        })
        .await?;
        let settings = &trunk.settings;
        let stored = |new: StoredGateway| {
            let is_it = |one: &&StoredGateway| {
                (&one.address, one.port, one.transport) == (&new.address, new.port, new.transport)
            };
            let one = settings.gateways.iter().find(is_it).unwrap_or(&new);
            DestinationData::of(&trunk.id, settings.transport, one)
        };
        Ok(results.into_iter().map(|result| result.map(&stored)).collect())
    };
    asked.envelope.batch::<BatchMetadata, DestinationData>(added.await)
}

/// A trunk's destinations, newest first.
#[utoipa::path(get, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/destination-uris",
    tag = "exotel trunks", params(TrunkPath, PageQuery), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Many<PageMetadata, DestinationData>), Refusals))]
pub(super) async fn list_exotel_destinations(State(app): State<App>, asked: Asked) -> Response {
    let list = async {
        asked.may("trunks:read")?;
        let (id, page) = (asked.trunk()?, asked.page()?);
        let trunk = app.store().trunk(&asked.account, &id).await?;
        let list = newest_first(&trunk.settings.gateways, |one| one.created_at);
        let transport = trunk.settings.transport;
        Ok(page.of(list.map(|one| DestinationData::of(&trunk.id, transport, one)).collect()))
    };
    asked.envelope.page(list.await)
}

/// Changes a destination's priority and weight.
#[utoipa::path(put, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/destination-uris/{id}",
    tag = "exotel trunks", params(ChildPath, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    request_body = DestinationChangeBody,
    responses((status = 200, body = Single<DestinationData>), Refusals, BadBody, OutOfDate))]
pub(super) async fn change_exotel_destination(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let changed = async {
        asked.may("trunks:write")?;
        let mut checks = Checks::default();
        let bounds = |what: &str| format!("{what} should be in-between 0 and {LARGEST}");
        let priority = checks.integer(&object, "priority", 0..=LARGEST, &bounds("priority"));
        let weight = checks.integer(&object, "weight", 0..=LARGEST, &bounds("weight"));
        checks.finish()?;
        let change = move |one: &mut StoredGateway| {
            one.priority = priority.unwrap_or(one.priority);
            one.weight = weight.unwrap_or(one.weight);
        };
        let (trunk, changed) = children::edit(&app, &asked, |_, _| Ok(()), change).await?;
        Ok((trunk.revision, DestinationData::of(&trunk.id, trunk.settings.transport, &changed)))
    };
    asked.envelope.tagged(changed.await)
}

/// Takes a destination off its trunk.
#[utoipa::path(delete, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/destination-uris",
    tag = "exotel trunks", params(TrunkPath, ChildQuery, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Single<DestinationData>), Refusals, OutOfDate))]
pub(super) async fn delete_exotel_destination(State(app): State<App>, asked: Asked) -> Response {
    let deleted = async {
        asked.may("trunks:write")?;
        let (trunk, gone) = children::take_off::<StoredGateway>(&app, &asked).await?;
        Ok(DestinationData::of(&trunk.id, trunk.settings.transport, &gone))
    };
    asked.envelope.single(deleted.await)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_read_as_clients_write_them_and_written_with_a_scheme() {
        let cases = [
            ("44.248.146.11:5061;transport=tls", "sip:44.248.146.11:5061;transport=tls"),
            ("sip:sip.mycompany.com:5060;transport=TCP", "sip:sip.mycompany.com:5060;transport=tcp"),
            ("SIP:Sip.Example.com", "sip:sip.example.com"),
            ("sip.example.com;transport=tls", "sip:sip.example.com;transport=tls"),
            ("203.0.113.50:5060;transport=udp", "sip:203.0.113.50:5060;transport=udp"),
            ("[2001:db8::1]:5070", "sip:[2001:db8::1]:5070"),
            ("[2001:db8::1]", "sip:[2001:db8::1]:5060"),
        ];
        for (given, expected) in cases {
            assert_eq!(written(&gateway(given).unwrap(), TransportKind::Udp), expected, "{given}");
        }
        for given in [
            "",
            "300.1.2.3",
            "1.2.3",
            "host:0",
            "a.b:70000",
            "a.b:+5",
            "a.b:",
            "localhost",
            "a..b",
            "-a.b",
            "http://a.b",
            "2001:db8::1",
            "[1.2.3.4]",
            "[2001:db8::1]x",
            "user@a.b",
            "a.b;transport=sctp",
            "a.b;lr",
            "a b.c",
        ] {
            assert!(gateway(given).is_err(), "{given}");
        }
    }
}
