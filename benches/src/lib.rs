//! What the benches and the call-load harness share: stamped audio, the barest WebSocket framing,
//! the measure of another process. Nothing here is used by the product.

pub mod arguments;
pub mod cases;
pub mod echo;
pub mod generator;
pub mod histogram;
pub mod line;
pub mod process;
pub mod signalling;
pub mod sound;
pub mod stamp;
pub mod websocket;
