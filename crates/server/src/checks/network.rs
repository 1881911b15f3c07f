//! Listeners, media ports, addresses.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;

use super::Finding;
use crate::config::Config;
use crate::net::holder::{BindError, Protocol};
use crate::net::listen::is_dispensable;
use crate::net::{tcp, tls::SipTls, udp};

/// Opens each listener for an instant.
pub(super) fn listeners(config: &Config, findings: &mut Vec<Finding>) {
    let sip = &config.sip;
    if sip.tls != crate::config::Tls::default() {
        const SUBJECT: &str = "SIP over TLS";
        findings.push(match SipTls::load(&sip.tls) {
            Ok(_) => Finding::good(SUBJECT, "its certificates can be used"),
            Err(fault) => Finding::fault(
                SUBJECT,
                fault.to_string(),
                "give PEM files that this user may read and that belong together",
            ),
        });
    }
    let wanted = sip
        .udp
        .iter()
        .map(|address| ("SIP", "sip.udp", Protocol::Udp, *address))
        .chain(sip.tcp.iter().map(|address| ("SIP", "sip.tcp", Protocol::Tcp, *address)))
        .chain(
            sip.tls.listen.iter().map(|address| ("SIP over TLS", "sip.tls.listen", Protocol::Tcp, *address)),
        )
        .chain([("the API", "api.listen", Protocol::Tcp, config.api.listen)]);
    for (purpose, key, protocol, address) in wanted {
        let all = match key {
            "sip.udp" => &sip.udp,
            "sip.tls.listen" => &sip.tls.listen,
            _ => &sip.tcp,
        };
        findings.push(listener(purpose, key, protocol, address, all));
    }
    if !config.api.listen.ip().is_loopback() {
        findings.push(Finding::warning(
            "the API",
            format!("api.listen {} is reachable from the network, in plain HTTP", config.api.listen),
            "listen on 127.0.0.1 and put a TLS proxy before it, unless the network is yours alone",
        ));
    }
}

fn listener(
    purpose: &'static str,
    key: &str,
    protocol: Protocol,
    address: SocketAddr,
    all: &[SocketAddr],
) -> Finding {
    let opened = match protocol {
        Protocol::Udp => udp::open(address).map(drop),
        Protocol::Tcp => tcp::listen(address).map(drop),
    };
    let Err(error) = opened else {
        return Finding::good(purpose, format!("{protocol} {address} is free"));
    };
    if is_dispensable(address, all, &error) {
        return Finding::good(purpose, format!("{protocol} {address} is left out: this machine has no IPv6"));
    }
    let remedy = match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            format!("stop that program (a tandem that is running already is one), or give {key} another port")
        }
        std::io::ErrorKind::PermissionDenied => {
            format!("give {key} a port from 1024 on, or the program CAP_NET_BIND_SERVICE")
        }
        std::io::ErrorKind::AddrNotAvailable => {
            format!("no interface of this machine has that address: give {key} one that `ip addr` shows")
        }
        _ => format!("give {key} another address"),
    };
    Finding::fault(purpose, BindError::new(purpose, protocol, address, error).to_string(), remedy)
}

/// The RTP range against the kernel's ephemeral ports, against calls, and against what is in use.
pub(super) fn media_ports(config: &Config, findings: &mut Vec<Finding>) {
    let ports = config.media.ports;
    let range = ports.first..=ports.last;
    let mut is_good = true;
    if let Some(ephemeral) = port_pair("/proc/sys/net/ipv4/ip_local_port_range")
        && overlap(&range, &ephemeral)
        && !is_reserved(&range)
    {
        is_good = false;
        findings.push(Finding::warning(
            "media ports",
            format!(
                "media.ports {ports} overlaps the ports this machine gives to outgoing sockets, {} to {}: now and then \
                 a call will find its port taken",
                ephemeral.start(),
                ephemeral.end()
            ),
            format!(
                "choose media.ports outside, or reserve them: sysctl -w net.ipv4.ip_local_reserved_ports={ports}"
            ),
        ));
    }
    let calls = config.limits.calls as usize;
    if ports.pairs() < calls {
        is_good = false;
        findings.push(Finding::warning(
            "media ports",
            format!(
                "media.ports {ports} serves {} calls at once, limits.calls allows {calls}",
                ports.pairs()
            ),
            format!("widen media.ports to {} ports or more, or lower limits.calls", calls * 2),
        ));
    }
    let used = used_udp_ports(&range);
    if !used.is_empty() {
        is_good = false;
        findings.push(Finding::warning(
            "media ports",
            format!(
                "{} UDP ports of media.ports are in use now, {} among them; calls pass them over",
                used.len(),
                used[0]
            ),
            "move the other program or media.ports, unless it is a tandem that is running",
        ));
    }
    if is_good {
        findings.push(Finding::good("media ports", format!("{ports}, {} calls at once", ports.pairs())));
    }
}

fn overlap(a: &RangeInclusive<u16>, b: &RangeInclusive<u16>) -> bool {
    a.start() <= b.end() && b.start() <= a.end()
}

fn port_pair(path: &str) -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string(path).ok()?;
    let mut numbers = text.split_ascii_whitespace().map(str::parse);
    Some(numbers.next()?.ok()?..=numbers.next()?.ok()?)
}

