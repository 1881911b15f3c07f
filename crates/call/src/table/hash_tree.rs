//! Entries in the order of their hashes, in a tree whose copies share what they have in common: a copy is a pointer, and
//! a change copies the few small nodes on its way and nothing else.
//!
//! It is wide and shallow, for what a look-up costs is how often it waits for memory: of a million entries the branches
//! stay in the caches, and in a leaf the hash tells nearly where its entry stands. What it refuses to do: know what an
//! entry is, or keep an order a caller could rely on beyond being the same for the same content. The hash is fixed, so
//! snapshots of two nodes are alike; who forges collisions makes changes slower and look-ups hardly, because a crowded
//! leaf is searched by halves.

use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::sync::Arc;

/// Bits of the hash that one branch looks at.
const STRIDE: u32 = 5;

/// Children of a branch.
const WIDTH: usize = 1 << STRIDE;

/// Entries of a leaf before it becomes a branch: four each of its children, so that small leaves stay rare.
const LEAF: usize = 4 * WIDTH;

/// What stands in the tree.
pub(crate) trait Hashed: Clone {
    /// Its place. The same for ever.
    fn hash(&self) -> u64;
}

/// The tree. Cloning is cheap.
#[derive(Clone, Debug)]
pub(crate) struct HashTree<E> {
    root: Child<E>,
    len: usize,
}

#[derive(Debug)]
enum Child<E> {
    Empty,
    /// The first `count` are there, ordered by hash; behind them is room. In one piece with its counter: a look-up
    /// follows one pointer and not two.
    Leaf {
        entries: Arc<[Option<E>]>,
        count: usize,
    },
    Branch(Arc<[Self; WIDTH]>),
}

impl<E> Clone for Child<E> {
    fn clone(&self) -> Self {
        match self {
            Self::Empty => Self::Empty,
            Self::Leaf { entries, count } => Self::Leaf { entries: Arc::clone(entries), count: *count },
            Self::Branch(children) => Self::Branch(Arc::clone(children)),
        }
    }
}

impl<E> Default for HashTree<E> {
    fn default() -> Self {
        Self { root: Child::Empty, len: 0 }
    }
}

impl<E: Hashed> HashTree<E> {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The entries of this hash, in the order in which they were placed. All are there.
    pub(crate) fn of_hash(&self, hash: u64) -> &[Option<E>] {
        let mut child = &self.root;
        let mut depth = 0;
        loop {
            match child {
                Child::Empty => return &[],
                Child::Leaf { entries, count } => return alike(&entries[..*count], hash, depth).1,
                Child::Branch(children) => {
                    child = &children[slot(hash, depth)];
                    depth += 1;
                }
            }
        }
    }

    /// Puts an entry in. `place` is shown those of the same hash and says whether it stands for one of them (`Ok`) or
    /// between them (`Err`), as a binary search does. Returns the one it stands for.
    pub(crate) fn insert(
        &mut self,
        entry: E,
        place: impl FnOnce(&[Option<E>]) -> Result<usize, usize>,
    ) -> Option<E> {
        let before = insert(&mut self.root, 0, entry, place);
        self.len += usize::from(before.is_none());
        before
    }

    /// Takes the entry out that `find` points to among those of the hash.
    pub(crate) fn remove(&mut self, hash: u64, find: impl Fn(&[Option<E>]) -> Option<usize>) -> Option<E> {
        // Without this look, taking away what is not there would copy the way to it.
        find(self.of_hash(hash))?;
        let removed = remove(&mut self.root, 0, hash, &find);
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// All of it, in the order of the hashes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &E> {
        let mut waiting = vec![&self.root];
        let mut leaf = [].iter().flatten();
        std::iter::from_fn(move || {
            loop {
                if let Some(entry) = leaf.next() {
                    return Some(entry);
                }
                match waiting.pop()? {
                    Child::Empty => {}
                    Child::Leaf { entries, count } => leaf = entries[..*count].iter().flatten(),
                    Child::Branch(children) => waiting.extend(children.iter().rev()),
                }
            }
        })
    }

    /// Whether no node is left.
    #[cfg(test)]
    pub(crate) fn is_bare(&self) -> bool {
        matches!(self.root, Child::Empty)
    }
}

