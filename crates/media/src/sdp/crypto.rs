//! `a=crypto` lines: reads what carriers write, forgiving where nothing is lost by it, and writes our own.
//!
//! Forgiven: the case of suite and method names, the draft's names of suites, missing base64 padding, tag 0 (RFC 4568's own
//! grammar allows it), leading zeros of a tag, session parameters that only advise. A line with anything else wrong is kept
//! as the fault it has, and passed over: RFC 4568 section 6.1 has it "considered invalid", never the whole offer. Of two
//! lines with one tag the first counts, for an answer names nothing but the tag.
//!
//! RFC 4568 sections 4, 6 and 9.

use std::fmt::Write as _;

use base64_simd::{AsOut, STANDARD, forgiving_decode};

use super::lines::words;
use crate::srtp::{MASTER_OCTETS_MAX, MasterKey, Mki, Suite};

/// Lines of one section that are read; more than six of them have nothing that we speak.
pub(super) const CRYPTO_LINES_MAX: usize = 32;
/// Largest tag (RFC 4568 section 9.1: nine digits).
const TAG_MAX: u32 = 999_999_999;
/// Most octets of a key identifier (section 6.1).
const MKI_OCTETS_MAX: u8 = 128;
/// Longest base64 text that is decoded: that of the longest key is 64.
const INLINE_MAX: usize = 256;

/// A line that can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CryptoLine {
    /// What an answer calls it by.
    pub tag: u32,
    /// The suite's name as it was written, of the two that some have.
    pub name: &'static str,
    /// The key its writer sends with.
    pub key: MasterKey,
}

/// What is wrong with a line. It never tells the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CryptoFault {
    /// The tag is missing or no number of nine digits at most.
    #[error("its tag is no number of one to nine digits")]
    Tag,
    /// An earlier line has the same tag.
    #[error("its tag was used by an earlier line")]
    DuplicateTag,
    /// The suite is none of ours.
    #[error(
        "its suite is not supported; AES_CM_128_HMAC_SHA1_80, AES_CM_128_HMAC_SHA1_32, AEAD_AES_128_GCM, AEAD_AES_256_GCM and \
         the AES_256_CM suites are"
    )]
    Suite,
    /// There is no `inline:` key.
    #[error("it has no inline key")]
    KeyMissing,
    /// The key is no base64.
    #[error("its key is no base64")]
    KeyText,
    /// The key is shorter than the suite's.
    #[error("its key is shorter than its suite's")]
    KeyShort,
    /// The key is longer than the suite's.
    #[error("its key is longer than its suite's")]
    KeyLong,
    /// There are several keys, to be told apart by identifiers.
    #[error("it has several keys; one a line is supported")]
    SeveralKeys,
    /// The lifetime is zero, too large or unreadable.
    #[error("its key's lifetime is zero, too large or unreadable")]
    Lifetime,
    /// The key identifier cannot be read or does not fit its length.
    #[error("its master key identifier is unreadable or does not fit its length")]
    Mki,
    /// A session parameter asks for what is not done here.
    #[error("it has a session parameter that is not supported (only WSH and KDR=0 are)")]
    SessionParameter,
}

impl CryptoLine {
    /// Reads what stands behind `a=crypto:`.
    pub(super) fn parse(value: &[u8]) -> Result<Self, CryptoFault> {
        let mut words = words(value);
        let tag = tag(words.next().unwrap_or_default()).ok_or(CryptoFault::Tag)?;
        let (suite, name) = words.next().and_then(Suite::from_name).ok_or(CryptoFault::Suite)?;
        let key = key(suite, words.next().ok_or(CryptoFault::KeyMissing)?)?;
        // "inline:…; inline:…" with a blank behind the semicolon makes the second key a word of its own.
        for parameter in words {
            if strip_prefix(parameter, b"inline:").is_some() {
                return Err(CryptoFault::SeveralKeys);
            }
            if !is_harmless(parameter) {
                return Err(CryptoFault::SessionParameter);
            }
        }
        Ok(Self { tag, name, key })
    }

    /// A line of our own.
    pub(super) fn ours(tag: u32, key: MasterKey) -> Self {
        Self { tag, name: key.suite().name(), key }
    }

    /// Appends the line.
    pub(super) fn write(&self, text: &mut String) {
        let _ = write!(text, "a=crypto:{} {} inline:", self.tag, self.name);
        let mut encoded = [0; MASTER_OCTETS_MAX.div_ceil(3) * 4];
        text.push_str(STANDARD.encode_as_str(self.key.octets(), encoded.as_mut_slice().as_out()));
        text.push_str("\r\n");
    }
}

