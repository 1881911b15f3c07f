//! `/v1/keys`: the account's API keys. A key is shown once, when it is made; afterwards only its first characters.
//!
//! Nobody makes a key that may do more than the key they hold, nor one for an account that is not theirs.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use ipnet::IpNet;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{page, reach, texts};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text};
use crate::api::key_rules::{MOST_RANGES, MOST_SCOPES, allowed_range, expiry, scope};
use crate::api::query::{parameter, switch};
use crate::api::times::zulu;
use crate::api::{schemas, times};
use crate::store::{ApiKey, NewKey, StoreError, now_ms};

const BEYOND_ITSELF: &str = "A key cannot grant what it may not do itself";

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(show, revoke))
}

/// A key to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct NewKeyBody {
    /// What you call it.
    #[schema(max_length = 100, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", required = false)]
    name: Option<String>,
    /// What it may do; without it, or with an empty list: everything that your own key may. `…:write` includes
    /// `…:read`.
    #[schema(required = false, schema_with = schemas::scopes)]
    scopes: Option<Vec<String>>,
    /// Addresses and ranges it may be used from, such as `192.0.2.0/24`, each within those of your own key; without it:
    /// from wherever your own key may be.
    #[schema(required = false, schema_with = schemas::allowed_addresses)]
    allowed_addresses: Option<Vec<String>>,
    /// Until when it is good, which is no longer than your own key is; without it: as long as that.
    #[schema(format = DateTime, min_length = 20, max_length = 40, required = false)]
    expires_at: Option<String>,
    /// The account it opens: your own, one under it, or, for the operator, any. Without it your own.
    #[schema(pattern = "^[A-Za-z0-9._-]{1,64}$", required = false)]
    account: Option<String>,
}

/// A key, without what is secret.
#[derive(Serialize, ToSchema)]
struct Key {
    /// Its identifier.
    id: String,
    /// The account it opens.
    account: String,
    /// Its first characters.
    prefix: String,
    /// What its owner calls it.
    name: String,
    /// What it may do; empty means everything.
    scopes: Vec<String>,
    /// Where it may be used from; empty means anywhere.
    allowed_addresses: Vec<String>,
    /// `valid`, `expired` or `revoked`.
    state: &'static str,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// Until when it is good.
    #[schema(format = DateTime, required)]
    expires_at: Option<String>,
    /// When it was revoked.
    #[schema(format = DateTime, required)]
    revoked_at: Option<String>,
}

/// A key that was just made.
#[derive(Serialize, ToSchema)]
struct CreatedKey {
    /// The key itself: shown this once.
    key: String,
    /// The rest of it.
    #[serde(flatten)]
    rest: Key,
}

