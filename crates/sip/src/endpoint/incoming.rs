//! The peer's INVITE: accepted, provisional responses, the 2xx repeated until its ACK, refusal, CANCEL.
//!
//! RFC 3261 9.2, 12.1.1, 13.3.1, 14.2; RFC 6026 8.1.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::body::session_description;
use super::compose::{self, Security};
use super::config::{ReliableProvisionals, SessionPolicy};
use super::event::{EndedBy, Event, Incoming, Misuse, NotAccepted, Refusal};
use super::{Endpoint, Reason, TimerKey};
use crate::dialog::Dialog;
use crate::dialog::invite::{Farewell, Inviting, Session, Side, Stage, Success};
use crate::dialog::refresh::{self, Agreed, Wishes};
use crate::dialog::reliable::Reliable;
use crate::flow::Flow;
use crate::ids::{SessionId, TransactionId};
use crate::message::{HeaderName, Method, Request, ResponseBuilder};
use crate::transaction::key::ServerKey;

/// RFC 3261 13.3.1.1: "the UAS MUST send a non-100 provisional response at every minute, to handle the
/// possibility of lost provisional responses", lest proxies' timer C end the INVITE.
const RINGING_INTERVAL: Duration = Duration::from_secs(60);

impl Endpoint {
    /// Takes an INVITE: from here on there is a transaction, a dialog and a session, and 100 is sent.
    ///
    /// # Errors
    /// [`NotAccepted`]; the INVITE has then been refused already, but for a repeat of an accepted one.
    pub fn accept(
        &mut self,
        now: Instant,
        incoming: Incoming,
        policy: SessionPolicy,
    ) -> Result<SessionId, NotAccepted> {
        let Incoming { mut request, flow, objection } = incoming;
        if request.method() != Method::Invite {
            self.refuse_statelessly(flow, &request, &Refusal::new(501));
            return Err(NotAccepted::NotInvite);
        }
        if let Some(&transaction) = self.server_keys.get(&ServerKey::of(&request)) {
            self.repeat_server(now, transaction);
            return Err(NotAccepted::Repeated);
        }
        request.set_source(flow.remote, policy.routing);
        if let Some(refusal) = objection.or_else(|| too_small(&request, &policy)) {
            self.refuse_statelessly(flow, &request, &refusal);
            return Err(NotAccepted::Objection(refusal.status));
        }
        let id = SessionId(self.ids.number());
        let has_room = self.sessions.len() < self.config.limits.sessions;
        let opened = has_room.then(|| self.open_server(now, &request, flow, Some(id))).flatten();
        let Some(transaction) = opened else {
            self.counters.overloaded += u64::from(!has_room);
            self.refuse_overloaded(flow, &request);
            return Err(NotAccepted::Overloaded);
        };
        let session = self.callee(id, transaction, &request, flow, policy);
        self.dialogs.insert(session.dialog.id().clone(), id);
        self.sessions.insert(id, session);
        let patience = expires(&request)
            .map_or(self.config.limits.ringing, |expires| expires.min(self.config.limits.ringing));
        self.timers.arm(TimerKey::Session(id), Reason::Ringing, now + patience);
        Ok(id)
    }

    /// The session an admitted INVITE makes, its final response due.
    fn callee(
        &mut self,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
        flow: Flow,
        policy: SessionPolicy,
    ) -> Session {
        let tag = self.ids.tag();
        let dialog = Dialog::at_callee(request, tag, 0);
        let address = compose::advertised(&self.config, flow.local, Some(flow.remote.ip()));
        let security = Security::asked_by(request);
        let contact = compose::contact(&self.config.contact_user, flow.transport, address, security);
        let reliable = self.wants_reliable(request, &policy);
        let inviting = Inviting {
            transaction,
            offered: session_description(request.fields()).is_some(),
            reliable: reliable.then(|| Reliable::new(1 + self.ids.below(1 << 30))),
            described: false,
            answer: None,
            last: None,
        };
        let index = dialog.id().clone();
        Session {
            id,
            side: Side::Callee,
            policy,
            flow,
            name: None,
            home: flow.remote.ip(),
            contact,
            dialog,
            stage: Stage::Inviting(inviting),
            incoming: None,
            outgoing: None,
            abandoned: None,
            successes: Vec::new(),
            acks: Vec::new(),
            timer: None,
            local_sdp: None,
            peer_updates: request.lists(HeaderName::Allow, "UPDATE"),
            bye_after_ack: None,
            overtaken: None,
            is_established: false,
            referral: None,
            has_referred: false,
            referred: None,
            refers: 0,
            answerer: None,
            transactions: 1,
            indexed: vec![index.clone()],
        }
    }

