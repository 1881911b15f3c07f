//! A caller written by hand: SIP text over a plain socket, RTP from another. It knows nothing that the test
//! does not say, so that a test can send what no decent phone would.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    net::{SocketAddr, TcpStream, UdpSocket},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How the phone reaches the server.
pub(crate) enum Line {
    /// Datagrams.
    Udp(UdpSocket),
    /// A stream, with what was received of it and not yet cut into messages.
    Tcp(TcpStream, Vec<u8>),
}

/// A phone with one call.
pub(crate) struct Phone {
    pub(crate) line: Line,
    server: SocketAddr,
    /// Where it takes RTP.
    pub(crate) rtp: UdpSocket,
    call_id: String,
    did: String,
    to_tag: Option<String>,
    cseq: u32,
    inbox: VecDeque<String>,
}

impl Phone {
    /// A phone that will call `did` over UDP.
    pub(crate) fn over_udp(server: SocketAddr, did: &str) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).expect("a socket");
        Self::new(Line::Udp(socket), server, did)
    }

    /// A phone that will call `did` over TCP.
    pub(crate) fn over_tcp(server: SocketAddr, did: &str) -> Self {
        let stream = TcpStream::connect(server).expect("a connection");
        stream.set_nodelay(true).expect("an option");
        Self::new(Line::Tcp(stream, Vec::new()), server, did)
    }

    fn new(line: Line, server: SocketAddr, did: &str) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Self {
            line,
            server,
            rtp: UdpSocket::bind((server.ip(), 0)).expect("a socket"),
            call_id: format!("e2e-{}-{number}", std::process::id()),
            did: did.to_owned(),
            to_tag: None,
            cseq: 1,
            inbox: VecDeque::new(),
        }
    }

    /// The text of an INVITE with an offer of both laws.
    pub(crate) fn invite_text(&self) -> String {
        let rtp = self.rtp.local_addr().expect("bound");
        let (family, ip, port) = (if rtp.is_ipv4() { "IP4" } else { "IP6" }, rtp.ip(), rtp.port());
        let body = format!(
            "v=0\r\no=- 1 1 IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\nt=0 0\r\n\
             m=audio {port} RTP/AVP 0 8\r\na=ptime:20\r\n"
        );
        let head = self.head("INVITE", self.cseq);
        let length = body.len();
        format!("{head}Content-Type: application/sdp\r\nContent-Length: {length}\r\n\r\n{body}")
    }

    /// Sends an INVITE.
    pub(crate) fn invite(&mut self) {
        let text = self.invite_text();
        self.send(&text);
    }

    /// The Request-URI of its requests.
    pub(crate) fn uri(&self) -> String {
        format!("sip:{}@{}", self.did, self.server)
    }

    /// Acknowledges a challenge and calls again with credentials (RFC 3261 sections 17.1.1.3 and 22.2).
    pub(crate) fn invite_again_with(&mut self, authorization: &str) {
        // The ACK to a refusal belongs to the INVITE's own transaction.
        let head = self.head("ACK", self.cseq).replace("z9hG4bK-ACK-", "z9hG4bK-INVITE-");
        self.send(&format!("{head}Content-Length: 0\r\n\r\n"));
        self.to_tag = None;
        self.cseq += 1;
        let with = format!("Authorization: {authorization}\r\nContent-Type:");
        let text = self.invite_text().replacen("Content-Type:", &with, 1);
        self.send(&text);
    }

    /// Calls and acknowledges; panics unless the call is answered within ten seconds. Returns where the
    /// server takes RTP.
    pub(crate) fn call(&mut self) -> SocketAddr {
        let text = self.invite_text();
        let answer = self.exchange(&text, Duration::from_secs(10));
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
        self.acknowledge();
        media_of(&answer)
    }

    /// Sends a request and returns its final response. Over UDP it is sent again until something answers it (RFC
    /// 3261 sections 17.1.1.2 and 17.1.2.2).
    pub(crate) fn exchange(&mut self, text: &str, within: Duration) -> String {
        let deadline = Instant::now() + within;
        let number = self.cseq.to_string();
        let mut pause = Duration::from_millis(500);
        let mut is_heard = matches!(self.line, Line::Tcp(..));
        self.send(text);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "no final response within {within:?}");
            let Some(message) = self.receive(if is_heard { left } else { left.min(pause) }) else {
                if !is_heard {
                    self.send(text);
                    pause *= 2;
                }
                continue;
            };
            // A late repeat of an earlier answer, or a request of the server's own, is not waited for.
            if !message.starts_with("SIP/2.0") || header(&message, "CSeq").split(' ').next() != Some(&*number)
            {
                continue;
            }
            is_heard = true;
            if !message.starts_with("SIP/2.0 1") {
                self.to_tag = header(&message, "To").split(";tag=").nth(1).map(str::to_owned);
                return message;
            }
        }
    }

    /// Acknowledges a 2xx.
    pub(crate) fn acknowledge(&mut self) {
        let text = format!("{}Content-Length: 0\r\n\r\n", self.head("ACK", self.cseq));
        self.send(&text);
    }

    /// Hangs up and waits for the answer.
    pub(crate) fn hang_up(&mut self) {
        self.cseq += 1;
        let text = format!("{}Content-Length: 0\r\n\r\n", self.head("BYE", self.cseq));
        let answer = self.exchange(&text, Duration::from_secs(10));
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    }

    /// Waits for the server's BYE and answers it.
    pub(crate) fn await_bye(&mut self, within: Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.receive(left).unwrap_or_else(|| panic!("no BYE within {within:?}"));
            if message.starts_with("BYE ") {
                let kept: String = message
                    .lines()
                    .filter(|line| {
                        ["Via:", "From:", "To:", "Call-ID:", "CSeq:"]
                            .iter()
                            .any(|name| line.starts_with(name))
                    })
                    .map(|line| format!("{line}\r\n"))
                    .collect();
                self.send(&format!("SIP/2.0 200 OK\r\n{kept}Content-Length: 0\r\n\r\n"));
                return message;
            }
        }
    }

    /// The next response of 200 or more to the last request.
    pub(crate) fn final_response(&mut self, within: Duration) -> String {
        let deadline = Instant::now() + within;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let message = self.receive(left).unwrap_or_else(|| panic!("no final response within {within:?}"));
            if message.starts_with("SIP/2.0 1") || !message.starts_with("SIP/2.0") {
                continue;
            }
            self.to_tag = header(&message, "To").split(";tag=").nth(1).map(str::to_owned);
            return message;
        }
    }

    /// The next message, or `None` when none comes in time.
    pub(crate) fn receive(&mut self, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        loop {
            if let Some(message) = self.inbox.pop_front() {
                return Some(message);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let mut buffer = vec![0; 65_536];
            match &mut self.line {
                Line::Udp(socket) => {
                    socket.set_read_timeout(Some(left)).expect("an option");
                    if let Ok((length, _)) = socket.recv_from(&mut buffer) {
                        self.inbox.push_back(String::from_utf8_lossy(&buffer[..length]).into_owned());
                    }
                }
                Line::Tcp(stream, pending) => {
                    stream.set_read_timeout(Some(left)).expect("an option");
                    match stream.read(&mut buffer) {
                        Ok(0) => return None,
                        Ok(length) => pending.extend_from_slice(&buffer[..length]),
                        Err(_) => {}
                    }
                    while let Some(message) = cut(pending) {
                        self.inbox.push_back(message);
                    }
                }
            }
        }
    }

    /// Sends bytes as they are.
    pub(crate) fn send(&mut self, text: &str) {
        match &mut self.line {
            Line::Udp(socket) => {
                socket.send_to(text.as_bytes(), self.server).expect("sent");
            }
            Line::Tcp(stream, _) => stream.write_all(text.as_bytes()).expect("sent"),
        }
    }

    /// Sends RTP for `duration`, one packet each 20 ms, and returns the payloads that came meanwhile.
    pub(crate) fn talk(&self, to: SocketAddr, duration: Duration) -> Vec<u8> {
        self.rtp.set_read_timeout(Some(Duration::from_millis(4))).expect("an option");
        let began = Instant::now();
        let mut heard = Vec::new();
        let mut buffer = [0; 2_048];
        let mut sequence = 0_u16;
        while began.elapsed() < duration {
            self.rtp.send_to(&packet(sequence), to).expect("sent");
            sequence += 1;
            let next = began + Duration::from_millis(20) * u32::from(sequence);
            while Instant::now() < next {
                if let Ok((length, _)) = self.rtp.recv_from(&mut buffer) {
                    heard.extend_from_slice(&buffer[12..length]);
                }
            }
        }
        heard
    }

    fn head(&self, method: &str, cseq: u32) -> String {
        let (transport, local) = match &self.line {
            Line::Udp(socket) => ("UDP", socket.local_addr()),
            Line::Tcp(stream, _) => ("TCP", stream.local_addr()),
        };
        let local = local.expect("bound");
        let Self { server, did, call_id, .. } = self;
        let tag = self.to_tag.as_ref().map(|tag| format!(";tag={tag}")).unwrap_or_default();
        // An ACK to a 2xx is a transaction of its own (RFC 3261 section 13.2.2.4).
        format!(
            "{method} sip:{did}@{server} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};branch=z9hG4bK-{method}-{cseq}-{call_id};rport\r\n\
             Max-Forwards: 70\r\n\
             From: \"Caller\" <sip:+4930123456@127.0.0.1>;tag=from-{call_id}\r\n\
             To: <sip:{did}@{server}>{tag}\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {cseq} {method}\r\n\
             Contact: <sip:caller@{local};transport={}>\r\n",
            transport.to_lowercase()
        )
    }
}

