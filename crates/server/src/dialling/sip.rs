//! Places calls over SIP: an order becomes what the engine takes, and the engine's record what the queue is told.
//!
//! Refuses to decide when a call may be placed (the queue has) or at which gateway (the engine does).

use std::time::Duration;

use serde_json::Value;
use tandem_call::Dial;

use super::{DueCall, PlaceCall, Placed};
use crate::{journal::Journal, signalling::SignallingHandle};

/// Facts of the callee that its agent is told at most, and how long each may be.
const FACTS: (usize, usize) = (32, 1_024);

/// Places calls by this node's signalling.
#[derive(Clone, Debug)]
pub struct OverSip {
    signalling: SignallingHandle,
    journal: Journal,
}

impl OverSip {
    /// Places calls by this signalling, whose records go into this journal.
    #[must_use]
    pub fn new(signalling: SignallingHandle, journal: Journal) -> Self {
        Self { signalling, journal }
    }
}

impl PlaceCall for OverSip {
    async fn place(&self, call: DueCall) -> Placed {
        let Ok(placed) = self.signalling.place(dial_of(&call)).await else {
            return Placed::Left;
        };
        // What the journal has yet to write of this call must not be written over its end.
        self.journal.flush().await;
        placed
    }
}

fn dial_of(call: &DueCall) -> Dial {
    let DueCall { record, order, .. } = call;
    Dial {
        call: record.id,
        account: record.account.clone(),
        trunk: record.trunk.clone(),
        number: record.number.clone(),
        from: record.from.clone(),
        to: record.to.clone(),
        agent: record.agent.clone(),
        parameters: order
            .user_data
            .iter()
            .take(FACTS.0)
            .map(|(name, value)| (name.clone(), fact(value)))
            .collect(),
        headers: order.sip_headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        ringing: order.ringing_seconds.map(|seconds| Duration::from_secs(seconds.into())),
        max_duration: None,
    }
}

/// A fact as text: what is no text is told as JSON.
fn fact(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    text.chars().take(FACTS.1).collect()
}
