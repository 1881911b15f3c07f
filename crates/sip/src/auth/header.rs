//! The values of WWW-Authenticate, Proxy-Authenticate, Authorization and Proxy-Authorization.
//!
//! Read with what the wild needs: tokens in any case, trailing and doubled commas, several challenges in
//! one line. RFC 3261 sections 20.7 and 20.44, RFC 7616 sections 3.3 and 3.4.

use std::borrow::Cow;
use std::fmt::Write as _;

use super::digest::{Algorithm, Qop};
use crate::message::{take_quoted, take_token, trim, trim_start, unquote};

/// One `name=value` of a challenge or of credentials; the value as written.
#[derive(Clone, Copy)]
struct AuthParam<'a> {
    name: &'a [u8],
    value: &'a [u8],
}

/// Most parameters one scheme may carry.
const MAX_PARAMS: usize = 64;

/// Reads `name=value` parameters until the end or until a new scheme begins; returns what is left.
/// `None` when the text is malformed.
fn read_params<'a>(
    mut rest: &'a [u8],
    mut each: impl FnMut(AuthParam<'a>) -> Option<()>,
) -> Option<&'a [u8]> {
    for _ in 0..MAX_PARAMS {
        while let [b',', after @ ..] = trim_start(rest) {
            rest = after;
        }
        rest = trim_start(rest);
        if rest.is_empty() {
            return Some(rest);
        }
        let (name, after) = take_token(rest);
        let [b'=', after @ ..] = trim_start(after) else {
            // A token without an equals sign is the next challenge's scheme.
            return (!name.is_empty() && after.first() == Some(&b' ')).then_some(rest);
        };
        let after = trim_start(after);
        let (value, after) = match after.first() {
            Some(b'"') => take_quoted(after)?,
            // Wider than a token: unquoted URIs and Base64 nonces are sent by old phones.
            _ => after.split_at(memchr::memchr(b',', after).unwrap_or(after.len())),
        };
        let value = trim(value);
        // What is echoed between quotes must not bring a quote of its own.
        let is_odd = |byte: &u8| *byte <= b' ' || matches!(byte, b'"' | b'\\' | 0x7f);
        let is_unsafe = value.first() != Some(&b'"') && value.iter().any(is_odd);
        let is_ended = matches!(trim_start(after).first(), None | Some(b','));
        if name.is_empty() || value.is_empty() || is_unsafe || !is_ended {
            return None;
        }
        each(AuthParam { name, value })?;
        rest = after;
    }
    None
}

/// The bytes between the quotes, escapes left in: what is compared and echoed.
fn unq(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// Takes a value once: a parameter that stands twice could mean two things.
fn once<T>(place: &mut Option<T>, value: T) -> Option<()> {
    place.is_none().then(|| *place = Some(value))
}

/// A Digest challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge<'a> {
    /// The realm, as between its quotes.
    pub realm: &'a [u8],
    /// The nonce, as between its quotes.
    pub nonce: &'a [u8],
    /// The opaque value to return, as between its quotes.
    pub opaque: Option<&'a [u8]>,
    /// Whether the last answer was right but for its nonce.
    pub is_stale: bool,
    /// The algorithm; `None` for one this crate does not speak.
    pub algorithm: Option<Algorithm>,
    /// Whether the algorithm is named, and not MD5 by default: old servers expect the answer to do alike.
    pub names_algorithm: bool,
    /// The value of `qop`, as between its quotes; see [`Self::offers`].
    pub qop: Option<&'a [u8]>,
}

impl Challenge<'_> {
    /// Whether this quality of protection is among those offered.
    pub fn offers(&self, qop: Qop) -> bool {
        let options = self.qop.unwrap_or_default().split(|&byte| byte == b',');
        options.map(trim).any(|option| Qop::from_token(option) == Some(qop))
    }
}

/// The Digest challenges of one header value, in the order of the server's preference (RFC 8760 section
/// 2.4). Other schemes and malformed challenges are passed over.
pub fn challenges(value: &[u8]) -> impl Iterator<Item = Challenge<'_>> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        while let Some(text) = rest.take() {
            let (scheme, params) = take_token(trim_start(text));
            if scheme.is_empty() {
                return None;
            }
            let (challenge, after) = read_challenge(params);
            rest = after;
            if scheme.eq_ignore_ascii_case(b"Digest") && challenge.is_some() {
                return challenge;
            }
        }
        None
    })
}

