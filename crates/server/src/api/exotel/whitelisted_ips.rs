//! `…/trunks/{trunk_sid}/whitelisted-ips`: where a trunk's calls may come from.

use std::net::{IpAddr, Ipv4Addr};

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::asked::{Asked, ChildPath, ChildQuery, JsonBody, PageQuery, TrunkPath, change};
use super::checks::{Checks, date};
use super::envelope::{BadBody, Constant, Failure, Many, OutOfDate, PageMetadata, Refusals, Single};
use super::{children, names, newest_first};
use crate::api::App;
use crate::api::preconditions::IfMatchHeader;
use crate::routing::network;
use crate::store::{Expected, Store, StoredIdentifier, TrunkSettings};

/// Most addresses of a trunk.
const MOST: usize = 256;

/// An address or range that calls may come from.
#[derive(Serialize, ToSchema)]
pub(super) struct AddressData {
    /// Its identifier, digits.
    #[schema(example = "2101456270814357296451860453687152640")]
    id: String,
    /// Bits of the range; 32 is one IPv4 address.
    #[schema(minimum = 0, maximum = 128, example = 32)]
    mask: u8,
    /// The trunk.
    trunk_sid: String,
    /// The address, as it was given.
    #[schema(example = "203.0.113.50")]
    ip: String,
    /// Always null.
    #[schema(required)]
    friendly_name: Option<String>,
    /// When it was added.
    #[schema(format = DateTime)]
    date_created: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    date_updated: String,
}

impl AddressData {
    fn of(trunk: &str, stored: &StoredIdentifier) -> Self {
        let (ip, _) = stored.ip_address.split_once('/').unwrap_or((&stored.ip_address, ""));
        Self {
            id: names::child_name(&stored.id),
            mask: network(&stored.ip_address).map_or(0, |range| range.prefix_len()),
            trunk_sid: names::trunk_sid(trunk),
            ip: ip.to_owned(),
            friendly_name: None,
            date_created: date(stored.created_at),
            date_updated: date(stored.updated_at),
        }
    }
}

/// An address or range.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct AddressBody {
    /// IPv4.
    #[schema(format = Ipv4, example = "203.0.113.50")]
    ip: String,
    /// Bits of the range; without it 32, one address.
    #[schema(minimum = 16, maximum = 32, default = 32, example = 32)]
    mask: Option<u8>,
}

/// The range of a body, as it is stored.
pub(super) fn read(object: &Map<String, Value>) -> Result<String, Failure> {
    let mut checks = Checks::default();
    // An empty address is an address at fault, and not a missing one, to the vendor.
    let ip = match object.get("ip").and_then(Value::as_str) {
        Some("") => Some(""),
        _ => checks.mandatory(object, "ip", "Ip"),
    };
    let address = ip.and_then(|ip| ip.parse::<Ipv4Addr>().ok());
    if let (Some(ip), None) = (ip, address) {
        let message = format!("{ip:?} was given; give an IPv4 address such as \"203.0.113.50\"");
        checks.fail(Constant::Invalid, "Invalid ip", "ip", message);
    }
    let mask = checks.integer(object, "mask", 16..=32, "mask should be in-between 16 and 32").unwrap_or(32);
    checks.finish()?;
    let address = address.unwrap_or(Ipv4Addr::UNSPECIFIED);
    Ok(if mask == 32 { address.to_string() } else { format!("{address}/{mask}") })
}

/// Refuses a range that the trunk has already, but for the entry that is being changed.
fn check_new(settings: &TrunkSettings, range: &str, except: Option<&str>) -> Result<(), Failure> {
    let wanted = network(range).map(|range| range.trunc());
    let is_same = |one: &&StoredIdentifier| {
        Some(one.id.as_str()) != except && network(&one.ip_address).map(|range| range.trunc()) == wanted
    };
    if let Some(known) = settings.ip_identifiers.iter().find(is_same) {
        let (ip, _) = range.split_once('/').unwrap_or((range, ""));
        let message = format!("this range is on the trunk already, as {}", known.ip_address);
        return Err(Failure::new(Constant::Duplicate, format!("Unable to Whitelist-ip with ip {ip}"))
            .at("ip", message));
    }
    Ok(())
}

