//! Stream connections: framing, keep-alives, bounds on their number and slowness, and their loss.
//!
//! RFC 3261 18.3, 18.4; RFC 5626 3.5.1, 4.4.1. The shell opens and closes; this file decides when to close.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::event::{Event, Malformed, Target};
use super::{Endpoint, Reason, TimerKey};
use crate::dialog::invite::Stage;
use crate::flow::Flow;
use crate::ids::TransactionId;
use crate::message::ResponseRouting;
use crate::wire::{StreamFramer, StreamItem};

/// The connections that are open.
#[derive(Debug, Default)]
pub(super) struct Streams {
    open: BTreeMap<Flow, Stream>,
    by_source: BTreeMap<IpAddr, usize>,
}

#[derive(Debug, Default)]
struct Stream {
    framer: StreamFramer,
    /// Whether a whole message has come.
    has_spoken: bool,
    /// Whether half a message is held and its time runs.
    is_waiting: bool,
    /// Whether a ping of ours awaits its answer.
    is_pinged: bool,
    /// Whether the peer has answered a ping: from then on it is held to that. Many never do.
    has_answered: bool,
}

impl Streams {
    pub(super) fn is_open(&self, flow: Flow) -> bool {
        self.open.contains_key(&flow)
    }

    pub(super) fn len(&self) -> usize {
        self.open.len()
    }

    fn insert(&mut self, flow: Flow) {
        if self.open.insert(flow, Stream::default()).is_none() {
            *self.by_source.entry(flow.remote.ip()).or_default() += 1;
        }
    }

    fn remove(&mut self, flow: Flow) -> bool {
        let is_known = self.open.remove(&flow).is_some();
        if is_known && let Some(count) = self.by_source.get_mut(&flow.remote.ip()) {
            *count -= 1;
            if *count == 0 {
                self.by_source.remove(&flow.remote.ip());
            }
        }
        is_known
    }

    /// An open connection that leads to a target.
    pub(super) fn leading_to(&self, target: &Target) -> Option<Flow> {
        match target {
            Target::Address { transport, remote, .. } => {
                self.open.keys().find(|flow| flow.transport == *transport && flow.remote == *remote).copied()
            }
            Target::Flow(flow) => Some(*flow).filter(|flow| self.is_open(*flow)),
            Target::Name { .. } | Target::Close(_) => None,
        }
    }
}

impl Endpoint {
    /// Takes the news of a connection, opened by either side. Over a bound it is closed at once.
    pub fn handle_stream_opened(&mut self, now: Instant, flow: Flow) {
        debug_assert!(flow.transport.is_reliable(), "datagrams have no connections");
        let limits = &self.config.limits;
        let from_source = self.streams.by_source.get(&flow.remote.ip()).copied().unwrap_or(0);
        if self.streams.len() >= limits.streams || from_source >= limits.streams_per_source {
            self.counters.streams_closed += 1;
            self.send_close(flow);
            return;
        }
        self.streams.insert(flow);
        let key = TimerKey::Stream(flow);
        self.timers.arm(key, Reason::StreamFirstMessage, now + limits.stream_first_message);
        self.timers.arm(key, Reason::StreamIdle, now + limits.stream_idle);
        if !limits.stream_keep_alive.is_zero() {
            self.timers.arm(key, Reason::StreamKeepAlive, now + limits.stream_keep_alive);
        }
    }

    /// Takes what was read from a connection as far as its first whole message, and returns that message, for whoever
    /// keeps a ladder. Until it returns `None`, more may be whole: call it again with no bytes, after the events of
    /// the message before have been dealt with. A CANCEL read together with its INVITE finds nothing to cancel
    /// before that INVITE was accepted.
    ///
    /// Bytes of a connection that is not known are dropped.
    #[must_use = "more may have been read than one message"]
    pub fn handle_stream(&mut self, now: Instant, flow: Flow, bytes: &[u8]) -> Option<Bytes> {
        let stream = self.streams.open.get_mut(&flow)?;
        stream.framer.push(bytes);
        let key = TimerKey::Stream(flow);
        self.timers.arm(key, Reason::StreamIdle, now + self.config.limits.stream_idle);
        self.timers.disarm(key, Reason::StreamPong);
        // Of a line end that comes alone: the first half of a ping is none of a pong.
        let mut is_pong = false;
        loop {
            // A ping that could not be answered may have closed the connection it came over.
            let stream = self.streams.open.get_mut(&flow)?;
            match stream.framer.next() {
                Ok(Some(StreamItem::Message(message))) => {
                    stream.has_spoken = true;
                    stream.is_waiting = false;
                    stream.is_pinged &= !is_pong;
                    stream.has_answered |= is_pong;
                    self.timers.disarm(key, Reason::StreamFirstMessage);
                    self.timers.disarm(key, Reason::StreamMessage);
                    self.receive(now, flow, message.clone());
                    return Some(message);
                }
                Ok(Some(StreamItem::KeepAlivePing)) => {
                    is_pong = false;
                    self.answer_ping(flow);
                }
                Ok(Some(StreamItem::KeepAlivePong)) => is_pong = stream.is_pinged,
                Ok(None) => break,
                Err(error) => {
                    self.counters.malformed += 1;
                    let fault = error.fault();
                    let unreadable = error.into_refusable();
                    self.refuse_and_close(flow, Malformed { flow, fault, unreadable });
                    return None;
                }
            }
        }
        let patience = self.config.limits.stream_message;
        if is_pong && let Some(stream) = self.streams.open.get_mut(&flow) {
            (stream.is_pinged, stream.has_answered) = (false, true);
        }
        if let Some(stream) = self.streams.open.get_mut(&flow)
            && stream.framer.is_mid_message()
            && !stream.is_waiting
        {
            // The time runs from the first byte; dribbling does not extend it.
            stream.is_waiting = true;
            self.timers.arm(key, Reason::StreamMessage, now + patience);
        }
        None
    }

