//! What routing reads: trunks, numbers and agents as one immutable snapshot, found by digits and by source.
//!
//! What it refuses to do: change, or decide. The shell builds a new one from the store on every change and hands it over
//! whole; [`crate::route`] decides. Rows that contradict each other (a number on another account's trunk) are left out
//! and counted, never half-used: no row of one account can reach into another.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use prefix_trie::joint::JointPrefixMap;
use smallvec::SmallVec;
use tandem_agent::DialectConfig;
use tandem_media::Law;
use tandem_sip::Transport;

use crate::bridge::OnClose;
use crate::dialled;
use crate::ids::{AccountId, AgentId, NumberId, TrunkId};

/// How a trunk proves who it is when it calls us.
#[derive(Clone, PartialEq, Eq)]
pub enum TrunkAuth {
    /// By the address it calls from ([`Trunk::sources`]).
    IpBased,
    /// By digest. `sources`, when given, narrow it further.
    UserPass {
        /// The digest user name.
        username: String,
        /// The password, never printed.
        password: String,
    },
}

impl fmt::Debug for TrunkAuth {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::IpBased => formatter.write_str("IpBased"),
            Self::UserPass { username, password: _ } => {
                formatter.debug_struct("UserPass").field("username", username).finish_non_exhaustive()
            }
        }
    }
}

/// Where a trunk's outbound calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Host name or address.
    pub address: String,
    /// Port.
    pub port: u16,
    /// Lower goes first.
    pub priority: u32,
}

/// Whether media must be encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MediaEncryption {
    /// Plain RTP.
    No,
    /// SRTP with keys in the SDP (RFC 4568).
    Sdes,
}

/// The bounds of one trunk; `None` is no bound.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TrunkLimits {
    /// Concurrent calls, both directions together.
    pub calls_total: Option<u32>,
    /// Concurrent inbound calls.
    pub calls_in: Option<u32>,
    /// Concurrent outbound calls.
    pub calls_out: Option<u32>,
    /// New calls per second, inbound; a burst of one second's worth passes.
    pub calls_per_second: Option<f64>,
}

/// A carrier's trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Trunk {
    /// Its name in the store.
    pub id: TrunkId,
    /// Whose it is.
    pub account: AccountId,
    /// What its owner calls it; appears in verdicts.
    pub name: String,
    /// Switched on at all.
    pub is_active: bool,
    /// Takes calls from the carrier.
    pub inbound_enabled: bool,
    /// How it proves itself.
    pub auth: TrunkAuth,
    /// The ranges it calls from.
    pub sources: Vec<IpNet>,
    /// Where its outbound calls go, in any order.
    pub gateways: Vec<Gateway>,
    /// Codecs allowed, the preferred first.
    pub codecs: Vec<Law>,
    /// Transport of outbound calls.
    pub transport: Transport,
    /// Let media flow past the node (accepted, and not done yet).
    pub direct_media: bool,
    /// Send RTP to where it comes from, not where the SDP says.
    pub rtp_symmetric: bool,
    /// Answer to the source port even without `rport` (RFC 3581).
    pub force_rport: bool,
    /// Offer ICE candidates (accepted, and not done yet).
    pub ice_support: bool,
    /// Whether media must be encrypted.
    pub media_encryption: MediaEncryption,
    /// With encryption on: take plain RTP when the carrier offers no key.
    pub media_encryption_optimistic: bool,
    /// Seconds between OPTIONS to the gateways; 0 is never.
    pub qualify_frequency_s: u32,
    /// Its bounds.
    pub limits: TrunkLimits,
    /// Put `+` before the dialled number of outbound calls.
    pub outbound_leading_plus: bool,
}

