//! Where requests wait at a start: the table is still being read, and nobody is refused by half of it.
//!
//! ```text
//!  a request ──► waits ──► its number found alone (`FindRoute`, `RouteFound`): connected at once
//!                  └─────► the whole table is there (`Routing`): decided as ever
//! ```
//!
//! So a node takes calls as soon as it is up, however many numbers it has, and what it has not read yet is never taken
//! for what is not there: by a number found alone an INVITE is connected or goes on waiting; it is challenged or refused by
//! the whole table only. Nothing is sent to who waits, not even 100: over UDP the INVITE is repeated for 32 seconds (RFC
//! 3261 section 17.1.1.2), and who has no provisional response has nothing to cancel (section 9.1).
//!
//! Bounded in requests and in bytes; beyond that a request is left to be repeated. What it refuses to do: decide.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tandem_sip::{Incoming, Method, Refusal};

use crate::engine::Engine;
use crate::invite::query_of;
use crate::negotiation::read_offer;
use crate::output::Output;
use crate::route::{self, Action, Authentication};
use crate::table::RoutingTable;

/// Requests that wait at once.
const MOST: usize = 4_096;

/// Bytes of all their messages.
const MOST_BYTES: usize = 16 << 20;

/// How long anybody waits for an answer: timers B and F of RFC 3261, 64*T1.
const PATIENCE: Duration = Duration::from_secs(32);

/// Which request waits for its number, in the order of their coming.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Those who wait.
#[derive(Debug, Default)]
pub(crate) struct WaitingRoom {
    waiting: BTreeMap<Ticket, Waiting>,
    /// By the name that repeats of a request share.
    names: BTreeMap<u64, Ticket>,
    bytes: usize,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    incoming: Incoming,
    name: u64,
    since: Instant,
}

impl Waiting {
    fn bytes(&self) -> usize {
        self.incoming.request().as_bytes().len()
    }

    /// Whether its sender has given up by now.
    fn is_stale(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) >= PATIENCE
    }
}

impl WaitingRoom {
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Lets a request in that does not wait yet; `None` when there is no room.
    fn admit(&mut self, waiting: Waiting, now: Instant) -> Option<Ticket> {
        while let Some((&ticket, _)) = self.waiting.first_key_value().filter(|(_, first)| first.is_stale(now))
        {
            self.take(ticket);
        }
        if self.waiting.len() >= MOST || self.bytes + waiting.bytes() > MOST_BYTES {
            return None;
        }
        let ticket = Ticket(self.next);
        self.next += 1;
        self.put(ticket, waiting);
        Some(ticket)
    }

    fn put(&mut self, ticket: Ticket, waiting: Waiting) {
        self.bytes += waiting.bytes();
        self.names.insert(waiting.name, ticket);
        self.waiting.insert(ticket, waiting);
    }

    fn take(&mut self, ticket: Ticket) -> Option<Waiting> {
        let waiting = self.waiting.remove(&ticket)?;
        self.bytes -= waiting.bytes();
        self.names.remove(&waiting.name);
        Some(waiting)
    }
}

impl Engine {
    /// From now on requests wait for the table.
    pub(crate) fn open_waiting_room(&mut self) {
        self.waiting_room = Some(WaitingRoom::default());
    }

    /// Has a request wait for the table, and asks for the number of an INVITE.
    pub(crate) fn keep_waiting(&mut self, incoming: Incoming, now: Instant) {
        if self.node.admission.is_draining() {
            return self.node.endpoint.refuse(incoming, &come_again());
        }
        let name = self.doorkeeper.name(incoming.request(), incoming.source());
        let Some(room) = &mut self.waiting_room else { return };
        if room.names.contains_key(&name) {
            return;
        }
        let request = incoming.request();
        let is_invite = request.method() == Method::Invite;
        let users = [request.uri().user(), request.to().uri().user()];
        let mut keys: Vec<String> = users.into_iter().flatten().filter_map(crate::dialled::key).collect();
        keys.dedup();
        match room.admit(Waiting { incoming, name, since: now }, now) {
            Some(ticket) => {
                self.node.counters.waited += 1;
                if is_invite && !keys.is_empty() {
                    self.node.emit(Output::FindRoute { ticket, keys });
                }
            }
            None => self.node.counters.turned_from_waiting += 1,
        }
    }

    /// The number of an INVITE that waits, with what it takes to route it. Connected by it the INVITE is what it would be by
    /// the whole table: numbers found by themselves stand before all else that could be found.
    pub(crate) fn route_found(&mut self, ticket: Ticket, found: Arc<RoutingTable>, now: Instant) {
        let Some(waiting) = self.waiting_room.as_mut().and_then(|room| room.take(ticket)) else {
            self.node.counters.late_inputs += 1;
            return;
        };
        if waiting.is_stale(now) {
            return;
        }
        if !connects(&waiting.incoming, &found) {
            if let Some(room) = &mut self.waiting_room {
                room.put(ticket, waiting);
            }
            return;
        }
        self.node.counters.found_alone += 1;
        let before = std::mem::replace(&mut self.node.table, found);
        self.invite(waiting.incoming, now);
        self.node.table = before;
    }

    /// The whole table is there: whoever waits is decided on, in the order of their coming.
    pub(crate) fn close_waiting_room(&mut self, now: Instant) {
        let Some(room) = self.waiting_room.take() else { return };
        for waiting in room.waiting.into_values().filter(|waiting| !waiting.is_stale(now)) {
            self.incoming(waiting.incoming, now);
        }
    }

    /// The node stops: whoever waits may come again elsewhere.
    pub(crate) fn empty_waiting_room(&mut self) {
        let Some(room) = &mut self.waiting_room else { return };
        for waiting in std::mem::take(room).waiting.into_values() {
            self.node.endpoint.refuse(waiting.incoming, &come_again());
        }
    }
}

fn come_again() -> Refusal {
    Refusal::new(503).header("Retry-After", "30")
}

/// Whether the INVITE is connected by what was found for it alone.
fn connects(incoming: &Incoming, found: &RoutingTable) -> bool {
    let request = incoming.request();
    let (summary, _) = read_offer(request.fields().body_bytes());
    let query = query_of(request, incoming.source(), incoming.flow().transport, summary);
    matches!(route::evaluate(&query, found, &Authentication::Absent).action, Action::Connect(_))
}