    /// Sends a provisional response, 101 to 199, with a session description or without.
    ///
    /// Where provisional responses are reliable (RFC 3262) it may wait for the PRACK of the one before,
    /// and one without description to an INVITE without offer is left out, for "The initial offer MUST be in either an INVITE or, if not there, in the first reliable
    /// non-failure message" (RFC 3261 13.2.1).
    ///
    /// # Errors
    /// [`Misuse`], when the INVITE has its final response.
    pub fn provisional(
        &mut self,
        now: Instant,
        session: SessionId,
        status: u16,
        sdp: Option<Bytes>,
    ) -> Result<(), Misuse> {
        debug_assert!((101..200).contains(&status), "100 is the transaction's own");
        let session = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        let Stage::Inviting(inviting) = &mut session.stage else { return Err(Misuse::WrongState) };
        let id = session.id;
        if inviting.reliable.is_some() {
            return self.provisional_reliably(now, id, status, sdp);
        }
        if sdp.is_some() {
            session.local_sdp.clone_from(&sdp);
        }
        let transaction = inviting.transaction;
        let builder = self.within(id, transaction, status).ok_or(Misuse::NoSession)?;
        let response = finish(builder, sdp.as_ref());
        if let Some(Session { stage: Stage::Inviting(inviting), .. }) = self.sessions.get_mut(&id) {
            inviting.last = Some(response.clone());
        }
        self.timers.arm(TimerKey::Session(id), Reason::RepeatRinging, now + RINGING_INTERVAL);
        self.reply(now, transaction, status, response);
        Ok(())
    }

    /// Answers the INVITE 200 with this session description, and repeats it until the ACK.
    ///
    /// To an INVITE without offer this is the offer, and the ACK brings the answer. When the description
    /// went out in a reliable provisional response, the 200 leaves it out.
    ///
    /// # Errors
    /// [`Misuse`], when the INVITE has its final response.
    pub fn answer(&mut self, now: Instant, session: SessionId, sdp: Bytes) -> Result<(), Misuse> {
        let session = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        let id = session.id;
        let Stage::Inviting(inviting) = &mut session.stage else { return Err(Misuse::WrongState) };
        if inviting.answer.is_some() {
            return Err(Misuse::WrongState);
        }
        // RFC 3262 3: a final response may overtake them "unless the final response is 2xx and any of the
        // unacknowledged reliable provisional responses contained a session description. In that case, it
        // MUST NOT send a final response until those provisional responses are acknowledged."
        let outstanding = inviting.reliable.as_ref().and_then(Reliable::outstanding);
        if outstanding.is_some_and(|outstanding| outstanding.holds_sdp) {
            inviting.answer = Some(sdp);
            return Ok(());
        }
        self.answer_now(now, id, sdp);
        Ok(())
    }

    /// Refuses the INVITE. The session ends with [`EndedBy::Rejected`].
    ///
    /// # Errors
    /// [`Misuse`], when the INVITE has its final response.
    pub fn reject(&mut self, now: Instant, session: SessionId, refusal: Refusal) -> Result<(), Misuse> {
        let known = self.sessions.get(&session).ok_or(Misuse::NoSession)?;
        if !matches!(known.stage, Stage::Inviting(_)) {
            return Err(Misuse::WrongState);
        }
        let by = EndedBy::Rejected { status: refusal.status };
        self.end(now, session, by, None, Farewell::Refuse(refusal));
        Ok(())
    }

