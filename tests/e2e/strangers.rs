//! Strangers that flood, guess and relay, while a caller who is known goes on calling.

use std::{
    net::{SocketAddr, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use tandem_tests::product::Product;

use crate::{
    DID,
    agent::Agent,
    phone::{Phone, header},
    product_with,
};

/// Datagrams a second of the flood.
const FLOOD: u32 = 3_000;
/// Calls of the known caller, ten a second.
const CALLS: u32 = 30;

/// INVITEs, a scanner's traffic, rubbish and bent messages from an address no trunk knows: every call of the known
/// caller succeeds within its time, memory stays flat, and the stranger gets fewer bytes back than it sent.
#[test]
fn a_flood_of_strangers_keeps_no_known_caller_from_calling() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let server = product.sip;
    // What the first call sets up for good is not the flood's doing.
    call_once(server);
    let before = product.resident_bytes();
    let is_over = Arc::new(AtomicBool::new(false));
    let stranger = UdpSocket::bind("127.0.0.2:0").expect("loopback is a whole network");
    let flood = {
        let (is_over, stranger) = (Arc::clone(&is_over), stranger.try_clone().expect("a handle"));
        std::thread::spawn(move || flood(&stranger, server, &is_over))
    };
    let began = Instant::now();
    let calls: Vec<_> = (0..CALLS)
        .map(|number| {
            let due = began + Duration::from_millis(100) * number;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            std::thread::spawn(move || call_once(server))
        })
        .collect();
    let mut delays: Vec<Duration> = calls.into_iter().map(|call| call.join().expect("it succeeds")).collect();
    is_over.store(true, Ordering::Relaxed);
    let sent = flood.join().expect("the flood ends");
    delays.sort_unstable();
    let longest = delays[delays.len() - 1];
    println!(
        "set-up delay beside the flood: half within {:?}, all within {longest:?}",
        delays[delays.len() / 2]
    );
    // A lost datagram costs half a second (T1, RFC 3261 section 17.1.1.2); few may be lost.
    assert!(delays[delays.len() / 2] < Duration::from_secs(1), "{delays:?}");
    let ended = product.ended_calls(&provisioned.agent_id, CALLS as usize + 1);
    assert!(ended.iter().all(|call| call["status"] == "completed"), "{ended:?}");
    let grown = product.resident_bytes().saturating_sub(before);
    println!("{sent} bytes of flood, {grown} bytes of memory more");
    assert!(grown < 48 << 20, "memory has grown by {grown} bytes");
    let answered: usize = answers(&stranger).iter().map(Vec::len).sum();
    assert!((answered as u64) < sent / 4, "{answered} bytes answered {sent}");
}

/// Calls and hangs up; how long it took until the answer.
fn call_once(server: SocketAddr) -> Duration {
    let began = Instant::now();
    let mut phone = Phone::over_udp(server, DID);
    phone.call();
    let delay = began.elapsed();
    phone.hang_up();
    delay
}

/// Sends at the rate until told to stop; the bytes sent.
fn flood(stranger: &UdpSocket, server: SocketAddr, is_over: &AtomicBool) -> u64 {
    let began = Instant::now();
    let (mut number, mut sent) = (0, 0);
    while !is_over.load(Ordering::Relaxed) {
        let due = (began.elapsed().as_secs_f64() * f64::from(FLOOD)) as u32;
        while number < due {
            number += 1;
            let text = match number % 4 {
                0 => format!("\u{1}\u{2}rubbish {number} \u{7f}").repeat(1 + number as usize % 60),
                1 => request("INVITE", &format!("+4930{number}"), number, ""),
                2 => request("REGISTER", "100", number, "User-Agent: friendly-scanner\r\n"),
                _ => bent(&request("INVITE", DID, number, ""), number),
            };
            sent += stranger.send_to(text.as_bytes(), server).map_or(0, |length| length as u64);
        }
        // The rate is made by the clock; this only lets others run.
        std::thread::sleep(Duration::from_millis(5));
    }
    sent
}

/// A message with one byte changed, cut, or doubled.
fn bent(text: &str, number: u32) -> String {
    let at = (number as usize).wrapping_mul(2_654_435_761) % text.len();
    match number % 3 {
        0 => text[..at].to_owned(),
        1 => format!("{}\u{7f}{}", &text[..at], &text[at + 1..]),
        _ => format!("{}{}", &text[..at], text),
    }
}

fn request(method: &str, user: &str, number: u32, more: &str) -> String {
    format!(
        "{method} sip:{user}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bK-s{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:100@127.0.0.2>;tag=s{number}\r\nTo: <sip:{user}@127.0.0.1>\r\n\
         Call-ID: stranger-{number}\r\nCSeq: 1 {method}\r\nContact: <sip:100@127.0.0.2>\r\n{more}\
         Content-Length: 0\r\n\r\n"
    )
}

/// What has come to a socket, until nothing more comes.
fn answers(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(Duration::from_millis(300))).expect("an option");
    let mut buffer = [0; 4_096];
    let mut answers = Vec::new();
    while let Ok((length, _)) = socket.recv_from(&mut buffer) {
        answers.push(buffer[..length].to_vec());
    }
    answers
}

