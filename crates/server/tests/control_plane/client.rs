//! A server without sockets: the API's router over a store in a folder of its own, with an engine that takes every
//! routing table, and a client that calls it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode, header};
use serde_json::{Value, json};
use tandem_call::RoutingTable;
use tandem_server::api::{App, CallCommand, Parts, Phase, Readiness, router};
use tandem_server::config::{Config, Tls};
use tandem_server::doctor::Doctor;
use tandem_server::journal::Journal;
use tandem_server::ladders::Ladders;
use tandem_server::net::resolve::SipResolver;
use tandem_server::net::tls::SipTls;
use tandem_server::net::{fence::Fence, post::Poster, ws_connect::verifying_tls};
use tandem_server::recording::{Recordings, Surroundings};
use tandem_server::routing::RoutingPublisher;
use tandem_server::secrets::Sealer;
use tandem_server::store::Store;
use tokio::sync::mpsc;
use tower::ServiceExt as _;

use super::description::Description;
use crate::base::Base;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
    pub(crate) text: String,
}

/// The server, and what its engine has seen.
pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) description: Description,
    pub(crate) store: Store,
    pub(crate) journal: Journal,
    pub(crate) readiness: Readiness,
    pub(crate) ladders: Arc<Ladders>,
    pub(crate) commands: mpsc::Receiver<CallCommand>,
    pub(crate) key: String,
    pub(crate) other_key: String,
    engine: Arc<Mutex<Arc<RoutingTable>>>,
    _folder: Option<tempfile::TempDir>,
}

/// The environment's key.
pub(crate) const ENVIRONMENT_KEY: &str = "a-key-from-the-environment";

impl Server {
    /// A server with the default configuration and two accounts, `acme` and `other`.
    pub(crate) async fn start() -> Self {
        Self::with(|_| ()).await
    }

    /// As [`Server::start`], the configuration changed.
    pub(crate) async fn with(configure: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = super::store::open(folder.path()).await;
        Self::of(store, configure, Some(folder)).await
    }

    /// As [`Server::with`], over a database of one's choice.
    pub(crate) async fn over(base: &Base, configure: impl FnOnce(&mut Config)) -> Self {
        Self::of(base.open().await, configure, None).await
    }

    async fn of(
        store: Store,
        configure: impl FnOnce(&mut Config),
        folder: Option<tempfile::TempDir>,
    ) -> Self {
        let mut config = Config::default();
        config.node.name = "n1".to_owned();
        // Tests ask more in a minute than clients may; those about limits set their own.
        config.limits.api_requests_per_minute = 1_000_000;
        config.limits.api_narrow_per_minute = 1_000_000;
        configure(&mut config);
        store.start_node("n1").await.unwrap();
        let journal = Journal::start(store.clone(), "n1".to_owned(), config.limits.verdicts);
        let (engine_in, mut tables) = mpsc::channel::<tandem_server::routing::TableUpdate>(1);
        let engine = Arc::new(Mutex::new(Arc::new(RoutingTable::default())));
        let seen = Arc::clone(&engine);
        tokio::spawn(async move {
            while let Some(update) = tables.recv().await {
                *seen.lock().unwrap() = update.table;
                update.taken.send(()).ok();
            }
        });
        let routing = RoutingPublisher::start(store.clone(), engine_in);
        routing.whole().await.unwrap();
        let ladders = Arc::new(Ladders::default());
        let (commander, commands) = mpsc::channel(4);
        let readiness = Readiness::default();
        readiness.set(Phase::Ready);
        let recording_folder = tempfile::tempdir().unwrap();
        config.recording.folder = recording_folder.path().to_path_buf();
        let around = Surroundings {
            store: store.clone(),
            sealer: Sealer::find(Some(&"a".repeat(64)), None, None).unwrap(),
            poster: Poster::new(verifying_tls(&[]).unwrap().0, Fence::default(), Duration::from_secs(5)),
            commands: commander.clone(),
            node: "n1".to_owned(),
        };
        let (recordings, ..) = Recordings::start(&config.recording, around).unwrap();
        let (_, key) = store.create_key("acme", &[]).await.unwrap();
        let (_, other_key) = store.create_key("other", &[]).await.unwrap();
        let app = App::new(Parts {
            config: Arc::new(config),
            store: store.clone(),
            routing,
            journal: journal.clone(),
            ladders: Arc::clone(&ladders),
            gateways: Arc::default(),
            recordings,
            registrations: Arc::default(),
            doctor: Doctor::new(
                SipTls::load(&Tls::default()).unwrap().connector().clone(),
                Arc::new(SipResolver::new(Vec::new())),
            ),
            commands: commander,
            readiness: readiness.clone(),
            metrics: Arc::new(|| "tandem_calls 0\n".to_owned()),
            environment_key: Some(App::key_hash(ENVIRONMENT_KEY)),
        });
        let router = router(app);
        let description = description_of(&router).await;
        Self {
            router,
            description,
            store,
            journal,
            readiness,
            ladders,
            commands,
            key: key.reveal().to_owned(),
            other_key: other_key.reveal().to_owned(),
            engine,
            _folder: folder,
        }
    }

