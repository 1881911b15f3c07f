//! The server's side: challenges that cost no memory, and answers that count once.
//!
//! A nonce is the time and a MAC over time, source and realm, so nothing is kept for who is merely
//! challenged. A nonce that was answered rightly is remembered with its last counts until it expires, in a
//! table that cannot grow: what falls out of it takes every older nonce along. Passwords are compared
//! through their digests in constant time. RFC 7616 sections 3.3, 3.4 and 5, RFC 8760 section 2.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::digest::{Algorithm, DigestInput, Qop, hex};
use super::header::{Credentials, escape, unescape, write_quoted};
use crate::message::{HeaderName, Request, Uri};

/// Which pair of headers is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// 401 with WWW-Authenticate, answered in Authorization.
    User,
    /// 407 with Proxy-Authenticate, answered in Proxy-Authorization.
    Proxy,
}

impl Side {
    /// The header that carries credentials.
    pub fn credentials(self) -> HeaderName {
        match self {
            Self::User => HeaderName::Authorization,
            Self::Proxy => HeaderName::ProxyAuthorization,
        }
    }

    /// The header that carries challenges.
    pub fn challenge(self) -> HeaderName {
        match self {
            Self::User => HeaderName::WwwAuthenticate,
            Self::Proxy => HeaderName::ProxyAuthenticate,
        }
    }

    /// The status that carries challenges.
    pub fn status(self) -> u16 {
        match self {
            Self::User => 401,
            Self::Proxy => 407,
        }
    }
}

/// What is offered, and for how long.
#[derive(Clone, Debug)]
pub struct AuthenticatorConfig {
    /// The algorithms offered, the preferred one first (RFC 8760 section 2.4). Two by default: a third
    /// challenge buys nothing and makes answers to strangers longer.
    pub algorithms: Vec<Algorithm>,
    /// The qualities of protection offered; none makes challenges as RFC 2069 had them.
    pub qops: Vec<Qop>,
    /// How long a nonce can be answered. A minute: longer than any client thinks, shorter than what is
    /// captured today is worth tomorrow.
    pub lifetime: Duration,
    /// Most answered nonces remembered. At 4,096 and a minute, 68 authenticated calls a second keep their
    /// nonces for their whole life; above that nonces only go stale sooner.
    pub remembered: usize,
}

impl Default for AuthenticatorConfig {
    fn default() -> Self {
        Self {
            algorithms: vec![Algorithm::SHA_256, Algorithm::MD5],
            qops: vec![Qop::Auth],
            lifetime: Duration::from_secs(60),
            remembered: 4096,
        }
    }
}

/// Whether a challenge says that only the nonce was wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Staleness {
    /// The credentials were absent or wrong.
    Fresh,
    /// The nonce was: the client may try again without asking its user (RFC 7616 section 3.3).
    Stale,
}

/// What came of a request's credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// They are right, for the first time or in a repeat of the same request.
    Accepted,
    /// There are none for this realm, or of no scheme and form that is understood: challenge.
    Absent,
    /// They are right, for a nonce that is not or no longer good: challenge with [`Staleness::Stale`].
    Stale,
    /// They are right and were used before, by another request: challenge with [`Staleness::Stale`]. An
    /// honest client that lost count recovers; who replays cannot.
    Replayed,
    /// The digest's URI is not the request's: "if they are not, the server SHOULD return a 400 Bad Request
    /// error" (RFC 7616 section 3.4.6).
    OtherUri,
    /// User or password are wrong.
    Wrong,
}

/// Challenges and verifies. One for all realms.
#[derive(Debug)]
pub struct Authenticator {
    config: AuthenticatorConfig,
    mac: Hmac<Sha256>,
    epoch: Instant,
    answered: BTreeMap<NonceId, Uses>,
    /// Nonces made at or before this stamp are stale: one of them was forgotten.
    forgotten: Option<Stamp>,
    /// Nonces made so far.
    made: u16,
}

/// When a nonce was made: milliseconds in the upper 48 bits, and a running number in the lower 16, for a busy trunk is
/// challenged several times in one millisecond and each challenge needs a nonce of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Stamp(u64);

impl Stamp {
    fn new(made_ms: u64, number: u16) -> Self {
        Self(made_ms << 16 | u64::from(number))
    }

    fn made_ms(self) -> u64 {
        self.0 >> 16
    }
}

/// Ordered by time first, so that the oldest is forgotten first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NonceId {
    stamp: Stamp,
    mac: [u8; MAC_LENGTH],
}

/// The counts one nonce was answered with, and by which requests.
#[derive(Clone, Debug, Default)]
struct Uses {
    /// Counts at or below this are refused unless they are among the recent.
    floor: u32,
    recent: Vec<(u32, [u8; MAC_LENGTH])>,
}

/// Half of SHA-256: beyond guessing, and nonces stay short.
const MAC_LENGTH: usize = 16;

/// How many counts of one nonce may arrive out of order or be repeated by a retransmission.
const RECENT_USES: usize = 16;

