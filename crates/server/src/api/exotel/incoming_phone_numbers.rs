//! `/v2_beta/Accounts/{account_sid}/IncomingPhoneNumbers`: the account's numbers, whichever trunk they are on. An older
//! surface of the vendor's, without its envelope around the list.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};

use super::asked::{AccountPath, Asked};
use super::checks::date;
use super::envelope::{Failure, Refusals};
use super::names;
use crate::api::App;
use crate::store::StoredNumber;

/// A page of the account's numbers.
#[derive(Serialize, ToSchema)]
pub(super) struct IncomingPhoneNumbers {
    /// Which page this is, the first being 0.
    page: u32,
    /// Most numbers of a page.
    #[schema(minimum = 1, maximum = 500, example = 50)]
    page_size: u32,
    /// This page.
    uri: String,
    /// The first page.
    first_page_uri: String,
    /// The next page; null on the last.
    #[schema(required)]
    next_page_uri: Option<String>,
    /// The page before; null on the first.
    #[schema(required)]
    previous_page_uri: Option<String>,
    /// The numbers, newest first.
    incoming_phone_numbers: Vec<IncomingPhoneNumber>,
}

/// A number of the account.
#[derive(Serialize, ToSchema)]
pub(super) struct IncomingPhoneNumber {
    /// Its identifier, digits: the `id` of a trunk's phone-numbers.
    sid: String,
    /// As it was written.
    #[schema(example = "+919876543210")]
    phone_number: String,
    /// The owner's name for it.
    #[schema(required)]
    friendly_name: Option<String>,
    /// What it can do: calls, and no messages.
    capabilities: Capabilities,
    /// The trunk it is on.
    trunk_sid: String,
    /// When it was added.
    #[schema(format = DateTime)]
    date_created: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    date_updated: String,
}

/// What a number can do.
#[derive(Serialize, ToSchema)]
pub(super) struct Capabilities {
    /// Always true.
    voice: bool,
    /// Always false.
    sms: bool,
}

/// Which page.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "read by the derive alone")]
pub(super) struct OlderPageQuery {
    /// The page, from 0.
    #[param(rename = "Page", minimum = 0, maximum = 1000000, default = 0)]
    page: Option<u32>,
    /// Numbers of a page; more than 500 are cut to 500.
    #[param(rename = "PageSize", minimum = 1, maximum = 2147483647, default = 50)]
    page_size: Option<u32>,
}

/// The account's numbers, newest first.
#[utoipa::path(get, path = "/v2_beta/Accounts/{account_sid}/IncomingPhoneNumbers", tag = "exotel trunks",
    params(AccountPath, OlderPageQuery), security(("basic" = []), ("bearer" = [])),
    responses((status = 200, body = IncomingPhoneNumbers), Refusals))]
pub(super) async fn list_exotel_incoming_numbers(State(app): State<App>, asked: Asked) -> Response {
    let listed = async {
        asked.may("trunks:read")?;
        let (page, size) = asked.older_page()?;
        let offset = u64::from(page) * u64::from(size);
        let mut numbers = app.store().numbers_from(&asked.account, size + 1, offset).await?;
        let has_more = numbers.len() > size as usize;
        numbers.truncate(size as usize);
        let path = &asked.path;
        let uri = |page: u32| format!("{path}?Page={page}&PageSize={size}");
        Ok::<_, Failure>(IncomingPhoneNumbers {
            page,
            page_size: size,
            uri: uri(page),
            first_page_uri: uri(0),
            next_page_uri: has_more.then(|| uri(page + 1)),
            previous_page_uri: page.checked_sub(1).map(uri),
            incoming_phone_numbers: numbers.iter().map(IncomingPhoneNumber::of).collect(),
        })
    };
    match listed.await {
        Ok(page) => Json(page).into_response(),
        Err(failure) => asked.envelope.refuse(failure),
    }
}

impl IncomingPhoneNumber {
    fn of(stored: &StoredNumber) -> Self {
        Self {
            sid: names::child_name(&stored.id),
            phone_number: stored.number.phone_number.clone(),
            friendly_name: stored.number.name.clone(),
            capabilities: Capabilities { voice: true, sms: false },
            trunk_sid: names::trunk_sid(&stored.trunk),
            date_created: date(stored.created_at),
            date_updated: date(stored.updated_at),
        }
    }
}
