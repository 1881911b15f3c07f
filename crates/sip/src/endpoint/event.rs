//! What goes out of the endpoint: messages to send and events to answer.
//!
//! An engine's duties are few: answer each [`Event::Incoming`] (or drop it, which is silence), answer
//! each [`Event::Offer`], and forget a session at its [`Event::Ended`], which comes exactly once for
//! each session and is the last event that names it.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::auth::Answerer;
use crate::error::Fault;
use crate::flow::{Flow, Transport};
use crate::ids::{RequestId, SessionId, TransmitId};
use crate::message::{Request, Response, Unreadable};

/// One message to send, or one connection to close.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Names this transmission should it fail.
    pub id: TransmitId,
    /// Where it goes.
    pub target: Target,
    /// The whole message; empty for [`Target::Close`].
    pub payload: Bytes,
}

/// Where a message goes.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// Over this flow; for streams: over this open connection.
    Flow(Flow),
    /// To an address. Streams: over an open connection to it, or over a new one.
    Address {
        /// The transport to speak.
        transport: Transport,
        /// Our address to send from, where it is known: peers check it.
        local: Option<SocketAddr>,
        /// The peer.
        remote: SocketAddr,
        /// The name that led to the address, where one did: over TLS the peer has to prove that it bears it
        /// (RFC 5922 7.1).
        name: Option<String>,
    },
    /// To a name that is resolved first (RFC 3263).
    Name {
        /// The transport to speak.
        transport: Transport,
        /// The host name.
        host: String,
        /// The port, if one is written: then no SRV lookup is made.
        port: Option<u16>,
    },
    /// Close this connection; there is no payload.
    Close(Flow),
}

impl Target {
    /// The transport spoken.
    pub fn transport(&self) -> Transport {
        match self {
            Self::Flow(flow) | Self::Close(flow) => flow.transport,
            Self::Address { transport, .. } | Self::Name { transport, .. } => *transport,
        }
    }

    /// The peer's address, where it is known.
    pub fn remote(&self) -> Option<SocketAddr> {
        match self {
            Self::Flow(flow) | Self::Close(flow) => Some(flow.remote),
            Self::Address { remote, .. } => Some(*remote),
            Self::Name { .. } => None,
        }
    }
}

