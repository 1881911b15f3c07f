//! The media core: SDP, RTP and RTCP, G.711, DTMF, jitter, concealment, resampling and the playout queue.
//!
//! Everything here is a pure state machine. Bytes and instants go in, bytes and values come out;
//! there is no socket, clock, task, lock or randomness of its own in this crate, and it knows neither
//! SIP nor the voice agent nor whose call it serves.
//!
//! The way of the audio, towards the agent:
//! [`rtp::packet`] → [`latch`] → [`rtp::receive`] → [`jitter`] (with [`conceal`]) → [`IngressFrame`];
//! and back: agent → [`playout`] → [`rtp::send`]. [`Session`] ties one RTP session together.

pub mod conceal;
pub mod dtmf;
pub mod g711;
pub mod jitter;
pub mod latch;
pub mod playout;
pub mod quality;
pub mod recording;
pub mod resample;
pub mod rtp;
pub mod sdp;
pub mod session;

pub use dtmf::Digit;
pub use g711::Law;
pub use latch::LatchPolicy;
pub use resample::Resampler;
pub use sdp::{Direction, MediaParameters, TelephoneEvent};
pub use session::{IngressFrame, Received, RtpStatistics, Session, SessionConfig};

/// Samples per second of every stream this crate carries; G.711's only rate (RFC 3551 section 4.5.14).
pub const SAMPLE_RATE_HZ: u32 = 8_000;
/// Bytes of G.711, and samples, in one 20 ms frame.
pub const FRAME_BYTES: usize = 160;
/// Longest frame that is ever sent or received: 60 ms of G.711.
pub const FRAME_BYTES_MAX: usize = 480;
