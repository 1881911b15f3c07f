//! An echo agent for load: one thread, one poll loop, thousands of WebSocket connections. It takes
//! the audio of each message, notes how long it was on its way, stamps it anew and sends it back.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};

use crate::histogram::Histogram;
use crate::stamp::{Clock, Stamp};
use crate::websocket::{self, BINARY, CLOSE, PING, PONG, TEXT};

const LISTENER: Token = Token(usize::MAX);

/// How audio travels in the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carriage {
    /// Binary messages hold the audio and nothing else.
    Binary,
    /// Text messages of Twilio Media Streams hold it in base64.
    MediaStreams,
}

impl Carriage {
    /// The carriage of a dialect, by its name.
    #[must_use]
    pub fn of(dialect: &str) -> Option<Self> {
        match dialect {
            "asterisk" => Some(Self::Binary),
            "twilio" => Some(Self::MediaStreams),
            _ => None,
        }
    }
}

/// Whether the agent does what it is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// It echoes.
    Echoing,
    /// It listens and says nothing: a negative control.
    Mute,
}

/// What the agent saw.
#[derive(Debug, Clone, Default)]
pub struct EchoReport {
    /// Connections that were opened.
    pub connections: u64,
    /// Messages with stamped audio.
    pub stamped: u64,
    /// Messages with audio that carried no stamp: silence or concealment.
    pub unstamped: u64,
    /// From the generator's send to the agent's receipt.
    pub way_in: Histogram,
}

/// A running echo agent.
#[derive(Debug)]
pub struct Echo {
    /// Where it listens.
    pub address: SocketAddr,
    ask: mpsc::Sender<mpsc::Sender<EchoReport>>,
    waker: mio::Waker,
}

impl Echo {
    /// Starts the agent on a free port of 127.0.0.1, in a thread of its own that ends with the process.
    ///
    /// # Panics
    /// When no port can be had.
    #[must_use]
    pub fn start(clock: Clock, carriage: Carriage, manner: Manner) -> Self {
        let poll = Poll::new().expect("a poll");
        let waker = mio::Waker::new(poll.registry(), Token(usize::MAX - 1)).expect("a waker");
        let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into()).expect("a port");
        let address = listener.local_addr().expect("an address");
        poll.registry().register(&mut listener, LISTENER, Interest::READABLE).expect("registered");
        let (ask, asked) = mpsc::channel();
        let server = Server {
            poll,
            listener,
            asked,
            connections: HashMap::new(),
            next: 0,
            clock,
            carriage,
            manner,
            report: EchoReport::default(),
        };
        thread::spawn(move || server.run());
        Self { address, ask, waker }
    }

    /// What was seen since the last time this was asked; counting starts anew.
    ///
    /// # Panics
    /// When the agent's thread is gone.
    #[must_use]
    pub fn take_report(&self) -> EchoReport {
        let (answer, report) = mpsc::channel();
        self.ask.send(answer).expect("the agent runs");
        self.waker.wake().expect("the agent runs");
        report.recv_timeout(Duration::from_secs(10)).expect("the agent runs")
    }
}

struct Connection {
    stream: TcpStream,
    inbox: Vec<u8>,
    outbox: Vec<u8>,
    is_open: bool,
    stream_sid: String,
}

struct Server {
    poll: Poll,
    listener: TcpListener,
    asked: mpsc::Receiver<mpsc::Sender<EchoReport>>,
    connections: HashMap<Token, Connection>,
    next: usize,
    clock: Clock,
    carriage: Carriage,
    manner: Manner,
    report: EchoReport,
}

