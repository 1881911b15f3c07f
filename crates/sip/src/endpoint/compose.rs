//! The parts of our own messages: Via, Contact, what we allow and support, bodies found and counted.
//!
//! RFC 3261 8.1.1, 20.5, 20.37; RFC 3581 3.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::config::EndpointConfig;
use crate::flow::Transport;
use crate::message::{HeaderName, Request, RequestBuilder, ResponseBuilder, Scheme};

/// The methods we take, as `Allow` lists them.
pub(super) const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO";

/// The same in a dialog whose peer may refer us elsewhere.
const ALLOW_REFER: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, NOTIFY";

/// The methods taken in a dialog, by its policy.
pub(super) const fn allow(takes_refer: bool) -> &'static str {
    if takes_refer { ALLOW_REFER } else { ALLOW }
}

/// The extensions we support.
pub(super) const SUPPORTED: &str = "100rel, timer";

/// What we understand when a request requires it. Whether a dialog may be replaced is the engine's policy, so we do not
/// offer it of ourselves.
pub(super) const UNDERSTOOD: &str = "100rel, timer, replaces";

/// The bodies we take.
pub(super) const ACCEPT: &str = "application/sdp";

/// The media type of a session description.
pub(super) const SDP: &str = "application/sdp";

/// The host and port a peer finds us at: the public address towards the outside, the flow's own address
/// towards loopback and private networks, which could not reach the public one.
pub(super) fn advertised(config: &EndpointConfig, local: SocketAddr, remote: Option<IpAddr>) -> SocketAddr {
    let inside = |address: IpAddr| match address.to_canonical() {
        IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
    };
    let ip = match config.public_address {
        Some(public) if !local.ip().is_loopback() && !remote.is_some_and(inside) => public,
        Some(_) | None => local.ip(),
    };
    SocketAddr::new(ip.to_canonical(), local.port())
}

/// The value of a Via of ours. RFC 3581 3: the client asks by an rport parameter without a value.
pub(super) fn via(transport: Transport, sent_by: SocketAddr, branch: &[u8]) -> Vec<u8> {
    let mut via = format!("SIP/2.0/{} {sent_by};rport;branch=", transport.via_name()).into_bytes();
    via.extend_from_slice(branch);
    via
}

/// The value of our Contact. RFC 3261 12.1.1: "If the request that initiated the dialog contained a SIPS
/// URI in the Request-URI or in the top Record-Route header field value, if there was any, or the Contact
/// header field if there was no Record-Route header field, the Contact header field in the response
/// MUST be a SIPS URI."
pub(super) fn contact(user: &str, transport: Transport, address: SocketAddr, security: Security) -> Bytes {
    let parameter = match (security, transport) {
        (Security::Sips, _) | (Security::Plain, Transport::Udp) => "",
        (Security::Plain, Transport::Tcp) => ";transport=tcp",
        (Security::Plain, Transport::Tls) => ";transport=tls",
    };
    let scheme = match security {
        Security::Sips => "sips",
        Security::Plain => "sip",
    };
    Bytes::from(format!("<{scheme}:{user}@{address}{parameter}>"))
}

/// Whether a dialog was asked for with SIPS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Security {
    Plain,
    Sips,
}

impl Security {
    /// What the request that makes the dialog asks for.
    pub(super) fn asked_by(request: &Request) -> Self {
        let is_sips = |uri: &crate::message::Uri<'_>| uri.scheme() == Scheme::Sips;
        let route = request.headers(HeaderName::RecordRoute).next();
        let beside = match route.and_then(crate::message::NameAddr::parse) {
            Some(route) => is_sips(&route.uri()),
            None => request.contact().is_some_and(|contact| is_sips(&contact.uri())),
        };
        if is_sips(&request.uri()) || beside { Self::Sips } else { Self::Plain }
    }
}

/// Headers the caller of the endpoint gave, name and value.
pub(super) fn with_headers(mut builder: ResponseBuilder, headers: &[(Bytes, Bytes)]) -> ResponseBuilder {
    for (name, value) in headers {
        builder = builder.header_named(name, value);
    }
    builder
}

/// The same for a request.
pub(super) fn with_request_headers(
    mut builder: RequestBuilder,
    headers: &[(Bytes, Bytes)],
) -> RequestBuilder {
    for (name, value) in headers {
        builder = builder.header_named(name, value);
    }
    builder
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(public: Option<&str>) -> EndpointConfig {
        EndpointConfig { public_address: public.map(|ip| ip.parse().unwrap()), ..Default::default() }
    }

    #[test]
    fn the_public_address_is_told_to_the_outside_alone() {
        let local: SocketAddr = "10.0.0.5:5060".parse().unwrap();
        let told = |public, remote: &str| {
            advertised(&config(public), local, Some(remote.parse().unwrap())).to_string()
        };
        assert_eq!(told(Some("203.0.113.1"), "198.51.100.7"), "203.0.113.1:5060");
        assert_eq!(told(Some("203.0.113.1"), "10.0.0.9"), "10.0.0.5:5060");
        assert_eq!(told(None, "198.51.100.7"), "10.0.0.5:5060");
    }

    #[test]
    fn contacts_name_the_transport_and_bracket_ipv6() {
        let address = "[2001:db8::1]:5061".parse().unwrap();
        let plain = contact("tandem", Transport::Tcp, address, Security::Plain);
        assert_eq!(plain, "<sip:tandem@[2001:db8::1]:5061;transport=tcp>");
        let sips = contact("tandem", Transport::Tls, address, Security::Sips);
        assert_eq!(sips, "<sips:tandem@[2001:db8::1]:5061>");
    }
}
