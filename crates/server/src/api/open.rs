//! The endpoints that ask for no key: `/health` (the process lives), `/ready` (it takes calls), `/metrics`.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;
use subtle::ConstantTimeEq as _;

use super::error::ApiError;
use super::{App, Phase};

/// `GET /health`
pub(super) async fn health() -> Response {
    Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})).into_response()
}

/// `GET /ready`
pub(super) async fn ready(State(app): State<App>) -> Response {
    let database = app.store().ping().await.is_ok();
    let phase = app.0.readiness.phase();
    let is_ready = database && phase == Phase::Ready;
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let calls = match phase {
        Phase::Starting => "starting",
        Phase::Ready => "ok",
        Phase::Draining => "draining",
    };
    let body = json!({
        "status": if is_ready { "ok" } else { "unavailable" },
        "checks": {"database": if database { "ok" } else { "failing" }, "calls": calls},
        "routing_version": app.0.routing.current().version(),
    });
    (status, Json(body)).into_response()
}

/// `GET /metrics`: the Prometheus text format.
pub(super) async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
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
