//! The shell around the cores: sockets, WebSocket, REST, store and configuration of the binary `tandem`.
//!
//! Protocol decisions live in the cores; this crate turns their outputs into the world and the world into
//! their inputs.

pub mod actor;
pub mod agent_rules;
pub mod api;
pub mod caller_lookup;
pub mod checks;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod dialling;
pub mod doctor;
pub mod gateway_health;
pub mod ids;
pub mod journal;
pub mod ladders;
pub mod limits;
pub mod media;
pub mod metric_list;
pub mod net;
pub mod recording;
pub mod registrations;
pub mod routing;
pub mod secrets;
pub mod server;
pub mod shutdown;
pub mod signalling;
pub mod store;
pub mod telemetry;
pub mod tools;
pub mod upkeep;
pub mod webhooks;
