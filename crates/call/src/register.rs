//! The registrations that trunks keep at their carriers: one [`binding::Binding`] each, and what they share.
//!
//! A trunk by user name and password that asks for it is registered at its registrar, so that the carrier sends its calls
//! here. Each binding is a state machine of its own: changing one trunk touches no other's. What they share is the pace:
//! attempts of all bindings are [`PACE`] apart at least, at a start, after an outage, and when the node takes them back.
//!
//! Calls that come to a registered Contact from the registrar that holds it are the trunk's, whatever address ranges it
//! has: the carrier was asked to send them, and proves itself by where it is.
//!
//! Bounded by the trunks there are. What it refuses to do: walk all trunks when one changes. RFC 3261 section 10.2.

mod answer;
mod binding;
mod status;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tandem_sip::auth::Answerer;
use tandem_sip::{Flow, NoResponseCause, RequestId, Response, Uri};

use crate::gateways::Way;
use crate::ids::{CallId, TrunkId};
use crate::location::Wanted;
use crate::node::Node;
use crate::output::Output;
use crate::table::Registration;
use binding::{Binding, Errand, Phase, part};
pub use status::{RegistrationState, RegistrationStatus};

/// Between two attempts of whatever bindings: fifty a second, so that a thousand trunks begin within twenty seconds and a
/// registrar that comes back is not met by all at once.
const PACE: Duration = Duration::from_millis(20);
/// The same when bindings are taken back: a node that drains has little time.
const LEAVING_PACE: Duration = Duration::from_millis(4);
/// How long one waits that the endpoint has no room for.
const NO_ROOM: Duration = Duration::from_secs(1);
/// How long an address may be looked for.
const LOOK_UP: Duration = Duration::from_secs(30);
/// A binding whose connection is closed registers again after a part of this, unless it was active as lately as that:
/// carriers close idle connections every two minutes, and some after every response.
const WAY_LOST: Duration = Duration::from_secs(5);
const LATELY: Duration = Duration::from_secs(30);

type Number = u64;

/// All registrations of a node.
#[derive(Debug, Default)]
pub(crate) struct Register {
    bindings: BTreeMap<Number, Binding>,
    /// The binding that stands for each trunk; those that leave stand for none.
    of_trunk: BTreeMap<TrunkId, Number>,
    due: BTreeSet<(Instant, Number)>,
    looked_for: BTreeMap<CallId, Number>,
    asked: BTreeMap<RequestId, Number>,
    /// The registrars that hold bindings, with the users of their Contacts.
    holders: BTreeMap<IpAddr, BTreeSet<(String, Number)>>,
    /// What was told last of each trunk, for the instant from which on its state holds.
    told: BTreeMap<TrunkId, (RegistrationState, u64)>,
    made: Number,
    /// When the next attempt may begin.
    free_at: Option<Instant>,
    is_closed: bool,
}

impl Register {
    /// These trunks are new, changed or gone.
    pub(crate) fn trunks_changed(&mut self, trunks: &[TrunkId], now: Instant, node: &mut Node) {
        if self.is_closed {
            return;
        }
        let table = node.table.clone();
        for id in trunks {
            let trunk = table.trunk(id).filter(|trunk| trunk.is_active);
            let wanted = trunk.and_then(|trunk| Some((trunk.account.clone(), trunk.registration.clone()?)));
            let standing = self.of_trunk.get(id).copied();
            match (standing, wanted) {
                (None, None) => {}
                (Some(number), None) => {
                    let account = self.bindings.get(&number).map(|binding| binding.account.clone());
                    self.dismiss(number, now, node);
                    self.told.remove(id);
                    if let Some(account) = account {
                        node.emit(Output::Registration { account, trunk: id.clone(), status: None });
                    }
                }
                (standing, Some((account, wish))) => {
                    if let Some(number) = standing {
                        let same = self.bindings.get(&number).is_some_and(|one| one.is_of(&wish));
                        if same {
                            self.amend(number, wish, now);
                            continue;
                        }
                        self.dismiss(number, now, node);
                    }
                    let call_id = node.new_sip_call_id();
                    // One that takes the place of another begins when that is gone, or a while later: a registrar
                    // that is told to forget the old Contact might forget the new one with it.
                    let is_awaited = standing.is_some_and(|number| self.bindings.contains_key(&number));
                    let at = if is_awaited { now + LOOK_UP } else { now };
                    self.made += 1;
                    let binding = Binding::new((id.clone(), account), wish, call_id, at);
                    self.due.insert((binding.at, self.made));
                    self.of_trunk.insert(id.clone(), self.made);
                    self.bindings.insert(self.made, binding);
                    self.tell(self.made, now, node);
                }
            }
        }
    }

