//! The body of `POST /call`: Bolna's fields, and the names its guide has for two of them.
//!
//! What can be wrong with a number is no fault of the body: such a call is accepted and its execution fails, as the
//! vendor's does.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use serde_json::{Map, Value};
use tandem_call::{CallStatus, is_free_header};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;
use utoipa::ToSchema;

use super::shapes::naive;
use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::{Faults, Fields, Text, describe, whole, wrong_word};
use crate::ids::canonical_uuid;
use crate::store::{CallOrder, RetryRules};

const BAD: StatusCode = StatusCode::BAD_REQUEST;

/// Longest number, separators and all.
const MOST_DIGITS: usize = 64;

/// How far ahead a scheduled call has to be.
const AHEAD_MS: i64 = 120_000;

/// Longest wait for a next attempt: a week.
const MOST_MINUTES: i64 = 10_080;

/// Headers that an order may add to its INVITE.
const MOST_HEADERS: usize = 16;

/// Ends after which a call may be tried again.
const RETRIED: &[CallStatus] =
    &[CallStatus::NoAnswer, CallStatus::Busy, CallStatus::Failed, CallStatus::Error];

/// A call to be placed.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct CallBody {
    /// The agent that calls.
    #[schema(min_length = 1, max_length = 128, pattern = r"^[!-~]+$")]
    agent_id: String,
    /// Whom to call, in E.164. May be left out where `recipient` has it.
    #[schema(min_length = 1, max_length = 64, pattern = r"^[!-~]+$", example = "+918800001234")]
    recipient_phone_number: String,
    /// The guide's form of the same.
    #[schema(required = false)]
    recipient: Option<Recipient>,
    /// The number to call from, one of the account's. Without it the first that the agent answers, or the first of all.
    #[schema(max_length = 64, pattern = r"^[ -~]*$", required = false, example = "+919876543210")]
    from_phone_number: Option<String>,
    /// The guide's name of the same.
    #[schema(max_length = 64, pattern = r"^[ -~]*$", required = false)]
    from_number: Option<String>,
    /// When to call, ISO 8601 with its offset from UTC, at least two minutes ahead. Without it at once.
    #[schema(required = false, format = DateTime, min_length = 20, max_length = 64, example = "2026-12-01T10:00:00+05:30")]
    scheduled_at: Option<String>,
    /// Facts of the recipient, for the agent.
    #[schema(required = false, value_type = Option<Object>)]
    user_data: Option<Map<String, Value>>,
    /// What is wanted of the agent for this call, such as `voice_id`.
    #[schema(required = false, value_type = Option<Object>)]
    agent_data: Option<Map<String, Value>>,
    /// Headers for the INVITE: `X-…`, `P-…` that SIP here has no use of its own for, `Diversion`, `Privacy`, `User-to-User`,
    /// `Subject`, `Call-Info`, `Alert-Info`, `Priority`; at most 16.
    #[schema(required = false, value_type = Option<Object>, example = json!({"X-Campaign": "spring"}))]
    sip_headers: Option<Map<String, Value>>,
    /// How long it may ring; the node's `limits.ringing_seconds` without it.
    #[schema(required = false, minimum = 1, maximum = 180)]
    ringing_timeout_seconds: Option<u32>,
    /// When to try again.
    #[schema(required = false)]
    retry_config: Option<RetryBody>,
    /// Call outside the agent's `calling_guardrails` too.
    #[schema(required = false)]
    bypass_call_guardrails: Option<bool>,
}

/// Whom to call, as the guide has it.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct Recipient {
    /// In E.164.
    #[schema(max_length = 64, pattern = r"^[ -~]*$", required = false)]
    phone_number: Option<String>,
    /// Goes into `user_data`.
    #[schema(max_length = 255, pattern = r"^[ -~]*$", required = false)]
    name: Option<String>,
}

/// When a call is tried again.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct RetryBody {
    /// At all; false without it.
    #[schema(required = false)]
    enabled: Option<bool>,
    /// How often; 3 without it.
    #[schema(minimum = 1, maximum = 3, required = false)]
    max_retries: Option<u32>,
    /// After which ends; `no-answer`, `busy` and `failed` without it.
    #[schema(required = false, max_items = 4)]
    retry_on_statuses: Option<Vec<RetriedStatus>>,
    /// After an answering machine too; false without it.
    #[schema(required = false)]
    retry_on_voicemail: Option<bool>,
    /// Minutes after each attempt, the last for all that follow; 30, 60, 120 without it.
    #[schema(required = false, min_items = 1, max_items = 3)]
    retry_intervals_minutes: Option<Vec<RetryMinutes>>,
}

