//! Exotel's trunk API, `/v2/accounts/{account_sid}/trunks…`, in its envelope with its codes, and its older list of an
//! account's numbers.
//!
//! In the vendor's words the server is the carrier; in the model it is the same trunk that Bolna's API knows:
//! whitelisted ips are where its calls come from, credentials what proves them, destinations its gateways, and a
//! number of mode `flow` is answered by the agent it is mapped to. Paths of the vendor's older pages, with
//! underscores, are aliases.

#![allow(unused_qualifications, reason = "the description's macro qualifies the types it is given")]

mod asked;
mod checks;
mod children;
mod credentials;
mod destination_uris;
mod envelope;
mod incoming_phone_numbers;
mod names;
mod phone_numbers;
mod settings;
mod trunks;
mod whitelisted_ips;

use axum::body::Bytes;
use axum::http::Method;
use axum::response::Response;
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use self::envelope::Envelope;
use super::error::ApiError;
use super::{App, body, openapi};

/// Where every path of the family begins.
const PREFIXES: [&str; 2] = ["/v2/accounts/", "/v2_beta/Accounts/"];

/// Segments whose older spelling has underscores.
const RENAMED: [(&str, &str); 4] = [
    ("phone-numbers", "phone_numbers"),
    ("whitelisted-ips", "whitelisted_ips"),
    ("destination-uris", "destination_uris"),
    ("trunk-maps", "trunk_maps"),
];

/// Every endpoint of the family.
pub(super) fn routes() -> OpenApiRouter<App> {
    [
        routes!(trunks::create_exotel_trunk, trunks::list_exotel_trunks, trunks::delete_exotel_trunk),
        routes!(trunks::change_exotel_trunk),
        routes!(
            phone_numbers::add_exotel_number,
            phone_numbers::list_exotel_numbers,
            phone_numbers::delete_exotel_number
        ),
        routes!(phone_numbers::change_exotel_number),
        routes!(phone_numbers::list_exotel_trunk_maps),
        routes!(incoming_phone_numbers::list_exotel_incoming_numbers),
        routes!(
            whitelisted_ips::add_exotel_address,
            whitelisted_ips::list_exotel_addresses,
            whitelisted_ips::delete_exotel_address
        ),
        routes!(whitelisted_ips::change_exotel_address),
        routes!(
            destination_uris::add_exotel_destinations,
            destination_uris::list_exotel_destinations,
            destination_uris::delete_exotel_destination
        ),
        routes!(destination_uris::change_exotel_destination),
        routes!(
            credentials::add_exotel_credential,
            credentials::list_exotel_credentials,
            credentials::delete_exotel_credential
        ),
        routes!(credentials::change_exotel_credential),
        routes!(
            settings::set_exotel_settings,
            settings::list_exotel_settings,
            settings::delete_exotel_setting
        ),
    ]
    .into_iter()
    .fold(OpenApiRouter::new(), |router, endpoint| match older(&endpoint) {
        Some(alias) => router.routes(endpoint).routes(alias),
        None => router.routes(endpoint),
    })
}

/// The same endpoint under its older path, if it has one.
fn older(endpoint: &UtoipaMethodRouter<App>) -> Option<UtoipaMethodRouter<App>> {
    openapi::alias(endpoint, |path| {
        let (new, old) = RENAMED.iter().find(|(new, _)| path.contains(new))?;
        Some(path.replace(new, old))
    })
}

/// Whether a path is of this family.
pub(super) fn is_ours(path: &str) -> bool {
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// An error of what stands before the endpoints (limits, unknown paths), in this family's envelope.
pub(super) fn refuse(method: &Method, error: ApiError) -> Response {
    Envelope::new(method.clone(), 409).refuse(error.into())
}

/// Reads a body as each of the endpoints would, and throws the result away: the door for fuzzing.
pub(super) fn read_any_body(bytes: &[u8]) {
    let Ok(object) = body::parse_object(&Bytes::copy_from_slice(bytes), 32) else { return };
    drop(trunks::new_trunk(&object));
    drop(phone_numbers::read(&object, true));
    drop(whitelisted_ips::read(&object));
    drop(destination_uris::read(&object));
    drop(credentials::read(&object, true));
    drop(settings::read(&object));
}

/// What hangs on a trunk, the newest first; of those added together, the last first.
fn newest_first<T>(list: &[T], created_at: impl Fn(&T) -> i64) -> impl Iterator<Item = &T> {
    let mut sorted: Vec<&T> = list.iter().rev().collect();
    sorted.sort_by_key(|one| std::cmp::Reverse(created_at(one)));
    sorted.into_iter()
}
