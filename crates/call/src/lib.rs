//! What a call is: routing, admission, both legs, the bridge, verdicts and records.
//!
//! The brain of the node, and a core: no clock, no socket, no task, no randomness of its own. Read `input` and
//! `output` first: everything that enters and everything that leaves. `engine` is the one owner of all calls.

pub mod bridge;
pub mod ids;
pub mod record;

pub use ids::{AccountId, AgentId, CallId, NumberId, TrunkId};
pub use record::{CallDirection, CallRecord, CallStatus, HangupBy, HangupReason, MediaSummary};
