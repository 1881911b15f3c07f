//! One RTP session: the media port of one leg as the bridge sees it.
//!
//! It ties the parts together and owns the clock of none: latch, sequence checks, timeline, events and
//! reports. What it refuses: to know the agent, to queue what the agent says (that is [`crate::playout`]),
//! and to send anything before it is told to.
//!
//! After each call that changes something, drain [`Session::poll_ingress`], [`Session::poll_dtmf`] and
//! [`Session::poll_rtcp`] until `None`; [`Session::poll_timeout`] then says when to come back.
//!
//! The session speaks one form of audio to its owner, that of the codec of its first negotiation: G.711 as it is,
//! G.722 as 16 kHz linear. If a renegotiation agrees on another codec, packets are converted here; otherwise G.711
//! passes bit for bit.
//!
//! With keys, everything that leaves is protected and nothing is believed that does not open; with ICE, the peer's checks are
//! answered and its nomination moves the latch.
//!
//! RFC 3550; RFC 3551; RFC 3711; RFC 4733; RFC 5761 section 4; RFC 8445.

mod checks;
mod secured;
mod statistics;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::SAMPLE_RATE_HZ;
use crate::codec::{Codec, Coding, TICKS_PER_MS};
use crate::dtmf::{Digit, DtmfReceiver, DtmfSender};
use crate::ice::{Checked, is_stun};
use crate::jitter::{self, JitterBuffer};
use crate::latch::{Admission, Latch, LatchPolicy};
use crate::payload::PayloadWriter;
use crate::rtp::packet::{self, HEADER_BYTES, Packet};
use crate::rtp::receive::{Receiver, Reception};
use crate::rtp::reports::Reports;
use crate::rtp::rtcp::Compound;
use crate::rtp::send::Sender;
use crate::sdp::{MediaParameters, TelephoneEvent};
use crate::tones::ToneDetector;

pub use checks::Component;
pub use secured::SecurityTrouble;
pub use statistics::RtpStatistics;

use checks::Checks;
use secured::{Refused, Secured};

/// Comfort noise (RFC 3389), which some peers send though it was not negotiated.
const COMFORT_NOISE: u8 = 13;
/// Largest payload that is converted and taken, in bytes: 200 ms.
const PAYLOAD_MAX: usize = 1_600;
/// Audio kept that came before the stream began, in bytes and packets: 2 s, in which an ACK that was lost twice is
/// there. Of more the oldest is let go.
const EARLY_BYTES_MAX: usize = 16_000;
const EARLY_PACKETS_MAX: usize = 200;

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
    /// Whether keys are sought in the peer's audio.
    pub tones: Tones,
    /// Seed of the random intervals between reports; also names us in them.
    pub seed: u64,
}

/// Whether the peer's audio is searched for DTMF.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tones {
    /// While no telephone events are agreed on.
    #[default]
    WithoutEvents,
    /// Until an event comes: some carriers agree on events and send tones, and who sends events may send both.
    Sought,
    /// Never.
    Ignored,
}

/// 20 ms of what the caller said; its audio is [`Session::ingress_audio`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IngressFrame {
    /// Milliseconds since the stream began; rises by 20 from frame to frame, without exception.
    pub timestamp_ms: u64,
    /// Whether any of it was made up for audio that was lost, late or never sent.
    pub concealed: bool,
    /// When the packet that completed the frame came: what the added delay is counted from. `None` when
    /// the frame's end was made up.
    pub arrived: Option<Instant>,
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
    /// Not RTP, of a format that was not negotiated, or come twice.
    Ignored,
    /// Not taken for the sake of security, and so have been a good many in a row. Told once for each such row.
    Troubled(SecurityTrouble),
}

