//! Answers an offer, section for section.
//!
//! Exactly one audio section is accepted: the first that is switched on, has a codec in common and the
//! encryption that the policy asks for. Every other section is refused with port 0, its media, transport and
//! formats echoed; so of alternatives in the clear and encrypted never both are accepted.
//!
//! **Encryption.** A section is encrypted when it brings a usable `a=crypto` line, on `RTP/SAVP` or, as phones
//! that encrypt at will have it, on `RTP/AVP`. Where encryption is merely preferred, an encrypted section is
//! looked for first, wherever it stands.
//!
//! **Comfort noise** (RFC 3389, payload type 13) is answered whenever it is offered: its descriptions are understood,
//! and a peer that may send them need not send its background. We send none, for we never pause, and offer none.
//!
//! **Order of codecs.** The answer lists every codec that both the trunk and the offer have, in the
//! *trunk's* order, and we send the first. RFC 3264 section 6.1 recommends the offer's order "unless there
//! is a specific reason": the trunk's configuration is one, and because the peer in turn takes the answer's
//! first format, both directions use the same codec. Packets of the other listed codecs are still understood.
//!
//! RFC 3264 sections 6 and 8; RFC 4568 section 7.1.2; RFC 4733 section 2.4.1; RFC 5761 section 5.1.1; RFC 8839.

use std::fmt::Write as _;
use std::net::SocketAddr;

use bytes::Bytes;

use super::SdpError;
use super::crypto::CryptoLine;
use super::lines::number;
use super::params::{Direction, MediaParameters, TelephoneEvent};
use super::parse::{Description, Offer, Section};
use crate::codec::Codec;
use crate::ice::IceCredentials;
use crate::srtp::{KeyMaterial, MASTER_OCTETS_MAX, MasterKey, SrtpKeys};

/// Packet length when the offer has no wish, in milliseconds (RFC 3551 section 4.2).
pub(super) const PTIME_DEFAULT_MS: u32 = 20;

/// Comfort noise for codecs whose clock runs at 8000 Hz (RFC 3389 section 4).
const COMFORT_NOISE_PAYLOAD_TYPE: u8 = 13;

/// Whether media is to be encrypted. [`Self::Off`] is also what a transport in the clear allows, for keys must not cross it
/// (RFC 4568 section 8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encryption {
    /// Only media in the clear is accepted; keys are neither read nor offered.
    #[default]
    Off,
    /// Encrypted media is accepted first, media in the clear otherwise.
    Preferred,
    /// Only encrypted media is accepted.
    Required,
}

/// What this side wants of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnswerPolicy {
    /// The trunk's codecs in its order of preference.
    pub codecs: Vec<Codec>,
    /// Whether DTMF events are taken when offered.
    pub telephone_event: bool,
    /// Our RTP address as the peer must see it.
    pub address: SocketAddr,
    /// `o=` session id: the same for all descriptions of one dialog.
    pub session_id: u64,
    /// `o=` version: one more for each description of the dialog that differs from the one before
    /// (RFC 3264 section 8).
    pub version: u64,
    /// Whether RTCP may share the RTP port when the offer asks for it.
    pub rtcp_mux: bool,
    /// What we want to do; the offer may allow less.
    pub direction: Direction,
    /// Whether media is to be encrypted.
    pub encryption: Encryption,
    /// What our key is made of when it is: random, and for this call alone.
    pub key: KeyMaterial,
    /// Our credentials when an offer that carries ICE may be answered in kind.
    pub ice: Option<IceCredentials>,
}

impl AnswerPolicy {
    /// A policy that takes DTMF, wants both directions, keeps RTCP on its own port, and neither encrypts nor does ICE.
    pub fn new(codecs: Vec<Codec>, address: SocketAddr, session_id: u64, version: u64) -> Self {
        Self {
            codecs,
            telephone_event: true,
            address,
            session_id,
            version,
            rtcp_mux: false,
            direction: Direction::SendRecv,
            encryption: Encryption::Off,
            key: KeyMaterial([0; MASTER_OCTETS_MAX]),
            ice: None,
        }
    }
}

