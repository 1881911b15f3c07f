//! Scripted voice agents behind a WebSocket, in the three dialects, built from the dialects' descriptions alone.
//!
//! Like callers they are fed frames with a `now` and asked for their next wake, and judge nothing themselves: what
//! Tandem says to them is taken apart once, at Tandem's edge, and checked there.

pub mod plan;
pub mod scripted;
pub mod wire;
