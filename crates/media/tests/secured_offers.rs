//! Offers and answers with keys: what carriers write in `a=crypto` lines, what each policy makes of it, and both sides of a
//! negotiation in one.

#![expect(clippy::unwrap_used, reason = "the helpers of tests panic as tests do")]

use tandem_media::ice::{CREDENTIAL_OCTETS, IceCredentials};
use tandem_media::sdp::{
    AnswerPolicy, CryptoFault, Encryption, Offer, OfferPolicy, OfferedKeys, SdpError, accept_answer, answer,
    offer,
};
use tandem_media::srtp::{KeyMaterial, MASTER_OCTETS_MAX, MasterKey, Suite};
use tandem_media::{Codec, MediaParameters};

const KEY: &str = "WVNfX19zZW1jdGwgKCkgewkyMjA7fQp9CnVubGVz";
const KEY_46: &str = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NQ==";

fn policy(encryption: Encryption) -> AnswerPolicy {
    AnswerPolicy {
        encryption,
        key: KeyMaterial([0x61; MASTER_OCTETS_MAX]),
        ..AnswerPolicy::new(vec![Codec::PCMU, Codec::PCMA], "203.0.113.5:20000".parse().unwrap(), 77, 1)
    }
}

fn answered(sections: &str, encryption: Encryption) -> Result<(String, MediaParameters), SdpError> {
    let body = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{sections}");
    let (text, parameters) = answer(&Offer::parse(body.as_bytes())?, &policy(encryption))?;
    Ok((String::from_utf8(text.to_vec()).unwrap(), parameters))
}

fn savp(lines: &str) -> String {
    format!("m=audio 4000 RTP/SAVP 0 8\r\n{lines}")
}

/// The `a=crypto` lines of a text.
fn crypto(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("a=crypto")).collect()
}

#[test]
fn each_policy_takes_what_it_should_of_each_offer() {
    use Encryption::*;
    let line = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    let plain = "m=audio 4000 RTP/AVP 0 8\r\n".to_owned();
    let at_will = format!("{plain}{line}");
    let (secure, keyless) = (savp(&line), savp(""));
    let dtls = "m=audio 4000 UDP/TLS/RTP/SAVPF 0\r\na=fingerprint:sha-256 AA\r\n".to_owned();
    let both = format!("{plain}{secure}");
    let refused = |error| Err(error);
    for (name, offer, off, preferred, required) in [
        ("plain", &plain, Ok(false), Ok(false), refused(SdpError::EncryptionMissing)),
        ("at will", &at_will, Ok(false), Ok(true), Ok(true)),
        ("secure", &secure, refused(SdpError::EncryptionRequired), Ok(true), Ok(true)),
        ("both", &both, Ok(false), Ok(true), Ok(true)),
        (
            "keyless",
            &keyless,
            refused(SdpError::EncryptionRequired),
            refused(SdpError::KeysMissing),
            refused(SdpError::KeysMissing),
        ),
        (
            "dtls",
            &dtls,
            refused(SdpError::EncryptionRequired),
            refused(SdpError::KeysMissing),
            refused(SdpError::KeysMissing),
        ),
    ] {
        for (encryption, expected) in [(Off, off), (Preferred, preferred), (Required, required)] {
            let outcome = answered(offer, encryption);
            let is_secured = outcome.as_ref().map(|(_, parameters)| parameters.srtp.is_some());
            assert_eq!(is_secured.map_err(|error| *error), expected, "{name} {encryption:?}");
            if let Ok((text, parameters)) = outcome {
                assert_eq!(crypto(&text).len(), usize::from(parameters.srtp.is_some()), "{text}");
            }
        }
    }
}

/// siphon-ai#406: both alternatives accepted on one port is silence.
#[test]
fn of_alternatives_exactly_one_is_accepted() {
    let line = format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n");
    let plain = "m=audio 4002 RTP/AVP 0 8\r\n";
    for offer in [format!("{}{plain}", savp(&line)), format!("{plain}{}", savp(&line))] {
        for encryption in [Encryption::Off, Encryption::Preferred, Encryption::Required] {
            let (text, parameters) = answered(&offer, encryption).unwrap();
            let sections: Vec<&str> = text.lines().filter(|line| line.starts_with("m=")).collect();
            assert_eq!(sections.len(), 2, "{text}");
            assert_eq!(sections.iter().filter(|line| line.starts_with("m=audio 0 ")).count(), 1, "{text}");
            let is_secured = encryption != Encryption::Off;
            assert_eq!(parameters.remote.port(), if is_secured { 4000 } else { 4002 });
            assert_eq!(crypto(&text).len(), usize::from(is_secured), "{text}");
        }
    }
}