    /// Sends the 200, now that nothing stands before it.
    pub(super) fn answer_now(&mut self, now: Instant, id: SessionId, sdp: Bytes) {
        let Some(session) = self.sessions.get(&id) else { return };
        let Stage::Inviting(inviting) = &session.stage else { return };
        let (transaction, offered, described) = (inviting.transaction, inviting.offered, inviting.described);
        let Some(request) = self.servers.get(&transaction).map(|entry| entry.request.clone()) else { return };
        let config = session.policy.session_timer.unwrap_or(self.config.session_timer);
        let wishes = Wishes::of(request.fields());
        let agreed = wishes.agree(&config).ok().flatten();
        let Some(builder) = self.within(id, transaction, 200) else { return };
        let builder = with_timer(builder, agreed.as_ref(), &wishes);
        let builder = builder.header(HeaderName::Accept, compose::ACCEPT);
        // RFC 6337 2.1: once the answer has gone out reliably, the 2xx needs none.
        let response = finish(builder, (!described).then_some(&sdp));
        let waiting = [Reason::Ringing, Reason::RepeatRinging, Reason::RepeatProvisional, Reason::PrackWait];
        for reason in waiting {
            self.timers.disarm(TimerKey::Session(id), reason);
        }
        if let Some(session) = self.sessions.get_mut(&id) {
            if let Stage::Inviting(Inviting { reliable: Some(reliable), .. }) = &session.stage
                && reliable.outstanding().is_some()
            {
                session.overtaken = Some((reliable.rseq(), request.cseq().number));
            }
            session.stage = Stage::Confirmed;
            session.is_established = true;
            if !described {
                session.local_sdp = Some(sdp);
            }
            session.timer = agreed;
        }
        let holds_offer = !offered && !described;
        self.send_success(now, id, NewSuccess { transaction, response, holds_offer, is_initial: true });
        self.arm_session_timer(now, id);
    }

    /// Sends a 2xx to an INVITE and repeats it until its ACK. RFC 6026 8.1: "The 2xx response is passed to
    /// the transport with an interval that starts at T1 seconds and doubles for each retransmission until
    /// it reaches T2 seconds [...]. Response retransmissions cease when an ACK request for the response is
    /// received. This is independent of whatever transport protocols are used to send the response."
    pub(super) fn send_success(&mut self, now: Instant, id: SessionId, new: NewSuccess) {
        let NewSuccess { transaction, response, holds_offer, is_initial } = new;
        let timing = self.config.timing;
        let Some(entry) = self.servers.get(&transaction) else { return };
        let cseq = entry.request.cseq().number;
        let target = self.reply_target(entry.flow, entry.request.fields());
        let deadline = now + timing.t1 * 64;
        if let Some(session) = self.sessions.get_mut(&id) {
            let interval = (timing.t1 * 2).min(timing.t2);
            let response = response.clone();
            session.successes.push(Success {
                transaction,
                cseq,
                response,
                target,
                interval,
                deadline,
                holds_offer,
                is_initial,
            });
        }
        let key = TimerKey::Success(id, cseq);
        self.timers.arm(key, Reason::RepeatSuccess, now + timing.t1);
        self.timers.arm(key, Reason::AckWait, deadline);
        self.reply(now, transaction, 200, response);
    }

    /// The 2xx's repetition or the end of patience for its ACK.
    pub(super) fn success_timer(&mut self, now: Instant, id: SessionId, cseq: u32, reason: Reason) {
        if reason == Reason::AckWait {
            return self.ack_missing(now, id, cseq);
        }
        let t2 = self.config.timing.t2;
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let Some(success) = session.successes.iter_mut().find(|success| success.cseq == cseq) else { return };
        let next = now + success.interval;
        let is_before_the_end = next < success.deadline;
        success.interval = (success.interval * 2).min(t2);
        let (transaction, response, target) =
            (success.transaction, success.response.clone(), success.target.clone());
        self.counters.success_repeats += 1;
        if is_before_the_end {
            self.timers.arm(TimerKey::Success(id, cseq), Reason::RepeatSuccess, next);
        }
        if self.servers.contains_key(&transaction) {
            self.reply(now, transaction, 200, response);
        } else {
            self.send(None, target, response);
        }
    }

