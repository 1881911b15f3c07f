//! `/v1/calls/{call_id}/recording`: a live call's recording begun, paused, resumed and ended.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tandem_call::{CallRecord, CallStatus, RecordingCommand, RecordingRule, RecordingState};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::live;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields};
use crate::api::recording_rule::recording_rule;
use crate::api::{App, CallCommand};

const ACTIONS: &[&str] = &["start", "pause", "resume", "stop"];

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(change))
}

/// What the recording is to do.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct RecordingBody {
    /// `start`, `pause`, `resume` or `stop`.
    #[schema(pattern = "^(start|pause|resume|stop)$", example = "start")]
    action: String,
    /// With `start`: how it is written. `wav`: 16-bit samples, caller left and agent right.
    #[schema(pattern = "^wav$", required = false, nullable)]
    format: Option<String>,
    /// With `start`: what a pause leaves in it: `silence` as long as the pause, or nothing (`skip`).
    #[schema(pattern = "^(silence|skip)$", required = false, nullable)]
    pause: Option<String>,
}

/// What was asked of a recording.
#[derive(Serialize, ToSchema)]
struct RecordingAsked {
    /// Always `done`: the call was told; its `recording` shows what came of it.
    message: &'static str,
    /// The call.
    id: String,
    /// What it was told.
    action: &'static str,
}

/// Begins, pauses, resumes or ends the recording of a call that is answered. A call has one recording: what was stopped
/// does not begin again, what was paused goes on.
#[utoipa::path(post, path = "/v1/calls/{call_id}/recording", tag = "calls", params(("call_id" = String, Path)),
    request_body = RecordingBody, responses((status = 202, body = RecordingAsked), Refusals, Missing, BadBody))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<(StatusCode, Json<RecordingAsked>)> {
    caller.may("calls:write")?;
    let fields = Fields::new(&object, "");
    let mut faults = Faults::default();
    let rule = recording_rule(&fields, &mut faults);
    let action = fields.word(
        "action",
        ACTIONS,
        |word| ACTIONS.iter().copied().find(|known| *known == word),
        &mut faults,
    );
    if fields.value("action").is_none() {
        faults.push("action", "is missing; give start, pause, resume or stop");
    }
    faults.finish()?;
    let (action, command) = command_of(action.unwrap_or_default(), rule);
    let call = live(&app, &caller, &id)?;
    check(&call, command)?;
    app.command(CallCommand::Record { call: call.id, command })?;
    app.store().note_request(&caller.account, "call", &call.id.to_string()).await?;
    Ok((StatusCode::ACCEPTED, Json(RecordingAsked { message: "done", id: call.id.to_string(), action })))
}

fn command_of(action: &str, rule: RecordingRule) -> (&'static str, RecordingCommand) {
    match action {
        "pause" => ("pause", RecordingCommand::Pause),
        "resume" => ("resume", RecordingCommand::Resume),
        "stop" => ("stop", RecordingCommand::Stop),
        _ => ("start", RecordingCommand::Start(rule)),
    }
}

/// Whether the command fits what the call's recording does now.
fn check(call: &CallRecord, command: RecordingCommand) -> ApiResult<()> {
    let conflict = |why: String| {
        Err(ApiError::new(StatusCode::CONFLICT, "The recording cannot be changed so").at("action", why))
    };
    if call.status != CallStatus::InProgress {
        let why = format!(
            "the call's status is {}; a call is recorded while it is in-progress",
            call.status.as_str()
        );
        return conflict(why);
    }
    let state = call.media.recording.as_ref().map(|recording| recording.state);
    match (command, state) {
        (RecordingCommand::Start(_), None)
        | (RecordingCommand::Pause | RecordingCommand::Stop, Some(RecordingState::Recording))
        | (RecordingCommand::Resume | RecordingCommand::Stop, Some(RecordingState::Paused)) => Ok(()),
        (RecordingCommand::Start(_), Some(state)) => conflict(format!(
            "the call has a recording, which is {}; pause and resume it instead of stopping it",
            state.as_str()
        )),
        (_, None) => conflict("the call is not recorded; start it first".to_owned()),
        (_, Some(state)) => conflict(format!("the recording is {}", state.as_str())),
    }
}
