//! The envelope of every answer: `request_id`, `method`, `http_code`, `metadata` for lists, `response`; and the
//! errors inside it, with their constants.
//!
//! What went wrong inside is logged, never sent.

use axum::Json;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{IntoResponses, PartialSchema, ToSchema};
use uuid::Uuid;

use crate::api::error::{ApiError, NothingDone};
use crate::api::fields::Problem;
use crate::api::preconditions::etag;
use crate::store::StoreError;

/// An answer about one thing.
#[derive(Serialize, ToSchema)]
pub(super) struct Single<T> {
    /// Another for each request.
    #[schema(pattern = "^[0-9a-f]{32}$", example = "f708818c79f547b3aee31c4a480367a5")]
    request_id: String,
    /// The request's method.
    #[schema(example = "POST")]
    method: String,
    /// The HTTP status again.
    #[schema(example = 200)]
    http_code: u16,
    /// What came of it.
    response: Outcome<T>,
}

/// An answer about many things.
#[derive(Serialize, ToSchema)]
pub(super) struct Many<M, T> {
    /// Another for each request.
    #[schema(pattern = "^[0-9a-f]{32}$", example = "f708818c79f547b3aee31c4a480367a5")]
    request_id: String,
    /// The request's method.
    #[schema(example = "GET")]
    method: String,
    /// The HTTP status again.
    #[schema(example = 200)]
    http_code: u16,
    /// About the whole.
    metadata: M,
    /// What came of each.
    response: Vec<Outcome<T>>,
}

/// What came of one thing.
#[derive(Serialize, ToSchema)]
pub(super) struct Outcome<T> {
    /// Its own status: a duplicate has 409 here, whatever the HTTP status is.
    #[schema(example = 200)]
    code: u16,
    /// What is wrong with it; null on success.
    #[schema(required)]
    error_data: Option<ErrorData>,
    /// `success` or `failure`.
    status: OutcomeStatus,
    /// The thing itself; null on failure.
    #[schema(required, schema_with = perhaps::<T>)]
    data: Option<T>,
}

/// The schema of something that may be null: the derive forgets that of a type parameter.
fn perhaps<T: PartialSchema>() -> RefOr<Schema> {
    let null = ObjectBuilder::new().schema_type(Type::Null);
    RefOr::T(Schema::OneOf(OneOfBuilder::new().item(null).item(T::schema()).build()))
}

/// Whether something came to be.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum OutcomeStatus {
    /// It did.
    Success,
    /// It did not.
    Failure,
}

/// What is wrong with a request or a part of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct ErrorData {
    /// The vendor's number for it.
    #[schema(example = 1002)]
    code: u16,
    /// The vendor's words for it.
    #[schema(example = "Invalid parameter")]
    message: String,
    /// The vendor's words for this case of it.
    #[schema(example = "Maximum allowed length for TrunkName is 16")]
    description: String,
    /// Field by field, what was given and what would do.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    errors: Vec<FieldProblem>,
}

/// What is wrong with one field.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(super) struct FieldProblem {
    /// The field, such as `destinations[0].destination`.
    #[schema(example = "trunk_name")]
    loc: String,
    /// What was given and what would do.
    #[schema(example = "20 characters were given; 16 are the most")]
    msg: String,
}

/// About a page of a list.
#[derive(Serialize, ToSchema)]
pub(super) struct PageMetadata {
    /// Most items of a page.
    #[schema(minimum = 1, maximum = 500, example = 50)]
    pub(super) page_size: u32,
    /// Where the first page is.
    #[schema(example = "/v2/accounts/acme/trunks?offset=0&page_size=50")]
    pub(super) first_page_uri: String,
    /// Where the page before is; null on the first.
    #[schema(required)]
    pub(super) prev_page_uri: Option<String>,
    /// Where the next page is; null on the last.
    #[schema(required)]
    pub(super) next_page_uri: Option<String>,
}

