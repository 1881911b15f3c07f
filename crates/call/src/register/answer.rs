//! What a registrar's response says: granted until when, for which Contact, seen from where; or refused, why, and what
//! its owner can do about it.
//!
//! RFC 3261 sections 10.2.4 (the expiry granted, and "the 'expires' parameter of Contact, then Expires"), 10.2.8 (423),
//! 21; RFC 3581 section 4 (`received` and `rport`).

use std::net::SocketAddr;
use std::time::Duration;

use tandem_sip::auth::Refused;
use tandem_sip::{HeaderName, NameAddr, Response, Uri};

/// The longest that a response may put the next attempt off (Retry-After), and the longest expiry taken at its word.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// A binding that the registrar holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Granted {
    /// For how long.
    pub(super) lasts: Duration,
    /// Our Contact as the registrar repeats it; it may have written another address into it.
    pub(super) contact: String,
}

/// What the 2xx to a REGISTER grants. Registrars exist that repeat no Contact, and such that put the address that they
/// see into it: a Contact with our `line` is ours, and so is the only one there is.
///
/// # Errors
/// Why nothing was granted, in words.
pub(super) fn granted(
    response: &Response,
    ours: &str,
    line: &str,
    asked: Duration,
) -> Result<Granted, Refusal> {
    let bare = ours.trim_start_matches('<').trim_end_matches('>');
    let own = Uri::parse(bare.as_bytes());
    let all: Vec<NameAddr<'_>> = response.headers(HeaderName::Contact).filter_map(NameAddr::parse).collect();
    let is_line = |contact: &NameAddr<'_>| {
        contact.uri().param("line").and_then(|param| param.value) == Some(line.as_bytes())
    };
    let is_equal = |contact: &NameAddr<'_>| own.as_ref().is_some_and(|own| own.is_equivalent(&contact.uri()));
    let mine = all.iter().find(|contact| is_equal(contact)).or_else(|| all.iter().find(|one| is_line(one)));
    let mine = mine.or_else(|| all.first().filter(|_| all.len() == 1));
    if mine.is_none() && !all.is_empty() {
        return Err(Refusal {
            reason: "the registrar answered 200 with other contacts and without ours".to_owned(),
            remedy: "Ask the carrier how many contacts one user may register; another device may use the same user."
                .to_owned(),
            kind: Kind::Standing,
        });
    }
    let by_contact =
        mine.and_then(|contact| contact.param("expires")).and_then(|param| seconds(&param.unquoted()));
    let expires = response.header(HeaderName::Expires).and_then(seconds);
    let lasts = by_contact.or(expires).map_or(asked, Duration::from_secs);
    if lasts.is_zero() {
        return Err(Refusal {
            reason: "the registrar answered 200 and granted no time".to_owned(),
            remedy: "Ask the carrier why; a longer registration.expires may help.".to_owned(),
            kind: Kind::Standing,
        });
    }
    let contact = mine.map_or(bare.as_bytes(), |contact| contact.uri().as_bytes());
    Ok(Granted { lasts: lasts.min(LONGEST), contact: String::from_utf8_lossy(contact).into_owned() })
}

/// The Min-Expires of a 423.
pub(super) fn least(response: &Response) -> Option<Duration> {
    let least = response.header_named("Min-Expires").and_then(seconds).map(Duration::from_secs);
    least.filter(|least| !least.is_zero() && *least <= LONGEST)
}

/// How long the response asks to wait.
pub(super) fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.header_named("Retry-After")?;
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    seconds(&value[..digits]).map(Duration::from_secs).map(|pause| pause.min(LONGEST))
}

/// From where the registrar sees us, if it says so.
pub(super) fn seen(response: &Response) -> Option<SocketAddr> {
    let via = response.via();
    let (received, rport) = (via.received(), via.rport());
    if received.is_none() && rport.is_none() {
        return None;
    }
    let ip = received.or_else(|| via.ip())?.to_canonical();
    Some(SocketAddr::new(ip, rport.or_else(|| via.port())?))
}

fn seconds(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

/// How soon it is worth trying again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It may be over in seconds: silence, a connection refused, 5xx.
    Passing,
    /// Somebody has to change something first: 403, a wrong password.
    Standing,
}

