//! Offers as carriers, SBCs, PBXes and browsers write them, and what they are answered.
//!
//! `offers/*.sdp` are the offers, in text of our own after the shapes met in the wild; `expected.txt` says
//! for each what is agreed on and which `m=` lines the answer has, or why it is refused. Every answer is
//! besides held against the rules of RFC 3264 and read by webrtc-sdp as a second opinion.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as tests do")]

use std::fmt::Write as _;
use std::path::Path;

use tandem_media::sdp::{
    AnswerPolicy, Description, Direction, Offer, OfferPolicy, SdpError, accept_answer, answer, offer,
};
use tandem_media::{Codec, MediaParameters};

fn policy() -> AnswerPolicy {
    let mut policy =
        AnswerPolicy::new(vec![Codec::PCMA, Codec::PCMU], "203.0.113.5:20000".parse().unwrap(), 77, 3);
    policy.rtcp_mux = true;
    policy
}

fn offers() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/offers");
    let mut offers: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sdp"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    offers.sort();
    offers
}

fn body(name: &str) -> Vec<u8> {
    offers().into_iter().find(|(known, _)| known == name).unwrap().1
}

fn answered(body: &[u8], policy: &AnswerPolicy) -> Result<(String, MediaParameters), SdpError> {
    let (text, parameters) = answer(&Offer::parse(body)?, policy)?;
    Ok((String::from_utf8(text.to_vec()).unwrap(), parameters))
}

fn summary(name: &str, body: &[u8]) -> String {
    let (text, parameters) = match answered(body, &policy()) {
        Ok(answered) => answered,
        Err(error) => return format!("{name}: {} {error:?}", error.sip_status()),
    };
    let MediaParameters { codec, payload_type, ptime_ms, direction, remote, .. } = parameters;
    let mut line = format!("{name}: {}={payload_type}", codec.encoding_name());
    for (codec, number) in parameters.alternatives.into_iter().flatten() {
        write!(line, " {}={number}", codec.encoding_name()).unwrap();
    }
    if let Some(event) = parameters.telephone_event {
        write!(line, " dtmf={}/{}", event.payload_type, event.clock_hz).unwrap();
    }
    write!(line, " {ptime_ms}ms {} {remote}", direction.attribute()).unwrap();
    if let Some(rtcp) = parameters.remote_rtcp {
        write!(line, " rtcp={rtcp}").unwrap();
    }
    if parameters.rtcp_mux {
        line.push_str(" mux");
    }
    for media in text.lines().filter(|line| line.starts_with("m=")) {
        write!(line, " | {}", &media[2..]).unwrap();
    }
    line
}

#[test]
fn every_offer_is_answered_as_written_down() {
    let expected = include_str!("offers/expected.txt");
    let got: Vec<String> = offers().iter().map(|(name, body)| summary(name, body)).collect();
    for (got, expected) in got.iter().zip(expected.lines()) {
        assert_eq!(got, expected);
    }
    assert_eq!(got.len(), expected.lines().count(), "an offer without its line: {:#?}", got.last());
}

/// RFC 3264 section 6, each rule on each answer.
#[test]
fn every_answer_keeps_the_rules_of_the_offer_answer_model() {
    for (name, body) in offers() {
        let Ok((text, parameters)) = answered(&body, &policy()) else { continue };
        let offer = Offer::parse(&body).unwrap();
        let offer = offer.description();
        let answer = Description::parse(text.as_bytes()).unwrap();
        assert_eq!(offer.sections().len(), answer.sections().len(), "{name}: one line for each");
        let mut accepted = 0;
        for (offered, answered) in offer.sections().iter().zip(answer.sections()) {
            assert!(
                offered.media.eq_ignore_ascii_case(&answered.media) && offered.protocol == answered.protocol,
                "{name}: same order"
            );
            assert!(offered.port != 0 || answered.port == 0, "{name}: zero stays zero");
            if answered.port != 0 {
                accepted += 1;
                assert!(
                    answered.formats.iter().all(|format| offered.formats.contains(format)),
                    "{name}: only offered"
                );
                let theirs = offer.direction(offered);
                assert_eq!(
                    parameters.direction.and(theirs.reversed()),
                    parameters.direction,
                    "{name}: no more than offered"
                );
                assert_eq!(answer.direction(answered), parameters.direction, "{name}");
            }
        }
        assert_eq!(accepted, 1, "{name}: exactly one");
        assert!(
            text.ends_with("\r\n") && !text.replace("\r\n", "").contains(['\r', '\n']),
            "{name}: line ends"
        );
        assert!(
            text.starts_with("v=0\r\no=- 77 3 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt="),
            "{name}"
        );
    }
}

