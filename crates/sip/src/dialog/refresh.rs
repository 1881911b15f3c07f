//! Session timers: what is agreed, and when it is refreshed or given up. RFC 4028.
//!
//! Pure: it reads headers and does arithmetic; timers and requests are the endpoint's.

use std::time::Duration;

use crate::endpoint::config::{Refresher, SessionTimerConfig};
use crate::message::{Fields, HeaderName};

/// RFC 4028 5, of Min-SE: "its value MUST NOT be less than 90 seconds."
const FLOOR: Duration = Duration::from_secs(90);

/// What both sides hold to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Agreed {
    /// The session interval.
    pub(crate) interval: Duration,
    /// Who refreshes.
    pub(crate) refresher: Refresher,
}

impl Agreed {
    /// RFC 4028 9: "It is RECOMMENDED that this refresh be sent once half the session interval has elapsed."
    pub(crate) fn refresh_after(&self) -> Duration {
        self.interval / 2
    }

    /// RFC 4028 10: the side that hears no refresh "SHOULD send a BYE to terminate the session, slightly
    /// before the session expiration. The minimum of 32 seconds and one third of the session interval is
    /// RECOMMENDED." The refresher whose refreshes fail does the same.
    pub(crate) fn expires_after(&self) -> Duration {
        self.interval - (self.interval / 3).min(Duration::from_secs(32))
    }
}

/// What a request for or of a session says about timers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Wishes {
    supported: bool,
    interval: Option<Duration>,
    minimum: Duration,
    refresher: Option<Role>,
}

/// The refresher parameter: the roles are those of the request's own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Uac,
    Uas,
}

/// Session-Expires is below what we accept: 422.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooSmall {
    /// The value of Min-SE.
    pub(crate) minimum: Duration,
}

impl Wishes {
    /// Reads Supported, Session-Expires and Min-SE.
    pub(crate) fn of(message: &Fields) -> Self {
        let seconds = |name| message.seconds(name).map(|seconds| Duration::from_secs(seconds.into()));
        Self {
            supported: message.lists(HeaderName::Supported, "timer")
                || message.lists(HeaderName::Require, "timer"),
            interval: seconds(HeaderName::SessionExpires),
            minimum: seconds(HeaderName::MinSe).unwrap_or(FLOOR).max(FLOOR),
            refresher: refresher(message),
        }
    }

    /// What the answering side agrees to. RFC 4028 9: "If an incoming request contains a Supported header
    /// field with a value 'timer' and a Session Expires header field, the UAS MAY reject the INVITE
    /// request with a 422 (Session Interval Too Small) response if the session interval [...] is smaller
    /// than the minimum interval defined by the UAS' local policy."
    ///
    /// A peer that neither supports timers nor sits behind a proxy asking for them gets none.
    pub(crate) fn agree(&self, config: &SessionTimerConfig) -> Result<Option<Agreed>, TooSmall> {
        let minimum = config.minimum.max(FLOOR);
        if self.supported && self.interval.is_some_and(|interval| interval < minimum) {
            return Err(TooSmall { minimum });
        }
        // "The UAS response MAY reduce its value but MUST NOT set it to a duration lower than the value in
        // the Min-SE header field in the request [...]. The UAS MUST NOT increase the value".
        let interval = match (self.supported, self.interval) {
            (_, Some(asked)) => asked.min(config.interval.max(self.minimum)).max(FLOOR.min(asked)),
            (true, None) => config.interval.max(self.minimum).max(FLOOR),
            (false, None) => return Ok(None),
        };
        // Table 2: "the UAS cannot override the UAC's choice of refresher, if it made one", and one that
        // does not support timers cannot refresh.
        let refresher = match (self.supported, self.refresher) {
            (false, _) | (true, Some(Role::Uas)) => Refresher::Us,
            (true, Some(Role::Uac)) => Refresher::Peer,
            (true, None) => config.preferred,
        };
        // An interval so small that it cannot be honoured comes from proxies behind a peer without timer
        // support, which cannot be told 422: the floor is kept.
        Ok(Some(Agreed { interval: interval.max(FLOOR), refresher }))
    }

    /// What the asking side holds to after a 2xx. RFC 4028 7.2: a 2xx without Session-Expires means that
    /// there is no session expiration.
    pub(crate) fn accepted(&self) -> Option<Agreed> {
        let refresher = match self.refresher? {
            Role::Uac => Refresher::Us,
            Role::Uas => Refresher::Peer,
        };
        Some(Agreed { interval: self.interval?.max(FLOOR), refresher })
    }

    /// The Min-SE of a 422.
    pub(crate) fn minimum(&self) -> Duration {
        self.minimum
    }

