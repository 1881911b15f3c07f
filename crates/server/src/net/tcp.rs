//! SIP over TCP and TLS: listeners, outbound connections and their reuse (RFC 3261 section 18).
//!
//! Every connection is one task that reads and writes; bytes go to signalling as they come, framing is the
//! core's. Bounded: connections in all and from one address, bytes waiting to be written, the time a new
//! connection may take until it has deserved an answer, idle time, and the time a write may take. A
//! connection over a bound is closed and counted. The time for a
//! TLS handshake is bounded too. Refuses to look into the bytes.

mod bounds;
mod connection;

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tandem_sip::{Flow, Transport};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, oneshot},
    task::{AbortHandle, JoinHandle},
    time::timeout,
};
use tokio_rustls::TlsAcceptor;

use self::{
    bounds::Place,
    connection::{Parts, Stream, WRITE_QUEUE, bound_silence, serve},
};
pub use self::{
    bounds::{TcpCounters, TcpLimits, TcpShared},
    connection::{Connection, Connections, Outgoing, Peer},
};
use super::{
    holder::{self, BindError},
    listen::is_dispensable,
};
use crate::signalling::NetInput;

/// Connections the kernel may hold until we accept them.
const BACKLOG: i32 = 1_024;

/// Bound listeners, not yet accepting.
#[derive(Debug)]
pub struct TcpListeners {
    listeners: Vec<(SocketAddr, TcpListener)>,
}

impl TcpListeners {
    /// Binds every address.
    ///
    /// # Errors
    /// [`BindError`] for the first address that cannot be bound.
    pub fn bind(addresses: &[SocketAddr]) -> Result<Self, BindError> {
        let mut listeners = Vec::new();
        for address in addresses {
            let fault = |cause| BindError::new("SIP", holder::Protocol::Tcp, *address, cause);
            let listener = match listen(*address) {
                Err(cause) if is_dispensable(*address, addresses, &cause) => {
                    tracing::info!(%address, %cause, "this machine has no IPv6: SIP over TCP is taken over IPv4 alone");
                    continue;
                }
                opened => TcpListener::from_std(opened.map_err(fault)?.into()).map_err(fault)?,
            };
            listeners.push((listener.local_addr().map_err(fault)?, listener));
        }
        Ok(Self { listeners })
    }

    /// The bound addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(bound, _)| *bound).collect()
    }

    /// Starts one accepting task per listener; with `tls` every connection begins with a handshake.
    #[must_use]
    pub fn accept(self, shared: &Arc<TcpShared>, tls: Option<&TlsAcceptor>) -> Vec<JoinHandle<()>> {
        let accept = |(_, listener)| tokio::spawn(accept(listener, Arc::clone(shared), tls.cloned()));
        self.listeners.into_iter().map(accept).collect()
    }
}

async fn accept(listener: TcpListener, shared: Arc<TcpShared>, tls: Option<TlsAcceptor>) {
    loop {
        let (stream, remote) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors or the peer was gone already; a pause keeps the former from spinning.
                tracing::debug!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
        };
        let Some(place) = shared.admit(Some(remote.ip())) else {
            continue;
        };
        shared.counters.accepted.fetch_add(1, Ordering::Relaxed);
        let (start, started) = oneshot::channel::<AbortHandle>();
        let tls = tls.clone();
        let task = tokio::spawn(async move {
            if let Ok(own) = started.await {
                welcome(place, stream, remote, tls, own).await;
            }
        });
        let _ = start.send(task.abort_handle());
    }
}

/// Serves a connection that a peer opened, after its handshake where it is TLS. Signalling hears of it before it hears
/// its first byte.
async fn welcome(
    place: Place,
    stream: TcpStream,
    remote: SocketAddr,
    tls: Option<TlsAcceptor>,
    own: AbortHandle,
) {
    let shared = &place.shared;
    let Ok(local) = stream.local_addr() else { return };
    // Messages are small and someone waits for each.
    let _ = stream.set_nodelay(true);
    bound_silence(&stream);
    let id = shared.next.fetch_add(1, Ordering::Relaxed);
    let transport = if tls.is_some() { Transport::Tls } else { Transport::Tcp };
    let flow = Flow { transport, local, remote, connection: id };
    let stream = match tls {
        None => Stream::Plain(stream),
        Some(tls) => match timeout(shared.limits.patience, tls.accept(stream)).await {
            Ok(Ok(stream)) => Stream::Accepted(Box::new(stream)),
            failed => {
                shared.counters.handshakes_failed.fetch_add(1, Ordering::Relaxed);
                let error = failed.err().map_or_else(|| "refused".to_owned(), |late| late.to_string());
                tracing::debug!(%remote, error, "a TLS handshake failed");
                return;
            }
        },
    };
    let (queue, inbox) = mpsc::channel(WRITE_QUEUE);
    let parts = Parts::default();
    let connection = parts.connection(queue, own);
    if shared.inputs.send(NetInput::StreamOpened { flow, connection: Some(connection) }).await.is_err() {
        return;
    }
    serve(shared, stream, flow, inbox, &parts).await;
    let _ = shared.inputs.send(NetInput::StreamClosed { flow }).await;
}

