//! `/user/me`: whose key it is. Command-line clients ask this to see whether a key works.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::error::{ApiResult, Refusals};
use crate::store::StoreError;

/// The balance is kept in thousandths of a cent.
const MILLICENTS_PER_DOLLAR: f64 = 100_000.0;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(me))
}

/// The account of a key.
#[derive(Serialize, ToSchema)]
struct User {
    /// The account's identifier.
    id: String,
    /// What its owner calls it; its identifier where it has no name.
    name: String,
    /// Whom to write to.
    #[schema(required)]
    email: Option<String>,
    /// What the account may still spend, in dollars; 0 where nobody set a bound.
    #[schema(example = 12.5)]
    wallet: f64,
    /// Calls at once.
    concurrency: Concurrency,
}

/// Calls at once.
#[derive(Serialize, ToSchema)]
struct Concurrency {
    /// As many as this node takes.
    #[schema(minimum = 0)]
    max: u32,
    /// The account's calls that are up on this node.
    #[schema(minimum = 0)]
    current: usize,
}

/// The account that the key opens.
#[utoipa::path(get, path = "/user/me", tag = "user", responses((status = 200, body = User), Refusals))]
async fn me(State(app): State<App>, caller: Caller) -> ApiResult<Json<User>> {
    // The account of the environment's key needs no row.
    let (balance, account) = match app.store().account(&caller.account).await {
        Err(StoreError::NotFound) => (None, None),
        account => (app.store().balance(&caller.account).await?, Some(account?)),
    };
    let (name, email) = account.map(|account| (account.name, account.email)).unwrap_or_default();
    let current = app.journal().live_by_trunk(&caller.account).values().sum();
    Ok(Json(User {
        name: if name.is_empty() { caller.account.clone() } else { name },
        id: caller.account,
        email,
        wallet: balance.map_or(0.0, |millicents| millicents as f64 / MILLICENTS_PER_DOLLAR),
        concurrency: Concurrency { max: app.config().limits.calls, current },
    }))
}
