//! RTP and RTCP ports: leased in pairs from one range, rested after use.
//!
//! RTP takes the even port and RTCP the odd one above it (RFC 3550 section 11). A pair that was used is
//! not handed out again at once: it stays bound for a while, so that packets of the old call which are
//! still on their way reach nobody, neither the next caller nor a stranger's program. A caller that missed
//! the end of its call may go on sending for long; its pair rests anew until it is quiet, within a bound.
//! Least recently used pairs are handed out first. A port that another program holds is skipped and counted.
//!
//! Refuses to know calls or packets: it hands out sockets and takes them back.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use mio::net::UdpSocket;
use socket2::{Domain, Protocol, Socket, Type};

/// Pairs tried before a lease gives up because other programs hold the ports.
const ATTEMPTS_PER_LEASE: usize = 64;
/// Kernel buffer asked for on each side of a socket: about a second of G.711 packets.
const SOCKET_BUFFER_BYTES: usize = 32 * 1024;
/// How often a pair that is still being sent to rests anew before it is handed out all the same: an hour and
/// more at the usual rest, so that no sender can hold ports for good.
const RESTS_MAX: u32 = 256;
/// Datagrams read away from one resting socket at a time.
const DATAGRAMS_MAX: usize = 512;
/// Expedited forwarding, as the differentiated-services byte (RFC 3246).
const EXPEDITED_FORWARDING: u32 = 0xB8;

/// Why no port pair could be had.
#[derive(Debug, thiserror::Error)]
pub enum PortError {
    /// Every pair of the range is in use or resting.
    #[error("all {pairs} RTP port pairs are in use ({resting} of them resting)")]
    Exhausted {
        /// Pairs in the range.
        pairs: usize,
        /// Pairs that rest after a call.
        resting: usize,
    },
    /// Other programs hold the ports that were tried.
    #[error("{tried} RTP port pairs were tried and all are held by other programs")]
    Occupied {
        /// Pairs tried.
        tried: usize,
    },
    /// The operating system refused a socket for another reason.
    #[error("an RTP socket on {address} cannot be opened")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A bound pair of sockets, both nonblocking.
#[derive(Debug)]
pub(super) struct PortPair {
    /// The RTP socket, on the even port.
    pub(super) rtp: UdpSocket,
    /// The RTCP socket, on the port above.
    pub(super) rtcp: UdpSocket,
    /// Where the RTP socket is bound.
    pub(super) address: SocketAddr,
}

impl PortPair {
    /// Reads away what has come and tells whether there was anything. A socket holds a second of audio at
    /// most, so this ends.
    fn is_sent_to(&self) -> bool {
        let mut datagram = [0; 1];
        let mut is_sent_to = false;
        for socket in [&self.rtp, &self.rtcp] {
            for _ in 0..DATAGRAMS_MAX {
                match socket.recv_from(&mut datagram) {
                    Ok(_) => is_sent_to = true,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An error of an earlier send says nothing of what was received.
                    Err(_) => {}
                }
            }
        }
        is_sent_to
    }
}

/// What the pool holds and what befell it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortCounts {
    /// Pairs in the range.
    pub pairs: usize,
    /// Pairs leased to calls.
    pub leased: usize,
    /// Pairs bound but resting.
    pub resting: usize,
    /// Leases refused because nothing was free.
    pub exhausted: u64,
    /// Pairs skipped because another program held a port.
    pub occupied: u64,
}

#[derive(Debug)]
struct Pool {
    /// Even ports not bound by us, least recently used first.
    free: VecDeque<u16>,
    /// Bound pairs, in the order in which their rest ends.
    resting: VecDeque<Resting>,
    leased: usize,
}

/// A pair that was used and is heard by nobody.
#[derive(Debug)]
struct Resting {
    until: Instant,
    rests: u32,
    pair: PortPair,
}

/// The ports of a process, shared by its media threads. The lock is taken when a call opens or closes,
/// never for a packet.
#[derive(Debug)]
pub struct Ports {
    pool: Mutex<Pool>,
    pairs: usize,
    rest: Duration,
    exhausted: AtomicU64,
    occupied: AtomicU64,
}

impl Ports {
    /// A pool over the ports from `first` to `last`, both included. Pairs start at even ports; an odd
    /// `first` or an even `last` is left unused.
    #[must_use]
    pub fn new(first: u16, last: u16, rest: Duration) -> Self {
        let start = u32::from(first) + u32::from(first % 2);
        let free: VecDeque<u16> = (start..u32::from(last))
            .step_by(2)
            .filter_map(|port| u16::try_from(port).ok())
            .filter(|port| *port != 0)
            .collect();
        Self {
            pairs: free.len(),
            pool: Mutex::new(Pool { free, resting: VecDeque::new(), leased: 0 }),
            rest,
            exhausted: AtomicU64::new(0),
            occupied: AtomicU64::new(0),
        }
    }

    /// Binds a pair on `ip`.
    ///
    /// # Errors
    /// [`PortError`] when the range is used up, other programs hold it, or the system refuses.
    pub(super) fn lease(&self, ip: IpAddr, now: Instant) -> Result<PortPair, PortError> {
        let mut pool = self.lock();
        self.wake_rested(&mut pool, now);
        let attempts = pool.free.len().min(ATTEMPTS_PER_LEASE);
        if attempts == 0 {
            self.exhausted.fetch_add(1, Ordering::Relaxed);
            return Err(PortError::Exhausted { pairs: self.pairs, resting: pool.resting.len() });
        }
        for _ in 0..attempts {
            let port = pool.free.pop_front().expect("as many free ports as attempts");
            match bind_pair(ip, port) {
                Ok(pair) => {
                    pool.leased += 1;
                    return Ok(pair);
                }
                Err(source) if source.kind() == io::ErrorKind::AddrInUse => {
                    self.occupied.fetch_add(1, Ordering::Relaxed);
                    pool.free.push_back(port);
                }
                Err(source) => {
                    pool.free.push_front(port);
                    return Err(PortError::Socket { address: SocketAddr::new(ip, port), source });
                }
            }
        }
        Err(PortError::Occupied { tried: attempts })
    }