#[test]
fn the_first_usable_line_is_answered_with_its_tag_and_its_name() {
    for (lines, tag_and_name) in [
        (format!("a=crypto:7 AES_CM_128_HMAC_SHA1_32 inline:{KEY}\r\n"), "7 AES_CM_128_HMAC_SHA1_32 "),
        (
            format!("a=crypto:0 aes_cm_128_hmac_sha1_80 inline:{KEY}|2^20|1:32\r\n"),
            "0 AES_CM_128_HMAC_SHA1_80 ",
        ),
        (
            format!(
                "a=crypto:1 F8_128_HMAC_SHA1_80 inline:{KEY}\r\na=crypto:2 AEAD_AES_256_GCM inline:{KEY}\r\n\
                 a=crypto:3 AES_CM_256_HMAC_SHA1_80 inline:{KEY_46}\r\n\
                 a=crypto:4 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\n"
            ),
            "3 AES_CM_256_HMAC_SHA1_80 ",
        ),
        (
            format!(
                "a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}\r\na=crypto:1 AES_256_CM_HMAC_SHA1_80 inline:{KEY_46}\r\n"
            ),
            "1 AES_CM_128_HMAC_SHA1_80 ",
        ),
    ] {
        let (text, parameters) = answered(&savp(&lines), Encryption::Required).unwrap();
        let [line] = crypto(&text)[..] else { panic!("{text}") };
        assert!(line.starts_with(&format!("a=crypto:{tag_and_name}inline:")), "{line}");
        assert!(!line.contains('|'), "our key has no identifier and the usual lifetime: {line}");
        let keys = parameters.srtp.unwrap();
        assert_eq!(keys.local.suite(), keys.remote.suite());
        assert_ne!(keys.local.octets(), keys.remote.octets());
    }
}

#[test]
fn what_cannot_be_used_is_refused_with_its_reason() {
    for (lines, fault) in [
        (format!("a=crypto:1 F8_128_HMAC_SHA1_80 inline:{KEY}\r\n"), CryptoFault::Suite),
        ("a=crypto:1 AES_CM_128_HMAC_SHA1_80\r\n".to_owned(), CryptoFault::KeyMissing),
        (format!("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY_46}\r\n"), CryptoFault::KeyLong),
        ("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:WVNf\r\n".to_owned(), CryptoFault::KeyShort),
        ("a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:!!\r\n".to_owned(), CryptoFault::KeyText),
        ("a=crypto:\r\n".to_owned(), CryptoFault::Tag),
    ] {
        let error = answered(&savp(&lines), Encryption::Required).unwrap_err();
        assert_eq!((error, error.sip_status()), (SdpError::KeyUnusable(fault), 488));
        assert!(!error.to_string().contains(&KEY[..8]), "{error}");
        // Without a key, media in the clear is what is left, where the line stands below it.
        let at_will = format!("m=audio 4000 RTP/AVP 0\r\n{lines}");
        let (text, parameters) = answered(&at_will, Encryption::Preferred).unwrap();
        assert!(parameters.srtp.is_none() && crypto(&text).is_empty(), "{text}");
    }
}

fn our_offer(suites: &[Suite], may_be_left_out: bool) -> Vec<u8> {
    let keys = suites
        .iter()
        .zip(1..)
        .map(|(suite, seed)| MasterKey::ours(*suite, &KeyMaterial([seed; MASTER_OCTETS_MAX])));
    let mut policy = OfferPolicy::new(vec![Codec::PCMU], "203.0.113.5:20000".parse().unwrap(), 77, 1);
    policy.keys = OfferedKeys { keys: keys.collect(), may_be_left_out };
    offer(&policy).to_vec()
}

#[test]
fn both_sides_come_to_the_same_keys() {
    for may_be_left_out in [false, true] {
        let offered = our_offer(&Suite::ALL, may_be_left_out);
        let text = String::from_utf8(offered.clone()).unwrap();
        assert_eq!(crypto(&text).len(), Suite::ALL.len());
        // siphon-ai#422: at will it is AVP with keys, never SAVP.
        assert_eq!(text.contains("RTP/AVP"), may_be_left_out, "{text}");
        assert_eq!(text.contains("RTP/SAVP"), !may_be_left_out, "{text}");
        let (body, theirs) = answer(&Offer::parse(&offered).unwrap(), &policy(Encryption::Required)).unwrap();
        let ours = accept_answer(&offered, &body).unwrap();
        let (ours, theirs) = (ours.srtp.unwrap(), theirs.srtp.unwrap());
        assert_eq!((ours.local, ours.remote), (theirs.remote, theirs.local));
        assert_eq!(ours.suite(), Suite::AesCm128HmacSha1_80);
    }
}

