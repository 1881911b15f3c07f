//! One dialog: identifiers, sequence numbers, remote target and route set, and the only constructor of
//! requests within it. RFC 3261 12.
//!
//! It knows no transaction and no session. The route set is fixed when the dialog is made; a
//! re-INVITE refreshes the remote target alone (12.2).

use bytes::Bytes;

use super::id::DialogId;
use crate::message::{HeaderName, Method, NameAddr, Request, RequestBuilder, Response, Uri};

#[derive(Clone, Debug)]
pub(crate) struct Dialog {
    id: DialogId,
    /// From of our requests, tag included.
    local: Bytes,
    /// To of our requests, tag included.
    remote: Bytes,
    /// The number of our last request.
    local_cseq: u32,
    /// The number of the peer's last request.
    remote_cseq: Option<u32>,
    /// Route values in the order our requests carry them.
    routes: Vec<Bytes>,
    /// The Request-URI of our requests.
    target: Bytes,
}

impl Dialog {
    /// The dialog a request makes at its callee, RFC 3261 12.1.1: "The route set MUST be set to the list
    /// of URIs in the Record-Route header field from the request, taken in order and preserving all URI
    /// parameters. [...] The remote target MUST be set to the URI from the Contact header field of the
    /// request. The remote sequence number MUST be set to the value of the sequence number in the CSeq
    /// header field of the request. The local sequence number MUST be empty."
    ///
    /// Without a Contact (peers of RFC 2543) the From URI is the target.
    pub(crate) fn at_callee(request: &Request, local_tag: Bytes, first_cseq: u32) -> Self {
        let mut local = request.to().as_bytes().to_vec();
        local.extend_from_slice(b";tag=");
        local.extend_from_slice(&local_tag);
        let target = request.contact().unwrap_or_else(|| request.from());
        Self {
            id: DialogId {
                call_id: Bytes::copy_from_slice(request.call_id()),
                local_tag,
                remote_tag: Bytes::copy_from_slice(request.from().tag().unwrap_or_default()),
            },
            local: Bytes::from(local),
            remote: Bytes::copy_from_slice(request.from().as_bytes()),
            local_cseq: first_cseq,
            remote_cseq: Some(request.cseq().number),
            routes: request.headers(HeaderName::RecordRoute).map(Bytes::copy_from_slice).collect(),
            target: Bytes::copy_from_slice(target.uri().as_bytes()),
        }
    }

    /// The dialog a response makes at its caller, RFC 3261 12.1.2: "The route set MUST be set to the list
    /// of URIs in the Record-Route header field from the response, taken in reverse order and
    /// preserving all URI parameters."
    pub(crate) fn at_caller(sent: &Request, response: &Response) -> Self {
        let mut routes: Vec<Bytes> =
            response.headers(HeaderName::RecordRoute).map(Bytes::copy_from_slice).collect();
        routes.reverse();
        let target = match response.contact() {
            Some(contact) => Bytes::copy_from_slice(contact.uri().as_bytes()),
            None => Bytes::copy_from_slice(sent.uri().as_bytes()),
        };
        Self {
            id: DialogId {
                call_id: Bytes::copy_from_slice(sent.call_id()),
                local_tag: Bytes::copy_from_slice(sent.from().tag().unwrap_or_default()),
                remote_tag: Bytes::copy_from_slice(response.to().tag().unwrap_or_default()),
            },
            local: Bytes::copy_from_slice(sent.from().as_bytes()),
            remote: Bytes::copy_from_slice(response.to().as_bytes()),
            local_cseq: sent.cseq().number,
            remote_cseq: None,
            routes,
            target,
        }
    }

    /// What stands in for the dialog before the callee has made one: nothing can be sent within it.
    pub(crate) fn unmade(sent: &Request) -> Self {
        Self {
            id: DialogId {
                call_id: Bytes::copy_from_slice(sent.call_id()),
                local_tag: Bytes::copy_from_slice(sent.from().tag().unwrap_or_default()),
                remote_tag: Bytes::new(),
            },
            local: Bytes::copy_from_slice(sent.from().as_bytes()),
            remote: Bytes::copy_from_slice(sent.to().as_bytes()),
            local_cseq: sent.cseq().number,
            remote_cseq: None,
            routes: Vec::new(),
            target: Bytes::copy_from_slice(sent.uri().as_bytes()),
        }
    }

    /// An early dialog confirmed by its 2xx. RFC 3261 13.2.2.4: "the dialog MUST be transitioned to the
    /// "confirmed" state, and the route set for the dialog MUST be recomputed based on the 2xx response".
    /// The sequence numbers stay.
    pub(crate) fn confirmed_by(self, sent: &Request, response: &Response) -> Self {
        let (local_cseq, remote_cseq) = (self.local_cseq, self.remote_cseq);
        Self { local_cseq, remote_cseq, ..Self::at_caller(sent, response) }
    }

