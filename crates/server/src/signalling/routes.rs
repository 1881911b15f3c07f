//! Numbers that INVITEs wait for while the routing table is still being read: each looked up by itself, few at once.

use std::sync::Arc;

use tandem_call::{Input, RoutingTable, Ticket};
use tokio::sync::{Semaphore, mpsc};

use super::Signalling;
use crate::{routing::route_of, store::Store};

/// Look-ups at once: the store is still being read for the table, and the API asks it too.
const AT_ONCE: usize = 4;

/// Results that may wait.
const RESULTS: usize = 64;

/// What was found for an INVITE that waits.
type Found = (Ticket, Arc<RoutingTable>);

/// Looks numbers up.
pub(super) struct Routes {
    store: Store,
    turns: Arc<Semaphore>,
    results: mpsc::Sender<Found>,
    found: mpsc::Receiver<Found>,
}

impl Routes {
    pub(super) fn new(store: Store) -> Self {
        let (results, found) = mpsc::channel(RESULTS);
        Self { store, turns: Arc::new(Semaphore::new(AT_ONCE)), results, found }
    }

    /// The next look-up that is over.
    pub(super) async fn next(&mut self) -> Option<Found> {
        self.found.recv().await
    }
}

impl Signalling {
    /// Looks a number up. As many of these wait as INVITEs do, and those the engine bounds.
    pub(super) fn find_route(&self, ticket: Ticket, keys: Vec<String>) {
        let (store, turns) = (self.routes.store.clone(), Arc::clone(&self.routes.turns));
        let results = self.routes.results.clone();
        tokio::spawn(async move {
            // Nobody closes it.
            let Ok(_turn) = turns.acquire_owned().await else { return };
            match route_of(&store, &keys).await {
                // The receiver goes only with signalling itself.
                Ok(table) => drop(results.send((ticket, Arc::new(table))).await),
                Err(error) => {
                    metrics::counter!("tandem_routing_failures_total").increment(1);
                    tracing::warn!(%error, "a number was not looked up; its call waits for the table");
                }
            }
        });
    }

    pub(super) fn route_found(&mut self, (ticket, found): Found) {
        self.engine(Input::RouteFound { ticket, found });
    }
}
