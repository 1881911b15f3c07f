//! `/v1/trunks/{trunk_id}/transfers`: how calls of a trunk may be transferred, and to whom.

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use tandem_call::{TransferPolicy, TransferRule};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{change_trunk, texts};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::bolna::find_trunk;
use crate::api::error::{ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text, wrong_word};
use crate::api::preconditions::{IfMatch, IfMatchHeader, OutOfDate, Tagged};
use crate::store::{StoredTrunk, TrunkSettings};

/// Most prefixes of one trunk.
const MOST_PREFIXES: usize = 64;

/// Longest prefix: as long as a number of E.164.
const MOST_DIGITS: usize = 15;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(show, change))
}

/// How calls of a trunk may be transferred.
#[derive(Serialize, ToSchema)]
struct TrunkTransfers {
    /// The trunk.
    trunk_id: String,
    /// `refer-then-dial`: by REFER, and by a second leg when the carrier refuses it; `refer` or `dial`: by that alone;
    /// `refuse`: not at all.
    #[schema(value_type = String, example = "refer-then-dial")]
    method: TransferRule,
    /// Digits that the numbers transferred to must begin with; null permits every number.
    #[schema(required)]
    allowed_prefixes: Option<Vec<String>>,
}

/// A new policy: what is not sent stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct TrunkTransfersBody {
    /// `refer-then-dial`, `refer`, `dial` or `refuse`.
    #[schema(pattern = "^(refer-then-dial|refer|dial|refuse)$", required = false, example = "dial")]
    method: String,
    /// Digits that the numbers transferred to must begin with, with or without `+`; null permits every number.
    #[schema(required = false, max_items = 64, example = json!(["+4930", "+4940"]))]
    allowed_prefixes: Option<Vec<String>>,
}

fn shown(trunk: &StoredTrunk) -> Tagged<Json<TrunkTransfers>> {
    let policy = &trunk.settings.transfers;
    let answer = TrunkTransfers {
        trunk_id: trunk.id.clone(),
        method: policy.rule,
        allowed_prefixes: policy.prefixes.clone(),
    };
    Tagged { revision: trunk.revision, answer: Json(answer) }
}

fn read(fields: &Fields<'_>, policy: &mut TransferPolicy, faults: &mut Faults) {
    if let Some(word) = fields.text("method", Text::Line(32), faults) {
        match TransferRule::ALL.into_iter().find(|rule| rule.as_str() == word) {
            Some(rule) => policy.rule = rule,
            None => {
                let words: Vec<&str> = TransferRule::ALL.iter().map(|rule| rule.as_str()).collect();
                faults.push("method", wrong_word(&word.into(), &words));
            }
        }
    }
    let prefix = |text: &str| {
        let digits = text.strip_prefix('+').unwrap_or(text);
        let is_number = !digits.is_empty()
            && digits.len() <= MOST_DIGITS
            && digits.bytes().all(|byte| byte.is_ascii_digit());
        if is_number {
            Ok(text.to_owned())
        } else {
            Err("is no beginning of a number; give digits such as \"+4930\"".to_owned())
        }
    };
    if let Some(prefixes) = texts(fields, "allowed_prefixes", MOST_PREFIXES, faults, prefix) {
        policy.prefixes = Some(prefixes);
    } else if fields.was_sent("allowed_prefixes") && fields.value("allowed_prefixes").is_none() {
        policy.prefixes = None;
    }
}

/// How a trunk's calls may be transferred.
#[utoipa::path(get, path = "/v1/trunks/{trunk_id}/transfers", tag = "trunk transfers",
    params(("trunk_id" = String, Path)), responses((status = 200, body = TrunkTransfers), Refusals, Missing))]
async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<TrunkTransfers>>> {
    caller.may("trunks:read")?;
    Ok(shown(&find_trunk(&app, &caller, &id).await?))
}

/// Changes how a trunk's calls may be transferred. Calls that are up keep what they began with.
#[utoipa::path(patch, path = "/v1/trunks/{trunk_id}/transfers", tag = "trunk transfers",
    request_body = TrunkTransfersBody, params(("trunk_id" = String, Path), IfMatchHeader),
    responses((status = 200, body = TrunkTransfers), Refusals, Missing, BadBody, OutOfDate))]
async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<TrunkTransfers>>> {
    let read = |fields: &Fields<'_>, settings: &mut TrunkSettings, faults: &mut Faults| {
        read(fields, &mut settings.transfers, faults);
    };
    let trunk = change_trunk(&app, &caller, &id, expected, object, read).await?;
    Ok(shown(&trunk))
}
