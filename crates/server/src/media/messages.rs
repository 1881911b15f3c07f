//! What signalling and a media thread tell each other: rare words about whole calls, never a packet.

use std::net::{IpAddr, SocketAddr};

use tandem_call::{
    BridgeFailure, CallId,
    bridge::{BridgeCommand, BridgeEvent, BridgePlan, BridgeStatistics},
};

use crate::api::MediaReport;
use crate::net::ws_connect::Connected;

/// What signalling tells a media thread.
#[derive(Debug)]
pub(super) enum MediaCommand {
    /// Bind ports and make the bridge.
    Open {
        /// The plan.
        plan: Box<BridgePlan>,
        /// Where to bind.
        bind: IpAddr,
        /// The address written into SDP.
        advertised: IpAddr,
        /// For the bridge's random numbers.
        seed: u64,
    },
    /// Bind ports for a second leg.
    OpenSecond {
        /// The call.
        call: CallId,
        /// Where to bind.
        bind: IpAddr,
        /// The address written into SDP.
        advertised: IpAddr,
    },
    /// The agent has been reached.
    Attach {
        /// The call.
        call: CallId,
        /// The agent's connection.
        connected: Box<Connected>,
    },
    /// For the bridge.
    Bridge {
        /// The call.
        call: CallId,
        /// What to do.
        command: Box<BridgeCommand>,
    },
    /// Tell what the call has counted so far.
    Report {
        /// The call.
        call: CallId,
        /// To whom.
        report: MediaReport,
    },
    /// End the call.
    Close {
        /// The call.
        call: CallId,
    },
    /// End the thread.
    Stop,
}

/// What a media thread tells signalling.
#[derive(Debug)]
pub enum MediaEvent {
    /// Ports are bound.
    Opened {
        /// The call.
        call: CallId,
        /// The RTP address to advertise.
        rtp: SocketAddr,
    },
    /// The call cannot be carried.
    Failed {
        /// The call.
        call: CallId,
        /// Why.
        cause: BridgeFailure,
    },
    /// The second leg's ports are bound.
    SecondOpened {
        /// The call.
        call: CallId,
        /// The RTP address to advertise.
        rtp: SocketAddr,
    },
    /// There are no ports for a second leg.
    SecondFailed {
        /// The call.
        call: CallId,
        /// Why.
        cause: BridgeFailure,
    },
    /// The bridge reports something.
    Bridge {
        /// The call.
        call: CallId,
        /// What.
        event: BridgeEvent,
    },
    /// The call is closed; nothing more comes of it.
    Closed {
        /// The call.
        call: CallId,
        /// What it counted.
        statistics: Box<BridgeStatistics>,
    },
}
