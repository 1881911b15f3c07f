//! Names of header fields, long and compact. It knows no values.
//!
//! RFC 3261 sections 7.3.1, 7.3.3 and 20, and the extensions that registered the others.

use std::fmt;

macro_rules! header_names {
    ($($variant:ident $name:literal $compact:literal $list:literal;)*) => {
        /// A header field's name. Names this crate has no use for are [`HeaderName::Other`] and are looked
        /// up by their bytes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        #[non_exhaustive]
        pub enum HeaderName {
            $(#[doc = concat!("`", $name, "`")] $variant,)*
            /// Any other name.
            Other,
        }

        const KNOWN: &[(HeaderName, &str, u8, bool)] = &[$((HeaderName::$variant, $name, $compact, $list),)*];
    };
}

// variant, name, compact form (or 0), whether several values may share a line parted by commas
header_names! {
    Via "Via" b'v' true;
    From "From" b'f' false;
    To "To" b't' false;
    CallId "Call-ID" b'i' false;
    CSeq "CSeq" 0 false;
    MaxForwards "Max-Forwards" 0 false;
    Contact "Contact" b'm' true;
    ContentLength "Content-Length" b'l' false;
    ContentType "Content-Type" b'c' false;
    Route "Route" 0 true;
    RecordRoute "Record-Route" 0 true;
    Allow "Allow" 0 true;
    Supported "Supported" b'k' true;
    Require "Require" 0 true;
    ProxyRequire "Proxy-Require" 0 true;
    Unsupported "Unsupported" 0 true;
    Accept "Accept" 0 true;
    AcceptEncoding "Accept-Encoding" 0 true;
    AcceptLanguage "Accept-Language" 0 true;
    ContentEncoding "Content-Encoding" b'e' true;
    ContentDisposition "Content-Disposition" 0 false;
    ContentLanguage "Content-Language" 0 true;
    MimeVersion "MIME-Version" 0 false;
    Authorization "Authorization" 0 false;
    ProxyAuthorization "Proxy-Authorization" 0 false;
    WwwAuthenticate "WWW-Authenticate" 0 false;
    ProxyAuthenticate "Proxy-Authenticate" 0 false;
    AuthenticationInfo "Authentication-Info" 0 false;
    Expires "Expires" 0 false;
    MinExpires "Min-Expires" 0 false;
    RetryAfter "Retry-After" 0 false;
    Date "Date" 0 false;
    Timestamp "Timestamp" 0 false;
    UserAgent "User-Agent" 0 false;
    Server "Server" 0 false;
    Subject "Subject" b's' false;
    Organization "Organization" 0 false;
    Priority "Priority" 0 false;
    Warning "Warning" 0 true;
    ErrorInfo "Error-Info" 0 true;
    CallInfo "Call-Info" 0 true;
    AlertInfo "Alert-Info" 0 true;
    InReplyTo "In-Reply-To" 0 true;
    ReplyTo "Reply-To" 0 false;
    SessionExpires "Session-Expires" b'x' false;
    MinSe "Min-SE" 0 false;
    RAck "RAck" 0 false;
    RSeq "RSeq" 0 false;
    Reason "Reason" 0 true;
    ReferTo "Refer-To" b'r' false;
    ReferredBy "Referred-By" b'b' false;
    Replaces "Replaces" 0 false;
    TargetDialog "Target-Dialog" 0 false;
    Event "Event" b'o' false;
    AllowEvents "Allow-Events" b'u' true;
    SubscriptionState "Subscription-State" 0 false;
    InfoPackage "Info-Package" 0 false;
    RecvInfo "Recv-Info" 0 true;
    SipETag "SIP-ETag" 0 false;
    SipIfMatch "SIP-If-Match" 0 false;
    Path "Path" 0 true;
    ServiceRoute "Service-Route" 0 true;
    Privacy "Privacy" 0 false;
    PAssertedIdentity "P-Asserted-Identity" 0 true;
    PPreferredIdentity "P-Preferred-Identity" 0 true;
    RemotePartyId "Remote-Party-ID" 0 true;
    PChargingVector "P-Charging-Vector" 0 false;
    PEarlyMedia "P-Early-Media" 0 true;
    PAccessNetworkInfo "P-Access-Network-Info" 0 false;
    Diversion "Diversion" 0 true;
    HistoryInfo "History-Info" 0 true;
    Identity "Identity" b'y' false;
    UserToUser "User-to-User" 0 false;
    SessionId "Session-ID" 0 false;
    AcceptContact "Accept-Contact" b'a' true;
    RejectContact "Reject-Contact" b'j' true;
    RequestDisposition "Request-Disposition" b'd' true;
    SecurityClient "Security-Client" 0 true;
    SecurityServer "Security-Server" 0 true;
    SecurityVerify "Security-Verify" 0 true;
    FlowTimer "Flow-Timer" 0 false;
    FeatureCaps "Feature-Caps" 0 true;
    ResourcePriority "Resource-Priority" 0 true;
}

impl HeaderName {
    /// Reads a name in any case and in its compact form (RFC 3261 section 7.3.3).
    pub fn from_bytes(name: &[u8]) -> Self {
        let mut slot = bucket(name);
        while SLOTS[slot] != EMPTY {
            let (known, long, compact, _) = KNOWN[SLOTS[slot] as usize];
            let matches = match name {
                [letter] => compact != 0 && letter.to_ascii_lowercase() == compact,
                // Almost every name comes as the RFC writes it.
                _ => long.as_bytes() == name || long.as_bytes().eq_ignore_ascii_case(name),
            };
            if matches {
                return known;
            }
            slot = (slot + 1) % SLOTS.len();
        }
        Self::Other
    }

    /// The long form as it is written; `Other` has none and reads as `X-Other`.
    pub fn as_str(self) -> &'static str {
        KNOWN.get(self as usize).map_or("X-Other", |entry| entry.1)
    }

    /// Whether commas part several values in one line of this header (RFC 3261 section 7.3.1).
    pub fn is_list(self) -> bool {
        KNOWN.get(self as usize).is_some_and(|entry| entry.3)
    }
}

