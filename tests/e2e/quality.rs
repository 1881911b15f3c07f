//! How a call sounds, told while it is up and in its record; and a caller who is not heard, with the reason.

use std::time::Duration;

use serde_json::Value;
use tandem_tests::awaited;
use tandem_tests::product::Product;

use crate::agent::Agent;
use crate::phone::Phone;
use crate::{DID, product_with, text};

/// The one call that is up, in full.
fn live(product: &Product) -> Value {
    let (_, calls) = product.get("/v1/calls");
    let (status, call) = product.get(&format!("/v1/calls/{}", text(&calls["data"][0], "id")));
    assert_eq!(status, 200, "{call}");
    call
}

#[test]
fn a_calls_quality_is_told_while_it_is_up_and_in_its_record() {
    let (product, provisioned) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    let rtp = phone.call();
    phone.talk(rtp, Duration::from_secs(2));
    let call = live(&product);
    let media = &call["media"];
    assert_eq!(text(media, "codec"), "PCMU", "{call}");
    assert!(media["packets_received"].as_u64().is_some_and(|count| (80..=110).contains(&count)), "{call}");
    let quality = &media["to_agent_quality"];
    assert!(quality["mos"].as_f64().is_some_and(|mos| (4.0..=4.5).contains(&mos)), "{call}");
    assert_eq!(call["incidents"]["entries"].as_array().map(Vec::len), Some(0), "{call}");
    phone.hang_up();
    let ended = product.ended_calls(&provisioned.agent_id, 1).remove(0);
    let media = &ended["telephony_data"]["media"];
    assert!(media["to_agent_quality"]["rating"].as_f64().is_some_and(|rating| rating > 80.0), "{ended}");
    assert!(media["first_caller_audio_ms"].is_u64() && media["first_agent_audio_ms"].is_u64(), "{ended}");
}

#[test]
fn a_caller_who_sends_no_audio_is_found_while_the_call_is_up() {
    let (product, _) = product_with(&Agent::echo(), "");
    let mut phone = Phone::over_udp(product.sip, DID);
    phone.call();
    let told = || {
        let entries = live(&product)["incidents"]["entries"].clone();
        entries.as_array()?.iter().find(|entry| text(entry, "kind") == "one_way_audio").cloned()
    };
    let missing = || format!("nothing is told: {}\n{}", live(&product), product.log());
    let incident = awaited::until(Duration::from_secs(15), missing, told);
    assert!(!text(&incident, "detail").is_empty(), "{incident}");
    phone.hang_up();
}
