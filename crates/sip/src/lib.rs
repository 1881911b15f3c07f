//! SIP as pure state machines: bytes in, SIP events out.
//!
//! This crate holds no socket, reads no clock, spawns no task and draws no randomness of its own
//! (RFC 3261 and its extensions, each cited where it decides something). Messages are spans over one
//! [`bytes::Bytes`]; header bytes pass through unchanged and values are looked at on demand.

pub mod auth;
mod error;
mod flow;
pub mod message;
pub mod wire;

pub use error::{Fault, ParseError};
pub use flow::{Flow, Transport};
pub use message::{
    CSeq, Fields, HeaderName, Message, Method, NameAddr, Request, RequestBuilder, Response, ResponseBuilder,
    Scheme, Unreadable, Uri, Via,
};
