//! What is on a trunk of the `/trunk` family, each by its own endpoint: gateways, ranges, numbers.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::carrier_body::{self, MOST_GATEWAYS};
use super::carrier_shapes::{self, CarrierGateway, CarrierIpAcl, CarrierNumber};
use super::carrier_trunks::{edit_trunk, no_trunk};
use super::trunk_body::MOST_IDENTIFIERS;
use super::trunk_schemas::{ChangeCarrierNumber, NewCarrierGateway, NewCarrierIpAcl, NewCarrierNumber};
use super::trunks::Done;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, MaybeBody, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::Faults;
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::routing;
use crate::store::{Expected, StoreError};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(add_gateway))
        .routes(routes!(remove_gateway))
        .routes(routes!(add_ip_acl))
        .routes(routes!(remove_ip_acl))
        .routes(routes!(add_number))
        .routes(routes!(remove_number))
        .routes(routes!(change_number))
}

/// Adds a gateway; a trunk has at most eight.
#[utoipa::path(post, path = "/trunk/trunks/{trunk_id}/gateways", tag = "trunk",
    params(("trunk_id" = String, Path)), request_body = NewCarrierGateway,
    responses((status = 200, body = CarrierGateway), Refusals, Missing, BadBody))]
async fn add_gateway(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<Json<CarrierGateway>> {
    let mut faults = Faults::default();
    let new = carrier_body::new_gateway(&object, &mut faults);
    faults.finish()?;
    let new = new.expect("a body without faults is a gateway");
    let sought = new.clone();
    let trunk = edit_trunk(&app, &caller, &id, Expected::Any, move |settings| {
        if settings.gateways.len() >= MOST_GATEWAYS {
            return Err(full("gateways", MOST_GATEWAYS));
        }
        if settings.gateways.iter().any(|one| one.address == new.address && one.port == new.port) {
            return Err(ApiError::new(StatusCode::CONFLICT, "This gateway is on the trunk already").at(
                "host",
                format!("{} with port {} is on the trunk; add each once", new.address, new.port),
            ));
        }
        settings.gateways.push(new);
        Ok(())
    })
    .await?;
    let added =
        trunk.settings.gateways.iter().find(|one| one.address == sought.address && one.port == sought.port);
    Ok(Json(carrier_shapes::gateway(added.expect("the gateway was added"))))
}

/// Takes a gateway away. `If-Match` is held against the trunk's `ETag`.
#[utoipa::path(delete, path = "/trunk/trunks/{trunk_id}/gateways/{gateway_id}", tag = "trunk",
    params(("trunk_id" = String, Path), ("gateway_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Done), Refusals, Missing, OutOfDate))]
async fn remove_gateway(
    State(app): State<App>,
    caller: Caller,
    Path((id, gateway)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Done>> {
    edit_trunk(&app, &caller, &id, expected, move |settings| {
        let before = settings.gateways.len();
        settings.gateways.retain(|one| one.id != gateway);
        if settings.gateways.len() == before {
            return Err(ApiError::not_found("Gateway not found")
                .at("gateway_id", "no gateway of this trunk has this id"));
        }
        Ok(())
    })
    .await?;
    Ok(Json(Done { message: "Gateway removed successfully".to_owned() }))
}

/// Adds a range that calls come from. One that other trunks have too is taken: calls are told apart by the number.
#[utoipa::path(post, path = "/trunk/trunks/{trunk_id}/ip-acls", tag = "trunk",
    params(("trunk_id" = String, Path)), request_body = NewCarrierIpAcl,
    responses((status = 200, body = CarrierIpAcl), Refusals, Missing, BadBody))]
async fn add_ip_acl(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<Json<CarrierIpAcl>> {
    let mut faults = Faults::default();
    let new = carrier_body::new_range(&object, &mut faults);
    faults.finish()?;
    let new = new.expect("a body without faults is a range");
    let network = routing::network(&new.ip_address);
    let trunk = edit_trunk(&app, &caller, &id, Expected::Any, move |settings| {
        if settings.ip_identifiers.len() >= MOST_IDENTIFIERS {
            return Err(full("ip_acls", MOST_IDENTIFIERS));
        }
        if settings.ip_identifiers.iter().any(|one| routing::network(&one.ip_address) == network) {
            return Err(ApiError::new(StatusCode::CONFLICT, "This range is on the trunk already")
                .at("cidr", format!("{} is on the trunk; add each range once", new.ip_address)));
        }
        settings.ip_identifiers.push(new);
        Ok(())
    })
    .await?;
    let added = trunk.settings.ip_identifiers.iter().find(|one| routing::network(&one.ip_address) == network);
    Ok(Json(carrier_shapes::ip_acl(added.expect("the range was added"))))
}

/// Takes a range away. `If-Match` is held against the trunk's `ETag`.
#[utoipa::path(delete, path = "/trunk/trunks/{trunk_id}/ip-acls/{acl_id}", tag = "trunk",
    params(("trunk_id" = String, Path), ("acl_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Done), Refusals, Missing, OutOfDate))]
async fn remove_ip_acl(
    State(app): State<App>,
    caller: Caller,
    Path((id, acl)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Done>> {
    edit_trunk(&app, &caller, &id, expected, move |settings| {
        let before = settings.ip_identifiers.len();
        settings.ip_identifiers.retain(|one| one.id != acl);
        if settings.ip_identifiers.len() == before {
            return Err(
                ApiError::not_found("IP range not found").at("acl_id", "no range of this trunk has this id")
            );
        }
        Ok(())
    })
    .await?;
    Ok(Json(Done { message: "IP range removed successfully".to_owned() }))
}

/// Adds a number. It is found by `e164`, with or without its `+`, and then by `destination_key`.
#[utoipa::path(post, path = "/trunk/trunks/{trunk_id}/numbers", tag = "trunk",
    params(("trunk_id" = String, Path)), request_body = NewCarrierNumber,
    responses((status = 200, body = CarrierNumber), Refusals, Missing, BadBody))]
async fn add_number(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<Tagged<Json<CarrierNumber>>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let new = carrier_body::new_number(&object, &mut faults);
    faults.finish()?;
    let new = new.expect("a body without faults is a number");
    let stored = app
        .change(|store| async move {
            let added = store.add_number_for(&caller.account, &id, &new.number, new.agent.as_deref()).await;
            added.map_err(|error| no_trunk(error.into(), &id))
        })
        .await?;
    Ok(Tagged { revision: stored.revision, answer: Json(carrier_shapes::number(&stored)) })
}

/// Takes a number away; it is free for other trunks at once.
#[utoipa::path(delete, path = "/trunk/trunks/{trunk_id}/numbers/{number_id}", tag = "trunk",
    params(("trunk_id" = String, Path), ("number_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = Done), Refusals, Missing, OutOfDate))]
async fn remove_number(
    State(app): State<App>,
    caller: Caller,
    Path((id, number)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Done>> {
    caller.may("trunks:write")?;
    app.change(|store| async move {
        let missing = |error: StoreError| no_trunk(error.into(), &id);
        store.trunk(&caller.account, &id).await.map_err(missing)?;
        store.remove_number(&caller.account, &id, &number, &expected).await.map_err(no_number)
    })
    .await?;
    Ok(Json(Done { message: "Phone number removed successfully".to_owned() }))
}

/// Says who answers a number; null, or no body at all, for nobody.
#[utoipa::path(patch, path = "/trunk/numbers/{number_id}", tag = "trunk",
    params(("number_id" = String, Path), IfMatchHeader), request_body = Option<ChangeCarrierNumber>,
    responses((status = 200, body = CarrierNumber), Refusals, Missing, BadBody, OutOfDate))]
async fn change_number(
    State(app): State<App>,
    caller: Caller,
    Path(number): Path<String>,
    IfMatch(expected): IfMatch,
    MaybeBody(object): MaybeBody,
) -> ApiResult<Tagged<Json<CarrierNumber>>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let agent = carrier_body::new_agent(&object, &mut faults);
    faults.finish()?;
    let stored = app
        .change(|store| async move {
            let stored = store.number(&caller.account, &number).await.map_err(no_number)?;
            // The number is there: what may be missing now is the agent.
            let mapped =
                store.map_expected_number(&caller.account, &stored.id, agent.as_deref(), &expected).await;
            mapped.map_err(|error| match error {
                StoreError::NotFound if agent.is_some() => StoreError::AgentNotFound.into(),
                error => no_number(error),
            })
        })
        .await?;
    Ok(Tagged { revision: stored.revision, answer: Json(carrier_shapes::number(&stored)) })
}

fn full(place: &str, most: usize) -> ApiError {
    ApiError::new(StatusCode::CONFLICT, format!("{place}: the trunk has {most}, which are the most"))
        .at(place, format!("the trunk has {most}, which are the most; take one away first"))
}

fn no_number(error: StoreError) -> ApiError {
    match error {
        StoreError::NotFound => ApiError::not_found("Phone number not found")
            .at("number_id", "no number of this account, or of this trunk, has this id"),
        error => error.into(),
    }
}
