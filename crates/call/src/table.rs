//! What routing reads: trunks, numbers and agents as one immutable snapshot, found by digits and by source.
//!
//! A snapshot that is shared never changes. A copy costs nothing, and rows put into it or taken out of it cost what they
//! are: whatever did not change is shared with the snapshot before. So a million numbers stand behind a change of one.
//!
//! What it refuses to do: decide ([`crate::route`] does), or trust. Rows that contradict each other (a number on another
//! account's trunk) are kept and never found: no row of one account can reach into another.

mod hash_tree;
mod index;
mod numbers;
mod ordered_set;
mod ranges;
mod shared_map;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use smallvec::SmallVec;
use tandem_agent::DialectConfig;
use tandem_media::Codec;
use tandem_sip::Transport;

use crate::agent_rules::AgentRules;
use crate::bridge::OnClose;
use crate::ids::{AccountId, AgentId, NumberId, TrunkId};
use crate::outbound_policy::OutboundPolicy;
use crate::short_text::ShortText;
use crate::transfer::TransferPolicy;
use hash_tree::hash_of;
use index::{Index, Key};
pub(crate) use numbers::NumberEntry;
use numbers::NumberIndex;
use ordered_set::OrderedSet;
use ranges::Ranges;
use shared_map::SharedMap;

pub(crate) use numbers::TAIL;

/// How a trunk proves who it is when it calls us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrunkAuth {
    /// By the address it calls from ([`Trunk::sources`]).
    IpBased,
    /// By digest, with any one of these. `sources`, when given, narrow it further.
    UserPass(Vec<Credential>),
}

impl TrunkAuth {
    /// By digest with one user name.
    pub fn user_pass(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self::UserPass(vec![Credential { username: username.into(), password: password.into() }])
    }

    /// What proves the trunk by digest; nothing when it goes by address.
    pub fn credentials(&self) -> &[Credential] {
        match self {
            Self::IpBased => &[],
            Self::UserPass(credentials) => credentials,
        }
    }
}

/// One user name and password of digest.
#[derive(Clone, PartialEq, Eq)]
pub struct Credential {
    /// The digest user name.
    pub username: String,
    /// The password, never printed.
    pub password: String,
}

impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").field("username", &self.username).finish_non_exhaustive()
    }
}

/// Where a trunk's outbound calls go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gateway {
    /// Host name or address.
    pub address: String,
    /// Port; none where the server's SRV records tell it (RFC 3263 section 4.2).
    pub port: Option<u16>,
    /// Lower goes first.
    pub priority: u32,
    /// Among equals, the larger gets more of the calls.
    pub weight: u32,
    /// Its own transport, where it is not the trunk's.
    pub transport: Option<Transport>,
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
    /// New calls per second, in each direction by itself; a burst of one second's worth passes.
    pub calls_per_second: Option<f64>,
}

/// A carrier's trunk.
#[derive(Clone, Debug, PartialEq)]
pub struct Trunk {
    /// Its name in the store.
    pub id: TrunkId,
    /// Whose it is.
    pub account: AccountId,
    /// What its owner calls it; appears in verdicts. In place, as `sources` are: a decision follows no pointer for them.
    pub name: ShortText,
    /// Switched on at all.
    pub is_active: bool,
    /// Takes calls from the carrier.
    pub inbound_enabled: bool,
    /// Places calls by the carrier.
    pub outbound_enabled: bool,
    /// Who answers a number that has no agent of its own.
    pub default_agent: Option<AgentId>,
    /// How it proves itself.
    pub auth: TrunkAuth,
    /// The ranges it calls from.
    pub sources: SmallVec<[IpNet; 2]>,
    /// Where its outbound calls go, in any order.
    pub gateways: Vec<Gateway>,
    /// Codecs allowed, the preferred first.
    pub codecs: Vec<Codec>,
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
    /// Whom outbound calls are shown to come from, where it is not the number they are placed by.
    pub caller_id: Option<String>,
    /// How its calls may be transferred.
    pub transfers: TransferPolicy,
    /// How its calls leave.
    pub outbound: OutboundPolicy,
    /// Where it is registered, so that the carrier sends its calls here.
    pub registration: Option<Registration>,
}