/// Answers `offer`: the answer's text and the parameters it agrees on.
///
/// Errors say why no audio section could be accepted; [`SdpError::sip_status`] gives the refusal.
pub fn answer(offer: &Offer, policy: &AnswerPolicy) -> Result<(Bytes, MediaParameters), SdpError> {
    let description = offer.description();
    let Choice { index: accepted, formats, crypto } = choose(description, policy)?;
    let section = &description.sections()[accepted];
    let mut parameters = parameters(description, section, &formats, policy);
    let ice = description.ice(section).answer(policy.ice, description.rtp_address(section));
    parameters.ice = ice.credentials();
    let ours = crypto.map(|offered| {
        let key = MasterKey::ours(offered.key.suite(), &policy.key);
        parameters.srtp = Some(SrtpKeys { local: key, remote: offered.key });
        CryptoLine { key, ..offered }
    });

    let mut text = String::with_capacity(512);
    write_session(&mut text, policy.address, policy.session_id, policy.version);
    write_times(&mut text, description);
    ice.write_session(&mut text);
    // RFC 3264 section 6: "For each "m=" line in the offer, there MUST be a corresponding "m=" line in
    // the answer. The answer MUST contain exactly the same number of "m=" lines as the offer."
    for (index, section) in description.sections().iter().enumerate() {
        if index == accepted {
            let protocol = String::from_utf8_lossy(&section.protocol);
            write_audio(&mut text, policy.address.port(), &protocol, &formats, &parameters);
            if let Some(line) = &ours {
                line.write(&mut text);
            }
            ice.write_section(&mut text, policy.address, parameters.rtcp_mux);
        } else {
            write_refused(&mut text, section);
        }
    }
    Ok((Bytes::from(text), parameters))
}

/// The section to accept.
struct Choice {
    index: usize,
    formats: Formats,
    /// The line whose key the peer will send with, when the section is encrypted.
    crypto: Option<CryptoLine>,
}

/// The formats two sides have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Formats {
    /// Codecs with the payload types the offer gave them, ours first.
    pub(super) codecs: Vec<(Codec, u8)>,
    /// Whether descriptions of noise (payload type 13) may come.
    pub(super) comfort_noise: bool,
    pub(super) telephone_event: Option<TelephoneEvent>,
}

fn choose(description: &Description, policy: &AnswerPolicy) -> Result<Choice, SdpError> {
    match policy.encryption {
        Encryption::Off => choose_plain(description, policy),
        Encryption::Required => choose_encrypted(description, policy),
        Encryption::Preferred => match choose_encrypted(description, policy) {
            Ok(choice) => Ok(choice),
            // What is wrong with the keys is worth more than that nothing else is there.
            Err(error) => choose_plain(description, policy).map_err(|plain| match (plain, error) {
                (SdpError::EncryptionRequired, error) => error,
                (plain, _) => plain,
            }),
        },
    }
}

/// RFC 3264 section 6: "If a stream is offered with port zero, it MUST be answered with port zero."
fn audio_sections(description: &Description) -> impl Iterator<Item = (usize, &Section)> {
    let all = description.sections().iter().enumerate();
    all.filter(|(_, section)| section.is_audio() && section.port != 0)
}

fn choose_plain(description: &Description, policy: &AnswerPolicy) -> Result<Choice, SdpError> {
    let mut reason = SdpError::NoAudio;
    for (index, section) in audio_sections(description) {
        if !section.is_plain_rtp() {
            if reason == SdpError::NoAudio && section.is_encrypted() {
                reason = SdpError::EncryptionRequired;
            }
            continue;
        }
        let formats = common_formats(section, &policy.codecs, policy.telephone_event);
        if !formats.codecs.is_empty() {
            return Ok(Choice { index, formats, crypto: None });
        }
        reason = SdpError::NoCommonCodec;
    }
    Err(reason)
}

fn choose_encrypted(description: &Description, policy: &AnswerPolicy) -> Result<Choice, SdpError> {
    let mut reason = SdpError::NoAudio;
    for (index, section) in audio_sections(description) {
        let crypto = match encryption_of(section) {
            Ok(crypto) => crypto,
            // The first thing that is wrong with keys tells more than that another section has none.
            Err(error) => {
                if matches!(reason, SdpError::NoAudio | SdpError::EncryptionMissing) {
                    reason = error;
                }
                continue;
            }
        };
        let formats = common_formats(section, &policy.codecs, policy.telephone_event);
        if !formats.codecs.is_empty() {
            return Ok(Choice { index, formats, crypto: Some(crypto) });
        }
        reason = SdpError::NoCommonCodec;
    }
    Err(reason)
}

