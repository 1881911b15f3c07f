//! `/v1/accounts/{account_id}/balance`: what an account may still spend on calls, set and raised from above.
//!
//! The operator sets every account's balance, an account those of the accounts under it; nobody but the operator their
//! own. Calls take from it as they end (`limits.millicents_per_minute`); what is added is added to what is left then.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::reach;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields};

/// The balance is kept in thousandths of a cent.
const MILLICENTS: f64 = 1_000.0;

/// Most cents of one account, and of one payment: ten million dollars.
const MOST_CENTS: f64 = 1e9;

/// Least of one payment: what the balance is kept in.
const LEAST_CENTS: f64 = 0.001;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, set, add))
}

/// What an account may still spend.
#[derive(Serialize, ToSchema)]
struct Balance {
    /// The account.
    account: String,
    /// What it may still spend, in cents; null is no bound. At 0 and below it gets no new calls (`balance-low`).
    #[schema(required, example = 1250.5)]
    balance_cents: Option<f64>,
}

/// What an account shall be able to spend.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct NewBalance {
    /// In cents, to three decimals; null takes the bound away.
    #[schema(required, minimum = 0, maximum = 1_000_000_000, example = 1250.5)]
    balance_cents: Option<f64>,
}

/// What an account shall be able to spend besides.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct Payment {
    /// In cents, to three decimals.
    #[schema(minimum = 0.001, maximum = 1_000_000_000, example = 500)]
    add_cents: f64,
}

fn shown(account: String, millicents: Option<i64>) -> Json<Balance> {
    let balance_cents = millicents.map(|millicents| millicents as f64 / MILLICENTS);
    Json(Balance { account, balance_cents })
}

fn millicents(cents: f64) -> i64 {
    // Within bounds that leave its thousandths exact.
    (cents * MILLICENTS).round() as i64
}

/// What an account may still spend.
#[utoipa::path(get, path = "/v1/accounts/{account_id}/balance", tag = "accounts",
    params(("account_id" = String, Path)), responses((status = 200, body = Balance), Refusals, Missing))]
async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Balance>> {
    caller.may("accounts:read")?;
    let account = reach(&app, &caller, &id, "account_id").await?.id;
    let balance = app.store().balance(&account).await?;
    Ok(shown(account, balance))
}

/// Sets what an account may spend. An account without a balance has no bound.
#[utoipa::path(put, path = "/v1/accounts/{account_id}/balance", tag = "accounts", request_body = NewBalance,
    params(("account_id" = String, Path)), responses((status = 200, body = Balance), Refusals, Missing, BadBody))]
async fn set(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<Json<Balance>> {
    let account = payable(&app, &caller, &id).await?;
    let fields = Fields::new(&object, "");
    let mut faults = Faults::default();
    let balance = fields.number("balance_cents", 0.0..=MOST_CENTS, &mut faults).map(millicents);
    if !fields.was_sent("balance_cents") {
        faults.push("balance_cents", "is missing; give cents such as 1250.5, or null for no bound");
    }
    faults.finish()?;
    let changed = account.clone();
    app.change(move |store| async move { Ok(store.set_balance(&changed, balance).await?) }).await?;
    Ok(shown(account, balance))
}

/// Adds to what an account may spend. With an `Idempotency-Key` a payment that is sent twice counts once.
#[utoipa::path(post, path = "/v1/accounts/{account_id}/balance", tag = "accounts", request_body = Payment,
    params(("account_id" = String, Path)), responses((status = 200, body = Balance), Refusals, Missing, BadBody))]
async fn add(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<Json<Balance>> {
    let account = payable(&app, &caller, &id).await?;
    let mut faults = Faults::default();
    let fields = Fields::new(&object, "");
    let added = fields.number("add_cents", LEAST_CENTS..=MOST_CENTS, &mut faults).map(millicents);
    if added.is_none() && faults.is_empty() {
        faults.push("add_cents", "is missing; give cents such as 500");
    }
    faults.finish()?;
    let (changed, added) = (account.clone(), added.unwrap_or_default());
    let balance =
        app.change(move |store| async move { Ok(store.add_to_balance(&changed, added).await?) }).await?;
    Ok(shown(account, Some(balance)))
}

/// The account, if the caller may say what it spends.
async fn payable(app: &App, caller: &Caller, id: &str) -> ApiResult<String> {
    caller.may("accounts:write")?;
    let account = reach(app, caller, id, "account_id").await?;
    if account.id == caller.account && !caller.is_operator() {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "An account cannot set its own balance")
            .at("account_id", "ask with a key of the account above it, or of the operator"));
    }
    Ok(account.id)
}
