//! Who asks: the bearer key opens one account, and what its scopes allow.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use subtle::ConstantTimeEq as _;

use super::App;
use super::error::{ApiError, ApiResult};
use crate::secrets::hash_api_key;

/// The account that the environment's key opens.
pub const DEFAULT_ACCOUNT: &str = "default";

/// Every scope there is.
pub const SCOPES: &[&str] =
    &["trunks:read", "trunks:write", "agents:read", "agents:write", "calls:read", "calls:write"];

/// A request's caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The account its key opens.
    pub account: String,
    /// What the key may do; empty means everything.
    pub scopes: Vec<String>,
}

impl Caller {
    /// `Ok` when the key has the scope. `…:write` includes `…:read`.
    ///
    /// # Errors
    /// 403, naming the scope.
    pub fn may(&self, scope: &str) -> ApiResult<()> {
        let wider = scope.strip_suffix(":read").map(|kind| format!("{kind}:write"));
        let has = |scope: &str| self.scopes.iter().any(|one| one == scope);
        if self.scopes.is_empty() || has(scope) || wider.is_some_and(|wider| has(&wider)) {
            return Ok(());
        }
        Err(ApiError::new(StatusCode::FORBIDDEN, format!("This key lacks the scope {scope}")).at(
            "Authorization",
            format!("its scopes are {}; use a key with {scope}", self.scopes.join(", ")),
        ))
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
    /// Who holds the key.
    ///
    /// # Errors
    /// The configured status when nobody does.
    pub(super) async fn of_key(app: &App, key: &str) -> ApiResult<Self> {
        let hash = hash_api_key(key);
        if let Some(own) = app.environment_key()
            && bool::from(own.as_bytes().ct_eq(hash.as_bytes()))
        {
            return Ok(Self { account: DEFAULT_ACCOUNT.to_owned(), scopes: Vec::new() });
        }
        match app.store().key_by_hash(&hash).await? {
            Some(key) => Ok(Self { account: key.account, scopes: key.scopes }),
            None => Err(refused(app, "holds a key that is unknown or revoked")),
        }
    }
}

fn refused(app: &App, reason: &str) -> ApiError {
    metrics::counter!("tandem_api_refused_keys_total").increment(1);
    let status = StatusCode::from_u16(app.config().api.auth_failure_status).unwrap_or(StatusCode::FORBIDDEN);
    let mut error = ApiError::new(status, "Unrecognized access token").at("Authorization", reason);
    error.header = Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer")));
    error
}