/// One RTP session.
#[derive(Debug)]
pub struct Session {
    parameters: MediaParameters,
    /// The form of audio spoken with the owner.
    coding: Coding,
    epoch: Instant,
    latch: Latch,
    receiver: Receiver,
    /// There from the start of the stream towards the agent.
    timeline: Option<JitterBuffer>,
    /// What the peer said before that: it is told first, so that a first word is whole.
    early: VecDeque<Early>,
    early_bytes: usize,
    dtmf: DtmfReceiver,
    tones: Tones,
    tone_detector: Option<Box<ToneDetector>>,
    sender: Sender,
    dtmf_sender: DtmfSender,
    reports: Reports,
    /// Where the peer's reports come from.
    rtcp_source: Option<SocketAddr>,
    last_received: Option<Instant>,
    /// When the stream towards the agent began.
    started_us: i64,
    writer: PayloadWriter,
    /// Known since the last look: before this moment neither frame nor digit falls due by time alone. It is
    /// asked for several times a packet, and the answer costs as much as the packet.
    quiet_until: Option<Instant>,
    /// Keys at work, where media is encrypted.
    secured: Option<Box<Secured>>,
    refused: Refused,
    /// One packet's clear form while it is taken.
    opened: Vec<u8>,
    checks: Checks,
    statistics: RtpStatistics,
}

impl Session {
    /// A session that may receive at once, sends when told to, and hands nothing to the agent before
    /// [`Session::start`].
    pub fn new(config: SessionConfig, now: Instant) -> Self {
        let SessionConfig { parameters, latch, tones, ssrc, mut first_sequence, first_timestamp, seed } =
            config;
        let secured = parameters.srtp.as_ref().map(|keys| Box::new(Secured::new(keys)));
        if secured.is_some() {
            // RFC 4568 section 6.4: "SHOULD be chosen to be within the range of 0..2^15-1; this avoids an ambiguity when
            // packets are lost at the start of the session".
            first_sequence &= 0x7FFF;
        }
        Self {
            coding: parameters.codec.coding(),
            writer: PayloadWriter::new(parameters.codec.coding()),
            epoch: now,
            latch: Latch::new(latch, parameters.remote),
            parameters,
            receiver: Receiver::default(),
            timeline: None,
            early: VecDeque::new(),
            early_bytes: 0,
            dtmf: DtmfReceiver::default(),
            tones,
            tone_detector: None,
            sender: Sender::new(ssrc, first_sequence, first_timestamp),
            dtmf_sender: DtmfSender::default(),
            reports: Reports::new(seed, now),
            rtcp_source: None,
            last_received: None,
            started_us: 0,
            quiet_until: None,
            secured,
            refused: Refused::default(),
            opened: Vec::new(),
            checks: Checks::default(),
            statistics: RtpStatistics::default(),
        }
    }

    /// Begins the stream towards the agent, with a frame for every 20 ms from here on, and the reports. What
    /// the peer has said since it had our answer comes first, at once, with the time it came at.
    pub fn start(&mut self, now: Instant) {
        self.quiet_until = None;
        if self.timeline.is_none() {
            let begin_us =
                self.early.front().map_or_else(|| self.microseconds(now), |early| early.arrival_us);
            self.timeline = Some(JitterBuffer::new(self.coding, begin_us));
            self.started_us = self.microseconds(now);
            self.reports.schedule(now);
        }
    }

    /// Takes the outcome of a renegotiation.
    pub fn update(&mut self, parameters: MediaParameters) {
        self.latch.renegotiate(parameters.remote);
        if parameters.remote_rtcp != self.parameters.remote_rtcp
            || parameters.remote != self.parameters.remote
        {
            self.rtcp_source = None;
        }
        match (&mut self.secured, &parameters.srtp) {
            (Some(secured), Some(keys)) => secured.change(keys),
            (secured, keys) => *secured = keys.as_ref().map(|keys| Box::new(Secured::new(keys))),
        }
        self.parameters = parameters;
    }

    /// Takes a datagram from the RTP port.
    pub fn handle_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Received {
        if is_stun(datagram) {
            return self.handle_check(Component::Rtp, source, datagram);
        }
        if packet::is_rtcp(datagram) {
            return self.handle_rtcp(now, source, datagram);
        }
        if self.latch.admit(source) == Admission::Stranger {
            self.statistics.strangers += 1;
            self.statistics.stranger = Some(source);
            return Received::Stranger;
        }
        let Some(secured) = &mut self.secured else { return self.take_rtp(now, source, datagram) };
        let mut opened = std::mem::take(&mut self.opened);
        let received = match secured.open_rtp(datagram, &mut opened, &self.parameters, &mut self.refused) {
            Ok(()) => self.take_rtp(now, source, &opened),
            Err(trouble) => trouble.map_or(Received::Ignored, Received::Troubled),
        };
        self.opened = opened;
        received
    }

