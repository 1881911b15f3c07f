//! Everything that leaves the engine. Read [`crate::input`] first.
//!
//! For each call they come in this order: `OpenBridge`, any number of `Bridge` and `Progress`, `CloseBridge` (exactly once
//! if the bridge was opened), `Record` (exactly once for each call), `Ladder` (exactly once, after the last SIP message).
//! A call that we place begins with `FindWay`, which may come again; one that there is no room for has `NotPlaced` and nothing else.
//! Each call that we place has one `Verdict` too. A call refused because its account cannot pay for it has a `Record` and nothing else. Each INVITE gets exactly one `Verdict`, those silenced by a limit excepted, which are counted.

use std::net::IpAddr;
use std::sync::Arc;

use tandem_sip::Transmit;

use crate::admission::NoRoom;
use crate::bridge::{BridgeCommand, BridgePlan};
use crate::ids::{AccountId, CallId, TrunkId};
use crate::ladder::Rung;
use crate::location::Wanted;
use crate::qualify::{GatewayHealth, GatewayKey};
use crate::record::CallRecord;
use crate::register::RegistrationStatus;
use crate::verdict::Verdict;
use crate::waiting_room::Ticket;

/// One thing to do.
#[derive(Debug)]
pub enum Output {
    /// Send a SIP message, or close a connection.
    Transmit(Transmit),
    /// Bind a media port, make a bridge of the plan, answer with `BridgeOpened` or `BridgeFailed`; then dial the agent, if
    /// its plan says so, and answer with `AgentConnected` or `AgentRefused`.
    OpenBridge {
        /// The call.
        call: CallId,
        /// All the bridge needs to know.
        plan: Box<BridgePlan>,
    },
    /// Dial the agent of the call's plan, which waited for this ([`crate::bridge::AgentDial::WhenTold`]); answer with
    /// `AgentConnected` or `AgentRefused`.
    DialAgent {
        /// The call.
        call: CallId,
    },
    /// Bind a second media port for the call's bridge, on the way to this peer; answer with `SecondOpened` or
    /// `SecondFailed`. It is asked for once a call, and rests with the bridge.
    OpenSecond {
        /// The call.
        call: CallId,
        /// The peer's address, which tells the address family to bind.
        peer: IpAddr,
    },
    /// What is known of a gateway now; nothing, once it is not watched any more.
    Gateway {
        /// Which.
        key: GatewayKey,
        /// What.
        health: Option<Box<GatewayHealth>>,
    },
    /// How a trunk's registration stands now; nothing, once it has none.
    Registration {
        /// Whose trunk it is.
        account: AccountId,
        /// The trunk.
        trunk: TrunkId,
        /// How it stands.
        status: Option<Box<RegistrationStatus>>,
    },
    /// Find the addresses of a gateway, and ours on the way to each; answer with `WayFound` or `WayFailed`. It may be
    /// asked for no call, but to watch over a gateway or to register; `call` then only names the question.
    FindWay {
        /// The call.
        call: CallId,
        /// What is known of it.
        wanted: Wanted,
    },
    /// Find the numbers of these keys ([`crate::dialled::key`]) with what it takes to route them; answer with `RouteFound`.
    /// Asked only while the table is still being read. An answer that never comes does no harm: the INVITE waits on.
    FindRoute {
        /// Which INVITE.
        ticket: Ticket,
        /// The number of its Request-URI, and that of its To header where it is another.
        keys: Vec<String>,
    },
    /// A call was not placed, for a bound is reached: it may be ordered again later. Nothing more comes of it now.
    NotPlaced {
        /// The call.
        call: CallId,
        /// Which bound, and when it is worth trying again.
        no_room: NoRoom,
    },
    /// Tell the call's bridge something.
    Bridge {
        /// The call.
        call: CallId,
        /// What.
        command: BridgeCommand,
    },
    /// Close the bridge: stop dialling, let it say its last words to the agent, close the socket, let the port rest; then
    /// answer with `BridgeClosed`. Nothing more is sent to it.
    CloseBridge {
        /// The call.
        call: CallId,
    },
    /// The call's record so far: store it over what was there. Never final.
    Progress(Box<CallRecord>),
    /// The call's record for good: exactly once, and nothing of the call follows but its ladder.
    Record(Box<CallRecord>),
    /// What came of an INVITE.
    Verdict(Box<Verdict>),
    /// Every SIP message of a call, as far as its bound went.
    Ladder {
        /// The call.
        call: CallId,
        /// Whose it is.
        account: AccountId,
        /// The messages in order.
        rungs: Arc<[Rung]>,
    },
}
