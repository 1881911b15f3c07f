//! The floor: the barest single-threaded program that moves what a call moves and looks at none of
//! it. For each call one connected UDP socket and one WebSocket to the echo agent; each datagram
//! goes out as a message, each message goes out as a datagram on a 20 ms clock, one a tick.
//!
//!     floor ECHO-ADDRESS CALLER-ADDRESS...
//!
//! Prints the address of each call's socket, one a line, then `ready`.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream as StdTcpStream};
use std::time::{Duration, Instant};

use mio::net::{TcpStream, UdpSocket};
use mio::{Events, Interest, Poll, Token};
use tandem_benches::websocket::{self, BINARY};

struct Call {
    rtp: UdpSocket,
    agent: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    waiting: VecDeque<[u8; 160]>,
    sequence: u16,
}

fn main() {
    let mut arguments = std::env::args().skip(1).map(|word| word.parse::<SocketAddr>().expect("an address"));
    let echo = arguments.next().expect("the echo agent's address");
    let mut poll = Poll::new().expect("a poll");
    let mut calls: Vec<Call> = Vec::new();
    for caller in arguments {
        let index = calls.len();
        let mut rtp = UdpSocket::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        rtp.connect(caller).expect("a loopback address");
        let mut agent = upgraded(echo);
        poll.registry().register(&mut rtp, Token(2 * index), Interest::READABLE).expect("registered");
        poll.registry().register(&mut agent, Token(2 * index + 1), Interest::READABLE).expect("registered");
        println!("{}", rtp.local_addr().expect("an address"));
        let (inbox, outbox, waiting) = (Vec::new(), Vec::new(), VecDeque::new());
        calls.push(Call { rtp, agent, inbox, outbox, waiting, sequence: 0 });
    }
    println!("ready");
    serve(&mut poll, &mut calls);
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

fn serve(poll: &mut Poll, calls: &mut [Call]) {
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
            if event.token().0.is_multiple_of(2) { call.forward_to_agent() } else { call.take_from_agent() }
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
    fn forward_to_agent(&mut self) {
        let mut packet = [0; 2_048];
        while let Ok(length) = self.rtp.recv(&mut packet) {
            websocket::write_frame(&mut self.outbox, BINARY, &packet[12..length], Some([1, 2, 3, 4]));
        }
        while !self.outbox.is_empty() {
            match self.agent.write(&self.outbox) {
                Ok(written) => drop(self.outbox.drain(..written)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) => panic!("the echo agent: {error}"),
            }
        }
    }

    fn take_from_agent(&mut self) {
        let mut chunk = [0; 4_096];
        loop {
            match self.agent.read(&mut chunk) {
                Ok(0) => std::process::exit(0),
                Ok(length) => self.inbox.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // The run is over when the other side goes.
                Err(_) => std::process::exit(0),
            }
        }
        let mut at = 0;
        while let Some(frame) = websocket::read_frame(&mut self.inbox[at..]) {
            let payload = &self.inbox[at + frame.payload.start..at + frame.payload.end];
            if let Ok(audio) = payload.try_into() {
                self.waiting.push_back(audio);
            }
            at += frame.payload.end;
        }
        self.inbox.drain(..at);
    }

    fn send_to_caller(&mut self) {
        let Some(audio) = self.waiting.pop_front() else { return };
        let mut packet = [0; 172];
        packet[0] = 0x80;
        packet[2..4].copy_from_slice(&self.sequence.to_be_bytes());
        packet[4..8].copy_from_slice(&(u32::from(self.sequence) * 160).to_be_bytes());
        packet[12..].copy_from_slice(&audio);
        self.sequence = self.sequence.wrapping_add(1);
        // A caller that has gone is no concern of the floor.
        let _ = self.rtp.send(&packet);
    }
}