    /// Whether the sender lists the option tag `timer`.
    pub(crate) fn supported(&self) -> bool {
        self.supported
    }
}

fn refresher(message: &Fields) -> Option<Role> {
    let value = message.header(HeaderName::SessionExpires)?;
    value.split(|&byte| byte == b';').skip(1).find_map(|param| {
        let mut halves = param.splitn(2, |&byte| byte == b'=');
        let name = halves.next()?.trim_ascii();
        let role = halves.next()?.trim_ascii();
        if !name.eq_ignore_ascii_case(b"refresher") {
            None
        } else if role.eq_ignore_ascii_case(b"uac") {
            Some(Role::Uac)
        } else if role.eq_ignore_ascii_case(b"uas") {
            Some(Role::Uas)
        } else {
            None
        }
    })
}

/// The value of Session-Expires in a 2xx of ours.
pub(crate) fn response_value(agreed: &Agreed) -> String {
    let role = match agreed.refresher {
        Refresher::Us => "uas",
        Refresher::Peer => "uac",
    };
    format!("{};refresher={role}", agreed.interval.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;
    use bytes::Bytes;

    fn wishes(headers: &str) -> Wishes {
        let text = format!(
            "INVITE sip:b@example.com SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@e>;tag=1\r\n\
             To: <sip:b@e>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        Wishes::of(Message::parse_datagram(Bytes::from(text)).unwrap().fields())
    }

    fn config() -> SessionTimerConfig {
        SessionTimerConfig::default()
    }

    fn agreed(seconds: u64, refresher: Refresher) -> Result<Option<Agreed>, TooSmall> {
        Ok(Some(Agreed { interval: Duration::from_secs(seconds), refresher }))
    }

    /// RFC 4028 9, table 2, row by row.
    #[test]
    fn the_refresher_follows_table_2() {
        let none = wishes("Session-Expires: 1800\r\n");
        assert_eq!(none.agree(&config()), agreed(1800, Refresher::Us));
        let ours = SessionTimerConfig { preferred: Refresher::Us, ..config() };
        let open = wishes("Supported: timer\r\nSession-Expires: 1800\r\n");
        assert_eq!(open.agree(&config()), agreed(1800, Refresher::Peer));
        assert_eq!(open.agree(&ours), agreed(1800, Refresher::Us));
        let uac = wishes("Supported: timer\r\nSession-Expires: 1800;refresher=uac\r\n");
        assert_eq!(uac.agree(&ours), agreed(1800, Refresher::Peer));
        let uas = wishes("k: 100rel, timer\r\nx: 1800 ; Refresher = UAS\r\n");
        assert_eq!(uas.agree(&config()), agreed(1800, Refresher::Us));
    }

    #[test]
    fn the_interval_is_reduced_to_ours_but_never_below_min_se_and_never_raised() {
        let long = wishes("Supported: timer\r\nSession-Expires: 7200\r\n");
        assert_eq!(long.agree(&config()), agreed(1800, Refresher::Peer));
        let bound = wishes("Supported: timer\r\nSession-Expires: 7200\r\nMin-SE: 3600\r\n");
        assert_eq!(bound.agree(&config()), agreed(3600, Refresher::Peer));
        let short = wishes("Supported: timer\r\nSession-Expires: 120\r\n");
        assert_eq!(short.agree(&config()), agreed(120, Refresher::Peer));
    }

    #[test]
    fn an_interval_below_our_minimum_is_too_small_for_a_peer_that_can_be_told() {
        let small = wishes("Supported: timer\r\nSession-Expires: 60\r\n");
        assert_eq!(small.agree(&config()), Err(TooSmall { minimum: Duration::from_secs(90) }));
        let untold = wishes("Session-Expires: 60\r\n");
        assert_eq!(untold.agree(&config()), agreed(90, Refresher::Us));
    }

    #[test]
    fn a_peer_that_knows_no_timers_gets_none() {
        assert_eq!(wishes("").agree(&config()), Ok(None));
        assert_eq!(wishes("Supported: timer\r\n").agree(&config()), agreed(1800, Refresher::Peer));
    }

    /// RFC 4028 10: BYE at expiry less the minimum of 32 seconds and a third.
    #[test]
    fn giving_up_comes_a_third_or_32_seconds_before_the_expiration() {
        let of = |seconds| Agreed { interval: Duration::from_secs(seconds), refresher: Refresher::Peer };
        assert_eq!(of(1800).expires_after(), Duration::from_secs(1768));
        assert_eq!(of(90).expires_after(), Duration::from_secs(60));
        assert_eq!(of(90).refresh_after(), Duration::from_secs(45));
    }
}
