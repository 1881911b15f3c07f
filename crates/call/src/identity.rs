//! Whom a call is shown to come from, as the trunk's owner decides: From, P-Asserted-Identity or P-Preferred-Identity
//! (RFC 3325), Privacy (RFC 3323) and Diversion (RFC 5806).
//!
//! Carriers bill by one of these and show another, and each wants it in its own place. What it refuses to do: let a number, a
//! name or a caller id write anything but itself (RFC 3261 sections 19.1.2, 25.1).

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::table::{Trunk, TrunkAuth};

/// Whom calls are shown to come from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct IdentityPolicy {
    /// What stands in From.
    pub from_user: FromUser,
    /// The host of From and of the other headers; without it, the gateway's on a trunk with user name and password, and ours
    /// on one by address.
    pub from_host: Option<String>,
    /// The name beside the number.
    pub display_name: Option<String>,
    /// Which header names the number that calls.
    pub asserted: Asserted,
    /// The number that diverts the call, for carriers that show foreign callers only where a number of the trunk diverts them:
    /// `number` is the one that the call is placed by.
    pub diversion: Option<String>,
    /// Whether the callee may see who calls.
    pub privacy: PrivacyPolicy,
}

/// What stands in From.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromUser {
    /// The trunk's caller id, or without one the number that calls.
    #[default]
    Number,
    /// The trunk's user name, for registrars that know accounts by it alone; the number is asserted then.
    Username,
}

/// Which header names the number that calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Asserted {
    /// P-Asserted-Identity, where From does not name it.
    #[default]
    Auto,
    /// P-Asserted-Identity on each call.
    Always,
    /// None.
    Never,
    /// P-Preferred-Identity on each call: for carriers that assert by themselves what they are told to prefer.
    Preferred,
}

/// Whether the callee may see who calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrivacyPolicy {
    /// It may.
    #[default]
    None,
    /// The carrier is asked to hide it: `Privacy: id`.
    Id,
    /// It is hidden here too: From is anonymous (RFC 3323 section 4.1.1.3), and the carrier alone is told.
    Anonymous,
}

/// What a call brings.
pub(crate) struct Caller<'a> {
    pub(crate) trunk: &'a Trunk,
    /// The number that calls, as its owner wrote it.
    pub(crate) number: &'a str,
    /// The host of its URIs, where the policy has none.
    pub(crate) host: &'a str,
    /// Headers that the call's order asks for; these go before the trunk's.
    pub(crate) ordered: &'a [(Bytes, Bytes)],
}

/// From, and the headers that go with it.
pub(crate) struct Identity {
    pub(crate) from: Bytes,
    pub(crate) headers: Vec<(Bytes, Bytes)>,
}

