//! One RTP session: the caller's media port as the bridge sees it.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::g711;
use crate::latch::{Admission, Latch, LatchPolicy};
use crate::rtp::packet::{self, Packet};
use crate::rtp::send::Sender;
use crate::sdp::MediaParameters;
use crate::{FRAME_BYTES, FRAME_BYTES_MAX};

/// What a session is made of.
#[derive(Debug, Clone)]
pub struct SessionConfig {
    /// What was negotiated.
    pub parameters: MediaParameters,
    /// Who may be heard.
    pub latch: LatchPolicy,
    /// Our synchronization source; random.
    pub ssrc: u32,
    /// Our first sequence number; random.
    pub first_sequence: u16,
    /// Our first timestamp; random.
    pub first_timestamp: u32,
    /// Seed of the random intervals between reports.
    pub seed: u64,
}

/// 20 ms of what the caller said, in the negotiated law.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressFrame {
    /// 160 bytes of G.711.
    pub audio: [u8; FRAME_BYTES],
    /// Milliseconds since the stream began; rises by 20 from frame to frame, without exception.
    pub timestamp_ms: u64,
    /// Whether any of it was made up for audio that was lost, late or never sent.
    pub concealed: bool,
}

/// A DTMF digit the caller pressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digit {
    /// `0` to `9`, `*`, `#`, `A` to `D`, or `!` for a hook flash.
    pub digit: char,
    /// How long it was held.
    pub duration_ms: u32,
}

/// What happened to a received datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Received {
    /// Taken.
    Accepted,
    /// Taken, and its source is from now on the peer.
    Latched(SocketAddr),
    /// From a stranger: neither heard nor answered.
    Stranger,
    /// Not RTP, or of a format that was not negotiated, or not ours to hear now.
    Ignored,
}

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
    /// when duplicates arrive.
    pub packets_lost: i64,
    /// Packets that came after a later one.
    pub out_of_order: u64,
    /// Packets that came twice.
    pub duplicates: u64,
    /// Packets that came after their place had been made up.
    pub late: u64,
    /// Frames towards the agent of which some part was made up.
    pub concealed_frames: u64,
    /// Interarrival jitter in microseconds (RFC 3550 A.8).
    pub jitter_us: u32,
    /// Round trip in microseconds, as reports last told it.
    pub round_trip_us: Option<u32>,
    /// Loss the peer last reported for what we send, in 256ths.
    pub remote_fraction_lost: Option<u8>,
    /// Jitter the peer last reported for what we send, in microseconds.
    pub remote_jitter_us: Option<u32>,
    /// The peer's media source, once latched.
    pub latched: Option<SocketAddr>,
    /// Datagrams from strangers.
    pub strangers: u64,
    /// Datagrams that were no RTP or of an unknown format.
    pub malformed: u64,
    /// Times the peer's source identifier changed.
    pub source_changes: u32,
    /// RTCP compounds received and sent.
    pub rtcp_received: u64,
    /// RTCP compounds sent.
    pub rtcp_sent: u64,
    /// DTMF digits received.
    pub digits_received: u64,
}

/// One RTP session.
#[derive(Debug)]
pub struct Session {
    parameters: MediaParameters,
    latch: Latch,
    sender: Sender,
    started: Option<Instant>,
    frames: u64,
    audio: Vec<u8>,
    due: Option<Instant>,
    statistics: RtpStatistics,
}

const FRAME: Duration = Duration::from_millis(20);

impl Session {
    /// A session that may receive at once, sends when told to, and hands nothing to the agent before
    /// [`Session::start`].
    pub fn new(config: SessionConfig, _now: Instant) -> Self {
        let SessionConfig { parameters, latch, ssrc, first_sequence, first_timestamp, seed: _ } = config;
        Self {
            latch: Latch::new(latch, parameters.remote),
            parameters,
            sender: Sender::new(ssrc, first_sequence, first_timestamp),
            started: None,
            frames: 0,
            audio: Vec::with_capacity(8 * FRAME_BYTES_MAX),
            due: None,
            statistics: RtpStatistics::default(),
        }
    }

    /// Begins the stream towards the agent: from here on there is a frame for every 20 ms.
    pub fn start(&mut self, now: Instant) {
        self.started = Some(now);
        self.due = Some(now + FRAME);
    }

