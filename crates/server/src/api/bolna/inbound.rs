//! `/inbound/setup` and `/inbound/unlink`: which agent answers a number.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::agent_body::set_telephony;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::Body;
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text};
use crate::ids::{canonical_ulid, canonical_uuid};
use crate::store::{Expected, Store, StoreError, StoredNumber};

/// What a mapping names.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mapping {
    agent: Option<String>,
    number: Option<String>,
}

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(setup)).routes(routes!(unlink))
}

/// Which number an agent is to answer.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct MappingBody {
    /// The agent.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[!-~]+$")]
    agent_id: String,
    /// The number, by the identifier that adding it answered.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[!-~]+$")]
    phone_number_id: String,
}

/// Which number an agent answers no more.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct UnlinkBody {
    /// The number, by the identifier that adding it answered.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[!-~]+$")]
    phone_number_id: String,
}

/// A mapping that stands.
#[derive(Serialize, ToSchema)]
struct Mapped {
    /// A text of the vendor's own.
    message: &'static str,
    /// Where the vendor's server would be asked for the call.
    url: String,
    /// The number as its owner wrote it.
    phone_number: String,
    /// The number's identifier.
    id: String,
}

/// A number without an agent.
#[derive(Serialize, ToSchema)]
struct Unlinked {
    /// Always null.
    #[schema(required)]
    url: Option<String>,
    /// The number as its owner wrote it.
    phone_number: String,
    /// The number's identifier.
    id: String,
}

/// Reads a mapping. `allow_multiple` and `ivr_config` are another provider's.
pub(super) fn mapping(object: &Map<String, Value>, faults: &mut Faults) -> Mapping {
    Mapping {
        agent: identifier(object, "agent_id", faults),
        number: identifier(object, "phone_number_id", faults),
    }
}

/// An identifier, which is an opaque text and must be there.
fn identifier(object: &Map<String, Value>, name: &str, faults: &mut Faults) -> Option<String> {
    let text = Fields::new(object, "").text(name, Text::Line(128), faults);
    let text = text.map(str::trim).filter(|text| !text.is_empty());
    if text.is_none() && !faults.touches(name) {
        faults.constant(StatusCode::BAD_REQUEST, &format!("{name} is required"), name, "is missing or empty");
    }
    text.map(str::to_owned)
}

/// Has an agent answer a number. A number has one agent; mapping it again replaces it.
#[utoipa::path(post, path = "/inbound/setup", tag = "inbound", request_body = MappingBody,
    responses((status = 200, body = Mapped), Refusals, Missing, BadBody))]
async fn setup(State(app): State<App>, caller: Caller, Body(object): Body) -> ApiResult<Json<Mapped>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let mapping = mapping(&object, &mut faults);
    faults.finish()?;
    let agent = canonical_uuid(&mapping.agent.unwrap_or_default());
    let number = mapping.number.unwrap_or_default();
    let account = caller.account.clone();
    let (number, agent) = app
        .change(|store| async move {
            let stored = find_number(&store, &account, &number).await?;
            let found = store
                .change_agent(&account, &agent, &Expected::Any, |agent| -> ApiResult<()> {
                    set_telephony(&mut agent.body);
                    Ok(())
                })
                .await;
            let found = found.map_err(|error| match error.status {
                StatusCode::NOT_FOUND => ApiError::not_found("Agent not found")
                    .at("agent_id", "no agent of this account has this id; create one with POST /v2/agent"),
                _ => error,
            })?;
            let mapped = store.map_number(&account, &stored.id, Some(&found.id)).await.map_err(no_number)?;
            Ok((mapped, found))
        })
        .await?;
    let url = format!(
        "{}/inbound_call?agent_id={}&user_id={}",
        app.config().public_url(),
        agent.id,
        caller.account
    );
    Ok(Json(Mapped {
        message: "SIP trunk number successfully mapped to agent",
        url,
        phone_number: number.number.phone_number,
        id: number.id,
    }))
}

/// Leaves a number without an agent: its calls are refused.
#[utoipa::path(post, path = "/inbound/unlink", tag = "inbound", request_body = UnlinkBody,
    responses((status = 200, body = Unlinked), Refusals, Missing, BadBody))]
async fn unlink(State(app): State<App>, caller: Caller, Body(object): Body) -> ApiResult<Json<Unlinked>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    // Clients of the guide name the agent too, whatever it is.
    let number = identifier(&object, "phone_number_id", &mut faults);
    faults.finish()?;
    let number = number.unwrap_or_default();
    let number = app
        .change(|store| async move {
            let stored = find_number(&store, &caller.account, &number).await?;
            store.map_number(&caller.account, &stored.id, None).await.map_err(no_number)
        })
        .await?;
    Ok(Json(Unlinked { url: None, phone_number: number.number.phone_number, id: number.id }))
}

/// A number of the account; the two texts for its absence are the API's own.
async fn find_number(store: &Store, account: &str, id: &str) -> ApiResult<StoredNumber> {
    let id = canonical_ulid(id);
    let id = id.as_str();
    match store.number(account, id).await {
        Err(StoreError::NotFound) if store.number_was_removed(account, id).await? => {
            Err(ApiError::not_found("SIP trunk phone number not found in database").at(
                "phone_number_id",
                "this number was removed from its trunk; add it again and use its new id",
            ))
        }
        found => found.map_err(no_number),
    }
}

fn no_number(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found("Phone number doesn't exist.")
            .at("phone_number_id", "no number of this account has this id"),
        error => error.into(),
    }
}
