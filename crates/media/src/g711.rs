//! G.711: µ-law and A-law by table.
//!
//! The tables are made once from the `audio-codec-algorithms` crate, which the tests also hold them
//! against for every code and every sample; a look-up encodes a 20 ms frame in a tenth of the time the
//! arithmetic takes. This file does no packetization and no concealment.
//!
//! ITU-T G.711; payload types and names from RFC 3551 section 6.

use std::sync::LazyLock;

use audio_codec_algorithms as reference;

/// One of the two companding laws of G.711.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Law {
    /// µ-law, payload type 0, `PCMU`.
    Mulaw,
    /// A-law, payload type 8, `PCMA`.
    Alaw,
}

impl Law {
    /// The byte that stands for silence: `0xFF` in µ-law, `0xD5` in A-law.
    pub const fn silence(self) -> u8 {
        match self {
            Self::Mulaw => 0xFF,
            Self::Alaw => 0xD5,
        }
    }

    /// Whether a byte stands for silence: either of the two codes nearest to zero.
    pub const fn is_silence(self, code: u8) -> bool {
        code | 0x80 == self.silence() | 0x80
    }

    /// The static payload type of RFC 3551 table 4.
    pub const fn payload_type(self) -> u8 {
        match self {
            Self::Mulaw => 0,
            Self::Alaw => 8,
        }
    }

    /// The encoding name SDP knows the law by: `PCMU` or `PCMA`.
    pub const fn encoding_name(self) -> &'static str {
        match self {
            Self::Mulaw => "PCMU",
            Self::Alaw => "PCMA",
        }
    }

    /// The law of an SDP encoding name, whatever its case; `None` for any other codec.
    pub fn from_encoding_name(name: &[u8]) -> Option<Self> {
        [Self::Mulaw, Self::Alaw]
            .into_iter()
            .find(|law| name.eq_ignore_ascii_case(law.encoding_name().as_bytes()))
    }

    /// The other law.
    pub const fn other(self) -> Self {
        match self {
            Self::Mulaw => Self::Alaw,
            Self::Alaw => Self::Mulaw,
        }
    }
}

/// Neither law looks at the two lowest bits of a 16-bit sample, so 2^14 entries cover all samples.
const ENCODE_SHIFT: u32 = 2;
const ENCODE_ENTRIES: usize = 1 << (16 - ENCODE_SHIFT);

struct Tables {
    decode: [i16; 256],
    encode: [u8; ENCODE_ENTRIES],
    /// Code of the other law for each code of this one.
    cross: [u8; 256],
}

static MULAW: LazyLock<Tables> =
    LazyLock::new(|| tables(reference::decode_ulaw, reference::encode_ulaw, reference::convert_ulaw_to_alaw));
static ALAW: LazyLock<Tables> =
    LazyLock::new(|| tables(reference::decode_alaw, reference::encode_alaw, reference::convert_alaw_to_ulaw));

fn tables(decode: fn(u8) -> i16, encode: fn(i16) -> u8, cross: fn(u8) -> u8) -> Tables {
    let mut tables = Tables { decode: [0; 256], encode: [0; ENCODE_ENTRIES], cross: [0; 256] };
    for code in 0..=u8::MAX {
        tables.decode[usize::from(code)] = decode(code);
        tables.cross[usize::from(code)] = cross(code);
    }
    for (index, entry) in tables.encode.iter_mut().enumerate() {
        *entry = encode(((index as u16) << ENCODE_SHIFT) as i16);
    }
    tables
}

fn of(law: Law) -> &'static Tables {
    match law {
        Law::Mulaw => &MULAW,
        Law::Alaw => &ALAW,
    }
}

/// The linear 16-bit sample of one code.
pub fn decode(law: Law, code: u8) -> i16 {
    of(law).decode[usize::from(code)]
}

/// The code of one linear 16-bit sample.
pub fn encode(law: Law, sample: i16) -> u8 {
    of(law).encode[usize::from(sample as u16 >> ENCODE_SHIFT)]
}

/// One code of `from` as a code of `to`, by G.711's direct conversion tables (tables 3 and 4 of the
/// recommendation); the same code when the laws are equal.
pub fn transcode(from: Law, to: Law, code: u8) -> u8 {
    if from == to { code } else { of(from).cross[usize::from(code)] }
}

/// Decodes as many codes as both slices hold; returns how many.
pub fn decode_slice(law: Law, codes: &[u8], samples: &mut [i16]) -> usize {
    let table = &of(law).decode;
    for (sample, code) in samples.iter_mut().zip(codes) {
        *sample = table[usize::from(*code)];
    }
    codes.len().min(samples.len())
}

