//! What carries the callers' signalling to the server: a UDP socket, or one TLS connection whose stream is cut into messages.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

/// A way to the server.
#[derive(Debug)]
pub enum Line {
    /// Datagrams: what is lost is sent again.
    Udp(UdpSocket),
    /// A stream, and what was received of it and not yet cut into messages.
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>, Vec<u8>),
}

impl Line {
    /// A connected socket. Reads wait for `patience` at most.
    ///
    /// # Errors
    /// The socket's.
    pub fn udp(server: SocketAddr, patience: Duration) -> io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(server)?;
        socket.set_read_timeout(Some(patience))?;
        Ok(Self::Udp(socket))
    }

    /// A connection to a server whose certificate this authority vouches for.
    ///
    /// # Errors
    /// The socket's, and the handshake's.
    pub fn tls(server: SocketAddr, authority: &Path, patience: Duration) -> io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(authority).map_err(io::Error::other)?)
            .map_err(io::Error::other)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let name = ServerName::from(server.ip());
        let client = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let stream = TcpStream::connect(server)?;
        stream.set_nodelay(true)?;
        let mut stream = StreamOwned::new(client, stream);
        stream.conn.complete_io(&mut stream.sock)?;
        stream.sock.set_read_timeout(Some(patience))?;
        Ok(Self::Tls(Box::new(stream), Vec::new()))
    }

    /// Our own address.
    ///
    /// # Errors
    /// The socket's.
    pub fn local(&self) -> io::Result<SocketAddr> {
        match self {
            Self::Udp(socket) => socket.local_addr(),
            Self::Tls(stream, _) => stream.sock.local_addr(),
        }
    }

    /// The transport's name in Via.
    #[must_use]
    pub fn transport(&self) -> &'static str {
        match self {
            Self::Udp(_) => "UDP",
            Self::Tls(..) => "TLS",
        }
    }

    /// Whether messages may be lost on the way.
    #[must_use]
    pub fn loses(&self) -> bool {
        matches!(self, Self::Udp(_))
    }

    /// Sends a message.
    ///
    /// # Errors
    /// The socket's.
    pub fn send(&mut self, text: &str) -> io::Result<()> {
        match self {
            Self::Udp(socket) => socket.send(text.as_bytes()).map(drop),
            Self::Tls(stream, _) => stream.write_all(text.as_bytes()),
        }
    }

    /// The next message.
    ///
    /// # Errors
    /// [`ErrorKind::WouldBlock`] when none came within the patience; else the socket's.
    pub fn receive(&mut self) -> io::Result<String> {
        let mut buffer = [0; 16_384];
        match self {
            Self::Udp(socket) => {
                let length = socket.recv(&mut buffer)?;
                Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
            }
            Self::Tls(stream, pending) => loop {
                if let Some(message) = cut(pending) {
                    return Ok(message);
                }
                match stream.read(&mut buffer)? {
                    0 => return Err(ErrorKind::ConnectionRefused.into()),
                    length => pending.extend_from_slice(&buffer[..length]),
                }
            },
        }
    }
}

/// Takes one whole message off the front of a stream (RFC 3261 section 18.3).
fn cut(pending: &mut Vec<u8>) -> Option<String> {
    let blanks = pending.iter().take_while(|byte| b"\r\n".contains(byte)).count();
    pending.drain(..blanks);
    let head = pending.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&pending[..head]).into_owned();
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length:"));
    let end = head + length.and_then(|length| length.trim().parse::<usize>().ok()).unwrap_or(0);
    let whole = pending.get(..end)?;
    let message = String::from_utf8_lossy(whole).into_owned();
    pending.drain(..end);
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_is_cut_into_its_messages() {
        let mut pending =
            b"\r\nSIP/2.0 200 OK\r\nContent-Length: 4\r\n\r\nbodySIP/2.0 100 Trying\r\n\r".to_vec();
        assert!(cut(&mut pending).is_some_and(|message| message.ends_with("\r\n\r\nbody")));
        assert_eq!(cut(&mut pending), None);
        pending.extend_from_slice(b"\n");
        assert_eq!(cut(&mut pending).as_deref(), Some("SIP/2.0 100 Trying\r\n\r\n"));
        assert!(pending.is_empty());
    }
}