    /// Takes the news that a connection is gone. RFC 3261 18.4: transactions that wait on it go on over another one, or hear
    /// of it; dialogs stay.
    pub fn handle_flow_closed(&mut self, now: Instant, flow: Flow) {
        if !self.forget_stream(flow) {
            return;
        }
        let lost: Vec<TransactionId> = self.clients_on(|target| {
            *target == Target::Flow(flow)
                || matches!(target, Target::Address { transport, remote, .. }
                    if *transport == flow.transport && *remote == flow.remote
                        && self.streams.leading_to(target).is_none())
        });
        for transaction in lost {
            self.connection_lost(now, transaction, flow);
        }
    }

    /// A connection was too slow or too long silent, or is to be kept alive. One that sessions live on is
    /// not idle, and one we wait on for a response may take its time until the transaction gives up.
    pub(super) fn stream_timer(&mut self, now: Instant, flow: Flow, reason: Reason) {
        let key = TimerKey::Stream(flow);
        let limits = &self.config.limits;
        match reason {
            Reason::StreamKeepAlive => {
                self.timers.arm(key, reason, now + limits.stream_keep_alive);
                if self.carries_session(flow) {
                    // RFC 5626 4.4.1: "A UA can "always" send a double CRLF (a "ping") over
                    // connection-oriented transports".
                    self.send(None, Target::Flow(flow), Bytes::from_static(b"\r\n\r\n"));
                    self.await_pong(now, flow);
                }
            }
            Reason::StreamPong => {
                self.counters.pongs_missed += 1;
                self.send_close(flow);
                self.handle_flow_closed(now, flow);
            }
            Reason::StreamIdle if self.carries_session(flow) => {
                self.timers.arm(key, reason, now + limits.stream_idle);
            }
            Reason::StreamFirstMessage if self.awaits_response(flow) => {
                self.timers.arm(key, reason, now + limits.stream_first_message);
            }
            _ => self.close_stream(flow),
        }
    }

    /// RFC 5626 4.4.1: "If a pong is not received within 10 seconds [...], the client MUST consider the flow failed."
    fn await_pong(&mut self, now: Instant, flow: Flow) {
        let Some(stream) = self.streams.open.get_mut(&flow) else { return };
        stream.is_pinged = true;
        if stream.has_answered {
            let until = now + self.config.limits.stream_pong;
            self.timers.arm(TimerKey::Stream(flow), Reason::StreamPong, until);
        }
    }

    fn carries_session(&self, flow: Flow) -> bool {
        self.sessions.values().any(|session| session.flow == flow && !matches!(session.stage, Stage::Over))
    }

    fn awaits_response(&self, flow: Flow) -> bool {
        let leads_here = |target: &Target| match target {
            Target::Flow(known) => *known == flow,
            Target::Address { transport, remote, .. } => {
                *transport == flow.transport && *remote == flow.remote
            }
            Target::Name { transport, .. } => *transport == flow.transport,
            Target::Close(_) => false,
        };
        !self.clients_on(leads_here).is_empty()
    }

    /// RFC 5626 4.4.1: on two line ends "it MUST immediately respond with a single CRLF over the same
    /// connection".
    fn answer_ping(&mut self, flow: Flow) {
        self.counters.keep_alives += 1;
        self.send(None, Target::Flow(flow), Bytes::from_static(b"\r\n"));
    }

    /// What cannot be framed is answered once, if it can be, and the connection closed.
    fn refuse_and_close(&mut self, flow: Flow, mut malformed: Malformed) {
        if let Some(unreadable) = &mut malformed.unreadable {
            unreadable.set_source(flow.remote, ResponseRouting::AsAsked);
        }
        let notice = Malformed { flow, fault: malformed.fault, unreadable: None };
        self.refuse_malformed(malformed);
        self.events.push_back(Event::Malformed(Box::new(notice)));
        self.close_stream(flow);
    }

    fn close_stream(&mut self, flow: Flow) {
        if self.forget_stream(flow) {
            self.counters.streams_closed += 1;
            self.send_close(flow);
        }
    }

    fn send_close(&mut self, flow: Flow) {
        self.send(None, Target::Close(flow), Bytes::new());
    }

    fn forget_stream(&mut self, flow: Flow) -> bool {
        self.timers.disarm_all(TimerKey::Stream(flow), Reason::OF_STREAMS);
        self.streams.remove(flow)
    }
}