/// The line by which a section can be encrypted, or why it cannot.
pub(super) fn encryption_of(section: &Section) -> Result<CryptoLine, SdpError> {
    if !section.is_keyed_by_sdp() && !section.is_plain_rtp() {
        // Keyed by DTLS, or no RTP at all.
        let is_encrypted = section.is_encrypted();
        return Err(if is_encrypted { SdpError::KeysMissing } else { SdpError::EncryptionMissing });
    }
    match section.crypto() {
        Some(line) => line.map_err(SdpError::KeyUnusable),
        None if section.is_keyed_by_sdp() => Err(SdpError::KeysMissing),
        None => Err(SdpError::EncryptionMissing),
    }
}

pub(super) fn common_formats(section: &Section, codecs: &[Codec], telephone_event: bool) -> Formats {
    let codecs =
        codecs.iter().filter_map(|codec| Some((*codec, payload_type_of(section, *codec)?))).collect();
    let telephone_event = telephone_event.then(|| offered_telephone_event(section)).flatten();
    // The static number needs no map; a map that gives it to something else takes it away.
    let is_comfort_noise = |number: u8| {
        section.encodings.iter().find(|encoding| encoding.payload_type == number).is_none_or(|encoding| {
            encoding.name.eq_ignore_ascii_case(b"CN")
                && encoding.clock_hz.unwrap_or(crate::SAMPLE_RATE_HZ) == crate::SAMPLE_RATE_HZ
        })
    };
    let comfort_noise =
        payload_types(section).any(|number| number == COMFORT_NOISE_PAYLOAD_TYPE && is_comfort_noise(number));
    Formats { codecs, comfort_noise, telephone_event }
}

fn payload_types(section: &Section) -> impl Iterator<Item = u8> {
    section.formats.iter().filter_map(|format| number(format)).filter_map(|number| u8::try_from(number).ok())
}

/// The payload type a section gives a codec: by its rtpmap, or by the static number without one.
fn payload_type_of(section: &Section, codec: Codec) -> Option<u8> {
    payload_types(section).filter(|number| *number < 128).find(|number| {
        match section.encodings.iter().find(|encoding| encoding.payload_type == *number) {
            Some(encoding) => {
                codec.is_named(&encoding.name, encoding.clock_hz.unwrap_or(crate::SAMPLE_RATE_HZ))
                    && encoding.channels == 1
            }
            None => *number == codec.payload_type(),
        }
    })
}

/// The offered telephone-event, by preference the one whose clock is that of G.711: RFC 4733 section
/// 2.1 wants one timestamp clock for the audio and its events, but offers with 16000 alone are met.
fn offered_telephone_event(section: &Section) -> Option<TelephoneEvent> {
    let mut events = payload_types(section).filter_map(|number| {
        let encoding = section.encodings.iter().find(|encoding| encoding.payload_type == number)?;
        if !encoding.name.eq_ignore_ascii_case(b"telephone-event") {
            return None;
        }
        let clock_hz = encoding.clock_hz.unwrap_or(crate::SAMPLE_RATE_HZ);
        matches!(clock_hz, 8_000 | 16_000).then_some(TelephoneEvent { payload_type: number, clock_hz })
    });
    let first = events.next()?;
    if first.clock_hz == crate::SAMPLE_RATE_HZ {
        return Some(first);
    }
    Some(events.find(|event| event.clock_hz == crate::SAMPLE_RATE_HZ).unwrap_or(first))
}

pub(super) fn parameters_from(
    description: &Description,
    section: &Section,
    formats: &Formats,
    wanted: Direction,
) -> MediaParameters {
    let (codec, payload_type) = formats.codecs[0];
    let mut direction = wanted.and(description.direction(section).reversed());
    if description.has_null_address(section) {
        // RFC 3264 section 8.4: with a null address "neither RTP nor RTCP should be sent to the peer".
        direction = direction.and(Direction::RecvOnly);
    }
    MediaParameters {
        remote: description.rtp_address(section),
        remote_rtcp: description.rtcp_address(section),
        rtcp_mux: section.rtcp_mux,
        codec,
        payload_type,
        alternatives: [formats.codecs.get(1).copied(), formats.codecs.get(2).copied()],
        telephone_event: formats.telephone_event,
        ptime_ms: packet_length_ms(description.ptime_ms(section), description.maxptime_ms(section)),
        direction,
        srtp: None,
        ice: None,
    }
}

