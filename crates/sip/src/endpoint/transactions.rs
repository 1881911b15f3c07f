//! The store of transactions, and the carrying out of what their machines want.
//!
//! RFC 3261 17. A transaction is an entry in a map and a few deadlines, nothing else.

use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;

use super::config::LargeRequests;
use super::event::{Target, Transmit};
use super::rerouting::{Fitted, Meant};
use super::{Endpoint, Reason, TimerKey};
use crate::flow::Flow;
use crate::ids::{RequestId, SessionId, TransactionId, TransmitId};
use crate::message::{Message, Method, Request, Response, ResponseBuilder};
use crate::transaction::client::{self, Client};
use crate::transaction::client_invite::{self, ClientInvite};
use crate::transaction::key::{ClientKey, MergeKey, ServerKey};
use crate::transaction::server::{self, Server};
use crate::transaction::server_invite::{self, ServerInvite};
use crate::transaction::timing::{Reliability, Timing};
use crate::transaction::{Action, Actions, Illegal, Tell, Timer};

/// A server transaction.
#[derive(Debug)]
pub(super) struct ServerEntry {
    machine: ServerMachine,
    key: ServerKey,
    merge: Option<MergeKey>,
    /// What responses are made from.
    pub(super) request: Request,
    pub(super) flow: Flow,
    pub(super) session: Option<SessionId>,
}

#[derive(Debug)]
enum ServerMachine {
    Invite(ServerInvite),
    Other(Server),
}

/// A client transaction.
#[derive(Debug)]
pub(super) struct ClientEntry {
    pub(super) machine: ClientMachine,
    key: ClientKey,
    /// What ACK, CANCEL and further tries are made from.
    pub(super) sent: Request,
    pub(super) target: Target,
    pub(super) owner: Owner,
    /// How it was to go, had it not been too large for that.
    pub(super) meant: Option<Meant>,
    /// The connection that it went over before this one.
    pub(super) left: Option<Flow>,
}

#[derive(Debug)]
pub(super) enum ClientMachine {
    Invite(ClientInvite),
    Other(Client),
}

impl ClientMachine {
    /// Whether nothing has come yet.
    pub(super) fn awaits_any_response(&self) -> bool {
        match self {
            Self::Invite(machine) => matches!(machine.state(), client_invite::State::Calling { .. }),
            Self::Other(machine) => matches!(machine.state(), client::State::Trying { .. }),
        }
    }

    /// Whether no final response has come yet.
    pub(super) fn awaits_final_response(&self) -> bool {
        match self {
            Self::Invite(machine) => {
                matches!(
                    machine.state(),
                    client_invite::State::Calling { .. } | client_invite::State::Proceeding
                )
            }
            Self::Other(machine) => {
                matches!(machine.state(), client::State::Trying { .. } | client::State::Proceeding { .. })
            }
        }
    }
}

/// Who hears of a client transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Session(SessionId, Errand),
    Request(RequestId),
}

/// What a session sent a request for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Errand {
    Invite,
    ReInvite,
    Update,
    Prack,
    Info,
    Refer,
    Notify,
    Bye,
    /// A BYE whose outcome changes nothing: of a fork.
    Dismiss,
    Cancel,
}

/// A request of ours and where it went.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) request: Request,
    pub(super) target: Target,
}

/// Why a client transaction ended without a final response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    TimedOut,
    TransportFailed,
}

/// How far an INVITE server transaction is, for those who must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InviteProgress {
    /// No final response yet.
    Proceeding,
    /// A failure was sent; its ACK belongs to the transaction.
    Failed,
    /// A 2xx was sent; its ACK belongs to the session.
    Accepted,
}

impl Endpoint {
    /// Makes a server transaction; an INVITE is answered 100 at once. `None` when the bound is reached.
    pub(super) fn open_server(
        &mut self,
        now: Instant,
        request: &Request,
        flow: Flow,
        session: Option<SessionId>,
    ) -> Option<TransactionId> {
        if self.servers.len() >= self.config.limits.server_transactions {
            self.counters.overloaded += 1;
            return None;
        }
        let id = TransactionId(self.ids.number());
        let timing = Timing::of(&self.config.timing, reliability(flow));
        let mut actions = Actions::new();
        let machine = if request.method() == Method::Invite {
            let trying = ResponseBuilder::new(request, 100, None).finish();
            ServerMachine::Invite(ServerInvite::start(trying, timing, &mut actions))
        } else {
            ServerMachine::Other(Server::start(timing))
        };
        let key = ServerKey::of(request);
        let merge = MergeKey::of(request);
        self.server_keys.insert(key.clone(), id);
        if let Some(merge) = &merge {
            self.merged.insert(merge.clone(), id);
        }
        self.hold(session);
        let entry = ServerEntry { machine, key, merge, request: request.clone(), flow, session };
        self.servers.insert(id, entry);
        self.perform_server(now, id, actions);
        Some(id)
    }

