//! What the endpoint is told when it is made, and what it is told of each call: limits and policies,
//! each with its default and the reason for it.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::message::ResponseRouting;
pub use crate::transaction::timing::TimingConfig;

/// Everything an [`crate::Endpoint`] is told at its making.
#[derive(Clone, Debug)]
pub struct EndpointConfig {
    /// The host that stands in Via and Contact towards peers outside of our networks; without it, the
    /// flow's local address. Default: none.
    pub public_address: Option<IpAddr>,
    /// The user part of our Contact. Default `tandem`.
    pub contact_user: String,
    /// The value of `Server` and `User-Agent`. Default: none, so that scanners learn nothing.
    pub product: Option<String>,
    /// Timer values. Default: those of RFC 3261.
    pub timing: TimingConfig,
    /// Session timers (RFC 4028).
    pub session_timer: SessionTimerConfig,
    /// Bounds.
    pub limits: EndpointLimits,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            public_address: None,
            contact_user: "tandem".to_owned(),
            product: None,
            timing: TimingConfig::default(),
            session_timer: SessionTimerConfig::default(),
            limits: EndpointLimits::default(),
        }
    }
}

/// How sessions are kept fresh, RFC 4028.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionTimerConfig {
    /// The interval we ask for and accept at most. Default 1800 s, what RFC 4028 4 recommends.
    pub interval: Duration,
    /// The smallest interval we accept; never under 90 s. Default 90 s, the least RFC 4028 5 allows.
    pub minimum: Duration,
    /// Who refreshes when the peer leaves it to us. Default: the peer, whose timers then tell us
    /// that it lives, at no cost here.
    pub preferred: Refresher,
}

impl Default for SessionTimerConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(1800),
            minimum: Duration::from_secs(90),
            preferred: Refresher::Peer,
        }
    }
}

/// Who sends the refreshes of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresher {
    /// We do.
    Us,
    /// The peer does.
    Peer,
}

/// Bounds of everything the endpoint holds. Each has a counter that tells when it was hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Sessions at once; above, an INVITE is refused 503. Default 20,000: ten times what one core's
    /// media can carry, at some kilobytes each.
    pub sessions: usize,
    /// Server transactions at once; above, requests are refused 503 without being remembered.
    /// Default 100,000: each stays 32 s on UDP, so this is 3,000 new ones a second.
    pub server_transactions: usize,
    /// Client transactions at once; above, nothing new is sent. Default 100,000.
    pub client_transactions: usize,
    /// How many requests a second for dialogs and INVITEs that are not there, or from addresses their session
    /// does not trust, are answered (481, 403); the rest get silence. Default 200: a carrier's restart makes
    /// some dozens, a scanner thousands.
    pub stray_replies_per_second: u32,
    /// What 503 says in Retry-After. Default 10 s.
    pub retry_after: Duration,
    /// Stream connections at once. Default 4,096.
    pub streams: usize,
    /// Stream connections at once from one source address. Default 64: a carrier's SBC opens a few,
    /// a flood opens thousands.
    pub streams_per_source: usize,
    /// How long a connection may live without a first whole message. Default 20 s.
    pub stream_first_message: Duration,
    /// How long one message may take from its first byte to its last. Default 20 s.
    pub stream_message: Duration,
    /// How long a connection may be silent. Default 15 min: longer than any keep-alive interval in
    /// use, short enough that dead peers do not pile up.
    pub stream_idle: Duration,
    /// How long the answer to a ping may take of a peer that has answered one before. Default 10 s, RFC 5626 4.4.1.
    pub stream_pong: Duration,
    /// The largest request that goes in a datagram; a larger one goes by TCP. Default 1,300 bytes, RFC 3261 18.1.1.
    pub datagram: usize,
    /// How often a ping goes over a connection that sessions live on; zero for never. Default 60 s: carriers
    /// close connections after two silent minutes, and calls over them can then not be ended.
    pub stream_keep_alive: Duration,
    /// How long an INVITE may wait for its final response: ours is cancelled then, the peer's refused 480.
    /// Default 180 s, as timer C of RFC 3261 16.6.
    pub ringing: Duration,
    /// Early dialogs and extra forks of one INVITE we sent. Default 8.
    pub forks: usize,
    /// Bodies larger than this are refused 413. Default 64 KiB: no offer comes near.
    pub body: usize,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            sessions: 20_000,
            server_transactions: 100_000,
            client_transactions: 100_000,
            stray_replies_per_second: 200,
            retry_after: Duration::from_secs(10),
            streams: 4096,
            streams_per_source: 64,
            stream_first_message: Duration::from_secs(20),
            stream_message: Duration::from_secs(20),
            stream_idle: Duration::from_secs(15 * 60),
            stream_pong: Duration::from_secs(10),
            datagram: 1_300,
            stream_keep_alive: Duration::from_secs(60),
            ringing: Duration::from_secs(180),
            forks: 8,
            body: 64 * 1024,
        }
    }
}

