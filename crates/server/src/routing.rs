//! From the store to the engine: rows become the routing table, and the table is in the engine's hands before
//! the API answers the request that changed it.
//!
//! A table is made from the one before it and the rows that changes touched ([`Store::changes`]), so a change costs
//! what it changes, and everything is read once, in pages, at the start. Requests to refresh are gathered: whatever
//! was committed before a reading began is in that reading. What other processes change over the same database is
//! looked for several times a second. A row the table cannot express is left out and logged.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

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
use tokio::sync::{mpsc, oneshot};

use crate::agent_rules::agent_rules;
use crate::store::{
    self, ChangedRows, Changes, Store, StoreError, StoredAgent, StoredNumber, StoredTrunk, TransportKind,
    TrunkSettings, now_ms,
};

/// Refreshes that may wait; each belongs to one API request, which the listener bounds too.
const WAITING: usize = 1_024;

/// How often changes of other processes are looked for: with the reading and the swap, another node's change is
/// routed by here within half a second.
const GLANCE: Duration = Duration::from_millis(250);

/// How often old changes are forgotten.
const TIDY: Duration = Duration::from_secs(600);

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

/// Why a change that is stored is not routed by yet.
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
}

impl RoutingPublisher {
    /// Starts the task that reads the store and hands tables to `engine`. It ends when every publisher is
    /// dropped.
    pub fn start(store: Store, engine: mpsc::Sender<TableUpdate>) -> Self {
        let (requests, waiting) = mpsc::channel(WAITING);
        let current = Arc::new(ArcSwap::from_pointee(RoutingTable::default()));
        let task = Publication { store, engine, current: Arc::clone(&current), read: None };
        tokio::spawn(task.run(waiting));
        Self { requests, current }
    }

    /// Reads what changed in the store and returns once the engine routes by what it holds now.
    ///
    /// # Errors
    /// When the store cannot be read or the engine is gone; what was stored stays stored, and the reload is
    /// tried again by itself.
    pub async fn refresh(&self) -> Result<(), PublishError> {
        let (done, outcome) = oneshot::channel();
        self.requests.send(done).await.map_err(|_| PublishError::Stopped)?;
        outcome.await.map_err(|_| PublishError::Stopped)?
    }

    /// The table the engine routes by.
    pub fn current(&self) -> Arc<RoutingTable> {
        self.current.load_full()
    }
}

struct Publication {
    store: Store,
    engine: mpsc::Sender<TableUpdate>,
    current: Arc<ArcSwap<RoutingTable>>,
    /// The last change that is in the current table; `None` until everything was read once.
    read: Option<i64>,
}

impl Publication {
    async fn run(mut self, mut waiting: mpsc::Receiver<oneshot::Sender<Result<(), PublishError>>>) {
        let mut served = Vec::new();
        let mut glance = tokio::time::interval(GLANCE);
        glance.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut tidy = tokio::time::interval(TIDY);
        tidy.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_behind = false;
        loop {
            tokio::select! {
                count = waiting.recv_many(&mut served, WAITING) => if count == 0 { return },
                _ = glance.tick(), if self.read.is_some() => {}
                _ = tidy.tick() => {
                    if let Err(error) = self.store.forget_changes().await {
                        tracing::warn!(%error, "old changes were not forgotten");
                    }
                    continue;
                }
            }
            let outcome = self.publish().await;
            if let Err(error) = &outcome {
                metrics::counter!("tandem_routing_failures_total").increment(1);
                if !is_behind || !served.is_empty() {
                    tracing::error!(%error, "routing is behind the store");
                }
            }
            is_behind = outcome.is_err();
            for request in served.drain(..) {
                // A client that went away needs no answer; its change is published all the same.
                request.send(outcome.clone()).ok();
            }
        }
    }

    /// Brings the engine up to what the store holds.
    async fn publish(&mut self) -> Result<(), PublishError> {
        let began = tokio::time::Instant::now();
        let before = self.current.load_full();
        let (table, read, trunks) =
            self.next_table(&before).await.map_err(|error| PublishError::Store(Arc::new(error)))?;
        let Some(mut table) = table else { return Ok(()) };
        table.set_version(before.version() + 1);
        let table = Arc::new(table);
        let (taken, is_taken) = oneshot::channel();
        let update = TableUpdate { table: Arc::clone(&table), trunks, taken };
        self.engine.send(update).await.map_err(|_| PublishError::Stopped)?;
        is_taken.await.map_err(|_| PublishError::Stopped)?;
        metrics::gauge!("tandem_routing_numbers").set(table.number_count() as f64);
        metrics::histogram!("tandem_routing_publish_delay_seconds").record(began.elapsed().as_secs_f64());
        tracing::debug!(version = table.version(), numbers = table.number_count(), "routing published");
        self.current.store(table);
        self.read = Some(read);
        Ok(())
    }

