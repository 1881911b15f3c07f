//! Transfers, as they are ordered, as a trunk's owner permits them, and as they are remembered.
//!
//! What it refuses to do: transfer (`live` does). Whoever asks, an agent, the API or the carrier itself, nobody is sent,
//! and nobody called, where the trunk's policy does not say so: an agent can be talked into much. RFC 3515, RFC 3966.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tandem_sip::{Scheme, Uri};

use crate::dialled;
use crate::gateways::GatewayAttempt;
use crate::ids::TrunkId;
use crate::record::HangupBy;

/// Transfers remembered, and allowed, in one call.
pub const MAX_TRANSFERS: usize = 16;

/// Longest target, in bytes.
pub const MAX_TARGET_BYTES: usize = 256;

/// A wish that the caller be sent elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferOrder {
    /// A number, a `tel:` or a `sip:` URI.
    pub target: String,
    /// How.
    pub way: TransferWay,
    /// The trunk a leg is dialled by, where it is not the call's own.
    pub trunk: Option<TrunkId>,
    /// Whose number the dialled leg shows.
    pub shows: ShownNumber,
    /// Headers for the dialled leg's INVITE, as an order of a call may have them.
    pub headers: Vec<(String, String)>,
    /// How long the dialled leg may ring, where it is not the node's default.
    pub ringing: Option<Duration>,
    /// Whether the agent's socket stays open while the caller talks to somebody else, and the caller comes back to it.
    pub keeps_agent: bool,
}

impl TransferOrder {
    /// A transfer as the trunk's policy has it.
    pub fn to(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            way: TransferWay::Auto,
            trunk: None,
            shows: ShownNumber::Own,
            headers: Vec::new(),
            ringing: None,
            keeps_agent: false,
        }
    }
}

/// How a transfer is wished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferWay {
    /// As the trunk's policy has it.
    Auto,
    /// By REFER, and not otherwise.
    Refer,
    /// By a second leg, whose audio is relayed here.
    Dial,
    /// By a second leg, and once it is answered by a REFER with Replaces, which lets the carrier join the two past us.
    Attended,
}

/// Whose number a dialled leg shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShownNumber {
    /// The account's own, which was called or calls: carriers take no other, mostly.
    Own,
    /// The other side's, so that who is called sees who it is.
    Caller,
}

/// Who asked for a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferBy {
    /// The agent.
    Agent,
    /// The API.
    Api,
}

/// How a transfer is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferMethod {
    /// The carrier was asked to do it, by REFER.
    Refer,
    /// A second leg was dialled.
    Dial,
    /// A second leg was dialled and the carrier asked to join the two.
    Attended,
}

/// What came of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferOutcome {
    /// Nothing yet.
    Pending,
    /// The caller talks to the second leg, or did.
    Connected,
    /// The carrier has the caller: it took the REFER.
    HandedOver,
    /// The call ended before anything came of it.
    Cancelled,
    /// Nothing; the agent has the caller still.
    Failed,
}

/// One transfer, for the call's record. Times are milliseconds since 1970-01-01 UTC.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TransferRecord {
    /// Who asked for it.
    pub by: TransferBy,
    /// How it was carried out.
    pub method: TransferMethod,
    /// Where to, as it was asked for.
    pub target: String,
    /// The number the dialled leg showed; empty for a REFER.
    pub from: String,
    /// The trunk of the dialled leg.
    pub trunk: Option<TrunkId>,
    /// When it was asked for.
    pub started_unix_ms: u64,
    /// When the second leg rang.
    pub ringing_unix_ms: Option<u64>,
    /// When the second leg was answered.
    pub answered_unix_ms: Option<u64>,
    /// When it was over: the second leg's end, or the REFER's outcome.
    pub ended_unix_ms: Option<u64>,
    /// What came of it.
    pub outcome: TransferOutcome,
    /// The last SIP status that was told: of the REFER, of its target, or of the second leg.
    pub sip_status: Option<u16>,
    /// What went wrong, in words meant for the tenant; empty when nothing did.
    pub cause: String,
    /// Which side ended a second leg that was answered: the caller's, or who it was transferred to (`Callee`).
    pub hangup_by: Option<HangupBy>,
    /// The Call-ID of the second leg; empty for a REFER.
    pub sip_call_id: String,
    /// The gateways the second leg was tried at.
    pub gateways: Vec<GatewayAttempt>,
    /// RTP packets from and to the second leg.
    pub packets: Option<SecondPackets>,
}

