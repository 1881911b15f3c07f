//! The floor: the barest single-threaded epoll program that moves what a call moves and looks at none of
//! it. For each call one connected UDP socket and one WebSocket to the echo agent; each datagram
//! goes out as a message, each message goes out as a datagram on a 20 ms clock, one a tick.
//!
//!     floor asterisk|twilio ECHO-ADDRESS CALLER-ADDRESS...
//!
//! With `twilio` a message is the JSON text of a real one, written from a template: the audio's base64 stands
//! at a fixed place, and is found there again; nothing is parsed, counted or named.
//! Prints the address of each call's socket, one a line, then `ready`.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use base64_simd::{Out, STANDARD};
use mio::net::{TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use tandem_benches::echo::Carriage;
use tandem_benches::stamp::FRAME_BYTES;
use tandem_benches::websocket::{self, BINARY, TEXT};

const USAGE: &str = "usage: floor asterisk|twilio ECHO-ADDRESS CALLER-ADDRESS...";
const MASK: [u8; 4] = [1, 2, 3, 4];

/// A message of Media Streams up to its audio, as long as they are in the middle of a call.
const HEAD: &str = concat!(
    r#"{"event":"media","sequenceNumber":"1234","streamSid":"MZ0123456789abcdef0123456789abcdef","#,
    r#""media":{"track":"inbound","chunk":"1234","timestamp":"24680","payload":""#
);
const TAIL: &str = r#""}}"#;
/// Base64 of a frame.
const CODED_BYTES: usize = FRAME_BYTES.div_ceil(3) * 4;

struct Call {
    rtp: UdpSocket,
    agent: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    waiting: VecDeque<[u8; FRAME_BYTES]>,
    sequence: u16,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let carriage = words.next().and_then(|word| Carriage::of(&word));
    let addresses: Result<Vec<SocketAddr>, _> = words.map(|word| word.parse()).collect();
    let (Some(carriage), Ok(addresses)) = (carriage, addresses) else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let Some((echo, callers)) = addresses.split_first() else {
        eprintln!("{USAGE}");
        return ExitCode::FAILURE;
    };
    let mut poll = Poll::new().expect("a poll");
    let mut calls: Vec<Call> = Vec::new();
    for caller in callers {
        let index = calls.len();
        let mut rtp = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        rtp.connect(*caller).expect("a loopback address");
        let mut agent = upgraded(*echo);
        poll.registry().register(&mut rtp, Token(2 * index), Interest::READABLE).expect("registered");
        poll.registry().register(&mut agent, Token(2 * index + 1), Interest::READABLE).expect("registered");
        println!("{}", rtp.local_addr().expect("an address"));
        let (inbox, outbox, waiting) = (Vec::new(), Vec::new(), VecDeque::new());
        calls.push(Call { rtp, agent, inbox, outbox, waiting, sequence: 0 });
    }
    println!("ready");
    serve(&mut poll, &mut calls, carriage);
    ExitCode::SUCCESS
}

fn upgraded(echo: SocketAddr) -> TcpStream {
    let mut stream = StdTcpStream::connect(echo).expect("the echo agent listens");
    let request = "GET / HTTP/1.1\r\nHost: floor\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("an open socket");
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).expect("an answer");
        head.push(byte[0]);
    }
    stream.set_nodelay(true).expect("an open socket");
    stream.set_nonblocking(true).expect("an open socket");
    TcpStream::from_std(stream)
}

/// Until the agent goes.
fn serve(poll: &mut Poll, calls: &mut [Call], carriage: Carriage) {
    let mut events = Events::with_capacity(1_024);
    let start = Instant::now();
    let mut slot: u32 = 0;
    loop {
        let due = start + Duration::from_millis(1) * slot;
        let wait = due.saturating_duration_since(Instant::now());
        match poll.poll(&mut events, Some(wait)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => panic!("the floor's poll: {error}"),
        }
        for event in &events {
            let call = &mut calls[event.token().0 / 2];
            if event.token().0.is_multiple_of(2) {
                call.forward_to_agent(carriage);
            } else if !call.take_from_agent(carriage) {
                return;
            }
        }
        if Instant::now() >= due {
            for call in calls.iter_mut().skip(slot as usize % 20).step_by(20) {
                call.send_to_caller();
            }
            slot += 1;
        }
    }
}

impl Call {
    fn forward_to_agent(&mut self, carriage: Carriage) {
        let mut packet = [0; 2_048];
        while let Ok(length) = self.rtp.recv(&mut packet) {
            let audio = &packet[12..length];
            match carriage {
                Carriage::Binary => websocket::write_frame(&mut self.outbox, BINARY, audio, Some(MASK)),
                Carriage::MediaStreams => {
                    let mut message = [0; HEAD.len() + CODED_BYTES + TAIL.len()];
                    message[..HEAD.len()].copy_from_slice(HEAD.as_bytes());
                    let coded = &mut message[HEAD.len()..HEAD.len() + CODED_BYTES];
                    let _ = STANDARD.encode(audio, Out::from_slice(coded));
                    message[HEAD.len() + CODED_BYTES..].copy_from_slice(TAIL.as_bytes());
                    websocket::write_frame(&mut self.outbox, TEXT, &message, Some(MASK));
                }
            }
        }
        while !self.outbox.is_empty() {
            match self.agent.write(&self.outbox) {
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The run is over when the other side goes; the next read says so.
                Err(_) => return,
            }
        }
    }

    /// False when the agent has gone.
    fn take_from_agent(&mut self, carriage: Carriage) -> bool {
        let mut chunk = [0; 4_096];
        loop {
            match self.agent.read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => {
                    self.inbox.extend_from_slice(&chunk[..length]);
                    // A short read has emptied the socket (epoll(7)).
                    if length < chunk.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return false,
            }
        }
        let mut at = 0;
        while let Some(frame) = websocket::read_frame(&mut self.inbox[at..]) {
            let payload = &self.inbox[at + frame.payload.start..at + frame.payload.end];
            let mut audio = [0; FRAME_BYTES];
            let is_frame = match carriage {
                Carriage::Binary => payload.try_into().is_ok_and(|bytes| {
                    audio = bytes;
                    true
                }),
                Carriage::MediaStreams => {
                    let end = payload.len().saturating_sub(TAIL.len());
                    let coded = payload.get(end.saturating_sub(CODED_BYTES)..end).unwrap_or_default();
                    STANDARD
                        .decode(coded, Out::from_slice(&mut audio))
                        .is_ok_and(|audio| audio.len() == FRAME_BYTES)
                }
            };
            if is_frame {
                self.waiting.push_back(audio);
            }
            at += frame.payload.end;
        }
        self.inbox.drain(..at);
        true
    }

    fn send_to_caller(&mut self) {
        let Some(audio) = self.waiting.pop_front() else { return };
        let mut packet = [0; 12 + FRAME_BYTES];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(self.sequence) * FRAME_BYTES as u32).to_be_bytes());
        packet[12..].copy_from_slice(&audio);
        self.sequence = self.sequence.wrapping_add(1);
        // A caller that has gone is no concern of the floor.
        let _ = self.rtp.send(&packet);
    }
}
