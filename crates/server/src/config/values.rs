//! Values a configuration file writes as text: addresses, port ranges. Each error says what would do.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

use super::Tls;

/// UDP ports for media, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port.
    pub last: u16,
}

impl PortRange {
    /// Below the ephemeral range of Linux (32768 to 60999), so that no outgoing socket takes a call's port.
    pub const DEFAULT: Self = Self { first: 20_000, last: 29_999 };

    /// How many RTP/RTCP pairs fit: an even port and the odd one above (RFC 3550 section 11).
    pub fn pairs(self) -> usize {
        let first_even = u32::from(self.first) + u32::from(self.first) % 2;
        let past = u32::from(self.last) + 1;
        (past.saturating_sub(first_even) / 2) as usize
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || format!("{text:?} is no port range; write it as \"20000-29999\"");
        let (first, last) = text.split_once('-').ok_or_else(fault)?;
        let first: u16 = first.trim().parse().map_err(|_| fault())?;
        let last: u16 = last.trim().parse().map_err(|_| fault())?;
        let range = Self { first, last };
        if first < 1024 {
            return Err(format!("{text:?} begins below 1024; ports from 1024 to 65535 will do"));
        }
        if range.pairs() == 0 {
            return Err(format!("{text:?} holds no pair of ports; the last must lie above the first"));
        }
        Ok(range)
    }
}

impl Serialize for PortRange {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A port range.
pub(super) fn ports<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PortRange, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
}

impl<'de> Deserialize<'de> for PortRange {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        ports(deserializer)
    }
}

/// One socket address.
pub(super) fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    parse_address(&String::deserialize(deserializer)?).map_err(de::Error::custom)
}

/// A list of socket addresses; one alone may stand without brackets.
pub(super) fn addresses<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    deserializer.deserialize_any(Addresses)
}

/// An IP address, or nothing.
pub(super) fn optional_ip<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    let address: IpAddr = text
        .parse()
        .map_err(|_| de::Error::custom(format!("{text:?} is no IP address; write it as \"203.0.113.7\"")))?;
    if address.is_unspecified() {
        return Err(de::Error::custom(format!(
            "{text:?} means every address; name the one that peers reach, such as \"203.0.113.7\""
        )));
    }
    Ok(Some(address))
}

/// `[sip.tls]`: a table. A list in its place is the likely slip, so the error shows the table.
pub(super) fn tls<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Tls, D::Error> {
    struct Table;
    impl<'de> Visitor<'de> for Table {
        type Value = Tls;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a table: [sip.tls] with listen = [\"0.0.0.0:5061\"], certificate and private_key")
        }
        fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tls, A::Error> {
            Tls::deserialize(de::value::MapAccessDeserializer::new(map))
        }
    }
    deserializer.deserialize_any(Table)
}

struct Addresses;

impl<'de> Visitor<'de> for Addresses {
    type Value = Vec<SocketAddr>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of addresses such as [\"0.0.0.0:5060\"]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(vec![parse_address(text).map_err(E::custom)?])
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut addresses = Vec::new();
        while let Some(text) = list.next_element::<String>()? {
            addresses.push(parse_address(&text).map_err(de::Error::custom)?);
        }
        Ok(addresses)
    }
}

fn parse_address(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        let hint = if text.parse::<IpAddr>().is_ok() {
            "the port is missing; "
        } else if text.parse::<u16>().is_ok() {
            "the address is missing; "
        } else {
            ""
        };
        format!(
            "{text:?} is no address with a port: {hint}write it as \"0.0.0.0:5060\", or \"[::]:5060\" for IPv6"
        )
    })
}
