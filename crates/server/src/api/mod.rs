//! The HTTP API: Bolna's and Exotel's families, Tandem's own `/v1`, and the open `/health`, `/ready`, `/metrics`,
//! `/openapi.json`. Each family is a folder; what they share (errors, bodies, callers, parameters) stands here.
//!
//! Handlers read the body, ask the store, and shape the answer. A change goes through [`App::change`]: it is
//! carried through even when the client goes away, and routing has it before the answer is sent. Nothing here
//! decides about calls, and no secret is ever part of an answer.

mod allowance;
mod auth;
mod body;
mod bolna;
mod docs;
mod error;
mod exotel;
mod fields;
mod form;
mod idempotency;
mod key_rules;
mod native;
mod open;
mod openapi;
mod paging;
mod preconditions;
mod query;
mod recording_rule;
mod request;
mod schemas;
mod times;
mod twilio;
mod twiml;
mod web_url;

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use tandem_call::bridge::BridgeStatistics;
use tandem_call::{CallId, DryRun, RecordingCommand, TransferOrder, Verdict};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tracing::Instrument as _;
use utoipa_axum::router::OpenApiRouter;

pub use auth::{Caller, DEFAULT_ACCOUNT, SCOPES};
pub use error::{ApiError, ApiResult};
pub use fields::Problem;
pub(crate) use fields::whole as whole_number;
pub use key_rules::{account_id, allowed_range, expiry, scope};
pub(crate) use recording_rule::rule_of_agent;

use crate::config::Config;
use crate::doctor::Doctor;
use crate::gateway_health::GatewayHealths;
use crate::journal::Journal;
use crate::ladders::Ladders;
use crate::net::http::{self, HttpLimits};
use crate::recording::Recordings;
use crate::registrations::Registrations;
use crate::routing::{PublishError, RoutingPublisher};
use crate::secrets::hash_api_key;
use crate::store::{Store, StoredExecution};

/// Renders the page of `/metrics`.
pub type MetricsPage = Arc<dyn Fn() -> String + Send + Sync>;

/// A key in the environment with fewer characters is accepted with a warning: whoever guesses it has the
/// account.
pub const EASILY_GUESSED_KEY: usize = 16;

/// What the API asks of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallCommand {
    /// Break the call off: it ends as `stopped`.
    HangUp(CallId),
    /// End the call in good order, as its agent may: it ends as `completed`.
    Complete(CallId),
    /// Record it, or change how.
    Record {
        /// The call.
        call: CallId,
        /// What.
        command: RecordingCommand,
    },
    /// Its recording cannot be written any further; the writers say so, not the API.
    RecordingFailed {
        /// The call.
        call: CallId,
        /// Why.
        why: String,
    },
    /// Send digits to the caller.
    SendDtmf {
        /// The call.
        call: CallId,
        /// The digits.
        digits: String,
        /// Length of each, in milliseconds.
        duration_ms: u16,
    },
    /// Send the caller elsewhere.
    Transfer {
        /// The call.
        call: CallId,
        /// Where to, and how.
        order: Box<TransferOrder>,
    },
    /// Say what a live call's media path has counted so far.
    MediaReport(MediaReport),
    /// Say what would become of an INVITE.
    RouteTest(RouteTest),
}

/// A question about an INVITE that never came, and where its answer goes.
#[derive(Clone, Debug)]
pub struct RouteTest {
    /// The INVITE.
    pub asked: DryRun,
    answer: Arc<Mutex<Option<oneshot::Sender<RouteTestAnswer>>>>,
}

/// The verdict, or why the message is no INVITE.
pub type RouteTestAnswer = Result<Verdict, String>;

/// A question about a live call's media path, and where its answer goes.
#[derive(Clone, Debug)]
pub struct MediaReport {
    /// The call.
    pub call: CallId,
    answer: Arc<Mutex<Option<oneshot::Sender<Box<BridgeStatistics>>>>>,
}

impl MediaReport {
    /// A question whose answer goes to `answer`.
    #[must_use]
    pub fn new(call: CallId, answer: oneshot::Sender<Box<BridgeStatistics>>) -> Self {
        Self { call, answer: Arc::new(Mutex::new(Some(answer))) }
    }

    /// Answers it, once.
    pub fn answer(&self, statistics: Box<BridgeStatistics>) {
        if let Some(answer) = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // Whoever asked may have gone.
            drop(answer.send(statistics));
        }
    }
}

impl PartialEq for MediaReport {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.answer, &other.answer)
    }
}

impl Eq for MediaReport {}

