//! The subcommands of `tandem`, a module each: its arguments and its `run`.

pub mod agent;
pub mod call;
pub mod check;
pub mod demo;
pub mod key;
pub mod serve;
pub mod transfer;
