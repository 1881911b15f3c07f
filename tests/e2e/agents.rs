//! Agents that cannot be had, and agents that misbehave: their own call suffers, no other.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use serde_json::json;
use tandem_tests::product::{Product, ip_trunk};
use tungstenite::Message;

use crate::{
    DID,
    agent::{Agent, accept, echo},
    phone::Phone,
    product_with, text,
};

/// The status a caller gets, and the cause in the record.
fn refused(agent: &Agent, configuration: &str) -> (String, String) {
    let (product, provisioned) = product_with(agent, configuration);
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.invite();
    let answer = phone.final_response(Duration::from_secs(12));
    phone.acknowledge();
    let record = &product.ended_calls(&provisioned.agent_id, 1)[0];
    (answer.lines().next().unwrap_or_default().to_owned(), text(record, "error_message").to_owned())
}

#[test]
fn an_agent_that_refuses_the_upgrade_is_named_in_the_record() {
    let agent = Agent::start(|mut stream| {
        let _ = stream.read(&mut [0; 4_096]);
        let _ = stream.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    });
    let (answer, cause) = refused(&agent, "");
    assert!(answer.starts_with("SIP/2.0 480"), "{answer}");
    assert!(cause.contains("403"), "{cause}");
}

#[test]
fn an_agent_that_does_not_listen_is_named_in_the_record() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port");
    let product = Product::start();
    let websocket = json!({"url": format!("ws://{free}/"), "dialect": "asterisk"});
    let provisioned = product.provision(DID, &ip_trunk("loopback", "127.0.0.1/32"), &websocket);
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.invite();
    let answer = phone.final_response(Duration::from_secs(10));
    assert!(answer.starts_with("SIP/2.0 480"), "{answer}");
    let record = &product.ended_calls(&provisioned.agent_id, 1)[0];
    let cause = text(record, "error_message");
    assert!(cause.contains(&free.to_string()) && cause.contains("refused"), "where, and why: {cause}");
}

#[test]
fn an_agent_that_accepts_and_says_nothing_runs_into_its_time() {
    let agent = Agent::start(|mut stream| {
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let (answer, cause) = refused(&agent, "[limits]\nagent_connect_ms = 700");
    assert!(answer.starts_with("SIP/2.0 480"), "{answer}");
    assert!(cause.contains("in time"), "{cause}");
}

#[test]
fn an_agent_in_a_forbidden_network_is_not_dialled() {
    let (answer, cause) = refused(&Agent::echo(), "[security]\nagent_networks = \"public\"");
    assert!(answer.starts_with("SIP/2.0 480"), "{answer}");
    assert!(cause.contains("policy"), "{cause}");
}

#[test]
fn an_agent_that_drops_ends_the_call() {
    let agent = Agent::start(|stream| {
        let mut socket = accept(stream);
        while let Ok(message) = socket.read() {
            if message.is_binary() {
                return;
            }
        }
    });
    let (product, provisioned) = product_with(&agent, "");
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    phone.await_bye(Duration::from_secs(5));
    assert_eq!(product.ended_calls(&provisioned.agent_id, 1).len(), 1);
}

/// Agents flood and never read, dribble, send frames without end or one without measure, talk rubbish, flap or
/// stall; another call beside them is heard as if it were alone, and memory stays flat.
#[test]
fn misbehaving_agents_harm_no_other_call() {
    let (product, _) = product_with(&Agent::echo(), "");
    let misbehaving = [
        (
            "+493055550101",
            Agent::start(|stream| {
                let mut socket = accept(stream);
                while socket.send(Message::binary(vec![0x55; 64_000])).is_ok() {}
            }),
        ),
        (
            "+493055550102",
            Agent::start(|stream| {
                let mut socket = accept(stream);
                // A frame of 400 bytes, one byte each 10 ms.
                let stream = socket.get_mut();
                let _ = stream.write_all(&[0x82, 126, 1, 144]);
                for _ in 0..400 {
                    let _ = stream.write_all(&[0x55]);
                    std::thread::sleep(Duration::from_millis(10));
                }
            }),
        ),
        (
            "+493055550103",
            Agent::start(|stream| {
                let mut socket = accept(stream);
                let stream = socket.get_mut();
                // The first fragment, and continuations without end (RFC 6455 section 5.4).
                let _ = stream.write_all(&[0x02, 0x00]);
                let mut fragment = vec![0x00, 126, 0x04, 0x00];
                fragment.resize(4 + 1_024, 0x55);
                while stream.write_all(&fragment).is_ok() {}
            }),
        ),
        (
            "+493055550104",
            Agent::start(|stream| {
                let mut socket = accept(stream);
                let stream = socket.get_mut();
                // One frame of 2^62 bytes, as far as it is let.
                let _ = stream.write_all(&[0x82, 127, 0x40, 0, 0, 0, 0, 0, 0, 0]);
                while stream.write_all(&[0x55; 65_536]).is_ok() {}
            }),
        ),
        (
            "+493055550105",
            Agent::start(|stream| {
                let mut socket = accept(stream);
                let rubbish = ["{\"event\":", "\u{0}\u{1}", "MARK", "[[[[[[[[", "HANGUP\u{7f} now"];
                for text in rubbish.iter().cycle().take(100_000) {
                    if socket.send(Message::text(*text)).is_err() {
                        return;
                    }
                }
            }),
        ),
        (
            "+493055550107",
            // It takes the call and drops it in the same breath.
            Agent::start(|stream| drop(accept(stream))),
        ),
        (
            "+493055550108",
            // It takes the call and neither reads nor speaks; the caller's audio has nowhere to go.
            Agent::start(|stream| {
                let socket = accept(stream);
                let (_keep, wait) = std::sync::mpsc::channel::<()>();
                let _ = wait.recv_timeout(Duration::from_secs(60));
                drop(socket);
            }),
        ),
    ];
    let before = product.resident_bytes();
    let mut phones = Vec::new();
    for (did, agent) in &misbehaving {
        product.provision(did, &ip_trunk(did, "127.0.0.1/32"), &agent.websocket());
        let mut phone = Phone::over_udp(product.sip, did);
        phone.call();
        phones.push(phone);
    }
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = phone.talk(rtp, Duration::from_secs(3));
    phone.hang_up();
    // A packet each 20 ms came back, give or take the round trip and a busy machine.
    assert!(heard.len() > 160 * 120, "{} of 150 packets were heard", heard.len() / 160);
    assert_eq!(product.get("/health").0, 200);
    let grown = product.resident_bytes().saturating_sub(before);
    assert!(grown < 96 << 20, "memory has grown by {grown} bytes");
}

/// Pings are answered though the agent is never spoken to otherwise.
#[test]
fn pings_are_answered() {
    let (sender, answered) = std::sync::mpsc::channel();
    let agent = Agent::start(move |stream| {
        let mut socket = accept(stream);
        let _ = socket.send(Message::Ping(tungstenite::Bytes::from_static(b"still there?")));
        while let Ok(message) = socket.read() {
            if let Message::Pong(data) = message {
                let _ = sender.send(data);
                break;
            }
        }
        echo(socket);
    });
    let (product, _) = product_with(&agent, "");
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    let data = answered.recv_timeout(Duration::from_secs(2)).expect("a pong");
    assert_eq!(&data[..], b"still there?");
    phone.hang_up();
}
