//! RTP and RTCP: packets, the checks on what is received, the order of what is sent, reports.
//!
//! RFC 3550; RFC 3551 for the audio profile.

pub mod packet;
pub mod receive;
pub mod reports;
pub mod rtcp;
pub mod send;
