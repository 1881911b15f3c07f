//! The end of a session: BYE both ways, hanging up at every stage, and the clearing away.
//!
//! RFC 3261 9.1, 12.2.1.2, 15. A session is told as ended once; it is kept until its last transaction is
//! gone, for late ACKs and repeated 2xx still belong to it.

use std::time::Instant;

use bytes::Bytes;

use super::event::{EndedBy, Event, Misuse, Refusal};
use super::transactions::{Errand, Failure, Sent};
use super::{Endpoint, Reason, TimerKey};
use crate::dialog::invite::{Farewell, Side, Stage};
use crate::ids::{SessionId, TransactionId};
use crate::message::{HeaderName, Method, Request, Response, ResponseBuilder};

impl Endpoint {
    /// Ends a session whatever its stage: 480 to an INVITE not answered yet, CANCEL to one of ours, BYE
    /// otherwise. `reason` is the value of a Reason header (RFC 3326), such as `Q.850;cause=16`.
    ///
    /// A CANCEL waits for the first provisional response, and the session ends when the INVITE does; in
    /// all other cases [`Event::Ended`] comes at once.
    ///
    /// # Errors
    /// [`Misuse`], when the session has ended or is being cancelled already.
    pub fn hangup(&mut self, now: Instant, session: SessionId, reason: Option<Bytes>) -> Result<(), Misuse> {
        let known = self.sessions.get(&session).ok_or(Misuse::NoSession)?;
        match &known.stage {
            Stage::Over => return Err(Misuse::NoSession),
            Stage::Calling(_) => return self.cancel(now, session, reason),
            Stage::Inviting(_) => {
                let mut refusal = Refusal::new(480);
                if let Some(reason) = &reason {
                    refusal = refusal.header("Reason", reason.clone());
                }
                self.end(now, session, EndedBy::HungUp, reason, Farewell::Refuse(refusal));
            }
            Stage::Acknowledging(_) => {
                // The 2xx must be acknowledged first (RFC 3261 13.2.2.4); there is no answer to send.
                self.acknowledge_now(session, None);
                self.end(now, session, EndedBy::HungUp, reason.clone(), Farewell::Bye(reason));
            }
            Stage::Confirmed => {
                self.end(now, session, EndedBy::HungUp, reason.clone(), Farewell::Bye(reason));
            }
        }
        Ok(())
    }

    /// The peer's BYE. RFC 3261 15.1.2: "A UAS core receiving a BYE request for an existing dialog MUST follow
    /// the procedures of Section 12.2.2 to process the request. Once done, the UAS SHOULD terminate the
    /// session [...]. The UAS core MUST generate a 2xx response to the BYE [...]. The UAS MUST still respond to
    /// any pending requests received for that dialog. It is RECOMMENDED that a 487 (Request Terminated)
    /// response be generated to those pending requests."
    pub(super) fn bye_received(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
    ) {
        let response = self.with_product(ResponseBuilder::new(request, 200, None)).finish();
        self.reply(now, transaction, 200, response);
        self.bye_taken(now, id, request);
    }

    /// Ends the session of a BYE that was answered.
    pub(super) fn bye_taken(&mut self, now: Instant, id: SessionId, request: &Request) {
        let reason = request.header(HeaderName::Reason).map(|reason| request.share(reason));
        let Some(session) = self.sessions.get(&id) else { return };
        let farewell = match &session.stage {
            Stage::Inviting(_) => Farewell::Refuse(Refusal::new(487)),
            Stage::Calling(_) | Stage::Confirmed | Stage::Acknowledging(_) | Stage::Over => Farewell::Silent,
        };
        // RFC 5407 3.1.3: a BYE may overtake the ACK; the 2xx is not repeated to one who has hung up.
        let waiting: Vec<u32> = session.successes.iter().map(|success| success.cseq).collect();
        for cseq in waiting {
            self.forget_success(id, cseq);
        }
        // RFC 5407 3.2.3: BYEs that cross are each answered 200; ours, if it still waited, is not sent.
        if let Some(session) = self.sessions.get_mut(&id) {
            session.bye_after_ack = None;
        }
        self.end(now, id, EndedBy::ByeReceived, reason, farewell);
    }