    /// RFC 3261 13.3.1.4: "If the server retransmits the 2xx response for 64*T1 seconds without receiving an
    /// ACK, the dialog is confirmed, but the session SHOULD be terminated. This is accomplished with a BYE".
    fn ack_missing(&mut self, now: Instant, id: SessionId, cseq: u32) {
        self.forget_success(id, cseq);
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match session.bye_after_ack.take() {
            Some(reason) => self.send_bye(now, id, reason),
            None => self.end(now, id, EndedBy::NoAck, None, Farewell::Bye(None)),
        }
        self.bury(id);
    }

    /// An ACK for a 2xx of ours.
    pub(super) fn success_acknowledged(&mut self, now: Instant, id: SessionId, ack: &Request) {
        let Some(holds_offer) = self.forget_success(id, ack.cseq().number) else {
            // A repeated ACK answers a repeated 2xx and says nothing new.
            return;
        };
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if let Some(reason) = session.bye_after_ack.take() {
            self.send_bye(now, id, reason);
        } else if !matches!(session.stage, Stage::Over) {
            let body = if holds_offer { session_description(ack.fields()) } else { None };
            self.events.push_back(Event::Acknowledged { session: id, body });
        }
        self.bury(id);
    }

    /// Stops repeating a 2xx; tells whether it held our offer.
    pub(super) fn forget_success(&mut self, id: SessionId, cseq: u32) -> Option<bool> {
        let session = self.sessions.get_mut(&id)?;
        let index = session.successes.iter().position(|success| success.cseq == cseq)?;
        let success = session.successes.remove(index);
        self.timers.disarm_all(TimerKey::Success(id, cseq), [Reason::RepeatSuccess, Reason::AckWait]);
        Some(success.holds_offer)
    }

    /// RFC 3261 9.2: "If the UAS has not issued a final response for the original request, [...] the UAS SHOULD
    /// immediately respond to the INVITE with a 487 (Request Terminated)."
    pub(super) fn cancelled(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        reason: Option<Bytes>,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match &session.stage {
            Stage::Inviting(inviting) if inviting.transaction == transaction => {
                self.end(now, id, EndedBy::Cancelled, reason, Farewell::Refuse(Refusal::new(487)));
            }
            Stage::Inviting(_)
            | Stage::Calling(_)
            | Stage::Confirmed
            | Stage::Acknowledging(_)
            | Stage::Over => {
                let is_offer =
                    session.incoming.as_ref().is_some_and(|offer| offer.transaction == transaction);
                if is_offer {
                    session.incoming = None;
                    self.refuse_within(now, id, transaction, &Refusal::new(487));
                    self.events.push_back(Event::OfferWithdrawn { session: id });
                }
            }
        }
    }

    /// Nobody answered in time. RFC 3261 13.3.1: "If the invitation expires before the UAS has generated a
    /// final response, a 487 (Request Terminated) response SHOULD be generated." That is the caller's wish, as
    /// a CANCEL is; the bound on ringing is ours.
    pub(super) fn invitation_expired(&mut self, now: Instant, id: SessionId) {
        let Some(Session { stage: Stage::Inviting(inviting), .. }) = self.sessions.get(&id) else { return };
        let expires = self.servers.get(&inviting.transaction).and_then(|entry| expires(&entry.request));
        let is_callers_wish = expires.is_some_and(|expires| expires <= self.config.limits.ringing);
        let (by, status) =
            if is_callers_wish { (EndedBy::Cancelled, 487) } else { (EndedBy::NoResponse, 480) };
        self.end(now, id, by, None, Farewell::Refuse(Refusal::new(status)));
    }

    /// Sends the last provisional response again.
    pub(super) fn repeat_ringing(&mut self, now: Instant, id: SessionId) {
        let Some(Session { stage: Stage::Inviting(inviting), .. }) = self.sessions.get(&id) else { return };
        let Some(response) = inviting.last.clone() else { return };
        let transaction = inviting.transaction;
        self.timers.arm(TimerKey::Session(id), Reason::RepeatRinging, now + RINGING_INTERVAL);
        self.reply(now, transaction, 180, response);
    }