/// webrtc-sdp reads every answer it can express. It drops `m=image` and unknown transports, and panics or
/// refuses on none of ours.
#[test]
fn the_second_opinion_reads_our_answers_alike() {
    use webrtc_sdp::attribute_type::{SdpAttribute, SdpAttributeType};
    use webrtc_sdp::media_type::{SdpFormatList, SdpMediaValue};
    let mut read = 0;
    for (name, body) in offers() {
        let Ok((text, parameters)) = answered(&body, &policy()) else { continue };
        if ["image", "message"].iter().any(|media| text.contains(&format!("m={media}"))) {
            continue;
        }
        let theirs =
            webrtc_sdp::parse_sdp(&text, true).unwrap_or_else(|error| panic!("{name}: {error}\n{text}"));
        let audio = theirs.media.iter().find(|media| media.get_port() != 0).unwrap();
        read += 1;
        assert_eq!(audio.get_type(), &SdpMediaValue::Audio, "{name}");
        assert_eq!(audio.get_port(), 20_000);
        let SdpFormatList::Integers(formats) = audio.get_formats() else { panic!("{name}: formats") };
        assert_eq!(formats[0], u32::from(parameters.payload_type), "{name}: ours first");
        let Some(SdpAttribute::Ptime(ptime)) = audio.get_attribute(SdpAttributeType::Ptime) else {
            panic!("{name}")
        };
        assert_eq!(*ptime, u64::from(parameters.ptime_ms));
        let directions = [
            (SdpAttributeType::Sendrecv, Direction::SendRecv),
            (SdpAttributeType::Sendonly, Direction::SendOnly),
            (SdpAttributeType::Recvonly, Direction::RecvOnly),
            (SdpAttributeType::Inactive, Direction::Inactive),
        ];
        for (attribute, direction) in directions {
            assert_eq!(audio.get_attribute(attribute).is_some(), parameters.direction == direction, "{name}");
        }
    }
    assert!(read > 40, "{read}");
}

#[test]
fn the_answer_to_a_plain_offer_is_this() {
    let (text, _) = answered(&body("plain"), &policy()).unwrap();
    let expected = "v=0\r\no=- 77 3 IN IP4 203.0.113.5\r\ns=-\r\nc=IN IP4 203.0.113.5\r\nt=0 0\r\n\
        m=audio 20000 RTP/AVP 8 0 101\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:0 PCMU/8000\r\n\
        a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=ptime:20\r\na=sendrecv\r\n";
    assert_eq!(text, expected);
}

#[test]
fn the_trunk_decides_the_order_and_the_choice_of_codecs() {
    let agreed = |codecs: &[Codec]| {
        let policy = AnswerPolicy { codecs: codecs.to_vec(), ..policy() };
        let (_, parameters) = answered(&body("plain"), &policy)?;
        Ok((parameters.codec, parameters.alternatives[0]))
    };
    assert_eq!(agreed(&[Codec::PCMU, Codec::PCMA]), Ok((Codec::PCMU, Some((Codec::PCMA, 8)))));
    assert_eq!(agreed(&[Codec::PCMA, Codec::PCMU]), Ok((Codec::PCMA, Some((Codec::PCMU, 0)))));
    assert_eq!(agreed(&[Codec::PCMA]), Ok((Codec::PCMA, None)));
    assert_eq!(agreed(&[]), Err(SdpError::NoCommonCodec));
    let without_dtmf = AnswerPolicy { telephone_event: false, ..policy() };
    let (text, parameters) = answered(&body("plain"), &without_dtmf).unwrap();
    assert!(parameters.telephone_event.is_none() && !text.contains("telephone-event"));
}

#[test]
fn our_wish_of_direction_narrows_the_offer_s() {
    let direction = |name: &str, wish| {
        answered(&body(name), &AnswerPolicy { direction: wish, ..policy() }).unwrap().1.direction
    };
    assert_eq!(direction("plain", Direction::SendOnly), Direction::SendOnly);
    assert_eq!(direction("hold-sendonly", Direction::SendOnly), Direction::Inactive);
    assert_eq!(direction("hold-recvonly", Direction::SendOnly), Direction::SendOnly);
    assert_eq!(direction("plain", Direction::Inactive), Direction::Inactive);
}

#[test]
fn our_address_is_written_in_its_family() {
    let policy = AnswerPolicy { address: "[2001:db8::5]:20000".parse().unwrap(), ..policy() };
    let (text, parameters) = answered(&body("ipv6"), &policy).unwrap();
    assert!(text.contains("o=- 77 3 IN IP6 2001:db8::5\r\n") && text.contains("c=IN IP6 2001:db8::5\r\n"));
    assert_eq!(parameters.remote, "[2001:db8::10]:4000".parse().unwrap());
}

