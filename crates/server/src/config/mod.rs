//! Configuration: typed, unknown keys refused, checked whole before anything starts.
//!
//! Three layers, the later wins: the defaults below, a TOML file, the environment
//! (`TANDEM__SECTION__KEY`). `config/tandem.toml` lists every key with its default and the reason for it;
//! a test holds it and this file together. This module opens no socket and no database.

mod load;
mod unknown;
mod validate;
mod values;

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use load::{ConfigError, Problem};
pub use values::PortRange;

/// The whole configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Who this node is.
    pub node: Node,
    /// SIP listeners.
    pub sip: Sip,
    /// RTP.
    pub media: Media,
    /// Recordings.
    pub recording: RecordingSettings,
    /// The HTTP listener: REST, health, metrics.
    pub api: Api,
    /// The database.
    pub store: Store,
    /// Keys, and what strangers may do.
    pub security: Security,
    /// Every bound.
    pub limits: Limits,
    /// What calls cost.
    pub billing: Billing,
    /// Logs and metrics.
    pub telemetry: Telemetry,
}

/// `[node]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Node {
    /// Name of this node in records; empty means the host's name. Unique among the nodes of one database.
    pub name: String,
}

/// `[sip]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Sip {
    /// Addresses to take SIP over UDP on.
    #[serde(deserialize_with = "values::addresses")]
    pub udp: Vec<SocketAddr>,
    /// Addresses to take SIP over TCP on.
    #[serde(deserialize_with = "values::addresses")]
    pub tcp: Vec<SocketAddr>,
    /// SIP over TLS.
    #[serde(deserialize_with = "values::tls")]
    pub tls: Tls,
    /// DNS servers that carriers' names are looked up by; none means the machine's own.
    #[serde(deserialize_with = "values::addresses")]
    pub resolver: Vec<SocketAddr>,
    /// Address peers reach this node's SIP at, when it differs from the local one (NAT).
    #[serde(deserialize_with = "values::optional_ip")]
    pub public_address: Option<IpAddr>,
}

/// `[sip.tls]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tls {
    /// Addresses to take SIP over TLS on.
    #[serde(deserialize_with = "values::addresses")]
    pub listen: Vec<SocketAddr>,
    /// PEM certificate chain.
    pub certificate: Option<PathBuf>,
    /// PEM private key.
    pub private_key: Option<PathBuf>,
    /// PEM certificates that client certificates must chain to; without it no client certificate is asked for.
    pub client_ca: Option<PathBuf>,
    /// PEM certificates that gateways' certificates may chain to, beside those the machine trusts.
    pub gateway_ca: Option<PathBuf>,
}

/// `[media]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Media {
    /// UDP ports for RTP (even) and RTCP (the odd one above).
    #[serde(deserialize_with = "values::ports")]
    pub ports: PortRange,
    /// Address written into SDP, when it differs from the local one; without it `sip.public_address` serves.
    #[serde(deserialize_with = "values::optional_ip")]
    pub public_address: Option<IpAddr>,
    /// Media threads; 0 means one per core.
    pub threads: usize,
    /// Seconds a port rests before it is given to another call, so that stray packets die first.
    pub port_rest_seconds: u64,
}

/// `[recording]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct RecordingSettings {
    /// Folder of recordings: of those that are kept on disk, and of all while they are written.
    pub folder: PathBuf,
    /// Where they are kept.
    pub keep: RecordingKeep,
    /// Seal them at rest, each with a key of its own that is sealed with the node's.
    pub encrypt: bool,
    /// Days until they are deleted; 0 keeps them.
    pub retention_days: u32,
    /// Megabytes of the folder's file system that recordings leave free.
    pub keep_free_mb: u32,
    /// The object store.
    pub s3: S3Settings,
}

/// Where recordings are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecordingKeep {
    /// In the folder.
    Disk,
    /// In an object store that speaks S3.
    S3,
}

/// `[recording.s3]`
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct S3Settings {
    /// URL of the service.
    pub endpoint: String,
    /// Its region, as signatures name it.
    pub region: String,
    /// The bucket; it must exist.
    pub bucket: String,
    /// What the names of objects begin with.
    pub prefix: String,
    /// Access key.
    pub access_key: String,
    /// Secret key.
    pub secret_key: String,
    /// The bucket stands in the path of URLs, not in the host's name.
    pub path_style: bool,
}

impl std::fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("S3Settings")
            .field("endpoint", &self.endpoint)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

