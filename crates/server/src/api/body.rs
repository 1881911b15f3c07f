//! Reading a request: its path, and its body into a JSON object, where size, type, time and depth are looked
//! at before anything else is. What the texts of it may hold is for the readers of each field to say.

use std::time::Duration;

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, RawPathParams, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::error::ApiError;
use super::{App, fields};

/// Time a client has to send its body.
const BODY_TIME: Duration = Duration::from_secs(30);

/// The identifiers in a path, opaque texts.
#[derive(Debug)]
pub(super) struct Path<T>(pub(super) T);

impl<T: DeserializeOwned + Send> FromRequestParts<App> for Path<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, ApiError> {
        let bad = |why: String| ApiError::new(StatusCode::BAD_REQUEST, why);
        let given =
            RawPathParams::from_request_parts(parts, app).await.map_err(|error| bad(error.body_text()))?;
        let mut texts: Vec<Value> = given.iter().map(|(_, text)| Value::from(storable(text))).collect();
        let path = if texts.len() == 1 { texts.swap_remove(0) } else { Value::Array(texts) };
        T::deserialize(path).map(Self).map_err(|error| bad(error.to_string()))
    }
}

/// A text to look something up by. No database keeps U+0000 in a text, so whatever is sought by one is found nowhere.
pub(super) fn storable(text: &str) -> String {
    text.replace('\0', "\u{FFFD}")
}

/// The body of a request, a JSON object.
#[derive(Debug)]
pub(super) struct Body(pub(super) Map<String, Value>);

impl FromRequest<App> for Body {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        check_type(request.headers())?;
        let limits = &app.config().limits;
        let bytes = read_bytes(request.into_body(), limits.api_body_bytes).await?;
        parse_object(&bytes, limits.api_json_depth).map(Self)
    }
}

/// The body of a request that may have none: a JSON object, empty where nothing, or null, was sent.
#[derive(Debug)]
pub(super) struct MaybeBody(pub(super) Map<String, Value>);

impl FromRequest<App> for MaybeBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, app: &App) -> Result<Self, ApiError> {
        let limits = &app.config().limits;
        let kind = check_type(request.headers());
        let bytes = read_bytes(request.into_body(), limits.api_body_bytes).await?;
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self(Map::new()));
        }
        kind?;
        if bytes.trim_ascii() == b"null" {
            return Ok(Self(Map::new()));
        }
        parse_object(&bytes, limits.api_json_depth).map(Self)
    }
}

/// A body as it came, within size and time.
///
/// # Errors
/// 413, 408, or 400 when it broke off.
pub(super) async fn read_bytes(body: axum::body::Body, most: usize) -> Result<Bytes, ApiError> {
    match tokio::time::timeout(BODY_TIME, to_bytes(body, most)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if is_too_long(&error) => {
            let text = format!("The body is larger than {most} bytes");
            Err(ApiError::new(StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Ok(Err(_)) => Err(ApiError::new(StatusCode::BAD_REQUEST, "The body broke off")),
        Err(_) => Err(ApiError::new(StatusCode::REQUEST_TIMEOUT, "The body did not come within 30 seconds")),
    }
}

fn is_too_long(error: &axum::Error) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if error.to_string() == "length limit exceeded" {
            return true;
        }
        source = error.source();
    }
    false
}

/// A body is JSON, or does not say what it is.
fn check_type(headers: &HeaderMap) -> Result<(), ApiError> {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let given = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let kind = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if kind == "application/json" || (kind.starts_with("application/") && kind.ends_with("+json")) {
        return Ok(());
    }
    Err(ApiError::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "The body must be JSON")
        .at("Content-Type", format!("{given:?} was given; send Content-Type: application/json")))
}

/// Parses a body that must be a JSON object.
///
/// # Errors
/// 400 with the place of the fault: not UTF-8, not JSON, nested too deep, no object.
pub(super) fn parse_object(bytes: &Bytes, depth: usize) -> Result<Map<String, Value>, ApiError> {
    let bad = |message: String| ApiError::new(StatusCode::BAD_REQUEST, message);
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Err(bad("The body is empty; send a JSON object".to_owned()));
    }
    if let Some(at) = too_deep(bytes, depth) {
        return Err(bad(format!("The body is nested deeper than {depth} levels (at byte {at})")));
    }
    let value: Value =
        serde_json::from_slice(bytes).map_err(|error| bad(format!("The body is not JSON: {error}")))?;
    let Value::Object(object) = value else {
        return Err(bad(format!("The body is {}; send a JSON object", fields::describe(&value))));
    };
    Ok(object)
}

/// Where a body goes deeper than `depth`, found without recursion, before a parser recurses.
fn too_deep(bytes: &[u8], depth: usize) -> Option<usize> {
    let (mut open, mut in_text, mut is_escaped) = (0_usize, false, false);
    for (at, byte) in bytes.iter().enumerate() {
        match (in_text, *byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (true, b'"') => in_text = false,
            (true, _) => {}
            (false, b'"') => in_text = true,
            (false, b'[' | b'{') => {
                open += 1;
                if open > depth {
                    return Some(at);
                }
            }
            (false, b']' | b'}') => open = open.saturating_sub(1),
            (false, _) => {}
        }
    }
    None
}