    /// Takes a new remote target from a target refresh request or its 2xx (12.2.1.2, 12.2.2). The route
    /// set stays: "Requests within a dialog MAY contain Record-Route and Contact header fields. However,
    /// these requests do not cause the dialog's route set to be modified" (12.2).
    pub(crate) fn refresh_target(&mut self, contact: Option<&[u8]>) {
        if let Some(contact) = contact {
            self.target = Bytes::copy_from_slice(contact);
        }
    }

    /// The number of the next request of ours but ACK and CANCEL. 12.2.1.1: "requests within a dialog
    /// MUST contain strictly monotonically increasing and contiguous CSeq sequence numbers
    /// (increasing-by-one) in each direction".
    pub(crate) fn next_cseq(&mut self) -> u32 {
        self.local_cseq += 1;
        self.local_cseq
    }

    /// Whether the peer's request is in order, and remembers its number if so. 12.2.2: "If the remote
    /// sequence number was not empty, but the sequence number of the request is lower than the remote
    /// sequence number, the request is out of order and MUST be rejected with a 500 (Server Internal
    /// Error) response." A number used twice by another transaction is no better.
    pub(crate) fn take_remote_cseq(&mut self, cseq: u32) -> Result<(), OutOfOrder> {
        if self.remote_cseq.is_some_and(|last| cseq <= last) {
            return Err(OutOfOrder);
        }
        self.remote_cseq = Some(cseq);
        Ok(())
    }

    /// The one constructor of requests within a dialog: Request-Line, Via, Max-Forwards, Route, From, To,
    /// Call-ID and CSeq as RFC 3261 12.2.1.1 has them.
    ///
    /// "If the route set is not empty, and the first URI in the route set contains the lr parameter [...],
    /// the UAC MUST place the remote target URI into the Request-URI and MUST include a Route header field
    /// containing the route set values in order". Without lr, "the UAC MUST place the first URI from the
    /// route set into the Request-URI, stripping any parameters that are not allowed in a Request-URI. The
    /// UAC MUST add a Route header field containing the remainder of the route set values in order [...].
    /// The UAC MUST then place the remote target URI into the Route header field as the last value."
    pub(crate) fn request(&self, method: Method<'_>, cseq: u32, via: &[u8]) -> RequestBuilder {
        let strict = self.routes.first().and_then(|first| strict_router(first));
        let (uri, routes): (&[u8], &[Bytes]) = match &strict {
            None => (&self.target, &self.routes),
            Some(uri) => (uri, &self.routes[1..]),
        };
        let mut builder = RequestBuilder::new(method, uri)
            .header(HeaderName::Via, via)
            .header(HeaderName::MaxForwards, "70");
        for route in routes {
            builder = builder.header(HeaderName::Route, route);
        }
        if strict.is_some() {
            builder = builder.header(HeaderName::Route, [b"<", &self.target[..], b">"].concat());
        }
        builder
            .header(HeaderName::From, &self.local)
            .header(HeaderName::To, &self.remote)
            .header(HeaderName::CallId, &self.id.call_id)
            .header(HeaderName::CSeq, [cseq.to_string().as_bytes(), b" ", method.as_bytes()].concat())
    }

    /// The URI that says where requests go: the first route, or the remote target (8.1.2, 12.2.1.1).
    pub(crate) fn next_hop(&self) -> Option<Uri<'_>> {
        match self.routes.first() {
            Some(route) => NameAddr::parse(route).map(|route| route.uri()),
            None => Uri::parse(&self.target),
        }
    }

    pub(crate) fn id(&self) -> &DialogId {
        &self.id
    }

    /// The Request-URI of our requests: the peer's own URI.
    pub(crate) fn target(&self) -> &Bytes {
        &self.target
    }

    /// Our tag.
    pub(crate) fn local_tag(&self) -> &Bytes {
        &self.id.local_tag
    }

    /// The peer's tag.
    pub(crate) fn remote_tag(&self) -> &Bytes {
        &self.id.remote_tag
    }
}

/// A request's number is not above the last one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfOrder;