/// Binds a socket as listeners need it.
pub(crate) fn listen(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio_rustls::TlsConnector;

    use super::*;
    use crate::{config::Tls, net::tls::SipTls};

    fn connector() -> TlsConnector {
        SipTls::load(&Tls::default()).unwrap().connector().clone()
    }

    struct Net {
        address: SocketAddr,
        shared: Arc<TcpShared>,
        inputs: mpsc::Receiver<NetInput>,
    }

    fn net(limits: TcpLimits) -> Net {
        let (sender, inputs) = mpsc::channel(16);
        let shared = TcpShared::new(limits, sender, connector());
        let listeners = TcpListeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners.addresses()[0];
        let _tasks = listeners.accept(&shared, None);
        Net { address, shared, inputs }
    }

    fn limits() -> TcpLimits {
        TcpLimits {
            connections: 8,
            per_address: 4,
            unproven: Duration::from_millis(150),
            idle: Duration::from_secs(5),
            patience: Duration::from_secs(1),
        }
    }

    async fn next(inputs: &mut mpsc::Receiver<NetInput>) -> NetInput {
        timeout(Duration::from_secs(2), inputs.recv()).await.unwrap().unwrap()
    }

    /// A peer that dribbles without ever deserving an answer is closed, however steadily it dribbles.
    #[tokio::test]
    async fn a_connection_that_deserves_no_answer_in_time_is_closed() {
        let mut net = net(limits());
        let mut slow = TcpStream::connect(net.address).await.unwrap();
        let dribble = tokio::spawn(async move {
            while slow.write_all(b"I").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        let NetInput::StreamOpened { connection: Some(_held), .. } = next(&mut net.inputs).await else {
            panic!("no connection");
        };
        let mut bytes = 0;
        while let NetInput::StreamData { payload, .. } = next(&mut net.inputs).await {
            bytes += payload.len();
        }
        assert!((1..20).contains(&bytes), "{bytes} bytes were taken");
        assert_eq!(net.shared.counters().unproven.load(Ordering::Relaxed), 1);
        dribble.abort();
    }

    #[tokio::test]
    async fn one_address_has_its_share_and_gets_it_back() {
        let mut net = net(TcpLimits { unproven: Duration::from_secs(5), ..limits() });
        let mut held = Vec::new();
        for _ in 0..6 {
            held.push(TcpStream::connect(net.address).await.unwrap());
        }
        for _ in 0..4 {
            assert!(matches!(next(&mut net.inputs).await, NetInput::StreamOpened { .. }));
        }
        let counters = net.shared.counters();
        for _ in 0..100 {
            if counters.refused_address.load(Ordering::Relaxed) == 2 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(counters.refused_address.load(Ordering::Relaxed), 2);
        drop(held);
        for _ in 0..4 {
            assert!(matches!(next(&mut net.inputs).await, NetInput::StreamClosed { .. }));
        }
        let _again = TcpStream::connect(net.address).await.unwrap();
        assert!(matches!(next(&mut net.inputs).await, NetInput::StreamOpened { .. }));
    }

    #[tokio::test]
    async fn bytes_arrive_as_they_were_sent_and_the_end_is_told() {
        let mut net = net(limits());
        let mut peer = TcpStream::connect(net.address).await.unwrap();
        let NetInput::StreamOpened { flow, connection: Some(_held) } = next(&mut net.inputs).await else {
            panic!("no connection");
        };
        assert_eq!(flow.local, net.address);
        assert_eq!(flow.remote, peer.local_addr().unwrap());
        peer.write_all(b"OPTIONS").await.unwrap();
        let NetInput::StreamData { flow: of, payload } = next(&mut net.inputs).await else {
            panic!("no data");
        };
        assert_eq!((of, payload.as_ref()), (flow, &b"OPTIONS"[..]));
        drop(peer);
        assert!(matches!(next(&mut net.inputs).await, NetInput::StreamClosed { flow: of } if of == flow));
    }
}
