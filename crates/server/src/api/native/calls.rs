//! `/v1/calls`: the calls that are up, and the ladders of those that are over.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};
use tandem_call::{AccountId, CallId, CallRecord};
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::body::Path;
use crate::api::error::{ApiError, ApiResult};
use crate::api::{App, CallCommand};
use crate::ids::canonical_uuid;

/// `GET /v1/calls`: the calls that are up on this node, oldest first.
pub(super) async fn calls(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    let calls: Vec<Value> = app.journal().live(&caller.account).iter().map(live_call).collect();
    Ok(Json(json!({"data": calls, "total": calls.len()})))
}

/// `GET /v1/calls/{call_id}`
pub(super) async fn call(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    Ok(Json(live_call(&live(&app, &caller, &id)?)))
}

/// `GET /v1/calls/{call_id}/ladder`: the SIP messages of a call that is over, as long as this node remembers them.
pub(super) async fn ladder(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    let account = AccountId::from(caller.account.as_str());
    let id = Uuid::try_parse(&canonical_uuid(&id)).ok().map(CallId);
    let rungs = id.and_then(|id| app.0.ladders.of(&account, id)).ok_or_else(|| {
        ApiError::not_found("Ladder not found").at(
            "call_id",
            "no call of this account that ended on this node lately has this id; a ladder is kept once its call is over",
        )
    })?;
    Ok(Json(json!({"call_id": id, "data": *rungs})))
}

/// `POST /v1/calls/{call_id}/hangup`
pub(super) async fn hang_up(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    caller.may("calls:write")?;
    let call = live(&app, &caller, &id)?;
    app.command(CallCommand::HangUp(call.id))?;
    Ok((StatusCode::ACCEPTED, Json(json!({"message": "done", "id": call.id}))))
}

fn live(app: &App, caller: &Caller, id: &str) -> ApiResult<CallRecord> {
    Uuid::try_parse(&canonical_uuid(id))
        .ok()
        .and_then(|id| app.journal().live_call(&caller.account, CallId(id)))
        .ok_or_else(|| {
            ApiError::not_found("Call not found").at(
                "call_id",
                "no call of this account that is up on this node has this id; GET /executions/{id} shows those that are over",
            )
        })
}

/// A call that is up, in Tandem's own shape.
fn live_call(record: &CallRecord) -> Value {
    serde_json::to_value(record).unwrap_or_default()
}