    /// Takes a request that came again.
    pub(super) fn repeat_server(&mut self, now: Instant, id: TransactionId) {
        self.counters.repeated_requests += 1;
        self.run_server(now, id, |machine, out| match machine {
            ServerMachine::Invite(machine) => machine.handle(server_invite::Input::Repeated, out),
            ServerMachine::Other(machine) => machine.handle(server::Input::Repeated, out),
        });
    }

    /// Takes an ACK with the branch of an INVITE that failed.
    pub(super) fn ack_server(&mut self, now: Instant, id: TransactionId) {
        self.run_server(now, id, |machine, out| match machine {
            ServerMachine::Invite(machine) => machine.handle(server_invite::Input::Ack, out),
            ServerMachine::Other(_) => Ok(()),
        });
    }

    /// Sends a response of ours through its transaction.
    pub(super) fn reply(&mut self, now: Instant, id: TransactionId, status: u16, response: Bytes) {
        self.run_server(now, id, |machine, out| match machine {
            ServerMachine::Invite(machine) => {
                let input = match status {
                    100..200 => server_invite::Input::Provisional(response),
                    200..300 => server_invite::Input::Success(response),
                    _ => server_invite::Input::Failure(response),
                };
                machine.handle(input, out)
            }
            ServerMachine::Other(machine) => {
                let input = match status {
                    100..200 => server::Input::Provisional(response),
                    _ => server::Input::Final(response),
                };
                machine.handle(input, out)
            }
        });
    }

    /// How far an INVITE is; `None` for other methods and for transactions that are gone.
    pub(super) fn invite_progress(&self, id: TransactionId) -> Option<InviteProgress> {
        match &self.servers.get(&id)?.machine {
            ServerMachine::Invite(machine) => Some(match machine.state() {
                server_invite::State::Proceeding { .. } => InviteProgress::Proceeding,
                server_invite::State::Completed { .. }
                | server_invite::State::Confirmed
                | server_invite::State::Terminated => InviteProgress::Failed,
                server_invite::State::Accepted => InviteProgress::Accepted,
            }),
            ServerMachine::Other(_) => None,
        }
    }

    /// Makes a client transaction of a request we wrote, and sends it. `None` when the bound is reached or
    /// the bytes are no request, which only a caller's headers can cause.
    pub(super) fn open_client(
        &mut self,
        now: Instant,
        bytes: Bytes,
        target: Target,
        owner: Owner,
    ) -> Option<TransactionId> {
        let large = match owner {
            Owner::Session(session, _) => self.sessions.get(&session).map(|session| session.policy.large),
            Owner::Request(_) => None,
        };
        self.open_client_by(now, bytes, target, owner, large.unwrap_or_default())
    }

    /// The same, `large` telling what is done with a request that is too large for a datagram.
    pub(super) fn open_client_by(
        &mut self,
        now: Instant,
        bytes: Bytes,
        target: Target,
        owner: Owner,
        large: LargeRequests,
    ) -> Option<TransactionId> {
        if self.clients.len() >= self.config.limits.client_transactions {
            self.counters.unsent += 1;
            return None;
        }
        let Fitted { bytes, target, meant } = self.fitted(now, bytes, target, large);
        let Ok(Message::Request(sent)) = Message::parse_datagram(bytes.clone()) else { return None };
        let key = ClientKey::of_request(&sent)?;
        let id = TransactionId(self.ids.number());
        let timing = Timing::of(&self.config.timing, target_reliability(&target));
        let mut actions = Actions::new();
        let machine = if sent.method() == Method::Invite {
            ClientMachine::Invite(ClientInvite::start(bytes, timing, &mut actions))
        } else {
            ClientMachine::Other(Client::start(bytes, timing, &mut actions))
        };
        if let Owner::Session(session, _) = owner {
            self.hold(Some(session));
        }
        self.client_keys.insert(key.clone(), id);
        let is_moved = meant.is_some();
        self.clients.insert(id, ClientEntry { machine, key, sent, target, owner, meant, left: None });
        self.perform_client(now, id, actions, None);
        if is_moved {
            self.await_connection(now, id);
        }
        Some(id)
    }

