//! The addresses of an outbound INVITE: Request-URI, To and From, as the trunk wants them.
//!
//! * The dialled number has a leading `+` or has none, by the trunk's `outbound_leading_plus_enabled`.
//! * From shows the number that calls, as its owner wrote it, or the trunk's caller id where it has one; [`crate::identity`]
//!   has what else the trunk's owner may decide.
//! * From's host is the gateway's where the trunk proves itself by user name, for such carriers know accounts by their own
//!   domain; elsewhere it is ours, as RFC 3261 section 8.1.1.3 has it.
//! * A call that was redirected goes to the URI it was redirected to; To stays (RFC 3261 section 8.1.3.4).

use std::net::SocketAddr;

use bytes::Bytes;
use tandem_sip::Transport;

use crate::gateways::{RedirectedTo, transport_parameter, uri_host};
use crate::identity::{Caller, Identity, escaped};
use crate::table::{Gateway, Trunk, TrunkAuth};
use crate::transfer::Destination;

/// The addresses of one INVITE, and the headers that go with them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) uri: Bytes,
    pub(crate) from: Bytes,
    pub(crate) to: Bytes,
    pub(crate) headers: Vec<(Bytes, Bytes)>,
}

/// What one INVITE is about.
pub(crate) struct Call<'a> {
    pub(crate) trunk: &'a Trunk,
    pub(crate) gateway: &'a Gateway,
    pub(crate) transport: Transport,
    /// Our address as the peer sees it.
    pub(crate) local: SocketAddr,
    /// The number that calls, as its owner wrote it.
    pub(crate) from: &'a str,
    /// The dialled number, with or without `+`.
    pub(crate) dialled: &'a str,
    /// Where it was redirected to.
    pub(crate) redirected_to: Option<&'a RedirectedTo>,
    /// Headers that its order asks for.
    pub(crate) ordered: &'a [(Bytes, Bytes)],
}

impl Call<'_> {
    /// The addresses of the INVITE.
    pub(crate) fn addresses(&self) -> Addresses {
        let trunk = self.trunk;
        let digits = self.dialled.strip_prefix('+').unwrap_or(self.dialled);
        let plus = if trunk.outbound_leading_plus { "+" } else { "" };
        let user = format!("{plus}{}", escaped(digits));
        let host = uri_host(&self.gateway.address);
        let port = self.gateway.port.map(|port| format!(":{port}")).unwrap_or_default();
        let parameter = transport_parameter(self.transport);
        let own_host = match trunk.auth {
            TrunkAuth::UserPass(_) => host.clone(),
            TrunkAuth::IpBased => uri_host(&self.local.ip().to_canonical().to_string()),
        };
        let caller = Caller { trunk, number: self.from, host: &own_host, ordered: self.ordered };
        let Identity { from, headers } = caller.identity();
        let to_host =
            self.redirected_to.map_or_else(|| host.clone(), |redirected| uri_host(&redirected.first_host));
        let uri = || format!("sip:{user}@{host}{port}{parameter}").into();
        Addresses {
            uri: self.redirected_to.map_or_else(uri, |redirected| redirected.uri.clone()),
            from,
            to: format!("<sip:{user}@{to_host}>").into(),
            headers,
        }
    }
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
            port: Some(5080),
            priority: 1,
            weight: 1,
            transport: None,
        };
        let local = "203.0.113.1:5060".parse().unwrap();
        let gateway = &gateway;
        let call =
            Call { trunk, gateway, transport, local, from, dialled, redirected_to: None, ordered: &[] };
        call.addresses()
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
        assert_eq!((told.from.as_ref(), told.headers), (&b"<sip:+918047102030@203.0.113.1>"[..], Vec::new()));
        trunk.caller_id = Some("+918000000000".to_owned());
        trunk.auth = TrunkAuth::user_pass("u", "p");
        let told = of(&trunk, Transport::Udp, "+918047102030", "1");
        assert_eq!(told.from, "<sip:+918000000000@sip.carrier.example>");
        assert_eq!(told.headers[0].1, "<sip:+918047102030@sip.carrier.example>");
    }

    #[test]
    fn a_number_writes_nothing_but_a_user() {
        let told = of(&trunk(), Transport::Udp, "a>\r\nX: 1;tag=b@c", "1");
        assert_eq!(told.from, "<sip:a%3E%0D%0AX%3A%201%3Btag=b%40c@203.0.113.1>");
    }
}
