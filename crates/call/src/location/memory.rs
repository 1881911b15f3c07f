//! What was found is remembered: as long as it may be, a name that is not there for a while, and beyond its time while the
//! resolver is down, for a carrier's address outlives most outages of DNS (RFC 2308, RFC 8767).
//!
//! Bounded: names, and how long each is remembered whatever its answer says.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::{Found, NotFound, SHORT, Wanted};

/// Names remembered.
const NAMES_MAX: usize = 4_096;
/// The shortest time for which an answer is used: one of none at all would have each call look for itself.
const LEAST: Duration = Duration::from_secs(1);
/// The longest, whatever the answer says: a slip in a zone is mended within an hour.
const MOST: Duration = Duration::from_secs(3_600);
/// The longest for which a name is not asked for again that is not there: its owner may be about to mend it.
const ABSENT: Duration = Duration::from_secs(60);
/// The same where the resolver failed, and nothing was known before.
const FAILED: Duration = Duration::from_secs(2);
/// How long an answer is used while the resolver is down (RFC 8767 section 5: one to three days).
const STALE: Duration = Duration::from_secs(24 * 3_600);

/// What is remembered of one name.
#[derive(Debug)]
struct Known {
    /// Where it was, and when that was found.
    found: Option<(Found, Instant)>,
    /// Why it is nowhere, where it is not found.
    refusal: String,
    /// When it is to be looked for again.
    until: Instant,
}

/// What is known of a server without looking for it.
#[derive(Debug, PartialEq, Eq)]
pub enum Recall<'a> {
    /// Where it is.
    Found(&'a Found),
    /// It was looked for a moment ago, and this is why it was not found.
    NotFound(&'a str),
    /// It is to be looked for.
    Unknown {
        /// Whether an old answer will do should the resolver not answer soon.
        has_stale: bool,
    },
}

/// What came of a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Learned {
    /// It was found.
    Found,
    /// The resolver failed, and the last answer serves on.
    Stale,
    /// It is not there.
    Absent,
    /// The resolver failed, and nothing was known.
    Failed,
}

impl Learned {
    /// The word for it in metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Stale => "stale",
            Self::Absent => "absent",
            Self::Failed => "failed",
        }
    }
}

/// What is known of servers.
#[derive(Debug, Default)]
pub struct Memory {
    known: BTreeMap<Wanted, Known>,
    /// Names forgotten for want of room.
    pub dropped: u64,
}

impl Memory {
    /// What is known of a server.
    pub fn recall(&self, wanted: &Wanted, now: Instant) -> Recall<'_> {
        match self.known.get(wanted) {
            Some(known) if now < known.until => match &known.found {
                Some((found, _)) => Recall::Found(found),
                None => Recall::NotFound(&known.refusal),
            },
            Some(known) => Recall::Unknown { has_stale: known.serves_on(now) },
            None => Recall::Unknown { has_stale: false },
        }
    }

    /// Takes what came of a search, and tells what it comes to: [`Self::recall`] has it from now on.
    pub fn learn(&mut self, wanted: &Wanted, outcome: Result<Found, NotFound>, now: Instant) -> Learned {
        let has_stale = self.known.get(wanted).is_some_and(|known| known.serves_on(now));
        let is_failure = match &outcome {
            Ok(found) => !found.is_whole,
            Err(NotFound::Unanswered { .. }) => true,
            Err(NotFound::Absent { .. }) => false,
        };
        if is_failure && has_stale {
            if let Some(known) = self.known.get_mut(wanted) {
                known.until = now + SHORT;
            }
            return Learned::Stale;
        }
        let (known, learned) = match outcome {
            Ok(found) => {
                let until = now + found.ttl.clamp(LEAST, MOST);
                (Known { found: Some((found, now)), refusal: String::new(), until }, Learned::Found)
            }
            Err(NotFound::Absent { why, ttl }) => {
                let until = now + ttl.clamp(LEAST, ABSENT);
                (Known { found: None, refusal: why, until }, Learned::Absent)
            }
            Err(NotFound::Unanswered { why }) => {
                (Known { found: None, refusal: why, until: now + FAILED }, Learned::Failed)
            }
        };
        self.make_room(now);
        self.known.insert(wanted.clone(), known);
        learned
    }

    fn make_room(&mut self, now: Instant) {
        let before = self.known.len();
        if before < NAMES_MAX {
            return;
        }
        self.known.retain(|_, known| now < known.until);
        if self.known.len() >= NAMES_MAX {
            self.known.clear();
        }
        self.dropped += (before - self.known.len()) as u64;
    }
}

impl Known {
    fn serves_on(&self, now: Instant) -> bool {
        self.found.as_ref().is_some_and(|(_, at)| now.saturating_duration_since(*at) < STALE)
    }
}

