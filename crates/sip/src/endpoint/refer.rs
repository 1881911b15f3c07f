//! REFER within a dialog, both sides: the peer asked to go elsewhere, or asking us to, and the NOTIFYs that tell what
//! came of it.
//!
//! Where the session's policy takes REFER, the engine hears of one by [`Event::Referred`] and decides whether anybody goes
//! anywhere; elsewhere it is refused here and told by [`Event::ReferRefused`]. A REFER outside of a dialog never comes here
//! (`check` refuses it). The subscription lives and dies with its dialog, and there is one
//! each way at a time. RFC 3515, RFC 3891, RFC 3892, RFC 4488, RFC 6665.

use std::time::Instant;

use bytes::Bytes;

use super::event::{Event, Misuse, Refusal};
use super::transactions::{Errand, Failure, Sent};
use super::{Endpoint, compose};
use crate::dialog::invite::{Referral, Referred, Session, Stage};
use crate::ids::{SessionId, TransactionId};
use crate::message::{HeaderName, Method, NameAddr, Request, Response, ResponseBuilder, default_reason};

/// The body of a NOTIFY that tells of a REFER: the start of a SIP message (RFC 3420).
const SIPFRAG: &str = "message/sipfrag;version=2.0";

/// How long the peer may take us to tell of its REFER: as long as a telephone may ring, and the way there.
const SUBSCRIPTION_SECONDS: u32 = 240;

impl Endpoint {
    /// Asks the peer to go to `target`, a URI without brackets. It tells what comes of it: [`Event::ReferAnswered`], and
    /// after a 2xx [`Event::ReferProgress`].
    ///
    /// # Errors
    /// [`Misuse::WrongState`], unless the session stands and no other REFER of ours is under way.
    pub fn refer(&mut self, now: Instant, session: SessionId, target: &[u8]) -> Result<(), Misuse> {
        let known = self.sessions.get(&session).ok_or(Misuse::NoSession)?;
        if !matches!(known.stage, Stage::Confirmed) || known.referral.is_some() {
            return Err(Misuse::WrongState);
        }
        let refer_to = [b"<", target, b">"].concat();
        if NameAddr::parse(&refer_to).is_none() {
            return Err(Misuse::BadInput);
        }
        // RFC 3892 2.1: who asks, which carriers look at.
        let referred_by = known.contact.clone();
        self.send_within(now, session, Method::Refer, Errand::Refer, None, |builder| {
            builder
                .header(HeaderName::Contact, &referred_by)
                .header(HeaderName::ReferTo, &refer_to)
                .header(HeaderName::ReferredBy, &referred_by)
        })?;
        if let Some(known) = self.sessions.get_mut(&session) {
            known.referral = Some(Referral { is_accepted: false });
            known.has_referred = true;
        }
        Ok(())
    }

    /// Waits no longer for what comes of our REFER: further NOTIFYs of it get 481, which ends the peer's subscription
    /// (RFC 6665 4.1.2.3).
    pub fn forget_refer(&mut self, session: SessionId) {
        if let Some(known) = self.sessions.get_mut(&session) {
            known.referral = None;
        }
    }

    /// Takes the peer's REFER: 202, and the first NOTIFY, which says 100.
    ///
    /// # Errors
    /// [`Misuse`], when none waits.
    pub fn accept_refer(&mut self, now: Instant, session: SessionId) -> Result<(), Misuse> {
        let known = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        let referred = known.referred.as_mut().ok_or(Misuse::WrongState)?;
        let transaction = referred.transaction.take().ok_or(Misuse::WrongState)?;
        let (is_silent, contact) = (referred.is_silent, known.contact.clone());
        let builder = self.within(session, transaction, 202).ok_or(Misuse::WrongState)?;
        let builder = builder.header(HeaderName::Contact, contact);
        // RFC 4488 4: "the Refer-Sub header field set to false" in the 2xx says that there will be no NOTIFY.
        let builder = if is_silent { builder.header_named("Refer-Sub", "false") } else { builder };
        self.reply(now, transaction, 202, builder.finish());
        self.notify_refer(now, session, 100)
    }

