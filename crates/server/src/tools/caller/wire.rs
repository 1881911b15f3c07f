//! The caller's signalling connection: a UDP socket or one connection over TCP or TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;
use rustls::pki_types::ServerName;
use tandem_sip::Endpoint;
use tandem_sip::{Flow, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The largest message that is read in one piece.
const READ_BYTES: usize = 65_535;

#[derive(Debug)]
enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// One open way to the called side.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: Socket,
    flow: Flow,
    buffer: Vec<u8>,
}

impl Wire {
    /// Over TLS the called side has to prove that it bears the name `host`.
    pub(crate) async fn open(
        transport: Transport,
        remote: SocketAddr,
        host: &str,
        tls: &TlsConnector,
    ) -> io::Result<Self> {
        let any: SocketAddr = if remote.is_ipv4() {
            ([0, 0, 0, 0], 0).into()
        } else {
            (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
        };
        let (socket, local, connection) = match transport {
            Transport::Udp => {
                let socket = UdpSocket::bind(any).await?;
                socket.connect(remote).await?;
                let local = socket.local_addr()?;
                (Socket::Udp(socket), local, 0)
            }
            Transport::Tcp => {
                let stream = TcpStream::connect(remote).await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                (Socket::Tcp(stream), local, 1)
            }
            Transport::Tls => {
                let stream = TcpStream::connect(remote).await?;
                stream.set_nodelay(true)?;
                let local = stream.local_addr()?;
                let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
                (Socket::Tls(Box::new(tls.connect(name, stream).await?)), local, 1)
            }
        };
        let flow = Flow { transport, local, remote, connection };
        Ok(Self { socket, flow, buffer: vec![0; READ_BYTES] })
    }

    pub(crate) fn flow(&self) -> Flow {
        self.flow
    }

    /// Tells the endpoint of the connection, where there is one.
    pub(crate) fn announce(&self, endpoint: &mut Endpoint, now: Instant) {
        if self.flow.transport.is_reliable() {
            endpoint.handle_stream_opened(now, self.flow);
        }
    }

    pub(crate) async fn send(&mut self, payload: &Bytes) -> io::Result<()> {
        match &mut self.socket {
            // A port that nobody listens on shows as an error of a later send: RFC 3261's timers decide.
            Socket::Udp(socket) => match socket.send(payload).await {
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                sent => sent.map(drop),
            },
            Socket::Tcp(stream) => stream.write_all(payload).await,
            Socket::Tls(stream) => {
                stream.write_all(payload).await?;
                stream.flush().await
            }
        }
    }

    /// Waits for bytes; cancelling it loses none.
    pub(crate) async fn receive(&mut self) -> io::Result<Bytes> {
        let received = match &mut self.socket {
            Socket::Udp(socket) => socket.recv(&mut self.buffer).await,
            Socket::Tcp(stream) => stream.read(&mut self.buffer).await,
            Socket::Tls(stream) => stream.read(&mut self.buffer).await,
        };
        match received {
            Ok(0) if self.flow.transport.is_reliable() => {
                Err(io::Error::new(io::ErrorKind::UnexpectedEof, "closed by the called side"))
            }
            Ok(length) => Ok(Bytes::copy_from_slice(&self.buffer[..length])),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                Err(io::Error::new(error.kind(), format!("nobody listens at {}", self.flow.remote)))
            }
            Err(error) => Err(error),
        }
    }

    pub(crate) fn hand_over(&self, endpoint: &mut Endpoint, now: Instant, payload: Bytes) {
        match self.socket {
            Socket::Udp(_) => endpoint.handle_datagram(now, self.flow, payload),
            Socket::Tcp(_) | Socket::Tls(_) => {
                let mut read = &payload[..];
                while endpoint.handle_stream(now, self.flow, read).is_some() {
                    read = &[];
                }
            }
        }
    }
}
