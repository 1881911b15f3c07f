//! Executions: one call each, an agent's, and what happened in the course of one.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use tandem_call::{CallDirection, CallId, CallStatus};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use super::agents;
use super::call_body::{instant, no_time};
use super::execution_log::{self, ExecutionLog};
use super::execution_shape::{Execution, Status, execution};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::Path;
use crate::api::error::{ApiError, ApiResult, Missing, Refusals};
use crate::api::fields::wrong_word;
use crate::api::query::{bad_parameter, integer, parameter, switch};
use crate::ids::canonical_uuid;
use crate::store::{ExecutionFilter, StoreError, StoredExecution};

/// Most executions of a list without pages.
const MOST_UNPAGED: i64 = 1_000;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(show))
        .routes(routes!(log))
        .routes(routes!(of_agent))
        .routes(routes!(list_of_agent))
        .routes(routes!(one_of_agent))
}

/// A page of an agent's executions.
#[derive(Serialize, ToSchema)]
struct ExecutionPage {
    /// This page.
    #[schema(minimum = 1)]
    page_number: i64,
    /// The same.
    #[schema(minimum = 1)]
    page: i64,
    /// Executions of a full page.
    #[schema(minimum = 1, maximum = 50)]
    page_size: i64,
    /// Executions on all pages.
    #[schema(minimum = 0)]
    total: i64,
    /// Whether there are pages after this one.
    has_more: bool,
    /// Newest first.
    data: Vec<Execution>,
}

/// Which executions are wanted.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone: parameters are read by crate::api::query")]
struct Filters {
    /// The page, from 1.
    #[param(minimum = 1, maximum = 1_000_000)]
    page_number: Option<i64>,
    /// Executions of a page; 20 without it.
    #[param(minimum = 1, maximum = 50)]
    page_size: Option<i64>,
    /// In this status.
    #[param(inline)]
    status: Option<Status>,
    /// In this direction.
    #[param(inline)]
    call_type: Option<CallTypeWord>,
    /// Of this provider; all are `sip-trunk`'s.
    provider: Option<String>,
    /// Answered by a machine; none is known to be.
    answered_by_voice_mail: Option<bool>,
    /// Of this batch.
    batch_id: Option<String>,
    /// Made at this time or later, ISO 8601 with its offset.
    #[param(format = DateTime)]
    from: Option<String>,
    /// Made at this time or earlier, ISO 8601 with its offset.
    #[param(format = DateTime)]
    to: Option<String>,
}

/// Which way a call goes.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "read by the derive alone: parameters are read by crate::api::query")]
enum CallTypeWord {
    Inbound,
    Outbound,
}

/// Shows one execution.
#[utoipa::path(get, path = "/executions/{execution_id}", tag = "executions",
    params(("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 200, body = Execution), Refusals, Missing))]
async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Execution>> {
    caller.may("calls:read")?;
    let stored = find(&app, &caller, &id).await?;
    Ok(Json(execution(&stored, &app.config().public_url())))
}

/// Shows what happened in the course of a call: in the queue, on the wire, with the agent.
#[utoipa::path(get, path = "/executions/{execution_id}/log", tag = "executions",
    params(("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 200, body = ExecutionLog), Refusals, Missing))]
async fn log(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<ExecutionLog>> {
    caller.may("calls:read")?;
    let stored = find(&app, &caller, &id).await?;
    let rungs = app.0.ladders.of(&caller.account.as_str().into(), stored.record.id);
    Ok(Json(execution_log::log(&stored, rungs.as_deref().unwrap_or_default())))
}

/// Lists an agent's executions, newest first, in pages.
#[utoipa::path(get, path = "/v2/agent/{agent_id}/executions", tag = "executions",
    params(("agent_id" = String, Path, description = "The agent's identifier."), Filters),
    responses((status = 200, body = ExecutionPage), Refusals, Missing))]
async fn of_agent(
    State(app): State<App>,
    caller: Caller,
    Path(agent): Path<String>,
    RawQuery(text): RawQuery,
) -> ApiResult<Json<ExecutionPage>> {
    caller.may("calls:read")?;
    let text = text.as_deref();
    let page_number = integer(text, "page_number", 1..=1_000_000)?.unwrap_or(1);
    let page_size = integer(text, "page_size", 1..=50)?.unwrap_or(20);
    let (mut filter, is_empty) = filter(text)?;
    let agent = canonical_uuid(&agent);
    app.store().agent(&caller.account, &agent).await.map_err(agents::not_found)?;
    filter.agent = Some(agent);
    let (executions, total) = if is_empty {
        (Vec::new(), 0)
    } else {
        app.store().executions(&caller.account, &filter, (page_number - 1) * page_size, page_size).await?
    };
    Ok(Json(ExecutionPage {
        page_number,
        page: page_number,
        page_size,
        total,
        has_more: page_number * page_size < total,
        data: shown(&app, &executions),
    }))
}

/// Lists an agent's last 1000 executions, newest first: the older form, without pages.
#[utoipa::path(get, path = "/agent/{agent_id}/executions", tag = "executions",
    params(("agent_id" = String, Path, description = "The agent's identifier.")),
    responses((status = 200, body = Vec<Execution>), Refusals, Missing))]
async fn list_of_agent(
    State(app): State<App>,
    caller: Caller,
    Path(agent): Path<String>,
) -> ApiResult<Json<Vec<Execution>>> {
    caller.may("calls:read")?;
    let agent = canonical_uuid(&agent);
    app.store().agent(&caller.account, &agent).await.map_err(agents::not_found)?;
    let filter = ExecutionFilter { agent: Some(agent), ..ExecutionFilter::default() };
    unpaged(&app, &caller, &filter, MOST_UNPAGED).await
}

/// Shows one execution of an agent: the older form.
#[utoipa::path(get, path = "/agent/{agent_id}/execution/{execution_id}", tag = "executions",
    params(("agent_id" = String, Path, description = "The agent's identifier."),
        ("execution_id" = String, Path, description = "The call's identifier.")),
    responses((status = 200, body = Execution), Refusals, Missing))]
