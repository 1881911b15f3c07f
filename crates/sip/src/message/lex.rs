//! The small grammar all header values share: white space, tokens, quoted strings, comma lists and
//! parameters. It allocates nothing and knows no header.
//!
//! RFC 3261 section 25.1. A folded line is white space here (section 7.3.1), so no value is unfolded
//! before it is read.

use std::borrow::Cow;

use smallvec::SmallVec;

/// Linear white space, line ends of folded lines included.
pub(crate) const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Whether the byte may stand in a token.
pub(crate) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0usize;
    while byte < 256 {
        let character = byte as u8;
        table[byte] = character.is_ascii_alphanumeric()
            || matches!(character, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        byte += 1;
    }
    table
};

/// Whether the bytes are one token.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// The value without white space at its ends.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// The value without white space at its end.
pub(crate) fn trim_end(mut bytes: &[u8]) -> &[u8] {
    while let [rest @ .., last] = bytes
        && is_space(*last)
    {
        bytes = rest;
    }
    bytes
}

/// Splits off a token at the front; the token may be empty.
pub(crate) fn take_token(bytes: &[u8]) -> (&[u8], &[u8]) {
    let end = bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len());
    bytes.split_at(end)
}

/// Splits off a quoted string at the front, quotes included; `None` when it is not closed. A backslash
/// takes the next byte along whatever it is.
pub(crate) fn take_quoted(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    debug_assert_eq!(bytes.first(), Some(&b'"'));
    let mut index = 1;
    while index < bytes.len() {
        match bytes[index] {
            b'"' => return Some(bytes.split_at(index + 1)),
            b'\\' => index += 2,
            _ => index += 1,
        }
    }
    None
}

/// The content of a quoted string, its escapes undone; bytes that are not quoted come back as they are.
pub(crate) fn unquote(bytes: &[u8]) -> Cow<'_, [u8]> {
    let [b'"', inner @ .., b'"'] = bytes else { return Cow::Borrowed(bytes) };
    if !inner.contains(&b'\\') {
        return Cow::Borrowed(inner);
    }
    let mut plain = Vec::with_capacity(inner.len());
    let mut rest = inner.iter();
    while let Some(&byte) = rest.next() {
        plain.push(if byte == b'\\' { *rest.next().unwrap_or(&byte) } else { byte });
    }
    Cow::Owned(plain)
}

/// Text for people and records: folds undone, UTF-8 where it is UTF-8, otherwise read as Latin-1, which
/// older PBXs put into display names.
pub(crate) fn text(bytes: &[u8]) -> Cow<'_, str> {
    let unfolded = unfold(bytes);
    match unfolded {
        Cow::Borrowed(plain) => match std::str::from_utf8(plain) {
            Ok(text) => Cow::Borrowed(text),
            Err(_) => Cow::Owned(plain.iter().copied().map(char::from).collect()),
        },
        Cow::Owned(plain) => Cow::Owned(match String::from_utf8(plain) {
            Ok(text) => text,
            Err(error) => error.as_bytes().iter().copied().map(char::from).collect(),
        }),
    }
}

/// The value with each fold (a line end and the white space around it) made one space, as RFC 3261
/// section 7.3.1 reads it.
pub(crate) fn unfold(bytes: &[u8]) -> Cow<'_, [u8]> {
    if memchr::memchr2(b'\r', b'\n', bytes).is_none() {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        if matches!(bytes[index], b'\r' | b'\n') {
            while plain.last().is_some_and(|&byte| is_space(byte)) {
                plain.pop();
            }
            while index < bytes.len() && is_space(bytes[index]) {
                index += 1;
            }
            plain.push(b' ');
        } else {
            plain.push(bytes[index]);
            index += 1;
        }
    }
    Cow::Owned(plain)
}

/// `%41` becomes `A`; a percent sign that starts no escape stays.
pub(crate) fn percent_decode(bytes: &[u8]) -> Cow<'_, [u8]> {
    if !bytes.contains(&b'%') {
        return Cow::Borrowed(bytes);
    }
    let mut plain = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while index < bytes.len() {
        let decoded = match bytes[index..] {
            [b'%', high, low, ..] => hex_digit(high).zip(hex_digit(low)),
            _ => None,
        };
        if let Some((high, low)) = decoded {
            plain.push(high << 4 | low);
            index += 3;
        } else {
            plain.push(bytes[index]);
            index += 1;
        }
    }
    Cow::Owned(plain)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte).to_digit(16).map(|digit| digit as u8)
}

/// A decimal number of digits alone; `None` when it is empty, signed, or does not fit.
pub(crate) fn number<T: TryFrom<u64>>(bytes: &[u8]) -> Option<T> {
    if bytes.is_empty() {
        return None;
    }
    let mut value = 0u64;
    for &byte in bytes {
        if !byte.is_ascii_digit() {
            return None;
        }
        value = value.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
    }
    T::try_from(value).ok()
}

