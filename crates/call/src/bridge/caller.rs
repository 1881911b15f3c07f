//! One telephone's side of a bridge, mostly the caller's: the RTP session once media is known, the clock that sends, the watch over silence.
//!
//! It knows no agent and holds no audio.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use tandem_media::session::{Component, Received, Tones};
use tandem_media::{
    Coding, Converter, IngressFrame, LatchPolicy, MediaParameters, RtpStatistics, Session, SessionConfig,
};

use super::clock::EgressClock;

/// The packet time before media is known.
const PACKET_TIME: Duration = Duration::from_millis(20);

/// The longest packet that is sent.
pub(super) const PTIME_MAX_MS: u8 = 60;

/// The caller's leg.
#[derive(Debug)]
pub(super) struct Caller {
    session: Option<Session>,
    latch: LatchPolicy,
    random: ChaCha8Rng,
    clock: EgressClock,
    is_started: bool,
    /// What it hears comes from the other leg and not by the clock.
    is_relayed: bool,
    is_goodbye_said: bool,
    media_timeout: Option<Duration>,
    tones: Tones,
    /// Last sign of life of the RTP peer, and whether its silence has been reported.
    heard_at: Instant,
    is_silence_reported: bool,
    pub(super) ticks_skipped: u64,
    /// From the form of the queue to that of the session, where they differ.
    converter: Option<Box<Converter>>,
    converted: Vec<u8>,
}

/// A tick of the egress clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Tick {
    /// When its packet should leave.
    pub(super) due: Instant,
    /// How much audio it carries, in milliseconds.
    pub(super) ptime_ms: u8,
}

impl Caller {
    pub(super) fn new(
        latch: LatchPolicy,
        media_timeout: Option<Duration>,
        tones: Tones,
        seed: u64,
        now: Instant,
    ) -> Self {
        Self {
            session: None,
            latch,
            random: ChaCha8Rng::seed_from_u64(seed),
            clock: EgressClock::new(now, PACKET_TIME),
            is_started: false,
            is_relayed: false,
            is_goodbye_said: false,
            media_timeout,
            tones,
            heard_at: now,
            is_silence_reported: false,
            ticks_skipped: 0,
            converter: None,
            converted: Vec::new(),
        }
    }

    pub(super) fn set_media(&mut self, now: Instant, media: MediaParameters) {
        self.heard_at = now;
        match &mut self.session {
            Some(session) => session.update(media),
            None => {
                self.session = Some(Session::new(self.session_config(media), now));
                if self.is_started {
                    self.start(now);
                }
            }
        }
        self.clock.set_period(packet_time(&media));
    }

    /// Audio flows from now on, both ways.
    pub(super) fn start(&mut self, now: Instant) {
        self.is_started = true;
        self.heard_at = now;
        if let Some(session) = &mut self.session {
            session.start(now);
            self.clock = EgressClock::new(now, packet_time(session.parameters()));
        }
    }

    /// A packet from the RTP or, if `is_rtcp`, the RTCP port.
    pub(super) fn handle_datagram(
        &mut self,
        now: Instant,
        source: SocketAddr,
        datagram: &[u8],
        is_rtcp: bool,
    ) -> Received {
        let Some(session) = &mut self.session else { return Received::Ignored };
        let received = if is_rtcp {
            session.handle_rtcp(now, source, datagram)
        } else {
            session.handle_rtp(now, source, datagram)
        };
        if matches!(received, Received::Accepted | Received::Latched(_)) {
            self.heard_at = now;
            self.is_silence_reported = false;
        }
        received
    }

    /// An answer to a check of the caller's ICE, and from which port it is to leave.
    pub(super) fn poll_check(&mut self, buffer: &mut Vec<u8>) -> Option<(Component, SocketAddr)> {
        self.session.as_mut()?.poll_check(buffer)
    }

    pub(super) fn poll_digit(&mut self) -> Option<tandem_media::Digit> {
        self.session.as_mut()?.poll_dtmf()
    }

    /// The next 20 ms of what the caller says.
    pub(super) fn poll_ingress(&mut self, now: Instant) -> Option<IngressFrame> {
        self.session.as_mut()?.poll_ingress(now)
    }

    /// The audio of those 20 ms and its form.
    pub(super) fn ingress_audio(&self) -> Option<(Coding, &[u8])> {
        let session = self.session.as_ref()?;
        Some((session.coding(), session.ingress_audio()))
    }

    /// The form of the caller's audio, once it is known.
    pub(super) fn coding(&self) -> Option<Coding> {
        self.session.as_ref().map(Session::coding)
    }

    /// Hears the other leg from now on, or the agent again by a clock that begins anew.
    pub(super) fn set_relayed(&mut self, is_relayed: bool, now: Instant) {
        self.is_relayed = is_relayed;
        if let Some(session) = self.session.as_ref().filter(|_| !is_relayed) {
            self.clock = EgressClock::new(now, packet_time(session.parameters()));
        }
    }

    /// How much audio the next packet carries, in milliseconds; nothing while there is no media.
    pub(super) fn packet_ms(&self) -> usize {
        let packet_ms = |session: &Session| session.parameters().ptime_ms.clamp(10, PTIME_MAX_MS).into();
        self.session.as_ref().map_or(0, packet_ms)
    }

