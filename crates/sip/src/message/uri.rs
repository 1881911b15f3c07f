//! A view of a URI: its parts as written. Nothing is decoded unless asked for and nothing is ever
//! re-encoded.
//!
//! RFC 3261 section 19.1 (sip, sips), RFC 3966 (tel), RFC 5118 (IPv6). Other schemes are carried.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use smallvec::SmallVec;

use super::lex::{self, Param};

/// A URI's scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme<'a> {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Anything else, as written: carried, and answered 416 when it is asked for.
    Other(&'a [u8]),
}

/// A parsed view of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uri<'a> {
    raw: &'a [u8],
    scheme: Scheme<'a>,
    user: Option<&'a [u8]>,
    password: Option<&'a [u8]>,
    host: &'a [u8],
    port: Option<u16>,
    params: &'a [u8],
    headers: Option<&'a [u8]>,
}

impl<'a> Uri<'a> {
    /// Reads a URI that fills all the bytes. `None` for what is no URI: white space or angle brackets
    /// inside, no scheme, a sip URI whose host or port does not parse.
    pub fn parse(raw: &'a [u8]) -> Option<Self> {
        let colon = raw.iter().position(|&byte| byte == b':')?;
        let (name, rest) = (&raw[..colon], &raw[colon + 1..]);
        let is_scheme_byte = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        if !name.first()?.is_ascii_alphabetic() || !name.iter().all(is_scheme_byte) {
            return None;
        }
        if rest.is_empty() || rest.iter().any(|&byte| is_forbidden(byte)) {
            return None;
        }
        match name {
            name if name.eq_ignore_ascii_case(b"sip") => Self::parse_sip(raw, Scheme::Sip, rest),
            name if name.eq_ignore_ascii_case(b"sips") => Self::parse_sip(raw, Scheme::Sips, rest),
            name if name.eq_ignore_ascii_case(b"tel") => Some(Self::parse_tel(raw, rest)),
            _ => Some(Self::opaque(raw, Scheme::Other(name))),
        }
    }

    fn opaque(raw: &'a [u8], scheme: Scheme<'a>) -> Self {
        Self { raw, scheme, user: None, password: None, host: b"", port: None, params: b"", headers: None }
    }

    /// "tel:" number *( ";" parameter ), RFC 3966 section 3: the number is the user, there is no host.
    fn parse_tel(raw: &'a [u8], rest: &'a [u8]) -> Self {
        let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
        Self { user: Some(&rest[..end]), params: &rest[end..], ..Self::opaque(raw, Scheme::Tel) }
    }

    /// [ userinfo "@" ] hostport uri-parameters [ headers ], RFC 3261 section 19.1.1. The first at sign
    /// ends the userinfo: the user may hold semicolons and question marks (RFC 4475 section 3.1.1.13),
    /// and neither a host nor a parameter may hold an at sign.
    fn parse_sip(raw: &'a [u8], scheme: Scheme<'a>, rest: &'a [u8]) -> Option<Self> {
        let marks = Marks::of(rest);
        let (user, password) = match marks.at {
            Some(at) => {
                let colon = marks.user_colon.unwrap_or(at);
                (Some(&rest[..colon]), marks.user_colon.map(|colon| &rest[colon + 1..at]))
            }
            None => (None, None),
        };
        let host_start = marks.at.map_or(0, |at| at + 1);
        let params_end = marks.question.unwrap_or(rest.len());
        let host_end = marks.semicolon.unwrap_or(params_end);
        let (params, headers) = (&rest[host_end..params_end], marks.question.map(|mark| &rest[mark + 1..]));
        let (host, port) = split_host_port(&rest[host_start..host_end])?;
        is_host(host).then_some(Self { raw, scheme, user, password, host, port, params, headers })
    }