/// The Request-URI a strict router wants, if the route names one: its URI without what 19.1.1 forbids in
/// a Request-URI (the method parameter and headers). `None` for a loose router, and for a route that does
/// not parse, which is then carried as it is.
fn strict_router(route: &[u8]) -> Option<Vec<u8>> {
    let uri = NameAddr::parse(route)?.uri();
    if uri.param("lr").is_some() {
        return None;
    }
    let whole = uri.as_bytes();
    let end = uri.headers().map_or(whole.len(), |_| memchr::memchr(b'?', whole).unwrap_or(whole.len()));
    let head = &whole[..end];
    let mut stripped = Vec::with_capacity(head.len());
    for (index, part) in head.split(|&byte| byte == b';').enumerate() {
        let is_method = part.len() >= 7 && part[..7].eq_ignore_ascii_case(b"method=");
        if index > 0 && is_method {
            continue;
        }
        if index > 0 {
            stripped.push(b';');
        }
        stripped.extend_from_slice(part);
    }
    Some(stripped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn invite(extra: &str) -> Request {
        let text = format!(
            "INVITE sip:b@192.0.2.9 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\n{extra}\
             From: \"A\" <sip:a@example.com>;tag=from\r\nTo: <sip:b@example.com>\r\nCall-ID: call\r\n\
             CSeq: 7 INVITE\r\nContact: <sip:a@192.0.2.1:5070>\r\nContent-Length: 0\r\n\r\n"
        );
        match Message::parse_datagram(Bytes::from(text)).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request was written"),
        }
    }

    fn bye(dialog: &Dialog) -> Request {
        let bytes = dialog.request(Method::Bye, 1, b"SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK2").finish();
        match Message::parse_datagram(bytes).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request was written"),
        }
    }

    fn routes(request: &Request) -> Vec<String> {
        request.headers(HeaderName::Route).map(|route| String::from_utf8_lossy(route).into_owned()).collect()
    }

    #[test]
    fn a_request_within_a_dialog_swaps_the_ends_and_goes_to_the_contact() {
        let dialog = Dialog::at_callee(&invite(""), Bytes::from_static(b"ours"), 0);
        let bye = bye(&dialog);
        assert_eq!(bye.uri().as_bytes(), b"sip:a@192.0.2.1:5070");
        assert_eq!(bye.from().tag(), Some(&b"ours"[..]));
        assert_eq!(bye.to().as_bytes(), b"\"A\" <sip:a@example.com>;tag=from");
        assert_eq!(bye.call_id(), b"call");
        assert!(routes(&bye).is_empty());
    }

    /// RFC 3261 12.1.1: at the callee the route set is the Record-Route in order.
    #[test]
    fn loose_routes_stay_in_order_and_the_request_uri_is_the_target() {
        let request = invite("Record-Route: <sip:p2.example.com;lr>, <sip:p1.example.com;lr>\r\n");
        let bye = bye(&Dialog::at_callee(&request, Bytes::from_static(b"ours"), 0));
        assert_eq!(routes(&bye), ["<sip:p2.example.com;lr>", "<sip:p1.example.com;lr>"]);
        assert_eq!(bye.uri().as_bytes(), b"sip:a@192.0.2.1:5070");
    }

    /// RFC 3261 12.2.1.1's own example of a strict router.
    #[test]
    fn a_strict_router_gets_the_request_uri_and_the_target_goes_last() {
        let request = invite(
            "Record-Route: <sip:proxy1;method=INVITE>\r\nRecord-Route: <sip:proxy2>\r\n\
             Record-Route: <sip:proxy3;lr>\r\n",
        );
        let bye = bye(&Dialog::at_callee(&request, Bytes::from_static(b"ours"), 0));
        assert_eq!(bye.uri().as_bytes(), b"sip:proxy1");
        assert_eq!(routes(&bye), ["<sip:proxy2>", "<sip:proxy3;lr>", "<sip:a@192.0.2.1:5070>"]);
    }

    /// RFC 3261 12.1.2: at the caller the Record-Route is reversed.
    #[test]
    fn at_the_caller_the_route_set_is_reversed() {
        let response = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 192.0.2.9;branch=z9hG4bK1\r\n\
            Record-Route: <sip:p2;lr>, <sip:p1;lr>\r\nFrom: <sip:a@example.com>;tag=from\r\n\
            To: <sip:b@example.com>;tag=to\r\nCall-ID: call\r\nCSeq: 7 INVITE\r\n\
            Contact: <sip:b@192.0.2.7>\r\nContent-Length: 0\r\n\r\n";
        let Message::Response(response) = Message::parse_datagram(Bytes::from(response)).unwrap() else {
            panic!("a response was written")
        };
        let dialog = Dialog::at_caller(&invite(""), &response);
        assert_eq!(routes(&bye(&dialog)), ["<sip:p1;lr>", "<sip:p2;lr>"]);
        assert_eq!(dialog.next_hop().unwrap().host(), b"p1");
    }

    #[test]
    fn numbers_that_do_not_rise_are_out_of_order() {
        let mut dialog = Dialog::at_callee(&invite(""), Bytes::from_static(b"ours"), 0);
        assert_eq!(dialog.take_remote_cseq(7), Err(OutOfOrder));
        assert_eq!(dialog.take_remote_cseq(6), Err(OutOfOrder));
        assert_eq!(dialog.take_remote_cseq(9), Ok(()));
        assert_eq!(dialog.take_remote_cseq(8), Err(OutOfOrder));
    }
}
