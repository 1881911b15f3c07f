//! The endpoint: the only owner of transactions, dialogs, sessions and stream connections.
//!
//! Bytes and time go in by `handle_*`, decisions by the other methods; messages come out by
//! `poll_transmit`, news by `poll_event`, and `poll_timeout` says when to call `handle_timeout`. Drain all
//! three after each call, before the next. It refuses to know what a call is, who may call whom, and what
//! a session description says: that is the engine's. Each feature has its file:
//!
//! | file | what |
//! |---|---|
//! | `receive` | which transaction, dialog or event a message belongs to |
//! | `check` | what the protocol has against a request: 405, 406, 413, 415, 416, 420, 422, 482, 483, 501 |
//! | `stateless` | answers that leave no trace here |
//! | `transactions` | the four machines run, their actions carried out |
//! | `incoming` | INVITE as callee: provisional, 2xx until ACK, refusal, CANCEL |
//! | `outgoing` | INVITE as caller: early dialogs, forks, ACK, CANCEL, challenges |
//! | `within` | requests within a dialog: where they go, ACK to a 2xx, the same once more |
//! | `prack` | reliable provisional responses, both sides |
//! | `change` | re-INVITE and UPDATE, both sides, and their glare |
//! | `refresh` | session timers |
//! | `refer` | REFER and its NOTIFYs, both sides; whose place an INVITE may take |
//! | `end` | BYE, and the end of a session by whatever cause |
//! | `request` | requests outside of dialogs, for keeping watch and registering |
//! | `streams` | connections: framing, keep-alives, slowness, loss |
//!
//! RFC 3261, 3262, 3311, 3326, 3515, 3581, 3891, 4028, 5626, 6026.

mod body;
mod change;
mod check;
mod compose;
pub(crate) mod config;
mod counters;
mod end;
pub(crate) mod event;
mod incoming;
mod outgoing;
mod prack;
mod receive;
mod refer;
mod refresh;
mod request;
mod rerouting;
mod stateless;
mod streams;
mod transactions;
mod within;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use bytes::Bytes;

pub use config::{
    EndpointConfig, EndpointLimits, LargeRequests, Network, Reach, Refresher, ReliableProvisionals,
    SessionPolicy, SessionTimerConfig, TimingConfig,
};
pub use counters::{Census, Counters};
pub use event::{
    EndedBy, Event, Incoming, Malformed, Misuse, NoResponseCause, NotAccepted, OfferKind, Refusal, Target,
    Transmit,
};
pub use outgoing::OutgoingInvite;
pub use request::{ContactUse, OutgoingRequest};

use crate::dialog::DialogId;
use crate::dialog::invite::Session;
use crate::flow::Flow;
use crate::ids::{IdSource, RequestId, SessionId, TransactionId, TransmitId};
use crate::timers::Timers;
use crate::transaction::Timer;
use crate::transaction::key::{ClientKey, MergeKey, ServerKey};

/// What the endpoint waits for with a deadline, by owner. The order breaks ties: transactions first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum TimerKey {
    Transaction(TransactionId),
    /// A 2xx of ours, by session and CSeq.
    Success(SessionId, u32),
    Session(SessionId),
    Stream(Flow),
}

/// Why there is a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Reason {
    Transaction(Timer),
    RepeatSuccess,
    AckWait,
    RepeatProvisional,
    PrackWait,
    RepeatRinging,
    Ringing,
    CancelWait,
    Refresh,
    Expire,
    Retry,
    ChangeWait,
    StreamFirstMessage,
    StreamMessage,
    StreamIdle,
    StreamKeepAlive,
    StreamPong,
    ConnectWait,
}

impl Reason {
    const OF_SESSIONS: [Self; 9] = [
        Self::RepeatProvisional,
        Self::PrackWait,
        Self::RepeatRinging,
        Self::Ringing,
        Self::CancelWait,
        Self::Refresh,
        Self::Expire,
        Self::Retry,
        Self::ChangeWait,
    ];
    const OF_STREAMS: [Self; 5] = [
        Self::StreamFirstMessage,
        Self::StreamMessage,
        Self::StreamIdle,
        Self::StreamKeepAlive,
        Self::StreamPong,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Transaction(timer) => timer.name(),
            Self::RepeatSuccess => "send the 2xx again until its ACK",
            Self::AckWait => "give up waiting for the ACK of a 2xx",
            Self::RepeatProvisional => "send the reliable provisional response again",
            Self::PrackWait => "give up waiting for the PRACK",
            Self::RepeatRinging => "send the provisional response again so that proxies stay patient",
            Self::Ringing => "cancel the INVITE that rings too long",
            Self::CancelWait => "give up waiting for the end of a cancelled INVITE",
            Self::Refresh => "refresh the session",
            Self::Expire => "end the session that was not refreshed",
            Self::Retry => "try the change of the session again after glare",
            Self::ChangeWait => "give up on the re-INVITE that has only provisional responses",
            Self::StreamFirstMessage => "close the connection without a message",
            Self::StreamMessage => "close the connection with half a message",
            Self::StreamIdle => "close the silent connection",
            Self::StreamKeepAlive => "keep the connection of a session alive",
            Self::StreamPong => "close the connection whose peer answers pings no more",
            Self::ConnectWait => "send the large request by UDP, for no connection stands",
        }
    }
}

