//! Scripted carriers: the SIP peers and the callers behind them.
//!
//! They are deliberately simple, know nothing of the product's parser (their messages are built and read with rsip),
//! and follow a script that may be wrong on purpose. They judge nothing: what Tandem sends is judged at its own edge.

pub mod caller;
pub mod digest;
pub mod messages;
pub mod order;
pub mod reporter;
pub mod script;
pub mod sdp;
pub mod speaker;
