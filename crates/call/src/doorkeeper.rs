//! What is remembered of those who knock: sources that proved themselves by digest, and refusals lately given.
//!
//! Both in tables of fixed size whose slots follow from a keyed hash: no flood makes them grow, and what a newcomer pushes
//! out costs nothing but a little politeness (a stranger's allowance again, a verdict twice). What it refuses: to ban.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_sip::Request;

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
    refused: Vec<Option<(u64, Instant)>>,
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
    pub(crate) fn is_repeat(&mut self, invite: &Request, source: std::net::SocketAddr, now: Instant) -> bool {
        let name = self.hash((source, invite.via().branch(), invite.call_id(), invite.cseq().number));
        let slot = &mut self.refused[slot(name)];
        let is_repeat =
            slot.is_some_and(|(known, when)| known == name && now.saturating_duration_since(when) < REPEATS);
        if !is_repeat {
            *slot = Some((name, now));
        }
        is_repeat
    }

    fn hash(&self, value: impl Hash) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.seed.hash(&mut hasher);
        value.hash(&mut hasher);
        hasher.finish()
    }
}

fn slot(hash: u64) -> usize {
    usize::try_from(hash % SLOTS as u64).expect("the remainder is below the number of slots")
}
