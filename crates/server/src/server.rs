//! The server put together: store, routing, API, media threads, sockets, signalling; and taken apart again.
//!
//! `tandem serve` and `tandem demo` both run this. Everything that can refuse to start does so before the
//! first call is taken, with a text that says what to do. Nothing here decides anything about calls.

use std::{io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rustls::pki_types::{CertificateDer, pem::PemObject};
use tandem_call::{Engine, EngineConfig};
use tandem_sip::auth::Algorithm;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task::JoinHandle,
    time::Instant,
};

use crate::{
    api::{self, App, DEFAULT_ACCOUNT, Phase, Readiness},
    caller_lookup, clock,
    config::{AgentNetworks, Config, DigestAlgorithm},
    dialling::{Dialling, sip::OverSip},
    doctor::Doctor,
    gateway_health::GatewayHealths,
    journal::Journal,
    ladders::Ladders,
    media::{Media, Ports},
    net::{
        fence::Fence,
        holder::{BindError, Protocol},
        post::Poster,
        resolve::SipResolver,
        tcp::{Connections, TcpLimits, TcpListeners, TcpShared},
        tls::{SipTls, TlsFault},
        udp::UdpListeners,
        ws_connect::{DialTimes, Dialler, verifying_tls},
    },
    recording::{RecordingFault, Recordings, Surroundings},
    registrations::Registrations,
    routing::{PublishError, RoutingPublisher},
    secrets::{Sealer, SecretError, random},
    signalling::{self, NETWORK_QUEUE, Parts, SignallingHandle},
    store::{Place, Store, StoreError},
    telemetry::{Metrics, MetricsError, Sources},
    upkeep, webhooks,
};

/// Commands of the API that may wait for signalling.
const COMMAND_QUEUE: usize = 256;
/// Routing tables that may wait; one is made at a time.
const TABLE_QUEUE: usize = 4;
/// How long requests of the API get to finish when the server stops.
const API_PATIENCE: Duration = Duration::from_secs(2);
/// How long a start waits for the whole routing table.
const HEAD_START: Duration = Duration::from_millis(250);
/// How often a draining server looks whether its calls are over.
const DRAIN_GLANCE: Duration = Duration::from_millis(50);
/// How long registrars get to hear that registrations are taken back: a thousand are told in four seconds.
const TAKE_BACK: Duration = Duration::from_secs(5);
/// How long calls get to say goodbye after the drain's bound.
const FAREWELL: Duration = Duration::from_secs(3);

