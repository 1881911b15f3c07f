//! Dials a voice agent: name, TCP, TLS, and the WebSocket upgrade (RFC 6455 section 4.1); for AudioSocket, TCP alone.
//!
//! What is handed over is the bare socket with the bytes that already arrived; frames are not read here.

mod target;
mod upgrade;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::CertificateDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tungstenite::handshake::client::generate_key;

use self::{
    target::Target,
    upgrade::{upgrade, upgrade_request},
};
use super::{fence::Fence, resolve};

/// Whom to dial and what to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DialRequest {
    /// `ws://`, `wss://`, or `tcp://` for AudioSocket; user and password in it become basic authorization.
    pub url: String,
    /// Further header fields of the upgrade request.
    pub headers: Vec<(String, String)>,
    /// Subprotocol to offer.
    pub subprotocol: Option<String>,
}

/// Bounds on time.
#[derive(Debug, Clone, Copy)]
pub struct DialTimes {
    /// For the name.
    pub resolve: Duration,
    /// For one address to accept the connection.
    pub connect: Duration,
    /// For everything together.
    pub total: Duration,
}

impl Default for DialTimes {
    fn default() -> Self {
        // A caller hears ringing meanwhile; ten seconds is what carriers bear, two per address leaves
        // room for a second address.
        Self {
            resolve: Duration::from_secs(3),
            connect: Duration::from_secs(2),
            total: Duration::from_secs(10),
        }
    }
}

/// The socket under the WebSocket.
#[derive(Debug)]
pub enum AgentStream {
    /// Bare TCP.
    Plain(std::net::TcpStream),
    /// TLS over TCP, its handshake done.
    Tls(std::net::TcpStream, Box<rustls::ClientConnection>),
}

/// How a stream is cut into messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// RFC 6455.
    WebSocket,
    /// A kind, a length, and so many bytes.
    AudioSocket,
}

/// An agent that answered `101`, or that speaks AudioSocket.
#[derive(Debug)]
pub struct Connected {
    /// The socket, nonblocking, with `TCP_NODELAY`.
    pub stream: AgentStream,
    /// What arrived behind the answer: the first frames.
    pub leftover: Vec<u8>,
    /// How messages are told apart on it.
    pub framing: Framing,
    /// The agent's address.
    pub peer: SocketAddr,
    /// The subprotocol the agent selected.
    pub subprotocol: Option<String>,
}

