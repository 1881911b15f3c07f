//! From the store to the engine: rows become the routing table, and the table is in the engine's hands before
//! the API answers the request that changed it.
//!
//! A table is made from the one before it and the rows that changes touched ([`Store::changes`]), so a change costs
//! what it changes. Everything is read once, in pages, while the node takes calls already: until that is done an INVITE's
//! number is read by itself ([`route_of`]), as it stands in the store then, and nobody is refused by what was read so far
//! ([`tandem_call::waiting_room`]). Requests to refresh are gathered: whatever was committed before a reading began is in
//! that reading. What other processes change over the same database is looked for several times a second. A row the table
//! cannot express is left out and logged.

mod publication;
mod reading;

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use ipnet::IpNet;
use serde::Deserialize;
use serde_json::{Map, Value};
use tandem_agent::DialectConfig;
use tandem_call::bridge::OnClose;
use tandem_call::{
    Agent, AgentSocket, Credential, Gateway, MediaEncryption, Number, Registration, RoutingTable, Trunk,
    TrunkAuth, TrunkId, TrunkLimits,
};
use tandem_media::Codec;
use tandem_sip::Transport;
use tokio::sync::{mpsc, oneshot, watch};

use crate::agent_rules::agent_rules;
use crate::secrets::Secret;
use crate::store::{
    self, Store, StoreError, StoredAgent, StoredNumber, StoredTrunk, TransportKind, TrunkSettings,
};
use publication::Publication;
pub use reading::{read_whole, route_of};

/// Refreshes that may wait; each belongs to one API request, which the listener bounds too.
const WAITING: usize = 1_024;

/// A new table on its way to the engine.
#[derive(Debug)]
pub struct TableUpdate {
    /// The table.
    pub table: Arc<RoutingTable>,
    /// Trunks that are new, changed or gone in it.
    pub trunks: Vec<TrunkId>,
    /// To be answered once the engine routes by it.
    pub taken: oneshot::Sender<()>,
}

/// How far the first reading of everything is.
#[derive(Debug, Clone)]
pub enum Reading {
    /// Under way.
    UnderWay,
    /// It failed last, and is tried again.
    Failing(Arc<StoreError>),
    /// Done: the engine has the whole table.
    Done,
}

/// Why a change that is stored is not routed by yet, or why there is no table.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PublishError {
    /// The store could not be read.
    #[error("the change is stored, but routing could not be read again: {0}")]
    Store(Arc<StoreError>),
    /// Nobody takes tables: the node is stopping.
    #[error("the change is stored, but this node is stopping and routes no more")]
    Stopped,
}

/// Publishes the table. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RoutingPublisher {
    requests: mpsc::Sender<oneshot::Sender<Result<(), PublishError>>>,
    current: Arc<ArcSwap<RoutingTable>>,
    reading: watch::Receiver<Reading>,
}

impl RoutingPublisher {
    /// Starts the task that reads the store and hands tables to `engine`. It ends when every publisher is
    /// dropped.
    pub fn start(store: Store, engine: mpsc::Sender<TableUpdate>) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING);
        let current = Arc::new(ArcSwap::from_pointee(RoutingTable::default()));
        let (told, reading) = watch::channel(Reading::UnderWay);
        let task = Publication::new(store, engine, Arc::clone(&current), told);
        tokio::spawn(task.run(waiting));
        Self { requests, current, reading }
    }

    /// Returns once calls are routed by what the store holds now: by the table when it is there, by the store itself
    /// until then.
    ///
    /// # Errors
    /// When the store cannot be read or the engine is gone; what was stored stays stored, and the reload is
    /// tried again by itself.
    pub async fn refresh(&self) -> Result<(), PublishError> {
        let (done, outcome) = oneshot::channel();
        self.requests.send(done).await.map_err(|_| PublishError::Stopped)?;
        outcome.await.map_err(|_| PublishError::Stopped)?
    }

    /// The table the engine routes by, or will when everything was read.
    pub fn current(&self) -> Arc<RoutingTable> {
        self.current.load_full()
    }

    /// How far the first reading is.
    pub fn reading(&self) -> Reading {
        self.reading.borrow().clone()
    }

    /// The whole table, once it is there.
    ///
    /// # Errors
    /// When the store cannot be read, or the node stops.
    pub async fn whole(&self) -> Result<Arc<RoutingTable>, PublishError> {
        let mut reading = self.reading.clone();
        let reading = reading.wait_for(|reading| !matches!(reading, Reading::UnderWay)).await;
        match &*reading.map_err(|_| PublishError::Stopped)? {
            Reading::Failing(error) => Err(PublishError::Store(Arc::clone(error))),
            Reading::Done | Reading::UnderWay => Ok(self.current()),
        }
    }

    /// Returns when the whole table is there, however often its reading fails before, or the node stops.
    pub async fn until_whole(&self) {
        // An error is the end of the task that reads: the node stops.
        let _ = self.reading.clone().wait_for(|reading| matches!(reading, Reading::Done)).await;
    }
}

