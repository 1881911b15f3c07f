//! The rules of the house that a compiler does not check: which room may depend on which,
//! which file may name which crate, what the cores may not touch, which licences the
//! dependencies carry. Reads the sources and `cargo metadata`; needs no network.

mod layout;
mod licences;
mod sources;
