//! `/providers`: secrets of the services that an account's agents use, by name. They are kept sealed, shown masked, and
//! filled into the headers of an agent's socket where those say `{provider:NAME}`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::call_body::required;
use super::shapes::{humanized, zulu};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text};
use crate::secrets::Secret;
use crate::store::{StoreError, StoredProvider, now_ms};

/// Longest name.
const MOST_NAME_CHARACTERS: usize = 128;

/// Longest secret: some are whole files of JSON.
const MOST_VALUE_CHARACTERS: usize = 16_384;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list, add)).routes(routes!(remove))
}

/// A secret to be kept.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct ProviderBody {
    /// What it is called; another of the same name is replaced.
    #[schema(min_length = 1, max_length = 128, pattern = "^[A-Za-z0-9_.-]+$", example = "OPENAI_API_KEY")]
    provider_name: String,
    /// The secret.
    #[schema(min_length = 1, max_length = 16384, pattern = "^[!-~]+$", format = Password, example = "sk-0123456789az")]
    provider_value: String,
}

/// A secret that is kept.
#[derive(Serialize, ToSchema)]
struct Provider {
    /// Its identifier, a UUID.
    provider_id: String,
    /// What it is called.
    #[schema(example = "OPENAI_API_KEY")]
    provider_name: String,
    /// Masked but for its last two characters.
    #[schema(example = "xxxxxxxaz")]
    provider_value: String,
    /// When the name was first given a secret, for people.
    #[schema(example = "7 hours ago")]
    humanized_created_at: String,
    /// When the name was first given a secret.
    #[schema(format = DateTime)]
    created_at: String,
}

/// What was done with a secret.
#[derive(Serialize, ToSchema)]
struct ProviderDone {
    /// Always `successful`.
    message: &'static str,
    /// `added` or `removed`.
    #[schema(example = "added")]
    status: &'static str,
}

/// Lists the account's providers by name, their secrets masked.
#[utoipa::path(get, path = "/providers", tag = "providers",
    responses((status = 200, body = Vec<Provider>), Refusals))]
async fn list(State(app): State<App>, caller: Caller) -> ApiResult<Json<Vec<Provider>>> {
    caller.may("agents:read")?;
    let providers = app.store().providers(&caller.account).await?;
    let now = now_ms();
    Ok(Json(providers.iter().map(|provider| shape(provider, now)).collect()))
}

/// Keeps a provider's secret.
#[utoipa::path(post, path = "/providers", tag = "providers", request_body = ProviderBody,
    responses((status = 200, body = ProviderDone), Refusals, BadBody))]
async fn add(State(app): State<App>, caller: Caller, Body(object): Body) -> ApiResult<Json<ProviderDone>> {
    caller.may("agents:write")?;
    let mut faults = Faults::default();
    let read = provider(&object, &mut faults);
    faults.finish()?;
    let (name, value) = read.expect("a body without faults is a provider");
    app.change(move |store| async move {
        store.set_provider(&caller.account, &name, &value).await.map_err(ApiError::from)
    })
    .await?;
    Ok(Json(ProviderDone { message: "successful", status: "added" }))
}

/// Forgets a provider's secret.
#[utoipa::path(delete, path = "/providers/{provider_key_name}", tag = "providers",
    params(("provider_key_name" = String, Path, description = "Its name.")),
    responses((status = 200, body = ProviderDone), Refusals, Missing))]
async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
) -> ApiResult<Json<ProviderDone>> {
    caller.may("agents:write")?;
    app.change(move |store| async move {
        store.remove_provider(&caller.account, &name).await.map_err(|error| match error {
            StoreError::NotFound => ApiError::not_found("Provider not found")
                .at("provider_key_name", "no provider of this account has this name"),
            error => error.into(),
        })
    })
    .await?;
    Ok(Json(ProviderDone { message: "successful", status: "removed" }))
}

/// Reads a secret and its name.
pub(super) fn provider(object: &Map<String, Value>, faults: &mut Faults) -> Option<(String, Secret)> {
    let before = faults.len();
    let fields = Fields::new(object, "");
    let name = required(&fields, "provider_name", MOST_NAME_CHARACTERS, faults).unwrap_or_default();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if !name.is_empty() && !name.chars().all(is_plain) {
        let message = format!(
            "{name:?} was given; give letters, digits, underscores, dots and dashes, such as \"OPENAI_API_KEY\""
        );
        faults.push("provider_name", message);
    }
    // What was given is not repeated: it is secret.
    let value = fields.text("provider_value", Text::Lines(MOST_VALUE_CHARACTERS), faults).unwrap_or_default();
    if value.trim().is_empty() && !faults.touches("provider_value") {
        faults.constant(
            StatusCode::BAD_REQUEST,
            "provider_value is required",
            "provider_value",
            "is missing or empty",
        );
    }
    (faults.len() == before).then(|| (name.to_owned(), Secret::new(value)))
}

fn shape(provider: &StoredProvider, now: i64) -> Provider {
    Provider {
        provider_id: provider.id.clone(),
        provider_name: provider.name.clone(),
        provider_value: masked(provider.value.reveal()),
        humanized_created_at: humanized(provider.created_at, now),
        created_at: zulu(provider.created_at),
    }
}

/// The vendor's mask: seven `x`, and the last two characters of a secret that is long enough not to be told by them.
fn masked(secret: &str) -> String {
    let length = secret.chars().count();
    let shown = if length >= 8 { 2 } else { 0 };
    format!("xxxxxxx{}", secret.chars().skip(length - shown).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_tells_two_characters_of_a_long_secret_and_none_of_a_short_one() {
        assert_eq!(masked("sk-0123456789az"), "xxxxxxxaz");
        assert_eq!(masked("short"), "xxxxxxx");
        assert_eq!(masked("ключключ"), "xxxxxxxюч");
    }
}
