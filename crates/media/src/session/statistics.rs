//! What one session has counted and measured: figures, and nothing that decides anything.

use std::net::SocketAddr;

/// Figures of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RtpStatistics {
    /// RTP packets taken from the peer.
    pub packets_received: u64,
    /// Payload bytes of them.
    pub bytes_received: u64,
    /// RTP packets sent.
    pub packets_sent: u64,
    /// Payload bytes of them.
    pub bytes_sent: u64,
    /// Packets the sequence numbers say were sent but that never came (RFC 3550 A.3); may fall again
    /// when late ones arrive.
    pub packets_lost: i64,
    /// Packets that came after a later one.
    pub out_of_order: u64,
    /// Where a packet last came from that was refused as a stranger's.
    pub stranger: Option<SocketAddr>,
    /// RTP packets in a format that was not agreed on, or too long for it; among the malformed.
    pub wrong_payloads: u64,
    /// The payload type of the last of them.
    pub wrong_payload_type: Option<u8>,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came before the stream began, more than are kept until then.
    pub early_dropped: u64,
    /// Packets that came after their place had been made up.
    pub late: u64,
    /// Frames towards the agent of which some part was made up.
    pub concealed_frames: u64,
    /// Frames towards the agent.
    pub ingress_frames: u64,
    /// Interarrival jitter in microseconds (RFC 3550 A.8).
    pub jitter_us: u32,
    /// How long a missing packet is waited for now, in microseconds.
    pub patience_us: u32,
    /// Round trip in microseconds, as reports last told it.
    pub round_trip_us: Option<u32>,
    /// Loss the peer last reported for what we send, in 256ths.
    pub remote_fraction_lost: Option<u8>,
    /// Packets lost in all the peer last reported for what we send.
    pub remote_lost: Option<i32>,
    /// Jitter the peer last reported for what we send, in microseconds.
    pub remote_jitter_us: Option<u32>,
    /// The peer's media source, once latched.
    pub latched: Option<SocketAddr>,
    /// Datagrams from strangers.
    pub strangers: u64,
    /// Datagrams that were no RTP or RTCP, or of a format that was not negotiated.
    pub malformed: u64,
    /// Times the peer's source identifier changed or its sequence began anew.
    pub source_changes: u32,
    /// Jumps of the peer's timestamp that no pause explains.
    pub timestamp_jumps: u64,
    /// RTCP compounds received.
    pub rtcp_received: u64,
    /// RTCP compounds sent.
    pub rtcp_sent: u64,
    /// DTMF digits received.
    pub digits_received: u64,
    /// Those of them that were found as tones in the audio.
    pub inband_digits: u64,
    /// Whether the peer said goodbye in RTCP.
    pub goodbye_received: bool,
    /// RTP packets in the clear that were refused because SRTP was agreed on.
    pub refused_in_the_clear: u64,
    /// RTCP compounds in the clear that were refused because SRTP was agreed on. Some peers open a NAT's way with one before
    /// they have keys, or say goodbye when they have let them go.
    pub refused_rtcp_in_the_clear: u64,
    /// SRTP and SRTCP packets refused because their tag does not match.
    pub refused_unauthentic: u64,
    /// SRTP and SRTCP packets refused because they came before, or are too old to know.
    pub refused_replayed: u64,
    /// ICE checks answered.
    pub checks_answered: u64,
}
