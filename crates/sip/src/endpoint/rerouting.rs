//! Requests of ours that take another way than they were meant to: by TCP, for they are too large for a datagram; back by UDP,
//! for the peer takes no TCP; and over a new connection, for the one they went over is gone.
//!
//! RFC 3261 18.1.1, 18.4. What a request is repeated by keeps its branch and its sent-by, so that a peer that had it already
//! takes it for a retransmission. Each request is moved once; what fails after that has failed. Bounded: peers remembered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::config::LargeRequests;
use super::event::Target;
use super::transactions::{ClientEntry, ClientMachine, Owner};
use super::{Endpoint, Reason, TimerKey};
use crate::flow::{Flow, Transport};
use crate::ids::TransactionId;
use crate::message::{Message, Method};
use crate::transaction::Actions;
use crate::transaction::client::Client;
use crate::transaction::client_invite::ClientInvite;
use crate::transaction::timing::{Reliability, Timing};

/// How long a peer that took no TCP is spared it. Then it is tried again: carriers open ports, and a firewall that was in the
/// way must not decide for ever.
const REFUSAL_KEPT: Duration = Duration::from_secs(600);
/// Peers remembered.
const REFUSALS_MAX: usize = 1_024;
/// How long a connection may take to stand until the request goes by UDP after all: a firewall that drops what opens one
/// says nothing, and nobody who waits for a call waits for that.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);

/// Peers that take no TCP, and until when that is taken for true.
#[derive(Debug, Default)]
pub(super) struct TcpRefusals {
    until: BTreeMap<SocketAddr, Instant>,
}

impl TcpRefusals {
    fn holds(&self, peer: SocketAddr, now: Instant) -> bool {
        self.until.get(&peer).is_some_and(|until| now < *until)
    }

    fn note(&mut self, peer: SocketAddr, now: Instant) {
        if self.until.len() >= REFUSALS_MAX {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= REFUSALS_MAX {
            self.until.clear();
        }
        self.until.insert(peer, now + REFUSAL_KEPT);
    }
}

/// A request as it was meant to go.
#[derive(Clone, Debug)]
pub(super) struct Meant {
    bytes: Bytes,
    target: Target,
}

/// A request as it goes, and as it was meant to, where that differs.
pub(super) struct Fitted {
    pub(super) bytes: Bytes,
    pub(super) target: Target,
    pub(super) meant: Option<Meant>,
}

impl Endpoint {
    /// RFC 3261 18.1.1: "If a request is within 200 bytes of the path MTU, or if it is larger than 1300 bytes and the path
    /// MTU is unknown, the request MUST be sent using an RFC 2914 congestion controlled transport protocol, such as TCP. If
    /// this causes a change in the transport protocol from the one indicated in the top Via, the value in the top Via MUST
    /// be changed." The Contact stays: what is small goes by UDP as before, both ways.
    pub(super) fn fitted(
        &mut self,
        now: Instant,
        bytes: Bytes,
        target: Target,
        large: LargeRequests,
    ) -> Fitted {
        let remote = match &target {
            Target::Flow(Flow { transport: Transport::Udp, remote, .. })
            | Target::Address { transport: Transport::Udp, remote, .. } => *remote,
            Target::Flow(_) | Target::Address { .. } | Target::Name { .. } | Target::Close(_) => {
                return Fitted { bytes, target, meant: None };
            }
        };
        let is_large = bytes.len() > self.config.limits.datagram;
        let is_movable = large == LargeRequests::ByTcp && !self.tcp_refusals.holds(remote, now);
        let Some(moved) = (is_large && is_movable).then(|| by_tcp(&bytes)).flatten() else {
            return Fitted { bytes, target, meant: None };
        };
        self.counters.large_by_tcp += 1;
        let by = Target::Address { transport: Transport::Tcp, local: None, remote, name: None };
        Fitted { bytes: moved, target: by, meant: Some(Meant { bytes, target }) }
    }

    /// Watches over the connection that a large request opens.
    pub(super) fn await_connection(&mut self, now: Instant, id: TransactionId) {
        let is_open =
            self.clients.get(&id).is_none_or(|entry| self.streams.leading_to(&entry.target).is_some());
        if !is_open {
            self.timers.arm(TimerKey::Transaction(id), Reason::ConnectWait, now + CONNECT_PATIENCE);
        }
    }