fn read_challenge(params: &[u8]) -> (Option<Challenge<'_>>, Option<&[u8]>) {
    let (mut realm, mut nonce, mut opaque, mut stale, mut algorithm, mut qop) =
        (None, None, None, None, None, None);
    let rest = read_params(params, |AuthParam { name, value }| match name.to_ascii_lowercase().as_slice() {
        b"realm" => once(&mut realm, unq(value)),
        b"nonce" => once(&mut nonce, unq(value)),
        b"opaque" => once(&mut opaque, unq(value)),
        b"stale" => once(&mut stale, unq(value).eq_ignore_ascii_case(b"true")),
        b"algorithm" => once(&mut algorithm, Algorithm::from_token(unq(value))),
        b"qop" => once(&mut qop, unq(value)),
        _ => Some(()),
    });
    let challenge = realm.zip(nonce).map(|(realm, nonce)| Challenge {
        realm,
        nonce,
        opaque,
        is_stale: stale.unwrap_or(false),
        algorithm: algorithm.unwrap_or(Some(Algorithm::MD5)),
        names_algorithm: algorithm.is_some(),
        qop,
    });
    (rest.and(challenge), rest.filter(|rest| !rest.is_empty()))
}

/// Digest credentials. Values are as between their quotes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials<'a> {
    /// `username`; see [`Self::username_plain`].
    pub username: &'a [u8],
    /// `realm`
    pub realm: &'a [u8],
    /// `nonce`
    pub nonce: &'a [u8],
    /// `uri`
    pub uri: &'a [u8],
    /// `response`
    pub response: &'a [u8],
    /// `algorithm`; `None` for one this crate does not speak.
    pub algorithm: Option<Algorithm>,
    /// `qop`; `None` where there is none.
    pub qop: Option<Qop>,
    /// `nc`, eight hexadecimal digits; empty where there is none.
    pub nonce_count: &'a [u8],
    /// `cnonce`; empty where there is none.
    pub cnonce: &'a [u8],
    /// `opaque`
    pub opaque: Option<&'a [u8]>,
}

impl<'a> Credentials<'a> {
    /// Reads one header value. `None` for another scheme, and for credentials that are malformed, repeat a
    /// parameter, or lack one that their `qop` needs (RFC 7616 section 3.4).
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let (scheme, params) = take_token(trim_start(value));
        if !scheme.eq_ignore_ascii_case(b"Digest") {
            return None;
        }
        let (mut username, mut realm, mut nonce, mut uri, mut response) = (None, None, None, None, None);
        let (mut algorithm, mut qop, mut nonce_count, mut cnonce, mut opaque) =
            (None, None, None, None, None);
        let rest = read_params(params, |AuthParam { name, value }| {
            let value = unq(value);
            match name.to_ascii_lowercase().as_slice() {
                b"username" => once(&mut username, value),
                b"realm" => once(&mut realm, value),
                b"nonce" => once(&mut nonce, value),
                b"uri" => once(&mut uri, value),
                b"response" => once(&mut response, value),
                b"algorithm" => once(&mut algorithm, Algorithm::from_token(value)),
                b"qop" => once(&mut qop, Qop::from_token(value)?),
                b"nc" => once(&mut nonce_count, value),
                b"cnonce" => once(&mut cnonce, value),
                b"opaque" => once(&mut opaque, value),
                _ => Some(()),
            }
        })?;
        let is_count = |count: &[u8]| count.len() == 8 && count.iter().all(u8::is_ascii_hexdigit);
        if !rest.is_empty() || (qop.is_some() && (!nonce_count.is_some_and(is_count) || cnonce.is_none())) {
            return None;
        }
        Some(Self {
            username: username?,
            realm: realm?,
            nonce: nonce?,
            uri: uri?,
            response: response?,
            algorithm: algorithm.unwrap_or(Some(Algorithm::MD5)),
            qop,
            nonce_count: nonce_count.unwrap_or_default(),
            cnonce: cnonce.unwrap_or_default(),
            opaque,
        })
    }

    /// The username with its escapes undone: what an account is looked up by.
    pub fn username_plain(&self) -> Cow<'a, [u8]> {
        unescape(self.username)
    }

    /// `nc` as a number; `None` where there is none.
    pub fn count(&self) -> Option<u32> {
        u32::from_str_radix(std::str::from_utf8(self.nonce_count).ok()?, 16).ok()
    }
}

