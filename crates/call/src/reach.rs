//! Where a caller is reached, and from where it is believed.
//!
//! What it refuses to do: trust a Contact over what the network shows. RFC 3261 section 12.2, RFC 3581, RFC 1918.

use std::net::{IpAddr, SocketAddr};

use tandem_sip::{HeaderName, Network, Reach, Request, ResponseRouting, SessionPolicy};

use crate::table::Trunk;

/// Whom the session of an INVITE trusts, and where its messages go.
pub(crate) fn session_policy(invite: &Request, source: SocketAddr, trunk: &Trunk) -> SessionPolicy {
    SessionPolicy {
        trusted: trunk
            .sources
            .iter()
            .map(|range| Network { address: range.addr(), prefix: range.prefix_len() })
            .collect(),
        routing: if trunk.force_rport { ResponseRouting::Symmetric } else { ResponseRouting::AsAsked },
        reach: reach(invite, source, trunk),
        ..SessionPolicy::default()
    }
}

/// Where requests of ours go: a Contact that names a private address while the INVITE came from a public one cannot be
/// reached, unless a proxy on the way recorded itself.
fn reach(invite: &Request, source: SocketAddr, trunk: &Trunk) -> Reach {
    let is_recorded = invite.header(HeaderName::RecordRoute).is_some();
    let contact = invite.contact().and_then(|contact| contact.uri().ip());
    match contact {
        Some(contact)
            if trunk.force_rport && !is_recorded && is_private(contact) && !is_private(source.ip()) =>
        {
            Reach::Source
        }
        Some(_) | None => Reach::Signalled,
    }
}

/// RFC 1918, RFC 6598 section 7 (100.64.0.0/10), RFC 4193, loopback, link-local and the unspecified address.
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let [first, second, ..] = address.octets();
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || (first == 100 && second & 0xC0 == 64)
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unspecified()
                || address.is_unique_local()
                || address.is_unicast_link_local()
        }
    }
}

/// One address as a network.
pub(crate) fn host(address: IpAddr) -> (IpAddr, u8) {
    match address.to_canonical() {
        IpAddr::V4(address) => (IpAddr::V4(address), 32),
        IpAddr::V6(address) => (IpAddr::V6(address), 128),
    }
}
