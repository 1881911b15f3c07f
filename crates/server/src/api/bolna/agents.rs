//! `/v2/agent`: Bolna's agents, with the `websocket` object of ours.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{agent_body, shapes};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::Faults;
use crate::api::preconditions::{IfMatch, Tagged};
use crate::ids::canonical_uuid;
use crate::store::StoreError;

/// `POST /v2/agent`
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Json<Value>> {
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
    Ok(Json(json!({"agent_id": agent.id, "status": "created", "state": "created"})))
}

/// `GET /v2/agent/all`
pub(super) async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.may("agents:read")?;
    let agents = app.store().agents(&caller.account).await?;
    Ok(Json(agents.iter().map(shapes::agent).collect()))
}

/// `GET /v2/agent/{agent_id}`
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<Value>>> {
    caller.may("agents:read")?;
    let agent = app.store().agent(&caller.account, &canonical_uuid(&id)).await.map_err(not_found)?;
    Ok(Tagged { revision: agent.revision, answer: Json(shapes::agent(&agent)) })
}

/// `PUT /v2/agent/{agent_id}`
pub(super) async fn replace(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<Value>>> {
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
    let answer = Json(json!({"agent_id": agent.id, "status": "updated", "state": "updated"}));
    Ok(Tagged { revision: agent.revision, answer })
}

/// `PATCH /v2/agent/{agent_id}`
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<Value>>> {
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
    Ok(Tagged { revision: agent.revision, answer: Json(json!({"message": "success", "state": "updated"})) })
}

/// `DELETE /v2/agent/{agent_id}`
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Value>> {
    caller.may("agents:write")?;
    let id = canonical_uuid(&id);
    app.change(|store| async move {
        store.delete_agent(&caller.account, &id, &expected).await.map_err(not_found)
    })
    .await?;
    Ok(Json(json!({"message": "success", "state": "deleted"})))
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
