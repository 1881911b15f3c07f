//! The control plane as its users see it: the store by its public face, the REST API through its router.

#![allow(clippy::unwrap_used, reason = "a test fails where it is wrong")]

mod agents;
mod audit;
mod base;
mod batches;
mod carrier;
mod checks;
mod clash;
mod client;
mod description;
mod dialled;
mod exotel;
mod exotel_refusals;
mod fuzz_replay;
mod guide;
mod idempotency;
mod keys;
mod kill;
mod outbound;
mod paging;
mod plans;
#[expect(unreachable_pub, reason = "the same file is a public module of the tests' own library")]
#[path = "../../../../tests/src/postgres.rs"]
mod postgres;
mod preconditions;
mod providers;
mod quiet;
mod rate_limits;
mod registration;
mod rest;
mod rest_bad_input;
mod rest_calls;
mod route_test;
mod routing;
mod store;
mod transfer;
mod transfers;
mod trunk_fields;
mod trunk_outbound;
mod vendor_schemas;
mod walls;
mod webhooks;
