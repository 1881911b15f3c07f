//! The lines of a description, each kept as it came.
//!
//! Tolerant where real devices are loose: line ends may be CRLF, LF or CR alone, blanks may trail, lines
//! that are no `x=` lines are kept and passed over. It understands no line; that is `parse.rs`.
//!
//! RFC 8866 section 9: "parsers SHOULD be tolerant and also accept records terminated with a single
//! newline character".

use std::ops::Range;

use super::SdpError;

/// Largest body that is read: larger than any offer seen, small enough to cost nothing.
pub const BYTES_MAX: usize = 64 * 1024;
/// Most lines that are read. A WebRTC offer has some hundred, a carrier's some twenty.
pub const LINES_MAX: usize = 2_000;

/// One line: its type letter, in lower case, and its value without the blanks around it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Line<'a> {
    /// The letter before `=`; 0 for a line of no such shape.
    pub kind: u8,
    /// What stands after `=`, or the whole line when it has no such shape.
    pub value: &'a [u8],
}

impl<'a> Line<'a> {
    /// For an `a=` line, the attribute's name and its value (empty for a flag), blanks around both cut.
    pub fn attribute(self) -> Option<(&'a [u8], &'a [u8])> {
        if self.kind != b'a' {
            return None;
        }
        match self.value.iter().position(|byte| *byte == b':') {
            Some(colon) => Some((self.value[..colon].trim_ascii(), self.value[colon + 1..].trim_ascii())),
            None => Some((self.value, b"")),
        }
    }
}

/// All lines of one body, in order, over one copy of its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lines {
    text: Vec<u8>,
    spans: Vec<(u8, Range<usize>)>,
}

impl Lines {
    /// Splits a body into lines. Empty lines are left out; nothing else is.
    pub fn split(body: &[u8]) -> Result<Self, SdpError> {
        if body.len() > BYTES_MAX {
            return Err(SdpError::TooLarge(body.len()));
        }
        let mut spans = Vec::new();
        let mut start = 0;
        for end in (0..body.len()).filter(|at| matches!(body[*at], b'\r' | b'\n')).chain([body.len()]) {
            if let Some(span) = span(body, start..end) {
                if spans.len() == LINES_MAX {
                    return Err(SdpError::TooManyLines);
                }
                spans.push(span);
            }
            start = end + 1;
        }
        Ok(Self { text: body.to_vec(), spans })
    }

    /// The lines in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Line<'_>> + ExactSizeIterator {
        self.spans.iter().map(|(kind, range)| Line { kind: *kind, value: &self.text[range.clone()] })
    }

    /// The lines from `range`, counted from 0.
    pub fn range(&self, range: Range<usize>) -> impl DoubleEndedIterator<Item = Line<'_>> {
        self.spans[range].iter().map(|(kind, range)| Line { kind: *kind, value: &self.text[range.clone()] })
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.spans.len()
    }

    /// Whether there is no line at all.
    pub fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

fn span(body: &[u8], range: Range<usize>) -> Option<(u8, Range<usize>)> {
    let line = &body[range.clone()];
    let lead = line.len() - line.trim_ascii_start().len();
    let line = line.trim_ascii();
    let start = range.start + lead;
    match line {
        [] => None,
        [letter, rest @ ..] if letter.is_ascii_alphabetic() => {
            // "v = 0", as some hand-written gateways print it, still is a v= line.
            let blanks = rest.len() - rest.trim_ascii_start().len();
            if rest.get(blanks) != Some(&b'=') {
                return Some((0, start..start + line.len()));
            }
            let value = &rest[blanks + 1..];
            let inner = value.len() - value.trim_ascii_start().len();
            Some((letter.to_ascii_lowercase(), start + 2 + blanks + inner..start + line.len()))
        }
        _ => Some((0, start..start + line.len())),
    }
}

/// The words of a value, however many blanks stand between them.
pub fn words(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|byte| byte.is_ascii_whitespace()).filter(|word| !word.is_empty())
}

/// A whole decimal number of at most `u32`; `None` for anything else.
pub fn number(word: &[u8]) -> Option<u32> {
    if word.is_empty() || word.len() > 10 || !word.iter().all(u8::is_ascii_digit) {
        return None;
    }
    word.iter().try_fold(0_u32, |value, digit| value.checked_mul(10)?.checked_add(u32::from(digit - b'0')))
}
