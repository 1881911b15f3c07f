//! `/v1/trunks/{trunk_id}/outbound`: how a trunk's calls leave, whichever family's API made it: what sends a call to the next
//! gateway, what is done with redirects, whom it is shown to come from.
//!
//! The policy is that of the engine ([`tandem_call::OutboundPolicy`]); here it is read, with a fault for each field that will
//! not do. What is not sent stays; null goes back to the default.

use std::net::IpAddr;

use axum::Json;
use axum::extract::State;
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;
use tandem_call::LargeRequestPolicy;
use tandem_call::failover::{FailoverCase, FailoverTable, Next};
use tandem_call::identity::{Asserted, FromUser, IdentityPolicy, PrivacyPolicy};
use tandem_call::redirect::RedirectPolicy;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::trunk_outbound_schemas::{FailoverLines, Identity, LargeRequestsWord, NewOutbound, Redirects};
use super::{change_trunk, texts};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::bolna::find_trunk;
use crate::api::error::{ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text, describe};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::store::{MediaEncryption, StoredTrunk, TrunkSettings};

/// Most lines of a failover table.
pub(super) const MOST_LINES: usize = 64;
/// Most hosts, and most prefixes, that redirects may lead to.
pub(super) const MOST_RULES: usize = 32;
/// Most characters of a name or a host.
pub(super) const MOST_TEXT: usize = 128;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, change))
}

/// How a trunk's calls leave.
#[derive(Serialize, ToSchema)]
struct TrunkOutbound {
    /// The trunk.
    trunk_id: String,
    /// Whether the carrier's NAPTR records tell the transport to gateways given by a name without a port; otherwise it is the
    /// trunk's.
    transport_by_dns: bool,
    /// What is done with requests of more than 1,300 bytes on a trunk over UDP: `tcp` sends them by TCP, and by UDP after all
    /// where the gateway takes none (RFC 3261 section 18.1.1); `udp` never tries.
    #[schema(value_type = LargeRequestsWord)]
    large_requests: LargeRequestPolicy,
    /// What sends a call to the next gateway (`next`) and what ends it (`end`), where that differs from the defaults: `next`
    /// for 408, 430, 478, 5xx, `timeout` and `unreachable`, `end` for all else.
    #[schema(value_type = FailoverLines)]
    failover: FailoverTable,
    /// What is done with a 3xx.
    #[schema(value_type = Redirects)]
    redirects: RedirectPolicy,
    /// Whom calls are shown to come from.
    #[schema(value_type = Identity)]
    identity: IdentityPolicy,
}

fn shown(trunk: StoredTrunk) -> Tagged<Json<TrunkOutbound>> {
    let policy = trunk.settings.outbound;
    let answer = TrunkOutbound {
        trunk_id: trunk.id,
        transport_by_dns: policy.transport_by_dns,
        large_requests: policy.large_requests,
        failover: policy.failover,
        redirects: policy.redirects,
        identity: policy.identity,
    };
    Tagged { revision: trunk.revision, answer: Json(answer) }
}

