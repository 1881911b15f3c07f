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
use tandem_media::session::{RtpStatistics, Session, SessionConfig, Tones};
use tandem_media::srtp::{KeyMaterial, MASTER_OCTETS_MAX, MasterKey, Suite};
use tandem_media::{Codec, Coding, Converter, SAMPLE_RATE_HZ, g711};
use tokio::net::UdpSocket;

/// The beat of the egress clock.
const TICK: Duration = Duration::from_millis(20);

/// How long a digit sounds, in milliseconds, and how many ticks lie between two.
const DIGIT_MS: u32 = 120;
const TICKS_BETWEEN_DIGITS: u32 = 12;

/// The longest recording: ten minutes.
const HEARD_MAX_SAMPLES: usize = 10 * 60 * 8_000;

/// Attempts to find two neighbouring ports for RTP and RTCP.
const PORT_ATTEMPTS: usize = 20;

/// The caller's media ports, from before the offer to the end of the call.
#[derive(Debug)]
pub(super) struct CallerMedia {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    offer: bytes::Bytes,
    seed: u64,
    talk: Option<Talk>,
    has_ended: bool,
}

/// What is played and recorded.
const LINEAR: Coding = Coding::Linear { rate_hz: SAMPLE_RATE_HZ };

/// What exists once the answer is there.
#[derive(Debug)]
struct Talk {
    session: Session,
    /// From the 8 kHz samples that are played to the form of the session, and back.
    to_session: Converter,
    from_session: Converter,
    played: Arc<[i16]>,
    position: usize,
    heard: Vec<i16>,
    next_tick: Instant,
    digits: VecDeque<char>,
    ticks_to_digit: u32,
    packet: Vec<u8>,
}

impl CallerMedia {
    /// Binds two ports on `address` and writes the offer for them.
    pub(super) async fn bind(
        address: IpAddr,
        codecs: &[Codec],
        srtp: bool,
        random: &mut impl Rng,
    ) -> io::Result<Self> {
        let (rtp, rtcp) = bind_pair(address).await?;
        let session_id = random.next_u64() >> 2;
        let mut policy = OfferPolicy::new(codecs.to_vec(), rtp.local_addr()?, session_id, 1);
        if srtp {
            policy.keys.keys = Suite::ALL.map(|suite| random_key(suite, random)).to_vec();
        }
        Ok(Self {
            rtp,
            rtcp,
            offer: sdp::offer(&policy),
            seed: random.next_u64(),
            talk: None,
            has_ended: false,
        })
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
            tones: Tones::Ignored,
            ssrc: self.seed as u32,
            first_sequence: (self.seed >> 32) as u16,
            first_timestamp: (self.seed >> 16) as u32,
            seed: self.seed,
        };
        let mut session = Session::new(config, now);
        session.start(now);
        let coding = session.coding();
        self.talk = Some(Talk {
            session,
            to_session: Converter::new(LINEAR, coding).expect("a codec's rate has filters"),
            from_session: Converter::new(coding, LINEAR).expect("a codec's rate has filters"),
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
        self.talk.as_ref().filter(|_| !self.has_ended).map(|talk| talk.next_tick)
    }

    /// The call is over: nothing more is sent, and nothing more is heard.
    pub(super) fn end(&mut self) {
        self.has_ended = true;
    }

    /// Sends what is due and takes the frames that have come.
    pub(super) async fn tick(&mut self, now: Instant) -> io::Result<()> {
        let Some(talk) = self.talk.as_mut().filter(|_| !self.has_ended) else { return Ok(()) };
        while talk.next_tick <= now {
            talk.next_tick += TICK;
            talk.press_next_digit();
            let frame = talk.next_frame();
            talk.packet.clear();
            if let Some(destination) = talk.session.send_frame(now, &frame, &mut talk.packet) {
                deliver(&self.rtp, &talk.packet, destination).await?;
            }
        }
        talk.packet.clear();
        while let Some(destination) = talk.session.poll_rtcp(now, &mut talk.packet) {
            deliver(&self.rtcp, &talk.packet, destination).await?;
            talk.packet.clear();
        }
        talk.listen(now);
        Ok(())
    }

    /// Waits for a datagram and hands it to the session.
    pub(super) async fn receive(&mut self) -> io::Result<()> {
        let (mut media, mut report) = ([0; 2_048], [0; 2_048]);
        let (received, is_report) = tokio::select! {
            received = self.rtp.recv_from(&mut media) => (received, false),
            received = self.rtcp.recv_from(&mut report) => (received, true),
        };
        let (length, source) = match received {
            // The other side closed its port while something was on its way there.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => return Ok(()),
            received => received?,
        };
        let now = Instant::now();
        let Some(talk) = self.talk.as_mut().filter(|_| !self.has_ended) else { return Ok(()) };
        if is_report {
            talk.session.handle_rtcp(now, source, &report[..length]);
        } else {
            talk.session.handle_rtp(now, source, &media[..length]);
        }
        talk.listen(now);
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

fn random_key(suite: Suite, random: &mut impl Rng) -> MasterKey {
    let mut octets = [0; MASTER_OCTETS_MAX];
    random.fill_bytes(&mut octets);
    MasterKey::ours(suite, &KeyMaterial(octets))
}

/// An even port for RTP and the odd one above it for RTCP (RFC 3550, 11).
async fn bind_pair(address: IpAddr) -> io::Result<(UdpSocket, UdpSocket)> {
    for _ in 0..PORT_ATTEMPTS {
        let rtp = UdpSocket::bind(SocketAddr::new(address, 0)).await?;
        let port = rtp.local_addr()?.port();
        if port.is_multiple_of(2)
            && let Ok(rtcp) = UdpSocket::bind(SocketAddr::new(address, port + 1)).await
        {
            return Ok((rtp, rtcp));
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, "no two neighbouring ports are free for RTP and RTCP"))
}

/// Sends a datagram; a port that was closed at the other end is the other end's matter.
async fn deliver(socket: &UdpSocket, datagram: &[u8], destination: SocketAddr) -> io::Result<()> {
    match socket.send_to(datagram, destination).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        sent => sent.map(drop),
    }
}

impl Talk {
    fn next_frame(&mut self) -> Vec<u8> {
        let samples = self.session.parameters().frame_bytes();
        let start = self.position.min(self.played.len());
        let end = (start + samples).min(self.played.len());
        self.position = end;
        let mut linear = Vec::with_capacity(samples * 2);
        g711::to_l16_le_into(&self.played[start..end], &mut linear);
        linear.resize(samples * 2, 0);
        let mut frame = Vec::new();
        self.to_session.convert(&linear, &mut frame);
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
        while self.session.poll_ingress(now).is_some() {
            if self.heard.len() < HEARD_MAX_SAMPLES {
                let mut linear = Vec::new();
                self.from_session.convert(self.session.ingress_audio(), &mut linear);
                g711::l16_le_into(&linear, &mut self.heard);
            }
        }
    }
}
