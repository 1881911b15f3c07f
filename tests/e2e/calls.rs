//! A whole call, over either transport.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::{
    DID,
    agent::Agent,
    phone::{Phone, packet},
    product_with, text,
};

/// What the caller says comes back from an echoing agent unchanged. A busy machine may delay this test's own
/// packets beyond what any jitter buffer waits, so a few may be missing; none may be altered.
#[test]
fn a_caller_hears_the_agent_echo_what_it_says() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    let heard = phone.talk(rtp, Duration::from_secs(2));
    phone.hang_up();
    let is_heard = |sequence: &u16| heard.windows(160).any(|window| window == &packet(*sequence)[12..]);
    let whole = (10..80).filter(is_heard).count();
    assert!(whole >= 63, "{whole} of 70 packets came back whole");
    let calls = product.ended_calls(&provisioned.agent_id, 1);
    assert_eq!(text(&calls[0], "status"), "completed", "{}", calls[0]);
    // The delay that was added each way is told with the call, as a histogram.
    let (_, call) = product.get(&format!("/executions/{}", text(&calls[0], "id")));
    for way in ["to_agent_delay", "to_caller_delay"] {
        let delay = &call["telephony_data"]["media"][way];
        assert!(delay["count"].as_u64().is_some_and(|count| count >= 63), "{way}: {call}");
        let counted =
            delay["histogram"].as_array().into_iter().flatten().filter_map(|bucket| bucket[1].as_u64());
        assert_eq!(Some(counted.sum()), delay["count"].as_u64(), "{way}: {delay}");
    }
}

#[test]
fn a_call_over_tcp_uses_its_connection_for_both_directions() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_tcp(product.sip, DID);
    let rtp = phone.call();
    assert!(!phone.talk(rtp, Duration::from_millis(600)).is_empty());
    phone.hang_up();
    assert_eq!(text(&product.ended_calls(&provisioned.agent_id, 1)[0], "status"), "completed");
}

/// What was carried shows in the metrics, and so does how long it took through the process.
#[test]
fn a_call_leaves_its_mark_in_the_metrics() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    phone.talk(rtp, Duration::from_secs(1));
    phone.hang_up();
    assert_eq!(product.ended_calls(&provisioned.agent_id, 1).len(), 1);
    let page = metrics(product.api);
    let total = |name: &str| -> f64 {
        page.lines()
            .filter(|line| line.starts_with(name))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .sum()
    };
    assert!(total("tandem_rtp_received_total") >= 45.0, "{page}");
    assert!(total("tandem_rtp_sent_total") >= 45.0, "{page}");
    assert!(total("tandem_agent_messages_sent_total") >= 45.0, "{page}");
    assert!(total("tandem_added_delay_seconds_count") >= 60.0, "{page}");
    assert!(total("tandem_call_setup_seconds_count") >= 1.0, "{page}");
    assert!(!page.contains(&provisioned.agent_id), "no label names an agent or a call");
}

fn metrics(api: SocketAddr) -> String {
    let mut stream = TcpStream::connect(api).expect("the API listens");
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("sent");
    let mut page = String::new();
    stream.read_to_string(&mut page).expect("a page");
    page
}

/// The port of a call that ended stays bound and deaf: the next call gets another one.
#[test]
fn the_next_call_gets_another_port() {
    let (product, _) = product_with(&Agent::echo(), "");
    let mut ports = Vec::new();
    for _ in 0..3 {
        let mut phone = Phone::over_udp(product.sip, DID);
        ports.push(phone.call().port());
        phone.hang_up();
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 3, "{ports:?}");
    assert!(ports.iter().all(|port| port % 2 == 0), "RTP takes the even ports: {ports:?}");
}
