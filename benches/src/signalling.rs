//! The callers' signalling: the plainest of user agents, with many calls in flight at once.
//!
//! Every request has a bound in time and every end of a wait a name: a server that refuses, forgets or dies
//! gives an error that says which call, which request, and what was heard last.

use std::collections::BTreeMap;
use std::fmt;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use tandem_media::sdp;
use tandem_media::srtp::SrtpKeys;

use crate::histogram::Histogram;
use crate::line::Line;

/// RFC 3261, 17.1.1.1: the first wait before a request is repeated. It doubles each time.
const T1: Duration = Duration::from_millis(500);
/// How long a call may wait for an answer before the run is given up.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a read waits before repeats and bounds are looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// Why a run of calls could not go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens at the server's address any more.
    Gone,
    /// No final answer came in time.
    Unanswered {
        /// The call's number.
        call: usize,
        /// The request that waits.
        method: &'static str,
        /// The last thing that was heard on it.
        heard: String,
    },
    /// A final answer that is no success.
    Refused {
        /// The call's number.
        call: usize,
        /// The answer.
        answer: String,
    },
    /// The server ended a call, or asked for something else, by itself.
    Interrupted {
        /// Its request.
        request: String,
    },
    /// The socket failed.
    Socket(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(out, "the server's SIP port is closed"),
            Self::Unanswered { call, method, heard } => {
                write!(out, "call {call}: {method} got no final answer in {PATIENCE:?}; last heard: {heard}")
            }
            Self::Refused { call, answer } => write!(out, "call {call} was refused: {answer}"),
            Self::Interrupted { request } => write!(out, "the server asked by itself: {request}"),
            Self::Socket(error) => write!(out, "the signalling socket: {error}"),
        }
    }
}

/// What a stretch of signalling took.
#[derive(Debug, Clone, Default)]
pub struct SignallingReport {
    /// Calls that went all the way.
    pub calls: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// From an INVITE to its 200.
    pub set_up: Histogram,
    /// Requests that had to be sent again.
    pub repeats: u64,
}

impl SignallingReport {
    /// Calls a second.
    #[must_use]
    pub fn calls_per_second(&self) -> f64 {
        self.calls as f64 / self.took.as_secs_f64()
    }
}

/// The callers of a run, on one socket.
#[derive(Debug)]
pub struct Signalling {
    line: Line,
    local: SocketAddr,
    server: SocketAddr,
    did: &'static str,
    /// To tags of the calls that stand.
    tags: BTreeMap<usize, String>,
    waiting: BTreeMap<usize, Waiting>,
    report: SignallingReport,
}

#[derive(Debug)]
struct Waiting {
    method: &'static str,
    text: String,
    began: Instant,
    repeat_at: Instant,
    pause: Duration,
    heard: String,
}

/// Who is told of each call that stands.
type Answered<'a> = &'a mut dyn FnMut(usize, SocketAddr, Option<SrtpKeys>);

/// What a call goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// INVITE, 200, ACK.
    Up,
    /// BYE, 200.
    Down,
    /// Both, the one right after the other.
    UpAndDown,
}

impl Signalling {
    /// Callers that dial `did` at `server`.
    ///
    /// # Errors
    /// [`Failure::Socket`].
    pub fn new(server: SocketAddr, did: &'static str) -> Result<Self, Failure> {
        Self::on(Line::udp(server, GLANCE), server, did)
    }

    /// Callers that dial `did` at `server` over TLS, whose certificate this authority vouches for, and that encrypt their
    /// media.
    ///
    /// # Errors
    /// [`Failure::Socket`].
    pub fn encrypted(server: SocketAddr, authority: &Path, did: &'static str) -> Result<Self, Failure> {
        Self::on(Line::tls(server, authority, GLANCE), server, did)
    }

