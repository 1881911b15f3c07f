//! What must hold of any bytes taken for SDP, RTP, RTCP, SRTP and STUN: no panic, a line answered for each line
//! offered, a timeline without a gap, nothing opened that was not sent or twice, no answer to a stranger, and memory and
//! time within their bounds.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tandem_media::ice::{self, CREDENTIAL_OCTETS, Checked, IceCredentials};
use tandem_media::rtp::packet::Packet;
use tandem_media::rtp::rtcp::Compound;
use tandem_media::sdp::lines::number;
use tandem_media::sdp::{
    AnswerPolicy, Description, Encryption, Offer, OfferPolicy, OfferedKeys, accept_answer, answer, offer,
};
use tandem_media::srtp::{Inbound, KeyMaterial, MASTER_OCTETS_MAX, MasterKey, Mki, Outbound, Suite};
use tandem_media::{
    Codec, Direction, LatchPolicy, Law, MediaParameters, Session, SessionConfig, TelephoneEvent,
};

/// One body: as an offer to answer, as an answer to our offer.
pub fn sdp(data: &[u8]) {
    let address = SocketAddr::from(([203, 0, 113, 5], 20_000));
    for may_be_left_out in [false, true] {
        let keys =
            Suite::ALL.map(|suite| MasterKey::ours(suite, &KeyMaterial([7; MASTER_OCTETS_MAX]))).to_vec();
        let keys = OfferedKeys { keys, may_be_left_out };
        let ours = offer(&OfferPolicy { keys, ..OfferPolicy::new(Codec::ALL.to_vec(), address, 5, 1) });
        if let Ok(parameters) = accept_answer(&ours, data) {
            check_parameters(&parameters);
            assert!(may_be_left_out || parameters.srtp.is_some());
        }
    }
    let offered = match Offer::parse(data) {
        Ok(offered) => offered,
        Err(error) => return assert!(matches!(error.sip_status(), 400 | 413 | 488)),
    };
    for encryption in [Encryption::Off, Encryption::Preferred, Encryption::Required] {
        let mut policy = AnswerPolicy::new(vec![Codec::PCMA, Codec::G722, Codec::PCMU], address, 77, 3);
        policy.rtcp_mux = true;
        policy.encryption = encryption;
        policy.ice = Some(IceCredentials::from_random(&[1; CREDENTIAL_OCTETS]));
        match answer(&offered, &policy) {
            Ok((text, parameters)) => {
                check_answer(&offered, &text, data);
                check_parameters(&parameters);
                assert!(encryption != Encryption::Off || parameters.srtp.is_none());
                assert!(encryption != Encryption::Required || parameters.srtp.is_some());
                let lines = text.windows(9).filter(|window| window == b"a=crypto:").count();
                assert_eq!(lines, usize::from(parameters.srtp.is_some()));
            }
            Err(error) => assert_eq!(error.sip_status(), 488),
        }
    }
}

fn check_answer(offered: &Offer, text: &[u8], data: &[u8]) {
    let offered = offered.description();
    // What we write we read, with a section for each, and nothing of the offer became a line of its own.
    let Ok(answered) = Description::parse(text) else { panic!("{}", text.escape_ascii()) };
    assert_eq!(offered.sections().len(), answered.sections().len());
    assert_eq!(answered.sections().iter().filter(|section| section.port != 0).count(), 1);
    for (theirs, ours) in offered.sections().iter().zip(answered.sections()) {
        assert!(theirs.port != 0 || ours.port == 0);
        let is_offered =
            |format: &Vec<u8>| theirs.formats.iter().any(|offered| number(offered) == number(format));
        assert!(ours.port == 0 || ours.formats.iter().all(is_offered));
    }
    assert!(answered.lines().all(|line| line.kind != 0));
    assert!(text.len() <= data.len() * 4 + 1_024, "{} answered by {}", data.len(), text.len());
}

fn check_parameters(parameters: &MediaParameters) {
    assert!(matches!(parameters.ptime_ms, 10 | 20 | 30 | 40 | 50 | 60));
    assert!(parameters.payload_type < 128 && parameters.remote.port() != 0);
    assert_eq!(parameters.codec_of(parameters.payload_type), Some(parameters.codec));
    assert!(parameters.telephone_event.is_none_or(|event| event.payload_type < 128));
}

/// A call's worth of datagrams: each record is a length, a step of time in milliseconds, a byte that says which
/// port and what of the header to put right, and the datagram itself.
pub fn rtp(data: &[u8]) {
    let begin = now();
    let peer = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let event = TelephoneEvent { payload_type: 101, clock_hz: 8_000 };
    let parameters = MediaParameters {
        alternatives: [Some((Codec::PCMA, 8)), Some((Codec::G722, 9))],
        telephone_event: Some(event),
        ..MediaParameters::plain(peer, Law::Mulaw)
    };
    let config = SessionConfig {
        parameters,
        latch: LatchPolicy { symmetric: true, allowed: vec![(peer.ip(), 24)] },
        tones: tandem_media::session::Tones::Sought,
        ssrc: 1,
        first_sequence: u16::MAX,
        first_timestamp: u32::MAX,
        seed: 7,
    };
    let mut call = Call { session: Session::new(config, begin), now: begin, frames: 0, out: Vec::new() };
    call.session.start(begin);
    let mut rest = data;
    let mut sequence = 0_u16;
    while let [length, step_ms, control, tail @ ..] = rest {
        let (datagram, next) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = next;
        call.advance(Duration::from_millis(u64::from(*step_ms)));
        let mut datagram = datagram.to_vec();
        if control & 1 != 0 && datagram.len() >= 12 {
            sequence = sequence.wrapping_add(u16::from(control >> 6));
            datagram[0] = 0x80;
            datagram[2..4].copy_from_slice(&sequence.to_be_bytes());
            datagram[8..12].copy_from_slice(&[0, 0, 0, control & 2]);
        }
        let _ = (Packet::parse(&datagram), Compound::parse(&datagram, 1));
        let stranger = SocketAddr::from(([198, 51, 100, 1], 4_000));
        let source = if control & 4 != 0 { stranger } else { peer };
        let before = call.session.statistics();
        if control & 8 != 0 {
            call.session.handle_rtcp(call.now, source, &datagram);
        } else {
            call.session.handle_rtp(call.now, source, &datagram);
        }
        if source == stranger {
            assert_eq!(call.session.statistics().packets_received, before.packets_received);
        }
        if control & 0x30 == 0x30 {
            let direction = Direction::new(control & 1 != 0, control & 2 != 0);
            call.session.update(MediaParameters { direction, ..parameters });
        }
        call.drain();
    }
    call.advance(Duration::from_secs(2));
    call.check_bounds(begin);
}

