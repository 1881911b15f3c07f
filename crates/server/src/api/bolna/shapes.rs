//! The objects that answers are made of, in the vendor's shapes. No secret has a way into them.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::store::{StoredNumber, StoredTrunk};

const ZULU: &[BorrowedFormatItem<'_>] = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]Z");
const NAIVE: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]");

/// A time of the trunk family: `2025-01-15T10:00:00Z`.
pub(super) fn zulu(unix_ms: i64) -> String {
    formatted(unix_ms, ZULU)
}

/// A time of the execution family: `2026-01-28T13:17:50.116000`, meaning UTC.
pub(super) fn naive(unix_ms: i64) -> String {
    formatted(unix_ms, NAIVE)
}

fn formatted(unix_ms: i64, format: &[BorrowedFormatItem<'_>]) -> String {
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000)
        .unwrap_or(OffsetDateTime::UNIX_EPOCH);
    time.format(format).expect("the format names parts that every time has")
}

/// A trunk, with its numbers.
pub(super) fn trunk(trunk: &StoredTrunk, numbers: &[StoredNumber]) -> Value {
    let settings = &trunk.settings;
    let gateways: Vec<Value> = settings
        .gateways
        .iter()
        .map(|gateway| {
            json!({
                "id": gateway.id,
                "gateway_address": gateway.address,
                "port": gateway.port,
                "priority": gateway.priority,
                "created_at": zulu(gateway.created_at),
            })
        })
        .collect();
    let identifiers: Vec<Value> =
        settings.ip_identifiers.iter().map(|one| json!({"ip_address": one.ip_address})).collect();
    json!({
        "id": trunk.id,
        "user_id": trunk.account,
        "name": settings.name,
        "provider": settings.provider,
        "description": settings.description,
        "auth_type": settings.auth_type.as_str(),
        "auth_username": settings.auth_username,
        "gateways": gateways,
        "ip_identifiers": identifiers,
        "phone_numbers": numbers.iter().map(number).collect::<Vec<_>>(),
        "phone_numbers_count": numbers.len(),
        "allow": settings.allow,
        "disallow": settings.disallow,
        "transport": settings.transport.as_str(),
        "direct_media": settings.direct_media,
        "rtp_symmetric": settings.rtp_symmetric,
        "force_rport": settings.force_rport,
        "ice_support": settings.ice_support,
        "media_encryption": settings.media_encryption.as_str(),
        "media_encryption_optimistic": settings.media_encryption_optimistic,
        "qualify_frequency": settings.qualify_frequency,
        "inbound_enabled": settings.inbound_enabled,
        "outbound_leading_plus_enabled": settings.outbound_leading_plus,
        "is_active": settings.is_active,
        "created_at": zulu(trunk.created_at),
        "updated_at": zulu(trunk.updated_at),
    })
}

/// A number.
pub(super) fn number(stored: &StoredNumber) -> Value {
    json!({
        "id": stored.id,
        "phone_number": stored.number.phone_number,
        "name": stored.number.name,
        "user_id": stored.account,
        "byot_trunk_id": stored.trunk,
        "telephony_provider": "sip-trunk",
        "agent_id": stored.agent,
        "is_active": stored.number.is_active,
        "e164_check_enabled": stored.number.e164_check_enabled,
        "deleted": false,
        "created_at": zulu(stored.created_at),
        "updated_at": zulu(stored.updated_at),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_shape_of_their_family() {
        assert_eq!(zulu(1_736_935_200_999), "2025-01-15T10:00:00Z");
        assert_eq!(naive(1_769_606_270_116), "2026-01-28T13:17:50.116000");
        assert_eq!(zulu(i64::MAX), "1970-01-01T00:00:00Z");
    }
}
