//! Who asks: the bearer key opens one account, and what its scopes allow, from where, and how often.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64_simd::STANDARD;
use ipnet::IpNet;
use subtle::ConstantTimeEq as _;

use super::App;
use super::error::{ApiError, ApiResult};
use super::request::findings;
use crate::actor::Who;
use crate::secrets::hash_api_key;
use crate::store::{ApiKey, now_ms};

/// The account that the environment's key opens, and the operator's own: its keys with `accounts:write` may make
/// accounts that stand under no other, and see every account.
pub const DEFAULT_ACCOUNT: &str = "default";

/// How the environment's key is called where others have a prefix.
const ENVIRONMENT_KEY: &str = "environment";

/// Every scope there is.
pub const SCOPES: &[&str] = &[
    "trunks:read",
    "trunks:write",
    "agents:read",
    "agents:write",
    "calls:read",
    "calls:write",
    "webhooks:read",
    "webhooks:write",
    "keys:read",
    "keys:write",
    "accounts:read",
    "accounts:write",
    "audit:read",
];

/// A request's caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account its key opens.
    pub account: String,
    /// What the key may do; empty means everything.
    pub scopes: Vec<String>,
    /// The key's first characters.
    pub key: String,
    /// Where the key may be used from; empty means anywhere.
    pub allowed_addresses: Vec<IpNet>,
    /// Until when the key is good, milliseconds since 1970.
    pub expires_at: Option<i64>,
}

impl Caller {
    /// `Ok` when the key has the scope. `…:write` includes `…:read`.
    ///
    /// # Errors
    /// 403, naming the scope.
    pub fn may(&self, scope: &str) -> ApiResult<()> {
        if self.has(scope) {
            return Ok(());
        }
        Err(ApiError::new(StatusCode::FORBIDDEN, format!("This key lacks the scope {scope}")).at(
            "Authorization",
            format!("its scopes are {}; use a key with {scope}", self.scopes.join(", ")),
        ))
    }

    /// Whether the key has the scope.
    pub(super) fn has(&self, scope: &str) -> bool {
        let wider = scope.strip_suffix(":read").map(|kind| format!("{kind}:write"));
        let has = |scope: &str| self.scopes.iter().any(|one| one == scope);
        self.scopes.is_empty() || has(scope) || wider.is_some_and(|wider| has(&wider))
    }

    /// Whether this is the operator, who may see every account, as far as the key's scopes go.
    pub(super) fn is_operator(&self) -> bool {
        self.account == DEFAULT_ACCOUNT
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> ApiResult<Self> {
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else {
            return Err(refused(app, "is missing; send Authorization: Bearer <key>"));
        };
        let bearer = value.to_str().ok().and_then(|text| text.split_once(' '));
        let Some((_, key)) = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) else {
            return Err(refused(app, "is not of the form Bearer <key>"));
        };
        Self::of_key(app, key.trim()).await
    }
}

impl Caller {
    /// Who holds the key. Counts the request against the account's allowance, once.
    ///
    /// # Errors
    /// The configured status when nobody does, 403 when the key may not be used from there, 429.
    pub(super) async fn of_key(app: &App, key: &str) -> ApiResult<Self> {
        let findings = findings();
        let address = findings.as_ref().and_then(|findings| findings.address);
        let hash = hash_api_key(key);
        let is_new_face = !app.is_known_key(&hash);
        if let Some(address) = address.filter(|_| is_new_face) {
            // A key that was good lately is listened to, so that a guesser does not lock out its neighbours.
            app.allowances().hear(address, &app.config().limits, crate::clock::now())?;
        }
        let caller = find(app, &hash, address).await?;
        app.remember_key(&hash);
        if let Some(findings) = findings {
            let Self { account, key, .. } = caller.clone();
            findings.actor.identify(Who { account, key });
        }
        caller.count(app)?;
        Ok(caller)
    }

