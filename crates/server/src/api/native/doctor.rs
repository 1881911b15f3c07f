//! `/v1/trunks/{trunk_id}/doctor`: examines the way to a trunk's carrier, step by step, and shows what was found.
//!
//! An examination takes seconds, with a call most of a minute: POST answers at once, GET shows how far it is, and the last
//! ones. They are kept in memory, on the node that made them.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{MaybeBody, Path};
use crate::api::bolna::find_trunk;
use crate::api::error::{ApiError, ApiResult, BadBody, Missing, Refusals};
use crate::api::fields::{Faults, Fields, Text};
use crate::api::times::zulu;
use crate::doctor::{Busy, Examination, Patient, Step};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(examine, examinations))
}

/// What is to be examined besides the way to the gateways.
#[derive(ToSchema)]
#[expect(dead_code, reason = "read by the derive alone: bodies are read by crate::api::fields")]
struct DoctorBody {
    /// A number to call by the trunk: a melody is played, and what is heard is compared with it. Best one that echoes, as
    /// carriers' test numbers do. Without it no call is placed.
    #[schema(pattern = r"^\+?[0-9*#]{2,20}$", required = false, nullable, example = "+918800001234")]
    number: Option<String>,
    /// The number to call from; without it: `anonymous`.
    #[schema(pattern = r"^\+?[0-9]{2,20}$", required = false, nullable)]
    from: Option<String>,
}

/// One examination of a trunk.
#[derive(Serialize, ToSchema)]
struct TrunkExamination {
    /// Its identifier.
    id: String,
    /// `running`, `passed` (no step failed) or `failed`.
    #[schema(example = "passed")]
    verdict: &'static str,
    /// When it was begun.
    #[schema(format = DateTime)]
    started_at: String,
    /// When it was over; null while it goes on.
    #[schema(required, format = DateTime)]
    ended_at: Option<String>,
    /// The steps so far, in order.
    steps: Vec<ExaminationStep>,
}

/// One step of an examination.
#[derive(Serialize, ToSchema)]
struct ExaminationStep {
    /// `dns`, `connect`, `tls`, `options`, `register`, `registration`, `call` or `audio`.
    #[schema(example = "dns")]
    check: &'static str,
    /// A gateway or registrar as the trunk has it, an address, or the number called.
    target: String,
    /// `passed`, `failed`, or `skipped` for what could not be or need not be looked at.
    #[schema(example = "passed")]
    verdict: &'static str,
    /// When it was begun.
    #[schema(format = DateTime)]
    started_at: String,
    /// How long it took, in milliseconds.
    #[schema(minimum = 0)]
    took_ms: f64,
    /// What was seen.
    detail: String,
    /// What to do; null when there is nothing to do.
    #[schema(required)]
    remedy: Option<String>,
}

/// The last examinations of a trunk.
#[derive(Serialize, ToSchema)]
struct TrunkExaminations {
    /// The latest first, at most ten.
    data: Vec<TrunkExamination>,
}

/// Examines the trunk; without a body the way to its gateways alone. The answer holds an examination that has just begun: GET the same path for what comes of it.
#[utoipa::path(post, path = "/v1/trunks/{trunk_id}/doctor", tag = "trunks", request_body = Option<DoctorBody>,
    params(("trunk_id" = String, Path)),
    responses((status = 202, body = TrunkExamination), Refusals, BadBody, Missing))]
