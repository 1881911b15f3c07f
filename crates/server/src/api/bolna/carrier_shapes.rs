//! Trunks and numbers as the `/trunk` family answers them: another view of the trunk that both families share.

use serde::Serialize;
use utoipa::ToSchema;

use super::registration::{self, SipTrunkRegistration};
use super::shapes::zulu;
use super::trunk_facts::{Conflict, Facts, HealthWord, TrunkStatus};
use crate::routing;
use crate::store::{StoredGateway, StoredIdentifier, StoredNumber, StoredTrunk, TransportKind};

/// A trunk, with its gateways, ranges and numbers.
#[derive(Serialize, ToSchema)]
pub(super) struct CarrierTrunk {
    /// Its identifier.
    id: String,
    /// The account it belongs to.
    user_id: String,
    /// Always `trunk`.
    #[schema(example = "trunk")]
    telephony_provider: &'static str,
    /// The owner's name for it.
    name: String,
    /// Free text.
    #[schema(required)]
    description: Option<String>,
    /// The carrier; a label.
    preset: CarrierPreset,
    /// Whether it takes calls from the carrier.
    inbound_enabled: bool,
    /// Whether calls may be placed by it.
    outbound_enabled: bool,
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
    /// Who answers a number that has no agent of its own.
    #[schema(required)]
    default_inbound_agent_id: Option<String>,
    /// The digest user name. The password is never shown.
    #[schema(required)]
    auth_username: Option<String>,
    /// Transport of outbound calls; `tls` only where the other family set it.
    transport: CarrierTransport,
    /// Whether dialled numbers get a `+`.
    outbound_leading_plus_enabled: bool,
    /// The preferred first.
    codecs: Vec<CarrierCodec>,
    /// Where outbound calls go, in the order in which they are tried.
    gateways: Vec<CarrierGateway>,
    /// Where inbound calls come from.
    ip_acls: Vec<CarrierIpAcl>,
    /// Its numbers.
    numbers: Vec<CarrierNumber>,
    /// Whether it is switched on.
    is_active: bool,
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

/// Labels of carriers.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CarrierPreset {
    Plivo,
    Telnyx,
    Twilio,
    Exotel,
    Vobiz,
    Vonage,
    Custom,
}

/// Transports.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
enum CarrierTransport {
    Udp,
    Tcp,
    Tls,
}

/// Codecs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
enum CarrierCodec {
    Pcmu,
    Pcma,
    G722,
}

