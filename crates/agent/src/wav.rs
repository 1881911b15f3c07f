//! Just enough of RIFF/WAVE to read a cached greeting: PCM 16 bit mono or stereo, and G.711.
//!
//! It writes no files, and refuses other codings, widths and channel counts.

use std::ops::Range;

use crate::{AudioFormat, DialectError};

/// What a WAV holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Wav {
    pub(crate) format: AudioFormat,
    pub(crate) channels: u16,
    /// Where the samples are within the file.
    pub(crate) data: Range<usize>,
}

/// Finds format and samples. A `data` chunk longer than the bytes at hand (encoders that stream write
/// `0xFFFFFFFF`) ends where they end.
pub(crate) fn parse(bytes: &[u8]) -> Result<Wav, DialectError> {
    let [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'A', b'V', b'E', body @ ..] = bytes else {
        return Err(DialectError::Audio);
    };
    let mut rest = body;
    let mut format = None;
    while let [a, b, c, d, l0, l1, l2, l3, tail @ ..] = rest {
        let length = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        let chunk = &tail[..length.min(tail.len())];
        let start = bytes.len() - tail.len();
        match &[*a, *b, *c, *d] {
            b"fmt " => format = Some(parse_format(chunk)?),
            b"data" => {
                let (format, channels) = format.ok_or(DialectError::Audio)?;
                return Ok(Wav { format, channels, data: start..start + chunk.len() });
            }
            _ => {}
        }
        let padded = length.saturating_add(length & 1);
        rest = tail.get(padded..).unwrap_or_default();
    }
    Err(DialectError::Audio)
}

fn parse_format(chunk: &[u8]) -> Result<(AudioFormat, u16), DialectError> {
    let word = |at: usize| chunk.get(at..at + 2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
    let (Some(mut tag), Some(channels), Some(rate_low), Some(rate_high), Some(bits)) =
        (word(0), word(2), word(4), word(6), word(14))
    else {
        return Err(DialectError::Audio);
    };
    // WAVE_FORMAT_EXTENSIBLE keeps the true tag in the first bytes of its GUID.
    if tag == 0xFFFE {
        tag = word(24).ok_or(DialectError::Audio)?;
    }
    let rate_hz = u32::from(rate_high) << 16 | u32::from(rate_low);
    let format = match (tag, bits, rate_hz) {
        (1, 16, _) => AudioFormat::Linear16 { rate_hz },
        (6, 8, 8000) => AudioFormat::Alaw,
        (7, 8, 8000) => AudioFormat::Mulaw,
        _ => return Err(DialectError::Audio),
    };
    if channels == 1 || (channels == 2 && tag == 1) {
        Ok((format, channels))
    } else {
        Err(DialectError::Audio)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wav(tag: u16, channels: u16, rate: u32, bits: u16, data: &[u8]) -> Vec<u8> {
        let mut out = b"RIFF\0\0\0\0WAVELIST\x03\0\0\0abc\0fmt \x10\0\0\0".to_vec();
        out.extend_from_slice(&tag.to_le_bytes());
        out.extend_from_slice(&channels.to_le_bytes());
        out.extend_from_slice(&rate.to_le_bytes());
        out.extend_from_slice(&[0; 6]);
        out.extend_from_slice(&bits.to_le_bytes());
        out.extend_from_slice(b"data");
        out.extend_from_slice(&(data.len() as u32).to_le_bytes());
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn finds_samples_behind_other_chunks() {
        let bytes = wav(1, 1, 24_000, 16, &[1, 0, 2, 0]);
        let found = parse(&bytes).unwrap();
        assert_eq!(found.format, AudioFormat::Linear16 { rate_hz: 24_000 });
        assert_eq!(bytes[found.data], [1, 0, 2, 0]);
        assert_eq!(parse(&wav(7, 1, 8000, 8, &[0xff])).unwrap().format, AudioFormat::Mulaw);
    }

    #[test]
    fn every_cut_and_odd_coding_is_refused_or_read_without_harm() {
        let bytes = wav(1, 2, 8000, 16, &[1, 2, 3, 4]);
        for end in 0..bytes.len() {
            let _ = parse(&bytes[..end]);
        }
        assert_eq!(parse(&wav(3, 1, 8000, 32, &[0; 4])), Err(DialectError::Audio));
        assert_eq!(parse(&wav(1, 6, 8000, 16, &[0; 4])), Err(DialectError::Audio));
        assert_eq!(parse(b"OggS"), Err(DialectError::Audio));
    }
}
