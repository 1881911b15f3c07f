//! The WebSocket of one agent, on a nonblocking socket that the media thread polls (RFC 6455); or its bare TCP
//! connection, for AudioSocket.
//!
//! Bounds what an agent can cost: messages and frames have a largest size, and what waits to be written is
//! counted. An agent that does not read loses caller audio first (newest first, counted); what must arrive
//! (marks, events, the close) may wait up to a harder bound, and past that the socket is given up. Pings are
//! answered as soon as they are read. Refuses to know what messages mean.

mod bare;

use std::{
    io::{self, Read, Write},
    net::Shutdown,
};

use bytes::{Bytes, BytesMut};
use mio::{Interest, Registry, Token, net::TcpStream};
use rustls::{ClientConnection, StreamOwned};
use tandem_agent::{FrameKind, MAX_MESSAGE_BYTES};
use tungstenite::{
    Error, Message, Utf8Bytes,
    protocol::{CloseFrame, Role, WebSocket, WebSocketConfig, frame::coding::CloseCode},
};

use self::bare::Bare;
use crate::net::ws_connect::{AgentStream, Connected, Framing};

/// Most that is read at once. The library clears as much before each read and keeps twice as much: its default of
/// 128 KiB would be most of a call's memory and clearing it most of a message's cost. 20 ms of audio are 160
/// bytes, 1,300 in the most verbose dialect.
const READ_BUFFER_BYTES: usize = 2_048;
/// Caller audio waiting beyond this is dropped: four seconds of G.711, so that an agent which reads again
/// does not hear the distant past.
const DROPPABLE_PENDING_BYTES: usize = 32 * 1024;
/// Whatever waits beyond this ends the connection: the agent does not read any more.
const PENDING_BYTES: usize = 256 * 1024;
/// Kernel send buffer asked for; it is memory that a stalled agent holds, and delay once it reads again.
const KERNEL_SEND_BYTES: usize = 64 * 1024;
/// Bytes of header and mask on a frame of the client (RFC 6455 section 5.2), at most.
const FRAME_HEADER_BYTES: u64 = 14;

/// What became of a message that was to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sent {
    /// Written, or waiting within the bounds.
    Accepted,
    /// Dropped, since the agent does not read.
    Dropped,
    /// The connection is of no use any more.
    Broken,
}

/// What a read found.
#[derive(Debug)]
pub(super) enum Received {
    /// A whole message.
    Message(FrameKind, Bytes),
    /// A ping or pong; already dealt with.
    Control,
    /// Nothing more for now.
    Blocked,
    /// The agent's close frame, with its code if it had one. The reply is on its way.
    Closed(Option<u16>),
    /// The connection broke, or the agent broke the protocol.
    Broken(String),
}

/// An agent's WebSocket.
#[derive(Debug)]
pub(super) struct AgentSocket {
    socket: Socket,
    /// Bytes handed to the WebSocket, headers included by their upper bound.
    queued: u64,
    /// Reused for outgoing messages: the library wants shared bytes.
    outgoing: BytesMut,
}

#[derive(Debug)]
enum Socket {
    Web(Box<WebSocket<Counted>>),
    Bare(Bare),
}

impl Socket {
    fn counted(&self) -> &Counted {
        match self {
            Self::Web(socket) => socket.get_ref(),
            Self::Bare(socket) => &socket.counted,
        }
    }

    fn counted_mut(&mut self) -> &mut Counted {
        match self {
            Self::Web(socket) => socket.get_mut(),
            Self::Bare(socket) => &mut socket.counted,
        }
    }
}