    /// A packet in the clear, or opened, of a source that may be heard.
    fn take_rtp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Received {
        let Ok(packet) = Packet::parse(datagram) else {
            self.statistics.malformed += 1;
            return Received::Ignored;
        };
        let Some(content) = self.content(&packet) else {
            self.statistics.malformed += 1;
            self.statistics.wrong_payloads += 1;
            self.statistics.wrong_payload_type = Some(packet.header.payload_type);
            return Received::Ignored;
        };
        self.quiet_until = None;
        let latched = self.latch.latch(source);
        if packet.header.ssrc == self.sender.ssrc() {
            self.resolve_collision();
        }
        let arrival_us = self.microseconds(now);
        self.statistics.bytes_received += packet.payload.len() as u64;
        self.last_received = Some(now);
        let extended = match self.receiver.handle(&packet.header, arrival_us) {
            Reception::InStream { extended } => extended,
            Reception::Begins { extended } => {
                self.dtmf.restart();
                if let Some(detector) = &mut self.tone_detector {
                    detector.restart();
                }
                if let Some(timeline) = &mut self.timeline {
                    timeline.restart();
                }
                // Another source, or the same begun anew: the numbers of what is kept mean something else.
                self.early.clear();
                self.early_bytes = 0;
                extended
            }
            Reception::Duplicate | Reception::Unconfirmed => {
                return received(latched, source, Received::Ignored);
            }
        };
        self.take_content(content, &packet, extended, arrival_us);
        received(latched, source, Received::Accepted)
    }

    /// Takes a datagram from the RTCP port.
    pub fn handle_rtcp(&mut self, now: Instant, source: SocketAddr, datagram: &[u8]) -> Received {
        if is_stun(datagram) {
            return self.handle_check(Component::Rtcp, source, datagram);
        }
        let named = self.parameters.remote_rtcp == Some(source);
        if !named && !self.latch.is_peer_host(source.ip()) {
            self.statistics.strangers += 1;
            return Received::Stranger;
        }
        if let Some(secured) = &mut self.secured
            && !secured.open_rtcp(datagram, &mut self.opened, &mut self.refused)
        {
            return Received::Ignored;
        }
        let compound = if self.secured.is_some() { &self.opened } else { datagram };
        let Ok(compound) = Compound::parse(compound, self.sender.ssrc()) else {
            self.statistics.malformed += 1;
            return Received::Ignored;
        };
        self.rtcp_source = Some(source);
        self.reports.handle(&compound, now);
        Received::Accepted
    }

    /// A check of the peer's ICE. Without ICE agreed on, STUN is noise.
    fn handle_check(&mut self, component: Component, source: SocketAddr, message: &[u8]) -> Received {
        let Some(credentials) = self.parameters.ice else {
            self.statistics.malformed += 1;
            return Received::Ignored;
        };
        match self.checks.handle(&credentials, component, source, message) {
            Checked::Answered { nominates: true } if component == Component::Rtp => {
                received(self.latch.nominate(source), source, Received::Accepted)
            }
            Checked::Answered { .. } => Received::Accepted,
            Checked::Ignored => {
                self.statistics.strangers += 1;
                Received::Stranger
            }
        }
    }

    /// A response to a check of the peer's ICE. Appends it to `out` and says from which port it leaves and where it goes.
    pub fn poll_check(&mut self, out: &mut Vec<u8>) -> Option<(Component, SocketAddr)> {
        self.checks.poll(out)
    }

    /// The next 20 ms of what the caller said, if it is there or overdue. Call until `None`.
    pub fn poll_ingress(&mut self, now: Instant) -> Option<IngressFrame> {
        if self.quiet_until.is_some_and(|until| now < until) {
            return None;
        }
        let now_us = self.microseconds(now);
        self.dtmf.expire(now_us);
        let Some(frame) = self.poll_timeline(now_us) else {
            self.quiet_until = self.due();
            return None;
        };
        self.seek_tones();
        // How long early audio waited for the start says nothing of the delay that is added here.
        let arrived = frame
            .arrival_us
            .filter(|at_us| *at_us >= self.started_us)
            .map(|at_us| self.epoch + Duration::from_micros(at_us.max(0) as u64));
        let timestamp_ms = frame.index * 20;
        Some(IngressFrame { timestamp_ms, concealed: frame.concealed, arrived })
    }

