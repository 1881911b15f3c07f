//! `/phone-numbers`: the account's numbers, whichever trunk they are on. Buying and selling numbers is a vendor's
//! trade and is answered with 501.

use axum::extract::{RawQuery, State};
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::{IntoResponses, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::shapes::{humanized, zulu};
use crate::api::App;
use crate::api::auth::Caller;
use crate::api::body::Path;
use crate::api::error::{ApiError, ApiResult, BadBody, ErrorBody, Missing, Refusals};
use crate::api::paging::{self, ListQuery, Paged};
use crate::store::{StoreError, StoredNumber, now_ms};

/// Every endpoint of this file.
pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(all))
        .routes(routes!(search))
        .routes(routes!(buy))
        .routes(routes!(give_back))
}

/// A number of the account.
#[derive(Serialize, ToSchema)]
struct ListedNumber {
    /// Its identifier: `phone_number_id` elsewhere.
    id: String,
    /// When it was added, for people.
    #[schema(example = "3 days ago")]
    humanized_created_at: String,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed, for people.
    #[schema(example = "an hour ago")]
    humanized_updated_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
    /// Always null: a number on one's own trunk is rented from nobody here.
    #[schema(required)]
    renewal_at: Option<String>,
    /// As it was written.
    #[schema(example = "+919876543210")]
    phone_number: String,
    /// The agent that answers it.
    #[schema(required)]
    agent_id: Option<String>,
    /// What it costs here: nothing.
    #[schema(example = "$0.0")]
    price: &'static str,
    /// Always `sip-trunk`.
    #[schema(example = "sip-trunk")]
    telephony_provider: &'static str,
    /// Always false.
    rented: bool,
}

/// What an endpoint answers that only a number vendor can serve.
#[derive(IntoResponses)]
#[expect(dead_code, reason = "read by the derive alone")]
enum Vendor {
    /// This server sells no numbers.
    #[response(status = 501)]
    NotImplemented(#[to_schema] ErrorBody),
}

/// The account's numbers on all its trunks, oldest first.
#[utoipa::path(get, path = "/phone-numbers/all", tag = "phone-numbers", params(ListQuery),
    responses((status = 200, body = Vec<ListedNumber>), Refusals))]
async fn all(
    State(app): State<App>,
    caller: Caller,
    RawQuery(query): RawQuery,
) -> ApiResult<Paged<ListedNumber>> {
    caller.may("trunks:read")?;
    let part = paging::part(query.as_deref())?;
    let page = app.store().list_numbers(&caller.account, None, part.after.as_ref(), part.limit).await?;
    let now = now_ms();
    Ok(Paged::of(&page, |number| listed(number, now)))
}

/// Numbers for sale: there are none.
#[utoipa::path(get, path = "/phone-numbers/search", tag = "phone-numbers", responses(Refusals, Vendor))]
async fn search(caller: Caller) -> ApiResult<()> {
    caller.may("trunks:read")?;
    Err(no_vendor())
}

/// Buys a number: none is for sale.
#[utoipa::path(
    post,
    path = "/phone-numbers/buy",
    tag = "phone-numbers",
    responses(Refusals, BadBody, Vendor)
)]
async fn buy(caller: Caller) -> ApiResult<()> {
    caller.may("trunks:write")?;
    Err(no_vendor())
}

/// Gives a rented number back: none is rented.
#[utoipa::path(delete, path = "/phone-numbers/{phone_number_id}", tag = "phone-numbers",
    params(("phone_number_id" = String, Path)), responses(Refusals, Missing, Vendor))]
async fn give_back(State(app): State<App>, caller: Caller, Path(id): Path<String>) -> ApiResult<()> {
    caller.may("trunks:write")?;
    match app.store().number(&caller.account, &id).await {
        Err(StoreError::NotFound) => Err(ApiError::not_found("Phone number doesn't exist.")
            .at("phone_number_id", "no number of this account has this id")),
        Err(error) => Err(error.into()),
        Ok(_) => Err(no_vendor()),
    }
}

fn no_vendor() -> ApiError {
    ApiError::new(
        StatusCode::NOT_IMPLEMENTED,
        "Numbers are not bought or sold here; bring your own with POST /sip-trunks/trunks/{trunk_id}/numbers",
    )
}

fn listed(number: &StoredNumber, now: i64) -> ListedNumber {
    ListedNumber {
        id: number.id.clone(),
        humanized_created_at: humanized(number.created_at, now),
        created_at: zulu(number.created_at),
        humanized_updated_at: humanized(number.updated_at, now),
        updated_at: zulu(number.updated_at),
        renewal_at: None,
        phone_number: number.number.phone_number.clone(),
        agent_id: number.agent.clone(),
        price: "$0.0",
        telephony_provider: "sip-trunk",
        rented: false,
    }
}
