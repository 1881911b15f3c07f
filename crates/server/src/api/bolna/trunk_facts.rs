//! What is known of a trunk besides what its owner set: its numbers, its calls, its carrier's health, and whose
//! ranges overlap its own. Both of Bolna's families show it.

use std::collections::BTreeMap;

use serde::Serialize;
use tandem_call::RoutingTable;
use tandem_sip::Transport;
use utoipa::ToSchema;

use super::registration::SipTrunkRegistrationStatus;
use crate::api::App;
use crate::api::error::ApiResult;
use crate::api::times::zulu;
use crate::gateway_health::GatewayHealths;
use crate::registrations::Registrations;
use crate::routing;
use crate::store::{StoredNumber, StoredTrunk, TrunkHealth};

/// Outbound calls that must fail one after another before a trunk is called degraded.
const DEGRADED_FROM: u32 = 3;

/// Trunks looked at for one range: a carrier's ranges may be shared by thousands of accounts.
const MOST_OVERLAPPING: usize = 256;

/// What calls tell of a trunk's carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum HealthWord {
    /// No call was answered yet.
    WaitingForCarrier,
    /// Calls are answered.
    Healthy,
    /// The last three outbound calls, or more, failed.
    Degraded,
    /// The trunk is switched off.
    Disabled,
}

/// A range that another trunk calls from too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(super) struct Conflict {
    /// The range, as this trunk has it.
    #[schema(example = "203.0.113.0/24")]
    ip_address: String,
    /// Whose it is besides, and what follows.
    message: String,
}

/// How a trunk's gateways and its registration do, as this node sees them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub(super) struct TrunkStatus {
    /// Each gateway that is asked by OPTIONS every `qualify_frequency` seconds and has an outcome.
    gateways: Vec<GatewayStatus>,
    /// Whether the carrier's registrar holds it; null for a trunk that registers nothing.
    #[schema(required)]
    registration: Option<SipTrunkRegistrationStatus>,
}

/// How a gateway does.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
struct GatewayStatus {
    /// As the trunk has it.
    gateway_address: String,
    /// Port: the trunk's, or where that is for SRV records to tell, the one they told last.
    #[schema(minimum = 0, maximum = 65_535)]
    port: u16,
    /// `udp`, `tcp` or `tls`.
    transport: &'static str,
    /// The address it was asked at last; null where its name did not resolve.
    #[schema(required, example = "203.0.113.5:5060")]
    address: Option<String>,
    /// `up`: it answered last. `down`: it did not, twice at least; calls try it last. `unknown`: it missed once.
    #[schema(example = "up")]
    state: &'static str,
    /// Since when.
    #[schema(format = DateTime)]
    since: String,
    /// When it was last asked with an outcome.
    #[schema(format = DateTime)]
    checked_at: String,
    /// Milliseconds from the question to its answer; null without one.
    #[schema(required, minimum = 0)]
    round_trip_ms: Option<f64>,
    /// The SIP status of the answer, any of which is a sign of life; null without one.
    #[schema(required, minimum = 200, maximum = 699)]
    sip_status: Option<u16>,
    /// Why there was none; null when there was.
    #[schema(required)]
    cause: Option<String>,
}

impl TrunkStatus {
    fn of(gateways: &GatewayHealths, registrations: &Registrations, trunk: &StoredTrunk) -> Self {
        let known = gateways.of_trunk(&trunk.id).into_iter();
        let status = known.map(|(key, health)| GatewayStatus {
            gateway_address: key.host,
            port: key.port.or(health.place.map(|(_, place)| place.port())).unwrap_or(5060),
            transport: match health.place.map(|(transport, _)| transport).or(key.transport) {
                None | Some(Transport::Udp) => "udp",
                Some(Transport::Tcp) => "tcp",
                Some(Transport::Tls) => "tls",
            },
            address: health.place.map(|(_, place)| place.to_string()),
            state: health.state.as_str(),
            since: zulu(i64::try_from(health.since_unix_ms).unwrap_or(i64::MAX)),
            checked_at: zulu(i64::try_from(health.checked_unix_ms).unwrap_or(i64::MAX)),
            round_trip_ms: health.round_trip.map(|time| (time.as_secs_f64() * 1e6).round() / 1e3),
            sip_status: health.sip_status,
            cause: Some(health.cause).filter(|cause| !cause.is_empty()),
        });
        let registration = registrations.of_trunk(&trunk.id).map(Into::into);
        Self { gateways: status.collect(), registration }
    }
}

