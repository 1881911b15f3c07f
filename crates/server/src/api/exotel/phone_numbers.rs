//! `…/trunks/{trunk_sid}/phone-numbers`, and `…/trunk-maps`: which trunk a number is on.

use axum::extract::State;
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::{IntoParams, ToSchema};

use super::asked::{AccountPath, Asked, ChildPath, ChildQuery, JsonBody, PageQuery, TrunkPath, change};
use super::checks::{Checks, date, is_e164};
use super::envelope::{BadBody, Constant, Failure, Many, OutOfDate, PageMetadata, Refusals, Single};
use super::names;
use crate::api::App;
use crate::api::preconditions::IfMatchHeader;
use crate::store::{NewNumber, NumberMode, Store, StoreError, StoredNumber};

/// A number on a trunk.
#[derive(Serialize, ToSchema)]
pub(super) struct NumberData {
    /// Its identifier, digits.
    #[schema(example = "2101456270814357296451860453687152640")]
    id: String,
    /// The number, with its plus.
    #[schema(example = "+919876543210")]
    phone_number: String,
    /// The trunk it is on.
    trunk_sid: String,
    /// When it was added.
    #[schema(format = DateTime)]
    date_created: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    date_updated: String,
    /// `flow`: its calls are for the agent it is mapped to. `pstn`: for the trunk's destinations. Null: not said.
    #[schema(required, pattern = "^(pstn|flow)$", example = "flow")]
    mode: Option<&'static str>,
}

impl NumberData {
    fn of(stored: &StoredNumber) -> Self {
        Self {
            id: names::child_name(&stored.id),
            phone_number: stored.number.phone_number.clone(),
            trunk_sid: names::trunk_sid(&stored.trunk),
            date_created: date(stored.created_at),
            date_updated: date(stored.updated_at),
            mode: stored.number.mode.map(NumberMode::as_str),
        }
    }
}

/// Which trunk a number is on.
#[derive(Serialize, ToSchema)]
pub(super) struct TrunkMapData {
    /// The number.
    #[schema(example = "+919876543210")]
    exophone: String,
    /// The trunk it is on.
    trunk_sid: String,
    /// The number's identifier.
    phone_number_id: String,
    /// As on the number itself.
    #[schema(required, pattern = "^(pstn|flow)$", example = "flow")]
    mode: Option<&'static str>,
}

/// A number to be added.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct NewNumberBody {
    /// E.164.
    #[schema(pattern = r"^\+[1-9][0-9]{6,14}$", example = "+919876543210")]
    phone_number: String,
    /// Where its calls go: `flow` to its agent, `pstn` to the trunk's destinations.
    #[schema(pattern = "^(pstn|flow)$", example = "flow")]
    mode: Option<String>,
}

/// A number's new mode.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by Checks")]
pub(super) struct NumberModeBody {
    /// The number itself, as a check.
    #[schema(pattern = r"^\+[1-9][0-9]{6,14}$", example = "+919876543210")]
    phone_number: String,
    /// Where its calls go: `flow` to its agent, `pstn` to the trunk's destinations.
    #[schema(pattern = "^(pstn|flow)$", example = "flow")]
    mode: String,
}

/// Which number to look up.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct TrunkMapQuery {
    /// The number; a leading plus may be missing.
    #[param(min_length = 1, example = "+919876543210")]
    exophone: String,
    /// On this trunk alone.
    trunk_sid: Option<String>,
}

/// The number and mode of a body.
pub(super) fn read(
    object: &Map<String, Value>,
    must_have_mode: bool,
) -> Result<(String, Option<NumberMode>), Failure> {
    let mut checks = Checks::default();
    let number = checks.mandatory(object, "phone_number", "PhoneNumber");
    if let Some(number) = number.filter(|number| !is_e164(number)) {
        let message = format!("{number:?} was given; give + and 7 to 15 digits, such as \"+919876543210\"");
        checks.fail(Constant::Invalid, "Invalid PhoneNumber", "phone_number", message);
    }
    let mode = match must_have_mode {
        true => checks.mandatory(object, "mode", "Mode"),
        false => checks.text(object, "mode", "mode"),
    };
    let known = mode.and_then(NumberMode::from_word);
    if let (Some(given), None) = (mode, known) {
        let message = format!("{given:?} was given; give \"pstn\" or \"flow\"");
        checks.fail(Constant::Invalid, "Invalid mode", "mode", message);
    }
    checks.finish()?;
    Ok((number.unwrap_or_default().to_owned(), known))
}

fn number_taken(error: StoreError, trunk: &str) -> Failure {
    let StoreError::NumberTaken { number, same_trunk } = error else { return error.into() };
    let sid = names::trunk_sid(trunk);
    let place = if same_trunk { "this trunk" } else { "another active trunk" };
    Failure::new(Constant::Duplicate, format!("Unable to create DidTrunkMapping with TrunkSid {sid}"))
        .at("phone_number", format!("{number} is on {place} already; remove it there first"))
}

/// Adds a number to a trunk. Map it to an agent with `POST /inbound/setup`, by the `id` answered here.
#[utoipa::path(post, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/phone-numbers",
    tag = "exotel trunks", params(TrunkPath), security(("basic" = []), ("bearer" = [])),
    request_body = NewNumberBody, responses((status = 200, body = Single<NumberData>), Refusals, BadBody))]
