//! SIP over TCP: listeners, outbound connections and their reuse (RFC 3261 section 18).
//!
//! Every connection is one task that reads and writes; bytes go to signalling as they come, framing is the
//! core's. Bounded: connections in all and from one address, bytes waiting to be written, the time a new
//! connection may take until it has deserved an answer, idle time, and the time a write may take. A
//! connection over a bound is closed and counted. Refuses to look into the bytes.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use socket2::{Domain, Protocol, Socket, Type};
use tandem_sip::{Flow, TransmitId, Transport};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf, tcp::OwnedWriteHalf},
    sync::{Notify, mpsc},
    task::{AbortHandle, JoinHandle},
    time::timeout,
};

use super::holder::{self, BindError};
use crate::signalling::NetInput;

/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Messages waiting to be written on one connection.
const WRITE_QUEUE: usize = 256;
/// Bytes waiting to be written on one connection: four of the largest messages.
const WRITE_QUEUE_BYTES: usize = 256 * 1024;
/// Connections the kernel may hold until we accept them.
const BACKLOG: i32 = 1_024;

/// The bounds on connections.
#[derive(Debug, Clone, Copy)]
pub struct TcpLimits {
    /// Connections at once.
    pub connections: usize,
    /// Accepted connections from one address at once.
    pub per_address: usize,
    /// Time from accepting a connection until something was sent on it.
    pub unproven: Duration,
    /// Time without a byte in either direction.
    pub idle: Duration,
    /// Time for an outbound connection to be accepted, and for one write.
    pub patience: Duration,
}

/// What befell the connections.
#[derive(Debug, Default)]
pub struct TcpCounters {
    /// Open now.
    pub open: AtomicUsize,
    /// Accepted.
    pub accepted: AtomicU64,
    /// Refused because there are too many.
    pub refused_total: AtomicU64,
    /// Refused because one address has too many.
    pub refused_address: AtomicU64,
    /// Closed because nothing worth an answer came in time.
    pub unproven: AtomicU64,
    /// Closed for idling.
    pub idle: AtomicU64,
    /// Closed because the peer did not read what it was sent.
    pub stalled: AtomicU64,
    /// Outbound connections that failed.
    pub failed: AtomicU64,
}

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
            let fault = |source| BindError::new("SIP", holder::Protocol::Tcp, *address, source);
            let listener = listen(*address).map_err(fault)?;
            listeners.push((listener.local_addr().map_err(fault)?, listener));
        }
        Ok(Self { listeners })
    }

    /// The bound addresses.
    #[must_use]
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|(bound, _)| *bound).collect()
    }

    /// Starts one accepting task per listener.
    #[must_use]
    pub fn accept(self, shared: &Arc<TcpShared>) -> Vec<JoinHandle<()>> {
        let accept = |(_, listener)| tokio::spawn(accept(listener, Arc::clone(shared)));
        self.listeners.into_iter().map(accept).collect()
    }
}

/// What all connection tasks share.
#[derive(Debug)]
pub struct TcpShared {
    limits: TcpLimits,
    inputs: mpsc::Sender<NetInput>,
    counters: Arc<TcpCounters>,
    next: AtomicU64,
    by_address: Mutex<BTreeMap<IpAddr, usize>>,
}