/// About a page of a list that is counted.
#[derive(Serialize, ToSchema)]
pub(super) struct CountedPageMetadata {
    /// How many there are on all pages.
    pub(super) total: usize,
    /// Which page this is, the first being 1.
    #[schema(minimum = 1)]
    pub(super) page: u32,
    /// As for every page.
    #[serde(flatten)]
    pub(super) page_metadata: PageMetadata,
}

/// About a batch of destinations.
#[derive(Serialize, ToSchema)]
pub(super) struct BatchMetadata {
    /// How many were asked for.
    total: usize,
    /// How many came to be.
    success: usize,
    /// How many did not.
    failed: usize,
}

/// About a batch of settings.
#[derive(Serialize, ToSchema)]
pub(super) struct SettingsMetadata {
    /// How many were asked for.
    total: usize,
    /// How many came to be.
    success: usize,
}

impl From<&[bool]> for BatchMetadata {
    fn from(came_to_be: &[bool]) -> Self {
        let success = came_to_be.iter().filter(|did| **did).count();
        Self { total: came_to_be.len(), success, failed: came_to_be.len() - success }
    }
}

impl From<&[bool]> for SettingsMetadata {
    fn from(came_to_be: &[bool]) -> Self {
        Self { total: came_to_be.len(), success: came_to_be.iter().filter(|did| **did).count() }
    }
}

/// The vendor's errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Constant {
    NotFound,
    Missing,
    Invalid,
    Foreign,
    Unparsable,
    Duplicate,
    Unauthorized,
    WrongType,
    Contradiction,
    TooMany,
}

impl Constant {
    /// Number, HTTP status and words.
    const fn parts(self) -> (u16, StatusCode, &'static str) {
        match self {
            Self::NotFound => (1000, StatusCode::NOT_FOUND, "Not Found"),
            Self::Missing => (1001, StatusCode::BAD_REQUEST, "Mandatory Parameter missing"),
            Self::Invalid => (1002, StatusCode::BAD_REQUEST, "Invalid parameter"),
            Self::Foreign => (1003, StatusCode::FORBIDDEN, "Authorization failed"),
            // The blank at its end is the vendor's.
            Self::Unparsable => (1007, StatusCode::BAD_REQUEST, "Invalid request body,failed parsing "),
            Self::Duplicate => (1008, StatusCode::CONFLICT, "Duplicate resource"),
            Self::Unauthorized => (1010, StatusCode::UNAUTHORIZED, "Authorization failed"),
            Self::WrongType => (1011, StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported content type"),
            Self::Contradiction => (1020, StatusCode::UNPROCESSABLE_ENTITY, "Validation error"),
            Self::TooMany => (1030, StatusCode::TOO_MANY_REQUESTS, "Rate limit exceeded"),
        }
    }
}

/// A request, or a part of a batch, that cannot be served.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: StatusCode,
    error: ErrorData,
    header: Option<(header::HeaderName, HeaderValue)>,
}

impl Failure {
    /// One of the vendor's errors.
    pub(super) fn new(constant: Constant, description: impl Into<String>) -> Self {
        let (code, status, message) = constant.parts();
        let error = ErrorData {
            code,
            message: message.to_owned(),
            description: description.into(),
            errors: Vec::new(),
        };
        Self { status, error, header: None }
    }

    /// Nothing of this account has the identifier.
    pub(super) fn not_found() -> Self {
        Self::new(Constant::NotFound, "Not Found")
    }

    /// Adds what is wrong with one field.
    pub(super) fn at(mut self, location: impl Into<String>, message: impl Into<String>) -> Self {
        self.error.errors.push(FieldProblem { loc: location.into(), msg: message.into() });
        self
    }

    /// Sends a header along.
    pub(super) fn with_header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.header = Some((name, value));
        self
    }

    fn is_duplicate(&self) -> bool {
        self.error.code == Constant::Duplicate.parts().0
    }

    fn outcome<T>(self) -> Outcome<T> {
        Outcome {
            code: self.status.as_u16(),
            error_data: Some(self.error),
            status: OutcomeStatus::Failure,
            data: None,
        }
    }
}

