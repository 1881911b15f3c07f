//! `/v1/verdicts`: what came of the last INVITEs to this account's numbers and trunks, the refused ones too, and those
//! of strangers. What concerns no account is the operator's alone: `default` sees it with `unassigned=true`.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde::Serialize;
use serde_json::Value;
use tandem_call::{CallDirection, Step, StepOutcome, Verdict, VerdictCode};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::routing::source_of;
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::error::{ApiError, ApiResult, Refusals};
use crate::api::fields::wrong_word;
use crate::api::query::{bad_parameter, integer, parameter, switch};
use crate::api::schemas;
use crate::store::VerdictFilter;

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list))
}

/// What came of an INVITE.
#[derive(Serialize, ToSchema)]
pub(super) struct ShownVerdict {
    /// Its identifier; all zeros for a route test.
    id: String,
    /// When, in milliseconds since 1970 UTC; 0 for a route test.
    at_unix_ms: u64,
    /// `inbound`, or `outbound` for an INVITE of ours.
    #[schema(example = "inbound")]
    direction: &'static str,
    /// What came of it, as a stable word.
    #[schema(example = "number_without_agent")]
    code: &'static str,
    /// The SIP status sent, or for an INVITE of ours the one that came.
    #[schema(minimum = 100, maximum = 699)]
    status: u16,
    /// Where the INVITE came from, or where ours went last.
    source: String,
    /// By which transport.
    transport: &'static str,
    /// The Request-URI.
    request_uri: String,
    /// The From header.
    from: String,
    /// The To header.
    to: String,
    /// The Call-ID.
    sip_call_id: String,
    /// The User-Agent header.
    user_agent: String,
    /// The call that came of it.
    #[schema(required)]
    call: Option<String>,
    /// The trunk, as far as it was found.
    #[schema(required)]
    trunk: Option<String>,
    /// The number, as far as it was found.
    #[schema(required)]
    number: Option<String>,
    /// The agent, as far as it was found.
    #[schema(required)]
    agent: Option<String>,
    /// What was looked at, in order.
    trace: Vec<ShownStep>,
    /// What nearly fitted.
    near_misses: Vec<String>,
    /// What can be done about it.
    remedy: String,
}

/// One step of a verdict.
#[derive(Serialize, ToSchema)]
struct ShownStep {
    /// What was looked at.
    #[schema(example = "source")]
    check: String,
    /// The thing itself: a number, an address, a trunk's name.
    subject: String,
    /// `passed`, `failed` or `noted`.
    outcome: &'static str,
    /// Why, in words.
    detail: String,
}

/// A page of verdicts.
#[derive(Serialize, ToSchema)]
struct Verdicts {
    /// Newest first.
    data: Vec<ShownVerdict>,
    /// The next page's `cursor`; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
    /// The next page's `before`, for clients that page by time; null at the end.
    #[schema(required)]
    next_before: Option<i64>,
}

/// Which verdicts.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
struct VerdictQuery {
    /// Only this code.
    #[param(schema_with = schemas::verdict_code)]
    code: Option<String>,
    /// Only those that concern this trunk.
    trunk: Option<String>,
    /// Only those to this number: its identifier, or the digits dialled, with or without `+`.
    number: Option<String>,
    /// Only those from this address, whatever the port.
    #[param(schema_with = schemas::address)]
    source: Option<String>,
    /// Only those since this time, milliseconds since 1970 UTC.
    #[param(minimum = 0)]
    since: Option<i64>,
    /// Only those before this time, milliseconds since 1970 UTC.
    #[param(minimum = 0)]
    before: Option<i64>,
    /// Instead of the account's own: those that concern no account at all. The operator's alone.
    unassigned: Option<bool>,
    /// At most so many.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<i64>,
    /// The `next_cursor` of the page before.
    cursor: Option<String>,
}

