//! Which addresses the server may dial for an agent: the fence around private networks.
//!
//! An agent's URL is written by a tenant; without a fence it could name the cloud's metadata service or a
//! neighbour's database. The check is made on the *resolved* address of each connection attempt, so a name
//! that resolves differently the second time gains nothing.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// What may be dialled.
#[derive(Debug, Clone, Default)]
pub struct Fence {
    /// Refuse private, loopback, link-local and other special-purpose addresses (RFC 6890).
    pub deny_private: bool,
    /// Networks allowed even so.
    pub allow: Vec<IpNet>,
    /// Networks refused in any case; wins over `allow`.
    pub deny: Vec<IpNet>,
}

impl Fence {
    /// Whether `address` may be dialled.
    #[must_use]
    pub fn permits(&self, address: IpAddr) -> bool {
        // ::ffff:10.0.0.1 reaches 10.0.0.1, so it is judged as that.
        let address = address.to_canonical();
        if self.deny.iter().any(|network| network.contains(&address)) {
            return false;
        }
        if !self.deny_private || self.allow.iter().any(|network| network.contains(&address)) {
            return true;
        }
        match address {
            IpAddr::V4(address) => !is_special_v4(address),
            IpAddr::V6(address) => !is_special_v6(address),
        }
    }
}

fn is_special_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_broadcast()
        || address.is_multicast()
        || address.is_documentation()
        || a == 0
        || (a == 100 && (64..128).contains(&b)) // RFC 6598, shared address space
        || (a == 192 && b == 0 && c == 0) // RFC 6890, protocol assignments
        || (a == 198 && (b == 18 || b == 19)) // RFC 2544, benchmarking
        || a >= 240
}

fn is_special_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    address.is_loopback()
        || address.is_unspecified()
        || address.is_multicast()
        || address.is_unique_local()
        || address.is_unicast_link_local()
        || (segments[0] == 0x2001 && segments[1] == 0x0db8) // RFC 3849, documentation
        || (segments[0] == 0x0064 && segments[1] == 0xff9b) // RFC 6052, reaches IPv4
        || segments[0] == 0x2002 // RFC 3056, reaches IPv4
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fence() -> Fence {
        Fence { deny_private: true, allow: vec!["10.9.0.0/16".parse().unwrap()], deny: Vec::new() }
    }

    #[test]
    fn private_networks_are_refused_and_public_ones_are_not() {
        for refused in
            ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::1", "fd00::1", "::ffff:127.0.0.1", "0.0.0.0"]
        {
            assert!(!fence().permits(refused.parse().unwrap()), "{refused}");
        }
        for allowed in ["9.9.9.9", "2620:fe::fe", "10.9.8.7"] {
            assert!(fence().permits(allowed.parse().unwrap()), "{allowed}");
        }
    }

    #[test]
    fn a_denied_network_wins_over_an_allowed_one() {
        let fence = Fence { deny: vec!["10.9.1.0/24".parse().unwrap()], ..fence() };
        assert!(!fence.permits("10.9.1.1".parse().unwrap()));
        assert!(fence.permits("10.9.2.1".parse().unwrap()));
    }

    #[test]
    fn without_a_policy_everything_may_be_dialled() {
        assert!(Fence::default().permits("127.0.0.1".parse().unwrap()));
    }
}