    /// Takes a pair back. It stays bound, and deaf, until its rest is over.
    pub(super) fn rest(&self, pair: PortPair, now: Instant) {
        let mut pool = self.lock();
        pool.leased = pool.leased.saturating_sub(1);
        // What came before the end of the call is no sign that its caller goes on.
        pair.is_sent_to();
        pool.resting.push_back(Resting { until: now + self.rest, rests: 1, pair });
        self.wake_rested(&mut pool, now);
    }

    /// Frees the pairs whose rest is over; to be called now and then when no call opens or closes.
    pub fn expire(&self, now: Instant) {
        self.wake_rested(&mut self.lock(), now);
    }

    /// How the pool stands.
    #[must_use]
    pub fn counts(&self) -> PortCounts {
        let pool = self.lock();
        PortCounts {
            pairs: self.pairs,
            leased: pool.leased,
            resting: pool.resting.len(),
            exhausted: self.exhausted.load(Ordering::Relaxed),
            occupied: self.occupied.load(Ordering::Relaxed),
        }
    }

    fn wake_rested(&self, pool: &mut Pool, now: Instant) {
        while pool.resting.front().is_some_and(|resting| resting.until <= now) {
            let Some(Resting { rests, pair, .. }) = pool.resting.pop_front() else { return };
            if rests < RESTS_MAX && !self.rest.is_zero() && pair.is_sent_to() {
                pool.resting.push_back(Resting { until: now + self.rest, rests: rests + 1, pair });
            } else {
                pool.free.push_back(pair.address.port());
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pool> {
        // A panic while holding the lock leaves a list of ports, which is still a list of ports.
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn bind_pair(ip: IpAddr, port: u16) -> io::Result<PortPair> {
    let address = SocketAddr::new(ip, port);
    let rtp = bind(address)?;
    let rtcp = bind(SocketAddr::new(ip, port + 1))?;
    Ok(PortPair { rtp, rtcp, address })
}

fn bind(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    // Buffers and marking are wishes; a system that refuses them still carries a call.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER_BYTES);
    if address.is_ipv4() {
        let _ = socket.set_tos_v4(EXPEDITED_FORWARDING);
    } else {
        socket.set_only_v6(true)?;
        let _ = socket.set_tclass_v6(EXPEDITED_FORWARDING);
    }
    socket.bind(&address.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    #[test]
    fn rtp_is_even_and_rtcp_the_next() {
        let ports = Ports::new(31_501, 31_510, Duration::from_secs(1));
        assert_eq!(ports.counts().pairs, 4, "31502 to 31509");
        let pair = ports.lease(LOOPBACK, crate::clock::now()).unwrap();
        assert_eq!(pair.address.port() % 2, 0);
        assert_eq!(pair.rtcp.local_addr().unwrap().port(), pair.address.port() + 1);
    }

    #[test]
    fn a_used_pair_rests_before_it_is_leased_again() {
        let ports = Ports::new(31_520, 31_521, Duration::from_secs(5));
        let now = crate::clock::now();
        let pair = ports.lease(LOOPBACK, now).unwrap();
        ports.rest(pair, now);
        assert!(std::net::UdpSocket::bind((LOOPBACK, 31_520)).is_err(), "it stays bound while it rests");
        let refused = ports.lease(LOOPBACK, now + Duration::from_millis(4_999)).unwrap_err();
        assert!(matches!(refused, PortError::Exhausted { pairs: 1, resting: 1 }));
        assert_eq!(ports.counts().exhausted, 1);
        assert!(ports.lease(LOOPBACK, now + Duration::from_secs(5)).is_ok());
    }

    #[test]
    fn a_pair_that_is_still_sent_to_rests_anew() {
        let rest = Duration::from_secs(5);
        let ports = Ports::new(31_550, 31_551, rest);
        let now = crate::clock::now();
        let pair = ports.lease(LOOPBACK, now).unwrap();
        ports.rest(pair, now);
        let caller = std::net::UdpSocket::bind((LOOPBACK, 0)).unwrap();
        caller.send_to(&[0x80; 172], (LOOPBACK, 31_550)).unwrap();
        assert!(ports.lease(LOOPBACK, now + rest).is_err(), "the old caller is still there");
        assert!(ports.lease(LOOPBACK, now + 2 * rest).is_ok(), "it has gone");
    }

    #[test]
    fn a_port_of_another_program_is_skipped_and_counted() {
        let foreign = std::net::UdpSocket::bind((LOOPBACK, 31_531)).unwrap();
        let ports = Ports::new(31_530, 31_533, Duration::from_secs(5));
        let pair = ports.lease(LOOPBACK, crate::clock::now()).unwrap();
        assert_eq!(pair.address.port(), 31_532);
        assert_eq!(ports.counts().occupied, 1);
        drop(foreign);
    }

    #[test]
    fn the_least_recently_used_pair_comes_first() {
        let ports = Ports::new(31_540, 31_545, Duration::ZERO);
        let now = crate::clock::now();
        let first = ports.lease(LOOPBACK, now).unwrap();
        assert_eq!(first.address.port(), 31_540);
        ports.rest(first, now);
        assert_eq!(ports.lease(LOOPBACK, now).unwrap().address.port(), 31_542);
    }
}