/// Reads a line and holds it against those before it.
pub(super) fn read(
    value: &[u8],
    before: &[Result<CryptoLine, CryptoFault>],
) -> Result<CryptoLine, CryptoFault> {
    let line = CryptoLine::parse(value)?;
    match before.iter().flatten().any(|known| known.tag == line.tag) {
        true => Err(CryptoFault::DuplicateTag),
        false => Ok(line),
    }
}

fn tag(word: &[u8]) -> Option<u32> {
    (word.len() <= 9)
        .then(|| decimal(word))
        .flatten()
        .and_then(|tag| u32::try_from(tag).ok())
        .filter(|tag| *tag <= TAG_MAX)
}

/// `inline:KEY[|LIFETIME][|MKI:LENGTH]`.
fn key(suite: Suite, word: &[u8]) -> Result<MasterKey, CryptoFault> {
    let inline = strip_prefix(word, b"inline:").ok_or(CryptoFault::KeyMissing)?;
    let mut keys = inline.split(|byte| *byte == b';');
    let inline = keys.next().unwrap_or_default();
    if keys.any(|another| !another.is_empty()) {
        return Err(CryptoFault::SeveralKeys);
    }
    let mut parts = inline.split(|byte| *byte == b'|');
    let text = parts.next().filter(|text| !text.is_empty()).ok_or(CryptoFault::KeyMissing)?;
    if text.len() > INLINE_MAX {
        return Err(CryptoFault::KeyLong);
    }
    let mut decoded = [0; INLINE_MAX];
    let octets = forgiving_decode(text, decoded.as_mut_slice().as_out()).map_err(|_| CryptoFault::KeyText)?;
    let mut key =
        MasterKey::from_octets(suite, octets).ok_or(match octets.len() < suite.master_octets() {
            true => CryptoFault::KeyShort,
            false => CryptoFault::KeyLong,
        })?;
    for part in parts {
        // "the lifetime field never includes a colon, whereas the third field always does" (RFC 4568 section 6.1).
        match part.iter().position(|byte| *byte == b':') {
            Some(colon) if key.mki.is_none() => key.mki = Some(mki(&part[..colon], &part[colon + 1..])?),
            Some(_) => return Err(CryptoFault::Mki),
            None => key.lifetime = lifetime(suite, part)?,
        }
    }
    Ok(key)
}

fn lifetime(suite: Suite, text: &[u8]) -> Result<u64, CryptoFault> {
    let packets = match text.strip_prefix(b"2^") {
        Some(power) => decimal(power).filter(|power| *power < 64).map(|power| 1 << power),
        None => decimal(text),
    };
    packets.filter(|packets| (1..=suite.lifetime()).contains(packets)).ok_or(CryptoFault::Lifetime)
}

