//! What the protocol has against a request, before anybody asks what it is for.
//!
//! The order is RFC 3261 8.2's: method, then header inspection, then content. It refuses nothing itself.

use super::compose::{ACCEPT, ALLOW, UNDERSTOOD};
use super::event::Refusal;
use super::{Endpoint, body};
use crate::dialog::refresh::Wishes;
use crate::message::{HeaderName, Method, Request, Scheme};
use crate::transaction::key::MergeKey;

impl Endpoint {
    /// What is wrong with a request outside of any dialog; also asked of requests that never came, for a dry run.
    pub fn objection(&mut self, request: &Request) -> Option<Refusal> {
        if let Some(refusal) = method_objection(request.method()) {
            return Some(refusal);
        }
        match request.method() {
            // RFC 3261 15.1.2, RFC 3262 3, RFC 3311 5.2, RFC 6086 4: these exist within dialogs alone.
            Method::Bye | Method::Prack | Method::Update | Method::Info => return Some(Refusal::new(481)),
            _ => {}
        }
        // RFC 3261 8.2.2.1: "If the Request-URI uses a scheme not supported by the UAS, it SHOULD reject
        // the request with a 416 (Unsupported URI Scheme) response."
        if !matches!(request.uri().scheme(), Scheme::Sip | Scheme::Sips | Scheme::Tel) {
            return Some(Refusal::new(416));
        }
        // 8.2.2.2: "If the From tag, Call-ID, and CSeq exactly match those associated with an ongoing
        // transaction, but the request does not match that transaction (based on the matching rules in
        // Section 17.2.3), the UAS core SHOULD generate a 482 (Loop Detected) response".
        if MergeKey::of(request).is_some_and(|key| self.merged.contains_key(&key)) {
            self.counters.merged_requests += 1;
            return Some(Refusal::new(482));
        }
        // RFC 7332 5.1: a B2BUA that terminates a request at Max-Forwards 0 answers 483 as a proxy does.
        // OPTIONS with 0 is how a path is probed and is answered (RFC 3261 11).
        if request.method() == Method::Invite && request.max_forwards() == Some(0) {
            return Some(Refusal::new(483));
        }
        self.common_objection(request).or_else(|| self.interval_objection(request))
    }

    /// What is wrong with a request within a dialog.
    pub(super) fn objection_in_dialog(&self, request: &Request) -> Option<Refusal> {
        method_objection(request.method())
            .filter(|_| !matches!(request.method(), Method::Refer | Method::Notify))
            .or_else(|| self.common_objection(request))
            .or_else(|| self.interval_objection(request))
    }

    fn common_objection(&self, request: &Request) -> Option<Refusal> {
        required_objection(request)
            .or_else(|| self.content_objection(request))
            .or_else(|| acceptance_objection(request))
    }

    /// RFC 3261 8.2.3: "If there are any bodies whose type (indicated by the Content-Type), language [...]
    /// or encoding [...] are not understood, and that body part is not optional (as indicated by the
    /// Content-Disposition header field), the UAS MUST reject the request with a 415".
    fn content_objection(&self, request: &Request) -> Option<Refusal> {
        let body = request.fields().body_bytes();
        if body.is_empty() {
            return None;
        }
        if body.len() > self.config.limits.body {
            return Some(Refusal::new(413));
        }
        // RFC 6086 4.2.2: an INFO's body is its package's business, and is handed on as it is.
        if !matches!(request.method(), Method::Invite | Method::Update | Method::Prack) {
            return None;
        }
        let is_encoded = request
            .headers(HeaderName::ContentEncoding)
            .any(|coding| !coding.eq_ignore_ascii_case(b"identity"));
        if is_encoded {
            return Some(Refusal::new(415).header("Accept-Encoding", "identity"));
        }
        let is_optional = request.header(HeaderName::ContentDisposition).is_some_and(|value| {
            value.split(|&byte| byte == b';').skip(1).any(|param| {
                param
                    .split(|&byte| byte == b'=')
                    .map(<[u8]>::trim_ascii)
                    .eq([&b"handling"[..], &b"optional"[..]])
            })
        });
        let is_known = body::session_description(request.fields()).is_some();
        (!is_known && !is_optional).then(|| Refusal::new(415).header("Accept", ACCEPT))
    }

    /// RFC 4028 9: a session interval below our minimum.
    fn interval_objection(&self, request: &Request) -> Option<Refusal> {
        if !matches!(request.method(), Method::Invite | Method::Update) {
            return None;
        }
        let too_small = Wishes::of(request.fields()).agree(&self.config.session_timer).err()?;
        Some(Refusal::new(422).header("Min-SE", too_small.minimum.as_secs().to_string()))
    }
}

/// RFC 3261 8.2.1: "If the UAS recognizes but does not support the method of a request, it MUST generate a
/// 405 (Method Not Allowed) response. [...] The UAS MUST also add an Allow header field". 21.5.2: 501 "is
/// the appropriate response when a UAS does not recognize the request method".
fn method_objection(method: Method<'_>) -> Option<Refusal> {
    match method {
        Method::Invite
        | Method::Ack
        | Method::Bye
        | Method::Cancel
        | Method::Options
        | Method::Prack
        | Method::Update
        | Method::Info => None,
        Method::Register
        | Method::Refer
        | Method::Notify
        | Method::Subscribe
        | Method::Message
        | Method::Publish => Some(Refusal::new(405).header("Allow", ALLOW)),
        Method::Other(_) => Some(Refusal::new(501).header("Allow", ALLOW)),
    }
}

/// RFC 3261 8.2.2.3: "If a UAS does not understand an option-tag listed in a Require header field, it MUST
/// respond by generating a response with status code 420 (Bad Extension). The UAS MUST add an Unsupported
/// header field, and list in it those options it does not understand amongst those in the Require".
fn required_objection(request: &Request) -> Option<Refusal> {
    let is_known =
        |tag: &[u8]| UNDERSTOOD.split(", ").any(|known| known.as_bytes().eq_ignore_ascii_case(tag));
    let unknown: Vec<&[u8]> = request.headers(HeaderName::Require).filter(|tag| !is_known(tag)).collect();
    (!unknown.is_empty()).then(|| Refusal::new(420).header("Unsupported", unknown.join(&b", "[..])))
}

/// An offer or answer of ours must be in a form the caller takes. "The recipient of this request could
/// respond with a 406 (Not Acceptable), with a Warning/399 indicating that a response cannot be formulated in
/// the formats offered in the Accept header field" (RFC 4475 3.3.15). Absent means application/sdp, and an
/// empty one that nothing is taken (RFC 3261 20.1).
fn acceptance_objection(request: &Request) -> Option<Refusal> {
    if !matches!(request.method(), Method::Invite | Method::Update) {
        return None;
    }
    request.header(HeaderName::Accept)?;
    let takes_sdp = |range: &[u8]| {
        let end = memchr::memchr(b';', range).unwrap_or(range.len());
        let range = range[..end].trim_ascii();
        ["application/sdp", "application/*", "*/*"]
            .iter()
            .any(|known| known.as_bytes().eq_ignore_ascii_case(range))
    };
    let is_taken = request.headers(HeaderName::Accept).any(takes_sdp);
    (!is_taken).then(|| Refusal::new(406).header("Warning", "399 sip \"only application/sdp is spoken\""))
}
