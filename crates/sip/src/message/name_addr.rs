//! A view of the values of From, To, Contact, Route and their kin: a display name, a URI, parameters.
//!
//! RFC 3261 sections 20.10 and 25.1 (`name-addr`, `addr-spec`). What RFC 4475 calls reasonable to refuse is
//! refused: unquoted separators in a display name, white space inside the brackets, a question mark or
//! comma in a URI without brackets.

use std::borrow::Cow;

use super::lex::{self, Param, Params};
use super::uri::Uri;

/// A parsed view of one `name-addr` or `addr-spec` with its parameters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameAddr<'a> {
    raw: &'a [u8],
    display: &'a [u8],
    uri: Uri<'a>,
    params: &'a [u8],
}

impl<'a> NameAddr<'a> {
    /// Reads one value, as [`super::Headers::values`] parts them. `None` when it does not parse.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let raw = lex::trim(value);
        let (display, rest) = match raw.first()? {
            b'"' => {
                let (quoted, rest) = lex::take_quoted(raw)?;
                (quoted, lex::trim_start(rest))
            }
            _ => match memchr::memchr2(b'<', b'"', raw) {
                Some(bracket) => (lex::trim(&raw[..bracket]), &raw[bracket..]),
                None => return Self::parse_bare(raw),
            },
        };
        let (uri, params) = match rest {
            [b'<', rest @ ..] => {
                let close = memchr::memchr(b'>', rest)?;
                (&rest[..close], &rest[close + 1..])
            }
            // A quotation mark later in the value of a bare URI belongs to a parameter.
            _ if display.first() != Some(&b'"') => return Self::parse_bare(raw),
            _ => return None,
        };
        if display.first() != Some(&b'"') && display.iter().copied().any(ends_display) {
            return None;
        }
        let parsed = Self { raw, display, uri: Uri::parse(uri)?, params };
        parsed.params().is_well_formed().then_some(parsed)
    }

    /// "If the URI is not enclosed in angle brackets, any semicolon-delimited parameters are
    /// header-parameters", and a URI with a comma or question mark must be enclosed (RFC 3261 section 20).
    fn parse_bare(raw: &'a [u8]) -> Option<Self> {
        let end = raw.iter().position(|&byte| byte == b';' || lex::is_space(byte)).unwrap_or(raw.len());
        let (uri, params) = raw.split_at(end);
        if memchr::memchr2(b',', b'?', uri).is_some() {
            return None;
        }
        let parsed = Self { raw, display: b"", uri: Uri::parse(uri)?, params };
        parsed.params().is_well_formed().then_some(parsed)
    }

    /// The whole value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// The URI.
    pub fn uri(&self) -> Uri<'a> {
        self.uri
    }

    /// The display name as written, quotes included; empty if there is none.
    pub fn display_raw(&self) -> &'a [u8] {
        self.display
    }

    /// The display name for people: quotes, escapes and folds undone; UTF-8, or else read as Latin-1.
    pub fn display_name(&self) -> Option<Cow<'a, str>> {
        if self.display.is_empty() {
            return None;
        }
        Some(match lex::unquote(self.display) {
            Cow::Borrowed(plain) => lex::text(plain),
            Cow::Owned(plain) => Cow::Owned(lex::text(&plain).into_owned()),
        })
    }

    /// The parameters after the URI, first to last.
    pub fn params(&self) -> Params<'a> {
        Params::new(self.params)
    }

    /// The first parameter of this name.
    pub fn param(&self, name: &str) -> Option<Param<'a>> {
        self.params().find(name)
    }

    /// The tag, RFC 3261 section 19.3.
    pub fn tag(&self) -> Option<&'a [u8]> {
        self.param("tag")?.value
    }
}

/// ASCII separators that end an unquoted display name. Wider than a token on purpose: umlauts, parentheses
/// and at signs without quotes are what PBXs send; the refused ones are those that make a value ambiguous.
fn ends_display(byte: u8) -> bool {
    matches!(byte, b',' | b';' | b':' | b'=' | b'\\' | b'>')
        || (byte < b' ' && !lex::is_space(byte))
        || byte == 0x7f
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NameAddr<'_> {
        NameAddr::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn display_names_are_decoded_for_people_only() {
        let quoted = parse(r#" "Doe, J <sip:x@y>; \"z\"" <sip:a@b;lr>;tag=9 "#);
        assert_eq!(quoted.display_name().unwrap(), r#"Doe, J <sip:x@y>; "z""#);
        assert_eq!(quoted.uri().as_bytes(), b"sip:a@b;lr");
        assert_eq!(quoted.tag(), Some(&b"9"[..]));
        assert_eq!(parse("Müller (Büro) <sip:a@b>").display_name().unwrap(), "Müller (Büro)");
        let latin = NameAddr::parse(b"\"M\xfcller\" <sip:a@b>").unwrap();
        assert_eq!(latin.display_name().unwrap(), "Müller");
        assert_eq!(latin.as_bytes(), b"\"M\xfcller\" <sip:a@b>");
        assert_eq!(parse("<sip:a@b>").display_name(), None);
        assert_eq!(parse("\"a\r\n b\" <sip:a@b>").display_name().unwrap(), "a b");
    }

    #[test]
    fn parameters_after_a_bare_uri_are_the_headers() {
        let bare = parse("sip:a@b;tag=1;x=\"q;<\"");
        assert_eq!(bare.uri().as_bytes(), b"sip:a@b");
        assert_eq!(bare.tag(), Some(&b"1"[..]));
        assert_eq!(&*bare.param("x").unwrap().unquoted(), b"q;<");
        assert_eq!(parse("tel:+9122;tag=1").uri().user(), Some(&b"+9122"[..]));
    }

    #[test]
    fn white_space_stands_where_it_may() {
        assert_eq!(parse("<sip:a@b> ;tag=1").tag(), Some(&b"1"[..]));
        assert_eq!(parse("sip:a@b ; tag = 1").tag(), Some(&b"1"[..]));
        assert_eq!(parse("\"x\"<sip:a@b>\r\n ;\r\n tag\t=\r\n 1").tag(), Some(&b"1"[..]));
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let bad = [
            "",
            "\"open <sip:a@b>;tag=1",
            "Bell, Alexander <sip:a@b>",
            "< sip:a@b >",
            "<sip:a@b",
            "sip:a@b?x=y",
            "sip:a,b@c",
            "\"x\" sip:a@b",
            "<sip:a@b>;tag=1;;",
            "<sip:a@b>;tag=1;TAG=2",
            "<sip:a@b> rubbish",
            "<sip:a@b>;=1",
            "a > <sip:a@b>",
        ];
        for bad in bad {
            assert_eq!(NameAddr::parse(bad.as_bytes()), None, "{bad}");
        }
    }
}
