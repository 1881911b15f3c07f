//! `/v1`: Tandem's own API.

mod calls;
mod verdicts;

use axum::routing::{get, post};
use utoipa_axum::router::OpenApiRouter;

use super::App;

/// Every endpoint of the family.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .route("/v1/calls", get(calls::calls))
        .route("/v1/calls/{call_id}", get(calls::call))
        .route("/v1/calls/{call_id}/hangup", post(calls::hang_up))
        .route("/v1/calls/{call_id}/ladder", get(calls::ladder))
        .route("/v1/verdicts", get(verdicts::list))
}
