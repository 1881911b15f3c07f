//! A set in order, in runs that its copies share: a change copies one run and the list of runs.
//!
//! What it is for: the trunks that share one carrier's range or one digest user name, the oldest first. Mostly there is
//! one; there may be every trunk of the node.

use std::sync::Arc;

/// Members of a run before it is cut in two.
const RUN: usize = 256;

/// The set. Cloning costs as much as its number of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct OrderedSet<T> {
    /// None is empty.
    runs: Vec<Arc<Vec<T>>>,
}

impl<T> Default for OrderedSet<T> {
    fn default() -> Self {
        Self { runs: Vec::new() }
    }
}

impl<T: Ord + Clone> OrderedSet<T> {
    pub(crate) fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.runs.iter().flat_map(|run| run.iter())
    }

    /// The run that holds the member, if any does.
    fn run_of(&self, member: &T) -> usize {
        self.runs.partition_point(|run| run[0] <= *member).saturating_sub(1)
    }

    pub(crate) fn insert(&mut self, member: T) {
        let at = self.run_of(&member);
        let Some(run) = self.runs.get_mut(at) else {
            self.runs.push(Arc::new(vec![member]));
            return;
        };
        let Err(place) = run.binary_search(&member) else { return };
        let run = Arc::make_mut(run);
        run.insert(place, member);
        if run.len() > RUN {
            // What comes in order, the oldest first, is never cut again: full runs stay full.
            let cut = if place == RUN { RUN } else { RUN / 2 };
            let rest = run.split_off(cut);
            self.runs.insert(at + 1, Arc::new(rest));
        }
    }

    pub(crate) fn remove(&mut self, member: &T) {
        let at = self.run_of(member);
        let Some(run) = self.runs.get_mut(at) else { return };
        let Ok(place) = run.binary_search(member) else { return };
        let run = Arc::make_mut(run);
        run.remove(place);
        if run.is_empty() {
            self.runs.remove(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_in_order_whatever_the_order_of_changes() {
        let mut set = OrderedSet::default();
        let mut plain = BTreeSet::new();
        let mut state = 7_u64;
        for step in 0..20_000_u64 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let member = if step < 2_000 { step } else { (state >> 33) % 4_000 };
            if state >> 63 == 0 {
                set.insert(member);
                plain.insert(member);
            } else {
                set.remove(&member);
                plain.remove(&member);
            }
        }
        assert!(set.iter().eq(plain.iter()));
        assert!(set.runs.iter().all(|run| !run.is_empty() && run.len() <= RUN));
        for member in plain {
            set.remove(&member);
        }
        assert!(set.is_empty());
    }
}