impl From<ApiError> for Failure {
    fn from(error: ApiError) -> Self {
        let mut failure = match error.status {
            StatusCode::NOT_FOUND => Self::not_found(),
            StatusCode::BAD_REQUEST => Self::new(Constant::Invalid, error.message),
            StatusCode::FORBIDDEN => Self::new(Constant::Foreign, error.message),
            StatusCode::CONFLICT => Self::new(Constant::Duplicate, error.message),
            StatusCode::UNAUTHORIZED => Self::new(Constant::Unauthorized, "Authorization failed"),
            StatusCode::UNPROCESSABLE_ENTITY => Self::new(Constant::Contradiction, error.message),
            StatusCode::TOO_MANY_REQUESTS => Self::new(Constant::TooMany, error.message),
            // The vendor has no number for it.
            status => Self {
                status,
                error: ErrorData {
                    code: status.as_u16(),
                    message: status.canonical_reason().unwrap_or("Error").to_owned(),
                    description: error.message,
                    errors: Vec::new(),
                },
                header: None,
            },
        };
        failure.header = error.header;
        for Problem { location, message } in error.errors {
            failure = failure.at(location, message);
        }
        failure
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        ApiError::from(error).into()
    }
}

/// How answers of one request are put in their envelope.
#[derive(Clone, Debug)]
pub(super) struct Envelope {
    method: Method,
    /// The HTTP status of a duplicate, whose own status is 409: the vendor sends 200.
    duplicate_status: StatusCode,
}

impl Envelope {
    pub(super) fn new(method: Method, duplicate_status: u16) -> Self {
        let duplicate_status = StatusCode::from_u16(duplicate_status).unwrap_or(StatusCode::OK);
        Self { method, duplicate_status }
    }

    /// The answer about one thing.
    pub(super) fn single<T: Serialize>(&self, result: Result<T, Failure>) -> Response {
        match result {
            Ok(data) => self.send(StatusCode::OK, success(data)),
            Err(failure) => self.refuse(failure),
        }
    }

    /// The answer about one thing, with the tag of its revision.
    pub(super) fn tagged<T: Serialize>(&self, result: Result<(i64, T), Failure>) -> Response {
        let revision = result.as_ref().ok().map(|(revision, _)| *revision);
        let mut response = self.single(result.map(|(_, data)| data));
        if let Some(revision) = revision {
            response.headers_mut().insert(header::ETAG, etag(revision));
        }
        response
    }

    /// The answer about a page of a list.
    pub(super) fn page<M: Serialize, T: Serialize>(&self, result: Result<(M, Vec<T>), Failure>) -> Response {
        let (metadata, items) = match result {
            Ok(page) => page,
            Err(failure) => return self.refuse(failure),
        };
        let response = items.into_iter().map(success).collect();
        self.send_many(StatusCode::OK, metadata, response)
    }

    /// The answer about a batch: one outcome for each part, 207 when any failed.
    pub(super) fn batch<M, T>(&self, result: Result<Vec<Result<T, Failure>>, Failure>) -> Response
    where
        M: Serialize + for<'a> From<&'a [bool]>,
        T: Serialize,
    {
        let results = match result {
            Ok(results) => results,
            Err(failure) => return self.refuse(failure),
        };
        let came_to_be: Vec<bool> = results.iter().map(Result::is_ok).collect();
        let is_anything_done = came_to_be.contains(&true);
        let status =
            if came_to_be.iter().all(|did| *did) { StatusCode::OK } else { StatusCode::MULTI_STATUS };
        let outcomes =
            results.into_iter().map(|result| result.map_or_else(Failure::outcome, success)).collect();
        let mut response = self.send_many(status, M::from(&came_to_be), outcomes);
        if !is_anything_done {
            response.extensions_mut().insert(NothingDone);
        }
        response
    }

    /// The answer to a request that cannot be served.
    pub(super) fn refuse(&self, failure: Failure) -> Response {
        let outer = if failure.is_duplicate() { self.duplicate_status } else { failure.status };
        let header = failure.header.clone();
        let mut response = self.send(outer, failure.outcome::<()>());
        response.extensions_mut().insert(NothingDone);
        if let Some((name, value)) = header {
            response.headers_mut().insert(name, value);
        }
        response
    }

