//! The caller's half of the audio: plays a signal once, silence after it, and keeps what it hears
//! on the same time axis, so that the two can be laid over one another.

use std::collections::VecDeque;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_core::Rng;
use tandem_media::latch::LatchPolicy;
use tandem_media::sdp::{self, MediaParameters, OfferPolicy, SdpError};
use tandem_media::session::{RtpStatistics, Session, SessionConfig};
use tandem_media::{Law, g711};
use tokio::net::UdpSocket;

/// The beat of the egress clock.
const TICK: Duration = Duration::from_millis(20);

/// How long a digit sounds, in milliseconds, and how many ticks lie between two.
const DIGIT_MS: u32 = 120;
const TICKS_BETWEEN_DIGITS: u32 = 12;

/// The longest recording: ten minutes.
const HEARD_MAX_SAMPLES: usize = 10 * 60 * 8_000;

/// The caller's media port, from before the offer to the end of the call.
#[derive(Debug)]
pub(super) struct CallerMedia {
    socket: UdpSocket,
    offer: bytes::Bytes,
    seed: u64,
    talk: Option<Talk>,
}

/// What exists once the answer is there.
#[derive(Debug)]
struct Talk {
    session: Session,
    law: Law,
    played: Arc<[i16]>,
    position: usize,
    heard: Vec<i16>,
    next_tick: Instant,
    digits: VecDeque<char>,
    ticks_to_digit: u32,
    packet: Vec<u8>,
}

impl CallerMedia {
    /// Binds a port on `address` and writes the offer for it.
    pub(super) async fn bind(address: IpAddr, laws: &[Law], random: &mut impl Rng) -> io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(address, 0)).await?;
        let session_id = random.next_u64() >> 2;
        let policy = OfferPolicy::new(laws.to_vec(), socket.local_addr()?, session_id, 1);
        Ok(Self { socket, offer: sdp::offer(&policy), seed: random.next_u64(), talk: None })
    }

    /// The offer for the INVITE.
    pub(super) fn offer(&self) -> bytes::Bytes {
        self.offer.clone()
    }

    /// Takes the answer: from now on the signal plays, and digits follow one after the other.
    pub(super) fn begin(
        &mut self,
        now: Instant,
        answer: &[u8],
        played: Arc<[i16]>,
        digits: &str,
    ) -> Result<MediaParameters, SdpError> {
        let parameters = sdp::accept_answer(&self.offer, answer)?;
        let config = SessionConfig {
            parameters,
            latch: LatchPolicy { symmetric: true, allowed: vec![(parameters.remote.ip(), 128)] },
            ssrc: self.seed as u32,
            first_sequence: (self.seed >> 32) as u16,
            first_timestamp: (self.seed >> 16) as u32,
            seed: self.seed,
        };
        let mut session = Session::new(config, now);
        session.start(now);
        self.talk = Some(Talk {
            session,
            law: parameters.law,
            played,
            position: 0,
            heard: Vec::new(),
            next_tick: now,
            digits: digits.chars().collect(),
            // The first digit waits for a second, so that the called side has heard the caller.
            ticks_to_digit: 50,
            packet: Vec::with_capacity(2_048),
        });
        Ok(parameters)
    }

    /// When [`Self::tick`] is due next.
    pub(super) fn next_tick(&self) -> Option<Instant> {
        self.talk.as_ref().map(|talk| talk.next_tick)
    }

    /// Sends what is due and takes the frames that have come.
    pub(super) async fn tick(&mut self, now: Instant) -> io::Result<()> {
        let Some(talk) = &mut self.talk else { return Ok(()) };
        while talk.next_tick <= now {
            talk.next_tick += TICK;
            talk.press_next_digit();
            let frame = talk.next_frame();
            talk.packet.clear();
            if let Some(destination) = talk.session.send_frame(now, &frame, &mut talk.packet) {
                self.socket.send_to(&talk.packet, destination).await?;
            }
        }
        talk.listen(now);
        Ok(())
    }

    /// Waits for a datagram and hands it to the session.
    pub(super) async fn receive(&mut self) -> io::Result<()> {
        let mut datagram = [0; 2_048];
        let (length, source) = self.socket.recv_from(&mut datagram).await?;
        let now = Instant::now();
        if let Some(talk) = &mut self.talk {
            talk.session.handle_rtp(now, source, &datagram[..length]);
            talk.listen(now);
        }
        Ok(())
    }

    /// What was heard, with the figures of the session; empty when there never was one.
    pub(super) fn finish(self) -> (Vec<i16>, Option<RtpStatistics>) {
        match self.talk {
            Some(talk) => (talk.heard, Some(talk.session.statistics())),
            None => (Vec::new(), None),
        }
    }
}

impl Talk {
    fn next_frame(&mut self) -> Vec<u8> {
        let samples = self.session.parameters().frame_bytes();
        let start = self.position.min(self.played.len());
        let end = (start + samples).min(self.played.len());
        self.position = end;
        let mut frame: Vec<u8> =
            self.played[start..end].iter().map(|sample| g711::encode(self.law, *sample)).collect();
        frame.resize(samples, self.law.silence());
        frame
    }

    fn press_next_digit(&mut self) {
        self.ticks_to_digit = self.ticks_to_digit.saturating_sub(1);
        if self.ticks_to_digit == 0
            && let Some(digit) = self.digits.pop_front()
        {
            self.session.send_dtmf(digit, DIGIT_MS);
            self.ticks_to_digit = DIGIT_MS / 20 + TICKS_BETWEEN_DIGITS;
        }
    }

    fn listen(&mut self, now: Instant) {
        while let Some(frame) = self.session.poll_ingress(now) {
            if self.heard.len() < HEARD_MAX_SAMPLES {
                self.heard.extend(frame.audio.iter().map(|code| g711::decode(self.law, *code)));
            }
        }
    }
}