    /// Refuses the peer's REFER.
    ///
    /// # Errors
    /// [`Misuse`], when none waits.
    pub fn refuse_refer(
        &mut self,
        now: Instant,
        session: SessionId,
        refusal: &Refusal,
    ) -> Result<(), Misuse> {
        let known = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        let transaction = known.referred.as_mut().and_then(|referred| referred.transaction.take());
        known.referred = None;
        let transaction = transaction.ok_or(Misuse::WrongState)?;
        self.refuse_within(now, session, transaction, refusal);
        Ok(())
    }

    /// Tells the peer what comes of its REFER; a final status ends the matter.
    ///
    /// # Errors
    /// [`Misuse`], when there is no REFER to tell of.
    pub fn notify_refer(&mut self, now: Instant, session: SessionId, status: u16) -> Result<(), Misuse> {
        let known = self.sessions.get_mut(&session).ok_or(Misuse::NoSession)?;
        let is_over = status >= 200;
        let referred = known.referred.as_ref().filter(|referred| referred.transaction.is_none());
        let (is_silent, event) = match referred {
            None => return Err(Misuse::WrongState),
            Some(referred) => (referred.is_silent, referred.event.clone()),
        };
        if is_over {
            known.referred = None;
        }
        if is_silent {
            return Ok(());
        }
        let contact = known.contact.clone();
        let body = Bytes::from(format!("SIP/2.0 {status} {}\r\n", default_reason(status)));
        // RFC 3515 2.4.7: "the NOTIFY that terminates the subscription has reason noresource".
        let state = match is_over {
            true => "terminated;reason=noresource".to_owned(),
            false => format!("active;expires={SUBSCRIPTION_SECONDS}"),
        };
        self.send_within(now, session, Method::Notify, Errand::Notify, Some((SIPFRAG, &body)), |builder| {
            builder
                .header(HeaderName::Contact, contact)
                .header(HeaderName::Event, event)
                .header(HeaderName::SubscriptionState, state)
        })?;
        Ok(())
    }

    /// What a third party needs to take a session's place (RFC 3891): the peer's own URI, and the value of a Replaces that
    /// the peer would know the dialog by, its tags the peer's way round.
    pub fn replaceable(&self, session: SessionId) -> Option<(Bytes, Bytes)> {
        let known = self.sessions.get(&session)?;
        if !matches!(known.stage, Stage::Confirmed) {
            return None;
        }
        let id = known.dialog.id();
        let value = [&id.call_id[..], b";to-tag=", &id.remote_tag, b";from-tag=", &id.local_tag].concat();
        Some((known.dialog.target().clone(), Bytes::from(value)))
    }

    /// The session that an INVITE with this Replaces asks to take the place of.
    ///
    /// # Errors
    /// What it is refused with by RFC 3891 3: 400 for rubbish, 481 for a dialog that is not there, 486 for one that is
    /// confirmed while only an early one may be replaced, 603 for one that has ended.
    pub fn replaced_by(&self, replaces: &[u8]) -> Result<SessionId, u16> {
        let replaces = Replaces::parse(replaces).ok_or(400_u16)?;
        let early_only = replaces.early_only;
        let id = self.dialogs.get(&replaces.dialog()).copied().ok_or(481_u16)?;
        let session = self.sessions.get(&id).ok_or(481_u16)?;
        match session.stage {
            Stage::Over => Err(603),
            Stage::Confirmed | Stage::Acknowledging(_) if early_only => Err(486),
            Stage::Confirmed => Ok(id),
            // "If the Replaces header field matches an early dialog that was not initiated by this UA, it returns a 481".
            Stage::Inviting(_) | Stage::Calling(_) | Stage::Acknowledging(_) => Err(481),
        }
    }

    /// A response to our REFER. Whatever it is but 2xx, the session stands: a carrier that knows no REFER may answer 481,
    /// or nothing, and its call goes on.
    pub(super) fn refer_response(&mut self, now: Instant, id: SessionId, sent: &Sent, response: &Response) {
        let status = response.status();
        if status < 200 || self.referral_of(id).is_none() {
            return;
        }
        if matches!(status, 401 | 407) && self.retry_within(now, id, Errand::Refer, sent, response).is_some()
        {
            return;
        }
        self.refer_answered(id, status);
    }

    /// Our REFER got no response.
    pub(super) fn refer_failed(&mut self, id: SessionId, failure: Failure) {
        let status = match failure {
            Failure::TimedOut => 408,
            Failure::TransportFailed => 503,
        };
        if self.referral_of(id).is_some() {
            self.refer_answered(id, status);
        }
    }