/// What kept the server from starting.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener cannot be opened.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// SIP over TLS cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsFault),
    /// No SIP listener is configured.
    #[error(
        "neither sip.udp nor sip.tcp nor sip.tls.listen names an address, so no carrier could reach this server"
    )]
    NoListener,
    /// The store cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key for stored secrets cannot be had.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Routing cannot be read.
    #[error(transparent)]
    Routing(#[from] PublishError),
    /// Metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// TLS towards agents cannot be set up.
    #[error("TLS towards agents cannot be set up: {0}")]
    AgentTls(String),
    /// Recordings cannot be kept.
    #[error(transparent)]
    Recording(#[from] RecordingFault),
    /// The media threads cannot be started.
    #[error("the media threads cannot be started: {0}")]
    Media(io::Error),
}

/// What the environment gives beside the configuration.
#[derive(Debug, Clone, Default)]
pub struct Secrets {
    /// `TANDEM_API_KEY`.
    pub api_key: Option<String>,
    /// `TANDEM_SECRET_KEY`.
    pub secret_key: Option<String>,
}

impl Secrets {
    /// Reads both from the environment; empty means unset.
    #[must_use]
    pub fn from_environment() -> Self {
        let read = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Self { api_key: read("TANDEM_API_KEY"), secret_key: read("TANDEM_SECRET_KEY") }
    }
}

/// Starts servers.
#[derive(Debug)]
pub struct Server;

/// A server that takes calls.
#[derive(Debug)]
pub struct RunningServer {
    /// Where it takes SIP over UDP; free ports are filled in.
    pub sip_udp: Vec<SocketAddr>,
    /// Where it takes SIP over TCP; free ports are filled in.
    pub sip_tcp: Vec<SocketAddr>,
    /// Where it takes SIP over TLS; free ports are filled in.
    pub sip_tls: Vec<SocketAddr>,
    /// Where its API is.
    pub api: SocketAddr,
    /// The key that was made because there was none; shown this once.
    pub created_key: Option<String>,
    /// The store.
    pub store: Store,
    /// The ladders of the last calls.
    pub ladders: Arc<Ladders>,
    signalling: SignallingHandle,
    journal: Journal,
    readiness: Readiness,
    stop_dialling: watch::Sender<bool>,
    dialling_task: JoinHandle<()>,
    stop_api: oneshot::Sender<()>,
    api_task: JoinHandle<io::Result<()>>,
    signalling_task: JoinHandle<()>,
    keeper: JoinHandle<()>,
    receivers: Vec<JoinHandle<()>>,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// [`StartError`], whose text names the remedy.
    pub async fn start(config: Config, secrets: Secrets) -> Result<RunningServer, StartError> {
        if config.sip.udp.is_empty() && config.sip.tcp.is_empty() && config.sip.tls.listen.is_empty() {
            return Err(StartError::NoListener);
        }
        let environment_key = secrets.api_key.as_deref().map(App::key_hash);
        if secrets.api_key.as_ref().is_some_and(|key| key.len() < api::EASILY_GUESSED_KEY) {
            tracing::warn!(
                "TANDEM_API_KEY is short and easily guessed: take what `openssl rand -hex 24` prints"
            );
        }
        // Ports first: they are what is most often in the way, and nothing has to be undone for them.
        let udp = UdpListeners::bind(&config.sip.udp)?;
        let tcp = TcpListeners::bind(&config.sip.tcp)?;
        let over_tls = TcpListeners::bind(&config.sip.tls.listen)?;
        let tls = SipTls::load(&config.sip.tls)?;
        let http = listen_http(config.api.listen).await?;
        let metrics = Metrics::install()?;
        let dialler = dialler(&config)?;
        let webhook_patience = Duration::from_millis(config.limits.webhook_timeout_ms);
        let callers = poster(&config, caller_lookup::PATIENCE)?;
        let poster = poster(&config, webhook_patience)?;

        let place = Place::of(&config.store.url);
        let sealer = Sealer::find(
            secrets.secret_key.as_deref(),
            config.security.secret_key_file.as_deref(),
            place.file(),
        )?;
        let store = Store::open(&config.store.url, sealer.clone()).await?;
        let store = store.charging(config.billing.millicents_per_minute);
        let node = config.node_name();
        let left_open = store.start_node(&node).await?;
        if left_open > 0 {
            tracing::warn!(calls = left_open, "calls that a killed process left open were closed");
        }
        let created_key = first_key(&store, &secrets).await?;

        let ports = &config.media.ports;
        let rest = Duration::from_secs(config.media.port_rest_seconds);
        let ports = Ports::new(ports.first, ports.last, rest);
        let (commands_in, commands) = mpsc::channel(COMMAND_QUEUE);
        let around = Surroundings {
            store: store.clone(),
            sealer,
            poster: poster.clone().unfenced(),
            commands: commands_in.clone(),
            node: node.clone(),
        };
        let (recordings, recording_queue, keeper) = Recordings::start(&config.recording, around)?;
        let (media, media_events) =
            Media::start(config.media.threads, ports, &recording_queue).map_err(StartError::Media)?;
        // The threads' own are the last: with them the writers end.
        drop(recording_queue);

        let journal = Journal::start(store.clone(), node.clone(), config.limits.verdicts);
        let (tables_in, tables) = mpsc::channel(TABLE_QUEUE);
        let (network_in, network) = mpsc::channel(NETWORK_QUEUE);
        let shared = TcpShared::new(tcp_limits(&config), network_in.clone(), tls.connector().clone());
        let ladders = Arc::new(Ladders::default());
        let gateways = Arc::new(GatewayHealths::default());
        let registrations = Arc::new(Registrations::default());
        let seed = u64::from_le_bytes(random());
        let mut engine = Engine::new(engine_config(&config), seed, clock::now(), clock::unix_ms());
        engine.seed_media_keys(random());
        let sources = (udp.counters(), shared.counters(), media.counters(), media.ports());
        let sip_udp = udp.addresses();
        let sip_tcp = tcp.addresses();
        let sip_tls = over_tls.addresses();
        let mut receivers = udp.receive(&network_in);
        let resolver = Arc::new(SipResolver::new(config.sip.resolver.clone()));
        let (signalling, signalling_task) = signalling::start(Parts {
            engine,
            media,
            media_events,
            udp,
            connections: Connections::new(Arc::clone(&shared)),
            network,
            resolver: Arc::clone(&resolver),
            dialler,
            callers,
            journal: journal.clone(),
            ladders: Arc::clone(&ladders),
            store: store.clone(),
            tables,
            tcp_addresses: sip_tcp.clone(),
            tls_addresses: sip_tls.clone(),
            gateways_known: Arc::clone(&gateways),
            registrations_known: Arc::clone(&registrations),
            commands,
            media_address: config.media_address(),
            seed: u64::from_le_bytes(random()),
        });
        let (udp_counters, tcp_counters, media_counters, port_pool) = sources;
        metrics.observe(Sources {
            gauges: signalling.gauges(),
            udp: udp_counters,
            tcp: tcp_counters,
            media: media_counters,
            ports: port_pool,
        });

        let routing = RoutingPublisher::start(store.clone(), tables_in);
        // Most nodes have read everything by then, and begin as whole as they will be. A large one takes calls meanwhile.
        if let Ok(outcome) = tokio::time::timeout(HEAD_START, routing.whole()).await {
            outcome?;
        }
        receivers.extend(tcp.accept(&shared, None));
        if let Some(acceptor) = tls.acceptor() {
            receivers.extend(over_tls.accept(&shared, Some(acceptor)));
        }
        let doctor = Doctor::new(tls.connector().clone(), Arc::clone(&resolver));
        receivers.push(tokio::spawn(tls.keep_fresh()));
        receivers.push(upkeep::start(store.clone(), &config.limits));
        let over_sip = OverSip::new(signalling.clone(), journal.clone());
        let (stop_dialling, stopped) = watch::channel(false);
        let dialling = Dialling::new(store.clone(), node, over_sip).telling(journal.clone());
        let dialling_task = tokio::spawn(place_by_the_whole_table(dialling, routing.clone(), stopped));
        let attempts = webhooks::SendLimits::new(config.limits.webhook_attempts);
        receivers.push(webhooks::start(store.clone(), poster, attempts, config.public_url()));

        let readiness = Readiness::default();
        let api = http
            .local_addr()
            .map_err(|source| BindError::new("the API", Protocol::Tcp, config.api.listen, source))?;
        let app = App::new(api::Parts {
            config: Arc::new(config),
            store: store.clone(),
            routing,
            journal: journal.clone(),
            ladders: Arc::clone(&ladders),
            gateways,
            recordings,
            registrations,
            doctor,
            commands: commands_in,
            readiness: readiness.clone(),
            metrics: Arc::new(move || metrics.render()),
            environment_key,
        });
        let (stop_api, stopped) = oneshot::channel::<()>();
        let api_task = tokio::spawn(api::serve(http, app, async {
            // An error means that the server is being dropped, which is also a stop.
            let _ = stopped.await;
        }));
        readiness.set(Phase::Ready);
        Ok(RunningServer {
            sip_udp,
            sip_tcp,
            sip_tls,
            api,
            created_key,
            store,
            ladders,
            signalling,
            journal,
            readiness,
            stop_dialling,
            dialling_task,
            stop_api,
            api_task,
            signalling_task,
            keeper,
            receivers,
        })
    }
}

impl RunningServer {
    /// Calls that are up.
    #[must_use]
    pub fn calls(&self) -> usize {
        self.signalling.calls()
    }

    /// Refuses new calls and waits until those that are up have ended, by themselves or at the end of
    /// `within`. Returns how many had to be ended.
    pub async fn drain(&self, within: Duration) -> usize {
        self.readiness.set(Phase::Draining);
        self.stop_dialling.send_replace(true);
        let until = Instant::now() + within;
        if self.signalling.drain(until.into_std()).await.is_err() {
            return 0;
        }
        // Carriers are told to send no more calls, however short the bound is.
        let taken_back = Instant::now() + TAKE_BACK;
        while self.signalling.unregistering() > 0 && Instant::now() < taken_back {
            tokio::time::sleep(DRAIN_GLANCE).await;
        }
        while self.calls() > 0 && Instant::now() < until {
            tokio::time::sleep(DRAIN_GLANCE).await;
        }
        let left = self.calls();
        // The engine ends what is left by itself; it needs a moment for BYE and its answer.
        let farewell = Instant::now() + FAREWELL;
        while self.calls() > 0 && Instant::now() < farewell {
            tokio::time::sleep(DRAIN_GLANCE).await;
        }
        left
    }

    /// Stops at once, and returns when everything remembered is in the store.
    pub async fn stop(self) {
        self.readiness.set(Phase::Draining);
        for receiver in &self.receivers {
            receiver.abort();
        }
        self.stop_dialling.send_replace(true);
        self.signalling.stop().await;
        let _ = self.signalling_task.await;
        let mut dialling_task = self.dialling_task;
        if tokio::time::timeout(FAREWELL, &mut dialling_task).await.is_err() {
            tracing::warn!("the ends of placed calls could not be written; the next start writes them");
            dialling_task.abort();
        }
        self.journal.flush().await;
        let mut keeper = self.keeper;
        if tokio::time::timeout(FAREWELL, &mut keeper).await.is_err() {
            tracing::warn!("recordings could not be put in their place; the next start does it");
            keeper.abort();
        }
        // The receiver is gone only if the API has ended already.
        let _ = self.stop_api.send(());
        let mut api_task = self.api_task;
        if tokio::time::timeout(API_PATIENCE, &mut api_task).await.is_err() {
            api_task.abort();
        }
        self.store.close().await;
    }
}

/// Calls are placed by the whole table: none is given up for a trunk that was not read yet.
async fn place_by_the_whole_table(
    dialling: Dialling<OverSip>,
    routing: RoutingPublisher,
    mut stopped: watch::Receiver<bool>,
) {
    let stop = stopped.clone();
    let is_whole = tokio::select! {
        () = routing.until_whole() => true,
        // An error means that the server is being dropped, which is also a stop.
        _ = stopped.wait_for(|is_stopped| *is_stopped) => false,
    };
    drop(routing);
    if is_whole {
        dialling.run(stop).await;
    }
}

async fn listen_http(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| BindError::new("the API", Protocol::Tcp, address, source))
}