/// What a trunk registers, and where (RFC 3261 section 10.2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Host name or address of the registrar.
    pub registrar: String,
    /// Its port, where one is given.
    pub port: Option<u16>,
    /// The transport it is spoken to by.
    pub transport: Transport,
    /// The host of the address of record, and the Request-URI.
    pub domain: String,
    /// The only realm whose challenges are answered; any, where none is given. It holds for calls too.
    pub realm: Option<String>,
    /// The user of the address of record.
    pub user: String,
    /// The user of the Contact: what the carrier calls.
    pub contact_user: String,
    /// The time asked for, in seconds.
    pub expires_s: u32,
    /// What challenges are answered with.
    pub credential: Credential,
}

impl Trunk {
    /// A trunk with an identity and the API's defaults, taking inbound calls from nowhere yet.
    pub fn new(id: impl Into<TrunkId>, account: impl Into<AccountId>, name: impl Into<ShortText>) -> Self {
        Self {
            id: id.into(),
            account: account.into(),
            name: name.into(),
            is_active: true,
            inbound_enabled: false,
            outbound_enabled: true,
            default_agent: None,
            auth: TrunkAuth::IpBased,
            sources: SmallVec::new(),
            gateways: Vec::new(),
            codecs: vec![Codec::PCMU, Codec::PCMA],
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
            caller_id: None,
            transfers: TransferPolicy::default(),
            registration: None,
            outbound: OutboundPolicy::default(),
        }
    }

    /// Asks memory for all the lines together that a decision reads: read one by one, a trunk that is in no cache would be
    /// waited for once for each.
    fn fetch(&self) {
        black_box((
            [self.id.octets(), self.account.octets(), self.name.octets()],
            self.default_agent.is_some(),
            self.auth.credentials().len(),
            self.sources.first().map(IpNet::prefix_len),
            self.codecs.first().copied(),
            (self.is_active, self.inbound_enabled, self.direct_media, self.media_encryption),
        ));
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
    /// How the carrier writes it in a Request-URI, where that is not the number itself.
    pub destination_key: Option<String>,
    /// Switched on.
    pub is_active: bool,
    /// The agent that answers.
    pub agent: Option<AgentId>,
    /// Its calls are for the trunk's own destinations and not for an agent.
    pub is_for_pstn: bool,
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
    pub name: ShortText,
    /// How it is reached; without it, it cannot be called.
    pub socket: Option<Arc<AgentSocket>>,
    /// What its owner asks of its calls.
    pub rules: AgentRules,
}

/// A number with the trunk it is on.
pub(crate) type NumberOnTrunk<'a> = (&'a NumberEntry, &'a Arc<Trunk>);

/// The snapshot. Shared as `Arc<RoutingTable>`; a look-up is a few probes and no allocation. Cloning is cheap.
#[derive(Clone, Default)]
pub struct RoutingTable {
    version: u64,
    trunks: Index<Trunk, ById>,
    agents: Index<Agent, ById>,
    numbers: NumberIndex,
    by_source: Ranges,
    by_username: SharedMap<Box<str>, OrderedSet<TrunkId>>,
    /// Accounts whose balance is used up.
    exhausted: SharedMap<AccountId, ()>,
    /// Calls answered so far, by caller, of agents that bound them.
    answered: SharedMap<AgentId, Arc<BTreeMap<String, u32>>>,
}

/// Trunks and agents are found by their identifiers.
enum ById {}

impl Key<Trunk> for ById {
    fn hash(row: &Trunk) -> u64 {
        hash_of(&row.id)
    }

    fn order(left: &Trunk, right: &Trunk) -> Ordering {
        left.id.cmp(&right.id)
    }
}

impl Key<Agent> for ById {
    fn hash(row: &Agent) -> u64 {
        hash_of(&row.id)
    }

