//! Which of our addresses a peer sees when a socket is bound to all of them.
//!
//! A wildcard must never be written into Via, Contact or SDP. The kernel knows the answer: a datagram
//! socket that is *connected* to the peer has its local address chosen, and nothing is sent by that.
//! Answers are cached by peer address for a short while, since routes change.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant},
};

/// How long an answer is taken for true.
const KEPT_FOR: Duration = Duration::from_secs(60);
/// Peers remembered; beyond it the memory is cleared, which costs a probe per peer.
const REMEMBERED: usize = 4_096;

/// The cache of answers.
#[derive(Debug, Default)]
pub struct LocalAddresses {
    known: BTreeMap<IpAddr, (Instant, IpAddr)>,
    /// Times the cache was full and emptied.
    pub emptied: u64,
}

impl LocalAddresses {
    /// An empty cache.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The address the peer at `remote` sees of us. `bound` is returned as it is unless it is a wildcard.
    ///
    /// # Errors
    /// What the system says when there is no route to the peer.
    pub fn towards(&mut self, bound: SocketAddr, remote: IpAddr, now: Instant) -> io::Result<SocketAddr> {
        if !bound.ip().is_unspecified() {
            return Ok(bound);
        }
        if let Some((until, ip)) = self.known.get(&remote)
            && *until > now
        {
            return Ok(SocketAddr::new(*ip, bound.port()));
        }
        let ip = probe(remote)?;
        if self.known.len() >= REMEMBERED {
            self.known.clear();
            self.emptied += 1;
        }
        self.known.insert(remote, (now + KEPT_FOR, ip));
        Ok(SocketAddr::new(ip, bound.port()))
    }
}

/// Asks the kernel which local address it would use towards `remote`. Sends nothing.
///
/// # Errors
/// What the system says when there is no route.
pub fn probe(remote: IpAddr) -> io::Result<IpAddr> {
    let wildcard: IpAddr = match remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((wildcard, 0))?;
    // The discard port: no packet leaves, but a port must be named.
    socket.connect((remote, 9))?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_seen_from_loopback() {
        let mut addresses = LocalAddresses::new();
        let bound = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 5060));
        let seen = addresses.towards(bound, Ipv4Addr::LOCALHOST.into(), crate::clock::now()).unwrap();
        assert_eq!(seen, SocketAddr::from((Ipv4Addr::LOCALHOST, 5060)));
    }

    #[test]
    fn a_concrete_address_is_left_alone() {
        let mut addresses = LocalAddresses::new();
        let bound = SocketAddr::from((Ipv4Addr::new(192, 0, 2, 1), 5060));
        assert_eq!(addresses.towards(bound, Ipv4Addr::LOCALHOST.into(), crate::clock::now()).unwrap(), bound);
    }
}
