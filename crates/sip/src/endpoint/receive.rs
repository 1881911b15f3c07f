//! What a message belongs to: a transaction, a dialog, or the engine's decision.
//!
//! Nothing is stored here. RFC 3261 8.2, 9.2, 12.2.2, 17.2.3, 18.2.1.

use std::net::IpAddr;
use std::time::Instant;

use bytes::Bytes;

use super::event::{Event, Incoming, Malformed, Refusal};
use super::transactions::InviteProgress;
use super::{Endpoint, compose};
use crate::dialog::DialogId;
use crate::dialog::invite::{Session, Stage};
use crate::error::{Fault, ParseError};
use crate::flow::Flow;
use crate::ids::{SessionId, TransactionId};
use crate::message::{
    HeaderName, Message, Method, Request, ResponseBuilder, ResponseRouting, default_reason,
};
use crate::transaction::key::ServerKey;

impl Endpoint {
    /// Takes one whole message.
    pub(super) fn receive(&mut self, now: Instant, flow: Flow, bytes: Bytes) {
        match Message::parse_datagram(bytes) {
            Err(error) => self.receive_malformed(flow, error),
            Ok(Message::Request(request)) => {
                self.counters.received += 1;
                self.receive_request(now, flow, request);
            }
            Ok(Message::Response(response)) => {
                self.counters.received += 1;
                self.receive_response(now, flow, response);
            }
        }
    }

    fn receive_malformed(&mut self, flow: Flow, error: ParseError) {
        let fault = error.fault();
        if fault == Fault::Empty {
            return;
        }
        self.counters.malformed += 1;
        let unreadable = error.into_refusable();
        self.events.push_back(Event::Malformed(Box::new(Malformed { flow, fault, unreadable })));
    }

    fn receive_request(&mut self, now: Instant, flow: Flow, mut request: Request) {
        // RFC 3261 18.2.1 and RFC 3581 4: the source is remembered for `received` and `rport`.
        request.set_source(flow.remote, ResponseRouting::AsAsked);
        match request.method() {
            Method::Ack => return self.receive_ack(now, flow, &request),
            Method::Cancel => return self.receive_cancel(now, flow, request),
            _ => {}
        }
        if let Some(&transaction) = self.server_keys.get(&ServerKey::of(&request)) {
            return self.repeat_server(now, transaction);
        }
        if request.to().tag().is_some() {
            return self.receive_in_dialog(now, flow, request);
        }
        let objection = self.objection(&request);
        self.counters.incoming += 1;
        self.events.push_back(Event::Incoming(Box::new(Incoming { request, flow, objection })));
    }

    /// An ACK is never answered (RFC 3261 17: "no response to an ACK").
    fn receive_ack(&mut self, now: Instant, flow: Flow, request: &Request) {
        let transaction = self.server_keys.get(&ServerKey::of(request)).copied();
        let progress = transaction.and_then(|transaction| self.invite_progress(transaction));
        let of_transaction = match (transaction, progress) {
            (Some(transaction), Some(InviteProgress::Failed | InviteProgress::Proceeding)) => {
                return self.ack_server(now, transaction);
            }
            // An ACK to a 2xx has a branch of its own, but peers that reuse the INVITE's exist.
            (Some(transaction), _) => self.servers.get(&transaction).and_then(|entry| entry.session),
            (None, _) => None,
        };
        let of_dialog = || self.dialogs.get(&dialog_id(request)).copied();
        let session = of_transaction.or_else(of_dialog);
        let known = session.and_then(|session| self.sessions.get(&session));
        match known {
            None => self.counters.stray_acks += 1,
            Some(session) if !session.trusts(flow.remote.ip()) => self.counters.foreign_requests += 1,
            Some(session) => {
                let session = session.id;
                self.success_acknowledged(now, session, request);
            }
        }
    }

