//! Which agent an INVITE is for, or why it is for none: a pure function with a trace.
//!
//! What it refuses to do: look at the clock, count calls (admission does), verify digests (the engine does, with
//! `tandem_sip::auth`), or send anything. The same function answers live INVITEs and the dry run.
//!
//! The order of things:
//! 1. The number: the Request-URI's user, then the To header's; with and without `+`, separators and parameters. What is
//!    no number may be what a carrier writes instead of one, its `destination_key`.
//! 2. The trunk: an ip-based trunk of that number whose ranges hold the source, the longest prefix first. Trunks of
//!    several accounts may share a carrier's ranges; the number tells them apart.
//! 3. Else a trunk of that number that proves itself by digest: it is challenged from wherever it calls.
//! 4. Switches of trunk and number, the agent and its socket, encryption, codec.
//!
//! Strangers, whose source is in no trunk's ranges, all get one and the same answer whatever they dial, so that guessing
//! teaches nothing: a challenge if any trunk of the node takes calls by digest, 403 if none does.
//! RFC 3261 sections 8.2.2.1 (Request-URI before To), 22.1; RFC 3966.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use smallvec::SmallVec;
use tandem_media::Codec;
use tandem_media::sdp::Encryption;
use tandem_sip::auth::Staleness;
use tandem_sip::{NameAddr, Transport};
use uuid::Uuid;

use crate::address_text::{address_text, push_range};
use crate::agent_rules::CallerIdentity;
use crate::dialled;
use crate::encryption;
use crate::ids::{NumberId, TrunkId};
use crate::near_miss;
use crate::record::CallDirection;
use crate::short_text::ShortText;
use crate::table::{Agent, AgentSocket, MediaEncryption, NumberEntry, RoutingTable, Trunk, TrunkAuth};
use crate::verdict::{Check, StepOutcome, Verdict, VerdictCode, short_wire_text, wire_text};

/// Trunks whose password one set of credentials is tried against: user names may repeat across accounts, and each
/// trial costs a hash.
pub const MAX_CREDENTIAL_TRUNKS: usize = 4;

/// Most numbers looked at for one key: the same number on the trunks of several accounts.
const MAX_FOUND: usize = 16;

/// What an INVITE asks for. Text as it came from the wire.
#[derive(Clone, Debug)]
pub struct Query<'a> {
    /// Where it came from.
    pub source: SocketAddr,
    /// By which transport.
    pub transport: Transport,
    /// The whole Request-URI.
    pub request_uri: &'a [u8],
    /// The Request-URI's user part, or the number of a `tel:` URI.
    pub request_user: &'a [u8],
    /// The whole To header.
    pub to: &'a [u8],
    /// The user part of its URI.
    pub to_user: &'a [u8],
    /// The whole From header.
    pub from: &'a [u8],
    /// The Call-ID.
    pub sip_call_id: &'a [u8],
    /// The User-Agent header, empty if there is none.
    pub user_agent: &'a [u8],
    /// What audio is offered.
    pub offer: OfferSummary,
}

impl Query<'_> {
    /// Who calls, as the From header has it, and as rules compare it.
    pub fn caller(&self) -> (String, CallerIdentity) {
        let number = NameAddr::parse(self.from).and_then(|from| from.uri().number().map(Cow::into_owned));
        let number = number.unwrap_or_default();
        (wire_text(&number), CallerIdentity::of(&number))
    }
}

/// What routing needs to know of an SDP offer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OfferSummary {
    /// No body: the offer will be ours.
    Absent,
    /// A body that cannot be taken.
    Unacceptable {
        /// The SIP status that says so: 400, 413 or 488.
        status: u16,
        /// Why, in words.
        why: String,
    },
    /// Audio.
    Audio {
        /// Codecs of ours that are offered.
        codecs: SmallVec<[Codec; 3]>,
        /// Whether a plain RTP stream is among what is offered.
        is_plain: bool,
        /// What is offered encrypted.
        keyed: KeyedAudio,
    },
}