    /// The node is about to stop: every registrar is told to forget it.
    pub(crate) fn take_back_all(&mut self, now: Instant, node: &mut Node) {
        self.is_closed = true;
        self.free_at = None;
        for (trunk, number) in std::mem::take(&mut self.of_trunk) {
            let Some(binding) = self.bindings.get(&number) else { continue };
            let account = binding.account.clone();
            let mut status = Box::new(binding.status(now, |at| node.unix_ms_of(at, now)));
            status.state = RegistrationState::Unregistered;
            (status.contact, status.expires_unix_ms, status.next_unix_ms) = (None, None, None);
            self.dismiss(number, now, node);
            node.emit(Output::Registration { account, trunk, status: Some(status) });
        }
        self.told.clear();
    }

    /// When something is to be done.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    /// Does what is due.
    pub(crate) fn run(&mut self, now: Instant, node: &mut Node) {
        while let Some((at, number)) = self.due.first().copied().filter(|(at, _)| *at <= now) {
            self.due.remove(&(at, number));
            let Some(binding) = self.bindings.get_mut(&number) else { continue };
            let before = binding.phase;
            let errand = binding.due(now, &mut node.random);
            if let Phase::Way(look_up) = before
                && binding.phase != before
            {
                self.looked_for.remove(&look_up);
            }
            let errand = match errand {
                Errand::Look | Errand::Ask(_) if !self.has_turn(number, now) => continue,
                errand => errand,
            };
            self.carry_out(number, errand, now, node);
        }
    }

    /// Whether the binding's attempt may begin now; if not, a turn is kept for it.
    fn has_turn(&mut self, number: Number, now: Instant) -> bool {
        let Some(binding) = self.bindings.get_mut(&number) else { return false };
        let pace = if binding.is_leaving { LEAVING_PACE } else { PACE };
        if std::mem::take(&mut binding.has_slot) {
            return true;
        }
        let free_at = self.free_at.filter(|at| *at > now).unwrap_or(now);
        self.free_at = Some(free_at + pace);
        if free_at <= now {
            return true;
        }
        binding.has_slot = true;
        binding.at = free_at;
        self.due.insert((free_at, number));
        false
    }

    /// Addresses were found for a look-up of ours; whether it was one.
    pub(crate) fn way_found(&mut self, look_up: CallId, ways: &[Way], now: Instant, node: &mut Node) -> bool {
        let Some(number) = self.looked_for.remove(&look_up) else { return false };
        let Some(binding) = self.bindings.get_mut(&number) else { return true };
        self.due.remove(&(binding.at, number));
        let errand = binding.ways_found(ways.to_vec(), now, &mut node.random);
        self.carry_out(number, errand, now, node);
        true
    }

    /// No address was found for a look-up of ours; whether it was one.
    pub(crate) fn way_failed(&mut self, look_up: CallId, why: &str, now: Instant, node: &mut Node) -> bool {
        let Some(number) = self.looked_for.remove(&look_up) else { return false };
        let Some(binding) = self.bindings.get_mut(&number) else { return true };
        self.due.remove(&(binding.at, number));
        let errand = binding.unreachable(why, now, &mut node.random);
        self.carry_out(number, errand, now, node);
        true
    }

    /// A REGISTER was answered for good; whether it was one of ours.
    pub(crate) fn answered(
        &mut self,
        request: RequestId,
        response: &Response,
        answerer: Option<&Answerer>,
        now: Instant,
        node: &mut Node,
    ) -> bool {
        let Some(number) = self.asked.remove(&request) else { return false };
        let Some(binding) = self.bindings.get_mut(&number) else { return true };
        match response.status() {
            200..=299 => node.counters.register_accepted += 1,
            _ => node.counters.register_refused += 1,
        }
        self.due.remove(&(binding.at, number));
        let errand = binding.answered(response, answerer.cloned(), now, &mut node.random);
        self.carry_out(number, errand, now, node);
        true
    }