/// Minutes until the next attempt.
#[derive(ToSchema)]
#[schema(minimum = 1, maximum = 10_080)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) struct RetryMinutes(u32);

/// An end after which a call may be tried again.
#[derive(ToSchema)]
#[schema(rename_all = "kebab-case")]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
pub(super) enum RetriedStatus {
    NoAnswer,
    Busy,
    Failed,
    Error,
}

/// What the body asks: the agent, and what of it.
#[derive(Debug, PartialEq)]
pub(super) struct Asked {
    pub(super) agent: String,
    pub(super) order: CallOrder,
}

/// Reads a call.
pub(super) fn call(object: &Map<String, Value>, faults: &mut Faults) -> Option<Asked> {
    let before = faults.len();
    let fields = Fields::new(object, "");
    let agent = required(&fields, "agent_id", 128, faults);
    let direct = fields.text("recipient_phone_number", Text::Line(MOST_DIGITS), faults);
    let (guided, name) = match fields.object("recipient", faults) {
        Some(recipient) => (
            recipient.text("phone_number", Text::Line(MOST_DIGITS), faults),
            recipient.text("name", Text::Line(255), faults),
        ),
        None => (None, None),
    };
    let recipient = filled(direct).or(filled(guided));
    if recipient.is_none() && !faults.touches("recipient_phone_number") && !faults.touches("recipient") {
        faults.constant(
            BAD,
            "recipient_phone_number is required",
            "recipient_phone_number",
            "is missing or empty; give the number to call in E.164, such as \"+14155550100\"",
        );
    }
    let own = fields.text("from_phone_number", Text::Line(MOST_DIGITS), faults);
    let alias = fields.text("from_number", Text::Line(MOST_DIGITS), faults);
    let mut user_data = free_object(&fields, "user_data", faults).unwrap_or_default();
    if let Some(name) = filled(name) {
        user_data.entry("name").or_insert_with(|| name.into());
    }
    let order = CallOrder {
        recipient: recipient.unwrap_or_default().to_owned(),
        from: filled(own).or(filled(alias)).map(str::to_owned),
        user_data,
        agent_data: agent_data(&fields, faults),
        sip_headers: sip_headers(&fields, faults),
        ringing_seconds: fields
            .integer("ringing_timeout_seconds", 1..=180, faults)
            .and_then(|seconds| u32::try_from(seconds).ok()),
        retry: retry_rules(&fields, faults),
        bypass_call_guardrails: fields.switch("bypass_call_guardrails", faults).unwrap_or(false),
        scheduled_at: time_of(&fields, "scheduled_at", faults),
        ..CallOrder::default()
    };
    (faults.len() == before).then(|| Asked { agent: canonical_uuid(agent.unwrap_or_default()), order })
}

/// A text that must be there and hold something; one line of at most so many characters.
pub(super) fn required<'a>(
    fields: &Fields<'a>,
    name: &str,
    most: usize,
    faults: &mut Faults,
) -> Option<&'a str> {
    let text = filled(fields.text(name, Text::Line(most), faults));
    if text.is_none() && !faults.touches(name) {
        faults.constant(BAD, &format!("{name} is required"), name, "is missing or empty");
    }
    text
}

fn filled(text: Option<&str>) -> Option<&str> {
    text.map(str::trim).filter(|text| !text.is_empty())
}

