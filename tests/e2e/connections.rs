//! TCP peers that are slow, huge or contradictory: closed and counted, while others are served.

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{DID, agent::Agent, phone::Phone, product_with};

/// Sources of slow connections, and how many each opens: more than its share.
const SOURCES: u8 = 4;
const EACH: usize = 260;
/// The share of one source, as it is by default.
const SHARE: usize = 256;

fn connect_from(source: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((source, 0)).into()).expect("loopback is a whole network");
    socket.connect(&to.into()).expect("the kernel accepts");
    socket.into()
}

#[test]
fn a_thousand_slow_connections_are_let_go_and_keep_nobody_out() {
    let (product, _) = product_with(&Agent::echo(), "[limits]\nconnection_idle_seconds = 8");
    let before = product.resident_bytes();
    let mut slow = Vec::new();
    for source in 0..SOURCES {
        for _ in 0..EACH {
            let mut stream = connect_from(Ipv4Addr::new(127, 0, 1, source), product.sip);
            // Closed at once if it is above the share.
            let _ = stream.write_all(b"INVITE sip:a@b SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.");
            slow.push(stream);
        }
    }
    // Others are served meanwhile, over both transports.
    for mut phone in [Phone::over_tcp(product.sip, DID), Phone::over_udp(product.sip, DID)] {
        phone.call();
        phone.hang_up();
    }
    let over = usize::from(SOURCES) * (EACH - SHARE);
    let counted = |cause: &str| product.metric("tandem_sip_connections_closed_total", cause);
    let deadline = Instant::now() + Duration::from_secs(60);
    while product.metric("tandem_sip_connections ", "") > 1.0 {
        assert!(Instant::now() < deadline, "{} still open", product.metric("tandem_sip_connections ", ""));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(counted("too_many_of_address"), over as f64);
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
        let ended = stream.read(&mut [0]);
        let timed_out = ended.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "each was closed");
    }
    let grown = product.resident_bytes().saturating_sub(before);
    assert!(grown < 64 << 20, "memory has grown by {grown} bytes");
}

/// Sends, and expects the connection to be closed soon; what came before that.
fn closed_after(to: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(to).expect("a connection");
    stream.set_read_timeout(Some(Duration::from_secs(5))).expect("an option");
    stream.set_write_timeout(Some(Duration::from_secs(5))).expect("an option");
    // It may be closed before it has taken everything.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let ended = stream.read_to_end(&mut answer);
    let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
    assert!(!timed_out, "it is closed at once");
    String::from_utf8_lossy(&answer).into_owned()
}

fn message(more: &str) -> Vec<u8> {
    format!(
        "OPTIONS sip:127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK-g\r\nMax-Forwards: 70\r\n\
         From: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:b@127.0.0.1>\r\nCall-ID: giant\r\nCSeq: 1 OPTIONS\r\n{more}"
    )
    .into_bytes()
}

#[test]
fn giant_and_contradictory_messages_are_closed_at_once_and_cost_nothing() {
    let (product, _) = product_with(&Agent::echo(), "");
    let before = product.resident_bytes();
    let giant = message(&format!("X-Giant: {}", "x".repeat(1 << 20)));
    let many = message(&"X: y\r\n".repeat(20_000));
    let endless = vec![b'I'; 8 << 20];
    for round in 0..3 {
        for bytes in [&giant, &many, &endless] {
            closed_after(product.sip, bytes);
        }
        for length in ["1000000000000", "-1", "5\r\nContent-Length: 6", "99999999999999999999999", "0x10"] {
            let answer =
                closed_after(product.sip, &message(&format!("Content-Length: {length}\r\n\r\nhello")));
            assert!(answer.is_empty() || answer.starts_with("SIP/2.0 4") || answer.starts_with("SIP/2.0 5"));
        }
        assert_eq!(product.get("/health").0, 200, "round {round}");
    }
    let grown = product.resident_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "memory has grown by {grown} bytes");
    let mut phone = Phone::over_tcp(product.sip, DID);
    phone.call();
    phone.hang_up();
}

/// The API beside clients that dribble their headers.
#[test]
fn slow_clients_of_the_api_keep_nobody_out() {
    let (product, _) = product_with(&Agent::echo(), "[limits]\napi_connections = 64\napi_header_seconds = 2");
    let mut slow: Vec<TcpStream> =
        (0..64).map(|_| connect_from(Ipv4Addr::new(127, 0, 1, 1), product.api)).collect();
    for stream in &mut slow {
        let _ = stream.write_all(b"GET /health HTTP/1.1\r\nX-Slow: ");
    }
    assert_eq!(product.get("/health").0, 200);
    for mut stream in slow {
        stream.set_read_timeout(Some(Duration::from_secs(20))).expect("an option");
        let ended = stream.read_to_end(&mut Vec::new());
        let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
        assert!(!timed_out, "each is closed");
    }
    let reasons = |reason: &str| product.metric("tandem_api_connections_refused_total", reason);
    assert_eq!((reasons("\"address\""), reasons("\"slow_header\"")), (48.0, 16.0));
}
