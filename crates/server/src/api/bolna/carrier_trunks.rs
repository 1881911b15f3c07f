//! `/trunk/trunks` and `/trunk/pop`: Bolna's newer trunk family, over the trunks of both.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::carrier_body;
use super::carrier_shapes::{self, CarrierTrunk};
use super::trunk_facts::{Facts, ListFacts};
use super::trunk_schemas::{ChangeCarrierTrunk, NewCarrierTrunk};
use super::trunks::Done;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::Faults;
use crate::api::paging::{self, ListQuery, Paged};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::config::Config;
use crate::store::{Expected, StoredTrunk, TrunkSettings};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(pop))
        .routes(routes!(create, list))
        .routes(routes!(show, change, delete))
}

/// Where carriers find this server: what they must send to and let in.
#[derive(Serialize, ToSchema)]
struct Pop {
    /// Host of the SIP address.
    sip_domain: String,
    /// SIP port.
    #[schema(minimum = 1, maximum = 65_535, example = 5060)]
    port: u16,
    /// SIP transports.
    transports: Vec<&'static str>,
    /// Addresses that SIP and RTP come from.
    ips: Vec<String>,
    /// UDP ports of RTP, both ends included.
    #[schema(example = "20000-29999")]
    rtp_ports: String,
}

/// Where carriers find this server; the same for every account.
#[utoipa::path(get, path = "/trunk/pop", tag = "trunk", responses((status = 200, body = Pop), Refusals))]
async fn pop(State(app): State<App>, caller: Caller) -> ApiResult<Json<Pop>> {
    caller.may("trunks:read")?;
    Ok(Json(pop_of(app.config())))
}

fn pop_of(config: &Config) -> Pop {
    let sip = &config.sip;
    let transports =
        [("udp", !sip.udp.is_empty()), ("tcp", !sip.tcp.is_empty()), ("tls", !sip.tls.listen.is_empty())];
    let listeners = sip.udp.iter().chain(&sip.tcp).chain(&sip.tls.listen);
    let mut ips: Vec<String> = Vec::new();
    let bound = listeners.clone().map(std::net::SocketAddr::ip).filter(|address| !address.is_unspecified());
    for address in sip.public_address.into_iter().chain(config.media.public_address).chain(bound) {
        let address = address.to_string();
        if !ips.contains(&address) {
            ips.push(address);
        }
    }
    Pop {
        // Nobody said by which address the world reaches this machine, and no request can tell.
        sip_domain: ips.first().cloned().unwrap_or_else(|| "0.0.0.0".to_owned()),
        port: listeners.map(std::net::SocketAddr::port).next().unwrap_or(5060),
        transports: transports.into_iter().filter(|(_, is_on)| *is_on).map(|(name, _)| name).collect(),
        ips,
        rtp_ports: config.media.ports.to_string(),
    }
}

/// Makes a trunk, with its gateways and ranges: all of it or nothing.
#[utoipa::path(post, path = "/trunk/trunks", tag = "trunk", request_body = NewCarrierTrunk,
    responses((status = 200, body = CarrierTrunk), Refusals, Missing, BadBody))]
async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Tagged<Json<CarrierTrunk>>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let new = carrier_body::new_trunk(&object, &mut faults);
    faults.finish()?;
    let settings = new.expect("a body without faults is a trunk");
    let (trunk, numbers) = app
        .change(|store| async move {
            let made = store.create_trunk(&caller.account, settings, &[]).await;
            made.map_err(|error| name_default_agent(error.into()))
        })
        .await?;
    let facts = Facts::read(&app, &trunk, numbers).await?;
    Ok(Tagged { revision: trunk.revision, answer: Json(carrier_shapes::trunk(&trunk, facts)) })
}

/// The account's trunks, newest first, those of every family.
#[utoipa::path(get, path = "/trunk/trunks", tag = "trunk", params(ListQuery),
    responses((status = 200, body = Vec<CarrierTrunk>), Refusals))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    RawQuery(text): RawQuery,
) -> ApiResult<Paged<CarrierTrunk>> {
    caller.may("trunks:read")?;
    let part = paging::part(text.as_deref())?;
    let page = app.store().list_trunks(&caller.account, None, part.after.as_ref(), part.limit).await?;
    let mut facts = ListFacts::read(&app, &caller.account, &page.rows).await?;
    Ok(Paged::of(&page, |trunk| carrier_shapes::trunk(trunk, facts.take(trunk))))
}

