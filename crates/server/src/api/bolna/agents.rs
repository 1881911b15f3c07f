//! Agents: `/v2/agent`, the older `/agent`, and the path of the guide. Bolna's object, with the `websocket` object of ours.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::agent_body;
use super::agent_shape::{Agent, AgentBody, AgentDone, AgentMade, AgentPatch};
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::Faults;
use crate::api::paging::{self, ListQuery, Paged};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::api::{App, openapi};
use crate::ids::canonical_uuid;
use crate::store::StoreError;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    // The guide's path is one segment, as every unknown path may be: whatever else is sent there finds nothing.
    let (schemas, paths, methods) = routes!(change_by_guide);
    let guides = OpenApiRouter::new().routes((schemas, paths, methods.fallback(nothing_here)));
    [routes!(create), routes!(list), routes!(show, replace, change, delete)].into_iter().fold(
        guides,
        |router, endpoint| match openapi::alias(&endpoint, |path| path.strip_prefix("/v2").map(str::to_owned))
        {
            Some(older) => router.routes(endpoint).routes(older),
            None => router.routes(endpoint),
        },
    )
}

/// Changes an agent: the path that Bolna's guide prints. Identifiers that are no UUIDs are no agents' here.
#[utoipa::path(patch, path = "/{agent_id}", tag = "agents", request_body = AgentPatch,
    params(("agent_id" = String, Path, description = "The agent's identifier, a UUID."), IfMatchHeader),
    responses((status = 200, body = AgentDone), Refusals, Missing, BadBody, OutOfDate))]
async fn change_by_guide(
    app: State<App>,
    caller: Caller,
    id: Path<String>,
    uri: Uri,
    expected: IfMatch,
    body: Body,
) -> ApiResult<Tagged<Json<AgentDone>>> {
    if Uuid::try_parse(&canonical_uuid(&id.0)).is_err() {
        return Err(nothing_here(Method::PATCH, uri).await);
    }
    change(app, caller, id, expected, body).await
}

async fn nothing_here(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!("There is no {method} {}", uri.path()))
}

/// Makes an agent.
#[utoipa::path(post, path = "/v2/agent", tag = "agents", request_body = AgentBody,
    responses((status = 200, body = AgentMade), Refusals, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Tagged<Json<AgentMade>>> {
    caller.may("agents:write")?;
    let mut faults = Faults::default();
    let new = agent_body::new_agent(&object, &mut faults);
    if let Some(new) = &new {
        agent_body::check_masks(new, None, &mut faults);
    }
    faults.finish()?;
    let new = new.expect("a body without faults is an agent");
    let agent =
        app.change(|store| async move { Ok(store.create_agent(&caller.account, new).await?) }).await?;
    let answer = Json(AgentMade { agent_id: agent.id, status: "created", state: "created" });
    Ok(Tagged { revision: agent.revision, answer })
}

/// Lists the account's agents, newest first.
#[utoipa::path(get, path = "/v2/agent/all", tag = "agents", params(ListQuery),
    responses((status = 200, body = Vec<Agent>), Refusals))]
async fn list(State(app): State<App>, caller: Caller, RawQuery(query): RawQuery) -> ApiResult<Paged<Agent>> {
    caller.may("agents:read")?;
    let part = paging::part(query.as_deref())?;
    let page = app.store().list_agents(&caller.account, part.after.as_ref(), part.limit).await?;
    Ok(Paged::of(&page, Agent::of))
}

/// Shows an agent.
#[utoipa::path(get, path = "/v2/agent/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's identifier.")),
    responses((status = 200, body = Agent), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<Agent>>> {
    caller.may("agents:read")?;
    let agent = app.store().agent(&caller.account, &canonical_uuid(&id)).await.map_err(not_found)?;
    Ok(Tagged { revision: agent.revision, answer: Json(Agent::of(&agent)) })
}

/// Replaces an agent.
#[utoipa::path(put, path = "/v2/agent/{agent_id}", tag = "agents", request_body = AgentBody,
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentMade), Refusals, Missing, BadBody, OutOfDate))]
async fn replace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<AgentMade>>> {
    caller.may("agents:write")?;
    let mut faults = Faults::default();
    let new = agent_body::new_agent(&object, &mut faults);
    faults.finish()?;
    let new = new.expect("a body without faults is an agent");
    let id = canonical_uuid(&id);
    let agent = app
        .change(|store| async move {
            let replaced = store.change_agent(&caller.account, &id, &expected, |agent| -> ApiResult<()> {
                let mut faults = Faults::default();
                agent_body::check_masks(&new, Some(agent), &mut faults);
                faults.finish()?;
                *agent = new;
                Ok(())
            });
            replaced.await.map_err(name_agent)
        })
        .await?;
    let answer = Json(AgentMade { agent_id: agent.id, status: "updated", state: "updated" });
    Ok(Tagged { revision: agent.revision, answer })
}

/// Changes an agent: objects are merged, everything else is replaced.
#[utoipa::path(patch, path = "/v2/agent/{agent_id}", tag = "agents", request_body = AgentPatch,
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentDone), Refusals, Missing, BadBody, OutOfDate))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<AgentDone>>> {
    caller.may("agents:write")?;
    let id = canonical_uuid(&id);
    let agent = app
        .change(|store| async move {
            let changed = store.change_agent(&caller.account, &id, &expected, |agent| -> ApiResult<()> {
                let mut faults = Faults::default();
                agent_body::change_agent(&object, agent, &mut faults);
                faults.finish()
            });
            changed.await.map_err(name_agent)
        })
        .await?;
    let answer = Json(AgentDone { message: "success", state: "updated" });
    Ok(Tagged { revision: agent.revision, answer })
}

/// Deletes an agent. Numbers it answered are answered by nobody; its waiting calls will fail.
#[utoipa::path(delete, path = "/v2/agent/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentDone), Refusals, Missing, OutOfDate))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<AgentDone>> {
    caller.may("agents:write")?;
    let id = canonical_uuid(&id);
    app.change(|store| async move {
        store.delete_agent(&caller.account, &id, &expected).await.map_err(not_found)
    })
    .await?;
    Ok(Json(AgentDone { message: "success", state: "deleted" }))
}

pub(super) fn not_found(error: StoreError) -> ApiError {
    name_agent(ApiError::from(error))
}

fn name_agent(error: ApiError) -> ApiError {
    if error.status == StatusCode::NOT_FOUND {
        return ApiError::not_found("Agent not found").at("agent_id", "no agent of this account has this id");
    }
    error
}