/// Why a registration did not come to be, and what to do about it, in words meant for the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) remedy: String,
    pub(super) kind: Kind,
}

impl Refusal {
    /// A failure that may pass.
    pub(super) fn passing(reason: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { reason: reason.into(), remedy: remedy.into(), kind: Kind::Passing }
    }

    /// A challenge that our credentials cannot answer, or have answered to no avail.
    pub(super) fn unauthorized(refused: Refused) -> Self {
        let (reason, remedy) = match refused {
            Refused::NotAccepted => (
                "the registrar does not accept the user name and password",
                "Set auth_username and auth_password to what the carrier gave you.",
            ),
            Refused::TooOften => (
                "the registrar calls every nonce stale and challenges in a circle",
                "Ask the carrier: its servers may not share their nonces.",
            ),
            Refused::OtherRealm => (
                "the registrar challenges for another realm than registration.realm",
                "Set registration.realm to the realm of the carrier's challenge, or leave it out.",
            ),
            Refused::NothingSupported => (
                "the registrar's challenge has no algorithm that is spoken here (MD5, SHA-256, SHA-512-256)",
                "Ask the carrier to challenge with one of these and with qop auth or auth-int.",
            ),
        };
        Self { reason: reason.to_owned(), remedy: remedy.to_owned(), kind: Kind::Standing }
    }

    /// Any other final response.
    pub(super) fn of(response: &Response) -> Self {
        let status = response.status();
        let phrase = String::from_utf8_lossy(response.reason()).into_owned();
        let (kind, remedy) = match status {
            300..=399 => (Kind::Standing, redirected(response)),
            403 => (
                Kind::Standing,
                "The carrier forbids it: check user name, registration.domain and from_user, that the account may \
                 register, and that it may do so from this address."
                    .to_owned(),
            ),
            404 | 410 | 604 => (
                Kind::Standing,
                "The carrier does not know the user: check registration.from_user and registration.domain.".to_owned(),
            ),
            405 | 501 => (
                Kind::Standing,
                "There is no registrar at this address: check registration.registrar, or switch registration off if \
                 the carrier goes by address."
                    .to_owned(),
            ),
            420 | 421 | 494 => (
                Kind::Standing,
                "The carrier asks for a SIP extension that is not spoken here; ask it for plain registration.".to_owned(),
            ),
            408 | 480 | 500..=599 => {
                (Kind::Passing, "It is tried again by itself; if it lasts, ask the carrier.".to_owned())
            }
            _ => (Kind::Standing, "Ask the carrier what it means by this answer to REGISTER.".to_owned()),
        };
        Self { reason: format!("the registrar answered {status} {}", phrase.trim()), remedy, kind }
    }
}