impl Trunk {
    /// A trunk with an identity and the API's defaults, taking inbound calls from nowhere yet.
    pub fn new(id: impl Into<TrunkId>, account: impl Into<AccountId>, name: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            account: account.into(),
            name: name.into(),
            is_active: true,
            inbound_enabled: false,
            auth: TrunkAuth::IpBased,
            sources: Vec::new(),
            gateways: Vec::new(),
            codecs: vec![Law::Mulaw, Law::Alaw],
            transport: Transport::Udp,
            direct_media: false,
            rtp_symmetric: true,
            force_rport: true,
            ice_support: true,
            media_encryption: MediaEncryption::No,
            media_encryption_optimistic: false,
            qualify_frequency_s: 60,
            limits: TrunkLimits::default(),
            outbound_leading_plus: true,
        }
    }

    /// The longest of the trunk's ranges that holds the address, as its prefix length.
    pub fn range_of(&self, source: IpAddr) -> Option<u8> {
        self.sources.iter().filter(|range| range.contains(&source)).map(IpNet::prefix_len).max()
    }

    /// The range that shares the longest prefix with the address; `None` when none is of its family.
    pub fn nearest_range(&self, source: IpAddr) -> Option<IpNet> {
        self.sources
            .iter()
            .filter_map(|range| common_bits(*range, source).map(|bits| (bits, *range)))
            .max_by_key(|(bits, range)| (*bits, range.prefix_len()))
            .map(|(_, range)| range)
    }
}

/// How many leading bits of a range's address the source shares.
fn common_bits(range: IpNet, source: IpAddr) -> Option<u32> {
    match (range, source) {
        (IpNet::V4(range), IpAddr::V4(source)) => {
            Some((u32::from(range.network()) ^ u32::from(source)).leading_zeros())
        }
        (IpNet::V6(range), IpAddr::V6(source)) => {
            Some((u128::from(range.network()) ^ u128::from(source)).leading_zeros())
        }
        (IpNet::V4(_), IpAddr::V6(_)) | (IpNet::V6(_), IpAddr::V4(_)) => None,
    }
}

/// A number (DID) on a trunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Number {
    /// Its name in the store.
    pub id: NumberId,
    /// Whose it is: the trunk's account, or the row is left out.
    pub account: AccountId,
    /// The trunk it is on.
    pub trunk: TrunkId,
    /// As its owner wrote it.
    pub number: String,
    /// Switched on.
    pub is_active: bool,
    /// The agent that answers.
    pub agent: Option<AgentId>,
}

/// Where and how an agent is spoken to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentSocket {
    /// `ws://` or `wss://`, a template over the call's facts.
    pub url: String,
    /// The dialect and its settings.
    pub dialect: DialectConfig,
    /// Headers of the upgrade request; values are templates.
    pub headers: Vec<(String, String)>,
    /// WebSocket subprotocol to offer.
    pub subprotocol: Option<String>,
    /// Parameters told to the agent at the start; values are templates.
    pub parameters: Vec<(String, String)>,
    /// What the agent's close means.
    pub on_close: OnClose,
    /// Tried when `url` cannot be reached; a template too.
    pub fallback_url: Option<String>,
}

/// A voice agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// Its name in the store.
    pub id: AgentId,
    /// Whose it is.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// How it is reached; without it, it cannot be called.
    pub socket: Option<AgentSocket>,
}

/// One number as the table keeps it: its trunk and agent as places, so that a million of them stay small.
#[derive(Debug)]
pub(crate) struct NumberEntry {
    pub(crate) id: NumberId,
    /// As its owner wrote it.
    pub(crate) number: Box<str>,
    /// As it is looked up.
    pub(crate) key: Arc<str>,
    pub(crate) trunk: u32,
    pub(crate) is_active: bool,
    pub(crate) agent: AgentLink,
}

/// A number's agent.
#[derive(Debug, Clone)]
pub(crate) enum AgentLink {
    Unmapped,
    Missing(AgentId),
    Mapped(u32),
}

