//! What each fuzz target checks, as plain functions over bytes. A file a room; each file is also included
//! by that room's `fuzz_replay` test, so it names nothing but the room and what the room itself stands on.

pub mod agent;
pub mod api;
pub mod media;
pub mod sip;