/// Encodes as many samples as both slices hold; returns how many.
pub fn encode_slice(law: Law, samples: &[i16], codes: &mut [u8]) -> usize {
    let table = &of(law).encode;
    for (code, sample) in codes.iter_mut().zip(samples) {
        *code = table[usize::from(*sample as u16 >> ENCODE_SHIFT)];
    }
    codes.len().min(samples.len())
}

/// Appends the linear samples of `codes` to `samples`.
pub fn decode_into(law: Law, codes: &[u8], samples: &mut Vec<i16>) {
    let table = &of(law).decode;
    samples.extend(codes.iter().map(|code| table[usize::from(*code)]));
}

/// Appends the codes of `samples` to `codes`.
pub fn encode_into(law: Law, samples: &[i16], codes: &mut Vec<u8>) {
    let table = &of(law).encode;
    codes.extend(samples.iter().map(|sample| table[usize::from(*sample as u16 >> ENCODE_SHIFT)]));
}

/// Converts codes from one law to the other in place; does nothing when the laws are equal.
pub fn transcode_in_place(from: Law, to: Law, codes: &mut [u8]) {
    if from != to {
        let table = &of(from).cross;
        for code in codes {
            *code = table[usize::from(*code)];
        }
    }
}

/// Appends the 16-bit little-endian samples of `bytes` (L16 as agents speak it); an odd last byte is
/// left out, and its absence or presence is the caller's to carry over.
pub fn l16_le_into(bytes: &[u8], samples: &mut Vec<i16>) {
    samples.extend(bytes.chunks_exact(2).map(|pair| i16::from_le_bytes([pair[0], pair[1]])));
}

/// Appends samples as 16-bit little-endian bytes.
pub fn to_l16_le_into(samples: &[i16], bytes: &mut Vec<u8>) {
    bytes.extend(samples.iter().flat_map(|sample| sample.to_le_bytes()));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code and every sample must agree with the reference, in all forms of the functions.
    #[test]
    fn tables_agree_with_the_reference_on_all_codes_and_samples() {
        for code in 0..=u8::MAX {
            assert_eq!(decode(Law::Mulaw, code), reference::decode_ulaw(code));
            assert_eq!(decode(Law::Alaw, code), reference::decode_alaw(code));
            assert_eq!(transcode(Law::Mulaw, Law::Alaw, code), reference::convert_ulaw_to_alaw(code));
            assert_eq!(transcode(Law::Alaw, Law::Mulaw, code), reference::convert_alaw_to_ulaw(code));
            assert_eq!(transcode(Law::Alaw, Law::Alaw, code), code);
        }
        for sample in i16::MIN..=i16::MAX {
            assert_eq!(encode(Law::Mulaw, sample), reference::encode_ulaw(sample), "µ-law of {sample}");
            assert_eq!(encode(Law::Alaw, sample), reference::encode_alaw(sample), "A-law of {sample}");
        }
    }

    #[test]
    fn slices_do_what_single_codes_do() {
        let codes: Vec<u8> = (0..=u8::MAX).collect();
        for law in [Law::Mulaw, Law::Alaw] {
            let mut samples = [0_i16; 256];
            assert_eq!(decode_slice(law, &codes, &mut samples), 256);
            let mut appended = Vec::new();
            decode_into(law, &codes, &mut appended);
            assert_eq!(appended, samples);
            let mut again = [0_u8; 256];
            encode_slice(law, &samples, &mut again);
            let mut encoded = Vec::new();
            encode_into(law, &samples, &mut encoded);
            assert_eq!(again.as_slice(), encoded);
            for code in 0..=u8::MAX {
                assert_eq!(decode(law, again[usize::from(code)]), decode(law, code), "decoding is stable");
            }
            let mut crossed = codes.clone();
            transcode_in_place(law, law.other(), &mut crossed);
            assert!(codes.iter().zip(&crossed).all(|(a, b)| transcode(law, law.other(), *a) == *b));
        }
    }

    #[test]
    fn silence_decodes_to_the_smallest_magnitude() {
        assert_eq!(decode(Law::Mulaw, Law::Mulaw.silence()), 0);
        assert!(decode(Law::Alaw, Law::Alaw.silence()).abs() <= 8);
    }

    #[test]
    fn l16_bytes_are_little_endian_and_odd_bytes_are_left_alone() {
        let mut samples = Vec::new();
        l16_le_into(&[0x01, 0x02, 0xFF, 0xFF, 0x7F], &mut samples);
        assert_eq!(samples, [0x0201, -1]);
        let mut bytes = Vec::new();
        to_l16_le_into(&samples, &mut bytes);
        assert_eq!(bytes, [0x01, 0x02, 0xFF, 0xFF]);
    }
}
