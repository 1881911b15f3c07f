//! A whole call, over either transport.

use std::time::Duration;

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
