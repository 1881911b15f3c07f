//! The audio path of one call.

mod histogram;
mod plan;

pub use histogram::DelayHistogram;
pub use plan::{
    AgentHangUpCause, AgentPlan, AgentSocketEnd, BridgeCommand, BridgeEvent, BridgeLimits, BridgePlan,
    BridgeStatistics, BridgeTransmit, OnClose,
};