    fn order(left: &Agent, right: &Agent) -> Ordering {
        left.id.cmp(&right.id)
    }
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

impl RoutingTable {
    /// Builds a snapshot of these rows, in whatever order they come. Of two rows that fit an INVITE equally well the one
    /// whose identifier is lower wins: with identifiers that sort by time, the older.
    pub fn build(version: u64, trunks: Vec<Trunk>, numbers: Vec<Number>, agents: Vec<Agent>) -> Self {
        let mut table = Self { version, ..Self::default() };
        trunks.into_iter().for_each(|trunk| table.put_trunk(trunk));
        agents.into_iter().for_each(|agent| table.put_agent(agent));
        numbers.into_iter().for_each(|number| table.put_number(number));
        table
    }

    /// The number the shell gave this snapshot.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Gives the snapshot its number.
    pub fn set_version(&mut self, version: u64) {
        self.version = version;
    }

    /// Puts a trunk in, instead of the one of this identifier if there is one.
    pub fn put_trunk(&mut self, trunk: Trunk) {
        self.remove_trunk(&trunk.id);
        for range in &trunk.sources {
            self.by_source.insert(range.trunc(), &trunk.id);
        }
        for username in inbound_usernames(&trunk) {
            let mut trunks = self.by_username.get(username).cloned().unwrap_or_default();
            trunks.insert(trunk.id.clone());
            self.by_username.insert(username.into(), trunks);
        }
        self.trunks.insert(Arc::new(trunk));
    }

    /// Takes a trunk out. Its numbers stay, found by nobody until they are taken out or it comes back.
    pub fn remove_trunk(&mut self, id: &TrunkId) {
        let Some(trunk) = self.trunks.remove_by(hash_of(id), |row| row.id.cmp(id)) else { return };
        for range in &trunk.sources {
            self.by_source.remove(range.trunc(), id);
        }
        for username in inbound_usernames(&trunk) {
            let Some(mut trunks) = self.by_username.remove(username) else { continue };
            trunks.remove(id);
            if !trunks.is_empty() {
                self.by_username.insert(username.into(), trunks);
            }
        }
    }

    /// Puts a number in, instead of the one of this identifier if there is one. What can never be dialled is left out.
    pub fn put_number(&mut self, number: Number) {
        self.numbers.put(number);
    }

    /// Takes a number out.
    pub fn remove_number(&mut self, id: &NumberId) {
        self.numbers.remove(id);
    }

    /// Puts an agent in, instead of the one of this identifier if there is one.
    pub fn put_agent(&mut self, agent: Agent) {
        self.agents.insert(Arc::new(agent));
    }

    /// Takes an agent out. Numbers mapped to it say that it is missing until they are mapped anew.
    pub fn remove_agent(&mut self, id: &AgentId) {
        self.agents.remove_by(hash_of(id), |row| row.id.cmp(id));
        self.answered.remove(id);
    }

    /// Says whether the account's balance is used up: then its trunks get no new calls.
    pub fn set_exhausted(&mut self, account: AccountId, is_exhausted: bool) {
        if is_exhausted {
            self.exhausted.insert(account, ());
        } else {
            self.exhausted.remove(&account);
        }
    }

    /// Whether the account's balance is used up.
    pub fn is_exhausted(&self, account: &AccountId) -> bool {
        self.exhausted.get(account).is_some()
    }

    /// The agent of that name.
    pub fn agent(&self, id: &AgentId) -> Option<&Arc<Agent>> {
        self.agents.of_hash(hash_of(id)).find(|agent| agent.id == *id)
    }

    /// Whether the agent bounds the calls of one caller.
    pub fn bounds_callers(&self, agent: &AgentId) -> bool {
        self.agent(agent).is_some_and(|agent| agent.rules.inbound_limit.is_some())
    }

    /// Says how many calls of each caller, known by its key, the agent has answered so far.
    pub fn set_answered(&mut self, agent: AgentId, answered: BTreeMap<String, u32>) {
        self.answered.insert(agent, Arc::new(answered));
    }

    /// How many calls of the caller the agent had answered when this snapshot was made.
    pub fn answered(&self, agent: &AgentId, caller: &str) -> u32 {
        self.answered.get(agent).and_then(|callers| callers.get(caller)).copied().unwrap_or(0)
    }

    /// How many numbers cannot be called because they contradict the rest: no such trunk, or another account's. Looks at
    /// every number.
    pub fn left_out(&self) -> usize {
        self.numbers.iter().filter(|number| self.trunk_of(number).is_none()).count()
    }

