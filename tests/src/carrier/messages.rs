//! Building and reading the carriers' messages with rsip.
//!
//! What rsip cannot carry unchanged (a Request-URI that it would reprint otherwise) is printed here by hand.

use bytes::Bytes;
use rsip::headers::{ToTypedHeader, UntypedHeader};
use rsip::{Header, SipMessage};

use crate::message::{parameter, uri_of};

/// A header to be sent: its name and its value.
pub struct Line(pub &'static str, pub String);

/// Prints a request.
pub fn request(method: &str, uri: &str, lines: Vec<Line>, body: &[u8]) -> Bytes {
    let parsed = (method.parse::<rsip::Method>(), rsip::Uri::try_from(uri));
    match parsed {
        (Ok(known), Ok(parsed_uri)) if parsed_uri.to_string() == uri && known.to_string() == method => {
            let message = rsip::Request {
                method: known,
                uri: parsed_uri,
                version: rsip::Version::V2,
                headers: headers(lines, body.len()),
                body: body.to_vec(),
            };
            Bytes::from(message.to_string())
        }
        _ => {
            let mut text = format!("{method} {uri} SIP/2.0\r\n");
            for Line(name, value) in lines {
                text.push_str(&format!("{name}: {value}\r\n"));
            }
            text.push_str(&format!("Content-Length: {}\r\n\r\n", body.len()));
            Bytes::from([text.as_bytes(), body].concat())
        }
    }
}

/// Prints a response to `received`, with the headers that every response copies (RFC 3261 8.2.6.2).
pub fn response(received: &Received, status: u16, to_tag: &str, extra: Vec<Line>, body: &[u8]) -> Bytes {
    let mut lines: Vec<Line> = received.vias.iter().map(|via| Line("Via", via.clone())).collect();
    lines.push(Line("From", received.from.clone()));
    let to = if received.to_tag.is_empty() && !to_tag.is_empty() {
        format!("{};tag={to_tag}", received.to)
    } else {
        received.to.clone()
    };
    lines.push(Line("To", to));
    lines.push(Line("Call-ID", received.call_id.clone()));
    lines.push(Line("CSeq", format!("{} {}", received.cseq, received.method)));
    lines.extend(extra);
    let message = rsip::Response {
        status_code: rsip::StatusCode::from(status),
        version: rsip::Version::V2,
        headers: headers(lines, body.len()),
        body: body.to_vec(),
    };
    Bytes::from(message.to_string())
}

fn headers(lines: Vec<Line>, length: usize) -> rsip::Headers {
    let mut all = rsip::Headers::default();
    for Line(name, value) in lines {
        all.push(match name {
            "Via" => Header::Via(rsip::headers::Via::new(value)),
            "From" => Header::From(rsip::headers::From::new(value)),
            "To" => Header::To(rsip::headers::To::new(value)),
            "Call-ID" => Header::CallId(rsip::headers::CallId::new(value)),
            "CSeq" => Header::CSeq(rsip::headers::CSeq::new(value)),
            "Contact" => Header::Contact(rsip::headers::Contact::new(value)),
            "Max-Forwards" => Header::MaxForwards(rsip::headers::MaxForwards::new(value)),
            "Record-Route" => Header::RecordRoute(rsip::headers::RecordRoute::new(value)),
            "Content-Type" => Header::ContentType(rsip::headers::ContentType::new(value)),
            "Supported" => Header::Supported(rsip::headers::Supported::new(value)),
            "Require" => Header::Require(rsip::headers::Require::new(value)),
            "Authorization" => Header::Authorization(rsip::headers::Authorization::new(value)),
            other => Header::Other(other.to_owned(), value),
        });
    }
    all.push(Header::ContentLength(rsip::headers::ContentLength::new(length.to_string())));
    all
}

/// What a carrier understands of a message from Tandem.
#[derive(Debug, Clone, Default)]
pub struct Received {
    /// 0 for a request.
    pub status: u16,
    /// Method of the request, or of CSeq.
    pub method: String,
    /// Number of CSeq.
    pub cseq: u32,
    /// Call-ID.
    pub call_id: String,
    /// Via values as received, topmost first.
    pub vias: Vec<String>,
    /// Branch of the topmost Via.
    pub branch: String,
    /// From as received.
    pub from: String,
    /// Tag of From.
    pub from_tag: String,
    /// To as received.
    pub to: String,
    /// Tag of To; empty if none.
    pub to_tag: String,
    /// URI of Contact.
    pub contact: Option<String>,
    /// RSeq of a reliable provisional response.
    pub rseq: Option<u32>,
    /// WWW-Authenticate and Proxy-Authenticate values, topmost first.
    pub challenges: Vec<String>,
    /// Authorization or Proxy-Authorization as received.
    pub authorization: Option<String>,
    /// Session-Expires as received.
    pub session_expires: Option<String>,
    /// Body.
    pub body: Vec<u8>,
}

/// Reads a message, or says why rsip cannot.
pub fn read(bytes: &[u8]) -> Result<Received, String> {
    let message = SipMessage::try_from(bytes).map_err(|error| error.to_string())?;
    let mut received = Received { body: message.body().clone(), ..Received::default() };
    let all = match &message {
        SipMessage::Request(request) => {
            received.method = request.method.to_string();
            &request.headers
        }
        SipMessage::Response(response) => {
            received.status = response.status_code.code();
            &response.headers
        }
    };
    for header in all.iter() {
        match header {
            Header::Via(via) => received.vias.push(via.value().to_owned()),
            Header::From(from) => received.from = from.value().to_owned(),
            Header::To(to) => received.to = to.value().to_owned(),
            Header::CallId(call_id) => received.call_id = call_id.value().to_owned(),
            Header::Contact(contact) => received.contact = Some(uri_of(contact.value()).to_owned()),
            Header::CSeq(cseq) => {
                let typed = cseq.typed().map_err(|error| error.to_string())?;
                received.cseq = typed.seq;
                received.method = typed.method.to_string();
            }
            Header::WwwAuthenticate(value) => received.challenges.push(value.value().to_owned()),
            Header::ProxyAuthenticate(value) => received.challenges.push(value.value().to_owned()),
            Header::Authorization(value) => received.authorization = Some(value.value().to_owned()),
            Header::ProxyAuthorization(value) => received.authorization = Some(value.value().to_owned()),
            Header::Other(name, value) if name.eq_ignore_ascii_case("RSeq") => {
                received.rseq = value.trim().parse().ok();
            }
            Header::Other(name, value) if name.eq_ignore_ascii_case("Session-Expires") => {
                received.session_expires = Some(value.clone());
            }
            _ => {}
        }
    }
    received.branch = received.vias.first().and_then(|via| parameter(via, "branch")).unwrap_or("").to_owned();
    received.from_tag = parameter(&received.from, "tag").unwrap_or("").to_owned();
    received.to_tag = parameter(&received.to, "tag").unwrap_or("").to_owned();
    if received.call_id.is_empty() || received.branch.is_empty() || received.from_tag.is_empty() {
        return Err("without Call-ID, branch or From tag".into());
    }
    Ok(received)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_back() {
        let lines = vec![
            Line("Via", "SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bK77;rport".into()),
            Line("From", "\"A\" <sip:a@198.51.100.1>;tag=ft".into()),
            Line("To", "<sip:+1800@192.0.2.1>".into()),
            Line("Call-ID", "call-1".into()),
            Line("CSeq", "4 INVITE".into()),
            Line("Contact", "<sip:a@198.51.100.1:5060>".into()),
            Line("X-Other", "kept".into()),
        ];
        let bytes = request("INVITE", "sip:+1800@192.0.2.1:5060", lines, b"v=0\r\n");
        let text = crate::message::SipText::parse(&bytes).unwrap();
        assert_eq!(text.uri(), "sip:+1800@192.0.2.1:5060");
        assert_eq!(text.header("x-other"), Some("kept"));
        let received = read(&bytes).unwrap();
        assert_eq!(
            (received.method.as_str(), received.cseq, received.branch.as_str()),
            ("INVITE", 4, "z9hG4bK77")
        );
        let answer = read(&response(&received, 200, "tt", vec![], b"")).unwrap();
        assert_eq!((answer.status, answer.to_tag.as_str(), answer.method.as_str()), (200, "tt", "INVITE"));
    }
}
