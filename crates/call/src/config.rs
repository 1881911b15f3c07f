//! What the engine is told when it is made: bounds and policies, each with its default and the reason for it.

use std::time::Duration;

use tandem_sip::EndpointConfig;
use tandem_sip::auth::AuthenticatorConfig;

use crate::admission::AdmissionLimits;
use crate::bridge::BridgeLimits;

/// Everything an [`crate::Engine`] is told at its making.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// The node's name, for records. Default `tandem`.
    pub node: String,
    /// Transactions, dialogs and connections.
    pub endpoint: EndpointConfig,
    /// How many calls, and how much a stranger may ask.
    pub admission: AdmissionLimits,
    /// Digest challenges to trunks by user name and password.
    pub authenticator: AuthenticatorConfig,
    /// The realm of digest challenges: whatever it is, carriers store it. Default `tandem`.
    pub realm: String,
    /// How long the shell may take to bind a media port. Default 3 s: it is a local affair.
    pub bridge_timeout: Duration,
    /// How long an agent may take to accept its WebSocket while the caller hears ringing. Default 10 s: serverless
    /// agents start cold, and callers wait longer for people.
    pub agent_timeout: Duration,
    /// How long a callee's telephone may ring. Default 60 s: ten rings and more; voicemail answers before that.
    pub ringing_timeout: Duration,
    /// How long a gateway may be silent, without so much as a 100, before the next one is tried. Default 6 s: a lost INVITE
    /// is repeated after 0.5, 1.5 and 3.5 s (RFC 3261 section 17.1.1.2), and callers do not wait for timer B's 32 s.
    pub gateway_timeout: Duration,
    /// How long the shell may take to find a gateway's address. Default 6 s: longer than its own bound on a look-up.
    pub way_timeout: Duration,
    /// What a caller is told when its agent cannot be had: 480 or 503. Default 480: 503 lets a carrier turn away from
    /// the whole node (RFC 3261 section 21.5.4) because one tenant's agent is down.
    pub agent_failure_status: AgentFailureStatus,
    /// The longest a call may last. Default 4 h: longer calls are forgotten ones, and cost money.
    pub max_duration: Option<Duration>,
    /// How long a caller not on hold may send neither RTP nor RTCP before its call is ended. Default 30 s: less cuts off
    /// carriers that suppress silence without comfort noise.
    pub media_timeout: Option<Duration>,
    /// How long the shell may take to close a bridge. Default 10 s; the record does not wait longer.
    pub close_timeout: Duration,
    /// Bounds of each bridge.
    pub bridge: BridgeLimits,
}

/// What a caller is told when its agent cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentFailureStatus {
    /// 480: this callee, for now.
    TemporarilyUnavailable,
    /// 503: try another server, where the carrier knows one.
    ServiceUnavailable,
}

impl AgentFailureStatus {
    /// The number.
    pub const fn status(self) -> u16 {
        match self {
            Self::TemporarilyUnavailable => 480,
            Self::ServiceUnavailable => 503,
        }
    }
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            node: "tandem".to_owned(),
            endpoint: EndpointConfig::default(),
            admission: AdmissionLimits::default(),
            authenticator: AuthenticatorConfig::default(),
            realm: "tandem".to_owned(),
            bridge_timeout: Duration::from_secs(3),
            agent_timeout: Duration::from_secs(10),
            ringing_timeout: Duration::from_secs(60),
            gateway_timeout: Duration::from_secs(6),
            way_timeout: Duration::from_secs(6),
            agent_failure_status: AgentFailureStatus::TemporarilyUnavailable,
            max_duration: Some(Duration::from_secs(4 * 3600)),
            media_timeout: Some(Duration::from_secs(30)),
            close_timeout: Duration::from_secs(10),
            bridge: BridgeLimits::default(),
        }
    }
}
