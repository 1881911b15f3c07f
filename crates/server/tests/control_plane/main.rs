//! The control plane as its users see it: the store by its public face, the REST API through its router.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

mod agents;
mod audit;
mod base;
mod checks;
mod client;
mod description;
mod exotel;
mod exotel_refusals;
mod fuzz_replay;
mod idempotency;
mod keys;
mod kill;
mod outbound;
mod preconditions;
#[path = "../../../../tests/src/postgres.rs"]
mod postgres;
mod quiet;
mod rate_limits;
mod rest;
mod rest_bad_input;
mod rest_calls;
mod routing;
mod store;
mod walls;