/// The encrypted audio of an offer, keyed by its `a=crypto` lines (RFC 4568).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyedAudio {
    /// There is none.
    Absent,
    /// With a key that can be used, in these codecs of ours.
    Usable(SmallVec<[Codec; 3]>),
    /// With none: why, in words.
    Unusable(String),
}

/// What is known of the credentials of an INVITE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authentication {
    /// None came, or none for our realm.
    Absent,
    /// They prove this trunk.
    Verified(TrunkId),
    /// None were asked for: the INVITE comes from the registrar that holds this trunk's Contact, and calls that Contact or a
    /// number of the trunk.
    Registered(TrunkId),
    /// They answer a challenge that is too old.
    Stale,
    /// They were used before.
    Replayed,
    /// They prove nothing: why, in words.
    Wrong(String),
}

/// What to do with the INVITE.
#[derive(Clone, Debug)]
pub enum Action {
    /// Call the agent.
    Connect(Box<Route>),
    /// Send 401 with a challenge; a stale one tells the peer that its password was right.
    Challenge(Staleness),
    /// Refuse with the verdict's status.
    Refuse,
}

/// Where an INVITE goes.
#[derive(Clone, Debug)]
pub struct Route {
    /// The trunk it came in by.
    pub trunk: Arc<Trunk>,
    /// The number that was called.
    pub number: NumberId,
    /// The number as its owner wrote it.
    pub number_text: ShortText,
    /// Who answers.
    pub agent: Arc<Agent>,
    /// How; the agent's socket, which is there.
    pub socket: Arc<AgentSocket>,
}

/// The whole answer.
#[derive(Clone, Debug)]
pub struct Decision {
    /// What was seen and what follows. For [`Action::Connect`] its code is [`VerdictCode::Accepted`], to be changed if
    /// something later fails.
    pub verdict: Verdict,
    /// What to do.
    pub action: Action,
    /// Whether the source is in no trunk's ranges and proved nothing: it gets at most one short answer.
    pub is_stranger: bool,
}

/// Where in the INVITE a number stood, in the order of their weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    RequestUri,
    To,
}

impl Place {
    fn check(self) -> Check {
        match self {
            Self::RequestUri => Check::RequestUri,
            Self::To => Check::To,
        }
    }
}

/// A number that was dialled and exists.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub(crate) place: Place,
    pub(crate) number: &'a NumberEntry,
    pub(crate) trunk: &'a Arc<Trunk>,
    /// Whether it was found by what its carrier writes instead of the number.
    pub(crate) is_by_destination: bool,
    /// Prefix length of the trunk's range that holds the source.
    pub(crate) range: Option<u8>,
}

impl Found<'_> {
    fn is_by_digest(&self) -> bool {
        match self.trunk.auth {
            TrunkAuth::UserPass(_) => true,
            TrunkAuth::IpBased => false,
        }
    }

    /// A trunk by digest may be narrowed to ranges, and need not be.
    fn admits_source(&self) -> bool {
        self.range.is_some() || (self.is_by_digest() && self.trunk.sources.is_empty())
    }

    fn is_switched_on(&self) -> bool {
        self.trunk.is_active && self.trunk.inbound_enabled && self.number.is_active
    }

    /// The best has the lowest rank: usable before switched off, the number itself before what stands for it,
    /// Request-URI before To, narrow range before wide.
    fn rank(&self) -> (bool, bool, Place, u8) {
        let range = u8::MAX - self.range.unwrap_or(0);
        (!self.is_switched_on(), self.is_by_destination, self.place, range)
    }
}

/// Everything one evaluation looks at.
pub(crate) struct Search<'a> {
    pub(crate) query: &'a Query<'a>,
    pub(crate) table: &'a RoutingTable,
    pub(crate) request_key: Option<String>,
    /// That of the To header, where it is another.
    pub(crate) to_key: Option<String>,
    /// Whether the To header names another number, or none where the Request-URI names one.
    to_differs: bool,
    pub(crate) found: SmallVec<[Found<'a>; 4]>,
}

