//! `/sip-trunks/trunks/{trunk_id}/numbers`

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::trunk_body;
use super::trunk_schemas::NewSipTrunkNumber;
use super::trunk_shapes::{self, SipTrunkNumber};
use super::trunks::{Done, not_found};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::Faults;
use crate::api::paging::{self, ListQuery, Paged};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::store::StoreError;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(add, list)).routes(routes!(remove))
}

/// Adds a number to a trunk. A number stands on one active trunk only, with or without its `+`.
#[utoipa::path(post, path = "/sip-trunks/trunks/{trunk_id}/numbers", tag = "sip-trunks",
    params(("trunk_id" = String, Path)), request_body = NewSipTrunkNumber,
    responses((status = 201, body = SipTrunkNumber), Refusals, Missing, BadBody))]
async fn add(
    State(app): State<App>,
    caller: Caller,
    Path(trunk): Path<String>,
    Body(object): Body,
) -> ApiResult<Tagged<(StatusCode, Json<SipTrunkNumber>)>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let new = trunk_body::new_number(&object, &mut faults);
    faults.finish()?;
    let new = new.expect("a body without faults is a number");
    let number = app
        .change(
            |store| async move { store.add_number(&caller.account, &trunk, &new).await.map_err(not_found) },
        )
        .await?;
    let answer = (StatusCode::CREATED, Json(trunk_shapes::number(&number)));
    Ok(Tagged { revision: number.revision, answer })
}

/// The numbers of a trunk, oldest first.
#[utoipa::path(get, path = "/sip-trunks/trunks/{trunk_id}/numbers", tag = "sip-trunks",
    params(("trunk_id" = String, Path), ListQuery),
    responses((status = 200, body = Vec<SipTrunkNumber>), Refusals, Missing))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(trunk): Path<String>,
    RawQuery(query): RawQuery,
) -> ApiResult<Paged<SipTrunkNumber>> {
    caller.may("trunks:read")?;
    let part = paging::part(query.as_deref())?;
    app.store().trunk(&caller.account, &trunk).await.map_err(not_found)?;
    let page =
        app.store().list_numbers(&caller.account, Some(&trunk), part.after.as_ref(), part.limit).await?;
    Ok(Paged::of(&page, trunk_shapes::number))
}

/// Removes a number from its trunk, and from the agent that answered it.
#[utoipa::path(delete, path = "/sip-trunks/trunks/{trunk_id}/numbers/{phone_number_id}", tag = "sip-trunks",
    params(("trunk_id" = String, Path), ("phone_number_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Done), Refusals, Missing, OutOfDate))]
async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((trunk, number)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Done>> {
    caller.may("trunks:write")?;
    app.change(|store| async move {
        store.trunk(&caller.account, &trunk).await.map_err(not_found)?;
        store.remove_number(&caller.account, &trunk, &number, &expected).await.map_err(|error| match error {
            StoreError::NotFound => ApiError::not_found("Phone number not found")
                .at("phone_number_id", "no number of this trunk has this id"),
            error => error.into(),
        })
    })
    .await?;
    Ok(Json(Done { message: "Phone number removed successfully".to_owned() }))
}
