//! Redirects (3xx): which of the places that a gateway names a call may go to.
//!
//! A redirect is a stranger's wish to have us place a call that the trunk's owner pays for, so it is followed only where the
//! owner says so, and then only to hosts of the trunk (its gateways, and those the policy lists), for the number that was
//! dialled (or one under a prefix that the policy lists), and never over a transport that is less safe than the one the
//! redirect came by. RFC 3261 sections 8.1.3.4, 19.1.5, 21.3.
//!
//! What it refuses to do: take headers, a method or another address (`maddr`) from the URI.

use std::net::IpAddr;

use bytes::Bytes;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use tandem_sip::{HeaderName, Response, Scheme, Transport, Uri};

use crate::gateways::uri_host;
use crate::table::{Gateway, Trunk};
use crate::verdict::wire_text;

/// Places looked at of one redirect.
const PLACES_MAX: usize = 8;

/// What is done with a 3xx.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RedirectPolicy {
    /// Whether it is followed at all.
    pub follow: bool,
    /// Places that one call is redirected to at most, 1 to 10: also what ends a circle.
    pub most: u8,
    /// Hosts that may be called beside the trunk's gateways: a name, `*.` and a name for all below it, an address or a range.
    pub hosts: Vec<String>,
    /// Numbers that may be called beside the one dialled: those that begin with one of these digits.
    pub numbers: Vec<String>,
}

impl Default for RedirectPolicy {
    /// Not followed: the owner of the trunk pays for where it leads.
    fn default() -> Self {
        Self { follow: false, most: 5, hosts: Vec::new(), numbers: Vec::new() }
    }
}

/// A place that a call is redirected to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The Request-URI.
    pub(crate) uri: Bytes,
    /// Where that is.
    pub(crate) gateway: Gateway,
}

/// What a redirect comes to.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    /// The places to try, in order of `q`.
    pub(crate) places: Vec<Place>,
    /// Why the others are not, in words meant for the tenant.
    pub(crate) refused: Vec<String>,
}

/// What a call brings to the judgement.
pub(crate) struct Redirected<'a> {
    pub(crate) trunk: &'a Trunk,
    /// The number that was dialled.
    pub(crate) dialled: &'a str,
    /// How the gateway that redirects was spoken to, and where.
    pub(crate) transport: Transport,
    pub(crate) address: IpAddr,
    /// Places that were tried already in this call.
    pub(crate) tried: &'a [Bytes],
}

/// Looks at each place that the response names.
pub(crate) fn judge(response: &Response, redirected: &Redirected<'_>) -> Judgement {
    let mut judgement = Judgement::default();
    let policy = &redirected.trunk.outbound.redirects;
    if !policy.follow {
        let why = "redirects are not followed; set redirects.follow of the trunk's outbound policy if they shall be";
        judgement.refused.push(why.to_owned());
        return judgement;
    }
    let mut contacts: Vec<(u32, &[u8])> = Vec::new();
    for value in response.headers(HeaderName::Contact).take(PLACES_MAX) {
        let Some(contact) = tandem_sip::NameAddr::parse(value) else { continue };
        let q = contact.param("q").and_then(|param| param.value).map_or(1_000, thousandths);
        contacts.push((q, contact.uri().as_bytes()));
    }
    // The sort is stable: equals stay in the carrier's order.
    contacts.sort_by_key(|(q, _)| std::cmp::Reverse(*q));
    for (_, raw) in contacts {
        let room = usize::from(policy.most).saturating_sub(redirected.tried.len() + judgement.places.len());
        let judged = match Uri::parse(raw) {
            Some(_) if room == 0 => Err(format!("the call was redirected {} times already", policy.most)),
            Some(uri) => redirected.place(&uri),
            None => Err("that is no URI".to_owned()),
        };
        match judged {
            Ok(place) if judgement.places.contains(&place) => {}
            Ok(place) => judgement.places.push(place),
            Err(why) => judgement.refused.push(format!("not to {}, for {why}", wire_text(raw))),
        }
    }
    if judgement.places.is_empty() && judgement.refused.is_empty() {
        judgement.refused.push("it names no place".to_owned());
    }
    judgement
}

/// RFC 3261 section 25.1: `qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )`.
fn thousandths(q: &[u8]) -> u32 {
    let value = std::str::from_utf8(q).ok().and_then(|text| text.parse::<f32>().ok());
    value.filter(|value| (0.0..=1.0).contains(value)).map_or(0, |value| (value * 1_000.0) as u32)
}