    /// Gives a response to its transaction.
    pub(super) fn receive_response(&mut self, now: Instant, flow: Flow, response: Response) {
        let id = ClientKey::of_response(&response).and_then(|key| self.client_keys.get(&key).copied());
        let Some(id) = id else {
            // RFC 6026 7.2: "Any response received that does not match an existing client transaction
            // state machine is simply dropped."
            self.counters.stray_responses += 1;
            return;
        };
        let Some(entry) = self.clients.get_mut(&id) else { return };
        let mut actions = Actions::new();
        let result = match &mut entry.machine {
            ClientMachine::Invite(machine) => {
                let input = match response.status() {
                    100..200 => client_invite::Input::Provisional,
                    200..300 => client_invite::Input::Success,
                    _ => client_invite::Input::Failure { ack: failure_ack(&entry.sent, &response) },
                };
                machine.handle(input, &mut actions)
            }
            ClientMachine::Other(machine) => {
                let input =
                    if response.status() < 200 { client::Input::Provisional } else { client::Input::Final };
                machine.handle(input, &mut actions)
            }
        };
        note(result);
        self.perform_client(now, id, actions, Some((flow, response)));
    }

    /// Whether an INVITE of ours has a provisional response and no final one.
    pub(super) fn is_proceeding(&self, id: TransactionId) -> bool {
        self.clients.get(&id).is_some_and(|entry| match &entry.machine {
            ClientMachine::Invite(machine) => *machine.state() == client_invite::State::Proceeding,
            ClientMachine::Other(_) => false,
        })
    }

    /// Ends an INVITE of ours that gets no final response.
    pub(super) fn abandon_client(&mut self, now: Instant, id: TransactionId) {
        let Some(entry) = self.clients.get_mut(&id) else { return };
        let mut actions = Actions::new();
        if let ClientMachine::Invite(machine) = &mut entry.machine {
            note(machine.handle(client_invite::Input::Abandoned, &mut actions));
        }
        self.perform_client(now, id, actions, None);
    }

    pub(super) fn transaction_timer(&mut self, now: Instant, id: TransactionId, timer: Timer) {
        let sent_before = self.counters.sent;
        if self.servers.contains_key(&id) {
            self.run_server(now, id, |machine, out| match (machine, timer) {
                (ServerMachine::Invite(machine), Timer::G) => {
                    machine.handle(server_invite::Input::TimerG, out)
                }
                (ServerMachine::Invite(machine), Timer::H) => {
                    machine.handle(server_invite::Input::TimerH, out)
                }
                (ServerMachine::Invite(machine), Timer::I) => {
                    machine.handle(server_invite::Input::TimerI, out)
                }
                (ServerMachine::Invite(machine), _) => machine.handle(server_invite::Input::TimerL, out),
                (ServerMachine::Other(machine), _) => machine.handle(server::Input::TimerJ, out),
            });
        } else if let Some(entry) = self.clients.get_mut(&id) {
            let mut actions = Actions::new();
            note(match (&mut entry.machine, timer) {
                (ClientMachine::Invite(machine), Timer::A) => {
                    machine.handle(client_invite::Input::TimerA, &mut actions)
                }
                (ClientMachine::Invite(machine), Timer::B) => {
                    machine.handle(client_invite::Input::TimerB, &mut actions)
                }
                (ClientMachine::Invite(machine), Timer::D) => {
                    machine.handle(client_invite::Input::TimerD, &mut actions)
                }
                (ClientMachine::Invite(machine), _) => {
                    machine.handle(client_invite::Input::TimerM, &mut actions)
                }
                (ClientMachine::Other(machine), Timer::E) => {
                    machine.handle(client::Input::TimerE, &mut actions)
                }
                (ClientMachine::Other(machine), Timer::F) => {
                    machine.handle(client::Input::TimerF, &mut actions)
                }
                (ClientMachine::Other(machine), _) => machine.handle(client::Input::TimerK, &mut actions),
            });
            self.perform_client(now, id, actions, None);
        }
        if matches!(timer, Timer::A | Timer::E | Timer::G) {
            self.counters.retransmissions += self.counters.sent - sent_before;
        }
    }

