//! `…/trunks/{trunk_sid}/settings`: whom a trunk's outbound calls are shown to come from.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::asked::{Asked, JsonBody, PageQuery, TrunkPath, change};
use super::checks::{Checks, date, is_e164};
use super::envelope::{
    BadBody, Constant, Failure, Many, OutOfDate, PageMetadata, Refusals, SettingsMetadata, Single,
};
use super::names;
use crate::api::App;
use crate::api::preconditions::IfMatchHeader;
use crate::store::{Expected, ExternalAlias, Store, TrunkSettings, now_ms};

/// The one setting there is.
const ALIAS: &str = "trunk_external_alias";

/// Most settings of one request.
const MOST: usize = 32;

/// Longest name and value.
const LONGEST: usize = 64;

/// A setting.
#[derive(Serialize, ToSchema)]
pub(super) struct SettingData {
    /// `trunk_external_alias`.
    #[schema(example = "trunk_external_alias")]
    name: &'static str,
    /// The number that is shown.
    #[schema(example = "+919876543210")]
    value: String,
    /// The trunk.
    trunk_sid: String,
    /// When it was first set.
    #[schema(format = DateTime)]
    date_created: String,
    /// When it was last set.
    #[schema(format = DateTime)]
    date_updated: String,
}

impl SettingData {
    fn of(trunk: &str, alias: &ExternalAlias) -> Self {
        Self {
            name: ALIAS,
            value: alias.number.clone(),
            trunk_sid: names::trunk_sid(trunk),
            date_created: date(alias.created_at),
            date_updated: date(alias.updated_at),
        }
    }
}

/// Settings to be set.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct SettingsBody {
    /// Each is set by itself, or fails by itself.
    #[schema(min_items = 1, max_items = 32)]
    settings: Vec<SettingItem>,
}

/// A setting to be set.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct SettingItem {
    /// `trunk_external_alias`.
    #[schema(min_length = 1, max_length = 64, example = "trunk_external_alias")]
    name: String,
    /// E.164.
    #[schema(min_length = 1, max_length = 64, example = "+919876543210")]
    value: String,
}

/// Which setting to delete.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct SettingQuery {
    /// `trunk_external_alias`.
    #[param(min_length = 1, example = "trunk_external_alias")]
    name: String,
}

/// Names and values of a body.
pub(super) fn read(object: &Map<String, Value>) -> Result<Vec<(String, String)>, Failure> {
    let mut checks = Checks::default();
    let items = checks.objects(object, "settings", "Settings", MOST);
    let mut settings = Vec::with_capacity(items.len());
    for (at, item) in items.into_iter().enumerate() {
        let mut text = |name: &str, what: &str| {
            let location = format!("settings[{at}].{name}");
            let text = checks.text(item, name, &location).map(str::to_owned).unwrap_or_default();
            let is_text = item.get(name).is_none_or(|value| value.is_null() || value.is_string());
            if text.is_empty() && is_text {
                checks.fail(
                    Constant::Missing,
                    format!("{what} is mandatory"),
                    &location,
                    "is missing or empty",
                );
            }
            if text.chars().count() > LONGEST {
                let message =
                    format!("{} characters were given; {LONGEST} are the most", text.chars().count());
                let description = format!("Maximum allowed length for {what} is {LONGEST}");
                checks.fail(Constant::Invalid, description, &location, message);
            }
            text
        };
        settings.push((text("name", "Name"), text("value", "Value")));
    }
    checks.finish()?;
    Ok(settings)
}

/// Sets one setting of a trunk.
fn set(settings: &mut TrunkSettings, at: usize, name: &str, value: &str) -> Result<ExternalAlias, Failure> {
    if name != ALIAS {
        let message = format!("{name:?} was given; the one setting there is is {ALIAS:?}");
        return Err(Failure::new(Constant::Invalid, "Invalid setting name")
            .at(format!("settings[{at}].name"), message));
    }
    if !is_e164(value) {
        let message = format!("{value:?} was given; give + and 7 to 15 digits, such as \"+919876543210\"");
        return Err(Failure::new(Constant::Invalid, "Invalid PhoneNumber")
            .at(format!("settings[{at}].value"), message));
    }
    let now = now_ms();
    let created_at = settings.external_alias.as_ref().map_or(now, |alias| alias.created_at);
    let alias = ExternalAlias { number: value.to_owned(), created_at, updated_at: now };
    settings.external_alias = Some(alias.clone());
    Ok(alias)
}

/// Sets settings, each by itself: 207 when one of them fails. A setting that stands is replaced.
#[utoipa::path(post, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/settings",
    tag = "exotel trunks", params(TrunkPath), security(("basic" = []), ("bearer" = [])),
    request_body = SettingsBody,
    responses((status = 200, body = Many<SettingsMetadata, SettingData>),
        (status = 207, description = "Some came to be and some did not", body = Many<SettingsMetadata, SettingData>),
        Refusals, BadBody))]
pub(super) async fn set_exotel_settings(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let account = asked.account.clone();
    let stored = async {
        asked.may("trunks:write")?;
        let id = asked.trunk()?;
        let given = read(&object)?;
        let name = id.clone();
        let results = change(&app, move |store: Store| async move {
            let mut results = Vec::with_capacity(given.len());
            let set_all = |settings: &mut TrunkSettings| -> Result<(), Failure> {
                for (at, (name, value)) in given.iter().enumerate() {
                    results.push(set(settings, at, name, value));
                }
                Ok(())
            };
            store.change_trunk(&account, &id, &Expected::Any, set_all).await?;
            Ok(results)
        })
        .await?;
        Ok(results.into_iter().map(|one| one.map(|alias| SettingData::of(&name, &alias))).collect())
    };
    asked.envelope.batch::<SettingsMetadata, SettingData>(stored.await)
}

/// A trunk's settings.
#[utoipa::path(get, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/settings",
    tag = "exotel trunks", params(TrunkPath, PageQuery), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Many<PageMetadata, SettingData>), Refusals))]
pub(super) async fn list_exotel_settings(State(app): State<App>, asked: Asked) -> Response {
    let list = async {
        asked.may("trunks:read")?;
        let (id, page) = (asked.trunk()?, asked.page()?);
        let trunk = app.store().trunk(&asked.account, &id).await?;
        let alias = trunk.settings.external_alias.iter();
        Ok(page.of(alias.map(|alias| SettingData::of(&trunk.id, alias)).collect()))
    };
    asked.envelope.page(list.await)
}

/// Takes a setting back.
#[utoipa::path(delete, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/settings",
    tag = "exotel trunks", params(TrunkPath, SettingQuery, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Single<SettingData>), Refusals, OutOfDate))]
pub(super) async fn delete_exotel_setting(State(app): State<App>, asked: Asked) -> Response {
    let (account, expected) = (asked.account.clone(), asked.expected.clone());
    let deleted = async {
        asked.may("trunks:write")?;
        let id = asked.trunk()?;
        if asked.must_have("name", "Name")? != ALIAS {
            return Err(Failure::not_found());
        }
        let name = id.clone();
        let gone = change(&app, move |store: Store| async move {
            let mut gone = None;
            let remove = |settings: &mut TrunkSettings| -> Result<(), Failure> {
                gone = Some(settings.external_alias.take().ok_or_else(Failure::not_found)?);
                Ok(())
            };
            store.change_trunk(&account, &id, &expected, remove).await?;
            gone.ok_or_else(Failure::not_found)
        });
        Ok(SettingData::of(&name, &gone.await?))
    };
    asked.envelope.single(deleted.await)
}
