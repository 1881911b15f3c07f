//! `/sub-accounts`: Bolna's accounts under an account, each with a key of its own that begins with `sa-`.
//!
//! The same accounts as `/v1/accounts`, seen from above: here the operator's accounts that stand on their own are
//! not shown.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Contradictions, Missing, Refusals};
use crate::api::fields::{Faults, Fields};
use crate::api::native::{
    NewAccountBody, Span, SpanQuery, account_of, read_settings, remove, span_of, usage_of,
};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::ids::canonical_uuid;
use crate::store::{self, AccountSettings, NewKey, StoreError};

/// Accounts read from the store at once.
const PAGE: u32 = 500;

/// Most accounts in one answer: this list has no pages.
const MOST: usize = 10_000;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(usage_of_all))
        .routes(routes!(show, delete))
        .routes(routes!(usage))
}

/// An account under the caller's.
#[derive(Serialize, ToSchema)]
struct SubAccount {
    /// Its identifier.
    id: String,
    /// The account it stands under.
    parent_id: String,
    /// What its owner calls it.
    name: String,
    /// Whom to write to.
    #[schema(required)]
    email: Option<String>,
    /// Its owner's notes.
    #[schema(required, value_type = Option<Object>)]
    metadata: Option<Value>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// An account that was just made, with its first key.
#[derive(Serialize, ToSchema)]
struct CreatedSubAccount {
    /// The key of the account: shown this once.
    #[schema(example = "sa-…")]
    api_key: String,
    /// The account.
    #[serde(flatten)]
    account: SubAccount,
}

/// What an account used.
#[derive(Serialize, ToSchema)]
struct SubAccountUsage {
    /// The account.
    sub_account_id: String,
    /// From when.
    #[schema(format = DateTime)]
    from: String,
    /// Until when.
    #[schema(format = DateTime)]
    to: String,
    /// Calls that began in that time and are over.
    #[schema(minimum = 0)]
    total_calls: i64,
    /// The same by their final status.
    calls_by_status: BTreeMap<String, i64>,
    /// Seconds from answer to end, of all of them together.
    #[schema(minimum = 0)]
    total_duration: f64,
}

/// What is left of an account that was deleted.
#[derive(Serialize, ToSchema)]
struct DeletedSubAccount {
    /// Always `success`.
    message: &'static str,
    /// Always `deleted`.
    state: &'static str,
    /// The account's identifier.
    id: String,
}

fn sub_account(account: store::Account) -> SubAccount {
    let account = account_of(account);
    SubAccount {
        id: account.id,
        parent_id: account.parent.unwrap_or_default(),
        name: account.name,
        email: account.email,
        metadata: account.metadata,
        created_at: account.created_at,
        updated_at: account.updated_at,
    }
}

/// Makes an account under the caller's, with a key that is shown this once.
#[utoipa::path(post, path = "/sub-accounts/create", tag = "sub-accounts", request_body = NewAccountBody,
    responses((status = 200, body = CreatedSubAccount), Refusals, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Json<CreatedSubAccount>> {
    caller.may("accounts:write")?;
    let mut faults = Faults::default();
    let mut settings = AccountSettings::default();
    read_settings(&Fields::new(&object, ""), &mut settings, &mut faults);
    faults.finish()?;
    let account = app.store().create_account(None, Some(&caller.account), settings).await?;
    let new = NewKey { account: account.id.clone(), name: "first key".to_owned(), ..NewKey::default() };
    let (_, key) = app.store().add_key(new).await?;
    Ok(Json(CreatedSubAccount { api_key: key.reveal().to_owned(), account: sub_account(account) }))
}

/// The accounts under the caller's.
#[utoipa::path(get, path = "/sub-accounts/all", tag = "sub-accounts",
    responses((status = 200, body = Vec<SubAccount>), Refusals))]
async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Vec<SubAccount>>> {
    caller.may("accounts:read")?;
    Ok(Json(children(&app, &caller).await?.into_iter().map(sub_account).collect()))
}

async fn children(app: &App, caller: &Caller) -> ApiResult<Vec<store::Account>> {
    let mut all: Vec<store::Account> = Vec::new();
    loop {
        let after = all.last().map(|account| account.id.clone()).unwrap_or_default();
        let page = app.store().accounts(Some(&caller.account), &after, PAGE).await?;
        let is_last = page.len() < PAGE as usize;
        all.extend(page);
        if is_last || all.len() >= MOST {
            return Ok(all);
        }
    }
}

async fn child(app: &App, caller: &Caller, id: &str) -> ApiResult<store::Account> {
    let missing = || {
        ApiError::not_found("Sub-account not found")
            .at("sub_account_id", "no account under this one has this id; GET /sub-accounts/all lists them")
    };
    match app.store().account(&canonical_uuid(id)).await {
        Ok(account) if account.parent.as_deref() == Some(caller.account.as_str()) => Ok(account),
        Ok(_) | Err(StoreError::NotFound) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// One account under the caller's.
#[utoipa::path(get, path = "/sub-accounts/{sub_account_id}", tag = "sub-accounts",
    params(("sub_account_id" = String, Path)), responses((status = 200, body = SubAccount), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<SubAccount>>> {
    caller.may("accounts:read")?;
    let account = child(&app, &caller, &id).await?;
    Ok(Tagged { revision: account.revision, answer: Json(sub_account(account)) })
}

/// Deletes an account under the caller's: its keys are revoked and its trunks switched off.
#[utoipa::path(delete, path = "/sub-accounts/{sub_account_id}", tag = "sub-accounts",
    params(("sub_account_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = DeletedSubAccount), Refusals, Missing, OutOfDate, BadBody))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<DeletedSubAccount>> {
    caller.may("accounts:write")?;
    let account = child(&app, &caller, &id).await?;
    let deleted = remove(&app, &caller, &account.id, expected).await?;
    Ok(Json(DeletedSubAccount { message: "success", state: "deleted", id: deleted.id }))
}

async fn usage_of_one(app: &App, account: &str, span: Span) -> ApiResult<SubAccountUsage> {
    let usage = usage_of(app, account, span).await?;
    Ok(SubAccountUsage {
        sub_account_id: usage.account,
        from: usage.from,
        to: usage.to,
        total_calls: usage.total_calls,
        calls_by_status: usage.calls_by_status,
        total_duration: usage.conversation_seconds,
    })
}

/// What an account under the caller's used.
#[utoipa::path(get, path = "/sub-accounts/{sub_account_id}/usage", tag = "sub-accounts",
    params(("sub_account_id" = String, Path), SpanQuery),
    responses((status = 200, body = SubAccountUsage), Refusals, Missing, Contradictions))]
async fn usage(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<SubAccountUsage>> {
    caller.may("accounts:read")?;
    let account = child(&app, &caller, &id).await?;
    Ok(Json(usage_of_one(&app, &account.id, span_of(query.as_deref())?).await?))
}

/// What each of the accounts under the caller's used.
#[utoipa::path(get, path = "/sub-accounts/all/usage", tag = "sub-accounts", params(SpanQuery),
    responses((status = 200, body = Vec<SubAccountUsage>), Refusals, Contradictions))]
async fn usage_of_all(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Vec<SubAccountUsage>>> {
    caller.may("accounts:read")?;
    let span = span_of(query.as_deref())?;
    let mut usages = Vec::new();
    for account in children(&app, &caller).await? {
        usages.push(usage_of_one(&app, &account.id, span).await?);
    }
    Ok(Json(usages))
}