impl Server {
    fn run(mut self) {
        let mut events = Events::with_capacity(1_024);
        loop {
            match self.poll.poll(&mut events, None) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => panic!("the echo agent's poll: {error}"),
            }
            while let Ok(answer) = self.asked.try_recv() {
                // The one who asked may have gone.
                let _ = answer.send(std::mem::take(&mut self.report));
            }
            for event in &events {
                if event.token() == LISTENER {
                    self.accept();
                } else {
                    self.serve(event.token());
                }
            }
        }
    }

    fn accept(&mut self) {
        while let Ok((mut stream, _)) = self.listener.accept() {
            let token = Token(self.next);
            self.next += 1;
            stream.set_nodelay(true).expect("an open socket");
            let interest = Interest::READABLE | Interest::WRITABLE;
            self.poll.registry().register(&mut stream, token, interest).expect("registered");
            self.report.connections += 1;
            let connection = Connection {
                stream,
                inbox: Vec::new(),
                outbox: Vec::new(),
                is_open: false,
                stream_sid: String::new(),
            };
            self.connections.insert(token, connection);
        }
    }

    fn serve(&mut self, token: Token) {
        let Some(connection) = self.connections.get_mut(&token) else { return };
        let is_alive = connection.read();
        if !connection.is_open {
            connection.upgrade();
        }
        if connection.is_open {
            let said = connection.outbox.len();
            connection.echo(self.clock, self.carriage, &mut self.report);
            if self.manner == Manner::Mute {
                // The answer to the upgrade may still stand before it.
                connection.outbox.truncate(said);
            }
        }
        if !connection.write() || !is_alive {
            self.connections.remove(&token);
        }
    }
}

impl Connection {
    fn read(&mut self) -> bool {
        let mut chunk = [0; 8_192];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return false,
                Ok(length) => self.inbox.extend_from_slice(&chunk[..length]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
    }

    fn write(&mut self) -> bool {
        while !self.outbox.is_empty() {
            match self.stream.write(&self.outbox) {
                Ok(written) => {
                    self.outbox.drain(..written);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return true,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        true
    }

    /// Answers the HTTP upgrade once its head is whole.
    fn upgrade(&mut self) {
        let Some(end) = self.inbox.windows(4).position(|window| window == b"\r\n\r\n") else { return };
        let head = String::from_utf8_lossy(&self.inbox[..end]).into_owned();
        let mut headers = head.lines().filter_map(|line| line.split_once(':'));
        let key = headers.find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-key"));
        let key = key.map(|(_, value)| value.trim().to_owned()).unwrap_or_default();
        let accept = tungstenite::handshake::derive_accept_key(key.as_bytes());
        let answer = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        self.outbox.extend_from_slice(answer.as_bytes());
        self.inbox.drain(..end + 4);
        self.is_open = true;
    }

    fn echo(&mut self, clock: Clock, carriage: Carriage, report: &mut EchoReport) {
        let mut at = 0;
        while let Some(frame) = websocket::read_frame(&mut self.inbox[at..]) {
            let payload = at + frame.payload.start..at + frame.payload.end;
            at = payload.end;
            match (frame.opcode, carriage) {
                (BINARY, Carriage::Binary) => {
                    let audio = &mut self.inbox[payload];
                    note(audio, clock, report);
                    websocket::write_frame(&mut self.outbox, BINARY, audio, None);
                }
                (TEXT, Carriage::MediaStreams) => {
                    let text = String::from_utf8_lossy(&self.inbox[payload]).into_owned();
                    self.echo_media(&text, clock, report);
                }
                (PING, _) => websocket::write_frame(&mut self.outbox, PONG, &self.inbox[payload], None),
                (CLOSE, _) => websocket::write_frame(&mut self.outbox, CLOSE, &self.inbox[payload], None),
                _ => {}
            }
        }
        self.inbox.drain(..at);
    }

    fn echo_media(&mut self, text: &str, clock: Clock, report: &mut EchoReport) {
        let between = |start: &str| Some(text.split_once(start)?.1.split_once('"')?.0);
        if self.stream_sid.is_empty() {
            self.stream_sid = between("\"streamSid\":\"").unwrap_or_default().to_owned();
        }
        let Some(payload) = between("\"payload\":\"") else { return };
        let mut audio = base64_simd::STANDARD.decode_to_vec(payload).expect("the server's base64");
        note(&mut audio, clock, report);
        let message = format!(
            r#"{{"event":"media","streamSid":"{}","media":{{"payload":"{}"}}}}"#,
            self.stream_sid,
            base64_simd::STANDARD.encode_to_string(&audio)
        );
        websocket::write_frame(&mut self.outbox, TEXT, message.as_bytes(), None);
    }
}

fn note(audio: &mut [u8], clock: Clock, report: &mut EchoReport) {
    match Stamp::read(audio) {
        Some(stamp) => {
            let now = clock.now();
            report.stamped += 1;
            report.way_in.record(now.saturating_sub(stamp.sent));
            Stamp::mark_echoed(audio, now);
        }
        None => report.unstamped += 1,
    }
}
