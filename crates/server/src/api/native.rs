//! `/v1`: Tandem's own endpoints, and the reading of query parameters.

use std::ops::RangeInclusive;

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde_json::{Value, json};
use tandem_call::{AccountId, CallId, CallRecord, VerdictCode};
use uuid::Uuid;

use super::auth::Caller;
use super::body::Path;
use super::error::{ApiError, ApiResult};
use super::fields::wrong_word;
use super::{App, CallCommand, shapes};
use crate::ids::canonical_uuid;
use crate::store::VerdictFilter;

/// `GET /v1/calls`: the calls that are up on this node, oldest first.
pub(super) async fn calls(State(app): State<App>, caller: Caller) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    let calls: Vec<Value> = app.journal().live(&caller.account).iter().map(shapes::live_call).collect();
    Ok(Json(json!({"data": calls, "total": calls.len()})))
}

/// `GET /v1/calls/{call_id}`
pub(super) async fn call(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    Ok(Json(shapes::live_call(&live(&app, &caller, &id)?)))
}

/// `GET /v1/calls/{call_id}/ladder`: the SIP messages of a call that is over, as long as this node remembers them.
pub(super) async fn ladder(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    let account = AccountId::from(caller.account.as_str());
    let id = Uuid::try_parse(&canonical_uuid(&id)).ok().map(CallId);
    let rungs = id.and_then(|id| app.0.ladders.of(&account, id)).ok_or_else(|| {
        ApiError::not_found("Ladder not found").at(
            "call_id",
            "no call of this account that ended on this node lately has this id; a ladder is kept once its call is over",
        )
    })?;
    Ok(Json(json!({"call_id": id, "data": *rungs})))
}

/// `POST /v1/calls/{call_id}/hangup`
pub(super) async fn hang_up(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<(StatusCode, Json<Value>)> {
    caller.may("calls:write")?;
    let call = live(&app, &caller, &id)?;
    app.command(CallCommand::HangUp(call.id))?;
    Ok((StatusCode::ACCEPTED, Json(json!({"message": "done", "id": call.id}))))
}

fn live(app: &App, caller: &Caller, id: &str) -> ApiResult<CallRecord> {
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

/// `GET /v1/verdicts?limit=&before=&code=`: what came of the account's last INVITEs, newest first.
pub(super) async fn verdicts(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Json<Value>> {
    caller.may("calls:read")?;
    let query = query.as_deref();
    let limit = integer(query, "limit", 1..=500)?.unwrap_or(50);
    let code = parameter(query, "code");
    if let Some(code) = &code {
        let words: Vec<&str> = VerdictCode::ALL.iter().map(|code| code.as_str()).collect();
        if !words.contains(&code.as_str()) {
            return Err(bad_parameter("code", wrong_word(&Value::from(code.as_str()), &words)));
        }
    }
    let filter = VerdictFilter {
        code,
        before: integer(query, "before", 0..=i64::MAX)?,
        limit: u32::try_from(limit).unwrap_or(50),
    };
    let verdicts = app.store().verdicts(&caller.account, &filter).await?;
    let next = verdicts
        .last()
        .filter(|_| verdicts.len() as i64 == limit)
        .and_then(|verdict| verdict.get("at_unix_ms"))
        .cloned();
    Ok(Json(json!({"data": verdicts, "next_before": next})))
}

/// A switch of the query: `true`, `false`, `1`, `0`, in any case.
pub(super) fn switch(query: Option<&str>, name: &str) -> ApiResult<Option<bool>> {
    let Some(text) = parameter(query, name) else { return Ok(None) };
    match text.to_ascii_lowercase().as_str() {
        "" => Ok(None),
        "true" | "1" => Ok(Some(true)),
        "false" | "0" => Ok(Some(false)),
        _ => Err(bad_parameter(name, format!("{text:?} was given; give true or false"))),
    }
}

/// A whole number of the query.
pub(super) fn integer(query: Option<&str>, name: &str, range: RangeInclusive<i64>) -> ApiResult<Option<i64>> {
    let Some(text) = parameter(query, name).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.parse().ok().filter(|number| range.contains(number)) {
        Some(number) => Ok(Some(number)),
        None => Err(bad_parameter(
            name,
            format!("{text:?} was given; give a whole number from {} to {}", range.start(), range.end()),
        )),
    }
}

fn bad_parameter(name: &str, message: String) -> ApiError {
    ApiError::new(StatusCode::BAD_REQUEST, format!("{name}: {message}")).at(name, message)
}

/// A parameter of the query, its escapes undone.
pub(super) fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    query?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (unescaped(key) == name).then(|| unescaped(value))
    })
}

fn unescaped(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escaped = (byte == b'%')
            .then(|| bytes.get(at + 1..at + 3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match escaped {
            Some(value) => {
                out.push(value);
                at += 3;
            }
            None => {
                out.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_found_and_their_escapes_undone() {
        let query = Some("a=1&b=x%20y+z&c&%64=%zz");
        assert_eq!(parameter(query, "b").as_deref(), Some("x y z"));
        assert_eq!(parameter(query, "c").as_deref(), Some(""));
        assert_eq!(parameter(query, "d").as_deref(), Some("%zz"));
        assert_eq!(parameter(query, "e"), None);
        assert_eq!(parameter(None, "a"), None);
    }
}
