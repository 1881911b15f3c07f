//! `/v1/accounts`: accounts, and the accounts under them.
//!
//! The operator (keys of the account `default`) makes accounts that stand on their own and sees every account; any
//! other key makes and sees accounts under its own. An account of somebody else is as good as none.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::page;
use crate::api::App;
use crate::api::auth::{Caller, DEFAULT_ACCOUNT};
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Contradictions, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text};
use crate::api::key_rules::account_id;
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::api::query::bad_parameter;
use crate::api::times::{self, zulu};
use crate::store::{self, AccountSettings, Expected, StoreError, now_ms};

/// Days of usage when no span is asked for.
const USAGE_DAYS: i64 = 30;

/// Longest metadata, as JSON.
const METADATA_BYTES: usize = 16 * 1024;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, change, delete))
        .routes(routes!(usage))
}

/// An account to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(in crate::api) struct NewAccountBody {
    /// What you call it.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    /// Whom to write to.
    #[schema(
        max_length = 254,
        required = false,
        pattern = r"^([^\s\x00-\x1f\x7f-\x9f@]+@[^\s\x00-\x1f\x7f-\x9f@]+)?$"
    )]
    email: Option<String>,
    /// Notes of your own.
    #[schema(required = false)]
    metadata: Option<Map<String, Value>>,
}

/// An account to be made, as the operator may.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct OperatorsAccountBody {
    /// Its identifier; only the operator may choose it.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", required = false)]
    id: Option<String>,
    /// What you call it.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    )]
    name: String,
    /// Whom to write to.
    #[schema(
        max_length = 254,
        required = false,
        pattern = r"^([^\s\x00-\x1f\x7f-\x9f@]+@[^\s\x00-\x1f\x7f-\x9f@]+)?$"
    )]
    email: Option<String>,
    /// Notes of your own.
    #[schema(required = false)]
    metadata: Option<Map<String, Value>>,
}

/// What shall be changed of an account.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct AccountChange {
    /// What you call it.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$",
        required = false
    )]
    name: Option<String>,
    /// Whom to write to.
    #[schema(
        max_length = 254,
        required = false,
        pattern = r"^([^\s\x00-\x1f\x7f-\x9f@]+@[^\s\x00-\x1f\x7f-\x9f@]+)?$"
    )]
    email: Option<String>,
    /// Notes of your own; replaced whole.
    #[schema(required = false)]
    metadata: Option<Map<String, Value>>,
}

/// An account.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct Account {
    /// Its identifier.
    pub(in crate::api) id: String,
    /// The account it stands under.
    #[schema(required)]
    pub(in crate::api) parent: Option<String>,
    /// What its owner calls it.
    pub(in crate::api) name: String,
    /// Whom to write to.
    #[schema(required)]
    pub(in crate::api) email: Option<String>,
    /// Its owner's notes.
    #[schema(required, value_type = Option<Object>)]
    pub(in crate::api) metadata: Option<Value>,
    /// When it was made.
    #[schema(format = DateTime)]
    pub(in crate::api) created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    pub(in crate::api) updated_at: String,
}

