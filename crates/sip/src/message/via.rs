//! A view of one Via value, and the writing of `received` and `rport` into it.
//!
//! RFC 3261 sections 18.2 and 20.42, RFC 3581 section 4.

use std::net::{IpAddr, SocketAddr};

use super::lex::{self, Param, Params};
use super::uri::{host_ip, is_host, split_host_port};

/// The prefix of a branch made by RFC 3261's rules (section 8.1.1.7).
pub const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// A parsed view of one Via value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Via<'a> {
    raw: &'a [u8],
    transport: &'a [u8],
    host: &'a [u8],
    port: Option<u16>,
    params: &'a [u8],
}

impl<'a> Via<'a> {
    /// Reads one value, as [`super::Headers::values`] parts them. White space may stand around the slashes
    /// and the colon. `None` when it does not parse or is of another SIP version.
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        let raw = lex::trim(value);
        let rest = take_word(raw, b"SIP")?;
        let rest = take_slash(rest)?;
        let rest = take_word(rest, b"2.0")?;
        let rest = take_slash(rest)?;
        let (transport, rest) = lex::take_token(rest);
        let sent_by = lex::trim_start(rest);
        if transport.is_empty() || sent_by.len() == rest.len() {
            return None;
        }
        let end = memchr::memchr(b';', sent_by).unwrap_or(sent_by.len());
        let (sent_by, params) = sent_by.split_at(end);
        let (host, port) = split_sent_by(lex::trim(sent_by))?;
        let parsed = Self { raw, transport, host, port, params };
        (is_host(host) && parsed.params().is_well_formed()).then_some(parsed)
    }

    /// The whole value as written.
    pub fn as_bytes(&self) -> &'a [u8] {
        self.raw
    }

    /// The transport token as written; see [`crate::Transport::from_token`].
    pub fn transport(&self) -> &'a [u8] {
        self.transport
    }

    /// The host of sent-by as written, IPv6 in brackets.
    pub fn host(&self) -> &'a [u8] {
        self.host
    }

    /// The host of sent-by as an address, if it is one.
    pub fn ip(&self) -> Option<IpAddr> {
        host_ip(self.host)
    }

    /// The port of sent-by, if one is written.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The parameters, first to last.
    pub fn params(&self) -> Params<'a> {
        Params::new(self.params)
    }

    /// The first parameter of this name.
    pub fn param(&self, name: &str) -> Option<Param<'a>> {
        self.params().find(name)
    }

    /// The branch as written, with the cookie.
    pub fn branch(&self) -> Option<&'a [u8]> {
        self.param("branch")?.value
    }

    /// Whether the branch identifies the transaction by itself: it has the cookie and something after it
    /// (RFC 3261 section 17.2.3; RFC 4475 section 3.2.1 shows the cookie alone). Otherwise the matching
    /// of RFC 2543 applies.
    pub fn has_unique_branch(&self) -> bool {
        self.branch().is_some_and(|branch| {
            branch.len() > MAGIC_COOKIE.len()
                && branch[..MAGIC_COOKIE.len()].eq_ignore_ascii_case(MAGIC_COOKIE)
        })
    }

    /// The address in `received`; IPv6 with or without brackets (RFC 5118 section 4.5).
    pub fn received(&self) -> Option<IpAddr> {
        host_ip(self.param("received")?.value?)
    }

    /// Whether `rport` stands there, with or without a value: the sender asks for symmetric routing.
    pub fn asks_rport(&self) -> bool {
        self.param("rport").is_some()
    }

    /// The value of `rport`, which only a server writes (RFC 3581 section 4).
    pub fn rport(&self) -> Option<u16> {
        lex::number(self.param("rport")?.value?)
    }

    /// The address in `maddr`, if it is one.
    pub fn maddr(&self) -> Option<IpAddr> {
        host_ip(self.param("maddr")?.value?)
    }
}

fn take_word<'a>(bytes: &'a [u8], word: &[u8]) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(word.len())?;
    head.eq_ignore_ascii_case(word).then_some(rest)
}

fn take_slash(bytes: &[u8]) -> Option<&[u8]> {
    let [b'/', rest @ ..] = lex::trim_start(bytes) else { return None };
    Some(lex::trim_start(rest))
}

/// `host [ COLON port ]`, with white space around the colon.
fn split_sent_by(bytes: &[u8]) -> Option<(&[u8], Option<u16>)> {
    if !bytes.iter().copied().any(lex::is_space) {
        return split_host_port(bytes);
    }
    let colon = match bytes.first()? {
        b'[' => {
            let close = memchr::memchr(b']', bytes)?;
            memchr::memchr(b':', &bytes[close..]).map(|colon| close + colon)?
        }
        _ => memchr::memchr(b':', bytes)?,
    };
    Some((lex::trim(&bytes[..colon]), Some(lex::number(lex::trim(&bytes[colon + 1..]))?)))
}

