//! Two endpoints over a seeded network that delays, loses, duplicates and reorders, in virtual time.
//!
//! Each datagram and each timer is handled alone, and the endpoint is drained after it. What went over the
//! wire is checked as it goes: no answer to an ACK, numbers that rise by one, repeats that are equal.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tandem_sip::{
    Endpoint, EndpointConfig, Event, Flow, Message, Method, OutgoingInvite, Request, SessionId,
    SessionPolicy, Target, Transport,
};

use crate::solo::OFFER;

/// What the network does to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    /// In a thousand.
    pub(crate) loss: u64,
    /// In a thousand.
    pub(crate) duplicates: u64,
    pub(crate) delay: Duration,
    /// Up to this much more, so that datagrams overtake each other.
    pub(crate) jitter: Duration,
}

impl Default for Link {
    fn default() -> Self {
        Self { loss: 0, duplicates: 0, delay: Duration::from_millis(20), jitter: Duration::ZERO }
    }
}

/// Loses what it answers `true` to.
pub(crate) type Censor = dyn FnMut(usize, &str) -> bool;

/// A side of the pair.
pub(crate) const A: usize = 0;
pub(crate) const B: usize = 1;

pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) start: Instant,
    pub(crate) ends: [Endpoint; 2],
    pub(crate) events: [Vec<Event>; 2],
    pub(crate) link: Link,
    /// Decides by side and text whether a datagram is lost, before the link's own dice.
    pub(crate) censor: Box<Censor>,
    /// What was sent, by side, at its moment.
    pub(crate) log: Vec<(Duration, usize, String)>,
    wire: BTreeMap<(Instant, u64), (usize, Flow, Bytes)>,
    serial: u64,
    dice: u64,
    seen_requests: BTreeMap<(usize, Bytes, String), Bytes>,
    numbers: BTreeMap<(usize, Bytes, Bytes, Bytes), u32>,
    acks: BTreeSet<Bytes>,
}

pub(crate) fn address(side: usize) -> SocketAddr {
    ["192.0.2.1:5060", "192.0.2.2:5060"][side].parse().unwrap()
}

fn flow(side: usize) -> Flow {
    Flow { transport: Transport::Udp, local: address(side), remote: address(1 - side), connection: 0 }
}

impl Pair {
    pub(crate) fn new(seed: u64, link: Link) -> Self {
        let now = Instant::now();
        let end = |side| Endpoint::new(EndpointConfig::default(), seed * 2 + side);
        Self {
            now,
            start: now,
            ends: [end(0), end(1)],
            events: [Vec::new(), Vec::new()],
            link,
            censor: Box::new(|_, _| false),
            log: Vec::new(),
            wire: BTreeMap::new(),
            serial: 0,
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
            seen_requests: BTreeMap::new(),
            numbers: BTreeMap::new(),
            acks: BTreeSet::new(),
        }
    }

    pub(crate) fn roll(&mut self, bound: u64) -> u64 {
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        self.dice % bound.max(1)
    }

    /// A calls B.
    pub(crate) fn call(&mut self) -> SessionId {
        self.call_with(Some(OFFER.into()))
    }

    /// A calls B, with an offer or without.
    pub(crate) fn call_with(&mut self, sdp: Option<Bytes>) -> SessionId {
        let call = OutgoingInvite {
            uri: "sip:b@192.0.2.2:5060".into(),
            from: "<sip:a@example.com>".into(),
            to: "<sip:b@example.com>".into(),
            call_id: None,
            routes: Vec::new(),
            target: Target::Flow(flow(A)),
            local: address(A),
            sdp,
            credentials: None,
            headers: Vec::new(),
            policy: SessionPolicy::default(),
        };
        let session = self.ends[A].invite(self.now, call).unwrap();
        self.drain(A);
        session
    }

    /// B accepts the INVITE that came.
    pub(crate) fn accept(&mut self) -> SessionId {
        let at = self.events[B].iter().position(|event| matches!(event, Event::Incoming(_)));
        let Event::Incoming(incoming) = self.events[B].remove(at.expect("an INVITE has come")) else {
            unreachable!("its position was found")
        };
        let session = self.ends[B].accept(self.now, *incoming, SessionPolicy::default()).unwrap();
        self.drain(B);
        session
    }

    /// Does something at one side and drains it.
    pub(crate) fn act<T>(&mut self, side: usize, action: impl FnOnce(&mut Endpoint, Instant) -> T) -> T {
        let result = action(&mut self.ends[side], self.now);
        self.drain(side);
        result
    }

    /// The next thing that happens, if it happens by `end`.
    pub(crate) fn step(&mut self, end: Instant) -> bool {
        let timer = |side: usize| self.ends[side].poll_timeout().map(|(at, _)| at);
        let arrival = self.wire.first_key_value().map(|(&(at, _), _)| at);
        let Some(next) = [timer(A), timer(B), arrival].into_iter().flatten().min() else { return false };
        if next > end {
            return false;
        }
        self.now = next;
        if arrival == Some(next) {
            let (_, (side, flow, payload)) = self.wire.pop_first().unwrap();
            self.ends[side].handle_datagram(next, flow, payload);
            self.drain(side);
        } else {
            let side = if timer(A) == Some(next) { A } else { B };
            self.ends[side].handle_timeout(next);
            self.drain(side);
        }
        true
    }