/// A trunk as calls use it.
fn trunk(stored: StoredTrunk) -> Trunk {
    let settings = stored.settings;
    let registration = registration(&settings);
    let credentials: Vec<Credential> = settings
        .credentials
        .into_iter()
        .map(|one| Credential { username: one.user_name, password: one.password.reveal().to_owned() })
        .collect();
    let auth = match settings.auth_type {
        store::AuthType::UserPass if !credentials.is_empty() => TrunkAuth::UserPass(credentials),
        store::AuthType::UserPass | store::AuthType::IpBased => TrunkAuth::IpBased,
    };
    Trunk {
        id: stored.id.into(),
        account: stored.account.into(),
        name: settings.name.into(),
        is_active: settings.is_active,
        inbound_enabled: settings.inbound_enabled,
        outbound_enabled: settings.outbound_enabled,
        default_agent: settings.default_agent.map(Into::into),
        auth,
        sources: settings.ip_identifiers.iter().filter_map(|one| network(&one.ip_address)).collect(),
        gateways: settings
            .gateways
            .into_iter()
            .map(|gateway| Gateway {
                address: gateway.address,
                port: (!gateway.by_service.unwrap_or_default()).then_some(gateway.port),
                priority: gateway.priority,
                weight: gateway.weight,
                transport: gateway.transport.map(transport),
            })
            .collect(),
        codecs: codecs(&settings.allow, &settings.disallow),
        transport: transport(settings.transport),
        direct_media: settings.direct_media,
        rtp_symmetric: settings.rtp_symmetric,
        force_rport: settings.force_rport,
        ice_support: settings.ice_support,
        media_encryption: match settings.media_encryption {
            store::MediaEncryption::No => MediaEncryption::No,
            store::MediaEncryption::Sdes => MediaEncryption::Sdes,
        },
        media_encryption_optimistic: settings.media_encryption_optimistic,
        qualify_frequency_s: settings.qualify_frequency,
        limits: TrunkLimits {
            calls_total: settings.limits.total,
            calls_in: settings.limits.inbound,
            calls_out: settings.limits.outbound,
            calls_per_second: settings.limits.per_second(),
        },
        outbound_leading_plus: settings.outbound_leading_plus,
        caller_id: settings.external_alias.map(|alias| alias.number),
        transfers: settings.transfers,
        registration,
        outbound: settings.outbound,
    }
}

/// What a trunk registers: what is not given follows from its first gateway and its digest pair. Nothing, when it is
/// switched off or lacks what it needs.
fn registration(settings: &TrunkSettings) -> Option<Registration> {
    let wanted = settings.registration.as_ref().filter(|wanted| wanted.enabled)?;
    let credential = settings.credentials.first()?;
    let credential = Credential {
        username: credential.user_name.clone(),
        password: credential.password.reveal().to_owned(),
    };
    let first = settings.gateways.iter().min_by_key(|gateway| gateway.priority);
    let kind = first.and_then(|gateway| gateway.transport).unwrap_or(settings.transport);
    let (registrar, port, kind) = match (&wanted.registrar, first) {
        (Some(registrar), _) => (registrar.clone(), wanted.port, settings.transport),
        (None, Some(gateway)) => {
            let port = (!gateway.by_service.unwrap_or_default()).then_some(gateway.port);
            (gateway.address.clone(), port, kind)
        }
        (None, None) => return None,
    };
    let user = wanted.from_user.clone().unwrap_or_else(|| credential.username.clone());
    Some(Registration {
        domain: wanted.domain.clone().unwrap_or_else(|| registrar.clone()),
        registrar,
        port,
        transport: transport(kind),
        realm: wanted.realm.clone(),
        contact_user: wanted.contact_user.clone().unwrap_or_else(|| user.clone()),
        user,
        expires_s: wanted.expires,
        credential,
    })
}

fn transport(kind: TransportKind) -> Transport {
    match kind {
        TransportKind::Udp => Transport::Udp,
        TransportKind::Tcp => Transport::Tcp,
        TransportKind::Tls => Transport::Tls,
    }
}

fn number(stored: StoredNumber) -> Number {
    Number {
        id: stored.id.into(),
        account: stored.account.into(),
        trunk: stored.trunk.into(),
        number: stored.number.phone_number,
        destination_key: stored.number.destination_key,
        is_active: stored.number.is_active,
        agent: stored.agent.map(Into::into),
        is_for_pstn: stored.number.mode == Some(store::NumberMode::Pstn),
    }
}