/// One RTP packet whose audio tells its number.
pub(crate) fn packet(sequence: u16) -> Vec<u8> {
    let mut packet = vec![0x80, 0, 0, 0, 0, 0, 0, 0, 9, 8, 7, 6];
    packet[2..4].copy_from_slice(&sequence.to_be_bytes());
    packet[4..8].copy_from_slice(&(u32::from(sequence) * 160).to_be_bytes());
    // A ramp that begins with the packet's number, in codes that are no silence.
    packet.extend([1 + (sequence / 100) as u8, 1 + (sequence % 100) as u8]);
    packet.extend((2..160_u8).map(|index| 1 + index % 100));
    packet
}

/// The value of a header field, by its full name.
pub(crate) fn header<'a>(message: &'a str, name: &str) -> &'a str {
    message
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
        .unwrap_or_default()
}

/// Where an SDP answer wants audio.
pub(crate) fn media_of(message: &str) -> SocketAddr {
    let address =
        message.lines().find_map(|line| line.strip_prefix("c=IN IP")?.get(2..)).expect("a connection line");
    let port = message.lines().find_map(|line| line.strip_prefix("m=audio ")).expect("an audio line");
    let port: u16 = port.split(' ').next().and_then(|port| port.parse().ok()).expect("a port");
    SocketAddr::new(address.trim().parse().expect("an address"), port)
}

/// Takes one whole message off the front of a stream.
fn cut(pending: &mut Vec<u8>) -> Option<String> {
    // Pongs stand between messages (RFC 5626 section 3.5.1).
    let pongs = pending.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    pending.drain(..pongs);
    let end = pending.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let head = String::from_utf8_lossy(&pending[..end]).into_owned();
    let length: usize = header(&head, "Content-Length").parse().unwrap_or(0);
    if pending.len() < end + length {
        return None;
    }
    let message = String::from_utf8_lossy(&pending[..end + length]).into_owned();
    pending.drain(..end + length);
    Some(message)
}
