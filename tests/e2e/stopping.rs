//! SIGTERM: new calls are refused, those that are up finish within a bound, the exit code is 0. SIGKILL: whatever
//! was up has a record that says how it ended.

use std::{
    collections::BTreeSet,
    process::Command,
    time::{Duration, Instant},
};

use tandem_tests::product::Product;

use crate::{
    DID,
    agent::Agent,
    phone::{Phone, header},
    product_with, text,
};

fn terminate(product: &Product) {
    let sent = Command::new("kill").arg(product.process_id().to_string()).status().expect("kill runs");
    assert!(sent.success());
}

/// Waits until the server says that it takes no new calls.
fn await_drain(product: &Product) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while product.get("/ready").0 == 200 {
        assert!(Instant::now() < deadline, "it does not drain:\n{}", product.log());
    }
}

#[test]
fn a_draining_server_refuses_new_calls_and_lets_old_ones_finish() {
    let (mut product, _) = product_with(&Agent::echo(), "");
    let mut old = Phone::over_udp(product.sip, DID);
    let rtp = old.call();
    terminate(&product);
    await_drain(&product);
    let mut new = Phone::over_udp(product.sip, DID);
    new.invite();
    let refusal = new.final_response(Duration::from_secs(5));
    assert!(refusal.starts_with("SIP/2.0 503"), "{refusal}");
    assert!(!header(&refusal, "Retry-After").is_empty(), "{refusal}");
    assert!(!old.talk(rtp, Duration::from_millis(400)).is_empty(), "the old call is still heard");
    assert!(product.wait(Duration::ZERO).is_none());
    old.hang_up();
    let status = product.wait(Duration::from_secs(5)).expect("it ends with its last call");
    assert_eq!(status.code(), Some(0), "{}", product.log());
}

#[test]
fn a_call_that_does_not_finish_is_ended_at_the_bound() {
    let (mut product, _) = product_with(&Agent::echo(), "[limits]\ndrain_seconds = 1");
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    terminate(&product);
    phone.await_bye(Duration::from_secs(4));
    let status = product.wait(Duration::from_secs(5)).expect("it ends after the bound");
    assert_eq!(status.code(), Some(0), "{}", product.log());
}

#[test]
fn a_second_signal_ends_at_once() {
    let (mut product, _) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    terminate(&product);
    await_drain(&product);
    terminate(&product);
    let status = product.wait(Duration::from_secs(2)).expect("it ends at once");
    assert_ne!(status.code(), Some(0));
}

/// A server without calls ends at once, and what it remembered is in the store of the next one.
#[test]
fn records_outlive_the_server() {
    let (mut product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    phone.hang_up();
    assert_eq!(text(&product.ended_calls(&provisioned.agent_id, 1)[0], "status"), "completed");
    terminate(&product);
    assert_eq!(product.wait(Duration::from_secs(5)).and_then(|status| status.code()), Some(0));
}

/// Killed in mid-call, with one call over and some up: the next process has a
/// record of each, and none of them is said to go on.
#[test]
fn a_killed_server_has_a_record_of_every_call_that_was_up() {
    const UP: usize = 8;
    let (mut product, provisioned) = product_with(&Agent::echo(), "");
    let mut over = Phone::over_udp(product.sip, DID);
    over.call();
    over.hang_up();
    assert_eq!(product.ended_calls(&provisioned.agent_id, 1).len(), 1);
    let up: Vec<Phone> = (0..UP)
        .map(|_| {
            let mut phone = Phone::over_udp(product.sip, DID);
            let rtp = phone.call();
            assert!(!phone.talk(rtp, Duration::from_millis(100)).is_empty(), "the call is heard");
            phone
        })
        .collect();
    let live = |product: &Product| {
        let (status, page) = product.get("/v1/calls?limit=100");
        assert_eq!(status, 200, "{page}");
        page["data"].as_array().expect("a list").iter().map(|call| text(call, "id").to_owned()).collect()
    };
    let known: BTreeSet<String> = live(&product);
    assert_eq!(known.len(), UP, "{known:?}");
    // Their beginnings are in the store; what has come since is only in memory.
    let stored = |product: &Product| {
        product.get(&format!("/v2/agent/{}/executions?page_size=50", provisioned.agent_id)).1
    };
    let deadline = Instant::now() + Duration::from_secs(10);
    while stored(&product)["data"].as_array().is_none_or(|calls| calls.len() < UP + 1) {
        assert!(Instant::now() < deadline, "{}", stored(&product));
    }
    product.kill_and_start_again();
    assert_eq!(live(&product), BTreeSet::new(), "no call outlives its process");
    let mut ended = product.ended_calls(&provisioned.agent_id, UP + 1);
    assert_eq!(ended.len(), UP + 1);
    ended.retain(|call| known.contains(text(call, "id")));
    assert_eq!(ended.len(), UP, "each of them by its own identifier");
    for call in ended {
        assert_eq!(text(&call, "status"), "error", "{call}");
        assert!(call.to_string().contains("stopped while the call was up"), "{call}");
    }
    drop(up);
    // And the next call is taken.
    let mut next = Phone::over_udp(product.sip, DID);
    next.call();
    next.hang_up();
}
