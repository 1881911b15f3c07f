//! Where messages begin and end on the wire. A datagram is one message
//! ([`crate::Message::parse_datagram`]); a stream has to be cut.

mod stream;

pub use stream::{FramingError, StreamFramer, StreamItem};