/// What happened.
#[derive(Debug)]
pub enum Event {
    /// A request outside of any dialog. Nothing is stored for it: answer with
    /// [`crate::Endpoint::refuse`], [`crate::Endpoint::accept`], [`crate::Endpoint::answer_options`]
    /// or [`crate::Endpoint::respond`], or drop it.
    Incoming(Box<Incoming>),
    /// Bytes that are no SIP message. Answer with [`crate::Endpoint::refuse_malformed`] if the source
    /// deserves an answer, or drop it.
    Malformed(Box<Malformed>),
    /// The ACK to our 2xx came: to the INVITE that made the session or to a re-INVITE.
    Acknowledged {
        /// The session.
        session: SessionId,
        /// The answer, where our 2xx held the offer (RFC 3261 13.2.1).
        body: Option<Bytes>,
    },
    /// PRACK came for a reliable provisional response (RFC 3262).
    ProvisionalAcknowledged {
        /// The session.
        session: SessionId,
        /// The answer, where our provisional response held the offer.
        body: Option<Bytes>,
    },
    /// The peer wants to change the session or asks for an offer. Answer with
    /// [`crate::Endpoint::answer_offer`] or [`crate::Endpoint::refuse_offer`].
    Offer {
        /// The session.
        session: SessionId,
        /// What carries the offer.
        kind: OfferKind,
        /// The offer; none in a re-INVITE that asks for ours.
        offer: Option<Bytes>,
    },
    /// The peer cancelled its re-INVITE before it was answered; no answer is due any more.
    OfferWithdrawn {
        /// The session.
        session: SessionId,
    },
    /// The session was refreshed (RFC 4028), by either side, without change.
    Refreshed {
        /// The session.
        session: SessionId,
    },
    /// An INFO came and was answered 200.
    Info {
        /// The session.
        session: SessionId,
        /// The value of Content-Type.
        content_type: Option<Bytes>,
        /// The body.
        body: Bytes,
    },
    /// The peer answered our REFER: 2xx takes it, anything else refuses it (408 and 503 when nothing came), and the
    /// session stands.
    ReferAnswered {
        /// The session.
        session: SessionId,
        /// The status.
        status: u16,
    },
    /// The peer tells what came of our REFER so far.
    ReferProgress {
        /// The session.
        session: SessionId,
        /// The status it met where it was referred to, if it says so.
        status: Option<u16>,
        /// Nothing more will be told.
        is_over: bool,
    },
    /// The peer asked us to go elsewhere and was refused with 405, for the session's policy takes no REFER.
    ReferRefused {
        /// The session.
        session: SessionId,
        /// The value of Refer-To.
        refer_to: Bytes,
    },
    /// The peer asks us to go elsewhere. Answer with [`crate::Endpoint::accept_refer`] or
    /// [`crate::Endpoint::refuse_refer`].
    Referred {
        /// The session.
        session: SessionId,
        /// The value of Refer-To, which is a name-addr.
        refer_to: Bytes,
    },
    /// A provisional response above 100 to our INVITE.
    Progress {
        /// The session.
        session: SessionId,
        /// Its status.
        status: u16,
        /// Its body, which is an answer or, to an INVITE without offer, an offer.
        body: Option<Bytes>,
    },
    /// The first 2xx to our INVITE; it is acknowledged already, unless it holds an offer that awaits
    /// [`crate::Endpoint::acknowledge`].
    Answered {
        /// The session.
        session: SessionId,
        /// Its status.
        status: u16,
        /// Its body: the answer, or the offer to an INVITE without one.
        body: Option<Bytes>,
        /// The response.
        response: Box<Response>,
    },
    /// Our re-INVITE or UPDATE was answered 2xx.
    OfferAnswered {
        /// The session.
        session: SessionId,
        /// The answer.
        body: Option<Bytes>,
    },
    /// Our re-INVITE or UPDATE was refused; the session stands as it was (RFC 3261 14.1).
    OfferRefused {
        /// The session.
        session: SessionId,
        /// The status; 408 when nothing came, 491 when both sides tried at once.
        status: u16,
    },
    /// The session is over. Exactly one for each session, and the last event of it.
    Ended {
        /// The session.
        session: SessionId,
        /// Who or what ended it.
        by: EndedBy,
        /// The value of the Reason header that came with it (RFC 3326).
        reason: Option<Bytes>,
    },
    /// A response to [`crate::Endpoint::request`].
    Response {
        /// The request.
        request: RequestId,
        /// The final response.
        response: Box<Response>,
        /// The credentials it was sent with, which have kept count of their nonces: for the next request.
        credentials: Option<Box<Answerer>>,
    },
    /// A request of [`crate::Endpoint::request`] that got no response.
    NoResponse {
        /// The request.
        request: RequestId,
        /// Why.
        cause: NoResponseCause,
        /// The credentials it was sent with.
        credentials: Option<Box<Answerer>>,
    },
}

/// Why a request outside of dialogs has no response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoResponseCause {
    /// Timer F: 64*T1 passed.
    TimedOut,
    /// The transport could not send it.
    TransportFailed,
}

/// What carries an offer within a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferKind {
    /// A re-INVITE (RFC 3261 14).
    ReInvite,
    /// An UPDATE (RFC 3311).
    Update,
    /// A PRACK (RFC 3262 5).
    Prack,
}

/// Who or what ended a session.
#[derive(Debug)]
pub enum EndedBy {
    /// The peer's BYE.
    ByeReceived,
    /// The peer's CANCEL before we answered, or the Expires of its INVITE (RFC 3261 13.3.1).
    Cancelled,
    /// Our refusal of the peer's INVITE.
    Rejected {
        /// The status we sent.
        status: u16,
    },
    /// Our BYE or CANCEL.
    HungUp,
    /// The peer refused our INVITE.
    Refused {
        /// The status it sent.
        status: u16,
        /// The response, for its headers (Retry-After, Reason, Warning, Contact).
        response: Box<Response>,
    },
    /// Nobody answered in time: our INVITE got nothing (timer B), or nothing but ringing; or the peer's INVITE
    /// got no decision from the engine within the bound on ringing.
    NoResponse,
    /// No ACK came for our 2xx within 64*T1; a BYE was sent (RFC 3261 13.3.1.4).
    NoAck,
    /// No PRACK came for a reliable provisional response within 64*T1 (RFC 3262 3).
    NoPrack,
    /// The session was not refreshed in time; a BYE was sent (RFC 4028 10).
    SessionExpired,
    /// A request of ours within the dialog got 481, 408 or nothing: the peer has forgotten the
    /// dialog (RFC 3261 12.2.1.2).
    DialogLost,
    /// The transport could not reach the peer.
    TransportLost,
}

