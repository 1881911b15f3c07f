//! Which listeners a machine without IPv6 may do without.
//!
//! "All addresses" is two listeners, `0.0.0.0` and `[::]`: one socket for both would show IPv4 peers as mapped
//! IPv6 addresses, which routing and Via would have to undo. Refuses to leave out anything that was asked for
//! alone.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
};

use rustix::io::Errno;

/// Whether `address` is the IPv6 half of "all addresses" and `error` says that this machine has no IPv6: then the
/// IPv4 half serves alone.
#[must_use]
pub fn is_dispensable(address: SocketAddr, all: &[SocketAddr], error: &io::Error) -> bool {
    let other_half = SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port()));
    let lacks_ipv6 = [Errno::AFNOSUPPORT, Errno::ADDRNOTAVAIL]
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()));
    address.ip() == Ipv6Addr::UNSPECIFIED && all.contains(&other_half) && lacks_ipv6
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_ipv6_half_of_all_addresses_may_be_missing_and_only_for_want_of_ipv6() {
        let all = ["0.0.0.0:5060", "[::]:5060", "[::]:5070", "[::1]:5060"].map(|text| text.parse().unwrap());
        let without = io::Error::from_raw_os_error(Errno::AFNOSUPPORT.raw_os_error());
        let taken = io::Error::from_raw_os_error(Errno::ADDRINUSE.raw_os_error());
        let told = all.map(|address| is_dispensable(address, &all, &without));
        assert_eq!(told, [false, true, false, false]);
        assert!(!is_dispensable(all[1], &all, &taken));
    }
}
