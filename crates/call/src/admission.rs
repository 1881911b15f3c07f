//! Whether there is room for one more call, and how much a stranger may ask.
//!
//! It counts concurrent calls per trunk and on the node, calls per second per trunk, and refusals per unknown source. It
//! refuses to ban anybody: a source that matches a trunk is never counted as a stranger, for UDP sources can be forged
//! and a carrier must not be locked out by whoever writes its address on an envelope. Memory is fixed: one entry for each
//! trunk in use, and a table of strangers that never grows.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::agent_rules::CallerIdentity;
use crate::ids::{AgentId, TrunkId};
use crate::table::{Agent, Trunk};
use crate::verdict::VerdictCode;

/// Callers counted for their agents' bounds; some ten megabytes.
const MAX_CALLERS: usize = 100_000;

/// Bounds of the node.
#[derive(Clone, Debug, PartialEq)]
pub struct AdmissionLimits {
    /// Concurrent calls on the node.
    pub max_calls: u32,
    /// Requests per second that one unknown source gets an answer to; the rest meets silence.
    pub stranger_rate: f64,
    /// Requests an unknown source may send at once.
    pub stranger_burst: f64,
    /// Requests per second that all unknown sources together get an answer to: forged sources are many.
    pub strangers_rate: f64,
}

impl Default for AdmissionLimits {
    /// 10,000 calls: far above one core's audio, below the default port range's half. Strangers: two a second each with
    /// a burst of ten, so that an honest carrier not yet configured sees its refusal each time; 200 a second together,
    /// which is 100 kB/s of answers at worst.
    fn default() -> Self {
        Self { max_calls: 10_000, stranger_rate: 2.0, stranger_burst: 10.0, strangers_rate: 200.0 }
    }
}

/// Tokens that come back with time.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    updated: Instant,
}

impl Bucket {
    fn full(burst: f64, now: Instant) -> Self {
        Self { tokens: burst, updated: now }
    }

    fn refill(&mut self, rate: f64, burst: f64, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_secs_f64();
        self.tokens = (self.tokens + elapsed * rate).min(burst);
        self.updated = self.updated.max(now);
    }

    fn take(&mut self) -> bool {
        let taken = self.tokens >= 1.0;
        if taken {
            self.tokens -= 1.0;
        }
        taken
    }
}

/// Which way a call goes, for its trunk's limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// From the carrier to us.
    Inbound,
    /// From us to the carrier.
    Outbound,
}

/// One call's place. Give it back with [`Admission::release`]; it cannot be copied.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "a permit not released holds its place for ever"]
pub struct Permit {
    trunk: TrunkId,
    side: Side,
    /// The caller whose calls this one counts among.
    caller: Option<(AgentId, String)>,
}

#[derive(Debug)]
struct TrunkUse {
    inbound: u32,
    outbound: u32,
    /// `None` until the trunk's rate was first asked for in that direction: neither side's calls use up the other's.
    rate_in: Option<Bucket>,
    rate_out: Option<Bucket>,
}

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoRoom {
    /// The code, from which the status follows.
    pub code: VerdictCode,
    /// The figures, in words.
    pub detail: String,
    /// When it is worth trying again.
    pub retry_after: Option<Duration>,
}

/// The counts of the node and its trunks.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    calls: u32,
    is_draining: bool,
    is_held_back: bool,
    trunks: BTreeMap<TrunkId, TrunkUse>,
    /// Calls of callers whose agents bound them: those that are up or were answered since this node started, and those
    /// answered before that the routing table told of when the caller first called.
    callers: BTreeMap<AgentId, BTreeMap<String, u32>>,
    /// How many callers are in there.
    caller_count: usize,
    strangers: Strangers,
}

impl Admission {
    /// Empty counts. `seed` keys the table of strangers, so that nobody outside can choose who shares a slot with whom.
    pub fn new(limits: AdmissionLimits, seed: u64, now: Instant) -> Self {
        let strangers = Strangers::new(limits.clone(), seed, now);
        Self {
            limits,
            calls: 0,
            is_draining: false,
            is_held_back: false,
            trunks: BTreeMap::new(),
            callers: BTreeMap::new(),
            caller_count: 0,
            strangers,
        }
    }

