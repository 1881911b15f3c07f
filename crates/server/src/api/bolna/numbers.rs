//! `/sip-trunks/trunks/{trunk_id}/numbers`

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::trunks::not_found;
use super::{shapes, trunk_body};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::{Body, Path};
use crate::api::error::{ApiError, ApiResult};
use crate::api::fields::Faults;
use crate::api::preconditions::IfMatch;
use crate::store::StoreError;

/// `POST /sip-trunks/trunks/{trunk_id}/numbers`
pub(super) async fn add(
    State(app): State<App>,
    caller: Caller,
    Path(trunk): Path<String>,
    Body(object): Body,
) -> ApiResult<(StatusCode, Json<Value>)> {
    caller.may("trunks:write")?;
    let mut faults = Faults::default();
    let new = trunk_body::new_number(&object, &mut faults);
    faults.finish()?;
    let new = new.expect("a body without faults is a number");
    let number = app
        .change(
            |store| async move { store.add_number(&caller.account, &trunk, &new).await.map_err(not_found) },
        )
        .await?;
    Ok((StatusCode::CREATED, Json(shapes::number(&number))))
}

/// `GET /sip-trunks/trunks/{trunk_id}/numbers`
pub(super) async fn list(
    State(app): State<App>,
    caller: Caller,
    Path(trunk): Path<String>,
) -> ApiResult<Json<Value>> {
    caller.may("trunks:read")?;
    let numbers = app.store().numbers_of_trunk(&caller.account, &trunk).await.map_err(not_found)?;
    Ok(Json(numbers.iter().map(shapes::number).collect()))
}

/// `DELETE /sip-trunks/trunks/{trunk_id}/numbers/{phone_number_id}`
pub(super) async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path((trunk, number)): Path<(String, String)>,
    IfMatch(expected): IfMatch,
) -> ApiResult<Json<Value>> {
    caller.may("trunks:write")?;
    app.change(|store| async move {
        store.trunk(&caller.account, &trunk).await.map_err(not_found)?;
        store.remove_number(&caller.account, &trunk, &number, &expected).await.map_err(|error| match error {
            StoreError::NotFound => ApiError::not_found("Phone number not found")
                .at("phone_number_id", "no number of this trunk has this id"),
            error => error.into(),
        })
    })
    .await?;
    Ok(Json(json!({"message": "Phone number removed successfully"})))
}
