//! `POST /2010-04-01/Accounts/{sid}/Calls/{sid}.json`: how agents written for Twilio hang up, with `Status=completed`, and
//! hand a caller on, with `Twiml`.
//!
//! Basic authentication, as Twilio's clients send it: the user name is theirs to choose, the password is an API
//! key; Bearer will do too. Errors have Twilio's shape (`code`, `message`, `status`). A document to be fetched (`Url`) is refused: send it along.

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64_simd::STANDARD;
use serde::Serialize;
use tandem_agent::{account_sid, call_sid, parse_call_sid};
use tandem_call::{CallDirection, CallId, CallRecord};
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Caller;
use super::body::Path;
use super::error::{ApiError, ApiResult};
use super::query::parameter;
use super::twiml::{self, Numbers, Redirect};
use super::{App, CallCommand};

/// Longest form: a status, or what would be TwiML.
const MOST_BYTES: usize = 16 * 1024;

/// What went wrong, in Twilio's shape: its own code where it has one.
struct TwilioError(u32, ApiError);

impl From<ApiError> for TwilioError {
    fn from(error: ApiError) -> Self {
        let code = match error.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => 20_003,
            StatusCode::NOT_FOUND => 20_404,
            StatusCode::BAD_REQUEST => 20_001,
            StatusCode::TOO_MANY_REQUESTS => 20_429,
            StatusCode::SERVICE_UNAVAILABLE => 20_503,
            _ => 20_500,
        };
        Self(code, error)
    }
}

/// The body of every error.
#[derive(Serialize, ToSchema)]
struct TwilioErrorBody {
    /// Twilio's number for it.
    #[schema(example = 20_404)]
    code: u32,
    /// What is wrong, in words.
    message: String,
    /// The HTTP status again.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
}

/// A call that was told to end, or to go elsewhere.
#[derive(Serialize, ToSchema)]
struct TwilioCall {
    /// The call.
    #[schema(pattern = "^CA[0-9a-f]{32}$")]
    sid: String,
    /// The account.
    account_sid: String,
    /// `completed`, or `in-progress` for one that is redirected.
    status: &'static str,
    /// Who called.
    from: String,
    /// Whom.
    to: String,
    /// `inbound`, or `outbound-api`.
    direction: &'static str,
}

/// What shall become of the call.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: the form is read by crate::api::query")]
struct CallForm {
    /// `completed` or `canceled`: the call ends in good order.
    #[serde(rename = "Status")]
    #[schema(pattern = "^(completed|canceled)$", example = "completed", required = false)]
    status: Option<String>,
    /// A document whose first verb is `<Dial>`, `<Refer>` or `<Hangup>`; instead of `Status`.
    #[serde(rename = "Twiml")]
    #[schema(required = false, example = "<Response><Dial>+493012345678</Dial></Response>")]
    twiml: Option<String>,
}

