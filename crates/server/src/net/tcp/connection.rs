//! One task per connection, and signalling's end of each.
//!
//! Bounded: bytes waiting to be written, the time a new connection may take until it has deserved an answer,
//! idle time, and the time a write may take. Refuses to look into the bytes: framing is the core's.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use rustls::pki_types::ServerName;
use socket2::SockRef;
use tandem_sip::{Flow, TransmitId, Transport};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split},
    net::TcpStream,
    sync::{Notify, mpsc},
    task::AbortHandle,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client, server};

use super::bounds::{Place, TcpCounters, TcpShared};
use crate::signalling::NetInput;

/// How long a peer's system may leave bytes unacknowledged: one keep-alive interval and its answer.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Bytes read at once.
const READ_BYTES: usize = 16 * 1024;
/// Messages waiting to be written on one connection.
pub(super) const WRITE_QUEUE: usize = 256;
/// Bytes waiting to be written on one connection: four of the largest messages.
const WRITE_QUEUE_BYTES: usize = 256 * 1024;

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
    open: BTreeMap<u64, (Peer, Connection)>,
    by_peer: BTreeMap<Peer, u64>,
}

/// Whom a connection leads to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// TCP or TLS.
    pub transport: Transport,
    /// Where it is.
    pub remote: SocketAddr,
    /// The name its certificate was verified against; none for an address, and for who came to us. Who has proved to
    /// be one name is not asked to stand for another at the same address (RFC 5922 7.5).
    pub name: Option<String>,
}

impl Peer {
    const fn of(flow: Flow) -> Self {
        Self { transport: flow.transport, remote: flow.remote, name: None }
    }
}

impl Connections {
    /// No connection yet.
    #[must_use]
    pub fn new(shared: Arc<TcpShared>) -> Self {
        Self { shared, open: BTreeMap::new(), by_peer: BTreeMap::new() }
    }