/// A page of accounts.
#[derive(Serialize, ToSchema)]
struct Accounts {
    /// By identifier.
    data: Vec<Account>,
    /// The next page's `cursor`; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// What an account used.
#[derive(Serialize, ToSchema)]
pub(in crate::api) struct AccountUsage {
    /// The account.
    pub(in crate::api) account: String,
    /// From when.
    #[schema(format = DateTime)]
    pub(in crate::api) from: String,
    /// Until when.
    #[schema(format = DateTime)]
    pub(in crate::api) to: String,
    /// Calls that began in that time and are over.
    #[schema(minimum = 0)]
    pub(in crate::api) total_calls: i64,
    /// The same by their final status.
    pub(in crate::api) calls_by_status: BTreeMap<String, i64>,
    /// Seconds from answer to end, of all of them together.
    #[schema(minimum = 0)]
    pub(in crate::api) conversation_seconds: f64,
}

/// Which page.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
struct PageQuery {
    /// At most so many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

/// Which span of time.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(in crate::api) struct SpanQuery {
    /// From when; without it 30 days before `to`.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Until when; without it now.
    #[param(format = DateTime)]
    to: Option<String>,
}

/// An account as it is shown.
pub(in crate::api) fn account_of(account: store::Account) -> Account {
    Account {
        id: account.id,
        parent: account.parent,
        name: account.name,
        email: account.email,
        metadata: account.metadata,
        created_at: zulu(account.created_at),
        updated_at: zulu(account.updated_at),
    }
}

/// Reads what a body says about an account into `settings`; what it leaves out stays as it is.
pub(in crate::api) fn read_settings(
    fields: &Fields<'_>,
    settings: &mut AccountSettings,
    faults: &mut Faults,
) {
    if let Some(name) = fields.text("name", Text::Line(100), faults) {
        name.trim().clone_into(&mut settings.name);
    }
    if settings.name.is_empty() && !faults.touches("name") {
        faults.push(fields.location("name"), "is missing or empty; give the account a name");
    }
    if fields.was_sent("email") {
        settings.email = fields.text("email", Text::Line(254), faults).map(str::to_owned);
        if settings.email.as_ref().is_some_and(|email| !email.is_empty() && !is_email(email)) {
            faults.push(fields.location("email"), "is no e-mail address; give one such as ops@example.com");
        }
    }
    if fields.was_sent("metadata") {
        let metadata: Option<Map<String, Value>> = fields
            .object("metadata", faults)
            .map(|object| object.entries().map(|(name, value)| (name.clone(), value.clone())).collect());
        settings.metadata = metadata.map(Value::Object);
        let length = settings.metadata.as_ref().map_or(0, |metadata| metadata.to_string().len());
        if length > METADATA_BYTES {
            faults.push(
                fields.location("metadata"),
                format!("{length} bytes of JSON were given; {METADATA_BYTES} are the most"),
            );
        }
    }
}

/// Something, an `@`, and something: whether anybody reads it there, only a letter would tell.
fn is_email(text: &str) -> bool {
    let is_part = |part: &str| !part.is_empty() && !part.contains(char::is_whitespace);
    text.split_once('@').is_some_and(|(who, place)| is_part(who) && is_part(place) && !place.contains('@'))
}

/// An account within the caller's reach: its own, one under it, or, for the operator, any.
///
/// # Errors
/// 404 at `location`, for whatever is out of reach.
pub(in crate::api) async fn reach(
    app: &App,
    caller: &Caller,
    id: &str,
    location: &str,
) -> ApiResult<store::Account> {
    let missing = || {
        ApiError::not_found("Account not found").at(
            location,
            "this key reaches no account with this id: its own and those under it are within reach",
        )
    };
    match app.store().account(id).await {
        Ok(account)
            if caller.is_operator()
                || account.id == caller.account
                || account.parent.as_deref() == Some(caller.account.as_str()) =>
        {
            Ok(account)
        }
        Ok(_) | Err(StoreError::NotFound) => Err(missing()),
        Err(error) => Err(error.into()),
    }
}

/// Makes an account: under the caller's own, or, by the operator, on its own.
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = OperatorsAccountBody,
    responses((status = 201, body = Account), Refusals, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Tagged<(StatusCode, Json<Account>)>> {
    caller.may("accounts:write")?;
    let fields = Fields::new(&object, "");
    let mut faults = Faults::default();
    let mut settings = AccountSettings::default();
    let id = fields.text("id", Text::Line(64), &mut faults).and_then(|text| match account_id(text) {
        Ok(id) => Some(id),
        Err(why) => {
            faults.push("id", why);
            None
        }
    });
    read_settings(&fields, &mut settings, &mut faults);
    faults.finish()?;
    if id.is_some() && !caller.is_operator() {
        // Whether an identifier is taken would tell of other tenants.
        return Err(ApiError::new(StatusCode::FORBIDDEN, "Only the operator may choose an account's id")
            .at("id", "leave it out; the account gets one"));
    }
    let parent = (!caller.is_operator()).then_some(caller.account.as_str());
    let account = app.store().create_account(id, parent, settings).await?;
    let revision = account.revision;
    Ok(Tagged { revision, answer: (StatusCode::CREATED, Json(account_of(account))) })
}

/// The accounts within reach: those under the caller's own, or, for the operator, all.
#[utoipa::path(get, path = "/v1/accounts", tag = "accounts", params(PageQuery),
    responses((status = 200, body = Accounts), Refusals))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Accounts>> {
    caller.may("accounts:read")?;
    let page = page(query.as_deref())?;
    let parent = (!caller.is_operator()).then_some(caller.account.as_str());
    let mut accounts = app.store().accounts(parent, &page.cursor, page.limit + 1).await?;
    let has_more = accounts.len() > page.limit as usize;
    accounts.truncate(page.limit as usize);
    let next_cursor = accounts.last().filter(|_| has_more).map(|account| account.id.clone());
    Ok(Json(Accounts { data: accounts.into_iter().map(account_of).collect(), next_cursor }))
}

/// One account.
#[utoipa::path(get, path = "/v1/accounts/{account_id}", tag = "accounts", params(("account_id" = String, Path)),
    responses((status = 200, body = Account), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<Account>>> {
    caller.may("accounts:read")?;
    let account = reach(&app, &caller, &id, "account_id").await?;
    Ok(Tagged { revision: account.revision, answer: Json(account_of(account)) })
}

/// Changes an account.
#[utoipa::path(patch, path = "/v1/accounts/{account_id}", tag = "accounts", request_body = AccountChange,
    params(("account_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Account), Refusals, Missing, OutOfDate, BadBody))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<Account>>> {
    caller.may("accounts:write")?;
    let account = reach(&app, &caller, &id, "account_id").await?;
    let fields = Fields::new(&object, "");
    let mut faults = Faults::default();
    // Held against the rules before the change; in the change it is read into what stands then.
    let store::Account { name, email, metadata, .. } = account;
    let name = if name.is_empty() { id.clone() } else { name };
    read_settings(&fields, &mut AccountSettings { name, email, metadata }, &mut faults);
    faults.finish()?;
    let edit = |settings: &mut AccountSettings| {
        read_settings(&Fields::new(&object, ""), settings, &mut Faults::default());
    };
    let account = app.store().change_account(&id, &expected, edit).await?;
    Ok(Tagged { revision: account.revision, answer: Json(account_of(account)) })
}

/// Deletes an account: its keys are revoked and its trunks switched off. Calls that are up go on.
#[utoipa::path(delete, path = "/v1/accounts/{account_id}", tag = "accounts",
    params(("account_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Account), Refusals, Missing, OutOfDate, BadBody))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Account>> {
    caller.may("accounts:write")?;
    Ok(Json(account_of(remove(&app, &caller, &id, expected).await?)))
}

/// Deletes an account within reach that is not the caller's own.
pub(in crate::api) async fn remove(
    app: &App,
    caller: &Caller,
    id: &str,
    expected: Expected,
) -> ApiResult<store::Account> {
    let account = reach(app, caller, id, "account_id").await?;
    if account.id == caller.account || account.id == DEFAULT_ACCOUNT {
        return Err(ApiError::new(StatusCode::CONFLICT, "An account cannot delete itself")
            .at("account_id", "ask with a key of the account above it, or of the operator"));
    }
    let id = account.id;
    app.change(|store| async move { Ok(store.delete_account(&id, &expected).await?) }).await
}

/// What an account used in a span of time.
#[utoipa::path(get, path = "/v1/accounts/{account_id}/usage", tag = "accounts",
    params(("account_id" = String, Path), SpanQuery),
    responses((status = 200, body = AccountUsage), Refusals, Missing, Contradictions))]
async fn usage(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<AccountUsage>> {
    caller.may("accounts:read")?;
    let account = reach(&app, &caller, &id, "account_id").await?;
    Ok(Json(usage_of(&app, &account.id, span_of(query.as_deref())?).await?))
}

/// A span of time, milliseconds since 1970.
#[derive(Clone, Copy)]
pub(in crate::api) struct Span {
    from: i64,
    to: i64,
}

/// The span that the query names.
pub(in crate::api) fn span_of(query: Option<&str>) -> ApiResult<Span> {
    let to = times::of_query(query, "to")?.unwrap_or_else(now_ms);
    let from = times::of_query(query, "from")?.unwrap_or((to - USAGE_DAYS * 86_400_000).max(0));
    if from > to {
        let mut error = bad_parameter("from", format!("{} is behind to; give an earlier time", zulu(from)));
        error.status = StatusCode::UNPROCESSABLE_ENTITY;
        return Err(error);
    }
    Ok(Span { from, to })
}

/// What an account used in a span of time.
pub(in crate::api) async fn usage_of(app: &App, account: &str, span: Span) -> ApiResult<AccountUsage> {
    let Span { from, to } = span;
    let usage = app.store().usage(account, from, to).await?;
    Ok(AccountUsage {
        account: account.to_owned(),
        from: zulu(from),
        to: zulu(to),
        total_calls: usage.calls.values().sum(),
        calls_by_status: usage.calls,
        conversation_seconds: usage.conversation_ms as f64 / 1_000.0,
    })
}