    fn refer_answered(&mut self, id: SessionId, status: u16) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        match status {
            200..300 => {
                if let Some(referral) = &mut session.referral {
                    referral.is_accepted = true;
                }
            }
            _ => session.referral = None,
        }
        self.events.push_back(Event::ReferAnswered { session: id, status });
    }

    /// The peer's REFER.
    pub(super) fn refer_received(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        // RFC 3515 2.4.1: "A REFER request [...] MUST contain exactly one Refer-To header field value", and 2.4.2: "An agent
        // responding to a REFER method MUST return a 400 (Bad Request) if the request contained zero or more than one".
        let mut targets = request.headers(HeaderName::ReferTo).map(|value| request.share(value));
        let refusal = match (targets.next(), targets.next()) {
            (first, _) if !session.policy.takes_refer => {
                if let Some(refer_to) = first {
                    self.events.push_back(Event::ReferRefused { session: id, refer_to });
                }
                not_allowed()
            }
            _ if session.referred.is_some() => Refusal::new(491),
            _ if !matches!(session.stage, Stage::Confirmed) => Refusal::new(491),
            (Some(refer_to), None) if NameAddr::parse(&refer_to).is_some() => {
                let is_silent = request
                    .header_named("Refer-Sub")
                    .is_some_and(|value| value.trim_ascii().eq_ignore_ascii_case(b"false"));
                // RFC 3515 2.4.6: the id tells several REFERs of one dialog apart, and the first may go without.
                let event = match session.refers {
                    0 => Bytes::from_static(b"refer"),
                    _ => Bytes::from(format!("refer;id={}", request.cseq().number)),
                };
                session.refers = session.refers.saturating_add(1);
                session.referred = Some(Referred { transaction: Some(transaction), is_silent, event });
                self.events.push_back(Event::Referred { session: id, refer_to });
                return;
            }
            _ => Refusal::new(400).phrase("Exactly One Refer-To Is Needed"),
        };
        self.refuse_within(now, id, transaction, &refusal);
    }

    /// A NOTIFY within the dialog: of our REFER, or of nothing we know (RFC 6665 4.1.3: 481). A peer that was never asked
    /// anything is told that we take none.
    pub(super) fn notify_received(
        &mut self,
        now: Instant,
        id: SessionId,
        transaction: TransactionId,
        request: &Request,
    ) {
        let Some(session) = self.sessions.get_mut(&id) else { return };
        let package = request.header(HeaderName::Event).map(|value| {
            let end = memchr::memchr(b';', value).unwrap_or(value.len());
            value[..end].trim_ascii()
        });
        let is_ours = session.referral.is_some()
            && package.is_some_and(|package| package.eq_ignore_ascii_case(b"refer"));
        if !is_ours {
            let is_known = session.has_referred || session.policy.takes_refer;
            let refusal = if is_known { Refusal::new(481) } else { not_allowed() };
            return self.refuse_within(now, id, transaction, &refusal);
        }
        let is_over = request
            .header(HeaderName::SubscriptionState)
            .is_some_and(|state| state.len() >= 10 && state[..10].eq_ignore_ascii_case(b"terminated"));
        let status = sipfrag_status(request.fields().body_bytes());
        if is_over {
            session.referral = None;
        }
        let is_told = !matches!(session.stage, Stage::Over);
        let response = self.with_product(ResponseBuilder::new(request, 200, None)).finish();
        self.reply(now, transaction, 200, response);
        if is_told {
            self.events.push_back(Event::ReferProgress { session: id, status, is_over });
        }
    }

    /// A REFER of the peer's that waits for our word when its session ends is refused.
    pub(super) fn drop_refer(&mut self, now: Instant, id: SessionId) {
        let pending = self
            .sessions
            .get_mut(&id)
            .and_then(|session| session.referred.take())
            .and_then(|referred| referred.transaction);
        if let Some(transaction) = pending {
            self.refuse_within(now, id, transaction, &Refusal::new(487));
        }
    }

    fn referral_of(&self, id: SessionId) -> Option<&Referral> {
        self.sessions.get(&id).filter(|session| !matches!(session.stage, Stage::Over))?.referral.as_ref()
    }
}

