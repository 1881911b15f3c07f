//! An agent's URL, taken apart as far as dialling needs.

use std::net::SocketAddr;

use rustls::pki_types::ServerName;
use url::{Host, Url};

use super::DialError;

/// The parts of a URL that dialling needs.
pub(super) struct Target {
    pub(super) host: String,
    pub(super) port: u16,
    /// The `Host` field: with the port unless it is the scheme's own.
    pub(super) authority: String,
    /// Path and query.
    pub(super) path: String,
    /// User and password, decoded.
    pub(super) credentials: Option<(Vec<u8>, Vec<u8>)>,
    /// Set for `wss`.
    pub(super) tls_name: Option<ServerName<'static>>,
    /// `tcp`: there is nothing to upgrade.
    pub(super) is_bare: bool,
}

impl Target {
    pub(super) fn parse(text: &str) -> Result<Self, DialError> {
        let url = Url::parse(text).map_err(|error| DialError::Url(error.to_string()))?;
        let (secure, is_bare) = match url.scheme() {
            "ws" => (false, false),
            "wss" => (true, false),
            "tcp" => (false, true),
            other => return Err(DialError::Url(format!("the scheme is {other}, not ws or wss"))),
        };
        if is_bare && url.port().is_none() {
            return Err(DialError::Url("a tcp URL has no port of its own; it must name one".to_owned()));
        }
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            None => return Err(DialError::Url("it has no host".to_owned())),
        };
        let default_port = if secure { 443 } else { 80 };
        let shown_host = url.host_str().unwrap_or_default();
        let authority = match url.port() {
            Some(port) => format!("{shown_host}:{port}"),
            None => shown_host.to_owned(),
        };
        let path = match url.query() {
            Some(query) => format!("{}?{query}", url.path()),
            None => url.path().to_owned(),
        };
        let decode = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        let has_credentials = !url.username().is_empty() || url.password().is_some();
        let credentials =
            has_credentials.then(|| (decode(url.username()), decode(url.password().unwrap_or_default())));
        let tls_name = if secure {
            let name = ServerName::try_from(host.clone())
                .map_err(|_| DialError::Url(format!("{host} is no name a certificate could carry")))?;
            Some(name)
        } else {
            None
        };
        let port = url.port().unwrap_or(default_port);
        Ok(Self { port, host, authority, path, credentials, tls_name, is_bare })
    }

    /// An address of this target for a person: with the name it was found by, if that is one.
    pub(super) fn place(&self, address: SocketAddr) -> String {
        if self.host.parse() == Ok(address.ip()) {
            return address.to_string();
        }
        format!("{}:{} ({})", self.host, self.port, address.ip())
    }
}