impl TcpShared {
    /// Shared state that reports to `inputs`.
    #[must_use]
    pub fn new(limits: TcpLimits, inputs: mpsc::Sender<NetInput>) -> Arc<Self> {
        Arc::new(Self {
            limits,
            inputs,
            counters: Arc::default(),
            next: AtomicU64::new(1),
            by_address: Mutex::default(),
        })
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> Arc<TcpCounters> {
        Arc::clone(&self.counters)
    }

    /// A place for one more connection, or `None` when a bound is reached. Only accepted connections count
    /// against an address: how many we open is for us to decide.
    fn admit(self: &Arc<Self>, accepted_from: Option<IpAddr>) -> Option<Place> {
        if self.counters.open.fetch_add(1, Ordering::Relaxed) >= self.limits.connections {
            self.counters.open.fetch_sub(1, Ordering::Relaxed);
            self.counters.refused_total.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        if let Some(address) = accepted_from {
            let mut by_address = self.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            let held = by_address.entry(address).or_default();
            if *held >= self.limits.per_address {
                self.counters.open.fetch_sub(1, Ordering::Relaxed);
                self.counters.refused_address.fetch_add(1, Ordering::Relaxed);
                return None;
            }
            *held += 1;
        }
        Some(Place { shared: Arc::clone(self), address: accepted_from })
    }
}

/// One connection's place among the bounds; leaving gives it back.
struct Place {
    shared: Arc<TcpShared>,
    address: Option<IpAddr>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shared.counters.open.fetch_sub(1, Ordering::Relaxed);
        if let Some(address) = self.address {
            let mut by_address = self.shared.by_address.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(held) = by_address.get_mut(&address) {
                *held -= 1;
                if *held == 0 {
                    by_address.remove(&address);
                }
            }
        }
    }
}

/// A message to be written, and how to name it if that fails.
#[derive(Debug)]
pub struct Outgoing {
    /// The transmission, for a report of failure.
    pub id: TransmitId,
    /// The bytes.
    pub payload: Bytes,
}

/// Signalling's end of one connection.
#[derive(Debug)]
pub struct Connection {
    /// Where messages wait. Dropping it closes the connection after the last of them.
    queue: mpsc::Sender<Outgoing>,
    waiting: Arc<AtomicUsize>,
    proven: Arc<AtomicBool>,
    stalled: Arc<Notify>,
    abort: AbortHandle,
}

/// The connections, as the signalling task holds them.
#[derive(Debug)]
pub struct Connections {
    shared: Arc<TcpShared>,
    open: BTreeMap<u64, (SocketAddr, Connection)>,
    by_remote: BTreeMap<SocketAddr, u64>,
}

impl Connections {
    /// No connection yet.
    #[must_use]
    pub fn new(shared: Arc<TcpShared>) -> Self {
        Self { shared, open: BTreeMap::new(), by_remote: BTreeMap::new() }
    }

    /// Takes over signalling's end of an accepted connection.
    pub fn opened(&mut self, flow: Flow, connection: Connection) {
        self.by_remote.insert(flow.remote, flow.connection);
        self.open.insert(flow.connection, (flow.remote, connection));
    }

    /// Forgets a connection.
    pub fn closed(&mut self, flow: Flow) {
        self.forget(flow.connection);
    }

    /// Sends on an open connection; hands the message back if that is gone or does not keep up.
    ///
    /// # Errors
    /// The message, unsent.
    pub fn send(&mut self, flow: Flow, outgoing: Outgoing) -> Result<(), Outgoing> {
        match self.open.get(&flow.connection) {
            Some((_, connection)) => connection.send(outgoing, &self.shared.counters),
            None => Err(outgoing),
        }
    }

    /// Sends to an address: on an open connection to it if there is one (RFC 3261 section 18.1.1), else on a
    /// new one.
    ///
    /// # Errors
    /// The message, unsent, when a bound is reached.
    pub fn send_to(&mut self, remote: SocketAddr, outgoing: Outgoing) -> Result<(), Outgoing> {
        if let Some((_, connection)) = self.by_remote.get(&remote).and_then(|id| self.open.get(id)) {
            return connection.send(outgoing, &self.shared.counters);
        }
        let Some(place) = self.shared.admit(None) else {
            return Err(outgoing);
        };
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (queue, inbox) = mpsc::channel(WRITE_QUEUE);
        let parts = Parts::default();
        let task = tokio::spawn(dial(place, id, remote, inbox, parts.clone()));
        let connection = parts.connection(queue, task.abort_handle());
        let sent = connection.send(outgoing, &self.shared.counters);
        self.by_remote.insert(remote, id);
        self.open.insert(id, (remote, connection));
        sent
    }

