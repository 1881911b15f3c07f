//! SIP as pure state machines: bytes in, SIP events out.
//!
//! This crate holds no socket, reads no clock, spawns no task and draws no randomness of its own
//! (RFC 3261 and its extensions, each cited where it decides something). Messages are spans over one
//! [`bytes::Bytes`]; header bytes pass through unchanged and values are looked at on demand.

pub mod auth;
mod dialog;
mod endpoint;
mod error;
mod flow;
mod ids;
pub mod message;
mod timers;
mod transaction;
pub mod wire;

pub use endpoint::{
    Census, ContactUse, Counters, EndedBy, Endpoint, EndpointConfig, EndpointLimits, Event, Incoming,
    LargeRequests, Malformed, Misuse, Network, NoResponseCause, NotAccepted, OfferKind, OutgoingInvite,
    OutgoingRequest, Reach, Refresher, Refusal, ReliableProvisionals, SessionPolicy, SessionTimerConfig,
    Target, TimingConfig, Transmit,
};
pub use error::{Fault, ParseError};
pub use flow::{Flow, Transport};
pub use ids::{RequestId, SessionId, TransmitId};
pub use message::{
    CSeq, Fields, HeaderName, Message, Method, NameAddr, Request, RequestBuilder, Response, ResponseBuilder,
    ResponseRouting, Scheme, Unreadable, Uri, Via,
};