    /// From now on nobody new is let in.
    pub fn drain(&mut self) {
        self.is_draining = true;
    }

    /// Whether nobody new is let in for the time being, because what their calls leave behind could not be kept.
    pub fn hold_back(&mut self, is_held_back: bool) {
        self.is_held_back = is_held_back;
    }

    /// Whether nobody new is let in.
    pub fn is_draining(&self) -> bool {
        self.is_draining
    }

    /// Calls that hold a place.
    pub fn calls(&self) -> u32 {
        self.calls
    }

    /// Takes a place for one call.
    ///
    /// # Errors
    /// Names the bound that is reached. Nothing is counted then, except that a refused call does not use up the rate.
    pub fn admit(&mut self, trunk: &Trunk, side: Side, now: Instant) -> Result<Permit, NoRoom> {
        self.check_node()?;
        let entry = self.trunks.entry(trunk.id.clone()).or_insert_with(TrunkUse::empty);
        entry.check_counts(trunk, side)?;
        entry.take_rate(trunk, side, now)?;
        match side {
            Side::Inbound => entry.inbound += 1,
            Side::Outbound => entry.outbound += 1,
        }
        self.calls += 1;
        Ok(Permit { trunk: trunk.id.clone(), side, caller: None })
    }

    /// Counts the call among those of its caller, when the agent bounds them. `before` is how many the routing table
    /// knows of; the higher count holds.
    ///
    /// # Errors
    /// Names the bound. The permit then stays as it was, and is to be released.
    pub fn admit_caller(
        &mut self,
        permit: &mut Permit,
        agent: &Agent,
        caller: &CallerIdentity,
        before: u32,
    ) -> Result<(), NoRoom> {
        self.check_caller(agent, caller, before)?;
        let (Some(_), CallerIdentity::Known(key)) = (agent.rules.limit_of(caller), caller) else {
            return Ok(());
        };
        let callers = self.callers.entry(agent.id.clone()).or_default();
        match callers.get_mut(key) {
            Some(count) => *count = (*count).max(before).saturating_add(1),
            // Beyond the bound a caller new to this node goes by what the table knows alone.
            None if self.caller_count >= MAX_CALLERS => return Ok(()),
            None => {
                callers.insert(key.clone(), before.saturating_add(1));
                self.caller_count += 1;
            }
        }
        permit.caller = Some((agent.id.clone(), key.clone()));
        Ok(())
    }

    /// Says what [`Self::admit_caller`] would, and counts nothing. Callers who withhold their number are not told apart, and not bounded.
    ///
    /// # Errors
    /// Names the bound that is reached.
    pub fn check_caller(&self, agent: &Agent, caller: &CallerIdentity, before: u32) -> Result<(), NoRoom> {
        let (Some(most), CallerIdentity::Known(key)) = (agent.rules.limit_of(caller), caller) else {
            return Ok(());
        };
        let own = self.callers.get(&agent.id).and_then(|callers| callers.get(key)).copied().unwrap_or(0);
        let count = own.max(before);
        if count < most {
            return Ok(());
        }
        Err(NoRoom {
            code: VerdictCode::CallerLimitReached,
            detail: format!(
                "inbound_limit is {most}, and {count} calls of this caller were answered or are up"
            ),
            retry_after: None,
        })
    }

    /// Gives the place of a call back that was never answered: it does not count among its caller's.
    pub fn release_unanswered(&mut self, mut permit: Permit, now: Instant) {
        if let Some((agent, caller)) = permit.caller.take()
            && let Some(count) = self.callers.get_mut(&agent).and_then(|callers| callers.get_mut(&caller))
        {
            *count = count.saturating_sub(1);
        }
        self.release(permit, now);
    }

    /// Forgets the callers of agents that bound them no more.
    pub fn forget_callers(&mut self, bounds: impl Fn(&AgentId) -> bool) {
        self.callers.retain(|agent, _| bounds(agent));
        self.caller_count = self.callers.values().map(BTreeMap::len).sum();
    }

