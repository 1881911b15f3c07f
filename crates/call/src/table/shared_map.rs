//! A hash map whose copies share what they have in common: a [`HashTree`] of keys and values.

use std::borrow::Borrow;
use std::hash::Hash;

use super::hash_tree::{HashTree, Hashed, hash_of};

/// The map. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct SharedMap<K, V> {
    tree: HashTree<Entry<K, V>>,
}

#[derive(Clone, Debug)]
struct Entry<K, V> {
    hash: u64,
    key: K,
    value: V,
}

impl<K: Clone, V: Clone> Hashed for Entry<K, V> {
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl<K, V> Default for SharedMap<K, V> {
    fn default() -> Self {
        Self { tree: HashTree::default() }
    }
}

impl<K: Hash + Eq + Clone, V: Clone> SharedMap<K, V> {
    pub(crate) fn is_empty(&self) -> bool {
        self.tree.len() == 0
    }

    pub(crate) fn get<Q: Hash + Eq + ?Sized>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
    {
        if self.is_empty() {
            return None;
        }
        let same = self.tree.of_hash(hash_of(key));
        same.iter().flatten().find(|entry| entry.key.borrow() == key).map(|entry| &entry.value)
    }

    /// Puts the value there and returns the one that was.
    pub(crate) fn insert(&mut self, key: K, value: V) -> Option<V> {
        let hash = hash_of(&key);
        let key_again = key.clone();
        let place = |same: &[Option<Entry<K, V>>]| {
            same.iter().flatten().position(|entry| entry.key == key_again).ok_or(same.len())
        };
        self.tree.insert(Entry { hash, key, value }, place).map(|entry| entry.value)
    }

    pub(crate) fn remove<Q: Hash + Eq + ?Sized>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
    {
        let find =
            |same: &[Option<Entry<K, V>>]| same.iter().flatten().position(|entry| entry.key.borrow() == key);
        self.tree.remove(hash_of(key), find).map(|entry| entry.value)
    }

    /// All of it, in the order of the hashes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.tree.iter().map(|entry| (&entry.key, &entry.value))
    }
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
            assert_eq!(map.tree.len(), plain.len());
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
        assert!(map.is_empty() && map.tree.is_bare());
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
