//! `/v1/audit`: who changed what in this account. Entries are written with the change itself; nothing here can write
//! or delete one.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::error::{ApiResult, Refusals};
use crate::api::query::parameter;
use crate::api::times::{self, zulu};
use crate::store::{AuditEntry, AuditFilter};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// One change.
#[derive(Serialize, ToSchema)]
struct Entry {
    /// Its identifier.
    id: String,
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Who.
    actor: EntryActor,
    /// The request it was.
    request: EntryRequest,
    /// `created`, `changed`, `deleted`, `requested`.
    action: String,
    /// Kind of resource, such as `trunk`.
    resource: String,
    /// Its identifier.
    resource_id: String,
    /// What differed, as it was; secrets are masked.
    #[schema(required, value_type = Option<Object>)]
    before: Option<Value>,
    /// What differs, as it is; secrets are masked.
    #[schema(required, value_type = Option<Object>)]
    after: Option<Value>,
}

/// Who made a change.
#[derive(Serialize, ToSchema)]
struct EntryActor {
    /// The account of the key; empty for the command line.
    account: String,
    /// The key's first characters; `environment` or `cli` where there is none.
    key: String,
    /// Where the request came from, where that is known.
    #[schema(required)]
    address: Option<String>,
}

/// The request that a change was.
#[derive(Serialize, ToSchema)]
struct EntryRequest {
    /// Its `X-Request-Id`; empty for the command line.
    id: String,
    /// Its method.
    method: String,
    /// Its route.
    route: String,
}

/// A page of changes.
#[derive(Serialize, ToSchema)]
struct Entries {
    /// Newest first.
    data: Vec<Entry>,
    /// The next page's `cursor`; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which changes.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
struct AuditQuery {
    /// Only this kind of resource, such as `trunk`, `number`, `agent`, `key`, `account`, `webhook`.
    resource: Option<String>,
    /// Only this resource.
    resource_id: Option<String>,
    /// Only `created`, `changed`, `deleted` or `requested`.
    action: Option<String>,
    /// Only what the key with this prefix did.
    key: Option<String>,
    /// Only since then.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Only before then.
    #[param(format = DateTime)]
    before: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

fn entry(entry: AuditEntry) -> Entry {
    Entry {
        id: entry.id,
        at: zulu(entry.at),
        actor: EntryActor { account: entry.actor_account, key: entry.actor_key, address: entry.address },
        request: EntryRequest { id: entry.request_id, method: entry.method, route: entry.route },
        action: entry.action,
        resource: entry.resource,
        resource_id: entry.resource_id,
        before: entry.before,
        after: entry.after,
    }
}

/// The account's changes, newest first.
#[utoipa::path(get, path = "/v1/audit", tag = "audit", params(AuditQuery),
    responses((status = 200, body = Entries), Refusals))]
async fn list(State(app): State<App>, caller: Caller, RawQuery(query): RawQuery) -> ApiResult<Json<Entries>> {
    caller.may("audit:read")?;
    let query = query.as_deref();
    let page = page(query)?;
    let filter = AuditFilter {
        resource: parameter(query, "resource"),
        resource_id: parameter(query, "resource_id"),
        action: parameter(query, "action"),
        key: parameter(query, "key"),
        since: times::of_query(query, "since")?,
        before: times::of_query(query, "before")?,
        cursor: Some(page.cursor),
        limit: page.limit + 1,
    };
    let mut entries = app.store().audit(&caller.account, &filter).await?;
    let has_more = entries.len() > page.limit as usize;
    entries.truncate(page.limit as usize);
    let next_cursor = entries.last().filter(|_| has_more).map(|entry| entry.id.clone());
    Ok(Json(Entries { data: entries.into_iter().map(entry).collect(), next_cursor }))
}