    fn on(line: std::io::Result<Line>, server: SocketAddr, did: &'static str) -> Result<Self, Failure> {
        let open = || {
            let line = line?;
            let local = line.local()?;
            Ok((line, local))
        };
        let (line, local) = open().map_err(|error: std::io::Error| Failure::Socket(error.to_string()))?;
        let (tags, waiting, report) = (BTreeMap::new(), BTreeMap::new(), SignallingReport::default());
        Ok(Self { line, local, server, did, tags, waiting, report })
    }

    /// Places a call for each media address, `window` of them in flight at once, and tells for each where its
    /// audio goes and by which keys, if it is encrypted.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn set_up(
        &mut self,
        media: &[SocketAddr],
        window: usize,
        mut answered: impl FnMut(usize, SocketAddr, Option<SrtpKeys>),
    ) -> Result<SignallingReport, Failure> {
        let mut calls = 0..media.len();
        let ports = |call: usize| media[call].port();
        self.run(Way::Up, window, &mut || calls.next(), &ports, &mut answered)
    }

    /// Ends all calls that stand.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn hang_up(&mut self, window: usize) -> Result<SignallingReport, Failure> {
        let standing: Vec<usize> = self.tags.keys().copied().collect();
        let mut calls = standing.into_iter();
        self.run(Way::Down, window, &mut || calls.next(), &|_| 0, &mut |_, _, _| {})
    }

    /// Places calls and ends them at once, `window` of them in flight, for `duration`. They carry no audio.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn place_and_end(&mut self, window: usize, duration: Duration) -> Result<SignallingReport, Failure> {
        let began = Instant::now();
        let mut calls = 0_usize..;
        let mut next = || (began.elapsed() < duration).then(|| calls.next()).flatten();
        self.run(Way::UpAndDown, window, &mut next, &|_| 9, &mut |_, _, _| {})
    }

    fn run(
        &mut self,
        way: Way,
        window: usize,
        next: &mut dyn FnMut() -> Option<usize>,
        port: &dyn Fn(usize) -> u16,
        answered: Answered<'_>,
    ) -> Result<SignallingReport, Failure> {
        self.report = SignallingReport::default();
        let began = Instant::now();
        let mut glanced = began;
        loop {
            while self.waiting.len() < window
                && let Some(call) = next()
            {
                match way {
                    Way::Up | Way::UpAndDown => self.ask(call, "INVITE", self.invite(call, port(call)))?,
                    Way::Down => self.ask(call, "BYE", self.bye(call))?,
                }
            }
            if self.waiting.is_empty() {
                break;
            }
            self.hear(way, answered)?;
            if glanced.elapsed() >= GLANCE {
                glanced = Instant::now();
                self.repeat(glanced)?;
            }
        }
        self.report.took = began.elapsed();
        Ok(std::mem::take(&mut self.report))
    }

    /// Takes one message, or lets a moment pass.
    fn hear(&mut self, way: Way, answered: Answered<'_>) -> Result<(), Failure> {
        let text = match self.line.receive() {
            Ok(text) => text,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(());
            }
            Err(error) => return Err(failure_of(&error)),
        };
        let Some(status) = text.strip_prefix("SIP/2.0 ").and_then(|rest| rest.get(..3)?.parse::<u16>().ok())
        else {
            return Err(Failure::Interrupted { request: text });
        };
        let Some((call, method)) = call_and_method(&text) else {
            return Err(Failure::Socket(format!("an answer to nobody: {text}")));
        };
        let is_awaited = self.waiting.get(&call).is_some_and(|waiting| waiting.method == method);
        if !is_awaited {
            // RFC 3261, 13.2.2.4: each repeat of a 200 to an INVITE is acknowledged anew.
            if method == "INVITE" && status == 200 {
                let tag = to_tag(&text);
                let text = self.acknowledgement(call, &tag);
                self.send(&text)?;
            }
            return Ok(());
        }
        if status < 200 {
            if let Some(waiting) = self.waiting.get_mut(&call) {
                waiting.heard = first_line(&text);
            }
            return Ok(());
        }
        let Some(waiting) = self.waiting.remove(&call).filter(|_| status < 300) else {
            return Err(Failure::Refused { call, answer: text });
        };
        if method == "BYE" {
            self.tags.remove(&call);
            self.report.calls += 1;
            return Ok(());
        }
        self.report.set_up.record(waiting.began.elapsed());
        let tag = to_tag(&text);
        let acknowledgement = self.acknowledgement(call, &tag);
        self.send(&acknowledgement)?;
        self.tags.insert(call, tag);
        if way == Way::UpAndDown {
            return self.ask(call, "BYE", self.bye(call));
        }
        self.report.calls += 1;
        let port = text.split_once("m=audio ").and_then(|(_, rest)| rest.split(' ').next()?.parse().ok());
        let keys = match self.line.loses() {
            true => Some(None),
            false => keys_of(&waiting.text, &text).map(Some),
        };
        match (port, keys) {
            (Some(port), Some(keys)) => answered(call, SocketAddr::new(self.server.ip(), port), keys),
            _ => return Err(Failure::Refused { call, answer: text }),
        }
        Ok(())
    }

    /// Sends again what has waited long, and gives up what has waited too long.
    fn repeat(&mut self, now: Instant) -> Result<(), Failure> {
        for (call, waiting) in &mut self.waiting {
            if now - waiting.began > PATIENCE {
                let (call, method) = (*call, waiting.method);
                return Err(Failure::Unanswered { call, method, heard: waiting.heard.clone() });
            }
            if now >= waiting.repeat_at && self.line.loses() {
                self.line.send(&waiting.text).map_err(|error| failure_of(&error))?;
                self.report.repeats += 1;
                waiting.pause *= 2;
                waiting.repeat_at = now + waiting.pause;
            }
        }
        Ok(())
    }

    fn ask(&mut self, call: usize, method: &'static str, text: String) -> Result<(), Failure> {
        self.send(&text)?;
        let began = Instant::now();
        let heard = "nothing".to_owned();
        let waiting = Waiting { method, text, began, repeat_at: began + T1, pause: T1, heard };
        self.waiting.insert(call, waiting);
        Ok(())
    }

    fn send(&mut self, text: &str) -> Result<(), Failure> {
        self.line.send(text).map_err(|error| failure_of(&error))
    }

    fn head(&self, call: usize, method: &str, sequence: u8, tag: &str) -> String {
        let (server, local, did, transport) = (self.server, self.local, self.did, self.line.transport());
        let contact = if self.line.loses() { "" } else { ";transport=tls" };
        format!(
            "{method} sip:{did}@{server} SIP/2.0\r\nVia: SIP/2.0/{transport} {local};branch=z9hG4bK{method}{call}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:load@{local}>;tag=l{call}\r\nTo: <sip:{did}@{server}>{tag}\r\n\
             Call-ID: load-{call}\r\nCSeq: {sequence} {method}\r\nContact: <sip:load@{local}{contact}>\r\n"
        )
    }

    fn invite(&self, call: usize, port: u16) -> String {
        let (protocol, key) = match self.line.loses() {
            true => ("RTP/AVP", String::new()),
            false => ("RTP/SAVP", format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{}\r\n", key_of(call))),
        };
        let sdp = format!(
            "v=0\r\no=load 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n\
             m=audio {port} {protocol} 0\r\n{key}a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
        );
        let head = self.head(call, "INVITE", 1, "");
        format!("{head}Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{sdp}", sdp.len())
    }

    fn acknowledgement(&self, call: usize, tag: &str) -> String {
        format!("{}Content-Length: 0\r\n\r\n", self.head(call, "ACK", 1, tag))
    }

    fn bye(&self, call: usize) -> String {
        let tag = self.tags.get(&call).map(String::as_str).unwrap_or_default();
        format!("{}Content-Length: 0\r\n\r\n", self.head(call, "BYE", 2, tag))
    }
}

