//! What every request passes on its way to its endpoint: it gets an identifier, is known by its address, and what
//! its account may still ask is written into the answer. A change that nothing wrote into the audit log is
//! written there.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use tracing::Instrument as _;

use super::App;
use super::allowance::{Allowance, Kind};
use crate::actor::{self, Actor};
use crate::ids;
use crate::net::http::Peer;

/// The header that carries a request's identifier, both ways.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Longest identifier taken from a client.
const MOST_ID_CHARACTERS: usize = 128;

/// Most addresses looked at in `X-Forwarded-For`.
const MOST_HOPS: usize = 16;

/// What is found out about a request on its way.
#[derive(Debug)]
pub(super) struct Findings {
    /// Where it came from.
    pub(super) address: Option<IpAddr>,
    /// By which limit it counts.
    pub(super) kind: Kind,
    /// What its account has left, once it was counted.
    pub(super) allowance: OnceLock<Allowance>,
    /// Who made it, for the audit log.
    pub(super) actor: Arc<Actor>,
}

tokio::task_local! {
    static FINDINGS: Arc<Findings>;
}

/// What is known of the request that this task serves; `None` outside of one.
pub(super) fn findings() -> Option<Arc<Findings>> {
    FINDINGS.try_with(Arc::clone).ok()
}

/// Runs `work` as part of the same request: for tasks of their own.
pub(super) async fn within<F: Future>(findings: Option<Arc<Findings>>, work: F) -> F::Output {
    match findings {
        Some(findings) => {
            let actor = Some(Arc::clone(&findings.actor));
            FINDINGS.scope(findings, actor::on_behalf(actor, work)).await
        }
        None => work.await,
    }
}

/// The middleware.
pub(super) async fn accompany(State(app): State<App>, request: Request, next: Next) -> Response {
    let id = request_id(request.headers());
    let address = address_of(&app, &request);
    let route = request.extensions().get::<MatchedPath>().map_or("none", |path| path.as_str()).to_owned();
    let method = request.method().clone();
    let actor = Arc::new(Actor::new(id.clone(), address, method.to_string(), route.clone()));
    let kind = Kind::of(&method, &route);
    let findings = Arc::new(Findings { address, kind, allowance: OnceLock::new(), actor });
    let span = tracing::info_span!("request", id);
    let answering = within(Some(Arc::clone(&findings)), next.run(request));
    let mut response = answering.instrument(span).await;
    note_silent_change(&app, &findings, &method, response.status()).await;
    let headers = response.headers_mut();
    if let Some(allowance) = findings.allowance.get() {
        allowance.write(headers);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        headers.insert(REQUEST_ID, id);
    }
    response
}

/// What a change did is written with the change itself. What the store does not hold, a call that is hung up, is
/// written here.
async fn note_silent_change(app: &App, findings: &Arc<Findings>, method: &Method, status: StatusCode) {
    let is_change = ![Method::GET, Method::HEAD, Method::OPTIONS].contains(method);
    let actor = &findings.actor;
    if !is_change || !status.is_success() || actor.is_audited() || is_question(&actor.route) {
        return;
    }
    let Some(who) = actor.who() else { return };
    let noting = app.store().note_request(&who.account, "request", &actor.request_id);
    if let Err(error) = within(Some(Arc::clone(findings)), noting).await {
        tracing::error!(%error, "a request was not written into the audit log");
    }
}

/// Routes whose POST asks and changes nothing.
fn is_question(route: &str) -> bool {
    route == "/v1/route-test"
}

/// The client's own identifier if it is one that can be written anywhere, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | ':');
    given
        .filter(|id| (1..=MOST_ID_CHARACTERS).contains(&id.len()) && id.chars().all(is_plain))
        .map_or_else(|| ids::uuid().replace('-', ""), str::to_owned)
}

/// Where a request came from: its peer, or, behind one of `api.trusted_proxies`, the last address that is none of
/// them.
fn address_of(app: &App, request: &Request) -> Option<IpAddr> {
    let Peer(peer) = request.extensions().get::<Peer>()?;
    let proxies = &app.config().api.trusted_proxies;
    let is_proxy = |address: &IpAddr| proxies.iter().any(|range| range.contains(address));
    let peer = peer.to_canonical();
    if !is_proxy(&peer) {
        return Some(peer);
    }
    let mut hops: Vec<IpAddr> = Vec::new();
    for value in request.headers().get_all("x-forwarded-for") {
        let text = value.to_str().unwrap_or_default();
        hops.extend(text.split(',').filter_map(|hop| hop.trim().parse::<IpAddr>().ok()));
    }
    let hops = hops.into_iter().rev().take(MOST_HOPS).map(|hop| hop.to_canonical());
    Some(hops.into_iter().find(|hop| !is_proxy(hop)).unwrap_or(peer))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clients_identifier_is_kept_only_when_it_can_be_written_anywhere() {
        let id = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, HeaderValue::from_str(text).unwrap());
            request_id(&headers)
        };
        assert_eq!(id("abc-1.2_3:4"), "abc-1.2_3:4");
        for refused in ["", "a b", "<script>", &"x".repeat(129)] {
            let made = id(refused);
            assert!(made.len() == 32 && made != refused, "{refused}: {made}");
        }
    }
}
