//! The bridge from RTP to agent and back, in virtual time.

mod agents;
mod echo;
mod world;