#[test]
fn every_line_of_an_offer_is_kept() {
    let body = body("contact-lines");
    let offer = Offer::parse(&body).unwrap();
    let kept: Vec<u8> = offer
        .description()
        .lines()
        .flat_map(|line| [&[line.kind, b'='][..], line.value, b"\r\n"].concat())
        .collect();
    assert_eq!(kept, body);
    let odd = Offer::parse(&self::body("unknown-attributes")).unwrap();
    assert!(odd.description().lines().any(|line| line.kind == 0 && line.value == b"nonsense"));
}

#[test]
fn bounds_are_kept() {
    let many = |line: &str, count: usize| ["v=0\r\n".to_owned(), line.repeat(count)].concat();
    let parse = |text: &str| Offer::parse(text.as_bytes()).err();
    assert_eq!(parse(&many("a=x\r\n", 3_000)), Some(SdpError::TooManyLines));
    assert_eq!(parse(&many("m=audio 1 RTP/AVP 0\r\n", 65)), Some(SdpError::TooManySections));
    assert_eq!(parse(&"a".repeat(65_537)), Some(SdpError::TooLarge(65_537)));
    assert_eq!(parse(&many("m=audio 1 RTP/AVP 0\r\n", 64)), None);
    let formats = format!("v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/AVP{}\r\n", " 18".repeat(10_000));
    assert_eq!(answered(formats.as_bytes(), &policy()).err(), Some(SdpError::NoCommonCodec));
}

/// Bytes changed, removed, doubled and cut at random: an error or an answer with a line for each line,
/// never a panic.
#[test]
fn mutated_offers_never_panic() {
    let offers = offers();
    let mut random = 1_u64;
    let mut next = move |below: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % below.max(1)
    };
    for round in 0..20_000 {
        let mut body = offers[round % offers.len()].1.clone();
        for _ in 0..=next(4) {
            let at = next(body.len());
            match next(4) {
                0 if !body.is_empty() => body[at] = next(256) as u8,
                1 => drop(body.splice(at..at, std::iter::repeat_n(b" =:/\r\n09m"[next(9)], 1 + next(3)))),
                2 => body.truncate(at),
                _ => body.extend_from_within(at..),
            }
        }
        let Ok(offer) = Offer::parse(&body) else { continue };
        if let Ok((text, _)) = answer(&offer, &policy()) {
            let answer = Description::parse(&text).unwrap();
            assert_eq!(answer.sections().len(), offer.description().sections().len());
        }
    }
}

#[test]
fn our_own_offer_is_answered_by_ourselves_and_the_answer_accepted() {
    let ours =
        offer(&OfferPolicy::new(vec![Codec::PCMU, Codec::PCMA], "203.0.113.9:30000".parse().unwrap(), 5, 1));
    let (text, theirs) = answered(&ours, &policy()).unwrap();
    let agreed = accept_answer(&ours, text.as_bytes()).unwrap();
    assert_eq!((agreed.codec, agreed.payload_type), (Codec::PCMA, 8), "the answer's first");
    assert_eq!(agreed.codec, theirs.codec, "both send the same");
    assert_eq!(agreed.remote, "203.0.113.5:20000".parse().unwrap());
    assert_eq!(agreed.telephone_event, theirs.telephone_event);
    assert_eq!(agreed.direction, Direction::SendRecv);
    assert!(webrtc_sdp::parse_sdp(std::str::from_utf8(&ours).unwrap(), true).is_ok());
}

#[test]
fn answers_that_do_not_fit_are_told_apart() {
    let ours = offer(&OfferPolicy::new(vec![Codec::PCMU], "203.0.113.9:30000".parse().unwrap(), 5, 1));
    let head = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n";
    let accept = |media: &str| accept_answer(&ours, format!("{head}{media}").as_bytes());
    assert_eq!(accept("m=audio 0 RTP/AVP 0\r\n"), Err(SdpError::AudioRefused));
    assert_eq!(accept(""), Err(SdpError::SectionCount { offered: 1, answered: 0 }));
    assert_eq!(accept("m=audio 4000 RTP/AVP 8\r\n"), Err(SdpError::NoCommonCodec), "A-law was not offered");
    assert_eq!(accept("m=audio 4000 RTP/SAVP 0\r\n"), Err(SdpError::EncryptionRequired));
    assert_eq!(accept_answer(&ours, b"rubbish"), Err(SdpError::NotSdp));
    let held = accept("m=audio 4000 RTP/AVP 0\r\na=sendonly\r\n").unwrap();
    assert_eq!((held.direction, held.telephone_event), (Direction::RecvOnly, None));
}

