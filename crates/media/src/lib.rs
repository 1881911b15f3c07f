//! The media core: SDP, RTP and RTCP, SRTP, ICE-lite, G.711 and G.722, DTMF, jitter, concealment, resampling, voice
//! activity and the playout queue.
//!
//! Everything here is a pure state machine. Bytes and instants go in, bytes and values come out;
//! there is no socket, clock, task, lock or randomness of its own in this crate, and it knows neither
//! SIP nor the voice agent nor whose call it serves.
//!
//! The way of the audio, towards the agent:
//! [`latch`] → [`srtp`] → [`rtp::packet`] → [`rtp::receive`] → [`jitter`] (with [`payload`] and [`conceal`]) →
//! [`IngressFrame`];
//! and back: agent → [`playout`] → [`rtp::send`]. [`Session`] ties one RTP session together.

pub mod codec;
pub mod conceal;
pub mod convert;
pub mod dtmf;
pub mod g711;
pub mod g722;
pub mod ice;
pub mod jitter;
pub mod latch;
pub mod noise;
pub mod payload;
pub mod playout;
pub mod quality;
pub mod recording;
pub mod resample;
pub mod rtp;
pub mod sdp;
pub mod session;
pub mod srtp;
pub mod tones;
pub mod voice;

pub use codec::{Codec, Coding};
pub use convert::Converter;
pub use dtmf::Digit;
pub use g711::Law;
pub use latch::LatchPolicy;
pub use resample::Resampler;
pub use sdp::{Direction, MediaParameters, TelephoneEvent};
pub use session::{IngressFrame, Received, RtpStatistics, Session, SessionConfig};

/// Samples per second of G.711, and ticks of the RTP clock of every codec (RFC 3551 sections 4.5.2 and 4.5.14).
pub const SAMPLE_RATE_HZ: u32 = 8_000;
/// Bytes of payload in one 20 ms frame of every codec.
pub const FRAME_BYTES: usize = 160;
/// Longest frame that is ever sent, in any form of audio: 60 ms of 16 kHz linear.
pub const FRAME_BYTES_MAX: usize = 1_920;