/// RTP packets of a second leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondPackets {
    /// From it.
    pub received: u64,
    /// To it.
    pub sent: u64,
    /// Of those from it, never came.
    pub lost: i64,
}

impl TransferRecord {
    /// Milliseconds from the second leg's answer to its end; zero when it never was answered, or is up.
    pub fn duration_ms(&self) -> u64 {
        match (self.answered_unix_ms, self.ended_unix_ms) {
            (Some(answered), Some(ended)) => ended.saturating_sub(answered),
            _ => 0,
        }
    }
}

/// What a trunk's owner permits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TransferPolicy {
    /// How a transfer is carried out.
    pub rule: TransferRule,
    /// Digits that the numbers transferred to must begin with, with or without `+`; `None` permits every number.
    pub prefixes: Option<Vec<String>>,
}

impl Default for TransferPolicy {
    fn default() -> Self {
        Self { rule: TransferRule::ReferThenDial, prefixes: None }
    }
}

/// How a trunk's calls are transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TransferRule {
    /// Not at all.
    Refuse,
    /// By REFER, and by a second leg when the carrier refuses it.
    ReferThenDial,
    /// By REFER alone.
    Refer,
    /// By a second leg alone.
    Dial,
}

impl TransferRule {
    /// Every rule.
    pub const ALL: [Self; 4] = [Self::ReferThenDial, Self::Refer, Self::Dial, Self::Refuse];

    /// The word used in the API and the store.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ReferThenDial => "refer-then-dial",
            Self::Refer => "refer",
            Self::Dial => "dial",
            Self::Refuse => "refuse",
        }
    }
}

impl TransferPolicy {
    /// What is tried first, and whether a second leg is dialled when a REFER is refused.
    ///
    /// # Errors
    /// Says what the policy has against it, and the remedy.
    pub(crate) fn method(&self, way: TransferWay) -> Result<(TransferMethod, bool), &'static str> {
        use TransferMethod as Method;
        use TransferRule as Rule;
        match (way, self.rule) {
            (_, Rule::Refuse) => {
                Err("the trunk's policy permits no transfer; PATCH its /v1/trunks/{id}/transfers")
            }
            (TransferWay::Auto, Rule::ReferThenDial) => Ok((Method::Refer, true)),
            (TransferWay::Auto | TransferWay::Refer, Rule::Refer)
            | (TransferWay::Refer, Rule::ReferThenDial) => Ok((Method::Refer, false)),
            (TransferWay::Auto | TransferWay::Dial, Rule::Dial)
            | (TransferWay::Dial, Rule::ReferThenDial) => Ok((Method::Dial, false)),
            (TransferWay::Attended, Rule::ReferThenDial) => Ok((Method::Attended, false)),
            (TransferWay::Refer, Rule::Dial) => Err("the trunk's policy permits no REFER; dial instead"),
            (TransferWay::Dial, Rule::Refer) => {
                Err("the trunk's policy permits no second leg; refer instead")
            }
            (TransferWay::Attended, Rule::Dial | Rule::Refer) => {
                Err("an attended transfer needs a trunk whose policy permits both a second leg and REFER")
            }
        }
    }

    /// Whether the policy permits the destination.
    ///
    /// # Errors
    /// Says that it does not.
    pub(crate) fn permits(&self, destination: &Destination) -> Result<(), &'static str> {
        let named = |prefix: &String| destination.number.starts_with(prefix.trim_start_matches('+'));
        match &self.prefixes {
            Some(prefixes) if !prefixes.iter().any(named) => {
                Err("the trunk's policy permits no transfer to this number")
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Where a transfer goes, read from its target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Destination {
    /// The number, its digits; or a name, for a URI that has no number.
    pub(crate) number: String,
    /// The URI, where the target was one with a host.
    pub(crate) uri: Option<String>,
}

impl Destination {
    /// Reads a target.
    ///
    /// # Errors
    /// Says what it has to be.
    pub(crate) fn parse(target: &str) -> Result<Self, &'static str> {
        const WANTED: &str = "the target is no number, tel: or sip: URI";
        let target = target.trim();
        let is_line = target.len() <= MAX_TARGET_BYTES
            && !target.chars().any(|c| c.is_control() || c.is_whitespace() || "<>\"".contains(c));
        // Separators within a number may be blanks; anything else may not.
        if !is_line && dialled::stored_key(target).is_none_or(|key| !is_number(&key)) {
            return Err(WANTED);
        }
        let number = dialled::stored_key(target).ok_or(WANTED)?;
        let has_scheme =
            |scheme: &str| target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        if has_scheme("sip:") || has_scheme("sips:") {
            let uri = Uri::parse(target.as_bytes()).ok_or(WANTED)?;
            let is_whole = matches!(uri.scheme(), Scheme::Sip | Scheme::Sips) && uri.user().is_some();
            let number = uri.user().and_then(dialled::key).filter(|_| is_whole).ok_or(WANTED)?;
            return Ok(Self { number, uri: Some(target.to_owned()) });
        }
        if is_number(&number) { Ok(Self { number, uri: None }) } else { Err(WANTED) }
    }

    /// The host of the URI, if it has one.
    pub(crate) fn host(&self) -> Option<String> {
        let uri = Uri::parse(self.uri.as_ref()?.as_bytes())?;
        Some(String::from_utf8_lossy(uri.host()).into_owned())
    }
}

/// Whether a target can be read at all; what the trunk's policy says of it is seen when the call is told.
///
/// # Errors
/// Says what it has to be.
pub fn check_target(target: &str) -> Result<(), &'static str> {
    Destination::parse(target).map(drop)
}