pub(crate) fn hash_of(key: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

/// The child of a branch at this depth that the hash belongs to: the highest bits first, so that the order of leaves
/// is the order of hashes.
fn slot(hash: u64, depth: u32) -> usize {
    (hash >> (u64::BITS - STRIDE * (depth + 1))) as usize & (WIDTH - 1)
}

/// The hash of an entry of a leaf; beyond them all where there is none.
fn hash_at<E: Hashed>(entry: &Option<E>) -> u64 {
    entry.as_ref().map_or(u64::MAX, E::hash)
}

/// The entries of a leaf that have the hash, and where they begin.
fn alike<E: Hashed>(entries: &[Option<E>], hash: u64, depth: u32) -> (usize, &[Option<E>]) {
    let start = first_from(entries, hash, depth);
    let rest = &entries[start..];
    let count = match rest.len() > LEAF {
        true => rest.partition_point(|entry| hash_at(entry) == hash),
        false => rest.iter().take_while(|entry| hash_at(entry) == hash).count(),
    };
    (start, &rest[..count])
}

/// Where entries of this hash begin, or would. Hashes are spread evenly, so what the branches have not looked at yet
/// tells about where.
fn first_from<E: Hashed>(entries: &[Option<E>], hash: u64, depth: u32) -> usize {
    if entries.len() > LEAF {
        return entries.partition_point(|entry| hash_at(entry) < hash);
    }
    let left = hash.checked_shl(STRIDE * depth).unwrap_or(0) >> 32;
    let mut at = ((left * entries.len() as u64) >> 32) as usize;
    while at < entries.len() && hash_at(&entries[at]) < hash {
        at += 1;
    }
    while at > 0 && hash_at(&entries[at - 1]) >= hash {
        at -= 1;
    }
    at
}

fn insert<E: Hashed>(
    child: &mut Child<E>,
    depth: u32,
    entry: E,
    place: impl FnOnce(&[Option<E>]) -> Result<usize, usize>,
) -> Option<E> {
    match child {
        Child::Empty => {
            *child = leaf([Some(entry)].into_iter(), 1);
            None
        }
        Child::Branch(children) => {
            let slot = slot(entry.hash(), depth);
            insert(&mut Arc::make_mut(children)[slot], depth + 1, entry, place)
        }
        Child::Leaf { entries, count } => {
            let (start, same) = alike(&entries[..*count], entry.hash(), depth);
            match place(same) {
                Ok(at) => Arc::make_mut(entries)[start + at].replace(entry),
                Err(at) => {
                    if *count == entries.len() {
                        *entries = with_room(entries);
                    }
                    let entries = Arc::make_mut(entries);
                    entries[*count] = Some(entry);
                    entries[start + at..=*count].rotate_right(1);
                    *count += 1;
                    if *count > LEAF && depth < u64::BITS / STRIDE {
                        *child = split(entries[..*count].iter_mut().filter_map(Option::take), depth);
                    }
                    None
                }
            }
        }
    }
}

/// The entries in a larger piece, taken out of theirs when nobody shares it.
fn with_room<E: Hashed>(entries: &mut Arc<[Option<E>]>) -> Arc<[Option<E>]> {
    let room = entries.len() + entries.len() / 4 + 2;
    let mut larger = Vec::with_capacity(room);
    match Arc::get_mut(entries) {
        Some(own) => larger.extend(own.iter_mut().map(Option::take)),
        None => larger.extend(entries.iter().cloned()),
    }
    larger.resize_with(room, || None);
    larger.into()
}

fn leaf<E>(entries: impl Iterator<Item = Option<E>>, count: usize) -> Child<E> {
    Child::Leaf { entries: entries.collect(), count }
}

fn split<E: Hashed>(entries: impl Iterator<Item = E>, depth: u32) -> Child<E> {
    let mut leaves: [Vec<Option<E>>; WIDTH] = std::array::from_fn(|_| Vec::new());
    for entry in entries {
        leaves[slot(entry.hash(), depth)].push(Some(entry));
    }
    Child::Branch(Arc::new(leaves.map(|entries| match entries.len() {
        0 => Child::Empty,
        count => leaf(entries.into_iter(), count),
    })))
}

fn remove<E: Hashed>(
    child: &mut Child<E>,
    depth: u32,
    hash: u64,
    find: &impl Fn(&[Option<E>]) -> Option<usize>,
) -> Option<E> {
    let (removed, is_empty) = match child {
        Child::Empty => return None,
        Child::Branch(children) => {
            let children = Arc::make_mut(children);
            let removed = remove(&mut children[slot(hash, depth)], depth + 1, hash, find);
            (removed, children.iter().all(|child| matches!(child, Child::Empty)))
        }
        Child::Leaf { entries, count } => {
            let (start, same) = alike(&entries[..*count], hash, depth);
            let at = start + find(same)?;
            let entries = &mut Arc::make_mut(entries)[at..*count];
            let removed = entries[0].take();
            entries.rotate_left(1);
            *count -= 1;
            (removed, *count == 0)
        }
    };
    if is_empty {
        *child = Child::Empty;
    }
    removed
}
