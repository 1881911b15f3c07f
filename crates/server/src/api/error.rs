//! Errors as clients see them: one shape for every endpoint.
//!
//! `{"error": status, "message": text, "detail": the same text, "errors": [{"loc", "msg"}]}`: the union of what
//! clients of Bolna's API read (`message`, then `detail`, then `error`). `detail` is always a text. What went
//! wrong inside is logged, never sent.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};

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
            StoreError::AgentNotFound => Self::not_found("Agent not found")
                .at("agent_id", "no agent of this account has this id; create one with POST /v2/agent"),
            StoreError::DestinationTaken { key } => {
                Self::new(StatusCode::CONFLICT, "Destination key already exists on this trunk").at(
                    "destination_key",
                    format!("{key:?} stands for another number of this trunk; a key stands for one"),
                )
            }
            StoreError::TrunkNameTaken => {
                Self::new(StatusCode::CONFLICT, "A trunk with this name already exists")
                    .at("name", "another trunk of this account has this name; names are unique per account")
            }
            StoreError::QueueFull { waiting, most } => {
                let mut error = Self::new(StatusCode::TOO_MANY_REQUESTS, "Too many calls are waiting").at(
                    "limits.queued_calls",
                    format!(
                        "{waiting} calls of this account wait, of at most {most}; wait until some are placed"
                    ),
                );
                error.header = Some((header::RETRY_AFTER, HeaderValue::from_static("60")));
                error
            }
            StoreError::NumberTaken { number, same_trunk } => number_taken(&number, same_trunk),
            error @ StoreError::Busy(_) => {
                tracing::warn!(%error, "the store made a request wait too long");
                metrics::counter!("tandem_store_busy_total").increment(1);
                Self::unavailable("The store is busy; nothing was changed, try again")
            }
            StoreError::AccountTaken => Self::new(
                StatusCode::CONFLICT,
                "An account with this id already exists",
            )
            .at("id", "it is taken, or was until its account was deleted; choose another, or leave it out"),
            StoreError::AccountInUse { accounts } => {
                Self::new(StatusCode::CONFLICT, "The account has accounts under it")
                    .at("account_id", format!("{accounts} accounts stand under it; delete them first"))
            }
            StoreError::NoBalance => Self::new(StatusCode::CONFLICT, "The account has no balance")
                .at("account_id", "what it may spend has no bound; set one with PUT, then add to it"),
            StoreError::TooManyWebhooks => {
                Self::new(StatusCode::CONFLICT, "The account has too many webhooks")
                    .at("url", "an account may have 50 webhooks; delete those that are not used any more")
            }
            StoreError::TooManyKeys => Self::new(StatusCode::CONFLICT, "The account has too many keys")
                .at("account", "an account may have 1000 keys; revoke those that are not used any more"),
            StoreError::TooManyProviders => {
                Self::new(StatusCode::CONFLICT, "The account keeps too many providers")
                    .at("provider_name", "an account may keep 200; remove those that are not used any more")
            }
            StoreError::BatchWasScheduled { status } => {
                Self::new(StatusCode::CONFLICT, format!("Batch is {status} already"))
                    .at("batch_id", "a batch is scheduled once; make another of the same file")
            }
            StoreError::BatchIsIdle => Self::not_found("Batch is not queued or running")
                .at("batch_id", "none of its calls waits or is up; GET it to see its status"),
            StoreError::OtherRevision { current } => {
                let reason = format!(
                    "it has revision \"{current}\" by now; read it again, and send the ETag of that answer"
                );
                Self::new(StatusCode::PRECONDITION_FAILED, "It was changed meanwhile").at("If-Match", reason)
            }
            error @ (StoreError::Secret(_)
            | StoreError::Newer { .. }
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

/// Marks an answer of success that says that nothing was done: Exotel's API refuses a duplicate with 200.
#[derive(Clone, Copy, Debug)]
pub(super) struct NothingDone;

/// Marks an error whose change stands all the same: it must not be made again.
#[derive(Clone, Copy, Debug)]
pub(super) struct ChangeStands;

/// How every text begins that says so.
const CHANGE_STANDS: &str = "The change is stored, but ";

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        Self::unavailable(match error {
            PublishError::Store(_) => format!("{CHANGE_STANDS}calls are not routed by it yet"),
            PublishError::Stopped => format!("{CHANGE_STANDS}this node is stopping"),
        })
    }
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
pub(super) struct ErrorBody {
    /// The HTTP status again.
    #[schema(minimum = 400, maximum = 599, example = 400)]
    error: u16,
    /// What went wrong; texts of the vendor's documentation are word for word its own.
    #[schema(example = "Trunk name is required")]
    message: String,
    /// The same text, where other clients look for it.
    detail: String,
    /// Field by field, what was given and what would do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldError>,
}

/// What is wrong with one field.
#[derive(Serialize, ToSchema)]
pub(super) struct FieldError {
    /// The field, such as `gateways[0].port`.
    #[schema(example = "name")]
    loc: String,
    /// What was given and what would do.
    #[schema(example = "is missing")]
    msg: String,
}

/// The refusals that every endpoint with a key may answer: said once, for the description of the API.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum Refusals {
    /// A field, a parameter or the body is at fault.
    #[response(status = 400)]
    BadRequest(ErrorBody),
    /// The key is missing, unknown or revoked, where `api.auth_failure_status` asks for 401.
    #[response(status = 401)]
    Unauthorized(ErrorBody),
    /// The key is missing, unknown, revoked, or lacks the scope.
    #[response(status = 403)]
    Forbidden(ErrorBody),
    /// More requests than the limits allow; `Retry-After` says when to come again.
    #[response(status = 429)]
    TooMany(ErrorBody),
    /// The store or the node cannot serve it now; `Retry-After` says when to come again.
    #[response(status = 503)]
    Unavailable(ErrorBody),
}

/// What an endpoint that names a resource may answer besides: none of this account has the identifier.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum Missing {
    /// Nothing of this account has the identifier.
    #[response(status = 404)]
    NotFound(ErrorBody),
}

/// What an endpoint may answer besides whose parameters can contradict each other.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum Contradictions {
    /// Parameters that contradict each other.
    #[response(status = 422)]
    Contradiction(ErrorBody),
}

/// What an endpoint that reads a body may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum BadBody {
    /// The body did not come in time.
    #[response(status = 408)]
    Timeout(ErrorBody),
    /// It contradicts what stands, such as a name or a number that is taken, or its `Idempotency-Key` is that of a request
    /// under way.
    #[response(status = 409)]
    Conflict(ErrorBody),
    /// The body is longer than `limits.api_body_bytes`, or a form than `limits.api_upload_bytes`.
    #[response(status = 413)]
    TooLarge(ErrorBody),
    /// The body is, by its `Content-Type`, not of the kind that is asked for.
    #[response(status = 415)]
    WrongType(ErrorBody),
    /// Fields that contradict each other, or an `Idempotency-Key` that was used for another request.
    #[response(status = 422)]
    Contradiction(ErrorBody),
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let stands = self.message.starts_with(CHANGE_STANDS);
        let body = ErrorBody {
            error: self.status.as_u16(),
            message: self.message.clone(),
            detail: self.message,
            errors: self
                .errors
                .into_iter()
                .map(|problem| FieldError { loc: problem.location, msg: problem.message })
                .collect(),
        };
        let mut response = (self.status, Json(body)).into_response();
        if stands {
            response.extensions_mut().insert(ChangeStands);
        }
        if let Some((name, value)) = self.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}