/// Decides on one INVITE.
pub fn evaluate(query: &Query<'_>, table: &RoutingTable, authentication: &Authentication) -> Decision {
    let search = Search::new(query, table);
    // A range of a trunk that was dialled is a range of the node: only others have to be looked for.
    let is_known =
        search.found.iter().any(|found| found.range.is_some()) || table.knows_source(query.source.ip());
    let mut verdict = blank(query);
    let outcome = search.decide(&mut verdict, authentication, is_known);
    let (code, action, status) = match outcome {
        Ok(route) => (VerdictCode::Accepted, Action::Connect(Box::new(route)), None),
        Err(Refused { code, challenge, status }) => {
            (code, challenge.map_or(Action::Refuse, Action::Challenge), status)
        }
    };
    verdict.conclude(code);
    verdict.status = status.unwrap_or(verdict.status);
    let is_proven = matches!(authentication, Authentication::Verified(_) | Authentication::Registered(_));
    Decision { verdict, action, is_stranger: !is_known && !is_proven }
}

/// The trunks whose password credentials with this user name are to be tried against, the likeliest first.
pub fn credential_trunks(query: &Query<'_>, table: &RoutingTable, username: &str) -> Vec<Arc<Trunk>> {
    let search = Search::new(query, table);
    let mut trunks: Vec<Arc<Trunk>> = Vec::new();
    let dialled = search.found.iter().map(|found| found.trunk).filter(|trunk| has_username(trunk, username));
    for trunk in dialled.chain(table.trunks_of_username(username)) {
        if trunks.len() < MAX_CREDENTIAL_TRUNKS && !trunks.iter().any(|known| known.id == trunk.id) {
            trunks.push(Arc::clone(trunk));
        }
    }
    trunks
}

/// The trunk of a number that is dialled, among those that `is_among` names.
pub(crate) fn dialled_trunk(
    query: &Query<'_>,
    table: &RoutingTable,
    is_among: impl Fn(&TrunkId) -> bool,
) -> Option<TrunkId> {
    let search = Search::new(query, table);
    let among = search.found.iter().filter(|found| is_among(&found.trunk.id));
    among.min_by_key(|found| found.rank()).map(|found| found.trunk.id.clone())
}

fn has_username(trunk: &Trunk, wanted: &str) -> bool {
    trunk.auth.credentials().iter().any(|credential| credential.username == wanted)
}

/// Why an INVITE is not connected, and how that is said.
#[derive(Clone, Copy)]
struct Refused {
    code: VerdictCode,
    /// Whether to challenge rather than refuse, and whether the challenge is stale's.
    challenge: Option<Staleness>,
    /// The status where it is not the code's own.
    status: Option<u16>,
}

impl Refused {
    fn with(code: VerdictCode) -> Self {
        Self { code, challenge: None, status: None }
    }

    fn challenged(code: VerdictCode, staleness: Staleness) -> Self {
        Self { code, challenge: Some(staleness), status: Some(401) }
    }
}

impl<'a> Search<'a> {
    fn new(query: &'a Query<'a>, table: &'a RoutingTable) -> Self {
        let mut search = Self {
            query,
            table,
            request_key: dialled::key(query.request_user),
            to_key: None,
            to_differs: false,
            found: SmallVec::new(),
        };
        search.collect(Place::RequestUri);
        // Mostly they are the same.
        if query.to_user != query.request_user {
            let to_key = dialled::key(query.to_user);
            search.to_differs = to_key != search.request_key;
            search.to_key = to_key.filter(|_| search.to_differs);
            search.collect(Place::To);
        }
        search
    }

    fn collect(&mut self, place: Place) {
        let key = match place {
            Place::RequestUri => &self.request_key,
            Place::To => &self.to_key,
        };
        let source = self.query.source.ip().to_canonical();
        let found = key.iter().flat_map(|key| self.table.numbers_of_key(key)).take(MAX_FOUND);
        let destined = key.iter().flat_map(|key| self.table.numbers_of_destination(key)).take(MAX_FOUND);
        let found = found.map(|found| (found, false)).chain(destined.map(|found| (found, true)));
        for ((number, trunk), is_by_destination) in found {
            let range = trunk.range_of(source);
            self.found.push(Found { place, number, trunk, is_by_destination, range });
        }
    }

