//! `/batches`: contacts of a file, called by an agent. A batch is made of a file, then scheduled; each contact is then a
//! call in the queue like any other, with an execution of its own.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::execution_shape::Execution;
use super::executions::batch_id;
use super::shapes::{humanized, zulu};
use super::{agents, batch_form, call_body, calls, executions};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::Path;
use crate::api::error::{ApiError, ApiResult, BadBody, ErrorBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, describe};
use crate::api::form::{Form, FormOrBody};
use crate::api::paging::{self, ListQuery, Paged};
use crate::ids::canonical_uuid;
use crate::store::{BatchStatus, ExecutionFilter, StoreError, StoredBatch, now_ms};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create))
        .routes(routes!(list))
        .routes(routes!(show, delete))
        .routes(routes!(calls_of))
        .routes(routes!(schedule))
        .routes(routes!(stop))
}

/// The form of a new batch.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: forms are read by super::batch_form")]
struct BatchForm {
    /// The agent that calls.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[!-~]+$")]
    agent_id: String,
    /// CSV in UTF-8, at most 10,000 lines: the column `contact_number`, in E.164, and any others, which are told to the
    /// agent.
    #[schema(value_type = String, format = Binary, content_media_type = "text/csv",
        example = "contact_number,name\n+14155550100,Ada\n")]
    file: Vec<u8>,
    /// The numbers to call from, in turn; without any, as for `POST /call`.
    #[schema(required = false, max_items = 100)]
    from_phone_numbers: Option<Vec<String>>,
    /// When a call is tried again: the object of `POST /call`, as a text.
    #[schema(required = false, max_length = 4096, example = "{\"enabled\":true,\"max_retries\":2}")]
    retry_config: Option<String>,
}

/// When a batch begins.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct ScheduleBody {
    /// ISO 8601 with its offset from UTC; a time that has passed means at once.
    #[schema(format = DateTime, min_length = 20, max_length = 64, example = "2026-12-01T10:00:00+05:30")]
    scheduled_at: String,
    /// Call outside the agent's `calling_guardrails` too; false without it.
    #[schema(required = false)]
    bypass_call_guardrails: Option<bool>,
}

/// A batch that was made.
#[derive(Serialize, ToSchema)]
struct BatchMade {
    /// Its identifier, 32 hex digits.
    #[schema(pattern = "^[0-9a-f]{32}$", example = "3c90c3cc0d444b5088888dd25736052a")]
    batch_id: String,
    /// Always `created`.
    state: &'static str,
}

/// What was done with a batch.
#[derive(Serialize, ToSchema)]
struct BatchDone {
    /// Always `success`.
    message: &'static str,
    /// `scheduled`, `stopped` or `deleted`.
    #[schema(example = "scheduled")]
    state: &'static str,
}

/// A batch.
#[derive(Serialize, ToSchema)]
struct Batch {
    /// Its identifier, 32 hex digits.
    #[schema(pattern = "^[0-9a-f]{32}$", example = "3c90c3cc0d444b5088888dd25736052a")]
    batch_id: String,
    /// The agent that calls.
    agent_id: String,
    /// When it was made, for people.
    #[schema(example = "5 minutes ago")]
    humanized_created_at: String,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
    /// Where it stands.
    status: Standing,
    /// When its calls begin.
    #[schema(required, format = DateTime)]
    scheduled_at: Option<String>,
    /// The first of `from_phone_numbers`; the vendor's older field.
    #[schema(required, deprecated)]
    from_phone_number: Option<String>,
    /// The numbers its calls come from, in turn.
    from_phone_numbers: Vec<String>,
    /// What the client called the file.
    file_name: String,
    /// Lines that can be called.
    #[schema(minimum = 0)]
    valid_contacts: i64,
    /// Lines of the file.
    #[schema(minimum = 0)]
    total_contacts: i64,
    /// Its calls by their status.
    #[schema(example = json!({"completed": 1, "ringing": 10}))]
    execution_status: BTreeMap<String, i64>,
}