impl Authenticator {
    /// An authenticator whose nonces are made with this key. The key comes from the shell's randomness and
    /// dies with the process: nonces of an earlier life are stale.
    pub fn new(config: AuthenticatorConfig, key: [u8; 32], now: Instant) -> Self {
        assert!(!config.algorithms.is_empty() && config.remembered > 0, "an authenticator that can accept");
        let mac = Hmac::new_from_slice(&key).expect("HMAC takes keys of any length");
        Self { config, mac, epoch: now, answered: BTreeMap::new(), forgotten: None, made: 0 }
    }

    /// The values of the challenge headers, one a header, the preferred algorithm first.
    pub fn challenge(
        &mut self,
        now: Instant,
        source: SocketAddr,
        realm: &str,
        staleness: Staleness,
    ) -> Vec<String> {
        self.made = self.made.wrapping_add(1);
        let stamp = Stamp::new(self.elapsed_ms(now), self.made);
        let mac = self.nonce_mac(stamp, source, realm.as_bytes());
        let nonce = format!("{:016x}{}", stamp.0, hex(&mac).as_str());
        let qops: Vec<_> = self.config.qops.iter().map(|qop| qop.as_str()).collect();
        let value = |algorithm: &Algorithm| {
            let mut value = String::from("Digest ");
            write_quoted(&mut value, "realm", &escape(realm));
            write_quoted(&mut value, "nonce", &nonce);
            if !qops.is_empty() {
                write_quoted(&mut value, "qop", &qops.join(","));
            }
            value.push_str(", algorithm=");
            value.push_str(algorithm.as_str());
            if staleness == Staleness::Stale {
                value.push_str(", stale=true");
            }
            value
        };
        self.config.algorithms.iter().map(value).collect()
    }

    /// The username a request claims for this realm, whatever its digest is worth; to find out whose
    /// password to ask for.
    pub fn claimed_username(request: &Request, side: Side, realm: &str) -> Option<String> {
        let credentials = credentials_for(request, side, realm)?;
        String::from_utf8(credentials.username_plain().into_owned()).ok()
    }

    /// Verifies the credentials a request carries for this realm. `password` is what the claimed user must
    /// know; `None` for a user who does not exist, which takes as long as a wrong password.
    pub fn verify(
        &mut self,
        now: Instant,
        source: SocketAddr,
        realm: &str,
        side: Side,
        request: &Request,
        password: Option<&str>,
    ) -> Verification {
        let Some(credentials) = credentials_for(request, side, realm) else { return Verification::Absent };
        let Some(algorithm) = credentials.algorithm.filter(|used| self.offers(*used, credentials.qop)) else {
            return Verification::Absent;
        };
        if !is_right(&credentials, algorithm, request, password) {
            return Verification::Wrong;
        }
        if !names_request(credentials.uri, request) {
            return Verification::OtherUri;
        }
        let now_ms = self.elapsed_ms(now);
        let Some(nonce) = self.genuine_nonce(credentials.nonce, source, realm, now_ms) else {
            return Verification::Stale;
        };
        let fingerprint = self.fingerprint(request);
        self.forget_expired(now_ms);
        let uses = self.answered.entry(nonce).or_default();
        // Without qop no count is protected by the digest, and the nonce serves one request.
        let count = credentials.qop.and_then(|_| credentials.count()).unwrap_or(1);
        let is_accepted = uses.take(count, fingerprint);
        self.forget_beyond_bound();
        if is_accepted { Verification::Accepted } else { Verification::Replayed }
    }

    /// How many answered nonces are remembered now.
    pub fn remembered(&self) -> usize {
        self.answered.len()
    }

