//! `/sip-trunks/trunks`: Bolna's legacy trunk family.

use axum::Json;
use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{shapes, trunk_body};
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::Faults;
use crate::api::preconditions::{IfMatch, Tagged};
use crate::api::{App, query};
use crate::store::{StoreError, StoredNumber};

/// `POST /sip-trunks/trunks`
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    Body(object): Body,
) -> ApiResult<Tagged<(StatusCode, Json<Value>)>> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let new = trunk_body::new_trunk(&object, &mut faults);
    faults.finish()?;
    let (settings, numbers) = new.expect("a body without faults is a trunk");
    let (trunk, numbers) = app
        .change(|store| async move { Ok(store.create_trunk(&caller.account, settings, &numbers).await?) })
        .await?;
    Ok(Tagged {
        revision: trunk.revision,
        answer: (StatusCode::CREATED, Json(shapes::trunk(&trunk, &numbers))),
    })
}

/// `GET /sip-trunks/trunks?is_active=`
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    RawQuery(text): RawQuery,
) -> ApiResult<Json<Value>> {
    caller.may("trunks:read")?;
    let is_active = query::switch(text.as_deref(), "is_active")?;
    let trunks = app.store().trunks(&caller.account, is_active).await?;
    let mut numbers = numbers_by_trunk(app.store().numbers(&caller.account).await?);
    let list = trunks
        .iter()
        .map(|trunk| shapes::trunk(trunk, &numbers.remove(&trunk.id).unwrap_or_default()))
        .collect::<Vec<_>>();
    Ok(Json(list.into()))
}

/// `GET /sip-trunks/trunks/{trunk_id}`
pub(super) async fn show(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
) -> ApiResult<Tagged<Json<Value>>> {
    caller.may("trunks:read")?;
    let trunk = app.store().trunk(&caller.account, &id).await.map_err(not_found)?;
    let numbers = app.store().numbers_of_trunk(&caller.account, &id).await.map_err(not_found)?;
    Ok(Tagged { revision: trunk.revision, answer: Json(shapes::trunk(&trunk, &numbers)) })
}

/// `PATCH /sip-trunks/trunks/{trunk_id}`
pub(super) async fn change(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
    Body(object): Body,
) -> ApiResult<Tagged<Json<Value>>> {
    caller.may("trunks:write")?;
    let (trunk, numbers) = app
        .change(|store| async move {
            let trunk = store
                .change_trunk(&caller.account, &id, &expected, |settings| -> ApiResult<()> {
                    let mut faults = Faults::default();
                    trunk_body::change_trunk(&object, settings, &mut faults);
                    faults.finish()
                })
                .await
                .map_err(name_trunk)?;
            let numbers = store.numbers_of_trunk(&caller.account, &id).await.map_err(not_found)?;
            Ok((trunk, numbers))
        })
        .await?;
    Ok(Tagged { revision: trunk.revision, answer: Json(shapes::trunk(&trunk, &numbers)) })
}

/// `DELETE /sip-trunks/trunks/{trunk_id}`
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Value>> {
    caller.may("trunks:write")?;
    let removed = app
        .change(|store| async move {
            store.delete_trunk(&caller.account, &id, &expected).await.map_err(not_found)
        })
        .await?;
    let message = format!("Trunk deleted successfully. {removed} phone number(s) removed.");
    Ok(Json(json!({"message": message})))
}

pub(super) fn not_found(error: StoreError) -> ApiError {
    name_trunk(ApiError::from(error))
}

/// Says what was not found.
fn name_trunk(error: ApiError) -> ApiError {
    if error.status == StatusCode::NOT_FOUND {
        return ApiError::not_found("Trunk not found").at("trunk_id", "no trunk of this account has this id");
    }
    error
}

fn numbers_by_trunk(numbers: Vec<StoredNumber>) -> std::collections::BTreeMap<String, Vec<StoredNumber>> {
    let mut by_trunk: std::collections::BTreeMap<String, Vec<StoredNumber>> = Default::default();
    for number in numbers {
        by_trunk.entry(number.trunk.clone()).or_default().push(number);
    }
    by_trunk
}
