//! `/call`: asking for calls, and stopping them.
//!
//! A call is put on the queue and the request answered; what becomes of it is its execution's to tell.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use tandem_call::CallId;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::call_body::{self, CallBody};
use super::{agents, executions};
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::Faults;
use crate::api::{App, CallCommand};
use crate::ids::canonical_uuid;
use crate::store::{NewCall, Stopped, now_ms};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(place)).routes(routes!(stop)).routes(routes!(stop_of_agent))
}

/// A call that was accepted.
#[derive(Serialize, ToSchema)]
struct Accepted {
    /// Always `done`.
    message: &'static str,
    /// `queued`, or `scheduled` for a later time.
    status: AcceptedStatus,
    /// The call's identifier.
    execution_id: String,
}

/// How a call waits.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum AcceptedStatus {
    Queued,
    Scheduled,
}

/// A call that was stopped.
#[derive(Serialize, ToSchema)]
struct StoppedCall {
    /// Always `done`.
    message: &'static str,
    /// Always `stopped`.
    status: &'static str,
    /// The call's identifier.
    execution_id: String,
}

/// Calls that were stopped.
#[derive(Serialize, ToSchema)]
struct StoppedCalls {
    /// Their identifiers.
    stopped_executions: Vec<String>,
}

/// Asks for a call. What keeps it from being placed is told by its execution: a number that is not the account's, a
/// recipient that is no number, a balance that is used up.
#[utoipa::path(post, path = "/call", tag = "calls", request_body = CallBody,
    responses((status = 200, body = Accepted), Refusals, Missing, BadBody))]
async fn place(State(app): State<App>, caller: Caller, Body(object): Body) -> ApiResult<Json<Accepted>> {
    caller.may("calls:write")?;
    let mut faults = Faults::default();
    let asked = call_body::call(&object, &mut faults);
    faults.finish()?;
    let asked = asked.expect("a body without faults is a call");
    let agent = app.store().agent(&caller.account, &asked.agent).await.map_err(agents::not_found)?;
    if let Some(at) = asked.order.scheduled_at {
        call_body::check_ahead(at, "scheduled_at", now_ms())?;
    }
    let status = match asked.order.scheduled_at {
        Some(_) => AcceptedStatus::Scheduled,
        None => AcceptedStatus::Queued,
    };
    let most = app.config().limits.queued_calls;
    let new = NewCall { agent: agent.id, batch: None, order: asked.order };
    let queued = app
        .change(move |store| async move { Ok(store.queue_calls(&caller.account, vec![new], most).await?) })
        .await?;
    let execution_id = queued.into_iter().next().expect("one call is queued for one order");
    Ok(Json(Accepted { message: "done", status, execution_id }))
}

/// Stops a call: one that waits is never placed, one that is up is hung up.
#[utoipa::path(post, path = "/call/{execution_id}/stop", tag = "calls",
    params(("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 200, body = StoppedCall), Refusals, Missing, BadBody))]
async fn stop(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<StoppedCall>> {
    caller.may("calls:write")?;
    let id = canonical_uuid(&id);
    let live = Uuid::try_parse(&id).ok().and_then(|id| app.journal().live_call(&caller.account, CallId(id)));
    if let Some(live) = live {
        app.command(CallCommand::HangUp(live.id))?;
        return Ok(Json(StoppedCall { message: "done", status: "stopped", execution_id: id }));
    }
    let (account, call) = (caller.account.clone(), id.clone());
    let stopped = app
        .change(|store| async move { store.stop_call(&account, &call).await.map_err(executions::not_found) })
        .await?;
    match stopped {
        Stopped::Now => {
            tell_stopped(&app, &caller.account, std::slice::from_ref(&id)).await;
            Ok(Json(StoppedCall { message: "done", status: "stopped", execution_id: id }))
        }
        Stopped::TooLate(execution) => {
            let status = execution.record.status;
            let remedy = if status.is_final() {
                format!("it is {} already; only a call that waits or is up can be stopped", status.as_str())
            } else {
                format!("it is {} on the node {}; ask there", status.as_str(), execution.record.node)
            };
            Err(ApiError::new(StatusCode::BAD_REQUEST, "Call cannot be stopped").at("execution_id", remedy))
        }
    }
}

/// Tells webhooks of calls that were stopped while they waited.
pub(super) async fn tell_stopped(app: &App, account: &str, calls: &[String]) {
    for id in calls {
        // Gone already, or the store fails: then there is nothing to be told that could be known.
        if let Ok(stopped) = app.store().execution(account, id).await {
            app.journal().tell(stopped.record);
        }
    }
}

/// Stops every call of an agent that waits. Calls that are up go on.
#[utoipa::path(post, path = "/v2/agent/{agent_id}/stop", tag = "calls",
    params(("agent_id" = String, Path, description = "The agent's identifier.")),
    responses((status = 200, body = StoppedCalls), Refusals, Missing, BadBody))]
async fn stop_of_agent(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<StoppedCalls>> {
    caller.may("calls:write")?;
    let agent = app.store().agent(&caller.account, &canonical_uuid(&id)).await.map_err(agents::not_found)?;
    let account = caller.account.clone();
    let stopped_executions = app
        .change(|store| async move { Ok(store.stop_waiting(&account, Some(&agent.id), None).await?) })
        .await?;
    tell_stopped(&app, &caller.account, &stopped_executions).await;
    Ok(Json(StoppedCalls { stopped_executions }))
}