    /// The URI as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// The scheme, compared without case.
    pub fn scheme(&self) -> Scheme<'a> {
        self.scheme
    }

    /// Whether the scheme is sip or sips.
    pub fn is_sip(&self) -> bool {
        matches!(self.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// The user as written, with its escapes and its `;` parameters; the number of a tel URI.
    pub fn user(&self) -> Option<&'a [u8]> {
        self.user
    }

    /// The password as written (RFC 3261 section 19.1.1 advises against it).
    pub fn password(&self) -> Option<&'a [u8]> {
        self.password
    }

    /// The user with its escapes undone.
    pub fn user_decoded(&self) -> Option<Cow<'a, [u8]>> {
        self.user.map(lex::percent_decode)
    }

    /// What a dial plan compares: the user without its parameters (`;npdi`, `;phone-context=…`), escapes
    /// undone, a leading plus kept, and the visual separators of a telephone number (RFC 3966 section 5.1.1:
    /// `-`, `.`, `(`, `)`) dropped where the user is one: in a tel URI, with `user=phone`, or after a plus.
    pub fn number(&self) -> Option<Cow<'a, [u8]>> {
        let user = self.user?;
        let end = memchr::memchr(b';', user).unwrap_or(user.len());
        let plain = lex::percent_decode(&user[..end]);
        let is_separator = |byte: &u8| matches!(byte, b'-' | b'.' | b'(' | b')');
        let is_telephone = self.scheme == Scheme::Tel
            || plain.first() == Some(&b'+')
            || self
                .param("user")
                .is_some_and(|param| param.value.is_some_and(|value| value.eq_ignore_ascii_case(b"phone")));
        if !is_telephone || !plain.iter().any(is_separator) {
            return Some(plain);
        }
        Some(Cow::Owned(plain.iter().copied().filter(|byte| !is_separator(byte)).collect()))
    }

    /// The host as written; an IPv6 address stands in its brackets. Empty where the scheme has none.
    pub fn host(&self) -> &'a [u8] {
        self.host
    }

    /// The host as an address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        host_ip(self.host)
    }

    /// The port, if one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The parameters, first to last. Values stay escaped.
    pub fn params(&self) -> UriParams<'a> {
        UriParams { rest: self.params }
    }

    /// The first parameter of this name.
    pub fn param(&self, name: &str) -> Option<Param<'a>> {
        self.params().find(|param| param.is(name))
    }

    /// Whether no parameter has the name of another: "any given parameter-name MUST NOT appear more than once"
    /// (RFC 3261 section 19.1.1; RFC 3966 section 3 says the same of tel).
    pub(crate) fn params_are_distinct(&self) -> bool {
        let mut names: SmallVec<[&[u8]; 8]> = SmallVec::new();
        self.params().all(|param| {
            let is_new = names.len() < lex::MAX_PARAMS
                && !names.iter().any(|name| name.eq_ignore_ascii_case(param.name));
            names.push(param.name);
            is_new
        })
    }

    /// The parameters as written, from the first semicolon on.
    pub fn params_raw(&self) -> &'a [u8] {
        self.params
    }

    /// The part after the question mark, escaped (RFC 3261 section 19.1.1): headers for a request to be
    /// formed from this URI. Never looked at in a Request-URI.
    pub fn headers(&self) -> Option<&'a [u8]> {
        self.headers
    }

    /// Whether two URIs mean the same resource, RFC 3261 section 19.1.4. Escapes compare as what they
    /// stand for; host, scheme and parameters without case; user and password with case; a parameter in
    /// one alone is ignored unless it is `user`, `ttl`, `method`, `maddr` or `transport`. URI headers must
    /// be alike byte for byte, which is stricter than the RFC and enough here.
    pub fn is_equivalent(&self, other: &Uri<'_>) -> bool {
        if !self.is_sip() || !other.is_sip() {
            return match (self.scheme, other.scheme) {
                (Scheme::Tel, Scheme::Tel) => {
                    self.number() == other.number() && params_agree(self, other) && params_agree(other, self)
                }
                _ => self.raw == other.raw,
            };
        }
        let decode = |part: Option<&'a [u8]>| part.map(lex::percent_decode);
        let decode_other = |part| Option::map(part, lex::percent_decode);
        (self.scheme == Scheme::Sips) == (other.scheme == Scheme::Sips)
            && decode(self.user) == decode_other(other.user)
            && decode(self.password) == decode_other(other.password)
            && hosts_agree(self.host, other.host)
            && self.port == other.port
            && params_agree(self, other)
            && params_agree(other, self)
            && self.headers == other.headers
    }
}

/// Where the parts of a sip URI meet, found in one pass.
#[derive(Default)]
struct Marks {
    at: Option<usize>,
    /// The colon before the password.
    user_colon: Option<usize>,
    /// The first semicolon after the userinfo, before any question mark.
    semicolon: Option<usize>,
    /// The first question mark after the userinfo.
    question: Option<usize>,
}

