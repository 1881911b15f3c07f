//! Recordings handed to their account: streamed as they are kept, opened on the way if they are sealed; and deleted.

use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use tandem_call::RecordingState;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::executions::find;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::Path;
use crate::api::error::{ApiError, ApiResult, Missing, Refusals};
use crate::recording::{Playback, PlaybackError, RecordingKind};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(of_call, delete_of_call))
        .routes(routes!(of_transfer, delete_of_transfer))
}

/// The recording of a call: caller left, agent right, as they were heard.
#[utoipa::path(get, path = "/recordings/call/{execution_id}", tag = "executions",
    params(("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 200, description = "The recording.", body = Vec<u8>, content_type = "audio/wav"),
        Refusals, Missing))]
async fn of_call(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Response> {
    read(&app, &caller, &id, RecordingKind::Call).await
}

/// The recording of what followed when the agent handed the caller on.
#[utoipa::path(get, path = "/recordings/transfer/{execution_id}", tag = "executions",
    params(("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 200, description = "The recording.", body = Vec<u8>, content_type = "audio/wav"),
        Refusals, Missing))]
async fn of_transfer(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Response> {
    read(&app, &caller, &id, RecordingKind::Transfer).await
}

/// Deletes the recording of a call, for good.
#[utoipa::path(delete, path = "/recordings/call/{execution_id}", tag = "executions",
    params(("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 204, description = "It is deleted."), Refusals, Missing))]
async fn delete_of_call(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    delete(&app, &caller, &id, RecordingKind::Call).await
}

/// Deletes the recording of a transfer, for good.
#[utoipa::path(delete, path = "/recordings/transfer/{execution_id}", tag = "executions",
    params(("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 204, description = "It is deleted."), Refusals, Missing))]
async fn delete_of_transfer(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<StatusCode> {
    delete(&app, &caller, &id, RecordingKind::Transfer).await
}

async fn read(app: &App, caller: &Caller, id: &str, kind: RecordingKind) -> ApiResult<Response> {
    caller.may("calls:read")?;
    let record = find(app, caller, id).await?.record;
    let state = record.media.recording.as_ref().map(|recording| recording.state);
    let found = app.recordings().open(&caller.account, &record.id.to_string(), kind).await;
    let Some(playback) = found.map_err(fault)? else {
        return Err(none_found(match (kind, state) {
            (RecordingKind::Transfer, _) => "no transfer of this call was recorded",
            (RecordingKind::Call, None) => {
                "the call was not recorded: neither did its agent's recording setting ask for it, nor POST \
                 /v1/calls/{call_id}/recording"
            }
            (RecordingKind::Call, Some(RecordingState::Deleted)) => "the recording was deleted",
            (RecordingKind::Call, Some(RecordingState::Failed)) => {
                "the recording could not be written; the execution's telephony_data.incidents say why"
            }
            (RecordingKind::Call, Some(_)) => "the recording is not finished; ask again in a moment",
        }));
    };
    Ok(stream(playback))
}

fn stream(playback: Playback) -> Response {
    let disposition = format!("inline; filename=\"{}\"", playback.file_name);
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static(playback.content_type)),
        (header::CONTENT_LENGTH, HeaderValue::from(playback.bytes)),
        // What was said on a telephone belongs in nobody's cache.
        (header::CACHE_CONTROL, HeaderValue::from_static("private, no-store")),
    ];
    let mut response = (headers, playback.body).into_response();
    if let Ok(value) = HeaderValue::from_str(&disposition) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    response
}

async fn delete(app: &App, caller: &Caller, id: &str, kind: RecordingKind) -> ApiResult<StatusCode> {
    caller.may("calls:write")?;
    let record = find(app, caller, id).await?.record;
    let call = record.id.to_string();
    if record.media.recording.as_ref().is_some_and(|recording| recording.state.is_open()) {
        return Err(none_found("the recording is not finished; stop it, or wait for the end of the call"));
    }
    if !app.recordings().delete(&caller.account, &call, kind).await.map_err(fault)? {
        return Err(none_found("there is no recording, or it was deleted before"));
    }
    app.store().note_request(&caller.account, "recording", &call).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn none_found(why: &str) -> ApiError {
    ApiError::not_found("Recording not found").at("execution_id", why)
}

fn fault(error: PlaybackError) -> ApiError {
    match error {
        PlaybackError::Store(error) => error.into(),
        PlaybackError::Unfinished => none_found("the recording is not finished; ask again in a moment"),
        PlaybackError::OtherNode(_) | PlaybackError::NoObjectStore => none_found(&error.to_string()),
        PlaybackError::File(_) | PlaybackError::Objects(_) | PlaybackError::Sealed(_) => {
            tracing::error!(%error, "a recording cannot be read");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "The recording cannot be read at the moment")
        }
    }
}