/// `[api]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Api {
    /// Address of the one HTTP listener.
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// Base of URLs that responses name, such as `https://voice.example`; without it `http://` and `listen`.
    pub public_url: Option<String>,
    /// Status of a request without a valid key: 403 as Bolna's live system answers, or 401.
    pub auth_failure_status: u16,
    /// Status of a number that another active trunk holds: 409 or 422, both documented by Bolna.
    pub duplicate_number_status: u16,
    /// HTTP status of a duplicate in Exotel's API, whose body says 409 in either case: 200 as its live system
    /// answers, or 409.
    pub exotel_duplicate_status: u16,
    /// Ranges of the proxies before the listener, whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
}

/// `[store]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Store {
    /// `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/DATABASE`.
    pub url: String,
}

/// `[security]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Security {
    /// File with the key that seals stored secrets, 64 hex digits; without it and without `TANDEM_SECRET_KEY`
    /// a key file is created beside the database.
    pub secret_key_file: Option<PathBuf>,
    /// Where agents' URLs may point.
    pub agent_networks: AgentNetworks,
    /// PEM certificates trusted for agents' `wss` URLs beside the system's.
    pub agent_ca: Option<PathBuf>,
    /// Seconds a digest nonce is good for (RFC 7616 section 5.4).
    pub nonce_seconds: u64,
    /// Digest algorithms that callers of userpass trunks are offered, in this order.
    pub digest_algorithms: Vec<DigestAlgorithm>,
}

/// A digest algorithm (RFC 7616, RFC 8760).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DigestAlgorithm {
    /// MD5, which every SIP peer knows.
    #[serde(rename = "MD5")]
    Md5,
    /// SHA-256.
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-512/256.
    #[serde(rename = "SHA-512-256")]
    Sha512_256,
}

/// Where agents' and webhooks' URLs may point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AgentNetworks {
    /// Anywhere, private networks and this host too: accounts are trusted by the operator.
    Any,
    /// Public addresses alone: accounts are strangers to each other and to the operator.
    Public,
}

/// `[limits]`: every bound, so that no peer, tenant or agent can take what belongs to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Limits {
    /// Calls at once on this node; above it INVITEs get 503 with Retry-After.
    pub calls: u32,
    /// Requests a second from one address that matches no trunk; the rest is dropped unanswered.
    pub stranger_requests_per_second: u32,
    /// SIP connections at once.
    pub connections: u32,
    /// SIP connections at once from one address.
    pub connections_per_address: u32,
    /// Seconds a SIP connection may idle, or take to finish one message.
    pub connection_idle_seconds: u64,
    /// Longest call, seconds.
    pub call_seconds: u64,
    /// The longest that a callee's telephone rings, where the call's order does not say.
    pub ringing_seconds: u64,
    /// The longest that a gateway may be silent before the next one is tried.
    pub gateway_ms: u64,
    /// Time an agent has to take the WebSocket, milliseconds.
    pub agent_connect_ms: u64,
    /// Speech an agent may send ahead, seconds per call.
    pub agent_ahead_seconds: u64,
    /// Seconds without a packet from the carrier after which a call ends.
    pub media_timeout_seconds: u64,
    /// Seconds that calls get to finish after SIGTERM.
    pub drain_seconds: u64,
    /// HTTP connections at once.
    pub api_connections: u32,
    /// Seconds an HTTP client may take for the header section of a request.
    pub api_header_seconds: u64,
    /// Seconds from there until the answer begins, the request's body included.
    pub api_request_seconds: u64,
    /// Seconds in which no byte moves on an HTTP connection, after which it is closed.
    pub api_idle_seconds: u64,
    /// Largest request body of the API, bytes.
    pub api_body_bytes: usize,
    /// Largest upload of a file, bytes.
    pub api_upload_bytes: usize,
    /// Deepest nesting of a JSON body.
    pub api_json_depth: usize,
    /// Verdicts kept per account.
    pub verdicts: u32,
    /// Requests of one account in a minute, those counted elsewhere left out.
    pub api_requests_per_minute: u32,
    /// Requests of one account in a minute to each of `POST /call`, one agent, one agent's executions.
    pub api_narrow_per_minute: u32,
    /// Requests of one account to Exotel's family in a minute.
    pub api_exotel_per_minute: u32,
    /// Requests without a valid key from one address in a minute.
    pub api_failures_per_minute: u32,
    /// Days that the audit log goes back.
    pub audit_days: u32,
    /// Entries of the audit log kept per account.
    pub audit_entries: u32,
    /// Calls of one account that may wait to be placed.
    pub queued_calls: u32,
    /// Attempts to tell a webhook before it is given up.
    pub webhook_attempts: u32,
    /// Time a webhook's receiver has to answer, milliseconds.
    pub webhook_timeout_ms: u64,
    /// Days that the log of webhooks goes back.
    pub webhook_days: u32,
}

