//! Our own offers, and what the peer's answer to them means.
//!
//! Used where we call (test caller, outbound legs), where an INVITE came without an offer, and where we
//! re-offer within a dialog. One audio section is offered; sections of earlier negotiations are kept,
//! switched off, so that the number of `m=` lines never shrinks.
//!
//! RFC 3264 sections 5, 6 and 8: "the new offer MUST contain at least as many "m=" lines"; RFC 4568 sections 7.1.1 and 7.1.3.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;

use super::SdpError;
use super::answer::{
    Encryption, Formats, common_formats, encryption_of, parameters_from, write_audio, write_session,
};
use super::crypto::CryptoLine;
use super::params::{Direction, MediaParameters, TelephoneEvent};
use super::parse::{Description, Section};
use crate::codec::Codec;
use crate::srtp::{MasterKey, SrtpKeys};

/// The payload type we give telephone-event: what nearly everyone uses, so that even peers that forget
/// to map it get it right.
pub const TELEPHONE_EVENT_PAYLOAD_TYPE: u8 = 101;

/// What we offer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OfferPolicy {
    /// Codecs in our order of preference; must not be empty.
    pub codecs: Vec<Codec>,
    /// Whether DTMF events are offered, with payload type 101 at 8000 Hz.
    pub telephone_event: bool,
    /// Our RTP address as the peer must see it.
    pub address: SocketAddr,
    /// `o=` session id: the same for all descriptions of one dialog.
    pub session_id: u64,
    /// `o=` version: one more for each description that differs from the one before.
    pub version: u64,
    /// Packet length we want to receive, in milliseconds.
    pub ptime_ms: u8,
    /// What we want to do.
    pub direction: Direction,
    /// Whether RTCP may share the RTP port.
    pub rtcp_mux: bool,
    /// Keys of ours, when encryption is offered.
    pub keys: OfferedKeys,
    /// Sections that stand before the audio in this dialog's descriptions, all switched off.
    pub before: Vec<RefusedMedia>,
    /// Sections that stand behind the audio, all switched off.
    pub after: Vec<RefusedMedia>,
}

/// What an offer of ours says of encryption.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OfferedKeys {
    /// One for each suite, the preferred first, each random and for this offer alone (RFC 4568 section 6.1). Empty: media
    /// in the clear.
    pub keys: Vec<MasterKey>,
    /// Whether the peer may leave encryption out: the keys then stand below `RTP/AVP`, which a peer that knows none answers
    /// in the clear, where `RTP/SAVP` would have it refuse the call.
    pub may_be_left_out: bool,
}

impl OfferedKeys {
    fn protocol(&self) -> &'static str {
        if self.keys.is_empty() || self.may_be_left_out { "RTP/AVP" } else { "RTP/SAVP" }
    }
}

/// A section that is only there because it once was: its media, transport and one format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedMedia {
    /// Media type, such as `image`.
    pub media: String,
    /// Transport, such as `udptl`.
    pub protocol: String,
    /// Formats, separated by blanks, such as `t38`.
    pub formats: String,
}

impl OfferPolicy {
    /// An offer of `codecs` with DTMF, 20 ms, both ways.
    pub fn new(codecs: Vec<Codec>, address: SocketAddr, session_id: u64, version: u64) -> Self {
        Self {
            codecs,
            telephone_event: true,
            address,
            session_id,
            version,
            ptime_ms: 20,
            direction: Direction::SendRecv,
            rtcp_mux: false,
            keys: OfferedKeys::default(),
            before: Vec::new(),
            after: Vec::new(),
        }
    }
}

/// Writes an offer.
pub fn offer(policy: &OfferPolicy) -> Bytes {
    let event =
        TelephoneEvent { payload_type: TELEPHONE_EVENT_PAYLOAD_TYPE, clock_hz: crate::SAMPLE_RATE_HZ };
    let formats = Formats {
        codecs: policy.codecs.iter().map(|codec| (*codec, codec.payload_type())).collect(),
        // Whoever is not asked to be silent in its pauses sends its background as it is.
        comfort_noise: false,
        telephone_event: policy.telephone_event.then_some(event),
    };
    let codec = policy.codecs.first().copied().unwrap_or(Codec::PCMU);
    let parameters = MediaParameters {
        ptime_ms: policy.ptime_ms,
        direction: policy.direction,
        rtcp_mux: policy.rtcp_mux,
        ..MediaParameters::plain(policy.address, codec)
    };
    let mut text = String::with_capacity(512);
    write_session(&mut text, policy.address, policy.session_id, policy.version);
    text.push_str("t=0 0\r\n");
    for media in &policy.before {
        write_off(&mut text, media);
    }
    write_audio(&mut text, policy.address.port(), policy.keys.protocol(), &formats, &parameters);
    for (key, tag) in policy.keys.keys.iter().zip(1..) {
        CryptoLine::ours(tag, *key).write(&mut text);
    }
    for media in &policy.after {
        write_off(&mut text, media);
    }
    Bytes::from(text)
}