fn free_object(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<Map<String, Value>> {
    let object = fields.object(name, faults)?;
    Some(object.entries().map(|(name, value)| (name.clone(), value.clone())).collect())
}

fn agent_data(fields: &Fields<'_>, faults: &mut Faults) -> Option<Map<String, Value>> {
    let object = fields.object("agent_data", faults)?;
    object.text("voice_id", Text::Line(255), faults);
    Some(object.entries().map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Headers for an INVITE.
pub(in crate::api) fn sip_headers(fields: &Fields<'_>, faults: &mut Faults) -> BTreeMap<String, String> {
    let Some(object) = fields.object("sip_headers", faults) else { return BTreeMap::new() };
    let mut headers = BTreeMap::new();
    for (name, value) in object.entries() {
        let at = object.location(name);
        match value.as_str() {
            Some(value) if is_free_header(name, value) => {
                headers.insert(name.clone(), value.to_owned());
            }
            Some(_) => faults.push(
                at,
                "this header cannot be added; give X-… headers, Diversion, Privacy, User-to-User, Subject, Call-Info, \
                 Alert-Info or Priority, with a value of one line and at most 512 bytes",
            ),
            None => faults.push(at, format!("{} was given; give a text", describe(value))),
        }
    }
    if headers.len() > MOST_HEADERS {
        let message = format!("{} headers were given; {MOST_HEADERS} are the most", headers.len());
        faults.push("sip_headers", message);
    }
    headers
}

/// A time, whenever that is.
pub(super) fn time_of(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<i64> {
    let text = fields.text(name, Text::Line(64), faults)?;
    let at = instant(text);
    if at.is_none() {
        faults.push(fields.location(name), no_time(text));
    }
    at
}

/// What is wrong with a text that is no time.
pub(in crate::api) fn no_time(text: &str) -> String {
    format!(
        "the text {text:?} was given; give an ISO 8601 time with its offset, such as \"2026-12-01T10:00:00+05:30\""
    )
}

/// Holds a time against the vendor's rule: at least two minutes ahead.
pub(super) fn check_ahead(at: i64, name: &str, now_ms: i64) -> ApiResult<()> {
    if at >= now_ms.saturating_add(AHEAD_MS) {
        return Ok(());
    }
    let message = format!(
        "{}Z was given; give a time at least two minutes from now, or none to call at once",
        naive(at)
    );
    Err(ApiError::new(BAD, "Scheduled time should be atleast 2 minutes in the future").at(name, message))
}

/// A time of ISO 8601 with its offset, in milliseconds since 1970.
pub(in crate::api) fn instant(text: &str) -> Option<i64> {
    let at = OffsetDateTime::parse(text.trim(), &Iso8601::DEFAULT).ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

fn retry_rules(fields: &Fields<'_>, faults: &mut Faults) -> RetryRules {
    match fields.object("retry_config", faults) {
        Some(retry) => read_retry_rules(&retry, faults),
        None => RetryRules::default(),
    }
}

/// Reads `retry_config`.
pub(super) fn read_retry_rules(retry: &Fields<'_>, faults: &mut Faults) -> RetryRules {
    let defaults = RetryRules::default();
    let max_retries = retry.integer("max_retries", 1..=3, faults);
    RetryRules {
        enabled: retry.switch("enabled", faults).unwrap_or(defaults.enabled),
        max_retries: max_retries.and_then(|most| u32::try_from(most).ok()).unwrap_or(defaults.max_retries),
        retry_on_statuses: statuses(retry, faults).unwrap_or(defaults.retry_on_statuses),
        retry_on_voicemail: retry.switch("retry_on_voicemail", faults).unwrap_or(defaults.retry_on_voicemail),
        retry_intervals_minutes: intervals(retry, faults).unwrap_or(defaults.retry_intervals_minutes),
    }
}

fn statuses(retry: &Fields<'_>, faults: &mut Faults) -> Option<Vec<CallStatus>> {
    let words: Vec<&str> = RETRIED.iter().map(|status| status.as_str()).collect();
    let items = list(retry, "retry_on_statuses", RETRIED.len(), "\"no-answer\"", faults)?;
    let mut statuses = Vec::new();
    for (at, item) in items.iter().enumerate() {
        let known = item.as_str().and_then(CallStatus::from_word).filter(|status| RETRIED.contains(status));
        match known {
            Some(status) if !statuses.contains(&status) => statuses.push(status),
            Some(_) => {}
            None => {
                let location = format!("{}[{at}]", retry.location("retry_on_statuses"));
                faults.push(location, wrong_word(item, &words));
            }
        }
    }
    Some(statuses)
}

fn intervals(retry: &Fields<'_>, faults: &mut Faults) -> Option<Vec<u32>> {
    let name = "retry_intervals_minutes";
    let items = list(retry, name, 3, "30", faults)?;
    if items.is_empty() {
        faults.push(retry.location(name), "an empty list was given; give one to three numbers of minutes");
    }
    let mut minutes = Vec::new();
    for (at, item) in items.iter().enumerate() {
        match whole(item).filter(|minutes| (1..=MOST_MINUTES).contains(minutes)) {
            Some(one) => minutes.push(u32::try_from(one).unwrap_or(u32::MAX)),
            None => faults.push(
                format!("{}[{at}]", retry.location(name)),
                format!(
                    "{} was given; give a whole number of minutes from 1 to {MOST_MINUTES}",
                    describe(item)
                ),
            ),
        }
    }
    Some(minutes)
}

fn list<'a>(
    fields: &Fields<'a>,
    name: &str,
    most: usize,
    example: &str,
    faults: &mut Faults,
) -> Option<&'a Vec<Value>> {
    let value = fields.value(name)?;
    match value {
        Value::Array(items) if items.len() <= most => Some(items),
        Value::Array(items) => {
            faults.push(
                fields.location(name),
                format!("{} items were given; {most} are the most", items.len()),
            );
            None
        }
        other => {
            faults.push(
                fields.location(name),
                format!("{} was given; give a list such as [{example}]", describe(other)),
            );
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(body: Value) -> Result<Asked, ApiError> {
        let mut faults = Faults::default();
        let asked = call(body.as_object().unwrap(), &mut faults);
        faults.finish()?;
        Ok(asked.unwrap())
    }

    #[test]
    fn the_guides_names_and_the_apis_mean_the_same_and_the_apis_win() {
        let guide = read(json!({"agent_id": "agt-0191b2c3-d4e5-4f60-8a7b-8c9d0e1f2a3b",
            "recipient": {"phone_number": "+918800001234", "name": "Rahul Sharma"}, "from_number": "+91987"}));
        let guide = guide.unwrap();
        assert_eq!(guide.agent, "0191b2c3-d4e5-4f60-8a7b-8c9d0e1f2a3b");
        assert_eq!(guide.order.recipient, "+918800001234");
        assert_eq!(guide.order.from.as_deref(), Some("+91987"));
        assert_eq!(guide.order.user_data["name"], "Rahul Sharma");
        let both = read(json!({"agent_id": "a", "recipient_phone_number": "+1", "from_phone_number": "+2",
            "recipient": {"phone_number": "+3", "name": "x"}, "from_number": "+4", "user_data": {"name": "y"}}));
        let both = both.unwrap().order;
        assert_eq!((both.recipient.as_str(), both.from.as_deref()), ("+1", Some("+2")));
        assert_eq!(both.user_data["name"], "y");
    }

    #[test]
    fn times_are_read_with_every_offset_and_must_lie_ahead() {
        assert_eq!(instant("1970-01-01T00:20:00Z"), Some(1_200_000));
        assert_eq!(instant("1970-01-01T05:50:00+05:30"), Some(1_200_000));
        assert_eq!(instant("1970-01-01T00:20:00.500+00:00"), Some(1_200_500));
        assert_eq!(instant("1970-01-01T00:20:00"), None, "without an offset nobody knows when");
        let body = |at: &str| json!({"agent_id": "a", "recipient_phone_number": "+1", "scheduled_at": at});
        assert_eq!(read(body("1970-01-01T00:20:00Z")).unwrap().order.scheduled_at, Some(1_200_000));
        assert_eq!(check_ahead(1_120_000, "scheduled_at", 1_000_000), Ok(()));
        let error = check_ahead(1_119_999, "scheduled_at", 1_000_000).unwrap_err();
        assert_eq!(error.message, "Scheduled time should be atleast 2 minutes in the future");
        assert_eq!(error.errors[0].location, "scheduled_at");
        assert!(read(body("tomorrow")).unwrap_err().message.contains("ISO 8601"));
    }

    #[test]
    fn headers_and_the_bound_on_ringing_are_read_and_refused_by_name() {
        let body = |more: Value| {
            let mut body = json!({"agent_id": "a", "recipient_phone_number": "+1"});
            body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            read(body)
        };
        let order = body(json!({"sip_headers": {"X-Campaign": "spring"}, "ringing_timeout_seconds": 20}));
        let order = order.unwrap().order;
        assert_eq!((order.sip_headers["X-Campaign"].as_str(), order.ringing_seconds), ("spring", Some(20)));
        for (more, location) in [
            (json!({"sip_headers": {"Route": "<sip:a>"}}), "sip_headers.Route"),
            (json!({"sip_headers": {"X-A": "1\r\nVia: x"}}), "sip_headers.X-A"),
            (json!({"sip_headers": {"X-A": 1}}), "sip_headers.X-A"),
            (json!({"ringing_timeout_seconds": 181}), "ringing_timeout_seconds"),
        ] {
            assert_eq!(body(more).unwrap_err().errors[0].location, location);
        }
    }

    #[test]
    fn retry_rules_have_the_documented_defaults_and_bounds() {
        let asked =
            read(json!({"agent_id": "a", "recipient_phone_number": "+1", "retry_config": {"enabled": true}}));
        let rules = asked.unwrap().order.retry;
        assert_eq!(rules, RetryRules { enabled: true, ..RetryRules::default() });
        for (retry, location) in [
            (json!({"max_retries": 4}), "retry_config.max_retries"),
            (json!({"retry_on_statuses": ["completed"]}), "retry_config.retry_on_statuses[0]"),
            (json!({"retry_on_statuses": "busy"}), "retry_config.retry_on_statuses"),
            (json!({"retry_intervals_minutes": []}), "retry_config.retry_intervals_minutes"),
            (json!({"retry_intervals_minutes": ["30"]}), "retry_config.retry_intervals_minutes[0]"),
            (json!(true), "retry_config"),
        ] {
            let body = json!({"agent_id": "a", "recipient_phone_number": "+1", "retry_config": retry});
            let error = read(body).unwrap_err();
            assert_eq!(error.errors[0].location, location);
        }
    }
}