/// Whether the kernel keeps its hands off the whole range.
fn is_reserved(range: &RangeInclusive<u16>) -> bool {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_reserved_ports").unwrap_or_default();
    let reserved: Vec<RangeInclusive<u16>> = text
        .trim()
        .split(',')
        .filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some(first.parse().ok()?..=last.parse().ok()?)
        })
        .collect();
    range.clone().all(|port| reserved.iter().any(|range| range.contains(&port)))
}

fn used_udp_ports(range: &RangeInclusive<u16>) -> Vec<u16> {
    let mut used: Vec<u16> = ["/proc/net/udp", "/proc/net/udp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| {
            text.lines()
                .skip(1)
                .filter_map(|line| {
                    let local = line.split_ascii_whitespace().nth(1)?;
                    u16::from_str_radix(local.rsplit(':').next()?, 16).ok()
                })
                .collect::<Vec<_>>()
        })
        .filter(|port| range.contains(port))
        .collect();
    used.sort_unstable();
    used.dedup();
    used
}

/// What carriers will be told to send to.
pub(super) fn public_address(config: &Config, findings: &mut Vec<Finding>) {
    const SUBJECT: &str = "public address";
    let addresses = config.sip.udp.iter().chain(&config.sip.tcp).chain(&config.sip.tls.listen);
    if addresses.clone().count() > 0 && addresses.clone().all(|address| address.ip().is_loopback()) {
        findings.push(Finding::warning(
            SUBJECT,
            "SIP listens on this machine alone: no carrier can reach it",
            "for more than work on one machine, let sip.udp listen on 0.0.0.0:5060",
        ));
        return;
    }
    let outward = outward_address();
    for (key, configured) in [
        ("sip.public_address", config.sip.public_address),
        ("media.public_address", config.media.public_address),
    ] {
        let Some(address) = configured else { continue };
        findings.push(if is_private(address) {
            Finding::warning(
                SUBJECT,
                format!("{key} {address} is a private address: carriers on the Internet cannot reach it"),
                "give the address your router or cloud provider shows to the outside, unless the carrier is inside too",
            )
        } else {
            Finding::good(SUBJECT, format!("{key} {address} is what carriers are told"))
        });
    }
    if config.sip.public_address.is_some() {
        return;
    }
    findings.push(match outward {
        None => Finding::warning(
            SUBJECT,
            "this machine has no route to the Internet",
            "set sip.public_address if carriers reach it by another address",
        ),
        Some(address) if is_private(address) => Finding::warning(
            SUBJECT,
            format!("this machine's address is {address}, a private one, and sip.public_address is not set"),
            "if carriers reach you through NAT, set sip.public_address to the outer address and forward SIP and media ports",
        ),
        Some(address) => Finding::good(SUBJECT, format!("{address}, the address of this machine's interface")),
    });
}

/// The address the kernel would send from to the Internet: a socket is connected, nothing is sent.
fn outward_address() -> Option<IpAddr> {
    // An address of TEST-NET-3 (RFC 5737): routed as any other, belonging to nobody.
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect((Ipv4Addr::new(203, 0, 113, 1), 9)).ok()?;
    socket.local_addr().ok().map(|address| address.ip()).filter(|address| !address.is_unspecified())
}

/// Private, shared (RFC 6598), link-local, or this host.
fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, ..] = v4.octets();
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checks::Level;
    use crate::config::PortRange;

    #[test]
    fn a_port_in_use_is_named_with_its_holder_and_the_key_to_change() {
        let held = UdpSocket::bind("127.0.0.1:0").unwrap();
        let finding = listener("SIP", "sip.udp", Protocol::Udp, held.local_addr().unwrap(), &[]);
        assert_eq!(finding.level, Level::Fault);
        assert!(finding.text.contains(&format!("(pid {})", std::process::id())), "{finding}");
        assert!(finding.remedy.contains("sip.udp"), "{finding}");
    }

    #[test]
    fn an_address_of_no_interface_is_told_from_a_port_in_use() {
        let finding = listener("SIP", "sip.udp", Protocol::Udp, "203.0.113.1:5060".parse().unwrap(), &[]);
        assert!(finding.remedy.contains("ip addr"), "{finding}");
    }

    #[test]
    fn a_media_range_in_the_ephemeral_ports_is_found() {
        let mut config = Config::default();
        let ephemeral = port_pair("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
        config.media.ports = PortRange { first: *ephemeral.start(), last: *ephemeral.start() + 99 };
        let mut findings = Vec::new();
        media_ports(&config, &mut findings);
        let texts: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(texts[0].contains("overlaps") && texts[0].contains("ip_local_reserved_ports"), "{texts:?}");
        assert!(texts[1].contains("serves 50 calls") && texts[1].contains("limits.calls"), "{texts:?}");
    }

    #[test]
    fn a_media_port_in_use_is_found() {
        let held = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = held.local_addr().unwrap().port();
        assert_eq!(used_udp_ports(&(port..=port)), [port]);
    }

    #[test]
    fn a_public_address_that_is_private_is_warned_of() {
        let mut config = Config::default();
        config.sip.public_address = Some("10.0.0.1".parse().unwrap());
        let mut findings = Vec::new();
        public_address(&config, &mut findings);
        assert_eq!(findings[0].level, Level::Warning);
        config.sip.public_address = Some("198.51.100.1".parse().unwrap());
        findings.clear();
        public_address(&config, &mut findings);
        assert_eq!(findings[0].level, Level::Good);
    }
}
