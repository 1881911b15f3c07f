//! Parsing and printing SIP messages.

use std::hint::black_box;

use bytes::Bytes;
use tandem_sip::message::{HeaderName, Message, ResponseBuilder};

use super::Step;

/// An INVITE as a carrier's SBC sends it: 20 headers and an offer, about 1.1 KB.
const HEAD: &str = concat!(
    "INVITE sip:+918047111111@192.0.2.1:5060;transport=udp SIP/2.0\r\n",
    "Record-Route: <sip:198.51.100.7;lr;ftag=as2f1c;did=5d1.9c2>\r\n",
    "Via: SIP/2.0/UDP 198.51.100.7:5060;branch=z9hG4bK1d32.5a1f6f27.0\r\n",
    "Via: SIP/2.0/UDP 198.51.100.20:5080;received=198.51.100.20;rport=5080;branch=z9hG4bKpB7cUZ2\r\n",
    "Max-Forwards: 67\r\n",
    "From: \"+919800000001\" <sip:+919800000001@198.51.100.20;user=phone>;tag=as2f1c9d\r\n",
    "To: <sip:+918047111111@192.0.2.1;user=phone>\r\n",
    "Call-ID: 1f2b4c6d8e0a42d2a7e1c0b9@198.51.100.20\r\n",
    "CSeq: 102 INVITE\r\n",
    "Contact: <sip:+919800000001@198.51.100.20:5080>\r\n",
    "Allow: INVITE, ACK, CANCEL, OPTIONS, BYE, REFER, NOTIFY, INFO, UPDATE, PRACK\r\n",
    "Supported: 100rel, timer, replaces\r\n",
    "Session-Expires: 1800;refresher=uac\r\n",
    "Min-SE: 90\r\n",
    "P-Asserted-Identity: <sip:+919800000001@198.51.100.20;user=phone>\r\n",
    "Privacy: none\r\n",
    "User-Agent: SBC 7.2\r\n",
    "Date: Sat, 21 Nov 2026 00:00:00 GMT\r\n",
    "X-Carrier-Call: 99120-4481-22\r\n",
    "Content-Type: application/sdp\r\n",
);

const OFFER: &str = concat!(
    "v=0\r\no=sbc 53655765 2353687637 IN IP4 198.51.100.30\r\ns=call\r\nc=IN IP4 198.51.100.30\r\nt=0 0\r\n",
    "m=audio 31000 RTP/AVP 8 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\n",
    "a=sendrecv\r\n",
);

fn invite() -> Bytes {
    Bytes::from(format!("{HEAD}Content-Length: {}\r\n\r\n{OFFER}", OFFER.len()))
}

pub(super) fn parse() -> Step {
    let datagram = invite();
    Box::new(move || assert!(Message::parse_datagram(black_box(datagram.clone())).is_ok()))
}

pub(super) fn parse_and_read() -> Step {
    let datagram = invite();
    Box::new(move || {
        let Ok(Message::Request(request)) = Message::parse_datagram(black_box(datagram.clone())) else {
            panic!("the INVITE parses");
        };
        let lengths = [
            request.via().branch().map(<[u8]>::len),
            request.uri().user().map(<[u8]>::len),
            request.from().tag().map(<[u8]>::len),
            request.to().uri().user().map(<[u8]>::len),
            Some(request.call_id().len()),
        ];
        black_box((lengths, request.cseq().number, request.contact().is_some()));
    })
}

pub(super) fn print() -> Step {
    let Ok(Message::Request(request)) = Message::parse_datagram(invite()) else {
        panic!("the INVITE parses");
    };
    Box::new(move || {
        let response = ResponseBuilder::new(black_box(&request), 200, Some(b"t4gg3d"))
            .header(HeaderName::Contact, b"<sip:tandem@192.0.2.1:5060>")
            .finish_with_body(b"application/sdp", [b'x'; 200]);
        drop(black_box(response));
    })
}