    /// The connection for a large request has had its time.
    pub(super) fn connect_overdue(&mut self, now: Instant, id: TransactionId) {
        let is_open =
            self.clients.get(&id).is_none_or(|entry| self.streams.leading_to(&entry.target).is_some());
        if !is_open {
            self.fall_back(now, id);
        }
    }

    /// A request could not be handed to its transport: it goes another way, or has failed.
    pub(super) fn transmission_failed(&mut self, now: Instant, id: TransactionId) {
        let left = self.clients.get(&id).and_then(|entry| match &entry.target {
            Target::Flow(flow) if flow.transport.is_reliable() => Some(*flow),
            target => self.streams.leading_to(target),
        });
        if !left.is_some_and(|flow| self.go_again(id, flow)) && !self.fall_back(now, id) {
            self.transport_failed(now, id);
        }
    }

    /// The connection that a request went over is gone: it goes another way, or has failed. One that left this connection
    /// before is on its way over another.
    pub(super) fn connection_lost(&mut self, now: Instant, id: TransactionId, flow: Flow) {
        let has_left = self.clients.get(&id).is_some_and(|entry| entry.left == Some(flow));
        if !has_left && !self.go_again(id, flow) && !self.fall_back(now, id) {
            self.transport_failed(now, id);
        }
    }

    /// RFC 3261 18.1.1: "If an attempt to send by TCP fails, [...] the element SHOULD retry the request, using UDP."
    fn fall_back(&mut self, now: Instant, id: TransactionId) -> bool {
        let Some(entry) = self.clients.get_mut(&id) else { return false };
        if !entry.machine.awaits_any_response() {
            return false;
        }
        let Some(Meant { bytes, target }) = entry.meant.take() else { return false };
        let Ok(Message::Request(sent)) = Message::parse_datagram(bytes.clone()) else { return false };
        let timing = Timing::of(&self.config.timing, Reliability::Unreliable);
        let mut actions = Actions::new();
        entry.machine = match sent.method() {
            Method::Invite => ClientMachine::Invite(ClientInvite::start(bytes, timing, &mut actions)),
            _ => ClientMachine::Other(Client::start(bytes, timing, &mut actions)),
        };
        if let Some(remote) = target.remote() {
            self.tcp_refusals.note(remote, now);
        }
        (entry.sent, entry.target) = (sent, target);
        self.counters.large_by_udp += 1;
        self.timers.disarm(TimerKey::Transaction(id), Reason::ConnectWait);
        self.perform_client(now, id, actions, None);
        true
    }

    /// Sends a request again whose connection `left` is gone, over a new one. A peer that closes idle connections does so
    /// while a request is on its way, and that request is not the worse for it.
    fn go_again(&mut self, id: TransactionId, left: Flow) -> bool {
        let Some(entry) = self.clients.get(&id) else { return false };
        if entry.left.is_some() || !entry.machine.awaits_final_response() {
            return false;
        }
        let Some(target) = self.way_beside(entry, left) else { return false };
        let Some(entry) = self.clients.get_mut(&id) else { return false };
        entry.left = Some(left);
        entry.target = target.clone();
        let bytes = entry.sent.as_bytes().clone();
        self.counters.moved_requests += 1;
        self.send(Some(id), target, bytes);
        true
    }

    /// Where a request goes that cannot go over `left`.
    fn way_beside(&self, entry: &ClientEntry, left: Flow) -> Option<Target> {
        match (&entry.target, entry.owner) {
            (Target::Flow(_), Owner::Session(session, _)) => {
                let session = self.sessions.get(&session)?;
                match self.way_without(session, &session.dialog, left) {
                    Target::Flow(_) | Target::Close(_) => None,
                    target => Some(target),
                }
            }
            (Target::Flow(flow), Owner::Request(_)) => {
                let Flow { transport, remote, .. } = *flow;
                Some(Target::Address { transport, local: None, remote, name: None })
            }
            (target @ (Target::Address { .. } | Target::Name { .. }), _) => Some(target.clone()),
            (Target::Close(_), _) => None,
        }
    }
}

/// The same request with TCP in its top Via.
fn by_tcp(bytes: &Bytes) -> Option<Bytes> {
    const BY_UDP: &[u8] = b"\r\nVia: SIP/2.0/UDP ";
    let at = memchr::memmem::find(bytes, BY_UDP)?;
    let transport = at + BY_UDP.len() - 4;
    Some([&bytes[..transport], b"TCP", &bytes[transport + 3..]].concat().into())
}