/// Where a batch stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum Standing {
    /// It waits to be scheduled.
    Created,
    /// Its time is to come.
    Scheduled,
    /// Its time has come, and calls of it are not over.
    Queued,
    /// All its calls are over.
    Executed,
    /// It was stopped.
    Stopped,
}

impl From<BatchStatus> for Standing {
    fn from(status: BatchStatus) -> Self {
        match status {
            BatchStatus::Created => Self::Created,
            BatchStatus::Scheduled => Self::Scheduled,
            BatchStatus::Queued => Self::Queued,
            BatchStatus::Executed => Self::Executed,
            BatchStatus::Stopped => Self::Stopped,
        }
    }
}

/// What scheduling a batch may answer besides.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
enum Unqueued {
    /// More calls of the account wait than may.
    #[response(status = 429)]
    TooMany(#[to_schema] ErrorBody),
}

fn shape(batch: &StoredBatch, now: i64) -> Batch {
    Batch {
        batch_id: batch.id.clone(),
        agent_id: batch.agent.clone(),
        humanized_created_at: humanized(batch.created_at, now),
        created_at: zulu(batch.created_at),
        updated_at: zulu(batch.updated_at),
        status: batch.status(now).into(),
        scheduled_at: batch.scheduled_at.map(zulu),
        from_phone_number: batch.plan.from.first().cloned(),
        from_phone_numbers: batch.plan.from.clone(),
        file_name: batch.file_name.clone(),
        valid_contacts: batch.valid,
        total_contacts: batch.total,
        execution_status: batch.calls.clone(),
    }
}

/// Makes a batch of a file of contacts. Nobody is called until it is scheduled.
#[utoipa::path(post, path = "/batches", tag = "batches",
    request_body(content = BatchForm, content_type = "multipart/form-data"),
    responses((status = 201, body = BatchMade), Refusals, Missing, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    form: Form,
) -> ApiResult<(StatusCode, Json<BatchMade>)> {
    caller.may("calls:write")?;
    let new = batch_form::new_batch(&form)?;
    let batch = app
        .change(|store| async move { store.create_batch(&caller.account, new).await.map_err(ApiError::from) })
        .await?;
    Ok((StatusCode::CREATED, Json(BatchMade { batch_id: batch.id, state: "created" })))
}

/// Lists an agent's batches, newest first.
#[utoipa::path(get, path = "/batches/{agent_id}/all", tag = "batches",
    params(("agent_id" = String, Path, description = "The agent's identifier."), ListQuery),
    responses((status = 200, body = Vec<Batch>), Refusals, Missing))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(agent): Path<String>,
    RawQuery(query): RawQuery,
) -> ApiResult<Paged<Batch>> {
    caller.may("calls:read")?;
    let part = paging::part(query.as_deref())?;
    let agent =
        app.store().agent(&caller.account, &canonical_uuid(&agent)).await.map_err(agents::not_found)?;
    let page = app.store().list_batches(&caller.account, &agent.id, part.after.as_ref(), part.limit).await?;
    let now = now_ms();
    Ok(Paged::of(&page, |batch| shape(batch, now)))
}

/// Shows a batch.
#[utoipa::path(get, path = "/batches/{batch_id}", tag = "batches",
    params(("batch_id" = String, Path, description = "The batch's identifier.")),
    responses((status = 200, body = Batch), Refusals, Missing))]
async fn show(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<Batch>> {
    caller.may("calls:read")?;
    let batch = app.store().batch(&caller.account, &batch_id(&id)).await.map_err(not_found)?;
    Ok(Json(shape(&batch, now_ms())))
}

/// The executions of a batch, newest first.
#[utoipa::path(get, path = "/batches/{batch_id}/executions", tag = "batches",
    params(("batch_id" = String, Path, description = "The batch's identifier.")),
    responses((status = 200, body = Vec<Execution>), Refusals, Missing))]