    fn decide(
        &self,
        verdict: &mut Verdict,
        authentication: &Authentication,
        is_known: bool,
    ) -> Result<Route, Refused> {
        let found = match authentication {
            Authentication::Verified(trunk) => self.number_of_proven(verdict, trunk)?,
            Authentication::Registered(trunk) => self.number_of_registered(verdict, trunk)?,
            Authentication::Absent
            | Authentication::Stale
            | Authentication::Replayed
            | Authentication::Wrong(_) => self.number_of_source(verdict, authentication, is_known)?,
        };
        self.check_switches(verdict, &found)?;
        let route = self.check_agent(verdict, &found)?;
        self.check_balance(verdict, &route)?;
        self.check_caller(verdict, &route)?;
        self.check_media(verdict, &route.trunk)?;
        Ok(route)
    }

    /// The number among those of the trunk that the credentials prove.
    fn number_of_proven(&self, verdict: &mut Verdict, proven: &TrunkId) -> Result<Found<'a>, Refused> {
        let own = self.found.iter().filter(|found| found.trunk.id == *proven && found.admits_source());
        if let Some(found) = own.min_by_key(|found| found.rank()).copied() {
            self.note_number(verdict, &found);
            let name = found.trunk.name.clone();
            verdict.step(Check::Credentials, StepOutcome::Passed, name, "the digest proves the trunk");
            return Ok(found);
        }
        let Some(trunk) = self.table.trunk(proven) else {
            // The table changed between the proof and now.
            return Err(Refused::with(VerdictCode::NumberUnknown));
        };
        verdict.account = Some(trunk.account.clone());
        verdict.trunk = Some(trunk.id.clone());
        verdict.step(
            Check::Credentials,
            StepOutcome::Passed,
            trunk.name.clone(),
            "the digest proves the trunk",
        );
        if let Some(outside) = self.found.iter().find(|found| found.trunk.id == *proven) {
            self.note_outside(verdict, outside);
            return Err(Refused::with(VerdictCode::SourceOutsideRanges));
        }
        self.note_unknown_number(verdict, &format!("not a number of trunk {}", trunk.name));
        near_miss::by_form(self, verdict, |other| other.id == trunk.id);
        Err(Refused::with(VerdictCode::NumberUnknown))
    }

    /// The number among those of the trunk that is registered where the INVITE comes from; its ranges are not asked.
    fn number_of_registered(
        &self,
        verdict: &mut Verdict,
        registered: &TrunkId,
    ) -> Result<Found<'a>, Refused> {
        let Some(trunk) = self.table.trunk(registered) else {
            // The table changed, and the registrar was not told yet.
            return Err(Refused::with(VerdictCode::NumberUnknown));
        };
        let own = self.found.iter().filter(|found| found.trunk.id == *registered);
        let own = own.min_by_key(|found| found.rank()).copied();
        if let Some(found) = &own {
            self.note_number(verdict, found);
        }
        verdict.account = Some(trunk.account.clone());
        verdict.trunk = Some(trunk.id.clone());
        let source = self.query.source.ip().to_canonical().to_string();
        let detail = format!("the registrar that holds the Contact of trunk {}", trunk.name);
        verdict.step(Check::Registration, StepOutcome::Passed, source, detail);
        if let Some(found) = own {
            return Ok(found);
        }
        self.note_unknown_number(verdict, &format!("not a number of trunk {}", trunk.name));
        near_miss::by_form(self, verdict, |other| other.id == trunk.id);
        verdict.near_miss(format!(
            "the carrier calls the registered Contact and names no number of trunk {}: add the number that it puts into To, \
             or set registration.contact_user to one",
            trunk.name
        ));
        Err(Refused::with(VerdictCode::NumberUnknown))
    }

    /// The number among those of trunks that admit the source, or that may prove themselves.
    fn number_of_source(
        &self,
        verdict: &mut Verdict,
        authentication: &Authentication,
        is_known: bool,
    ) -> Result<Found<'a>, Refused> {
        let by_address = self.found.iter().filter(|found| !found.is_by_digest() && found.range.is_some());
        if let Some(found) = by_address.min_by_key(|found| found.rank()).copied() {
            self.note_number(verdict, &found);
            self.note_range(verdict, &found);
            return Ok(found);
        }
        let by_digest = self.found.iter().filter(|found| found.is_by_digest() && found.admits_source());
        if let Some(found) = by_digest.min_by_key(|found| found.rank()).copied() {
            self.note_number(verdict, &found);
            if !self.table.has_digest_trunks() {
                // Not one is switched on, this one neither, and a challenge would tell strangers that it is there.
                self.check_switches(verdict, &found)?;
            }
            return Err(self.ask_credentials(verdict, authentication));
        }
        let code = if let Some(outside) = self.found.first() {
            self.note_number(verdict, outside);
            self.note_outside(verdict, outside);
            VerdictCode::SourceOutsideRanges
        } else if is_known {
            near_miss::of_known_source(self, verdict);
            VerdictCode::NumberUnknown
        } else {
            self.note_unknown_number(verdict, "no number of this node");
            let source = address_text(self.query.source.ip());
            verdict.step(Check::Source, StepOutcome::Failed, source, "in no trunk's ranges");
            VerdictCode::SourceUnknown
        };
        if is_known || !self.table.has_digest_trunks() {
            return Err(Refused::with(code));
        }
        // A stranger: the same answer whatever was dialled, though the verdict says what was wrong besides.
        let asked = self.ask_credentials(verdict, authentication);
        Err(match asked.code {
            VerdictCode::CredentialsRequired => Refused { code, ..asked },
            _ => asked,
        })
    }

    fn ask_credentials(&self, verdict: &mut Verdict, authentication: &Authentication) -> Refused {
        let source = address_text(self.query.source.ip());
        let mut note = |outcome, detail: Cow<'static, str>| {
            verdict.step(Check::Credentials, outcome, source.clone(), detail);
        };
        match authentication {
            Authentication::Absent => {
                note(StepOutcome::Noted, "none came; challenged".into());
                Refused::challenged(VerdictCode::CredentialsRequired, Staleness::Fresh)
            }
            Authentication::Stale => {
                note(StepOutcome::Noted, "they answer a challenge too old; challenged anew".into());
                Refused::challenged(VerdictCode::CredentialsStale, Staleness::Stale)
            }
            Authentication::Replayed => {
                note(StepOutcome::Failed, "their nonce count was used before; challenged anew".into());
                Refused::challenged(VerdictCode::CredentialsReplayed, Staleness::Stale)
            }
            Authentication::Wrong(why) => {
                note(StepOutcome::Failed, why.clone().into());
                Refused::with(VerdictCode::CredentialsWrong)
            }
            // Proven credentials of a trunk that lacks the number never come here: `number_of_proven` has them.
            Authentication::Verified(_) | Authentication::Registered(_) => {
                Refused::with(VerdictCode::CredentialsWrong)
            }
        }
    }

    fn check_switches(&self, verdict: &mut Verdict, found: &Found<'_>) -> Result<(), Refused> {
        let (trunk, number) = (found.trunk, found.number);
        let name = trunk.name.clone();
        if !trunk.is_active {
            verdict.step(Check::Trunk, StepOutcome::Failed, name, "is_active is false");
            return Err(Refused::with(VerdictCode::TrunkInactive));
        }
        if !trunk.inbound_enabled {
            verdict.step(Check::Trunk, StepOutcome::Failed, name, "inbound_enabled is false");
            return Err(Refused::with(VerdictCode::InboundDisabled));
        }
        verdict.step(Check::Trunk, StepOutcome::Passed, name, "active, inbound enabled");
        if !number.is_active {
            verdict.step(Check::Number, StepOutcome::Failed, number.number.clone(), "is_active is false");
            return Err(Refused::with(VerdictCode::NumberInactive));
        }
        verdict.step(Check::Number, StepOutcome::Passed, number.number.clone(), "active");
        Ok(())
    }

    fn check_agent(&self, verdict: &mut Verdict, found: &Found<'_>) -> Result<Route, Refused> {
        let number = found.number;
        if number.is_for_pstn {
            let detail = "its mode is pstn: for the trunk's destinations, which are not called yet";
            verdict.step(Check::Agent, StepOutcome::Failed, number.number.clone(), detail);
            return Err(Refused::with(VerdictCode::NumberForPstn));
        }
        let agent = match (&number.agent, self.table.agent_of(number)) {
            (None, _) => self.default_agent(verdict, found)?,
            (Some(id), None) => {
                verdict.step(
                    Check::Agent,
                    StepOutcome::Failed,
                    id.as_str(),
                    "the mapped agent does not exist",
                );
                return Err(Refused::with(VerdictCode::NumberWithoutAgent));
            }
            (Some(_), Some(agent)) => agent,
        };
        verdict.agent = Some(agent.id.clone());
        let Some(socket) = &agent.socket else {
            verdict.step(Check::Agent, StepOutcome::Failed, agent.name.clone(), "it has no websocket");
            return Err(Refused::with(VerdictCode::AgentWithoutSocket));
        };
        let spoken = ["spoken to by ", socket.dialect.dialect.name()].concat();
        verdict.step(Check::Agent, StepOutcome::Passed, agent.name.clone(), spoken);
        Ok(Route {
            trunk: Arc::clone(found.trunk),
            number: number.id.clone(),
            number_text: number.number.clone(),
            agent: Arc::clone(agent),
            socket: Arc::clone(socket),
        })
    }

    fn check_balance(&self, verdict: &mut Verdict, route: &Route) -> Result<(), Refused> {
        let account = &route.trunk.account;
        if self.table.is_exhausted(account) {
            verdict.step(Check::Balance, StepOutcome::Failed, account.as_str(), "the balance is used up");
            return Err(Refused::with(VerdictCode::BalanceLow));
        }
        Ok(())
    }

    /// Who calls. How often is counted by admission.
    fn check_caller(&self, verdict: &mut Verdict, route: &Route) -> Result<(), Refused> {
        let rules = &route.agent.rules;
        if !rules.disallow_unknown {
            return Ok(());
        }
        let (user, caller) = self.query.caller();
        match rules.check_caller(&caller) {
            Ok(()) => {
                let detail = match rules.is_whitelisted(&caller) {
                    true => "in whitelist_phone_numbers",
                    false => "to be looked up at ingest_source_config",
                };
                verdict.step(Check::CallerRules, StepOutcome::Passed, user, detail);
                Ok(())
            }
            Err(why) => {
                verdict.step(Check::CallerRules, StepOutcome::Failed, user, why);
                Err(Refused::with(VerdictCode::CallerNotAllowed))
            }
        }
    }

    /// Who answers for a number that has no agent of its own.
    fn default_agent(&self, verdict: &mut Verdict, found: &Found<'_>) -> Result<&'a Arc<Agent>, Refused> {
        let (number, trunk) = (found.number.number.clone(), found.trunk);
        let detail = match (&trunk.default_agent, self.table.default_agent_of(trunk)) {
            (Some(_), Some(agent)) => {
                let detail = format!("mapped to no agent; trunk {} has one for such numbers", trunk.name);
                verdict.step(Check::Agent, StepOutcome::Noted, number, detail);
                return Ok(agent);
            }
            (Some(_), None) => "mapped to no agent, and the trunk's default agent does not exist",
            (None, _) => "mapped to no agent",
        };
        verdict.step(Check::Agent, StepOutcome::Failed, number, detail);
        Err(Refused::with(VerdictCode::NumberWithoutAgent))
    }

    fn check_media(&self, verdict: &mut Verdict, trunk: &Trunk) -> Result<(), Refused> {
        let Ok(encryption) = encryption::over(encryption::wish(trunk), self.query.transport) else {
            let detail = "media_encryption is sdes, and the call came without TLS: a key in it could be read by anybody";
            verdict.step(Check::Encryption, StepOutcome::Failed, trunk.name.as_str(), detail);
            return Err(Refused::with(VerdictCode::EncryptionExposed));
        };
        if trunk.direct_media {
            let detail = "direct_media is on, and an agent's WebSocket is no party to RTP: media passes through this node";
            verdict.step(Check::Media, StepOutcome::Noted, trunk.name.clone(), detail);
        }
        let allowed = names(&trunk.codecs);
        let codecs = match &self.query.offer {
            OfferSummary::Absent => {
                verdict.step(Check::Codec, StepOutcome::Passed, allowed, "no offer came; ours will be sent");
                return Ok(());
            }
            OfferSummary::Unacceptable { status, why } => {
                verdict.step(Check::Codec, StepOutcome::Failed, allowed, why.clone());
                return Err(Refused {
                    status: Some(*status),
                    ..Refused::with(VerdictCode::OfferUnacceptable)
                });
            }
            OfferSummary::Audio { codecs, is_plain, keyed } => {
                self.check_encryption(verdict, trunk, encryption, (codecs, *is_plain), keyed)?
            }
        };
        match trunk.codecs.iter().find(|codec| codecs.contains(codec)) {
            Some(codec) => {
                verdict.step(Check::Codec, StepOutcome::Passed, allowed, chosen(*codec, codecs));
                Ok(())
            }
            None => {
                let offered = match codecs.is_empty() {
                    true => "the offer holds none of PCMU, PCMA and G722".to_owned(),
                    false => format!("the offer holds {}, which the trunk does not allow", names(codecs)),
                };
                verdict.step(Check::Codec, StepOutcome::Failed, allowed, offered);
                Err(Refused::with(VerdictCode::NoCommonCodec))
            }
        }
    }

    /// The codecs of the audio that will be spoken, encrypted or not.
    fn check_encryption<'o>(
        &self,
        verdict: &mut Verdict,
        trunk: &Trunk,
        encryption: Encryption,
        (plain, is_plain): (&'o [Codec], bool),
        keyed: &'o KeyedAudio,
    ) -> Result<&'o [Codec], Refused> {
        let name = trunk.name.as_str();
        match (encryption, keyed) {
            (Encryption::Off, _) if is_plain => Ok(plain),
            (Encryption::Off, _) => {
                let detail = match trunk.media_encryption {
                    MediaEncryption::No => "only encrypted media is offered, and media_encryption is no",
                    MediaEncryption::Sdes => "only encrypted media is offered, and the call came without TLS",
                };
                verdict.step(Check::Encryption, StepOutcome::Failed, name, detail);
                Err(Refused::with(VerdictCode::EncryptionOffered))
            }
            (Encryption::Preferred | Encryption::Required, KeyedAudio::Usable(codecs)) => {
                verdict.step(Check::Encryption, StepOutcome::Passed, name, "SRTP, by a key in the offer");
                Ok(codecs)
            }
            (Encryption::Preferred, KeyedAudio::Absent | KeyedAudio::Unusable(_)) if is_plain => {
                let detail = "no usable key is offered; media_encryption_optimistic takes plain RTP";
                verdict.step(Check::Encryption, StepOutcome::Noted, name, detail);
                Ok(plain)
            }
            (Encryption::Preferred | Encryption::Required, KeyedAudio::Unusable(why)) => {
                verdict.step(Check::Encryption, StepOutcome::Failed, name, why.clone());
                Err(Refused::with(VerdictCode::EncryptionUnsupported))
            }
            (Encryption::Preferred | Encryption::Required, KeyedAudio::Absent) => {
                let detail = "media_encryption is sdes, and the offer is RTP in the clear without a=crypto";
                verdict.step(Check::Encryption, StepOutcome::Failed, name, detail);
                Err(Refused::with(VerdictCode::EncryptionMissing))
            }
        }
    }

    fn note_number(&self, verdict: &mut Verdict, found: &Found<'_>) {
        verdict.account = Some(found.trunk.account.clone());
        verdict.trunk = Some(found.trunk.id.clone());
        verdict.number = Some(found.number.id.clone());
        match found.place {
            Place::RequestUri => {}
            Place::To => {
                let dialled = short_wire_text(self.query.request_user);
                verdict.step(Check::RequestUri, StepOutcome::Noted, dialled, "no number of this trunk");
            }
        }
        let dialled = match found.place {
            Place::RequestUri => self.query.request_user,
            Place::To => self.query.to_user,
        };
        let way = if found.is_by_destination { "is how the carrier writes number" } else { "is number" };
        let detail = [way, " ", &*found.number.number, " of trunk ", &*found.trunk.name].concat();
        verdict.step(found.place.check(), StepOutcome::Passed, short_wire_text(dialled), detail);
    }

    fn note_range(&self, verdict: &mut Verdict, found: &Found<'_>) {
        let source = self.query.source.ip().to_canonical();
        let range = found
            .trunk
            .sources
            .iter()
            .find(|range| range.contains(&source) && Some(range.prefix_len()) == found.range);
        let mut detail = String::with_capacity(64);
        if let Some(range) = range {
            detail.push_str("inside ");
            push_range(&mut detail, *range);
            detail.push_str(" of trunk ");
            detail.push_str(&found.trunk.name);
        }
        verdict.step(Check::Source, StepOutcome::Passed, address_text(source), detail);
    }

    fn note_outside(&self, verdict: &mut Verdict, found: &Found<'_>) {
        let source = self.query.source.ip().to_canonical();
        let ranges = near_miss::outside(found.trunk, source);
        verdict.step(Check::Source, StepOutcome::Failed, address_text(source), ranges.clone());
        verdict
            .near_miss(format!("the number belongs to trunk {}, but {source} is {ranges}", found.trunk.name));
    }

    pub(crate) fn note_unknown_number(&self, verdict: &mut Verdict, detail: &str) {
        verdict.step(
            Check::RequestUri,
            StepOutcome::Failed,
            short_wire_text(self.query.request_user),
            detail.to_owned(),
        );
        if self.to_differs {
            verdict.step(
                Check::To,
                StepOutcome::Failed,
                short_wire_text(self.query.to_user),
                detail.to_owned(),
            );
        }
    }
}