/// RFC 3264 section 8: lines of earlier negotiations stay, switched off, when we offer again.
#[test]
fn a_later_offer_keeps_the_lines_there_were() {
    let refused = tandem_media::sdp::RefusedMedia {
        media: "image".into(),
        protocol: "udptl".into(),
        formats: "t38".into(),
    };
    let mut policy = OfferPolicy::new(vec![Codec::PCMU], "203.0.113.9:30000".parse().unwrap(), 5, 2);
    policy.before.push(refused.clone());
    policy.after.push(refused);
    let ours = offer(&policy);
    let lines: Vec<&str> =
        std::str::from_utf8(&ours).unwrap().lines().filter(|line| line.starts_with("m=")).collect();
    assert_eq!(lines, ["m=image 0 udptl t38", "m=audio 30000 RTP/AVP 0 101", "m=image 0 udptl t38"]);
    let head = "v=0\r\nc=IN IP4 192.0.2.1\r\n";
    let answer = format!("{head}m=image 0 udptl t38\r\nm=audio 4000 RTP/AVP 0\r\nm=image 0 udptl t38\r\n");
    assert_eq!(accept_answer(&ours, answer.as_bytes()).unwrap().remote, "192.0.2.1:4000".parse().unwrap());
}

#[test]
fn refusals_carry_the_status_of_their_fault() {
    let status = |name: &str| {
        Offer::parse(&body(name)).and_then(|offer| answer(&offer, &policy())).unwrap_err().sip_status()
    };
    assert_eq!(status("g729-only"), 488);
    assert_eq!(status("encrypted-only"), 488);
    assert_eq!(status("not-sdp"), 400);
    assert_eq!(SdpError::TooLarge(1).sip_status(), 413);
}

const WIDEBAND: &str = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
    m=audio 4000 RTP/AVP 0 8 9 13 101\r\na=rtpmap:9 G722/8000\r\na=rtpmap:13 CN/8000\r\n\
    a=rtpmap:101 telephone-event/8000\r\n";

#[test]
fn g722_is_spoken_where_the_trunk_allows_it_and_never_otherwise() {
    let (text, parameters) = answered(WIDEBAND.as_bytes(), &policy()).unwrap();
    assert!(!text.contains("G722"), "{text}");
    assert_eq!(parameters.codec_of(9), None);
    let policy = AnswerPolicy { codecs: vec![Codec::G722, Codec::PCMU, Codec::PCMA], ..policy() };
    for offer in [WIDEBAND.to_owned(), WIDEBAND.replace("a=rtpmap:9 G722/8000\r\n", "")] {
        let (text, parameters) = answered(offer.as_bytes(), &policy).unwrap();
        assert!(text.contains("m=audio 20000 RTP/AVP 9 0 8 13 101\r\na=rtpmap:9 G722/8000\r\n"), "{text}");
        assert_eq!((parameters.codec, parameters.payload_type), (Codec::G722, 9));
        assert_eq!(
            [0, 8, 9].map(|number| parameters.codec_of(number)),
            [Codec::PCMU, Codec::PCMA, Codec::G722].map(Some)
        );
    }
    // RFC 3551 section 4.5.2 wants 8000; some write what they mean.
    let (text, _) = answered(WIDEBAND.replace("G722/8000", "g722/16000").as_bytes(), &policy).unwrap();
    assert!(text.contains("a=rtpmap:9 G722/8000"), "{text}");
    let ours = offer(&OfferPolicy::new(policy.codecs.clone(), policy.address, 5, 1));
    let agreed = accept_answer(&ours, WIDEBAND.replace("0 8 9 13", "9 0").as_bytes()).unwrap();
    assert_eq!((agreed.codec, agreed.alternatives[0]), (Codec::G722, Some((Codec::PCMU, 0))));
}

#[test]
fn comfort_noise_is_answered_where_it_is_offered_and_never_offered() {
    let (text, _) = answered(WIDEBAND.as_bytes(), &policy()).unwrap();
    assert!(text.contains(" 8 0 13 101\r\n") && text.contains("a=rtpmap:13 CN/8000\r\n"), "{text}");
    for without in [WIDEBAND.replace(" 13 ", " "), WIDEBAND.replace("CN/8000", "telephone-event/16000")] {
        let (text, _) = answered(without.as_bytes(), &policy()).unwrap();
        assert!(!text.contains("CN/8000"), "{text}");
    }
    let ours = offer(&OfferPolicy::new(vec![Codec::PCMU], "203.0.113.9:30000".parse().unwrap(), 5, 1));
    assert!(!String::from_utf8_lossy(&ours).contains("CN"));
}