/// A redirect is not followed by itself: credentials go where the trunk's owner sends them.
fn redirected(response: &Response) -> String {
    let to = response.headers(HeaderName::Contact).find_map(NameAddr::parse);
    let host = to.map(|contact| {
        let uri = contact.uri();
        let port = uri.port().map_or_else(String::new, |port| format!(":{port}"));
        format!("{}{port}", String::from_utf8_lossy(uri.host()))
    });
    match host.filter(|host| !host.is_empty()) {
        Some(host) => format!(
            "The registrar is elsewhere: set registration.registrar to {host} if that is the carrier's."
        ),
        None => "The registrar is elsewhere: ask the carrier for its address.".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tandem_sip::Message;

    use super::*;

    const OURS: &str = "<sip:alice@203.0.113.1:5060;line=t1>";
    const ASKED: Duration = Duration::from_secs(3600);

    fn response(status: &str, via: &str, headers: &str) -> Response {
        let text = format!(
            "SIP/2.0 {status}\r\nVia: SIP/2.0/UDP 203.0.113.1:5060;branch=z9hG4bK1{via}\r\nFrom: <sip:a@b>;tag=1\r\n\
             To: <sip:a@b>;tag=2\r\nCall-ID: x\r\nCSeq: 1 REGISTER\r\n{headers}\r\n"
        );
        match Message::parse_datagram(Bytes::from(text)) {
            Ok(Message::Response(response)) => response,
            other => panic!("{other:?}"),
        }
    }

    fn lasts(headers: &str) -> Result<u64, String> {
        let granted = granted(&response("200 OK", "", headers), OURS, "t1", ASKED);
        granted.map(|granted| granted.lasts.as_secs()).map_err(|refusal| refusal.reason)
    }

    #[test]
    fn the_contacts_expiry_goes_before_the_headers_and_both_before_what_was_asked() {
        let ours = "Contact: <sip:alice@203.0.113.1:5060;line=t1>";
        assert_eq!(lasts(&format!("{ours};expires=60\r\nExpires: 900\r\n")), Ok(60));
        assert_eq!(lasts(&format!("{ours};expires=\"60\"\r\n")), Ok(60));
        assert_eq!(lasts(&format!("{ours}\r\nExpires: 900\r\n")), Ok(900));
        assert_eq!(lasts(&format!("{ours}\r\n")), Ok(3600));
        assert_eq!(lasts("Expires: 120\r\n"), Ok(120), "no Contact at all");
        assert_eq!(lasts(&format!("{ours};expires=99999999\r\n")), Ok(86_400));
    }

    #[test]
    fn ours_is_found_among_other_contacts() {
        let headers =
            "Contact: <sip:desk@198.51.100.1>;expires=7, <sip:alice@203.0.113.1:5060;line=t1>;expires=70\r\n";
        assert_eq!(lasts(headers), Ok(70));
        // A registrar behind which we are seen at another address.
        let rewritten = "Contact: <sip:desk@198.51.100.1>;expires=7\r\n\
                         Contact: <sip:alice@198.51.100.9:1024;line=t1>;expires=71\r\n";
        assert_eq!(lasts(rewritten), Ok(71));
        let granted = granted(&response("200 OK", "", rewritten), OURS, "t1", ASKED).unwrap();
        assert_eq!(granted.contact, "sip:alice@198.51.100.9:1024;line=t1");
        assert_eq!(lasts("Contact: <sip:alice@198.51.100.9>;expires=72\r\n"), Ok(72));
    }

    #[test]
    fn a_200_that_grants_nothing_is_none() {
        assert!(lasts("Contact: <sip:alice@203.0.113.1:5060;line=t1>;expires=0\r\n").is_err());
        assert!(
            lasts("Contact: <sip:x@198.51.100.1>, <sip:y@198.51.100.2>\r\n")
                .unwrap_err()
                .contains("without ours")
        );
    }

    #[test]
    fn the_address_that_the_registrar_sees_is_read() {
        let seen_by = |via: &str| seen(&response("200 OK", via, "")).map(|address| address.to_string());
        assert_eq!(seen_by(""), None);
        assert_eq!(seen_by(";received=198.51.100.9;rport=1024").as_deref(), Some("198.51.100.9:1024"));
        assert_eq!(seen_by(";rport=1024").as_deref(), Some("203.0.113.1:1024"));
        assert_eq!(seen_by(";received=198.51.100.9").as_deref(), Some("198.51.100.9:5060"));
    }

    #[test]
    fn bounds_in_responses_are_read_and_bounded() {
        let least_of = |headers: &str| least(&response("423 Interval Too Brief", "", headers));
        assert_eq!(least_of("Min-Expires: 1800\r\n"), Some(Duration::from_secs(1800)));
        assert_eq!(least_of("Min-Expires: soon\r\n"), None);
        assert_eq!(least_of("Min-Expires: 4294967295\r\n"), None);
        let pause = |headers: &str| retry_after(&response("503 Busy", "", headers));
        assert_eq!(pause("Retry-After: 120 (upgrade);duration=3600\r\n"), Some(Duration::from_secs(120)));
        assert_eq!(pause("Retry-After: 999999999\r\n"), Some(LONGEST));
        assert_eq!(pause("Retry-After: x\r\n"), None);
    }

    #[test]
    fn a_redirect_is_told_and_not_followed() {
        let refusal = Refusal::of(&response("302 Moved", "", "Contact: <sip:reg2.example:5070>\r\n"));
        assert_eq!(refusal.kind, Kind::Standing);
        assert!(refusal.remedy.contains("reg2.example:5070"), "{}", refusal.remedy);
    }
}