    /// A REGISTER will have no response; whether it was one of ours.
    pub(crate) fn unanswered(
        &mut self,
        request: RequestId,
        cause: NoResponseCause,
        answerer: Option<&Answerer>,
        now: Instant,
        node: &mut Node,
    ) -> bool {
        let Some(number) = self.asked.remove(&request) else { return false };
        let Some(binding) = self.bindings.get_mut(&number) else { return true };
        node.counters.register_unanswered += 1;
        let why = match cause {
            NoResponseCause::TimedOut => "the registrar does not answer REGISTER",
            NoResponseCause::TransportFailed => "nothing could be sent to the registrar",
        };
        self.due.remove(&(binding.at, number));
        let errand = binding.unanswered(why, answerer.cloned(), now, &mut node.random);
        self.carry_out(number, errand, now, node);
        true
    }

    /// A connection is gone. Calls may have come by it and by nothing else (RFC 5626), so who is registered over it
    /// registers again soon.
    pub(crate) fn flow_closed(&mut self, flow: Flow, now: Instant, node: &mut Node) {
        if !flow.transport.is_reliable() {
            return;
        }
        let held = self.holders.get(&flow.remote.ip().to_canonical()).cloned().unwrap_or_default();
        for (_, number) in held {
            let Some(binding) = self.bindings.get_mut(&number) else { continue };
            let before = binding.at;
            let pause = part(WAY_LOST, &mut node.random);
            if binding.way_lost(flow.remote, LATELY, pause, now) {
                self.due.remove(&(before, number));
                self.due.insert((binding.at, number));
            }
        }
    }

    /// Whether a registrar at this address holds a binding of ours.
    pub(crate) fn knows(&self, source: IpAddr) -> bool {
        self.holders.contains_key(&source.to_canonical())
    }

    /// The trunk whose Contact this Request-URI is, when it comes from the registrar that holds it: by the `line` that we
    /// put into it, or, for carriers that lose parameters, by its user where that is no other's.
    pub(crate) fn trunk_of_contact(&self, uri: &Uri<'_>, source: IpAddr) -> Option<&TrunkId> {
        let held = self.holders.get(&source.to_canonical())?;
        if let Some(line) = uri.param("line").and_then(|param| param.value) {
            let trunk = TrunkId::new(std::str::from_utf8(line).ok()?);
            return self
                .of_trunk
                .get_key_value(&trunk)
                .map(|(trunk, _)| trunk)
                .filter(|id| self.holds(id, source));
        }
        let user = String::from_utf8(uri.user_decoded()?.into_owned()).ok()?;
        let range = (user.clone(), Number::MIN)..=(user, Number::MAX);
        let standing = |number: &Number| self.bindings.get(number).filter(|binding| !binding.is_leaving);
        let mut found = held.range(range).filter_map(|(_, number)| standing(number));
        let first = found.next()?;
        found.next().is_none().then_some(&first.trunk)
    }

    /// Whether a registrar at this address holds the trunk's binding.
    pub(crate) fn holds(&self, trunk: &TrunkId, source: IpAddr) -> bool {
        let number = self.of_trunk.get(trunk);
        let binding = number.and_then(|number| self.bindings.get(number));
        binding.is_some_and(|binding| binding.filed.contains(&source.to_canonical()))
    }

    /// Attempts under way.
    pub(crate) fn attempts(&self) -> usize {
        self.looked_for.len() + self.asked.len()
    }

    /// Bindings that registrars are still to be told to forget.
    pub(crate) fn leaving(&self) -> usize {
        self.bindings.len() - self.of_trunk.len()
    }

    fn amend(&mut self, number: Number, wish: Registration, now: Instant) {
        let Some(binding) = self.bindings.get_mut(&number) else { return };
        let before = binding.at;
        if binding.amend(wish, now) && binding.phase == Phase::Turn {
            self.due.remove(&(before, number));
            self.due.insert((binding.at, number));
        }
    }

    /// The binding stands for its trunk no more.
    fn dismiss(&mut self, number: Number, now: Instant, node: &mut Node) {
        let Some(binding) = self.bindings.get_mut(&number) else { return };
        self.of_trunk.remove(&binding.trunk);
        if let Phase::Way(look_up) = binding.phase {
            self.looked_for.remove(&look_up);
        }
        self.due.remove(&(binding.at, number));
        binding.has_slot = false;
        let errand = binding.leave(now);
        self.carry_out(number, errand, now, node);
    }