    fn send<T: Serialize>(&self, status: StatusCode, response: Outcome<T>) -> Response {
        let body = Single {
            request_id: request_id(),
            method: self.method.to_string(),
            http_code: status.as_u16(),
            response,
        };
        (status, Json(body)).into_response()
    }

    fn send_many<M: Serialize, T: Serialize>(
        &self,
        status: StatusCode,
        metadata: M,
        response: Vec<Outcome<T>>,
    ) -> Response {
        let body = Many {
            request_id: request_id(),
            method: self.method.to_string(),
            http_code: status.as_u16(),
            metadata,
            response,
        };
        (status, Json(body)).into_response()
    }
}

fn success<T>(data: T) -> Outcome<T> {
    Outcome { code: 200, error_data: None, status: OutcomeStatus::Success, data: Some(data) }
}

fn request_id() -> String {
    Uuid::new_v4().simple().to_string()
}

/// The body of every refusal.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: refusals are sent as a Single without data")]
pub(super) struct Refused {
    /// Another for each request.
    #[schema(pattern = "^[0-9a-f]{32}$", example = "524f5159c04b44508f846cba89aeb87e")]
    request_id: String,
    /// The request's method.
    #[schema(example = "POST")]
    method: String,
    /// The HTTP status again.
    #[schema(minimum = 400, maximum = 599, example = 400)]
    http_code: u16,
    /// Why.
    #[schema(inline)]
    response: RefusedOutcome,
}

/// Why a request was refused.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: refusals are sent as a Single without data")]
pub(super) struct RefusedOutcome {
    /// The HTTP status once more.
    #[schema(minimum = 400, maximum = 599, example = 400)]
    code: u16,
    /// What is wrong.
    error_data: ErrorData,
    /// Always `failure`.
    status: OutcomeStatus,
    /// Always null.
    #[schema(required)]
    data: Option<String>,
}

/// The refusals that every endpoint of the family may answer.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum Refusals {
    /// A parameter is missing (1001) or will not do (1002), or the body cannot be read (1007).
    #[response(status = 400)]
    BadRequest(#[to_schema] Refused),
    /// The key is missing, unknown or revoked (1010).
    #[response(status = 401)]
    Unauthorized(#[to_schema] Refused),
    /// The account in the path is not the key's, or the key lacks the scope (1003).
    #[response(status = 403)]
    Forbidden(#[to_schema] Refused),
    /// Nothing of this account has the identifier (1000).
    #[response(status = 404)]
    NotFound(#[to_schema] Refused),
    /// More requests than the limits allow (1030); `Retry-After` says when to come again.
    #[response(status = 429)]
    TooMany(#[to_schema] Refused),
    /// The store or the node cannot serve it now; `Retry-After` says when to come again.
    #[response(status = 503)]
    Unavailable(#[to_schema] Refused),
}

/// What an endpoint that heeds `If-Match` may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum OutOfDate {
    /// Somebody else changed it since the client read it.
    #[response(status = 412)]
    PreconditionFailed(#[to_schema] Refused),
}

/// What an endpoint that reads a body may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) enum BadBody {
    /// The body did not come in time.
    #[response(status = 408)]
    Timeout(#[to_schema] Refused),
    /// It exists (1008), where `api.exotel_duplicate_status` asks for 409; else 200 with 409 inside.
    #[response(status = 409)]
    Conflict(#[to_schema] Refused),
    /// The body is longer than `limits.api_body_bytes`.
    #[response(status = 413)]
    TooLarge(#[to_schema] Refused),
    /// The body is not declared to be `application/json` (1011).
    #[response(status = 415)]
    WrongType(#[to_schema] Refused),
    /// The `Idempotency-Key` was used for another request (1020).
    #[response(status = 422)]
    Contradiction(#[to_schema] Refused),
}