/// Why an agent was not reached. Texts go into the record of the call.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL cannot be dialled as written.
    #[error("the agent's URL is not usable: {0}")]
    Url(String),
    /// A header of the agent's configuration cannot be sent.
    #[error("the agent's header \"{0}\" cannot be sent")]
    Header(String),
    /// The name has no address.
    #[error("the agent's host {host} cannot be resolved: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Policy forbids the address.
    #[error("the agent's address {address} is in a network that policy forbids")]
    Fenced {
        /// The address.
        address: SocketAddr,
    },
    /// No address accepted a connection.
    #[error("the agent at {place} cannot be connected: {source}")]
    Connect {
        /// The last address tried, behind the name it was found by.
        place: String,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed.
    #[error("TLS with the agent at {address} failed: {source}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What rustls said.
        source: io::Error,
    },
    /// The agent answered with another status than 101.
    #[error("the agent answered the WebSocket upgrade with {status}{detail}")]
    Status {
        /// The HTTP status.
        status: u16,
        /// Reason phrase, and the place a redirection points to.
        detail: String,
    },
    /// The agent's answer is no valid upgrade.
    #[error("the agent's answer to the WebSocket upgrade is not valid: {0}")]
    Upgrade(&'static str),
    /// The connection broke during the upgrade.
    #[error("the agent at {address} dropped the connection during the upgrade: {source}")]
    Dropped {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Time ran out.
    #[error("the agent did not answer within {} ms", .0.as_millis())]
    Timeout(Duration),
}

/// Dials agents.
#[derive(Debug, Clone)]
pub struct Dialler {
    tls: Arc<rustls::ClientConfig>,
    fence: Fence,
    times: DialTimes,
}

/// A TLS client that verifies servers by the roots of this machine and by `extra` ones, and how many roots
/// that are.
///
/// # Errors
/// When an extra certificate is none; never for one of the machine's, which are passed over.
pub fn verifying_tls(
    extra: &[CertificateDer<'static>],
) -> Result<(Arc<rustls::ClientConfig>, usize), rustls::Error> {
    let mut roots = rustls::RootCertStore::empty();
    let native = rustls_native_certs::load_native_certs();
    let (mut added, _) = roots.add_parsable_certificates(native.certs);
    for certificate in extra {
        roots.add(certificate.clone())?;
        added += 1;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok((Arc::new(config), added))
}

impl Dialler {
    /// A dialler with the given TLS roots, fence and bounds.
    #[must_use]
    pub fn new(tls: Arc<rustls::ClientConfig>, fence: Fence, times: DialTimes) -> Self {
        Self { tls, fence, times }
    }

    /// Dials the agent and upgrades the connection.
    ///
    /// # Errors
    /// [`DialError`], whose text names the cause for a person.
    pub async fn dial(&self, request: &DialRequest) -> Result<Connected, DialError> {
        tokio::time::timeout(self.times.total, self.dial_unbounded(request))
            .await
            .unwrap_or(Err(DialError::Timeout(self.times.total)))
    }

    async fn dial_unbounded(&self, request: &DialRequest) -> Result<Connected, DialError> {
        let target = Target::parse(&request.url)?;
        let key = generate_key();
        let head = upgrade_request(&target, request, &key)?;
        let (stream, address) = self.connect(&target).await?;
        let Some(name) = target.tls_name else {
            let mut stream = stream;
            let (framing, (leftover, subprotocol)) = if target.is_bare {
                (Framing::AudioSocket, (Vec::new(), None))
            } else {
                (Framing::WebSocket, upgrade(&mut stream, &head, &key, address).await?)
            };
            let stream = stream.into_std().map_err(|source| DialError::Dropped { address, source })?;
            return Ok(Connected {
                stream: AgentStream::Plain(stream),
                leftover,
                framing,
                peer: address,
                subprotocol,
            });
        };
        let mut stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|source| DialError::Tls { address, source })?;
        let (leftover, subprotocol) = upgrade(&mut stream, &head, &key, address).await?;
        let (stream, session) = stream.into_inner();
        let stream = stream.into_std().map_err(|source| DialError::Dropped { address, source })?;
        let stream = AgentStream::Tls(stream, Box::new(session));
        Ok(Connected { stream, leftover, framing: Framing::WebSocket, peer: address, subprotocol })
    }

    async fn connect(&self, target: &Target) -> Result<(TcpStream, SocketAddr), DialError> {
        let addresses = resolve::lookup(&target.host, target.port, self.times.resolve)
            .await
            .map_err(|source| DialError::Resolve { host: target.host.clone(), source })?;
        let mut failure = None;
        for address in addresses {
            if !self.fence.permits(address.ip()) {
                failure = Some(DialError::Fenced { address });
                continue;
            }
            let attempt = tokio::time::timeout(self.times.connect, TcpStream::connect(address)).await;
            let outcome = attempt.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            match outcome.and_then(|stream| stream.set_nodelay(true).map(|()| stream)) {
                Ok(stream) => return Ok((stream, address)),
                Err(source) => failure = Some(DialError::Connect { place: target.place(address), source }),
            }
        }
        Err(failure.expect("a look-up without addresses is an error already"))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };
    use tungstenite::handshake::derive_accept_key;

    use super::*;

    fn dialler() -> Dialler {
        let times = DialTimes {
            resolve: Duration::from_secs(1),
            connect: Duration::from_secs(1),
            total: Duration::from_millis(700),
        };
        Dialler::new(verifying_tls(&[]).unwrap().0, Fence::default(), times)
    }

    fn request(url: String) -> DialRequest {
        DialRequest { url, headers: Vec::new(), subprotocol: None }
    }

    /// Answers one connection with `answer`, where `{accept}` stands for the right key; returns the request.
    async fn scripted(answer: &'static str) -> (u16, tokio::task::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let task = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                if stream.read_buf(&mut head).await.unwrap() == 0 {
                    break;
                }
            }
            let head = String::from_utf8(head).unwrap();
            let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).unwrap();
            let answer = answer.replace("{accept}", &derive_accept_key(key.as_bytes()));
            stream.write_all(answer.as_bytes()).await.unwrap();
            head
        });
        (port, task)
    }

    const SWITCHING: &str = "HTTP/1.1 101 Switching Protocols\r\nupgrade: WebSocket\r\n\
        connection: keep-alive, upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n\x01\x02";

    #[tokio::test]
    async fn the_first_frames_behind_the_answer_are_kept() {
        let (port, task) = scripted(SWITCHING).await;
        let mut request = request(format!("ws://us%40er:se%3Acret@127.0.0.1:{port}/a%20b?x=1"));
        request.headers.push(("X-Call".to_owned(), "42".to_owned()));
        request.subprotocol = Some("media".to_owned());
        let connected = dialler().dial(&request).await.unwrap();
        assert_eq!(connected.leftover, [1, 2]);
        assert_eq!(connected.subprotocol, None, "a server that selects none is accepted");
        let head = task.await.unwrap();
        assert!(head.starts_with("GET /a%20b?x=1 HTTP/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nHost: 127.0.0.1:{port}\r\n")));
        assert!(head.contains("\r\nX-Call: 42\r\n"));
        assert!(head.contains("\r\nSec-WebSocket-Protocol: media\r\n"));
        assert!(head.contains("\r\nAuthorization: Basic dXNAZXI6c2U6Y3JldA==\r\n"), "{head}");
        assert!(!head.contains("Origin") && !head.contains("Extensions"));
    }

    #[tokio::test]
    async fn a_redirection_or_refusal_is_named() {
        let (port, _task) = scripted("HTTP/1.1 302 Found\r\nLocation: wss://elsewhere/\r\n\r\n").await;
        let error = dialler().dial(&request(format!("ws://127.0.0.1:{port}/"))).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the agent answered the WebSocket upgrade with 302 Found, redirecting to wss://elsewhere/"
        );
        let (port, _task) = scripted("HTTP/1.1 403 Forbidden\r\n\r\n").await;
        let error = dialler().dial(&request(format!("ws://127.0.0.1:{port}/"))).await.unwrap_err();
        assert_eq!(error.to_string(), "the agent answered the WebSocket upgrade with 403 Forbidden");
    }

    #[tokio::test]
    async fn a_wrong_accept_key_is_no_websocket() {
        let answer = "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Accept: AAAAAAAAAAAAAAAAAAAAAAAAAAA=\r\n\r\n";
        let (port, _task) = scripted(answer).await;
        let error = dialler().dial(&request(format!("ws://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(error, DialError::Upgrade(_)), "{error}");
    }

    #[tokio::test]
    async fn an_agent_that_accepts_and_says_nothing_runs_into_the_time_limit() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let error = dialler().dial(&request(format!("ws://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(error, DialError::Timeout(_)), "{error}");
    }

    #[tokio::test]
    async fn a_closed_port_and_a_foreign_protocol_are_told_apart() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = dialler().dial(&request(format!("ws://{free}/"))).await.unwrap_err();
        assert!(matches!(error, DialError::Connect { .. }), "{error}");
        let (port, _task) = scripted("SSH-2.0-OpenSSH_9\r\n\r\n").await;
        let error = dialler().dial(&request(format!("ws://127.0.0.1:{port}/"))).await.unwrap_err();
        assert!(matches!(error, DialError::Upgrade(_)), "{error}");
    }

    #[tokio::test]
    async fn the_fence_is_asked_before_a_connection_is_made() {
        let fence = Fence { deny_private: true, ..Fence::default() };
        let dialler = Dialler::new(verifying_tls(&[]).unwrap().0, fence, DialTimes::default());
        let error = dialler.dial(&request("ws://127.0.0.1:9/".to_owned())).await.unwrap_err();
        assert!(matches!(error, DialError::Fenced { .. }), "{error}");
    }

    #[tokio::test]
    async fn headers_that_would_smuggle_a_line_are_refused() {
        let mut request = request("ws://127.0.0.1:9/".to_owned());
        request.headers.push(("X-A".to_owned(), "b\r\nX-C: d".to_owned()));
        assert!(matches!(dialler().dial(&request).await.unwrap_err(), DialError::Header(_)));
        request.headers = vec![("Sec-WebSocket-Key".to_owned(), "x".to_owned())];
        assert!(matches!(dialler().dial(&request).await.unwrap_err(), DialError::Header(_)));
    }

    #[tokio::test]
    async fn an_http_address_is_refused_by_name() {
        let error = dialler().dial(&request("http://127.0.0.1/".to_owned())).await.unwrap_err();
        assert!(error.to_string().contains("not ws or wss"), "{error}");
    }
}