async fn examine(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    MaybeBody(object): MaybeBody,
) -> ApiResult<(StatusCode, Json<TrunkExamination>)> {
    caller.may("trunks:write")?;
    let fields = Fields::new(&object, "");
    let mut faults = Faults::default();
    let number = digits(&fields, "number", "0123456789*#", &mut faults);
    let from = digits(&fields, "from", "0123456789", &mut faults);
    faults.finish()?;
    let stored = find_trunk(&app, &caller, &id).await?;
    let table = app.table().await?;
    let trunk =
        table.trunk(&stored.id.as_str().into()).filter(|trunk| trunk.account.as_str() == caller.account);
    // Stored a moment ago and not in force yet, or the other way round.
    let trunk = trunk.ok_or_else(|| ApiError::unavailable("The trunk is not in force yet; try again"))?;
    if number.is_some() {
        caller.may("calls:write")?;
        let why = if !trunk.is_active || !trunk.outbound_enabled {
            Some("the trunk places no calls: switch is_active and outbound_enabled on, or leave number out")
        } else if table.is_exhausted(&trunk.account) {
            Some("the account's balance is used up; leave number out, and no call is placed")
        } else {
            None
        };
        if let Some(why) = why {
            return Err(ApiError::new(StatusCode::CONFLICT, format!("number: {why}")).at("number", why));
        }
    }
    let patient = Patient {
        registration: app.registrations().of_trunk(&id),
        call: number.map(|number| (number, from.unwrap_or_else(|| "anonymous".to_owned()))),
        trunk: std::sync::Arc::clone(trunk),
    };
    match app.doctor().examine(patient) {
        Ok(begun) => Ok((StatusCode::ACCEPTED, Json(shown(begun)))),
        Err(busy @ Busy::Trunk) => Err(ApiError::new(StatusCode::CONFLICT, busy.to_string()).at(
            "trunk_id",
            "an examination of it goes on; GET the same path shows how far it is, ask again after it",
        )),
        Err(busy @ Busy::Node) => Err(ApiError::unavailable(busy.to_string())),
    }
}

/// The trunk's last examinations on this node.
#[utoipa::path(get, path = "/v1/trunks/{trunk_id}/doctor", tag = "trunks",
    params(("trunk_id" = String, Path)),
    responses((status = 200, body = TrunkExaminations), Refusals, Missing))]
async fn examinations(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Json<TrunkExaminations>> {
    caller.may("trunks:read")?;
    let stored = find_trunk(&app, &caller, &id).await?;
    let found = app.doctor().of_trunk(&caller.account, &stored.id);
    Ok(Json(TrunkExaminations { data: found.into_iter().map(shown).collect() }))
}

/// A number of these characters, with or without a plus before it.
fn digits(fields: &Fields<'_>, name: &str, known: &str, faults: &mut Faults) -> Option<String> {
    let text = fields.text(name, Text::Line(21), faults).map(str::trim)?;
    let bare = text.strip_prefix('+').unwrap_or(text);
    if !(2..=20).contains(&bare.len()) || !bare.chars().all(|digit| known.contains(digit)) {
        faults.push(
            fields.location(name),
            format!("{text:?} was given; give 2 to 20 digits with or without + before them, such as \"+918800001234\""),
        );
        return None;
    }
    Some(text.to_owned())
}

fn shown(examination: Examination) -> TrunkExamination {
    let time = |unix_ms: u64| zulu(i64::try_from(unix_ms).unwrap_or(i64::MAX));
    let has_failed = examination.steps.iter().any(|step| step.verdict == crate::doctor::Verdict::Failed);
    TrunkExamination {
        id: examination.id.to_string(),
        verdict: match (examination.ended_unix_ms, has_failed) {
            (None, _) => "running",
            (Some(_), false) => "passed",
            (Some(_), true) => "failed",
        },
        started_at: time(examination.started_unix_ms),
        ended_at: examination.ended_unix_ms.map(time),
        steps: examination.steps.into_iter().map(|step| shown_step(step, time)).collect(),
    }
}

fn shown_step(step: Step, time: impl Fn(u64) -> String) -> ExaminationStep {
    ExaminationStep {
        check: step.check.as_str(),
        target: step.target,
        verdict: step.verdict.as_str(),
        started_at: time(step.started_unix_ms),
        took_ms: (step.took.as_secs_f64() * 1e6).round() / 1e3,
        detail: step.detail,
        remedy: Some(step.remedy).filter(|text| !text.is_empty()),
    }
}