/// A request outside of any dialog, before any state exists for it.
#[derive(Debug)]
pub struct Incoming {
    pub(crate) request: Request,
    pub(crate) flow: Flow,
    pub(crate) objection: Option<Refusal>,
}

impl Incoming {
    /// The request.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// What it came over.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// The address it came from.
    pub fn source(&self) -> SocketAddr {
        self.flow.remote
    }

    /// The session description it carries, alone or as a part of its body.
    pub fn offer(&self) -> Option<Bytes> {
        super::body::session_description(self.request.fields())
    }

    /// What the protocol itself has against this request: 405, 406, 413, 415, 416, 420, 422, 482, 483,
    /// 488, 501. A known peer is refused with it; a stranger is refused as a stranger.
    /// [`crate::Endpoint::accept`] refuses with it by itself.
    pub fn objection(&self) -> Option<&Refusal> {
        self.objection.as_ref()
    }
}

/// Bytes that are no SIP message.
#[derive(Debug)]
pub struct Malformed {
    pub(crate) flow: Flow,
    pub(crate) fault: Fault,
    pub(crate) unreadable: Option<Unreadable>,
}

impl Malformed {
    /// What they came over.
    pub fn flow(&self) -> Flow {
        self.flow
    }

    /// The address they came from.
    pub fn source(&self) -> IpAddr {
        self.flow.remote.ip()
    }

    /// What is wrong with them.
    pub fn fault(&self) -> Fault {
        self.fault
    }

    /// The status the RFC asks for, if enough could be read to send it anywhere.
    pub fn status(&self) -> Option<u16> {
        self.unreadable.as_ref().map(|_| self.fault.status())
    }
}

/// A final response that is not 2xx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// 300 to 699.
    pub status: u16,
    /// The reason phrase; none means the usual one.
    pub phrase: Option<String>,
    /// Further headers, name and value.
    pub headers: Vec<(Bytes, Bytes)>,
}

impl Refusal {
    /// A refusal with the usual phrase and no further headers.
    pub fn new(status: u16) -> Self {
        debug_assert!((300..700).contains(&status), "a refusal is a final response that is not 2xx");
        Self { status, phrase: None, headers: Vec::new() }
    }

    /// The same with a phrase of its own.
    #[must_use]
    pub fn phrase(mut self, phrase: impl Into<String>) -> Self {
        self.phrase = Some(phrase.into());
        self
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<Bytes>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Why a call of the endpoint's methods did nothing: the session is not in a state for it. Races with
/// the peer cause these, so none is a bug by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misuse {
    /// There is no such session, or it has ended.
    #[error("the session has ended or never was")]
    NoSession,
    /// The session is in no state for this.
    #[error("the session is in no state for this")]
    WrongState,
    /// A bound was reached; nothing was sent.
    #[error("a bound of the endpoint was reached")]
    Full,
    /// What was given makes no valid message.
    #[error("what was given makes no valid message")]
    BadInput,
}

/// Why an INVITE was not accepted; in each case but the last it has been refused already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotAccepted {
    /// The protocol objects; refused with this status.
    #[error("refused with {0} by protocol")]
    Objection(u16),
    /// A bound was reached; refused with 503 and Retry-After.
    #[error("a bound of the endpoint was reached")]
    Overloaded,
    /// Only INVITE makes a session; refused with 501.
    #[error("not an INVITE")]
    NotInvite,
    /// The same INVITE was accepted before; this one is its repeat.
    #[error("the INVITE was accepted before")]
    Repeated,
}
