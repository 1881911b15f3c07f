//! Everything that enters the engine. Read this first, then [`crate::output`].
//!
//! The shell turns the world into these and hands each over with the instant it happened; nothing else reaches the engine.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tandem_sip::{Flow, TransmitId};

use crate::bridge::{BridgeEvent, BridgeStatistics};
use crate::caller_lookup::CallerAnswer;
use crate::gateways::Way;
use crate::ids::{CallId, TrunkId};
use crate::placing::Dial;
use crate::recording::RecordingCommand;
use crate::table::RoutingTable;
use crate::transfer::TransferOrder;
use crate::waiting_room::Ticket;

/// One thing that happened.
#[derive(Debug)]
pub enum Input {
    /// A datagram came.
    Datagram {
        /// Over what.
        flow: Flow,
        /// Its bytes.
        payload: Bytes,
    },
    /// A stream connection is up, by either side's doing.
    StreamOpened {
        /// The connection.
        flow: Flow,
    },
    /// Bytes came over a stream.
    StreamData {
        /// The connection.
        flow: Flow,
        /// What came, cut as the network pleased.
        payload: Bytes,
    },
    /// A stream connection is gone.
    StreamClosed {
        /// The connection.
        flow: Flow,
    },
    /// A transmission could not be done: no route, no connection, no such name.
    TransmitFailed {
        /// The transmission, as [`crate::Output::Transmit`] named it.
        transmit: TransmitId,
    },
    /// The deadline of `poll_timeout` has come. Any input runs expired deadlines first, so this carries nothing.
    Timeout,
    /// What is configured is being read: until it comes, requests wait for it ([`crate::waiting_room`]).
    RoutingFollows,
    /// What is configured, whole. Calls under way keep what they began with.
    Routing(Arc<RoutingTable>),
    /// A number that an INVITE waits for, in answer to [`crate::Output::FindRoute`].
    RouteFound {
        /// Which INVITE.
        ticket: Ticket,
        /// The numbers found by themselves under the keys, with their trunks, their agents and what these depend on, as
        /// they stand now. Nothing, when there is none.
        found: Arc<RoutingTable>,
    },
    /// These trunks are new, changed or gone in the table that came last: their gateways are watched accordingly.
    TrunksChanged(Vec<TrunkId>),
    /// Place this call.
    Place(Box<Dial>),
    /// A gateway has these addresses, the first to be tried first, in answer to [`crate::Output::FindWay`].
    WayFound {
        /// The call.
        call: CallId,
        /// The addresses, with ours on the way to each.
        ways: Vec<Way>,
    },
    /// A gateway has no address that can be reached.
    WayFailed {
        /// The call.
        call: CallId,
        /// Why, in words; they go into the call's record.
        why: String,
    },
    /// A media port is bound, in answer to [`crate::Output::OpenBridge`]. The shell goes on to dial the agent.
    BridgeOpened {
        /// The call.
        call: CallId,
        /// Our RTP address as the caller is to see it in the SDP. RTCP is the next port up.
        rtp: SocketAddr,
    },
    /// No media port. The call has no bridge and gets none.
    BridgeFailed {
        /// The call.
        call: CallId,
        /// Why.
        cause: BridgeFailure,
    },
    /// The call's second media port is bound, in answer to [`crate::Output::OpenSecond`].
    SecondOpened {
        /// The call.
        call: CallId,
        /// Our RTP address as the second leg is to see it. RTCP is the next port up.
        rtp: SocketAddr,
    },
    /// There is no second media port.
    SecondFailed {
        /// The call.
        call: CallId,
        /// Why.
        cause: BridgeFailure,
    },
    /// The agent's WebSocket is up.
    AgentConnected {
        /// The call.
        call: CallId,
    },
    /// The agent's WebSocket could not be had.
    AgentRefused {
        /// The call.
        call: CallId,
        /// Why.
        cause: AgentFailure,
    },
    /// The caller was looked up, as the plan of the call asked; comes before `AgentConnected`.
    CallerLookedUp {
        /// The call.
        call: CallId,
        /// Whether a caller of whom nothing is known is refused.
        must_be_known: bool,
        /// What came of it.
        answer: CallerAnswer,
    },
    /// The call's bridge reports.
    Bridge {
        /// The call.
        call: CallId,
        /// What.
        event: BridgeEvent,
    },
    /// The call's bridge is gone: its port rests, its agent's socket is closed. Nothing more comes from it.
    BridgeClosed {
        /// The call.
        call: CallId,
        /// What it counted.
        statistics: Box<BridgeStatistics>,
    },
    /// The API wants something.
    Command(Command),
    /// Whether the records of calls that ended cannot be kept up with: then no new ones are taken until they can.
    RecordsBehind(bool),
    /// Take no new calls; end those that are left at this instant.
    Drain {
        /// The bound.
        until: Instant,
    },
}