impl RouteTest {
    /// A question whose answer goes to `answer`.
    #[must_use]
    pub fn new(asked: DryRun, answer: oneshot::Sender<RouteTestAnswer>) -> Self {
        Self { asked, answer: Arc::new(Mutex::new(Some(answer))) }
    }

    /// Answers it, once.
    pub fn answer(&self, verdict: RouteTestAnswer) {
        let answer = self.answer.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(answer) = answer {
            // Whoever asked may have gone.
            drop(answer.send(verdict));
        }
    }
}

impl PartialEq for RouteTest {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.answer, &other.answer)
    }
}

impl Eq for RouteTest {}

/// Whether the node takes calls. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<AtomicU8>);

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not listening for SIP yet.
    Starting,
    /// Taking calls.
    Ready,
    /// Finishing the calls it has.
    Draining,
}

impl Readiness {
    /// Says what the node is doing now.
    pub fn set(&self, phase: Phase) {
        self.0.store(phase as u8, Ordering::Relaxed);
    }

    /// What the node is doing.
    pub fn phase(&self) -> Phase {
        match self.0.load(Ordering::Relaxed) {
            0 => Phase::Starting,
            1 => Phase::Ready,
            _ => Phase::Draining,
        }
    }
}

/// What the API stands on. Cheap to clone.
#[derive(Clone)]
pub struct App(Arc<Inner>);

/// What an [`App`] holds: its parts, and what it remembers of its clients.
struct Inner {
    parts: Parts,
    allowances: allowance::Allowances,
    known_keys: Mutex<HashSet<String>>,
}

impl Deref for Inner {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

/// Hashes of keys that were good lately, held at once.
const KNOWN_KEYS: usize = 10_000;

/// What an [`App`] is made of.
pub struct Parts {
    /// Configuration.
    pub config: Arc<Config>,
    /// The store.
    pub store: Store,
    /// Publishes routing.
    pub routing: RoutingPublisher,
    /// Records, verdicts, live calls.
    pub journal: Journal,
    /// The SIP ladders of the last calls.
    pub ladders: Arc<Ladders>,
    /// What this node knows of gateways.
    pub gateways: Arc<GatewayHealths>,
    /// Recordings.
    pub recordings: Recordings,
    /// How registrations stand.
    pub registrations: Arc<Registrations>,
    /// Examines trunks.
    pub doctor: Doctor,
    /// Takes commands to the engine.
    pub commands: mpsc::Sender<CallCommand>,
    /// What the node is doing.
    pub readiness: Readiness,
    /// Renders the page of `/metrics`, in the text format of Prometheus.
    pub metrics: MetricsPage,
    /// Hash of `TANDEM_API_KEY`, when that is set.
    pub environment_key: Option<String>,
}

impl App {
    /// Puts the parts together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner {
            parts,
            allowances: allowance::Allowances::default(),
            known_keys: Mutex::default(),
        }))
    }

    fn allowances(&self) -> &allowance::Allowances {
        &self.0.allowances
    }

    /// Whether a key of this hash was good lately. It opens nothing: that is asked of the store each time.
    fn is_known_key(&self, hash: &str) -> bool {
        self.0.known_keys.lock().unwrap_or_else(PoisonError::into_inner).contains(hash)
    }

    fn remember_key(&self, hash: &str) {
        let mut known = self.0.known_keys.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_KEYS {
            known.clear();
        }
        if !known.contains(hash) {
            known.insert(hash.to_owned());
        }
    }

    /// Hash of the environment's key, for [`Parts::environment_key`].
    pub fn key_hash(key: &str) -> String {
        hash_api_key(key)
    }

    fn config(&self) -> &Config {
        &self.0.config
    }

    fn store(&self) -> &Store {
        &self.0.store
    }

    /// The table that calls are routed by now. At a start it is waited for.
    async fn table(&self) -> ApiResult<Arc<tandem_call::RoutingTable>> {
        self.0.routing.whole().await.map_err(|error| match error {
            PublishError::Store(_) => ApiError::unavailable("The routing table cannot be read now"),
            PublishError::Stopped => ApiError::unavailable("The node is stopping"),
        })
    }

    fn gateways(&self) -> &Arc<GatewayHealths> {
        &self.0.gateways
    }

    fn recordings(&self) -> &Recordings {
        &self.0.recordings
    }

    fn registrations(&self) -> &Arc<Registrations> {
        &self.0.registrations
    }

    fn doctor(&self) -> &Doctor {
        &self.0.doctor
    }

    fn journal(&self) -> &Journal {
        &self.0.journal
    }

    fn environment_key(&self) -> Option<&str> {
        self.0.environment_key.as_deref()
    }

    /// Hands the engine a command, without waiting for it.
    fn command(&self, command: CallCommand) -> ApiResult<()> {
        let sent = self.0.commands.try_send(command);
        sent.map_err(|_| ApiError::unavailable("The node cannot take this command now"))
    }

    /// Carries a change through and returns once calls are routed by it.
    ///
    /// It runs as a task of its own: a client that goes away in the middle must not leave a change that is
    /// stored and not routed.
    async fn change<T, F>(&self, change: impl FnOnce(Store) -> F + Send + 'static) -> ApiResult<T>
    where
        T: Send + 'static,
        F: Future<Output = ApiResult<T>> + Send,
    {
        let (store, routing) = (self.0.store.clone(), self.0.routing.clone());
        let work = async move {
            let changed = change(store).await?;
            routing.refresh().await?;
            Ok(changed)
        };
        let task = tokio::spawn(request::within(request::findings(), work.in_current_span()));
        let outcome = task.await.unwrap_or_else(|error| {
            tracing::error!(%error, "a change ended in a panic");
            Err(ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, "The change could not be carried out"))
        });
        outcome.map_err(|mut error: ApiError| {
            if error.message == error::NUMBER_TAKEN {
                let status = self.config().api.duplicate_number_status;
                error.status = StatusCode::from_u16(status).unwrap_or(StatusCode::CONFLICT);
            }
            error
        })
    }
}

