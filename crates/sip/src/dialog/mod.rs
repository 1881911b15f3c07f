//! Dialogs and the INVITE usage on them: plain data and pure decisions.
//!
//! What is awaited of a session stands in `invite`; who acts on it is the endpoint. RFC 3261 12 to 15,
//! RFC 3262, RFC 4028.

pub(crate) mod id;
pub(crate) mod invite;
pub(crate) mod refresh;
pub(crate) mod reliable;
pub(crate) mod state;

pub(crate) use id::DialogId;
pub(crate) use state::Dialog;
