//! The numbers of the table, each kept once and found in four ways: by identifier, by what is dialled, by what the
//! carrier dials instead, and by its last digits.
//!
//! What it refuses to do: follow a number to its trunk; whether that is there and of the same account is asked when
//! the number is looked for.

use std::cmp::Ordering;
use std::hint::black_box;
use std::sync::Arc;

use super::Number;
use super::hash_tree::hash_of;
use super::index::{Index, Key};
use crate::dialled;
use crate::ids::{AccountId, AgentId, NumberId, TrunkId};
use crate::short_text::ShortText;

/// Digits at the end of a number by which numbers alike are found: those of a subscriber number, and fewer are no
/// likeness.
pub(crate) const TAIL: usize = 7;

/// One number as the table keeps it: in one piece, for a look-up pays for each pointer it follows.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct NumberEntry {
    pub(crate) id: NumberId,
    pub(super) account: AccountId,
    pub(super) trunk: TrunkId,
    pub(crate) agent: Option<AgentId>,
    /// As its owner wrote it.
    pub(crate) number: ShortText,
    pub(crate) is_active: bool,
    pub(crate) is_for_pstn: bool,
    unusual: Option<Box<Unusual>>,
}

/// What few numbers have.
#[derive(Debug, Default, PartialEq, Eq)]
struct Unusual {
    /// As it is looked up, where that is not the number without its plus.
    key: Option<Box<str>>,
    /// As it is looked up besides, where the carrier writes it in another way.
    destination: Option<Box<str>>,
}

impl NumberEntry {
    /// The entry of a row; `None` for what can never be dialled.
    fn of(number: Number) -> Option<Self> {
        let key = dialled::stored_key(&number.number)?;
        // A carrier that writes the number itself needs no second way to it.
        let destination = number.destination_key.as_deref().and_then(dialled::stored_key);
        let destination = destination.filter(|destination| *destination != key).map(String::into_boxed_str);
        let text = ShortText::from(number.number.as_str());
        let key = (plain_key(&text) != key.as_bytes()).then(|| key.into_boxed_str());
        let is_usual = key.is_none() && destination.is_none();
        Some(Self {
            id: number.id,
            account: number.account,
            trunk: number.trunk,
            agent: number.agent,
            number: text,
            is_active: number.is_active,
            is_for_pstn: number.is_for_pstn,
            unusual: (!is_usual).then(|| Box::new(Unusual { key, destination })),
        })
    }

    /// Asks memory for all of its lines together. Read one by one, as a decision comes to them, a number that is in no
    /// cache would be waited for three times.
    fn fetch(&self) {
        let lengths = [self.id.octets(), self.account.octets(), self.trunk.octets(), self.number.octets()];
        black_box((lengths, self.agent.is_some(), self.is_active, self.unusual.is_some()));
    }

    /// As it is looked up.
    fn key(&self) -> &[u8] {
        let own = self.unusual.as_ref().and_then(|unusual| unusual.key.as_ref());
        own.map_or_else(|| plain_key(&self.number), |key| key.as_bytes())
    }

    fn destination(&self) -> Option<&[u8]> {
        self.unusual.as_ref().and_then(|unusual| unusual.destination.as_ref()).map(|key| key.as_bytes())
    }

    fn backwards(&self) -> impl Iterator<Item = u8> + '_ {
        self.key().iter().rev().copied()
    }
}

fn plain_key(number: &ShortText) -> &[u8] {
    let bytes = number.as_bytes();
    bytes.strip_prefix(b"+").unwrap_or(bytes)
}

/// The last digits of a number, when it has so many.
fn tail(key: &[u8]) -> Option<[u8; TAIL]> {
    key.last_chunk().copied().filter(|tail: &[u8; TAIL]| tail.iter().all(u8::is_ascii_digit))
}

/// By identifier.
enum ById {}

impl Key<NumberEntry> for ById {
    fn hash(row: &NumberEntry) -> u64 {
        hash_of(&row.id)
    }

    fn order(left: &NumberEntry, right: &NumberEntry) -> Ordering {
        left.id.cmp(&right.id)
    }
}

/// By what is dialled, then by identifier.
enum ByKey {}

impl Key<NumberEntry> for ByKey {
    fn hash(row: &NumberEntry) -> u64 {
        hash_of(row.key())
    }

    fn order(left: &NumberEntry, right: &NumberEntry) -> Ordering {
        left.key().cmp(right.key()).then_with(|| left.id.cmp(&right.id))
    }
}

/// By what the carrier dials instead, then by identifier. Numbers without such are not in it.
enum ByDestination {}

impl Key<NumberEntry> for ByDestination {
    fn hash(row: &NumberEntry) -> u64 {
        hash_of(row.destination().unwrap_or_default())
    }