/// The stream, counting what it has accepted.
#[derive(Debug)]
struct Counted {
    stream: Stream,
    written: u64,
    blocked: bool,
    /// Reading is pointless until the socket is reported ready again.
    is_drained: bool,
    /// The agent has sent its last byte: read to the end.
    is_ending: bool,
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl AgentSocket {
    /// Takes over a connection whose upgrade is done.
    pub(super) fn new(connected: Connected) -> Self {
        let stream = match connected.stream {
            AgentStream::Plain(stream) => Stream::Plain(TcpStream::from_std(bounded(stream))),
            AgentStream::Tls(stream, session) => {
                Stream::Tls(Box::new(StreamOwned::new(*session, TcpStream::from_std(bounded(stream)))))
            }
        };
        let config = WebSocketConfig::default()
            .read_buffer_size(READ_BUFFER_BYTES)
            .write_buffer_size(0)
            // Twice our own bound, so that ours decides.
            .max_write_buffer_size(PENDING_BYTES * 2)
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES));
        let counted = Counted { stream, written: 0, blocked: false, is_drained: false, is_ending: false };
        let socket = match connected.framing {
            Framing::WebSocket => {
                let leftover = connected.leftover;
                let socket = WebSocket::from_partially_read(counted, leftover, Role::Client, Some(config));
                Socket::Web(Box::new(socket))
            }
            Framing::AudioSocket => Socket::Bare(Bare::new(counted)),
        };
        Self { socket, queued: 0, outgoing: BytesMut::new() }
    }

    /// Has `registry` report this socket as `token`, edge-triggered.
    ///
    /// # Errors
    /// What the system says.
    pub(super) fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(self.tcp(), token, Interest::READABLE | Interest::WRITABLE)
    }

    /// The socket was reported readable; `is_ending` when the agent has closed its side.
    pub(super) fn ready(&mut self, is_ending: bool) {
        let counted = self.socket.counted_mut();
        counted.is_drained = false;
        counted.is_ending |= is_ending;
    }

    /// Reads one message.
    pub(super) fn receive(&mut self) -> Received {
        let socket = match &mut self.socket {
            Socket::Web(socket) => socket,
            Socket::Bare(socket) => return socket.receive(),
        };
        match socket.read() {
            Ok(Message::Binary(payload)) => Received::Message(FrameKind::Binary, payload),
            Ok(Message::Text(payload)) => Received::Message(FrameKind::Text, Bytes::from(payload)),
            Ok(Message::Ping(payload)) => {
                self.queued += FRAME_HEADER_BYTES + payload.len() as u64;
                // RFC 6455 section 5.5.2: the pong "SHOULD" be sent "as soon as is practical".
                match self.flush() {
                    Sent::Broken => {
                        Received::Broken("the connection broke while answering a ping".to_owned())
                    }
                    Sent::Accepted | Sent::Dropped => Received::Control,
                }
            }
            Ok(Message::Pong(_) | Message::Frame(_)) => Received::Control,
            Ok(Message::Close(frame)) => {
                let _ = self.flush();
                Received::Closed(frame.map(|frame| frame.code.into()))
            }
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Received::Blocked,
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::Interrupted => Received::Control,
            Err(error) => {
                // RFC 6455 section 7.4.1: the agent is told what was wrong, as far as it still listens.
                match &error {
                    Error::Capacity(_) => drop(self.close(1009)),
                    Error::Utf8(_) => drop(self.close(1007)),
                    Error::Protocol(_) => drop(self.close(1002)),
                    _ => {}
                }
                Received::Broken(error.to_string())
            }
        }
    }

    /// Sends one message. Caller audio is `droppable`.
    pub(super) fn send(&mut self, kind: FrameKind, payload: &[u8], droppable: bool) -> Sent {
        let pending = self.pending();
        if droppable && pending > DROPPABLE_PENDING_BYTES {
            return Sent::Dropped;
        }
        if pending + payload.len() > PENDING_BYTES {
            return Sent::Broken;
        }
        let socket = match &mut self.socket {
            Socket::Web(socket) => socket,
            Socket::Bare(socket) => {
                self.queued += payload.len() as u64;
                return socket.send(payload);
            }
        };
        self.outgoing.clear();
        self.outgoing.extend_from_slice(payload);
        let payload = self.outgoing.split().freeze();
        let size = FRAME_HEADER_BYTES + payload.len() as u64;
        let message = match kind {
            FrameKind::Binary => Message::Binary(payload),
            FrameKind::Text => match Utf8Bytes::try_from(payload) {
                Ok(text) => Message::Text(text),
                // A dialect writes JSON or plain words; anything else is our own fault and is not sent.
                Err(_) => return Sent::Dropped,
            },
            FrameKind::Close => return self.close(1000),
        };
        self.queued += size;
        judge(socket.write(message))
    }

    /// Starts the closing handshake with `code` (RFC 6455 section 7.4.1).
    pub(super) fn close(&mut self, code: u16) -> Sent {
        let socket = match &mut self.socket {
            Socket::Web(socket) => socket,
            Socket::Bare(socket) => return socket.close(),
        };
        self.queued += FRAME_HEADER_BYTES + 2;
        let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::from_static("") };
        judge(socket.close(Some(frame)))
    }

    /// Writes what waits; to be called when the socket becomes writable.
    pub(super) fn flush(&mut self) -> Sent {
        self.socket.counted_mut().blocked = false;
        match &mut self.socket {
            Socket::Web(socket) => judge(socket.flush()),
            Socket::Bare(socket) => socket.flush(),
        }
    }

    /// Whether something waits to be written.
    pub(super) fn is_blocked(&self) -> bool {
        self.socket.counted().blocked
    }

    /// Ends the connection without ceremony.
    pub(super) fn shutdown(&mut self) {
        let _ = self.tcp().shutdown(Shutdown::Both);
    }

    /// Bytes that wait, by an upper bound.
    fn pending(&mut self) -> usize {
        let counted = self.socket.counted();
        if !counted.blocked {
            // Nothing waits: forget the difference between real headers and their upper bound.
            self.queued = counted.written;
            return 0;
        }
        usize::try_from(self.queued.saturating_sub(counted.written)).unwrap_or(usize::MAX)
    }

    fn tcp(&mut self) -> &mut TcpStream {
        match &mut self.socket.counted_mut().stream {
            Stream::Plain(stream) => stream,
            Stream::Tls(stream) => stream.get_mut(),
        }
    }
}

