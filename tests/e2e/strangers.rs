//! Strangers that flood, while a caller who is known goes on calling.

use std::{
    net::UdpSocket,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crate::{DID, agent::Agent, phone::Phone, product_with};

/// Two thousand datagrams a second of INVITEs and rubbish from an address no trunk knows: every call of the
/// known caller succeeds, and the stranger gets fewer bytes back than it sent.
#[test]
fn a_flood_of_a_stranger_keeps_no_known_caller_from_calling() {
    let (product, _) = product_with(&Agent::echo(), "");
    let server = product.sip;
    let is_over = Arc::new(AtomicBool::new(false));
    let sent = Arc::new(AtomicU64::new(0));
    let stranger = UdpSocket::bind("127.0.0.2:0").expect("loopback is a whole network");
    let flood = {
        let (is_over, sent) = (Arc::clone(&is_over), Arc::clone(&sent));
        let stranger = stranger.try_clone().expect("a handle");
        std::thread::spawn(move || {
            let mut number = 0_u64;
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..20 {
                    number += 1;
                    let text = match number % 3 {
                        0 => format!("\u{1}\u{2}rubbish {number} \u{7f}"),
                        1 => invite(number),
                        _ => invite(number).replace("CSeq", "CSeqq"),
                    };
                    if stranger.send_to(text.as_bytes(), server).is_ok() {
                        sent.fetch_add(text.len() as u64, Ordering::Relaxed);
                    }
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        })
    };
    for _ in 0..15 {
        std::thread::sleep(Duration::from_millis(100));
        let began = Instant::now();
        let mut phone = Phone::over_udp(server, DID);
        phone.call();
        assert!(began.elapsed() < Duration::from_secs(2), "the set-up took {:?}", began.elapsed());
        phone.hang_up();
    }
    is_over.store(true, Ordering::Relaxed);
    flood.join().expect("the flood ends");
    stranger.set_read_timeout(Some(Duration::from_millis(50))).expect("an option");
    let mut buffer = [0; 4_096];
    let mut answered = 0;
    while let Ok((length, _)) = stranger.recv_from(&mut buffer) {
        answered += length as u64;
    }
    let sent = sent.load(Ordering::Relaxed);
    assert!(answered < sent / 4, "{answered} bytes answered {sent}");
}

fn invite(number: u64) -> String {
    format!(
        "INVITE sip:+4930{number}@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/UDP 127.0.0.2;branch=z9hG4bK-s{number};rport\r\n\
         Max-Forwards: 70\r\nFrom: <sip:100@127.0.0.2>;tag=s{number}\r\nTo: <sip:+4930{number}@127.0.0.1>\r\n\
         Call-ID: stranger-{number}\r\nCSeq: 1 INVITE\r\nContact: <sip:100@127.0.0.2>\r\nContent-Length: 0\r\n\r\n"
    )
}