    /// Closes a connection once what waits on it has been written.
    pub fn close(&mut self, flow: Flow) {
        // Dropping the queue's sender ends the writer after the last message.
        self.forget(flow.connection);
    }

    /// Closes everything at once.
    pub fn abort_all(&mut self) {
        for (_, connection) in self.open.values() {
            connection.abort.abort();
        }
        self.open.clear();
        self.by_remote.clear();
    }

    fn forget(&mut self, id: u64) {
        if let Some((remote, _)) = self.open.remove(&id)
            && self.by_remote.get(&remote) == Some(&id)
        {
            self.by_remote.remove(&remote);
        }
    }
}

impl Connection {
    fn send(&self, outgoing: Outgoing, counters: &TcpCounters) -> Result<(), Outgoing> {
        let size = outgoing.payload.len();
        if self.waiting.load(Ordering::Relaxed) + size > WRITE_QUEUE_BYTES {
            counters.stalled.fetch_add(1, Ordering::Relaxed);
            self.stalled.notify_one();
            return Err(outgoing);
        }
        self.waiting.fetch_add(size, Ordering::Relaxed);
        self.proven.store(true, Ordering::Relaxed);
        self.queue.try_send(outgoing).map_err(|refused| {
            self.waiting.fetch_sub(size, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(outgoing) => {
                    counters.stalled.fetch_add(1, Ordering::Relaxed);
                    self.stalled.notify_one();
                    outgoing
                }
                mpsc::error::TrySendError::Closed(outgoing) => outgoing,
            }
        })
    }
}

/// What both ends of a connection look at.
#[derive(Debug, Clone, Default)]
struct Parts {
    waiting: Arc<AtomicUsize>,
    proven: Arc<AtomicBool>,
    /// Told when the peer does not read: the connection ends, and its end is reported as any other.
    stalled: Arc<Notify>,
}

impl Parts {
    fn connection(&self, queue: mpsc::Sender<Outgoing>, abort: AbortHandle) -> Connection {
        let Self { waiting, proven, stalled } = self.clone();
        Connection { queue, waiting, proven, stalled, abort }
    }
}

async fn accept(listener: TcpListener, shared: Arc<TcpShared>) {
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
        let Ok(local) = stream.local_addr() else {
            continue;
        };
        let id = shared.next.fetch_add(1, Ordering::Relaxed);
        let flow = Flow { transport: Transport::Tcp, local, remote, connection: id };
        let (queue, inbox) = mpsc::channel(WRITE_QUEUE);
        let parts = Parts::default();
        let (start, started) = tokio::sync::oneshot::channel::<()>();
        let task = {
            let parts = parts.clone();
            tokio::spawn(async move {
                // Signalling hears of the connection before it hears its first byte.
                if started.await.is_ok() {
                    serve(&place.shared, stream, flow, inbox, &parts).await;
                    let _ = place.shared.inputs.send(NetInput::StreamClosed { flow }).await;
                }
            })
        };
        let connection = parts.connection(queue, task.abort_handle());
        if shared.inputs.send(NetInput::StreamOpened { flow, connection: Some(connection) }).await.is_err() {
            return;
        }
        let _ = start.send(());
    }
}