/// Every endpoint.
pub fn router(app: App) -> Router {
    let (router, description) = openapi::describe(
        OpenApiRouter::new()
            .merge(bolna::routes())
            .merge(exotel::routes())
            .merge(native::routes())
            .merge(twilio::routes())
            .merge(open::routes()),
    );
    router
        .merge(openapi::routes(&description))
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn_with_state(app.clone(), idempotency::once))
        .layer(middleware::from_fn_with_state(app.clone(), request::accompany))
        .layer(middleware::from_fn_with_state(app.clone(), measure))
        .with_state(app)
}

/// Serves the API until `stop` resolves; requests under way are finished.
///
/// # Errors
/// When the listener fails.
pub async fn serve(
    listener: TcpListener,
    app: App,
    stop: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    let limits = &app.config().limits;
    let limits = HttpLimits {
        connections: limits.api_connections as usize,
        header: Duration::from_secs(limits.api_header_seconds),
        request: Duration::from_secs(limits.api_request_seconds),
        idle: Duration::from_secs(limits.api_idle_seconds),
    };
    http::serve(listener, router(app), limits, stop).await
}

/// An execution as `GET /executions/{execution_id}` shows it, and as webhooks tell it.
pub(crate) fn execution_body(execution: &StoredExecution, public_url: &str) -> serde_json::Value {
    bolna::execution_body(execution, public_url)
}

/// Reads a body as each of the endpoints would, and throws the result away: the door for fuzzing.
pub fn read_any_body(bytes: &[u8]) {
    bolna::read_any_body(bytes);
    exotel::read_any_body(bytes);
}

/// An error in the words of the family that the path belongs to: for what is refused before its endpoint.
fn refusal_of_family(method: &Method, path: &str, error: ApiError) -> Response {
    if path.starts_with("/2010-04-01/") {
        return twilio::refuse(error);
    }
    if exotel::is_ours(path) {
        return exotel::refuse(method, error);
    }
    error.into_response()
}

async fn unknown_path(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    refusal_of_family(&method, path, ApiError::not_found(format!("There is no {method} {path}")))
}

async fn wrong_method(method: Method, uri: Uri) -> Response {
    let path = uri.path();
    let message = format!("{path} does not take {method}");
    refusal_of_family(&method, path, ApiError::new(StatusCode::METHOD_NOT_ALLOWED, message))
}

/// Counts and times requests by route, never by path: paths hold identifiers.
async fn measure(State(_): State<App>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let method = request.method().as_str().to_owned();
    let route = request.extensions().get::<MatchedPath>().map_or("none", |path| path.as_str()).to_owned();
    let response = next.run(request).await;
    let status = response.status().as_u16();
    tracing::debug!(target: "tandem::api", method, route, status, "request");
    metrics::histogram!("tandem_api_request_delay_seconds", "method" => method.clone(), "route" => route.clone())
        .record(began.elapsed().as_secs_f64());
    metrics::counter!(
        "tandem_api_requests_total",
        "method" => method, "route" => route, "status" => status.to_string()
    )
    .increment(1);
    response
}
