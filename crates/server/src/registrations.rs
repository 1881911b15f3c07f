//! What the engine tells of registrations, kept for those who ask by the API, counted and logged.
//!
//! Each node registers by itself: what stands here is this node's view. Bounded by the trunks that register. Decides
//! nothing.

use std::{
    collections::BTreeMap,
    sync::{PoisonError, RwLock},
};

use tandem_call::{AccountId, RegistrationState, RegistrationStatus, TrunkId};

/// How the registrations of trunks stand.
#[derive(Debug, Default)]
pub struct Registrations {
    known: RwLock<BTreeMap<TrunkId, RegistrationStatus>>,
}

impl Registrations {
    /// Keeps how a trunk's registration stands; nothing, when it has none any more. A change of state is logged.
    pub fn set(&self, account: &AccountId, trunk: TrunkId, status: Option<RegistrationStatus>) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.get(&trunk).map(|before| (before.state, before.attempted_unix_ms));
        if let Some(status) = &status {
            let is_outcome = status.attempted_unix_ms.is_some()
                && before.is_none_or(|(_, attempted)| attempted != status.attempted_unix_ms);
            if is_outcome {
                let outcome = if status.reason.is_empty() { "accepted" } else { "failed" };
                metrics::counter!("tandem_registration_attempts_total", "outcome" => outcome).increment(1);
            }
            if let Some(round_trip) = status.round_trip.filter(|_| is_outcome) {
                metrics::histogram!("tandem_registration_round_trip_seconds")
                    .record(round_trip.as_secs_f64());
            }
            if before.map(|(state, _)| state) != Some(status.state) {
                log(account, &trunk, status);
            }
        }
        let after = status.as_ref().map(|status| status.state);
        let gauge =
            |state: RegistrationState| metrics::gauge!("tandem_registrations", "state" => state.as_str());
        match (before.map(|(state, _)| state), after) {
            (before, after) if before == after => {}
            (before, after) => {
                before.into_iter().for_each(|state| gauge(state).decrement(1));
                after.into_iter().for_each(|state| gauge(state).increment(1));
            }
        }
        match status {
            Some(status) => drop(known.insert(trunk, status)),
            None => drop(known.remove(&trunk)),
        }
    }

    /// How the trunk's registration stands, if it has one.
    #[must_use]
    pub fn of_trunk(&self, trunk: &str) -> Option<RegistrationStatus> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.get(&TrunkId::from(trunk)).cloned()
    }
}

fn log(account: &AccountId, trunk: &TrunkId, status: &RegistrationStatus) {
    let RegistrationStatus { registrar, reason, last_code, .. } = status;
    let state = status.state.as_str();
    match status.state {
        RegistrationState::Failed => {
            tracing::warn!(%account, %trunk, registrar, state, last_code, reason, "a trunk is not registered");
        }
        RegistrationState::Pending | RegistrationState::Registered | RegistrationState::Unregistered => {
            tracing::info!(%account, %trunk, registrar, state, last_code, "a trunk's registration changed its state");
        }
    }
}
