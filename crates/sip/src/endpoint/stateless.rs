//! Answers that leave no trace here.
//!
//! A repeat of the same request gets the same bytes, because the To tag is a MAC over what names the
//! request; the ACK of such a refusal matches nothing and is dropped. RFC 3261 8.2.7, 18.2.2.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use super::event::{Incoming, Malformed, Refusal, Target};
use super::{Endpoint, compose};
use crate::flow::Flow;
use crate::message::{Fields, HeaderName, Method, Request, ResponseBuilder, ResponseRouting, default_reason};

/// How many answers are left for this second.
#[derive(Debug, Default)]
pub(super) struct Allowance {
    since: Option<Instant>,
    taken: u32,
}

impl Allowance {
    /// Takes one, if `bound` were not taken in this second.
    fn take(&mut self, now: Instant, bound: u32) -> bool {
        let is_over = self.since.is_none_or(|since| now.duration_since(since) >= Duration::from_secs(1));
        if is_over {
            *self = Self { since: Some(now), taken: 0 };
        }
        let may = self.taken < bound;
        self.taken += u32::from(may);
        may
    }
}

impl Endpoint {
    /// Refuses a request outside of dialogs without keeping anything of it. The same request refused the
    /// same way again gets the same bytes.
    ///
    /// RFC 3261 8.2.7: "A stateless UAS MUST NOT send provisional (1xx) responses. [...] A stateless UAS MUST NOT
    /// retransmit responses. [...] A stateless UAS MUST ignore ACK requests. [...] A stateless UAS MUST ignore
    /// CANCEL requests. [...] To header tags MUST be generated for responses in a stateless manner - in a manner
    /// that will generate the same tag for the same request consistently."
    pub fn refuse(&mut self, incoming: Incoming, refusal: &Refusal) {
        self.refuse_statelessly(incoming.flow, &incoming.request, refusal);
    }

    /// As [`Self::refuse`], answered as if the request had asked for `rport` (RFC 3581).
    pub fn refuse_to_source(&mut self, mut incoming: Incoming, refusal: &Refusal) {
        incoming.request.set_source(incoming.flow.remote, ResponseRouting::Symmetric);
        self.refuse_statelessly(incoming.flow, &incoming.request, refusal);
    }

    /// Answers a request outside of dialogs that is not an INVITE, without keeping anything of it.
    ///
    /// `headers` are names and values; `body` is a media type and the content.
    pub fn respond(
        &mut self,
        incoming: Incoming,
        status: u16,
        headers: &[(Bytes, Bytes)],
        body: Option<(&str, &[u8])>,
    ) {
        debug_assert!(incoming.request.method() != Method::Invite, "an INVITE is accepted or refused");
        let tag = self.stateless_tag(incoming.request.fields());
        let builder = ResponseBuilder::new(&incoming.request, status, Some(&tag));
        let builder = compose::with_headers(self.with_product(builder), headers);
        let response = match body {
            Some((content_type, content)) => builder.finish_with_body(content_type, content),
            None => builder.finish(),
        };
        self.send_statelessly(incoming.flow, incoming.request.fields(), response);
    }

    /// Answers an OPTIONS 200 with what we allow, accept and support. RFC 3261 11.2: "Allow, Accept,
    /// Accept-Encoding, Accept-Language, and Supported header fields SHOULD be present in a 200 (OK)
    /// response to an OPTIONS request."
    pub fn answer_options(&mut self, incoming: Incoming) {
        let headers = [
            ("Allow", compose::ALLOW),
            ("Accept", compose::ACCEPT),
            ("Accept-Encoding", "identity"),
            ("Accept-Language", "en"),
            ("Supported", compose::SUPPORTED),
        ]
        .map(|(name, value)| (Bytes::from_static(name.as_bytes()), Bytes::from_static(value.as_bytes())));
        self.respond(incoming, 200, &headers, None);
    }

