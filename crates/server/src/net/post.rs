//! Sends one POST to a URL that a tenant wrote: name, fence, TCP, TLS, HTTP/1.1, within a bound on time; and other
//! requests, whose answers are read as they come, for parts that speak to servers of the operator's.
//!
//! Refuses redirections (they are the receiver's answer, and not followed), addresses that policy forbids, and to
//! read more than a little of an answer. Each request has a connection of its own: receivers are many and seldom.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::body::{Body, to_bytes};
use axum::http::{HeaderName, HeaderValue, Request, Response, header};
use bytes::Bytes;
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use url::{Host, Url};

use super::{fence::Fence, resolve};

/// Most of an answer's body that is read; it is thrown away.
const ANSWER_BYTES: usize = 64 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The URL cannot be used as written.
    #[error("the URL is not usable: {0}")]
    Url(String),
    /// The name has no address.
    #[error("the host {host} cannot be resolved: {source}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        source: io::Error,
    },
    /// Policy forbids each of its addresses.
    #[error("the address {0} is in a network that policy forbids")]
    Fenced(SocketAddr),
    /// No address accepted a connection.
    #[error("{address} cannot be connected: {source}")]
    Connect {
        /// The last address tried.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// TLS failed.
    #[error("TLS with {address} failed: {source}")]
    Tls {
        /// The address.
        address: SocketAddr,
        /// What rustls said.
        source: io::Error,
    },
    /// The receiver does not speak HTTP, or hung up.
    #[error("no HTTP answer came: {0}")]
    Http(hyper::Error),
    /// Time ran out.
    #[error("no answer came within {} s", .0.as_secs())]
    Timeout(Duration),
}

/// Sends POSTs.
#[derive(Clone, Debug)]
pub struct Poster {
    tls: Arc<rustls::ClientConfig>,
    fence: Fence,
    within: Duration,
}

/// A URL that a POST can be sent to, taken apart.
#[derive(Debug)]
pub struct PostTarget {
    host: String,
    port: u16,
    authority: String,
    path: String,
    is_tls: bool,
}

impl PostTarget {
    /// Reads a URL.
    ///
    /// # Errors
    /// What is wrong with it, and what would do.
    pub fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text)
            .map_err(|error| format!("{error}; give one such as https://host.example/path"))?;
        let is_tls = match url.scheme() {
            "https" => true,
            "http" => false,
            other => return Err(format!("its scheme is {other}; give an https or http URL")),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it holds a user or password; leave them out".to_owned());
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err("it has no host".to_owned()),
        };
        let shown = url.host_str().unwrap_or_default();
        let authority = url.port().map_or_else(|| shown.to_owned(), |port| format!("{shown}:{port}"));
        let path =
            url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
        let port = url.port().unwrap_or(if is_tls { 443 } else { 80 });
        Ok(Self { host, port, authority, path, is_tls })
    }
}

impl PostTarget {
    /// Path and query.
    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The address, where the URL writes one out instead of a name.
    pub fn address(&self) -> Option<std::net::IpAddr> {
        self.host.parse().ok()
    }
}

impl Poster {
    /// Sends through `fence`, each request within `within`.
    #[must_use]
    pub fn new(tls: Arc<rustls::ClientConfig>, fence: Fence, within: Duration) -> Self {
        Self { tls, fence, within }
    }

    /// The same without a fence: for servers that the operator names, not a tenant.
    #[must_use]
    pub(crate) fn unfenced(self) -> Self {
        Self { fence: Fence::default(), ..self }
    }