    /// RFC 3261 9.2: "If the UAS did not find a matching transaction for the CANCEL according to the
    /// procedure above, it SHOULD respond to the CANCEL with a 481". "Regardless of the method of the
    /// original request, as long as the CANCEL matched an existing transaction, the UAS answers the CANCEL
    /// request itself with a 200 (OK) response. [...] the To tag of the response to the CANCEL and the To
    /// tag in the response to the original request SHOULD be the same."
    fn receive_cancel(&mut self, now: Instant, flow: Flow, request: Request) {
        if let Some(&transaction) = self.server_keys.get(&ServerKey::of(&request)) {
            return self.repeat_server(now, transaction);
        }
        let cancelled = self.server_keys.get(&ServerKey::of_cancelled(&request)).copied();
        let found = cancelled.and_then(|id| Some((id, self.servers.get(&id)?)));
        let Some((cancelled, entry)) = found else {
            self.counters.unknown_dialogs += 1;
            return self.refuse_stray(now, flow, &request, &Refusal::new(481));
        };
        let session = entry.session.and_then(|session| self.sessions.get(&session));
        let is_trusted = entry.flow.remote.ip() == flow.remote.ip()
            || session.is_some_and(|session| session.trusts(flow.remote.ip()));
        let (session, tag) = match session {
            Some(session) => (Some(session.id), Some(session.dialog.local_tag().clone())),
            None => (None, None),
        };
        if !is_trusted {
            self.counters.foreign_requests += 1;
            return self.refuse_stray(now, flow, &request, &Refusal::new(403));
        }
        let Some(transaction) = self.open_server(now, &request, flow, session) else {
            return self.refuse_overloaded(flow, &request);
        };
        let response = ResponseBuilder::new(&request, 200, tag.as_deref()).finish();
        self.reply(now, transaction, 200, response);
        if self.invite_progress(cancelled) == Some(InviteProgress::Proceeding)
            && let Some(session) = session
        {
            let reason = request.header(HeaderName::Reason).map(|reason| request.share(reason));
            self.cancelled(now, session, cancelled, reason);
        }
    }

    fn receive_in_dialog(&mut self, now: Instant, flow: Flow, mut request: Request) {
        let found = self.dialogs.get(&dialog_id(&request)).copied();
        let session = found.and_then(|session| self.sessions.get_mut(&session));
        let Some(session) = session else {
            // RFC 3261 12.2.2: "If the UAS wishes to reject the request because it does not wish to
            // recreate the dialog, it MUST respond to the request with a 481".
            self.counters.unknown_dialogs += 1;
            return self.refuse_stray(now, flow, &request, &Refusal::new(481));
        };
        if !session.trusts(flow.remote.ip()) {
            self.counters.foreign_requests += 1;
            return self.refuse_stray(now, flow, &request, &Refusal::new(403));
        }
        request.set_source(flow.remote, session.policy.routing);
        // RFC 3261 15: a BYE ends the dialog; what comes after finds none, but a BYE that crossed ours. "The
        // callee's UA MAY send a BYE on confirmed dialogs, but MUST NOT send a BYE on early dialogs": how our
        // INVITE ends, its final response says.
        let is_gone = match session.stage {
            Stage::Over if request.method() == Method::Notify => !session.awaits_notify(),
            Stage::Over => request.method() != Method::Bye || !session.is_established,
            Stage::Calling(_) => request.method() == Method::Bye,
            Stage::Inviting(_) | Stage::Confirmed | Stage::Acknowledging(_) => false,
        };
        if is_gone {
            self.counters.unknown_dialogs += 1;
            return self.refuse_statelessly(flow, &request, &Refusal::new(481));
        }
        if self.servers.len() >= self.config.limits.server_transactions {
            let id = session.id;
            return self.receive_without_room(now, flow, id, &request);
        }
        if session.dialog.take_remote_cseq(request.cseq().number).is_err() {
            self.counters.out_of_order += 1;
            return self.refuse_statelessly(flow, &request, &Refusal::new(500));
        }
        session.flow = flow;
        let id = session.id;
        if let Some(refusal) = self.objection_in_dialog(&request) {
            return self.answer_with_refusal(now, flow, id, &request, &refusal);
        }
        let Some(transaction) = self.open_server(now, &request, flow, Some(id)) else { return };
        match request.method() {
            Method::Bye => self.bye_received(now, id, transaction, &request),
            Method::Invite => self.reinvite_received(now, id, transaction, &request),
            Method::Update => self.update_received(now, id, transaction, &request),
            Method::Prack => self.prack_received(now, id, transaction, &request),
            Method::Info => self.info_received(now, id, transaction, &request),
            Method::Refer => self.refer_received(now, id, transaction, &request),
            Method::Notify => self.notify_received(now, id, transaction, &request),
            _ => self.answer_options_within(now, id, transaction, &request),
        }
    }