    /// Tells the transaction that its message could not be sent.
    pub(super) fn transport_failed(&mut self, now: Instant, id: TransactionId) {
        if self.servers.contains_key(&id) {
            self.run_server(now, id, |machine, out| match machine {
                ServerMachine::Invite(machine) => machine.handle(server_invite::Input::TransportFailed, out),
                ServerMachine::Other(machine) => machine.handle(server::Input::TransportFailed, out),
            });
        } else if let Some(entry) = self.clients.get_mut(&id) {
            let mut actions = Actions::new();
            note(match &mut entry.machine {
                ClientMachine::Invite(machine) => {
                    machine.handle(client_invite::Input::TransportFailed, &mut actions)
                }
                ClientMachine::Other(machine) => machine.handle(client::Input::TransportFailed, &mut actions),
            });
            self.perform_client(now, id, actions, None);
        }
    }

    /// The client transactions whose request went over this connection.
    pub(super) fn clients_on(&self, matches: impl Fn(&Target) -> bool) -> Vec<TransactionId> {
        self.clients.iter().filter(|(_, entry)| matches(&entry.target)).map(|(&id, _)| id).collect()
    }

    /// Hands a message out for sending.
    pub(super) fn send(&mut self, transaction: Option<TransactionId>, target: Target, payload: Bytes) {
        self.counters.sent += 1;
        let id = TransmitId(transaction.map_or(0, |transaction| transaction.0));
        self.transmits.push_back(Transmit { id, target, payload });
    }

    fn run_server(
        &mut self,
        now: Instant,
        id: TransactionId,
        input: impl FnOnce(&mut ServerMachine, &mut Actions) -> Result<(), Illegal>,
    ) {
        let Some(entry) = self.servers.get_mut(&id) else { return };
        let mut actions = Actions::new();
        note(input(&mut entry.machine, &mut actions));
        self.perform_server(now, id, actions);
    }

    fn perform_server(&mut self, now: Instant, id: TransactionId, actions: Actions) {
        for action in actions {
            match action {
                Action::Send(payload) => {
                    let Some(entry) = self.servers.get(&id) else { continue };
                    let target = self.reply_target(entry.flow, entry.request.fields());
                    self.send(Some(id), target, payload);
                }
                Action::Arm(timer, after) => {
                    self.timers.arm(TimerKey::Transaction(id), Reason::Transaction(timer), now + after);
                }
                Action::Disarm(timer) => {
                    self.timers.disarm(TimerKey::Transaction(id), Reason::Transaction(timer));
                }
                // The end of a failed INVITE, acknowledged or not, and a lost response change nothing for
                // a session: its own timers and the peer's repetitions see to it.
                Action::Tell(Tell::Message | Tell::TransportFailed) => {}
                Action::Tell(Tell::TimedOut) => self.counters.timeouts += 1,
                Action::Gone => self.forget_server(id),
            }
        }
    }

    fn forget_server(&mut self, id: TransactionId) {
        let Some(entry) = self.servers.remove(&id) else { return };
        self.server_keys.remove(&entry.key);
        if let Some(merge) = &entry.merge
            && self.merged.get(merge) == Some(&id)
        {
            self.merged.remove(merge);
        }
        self.disarm_transaction(id);
        self.let_go(entry.session);
    }

    pub(super) fn perform_client(
        &mut self,
        now: Instant,
        id: TransactionId,
        actions: Actions,
        message: Option<(Flow, Response)>,
    ) {
        let Some(entry) = self.clients.get(&id) else { return };
        let owner = entry.owner;
        let sent = Sent { request: entry.sent.clone(), target: entry.target.clone() };
        let mut tells = SmallVec::<[Tell; 2]>::new();
        let mut is_gone = false;
        for action in actions {
            match action {
                Action::Send(payload) => self.send(Some(id), sent.target.clone(), payload),
                Action::Arm(timer, after) => {
                    self.timers.arm(TimerKey::Transaction(id), Reason::Transaction(timer), now + after);
                }
                Action::Disarm(timer) => {
                    self.timers.disarm(TimerKey::Transaction(id), Reason::Transaction(timer));
                }
                Action::Tell(tell) => tells.push(tell),
                Action::Gone => is_gone = true,
            }
        }
        if is_gone && let Some(entry) = self.clients.remove(&id) {
            self.client_keys.remove(&entry.key);
            self.disarm_transaction(id);
        }
        let mut message = message;
        for tell in tells {
            match tell {
                Tell::Message => {
                    if let Some((flow, response)) = message.take() {
                        self.owner_response(now, owner, flow, &sent, response);
                    }
                }
                Tell::TimedOut => {
                    self.counters.timeouts += 1;
                    self.owner_failure(now, owner, Failure::TimedOut);
                }
                Tell::TransportFailed => self.owner_failure(now, owner, Failure::TransportFailed),
            }
        }
        if is_gone && let Owner::Session(session, _) = owner {
            self.let_go(Some(session));
        }
    }