    /// Says what [`Self::admit`] would, and takes nothing: for the dry run.
    ///
    /// # Errors
    /// Names the bound that is reached.
    pub fn check(&self, trunk: &Trunk, side: Side, now: Instant) -> Result<(), NoRoom> {
        self.check_node()?;
        let Some(entry) = self.trunks.get(&trunk.id) else {
            let mut fresh = TrunkUse::empty();
            return fresh.check_counts(trunk, side).and_then(|()| fresh.take_rate(trunk, side, now));
        };
        entry.check_counts(trunk, side)?;
        entry.copied().take_rate(trunk, side, now)
    }

    /// Gives a call's place back.
    pub fn release(&mut self, permit: Permit, now: Instant) {
        let Permit { trunk, side, caller: _ } = permit;
        debug_assert!(self.calls > 0, "a permit exists, so a call is counted");
        self.calls = self.calls.saturating_sub(1);
        if let Some(entry) = self.trunks.get_mut(&trunk) {
            let count = match side {
                Side::Inbound => &mut entry.inbound,
                Side::Outbound => &mut entry.outbound,
            };
            debug_assert!(*count > 0, "a permit exists, so its trunk counts it");
            *count = count.saturating_sub(1);
        }
        self.forget_if_idle(&trunk, now);
    }

    /// Forgets every trunk without calls whose rate has recovered, those that are no more among them.
    pub fn prune(&mut self, now: Instant) {
        self.trunks.retain(|_, entry| !entry.is_idle(now));
    }

    /// Whether an unknown source still gets an answer; `false` asks for silence.
    pub fn answers_stranger(&mut self, source: IpAddr, now: Instant) -> bool {
        self.strangers.answers(source, now)
    }

    /// How many requests of strangers met silence.
    pub fn silenced(&self) -> u64 {
        self.strangers.silenced
    }

    /// Concurrent calls of one trunk, inbound and outbound.
    pub fn trunk_calls(&self, trunk: &TrunkId) -> (u32, u32) {
        self.trunks.get(trunk).map_or((0, 0), |entry| (entry.inbound, entry.outbound))
    }

    fn check_node(&self) -> Result<(), NoRoom> {
        if self.is_draining {
            return Err(NoRoom {
                code: VerdictCode::Draining,
                detail: "the node takes no new calls".to_owned(),
                retry_after: Some(Duration::from_secs(30)),
            });
        }
        if self.is_held_back {
            return Err(NoRoom {
                code: VerdictCode::RecordsBehind,
                detail: "the database does not keep up with the records of calls".to_owned(),
                retry_after: Some(Duration::from_secs(5)),
            });
        }
        if self.calls >= self.limits.max_calls {
            return Err(NoRoom {
                code: VerdictCode::NodeCallsReached,
                detail: format!("{} of {} calls in use", self.calls, self.limits.max_calls),
                retry_after: Some(Duration::from_secs(5)),
            });
        }
        Ok(())
    }

    /// Drops the entry of a trunk without calls whose rate has recovered: nothing is lost by forgetting it.
    fn forget_if_idle(&mut self, trunk: &TrunkId, now: Instant) {
        if self.trunks.get(trunk).is_some_and(|entry| entry.is_idle(now)) {
            self.trunks.remove(trunk);
        }
    }
}

/// Longer than any rate needs to fill its burst of one second, and than a rate below one a second needs for one call.
const REST: Duration = Duration::from_secs(60);

impl TrunkUse {
    fn copied(&self) -> Self {
        Self { ..*self }
    }

    fn empty() -> Self {
        Self { inbound: 0, outbound: 0, rate_in: None, rate_out: None }
    }

    fn is_idle(&self, now: Instant) -> bool {
        let mut buckets = [self.rate_in, self.rate_out].into_iter().flatten();
        let is_rested = buckets.all(|bucket| now.saturating_duration_since(bucket.updated) > REST);
        self.inbound == 0 && self.outbound == 0 && is_rested
    }