impl fmt::Display for HeaderName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

const EMPTY: u8 = u8::MAX;

/// Where each name stands in `KNOWN`, by [`bucket`], built when the crate is compiled. Open addressing;
/// at most a third full, so that an unknown name is known as such after a look or two.
const SLOTS: [u8; 512] = {
    let mut slots = [EMPTY; 512];
    let mut index = 0;
    while index < KNOWN.len() {
        insert(&mut slots, bucket(KNOWN[index].1.as_bytes()), index as u8);
        if KNOWN[index].2 != 0 {
            insert(&mut slots, bucket(&[KNOWN[index].2]), index as u8);
        }
        index += 1;
    }
    slots
};

const fn insert(slots: &mut [u8; 512], mut slot: usize, index: u8) {
    while slots[slot] != EMPTY {
        slot = (slot + 1) % slots.len();
    }
    slots[slot] = index;
}

const fn bucket(name: &[u8]) -> usize {
    if name.is_empty() {
        return 0;
    }
    let first = name[0].to_ascii_lowercase() as usize;
    let middle = name[name.len() / 2].to_ascii_lowercase() as usize;
    let last = name[name.len() - 1].to_ascii_lowercase() as usize;
    (first * 31 + middle * 7 + last * 3 + name.len() * 17) % 512
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found_in_any_case_and_by_its_compact_form() {
        for (index, &(name, long, compact, _)) in KNOWN.iter().enumerate() {
            assert_eq!(name as usize, index);
            assert_eq!(HeaderName::from_bytes(long.as_bytes()), name);
            assert_eq!(HeaderName::from_bytes(long.to_ascii_uppercase().as_bytes()), name);
            assert_eq!(HeaderName::from_bytes(long.to_ascii_lowercase().as_bytes()), name);
            if compact != 0 {
                assert_eq!(HeaderName::from_bytes(&[compact]), name);
                assert_eq!(HeaderName::from_bytes(&[compact.to_ascii_uppercase()]), name);
            }
        }
    }

    #[test]
    fn unknown_names_are_other() {
        for name in ["", "z", "X-Whatever", "Vias", "Content-Lengths", "\u{e9}"] {
            assert_eq!(HeaderName::from_bytes(name.as_bytes()), HeaderName::Other, "{name}");
        }
    }
}