    /// Counts the request against the account's allowance, once.
    ///
    /// # Errors
    /// 429.
    pub(super) fn count(&self, app: &App) -> ApiResult<()> {
        let Some(findings) = findings() else { return Ok(()) };
        if findings.allowance.get().is_some() {
            return Ok(());
        }
        let limits = &app.config().limits;
        let taken = app.allowances().take(&self.account, findings.kind, limits, crate::clock::now());
        let (allowance, outcome) = match taken {
            Ok(allowance) => (allowance, Ok(())),
            Err((allowance, error)) => (allowance, Err(error)),
        };
        // Only this task counts this request.
        let _ = findings.allowance.set(allowance);
        outcome
    }
}

/// The caller of a request and the hash of its key, if it has a valid one, in whichever of the ways that a family
/// takes it; no refusal is counted, for the endpoint will say it.
pub(super) async fn peek(app: &App, headers: &HeaderMap) -> Option<(Caller, String)> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    let mut keys = Vec::new();
    if scheme.eq_ignore_ascii_case("bearer") {
        keys.push(rest.trim().to_owned());
    } else if scheme.eq_ignore_ascii_case("basic") {
        let pair = String::from_utf8(STANDARD.decode_to_vec(rest.trim()).ok()?).ok()?;
        let (user, password) = pair.split_once(':')?;
        keys.extend([password.to_owned(), user.to_owned()]);
    }
    let address = findings().and_then(|findings| findings.address);
    for key in keys {
        let hash = hash_api_key(&key);
        if let Ok(caller) = lookup(app, &hash, address).await {
            return Some((caller, hash));
        }
    }
    None
}

async fn find(app: &App, hash: &str, address: Option<std::net::IpAddr>) -> ApiResult<Caller> {
    match lookup(app, hash, address).await {
        Ok(caller) => Ok(caller),
        Err(Unknown::Store(error)) => Err(error),
        Err(Unknown::Key(reason)) => Err(refused(app, reason)),
        Err(Unknown::Elsewhere) => {
            let shown = address.map_or_else(|| "this address".to_owned(), |address| address.to_string());
            metrics::counter!("tandem_api_refused_keys_total").increment(1);
            Err(ApiError::new(StatusCode::FORBIDDEN, "This key may not be used from here").at(
                "Authorization",
                format!("its allowed_addresses do not hold {shown}; ask from there, or make a key for here"),
            ))
        }
    }
}

/// Why nobody is behind a key.
enum Unknown {
    Store(ApiError),
    Key(&'static str),
    Elsewhere,
}

async fn lookup(app: &App, hash: &str, address: Option<std::net::IpAddr>) -> Result<Caller, Unknown> {
    if let Some(own) = app.environment_key()
        && bool::from(own.as_bytes().ct_eq(hash.as_bytes()))
    {
        return Ok(Caller {
            account: DEFAULT_ACCOUNT.to_owned(),
            scopes: Vec::new(),
            key: ENVIRONMENT_KEY.to_owned(),
            allowed_addresses: Vec::new(),
            expires_at: None,
        });
    }
    let found = app.store().key_by_hash(hash).await.map_err(|error| Unknown::Store(error.into()))?;
    let Some(key) = found else { return Err(Unknown::Key("holds a key that is unknown or revoked")) };
    if key.has_expired(now_ms()) {
        return Err(Unknown::Key("holds a key that has expired; use a newer one"));
    }
    if !key.admits(address) {
        return Err(Unknown::Elsewhere);
    }
    let ApiKey { account, scopes, prefix, allowed_addresses, expires_at, .. } = key;
    Ok(Caller { account, scopes, key: prefix, allowed_addresses, expires_at })
}

fn refused(app: &App, reason: &str) -> ApiError {
    metrics::counter!("tandem_api_refused_keys_total").increment(1);
    if let Some(address) = findings().and_then(|findings| findings.address) {
        let now = crate::clock::now();
        if let Err(error) = app.allowances().hear(address, &app.config().limits, now) {
            return error;
        }
        app.allowances().note_failure(address, &app.config().limits, now);
    }
    let status = StatusCode::from_u16(app.config().api.auth_failure_status).unwrap_or(StatusCode::FORBIDDEN);
    let mut error = ApiError::new(status, "Unrecognized access token").at("Authorization", reason);
    error.header = Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    error
}