/// Packets to one receiver: the first byte is the suite and whether its packets carry an identifier. Each record is a length,
/// a byte that says what to do, and bytes: taken as they are, or laid over a packet that was truly sent.
pub fn srtp(data: &[u8]) {
    let [choice, data @ ..] = data else { return };
    let suite = Suite::ALL[usize::from(choice & 0x0F) % Suite::ALL.len()];
    let key = MasterKey::ours(suite, &KeyMaterial([choice >> 4; MASTER_OCTETS_MAX]));
    let mki = (choice & 0x10 != 0).then_some(Mki { value: 5, octets: 2 });
    let mut named = key;
    named.mki = mki;
    let (mut outbound, mut inbound) = (Outbound::new(key), Inbound::new(named));
    let (mut rest, mut sequence, mut clear) = (data, 0_u16, Vec::new());
    let mut opened = std::collections::BTreeSet::new();
    while let [length, control, tail @ ..] = rest {
        let (bytes, next) = tail.split_at(usize::from(*length).min(tail.len()));
        rest = next;
        let is_rtcp = control & 1 != 0;
        let mut packet = bytes.to_vec();
        if control & 2 != 0 {
            // As a peer sends it; bytes laid over it make it foreign, unless they are zeros.
            sequence = sequence.wrapping_add(u16::from(control >> 4) << 10);
            let mut genuine = vec![0x80, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 7, 1, 2, 3, 4];
            genuine[2..4].copy_from_slice(&sequence.to_be_bytes());
            let is_sent = match is_rtcp {
                true => outbound.protect_rtcp(0, &mut genuine),
                false => outbound.protect_rtp(0, &mut genuine),
            };
            assert_eq!(is_sent, !genuine.is_empty());
            genuine.iter_mut().zip(&packet).for_each(|(octet, over)| *octet ^= over);
            packet = genuine;
        }
        let outcome = match is_rtcp {
            true => inbound.open_rtcp(&packet, &mut clear),
            false => inbound.open_rtp(&packet, &mut clear),
        };
        if outcome.is_ok() {
            assert!(clear.len() < packet.len());
            assert!(opened.insert((is_rtcp, packet)), "opened twice");
        }
    }
}

/// One message to an ICE-lite port.
pub fn stun(data: &[u8]) {
    let credentials = IceCredentials::from_random(&[1; CREDENTIAL_OCTETS]);
    let source = SocketAddr::from(([192, 0, 2, 1], 4_000));
    let mut out = Vec::new();
    match ice::answer(&credentials, source, data, &mut out) {
        Checked::Ignored => assert!(out.is_empty()),
        Checked::Answered { .. } => assert!(ice::is_stun(&out) && out.len() < 200),
    }
}

struct Call {
    session: Session,
    now: Instant,
    frames: u64,
    out: Vec<u8>,
}

impl Call {
    fn advance(&mut self, step: Duration) {
        let end = self.now + step;
        while let Some(due) = self.session.poll_timeout().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            self.drain();
        }
        self.now = end;
        self.out.clear();
        if self.session.send_frame(self.now, &[0xFF; 160], &mut self.out).is_some() {
            assert!(Packet::parse(&self.out).is_ok());
        }
    }

    fn drain(&mut self) {
        while let Some(frame) = self.session.poll_ingress(self.now) {
            assert_eq!(frame.timestamp_ms, self.frames * 20);
            self.frames += 1;
        }
        while self.session.poll_dtmf().is_some() {}
        self.out.clear();
        if self.session.poll_rtcp(self.now, &mut self.out).is_some() {
            assert!(Compound::parse(&self.out, 7).is_ok());
        }
        assert!(self.session.poll_timeout().is_some_and(|due| due > self.now));
    }

    /// The stream has not stopped: at the end of two quiet seconds it is no more behind than the longest wait.
    /// Nor has it run away: it is ahead by no more than what was received, and the pauses timestamps claimed.
    fn check_bounds(&mut self, begin: Instant) {
        self.drain();
        let elapsed_ms = (self.now - begin).as_millis() as u64;
        assert!(
            self.frames * 20 + 2_000 >= elapsed_ms.saturating_sub(2_000),
            "{} in {elapsed_ms} ms",
            self.frames
        );
    }
}

#[allow(clippy::disallowed_methods, reason = "an Instant can be had only from the clock")]
fn now() -> Instant {
    Instant::now()
}
