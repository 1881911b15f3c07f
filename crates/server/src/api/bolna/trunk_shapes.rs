//! Trunks and numbers as the `/sip-trunks` family answers them. No secret has a way into them.

use serde::Serialize;
use utoipa::ToSchema;

use super::registration::{self, SipTrunkRegistration};
use super::shapes::zulu;
use super::trunk_facts::{Conflict, Facts, HealthWord, TrunkStatus};
use crate::store::{AuthType, MediaEncryption, StoredNumber, StoredTrunk, TransportKind};

/// A trunk, with its gateways, ranges and numbers.
#[derive(Serialize, ToSchema)]
pub(super) struct SipTrunk {
    /// Its identifier.
    #[schema(example = "01HQXYZ123ABC456DEF0000000")]
    id: String,
    /// The account it belongs to.
    user_id: String,
    /// The owner's name for it.
    name: String,
    /// The carrier, in the owner's words.
    provider: String,
    /// Free text.
    #[schema(required)]
    description: Option<String>,
    /// How it proves who it is.
    auth_type: AuthType,
    /// The digest user name of a userpass trunk. The password is never shown.
    #[schema(required)]
    auth_username: Option<String>,
    /// Where outbound calls go, in the order in which they are tried.
    gateways: Vec<SipTrunkGateway>,
    /// Where inbound calls come from.
    ip_identifiers: Vec<SipTrunkIdentifier>,
    /// Its numbers.
    phone_numbers: Vec<SipTrunkNumber>,
    /// How many numbers it has.
    #[schema(minimum = 0)]
    phone_numbers_count: usize,
    /// Codecs, the preferred first.
    #[schema(example = "ulaw,alaw")]
    allow: String,
    /// Codecs refused.
    #[schema(example = "all")]
    disallow: String,
    /// Transport of outbound calls.
    transport: TransportKind,
    /// Whether media may flow past the node.
    direct_media: bool,
    /// Whether RTP is sent to where it comes from.
    rtp_symmetric: bool,
    /// Whether answers go to the source port.
    force_rport: bool,
    /// Whether ICE may be used.
    ice_support: bool,
    /// Whether media is encrypted.
    media_encryption: MediaEncryption,
    /// With encryption: whether plain RTP is taken from a carrier that offers no key.
    media_encryption_optimistic: bool,
    /// Seconds between OPTIONS; 0 is never.
    #[schema(minimum = 0, maximum = 86_400)]
    qualify_frequency: u32,
    /// Whether it takes calls from the carrier.
    inbound_enabled: bool,
    /// Whether calls may be placed by it.
    outbound_enabled: bool,
    /// Whether dialled numbers get a `+`.
    outbound_leading_plus_enabled: bool,
    /// Whether it is switched on.
    is_active: bool,
    /// Concurrent calls, in and out together; null is no bound.
    #[schema(required, minimum = 1)]
    channels: Option<u32>,
    /// Concurrent calls from the carrier; null is no bound.
    #[schema(required, minimum = 1)]
    channels_in: Option<u32>,
    /// Concurrent calls to the carrier; null is no bound.
    #[schema(required, minimum = 1)]
    channels_out: Option<u32>,
    /// New calls per second, from the carrier and to it counted apart; null is no bound.
    #[schema(required, minimum = 0.001)]
    calls_per_second: Option<f64>,
    /// What its calls tell of the carrier.
    health: HealthWord,
    /// Calls that are up on this node.
    #[schema(minimum = 0)]
    active_calls: usize,
    /// What it registers at its carrier; null if nothing.
    #[schema(required)]
    registration: Option<SipTrunkRegistration>,
    /// Whether its gateways answer, and whether its registrar holds it.
    status: TrunkStatus,
    /// Ranges that other trunks call from too. That is allowed: calls are told apart by the number dialled.
    conflicts: Vec<Conflict>,
    /// When it was made.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// Where outbound calls go.
#[derive(Serialize, ToSchema)]
pub(super) struct SipTrunkGateway {
    /// Its identifier.
    id: String,
    /// A host name or an address.
    gateway_address: String,
    /// Port.
    #[schema(minimum = 1, maximum = 65_535)]
    port: u16,
    /// Whether it is found by the SRV records of its name, and by its address and `port` only where there are none
    /// (RFC 3263): so unless a port was given.
    service_records: bool,
    /// Lower goes first.
    #[schema(minimum = 0)]
    priority: u32,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
}

/// An address or range that calls come from.
#[derive(Serialize, ToSchema)]
pub(super) struct SipTrunkIdentifier {
    /// As it was written.
    #[schema(example = "203.0.113.0/24")]
    ip_address: String,
}

/// A number on a trunk.
#[derive(Serialize, ToSchema)]
pub(super) struct SipTrunkNumber {
    /// Its identifier: `phone_number_id` elsewhere.
    id: String,
    /// As it was written.
    #[schema(example = "+919876543210")]
    phone_number: String,
    /// The owner's name for it.
    #[schema(required)]
    name: Option<String>,
    /// The account it belongs to.
    user_id: String,
    /// The trunk it is on.
    byot_trunk_id: String,
    /// Always `sip-trunk`.
    #[schema(example = "sip-trunk")]
    telephony_provider: &'static str,
    /// The agent that answers it.
    #[schema(required)]
    agent_id: Option<String>,
    /// Whether it is switched on.
    is_active: bool,
    /// Whether strict E.164 was asked for.
    e164_check_enabled: bool,
    /// Always false: deleted numbers are not shown.
    deleted: bool,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A trunk, with its numbers.
pub(super) fn trunk(trunk: &StoredTrunk, facts: Facts) -> SipTrunk {
    let settings = &trunk.settings;
    let phone_numbers: Vec<SipTrunkNumber> = facts.numbers.iter().map(number).collect();
    SipTrunk {
        id: trunk.id.clone(),
        user_id: trunk.account.clone(),
        name: settings.name.clone(),
        provider: settings.provider.clone(),
        description: settings.description.clone(),
        auth_type: settings.auth_type,
        // An ip-based trunk of another family may hold a pair for its outbound calls.
        auth_username: settings.auth_username.clone().filter(|_| settings.auth_type == AuthType::UserPass),
        gateways: settings
            .gateways
            .iter()
            .map(|gateway| SipTrunkGateway {
                id: gateway.id.clone(),
                gateway_address: gateway.address.clone(),
                port: gateway.port,
                service_records: gateway.by_service.unwrap_or_default(),
                priority: gateway.priority,
                created_at: zulu(gateway.created_at),
            })
            .collect(),
        ip_identifiers: settings
            .ip_identifiers
            .iter()
            .map(|one| SipTrunkIdentifier { ip_address: one.ip_address.clone() })
            .collect(),
        phone_numbers_count: phone_numbers.len(),
        phone_numbers,
        allow: settings.allow.clone(),
        disallow: settings.disallow.clone(),
        transport: settings.transport,
        direct_media: settings.direct_media,
        rtp_symmetric: settings.rtp_symmetric,
        force_rport: settings.force_rport,
        ice_support: settings.ice_support,
        media_encryption: settings.media_encryption,
        media_encryption_optimistic: settings.media_encryption_optimistic,
        qualify_frequency: settings.qualify_frequency,
        inbound_enabled: settings.inbound_enabled,
        outbound_enabled: settings.outbound_enabled,
        outbound_leading_plus_enabled: settings.outbound_leading_plus,
        is_active: settings.is_active,
        channels: settings.limits.total,
        channels_in: settings.limits.inbound,
        channels_out: settings.limits.outbound,
        calls_per_second: settings.limits.per_second(),
        health: facts.health,
        active_calls: facts.active_calls,
        registration: settings.registration.as_ref().map(registration::shown),
        status: facts.status,
        conflicts: facts.conflicts,
        created_at: zulu(trunk.created_at),
        updated_at: zulu(trunk.updated_at),
    }
}

/// A number.
pub(super) fn number(stored: &StoredNumber) -> SipTrunkNumber {
    SipTrunkNumber {
        id: stored.id.clone(),
        phone_number: stored.number.phone_number.clone(),
        name: stored.number.name.clone(),
        user_id: stored.account.clone(),
        byot_trunk_id: stored.trunk.clone(),
        telephony_provider: "sip-trunk",
        agent_id: stored.agent.clone(),
        is_active: stored.number.is_active,
        e164_check_enabled: stored.number.e164_check_enabled,
        deleted: false,
        created_at: zulu(stored.created_at),
        updated_at: zulu(stored.updated_at),
    }
}