async fn calls_of(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Vec<Execution>>> {
    caller.may("calls:read")?;
    let batch = app.store().batch(&caller.account, &batch_id(&id)).await.map_err(not_found)?;
    let filter = ExecutionFilter { batch: Some(batch.id), ..ExecutionFilter::default() };
    executions::unpaged(&app, &caller, &filter, batch.valid).await
}

/// Queues the calls of a batch for a time.
#[utoipa::path(post, path = "/batches/{batch_id}/schedule", tag = "batches",
    params(("batch_id" = String, Path, description = "The batch's identifier.")),
    request_body(content((ScheduleBody = "multipart/form-data"), (ScheduleBody = "application/json"))),
    responses((status = 200, body = BatchDone), Refusals, Missing, BadBody, Unqueued))]
async fn schedule(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    FormOrBody(object): FormOrBody,
) -> ApiResult<Json<BatchDone>> {
    caller.may("calls:write")?;
    let (at, bypass) = schedule_body(&object)?;
    let most = app.config().limits.queued_calls;
    app.change(move |store| async move {
        let id = batch_id(&id);
        store.schedule_batch(&caller.account, &id, at, bypass, most).await.map_err(not_found)
    })
    .await?;
    Ok(Json(BatchDone { message: "success", state: "scheduled" }))
}

/// When, and whether outside the agent's hours too. A form's switch is a text.
fn schedule_body(object: &Map<String, Value>) -> ApiResult<(i64, bool)> {
    let mut faults = Faults::default();
    let fields = Fields::new(object, "");
    let at = call_body::time_of(&fields, "scheduled_at", &mut faults);
    if at.is_none() && faults.is_empty() {
        let message =
            "is missing; give an ISO 8601 time with its offset, such as \"2026-12-01T10:00:00+05:30\"";
        faults.constant(StatusCode::BAD_REQUEST, "scheduled_at is required", "scheduled_at", message);
    }
    let name = "bypass_call_guardrails";
    let bypass = match fields.value(name) {
        None => false,
        Some(Value::Bool(switch)) => *switch,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("true") || text == "1" => true,
        Some(Value::String(text)) if text.eq_ignore_ascii_case("false") || text == "0" => false,
        Some(other) => {
            faults.push(name, format!("{} was given; give true or false", describe(other)));
            false
        }
    };
    faults.finish()?;
    Ok((at.unwrap_or_default(), bypass))
}

/// Stops a batch: calls that wait are never placed, those that are up go on and are not tried again.
#[utoipa::path(post, path = "/batches/{batch_id}/stop", tag = "batches",
    params(("batch_id" = String, Path, description = "The batch's identifier.")),
    responses((status = 200, body = BatchDone), Refusals, Missing, BadBody))]
async fn stop(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<Json<BatchDone>> {
    caller.may("calls:write")?;
    let account = caller.account.clone();
    let stopped = app
        .change(|store| async move { store.stop_batch(&account, &batch_id(&id)).await.map_err(not_found) })
        .await?;
    calls::tell_stopped(&app, &caller.account, &stopped).await;
    Ok(Json(BatchDone { message: "success", state: "stopped" }))
}

/// Deletes a batch; calls of it that wait are never placed. The executions of its calls stay.
#[utoipa::path(delete, path = "/batches/{batch_id}", tag = "batches",
    params(("batch_id" = String, Path, description = "The batch's identifier.")),
    responses((status = 200, body = BatchDone), Refusals, Missing))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<BatchDone>> {
    caller.may("calls:write")?;
    let account = caller.account.clone();
    let stopped = app
        .change(|store| async move { store.delete_batch(&account, &batch_id(&id)).await.map_err(not_found) })
        .await?;
    calls::tell_stopped(&app, &caller.account, &stopped).await;
    Ok(Json(BatchDone { message: "success", state: "deleted" }))
}

fn not_found(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => {
            ApiError::not_found("Batch not found").at("batch_id", "no batch of this account has this id")
        }
        error => error.into(),
    }
}