/// What is answered when the call is told nothing.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
enum Refusals {
    /// The form asks for something else, or is too long.
    #[response(status = 400)]
    BadRequest(#[to_schema] TwilioErrorBody),
    /// The password is no key, or its key lacks the scope.
    #[response(status = 401)]
    Unauthorized(#[to_schema] TwilioErrorBody),
    /// No call of this account that is up has this sid.
    #[response(status = 404)]
    NotFound(#[to_schema] TwilioErrorBody),
    /// The body did not come in time.
    #[response(status = 408)]
    Timeout(#[to_schema] TwilioErrorBody),
    /// The `Idempotency-Key` is that of a request under way.
    #[response(status = 409)]
    Conflict(#[to_schema] TwilioErrorBody),
    /// The body is too long.
    #[response(status = 413)]
    TooLarge(#[to_schema] TwilioErrorBody),
    /// The `Idempotency-Key` was used for another request.
    #[response(status = 422)]
    Contradiction(#[to_schema] TwilioErrorBody),
    /// More requests than the limits allow.
    #[response(status = 429)]
    TooMany(#[to_schema] TwilioErrorBody),
    /// The node cannot serve it now.
    #[response(status = 503)]
    Unavailable(#[to_schema] TwilioErrorBody),
}

impl IntoResponse for TwilioError {
    fn into_response(self) -> Response {
        let Self(code, error) = self;
        // Twilio's clients know a refused key by 401.
        let status = if code == 20_003 { StatusCode::UNAUTHORIZED } else { error.status };
        let body = TwilioErrorBody { code, message: error.message, status: status.as_u16() };
        let mut response = (status, Json(body)).into_response();
        if let Some((name, value)) = error.header {
            response.headers_mut().insert(name, value);
        }
        response
    }
}

/// A refusal in the family's words.
pub(super) fn refuse(error: ApiError) -> Response {
    TwilioError::from(error).into_response()
}

/// The family's endpoint.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(change_call))
}

/// Hangs up, or hands the caller on, as agents written for Twilio do.
#[utoipa::path(post, path = "/2010-04-01/Accounts/{account_sid}/Calls/{call_sid}", tag = "twilio",
    params(
        ("account_sid" = String, Path, description = "The account's Twilio-style sid, or its plain identifier."),
        ("call_sid" = String, Path, description = "The call's sid, `CA` and 32 hex digits, with or without `.json`.")),
    security(("basic" = []), ("bearer" = [])),
    request_body(content = CallForm, content_type = "application/x-www-form-urlencoded"),
    responses((status = 200, body = TwilioCall), Refusals))]
async fn change_call(
    State(app): State<App>,
    Path((account, call)): Path<(String, String)>,
    request: Request,
) -> Response {
    match change(&app, &account, &call, request).await {
        Ok(response) => response,
        Err(error) => error.into_response(),
    }
}

async fn change(app: &App, account: &str, call: &str, request: Request) -> Result<Response, TwilioError> {
    let caller = caller(app, request.headers()).await?;
    caller.may("calls:write")?;
    let unknown = || ApiError::not_found(format!("The requested resource Calls/{call} was not found"));
    // An account reaches its own calls alone; its sid may be the one we made or its plain name.
    if account != account_sid(&caller.account) && account != caller.account {
        return Err(unknown().into());
    }
    let id = parse_call_sid(call.strip_suffix(".json").unwrap_or(call)).ok_or_else(unknown)?;
    let record = app.journal().live_call(&caller.account, CallId(id)).ok_or_else(unknown)?;
    let form = to_bytes(request.into_body(), MOST_BYTES)
        .await
        .map_err(|_| ApiError::new(StatusCode::BAD_REQUEST, "The form is too long"))?;
    let form = std::str::from_utf8(&form).unwrap_or_default();
    let status = match asked(form, &record)? {
        Redirect::HangUp => {
            app.command(CallCommand::Complete(record.id))?;
            "completed"
        }
        Redirect::Transfer(order) => {
            app.command(CallCommand::Transfer { call: record.id, order: Box::new(order) })?;
            "in-progress"
        }
    };
    let direction = match record.direction {
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound-api",
    };
    let (sid, account_sid) = (call_sid(id), account_sid(&caller.account));
    let (from, to) = (record.from, record.to);
    Ok(Json(TwilioCall { sid, account_sid, status, from, to, direction }).into_response())
}

/// What a form asks of a call.
fn asked(form: &str, record: &CallRecord) -> ApiResult<Redirect> {
    let refused = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    if let Some(status) = parameter(Some(form), "Status") {
        return match status.as_str() {
            "completed" | "canceled" => Ok(Redirect::HangUp),
            other => Err(refused(format!("Invalid call state {other:?}; give Status=completed"))),
        };
    }
    let Some(text) = parameter(Some(form), "Twiml") else {
        return Err(refused(
            "Give Status=completed, or Twiml with <Dial>, <Refer> or <Hangup>; Url is not fetched".to_owned(),
        ));
    };
    let (own, other) = match record.direction {
        CallDirection::Inbound => (&record.to, &record.from),
        CallDirection::Outbound => (&record.from, &record.to),
    };
    twiml::read(&text, &Numbers { own, other }).map_err(refused)
}

async fn caller(app: &App, headers: &HeaderMap) -> ApiResult<Caller> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = value.and_then(|text| text.split_once(' '));
    let basic = basic.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let decoded = basic.and_then(|(_, text)| STANDARD.decode_to_vec(text.trim()).ok());
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let bearer = value.and_then(|text| text.split_once(' '));
    let bearer =
        bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, key)| key.trim());
    let key = pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, key)| key).or(bearer);
    Caller::of_key(app, key.unwrap_or_default()).await
}
