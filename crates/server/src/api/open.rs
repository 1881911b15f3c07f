//! The endpoints that ask for no key: `/health` (the process lives), `/ready` (it takes calls), `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use subtle::ConstantTimeEq as _;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::error::{ApiError, ErrorBody};
use super::{App, Phase};
use crate::routing::Reading;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(health)).routes(routes!(ready)).routes(routes!(metrics))
}

/// The process lives.
#[derive(Serialize, ToSchema)]
struct Health {
    /// Always `ok`.
    status: &'static str,
    /// Version of the program.
    version: &'static str,
}

/// Whether the node takes calls, and what keeps it.
#[derive(Serialize, ToSchema)]
struct Ready {
    /// `ok` or `unavailable`.
    status: &'static str,
    /// Part by part.
    checks: Checks,
    /// Version of the routing table that calls are routed by.
    routing_version: u64,
}

/// The parts a node needs.
#[derive(Serialize, ToSchema)]
struct Checks {
    /// `ok` or `failing`.
    database: &'static str,
    /// `starting`, `ok` or `draining`.
    calls: &'static str,
    /// `ok`; `reading` while the routing table is still being read, which calls wait for as far as they need it;
    /// `failing` when it cannot be.
    routing: &'static str,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/health", tag = "open", security(()), responses((status = 200, body = Health)))]
async fn health() -> Json<Health> {
    Json(Health { status: "ok", version: env!("CARGO_PKG_VERSION") })
}

/// Whether the node takes calls.
#[utoipa::path(get, path = "/ready", tag = "open", security(()), responses(
    (status = 200, description = "It takes calls.", body = Ready),
    (status = 503, description = "It is starting, draining, or without its database or its routing table.", body = Ready),
))]
async fn ready(State(app): State<App>) -> (StatusCode, Json<Ready>) {
    let database = app.store().ping().await.is_ok();
    let phase = app.0.readiness.phase();
    let (routing, is_routing) = match app.0.routing.reading() {
        Reading::Done => ("ok", true),
        Reading::UnderWay => ("reading", true),
        Reading::Failing(_) => ("failing", false),
    };
    let is_ready = database && is_routing && phase == Phase::Ready;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let calls = match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ok",
        Phase::Draining => "draining",
    };
    let body = Ready {
        status: if is_ready { "ok" } else { "unavailable" },
        checks: Checks { database: if database { "ok" } else { "failing" }, calls, routing },
        routing_version: app.0.routing.current().version(),
    };
    (status, Json(body))
}

/// Counters, gauges and histograms in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "open", security((), ("bearer" = [])), responses(
    (status = 200, body = String, content_type = "text/plain"),
    (status = 401, description = "A token is configured and was not sent.", body = ErrorBody),
))]
async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    if let Some(token) = &app.config().telemetry.metrics_token {
        let given = headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).unwrap_or_default();
        let wanted = format!("Bearer {token}");
        if !bool::from(given.ct_eq(wanted.as_bytes())) {
            let mut error = ApiError::new(StatusCode::UNAUTHORIZED, "The metrics ask for a token")
                .at("Authorization", "send Authorization: Bearer <telemetry.metrics_token>");
            error.header = Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
            return error.into_response();
        }
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    (kind, (app.0.metrics)()).into_response()
}