/// A SIP user agent as a state machine: see the module's description.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    ids: IdSource,
    secret: [u8; 32],
    servers: BTreeMap<TransactionId, transactions::ServerEntry>,
    server_keys: BTreeMap<ServerKey, TransactionId>,
    merged: BTreeMap<MergeKey, TransactionId>,
    clients: BTreeMap<TransactionId, transactions::ClientEntry>,
    client_keys: BTreeMap<ClientKey, TransactionId>,
    sessions: BTreeMap<SessionId, Session>,
    dialogs: BTreeMap<DialogId, SessionId>,
    requests: BTreeMap<RequestId, request::Pending>,
    streams: streams::Streams,
    tcp_refusals: rerouting::TcpRefusals,
    allowance: stateless::Allowance,
    timers: Timers<TimerKey, Reason>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Endpoint {
    /// An endpoint with nothing in it. All its identifiers and secrets follow from `seed`, which must
    /// not be guessable where the world is hostile.
    pub fn new(config: EndpointConfig, seed: u64) -> Self {
        let mut ids = IdSource::new(seed);
        let secret = ids.secret();
        Self {
            config,
            ids,
            secret,
            servers: BTreeMap::new(),
            server_keys: BTreeMap::new(),
            merged: BTreeMap::new(),
            clients: BTreeMap::new(),
            client_keys: BTreeMap::new(),
            sessions: BTreeMap::new(),
            dialogs: BTreeMap::new(),
            requests: BTreeMap::new(),
            streams: streams::Streams::default(),
            tcp_refusals: rerouting::TcpRefusals::default(),
            allowance: stateless::Allowance::default(),
            timers: Timers::new(),
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a datagram.
    pub fn handle_datagram(&mut self, now: Instant, flow: Flow, payload: Bytes) {
        debug_assert!(!flow.transport.is_reliable(), "streams come in by handle_stream");
        self.receive(now, flow, payload);
    }

    /// Does everything whose time has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((key, reason)) = self.timers.expire(now) {
            match key {
                TimerKey::Transaction(transaction) => match reason {
                    Reason::Transaction(timer) => self.transaction_timer(now, transaction, timer),
                    _ => self.connect_overdue(now, transaction),
                },
                TimerKey::Success(session, cseq) => self.success_timer(now, session, cseq, reason),
                TimerKey::Session(session) => self.session_timer(now, session, reason),
                TimerKey::Stream(flow) => self.stream_timer(now, flow, reason),
            }
        }
    }

    /// Takes the news that a message could not be sent.
    pub fn handle_transmit_failed(&mut self, now: Instant, transmit: TransmitId) {
        self.counters.transport_failures += 1;
        self.transmission_failed(now, TransactionId(transmit.0));
    }

    /// The next message to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// The next event.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`] next, and what for. After that call it lies after its `now`.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.timers.next().map(|(at, reason)| (at, reason.name()))
    }

    /// What was counted since the start.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// What is held now.
    pub fn census(&self) -> Census {
        Census {
            sessions: self.sessions.len(),
            dialogs: self.dialogs.len(),
            server_transactions: self.servers.len(),
            client_transactions: self.clients.len(),
            requests: self.requests.len(),
            streams: self.streams.len(),
            timers: self.timers.len(),
            transmits: self.transmits.len(),
            events: self.events.len(),
        }
    }

    /// The Call-ID of a session, for logs and records.
    pub fn call_id(&self, session: SessionId) -> Option<&[u8]> {
        self.sessions.get(&session).map(|session| &session.dialog.id().call_id[..])
    }

    fn session_timer(&mut self, now: Instant, session: SessionId, reason: Reason) {
        match reason {
            Reason::RepeatProvisional => self.repeat_reliable(now, session),
            Reason::PrackWait => self.prack_missing(now, session),
            Reason::RepeatRinging => self.repeat_ringing(now, session),
            Reason::Ringing => self.rings_too_long(now, session),
            Reason::CancelWait => self.cancel_unanswered(now, session),
            Reason::Refresh => self.refresh_due(now, session),
            Reason::Expire => self.session_expired(now, session),
            Reason::Retry => self.retry_change(now, session),
            Reason::ChangeWait => self.abandon_change(now, session),
            Reason::Transaction(_)
            | Reason::RepeatSuccess
            | Reason::AckWait
            | Reason::StreamFirstMessage
            | Reason::StreamMessage
            | Reason::StreamIdle
            | Reason::StreamKeepAlive
            | Reason::StreamPong
            | Reason::ConnectWait => debug_assert!(false, "{} is no session's timer", reason.name()),
        }
    }
}