    /// The table after the one given, unless nothing changed, the last change in it, and the trunks that changed.
    async fn next_table(&self, before: &RoutingTable) -> Result<Next, StoreError> {
        let Some(mut read) = self.read else { return self.whole_table(before).await };
        let (mut table, mut trunks) = (None, Vec::new());
        loop {
            match self.store.changes(read).await? {
                Changes::None => return Ok((table, read, trunks)),
                Changes::Unknown => return self.whole_table(before).await,
                Changes::Rows(rows) => {
                    read = rows.upto;
                    let has_more = rows.has_more;
                    note_foreign(&rows);
                    let limited = bounded(rows.agents.iter().filter_map(|(_, agent)| agent.as_ref()));
                    let next = table.get_or_insert_with(|| before.clone());
                    trunks.extend(rows.trunks.iter().map(|(id, _)| TrunkId::from(id.as_str())));
                    apply(next, *rows);
                    count_answered(&self.store, next, limited).await?;
                    if !has_more {
                        return Ok((table, read, trunks));
                    }
                }
            }
        }
    }

    async fn whole_table(&self, before: &RoutingTable) -> Result<Next, StoreError> {
        metrics::counter!("tandem_routing_reloads_total").increment(1);
        // What changes while pages are read is read again after them, by its number.
        let read = self.store.last_change().await?;
        let mut table = read_whole(&self.store).await?;
        table.set_version(self.current.load().version());
        // Those that are gone too: of them nothing is to be watched any more.
        let trunks = before.trunks().chain(table.trunks()).map(|trunk| trunk.id.clone()).collect();
        Ok((Some(table), read, trunks))
    }
}

/// The next table, if there is one, the last change in it, and the trunks that changed.
type Next = (Option<RoutingTable>, i64, Vec<TrunkId>);

/// Another process's changes, and how old the oldest was when it came to be known, by the clocks of both.
fn note_foreign(rows: &ChangedRows) {
    let Some((count, at)) = rows.foreign else { return };
    metrics::counter!("tandem_routing_foreign_changes_total").increment(count);
    let age = Duration::from_millis(now_ms().saturating_sub(at).max(0).unsigned_abs());
    metrics::histogram!("tandem_routing_foreign_delay_seconds").record(age.as_secs_f64());
}

/// Agents of these whose owner bounds the calls of one caller: their calls so far are read too.
fn bounded<'a>(agents: impl Iterator<Item = &'a StoredAgent>) -> Vec<(String, String)> {
    agents
        .filter(|agent| agent_rules(&agent.body).inbound_limit.is_some())
        .map(|agent| (agent.account.clone(), agent.id.clone()))
        .collect()
}

async fn count_answered(
    store: &Store,
    table: &mut RoutingTable,
    agents: Vec<(String, String)>,
) -> Result<(), StoreError> {
    for (account, agent) in agents {
        let answered = store.answered_calls(&account, &agent).await?;
        table.set_answered(agent.into(), answered);
    }
    Ok(())
}

fn apply(table: &mut RoutingTable, rows: ChangedRows) {
    for (account, is_exhausted) in rows.accounts {
        table.set_exhausted(account.into(), is_exhausted);
    }
    for (id, stored) in rows.trunks {
        match stored {
            Some(stored) => table.put_trunk(trunk(stored)),
            None => table.remove_trunk(&id.into()),
        }
    }
    for (id, stored) in rows.agents {
        match stored {
            Some(stored) => table.put_agent(agent(stored)),
            None => table.remove_agent(&id.into()),
        }
    }
    for (id, stored) in rows.numbers {
        match stored {
            Some(stored) => table.put_number(number(stored)),
            None => table.remove_number(&id.into()),
        }
    }
}

/// Reads every trunk, number and agent of the store, page by page, into a table of its own.
///
/// # Errors
/// When the database fails or a secret cannot be opened.
pub async fn read_whole(store: &Store) -> Result<RoutingTable, StoreError> {
    let mut table = RoutingTable::default();
    let mut last = String::new();
    loop {
        let page = store.page_of_trunks(&last).await?;
        let Some(end) = page.last() else { break };
        last.clone_from(&end.id);
        page.into_iter().for_each(|stored| table.put_trunk(trunk(stored)));
    }
    last.clear();
    loop {
        let page = store.page_of_agents(&last).await?;
        let Some(end) = page.last() else { break };
        last.clone_from(&end.id);
        let limited = bounded(page.iter());
        page.into_iter().for_each(|stored| table.put_agent(agent(stored)));
        count_answered(store, &mut table, limited).await?;
    }
    last.clear();
    loop {
        let page = store.page_of_numbers(&last).await?;
        let Some(end) = page.last() else { break };
        last.clone_from(&end.id);
        page.into_iter().for_each(|stored| table.put_number(number(stored)));
    }
    for account in store.exhausted_accounts().await? {
        table.set_exhausted(account.into(), true);
    }
    Ok(table)
}

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
        name: settings.name,
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
                port: gateway.port,
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
        (None, Some(gateway)) => (gateway.address.clone(), Some(gateway.port), kind),
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
    let rules = agent_rules(&stored.body);
    Agent {
        id: stored.id.into(),
        account: stored.account.into(),
        name: stored.name,
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
