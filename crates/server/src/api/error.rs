//! Errors as clients see them: one shape for every endpoint.
//!
//! `{"error": status, "message": text, "detail": the same text, "errors": [{"loc", "msg"}]}`: the union of what
//! clients of Bolna's API read (`message`, then `detail`, then `error`). `detail` is always a text. What went
//! wrong inside is logged, never sent.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::fields::Problem;
use crate::routing::PublishError;
use crate::store::StoreError;

/// A request that cannot be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// HTTP status.
    pub status: StatusCode,
    /// What clients show.
    pub message: String,
    /// Field by field, what was given and what would do.
    pub errors: Vec<Problem>,
    /// Header to be sent along.
    pub header: Option<(header::HeaderName, HeaderValue)>,
}

/// The text of a number that cannot be added; the API's own.
pub(super) const NUMBER_TAKEN: &str = "Phone number already exists on another active trunk";

/// The result of a handler.
pub type ApiResult<T> = Result<T, ApiError>;

impl ApiError {
    /// An error with its status and text.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status, message: message.into(), errors: Vec::new(), header: None }
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, message)
    }

    /// Adds what is wrong with one field.
    #[must_use]
    pub fn at(mut self, location: impl Into<String>, message: impl Into<String>) -> Self {
        self.errors.push(Problem::new(location, message));
        self
    }

    /// 503: the same request may succeed later.
    pub fn unavailable(message: impl Into<String>) -> Self {
        let mut error = Self::new(StatusCode::SERVICE_UNAVAILABLE, message);
        error.header = Some((header::RETRY_AFTER, HeaderValue::from_static("1")));
        error
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NotFound => Self::not_found("Not found"),
            StoreError::TrunkNameTaken => {
                Self::new(StatusCode::CONFLICT, "A trunk with this name already exists")
                    .at("name", "another trunk of this account has this name; names are unique per account")
            }
            StoreError::NumberTaken { number, same_trunk } => number_taken(&number, same_trunk),
            error @ (StoreError::Secret(_)
            | StoreError::Corrupt { .. }
            | StoreError::Open { .. }
            | StoreError::Database(_)) => {
                tracing::error!(%error, "the store failed a request");
                metrics::counter!("tandem_store_failures_total").increment(1);
                Self::unavailable("The store cannot serve this request now")
            }
        }
    }
}

fn number_taken(number: &str, same_trunk: bool) -> ApiError {
    let reason = if same_trunk {
        format!("{number} is on this trunk already; a leading + makes no difference")
    } else {
        format!(
            "{number} is on another active trunk; remove it there first (a leading + makes no difference)"
        )
    };
    ApiError::new(StatusCode::CONFLICT, NUMBER_TAKEN).at("phone_number", reason)
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        Self::unavailable(match error {
            PublishError::Store(_) => "The change is stored, but calls are not routed by it yet",
            PublishError::Stopped => "The change is stored, but this node is stopping",
        })
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({
            "error": self.status.as_u16(),
            "message": self.message,
            "detail": self.message,
        });
        if !self.errors.is_empty() {
            body["errors"] = self
                .errors
                .iter()
                .map(|problem| json!({"loc": problem.location, "msg": problem.message}))
                .collect();
        }
        let mut response = (self.status, Json(body)).into_response();
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