/// What is known of one trunk.
pub(super) struct Facts {
    /// Its numbers.
    pub(super) numbers: Vec<StoredNumber>,
    /// What its calls tell of the carrier.
    pub(super) health: HealthWord,
    /// Calls that are up on this node.
    pub(super) active_calls: usize,
    /// Ranges that other trunks call from too.
    pub(super) conflicts: Vec<Conflict>,
    /// Whether its gateways answer.
    pub(super) status: TrunkStatus,
}

/// What is known of the trunks of a list.
pub(super) struct ListFacts {
    numbers: BTreeMap<String, Vec<StoredNumber>>,
    health: BTreeMap<String, TrunkHealth>,
    calls: BTreeMap<String, usize>,
    table: std::sync::Arc<RoutingTable>,
    gateways: std::sync::Arc<GatewayHealths>,
    registrations: std::sync::Arc<Registrations>,
}

impl ListFacts {
    /// Reads them.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn read(app: &App, account: &str, trunks: &[StoredTrunk]) -> ApiResult<Self> {
        let ids = || trunks.iter().map(|trunk| trunk.id.as_str());
        Ok(Self {
            numbers: app.store().numbers_of_trunks(account, ids()).await?,
            health: app.store().health_of_trunks(account, ids()).await?,
            calls: app.journal().live_by_trunk(account),
            table: app.table().await?,
            gateways: std::sync::Arc::clone(app.gateways()),
            registrations: std::sync::Arc::clone(app.registrations()),
        })
    }

    /// Those of one trunk.
    pub(super) fn take(&mut self, trunk: &StoredTrunk) -> Facts {
        let health = self.health.remove(&trunk.id).unwrap_or_default();
        Facts {
            numbers: self.numbers.remove(&trunk.id).unwrap_or_default(),
            health: word(trunk, health),
            active_calls: self.calls.get(&trunk.id).copied().unwrap_or(0),
            conflicts: conflicts(&self.table, trunk),
            status: TrunkStatus::of(&self.gateways, &self.registrations, trunk),
        }
    }
}

impl Facts {
    /// Reads those of one trunk, whose numbers are at hand.
    ///
    /// # Errors
    /// When the database fails.
    pub(super) async fn read(app: &App, trunk: &StoredTrunk, numbers: Vec<StoredNumber>) -> ApiResult<Self> {
        let health = app.store().health_of_trunk(&trunk.account, &trunk.id).await?;
        let calls = app.journal().live_by_trunk(&trunk.account);
        let table = app.table().await?;
        Ok(Self {
            numbers,
            health: word(trunk, health),
            active_calls: calls.get(&trunk.id).copied().unwrap_or(0),
            conflicts: conflicts(&table, trunk),
            status: TrunkStatus::of(app.gateways(), app.registrations(), trunk),
        })
    }
}

fn word(trunk: &StoredTrunk, health: TrunkHealth) -> HealthWord {
    if !trunk.settings.is_active {
        HealthWord::Disabled
    } else if health.outbound_failures >= DEGRADED_FROM {
        HealthWord::Degraded
    } else if health.answered_at.is_some() {
        HealthWord::Healthy
    } else {
        HealthWord::WaitingForCarrier
    }
}

/// The trunk's ranges that hold, or lie in, a range of another trunk. Nothing of another account is named.
fn conflicts(table: &RoutingTable, trunk: &StoredTrunk) -> Vec<Conflict> {
    let mut conflicts = Vec::new();
    for identifier in &trunk.settings.ip_identifiers {
        let Some(range) = routing::network(&identifier.ip_address) else { continue };
        let mut own = None;
        let mut has_foreign = false;
        for other in table.trunks_overlapping(&range, MOST_OVERLAPPING) {
            if other.id.as_str() == trunk.id {
                continue;
            }
            if other.account.as_str() == trunk.account {
                own.get_or_insert(other);
            } else {
                has_foreign = true;
            }
        }
        let whose = match (own, has_foreign) {
            (None, false) => continue,
            (Some(own), false) => format!("your trunk {:?} calls from there too", own.name),
            (None, true) => "a trunk of another account calls from there too".to_owned(),
            (Some(own), true) => {
                format!("your trunk {:?} and a trunk of another account call from there too", own.name)
            }
        };
        conflicts.push(Conflict {
            ip_address: identifier.ip_address.clone(),
            message: format!("{whose}; calls are told apart by the number dialled"),
        });
    }
    conflicts
}