impl ShownVerdict {
    pub(super) fn of(verdict: Verdict) -> Self {
        Self {
            id: verdict.id.to_string(),
            at_unix_ms: verdict.at_unix_ms,
            direction: match verdict.direction {
                CallDirection::Inbound => "inbound",
                CallDirection::Outbound => "outbound",
            },
            code: verdict.code.as_str(),
            status: verdict.status,
            source: verdict.source.to_string(),
            transport: verdict.transport.uri_name(),
            request_uri: verdict.request_uri,
            from: verdict.from,
            to: verdict.to,
            sip_call_id: verdict.sip_call_id,
            user_agent: verdict.user_agent,
            call: verdict.call.map(|call| call.to_string()),
            trunk: verdict.trunk.map(|trunk| trunk.to_string()),
            number: verdict.number.map(|number| number.to_string()),
            agent: verdict.agent.map(|agent| agent.to_string()),
            trace: verdict.trace.into_iter().map(ShownStep::of).collect(),
            near_misses: verdict.near_misses,
            remedy: verdict.remedy.into_owned(),
        }
    }
}

impl ShownStep {
    fn of(step: Step) -> Self {
        let check = serde_json::to_value(step.check).ok();
        Self {
            check: check.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned(),
            subject: step.subject.to_string(),
            outcome: match step.outcome {
                StepOutcome::Passed => "passed",
                StepOutcome::Failed => "failed",
                StepOutcome::Noted => "noted",
            },
            detail: step.detail.into_owned(),
        }
    }
}

/// What came of the account's last INVITEs, newest first.
#[utoipa::path(get, path = "/v1/verdicts", tag = "verdicts", params(VerdictQuery),
    responses((status = 200, body = Verdicts), Refusals))]
async fn list(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Verdicts>> {
    caller.may("calls:read")?;
    let query = query.as_deref();
    let asked = |name: &str| parameter(query, name).filter(|text| !text.is_empty());
    let limit = integer(query, "limit", 1..=500)?.unwrap_or(50);
    let code = parameter(query, "code");
    if let Some(code) = &code {
        let words: Vec<&str> = VerdictCode::ALL.iter().map(|code| code.as_str()).collect();
        if !words.contains(&code.as_str()) {
            return Err(bad_parameter("code", wrong_word(&Value::from(code.as_str()), &words)));
        }
    }
    let source = match parameter(query, "source") {
        Some(text) => {
            let reason = || format!("{text:?} was given; give an address such as 192.0.2.9");
            let source = source_of(&text).ok_or_else(|| bad_parameter("source", reason()))?;
            Some(source.ip().to_string())
        }
        None => None,
    };
    let is_unassigned = switch(query, "unassigned")?.unwrap_or(false);
    if is_unassigned && !caller.is_operator() {
        return Err(ApiError::new(
            axum::http::StatusCode::FORBIDDEN,
            "Verdicts that concern no account are the operator's",
        )
        .at("unassigned", "leave it out, or ask with a key of the account default"));
    }
    let limit = u32::try_from(limit).unwrap_or(50);
    let filter = VerdictFilter {
        code,
        trunk: asked("trunk"),
        number: asked("number"),
        source,
        since: integer(query, "since", 0..=i64::MAX)?,
        before: integer(query, "before", 0..=i64::MAX)?,
        cursor: asked("cursor"),
        limit: limit + 1,
    };
    let account = if is_unassigned { "" } else { caller.account.as_str() };
    let mut verdicts: Vec<Verdict> = Vec::new();
    for verdict in app.store().verdicts(account, &filter).await? {
        verdicts.push(serde_json::from_value(verdict).map_err(|error| {
            tracing::error!(%error, "a stored verdict cannot be read");
            ApiError::unavailable("A stored verdict cannot be read")
        })?);
    }
    let has_more = verdicts.len() > limit as usize;
    verdicts.truncate(limit as usize);
    let last = verdicts.last().filter(|_| has_more);
    let next_before = last.and_then(|verdict| i64::try_from(verdict.at_unix_ms).ok());
    let next_cursor = last.map(|verdict| format!("{}.{}", verdict.at_unix_ms, verdict.id));
    let data = verdicts.into_iter().map(ShownVerdict::of).collect();
    Ok(Json(Verdicts { data, next_cursor, next_before }))
}
