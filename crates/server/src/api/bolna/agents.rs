//! Agents: `/v2/agent`, the older `/agent`, and the path of the guide. Bolna's object, with the `websocket` object of ours.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::{Method, StatusCode, Uri};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::agent_body;
use super::agent_shape::{Agent, AgentBody, AgentDone, AgentMade, AgentPatch};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::Faults;
use crate::api::paging::{self, ListQuery, Paged};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::ids::canonical_uuid;
use crate::store::StoreError;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    // The guide's path is one segment, as every unknown path may be: whatever else is sent there finds nothing.
    let (schemas, paths, methods) = routes!(change_by_guide);
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(show, replace, change, delete))
        .routes(routes!(create_v1))
        .routes(routes!(list_v1))
        .routes(routes!(show_v1, replace_v1, change_v1, delete_v1))
        .routes((schemas, paths, methods.fallback(nothing_here)))
}

/// Makes an agent.
#[utoipa::path(post, path = "/v2/agent", tag = "agents", request_body = AgentBody,
    responses((status = 200, body = AgentMade), Refusals, BadBody))]
async fn create(app: State<App>, caller: Caller, body: Body) -> ApiResult<Tagged<Json<AgentMade>>> {
    make(app, caller, body).await
}

/// Lists the account's agents, newest first.
#[utoipa::path(get, path = "/v2/agent/all", tag = "agents", params(ListQuery),
    responses((status = 200, body = Vec<Agent>), Refusals))]
async fn list(app: State<App>, caller: Caller, query: RawQuery) -> ApiResult<Paged<Agent>> {
    show_all(app, caller, query).await
}

/// Shows an agent.
#[utoipa::path(get, path = "/v2/agent/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's identifier.")),
    responses((status = 200, body = Agent), Refusals, Missing))]
async fn show(app: State<App>, caller: Caller, id: Path<String>) -> ApiResult<Tagged<Json<Agent>>> {
    show_one(app, caller, id).await
}

/// Replaces an agent.
#[utoipa::path(put, path = "/v2/agent/{agent_id}", tag = "agents", request_body = AgentBody,
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentMade), Refusals, Missing, BadBody, OutOfDate))]
async fn replace(
    app: State<App>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
    body: Body,
) -> ApiResult<Tagged<Json<AgentMade>>> {
    put(app, caller, id, expected, body).await
}

/// Changes an agent: objects are merged, everything else is replaced.
#[utoipa::path(patch, path = "/v2/agent/{agent_id}", tag = "agents", request_body = AgentPatch,
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentDone), Refusals, Missing, BadBody, OutOfDate))]
async fn change(
    app: State<App>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
    body: Body,
) -> ApiResult<Tagged<Json<AgentDone>>> {
    patch(app, caller, id, expected, body).await
}

/// Deletes an agent. Numbers it answered are answered by nobody; its waiting calls will fail.
#[utoipa::path(delete, path = "/v2/agent/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentDone), Refusals, Missing, OutOfDate))]
async fn delete(
    app: State<App>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> ApiResult<Json<AgentDone>> {
    remove(app, caller, id, expected).await
}

/// Makes an agent: the older path.
#[utoipa::path(post, path = "/agent", tag = "agents", request_body = AgentBody,
    responses((status = 200, body = AgentMade), Refusals, BadBody))]
async fn create_v1(app: State<App>, caller: Caller, body: Body) -> ApiResult<Tagged<Json<AgentMade>>> {
    make(app, caller, body).await
}

/// Lists the account's agents, newest first: the older path.
#[utoipa::path(get, path = "/agent/all", tag = "agents", params(ListQuery),
    responses((status = 200, body = Vec<Agent>), Refusals))]
async fn list_v1(app: State<App>, caller: Caller, query: RawQuery) -> ApiResult<Paged<Agent>> {
    show_all(app, caller, query).await
}

/// Shows an agent: the older path.
#[utoipa::path(get, path = "/agent/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's identifier.")),
    responses((status = 200, body = Agent), Refusals, Missing))]
async fn show_v1(app: State<App>, caller: Caller, id: Path<String>) -> ApiResult<Tagged<Json<Agent>>> {
    show_one(app, caller, id).await
}

/// Replaces an agent: the older path.
#[utoipa::path(put, path = "/agent/{agent_id}", tag = "agents", request_body = AgentBody,
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentMade), Refusals, Missing, BadBody, OutOfDate))]
async fn replace_v1(
    app: State<App>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
    body: Body,
) -> ApiResult<Tagged<Json<AgentMade>>> {
    put(app, caller, id, expected, body).await
}

/// Changes an agent: the older path.
#[utoipa::path(patch, path = "/agent/{agent_id}", tag = "agents", request_body = AgentPatch,
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentDone), Refusals, Missing, BadBody, OutOfDate))]
async fn change_v1(
    app: State<App>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
    body: Body,
) -> ApiResult<Tagged<Json<AgentDone>>> {
    patch(app, caller, id, expected, body).await
}

/// Deletes an agent: the older path.
#[utoipa::path(delete, path = "/agent/{agent_id}", tag = "agents",
    params(("agent_id" = String, Path, description = "The agent's identifier."), IfMatchHeader),
    responses((status = 200, body = AgentDone), Refusals, Missing, OutOfDate))]
async fn delete_v1(
    app: State<App>,
    caller: Caller,
    id: Path<String>,
    expected: IfMatch,
) -> ApiResult<Json<AgentDone>> {
    remove(app, caller, id, expected).await
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
    patch(app, caller, id, expected, body).await
}

async fn nothing_here(method: Method, uri: Uri) -> ApiError {
    ApiError::not_found(format!("There is no {method} {}", uri.path()))
}

async fn make(
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

async fn show_all(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Paged<Agent>> {
    caller.may("agents:read")?;
    let part = paging::part(query.as_deref())?;
    let page = app.store().list_agents(&caller.account, part.after.as_ref(), part.limit).await?;
    Ok(Paged::of(&page, Agent::of))
}

async fn show_one(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<Agent>>> {
    caller.may("agents:read")?;
    let agent = app.store().agent(&caller.account, &canonical_uuid(&id)).await.map_err(not_found)?;
    Ok(Tagged { revision: agent.revision, answer: Json(Agent::of(&agent)) })
}

async fn put(
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

async fn patch(
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

async fn remove(
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
