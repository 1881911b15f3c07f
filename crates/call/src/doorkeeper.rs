//! What is remembered of those who knock: sources that proved themselves by digest, and refusals lately given.
//!
//! Both in tables of fixed size whose slots follow from a keyed hash: no flood makes them grow, and what a newcomer pushes
//! out costs nothing but a little politeness (a stranger's allowance again, a verdict twice). What it refuses: to ban.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use tandem_sip::{Refusal, Request};

/// Slots of each table.
const SLOTS: usize = 4096;

/// How long a source that proved itself is no stranger: carriers call again within the hour.
const PROVEN: Duration = Duration::from_secs(3600);

/// How long a refused INVITE may be repeated: timer B of RFC 3261, 64*T1.
const REPEATS: Duration = Duration::from_secs(32);

#[derive(Debug)]
pub(crate) struct Doorkeeper {
    seed: u64,
    proven: Vec<Option<(IpAddr, Instant)>>,
    refused: Vec<Option<Refused>>,
}

/// A refusal lately given.
#[derive(Clone, Debug)]
struct Refused {
    name: u64,
    when: Instant,
    /// What was said, unless it was a challenge, which is made anew each time.
    refusal: Option<Box<Refusal>>,
    /// It went to where the INVITE came from, whatever its Via asked for.
    to_source: bool,
}

impl Doorkeeper {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, proven: vec![None; SLOTS], refused: vec![None; SLOTS] }
    }

    /// Remembers that a source proved itself by digest.
    pub(crate) fn remember_proof(&mut self, source: IpAddr, now: Instant) {
        let slot = slot(self.hash(source));
        self.proven[slot] = Some((source, now));
    }

    /// Whether it did so lately.
    pub(crate) fn has_proven(&self, source: IpAddr, now: Instant) -> bool {
        self.proven[slot(self.hash(source))]
            .is_some_and(|(known, when)| known == source && now.saturating_duration_since(when) < PROVEN)
    }

    /// Notes a refusal of this INVITE. Returns whether it repeats one lately given: the endpoint refuses without state, so
    /// a retransmission comes here again.
    pub(crate) fn is_repeat(
        &mut self,
        invite: &Request,
        source: SocketAddr,
        refusal: &Refusal,
        to_source: bool,
        now: Instant,
    ) -> bool {
        let name = self.name(invite, source);
        let slot = &mut self.refused[slot(name)];
        let is_repeat = slot.as_ref().is_some_and(|refused| refused.is(name, now));
        if !is_repeat {
            let is_challenge = matches!(refusal.status, 401 | 407);
            let refusal = (!is_challenge).then(|| Box::new(refusal.clone()));
            *slot = Some(Refused { name, when: now, refusal, to_source });
        }
        is_repeat
    }

    /// What this INVITE was refused with, and whether that went to its source. A repeat must not be decided anew, though
    /// there may be room by now: its sender may have got the first refusal meanwhile (RFC 3261 17.2.1: a server
    /// transaction has one final response).
    pub(crate) fn refusal_of(
        &self,
        invite: &Request,
        source: SocketAddr,
        now: Instant,
    ) -> Option<(Refusal, bool)> {
        let name = self.name(invite, source);
        let refused = self.refused[slot(name)].as_ref().filter(|refused| refused.is(name, now))?;
        refused.refusal.as_deref().map(|refusal| (refusal.clone(), refused.to_source))
    }

    /// What a request and its repeats have in common, and no other request.
    pub(crate) fn name(&self, request: &Request, source: SocketAddr) -> u64 {
        self.hash((source, request.via().branch(), request.call_id(), request.cseq().number))
    }

    fn hash(&self, value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

impl Refused {
    fn is(&self, name: u64, now: Instant) -> bool {
        self.name == name && now.saturating_duration_since(self.when) < REPEATS
    }
}

fn slot(hash: u64) -> usize {
    usize::try_from(hash % SLOTS as u64).expect("the remainder is below the number of slots")
}
