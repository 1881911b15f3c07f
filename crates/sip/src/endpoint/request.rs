//! Requests outside of any dialog that are no INVITE: OPTIONS to keep watch, REGISTER.
//!
//! One response comes back, challenges answered on the way. RFC 3261 8.1, 10.2, 11.1, 22.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::event::{Event, Misuse, NoResponseCause, Target};
use super::transactions::{Failure, Owner, Sent};
use super::within::Again;
use super::{Endpoint, compose};
use crate::auth::Answerer;
use crate::ids::RequestId;
use crate::message::{HeaderName, Method, RequestBuilder, Response};

/// A request outside of any dialog.
#[derive(Clone, Debug)]
pub struct OutgoingRequest {
    /// The method; not INVITE, ACK or CANCEL.
    pub method: String,
    /// The Request-URI.
    pub uri: Bytes,
    /// The value of From, without a tag.
    pub from: Bytes,
    /// The value of To.
    pub to: Bytes,
    /// The Call-ID, where one is to be kept over several requests (RFC 3261 10.2.4); none makes a new one.
    pub call_id: Option<Bytes>,
    /// The sequence number, which rises with each request of one Call-ID.
    pub cseq: u32,
    /// Route values.
    pub routes: Vec<Bytes>,
    /// Where it is sent.
    pub target: Target,
    /// Our address on that way, for Via and Contact.
    pub local: SocketAddr,
    /// Whether our Contact goes with it.
    pub contact: ContactUse,
    /// Further headers, name and value.
    pub headers: Vec<(Bytes, Bytes)>,
    /// Our credentials, should we be challenged. Those that answered a challenge before go along at once, with the next
    /// count of its nonce (RFC 7616 3.4).
    pub credentials: Option<Answerer>,
}

/// Whether a request names our Contact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContactUse {
    /// It does.
    Ours,
    /// It does not, or the caller's headers hold one.
    Without,
}

/// A request that awaits its response.
#[derive(Debug)]
pub(super) struct Pending {
    credentials: Option<Answerer>,
    local: SocketAddr,
}

impl Endpoint {
    /// Sends a request outside of any dialog. Its outcome is [`Event::Response`] or [`Event::NoResponse`];
    /// the response's CSeq tells the number used last, for challenges count it up.
    ///
    /// # Errors
    /// [`Misuse::Full`] at a bound, [`Misuse::BadInput`] if what was given makes no request.
    pub fn request(&mut self, now: Instant, mut outgoing: OutgoingRequest) -> Result<RequestId, Misuse> {
        let method = Method::from_bytes(outgoing.method.as_bytes());
        if matches!(method, Method::Invite | Method::Ack | Method::Cancel) {
            return Err(Misuse::BadInput);
        }
        let id = RequestId(self.ids.number());
        let transport = outgoing.target.transport();
        let remote = outgoing.target.remote().map(|remote| remote.ip());
        let address = compose::advertised(&self.config, outgoing.local, remote);
        let from = [&outgoing.from[..], b";tag=", &self.ids.tag()].concat();
        let call_id = outgoing.call_id.clone().unwrap_or_else(|| self.ids.call_id());
        let mut builder = RequestBuilder::new(method, &outgoing.uri)
            .header(HeaderName::Via, compose::via(transport, address, &self.ids.branch()))
            .header(HeaderName::MaxForwards, "70");
        for route in &outgoing.routes {
            builder = builder.header(HeaderName::Route, route);
        }
        builder = builder
            .header(HeaderName::From, from)
            .header(HeaderName::To, &outgoing.to)
            .header(HeaderName::CallId, call_id)
            .header(HeaderName::CSeq, format!("{} {}", outgoing.cseq, outgoing.method));
        if outgoing.contact == ContactUse::Ours {
            let user = &self.config.contact_user;
            let contact = compose::contact(user, transport, address, compose::Security::Plain);
            builder = builder.header(HeaderName::Contact, contact);
        }
        if let Some(product) = &self.config.product {
            builder = builder.header(HeaderName::UserAgent, product);
        }
        if let Some(answerer) = &mut outgoing.credentials {
            let cnonce = u64::from(self.ids.below(u32::MAX));
            for (name, value) in answerer.authorizations(method, &outgoing.uri, &[], cnonce) {
                builder = builder.header(name, value);
            }
        }
        let bytes = compose::with_request_headers(builder, &outgoing.headers).finish();
        let Ok(crate::message::Message::Request(_)) = crate::message::Message::parse_datagram(bytes.clone())
        else {
            return Err(Misuse::BadInput);
        };
        self.open_client(now, bytes, outgoing.target, Owner::Request(id)).ok_or(Misuse::Full)?;
        self.requests.insert(id, Pending { credentials: outgoing.credentials, local: outgoing.local });
        Ok(id)
    }

    pub(super) fn request_response(&mut self, now: Instant, id: RequestId, sent: &Sent, response: Response) {
        if response.status() < 200 {
            return;
        }
        if matches!(response.status(), 401 | 407) && self.answer_challenge(now, id, sent, &response) {
            return;
        }
        let Some(Pending { mut credentials, .. }) = self.requests.remove(&id) else { return };
        if let Some(answerer) = credentials.as_mut().filter(|_| !matches!(response.status(), 401 | 407)) {
            answerer.accepted();
        }
        let (response, credentials) = (Box::new(response), credentials.map(Box::new));
        self.events.push_back(Event::Response { request: id, response, credentials });
    }

    fn answer_challenge(&mut self, now: Instant, id: RequestId, sent: &Sent, response: &Response) -> bool {
        let (branch, cnonce) = (self.ids.branch(), u64::from(self.ids.below(u32::MAX)));
        let Some(pending) = self.requests.get_mut(&id) else { return false };
        let Some(answerer) = pending.credentials.as_mut() else { return false };
        if answerer.take_challenge(response).is_err() {
            return false;
        }
        let request = &sent.request;
        let authorizations =
            answerer.authorizations(request.method(), request.uri().as_bytes(), &request.body(), cnonce);
        let remote = sent.target.remote().map(|remote| remote.ip());
        let sent_by = compose::advertised(&self.config, pending.local, remote);
        let via = compose::via(sent.target.transport(), sent_by, &branch);
        let cseq = request.cseq().number + 1;
        let bytes = Again { via, cseq, minimum: None, authorizations }.write(request);
        self.open_client(now, bytes, sent.target.clone(), Owner::Request(id)).is_some()
    }

    pub(super) fn request_failed(&mut self, id: RequestId, failure: Failure) {
        let Some(Pending { credentials, .. }) = self.requests.remove(&id) else { return };
        let cause = match failure {
            Failure::TimedOut => NoResponseCause::TimedOut,
            Failure::TransportFailed => NoResponseCause::TransportFailed,
        };
        let credentials = credentials.map(Box::new);
        self.events.push_back(Event::NoResponse { request: id, cause, credentials });
    }
}