    /// The trunk of that name.
    pub fn trunk(&self, id: &TrunkId) -> Option<&Arc<Trunk>> {
        self.trunks.of_hash(hash_of(id)).find(|trunk| {
            trunk.fetch();
            trunk.id == *id
        })
    }

    /// All trunks, in no order.
    pub fn trunks(&self) -> impl Iterator<Item = &Arc<Trunk>> {
        self.trunks.iter()
    }

    /// How many numbers are held.
    pub fn number_count(&self) -> usize {
        self.numbers.len()
    }

    /// Whether any trunk of the node lets the address call.
    pub fn knows_source(&self, source: IpAddr) -> bool {
        self.by_source.hold(source.to_canonical())
    }

    /// Trunks whose ranges hold the address, those of the longest prefix first, then by identifier.
    pub fn trunks_of_source(&self, source: IpAddr) -> impl Iterator<Item = (u8, &Arc<Trunk>)> {
        self.by_source.holding(source.to_canonical()).into_iter().flat_map(move |(bits, trunks)| {
            trunks.iter().filter_map(move |id| self.trunk(id).map(|trunk| (bits, trunk)))
        })
    }

    /// Whether any trunk takes inbound calls by digest: only then is a stranger worth a challenge.
    pub fn has_digest_trunks(&self) -> bool {
        !self.by_username.is_empty()
    }

    /// Trunks that take inbound calls with this digest user name, by identifier.
    pub fn trunks_of_username(&self, username: &str) -> impl Iterator<Item = &Arc<Trunk>> {
        let trunks = self.by_username.get(username).into_iter().flat_map(OrderedSet::iter);
        trunks.filter_map(|id| self.trunk(id))
    }

    /// Numbers found by a key of [`crate::dialled::key`].
    pub(crate) fn numbers_of_key<'a>(
        &'a self,
        key: &str,
    ) -> impl Iterator<Item = NumberOnTrunk<'a>> + use<'a> {
        self.numbers.of_key(key).filter_map(|number| self.on_trunk(number))
    }

    /// Numbers that their carriers write as this key of [`crate::dialled::key`].
    pub(crate) fn numbers_of_destination<'a>(
        &'a self,
        key: &str,
    ) -> impl Iterator<Item = NumberOnTrunk<'a>> + use<'a> {
        self.numbers.of_destination(key).filter_map(|number| self.on_trunk(number))
    }

    /// Numbers whose digits end with these, at least [`TAIL`] of them, the shortest first.
    pub(crate) fn numbers_ending_with<'a>(
        &'a self,
        digits: &'a str,
    ) -> impl Iterator<Item = NumberOnTrunk<'a>> {
        self.numbers.ending_with(digits).filter_map(|number| self.on_trunk(number))
    }

    /// The agent a number is mapped to, if it exists and is of the number's account.
    pub(crate) fn agent_of(&self, number: &NumberEntry) -> Option<&Arc<Agent>> {
        let agent = self.agent(number.agent.as_ref()?)?;
        (agent.account == number.account).then_some(agent)
    }

    /// The agent that answers a trunk's numbers without one of their own, if it exists and is of the trunk's account.
    pub(crate) fn default_agent_of(&self, trunk: &Trunk) -> Option<&Arc<Agent>> {
        let agent = self.agent(trunk.default_agent.as_ref()?)?;
        (agent.account == trunk.account).then_some(agent)
    }

    /// Trunks with a range that holds this one, lies in it, or is it: those of the first `most` entries.
    pub fn trunks_overlapping(&self, range: &IpNet, most: usize) -> impl Iterator<Item = &Arc<Trunk>> {
        self.by_source.overlapping(range, most).into_iter().filter_map(|id| self.trunk(id))
    }

    fn trunk_of(&self, number: &NumberEntry) -> Option<&Arc<Trunk>> {
        self.trunk(&number.trunk).filter(|trunk| trunk.account == number.account)
    }

    fn on_trunk<'a>(&'a self, number: &'a Arc<NumberEntry>) -> Option<NumberOnTrunk<'a>> {
        Some((&**number, self.trunk_of(number)?))
    }

    /// What one snapshot holds or finds and the other does not; `None` when they route alike. Looks at everything.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let missing = |left: &Self, right: &Self| {
            left.trunks
                .iter()
                .find_map(|trunk| {
                    (right.trunk(&trunk.id) != Some(trunk)).then(|| format!("trunk {}", trunk.id))
                })
                .or_else(|| {
                    left.agents.iter().find_map(|agent| {
                        (right.agent(&agent.id) != Some(agent)).then(|| format!("agent {}", agent.id))
                    })
                })
                .or_else(|| left.numbers.missing_in(&right.numbers))
                .or_else(|| {
                    left.by_username.iter().find_map(|(name, trunks)| {
                        let there = right.by_username.get(name);
                        (!there.is_some_and(|there| there.iter().eq(trunks.iter())))
                            .then(|| format!("the user name {name}"))
                    })
                })
                .or_else(|| {
                    left.trunks.iter().flat_map(|trunk| &trunk.sources).find_map(|range| {
                        let found = |table: &Self| -> Vec<(u8, TrunkId)> {
                            let trunks = table.trunks_of_source(range.network());
                            trunks.map(|(bits, trunk)| (bits, trunk.id.clone())).collect()
                        };
                        (found(left) != found(right)).then(|| format!("the range {range}"))
                    })
                })
        };
        missing(self, other).or_else(|| missing(other, self))
    }
}

