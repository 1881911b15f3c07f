//! How many requests a client may make: so many a minute per account, and so many per address for whoever comes
//! without a valid key. Each answer says what is left; a request beyond it gets 429 with `Retry-After`.
//!
//! Windows of a minute that begin with the first request. Memory is bounded: finished windows make room, and
//! when there is none left, newcomers share one. Nothing here looks at a clock.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};

use super::error::ApiError;
use crate::config::Limits;

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(60);

/// Windows held at once.
const MOST_WINDOWS: usize = 65_536;

/// A kind of request, by what it may be asked for in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Ordering a call: the vendor's narrower limit, as for the two that follow, each of which has its own.
    Call,
    /// Reading one agent.
    Agent,
    /// Reading an agent's executions.
    Executions,
    /// Exotel's family.
    Exotel,
    /// Everything else.
    Other,
}

impl Kind {
    /// Of what kind a request to this route is.
    pub(super) fn of(method: &Method, route: &str) -> Self {
        match route {
            "/call" => Self::Call,
            "/v2/agent/{agent_id}/executions" => Self::Executions,
            "/v2/agent/{agent_id}" if method == Method::GET => Self::Agent,
            _ if route.starts_with("/v2/accounts/") || route.starts_with("/v2_beta/") => Self::Exotel,
            _ => Self::Other,
        }
    }

    fn most(self, limits: &Limits) -> u32 {
        match self {
            Self::Call | Self::Agent | Self::Executions => limits.api_narrow_per_minute,
            Self::Exotel => limits.api_exotel_per_minute,
            Self::Other => limits.api_requests_per_minute,
        }
    }
}

/// Whose window it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Account(String, Kind),
    Stranger(IpAddr),
    /// Those for whom there was no room.
    Crowd,
}

#[derive(Clone, Copy, Debug)]
struct Window {
    began: Instant,
    used: u32,
}

/// What is left of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    limit: u32,
    remaining: u32,
    resets_in: u64,
}

impl Allowance {
    /// Writes it into an answer: in the names of long custom, and in those of the IETF's draft.
    pub(super) fn write(self, headers: &mut HeaderMap) {
        for (names, value) in [
            (["x-ratelimit-limit", "ratelimit-limit"], u64::from(self.limit)),
            (["x-ratelimit-remaining", "ratelimit-remaining"], u64::from(self.remaining)),
            (["x-ratelimit-reset", "ratelimit-reset"], self.resets_in),
        ] {
            for name in names {
                headers.insert(HeaderName::from_static(name), HeaderValue::from(value));
            }
        }
    }

    fn refusal(self, whose: &str) -> ApiError {
        let message = format!("Too many requests: {} a minute are allowed {whose}", self.limit);
        let mut error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, message);
        error.header = Some((header::RETRY_AFTER, HeaderValue::from(self.resets_in)));
        error
    }
}

/// Every window that is open.
#[derive(Debug, Default)]
pub(super) struct Allowances(Mutex<HashMap<Subject, Window>>);

impl Allowances {
    /// Counts a request of an account.
    ///
    /// # Errors
    /// 429, and what is left: nothing.
    pub(super) fn take(
        &self,
        account: &str,
        kind: Kind,
        limits: &Limits,
        now: Instant,
    ) -> Result<Allowance, (Allowance, ApiError)> {
        let subject = Subject::Account(account.to_owned(), kind);
        let (allowance, is_within) = self.count(subject, kind.most(limits), now, 1);
        if is_within {
            return Ok(allowance);
        }
        metrics::counter!("tandem_api_rate_limited_total", "by" => "account").increment(1);
        Err((allowance, allowance.refusal("per account for this kind of request")))
    }

    /// Counts a request without a valid key against its address.
    pub(super) fn note_failure(&self, address: IpAddr, limits: &Limits, now: Instant) {
        self.count(Subject::Stranger(network_of(address)), limits.api_failures_per_minute, now, 1);
    }

    /// Whether an address that already sent too many requests without a valid key is listened to.
    ///
    /// # Errors
    /// 429.
    pub(super) fn hear(&self, address: IpAddr, limits: &Limits, now: Instant) -> Result<(), ApiError> {
        let subject = Subject::Stranger(network_of(address));
        let (allowance, _) = self.count(subject, limits.api_failures_per_minute, now, 0);
        if allowance.remaining > 0 {
            return Ok(());
        }
        metrics::counter!("tandem_api_rate_limited_total", "by" => "address").increment(1);
        Err(allowance.refusal("from one address without a valid key"))
    }

