//! One-way audio, found while the call is up and explained: which side is not heard, and what the server saw instead.
//!
//! It looks at what was counted, at two moments of a call, and tells each cause once. It refuses to end a call for it.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_media::RtpStatistics;

/// Time a caller's audio may take to come: longer than any gateway waits.
const CALLER_PATIENCE: Duration = Duration::from_secs(5);

/// Time an agent may take to its first audio: many let the caller speak first.
const AGENT_PATIENCE: Duration = Duration::from_secs(15);

/// Why one side is not heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OneWay {
    /// RTP comes, from an address that may not be taken for the caller's.
    Stranger {
        /// Where it came from last.
        seen: SocketAddr,
        /// Where the SDP said it would come from.
        told: SocketAddr,
        /// Packets refused.
        packets: u64,
    },
    /// RTP comes in a format that was not agreed on.
    PayloadType {
        /// The number it came with last.
        seen: u8,
        /// The number agreed on.
        agreed: u8,
        /// Packets refused.
        packets: u64,
    },
    /// RTP comes that SRTP cannot take: in the clear, or not by the key agreed on.
    Insecure {
        /// Packets in the clear.
        in_the_clear: u64,
        /// Packets that the key does not open.
        unauthentic: u64,
    },
    /// Something comes that is no RTP: encrypted, perhaps, where that was not agreed on.
    NotRtp {
        /// Datagrams refused.
        packets: u64,
    },
    /// Nothing at all comes.
    Nothing {
        /// Where the SDP said it would come from.
        told: SocketAddr,
    },
    /// The agent has said nothing that could be played.
    AgentSilent {
        /// Messages that came from it.
        messages: u64,
        /// For so long.
        seconds: u64,
    },
}

impl OneWay {
    /// The cause in a word, for metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stranger { .. } => "stranger",
            Self::PayloadType { .. } => "payload_type",
            Self::Insecure { .. } => "insecure",
            Self::NotRtp { .. } => "not_rtp",
            Self::Nothing { .. } => "nothing",
            Self::AgentSilent { .. } => "agent_silent",
        }
    }
}

impl fmt::Display for OneWay {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stranger { seen, told, packets } => write!(
                formatter,
                "the caller is not heard: {packets} packets came from {seen}, and the SDP names {told}; if the carrier \
                 sends from there, add the address to the trunk's ranges"
            ),
            Self::PayloadType { seen, agreed, packets } => write!(
                formatter,
                "the caller is not heard: {packets} packets came with payload type {seen}, and {agreed} was agreed on"
            ),
            Self::Insecure { in_the_clear, unauthentic } => write!(
                formatter,
                "the caller is not heard: SRTP was agreed on, and {in_the_clear} packets came in the clear and \
                 {unauthentic} that the key agreed on does not open"
            ),
            Self::NotRtp { packets } => write!(
                formatter,
                "the caller is not heard: {packets} datagrams came that are no RTP; encrypted, perhaps, where that was \
                 not agreed on"
            ),
            Self::Nothing { told } => write!(
                formatter,
                "the caller is not heard: nothing came to our media port, from {told} or anywhere; look at the firewall, \
                 and at media.public_address if this server is behind NAT"
            ),
            Self::AgentSilent { messages, seconds } => write!(
                formatter,
                "the agent is not heard: no audio of it could be played in {seconds} s, of {messages} messages that came"
            ),
        }
    }
}

/// Looks twice.
#[derive(Debug, Default)]
pub(super) struct OneWayWatch {
    caller_due: Option<Instant>,
    agent_due: Option<Instant>,
}

/// What is looked at.
pub(super) struct Seen {
    pub(super) rtp: RtpStatistics,
    /// Where the SDP says that audio comes from, and what payload type was agreed on; nothing while no audio is owed.
    pub(super) owed: Option<(SocketAddr, u8)>,
    pub(super) heard_ms: u64,
    pub(super) agent_messages: u64,
}

impl OneWayWatch {
    /// Audio flows from now on.
    pub(super) fn begin(&mut self, now: Instant) {
        self.caller_due = Some(now + CALLER_PATIENCE);
        self.agent_due = Some(now + AGENT_PATIENCE);
    }

    pub(super) fn due(&self) -> Option<Instant> {
        [self.caller_due, self.agent_due].into_iter().flatten().min()
    }

    /// What is wrong, if it is time to look and something is.
    pub(super) fn look(&mut self, now: Instant, seen: impl FnOnce() -> Seen) -> Option<OneWay> {
        if self.caller_due.is_some_and(|due| now >= due) {
            self.caller_due = None;
            return caller_fault(&seen());
        }
        if self.agent_due.is_some_and(|due| now >= due) {
            self.agent_due = None;
            let seen = seen();
            let (messages, seconds) = (seen.agent_messages, AGENT_PATIENCE.as_secs());
            return (seen.heard_ms == 0).then_some(OneWay::AgentSilent { messages, seconds });
        }
        None
    }
}

fn caller_fault(seen: &Seen) -> Option<OneWay> {
    let rtp = &seen.rtp;
    let (told, agreed) = seen.owed.filter(|_| rtp.packets_received == 0)?;
    Some(match (rtp.stranger, rtp.wrong_payload_type) {
        (_, Some(number)) => OneWay::PayloadType { seen: number, agreed, packets: rtp.wrong_payloads },
        (Some(source), None) => OneWay::Stranger { seen: source, told, packets: rtp.strangers },
        (None, None) if rtp.refused_in_the_clear + rtp.refused_unauthentic > 0 => {
            OneWay::Insecure { in_the_clear: rtp.refused_in_the_clear, unauthentic: rtp.refused_unauthentic }
        }
        (None, None) if rtp.malformed > 0 => OneWay::NotRtp { packets: rtp.malformed },
        (None, None) => OneWay::Nothing { told },
    })
}
