//! The engine as a whole, through its inputs and outputs alone.
//!
//! `desk` is virtual time, a shell that does as it is told and a caller of few words; `call` walks the paths of one call,
//! `states` holds every state against every input, `strangers` knock at the door, `outbound` is called by us, `transfer` sends
//! callers elsewhere, `register` keeps registrations, `waiting` is a node that starts.

mod call;
mod desk;
mod dry_run;
mod outbound;
mod qualify;
mod redirects;
mod register;
mod rules;
mod states;
mod strangers;
mod transfer;
mod waiting;
