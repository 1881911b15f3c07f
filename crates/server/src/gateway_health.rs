//! What the engine tells of gateways, kept for those who ask by the API.
//!
//! Each node watches by itself: what stands here is this node's view. Bounded by the gateways that are watched. Decides
//! nothing.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use tandem_call::{GatewayHealth, GatewayKey, GatewayState, TrunkId};

/// What is known of gateways.
#[derive(Debug, Default)]
pub struct GatewayHealths {
    known: RwLock<BTreeMap<GatewayKey, GatewayHealth>>,
}

impl GatewayHealths {
    /// Keeps what is known of a gateway; nothing, when it is not watched any more. A change of state is logged.
    pub fn set(&self, key: GatewayKey, health: Option<GatewayHealth>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let Some(health) = health else {
            known.remove(&key);
            return;
        };
        metrics::counter!("tandem_gateway_checks_total", "state" => health.state.as_str()).increment(1);
        if let Some(round_trip) = health.round_trip {
            metrics::histogram!("tandem_gateway_round_trip_seconds").record(round_trip.as_secs_f64());
        }
        let before = known.get(&key).map_or(GatewayState::Unknown, |before| before.state);
        if before != health.state {
            let GatewayKey { trunk, host, .. } = &key;
            let place = health.place.map_or_else(String::new, |(_, place)| place.to_string());
            let (state, cause) = (health.state.as_str(), health.cause.as_str());
            match health.state {
                GatewayState::Down => {
                    tracing::warn!(%trunk, host, place, state, cause, "a gateway changed its state")
                }
                GatewayState::Up | GatewayState::Unknown => {
                    tracing::info!(%trunk, host, place, state, "a gateway changed its state");
                }
            }
        }
        known.insert(key, health);
    }

    /// What is known of a trunk's gateways.
    #[must_use]
    pub fn of_trunk(&self, trunk: &str) -> Vec<(GatewayKey, GatewayHealth)> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let trunk = TrunkId::from(trunk);
        let first = GatewayKey::first_of(trunk.clone());
        let range = known.range(first..).take_while(|(key, _)| key.trunk == trunk);
        range.map(|(key, health)| (key.clone(), health.clone())).collect()
    }
}