/// Where outbound calls go.
#[derive(Serialize, ToSchema)]
pub(super) struct CarrierGateway {
    /// Its identifier.
    id: String,
    /// A host name or an address.
    host: String,
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

/// A range that calls come from.
#[derive(Serialize, ToSchema)]
pub(super) struct CarrierIpAcl {
    /// Its identifier.
    id: String,
    /// The range; one address is a range of /32 or /128.
    #[schema(example = "203.0.113.0/24")]
    cidr: String,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
}

/// A number on a trunk.
#[derive(Serialize, ToSchema)]
pub(super) struct CarrierNumber {
    /// Its identifier.
    id: String,
    /// The account it belongs to.
    user_id: String,
    /// The trunk it is on.
    trunk_id: String,
    /// Always `trunk`.
    #[schema(example = "trunk")]
    telephony_provider: &'static str,
    /// The number, as it was written.
    #[schema(example = "+919876543210")]
    e164: String,
    /// How the carrier writes it in the Request-URI.
    #[schema(example = "919876543210")]
    destination_key: String,
    /// The agent that answers it.
    #[schema(required)]
    agent_id: Option<String>,
    /// Whether it is switched on.
    is_active: bool,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last changed.
    #[schema(format = DateTime)]
    updated_at: String,
}

/// A trunk, with its numbers.
pub(super) fn trunk(trunk: &StoredTrunk, facts: Facts) -> CarrierTrunk {
    let settings = &trunk.settings;
    CarrierTrunk {
        id: trunk.id.clone(),
        user_id: trunk.account.clone(),
        telephony_provider: "trunk",
        name: settings.name.clone(),
        description: settings.description.clone(),
        preset: preset(&settings.provider),
        inbound_enabled: settings.inbound_enabled,
        outbound_enabled: settings.outbound_enabled,
        channels: settings.limits.total,
        channels_in: settings.limits.inbound,
        channels_out: settings.limits.outbound,
        calls_per_second: settings.limits.per_second(),
        default_inbound_agent_id: settings.default_agent.clone(),
        auth_username: settings.auth_username.clone(),
        transport: match settings.transport {
            TransportKind::Udp => CarrierTransport::Udp,
            TransportKind::Tcp => CarrierTransport::Tcp,
            TransportKind::Tls => CarrierTransport::Tls,
        },
        outbound_leading_plus_enabled: settings.outbound_leading_plus,
        codecs: routing::codecs(&settings.allow, &settings.disallow)
            .into_iter()
            .map(|codec| match codec {
                tandem_media::Codec::PCMU => CarrierCodec::Pcmu,
                tandem_media::Codec::PCMA => CarrierCodec::Pcma,
                tandem_media::Codec::G722 => CarrierCodec::G722,
            })
            .collect(),
        gateways: settings.gateways.iter().map(gateway).collect(),
        ip_acls: settings.ip_identifiers.iter().map(ip_acl).collect(),
        numbers: facts.numbers.iter().map(number).collect(),
        is_active: settings.is_active,
        health: facts.health,
        active_calls: facts.active_calls,
        registration: settings.registration.as_ref().map(registration::shown),
        status: facts.status,
        conflicts: facts.conflicts,
        created_at: zulu(trunk.created_at),
        updated_at: zulu(trunk.updated_at),
    }
}

/// A carrier that has no label here is `custom`.
fn preset(provider: &str) -> CarrierPreset {
    match provider.to_ascii_lowercase().as_str() {
        "plivo" => CarrierPreset::Plivo,
        "telnyx" => CarrierPreset::Telnyx,
        "twilio" => CarrierPreset::Twilio,
        "exotel" => CarrierPreset::Exotel,
        "vobiz" => CarrierPreset::Vobiz,
        "vonage" => CarrierPreset::Vonage,
        _ => CarrierPreset::Custom,
    }
}

/// A gateway.
pub(super) fn gateway(stored: &StoredGateway) -> CarrierGateway {
    CarrierGateway {
        id: stored.id.clone(),
        host: stored.address.clone(),
        port: stored.port,
        service_records: stored.by_service.unwrap_or_default(),
        priority: stored.priority,
        created_at: zulu(stored.created_at),
    }
}

/// A range.
pub(super) fn ip_acl(stored: &StoredIdentifier) -> CarrierIpAcl {
    let cidr = routing::network(&stored.ip_address);
    CarrierIpAcl {
        id: stored.id.clone(),
        cidr: cidr.map_or_else(|| stored.ip_address.clone(), |network| network.to_string()),
        created_at: zulu(stored.created_at),
    }
}

/// A number. One that the other family added is written by carriers as it is, without `+`.
pub(super) fn number(stored: &StoredNumber) -> CarrierNumber {
    let phone_number = &stored.number.phone_number;
    CarrierNumber {
        id: stored.id.clone(),
        user_id: stored.account.clone(),
        trunk_id: stored.trunk.clone(),
        telephony_provider: "trunk",
        e164: phone_number.clone(),
        destination_key: stored
            .number
            .destination_key
            .clone()
            .unwrap_or_else(|| phone_number.trim_start_matches('+').to_owned()),
        agent_id: stored.agent.clone(),
        is_active: stored.number.is_active,
        created_at: zulu(stored.created_at),
        updated_at: zulu(stored.updated_at),
    }
}