impl Redirected<'_> {
    fn place(&self, uri: &Uri<'_>) -> Result<Place, String> {
        let is_sips = match uri.scheme() {
            Scheme::Sip => false,
            Scheme::Sips => true,
            Scheme::Tel | Scheme::Other(_) => return Err("it is no sip: URI".to_owned()),
        };
        if uri.param("maddr").is_some() {
            return Err("it names another address in maddr".to_owned());
        }
        let transport = match uri.param("transport").and_then(|param| param.value) {
            _ if is_sips => Some(Transport::Tls),
            None => None,
            Some(token) => {
                let known = Transport::from_token(token);
                Some(known.ok_or("it names a transport that is not spoken here")?)
            }
        };
        if self.transport == Transport::Tls && transport != Some(Transport::Tls) {
            return Err("it is not over TLS, as the gateway is".to_owned());
        }
        let host = String::from_utf8_lossy(uri.host()).to_ascii_lowercase();
        if !self.is_known_host(&host) {
            let remedy = "list it in redirects.hosts of the trunk's outbound policy if it is the carrier's";
            return Err(format!("{host} is no gateway of the trunk; {remedy}"));
        }
        if !self.is_known_number(uri) {
            let remedy =
                "list its prefix in redirects.numbers of the trunk's outbound policy if it may be called";
            return Err(format!("it is another number; {remedy}"));
        }
        let bare = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let place = Place {
            uri: request_uri(uri, &bare),
            gateway: Gateway {
                address: bare,
                port: uri.port(),
                priority: 0,
                weight: 1,
                transport: Some(transport.unwrap_or(Transport::Udp)),
            },
        };
        if self.tried.contains(&place.uri) {
            return Err("it was tried already".to_owned());
        }
        Ok(place)
    }

    fn is_known_host(&self, host: &str) -> bool {
        let bare =
            |host: &str| host.trim_start_matches('[').trim_end_matches(['.', ']']).to_ascii_lowercase();
        let host = bare(host);
        let address = host.parse::<IpAddr>().ok();
        if address.is_some_and(|address| address == self.address)
            || self.trunk.gateways.iter().any(|gateway| bare(&gateway.address) == host)
        {
            return true;
        }
        self.trunk.outbound.redirects.hosts.iter().any(|rule| match (address, rule.parse::<IpNet>()) {
            (Some(address), Ok(range)) => range.contains(&address),
            (Some(address), Err(_)) => bare(rule).parse::<IpAddr>().is_ok_and(|listed| listed == address),
            (None, _) => match rule.strip_prefix("*.") {
                Some(above) => host.strip_suffix(&bare(above)).is_some_and(|below| below.ends_with('.')),
                None => bare(rule) == host,
            },
        })
    }

    /// The user part without its parameters (RFC 4694: `+1…;npdi;rn=…` is the number that was dialled).
    fn is_known_number(&self, uri: &Uri<'_>) -> bool {
        let user = uri.user_decoded().unwrap_or_default();
        let number = user.split(|byte| *byte == b';').next().unwrap_or_default();
        let Some(digits) = digits(number) else { return false };
        if Some(&digits) == self::digits(self.dialled.as_bytes()).as_ref() {
            return true;
        }
        let prefixes = self.trunk.outbound.redirects.numbers.iter();
        prefixes
            .filter_map(|prefix| self::digits(prefix.as_bytes()))
            .any(|prefix| digits.starts_with(&prefix))
    }
}

/// A number's digits; none for what holds anything but a leading plus, digits and what people write between them.
fn digits(number: &[u8]) -> Option<String> {
    let number = number.strip_prefix(b"+").unwrap_or(number);
    let mut digits = String::with_capacity(number.len());
    for byte in number {
        match byte {
            b'0'..=b'9' | b'*' | b'#' => digits.push(char::from(*byte)),
            b'-' | b'.' | b'(' | b')' => {}
            _ => return None,
        }
    }
    (!digits.is_empty()).then_some(digits)
}

/// RFC 3261 section 8.1.3.4: the URI of the Contact is the new Request-URI, but for its headers, which are no part of one.
fn request_uri(uri: &Uri<'_>, host: &str) -> Bytes {
    let scheme: &[u8] = if uri.scheme() == Scheme::Sips { b"sips:" } else { b"sip:" };
    let port = uri.port().map(|port| format!(":{port}")).unwrap_or_default();
    let user = uri.user().unwrap_or_default();
    [scheme, user, b"@", uri_host(host).as_bytes(), port.as_bytes(), uri.params_raw()].concat().into()
}
