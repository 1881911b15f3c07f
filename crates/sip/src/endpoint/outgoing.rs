//! Our INVITE: early dialogs, forks, ACK to each 2xx, CANCEL, challenges, and how requests find their way.
//!
//! RFC 3261 8.1, 9.1, 12.1.2, 12.2.1, 13.2, 22; RFC 6026 7.2.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use bytes::Bytes;

use super::body::session_description;
use super::compose::{self, Security};
use super::config::SessionPolicy;
use super::event::{EndedBy, Event, Misuse, Target};
use super::prack::Taken;
use super::transactions::{Errand, Failure, Owner, Sent};
use super::within::MAX_ACKS;
use super::{Endpoint, Reason, TimerKey};
use crate::auth::Answerer;
use crate::dialog::Dialog;
use crate::dialog::invite::{Acknowledging, Calling, Cancel, Early, Farewell, Retries, Session, Side, Stage};
use crate::dialog::refresh::Wishes;
use crate::flow::{Flow, Transport};
use crate::ids::SessionId;
use crate::message::{HeaderName, Message, Method, Request, RequestBuilder, Response};

/// An INVITE to be sent.
#[derive(Clone, Debug)]
pub struct OutgoingInvite {
    /// The Request-URI.
    pub uri: Bytes,
    /// The value of From, without a tag.
    pub from: Bytes,
    /// The value of To.
    pub to: Bytes,
    /// The Call-ID; a new one without it. An INVITE tried at another place keeps its own: RFC 3263 4.3 has it differ in
    /// the branch alone (and in the tag here, so that nobody takes it for the first one's merged twin).
    pub call_id: Option<Bytes>,
    /// Route values, for an outbound proxy (RFC 3261 8.1.1.1).
    pub routes: Vec<Bytes>,
    /// Where it is sent.
    pub target: Target,
    /// Our address on that way, for Via and Contact.
    pub local: SocketAddr,
    /// The offer; none asks the callee for one.
    pub sdp: Option<Bytes>,
    /// Our credentials, should we be challenged.
    pub credentials: Option<Answerer>,
    /// Further headers, name and value.
    pub headers: Vec<(Bytes, Bytes)>,
    /// How the session is held.
    pub policy: SessionPolicy,
}

impl Endpoint {
    /// Sends an INVITE.
    ///
    /// # Errors
    /// [`Misuse::Full`] at a bound, [`Misuse::BadInput`] if what was given makes no request.
    pub fn invite(&mut self, now: Instant, outgoing: OutgoingInvite) -> Result<SessionId, Misuse> {
        if self.sessions.len() >= self.config.limits.sessions {
            self.counters.unsent += 1;
            return Err(Misuse::Full);
        }
        let id = SessionId(self.ids.number());
        let transport = outgoing.target.transport();
        let remote = outgoing.target.remote();
        let address = compose::advertised(&self.config, outgoing.local, remote.map(|remote| remote.ip()));
        let is_sips = outgoing.uri.len() > 5 && outgoing.uri[..5].eq_ignore_ascii_case(b"sips:");
        let security = if is_sips { Security::Sips } else { Security::Plain };
        let contact = compose::contact(&self.config.contact_user, transport, address, security);
        let bytes = self.write_invite(&outgoing, transport, address, &contact);
        let Ok(Message::Request(sent)) = Message::parse_datagram(bytes.clone()) else {
            return Err(Misuse::BadInput);
        };
        let OutgoingInvite { target, local, sdp, credentials, policy, .. } = outgoing;
        let name = match &target {
            Target::Address { name, .. } => name.clone(),
            Target::Flow(_) | Target::Name { .. } | Target::Close(_) => None,
        };
        let remote = remote.unwrap_or_else(|| SocketAddr::new(local.ip(), 0));
        let flow = match target {
            Target::Flow(flow) => flow,
            _ => Flow { transport, local, remote, connection: 0 },
        };
        let owner = Owner::Session(id, Errand::Invite);
        let transaction = self.open_client_by(now, bytes, target, owner, policy.large).ok_or(Misuse::Full)?;
        let calling = Calling {
            transaction,
            offered: sdp.is_some(),
            cancel: Cancel::None,
            rang_too_long: false,
            early: Vec::new(),
            retries: Retries::default(),
        };
        let session = Session {
            id,
            side: Side::Caller,
            policy,
            flow,
            name,
            home: remote.ip(),
            contact,
            dialog: Dialog::unmade(&sent),
            stage: Stage::Calling(Box::new(calling)),
            incoming: None,
            outgoing: None,
            abandoned: None,
            successes: Vec::new(),
            acks: Vec::new(),
            timer: None,
            local_sdp: sdp,
            peer_updates: false,
            bye_after_ack: None,
            overtaken: None,
            is_established: false,
            referral: None,
            has_referred: false,
            referred: None,
            refers: 0,
            answerer: credentials,
            transactions: 1,
            indexed: Vec::new(),
        };
        self.sessions.insert(id, session);
        self.timers.arm(TimerKey::Session(id), Reason::Ringing, now + self.config.limits.ringing);
        Ok(id)
    }