/// Writes `, name="value"`, the value being one that is already as between quotes.
pub(super) fn write_quoted(out: &mut String, name: &str, value: &str) {
    let comma = if out.ends_with(' ') { "" } else { ", " };
    write!(out, "{comma}{name}=\"{value}\"").expect("writing to a string cannot fail");
}

/// What stands between quotes, with its quoting slashes removed: what is hashed.
pub(super) fn unescape(quoted: &[u8]) -> Cow<'_, [u8]> {
    if !quoted.contains(&b'\\') {
        return Cow::Borrowed(quoted);
    }
    Cow::Owned(unquote(&[b"\"", quoted, b"\""].concat()).into_owned())
}

/// Text as it stands between quotes.
pub(super) fn escape(text: &str) -> Cow<'_, str> {
    if !text.contains(['"', '\\']) {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_as_the_wild_writes_them() {
        let value = br#"digest  USERNAME = "bo\"b" ,realm="r, x=y",nonce="n",,uri="sip:a@b",
 response="00" , Algorithm=sha-256, QOP="auth", nc=0000000A, cnonce="", opaque="", x="y","#;
        let credentials = Credentials::parse(value).unwrap();
        assert_eq!(credentials.username, br#"bo\"b"#);
        assert_eq!(&*credentials.username_plain(), br#"bo"b"#);
        assert_eq!(credentials.realm, b"r, x=y");
        assert_eq!(credentials.algorithm, Some(Algorithm::SHA_256));
        assert_eq!((credentials.qop, credentials.count()), (Some(Qop::Auth), Some(10)));
        assert_eq!((credentials.cnonce, credentials.opaque), (&b""[..], Some(&b""[..])));
    }

    #[test]
    fn credentials_that_could_mean_two_things_are_refused() {
        let complete = r#"Digest username="u", realm="r", nonce="n", uri="sip:a", response="0""#;
        assert!(Credentials::parse(complete.as_bytes()).is_some());
        let bad = [
            r#"Basic dTpw"#.to_owned(),
            r#"NoOneKnowsThisScheme opaque-data=here"#.to_owned(),
            format!("{complete}, uri=\"sip:b\""),
            format!("{complete}, qop=auth"),
            format!("{complete}, qop=auth, nc=1, cnonce=\"x\""),
            format!("{complete}, qop=auth, nc=0000000g, cnonce=\"x\""),
            format!("{complete}, qop=auth-conf, nc=00000001, cnonce=\"x\""),
            format!("{complete}, x=\"open"),
            format!("{complete}, x=clo\"sed"),
            format!("{complete} x"),
            complete.replace("nonce", "nonse"),
        ];
        for bad in bad {
            assert_eq!(Credentials::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn several_challenges_are_found_in_their_order() {
        let value = br#"NewSchema realm="x", Digest realm="a", nonce="1", algorithm=SHA-512-256, qop="auth-int , AUTH",
            Digest realm="b", nonce="2", stale=TRUE, opaque="o\"" , Basic realm="c", Digest nonce="3""#;
        let found: Vec<_> = challenges(value).collect();
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].realm, found[0].algorithm), (&b"a"[..], Some(Algorithm::SHA_512_256)));
        assert!(found[0].offers(Qop::Auth) && found[0].offers(Qop::AuthInt) && !found[0].is_stale);
        assert_eq!((found[1].nonce, found[1].algorithm), (&b"2"[..], Some(Algorithm::MD5)));
        assert!(found[1].is_stale && !found[1].offers(Qop::Auth));
        assert_eq!(found[1].opaque, Some(&br#"o\""#[..]));
        assert_eq!(
            challenges(br#"Digest realm="a", nonce="1", algorithm=X"#).next().unwrap().algorithm,
            None
        );
        assert_eq!(challenges(b"").count() + challenges(b",,,").count() + challenges(b"Digest").count(), 0);
    }
}
