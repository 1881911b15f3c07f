//! A scripted peer and a listener around one session, in virtual time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_media::rtp::packet::Header;
use tandem_media::session::Tones;
use tandem_media::{Digit, FRAME_BYTES, IngressFrame, LatchPolicy, MediaParameters, Session, SessionConfig};

pub(crate) const PEER: &str = "192.0.2.1:4000";
pub(crate) const SSRC: u32 = 0x1122_3344;
pub(crate) const FIRST_SEQUENCE: u16 = 65_530;
pub(crate) const FIRST_TIMESTAMP: u32 = u32::MAX - 1_000;

pub(crate) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(crate) fn peer() -> SocketAddr {
    PEER.parse().expect("an address")
}

pub(crate) fn peer_rtcp() -> SocketAddr {
    SocketAddr::new(peer().ip(), peer().port() + 1)
}

/// A frame that tells its number, and is loud nowhere near silence.
pub(crate) fn frame_of(number: u64) -> [u8; FRAME_BYTES] {
    let mut frame = [0; FRAME_BYTES];
    for (at, code) in frame.iter_mut().enumerate() {
        *code = 0x80 | (((number >> (at % 16)) & 1) as u8 * 0x10) | (at % 3) as u8;
    }
    frame
}

/// A frame of the timeline and its audio.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) audio: Vec<u8>,
    pub(crate) timestamp_ms: u64,
    pub(crate) concealed: bool,
    pub(crate) arrived: Option<Instant>,
}

pub(crate) struct Line {
    pub(crate) session: Session,
    pub(crate) epoch: Instant,
    elapsed: Duration,
    pub(crate) ssrc: u32,
    pub(crate) heard: Vec<Heard>,
    pub(crate) digits: Vec<Digit>,
}

pub(crate) fn session_with(parameters: MediaParameters, ssrc: u32, now: Instant) -> Session {
    let latch = LatchPolicy { symmetric: true, allowed: vec![(peer().ip(), 24)] };
    let (first_sequence, first_timestamp) = (FIRST_SEQUENCE, FIRST_TIMESTAMP);
    let config = SessionConfig {
        parameters,
        latch,
        tones: Tones::WithoutEvents,
        ssrc,
        first_sequence,
        first_timestamp,
        seed: u64::from(ssrc),
    };
    let mut session = Session::new(config, now);
    session.start(now);
    session
}

impl Line {
    pub(crate) fn new(parameters: MediaParameters) -> Self {
        #[expect(
            clippy::disallowed_methods,
            reason = "an instant cannot be made otherwise; no time passes by it"
        )]
        let epoch = Instant::now();
        let session = session_with(parameters, SSRC, epoch);
        Self { session, epoch, elapsed: Duration::ZERO, ssrc: 7, heard: Vec::new(), digits: Vec::new() }
    }

    pub(crate) fn now(&self) -> Instant {
        self.epoch + self.elapsed
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// Lets time pass, waking the session exactly when it asks to be woken.
    pub(crate) fn advance_to(&mut self, elapsed: Duration) {
        let end = self.epoch + elapsed;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.elapsed = self.elapsed.max(due - self.epoch);
            self.drain();
        }
        self.elapsed = self.elapsed.max(elapsed);
    }

    /// Sends packet `number` of an unbroken stream of 20 ms frames.
    pub(crate) fn send(&mut self, number: u64, audio: &[u8]) {
        let payload_type = self.session.parameters().payload_type;
        self.packet(false, payload_type, number as u16, number as u32 * 160, audio);
    }

    pub(crate) fn packet(
        &mut self,
        marker: bool,
        payload_type: u8,
        sequence: u16,
        timestamp: u32,
        payload: &[u8],
    ) {
        let datagram = self.datagram(marker, payload_type, sequence, timestamp, payload);
        self.session.handle_rtp(self.now(), peer(), &datagram);
        self.drain();
    }

    pub(crate) fn datagram(
        &self,
        marker: bool,
        payload_type: u8,
        sequence: u16,
        timestamp: u32,
        payload: &[u8],
    ) -> Vec<u8> {
        let mut datagram = Vec::new();
        Header { marker, payload_type, sequence, timestamp, ssrc: self.ssrc }.write(payload, &mut datagram);
        datagram
    }

    pub(crate) fn transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.transmit_audio(&[0xFF; FRAME_BYTES])
    }

    pub(crate) fn transmit_audio(&mut self, audio: &[u8]) -> Option<(SocketAddr, Vec<u8>)> {
        let mut out = Vec::new();
        let to = self.session.send_frame(self.now(), audio, &mut out)?;
        Some((to, out))
    }

    pub(crate) fn assert_continuous(&self) {
        for (number, frame) in self.heard.iter().enumerate() {
            assert_eq!(frame.timestamp_ms, number as u64 * 20);
        }
    }

    /// Whether the frame of this number was heard exactly once, at least but for its faded-in beginning.
    pub(crate) fn contains_once(&self, number: u64) -> bool {
        let wanted = frame_of(number);
        self.heard.iter().filter(|frame| frame.audio[32..] == wanted[32..]).count() == 1
    }

    fn drain(&mut self) {
        let now = self.now();
        while let Some(frame) = self.session.poll_ingress(now) {
            let audio = self.session.ingress_audio().to_vec();
            let IngressFrame { timestamp_ms, concealed, arrived } = frame;
            self.heard.push(Heard { audio, timestamp_ms, concealed, arrived });
        }
        while let Some(digit) = self.session.poll_dtmf() {
            self.digits.push(digit);
        }
        let mut report = Vec::new();
        while self.session.poll_rtcp(now, &mut report).is_some() {
            report.clear();
        }
    }
}