    /// No room for a transaction: a BYE is taken all the same, for it makes room; all else is refused, and
    /// its number stays free for its repeat.
    fn receive_without_room(&mut self, now: Instant, flow: Flow, id: SessionId, request: &Request) {
        self.counters.overloaded += 1;
        if request.method() != Method::Bye {
            return self.refuse_overloaded(flow, request);
        }
        let response = self.with_product(ResponseBuilder::new(request, 200, None)).finish();
        let target = self.reply_target(flow, request.fields());
        self.send(None, target, response);
        self.bye_taken(now, id, request);
    }

    /// Refuses a request within a dialog through a transaction, so that repeats get the same.
    fn answer_with_refusal(
        &mut self,
        now: Instant,
        flow: Flow,
        session: SessionId,
        request: &Request,
        refusal: &Refusal,
    ) {
        if let Some(transaction) = self.open_server(now, request, flow, Some(session)) {
            self.reply_refusal(now, transaction, request, refusal);
        }
    }

    /// Sends a refusal through a transaction.
    pub(super) fn reply_refusal(
        &mut self,
        now: Instant,
        transaction: TransactionId,
        request: &Request,
        refusal: &Refusal,
    ) {
        let tag = self.stateless_tag(request.fields());
        let phrase = refusal.phrase.as_deref().unwrap_or_else(|| default_reason(refusal.status));
        let builder = ResponseBuilder::with_reason(request, refusal.status, phrase, Some(&tag));
        let response = compose::with_headers(builder, &refusal.headers).finish();
        self.reply(now, transaction, refusal.status, response);
    }

    fn info_received(&mut self, now: Instant, id: SessionId, transaction: TransactionId, request: &Request) {
        let response = ResponseBuilder::new(request, 200, None).finish();
        self.reply(now, transaction, 200, response);
        let content_type = request.header(HeaderName::ContentType).map(|value| request.share(value));
        self.events.push_back(Event::Info { session: id, content_type, body: request.body() });
    }

    /// RFC 3261 11.2: an OPTIONS within a dialog is answered as one outside of it.
    fn answer_options_within(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
    ) {
        let session = self.sessions.get(&id);
        let contact = session.map(|session| session.contact.clone()).unwrap_or_default();
        let takes_refer = session.is_some_and(|session| session.policy.takes_refer);
        let response = ResponseBuilder::new(request, 200, None)
            .header(HeaderName::Contact, contact)
            .header(HeaderName::Allow, compose::allow(takes_refer))
            .header(HeaderName::Accept, compose::ACCEPT)
            .header(HeaderName::Supported, compose::SUPPORTED)
            .finish();
        self.reply(now, transaction, 200, response);
    }
}

impl Session {
    /// Whether requests within the dialog are taken from this address.
    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.home.to_canonical() == address.to_canonical()
            || self.policy.trusted.iter().any(|network| network.contains(address))
    }
}

/// The dialog a request within it names, seen from here: RFC 3261 12: "the
/// local tag is set to the tag in the To field of the message".
fn dialog_id(request: &Request) -> DialogId {
    DialogId {
        call_id: request.share(request.call_id()),
        local_tag: request.to().tag().map(|tag| request.share(tag)).unwrap_or_default(),
        remote_tag: request.from().tag().map(|tag| request.share(tag)).unwrap_or_default(),
    }
}