    pub(crate) fn run(&mut self, by: Duration) {
        let end = self.now + by;
        while self.step(end) {}
        self.now = end;
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        self.run(Duration::from_millis(ms));
    }

    pub(crate) fn drain(&mut self, side: usize) {
        while let Some(transmit) = self.ends[side].poll_transmit() {
            self.check(side, &transmit.payload);
            let text = String::from_utf8_lossy(&transmit.payload).into_owned();
            self.log.push((self.now - self.start, side, text.clone()));
            assert_eq!(transmit.target.remote(), Some(address(1 - side)), "{text}");
            let copies = 1 + u64::from(self.roll(1000) < self.link.duplicates);
            for _ in 0..copies {
                let is_lost = (self.censor)(side, &text) || self.roll(1000) < self.link.loss;
                if is_lost {
                    continue;
                }
                let jitter = self.link.jitter.as_micros() as u64;
                let delay = self.link.delay + Duration::from_micros(self.roll(jitter + 1));
                self.serial += 1;
                let arrival = (1 - side, flow(1 - side), transmit.payload.clone());
                self.wire.insert((self.now + delay, self.serial), arrival);
            }
        }
        while let Some(event) = self.ends[side].poll_event() {
            self.events[side].push(event);
        }
        if let Some((at, reason)) = self.ends[side].poll_timeout() {
            assert!(at > self.now, "{reason} lies in the past after a drain");
        }
    }

    /// architecture 13.4, what can be seen on the wire.
    fn check(&mut self, side: usize, payload: &Bytes) {
        match Message::parse_datagram(payload.clone()).expect("what we send parses") {
            Message::Response(response) => {
                assert_ne!(response.cseq().method, Method::Ack, "an ACK was answered");
                let branch = Bytes::copy_from_slice(response.via().branch().unwrap());
                assert!(!self.acks.contains(&branch), "an ACK was answered");
            }
            Message::Request(request) => self.check_request(side, &request),
        }
    }

    fn check_request(&mut self, side: usize, request: &Request) {
        let branch = Bytes::copy_from_slice(request.via().branch().unwrap());
        let method = request.method().to_string();
        let key = (side, branch.clone(), method.clone());
        if let Some(before) = self.seen_requests.get(&key) {
            assert_eq!(before, request.as_bytes(), "a repeat differs");
            return;
        }
        self.seen_requests.insert(key, request.as_bytes().clone());
        match request.method() {
            Method::Ack => {
                let is_of_failure = self.seen_requests.contains_key(&(side, branch.clone(), "INVITE".into()));
                if !is_of_failure {
                    self.acks.insert(branch);
                }
            }
            Method::Cancel => {}
            _ => {
                let own = |part: &[u8]| Bytes::copy_from_slice(part);
                let call = own(request.call_id());
                let (from, to) = (request.from().tag(), request.to().tag().unwrap_or_default());
                let key = (side, call.clone(), own(from.unwrap()), own(to));
                let number = request.cseq().number;
                let before = self
                    .numbers
                    .get(&key)
                    .or_else(|| self.numbers.get(&(side, call, own(from.unwrap()), Bytes::new())));
                if let Some(&before) = before {
                    assert_eq!(number, before + 1, "the numbers do not rise by one");
                }
                self.numbers.insert(key, number);
            }
        }
    }

    /// The event of this kind at this side, taken off; all before it stay.
    pub(crate) fn take(&mut self, side: usize, wanted: impl Fn(&Event) -> bool) -> Event {
        let at = self.events[side].iter().position(wanted);
        match at {
            Some(at) => self.events[side].remove(at),
            None => panic!("no such event at {side}: {:#?}\n{}", self.events[side], self.ladder()),
        }
    }

    pub(crate) fn has(&self, side: usize, wanted: impl Fn(&Event) -> bool) -> bool {
        self.events[side].iter().any(wanted)
    }

    pub(crate) fn count(&self, side: usize, start: &str) -> usize {
        self.log.iter().filter(|(_, from, text)| *from == side && text.starts_with(start)).count()
    }

    /// What went over the wire, for failures.
    pub(crate) fn ladder(&self) -> String {
        let line = |(at, side, text): &(Duration, usize, String)| {
            let first = text.lines().next().unwrap_or_default();
            let cseq = text.lines().find(|line| line.starts_with("CSeq")).unwrap_or_default();
            let arrow = if *side == A { "A ->  " } else { "  <- B" };
            format!("{:>9.3} {arrow} {first} [{cseq}]\n", at.as_secs_f64())
        };
        self.log.iter().map(line).collect()
    }

    /// Heals the network, lets everything run out, and asserts that nothing is left on either side.
    pub(crate) fn assert_no_leak(&mut self) {
        self.link = Link::default();
        self.censor = Box::new(|_, _| false);
        self.run(Duration::from_secs(300));
        for side in [A, B] {
            let mut census = self.ends[side].census();
            census.events = 0;
            assert_eq!(census, Default::default(), "left at {side}\n{}", self.ladder());
        }
    }
}
