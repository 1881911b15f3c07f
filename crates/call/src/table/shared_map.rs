//! A hash map whose copies share what they have in common: a copy is a pointer, and a change copies the few small nodes
//! on its way and nothing else.
//!
//! What it refuses to do: keep an order a caller could rely on, beyond being the same for the same content. The hash is
//! fixed, so snapshots of two nodes are alike; who forges collisions makes changes slower and look-ups hardly, because
//! a leaf is searched by halves.

use std::borrow::Borrow;
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

/// Bits of the hash that one branch looks at.
const STRIDE: u32 = 4;

/// Children of a branch.
const WIDTH: usize = 1 << STRIDE;

/// Entries of a leaf before it becomes a branch: two each of its children, so that small leaves stay rare.
const LEAF: usize = 2 * WIDTH;

/// The map. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct SharedMap<K, V> {
    root: Child<K, V>,
    len: usize,
}

#[derive(Clone, Debug)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

#[derive(Debug)]
enum Child<K, V> {
    Empty,
    /// Ordered by hash.
    Leaf(Arc<Vec<Entry<K, V>>>),
    Branch(Arc<[Self; WIDTH]>),
}

impl<K, V> Clone for Child<K, V> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Leaf(entries) => Self::Leaf(Arc::clone(entries)),
            Self::Branch(children) => Self::Branch(Arc::clone(children)),
        }
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { root: Child::Empty, len: 0 }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        let hash = hash_of(key);
        let mut child = &self.root;
        let mut depth = 0;
        loop {
            match child {
                Child::Empty => return None,
                Child::Leaf(entries) => return find(entries, hash, key).ok().map(|at| &entries[at].value),
                Child::Branch(children) => {
                    child = &children[slot(hash, depth)];
                    depth += 1;
                }
            }
        }
    }

    /// Puts the value there and returns the one that was.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = hash_of(&key);
        let before = insert(&mut self.root, 0, Entry { hash, key, value });
        self.len += usize::from(before.is_none());
        before
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        // Without this look, taking away what is not there would copy the way to it.
        self.get(key)?;
        let removed = remove(&mut self.root, 0, hash_of(key), key);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// All of it, in the order of the hashes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut waiting = vec![&self.root];
        let mut leaf: std::slice::Iter<'_, Entry<K, V>> = [].iter();
        std::iter::from_fn(move || {
            loop {
                if let Some(entry) = leaf.next() {
                    return Some((&entry.key, &entry.value));
                }
                match waiting.pop()? {
                    Child::Empty => {}
                    Child::Leaf(entries) => leaf = entries.iter(),
                    Child::Branch(children) => waiting.extend(children.iter().rev()),
                }
            }
        })
    }

    pub(crate) fn values(&self) -> impl Iterator<Item = &V> {
        self.iter().map(|(_, value)| value)
    }
}

fn hash_of(key: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The child of a branch at this depth that the hash belongs to: the highest bits first, so that the order of leaves
/// is the order of hashes.
fn slot(hash: u64, depth: u32) -> usize {
    (hash >> (u64::BITS - STRIDE * (depth + 1))) as usize & (WIDTH - 1)
}

/// Where the key is, or where it would be put.
fn find<K: Borrow<Q>, V, Q: Eq + ?Sized>(
    entries: &[Entry<K, V>],
    hash: u64,
    key: &Q,
) -> Result<usize, usize> {
    let start = entries.partition_point(|entry| entry.hash < hash);
    let mut end = start;
    for entry in &entries[start..] {
        if entry.hash != hash {
            break;
        }
        if entry.key.borrow() == key {
            return Ok(end);
        }
        end += 1;
    }
    Err(end)
}

fn insert<K: Eq + Clone, V: Clone>(child: &mut Child<K, V>, depth: u32, entry: Entry<K, V>) -> Option<V> {
    match child {
        Child::Empty => {
            *child = Child::Leaf(Arc::new(vec![entry]));
            None
        }
        Child::Branch(children) => {
            insert(&mut Arc::make_mut(children)[slot(entry.hash, depth)], depth + 1, entry)
        }
        Child::Leaf(entries) => {
            let entries = Arc::make_mut(entries);
            match find(entries, entry.hash, &entry.key) {
                Ok(at) => Some(std::mem::replace(&mut entries[at].value, entry.value)),
                Err(at) => {
                    entries.insert(at, entry);
                    if entries.len() > LEAF && depth < u64::BITS / STRIDE {
                        *child = split(std::mem::take(entries), depth);
                    }
                    None
                }
            }
        }
    }
}

fn split<K, V>(entries: Vec<Entry<K, V>>, depth: u32) -> Child<K, V> {
    let mut leaves: [Vec<Entry<K, V>>; WIDTH] = Default::default();
    for entry in entries {
        leaves[slot(entry.hash, depth)].push(entry);
    }
    Child::Branch(Arc::new(leaves.map(|leaf| match leaf.is_empty() {
        true => Child::Empty,
        false => Child::Leaf(Arc::new(leaf)),
    })))
}

fn remove<K: Eq + Clone + Borrow<Q>, V: Clone, Q: Eq + ?Sized>(
    child: &mut Child<K, V>,
    depth: u32,
    hash: u64,
    key: &Q,
) -> Option<V> {
    let (removed, is_empty) = match child {
        Child::Empty => return None,
        Child::Branch(children) => {
            let children = Arc::make_mut(children);
            let removed = remove(&mut children[slot(hash, depth)], depth + 1, hash, key);
            (removed, children.iter().all(|child| matches!(child, Child::Empty)))
        }
        Child::Leaf(entries) => {
            let entries = Arc::make_mut(entries);
            let removed = find(entries, hash, key).ok().map(|at| entries.remove(at).value);
            (removed, entries.is_empty())
        }
    };
    if is_empty {
        *child = Child::Empty;
    }
    removed
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn it_holds_what_a_plain_map_holds_and_its_copies_stay_as_they_were() {
        let mut map = SharedMap::default();
        let mut plain = BTreeMap::new();
        let mut copies = Vec::new();
        let mut state = 1_u64;
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let key = (state >> 33) % 3_000;
            if state >> 62 == 0 {
                assert_eq!(map.remove(&key), plain.remove(&key));
            } else {
                assert_eq!(map.insert(key, step), plain.insert(key, step));
            }
            if step.is_multiple_of(4_999) {
                copies.push((map.clone(), plain.clone()));
            }
        }
        copies.push((map, plain));
        for (map, plain) in copies {
            assert_eq!(map.len(), plain.len());
            assert!((0..3_000).all(|key| map.get(&key) == plain.get(&key)));
            let all: BTreeMap<_, _> = map.iter().map(|(key, value)| (*key, *value)).collect();
            assert_eq!(all, plain);
        }
    }

    #[test]
    fn emptied_it_holds_no_node() {
        let mut map: SharedMap<u32, ()> = SharedMap::default();
        for key in 0..1_000 {
            map.insert(key, ());
        }
        for key in 0..1_000 {
            map.remove(&key);
        }
        assert!(map.is_empty() && matches!(map.root, Child::Empty));
    }

    #[test]
    fn keys_of_one_hash_are_told_apart() {
        #[derive(Clone, Debug, PartialEq, Eq)]
        struct Alike(u32);
        impl Hash for Alike {
            fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
                0_u8.hash(state);
            }
        }
        let mut map = SharedMap::default();
        for key in 0..100 {
            assert_eq!(map.insert(Alike(key), key), None);
        }
        assert_eq!(map.remove(&Alike(50)), Some(50));
        assert!((0..100).all(|key| map.get(&Alike(key)).copied() == (key != 50).then_some(key)));
    }
}