    /// Carries out what a binding wants, and files it under what it then awaits.
    fn carry_out(&mut self, number: Number, errand: Errand, now: Instant, node: &mut Node) {
        let mut errand = errand;
        loop {
            let Some(binding) = self.bindings.get_mut(&number) else { return };
            errand = match errand {
                Errand::Gone => return self.forget(number, now, node),
                Errand::Wait => {
                    if !matches!(binding.phase, Phase::Answer(..)) {
                        self.due.insert((binding.at, number));
                    }
                    self.file_holder(number);
                    return self.tell(number, now, node);
                }
                Errand::Look => {
                    let look_up = CallId(node.new_id(now));
                    binding.looks(look_up, now + LOOK_UP);
                    self.due.insert((binding.at, number));
                    self.looked_for.insert(look_up, number);
                    let wish = &binding.wish;
                    let (host, transport) = (wish.registrar.clone(), Some(wish.transport));
                    let wanted = Wanted { transport, host, port: wish.port };
                    node.emit(Output::FindWay { call: look_up, wanted });
                    return;
                }
                Errand::Ask(way) => {
                    self.due.remove(&(binding.at, number));
                    let told = node.endpoint.advertised(way.local, way.remote.ip());
                    let outgoing = binding.request(way, told);
                    match node.endpoint.request(now, outgoing) {
                        Ok(request) => {
                            node.counters.register_sent += 1;
                            if let Some(at) = binding.asks(request, now) {
                                self.due.insert((at, number));
                            }
                            self.asked.insert(request, number);
                            return;
                        }
                        Err(_) => {
                            node.counters.register_delayed += 1;
                            binding.put_off(NO_ROOM, now)
                        }
                    }
                }
            };
        }
    }

    /// The registrar that holds a binding is known by its addresses.
    fn file_holder(&mut self, number: Number) {
        let Some(binding) = self.bindings.get_mut(&number) else { return };
        let addresses = binding.holders();
        if addresses == binding.filed {
            return;
        }
        let before = std::mem::replace(&mut binding.filed, addresses.clone());
        let entry = (binding.wish.contact_user.clone(), number);
        self.unfile(&before, &entry);
        for address in addresses {
            self.holders.entry(address).or_default().insert(entry.clone());
        }
    }

    fn unfile(&mut self, addresses: &[IpAddr], entry: &(String, Number)) {
        for address in addresses {
            if let Some(held) = self.holders.get_mut(address) {
                held.remove(entry);
                if held.is_empty() {
                    self.holders.remove(address);
                }
            }
        }
    }

    fn forget(&mut self, number: Number, now: Instant, node: &mut Node) {
        let Some(binding) = self.bindings.remove(&number) else { return };
        self.unfile(&binding.filed, &(binding.wish.contact_user.clone(), number));
        self.due.remove(&(binding.at, number));
        match binding.phase {
            Phase::Turn => {}
            Phase::Way(look_up) => drop(self.looked_for.remove(&look_up)),
            Phase::Answer(request, _) => drop(self.asked.remove(&request)),
        }
        // The one that takes its place need not wait any longer.
        let Some(number) = self.of_trunk.get(&binding.trunk).copied() else { return };
        let Some(next) = self.bindings.get_mut(&number) else { return };
        if next.is_new() {
            self.due.remove(&(next.at, number));
            next.wait_until(now);
            self.due.insert((next.at, number));
            self.tell(number, now, node);
        }
    }

    /// Tells how the trunk's registration stands.
    fn tell(&mut self, number: Number, now: Instant, node: &mut Node) {
        let Some(binding) = self.bindings.get(&number).filter(|binding| !binding.is_leaving) else { return };
        let mut status = binding.status(now, |at| node.unix_ms_of(at, now));
        let (account, trunk) = (binding.account.clone(), binding.trunk.clone());
        let before = self.told.get(&trunk).filter(|(state, _)| *state == status.state);
        status.since_unix_ms = before.map_or(status.since_unix_ms, |(_, since)| *since);
        self.told.insert(trunk.clone(), (status.state, status.since_unix_ms));
        node.emit(Output::Registration { account, trunk, status: Some(Box::new(status)) });
    }
}
