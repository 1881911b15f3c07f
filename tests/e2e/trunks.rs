//! What the control plane does to trunks while calls are up.

use std::time::Duration;

use serde_json::json;
use tandem_tests::awaited;

use crate::{
    DID,
    agent::Agent,
    phone::{Phone, packet},
    product_with, text,
};

/// A deleted trunk takes no more calls; the call that is up goes on until somebody hangs up.
#[test]
fn a_call_outlives_the_trunk_that_it_came_in_by() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    assert!(!phone.talk(rtp, Duration::from_millis(400)).is_empty());
    let path = format!("/sip-trunks/trunks/{}", provisioned.trunk_id);
    assert_eq!(product.get(&path).1["active_calls"], 1);

    let (status, deleted) = product.request("DELETE", &path, None);
    assert_eq!(status, 200, "{deleted}");
    assert_eq!(deleted["message"], "Trunk deleted successfully. 1 phone number(s) removed.");
    let mut late = Phone::over_udp(product.sip, DID);
    late.invite();
    let refused = late.final_response(Duration::from_secs(5));
    assert!(refused.starts_with("SIP/2.0 403"), "{refused}");

    let heard = phone.talk(rtp, Duration::from_secs(1));
    let is_heard = |sequence: &u16| heard.windows(160).any(|window| window == &packet(*sequence)[12..]);
    assert!((5..40).filter(is_heard).count() >= 20, "the echo goes on");
    phone.hang_up();
    let calls = product.ended_calls(&provisioned.agent_id, 1);
    assert_eq!(text(&calls[0], "status"), "completed", "{}", calls[0]);
}

/// Over its channels a trunk answers 486, and 200 again once a call has ended. Its health follows its calls.
#[test]
fn a_trunk_takes_as_many_calls_as_it_has_channels() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let path = format!("/trunk/trunks/{}", provisioned.trunk_id);
    let (status, trunk) = product.request("PATCH", &path, Some(&json!({"channels": 1})));
    assert_eq!(
        (status, &trunk["channels"], &trunk["health"]),
        (200, &json!(1), &json!("waiting_for_carrier"))
    );
    let mut first = Phone::over_udp(product.sip, DID);
    first.call();
    let mut second = Phone::over_udp(product.sip, DID);
    second.invite();
    let refused = second.final_response(Duration::from_secs(5));
    assert!(refused.starts_with("SIP/2.0 486"), "{refused}");
    first.hang_up();
    let calls = product.ended_calls(&provisioned.agent_id, 1);
    assert_eq!(text(&calls[0], "status"), "completed", "{}", calls[0]);
    assert_eq!(product.get(&path).1["health"], "healthy");
    let mut third = Phone::over_udp(product.sip, DID);
    third.call();
    third.hang_up();
}

/// The limits of one direction and of a second, set and seen by `/v1/trunks/{id}/limits`.
#[test]
fn a_trunk_takes_as_many_calls_from_its_carrier_and_in_a_second_as_its_limits_say() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let path = format!("/v1/trunks/{}/limits", provisioned.trunk_id);
    let limit = |body: serde_json::Value| {
        let (status, limits) = product.request("PATCH", &path, Some(&body));
        assert_eq!(status, 200, "{limits}");
    };
    let refused = || {
        let mut phone = Phone::over_udp(product.sip, DID);
        phone.invite();
        phone.final_response(Duration::from_secs(5))
    };
    limit(json!({"channels_in": 1}));
    let mut first = Phone::over_udp(product.sip, DID);
    first.call();
    let (_, limits) = product.get(&path);
    assert_eq!((&limits["channels_in"], &limits["active_calls_in"]), (&json!(1), &json!(1)), "{limits}");
    assert_eq!((&limits["channels"], &limits["active_calls_out"]), (&json!(null), &json!(0)), "{limits}");
    let busy = refused();
    assert!(busy.starts_with("SIP/2.0 486"), "{busy}");

    // Calls to the carrier are counted by themselves: their limit keeps no call out.
    limit(json!({"channels_in": null, "channels_out": 1}));
    let mut second = Phone::over_udp(product.sip, DID);
    second.call();
    limit(json!({"channels": 2}));
    let busy = refused();
    assert!(busy.starts_with("SIP/2.0 486"), "{busy}");

    // One call, and the next in a thousand seconds.
    limit(json!({"channels": null, "calls_per_second": 0.001}));
    let answers: Vec<String> = (0..3).map(|_| refused()).collect();
    let later = answers.iter().filter(|answer| answer.starts_with("SIP/2.0 480")).count();
    assert!(later >= 2, "{answers:#?}");
    let is_told = || {
        let (_, verdicts) = product.get("/v1/verdicts?code=trunk_rate_reached");
        verdicts["data"].as_array().is_some_and(|list| list.len() >= 2)
    };
    let missing = || product.get("/v1/verdicts").1.to_string();
    awaited::until(Duration::from_secs(10), missing, || is_told().then_some(()));
    first.hang_up();
    second.hang_up();
}
