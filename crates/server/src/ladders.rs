//! The SIP ladders of the last calls, in memory, read by the account they belong to.
//!
//! Bounded by the number of messages held; the oldest ladder makes room. A failed call's ladder is kept as
//! any other.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use tandem_call::{AccountId, CallId, ladder::Rung};

/// Messages held in all: some thousand calls of a dozen messages, about a kilobyte each.
const MESSAGES: usize = 16_384;

#[derive(Debug, Default)]
struct Kept {
    ladders: BTreeMap<CallId, (AccountId, Arc<[Rung]>)>,
    order: VecDeque<CallId>,
    messages: usize,
}

/// The ladders.
#[derive(Debug, Default)]
pub struct Ladders {
    kept: Mutex<Kept>,
}

impl Ladders {
    /// Keeps the ladder of a call that ended, in place of the oldest if there is no room.
    pub fn keep(&self, call: CallId, account: AccountId, rungs: Arc<[Rung]>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.messages += rungs.len();
        if let Some((_, before)) = kept.ladders.insert(call, (account, rungs)) {
            kept.messages -= before.len();
        } else {
            kept.order.push_back(call);
        }
        while kept.messages > MESSAGES
            && let Some(oldest) = kept.order.pop_front()
        {
            if let Some((_, rungs)) = kept.ladders.remove(&oldest) {
                kept.messages -= rungs.len();
            }
        }
    }

    /// The ladder of one call of the account.
    #[must_use]
    pub fn of(&self, account: &AccountId, call: CallId) -> Option<Arc<[Rung]>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (owner, rungs) = kept.ladders.get(&call)?;
        (owner == account).then(|| Arc::clone(rungs))
    }
}
