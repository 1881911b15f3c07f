//! The addresses of an outbound INVITE: Request-URI, To, From and P-Asserted-Identity, as the trunk wants them.
//!
//! * The dialled number has a leading `+` or has none, by the trunk's `outbound_leading_plus_enabled`.
//! * From shows the number that calls, as its owner wrote it, or the trunk's caller id where it has one; then
//!   P-Asserted-Identity (RFC 3325) names the number itself, for carriers bill by what is asserted.
//! * From's host is the gateway's where the trunk proves itself by user name, for such carriers know accounts by their own
//!   domain; elsewhere it is ours, as RFC 3261 section 8.1.1.3 has it.
//!
//! What it refuses to do: let a number or a caller id write anything but the user of a URI (RFC 3261 section 19.1.2).

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_sip::Transport;

use crate::gateways::{transport_word, uri_host};
use crate::table::{Gateway, Trunk, TrunkAuth};
use crate::transfer::Destination;

/// The addresses of one INVITE.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) uri: Bytes,
    pub(crate) from: Bytes,
    pub(crate) to: Bytes,
    /// The value of P-Asserted-Identity, where it says something that From does not.
    pub(crate) asserted: Option<Bytes>,
}

/// The addresses of an INVITE to `gateway`. `dialled` is the number's digits; `local` is ours as the peer sees it.
pub(crate) fn addresses(
    trunk: &Trunk,
    gateway: &Gateway,
    transport: Transport,
    local: SocketAddr,
    from: &str,
    dialled: &str,
) -> Addresses {
    let digits = dialled.strip_prefix('+').unwrap_or(dialled);
    let plus = if trunk.outbound_leading_plus { "+" } else { "" };
    let user = format!("{plus}{}", escaped(digits));
    let host = uri_host(&gateway.address);
    let parameter = match transport {
        Transport::Udp => String::new(),
        Transport::Tcp | Transport::Tls => format!(";transport={}", transport_word(transport)),
    };
    let own_host = match trunk.auth {
        TrunkAuth::UserPass(_) => host.clone(),
        TrunkAuth::IpBased => uri_host(&local.ip().to_canonical().to_string()),
    };
    let shown = trunk.caller_id.as_deref().unwrap_or(from);
    let asserted = (shown != from).then(|| format!("<sip:{}@{own_host}>", escaped(from)).into());
    Addresses {
        uri: format!("sip:{user}@{host}:{}{parameter}", gateway.port).into(),
        from: format!("<sip:{}@{own_host}>", escaped(shown)).into(),
        to: format!("<sip:{user}@{host}>").into(),
        asserted,
    }
}

/// RFC 3261 section 25.1: `user = 1*( unreserved / escaped / user-unreserved )`; what else there is, is escaped.
pub(crate) fn escaped(user: &str) -> String {
    let mut text = String::with_capacity(user.len());
    for byte in user.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' => text.push(char::from(byte)),
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' | b'&' | b'=' | b'+' | b'$' => {
                text.push(char::from(byte));
            }
            _ => text.push_str(&format!("%{byte:02X}")),
        }
    }
    text
}

/// Whom a carrier is referred to: the URI that was given, or the number at the carrier's own host.
pub(crate) fn refer_target(trunk: &Trunk, peer: SocketAddr, destination: &Destination) -> String {
    if let Some(uri) = &destination.uri {
        return uri.clone();
    }
    let plus = if trunk.outbound_leading_plus { "+" } else { "" };
    let user = format!("{plus}{}", escaped(&destination.number));
    match trunk.gateways.first() {
        Some(gateway) => format!("sip:{user}@{}", uri_host(&gateway.address)),
        None => format!("sip:{user}@{}", uri_host(&peer.ip().to_canonical().to_string())),
    }
}

/// A Refer-To that asks to take a dialog's place: its peer's URI, with the Replaces as a header of the URI, escaped
/// (RFC 3261 section 19.1.1, RFC 3891 section 5).
pub(crate) fn with_replaces(uri: &[u8], replaces: &[u8]) -> Vec<u8> {
    let end = uri.iter().position(|&byte| byte == b'?').unwrap_or(uri.len());
    let mut target = uri[..end].to_vec();
    target.extend_from_slice(b"?Replaces=");
    for &byte in replaces {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'!' | b'~' | b'*' => {
                target.push(byte)
            }
            _ => target.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
    target
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trunk() -> Trunk {
        Trunk::new("t", "a", "t")
    }

    fn of(trunk: &Trunk, transport: Transport, from: &str, dialled: &str) -> Addresses {
        let gateway = Gateway {
            address: "sip.carrier.example".to_owned(),
            port: 5080,
            priority: 1,
            weight: 1,
            transport: None,
        };
        addresses(trunk, &gateway, transport, "203.0.113.1:5060".parse().unwrap(), from, dialled)
    }

    #[test]
    fn the_plus_is_put_before_the_dialled_number_or_taken_away() {
        let mut trunk = trunk();
        for dialled in ["918800001234", "+918800001234"] {
            let told = of(&trunk, Transport::Udp, "+911", dialled);
            assert_eq!(told.uri, "sip:+918800001234@sip.carrier.example:5080");
            assert_eq!(told.to, "<sip:+918800001234@sip.carrier.example>");
        }
        trunk.outbound_leading_plus = false;
        let told = of(&trunk, Transport::Tcp, "+911", "+918800001234");
        assert_eq!(told.uri, "sip:918800001234@sip.carrier.example:5080;transport=tcp");
    }

    #[test]
    fn a_caller_id_is_shown_and_the_number_asserted() {
        let mut trunk = trunk();
        let told = of(&trunk, Transport::Udp, "+918047102030", "1");
        assert_eq!((told.from.as_ref(), told.asserted), (&b"<sip:+918047102030@203.0.113.1>"[..], None));
        trunk.caller_id = Some("+918000000000".to_owned());
        trunk.auth = TrunkAuth::user_pass("u", "p");
        let told = of(&trunk, Transport::Udp, "+918047102030", "1");
        assert_eq!(told.from, "<sip:+918000000000@sip.carrier.example>");
        assert_eq!(told.asserted.unwrap(), "<sip:+918047102030@sip.carrier.example>");
    }

    #[test]
    fn a_number_writes_nothing_but_a_user() {
        let told = of(&trunk(), Transport::Udp, "a>\r\nX: 1;tag=b@c", "1");
        assert_eq!(told.from, "<sip:a%3E%0D%0AX%3A%201%3Btag=b%40c@203.0.113.1>");
    }
}