    fn check_counts(&self, trunk: &Trunk, side: Side) -> Result<(), NoRoom> {
        let limits = &trunk.limits;
        let total = self.inbound + self.outbound;
        if let Some(most) = limits.calls_total.filter(|most| total >= *most) {
            return Err(NoRoom {
                code: VerdictCode::TrunkCallsReached,
                detail: format!("{total} of {most} concurrent calls in use"),
                retry_after: None,
            });
        }
        let (used, most, direction, code) = match side {
            Side::Inbound => {
                (self.inbound, limits.calls_in, "inbound", VerdictCode::TrunkInboundCallsReached)
            }
            Side::Outbound => (self.outbound, limits.calls_out, "outbound", VerdictCode::TrunkCallsReached),
        };
        if let Some(most) = most.filter(|most| used >= *most) {
            return Err(NoRoom {
                code,
                detail: format!("{used} of {most} concurrent {direction} calls in use"),
                retry_after: None,
            });
        }
        Ok(())
    }

    fn take_rate(&mut self, trunk: &Trunk, side: Side, now: Instant) -> Result<(), NoRoom> {
        let Some(rate) = trunk.limits.calls_per_second.filter(|rate| rate.is_finite()) else {
            return Ok(());
        };
        let burst = rate.max(1.0);
        let bucket = match side {
            Side::Inbound => &mut self.rate_in,
            Side::Outbound => &mut self.rate_out,
        };
        let bucket = bucket.get_or_insert_with(|| Bucket::full(burst, now));
        bucket.refill(rate, burst, now);
        if bucket.take() {
            return Ok(());
        }
        Err(NoRoom {
            code: VerdictCode::TrunkRateReached,
            detail: format!("more than {rate} calls per second"),
            retry_after: Some(Duration::from_secs(1)),
        })
    }
}

/// Slots of strangers: 4096 of 48 bytes.
const SLOTS: usize = 4096;

/// Unknown sources and how much each has asked lately. A fixed table: a source's slot follows from a keyed hash, and two
/// sources in one slot share its allowance until one of them has been quiet long enough to be forgotten.
#[derive(Debug)]
struct Strangers {
    limits: AdmissionLimits,
    seed: u64,
    slots: Vec<Option<(IpAddr, Bucket)>>,
    together: Bucket,
    silenced: u64,
}

impl Strangers {
    fn new(limits: AdmissionLimits, seed: u64, now: Instant) -> Self {
        let together = Bucket::full(limits.strangers_rate, now);
        Self { limits, seed, slots: vec![None; SLOTS], together, silenced: 0 }
    }

    fn answers(&mut self, source: IpAddr, now: Instant) -> bool {
        let (rate, burst) = (self.limits.stranger_rate, self.limits.stranger_burst);
        let source = network_of(source);
        let place = self.place(source);
        let slot = &mut self.slots[place];
        let bucket = match slot {
            Some((_, bucket)) => bucket,
            None => &mut slot.insert((source, Bucket::full(burst, now))).1,
        };
        bucket.refill(rate, burst, now);
        // Its own allowance first: one loud source must not drain what all share.
        let answers = bucket.take() && {
            self.together.refill(self.limits.strangers_rate, self.limits.strangers_rate, now);
            self.together.take()
        };
        self.silenced += u64::from(!answers);
        answers
    }

    fn place(&self, source: IpAddr) -> usize {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        source.hash(&mut hasher);
        usize::try_from(hasher.finish() % SLOTS as u64).expect("the remainder is below the number of slots")
    }
}