impl Marks {
    fn of(bytes: &[u8]) -> Self {
        let mut marks = Self::default();
        let mut colon = None;
        for (index, &byte) in bytes.iter().enumerate() {
            match byte {
                b'@' if marks.at.is_none() => {
                    marks = Self { at: Some(index), user_colon: colon, ..Self::default() };
                }
                b':' if colon.is_none() => colon = Some(index),
                b';' if marks.semicolon.is_none() && marks.question.is_none() => {
                    marks.semicolon = Some(index);
                }
                b'?' if marks.question.is_none() => marks.question = Some(index),
                _ => {}
            }
        }
        marks
    }
}

/// Bytes that stand in no URI: white space and controls, and what delimits URIs in headers.
const fn is_forbidden(byte: u8) -> bool {
    FORBIDDEN[byte as usize]
}

const FORBIDDEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0usize;
    while byte < 256 {
        table[byte] = byte <= b' ' as usize || matches!(byte as u8, b'<' | b'>' | b'"' | 0x7f);
        byte += 1;
    }
    table
};

fn params_agree(left: &Uri<'_>, right: &Uri<'_>) -> bool {
    const NEVER_IGNORED: [&str; 5] = ["user", "ttl", "method", "maddr", "transport"];
    left.params().all(|param| {
        let same_name = |other: &Param<'_>| other.name.eq_ignore_ascii_case(param.name);
        match right.params().find(same_name) {
            Some(other) => {
                let decode =
                    |value: Option<&[u8]>| lex::percent_decode(value.unwrap_or_default()).into_owned();
                decode(other.value).eq_ignore_ascii_case(&decode(param.value))
            }
            None => !NEVER_IGNORED.iter().any(|name| param.is(name)),
        }
    })
}

fn hosts_agree(left: &[u8], right: &[u8]) -> bool {
    match (host_ip(left), host_ip(right)) {
        (Some(left), Some(right)) => left == right,
        _ => left.eq_ignore_ascii_case(right),
    }
}

/// The parameters of a URI: like those of a header, without white space and quotes.
#[derive(Clone, Debug)]
pub struct UriParams<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for UriParams<'a> {
    type Item = Param<'a>;

    fn next(&mut self) -> Option<Param<'a>> {
        while let [b';', rest @ ..] = self.rest {
            let end = memchr::memchr(b';', rest).unwrap_or(rest.len());
            let (param, rest) = rest.split_at(end);
            self.rest = rest;
            if param.is_empty() {
                continue;
            }
            let equals = memchr::memchr(b'=', param);
            let name = &param[..equals.unwrap_or(param.len())];
            return Some(Param { name, value: equals.map(|equals| &param[equals + 1..]) });
        }
        None
    }
}

/// Parts `host[:port]`, brackets respected. `None` when the port is no port or a bracket is open.
pub(crate) fn split_host_port(bytes: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = match bytes.first() {
        Some(b'[') => memchr::memchr(b']', bytes)? + 1,
        // Too short for a vectorised search to pay.
        _ => bytes.iter().position(|&byte| byte == b':').unwrap_or(bytes.len()),
    };
    let (host, rest) = bytes.split_at(host_end);
    match rest {
        [] => Some((host, None)),
        [b':', port @ ..] => Some((host, Some(lex::number::<u16>(port)?))),
        _ => None,
    }
}

/// Whether the bytes are a host: a name, an IPv4 address, or an IPv6 address in brackets. Underscores are
/// taken because hosts of container networks carry them.
pub(crate) fn is_host(host: &[u8]) -> bool {
    match host {
        [] => false,
        [b'[', ..] => host_ip(host).is_some(),
        _ => host.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_')),
    }
}