    fn count(&self, subject: Subject, most: u32, now: Instant, by: u32) -> (Allowance, bool) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut subject = subject;
        if windows.len() >= MOST_WINDOWS && !windows.contains_key(&subject) {
            windows.retain(|_, window| now.saturating_duration_since(window.began) < WINDOW);
            if windows.len() >= MOST_WINDOWS {
                subject = Subject::Crowd;
            }
        }
        if by == 0 && !windows.contains_key(&subject) {
            return (Allowance { limit: most, remaining: most, resets_in: WINDOW.as_secs() }, true);
        }
        let window = windows.entry(subject).or_insert(Window { began: now, used: 0 });
        if now.saturating_duration_since(window.began) >= WINDOW {
            *window = Window { began: now, used: 0 };
        }
        let is_within = window.used.saturating_add(by) <= most;
        window.used = window.used.saturating_add(by).min(most);
        let left = WINDOW.saturating_sub(now.saturating_duration_since(window.began));
        // Rounded up: whoever comes again after that long is not too early.
        let resets_in = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        (Allowance { limit: most, remaining: most - window.used, resets_in: resets_in.max(1) }, is_within)
    }
}

/// Whoever has one address of an IPv6 network has all of it.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            api_requests_per_minute: 3,
            api_narrow_per_minute: 1,
            api_failures_per_minute: 2,
            ..Limits::default()
        }
    }

    #[test]
    fn an_account_has_its_requests_back_after_a_minute_and_no_sooner() {
        let (allowances, start) = (Allowances::default(), crate::clock::now());
        let take =
            |seconds| allowances.take("a", Kind::Other, &limits(), start + Duration::from_secs(seconds));
        assert_eq!(take(0).unwrap(), Allowance { limit: 3, remaining: 2, resets_in: 60 });
        assert_eq!(take(10).unwrap(), Allowance { limit: 3, remaining: 1, resets_in: 50 });
        assert_eq!(take(20).unwrap().remaining, 0);
        let (allowance, error) = take(59).unwrap_err();
        assert_eq!((allowance.remaining, allowance.resets_in), (0, 1));
        assert_eq!(error.status, 429);
        assert_eq!(error.header.unwrap().1, "1");
        assert_eq!(take(60).unwrap().remaining, 2);
    }

    #[test]
    fn accounts_and_kinds_do_not_use_up_each_others() {
        let (allowances, now) = (Allowances::default(), crate::clock::now());
        assert!(allowances.take("a", Kind::Call, &limits(), now).is_ok());
        assert!(allowances.take("a", Kind::Call, &limits(), now).is_err());
        for other in [Kind::Agent, Kind::Executions, Kind::Other] {
            assert!(allowances.take("a", other, &limits(), now).is_ok(), "{other:?}");
        }
        assert!(allowances.take("b", Kind::Call, &limits(), now).is_ok());
    }

    #[test]
    fn an_address_that_guesses_keys_is_not_listened_to() {
        let (allowances, now) = (Allowances::default(), crate::clock::now());
        let guesser = "2001:db8::1".parse().unwrap();
        for _ in 0..2 {
            assert!(allowances.hear(guesser, &limits(), now).is_ok());
            allowances.note_failure(guesser, &limits(), now);
        }
        let neighbour = "2001:db8::2".parse().unwrap();
        assert_eq!(allowances.hear(neighbour, &limits(), now).unwrap_err().status, 429);
        assert!(allowances.hear("192.0.2.1".parse().unwrap(), &limits(), now).is_ok());
        assert!(allowances.hear(guesser, &limits(), now + WINDOW).is_ok());
    }

    #[test]
    fn addresses_without_number_take_bounded_memory() {
        let (allowances, now) = (Allowances::default(), crate::clock::now());
        for number in 0..100_000_u32 {
            allowances.note_failure(IpAddr::V4(number.into()), &limits(), now);
        }
        assert!(allowances.0.lock().unwrap().len() <= MOST_WINDOWS + 1);
    }

    #[test]
    fn routes_have_the_vendors_limits() {
        for (method, route, kind) in [
            (Method::POST, "/call", Kind::Call),
            (Method::GET, "/v2/agent/{agent_id}", Kind::Agent),
            (Method::PATCH, "/v2/agent/{agent_id}", Kind::Other),
            (Method::GET, "/v2/agent/{agent_id}/executions", Kind::Executions),
            (Method::GET, "/v2/accounts/{account_sid}/trunks", Kind::Exotel),
            (Method::GET, "/v1/calls", Kind::Other),
        ] {
            assert_eq!(Kind::of(&method, route), kind, "{method} {route}");
        }
    }
}