/// A network requests may come from: an address and the number of its leading bits that count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Any address of the network.
    pub address: IpAddr,
    /// How many leading bits are compared; more than the family has count as all.
    pub prefix: u8,
}

impl Network {
    /// Whether `address` lies in this network. An IPv4 address is the same whether it is written
    /// plainly or mapped into IPv6.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address.to_canonical(), address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let bits = u32::from(self.prefix.min(32));
                let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
                (u32::from(network) ^ u32::from(address)) & mask == 0
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let bits = u32::from(self.prefix.min(128));
                let mask = u128::MAX.checked_shl(128 - bits).unwrap_or(0);
                (u128::from(network) ^ u128::from(address)) & mask == 0
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

/// What the engine decides about one call's signalling when it takes or places it.
#[derive(Clone, Debug)]
pub struct SessionPolicy {
    /// Networks from which in-dialog requests are taken, beside the address the INVITE came from.
    /// Default: none.
    pub trusted: Vec<Network>,
    /// How responses find their way back. Default: as the peer's Via asks.
    pub routing: ResponseRouting,
    /// Where requests of ours within the dialog go. Default: where the dialog says.
    pub reach: Reach,
    /// When provisional responses are sent reliably (RFC 3262). Default: when the peer requires it.
    pub reliable: ReliableProvisionals,
    /// What is done with requests of ours that are too large for a datagram. Default: they go by TCP.
    pub large: LargeRequests,
    /// Session timers (RFC 4028). Default: the endpoint's.
    pub session_timer: Option<SessionTimerConfig>,
    /// Whether the peer may refer us elsewhere: REFER is then named in Allow and the engine decides
    /// on each. Default: no, which refuses them with 405.
    pub takes_refer: bool,
    /// Headers that go on every response but 100 and every request of ours in this dialog.
    pub headers: Vec<(Bytes, Bytes)>,
}

impl Default for SessionPolicy {
    fn default() -> Self {
        Self {
            trusted: Vec::new(),
            routing: ResponseRouting::AsAsked,
            reach: Reach::Signalled,
            reliable: ReliableProvisionals::WhenRequired,
            large: LargeRequests::ByTcp,
            session_timer: None,
            takes_refer: false,
            headers: Vec::new(),
        }
    }
}

/// Where requests within a dialog are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To the first route, or the remote target (RFC 3261 12.2.1.1).
    Signalled,
    /// To the address the peer's last request came from: for trunks behind address translation
    /// whose Contact cannot be reached.
    Source,
}

/// What is done with requests that are too large for a datagram.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LargeRequests {
    /// They go by TCP, and by UDP after all where the peer takes none.
    #[default]
    ByTcp,
    /// They go by UDP, for peers that take TCP and do not serve it.
    ByUdp,
}

/// When provisional responses are sent reliably.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReliableProvisionals {
    /// When the INVITE has `Require: 100rel`.
    WhenRequired,
    /// When the INVITE has `Supported: 100rel` too.
    WhenSupported,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses_in_either_family_and_no_others() {
        let network = Network { address: "192.0.2.0".parse().unwrap(), prefix: 29 };
        assert!(network.contains("192.0.2.7".parse().unwrap()));
        assert!(network.contains("::ffff:192.0.2.7".parse().unwrap()));
        assert!(!network.contains("192.0.2.8".parse().unwrap()));
        assert!(!network.contains("2001:db8::1".parse().unwrap()));
        let everything = Network { address: "0.0.0.0".parse().unwrap(), prefix: 0 };
        assert!(everything.contains("203.0.113.9".parse().unwrap()));
        let six = Network { address: "2001:db8::".parse().unwrap(), prefix: 32 };
        assert!(six.contains("2001:db8:ffff::1".parse().unwrap()));
        assert!(!six.contains("2001:db9::1".parse().unwrap()));
    }
}