/// A caller's key, other for each: no secret, for what is said is none either.
fn key_of(call: usize) -> String {
    base64_simd::STANDARD.encode_to_string(format!("{call:030}"))
}

/// What the INVITE's offer and the 200's answer agree on.
fn keys_of(invite: &str, answer: &str) -> Option<SrtpKeys> {
    let body = |text: &str| text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    sdp::accept_answer(body(invite)?.as_bytes(), body(answer)?.as_bytes()).ok()?.srtp
}

fn failure_of(error: &std::io::Error) -> Failure {
    match error.kind() {
        ErrorKind::ConnectionRefused => Failure::Gone,
        _ => Failure::Socket(error.to_string()),
    }
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().to_owned()
}

/// The call's number and the method that an answer is for.
fn call_and_method(text: &str) -> Option<(usize, &'static str)> {
    let call = text.split_once("\r\nCall-ID: load-")?.1.split('\r').next()?.parse().ok()?;
    let sequence = text.split_once("\r\nCSeq: ")?.1.split('\r').next()?;
    let method = ["INVITE", "BYE"].into_iter().find(|method| sequence.ends_with(method))?;
    Some((call, method))
}

/// `;tag=…` of the To line.
fn to_tag(text: &str) -> String {
    let line = text.lines().find(|line| line.starts_with("To:")).unwrap_or_default();
    line.find(";tag=").map(|at| line[at..].to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    /// A server that says nothing, and then one that is not there: the wait ends, and says why.
    #[test]
    fn a_server_that_is_gone_is_named() {
        let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut callers = Signalling::new(closed, "+49").unwrap();
        let failure = callers.set_up(&["127.0.0.1:4000".parse().unwrap()], 1, |_, _, _| {}).unwrap_err();
        assert_eq!(failure, Failure::Gone);
    }

    #[test]
    fn a_refusal_is_shown_and_a_repeated_answer_acknowledged() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = server.local_addr().unwrap();
        let peer = std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            let mut methods = Vec::new();
            for _ in 0..5 {
                let (length, from) = server.recv_from(&mut buffer).unwrap();
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                methods.push(text.split(' ').next().unwrap().to_owned());
                let (call, method) = call_and_method(&text).unwrap_or((0, "ACK"));
                let answer = |status: &str| {
                    let sdp = "m=audio 4002 RTP/AVP 0\r\n";
                    format!(
                        "SIP/2.0 {status}\r\nTo: <sip:a>;tag=x\r\nCall-ID: load-{call}\r\nCSeq: 1 INVITE\r\n\r\n{sdp}"
                    )
                };
                match (method, call) {
                    ("INVITE", 0) => {
                        server.send_to(answer("100 Trying").as_bytes(), from).unwrap();
                        server.send_to(answer("200 OK").as_bytes(), from).unwrap();
                        server.send_to(answer("200 OK").as_bytes(), from).unwrap();
                    }
                    ("INVITE", 1) => std::thread::sleep(Duration::from_millis(50)),
                    _ => {}
                }
                if methods.len() == 4 {
                    let text = answer("486 Busy Here").replace("load-0", "load-1");
                    server.send_to(text.as_bytes(), from).unwrap();
                    break;
                }
            }
            methods
        });
        let mut callers = Signalling::new(address, "+49").unwrap();
        let media = ["127.0.0.1:4000".parse().unwrap(), "127.0.0.1:4004".parse().unwrap()];
        let mut targets = Vec::new();
        let failure =
            callers.set_up(&media, 2, |call, target, _| targets.push((call, target.port()))).unwrap_err();
        assert!(
            matches!(&failure, Failure::Refused { call: 1, answer } if answer.contains("486")),
            "{failure}"
        );
        assert_eq!(targets, [(0, 4002)]);
        let methods = peer.join().unwrap();
        assert_eq!(methods.iter().filter(|method| *method == "ACK").count(), 2, "{methods:?}");
    }
}
