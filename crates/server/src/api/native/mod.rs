//! `/v1`: Tandem's own API.

#![expect(unused_qualifications, reason = "written by the derive of parameters")]

mod accounts;
mod audit;
mod balance;
mod call_transfer;
mod calls;
mod doctor;
mod keys;
mod recording;
mod routing;
mod trunk_limits;
mod trunk_outbound;
mod trunk_outbound_schemas;
mod trunk_transfers;
mod verdicts;
mod webhooks;

use serde_json::{Map, Value};
use utoipa_axum::router::OpenApiRouter;

use super::App;
use super::auth::Caller;
use super::bolna::edit_trunk;
use super::error::ApiResult;
use super::fields::{Faults, Fields, describe};
use super::query::{integer, parameter};
use crate::store::{Expected, StoredTrunk, TrunkSettings};

pub(super) use routing::MOST_HEADERS;
pub(super) use webhooks::{EVENTS as TOLD_STATUSES, MOST_EVENTS};

pub(super) use accounts::{
    NewAccountBody, Span, SpanQuery, account_of, reach, read_settings, remove, span_of, usage_of,
};

/// Every endpoint of the family.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .merge(accounts::routes())
        .merge(audit::routes())
        .merge(balance::routes())
        .merge(calls::routes())
        .merge(call_transfer::routes())
        .merge(doctor::routes())
        .merge(keys::routes())
        .merge(recording::routes())
        .merge(routing::routes())
        .merge(trunk_limits::routes())
        .merge(trunk_transfers::routes())
        .merge(trunk_outbound::routes())
        .merge(verdicts::routes())
        .merge(webhooks::routes())
}

/// Changes a trunk by what a body says: `read` lays it over the trunk as it stands, and notes its faults.
async fn change_trunk(
    app: &App,
    caller: &Caller,
    id: &str,
    expected: Expected,
    object: Map<String, Value>,
    read: impl FnOnce(&Fields<'_>, &mut TrunkSettings, &mut Faults) + Send + 'static,
) -> ApiResult<StoredTrunk> {
    let change = move |settings: &mut TrunkSettings| {
        let mut faults = Faults::default();
        read(&Fields::new(&object, ""), settings, &mut faults);
        faults.finish()
    };
    edit_trunk(app, caller, id, expected, change).await
}

/// How many rows a page has, and behind which row it begins.
struct Page {
    limit: u32,
    cursor: String,
}

/// `limit` and `cursor` of the query.
fn page(query: Option<&str>) -> ApiResult<Page> {
    let limit = integer(query, "limit", 1..=500)?.unwrap_or(50);
    let cursor = parameter(query, "cursor").unwrap_or_default();
    Ok(Page { limit: u32::try_from(limit).unwrap_or(50), cursor })
}

/// A list of texts, each read by `read`; `None` when absent, null or no list. What `read` refuses is a fault.
fn texts<T>(
    fields: &Fields<'_>,
    name: &str,
    most: usize,
    faults: &mut Faults,
    read: impl Fn(&str) -> Result<T, String>,
) -> Option<Vec<T>> {
    let value = fields.value(name)?;
    let Value::Array(items) = value else {
        faults.push(fields.location(name), format!("{} was given; give a list of texts", describe(value)));
        return None;
    };
    if items.len() > most {
        faults.push(fields.location(name), format!("{} items were given; {most} are the most", items.len()));
        return None;
    }
    let mut read_items = Vec::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        let location = format!("{}[{at}]", fields.location(name));
        match item.as_str().map(&read) {
            Some(Ok(read)) => read_items.push(read),
            Some(Err(why)) => faults.push(location, why),
            None => faults.push(location, format!("{} was given; give text in quotes", describe(item))),
        }
    }
    Some(read_items)
}