    /// Refuses bytes that are no SIP message with the status of their fault, if enough of them could be
    /// read to send it anywhere.
    pub fn refuse_malformed(&mut self, malformed: Malformed) {
        let Some(mut unreadable) = malformed.unreadable else { return };
        // Its method may be bent and its CSeq still say what it was: an ACK is never answered.
        let cseq = unreadable.fields().header(HeaderName::CSeq).unwrap_or_default();
        if cseq.trim_ascii().ends_with(b"ACK") {
            return;
        }
        unreadable.set_source(malformed.flow.remote, ResponseRouting::AsAsked);
        let tag = self.stateless_tag(unreadable.fields());
        let (status, phrase) = (malformed.fault.status(), malformed.fault.reason());
        let builder = ResponseBuilder::with_reason(&unreadable, status, phrase, Some(&tag));
        let response = self.with_product(builder).finish();
        self.send_statelessly(malformed.flow, unreadable.fields(), response);
    }

    pub(super) fn refuse_statelessly(&mut self, flow: Flow, request: &Request, refusal: &Refusal) {
        let tag = self.stateless_tag(request.fields());
        let phrase = refusal.phrase.as_deref().unwrap_or_else(|| default_reason(refusal.status));
        let builder = ResponseBuilder::with_reason(request, refusal.status, phrase, Some(&tag));
        let builder = compose::with_headers(self.with_product(builder), &refusal.headers);
        self.send_statelessly(flow, request.fields(), builder.finish());
    }

    /// Refuses what nobody asked the engine about: requests for dialogs and INVITEs that are not there, or are
    /// another's. A flood of them is answered up to a bound a second, and then with silence.
    pub(super) fn refuse_stray(&mut self, now: Instant, flow: Flow, request: &Request, refusal: &Refusal) {
        if self.allowance.take(now, self.config.limits.stray_replies_per_second) {
            self.refuse_statelessly(flow, request, refusal);
        } else {
            self.counters.strays_unanswered += 1;
        }
    }

    /// RFC 3261 21.5.4: 503 with Retry-After, "The server is temporarily unable to process the request due
    /// to a temporary overloading".
    pub(super) fn refuse_overloaded(&mut self, flow: Flow, request: &Request) {
        let seconds = self.config.limits.retry_after.as_secs();
        let refusal = Refusal::new(503).header("Retry-After", seconds.to_string());
        self.refuse_statelessly(flow, request, &refusal);
    }

    /// The tag that goes into To where the request had none: the same for the same request, and of no use
    /// to anyone for another.
    pub(super) fn stateless_tag(&self, request: &Fields) -> Bytes {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("HMAC takes keys of any length");
        for name in [HeaderName::CallId, HeaderName::From, HeaderName::CSeq] {
            let value = request.header(name).unwrap_or_default();
            mac.update(&(value.len() as u64).to_be_bytes());
            mac.update(value);
        }
        mac.update(request.top_via().and_then(|via| via.branch()).unwrap_or_default());
        let digest = mac.finalize().into_bytes();
        let tag: String = digest[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Bytes::from(tag)
    }

    /// Where a response goes. RFC 3261 18.2.2: "If the "sent-protocol" is a reliable transport protocol such
    /// as TCP or SCTP, or TLS over those, the response MUST be sent using the existing connection to the
    /// source of the original request that created the transaction, if that connection is still open. [...]
    /// If that connection is no longer open, the server SHOULD open a connection to the IP address in the
    /// "received" parameter, if present, using the port in the "sent-by" value, or the default port".
    pub(super) fn reply_target(&self, flow: Flow, request: &Fields) -> Target {
        if !flow.transport.is_reliable() {
            let remote = request.response_address().unwrap_or(flow.remote);
            return Target::Flow(Flow { remote, ..flow });
        }
        if self.streams.is_open(flow) {
            return Target::Flow(flow);
        }
        let port = request.top_via().and_then(|via| via.port());
        let port = port.unwrap_or_else(|| flow.transport.default_port());
        let remote = SocketAddr::new(flow.remote.ip(), port);
        Target::Address { transport: flow.transport, local: None, remote, name: None }
    }

    pub(super) fn with_product(&self, builder: ResponseBuilder) -> ResponseBuilder {
        match &self.config.product {
            Some(product) => builder.header(HeaderName::Server, product),
            None => builder,
        }
    }

    fn send_statelessly(&mut self, flow: Flow, request: &Fields, response: Bytes) {
        self.counters.stateless_replies += 1;
        let target = self.reply_target(flow, request);
        self.send(None, target, response);
    }
}