impl Caller<'_> {
    /// The identity of the call.
    pub(crate) fn identity(&self) -> Identity {
        let policy = &self.trunk.outbound.identity;
        let host = policy.from_host.as_deref().unwrap_or(self.host);
        let uri = |user: &str| format!("<sip:{}@{host}>", escaped(user));
        let shown = self.shown();
        let display =
            policy.display_name.as_deref().map(|name| format!("{} ", quoted(name))).unwrap_or_default();
        let from = match policy.privacy {
            PrivacyPolicy::Anonymous => "\"Anonymous\" <sip:anonymous@anonymous.invalid>".to_owned(),
            PrivacyPolicy::None | PrivacyPolicy::Id => format!("{display}{}", uri(shown)),
        };
        let mut headers = Vec::new();
        let mut add = |name: &'static str, value: String| {
            headers.push((Bytes::from_static(name.as_bytes()), Bytes::from(value)));
        };
        let ordered_privacy = self.ordered_value("Privacy");
        let is_hidden = match &ordered_privacy {
            Some(wish) => !wish.eq_ignore_ascii_case(b"none"),
            None => policy.privacy != PrivacyPolicy::None,
        };
        match policy.asserted {
            Asserted::Never => {}
            Asserted::Preferred => add("P-Preferred-Identity", uri(self.number)),
            Asserted::Always => add("P-Asserted-Identity", uri(self.number)),
            Asserted::Auto if is_hidden || shown != self.number => {
                add("P-Asserted-Identity", uri(self.number))
            }
            Asserted::Auto => {}
        }
        if is_hidden && ordered_privacy.is_none() {
            add("Privacy", "id".to_owned());
        }
        if let Some(diversion) = &policy.diversion
            && self.ordered_value("Diversion").is_none()
        {
            let by = if diversion == "number" { self.number } else { diversion };
            add("Diversion", format!("{};reason=unconditional", uri(by)));
        }
        Identity { from: from.into(), headers }
    }

    /// The user of From.
    fn shown(&self) -> &str {
        let number = self.trunk.caller_id.as_deref().unwrap_or(self.number);
        match (self.trunk.outbound.identity.from_user, &self.trunk.auth) {
            (FromUser::Username, TrunkAuth::UserPass(credentials)) => {
                credentials.first().map_or(number, |credential| credential.username.as_str())
            }
            (FromUser::Username, TrunkAuth::IpBased) | (FromUser::Number, _) => number,
        }
    }

    fn ordered_value(&self, name: &str) -> Option<Bytes> {
        let found = self.ordered.iter().find(|(known, _)| known.eq_ignore_ascii_case(name.as_bytes()));
        found.map(|(_, value)| value.clone())
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

/// RFC 3261 section 25.1: `quoted-string = SWS DQUOTE *(qdtext / quoted-pair ) DQUOTE`; control characters are left out.
fn quoted(name: &str) -> String {
    let mut text = String::with_capacity(name.len() + 2);
    text.push('"');
    for character in name.chars().filter(|character| !character.is_control()) {
        if matches!(character, '"' | '\\') {
            text.push('\\');
        }
        text.push(character);
    }
    text.push('"');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut Trunk), ordered: &[(&str, &str)]) -> (String, Vec<String>) {
        let mut trunk = Trunk::new("t", "a", "t");
        change(&mut trunk);
        let bytes = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        let ordered: Vec<_> = ordered.iter().map(|(name, value)| (bytes(name), bytes(value))).collect();
        let caller = Caller { trunk: &trunk, number: "+911", host: "203.0.113.1", ordered: &ordered };
        let Identity { from, headers } = caller.identity();
        let line = |(name, value): &(Bytes, Bytes)| {
            format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
        };
        (String::from_utf8_lossy(&from).into_owned(), headers.iter().map(line).collect())
    }

    const SELF: &str = "<sip:+911@203.0.113.1>";

    #[test]
    fn the_number_stands_in_from_and_is_asserted_where_it_does_not() {
        assert_eq!(told(|_| {}, &[]), (SELF.to_owned(), vec![]));
        let shown = told(|trunk| trunk.caller_id = Some("+919".to_owned()), &[]);
        assert_eq!(shown.0, "<sip:+919@203.0.113.1>");
        assert_eq!(shown.1, [format!("P-Asserted-Identity: {SELF}")]);
        let named = told(
            |trunk| {
                trunk.auth = TrunkAuth::user_pass("acct 7", "p");
                trunk.outbound.identity.from_user = FromUser::Username;
                trunk.outbound.identity.from_host = Some("carrier.example".to_owned());
                trunk.outbound.identity.display_name = Some("Ada \"A\"\r\nX: 1".to_owned());
            },
            &[],
        );
        assert_eq!(named.0, r#""Ada \"A\"X: 1" <sip:acct%207@carrier.example>"#);
        assert_eq!(named.1, ["P-Asserted-Identity: <sip:+911@carrier.example>"]);
    }

    #[test]
    fn who_asserts_is_the_trunks_to_decide() {
        let by = |asserted| told(|trunk| trunk.outbound.identity.asserted = asserted, &[]).1;
        assert_eq!(by(Asserted::Always), [format!("P-Asserted-Identity: {SELF}")]);
        assert_eq!(by(Asserted::Preferred), [format!("P-Preferred-Identity: {SELF}")]);
        assert!(by(Asserted::Never).is_empty());
    }

    #[test]
    fn who_is_hidden_is_known_to_the_carrier_alone() {
        let hidden = |privacy| told(|trunk| trunk.outbound.identity.privacy = privacy, &[]);
        let asserted = format!("P-Asserted-Identity: {SELF}");
        assert_eq!(
            hidden(PrivacyPolicy::Id),
            (SELF.to_owned(), vec![asserted.clone(), "Privacy: id".to_owned()])
        );
        let anonymous = hidden(PrivacyPolicy::Anonymous);
        assert_eq!(anonymous.0, "\"Anonymous\" <sip:anonymous@anonymous.invalid>");
        assert_eq!(anonymous.1, [asserted.clone(), "Privacy: id".to_owned()]);
        // The order's own wish stands as it is, and the number is asserted with it.
        assert_eq!(told(|_| {}, &[("privacy", "user;id")]).1, [asserted]);
        assert!(
            told(|trunk| trunk.outbound.identity.privacy = PrivacyPolicy::Id, &[("Privacy", "none")])
                .1
                .is_empty()
        );
    }

    #[test]
    fn a_diversion_is_told_once() {
        let by = |diversion: &str, ordered: &[(&str, &str)]| {
            told(|trunk| trunk.outbound.identity.diversion = Some(diversion.to_owned()), ordered).1
        };
        assert_eq!(by("number", &[]), [format!("Diversion: {SELF};reason=unconditional")]);
        assert_eq!(by("+912", &[]), ["Diversion: <sip:+912@203.0.113.1>;reason=unconditional"]);
        assert!(by("number", &[("Diversion", "<sip:+1@a>")]).is_empty());
    }
}