fn mki(value: &[u8], length: &[u8]) -> Result<Mki, CryptoFault> {
    let octets = decimal(length).and_then(|octets| u8::try_from(octets).ok());
    let octets = octets.filter(|octets| (1..=MKI_OCTETS_MAX).contains(octets)).ok_or(CryptoFault::Mki)?;
    let text = std::str::from_utf8(value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
    let value: u64 = text.and_then(|text| text.parse().ok()).ok_or(CryptoFault::Mki)?;
    if octets < 8 && value >> (u32::from(octets) * 8) != 0 {
        return Err(CryptoFault::Mki);
    }
    Ok(Mki { value, octets })
}

/// A hint, what says the default once more, or what its writer marks as optional with a `-` (RFC 4568 section 6.3.7).
fn is_harmless(parameter: &[u8]) -> bool {
    parameter.starts_with(b"-")
        || strip_prefix(parameter, b"WSH=").is_some()
        || parameter.eq_ignore_ascii_case(b"KDR=0")
}

fn strip_prefix<'a>(word: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = word.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::srtp::KeyMaterial;

    /// The key of the examples of RFC 4568.
    const KEY: &str = "d0RmdmcmVCspeEc3QGZiNWpVLFJhQX1cfHAwJSoj";

    fn parse(line: &str) -> Result<CryptoLine, CryptoFault> {
        CryptoLine::parse(line.as_bytes())
    }

    /// Sections 4.1, 6.1 and 7.1.5.
    #[test]
    fn the_examples_of_rfc_4568_are_read() {
        let line = parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:32")).unwrap();
        assert_eq!((line.tag, line.key.suite()), (1, Suite::AesCm128HmacSha1_80));
        assert_eq!(line.key.octets(), b"wDfvg&T+)xG7@fb5jU,RaA}\\|p0%*#");
        assert_eq!(line.key.lifetime, 1 << 20);
        assert_eq!(line.key.mki, Some(Mki { value: 1, octets: 32 }));

        let line = parse(&format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4")).unwrap();
        assert_eq!(line.key.mki, Some(Mki { value: 1, octets: 4 }));
        let line = parse("1 AES_CM_128_HMAC_SHA1_80 inline:YUJDZGVmZ2hpSktMbW9QUXJzVHVWd3l6MTIzNDU2|1066:4")
            .unwrap();
        assert_eq!((line.key.lifetime, line.key.mki), (1 << 48, Some(Mki { value: 1066, octets: 4 })));
        let line =
            parse("1 AES_CM_128_HMAC_SHA1_32 inline:NzB4d1BINUAvLEw6UzF3WSJ+PSdFcGdUJShpX1Zj|2^20|1:32")
                .unwrap();
        assert_eq!(line.key.suite(), Suite::AesCm128HmacSha1_32);
        let two_keys = "2 AES_CM_128_HMAC_SHA1_80 inline:MTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5QUJjZGVm|2^20|1:4;\
                        inline:QUJjZGVmMTIzNDU2Nzg5QUJDREUwMTIzNDU2Nzg5|2^20|2:4";
        assert_eq!(parse(two_keys), Err(CryptoFault::SeveralKeys));
        let f8 = two_keys.replace("AES_CM_128", "F8_128") + " FEC_ORDER=FEC_SRTP";
        assert_eq!(parse(&f8), Err(CryptoFault::Suite));
    }

    #[test]
    fn what_devices_get_wrong_harmlessly_is_forgiven() {
        for line in [
            format!("0 aes_cm_128_hmac_sha1_80 INLINE:{KEY}"),
            format!("007 AES_CM_128_HMAC_SHA1_80  inline:{KEY};"),
            format!("999999999 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2147483648"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:1|2^31"),
            format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} WSH=64 KDR=0 -new"),
        ] {
            assert!(parse(&line).is_ok(), "{line}");
        }
        // 46 octets want two `=`, which some leave out.
        let long = STANDARD.encode_to_string([7; 46]);
        for text in [&*long, long.trim_end_matches('=')] {
            let line = parse(&format!("1 AES_CM_256_HMAC_SHA1_80 inline:{text}")).unwrap();
            assert_eq!((line.key.octets().len(), line.name), (46, "AES_CM_256_HMAC_SHA1_80"));
        }
    }

    #[test]
    fn each_fault_has_its_name() {
        use CryptoFault::*;
        for (line, fault) in [
            (String::new(), Tag),
            (format!("x AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), Tag),
            (format!("-1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), Tag),
            (format!("1234567890 AES_CM_128_HMAC_SHA1_80 inline:{KEY}"), Tag),
            (format!("1 DES inline:{KEY}"), Suite),
            ("1".to_owned(), Suite),
            ("1 AES_CM_128_HMAC_SHA1_80".to_owned(), KeyMissing),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:".to_owned(), KeyMissing),
            (format!("1 AES_CM_128_HMAC_SHA1_80 uri:{KEY}"), KeyMissing),
            ("1 AES_CM_128_HMAC_SHA1_80 inline:?".to_owned(), KeyText),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", &KEY[4..]), KeyShort),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}AAAA"), KeyLong),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{}", "A".repeat(5_000)), KeyLong),
            (format!("1 AEAD_AES_256_GCM inline:{KEY}"), KeyShort),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|0"), Lifetime),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^49"), Lifetime),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^99"), Lifetime),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|many"), Lifetime),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:0"), Mki),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:129"), Mki),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|256:1"), Mki),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|1:1|2:1"), Mki),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY};inline:{KEY}"), SeveralKeys),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP"), SessionParameter),
            (format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=1"), SessionParameter),
        ] {
            assert_eq!(parse(&line), Err(fault), "{line}");
        }
    }

    #[test]
    fn of_two_lines_with_one_tag_the_first_counts() {
        let first = format!("1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}");
        let before = [read(first.as_bytes(), &[])];
        assert_eq!(read(first.as_bytes(), &before), Err(CryptoFault::DuplicateTag));
        assert!(read(format!("2{}", &first[1..]).as_bytes(), &before).is_ok());
        assert!(read(first.as_bytes(), &[Err(CryptoFault::KeyText)]).is_ok(), "a faulty line takes no tag");
    }

    #[test]
    fn what_is_written_is_read_back() {
        for suite in Suite::ALL {
            let mut random = [0; MASTER_OCTETS_MAX];
            random.iter_mut().zip(3..).for_each(|(octet, value)| *octet = value);
            let line = CryptoLine::ours(7, MasterKey::ours(suite, &KeyMaterial(random)));
            let mut text = String::new();
            line.write(&mut text);
            let value = text.strip_prefix("a=crypto:").unwrap().trim_end();
            assert_eq!(parse(value), Ok(line));
        }
    }
}
