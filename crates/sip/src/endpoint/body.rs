//! The session description within a message's body, alone or as one part of several.
//!
//! Gateways that carry ISUP wrap it in multipart/mixed (RFC 5621, RFC 3204). Only the top level is looked
//! into; the other parts are left alone.

use bytes::Bytes;

use crate::message::{Fields, HeaderName};

/// Most parts looked at.
const MAX_PARTS: usize = 16;

/// The session description, if there is one.
pub(super) fn session_description(message: &Fields) -> Option<Bytes> {
    let body = message.body();
    if body.is_empty() {
        return None;
    }
    match message.content_type() {
        // RFC 3261 20.15: Content-Type "MUST be present if the body is not empty". Peers of RFC 2543 left
        // it out, and a session description is all they sent.
        None => body.starts_with(b"v=").then_some(body),
        Some(media_type) if is_sdp(media_type) => Some(body),
        Some(media_type) if media_type.len() > 10 && media_type[..10].eq_ignore_ascii_case(b"multipart/") => {
            let boundary = boundary(message.header(HeaderName::ContentType)?)?;
            part(&body, &boundary)
        }
        Some(_) => None,
    }
}

fn is_sdp(media_type: &[u8]) -> bool {
    media_type.eq_ignore_ascii_case(b"application/sdp")
}

fn boundary(content_type: &[u8]) -> Option<Vec<u8>> {
    content_type.split(|&byte| byte == b';').skip(1).find_map(|param| {
        let equals = memchr::memchr(b'=', param)?;
        let (name, value) = (param[..equals].trim_ascii(), param[equals + 1..].trim_ascii());
        let value = value.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\"")).unwrap_or(value);
        (name.eq_ignore_ascii_case(b"boundary") && !value.is_empty()).then(|| [b"--", value].concat())
    })
}

/// The first part that is a session description.
fn part(body: &Bytes, boundary: &[u8]) -> Option<Bytes> {
    let starts: Vec<usize> = memchr::memmem::find_iter(body, boundary).take(MAX_PARTS + 1).collect();
    starts.windows(2).find_map(|pair| {
        let whole = body.slice(pair[0] + boundary.len()..pair[1]);
        let (head_end, skip) = match memchr::memmem::find(&whole, b"\r\n\r\n") {
            Some(at) => (at, 4),
            None => (memchr::memmem::find(&whole, b"\n\n")?, 2),
        };
        let is_session_description = whole[..head_end].split(|&byte| byte == b'\n').any(|line| {
            let Some(colon) = memchr::memchr(b':', line) else { return false };
            let value = line[colon + 1..].split(|&byte| byte == b';').next().unwrap_or_default();
            let name = line[..colon].trim_ascii();
            (name.eq_ignore_ascii_case(b"content-type") || name.eq_ignore_ascii_case(b"c"))
                && is_sdp(value.trim_ascii())
        });
        let content = whole.slice(head_end + skip..);
        // RFC 2046 5.1.1: the line end before a boundary belongs to the boundary.
        let trimmed = content.strip_suffix(b"\r\n").or(content.strip_suffix(b"\n")).unwrap_or(&content);
        is_session_description.then(|| content.slice_ref(trimmed))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Message;

    fn found(content_type: &str, body: &str) -> Option<Bytes> {
        let text = format!(
            "INVITE sip:b@e SIP/2.0\r\nVia: SIP/2.0/UDP h;branch=z9hG4bK1\r\nFrom: <sip:a@e>;tag=1\r\n\
             To: <sip:b@e>\r\nCall-ID: c\r\nCSeq: 1 INVITE\r\n{content_type}Content-Length: {}\r\n\r\n{body}",
            body.len()
        );
        session_description(Message::parse_datagram(Bytes::from(text)).unwrap().fields())
    }

    #[test]
    fn a_body_that_is_a_session_description_is_found_whole() {
        assert_eq!(found("Content-Type: Application/SDP;x=y\r\n", "v=0\r\n").unwrap(), "v=0\r\n");
        assert_eq!(found("", "v=0\r\n").unwrap(), "v=0\r\n");
        assert_eq!(found("Content-Type: text/plain\r\n", "v=0\r\n"), None);
        assert_eq!(found("Content-Type: application/sdp\r\n", ""), None);
    }

    /// RFC 5621 with RFC 3204's ISUP beside the offer.
    #[test]
    fn the_part_of_a_multipart_body_is_found_without_its_boundary() {
        let body = "--b1\r\nContent-Type: application/isup;version=x\r\n\r\n\x01\x02\r\n--b1\r\n\
                    Content-Type: application/sdp\r\n\r\nv=0\r\ns=-\r\n\r\n--b1--\r\n";
        let content_type = "Content-Type: multipart/mixed; boundary=\"b1\"\r\n";
        assert_eq!(found(content_type, body).unwrap(), "v=0\r\ns=-\r\n");
        assert_eq!(found(content_type, "--b1\r\nContent-Type: a/b\r\n\r\nx\r\n--b1--"), None);
    }
}