fn bounded(stream: std::net::TcpStream) -> std::net::TcpStream {
    // A wish: with the system's own bound the agent still harms nobody but itself.
    let _ = socket2::SockRef::from(&stream).set_send_buffer_size(KERNEL_SEND_BYTES);
    stream
}

fn judge(outcome: Result<(), Error>) -> Sent {
    match outcome {
        Ok(()) => Sent::Accepted,
        // The frame is in the write buffer and goes out when the socket is writable again.
        Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Sent::Accepted,
        Err(_) => Sent::Broken,
    }
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.stream {
            Stream::Plain(_) if self.is_drained => Err(io::ErrorKind::WouldBlock.into()),
            Stream::Plain(stream) => {
                let outcome = stream.read(buffer);
                // A short read has emptied the socket; what comes later is reported anew (epoll(7), edge
                // triggering). That spares the read that would only say so. An end of file that was there
                // before is not reported again, so it is read for.
                let is_short = outcome.as_ref().is_ok_and(|read| (1..buffer.len()).contains(read));
                self.is_drained = is_short && !self.is_ending;
                outcome
            }
            // The session reads in pieces of its own; how much is left is known to it alone.
            Stream::Tls(stream) => stream.read(buffer),
        }
    }
}

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let outcome = match &mut self.stream {
            Stream::Plain(stream) => stream.write(bytes),
            Stream::Tls(stream) => stream.write(bytes),
        };
        match &outcome {
            Ok(accepted) => self.written += *accepted as u64,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.blocked = true,
            Err(_) => {}
        }
        outcome
    }

    fn flush(&mut self) -> io::Result<()> {
        let outcome = match &mut self.stream {
            Stream::Plain(stream) => stream.flush(),
            Stream::Tls(stream) => stream.flush(),
        };
        if let Err(error) = &outcome
            && error.kind() == io::ErrorKind::WouldBlock
        {
            self.blocked = true;
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> (AgentSocket, std::net::TcpStream) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (agent, peer) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        let stream = AgentStream::Plain(stream);
        let framing = Framing::WebSocket;
        let connected = Connected { stream, leftover: Vec::new(), framing, peer, subprotocol: None };
        (AgentSocket::new(connected), agent)
    }

    #[test]
    fn an_agent_that_does_not_read_loses_audio_and_at_last_its_connection() {
        let (mut socket, _agent) = pair();
        let audio = [0_u8; 160];
        let dropped =
            (0..200_000).position(|_| socket.send(FrameKind::Binary, &audio, true) == Sent::Dropped);
        assert!(dropped.is_some(), "audio is dropped at some point");
        // What must arrive still waits its turn, up to the harder bound.
        assert_eq!(socket.send(FrameKind::Text, b"{}", false), Sent::Accepted);
        let broken = (0..20_000).position(|_| socket.send(FrameKind::Text, &audio, false) == Sent::Broken);
        assert!(broken.is_some_and(|count| count > 1_000), "{broken:?}");
    }

    #[test]
    fn an_agent_that_reads_again_gets_audio_again() {
        let (mut socket, mut agent) = pair();
        let audio = [0_u8; 160];
        while socket.send(FrameKind::Binary, &audio, true) != Sent::Dropped {}
        agent.set_nonblocking(true).unwrap();
        let mut buffer = vec![0; 1 << 16];
        for _ in 0..1_000 {
            let _ = agent.read(&mut buffer);
            let _ = socket.flush();
            if !socket.is_blocked() {
                break;
            }
        }
        assert_eq!(socket.send(FrameKind::Binary, &audio, true), Sent::Accepted);
    }

    #[test]
    fn a_ping_is_answered_when_it_is_read() {
        let (mut socket, mut agent) = pair();
        agent.write_all(&[0x89, 0x02, b'h', b'i']).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(matches!(socket.receive(), Received::Control));
        let mut pong = [0; 8];
        agent.read_exact(&mut pong).unwrap();
        // RFC 6455 section 5.1: a client's frames are masked; section 5.5.3: a pong carries the ping's data.
        assert_eq!(pong[..2], [0x8A, 0x82]);
        assert_eq!([pong[6] ^ pong[2], pong[7] ^ pong[3]], *b"hi");
    }

    #[test]
    fn a_frame_that_announces_more_than_the_bound_is_refused_before_it_comes() {
        let (mut socket, mut agent) = pair();
        agent.write_all(&[0x82, 0x7F, 0, 0, 0, 0xFF, 0, 0, 0, 0]).unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        assert!(matches!(socket.receive(), Received::Broken(_)));
        // RFC 6455 section 7.4.1: 1009, "a message that is too big for it to process".
        let mut close = [0; 8];
        agent.read_exact(&mut close).unwrap();
        assert_eq!(close[..2], [0x88, 0x82]);
        assert_eq!([close[6] ^ close[2], close[7] ^ close[3]], 1009_u16.to_be_bytes());
    }

    /// The library wants shared bytes for what is sent and hands out shared bytes for what was received; with
    /// one reused buffer each way, neither costs an allocation once both have grown to their size.
    #[test]
    fn messages_cost_no_allocation_in_the_steady_state() {
        let (mut socket, mut agent) = pair();
        agent.set_nodelay(true).unwrap();
        let mut frame = vec![0x82, 126, 0, 160];
        frame.resize(4 + 160, 0x55);
        let mut sink = [0; 4_096];
        let mut round = |socket: &mut AgentSocket| {
            agent.write_all(&frame).unwrap();
            socket.ready(false);
            assert!(matches!(socket.receive(), Received::Message(..)));
            assert!(matches!(socket.receive(), Received::Blocked));
            assert_eq!(socket.send(FrameKind::Binary, &frame[4..], true), Sent::Accepted);
            assert_eq!(socket.send(FrameKind::Text, b"{\"event\":\"mark\"}", false), Sent::Accepted);
            let _ = agent.read(&mut sink).unwrap();
        };
        for _ in 0..100 {
            round(&mut socket);
        }
        let counted = allocation_counter::measure(|| (0..1_000).for_each(|_| round(&mut socket)));
        assert_eq!(counted.count_total, 0, "{counted:?}");
    }
}