/// The snapshot. Shared as `Arc<RoutingTable>`; a lookup is two hash probes and no allocation.
pub struct RoutingTable {
    version: u64,
    trunks: Vec<Arc<Trunk>>,
    trunk_places: HashMap<TrunkId, u32>,
    agents: Vec<Arc<Agent>>,
    numbers: Vec<NumberEntry>,
    by_key: HashMap<Arc<str>, SmallVec<[u32; 2]>>,
    /// Number places ordered by their key read backwards: numbers that end alike stand together.
    by_tail: Vec<u32>,
    by_source: JointPrefixMap<IpNet, Vec<u32>>,
    by_username: HashMap<Box<str>, SmallVec<[u32; 2]>>,
    left_out: usize,
}

impl fmt::Debug for RoutingTable {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RoutingTable")
            .field("version", &self.version)
            .field("trunks", &self.trunks.len())
            .field("numbers", &self.numbers.len())
            .field("agents", &self.agents.len())
            .finish_non_exhaustive()
    }
}

impl Default for RoutingTable {
    fn default() -> Self {
        Self::build(0, Vec::new(), Vec::new(), Vec::new())
    }
}

impl RoutingTable {
    /// Builds the snapshot. Order matters only among equals: of two numbers that fit an INVITE equally well the first
    /// given wins, so give the oldest first.
    pub fn build(version: u64, trunks: Vec<Trunk>, numbers: Vec<Number>, agents: Vec<Agent>) -> Self {
        let trunk_places = places(&trunks, |trunk| trunk.id.as_str());
        let agent_places = places(&agents, |agent| agent.id.as_str());
        let mut by_key: HashMap<Arc<str>, SmallVec<[u32; 2]>> = HashMap::with_capacity(numbers.len());
        let mut entries: Vec<NumberEntry> = Vec::with_capacity(numbers.len());
        let given = numbers.len();
        for number in numbers {
            let trunk = trunk_places.get(number.trunk.as_str()).copied();
            let trunk = trunk.filter(|place| trunks[*place as usize].account == number.account);
            let (Some(trunk), Some(key)) = (trunk, dialled::stored_key(&number.number)) else { continue };
            let agent = match number.agent {
                None => AgentLink::Unmapped,
                Some(id) => match agent_places.get(id.as_str()) {
                    Some(place) if agents[*place as usize].account == number.account => {
                        AgentLink::Mapped(*place)
                    }
                    Some(_) | None => AgentLink::Missing(id),
                },
            };
            let key: Arc<str> = key.into();
            by_key.entry(Arc::clone(&key)).or_default().push(place(entries.len()));
            entries.push(NumberEntry {
                id: number.id,
                number: number.number.into_boxed_str(),
                key,
                trunk,
                is_active: number.is_active,
                agent,
            });
        }
        let mut by_tail: Vec<u32> = (0..entries.len()).map(place).collect();
        by_tail.sort_by(|left, right| {
            backwards(&entries[*left as usize].key).cmp(backwards(&entries[*right as usize].key))
        });
        let left_out = given - entries.len();
        drop((trunk_places, agent_places));
        Self {
            version,
            by_source: sources(&trunks),
            by_username: usernames(&trunks),
            trunk_places: trunks
                .iter()
                .enumerate()
                .map(|(index, trunk)| (trunk.id.clone(), place(index)))
                .collect(),
            trunks: trunks.into_iter().map(Arc::new).collect(),
            agents: agents.into_iter().map(Arc::new).collect(),
            numbers: entries,
            by_key,
            by_tail,
            left_out,
        }
    }

    /// The number the shell gave this snapshot.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// How many number rows were left out because they contradict the rest: no such trunk, another account's trunk, or
    /// nothing that can be dialled.
    pub fn left_out(&self) -> usize {
        self.left_out
    }

    /// The trunk of that name.
    pub fn trunk(&self, id: &TrunkId) -> Option<&Arc<Trunk>> {
        self.trunk_places.get(id).map(|place| self.trunk_at(*place))
    }

    /// All trunks, in the order given.
    pub fn trunks(&self) -> impl Iterator<Item = &Arc<Trunk>> {
        self.trunks.iter()
    }

