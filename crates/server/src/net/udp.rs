//! SIP over UDP: one task per listener receives, stamps the flow, and hands on in order of arrival.
//!
//! The queue to signalling is bounded. What does not fit is dropped and counted: over UDP that is the
//! network's own way, and the sender repeats (RFC 3261 section 17.1.1.2). Refuses to look into a datagram.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tandem_sip::{Flow, Transport};
use tokio::{net::UdpSocket, sync::mpsc, task::JoinHandle};

use super::{
    holder::{self, BindError},
    listen::is_dispensable,
    local_address::{self, LocalAddresses},
};
use crate::{clock, signalling::NetInput};

/// Largest datagram there is (RFC 768, RFC 791).
const DATAGRAM_BYTES: usize = 65_535;
/// Datagrams taken from a socket before others get their turn.
const BATCH: usize = 64;
/// Kernel buffer asked for: a second of a flood of 3,000 messages.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// What befell the datagrams.
#[derive(Debug, Default)]
pub struct UdpCounters {
    /// Received.
    pub received: AtomicU64,
    /// Dropped because signalling did not keep up.
    pub dropped: AtomicU64,
    /// Dropped because there is no route back to the sender.
    pub unroutable: AtomicU64,
    /// Sent.
    pub sent: AtomicU64,
    /// Not sent because the kernel's buffer was full.
    pub send_blocked: AtomicU64,
}

/// The UDP listeners of the process.
#[derive(Debug)]
pub struct UdpListeners {
    sockets: Vec<(SocketAddr, Arc<UdpSocket>)>,
    counters: Arc<UdpCounters>,
}

