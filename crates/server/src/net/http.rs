//! The HTTP listener: who may connect, and how long a client may take, before the API sees anything of it.
//!
//! Bounded: connections in all, those of one address that have not sent a whole request yet, the time and the
//! size of a request's header section, the time from there to the answer, and the time in which no byte moves
//! in either direction. What breaks a bound is closed and counted. Refuses to know a path: that is the API's.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, Request, Response, StatusCode, header::CONNECTION},
    response::IntoResponse,
};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, sleep_until, timeout},
};
use tower_service::Service;

use crate::api::ApiError;

/// Bytes of a request's header section; a bearer token and a browser's cookies fit many times over.
const HEAD_BYTES: usize = 64 * 1024;
/// Header fields of a request.
const HEAD_FIELDS: usize = 100;
/// The share of all connections that one address may hold without having sent a whole request: a quarter.
const UNPROVEN_SHARE: usize = 4;
/// How long accepting pauses when the system is out of descriptors.
const PAUSE: Duration = Duration::from_millis(20);

/// Where a connection comes from: an extension of each of its requests.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub IpAddr);

/// The bounds on clients.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once.
    pub connections: usize,
    /// Time for a request's header section, from the connection or the answer before it.
    pub header: Duration,
    /// Time from there until the answer begins, the request's body included.
    pub request: Duration,
    /// Time in which no byte moves in either direction.
    pub idle: Duration,
}

/// Serves `router` until `stop` resolves; requests under way are finished.
///
/// # Errors
/// When the listener has no address any more.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: HttpLimits,
    stop: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    listener.local_addr()?;
    let shared = Arc::new(Shared {
        limits,
        places: Arc::new(Semaphore::new(limits.connections)),
        unproven: Mutex::default(),
    });
    let graceful = GracefulShutdown::new();
    tokio::pin!(stop);
    loop {
        let accepted = tokio::select! {
            () = &mut stop => break,
            accepted = listener.accept() => accepted,
        };
        let (stream, remote) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::debug!(%error, "an API connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        if let Some(place) = shared.admit(remote) {
            let peer = Peer(remote.ip());
            tokio::spawn(converse(place, peer, stream, router.clone(), graceful.watcher()));
        }
    }
    drop(listener);
    graceful.shutdown().await;
    Ok(())
}

/// What all connections share.
struct Shared {
    limits: HttpLimits,
    places: Arc<Semaphore>,
    unproven: Mutex<BTreeMap<IpAddr, usize>>,
}

impl Shared {
    /// A place for a connection; `None` closes it.
    fn admit(self: &Arc<Self>, remote: SocketAddr) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() else {
            refused("connections");
            return None;
        };
        let address = remote.ip().to_canonical();
        let mut unproven = self.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        let held = unproven.entry(address).or_default();
        if *held >= (self.limits.connections / UNPROVEN_SHARE).max(1) {
            refused("address");
            return None;
        }
        *held += 1;
        drop(unproven);
        let probation = Probation { shared: Arc::clone(self), address };
        Some(Place { _permit: permit, limits: self.limits, probation: Mutex::new(Some(probation)) })
    }
}

/// One connection's place among the bounds; leaving gives it back.
struct Place {
    _permit: OwnedSemaphorePermit,
    limits: HttpLimits,
    /// Until the first whole request.
    probation: Mutex<Option<Probation>>,
}