/// An agent as calls use it: header values opened, the socket read.
pub fn agent(stored: StoredAgent) -> Agent {
    let socket = match socket(&stored) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::warn!(account = stored.account, agent = stored.id, error, "agent left without a socket");
            None
        }
    };
    let rules = agent_rules(&stored.body, stored.source_token.as_ref().map(Secret::reveal));
    Agent {
        id: stored.id.into(),
        account: stored.account.into(),
        name: stored.name.into(),
        socket: socket.map(Arc::new),
        rules,
    }
}

/// The `websocket` object as it is stored: checked by the API when it came in.
#[derive(Deserialize)]
struct Socket {
    url: String,
    #[serde(flatten)]
    dialect: DialectConfig,
    subprotocol: Option<String>,
    #[serde(default)]
    parameters: Option<Map<String, Value>>,
    #[serde(default)]
    on_close: Option<OnClose>,
    fallback_url: Option<String>,
}

fn socket(agent: &StoredAgent) -> Result<Option<AgentSocket>, String> {
    let Some(object) = agent.body.get("websocket").filter(|object| !object.is_null()) else {
        return Ok(None);
    };
    // Absent and null mean the same to clients, and not to serde's defaults.
    let given: Map<String, Value> = match object {
        Value::Object(object) => {
            object.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()
        }
        _ => return Err("websocket is no object".to_owned()),
    };
    let socket: Socket = serde_json::from_value(Value::Object(given)).map_err(|error| error.to_string())?;
    let text = |value: Value| match value {
        Value::String(text) => text,
        other => other.to_string(),
    };
    Ok(Some(AgentSocket {
        url: socket.url,
        dialect: socket.dialect,
        headers: agent
            .headers
            .iter()
            .map(|(name, value)| (name.clone(), value.reveal().to_owned()))
            .collect(),
        subprotocol: socket.subprotocol,
        parameters: socket
            .parameters
            .unwrap_or_default()
            .into_iter()
            .map(|(name, value)| (name, text(value)))
            .collect(),
        on_close: socket.on_close.unwrap_or_default(),
        fallback_url: socket.fallback_url,
    }))
}

/// An address or range as a network; `None` for what is neither.
pub fn network(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// The codecs of `allow` that are not in `disallow`, in `allow`'s order. `disallow` = `all` is the usual form
/// and means "those of `allow` alone".
pub fn codecs(allow: &str, disallow: &str) -> Vec<Codec> {
    // "all" is what every carrier takes: wideband calls are held in four times the memory, and are asked for by name.
    fn codec(word: &str) -> &'static [Codec] {
        match word {
            "all" => &[Codec::PCMU, Codec::PCMA],
            "ulaw" | "mulaw" | "pcmu" | "g711u" => &[Codec::PCMU],
            "alaw" | "pcma" | "g711a" => &[Codec::PCMA],
            "g722" => &[Codec::G722],
            _ => &[],
        }
    }
    let words = |list: &str| {
        list.split(',')
            .map(|word| word.trim().to_ascii_lowercase())
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>()
    };
    let refused: Vec<Codec> = words(disallow)
        .iter()
        .filter(|word| *word != "all")
        .flat_map(|word| codec(word).iter().copied())
        .collect();
    let mut codecs = Vec::new();
    for one in words(allow).iter().flat_map(|word| codec(word).iter().copied()) {
        if !refused.contains(&one) && !codecs.contains(&one) {
            codecs.push(one);
        }
    }
    codecs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codecs_keep_the_order_of_allow() {
        assert_eq!(codecs("alaw, ulaw", "all"), [Codec::PCMA, Codec::PCMU]);
        assert_eq!(codecs("ulaw,alaw", "alaw"), [Codec::PCMU]);
        assert_eq!(codecs("all", ""), [Codec::PCMU, Codec::PCMA]);
        assert_eq!(codecs("g729,PCMA", "all"), [Codec::PCMA]);
        assert_eq!(codecs("G722, ulaw,alaw", "all"), [Codec::G722, Codec::PCMU, Codec::PCMA]);
        assert_eq!(codecs("g729", "all"), []);
    }

    #[test]
    fn a_bare_address_is_a_network_of_one() {
        assert_eq!(network("203.0.113.5"), Some("203.0.113.5/32".parse().unwrap()));
        assert_eq!(network("2001:db8::/32"), Some("2001:db8::/32".parse().unwrap()));
        assert_eq!(network("example.com"), None);
    }
}