/// What the peer's `answer` to our `offer` agrees on, or why it cannot be used.
pub fn accept_answer(offer: &[u8], answer: &[u8]) -> Result<MediaParameters, SdpError> {
    let offer = Description::parse(offer)?;
    let answer = Description::parse(answer)?;
    let index = offer
        .sections()
        .iter()
        .position(|section| section.is_audio() && section.port != 0)
        .ok_or(SdpError::NoAudio)?;
    let (offered, answered) = (offer.sections().len(), answer.sections().len());
    // A surplus of sections behind ours harms nobody; a missing one leaves ours without an answer.
    let section = answer.sections().get(index).ok_or(SdpError::SectionCount { offered, answered })?;
    if !section.is_audio() || section.port == 0 {
        return Err(SdpError::AudioRefused);
    }
    let ours = &offer.sections()[index];
    let keys = agreed_keys(ours, section)?;
    let offered = common_formats(ours, &Codec::ALL, true);
    // RFC 3264 section 7: the offerer "SHOULD send using the first media format listed in the answer",
    // so it is the answer's order that counts here.
    let mut formats = common_formats(section, &Codec::ALL, offered.telephone_event.is_some());
    formats.codecs.retain(|(codec, _)| offered.codecs.iter().any(|(offered, _)| offered == codec));
    formats.codecs.sort_by_key(|(_, number)| position(&section.formats, *number));
    if formats.codecs.is_empty() {
        return Err(SdpError::NoCommonCodec);
    }
    let wanted = offer.direction(ours);
    let mut parameters = parameters_from(&answer, section, &formats, wanted);
    parameters.rtcp_mux &= ours.rtcp_mux;
    parameters.srtp = keys;
    Ok(parameters)
}

/// The keys that our section and the answer to it come to, nothing for media in the clear.
fn agreed_keys(ours: &Section, theirs: &Section) -> Result<Option<SrtpKeys>, SdpError> {
    let wish = match (ours.crypto.is_empty(), ours.is_keyed_by_sdp()) {
        (true, _) => Encryption::Off,
        (false, true) => Encryption::Required,
        (false, false) => Encryption::Preferred,
    };
    let answered = match (wish, encryption_of(theirs)) {
        (Encryption::Off, _) if theirs.is_plain_rtp() => return Ok(None),
        (Encryption::Off, _) => return Err(SdpError::EncryptionRequired),
        (Encryption::Preferred, Err(SdpError::EncryptionMissing)) if theirs.is_plain_rtp() => {
            return Ok(None);
        }
        (Encryption::Preferred | Encryption::Required, answered) => answered?,
    };
    // RFC 4568 section 5.1.3: the answer has the tag and the suite of one of our lines. Some answer every offer with tag 1;
    // the suite tells which was meant.
    let of_suite = |line: &&CryptoLine| line.key.suite() == answered.key.suite();
    let lines = || ours.crypto.iter().flatten();
    let chosen =
        lines().find(|line| line.tag == answered.tag).filter(of_suite).or_else(|| lines().find(of_suite));
    let chosen = chosen.ok_or(SdpError::KeyUnusable(super::CryptoFault::Suite))?;
    Ok(Some(SrtpKeys { local: chosen.key, remote: answered.key }))
}

fn position(formats: &[Vec<u8>], payload_type: u8) -> usize {
    let matches = |format: &Vec<u8>| super::lines::number(format) == Some(u32::from(payload_type));
    formats.iter().position(matches).unwrap_or(usize::MAX)
}

fn write_off(text: &mut String, media: &RefusedMedia) {
    let RefusedMedia { media, protocol, formats } = media;
    let _ = write!(text, "m={media} 0 {protocol} {formats}\r\n");
}