/// Opens an outbound connection and serves it. The flow's connection number is given; its local address is
/// known once the connection stands.
async fn dial(place: Place, id: u64, remote: SocketAddr, mut inbox: mpsc::Receiver<Outgoing>, parts: Parts) {
    let shared = Arc::clone(&place.shared);
    let connected = timeout(shared.limits.patience, TcpStream::connect(remote)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let wildcard: SocketAddr =
        if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let mut flow = Flow { transport: Transport::Tcp, local: wildcard, remote, connection: id };
    match connected.and_then(|stream| stream.local_addr().map(|local| (stream, local))) {
        Ok((stream, local)) => {
            flow.local = local;
            if shared.inputs.send(NetInput::StreamOpened { flow, connection: None }).await.is_err() {
                return;
            }
            serve(&shared, stream, flow, inbox, &parts).await;
        }
        Err(error) => {
            shared.counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(%remote, %error, "an outbound connection failed");
            inbox.close();
            while let Some(outgoing) = inbox.recv().await {
                let _ = shared.inputs.send(NetInput::TransmitFailed { id: outgoing.id }).await;
            }
        }
    }
    let _ = shared.inputs.send(NetInput::StreamClosed { flow }).await;
}

async fn serve(
    shared: &TcpShared,
    stream: TcpStream,
    flow: Flow,
    inbox: mpsc::Receiver<Outgoing>,
    parts: &Parts,
) {
    // Messages are small and someone waits for each.
    let _ = stream.set_nodelay(true);
    let (reader, writer) = stream.into_split();
    tokio::select! {
        () = read(shared, reader, flow, parts) => {}
        () = write(shared, writer, inbox, parts) => {}
        () = parts.stalled.notified() => {}
    }
}

async fn read(shared: &TcpShared, mut reader: OwnedReadHalf, flow: Flow, parts: &Parts) {
    let opened = tokio::time::Instant::now();
    let mut buffer = BytesMut::new();
    loop {
        let patience = if parts.proven.load(Ordering::Relaxed) {
            shared.limits.idle
        } else {
            let left = shared.limits.unproven.saturating_sub(opened.elapsed());
            // Checked here too: a read that is always ready never runs into its time limit.
            if left.is_zero() {
                shared.counters.unproven.fetch_add(1, Ordering::Relaxed);
                return;
            }
            left
        };
        buffer.reserve(READ_BYTES);
        match timeout(patience, reader.read_buf(&mut buffer)).await {
            Ok(Ok(0) | Err(_)) => return,
            Ok(Ok(_)) => {
                let payload = buffer.split().freeze();
                // Waiting here is TCP's own back-pressure.
                if shared.inputs.send(NetInput::StreamData { flow, payload }).await.is_err() {
                    return;
                }
            }
            Err(_) if parts.proven.load(Ordering::Relaxed) => {
                // Proven while we waited: the idle time starts over.
                if patience >= shared.limits.idle {
                    shared.counters.idle.fetch_add(1, Ordering::Relaxed);
                    return;
                }
            }
            Err(_) => {
                shared.counters.unproven.fetch_add(1, Ordering::Relaxed);
                return;
            }
        }
    }
}

async fn write(
    shared: &TcpShared,
    mut writer: OwnedWriteHalf,
    mut inbox: mpsc::Receiver<Outgoing>,
    parts: &Parts,
) {
    while let Some(outgoing) = inbox.recv().await {
        let written = timeout(shared.limits.patience, writer.write_all(&outgoing.payload)).await;
        parts.waiting.fetch_sub(outgoing.payload.len(), Ordering::Relaxed);
        if matches!(written, Ok(Ok(()))) {
            continue;
        }
        if written.is_err() {
            shared.counters.stalled.fetch_add(1, Ordering::Relaxed);
        }
        inbox.close();
        let mut unsent = Some(outgoing);
        while let Some(outgoing) = unsent {
            let _ = shared.inputs.send(NetInput::TransmitFailed { id: outgoing.id }).await;
            unsent = inbox.recv().await;
        }
        return;
    }
    let _ = writer.shutdown().await;
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the old connections' TIME-WAIT.
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Net {
        address: SocketAddr,
        shared: Arc<TcpShared>,
        inputs: mpsc::Receiver<NetInput>,
    }

    fn net(limits: TcpLimits) -> Net {
        let (sender, inputs) = mpsc::channel(16);
        let shared = TcpShared::new(limits, sender);
        let listeners = TcpListeners::bind(&["127.0.0.1:0".parse().unwrap()]).unwrap();
        let address = listeners.addresses()[0];
        let _tasks = listeners.accept(&shared);
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
