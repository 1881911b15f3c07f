//! What the media path counted over a whole call, as its record tells it.
//!
//! Figures only: no audio, no addresses but the two ends of the path. The delays are what Tandem itself added, each way,
//! as a histogram.

use std::net::SocketAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_media::srtp::Suite;
use tandem_media::{Codec, RtpStatistics, quality};

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
    /// Packets that came too late to be heard.
    pub packets_late: u64,
    /// The caller's audio as the agent gets it; nothing before its first packet.
    pub to_agent_quality: Option<PathQuality>,
    /// The agent's audio as the caller gets it, as far as the caller's side reported by RTCP.
    pub to_caller_quality: Option<PathQuality>,
    /// From the start of the audio to the caller's first, in milliseconds.
    pub first_caller_audio_ms: Option<u64>,
    /// From the start of the audio to the agent's first that left towards the caller.
    pub first_agent_audio_ms: Option<u64>,
    /// From the caller's last word to the agent's first, for each turn.
    pub agent_gap: DelaySummary,
    /// From a RTP packet's arrival to its audio leaving for the agent.
    pub to_agent_delay: DelaySummary,
    /// From an agent message's arrival to its audio leaving as RTP, beyond the wait for the next packet that any audio has.
    pub to_caller_delay: DelaySummary,
    /// The call's recording, if there is one.
    pub recording: Option<RecordingSummary>,
}

impl MediaSummary {
    /// What a bridge counted, for the parts that it knows.
    #[must_use]
    pub fn of(statistics: &BridgeStatistics) -> Self {
        let rtp = &statistics.rtp;
        let summary = Self {
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
            packets_late: rtp.late,
            to_agent_quality: PathQuality::to_agent(statistics),
            to_caller_quality: PathQuality::to_caller(statistics),
            first_caller_audio_ms: statistics.first_caller_audio.map(ms),
            first_agent_audio_ms: statistics.first_agent_audio.map(ms),
            agent_gap: DelaySummary::of(&statistics.agent_gap),
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
        };
        summary.spoken_in(statistics.codec).encrypted_by(statistics.suite)
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

/// What a listener would say of one direction of a call: an estimate by the E-model (ITU-T G.107) of what was measured.
/// [`tandem_media::quality`] has its constants.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathQuality {
    /// Packets lost or too late, in percent.
    pub loss_percent: f64,
    /// From mouth to ear, in milliseconds: a packet's length, half the round trip if it is known, the jitter buffer, what was
    /// added here. What agents do with audio is not in it.
    pub delay_ms: u64,
    /// The rating R, 0 to 93.2.
    pub rating: f64,
    /// The mean opinion score, 1 to 4.5.
    pub mos: f64,
}

impl PathQuality {
    /// The caller's audio: loss and lateness as we saw them, our jitter buffer.
    fn to_agent(statistics: &BridgeStatistics) -> Option<Self> {
        let rtp = &statistics.rtp;
        let lost = u64::try_from(rtp.packets_lost).unwrap_or(0);
        let expected = rtp.packets_received + lost;
        let added = statistics.inbound_delay.percentile(50.0);
        (rtp.packets_received > 0).then(|| {
            Self::of(rtp, lost + rtp.late, expected, Duration::from_micros(rtp.patience_us.into()) + added)
        })
    }

    /// The agent's audio: loss as the caller's side reported it, and a jitter buffer of twice the jitter it reported.
    fn to_caller(statistics: &BridgeStatistics) -> Option<Self> {
        let rtp = &statistics.rtp;
        let lost = u64::try_from(rtp.remote_lost?).unwrap_or(0);
        let buffer = Duration::from_micros(u64::from(rtp.remote_jitter_us.unwrap_or(0)) * 2);
        let added = statistics.outbound_delay.percentile(50.0);
        (rtp.packets_sent > 0).then(|| Self::of(rtp, lost, rtp.packets_sent, buffer + added))
    }

    fn of(rtp: &RtpStatistics, lost: u64, expected: u64, held: Duration) -> Self {
        const PACKET: Duration = Duration::from_millis(20);
        let half_trip = Duration::from_micros(u64::from(rtp.round_trip_us.unwrap_or(0)) / 2);
        let loss = lost as f64 / expected.max(1) as f64;
        let delay_ms = ms(PACKET + half_trip + held);
        let rating = quality::rating(loss, delay_ms as f64);
        let two_places = |value: f64| (value * 100.0).round() / 100.0;
        Self {
            loss_percent: two_places(loss.min(1.0) * 100.0),
            delay_ms,
            rating: two_places(rating),
            mos: two_places(quality::opinion(rating)),
        }
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
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
        let us = |delay: Duration| u64::try_from(delay.as_micros()).unwrap_or(u64::MAX);
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

    #[test]
    fn a_clean_path_is_rated_best_and_loss_is_told_by_direction() {
        let mut statistics = BridgeStatistics::default();
        assert_eq!(PathQuality::to_agent(&statistics), None);
        statistics.rtp.packets_received = 950;
        statistics.rtp.packets_sent = 1_000;
        let clean = PathQuality::to_agent(&statistics).unwrap();
        assert_eq!((clean.loss_percent, clean.delay_ms, clean.rating, clean.mos), (0.0, 20, 93.2, 4.41));
        statistics.rtp.packets_lost = 50;
        statistics.rtp.late = 10;
        let lossy = PathQuality::to_agent(&statistics).unwrap();
        assert_eq!(lossy.loss_percent, 6.0);
        assert!((3.5..4.0).contains(&lossy.mos), "{lossy:?}");
        assert_eq!(PathQuality::to_caller(&statistics), None, "the caller's side said nothing");
        statistics.rtp.remote_lost = Some(100);
        statistics.rtp.round_trip_us = Some(600_000);
        let far = PathQuality::to_caller(&statistics).unwrap();
        assert_eq!((far.loss_percent, far.delay_ms), (10.0, 320));
        assert!(far.mos < lossy.mos);
    }

    /// Records stored before a figure was known are read all the same.
    #[test]
    fn a_summary_without_delays_is_read() {
        let summary: MediaSummary = serde_json::from_str(r#"{"packets_sent": 7}"#).unwrap();
        assert_eq!((summary.packets_sent, summary.to_agent_delay.count), (7, 0));
    }
}