/// The address a host is, if it is one; IPv6 with or without brackets.
pub(crate) fn host_ip(host: &[u8]) -> Option<IpAddr> {
    let bare = match host {
        [b'[', inner @ .., b']'] => inner,
        _ => host,
    };
    if !bare.contains(&b':') {
        return std::str::from_utf8(bare).ok()?.parse::<Ipv4Addr>().ok().map(IpAddr::V4);
    }
    let text = std::str::from_utf8(bare).ok()?;
    match text.parse::<Ipv6Addr>() {
        Ok(address) => Some(IpAddr::V6(address)),
        // RFC 3261's grammar wrongly allows a third colon before an embedded IPv4 address, and "an
        // implementation must tolerate both of the above constructs" (RFC 5118 section 4.10).
        Err(_) => text.replacen(":::", "::", 1).parse::<Ipv6Addr>().ok().map(IpAddr::V6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uri(text: &str) -> Uri<'_> {
        Uri::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn parts_are_views_of_what_was_written() {
        let parsed = uri("sips:al%69ce:pw@Example.COM:5071;transport=tcp;lr?Subject=x&y=z");
        assert_eq!(parsed.scheme(), Scheme::Sips);
        assert_eq!(parsed.user(), Some(&b"al%69ce"[..]));
        assert_eq!(parsed.user_decoded().as_deref(), Some(&b"alice"[..]));
        assert_eq!(parsed.password(), Some(&b"pw"[..]));
        assert_eq!(parsed.host(), b"Example.COM");
        assert_eq!(parsed.port(), Some(5071));
        assert_eq!(parsed.param("TRANSPORT").unwrap().value, Some(&b"tcp"[..]));
        assert_eq!(parsed.param("lr").unwrap().value, None);
        assert_eq!(parsed.headers(), Some(&b"Subject=x&y=z"[..]));
    }

    #[test]
    fn tel_keeps_its_plus_and_loses_only_separators() {
        let parsed = uri("tel:+1-(555)-123.4567;phone-context=+1");
        assert_eq!(parsed.scheme(), Scheme::Tel);
        assert_eq!(parsed.user(), Some(&b"+1-(555)-123.4567"[..]));
        assert_eq!(parsed.number().as_deref(), Some(&b"+15551234567"[..]));
        assert_eq!(parsed.param("phone-context").unwrap().value, Some(&b"+1"[..]));
    }

    #[test]
    fn a_sip_user_is_a_number_only_where_it_says_so() {
        assert_eq!(uri("sip:john.doe@h").number().as_deref(), Some(&b"john.doe"[..]));
        assert_eq!(uri("sip:555.12-3@h;user=phone").number().as_deref(), Some(&b"555123"[..]));
        assert_eq!(uri("sip:+1555;npdi;rn=+1@h").number().as_deref(), Some(&b"+1555"[..]));
        assert_eq!(uri("sip:%2B1555%23@h").number().as_deref(), Some(&b"+1555#"[..]));
        assert_eq!(uri("sip:*72#@h").number().as_deref(), Some(&b"*72#"[..]));
        assert_eq!(uri("sip:example.com").number(), None);
    }

    #[test]
    fn ipv6_hosts_stand_in_brackets() {
        let parsed = uri("sip:a@[2001:db8::10]:5070");
        assert_eq!(parsed.ip(), Some("2001:db8::10".parse().unwrap()));
        assert_eq!(parsed.port(), Some(5070));
        assert_eq!(uri("sip:[2001:db8::10:5070]").port(), None);
        assert_eq!(uri("sip:a@[2001:db8:::192.0.2.1]").ip(), Some("2001:db8::192.0.2.1".parse().unwrap()));
        for bad in ["sip:2001:db8::10", "sip:[2001:db8::10", "sip:[::1]x", "sip:[fe80::g]"] {
            assert_eq!(Uri::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn what_is_no_uri_is_refused() {
        let bad = [
            "",
            "sip",
            "sip:",
            "sip:a b@h",
            "sip:a@",
            "sip:a@h:port",
            "sip:a@h:70000",
            "sip:a@h@i",
            "<sip:a@h>",
            "1sip:a@h",
            "sip:a@h:",
            ":a",
        ];
        for bad in bad {
            assert_eq!(Uri::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn other_schemes_are_carried() {
        let parsed = uri("isbn:2983792873");
        assert_eq!(parsed.scheme(), Scheme::Other(b"isbn"));
        assert_eq!(parsed.as_bytes(), b"isbn:2983792873");
    }

    /// The examples of RFC 3261 section 19.1.4.
    #[test]
    fn equivalence_follows_the_examples_of_the_rfc() {
        let same = [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtlanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;newparam=5"),
            ("sip:a@[2001:db8::1]", "sip:a@[2001:0db8:0::1]"),
            ("tel:+1-555", "tel:+1555"),
        ];
        for (left, right) in same {
            assert!(uri(left).is_equivalent(&uri(right)), "{left} {right}");
        }
        let different = [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com:6000;transport=tcp", "sip:bob@biloxi.com"),
            ("sip:carol@chicago.com;security=on", "sip:carol@chicago.com;security=off"),
            ("sip:bob@biloxi.com", "sips:bob@biloxi.com"),
            ("sip:carol@chicago.com?Subject=next%20meeting", "sip:carol@chicago.com"),
        ];
        for (left, right) in different {
            assert!(!uri(left).is_equivalent(&uri(right)), "{left} {right}");
        }
    }
}
