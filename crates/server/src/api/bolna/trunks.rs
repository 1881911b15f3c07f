//! `/sip-trunks/trunks`: Bolna's legacy trunk family.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::trunk_body;
use super::trunk_facts::{Facts, ListFacts};
use super::trunk_schemas::{ChangeSipTrunk, NewSipTrunk};
use super::trunk_shapes::{self, SipTrunk};
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::Faults;
use crate::api::paging::{self, ListQuery, Paged};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::api::{App, query};
use crate::store::{NewNumber, StoreError};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(create, list)).routes(routes!(show, change, delete))
}

/// What was done, in words.
#[derive(Serialize, ToSchema)]
pub(super) struct Done {
    /// The vendor's own text.
    #[schema(example = "Trunk deleted successfully. 3 phone number(s) removed.")]
    pub(super) message: String,
}

/// Makes a trunk, with its gateways, ranges and first numbers: all of it or nothing.
#[utoipa::path(post, path = "/sip-trunks/trunks", tag = "sip-trunks", request_body = NewSipTrunk,
    responses((status = 201, body = SipTrunk), Refusals, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Tagged<(StatusCode, Json<SipTrunk>)>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let new = trunk_body::new_trunk(&object, &mut faults);
    faults.finish()?;
    let (settings, numbers) = new.expect("a body without faults is a trunk");
    let (trunk, numbers) = app
        .change(|store| async move {
            let made = store.create_trunk(&caller.account, settings, &numbers).await;
            made.map_err(|error| name_number(error, &numbers))
        })
        .await?;
    let facts = Facts::read(&app, &trunk, numbers).await?;
    let answer = (StatusCode::CREATED, Json(trunk_shapes::trunk(&trunk, facts)));
    Ok(Tagged { revision: trunk.revision, answer })
}

/// The account's trunks, newest first, those of every family.
#[utoipa::path(get, path = "/sip-trunks/trunks", tag = "sip-trunks",
    params(ListQuery, ("is_active" = Option<String>, Query, description = "`true` or `1`: those switched on; `false` or `0`: the others; absent: all",
        pattern = "^([Tt][Rr][Uu][Ee]|[Ff][Aa][Ll][Ss][Ee]|[01])$")),
    responses((status = 200, body = Vec<SipTrunk>), Refusals))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    RawQuery(text): RawQuery,
) -> ApiResult<Paged<SipTrunk>> {
    caller.may("trunks:read")?;
    let is_active = query::switch(text.as_deref(), "is_active")?;
    let part = paging::part(text.as_deref())?;
    let page = app.store().list_trunks(&caller.account, is_active, part.after.as_ref(), part.limit).await?;
    let mut facts = ListFacts::read(&app, &caller.account, &page.rows).await?;
    Ok(Paged::of(&page, |trunk| trunk_shapes::trunk(trunk, facts.take(trunk))))
}

/// One trunk.
#[utoipa::path(get, path = "/sip-trunks/trunks/{trunk_id}", tag = "sip-trunks",
    params(("trunk_id" = String, Path)),
    responses((status = 200, body = SipTrunk), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<SipTrunk>>> {
    caller.may("trunks:read")?;
    let trunk = app.store().trunk(&caller.account, &id).await.map_err(not_found)?;
    let numbers = app.store().numbers_of_trunk(&caller.account, &id).await.map_err(not_found)?;
    let facts = Facts::read(&app, &trunk, numbers).await?;
    Ok(Tagged { revision: trunk.revision, answer: Json(trunk_shapes::trunk(&trunk, facts)) })
}

/// Changes what is sent and leaves the rest. `gateways` and `ip_identifiers` replace their lists whole; `provider`
/// and `auth_type` cannot be changed. The rules of creation hold for the trunk as it is afterwards.
#[utoipa::path(patch, path = "/sip-trunks/trunks/{trunk_id}", tag = "sip-trunks",
    params(("trunk_id" = String, Path), IfMatchHeader), request_body = ChangeSipTrunk,
    responses((status = 200, body = SipTrunk), Refusals, Missing, BadBody, OutOfDate))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<SipTrunk>>> {
    caller.may("trunks:write")?;
    let (trunk, numbers) = app
        .change(|store| async move {
            let trunk = store
                .change_trunk(&caller.account, &id, &expected, |settings| -> ApiResult<()> {
                    let mut faults = Faults::default();
                    trunk_body::change_trunk(&object, settings, &mut faults);
                    faults.finish()
                })
                .await
                .map_err(name_trunk)?;
            let numbers = store.numbers_of_trunk(&caller.account, &id).await.map_err(not_found)?;
            Ok((trunk, numbers))
        })
        .await?;
    let facts = Facts::read(&app, &trunk, numbers).await?;
    Ok(Tagged { revision: trunk.revision, answer: Json(trunk_shapes::trunk(&trunk, facts)) })
}

/// Deletes a trunk with its gateways and ranges; its numbers are free for other trunks at once, their agents
/// unmapped. Calls that are up go on.
#[utoipa::path(delete, path = "/sip-trunks/trunks/{trunk_id}", tag = "sip-trunks",
    params(("trunk_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Done), Refusals, Missing, OutOfDate))]
async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Done>> {
    caller.may("trunks:write")?;
    let removed = app
        .change(|store| async move {
            store.delete_trunk(&caller.account, &id, &expected).await.map_err(not_found)
        })
        .await?;
    Ok(Json(Done { message: format!("Trunk deleted successfully. {removed} phone number(s) removed.") }))
}

/// Says which of a new trunk's numbers is taken.
fn name_number(error: StoreError, numbers: &[NewNumber]) -> ApiError {
    let at = match &error {
        // Twice in one request: the second is one too many.
        StoreError::NumberTaken { number, same_trunk: true } => {
            numbers.iter().rposition(|one| one.phone_number == *number)
        }
        StoreError::NumberTaken { number, .. } => numbers.iter().position(|one| one.phone_number == *number),
        _ => None,
    };
    let mut error = ApiError::from(error);
    if let (Some(at), [problem]) = (at, error.errors.as_mut_slice()) {
        problem.location = format!("phone_numbers[{at}].{}", problem.location);
    }
    error
}

pub(super) fn not_found(error: StoreError) -> ApiError {
    name_trunk(ApiError::from(error))
}

/// Says what was not found.
fn name_trunk(error: ApiError) -> ApiError {
    if error.status == StatusCode::NOT_FOUND {
        return ApiError::not_found("Trunk not found").at("trunk_id", "no trunk of this account has this id");
    }
    error
}
