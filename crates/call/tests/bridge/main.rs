//! The bridge from RTP to agent and back, in virtual time.

#![expect(clippy::unwrap_used, reason = "a test's unwrap is its assertion")]

mod agents;
mod commands;
mod echo;
mod hardship;
mod listening;
mod pacing;
mod quality;
mod recording;
mod rtp;
mod second;
mod steady;
mod storm;
mod wideband;
mod world;