    /// Ends a session: tells it once, answers what is pending, says farewell, and stops its timers.
    pub(super) fn end(
        &mut self,
        now: Instant,
        id: SessionId,
        by: EndedBy,
        reason: Option<Bytes>,
        farewell: Farewell,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        if matches!(session.stage, Stage::Over) {
            return;
        }
        let stage = std::mem::replace(&mut session.stage, Stage::Over);
        session.abandoned = session.outgoing.take().and_then(|outgoing| outgoing.transaction);
        let is_abandoning = session.abandoned.is_some();
        session.timer = None;
        let pending = session.incoming.take().map(|offer| offer.transaction);
        // RFC 3261 15: "the callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an
        // ACK for its 2xx response or until the server transaction times out." After the first ACK the
        // dialog has proven itself, and a 2xx to a re-INVITE holds nothing up.
        let is_unproven = session.side == Side::Callee
            && session.successes.first().is_some_and(|success| success.is_initial);
        self.timers.disarm_all(TimerKey::Session(id), Reason::OF_SESSIONS);
        if is_abandoning {
            let patience = self.config.timing.t1 * 64;
            self.timers.arm(TimerKey::Session(id), Reason::ChangeWait, now + patience);
        }
        if let Some(transaction) = pending {
            self.refuse_within(now, id, transaction, &Refusal::new(487));
        }
        self.drop_refer(now, id);
        match (farewell, stage) {
            (Farewell::Refuse(refusal), Stage::Inviting(inviting)) => {
                self.refuse_within(now, id, inviting.transaction, &refusal);
            }
            (Farewell::Bye(reason), _) if is_unproven => {
                if let Some(session) = self.sessions.get_mut(&id) {
                    session.bye_after_ack = Some(reason);
                }
            }
            (Farewell::Bye(reason), _) => self.send_bye(now, id, reason),
            (Farewell::Refuse(_) | Farewell::Silent, _) => {}
        }
        self.events.push_back(Event::Ended { session: id, by, reason });
        self.bury(id);
    }

    /// Sends the BYE.
    pub(super) fn send_bye(&mut self, now: Instant, id: SessionId, reason: Option<Bytes>) {
        // A bound reached leaves the peer to its own timers; it is counted where it is reached.
        let _counted = self.send_within(now, id, Method::Bye, Errand::Bye, None, |builder| match &reason {
            Some(reason) => builder.header(HeaderName::Reason, reason),
            None => builder,
        });
    }

    /// A response to our BYE: a challenge is answered once, everything else ends the matter, for "The UAC
    /// MUST consider the session terminated [...] as soon as the BYE request is passed to the client
    /// transaction" (RFC 3261 15.1.1).
    pub(super) fn bye_response(&mut self, now: Instant, id: SessionId, sent: &Sent, response: &Response) {
        if matches!(response.status(), 401 | 407) {
            self.retry_within(now, id, Errand::Bye, sent, response);
        }
    }

    /// A response to our PRACK or INFO. RFC 3261 12.2.1.2: "If the response for a request within a dialog is
    /// a 481 (Call/Transaction Does Not Exist) or a 408 (Request Timeout), the UAC SHOULD terminate the
    /// dialog." RFC 3262 and RFC 6086 leave other failures to themselves.
    pub(super) fn errand_response(&mut self, now: Instant, id: SessionId, response: &Response) {
        let is_confirmed =
            self.sessions.get(&id).is_some_and(|session| matches!(session.stage, Stage::Confirmed));
        if is_confirmed && matches!(response.status(), 408 | 481) {
            self.end(now, id, EndedBy::DialogLost, None, Farewell::Bye(None));
        }
    }

    /// A request of ours within the dialog got no response. RFC 3261 12.2.1.2: "A UAC SHOULD also terminate a
    /// dialog if no response at all is received for the request (the client transaction would inform the
    /// TU about the timeout.)"
    pub(super) fn dialog_lost(&mut self, now: Instant, id: SessionId, failure: Failure) {
        let Some(session) = self.sessions.get(&id) else { return };
        match session.stage {
            Stage::Confirmed | Stage::Acknowledging(_) => {}
            Stage::Inviting(_) | Stage::Calling(_) | Stage::Over => return,
        }
        let by = match failure {
            Failure::TimedOut => EndedBy::DialogLost,
            Failure::TransportFailed => EndedBy::TransportLost,
        };
        self.end(now, id, by, None, Farewell::Bye(None));
    }

    /// Removes a session that is over and that no transaction names any more.
    pub(super) fn bury(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id) else { return };
        let is_done = matches!(session.stage, Stage::Over)
            && session.transactions == 0
            && session.successes.is_empty()
            && session.bye_after_ack.is_none();
        if !is_done {
            return;
        }
        let Some(session) = self.sessions.remove(&id) else { return };
        for index in &session.indexed {
            if self.dialogs.get(index) == Some(&id) {
                self.dialogs.remove(index);
            }
        }
        self.timers.disarm_all(TimerKey::Session(id), Reason::OF_SESSIONS);
    }
}
