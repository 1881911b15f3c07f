//! Cuts a byte stream into messages and keep-alives, at whatever points the network split it.
//!
//! It reads only what framing needs and refuses what cannot be framed for certain: on a stream a wrong
//! length is not one bad message but every message after it. It holds at most one message and what was
//! pushed last. RFC 3261 sections 18.3 and 20.14, RFC 5626 sections 3.5.1 and 4.4.1.

use bytes::Bytes;

use crate::error::{Fault, ParseError};
use crate::message::{HeaderName, MAX_HEADER, MAX_HEADERS, MAX_MESSAGE, Unreadable};

/// What a stream is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StreamItem {
    /// The bytes of one message, ready for [`crate::Message::parse_datagram`].
    Message(Bytes),
    /// Two line ends between messages: "it MUST immediately respond with a single CRLF over the same
    /// connection" (RFC 5626 section 4.4.1).
    KeepAlivePing,
    /// One line end between messages: the answer to a ping of ours, or the first half of the peer's ping.
    /// A ping thus shows as `KeepAlivePong`, `KeepAlivePing`, however it was split.
    KeepAlivePong,
}

/// The stream cannot be framed any more: answer what can be answered, and close it.
#[derive(Debug, thiserror::Error)]
#[error("stream framing lost: {}", .0.fault())]
pub struct FramingError(ParseError);

impl FramingError {
    /// What is wrong.
    pub fn fault(&self) -> Fault {
        self.0.fault()
    }

    /// What could be read of the request at fault, if its header section is complete: it deserves the
    /// refusal of its fault before the connection is closed.
    pub fn into_refusable(self) -> Option<Unreadable> {
        self.0.into_refusable()
    }
}

/// Most lines a header section may have; folded lines count.
const MAX_LINES: usize = 2 * MAX_HEADERS;

/// Room kept between messages; more is given back.
const KEPT_CAPACITY: usize = 4096;

/// Cuts one stream. Push what was read, then take items until there is none.
#[derive(Debug, Default)]
pub struct StreamFramer {
    buffer: Vec<u8>,
    /// Where the bytes not yet returned start.
    start: usize,
    state: State,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Between messages; how many line ends have come since the last message.
    Between { line_ends: u64 },
    /// In a header section. Offsets count from the message's start.
    Head { scanned: usize, line_start: usize, lines: usize },
    /// The header section is complete; the message has this many bytes in all.
    Body { total: usize },
    /// Framing was lost.
    Failed(Fault),
}

impl Default for State {
    fn default() -> Self {
        Self::Between { line_ends: 0 }
    }
}

