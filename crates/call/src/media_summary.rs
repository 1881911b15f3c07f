//! What the media path counted over a whole call, as its record tells it.
//!
//! Figures only: no audio, no addresses but the two ends of the path. The delays are what Tandem itself added, each way,
//! as a histogram.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use tandem_media::Codec;
use tandem_media::srtp::Suite;

use crate::bridge::{BridgeStatistics, DelayHistogram};
use crate::recording::RecordingSummary;

/// What the media path counted over the whole call. Zero everywhere when no media ran.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MediaSummary {
    /// Where the caller's audio came from, once latched.
    pub remote: Option<SocketAddr>,
    /// Our own RTP address.
    pub local: Option<SocketAddr>,
    /// `"PCMU"`, `"PCMA"` or `"G722"`.
    pub codec: Option<String>,
    /// The crypto suite of SRTP, such as `"AES_CM_128_HMAC_SHA1_80"`; none for RTP in the clear.
    pub encryption: Option<String>,
    /// RTP packets in the clear that were not heard because SRTP was agreed on.
    pub packets_refused_in_the_clear: u64,
    /// RTCP compounds in the clear that were not read because SRTP was agreed on.
    pub rtcp_refused_in_the_clear: u64,
    /// SRTP and SRTCP packets that were not heard because they do not match the key agreed on.
    pub packets_refused_unauthentic: u64,
    /// SRTP and SRTCP packets that were not heard because they came before.
    pub packets_refused_replayed: u64,
    /// RTP packets taken from the caller.
    pub packets_received: u64,
    /// RTP packets sent to the caller.
    pub packets_sent: u64,
    /// RTP packets that should have come and did not.
    pub packets_lost: u64,
    /// Packets refused because they came from a stranger.
    pub packets_from_strangers: u64,
    /// 20 ms frames of the caller of which some part was made up, for loss, lateness or silence of its sender.
    pub frames_concealed: u64,
    /// Interarrival jitter at the end of the call (RFC 3550 6.4.1), in microseconds.
    pub jitter_us: u64,
    /// Round trip by RTCP, when the peer reported, in microseconds.
    pub round_trip_us: Option<u64>,
    /// Packets of ours that the peer last reported lost, in all.
    pub remote_packets_lost: Option<i32>,
    /// Jitter of what we send, as the peer last reported it, in microseconds.
    pub remote_jitter_us: Option<u64>,
    /// Messages received from the agent.
    pub agent_frames_received: u64,
    /// Audio messages sent to the agent.
    pub agent_frames_sent: u64,
    /// Audio messages for the agent that were dropped because it did not read.
    pub agent_frames_dropped: u64,
    /// Milliseconds of the agent's audio that truly left towards the caller.
    pub heard_ms: u64,
    /// Milliseconds of the agent's audio that a full queue refused.
    pub overflow_ms: u64,
    /// Marks whose audio was played.
    pub marks_played: u64,
    /// Times the agent dropped its queue (barge-in).
    pub flushes: u64,
    /// DTMF digits heard from the caller.
    pub digits: u32,
    /// From a RTP packet's arrival to its audio leaving for the agent.
    pub to_agent_delay: DelaySummary,
    /// From an agent message's arrival to its audio leaving as RTP, beyond the wait for the next packet that any audio has.
    pub to_caller_delay: DelaySummary,
    /// The call's recording, if there is one.
    pub recording: Option<RecordingSummary>,
}

impl MediaSummary {
    /// What a bridge counted, for the parts that it knows.
    pub(crate) fn of(statistics: &BridgeStatistics) -> Self {
        let rtp = &statistics.rtp;
        Self {
            remote: rtp.latched,
            packets_received: rtp.packets_received,
            packets_sent: rtp.packets_sent,
            packets_lost: u64::try_from(rtp.packets_lost).unwrap_or(0),
            packets_from_strangers: rtp.strangers,
            packets_refused_in_the_clear: rtp.refused_in_the_clear,
            rtcp_refused_in_the_clear: rtp.refused_rtcp_in_the_clear,
            packets_refused_unauthentic: rtp.refused_unauthentic,
            packets_refused_replayed: rtp.refused_replayed,
            frames_concealed: rtp.concealed_frames,
            jitter_us: rtp.jitter_us.into(),
            round_trip_us: rtp.round_trip_us.map(u64::from),
            remote_packets_lost: rtp.remote_lost,
            remote_jitter_us: rtp.remote_jitter_us.map(u64::from),
            agent_frames_received: statistics.agent_frames_received,
            agent_frames_sent: statistics.agent_frames_sent,
            agent_frames_dropped: statistics.agent_frames_dropped,
            heard_ms: statistics.heard_ms,
            overflow_ms: statistics.overflow_ms,
            marks_played: statistics.marks_played,
            flushes: statistics.flushes,
            to_agent_delay: DelaySummary::of(&statistics.inbound_delay),
            to_caller_delay: DelaySummary::of(&statistics.outbound_delay),
            ..Self::default()
        }
    }

    /// The codec that was spoken.
    pub(crate) fn spoken_in(self, codec: Option<Codec>) -> Self {
        Self { codec: codec.map(|codec| codec.encoding_name().to_owned()), ..self }
    }

    /// The suite it was encrypted by.
    pub(crate) fn encrypted_by(self, suite: Option<Suite>) -> Self {
        Self { encryption: suite.map(|suite| suite.name().to_owned()), ..self }
    }
}

/// Delays of one kind and one call, in microseconds. Percentiles are upper edges of the histogram's buckets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct DelaySummary {
    /// How many were measured: one for each packet or message.
    pub count: u64,
    /// Their mean.
    pub mean_us: u64,
    /// Half of them were no longer.
    pub p50_us: u64,
    /// 95 of 100 were no longer.
    pub p95_us: u64,
    /// 99 of 100 were no longer.
    pub p99_us: u64,
    /// The longest.
    pub max_us: u64,
    /// Each bucket that is not empty: its upper edge and how many fell into it, in rising order.
    pub histogram: Vec<(u64, u32)>,
}

impl DelaySummary {
    fn of(delays: &DelayHistogram) -> Self {
        let us = |delay: std::time::Duration| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
        let buckets = delays.buckets().filter(|(_, count)| *count > 0);
        Self {
            count: delays.count(),
            mean_us: us(delays.mean()),
            p50_us: us(delays.percentile(50.0)),
            p95_us: us(delays.percentile(95.0)),
            p99_us: us(delays.percentile(99.0)),
            max_us: us(delays.max()),
            histogram: buckets.map(|(upper, count)| (us(upper), count)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn delays_are_told_as_percentiles_and_as_the_buckets_that_hold_any() {
        let mut delays = DelayHistogram::default();
        for us in [10, 10, 100, 20_000] {
            delays.record(Duration::from_micros(us));
        }
        let summary = DelaySummary::of(&delays);
        assert_eq!((summary.count, summary.mean_us, summary.max_us), (4, 5030, 20_000));
        assert_eq!(summary.p50_us, 16);
        assert_eq!(summary.histogram.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [2, 1, 1]);
        assert!(summary.histogram.windows(2).all(|pair| pair[0].0 < pair[1].0));
        let text = serde_json::to_string(&summary).unwrap();
        assert_eq!(serde_json::from_str::<DelaySummary>(&text).unwrap(), summary);
    }

    /// Records stored before a figure was known are read all the same.
    #[test]
    fn a_summary_without_delays_is_read() {
        let summary: MediaSummary = serde_json::from_str(r#"{"packets_sent": 7}"#).unwrap();
        assert_eq!((summary.packets_sent, summary.to_agent_delay.count), (7, 0));
    }
}