/// `[billing]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Billing {
    /// What a minute of an answered call costs, in thousandths of a cent; charged by the millisecond, and taken from the
    /// account's balance where it has one.
    pub millicents_per_minute: u32,
}

/// `[telemetry]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Telemetry {
    /// What is logged: a level, or directives such as `info,tandem_sip=debug`.
    pub log: String,
    /// Shape of log lines.
    pub format: LogFormat,
    /// Bearer token that `/metrics` asks for; without it `/metrics` is open.
    pub metrics_token: Option<String>,
}

/// Shape of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    Plain,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// The node's name: the configured one, else the host's.
    pub fn node_name(&self) -> String {
        if !self.node.name.is_empty() {
            return self.node.name.clone();
        }
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        if host.is_empty() { "tandem".to_owned() } else { host.to_owned() }
    }

    /// The address SDP advertises, if one is configured.
    pub fn media_address(&self) -> Option<IpAddr> {
        self.media.public_address.or(self.sip.public_address)
    }

    /// The base of URLs that responses name, without a slash at its end.
    pub fn public_url(&self) -> String {
        match &self.api.public_url {
            Some(url) => url.trim_end_matches('/').to_owned(),
            None => format!("http://{}", self.api.listen),
        }
    }
}

impl Default for Sip {
    fn default() -> Self {
        let everywhere =
            vec![SocketAddr::from(([0, 0, 0, 0], 5060)), SocketAddr::from((Ipv6Addr::UNSPECIFIED, 5060))];
        Self {
            udp: everywhere.clone(),
            tcp: everywhere,
            tls: Tls::default(),
            resolver: Vec::new(),
            public_address: None,
        }
    }
}

impl Default for Media {
    fn default() -> Self {
        Self { ports: PortRange::DEFAULT, public_address: None, threads: 0, port_rest_seconds: 10 }
    }
}

impl Default for RecordingSettings {
    fn default() -> Self {
        Self {
            folder: PathBuf::from("recordings"),
            keep: RecordingKeep::Disk,
            encrypt: false,
            retention_days: 90,
            keep_free_mb: 1_024,
            s3: S3Settings::default(),
        }
    }
}

impl Default for S3Settings {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            region: "us-east-1".to_owned(),
            bucket: String::new(),
            prefix: String::new(),
            access_key: String::new(),
            secret_key: String::new(),
            path_style: true,
        }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            public_url: None,
            auth_failure_status: 403,
            duplicate_number_status: 409,
            exotel_duplicate_status: 200,
            trusted_proxies: Vec::new(),
        }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self { url: "sqlite:tandem.db".to_owned() }
    }
}

impl Default for Security {
    fn default() -> Self {
        Self {
            secret_key_file: None,
            agent_networks: AgentNetworks::Any,
            agent_ca: None,
            nonce_seconds: 60,
            digest_algorithms: vec![DigestAlgorithm::Md5],
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            calls: 2_000,
            stranger_requests_per_second: 10,
            connections: 4_096,
            connections_per_address: 256,
            connection_idle_seconds: 300,
            call_seconds: 14_400,
            ringing_seconds: 60,
            gateway_ms: 6_000,
            agent_connect_ms: 5_000,
            agent_ahead_seconds: 600,
            media_timeout_seconds: 60,
            drain_seconds: 60,
            api_connections: 512,
            api_header_seconds: 10,
            api_request_seconds: 30,
            api_idle_seconds: 75,
            api_body_bytes: 1_048_576,
            api_upload_bytes: 8_388_608,
            api_json_depth: 32,
            verdicts: 1_000,
            api_requests_per_minute: 1_000,
            api_narrow_per_minute: 500,
            api_exotel_per_minute: 200,
            api_failures_per_minute: 60,
            audit_days: 365,
            audit_entries: 100_000,
            queued_calls: 100_000,
            webhook_attempts: 12,
            webhook_timeout_ms: 10_000,
            webhook_days: 7,
        }
    }
}

impl Default for Telemetry {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: LogFormat::Plain, metrics_token: None }
    }
}
