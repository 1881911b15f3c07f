//! Who may be heard on an RTP port: symmetric RTP, latched once by rule.
//!
//! The SDP names the address the peer *wants* media at; behind NAT its media *comes* from another. When
//! the trunk allows it, the first valid packet from the trunk's networks fixes the source, once, and media
//! is sent back to it. From then on nobody else is heard; a stranger who guesses the port changes nothing.
//! Only a renegotiation with a new address opens the latch again, and only the peer's own ICE moves it. This file counts strangers, it answers
//! none of them.
//!
//! RFC 4961 (symmetric RTP); the guard is against the class of faults known as RTP bleed.

use std::net::{IpAddr, SocketAddr};

/// Where RTP may come from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LatchPolicy {
    /// Whether media may be taken from, and sent to, another address than the SDP names.
    pub symmetric: bool,
    /// Networks (address and prefix length) such an address must lie in. Empty: any, for peers whose
    /// networks nobody knows; prefer the signalling peer's address to that.
    pub allowed: Vec<(IpAddr, u8)>,
}

/// The latch of one RTP session.
#[derive(Debug, Clone)]
pub struct Latch {
    policy: LatchPolicy,
    expected: SocketAddr,
    latched: Option<SocketAddr>,
    /// The source before a renegotiation, and how many of its packets are heard without latching it.
    previous: Option<(SocketAddr, u32)>,
}

/// Packets of the source before a renegotiation that are taken for stragglers: one second's worth. If it
/// still is alone after that, the peer has not moved, whatever its SDP said.
const STRAGGLERS: u32 = 50;

/// What the latch says of a packet's source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The source is the peer.
    Peer,
    /// The source may become the peer if its packet is valid; see [`Latch::latch`].
    Candidate,
    /// The source is neither heard nor answered.
    Stranger,
}

impl Latch {
    /// An open latch for a peer that said it wants media at `expected`.
    pub fn new(policy: LatchPolicy, expected: SocketAddr) -> Self {
        Self { policy, expected, latched: None, previous: None }
    }

    /// Judges a packet's source. Changes nothing: the packet has yet to prove valid.
    pub fn admit(&self, source: SocketAddr) -> Admission {
        let source = canonical(source);
        match self.latched {
            Some(latched) if latched == source => Admission::Peer,
            Some(_) => Admission::Stranger,
            None if source == canonical(self.expected) => Admission::Candidate,
            None if self.policy.symmetric && self.is_allowed(source.ip()) => Admission::Candidate,
            None => Admission::Stranger,
        }
    }

    /// Fixes a candidate whose packet was valid. Returns whether this was the moment of latching.
    pub fn latch(&mut self, source: SocketAddr) -> bool {
        if self.latched.is_some() {
            return false;
        }
        let source = canonical(source);
        if let Some((previous, stragglers)) = &mut self.previous
            && *previous == source
            && *stragglers > 0
        {
            *stragglers -= 1;
            return false;
        }
        self.latched = Some(source);
        self.previous = None;
        true
    }

    /// The peer's ICE chose this source, in a message that only the peer can have made: it becomes the peer, instead of
    /// another too, where the policy lets media come from there. Returns whether that changed anything.
    pub fn nominate(&mut self, source: SocketAddr) -> bool {
        let source = canonical(source);
        let is_named = source == canonical(self.expected);
        let is_allowed = is_named || self.policy.symmetric && self.is_allowed(source.ip());
        if !is_allowed || self.latched == Some(source) {
            return false;
        }
        self.latched = Some(source);
        self.previous = None;
        true
    }

    /// A renegotiation named `expected`; another address than before opens the latch again. A null
    /// address is a hold, not a move, and changes nothing.
    pub fn renegotiate(&mut self, expected: SocketAddr) {
        if expected == self.expected || expected.ip().is_unspecified() {
            return;
        }
        self.expected = expected;
        self.previous = self.latched.take().map(|latched| (latched, STRAGGLERS));
    }

