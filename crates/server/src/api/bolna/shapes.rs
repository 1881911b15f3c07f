//! The objects that answers are made of, in the vendor's shapes. No secret has a way into them.

use serde_json::{Map, Value, json};
use tandem_call::{CallDirection, CallRecord};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::store::{StoredAgent, StoredExecution, StoredNumber, StoredTrunk};

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

/// An agent: the client's own object, the fields of `agent_config` also at the top (where readers of Bolna's API
/// look), and what the server knows.
pub(super) fn agent(agent: &StoredAgent) -> Value {
    let mut shape = Map::new();
    if let Some(Value::Object(config)) = agent.body.get("agent_config") {
        shape.extend(config.iter().map(|(name, value)| (name.clone(), value.clone())));
    }
    shape.extend(agent.body.iter().map(|(name, value)| (name.clone(), value.clone())));
    shape.insert("id".to_owned(), agent.id.clone().into());
    shape.insert("agent_id".to_owned(), agent.id.clone().into());
    shape.insert("user_id".to_owned(), agent.account.clone().into());
    shape.insert("agent_name".to_owned(), agent.name.clone().into());
    shape.insert("agent_status".to_owned(), "processed".into());
    shape.insert("created_at".to_owned(), naive(agent.created_at).into());
    shape.insert("updated_at".to_owned(), naive(agent.updated_at).into());
    Value::Object(shape)
}

/// An execution.
pub(super) fn execution(stored: &StoredExecution) -> Value {
    let record = &stored.record;
    let time = |unix_ms: u64| naive(i64::try_from(unix_ms).unwrap_or(i64::MAX));
    let seconds = record.duration_ms() as f64 / 1_000.0;
    // An inbound call's user is the caller; an outbound call's user is the called.
    let (user, own, call_type) = match record.direction {
        CallDirection::Inbound => (&record.from, &record.to, "inbound"),
        CallDirection::Outbound => (&record.to, &record.from, "outbound"),
    };
    json!({
        "id": record.id,
        "agent_id": record.agent,
        "batch_id": null,
        "created_at": time(record.started_unix_ms),
        "updated_at": naive(stored.updated_at),
        "scheduled_at": null,
        "initiated_at": time(record.started_unix_ms),
        "rescheduled_at": null,
        "conversation_duration": seconds,
        "total_cost": 0.0,
        "status": record.status,
        "smart_status": null,
        "error_message": record.error_message,
        "answered_by_voice_mail": null,
        "transcript": null,
        "summary": null,
        "extracted_data": null,
        "agent_extraction": null,
        "custom_extractions": null,
        "cost_breakdown": {
            "llm": 0.0, "network": 0.0, "platform": 0.0, "synthesizer": 0.0, "transcriber": 0.0,
            "transfer_cost": 0.0,
        },
        "usage_breakdown": {},
        "telephony_data": telephony(record, call_type),
        "transfer_call_data": null,
        "batch_run_details": null,
        "context_details": {"recipient_data": {}, "recipient_phone_number": user},
        "provider": "sip-trunk",
        "user_number": user,
        "agent_number": own,
        "campaign_id": null,
        "workflow_retries": null,
        "retry_config": null,
        "retry_count": 0,
        "retry_history": [],
        "latency_data": null,
        "deleted": false,
    })
}

fn telephony(record: &CallRecord, call_type: &str) -> Value {
    let seconds = record.duration_ms() as f64 / 1_000.0;
    // Whole seconds as "69", and "0.0" for a call that never was: the vendor's live system sends both.
    let duration = if record.duration_ms() == 0 { "0.0".to_owned() } else { format!("{}", seconds.round()) };
    let ringing = record.ringing_unix_ms.unwrap_or(record.started_unix_ms);
    json!({
        "duration": duration,
        "to_number": record.to,
        "from_number": record.from,
        "recording_url": null,
        "hosted_telephony": false,
        "provider_call_id": record.sip_call_id,
        "call_type": call_type,
        "provider": "sip-trunk",
        "hangup_by": record.hangup_by,
        "hangup_reason": record.hangup_reason,
        "hangup_provider_code": record.q850,
        "sip_status": record.sip_status,
        "ring_duration": record.ring_ms() / 1_000,
        "post_dial_delay": ringing.saturating_sub(record.started_unix_ms) / 1_000,
        "to_number_carrier": null,
        "trunk_id": record.trunk,
        "phone_number_id": record.number,
        "node": record.node,
        "media": record.media,
        "incidents": record.incidents,
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