/// What counts as one source: an IPv4 address, or an IPv6 network of 64 bits, for whoever has one address there has all.
fn network_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6((u128::from(address) & (u128::MAX << 64)).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunks_total_and_inbound_limits_are_held_and_given_back() {
        let now = begin();
        let mut admission = admission(now);
        let mut trunk = Trunk::new("t", "a", "one");
        trunk.limits.calls_in = Some(2);
        trunk.limits.calls_total = Some(3);
        let first = admission.admit(&trunk, Side::Inbound, now).unwrap();
        let second = admission.admit(&trunk, Side::Inbound, now).unwrap();
        let refused = admission.admit(&trunk, Side::Inbound, now).unwrap_err();
        assert_eq!(refused.code, VerdictCode::TrunkInboundCallsReached);
        assert_eq!(refused.code.status(), 486);
        assert_eq!(refused.detail, "2 of 2 concurrent inbound calls in use");
        let third = admission.admit(&trunk, Side::Outbound, now).unwrap();
        let refused = admission.admit(&trunk, Side::Outbound, now).unwrap_err();
        assert_eq!(refused.code, VerdictCode::TrunkCallsReached);
        assert_eq!(admission.trunk_calls(&trunk.id), (2, 1));
        for permit in [first, second, third] {
            admission.release(permit, now);
        }
        assert_eq!(admission.calls(), 0);
        assert!(admission.trunks.is_empty(), "an idle trunk costs nothing");
        assert!(admission.admit(&trunk, Side::Inbound, now).is_ok());
    }

    #[test]
    fn calls_per_second_allow_a_burst_of_one_second_and_come_back_with_time() {
        let start = begin();
        let mut admission = admission(start);
        let mut trunk = Trunk::new("t", "a", "one");
        trunk.limits.calls_per_second = Some(2.0);
        let permits = [0, 1].map(|_| admission.admit(&trunk, Side::Inbound, start).unwrap());
        let refused = admission.admit(&trunk, Side::Inbound, start).unwrap_err();
        assert_eq!(refused.code, VerdictCode::TrunkRateReached);
        assert_eq!(refused.code.status(), 480);
        assert_eq!(refused.retry_after, Some(Duration::from_secs(1)));
        // Ending calls does not bring the rate back; time does.
        for permit in permits {
            admission.release(permit, start);
        }
        assert!(admission.admit(&trunk, Side::Inbound, start).is_err());
        let later = start + Duration::from_millis(500);
        assert!(admission.check(&trunk, Side::Inbound, later).is_ok());
        assert!(admission.admit(&trunk, Side::Inbound, later).is_ok());
        assert!(admission.admit(&trunk, Side::Inbound, later).is_err());
    }

    #[test]
    fn a_trunk_with_a_rate_is_forgotten_once_it_rested() {
        let start = begin();
        let mut admission = admission(start);
        let mut trunk = Trunk::new("t", "a", "one");
        trunk.limits.calls_per_second = Some(1.0);
        let permit = admission.admit(&trunk, Side::Inbound, start).unwrap();
        admission.prune(start + REST * 2);
        assert_eq!(admission.trunk_calls(&trunk.id), (1, 0), "a call holds it");
        admission.release(permit, start);
        admission.prune(start);
        assert!(admission.check(&trunk, Side::Inbound, start).is_err(), "its rate is remembered");
        admission.prune(start + REST * 2);
        assert!(admission.trunks.is_empty());
    }

    #[test]
    fn a_rate_below_one_a_second_still_lets_the_first_call_in() {
        let start = begin();
        let mut admission = admission(start);
        let mut trunk = Trunk::new("t", "a", "one");
        trunk.limits.calls_per_second = Some(0.5);
        assert!(admission.admit(&trunk, Side::Inbound, start).is_ok());
        assert!(admission.admit(&trunk, Side::Inbound, start + Duration::from_secs(1)).is_err());
        assert!(admission.admit(&trunk, Side::Inbound, start + Duration::from_secs(2)).is_ok());
    }

    #[test]
    fn the_nodes_limit_and_its_drain_answer_503_with_retry_after() {
        let now = begin();
        let limits = AdmissionLimits { max_calls: 1, ..AdmissionLimits::default() };
        let mut admission = Admission::new(limits, 7, now);
        let trunk = Trunk::new("t", "a", "one");
        let permit = admission.admit(&trunk, Side::Inbound, now).unwrap();
        let refused = admission.admit(&trunk, Side::Inbound, now).unwrap_err();
        assert_eq!((refused.code.status(), refused.code), (503, VerdictCode::NodeCallsReached));
        assert!(refused.retry_after.is_some());
        admission.release(permit, now);
        admission.hold_back(true);
        let refused = admission.admit(&trunk, Side::Inbound, now).unwrap_err();
        assert_eq!((refused.code.status(), refused.code), (503, VerdictCode::RecordsBehind));
        assert!(refused.retry_after.is_some());
        admission.hold_back(false);
        admission.drain();
        let refused = admission.admit(&trunk, Side::Inbound, now).unwrap_err();
        assert_eq!((refused.code.status(), refused.code), (503, VerdictCode::Draining));
        assert!(refused.retry_after.is_some());
    }

    #[test]
    fn a_stranger_is_answered_within_its_allowance_and_then_met_with_silence() {
        let start = begin();
        let mut admission = admission(start);
        let loud = "198.51.100.7".parse().unwrap();
        let answered = (0..1000).filter(|_| admission.answers_stranger(loud, start)).count();
        assert_eq!(answered, 10);
        assert_eq!(admission.silenced(), 990);
        assert!(
            admission.answers_stranger("203.0.113.1".parse().unwrap(), start),
            "another is still answered"
        );
        assert!(admission.answers_stranger(loud, start + Duration::from_millis(500)), "and so is it, later");
    }

    /// A flood from a hundred thousand forged sources: the answers are bounded and so is the memory.
    #[test]
    fn forged_sources_without_number_share_one_allowance_and_one_table() {
        let start = begin();
        let mut admission = admission(start);
        let answered = (0..100_000u32)
            .filter(|number| admission.answers_stranger(IpAddr::V4((*number).into()), start))
            .count();
        assert_eq!(answered, 200);
        assert_eq!(admission.strangers.slots.len(), SLOTS);
    }

    #[test]
    fn addresses_of_one_ipv6_network_are_one_stranger() {
        let start = begin();
        let mut admission = admission(start);
        let answered = (0..100u128)
            .filter(|host| {
                let address = 0x2001_0db8_0000_0000_0000_0000_0000_0000_u128 | host;
                admission.answers_stranger(IpAddr::V6(address.into()), start)
            })
            .count();
        assert_eq!(answered, 10);
    }

    #[test]
    fn a_callers_calls_count_once_answered_and_the_tables_count_is_not_forgotten() {
        let now = begin();
        let mut admission = admission(now);
        let trunk = Trunk::new("t", "a", "one");
        let agent = bounded_agent(2);
        let caller = CallerIdentity::of(b"+491");
        let admit = |admission: &mut Admission, before| {
            let mut permit = admission.admit(&trunk, Side::Inbound, now).unwrap();
            match admission.admit_caller(&mut permit, &agent, &caller, before) {
                Ok(()) => Ok(permit),
                Err(no_room) => {
                    admission.release(permit, now);
                    Err(no_room)
                }
            }
        };
        let first = admit(&mut admission, 0).unwrap();
        admission.release_unanswered(first, now);
        let first = admit(&mut admission, 0).unwrap();
        admission.release(first, now);
        // One of the two is over, and still counts; one more is up.
        let second = admit(&mut admission, 1).unwrap();
        let refused = admit(&mut admission, 1).unwrap_err();
        assert_eq!((refused.code, refused.code.status()), (VerdictCode::CallerLimitReached, 403));
        assert!(refused.detail.contains("inbound_limit is 2, and 2 calls"), "{}", refused.detail);
        admission.release_unanswered(second, now);
        assert!(admission.check_caller(&agent, &caller, 1).is_ok());
        assert!(admission.check_caller(&agent, &caller, 2).is_err(), "another node answered one meanwhile");
        assert!(admission.check_caller(&agent, &CallerIdentity::of(b"+492"), 0).is_ok());
        assert!(admission.check_caller(&agent, &CallerIdentity::Anonymous, 0).is_ok());
        assert_eq!(admission.calls(), 0);
        admission.forget_callers(|_| false);
        assert_eq!((admission.caller_count, admission.callers.len()), (0, 0));
    }

    fn bounded_agent(most: u32) -> Agent {
        Agent {
            id: "g".into(),
            account: "a".into(),
            name: "agent".into(),
            socket: None,
            rules: crate::agent_rules::AgentRules { inbound_limit: Some(most), ..Default::default() },
        }
    }

    fn admission(now: Instant) -> Admission {
        Admission::new(AdmissionLimits::default(), 7, now)
    }

    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    fn begin() -> Instant {
        Instant::now()
    }
}