    fn order(left: &NumberEntry, right: &NumberEntry) -> Ordering {
        left.destination().cmp(&right.destination()).then_with(|| left.id.cmp(&right.id))
    }
}

/// By the last digits; those that share them by their key read backwards, so that numbers that end alike stand
/// together, then by identifier. Numbers with fewer digits are not in it.
enum ByTail {}

impl Key<NumberEntry> for ByTail {
    fn hash(row: &NumberEntry) -> u64 {
        hash_of(&tail(row.key()))
    }

    fn order(left: &NumberEntry, right: &NumberEntry) -> Ordering {
        left.backwards().cmp(right.backwards()).then_with(|| left.id.cmp(&right.id))
    }
}

/// The numbers. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub(super) struct NumberIndex {
    by_id: Index<NumberEntry, ById>,
    by_key: Index<NumberEntry, ByKey>,
    by_destination: Index<NumberEntry, ByDestination>,
    by_tail: Index<NumberEntry, ByTail>,
}

impl NumberIndex {
    pub(super) fn len(&self) -> usize {
        self.by_id.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<NumberEntry>> {
        self.by_id.iter()
    }

    /// Puts a number in, instead of the one of this identifier if there is one.
    pub(super) fn put(&mut self, number: Number) {
        self.remove(&number.id);
        let Some(entry) = NumberEntry::of(number) else { return };
        let entry = Arc::new(entry);
        if entry.destination().is_some() {
            self.by_destination.insert(Arc::clone(&entry));
        }
        if tail(entry.key()).is_some() {
            self.by_tail.insert(Arc::clone(&entry));
        }
        self.by_key.insert(Arc::clone(&entry));
        self.by_id.insert(entry);
    }

    pub(super) fn remove(&mut self, id: &NumberId) {
        let Some(entry) = self.by_id.remove_by(hash_of(id), |row| row.id.cmp(id)) else { return };
        self.by_key.remove(&entry);
        if entry.destination().is_some() {
            self.by_destination.remove(&entry);
        }
        if tail(entry.key()).is_some() {
            self.by_tail.remove(&entry);
        }
    }

    /// Those found by the key, by identifier.
    pub(super) fn of_key<'a>(&'a self, key: &str) -> impl Iterator<Item = &'a Arc<NumberEntry>> + use<'a> {
        let key = key.as_bytes();
        let order = |entry: &NumberEntry| {
            entry.fetch();
            entry.key().cmp(key)
        };
        self.by_key.equal(hash_of(key), order).iter().flatten().map(|filed| &filed.row)
    }

    /// Those whose carriers write this key, by identifier.
    pub(super) fn of_destination<'a>(
        &'a self,
        key: &str,
    ) -> impl Iterator<Item = &'a Arc<NumberEntry>> + use<'a> {
        let key = key.as_bytes();
        // Mostly no carrier has a way of its own, and then there is nothing to hash.
        let hash = if self.by_destination.is_empty() { 0 } else { hash_of(key) };
        let found = self.by_destination.equal(hash, |entry| entry.destination().cmp(&Some(key)));
        found.iter().flatten().map(|filed| &filed.row)
    }

    /// Those whose digits end with these, at least [`TAIL`] of them, the shortest first.
    pub(super) fn ending_with<'a>(&'a self, digits: &'a str) -> impl Iterator<Item = &'a Arc<NumberEntry>> {
        let digits = digits.as_bytes();
        let hash = tail(digits).map(|tail| hash_of(&Some(tail)));
        let backwards = move || digits.iter().rev().copied();
        hash.into_iter()
            .flat_map(move |hash| {
                self.by_tail.of_hash_from(hash, move |entry| entry.backwards().lt(backwards()))
            })
            .take_while(move |entry| entry.key().ends_with(digits))
    }

    /// What is here and not there, or is found here and not there.
    pub(super) fn missing_in(&self, other: &Self) -> Option<String> {
        fn first_other<'a>(
            mut here: impl Iterator<Item = &'a Arc<NumberEntry>>,
            mut there: impl Iterator<Item = &'a Arc<NumberEntry>>,
            how: &str,
        ) -> Option<String> {
            here.find(|entry| there.next() != Some(*entry))
                .map(|entry| format!("number {} by {how}", entry.id))
        }
        first_other(self.by_id.iter(), other.by_id.iter(), "identifier")
            .or_else(|| first_other(self.by_key.iter(), other.by_key.iter(), "what is dialled"))
            .or_else(|| {
                first_other(self.by_destination.iter(), other.by_destination.iter(), "its destination")
            })
            .or_else(|| first_other(self.by_tail.iter(), other.by_tail.iter(), "its last digits"))
    }

    /// Whether no number is found by what its carrier writes instead.
    #[cfg(test)]
    pub(super) fn has_no_destination(&self) -> bool {
        self.by_destination.is_empty()
    }
}