fn parameters(
    description: &Description,
    section: &Section,
    formats: &Formats,
    policy: &AnswerPolicy,
) -> MediaParameters {
    let mut parameters = parameters_from(description, section, formats, policy.direction);
    parameters.rtcp_mux &= policy.rtcp_mux;
    parameters
}

/// The packet length to send: the wish rounded down to 10 ms steps, within 10 to 60 and `maxptime`.
fn packet_length_ms(ptime: Option<u32>, maxptime: Option<u32>) -> u8 {
    let most = maxptime.unwrap_or(60).clamp(10, 60);
    let wish = ptime.unwrap_or(PTIME_DEFAULT_MS).clamp(10, most);
    u8::try_from(wish / 10 * 10).expect("at most 60 after clamping")
}

pub(super) fn write_session(text: &mut String, address: SocketAddr, session_id: u64, version: u64) {
    let family = if address.is_ipv4() { "IP4" } else { "IP6" };
    let ip = address.ip();
    let _ =
        write!(text, "v=0\r\no=- {session_id} {version} IN {family} {ip}\r\ns=-\r\nc=IN {family} {ip}\r\n");
}

/// RFC 3264 section 6: "The "t=" line in the answer MUST exactly match that of the offer." One that is
/// missing or cannot be read is answered as unbounded.
fn write_times(text: &mut String, description: &Description) {
    let readable = |value: &[u8]| {
        value.iter().all(|byte| byte.is_ascii_digit() || *byte == b' ')
            && super::lines::words(value).count() == 2
    };
    match description.session_lines().find(|line| line.kind == b't' && readable(line.value)) {
        Some(line) => {
            let _ = write!(text, "t={}\r\n", String::from_utf8_lossy(line.value));
        }
        None => text.push_str("t=0 0\r\n"),
    }
}

pub(super) fn write_audio(
    text: &mut String,
    port: u16,
    protocol: &str,
    formats: &Formats,
    parameters: &MediaParameters,
) {
    let _ = write!(text, "m=audio {port} {protocol}");
    for (_, number) in &formats.codecs {
        let _ = write!(text, " {number}");
    }
    if formats.comfort_noise {
        let _ = write!(text, " {COMFORT_NOISE_PAYLOAD_TYPE}");
    }
    if let Some(event) = formats.telephone_event {
        let _ = write!(text, " {}", event.payload_type);
    }
    text.push_str("\r\n");
    for (codec, number) in &formats.codecs {
        let _ = write!(text, "a=rtpmap:{number} {}/8000\r\n", codec.encoding_name());
    }
    if formats.comfort_noise {
        let _ = write!(text, "a=rtpmap:{COMFORT_NOISE_PAYLOAD_TYPE} CN/8000\r\n");
    }
    if let Some(TelephoneEvent { payload_type, clock_hz }) = formats.telephone_event {
        let _ = write!(
            text,
            "a=rtpmap:{payload_type} telephone-event/{clock_hz}\r\na=fmtp:{payload_type} 0-16\r\n"
        );
    }
    let _ = write!(text, "a=ptime:{}\r\na={}\r\n", parameters.ptime_ms, parameters.direction.attribute());
    if parameters.rtcp_mux {
        text.push_str("a=rtcp-mux\r\n");
    }
}

/// RFC 3264 section 6: "To reject an offered stream, the port number in the corresponding stream in the
/// answer MUST be set to zero. Any media formats listed are ignored", yet one at least must be there.
fn write_refused(text: &mut String, section: &Section) {
    let media = String::from_utf8_lossy(&section.media);
    let protocol = String::from_utf8_lossy(&section.protocol);
    let _ = write!(text, "m={media} 0 {protocol}");
    if section.formats.is_empty() {
        text.push_str(" 0");
    }
    for format in &section.formats {
        let _ = write!(text, " {}", String::from_utf8_lossy(format));
    }
    text.push_str("\r\n");
}
