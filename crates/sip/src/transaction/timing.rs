//! How long each transaction waits: RFC 3261 17.1.1.1 and table 4, RFC 6026 8.7.
//!
//! One table for unreliable flows and one for reliable ones; the machines never ask which
//! transport they are on, they read their table. A duration of zero means "at once, without a timer".

use std::time::Duration;

/// The estimates all other durations follow from. RFC 3261 17.1.1.1: "T1 is an estimate of the
/// round-trip time (RTT), and it defaults to 500 ms."
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimingConfig {
    /// Round-trip estimate and first retransmission interval. Default 500 ms.
    pub t1: Duration,
    /// Longest interval between retransmissions of a non-INVITE request or an INVITE response. Default 4 s.
    pub t2: Duration,
    /// Longest time a message stays in the network. Default 5 s.
    pub t4: Duration,
}

impl Default for TimingConfig {
    fn default() -> Self {
        Self { t1: Duration::from_millis(500), t2: Duration::from_secs(4), t4: Duration::from_secs(5) }
    }
}

/// Durations for one transaction, by whether its flow loses messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Timing {
    /// First interval of timers A, E and G; `None` on a flow that does not lose messages.
    /// RFC 3261 17.1.1.2: "If a reliable transport is being used, the client transaction SHOULD
    /// NOT start timer A".
    pub(crate) retransmit: Option<Duration>,
    /// T2, the cap of timers E and G.
    pub(crate) t2: Duration,
    /// 64*T1: timers B, F, H.
    pub(crate) give_up: Duration,
    /// Timer D: "at least 32 seconds for unreliable transports", zero on reliable ones.
    pub(crate) absorb_failure: Duration,
    /// Timers L and M, RFC 6026 8.7: 64*T1 on every transport.
    pub(crate) accepted: Duration,
    /// Timers I and K: T4 on unreliable flows, zero on reliable ones.
    pub(crate) settle: Duration,
    /// Timer J: 64*T1 on unreliable flows, zero on reliable ones.
    pub(crate) absorb_request: Duration,
}

impl Timing {
    pub(crate) fn unreliable(config: &TimingConfig) -> Self {
        let give_up = config.t1 * 64;
        Self {
            retransmit: Some(config.t1),
            t2: config.t2,
            give_up,
            absorb_failure: give_up.max(Duration::from_secs(32)),
            accepted: give_up,
            settle: config.t4,
            absorb_request: give_up,
        }
    }

    pub(crate) fn reliable(config: &TimingConfig) -> Self {
        Self {
            retransmit: None,
            absorb_failure: Duration::ZERO,
            settle: Duration::ZERO,
            absorb_request: Duration::ZERO,
            ..Self::unreliable(config)
        }
    }

    /// The table for a flow.
    pub(crate) fn of(config: &TimingConfig, reliable: Reliability) -> Self {
        match reliable {
            Reliability::Unreliable => Self::unreliable(config),
            Reliability::Reliable => Self::reliable(config),
        }
    }
}

/// Whether a flow loses messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reliability {
    /// UDP.
    Unreliable,
    /// TCP, TLS.
    Reliable,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_table_4() {
        let udp = Timing::unreliable(&TimingConfig::default());
        assert_eq!(udp.retransmit, Some(Duration::from_millis(500)));
        assert_eq!(udp.give_up, Duration::from_secs(32));
        assert_eq!(udp.absorb_failure, Duration::from_secs(32));
        assert_eq!(udp.settle, Duration::from_secs(5));
        assert_eq!(udp.absorb_request, Duration::from_secs(32));
    }

    #[test]
    fn on_reliable_flows_only_the_giving_up_and_the_accepted_state_take_time() {
        let tcp = Timing::reliable(&TimingConfig::default());
        assert_eq!(tcp.retransmit, None);
        assert_eq!(tcp.absorb_failure + tcp.settle + tcp.absorb_request, Duration::ZERO);
        assert_eq!(tcp.give_up, Duration::from_secs(32));
        assert_eq!(tcp.accepted, Duration::from_secs(32));
    }
}
