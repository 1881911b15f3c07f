//! `/v1/calls`: the calls that are up on this node, what can be done to them, and the ladders of those that are over.

use std::time::Duration;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use tandem_call::ladder::{Heading, Rung};
use tandem_call::{
    AccountId, CallDirection, CallId, CallRecord, CallStatus, Incidents, MediaSummary, RecordingSummary,
    dialled,
};
use tokio::sync::oneshot;
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text, wrong_word};
use crate::api::query::{bad_parameter, integer, parameter};
use crate::api::times::zulu;
use crate::api::{App, CallCommand, MediaReport};
use crate::ids::canonical_uuid;

/// Longest run of digits sent at once.
const MOST_DIGITS: usize = 32;

/// Length of a digit in milliseconds, shortest and longest: what telephones send and understand.
const DIGIT_MS: std::ops::RangeInclusive<i64> = 50..=2_000;

/// Length of a digit when none is asked for.
const USUAL_DIGIT_MS: u16 = 160;

/// How long a media thread may take to answer: it looks at its queue at each wakeup.
const MEDIA_PATIENCE: Duration = Duration::from_secs(1);

/// Statuses of a call that is up.
const LIVE: &[CallStatus] =
    &[CallStatus::Initiated, CallStatus::Ringing, CallStatus::InProgress, CallStatus::CallDisconnected];

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(calls))
        .routes(routes!(call))
        .routes(routes!(ladder))
        .routes(routes!(hang_up))
        .routes(routes!(send_digits))
}

/// A call that is up.
#[derive(Serialize, ToSchema)]
struct LiveCall {
    /// Its identifier, the same as the execution's.
    id: String,
    /// The trunk it came in by.
    trunk_id: String,
    /// The number that was called.
    phone_number_id: String,
    /// The agent that answers.
    agent_id: String,
    /// The node that holds it.
    node: String,
    /// `inbound` or `outbound`.
    direction: &'static str,
    /// The caller, as the carrier wrote it.
    from: String,
    /// The called number, as the carrier wrote it.
    to: String,
    /// Where it stands: `initiated`, `ringing`, `in-progress`, `call-disconnected`.
    status: &'static str,
    /// When the INVITE was admitted.
    #[schema(format = DateTime)]
    started_at: String,
    /// When it rang.
    #[schema(format = DateTime, required)]
    ringing_at: Option<String>,
    /// When it was answered.
    #[schema(format = DateTime, required)]
    answered_at: Option<String>,
    /// The Call-ID of the carrier's leg.
    sip_call_id: String,
    /// Its recording: `state`, `format`, `started_unix_ms`, `ended_unix_ms`; null if there is none.
    #[schema(required, value_type = Option<Object>)]
    recording: Option<RecordingSummary>,
}

/// A call that is up, with its media path as it stands.
#[derive(Serialize, ToSchema)]
struct LiveCallDetail {
    #[serde(flatten)]
    call: LiveCall,
    /// What the media path has counted so far, as `telephony_data.media` of the execution has it in the end; null before
    /// there is one.
    #[schema(required, value_type = Option<Object>)]
    media: Option<MediaSummary>,
    /// What went otherwise than a side wished, so far.
    #[schema(value_type = Object)]
    incidents: Incidents,
}

/// The calls that are up.
#[derive(Serialize, ToSchema)]
struct LiveCalls {
    /// Oldest first.
    data: Vec<LiveCall>,
    /// How many fit the filters, shown or not.
    #[schema(minimum = 0)]
    total: usize,
}

/// Which calls.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
struct CallQuery {
    /// Only calls of this trunk.
    trunk_id: Option<String>,
    /// Only calls that this agent answers.
    agent_id: Option<String>,
    /// Only calls in this status: `initiated`, `ringing`, `in-progress`, `call-disconnected`.
    #[param(pattern = "^(initiated|ringing|in-progress|call-disconnected)?$")]
    status: Option<String>,
    /// Only `inbound` or `outbound` ones.
    #[param(pattern = "^(inbound|outbound)?$")]
    direction: Option<String>,
    /// Only calls of this caller, with or without `+`.
    from: Option<String>,
    /// Only calls to this number, with or without `+`.
    to: Option<String>,
    /// At most so many.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// What was asked of a call.
#[derive(Serialize, ToSchema)]
pub(super) struct Commanded {
    /// Always `done`: the call was told; what came of it is in its record.
    message: &'static str,
    /// The call.
    id: String,
}

impl Commanded {
    /// The call was told.
    pub(super) fn call(id: CallId) -> (StatusCode, Json<Self>) {
        (StatusCode::ACCEPTED, Json(Self { message: "done", id: id.to_string() }))
    }
}

/// Digits to be sent to the caller.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct DigitsBody {
    /// The digits, one after another.
    #[schema(pattern = "^[0-9A-Da-d*#]{1,32}$", example = "123#")]
    digits: String,
    /// Length of each, in milliseconds.
    #[schema(minimum = 50, maximum = 2000, default = 160, required = false, nullable)]
    duration_ms: Option<u16>,
}

