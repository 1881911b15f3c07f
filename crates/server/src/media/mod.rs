//! Media: threads of their own, apart from signalling, that carry audio between RTP and agents.

mod agent_socket;
mod counters;
mod ports;
mod wheel;

pub use agent_socket::{AgentSocket, Received, Sent};
pub use counters::{Count, MediaCounters};
pub use ports::{PortCounts, PortError, PortPair, Ports};
pub use wheel::Wheel;
