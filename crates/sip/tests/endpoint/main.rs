//! The endpoint in virtual time: against scripted peers, message by message, and against another endpoint
//! over a seeded network that loses and delays.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on may stop")]
#![expect(clippy::disallowed_methods, reason = "virtual time starts somewhere")]

mod cancel;
mod change;
mod changes_of_ours;
mod check;
mod invite;
mod loss;
mod mutations;
mod odd_peers;
mod outgoing;
mod pair;
mod prack;
mod races;
mod refer;
mod refresh;
mod request;
mod rerouting;
mod solo;
mod streams;
mod table;
