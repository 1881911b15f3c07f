//! `POST /v1/calls/{call_id}/transfer`: sends the caller of a call that is up elsewhere.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Map, Value};
use tandem_call::transfer::{MAX_TARGET_BYTES, check_target};
use tandem_call::{CallStatus, ShownNumber, TransferOrder, TransferWay};
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::calls::{Commanded, live};
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::bolna::{find_trunk, sip_headers};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text, wrong_word};
use crate::api::{App, CallCommand};
use crate::ids::canonical_uuid;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(transfer))
}

/// Where a caller is to be sent.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct TransferBody {
    /// A number, a `tel:` or a `sip:` URI.
    #[schema(min_length = 1, max_length = 256, example = "+493012345678")]
    to: String,
    /// `auto`: as the trunk's `/v1/trunks/{trunk_id}/transfers` has it; `refer`: the carrier is asked to do it; `dial`: a
    /// second leg is dialled and the audio relayed; `attended`: a second leg is dialled, and once it is answered the
    /// carrier is asked to join the two.
    #[schema(pattern = "^(auto|refer|dial|attended)$", default = "auto", required = false, nullable)]
    mode: Option<String>,
    /// The trunk that a second leg is dialled by, where it is not the call's own.
    #[schema(required = false, nullable)]
    trunk_id: Option<String>,
    /// Whose number a second leg shows: the account's `own`, or the `caller`'s.
    #[schema(pattern = "^(own|caller)$", default = "own", required = false, nullable)]
    caller_id: Option<String>,
    /// How long a second leg may ring.
    #[schema(minimum = 5, maximum = 300, required = false, nullable)]
    ringing_timeout_seconds: Option<i64>,
    /// `close`: the agent's stream ends when somebody answers; `keep`: it stays open in silence, and the agent has the
    /// caller again when they hang up.
    #[schema(pattern = "^(close|keep)$", default = "close", required = false, nullable)]
    agent: Option<String>,
    /// Headers for a second leg's INVITE, as `sip_headers` of `POST /call`.
    #[schema(required = false, nullable, value_type = Option<Object>)]
    sip_headers: Option<Map<String, Value>>,
}

/// Sends the caller elsewhere. What comes of it is in the execution's `transfer_call_data` and `telephony_data.transfers`;
/// when nothing does, the agent has the caller still.
#[utoipa::path(post, path = "/v1/calls/{call_id}/transfer", tag = "calls", params(("call_id" = String, Path)),
    request_body = TransferBody, responses((status = 202, body = Commanded), Refusals, Missing, BadBody))]
async fn transfer(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<(StatusCode, Json<Commanded>)> {
    caller.may("calls:write")?;
    let order = read_transfer(&Fields::new(&object, ""))?;
    let call = live(&app, &caller, &id)?;
    if let Some(trunk) = &order.trunk {
        find_trunk(&app, &caller, trunk.as_str()).await?;
    }
    if call.status != CallStatus::InProgress {
        return Err(ApiError::new(StatusCode::CONFLICT, "The call is not answered yet").at(
            "call_id",
            format!("its status is {}; it can be transferred while it is in-progress", call.status.as_str()),
        ));
    }
    app.command(CallCommand::Transfer { call: call.id, order: Box::new(order) })?;
    app.store().note_request(&caller.account, "call", &call.id.to_string()).await?;
    Ok(Commanded::call(call.id))
}

fn read_transfer(fields: &Fields<'_>) -> ApiResult<TransferOrder> {
    let mut faults = Faults::default();
    let to = fields.text("to", Text::Line(MAX_TARGET_BYTES), &mut faults).unwrap_or_default();
    if !faults.touches("to")
        && let Err(why) = check_target(to)
    {
        faults.push("to", format!("{why}; give one such as \"+493012345678\""));
    }
    let mut chosen = |name: &str, words: &[&str]| {
        let word = fields.text(name, Text::Line(16), &mut faults)?;
        if !words.contains(&word) {
            faults.push(name, wrong_word(&word.into(), words));
        }
        Some(word)
    };
    let way = match chosen("mode", &["auto", "refer", "dial", "attended"]) {
        Some("refer") => TransferWay::Refer,
        Some("dial") => TransferWay::Dial,
        Some("attended") => TransferWay::Attended,
        _ => TransferWay::Auto,
    };
    let shows = match chosen("caller_id", &["own", "caller"]) {
        Some("caller") => ShownNumber::Caller,
        _ => ShownNumber::Own,
    };
    let keeps_agent = chosen("agent", &["close", "keep"]) == Some("keep");
    let trunk =
        fields.text("trunk_id", Text::Line(64), &mut faults).map(|id| canonical_uuid(id).as_str().into());
    let ringing = fields.integer("ringing_timeout_seconds", 5..=300, &mut faults);
    let headers = sip_headers(fields, &mut faults);
    faults.finish()?;
    Ok(TransferOrder {
        target: to.to_owned(),
        way,
        trunk,
        shows,
        headers: headers.into_iter().collect(),
        ringing: ringing.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
        keeps_agent,
    })
}