fn is_number(key: &str) -> bool {
    !key.is_empty() && key.len() <= 32 && key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'*' | b'#'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_numbers_and_uris_and_nothing_else() {
        for target in ["+4930123", "tel:+49-30-123", "+49 (30) 123", "4930123"] {
            let read = Destination::parse(target).unwrap_or_else(|why| panic!("{target}: {why}"));
            assert_eq!((read.number.as_str(), read.uri), ("4930123", None), "{target}");
        }
        let uri = Destination::parse("sip:+4930123@pbx.example:5080;user=phone").expect("a uri");
        assert_eq!((uri.number.as_str(), uri.host().as_deref()), ("4930123", Some("pbx.example")));
        for rubbish in [
            "",
            "sales",
            "sip:pbx.example",
            "sip:",
            "http://a/b",
            "+49\r\nX: 1",
            "sip:a@b>\"",
            &"1".repeat(300),
        ] {
            assert!(Destination::parse(rubbish).is_err(), "{rubbish}");
        }
    }

    #[test]
    fn the_policy_says_how_and_where() {
        let policy = |rule| TransferPolicy { rule, ..TransferPolicy::default() };
        assert_eq!(
            policy(TransferRule::ReferThenDial).method(TransferWay::Auto),
            Ok((TransferMethod::Refer, true))
        );
        assert_eq!(
            policy(TransferRule::ReferThenDial).method(TransferWay::Refer),
            Ok((TransferMethod::Refer, false))
        );
        assert_eq!(policy(TransferRule::Dial).method(TransferWay::Auto), Ok((TransferMethod::Dial, false)));
        for way in [TransferWay::Auto, TransferWay::Refer, TransferWay::Dial, TransferWay::Attended] {
            assert!(policy(TransferRule::Refuse).method(way).is_err());
        }
        assert!(policy(TransferRule::Dial).method(TransferWay::Refer).is_err());
        assert!(policy(TransferRule::Refer).method(TransferWay::Dial).is_err());
        let to = |number: &str| Destination::parse(number).expect("a number");
        assert!(TransferPolicy::default().permits(&to("+1900")).is_ok());
        let narrow = TransferPolicy { prefixes: Some(vec!["+4930".to_owned()]), ..TransferPolicy::default() };
        assert!(narrow.permits(&to("4930123")).is_ok());
        assert!(narrow.permits(&to("+1900")).is_err());
        assert!(narrow.permits(&to("sip:4930123@elsewhere")).is_ok());
    }
}