    fn elapsed_ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.epoch).as_millis()).unwrap_or(u64::MAX)
    }

    fn offers(&self, algorithm: Algorithm, qop: Option<Qop>) -> bool {
        let same_hash = |offered: &Algorithm| offered.hash == algorithm.hash;
        self.config.algorithms.iter().any(same_hash) && qop.is_none_or(|qop| self.config.qops.contains(&qop))
    }

    /// The nonce, if we made it for this source and realm and it has not expired.
    fn genuine_nonce(&self, nonce: &[u8], source: SocketAddr, realm: &str, now_ms: u64) -> Option<NonceId> {
        let (time, mac) = std::str::from_utf8(nonce).ok()?.split_at_checked(16)?;
        let stamp = Stamp(u64::from_str_radix(time, 16).ok()?);
        let expected = self.nonce_mac(stamp, source, realm.as_bytes());
        let is_ours = bool::from(hex(&expected).as_ref().ct_eq(mac.as_bytes()));
        let age_ms = now_ms.checked_sub(stamp.made_ms())?;
        let is_young = u128::from(age_ms) <= self.config.lifetime.as_millis();
        let is_forgotten = self.forgotten.is_some_and(|forgotten| stamp <= forgotten);
        (is_ours && is_young && !is_forgotten).then_some(NonceId { stamp, mac: expected })
    }

    fn nonce_mac(&self, stamp: Stamp, source: SocketAddr, realm: &[u8]) -> [u8; MAC_LENGTH] {
        let address = match source.ip() {
            IpAddr::V4(address) => address.to_ipv6_mapped(),
            IpAddr::V6(address) => address,
        };
        self.mac_of(&[
            b"nonce",
            &stamp.0.to_be_bytes(),
            &address.octets(),
            &source.port().to_be_bytes(),
            realm,
        ])
    }

    /// What makes two requests the same one: a retransmission is alike in all of these, a replay is not.
    fn fingerprint(&self, request: &Request) -> [u8; MAC_LENGTH] {
        let cseq = request.cseq();
        self.mac_of(&[
            b"request",
            request.method().as_bytes(),
            request.uri().as_bytes(),
            request.call_id(),
            &cseq.number.to_be_bytes(),
            request.from().tag().unwrap_or_default(),
        ])
    }

    fn mac_of(&self, parts: &[&[u8]]) -> [u8; MAC_LENGTH] {
        let mut mac = self.mac.clone();
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let mut short = [0; MAC_LENGTH];
        short.copy_from_slice(&mac.finalize().into_bytes()[..MAC_LENGTH]);
        short
    }

    fn forget_expired(&mut self, now_ms: u64) {
        let lifetime_ms = u64::try_from(self.config.lifetime.as_millis()).unwrap_or(u64::MAX);
        while let Some(oldest) = self.answered.first_entry() {
            if now_ms.saturating_sub(oldest.key().stamp.made_ms()) <= lifetime_ms {
                return;
            }
            oldest.remove();
        }
    }

    fn forget_beyond_bound(&mut self) {
        while self.answered.len() > self.config.remembered {
            if let Some((nonce, _)) = self.answered.pop_first() {
                self.forgotten = self.forgotten.max(Some(nonce.stamp));
            }
        }
    }
}

impl Uses {
    /// Takes a use if it is new, or the same request again.
    fn take(&mut self, count: u32, fingerprint: [u8; MAC_LENGTH]) -> bool {
        if let Some((_, earlier)) = self.recent.iter().find(|(used, _)| *used == count) {
            return *earlier == fingerprint;
        }
        if count <= self.floor {
            return false;
        }
        self.recent.push((count, fingerprint));
        if self.recent.len() > RECENT_USES {
            let lowest = (0..self.recent.len()).min_by_key(|&index| self.recent[index].0);
            let (count, _) = self.recent.swap_remove(lowest.expect("a use was just added"));
            self.floor = self.floor.max(count);
        }
        true
    }
}

/// The first credentials of the Digest scheme for this realm.
fn credentials_for<'a>(request: &'a Request, side: Side, realm: &str) -> Option<Credentials<'a>> {
    let realm = escape(realm);
    request
        .headers(side.credentials())
        .filter_map(Credentials::parse)
        .find(|credentials| credentials.realm == realm.as_bytes())
}

/// Computes the response and compares it in constant time. Values with quoting slashes are hashed without
/// them, as RFC 7616 section 3.3 says, and with them, as RFC 2617 had it and curl still does.
fn is_right(
    credentials: &Credentials<'_>,
    algorithm: Algorithm,
    request: &Request,
    password: Option<&str>,
) -> bool {
    let lowered = credentials.response.to_ascii_lowercase();
    let as_sent = DigestInput {
        algorithm,
        username: credentials.username,
        realm: credentials.realm,
        password: password.unwrap_or_default().as_bytes(),
        method: request.method().as_bytes(),
        uri: credentials.uri,
        nonce: credentials.nonce,
        qop: credentials.qop,
        nonce_count: credentials.nonce_count,
        cnonce: credentials.cnonce,
        body: request.fields().body_bytes(),
    };
    let (username, realm) = (unescape(as_sent.username), unescape(as_sent.realm));
    let cnonce = unescape(as_sent.cnonce);
    let as_meant = DigestInput { username: &username, realm: &realm, cnonce: &cnonce, ..as_sent };
    let matches = |input: DigestInput<'_>| input.response().as_ref().ct_eq(&lowered);
    bool::from(matches(as_meant) | matches(as_sent)) && password.is_some()
}

/// "The authenticating server MUST assure that the resource designated by the `uri` parameter is the same
/// as the resource specified in the Request-Line" (RFC 7616 section 3.4.6).
///
/// SIPp, and devices like it, sign the server without the user part. That is taken for the same resource:
/// the nonce, its count and the Call-ID it is bound to keep it from serving a second request. A `uri` that
/// names another user, or another server, is refused.
fn names_request(uri: &[u8], request: &Request) -> bool {
    let requested = request.uri();
    uri == requested.as_bytes()
        || Uri::parse(uri).is_some_and(|uri| uri.is_equivalent(&requested) || is_server_of(&uri, &requested))
}

fn is_server_of(uri: &Uri<'_>, requested: &Uri<'_>) -> bool {
    uri.user().is_none()
        && uri.is_sip()
        && uri.host().eq_ignore_ascii_case(requested.host())
        && uri.port().unwrap_or(5_060) == requested.port().unwrap_or(5_060)
}
