//! `Idempotency-Key` on every POST, whatever its family: the same request with the same key is carried out once, and
//! its answer is given again to whoever repeats it within a day, also after a restart.
//!
//! Another body with the same key is refused (422), and so is a repetition while the first is under way (409).
//! What was not carried out leaves the key free: a client that mends its request may use it again. Requests
//! without the header, without a valid key, or of other methods pass untouched.

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest as _, Sha256};

use super::App;
use super::auth::{self, Caller};
use super::body::read_bytes;
use super::error::{ApiError, ApiResult, ChangeStands, NothingDone};
use super::form::{Form, is_form};
use super::request::{findings, within};
use crate::secrets::hex;
use crate::store::{Claim, KeptAnswer, RequestName};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key.
const MOST_CHARACTERS: usize = 255;

/// Longest answer that is kept; none of ours to a POST comes near.
const MOST_ANSWER_BYTES: usize = 8 * 1024 * 1024;

/// Headers of an answer that are repeated with it.
const REPEATED_HEADERS: [HeaderName; 3] = [header::CONTENT_TYPE, header::ETAG, header::LOCATION];

/// The middleware.
pub(super) async fn once(State(app): State<App>, request: Request, next: Next) -> Response {
    let is_asked = request.method() == Method::POST && request.headers().contains_key(IDEMPOTENCY_KEY);
    if !is_asked {
        return next.run(request).await;
    }
    // Whoever has no valid key is told so by the endpoint, in the words of its family.
    let Some((caller, api_key)) = auth::peek(&app, request.headers()).await else {
        return next.run(request).await;
    };
    let path = request.uri().path().to_owned();
    match carry_out(app, caller, api_key, request, next).await {
        Ok(response) => response,
        Err(error) => super::refusal_of_family(&Method::POST, &path, error),
    }
}

async fn carry_out(
    app: App,
    caller: Caller,
    api_key: String,
    request: Request,
    next: Next,
) -> ApiResult<Response> {
    // Here, for an answer that is given again never comes to the endpoint.
    caller.count(&app)?;
    let name = name_of(request.headers())?;
    let (parts, body) = request.into_parts();
    let limits = &app.config().limits;
    let most = if is_form(&parts.headers) { limits.api_upload_bytes } else { limits.api_body_bytes };
    let bytes = read_bytes(body, most).await?;
    let fingerprint = fingerprint(parts.uri.query(), &parts.headers, &bytes).await;
    let name = RequestName {
        account: caller.account,
        route: format!("{} {}", parts.method, parts.uri.path()),
        name,
        api_key,
        fingerprint,
    };
    match app.store().claim_request(&name).await? {
        Claim::Ours => {}
        Claim::Answered(answer) => return Ok(repeated(answer)),
        Claim::UnderWay => return Err(busy()),
        Claim::Unknown => return Err(unknown_outcome()),
        Claim::OtherRequest => return Err(other("was used for another request")),
        Claim::OtherKey => return Err(other("was used with another API key")),
    }
    let request = Request::from_parts(parts, Body::from(bytes));
    // A task of its own: a client that goes away must not leave a request without its answer.
    let working = async move {
        let response = next.run(request).await;
        remember(&app, &name, response).await
    };
    let task = tokio::spawn(within(findings(), working));
    task.await.unwrap_or_else(|error| {
        tracing::error!(%error, "a request ended in a panic");
        Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "The request could not be carried out"))
    })
}

/// What a request asks, in one hash: its query and its body. Of a form what it says counts, for clients part it by
/// another boundary each time they send it.
async fn fingerprint(query: Option<&str>, headers: &HeaderMap, bytes: &Bytes) -> String {
    let mut asked = Sha256::new();
    asked.update(query.unwrap_or_default());
    asked.update(b"\n");
    match Form::of_bytes(headers, bytes).await {
        None => asked.update(bytes),
        Some(form) => {
            for part in &form.0 {
                // A length before each, so that no two forms run into the same bytes.
                for text in [
                    part.name.as_bytes(),
                    part.file_name.as_deref().unwrap_or_default().as_bytes(),
                    &part.bytes,
                ] {
                    asked.update((text.len() as u64).to_be_bytes());
                    asked.update(text);
                }
            }
        }
    }
    hex(&asked.finalize())
}

/// Keeps an answer that says what was done; gives the name back when nothing was.
async fn remember(app: &App, name: &RequestName, response: Response) -> ApiResult<Response> {
    let extensions = response.extensions();
    let is_done = extensions.get::<ChangeStands>().is_some()
        || (response.status().is_success() && extensions.get::<NothingDone>().is_none());
    if !is_done {
        app.store().give_up_claim(name).await?;
        return Ok(response);
    }
    let (parts, body) = response.into_parts();
    let bytes = to_bytes(body, MOST_ANSWER_BYTES).await.map_err(|error| {
        tracing::error!(%error, "an answer could not be kept");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "The answer could not be kept; what was asked is done",
        )
    })?;
    let text = |name: &HeaderName| {
        let value = parts.headers.get(name)?.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    };
    let kept = KeptAnswer {
        status: parts.status.as_u16(),
        headers: REPEATED_HEADERS.iter().filter_map(text).collect(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
    };
    if let Err(error) = app.store().keep_answer(name, &kept).await {
        // What was asked is done, and the client learns it; only a repetition will not.
        tracing::error!(%error, "an answer could not be kept");
        metrics::counter!("tandem_api_answers_lost_total").increment(1);
    }
    Ok(Response::from_parts(parts, Body::from(bytes)))
}

fn repeated(answer: KeptAnswer) -> Response {
    metrics::counter!("tandem_api_answers_repeated_total").increment(1);
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().insert(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn name_of(headers: &HeaderMap) -> ApiResult<String> {
    let values: Vec<&HeaderValue> = headers.get_all(IDEMPOTENCY_KEY).iter().collect();
    let text = match values.as_slice() {
        [value] => value.to_str().ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_graphic())),
        _ => None,
    };
    text.filter(|text| (1..=MOST_CHARACTERS).contains(&text.len())).map(str::to_owned).ok_or_else(|| {
        let reason = format!("send it once, 1 to {MOST_CHARACTERS} visible ASCII characters, such as a UUID");
        ApiError::new(StatusCode::BAD_REQUEST, format!("Idempotency-Key: {reason}"))
            .at("Idempotency-Key", reason)
    })
}

fn busy() -> ApiError {
    let mut error = ApiError::new(StatusCode::CONFLICT, "A request with this Idempotency-Key is under way")
        .at("Idempotency-Key", "the first request with this key has no answer yet; ask again shortly");
    error.header = Some((header::RETRY_AFTER, HeaderValue::from_static("1")));
    error
}

fn unknown_outcome() -> ApiError {
    ApiError::new(StatusCode::CONFLICT, "What came of the request with this Idempotency-Key is not known").at(
        "Idempotency-Key",
        "the server stopped while it worked on it; look whether it was done, then ask with a new key if not",
    )
}

fn other(what: &str) -> ApiError {
    ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, format!("This Idempotency-Key {what}"))
        .at("Idempotency-Key", format!("it {what} within the last 24 hours; use a new one"))
}
