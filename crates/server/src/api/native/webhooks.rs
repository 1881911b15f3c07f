//! `/v1/webhooks`: where the account wants to be told of its calls; `/v1/webhook-deliveries`: what was told, what is
//! still to be, and telling it once more.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tandem_call::CallStatus;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{page, texts};
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text, wrong_word};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::api::query::{bad_parameter, parameter};
use crate::api::times::zulu;
use crate::api::{App, schemas, web_url};
use crate::config::AgentNetworks;
use crate::net::fence::Fence;
use crate::net::post::PostTarget;
use crate::store::{Delivery, DeliveryFilter, StoreError, StoredWebhook, WebhookSettings};

/// Statuses a call can be told in: all but those that it has from the request that asked for it.
pub(in crate::api) const EVENTS: &[CallStatus] = &[
    CallStatus::Queued,
    CallStatus::Rescheduled,
    CallStatus::Initiated,
    CallStatus::Ringing,
    CallStatus::InProgress,
    CallStatus::CallDisconnected,
    CallStatus::Completed,
    CallStatus::BalanceLow,
    CallStatus::Busy,
    CallStatus::NoAnswer,
    CallStatus::Canceled,
    CallStatus::Failed,
    CallStatus::Stopped,
    CallStatus::Error,
];

/// Most statuses named for one webhook.
pub(in crate::api) const MOST_EVENTS: usize = 16;

/// States of a delivery.
const STATES: &[&str] = &["pending", "delivered", "failed"];

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(create, list))
        .routes(routes!(show, change, delete))
        .routes(routes!(deliveries))
        .routes(routes!(delivery))
        .routes(routes!(replay))
}

/// A webhook to be made.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct NewWebhook {
    /// Where to POST: an `https` or `http` URL.
    #[schema(
        max_length = 2048,
        pattern = r"^https?://[A-Za-z0-9._:\[\]-]+([/?#][!-~]*)?$",
        example = "https://hooks.example/calls"
    )]
    url: String,
    /// Statuses to be told of, such as `completed`; without it, or with an empty list: each.
    #[schema(required = false, schema_with = schemas::told_statuses)]
    events: Option<Vec<String>>,
    /// Your own words.
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", required = false)]
    description: Option<String>,
    /// Switched on; without it: yes.
    #[schema(required = false)]
    is_active: Option<bool>,
}

/// What shall be changed of a webhook.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct WebhookChange {
    /// Where to POST.
    #[schema(
        max_length = 2048,
        pattern = r"^https?://[A-Za-z0-9._:\[\]-]+([/?#][!-~]*)?$",
        required = false,
        example = "https://hooks.example/calls"
    )]
    url: Option<String>,
    /// Statuses to be told of; replaced whole.
    #[schema(required = false, schema_with = schemas::told_statuses)]
    events: Option<Vec<String>>,
    /// Your own words.
    #[schema(max_length = 200, pattern = r"^[^\x00-\x1f\x7f-\x9f]*$", required = false)]
    description: Option<String>,
    /// Switched on.
    #[schema(required = false)]
    is_active: Option<bool>,
}