    /// Takes over signalling's end of an accepted connection.
    pub fn opened(&mut self, flow: Flow, connection: Connection) {
        self.by_peer.insert(Peer::of(flow), flow.connection);
        self.open.insert(flow.connection, (Peer::of(flow), connection));
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

    /// Sends to a peer: on an open connection to it if there is one (RFC 3261 section 18.1.1), else on a new one.
    ///
    /// # Errors
    /// The message, unsent, when a bound is reached.
    pub fn send_to(&mut self, peer: Peer, outgoing: Outgoing) -> Result<(), Outgoing> {
        if let Some(id) = self.leading_to(&peer)
            && let Some((_, connection)) = self.open.get(&id)
        {
            if !connection.queue.is_closed() {
                return connection.send(outgoing, &self.shared.counters);
            }
            // The peer has closed it, and the news of that is still on its way here.
            self.forget(id);
        }
        let Some(place) = self.shared.admit(None) else {
            return Err(outgoing);
        };
        let id = self.shared.next.fetch_add(1, Ordering::Relaxed);
        let (queue, inbox) = mpsc::channel(WRITE_QUEUE);
        let parts = Parts::default();
        let task = tokio::spawn(dial(place, id, peer.clone(), inbox, parts.clone()));
        let connection = parts.connection(queue, task.abort_handle());
        let sent = connection.send(outgoing, &self.shared.counters);
        self.by_peer.insert(peer.clone(), id);
        self.open.insert(id, (peer, connection));
        sent
    }

    /// An open connection to a peer. Where no name is asked for, one that was verified for any name at that address
    /// will do: a dialog goes on by addresses.
    fn leading_to(&self, peer: &Peer) -> Option<u64> {
        if peer.name.is_some() {
            return self.by_peer.get(peer).copied();
        }
        let (known, id) = self.by_peer.range(peer.clone()..).next()?;
        (known.transport == peer.transport && known.remote == peer.remote).then_some(*id)
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
        self.by_peer.clear();
    }

    fn forget(&mut self, id: u64) {
        if let Some((peer, _)) = self.open.remove(&id)
            && self.by_peer.get(&peer) == Some(&id)
        {
            self.by_peer.remove(&peer);
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
pub(super) struct Parts {
    waiting: Arc<AtomicUsize>,
    proven: Arc<AtomicBool>,
    /// Told when the peer does not read: the connection ends, and its end is reported as any other.
    stalled: Arc<Notify>,
}

impl Parts {
    pub(super) fn connection(&self, queue: mpsc::Sender<Outgoing>, abort: AbortHandle) -> Connection {
        let Self { waiting, proven, stalled } = self.clone();
        Connection { queue, waiting, proven, stalled, abort }
    }
}

/// Opens an outbound connection and serves it. The flow's connection number is given; its local address is
/// known once the connection stands.
async fn dial(place: Place, id: u64, peer: Peer, mut inbox: mpsc::Receiver<Outgoing>, parts: Parts) {
    let shared = Arc::clone(&place.shared);
    let Peer { transport, remote, .. } = peer;
    let connected = timeout(shared.limits.patience, connect(&shared.tls, &peer)).await;
    let connected = connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let wildcard: SocketAddr =
        if remote.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let mut flow = Flow { transport, local: wildcard, remote, connection: id };
    match connected {
        Ok((stream, local)) => {
            flow.local = local;
            if shared.inputs.send(NetInput::StreamOpened { flow, connection: None }).await.is_err() {
                return;
            }
            serve(&shared, stream, flow, inbox, &parts).await;
        }
        Err(error) => {
            shared.counters.failed.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(%remote, name = peer.name, %error, "a connection to a gateway failed");
            inbox.close();
            while let Some(outgoing) = inbox.recv().await {
                let _ = shared.inputs.send(NetInput::TransmitFailed { id: outgoing.id }).await;
            }
        }
    }
    let _ = shared.inputs.send(NetInput::StreamClosed { flow }).await;
}

async fn connect(tls: &TlsConnector, peer: &Peer) -> io::Result<(Stream, SocketAddr)> {
    let stream = TcpStream::connect(peer.remote).await?;
    bound_silence(&stream);
    let local = stream.local_addr()?;
    // Messages are small and someone waits for each.
    let _ = stream.set_nodelay(true);
    if peer.transport != Transport::Tls {
        return Ok((Stream::Plain(stream), local));
    }
    let name = match &peer.name {
        Some(name) => ServerName::try_from(name.clone()).map_err(|_| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is no server's name"))
        })?,
        None => ServerName::IpAddress(peer.remote.ip().into()),
    };
    let stream = tls.connect(name, stream).await?;
    Ok((Stream::Opened(Box::new(stream)), local))
}

/// Has the system close a connection whose peer acknowledges nothing of what it was sent: one that went away without a word
/// is then seen by the next keep-alive, whether or not it used to answer these.
pub(super) fn bound_silence(stream: &TcpStream) {
    // Where the system cannot do that, its own patience of a quarter of an hour holds.
    let _ = SockRef::from(stream).set_tcp_user_timeout(Some(UNACKNOWLEDGED));
}

/// A connection that stands.
pub(super) enum Stream {
    /// Without TLS.
    Plain(TcpStream),
    /// With TLS, opened by the peer.
    Accepted(Box<server::TlsStream<TcpStream>>),
    /// With TLS, opened by us.
    Opened(Box<client::TlsStream<TcpStream>>),
}

pub(super) async fn serve(
    shared: &TcpShared,
    stream: Stream,
    flow: Flow,
    inbox: mpsc::Receiver<Outgoing>,
    parts: &Parts,
) {
    match stream {
        Stream::Plain(stream) => exchange(shared, stream.into_split(), flow, inbox, parts).await,
        Stream::Accepted(stream) => exchange(shared, split(stream), flow, inbox, parts).await,
        Stream::Opened(stream) => exchange(shared, split(stream), flow, inbox, parts).await,
    }
}

async fn exchange<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
    shared: &TcpShared,
    (reader, writer): (R, W),
    flow: Flow,
    inbox: mpsc::Receiver<Outgoing>,
    parts: &Parts,
) {
    tokio::select! {
        () = read(shared, reader, flow, parts) => {}
        () = write(shared, writer, inbox, parts) => {}
        () = parts.stalled.notified() => {}
    }
}

async fn read<R: AsyncRead + Unpin>(shared: &TcpShared, mut reader: R, flow: Flow, parts: &Parts) {
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

async fn write<W: AsyncWrite + Unpin>(
    shared: &TcpShared,
    mut writer: W,
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
