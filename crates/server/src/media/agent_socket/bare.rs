//! AudioSocket on bare TCP: a stream cut into its frames, and what the system did not take kept for later.
//!
//! Frames are handed on whole, head and all; the dialect knows what they mean. The bounds are the caller's.

use std::{
    io::{ErrorKind, Read, Write},
    net::Shutdown,
};

use bytes::BytesMut;
use tandem_agent::{FrameKind, audiosocket_frame_bytes};

use super::{Counted, READ_BUFFER_BYTES, Received, Sent, Stream};

/// One connection.
#[derive(Debug)]
pub(super) struct Bare {
    pub(super) counted: Counted,
    /// Begun frames of the agent: at most one whole frame of 64 KiB and a read.
    inbound: BytesMut,
    /// What waits to be written.
    outbound: BytesMut,
    /// Nothing is written after what waits.
    is_closing: bool,
}

impl Bare {
    pub(super) fn new(counted: Counted) -> Self {
        Self { counted, inbound: BytesMut::new(), outbound: BytesMut::new(), is_closing: false }
    }

    pub(super) fn receive(&mut self) -> Received {
        loop {
            if let Some(length) = audiosocket_frame_bytes(&self.inbound)
                && self.inbound.len() >= length
            {
                return Received::Message(FrameKind::Binary, self.inbound.split_to(length).freeze());
            }
            let mut buffer = [0; READ_BUFFER_BYTES];
            match self.counted.read(&mut buffer) {
                Ok(0) => return Received::Closed(None),
                Ok(length) => self.inbound.extend_from_slice(&buffer[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Received::Blocked,
                Err(error) if error.kind() == ErrorKind::Interrupted => return Received::Control,
                Err(error) => return Received::Broken(error.to_string()),
            }
        }
    }

    pub(super) fn send(&mut self, frame: &[u8]) -> Sent {
        if self.is_closing {
            return Sent::Dropped;
        }
        self.outbound.extend_from_slice(frame);
        self.flush()
    }

    pub(super) fn close(&mut self) -> Sent {
        self.is_closing = true;
        self.flush()
    }

    pub(super) fn flush(&mut self) -> Sent {
        while !self.outbound.is_empty() {
            match self.counted.write(&self.outbound) {
                Ok(0) => return Sent::Broken,
                Ok(length) => drop(self.outbound.split_to(length)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Sent::Accepted,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Sent::Broken,
            }
        }
        if self.is_closing
            && let Stream::Plain(stream) = &self.counted.stream
        {
            // The other side may have closed first.
            let _ = stream.shutdown(Shutdown::Write);
        }
        Sent::Accepted
    }
}