    /// How many numbers can be called.
    pub fn number_count(&self) -> usize {
        self.numbers.len()
    }

    /// Whether any trunk of the node lets the address call.
    pub fn knows_source(&self, source: IpAddr) -> bool {
        self.by_source.get_lpm(&IpNet::from(source.to_canonical())).is_some()
    }

    /// Trunks whose ranges hold the address, those of the longest prefix first.
    pub fn trunks_of_source(&self, source: IpAddr) -> impl Iterator<Item = (u8, &Arc<Trunk>)> {
        let covering: SmallVec<[(IpNet, &Vec<u32>); 8]> =
            self.by_source.cover(&IpNet::from(source.to_canonical())).collect();
        covering.into_iter().rev().flat_map(move |(range, trunks)| {
            trunks.iter().map(move |place| (range.prefix_len(), self.trunk_at(*place)))
        })
    }

    /// Whether any trunk takes inbound calls by digest: only then is a stranger worth a challenge.
    pub fn has_digest_trunks(&self) -> bool {
        !self.by_username.is_empty()
    }

    /// Trunks that take inbound calls with this digest user name, in the order given.
    pub fn trunks_of_username(&self, username: &str) -> impl Iterator<Item = &Arc<Trunk>> {
        self.by_username.get(username).into_iter().flatten().map(|place| self.trunk_at(*place))
    }

    /// Numbers found by a key of [`dialled::key`].
    pub(crate) fn numbers_of_key(&self, key: &str) -> impl Iterator<Item = &NumberEntry> {
        self.by_key.get(key).into_iter().flatten().map(|place| &self.numbers[*place as usize])
    }

    /// Numbers whose digits end with these, the shortest first.
    pub(crate) fn numbers_ending_with<'a>(
        &'a self,
        digits: &'a str,
    ) -> impl Iterator<Item = &'a NumberEntry> {
        let number = |place: &u32| &self.numbers[*place as usize];
        let start = self.by_tail.partition_point(|place| backwards(&number(place).key).lt(backwards(digits)));
        self.by_tail[start..].iter().map(number).take_while(move |entry| entry.key.ends_with(digits))
    }

    pub(crate) fn trunk_at(&self, place: u32) -> &Arc<Trunk> {
        &self.trunks[place as usize]
    }

    pub(crate) fn agent_at(&self, place: u32) -> &Arc<Agent> {
        &self.agents[place as usize]
    }
}

/// A row's place. A table of four billion rows does not fit the memory of the node.
fn place(index: usize) -> u32 {
    u32::try_from(index).expect("a table has fewer than 2^32 rows")
}

fn backwards(key: &str) -> impl Iterator<Item = u8> + '_ {
    key.bytes().rev()
}

fn places<'a, T>(rows: &'a [T], id: impl Fn(&'a T) -> &'a str) -> HashMap<&'a str, u32> {
    rows.iter().enumerate().map(|(index, row)| (id(row), place(index))).collect()
}

fn sources(trunks: &[Trunk]) -> JointPrefixMap<IpNet, Vec<u32>> {
    let mut map: JointPrefixMap<IpNet, Vec<u32>> = JointPrefixMap::new();
    for (index, trunk) in trunks.iter().enumerate() {
        for range in &trunk.sources {
            map.entry(range.trunc()).or_default().push(place(index));
        }
    }
    map
}

