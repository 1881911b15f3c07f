//! `GET /executions/{execution_id}` and an agent's executions.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use tandem_call::CallId;
use uuid::Uuid;

use super::{agents, shapes};
use crate::api::auth::Caller;
use crate::api::body::Path;
use crate::api::error::{ApiError, ApiResult};
use crate::api::{App, query};
use crate::ids::canonical_uuid;
use crate::store::{StoreError, StoredExecution, now_ms};

/// `GET /executions/{execution_id}`
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    let id = canonical_uuid(&id);
    // A call that is up is newer in memory than in the store.
    if let Some(record) =
        Uuid::try_parse(&id).ok().and_then(|id| app.journal().live_call(&caller.account, CallId(id)))
    {
        return Ok(Json(shapes::execution(&StoredExecution { record, updated_at: now_ms() })));
    }
    let execution = app.store().execution(&caller.account, &id).await.map_err(|error| match error {
        StoreError::NotFound => ApiError::not_found("Execution not found")
            .at("execution_id", "no execution of this account has this id"),
        error => error.into(),
    })?;
    Ok(Json(shapes::execution(&execution)))
}

/// `GET /v2/agent/{agent_id}/executions?page_number=&page_size=`
pub(super) async fn of_agent(
    State(app): State<App>,
    caller: Caller,
    Path(agent): Path<String>,
    RawQuery(text): RawQuery,
) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    let page = query::integer(text.as_deref(), "page_number", 1..=1_000_000)?.unwrap_or(1);
    let size = query::integer(text.as_deref(), "page_size", 1..=50)?.unwrap_or(20);
    let agent = canonical_uuid(&agent);
    app.store().agent(&caller.account, &agent).await.map_err(agents::not_found)?;
    let (executions, total) =
        app.store().executions_of_agent(&caller.account, &agent, (page - 1) * size, size).await?;
    Ok(Json(json!({
        "page_number": page,
        "page": page,
        "page_size": size,
        "total": total,
        "has_more": page * size < total,
        "data": executions.iter().map(shapes::execution).collect::<Vec<_>>(),
    })))
}