/// A webhook, without its secret.
#[derive(Serialize, ToSchema)]
struct Webhook {
    /// Its identifier.
    id: String,
    /// Where to.
    url: String,
    /// Statuses it is told of; empty means each.
    events: Vec<String>,
    /// Its owner's words.
    description: String,
    /// Switched on.
    is_active: bool,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A webhook that was just made.
#[derive(Serialize, ToSchema)]
struct CreatedWebhook {
    /// What its deliveries are signed with, HMAC-SHA256 over `timestamp.body`: shown this once.
    secret: String,
    /// The rest of it.
    #[serde(flatten)]
    rest: Webhook,
}

/// The account's webhooks.
#[derive(Serialize, ToSchema)]
struct Webhooks {
    /// Oldest first.
    data: Vec<Webhook>,
}

/// What a deleted webhook leaves.
#[derive(Serialize, ToSchema)]
struct DeletedWebhook {
    /// Always `done`.
    message: &'static str,
    /// Its identifier.
    id: String,
}

/// Something to be told, or told.
#[derive(Serialize, ToSchema)]
struct ShownDelivery {
    /// Its identifier, the `Tandem-Delivery` header.
    id: String,
    /// The webhook; null for an agent's own `webhook_url`.
    #[schema(required)]
    webhook_id: Option<String>,
    /// The call's agent.
    agent_id: String,
    /// Where to.
    url: String,
    /// The call.
    call_id: String,
    /// The status that is told.
    event: String,
    /// `pending`, `delivered` or `failed`.
    state: String,
    /// How often it was tried.
    attempts: u32,
    /// When it is tried next, while it is pending.
    #[schema(format = DateTime, required)]
    next_attempt_at: Option<String>,
    /// The receiver's last answer.
    #[schema(required)]
    last_status: Option<u16>,
    /// What went wrong last.
    #[schema(required)]
    last_error: Option<String>,
    /// When it came to be.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was delivered or given up.
    #[schema(format = DateTime, required)]
    finished_at: Option<String>,
}

/// A delivery with what it says.
#[derive(Serialize, ToSchema)]
struct WholeDelivery {
    /// The delivery.
    #[serde(flatten)]
    delivery: ShownDelivery,
    /// The body that is POSTed: the object of `GET /executions/{execution_id}` at that moment.
    #[schema(value_type = Object)]
    body: Value,
}

/// A page of deliveries.
#[derive(Serialize, ToSchema)]
struct Deliveries {
    /// Newest first.
    data: Vec<ShownDelivery>,
    /// The next page's `cursor`; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
}

/// Which deliveries.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
struct DeliveryQuery {
    /// Only this webhook's.
    webhook: Option<String>,
    /// Only this call's.
    call: Option<String>,
    /// Only those in this state: `pending`, `delivered` or `failed`.
    #[param(pattern = "^(pending|delivered|failed)?$")]
    state: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

fn webhook_of(webhook: StoredWebhook) -> Webhook {
    Webhook {
        id: webhook.id,
        url: webhook.settings.url,
        events: webhook.settings.events,
        description: webhook.settings.description,
        is_active: webhook.settings.is_active,
        created_at: zulu(webhook.created_at),
        updated_at: zulu(webhook.updated_at),
    }
}

fn delivery_of(delivery: Delivery) -> ShownDelivery {
    let is_pending = delivery.state == "pending";
    ShownDelivery {
        id: delivery.id,
        webhook_id: Some(delivery.webhook).filter(|id| !id.is_empty()),
        agent_id: delivery.agent,
        url: delivery.url,
        call_id: delivery.call,
        event: delivery.event,
        state: delivery.state,
        attempts: delivery.attempts,
        next_attempt_at: is_pending.then(|| zulu(delivery.next_at)),
        last_status: delivery.last_status,
        last_error: delivery.last_error,
        created_at: zulu(delivery.created_at),
        finished_at: delivery.finished_at.map(zulu),
    }
}

/// Reads what a body says about a webhook into `settings`; what it leaves out stays as it is.
fn read(app: &App, fields: &Fields<'_>, settings: &mut WebhookSettings, faults: &mut Faults) {
    if let Some(url) = fields.text("url", Text::Line(2_048), faults) {
        match web_url::target(url, "url", faults) {
            Some(target) if !may_be_reached(app, &target) => {
                let message = "names an address that policy forbids; give one that is reached publicly";
                let headline = "This address is forbidden";
                faults.constant(StatusCode::UNPROCESSABLE_ENTITY, headline, "url", message);
            }
            Some(_) => url.clone_into(&mut settings.url),
            None => {}
        }
    }
    if settings.url.is_empty() && !faults.touches("url") {
        faults.push("url", "is missing; give an https or http URL");
    }
    let words: Vec<&str> = EVENTS.iter().map(|status| status.as_str()).collect();
    let event = |text: &str| match words.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(wrong_word(&text.into(), &words)),
    };
    if fields.was_sent("events") {
        settings.events.clear();
        for event in texts(fields, "events", MOST_EVENTS, faults, event).unwrap_or_default() {
            if !settings.events.contains(&event) {
                settings.events.push(event);
            }
        }
    }
    if let Some(description) = fields.text("description", Text::Line(200), faults) {
        description.clone_into(&mut settings.description);
    }
    if let Some(is_active) = fields.switch("is_active", faults) {
        settings.is_active = is_active;
    }
}

/// Whether an address that is written out passes the fence; names are looked up when they are used.
fn may_be_reached(app: &App, target: &PostTarget) -> bool {
    let deny_private = app.config().security.agent_networks == AgentNetworks::Public;
    let fence = Fence { deny_private, ..Fence::default() };
    target.address().is_none_or(|address| fence.permits(address))
}

/// Makes a webhook. Its secret is shown this once.
#[utoipa::path(post, path = "/v1/webhooks", tag = "webhooks", request_body = NewWebhook,
    responses((status = 201, body = CreatedWebhook), Refusals, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Tagged<(StatusCode, Json<CreatedWebhook>)>> {
    caller.may("webhooks:write")?;
    let mut faults = Faults::default();
    let mut settings = WebhookSettings { is_active: true, ..WebhookSettings::default() };
    read(&app, &Fields::new(&object, ""), &mut settings, &mut faults);
    faults.finish()?;
    let (webhook, secret) = app.store().create_webhook(&caller.account, settings).await?;
    let revision = webhook.revision;
    let created = CreatedWebhook { secret: secret.reveal().to_owned(), rest: webhook_of(webhook) };
    Ok(Tagged { revision, answer: (StatusCode::CREATED, Json(created)) })
}

/// The account's webhooks.
#[utoipa::path(get, path = "/v1/webhooks", tag = "webhooks", responses((status = 200, body = Webhooks), Refusals))]
async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Webhooks>> {
    caller.may("webhooks:read")?;
    let webhooks = app.store().webhooks(&caller.account).await?;
    Ok(Json(Webhooks { data: webhooks.into_iter().map(webhook_of).collect() }))
}

/// One webhook.
#[utoipa::path(get, path = "/v1/webhooks/{webhook_id}", tag = "webhooks", params(("webhook_id" = String, Path)),
    responses((status = 200, body = Webhook), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<Webhook>>> {
    caller.may("webhooks:read")?;
    let webhook = app.store().webhook(&caller.account, &id).await.map_err(no_webhook)?;
    Ok(Tagged { revision: webhook.revision, answer: Json(webhook_of(webhook)) })
}

/// Changes a webhook.
#[utoipa::path(patch, path = "/v1/webhooks/{webhook_id}", tag = "webhooks", request_body = WebhookChange,
    params(("webhook_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Webhook), Refusals, Missing, OutOfDate, BadBody))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<Webhook>>> {
    caller.may("webhooks:write")?;
    let mut settings = app.store().webhook(&caller.account, &id).await.map_err(no_webhook)?.settings;
    let mut faults = Faults::default();
    read(&app, &Fields::new(&object, ""), &mut settings, &mut faults);
    faults.finish()?;
    let edit = |settings: &mut WebhookSettings| {
        read(&app, &Fields::new(&object, ""), settings, &mut Faults::default());
    };
    let changed = app.store().change_webhook(&caller.account, &id, &expected, edit).await;
    let webhook = changed.map_err(no_webhook)?;
    Ok(Tagged { revision: webhook.revision, answer: Json(webhook_of(webhook)) })
}

/// Deletes a webhook, with what it was still to be told.
#[utoipa::path(delete, path = "/v1/webhooks/{webhook_id}", tag = "webhooks",
    params(("webhook_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = DeletedWebhook), Refusals, Missing, OutOfDate))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<DeletedWebhook>> {
    caller.may("webhooks:write")?;
    app.store().delete_webhook(&caller.account, &id, &expected).await.map_err(no_webhook)?;
    Ok(Json(DeletedWebhook { message: "done", id }))
}

/// What was told to whom, and what is still to be, newest first.
#[utoipa::path(get, path = "/v1/webhook-deliveries", tag = "webhooks", params(DeliveryQuery),
    responses((status = 200, body = Deliveries), Refusals))]
async fn deliveries(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Deliveries>> {
    caller.may("webhooks:read")?;
    let query = query.as_deref();
    let page = page(query)?;
    let state = parameter(query, "state").filter(|state| !state.is_empty());
    if let Some(state) = &state
        && !STATES.contains(&state.as_str())
    {
        return Err(bad_parameter("state", wrong_word(&state.as_str().into(), STATES)));
    }
    let filter = DeliveryFilter {
        webhook: parameter(query, "webhook"),
        call: parameter(query, "call"),
        state,
        cursor: Some(page.cursor),
        limit: page.limit + 1,
    };
    let mut deliveries = app.store().deliveries(&caller.account, &filter).await?;
    let has_more = deliveries.len() > page.limit as usize;
    deliveries.truncate(page.limit as usize);
    let next_cursor = deliveries.last().filter(|_| has_more).map(|delivery| delivery.id.clone());
    Ok(Json(Deliveries { data: deliveries.into_iter().map(delivery_of).collect(), next_cursor }))
}

/// One delivery, with what it says.
#[utoipa::path(get, path = "/v1/webhook-deliveries/{delivery_id}", tag = "webhooks",
    params(("delivery_id" = String, Path)), responses((status = 200, body = WholeDelivery), Refusals, Missing))]
async fn delivery(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<WholeDelivery>> {
    caller.may("webhooks:read")?;
    let delivery = app.store().delivery(&caller.account, &id).await.map_err(no_delivery)?;
    let execution = app.store().execution_told(&delivery).await?;
    let body = crate::api::execution_body(&execution, &app.config().public_url());
    Ok(Json(WholeDelivery { delivery: delivery_of(delivery), body }))
}

/// Tells it once more, as a delivery of its own.
#[utoipa::path(post, path = "/v1/webhook-deliveries/{delivery_id}/replay", tag = "webhooks",
    params(("delivery_id" = String, Path)),
    responses((status = 202, body = ShownDelivery), Refusals, Missing, BadBody))]
async fn replay(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<ShownDelivery>)> {
    caller.may("webhooks:write")?;
    let delivery = app.store().replay_delivery(&caller.account, &id).await.map_err(no_delivery)?;
    Ok((StatusCode::ACCEPTED, Json(delivery_of(delivery))))
}

fn no_webhook(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found("Webhook not found")
            .at("webhook_id", "no webhook of this account has this id; GET /v1/webhooks lists them"),
        error => error.into(),
    }
}

fn no_delivery(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found("Delivery not found").at(
            "delivery_id",
            "no delivery of this account has this id; GET /v1/webhook-deliveries lists them",
        ),
        error => error.into(),
    }
}
