//! Requests of ours within a dialog: how they are started, where they go, the ACK to a 2xx, and the same
//! request sent once more.
//!
//! RFC 3261 8.1.2, 8.1.3.5, 12.2.1, 13.2.2.4, 22.2.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::config::Reach;
use super::event::{Misuse, Target};
use super::transactions::{Errand, Owner, Sent};
use super::{Endpoint, compose};
use crate::auth::Answerer;
use crate::dialog::Dialog;
use crate::dialog::invite::{SentAck, Session};
use crate::flow::{Flow, Transport};
use crate::ids::{SessionId, TransactionId};
use crate::message::{HeaderName, Method, Request, RequestBuilder, Response, Scheme, Uri};

/// ACKs kept for repeated 2xx: those of some forks and of some re-INVITEs in a row.
pub(super) const MAX_ACKS: usize = 16;

impl Endpoint {
    /// Sends a request within a session's dialog.
    pub(super) fn send_within(
        &mut self,
        now: Instant,
        id: SessionId,
        method: Method<'static>,
        errand: Errand,
        body: Option<(&str, &Bytes)>,
        decorate: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<TransactionId, Misuse> {
        let session = self.sessions.get_mut(&id).ok_or(Misuse::NoSession)?;
        let cseq = session.dialog.next_cseq();
        let dialog = session.dialog.clone();
        let (builder, target) = self.draft(id, &dialog, method, cseq).ok_or(Misuse::NoSession)?;
        let builder = decorate(builder);
        let bytes = match body {
            Some((content_type, content)) => builder.finish_with_body(content_type, content),
            None => builder.finish(),
        };
        self.open_client(now, bytes, target, Owner::Session(id, errand)).ok_or(Misuse::Full)
    }

    /// Starts a request within a dialog of a session, and says where it goes.
    pub(super) fn draft(
        &mut self,
        id: SessionId,
        dialog: &Dialog,
        method: Method<'static>,
        cseq: u32,
    ) -> Option<(RequestBuilder, Target)> {
        let branch = self.ids.branch();
        let session = self.sessions.get(&id)?;
        let target = self.way_to(session, dialog);
        let remote = target.remote().map(|remote| remote.ip());
        let address = compose::advertised(&self.config, session.flow.local, remote);
        let via = compose::via(target.transport(), address, &branch);
        let mut builder = dialog.request(method, cseq, &via);
        if matches!(method, Method::Invite | Method::Update) {
            builder = builder
                .header(HeaderName::Contact, &session.contact)
                .header(HeaderName::Allow, compose::allow(session.policy.takes_refer))
                .header(HeaderName::Supported, compose::SUPPORTED);
        }
        if let Some(product) = &self.config.product {
            builder = builder.header(HeaderName::UserAgent, product);
        }
        Some((compose::with_request_headers(builder, &session.policy.headers), target))
    }

    /// Where requests within a dialog go: RFC 3261 12.2.1.1 and 8.1.2, over the connection the peer came
    /// with where it is open and leads to the same place.
    fn way_to(&self, session: &Session, dialog: &Dialog) -> Target {
        let flow = session.flow;
        way(session, dialog, flow.transport.is_reliable() && self.streams.is_open(flow))
    }

    /// The same for a request that cannot go over this connection.
    pub(super) fn way_without(&self, session: &Session, dialog: &Dialog, gone: Flow) -> Target {
        let flow = session.flow;
        way(session, dialog, flow.transport.is_reliable() && flow != gone && self.streams.is_open(flow))
    }

    /// The same request once more: a new branch, the next number, our credentials or a longer interval.
    pub(super) fn resend(
        &mut self,
        id: SessionId,
        sent: &Sent,
        cseq: u32,
        minimum: Option<Duration>,
    ) -> Option<Bytes> {
        let (branch, cnonce) = (self.ids.branch(), u64::from(self.ids.below(u32::MAX)));
        let session = self.sessions.get_mut(&id)?;
        let remote = sent.target.remote().map(|remote| remote.ip());
        let sent_by = compose::advertised(&self.config, session.flow.local, remote);
        let via = compose::via(sent.target.transport(), sent_by, &branch);
        let request = &sent.request;
        let answer = |answerer: &mut Answerer| {
            answerer.authorizations(request.method(), request.uri().as_bytes(), &request.body(), cnonce)
        };
        let authorizations = session.answerer.as_mut().map(answer).unwrap_or_default();
        Some(Again { via, cseq, minimum, authorizations }.write(request))
    }

    /// Answers a challenge to a request within the dialog, once. Whether it was. Whoever the peer's Contact or its route
    /// leads to may challenge too, with a realm and a nonce of its own choice: the password answers only where the call
    /// was placed, and at the addresses its policy trusts.
    pub(super) fn retry_within(
        &mut self,
        now: Instant,
        id: SessionId,
        errand: Errand,
        sent: &Sent,
        response: &Response,
    ) -> Option<TransactionId> {
        let session = self.sessions.get_mut(&id)?;
        if !session.trusts(sent.target.remote()?.ip()) {
            return None;
        }
        session.answerer.as_mut()?.take_challenge(response).ok()?;
        let cseq = session.dialog.next_cseq();
        let bytes = self.resend(id, sent, cseq, None)?;
        self.open_client(now, bytes, sent.target.clone(), Owner::Session(id, errand))
    }

    /// Sends the ACK of this 2xx again, if it was sent before.
    pub(super) fn repeat_ack(&mut self, id: SessionId, response: &Response) -> bool {
        let Some(session) = self.sessions.get(&id) else { return false };
        let tag = response.to().tag().unwrap_or_default();
        let cseq = response.cseq().number;
        let Some(known) = session.acks.iter().find(|ack| ack.cseq == cseq && ack.remote_tag == tag) else {
            return false;
        };
        let (mut target, ack) = (known.target.clone(), known.ack.clone());
        if matches!(target, Target::Flow(flow) if flow.transport.is_reliable() && !self.streams.is_open(flow))
        {
            target = self.way_to(session, &session.dialog);
        }
        self.send(None, target, ack);
        true
    }

    /// Sends the ACK to a 2xx and keeps it for the repeats. RFC 3261 13.2.2.4: "The sequence number of the CSeq
    /// header field MUST be the same as the INVITE being acknowledged, but the CSeq method MUST be ACK. The
    /// ACK MUST contain the same credentials as the INVITE."
    pub(super) fn send_ack(&mut self, id: SessionId, dialog: &Dialog, sent: &Request, sdp: Option<&Bytes>) {
        let cseq = sent.cseq().number;
        let Some((builder, target)) = self.draft(id, dialog, Method::Ack, cseq) else { return };
        let builder =
            builder.copy(sent, HeaderName::Authorization).copy(sent, HeaderName::ProxyAuthorization);
        let ack = match sdp {
            Some(sdp) => builder.finish_with_body(compose::SDP, sdp),
            None => builder.finish(),
        };
        if let Some(session) = self.sessions.get_mut(&id) {
            let remote_tag = dialog.remote_tag().clone();
            if session.acks.len() == MAX_ACKS {
                // The oldest is past its repeats: each INVITE after it took a round trip at least.
                session.acks.remove(0);
            }
            session.acks.push(SentAck { remote_tag, cseq, ack: ack.clone(), target: target.clone() });
        }
        self.send(None, target, ack);
    }
}

/// What differs when a request is sent once more.
pub(super) struct Again {
    pub(super) via: Vec<u8>,
    pub(super) cseq: u32,
    /// A Min-SE to obey.
    pub(super) minimum: Option<Duration>,
    pub(super) authorizations: Vec<(HeaderName, Vec<u8>)>,
}

impl Again {
    /// Writes it: every header but those that differ as it was.
    pub(super) fn write(&self, sent: &Request) -> Bytes {
        let method = sent.method();
        let mut builder = RequestBuilder::new(method, sent.uri().as_bytes())
            .header(HeaderName::Via, &self.via)
            .header(HeaderName::CSeq, [self.cseq.to_string().as_bytes(), b" ", method.as_bytes()].concat());
        for (name, value) in sent.raw_headers() {
            let known = HeaderName::from_bytes(name);
            let differs = match known {
                HeaderName::Via | HeaderName::CSeq | HeaderName::ContentLength | HeaderName::ContentType => {
                    true
                }
                HeaderName::SessionExpires | HeaderName::MinSe => self.minimum.is_some(),
                _ => self.authorizations.iter().any(|(name, _)| *name == known),
            };
            if !differs {
                builder = builder.header_named(name, value);
            }
        }
        if let Some(minimum) = self.minimum {
            let seconds = minimum.as_secs().to_string();
            builder =
                builder.header(HeaderName::SessionExpires, &seconds).header(HeaderName::MinSe, &seconds);
        }
        for (name, value) in &self.authorizations {
            builder = builder.header(*name, value);
        }
        let body = sent.body();
        match sent.header(HeaderName::ContentType) {
            Some(content_type) if !body.is_empty() => builder.finish_with_body(content_type, body),
            _ => builder.finish(),
        }
    }
}

/// Where a request within a dialog goes: `is_open` tells whether the session's connection can be used.
fn way(session: &Session, dialog: &Dialog, is_open: bool) -> Target {
    let flow = session.flow;
    if session.policy.reach == Reach::Source && (is_open || !flow.transport.is_reliable()) {
        return Target::Flow(flow);
    }
    let Some(hop) = dialog.next_hop() else { return Target::Flow(flow) };
    let named = hop.param("transport").and_then(|param| Transport::from_token(param.value?));
    let transport = match (hop.scheme(), named) {
        (Scheme::Sips, _) => Transport::Tls,
        (_, Some(transport)) => transport,
        (_, None) => flow.transport,
    };
    if transport != flow.transport {
        return elsewhere(transport, None, &hop, session);
    }
    let is_same_place = hop.ip().is_none_or(|ip| ip.to_canonical() == flow.remote.ip().to_canonical());
    if is_open && is_same_place {
        return Target::Flow(flow);
    }
    let local = (!transport.is_reliable()).then_some(flow.local);
    match elsewhere(transport, local, &hop, session) {
        Target::Address { remote, .. } if remote == flow.remote && !transport.is_reliable() => {
            Target::Flow(flow)
        }
        target => target,
    }
}

/// A target off the flow.
fn elsewhere(transport: Transport, local: Option<SocketAddr>, hop: &Uri<'_>, session: &Session) -> Target {
    match hop.ip() {
        Some(ip) => {
            let port = hop.port().unwrap_or_else(|| transport.default_port());
            // The carrier's own word for where its dialog goes on is no other carrier's certificate.
            let name = session.name.clone().filter(|_| transport == Transport::Tls);
            Target::Address { transport, local, remote: SocketAddr::new(ip, port), name }
        }
        None => {
            let host = String::from_utf8_lossy(hop.host()).into_owned();
            Target::Name { transport, host, port: hop.port() }
        }
    }
}