/// What the API may ask of a live call. A call that is not there is no error: it may have ended meanwhile.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// End it.
    HangUp {
        /// The call.
        call: CallId,
        /// Whether its record shall say that it was stopped or that it ended.
        as_what: HangUpCommand,
    },
    /// Send digits to the caller.
    SendDtmf {
        /// The call.
        call: CallId,
        /// `0-9*#A-D`; others are left out.
        digits: String,
        /// Length of each, in milliseconds.
        duration_ms: u16,
    },
    /// Send its caller elsewhere.
    Transfer {
        /// The call.
        call: CallId,
        /// Where to, and how.
        order: Box<TransferOrder>,
    },
    /// Record it, or change how. What cannot be in the recording's state is let go.
    Record {
        /// The call.
        call: CallId,
        /// What.
        command: RecordingCommand,
    },
    /// Its recording cannot be written any further.
    RecordingFailed {
        /// The call.
        call: CallId,
        /// Why, in words; they go into the call's record.
        why: String,
    },
}

/// How a commanded hang-up is recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HangUpCommand {
    /// `stopped`: somebody broke it off (Bolna's `/call/{id}/stop`).
    Stop,
    /// `completed`: the agent's own way to hang up (the Twilio-style `Status=completed`).
    Complete,
}

/// Why there is no media port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BridgeFailure {
    /// Every port of the range is in use or resting.
    NoPorts,
    /// The media threads carry all they may.
    Overloaded,
    /// The operating system refused.
    System,
}

impl fmt::Display for BridgeFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::NoPorts => "every media port is in use or resting",
            Self::Overloaded => "the media threads carry all they may",
            Self::System => "the operating system refused a media port",
        })
    }
}

/// Why an agent could not be had. The texts say where and why; they go into the call's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AgentFailure {
    /// The URL is none that can be dialled, after its templates were filled in.
    BadUrl(String),
    /// Policy forbids the address, for example a private network.
    Forbidden(String),
    /// The name does not resolve.
    NameUnknown(String),
    /// The connection was refused, reset or has no route.
    Unreachable(String),
    /// TLS failed: certificate, name, version.
    Tls(String),
    /// The server answered the upgrade with this status instead of 101.
    Status(u16),
    /// The server's answer is no WebSocket upgrade.
    NotWebSocket(String),
    /// The shell's own time ran out.
    Timeout,
}

impl fmt::Display for AgentFailure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadUrl(why) => write!(formatter, "the agent's url cannot be dialled: {why}"),
            Self::Forbidden(address) => write!(formatter, "policy forbids the agent's address {address}"),
            Self::NameUnknown(why) => write!(formatter, "the agent's host name does not resolve: {why}"),
            Self::Unreachable(why) => write!(formatter, "the agent's server cannot be reached: {why}"),
            Self::Tls(why) => write!(formatter, "TLS with the agent's server failed: {why}"),
            Self::Status(status) => write!(formatter, "the agent's server answered {status} to the upgrade"),
            Self::NotWebSocket(why) => {
                write!(formatter, "the agent's server does not speak WebSocket: {why}")
            }
            Self::Timeout => formatter.write_str("the agent's server did not answer in time"),
        }
    }
}