/// A page of keys.
#[derive(Serialize, ToSchema)]
struct Keys {
    /// Oldest first.
    data: Vec<Key>,
    /// The next page's `cursor`; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which keys to list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
struct KeyQuery {
    /// Keys of this account: your own, one under it, or, for the operator, any.
    #[param(max_length = 64)]
    account: Option<String>,
    /// Revoked ones too.
    include_revoked: Option<bool>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

fn key_of(key: ApiKey) -> Key {
    let state = match (key.revoked_at, key.has_expired(now_ms())) {
        (Some(_), _) => "revoked",
        (None, true) => "expired",
        (None, false) => "valid",
    };
    Key {
        id: key.id,
        account: key.account,
        prefix: key.prefix,
        name: key.name,
        scopes: key.scopes,
        allowed_addresses: key.allowed_addresses.iter().map(ToString::to_string).collect(),
        state,
        created_at: zulu(key.created_at),
        expires_at: key.expires_at.map(zulu),
        revoked_at: key.revoked_at.map(zulu),
    }
}

/// Makes a key. It is shown this once.
#[utoipa::path(post, path = "/v1/keys", tag = "keys", request_body = NewKeyBody,
    responses((status = 201, body = CreatedKey), Refusals, Missing, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<(StatusCode, Json<CreatedKey>)> {
    caller.may("keys:write")?;
    let fields = Fields::new(&object, "");
    let mut faults = Faults::default();
    let name = fields.text("name", Text::Line(100), &mut faults).unwrap_or_default().trim().to_owned();
    let scopes = texts(&fields, "scopes", MOST_SCOPES, &mut faults, scope).unwrap_or_default();
    let ranges = texts(&fields, "allowed_addresses", MOST_RANGES, &mut faults, allowed_range);
    let expires_at =
        fields.text("expires_at", Text::Line(40), &mut faults).and_then(|text| match expiry(text) {
            Ok(time) => Some(time),
            Err(why) if times::parse(text).is_some() => {
                let headline = "expires_at must be still to come";
                faults.constant(StatusCode::UNPROCESSABLE_ENTITY, headline, "expires_at", why);
                None
            }
            Err(why) => {
                faults.push("expires_at", why);
                None
            }
        });
    let account = fields.text("account", Text::Line(64), &mut faults).map(str::to_owned);
    faults.finish()?;
    let scopes = granted(&caller, scopes)?;
    let (allowed_addresses, expires_at) = bounded(&caller, ranges.unwrap_or_default(), expires_at)?;
    let account = match account {
        Some(account) => reach(&app, &caller, &account, "account").await?.id,
        None => caller.account.clone(),
    };
    let new = NewKey { account, name, scopes, allowed_addresses, expires_at };
    let (key, secret) = app.store().add_key(new).await?;
    let created = CreatedKey { key: secret.reveal().to_owned(), rest: key_of(key) };
    Ok((StatusCode::CREATED, Json(created)))
}

/// What a new key may do: never more than the key that makes it.
fn granted(caller: &Caller, wanted: Vec<String>) -> ApiResult<Vec<String>> {
    if wanted.is_empty() {
        return Ok(caller.scopes.clone());
    }
    let mut scopes: Vec<String> = Vec::new();
    for (at, scope) in wanted.into_iter().enumerate() {
        if !caller.has(&scope) {
            return Err(ApiError::new(StatusCode::FORBIDDEN, BEYOND_ITSELF).at(
                format!("scopes[{at}]"),
                format!("your key's scopes are {}; leave {scope} out", caller.scopes.join(", ")),
            ));
        }
        if !scopes.contains(&scope) {
            scopes.push(scope);
        }
    }
    Ok(scopes)
}

/// From where and until when a new key is good: never from elsewhere, nor longer, than the key that makes it.
fn bounded(
    caller: &Caller,
    ranges: Vec<IpNet>,
    expires_at: Option<i64>,
) -> ApiResult<(Vec<IpNet>, Option<i64>)> {
    let own = &caller.allowed_addresses;
    let is_within = |range: &IpNet| own.is_empty() || own.iter().any(|one| one.contains(range));
    if let Some(at) = ranges.iter().position(|range| !is_within(range)) {
        let own: Vec<String> = own.iter().map(ToString::to_string).collect();
        return Err(ApiError::new(StatusCode::FORBIDDEN, BEYOND_ITSELF).at(
            format!("allowed_addresses[{at}]"),
            format!(
                "{} was given; your key may be used from {}: give ranges within",
                ranges[at],
                own.join(", ")
            ),
        ));
    }
    if let (Some(wanted), Some(own)) = (expires_at, caller.expires_at)
        && wanted > own
    {
        return Err(ApiError::new(StatusCode::FORBIDDEN, BEYOND_ITSELF).at(
            "expires_at",
            format!("{} was given; your key expires at {}: give no later time", zulu(wanted), zulu(own)),
        ));
    }
    let ranges = if ranges.is_empty() { own.clone() } else { ranges };
    Ok((ranges, expires_at.or(caller.expires_at)))
}

/// The account's keys, by their first characters.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", params(KeyQuery),
    responses((status = 200, body = Keys), Refusals, Missing))]
async fn list(State(app): State<App>, caller: Caller, RawQuery(query): RawQuery) -> ApiResult<Json<Keys>> {
    caller.may("keys:read")?;
    let query = query.as_deref();
    let page = page(query)?;
    let with_revoked = switch(query, "include_revoked")?.unwrap_or(false);
    let account = match parameter(query, "account").filter(|account| !account.is_empty()) {
        Some(account) => reach(&app, &caller, &account, "account").await?.id,
        None => caller.account,
    };
    // An account has a thousand valid keys at most.
    let keys = app.store().keys(Some(&account)).await?;
    let mut data: Vec<Key> = keys
        .into_iter()
        .filter(|key| (with_revoked || key.revoked_at.is_none()) && key.id > page.cursor)
        .take(page.limit as usize + 1)
        .map(key_of)
        .collect();
    let has_more = data.len() > page.limit as usize;
    data.truncate(page.limit as usize);
    let next_cursor = data.last().filter(|_| has_more).map(|key| key.id.clone());
    Ok(Json(Keys { data, next_cursor }))
}

/// One key, by its identifier: one of the account's own, of an account under it, or, for the operator, any.
#[utoipa::path(get, path = "/v1/keys/{key_id}", tag = "keys", params(("key_id" = String, Path)),
    responses((status = 200, body = Key), Refusals, Missing))]
async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Key>> {
    caller.may("keys:read")?;
    Ok(Json(key_of(within_reach(&app, &caller, &id).await?)))
}

/// A key of an account within the caller's reach. Any other is as good as none.
async fn within_reach(app: &App, caller: &Caller, id: &str) -> ApiResult<ApiKey> {
    let key = app.store().key(id).await.map_err(no_key)?;
    if key.account == caller.account {
        return Ok(key);
    }
    match reach(app, caller, &key.account, "key_id").await {
        Ok(_) => Ok(key),
        Err(error) if error.status == StatusCode::NOT_FOUND => Err(no_key(StoreError::NotFound)),
        Err(error) => Err(error),
    }
}

/// Revokes a key, at once and for good: one of the account's own, of an account under it, or, for the operator, any.
#[utoipa::path(delete, path = "/v1/keys/{key_id}", tag = "keys",
    params(("key_id" = String, Path, description = "Identifier; of the account's own keys the prefix will do.")),
    responses((status = 200, body = Key), Refusals, Missing))]
async fn revoke(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Key>> {
    caller.may("keys:write")?;
    let revoked = match app.store().revoke_key(Some(&caller.account), &id).await {
        Err(StoreError::NotFound) => {
            let key = within_reach(&app, &caller, &id).await?;
            app.store().revoke_key(Some(&key.account), &key.id).await
        }
        revoked => revoked,
    };
    Ok(Json(key_of(revoked.map_err(no_key)?)))
}

fn no_key(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found("Key not found")
            .at("key_id", "no key within reach that is not revoked has this id; GET /v1/keys lists them"),
        error => error.into(),
    }
}