/// A key for the account `default` if the environment gives none and nobody has one yet.
async fn first_key(store: &Store, secrets: &Secrets) -> Result<Option<String>, StoreError> {
    store.ensure_account(DEFAULT_ACCOUNT).await?;
    if secrets.api_key.is_some() || store.has_keys().await? {
        return Ok(None);
    }
    let (_, key) = store.create_key(DEFAULT_ACCOUNT, &[]).await?;
    // Shown once by whoever started the server; it cannot be read again.
    Ok(Some(key.reveal().to_owned()))
}

fn tcp_limits(config: &Config) -> TcpLimits {
    let idle = Duration::from_secs(config.limits.connection_idle_seconds);
    TcpLimits {
        connections: config.limits.connections as usize,
        per_address: config.limits.connections_per_address as usize,
        // 64*T1 (RFC 3261 section 17.1.1.1): who has said nothing worth an answer by then never will.
        unproven: idle.min(Duration::from_secs(32)),
        idle,
        patience: Duration::from_secs(10),
    }
}

fn dialler(config: &Config) -> Result<Dialler, StartError> {
    let (tls, roots) = verifying_tls(&extra_roots(config.security.agent_ca.as_deref())?)
        .map_err(|error| StartError::AgentTls(error.to_string()))?;
    if roots == 0 {
        tracing::warn!("this machine has no trusted certificates: agents with wss URLs cannot be reached");
    }
    let fence =
        Fence { deny_private: config.security.agent_networks == AgentNetworks::Public, ..Fence::default() };
    let total = Duration::from_millis(config.limits.agent_connect_ms);
    let times = DialTimes { total, ..DialTimes::default() };
    Ok(Dialler::new(tls, fence, times))
}