    /// Takes the outcome of a renegotiation.
    pub fn update(&mut self, parameters: MediaParameters) {
        self.latch.renegotiate(parameters.remote);
        self.parameters = parameters;
    }

    /// Takes a datagram from the RTP port.
    pub fn handle_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Received {
        if packet::is_rtcp(datagram) {
            return self.handle_rtcp(now, source, datagram);
        }
        let admission = self.latch.admit(source);
        if admission == Admission::Stranger {
            self.statistics.strangers += 1;
            return Received::Stranger;
        }
        let law = Packet::parse(datagram)
            .ok()
            .and_then(|packet| Some((packet, self.parameters.law_of(packet.header.payload_type)?)));
        let Some((packet, law)) = law else {
            self.statistics.malformed += 1;
            return Received::Ignored;
        };
        let latched = self.latch.latch(source);
        self.statistics.packets_received += 1;
        self.statistics.bytes_received += packet.payload.len() as u64;
        if self.started.is_some() && self.audio.len() + packet.payload.len() <= self.audio.capacity() {
            let start = self.audio.len();
            self.audio.extend_from_slice(packet.payload);
            g711::transcode_in_place(law, self.parameters.law, &mut self.audio[start..]);
        }
        if latched { Received::Latched(source) } else { Received::Accepted }
    }

    /// Takes a datagram from the RTCP port.
    pub fn handle_rtcp(&mut self, _now: Instant, _source: SocketAddr, _datagram: &[u8]) -> Received {
        self.statistics.rtcp_received += 1;
        Received::Accepted
    }

    /// The next 20 ms of what the caller said, if it is there or overdue. Call until `None`.
    pub fn poll_ingress(&mut self, now: Instant) -> Option<IngressFrame> {
        self.started?;
        let due = self.due?;
        let mut frame = IngressFrame {
            audio: [self.parameters.law.silence(); FRAME_BYTES],
            timestamp_ms: self.frames * 20,
            concealed: false,
        };
        if self.audio.len() >= FRAME_BYTES {
            frame.audio.copy_from_slice(&self.audio[..FRAME_BYTES]);
            self.audio.drain(..FRAME_BYTES);
            self.due = Some(now + FRAME + FRAME);
        } else if now >= due {
            frame.concealed = true;
            self.statistics.concealed_frames += 1;
            self.due = Some(due + FRAME);
        } else {
            return None;
        }
        self.frames += 1;
        Some(frame)
    }

    /// The next digit the caller pressed.
    pub fn poll_dtmf(&mut self) -> Option<Digit> {
        None
    }

    /// When [`Session::poll_ingress`] or [`Session::poll_rtcp`] will next have something to do on its own.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }

    /// Sends one frame of audio in the negotiated law, once for every tick of the egress clock. Appends
    /// the packet to `out` and says where it goes; `None` when nothing is to be sent, for the direction
    /// or for want of an address. The media clock runs on all the same.
    pub fn send_frame(&mut self, _now: Instant, audio: &[u8], out: &mut Vec<u8>) -> Option<SocketAddr> {
        let destination = self.latch.destination().filter(|_| self.parameters.direction.sends());
        let Some(destination) = destination else {
            self.sender.advance(audio.len() as u32);
            self.sender.pause();
            return None;
        };
        self.sender.audio(self.parameters.payload_type, audio, out);
        self.statistics.packets_sent += 1;
        self.statistics.bytes_sent += audio.len() as u64;
        Some(destination)
    }

    /// Queues a digit to be sent as RFC 4733 events in place of the audio; returns whether it could be.
    pub fn send_dtmf(&mut self, _digit: char, _duration_ms: u32) -> bool {
        false
    }

    /// A report that is due. Appends it to `out` and says where it goes.
    pub fn poll_rtcp(&mut self, _now: Instant, _out: &mut Vec<u8>) -> Option<SocketAddr> {
        None
    }

    /// The goodbye to send when the call ends.
    pub fn goodbye(&mut self, _now: Instant, _out: &mut Vec<u8>) -> Option<SocketAddr> {
        None
    }

    /// The parameters the session runs by.
    pub fn parameters(&self) -> &MediaParameters {
        &self.parameters
    }

    /// Figures so far.
    pub fn statistics(&self) -> RtpStatistics {
        RtpStatistics { latched: self.latch.latched(), ..self.statistics }
    }
}
