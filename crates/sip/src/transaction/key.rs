//! What makes a message part of a transaction: RFC 3261 17.1.3 and 17.2.3.
//!
//! Keys are typed, never strings glued together. The form for peers of RFC 2543, whose branch proves
//! nothing, stands apart and can never equal a key of RFC 3261.

use bytes::Bytes;

use crate::message::{Method, Request, Response};

/// Names a server transaction.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ServerKey {
    /// RFC 3261 17.2.3: "The request matches a transaction if: 1. the branch parameter in the request
    /// is equal to the one in the top Via header field of the request that created the transaction,
    /// and 2. the sent-by value in the top Via of the request is equal [...], and 3. the method of the
    /// request matches the one that created the transaction, except for ACK, where the method of the
    /// request that created the transaction is INVITE."
    Unique {
        /// The branch, cookie included.
        branch: Bytes,
        /// The host of sent-by in lower case.
        host: Bytes,
        /// The port of sent-by as written.
        port: Option<u16>,
        /// The method, INVITE for ACK.
        method: Bytes,
    },
    /// 17.2.3, for a branch without the cookie: "The INVITE request matches a transaction if the
    /// Request-URI, To tag, From tag, Call-ID, CSeq, and top Via header field match". The To tag is left
    /// out: an ACK carries the response's, and Call-ID, From tag and CSeq already name one request.
    Legacy {
        /// The Request-URI as written.
        uri: Bytes,
        /// The tag of From, empty where there is none.
        from_tag: Bytes,
        /// The Call-ID.
        call_id: Bytes,
        /// The number of CSeq.
        cseq: u32,
        /// The topmost Via as written.
        via: Bytes,
        /// The method, INVITE for ACK.
        method: Bytes,
    },
}

impl ServerKey {
    /// The transaction this request belongs to or makes.
    pub(crate) fn of(request: &Request) -> Self {
        let method = match request.method() {
            Method::Ack => Method::Invite,
            method => method,
        };
        Self::with_method(request, method)
    }

    /// The INVITE transaction a CANCEL asks to cancel. RFC 3261 9.2: "The TU determines the transaction to
    /// be cancelled by taking the CANCEL request, and then assuming that the request method is anything but
    /// CANCEL or ACK and applying the transaction matching procedures of Section 17.2.3."
    pub(crate) fn of_cancelled(request: &Request) -> Self {
        Self::with_method(request, Method::Invite)
    }

    fn with_method(request: &Request, method: Method<'_>) -> Self {
        let via = request.via();
        let method = Bytes::copy_from_slice(method.as_bytes());
        match via.branch().filter(|_| via.has_unique_branch()) {
            Some(branch) => Self::Unique {
                branch: request.share(branch),
                host: Bytes::from(via.host().to_ascii_lowercase()),
                port: via.port(),
                method,
            },
            None => Self::Legacy {
                uri: request.share(request.uri().as_bytes()),
                from_tag: request.from().tag().map(|tag| request.share(tag)).unwrap_or_default(),
                call_id: request.share(request.call_id()),
                cseq: request.cseq().number,
                via: request.share(via.as_bytes()),
                method,
            },
        }
    }
}

/// What two paths of one request share: RFC 3261 8.2.2.2, "the From tag, Call-ID, and CSeq".
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct MergeKey {
    call_id: Bytes,
    from_tag: Bytes,
    cseq: u32,
    method: Bytes,
}

impl MergeKey {
    /// The key of a request outside of any dialog; requests within one cannot be merged.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        request.to().tag().is_none().then(|| Self {
            call_id: request.share(request.call_id()),
            from_tag: request.from().tag().map(|tag| request.share(tag)).unwrap_or_default(),
            cseq: request.cseq().number,
            method: Bytes::copy_from_slice(request.cseq().method.as_bytes()),
        })
    }
}

/// Names a client transaction. RFC 3261 17.1.3: a response matches "1. If the response has the same value
/// of the branch parameter in the top Via header field as the branch parameter in the top Via header
/// field of the request that created the transaction. 2. If the method parameter in the CSeq header
/// field matches the method of the request that created the transaction."
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct ClientKey {
    branch: Bytes,
    method: Bytes,
}

impl ClientKey {
    /// The transaction a request of ours makes.
    pub(crate) fn of_request(request: &Request) -> Option<Self> {
        Some(Self {
            branch: request.share(request.via().branch()?),
            method: Bytes::copy_from_slice(request.method().as_bytes()),
        })
    }

    /// The transaction a response belongs to.
    pub(crate) fn of_response(response: &Response) -> Option<Self> {
        Some(Self {
            branch: response.share(response.via().branch()?),
            method: Bytes::copy_from_slice(response.cseq().method.as_bytes()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn request(method: &str, via: &str) -> Request {
        let text = format!(
            "{method} sip:b@example.com SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@example.com>;tag=1\r\n\
             To: <sip:b@example.com>\r\nCall-ID: c\r\nCSeq: 1 {method}\r\nMax-Forwards: 70\r\n\
             Content-Length: 0\r\n\r\n"
        );
        match Message::parse_datagram(Bytes::from(text)).unwrap() {
            Message::Request(request) => request,
            Message::Response(_) => panic!("a request was written"),
        }
    }

    const VIA: &str = "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKabc";

    #[test]
    fn an_ack_belongs_to_its_invite_and_a_cancel_to_a_transaction_of_its_own() {
        let invite = ServerKey::of(&request("INVITE", VIA));
        assert_eq!(ServerKey::of(&request("ACK", VIA)), invite);
        assert_ne!(ServerKey::of(&request("CANCEL", VIA)), invite);
        assert_eq!(ServerKey::of_cancelled(&request("CANCEL", VIA)), invite);
    }

    /// RFC 3261 17.2.3: "The sent-by value is used as part of the matching process because there could be
    /// accidental or malicious duplication of branch parameters from different clients."
    #[test]
    fn the_same_branch_from_another_sent_by_is_another_transaction() {
        let other = "SIP/2.0/UDP 192.0.2.2:5060;branch=z9hG4bKabc";
        let port = "SIP/2.0/UDP 192.0.2.1:5070;branch=z9hG4bKabc";
        assert_ne!(ServerKey::of(&request("INVITE", VIA)), ServerKey::of(&request("INVITE", other)));
        assert_ne!(ServerKey::of(&request("INVITE", VIA)), ServerKey::of(&request("INVITE", port)));
    }

    #[test]
    fn a_branch_without_the_cookie_is_matched_by_the_whole_request() {
        let old = "SIP/2.0/UDP 192.0.2.1;branch=1";
        let invite = ServerKey::of(&request("INVITE", old));
        assert!(matches!(invite, ServerKey::Legacy { .. }));
        assert_eq!(ServerKey::of(&request("ACK", old)), invite);
        assert_ne!(ServerKey::of(&request("INVITE", "SIP/2.0/UDP 192.0.2.1")), invite);
    }
}