/// Whether the topmost Via is answered as its sender asked, or always to where it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseRouting {
    /// `rport` is filled in only where the sender wrote it (RFC 3581).
    AsAsked,
    /// As if the sender had written `rport`: for trunks behind address translation that do not ask
    /// (`force_rport`).
    Symmetric,
}

/// The source of a request, as it is to be written into its topmost Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub(crate) address: SocketAddr,
    pub(crate) routing: ResponseRouting,
}

/// Writes a Via value with the request's source in it; every byte that is not `received` or `rport` stays.
///
/// "If the host portion of the `sent-by` parameter contains a domain name, or if it contains an IP address
/// that differs from the packet source address, the server MUST add a `received` parameter" (RFC 3261
/// section 18.2.1). "If this Via header field value contains an `rport` parameter with no value, it MUST
/// set the value of the parameter to the source port of the request. … In fact, the server MUST insert a
/// `received` parameter … even if it is identical" (RFC 3581 section 4). Values the sender put there itself are overwritten: they are a guess
/// at best.
pub(crate) fn write_with_source(via: &Via<'_>, source: &Source, out: &mut Vec<u8>) {
    use std::io::Write as _;

    let wants_rport = via.asks_rport() || source.routing == ResponseRouting::Symmetric;
    let wants_received = wants_rport || via.ip() != Some(source.address.ip());
    let head = via.raw.len() - via.params.len();
    out.extend_from_slice(&via.raw[..head]);
    let mut params = via.params();
    let mut start = head;
    while let Some(param) = params.next() {
        let end = via.raw.len() - params.remaining();
        if !param.is("received") && !param.is("rport") {
            out.extend_from_slice(&via.raw[start..end]);
        }
        start = end;
    }
    let write = "writing to a vector cannot fail";
    if wants_received {
        write!(out, ";received={}", source.address.ip().to_canonical()).expect(write);
    }
    if wants_rport {
        write!(out, ";rport={}", source.address.port()).expect(write);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Via<'_> {
        Via::parse(text.as_bytes()).unwrap()
    }

    fn stamped(text: &str, routing: ResponseRouting) -> String {
        let mut out = Vec::new();
        let source = Source { address: "192.0.2.9:5099".parse().unwrap(), routing };
        write_with_source(&parse(text), &source, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn parts_are_found_through_any_white_space() {
        let via = parse("SIP  / 2.0\r\n / UDP  192.0.2.2 : 5061 ; branch = z9hG4bK390skdjuw;x");
        assert_eq!(via.transport(), b"UDP");
        assert_eq!((via.host(), via.port()), (&b"192.0.2.2"[..], Some(5061)));
        assert_eq!(via.branch(), Some(&b"z9hG4bK390skdjuw"[..]));
        assert!(via.has_unique_branch());
        let via = parse("SIP/2.0/TCP [2001:db8::9:1]:5070;received=2001:db8::9:255;branch=z9hG4bK");
        assert_eq!((via.ip(), via.port()), (Some("2001:db8::9:1".parse().unwrap()), Some(5070)));
        assert_eq!(via.received(), Some("2001:db8::9:255".parse().unwrap()));
        assert!(!via.has_unique_branch());
    }

    #[test]
    fn what_is_no_via_is_refused() {
        let bad = [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ;branch=1",
            "SIP/3.0/UDP h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h:99999",
            "SIP/2.0/UDP h;;,;,,",
            "SIP/2.0/UDP h h",
            "SIP/2.0/UDPh",
            "SIP/2.0/UDP h;branch=a;branch=b",
        ];
        for bad in bad {
            assert_eq!(Via::parse(bad.as_bytes()), None, "{bad}");
        }
    }

    /// RFC 3261 section 18.2.1.
    #[test]
    fn received_is_added_where_the_host_is_not_the_source() {
        use ResponseRouting::AsAsked;
        assert_eq!(stamped("SIP/2.0/UDP a.example", AsAsked), "SIP/2.0/UDP a.example;received=192.0.2.9");
        assert_eq!(stamped("SIP/2.0/UDP 192.0.2.9:1;branch=b", AsAsked), "SIP/2.0/UDP 192.0.2.9:1;branch=b");
        assert_eq!(
            stamped("SIP/2.0/UDP 10.0.0.1;received=1.2.3.4;branch=b", AsAsked),
            "SIP/2.0/UDP 10.0.0.1;branch=b;received=192.0.2.9"
        );
    }

    /// RFC 3581 section 4.
    #[test]
    fn rport_is_filled_where_asked_or_forced() {
        let asked = "SIP/2.0/UDP 192.0.2.9:1 ; rport;branch = b ;x=\"r;port\"";
        let expected = "SIP/2.0/UDP 192.0.2.9:1 ;branch = b ;x=\"r;port\";received=192.0.2.9;rport=5099";
        assert_eq!(stamped(asked, ResponseRouting::AsAsked), expected);
        assert_eq!(
            stamped("SIP/2.0/UDP 192.0.2.9:1;branch=b", ResponseRouting::Symmetric),
            "SIP/2.0/UDP 192.0.2.9:1;branch=b;received=192.0.2.9;rport=5099"
        );
    }
}