/// Whether one of the trunk's ranges holds the address. Host bits of a range name the range they lie in.
pub(super) fn holds(settings: &TrunkSettings, address: IpAddr) -> bool {
    let mut ranges = settings.ip_identifiers.iter().filter_map(|one| network(&one.ip_address));
    ranges.any(|range| range.trunc().contains(&address))
}

/// Lets calls come from an address or range.
#[utoipa::path(post, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/whitelisted-ips",
    tag = "exotel trunks", params(TrunkPath), security(("basic" = []), ("bearer" = [])),
    request_body = AddressBody, responses((status = 200, body = Single<AddressData>), Refusals, BadBody))]
pub(super) async fn add_exotel_address(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let account = asked.account.clone();
    let added = async {
        asked.may("trunks:write")?;
        let id = asked.trunk()?;
        let range = read(&object)?;
        let trunk = change(&app, move |store: Store| async move {
            let add = |settings: &mut TrunkSettings| -> Result<(), Failure> {
                check_new(settings, &range, None)?;
                if settings.ip_identifiers.len() >= MOST {
                    let message =
                        format!("the trunk has {MOST} ranges; delete one first, or give a wider one");
                    let description = format!("Maximum allowed number of whitelisted ips is {MOST}");
                    return Err(Failure::new(Constant::Invalid, description).at("ip", message));
                }
                settings.ip_identifiers.push(StoredIdentifier::new(range));
                Ok(())
            };
            store.change_trunk(&account, &id, &Expected::Any, add).await
        });
        let trunk = trunk.await?;
        let added = trunk.settings.ip_identifiers.last().ok_or_else(Failure::not_found)?;
        Ok((trunk.revision, AddressData::of(&trunk.id, added)))
    };
    asked.envelope.tagged(added.await)
}

/// A trunk's addresses and ranges, newest first.
#[utoipa::path(get, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/whitelisted-ips",
    tag = "exotel trunks", params(TrunkPath, PageQuery), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Many<PageMetadata, AddressData>), Refusals))]
pub(super) async fn list_exotel_addresses(State(app): State<App>, asked: Asked) -> Response {
    let list = async {
        asked.may("trunks:read")?;
        let (id, page) = (asked.trunk()?, asked.page()?);
        let trunk = app.store().trunk(&asked.account, &id).await?;
        let list = newest_first(&trunk.settings.ip_identifiers, |one| one.created_at);
        Ok(page.of(list.map(|one| AddressData::of(&trunk.id, one)).collect()))
    };
    asked.envelope.page(list.await)
}

/// Changes an address or range.
#[utoipa::path(put, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/whitelisted-ips/{id}",
    tag = "exotel trunks", params(ChildPath, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    request_body = AddressBody, responses((status = 200, body = Single<AddressData>), Refusals, BadBody, OutOfDate))]
pub(super) async fn change_exotel_address(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let changed = async {
        asked.may("trunks:write")?;
        let range = read(&object)?;
        let checked = range.clone();
        let check = move |settings: &TrunkSettings, child: &str| check_new(settings, &checked, Some(child));
        let (trunk, changed) =
            children::edit(&app, &asked, check, |one: &mut StoredIdentifier| one.ip_address = range).await?;
        Ok((trunk.revision, AddressData::of(&trunk.id, &changed)))
    };
    asked.envelope.tagged(changed.await)
}

/// Lets no more calls come from an address or range.
#[utoipa::path(delete, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/whitelisted-ips",
    tag = "exotel trunks", params(TrunkPath, ChildQuery, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Single<AddressData>), Refusals, OutOfDate))]
pub(super) async fn delete_exotel_address(State(app): State<App>, asked: Asked) -> Response {
    let deleted = async {
        asked.may("trunks:write")?;
        let (trunk, gone) = children::take_off::<StoredIdentifier>(&app, &asked).await?;
        Ok(AddressData::of(&trunk.id, &gone))
    };
    asked.envelope.single(deleted.await)
}
