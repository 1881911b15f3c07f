//! What the owner of a trunk decides on how its calls leave: one value, so that it is stored, shown and handed on as one.

use serde::{Deserialize, Serialize};
use tandem_sip::LargeRequests;

use crate::failover::FailoverTable;
use crate::identity::IdentityPolicy;
use crate::redirect::RedirectPolicy;

/// How a trunk's calls leave.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct OutboundPolicy {
    /// Whether the carrier's NAPTR records tell the transport to gateways given by a name alone (RFC 3263 section 4.1).
    pub transport_by_dns: bool,
    /// What is done with requests too large for a datagram, on a trunk over UDP.
    pub large_requests: LargeRequestPolicy,
    /// What sends a call to the next gateway.
    pub failover: FailoverTable,
    /// What is done with a 3xx.
    pub redirects: RedirectPolicy,
    /// Whom calls are shown to come from.
    pub identity: IdentityPolicy,
}

/// What is done with requests of more than 1,300 bytes (RFC 3261 section 18.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LargeRequestPolicy {
    /// They go by TCP, and by UDP after all where the gateway takes none.
    #[default]
    Tcp,
    /// They go by UDP, for carriers that take TCP connections and serve no calls on them.
    Udp,
}

impl From<LargeRequestPolicy> for LargeRequests {
    fn from(policy: LargeRequestPolicy) -> Self {
        match policy {
            LargeRequestPolicy::Tcp => Self::ByTcp,
            LargeRequestPolicy::Udp => Self::ByUdp,
        }
    }
}