/// The elements of a comma list, trimmed, empty ones included. Commas in quoted strings and between angle
/// brackets part nothing.
#[derive(Clone, Debug)]
pub(crate) struct CommaList<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> CommaList<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self { rest: Some(value) }
    }
}

impl<'a> Iterator for CommaList<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let value = self.rest?;
        if memchr::memchr(b',', value).is_none() {
            self.rest = None;
            return Some(trim(value));
        }
        let mut index = 0;
        let mut in_brackets = false;
        while index < value.len() {
            match value[index] {
                b',' if !in_brackets => {
                    self.rest = Some(&value[index + 1..]);
                    return Some(trim(&value[..index]));
                }
                b'<' => in_brackets = true,
                b'>' => in_brackets = false,
                b'"' if !in_brackets => match take_quoted(&value[index..]) {
                    Some((quoted, _)) => index += quoted.len() - 1,
                    None => index = value.len(),
                },
                _ => {}
            }
            index += 1;
        }
        self.rest = None;
        Some(trim(value))
    }
}

/// One `;name=value`; the value as written, quotes included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Param<'a> {
    /// The name as written; compared without case.
    pub name: &'a [u8],
    /// The value as written, with its quotes; `None` for a parameter that is only a name.
    pub value: Option<&'a [u8]>,
}

impl<'a> Param<'a> {
    /// Whether the parameter has this name, in any case.
    pub fn is(&self, name: &str) -> bool {
        self.name.eq_ignore_ascii_case(name.as_bytes())
    }

    /// The value without quotes and escapes; empty for a bare name.
    pub fn unquoted(&self) -> Cow<'a, [u8]> {
        unquote(self.value.unwrap_or_default())
    }
}

/// The `;name=value` parameters at the end of a header value. White space may stand around `;` and `=`.
#[derive(Clone, Debug)]
pub struct Params<'a> {
    rest: &'a [u8],
    is_broken: bool,
}

impl<'a> Params<'a> {
    /// Parameters from the first semicolon on.
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, is_broken: false }
    }

    /// Whether everything to the end is well-formed, no name repeated (RFC 3261 section 7.3.1: "any given
    /// parameter-name MUST NOT appear more than once").
    pub(crate) fn is_well_formed(&self) -> bool {
        let mut rest = self.clone();
        let mut names: SmallVec<[&[u8]; 8]> = SmallVec::new();
        for param in rest.by_ref() {
            if names.len() == MAX_PARAMS || names.iter().any(|name| name.eq_ignore_ascii_case(param.name)) {
                return false;
            }
            names.push(param.name);
        }
        !rest.is_broken
    }

    /// The first parameter of this name.
    pub fn find(mut self, name: &str) -> Option<Param<'a>> {
        self.by_ref().find(|param| param.is(name))
    }

    /// How many bytes are not read yet: with the length of the whole, the place of the last parameter.
    pub(crate) fn remaining(&self) -> usize {
        self.rest.len()
    }
}

/// Most parameters one value may carry: their repetition is looked for in pairs.
pub(crate) const MAX_PARAMS: usize = 64;

impl<'a> Iterator for Params<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        let rest = trim_start(self.rest);
        if rest.is_empty() || self.is_broken {
            return None;
        }
        self.is_broken = true;
        let [b';', rest @ ..] = rest else { return None };
        let (name, rest) = take_token(trim_start(rest));
        if name.is_empty() {
            return None;
        }
        let after_name = trim_start(rest);
        let (value, rest) = match after_name {
            [b'=', rest @ ..] => {
                let (value, rest) = take_param_value(trim_start(rest))?;
                (Some(value), rest)
            }
            _ => (None, rest),
        };
        self.rest = rest;
        self.is_broken = false;
        Some(Param { name, value })
    }
}

/// A parameter's value: a quoted string, or what runs to the next separator. Wider than a token, because
/// hosts (`[2001:db8::1]`), bare IPv6 addresses in `received` (RFC 5118 section 4.5) and MIME types stand here.
fn take_param_value(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    if bytes.first() == Some(&b'"') {
        return take_quoted(bytes);
    }
    let is_end = |&byte: &u8| is_space(byte) || matches!(byte, b';' | b',' | b'"' | b'<' | b'>' | b'=');
    let end = bytes.iter().position(is_end).unwrap_or(bytes.len());
    (end > 0).then(|| bytes.split_at(end))
}

/// The value without white space at its front.
pub(crate) fn trim_start(mut bytes: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = bytes
        && is_space(*first)
    {
        bytes = rest;
    }
    bytes
}
