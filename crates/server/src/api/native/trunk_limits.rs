//! `/v1/trunks/{trunk_id}/limits`: how many calls a trunk carries, whichever family's API made it. A call beyond them
//! is refused with 486 (too many at once) or 480 (too many in a second), or waits when it is outbound.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tandem_call::CallDirection;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::change_trunk;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::bolna::{find_trunk, read_limits};
use crate::api::error::{ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::store::{StoredTrunk, TrunkSettings};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, change))
}

/// How much a trunk carries, and how much it does now.
#[derive(Serialize, ToSchema)]
struct TrunkLimits {
    /// The trunk.
    trunk_id: String,
    /// Calls at once, both ways together; null is no bound.
    #[schema(required, minimum = 1)]
    channels: Option<u32>,
    /// Calls at once from the carrier.
    #[schema(required, minimum = 1)]
    channels_in: Option<u32>,
    /// Calls at once to the carrier.
    #[schema(required, minimum = 1)]
    channels_out: Option<u32>,
    /// New calls per second, from the carrier and to it counted apart.
    #[schema(required)]
    calls_per_second: Option<f64>,
    /// Calls from the carrier that are up on this node.
    #[schema(minimum = 0)]
    active_calls_in: usize,
    /// Calls to the carrier that are up on this node.
    #[schema(minimum = 0)]
    active_calls_out: usize,
}

/// New limits: what is not sent stays, null takes a bound away.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct TrunkLimitsBody {
    /// Calls at once, both ways together.
    #[schema(minimum = 1, maximum = 1_000, required = false, example = 30)]
    channels: Option<u32>,
    /// Calls at once from the carrier.
    #[schema(minimum = 1, maximum = 1_000, required = false, example = 20)]
    channels_in: Option<u32>,
    /// Calls at once to the carrier.
    #[schema(minimum = 1, maximum = 1_000, required = false, example = 20)]
    channels_out: Option<u32>,
    /// New calls per second, from the carrier and to it counted apart.
    #[schema(minimum = 0.001, maximum = 1_000.0, required = false, example = 2.5)]
    calls_per_second: Option<f64>,
}

fn shown(app: &App, trunk: &StoredTrunk) -> Tagged<Json<TrunkLimits>> {
    let live = app.journal().live(&trunk.account);
    let count = |way: CallDirection| {
        live.iter().filter(|call| call.trunk.as_str() == trunk.id && call.direction == way).count()
    };
    let limits = &trunk.settings.limits;
    let answer = TrunkLimits {
        trunk_id: trunk.id.clone(),
        channels: limits.total,
        channels_in: limits.inbound,
        channels_out: limits.outbound,
        calls_per_second: limits.per_second(),
        active_calls_in: count(CallDirection::Inbound),
        active_calls_out: count(CallDirection::Outbound),
    };
    Tagged { revision: trunk.revision, answer: Json(answer) }
}

/// A trunk's limits.
#[utoipa::path(get, path = "/v1/trunks/{trunk_id}/limits", tag = "trunk limits", params(("trunk_id" = String, Path)),
    responses((status = 200, body = TrunkLimits), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<TrunkLimits>>> {
    caller.may("trunks:read")?;
    Ok(shown(&app, &find_trunk(&app, &caller, &id).await?))
}

/// Changes a trunk's limits. Calls that are up go on.
#[utoipa::path(patch, path = "/v1/trunks/{trunk_id}/limits", tag = "trunk limits", request_body = TrunkLimitsBody,
    params(("trunk_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = TrunkLimits), Refusals, Missing, BadBody, OutOfDate))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<TrunkLimits>>> {
    let read = |fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults| {
        read_limits(fields, &mut settings.limits, faults);
    };
    let trunk = change_trunk(&app, &caller, &id, expected, object, read).await?;
    Ok(shown(&app, &trunk))
}
