//! The four transaction machines (RFC 3261 17, RFC 6026), a type and a file each.
//!
//! A machine sees prebuilt bytes, never a parsed message: it decides what is sent again, when to
//! give up and when it is gone. What a message means, where it goes and who waits for it is the
//! endpoint's. Each machine is one exhaustive `match` over (state, input); a pair that only our own
//! code could cause is an error naming both, a pair that a peer or the network can cause is
//! an answer, if only an empty one.

pub(crate) mod client;
pub(crate) mod client_invite;
pub(crate) mod key;
pub(crate) mod server;
pub(crate) mod server_invite;
#[cfg(test)]
pub(crate) mod table;
pub(crate) mod timing;

use std::time::Duration;

use bytes::Bytes;
use smallvec::SmallVec;

/// The timers of RFC 3261 table 4 and RFC 6026 8.7, by their letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    A,
    B,
    D,
    E,
    F,
    G,
    H,
    I,
    J,
    K,
    L,
    M,
}

impl Timer {
    pub(crate) const ALL: [Self; 12] = [
        Self::A,
        Self::B,
        Self::D,
        Self::E,
        Self::F,
        Self::G,
        Self::H,
        Self::I,
        Self::J,
        Self::K,
        Self::L,
        Self::M,
    ];

    /// The reason `poll_timeout` gives.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::A => "timer A: send the INVITE again",
            Self::B => "timer B: give up on the INVITE",
            Self::D => "timer D: absorb repeated failures of an INVITE",
            Self::E => "timer E: send the request again",
            Self::F => "timer F: give up on the request",
            Self::G => "timer G: send the failure of an INVITE again",
            Self::H => "timer H: give up waiting for the ACK of a failure",
            Self::I => "timer I: absorb repeated ACKs",
            Self::J => "timer J: absorb repeated requests",
            Self::K => "timer K: absorb repeated responses",
            Self::L => "timer L: absorb repeats of an accepted INVITE",
            Self::M => "timer M: take further 2xx of an accepted INVITE",
        }
    }
}

/// What a machine wants done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Put these bytes on the transaction's way.
    Send(Bytes),
    /// Start a timer, or start it again.
    Arm(Timer, Duration),
    /// Stop a timer.
    Disarm(Timer),
    /// Tell the transaction user.
    Tell(Tell),
    /// The machine is in `Terminated`: forget it and every timer of it.
    Gone,
}

/// What the transaction user hears.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tell {
    /// The message that was the input belongs to the transaction user.
    Message,
    /// Timer B, F or H fired.
    TimedOut,
    /// The transport reported an error.
    TransportFailed,
}

pub(crate) type Actions = SmallVec<[Action; 4]>;

/// An input that the state does not allow and that no peer can cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{machine} in state {state} does not take {input}")]
pub(crate) struct Illegal {
    pub(crate) machine: &'static str,
    pub(crate) state: &'static str,
    pub(crate) input: &'static str,
}