impl StreamFramer {
    /// A framer at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes as they were read. Drain [`Self::next`] after each push: what is held then is less than
    /// [`MAX_MESSAGE`], so the caller's read size bounds the rest.
    pub fn push(&mut self, bytes: &[u8]) {
        if matches!(self.state, State::Failed(_)) {
            return;
        }
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// The next item; `None` until more bytes come.
    ///
    /// # Errors
    /// When the stream cannot be framed. The error stays: nothing more is taken.
    #[allow(clippy::should_implement_trait)] // fallible, and it resumes after None
    pub fn next(&mut self) -> Result<Option<StreamItem>, FramingError> {
        loop {
            let pending = &self.buffer[self.start..];
            match self.state {
                State::Failed(fault) => return Err(FramingError(ParseError::new(fault, None))),
                State::Between { line_ends } => match pending {
                    [b'\r', b'\n', ..] => {
                        self.start += 2;
                        self.state = State::Between { line_ends: line_ends + 1 };
                        return Ok(Some(if line_ends % 2 == 0 {
                            StreamItem::KeepAlivePong
                        } else {
                            StreamItem::KeepAlivePing
                        }));
                    }
                    [] | [b'\r'] => return Ok(self.wait()),
                    // A bare line end is no keep-alive; some devices end their bodies with one too many.
                    [b'\n', ..] => self.start += 1,
                    [..] => self.state = State::Head { scanned: 0, line_start: 0, lines: 0 },
                },
                State::Head { scanned, line_start, lines } => {
                    match scan_head(pending, scanned, line_start, lines) {
                        Ok(Scan::Unfinished(state)) => {
                            self.state = state;
                            return Ok(None);
                        }
                        Ok(Scan::HeadEnd(end)) => {
                            let total = message_length(&pending[..end]);
                            match total {
                                Ok(total) => self.state = State::Body { total },
                                Err(fault) => return Err(self.fail(fault, end)),
                            }
                        }
                        Err(fault) => return Err(self.fail(fault, 0)),
                    }
                }
                State::Body { total } => {
                    if pending.len() < total {
                        return Ok(None);
                    }
                    let message = Bytes::copy_from_slice(&pending[..total]);
                    self.start += total;
                    self.state = State::default();
                    return Ok(Some(StreamItem::Message(message)));
                }
            }
        }
    }

    /// Whether a message has begun and not ended: such a connection is owed a shorter patience.
    pub fn is_mid_message(&self) -> bool {
        matches!(self.state, State::Head { .. } | State::Body { .. })
    }

    /// How many bytes are held.
    pub fn held(&self) -> usize {
        self.buffer.len() - self.start
    }

    /// Nothing but perhaps half a line end is left: gives back what a large message took.
    fn wait(&mut self) -> Option<StreamItem> {
        self.buffer.drain(..self.start);
        self.start = 0;
        self.buffer.shrink_to(KEPT_CAPACITY);
        None
    }

    /// Loses the stream, keeping for the refusal what the header section says, if it is complete.
    fn fail(&mut self, fault: Fault, head_end: usize) -> FramingError {
        let head = &self.buffer[self.start..self.start + head_end];
        let unreadable = (head_end > 0).then(|| Unreadable::read(Bytes::copy_from_slice(head))).flatten();
        self.buffer = Vec::new();
        self.start = 0;
        self.state = State::Failed(fault);
        FramingError(ParseError::new(fault, unreadable))
    }
}

enum Scan {
    Unfinished(State),
    HeadEnd(usize),
}

/// Looks at each new line of the header section once, whatever the pieces it comes in.
fn scan_head(
    bytes: &[u8],
    mut scanned: usize,
    mut line_start: usize,
    mut lines: usize,
) -> Result<Scan, Fault> {
    while let Some(found) = memchr::memchr(b'\n', &bytes[scanned..]) {
        let end = scanned + found;
        let line = &bytes[line_start..end];
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if lines == 0 && !is_start_line(line) {
            return Err(Fault::StartLine);
        }
        check_head_size(end + 1, line.len())?;
        lines += 1;
        if lines > MAX_LINES {
            return Err(Fault::TooManyHeaders);
        }
        if line.is_empty() {
            return Ok(Scan::HeadEnd(end + 1));
        }
        scanned = end + 1;
        line_start = scanned;
    }
    check_head_size(bytes.len(), bytes.len() - line_start)?;
    Ok(Scan::Unfinished(State::Head { scanned: bytes.len(), line_start, lines }))
}

fn check_head_size(head: usize, line: usize) -> Result<(), Fault> {
    if head > MAX_MESSAGE {
        return Err(Fault::TooLarge);
    }
    if line > MAX_HEADER {
        return Err(Fault::HeaderTooLong);
    }
    Ok(())
}

/// Enough to tell SIP from HTTP, TLS and noise before anything is waited for.
fn is_start_line(line: &[u8]) -> bool {
    let line = line.trim_ascii_end();
    let version = line.iter().rposition(|&byte| byte == b' ').map_or(&b""[..], |space| &line[space + 1..]);
    [line, version].iter().any(|part| part.get(..4).is_some_and(|head| head.eq_ignore_ascii_case(b"SIP/")))
}

/// "The Content-Length header field MUST be used with stream oriented transports" (RFC 3261 section
/// 18.3): header section and body together.
fn message_length(head: &[u8]) -> Result<usize, Fault> {
    let body = crate::message::framed_length(head)?.ok_or(Fault::Missing(HeaderName::ContentLength))?;
    head.len().checked_add(body).filter(|&total| total <= MAX_MESSAGE).ok_or(Fault::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: &[u8] =
        b"OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\nl: 3\r\n\r\nabc";

    fn frame(pieces: &[&[u8]]) -> Result<Vec<StreamItem>, FramingError> {
        let mut framer = StreamFramer::new();
        let mut items = Vec::new();
        for piece in pieces {
            framer.push(piece);
            while let Some(item) = framer.next()? {
                items.push(item);
            }
        }
        assert_eq!(framer.held(), 0, "everything was taken");
        Ok(items)
    }

    fn fault(stream: &[u8]) -> Fault {
        let mut framer = StreamFramer::new();
        for piece in stream.chunks(1000) {
            framer.push(piece);
            loop {
                match framer.next() {
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(framer.held(), 0);
                        framer.push(b"more");
                        assert!(framer.next().is_err(), "the error stays");
                        assert_eq!(framer.held(), 0);
                        return error.fault();
                    }
                }
            }
            assert!(framer.held() < MAX_MESSAGE && framer.buffer.capacity() <= 2 * MAX_MESSAGE);
        }
        panic!("the stream was taken");
    }

    fn with_length(length: &str) -> Vec<u8> {
        let head = "BYE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP h;branch=z9hG4bK1\r\n";
        format!("{head}{length}\r\n\r\n").into_bytes()
    }

    #[test]
    fn items_are_the_same_at_every_pair_of_split_points() {
        let stream = [&b"\r\n\r\n"[..], OPTIONS, b"\r\n", OPTIONS, OPTIONS, b"\r\n\r\n\r\n"].concat();
        let whole = frame(&[&stream]).unwrap();
        let message = StreamItem::Message(Bytes::from_static(OPTIONS));
        let (ping, pong) = (StreamItem::KeepAlivePing, StreamItem::KeepAlivePong);
        let expected = [&pong, &ping, &message, &pong, &message, &message, &pong, &ping, &pong];
        assert_eq!(whole.iter().collect::<Vec<_>>(), expected);
        for first in 0..stream.len() {
            for second in first..stream.len() {
                let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
                assert_eq!(frame(&pieces).unwrap(), whole, "split at {first} and {second}");
            }
        }
    }

    #[test]
    fn bare_line_ends_frame_too() {
        let bare = b"\nOPTIONS sip:a@b SIP/2.0\nContent-Length:\n 2\n\nxy";
        assert_eq!(frame(&[bare]).unwrap(), [StreamItem::Message(Bytes::from_static(&bare[1..]))]);
    }

    /// RFC 3261 section 18.3: on a stream the length must be there and be certain.
    #[test]
    fn lengths_that_are_not_certain_lose_the_stream() {
        assert_eq!(fault(&with_length("X: y")), Fault::Missing(HeaderName::ContentLength));
        assert_eq!(fault(&with_length("Content-Length: -1")), Fault::ContentLength);
        assert_eq!(fault(&with_length("l: 5\r\nContent-Length: 6")), Fault::ContentLength);
        assert_eq!(fault(&with_length("Content-Length: 1000000000000")), Fault::TooLarge);
        assert_eq!(fault(&with_length("Content-Length: 99999999999999999999999")), Fault::ContentLength);
        assert_eq!(fault(&with_length("Content-Length: 65536")), Fault::TooLarge);
    }

    #[test]
    fn a_request_without_a_certain_length_can_still_be_refused() {
        let mut framer = StreamFramer::new();
        framer.push(&with_length("X: y"));
        let refusable = framer.next().unwrap_err().into_refusable().unwrap();
        assert_eq!(refusable.method().as_bytes(), b"BYE");
        assert!(refusable.fields().top_via().is_some());
    }

    #[test]
    fn hostile_streams_are_dropped_at_once_and_hold_nothing() {
        assert_eq!(fault(&[b'A'; 8 << 20]), Fault::HeaderTooLong);
        assert_eq!(fault(&[&with_length("X: y")[..60], &[b'A'; 1 << 20]].concat()), Fault::HeaderTooLong);
        let many = "X: y\r\n".repeat(20_000);
        assert_eq!(
            fault(&[&with_length("X: y")[..60], b"\r\n", many.as_bytes()].concat()),
            Fault::TooManyHeaders
        );
        let long = format!("X: {}\r\n", "y".repeat(8000)).repeat(20);
        assert_eq!(fault(&[&with_length("X: y")[..60], b"\r\n", long.as_bytes()].concat()), Fault::TooLarge);
        assert_eq!(fault(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Fault::StartLine);
        assert_eq!(fault(b"\x16\x03\x01\x02\x00\x01\n"), Fault::StartLine);
    }

    #[test]
    fn what_a_large_message_took_is_given_back() {
        let mut framer = StreamFramer::new();
        framer.push(&with_length("Content-Length: 60000"));
        framer.push(&[b'x'; 60_000]);
        assert!(matches!(framer.next(), Ok(Some(StreamItem::Message(_)))));
        assert!(matches!(framer.next(), Ok(None)));
        assert!(framer.buffer.capacity() <= KEPT_CAPACITY && !framer.is_mid_message());
    }
}