/// One trunk.
#[utoipa::path(get, path = "/trunk/trunks/{trunk_id}", tag = "trunk", params(("trunk_id" = String, Path)),
    responses((status = 200, body = CarrierTrunk), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<CarrierTrunk>>> {
    caller.may("trunks:read")?;
    let missing = |error| no_trunk(ApiError::from(error), &id);
    let trunk = app.store().trunk(&caller.account, &id).await.map_err(missing)?;
    let numbers = app.store().numbers_of_trunk(&caller.account, &id).await.map_err(missing)?;
    let facts = Facts::read(&app, &trunk, numbers).await?;
    Ok(Tagged { revision: trunk.revision, answer: Json(carrier_shapes::trunk(&trunk, facts)) })
}

/// Changes settings and the switch. Gateways, ranges and numbers have endpoints of their own.
#[utoipa::path(patch, path = "/trunk/trunks/{trunk_id}", tag = "trunk",
    params(("trunk_id" = String, Path), IfMatchHeader), request_body = ChangeCarrierTrunk,
    responses((status = 200, body = CarrierTrunk), Refusals, Missing, BadBody, OutOfDate))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<CarrierTrunk>>> {
    caller.may("trunks:write")?;
    let (trunk, numbers) = app
        .change(|store| async move {
            let changed = store.change_trunk(&caller.account, &id, &expected, |settings| -> ApiResult<()> {
                let mut faults = Faults::default();
                carrier_body::change_trunk(&object, settings, &mut faults);
                faults.finish()
            });
            let trunk = changed.await.map_err(|error| no_trunk(name_default_agent(error), &id))?;
            let numbers = store.numbers_of_trunk(&caller.account, &id).await;
            Ok((trunk, numbers.map_err(|error| no_trunk(error.into(), &id))?))
        })
        .await?;
    let facts = Facts::read(&app, &trunk, numbers).await?;
    Ok(Tagged { revision: trunk.revision, answer: Json(carrier_shapes::trunk(&trunk, facts)) })
}

/// Deletes a trunk with all that is on it; its numbers are free for other trunks at once. Calls that are up go on.
#[utoipa::path(delete, path = "/trunk/trunks/{trunk_id}", tag = "trunk",
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
            let deleted = store.delete_trunk(&caller.account, &id, &expected).await;
            deleted.map_err(|error| no_trunk(error.into(), &id))
        })
        .await?;
    Ok(Json(Done { message: format!("Trunk deleted successfully. {removed} phone number(s) removed.") }))
}

/// A trunk of the caller's account, whichever family made it.
pub(in crate::api) async fn find_trunk(app: &App, caller: &Caller, id: &str) -> ApiResult<StoredTrunk> {
    app.store().trunk(&caller.account, id).await.map_err(|error| no_trunk(error.into(), id))
}

/// Changes a trunk of the caller's account, if it is as it is expected to be.
pub(in crate::api) async fn edit_trunk(
    app: &App,
    caller: &Caller,
    id: &str,
    expected: Expected,
    change: impl FnOnce(&mut TrunkSettings) -> ApiResult<()> + Send + 'static,
) -> ApiResult<StoredTrunk> {
    caller.may("trunks:write")?;
    let (account, id) = (caller.account.clone(), id.to_owned());
    app.change(|store| async move {
        let changed = store.change_trunk(&account, &id, &expected, change).await;
        changed.map_err(|error| no_trunk(error, &id))
    })
    .await
}

/// The agent that a trunk itself names is the default one: an error about it says so by its field.
fn name_default_agent(mut error: ApiError) -> ApiError {
    for problem in error.errors.iter_mut().filter(|problem| problem.location == "agent_id") {
        "default_inbound_agent_id".clone_into(&mut problem.location);
    }
    error
}

/// Says in the family's words that there is no such trunk.
pub(super) fn no_trunk(error: ApiError, id: &str) -> ApiError {
    // An agent that is missing has told so itself.
    if error.status == StatusCode::NOT_FOUND && error.errors.is_empty() {
        return ApiError::not_found(format!("No live trunk has the id {id:?}"))
            .at("trunk_id", "no trunk of this account has this id");
    }
    error
}
