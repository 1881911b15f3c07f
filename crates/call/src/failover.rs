//! Whether another gateway of the trunk is tried after one has failed: the table, and the reasons for each of its lines.
//!
//! What a gateway says of *itself* sends the call on; what it says of the *callee* or of *us* ends it, for another gateway
//! would ring the same telephone twice or be told the same lie. A trunk may have lines of its own, for carriers use statuses as
//! they please. One table and no state. RFC 3261 section 21, RFC 3263 section 4.3.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What follows an attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Next {
    /// The next gateway, if there is one.
    #[serde(rename = "next")]
    Gateway,
    /// The call is over.
    #[serde(rename = "end")]
    End,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum FailoverCase {
    /// By this status, 300 to 699.
    Status(u16),
    /// By a status of this class, 3 to 6, that has no line of its own.
    Class(u16),
    /// Not a word came in time.
    Timeout,
    /// The gateway's name was not found, or it could not be connected to.
    Unreachable,
}

impl FromStr for FailoverCase {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fault = || {
            format!(
                "{text:?} is no case; give a status from 300 to 699, 3xx, 4xx, 5xx, 6xx, timeout or unreachable"
            )
        };
        match text {
            "timeout" => Ok(Self::Timeout),
            "unreachable" => Ok(Self::Unreachable),
            "3xx" | "4xx" | "5xx" | "6xx" => Ok(Self::Class(u16::from(text.as_bytes()[0] - b'0'))),
            _ if text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()) => {
                let status = text.parse().ok().filter(|status| (300..700).contains(status));
                status.map(Self::Status).ok_or_else(fault)
            }
            _ => Err(fault()),
        }
    }
}

impl fmt::Display for FailoverCase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Status(status) => write!(formatter, "{status}"),
            Self::Class(class) => write!(formatter, "{class}xx"),
            Self::Timeout => formatter.write_str("timeout"),
            Self::Unreachable => formatter.write_str("unreachable"),
        }
    }
}

impl TryFrom<String> for FailoverCase {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<FailoverCase> for String {
    fn from(case: FailoverCase) -> Self {
        case.to_string()
    }
}

/// A trunk's own lines of the table. A status goes before its class, and both before the defaults: [`after_status`], and the
/// next gateway after silence or for one that cannot be reached, for these say nothing of the callee.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailoverTable {
    /// The lines.
    pub lines: BTreeMap<FailoverCase, Next>,
}

impl FailoverTable {
    /// What follows this failure.
    pub fn after(&self, case: FailoverCase) -> Next {
        let own = |case| self.lines.get(&case).copied();
        match case {
            FailoverCase::Status(status) => own(case)
                .or_else(|| own(FailoverCase::Class(status / 100)))
                .unwrap_or_else(|| after_status(status)),
            FailoverCase::Class(_) => own(case).unwrap_or(Next::End),
            FailoverCase::Timeout | FailoverCase::Unreachable => own(case).unwrap_or(Next::Gateway),
        }
    }
}

/// What follows a final response that is not 2xx.
///
/// | status | next | why |
/// |---|---|---|
/// | 300 to 399 | end | a redirect that policy does not follow makes no call that nobody paid for (toll fraud) |
/// | 400 | end | this gateway finds our request malformed; so will the next, and a repeat hides the fault |
/// | 401, 407 | end | the credentials were refused, or there are none; a second door locks the account sooner |
/// | 402 | end | the carrier wants money, at every gateway |
/// | 403 | end | policy of the carrier: a caller id it does not know, a country it does not call |
/// | 404, 410 | end | the number does not exist, or no more |
/// | 405, 406 | end | INVITE or our SDP not liked: a property of the request |
/// | 408 | gateway | a proxy got no answer from what is behind it: another way may have one |
/// | 409, 411, 412 | end | never seen on INVITE but from broken peers; a repeat mends nothing |
/// | 413, 414 | end | too long for it; the next is as likely to say so |
/// | 415, 416, 420, 421 | end | a body, a scheme or an extension: a property of the request |
/// | 422, 423 | end | the interval; the endpoint has tried the one asked for already |
/// | 428, 429, 436, 437, 438 | end | identity wanted or refused: policy of the carrier |
/// | 430 | gateway | RFC 5626: the flow to what is behind this proxy failed, not the callee |
/// | 433 | end | anonymity refused by the callee |
/// | 439, 440, 469, 470 | end | properties of the request or consent of the callee |
/// | 478 | gateway | Kamailio's "unresolvable destination": the gateway's own DNS |
/// | 480 | end | the callee is not there now; ringing it twice brings nobody home |
/// | 481 | end | the gateway lost its own transaction; it may have rung: not twice |
/// | 482, 483 | end | loops in the carrier's routing: another entrance feeds the same loop |
/// | 484, 485 | end | the number is too short or ambiguous |
/// | 486 | end | busy |
/// | 487 | end | ended at someone's wish |
/// | 488 | end | no common codec: the trunk's codecs are the same at each gateway |
/// | 489, 491, 493, 494 | end | of other methods or of security agreed on: properties of the request |
/// | other 4xx | end | RFC 3261 section 8.1.3.2 has them treated as 400 |
/// | 500 to 599 | gateway | the server failed, whoever is called: what failover is for |
/// | 600 to 699 | end | nobody anywhere will take this call |
pub const fn after_status(status: u16) -> Next {
    match status {
        408 | 430 | 478 | 500..=599 => Next::Gateway,
        _ => Next::End,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_gateway_says_of_itself_sends_the_call_on_and_nothing_else_does() {
        let on: Vec<u16> = (300..700).filter(|status| after_status(*status) == Next::Gateway).collect();
        let wanted: Vec<u16> = [408, 430, 478].into_iter().chain(500..600).collect();
        assert_eq!(on, wanted);
    }

    #[test]
    fn a_trunks_own_lines_go_before_the_defaults_and_a_status_before_its_class() {
        let line = |text: &str, next| (text.parse().expect("a case"), next);
        let table = FailoverTable {
            lines: [
                line("5xx", Next::End),
                line("503", Next::Gateway),
                line("403", Next::Gateway),
                line("timeout", Next::End),
            ]
            .into(),
        };
        let after = |text: &str| table.after(text.parse().expect("a case"));
        assert_eq!([after("500"), after("503"), after("403")], [Next::End, Next::Gateway, Next::Gateway]);
        assert_eq!([after("404"), after("408"), after("600")], [Next::End, Next::Gateway, Next::End]);
        assert_eq!([after("timeout"), after("unreachable")], [Next::End, Next::Gateway]);
        let told = serde_json::to_string(&table).expect("it is JSON");
        assert_eq!(told, r#"{"403":"next","503":"next","5xx":"end","timeout":"end"}"#);
        assert_eq!(serde_json::from_str::<FailoverTable>(&told).expect("it is read"), table);
    }

    #[test]
    fn what_is_no_case_is_refused() {
        for text in ["200", "700", "7xx", "", "5XX", "+03", "0x1", "busy"] {
            assert!(text.parse::<FailoverCase>().is_err(), "{text}");
        }
    }
}