/// The digest user names by which a trunk takes calls, when it does.
fn inbound_usernames(trunk: &Trunk) -> impl Iterator<Item = &str> {
    let takes_calls = trunk.is_active && trunk.inbound_enabled;
    let credentials = if takes_calls { trunk.auth.credentials() } else { &[] };
    credentials.iter().map(|credential| credential.username.as_str())
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
        assert_eq!(table.number_count(), 3);
        assert_eq!(table.left_out(), 2);
        assert!(table.numbers_of_key("2").next().is_none());
    }

    #[test]
    fn an_agent_of_another_account_is_missing_rather_than_reached() {
        let mut mapped = number("n", "a", "t", "+1");
        mapped.agent = Some("g".into());
        let agent = Agent {
            id: "g".into(),
            account: "b".into(),
            name: "".into(),
            socket: None,
            rules: AgentRules::default(),
        };
        let table = RoutingTable::build(1, vec![Trunk::new("t", "a", "one")], vec![mapped], vec![agent]);
        let (entry, _) = table.numbers_of_key("1").next().unwrap();
        assert!(entry.agent.is_some() && table.agent_of(entry).is_none());
    }

    #[test]
    fn trunks_of_a_source_come_longest_prefix_first_and_mapped_addresses_are_ipv4() {
        let mut wide = Trunk::new("wide", "a", "wide");
        wide.sources.push("10.0.0.0/8".parse().unwrap());
        let mut narrow = Trunk::new("narrow", "b", "narrow");
        // Host bits in a stored range do not hide it.
        narrow.sources.push("10.1.2.3/16".parse().unwrap());
        let table = RoutingTable::build(1, vec![wide, narrow], Vec::new(), Vec::new());
        let names = |source: &str| -> Vec<(u8, String)> {
            let source = source.parse().unwrap();
            table.trunks_of_source(source).map(|(bits, trunk)| (bits, trunk.name.to_string())).collect()
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
        let found: Vec<_> =
            table.numbers_ending_with("8047102030").map(|(entry, _)| &*entry.number).collect();
        assert_eq!(found, ["8047102030", "+918047102030", "+448047102030"]);
    }

    #[test]
    fn rows_put_in_and_taken_out_leave_what_building_anew_would_make() {
        use std::collections::BTreeMap;
        let mut state = 11_u64;
        let mut dice = move |sides: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % sides
        };
        let (mut trunks, mut numbers, mut agents) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        let mut table = RoutingTable::default();
        let mut kept = Vec::new();
        for step in 0..4_000 {
            let account = format!("a{}", dice(3));
            match dice(8) {
                0 => {
                    let mut trunk = Trunk::new(format!("t{}", dice(12)), account, format!("name {step}"));
                    trunk.inbound_enabled = dice(2) == 0;
                    trunk.sources =
                        (0..dice(3)).map(|_| format!("10.0.{}.0/24", dice(4)).parse().unwrap()).collect();
                    if dice(2) == 0 {
                        let username = format!("u{}", dice(3));
                        let credential = |number| Credential { username: number, password: "p".to_owned() };
                        let second = format!("u{}", dice(3));
                        trunk.auth = TrunkAuth::UserPass(vec![credential(username), credential(second)]);
                    }
                    table.put_trunk(trunk.clone());
                    trunks.insert(trunk.id.clone(), trunk);
                }
                1 => {
                    let id = format!("t{}", dice(12)).into();
                    table.remove_trunk(&id);
                    trunks.remove(&id);
                }
                2 => {
                    let id = AgentId::from(format!("g{}", dice(4)));
                    let agent = Agent {
                        id: id.clone(),
                        account: account.into(),
                        name: format!("{step}").into(),
                        socket: None,
                        rules: AgentRules::default(),
                    };
                    table.put_agent(agent.clone());
                    agents.insert(id, agent);
                }
                3 => {
                    let id = format!("g{}", dice(4)).into();
                    table.remove_agent(&id);
                    agents.remove(&id);
                }
                4 => {
                    let id = format!("n{}", dice(90)).into();
                    table.remove_number(&id);
                    numbers.remove(&id);
                }
                _ => {
                    // Few digits at the front and the same at the end, so that many are found alike.
                    let text = match dice(6) {
                        0 => String::new(),
                        1 => "support".to_owned(),
                        _ => format!("+{}804710203{}", dice(4), dice(3)),
                    };
                    let mut number =
                        number(&format!("n{}", dice(90)), &account, &format!("t{}", dice(12)), &text);
                    number.agent = (dice(2) == 0).then(|| format!("g{}", dice(4)).into());
                    table.put_number(number.clone());
                    if text.is_empty() {
                        // It can never be dialled.
                        numbers.remove(&number.id);
                    } else {
                        numbers.insert(number.id.clone(), number);
                    }
                }
            }
            if step % 501 == 500 {
                let built = RoutingTable::build(
                    1,
                    trunks.values().cloned().collect(),
                    numbers.values().cloned().collect(),
                    agents.values().cloned().collect(),
                );
                assert_eq!(table.difference(&built), None);
                kept.push((table.clone(), built));
            }
        }
        // Earlier snapshots are what they were, and later ones are others.
        for pair in kept.windows(2) {
            assert_eq!(pair[0].0.difference(&pair[0].1), None);
            assert!(pair[0].0.difference(&pair[1].0).is_some());
        }
    }

    #[test]
    fn a_password_is_never_printed() {
        let auth = TrunkAuth::user_pass("u", "secret");
        assert!(!format!("{auth:?}").contains("secret"));
    }

    #[test]
    fn a_destination_key_finds_its_number_until_the_number_is_gone_and_needs_no_entry_when_it_is_the_number()
    {
        let mut table = RoutingTable::build(1, vec![Trunk::new("t", "a", "one")], Vec::new(), Vec::new());
        let mut alias = number("n", "a", "t", "+919876543210");
        alias.destination_key = Some("mumbai-1".to_owned());
        table.put_number(alias.clone());
        let found: Vec<_> =
            table.numbers_of_destination("mumbai-1").map(|(entry, _)| entry.id.to_string()).collect();
        assert_eq!(found, ["n"]);
        alias.destination_key = Some("919876543210".to_owned());
        table.put_number(alias);
        assert!(table.numbers_of_destination("mumbai-1").next().is_none());
        assert!(table.numbers_of_destination("919876543210").next().is_none());
        assert!(table.numbers_of_key("919876543210").next().is_some());
        assert!(table.numbers.has_no_destination());
    }

    fn number(id: &str, account: &str, trunk: &str, number: &str) -> Number {
        Number {
            id: id.into(),
            account: account.into(),
            trunk: trunk.into(),
            number: number.to_owned(),
            destination_key: None,
            is_active: true,
            agent: None,
            is_for_pstn: false,
        }
    }
}
