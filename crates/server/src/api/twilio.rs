//! `POST /2010-04-01/Accounts/{sid}/Calls/{sid}.json`: how agents written for Twilio hang up, with `Status=completed`.
//!
//! Basic authentication, as Twilio's clients send it: the user name is theirs to choose, the password is an API
//! key. Errors have Twilio's shape (`code`, `message`, `status`). Redirecting a call (`Twiml`, `Url`) is refused.

use axum::Json;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use base64_simd::STANDARD;
use serde_json::json;
use tandem_agent::{account_sid, call_sid, parse_call_sid};
use tandem_call::CallId;
use utoipa_axum::router::OpenApiRouter;

use super::auth::Caller;
use super::body::Path;
use super::error::{ApiError, ApiResult};
use super::query::parameter;
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

impl IntoResponse for TwilioError {
    fn into_response(self) -> Response {
        let Self(code, error) = self;
        // Twilio's clients know a refused key by 401.
        let status = if code == 20_003 { StatusCode::UNAUTHORIZED } else { error.status };
        let body = json!({"code": code, "message": error.message, "status": status.as_u16()});
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
    OpenApiRouter::new().route("/2010-04-01/Accounts/{account_sid}/Calls/{call_sid}", post(change_call))
}

/// `POST /2010-04-01/Accounts/{account_sid}/Calls/{call_sid}.json`
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
    match parameter(Some(form), "Status").as_deref() {
        Some("completed" | "canceled") => {}
        Some(other) => {
            let message = format!("Invalid call state {other:?}; give Status=completed");
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message).into());
        }
        None => {
            let message = "Only Status=completed is understood here; Twiml and Url are not";
            return Err(ApiError::new(StatusCode::BAD_REQUEST, message).into());
        }
    }
    app.command(CallCommand::Complete(record.id))?;
    Ok(Json(json!({
        "sid": call_sid(id),
        "account_sid": account_sid(&caller.account),
        "status": "completed",
        "from": record.from,
        "to": record.to,
        "direction": "inbound",
    }))
    .into_response())
}

async fn caller(app: &App, headers: &HeaderMap) -> ApiResult<Caller> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = value.and_then(|text| text.split_once(' '));
    let basic = basic.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"));
    let decoded = basic.and_then(|(_, text)| STANDARD.decode_to_vec(text.trim()).ok());
    let pair = decoded.and_then(|bytes| String::from_utf8(bytes).ok());
    let key = pair.as_deref().and_then(|pair| pair.split_once(':')).map(|(_, key)| key);
    Caller::of_key(app, key.unwrap_or_default()).await
}