fn usernames(trunks: &[Trunk]) -> HashMap<Box<str>, SmallVec<[u32; 2]>> {
    let mut map: HashMap<Box<str>, SmallVec<[u32; 2]>> = HashMap::new();
    for (index, trunk) in trunks.iter().enumerate() {
        match &trunk.auth {
            TrunkAuth::UserPass { username, .. } if trunk.is_active && trunk.inbound_enabled => {
                map.entry(username.clone().into_boxed_str()).or_default().push(place(index));
            }
            TrunkAuth::UserPass { .. } | TrunkAuth::IpBased => {}
        }
    }
    map
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_on_another_accounts_trunk_is_left_out() {
        let table = RoutingTable::build(
            1,
            vec![Trunk::new("t", "a", "one")],
            vec![
                number("mine", "a", "t", "+1"),
                number("theirs", "b", "t", "+2"),
                number("lost", "a", "u", "+3"),
            ],
            Vec::new(),
        );
        assert_eq!(table.number_count(), 1);
        assert_eq!(table.left_out(), 2);
        assert!(table.numbers_of_key("2").next().is_none());
    }

    #[test]
    fn an_agent_of_another_account_is_missing_rather_than_reached() {
        let mut mapped = number("n", "a", "t", "+1");
        mapped.agent = Some("g".into());
        let agent = Agent { id: "g".into(), account: "b".into(), name: String::new(), socket: None };
        let table = RoutingTable::build(1, vec![Trunk::new("t", "a", "one")], vec![mapped], vec![agent]);
        let entry = table.numbers_of_key("1").next().unwrap();
        assert!(matches!(&entry.agent, AgentLink::Missing(id) if id.as_str() == "g"));
    }

    #[test]
    fn trunks_of_a_source_come_longest_prefix_first_and_mapped_addresses_are_ipv4() {
        let mut wide = Trunk::new("wide", "a", "wide");
        wide.sources = vec!["10.0.0.0/8".parse().unwrap()];
        let mut narrow = Trunk::new("narrow", "b", "narrow");
        // Host bits in a stored range do not hide it.
        narrow.sources = vec!["10.1.2.3/16".parse().unwrap()];
        let table = RoutingTable::build(1, vec![wide, narrow], Vec::new(), Vec::new());
        let names = |source: &str| -> Vec<(u8, String)> {
            let source = source.parse().unwrap();
            table.trunks_of_source(source).map(|(bits, trunk)| (bits, trunk.name.clone())).collect()
        };
        assert_eq!(names("10.1.9.9"), [(16, "narrow".to_owned()), (8, "wide".to_owned())]);
        assert_eq!(names("::ffff:10.9.9.9"), [(8, "wide".to_owned())]);
        assert!(names("192.0.2.1").is_empty());
        assert!(!table.knows_source("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn the_nearest_range_shares_the_longest_prefix() {
        let mut trunk = Trunk::new("t", "a", "one");
        trunk.sources = ["198.51.100.0/24", "192.0.2.0/29", "192.0.0.0/24", "2001:db8::/32"]
            .iter()
            .map(|range| range.parse().unwrap())
            .collect();
        let nearest =
            |source: &str| trunk.nearest_range(source.parse().unwrap()).map(|range| range.to_string());
        assert_eq!(nearest("192.0.2.9").as_deref(), Some("192.0.2.0/29"));
        assert_eq!(nearest("2001:db9::1").as_deref(), Some("2001:db8::/32"));
        trunk.sources.pop();
        assert_eq!(trunk.nearest_range("2001:db9::1".parse().unwrap()), None);
    }

    #[test]
    fn numbers_that_end_alike_are_found_together() {
        let rows = ["+918047102030", "+448047102030", "8047102030", "+18047102031"];
        let numbers = rows.iter().map(|row| number(row, "a", "t", row)).collect();
        let table = RoutingTable::build(1, vec![Trunk::new("t", "a", "one")], numbers, Vec::new());
        let found: Vec<_> = table.numbers_ending_with("8047102030").map(|entry| &*entry.number).collect();
        assert_eq!(found, ["8047102030", "+918047102030", "+448047102030"]);
    }

    #[test]
    fn a_password_is_never_printed() {
        let auth = TrunkAuth::UserPass { username: "u".into(), password: "secret".into() };
        assert!(!format!("{auth:?}").contains("secret"));
    }

    fn number(id: &str, account: &str, trunk: &str, number: &str) -> Number {
        Number {
            id: id.into(),
            account: account.into(),
            trunk: trunk.into(),
            number: number.to_owned(),
            is_active: true,
            agent: None,
        }
    }
}
