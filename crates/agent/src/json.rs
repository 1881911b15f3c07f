//! JSON as the dialects need it: fields read leniently and borrowed from the frame, and writers that put
//! strings and numbers into a buffer without allocating.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};

/// A field that should be a string but is a number or a bool in some agents (Smartflo's chunks, Plivo's
/// rates): whatever scalar stands there, as text. `null`, objects and lists read as absent.
#[derive(Debug, Default)]
pub(crate) enum Scalar<'a> {
    #[default]
    Absent,
    Text(Cow<'a, str>),
    /// Decimal digits, kept in place: a rate of 24000 in every message must not cost an allocation.
    Digits {
        digits: [u8; 20],
        start: usize,
    },
}

impl Scalar<'_> {
    pub(crate) fn as_str(&self) -> Option<&str> {
        match self {
            Self::Absent => None,
            Self::Text(text) => Some(text),
            Self::Digits { digits, start } => std::str::from_utf8(&digits[*start..]).ok(),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Scalar<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ScalarVisitor)
    }
}

struct ScalarVisitor;

impl<'de> Visitor<'de> for ScalarVisitor {
    type Value = Scalar<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a string, number or bool")
    }

    fn visit_borrowed_str<E>(self, value: &'de str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(value)))
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_owned())))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        let (digits, start) = decimal(value);
        Ok(Scalar::Digits { digits, start })
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_string())))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Owned(value.to_string())))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Scalar::Text(Cow::Borrowed(if value { "true" } else { "false" })))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Scalar::Absent)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        while list.next_element::<serde::de::IgnoredAny>()?.is_some() {}
        Ok(Scalar::Absent)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<serde::de::IgnoredAny, serde::de::IgnoredAny>()?.is_some() {}
        Ok(Scalar::Absent)
    }
}

/// True if the text is a JSON object rather than plain words (leading blanks allowed).
pub(crate) fn is_object(text: &[u8]) -> bool {
    text.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{')
}

/// Appends `value` in decimal.
pub(crate) fn push_number(out: &mut Vec<u8>, value: u64) {
    let (digits, start) = decimal(value);
    out.extend_from_slice(&digits[start..]);
}

/// The decimal digits of `value` at the end of a buffer, and where they start.
fn decimal(mut value: u64) -> ([u8; 20], usize) {
    let mut digits = [0_u8; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    (digits, at)
}

/// Appends `text` as a JSON string with its quotes (RFC 8259, 7): quote, backslash and control characters are
/// escaped, all else is carried as UTF-8.
pub(crate) fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut copied = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[copied..at]);
        copied = at + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let hex = b"0123456789abcdef";
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&[hex[usize::from(byte >> 4)], hex[usize::from(byte & 15)]]);
            }
        }
    }
    out.extend_from_slice(&bytes[copied..]);
    out.push(b'"');
}

/// Appends `{"name":"value",…}` of string pairs.
pub(crate) fn push_pairs<'a>(out: &mut Vec<u8>, pairs: impl IntoIterator<Item = (&'a str, &'a str)>) {
    out.push(b'{');
    for (index, (name, value)) in pairs.into_iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        push_string(out, name);
        out.push(b':');
        push_string(out, value);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_survive_the_writer_whatever_they_hold() {
        for text in ["", "plain", "q\"b\\s/", "\u{0}\u{1f}\n\r\t", "ü€😀", "\u{7f}\u{2028}"] {
            let mut out = Vec::new();
            push_string(&mut out, text);
            assert_eq!(serde_json::from_slice::<String>(&out).unwrap(), text);
        }
    }

    #[test]
    fn numbers_print_in_decimal() {
        for value in [0, 9, 10, 12_345, u64::MAX] {
            let mut out = Vec::new();
            push_number(&mut out, value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }

    #[test]
    fn scalars_read_strings_numbers_and_bools_and_skip_the_rest() {
        let read = |text: &str| serde_json::from_str::<Scalar<'_>>(text).unwrap().as_str().map(str::to_owned);
        assert_eq!(read(r#""x""#).as_deref(), Some("x"));
        assert_eq!(read(r#""a\u00e9\/""#).as_deref(), Some("aé/"));
        assert_eq!(read("24000").as_deref(), Some("24000"));
        assert_eq!(read("-1").as_deref(), Some("-1"));
        assert_eq!(read("true").as_deref(), Some("true"));
        assert_eq!(read("null"), None);
        assert_eq!(read(r#"{"a":[1]}"#), None);
        assert_eq!(read("[1,2]"), None);
    }

    #[test]
    fn a_plain_string_is_borrowed_from_the_frame() {
        let scalar: Scalar<'_> = serde_json::from_str(r#""abc""#).unwrap();
        assert!(matches!(scalar, Scalar::Text(Cow::Borrowed("abc"))));
    }
}