    /// The audio of the frame that [`Session::poll_ingress`] gave last, in the session's form, until it is called again.
    pub fn ingress_audio(&self) -> &[u8] {
        self.timeline.as_ref().map_or(&[], JitterBuffer::frame_audio)
    }

    /// The next digit the caller pressed. Call until `None`, after [`Session::poll_ingress`].
    pub fn poll_dtmf(&mut self) -> Option<Digit> {
        let digit = self.dtmf.poll()?;
        self.statistics.digits_received += 1;
        Some(digit)
    }

    /// When one of the `poll` functions will next have something to give though nothing came.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.quiet_until.or_else(|| self.due()).into_iter().chain(self.reports.due()).min()
    }

    /// Sends one frame of audio in the session's form, once for every tick of the egress clock. Appends the
    /// packet to `out` and says where it goes. A digit being sent takes the audio's place. `None` when
    /// nothing is to be sent, for the direction or for want of an address; the media clock runs on all
    /// the same.
    pub fn send_frame(&mut self, _now: Instant, audio: &[u8], out: &mut Vec<u8>) -> Option<SocketAddr> {
        let samples = (audio.len() * TICKS_PER_MS / self.coding.bytes_per_ms()) as u32;
        let destination = self.latch.destination().filter(|_| self.parameters.direction.sends());
        let Some(destination) = destination else {
            self.sender.advance(samples);
            self.sender.pause();
            return None;
        };
        let start = out.len();
        let event = self.parameters.telephone_event;
        let sent_event =
            event.is_some_and(|format| self.dtmf_sender.tick(samples, format, &mut self.sender, out));
        if !sent_event {
            self.sender.audio(self.parameters.payload_type, samples, out);
            self.writer.write(self.parameters.codec, audio, out);
        }
        self.statistics.packets_sent += 1;
        self.statistics.bytes_sent += (out.len() - start - HEADER_BYTES) as u64;
        let is_ready = self.secured.as_mut().is_none_or(|secured| secured.outbound.protect_rtp(start, out));
        is_ready.then_some(destination)
    }

    /// Lets the media clock run over ticks whose frames were never sent, because their driver was held
    /// up: `frames` of the negotiated packet length. The next packet begins a talk spurt.
    pub fn skip_frames(&mut self, frames: u32) {
        if frames > 0 {
            self.sender.advance(frames.wrapping_mul(u32::from(self.parameters.ptime_ms) * 8));
            self.sender.pause();
        }
    }

    /// Queues a digit to be sent as RFC 4733 events in place of the audio. `false` when events were not
    /// negotiated, it is no digit, or too many wait.
    pub fn send_dtmf(&mut self, digit: char, duration_ms: u32) -> bool {
        self.parameters.telephone_event.is_some() && self.dtmf_sender.push(digit, duration_ms)
    }

    /// Whether digits are being sent or wait to be; [`Session::sends_digit_next`] tells whose turn it is.
    pub fn is_sending_dtmf(&self) -> bool {
        self.parameters.telephone_event.is_some() && self.dtmf_sender.is_active()
    }

    /// Whether the next [`Session::send_frame`] will send a digit and let its audio go: who has audio that can
    /// wait keeps it for the tick after.
    pub fn sends_digit_next(&self) -> bool {
        self.parameters.telephone_event.is_some()
            && self.parameters.direction.sends()
            && self.latch.destination().is_some()
            && self.dtmf_sender.takes_next_tick()
    }

    /// A report that is due. Appends it to `out` and says where it goes. With
    /// [`MediaParameters::rtcp_mux`] it is to leave from the RTP port.
    pub fn poll_rtcp(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if self.reports.due().is_none_or(|due| due > now) {
            return None;
        }
        self.reports.schedule(now);
        self.write_report(now, false, out)
    }

    /// The goodbye to send when the call ends (RFC 3550 section 6.6). Ends the reports.
    pub fn goodbye(&mut self, now: Instant, out: &mut Vec<u8>) -> Option<SocketAddr> {
        if !self.reports.end() {
            return None;
        }
        self.write_report(now, true, out)
    }

    /// The parameters the session runs by.
    pub fn parameters(&self) -> &MediaParameters {
        &self.parameters
    }

    /// The form of [`Session::ingress_audio`] and of the audio for [`Session::send_frame`].
    pub fn coding(&self) -> Coding {
        self.coding
    }

    /// When the last valid packet of the peer came; what a media time-out goes by.
    pub fn last_received(&self) -> Option<Instant> {
        self.last_received
    }

    /// Figures so far.
    pub fn statistics(&self) -> RtpStatistics {
        let received = self.receiver.figures();
        let remote = self.reports.remote();
        let timeline = self.timeline.as_ref().map(JitterBuffer::counters).unwrap_or_default();
        let patience_us = self.timeline.as_ref().map_or(0, JitterBuffer::patience_us);
        RtpStatistics {
            packets_received: received.packets,
            packets_lost: self.receiver.lost(),
            out_of_order: received.out_of_order,
            duplicates: received.duplicates,
            late: timeline.late,
            concealed_frames: timeline.concealed_frames,
            ingress_frames: timeline.frames,
            jitter_us: samples_to_us(self.receiver.jitter()),
            patience_us: u32::try_from(patience_us).unwrap_or(0),
            latched: self.latch.latched(),
            source_changes: received.restarts,
            timestamp_jumps: timeline.timestamp_jumps,
            round_trip_us: remote.round_trip.map(fraction_to_us),
            remote_fraction_lost: remote.report.map(|report| report.fraction_lost),
            remote_lost: remote.report.map(|report| report.cumulative_lost),
            remote_jitter_us: remote.report.map(|report| samples_to_us(report.jitter)),
            rtcp_received: remote.compounds,
            rtcp_sent: self.reports.sent(),
            goodbye_received: remote.goodbye,
            refused_in_the_clear: self.refused.in_the_clear,
            refused_rtcp_in_the_clear: self.refused.rtcp_in_the_clear,
            refused_unauthentic: self.refused.unauthentic,
            refused_replayed: self.refused.replayed,
            checks_answered: self.checks.answered,
            ..self.statistics
        }
    }

    /// When a frame or the end of a digit falls due though nothing comes. Before the stream begins nothing does: nobody is
    /// told, so the end of a press has no hurry.
    fn due(&self) -> Option<Instant> {
        let frame_us = self.timeline.as_ref()?.due_us();
        let due_us = self.dtmf.expires_at_us().map_or(frame_us, |end_us| end_us.min(frame_us));
        Some(self.epoch + Duration::from_micros(due_us.max(0) as u64))
    }

    fn seek_tones(&mut self) {
        let is_sought = match self.tones {
            Tones::WithoutEvents => self.parameters.telephone_event.is_none(),
            Tones::Sought => !self.dtmf.has_heard_events(),
            Tones::Ignored => false,
        };
        let Some(timeline) = self.timeline.as_ref().filter(|_| is_sought) else { return };
        let coding = self.coding;
        let detector = self.tone_detector.get_or_insert_with(|| Box::new(ToneDetector::new(coding)));
        detector.push(timeline.frame_audio(), |digit| {
            self.statistics.inband_digits += 1;
            self.dtmf.heard_in_audio(digit);
        });
    }

    fn content(&self, packet: &Packet<'_>) -> Option<Content> {
        let payload_type = packet.header.payload_type;
        if let Some(codec) = self.parameters.codec_of(payload_type) {
            return (packet.payload.len() <= PAYLOAD_MAX).then_some(Content::Audio(codec));
        }
        match self.parameters.telephone_event {
            Some(format) if format.payload_type == payload_type => Some(Content::Event(format)),
            _ => (payload_type == COMFORT_NOISE).then_some(Content::Noise),
        }
    }

    fn take_content(&mut self, content: Content, packet: &Packet<'_>, extended: u64, arrival_us: i64) {
        let Packet { header, payload } = *packet;
        let mut heard = jitter::Content::Nothing;
        match content {
            Content::Audio(codec) => {
                self.receiver.note_transit(&header, arrival_us);
                if self.parameters.direction.receives() {
                    heard = jitter::Content::Audio(codec, payload);
                }
            }
            Content::Noise => heard = jitter::Content::Noise(payload),
            Content::Event(format) => {
                if !self.dtmf.handle(&header, payload, format.clock_hz, arrival_us) {
                    self.statistics.malformed += 1;
                }
            }
        }
        match &mut self.timeline {
            Some(timeline) if self.early.is_empty() => {
                timeline.push(extended, header.timestamp, heard, arrival_us);
            }
            Some(_) | None => self.keep_early(extended, header.timestamp, heard, arrival_us),
        }
    }

    fn keep_early(&mut self, extended: u64, timestamp: u32, content: jitter::Content<'_>, arrival_us: i64) {
        let early = match content {
            jitter::Content::Audio(codec, payload) => (Some(codec), payload),
            jitter::Content::Noise(_) | jitter::Content::Nothing => (None, &[][..]),
        };
        let (codec, payload) = (early.0, early.1.to_vec());
        self.early_bytes += payload.len();
        self.early.push_back(Early { extended, timestamp, arrival_us, codec, payload });
        while self.early_bytes > EARLY_BYTES_MAX || self.early.len() > EARLY_PACKETS_MAX {
            let Some(oldest) = self.early.pop_front() else { break };
            self.early_bytes -= oldest.payload.len();
            self.statistics.early_dropped += 1;
        }
    }

    /// Early packets enter the timeline each at the moment it came, as if the stream had begun with the first.
    fn poll_timeline(&mut self, now_us: i64) -> Option<jitter::Frame> {
        let timeline = self.timeline.as_mut()?;
        loop {
            let until_us = self.early.front().map_or(now_us, |early| early.arrival_us);
            if let Some(frame) = timeline.poll(until_us) {
                return Some(frame);
            }
            let early = self.early.pop_front()?;
            self.early_bytes -= early.payload.len();
            let content = match early.codec {
                Some(codec) => jitter::Content::Audio(codec, &early.payload),
                None => jitter::Content::Nothing,
            };
            timeline.push(early.extended, early.timestamp, content, early.arrival_us);
            if self.early.is_empty() {
                self.early = VecDeque::new();
            }
        }
    }

    fn write_report(&mut self, now: Instant, goodbye: bool, out: &mut Vec<u8>) -> Option<SocketAddr> {
        let destination = self.rtcp_destination()?;
        let start = out.len();
        self.reports.write(now, &self.sender, &mut self.receiver, goodbye, out);
        let is_ready = self.secured.as_mut().is_none_or(|secured| secured.outbound.protect_rtcp(start, out));
        is_ready.then_some(destination)
    }

    /// Where reports go: with the media when they share a port; else where the peer's own come from, where
    /// its SDP wants them, or the port above its media (RFC 3550 section 11).
    fn rtcp_destination(&self) -> Option<SocketAddr> {
        // RFC 3264 section 8.4: to a null address "neither RTP nor RTCP should be sent".
        if self.parameters.remote.ip().is_unspecified() && !self.parameters.direction.sends() {
            return None;
        }
        let media = self.latch.destination()?;
        if self.parameters.rtcp_mux {
            return Some(media);
        }
        let moved = self.latch.latched().is_some_and(|latched| latched != self.parameters.remote);
        let named = self.parameters.remote_rtcp.filter(|address| !moved && !address.ip().is_unspecified());
        let above = || Some(SocketAddr::new(media.ip(), media.port().checked_add(1)?));
        self.rtcp_source.or(named).or_else(above)
    }

    /// RFC 3550 section 8.2: a source that finds its own identifier used by another takes a new one.
    fn resolve_collision(&mut self) {
        let ssrc = self.reports.next_ssrc();
        self.sender.change_ssrc(ssrc);
    }

    fn microseconds(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.epoch).as_micros() as i64
    }
}

/// A packet's audio that came before the stream began.
#[derive(Debug)]
struct Early {
    extended: u64,
    timestamp: u32,
    arrival_us: i64,
    /// Nothing for a packet that carries no audio.
    codec: Option<Codec>,
    payload: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
enum Content {
    Audio(Codec),
    Event(TelephoneEvent),
    Noise,
}

fn received(latched: bool, source: SocketAddr, otherwise: Received) -> Received {
    if latched { Received::Latched(source) } else { otherwise }
}

fn samples_to_us(samples: u32) -> u32 {
    samples.saturating_mul(1_000_000 / SAMPLE_RATE_HZ)
}

fn fraction_to_us(fraction: u32) -> u32 {
    u32::try_from((u64::from(fraction) * 1_000_000) >> 16).unwrap_or(u32::MAX)
}
