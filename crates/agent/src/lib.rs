//! The dialects spoken to voice agents, as plain frames: of a WebSocket, or for one of them of TCP.
//!
//! A dialect turns what a call has to say (audio, digits, played marks) into frames, and frames from the
//! agent into [`AgentCommand`]s. It holds no queue, no clock and no socket: the egress queue is `tandem-media`'s
//! playout, the state machine that joins the two is the bridge of `tandem-call`, the socket is the shell's.
//!
//! Steady state allocates nothing: encoders write into the caller's buffer, decoders lend slices of the frame
//! (or of one reused scratch buffer for base64).

mod command;
mod config;
mod dialect;
mod error;
mod facts;
mod frame;
mod json;
mod payload;
mod wav;

pub use command::{AgentCommand, AgentEvent, HeardCause, MediaDirection, QueueStatus, TransferMode};
pub use config::{
    ByteOrder, ConfigError, ControlFormat, DialectConfig, DialectKind, Encoding, Fact, Handshake, InbandDtmf,
    Numbers, VoiceActivity,
};
pub use dialect::{Dialect, FlushRule, Watermarks, audiosocket_frame_bytes};
pub use error::DialectError;
pub use facts::{StreamFacts, account_sid, account_uuid, call_sid, parse_call_sid, stream_sid};
pub use frame::{AudioFormat, FrameKind};

/// Longest agent message, in bytes, that a dialect takes; the shell closes a socket with 1009 beyond it.
///
/// Agents burst whole replies: 1 MiB is 16 s of base64 24 kHz linear audio in one message, 98 s of base64 G.711.
/// Longer messages would hold up the other calls of their media thread while they are converted.
pub const MAX_MESSAGE_BYTES: usize = 1024 * 1024;

/// Longest control command, in bytes (agent-side ids and transfer targets included).
///
/// chan_websocket itself stops at 128 bytes, which cuts real-world JSON commands; 64 KiB holds all seen.
pub const MAX_COMMAND_BYTES: usize = 64 * 1024;

/// Longest name of a mark or correlation id, in bytes, that is kept; longer names are refused as an error.
///
/// Pending marks live in memory until their audio has left, so their names are bounded.
pub const MAX_NAME_BYTES: usize = 1024;