    /// Our address as a peer is to see it in Via and Contact, when messages to it leave from `local`.
    pub fn advertised(&self, local: SocketAddr, remote: IpAddr) -> SocketAddr {
        compose::advertised(&self.config, local, Some(remote))
    }

    /// Whether our INVITE has had any response: a peer that says not even 100 may not be there.
    pub fn is_heard(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| match &session.stage {
            Stage::Calling(calling) => self.is_proceeding(calling.transaction),
            Stage::Inviting(_) | Stage::Confirmed | Stage::Acknowledging(_) | Stage::Over => true,
        })
    }

    fn write_invite(
        &mut self,
        outgoing: &OutgoingInvite,
        transport: Transport,
        address: SocketAddr,
        contact: &Bytes,
    ) -> Bytes {
        let via = compose::via(transport, address, &self.ids.branch());
        let from = [&outgoing.from[..], b";tag=", &self.ids.tag()].concat();
        let mut builder = RequestBuilder::new(Method::Invite, &outgoing.uri)
            .header(HeaderName::Via, via)
            .header(HeaderName::MaxForwards, "70");
        for route in &outgoing.routes {
            builder = builder.header(HeaderName::Route, route);
        }
        let config = outgoing.policy.session_timer.unwrap_or(self.config.session_timer);
        builder = builder
            .header(HeaderName::From, from)
            .header(HeaderName::To, &outgoing.to)
            .header(HeaderName::CallId, outgoing.call_id.clone().unwrap_or_else(|| self.ids.call_id()))
            .header(HeaderName::CSeq, "1 INVITE")
            .header(HeaderName::Contact, contact)
            .header(HeaderName::Allow, compose::allow(outgoing.policy.takes_refer))
            .header(HeaderName::Supported, compose::SUPPORTED)
            .header(HeaderName::SessionExpires, config.interval.as_secs().to_string())
            .header(HeaderName::MinSe, config.minimum.as_secs().to_string());
        if let Some(product) = &self.config.product {
            builder = builder.header(HeaderName::UserAgent, product);
        }
        builder = compose::with_request_headers(builder, &outgoing.policy.headers);
        builder = compose::with_request_headers(builder, &outgoing.headers);
        match &outgoing.sdp {
            Some(sdp) => builder.finish_with_body(compose::SDP, sdp),
            None => builder.finish(),
        }
    }

    /// Sends the ACK that answers the offer in a 2xx (RFC 3261 13.2.2.4).
    ///
    /// # Errors
    /// [`Misuse`], when no ACK is due.
    pub fn acknowledge(&mut self, now: Instant, session: SessionId, sdp: Bytes) -> Result<(), Misuse> {
        let known = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        if !matches!(known.stage, Stage::Acknowledging(_)) {
            return Err(Misuse::WrongState);
        }
        known.local_sdp = Some(sdp.clone());
        self.acknowledge_now(session, Some(sdp));
        self.arm_session_timer(now, session);
        Ok(())
    }

    /// Sends the ACK that is due, with an answer or without.
    pub(super) fn acknowledge_now(&mut self, id: SessionId, sdp: Option<Bytes>) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let stage = std::mem::replace(&mut session.stage, Stage::Confirmed);
        let Stage::Acknowledging(acknowledging) = stage else {
            session.stage = stage;
            return;
        };
        let dialog = session.dialog.clone();
        self.send_ack(id, &dialog, &acknowledging.sent, sdp.as_ref());
    }

    /// A response to our INVITE.
    pub(super) fn invite_response(
        &mut self,
        now: Instant,
        id: SessionId,
        flow: Flow,
        sent: &Sent,
        response: Response,
    ) {
        let request = &sent.request;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if !matches!(session.stage, Stage::Calling(_)) {
            if (200..300).contains(&response.status()) {
                self.further_success(now, id, request, &response);
            }
            return;
        }
        // An INVITE that went by TCP for its size does not move the dialog there.
        if session.flow.transport.is_reliable() || !flow.transport.is_reliable() {
            session.flow = flow;
        }
        session.home = flow.remote.ip();
        match response.status() {
            100..200 => self.invite_progress_received(now, id, request, &response),
            200..300 => self.invite_answered(now, id, request, response),
            401 | 407 | 422 => self.invite_challenged(now, id, sent, response),
            _ => self.invite_refused(now, id, response),
        }
    }

    fn invite_progress_received(&mut self, now: Instant, id: SessionId, sent: &Request, response: &Response) {
        self.cancel_if_wanted(now, id);
        if response.status() == 100 {
            return;
        }
        let limit = self.config.limits.forks;
        let mut taken = Taken::Process;
        if let Some(tag) = response.to().tag() {
            let Some(session) = self.sessions.get_mut(&id) else { return };
            session.peer_updates |= response.lists(HeaderName::Allow, "UPDATE");
            let Stage::Calling(calling) = &mut session.stage else { return };
            let known = calling.early.iter().position(|early| early.dialog.remote_tag() == tag);
            let index = match known {
                Some(index) => index,
                None if calling.early.len() == limit => return,
                None => {
                    let dialog = Dialog::at_caller(sent, response);
                    self.dialogs.insert(dialog.id().clone(), id);
                    session.indexed.push(dialog.id().clone());
                    session.dialog = dialog.clone();
                    calling.early.push(Early { dialog, rseq: None });
                    calling.early.len() - 1
                }
            };
            taken = self.take_provisional(now, id, index, sent, response);
        }
        let is_wanted = self.sessions.get(&id).is_some_and(|session| match &session.stage {
            Stage::Calling(calling) => calling.cancel == Cancel::None,
            Stage::Inviting(_) | Stage::Confirmed | Stage::Acknowledging(_) | Stage::Over => false,
        });
        if taken == Taken::Process && is_wanted {
            let body = session_description(response.fields());
            self.events.push_back(Event::Progress { session: id, status: response.status(), body });
        }
    }

    /// The first 2xx. RFC 3261 13.2.2.4: "The UAC core MUST generate an ACK request for each 2xx received
    /// from the transaction layer."
    fn invite_answered(&mut self, now: Instant, id: SessionId, sent: &Request, response: Response) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Stage::Calling(calling) = std::mem::replace(&mut session.stage, Stage::Confirmed) else { return };
        let tag = response.to().tag().unwrap_or_default();
        let early = calling.early.into_iter().find(|early| early.dialog.remote_tag() == tag);
        let dialog = match early {
            Some(early) => early.dialog.confirmed_by(sent, &response),
            None => Dialog::at_caller(sent, &response),
        };
        let index = dialog.id().clone();
        if !session.indexed.contains(&index) {
            session.indexed.push(index.clone());
        }
        session.dialog = dialog.clone();
        session.is_established = true;
        session.peer_updates = response.lists(HeaderName::Allow, "UPDATE");
        session.timer = Wishes::of(response.fields()).accepted();
        if let Some(answerer) = &mut session.answerer {
            answerer.accepted();
        }
        self.dialogs.insert(index, id);
        for reason in [Reason::Ringing, Reason::CancelWait] {
            self.timers.disarm(TimerKey::Session(id), reason);
        }
        let body = session_description(response.fields());
        let is_cancelled = calling.cancel != Cancel::None;
        if calling.offered || body.is_none() || is_cancelled {
            self.send_ack(id, &dialog, sent, None);
        } else if let Some(session) = self.sessions.get_mut(&id) {
            session.stage = Stage::Acknowledging(Box::new(Acknowledging { sent: sent.clone() }));
        }
        if is_cancelled {
            // RFC 3261 9.1, 15: the 200 overtook our CANCEL; the call is ended by BYE.
            let by = if calling.rang_too_long { EndedBy::NoResponse } else { EndedBy::HungUp };
            return self.end(now, id, by, None, Farewell::Bye(None));
        }
        let status = response.status();
        let response = Box::new(response);
        self.events.push_back(Event::Answered { session: id, status, body, response });
        self.arm_session_timer(now, id);
    }

    /// A 2xx after the first: repeated, which gets the same ACK, or of another fork, which is acknowledged
    /// and ended. RFC 3261 13.2.2.4: "If, after acknowledging any 2xx response to an INVITE, the UAC does not
    /// want to continue with that dialog, then the UAC MUST terminate the dialog by sending a BYE request".
    fn further_success(&mut self, now: Instant, id: SessionId, sent: &Request, response: &Response) {
        if self.repeat_ack(id, response) {
            return;
        }
        let Some(session) = self.sessions.get(&id) else { return };
        let tag = response.to().tag().unwrap_or_default();
        let is_ours = session.dialog.remote_tag() == tag;
        if is_ours || session.acks.len() >= self.config.limits.forks.min(MAX_ACKS) {
            return;
        }
        self.counters.forks_ended += 1;
        let mut dialog = Dialog::at_caller(sent, response);
        self.send_ack(id, &dialog, sent, None);
        let cseq = dialog.next_cseq();
        if let Some((builder, target)) = self.draft(id, &dialog, Method::Bye, cseq) {
            self.open_client(now, builder.finish(), target, Owner::Session(id, Errand::Dismiss));
        }
    }

    fn invite_refused(&mut self, now: Instant, id: SessionId, response: Response) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Stage::Calling(calling) = &session.stage else { return };
        let reason = response.header(HeaderName::Reason).map(|reason| response.share(reason));
        let by = match (&calling.cancel, calling.rang_too_long) {
            (Cancel::None, _) => EndedBy::Refused { status: response.status(), response: Box::new(response) },
            (_, true) => EndedBy::NoResponse,
            (_, false) => EndedBy::HungUp,
        };
        self.end(now, id, by, reason, Farewell::Silent);
    }

    /// 401 and 407 are answered with our credentials, 422 with the interval it asks for (RFC 4028 7.3), each
    /// by the same INVITE with the next number. RFC 3261 22.2: "When a UAC resubmits a request with its
    /// credentials after receiving a 401 (Unauthorized) or 407 (Proxy Authentication Required) response, it
    /// MUST increment the CSeq header field value".
    fn invite_challenged(&mut self, now: Instant, id: SessionId, sent: &Sent, response: Response) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Stage::Calling(calling) = &mut session.stage else { return };
        let is_wanted = calling.cancel == Cancel::None;
        let minimum = match response.status() {
            422 if calling.retries.intervals == 0 => {
                calling.retries.intervals = 1;
                Some(Wishes::of(response.fields()).minimum())
            }
            422 => return self.invite_refused(now, id, response),
            _ => None,
        };
        let can_answer = minimum.is_some()
            || session.answerer.as_mut().is_some_and(|answerer| answerer.take_challenge(&response).is_ok());
        if !is_wanted || !can_answer {
            return self.invite_refused(now, id, response);
        }
        let cseq = sent.request.cseq().number + 1;
        let Some(bytes) = self.resend(id, sent, cseq, minimum) else {
            return self.invite_refused(now, id, response);
        };
        let owner = Owner::Session(id, Errand::Invite);
        let Some(transaction) = self.open_client(now, bytes, sent.target.clone(), owner) else {
            return self.invite_refused(now, id, response);
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Stage::Calling(calling) = &mut session.stage else { return };
        calling.transaction = transaction;
        calling.early.clear();
    }

    /// No final response came.
    pub(super) fn invite_failed(&mut self, now: Instant, id: SessionId, failure: Failure) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Stage::Calling(calling) = &session.stage else { return };
        let by = match failure {
            _ if calling.cancel != Cancel::None && !calling.rang_too_long => EndedBy::HungUp,
            Failure::TimedOut => EndedBy::NoResponse,
            Failure::TransportFailed => EndedBy::TransportLost,
        };
        self.end(now, id, by, None, Farewell::Silent);
    }

    /// Cancels our INVITE, now or as soon as it has a provisional response.
    pub(super) fn cancel(
        &mut self,
        now: Instant,
        id: SessionId,
        reason: Option<Bytes>,
    ) -> Result<(), Misuse> {
        let session = self.sessions.get_mut(&id).ok_or(Misuse::NoSession)?;
        let Stage::Calling(calling) = &mut session.stage else { return Err(Misuse::WrongState) };
        if calling.cancel != Cancel::None {
            return Err(Misuse::WrongState);
        }
        calling.cancel = Cancel::AwaitsProvisional { reason };
        let transaction = calling.transaction;
        if self.is_proceeding(transaction) {
            self.cancel_if_wanted(now, id);
        }
        Ok(())
    }

    /// Sends the CANCEL that waited. RFC 3261 9.1: "The Request-URI, Call-ID, To, the numeric part of CSeq, and
    /// From header fields in the CANCEL request MUST be identical to those in the request being cancelled,
    /// including tags. A CANCEL constructed by a client MUST have only a single Via header field value
    /// matching the top Via value in the request being cancelled. [...] If the request being cancelled
    /// contains a Route header field, the CANCEL request MUST include that Route header field's values."
    fn cancel_if_wanted(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Stage::Calling(calling) = &mut session.stage else { return };
        let Cancel::AwaitsProvisional { reason } = &mut calling.cancel else { return };
        let reason = reason.take();
        calling.cancel = Cancel::Sent;
        let Some(entry) = self.clients.get(&calling.transaction) else { return };
        let (sent, target) = (&entry.sent, entry.target.clone());
        let mut builder = RequestBuilder::new(Method::Cancel, sent.uri().as_bytes())
            .header(HeaderName::Via, sent.via().as_bytes())
            .header(HeaderName::MaxForwards, "70")
            .copy(sent, HeaderName::Route)
            .copy(sent, HeaderName::From)
            .copy(sent, HeaderName::To)
            .copy(sent, HeaderName::CallId)
            .header(HeaderName::CSeq, format!("{} CANCEL", sent.cseq().number));
        if let Some(reason) = reason {
            builder = builder.header(HeaderName::Reason, reason);
        }
        let patience = self.config.timing.t1 * 64;
        self.timers.arm(TimerKey::Session(id), Reason::CancelWait, now + patience);
        self.open_client(now, builder.finish(), target, Owner::Session(id, Errand::Cancel));
    }

    /// 64*T1 after our CANCEL the INVITE has no final response (RFC 3261 9.1).
    pub(super) fn cancel_unanswered(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Stage::Calling(calling) = &session.stage else { return };
        let transaction = calling.transaction;
        let by = if calling.rang_too_long { EndedBy::NoResponse } else { EndedBy::HungUp };
        self.end(now, id, by, None, Farewell::Silent);
        self.abandon_client(now, transaction);
    }

    /// An INVITE rang too long: ours is cancelled, the peer's is refused.
    pub(super) fn rings_too_long(&mut self, now: Instant, id: SessionId) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if matches!(session.stage, Stage::Inviting(_)) {
            return self.invitation_expired(now, id);
        }
        let Stage::Calling(calling) = &mut session.stage else { return };
        if calling.cancel == Cancel::None {
            calling.rang_too_long = true;
            // The state was looked at just now.
            let _sent = self.cancel(now, id, None);
        }
    }
}