#[test]
fn an_answer_in_the_clear_is_taken_only_where_keys_may_be_left_out() {
    let plain =
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
    let optional = accept_answer(&our_offer(&Suite::ALL, true), plain.as_bytes()).unwrap();
    assert_eq!(optional.srtp, None);
    let required = accept_answer(&our_offer(&Suite::ALL, false), plain.as_bytes());
    assert_eq!(required, Err(SdpError::EncryptionMissing));
    let unasked =
        plain.replace("RTP/AVP 0", &format!("RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"));
    assert_eq!(accept_answer(&our_offer(&[], false), unasked.as_bytes()), Err(SdpError::EncryptionRequired));
}

#[test]
fn an_answer_is_matched_by_tag_and_suite_and_else_by_suite() {
    let offered = our_offer(&Suite::ALL, false);
    let answer = |line: &str| {
        let body = format!(
            "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n\
                            m=audio 4000 RTP/SAVP 0\r\na=crypto:{line}\r\n"
        );
        accept_answer(&offered, body.as_bytes()).map(|parameters| parameters.srtp.unwrap())
    };
    let keys = answer(&format!("5 AES_CM_128_HMAC_SHA1_32 inline:{KEY}")).unwrap();
    assert_eq!((keys.suite(), keys.local.octets()[0]), (Suite::AesCm128HmacSha1_32, 5));
    let misnamed = answer(&format!("1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}")).unwrap();
    assert_eq!(misnamed.local, keys.local);
    let missing = our_offer(&[Suite::AeadAes128Gcm], false);
    let body = format!(
        "v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 4000 RTP/SAVP 0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_32 inline:{KEY}\r\n"
    );
    assert_eq!(accept_answer(&missing, body.as_bytes()), Err(SdpError::KeyUnusable(CryptoFault::Suite)));
}

fn ice_policy() -> AnswerPolicy {
    let credentials = IceCredentials::from_random(&[3; CREDENTIAL_OCTETS]);
    AnswerPolicy { ice: Some(credentials), ..policy(Encryption::Off) }
}

const ICE: &str = "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n";

fn ice_answered(session: &str, section: &str) -> (String, MediaParameters) {
    let body = format!(
        "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n{session}m=audio 4000 RTP/AVP 0\r\n{section}"
    );
    let (text, parameters) = answer(&Offer::parse(body.as_bytes()).unwrap(), &ice_policy()).unwrap();
    (String::from_utf8(text.to_vec()).unwrap(), parameters)
}

#[test]
fn ice_is_answered_lite_with_a_candidate_for_each_port() {
    let candidate = "a=candidate:1 1 UDP 2130706431 192.0.2.1 4000 typ host\r\n";
    for (session, section) in [("", &*format!("{ICE}{candidate}")), (ICE, candidate), ("", ICE)] {
        let (text, parameters) = ice_answered(session, section);
        let ours = parameters.ice.unwrap();
        let (before, below) = text.split_once("m=audio").unwrap();
        assert!(before.contains("a=ice-lite\r\n"), "{text}");
        assert!(below.contains(&format!(
            "a=ice-ufrag:{}\r\na=ice-pwd:{}\r\n",
            ours.fragment(),
            ours.password()
        )));
        assert!(below.contains("a=candidate:1 1 UDP 2130706431 203.0.113.5 20000 typ host\r\n"), "{text}");
        assert!(below.contains("a=candidate:1 2 UDP 2130706430 203.0.113.5 20001 typ host\r\n"), "{text}");
    }
}

#[test]
fn ice_is_left_out_where_it_was_not_offered_or_something_rewrote_addresses() {
    let (text, parameters) = ice_answered("", "");
    assert!(!text.contains("ice") && parameters.ice.is_none(), "{text}");
    let (text, parameters) = ice_answered("", "a=ice-ufrag:abcd\r\na=ice-pwd:short\r\n");
    assert!(!text.contains("ice") && parameters.ice.is_none(), "{text}");
    let foreign = format!("{ICE}a=candidate:1 1 UDP 2130706431 10.0.0.1 4000 typ host\r\n");
    let (text, parameters) = ice_answered("", &foreign);
    assert!(text.contains("a=ice-mismatch\r\n") && !text.contains("a=ice-lite"), "{text}");
    assert!(parameters.ice.is_none() && !text.contains("a=candidate"));
}
