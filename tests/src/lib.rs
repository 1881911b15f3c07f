//! The simulated world.

pub mod product;
