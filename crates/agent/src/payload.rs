//! Base64 of audio (RFC 4648), in both directions through reused buffers.
//!
//! Reading is lenient where real agents are lax: padding may be missing (4, "=" omitted by several encoders),
//! the URL-safe alphabet (5) is taken, and line ends within the text (RFC 2045 encoders) are skipped.

use base64_simd::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::DialectError;

/// Scratch memory that a stream keeps between messages; what one burst took beyond it is given back.
const RETAINED_BYTES: usize = 16 * 1024;

/// Appends the base64 of `data`, padded.
pub(crate) fn push_base64(out: &mut Vec<u8>, data: &[u8]) {
    base64_simd::STANDARD.encode_append(data, out);
}

/// Replaces `scratch` by what `text` encodes and lends it.
pub(crate) fn decode_base64<'a>(text: &str, scratch: &'a mut Vec<u8>) -> Result<&'a [u8], DialectError> {
    scratch.clear();
    let trimmed = trim(text.as_bytes());
    if scratch.capacity() > RETAINED_BYTES && trimmed.len() <= RETAINED_BYTES {
        scratch.shrink_to(RETAINED_BYTES);
    }
    if STANDARD_NO_PAD.decode_append(trimmed, scratch).is_ok() {
        return Ok(scratch);
    }
    scratch.clear();
    if URL_SAFE_NO_PAD.decode_append(trimmed, scratch).is_ok() {
        return Ok(scratch);
    }
    decode_wrapped(trimmed, scratch)
}

/// The slow way, for text broken into lines.
fn decode_wrapped<'a>(text: &[u8], scratch: &'a mut Vec<u8>) -> Result<&'a [u8], DialectError> {
    if !text.iter().any(u8::is_ascii_whitespace) {
        return Err(DialectError::Base64);
    }
    let joined: Vec<u8> = text.iter().copied().filter(|byte| !byte.is_ascii_whitespace()).collect();
    scratch.clear();
    STANDARD_NO_PAD.decode_append(trim(&joined), scratch).map_err(|_| DialectError::Base64)?;
    Ok(scratch)
}

fn trim(text: &[u8]) -> &[u8] {
    let text = text.trim_ascii();
    let end = text.iter().rposition(|byte| *byte != b'=').map_or(0, |at| at + 1);
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back() {
        for length in [0_usize, 1, 2, 3, 159, 160, 161, 8192] {
            let data: Vec<u8> = (0..length).map(|i| (i * 7) as u8).collect();
            let mut text = Vec::new();
            push_base64(&mut text, &data);
            let mut scratch = vec![1, 2, 3];
            let text = String::from_utf8(text).unwrap();
            assert_eq!(decode_base64(&text, &mut scratch).unwrap(), data);
        }
    }

    #[test]
    fn lax_encoders_are_understood() {
        let mut scratch = Vec::new();
        for text in ["+/+/AQ==", "+/+/AQ", "-_-_AQ", " +/+/\r\nAQ==\n"] {
            assert_eq!(decode_base64(text, &mut scratch).unwrap(), [0xfb, 0xff, 0xbf, 0x01], "{text}");
        }
        assert!(decode_base64("", &mut scratch).unwrap().is_empty());
    }

    #[test]
    fn rubbish_is_refused() {
        let mut scratch = Vec::new();
        for text in ["A", "####", "ü", "AA=A", "A A A A A"] {
            assert_eq!(decode_base64(text, &mut scratch), Err(DialectError::Base64), "{text}");
        }
    }
}
