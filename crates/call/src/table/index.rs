//! Rows found by one of their keys: a [`HashTree`] of shared rows. The key is the row's own and is kept nowhere else.
//!
//! What it refuses to do: hold two rows that its key's order calls equal; the later one takes the place of the earlier.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use super::hash_tree::{HashTree, Hashed};

/// By what rows are found.
pub(crate) trait Key<T> {
    /// The hash of the row's key. Rows may share it.
    fn hash(row: &T) -> u64;

    /// The order of rows that share a hash; equal are those of which there can be but one.
    fn order(left: &T, right: &T) -> Ordering;
}

/// The rows. Cloning is cheap.
pub(crate) struct Index<T, K> {
    tree: HashTree<Filed<T>>,
    key: PhantomData<fn() -> K>,
}

/// A row and its hash.
pub(crate) struct Filed<T> {
    hash: u64,
    pub(crate) row: Arc<T>,
}

impl<T> Clone for Filed<T> {
    fn clone(&self) -> Self {
        Self { hash: self.hash, row: Arc::clone(&self.row) }
    }
}

impl<T> Hashed for Filed<T> {
    fn hash(&self) -> u64 {
        self.hash
    }
}

impl<T, K> Clone for Index<T, K> {
    fn clone(&self) -> Self {
        Self { tree: self.tree.clone(), key: PhantomData }
    }
}

impl<T, K> Default for Index<T, K> {
    fn default() -> Self {
        Self { tree: HashTree::default(), key: PhantomData }
    }
}

impl<T, K> fmt::Debug for Index<T, K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Index").field("rows", &self.tree.len()).finish()
    }
}

impl<T, K: Key<T>> Index<T, K> {
    pub(crate) fn len(&self) -> usize {
        self.tree.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.tree.len() == 0
    }

    /// The rows of this hash in their order, among them those that are looked for.
    pub(crate) fn of_hash(&self, hash: u64) -> impl Iterator<Item = &Arc<T>> {
        self.tree.of_hash(hash).iter().flatten().map(|filed| &filed.row)
    }

    /// The rows of this hash that the order, by which they stand, calls equal.
    pub(crate) fn equal(&self, hash: u64, order: impl Fn(&T) -> Ordering) -> &[Option<Filed<T>>] {
        let same = self.tree.of_hash(hash);
        let start =
            same.partition_point(|filed| filed.as_ref().is_some_and(|filed| order(&filed.row).is_lt()));
        let count = same[start..]
            .partition_point(|filed| filed.as_ref().is_some_and(|filed| order(&filed.row).is_eq()));
        &same[start..start + count]
    }

    /// The rows of this hash from the first of which `is_before` is not true.
    pub(crate) fn of_hash_from(
        &self,
        hash: u64,
        is_before: impl Fn(&T) -> bool,
    ) -> impl Iterator<Item = &Arc<T>> {
        let same = self.tree.of_hash(hash);
        let start = same.partition_point(|filed| filed.as_ref().is_some_and(|filed| is_before(&filed.row)));
        same[start..].iter().flatten().map(|filed| &filed.row)
    }

    /// Puts the row in and returns the one it takes the place of.
    pub(crate) fn insert(&mut self, row: Arc<T>) -> Option<Arc<T>> {
        let hash = K::hash(&row);
        let again = Arc::clone(&row);
        let place = |same: &[Option<Filed<T>>]| search(same, |row| K::order(row, &again));
        self.tree.insert(Filed { hash, row }, place).map(|filed| filed.row)
    }

    /// Takes the row out that the order calls equal.
    pub(crate) fn remove(&mut self, row: &T) -> Option<Arc<T>> {
        self.remove_by(K::hash(row), |other| K::order(other, row))
    }

    /// Takes the row out that stands where the order says.
    pub(crate) fn remove_by(&mut self, hash: u64, order: impl Fn(&T) -> Ordering) -> Option<Arc<T>> {
        let find = |same: &[Option<Filed<T>>]| search(same, &order).ok();
        self.tree.remove(hash, find).map(|filed| filed.row)
    }

    /// All rows, in the order of their hashes.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<T>> {
        self.tree.iter().map(|filed| &filed.row)
    }
}

/// Where the row stands that the order calls equal, or where it would.
fn search<T>(same: &[Option<Filed<T>>], order: impl Fn(&T) -> Ordering) -> Result<usize, usize> {
    same.binary_search_by(|filed| filed.as_ref().map_or(Ordering::Greater, |filed| order(&filed.row)))
}
