//! The gateways of an outbound call: in which order they are tried, where each of them is, and what came of it.
//!
//! What it refuses to do: resolve names (the shell does), or judge a failure (`failover` does). RFC 3263 section 4.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use rand_chacha::ChaCha12Rng;
use rand_core::Rng;
use serde::{Deserialize, Serialize};
use tandem_sip::Transport;

use crate::location::Wanted;
use crate::table::{Gateway, Trunk};

/// Attempts of one call at most, all addresses of all gateways counted: a name with many addresses behind many gateways
/// must not keep a call busy for an hour.
pub(crate) const MAX_ATTEMPTS: usize = 16;

/// A place where a call is tried: a gateway, or where one redirected it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hop {
    pub(crate) gateway: Gateway,
    /// What a redirect gave.
    pub(crate) redirected_to: Option<RedirectedTo>,
}

impl Hop {
    /// The host that the call was for before any redirect.
    pub(crate) fn first_host(&self) -> &str {
        self.redirected_to.as_ref().map_or(&self.gateway.address, |redirected| &redirected.first_host)
    }
}

/// Where a redirect leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RedirectedTo {
    /// The Request-URI that it gave.
    pub(crate) uri: Bytes,
    /// The host that the call was for before any redirect: To stays what it was (RFC 3261 section 8.1.3.4).
    pub(crate) first_host: String,
}

/// One way to a gateway: an address it has, and ours as it sees us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Way {
    /// The transport to speak.
    pub transport: Transport,
    /// Our address on that way, for Via and Contact.
    pub local: SocketAddr,
    /// The gateway's.
    pub remote: SocketAddr,
}

/// What came of trying a gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatewayAttempt {
    /// The gateway as the trunk has it.
    pub gateway: String,
    /// Its port.
    pub port: u16,
    /// `udp`, `tcp` or `tls`.
    pub transport: String,
    /// The address the INVITE went to; none if it never went.
    pub address: Option<SocketAddr>,
    /// When it was begun, in milliseconds since 1970 UTC.
    pub started_unix_ms: u64,
    /// When it was over; none while it goes on, and for the one that was answered.
    pub ended_unix_ms: Option<u64>,
    /// The final SIP status, if one came.
    pub sip_status: Option<u16>,
    /// What came of it, in words meant for the tenant; empty while it goes on.
    pub cause: String,
}

/// What is to be looked up of a gateway.
pub(crate) fn wanted(trunk: &Trunk, gateway: &Gateway) -> Wanted {
    let is_by_dns = trunk.outbound.transport_by_dns && gateway.port.is_none();
    let transport = gateway.transport.or((!is_by_dns).then_some(trunk.transport));
    Wanted { transport, host: gateway.address.clone(), port: gateway.port }
}

/// The word for a transport in records.
pub(crate) const fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Udp => "udp",
        Transport::Tcp => "tcp",
        Transport::Tls => "tls",
    }
}

/// The parameter of a URI that names a transport; UDP goes without saying.
pub(crate) fn transport_parameter(transport: Transport) -> String {
    match transport {
        Transport::Udp => String::new(),
        Transport::Tcp | Transport::Tls => format!(";transport={}", transport_word(transport)),
    }
}

/// The gateways in the order in which they are tried: ascending priority, ties in the list's order; where weights differ
/// among equals, each place is drawn by weight (RFC 2782: "Larger weights SHOULD be given a proportionately higher
/// probability of being selected").
pub(crate) fn in_order(trunk: &Trunk, random: &mut ChaCha12Rng) -> Vec<Gateway> {
    let mut gateways = trunk.gateways.clone();
    gateways.sort_by_key(|gateway| gateway.priority);
    let mut ordered = Vec::with_capacity(gateways.len());
    let mut rest = gateways.into_iter().peekable();
    while let Some(first) = rest.next() {
        let mut equals = vec![first];
        while let Some(next) = rest.next_if(|next| next.priority == equals[0].priority) {
            equals.push(next);
        }
        if equals.iter().all(|gateway| gateway.weight == equals[0].weight) {
            ordered.extend(equals);
            continue;
        }
        while !equals.is_empty() {
            let index = drawn(&equals, random);
            ordered.push(equals.remove(index));
        }
    }
    ordered
}

/// One of these, by weight.
fn drawn(gateways: &[Gateway], random: &mut ChaCha12Rng) -> usize {
    let total: u64 = gateways.iter().map(|gateway| u64::from(gateway.weight)).sum();
    let mut place = random.next_u64() % total.max(1);
    for (index, gateway) in gateways.iter().enumerate() {
        match place.checked_sub(u64::from(gateway.weight)) {
            Some(left) => place = left,
            None => return index,
        }
    }
    0
}

/// A gateway's host as it stands in a URI: IPv6 in brackets.
pub(crate) fn uri_host(address: &str) -> String {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    match bare.parse::<IpAddr>() {
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        Ok(IpAddr::V4(_)) | Err(_) => bare.to_owned(),
    }
}

/// What a gateway has to prove over TLS: its name, unless it is known by its address alone.
pub(crate) fn name_of(address: &str) -> Option<String> {
    let bare = address.trim_start_matches('[').trim_end_matches(']');
    bare.parse::<IpAddr>().is_err().then(|| bare.to_owned())
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng;

    use super::*;

    fn gateway(address: &str, priority: u32, weight: u32) -> Gateway {
        Gateway { address: address.to_owned(), port: Some(5060), priority, weight, transport: None }
    }

    fn names(gateways: Vec<Gateway>, seed: u64) -> Vec<String> {
        let mut trunk = Trunk::new("t", "a", "t");
        trunk.gateways = gateways;
        let ordered = in_order(&trunk, &mut ChaCha12Rng::seed_from_u64(seed));
        ordered.into_iter().map(|gateway| gateway.address).collect()
    }

    #[test]
    fn the_lowest_priority_comes_first_and_ties_keep_the_lists_order() {
        let list = vec![gateway("c", 2, 1), gateway("a", 1, 1), gateway("d", 2, 1), gateway("b", 1, 1)];
        for seed in 0..20 {
            assert_eq!(names(list.clone(), seed), ["a", "b", "c", "d"]);
        }
    }

    #[test]
    fn among_equals_the_heavier_comes_first_more_often() {
        let list = vec![gateway("light", 1, 1), gateway("heavy", 1, 9), gateway("last", 2, 100)];
        let heavy_first = (0..1000).filter(|seed| names(list.clone(), *seed)[0] == "heavy").count();
        assert!((850..950).contains(&heavy_first), "{heavy_first}");
        assert!((0..100).all(|seed| names(list.clone(), seed)[2] == "last"));
    }

    #[test]
    fn weights_of_zero_are_tried_all_the_same() {
        assert_eq!(names(vec![gateway("a", 1, 0), gateway("b", 1, 0)], 1), ["a", "b"]);
        assert_eq!(names(vec![gateway("a", 1, 0), gateway("b", 1, 5)], 1), ["b", "a"]);
    }

    #[test]
    fn addresses_of_ipv6_stand_in_brackets() {
        assert_eq!(uri_host("2001:db8::1"), "[2001:db8::1]");
        assert_eq!(uri_host("[2001:db8::1]"), "[2001:db8::1]");
        assert_eq!(uri_host("sip.example.com"), "sip.example.com");
    }
}