/// How a trunk's calls leave.
#[utoipa::path(get, path = "/v1/trunks/{trunk_id}/outbound", tag = "trunk outbound policy",
    params(("trunk_id" = String, Path)), responses((status = 200, body = TrunkOutbound), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<TrunkOutbound>>> {
    caller.may("trunks:read")?;
    Ok(shown(find_trunk(&app, &caller, &id).await?))
}

/// Changes how a trunk's calls leave. Calls that are being placed go on as they began.
#[utoipa::path(patch, path = "/v1/trunks/{trunk_id}/outbound", tag = "trunk outbound policy",
    request_body = NewOutbound, params(("trunk_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = TrunkOutbound), Refusals, Missing, BadBody, OutOfDate))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<TrunkOutbound>>> {
    let trunk = change_trunk(&app, &caller, &id, expected, object, read).await?;
    Ok(shown(trunk))
}

fn read(fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults) {
    let policy = &mut settings.outbound;
    if fields.was_sent("transport_by_dns") {
        policy.transport_by_dns = fields.switch("transport_by_dns", faults).unwrap_or_default();
        if policy.transport_by_dns && settings.media_encryption == MediaEncryption::Sdes {
            let why = "true was given, and the trunk's media_encryption is \"sdes\": its keys may go over TLS alone";
            faults.contradiction("transport_by_dns", why);
        }
    }
    if fields.was_sent("large_requests") {
        let word = |word: &str| match word {
            "tcp" => Some(LargeRequestPolicy::Tcp),
            "udp" => Some(LargeRequestPolicy::Udp),
            _ => None,
        };
        policy.large_requests =
            fields.word("large_requests", &["tcp", "udp"], word, faults).unwrap_or_default();
    }
    if fields.was_sent("failover") {
        policy.failover = failover(fields, faults);
    }
    if fields.was_sent("redirects") {
        match fields.object("redirects", faults) {
            Some(object) => redirects(&object, &mut policy.redirects, faults),
            None => policy.redirects = RedirectPolicy::default(),
        }
    }
    if fields.was_sent("identity") {
        match fields.object("identity", faults) {
            Some(object) => identity(&object, &mut policy.identity, faults),
            None => policy.identity = IdentityPolicy::default(),
        }
    }
}

/// The whole new table.
fn failover(fields: &Fields<'_>, faults: &mut Faults) -> FailoverTable {
    let mut table = FailoverTable::default();
    let Some(value) = fields.value("failover") else { return table };
    let Value::Object(lines) = value else {
        faults.push(
            "failover",
            format!("{} was given; give an object such as {{\"403\": \"next\"}}", describe(value)),
        );
        return table;
    };
    if lines.len() > MOST_LINES {
        faults.push("failover", format!("{} lines were given; {MOST_LINES} are the most", lines.len()));
        return table;
    }
    for (case, next) in lines {
        let location = format!("failover.{case}");
        let next = match next.as_str() {
            Some("next") => Next::Gateway,
            Some("end") => Next::End,
            _ => {
                faults.push(location, format!("{} was given; give \"next\" or \"end\"", describe(next)));
                continue;
            }
        };
        match case.parse::<FailoverCase>() {
            Ok(case) => drop(table.lines.insert(case, next)),
            Err(why) => faults.push(location, why),
        }
    }
    table
}

fn redirects(fields: &Fields<'_>, policy: &mut RedirectPolicy, faults: &mut Faults) {
    let default = RedirectPolicy::default();
    if fields.was_sent("follow") {
        policy.follow = fields.switch("follow", faults).unwrap_or(default.follow);
    }
    if fields.was_sent("most") {
        let most = fields.integer("most", 1..=10, faults);
        policy.most = most.and_then(|most| u8::try_from(most).ok()).unwrap_or(default.most);
    }
    if fields.was_sent("hosts") {
        policy.hosts = texts(fields, "hosts", MOST_RULES, faults, host_rule).unwrap_or_default();
    }
    if fields.was_sent("numbers") {
        policy.numbers = texts(fields, "numbers", MOST_RULES, faults, prefix).unwrap_or_default();
    }
}

fn identity(fields: &Fields<'_>, policy: &mut IdentityPolicy, faults: &mut Faults) {
    let from_user = |word: &str| match word {
        "number" => Some(FromUser::Number),
        "username" => Some(FromUser::Username),
        _ => None,
    };
    let asserted = |word: &str| match word {
        "auto" => Some(Asserted::Auto),
        "always" => Some(Asserted::Always),
        "never" => Some(Asserted::Never),
        "preferred" => Some(Asserted::Preferred),
        _ => None,
    };
    let privacy = |word: &str| match word {
        "none" => Some(PrivacyPolicy::None),
        "id" => Some(PrivacyPolicy::Id),
        "anonymous" => Some(PrivacyPolicy::Anonymous),
        _ => None,
    };
    if fields.was_sent("from_user") {
        let words = ["number", "username"];
        policy.from_user = fields.word("from_user", &words, from_user, faults).unwrap_or_default();
    }
    if fields.was_sent("asserted") {
        let words = ["auto", "always", "never", "preferred"];
        policy.asserted = fields.word("asserted", &words, asserted, faults).unwrap_or_default();
    }
    if fields.was_sent("privacy") {
        let words = ["none", "id", "anonymous"];
        policy.privacy = fields.word("privacy", &words, privacy, faults).unwrap_or_default();
    }
    for (name, place, check) in [
        ("from_host", &mut policy.from_host, host as Check),
        ("display_name", &mut policy.display_name, any_line as Check),
        ("diversion", &mut policy.diversion, diversion as Check),
    ] {
        if !fields.was_sent(name) {
            continue;
        }
        let given = fields.text(name, Text::Line(MOST_TEXT), faults).filter(|text| !text.is_empty());
        *place = match given.map(check) {
            Some(Ok(text)) => Some(text),
            Some(Err(why)) => {
                faults.push(fields.location(name), why);
                continue;
            }
            None => None,
        };
    }
}

/// Takes a text as it is to be kept, or says why it will not do.
type Check = fn(&str) -> Result<String, String>;

/// A line, whatever it says: it is quoted where it is shown.
fn any_line(text: &str) -> Result<String, String> {
    Ok(text.to_owned())
}

/// A host name (RFC 1123 section 2.1) or an address.
fn host(text: &str) -> Result<String, String> {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
    };
    match text.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => Ok(format!("[{address}]")),
        Ok(IpAddr::V4(_)) => Ok(text.to_owned()),
        Err(_) if text.len() <= MOST_TEXT && text.split('.').all(is_label) => Ok(text.to_ascii_lowercase()),
        Err(_) => {
            Err(format!("{text:?} was given; give a host name such as \"sip.example.com\" or an address"))
        }
    }
}

/// A name, `*.` and a name, an address or a range.
fn host_rule(text: &str) -> Result<String, String> {
    if text.parse::<IpNet>().is_ok() || text.parse::<IpAddr>().is_ok() {
        return Ok(text.to_owned());
    }
    let below = text.strip_prefix("*.");
    // One label alone would be a whole top-level domain.
    let is_wide = below.is_some_and(|name| !name.contains('.'));
    match host(below.unwrap_or(text)) {
        Ok(name) if !is_wide => Ok(if below.is_some() { format!("*.{name}") } else { name }),
        Ok(_) | Err(_) => Err(format!(
            "{text:?} was given; give a name, \"*.carrier.example\", an address or a range such as \"203.0.113.0/24\""
        )),
    }
}

/// The digits that numbers begin with.
fn prefix(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_fit = (1..=15).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_fit
        .then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} was given; give the first digits of numbers, such as \"+91\""))
}

/// `number`, or a number.
fn diversion(text: &str) -> Result<String, String> {
    let digits = text.strip_prefix('+').unwrap_or(text);
    let is_number = (1..=32).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit());
    (is_number || text == "number")
        .then(|| text.to_owned())
        .ok_or_else(|| format!("{text:?} was given; give \"number\", or a number such as \"+919876543210\""))
}