impl UdpListeners {
    /// Binds every address. Nothing is received before [`Self::receive`].
    ///
    /// # Errors
    /// [`BindError`] for the first address that cannot be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let mut sockets = Vec::new();
        for address in addresses {
            let fault = |cause| BindError::new("SIP", holder::Protocol::Udp, *address, cause);
            let socket = match open(*address) {
                Err(cause) if is_dispensable(*address, addresses, &cause) => {
                    tracing::info!(%address, %cause, "this machine has no IPv6: SIP over UDP is taken over IPv4 alone");
                    continue;
                }
                opened => UdpSocket::from_std(opened.map_err(fault)?.into()).map_err(fault)?,
            };
            sockets.push((socket.local_addr().map_err(fault)?, Arc::new(socket)));
        }
        Ok(Self { sockets, counters: Arc::default() })
    }

    /// The bound addresses, with the ports the system chose where 0 was asked for.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|(bound, _)| *bound).collect()
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> Arc<UdpCounters> {
        Arc::clone(&self.counters)
    }

    /// Starts one receiving task per listener.
    #[must_use]
    pub fn receive(&self, inputs: &mpsc::Sender<NetInput>) -> Vec<JoinHandle<()>> {
        let mut tasks = Vec::new();
        for (bound, socket) in &self.sockets {
            let receiver = Receiver {
                bound: *bound,
                socket: Arc::clone(socket),
                inputs: inputs.clone(),
                counters: Arc::clone(&self.counters),
                addresses: LocalAddresses::new(),
            };
            tasks.push(tokio::spawn(receiver.run()));
        }
        tasks
    }

    /// Sends a datagram from the listener that `local` belongs to, or the first of the right family.
    ///
    /// # Errors
    /// When no listener fits or the system refuses; a full kernel buffer is no error but a lost datagram.
    pub fn send(&self, local: Option<SocketAddr>, remote: SocketAddr, payload: &[u8]) -> io::Result<()> {
        let socket = self.socket_for(local, remote).ok_or_else(|| {
            io::Error::new(io::ErrorKind::AddrNotAvailable, "no UDP listener of this family")
        })?;
        match socket.try_send_to(payload, remote) {
            Ok(_) => {
                self.counters.sent.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.counters.send_blocked.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The concrete address a datagram to `remote` leaves from, if a listener fits.
    #[must_use]
    pub fn local_towards(&self, remote: IpAddr) -> Option<SocketAddr> {
        let (bound, _) = self.sockets.iter().find(|(bound, _)| bound.is_ipv4() == remote.is_ipv4())?;
        if bound.ip().is_unspecified() {
            let ip = local_address::probe(remote).ok()?;
            return Some(SocketAddr::new(ip, bound.port()));
        }
        Some(*bound)
    }

    fn socket_for(&self, local: Option<SocketAddr>, remote: SocketAddr) -> Option<&UdpSocket> {
        let exact = self.sockets.iter().find(|(bound, _)| Some(*bound) == local);
        let wildcard = || {
            self.sockets.iter().find(|(bound, _)| {
                bound.is_ipv4() == remote.is_ipv4()
                    && local.is_some_and(|local| bound.ip().is_unspecified() && bound.port() == local.port())
            })
        };
        let family = || self.sockets.iter().find(|(bound, _)| bound.is_ipv4() == remote.is_ipv4());
        exact.or_else(wildcard).or_else(family).map(|(_, socket)| socket.as_ref())
    }
}

struct Receiver {
    bound: SocketAddr,
    socket: Arc<UdpSocket>,
    inputs: mpsc::Sender<NetInput>,
    counters: Arc<UdpCounters>,
    addresses: LocalAddresses,
}

impl Receiver {
    async fn run(mut self) {
        let mut buffer = vec![0_u8; DATAGRAM_BYTES];
        loop {
            if self.socket.readable().await.is_err() {
                return;
            }
            for _ in 0..BATCH {
                match self.socket.try_recv_from(&mut buffer) {
                    Ok((length, remote)) => {
                        if !self.hand_on(&buffer[..length], remote) {
                            return;
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    // An ICMP error of an earlier datagram; says nothing about this socket.
                    Err(_) => {}
                }
            }
            tokio::task::yield_now().await;
        }
    }

    /// False when signalling has ended.
    fn hand_on(&mut self, datagram: &[u8], remote: SocketAddr) -> bool {
        self.counters.received.fetch_add(1, Ordering::Relaxed);
        let Ok(local) = self.addresses.towards(self.bound, remote.ip(), clock::now()) else {
            self.counters.unroutable.fetch_add(1, Ordering::Relaxed);
            return true;
        };
        let flow = Flow { transport: Transport::Udp, local, remote, connection: 0 };
        let input = NetInput::Datagram { flow, payload: Bytes::copy_from_slice(datagram) };
        match self.inputs.try_send(input) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Full(_)) => {
                self.counters.dropped.fetch_add(1, Ordering::Relaxed);
                true
            }
            Err(mpsc::error::TrySendError::Closed(_)) => false,
        }
    }
}

/// Binds a socket as listeners need it.
pub(crate) fn open(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A wish: a smaller buffer only drops earlier in a flood.
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    async fn received(listener: &str, client: &str) -> Flow {
        let (sender, mut inputs) = mpsc::channel(4);
        let listeners = UdpListeners::bind(&[listener.parse().unwrap()]).unwrap();
        let _tasks = listeners.receive(&sender);
        let port = listeners.addresses()[0].port();
        let client: SocketAddr = client.parse().unwrap();
        let socket = UdpSocket::bind(client).await.unwrap();
        socket.send_to(b"x", (client.ip(), port)).await.unwrap();
        let input = tokio::time::timeout(Duration::from_secs(2), inputs.recv()).await.unwrap().unwrap();
        let NetInput::Datagram { flow, payload } = input else { panic!("{input:?}") };
        assert_eq!(payload, "x");
        // The way back is open too, from the address the client has sent to.
        listeners.send(Some(flow.local), flow.remote, b"y").unwrap();
        let mut buffer = [0; 8];
        let (_, from) = socket.recv_from(&mut buffer).await.unwrap();
        assert_eq!(from, flow.local);
        flow
    }

    /// A wildcard must not be written into Via or Contact, so a flow names the address the peer sees.
    #[tokio::test]
    async fn a_flow_names_a_concrete_address_though_the_listener_takes_all() {
        let flow = received("0.0.0.0:0", "127.0.0.1:0").await;
        assert_eq!(flow.local.ip().to_string(), "127.0.0.1");
    }

    #[tokio::test]
    async fn ipv6_is_received_and_answered() {
        let flow = received("[::]:0", "[::1]:0").await;
        assert_eq!(flow.local.ip().to_string(), "::1");
    }

    #[tokio::test]
    async fn what_signalling_does_not_take_is_dropped_and_counted() {
        let (sender, _inputs) = mpsc::channel(2);
        let listeners = UdpListeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let _tasks = listeners.receive(&sender);
        let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        for _ in 0..10 {
            client.send_to(b"x", listeners.addresses()[0]).await.unwrap();
        }
        let counters = listeners.counters();
        for _ in 0..200 {
            if counters.received.load(Ordering::Relaxed) == 10 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(counters.dropped.load(Ordering::Relaxed), 8);
    }
}