async fn one_of_agent(
    State(app): State<App>,
    caller: Caller,
    Path((agent, id)): Path<(String, String)>,
) -> ApiResult<Json<Execution>> {
    caller.may("calls:read")?;
    let stored = find(&app, &caller, &id).await?;
    if stored.record.agent.as_str() != canonical_uuid(&agent) {
        return Err(not_found(StoreError::NotFound));
    }
    Ok(Json(execution(&stored, &app.config().public_url())))
}

/// The executions of a filter, newest first, at most `most` of them.
pub(super) async fn unpaged(
    app: &App,
    caller: &Caller,
    filter: &ExecutionFilter,
    most: i64,
) -> ApiResult<Json<Vec<Execution>>> {
    let (executions, _) = app.store().executions(&caller.account, filter, 0, most).await?;
    Ok(Json(shown(app, &executions)))
}

fn shown(app: &App, executions: &[StoredExecution]) -> Vec<Execution> {
    let base = app.config().public_url();
    executions.iter().map(|stored| execution(stored, &base)).collect()
}

pub(super) async fn find(app: &App, caller: &Caller, id: &str) -> ApiResult<StoredExecution> {
    let id = canonical_uuid(id);
    // A call that is up is newer in memory than in the store, which alone knows what was asked of it.
    let live = Uuid::try_parse(&id).ok().and_then(|id| app.journal().live_call(&caller.account, CallId(id)));
    match (live, app.store().execution(&caller.account, &id).await) {
        (Some(record), Ok(stored)) if !stored.record.status.is_final() => {
            Ok(StoredExecution { record, ..stored })
        }
        (Some(record), Err(StoreError::NotFound)) => Ok(StoredExecution::of_record(record)),
        (_, found) => found.map_err(not_found),
    }
}

pub(super) fn not_found(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found("Execution not found")
            .at("execution_id", "no execution of this account has this id"),
        error => error.into(),
    }
}

/// Reads the filters, and whether they leave nothing, whatever is stored.
fn filter(text: Option<&str>) -> ApiResult<(ExecutionFilter, bool)> {
    let given = |name: &str| parameter(text, name).filter(|value| !value.is_empty());
    let status =
        word(given("status"), "status", &CallStatus::ALL.map(CallStatus::as_str), CallStatus::from_word)?;
    let direction = word(given("call_type"), "call_type", &["inbound", "outbound"], |word| match word {
        "inbound" => Some(CallDirection::Inbound),
        "outbound" => Some(CallDirection::Outbound),
        _ => None,
    })?;
    let is_machine = switch(text, "answered_by_voice_mail")?.unwrap_or(false);
    let is_others = given("provider").is_some_and(|provider| provider != "sip-trunk");
    let filter = ExecutionFilter {
        agent: None,
        batch: given("batch_id").map(|id| batch_id(&id)),
        status,
        direction,
        from: time(parameter(text, "from"), "from")?,
        to: time(parameter(text, "to"), "to")?,
    };
    Ok((filter, is_machine || is_others))
}

/// The stored form of a batch's identifier: 32 hex digits, with dashes too.
pub(super) fn batch_id(text: &str) -> String {
    Uuid::try_parse(text).map_or_else(|_| text.to_owned(), |id| id.simple().to_string())
}

fn word<T>(
    given: Option<String>,
    name: &str,
    words: &[&str],
    read: impl Fn(&str) -> Option<T>,
) -> ApiResult<Option<T>> {
    let Some(given) = given else { return Ok(None) };
    match read(&given) {
        Some(read) => Ok(Some(read)),
        None => Err(bad_parameter(name, wrong_word(&given.into(), words))),
    }
}

fn time(given: Option<String>, name: &str) -> ApiResult<Option<i64>> {
    let Some(given) = given else { return Ok(None) };
    // A plus that was not escaped arrives as a blank.
    match instant(&given.replace(' ', "+")) {
        Some(at) => Ok(Some(at)),
        None => Err(bad_parameter(name, no_time(&given))),
    }
}
