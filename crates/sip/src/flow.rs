//! How a peer is reached: the transport and the pair of addresses a message came over or goes out on.
//!
//! It opens nothing and resolves nothing. RFC 3261 section 18 (transports), RFC 5626 section 3 (flows).

use std::net::SocketAddr;

/// A SIP transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams, RFC 3261 section 18; retransmission is ours.
    Udp,
    /// A plain stream.
    Tcp,
    /// A stream under TLS.
    Tls,
}

impl Transport {
    /// Whether the transport itself delivers: no retransmission timers run over it (RFC 3261 section 17).
    pub fn is_reliable(self) -> bool {
        match self {
            Self::Udp => false,
            Self::Tcp | Self::Tls => true,
        }
    }

    /// The token of the Via header's sent-protocol, RFC 3261 section 20.42.
    pub fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
            Self::Tls => "TLS",
        }
    }

    /// The value of a URI's `transport` parameter, RFC 3261 section 19.1.1. TLS is asked for as `tls`,
    /// which RFC 3261 deprecates and every carrier still sends.
    pub fn uri_name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    /// The port used when none is written, RFC 3261 section 19.1.2.
    pub fn default_port(self) -> u16 {
        match self {
            Self::Udp | Self::Tcp => 5060,
            Self::Tls => 5061,
        }
    }

    /// Reads a transport token in any case, as in a Via or a `transport` parameter.
    pub fn from_token(token: &[u8]) -> Option<Self> {
        [Self::Udp, Self::Tcp, Self::Tls]
            .into_iter()
            .find(|known| known.via_name().as_bytes().eq_ignore_ascii_case(token))
    }
}

/// The way to one peer: what a response must be sent back over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The transport spoken.
    pub transport: Transport,
    /// Our concrete address, never a wildcard: it goes into Via and Contact.
    pub local: SocketAddr,
    /// The peer's address as the socket saw it.
    pub remote: SocketAddr,
    /// The shell's number of the connection; 0 for datagrams.
    pub connection: u64,
}
