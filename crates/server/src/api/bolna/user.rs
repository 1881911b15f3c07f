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

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(me))
}

/// The account of a key.
#[derive(Serialize, ToSchema)]
struct User {
    /// The account's identifier.
    id: String,
    /// The same: accounts have no other name here.
    name: String,
    /// Always null: no addresses are kept here.
    #[schema(required)]
    email: Option<String>,
    /// Always 0: nothing is charged here.
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
    let current = app.journal().live_by_trunk(&caller.account).values().sum();
    Ok(Json(User {
        id: caller.account.clone(),
        name: caller.account,
        email: None,
        wallet: 0.0,
        concurrency: Concurrency { max: app.config().limits.calls, current },
    }))
}
