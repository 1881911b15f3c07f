//! TCP as the network really delivers it.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddr, TcpStream},
    time::Duration,
};

use tandem_tests::product::{Product, ip_trunk};

use crate::{
    DID,
    agent::Agent,
    phone::{Line, Phone},
    product_with,
};

/// RFC 3261 section 18.3: over a stream, messages are cut by Content-Length, wherever the packets end.
#[test]
fn a_message_may_come_in_pieces() {
    let (product, _) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_tcp(product.sip, DID);
    let text = phone.invite_text();
    for piece in text.as_bytes().chunks(97) {
        let Line::Tcp(stream, _) = &mut phone.line else { unreachable!("a phone over TCP") };
        stream.write_all(piece).expect("sent");
        stream.flush().expect("sent");
        std::thread::sleep(Duration::from_millis(2));
    }
    let answer = phone.final_response(Duration::from_secs(10));
    assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    phone.acknowledge();
    phone.hang_up();
}

/// Two messages in one segment are two messages, with keep-alives between them (RFC 5626 section 3.5.1).
#[test]
fn messages_may_come_together() {
    let (product, _) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_tcp(product.sip, DID);
    let options = |number: u32| {
        format!(
            "OPTIONS sip:{DID}@{0} SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9hG4bK-o{number}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:a@127.0.0.1>;tag=1\r\nTo: <sip:{DID}@{0}>\r\nCall-ID: o{number}\r\n\
             CSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n",
            product.sip
        )
    };
    phone.send(&format!("\r\n{}\r\n\r\n{}", options(1), options(2)));
    for _ in 0..2 {
        let answer = phone.final_response(Duration::from_secs(5));
        assert!(answer.starts_with("SIP/2.0 200"), "{answer}");
    }
}

/// The defaults listen on all addresses of both families: a call comes and is heard over each, by either transport.
#[test]
fn calls_come_over_ipv4_and_ipv6_alike() {
    let product = Product::start_everywhere();
    let agent = Agent::echo();
    product.provision(DID, &ip_trunk("four", "127.0.0.1/32"), &agent.websocket());
    let six = "+493055550106";
    product.provision(six, &ip_trunk("six", "::1/128"), &agent.websocket());
    let over_six = SocketAddr::from((Ipv6Addr::LOCALHOST, product.sip.port()));
    for mut phone in [
        Phone::over_udp(product.sip, DID),
        Phone::over_tcp(product.sip, DID),
        Phone::over_udp(over_six, six),
        Phone::over_tcp(over_six, six),
    ] {
        let rtp = phone.call();
        assert_eq!(rtp.is_ipv6(), phone.rtp.local_addr().expect("bound").is_ipv6());
        assert!(phone.talk(rtp, Duration::from_millis(400)).len() > 160, "the echo is heard");
        phone.hang_up();
    }
}

/// One address may not take all connections, and those it has stay of use.
#[test]
fn an_address_has_a_bounded_number_of_connections() {
    let (product, _) = product_with(&Agent::echo(), "[limits]\nconnections_per_address = 4");
    let mut idle: Vec<TcpStream> = Vec::new();
    for _ in 0..12 {
        let stream = TcpStream::connect(product.sip).expect("the kernel accepts");
        stream.set_read_timeout(Some(Duration::from_secs(2))).expect("an option");
        idle.push(stream);
    }
    let closed =
        idle.iter_mut().filter_map(|stream| stream.read(&mut [0]).ok()).filter(|read| *read == 0).count();
    assert_eq!(closed, 8, "those above the bound are closed");
    // UDP is not touched by that.
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    phone.hang_up();
}