    /// The table the engine routes by now.
    pub(crate) fn table(&self) -> Arc<RoutingTable> {
        Arc::clone(&self.engine.lock().unwrap())
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request("GET", path, &self.key), None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.send(self.request("POST", path, &self.key), Some(body)).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.send(self.request("PATCH", path, &self.key), Some(body)).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.send(self.request("PUT", path, &self.key), Some(body)).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path, &self.key), None).await
    }

    /// A request with a key of one's choice; empty means none.
    pub(crate) fn request(&self, method: &str, path: &str, key: &str) -> axum::http::request::Builder {
        let request = Request::builder().method(method).uri(path);
        if key.is_empty() { request } else { request.header(header::AUTHORIZATION, format!("Bearer {key}")) }
    }

    pub(crate) async fn send(&self, request: axum::http::request::Builder, body: Option<Value>) -> Answer {
        match body {
            None => self.raw(request.body(Body::empty()).unwrap()).await,
            Some(body) => {
                let request = request.header(header::CONTENT_TYPE, "application/json");
                self.raw(request.body(Body::from(body.to_string())).unwrap()).await
            }
        }
    }

    pub(crate) async fn raw(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().to_string(), request.uri().to_string());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        self.description.hold(&method, &path, status.as_u16(), &headers, &text);
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Answer { status, headers, body, text }
    }

    /// A trunk of `acme` that takes calls from 203.0.113.0/24; its identifier.
    pub(crate) async fn trunk(&self, name: &str) -> String {
        let answer = self.post("/sip-trunks/trunks", ip_trunk(name)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// A number on a trunk of `acme`; its identifier.
    pub(crate) async fn number(&self, trunk: &str, phone_number: &str) -> String {
        let path = format!("/sip-trunks/trunks/{trunk}/numbers");
        let answer = self.post(&path, json!({"phone_number": phone_number})).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.body["id"].as_str().unwrap().to_owned()
    }

    /// An agent of `acme`; its identifier.
    pub(crate) async fn agent(&self) -> String {
        let answer = self.post("/v2/agent", agent()).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.body["agent_id"].as_str().unwrap().to_owned()
    }
}

async fn description_of(router: &Router) -> Description {
    let request = Request::get("/openapi.json").body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let bytes = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    Description::read(&serde_json::from_slice(&bytes).unwrap())
}

impl Answer {
    /// Holds the answer against a status and the one text that all of `message`, `detail` must be.
    #[track_caller]
    pub(crate) fn refuses(&self, status: u16, message: &str) -> &Self {
        assert_eq!(self.status, status, "{}", self.text);
        assert_eq!(self.body["error"], status, "{}", self.text);
        assert_eq!(self.body["message"], message, "{}", self.text);
        assert_eq!(self.body["detail"], message, "{}", self.text);
        self
    }

    /// Holds against the answer that one of its errors is at `location` and holds each of `parts`.
    #[track_caller]
    pub(crate) fn at(&self, location: &str, parts: &[&str]) -> &Self {
        let errors = self.body["errors"].as_array().unwrap_or_else(|| panic!("no errors: {}", self.text));
        let found = errors.iter().any(|error| {
            let message = error["msg"].as_str().unwrap();
            error["loc"] == location && parts.iter().all(|part| message.contains(part))
        });
        assert!(found, "{location} with {parts:?} is missing in {}", self.text);
        self
    }
}

/// An ip-based trunk.
pub(crate) fn ip_trunk(name: &str) -> Value {
    json!({
        "name": name,
        "provider": "plivo",
        "auth_type": "ip-based",
        "gateways": [{"gateway_address": "carrier.example"}],
        "ip_identifiers": [{"ip_address": "203.0.113.0/24"}],
        "inbound_enabled": true,
    })
}

/// An agent with a socket.
pub(crate) fn agent() -> Value {
    json!({
        "agent_config": {"agent_name": "Support", "telephony_provider": "plivo", "tasks": [
            {"tools_config": {"input": {"provider": "plivo", "format": "wav"}, "output": {"format": "wav"}}}
        ]},
        "agent_prompts": {"task_1": {"system_prompt": "Be kind."}},
        "websocket": {
            "url": "wss://agent.example/ws/{execution_id}",
            "dialect": "asterisk",
            "headers": {"Authorization": "Bearer hush-hush"},
            "subprotocol": null,
            "parameters": {"k": "v"},
            "frame_ms": 20,
            "encoding": null,
            "on_close": "drain",
            "fallback_url": null,
        },
    })
}
