//! The simulated world: the production engine and bridges among scripted carriers and agents, over a seeded bad
//! network, in virtual time; and helpers for the tests that run the real binary.

pub mod agent;
pub mod audio;
pub mod awaited;
pub mod carrier;
pub mod certificates;
pub mod check;
pub mod dice;
pub mod link;
pub mod log_watch;
pub mod marks;
pub mod message;
pub mod model;
pub mod operator;
pub mod postgres;
pub mod product;
pub mod sabotage;
pub mod shrink;
pub mod swarm;
pub mod trace;
pub mod world;