    /// Sends a JSON body, and returns the answer's status.
    ///
    /// # Errors
    /// [`PostError`], whose text names the cause for the receiver's owner.
    pub async fn post(
        &self,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<u16, PostError> {
        let sending = self.post_unbounded(url, headers, body);
        tokio::time::timeout(self.within, sending).await.unwrap_or(Err(PostError::Timeout(self.within)))
    }

    async fn post_unbounded(
        &self,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<u16, PostError> {
        let target = PostTarget::parse(url).map_err(PostError::Url)?;
        let mut request = Request::post(target.path.as_str())
            .header(header::HOST, target.authority.as_str())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .body(Body::from(body))
            .map_err(|error| PostError::Url(error.to_string()))?;
        request.headers_mut().extend(headers.iter().cloned());
        match self.open(&target).await? {
            Wire::Plain(stream) => exchange(stream, request).await,
            Wire::Tls(stream) => exchange(*stream, request).await,
        }
    }

    /// Fetches a URL: the answer's status and body. A body longer than what is read of one, or cut short, is an empty one.
    ///
    /// # Errors
    /// [`PostError`], whose text names the cause for the URL's owner.
    pub async fn get(
        &self,
        url: &str,
        headers: &[(HeaderName, HeaderValue)],
    ) -> Result<(u16, Bytes), PostError> {
        let target = PostTarget::parse(url).map_err(PostError::Url)?;
        let mut request = Request::get(target.path.as_str())
            .header(header::ACCEPT, "application/json")
            .header(header::CONNECTION, "close")
            .header(header::USER_AGENT, concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .body(Body::empty())
            .map_err(|error| PostError::Url(error.to_string()))?;
        request.headers_mut().extend(headers.iter().cloned());
        let asking = async {
            let answer = self.ask(&target, request).await?;
            let status = answer.status().as_u16();
            Ok((status, to_bytes(answer.into_body(), ANSWER_BYTES).await.unwrap_or_default()))
        };
        tokio::time::timeout(self.within, asking).await.unwrap_or(Err(PostError::Timeout(self.within)))
    }

    /// Sends a request of any kind, to an address as the fence permits it, and returns the answer with a body that is still
    /// to be read. Only connecting is bounded in time.
    ///
    /// # Errors
    /// [`PostError`].
    pub(crate) async fn ask(
        &self,
        target: &PostTarget,
        mut request: Request<Body>,
    ) -> Result<Response<Body>, PostError> {
        let host =
            HeaderValue::from_str(&target.authority).map_err(|error| PostError::Url(error.to_string()))?;
        request.headers_mut().insert(header::HOST, host);
        let opening = self.open(target);
        let wire = tokio::time::timeout(self.within, opening)
            .await
            .unwrap_or(Err(PostError::Timeout(self.within)))?;
        match wire {
            Wire::Plain(stream) => answer_of(stream, request).await,
            Wire::Tls(stream) => answer_of(*stream, request).await,
        }
    }

    async fn open(&self, target: &PostTarget) -> Result<Wire, PostError> {
        let (stream, address) = self.connect(target).await?;
        if !target.is_tls {
            return Ok(Wire::Plain(stream));
        }
        let name = ServerName::try_from(target.host.clone())
            .map_err(|_| PostError::Url(format!("{} is no name a certificate could carry", target.host)))?;
        let stream = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await
            .map_err(|source| PostError::Tls { address, source })?;
        Ok(Wire::Tls(Box::new(stream)))
    }

    /// The fence is asked about the resolved address, so a name that resolves differently later gains nothing.
    async fn connect(&self, target: &PostTarget) -> Result<(TcpStream, SocketAddr), PostError> {
        let addresses = resolve::lookup(&target.host, target.port, self.within)
            .await
            .map_err(|source| PostError::Resolve { host: target.host.clone(), source })?;
        let mut failure = None;
        for address in addresses {
            if !self.fence.permits(address.ip()) {
                failure = Some(PostError::Fenced(address));
                continue;
            }
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok((stream, address)),
                Err(source) => failure = Some(PostError::Connect { address, source }),
            }
        }
        Err(failure.expect("a look-up without addresses is an error already"))
    }
}

/// A connection that HTTP is spoken over.
enum Wire {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Says the request and hears the answer's beginning; the rest comes as its body is read.
async fn answer_of<S>(stream: S, request: Request<Body>) -> Result<Response<Body>, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(PostError::Http)?;
    // It ends with the answer's body, or when that is dropped.
    tokio::spawn(connection);
    Ok(sender.send_request(request).await.map_err(PostError::Http)?.map(Body::new))
}

/// Says the request, hears the answer.
async fn exchange<S>(stream: S, request: Request<Body>) -> Result<u16, PostError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = handshake(TokioIo::new(stream)).await.map_err(PostError::Http)?;
    let answering = async move {
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        // What the receiver says besides is its own business; that it cannot be read is no matter.
        drop(to_bytes(Body::new(response.into_body()), ANSWER_BYTES).await);
        Ok(status)
    };
    tokio::pin!(connection);
    tokio::pin!(answering);
    let mut is_open = true;
    loop {
        tokio::select! {
            outcome = &mut answering => return outcome.map_err(PostError::Http),
            // It ends with the answer, or before it, and then `answering` says why.
            _ = &mut connection, if is_open => is_open = false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_will_not_do_is_told_why() {
        let target = PostTarget::parse("https://host.example:8443/a?b=c").unwrap();
        assert_eq!(
            (target.host.as_str(), target.port, target.authority.as_str(), target.path.as_str()),
            ("host.example", 8443, "host.example:8443", "/a?b=c")
        );
        for (url, part) in [
            ("ftp://host/", "scheme is ftp"),
            ("host/path", "https://host.example/path"),
            ("https://user:pass@host/", "user or password"),
        ] {
            assert!(PostTarget::parse(url).unwrap_err().contains(part), "{url}");
        }
    }

    #[tokio::test]
    async fn the_fence_is_asked_before_a_connection_is_made() {
        let tls = crate::net::ws_connect::verifying_tls(&[]).unwrap().0;
        let fence = Fence { deny_private: true, ..Fence::default() };
        let poster = Poster::new(tls, fence, Duration::from_secs(1));
        let error = poster.post("http://127.0.0.1:9/", &[], Bytes::new()).await.unwrap_err();
        assert!(matches!(error, PostError::Fenced(_)), "{error}");
    }
}