    /// Starts a response within a session: To tag, the policy's headers, and what a dialog-making or
    /// target-refreshing response carries (RFC 3261 12.1.1, 13.3.1).
    pub(super) fn within(
        &self,
        id: SessionId,
        transaction: TransactionId,
        status: u16,
    ) -> Option<ResponseBuilder> {
        let session = self.sessions.get(&id)?;
        let request = &self.servers.get(&transaction)?.request;
        let builder = ResponseBuilder::new(request, status, Some(session.dialog.local_tag()));
        let builder = compose::with_headers(self.with_product(builder), &session.policy.headers);
        let refreshes = matches!(request.method(), Method::Invite | Method::Update);
        Some(if refreshes && status < 300 {
            builder
                .header(HeaderName::Contact, &session.contact)
                .header(HeaderName::Allow, compose::allow(session.policy.takes_refer))
                .header(HeaderName::Supported, compose::SUPPORTED)
        } else {
            builder
        })
    }

    /// Refuses a request of the peer's within a session.
    pub(super) fn refuse_within(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        refusal: &Refusal,
    ) {
        let Some(entry) = self.servers.get(&transaction) else { return };
        let Some(session) = self.sessions.get(&id) else { return };
        let phrase = refusal.phrase.as_deref();
        let phrase = phrase.unwrap_or_else(|| crate::message::default_reason(refusal.status));
        let tag = session.dialog.local_tag();
        let builder = ResponseBuilder::with_reason(&entry.request, refusal.status, phrase, Some(tag));
        let builder = compose::with_headers(self.with_product(builder), &session.policy.headers);
        let response = compose::with_headers(builder, &refusal.headers).finish();
        self.reply(now, transaction, refusal.status, response);
    }

    /// RFC 3262 3: a provisional response is sent reliably where the INVITE requires it, and may be where
    /// it is supported.
    fn wants_reliable(&self, request: &Request, policy: &SessionPolicy) -> bool {
        let may = policy.reliable == ReliableProvisionals::WhenSupported;
        request.lists(HeaderName::Require, "100rel")
            || (may && request.lists(HeaderName::Supported, "100rel"))
    }
}

/// A 2xx about to be sent.
pub(super) struct NewSuccess {
    pub(super) transaction: TransactionId,
    pub(super) response: Bytes,
    /// Whether it holds our offer.
    pub(super) holds_offer: bool,
    /// Whether it answers the INVITE that made the session.
    pub(super) is_initial: bool,
}

/// How long an INVITE is good for. RFC 3261 13.3.1: "the UAS core sets a timer for the number of seconds
/// indicated in the header field value."
fn expires(request: &Request) -> Option<Duration> {
    request.fields().expires().map(|seconds| Duration::from_secs(seconds.into()))
}

/// The policy's own minimum of the session interval, where it is above the endpoint's.
fn too_small(request: &Request, policy: &SessionPolicy) -> Option<Refusal> {
    let config = policy.session_timer.as_ref()?;
    let too_small = Wishes::of(request.fields()).agree(config).err()?;
    Some(Refusal::new(422).header("Min-SE", too_small.minimum.as_secs().to_string()))
}

/// RFC 4028 9: Session-Expires in the 2xx, and "If the refresher parameter [...] has a value of 'uac', the
/// UAS MUST place a Require header field into the response with the value 'timer'."
pub(super) fn with_timer(
    builder: ResponseBuilder,
    agreed: Option<&Agreed>,
    wishes: &Wishes,
) -> ResponseBuilder {
    let Some(agreed) = agreed else { return builder };
    let builder = builder.header(HeaderName::SessionExpires, refresh::response_value(agreed));
    if wishes.supported() { builder.header(HeaderName::Require, "timer") } else { builder }
}

/// Ends a response with a session description or without.
pub(super) fn finish(builder: ResponseBuilder, sdp: Option<&Bytes>) -> Bytes {
    match sdp {
        Some(sdp) => builder.finish_with_body(compose::SDP, sdp),
        None => builder.finish(),
    }
}