/// Whoever guesses numbers, methods and registrations hears the same of each, once, and nothing of what answers.
#[test]
fn a_guesser_learns_nothing() {
    let (product, _) = product_with(&Agent::echo(), "[limits]\nstranger_requests_per_second = 100");
    let stranger = UdpSocket::bind("127.0.0.2:0").expect("loopback is a whole network");
    let mut heard = Vec::new();
    for (number, (method, user)) in
        [("INVITE", DID), ("INVITE", "+4930"), ("INVITE", "100"), ("REGISTER", "100"), ("REFER", DID)]
            .into_iter()
            .enumerate()
    {
        let text = request(method, user, number as u32, "Refer-To: <sip:+19005550100@127.0.0.9>\r\n");
        stranger.send_to(text.as_bytes(), product.sip).expect("sent");
        // A final response of ours to an INVITE is not repeated though nobody acknowledges it (T1 is 500 ms).
        let answers = answers(&stranger);
        assert_eq!(answers.len(), 1, "{method} {user}");
        assert!(answers[0].len() <= text.len(), "{} bytes for {}", answers[0].len(), text.len());
        let answer = String::from_utf8_lossy(&answers[0]).into_owned();
        assert!(!answer.to_lowercase().contains("tandem"), "{answer}");
        assert!(header(&answer, "Server").is_empty() && header(&answer, "User-Agent").is_empty(), "{answer}");
        let names: Vec<_> = answer.lines().filter_map(|line| line.split(':').next()).skip(1).collect();
        heard.push((answer.lines().next().unwrap_or_default().to_owned(), names.join(" ")));
    }
    heard.dedup();
    assert_eq!(heard.len(), 1, "{heard:?}");
    std::thread::sleep(Duration::from_secs(1));
    assert!(answers(&stranger).is_empty(), "no final response is repeated to a stranger");
}

/// A Request-URI elsewhere, a Route, a telephone number, a REFER out of any dialog: nobody is ever called for it,
/// neither for a stranger nor for a known carrier.
#[test]
fn nobody_relays_through_the_server() {
    let (product, _) = product_with(&Agent::echo(), "");
    let victim = UdpSocket::bind("127.0.0.3:0").expect("loopback is a whole network");
    let place = victim.local_addr().expect("bound");
    let mut number = 1_000;
    for source in ["127.0.0.1:0", "127.0.0.2:0"] {
        let socket = UdpSocket::bind(source).expect("a socket");
        for (method, uri, more) in [
            ("INVITE", format!("sip:+19005550100@{place}"), String::new()),
            ("INVITE", "tel:+19005550100".to_owned(), String::new()),
            ("INVITE", "sip:+19005550100@127.0.0.1".to_owned(), format!("Route: <sip:{place};lr>\r\n")),
            ("REFER", format!("sip:{DID}@127.0.0.1"), format!("Refer-To: <sip:+1900@{place}>\r\n")),
            ("OPTIONS", format!("sip:{place}"), format!("Route: <sip:{place};lr>\r\n")),
        ] {
            number += 1;
            let text = request(method, "user", number, &more).replacen("sip:user@127.0.0.1", &uri, 1);
            socket.send_to(text.as_bytes(), product.sip).expect("sent");
            for answer in answers(&socket) {
                let answer = String::from_utf8_lossy(&answer).into_owned();
                let is_refused = answer.starts_with("SIP/2.0 4") || answer.starts_with("SIP/2.0 5");
                assert!(is_refused || method == "OPTIONS", "{method} {uri}: {answer}");
            }
        }
    }
    assert!(answers(&victim).is_empty(), "somebody was called");
    assert_eq!(live_calls(&product), 0.0);
}

fn live_calls(product: &Product) -> f64 {
    product.metric("tandem_calls_held ", "")
}