impl Session {
    /// Whether a NOTIFY that comes when the session is over still belongs to a REFER of ours: many a carrier tells the
    /// outcome after its BYE.
    pub(super) fn awaits_notify(&self) -> bool {
        self.referral.as_ref().is_some_and(|referral| referral.is_accepted)
    }
}

/// RFC 3261 8.2.1: "The UAS MUST also add an Allow header field to the 405".
fn not_allowed() -> Refusal {
    Refusal::new(405).header("Allow", compose::ALLOW)
}

/// A Replaces header (RFC 3891 6.1), seen by who receives it.
struct Replaces {
    call_id: Bytes,
    to_tag: Bytes,
    from_tag: Bytes,
    early_only: bool,
}

impl Replaces {
    fn parse(value: &[u8]) -> Option<Self> {
        let mut parts = value.split(|&byte| byte == b';').map(<[u8]>::trim_ascii);
        let call_id = parts.next().filter(|call_id| !call_id.is_empty())?;
        let (mut to_tag, mut from_tag, mut early_only) = (None, None, false);
        for part in parts {
            let (name, value) = match memchr::memchr(b'=', part) {
                Some(at) => (part[..at].trim_ascii(), part[at + 1..].trim_ascii()),
                None => (part, &b""[..]),
            };
            match name {
                _ if name.eq_ignore_ascii_case(b"to-tag") && to_tag.is_none() => to_tag = Some(value),
                _ if name.eq_ignore_ascii_case(b"from-tag") && from_tag.is_none() => from_tag = Some(value),
                _ if name.eq_ignore_ascii_case(b"to-tag") || name.eq_ignore_ascii_case(b"from-tag") => {
                    return None;
                }
                _ => early_only |= name.eq_ignore_ascii_case(b"early-only"),
            }
        }
        let shared = |part: Option<&[u8]>| part.filter(|part| !part.is_empty()).map(Bytes::copy_from_slice);
        Some(Self {
            call_id: Bytes::copy_from_slice(call_id),
            to_tag: shared(to_tag)?,
            from_tag: shared(from_tag)?,
            early_only,
        })
    }

    /// "the to-tag parameter [is compared] to the local tag, and the from-tag parameter to the remote tag" (RFC 3891 3).
    fn dialog(self) -> crate::dialog::DialogId {
        crate::dialog::DialogId { call_id: self.call_id, local_tag: self.to_tag, remote_tag: self.from_tag }
    }
}

/// The status in a `message/sipfrag` body (RFC 3420), whose first line is a Status-Line; `None` for one that has none.
fn sipfrag_status(body: &[u8]) -> Option<u16> {
    let line = body.split(|&byte| byte == b'\n').next()?;
    let rest = line.get(..8).filter(|start| start.eq_ignore_ascii_case(b"SIP/2.0 ")).and(line.get(8..))?;
    let digits = rest.get(..3).filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let status: u16 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    (100..700).contains(&status).then_some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_status_of_a_fragment_is_read_and_nothing_is_made_up() {
        assert_eq!(sipfrag_status(b"SIP/2.0 200 OK\r\n"), Some(200));
        assert_eq!(sipfrag_status(b"SIP/2.0 180 Ringing"), Some(180));
        assert_eq!(sipfrag_status(b"sip/2.0 486 Busy\nTo: x\n"), Some(486));
        for rubbish in
            [&b""[..], b"SIP/2.0", b"SIP/2.0 2", b"SIP/2.0 20x", b"SIP/2.0 999 X", b"HTTP/1.1 200 OK"]
        {
            assert_eq!(sipfrag_status(rubbish), None);
        }
    }

    #[test]
    fn replaces_needs_a_call_and_both_tags() {
        let read = Replaces::parse(b"call@host ;to-tag=7; from-tag=9;early-only").unwrap();
        assert_eq!(
            (&read.call_id[..], &read.to_tag[..], &read.from_tag[..]),
            (&b"call@host"[..], &b"7"[..], &b"9"[..])
        );
        assert!(read.early_only);
        for rubbish in [
            &b""[..],
            b"call",
            b"call;to-tag=1",
            b";to-tag=1;from-tag=2",
            b"c;to-tag=1;to-tag=1;from-tag=2",
            b"c;to-tag=;from-tag=1",
        ] {
            assert!(Replaces::parse(rubbish).is_none());
        }
    }
}
