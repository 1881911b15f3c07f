//! How good the audio is: speech to judge it by, what is measured, and the concealments that ours stands beside.
//!
//! Figures of the `sound_quality` command; nothing here is used by the product.

pub mod appendix_i;
pub mod loss;
pub mod measure;
pub mod pesq;
pub mod speech;