/// The SIP messages of a call.
#[derive(Serialize, ToSchema)]
struct CallLadder {
    /// The call.
    call_id: String,
    /// In the order in which they went.
    data: Vec<LadderRung>,
}

/// One SIP message.
#[derive(Serialize, ToSchema)]
struct LadderRung {
    /// When, in milliseconds since 1970 UTC.
    at_unix_ms: u64,
    /// `in` to us, `out` from us.
    heading: &'static str,
    /// The peer's address; null when its name was still to be resolved.
    #[schema(required)]
    peer: Option<String>,
    /// The start line.
    start_line: String,
    /// The CSeq header.
    cseq: String,
    /// Length of the whole message.
    bytes: u32,
}

impl LadderRung {
    fn of(rung: &Rung) -> Self {
        Self {
            at_unix_ms: rung.at_unix_ms,
            heading: match rung.heading {
                Heading::In => "in",
                Heading::Out => "out",
            },
            peer: rung.peer.map(|peer| peer.to_string()),
            start_line: rung.start_line.clone(),
            cseq: rung.cseq.clone(),
            bytes: rung.bytes,
        }
    }
}

fn direction(record: &CallRecord) -> &'static str {
    match record.direction {
        CallDirection::Inbound => "inbound",
        CallDirection::Outbound => "outbound",
    }
}

fn live_call(record: &CallRecord) -> LiveCall {
    let time = |unix_ms: u64| zulu(i64::try_from(unix_ms).unwrap_or(i64::MAX));
    LiveCall {
        id: record.id.to_string(),
        trunk_id: record.trunk.to_string(),
        phone_number_id: record.number.to_string(),
        agent_id: record.agent.to_string(),
        node: record.node.clone(),
        direction: direction(record),
        from: record.from.clone(),
        to: record.to.clone(),
        status: record.status.as_str(),
        started_at: time(record.started_unix_ms),
        ringing_at: record.ringing_unix_ms.map(time),
        answered_at: record.answered_unix_ms.map(time),
        sip_call_id: record.sip_call_id.clone(),
        recording: record.media.recording.clone(),
    }
}

/// One of a few words of the query.
fn word(query: Option<&str>, name: &str, words: &[&str]) -> ApiResult<Option<String>> {
    let Some(text) = parameter(query, name).filter(|text| !text.is_empty()) else { return Ok(None) };
    if words.contains(&text.as_str()) {
        return Ok(Some(text));
    }
    Err(bad_parameter(name, wrong_word(&Value::from(text), words)))
}

/// The calls of the account that are up on this node, oldest first.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", params(CallQuery),
    responses((status = 200, body = LiveCalls), Refusals))]
async fn calls(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<LiveCalls>> {
    caller.may("calls:read")?;
    let query = query.as_deref();
    let limit = integer(query, "limit", 1..=1_000)?.unwrap_or(1_000);
    let statuses: Vec<&str> = LIVE.iter().map(|status| status.as_str()).collect();
    let status = word(query, "status", &statuses)?;
    let way = word(query, "direction", &["inbound", "outbound"])?;
    let asked = |name: &str| parameter(query, name).filter(|text| !text.is_empty());
    let (trunk, from, to) = (asked("trunk_id"), asked("from"), asked("to"));
    let agent = asked("agent_id").map(|id| canonical_uuid(&id));
    // As routing compares them: a plus, which without its escape arrives as a blank, and separators say nothing.
    let key = |number: &str| dialled::stored_key(number).unwrap_or_else(|| number.to_owned());
    let fits = |record: &CallRecord| {
        trunk.as_ref().is_none_or(|trunk| record.trunk.as_str() == trunk)
            && agent.as_ref().is_none_or(|agent| record.agent.as_str() == agent)
            && status.as_ref().is_none_or(|status| record.status.as_str() == status)
            && way.as_ref().is_none_or(|way| direction(record) == way)
            && from.as_ref().is_none_or(|from| key(&record.from) == key(from))
            && to.as_ref().is_none_or(|to| key(&record.to) == key(to))
    };
    let fitting: Vec<CallRecord> = app.journal().live(&caller.account).into_iter().filter(fits).collect();
    let shown = fitting.iter().take(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Json(LiveCalls { data: shown.map(live_call).collect(), total: fitting.len() }))
}

/// One call that is up.
#[utoipa::path(get, path = "/v1/calls/{call_id}", tag = "calls", params(("call_id" = String, Path)),
    responses((status = 200, body = LiveCallDetail), Refusals, Missing))]
