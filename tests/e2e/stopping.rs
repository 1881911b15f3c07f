//! SIGTERM: new calls are refused, those that are up finish within a bound, the exit code is 0.

use std::{
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