    fn owner_response(&mut self, now: Instant, owner: Owner, flow: Flow, sent: &Sent, response: Response) {
        if let Owner::Session(id, errand) = owner
            && errand != Errand::Invite
            && flow.transport.is_reliable()
            && let Some(session) = self.sessions.get_mut(&id)
            && session.flow.transport == flow.transport
        {
            // The connection that the dialog lives on may be another one by now.
            session.flow = flow;
        }
        match owner {
            Owner::Request(request) => self.request_response(now, request, sent, response),
            Owner::Session(session, errand) => match errand {
                Errand::Invite => self.invite_response(now, session, flow, sent, response),
                Errand::ReInvite | Errand::Update => {
                    self.change_response(now, session, errand, sent, &response);
                }
                Errand::Bye => self.bye_response(now, session, sent, &response),
                Errand::Prack | Errand::Info => self.errand_response(now, session, &response),
                Errand::Refer => self.refer_response(now, session, sent, &response),
                // A peer that does not want to hear what comes of its REFER need not.
                Errand::Notify | Errand::Dismiss | Errand::Cancel => {}
            },
        }
    }

    fn owner_failure(&mut self, now: Instant, owner: Owner, failure: Failure) {
        match owner {
            Owner::Request(request) => self.request_failed(request, failure),
            Owner::Session(session, errand) => match errand {
                Errand::Invite => self.invite_failed(now, session, failure),
                Errand::ReInvite | Errand::Update | Errand::Prack | Errand::Info => {
                    self.dialog_lost(now, session, failure);
                }
                Errand::Refer => self.refer_failed(session, failure),
                Errand::Notify | Errand::Bye | Errand::Dismiss | Errand::Cancel => {}
            },
        }
    }

    fn disarm_transaction(&mut self, id: TransactionId) {
        self.timers.disarm_all(TimerKey::Transaction(id), Timer::ALL.map(Reason::Transaction));
        self.timers.disarm(TimerKey::Transaction(id), Reason::ConnectWait);
    }

    /// One more transaction names the session.
    fn hold(&mut self, session: Option<SessionId>) {
        if let Some(session) = session.and_then(|session| self.sessions.get_mut(&session)) {
            session.transactions += 1;
        }
    }

    /// One transaction less names the session.
    fn let_go(&mut self, session: Option<SessionId>) {
        let Some(id) = session else { return };
        if let Some(session) = self.sessions.get_mut(&id) {
            session.transactions -= 1;
        }
        self.bury(id);
    }
}

fn reliability(flow: Flow) -> Reliability {
    if flow.transport.is_reliable() { Reliability::Reliable } else { Reliability::Unreliable }
}

fn target_reliability(target: &Target) -> Reliability {
    let transport = match target {
        Target::Flow(flow) | Target::Close(flow) => flow.transport,
        Target::Address { transport, .. } | Target::Name { transport, .. } => *transport,
    };
    if transport.is_reliable() { Reliability::Reliable } else { Reliability::Unreliable }
}

/// An illegal input is a bug of ours: it stops a test and is reported in production.
fn note(result: Result<(), Illegal>) {
    if let Err(illegal) = result {
        debug_assert!(false, "{illegal}");
        tracing::error!(%illegal, "transaction misused");
    }
}

/// The ACK to a failure. RFC 3261 17.1.1.3: "The ACK request constructed by the client transaction MUST
/// contain values for the Call-ID, From, and Request-URI that are equal to the values of those header
/// fields in the request passed to the transport by the client transaction [...]. The To header field in
/// the ACK MUST equal the To header field in the response being acknowledged [...]. The ACK MUST contain
/// a single Via header field, and this MUST be equal to the top Via header field of the original request.
/// The CSeq header field in the ACK MUST contain the same value for the sequence number as was present in
/// the original request, but the method parameter MUST be equal to "ACK"." And: "If the INVITE request whose
/// response is being acknowledged had Route header fields, those header fields MUST appear in the ACK."
fn failure_ack(sent: &Request, response: &Response) -> Bytes {
    use crate::message::{HeaderName, RequestBuilder};
    RequestBuilder::new(Method::Ack, sent.uri().as_bytes())
        .header(HeaderName::Via, sent.via().as_bytes())
        .header(HeaderName::MaxForwards, "70")
        .copy(sent, HeaderName::Route)
        .copy(sent, HeaderName::From)
        .copy(response, HeaderName::To)
        .copy(sent, HeaderName::CallId)
        .header(HeaderName::CSeq, format!("{} ACK", sent.cseq().number))
        .finish()
}