    /// The next tick that is due. What is too late to be made up for is skipped first.
    pub(super) fn poll_tick(&mut self, now: Instant) -> Option<Tick> {
        let session = self.session.as_mut().filter(|_| self.is_started && !self.is_relayed)?;
        let skipped = self.clock.skip_missed(now);
        if skipped > 0 {
            self.ticks_skipped += u64::from(skipped);
            session.skip_frames(skipped);
        }
        let due = self.clock.tick(now)?;
        Some(Tick { due, ptime_ms: session.parameters().ptime_ms.clamp(10, PTIME_MAX_MS) })
    }

    /// Sends the audio of a tick, which is of `coding`; says where to, or nothing while the caller holds us.
    pub(super) fn send(
        &mut self,
        now: Instant,
        coding: Coding,
        audio: &[u8],
        buffer: &mut Vec<u8>,
    ) -> Option<SocketAddr> {
        let session = self.session.as_mut()?;
        if coding == session.coding() {
            return session.send_frame(now, audio, buffer);
        }
        let converter = match &mut self.converter {
            Some(converter) if converter.from() == coding => converter,
            other => other.insert(Box::new(
                Converter::new(coding, session.coding()).expect("both are forms that have filters"),
            )),
        };
        self.converted.clear();
        converter.convert(audio, &mut self.converted);
        session.send_frame(now, &self.converted, buffer)
    }

    /// The audio of `coding` that was last sent, in the form in which it was: converted where the session has another.
    pub(super) fn as_sent<'a>(&'a self, coding: Coding, audio: &'a [u8]) -> (Coding, &'a [u8]) {
        match self.session.as_ref().map(Session::coding) {
            Some(other) if other != coding => (other, &self.converted),
            Some(_) | None => (coding, audio),
        }
    }

    /// Where audio should come from and in what payload type, while the peer owes any.
    pub(super) fn owed(&self) -> Option<(SocketAddr, u8)> {
        let parameters = self.parameters()?;
        parameters.direction.receives().then_some((parameters.remote, parameters.payload_type))
    }

    /// What was negotiated, once it is known.
    pub(super) fn parameters(&self) -> Option<&MediaParameters> {
        self.session.as_ref().map(Session::parameters)
    }

    /// Whether the packet of the next tick carries a digit instead of audio.
    pub(super) fn sends_digit_next(&self) -> bool {
        self.session.as_ref().is_some_and(Session::sends_digit_next)
    }

    /// Whether digits are being sent or wait to be.
    pub(super) fn is_sending_digits(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_sending_dtmf)
    }

    pub(super) fn send_digit(&mut self, digit: char, duration_ms: u32) -> bool {
        self.session
            .as_mut()
            .is_some_and(|session| session.send_dtmf(digit.to_ascii_uppercase(), duration_ms))
    }

    pub(super) const fn set_trim(&mut self, trim: i64) {
        self.clock.set_trim(trim);
    }

    pub(super) fn poll_rtcp(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        self.session.as_mut().filter(|_| self.is_started)?.poll_rtcp(now, buffer)
    }

    /// The goodbye, once.
    pub(super) fn poll_goodbye(&mut self, now: Instant, buffer: &mut Vec<u8>) -> Option<SocketAddr> {
        if std::mem::replace(&mut self.is_goodbye_said, true) {
            return None;
        }
        self.session.as_mut()?.goodbye(now, buffer)
    }

    /// True once for each time the peer is silent for too long.
    pub(super) fn poll_silence(&mut self, now: Instant) -> bool {
        let is_silent = self.silence_deadline().is_some_and(|deadline| now >= deadline);
        self.is_silence_reported |= is_silent;
        is_silent
    }

    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let session = self.session.as_ref()?;
        let tick = (self.is_started && !self.is_relayed).then(|| self.clock.next());
        [tick, self.silence_deadline(), session.poll_timeout()].into_iter().flatten().min()
    }

    /// Whether the peer hears what is sent; nothing before it has media.
    pub(super) fn is_hearing(&self) -> Option<bool> {
        self.session.as_ref().map(|session| session.parameters().direction.sends())
    }

    /// Whether the peer holds us: it sends nothing then, and is not to be expected to.
    pub(super) fn is_holding_us(&self) -> bool {
        self.session.as_ref().is_some_and(|session| !session.parameters().direction.receives())
    }

    pub(super) const fn has_media(&self) -> bool {
        self.session.is_some()
    }

    pub(super) fn statistics(&self) -> RtpStatistics {
        self.session.as_ref().map(Session::statistics).unwrap_or_default()
    }

    /// When the peer's silence is too long. A peer that holds us owes no audio.
    fn silence_deadline(&self) -> Option<Instant> {
        let session = self.session.as_ref()?;
        let is_owed =
            self.is_started && session.parameters().direction.receives() && !self.is_silence_reported;
        self.media_timeout.filter(|_| is_owed).map(|timeout| self.heard_at + timeout)
    }

    fn session_config(&mut self, parameters: MediaParameters) -> SessionConfig {
        SessionConfig {
            parameters,
            latch: self.latch.clone(),
            tones: self.tones,
            ssrc: self.random.next_u32(),
            first_sequence: self.random.next_u32() as u16,
            first_timestamp: self.random.next_u32(),
            seed: self.random.next_u64(),
        }
    }
}

fn packet_time(media: &MediaParameters) -> Duration {
    Duration::from_millis(u64::from(media.ptime_ms.clamp(10, PTIME_MAX_MS)))
}