/// Which codec was chosen of which, in words.
fn chosen(codec: Codec, codecs: &[Codec]) -> Cow<'static, str> {
    match (codec, codecs) {
        (Codec::PCMU, [Codec::PCMU]) => "PCMU chosen; offered PCMU".into(),
        (Codec::PCMA, [Codec::PCMA]) => "PCMA chosen; offered PCMA".into(),
        (Codec::PCMU, [Codec::PCMU, Codec::PCMA]) => "PCMU chosen; offered PCMU, PCMA".into(),
        (Codec::PCMA, [Codec::PCMA, Codec::PCMU]) => "PCMA chosen; offered PCMA, PCMU".into(),
        (codec, codecs) => [codec.encoding_name(), " chosen; offered ", &*names(codecs)].concat().into(),
    }
}

fn names(codecs: &[Codec]) -> Cow<'static, str> {
    match codecs {
        [] => Cow::default(),
        [only] => only.encoding_name().into(),
        [Codec::PCMU, Codec::PCMA] => "PCMU, PCMA".into(),
        [Codec::PCMA, Codec::PCMU] => "PCMA, PCMU".into(),
        more => more.iter().map(|codec| codec.encoding_name()).collect::<Vec<_>>().join(", ").into(),
    }
}

fn blank(query: &Query<'_>) -> Verdict {
    Verdict {
        direction: CallDirection::Inbound,
        id: Uuid::nil(),
        at_unix_ms: 0,
        account: None,
        code: VerdictCode::SourceUnknown,
        status: VerdictCode::SourceUnknown.status(),
        source: query.source,
        transport: query.transport,
        request_uri: wire_text(query.request_uri),
        from: wire_text(query.from),
        to: wire_text(query.to),
        sip_call_id: wire_text(query.sip_call_id),
        user_agent: wire_text(query.user_agent),
        call: None,
        trunk: None,
        number: None,
        agent: None,
        // As many steps as an INVITE takes that connects.
        trace: Vec::with_capacity(8),
        near_misses: Vec::new(),
        remedy: Cow::default(),
    }
}