pub(super) async fn add_exotel_number(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let account = asked.account.clone();
    let added = async {
        asked.may("trunks:write")?;
        let trunk = asked.trunk()?;
        let (phone_number, mode) = read(&object, false)?;
        let new = NewNumber { e164_check_enabled: true, mode, ..NewNumber::new(phone_number) };
        let number = change(&app, move |store: Store| async move {
            let added = store.add_number(&account, &trunk, &new).await;
            added.map_err(|error| number_taken(error, &trunk))
        });
        let number = number.await?;
        Ok((number.revision, NumberData::of(&number)))
    };
    asked.envelope.tagged(added.await)
}

/// A trunk's numbers, newest first.
#[utoipa::path(get, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/phone-numbers",
    tag = "exotel trunks", params(TrunkPath, PageQuery), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Many<PageMetadata, NumberData>), Refusals))]
pub(super) async fn list_exotel_numbers(State(app): State<App>, asked: Asked) -> Response {
    let list = async {
        asked.may("trunks:read")?;
        let (trunk, page) = (asked.trunk()?, asked.page()?);
        let numbers = app.store().number_page(&asked.account, &trunk, page.size + 1, page.offset).await?;
        Ok(page.of_rest(numbers.iter().map(NumberData::of).collect()))
    };
    asked.envelope.page(list.await)
}

/// Changes where a number's calls go.
#[utoipa::path(put, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/phone-numbers/{id}",
    tag = "exotel trunks", params(ChildPath, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    request_body = NumberModeBody, responses((status = 200, body = Single<NumberData>), Refusals, BadBody, OutOfDate))]
pub(super) async fn change_exotel_number(
    State(app): State<App>,
    asked: Asked,
    JsonBody(object): JsonBody,
) -> Response {
    let (account, expected) = (asked.account.clone(), asked.expected.clone());
    let changed = async {
        asked.may("trunks:write")?;
        let (trunk, id) = (asked.trunk()?, asked.child()?);
        let (phone_number, mode) = read(&object, true)?;
        let number = change(&app, move |store: Store| async move {
            let stands = store.number(&account, &id).await?;
            if stands.trunk != trunk {
                return Err(Failure::not_found());
            }
            if stands.number.phone_number.trim_start_matches('+') != phone_number.trim_start_matches('+') {
                let message =
                    format!("{phone_number:?} was given; this id is {}", stands.number.phone_number);
                let failure = Failure::new(Constant::Invalid, "Invalid PhoneNumber");
                return Err(failure.at("phone_number", message));
            }
            Ok(store.set_number_mode(&account, &trunk, &id, mode, &expected).await?)
        });
        let number = number.await?;
        Ok((number.revision, NumberData::of(&number)))
    };
    asked.envelope.tagged(changed.await)
}

/// Takes a number off its trunk; its mapping goes with it.
#[utoipa::path(delete, path = "/v2/accounts/{account_sid}/trunks/{trunk_sid}/phone-numbers",
    tag = "exotel trunks", params(TrunkPath, ChildQuery, IfMatchHeader), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Single<NumberData>), Refusals, OutOfDate))]
pub(super) async fn delete_exotel_number(State(app): State<App>, asked: Asked) -> Response {
    let (account, expected) = (asked.account.clone(), asked.expected.clone());
    let deleted = async {
        asked.may("trunks:write")?;
        let (trunk, id) = (asked.trunk()?, asked.child_in_query()?);
        let number = change(&app, move |store: Store| async move {
            let number = store.number(&account, &id).await?;
            store.remove_number(&account, &trunk, &id, &expected).await?;
            Ok(number)
        });
        Ok(NumberData::of(&number.await?))
    };
    asked.envelope.single(deleted.await)
}

/// Which trunks a number is on.
#[utoipa::path(get, path = "/v2/accounts/{account_sid}/trunk-maps", tag = "exotel trunks",
    params(AccountPath, TrunkMapQuery, PageQuery), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = Many<PageMetadata, TrunkMapData>), Refusals))]
pub(super) async fn list_exotel_trunk_maps(State(app): State<App>, asked: Asked) -> Response {
    let list = async {
        asked.may("trunks:read")?;
        let page = asked.page()?;
        // A plus that was not escaped arrives as a blank.
        let exophone = asked.must_have("exophone", "Exophone")?;
        let exophone = exophone.trim();
        let trunk = match asked.in_query("trunk_sid") {
            Some(sid) => Some(names::trunk_id(&sid).ok_or_else(Failure::not_found)?),
            None => None,
        };
        let numbers = app.store().numbers_called(&asked.account, exophone).await?;
        let maps = numbers
            .iter()
            .filter(|number| trunk.as_ref().is_none_or(|trunk| number.trunk == *trunk))
            .map(|number| TrunkMapData {
                exophone: number.number.phone_number.clone(),
                trunk_sid: names::trunk_sid(&number.trunk),
                phone_number_id: names::child_name(&number.id),
                mode: number.number.mode.map(NumberMode::as_str),
            });
        Ok(page.of(maps.collect()))
    };
    asked.envelope.page(list.await)
}