/// What tenants want asked is trusted as far as agents are: by the same roots, behind the same fence.
fn poster(config: &Config, within: Duration) -> Result<Poster, StartError> {
    let (tls, _) = verifying_tls(&extra_roots(config.security.agent_ca.as_deref())?)
        .map_err(|error| StartError::AgentTls(error.to_string()))?;
    let fence =
        Fence { deny_private: config.security.agent_networks == AgentNetworks::Public, ..Fence::default() };
    Ok(Poster::new(tls, fence, within))
}

fn extra_roots(path: Option<&Path>) -> Result<Vec<CertificateDer<'static>>, StartError> {
    let Some(path) = path else {
        return Ok(Vec::new());
    };
    let fault = |error: &dyn std::fmt::Display| {
        StartError::AgentTls(format!("security.agent_ca {} cannot be read: {error}", path.display()))
    };
    CertificateDer::pem_file_iter(path)
        .map_err(|error| fault(&error))?
        .collect::<Result<_, _>>()
        .map_err(|error| fault(&error))
}

fn engine_config(config: &Config) -> EngineConfig {
    let limits = &config.limits;
    let mut engine = EngineConfig { node: config.node_name(), ..EngineConfig::default() };
    engine.endpoint.public_address = config.sip.public_address;
    engine.endpoint.limits.streams = limits.connections as usize;
    engine.endpoint.limits.streams_per_source = limits.connections_per_address as usize;
    engine.endpoint.limits.stream_idle = Duration::from_secs(limits.connection_idle_seconds);
    engine.admission.max_calls = limits.calls;
    engine.admission.stranger_rate = f64::from(limits.stranger_requests_per_second);
    engine.authenticator.lifetime = Duration::from_secs(config.security.nonce_seconds);
    engine.authenticator.algorithms =
        config.security.digest_algorithms.iter().map(|algorithm| digest_algorithm(*algorithm)).collect();
    engine.max_duration = Some(Duration::from_secs(limits.call_seconds));
    engine.ringing_timeout = Duration::from_secs(limits.ringing_seconds);
    engine.gateway_timeout = Duration::from_millis(limits.gateway_ms);
    engine.media_timeout = Some(Duration::from_secs(limits.media_timeout_seconds));
    // A little longer than the dial itself, whose own words about a failure say more.
    engine.agent_timeout = Duration::from_millis(limits.agent_connect_ms) * 2 + Duration::from_secs(1);
    engine.bridge.queue = Duration::from_secs(limits.agent_ahead_seconds);
    engine
}

const fn digest_algorithm(configured: DigestAlgorithm) -> Algorithm {
    match configured {
        DigestAlgorithm::Md5 => Algorithm::MD5,
        DigestAlgorithm::Sha256 => Algorithm::SHA_256,
        DigestAlgorithm::Sha512_256 => Algorithm::SHA_512_256,
    }
}
