//! `/v1/verdicts`: what came of the last INVITEs.

use axum::Json;
use axum::extract::{RawQuery, State};
use serde_json::{Value, json};
use tandem_call::VerdictCode;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::error::ApiResult;
use crate::api::fields::wrong_word;
use crate::api::query::{bad_parameter, integer, parameter};
use crate::store::VerdictFilter;

/// `GET /v1/verdicts?limit=&before=&code=`: what came of the account's last INVITEs, newest first.
pub(super) async fn list(
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
