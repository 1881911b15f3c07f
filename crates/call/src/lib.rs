//! What a call is: routing, admission, both legs, the bridge, verdicts and records.
//!
//! The brain of the node, and a core: no clock, no socket, no task, no randomness of its own. Read [`input`] and
//! [`output`] first: everything that enters and everything that leaves. [`engine`] is the one owner of all calls.

mod address_text;
mod addressing;
pub mod admission;
mod agent_rules;
pub mod bridge;
mod caller_lookup;
pub mod cause;
pub mod config;
mod connect;
pub mod counters;
pub mod dialled;
mod doorkeeper;
mod dry_run;
mod dtmf_info;
pub mod encryption;
mod engine;
mod facts;
pub mod failover;
mod gateways;
pub mod identity;
pub mod ids;
mod incident;
pub mod input;
mod invite;
pub mod ladder;
mod live;
pub mod location;
mod media_summary;
mod near_miss;
mod negotiation;
mod node;
pub mod outbound_policy;
pub mod output;
mod placing;
pub mod qualify;
mod reach;
pub mod record;
pub mod recording;
pub mod redirect;
pub mod register;
pub mod route;
mod short_text;
pub mod table;
pub mod template;
pub mod transfer;
pub mod verdict;
pub mod waiting_room;

pub use admission::{AdmissionLimits, NoRoom};
pub use agent_rules::{AgentRules, CallerIdentity, CallingHours};
pub use caller_lookup::{CallerAnswer, CallerQuestion, CallerSource};
pub use config::{AgentFailureStatus, EngineConfig};
pub use counters::{Census, Counters};
pub use dry_run::DryRun;
pub use engine::Engine;
pub use gateways::{GatewayAttempt, Way};
pub use ids::{AccountId, AgentId, CallId, NumberId, TrunkId};
pub use incident::{Incident, IncidentKind, Incidents};
pub use input::{AgentFailure, BridgeFailure, Command, HangUpCommand, Input};
pub use ladder::Rung;
pub use media_summary::{DelaySummary, MediaSummary, PathQuality};
pub use outbound_policy::{LargeRequestPolicy, OutboundPolicy};
pub use output::Output;
pub use placing::{Dial, is_free_header};
pub use qualify::{GatewayHealth, GatewayKey, GatewayState};
pub use record::{CallDirection, CallRecord, CallStatus, HangupBy, HangupReason};
pub use recording::{
    Recorded, RecordingCommand, RecordingFormat, RecordingRule, RecordingState, RecordingSummary,
};
pub use register::{RegistrationState, RegistrationStatus};
pub use short_text::ShortText;
pub use table::{
    Agent, AgentSocket, Credential, Gateway, MediaEncryption, Number, Registration, RoutingTable, Trunk,
    TrunkAuth, TrunkLimits,
};
pub use transfer::{
    ShownNumber, TransferBy, TransferMethod, TransferOrder, TransferOutcome, TransferPolicy, TransferRecord,
    TransferRule, TransferWay,
};
pub use verdict::{Check, Step, StepOutcome, Verdict, VerdictCode};
pub use waiting_room::Ticket;