impl Place {
    fn prove(&self) {
        drop(self.probation.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}

/// A connection that has sent no whole request yet, on its address's account.
struct Probation {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Drop for Probation {
    fn drop(&mut self) {
        let mut unproven = self.shared.unproven.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = unproven.get_mut(&self.address) {
            *held -= 1;
            if *held == 0 {
                unproven.remove(&self.address);
            }
        }
    }
}

async fn converse(place: Place, peer: Peer, stream: TcpStream, router: Router, watcher: Watcher) {
    // Answers are small and someone waits for each.
    let _ = stream.set_nodelay(true);
    let limits = place.limits;
    let place = Arc::new(place);
    let progress = Arc::new(Progress { since: Instant::now(), millis: AtomicU64::new(0) });
    let watched = Watched { stream, progress: Arc::clone(&progress) };
    let answering = service_fn(move |request| answer(Arc::clone(&place), peer, router.clone(), request));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEAD_BYTES)
        .max_headers(HEAD_FIELDS)
        .serve_connection(TokioIo::new(watched), answering);
    let outcome = tokio::select! {
        outcome = watcher.watch(connection) => outcome,
        () = progress.stalled(limits.idle) => return refused("idle"),
    };
    if let Err(error) = outcome {
        refused(if error.is_timeout() {
            "slow_header"
        } else if error.is_parse_too_large() {
            "header_size"
        } else if error.is_parse() {
            "malformed"
        } else {
            "broken_off"
        });
    }
}

async fn answer(
    place: Arc<Place>,
    peer: Peer,
    mut router: Router,
    mut request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    request.extensions_mut().insert(peer);
    place.prove();
    let limit = place.limits.request;
    if let Ok(answered) = timeout(limit, Service::call(&mut router, request.map(Body::new))).await {
        return answered;
    }
    refused("slow_request");
    let text = format!("The request took longer than {} s", limit.as_secs());
    let mut late = ApiError::new(StatusCode::REQUEST_TIMEOUT, text).into_response();
    // The rest of the body may still be on its way; nobody will read it.
    late.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    Ok(late)
}

fn refused(reason: &'static str) {
    metrics::counter!("tandem_api_connections_refused_total", "reason" => reason).increment(1);
}

/// When bytes last moved.
struct Progress {
    since: Instant,
    millis: AtomicU64,
}

impl Progress {
    fn note(&self) {
        let millis = u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    /// Resolves once nothing has moved for so long.
    async fn stalled(&self, idle: Duration) {
        loop {
            let until = self.since + Duration::from_millis(self.millis.load(Ordering::Relaxed)) + idle;
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }
}

/// A stream that notes its progress.
struct Watched {
    stream: TcpStream,
    progress: Arc<Progress>,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.progress.note();
        }
        polled
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if polled.is_ready() {
            self.progress.note();
        }
        polled
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        if polled.is_ready() {
            self.progress.note();
        }
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const LIMITS: HttpLimits = HttpLimits {
        connections: 8,
        header: Duration::from_millis(300),
        request: Duration::from_millis(600),
        idle: Duration::from_secs(2),
    };

    async fn listen(limits: HttpLimits) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let router = Router::new()
            .route("/", get(|| std::future::ready("ok")))
            .route("/large", get(|| std::future::ready(vec![b'x'; 64 << 20])))
            .route("/body", post(|body: bytes::Bytes| async move { body.len().to_string() }));
        tokio::spawn(serve(listener, router, limits, std::future::pending()));
        address
    }

    /// Sends, and returns all that comes until the server closes.
    async fn closed_after(address: SocketAddr, text: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        // The server may close before it has taken everything.
        let _ = stream.write_all(text).await;
        let mut answer = Vec::new();
        let read = timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
        let _ = read.expect("the server closes");
        String::from_utf8_lossy(&answer).into_owned()
    }

    async fn is_served(address: SocketAddr) -> bool {
        let text = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        closed_after(address, text).await.starts_with("HTTP/1.1 200")
    }

    #[tokio::test]
    async fn a_header_that_does_not_end_is_not_waited_for() {
        let address = listen(LIMITS).await;
        let began = Instant::now();
        closed_after(address, b"GET / HTTP/1.1\r\nHost: a\r\nX-Slow: ").await;
        assert!(began.elapsed() >= LIMITS.header, "{:?}", began.elapsed());
        // Dribbling does not extend it.
        let mut stream = TcpStream::connect(address).await.unwrap();
        let began = Instant::now();
        while stream.write_all(b"G").await.is_ok() && began.elapsed() < Duration::from_secs(10) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn slow_connections_of_one_address_leave_room_for_others() {
        let address = listen(HttpLimits { header: Duration::from_secs(30), ..LIMITS }).await;
        let mut slow = Vec::new();
        for _ in 0..LIMITS.connections {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
            slow.push(stream);
        }
        // A quarter is held; the rest was closed at once.
        let mut closed = 0;
        for stream in &mut slow {
            let read = timeout(Duration::from_millis(300), stream.read(&mut [0])).await;
            closed += usize::from(matches!(read, Ok(Ok(0) | Err(_))));
        }
        assert_eq!(closed, LIMITS.connections * 3 / 4);
        // Another address is served, and this one is again when the first connection is gone.
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut other = socket.connect(address).await.unwrap();
        other.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        other.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        drop(slow);
        while !is_served(address).await {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn giant_and_countless_headers_are_refused() {
        let address = listen(LIMITS).await;
        let giant = [b"GET / HTTP/1.1\r\nX: ".as_slice(), &vec![b'x'; 1 << 20]].concat();
        let many = [b"GET / HTTP/1.1\r\n".as_slice(), &b"X: y\r\n".repeat(20_000)].concat();
        let endless = vec![b'G'; 8 << 20];
        for text in [giant, many, endless] {
            let answer = closed_after(address, &text).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        }
        assert!(is_served(address).await);
    }

    #[tokio::test]
    async fn impossible_lengths_are_refused() {
        let address = listen(LIMITS).await;
        for length in ["1000000000000", "-1", "5\r\nContent-Length: 6", "0x10"] {
            let text = format!("POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\nhello");
            let answer = closed_after(address, text.as_bytes()).await;
            assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{length}: {answer}");
        }
    }

    #[tokio::test]
    async fn a_body_that_does_not_come_ends_in_408() {
        let address = listen(LIMITS).await;
        let text = b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhello";
        let answer = closed_after(address, text).await;
        assert!(answer.starts_with("HTTP/1.1 408"), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }

    #[tokio::test]
    async fn a_client_that_never_reads_is_let_go() {
        let address = listen(LIMITS).await;
        let mut deaf = TcpStream::connect(address).await.unwrap();
        deaf.write_all(b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        tokio::time::sleep(LIMITS.idle * 2).await;
        // What the kernel held may still be read, then the connection ends, far from whole.
        let mut heard = Vec::new();
        let _ = timeout(Duration::from_secs(10), deaf.read_to_end(&mut heard)).await.expect("it is closed");
        assert!(heard.len() < 64 << 20, "{} bytes were kept for it", heard.len());
    }
}