#[cfg(test)]
mod tests {
    use tandem_sip::Transport;

    use super::super::{Answer, RecordKind, Records, Search};
    use super::*;

    fn wanted(host: &str) -> Wanted {
        Wanted { transport: Some(Transport::Udp), host: host.to_owned(), port: Some(5060) }
    }

    fn found(address: &str, ttl: u64) -> Result<Found, NotFound> {
        let mut search = Search::new(wanted("a.example"));
        while search.outcome().is_none() {
            let question = search.questions()[0].clone();
            let records = match question.kind {
                RecordKind::A => Records::Addresses(vec![address.parse().unwrap()]),
                _ => Records::None,
            };
            search.answered(&question, Ok(Answer { records, ttl: Some(Duration::from_secs(ttl)) }));
        }
        search.outcome().unwrap().clone()
    }

    fn failed() -> Result<Found, NotFound> {
        Err(NotFound::Unanswered { why: "down".to_owned() })
    }

    #[expect(clippy::disallowed_methods, reason = "virtual time begins somewhere")]
    fn start() -> Instant {
        Instant::now()
    }

    fn place(memory: &Memory, now: Instant) -> String {
        match memory.recall(&wanted("a.example"), now) {
            Recall::Found(found) => found.targets()[0].1.to_string(),
            Recall::NotFound(why) => why.to_owned(),
            Recall::Unknown { has_stale } => format!("unknown, stale {has_stale}"),
        }
    }

    #[test]
    fn an_answer_serves_for_its_time_and_then_is_asked_for_again() {
        let (mut memory, now) = (Memory::default(), start());
        let second = Duration::from_secs(1);
        assert_eq!(place(&memory, now), "unknown, stale false");
        assert_eq!(memory.learn(&wanted("a.example"), found("192.0.2.1", 90), now), Learned::Found);
        assert_eq!(place(&memory, now + second * 89), "192.0.2.1:5060");
        assert_eq!(place(&memory, now + second * 90), "unknown, stale true");
        memory.learn(&wanted("a.example"), found("192.0.2.2", 0), now + second * 90);
        assert_eq!(place(&memory, now + second * 90), "192.0.2.2:5060");
        assert_eq!(place(&memory, now + second * 91), "unknown, stale true");
        memory.learn(&wanted("a.example"), found("192.0.2.3", 1 << 30), now);
        assert_eq!(place(&memory, now + MOST), "unknown, stale true");
    }

    #[test]
    fn the_last_answer_serves_on_while_the_resolver_is_down_and_for_a_day() {
        let (mut memory, now) = (Memory::default(), start());
        memory.learn(&wanted("a.example"), found("192.0.2.1", 60), now);
        let later = now + Duration::from_secs(600);
        assert_eq!(memory.learn(&wanted("a.example"), failed(), later), Learned::Stale);
        assert_eq!(place(&memory, later), "192.0.2.1:5060");
        assert_eq!(place(&memory, later + SHORT), "unknown, stale true");
        let day = now + STALE;
        assert_eq!(memory.learn(&wanted("a.example"), failed(), day), Learned::Failed);
        assert_eq!(place(&memory, day), "down");
        assert_eq!(place(&memory, day + FAILED), "unknown, stale false");
    }

    /// What the resolver could answer in part does not push out what was known whole; "there is no such name" does.
    #[test]
    fn a_name_that_is_gone_is_gone_and_half_an_answer_is_none() {
        let (mut memory, now) = (Memory::default(), start());
        memory.learn(&wanted("a.example"), found("192.0.2.1", 60), now);
        let later = now + Duration::from_secs(60);
        let half = found("192.0.2.9", 60).map(|found| Found { is_whole: false, ..found });
        assert_eq!(memory.learn(&wanted("a.example"), half.clone(), later), Learned::Stale);
        assert_eq!(place(&memory, later), "192.0.2.1:5060");
        let absent = Err(NotFound::Absent { why: "no such name".to_owned(), ttl: MOST });
        assert_eq!(memory.learn(&wanted("a.example"), absent, later), Learned::Absent);
        assert_eq!(place(&memory, later + ABSENT - LEAST), "no such name");
        assert_eq!(place(&memory, later + ABSENT), "unknown, stale false");
        assert_eq!(memory.learn(&wanted("a.example"), half, later + ABSENT), Learned::Found);
    }

    #[test]
    fn names_are_bounded() {
        let (mut memory, now) = (Memory::default(), start());
        for number in 0..NAMES_MAX * 2 {
            memory.learn(&wanted(&format!("h{number}.example")), found("192.0.2.1", 60), now);
            assert!(memory.known.len() <= NAMES_MAX);
        }
        assert_eq!(memory.dropped as usize, NAMES_MAX);
    }
}