async fn call(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<LiveCallDetail>> {
    caller.may("calls:read")?;
    let record = live(&app, &caller, &id)?;
    let media = media_of(&app, &record).await?;
    Ok(Json(LiveCallDetail { call: live_call(&record), media, incidents: record.incidents }))
}

/// What the media thread has counted, joined with what signalling knows.
async fn media_of(app: &App, record: &CallRecord) -> ApiResult<Option<MediaSummary>> {
    if record.status != CallStatus::InProgress {
        return Ok(None);
    }
    let (answer, answered) = oneshot::channel();
    app.command(CallCommand::MediaReport(MediaReport::new(record.id, answer)))?;
    // The call may end while it is asked.
    let Ok(Ok(statistics)) = tokio::time::timeout(MEDIA_PATIENCE, answered).await else { return Ok(None) };
    Ok(Some(MediaSummary {
        local: record.media.local,
        digits: record.media.digits,
        recording: record.media.recording.clone(),
        ..MediaSummary::of(&statistics)
    }))
}

/// The SIP messages of a call that is over, as long as this node remembers them.
#[utoipa::path(get, path = "/v1/calls/{call_id}/ladder", tag = "calls", params(("call_id" = String, Path)),
    responses((status = 200, body = CallLadder), Refusals, Missing))]
async fn ladder(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<CallLadder>> {
    caller.may("calls:read")?;
    let account = AccountId::from(caller.account.as_str());
    let found = Uuid::try_parse(&canonical_uuid(&id)).ok().map(CallId);
    let found = found.and_then(|id| Some((id, app.0.ladders.of(&account, id)?)));
    let (id, rungs) = found.ok_or_else(|| {
        ApiError::not_found("Ladder not found").at(
            "call_id",
            "no call of this account that ended on this node lately has this id; a ladder is kept once its call is over",
        )
    })?;
    Ok(Json(CallLadder { call_id: id.to_string(), data: rungs.iter().map(LadderRung::of).collect() }))
}

/// Breaks a call off: it ends as `stopped`.
#[utoipa::path(post, path = "/v1/calls/{call_id}/hangup", tag = "calls", params(("call_id" = String, Path)),
    responses((status = 202, body = Commanded), Refusals, Missing, BadBody))]
async fn hang_up(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<Commanded>)> {
    caller.may("calls:write")?;
    let call = live(&app, &caller, &id)?;
    app.command(CallCommand::HangUp(call.id))?;
    app.store().note_request(&caller.account, "call", &call.id.to_string()).await?;
    Ok(Commanded::call(call.id))
}

/// Sends digits to the caller, as RFC 4733 events where the carrier negotiated them.
#[utoipa::path(post, path = "/v1/calls/{call_id}/dtmf", tag = "calls", params(("call_id" = String, Path)),
    request_body = DigitsBody, responses((status = 202, body = Commanded), Refusals, Missing, BadBody))]
async fn send_digits(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    Body(object): Body,
) -> ApiResult<(StatusCode, Json<Commanded>)> {
    caller.may("calls:write")?;
    let fields = Fields::new(&object, "");
    let mut faults = Faults::default();
    let digits = fields.text("digits", Text::Line(MOST_DIGITS), &mut faults).unwrap_or_default().to_owned();
    let is_digit = |c: char| matches!(c, '0'..='9' | 'A'..='D' | 'a'..='d' | '*' | '#');
    if let Some(other) = digits.chars().find(|c| !is_digit(*c)) {
        faults.push("digits", format!("holds {other:?}; give digits, *, # and the letters A to D"));
    } else if digits.is_empty() && !faults.touches("digits") {
        faults.push("digits", "is missing or empty; give 1 to 32 digits such as \"123#\"");
    }
    let duration = fields.integer("duration_ms", DIGIT_MS, &mut faults);
    faults.finish()?;
    let duration_ms = duration.and_then(|ms| u16::try_from(ms).ok()).unwrap_or(USUAL_DIGIT_MS);
    let call = live(&app, &caller, &id)?;
    if call.status != CallStatus::InProgress {
        return Err(ApiError::new(StatusCode::CONFLICT, "The call is not answered yet").at(
            "call_id",
            format!("its status is {}; digits can be sent while it is in-progress", call.status.as_str()),
        ));
    }
    app.command(CallCommand::SendDtmf { call: call.id, digits, duration_ms })?;
    app.store().note_request(&caller.account, "call", &call.id.to_string()).await?;
    Ok(Commanded::call(call.id))
}

/// A call of the account that is up on this node.
pub(super) fn live(app: &App, caller: &Caller, id: &str) -> ApiResult<CallRecord> {
    Uuid::try_parse(&canonical_uuid(id))
        .ok()
        .and_then(|id| app.journal().live_call(&caller.account, CallId(id)))
        .ok_or_else(|| {
            ApiError::not_found("Call not found").at(
                "call_id",
                "no call of this account that is up on this node has this id; GET /executions/{id} shows those that are over",
            )
        })
}