    /// Where our media goes: the latched source, else the address of the SDP if that can be sent to.
    pub fn destination(&self) -> Option<SocketAddr> {
        let sendable = !self.expected.ip().is_unspecified() && self.expected.port() != 0;
        self.latched.or_else(|| sendable.then_some(self.expected))
    }

    /// Whether media from this host belongs to the peer: its latched host, or the one the SDP named.
    pub fn is_peer_host(&self, host: IpAddr) -> bool {
        let host = host.to_canonical();
        match self.latched {
            Some(latched) => latched.ip() == host,
            None => self.expected.ip().to_canonical() == host,
        }
    }

    /// The source that was latched, if any was.
    pub fn latched(&self) -> Option<SocketAddr> {
        self.latched
    }

    fn is_allowed(&self, source: IpAddr) -> bool {
        self.policy.allowed.is_empty()
            || self.policy.allowed.iter().any(|(network, prefix)| contains(*network, *prefix, source))
    }
}

/// An IPv4 source as a dual-stack socket reports it (`::ffff:a.b.c.d`) is the IPv4 address it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn contains(network: IpAddr, prefix: u8, address: IpAddr) -> bool {
    match (network.to_canonical(), address) {
        (IpAddr::V4(network), IpAddr::V4(address)) => {
            let shift = 32_u32.saturating_sub(u32::from(prefix));
            u32::from(network).checked_shr(shift) == u32::from(address).checked_shr(shift)
        }
        (IpAddr::V6(network), IpAddr::V6(address)) => {
            let shift = 128_u32.saturating_sub(u32::from(prefix));
            u128::from(network).checked_shr(shift) == u128::from(address).checked_shr(shift)
        }
        (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn symmetric() -> LatchPolicy {
        LatchPolicy { symmetric: true, allowed: vec![(IpAddr::from([192, 0, 2, 0]), 24)] }
    }

    #[test]
    fn the_first_allowed_source_is_latched_and_no_stranger_after_it() {
        let mut latch = Latch::new(symmetric(), address("10.0.0.5:4000"));
        assert_eq!(latch.admit(address("203.0.113.1:4000")), Admission::Stranger);
        assert_eq!(latch.admit(address("192.0.2.9:7000")), Admission::Candidate);
        assert!(latch.latch(address("192.0.2.9:7000")));
        assert_eq!(latch.admit(address("192.0.2.9:7000")), Admission::Peer);
        assert_eq!(latch.admit(address("192.0.2.9:7002")), Admission::Stranger, "same host, other port");
        assert_eq!(latch.admit(address("10.0.0.5:4000")), Admission::Stranger, "even the address of the SDP");
        assert!(!latch.latch(address("192.0.2.10:1")));
        assert_eq!(latch.destination(), Some(address("192.0.2.9:7000")));
    }

    #[test]
    fn without_symmetric_rtp_only_the_negotiated_address_is_heard() {
        let policy = LatchPolicy { symmetric: false, ..symmetric() };
        let latch = Latch::new(policy, address("192.0.2.9:4000"));
        assert_eq!(latch.admit(address("192.0.2.9:4000")), Admission::Candidate);
        assert_eq!(latch.admit(address("192.0.2.9:4002")), Admission::Stranger);
    }

    #[test]
    fn the_address_of_the_sdp_is_heard_though_it_lies_outside_the_networks() {
        let latch = Latch::new(symmetric(), address("198.51.100.7:4000"));
        assert_eq!(latch.admit(address("198.51.100.7:4000")), Admission::Candidate);
        assert_eq!(latch.admit(address("[::ffff:198.51.100.7]:4000")), Admission::Candidate);
    }

    #[test]
    fn only_a_new_address_opens_the_latch_again() {
        let mut latch = Latch::new(symmetric(), address("10.0.0.5:4000"));
        latch.latch(address("192.0.2.9:7000"));
        latch.renegotiate(address("10.0.0.5:4000"));
        assert_eq!(latch.admit(address("192.0.2.10:7000")), Admission::Stranger);
        latch.renegotiate(address("10.0.0.6:4000"));
        assert_eq!(latch.admit(address("192.0.2.10:7000")), Admission::Candidate);
    }

    #[test]
    fn stragglers_of_the_old_address_do_not_latch_it_again() {
        let mut latch = Latch::new(symmetric(), address("10.0.0.5:4000"));
        latch.latch(address("192.0.2.9:7000"));
        latch.renegotiate(address("10.0.0.6:4000"));
        assert_eq!(latch.admit(address("192.0.2.9:7000")), Admission::Candidate);
        assert!(!latch.latch(address("192.0.2.9:7000")));
        assert_eq!(latch.destination(), Some(address("10.0.0.6:4000")));
        assert!(latch.latch(address("192.0.2.77:7000")));
        assert_eq!(latch.admit(address("192.0.2.9:7000")), Admission::Stranger);
    }

    #[test]
    fn a_peer_that_only_said_it_moved_is_latched_again_after_a_second() {
        let mut latch = Latch::new(symmetric(), address("10.0.0.5:4000"));
        latch.latch(address("192.0.2.9:7000"));
        latch.renegotiate(address("10.0.0.6:4000"));
        let tries = (1..).find(|_| latch.latch(address("192.0.2.9:7000")));
        assert_eq!(tries, Some(STRAGGLERS + 1));
    }

    #[test]
    fn a_hold_by_null_address_keeps_the_latch() {
        let mut latch = Latch::new(symmetric(), address("10.0.0.5:4000"));
        latch.latch(address("192.0.2.9:7000"));
        latch.renegotiate(address("0.0.0.0:4000"));
        latch.renegotiate(address("10.0.0.5:4000"));
        assert_eq!(latch.latched(), Some(address("192.0.2.9:7000")));
    }

    #[test]
    fn an_unusable_address_is_not_sent_to_before_latching() {
        let mut latch = Latch::new(symmetric(), address("0.0.0.0:4000"));
        assert_eq!(latch.destination(), None);
        latch.latch(address("192.0.2.9:7000"));
        assert_eq!(latch.destination(), Some(address("192.0.2.9:7000")));
    }

    #[test]
    fn a_nomination_moves_the_latch_within_the_networks() {
        let mut latch = Latch::new(symmetric(), address("10.0.0.5:4000"));
        assert!(latch.latch(address("192.0.2.9:7000")));
        assert!(!latch.nominate(address("203.0.113.1:1")), "outside the networks");
        assert!(!latch.nominate(address("192.0.2.9:7000")), "it is the peer already");
        assert!(latch.nominate(address("192.0.2.9:7002")));
        assert_eq!(latch.admit(address("192.0.2.9:7000")), Admission::Stranger);
        assert!(latch.nominate(address("10.0.0.5:4000")), "the address of the SDP");
        assert_eq!(latch.destination(), Some(address("10.0.0.5:4000")));
    }

    #[test]
    fn networks_of_both_families_and_odd_prefixes_match() {
        let v6: IpAddr = "2001:db8::".parse().unwrap();
        assert!(contains(v6, 32, "2001:db8:ffff::1".parse().unwrap()));
        assert!(!contains(v6, 32, "2001:db9::1".parse().unwrap()));
        assert!(contains(v6, 0, "::1".parse().unwrap()));
        assert!(contains([10, 0, 0, 1].into(), 32, [10, 0, 0, 1].into()));
        assert!(!contains([10, 0, 0, 1].into(), 32, [10, 0, 0, 2].into()));
        assert!(contains([10, 0, 0, 1].into(), 99, [10, 0, 0, 1].into()));
        assert!(!contains([10, 0, 0, 0].into(), 8, v6));
    }
}
